"""Backend alluxio writes, without daemon and cache, on the stand-in: through the under store while the workers go on with what they knew
(sync interval -1, Alluxio's default), and through a worker."""

import os
import threading
import time

import pytest

from tests import harness, trees
from tests.integration.backends_raw_rig import StandIn
from tests.integration.contract_remotes import KEEP_MTIME, MKDIR_MARKER, WRITE, ALL
from tests.integration.test_alluxio3_traps import MIB, TOOL, AlluxioStandin, Cluster, own, put, tools, with_options  # noqa: F401

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"),
              pytest.mark.skipif(AlluxioStandin.missing() is not None, reason=str(AlluxioStandin.missing()))]
ENOENT, EIO, EACCES, EEXIST, ENOTDIR, EISDIR, EFBIG, EROFS, ENOTEMPTY, EOPNOTSUPP, ESTALE = 2, 5, 13, 17, 20, 21, 27, 30, 39, 95, 116
UNKNOWN = -121
ODD = ["plain", "a=b&c", "100%", "a+b", "ü日", "a b", "[x]", "new\nline"]


class Writer(Cluster):
    def __init__(self, folder, standin, **conf):
        super().__init__(folder, standin, **{"write_through": "auto", **conf})

    def put(self, path, data, **more):
        source = self.folder / "source"
        source.write_bytes(data)
        return self("put", path, **{"from": str(source), **more})

    def content(self, path):
        """As the store does it: looked at and read again when it was stale."""
        for _ in range(3):
            rc, data, answer = self.read(path)
            if rc != -ESTALE:
                break
        assert rc == 0, answer
        return data

    def from_workers(self):
        reads = self("report")["report"]["reads"]
        return reads["worker_pages"]["bytes"] + reads["worker_s3"]["bytes"]


@pytest.fixture
def writer(own, tmp_path, tools):
    made = []

    def make(**conf):
        made.append(Writer(tmp_path / f"tool{len(made)}", own, **conf))
        tools(made[-1])
        return made[-1]

    return make


def reader(own, tmp_path, tools):
    """Another node, which asks workers first."""
    tool = Cluster(tmp_path / "reader", own)
    tools(tool)
    return tool


stale = with_options(sync_interval=-1)


# Through the under store

@stale
@pytest.mark.parametrize("size", [5, 300_000, 5 * MIB + 3])
@pytest.mark.parametrize("again", [False, True], ids=["same-process", "restarted"])
def test_what_was_replaced_does_not_come_back(own, tmp_path, tools, writer, size, again):
    """Workers tell of the old file, with all its bytes, and of listings without the new one: none of that is believed."""
    tool, other = writer(), reader(own, tmp_path, tools)
    old, new = trees.pattern(size, 1), trees.pattern(size, 2)
    put(own, "d/file", old)
    assert other("list", "b/d")["names"] and other("stat", "b/d/file")["size"] == size and other.read("b/d/file")[1] == old
    assert tool.content("b/d/file") == old
    time.sleep(0.02)
    assert tool.put("b/d/file", new)["rc"] == 0
    assert tool.put("b/d/other", new)["rc"] == 0
    assert other("stat", "b/d/file")["mtime_ns"] != tool("stat", "b/d/file")["mtime_ns"]  # the workers know nothing of it
    if again:
        tool = writer()
    for name in ("file", "other"):
        assert tool.content(f"b/d/{name}") == new
    assert set(tool.names("b/d")) == {b"file", b"other"} and tool.names("b/d")[b"file"]["version"] == tool("stat", "b/d/file")["version"]
    assert tool("remove", "b/d/file")["rc"] == 0
    if again:
        tool = writer()
    assert tool("stat", "b/d/file")["rc"] == -ENOENT and set(tool.names("b/d")) == {b"other"}


