"""syscall(): what node, Rust and gcc do by number is what the calls by name do. And what tells of the file system."""

import errno
import os
import shutil

import pytest

from tests import harness

NUMBERS = harness.BUILD / "tests/posix/numbers"
FUSE = 0x65735546


@pytest.fixture
def remote(tmp_path):
    folder = tmp_path / "remote"
    (folder / "d").mkdir(parents=True)
    (folder / "f").write_text("content\n")
    (folder / "d/g").write_text("more\n")
    return folder


HEAD = """
import errno, os, sys
def say(fn, *args):
    try:
        print(fn(*args))
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


def _say(prelux, code, *args):
    return prelux.run(["python3", "-c", HEAD + code, *args]).stdout.splitlines()


def test_numbers(prelux, remote, tmp_path):
    if not NUMBERS.exists():
        pytest.skip(f"{NUMBERS} is not built (make posix-programs)")
    local = tmp_path / "m/lake"
    shutil.copytree(remote, local)
    want = prelux.plain([NUMBERS, local]).stdout
    shutil.rmtree(local)
    prelux.file_mapping(remote, local)
    # A mapping is read-only: W_OK is refused.
    assert "faccessat2 0" in want
    assert prelux.run([NUMBERS, local]).stdout == want.replace("faccessat2 0 ", "faccessat2 -1 EROFS")


def test_changing_numbers(prelux, remote):
    if not NUMBERS.exists():
        pytest.skip(f"{NUMBERS} is not built (make posix-programs)")
    local = prelux.file_mapping(remote, "/plx")
    lines = prelux.run([NUMBERS, local, "change"]).stdout.splitlines()
    for call in ("mkdirat", "unlinkat", "renameat2", "truncate", "fchmodat", "creat"):
        assert f"{call} -1 EROFS" in lines
    assert sorted(os.listdir(remote)) == ["d", "f"] and (remote / "f").read_text() == "content\n"


def test_statfs(prelux, remote):
    local = prelux.file_mapping(remote, "/plx")
    code = """
for path in sys.argv[1:]:
    say(lambda: (lambda v: (v.f_flag & os.ST_RDONLY, v.f_namemax, v.f_blocks > 0))(os.statvfs(path)))
fd = os.open(sys.argv[1] + '/f', os.O_RDONLY)
while True: # others write to the disk, too: of three calls the outer two have to tell the same
    v = [f()[:-2] for f in (lambda: os.fstatvfs(fd), lambda: os.statvfs(sys.argv[1]), lambda: os.fstatvfs(fd))]
    if v[0] == v[2]: break
print(v[0] == v[1] or v)
say(os.pathconf, sys.argv[1], 'PC_NAME_MAX'); say(os.pathconf, sys.argv[1] + '/none', 'PC_NAME_MAX'); say(os.fpathconf, fd, 'PC_NAME_MAX')
"""
    got = _say(prelux, code, local, f"{local}/f", f"{local}/d", f"{local}/none", f"{local}/f/x")
    assert got[:5] == ["(1, 255, True)"] * 3 + ["ENOENT", "ENOTDIR"]
    assert got[5:] == ["True", "255", "ENOENT", "255"]
    kind = prelux.run(["stat", "-f", "-c", "%t", local, f"{local}/f"]).stdout.split()
    assert kind == [f"{FUSE:x}"] * 2
    assert prelux.run(["stat", "-f", "-c", "%t %i", "/"]).stdout == prelux.plain(["stat", "-f", "-c", "%t %i", "/"]).stdout


def test_extended_attributes(prelux, remote, tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    try:
        os.setxattr(plain, "user.x", b"1")
        os.setxattr(remote / "f", "user.x", b"1")
    except OSError as e:
        pytest.skip(f"no extended attributes here: {e}")
    local = prelux.file_mapping(remote, "/plx")
    prelux.run(["cat", f"{local}/f"])
    for cached in prelux.cache.rglob("data/f"):  # what the cache file itself has is nobody's business
        os.setxattr(cached, "user.x", b"2")
    code = """
a, d, p = sys.argv[1:]
fd = os.open(a, os.O_RDONLY)
say(os.getxattr, a, 'user.x'); say(os.getxattr, fd, 'user.x'); say(os.listxattr, a); say(os.listxattr, fd); say(os.listxattr, d)
say(os.getxattr, a + 'none', 'user.x'); say(os.listxattr, a + 'none'); say(lambda: os.getxattr(a, 'user.x', follow_symlinks=False))
say(os.getxattr, p, 'user.x'); say(os.listxattr, p)
"""
    assert _say(prelux, code, f"{local}/f", f"{local}/d", plain) == [
        "ENODATA", "ENODATA", "[]", "[]", "[]", "ENOENT", "ENOENT", "ENODATA", "b'1'", "['user.x']"]


def test_watch(prelux, remote):
    """A watch of a file or folder is granted, so `tail -f` and file managers start."""
    local = prelux.file_mapping(remote, "/plx")
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(0)
for path in sys.argv[1:]:
    print(libc.inotify_add_watch(fd, path.encode(), 0x2) > 0 or errno.errorcode[ctypes.get_errno()])
"""
    assert _say(prelux, code, f"{local}/f", f"{local}/d", local, f"{local}/none") == ["True", "True", "True", "ENOENT"]


def test_ftok(prelux, remote):
    local = prelux.file_mapping(remote, "/plx")
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
st = os.stat(sys.argv[1])
want = (st.st_ino & 0xffff) | (st.st_dev & 0xff) << 16 | 7 << 24
print(libc.ftok(sys.argv[1].encode(), 7) == want, libc.ftok(sys.argv[1].encode() + b'none', 7))
"""
    assert _say(prelux, code, f"{local}/f") == ["True -1"]


def test_temporary_names(prelux, remote, tmp_path):
    """TMPDIR below a prefix: refused where it is used, and tempnam falls back as libc does for a folder that cannot be used."""
    local = prelux.file_mapping(remote, "/plx")
    code = """
