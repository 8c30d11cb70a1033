"""What a review of the library found: ways to the real folder behind a prefix, or to a cache file, that were open, and
unmapped calls that went another way than without the library."""

import os
import shutil
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
