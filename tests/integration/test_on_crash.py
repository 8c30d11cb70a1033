"""`on_crash`: what a writer leaves that was killed. The last one who has a file open for writing decides: he closes it, or ends as a program may end, and
it is sent, as a local file would survive; he crashes, and it is kept as `recovered`, and the path shows what it showed before he began."""

import os
import signal
import subprocess
import threading
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, settled
from tests.servers.s3standin_write import S3Changing

# Says "up" when it has written; "close" and "again" (writes more) are words of its stdin; at the end of that it ends.
WRITER = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
static const char *how;
static int fd;
static int said(int rc) { return rc == 0 ? 0 : errno; }
static void die(void)
{
  volatile int zero = 0;
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "segv") == 0) *(volatile int *)8 = 1;
  if (strcmp(how, "fpe") == 0) { volatile int x = 1 / zero; (void)x; raise(SIGFPE); }
  if (strcmp(how, "ill") == 0) { __builtin_trap(); }
  if (strcmp(how, "bus") == 0) ((volatile char *)mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0))[1 << 19] = 1;
  if (strcmp(how, "exit") == 0) exit(1);
}
static void *other(void *x) { for (;;) pause(); return x; }
int main(int argc, char **argv)
{
  struct rlimit none = {0, 0};
  char line[64];
  pthread_t t;
  how = argv[2];
  setrlimit(RLIMIT_CORE, &none);
  for (int s = 1; s < 32; s++) signal(s, SIG_DFL);
  fd = open(argv[1], strchr(argv[3], 'a') ? O_WRONLY | O_APPEND | O_CREAT : strchr(argv[3], 'r') ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0) { printf("%d\\n", errno); return 1; }
  if (!strchr(argv[3], 'r') && write(fd, "half", 4) != 4) return 1;
  if (strchr(argv[3], 't')) { pthread_create(&t, 0, other, 0); }
  if (strchr(argv[3], 'f') && fork() == 0) { setsid(); printf("child %d\\n", (int)getpid()); fflush(stdout); signal(SIGHUP, SIG_IGN); }
  else { printf("up\\n"); fflush(stdout); die(); }
  if (strchr(argv[3], 't')) pthread_exit(0);
  while (fgets(line, sizeof line, stdin)) {
    if (line[0] == 'c') { printf("%d\\n", said(close(fd))); fflush(stdout); }
    if (line[0] == 'a') { printf("%d\\n", write(fd, "more", 4) == 4 ? 0 : errno); fflush(stdout); }
    if (line[0] == 'n') { printf("%d\\n", said(rename(argv[1], argv[4]))); fflush(stdout); }
  }
  return 0;
}
"""
KEPT = ("KILL", "SEGV", "BUS", "ABRT", "ILL", "FPE", "SYS", "TRAP")
SENT = ("INT", "TERM", "HUP", "PIPE", "ALRM", "USR1", "USR2", "XCPU", "QUIT", "XFSZ", "VTALRM", "PROF", "POLL")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """(the writer, the same without the library)"""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "writer.c").write_text(WRITER)
    for name, words in (("writer", ()), ("static", ("-static",))):
        subprocess.run(["gcc", "-w", "-O1", "-fno-delete-null-pointer-checks", "-o", folder / name, folder / "writer.c", "-pthread", *words], check=True)
    return folder / "writer"


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux):
    prelux.write = request.param
    return make_lake(prelux, write=request.param)


class Writer:
    """One that has written "half" and is up."""

    def __init__(self, lake, program, name="f", how="wait", flags="w", to="", ask=True):
        self.lake = lake
        self.child = lake.popen([program, f"{LOCAL}/{name}", how, flags, f"{LOCAL}/{to}"], bare=True, stdin=-1, stdout=-1, text=True)
        self.first = self.child.stdout.readline() if ask else ""

    def say(self, word):
        """Its answer: an errno."""
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()
        return int(self.child.stdout.readline())

    def kill(self, name="KILL"):
        """It is gone, and reaped at once: the daemon is not its parent."""
        os.kill(self.child.pid, getattr(signal, "SIG" + name))
        return self.end()

    def end(self):
        """How it ended."""
        self.child.stdin.close()
        self.child.stdout.close()
        return self.child.wait(30)


def rows(lake):
    """{file name: row} of what waits here."""
    return {row["path"].rpartition("/")[2]: row for row in lake.cli("pending", "list", "--json")["files"]}


def recovered(lake, name="f"):
    """Its row, when it has come to that."""
    wait_for(lambda: rows(lake).get(name, {}).get("state") == "recovered", 20, "the file is kept")
    return rows(lake)[name]


def sent(lake, text, name="f"):
    """The remote has it."""
    file = lake.remote / name
    wait_for(lambda: file.exists() and file.read_text() == text, 20, f"the remote has {text!r}")
    settled(lake)
    assert not rows(lake), lake.story()


def kept(lake, text, cause, name="f", shows="old"):
    """Recovered, with its bytes; nothing of it is seen elsewhere."""
    row = recovered(lake, name)
    assert cause in row["cause"] and row["size"] == len(text), row
    out = lake.tmp / f"export-{row['id']}"
    lake.cli("pending", "export", row["id"], out)
    assert out.read_text() == text
    file = lake.remote / name
    assert (file.read_text() if file.exists() else None) == shows
    assert lake.run(f"cat {LOCAL}/{name} 2>/dev/null || true").stdout == (shows or "")
    assert lake.run(["ls", LOCAL]).stdout.split().count(name) == (shows is not None)
    return row


@pytest.mark.parametrize("name", KEPT)
def test_signals_of_a_crash(lake, program, name):
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program)
    assert writer.first == "up\n" and writer.kill(name) == -getattr(signal, "SIG" + name)
    row = kept(lake, "half", f"SIG{name}")
    assert any(record["call"] == "upload" and f"SIG{name}" in record["cause"] for record in lake.errors())
    lake.cli("pending", "retry", row["id"], "--overwrite")
    sent(lake, "half")
    assert lake.run(["cat", f"{LOCAL}/f"]).stdout == "half"


@pytest.mark.parametrize("name", SENT)
def test_signals_that_end_a_program(lake, program, name):
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program)
    assert writer.kill(name) == -getattr(signal, "SIG" + name)
    sent(lake, "half")


@pytest.mark.parametrize("how, number", [("abort", "ABRT"), ("segv", "SEGV"), ("fpe", "FPE"), ("ill", "ILL"), ("bus", "BUS")])
def test_faults(lake, program, how, number):
    """A new file: afterwards there is none. Dropped, its bytes are gone."""
    writer = Writer(lake, program, how=how)
    assert writer.end() in (-getattr(signal, "SIG" + number), -signal.SIGILL if how == "fpe" else 0, -signal.SIGTRAP if how == "ill" else 0), how
    row = kept(lake, "half", "was killed by SIG", shows=None)
    lake.cli("pending", "drop", row["id"])
    assert not rows(lake) and not os.listdir(lake.cache / ".prelux/staging")


def test_exit_with_a_status(lake, program):
    """What exit() does is the program's will, whatever it says of itself."""
    writer = Writer(lake, program, how="exit")
    assert writer.end() == 1
    sent(lake, "half")


