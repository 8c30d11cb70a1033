"""`prelux prefetch`: patterns, lists, what a former run waited for, progress, and what kills and Ctrl-C leave."""

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time

import pytest

from tests.harness import wait_for
from tests.integration.daemon_rig import Slow
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3standin_write import S3Changing

INTERRUPTED = 128 + signal.SIGINT
WORKERS = 8  # of daemon/ctl_prefetch.c
FAILED = 1
USAGE = 2


@pytest.fixture
def lake(prelux):
    """a/ and b/ with some files each, and one at the root."""
    source = prelux.tmp / "source"
    for folder in ("a", "b", "c/deep"):
        (source / folder).mkdir(parents=True)
        for name in ("x1.bin", "x2.bin", "y.txt", ".hidden"):
            (source / folder / name).write_text(f"{folder}/{name}")
    (source / "top[1].bin").write_text("top")
    return prelux.file_mapping(source)


def cached(prelux):
    found = []
    for root, _, names in os.walk(prelux.cache):
        if "/data" in root:
            found += [os.path.join(root.partition("/data")[2], name).lstrip("/") for name in names]
    return sorted(found)


@pytest.mark.parametrize("pattern, expected", [
    ("*/x?.bin", ["a/x1.bin", "a/x2.bin", "b/x1.bin", "b/x2.bin"]),
    ("[ab]/y*", ["a/y.txt", "b/y.txt"]),
    ("a/*", ["a/x1.bin", "a/x2.bin", "a/y.txt"]),
    ("[c]", ["c/deep/.hidden", "c/deep/x1.bin", "c/deep/x2.bin", "c/deep/y.txt"]),
    ("c/*/y.txt", ["c/deep/y.txt"]),
    ("c/de*p/.h*", ["c/deep/.hidden"]),
    ("top[1].bin", ["top[1].bin"])])
def test_patterns(prelux, lake, pattern, expected):
    answer = prelux.cli("prefetch", "--json", f"{lake}/{pattern}")
    assert cached(prelux) == expected and answer["files"] == len(expected) and answer["cached"] == 0
    assert prelux.cli("prefetch", "-r", "--json", f"{lake}/{pattern}")["cached"] == len(expected)


def test_a_pattern_that_matches_nothing(prelux, lake):
    done = prelux.cli("prefetch", f"{lake}/*/z*", f"{lake}/a/y.txt", check=False)
    assert done.returncode == FAILED and "nothing matches" in done.stderr and "1 files" in done.stdout
    done = prelux.cli("prefetch", "/else/*/z", check=False)
    assert done.returncode == FAILED and "in no mapping" in done.stderr
    assert prelux.cli("prefetch", "--progress=loud", lake, check=False).returncode == USAGE


def test_lists(prelux, lake):
    (prelux.tmp / "list").write_text(f"{lake}/a/y.txt\n")
    assert prelux.cli("prefetch", "--json", "--files-from", prelux.tmp / "list")["files"] == 1
    assert prelux.cli("prefetch", "--json", "--files-from", "-", "-0", input=f"{lake}/a/y.txt\0{lake}/b/y.txt\0") | {"elapsed_s": 0} == {
        "files": 2, "cached": 1, "bytes": 14, "folders": 0, "failed": 0, "failures": [], "elapsed_s": 0}


def test_a_bad_path_fails_alone(prelux, lake):
    names = ["/else/x", f"{lake}/a/y.txt", "/" + "x" * 5000, f"{lake}/b/y.txt"]
    done = prelux.cli("prefetch", "--files-from", "-", input="\n".join(names), check=False)
    assert done.returncode == FAILED and "2 files in the cache" in done.stdout
    assert "/else/x: in no mapping (ENOENT)" in done.stderr and "xxx...: File name too long (ENAMETOOLONG)" in done.stderr
    done = prelux.cli("prefetch", *[f"{lake}/{letter}*" for letter in "qz"], check=False)
    assert done.stderr.count("nothing matches") == 2
    done = prelux.cli("prefetch", "-", f"{lake}/a/y.txt", input="".join(f"{lake}/none{number}\n" for number in range(600)), check=False)
    assert "1 files in the cache" in done.stdout and done.stderr.count("(ENOENT)") == 20 and "600 failed in all" in done.stderr


def test_what_is_said_is_for_a_terminal(prelux, lake):
    for words in (["stat"], ["verify"], ["prefetch"]):
        done = prelux.cli(*words, "/else/\x1b]0;title\a", check=False)
        assert done.returncode == FAILED and "\\x1b]0;title\\x07" in done.stderr and "\x1b" not in done.stderr


