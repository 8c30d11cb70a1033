"""What a review of the library found: ways to the real folder behind a prefix, or to a cache file, that were open, and
unmapped calls that went another way than without the library."""

import os
import shutil
import struct
import subprocess

import pytest

from tests.posix.test_hooks import compiled

TEXT = "text of a\n"


@pytest.fixture
def place(prelux):
    """BASE/mnt/lake is mapped and not on disk; BASE/ln leads to BASE/mnt."""
    prelux.source, prelux.base = prelux.tmp / "source", prelux.tmp / "base"
    prelux.source.mkdir()
    (prelux.source / "a.txt").write_text(TEXT)
    for folder in ("mnt/side", "far", "moved/lake"):
        (prelux.base / folder).mkdir(parents=True)
    (prelux.base / "ln").symlink_to("mnt")
    prelux.lake = prelux.base / "mnt/lake"
    prelux.file_mapping(prelux.source, prelux.lake)
    yield prelux
    assert (prelux.source / "a.txt").read_text() == TEXT
    assert prelux.run(["cat", f"{prelux.lake}/a.txt"]).stdout == TEXT, "the cache file was changed"


# Through a link or "..", the missing folder at a prefix must not be made: later calls would find it.
MAKERS = {
    "mkdir": "mkdir {0}", "mkdir-slash": "mkdir {0}/", "write": "echo x > {0}", "append": "echo x >> {0}", "mkfifo": "mkfifo {0}",
    "symlink": "ln -sT /usr {0}", "link": "ln -T {b}/file {0}", "rename": "mv -T {b}/moved/lake {0}",
    "bind": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{0}\")'",
}
WAYS = {"link": ("{b}", "ln/lake"), "absolute": ("/", "{b}/ln/lake"), "dots": ("{b}/far", "../mnt/lake"), "from-link": ("{b}/ln/side", "../lake"),
        "proc-root": ("/", "/proc/self/root{b}/mnt/lake"), "proc-cwd": ("{b}/mnt", "/proc/self/cwd/lake")}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("maker", MAKERS)
def test_nothing_is_made_at_a_prefix(place, maker, way):
    (place.base / "file").write_text("x")
    folder, path = (part.format(b=place.base) for part in WAYS[way])
    if maker == "bind" and len(path) > 100:
        pytest.skip("too long for a socket's name")
    done = place.run(f"cd {folder} && {MAKERS[maker].format(path, b=place.base)}", check=False)
    assert done.returncode != 0
    assert sorted(os.listdir(place.base / "mnt")) == ["side"]
    assert (place.base / "moved/lake").is_dir()


@pytest.mark.parametrize("state", ["absent", "empty", "covered"])
@pytest.mark.parametrize("way", ["/proc/self/root{b}/mnt/lake", "//proc/self/root/{b}/mnt/lake", "/proc/self/cwd/lake", "/proc/thread-self/cwd/lake",
                                 "/proc/self/fd/7/lake", "/dev/fd/7/lake", "/proc/self/fd/7/../mnt/lake", "/proc/self/cwd/side/../lake"])
def test_magic_links_above_a_prefix(place, way, state):
    if state != "absent":
        place.lake.mkdir()
    if state == "covered":
        (place.lake / "a.txt").write_text("WRONG\n")
        (place.lake / "decoy").write_text("WRONG\n")
    before = sorted(os.listdir(place.lake)) if place.lake.exists() else None
    at = way.format(b=place.base)
    script = f"cd {place.base}/mnt; exec 7<.; cat {at}/a.txt; ls {at}; test -e {at}/decoy && echo leak; echo x > {at}/new; mkdir {at}/sub; rm -f {at}/a.txt"
    assert place.run(script, check=False).stdout == f"{TEXT}a.txt\n"
    assert (sorted(os.listdir(place.lake)) if place.lake.exists() else None) == before


CHANGES = """if 1:
    import os, sys
    fd, at, name = os.open(sys.argv[1], os.O_RDONLY), sys.argv[2], sys.argv[3].replace("N", "%d")
    os.chdir(at)
    path = name % fd
    before = os.fstat(fd).st_mode, open(fd, closefd=False).read()
    for call in (lambda: os.open(path, os.O_WRONLY), lambda: os.open(path, os.O_RDWR | os.O_TRUNC), lambda: os.truncate(path, 1),
                 lambda: os.chmod(path, 0o600), lambda: os.utime(path)):
        try:
            call()
            print("done")
        except OSError as e:
            print(e.errno)
    print(open(path).read(), end="")
    """