@pytest.mark.parametrize("flags", ["t", "wt"])
def test_a_process_whose_first_thread_has_gone(lake, program, flags):
    writer = Writer(lake, program, flags=flags)
    time.sleep(0.2)
    writer.kill()
    kept(lake, "half", "SIGKILL", shows=None)


def test_publish(prelux, program):
    """As a local file would be left, by whatever end."""
    lake = make_lake(prelux, write="sync", on_crash="publish")
    (lake.remote / "f").write_text("old")
    for name in ("KILL", "SEGV"):
        Writer(lake, program, flags="w").kill(name)
        sent(lake, "half")
        (lake.remote / "f").unlink()


# Others

def test_a_program_without_the_library(lake, program):
    """It takes the place of one that opened the file (exec). Ended, it has closed it; killed, it has not."""
    static = program.with_name("static")
    for name, text in (("f", "ended"), ("g", "killed")):
        script = f"exec 3> {LOCAL}/{name}; echo -n {text} >&3; echo up; exec {static} /dev/null wait w"
        child = lake.popen(script, bare=True, stdin=-1, stdout=-1, text=True)
        assert child.stdout.readline() == "up\n" and child.stdout.readline() == "up\n"
        if text == "killed":
            os.kill(child.pid, signal.SIGKILL)
        child.stdin.close()
        child.stdout.close()
        child.wait(30)
        if text == "ended":
            sent(lake, text, name)
        else:
            kept(lake, text, "SIGKILL", name, shows=None)


def test_one_of_two_writers_is_killed(lake, program):
    """The other one closes: that is the end of the file, with the bytes of both."""
    killed, closes = Writer(lake, program), Writer(lake, program, flags="a")
    killed.kill()
    time.sleep(0.3)
    assert closes.say("again") == 0 and closes.say("close") == 0
    closes.end()
    sent(lake, "halfhalfmore")


def test_the_last_of_two_writers_is_killed(lake, program):
    """A close that was not the last promises nothing."""
    killed, closes = Writer(lake, program), Writer(lake, program, flags="a")
    assert closes.say("close") == 0
    closes.end()
    killed.kill()
    kept(lake, "halfhalf", "SIGKILL", shows=None)


