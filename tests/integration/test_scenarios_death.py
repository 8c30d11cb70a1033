"""Deaths of writers and of daemons: pipelines that are ended in every way; daemons that are stopped, replaced by newer ones, killed between
each pair of their steps, locked out of their databases, or whose clock is set. What was written is on the remote in the end, or is shown,
with its bytes; nobody hangs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import alive, wait_for
from tests.integration.write_rig import LOCAL, make_lake, settled



@pytest.fixture(params=["sync", "async"])
def lake(request, prelux):
    return make_lake(prelux, write=request.param)


def kept(lake):
    """Bytes of all files that were written: on the remote, or kept here with a row of `pending` that is not one of a file in use."""
    found = [path.read_bytes() for path in lake.remote.rglob("*") if path.is_file()]
    for row in lake.cli("pending", "list", "--json")["files"]:
        assert row["state"] != "open", row
        out = lake.tmp / f"export-{row['id']}"
        if not out.exists():
            lake.cli("pending", "export", row["id"], out, check=False)
        found += [out.read_bytes()] if out.exists() else []
    return found


# Writers. `train` says a line each 10 ms, for ever; when it has said twenty it makes a file.

TRAIN = "import os\nfor n in range(10**9):\n  os.write(1, b'epoch and loss\\n'); __import__('time').sleep(0.01)\n  if n == 20: open(os.environ['SAID'], 'w')"
STRUCK = f"python3 -c \"$TRAIN\" > {LOCAL}/f & until test -e $SAID; do sleep 0.05; done; kill -{{}} $!; wait $!"
ENDS = {
    "timeout": f"timeout 4 python3 -c \"$TRAIN\" > {LOCAL}/f",
    "pipe": f"python3 -c \"$TRAIN\" | tee {LOCAL}/f | head -n 20 > /dev/null",
    **{signal: STRUCK.format(signal) for signal in ("HUP", "TERM", "USR1", "KILL", "ABRT", "SEGV")},
    "abort": f"python3 -c \"import os; f = os.open('{LOCAL}/f', os.O_WRONLY | os.O_CREAT); os.write(f, b'epoch and loss' + bytes([10])); os.abort()\"",
}
FAULTS = ("KILL", "ABRT", "SEGV", "abort")


@pytest.mark.parametrize("how", ENDS)
def test_a_writer_that_is_ended(lake, how):
    """When the run is over, what was written is kept, whole lines, all of them: nobody has to wait for more, or to do anything."""
    done = lake.run(f"ulimit -c 0; {{ {ENDS[how]}; }} 2>/dev/null; true", env={"TRAIN": TRAIN, "SAID": lake.tmp / "said"}, check=how not in FAULTS)
    assert (lake.remote / "f").exists() == (how not in FAULTS), "a signal that ends programs in order ends a local file in order"
    assert done.returncode == (3 if how in FAULTS else 0) and (how in FAULTS) == ("recovered" in done.stderr), done.stderr
    files = [data for data in kept(lake) if data]
    assert len(files) == 1, files
    lines = files[0].split(b"\n")
    assert set(lines) == {b"epoch and loss", b""} and len(lines) - 1 >= {"timeout": 1, "abort": 1}.get(how, 20), len(lines)


def test_interrupt_of_a_pipeline(lake):
    """Ctrl-C to `train | tee f`: every process of the group gets it, prelux run too. What tee had said is there."""
    seen = lake.tmp / "seen"
    with open(seen, "wb") as out:
        child = lake.popen(f"python3 -u -c \"$TRAIN\" | tee {LOCAL}/f", env={"TRAIN": TRAIN, "SAID": lake.tmp / "said"}, stdout=out,
                           stderr=subprocess.DEVNULL, start_new_session=True)
        wait_for(lambda: seen.stat().st_size > 300, 30, "some lines")
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(30) in (128 + signal.SIGINT, -signal.SIGINT, 1, 0)
    said = seen.read_bytes()
    written = wait_for(lambda: (lake.remote / "f").exists() and (lake.remote / "f").read_bytes(), 10, "the remote's file")
    assert len(said) > 300 and (written.startswith(said) or said.startswith(written)) and abs(len(written) - len(said)) <= 15


# Daemons that do not answer, and others that take their place

HOLDER = f"""if 1:
    import os, sys, time
    def say(*words):
        print(*words, flush=True)
    fd = os.open("{LOCAL}/held", os.O_WRONLY | os.O_CREAT, 0o644)
    old = open("{LOCAL}/old", "rb")
    os.chdir("{LOCAL}/d")
    os.write(fd, b"before ")
    say("up")
    sys.stdin.readline()
    os.write(fd, b"after")
    begin = time.monotonic()
    try:
        os.close(fd)
        said = 0
    except OSError as e:
        said = e.errno
    say(said, round(time.monotonic() - begin, 1), old.read().decode())
    sys.stdin.readline()
    say(open("never-read").read(), open("{LOCAL}/held").read(), os.getcwd())
    """


def holder(lake):
    (lake.remote / "d").mkdir()
    (lake.remote / "d/never-read").write_text("never read before")
    (lake.remote / "old").write_text("old")
    child = lake.popen(["python3", "-c", HOLDER], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    return child


def tell(child):
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline().split(" ", 2)


def with_limit(prelux, write, **top):
    lake = make_lake(prelux, write=write)
    prelux.config({"version": 1, **top, "backends": {"src": {"type": "file", "root": str(lake.remote)}},
                   "mappings": [{"local": LOCAL, "remote": "src:/", "write": write}]})
    return lake


@pytest.mark.parametrize("write", ["sync", "async"])
def test_a_daemon_that_is_stopped(prelux, write):
    """SIGSTOP: a close waits as long as daemon_timeout says and is EIO; when the daemon goes on, the file is sent all the same."""
    lake = with_limit(prelux, write, daemon_timeout="2s")
    child = holder(lake)
    time.sleep(0.1)  # an asynchronous close right behind its open asks nobody: test_write_small.py
    pid = lake.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        said, took, old = tell(child)
        assert int(said) == 5 and 1 < float(took) < 15 and old == "old\n", (said, took, old)
        assert not (lake.remote / "held").exists()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tell(child) == ["never", "read", f"before before after {LOCAL}/d\n"]
    wait_for(lambda: (lake.remote / "held").exists() and (lake.remote / "held").read_bytes() == b"before after", 30, "the file is sent")
    settled(lake)  # the remote has the file a moment before its row goes
    assert lake.daemon_pid() == pid and lake.cli("pending", "list", "--json")["count"] == 0


def newer(lake):
    """A copy of the programs that says another version of itself."""
    folder = lake.tmp / "newer"
    folder.mkdir()
    version = lake.cli("version").split()[1]
    other = re.sub(r"\d", "9", version)
    for file in (lake.exe, lake.daemon_exe, lake.library):
        text = file.read_bytes()
        (folder / file.name).write_bytes(text.replace(version.encode() + b"\0", other.encode() + b"\0"))
        (folder / file.name).chmod(0o755)
    return folder, other


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_newer_daemon_takes_over(prelux, write, end):
    """The old one ends in order, or dies; a newer one serves the programs that run on, below the library they began with."""
    lake = with_limit(prelux, write, grace="1s")
    folder, version = newer(lake)
    child = holder(lake)
    before = lake.cli("daemon", "status", "--json")["version"]
    if end == "stop":
        assert lake.cli("daemon", "stop", check=False).returncode == 3, "somebody writes still"
        wait_for(lambda: not lake.daemons(), 30, "its end")
    else:
        lake.kill_daemon()
    lake.popen([folder / "preluxd", "--runtime", lake.runtime], bare=True, env={"LD_PRELOAD": "", "PRELUX_CONFIG": None})
    wait_for(lake.daemon_pid, 60, "the newer daemon")
    said, _, old = tell(child)
    assert (said, old) == ("0", "old\n")
    assert tell(child) == ["never", "read", f"before before after {LOCAL}/d\n"]
    settled(lake)
    assert (lake.remote / "held").read_bytes() == b"before after"
    now = lake.cli("daemon", "status", "--json")
    assert now["version"] == version != before and now["pid"] == lake.daemon_pid() and len(lake.daemons()) == 1


# The daemon killed between each pair of its steps

CHANGING = ("write,pwrite64,writev,pwritev2,rename,renameat,renameat2,unlink,unlinkat,link,linkat,fsync,fdatasync,sync_file_range,"
            "ftruncate,fallocate,copy_file_range,sendfile,utimensat,fchmod,mkdirat,sendmsg,ioctl,setxattr,fsetxattr")
STEPS = {
    "publish-new": (f"echo new text > {LOCAL}/f", {"f": "new text\n"}),
    "publish-over": (f"echo new text > {LOCAL}/old", {"old": "new text\n"}),
    "publish-append": (f"echo more >> {LOCAL}/old", {"old": "old text\nmore\n"}),
    "fill": (f"cat {LOCAL}/old {LOCAL}/d/other", {}),
}


def victim(lake):
    """A new daemon that serves the mapping, and has nothing to do."""
    lake.run(["ls", LOCAL])
    wait_for(lambda: lake.cli("daemon", "status", "--json")["pending_uploads"] == 0, 30, "nothing waits")
    return lake.daemon_pid()


def killed_at(lake, pid, number, command):
    """The daemon dies as one of its threads begins the call `number` of those that change something. (still there, what the command gave)"""
    trace = lake.tmp / "trace"
    trace.write_text("")
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-p", str(pid), "-e", f"trace={CHANGING}",
                               "-e", f"inject={CHANGING}:signal=KILL:when={number}"], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: tracer.poll() is not None or all(_traced(pid)), 20, "the tracer")
        if tracer.poll() is not None:
            pytest.skip(f"nothing may be traced here: {tracer.stderr.read()[-300:]}")
        done = lake.run(command, check=False, timeout=60)
        time.sleep(0.1)
        return alive(pid), done, trace.read_text()
    finally:
        tracer.terminate()
        tracer.wait()
        tracer.stderr.close()


def _traced(pid):
    for task in os.listdir(f"/proc/{pid}/task"):
        yield "TracerPid:\t0\n" not in Path(f"/proc/{pid}/task/{task}/status").read_text()


def texts(folder):
    """{name: text} of what other clients see."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".prelux~")}


