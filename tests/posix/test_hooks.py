"""Calls in awkward places: left in the middle, in handlers, in children that share memory, without descriptors, without
rights, on small stacks, beside other preloaded libraries. Each program of hooks_*.c runs on the plain folder first: it must
say the same there."""

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx

HERE = Path(__file__).resolve().parent
LAKE = "/prelux-hooks"
DELAY = 0.4  # seconds that a slow answer takes
STRIKE_MS = 100
SCRIPT = "#!/bin/sh\necho script ran\n"


def content(name):
    return f"content of {name}\n" * 100


def make_files(folder, count=20):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"f{n:03}").write_text(content(f"f{n:03}"))
    script = folder / "script"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    return folder


def program(prelux, name):
    path = prelux.build / "tests" / "posix" / name
    if not path.exists():
        pytest.fail(f"{path} is missing: make posix-programs")
    return path


def compiled(folder, name, text, *flags):
    """A program or library of the test's own."""
    source = folder / (name + ".c")
    source.write_text(text)
    return compiled_file(folder, name, source, *flags)


def compiled_file(folder, name, source, *flags):
    out = folder / name
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-I", HERE.parent.parent, "-o", out, source, *flags, "-pthread",
                    "-ldl"], check=True, stdin=subprocess.DEVNULL)
    return out


@pytest.fixture
def lake(prelux):
    """A `file` mapping of twenty small files and a script; .source is the same data."""
    prelux.source = make_files(prelux.tmp / "source")
    (prelux.tmp / "plain").write_text(content("plain"))
    prelux.file_mapping(prelux.source, LAKE, freshness="immutable")
    return prelux


@pytest.fixture
def cold200(prelux):
    prelux.source = make_files(prelux.tmp / "source", 200)
    prelux.file_mapping(prelux.source, LAKE)
    return prelux


@pytest.fixture
def slow(prelux):
    """An `http` mapping: LAKE/slow answers late, LAKE/quick at once."""
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    prelux.source = prelux.tmp / "source"
    make_files(prelux.source / "slow")
    make_files(prelux.source / "quick")
    with Nginx(prelux.source) as server, FaultProxy(server.url) as proxy:
        proxy.fault("/slow", delay=DELAY)
        prelux.proxy = proxy
        prelux.config({"version": 1, "backends": {"src": {"type": "http", "url": proxy.url}},
                       "mappings": [{"local": LAKE, "remote": "src:/"}]})
        yield prelux