def test_what_a_former_run_waited_for(prelux, lake):
    report = prelux.tmp / "report.json"
    prelux.run(f"cat {lake}/a/x1.bin {lake}/b/y.txt {lake}/none", args=["--report=" + str(report)], check=False)
    prelux.cli("evict", lake)
    assert cached(prelux) == []
    done = prelux.cli("prefetch", "--from-log", report, check=False)
    assert cached(prelux) == ["a/x1.bin", "b/y.txt"] and "none" in done.stderr
    (prelux.tmp / "other.json").write_text("{}")
    done = prelux.cli("prefetch", "--from-log", prelux.tmp / "other.json", check=False)
    assert done.returncode == FAILED and "no report" in done.stderr


@pytest.fixture
def web(prelux):
    with Slow(0.02) as server:
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}},
                       "mappings": [{"local": "/web", "remote": "web:/", "freshness": "immutable"}]})
        (prelux.tmp / "names").write_text("".join(f"/web/f{number:03}\n" for number in range(300)))
        yield server


def command(prelux, *words):
    return [str(prelux.exe), "--config", str(prelux.config_path), "prefetch", *map(str, words)]


def is_sound(prelux, server):
    """What has its name is whole; the next call fetches the rest, and nothing twice."""
    before = set(cached(prelux))
    for root, _, names in os.walk(prelux.cache):
        if "/data" in root:
            assert all(open(os.path.join(root, name), "rb").read() == b"slow bytes" for name in names)
    server.gets.clear()
    answer = prelux.cli("prefetch", "--json", "--files-from", prelux.tmp / "names")
    assert answer["files"] == 300 and answer["failed"] == 0 and answer["cached"] == len(before)
    assert len(cached(prelux)) == 300 and not before & {path.lstrip("/") for path in server.gets}
    return before


def test_ctrl_c_and_the_next_call_goes_on(prelux, web):
    """What is under way ends, and no more is begun."""
    web.delay = 200
    prelux.cli("daemon", "start")
    child = subprocess.Popen(command(prelux, "--files-from", prelux.tmp / "names"), env=prelux.env, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(web.gets) == WORKERS, 60, "each worker has asked for one")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT and "the same command goes on" in err and out == ""
    for _ in range(3):  # the daemon has heard it
        prelux.cli("daemon", "status")
    web.gate.set()
    wait_for(lambda: len(cached(prelux)) >= WORKERS, 60, "what was under way is there")
    wait_for(lambda: re.search(r"^prelux_pool_running 1$", prelux.cli("metrics"), re.M), 60, "nobody works but for this question")
    assert len(web.gets) == WORKERS and len(is_sound(prelux, web)) == WORKERS


def test_a_killed_daemon_and_the_next_call_goes_on(prelux, web):
    """The command asks the next daemon by itself; killed, too, it is the user who asks."""
    prelux.cli("daemon", "start")
    child = subprocess.Popen(command(prelux, "--files-from", prelux.tmp / "names", "--json"), env=prelux.env, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(web.gets) > 20, 60, "some have been asked for")
    prelux.kill_daemon()
    wait_for(lambda: len(web.gets) > 60, 60, "the next daemon goes on")
    child.kill()
    child.communicate(timeout=60)
    prelux.kill_daemon()
    assert 20 < len(is_sound(prelux, web)) < 300


def test_a_killed_daemon_is_not_noticed(prelux, web):
    child = subprocess.Popen(command(prelux, "--files-from", prelux.tmp / "names", "--json"), env=prelux.env, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: len(web.gets) > 20, 60, "some have been asked for")
    prelux.kill_daemon()
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0 and json.loads(out)["files"] == 300 and len(cached(prelux)) == 300


def on_terminal(argv, env):
    """Status and what a terminal of 100 columns got."""
    ours, theirs = pty.openpty()
    got = bytearray()

    def read():
        try:
            while more := os.read(ours, 4096):
                got.extend(more)
        except OSError:
            pass
    thread = threading.Thread(target=read)
    thread.start()
    child = subprocess.Popen(argv, env=env | {"TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    status = child.wait(120)
    thread.join()
    os.close(ours)
    return status, got.decode()


def test_a_bar_on_a_terminal(prelux):
    with Slow(100) as server:
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}}, "mappings": [{"local": "/web", "remote": "web:/"}]})
        prelux.cli("daemon", "start")
        threading.Thread(target=lambda: (wait_for(lambda: len(server.gets) >= 8, 60), time.sleep(2.5), server.gate.set())).start()
        status, text = on_terminal(command(prelux, *[f"/web/f{n}" for n in range(20)]), prelux.env)
    frames = text.split("\r\x1b[K")
    assert status == 0 and frames[-1] == "" and any(re.match(r"prefetch (\[[=> ]+\] +)?\d+% 0/\d+\+? files", frame) for frame in frames), text
    assert all(len(frame) < 80 for frame in frames)