def test_the_last_of_two_writers_is_ended(lake, program):
    """The one that was killed before is not the end of the file."""
    killed, ended = Writer(lake, program), Writer(lake, program, flags="a")
    killed.kill()
    lake.cli("flush", check=False)  # somebody has looked
    ended.kill("TERM")
    sent(lake, "halfhalf")


def test_a_child_goes_on(lake, program):
    """It has the file from its parent, which is killed, and ends in order."""
    writer = Writer(lake, program, flags="wf")
    lines = {writer.first.split()[0], writer.child.stdout.readline().split()[0]}
    assert lines == {"up", "child"}
    os.kill(writer.child.pid, signal.SIGKILL)
    time.sleep(0.3)
    assert not (lake.remote / "f").exists() and rows(lake)["f"]["state"] == "open"
    writer.end()  # of the input of both
    sent(lake, "half")


def test_a_close_that_waits_for_others(prelux, program):
    """`held: wait`: it is the last close."""
    lake = make_lake(prelux, write="sync", held="wait")
    (lake.remote / "f").write_text("old")
    killed, waits = Writer(lake, program), Writer(lake, program, flags="a")
    waits.child.stdin.write("close\n")
    waits.child.stdin.flush()
    time.sleep(0.5)
    killed.kill()
    assert int(waits.child.stdout.readline()) == 0 and (lake.remote / "f").read_text() == "halfhalf"
    waits.end()
    settled(lake)


def test_other_ways_of_staging(prelux, program):
    """In memory, and not kept in the cache afterwards."""
    lake = make_lake(prelux, write="async", after_upload="drop", staging="/dev/shm")
    Writer(lake, program).kill()
    row = kept(lake, "half", "SIGKILL", shows=None)
    lake.cli("pending", "retry", row["id"])
    sent(lake, "half")


def test_a_file_that_got_another_name(lake, program):
    """The usual way, cut short behind the rename. The name shows what stood there before."""
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program, name="f.tmp", to="f")
    assert writer.say("name") == 0
    writer.kill()
    kept(lake, "half", "SIGKILL", shows=None if lake.write == "sync" and not (lake.remote / "f").exists() else "old")
    assert not (lake.remote / "f.tmp").exists()


def test_nothing_was_written(lake, program):
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program, flags="r")
    writer.kill()
    wait_for(lambda: not rows(lake), 20, "the file is clean again")
    assert (lake.remote / "f").read_text() == "old"


def test_a_file_without_a_name(lake, program):
    code = f"import os; fd = os.open('{LOCAL}', os.O_TMPFILE | os.O_RDWR); os.write(fd, b'half'); os.kill(os.getpid(), 9)"
    lake.run(["python3", "-c", code], bare=True, check=False)
    wait_for(lambda: not os.listdir(lake.cache / ".prelux/staging"), 20, "it is gone")
    assert not os.listdir(lake.remote) and not rows(lake)


def test_what_was_acknowledged_before(prelux, program):
    """Closed, acknowledged, and not sent yet when the next one writes to it: that is sent, though he is killed. Unless he has cut it himself."""
    lake = make_lake(prelux, write="async")
    away = lake.tmp / "away"
    for _ in range(20):  # they are sent as soon as there is a pause: whoever is quicker than this is asked again
        lake.run(f"echo -n 'whole ' > {LOCAL}/log; echo -n 'whole ' > {LOCAL}/cut", bare=True)
        lake.remote.rename(away)
        if len(rows(lake)) == 2:
            break
        away.rename(lake.remote)
        lake.run(f"rm {LOCAL}/log {LOCAL}/cut", bare=True)
    assert {row["state"] for row in rows(lake).values()} == {"waiting"} and not os.listdir(away)
    appends, cuts = Writer(lake, program, name="log", flags="a"), Writer(lake, program, name="cut", flags="w")
    appends.kill()
    cuts.kill()
    away.rename(lake.remote)
    recovered(lake, "cut")
    lake.cli("flush", check=False)
    wait_for(lambda: (lake.remote / "log").exists(), 20, "the upload")
    assert (lake.remote / "log").read_text() == "whole half" and not (lake.remote / "cut").exists()
    assert [*rows(lake)] == ["cut"]


def test_what_a_run_says(lake, program):
    """It does not wait for a person. Its status is the program's own, else 3."""
    script = f"{program} {LOCAL}/f abort w; {{}}"
    done = lake.run(script.format("true"), check=False)
    assert done.returncode == 3 and "recovered" in done.stderr and f"{LOCAL}/f" in done.stderr and "SIGABRT" in done.stderr, done.stderr
    done = lake.run(f"exec {program} {LOCAL}/g abort w", check=False, args=["--strict"])
    assert done.returncode == 128 + signal.SIGABRT and f"{LOCAL}/g" in done.stderr and f"{LOCAL}/f" not in done.stderr, done.stderr


