"""The same process opens below the same mapping again: by the short way (shim/hit.c), which must see all that the whole way sees."""

import os
from pathlib import Path

import pytest

LAKE = "/prelux-again"
# Opens what the lines of stdin say, one after another, in one process that has opened `first` before. A line: the path, a tab, flags.
OPENER = """
import os, sys
def look(path, flags):
    try:
        fd = os.open(path, flags)
    except OSError as e:
        return os.strerror(e.errno)
    try:
        st, number = os.fstat(fd), fd
        if flags & (os.O_PATH | os.O_DIRECTORY):
            return "a folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "a name"
        return os.read(fd, 64).decode() + f" {st.st_size}" + (" same" if st.st_ino == os.stat(path).st_ino else " other")
    finally:
        os.close(fd)
for _ in range(2):
    assert look(sys.argv[1], os.O_RDONLY).startswith("first")
print("ready", flush=True)
for line in sys.stdin:
    path, flags = line.rstrip("\\n").split("\\t")
    print(look(path, int(flags)), flush=True)
"""


class Opener:
    def __init__(self, prelux, first):
        self.child = prelux.popen(["/usr/bin/python3", "-c", OPENER, first], stdin=-1, stdout=-1, text=True)
        assert self.child.stdout.readline() == "ready\n"

    def __call__(self, path, flags=os.O_RDONLY):
        self.child.stdin.write(f"{path}\t{flags}\n")
        self.child.stdin.flush()
        return self.child.stdout.readline().rstrip("\n")

    def end(self):
        self.child.communicate(timeout=30)
        assert self.child.returncode == 0


@pytest.fixture
def lake(prelux):
    prelux.source = prelux.tmp / "source"
    for name, text in {"first": "first", "d/.hidden": "dotted", "d/f": "ff", "d/...": "dots", "d/e/g": "gg", "top": "top"}.items():
        path = prelux.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return prelux


def cached(prelux, path):
    return Path(prelux.cli("map", "--json", path)["cache"])


def test_paths_of_every_shape(lake):
    """Each twice: once nothing is cached, then it is."""
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    ff, enotdir = "ff 2 same", os.strerror(20)
    rows = {f"{LAKE}/d/f": ff, f"/{LAKE}/d/f": ff, f"{LAKE}//d/f": ff, f"{LAKE}/d//f": ff, f"{LAKE}/./d/f": ff, f"{LAKE}/d/./f": ff,
            f"{LAKE}/d/e/../f": ff, f"{LAKE}/d/../d/f": ff, f"{LAKE}/../{LAKE}/d/f": ff, f"{LAKE}/d/e/g": "gg 2 same",
            f"{LAKE}/d/.hidden": "dotted 6 same", f"{LAKE}/d/...": "dots 4 same", f"{LAKE}/d/f/": enotdir, f"{LAKE}/d/f/.": enotdir,
            f"{LAKE}/d/f/..": enotdir, f"{LAKE}/top/../d/f": enotdir, f"{LAKE}/d/missing": os.strerror(2), f"{LAKE}x/d/f": os.strerror(2),
            f"{LAKE}/d/f/x": enotdir, f"{LAKE}/{'x' * 300}": os.strerror(36), f"{LAKE}/" + "y/" * 2100: os.strerror(36)}
    look = Opener(lake, f"{LAKE}/first")
    for path, said in [*rows.items(), *rows.items()]:
        assert look(path) == said, path
    assert look(f"{LAKE}/d/f", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK | os.O_EXCL) == ff
    assert look(f"{LAKE}/d/f", os.O_RDONLY | os.O_DIRECTORY) == enotdir
    assert look(f"{LAKE}/d/f", os.O_PATH) == "a name" and look(f"{LAKE}/d", os.O_PATH) == "a folder"
    assert look(f"{LAKE}/d", os.O_DIRECTORY) == "a folder"
    assert look(f"{LAKE}/d/f", os.O_WRONLY) == os.strerror(30) and look(f"{LAKE}/d/f", os.O_RDONLY | os.O_TRUNC) == os.strerror(30)
    assert look(f"{LAKE}/d/f", os.O_RDONLY | os.O_CREAT) == ff and look(f"{LAKE}/d/f", os.O_RDONLY | os.O_CREAT | os.O_EXCL) == os.strerror(17)
    look.end()


def test_a_mapping_below_another(lake):
    """What was opened by one mapping is no word on what lies below a mapping inside it."""
    other = lake.tmp / "other"
    (other / "e").mkdir(parents=True)
    (other / "f").write_text("of the other")
    lake.config({"version": 1, "backends": {"src": {"type": "file", "root": str(lake.source)}, "oth": {"type": "file", "root": str(other)}},
                 "mappings": [{"local": LAKE, "remote": "src:/", "freshness": "immutable"},
                              {"local": f"{LAKE}/d", "remote": "oth:/", "freshness": "immutable"}]})
    both = lake.config_path.read_text()
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    assert lake.run(f"cat {LAKE}/d/f {LAKE}/d/e/g").stdout == "ffgg"  # in the outer one's tree, and its index
    lake.config(both)
    look = Opener(lake, f"{LAKE}/first")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "of the other 12 same" and look(f"{LAKE}/top") == "top 3 same"
        assert look(f"{LAKE}/d/e/g") == os.strerror(2)
    look.end()


