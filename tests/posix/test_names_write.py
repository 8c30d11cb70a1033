"""Names, attributes and links below a mapping that can be written to: every call in every form, against a plain folder.

names.py makes the calls and prints what each gave and what the tree looks like then; here both outputs are compared line by line, and
the remote with what programs saw."""

import pytest

from tests import harness

PROGRAM = harness.ROOT / "tests/posix/names.py"
PYTHON = "/usr/bin/python3"
CASES = [("changes", "cwd"), ("changes", "dirfd"), ("looks", "abs"), ("looks", "cwd"), ("rename", "cwd"), ("noreplace", "dirfd"), ("exchange", "abs"),
         ("bad", "cwd")]


@pytest.fixture
def lake(prelux, tmp_path):
    """Where the mapping is; its remote is tmp_path/remote."""
    (tmp_path / "remote").mkdir()
    return prelux.file_mapping(tmp_path / "remote", tmp_path / "mnt/lake", write="sync")


def _both(prelux, lake, tmp_path, part, form):
    lines = []
    for run, base in ((prelux.plain, tmp_path / "plain/base"), (prelux.run, f"{lake}/base")):
        (tmp_path / "outside").mkdir(exist_ok=True)
        lines.append(run([PYTHON, PROGRAM, part, base, tmp_path / "outside", form], timeout=290).stdout.splitlines())
    return lines


@pytest.mark.limit(600)
@pytest.mark.slow
@pytest.mark.parametrize("part, form", CASES)
def test_as_on_a_plain_folder(prelux, lake, tmp_path, part, form):
    plain, ours = _both(prelux, lake, tmp_path, part, form)
    wrong = [f"plain: {a}\nours:  {b}" for a, b in zip(plain, ours) if a != b]
    assert not wrong, f"{len(wrong)} of {len(plain)}\n" + "\n".join(wrong[:40])
    assert len(plain) == len(ours) > 300


PLACES = harness.BUILD / "tests/posix/names_places"


@pytest.mark.parametrize("part", ["vfork", "signals", "threads", "stack", "closed", "early"])
def test_where_little_is_allowed(prelux, lake, tmp_path, part):
    """In vfork children, handlers, threads beside forks, on small stacks, without descriptors, before main."""
    folder = f"{lake}/here"
    prelux.run(["mkdir", folder])
    done = prelux.run([PLACES, part, folder], env={"NAMES_EARLY": folder} if part == "early" else None, timeout=110)
    assert done.stdout == "right\n"
    assert [p.name for p in (tmp_path / "remote").rglob("*")] == ["here"]
    (tmp_path / "plain").mkdir()
    assert prelux.plain([PLACES, part, tmp_path / "plain"], env={"NAMES_EARLY": str(tmp_path / "plain")}).stdout == "right\n"


def test_no_descriptor_is_free(prelux, lake, tmp_path):
    assert prelux.run([PLACES, "limit", lake]).stdout == "Too many open files\nright\n"


def test_after_a_seccomp_filter(prelux, lake, tmp_path):
    """Nothing is asked any more, so nothing is changed."""
    assert prelux.run([PLACES, "quiet", lake]).stdout == "Input/output error\nright\n"
    assert not list((tmp_path / "remote").iterdir())


# What the programs below share: say() prints what a call gave.
SAY = """
import ctypes, errno, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
lake = sys.argv[1]
def say(fn, *args, **more):
    try:
        got = fn(*args, **more)
        print("ok" if got is None else got, flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
def c(name, *args):
    ctypes.set_errno(0)
    rc = getattr(libc, name)(*[a.encode() if isinstance(a, str) else a for a in args])
    if rc == -1:
        raise OSError(ctypes.get_errno(), name)
    return None if rc == 0 else rc
def make(path, text="text"):
    with open(path, "w") as f:
        f.write(text)
"""


def _say(prelux, text, *args, how="run", **more):
    return getattr(prelux, how)([PYTHON, "-c", SAY + text, *args], **more).stdout.splitlines()


