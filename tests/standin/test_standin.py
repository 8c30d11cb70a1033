"""What the recording does not show of a stand-in cluster: deaths, staleness, faults, counters, jobs, speed (PROTOCOLS Part 0)."""

import http.client
import json
import os
import socket
import time
import urllib.request

import pytest

from tests.servers.base import port_open, wait_for

from . import cluster as cluster_module
from .cluster import AlluxioStandin

MIB = 1 << 20
FLOOR_MIB = 150   # an idle machine does 700
SPEED_TRIES = 30  # others may want the machine, too


@pytest.fixture(autouse=True)
def _installed():
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())


@pytest.fixture(scope="module")
def cluster():
    """Fresh metadata, quick deaths; tests use files of their own."""
    with AlluxioStandin(sync_interval=0, timeout=2, linger=3, range_limit=8 * MIB) as server:
        (server.ufs / "b").mkdir()
        yield server


@pytest.fixture
def stale():
    with AlluxioStandin(sync_interval=-1, timeout=2) as server:
        (server.ufs / "b").mkdir()
        yield server


def put(cluster, name, data):
    (cluster.ufs / "b" / name).write_bytes(data)
    return f"/b/{name}"


def at(cluster, worker, text, port="s3", wait=10.0):
    """All bytes that a raw request gets, and how the connection ended."""
    place = cluster.workers[worker]
    with socket.create_connection((place.host, place.s3_port if port == "s3" else place.http_port), timeout=wait) as client:
        client.sendall(text.encode("latin-1"))
        data = b""
        try:
            while chunk := client.recv(MIB):
                data += chunk
        except TimeoutError:
            return data, "silent"
        except ConnectionResetError:
            return data, "reset"
    return data, "closed"