@stale
def test_old_pages(own, writer):
    """Pages tell no version: it is found out behind them, once."""
    tool, other = writer(), writer()
    data = [trees.pattern(6 * MIB, number) for number in (4, 5)]
    for number in range(4):  # who has the page size proven reads pages
        put(own, f"p{number}", data[0])
        assert all(tool.content(f"b/p{number}") == data[0] for _ in range(3))
    time.sleep(0.02)
    for number in range(4):
        before = tool("report")["report"]["reads"]["worker_pages"]["bytes"]
        assert other.put(f"b/p{number}", data[1])["rc"] == 0
        assert tool.content(f"b/p{number}") == data[1]
        assert tool("report")["report"]["reads"]["worker_pages"]["bytes"] > before


@stale
def test_what_workers_have_is_read_from_them(own, writer):
    """Also what was written here, once the daemon has forgotten that: length and time agree."""
    data = trees.pattern(3 * MIB + 5, 3)
    tool = writer()
    assert tool.put("b/f", data)["rc"] == 0 and tool.content("b/f") == data and tool.from_workers() == 0
    tool = writer()
    assert tool.content("b/f") == data and tool.from_workers() == len(data)


@stale
def test_a_time_that_others_have_set_tells_nothing(own, tmp_path, tools, writer):
    """Two files of one length and one time, as archives make them, one renamed over the other: the worker cannot tell them apart."""
    tool, other = writer(), reader(own, tmp_path, tools)
    for name, data in (("a", b"old bytes"), ("new", b"new bytes")):
        path = put(own, name, data) and own.ufs / "b" / name
        harness.os.utime(path, (1_600_000_000, 1_600_000_000))
    assert other.read("b/a")[1] == b"old bytes"
    assert tool("rename", "b/new", to="b/a")["rc"] == 0
    tool = writer()
    assert tool.content("b/a") == b"new bytes"


def in_parts(tool, path, data):
    source = tool.folder / "source"
    source.write_bytes(data)
    token = tool("begin", path, part_size=8 * MIB)["token"]
    tag = tool("part", path, token=token, n=0, **{"from": str(source)})["tag"]
    return tool("complete", path, token=token, tags=[tag], size=len(data))


CHANGES = {"put": lambda tool, path, data: tool.put(path, data), "parts": in_parts,
           "rename": lambda tool, path, data: tool("rename", "b/new", to=path), "copy": lambda tool, path, data: tool("copy", "b/new", to=path)}


@stale
@pytest.mark.parametrize("change", CHANGES)
def test_two_versions_of_one_instant(own, tmp_path, tools, writer, change):
    """Length and time are those of the file that the workers know: what was changed here is not read from them all the same."""
    tool, other = writer(), reader(own, tmp_path, tools)
    put(own, "f", b"old bytes")
    put(own, "new", b"new bytes")
    file = own.ufs / "b/f"
    instant = file.stat().st_mtime_ns
    assert other.read("b/f")[1] == b"old bytes"
    answer = CHANGES[change](tool, "b/f", b"new bytes")
    assert answer["rc"] == 0, answer
    os.utime(file, ns=(instant, instant))
    assert other.read("b/f")[1] == b"old bytes"
    assert tool.content("b/f") == b"new bytes"


@stale
def test_a_put_of_one_instant_that_is_done_late(own, tmp_path, tools, writer):
    """Nobody could say what came of it: then it came."""
    tool, other = writer(write_through="worker"), reader(own, tmp_path, tools)
    put(own, "f", b"old bytes")
    file = own.ufs / "b/f"
    instant = file.stat().st_mtime_ns
    assert other.read("b/f")[1] == b"old bytes"
    own.fault(put_lost=100)
    assert tool.put("b/f", b"new bytes")["rc"] == UNKNOWN
    file.write_bytes(b"new bytes")
    os.utime(file, ns=(instant, instant))
    assert other.read("b/f")[1] == b"old bytes"
    put(own, "g", b"bytes")
    harness.wait_for(lambda: tool.content("b/g") == b"bytes" and tool.from_workers(), 60, "workers that are asked again")
    assert tool.content("b/f") == b"new bytes"


