"""Backends alone, without daemon and cache: backend_tool drives their ops."""

import itertools
import json
import os
import select
import subprocess
import time
import urllib.parse

import pytest

from tests import harness
from tests.servers.liar import Answer, Liar
from tests.servers.threads import Gone

TOOL = harness.BUILD / "tests/unit/backend_tool"

ENOENT, EIO, EACCES, EBUSY, ENOTDIR, ENOSPC, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 16, 20, 28, 71, 95, 116
RANGE, EXACT, CONDITIONAL, ALL = 1, 2, 4, 8
NAMES = [b"plain.txt", b"with space", b"100%", b"%41", b"a?b", b"a#b", b"a&b;c=d", b"q'uo\"te", b"<x>", b"back\\slash", b"new\nline",
         b"\xff\xfe", "é中".encode() * 20, b"n" * 255, b"a:b", b"+plus", b"~t", b"index.html", b"-", b"..."]
LISTED = {name for name in NAMES if not name.startswith(b".")}  # nginx leaves the others out, and still serves them
OLD = time.time() - 1000


class Tool:
    """One backend in a process of its own. Answers are dicts; paths str or bytes."""

    launcher = ()  # words before the program's own

    def __init__(self, folder, others=None, **conf):
        """others: backends that this one refers to."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "conf.yaml").write_text(json.dumps({"version": 1, "backends": {"b": conf, **(others or {})}, "mappings": []}))
        env = harness.clean_environment()
        env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
        self.stderr = open(folder / "stderr", "wb+")
        self.process = subprocess.Popen([*self.launcher, TOOL, folder / "conf.yaml", "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, env=env)

    def __call__(self, op, path="", seconds=100, **more):
        request = {"op": op, "path": urllib.parse.quote(path), **more}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], seconds)[0]
        assert ready, f"{request}: no answer within {seconds} s"
        line = self.process.stdout.readline()
        assert line, f"{request}: the tool died: {self.errors()}"
        return json.loads(line.decode("utf-8", "surrogateescape"))

    def read(self, path, **more):
        """(rc, bytes or None, answer)"""
        out = self.folder / "out"
        answer = self("read", path, out=str(out), **more)
        return answer["rc"], out.read_bytes() if answer["rc"] == 0 else None, answer

    def names(self, path=""):
        answer = self("list", path)
        assert answer["rc"] == 0, answer
        return {urllib.parse.unquote_to_bytes(row["name"]): row for row in answer["names"]}

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait(60)
        text = self.errors()
        self.stderr.close()
        assert status == 0 and not any(mark in text for mark in harness.SANITIZER_MARKS), f"status {status}: {text}"

    def end(self):
        """close(), of one that a test may have killed."""
        if self.process.poll() is None:
            self.close()
        else:
            self.stderr.close()


@pytest.fixture
def tool(tmp_path):
    made, numbers = [], itertools.count()

    def make(**conf):
        one = Tool(tmp_path / f"tool{next(numbers)}", **conf)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def fill(root, names=NAMES):
    root.mkdir()
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(b"%d" % number * (number * 3000))
    (root / "sub").mkdir()
    (root / "sub/deep.txt").write_text("deep")
    (root / "d e").mkdir()
    (root / "d e/f").write_text("f")
    (root / "empty").touch()
    (root / "big").write_bytes(os.urandom(5_000_000))
    age(root)
    return root


def age(root):
    """Versions made of a time in seconds are not trusted in their first second."""
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            os.utime(os.path.join(folder, name), (OLD, OLD))


def all_equal(tool, root):
    """Every file below root by stat and read."""
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in folders:
            path = os.path.relpath(os.path.join(folder, name), os.fsencode(root))
            assert tool("stat", path)["type"] == "dir", path
        for name in names:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, os.fsencode(root))
            with open(full, "rb") as file:
                content = file.read()
            rc, data, answer = tool.read(path)
            assert rc == 0, (path, answer)
            assert data == content, path
            assert answer["size"] == len(content)
            assert int(answer["mtime_ns"]) // 10**9 == int(OLD), path


class StandIn(Liar):
    """Answers every request with what `script` (path -> Answer) says; a POST's body is skipped by closing."""

    def __init__(self, script):
        super().__init__({})
        self.script = script

    def _answer(self, connection, seen, earlier):
        status, body, fields = self.script(seen, earlier)
        answer = Answer(status, body, {"Content-Length": len(body), "Connection": "close", **fields})
        connection.send(answer.head() + (b"" if seen.method == "HEAD" else body))
        raise Gone
