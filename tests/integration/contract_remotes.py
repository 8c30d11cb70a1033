"""The writable remotes of the contract suite: one row a kind. test_contract.py runs the same tests over every row.

To add one: a class with the members of Remote, and a row in KINDS. `caps` is what docs/BACKENDS.md promises for it; the suite
checks that the backend says the same, that it keeps every promise, and that it refuses what it does not promise.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

# enum prelux_backend_caps of lib/backend/backend.h
WRITE, PUT_ABSENT, PUT_VERSION, REMOVE_VERSION, MULTIPART = 0x100, 0x200, 0x400, 0x800, 0x1000
RENAME_FILE, RENAME_DIR, RENAME_ATOMIC, RENAME_NOREPLACE, RENAME_EXCHANGE = 0x2000, 0x4000, 0x8000, 0x10000, 0x20000
MKDIR, MKDIR_MARKER, KEEP_MODE, KEEP_MTIME, SET_ATTR, COPY = 0x40000, 0x80000, 0x100000, 0x200000, 0x400000, 0x800000
KEEP_OWNER, RENAME_SAME = 0x1000000, 0x2000000
BITS = {name: value for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)}
ALL = sum(BITS.values())

NOREPLACE, EXCHANGE = 1, 2  # enum prelux_rename_flags

# What a key may be made of. A remote that cannot carry one of them names it in `cannot`, and must refuse it.
NAMES = [b"plain.txt", b"with space", b" lead and trail ", b"100%", b"%41", b"a?b", b"a#b", b"a&b=c;d", b"q'uo\"te", b"<x>", b"back\\slash",
         b"new\nline", b"tab\tbell\a", b"\xff\xfe", "\u00e9\u4e2d\U0001f600".encode(), b"n" * 255, b"a:b", b"+plus", b"~t", b"-", b"...", b"..a",
         b"*?[x]", b"{a,b}", b"$HOME", b"a|b", b"name.", b"a@b", b"CON"]


class Remote:
    """An empty root of one kind of remote, for one test."""

    conf = None             # of the backend under test: {"type": ..., ...}
    steps = {}              # words for the tool's `steps` op, sent first
    part_size = 1 << 20     # for uploads in parts
    mtime_unit_ns = 1       # granularity of KEEP_MTIME
    cannot = ()             # of NAMES
    breaks_on = ()          # of NAMES: the server fails at it and has it all the same, under another name
    before_1970 = True      # KEEP_MTIME of times before the epoch
    tells_short_parts = True  # complete() notices a part that was never sent
    knows_part_size = True    # part() refuses one that is too long; else complete() does
    completes_again = False   # a second complete() says what the first one said, instead of ENXIO
    late_s = 0                # what a client that died has sent may be done so many seconds later
    gaps = False              # while the server replaces an object it has neither the old nor the new one, for a moment

    def __init__(self, tmp):
        self.tmp = tmp

    # Another client of the same remote, not prelux: by it the suite sees what is really there.

    def objects(self):
        """{path: bytes} of all files, also of what prelux does not show; folders are {path: None} where there are any."""
        raise NotImplementedError

    def content(self, path):
        """Bytes of one file."""
        return self.objects()[os.fsencode(path)]

    def write(self, path, data):
        """Put a file there from behind, in one step."""
        raise NotImplementedError

    def uploads(self):
        """How many unfinished uploads the remote holds."""
        raise NotImplementedError


class FileRemote(Remote):
    """A folder."""

    HIDDEN = b".prelux~"

    def __init__(self, tmp, root=None):
        super().__init__(tmp)
        self.root = Path(root or tmp / "root")
        self.root.mkdir(exist_ok=True)
        self.conf = {"type": "file", "root": str(self.root)}

    def at(self, path):
        return os.path.join(os.fsencode(self.root), os.fsencode(path))

    def objects(self):
        found = {}
        top = os.fsencode(self.root)
        for folder, folders, names in os.walk(top):
            for name in folders:
                found[os.path.relpath(os.path.join(folder, name), top)] = None
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), top)
                if not name.startswith(self.HIDDEN + b"up-"):
                    with open(os.path.join(folder, name), "rb") as file:
                        found[path] = file.read()
        return found

    def content(self, path):
        with open(self.at(path), "rb") as file:
            return file.read()

    def write(self, path, data):
        with open(self.at(path) + b".new", "wb") as file:
            file.write(data)
        os.rename(self.at(path) + b".new", self.at(path))

    def uploads(self):
        return sum(name.startswith(self.HIDDEN + b"up-") for _, _, names in os.walk(os.fsencode(self.root)) for name in names)


class NamedFileRemote(FileRemote):
    """A file system without files that have no name."""

    steps = {"no_tmpfile": True}


class SharedFileRemote(FileRemote):
    """A file system that says it is NFS: no lock reaches everybody."""

    steps = {"fstype": 0x6969}


class Kind:
    """name; caps promised; make(tmp): a context manager that gives a Remote, or raises Missing. asan: also with a sanitized tool
    ("full": in `make full`, for others take its paths, too)."""

    def __init__(self, name, caps, make, asan=True):
        self.name, self.caps, self.make, self.asan = name, caps, make, asan


class Missing(Exception):
    """Why this remote cannot run here."""


@contextlib.contextmanager
def in_memory(tmp):
    """A tmpfs: nothing takes time there, so that two changes fall into one tick of the clock."""
    if not os.access("/dev/shm", os.W_OK):
        raise Missing("/dev/shm cannot be written")
    root = tempfile.mkdtemp(prefix="prelux-contract-", dir="/dev/shm")
    try:
        yield FileRemote(tmp, root)
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def small_disk(tmp, size="24m", options=""):
    """A file system of its own, as a FileRemote."""
    root = tmp / "small"
    root.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "none", root], capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    try:
        yield FileRemote(tmp, root)
    finally:
        subprocess.run(["umount", "-l", root], check=True)


def s3(name):
    """A row's make() of contract_s3.py, which needs what stands above."""

    def make(tmp):
        from tests.integration import contract_s3
        return getattr(contract_s3, name)(tmp)

    return make