@stale
def test_an_under_store_that_tells_no_time(own, tmp_path, tools):
    """Of equal length the workers cannot tell versions apart: they are not asked."""
    data = [b"old bytes"]
    with StandIn(lambda seen, earlier: (200, data[0], {"ETag": f'"{data[0].hex()}"'})) as server:
        tool = Writer(tmp_path / "tool", own, under={"type": "http", "url": server.url})
        tools(tool)
        put(own, "f", b"old bytes")
        other = reader(own, tmp_path, tools)
        assert other.read("b/f")[1] == b"old bytes"
        data[0] = b"new bytes"
        assert tool.content("b/f") == b"new bytes"


@stale
def test_times_are_the_under_stores_own(own, writer):
    """A put of a time would make two versions of one length and time."""
    tool = writer()
    able = tool("able")
    assert able["rc"] == 0 and not able["caps"] & KEEP_MTIME and able["caps"] & WRITE
    for data in (b"one", b"two"):
        assert tool.put("b/f", data, mtime_ns="1500000000000000000", mode=0o640)["rc"] == 0
        assert int(tool("stat", "b/f")["mtime_ns"]) > 10**9 * (time.time() - 100)
        assert tool("set_attr", "b/f", mtime_ns="1500000000000000000", mode=0o600)["rc"] == 0
        assert tool.content("b/f") == data and writer().content("b/f") == data


def test_conditions_are_the_under_stores(own, writer):
    tool = writer()
    version = tool.put("b/f", b"first")["version"]
    assert version == tool("stat", "b/f")["version"]
    put(own, "f", b"other")  # one length, one instant
    assert tool.put("b/f", b"third", if_version=version)["rc"] == -ESTALE
    assert tool.put("b/f", b"third", absent=True)["rc"] == -EEXIST
    assert tool.content("b/f") == b"other"
    assert tool.put("b/f", b"third", if_version=tool("stat", "b/f")["version"])["rc"] == 0


def test_names_that_workers_cannot_carry(own, writer):
    """They are no concern of the under store's."""
    tool = writer()
    for name in [*ODD, "a?b", "back\\slash"]:
        assert tool.put(f"b/{name}", name.encode())["rc"] == 0
        assert tool.content(f"b/{name}") == name.encode()
    assert tool.put("top", b"in the root")["rc"] == 0 and tool.content("top") == b"in the root"


def test_all_workers_are_dead(own, writer):
    tool = writer()
    for index in (0, 1):
        own.kill(index)
    assert tool.put("b/f", b"x" * 100_000)["rc"] == 0 and tool.content("b/f") == b"x" * 100_000
    assert tool("mkdir", "b/d")["rc"] == 0 and tool("rename", "b/f", to="b/d/f")["rc"] == 0
    assert tool.content("b/d/f") == b"x" * 100_000 and set(tool.names("b")) == {b"d"}


@stale
def test_a_read_while_it_is_replaced_here(own, tmp_path, tools, writer):
    """The old bytes or the new ones, as the version says, and never both."""
    tool, other = writer(), reader(own, tmp_path, tools)
    size, end = 2 * MIB + 7, time.monotonic() + 4
    states = {bytes([number]) * size for number in range(1, 9)}
    put(own, "f", b"\x01" * size)
    other.read("b/f")

    def write():
        number = 0
        while time.monotonic() < end:
            number = number % 8 + 1
            assert tool.put("b/f", bytes([number]) * size)["rc"] == 0

    second = writer()
    thread = threading.Thread(target=write)
    thread.start()
    whole = 0
    while time.monotonic() < end:
        rc, data, answer = second.read("b/f")
        assert rc in (0, -ESTALE), answer
        assert rc or data in states
        whole += rc == 0
    thread.join()
    assert second.content("b/f") == tool.content("b/f") and whole


# Through a worker

