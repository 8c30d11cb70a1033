"""Backend alluxio on the stand-in (tests/standin; not a real Alluxio): the checks of tests/alluxio3.py, and what can only be asked
of a cluster that may be broken: deaths, faults, counters."""

import json
import subprocess
import time

import pytest

pytest.register_assert_rewrite("tests.alluxio3")

from tests import alluxio3, trees  # noqa: E402
from tests.alluxio3 import *  # noqa: E402, F401, F403
from tests.alluxio3 import MIB, map_it, read_all  # noqa: E402
from tests.standin.cluster import AlluxioStandin  # noqa: E402


def make_place(cluster, folder="ours", **more):
    (cluster.ufs / folder).mkdir(exist_ok=True)
    return alluxio3.Place(root=cluster.root, ufs=cluster.ufs, folder=folder, etcd=cluster.etcd.endpoint, s3_port=cluster.s3_port,
                          page_size=cluster.page_size, standin=cluster, **more)


@pytest.fixture(scope="module")
def place():
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    with AlluxioStandin(sync_interval=0, timeout=2) as cluster:
        yield make_place(cluster)


@pytest.fixture(scope="module")
def lake_data(place):
    return alluxio3.make_data(place.data / "tree")


@pytest.fixture
def breakable(request, tmp_path):
    """A cluster of this test only; @pytest.mark.parametrize("breakable", [{...}], indirect=True) for its options."""
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    with AlluxioStandin(**{"sync_interval": 0, "timeout": 2, "linger": 4, "folder": tmp_path / "standin", **getattr(request, "param", {})}) as cluster:
        yield make_place(cluster, extra={})


# Pages of every size

@pytest.mark.limit(300)
@pytest.mark.slow
@pytest.mark.parametrize("pages", [4, 20])
def test_other_page_sizes(prelux_factory, pages):
    """The cluster has 4 or 20 MiB, the client each of 1, 4 and 20."""
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    with AlluxioStandin(sync_interval=0, page_size=pages * MIB, master=False) as cluster:
        place = make_place(cluster)
        for number, (name, size) in enumerate(alluxio3.SIZES.items()):
            place.put(f"sizes/{name}", trees.pattern(size, number + 1))
            place.warm(f"sizes/{name}")
        for client in alluxio3.CLIENT_PAGES:
            prelux = prelux_factory(f"client{client}")
            map_it(prelux, place, "/sizes", page_size=client * MIB)
            read_all(prelux, list(alluxio3.SIZES))
            lines = [line for line in prelux.log().splitlines() if "page size" in line]
            assert len(lines) == (client != pages), (client, lines)


# Deaths

LOOP = """
import os, sys, time
top, which, seconds, n = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), 0
end = time.monotonic() + seconds
names = sorted(os.listdir(top))
for name in names[which::8]:
    with open(os.path.join(top, name), "rb") as f:
        data = f.read()
    number = int(name[4:])
    assert data == bytes([number % 251]) * (20000 + number), (name, len(data))
    n += 1
    time.sleep(max(0, (end - time.monotonic()) / (len(names) / 8 - n + 1)))
print(n)
"""


