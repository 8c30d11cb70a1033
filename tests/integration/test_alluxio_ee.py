"""Backend alluxio-ee on its stand-in (tests/standin_ee; not a real Alluxio Enterprise AI)."""

import json
import os
import subprocess
import threading
import urllib.parse

import pytest

from tests import harness, trees
from tests.integration.backends_raw_rig import TOOL, Tool
from tests.standin_ee.cluster import ACCESS, HOSTS, MOUNT, SECRET, UNDER, EeStandin

ENOENT, EIO, EACCES, EBUSY, ENOTDIR, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 16, 20, 71, 95, 116
MIB = 1 << 20

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.fixture(params=[True, False], ids=["redirect", "proxy"])
def redirect(request):
    return request.param


@pytest.fixture
def cluster(tmp_path):
    with EeStandin(tmp_path) as it:
        yield it


@pytest.fixture
def tool(cluster, tmp_path):
    one = Tool(tmp_path / "tool", **cluster.backend())
    yield one
    one.close()


def put(cluster, name, data):
    path = cluster.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


# The whole way

@pytest.mark.parametrize("etag", [True, False])
def test_programs_read(prelux, tmp_path, redirect, etag):
    with EeStandin(tmp_path, redirect=redirect, etag=etag) as cluster:
        small, large = b"hello\n", trees.pattern(9 * MIB + 17, 3)
        put(cluster, "small", small)
        put(cluster, "d/e/large", large)
        prelux.config({"version": 1, "backends": {"lake": cluster.backend()}, "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
        assert prelux.run(["cat", "/prelux-ee/small"]).stdout == "hello\n"
        assert prelux.run(["cat", "/prelux-ee/d/e/large"], text=False).stdout == large
        assert prelux.run(["find", "/prelux-ee", "-type", "f", "-printf", "%P %s\\n"]).stdout.split("\n")[:-1] in (
            ["small 6", f"d/e/large {len(large)}"], [f"d/e/large {len(large)}", "small 6"])
        assert prelux.run(["stat", "-c", "%s %Y", "/prelux-ee/small"]).stdout == "6 1700000000\n"
        assert "No such file" in prelux.run(["cat", "/prelux-ee/none"], check=False).stderr
        assert any(seen.path == f"{MOUNT}/data/d/e/large" for seen in cluster.seen if seen.door == "s3")


# Look-ups

def test_stat(cluster, tool):
    put(cluster, "a", b"12345")
    put(cluster, "d/b", b"")
    a = tool("stat", "a")
    assert a["rc"] == 0 and a["size"] == 5 and int(a["mtime_ns"]) == 1_700_000_000_000_000_000 and a["version"] == "5-1700000000000"
    assert tool("stat", "d/b")["size"] == 0
    names = tool.names("")
    assert set(names) == {b"a", b"d"} and names[b"a"]["version"] == a["version"]
    assert tool("stat", "none")["rc"] == -ENOENT and tool("list", "none")["rc"] == -ENOENT
    assert tool("list", "a")["rc"] == -ENOTDIR


def test_the_owner_is_asked_and_remembered(cluster, tool):
    for number in range(8):
        put(cluster, f"f{number}", b"x" * number)
        for _ in range(3):
            assert tool("stat", f"f{number}")["size"] == number
        path = f"{cluster.root}/f{number}"
        assert {seen.host for seen in cluster.calls("/v1/info") if seen.query["path"] == path} == {cluster.owner(path)}
        assert len([seen for seen in cluster.calls("/v1/node") if seen.query["path"] == path]) == 1


@pytest.mark.parametrize("name", [b"with space", b"a&b;c=d", b"q'uo\"te", b"a#b", "é中".encode(), b"[x]", b"a:b", b"~t"])
def test_names(cluster, tool, name):
    put(cluster, os.fsdecode(name), b"named")
    assert tool("stat", name)["size"] == 5
    assert tool.read(name)[:2] == (0, b"named")
    assert name in tool.names("")


@pytest.mark.parametrize("name", [b"100%", b"%41", b"+plus", b"a?b", b"back\\slash", b"\xff\xfe"])
def test_names_that_are_refused(cluster, tool, name):
    assert tool("stat", name)["rc"] == -EOPNOTSUPP
    assert not cluster.seen


STATUSES = [(400, EOPNOTSUPP), (401, EACCES), (403, EACCES), (404, ENOENT), (412, EBUSY), (500, EIO), (503, EIO), (418, EIO)]


@pytest.mark.parametrize("status, error", STATUSES)
def test_statuses(cluster, tool, status, error):
    cluster.fault = lambda seen: (status, {}, b'{"message": "what happened"}') if "/v1/info" in seen.path else None
    put(cluster, "a", b"x")
    answer = tool("stat", "a")
    assert answer["rc"] == -error and "what happened" in answer["why"], answer
    hosts = {seen.host for seen in cluster.calls("/v1/info")}
    assert hosts == (set(HOSTS) if error == EIO else {cluster.owner(f"{cluster.root}/a")})


def test_a_worker_that_fails_is_passed_over(cluster, tool):
    put(cluster, "a", b"abc")
    owner = cluster.owner(f"{cluster.root}/a")
    cluster.fault = lambda seen: "close" if seen.host == owner and seen.door == "http" else None
    assert tool("stat", "a")["size"] == 3
    before = len([seen for seen in cluster.seen if seen.host == owner and "/v1/info" in seen.path])
    assert tool("stat", "a")["size"] == 3
    assert len([seen for seen in cluster.seen if seen.host == owner and "/v1/info" in seen.path]) == before, "it rests"


def test_dead_workers(cluster, tool):
    put(cluster, "a", b"abc")
    cluster.down(HOSTS[0])
    cluster.redirect = False
    for name in ("a", "none"):
        assert tool("stat", name)["rc"] == (0 if name == "a" else -ENOENT)
    assert tool.read("a")[:2] == (0, b"abc")
    cluster.down(HOSTS[1])
    assert tool("stat", "a")["rc"] == -EIO


def other(cluster, **change):
    def fault(seen):
        if "/v1/info" not in seen.path:
            return None
        return 200, {}, json.dumps([{**cluster.info(seen.query["path"]), **change}]).encode()
    return fault


@pytest.mark.parametrize("change, error", [({"mUfsPath": f"{UNDER}/data/b"}, EPROTO), ({"mType": "socket"}, EPROTO), ({"mLength": None}, EPROTO),
                                           ({"mLength": -1}, EPROTO), ({"mLength": 1.5}, EPROTO), ({"mCompleted": False}, EBUSY)])
def test_answers_that_are_none(cluster, tool, change, error):
    put(cluster, "a", b"abc")
    put(cluster, "b", b"abcd")
    cluster.fault = other(cluster, **change)
    assert tool("stat", "a")["rc"] == -error


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"[{}]", b"<html>", b'[{"mType": "file"'])
def test_info_that_is_no_json(cluster, tool, body):
    cluster.fault = lambda seen: (200, {}, body) if "/v1/info" in seen.path else None
    assert tool("stat", "a")["rc"] == -EPROTO