@pytest.mark.slow
@pytest.mark.limit(400)
@pytest.mark.parametrize("what, write", [(what, write) for what in STEPS for write in ("sync", "async") if (what, write) != ("fill", "async")])
def test_a_daemon_killed_between_its_steps(prelux, what, write):
    """Nothing is half visible on the remote or under a cache name, the program gets its answer from the next daemon, and in the end all is as if
    nobody had died."""
    command, changed = STEPS[what]
    lake = make_lake(prelux, write=write)
    before = {"old": "old text\n", "d/other": "other text\n"}
    deaths = 0
    for number in range(1, 200):
        shutil.rmtree(lake.remote)
        (lake.remote / "d").mkdir(parents=True)
        for name, text in before.items():
            (lake.remote / name).write_text(text)
        lake.cli("evict", LOCAL, check=False)
        pid = victim(lake)
        survived, done, trace = killed_at(lake, pid, number, command)
        deaths += not survived
        told = f"step {number}: {trace[-600:]}\n{done.stderr}{lake.story()}"
        assert done.returncode == 0 and done.stderr == "", told
        assert done.stdout == ("old text\nother text\n" if what == "fill" else ""), told
        shown = texts(lake.remote)
        assert shown in (before, {**before, **changed}), f"{shown} at {told}"
        if write == "sync":
            assert shown == {**before, **changed}, f"{shown} at {told}"
        for file in lake.cache.glob("trees/*/data/**/*"):
            name = str(file).partition("/data/")[2]
            assert not file.is_file() or file.read_text() in (before.get(name), changed.get(name)), f"{name} at {told}"
        lake.run(["ls", LOCAL])
        lake.cli("flush", "--timeout", "30")
        assert texts(lake.remote) == {**before, **changed}, told
        assert lake.run(f"cat {LOCAL}/{next(iter(changed), 'old')}").stdout == {**before, **changed}[next(iter(changed), "old")], told
        if survived:
            break
    print(f"{what} {write}: killed at each of {deaths} steps")
    assert survived and deaths >= 10, "the kills met little"


