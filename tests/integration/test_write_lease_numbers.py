"""Leases (test_write_lease.py) where numbers mislead: of processes, of staging files, and those that programs see."""

import os
import signal
import subprocess
import sys

import pytest

from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.test_write_lease import held, leased, script_of
from tests.integration.write_rig import LOCAL, make_lake, settled


@pytest.fixture
def lake(prelux):
    return make_lake(prelux, write="async", write_back="1s")


def test_children_in_another_world(lake):
    """A child that has its parent's number, in a name space of its own, has not its lease."""
    out = lake.run(["unshare", "-pf", "sh", "-c", f'cd {LOCAL} && exec "$@"', "sh", sys.executable, script_of(lake, """
import ctypes
assert os.getpid() == 1
burst(30)
for i in range(5): make(f'd/a{i}', data=b'p')
if ctypes.CDLL(None).unshare(0x20000000): print('skip')
elif os.fork() == 0:
    assert os.getpid() == 1
    for i in range(10): make(f'd/c{i}', data=b'c')
    os._exit(0)
else:
    for i in range(10): make(f'd/p{i}', data=b'p')
    os.wait()
""")], check=False)
    if out.returncode and "unshare" in out.stderr or "skip" in out.stdout:
        pytest.skip("no name spaces here")
    assert out.returncode == 0, out
    settled(lake)
    got = {name: data for name, data in held(lake).items() if data in (b"p", b"c")}
    assert got == {**{f"d/a{i}": b"p" for i in range(5)}, **{f"d/{who}{i}": who.encode() for who in "pc" for i in range(10)}}


HELD = """
burst(30)
held = [open(f'd/h{i}', 'wb') for i in range(20)]
print(sum(os.fstat(f.fileno()).st_ino for f in held), flush=True)
sys.stdin.readline()
print(sum(os.fstat(f.fileno()).st_ino for f in held), sum(os.stat(f.name).st_ino for f in held), flush=True)
"""


def test_numbers_outlive_the_daemon(prelux):
    """The next one makes the rows, and says of the files what was said before."""
    lake = make_lake(prelux, write="async")
    lake.run(["true"])

    def once():
        command = f"rm -rf {LOCAL}/d; cd {LOCAL} && exec {sys.executable} {script_of(lake, HELD)}"
        child = lake.popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        was = child.stdout.readline().strip()
        lake.kill_daemon(signal.SIGKILL)
        without_row = len(list((lake.tmp / "cache/.prelux/lease").glob("*/h*")))
        assert was and child.communicate("go\n", timeout=60)[0].split() == [was, was]
        return without_row

    leased(once)


SLOW = HEAD + """
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
enum { FILES = 120 }; /* so many that the kernel gives the number once more */

static void child(void)
{
  char name[40];
  if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(77);
  for (int i = 0; i < FILES; i++)
  {
    snprintf(name, sizeof name, "d/f%d", i);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, "mine", 4) != 4 || close(fd))
    {
      perror(name);
      _exit(8);
    }
    if (i == FILES / 2) raise(SIGUSR1);
  }
  _exit(0);
}

/* The path that the child is about to open. */
static void path_of(int pid, unsigned long at, char *ret, size_t cap)
{
  for (size_t i = 0; i + sizeof(long) <= cap; i += sizeof(long))
  {
    long word = ptrace(PTRACE_PEEKDATA, pid, at + i, 0);
    memcpy(ret + i, &word, sizeof word);
    if (memchr(&word, 0, sizeof word)) return;
  }
  ret[cap - 1] = 0;
}

static int a_lease_below(const char *staging)
{
  char pattern[5000];
  glob_t found;
  snprintf(pattern, sizeof pattern, "%.*slease/[1-9]*", (int)(strstr(staging, "staging/") - staging), staging);
  return glob(pattern, 0, NULL, &found) != GLOB_NOMATCH;
}

int main(int argc, char **argv)
{
  struct user_regs_struct regs;
  struct stat st;
  const struct timespec old[2] = {{1000000000, 0}, {1000000000, 0}};
  char path[4096];
  int pid = 0, status, armed = 0, seen = 0;
  if (chdir(argv[1]) || mkdir("d", 0755)) return 6;
  if ((pid = fork()) == 0) child();
  for (int signal = 0; waitpid(pid, &status, 0) == pid && WIFSTOPPED(status); ptrace(seen ? PTRACE_CONT : PTRACE_SYSCALL, pid, 0, (long)signal))
  {
    signal = 0;
    armed |= WSTOPSIG(status) == SIGUSR1;
    if (!armed || seen || WSTOPSIG(status) != SIGTRAP || ptrace(PTRACE_GETREGS, pid, 0, &regs) || regs.orig_rax != SYS_openat || regs.rax != (unsigned long)-ENOSYS)
      continue;
    path_of(pid, regs.rsi, path, sizeof path);
    if (!strstr(path, "/.prelux/staging/") || (regs.rdx & O_CREAT)) continue;
    seen = 1;
    if (stat("d", &st) || a_lease_below(path)) return 5; /* it has ended, and its files went */
    int fd = -1;                                         /* the number comes back, as soon as its file is gone: somebody else's */
    for (int i = 0; i < 1000 && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600)) < 0 && errno == EEXIST; i++) usleep(10000);
    if (fd < 0 || futimens(fd, old) || close(fd)) return 4;
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status)) return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
  if (!seen) return 9;
  if (stat(path, &st) || st.st_mtim.tv_sec != 1000000000) return 10;
  return unlink(path) ? 11 : 0;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="reads registers")
def test_a_number_that_is_anothers_by_now(lake):
    """Its maker was stopped between drawing it and opening it: that file is not touched, and the one that was to be made is."""
    program = compiled(lake.tmp, "slow", SLOW)

    def once():
        done = lake.run(["sh", "-c", f"rm -rf {LOCAL}/d; exec {program} {LOCAL}"], check=False)
        if done.returncode == 77:
            pytest.skip("no ptrace here")
        assert done.returncode in (0, 9), f"{done.returncode} {done.stderr} {lake.story()}"
        return done.returncode == 0

    leased(once)
    settled(lake)
    assert {name: data for name, data in held(lake).items()} == {f"d/f{i}": b"mine" for i in range(120)}


AFTER = """
import glob, time
burst(30)
make('d/last', data=b'')
print(len(glob.glob(sys.argv[2] + '/*/last')))
time.sleep(0.03)
with open(sys.argv[1], 'w') as stamp: stamp.write('later')
time.sleep(0.03)
print(os.stat('d').st_mtime_ns <= os.stat(sys.argv[1]).st_mtime_ns, os.stat('d/last').st_mtime_ns <= os.stat('d').st_mtime_ns)
"""


def test_the_folder_is_no_later_than_its_names(lake):
    """Who makes them asks nobody, so the daemon notes them late: when the next asks."""
    def once():
        done = lake.run(["sh", "-c", f"rm -rf {LOCAL}/d; cd {LOCAL} && exec {sys.executable} {script_of(lake, AFTER)} {lake.tmp}/stamp {lake.tmp}/cache/.prelux/lease"])
        assert done.stdout.split()[1:] == ["True", "True"], f"{done.stdout} {lake.story()}"
        return done.stdout.startswith("1")

    leased(once)