@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_by_a_worker(own, writer, under):
    tool = writer(under=under, write_through="worker")
    able = tool("able")
    assert able["caps"] & ALL == WRITE | MKDIR_MARKER and able["put_max"] == 8 * MIB
    for number, name in enumerate(ODD):
        for size in (number, 200_000 + number):
            data = trees.pattern(size, number)
            answer = tool.put(f"b/deep/er/{name}", data)
            assert answer["rc"] == 0, answer
            assert answer["version"] == tool("stat", f"b/deep/er/{name}")["version"]
            assert (own.ufs / "b/deep/er" / name).read_bytes() == data and tool.content(f"b/deep/er/{name}") == data
    assert tool.put("new top/f", b"x")["rc"] == 0 and (own.ufs / "new top/f").read_bytes() == b"x"
    assert tool("mkdir", "b/d")["rc"] == 0 and (own.ufs / "b/d").is_dir() and tool("mkdir", "b/d")["rc"] == -EEXIST
    assert tool("mkdir", "top")["rc"] == 0 and (own.ufs / "top").is_dir()
    assert tool.put("b/d", b"x")["rc"] == -EISDIR and tool("remove", "b/d")["rc"] == -EISDIR
    assert tool("rmdir", "b/deep")["rc"] == -ENOTEMPTY and tool("rmdir", "b/d")["rc"] == 0 and not (own.ufs / "b/d").exists()
    assert tool("rmdir", "b/deep/er/plain")["rc"] == -ENOTDIR and tool.put("b/deep/er/plain/x", b"x")["rc"] == -ENOTDIR
    assert tool("remove", "b/deep/er/plain")["rc"] == 0 and not (own.ufs / "b/deep/er/plain").exists()
    assert tool("remove", "b/deep/er/plain")["rc"] == -ENOENT and tool("rmdir", "b/none")["rc"] == -ENOENT


def test_what_workers_do_not_take(own, writer):
    tool = writer(under=False)
    own.forget_requests()
    for answer in (tool.put("b/f", b"x" * (8 * MIB + 1)), tool.put("b/f", b"x", absent=True), tool.put("b/f", b"x", if_version="1-2"),
                   tool.put("b/a?b", b"x"), tool("rename", "b/f", to="b/g"), tool("copy", "b/f", to="b/g"), tool("begin", "b/f", part_size=MIB),
                   tool("set_attr", "b/f", mode=0o600), tool.put("top", b"x")):
        assert answer["rc"] in (-EFBIG, -EOPNOTSUPP) and answer["why"], answer
    assert not [row for row in own.requests() if row.method in ("PUT", "DELETE")]
    assert list((own.ufs / "b").iterdir()) == []


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
@pytest.mark.parametrize("old", [None, b"o" * 1_000_000], ids=["new", "replaced"])
def test_a_cut_file_is_mended(own, writer, under, old):
    """A worker dies in the middle of a PUT: the half that it has left is replaced, by another worker."""
    tool, data = writer(under=under, write_through="worker"), trees.pattern(3 * MIB, 7)
    name = next(name for number in range(100) if own.owner("/b/" + (name := f"cut{number}")) == 0)
    if old:
        put(own, name, old)
    own.fault(0, put_cut=1)
    answer = tool.put(f"b/{name}", data)
    assert answer["rc"] == 0, answer
    assert (own.ufs / "b" / name).read_bytes() == data and tool.content(f"b/{name}") == data


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_a_put_that_is_lost(own, writer, under):
    """The old file is as long as the new one: its bytes tell."""
    tool = writer(under=under, write_through="worker")
    put(own, "f", b"old bytes")
    own.fault(put_lost=1)
    assert tool.put("b/f", b"new bytes")["rc"] == 0 and tool.content("b/f") == b"new bytes"


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_an_answer_that_is_lost(own, writer, under):
    """It was done: the look says so."""
    tool = writer(under=under, write_through="worker")
    own.fault(put_mute=1)
    assert tool.put("b/f", b"first")["rc"] == 0 and (own.ufs / "b/f").read_bytes() == b"first"
    own.fault(put_mute=1)
    assert tool("remove", "b/f")["rc"] == 0 and not (own.ufs / "b/f").exists()


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_bytes_that_are_changed_on_the_way(own, writer, under):
    """The worker says BadDigest: that is no refusal, it is sent again."""
    tool = writer(under=under, write_through="worker")
    own.fault(put_garbled=1)
    assert tool.put("b/f", b"the bytes")["rc"] == 0 and (own.ufs / "b/f").read_bytes() == b"the bytes"


    assert sorted(row.status for row in own.requests() if row.method == "PUT") == [200, 400]  # it was not taken as it came


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_a_refusal_says_nothing_of_the_put_before(own, writer, under):
    """That one is lost, and may be done yet."""
    tool = writer(under=under, write_through="worker")
    own.fault(put_refused=1)
    assert tool.put("b/f", b"bytes")["rc"] == -EACCES
    own.fault(put_refused=100, put_lost=1)
    assert tool.put("b/f", b"bytes")["rc"] == UNKNOWN