def get(path, fields="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"


def s3(cluster, path, worker=None, fields="", method="GET"):
    """(status, body) of one S3 request at its owner; the connection is closed by us when the length is there."""
    place = cluster.workers[cluster.owner(path) if worker is None else worker]
    client = http.client.HTTPConnection(place.host, place.s3_port, timeout=10)
    client.request(method, path, headers=dict(line.split(": ") for line in fields.split("\r\n") if line))
    answer = client.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        client.close()


def named(cluster, owner, stem="file"):
    """A name below /b that this worker owns."""
    return next(name for number in range(200) if cluster.owner(f"/b/{(name := f'{stem}{number}')}") == owner)


def info(cluster, path, worker=0):
    with urllib.request.urlopen(f"{cluster.workers[worker].http}/v1/info?path={path}") as answer:
        return json.load(answer)[0]


def test_a_taken_port_is_changed(monkeypatch):
    with socket.create_server(("127.0.0.2", 0)) as other:
        taken, find = [other.getsockname()[1]], cluster_module._port
        monkeypatch.setattr(cluster_module, "_port", lambda hosts: taken.pop() if taken else find(hosts))
        with AlluxioStandin(master=False) as one:
            assert one.s3_port != other.getsockname()[1] and not taken


# Connections

def test_second_get_on_a_connection_has_no_head(cluster):
    path = put(cluster, "reused", b"0123456789")
    data, end = at(cluster, cluster.owner(path), get(path) + get(path, "Range: bytes=2-4\r\n"), wait=0.5)
    assert data.partition(b"\r\n\r\n")[2] == b"0123456789234" and end == "silent"
    data, end = at(cluster, cluster.owner(path), get(path) + get(path, method="HEAD"), wait=0.5)
    assert data.endswith(b"\r\n0123456789") and end == "silent"


def test_connection_close_is_ignored_by_s3_and_kept_by_http(cluster):
    path = put(cluster, "closing", b"x")
    assert at(cluster, cluster.owner(path), get(path, "Connection: close\r\n"), wait=0.5)[1] == "silent"
    data, end = at(cluster, 0, get("/v1/health", "Connection: close\r\n"), "http")
    assert b"connection: close" in data and end == "closed"


def test_long_heads_are_closed(cluster):
    assert at(cluster, 0, get("/v1/files?path=/" + "n" * 4090), "http") == (b"", "closed")
    assert at(cluster, 0, get("/v1/health", f"X: {'y' * 8200}\r\n"), "http") == (b"", "closed")
    assert at(cluster, 0, get("/v1/health", f"X: {'y' * 8000}\r\n"), "http", wait=0.5)[0].startswith(b"HTTP/1.1 200")


# Freshness

def test_fresh_by_setting(cluster):
    path = put(cluster, "fresh", b"one")
    assert s3(cluster, path) == (200, b"one") and cluster.pages(path) == {0: 3}
    put(cluster, "fresh", b"other")
    assert s3(cluster, path) == (200, b"other") and info(cluster, path)["mLength"] == 5
    (cluster.ufs / "b" / "fresh").unlink()
    assert s3(cluster, path)[0] == 404


def test_stale_for_ever(stale):
    path = put(stale, "old", b"one")
    assert s3(stale, path) == (200, b"one")
    assert urllib.request.urlopen(f"{stale.url}/v1/files?path=/b/none").read() == b"[]"
    put(stale, "old", b"different")
    (stale.ufs / "b" / "none").mkdir()
    (stale.ufs / "b" / "none" / "x").write_text("x")
    assert s3(stale, path) == (200, b"one") and info(stale, path, 1)["mLength"] == 3
    assert urllib.request.urlopen(f"{stale.url}/v1/files?path=/b/none").read() == b"[]"
    (stale.ufs / "b" / "old").unlink()
    owner = stale.owner(path)
    stale.kill(owner)
    stale.restart(owner)  # the metastore outlives it
    stale.wait_members(2)
    assert s3(stale, path) == (200, b"one") and s3(stale, path, method="HEAD")[0] == 200
    assert s3(stale, path, method="PUT", fields="Content-Length: 0")[0] == 200
    assert s3(stale, path) == (200, b"")  # through Alluxio it is seen


# Pages and ranges

def test_poisoned_by_a_large_range(cluster):
    owner = 0
    name = named(cluster, owner, "large")
    path, small = put(cluster, name, os.urandom(9 * MIB)), put(cluster, named(cluster, owner, "small"), b"cached")
    other = put(cluster, named(cluster, owner, "cold"), b"cold")
    assert s3(cluster, small) == (200, b"cached")
    try:
        data, end = at(cluster, owner, get(path))
        assert b"Content-Length: 9437184\r\n" in data and data.endswith(b"\r\n\r\n") and end == "closed"
        data, end = at(cluster, owner, get(other, "Range: bytes=0-1\r\n"))
        assert data.startswith(b"HTTP/1.1 206 ") and data.endswith(b"\r\n\r\n") and end == "closed"
        assert s3(cluster, small) == (200, b"cached") and info(cluster, other)["mLength"] == 4
        cluster.kill(owner)
        cluster.restart(owner)
        cluster.wait_members(2)
        assert s3(cluster, other) == (200, b"cold")
    finally:
        cluster.fault(poisoned=False)


def test_page_sizes_and_short_pages():
    with AlluxioStandin(sync_interval=0, page_size=4 * MIB, master=False) as cluster:
        (cluster.ufs / "b").mkdir()
        data = os.urandom(9 * MIB + 5)
        path = put(cluster, "x", data)
        assert s3(cluster, path, fields="Range: bytes=5-9")[1] == data[5:10] and cluster.pages(path) == {0: 10}
        assert s3(cluster, path)[1] == data and cluster.pages(path) == {0: 4 * MIB, 1: 4 * MIB, 2: MIB + 5}
        page = urllib.request.urlopen(f"{cluster.workers[cluster.owner(path)].http}/v1/file/{cluster.file_id(path)}/page/1?offset=1&length=7")
        assert page.read() == data[4 * MIB + 1:4 * MIB + 8]
        state = cluster.state(cluster.owner(path))
        assert state["loads"] == 4 and state["ufs_bytes"] == 10 + len(data)
        cluster.drop_pages(path)
        assert cluster.pages(path) == {}
        assert cluster.requests(kind="get")[0].range == "bytes=5-9" and cluster.requests(kind="page")[0].page == 1


# Death

def test_death_and_return(cluster):
    victim, survivor = 0, 1
    path = put(cluster, named(cluster, victim, "dying"), b"bytes")
    kept = http.client.HTTPConnection(cluster.workers[survivor].host, cluster.workers[survivor].http_port, timeout=10)

    def ask():
        kept.request("GET", f"/v1/info?path={path}")
        return json.load(kept.getresponse())
    assert ask()[0]["mLength"] == 5 and s3(cluster, path, survivor)[0] == 307
    cluster.kill(victim)
    try:
        assert not port_open(cluster.workers[victim].http_port, cluster.workers[victim].host)
        assert s3(cluster, path, survivor) == (500, b"UNAVAILABLE: io exception")
        cluster.wait_members(1)
        assert cluster.owner(path) == survivor and info(cluster, path, survivor)["mLength"] == 5  # a new connection
        with pytest.raises(http.client.RemoteDisconnected):
            ask()  # the old one has the old ring
        assert s3(cluster, path, survivor)[0] == 500  # for `linger` seconds more
        wait_for(lambda: s3(cluster, path, survivor) == (200, b"bytes"), 10)
    finally:
        cluster.restart(victim, empty=True)
        cluster.wait_members(2)
    assert s3(cluster, path, survivor)[0] == 307 and s3(cluster, path) == (200, b"bytes")


def test_back_under_another_port(cluster):
    before = cluster.workers[1].http_port
    cluster.kill(1)
    cluster.restart(1, http_port=cluster_module._port(["127.0.0.1", "127.0.0.2"]))
    prefix = f"/ServiceDiscovery/{cluster.cluster}/"
    after = cluster.workers[1].http_port
    assert after != before
    wait_for(lambda: any(f'"HttpServerPort":{after}' in text.decode() for text in cluster.etcd.below(prefix).values()), 10)
    assert urllib.request.urlopen(cluster.workers[1].http + "/health").read() == b"worker is active"


def test_registration_survives_etcd():
    with AlluxioStandin(sync_interval=0, timeout=2, etcd_auth=("root", "word"), etcd_tls=True, master=False) as cluster:
        (cluster.ufs / "b").mkdir()
        path = put(cluster, "x", b"x")
        cluster.etcd.kill()
        assert s3(cluster, path) == (200, b"x") and info(cluster, path)["mLength"] == 1  # the last ring goes on
        cluster.etcd.restart()
        time.sleep(2.5)  # leases that nobody refreshed are gone by now
        cluster.wait_members(2)


# Faults

def test_faults(cluster):
    path = put(cluster, named(cluster, 0, "faulty"), b"x" * 100)
    try:
        cluster.fault(0, dead=True)
        assert at(cluster, 0, get("/v1/health"), "http") == (b"", "closed") and at(cluster, 0, get(path)) == (b"", "closed")
        cluster.fault(0, dead=False, hung=True)
        assert at(cluster, 0, get("/v1/health"), "http", wait=0.3) == (b"", "silent")
        cluster.fault(0, hung=False, slow=0.3)
        begin = time.monotonic()
        assert s3(cluster, path)[0] == 200 and 0.3 <= time.monotonic() - begin < 30
        cluster.fault(0, slow=0, rate=400)
        begin = time.monotonic()
        assert s3(cluster, path)[0] == 200 and 0.25 <= time.monotonic() - begin < 30
        cluster.fault(0, rate=0)
        cluster.fault(redirect_to="foreign.example")
        assert b"location: http://foreign.example:" in at(cluster, 1, get(path))[0]
    finally:
        cluster.fault(dead=False, hung=False, slow=0, rate=0, redirect_to=None)


def test_no_s3_and_other_virtual_nodes():
    with AlluxioStandin(no_s3=True, virtual_nodes=2000, master=False) as cluster:
        assert not port_open(cluster.s3_port, "127.0.0.1") and not port_open(cluster.s3_port, "127.0.0.2")
        assert {cluster.owner(f"/b/{number}") for number in range(50)} == {0, 1}


def test_large_put_hangs_the_port():
    with AlluxioStandin(put_limit=MIB, sync_interval=0, master=False) as cluster:
        (cluster.ufs / "b").mkdir()
        data, end = at(cluster, 0, get("/b/large", f"Content-Length: {2 * MIB}\r\n", "PUT") + "x" * 2 * MIB, wait=0.5)
        assert (data, end) == (b"", "silent") and 0 < (cluster.ufs / "b" / "large").stat().st_size < 2 * MIB
        assert at(cluster, 0, get("/b/large", method="HEAD"), wait=0.5) == (b"", "silent")
        assert urllib.request.urlopen(cluster.url + "/v1/health").status == 200


def test_redirect_of_a_name_with_plus_is_broken(cluster):
    path = put(cluster, "a+b%", b"plus")
    worker = cluster.owner(path)
    assert s3(cluster, "/b/a%252Bb%2525", worker) == (200, b"plus")
    head = at(cluster, 1 - worker, get("/b/a%252Bb%2525"))[0]
    assert head.rstrip().endswith(b"/b/a+b%25")


# Load jobs

def load(cluster, verb, path, more=""):
    with urllib.request.urlopen(f"{cluster.url}/v1/load?path={cluster.uri(path)}&opType={verb}{more}") as answer:
        return json.load(answer)


def test_load_job(cluster):
    folder = cluster.ufs / "job"
    folder.mkdir()
    for number in range(30):
        (folder / f"f{number}").write_bytes(b"x" * 1000)
    cluster.load_delays(start=0.3, file=0.01)
    assert "cannot be found" in load(cluster, "progress", "/job")["message"]
    assert load(cluster, "submit", "/job")["success"]
    first = load(cluster, "progress", "/job")
    assert first["jobState"] == "RUNNING" and first["respProperties"]["File Failure rate"] == "NaN%"
    with pytest.raises(http.client.RemoteDisconnected):
        load(cluster, "submit", "/job")  # while it runs
    wait_for(lambda: load(cluster, "progress", "/job")["jobState"] == "SUCCEEDED", 20)
    assert all(cluster.pages(f"/job/f{number}") == {0: 1000} for number in range(30))
    assert "jobState" not in load(cluster, "progress", "/job", "&progressFormat=JSON")
    cluster.load_delays(start=0.1, file=0.2)
    assert load(cluster, "submit", "/job")["success"]
    assert load(cluster, "stop", "/job")["success"] and not load(cluster, "stop", "/job")["success"]
    assert load(cluster, "progress", "/job")["jobState"] == "STOPPED"


def test_load_job_that_fails(cluster):
    put(cluster, "fails", b"x" * 10)
    cluster.load_delays(start=0.0)
    cluster.fault(poisoned=True)
    try:
        assert load(cluster, "submit", "/b/fails")["success"]
        wait_for(lambda: load(cluster, "progress", "/b/fails")["jobState"] == "FAILED (java.lang.RuntimeException", 10)
    finally:
        cluster.fault(poisoned=False)


def test_no_master():
    with AlluxioStandin(master=False, workers=1) as cluster:
        answer = load(cluster, "submit", "/")
        assert answer["success"] is False and answer["jobId"] == "NONE"


# Speed

@pytest.mark.alone
@pytest.mark.parametrize("how", ["page", "s3"])
def test_speed(cluster, how):
    path = put(cluster, named(cluster, 1, "speed"), os.urandom(8 * MIB))
    assert len(s3(cluster, path)[1]) == 8 * MIB
    place, best = cluster.workers[1], 0
    for _ in range(SPEED_TRIES):
        if best > FLOOR_MIB:
            break
        begin = time.monotonic()
        client = http.client.HTTPConnection(place.host, place.http_port, timeout=10)
        for number in range(8):
            if how == "page":
                client.request("GET", f"/v1/file/{cluster.file_id(path)}/page/{number}")
            else:
                client = http.client.HTTPConnection(place.host, place.s3_port, timeout=10)
                client.request("GET", path, headers={"Range": f"bytes={number * MIB}-{(number + 1) * MIB - 1}"})
            assert len(client.getresponse().read()) == MIB
            if how == "s3":
                client.close()
        client.close()
        best = max(best, 8 / (time.monotonic() - begin))
    assert best > FLOOR_MIB, f"{best:.0f} MiB/s"


def test_no_worker_has_complained(cluster):
    assert "Traceback" not in cluster.log_tail().decode()