def read_loop(prelux, top, seconds, meanwhile):
    """8 processes read every file once, cold, spread over so many seconds, while meanwhile() breaks things. No error reaches them."""
    children = [prelux.popen(["/usr/bin/python3", "-c", LOOP, top, str(number), str(seconds)], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for number in range(8)]
    meanwhile()
    done = [child.communicate(timeout=100) for child in children]
    assert [child.returncode for child in children] == [0] * 8, "\n".join(err for _, err in done) + prelux.story()
    assert sum(int(out) for out, _ in done) == 400


def map_with_under_store(prelux, place, **mapping):
    prelux.config({"version": 1,
                   "backends": {"src": place.backend(under_store="under"), "under": {"type": "file", "root": str(place.ufs)}},
                   "mappings": [{"local": "/prelux-lake", "remote": f"src:/{place.folder}", **mapping}]})
    return "/prelux-lake"


@pytest.mark.limit(200)
@pytest.mark.slow
def test_workers_die_under_a_read_loop(prelux, breakable):
    """kill -9 of one, then both, then one is back: right bytes, no error."""
    for number in range(400):
        breakable.put(f"loop/file{number:03}", bytes([number % 251]) * (20000 + number))
    top = map_with_under_store(prelux, breakable) + "/loop"

    def deaths():
        time.sleep(3)
        breakable.standin.kill(0)
        time.sleep(4)
        breakable.standin.kill(1)
        time.sleep(4)
        breakable.standin.restart(0, empty=True)
    read_loop(prelux, top, 14, deaths)
    assert prelux.errors() == []
    status = json.loads(prelux.cli("status", "--json", check=False).stdout)  # 3, degraded, while nobody is registered
    reads = next(row for row in status["backends"] if row["name"] == "src")["reads"]
    assert reads["worker_s3"]["reads"] > 0 and reads["under_store"]["reads"] > 0


@pytest.mark.limit(200)
@pytest.mark.slow
def test_etcd_dies_comes_back_and_is_slow(prelux, breakable):
    for number in range(400):
        breakable.put(f"loop/file{number:03}", bytes([number % 251]) * (20000 + number))
    top = map_with_under_store(prelux, breakable) + "/loop"

    def trouble():
        time.sleep(2)
        breakable.standin.etcd.kill()
        time.sleep(3)
        breakable.standin.etcd.restart()
        time.sleep(1)
        breakable.standin.etcd.freeze()
        time.sleep(3)
        breakable.standin.etcd.thaw()
    read_loop(prelux, top, 11, trouble)
    assert prelux.errors() == []


@pytest.mark.parametrize("fault", [{"dead": True}, {"hung": True}, {"poisoned": True}, {"s3_hung": True}, {"redirect_to": "127.0.0.99"}],
                         ids=lambda fault: next(iter(fault)))
def test_a_sick_worker(prelux, breakable, fault):
    """One of two is sick in one way: right bytes within a time, by the other or the under store."""
    names = []
    for owner in (0, 1, 0, 1, 0, 1):  # a worker that says nothing costs its time-outs until it is left alone
        names.append(next(name for number in range(500) if (name := f"sick/file{number}") not in names
                          and breakable.standin.owner(f"/{breakable.folder}/{name}") == owner))
    for number, name in enumerate(names):
        breakable.put(name, trees.pattern(300_000 + number, number))
    breakable.standin.fault(0, **fault)
    map_with_under_store(prelux, breakable)
    prelux.lake, prelux.source = "/prelux-lake", breakable.data
    begin = time.monotonic()
    read_all(prelux, names)
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("breakable", [{"sync_interval": -1}], indirect=True)
def test_old_metadata(prelux, breakable):
    """Half of a file is cached in the cluster when it changes: a program gets the new one, whole, and no error."""
    breakable.put("old/file", b"o" * (6 * MIB))
    path = map_with_under_store(prelux, breakable) + "/old/file"
    breakable.s3("old/file", 0, 2 * MIB - 1)
    time.sleep(0.02)
    breakable.put("old/file", b"n" * (6 * MIB))
    assert prelux.run(["md5sum", path]).stdout.split()[0] == prelux.plain(["md5sum", breakable.data / "old/file"]).stdout.split()[0]
    assert prelux.errors() == []


# Counters

def test_many_processes_one_cold_object(prelux, place):
    """32 at once: what is fetched is the object and at most a page more."""
    size = 12 * MIB + 345
    place.put("crowd/object", trees.pattern(size, 9))
    map_it(prelux, place, "/crowd")
    prelux.run(["ls", prelux.lake])
    place.standin.forget_requests()
    children = [prelux.popen(["md5sum", prelux.lake + "/object"], stdout=subprocess.PIPE, text=True) for _ in range(32)]
    sums = {child.communicate(timeout=100)[0].split()[0] for child in children}
    assert sums == {prelux.plain(["md5sum", place.data / "crowd" / "object"]).stdout.split()[0]}
    fetched = sum(row.bytes for row in place.standin.requests() if row.kind in ("get", "page"))
    assert size <= fetched <= size + place.page_size


def test_requests_for_a_small_file(prelux, place):
    for number in range(20):
        place.put(f"small/file{number:02}", b"x" * 1000)
    map_it(prelux, place, "/small")
    prelux.run(["cat", prelux.lake + "/file00"])  # the daemon is there, the first worker's page size known or not
    place.standin.forget_requests()
    prelux.run(["cat", prelux.lake + "/file01"])
    rows = place.standin.requests()
    assert len(rows) <= 2, rows
    prelux.run(["ls", "-l", prelux.lake])
    place.standin.forget_requests()
    prelux.run(["cat", prelux.lake + "/file02"])
    rows = place.standin.requests()
    assert len(rows) <= 1, rows


def test_connections_are_reused_where_they_may_be(prelux, place):
    """Many names by HTTP over few connections; never a second request on a spent S3 connection."""
    for number in range(60):
        place.put(f"reuse/file{number:02}", b"x" * (100 + number))
    map_it(prelux, place, "/reuse")
    place.standin.forget_requests()
    prelux.run(f"for n in $(seq -w 0 59); do stat -c %s {prelux.lake}/file$n; done | md5sum; cat {prelux.lake}/* | md5sum")
    rows = place.standin.requests()
    assert not [row for row in rows if row.spent]
    http = {(row.worker, row.connection) for row in rows if row.port == "http" and row.kind != "closed"}
    assert len(http) <= 16 and len([row for row in rows if row.port == "http"]) >= 2
    assert not [row for row in rows if row.port == "s3" and row.range and _length(row.range) > 8 * MIB]


def _length(text):
    first, last = text[6:].split("-")
    return int(last) - int(first) + 1 if last else 1 << 60
