"""A large folder of S3 is listed in ranges of its keys, several at once (lib/backend/s3_ranges.c): each name once, whatever the names are like, the
server does, or changes meanwhile."""

import os
import random
import threading
import urllib.parse
from pathlib import Path

import pytest

from tests.integration.backends_raw_rig import EACCES, TOOL
from tests.integration.test_s3_raw import s3, tool  # noqa: F401
from tests.servers.faultproxy import FaultProxy
from tests.servers.versitygw import Versitygw

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")

MANY = 6500
WIDTH = 8


def rows_of(one, path="d"):
    """(name, type) of all that came, sorted: what came twice is there twice."""
    answer = one("list", path)
    assert answer["rc"] == 0, answer
    return sorted((urllib.parse.unquote(row["name"]), row["type"]) for row in answer["names"])


def put(s3, names):  # noqa: F811
    for name in names:
        s3.put("d/" + name, b"x")
    return sorted((name.partition("/")[0], "dir" if "/" in name else "file") for name in names)


def watch(s3, until=0, at=lambda number: None):  # noqa: F811
    """What is asked, and how much of it at once; at() is called before each answer to a listing. until: so many at once are waited for, when there
    are ranges."""
    seen, lock, real = {"after": [], "now": 0, "most": 0, "asked": 0, "tried": False}, threading.Condition(), s3.listing

    def listing(query):
        with lock:
            seen["asked"] += 1
            seen["now"] += 1
            seen["most"] = max(seen["most"], seen["now"])
            number = seen["asked"]
            lock.notify_all()
            if query["max-keys"] == b"1":  # of the last page that came alone, whether the server heeds start-after
                seen["tried"] = True
            elif "start-after" in query:
                seen["after"].append(query["start-after"])
            if seen["tried"] and query["max-keys"] != b"1":
                lock.wait_for(lambda: seen["most"] >= until, 20)
        try:
            return at(number) or real(query)
        finally:
            with lock:
                seen["now"] -= 1

    s3.listing = listing
    return seen


def names_like(kind):
    pick = random.Random(7)
    if kind == "numbers":
        return [f"name{n:06}.bin" for n in range(MANY)]
    if kind == "hashes":
        return [f"{pick.getrandbits(128):032x}" for _ in range(MANY)]
    if kind == "parts":
        return [f"part-{n:05}-{pick.getrandbits(32):08x}.snappy.parquet" for n in range(MANY)]
    if kind == "words":
        return ["".join(pick.choice("ABCxyz_-.é中 ") for _ in range(8)) + str(n) for n in range(MANY)]
    return [f"x{n}" if n % 2 else f"x{n}/in" for n in range(MANY)]  # "folders"


@pytest.mark.parametrize("kind", [pytest.param("numbers", marks=pytest.mark.asan), "hashes", "parts", "words", "folders"])
def test_each_name_once(s3, tool, kind):  # noqa: F811
    want = put(s3, names_like(kind))
    seen = watch(s3, until=2)
    assert rows_of(tool(s3)) == want
    assert seen["after"] and seen["asked"] <= 7 + 12 + WIDTH, seen  # the pages, cuts that may bring nothing, and what is cut short
    assert seen["most"] > 1


def test_several_at_once(s3, tool):  # noqa: F811
    want = put(s3, [f"{n:08x}" for n in range(0, MANY * 1000, 1000)])
    s3.page = 300
    seen = watch(s3, until=WIDTH - 2)
    assert rows_of(tool(s3)) == want
    assert WIDTH - 2 <= seen["most"] <= WIDTH, seen


@pytest.mark.parametrize("lie", ["no-start-after", "start-after-nothing", "unsorted", "no-token", "shuffled"])
def test_servers_that_lie(s3, tool, lie):  # noqa: F811
    want = put(s3, names_like("numbers"))
    s3.lie.add(lie)
    one = tool(s3)
    assert sorted(set(rows_of(one))) == want


def test_shuffled_later(s3, tool):  # noqa: F811
    """A server that is in order at first."""
    want = put(s3, names_like("numbers"))
    watch(s3, at=lambda number: s3.lie.add("shuffled") if number > 9 else None)
    one = tool(s3)
    assert sorted(set(rows_of(one))) == want
    assert rows_of(one) == want  # it is asked for ranges no more


@pytest.mark.asan
def test_an_object_hides_its_folder_beyond_a_cut(s3, tool):  # noqa: F811
    """`x` and `x/` with thousands of names between."""
    put(s3, [f"x-{n:05}" for n in range(MANY)] + ["x", "x/in", "y", "y/in"] + [f"y-{n}" for n in range(10)])
    seen = watch(s3)
    rows = rows_of(tool(s3))
    assert any(b"d/x-" in key for key in seen["after"])
    assert len(rows) == len(set(rows)) == MANY + 12
    assert [row for row in rows if row[0] in "xy"] == [("x", "file"), ("y", "file")]