@pytest.mark.parametrize("at,name", [("/", "/proc/self/fd/N"), ("/", "//proc/self/fd/N"), ("/", "/./proc/self/fd/N"), ("/", "/.//proc/self//fd/N"),
                                     ("/", "proc/self/fd/N"), ("/proc", "self/fd/N"), ("/proc/self/fd", "N"), ("/dev/fd", "N"), ("/dev", "fd/N"),
                                     ("/usr", "/dev/./fd/N"), ("/usr", "/dev//fd/N")])
def test_no_writing_by_the_names_of_a_descriptor(place, at, name):
    done = place.run(["python3", "-c", CHANGES, f"{place.lake}/a.txt", at, name])
    assert done.stdout == "30\n" * 5 + TEXT


UNSHARE = r"""
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static pthread_barrier_t turn;
static int raw;
static void look(const char *who)
{
  char cwd[PATH_MAX];
  int a = open("a.txt", O_RDONLY), bin = open("bin", O_RDONLY);
  printf("%s %s a.txt %d bin %d\n", who, getcwd(cwd, sizeof(cwd)), a >= 0, bin >= 0);
}
static void *thread(void *arg)
{
  if (raw ? syscall(SYS_unshare, CLONE_FS) : unshare(CLONE_FS)) perror("unshare");
  if (chdir("/usr")) perror("chdir");
  for (int i = 0; i < 2; i++) {
    pthread_barrier_wait(&turn);
    pthread_barrier_wait(&turn);
    look("thread");
  }
  return NULL;
}
int main(int argc, char **argv)
{
  pthread_t t;
  raw = argc > 2;
  pthread_barrier_init(&turn, NULL, 2);
  if (chdir(argv[1])) perror(argv[1]);
  pthread_create(&t, NULL, thread, NULL);
  for (int i = 0; i < 2; i++) {
    pthread_barrier_wait(&turn);
    look("main");
    pthread_barrier_wait(&turn);
  }
  pthread_join(t, NULL);
  look("main");
  return 0;
}
"""


@pytest.mark.parametrize("raw", [[], ["raw"]], ids=["unshare", "syscall"])
def test_a_thread_with_its_own_working_directory(place, raw):
    prog = compiled(place.tmp, "unshare", UNSHARE)
    lines = sorted(place.run([prog, place.lake, *raw]).stdout.splitlines())
    assert lines == [f"main {place.lake} a.txt 1 bin 0"] * 3 + ["thread /usr a.txt 0 bin 1"] * 2


SETNS = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  char cwd[PATH_MAX];
  int fd = open("/proc/self/ns/mnt", O_RDONLY);
  if (chdir(argv[1])) perror(argv[1]);
  printf("%d\n", open("a.txt", O_RDONLY) >= 0);
  if (argc > 2 ? syscall(SYS_setns, fd, 0) : setns(fd, CLONE_NEWNS)) return perror("setns"), 77;
  printf("%s %d %d\n", getcwd(cwd, sizeof(cwd)), open("a.txt", O_RDONLY) >= 0, open("bin", O_RDONLY) >= 0);
  return 0;
}
"""


@pytest.mark.parametrize("raw", [[], ["raw"]], ids=["setns", "syscall"])
def test_another_mount_namespace_has_another_working_directory(place, raw):
    """The kernel goes to the root of the namespace, without any chdir."""
    prog = compiled(place.tmp, "setns", SETNS)
    done = place.run([prog, place.lake, *raw], check=False)
    if done.returncode == 77:
        pytest.skip("no right to enter a namespace here: " + done.stderr.strip())
    assert done.stdout == "1\n/ 0 1\n"


EMPTY = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#define SAY(call) printf("%s %d\n", #call, (call) < 0 ? errno : 0)
int main(int argc, char **argv)
{
  struct stat st;
  char *f = argv[1], *bad = (char *)(argc - 3);
  SAY(rename("", f));
  SAY(rename(f, ""));
  SAY(link("", f));
  SAY(link(f, ""));
  SAY(open(bad, O_RDONLY));
  SAY(open(bad, O_CREAT | O_RDWR, 0600));
  SAY(stat(bad, &st));
  SAY(access(bad, 0));
  SAY(mkdir(bad, 0));
  SAY(unlink(bad));
  SAY(chdir(bad));
  return 0;
}
"""


