"""Opens for writing through links that lead to a prefix, or to a cache file by /proc: nothing is made on disk, no cache file is
written. The oracle for plain links is the same program without prelux."""

import os

import pytest

WRITE = """
import ctypes, errno, os, sys
link, way = sys.argv[1:3]
libc = ctypes.CDLL(None, use_errno=True)
flags = {"creat": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND, "rdwr": os.O_RDWR | os.O_CREAT,
         "reading": os.O_RDONLY | os.O_CREAT, "excl": os.O_WRONLY | os.O_CREAT | os.O_EXCL, "nofollow": os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW,
         "plain": os.O_WRONLY, "trunc": os.O_WRONLY | os.O_TRUNC, "update": os.O_RDWR}
try:
    if way in flags:
        fd = os.open(link, flags[way], 0o644)
    elif way == "at":
        at = os.open(os.path.dirname(link), os.O_RDONLY | os.O_DIRECTORY)
        fd = os.open(os.path.basename(link), flags["creat"], 0o644, dir_fd=at)
    elif way == "relative":
        os.chdir(os.path.dirname(link))
        fd = os.open(os.path.basename(link), flags["creat"], 0o644)
    elif way == "openat2":
        how = (ctypes.c_uint64 * 3)(flags["creat"], 0o644, 0)
        fd = libc.syscall(437, -100, link.encode(), how, 24)
        if fd < 0: raise OSError(ctypes.get_errno(), "")
    else:  # an fopen mode
        libc.fopen.restype = ctypes.c_void_p
        if not libc.fopen(link.encode(), way.encode()): raise OSError(ctypes.get_errno(), "")
        fd = -1
    if fd >= 0 and way != "reading": os.write(fd, b"written")
    print("ok")
except OSError as e:
    print(errno.errorcode[e.errno])
"""
WAYS = ["creat", "append", "rdwr", "reading", "at", "relative", "openat2", "w", "a", "w+"]


@pytest.fixture
def place(prelux, tmp_path):
    """Links to a prefix whose parent is on disk, but which is not itself; one to what is missing above a prefix; others."""
    prelux.remote, prelux.prefix, prelux.links = tmp_path / "remote", tmp_path / "m/lake", tmp_path / "links"
    for folder in (prelux.remote, tmp_path / "m", prelux.links):
        folder.mkdir()
    (prelux.remote / "f").write_text("remote")
    (prelux.links / "other").write_text("other")
    for name, to in {"root": prelux.prefix, "relative": "../m/lake", "chain": "root", "above": tmp_path / "none", "f": prelux.prefix / "f",
                     "file": "other", "dangling": "new"}.items():
        (prelux.links / name).symlink_to(to)
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(prelux.remote)}}, "mappings": [
        {"local": str(prelux.prefix), "remote": "src:/"}, {"local": str(tmp_path / "none/below"), "remote": "src:/"}]})
    return prelux


def write(place, link, way, **options):
    return place.run(["/usr/bin/python3", "-c", WRITE, place.links / link, way], **options).stdout.strip()


@pytest.mark.parametrize("way", WAYS)
def test_dangling_link_to_a_prefix(place, way):
    for link in ("root", "relative", "chain", "above"):
        assert write(place, link, way) in ("EISDIR", "EROFS"), link
    assert write(place, "f", way) in ("EROFS", "ok" if way == "reading" else "EROFS")
    assert os.listdir(place.tmp / "m") == [] and not (place.tmp / "none").exists()
    assert (place.remote / "f").read_text() == "remote"


@pytest.mark.parametrize("way", WAYS + ["excl", "nofollow", "plain", "trunc", "update", "r+"])
def test_other_links_are_libcs(place, way):
    """Same answer and same files as without prelux."""
    def both(run):
        found = []
        for link in ("file", "dangling", "other"):
            found.append((link, run(link), sorted(os.listdir(place.links)), (place.links / "other").read_text()))
            (place.links / "new").unlink(missing_ok=True)
            (place.links / "other").write_text("other")
        return found
    want = both(lambda link: place.plain(["/usr/bin/python3", "-c", WRITE, place.links / link, way]).stdout.strip())
    assert both(lambda link: write(place, link, way)) == want


@pytest.mark.parametrize("way", ["creat", "append", "rdwr", "plain", "trunc", "update", "w", "r+"])
def test_own_link_to_a_descriptor(place, way):
    """/proc/self/fd/N of a cache file, by a link of one's own."""
    done = place.run(["/usr/bin/python3", "-c", f"""
import os, sys
keep = os.open(sys.argv[3], os.O_RDONLY)
os.symlink(f"/proc/self/fd/{{keep}}", sys.argv[1])
os.symlink("/proc/self/fd", sys.argv[1] + ".d")
for link in (sys.argv[1], f"{{sys.argv[1]}}.d/{{keep}}"):
    sys.argv[1] = link
    exec({WRITE!r})
print(os.pread(keep, 100, 0).decode())
""", place.links / "mine", way, place.prefix / "f"])
    assert done.stdout.split() == ["EROFS", "EROFS", "remote"]
    assert place.run(["cat", place.prefix / "f"]).stdout == "remote"


def test_links_to_descriptors_that_are_not_ours(place):
    """The way a server's log leads to its standard output."""
    (place.links / "log").symlink_to("/proc/self/fd/1")
    (place.links / "log2").symlink_to("/dev/stdout")
    assert place.run(f"cat {place.prefix}/f; echo a >{place.links}/log; echo b >>{place.links}/log2; dd if=/dev/null of={place.links}/log 2>&1 | wc -l").stdout \
        == "remotea\nb\n3\n"


def test_switched_off_with_links(place):
    place.config(place.config_path.read_text() + "\noutside_links: 'off'\n")
    if os.path.exists("/usr/bin/strace"):
        done = place.run(f"strace -e trace=readlink,readlinkat,openat2 -o {place.tmp}/log touch {place.links}/other", check=False)
        assert str(place.links) not in (place.tmp / "log").read_text(), done
    assert write(place, "file", "creat") == "ok"
