"""Backend alluxio on a cluster whose metadata are old (sync interval -1, Alluxio's default): workers tell the old version for ever, keep the
pages that they have, and load the others from what the under store has by now."""

import time

import pytest

from tests import trees
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


@with_options(sync_interval=-1)
@pytest.mark.parametrize("warm", [0, 2, 6])
def test_half_of_it_is_cached_when_it_changes(own, tmp_path, tools, warm):
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    put(own, "half", b"o" * (6 * MIB))
    assert warm == 0 or tool.read("b/half", off=0, len=warm * MIB)[0] == 0
    tool("stat", "b/half")
    time.sleep(0.02)
    new = put(own, "half", b"n" * (6 * MIB))
    assert read_whole(tool, "b/half") == new
    assert tool("stat", "b/half")["size"] == len(new)
    assert len([line for line in tool.log().splitlines() if "its metadata are old" in line]) == 1


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
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    data = put(own, "same", trees.pattern(5 * MIB, 3))
    for _ in range(2):
        assert tool.read("b/same")[1] == data
    assert tool("report")["report"]["reads"]["under_store"]["reads"] == 0
