"""Makes calls that change names and attributes, on a small tree that it builds in the folder BASE, and prints what each gave:

    names.py PART BASE OUTSIDE FORM      FORM: cwd (relative), abs, dirfd; OUTSIDE: a real folder of its own, to which a link leads

A line a call: the call, the names, errno or result, and after a success the whole tree. The same program runs on a plain folder and
below a mapping; what they print is compared. Not a test by itself: test_names_write.py."""

import ctypes
import errno
import os
import stat
import sys

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
LONG = "x" * 256
NAMES = ["f", "d", "e", "new", "new/", "f/", "d/", "e/", "d/.", "d/..", "e/.", "f/.", "no/.", ".", "..", "", "d/g", "f/x", "no/x", "no/x/",
         "l", "l/", "ld", "ld/", "ld/g", "ld/new", "ld/.", "ld/..", "lx", "lx/", "lx/new", "loop", "loop/x", "d/../f", "ld/../f", "ld/../d/g",
         "f/../f", "no/../f", "up/f", "out", "out/", "out/new", "out/../new", LONG, "d/" + LONG, "./f", "d//g", "new/."]
PAIRS = ["f", "d", "e", "new", "new/", "f/", "d/", "e/.", "d/..", ".", "d/g", "d/new", "d/sub/new", "e/new", "f/x", "no/x", "l", "ld", "ld/", "ld/g",
         "lx", "loop", "g", "full", "e/../d", LONG]


class Tree:
    """The tree that every call begins with."""

    links = {"l": "f", "ld": "d", "lx": "none", "loop": "loop", "d/up": "..", "up": "d/up"}

    def __init__(self, base, outside, form):
        self.base, self.outside, self.form = base, outside + "/in", form
        os.makedirs(base, exist_ok=True)
        self.fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
        os.chdir(base)
        self.reset()

    def reset(self):
        clear(self.base)
        os.chmod(self.base, 0o755)
        around = os.path.dirname(self.outside)
        clear(around)
        os.mkdir(self.outside)
        b = self.base + "/"
        for name in ("d", "e", "d/sub", "full"):
            os.mkdir(b + name, 0o755)
        for name, text in (("f", "content\n"), ("g", "gee\n"), ("d/g", "more\n"), ("full/x", "")):
            with open(b + name, "w") as f:
                f.write(text)
            os.chmod(b + name, 0o644)
        for name, target in {**self.links, "out": self.outside}.items():
            os.symlink(target, b + name)

    def at(self, name):
        """(dirfd, path) for an at-call, or (AT_FDCWD, path)."""
        if self.form == "dirfd":
            return self.fd, name
        return AT_FDCWD, self.base + "/" + name if self.form == "abs" and name else name

    def path(self, name):
        return self.base + "/" + name if self.form != "cwd" and name else name

    def show(self):
        return " ".join(described(self.base, ""))


def clear(folder):
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            clear(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)


def described(base, below):
    found = []
    for name in sorted(os.listdir(os.path.join(base, below))):
        path = os.path.join(below, name)
        whole = os.path.join(base, path)
        st = os.lstat(whole)
        shown = path if len(path) < 60 else path[:20] + "..."
        if stat.S_ISLNK(st.st_mode):
            target = os.readlink(whole)
            assert st.st_size == len(target), whole
            found.append(f"{shown}->{'OUTSIDE' if target.startswith('/') and shown == 'out' else target}")
        elif stat.S_ISDIR(st.st_mode):
            found.append(f"{shown}/:{st.st_mode & 0o7777:o}")
            found += described(base, path)
        else:
            with open(whole, "rb") as f:
                found.append(f"{shown}:{st.st_mode & 0o7777:o}:{st.st_size}:{f.read(100)!r}")
    return found


def call(fn, *args):
    ctypes.set_errno(0)
    rc = fn(*[a.encode() if isinstance(a, str) else a for a in args])
    return 0 if rc == 0 else ctypes.get_errno() if rc == -1 else rc


def word(number):
    return errno.errorcode.get(number, str(number))


