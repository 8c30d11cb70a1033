"""The writing half of lib/backend/backend.h, promise by promise, over every kind of remote in contract_remotes.py.

A remote that does not promise something must refuse it with EOPNOTSUPP and change nothing: test_what_is_not_promised_is_refused.
The test of the promise itself is not run there (`needs`).
"""

import errno as E
import os
import random
import re
import threading
import time
import urllib.parse

import pytest

from tests import harness
from tests.integration import contract_remotes as r
from tests.integration.contract_remotes import KINDS, NAMES, Missing
from tests.integration.test_backends_raw import TOOL, Tool

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]
MIB = 1 << 20
UNKNOWN = -121


class Client(Tool):
    """The tool, with files as bytes."""

    def __init__(self, remote, name):
        super().__init__(remote.tmp / name, **remote.conf)
        self.remote, self.sent = remote, 0
        if remote.steps:
            self.steps()

    def steps(self, **more):
        return self("steps", **{**self.remote.steps, **more})["steps"]

    def source(self, data):
        path = self.folder / f"source{self.sent % 4}"
        self.sent += 1
        path.write_bytes(data)
        return str(path)

    def put(self, path, data, **more):
        return self("put", path, **{"from": self.source(data), **more})

    def copy(self, path, to, **more):
        return self("copy", path, to=urllib.parse.quote(to), **more)

    def rename(self, path, to, **more):
        return self("rename", path, to=urllib.parse.quote(to), **more)

    def version(self, path):
        answer = self("stat", path)
        assert answer["rc"] == 0 and answer["version"], answer
        return answer["version"]

    def content(self, path):
        rc, data, answer = self.read(path)
        assert rc == 0, answer
        return data

    def upload(self, path, data, size, skip=(), **begin):
        """(token, tags) of all parts, the last first."""
        answer = self("begin", path, part_size=size, **begin)
        assert answer["rc"] == 0, answer
        source, tags = self.source(data), {}
        for n in reversed(range((len(data) + size - 1) // size)):
            if n not in skip:
                length = min(size, len(data) - n * size)
                part = self("part", path, token=answer["token"], n=n, off=n * size, len=length, **{"from": source})
                assert part["rc"] == 0, part
                tags[n] = part["tag"]
        return answer["token"], [tags[n] for n in sorted(tags)]


@pytest.fixture(params=[pytest.param(kind, marks=[pytest.mark.asan] if kind.asan else [], id=kind.name) for kind in KINDS])
def kind(request):
    return request.param


@pytest.fixture
def remote(kind, tmp_path):
    context = kind.make(tmp_path)
    try:
        one = context.__enter__()
    except Missing as why:
        pytest.skip(str(why))
    one.caps = kind.caps
    yield one
    context.__exit__(None, None, None)


@pytest.fixture
def clients(remote):
    made = []

    def make(other=None):
        made.append(Client(other or remote, f"tool{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.close()
        else:
            one.stderr.close()


@pytest.fixture
def client(clients):
    return clients()


def needs(remote, *bits):
    for bit in bits:
        if not remote.caps & bit:
            pytest.skip("not promised; test_what_is_not_promised_is_refused sees that it is refused")


def good(answer):
    assert answer["rc"] == 0, answer
    return answer


def bad(answer, *errnos):
    assert -answer["rc"] in errnos, answer
    assert answer["why"] and "\n" not in answer["why"].replace("new\nline", ""), answer
    return answer


def unchanged(remote, client, call, *errnos):
    """The call fails so, and another client sees no difference."""
    before, uploads = remote.objects(), remote.uploads()
    bad(call(), *errnos)
    assert remote.objects() == before and remote.uploads() == uploads


# What it says of itself

def test_it_says_what_the_table_says(remote, client):
    able = good(client("able"))
    assert able["caps"] == remote.caps, [name for name, bit in r.BITS.items() if (able["caps"] ^ remote.caps) & bit]
    assert client("caps")["caps"] & r.ALL & remote.caps == remote.caps
    if remote.caps & r.MULTIPART:
        assert able["part_min"] <= remote.part_size <= able["part_max"]


def test_the_table_in_the_docs():
    """Rows are the bits, columns the kinds; `caps` of each table in the code says the same."""
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in (harness.ROOT / "docs/BACKENDS.md").read_text().splitlines()
            if line.startswith("| ") and "|" in line]
    kinds = next(row[1:] for row in rows if "azure" in row)
    table = {row[0].partition(":")[0]: row[1:] for row in rows if row[0].partition(":")[0].replace("_", "").isupper()}
    header = (harness.ROOT / "lib/backend/backend.h").read_text()
    bits = {name: int(value, 16) for name, value in re.findall(r"PRELUX_CAP_(\w+) = (0x[0-9a-f]+)", header)}
    assert list(table) == list(bits) and {name: bits[name] for name in r.BITS} == r.BITS
    code = {}
    for path in (harness.ROOT / "lib/backend").glob("*.[ch]"):
        text = path.read_text()
        for kind, caps in re.findall(r'\.type = "([\w-]+)",\s*\.caps =([^;]*?),\n', text):
            names = set(re.findall(r"PRELUX_CAP_(\w+)", caps))
            for macro in re.findall(r"PRELUX_\w+_CAPS", caps):
                body = next(re.search(macro + r"((?:.*\\\n)+.*)", other.read_text()) for other in path.parent.glob("*.h")
                            if f"define {macro}" in other.read_text())
                names |= set(re.findall(r"PRELUX_CAP_(\w+)", body.group(1)))
            code[kind] = names
    assert set(code) == set(kinds)
    for column, kind in enumerate(kinds):
        assert {name for name in table if table[name][column].startswith("yes")} == code[kind], kind
    assert sum(bits[name] for name in code["file"] if name in r.BITS) == r.FILE


def promises(client, remote):
    """For each promise one call that needs it. `a` and `b` are there, and the folder `d`."""
    version = client.version("a")
    return {
        r.WRITE: lambda: client.put("new", b"x"),
        r.PUT_ABSENT: lambda: client.put("new", b"x", absent=True),
        r.PUT_VERSION: lambda: client.put("a", b"x", if_version=version),
        r.REMOVE_VERSION: lambda: client("remove", "a", if_version=version),
        r.MULTIPART: lambda: client("begin", "new", part_size=remote.part_size),
        r.RENAME_FILE: lambda: client.rename("a", "new"),
        r.RENAME_DIR: lambda: client.rename("d", "new"),
        r.RENAME_NOREPLACE: lambda: client.rename("a", "new", flags=r.NOREPLACE),
        r.RENAME_EXCHANGE: lambda: client.rename("a", "b", flags=r.EXCHANGE),
        r.SET_ATTR: lambda: client("set_attr", "a", mode=0o600),
        r.COPY: lambda: client.copy("a", "new"),
        r.MKDIR | r.MKDIR_MARKER: lambda: client("mkdir", "new"),
    }


def test_what_is_not_promised_is_refused(remote, client):
    remote.write("a", b"old a")
    remote.write("b", b"old b")
    if remote.caps & (r.MKDIR | r.MKDIR_MARKER):
        good(client("mkdir", "d"))
    calls = promises(client, remote)
    for bits, call in calls.items():
        if not remote.caps & bits:
            unchanged(remote, client, call, E.EOPNOTSUPP, *([E.EXDEV] if bits == r.RENAME_DIR else []))
    assert sum(bits for bits in calls) | r.RENAME_ATOMIC | r.KEEP_MODE | r.KEEP_MTIME == r.ALL


# Put

@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65537, 3 * MIB + 5])
def test_put_is_read_back(size, remote, client):
    data = os.urandom(size)
    answer = good(client.put("f", data))
    seen = good(client("stat", "f"))
    assert (seen["size"], seen["type"], answer["size"]) == (size, "file", size)
    assert answer["version"] in ("", seen["version"])
    assert client.content("f") == data and remote.objects() == {b"f": data}
    assert client.names()[b"f"]["size"] == size
    assert client.read("f", expect={"size": size, "version": seen["version"]})[1] == data


@pytest.mark.limit(300)
def test_a_large_put(remote, client):
    data = os.urandom(MIB) * 100
    answer = good(client.put("f", data))
    assert answer["size"] == len(data) and 0 < answer["progress"] < len(data)
    assert client.content("f") == data
    good(client.put("f", b"small"))
    assert remote.objects() == {b"f": b"small"}


def test_every_put_has_another_version(remote, client):
    """Also of equal bytes, size and time, within one tick of the clock."""
    seen = set()
    for number in range(40):
        good(client.put("f", b"%02d" % number, mtime_ns="1500000000000000000"))
        seen.add(client.version("f"))
    assert len(seen) == 40
    for number in range(40):
        good(client("remove", "f"))
        good(client.put("f", b"%02d" % number, mtime_ns="1500000000000000000", **({"absent": True} if remote.caps & r.PUT_ABSENT else {})))
        seen.add(client.version("f"))
    assert len(seen) == 80 or remote.conf["type"] != "file"  # an ETag made of the bytes may come back


def test_names(remote, client):
    for number, name in enumerate(NAMES):
        if name in remote.cannot:
            unchanged(remote, client, lambda: client.put(name, b"x"), E.EOPNOTSUPP)  # noqa: B023
        else:
            good(client.put(name, b"%d" % number))
    carried = {name: b"%d" % number for number, name in enumerate(NAMES) if name not in remote.cannot}
    assert remote.objects() == carried and set(client.names()) == set(carried)
    for name, data in carried.items():
        assert client.content(name) == data
        if remote.caps & r.RENAME_FILE:
            good(client.rename(name, b"x" + name[:250]))
            name = b"x" + name[:250]
        good(client("remove", name))
    assert remote.objects() == {}


def test_a_name_too_long(remote, client):
    unchanged(remote, client, lambda: client.put("n" * 5000, b"x"), E.ENAMETOOLONG, E.EOPNOTSUPP)


def test_mode_and_time(remote, client):
    needs(remote, r.KEEP_MODE, r.KEEP_MTIME)
    unit = remote.mtime_unit_ns
    for mode, mtime in ((0o640, 1500000000123456789), (0o4755, 1), (0o444, 4102444800999999999)) + (
            ((0o600, -1500000000123456789),) if remote.before_1970 else ()):
        answer = good(client.put("f", b"x", mode=mode, mtime_ns=str(mtime)))
        seen = good(client("stat", "f"))
        for one in (answer, seen):
            assert one["mode"] == mode and int(one["mtime_ns"]) // unit == mtime // unit
    before = time.time_ns()
    good(client.put("f", b"y"))  # not said: as the object was; the time it is done
    seen = client("stat", "f")
    assert seen["mode"] == (0o600 if remote.before_1970 else 0o444) and int(seen["mtime_ns"]) > before - 2 * 10**9 - unit
    good(client.put("g", b"y"))
    assert client("stat", "g")["mode"] == 0o644


def test_put_in_odd_places(remote, client):
    good(client("mkdir", "d"))
    good(client.put("f", b"x"))
    unchanged(remote, client, lambda: client.put("d", b"x"), E.EISDIR)
    unchanged(remote, client, lambda: client.put("", b"x"), E.EISDIR)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client.put("f/x", b"x"), E.ENOTDIR)
        unchanged(remote, client, lambda: client.put("no/x", b"x"), E.ENOENT)
    else:
        good(client.put("no/x", b"x"))
        assert client("stat", "no")["type"] == "dir"
    good(client.put("d/x", b"x"))
    assert client.content("d/x") == b"x"