import ctypes, tempfile
say(lambda: tempfile.mkstemp(dir=sys.argv[1])); say(lambda: tempfile.mkdtemp(dir=sys.argv[1])); say(lambda: tempfile.mkdtemp(dir=sys.argv[1] + '/none'))
libc = ctypes.CDLL(None)
libc.tempnam.restype = ctypes.c_char_p
print(libc.tempnam(sys.argv[1].encode(), b'abc').decode().startswith('/tmp/abc'))
"""
    assert _say(prelux, code, local) == ["EROFS", "EROFS", "ENOENT", "True"]
    assert prelux.run(f"mktemp {tmp_path}/aXXXXXX").stdout.startswith(f"{tmp_path}/a")
    done = prelux.run(f"mktemp {local}/aXXXXXX", check=False)
    assert done.returncode == 1 and os.strerror(errno.EROFS) in done.stderr


def test_handles_are_not_given(prelux, remote):
    """By name and by number, of a file, a folder, what is behind a descriptor."""
    local = prelux.file_mapping(remote, "/plx")
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
handle, mount = (ctypes.c_uint * 34)(128), ctypes.c_int()
AT_EMPTY_PATH, NUMBER = 0x1000, ctypes.c_long({'x86_64': 303}.get(os.uname().machine, 264))
folder = os.open(sys.argv[1], os.O_RDONLY)
for at, path, flags in (-100, sys.argv[1] + '/f', 0), (-100, sys.argv[1] + '/d', 0), (folder, 'f', 0), (folder, '', AT_EMPTY_PATH), (-100, sys.argv[2], 0):
    for call in (libc.name_to_handle_at, lambda *words: libc.syscall(NUMBER, *words)):
        rc = call(at, path.encode(), handle, ctypes.byref(mount), flags)
        print(rc if rc == 0 else errno.errorcode[ctypes.get_errno()])
"""
    outside = prelux.tmp / "outside"
    outside.write_text("x")
    *below, name, number = _say(prelux, code, local, outside)
    assert below == ["ENOTSUP"] * 8  # the same number as EOPNOTSUPP
    assert name == number == prelux.plain(["python3", "-c", HEAD + code, prelux.tmp, outside]).stdout.split()[-1]


def test_fanotify(prelux, remote, tmp_path):
    """A mark on a file or folder below a prefix tells of its opens, by name and by number; the descriptor that comes is the file's."""
    local, plain = tmp_path / "m/lake", tmp_path / "m/plain"
    shutil.copytree(remote, plain)
    code = """
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
NONBLOCK, ADD, OPEN, ON_CHILD, AT_FDCWD, NUMBER = 2, 1, 0x20, 0x08000000, -100, {'x86_64': 301}.get(os.uname().machine, 263)
def name(*words): return libc.fanotify_mark(words[0], words[1], ctypes.c_ulonglong(words[2]), words[3], words[4])
def number(*words): return libc.syscall(ctypes.c_long(NUMBER), words[0], words[1], ctypes.c_ulonglong(words[2]), words[3], words[4])
base = sys.argv[1]
for call in (name, number):
    for at, path, what, opened in ((AT_FDCWD, base + '/f', OPEN, '/f'), (AT_FDCWD, base + '/d', OPEN | ON_CHILD, '/d/g'), (os.open(base, 0), 'f', OPEN, '/f')):
        fd = libc.fanotify_init(NONBLOCK, os.O_RDONLY)
        if fd < 0:
            print('none', errno.errorcode[ctypes.get_errno()])
            sys.exit()
        open(base + opened).close()
        if call(fd, ADD, what, at, path.encode()):
            print(errno.errorcode[ctypes.get_errno()])
            continue
        os.close(os.open(base + opened, os.O_RDONLY))
        events, seen = os.read(fd, 4096), set()
        while events:
            size, _, _, _, mask, file, pid = struct.unpack_from('IBBHQii', events)
            if pid == os.getpid():
                seen.add((mask, os.pread(file, 20, 0)))
            os.close(file)
            events = events[size:]
        print(sorted(seen))
        os.close(fd)
    fd = libc.fanotify_init(NONBLOCK, os.O_RDONLY)
    print(call(fd, ADD, OPEN, AT_FDCWD, (base + '/none').encode()), errno.errorcode[ctypes.get_errno()])
"""
    want = prelux.plain(["python3", "-c", HEAD + code, plain]).stdout
    if want.startswith("none") or "content" not in want:
        pytest.skip(f"no fanotify here: {want.split()}")
    prelux.file_mapping(remote, local)
    assert prelux.run(["python3", "-c", HEAD + code, local]).stdout == want


def test_rings_are_refused(prelux, remote):
    """What is put into a ring passes libc by: programs are told that there is none, as in most containers, and do without."""
    code = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
fd = libc.syscall(425, 4, ctypes.create_string_buffer(120))
print(fd > 2 or errno.errorcode[ctypes.get_errno()])
"""
    local = prelux.file_mapping(remote, "/plx")
    assert _say(prelux, code) == ["ENOSYS"]
    plain = prelux.plain(["python3", "-c", "import errno" + code]).stdout
    assert prelux.run(["python3", "-c", "import errno" + code], env={"PRELUX_OFF": "1"}).stdout == plain
    assert prelux.run(["cat", f"{local}/f"]).stdout == "content\n"