def test_roots_and_borders(prelux, tmp_path):
    """The root of a mapping is a mount point; two mappings of one remote are one file system, others are not."""
    for name in ("one/sub", "two"):
        (tmp_path / name).mkdir(parents=True)
    prelux.config({"version": 1, "backends": {name: {"type": "file", "root": str(tmp_path / name)} for name in ("one", "two")},
                   "mappings": [{"local": "/pl/a", "remote": "one:/", "write": "sync"},
                                {"local": "/pl/sub", "remote": "one:/sub", "write": "sync"},
                                {"local": "/pl/b", "remote": "two:/", "write": "sync"},
                                {"local": "/pl/a/inner", "remote": "two:/", "write": "sync"},
                                {"local": "/pl/ro", "remote": "one:/"}]})
    out = tmp_path / "out"
    out.mkdir()
    got = _say(prelux, """
out = sys.argv[2]
make(lake + "/f"); make(out + "/mine"); make(lake + "/sub/g")
for root in (lake, "/pl", "/pl/a/inner"):
    say(os.rmdir, root); say(os.unlink, root); say(os.mkdir, root); say(os.symlink, "x", root); say(os.rename, root, "/pl/x")
    say(os.rename, lake + "/f", root)
print("--")
say(os.rename, lake + "/f", out + "/x"); say(os.rename, out + "/mine", lake + "/x"); say(os.rename, lake + "/f", "/pl/b/f")
say(os.rename, lake + "/f", "/pl/ro/f"); say(os.rename, "/pl/ro/f", "/pl/ro/g"); say(os.rename, lake + "/sub/g", "/pl/sub/h")
say(os.rename, "/pl/sub/h", lake + "/h"); print(sorted(os.listdir(lake)), os.listdir("/pl/sub"))
print("--")
say(os.link, lake + "/f", lake + "/x"); say(os.link, lake + "/f", lake + "/h"); say(os.link, lake + "/none", lake + "/x")
say(os.link, lake + "/f", lake + "/no/x"); say(os.link, lake + "/f", "/pl/b/x"); say(os.link, lake + "/f", out + "/x")
say(os.link, out + "/mine", lake + "/x"); say(os.link, out + "/mine", lake + "/f")
""", "/pl/a", out)
    first, second, third = "\n".join(got).split("\n--\n")
    assert first.split() == 3 * ["EBUSY", "EISDIR", "EEXIST", "EEXIST", "EBUSY", "EBUSY"]
    assert second.splitlines() == ["EXDEV"] * 4 + ["EROFS", "ok", "ok", "['f', 'h', 'inner', 'sub'] []"]
    assert third.split() == ["EPERM", "EEXIST", "ENOENT", "ENOENT", "EXDEV", "EXDEV", "EXDEV", "EEXIST"]
    assert sorted(p.name for p in (tmp_path / "one").rglob("*")) == ["f", "h", "sub"] and not list((tmp_path / "two").iterdir())


def test_umask(prelux, lake, tmp_path):
    text = """
for mask in (0, 0o022, 0o077, 0o666):
    os.umask(mask)
    base = f"{lake}/{mask:o}"
    os.mkdir(base + "d", 0o777); os.close(os.open(base + "f", os.O_WRONLY | os.O_CREAT, 0o666)); os.mknod(base + "n", 0o660)
    print([oct(os.stat(base + x).st_mode) for x in "dfn"[:3 if mask < 0o666 else 1]])
"""
    (tmp_path / "plain").mkdir()
    assert _say(prelux, text, lake) == _say(prelux, text, tmp_path / "plain", how="plain")