def test_workers_that_take_no_connection_are_waited_for(own, writer):
    """However often: nothing was sent."""
    tool = writer(under=False, write_through="worker")
    put(own, "f", b"old")
    assert tool("stat", "b/f")["size"] == 3
    own.fault(s3_shut=True)
    later = threading.Timer(5, lambda: own.fault(s3_shut=False))  # that is more than four tries
    later.start()
    answer = tool.put("b/f", b"new bytes")
    later.join()
    assert answer["rc"] == 0, answer
    assert (own.ufs / "b/f").read_bytes() == b"new bytes" and len([row for row in own.requests() if row.method == "PUT"]) == 1


def test_nothing_is_sent_again_before_a_look(own, tmp_path, tools):
    """The under store cannot be asked for a time: a second PUT would write over a good file."""
    looks = []

    def answer(seen, earlier):
        file = own.ufs / seen.path.lstrip("/")
        if file.is_file():
            looks.append(seen)
        if file.is_file() and len(looks) < 6:
            return 503, b"", {"Retry-After": "0"}
        return (200, file.read_bytes(), {"ETag": '"x"'}) if file.is_file() else (404, b"", {})

    with StandIn(answer) as server:
        tool = Writer(tmp_path / "tool", own, under={"type": "http", "url": server.url}, write_through="worker")
        tools(tool)
        done = tool.put("b/f", b"bytes")
        assert done["rc"] == 0, done
    assert len(looks) >= 6 and [row.status for row in own.requests() if row.method == "PUT"] == [200]


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_a_removal_that_was_none(own, writer, under):
    tool = writer(under=under, write_through="worker")
    put(own, "f", b"bytes")
    own.fault(delete_idle=1)
    answer = tool("remove", "b/f")
    assert answer["rc"] == UNKNOWN and "it is there" in answer["why"] and (own.ufs / "b/f").exists()


@pytest.mark.parametrize("under", [True, False], ids=["under", "alone"])
def test_a_folder_that_is_lost(own, writer, under):
    tool = writer(under=under, write_through="worker")
    own.fault(put_lost=1)
    assert tool("mkdir", "b/d")["rc"] == UNKNOWN and not (own.ufs / "b/d").exists()
    own.fault(put_lost=0, put_mute=1)
    assert tool("mkdir", "b/d")["rc"] == 0 and (own.ufs / "b/d").is_dir()


def test_a_cluster_that_is_never_well(own, writer):
    """Every PUT is cut: not done, and said so."""
    tool = writer(write_through="worker")
    own.fault(put_cut=100)
    assert tool.put("b/f", b"x" * 100_000)["rc"] == UNKNOWN
    own.fault(put_cut=0)
    assert tool.put("b/f", b"x" * 100_000)["rc"] == 0 and tool.content("b/f") == b"x" * 100_000


@with_options(sync_interval=-1, faults={"old_listings": True})
def test_old_listings_end_it(own, writer):
    """What was put is there; that the cluster does not list it is found out, and nothing more is written."""
    tool = writer(under=False)
    put(own, "d/one", b"1")
    assert set(tool.names("b/d")) == {b"one"}
    assert tool.put("b/d/two", b"2")["rc"] == 0 and tool.content("b/d/two") == b"2"
    answer = tool("able")
    assert answer["rc"] == -EROFS and "sync.interval=0" in answer["advice"]
    assert "does not show it" in tool.log()