def test_a_source_that_ends_early(remote, client):
    good(client.put("f", b"old"))
    unchanged(remote, client, lambda: client.put("f", b"x" * 1000, size=1001), E.EINVAL)
    unchanged(remote, client, lambda: client.put("new", b"", size=1), E.EINVAL)
    assert client.content("f") == b"old"
    good(client.put("f", b"x" * 1000, size=10))
    assert client.content("f") == b"x" * 10


def test_a_put_that_is_stopped(remote, client):
    good(client.put("f", b"old"))
    before = remote.objects()
    for path in ("f", "new"):
        answer = client.put(path, os.urandom(20 * MIB), stop_at=MIB)
        assert answer["rc"] == -E.EINTR, answer
    assert remote.objects() == before


# Conditions

def test_put_only_if_absent(remote, client):
    needs(remote, r.PUT_ABSENT)
    good(client.put("f", b"first", absent=True))
    unchanged(remote, client, lambda: client.put("f", b"second", absent=True), E.EEXIST)
    good(client("mkdir", "d"))
    unchanged(remote, client, lambda: client.put("d", b"x", absent=True), E.EEXIST)
    assert client.content("f") == b"first"


def test_put_only_over_a_version(remote, client):
    needs(remote, r.PUT_VERSION)
    good(client.put("f", b"one"))
    one = client.version("f")
    two = good(client.put("f", b"two", if_version=one))["version"] or client.version("f")
    unchanged(remote, client, lambda: client.put("f", b"tre", if_version=one), E.ESTALE)
    remote.write("f", b"333")  # behind our back
    unchanged(remote, client, lambda: client.put("f", b"tre", if_version=two), E.ESTALE)
    unchanged(remote, client, lambda: client.put("f", b"x", if_version=""), E.EINVAL)
    unchanged(remote, client, lambda: client.put("f", b"x", if_version="no such version"), E.ESTALE)
    good(client.put("f", b"tre", if_version=client.version("f")))
    good(client("remove", "f"))
    unchanged(remote, client, lambda: client.put("f", b"four", if_version=two), E.ESTALE)