@pytest.fixture
def public():
    """A folder that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="plx-public-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def need_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


# Left in the middle


@pytest.mark.parametrize("how,call", [(how, call) for how, calls in {
    "longjmp": ["open", "read", "fopen", "stat", "access", "realpath", "opendir"], "cancel": ["open", "read", "opendir"],
    "cancel-async": ["open", "stat"]}.items() for call in calls])
def test_left_in_the_middle(slow, how, call):
    prog = program(slow, "hooks_unwind")
    slow.plain([prog, how, call, slow.source / "slow", slow.source / "quick", "20"])
    if how == "longjmp" and call == "opendir":
        slow.proxy.fault("/slow/", delay=DELAY, times=3)  # the folder is the same in each round
    done = slow.run([prog, how, call, f"{LAKE}/slow", f"{LAKE}/quick", str(STRIKE_MS)])
    left = int(done.stdout.split()[1])
    assert left >= 1, "no call was slow enough to be left"
    assert len(slow.daemons()) == 1


# Signals


@pytest.mark.parametrize("how", ["storm", "nested", "threads"])
def test_signals_every_millisecond(cold200, how):
    prog = program(cold200, "hooks_signals")
    assert cold200.plain([prog, how, cold200.source, "200"]).stdout == "right 200\n"
    assert cold200.run([prog, how, LAKE, "200"]).stdout == "right 200\n"


# Threads and processes


@pytest.mark.slow
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_threads_open_while_another_forks(cold200, warm):
    prog = program(cold200, "hooks_threads")
    assert cold200.plain([prog, "fork", cold200.source, "20"]).stdout == "right\n"
    if warm:
        cold200.run(f"cat {LAKE}/f* > /dev/null")
    assert cold200.run([prog, "fork", LAKE, "20"]).stdout == "right\n"


@pytest.mark.parametrize("how", ["clone-vm", "clone3"])
def test_child_that_shares_memory(lake, how):
    prog = program(lake, "hooks_threads")
    said = lake.plain([prog, how, lake.source, "20"]).stdout
    if said == "no clone3\n":
        pytest.skip("no clone3 here")
    assert said == "right\n"
    assert lake.run([prog, how, LAKE, "20"]).stdout == "right\n"


def test_raw_fork(lake):
    prog = program(lake, "hooks_threads")
    assert lake.run([prog, "_Fork", LAKE, "20"]).stdout == lake.plain([prog, "_Fork", lake.source, "20"]).stdout


def test_vfork_child(lake):
    prog = program(lake, "hooks_threads")
    assert lake.plain([prog, "vfork", lake.source, "15", lake.source / "script"]).stdout == "script ran\nright\n"
    assert lake.run([prog, "vfork", LAKE, "15", f"{LAKE}/script"]).stdout == "script ran\nright\n"


@pytest.mark.parametrize("close_fds", [True, False])
def test_python_subprocess_runs_a_cold_script(lake, close_fds):
    text = f"import subprocess, sys; print(subprocess.run([sys.argv[1]], close_fds={close_fds}, capture_output=True, text=True).stdout, end='')"
    assert lake.run(["python3", "-c", text, f"{LAKE}/script"]).stdout == "script ran\n"


# Descriptors


@pytest.mark.parametrize("freshness", ["immutable", "skip"])
def test_lowest_number(lake, freshness):
    """With `skip` the descriptor is passed by the daemon, while the request's socket is open."""
    prog = program(lake, "hooks_fds")
    lake.file_mapping(lake.source, LAKE, freshness=freshness)
    assert lake.plain([prog, "lowest", lake.source, "12"]).stdout == "right\n"
    assert lake.run([prog, "lowest", LAKE, "12"]).stdout == "right\n"


@pytest.mark.parametrize("how", ["dup2", "close_range", "closefrom"])
def test_all_numbers_taken_during_a_miss(slow, how):
    prog = program(slow, "hooks_fds")
    done = slow.run([prog, "storm", f"{LAKE}/slow", "f005", how, str(STRIKE_MS)])
    assert done.stdout == "right\n"


def test_no_descriptor_left(lake):
    """EMFILE as libc says it; calls that need no descriptor go on."""
    prog = program(lake, "hooks_fds")
    assert lake.plain([prog, "full", lake.source, lake.tmp / "plain"]).stdout == "right\n"
    assert lake.run([prog, "full", LAKE, lake.tmp / "plain"]).stdout == "right\n"


def test_every_descriptor_closed(lake):
    prog = program(lake, "hooks_fds")
    assert lake.plain([prog, "none", lake.source]).stdout == "right\n"
    assert lake.run([prog, "none", LAKE]).stdout == "right\n"


def test_ten_thousand_descriptors_at_exec(lake):
    if int(lake.plain("ulimit -Hn").stdout.replace("unlimited", "1000000")) < 10_100:
        pytest.skip("RLIMIT_NOFILE is below 10,100 here")
    prog, reader = program(lake, "hooks_fds"), program(lake, "hooks_read")
    assert lake.run([prog, "many", "10000", reader, LAKE, "f000", "f001"]).stdout == "right\n"
    assert lake.run([prog, "many", "10000", f"{LAKE}/script"]).stdout == "script ran\n"


def test_program_that_closes_all_at_start(lake):
    assert lake.run([program(lake, "hooks_read"), "--close-all", LAKE, "f000", "f001"]).stdout == "right\n"
    assert lake.run([program(lake, "hooks_read"), "--close-all", LAKE, "f002"], bare=True).stdout == "right\n"


# Stacks


