"""Backend alluxio writes on an under store whose times are whole seconds: a real S3 (versitygw) beneath the stand-in, whose workers believe for
ever what they once saw. What length and time cannot tell apart."""

import os

import pytest

from tests.integration.test_alluxio3_traps import TOOL, AlluxioStandin, Cluster, tools  # noqa: F401
from tests.integration.test_alluxio3_write import Writer, in_parts
from tests.servers import versitygw
from tests.servers.base import ServerError

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"),
              pytest.mark.skipif(AlluxioStandin.missing() is not None, reason=str(AlluxioStandin.missing()))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    try:
        versitygw.TOOL.install()
    except ServerError as error:
        pytest.skip(f"versitygw cannot be installed: {str(error)[:300]}")
    if versitygw.Versitygw.missing():
        pytest.skip(versitygw.Versitygw.missing())
    with versitygw.Versitygw(tmp_path_factory.mktemp("buckets")) as server:
        server.bucket("lake")
        with AlluxioStandin(ufs=server.root / "lake", root="s3://lake", sync_interval=-1, timeout=2, master=False) as cluster:
            server.cluster = cluster
            yield server


def under(store):
    return {"type": "s3", "endpoint": store.url, "bucket": "lake", "access_key": store.access_key, "secret_key": store.secret_key}


def one_second(store, name, old, new, tmp_path, tools):
    """Two objects of one length and one second, put by another node; workers have the first one's bytes."""
    store.put("lake", f"b/{name}", old)
    file = store.root / "lake/b" / name
    instant = file.stat().st_mtime_ns
    other = Cluster(tmp_path / "reader", store.cluster, under=False)
    tools(other)
    assert other.read(f"b/{name}")[1] == old
    store.put("lake", f"b/{name}", new)
    os.utime(file, ns=(instant, instant))
    assert other.read(f"b/{name}")[1] == old


@pytest.mark.parametrize("size", [9, 3 << 20])
def test_a_checksum_that_workers_do_not_meet(store, prelux, tmp_path, tools, size):
    """The fill finds out, and reads once more, from the under store: neither the old bytes nor an error."""
    old, new = b"o" * size, b"n" * size
    one_second(store, f"sum{size}", old, new, tmp_path, tools)
    cluster = store.cluster
    source = {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint], "s3_port": cluster.s3_port, "under_store": "under"}
    prelux.config({"version": 1, "backends": {"src": source, "under": under(store)},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/b", "write": "sync"}]})
    (prelux.tmp / "new").write_bytes(new)
    prelux.run(f"cmp /prelux-lake/sum{size} {prelux.tmp}/new")
    reads = next(row for row in prelux.cli("status", "--json")["backends"] if row["name"] == "src")["reads"]
    assert reads["worker_s3"]["bytes"] + reads["worker_pages"]["bytes"] >= size  # they were asked


def test_this_node_lets_a_second_pass_where_no_put_has_a_checksum(store, tmp_path, tools):
    """As with a key of the customer's, whose ETag is something else."""
    tool = Writer(tmp_path / "tool", store.cluster, under={**under(store), "etag_md5": "off"})
    tools(tool)
    times = set()
    for number in range(3):
        assert tool.put("b/sumless", b"put %d" % number)["rc"] == 0
        times.add(tool("stat", "b/sumless")["mtime_ns"])
    assert len(times) == 3


def test_this_node_lets_a_second_pass(store, tmp_path, tools):
    """Between two files in parts of one name: whoever starts anew, and remembers nothing, can tell them apart."""
    tool = Cluster(tmp_path / "tool", store.cluster, under=under(store), write_through="auto")
    tools(tool)
    assert in_parts(tool, "b/source", b"copied 12")["rc"] == 0
    times = set()
    for number in range(2):
        for change in (lambda: in_parts(tool, "b/f", b"in parts%d" % number), lambda: tool("copy", "b/source", to="b/f")):  # noqa: B023
            answer = change()
            assert answer["rc"] == 0, answer
            times.add(tool("stat", "b/f")["mtime_ns"])
    assert len(times) == 4
