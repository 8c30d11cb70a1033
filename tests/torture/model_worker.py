"""The program of the model test (model.py): does what it is told below one folder, an operation a line, and says what came of it.

It runs without prelux in a plain folder and below prelux in a mapped one; both must say the same. Descriptors are kept in
numbered slots. Answers are JSON: ["ok", value] or ["err", errno]."""

import ctypes
import hashlib
import json
import mmap
import os
import shutil
import subprocess
import sys

MODES = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL, "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
         "w-": os.O_WRONLY, "wt": os.O_WRONLY | os.O_TRUNC, "r+": os.O_RDWR, "w+": os.O_RDWR | os.O_CREAT | os.O_TRUNC, "c": os.O_RDWR | os.O_CREAT,
         "a+": os.O_RDWR | os.O_APPEND, "x+": os.O_RDWR | os.O_CREAT | os.O_EXCL, "d": os.O_RDONLY | os.O_DIRECTORY, "n": os.O_RDONLY | os.O_NOFOLLOW,
         "wn": os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, "s": os.O_WRONLY | os.O_CREAT | os.O_SYNC}
ADVICE = {"dontneed": os.POSIX_FADV_DONTNEED, "willneed": os.POSIX_FADV_WILLNEED, "sequential": os.POSIX_FADV_SEQUENTIAL, "random": os.POSIX_FADV_RANDOM}
RENAME_NOREPLACE, AT_FDCWD = 1, -100
LIBC = ctypes.CDLL(None, use_errno=True)