def test_no_name_and_no_pointer(place):
    prog = compiled(place.tmp, "empty", EMPTY, "-w")
    plain = subprocess.run([prog, place.source / "a.txt"], capture_output=True, text=True, check=True).stdout
    assert place.run([prog, f"{place.lake}/a.txt"]).stdout == plain


def test_a_mapping_of_a_folder_of_the_remote(place):
    """Its cache folder is that folder's in the tree, also while another mapping shows the tree's root."""
    (place.source / "sub/deep").mkdir(parents=True)
    (place.source / "sub/a.txt").write_text("in sub\n")
    (place.source / "sub/deep/c").write_text("c\n")
    inner = place.base / "missing/way/inner"
    backends = {"src": {"type": "file", "root": str(place.source)}}
    place.config({"version": 1, "backends": backends, "mappings": [{"local": str(place.lake), "remote": "src:/"},
                                                                   {"local": str(inner), "remote": "src:/sub"}]})
    script = f"""
      cat {inner}/a.txt; df {inner} > /dev/null && echo df; getconf NAME_MAX {inner}
      exec 7<{inner}/deep 8<{inner}/a.txt; readlink /proc/self/fd/7 /proc/self/fd/8
      cd {inner}; pwd -P; readlink /proc/self/cwd; ls; cat deep/../a.txt; cd ..; find .; find {place.base} -name c
      sh -c 'readlink /proc/self/fd/7 /proc/self/fd/8; ls /proc/self/fd/7/..'; exec 7<&- 8<&-"""
    mapped = place.run(script).stdout
    place.plain(f"cp -a {place.source}/. {place.lake}; mkdir -p {inner}; cp -a {place.source}/sub/. {inner}")
    try:
        assert sorted(mapped.splitlines()) == sorted(place.plain(script).stdout.splitlines())
    finally:
        place.plain(f"rm -rf {place.lake} {place.base}/missing")
    at = place.cli("map", f"{inner}/a.txt", "--json")["cache"]
    assert at.endswith("/sub/a.txt") and open(at).read() == "in sub\n"
    if shutil.which("strace"):
        assert place.run(["strace", "-e", "trace=connect", "cat", f"{inner}/a.txt"]).stderr.count("connect(") == 0, "a hit asks the daemon"


OPENAT2 = r"""
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#define SAY(at, path, bits, how) do { \
  struct open_how h = {.flags = bits, .resolve = how}; \
  long fd = syscall(SYS_openat2, at, path, &h, sizeof(h)); \
  printf("%s %s %d\n", path, #how, fd < 0 ? errno : 0); } while (0)
int main(int argc, char **argv)
{
  int at = open(argv[1], O_PATH);
  SAY(at, "a.txt", 0, RESOLVE_BENEATH);
  SAY(at, "../lake/a.txt", 0, RESOLVE_BENEATH);
  SAY(at, "./../lake/a.txt", 0, RESOLVE_BENEATH);
  SAY(at, "../lake/a.txt", 0, 0);
  SAY(at, "./../a.txt", 0, RESOLVE_IN_ROOT);
  SAY(at, "a.txt", 0, 0xfff);
  SAY(at, "a.txt", 1ull << 40, 0);
  return 0;
}
"""


def test_openat2_below_a_folder(place):
    prog = compiled(place.tmp, "openat2", OPENAT2)
    plain = place.tmp / "plain/lake"
    plain.mkdir(parents=True)
    (plain / "a.txt").write_text(TEXT)
    assert place.run([prog, place.lake]).stdout == place.plain([prog, plain]).stdout


def test_a_limit_on_file_sizes(place):
    """The record of an error must not be the program's death by SIGXFSZ."""
    text = """if 1:
        import os, resource, signal, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        try:
            os.mkdir(sys.argv[1] + "/new")
        except OSError as e:
            print(e.errno)
        print(open(sys.argv[1] + "/a.txt").read(), end="")
        """
    assert place.run(["python3", "-c", text, place.lake]).stdout == f"30\n{TEXT}"


# ---- second review

EXEC_TWICE = """
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
  char *env[1000];
  int n = 0;
  for (char **e = environ; *e && n < 990; e++) env[n++] = *e;
  env[n++] = argv[1];
  env[n] = 0;
  execve(argv[2], argv + 2, env);
  return 99;
}
"""