def files_of(prelux, verb, web):
    """Of 40 files so much is there that the verb has them all before it; 20 of them are not answered until the gate opens."""
    paths = [f"/web/f{number:03}" for number in range(40)]
    prelux.cli("prefetch", *(paths if verb == "verify" else paths[:20]))
    web.gets.clear()
    web.delay = lambda path: 200 if int(path[2:]) >= 20 else 0
    return paths


@pytest.mark.parametrize("words", [["pin"], ["verify", "--data"]], ids=["pin", "verify"])
def test_pin_and_verify_have_the_same_bar(prelux, web, words):
    """And Ctrl-C leaves what is there, whole; the next call sees all of it."""
    paths = files_of(prelux, words[0], web)
    argv = [str(prelux.exe), "--config", str(prelux.config_path), *words, *paths]
    hang = lambda: [path for path in web.gets if int(path[2:]) >= 20]  # noqa: E731
    with subprocess.Popen([*argv, "--progress=lines"], env=prelux.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        wait_for(lambda: len(hang()) >= 4, 60, "some hang")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == -signal.SIGINT and err.startswith(f"prelux: {words[0]}: stopped; what ") and out == ""
    known = len(hang())
    threading.Thread(target=lambda: (wait_for(lambda: len(hang()) >= known + 4, 60), time.sleep(2.5), web.gate.set())).start()
    status, text = on_terminal(argv, prelux.env)
    frames = text.split("\r\x1b[K")
    drawn = rf"{words[0]} (\[[=> ]+\] +)?\d+% 20/\d+\+? files, " + ("200 B/" if words == ["pin"] else r"[\d.]+ files/s")
    assert status == 0 and frames[-1] == "" and any(re.match(drawn, frame) for frame in frames), text
    assert prelux.cli("verify", "--data", "--json", "/web")["same"] == 40
    assert len(prelux.cli("pin", "--list", "--json")["pins"]) == (40 if words == ["pin"] else 0)


def test_progress_as_json(prelux):
    with Slow(100) as server:
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}}, "mappings": [{"local": "/web", "remote": "web:/"}]})
        child = subprocess.Popen(command(prelux, "--progress", "json", "--json", "/web/a", "/web/b"), env=prelux.env, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        first = json.loads(child.stderr.readline())
        server.gate.set()
        out, _ = child.communicate(timeout=60)
    assert first["progress"] == "prefetch" and first["files"] == 0 and not first["complete"] and "left_s" not in first
    assert json.loads(out)["files"] == 2


def test_flush_has_the_same_bar(prelux):
    """Two files that the remote does not take for a while: what waits stays, and the bar says so until the time is over."""
    with S3Changing(keys={"KEY": ("SECRET", None)}) as s3, FaultProxy(s3.url) as proxy:
        prelux.config({"version": 1, "backends": {"src": {"type": "s3", "bucket": s3.bucket, "endpoint": proxy.url, "region": s3.region,
                                                          "access_key": "KEY", "secret_key": "SECRET"}},
                       "mappings": [{"local": "/lake", "remote": "src:/", "write": "async"}]})
        writer = prelux.popen("ls /lake; echo listed; read -r _; echo one > /lake/one; echo two > /lake/two", args=["--no-wait"], stdin=-1, stdout=-1)
        assert writer.stdout.readline() == b"listed\n"
        proxy.fault("/", status=503)
        writer.communicate(b"\n", timeout=60)
        argv = [str(prelux.exe), "--config", str(prelux.config_path), "flush", "--timeout", "2"]
        status, text = on_terminal(argv, prelux.env)
        frames = [frame for frame in text.split("\r\x1b[K") if frame.startswith("flush")]
        assert status == 3 and frames and re.match(r"flush (\[[=> ]+\] +)?0% 0/2 files, ", frames[0]), text
        done = subprocess.run([*argv, "--progress=json"], env=prelux.env, capture_output=True, text=True)
        first = json.loads(done.stderr.splitlines()[0])
        assert first["progress"] == "flush" and first["all_files"] == 2 and first["files"] == 0
        with subprocess.Popen([*argv[:-2], "--progress=json"], env=prelux.env, stderr=subprocess.PIPE, text=True) as child:
            assert json.loads(child.stderr.readline())["all_files"] == 2
            child.send_signal(signal.SIGINT)
            assert child.stderr.read().endswith("prelux: flush: stopped; the daemon goes on sending\n")
        assert child.returncode == -signal.SIGINT
        proxy.fault("/")
        prelux.cli("flush")
        assert prelux.cli("pending", "list", "--json")["count"] == 0