def test_a_list_of_something_else(cluster, tool):
    for folder in ("d", "e", "dx"):
        put(cluster, f"{folder}/a", b"")
    for other in ("e", "dx"):
        body = json.dumps([cluster.info(f"{cluster.root}/{other}/a")]).encode()
        cluster.fault = lambda seen, body=body: (200, {}, body) if "/v1/files" in seen.path else None
        assert tool("list", "d")["rc"] == -EPROTO, other


def test_an_empty_list_of_what_is_not_there(cluster, tool):
    """As OSS workers answer."""
    (cluster.data / "d").mkdir()
    assert tool("list", "d")["names"] == []
    cluster.fault = lambda seen: (200, {}, b"[]") if "/v1/files" in seen.path else None
    assert tool("list", "none")["rc"] == -ENOENT


# Reads

def test_a_changed_file_is_stale(cluster, tool):
    for etag in (True, False):
        cluster.etag = etag
        put(cluster, "a", b"abc")
        old = tool("stat", "a")
        path = cluster.data / "a"
        path.write_bytes(b"xyz")
        os.utime(path, (1_700_000_100, 1_700_000_100))
        rc, data, _ = tool.read("a", expect={key: old[key] for key in ("size", "mtime_ns", "version")})
        assert (rc, data) == (-ESTALE, None), etag


