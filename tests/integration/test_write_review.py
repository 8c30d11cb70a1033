"""What a second hostile review of the library's writing found: streams that libc closes inside itself, other preloads behind ours that call the
kernel by number, a place without /proc, exit() in a signal handler."""

import pytest

from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake, settled


@pytest.fixture
def lake(prelux):
    return make_lake(prelux, write="sync")


MNTENT = HEAD + """
#include <mntent.h>
#include <sys/socket.h>
int main(void)
{
  /* Closed by libc inside itself: it is sent all the same. */
  FILE *t = setmntent("table", "w");
  struct mntent row = {"device", "folder", "type", "options", 1, 2};
  printf("%d ", addmntent(t, &row));
  printf("%d ", endmntent(t));
  fflush(stdout);
  if (system("cat \\"$REMOTE/table\\"")) return 1;
  /* Its number comes again, by a way that no library sees. */
  int mine = open("table", O_RDONLY), sock[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, sock);
  FILE *m = setmntent("/etc/passwd", "r");
  int number = fileno(m);
  endmntent(m);
  char c[CMSG_SPACE(sizeof(int))], b = 0; struct iovec v = {&b, 1};
  struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
  *(struct cmsghdr *)c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA((struct cmsghdr *)c), &mine, sizeof mine);
  sendmsg(sock[0], &h, 0);
  recvmsg(sock[1], &h, 0);
  struct stat one, two;
  fstat(mine, &one);
  if (fstat(number, &two)) return 2;
  printf("%s\\n", one.st_ino == two.st_ino && one.st_dev == two.st_dev ? "the same" : "another");
  return 0;
}
"""


def test_streams_of_mntent(lake):
    program = compiled(lake.tmp, "mntent", MNTENT)
    plain = lake.tmp / "plain"
    plain.mkdir()
    want = lake.plain([program], cwd=plain, env={"REMOTE": plain}).stdout
    assert want.startswith("0 1 device folder") and want.endswith("the same\n")
    assert lake.run(f"cd {LOCAL} && {program}", env={"REMOTE": lake.remote}).stdout == want


def test_the_umask_where_no_proc_is(lake):
    """What it is cannot be asked there: what is made is the owner's alone."""
    if lake.plain("unshare -rm true", check=False).returncode:
        pytest.skip("no user namespaces here")
    lake.run("true")
    # A tmpfs over /proc, once all have started.
    code = f"""if 1:
        import ctypes, os
        os.umask(0o022)
        assert ctypes.CDLL(None).unshare(0x10020000) == 0, "unshare"
        assert ctypes.CDLL(None, use_errno=True).mount(b"none", b"/proc", b"tmpfs", 0, None) == 0, os.strerror(ctypes.get_errno())
        assert os.listdir("/proc") == []
        os.close(os.open("{LOCAL}/f", os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir("{LOCAL}/d", 0o777)
        """
    lake.run(["python3", "-c", code])
    assert [oct((lake.remote / name).stat().st_mode & 0o777) for name in ("f", "d")] == ["0o600", "0o700"]


# Wrappers as such libraries have them: what they were asked is done by number, and told by a line.
BEHIND = HEAD + """
#include <stdarg.h>
#include <sys/syscall.h>
static int seen;
int close(int fd) { seen++; return syscall(SYS_close, fd); }
int open(const char *path, int flags, ...)
{ va_list ap; va_start(ap, flags); int mode = va_arg(ap, int); seen++; return syscall(SYS_openat, AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...)
{ va_list ap; va_start(ap, flags); int mode = va_arg(ap, int); seen++; return syscall(SYS_openat, at, path, flags, mode); }
int dup2(int a, int b) { seen++; return syscall(SYS_dup2, a, b); }
int fstat(int fd, struct stat *st) { seen++; return syscall(SYS_fstat, fd, st); }
int stat(const char *path, struct stat *st) { seen++; return syscall(SYS_stat, path, st); }
int fstatat(int at, const char *path, struct stat *st, int flags) { seen++; return syscall(SYS_newfstatat, at, path, st, flags); }
int unlink(const char *path) { seen++; return syscall(SYS_unlink, path); }
ssize_t readlink(const char *path, char *b, size_t n) { seen++; return syscall(SYS_readlink, path, b, n); } /* long: a jump, not a call */
ssize_t readlinkat(int at, const char *path, char *b, size_t n) { seen++; return syscall(SYS_readlinkat, at, path, b, n); }
int rename(const char *a, const char *b) { seen++; return syscall(SYS_rename, a, b); }
int mkdir(const char *path, mode_t mode) { seen++; return syscall(SYS_mkdir, path, mode); }
int chdir(const char *path) { seen++; return syscall(SYS_chdir, path); }
int execve(const char *path, char *const a[], char *const e[]) { seen++; return syscall(SYS_execve, path, a, e); }
__attribute__((destructor)) static void end(void) { if (!seen) write(2, "not asked\\n", 10); }
"""
USER = HEAD + """
#include <sys/syscall.h>
int main(int argc, char **argv)
{
  char *place = argv[1], name[4096];
  struct stat st;
  chdir(place);
  mkdir("d", 0755);
  int fd = open("d/f", O_WRONLY | O_CREAT, 0644);
  write(fd, "text", 4);
  dup2(fd, 9);
  printf("%d ", fstat(9, &st)); printf("%ld ", (long)st.st_size);
  close(fd); close(9);
  sprintf(name, "%s/d/f", place);
  printf("%d %ld ", stat(name, &st), (long)st.st_size);
  rename("d/f", "d/g");
  /* By number ourselves: it is a call like others. */
  fd = syscall(SYS_openat, AT_FDCWD, "d/g", O_RDONLY);
  char b[9]; printf("%ld ", (long)read(fd, b, 9)); syscall(SYS_close, fd);
  printf("%ld ", syscall(SYS_unlink, "d/g"));
  printf("%ld %d\\n", (long)readlink(getenv("LINK"), name, sizeof name), stat("d/g", &st));
  fflush(stdout);
  char *v[] = {"echo", "executed", 0};
  execve("/bin/echo", v, environ);
  return 1;
}
"""


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_another_preload_behind_ours(lake, level):
    behind = compiled(lake.tmp, "libbehind.so", BEHIND, "-shared", "-fPIC", level)
    program = compiled(lake.tmp, "user", USER)
    plain = lake.tmp / "plain"
    plain.mkdir()
    (lake.tmp / "link").symlink_to("target")
    env = {"LINK": lake.tmp / "link"}
    want = lake.plain([program, plain], env={**env, "LD_PRELOAD": behind}).stdout
    assert "executed" in want
    done = lake.run([program, LOCAL], bare=True, env={**env, "LD_PRELOAD": f"{lake.library}:{behind}"})
    assert (done.stdout, done.stderr) == (want, "")