TEMPS = """
import re
def temp(name, tail="", *flags):
    buf = ctypes.create_string_buffer((lake + "/t.XXXXXX" + tail).encode())
    args = [len(tail)] if name.startswith(("mkstemps", "mkostemps")) else []
    fd = getattr(libc, name)(buf, *args, *flags)
    made = buf.value.decode()
    assert fd >= 0 and re.fullmatch(re.escape(lake) + "/t[.][A-Za-z0-9]{6}" + re.escape(tail), made) and "XXXXXX" not in made, made
    assert os.fstat(fd).st_ino == os.stat(made).st_ino and os.get_inheritable(fd) == (not flags)
    os.write(fd, name.encode()); os.lseek(fd, 0, 0)
    print(name, oct(os.stat(made).st_mode), os.read(fd, 100)); os.close(fd); print(os.stat(made).st_size)
os.umask(0o022)
for name in ("mkstemp", "mkstemp64"): temp(name)
for name in ("mkostemp", "mkostemp64"): temp(name, "", os.O_CLOEXEC)
for name in ("mkstemps", "mkstemps64"): temp(name, ".c")
for name in ("mkostemps", "mkostemps64"): temp(name, ".c", os.O_CLOEXEC)
libc.mkdtemp.restype = libc.mktemp.restype = libc.tempnam.restype = ctypes.c_char_p
buf = ctypes.create_string_buffer((lake + "/d.XXXXXX").encode())
made = libc.mkdtemp(buf).decode()
print(oct(os.stat(made).st_mode), made == buf.value.decode())
buf = ctypes.create_string_buffer((lake + "/n.XXXXXX").encode())
made = libc.mktemp(buf).decode()
print(len(made) - len(lake), os.path.exists(made))
made = libc.tempnam(lake.encode(), b"pre").decode()
print(made.startswith(lake + "/pre"), len(made) - len(lake), os.path.exists(made))
buf = ctypes.create_string_buffer((lake + "/no/x.XXXXXX").encode())
say(c, "mkstemp", buf)
buf = ctypes.create_string_buffer((lake + "/x.XXXXX").encode())
say(c, "mkstemp", buf)
os.chdir(lake)
buf = ctypes.create_string_buffer(b"r.XXXXXX")
os.close(libc.mkstemp(buf)); print(os.path.exists(buf.value), sorted(n.split(".")[0] for n in os.listdir(".")))
"""


def test_temporary_names(prelux, lake, tmp_path):
    (tmp_path / "plain").mkdir()
    environment = {"TMPDIR": None}
    plain = _say(prelux, TEMPS, tmp_path / "plain", how="plain", env=environment)
    assert _say(prelux, TEMPS, lake, env=environment) == plain
    assert len(list((tmp_path / "remote").iterdir())) == 10


def test_temporary_names_do_not_repeat(prelux, lake, tmp_path):
    got = _say(prelux, """
names = set()
for i in range(200):
    buf = ctypes.create_string_buffer((lake + "/XXXXXX").encode())
    fd = libc.mkstemp(buf); assert fd >= 0; os.close(fd); names.add(buf.value)
print(len(names), len(os.listdir(lake)))
""", lake)
    assert got == ["200 200"]


def test_tmpfile_below_a_mapping_of_tmp(prelux, tmp_path):
    """/tmp itself is mapped: tmpfile() lies there, and nowhere at the end."""
    (tmp_path / "remote").mkdir()
    prelux.file_mapping(tmp_path / "remote", "/tmp", write="sync")
    got = _say(prelux, """
libc.tmpfile.restype = ctypes.c_void_p
f = ctypes.c_void_p(libc.tmpfile())
assert f, ctypes.get_errno()
fd = libc.fileno(f)
print(libc.fputs(b"text", f) >= 0, libc.fflush(f), os.pread(fd, 10, 0), os.listdir("/tmp"), libc.fclose(f), os.listdir("/tmp"))
""", "x")
    assert got == ["True 0 b'text' [] 0 []"]


