"""Programs of an older release, with its libc, in a chroot: the library that was built here serves them, the daemon runs outside."""

import os
import shutil
import subprocess

import pytest

from tests.servers import debs

LAKE = "/prelux-old"
ENTER = """
set -e
root=$1; shift
for folder in /proc /dev "$PRELUX_BUILD" "$PLACE" "$PRELUX_RUNTIME_DIR"; do
  mkdir -p "$root$folder"
  mount --rbind "$folder" "$root$folder"
done
exec chroot "$root" "$@"
"""
# What a program does to a folder; run in a plain one and in a mapped one by the same interpreter.
WORK = r"""
import glob, os, shutil, subprocess, sys
os.chdir(sys.argv[1])
with open("made", "w") as f:
    f.write("one\n")
os.rename("made", "moved")
with open("moved", "a+") as f:
    f.write("two\n")
    f.seek(0)
    print(f.read(), os.fstat(f.fileno()).st_size, os.stat("moved").st_size)
os.mkdir("d")
os.makedirs("d/e/f")
shutil.copy("moved", "d/e/copy")
print(sorted(os.listdir(".")), sorted(e.name + str(e.is_dir()) for e in os.scandir("d")), sorted(glob.glob("d/*/c*")))
print([(top, sorted(folders), sorted(files)) for top, folders, files in os.walk("d")])
print(subprocess.check_output(["cat", "moved"]), subprocess.check_output("cd d/e && cat copy; pwd | sed s=.*/=="  , shell=True))
print(os.path.realpath("d/../moved")[len(sys.argv[1]):], os.access("nothing", os.R_OK), os.statvfs(".").f_namemax)
try:
    os.open("nothing", os.O_RDONLY)
except OSError as e:
    print(e.errno, e.filename)
os.unlink("d/e/copy")
shutil.rmtree("d")
print(subprocess.check_output("find . | sort; tar cf - . | tar tf - | sort; grep -r t . | sort; ls -l moved | cut -c1-10", shell=True).decode())
"""


@pytest.fixture(scope="module")
def old():
    found = debs.oldest()
    if not found:
        pytest.skip(debs.BIONIC.missing())
    can = subprocess.run(["unshare", "-m", "--propagation", "private", "chroot", found.root, "/bin/bash", "-c", ":"], capture_output=True, text=True)
    if can.returncode:
        pytest.skip(f"no chroot in a name space of one's own here: {can.stderr.strip()}")
    return found


@pytest.fixture
def lake(prelux):
    prelux.source = prelux.tmp / "source"
    prelux.source.mkdir()
    (prelux.source / "moved").write_text("before\n")
    prelux.file_mapping(prelux.source, LAKE, write="async")
    return prelux


def inside(lake, old, argv, mapped):
    """argv in the old root: prelux's own command is not for its libc, so nothing but the library comes along."""
    env = {"PATH": "/usr/bin:/bin", "PRELUX_BUILD": str(lake.build), "PLACE": str(lake.tmp), "PRELUX_RUNTIME_DIR": str(lake.runtime), "LC_ALL": "C.UTF-8", "HOME": str(lake.tmp)}
    more = []
    if mapped:
        words = lake.cli("env", "--json")
        more = ["env", f"LD_PRELOAD={lake.library}", f"PRELUX_CONFIG={words['PRELUX_CONFIG']}"]
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", ENTER, "enter", old.root, *more, *argv]
    return subprocess.run(command, env={**env, "PATH": env["PATH"] + ":/usr/sbin:/sbin"}, capture_output=True, text=True, timeout=120)


def test_its_libc_is_old(lake, old):
    said = inside(lake, old, ["ldd", "--version"], False).stdout.split("\n")[0].split()[-1]
    assert tuple(map(int, said.split("."))) < (2, 34), said


def test_work(lake, old):
    python = "/usr/bin/" + os.path.basename(str(old.program))
    plain = lake.tmp / "plain"
    plain.mkdir()
    shutil.copy(lake.source / "moved", plain)
    work = lake.tmp / "work.py"
    work.write_text(WORK)
    want = inside(lake, old, [python, work, plain], False)
    assert want.returncode == 0 and "one" in want.stdout, want.stderr
    done = inside(lake, old, [python, work, LAKE], True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", want.stdout)
    lake.cli("flush")
    assert sorted(os.listdir(lake.source)) == sorted(os.listdir(plain))
    assert (lake.source / "moved").read_text() == (plain / "moved").read_text()
    assert not lake.errors()


def test_read_only_commands(lake, old):
    """stat by the names that programs were linked with before glibc 2.33, in C and in a shell."""
    (lake.source / "folder").mkdir()
    (lake.source / "folder" / "file").write_text("x" * 70000)
    done = inside(lake, old, ["bash", "-c", f"cd {LAKE}/folder && ls -li file | cut -d' ' -f1; stat -c '%i %s %F' file; wc -c < file; [ -e ../moved ] && pwd"], True)
    lines = done.stdout.splitlines()
    number = lines[0]
    assert done.stderr == "" and lines == [number, f"{number} 70000 regular file", "70000", f"{LAKE}/folder"]
    assert number == lake.run(f"stat -c %i {LAKE}/folder/file").stdout.strip()