def test_small_thread_stacks(lake):
    (lake.source / "sub").mkdir()
    (lake.source / "sub" / "f000").write_text(content("f000"))
    prog = program(lake, "hooks_stack")
    plain = lake.plain([prog, lake.source, lake.source / "script", lake.source / "sub"]).stdout
    assert plain == "script ran\nscript ran\nright\n"
    assert lake.run([prog, LAKE, f"{LAKE}/script", f"{LAKE}/sub"]).stdout == plain


# Rights


@pytest.mark.parametrize("which", ["openat2", "socket", "connect", "readlinkat", "all"])
@pytest.mark.parametrize("how", ["prctl", "syscall"])
def test_seccomp_filter_that_kills(lake, how, which):
    prog = program(lake, "hooks_seccomp")
    plain = lake.tmp / "plain"
    assert lake.plain([prog, how, which, lake.source, plain]).stdout.split() == ["right"] * 5
    lake.run(["cat", f"{LAKE}/f000"])
    advice, hit, stat, miss, other = lake.run([prog, how, which, LAKE, plain]).stdout.split()
    assert (advice, hit, stat, other) == ("right",) * 4
    assert miss == "5"


@pytest.mark.parametrize("which", ["openat2", "readlinkat", "getcwd", "clock_gettime", "getpid"])
def test_seccomp_filter_before_anything_was_asked_for(lake, which):
    """Where it is, what is open, and the index are looked for while that may be: a program that uses names alone need not know of such calls."""
    prog = program(lake, "hooks_seccomp")
    lake.run(["ls", "-l", LAKE])
    lake.run(["cat", f"{LAKE}/f000"])
    for cwd in (lake.tmp, lake.source, lake.source / "sub"):
        cwd.mkdir(exist_ok=True)
        (cwd / "plain").write_text(content("plain"))
        assert lake.plain([prog, "prctl", which, lake.source, cwd, "late"], cwd=cwd).stdout == "right\n"
        assert lake.run([prog, "prctl", which, LAKE, cwd, "late"], cwd=cwd).stdout == "right\n"


def test_seccomp_filter_that_knows_libcs_fstat_alone(lake):
    """glibc 2.33 to 2.38 makes fstat by newfstatat: a filter that was made for them need not allow the other one."""
    prog = program(lake, "hooks_seccomp")
    plain = lake.tmp / "plain"
    done = lake.plain([prog, "prctl", "fstat", lake.source, plain], check=False)
    if done.returncode < 0:
        pytest.skip("this libc's fstat is the kernel's")
    assert done.stdout.split() == ["right"] * 5
    lake.run(["cat", f"{LAKE}/f000"])
    assert lake.run([prog, "prctl", "fstat", LAKE, plain]).stdout.split() == ["right", "right", "right", "5", "right"]
    lake.run(["ls", LAKE])
    assert lake.plain([prog, "prctl", "fstat", lake.source, lake.tmp, "late"]).stdout == "right\n"
    assert lake.run([prog, "prctl", "fstat", LAKE, lake.tmp, "late"]).stdout == "right\n"


def rights(lake, *args):
    done = lake.run([program(lake, "hooks_rights"), *args])
    return done.stdout.split()


def test_setuid_in_mid_run(lake, public):
    need_root()
    (public / "plain").write_text(content("plain"))
    hit, miss, other = rights(lake, "setuid", LAKE, public / "plain")
    assert hit in ("right", "5") and miss == "5" and other == "right"


@pytest.mark.parametrize("how", ["seteuid", "setresuid", "setfsuid"])
def test_another_user_for_a_while(lake, public, how):
    """As servers are: meanwhile what they may, and afterwards all is as it was."""
    need_root()
    (public / "plain").write_text(content("plain"))
    assert lake.plain([program(lake, "hooks_rights"), how, lake.source, public / "plain"], check=False).returncode == 0
    hit, miss, other, *again = rights(lake, how, LAKE, public / "plain")
    assert hit in ("right", "5", "13") and miss in ("right", "5", "13") and other == "right"
    assert again == ["right"] * 3