@pytest.mark.parametrize("last", ["LD_PRELOAD=", "LD_PRELOAD=/nowhere/other.so"])
def test_a_variable_that_stands_twice(place, last):
    """ld.so takes the last one."""
    prog = compiled(place.tmp, "twice", EXEC_TWICE)
    done = place.run([prog, last, "/bin/cat", f"{place.lake}/a.txt"])
    assert done.stdout == TEXT


SPAWNP = """
#include <spawn.h>
#include <sys/wait.h>
extern char **environ;
int main(int argc, char **argv)
{
  pid_t pid;
  int status = 0;
  if (posix_spawnp(&pid, argv[1], 0, 0, argv + 1, environ)) return 99;
  waitpid(pid, &status, 0);
  return WEXITSTATUS(status);
}
"""


def test_posix_spawnp_of_a_program_with_libasan(place, tmp_path_factory):
    bin = tmp_path_factory.mktemp("bin")  # not above a prefix: that is looked through in another way
    compiled(bin, "with-asan", "#include <stdio.h>\nint main(void) { return puts(\"ran\") < 0; }", "-fsanitize=address")
    prog = compiled(place.tmp, "spawnp", SPAWNP)
    done = place.run(["env", "-u", "ASAN_OPTIONS", f"PATH={bin}:{os.environ['PATH']}", prog, "with-asan"], check=False)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr


def test_libasan_by_preload(place):
    """Set by a program for its child, as the tests of extension modules do: ours comes before it."""
    asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    done = place.run(["env", "-u", "ASAN_OPTIONS", f"LD_PRELOAD={asan}", "cat", f"{place.lake}/a.txt"], check=False)
    assert (done.returncode, done.stdout) == (0, TEXT), done.stderr


BY_OWN_LINKS = """if 1:
    import errno, os, sys
    lake, links = sys.argv[1:]
    fd = os.open(lake + "/a.txt", os.O_RDONLY)
    os.chdir(lake)
    os.symlink(f"/proc/self/fd/{fd}", links + "/file")
    os.symlink("file", links + "/chain")
    os.symlink("/proc/self/cwd", links + "/cwd")
    os.symlink("cwd/a.txt", links + "/below")
    def say(name, call, *args, **more):
        try:
            call(*args, **more)
            print(name, args[0], "done")
        except OSError as e:
            if e.errno != errno.EROFS: print(name, args[0], errno.errorcode[e.errno])
    for link in ("file", "chain", "cwd/a.txt", "below"):
        path = f"{links}/{link}"
        say("truncate", os.truncate, path, 3)
        say("chmod", os.chmod, path, 0o600)
        say("utime", os.utime, path, (1, 1))
        say("chown", os.chown, path, os.getuid(), os.getgid())
        say("setxattr", os.setxattr, path, "user.x", b"1")
        say("open", os.open, path, os.O_WRONLY)
        say("creat", os.open, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        say("fopen", open, path, "r+")
    for call in ("mkdir", "mkfifo", "rmdir", "unlink"):
        say(call, getattr(os, call), links + ("/cwd/a.txt" if call == "unlink" else "/cwd/b" if call == "rmdir" else "/cwd/new"))
    say("creat", os.open, links + "/cwd/new", os.O_WRONLY | os.O_CREAT)
    say("excl", os.open, links + "/cwd/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    say("rename", os.rename, links + "/cwd/a.txt", links + "/cwd/b.txt")
    say("symlink", lambda to: os.symlink("x", to), links + "/cwd/new")
    print("end")
    """


def test_nothing_is_changed_through_links_of_ones_own_to_proc(place):
    links = place.tmp / "links"
    links.mkdir()
    (place.source / "b").mkdir()
    cached = lambda: sorted((str(p), p.stat().st_size, p.stat().st_mode, p.stat().st_mtime_ns) for p in (place.tmp / "cache").rglob("data/**/*"))
    place.run(f"cat {place.lake}/a.txt; cd {place.lake}/b")
    before = cached()
    assert len(before) == 2
    assert place.run(["python3", "-c", BY_OWN_LINKS, place.lake, links]).stdout == "end\n"
    assert cached() == before


OWN_ROOT = """if 1:
    import ctypes, errno, os, sys
    lake, root = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(lake + "/a.txt", os.O_RDONLY)
    os.symlink(f"/proc/self/fd/{fd}", root + "/link")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for resolve in (0x10, 0x08, 0x04, 0x02):
        how = (ctypes.c_uint64 * 3)(os.O_WRONLY, 0, resolve)
        print(libc.syscall(437, at, b"link", how, 24), errno.errorcode[ctypes.get_errno()])
    """