FDS = """
def shown(st):
    return f"{st.st_mode:o} {int(st.st_mtime) if st.st_mtime < 10 ** 9 else 'now'} {st.st_uid == os.getuid()}"
def change(fd, by):
    say(os.fchmod, fd, 0o640); print(shown(os.fstat(fd)))
    say(os.utime, fd, (5, by)); print(shown(os.fstat(fd)))
    say(os.fchown, fd, os.getuid(), -1); say(os.fchown, fd, -1, -1)
    say(os.chmod, fd, 0o604); say(c, "futimens", fd, None); print(abs(os.fstat(fd).st_mtime - __import__("time").time()) < 5)
    say(os.utime, fd, (5, by + 1))
make(lake + "/f"); make(lake + "/g"); os.mkdir(lake + "/d")
fd = os.open(lake + "/f", os.O_RDONLY); change(fd, 1000); print(shown(os.stat(lake + "/f"))); os.close(fd); print(shown(os.stat(lake + "/f")))
fd = os.open(lake + "/f", os.O_RDWR); change(fd, 2000); print(shown(os.stat(lake + "/f"))); os.close(fd); print(shown(os.stat(lake + "/f")))
fd = os.open(lake + "/f", os.O_RDWR); os.write(fd, b"more"); change(fd, 3000); print(shown(os.stat(lake + "/f"))); os.close(fd)
print(shown(os.stat(lake + "/f")))
fd = os.open(lake + "/new", os.O_WRONLY | os.O_CREAT); change(fd, 4000); print(shown(os.stat(lake + "/new"))); os.close(fd)
print(shown(os.stat(lake + "/new")))
fd = os.open(lake + "/d", os.O_RDONLY); change(fd, 5000); print(shown(os.stat(lake + "/d"))); os.close(fd)
fd = os.open(lake + "/g", os.O_RDWR); os.unlink(lake + "/g"); os.write(fd, b"x"); say(os.fchmod, fd, 0o640)
say(os.utime, fd, (5, 6000)); print(os.fstat(fd).st_mtime); say(os.fchown, fd, os.getuid(), -1); os.close(fd)
make(lake + "/g"); fd = os.open(lake + "/g", os.O_RDONLY); make(lake + "/g2"); os.rename(lake + "/g2", lake + "/g")
was = shown(os.stat(lake + "/g")); say(os.fchmod, fd, 0o600); print(shown(os.stat(lake + "/g")) == was); os.close(fd)
fd = os.open(lake + "/f", os.O_PATH); say(os.fchmod, fd, 0o600); say(c, "futimens", fd, None); say(c, "fchown", fd, -1, -1)
say(c, "fchmod", 999, 0o600); say(os.utime, lake + "/f", ns=(5, 1234567890987654321)); print(os.stat(lake + "/f").st_mtime_ns)
os.utime(lake + "/f", (7, 8)); os.utime(lake + "/d", (9, 10)); print(shown(os.stat(lake + "/f")), shown(os.stat(lake + "/d")))
"""


def test_descriptors(prelux, lake, tmp_path):
    """fchmod, fchown, futimens: of files that are read, written, new, gone; of folders."""
    (tmp_path / "plain").mkdir()
    assert _say(prelux, FDS, lake) == _say(prelux, FDS, tmp_path / "plain", how="plain")
    st = (tmp_path / "remote/f").stat()
    assert (st.st_mode & 0o777, int(st.st_mtime)) == (0o604, 8)


NAMELESS = """
fd = os.open(lake, os.O_TMPFILE | os.O_RDWR, 0o640); os.write(fd, b"first"); say(os.fchmod, fd, 0o600)
print(os.listdir(lake), os.fstat(fd).st_size)
say(c, "linkat", -100, f"/proc/self/fd/{fd}", -100, lake + "/x", 0x400); print(os.listdir(lake), oct(os.stat(lake + "/x").st_mode))
os.write(fd, b" more"); os.close(fd); print(open(lake + "/x").read())
fd = os.open(lake, os.O_TMPFILE | os.O_WRONLY); os.write(fd, b"second")
say(c, "linkat", fd, "", -100, lake + "/x", 0x1000); say(c, "linkat", fd, "", -100, lake + "/no/x", 0x1000)
say(c, "linkat", fd, "", -100, lake + "/y", 0x1000); os.close(fd); print(sorted(os.listdir(lake)), open(lake + "/y").read())
fd = os.open(lake, os.O_TMPFILE | os.O_WRONLY); os.write(fd, b"third"); os.close(fd); print(sorted(os.listdir(lake)))
"""


