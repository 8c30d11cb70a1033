"""Other libraries that are preloaded beside ours, in either order, and tools that preload something: programs read, write, walk and start
others below a prefix as they do without them. What a package lacks here is skipped by name."""

import shutil
from pathlib import Path

import pytest

LIBS = Path("/usr/lib/x86_64-linux-gnu")
LIBRARIES = {
    "jemalloc": LIBS / "libjemalloc.so.2",
    "tcmalloc": LIBS / "libtcmalloc_minimal.so.4",
    "mimalloc": LIBS / "libmimalloc.so.2",
    "eatmydata": LIBS / "libeatmydata.so",
    "fakeroot": LIBS / "libfakeroot/libfakeroot-sysv.so",
    "faketime": LIBS / "faketime/libfaketime.so.1",
    "faketime-threads": LIBS / "faketime/libfaketimeMT.so.1",
    "stdbuf": Path("/usr/libexec/coreutils/libstdbuf.so"),
    "asan": LIBS / "libasan.so.8",
}
NEEDED = {"faketime": {"FAKETIME": "-1d"}, "faketime-threads": {"FAKETIME": "-1d"}, "stdbuf": {"_STDBUF_O": "L"},
          "asan": {"ASAN_OPTIONS": "detect_leaks=0"}}
TOOLS = {"fakeroot": ["fakeroot", "--"], "faketime": ["faketime", "-1 day"], "stdbuf": ["stdbuf", "-oL"], "eatmydata": ["eatmydata"]}

PYTHON = """
import os, subprocess, sys, threading
def work(i):
    with open(f"t{i}", "w") as f: f.write(str(i) * 1000)
    with open(f"t{i}") as f: assert f.read() == str(i) * 1000
many = [threading.Thread(target=work, args=(i,)) for i in range(4)]
[t.start() for t in many]; [t.join() for t in many]
fd = os.open("t0", os.O_RDWR); os.fsync(fd); os.close(fd)
pid = os.fork()
if not pid:
    os._exit(open("a.txt").read() != "hello\\n")
assert os.waitpid(pid, 0)[1] == 0
print(subprocess.run(["cat", "a.txt"], capture_output=True, text=True).stdout, sorted(os.listdir(".")), os.getcwd())
"""
# Reads, writes, walks, changes names, starts programs; the last line is of the folder as others see it.
SCRIPT = f"""set -e
cd "$1"
cat a.txt; cp sub/b.bin copied; cmp copied sub/b.bin; wc -c < sub/b.bin
echo more >> copied; mv copied moved; mkdir d; echo x > d/y; find . | sort; stat -c '%n %s' a.txt moved d/y
/usr/bin/python3 -c '{PYTHON}'
tail -c 5 moved; rm -r d t1; ls
"""


@pytest.fixture
def place(prelux, tmp_path):
    for name in ("plain", "remote"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a.txt").write_text("hello\n")
        (tmp_path / name / "sub/b.bin").write_bytes(bytes(range(256)) * 999)
    prelux.lake = prelux.file_mapping(tmp_path / "remote", write="sync")
    prelux.remote, prelux.folder = tmp_path / "remote", tmp_path / "plain"
    return prelux


def check(place, done):
    """The output is that of a plain folder without any preload, and the remote has what that folder has."""
    oracle = place.plain(["sh", "-c", SCRIPT, "sh", place.folder])
    assert done.stdout == oracle.stdout.replace(str(place.folder), place.lake)
    assert done.stderr == ""
    assert contents(place.remote) == contents(place.folder)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("order", ["before", "behind"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_library(place, name, order):
    if not LIBRARIES[name].exists():
        pytest.skip(f"{LIBRARIES[name]} is not installed")
    both = [LIBRARIES[name], place.library] if order == "before" else [place.library, LIBRARIES[name]]
    if name == "asan" and order == "behind":
        NEEDED[name] = {"ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
    env = {"LD_PRELOAD": ":".join(map(str, both)), **NEEDED.get(name, {})}
    check(place, place.run(["sh", "-c", SCRIPT, "sh", place.lake], bare=True, env=env))


@pytest.mark.parametrize("order", ["inside", "outside"])
@pytest.mark.parametrize("name", TOOLS)
def test_tool(place, name, order):
    """`prelux run -- TOOL sh` and `TOOL prelux run -- sh`."""
    if not shutil.which(TOOLS[name][0]):
        pytest.skip(f"{name} is not installed")
    program = ["sh", "-c", SCRIPT, "sh", place.lake]
    if order == "inside":
        check(place, place.run([*TOOLS[name], *program]))
    else:
        check(place, place.plain([*TOOLS[name], place.exe, "--config", place.config_path, "run", "--", *program]))