def test_openat2_in_a_root_passes_no_link_of_proc(place):
    def answers(run, lake, name):
        (place.tmp / name).mkdir()
        return run(["python3", "-c", OWN_ROOT, lake, place.tmp / name]).stdout
    assert answers(place.run, place.lake, "ours") == answers(place.plain, place.source, "theirs")


NO_DESCRIPTOR = """if 1:
    import os, resource, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
    try:
        while True: os.open("/dev/null", os.O_RDONLY)
    except OSError:
        pass
    for call, *args in ((os.mkdir,), (os.mkfifo,), (lambda to: os.symlink("/usr", to),)):
        try:
            call(sys.argv[1])
            print("done")
        except OSError as e:
            pass
    print("end")
    """


def test_links_are_seen_without_a_free_descriptor(place):
    assert place.run(["python3", "-c", NO_DESCRIPTOR, place.base / "ln/lake"]).stdout == "end\n"
    assert sorted(os.listdir(place.base / "mnt")) == ["side"]


LATE = """
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
extern char **environ;
int main(int argc, char **argv)
{
  char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(page + 4096, 4096);
  environ = (char **)(page + 4096) - 2;
  environ[0] = "A=b";
  environ[1] = NULL;
  puts(dlopen(argv[1], RTLD_NOW) ? "loaded" : dlerror());
  return 0;
}
"""


def test_loaded_late_into_a_program_with_its_own_environment(place):
    """No vector of the kernel's follows that, perhaps no memory at all."""
    assert place.plain([compiled(place.tmp, "late", LATE), place.library]).stdout == "loaded\n"


SECCOMP = """
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog all = {1, &allow};
  int rc = 0;
  switch (argv[1][0]) {
  case 'p': rc = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL); break;
  case 's': rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL); break;
  case 'y': rc = syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL); break;
  case 'v':
    if (vfork() == 0) {
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      _exit(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0);
    }
    wait(&rc);
    errno = EFAULT;
    if (rc == 0) rc = -1;
    break;
  case 'f': /* one that stays */
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    rc = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &all);
    break;
  }
  printf("%d %d ", rc, rc ? errno : 0);
  printf("%d\\n", open(argv[2], O_RDONLY) >= 0);
  return 0;
}
"""


def test_asking_for_seccomp_is_not_having_it(place):
    """A filter with NULL is how programs learn what the kernel can do; one in a vfork child is the child's."""
    prog = compiled(place.tmp, "seccomp", SECCOMP)
    for way in ("prctl", "seccomp", "y-syscall-prctl", "vfork"):
        (place.source / way).write_text("cold")
        assert place.run([prog, way, place.lake / way]).stdout == "-1 14 1\n", way
    (place.source / "filter").write_text("cold")
    assert place.run([prog, "filter", place.lake / "filter"]).stdout == "0 0 0\n", "no socket where there is a filter"


@pytest.mark.parametrize("log", ["below/log", "../below/log", "{}/log", "log"])
def test_libasan_makes_folders_for_its_log(place, log):
    """Before its own string functions, which stand in the place of libc's, can be called."""
    prog = compiled(place.tmp, "with-asan", "#include <stdio.h>\nint main(void) { return puts(\"ran\") < 0; }", "-fsanitize=address")
    far = place.tmp.parent / "far" / place.tmp.name
    far.mkdir(parents=True)
    done = place.run(["env", f"ASAN_OPTIONS=log_path={log.format(place.base)}", prog], cwd=far)
    assert done.stdout == "ran\n"


def test_a_table_whose_roots_name_no_mapping(place):
    place.lake.mkdir()
    (place.tmp / "to-lake").symlink_to(place.lake)
    table = place.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
    with open(table, "rb") as f:
        data = bytearray(f.read())
    count, offset = struct.unpack_from("<II", data, 72)
    assert count == 1
    struct.pack_into("<I", data, offset + 16, 0x7fffff)
    (place.tmp / "table").write_bytes(data)
    code = "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY); print(os.fstat(fd).st_size > 0)"
    done = place.run(["python3", "-c", code, place.tmp / "to-lake"], bare=True, config=place.tmp / "table", check=False)
    assert done.stdout == "True\n", done