@pytest.mark.parametrize("what", ["evicted", "replaced", "replaced by a folder"])
def test_what_lies_at_the_cache_path_is_not_it(lake, what):
    """The slot says that a file is cached, and something else is there, of which nobody was told: the remote's bytes come, by the program's
    next number, and what was there is not lost."""
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    look = Opener(lake, f"{LAKE}/first")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "ff 2 same"
    real = cached(lake, f"{LAKE}/d/f")
    keep = os.open(real, os.O_RDONLY)  # its inode number is nobody else's meanwhile
    os.unlink(real)
    if what == "replaced":
        real.write_text("no")
    elif what != "evicted":
        real.mkdir()
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "ff 2 same"
    os.close(keep)
    look.end()
    if what == "replaced":
        left = [p for p in lake.cache.rglob("*") if p.is_file() and p.read_bytes() == b"no"]
        assert len(left) == 1 and left[0] != real


def test_another_version(lake):
    """The daemon fetches another version while the program goes on."""
    lake.file_mapping(lake.source, LAKE, freshness="always")
    look = Opener(lake, f"{LAKE}/first")
    for text in ("ff", "new", "newer", "x"):
        new = lake.source / "d/new"
        new.write_text(text)
        os.replace(new, lake.source / "d/f")
        for _ in range(2):
            assert look(f"{LAKE}/d/f") == f"{text} {len(text)} same"
    look.end()


def test_links_that_come_later(lake):
    lake.file_mapping(lake.source, LAKE, freshness="immutable", write="sync")
    look = Opener(lake, f"{LAKE}/first")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "ff 2 same" and look(f"{LAKE}/d/e/g") == "gg 2 same"
    lake.run(f"rm {LAKE}/d/f && ln -s e/g {LAKE}/d/f && ln -s d/e {LAKE}/short")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "gg 2 same" and look(f"{LAKE}/short/g") == "gg 2 same"
        assert look(f"{LAKE}/d/f", os.O_NOFOLLOW) == os.strerror(40)
    lake.run(f"rm {LAKE}/d/f && printf again > {LAKE}/d/f")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "again 5 same"
    look.end()


def test_what_is_being_written(lake):
    """It is staged, not cached, though its name was a hit a moment before; and a hit again when it was sent."""
    lake.file_mapping(lake.source, LAKE, freshness="immutable", write="sync")
    look = Opener(lake, f"{LAKE}/first")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "ff 2 same"
    writer = lake.popen(f"exec 5>{LAKE}/d/f; printf 'what is new' >&5; echo written; read; exec 5>&-; echo closed", stdin=-1, stdout=-1, text=True)
    assert writer.stdout.readline() == "written\n"
    assert look(f"{LAKE}/d/f") == "what is new 11 same"
    assert writer.communicate("\n", timeout=30)[0] == "closed\n"
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "what is new 11 same"
    look.end()


def test_without_a_daemon(lake):
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    look = Opener(lake, f"{LAKE}/first")
    for _ in range(2):
        assert look(f"{LAKE}/d/f") == "ff 2 same"
    lake.kill_daemon()
    assert look(f"{LAKE}/d/f") == "ff 2 same" and not lake.daemons()
    look.end()


def test_locks_are_kept(lake):
    """The slot of one file leads to another, on which the program has a lock: no descriptor of that is closed, as long as the lock is there."""
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    program = f"""
import fcntl, os, sys
held = os.open("{LAKE}/top", os.O_RDONLY)
fcntl.lockf(held, fcntl.LOCK_SH)
for _ in range(2):
    os.close(os.open("{LAKE}/d/f", os.O_RDONLY))
print("held", flush=True)
sys.stdin.readline()
assert os.read(os.open("{LAKE}/d/f", os.O_RDONLY), 9) == b"ff"
print(open("/proc/locks").read().count(f" {{os.getpid()}} "))
"""
    child = lake.popen(["/usr/bin/python3", "-c", program], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "held\n"
    top, other = cached(lake, f"{LAKE}/top"), cached(lake, f"{LAKE}/d/f")
    os.unlink(other)
    os.link(top, other)
    assert child.communicate("\n", timeout=30)[0] == "1\n" and child.returncode == 0


def test_a_number_is_used_again(lake):
    """What was known of a number goes when it is closed: it may come to be ours by a way that nobody sees."""
    lake.file_mapping(lake.source, LAKE, freshness="immutable")
    program = f"""
import os, socket
ends = socket.socketpair()
for name, far in (("d", "/usr"), ("top", "/etc/passwd")):
    ours, other = os.open(f"{LAKE}/{{name}}", os.O_RDONLY), os.open(far, os.O_RDONLY)
    if name == "d":
        os.stat("bin", dir_fd=other)
    socket.send_fds(ends[0], [b"x"], [ours])
    os.close(other)
    assert socket.recv_fds(ends[1], 1, 1)[1] == [other]
    assert os.fstat(other).st_ino == os.stat(f"{LAKE}/{{name}}").st_ino, name
    if name == "d":
        assert os.read(os.open("f", os.O_RDONLY, dir_fd=other), 9) == b"ff"
"""
    lake.run(["/usr/bin/python3", "-c", program])