class Times(ctypes.Structure):
    _fields_ = [("s", ctypes.c_long * 4)]


def specs(mtime, omit=False):
    return ctypes.byref(Times((ctypes.c_long * 4)(7, 0, mtime, (1 << 30) - 2 if omit else 123456789)))


def tried(fn, *args):
    try:
        return fn(*args)
    except OSError as e:
        return word(e.errno)


def opened(path, flags):
    fd = os.open(path, flags, 0o666)
    st = os.fstat(fd)
    os.close(fd)
    return f"opened {stat.S_IFMT(st.st_mode):o} {st.st_mode & 0o777:o} {st.st_size}"


def listed(path):
    with os.scandir(path) as entries:
        return sorted((e.name, e.is_symlink(), e.is_dir(follow_symlinks=False), e.is_dir()) for e in entries)


def shown(path, follow=True):
    st = os.stat(path, follow_symlinks=follow)
    return f"{st.st_mode:o} {0 if stat.S_ISDIR(st.st_mode) else st.st_size}"


def moved(t, path):
    os.chdir(path)
    try:
        inside = os.getcwd().startswith(t.base)
        return os.path.relpath(os.getcwd(), t.base) if inside else "outside"
    finally:
        os.chdir(t.base)


def resolved(t, path):
    got = os.path.realpath(path, strict=True)
    return os.path.relpath(got, t.base) if got.startswith(t.base) else "outside"


def c_realpath(t, path):
    buf = ctypes.create_string_buffer(4096)
    libc.realpath.restype = ctypes.c_char_p
    ctypes.set_errno(0)
    got = libc.realpath(path.encode(), buf)
    if got is None:
        return word(ctypes.get_errno())
    got = got.decode()
    return os.path.relpath(got, t.base) if got.startswith(t.base) else "outside"