def content(tag, size):
    """Bytes that say whose they are: a part of them is of no other operation."""
    block = f"<{tag}>".encode()
    return (block * (size // len(block) + 1))[:size]


def shown(data):
    """Enough to tell bytes apart, and to read in a message."""
    return [len(data), data[:16].decode("latin-1"), data[-10:].decode("latin-1"), hashlib.sha1(data).hexdigest()[:12]]


def whole(fd):
    pieces = []
    while piece := os.read(fd, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def put(fd, data):
    while data:
        data = data[os.write(fd, data):]


class Worker:
    def __init__(self, root):
        self.root, self.slots, self.maps, self.held = root, {}, {}, {}

    def at(self, path):
        return f"{self.root}/{path}"

    def fd(self, slot):
        return self.slots[slot][0]

    # Descriptors

    def open(self, slot, path, mode):
        self.close(slot)
        self.slots[slot] = (os.open(self.at(path), MODES[mode], 0o644), mode)
        return os.fstat(self.fd(slot)).st_ino

    def tmpfile(self, slot, folder):
        self.close(slot)
        self.slots[slot] = (os.open(self.at(folder), os.O_TMPFILE | os.O_RDWR, 0o644), "w+")
        return os.fstat(self.fd(slot)).st_ino

    def linkat(self, slot, path):
        os.link(f"/proc/self/fd/{self.fd(slot)}", self.at(path), follow_symlinks=True)

    def close(self, slot):
        if slot in self.slots:
            os.close(self.slots.pop(slot)[0])

    def dup(self, slot, to):
        if to != slot:
            self.close(to)
            self.slots[to] = (os.dup(self.fd(slot)), self.slots[slot][1])

    def dup2(self, slot, to):
        """Onto another: that one is closed by it, and nobody hears how."""
        if to not in self.slots:
            return self.dup(slot, to)
        os.dup2(self.fd(slot), self.fd(to), False)
        self.slots[to] = (self.fd(to), self.slots[slot][1])

    def read(self, slot, size):
        return shown(os.read(self.fd(slot), size))

    def pread(self, slot, size, at):
        return shown(os.pread(self.fd(slot), size, at))

    def write(self, slot, tag, size):
        return os.write(self.fd(slot), content(tag, size))

    def pwrite(self, slot, tag, size, at):
        return os.pwrite(self.fd(slot), content(tag, size), at)

    def seek(self, slot, at, whence):
        return os.lseek(self.fd(slot), at, whence)

    def ftruncate(self, slot, size):
        os.ftruncate(self.fd(slot), size)

    def fallocate(self, slot, at, size):
        os.posix_fallocate(self.fd(slot), at, size)

    def fsync(self, slot):
        os.fsync(self.fd(slot))

    def fstat(self, slot):
        st = os.fstat(self.fd(slot))
        return [oct(st.st_mode & 0o170000), st.st_size if st.st_mode & 0o100000 else None, min(st.st_nlink, 1), st.st_ino]

    def same(self, slot, path):
        """Is it the file of that name?"""
        one, other = os.fstat(self.fd(slot)), os.stat(self.at(path))
        return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)

    def advise(self, slot, advice):
        os.posix_fadvise(self.fd(slot), 0, 0, ADVICE[advice])

    def copy(self, slot, to, size):
        return os.copy_file_range(self.fd(slot), self.fd(to), size)

    def sendfile(self, slot, to, size):
        return os.sendfile(self.fd(to), self.fd(slot), None, size)

    # Maps: of the whole file as it is then

    def map(self, slot, writing):
        self.unmap(slot)
        self.maps[slot] = (mmap.mmap(self.fd(slot), 0, mmap.MAP_SHARED, mmap.PROT_READ | (mmap.PROT_WRITE if writing else 0)), writing)
        return os.fstat(self.fd(slot)).st_ino

    def unmap(self, slot):
        if slot in self.maps:
            self.maps.pop(slot)[0].close()

    def mapread(self, slot):
        return shown(bytes(self.mapped(slot)))

    def mapped(self, slot):
        """Behind the end of the file the kernel's answer would be SIGBUS."""
        one = self.maps[slot][0]
        if one.size() < len(one):
            raise ValueError
        return one

    def mapstore(self, slot, tag, size):
        one, writing = self.mapped(slot), self.maps[slot][1]
        if not writing:
            raise ValueError
        size = min(size, len(one))
        one[:size] = content(tag, size)

    # Children

    def forkwrite(self, slot, tag, size):
        """A child writes by what it has inherited, and ends."""
        fd = self.fd(slot)
        child = os.fork()
        if not child:
            try:
                put(fd, content(tag, size))
                os._exit(0)
            except OSError as error:
                os._exit(error.errno)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise OSError(code, "child")

    def forkhold(self, number, slot):
        """A child that has all descriptors of now, and waits. It writes by `slot` before it ends."""
        fd = self.fd(slot)
        self.forkend(number, None, 0)
        hear, say = os.pipe()
        child = os.fork()
        if not child:
            os.close(say)
            try:
                words = whole(hear)
                if words:
                    tag, size = json.loads(words)
                    put(fd, content(tag, size))
                os._exit(0)
            except OSError as error:
                os._exit(error.errno)
        os.close(hear)
        self.held[number] = (child, say)

    def forkend(self, number, tag, size):
        if number in self.held:
            child, say = self.held.pop(number)
            if tag is not None:
                os.write(say, json.dumps([tag, size]).encode())
            os.close(say)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code:
                raise OSError(code, "child")

    def execwrite(self, slot, tag, size):
        """Another program, by a descriptor it inherits."""
        program = f"head -c {size} /dev/zero | tr '\\0' {tag[-1]} >&{self.fd(slot)}"
        return subprocess.run(["sh", "-c", program], pass_fds=[self.fd(slot)], stderr=subprocess.DEVNULL, check=False).returncode

    # Paths

    def get(self, path):
        fd = os.open(self.at(path), os.O_RDONLY)
        try:
            return shown(whole(fd))
        finally:
            os.close(fd)

    def getmap(self, path):
        fd = os.open(self.at(path), os.O_RDONLY)
        try:
            if not os.fstat(fd).st_size:
                return shown(b"")
            with mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) as data:
                return shown(bytes(data))
        finally:
            os.close(fd)

    def put(self, path, mode, tag, size):
        fd = os.open(self.at(path), MODES[mode], 0o644)
        try:
            put(fd, content(tag, size))
        finally:
            os.close(fd)

    def truncate(self, path, size):
        os.truncate(self.at(path), size)

    def rename(self, path, to):
        os.rename(self.at(path), self.at(to))

    def noreplace(self, path, to):
        if LIBC.renameat2(AT_FDCWD, os.fsencode(self.at(path)), AT_FDCWD, os.fsencode(self.at(to)), RENAME_NOREPLACE):
            raise OSError(ctypes.get_errno(), "renameat2")

    def unlink(self, path):
        os.unlink(self.at(path))

    def mkdir(self, path):
        os.mkdir(self.at(path))

    def rmdir(self, path):
        os.rmdir(self.at(path))

    def link(self, path, to):
        os.link(self.at(path), self.at(to), follow_symlinks=False)

    def symlink(self, target, path):
        os.symlink(target, self.at(path))

    def readlink(self, path):
        return os.readlink(self.at(path))

    def stat(self, path):
        return self._shown(os.stat(self.at(path)))

    def lstat(self, path):
        return self._shown(os.lstat(self.at(path)))

    def _shown(self, st):
        regular = st.st_mode & 0o170000 == 0o100000
        return [oct(st.st_mode & 0o170000), st.st_size if regular else None, st.st_nlink if regular else None, st.st_ino]

    def list(self, path):
        with os.scandir(self.at(path)) as entries:
            return sorted([entry.name, "l" if entry.is_symlink() else "d" if entry.is_dir() else "f"] for entry in entries)

    def access(self, path, mode):
        return os.access(self.at(path), mode)

    def tree(self, path):
        found = {}
        for folder, folders, names in os.walk(self.at(path)):
            for name in folders + names:
                full = os.path.join(folder, name)
                relative = os.path.relpath(full, self.at(path))
                found[relative] = ["l", os.readlink(full)] if os.path.islink(full) else ["d"] if os.path.isdir(full) else ["f", self.get(os.path.relpath(full, self.root))]
        return found

    # The rest

    def rmtree(self, path):
        shutil.rmtree(self.at(path))

    def reset(self, root):
        for number in list(self.held):
            self.forkend(number, None, 0)
        for slot in list(self.maps):
            self.unmap(slot)
        for slot in list(self.slots):
            self.close(slot)
        self.root = root

    def serve(self):
        for line in sys.stdin:
            name, *args = json.loads(line)
            try:
                answer = ["ok", getattr(self, name)(*args)]
            except OSError as error:
                answer = ["err", error.errno]
            except (KeyError, ValueError) as error:  # no such slot, an empty file that cannot be mapped
                answer = ["err", type(error).__name__]
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    Worker(sys.argv[1]).serve()
