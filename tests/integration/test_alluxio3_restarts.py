"""Backend alluxio and a worker that starts anew with another page size before anybody has heard of it: one of a list never registers,
and of one in etcd we hear late. Its pages may be as long as ours were. Never wrong bytes, and a new proof."""

import http.client

import pytest

from tests import harness, trees
from tests.integration.test_alluxio3_traps import (MIB, TOOL, AlluxioStandin, Cluster, own, put, sources, start,  # noqa: F401
                                                   tools, with_options)
from tests.integration.test_alluxio3_versions import read_whole
from tests.integration.backends_raw_rig import Tool

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"),
              pytest.mark.skipif(AlluxioStandin.missing() is not None, reason=str(AlluxioStandin.missing()))]
ESTALE = 116


class Listed(Tool):
    """A backend over a stand-in's workers by their addresses."""

    def __init__(self, folder, standin, **conf):
        workers = [f"{place.host}:{place.http_port}" for place in standin.workers]
        start(self, folder, {"b": {"type": "alluxio", "root": standin.root, "workers": workers, "s3_port": standin.s3_port, **conf}})

    log = Tool.errors


def listed(folder, standin):
    return Listed(folder, standin)


def registered(folder, standin):
    """By etcd, which is asked once an hour."""
    return Cluster(folder, standin, under=False, refresh="1h")


def by_range(cluster, name, first, last):
    """What a client without manners loads: the page is stored cut where the range ends."""
    client = http.client.HTTPConnection(cluster.workers[0].host, cluster.s3_port)
    client.request("GET", f"/b/{name}", headers={"Range": f"bytes={first}-{last}"})
    assert len(client.getresponse().read()) == last - first + 1
    client.close()


def verdict(tool):
    return tool("report")["report"]["pages"]


def prove(tool, cluster):
    data = put(cluster, "five", trees.pattern(5 * MIB, 1))
    for _ in range(2):
        assert tool.read("b/five")[1] == data
    assert verdict(tool)["verdict"] == "proven" and sources(tool)["worker_pages"] >= 5 * MIB
    return data


@pytest.mark.parametrize("by", [listed, registered])
@with_options(workers=1)
def test_pages_as_long_as_ours_were(own, tmp_path, tools, by):  # noqa: F811
    tool = by(tmp_path / "tool", own)
    tools(tool)
    five = prove(tool, own)
    own.kill(0)
    own.restart(0, empty=True, page_size=4 * MIB)
    data = put(own, "victim", trees.pattern(9 * MIB, 2))
    by_range(own, "victim", 0, MIB - 1)
    by_range(own, "victim", 4 * MIB, 5 * MIB - 1)
    assert own.pages("/b/victim") == {0: MIB, 1: MIB}  # as pages 0 and 1 of 1 MiB are, and the second is of other bytes
    rc, got, _ = tool.read("b/victim", off=0, len=2 * MIB)
    assert rc == -ESTALE or got == data[:2 * MIB]
    assert verdict(tool)["verdict"] != "proven"
    assert tool.read("b/victim", off=0, len=2 * MIB)[1] == data[:2 * MIB]
    for _ in range(3):
        assert read_whole(tool, "b/victim") == data and read_whole(tool, "b/five") == five
    assert (verdict(tool)["verdict"], verdict(tool)["size"]) == ("other", 4 * MIB)