def test_chroot_in_mid_run(lake, public):
    need_root()
    (public / "plain").write_text(content("plain"))
    hit, miss, other = rights(lake, "chroot", LAKE, "/plain", public)
    assert hit in ("right", "5") and miss == "5" and other == "right"
    assert sorted(os.listdir(public)) == ["plain"]


def test_mount_namespace_in_mid_run(lake):
    need_root()
    assert rights(lake, "mounts", LAKE, lake.tmp / "plain") == ["right"] * 3


def test_cache_hidden_in_mid_run(lake):
    """The daemon passes descriptors to who does not see the cache folder."""
    need_root()
    assert rights(lake, "hidden", LAKE, lake.tmp / "plain", lake.cache) == ["right"] * 3


# Environments


@pytest.mark.parametrize("how", ["exec", "spawn", "fork"])
@pytest.mark.parametrize("which", ["null", "empty", "big"])
def test_odd_environment(lake, which, how):
    prog = program(lake, "hooks_env")
    assert lake.plain([prog, which, how, "/bin/cat", lake.source / "f003"]).stdout == content("f003")
    assert lake.run([prog, which, how, "/bin/cat", f"{LAKE}/f003"]).stdout == content("f003")
    assert lake.run([prog, which, how, f"{LAKE}/script"]).stdout == "script ran\n"


def test_big_environment_arrives_whole(lake):
    prog = program(lake, "hooks_env")
    env = lake.run([prog, "big", "exec", "/usr/bin/env"]).stdout.split("\n")
    assert sorted(line[:6] for line in env if line.startswith("BIG_")) == [f"BIG_{c}=" for c in "ABCDEFGHIJKLMNOP"]


# Other libraries

WRAP = r"""
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
static int opened;
#define OPEN(name) \
  int name(const char *path, int flags, ...) \
  { \
    int (*next)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
    va_list ap; \
    va_start(ap, flags); \
    int mode = va_arg(ap, int); \
    va_end(ap); \
    opened++; \
    return next(path, flags, mode); \
  }
#define FOPEN(name) \
  FILE *name(const char *path, const char *mode) \
  { \
    FILE *(*next)(const char *, const char *) = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, #name); \
    opened++; \
    return next(path, mode); \
  }
OPEN(open)
OPEN(open64)
FOPEN(fopen)
FOPEN(fopen64)
__attribute__((destructor)) static void tell(void) { if (getenv("TELL")) fprintf(stderr, "wrapped %d\n", opened); }
"""


@pytest.mark.parametrize("order", ["before", "after", "run"])
def test_another_preloaded_library(lake, order):
    wrap = compiled(lake.tmp, "wrap.so", WRAP, "-shared", "-fPIC")
    reader = program(lake, "hooks_read")
    if order == "run":
        done = lake.run([reader, LAKE, "f000", "f001"], env={"LD_PRELOAD": wrap, "TELL": "1"})
    else:
        names = [wrap, lake.library] if order == "before" else [lake.library, wrap]
        done = lake.run([reader, LAKE, "f000", "f001"], bare=True, env={"LD_PRELOAD": ":".join(map(str, names)), "TELL": "1"})
    assert done.stdout == "right\n"
    # In front of us the other library sees everything; behind us it is there.
    assert "wrapped " in done.stderr
    if order == "before":
        assert int(done.stderr.split("wrapped ")[1].split()[0]) >= 4