def test_changed_while_it_is_listed(s3, tool):  # noqa: F811
    """What stays comes once, what goes or comes meanwhile once or not at all."""
    want = put(s3, names_like("numbers"))
    gone = {f"name{n:06}.bin" for n in range(0, MANY, 7)}

    def change(number):
        with s3.lock2:
            for name in sorted(gone)[number * 90:number * 90 + 90]:
                objects = dict(s3.objects)
                objects.pop(b"d/" + name.encode(), None)
                objects[b"d/" + name.encode() + b"-new"] = objects[b"d/name000001.bin"]
                s3.objects = objects

    watch(s3, at=change)
    rows = rows_of(tool(s3))
    assert len(rows) == len(set(rows))
    assert [row for row in rows if row[0] not in gone and "-new" not in row[0]] == [row for row in want if row[0] not in gone]


@pytest.mark.asan
def test_a_range_that_fails_fails_all(s3, tool):  # noqa: F811
    put(s3, names_like("hashes"))
    refused = []

    def refuse(number):
        if len(seen["after"]) < 2 or refused:
            return None
        refused.append(number)
        return s3.refusal(403, "AccessDenied")

    seen = watch(s3, until=2, at=refuse)
    one = tool(s3)
    answer = one("list", "d")
    assert answer["rc"] == -EACCES and "AccessDenied" in answer["why"], answer
    assert one("list", "d")["rc"] == 0


def starts(s3, answer):  # noqa: F811
    """answer(start, trial) is asked first, where a listing is to begin behind something."""
    asked, real = [], s3.listing

    def listing(query):
        start = query.get("start-after")
        if start:
            asked.append(start)
        return (start and answer(start, query["max-keys"] == b"1")) or real(query)

    s3.listing = listing
    return asked


@pytest.mark.parametrize("trial", [False, True])
def test_a_server_that_takes_no_cuts(s3, tool, trial):  # noqa: F811
    """Or is asked too much at once."""
    want = put(s3, names_like("numbers"))
    asked = starts(s3, lambda start, is_trial: s3.refusal(400, "InvalidArgument") if trial or not is_trial else None)
    assert sorted(set(rows_of(tool(s3)))) == want
    assert len(asked) == 1 if trial else len(asked) > 1


def test_a_server_that_begins_behind_keys_only(s3, tool):  # noqa: F811
    """What is no key has nothing behind it."""
    want = put(s3, names_like("numbers"))
    asked = starts(s3, lambda start, _: None if start in s3.objects else (200, {}, s3.page_xml([], {}, False, "")))
    assert rows_of(tool(s3)) == want
    assert len(asked) == 1


def test_a_server_that_shows_a_folder_behind_its_name(s3, tool):  # noqa: F811
    """As AWS: of `a/` keys lie behind `a/`, so it is said again."""
    want = put(s3, [f"x{n}/in" for n in range(MANY)])

    def again(start, _):
        return (200, {}, s3.page_xml([start], {start: False}, True, start.hex())) if start.endswith(b"/") else None

    asked = starts(s3, again)
    assert rows_of(tool(s3)) == want
    assert len(asked) > 1


def test_names_that_xml_cannot_carry(s3, tool):  # noqa: F811
    """Behind the pages that come first. Other folders of that server are listed as ever."""
    want = put(s3, [f"a{n:03}" for n in range(500)] + names_like("numbers"))
    for name in (b"name004\x01", b"name0055\x01x", b"name006\x01"):  # the first is shown as if it were the last of its page
        s3.put(b"d/" + name, b"x")
    for name in names_like("hashes"):
        s3.put("e/" + name, b"x")
    s3.lie.add("plain-names")
    asked = starts(s3, lambda *_: None)
    one = tool(s3)
    assert sorted(set(rows_of(one)) - {("", "file")}) == want
    assert any(start.startswith(b"d/") for start in asked) and not any(start.startswith(b"e/") for start in asked)
    assert rows_of(one, "e") == sorted((name, "file") for name in names_like("hashes"))
    assert any(start.startswith(b"e/") for start in asked)


@pytest.mark.skipif(Versitygw.missing(), reason=Versitygw.missing() or "")
def test_of_a_real_server(tmp_path, tool):  # noqa: F811
    names = [f"name{n:06}" for n in range(MANY)]
    with Versitygw() as server, FaultProxy(server.url) as proxy:
        server.bucket("data")
        server.put("data", "d/first", b"x")
        folder = next(Path(server.folder).rglob("d/first")).parent
        for name in names:
            os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))
        for name in names[::500]:
            server.put("data", f"d/{name}-folder/in", b"x")
        one = tool(proxy, access_key=server.access_key, secret_key=server.secret_key, region=server.region)
        want = sorted([(name, "file") for name in names] + [(f"{name}-folder", "dir") for name in names[::500]] + [("first", "file")])
        assert rows_of(one) == want
        assert any("start-after" in one.target for one in proxy.requests())