def test_files_without_a_name(prelux, lake, tmp_path):
    (tmp_path / "plain").mkdir()
    assert _say(prelux, NAMELESS, lake) == _say(prelux, NAMELESS, tmp_path / "plain", how="plain")
    assert {p.name: p.read_text() for p in (tmp_path / "remote").iterdir()} == {"x": "first more", "y": "second"}


def test_extended_attributes_and_flags(prelux, lake, tmp_path):
    got = _say(prelux, """
import array, fcntl
make(lake + "/f"); os.mkdir(lake + "/d"); os.symlink("f", lake + "/l")
say(os.setxattr, lake + "/f", "user.x", b"1"); say(os.removexattr, lake + "/f", "user.x"); say(os.setxattr, lake + "/no", "user.x", b"1")
say(os.getxattr, lake + "/f", "user.x"); say(os.listxattr, lake + "/f"); say(os.setxattr, lake + "/f", "user.prelux.state", b"1")
fd = os.open(lake + "/f", os.O_RDWR)
say(os.setxattr, fd, "user.x", b"1"); say(os.getxattr, fd, "user.x"); say(os.listxattr, fd)
say(os.getxattr, fd, "user.prelux.state"); say(os.getxattr, fd, "user.prelux.remote")
say(fcntl.ioctl, fd, 0x40086602, array.array("l", [0])); os.close(fd)
for name in ("state", "mapping", "remote", "none"):
    for path in ("/f", "/d", "/l"):
        say(os.getxattr, lake + path, "user.prelux." + name, follow_symlinks=name != "state")
v = os.statvfs(lake + "/f"); print(bool(v.f_flag & os.ST_RDONLY)); print(os.access(lake + "/f", os.W_OK), os.access(lake, os.W_OK | os.X_OK))
say(c, "mkfifo", lake + "/p", 0o600); say(c, "mknod", lake + "/p", stat.S_IFSOCK | 0o600, 0)
import socket
say(socket.socket(socket.AF_UNIX).bind, lake + "/s"); say(socket.socket(socket.AF_UNIX).bind, lake + "/f")
say(socket.socket(socket.AF_UNIX).connect, lake + "/f"); say(socket.socket(socket.AF_UNIX).connect, lake + "/s")
""", lake)
    assert got[:6] == ["ENOTSUP", "ENOTSUP", "ENOENT", "ENODATA", "[]", "EPERM"]
    assert got[6:12] == ["ENOTSUP", "ENODATA", "[]", "b'dirty'", "b'src:/f'", "ENOTTY"]
    assert got[13:15] == ["b'directory'", "b'link'"] and got[12] in ("b'cached'", "b'absent'")
    assert got[15:18] == 3 * [f"b'{lake}'"] and got[18:21] == ["b'src:/f'", "b'src:/d'", "b'src:/f'"] and got[21:24] == 3 * ["ENODATA"]
    assert got[24:] == ["False", "True True", "ENOTSUP", "ENOTSUP", "ENOTSUP", "EADDRINUSE", "ECONNREFUSED", "ENOENT"]