def test_a_lost_version(remote, clients):
    """A client that has lost the answer asks, compares the bytes, and goes on from there."""
    needs(remote, r.PUT_VERSION)
    one, two = clients(), clients()
    good(one.put("f", b"base"))
    base = one.version("f")
    good(one.put("f", b"from one", if_version=base))  # its answer, say, was lost
    bad(one.put("f", b"from one", if_version=base), E.ESTALE)
    assert one.content("f") == b"from one"
    now = one.version("f")
    good(two.put("f", b"from two", if_version=now))
    bad(one.put("f", b"from one again", if_version=now), E.ESTALE)
    assert one.content("f") == b"from two"


def race(first, second):
    """Both at once; their answers."""
    answers = [None, None]
    barrier = threading.Barrier(2)

    def run(number, call):
        barrier.wait()
        answers[number] = call()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate((first, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


ROUNDS = 200


@pytest.mark.slow
@pytest.mark.limit(400)
def test_two_writers_race_for_a_version(remote, clients):
    """Equal sizes and times: only the version tells them apart. Exactly one wins each round, and it is the one that says so."""
    needs(remote, r.PUT_VERSION)
    one, two = clients(), clients()
    same = {"mtime_ns": "1500000000000000000"}
    good(one.put("f", b"start", **same))
    won = [0, 0]
    for number in range(ROUNDS):
        version = one.version("f")
        bodies = [b"one%05d" % number, b"two%05d" % number]
        answers = race(lambda: one.put("f", bodies[0], if_version=version, **same),  # noqa: B023
                       lambda: two.put("f", bodies[1], if_version=version, **same))  # noqa: B023
        assert sorted(answer["rc"] for answer in answers) == [-E.ESTALE, 0], (number, answers)
        winner = 0 if answers[0]["rc"] == 0 else 1
        won[winner] += 1
        assert remote.objects() == {b"f": bodies[winner]}, number
        assert answers[winner]["version"] in ("", two.version("f"))
    assert min(won) > 0, f"no race at all: {won}"


@pytest.mark.slow
@pytest.mark.limit(400)
def test_two_writers_race_to_be_first(remote, clients):
    needs(remote, r.PUT_ABSENT)
    one, two = clients(), clients()
    for number in range(ROUNDS):
        name = f"f{number % 3}"
        answers = race(lambda: one.put(name, b"one", absent=True), lambda: two.put(name, b"two", absent=True))  # noqa: B023
        assert sorted(answer["rc"] for answer in answers) == [-E.EEXIST, 0], (number, answers)
        assert remote.objects() == {name.encode(): b"one" if answers[0]["rc"] == 0 else b"two"}
        good(one("remove", name))


@pytest.mark.slow
@pytest.mark.limit(400)
def test_a_writer_races_with_a_remover(remote, clients):
    needs(remote, r.PUT_VERSION, r.REMOVE_VERSION)
    one, two = clients(), clients()
    for number in range(ROUNDS // 2):
        good(one.put("f", b"start"))
        version = one.version("f")
        put, gone = race(lambda: one.put("f", b"new", if_version=version), lambda: two("remove", "f", if_version=version))  # noqa: B023
        assert (put["rc"], gone["rc"]) in ((0, -E.ESTALE), (-E.ESTALE, 0)), (put, gone)
        assert remote.objects() == ({b"f": b"new"} if put["rc"] == 0 else {})


@pytest.mark.slow
def test_a_reader_sees_old_or_new(remote, clients):
    """Never a mixture, never nothing, while two others replace it all the time."""
    bodies = [bytes([letter]) * 300_000 for letter in b"ab"]
    one, two, reader = clients(), clients(), clients()
    good(one.put("f", bodies[0]))
    over = threading.Event()

    def write(client, body):
        while not over.is_set():
            good(client.put("f", body))

    threads = [threading.Thread(target=write, args=pair) for pair in ((one, bodies[0]), (two, bodies[1]))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            assert remote.content("f") in bodies
            rc, data, answer = reader.read("f")
            assert data in bodies if rc == 0 else rc == -E.ESTALE, answer
    finally:
        over.set()
        for thread in threads:
            thread.join()


# Remove

def test_remove(remote, client):
    good(client.put("f", b"x"))
    good(client("mkdir", "d"))
    unchanged(remote, client, lambda: client("remove", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client("remove", "nothing"), E.ENOENT)
    unchanged(remote, client, lambda: client("remove", ""), E.EBUSY)
    unchanged(remote, client, lambda: client("remove", "f", absent=True), E.EINVAL)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client("remove", "f/x"), E.ENOTDIR)
    good(client("remove", "f"))
    bad(client("stat", "f"), E.ENOENT)
    bad(client("remove", "f"), E.ENOENT)


def test_remove_a_version(remote, client):
    needs(remote, r.REMOVE_VERSION)
    good(client.put("f", b"one"))
    version = client.version("f")
    good(client.put("f", b"two"))
    unchanged(remote, client, lambda: client("remove", "f", if_version=version), E.ESTALE)
    good(client("remove", "f", if_version=client.version("f")))
    bad(client("remove", "f", if_version=version), E.ENOENT)
    assert remote.objects() == {}


# Rename

def test_rename_a_file(remote, client):
    needs(remote, r.RENAME_FILE)
    good(client.put("a", b"aaa", **({"mode": 0o640} if remote.caps & r.KEEP_MODE else {})))
    good(client("mkdir", "d"))
    answer = good(client.rename("a", "d/b"))
    seen = client("stat", "d/b")
    assert answer["version"] in ("", seen["version"]) and seen["size"] == 3
    assert not remote.caps & r.KEEP_MODE or seen["mode"] == 0o640
    good(client.put("c", b"ccc"))
    good(client.rename("d/b", "c"))
    assert {name: data for name, data in remote.objects().items() if data is not None} == {b"c": b"aaa"}
    good(client.rename("c", "c"))
    unchanged(remote, client, lambda: client.rename("nothing", "x"), E.ENOENT)
    unchanged(remote, client, lambda: client.rename("c", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client.rename("", "x"), E.EBUSY)
    unchanged(remote, client, lambda: client.rename("c", ""), E.EBUSY)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client.rename("c", "no/x"), E.ENOENT)
        unchanged(remote, client, lambda: client.rename("c", "c/x"), E.ENOTDIR)


def test_rename_without_replacing(remote, client):
    needs(remote, r.RENAME_NOREPLACE)
    good(client.put("a", b"a"))
    good(client.put("b", b"b"))
    unchanged(remote, client, lambda: client.rename("a", "b", flags=r.NOREPLACE), E.EEXIST)
    unchanged(remote, client, lambda: client.rename("a", "a", flags=r.NOREPLACE), E.EEXIST)
    good(client.rename("a", "c", flags=r.NOREPLACE))
    assert remote.objects() == {b"b": b"b", b"c": b"a"}
    unchanged(remote, client, lambda: client.rename("c", "x", flags=r.NOREPLACE | r.EXCHANGE), E.EINVAL)
    unchanged(remote, client, lambda: client.rename("c", "x", flags=8), E.EOPNOTSUPP)


def test_rename_to_exchange(remote, client):
    needs(remote, r.RENAME_EXCHANGE)
    good(client.put("a", b"a"))
    good(client("mkdir", "d"))
    good(client.put("d/b", b"b"))
    good(client.rename("a", "d/b", flags=r.EXCHANGE))
    assert remote.objects() == {b"a": b"b", b"d": None, b"d/b": b"a"}
    good(client.rename("a", "d", flags=r.EXCHANGE))
    assert remote.objects() == {b"d": b"b", b"a": None, b"a/b": b"a"}
    unchanged(remote, client, lambda: client.rename("d", "nothing", flags=r.EXCHANGE), E.ENOENT)
    unchanged(remote, client, lambda: client.rename("nothing", "d", flags=r.EXCHANGE), E.ENOENT)


def test_rename_a_folder(remote, client):
    needs(remote, r.RENAME_DIR)
    for name in ("d", "d/sub", "empty", "full"):
        good(client("mkdir", name))
    for name in ("d/f", "d/sub/g", "full/f", "file"):
        good(client.put(name, name.encode()))
    unchanged(remote, client, lambda: client.rename("d", "full"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client.rename("d", "file"), E.ENOTDIR)
    unchanged(remote, client, lambda: client.rename("d/sub", "d"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client.rename("d", "d/sub/x"), E.EINVAL)
    unchanged(remote, client, lambda: client.rename("file", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client.rename("d", "empty", flags=r.NOREPLACE), E.EEXIST)
    good(client.rename("d", "empty"))
    good(client.rename("empty", "new", flags=r.NOREPLACE if remote.caps & r.RENAME_NOREPLACE else 0))
    assert remote.objects() == {b"new": None, b"new/sub": None, b"new/f": b"d/f", b"new/sub/g": b"d/sub/g", b"full": None, b"full/f": b"full/f",
                                b"file": b"file"}


# Folders

def test_folders(remote, client):
    if not remote.caps & (r.MKDIR | r.MKDIR_MARKER):
        return  # refused: see above
    good(client("mkdir", "d", mode=0o700))
    good(client("mkdir", "d/e", mode=0o755))
    assert client("stat", "d/e")["type"] == "dir" and set(client.names("d")) == {b"e"} and client.names("d/e") == {}
    assert not remote.caps & r.MKDIR or client("stat", "d")["mode"] == 0o700
    good(client.put("f", b"x"))
    for name in ("d", "f", ""):
        unchanged(remote, client, lambda: client("mkdir", name), E.EEXIST)  # noqa: B023
    unchanged(remote, client, lambda: client("rmdir", "d"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client("rmdir", "f"), E.ENOTDIR)
    unchanged(remote, client, lambda: client("rmdir", "nothing"), E.ENOENT)
    unchanged(remote, client, lambda: client("rmdir", ""), E.EBUSY)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client("mkdir", "no/x"), E.ENOENT)
        unchanged(remote, client, lambda: client("mkdir", "f/x"), E.ENOTDIR)
    good(client("rmdir", "d/e"))
    good(client("rmdir", "d"))
    bad(client("stat", "d"), E.ENOENT)
    assert remote.objects() == {b"f": b"x"}


# Attributes

def test_set_attr(remote, client):
    needs(remote, r.SET_ATTR)
    good(client.put("f", b"bytes"))
    answer = good(client("set_attr", "f", mode=0o600, mtime_ns="1500000000123456789"))
    seen = client("stat", "f")
    assert seen["mode"] == answer["mode"] == 0o600 and answer["version"] in ("", seen["version"])
    assert int(seen["mtime_ns"]) // remote.mtime_unit_ns == 1500000000123456789 // remote.mtime_unit_ns
    good(client("set_attr", "f", mode=0o444))
    assert client("stat", "f")["mtime_ns"] == seen["mtime_ns"] and client("stat", "f")["mode"] == 0o444
    assert remote.objects() == {b"f": b"bytes"}
    unchanged(remote, client, lambda: client("set_attr", "nothing", mode=0o600), E.ENOENT)
    unchanged(remote, client, lambda: client("set_attr", "", mode=0o600), E.EBUSY)
    good(client("mkdir", "d"))
    if remote.caps & r.MKDIR:
        good(client("set_attr", "d", mode=0o750))
        assert client("stat", "d")["mode"] == 0o750


def test_set_attr_of_a_version(remote, client):
    needs(remote, r.SET_ATTR, r.REMOVE_VERSION)
    good(client.put("f", b"one", mode=0o644))
    version = client.version("f")
    good(client.put("f", b"two"))
    before = client("stat", "f")
    bad(client("set_attr", "f", mode=0o600, if_version=version), E.ESTALE)
    after = client("stat", "f")
    assert before["mode"] == after["mode"] == 0o644 and before["version"] == after["version"]
    good(client("set_attr", "f", mode=0o600, if_version=after["version"]))
    assert client("stat", "f")["mode"] == 0o600


# Copy

def test_copy(remote, client):
    needs(remote, r.COPY)
    data = os.urandom(MIB)
    kept = remote.caps & r.KEEP_MODE
    good(client.put("a", data, mode=0o640, mtime_ns="1500000000000000000"))
    answer = good(client.copy("a", "b", source_version=client.version("a")))
    seen = client("stat", "b")
    assert answer["version"] in ("", seen["version"]) and (not kept or (seen["mode"], seen["mtime_ns"]) == (0o640, "1500000000000000000"))
    assert remote.objects() == {b"a": data, b"b": data}
    good(client.put("b", b"other"))
    if remote.caps & r.PUT_ABSENT:
        unchanged(remote, client, lambda: client.copy("a", "b", absent=True), E.EEXIST)
    if remote.caps & r.PUT_VERSION:
        unchanged(remote, client, lambda: client.copy("a", "b", if_version="other"), E.ESTALE)
    good(client("mkdir", "d"))
    unchanged(remote, client, lambda: client.copy("a", "b", source_version=seen["version"]), E.ESTALE)
    unchanged(remote, client, lambda: client.copy("nothing", "b"), E.ENOENT)
    unchanged(remote, client, lambda: client.copy("d", "b"), E.EISDIR)
    unchanged(remote, client, lambda: client.copy("a", "d"), E.EISDIR)
    good(client.copy("a", "b"))
    assert client.content("b") == data


# Uploads in parts

def test_an_upload_in_parts(remote, clients):
    """The last part first, by two processes, the first of which is gone; a part sent twice."""
    needs(remote, r.MULTIPART)
    one, size = clients(), remote.part_size
    data = os.urandom(2 * size + 777)
    token, tags = one.upload("f", data, size, skip=(1,))
    assert remote.objects() == {} and remote.uploads() == 1 and one.names() == {}
    one.close()
    two = clients()
    bad_part = two.source(os.urandom(size))
    assert two("part", "f", token=token, n=1, len=size, **{"from": bad_part})["rc"] == 0
    tag = good(two("part", "f", token=token, n=1, len=size, **{"from": two.source(data[size:2 * size])}))["tag"]
    tags.insert(1, tag)
    answer = good(two("complete", "f", token=token, tags=tags, size=len(data), mode=0o640, mtime_ns="1500000000000000000"))
    seen = two("stat", "f")
    assert answer["version"] in ("", seen["version"]) and seen["size"] == len(data)
    assert remote.objects() == {b"f": data} and remote.uploads() == 0 and two.content("f") == data
    bad(two("complete", "f", token=token, tags=tags, size=len(data)), E.ENXIO)
    bad(two("part", "f", token=token, n=0, len=1, **{"from": bad_part}), E.ENXIO)
    good(two("abort", "f", token=token))
    assert remote.objects() == {b"f": data}


def test_conditions_of_an_upload(remote, client):
    needs(remote, r.MULTIPART, r.PUT_ABSENT)
    size = remote.part_size
    data = os.urandom(size + 1)
    good(client.put("f", b"there"))
    token, tags = client.upload("f", data, size)
    call = {"token": token, "tags": tags, "size": len(data)}
    unchanged(remote, client, lambda: client("complete", "f", absent=True, mode=0o400, **call), E.EEXIST)
    if remote.caps & r.PUT_VERSION:
        unchanged(remote, client, lambda: client("complete", "f", if_version="other", **call), E.ESTALE)
        good(client("complete", "f", if_version=client.version("f"), **call))
    else:
        good(client("complete", "f", **call))
    assert client.content("f") == data
    token, tags = client.upload("new", data, size)
    good(client("complete", "new", absent=True, token=token, tags=tags, size=len(data)))
    assert client.content("new") == data


def test_wrong_parts(remote, client):
    needs(remote, r.MULTIPART)
    size = remote.part_size
    data = os.urandom(2 * size + 1)
    token, tags = client.upload("f", data, size)
    total = len(data)
    for odd in ([], tags[:2], tags[1:], tags + tags, [tags[0], tags[2], tags[1]]):
        unchanged(remote, client, lambda: client("complete", "f", token=token, tags=odd, size=total), E.EINVAL)  # noqa: B023
    unchanged(remote, client, lambda: client("complete", "f", token=token, tags=tags, size=total + 1), E.EINVAL)
    source = client.source(data)
    unchanged(remote, client, lambda: client("part", "f", token=token, n=0, len=size + 1, **{"from": source}), E.EINVAL)
    unchanged(remote, client, lambda: client("part", "f", token=token, n=0, len=0, **{"from": source}), E.EINVAL)
    for foreign in ("", "x", "up-", "../f", "f", token + "0", token[:-1]):
        unchanged(remote, client, lambda: client("complete", "f", token=foreign, tags=tags, size=total), E.ENXIO)  # noqa: B023
    unchanged(remote, client, lambda: client("complete", "g", token=token, tags=tags, size=total), E.ENXIO)
    good(client("complete", "f", token=token, tags=tags, size=total))
    assert client.content("f") == data


def test_uploads_are_listed_and_go(remote, client):
    needs(remote, r.MULTIPART)
    size = remote.part_size
    good(client("mkdir", "d"))
    data = os.urandom(size)
    names = ("f", "g", "d/f")
    tokens = {name: client.upload(name, data, size)[0] for name in names}

    def listed(path):
        answer = good(client("uploads", path))
        return {row["token"]: urllib.parse.unquote(row["path"]) for row in answer["uploads"]}

    assert set(listed("")) == set(tokens.values())
    assert set(listed("d")) == {tokens["d/f"]} and set(listed("f")) == {tokens["f"]} and listed("nothing") == {}
    assert remote.objects() in ({b"d": None}, {b"d/": b""}, {}) and client.names("d") == {}
    assert good(client("clean", "", idle_s=3600))["removed"] == 0 and remote.uploads() == 3
    for token, path in listed("d").items():
        good(client("abort", path, token=token))
    good(client("abort", "g", token=tokens["g"]))
    good(client("abort", "g", token=tokens["g"]))
    assert set(listed("")) == {tokens["f"]} and remote.uploads() == 1
    assert good(client("clean", "", idle_s=0))["removed"] == 1
    assert listed("") == {} and remote.uploads() == 0


# Death

@pytest.mark.slow
@pytest.mark.limit(400)
def test_killed_at_random_instants(remote, clients):
    """Old or new, whole; and after the next clean-up nothing is left but that."""
    chance = random.Random(5)
    bodies = [bytes([letter]) * (6 * MIB) for letter in b"ab"]
    keeper = clients()
    good(keeper.put("f", bodies[0]))
    begin = time.monotonic()
    good(keeper.put("f", bodies[0]))
    usual = time.monotonic() - begin
    outcomes, now = set(), bodies[0]
    for number in range(60):
        victim = clients()
        victim("stat", "f")
        new = bodies[(number + 1) % 2]
        source = victim.source(new)
        victim.process.stdin.write(b'{"op": "put", "path": "f", "from": "%s"}\n' % source.encode())
        victim.process.stdin.flush()
        time.sleep(chance.random() * usual * 1.3)
        victim.process.kill()
        victim.process.wait()
        data = remote.content("f")
        assert data in (now, new)
        outcomes.add(data == new)
        now = data
    good(keeper("clean", "", idle_s=0))
    assert remote.objects() == {b"f": now} and remote.uploads() == 0
    assert outcomes == {True, False}, "no kill met a put"
