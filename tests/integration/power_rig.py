"""A power cut, replayed: what a daemon and the programs beside it did to a folder is recorded by strace, and any prefix of it can be made again in another folder, as a
disk may have it after the power has gone.

What is certain to be there: the content of a file as it was at its last fsync (fdatasync, syncfs), and a name in a folder as it was at that folder's last
fsync. Of all the rest a disk may have any part. Three ways of it are made, in MODELS:

    kept    all of it: only the processes are gone
    names   names and folders are as they were, content is what was synced: how a file of the right name gets to be empty
    lost    nothing of it

Inode numbers are not the same in a folder made again. Files that are named by theirs (staging) are named anew, and what SQLite has of them is set right, in databases
that SQLite has opened before as the daemon would: a torn end of a WAL is replayed or dropped by then.
"""

import os
import re
import sqlite3
from pathlib import Path

MODELS = ("kept", "names", "lost")
CALLS = ("open,openat,openat2,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,"
         "mkdirat,rmdir,fsync,fdatasync,syncfs,sync,copy_file_range,sendfile,splice,symlink,symlinkat")
STRACE = ["strace", "-f", "-ttt", "-y", "-xx", "-s", "4000000", "--seccomp-bpf", "-e", "trace=" + CALLS, "-o"]
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$")
FD = re.compile(r"^(AT_FDCWD|\d+)<([^>]*)>(\(deleted\))?$")
GONE = 1 << 40  # added to numbers of inodes that are no more, so that no new file has them by chance


def unhex(text):
    return bytes.fromhex(text.replace("\\x", "")) if text.startswith("\\x") else text.encode()


def split(text):
    """Arguments of a call: strings as bytes, descriptors as (number, path), the rest as text. And what comes behind the call."""
    args, at = [], 0
    while at < len(text):
        if text[at] == '"':
            end = text.index('"', at + 1)
            args.append(unhex(text[at + 1:end]))
            assert not text.startswith("...", end + 1), "strace has cut a string"
            at = end + 1
        elif text[at] == ")" and re.match(r"\)\s+= ", text[at:]):
            return args, re.match(r"\)\s+= (.*)", text[at:])[1]
        elif text[at] in ", ":
            at += 1
        else:
            depth, end = 0, at
            while end < len(text) and (depth > 0 or text[end] not in ",)\"") or text.startswith("(deleted)", end):
                if text.startswith("(deleted)", end):
                    end += 9
                    continue
                depth += {"<": 1, ">": -1, "{": 1, "[": 1, "}": -1, "]": -1}.get(text[end], 0)
                end += 1
            args.append(descriptor(text[at:end].strip()))
            at = end
    return args, ""


def descriptor(text):
    found = FD.match(text)
    return (found[1], os.fsdecode(unhex(found[2])) + (" (deleted)" if found[3] else "")) if found else text


class Node:
    """A file or folder. content: bytearray, or {name: Node}; synced: what is on the medium."""

    def __init__(self, folder):
        self.folder = folder
        self.content = {} if folder else bytearray()
        self.synced = {} if folder else b""
        self.ino = None

    def sync(self):
        self.synced = dict(self.content) if self.folder else bytes(self.content)

    def shown(self, model, of_folder=False):
        if model == "kept" or (model == "names" and self.folder):
            return self.content
        return self.synced