WRONG = """
import ctypes, errno, os, shutil, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
open("f", "w").close()
def say(name, *words):
    rc = getattr(libc, name)(*[ctypes.c_void_p(word) if isinstance(word, int) and name in ("rename", "link", "symlink") else word for word in words])
    print(name, [word if isinstance(word, int) else len(word) for word in words], rc, errno.errorcode.get(ctypes.get_errno(), 0))
long = b"d/" * 2048 + b"x"
for call in "rename", "link", "symlink":
    for bad in -1, 0, long:
        say(call, b"f", bad)
        say(call, bad, b"g")
        say(call, bad, bad)
shutil.copy("/bin/sleep", "sleep")
child = subprocess.Popen(["./sleep", "100"])
for flags in os.O_WRONLY, os.O_RDWR | os.O_TRUNC:
    try:
        os.open("sleep", flags)
    except OSError as error:
        print(errno.errorcode[error.errno])
print(os.stat("sleep").st_size > 0)
child.kill()
child.wait()
os.close(os.open("sleep", os.O_WRONLY))
"""


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_pointers_lengths_and_programs_that_run(prelux, tmp_path, mode):
    """Found by pjdfstest: a second name of -1 ended the program, one that is too long was EXDEV, and a program that runs was EIO."""
    for name in ("remote", "plain"):
        (tmp_path / name).mkdir()
    lake = prelux.file_mapping(tmp_path / "remote", tmp_path / "mnt/lake", write=mode)
    want = prelux.plain([PYTHON, "-c", WRONG, tmp_path / "plain"]).stdout
    assert "EFAULT" in want and "ENAMETOOLONG" in want and want.count("ETXTBSY") == 2
    assert prelux.run([PYTHON, "-c", WRONG, lake]).stdout == want
    assert not [record for record in prelux.errors() if record["errno"] == "EIO"]


LINKS = """
import fcntl, os, sys, time
os.chdir(sys.argv[1])
def replace(path):
    with open(path + "~", "w") as f:
        f.write("new")
    os.rename(path + "~", path)
def note(what, path, flags, change):
    fd = os.open(path, flags, 0o644)
    before, _, after = os.fstat(fd), change(path), os.fstat(fd)
    print(what, before.st_nlink, after.st_nlink, before.st_ino == after.st_ino, after.st_size)
    return fd
for what in "removed", "replaced", "renamed":
    change = {"removed": os.remove, "replaced": replace, "renamed": lambda path: os.rename(path, path + ".new")}[what]
    note(what + " made", what + "1", os.O_RDWR | os.O_CREAT, change)
    for how in os.O_RDONLY, os.O_RDWR:
        with open(what + "2", "w") as f:
            f.write("xx")
        note(what + " written", what + "2", how, change)
        note(what + " cold", "cold-%s-%d" % (what, how), how, change)
fd = note("nameless", ".", os.O_TMPFILE | os.O_RDWR, lambda path: None)
os.link("/proc/self/fd/%d" % fd, "named", src_dir_fd=0, follow_symlinks=True)
print(os.fstat(fd).st_nlink)
os.remove("named")
print(os.fstat(fd).st_nlink)
"""


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_links_of_open_files_whose_names_go(prelux, tmp_path, mode):
    """filelock takes a lock anew when st_nlink of what it has locked is 0: with 1 two programs held the same lock."""
    for name in ("remote", "plain"):
        (tmp_path / name).mkdir()
        for cold in ("removed", "replaced", "renamed"):
            for how in (0, 2):
                (tmp_path / name / f"cold-{cold}-{how}").write_text("cold")
    lake = prelux.file_mapping(tmp_path / "remote", tmp_path / "mnt/lake", write=mode)
    want = prelux.plain([PYTHON, "-c", LINKS, tmp_path / "plain"]).stdout
    assert want.count(" 1 0 True") == 10 and want.count(" 1 1 True") == 5
    assert prelux.run([PYTHON, "-c", LINKS, lake]).stdout == want


def test_links_of_a_file_that_leaves_the_cache(prelux, tmp_path):
    """With `after_upload: drop` the local file loses its name, and its path shows it all the same."""
    (tmp_path / "remote").mkdir()
    lake = prelux.file_mapping(tmp_path / "remote", tmp_path / "mnt/lake", write="async", after_upload="drop")
    code = """
import os, sys, time
os.chdir(sys.argv[1])
with open("f", "w") as f:
    f.write("xx")
fd = os.open("f", os.O_RDONLY)
before = os.fstat(fd).st_nlink
while any(os.listdir(folder) for folder in sys.argv[2:]):
    time.sleep(0.01)
print(before, os.fstat(fd).st_nlink, os.stat("f").st_nlink)
"""
    staging = prelux.cache / ".prelux/staging"
    done = prelux.run([PYTHON, "-c", code, lake, staging])
    assert not list(staging.iterdir())
    assert done.stdout == "1 1 1\n"