MALLOC = """
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
static char pool[64 << 20] __attribute__((aligned(16)));
static size_t used;
static int looked;
static void *take(size_t n, size_t align)
{
  if (!looked) {
    char buf[64];
    looked = 1;
    readlink("/etc/malloc.conf", buf, sizeof buf);
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    if (fd >= 0) { if (read(fd, buf, sizeof buf) < 0) _exit(99); close(fd); }
  }
  size_t at = __atomic_fetch_add(&used, n + align + 32, __ATOMIC_RELAXED);
  if (at + n + align + 32 > sizeof pool) { errno = ENOMEM; return NULL; }
  char *p = (char *)(((size_t)pool + at + 16 + align - 1) / align * align);
  ((size_t *)p)[-1] = n;
  return p;
}
void *malloc(size_t n) { return take(n, 16); }
void free(void *p) { (void)p; }
void *calloc(size_t a, size_t b) { void *p = take(a * b, 16); if (p) memset(p, 0, a * b); return p; }
void *realloc(void *p, size_t n)
{
  void *q = take(n, 16);
  if (p && q) memcpy(q, p, ((size_t *)p)[-1] < n ? ((size_t *)p)[-1] : n);
  return q;
}
void *memalign(size_t align, size_t n) { return take(n, align < 16 ? 16 : align); }
void *aligned_alloc(size_t align, size_t n) { return memalign(align, n); }
int posix_memalign(void **out, size_t align, size_t n) { *out = memalign(align, n); return *out ? 0 : ENOMEM; }
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_preload_that_replaces_malloc(lake, order):
    """It opens files in the first malloc, which may be inside ld.so or inside our start."""
    library = compiled(lake.tmp, "malloc.so", MALLOC, "-shared", "-fPIC", "-fno-builtin")
    names = [library, lake.library] if order == "before" else [lake.library, library]
    env = {"LD_PRELOAD": ":".join(map(str, names))}
    assert lake.run([program(lake, "hooks_read"), LAKE, "f000", "f001"], bare=True, env=env).stdout == "right\n"
    assert lake.run(["ls", LAKE], bare=True, env=env).stdout.split()[0] == "f000"
    assert lake.run(["cat", f"{LAKE}/f005"], env={"LD_PRELOAD": library}).stdout == content("f005")


def test_program_with_shared_libasan(lake):
    try:
        prog = compiled_file(lake.tmp, "asan", HERE / "hooks_read.c", "-fsanitize=address")
    except subprocess.CalledProcessError:
        pytest.skip("gcc has no libasan here")
    if "libasan" not in lake.plain(["ldd", prog]).stdout:
        pytest.skip("gcc links libasan statically here")
    assert lake.plain([prog, lake.source, "f000"]).stdout == "right\n"
    assert lake.run([prog, LAKE, "f000", "f001"]).stdout == "right\n"
    assert lake.run(f"{prog} {LAKE} f002; echo $?").stdout == "right\n0\n"
    script = "import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], dict(os.environ)); sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    assert lake.run(["python3", "-c", script, prog, LAKE, "f003"]).stdout == "right\n"


PLUGIN = """
#include <fcntl.h>
#include <unistd.h>
int plugin(const char *path) { int fd = open(path, O_RDONLY); char c; int n = fd < 0 ? -1 : (int)read(fd, &c, 1); close(fd); return n; }
"""
HOST = """
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
  void *lib = dlopen(argv[1], RTLD_NOW | RTLD_DEEPBIND);
  if (!lib) { fprintf(stderr, "%s\\n", dlerror()); return 1; }
  int (*plugin)(const char *) = (int (*)(const char *))dlsym(lib, "plugin");
  for (int i = 2; i < argc; i++) printf("%d\\n", plugin(argv[i]));
  return 0;
}
"""


def test_deepbind(lake):
    """A library that prefers its own dependencies still reads what is mapped; where it lies does not matter."""
    library = compiled(lake.tmp, "plugin.so", PLUGIN, "-shared", "-fPIC")
    host = compiled(lake.tmp, "host", HOST)
    shutil.copy(library, lake.source / "plugin.so")
    assert lake.run([host, library, f"{LAKE}/f000", lake.tmp / "plain"]).stdout == "1\n1\n"
    assert lake.run([host, f"{LAKE}/plugin.so", f"{LAKE}/f001", lake.tmp / "plain"]).stdout == "1\n1\n"


EARLY = """
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
char early[64];
__attribute__((constructor)) static void begin(void)
{
  int fd = open(getenv("EARLY"), O_RDONLY);
  if (fd >= 0) { ssize_t n = read(fd, early, 15); early[n > 0 ? n : 0] = 0; close(fd); }
}
"""
EARLY_MAIN = '#include <stdio.h>\nextern char early[];\nint main(void) { puts(early); return 0; }\n'


@pytest.mark.parametrize("bare", [False, True])
def test_constructor_that_opens_before_main(lake, bare):
    compiled(lake.tmp, "libearly.so", EARLY, "-shared", "-fPIC")
    prog = compiled(lake.tmp, "early", EARLY_MAIN, lake.tmp / "libearly.so", f"-Wl,-rpath,{lake.tmp}")
    for name in ("f000", "f001"):
        assert lake.run([prog], bare=bare, env={"EARLY": f"{LAKE}/{name}"}).stdout == f"content of {name}\n"
    # A library of the preload list that stands behind us, and one in front of us.
    for names in ([lake.tmp / "libearly.so", lake.library], [lake.library, lake.tmp / "libearly.so"]):
        env = {"EARLY": f"{LAKE}/f002", "LD_PRELOAD": ":".join(map(str, names))}
        assert lake.run([prog], bare=True, env=env).stdout == "content of f002\n"


@pytest.mark.parametrize("flags", [["-fno-plt"], ["-Wl,-z,now"], ["-Wl,-z,lazy"], ["-D_FORTIFY_SOURCE=2", "-O2"], ["-D_FILE_OFFSET_BITS=64"]],
                         ids=["no plt", "now", "lazy", "fortified", "large files"])
def test_ways_to_link(lake, flags):
    prog = compiled_file(lake.tmp, "reader", HERE / "hooks_read.c", *flags)
    assert lake.run([prog, LAKE, "f000", "f001"]).stdout == "right\n"


def test_bind_now(lake):
    assert lake.run([program(lake, "hooks_read"), LAKE, "f000"], env={"LD_BIND_NOW": "1"}).stdout == "right\n"
    assert lake.run(["cat", f"{LAKE}/f001"], bare=True, env={"LD_BIND_NOW": "1"}).stdout == content("f001")


# Programs out of reach run as if nothing were there

ENV32 = """
.globl _start
_start: mov (%esp), %ecx
  lea 8(%esp,%ecx,4), %esi
