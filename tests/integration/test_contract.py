"""The writing half of lib/backend/backend.h, promise by promise, over every kind of remote in contract_remotes.py: what it says of
itself, puts, conditions. Names, folders, copies, uploads and death: test_contract_names.py.

A remote that does not promise something must refuse it with EOPNOTSUPP and change nothing: test_what_is_not_promised_is_refused.
The test of the promise itself is not run there (`needs`).
"""

import errno as E
import os
import re
import threading
import time

import pytest

from tests import harness
from tests.integration import contract_remotes as r
from tests.integration.contract_remotes import NAMES
from tests.integration.contract_rig import (FULL, MIB, ROUNDS, UNKNOWN, bad, client, clients, folder, good, kind, needs, race,  # noqa: F401
                                             remote, unchanged)
from tests.integration.backends_raw_rig import TOOL

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


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
    table = {row[0].partition(":")[0]: row[1:] for row in rows if ":" in row[0] and row[0].partition(":")[0].replace("_", "").isupper()}
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
    folder(remote, client, "d")
    calls = promises(client, remote)
    for bits, call in calls.items():
        if not remote.caps & bits:
            unchanged(remote, client, call, E.EOPNOTSUPP, *([E.EXDEV] if bits == r.RENAME_DIR else []))
    assert sum(bits for bits in calls) | r.RENAME_ATOMIC | r.KEEP_MODE | r.KEEP_MTIME | r.KEEP_OWNER | r.RENAME_SAME == r.ALL


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
    seen, count = set(), 40 if FULL else 15
    for number in range(count):
        good(client.put("f", b"%02d" % number, mtime_ns="1500000000000000000"))
        seen.add(client.version("f"))
    assert len(seen) == count
    for number in range(count):
        good(client("remove", "f"))
        good(client.put("f", b"%02d" % number, mtime_ns="1500000000000000000", **({"absent": True} if remote.caps & r.PUT_ABSENT else {})))
        seen.add(client.version("f"))
    assert len(seen) == 2 * count or remote.conf["type"] != "file"  # an ETag made of the bytes may come back


def test_names(remote, client):
    for number, name in enumerate(NAMES):
        if name in remote.cannot:
            unchanged(remote, client, lambda: client.put(name, b"x"), E.EOPNOTSUPP)  # noqa: B023
        elif name in remote.breaks_on:
            bad(client.put(name, b"x"), -UNKNOWN)
            remote.forget(name)
        else:
            good(client.put(name, b"%d" % number))
    carried = {name: b"%d" % number for number, name in enumerate(NAMES) if name not in (*remote.cannot, *remote.breaks_on)}
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


def test_mode_alone(remote, client):
    needs(remote, r.KEEP_MODE)
    answer = good(client.put("f", b"x", mode=0o640))
    assert answer["mode"] == client("stat", "f")["mode"] == client.names()[b"f"]["mode"] == 0o640
    good(client.put("f", b"y"))  # not said: as the object was
    assert client("stat", "f")["mode"] == 0o640
    good(client.put("g", b"y"))
    assert client("stat", "g")["mode"] == 0o644


def test_put_in_odd_places(remote, client):
    folder(remote, client, "d")
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
    folder(remote, client, "d")
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
            assert remote.gaps or remote.content("f") in bodies
            rc, data, answer = reader.read("f")
            assert data in bodies if rc == 0 else rc == -E.ESTALE or (remote.gaps and rc == -E.ENOENT), answer
    finally:
        over.set()
        for thread in threads:
            thread.join()