@pytest.mark.parametrize("pages", [MIB, MIB // 2, 2 * MIB])
@with_options(workers=1)
def test_whatever_it_comes_back_with(own, tmp_path, tools, pages):  # noqa: F811
    """Twice; of the object that the proof was of as well, which is cached again before we come."""
    tool = listed(tmp_path / "tool", own)
    tools(tool)
    five = prove(tool, own)
    for size in (pages, MIB):
        own.kill(0)
        own.restart(0, empty=True, page_size=size)
        by_range(own, "five", 0, 5 * MIB - 1)
        for off in range(0, 4):
            rc, got, _ = tool.read("b/five", off=off * MIB, len=2 * MIB)
            assert rc == -ESTALE or got == five[off * MIB:(off + 2) * MIB]
        for _ in range(8):
            assert read_whole(tool, "b/five") == five
            if (verdict(tool)["size"], verdict(tool)["workers_proven"]) == (size, 1):
                break
        assert (verdict(tool)["size"], verdict(tool)["workers_proven"]) == (size, 1)


@with_options(workers=1)
def test_the_same_pages_after_a_restart(own, tmp_path, tools):  # noqa: F811
    """Nothing has changed: the witnesses are there, and pages are read on."""
    tool = listed(tmp_path / "tool", own)
    tools(tool)
    data = prove(tool, own)
    own.kill(0)
    own.restart(0)
    before = sources(tool)
    assert read_whole(tool, "b/five") == data
    after = sources(tool)
    assert after["worker_pages"] - before["worker_pages"] >= 5 * MIB - MIB and verdict(tool)["verdict"] == "proven"


@with_options(workers=1)
def test_witnesses_that_were_evicted(own, tmp_path, tools):  # noqa: F811
    """Then nobody can vouch for the pages: the S3 port instead, and another proof."""
    tool = listed(tmp_path / "tool", own)
    tools(tool)
    prove(tool, own)
    data = put(own, "other", trees.pattern(6 * MIB, 5))
    by_range(own, "other", 0, 6 * MIB - 1)
    own.drop_pages("/b/five")
    rc, _, answer = tool.read("b/other")
    assert rc == -ESTALE and "another size" in answer["why"], answer
    before = sources(tool)
    assert tool.read("b/other")[1] == data
    assert sources(tool)["worker_s3"] - before["worker_s3"] >= 6 * MIB and verdict(tool)["verdict"] == "proven"
    assert tool.read("b/other")[1] == data and sources(tool)["worker_pages"] > before["worker_pages"]


@with_options(workers=2, linger=0)
def test_what_doctor_advises(own, tmp_path, tools):  # noqa: F811
    """By what does not answer: nothing at all, the S3 port alone, the HTTP port alone."""
    own.kill(1)
    own.wait_members(1)  # until then the S3 port of the other answers 500 for what the dead one owned
    harness.wait_for(lambda: len(own.state(0)["members"]) == 1, 60, "the death is known")
    gone = f"{own.workers[1].host}:{own.workers[1].http_port}"

    def asked(name, **conf):
        tool = Listed(tmp_path / name, own, **conf)
        tools(tool)
        return {row["worker"]: row for row in tool("examine")["report"]["asked"]}

    rows = asked("dead")
    well = rows.pop(f"{own.workers[0].host}:{own.workers[0].http_port}")
    assert (well["http"], well["s3"]) == ("ok", "ok") and "advice" not in well
    assert (rows[gone]["http"], rows[gone]["s3"]) == ("unreachable", "unreachable")
    assert "neither port answers" in rows[gone]["advice"] and "s3.api" not in rows[gone]["advice"]
    other = asked("s3", s3_port=own.workers[0].rpc_port + 1)
    assert "s3.api.enabled" in next(row["advice"] for row in other.values() if row["http"] == "ok")
    listed_wrong = Listed.__new__(Listed)
    start(listed_wrong, tmp_path / "http", {"b": {"type": "alluxio", "root": own.root, "workers": [f"{own.workers[0].host}:9"],
                                                  "s3_port": own.s3_port}})
    tools(listed_wrong)
    row, = listed_wrong("examine")["report"]["asked"]
    assert (row["http"], row["s3"]) == ("unreachable", "ok") and "http_port" in row["advice"]


@with_options(workers=1)
def test_registered_again_before_the_lease_was_over(own, tmp_path, tools):  # noqa: F811
    """It writes over its key, which was made as long ago as before: the new life is noticed all the same."""
    tool = Cluster(tmp_path / "tool", own, under=False, refresh="300ms")
    tools(tool)
    prove(tool, own)
    generation = tool("report")["report"]["membership"]["generation"]
    own.kill(0)
    own.restart(0)
    harness.wait_for(lambda: tool("report")["report"]["membership"]["generation"] > generation, 60, "the new life is noticed")