1: mov (%esi), %edi
  test %edi, %edi
  jz 9f
  mov %edi, %ecx
2: cmpb $0, (%ecx)
  je 3f
  inc %ecx
  jmp 2b
3: movb $10, (%ecx)
  inc %ecx
  mov %ecx, %edx
  sub %edi, %edx
  mov %edi, %ecx
  mov $4, %eax
  mov $1, %ebx
  int $0x80
  add $4, %esi
  jmp 1b
9: mov $1, %eax
  mov $9, %ebx
  int $0x80
"""


@pytest.fixture
def env32(prelux):
    """A 32-bit program that prints its environment and ends with status 9."""
    source, objects, out = (prelux.tmp / name for name in ("env32.s", "env32.o", "env32"))
    source.write_text(ENV32)
    for argv in (["as", "--32", "-o", objects, source], ["ld", "-m", "elf_i386", "-o", out, objects]):
        done = subprocess.run(argv, capture_output=True, text=True)
        if done.returncode:
            pytest.skip("no 32-bit assembler or linker here: " + done.stderr.strip())
    try:
        assert subprocess.run([out], env={"A": "1"}, capture_output=True).stdout == b"A=1\n"
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error}")
    return out


def test_32_bit_child(lake, env32):
    shutil.copy(env32, lake.source / "env32")
    for argv in ([env32], [f"{LAKE}/env32"], ["bash", "-c", f"{env32}; exit $?"], ["bash", "-c", f"{LAKE}/env32; exit $?"]):
        done = lake.run(argv, check=False, env={"MARK": "1"})
        assert done.returncode == 9 and done.stderr == "" and "MARK=1" in done.stdout
    # Where the program gave its child no preload, a 32-bit one gets none that it could not load.
    done = lake.run([program(lake, "hooks_env"), "empty", "exec", env32], check=False, bare=True)
    assert done.returncode == 9 and "LD_PRELOAD" not in done.stdout
    done = lake.run([program(lake, "hooks_env"), "empty", "exec", env32], check=False)
    assert done.returncode == 9 and ("$LIB" in lake.preload) == (f"LD_PRELOAD={lake.preload}\n" in done.stdout)


def test_static_child(lake):
    try:
        prog = compiled_file(lake.tmp, "static", HERE / "hooks_read.c", "-static")
    except subprocess.CalledProcessError:
        pytest.skip("no static libc here")
    assert lake.run([prog, lake.source, "f000"]).stdout == "right\n"
    done = lake.run([prog, LAKE, "f000"], check=False)
    assert done.returncode == 1 and "errno 2" in done.stderr
    # It is found and run where it lies in a mapping, by whoever can be reached.
    shutil.copy(prog, lake.source / "static")
    assert lake.run(f"{LAKE}/static {lake.source} f001").stdout == "right\n"


def test_musl_child(lake):
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is not installed (Debian: musl-tools)")
    source = lake.tmp / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("musl"); return 0; }\n')
    prog = lake.tmp / "hello"
    subprocess.run(["musl-gcc", "-o", prog, source], check=True)
    assert lake.plain([prog]).stdout == "musl\n"
    for argv in ([prog], ["bash", "-c", f"{prog}; exit $?"], [program(lake, "hooks_env"), "empty", "exec", prog],
                 ["python3", "-c", f"import subprocess; subprocess.run(['{prog}'], check=True)"]):
        done = lake.run(argv)
        assert done.stdout == "musl\n" and done.stderr == ""


def give_rights(prog, how):
    """Whoever runs it has more rights than before: AT_SECURE."""
    os.chown(prog, 0, 0)
    prog.chmod(0o4755 if how == "set-uid" else 0o755)
    if how == "set-uid":
        return
    if os.statvfs(prog).f_flag & os.ST_NOSUID:
        pytest.skip("no rights by files here")
    try:
        os.setxattr(prog, "security.capability", struct.pack("<5I", 0x02000001, 1 << 1, 0, 0, 0))  # setcap cap_dac_override=ep
    except OSError as error:
        pytest.skip(f"no capabilities of files here: {error}")


@pytest.mark.parametrize("how", ["set-uid", "capabilities"])
def test_setuid_program(lake, public, how):
    """AT_SECURE: ld.so drops the preload; the program runs as if prelux were not there, and reads nothing of ours."""
    need_root()
    prog = public / "reader"
    shutil.copy(program(lake, "hooks_read"), prog)
    give_rights(prog, how)
    make_files(public / "data", 2)
    nobody = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": public}
    env = {"LD_PRELOAD": lake.library, "PRELUX_CONFIG": lake.config_path}
    assert lake.plain([prog, public / "data", "f000"], env=env, **nobody).stdout == "right\n"
    done = lake.plain([prog, LAKE, "f000"], env=env, check=False, **nobody)
    assert done.returncode == 1 and "errno 2" in done.stderr
    assert not lake.errors()


@pytest.mark.parametrize("how", ["set-uid", "capabilities"])
def test_setuid_program_that_has_the_library(lake, public, how):
    """ld.so drops a preload there, but not /etc/ld.so.preload, and not what the program itself names: the library leaves such a program alone, too.
    Else whoever runs it would say, by PRELUX_CONFIG, what it finds in which path."""
    need_root()
    prog = compiled_file(public, "reader", HERE / "hooks_read.c", "-Wl,--no-as-needed", lake.library, f"-Wl,-rpath,{lake.library.parent}")
    make_files(public / "data", 2)
    lake.env.update(PRELUX_CONFIG=str(lake.config_path))
    assert lake.plain([prog, LAKE, "f000"]).stdout == "right\n"
    give_rights(prog, how)
    nobody = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": public}
    assert lake.plain([prog, public / "data", "f000"], **nobody).stdout == "right\n"
    before = lake.log()
    done = lake.plain([prog, LAKE, "f000"], check=False, **nobody)
    assert done.returncode == 1 and "errno 2" in done.stderr
    assert not lake.errors() and lake.log() == before