# Databases and clocks

LOCKED = ("import sqlite3, sys\nd = sqlite3.connect(sys.argv[1], isolation_level=None)\nd.execute('begin exclusive')\n"
          "print('locked', flush=True)\nsys.stdin.readline()")


@pytest.mark.parametrize("which", ["journal.db", "catalogue.db"])
def test_a_database_that_somebody_locks(prelux, which):
    """Somebody looks into it with a program of SQLite's while no daemon runs: the next daemon waits a while, then all is EIO with a record. When
    he lets go, all is well, and what waited there is sent."""
    lake = make_lake(prelux, write="async")
    (lake.remote / "old").write_text("old")
    lake.run(["cat", f"{LOCAL}/old"])
    os.rename(lake.remote, lake.tmp / "away")
    lake.run(f"echo waits > {LOCAL}/waiting || true", args=["--no-wait"], check=False)
    lake.kill_daemon()
    os.rename(lake.tmp / "away", lake.remote)
    database, = lake.cache.rglob(which)
    person = subprocess.Popen([sys.executable, "-c", LOCKED, database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert person.stdout.readline() == "locked\n"
        done = lake.run(f"cat {LOCAL}/old; echo new > {LOCAL}/new", check=False, timeout=100)
        assert done.returncode != 0
        assert done.stdout == "" and "Input/output error" in done.stderr, (done.stdout, done.stderr)
        assert any(which in json.dumps(record) or "lock" in json.dumps(record) for record in lake.errors()), lake.story()
        assert not (lake.remote / "new").exists()
    finally:
        person.communicate("go\n")
    wait_for(lambda: lake.run(["cat", f"{LOCAL}/old"], check=False).stdout == "old", 60, "it is served again")
    lake.run(f"echo new > {LOCAL}/new")
    settled(lake)
    assert (lake.remote / "new").read_text() == "new\n"
    assert len(list(database.parent.glob(which + "*"))) <= 3, "no other database was made beside it"


CLOCK = """
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static long long offset(void)
{
  char text[32] = "";
  int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) { if (read(fd, text, 31) < 0) text[0] = 0; close(fd); }
  return atoll(text);
}
int clock_gettime(clockid_t id, struct timespec *t)
{
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int rc = next(id, t);
  if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += offset();
  return rc;
}
time_t time(time_t *ret)
{
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (ret) *ret = t.tv_sec;
  return t.tv_sec;
}
"""


@pytest.mark.parametrize("by_s", [-400 * 86400, 400 * 86400], ids=["back", "forth"])
def test_a_clock_that_is_set(prelux, by_s):
    """The daemon's clock goes back (or forth) by a year: uploads are tried again soon, changes of the remote are seen, the newest version wins."""
    lake = make_lake(prelux, write="async", freshness={"max_age": "300ms"})
    library, source, offset = lake.tmp / "clock.so", lake.tmp / "clock.c", lake.tmp / "offset"
    source.write_text(CLOCK)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    offset.write_text("0")
    lake.popen([lake.daemon_exe, "--runtime", lake.runtime], bare=True, env={"LD_PRELOAD": library, "CLOCK_OFFSET": offset, "PRELUX_CONFIG": None})
    wait_for(lake.daemon_pid, 60, "the daemon")
    (lake.remote / "old").write_text("old")
    assert lake.run(["cat", f"{LOCAL}/old"]).stdout == "old"
    writer = lake.popen(f"exec 7> {LOCAL}/f; echo text >&7; echo up; read x; exec 7>&-; echo closed; read x", stdin=-1, stdout=-1, text=True)
    assert writer.stdout.readline() == "up\n"
    os.rename(lake.remote, lake.tmp / "away")  # the remote is out of reach
    writer.stdin.write("go\n")
    writer.stdin.flush()
    assert writer.stdout.readline() == "closed\n"
    wait_for(lambda: lake.cli("pending", "list", "--json")["files"][0]["tries"] > 0, 60, "a try that fails")
    offset.write_text(str(by_s))
    os.rename(lake.tmp / "away", lake.remote)
    wait_for(lambda: (lake.remote / "f").exists(), 30, "the upload")
    writer.communicate("go\n", timeout=60)
    for text in ("changed", "changed again"):
        (lake.remote / "old").write_text(text)
        time.sleep(0.5)
        assert lake.run(["cat", f"{LOCAL}/old"]).stdout == text
    lake.run(f"echo second > {LOCAL}/f; echo third > {LOCAL}/f; rm {LOCAL}/old")
    settled(lake)
    assert (lake.remote / "f").read_text() == "third\n" == lake.run(["cat", f"{LOCAL}/f"]).stdout
    assert lake.run(["ls", LOCAL]).stdout == "f\n"