class Disk:
    """A folder, as a row of calls makes it. What lies outside of it is nobody's business."""

    def __init__(self, root):
        self.root = str(root)
        self.top = Node(True)
        self.nameless = {}

    def inside(self, path):
        return path == self.root or path.startswith(self.root + "/")

    def find(self, path):
        """The node, or None."""
        if path in self.nameless:
            return self.nameless[path]
        node = self.top
        for name in path[len(self.root):].split("/"):
            if name in ("", "."):
                continue
            node = node.content.get(name) if node and node.folder else None
        return node

    def parent(self, path):
        folder, name = os.path.split(path.rstrip("/"))
        return self.find(folder), name

    def put(self, path, node):
        folder, name = self.parent(path)
        folder.content[name] = node
        if os.path.basename(os.path.dirname(path)) == "staging" and name.isdigit():
            node.ino = int(name)

    def do(self, call, args, result):
        """One call that succeeded."""
        act = getattr(self, "do_" + call, None)
        if act:
            act(args, result)
        elif any(self.inside(one[1] if isinstance(one, tuple) else os.fsdecode(one)) for one in args if isinstance(one, (bytes, tuple))):
            raise NotImplementedError(f"{call} {args}")

    def sync_all(self, node=None):
        node = node or self.top
        node.sync()
        for child in node.content.values() if node.folder else ():
            self.sync_all(child)

    # Calls. Paths come as (dirfd, name), or a name alone.

    def path(self, args, at):
        """(path, how many arguments it takes)"""
        if isinstance(args[at], bytes):
            return os.fsdecode(args[at]), 1
        name = os.fsdecode(args[at + 1])
        return (name if name.startswith("/") else os.path.normpath(os.path.join(args[at][1], name))), 2

    def do_openat(self, args, result):
        path, n = self.path(args, 0)
        flags = args[n].split("|")
        if not self.inside(path):
            return
        got = descriptor(result.split(" ")[0] if "(deleted)" not in result else result)
        if "O_TMPFILE" in flags:
            self.nameless[got[1]] = self.last = Node(False)
            return
        if "O_CREAT" in flags and self.find(path) is None:
            self.put(path, Node(False))
        if "O_TRUNC" in flags and self.find(path):
            self.find(path).content[:] = b""

    do_open = do_openat

    def file(self, args):
        return self.find(args[0][1]) if self.inside(args[0][1]) else None

    def do_pwrite64(self, args, result):
        node = self.file(args)
        if node:
            at, data = int(args[-1]), args[1][:int(result.split()[0])]
            node.content[len(node.content):] = bytes(max(0, at - len(node.content)))
            node.content[at:at + len(data)] = data

    def do_write(self, args, result):  # nobody writes so but to the end, here
        node = self.file(args)
        if node:
            node.content += args[1][:int(result.split()[0])]

    def do_ftruncate(self, args, result):
        node = self.file(args)
        if node:
            size = int(args[1])
            node.content[:] = node.content[:size] + bytes(max(0, size - len(node.content)))

    def do_truncate(self, args, result):
        self.do_ftruncate([("", os.fsdecode(args[0])), args[1]], result)

    def do_fallocate(self, args, result):
        node = self.file(args)
        if node and args[1] == "0":
            end = int(args[2]) + int(args[3])
            node.content[len(node.content):] = bytes(max(0, end - len(node.content)))

    def do_mkdirat(self, args, result):
        path, _ = self.path(args, 0)
        if self.inside(path) and path != self.root:
            self.put(path, Node(True))

    do_mkdir = do_mkdirat

    def do_unlinkat(self, args, result):
        path, _ = self.path(args, 0)
        if self.inside(path):
            folder, name = self.parent(path)
            del folder.content[name]

    do_unlink = do_rmdir = do_unlinkat

    def do_renameat(self, args, result):
        old, n = self.path(args, 0)
        new, m = self.path(args, n)
        if not self.inside(old) and not self.inside(new):
            return
        folder, name = self.parent(old)
        node = folder.content[name]
        if len(args) > n + m and "EXCHANGE" in args[n + m]:
            folder.content[name] = self.find(new)
        else:
            del folder.content[name]
        self.put(new, node)

    do_rename = do_renameat2 = do_renameat

    def do_linkat(self, args, result):
        old, n = self.path(args, 0)
        new, _ = self.path(args, n)
        if self.inside(new):
            self.put(new, self.last if old.startswith("/proc/self/fd/") else self.find(old))

    do_link = do_linkat

    def do_fdatasync(self, args, result):
        node = self.file(args)
        if node:
            node.sync()

    do_fsync = do_fdatasync

    def do_syncfs(self, args, result):
        self.sync_all()

    do_sync = do_syncfs

    # Made again.

    def make(self, where, model):
        """A folder as it may be after the power has gone; {number of an inode then: now}."""
        numbers = {}
        made = {}

        def fill(node, path):
            path.mkdir(mode=0o700, exist_ok=True)
            for name, child in node.shown(model).items():
                if child in made:
                    os.link(made[child], path / name)
                elif child.folder:
                    fill(child, path / name)
                else:
                    (path / name).write_bytes(child.shown(model))
                    (path / name).chmod(0o600)
                    made[child] = path / name
                    if child.ino:
                        numbers[child.ino] = (path / name).stat().st_ino

        fill(self.top, where)
        staging = where / ".prelux/staging"
        names = {one: staging / str(numbers.get(int(one.name), int(one.name) + GONE)) for one in staging.iterdir()} if staging.exists() else {}
        for one, new in names.items():
            one.rename(f"{one}.x")
        for one, new in names.items():
            Path(f"{one}.x").rename(new)
        renumber(where / ".prelux/journal.db", ("pending",), numbers)
        renumber(where / ".prelux/catalogue.db", ("objects", "fills"), numbers)


def renumber(path, tables, numbers):
    """Numbers of inodes in a database, where it is one."""
    if not path.exists() or not path.stat().st_size:
        return
    db = sqlite3.connect(path, isolation_level=None)
    try:
        there = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        db.execute("BEGIN")
        for table in set(tables) & there:
            for (old,) in db.execute(f"SELECT DISTINCT ino FROM {table}").fetchall():
                db.execute(f"UPDATE {table} SET ino=? WHERE ino=?", (-numbers.get(old, old + GONE), old))
            db.execute(f"UPDATE {table} SET ino=-ino")
        db.execute("COMMIT")
    finally:
        db.close()


def read_trace(path):
    """[(when, call, args, result)] of all calls that succeeded, in the order in which they ended."""
    rows, begun = [], {}
    for line in path.read_text().splitlines():
        found = LINE.match(line)
        if not found:
            continue
        pid, when, resumed, call, rest = found.groups()
        if resumed:
            rest = begun.pop((pid, resumed), "") + rest.lstrip()
            call = resumed
        elif rest.endswith("<unfinished ...>"):
            begun[pid, call] = rest.removesuffix("<unfinished ...>").rstrip() + " "
            continue
        args, result = split(rest)
        if result and not result.startswith("-1") and not result.startswith("?"):
            rows.append((float(when), call, args, result))
    return rows