EXITS = HEAD + """
#include <signal.h>
static void handler(int n) { exit(7); }
static void *more(void *folder)
{
  char name[4096];
  sprintf(name, "%s/t", (char *)folder);
  for (;;) { FILE *f = fopen(name, "w"); if (f) { fputs("by a thread", f); fclose(f); } }
}
static void *streams(void *none) /* with nothing in them: libc alone crashes, once in 3000 ends, when others that hold bytes are closed beside exit */
{
  for (;;) { FILE *f[20]; for (int i = 0; i < 20; i++) f[i] = fopen("/dev/null", "w"); for (int i = 0; i < 20; i++) fclose(f[i]); }
}
int main(int argc, char **argv)
{
  sigset_t set;
  pthread_t t;
  signal(SIGTERM, handler);
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (argc > 2) { /* streams come and go while the process ends */
    FILE *kept = fopen("kept", "w");
    fputs("kept", kept);
    for (int i = 0; i < 3; i++) pthread_create(&t, 0, streams, 0);
    puts("on"); fflush(stdout);
    usleep(3000);
    exit(7);
  }
  if (argc > 1) { /* the handler runs in main's thread */
    pthread_sigmask(SIG_BLOCK, &set, 0);
    pthread_create(&t, 0, more, ".");
    pthread_sigmask(SIG_UNBLOCK, &set, 0);
  }
  puts("on"); fflush(stdout);
  for (int i = 0;; i++) {
    char name[20];
    sprintf(name, "f%d", i % 3);
    FILE *f = fopen(name, "w");
    if (f) { fprintf(f, "line %d\\n", i); fclose(f); }
    int fd = open(name, O_WRONLY | O_APPEND);
    write(fd, "more\\n", 5);
    close(fd);
  }
}
"""


ROUNDS = """if 1:
    import collections, os, random, signal, subprocess, sys, time
    os.chdir(sys.argv[1])
    ends = collections.Counter()
    for i in range(200):
        p = subprocess.Popen([sys.argv[2], *sys.argv[3:]], stdout=subprocess.PIPE)
        p.stdout.readline()
        if len(sys.argv) < 5:
            time.sleep(random.random() * 0.02)
            p.send_signal(signal.SIGTERM)
        try:
            ends[p.wait(20)] += 1
        except subprocess.TimeoutExpired:
            ends["hangs"] += 1
            p.kill()
            p.wait()
    print(dict(ends))
    """


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("words", [(), ("threads",), ("threads", "streams")], ids=["alone", "threads", "streams"])
def test_exit_at_any_instant(prelux, mode, words):
    """In a signal handler, and while other threads go on with their streams: 200 times, it ends, and well."""
    lake = make_lake(prelux, write=mode)
    program = compiled(lake.tmp, "exits", EXITS)
    assert lake.run(["python3", "-c", ROUNDS, LOCAL, program, *words], timeout=400, env={"MALLOC_PERTURB_": "165"}).stdout == "{7: 200}\n"
    if len(words) > 1:
        settled(lake)
        assert (lake.remote / "kept").read_text() == "kept"


ENDING = HEAD + """
#include <semaphore.h>
static sem_t go, closed;
static void *closer(void *other)
{
  sem_wait(&go);
  fclose(other);
  sem_post(&closed);
  return 0;
}
static ssize_t sink(void *none, const char *buf, size_t n)
{
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec++;
  sem_post(&go);
  if (sem_timedwait(&closed, &until) == 0) _exit(9);
  return n;
}
int main(void)
{
  pthread_t t;
  FILE *kept = fopen("kept", "w"), *other = fopen("/dev/null", "w"), *slow = fopencookie(0, "w", (cookie_io_functions_t){.write = sink});
  fputs("kept", kept);
  fputs("x", slow);
  pthread_create(&t, 0, closer, other);
  exit(7);
}
"""


def test_no_stream_goes_while_exit_writes_them_out(prelux):
    """As in libc: who closes one waits until all have been written out."""
    lake = make_lake(prelux, write="sync")
    program = compiled(lake.tmp, "ending", ENDING)
    assert lake.plain([program], check=False).returncode == 7
    assert lake.run(["sh", "-c", f"cd {LOCAL} && exec {program}"], check=False).returncode == 7
    assert (lake.remote / "kept").read_text() == "kept"
