"""The awkward test data, the same bytes and times at every call.

  python3 -m tests.trees FOLDER [--portable]

make_tree(path) makes the folder; `portable` leaves out the names that an HTTP folder index or Alluxio 2.9 cannot carry.
manifest(path) describes any folder so that two can be compared.
"""

import hashlib
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

EPOCH = 1_700_000_000  # all times lie from here on, whole seconds: HTTP has no better
DEPTH = 40

# Legal names on Linux that have broken programs before.
PORTABLE_NAMES = [
    "a b  c", "grüße-日本語-🜚", "%41", "100%", "plus+sign", "a=b&c=d", "semi;colon", "quo'te", 'dou"ble', "-dash", "--help",
    "[set]", "{brace}", "$HOME", "~tilde", "~", "back`tick", "star*", "comma,colon:", "at@host", "UPPER", "upper", "a..b",
    "tab\tin", "caret^", "pipe|", "<angle>", "dot.", "trailing ", " leading", "paren(1)", "bang!", "e\u0301", "é",
]
# nginx leaves names with a leading dot out of its index.
OTHER_NAMES = ["...", "new\nline", "back\\slash", "hash#mark", "question?mark", ".hidden", "\x01control", "\x7f"]
NOT_UTF8 = b"latin-\xe9\xff"
LONG = "n" * 255

PROGRAM = """#include <stdio.h>
int answer(void);
int main(int argc, char **argv) { printf("program %d %d\\n", argc, answer()); return argc > 1 ? 3 : 0; }
"""
LIBRARY = """#include "answer.h"
int answer(void) { return ANSWER; }
"""


def make_tree(path, portable=False):
    """Make the test data in `path` (must not exist or be empty). Returns Path."""
    root = Path(path)
    root.mkdir(parents=True, exist_ok=True)
    _names(root / "names", portable)
    _plain(root)
    _deep(root)
    _package(root / "package")
    _numbers(root)
    _database(root / "data.sqlite")
    _programs(root / "code")
    if not portable:
        _repository(root / "repository")
    _set_times(root)
    return root


def pattern(size, seed=0):
    """Bytes in which every 8-byte word tells its place: a shifted or torn read is seen."""
    words = (size + 7) // 8
    return struct.pack(f"<{words}Q", *(((seed & 0xffff) << 48) ^ (i * 0x9E3779B97F4A7C15 & (1 << 64) - 1) for i in range(words)))[:size]


def _names(folder, portable):
    folder.mkdir()
    names = [name.encode() for name in PORTABLE_NAMES + ([] if portable else OTHER_NAMES)]
    if not portable:
        names += [NOT_UTF8, LONG.encode(), ("日" * 85).encode()]
    for number, name in enumerate(names):
        with open(os.fsencode(folder) + b"/" + name, "wb") as out:
            out.write(b"content of " + name + b"\n" + pattern(number * 7, number))
    below = folder / "dir with blank" / "ünter"
    below.mkdir(parents=True)
    (below / "file+more").write_bytes(b"below\n")
    (folder / "empty dir").mkdir()
    many = folder.parent / "many"
    many.mkdir()
    for number in range(300):
        (many / f"f{number:04}").write_bytes(b"%d\n" % number)


def _plain(root):
    (root / "empty").write_bytes(b"")
    (root / "one").write_bytes(b"1")
    (root / "readme.txt").write_text("".join(f"line {i} of the text file, with a needle{i}\n" for i in range(1000)))
    for size in (4095, 4096, 4097, 65536, 1 << 20):
        (root / f"size{size}").write_bytes(pattern(size, size))
    (root / "big.bin").write_bytes(pattern(3 << 20, 5) * 2 + b"tail")
    sub = root / "sub" / "folder"
    sub.mkdir(parents=True)
    (sub / "needle.txt").write_text("here is a needle\n")
    (sub / "other.txt").write_text("nothing\n")


def _deep(root):
    folder = root
    for level in range(DEPTH):
        folder = folder / f"deep{level}"
        folder.mkdir()
    (folder / "bottom").write_bytes(b"bottom\n")


def _package(folder):
    module = folder / "lakepkg"
    (module / "inner").mkdir(parents=True)
    (module / "__init__.py").write_text("from .inner.value import VALUE\n")
    (module / "inner" / "__init__.py").write_text("")
    (module / "inner" / "value.py").write_text("VALUE = 42\n")


def _numbers(root):
    """A .npy file (format 1.0, int64, 100000 numbers), written by hand: the same bytes with every numpy."""
    head = b"{'descr': '<i8', 'fortran_order': False, 'shape': (100000,), }"
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    body = struct.pack("<100000q", *range(100000))
    (root / "numbers.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body)


def _database(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, body BLOB)")
    db.executemany("INSERT INTO t VALUES (?, ?, ?)", ((i, f"row {i}", pattern(100, i)) for i in range(2000)))
    db.commit()
    db.execute("VACUUM")
    db.close()


def _programs(folder):
    folder.mkdir()
    (folder / "answer.h").write_text("#define ANSWER 42\nint answer(void);\n")
    (folder / "answer.c").write_text(LIBRARY)
    (folder / "program.c").write_text(PROGRAM)
    script = folder / "script.sh"
    script.write_text('#!/bin/sh\necho "script $0 $#"\n')
    script.chmod(0o755)
    python = folder / "script.py"
    python.write_text("#!/usr/bin/env python3\nimport sys\nprint('python', len(sys.argv))\n")
    python.chmod(0o755)
    if not shutil.which("gcc"):
        return
    flags = ["-O1", "-Wl,--build-id=none"]
    _call(["gcc", *flags, "-shared", "-fPIC", "-o", "libanswer.so", "answer.c"], folder)
    _call(["gcc", *flags, "-o", "program", "program.c", "answer.c"], folder)


def _repository(folder):
    folder.mkdir()
    env = {"HOME": "/nonexistent", "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null",
           "GIT_AUTHOR_DATE": f"{EPOCH} +0000", "GIT_COMMITTER_DATE": f"{EPOCH} +0000", "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t",
           "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t"}
    _call(["git", "init", "-q", "-b", "main", "."], folder, env)
    for number in range(5):
        (folder / f"file{number}").write_text(f"{number}\n" * (number + 1))
        _call(["git", "add", "."], folder, env)
        _call(["git", "commit", "-q", "-m", f"commit {number}"], folder, env)
    _call(["git", "gc", "-q"], folder, env)


def _call(argv, cwd, env=None):
    subprocess.run(argv, cwd=cwd, env=env, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _set_times(root):
    """Times by the sorted order of paths; a folder's own is set after its children's."""
    paths = [os.fsencode(root)]
    for folder, folders, files in os.walk(os.fsencode(root)):
        paths += [folder + b"/" + name for name in folders + files]
    paths.sort()
    for number in range(len(paths) - 1, -1, -1):
        os.utime(paths[number], (EPOCH + number, EPOCH + number))


def manifest(root, times=True):
    """{relative name as bytes: (type, size, mtime or 0, sha256 of the content)} of everything below root."""
    rows = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        folders.sort()
        for name in sorted(folders):
            rows[os.path.relpath(folder + b"/" + name, base)] = ("d", 0, 0, "")
        for name in sorted(files):
            path = folder + b"/" + name
            status = os.stat(path)
            with open(path, "rb") as data:
                digest = hashlib.sha256(data.read()).hexdigest()
            rows[os.path.relpath(path, base)] = ("f", status.st_size, int(status.st_mtime) if times else 0, digest)
    return rows


if __name__ == "__main__":
    make_tree(sys.argv[1], portable="--portable" in sys.argv[2:])
