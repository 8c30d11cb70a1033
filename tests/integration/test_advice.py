"""posix_fadvise below a mapping: what it fetches and drops, and that nobody waits for it or is broken by it."""

import os
import re
import signal
import time

import pytest

from tests import wire
from tests.harness import alive, wait_for
from tests.integration.daemon_rig import Slow, http_config, lake_of
from tests.integration.test_prefetch import cached

ADVISE = """
import os, sys
for _ in range(int(sys.argv[4])):
    fd = os.open(sys.argv[2], os.O_RDONLY)
    os.posix_fadvise(fd, *eval(sys.argv[3]), getattr(os, "POSIX_FADV_" + sys.argv[1]))
    os.close(fd)
"""


@pytest.fixture
def lake(prelux):
    (prelux.tmp / "source/d/sub").mkdir(parents=True)
    (prelux.tmp / "source/d/sub/deep").write_text("deep")
    return lake_of(prelux, 20, 5000)


def advise(prelux, what, path, where=(0, 0), times=1):
    prelux.run(["/usr/bin/python3", "-c", ADVISE, what, path, repr(where), str(times)])


def queued(prelux):
    """Jobs of the daemon that wait for a thread."""
    return int(re.search(r"^prelux_pool_queued (\d+)", wire.ctl(prelux.runtime, "metrics").json()["text"], re.M)[1])


def test_willneed_of_a_folder(prelux, lake):
    advise(prelux, "WILLNEED", f"{lake}/d")
    wait_for(lambda: len(cached(prelux)) == 20, 60, "its files, and not those below")
    time.sleep(0.2)
    assert cached(prelux) == [f"d/f{number:02}" for number in range(20)]


def test_willneed_of_a_folder_keeps_no_daemon(prelux):
    """Told to end it begins no file more; what is under way ends."""
    with Slow(100, names=[f"f{number:02}" for number in range(60)]) as server:
        http_config(prelux, server.url)
        advise(prelux, "WILLNEED", "/web")
        wait_for(lambda: len(server.gets) == 4, 60, "its workers are at a file each")
        pid = prelux.daemon_pid()
        assert wire.ctl(prelux.runtime, "daemon-stop").status == 0
        server.gate.set()
        wait_for(lambda: not alive(pid), 60, "its end")
        assert len(server.gets) == 4


def test_advice_that_is_followed_is_work(prelux):
    """A daemon that nobody asks for anything ends when it has followed, not before: four at once take two seconds each."""
    with Slow(2, names=[f"f{number:02}" for number in range(12)]) as server:
        http_config(prelux, server.url)
        prelux.config(prelux.config_path.read_text() + "\nidle_exit: 1s\n")
        advise(prelux, "WILLNEED", "/web")
        wait_for(lambda: len(server.gets) == 12, 60, "all come")
        wait_for(lambda: not prelux.daemons(), 60, "then it ends")


def test_uploads_do_not_wait_for_advice(prelux):
    """Sixteen advices with up to four workers each, at a server that does not answer: more than any lane may hold."""
    with Slow(100, names=[f"f{number:02}" for number in range(60)]) as server:
        remote = prelux.tmp / "written"
        remote.mkdir()
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}, "disk": {"type": "file", "root": str(remote)}},
                       "mappings": [{"local": "/web", "remote": "web:/", "freshness": "immutable"}, {"local": "/w", "remote": "disk:/", "write": "async"}]})
        advise(prelux, "WILLNEED", "/web", times=16)
        wait_for(lambda: queued(prelux) >= 4, 60, "advice waits for a thread")
        try:
            prelux.run("echo one > /w/new")
            wait_for(lambda: (remote / "new").exists(), 30, "it is sent meanwhile")
        finally:
            server.gate.set()


def test_dontneed_of_a_file(prelux, lake):
    prelux.run(f"cat {lake}/d/f0* > /dev/null")
    assert len(cached(prelux)) == 10
    advise(prelux, "DONTNEED", f"{lake}/d/f03")
    wait_for(lambda: len(cached(prelux)) == 9 and "d/f03" not in cached(prelux), 60, "it has gone")
    assert prelux.run(["cat", f"{lake}/d/f03"]).stdout == "x" * 5000


@pytest.mark.parametrize("what, where", [("DONTNEED", (0, 4096)), ("DONTNEED", (4096, 0)), ("SEQUENTIAL", (0, 0)), ("NORMAL", (0, 0))])
def test_other_advice_is_the_kernels_alone(prelux, lake, what, where):
    advise(prelux, what, f"{lake}/d/f03", where)
    advise(prelux, "DONTNEED", f"{lake}/d")  # of a folder: nothing
    prelux.cli("map", f"{lake}/d/f03")
    time.sleep(0.3)
    assert cached(prelux) == ["d/f03"]


def test_dontneed_leaves_what_is_pinned_open_or_not_sent(prelux, lake):
    prelux.cli("pin", f"{lake}/d/f01")
    advise(prelux, "DONTNEED", f"{lake}/d/f01")
    child = prelux.popen(f"exec 3< {lake}/d/f02; echo; read -r _ <&3; sleep 60", stdout=-1, start_new_session=True)
    child.stdout.readline()
    advise(prelux, "DONTNEED", f"{lake}/d/f02")
    prelux.run(["/usr/bin/python3", "-c", f"""
import os
fd = os.open("{lake}/new", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"new bytes")
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
os.close(fd)
assert open("{lake}/new").read() == "new bytes"
"""])
    prelux.cli("flush")
    time.sleep(0.8)
    assert {"d/f01", "d/f02"} <= set(cached(prelux)) and (prelux.tmp / "source/new").read_text() == "new bytes"
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_nobody_waits_for_a_daemon_that_hangs_or_is_gone(prelux, lake):
    """What is open goes on; the advice is lost."""
    child = prelux.popen(["/usr/bin/python3", "-c", f"""
import os, signal, sys
signal.alarm(50)
fd = os.open("{lake}/d/f05", os.O_RDONLY)
print("ready", flush=True)
for _ in range(2):
    sys.stdin.readline()
    for _ in range(8000):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    print(os.pread(fd, 5, 0), flush=True)
assert len(os.listdir("/proc/self/fd")) < 10
"""], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "ready\n"
    pid = prelux.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "b'xxxxx'\n"
    os.kill(pid, signal.SIGKILL)
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not alive(pid), 60, "it has died")
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "b'xxxxx'\n" and child.wait(60) == 0


def test_calls_do_what_they_do(prelux, lake):
    code = """
import errno, os, sys
for fd, args, want in ((9999, (0, 0, os.POSIX_FADV_DONTNEED), errno.EBADF), (None, (0, 0, 99), errno.EINVAL), (None, (0, 0, os.POSIX_FADV_WILLNEED), 0)):
    own = os.open(sys.argv[1], os.O_RDONLY) if fd is None else fd
    try:
        os.posix_fadvise(own, *args)
        got = 0
    except OSError as error:
        got = error.errno
    assert got == want, (args, got)
"""
    prelux.run(["/usr/bin/python3", "-c", code, f"{lake}/d/f00"])