# Daemons that die, too

def test_daemon_and_writer(lake, program):
    """Both at once: nobody knows whether the file was whole."""
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program)
    pid = lake.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    writer.kill()
    lake.kill_daemon()
    lake.run(["ls", LOCAL])
    kept(lake, "half", "gone when the daemon began")


@pytest.mark.parametrize("end", ["KILL", "TERM", "close", "exit"])
def test_a_writer_that_outlives_a_daemon(lake, program, end):
    """The next one finds out who has the file."""
    (lake.remote / "f").write_text("old")
    writer = Writer(lake, program)
    lake.kill_daemon()
    lake.run(["ls", LOCAL])
    wait_for(lambda: rows(lake).get("f"), 20, "the next daemon knows it")
    if end == "close":
        assert writer.say("close") == 0
        writer.end()
    elif end == "exit":
        assert writer.end() == 0
    else:
        writer.kill(end)
    if end == "KILL":
        kept(lake, "half", "SIGKILL")
    else:
        sent(lake, "half")


@pytest.mark.parametrize("how", ["close", "exit"])
def test_a_close_that_starts_a_daemon(lake, program, how):
    """It comes a moment after the new daemon has found the file, which nobody has any more."""
    writer = Writer(lake, program)
    lake.kill_daemon()
    time.sleep(0.05)  # a close that follows its open within 20 ms leaves a mark and asks nobody: the next use sends it
    if how == "close":
        assert writer.say("close") == 0
    assert writer.end() == 0
    sent(lake, "half")


class SlowToTell(S3Changing):
    """Who asks for `f` waits for a word; others are answered at once."""

    def __init__(self):
        super().__init__()
        self.asked_f, self.tell = threading.Event(), threading.Event()

    def thing(self, request, key):
        if key == b"f" and request.method in ("HEAD", "GET"):
            self.asked_f.set()
            self.tell.wait(60)
        return super().thing(request, key)


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("there", [b"", b"theirs"], ids=["new", "there"])
def test_killed_while_open_asks_the_remote(prelux, write, there):
    """Nobody gets the answer: nothing is begun, nothing is kept, and the next run is not told of it."""
    with SlowToTell() as s3:
        if there:
            s3.put("f", there)
        prelux.config({"version": 1, "backends": {"src": {"type": "s3", "bucket": s3.bucket, "endpoint": s3.url, "region": s3.region,
                                                     "access_key": "AK", "secret_key": "SK"}},
                       "mappings": [{"local": LOCAL, "remote": "src:/", "write": write}]})
        prelux.run("true")
        child = prelux.popen(["python3", "-c", f"open('{LOCAL}/f', 'w').write('mine')"], bare=True)
        assert s3.asked_f.wait(30)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        run = prelux.popen(["sh", "-c", f"echo other > {LOCAL}/g; read line"], stdin=-1)
        wait_for(lambda: "g" in rows(prelux) or b"g" in s3.objects, 30, "another file is written")
        s3.tell.set()
        prelux.run(f"cat {LOCAL}/f || true")  # it has its turn behind that
        run.communicate(b"\n", timeout=60)
        assert run.returncode == 0, prelux.story()
        settled(prelux)
        assert not rows(prelux) and not prelux.errors(), prelux.story()
        assert {key: thing.body for key, thing in s3.objects.items() if not key.startswith(b".prelux~")} == {**({b"f": there} if there else {}), b"g": b"other\n"}


def test_killed_before_the_answer_has_left(lake):
    """The daemon has the descriptor of a new file yet when it looks whether somebody has: nobody has outlived who asked for it, and the remote gets nothing."""
    child = lake.popen(["python3", "-c", f"import os; print('up', flush=True); input(); os.open('{LOCAL}/f', os.O_WRONLY | os.O_CREAT | os.O_EXCL)"],
                       bare=True, stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    staging = lake.cache / ".prelux/staging"
    slow = ["strace", "-f", "-qq", "-p", str(lake.daemon_pid()), "-o", lake.tmp / "trace", "-e", "trace=sendmsg", "-e", "inject=sendmsg:delay_enter=20000000"]
    tracer = subprocess.Popen(slow, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        if tracer.poll() is not None:
            pytest.skip(f"nothing may be traced here: {tracer.stderr.read()}")
        child.stdin.write("go\n")
        child.stdin.flush()
        made = wait_for(lambda: [path for path in staging.iterdir() if path.name.isdigit()], 20, "the file is made")
        time.sleep(0.3)
        child.kill()
        child.wait()
        os.close(os.open(made[0], os.O_WRONLY))  # of which the kernel tells the daemon
        time.sleep(1.5)
    finally:
        tracer.terminate()
        tracer.wait(30)
    recovered(lake)
    assert not (lake.remote / "f").exists()
