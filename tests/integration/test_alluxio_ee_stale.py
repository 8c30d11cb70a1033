"""Backend alluxio-ee with an under store, on the stand-in, when the cluster's metadata are old: a file was changed behind its back, it tells of
the old one, has some pages of it, and loads the others from what is there now."""

import json
import os

import pytest

from tests import trees
from tests.integration.backends_raw_rig import TOOL, Tool
from tests.standin_ee.cluster import HOSTS, EeStandin

ESTALE = 116
MIB = 1 << 20
THEN, NOW = 1_700_000_000, 1_700_000_100

pytestmark = [pytest.mark.asan, pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


class Stale:
    """What the cluster goes on to tell of one file."""

    def __init__(self, cluster, name):
        self.cluster, self.url = cluster, f"{cluster.root}/{name}"
        self.info, self.old = cluster.info(self.url), cluster.local(self.url).read_bytes()
        cluster.fault = self

    def loads(self):
        return self.cluster.local(self.url).read_bytes()

    def __call__(self, seen):
        if seen.path == "/v1/info" and seen.query["path"] == self.url:
            return self.cluster_says()
        if seen.door != "s3" or not self.cluster.local(self.url).name == seen.path.rsplit("/", 1)[1]:
            return None
        now = self.loads()
        mixed = (self.old[:MIB] + now[MIB:]).ljust(len(self.old), b"?")[:len(self.old)]
        first, last = (int(word) for word in seen.headers["range"].removeprefix("bytes=").split("-"))
        etag = f"(len:{len(self.old)}, modtime:{self.info['mLastModificationTimeMs']})"
        return 206, {"ETag": etag, "Content-Range": f"bytes {first}-{last}/{len(self.old)}"}, mixed[first:last + 1]

    def cluster_says(self):
        return 200, {"Content-Type": "application/json"}, json.dumps([self.info]).encode()


@pytest.fixture
def cluster(tmp_path):
    with EeStandin(tmp_path, redirect=False) as it:
        it.tools = []

        def tool(**more):
            it.tools.append(Tool(tmp_path / f"tool{len(it.tools)}", others={"plain": {"type": "file", "root": str(it.data)}},
                                 **it.backend(under_store="plain", **more)))
            return it.tools[-1]

        it.tool = tool
        yield it
        for one in it.tools:
            one.end()


def put(cluster, name, data, when):
    path = cluster.data / name
    path.write_bytes(data)
    os.utime(path, (when, when))
    return data


def expectation(seen):
    return {key: seen[key] for key in ("size", "version", "mtime_ns")}


@pytest.mark.parametrize("more", [0, 7, -7])
def test_bytes_of_both_are_not_taken(cluster, more):
    """The old length over bytes of both would be a file that never was."""
    tool = cluster.tool()
    put(cluster, "f", trees.pattern(3 * MIB, 1), THEN)
    put(cluster, "other", b"o" * 2 * MIB, THEN)
    seen = tool("stat", "f")
    Stale(cluster, "f")
    new = put(cluster, "f", trees.pattern(3 * MIB + more, 2), NOW)
    assert tool("stat", "f")["version"] == seen["version"], "the cluster is as old as that"
    assert tool.read("f", expect=expectation(seen))[0] == -ESTALE
    now = tool("stat", "f")
    assert now["size"] == len(new) and now["version"] != seen["version"]
    asked = len(cluster.calls("", "s3"))
    assert tool.read("f", expect=expectation(now))[:2] == (0, new) and len(cluster.calls("", "s3")) == asked
    assert tool.read("f", expect=expectation(seen))[0] == -ESTALE, "the old one is not to be had any more"
    cluster.fault = None
    assert tool.read("other")[:2] == (0, b"o" * 2 * MIB) and len(cluster.calls("", "s3")) > asked, "others are read from workers"


def test_programs_read_the_new_file(prelux, cluster):
    old = put(cluster, "f", trees.pattern(2 * MIB, 1), THEN)
    prelux.config({"version": 1, "backends": {"lake": cluster.backend(under_store="plain"), "plain": {"type": "file", "root": str(cluster.data)}},
                   "mappings": [{"local": "/prelux-ee", "remote": "lake:/", "freshness": "always"}]})
    assert prelux.run(["cat", "/prelux-ee/f"], text=False).stdout == old
    prelux.cli("evict", "/prelux-ee/f")
    Stale(cluster, "f")
    new = put(cluster, "f", trees.pattern(2 * MIB, 2), NOW)
    assert prelux.run(["cat", "/prelux-ee/f"], text=False).stdout == new
    assert "its metadata are old" in prelux.log()


@pytest.mark.parametrize("under", ["older", "absent", "down"])
def test_an_under_store_that_is_behind_says_nothing(cluster, under):
    """When workers bring there what they have taken, nobody has told."""
    tool = cluster.tool()
    data = put(cluster, "f", trees.pattern(3 * MIB, 1), NOW)
    stale = Stale(cluster, "f")
    stale.loads = lambda: data
    seen = tool("stat", "f")
    if under == "older":
        put(cluster, "f", trees.pattern(3 * MIB, 2), THEN)
    elif under == "absent":
        (cluster.data / "f").unlink()
    else:
        cluster.data.rename(cluster.data.parent / "away")
    assert tool.read("f", expect=expectation(seen))[:2] == (0, data)
    assert tool("stat", "f")["version"] == seen["version"]


def test_what_is_written_afterwards_by_the_workers_is_seen(cluster):
    """A doubted path is no path for ever of the under store's."""
    tool = cluster.tool()
    put(cluster, "f", trees.pattern(3 * MIB, 1), THEN)
    seen = tool("stat", "f")
    Stale(cluster, "f")
    put(cluster, "f", trees.pattern(3 * MIB, 2), NOW)
    assert tool.read("f", expect=expectation(seen))[0] == -ESTALE
    cluster.fault = None
    latest = trees.pattern(2 * MIB, 3)
    source = tool.folder / "source"
    source.write_bytes(latest)
    answer = tool("put", "f", **{"from": str(source)})
    assert answer["rc"] == 0, answer
    for host in (None, *HOSTS):
        if host:
            cluster.down(host)
        assert tool.read("f")[:2] == (0, latest), host


def test_a_doubted_path_whose_newest_file_is_not_in_the_under_store_yet(cluster):
    tool = cluster.tool()
    put(cluster, "f", trees.pattern(3 * MIB, 1), THEN)
    seen = tool("stat", "f")
    Stale(cluster, "f")
    put(cluster, "f", trees.pattern(3 * MIB, 2), NOW)
    assert tool.read("f", expect=expectation(seen))[0] == -ESTALE
    latest = put(cluster, "f", trees.pattern(2 * MIB, 3), NOW + 100)
    Stale(cluster, "f").loads = lambda: latest
    put(cluster, "f", trees.pattern(3 * MIB, 2), NOW)
    assert tool.read("f")[:2] == (0, latest)