@pytest.mark.parametrize("how", ["short", "long", "other range", "other length", "whole"])
def test_ranges_that_lie(cluster, tool, how):
    data = trees.pattern(4000, 1)
    put(cluster, "a", data)

    def fault(seen):
        if seen.door != "s3":
            return None
        part, place = data[100:200], "bytes 100-199/4000"
        if how == "short":
            part = part[:50]
        elif how == "long":
            part = data[100:300]
        elif how == "other range":
            place = "bytes 101-200/4000"
        elif how == "other length":
            place = "bytes 100-199/4001"
        else:
            return 200, {}, data
        return 206, {"Content-Range": place}, part

    cluster.fault = fault
    rc, got, _ = tool.read("a", off=100, len=100)
    assert rc in (-EPROTO, -EIO, -ESTALE) and got is None


def test_reads_are_of_8_mib_at_most(cluster, tool):
    data = trees.pattern(20 * MIB + 1, 2)
    put(cluster, "a", data)
    assert tool.read("a")[:2] == (0, data)
    sizes = [int(last) - int(first) + 1 for first, last in
             (seen.headers["range"].removeprefix("bytes=").split("-") for seen in cluster.seen if seen.door == "s3")]
    assert max(sizes) == 8 * MIB and sum(sizes) == len(data)


def test_ranges_of_a_long_read_are_asked_for_at_once(cluster, tool):
    data = trees.pattern(40 * MIB + 1, 2)
    put(cluster, "a", data)
    together, numbers = threading.Barrier(3, timeout=30), iter(range(100))

    def fault(seen):
        if seen.door == "s3" and next(numbers) < 3:
            together.wait()  # broken: nothing else is asked for before this is answered

    cluster.fault = fault
    assert tool.read("a")[:2] == (0, data)
    assert not together.broken


@pytest.mark.parametrize("at", [1, 4], ids=["second", "last"])
def test_ranges_of_two_versions(cluster, tool, at):
    """What their ETags say of the version nobody knows; but they are not the same."""
    data = trees.pattern(33 * MIB, 2)
    put(cluster, "a", data)

    def fault(seen):
        if seen.door != "s3":
            return None
        first, last = (int(word) for word in seen.headers["range"].removeprefix("bytes=").split("-"))
        part = data[first:last + 1]
        return 206, {"ETag": f'"v{first // (8 * MIB) == at}"', "Content-Range": f"bytes {first}-{last}/{len(data)}"}, part

    cluster.fault = fault
    assert tool.read("a")[:2] == (-ESTALE, None)