CHANGES = {
    "mkdir": lambda t, n: call(libc.mkdirat, *t.at(n), 0o751),
    "mkdir2": lambda t, n: call(libc.mkdir, t.path(n), 0o700),
    "rmdir": lambda t, n: call(libc.rmdir, t.path(n)),
    "unlink": lambda t, n: call(libc.unlink, t.path(n)),
    "unlinkat": lambda t, n: call(libc.unlinkat, *t.at(n), 0),
    "unlinkat-dir": lambda t, n: call(libc.unlinkat, *t.at(n), 0x200),
    "unlinkat-bad": lambda t, n: call(libc.unlinkat, *t.at(n), 0x10),
    "remove": lambda t, n: call(libc.remove, t.path(n)),
    "symlink": lambda t, n: call(libc.symlinkat, "d/g", *t.at(n)),
    "symlink2": lambda t, n: call(libc.symlink, "/some/where", t.path(n)),
    "symlink-empty": lambda t, n: call(libc.symlink, "", t.path(n)),
    "mknod": lambda t, n: call(libc.mknodat, *t.at(n), stat.S_IFREG | 0o640, 0),
    "mknod-dir": lambda t, n: call(libc.mknod, t.path(n), stat.S_IFDIR | 0o640, 0),
    "mknod-bad": lambda t, n: call(libc.mknod, t.path(n), 0o170000 | 0o640, 0),
    "truncate": lambda t, n: call(libc.truncate, t.path(n), ctypes.c_long(3)),
    "truncate-0": lambda t, n: call(libc.truncate, t.path(n), ctypes.c_long(0)),
    "truncate-up": lambda t, n: call(libc.truncate64, t.path(n), ctypes.c_long(20)),
    "truncate-bad": lambda t, n: call(libc.truncate, t.path(n), ctypes.c_long(-1)),
    "chmod": lambda t, n: call(libc.chmod, t.path(n), 0o600),
    "fchmodat": lambda t, n: call(libc.fchmodat, *t.at(n), 0o751, 0),
    "chown": lambda t, n: call(libc.chown, t.path(n), os.getuid(), os.getgid()),
    "chown-none": lambda t, n: call(libc.chown, t.path(n), -1, -1),
    "lchown": lambda t, n: call(libc.lchown, t.path(n), os.getuid(), -1),
    "utimensat": lambda t, n: call(libc.utimensat, *t.at(n), specs(1234567890), 0),
    "utimensat-l": lambda t, n: call(libc.utimensat, *t.at(n), specs(1234567890), 0x100),
    "utimensat-omit": lambda t, n: call(libc.utimensat, *t.at(n), specs(0, omit=True), 0),
    "utimes": lambda t, n: call(libc.utimes, t.path(n), None),
    "utime": lambda t, n: call(libc.utime, t.path(n), None),
    "creat": lambda t, n: tried(opened, t.path(n), os.O_WRONLY | os.O_CREAT),
    "creat-x": lambda t, n: tried(opened, t.path(n), os.O_WRONLY | os.O_CREAT | os.O_EXCL),
    "creat-t": lambda t, n: tried(opened, t.path(n), os.O_RDWR | os.O_CREAT | os.O_TRUNC),
    "open-w": lambda t, n: tried(opened, t.path(n), os.O_WRONLY),
    "open-w-l": lambda t, n: tried(opened, t.path(n), os.O_RDWR | os.O_NOFOLLOW),
}
LOOKS = {
    "stat": lambda t, n: tried(shown, t.path(n)),
    "lstat": lambda t, n: tried(shown, t.path(n), False),
    "readlink": lambda t, n: tried(os.readlink, t.path(n)).replace(t.outside, "OUTSIDE"),
    "open": lambda t, n: tried(opened, t.path(n), os.O_RDONLY),
    "open-l": lambda t, n: tried(opened, t.path(n), os.O_RDONLY | os.O_NOFOLLOW),
    "open-d": lambda t, n: tried(opened, t.path(n), os.O_RDONLY | os.O_DIRECTORY),
    "access": lambda t, n: call(libc.access, t.path(n), os.W_OK),
    "access-f": lambda t, n: call(libc.access, t.path(n), os.F_OK),
    "chdir": lambda t, n: tried(moved, t, t.path(n)),
    "listdir": lambda t, n: tried(listed, t.path(n)),
    "realpath": lambda t, n: c_realpath(t, t.path(n)),
    "realpath-py": lambda t, n: tried(resolved, t, t.path(n)),
    "mkfifo": lambda t, n: call(libc.mkfifo, t.path(n), 0o600),
}
# Calls that give another errno where they would succeed on a plain folder: both sides say "made".
UNABLE = {"mkfifo": errno.EOPNOTSUPP}


def one(t, name, fn, *names):
    got = fn(t, *names)
    if isinstance(got, int):
        good, text = got == 0, word(got) if got else "ok"
        if got == UNABLE.get(name):
            text = "ok"
    else:
        good, text = not (isinstance(got, str) and got.startswith("E")), str(got)
    print(name, *[n if len(n) < 60 else "LONG" for n in names], ":", text, t.show() if good and name not in LOOKS else "", flush=True)
    if good and (name in CHANGES or name.startswith("rename")) or name in UNABLE:
        t.reset()


def rename(t, a, b, flags):
    if flags == 0 and t.form != "dirfd":
        return call(libc.rename, t.path(a), t.path(b))
    return call(libc.renameat2, *t.at(a), *t.at(b), flags)


def main():
    part, base, outside, form = sys.argv[1:]
    os.umask(0o022)
    if part == "exchange":  # links, and folders with links below, are not exchanged: EINVAL, as where a file system cannot
        Tree.links = {}
    t = Tree(base, outside, form)
    if part == "changes":
        for name, fn in CHANGES.items():
            for n in NAMES:
                one(t, name, fn, n)
    elif part == "looks":
        for name, fn in LOOKS.items():
            for n in NAMES:
                one(t, name, fn, n)
    else:
        flags = {"rename": 0, "noreplace": NOREPLACE, "exchange": EXCHANGE, "bad": 64, "both": 3}[part]
        for a in PAIRS:
            for b in PAIRS:
                one(t, "rename-" + part, lambda t, a, b: rename(t, a, b, flags), a, b)
    clear(base)


if __name__ == "__main__":
    main()
