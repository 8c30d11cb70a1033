"""Many small files, asynchronously: what is asked of the remote while they are written, and when it gets them."""

import os
import signal
import subprocess

import pytest

from tests.harness import daemons_of, wait_for
from tests.integration import write_rig
from tests.integration.crash_rig import LOCAL, mapped, remote_of, seen
from tests.servers.faultproxy import FaultProxy

MANY = """
import os, sys
for i in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/f{i}", "wb") as f: f.write(b"%d" % i)
"""
# Files, and then it waits until it is told to end.
WRITER = MANY + """
print("done", flush=True); sys.stdin.readline()
"""


def files(n, folder=""):
    return {f"{folder}f{i}": b"%d" % i for i in range(n)}


def started(prelux, n, at=write_rig.LOCAL):
    """A program that has written so many files into `at`, and lives on."""
    writer = prelux.popen(["python3", "-c", WRITER, at, n], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline().strip() in (b"done", "done")
    return writer


def test_a_new_folder_needs_no_questions(prelux):
    """Of a folder that was made here nothing is asked for each of its files, were it only to hear that it is new."""
    with remote_of("versitygw", prelux.tmp) as remote, FaultProxy(remote.conf["endpoint"]) as proxy:
        mapped(prelux, remote, conf={"endpoint": f"http://127.0.0.1:{proxy.port}"}, write="async", write_back="600s", negative_age="600s")
        prelux.run(["mkdir", f"{LOCAL}/d"])
        before = len(proxy.requests())
        prelux.run(["python3", "-c", MANY, f"{LOCAL}/d", 50], args=("--no-wait",))
        asked = proxy.requests()[before:]
        assert not asked, (asked, prelux.story())
        prelux.cli("flush", timeout=60)
        assert seen(remote) == files(50, "d/"), prelux.story()


@pytest.mark.parametrize("how", ["pause", "flush", "run", "stop", "killed"])
def test_small_files_wait_for_a_pause(prelux, how):
    lake = write_rig.make_lake(prelux, write="async", write_back="600s" if how != "pause" else "2s")
    writer = started(lake, 30)
    for _ in range(20):  # where this test has to wait for a processor for as long as a pause is, they are sent: once more
        if how == "pause" or not lake.seen():
            break
        writer.communicate(b"\n", timeout=60)
        lake.run(["sh", "-c", f"rm {write_rig.LOCAL}/*"])
        writer = started(lake, 30)
    else:
        raise AssertionError(f"they never wait: {lake.story()}")
    if how == "pause":
        write_rig.settled(lake, 20)
    elif how == "flush":
        lake.cli("flush", timeout=60)
    elif how == "run":
        lake.run(["true"])
    elif how == "stop":
        lake.cli("daemon", "stop", timeout=60)
    else:
        for pid in daemons_of(lake.runtime):
            os.kill(pid, signal.SIGKILL)
        lake.run(["true"])
        write_rig.settled(lake, 20)
    writer.stdin.close()
    writer.wait(60)
    assert {name: data for name, (_, _, data) in lake.seen().items()} == files(30), lake.story()


def stop_daemon(prelux, number):
    pids = daemons_of(prelux.runtime)
    assert pids
    for pid in pids:
        os.kill(pid, number)


# Opens, has the daemon stopped, writes and closes at once; says how long that was after the open, and how the close ended: after `late` seconds if it is to.
# Whoever is too slow for it has to be asked again.
CLOSER = """
import os, signal, sys, time
path, how, late, *daemons = sys.argv[1:]
extra = 0
f = os.open(path, os.O_CREAT | os.O_WRONLY | (os.O_EXCL if "excl" in how else 0), 0o644)
at = time.monotonic()
if how == "fsync":
    os.fsync(f)
if how == "dup":
    extra = os.dup(f)
if how == "fork" and os.fork():
    os.wait()
    os._exit(0)
for pid in daemons:
    os.kill(int(pid), signal.SIGSTOP)
if "excl" not in how:
    os.write(f, b"bytes")
time.sleep(float(late))
begin = time.monotonic()
try:
    os.close(f)
    error = 0
except OSError as problem:
    error = problem.errno
print(time.monotonic() - at, time.monotonic() - begin, error, flush=True)
if "killed" in how:
    for pid in daemons:
        os.kill(int(pid), signal.SIGKILL)
if not error:
    os._exit(0)
"""
QUICK, MAY = ("plain", "killed", "killed-excl"), 0.015  # seconds from open to close


@pytest.mark.parametrize("how", [*QUICK, "late", "dup", "fork", "sync", "fsync", "power", "held"])
def test_a_close_that_promises_nothing_new_waits_for_nobody(prelux, how):
    """All that an asynchronous close promises was done when the file was opened: a daemon that is stopped in between holds it up no more than one that
    goes on, and when it is killed before it has heard of the close the next one knows of it. A close that promises more, that may not be the process's
    last of this file, or for which the daemon may have to be started asks."""
    options = {"power": {"async_durable": "power"}, "held": {"held": "wait"}}.get(how, {})
    lake = write_rig.make_lake(prelux)
    prelux.config({"version": 1, "daemon_timeout": "1s", "backends": {"src": {"type": "file", "root": str(lake.remote)}},
                   "mappings": [{"local": write_rig.LOCAL, "remote": "src:/", "write": "sync" if how == "sync" else "async", **options}]})
    lake.run(["true"])
    for number in range(20):
        name = f"f{number}"
        done = lake.run(["python3", "-c", CLOSER, f"{write_rig.LOCAL}/{name}", how, "0.05" if how == "late" else "0", *map(str, daemons_of(lake.runtime))],
                        bare=True, check=False)
        if "killed" not in how:
            stop_daemon(lake, signal.SIGCONT)
        since, took, error = map(float, done.stdout.split())
        if how not in QUICK:
            assert error == 5 and took > 0.9, (since, took, error, lake.story())
            break
        if since < MAY:
            break
        lake.run(["true"])
    assert how not in QUICK or error == 0, (since, took, error, lake.story())
    lake.run(["true"])
    write_rig.settled(lake, 20)
    assert lake.seen()[name][2] == (b"" if "excl" in how else b"bytes"), lake.story()
    assert lake.cli("pending", "list", "--json")["count"] == 0


def test_what_was_closed_is_known_to_who_asks_next(prelux):
    """What a close has not waited for is done before `pending` answers: it shows no file as open that is not."""
    lake = write_rig.make_lake(prelux, write="async", write_back="600s")
    for i in range(20):
        writer = started(lake, i + 1)
        states = [file["state"] for file in lake.cli("pending", "list", "--json")["files"]]
        assert "open" not in states, (i, states)  # some may have been sent
        writer.stdin.close()
        writer.wait(60)
        lake.cli("flush", timeout=60)
        lake.run(["sh", "-c", f"rm {write_rig.LOCAL}/*"])


def test_files_made_ahead_are_seen_by_nobody(prelux):
    """Who makes file after file finds staging files that were made ahead; they have the times and the mode of a file made just then, and nothing is
    left of them: not when a while nobody makes files, not of a daemon that was killed."""
    lake = write_rig.make_lake(prelux, write="async", write_back="600s")
    staging = lake.cache / ".prelux" / "staging"
    program = """
import os, sys, time
for i in range(300):
    before = time.time_ns()
    f = os.open(f"{sys.argv[1]}/f{i}", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o755 if i % 2 else 0o644)
    st = os.fstat(f)
    assert st.st_size == 0 and st.st_mode & 0o777 == (0o755 if i % 2 else 0o644), (i, oct(st.st_mode))
    assert before - 20_000_000 <= st.st_mtime_ns <= time.time_ns() + 20_000_000, (i, st, before)
    os.close(f)
print("done", flush=True); sys.stdin.readline()
"""
    writer = lake.popen(["python3", "-c", program, write_rig.LOCAL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline().strip() in (b"done", "done"), lake.story()
    spare = len(list(staging.iterdir())) - 300
    assert spare > 0, "no file was made ahead"
    for pid in daemons_of(lake.runtime):
        os.kill(pid, signal.SIGKILL)
    writer.stdin.close()
    writer.wait(60)
    lake.cli("flush", timeout=120)
    assert len(lake.seen()) == 300 and not list(staging.iterdir()) and not list((lake.cache / ".prelux" / "recovered").iterdir())
    lake.run(["python3", "-c", MANY, f"{write_rig.LOCAL}", 200])
    wait_for(lambda: not list(staging.iterdir()), 20, "the end of what was made ahead")
