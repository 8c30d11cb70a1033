"""32-bit programs: not served, but not disturbed either, and what they start is served again. ld.so finds an empty library for them by
$LIB in LD_PRELOAD (the Makefile's PRELOAD)."""

import os
import subprocess

import pytest

from tests.harness import ROOT
from tests.servers.debs import I386

LAKE = "/prelux-32"
# With no headers and no start files of 32 bits: words are printed, or the rest of the line is executed.
SOURCE = r"""
extern int puts(const char *text);
extern int execv(const char *path, char **argv);
extern char *getenv(const char *name);
extern void exit(int status);
__attribute__((used)) static void begin(long *stack)
{
  char **argv = (char **)(stack + 1);
  if (stack[0] > 1) {
    execv(argv[1], argv + 1);
    exit(127);
  }
  puts(getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "no preload");
  exit(0);
}
__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call begin\n");
"""


@pytest.fixture
def lake(prelux):
    (prelux.tmp / "source").mkdir()
    (prelux.tmp / "source" / "a").write_text("served\n")
    prelux.file_mapping(prelux.tmp / "source", LAKE)
    if not (prelux.build / "preload").is_dir():
        pytest.skip("the compiler makes no 32-bit library here")
    return prelux


@pytest.fixture
def program(lake):
    """It is linked with the libc of Debian's libc6-i386, wherever that lies."""
    if I386.missing():
        pytest.skip(I386.missing())
    source, out, lib = lake.tmp / "small.c", lake.tmp / "small", I386.root / "lib32"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-m32", "-O1", "-fno-pic", "-no-pie", "-nostdlib", "-o", out, source, lib / "libc.so.6", "-Wl,-rpath," + str(lib),
                    "-Wl,--dynamic-linker," + str(lib / "ld-linux.so.2")], check=True)
    try:
        assert subprocess.run([out], env={}, capture_output=True, text=True).stdout == "no preload\n"
    except OSError as error:
        pytest.skip(f"this kernel runs no 32-bit programs: {error}")
    return out


def right(done, text):
    assert (done.stdout, done.stderr) == (text, "")


def by_class(lake):
    return lake.preload


def test_ld_so_is_silent(lake, program):
    said = by_class(lake) + "\n"
    right(lake.run([program]), said)
    right(lake.run(["bash", "-c", f"{program}; exit $?"]), said)
    right(lake.run(["python3", "-c", f"import os; os.system('{program}')"]), said)
    right(lake.run(["python3", "-c", f"import subprocess; subprocess.run(['{program}'])"]), said)
    right(lake.run(["env", "-i", program]), said)


def test_in_a_shell_without_prelux(lake, program):
    """Nobody takes anything out of its environment there."""
    right(lake.plain(f'eval "$({lake.exe} --config {lake.config_path} env)"; {program}'), by_class(lake) + "\n")


def test_its_children_are_served(lake, program):
    right(lake.run([program, "/bin/cat", f"{LAKE}/a"]), "served\n")
    right(lake.run([program, program, "/bin/sh", "-c", f"{program} /bin/cat {LAKE}/a"]), "served\n")
    right(lake.run(["env", "-i", program, "/usr/bin/env", "/bin/cat", f"{LAKE}/a"]), "served\n")


def test_a_plain_path_is_taken_out(lake, program):
    """What names one library only is kept from programs that cannot load it."""
    right(lake.run(["bash", "-c", f"{program}; exit $?"], bare=True), "no preload\n")


def test_all_classes_are_there(lake):
    """The folders that $LIB means on Debian and its like, and elsewhere; and where a shell has taken it for a variable of its own."""
    machine = {"lib/x86_64-linux-gnu": 64, "lib64": 64, "lib/i386-linux-gnu": 32, "lib32": 32, ".": 64}
    for folder, bits in machine.items():
        path = lake.build / "preload" / folder / "libprelux.so"
        assert path.read_bytes()[4] == bits // 32, folder
        assert bits == 32 or os.path.samefile(path, lake.library), folder


def test_installed(lake):
    """As `make install` puts them, and used by what it has installed."""
    prefix = lake.tmp / "prefix"
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    make = ["make", "-C", ROOT, f"BUILD={lake.build}", f"PREFIX={prefix}"]
    subprocess.run([*make, "install"], check=True, capture_output=True, env=env)
    argv = [prefix / "bin/prelux", "--config", lake.config_path, "run", "--", "sh", "-c", f"cat {LAKE}/a; echo $LD_PRELOAD"]
    right(subprocess.run(argv, env=lake.env, capture_output=True, text=True), f"served\n{prefix}/lib/prelux/$LIB/libprelux.so\n")
    subprocess.run([*make, "uninstall"], check=True, capture_output=True, env=env)
    assert not [path for path in prefix.rglob("*") if not path.is_dir()]
