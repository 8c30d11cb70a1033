"""Backend alluxio on a cluster whose metadata are old (sync interval -1, Alluxio's default): workers tell the old version for ever, keep the
pages that they have, and load the others from what the under store has by now."""

import threading
import time

import pytest

from tests import harness, trees
from tests.integration.test_alluxio3_traps import MIB, TOOL, AlluxioStandin, Cluster, own, put, tools, with_options  # noqa: F401

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"),
              pytest.mark.skipif(AlluxioStandin.missing() is not None, reason=str(AlluxioStandin.missing()))]
ESTALE = 116


def read_whole(tool, name):
    """As the store does it: what was stale is looked at again."""
    for _ in range(3):
        rc, data, answer = tool.read(name)
        if rc != -ESTALE:
            break
    assert rc == 0, answer
    return data


def disturbed(tool):
    """A worker has been passed over: it had not answered for seconds, or its lease had ended, as on a machine that is too busy."""
    return " port fails: " in tool.log() or " workers now" in tool.log()


@with_options(sync_interval=-1, timeout=60)
@pytest.mark.parametrize("warm", [0, 2, 6])
def test_half_of_it_is_cached_when_it_changes(own, tmp_path, tools, warm):
    """Always the new bytes; and it is told once that the metadata are old. The other worker does not have them: when it is asked in the
    place of a busy owner, all of this is done once more."""
    for number in range(3):
        tool, name = Cluster(tmp_path / f"tool{number}", own), f"half{number}"
        tools(tool)
        put(own, name, b"o" * (6 * MIB))
        assert warm == 0 or tool.read(f"b/{name}", off=0, len=warm * MIB)[0] == 0
        tool("stat", f"b/{name}")
        time.sleep(0.02)
        new = put(own, name, b"n" * (6 * MIB))
        assert read_whole(tool, f"b/{name}") == new
        assert tool("stat", f"b/{name}")["size"] == len(new)
        told = len([line for line in tool.log().splitlines() if "its metadata are old" in line])
        if not disturbed(tool):
            break
    assert told == 1, tool.log()


@with_options(sync_interval=-1)
def test_the_last_page_alone(own, tmp_path, tools):
    """A fill's last part may be shorter than a page: what came before it was of the old version."""
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    put(own, "last", b"o" * (3 * MIB))
    seen = tool("stat", "b/last")
    expect = {key: seen[key] for key in ("size", "version", "mtime_ns")}
    assert tool("read", "b/last", out="/dev/null", off=0, len=2 * MIB, expect=expect)["rc"] == 0
    time.sleep(0.02)
    put(own, "last", b"n" * (3 * MIB))
    assert tool("read", "b/last", out="/dev/null", off=2 * MIB, len=MIB, expect=expect)["rc"] == -ESTALE


@with_options(sync_interval=-1)
def test_stale_for_ever(own, tmp_path, tools):
    """A file that has grown: never the old length over new bytes."""
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    old = put(own, "stale", trees.pattern(3 * MIB, 1))
    assert tool.read("b/stale")[1] == old
    seen = tool("stat", "b/stale")
    expect = {key: seen[key] for key in ("size", "version", "mtime_ns")}
    new = put(own, "stale", trees.pattern(3 * MIB + 1, 2))
    assert tool("read", "b/stale", out="/dev/null", expect=expect)["rc"] == -ESTALE
    assert read_whole(tool, "b/stale") == new
    for index in (0, 1):
        own.kill(index)
    assert tool("read", "b/stale", out="/dev/null", expect=expect)["rc"] == -ESTALE
    assert tool.read("b/stale")[1] == new


def test_a_file_that_did_not_change_stays_with_the_workers(own, tmp_path, tools):
    for number in range(3):
        tool, name = Cluster(tmp_path / f"tool{number}", own), f"same{number}"
        tools(tool)
        data = put(own, name, trees.pattern(5 * MIB, 3))
        for _ in range(2):
            assert tool.read(f"b/{name}")[1] == data
        if not disturbed(tool):
            break
    assert tool("report")["report"]["reads"]["under_store"]["reads"] == 0


# The ring changes

@pytest.mark.parametrize("what", ["death", "birth"])
def test_ring_changes_between_two_parts(own, tmp_path, tools, what):
    """The owner of an object dies, or a worker comes that owns it, while its parts are on their way."""
    tool = Cluster(tmp_path / "tool", own, refresh="1s")
    tools(tool)
    owner = 1
    name = next(name for number in range(100) if own.owner("/b/" + (name := f"ring{number}")) == owner)
    data = put(own, name, trees.pattern(40 * MIB, 4))
    if what == "birth":
        own.kill(owner)
        own.wait_members(1)
    assert tool("stat", f"b/{name}")["rc"] == 0
    own.fault(rate=5 * MIB)  # some seconds
    change = threading.Timer(0.7, lambda: own.kill(owner) if what == "death" else own.restart(owner, wait=False))
    change.start()
    rc, got, answer = tool.read(f"b/{name}")
    change.join()
    assert rc == 0 and got == data, answer


def test_connections_of_the_old_ring_are_dropped(own, tmp_path, tools):
    """A worker goes on to answer by the ring that a connection began with."""
    tool = Cluster(tmp_path / "tool", own, refresh="1s")
    tools(tool)
    names = [name for number in range(100) if own.owner("/b/" + (name := f"old{number}")) == 0][:6]
    for name in names:
        put(own, name, b"x")

    def connections(part):
        own.forget_requests()
        for name in part:
            assert tool("stat", f"b/{name}")["rc"] == 0
        return {row.connection for row in own.requests() if row.worker == 0 and row.port == "http" and row.kind != "closed"}

    def generation():
        return tool("report")["report"]["membership"]["generation"]
    first, before = connections(names[:3]), generation()
    assert len(first) == 1
    own.kill(1)
    harness.wait_for(lambda: generation() > before, 20, "the new ring")
    second = connections(names[3:])
    assert second and not first & second