def test_a_worker_that_breaks_off_in_the_middle_of_a_long_read(cluster, tool):
    data = trees.pattern(40 * MIB + 1, 2)
    put(cluster, "a", data)
    broken = set()

    def fault(seen):
        if seen.door != "s3" or seen.host != cluster.owner(f"{cluster.root}/a"):
            return None
        first, last = (int(word) for word in seen.headers["range"].removeprefix("bytes=").split("-"))
        if first // (8 * MIB) in broken:
            return None
        broken.add(first // (8 * MIB))
        length = last - first + 1
        return 206, {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Content-Length": str(length)}, data[first:first + length // 2]

    cluster.fault, cluster.etag = fault, False
    assert tool.read("a")[:2] == (0, data)
    assert len(broken) >= 4


def test_a_redirect_to_elsewhere_goes_nowhere(cluster, tool):
    put(cluster, "a", b"abc")
    cluster.fault = lambda seen: (307, {"Location": "https://elsewhere.invalid/x"}, b"") if seen.door == "s3" else None
    rc, _, answer = tool.read("a")
    assert rc == -EPROTO and "elsewhere" not in answer["why"]


# Mounts

def test_the_mount_is_the_longest_at_a_boundary(cluster, tool):
    """`s3://la` is a prefix of the text, and no mount of it; the deeper one wins."""
    put(cluster, "d/a", b"abc")
    cluster.mounts = {"s3://la": {"alluxio_path": "/wrong"}, UNDER: {"alluxio_path": "/wrong2"}, f"{UNDER}/data/": {"alluxio_path": f"{MOUNT}/data/"},
                      f"{UNDER}/data/d/b": {"alluxio_path": "/wrong3"}}
    assert tool.read("d/a")[:2] == (0, b"abc")
    assert len(cluster.calls("/v1/ufsInfo")) == 1
    put(cluster, "d/b2", b"abcd")
    assert tool.read("d/b2")[:2] == (0, b"abcd")
    assert len(cluster.calls("/v1/ufsInfo")) == 1, "it is remembered"


def test_no_mount(cluster, tool):
    put(cluster, "a", b"abc")
    cluster.mounts = {"s3://other": {"alluxio_path": "/mnt"}}
    rc, _, answer = tool.read("a")
    assert rc == -EIO and "no mount" in answer["why"]


@pytest.mark.parametrize("status", [200, 403, 500])
def test_keys_of_the_under_store_are_never_told(prelux, cluster, status):
    """Neither in a good answer nor in a bad one, and not when the answer is broken."""
    put(cluster, "a", b"abc")
    body = json.dumps({"message": f"{ACCESS} {SECRET}", **cluster.mounts}).encode()
    for broken in (body, body[:-9]):
        cluster.fault = lambda seen, broken=broken: (status, {}, broken) if "ufsInfo" in seen.path else None
        prelux.config({"version": 1, "log": {"level": "debug"}, "backends": {"lake": cluster.backend()},
                       "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
        done = prelux.run(["cat", "/prelux-ee/a"], check=False)
        texts = [done.stdout, done.stderr, prelux.log(), json.dumps(prelux.errors())]
        texts += [prelux.cli("status", "--json", check=False).stdout, prelux.cli("doctor", "--json", check=False).stdout,
                  prelux.cli("errors", check=False).stdout]
        for word in (ACCESS, SECRET, urllib.parse.quote(SECRET, safe=""), SECRET[:10]):
            assert not [text for text in texts if word in text]
        assert cluster.calls("/v1/ufsInfo")


# The under store

def test_the_under_store_helps(prelux, cluster):
    put(cluster, "d/a", b"abc")
    put(cluster, "d/b", b"abcd")
    conf = cluster.backend(under_store="plain", root="file://" + str(cluster.data))
    prelux.config({"version": 1, "backends": {"lake": conf, "plain": {"type": "file", "root": str(cluster.data)}},
                   "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
    for host in HOSTS:
        cluster.down(host)
    assert prelux.run(["cat", "/prelux-ee/d/a"]).stdout == "abc"
    assert prelux.run(["ls", "/prelux-ee/d"]).stdout == "a\nb\n"
    assert "No such file" in prelux.run(["cat", "/prelux-ee/d/none"], check=False).stderr


def test_the_under_store_is_not_asked_after_an_answer(cluster, tmp_path):
    """What the cluster refuses is not to be had by another way."""
    put(cluster, "a", b"abc")
    folder = tmp_path / "tool"
    folder.mkdir()
    (folder / "conf.yaml").write_text(json.dumps({"version": 1, "mappings": [], "backends": {
        "b": cluster.backend(under_store="plain"), "plain": {"type": "file", "root": str(cluster.data)}}}))
    tool = Tool.__new__(Tool)
    tool.folder, tool.stderr = folder, open(folder / "stderr", "wb+")
    tool.process = subprocess.Popen([TOOL, folder / "conf.yaml", "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=tool.stderr,
                                    env=harness.clean_environment())
    try:
        for status, error in ((403, EACCES), (404, ENOENT), (500, 0)):
            cluster.fault = lambda seen, status=status: (status, {}, b"") if "/v1/info" in seen.path or "/v1/files" in seen.path else None
            assert tool("stat", "a")["rc"] == -error and tool("list", "")["rc"] == -error, status
    finally:
        tool.close()


# Load jobs

def load(prelux, *words):
    done = prelux.cli("load", *words, "--json", check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def map_it(prelux, cluster, **more):
    put(cluster, "d/a", b"abc")
    prelux.config({"version": 1, "backends": {"lake": cluster.backend(**more)}, "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
    return f"{cluster.root}/d"


def test_load_by_a_worker(prelux, cluster):
    path = map_it(prelux, cluster)
    assert load(prelux, "progress", "/prelux-ee/d")[1]["state"] == "unknown"
    status, job = load(prelux, "submit", "/prelux-ee/d")
    assert status == 3 and job["state"] == "starting" and not job["attached"]
    status, job = load(prelux, "submit", "/prelux-ee/d")
    assert status == 3 and job["state"] == "running" and job["attached"]
    assert load(prelux, "progress", path)[1]["state"] == "running"
    assert load(prelux, "stop", "/prelux-ee/d")[1]["state"] == "stopped"
    assert load(prelux, "stop", "/prelux-ee/d")[1]["state"] == "unknown"
    cluster.jobs[path] = "SUCCEEDED"
    assert load(prelux, "progress", "/prelux-ee/d") == (0, {**load(prelux, "progress", "/prelux-ee/d")[1], "state": "done"})
    cluster.jobs[path] = "FAILED"
    assert load(prelux, "progress", "/prelux-ee/d")[1]["state"] == "failed"
    assert load(prelux, "submit", "/prelux-ee/none")[0] == 1
    assert {seen.host for seen in cluster.calls("/v1/load") if seen.query["path"] == path} == {cluster.owner(path)}


@pytest.mark.parametrize("started", [True, False])
def test_a_submit_without_an_answer(prelux, cluster, started):
    """Whether there is a job now, its progress tells; it is never submitted twice."""
    path = map_it(prelux, cluster)

    def fault(seen):
        if seen.query.get("opType") != "submit":
            return None
        if started:
            cluster.jobs[path] = "RUNNING"
        return "close"

    cluster.fault = fault
    status, job = load(prelux, "submit", "/prelux-ee/d")
    assert (status, job["attached"]) == (3, True) if started else status == 1
    assert sum(seen.query.get("opType") == "submit" for seen in cluster.seen) == 1


def test_load_by_the_coordinator(prelux, cluster):
    path = map_it(prelux, cluster, coordinator=f"{HOSTS[0]}:{cluster.coordinator_port}")
    assert load(prelux, "progress", "/prelux-ee/d")[1]["state"] == "unknown"
    status, job = load(prelux, "submit", "--skip-if-exists", "/prelux-ee/d")
    assert status == 3 and not job["attached"]
    order = next(json.loads(seen.body) for seen in cluster.calls("/api/v1/load", "coordinator") if seen.method == "POST")
    assert order["paths"] == [path] and order["options"] == {"skipIfExists": True}
    status, job = load(prelux, "submit", "/prelux-ee/d")
    assert status == 3 and job["attached"] and (job["bytes_done"], job["bytes_total"]) == (100, 300)
    assert sum(seen.method == "POST" for seen in cluster.seen) == 1
    status, said = load(prelux, "stop", "/prelux-ee/d")
    assert status == 1 and "the coordinator cannot stop a job" in str(said)
    cluster.jobs[order["alias"]].update(state="SUCCEEDED", loadedBytes=300)
    assert load(prelux, "progress", "/prelux-ee/d")[1]["state"] == "done"
    assert load(prelux, "submit", "/prelux-ee/none")[0] == 1
    assert not cluster.calls("/v1/load", "http")


def test_load_options_that_nobody_takes(prelux, cluster):
    map_it(prelux, cluster)
    for word in ("--verify", "--metadata-only", "--skip-if-exists"):
        assert load(prelux, "submit", word, "/prelux-ee/d")[0] == 1
    assert not cluster.calls("/v1/load")