def azurite(tmp):
    from tests.integration import contract_azure
    return contract_azure.azurite_remote(tmp)


def alluxio(tmp):
    from tests.integration import contract_alluxio
    return contract_alluxio.alluxio_remote(tmp)


def alluxio_ee(replaces):
    """A row's make(): the stand-in, whose mv replaces what is there, or does not."""

    def make(tmp):
        from tests.integration import contract_alluxio
        return contract_alluxio.ee_remote(tmp, replaces)

    return make


def alluxio3(name):
    """A row's make() of contract_alluxio3.py."""

    def make(tmp):
        from tests.integration import contract_alluxio3
        return getattr(contract_alluxio3, name)(tmp)

    return make


FILE = ALL & ~(MKDIR_MARKER | KEEP_OWNER | RENAME_SAME)
AZURE = (WRITE | PUT_ABSENT | PUT_VERSION | REMOVE_VERSION | MULTIPART | RENAME_FILE | RENAME_NOREPLACE | MKDIR_MARKER | KEEP_MODE |
         KEEP_MTIME | SET_ATTR | COPY)
S3 = WRITE | PUT_ABSENT | PUT_VERSION | REMOVE_VERSION | MULTIPART | RENAME_FILE | RENAME_NOREPLACE | MKDIR_MARKER | COPY
ALLUXIO_PROXY = (WRITE | PUT_ABSENT | RENAME_FILE | RENAME_DIR | RENAME_NOREPLACE | MKDIR | KEEP_MODE | SET_ATTR | KEEP_OWNER |
                 RENAME_SAME)
ALLUXIO_EE = WRITE | RENAME_FILE | MKDIR | COPY
KINDS = [
    Kind("file", FILE, lambda tmp: contextlib.nullcontext(FileRemote(tmp))),
    Kind("file-tmpfs", FILE, in_memory, asan=False),
    Kind("file-without-tmpfile", FILE, lambda tmp: contextlib.nullcontext(NamedFileRemote(tmp))),
    Kind("file-shared", FILE & ~(PUT_VERSION | REMOVE_VERSION), lambda tmp: contextlib.nullcontext(SharedFileRemote(tmp)), asan=False),
    Kind("versitygw", S3 & ~REMOVE_VERSION, s3("versitygw")),
    Kind("azurite", AZURE, azurite),
    Kind("alluxio-proxy", ALLUXIO_PROXY, alluxio),
    Kind("alluxio-ee", ALLUXIO_EE, alluxio_ee(True), asan="full"),
    Kind("alluxio-ee-409", ALLUXIO_EE, alluxio_ee(False)),
    Kind("alluxio-file", FILE & ~KEEP_MTIME, alluxio3("through_file")),
    Kind("alluxio-versitygw", S3 & ~REMOVE_VERSION, alluxio3("through_versitygw"), asan=False),
    Kind("rclone", WRITE | RENAME_FILE, s3("rclone"), asan=False),
    Kind("minio", S3 & ~REMOVE_VERSION, s3("minio"), asan=False),
]
