"""alluxio-proxy: what is refused and never sent, calls to the cluster, hidden names, proxies that are of another kind."""

import errno as E
import json
import threading
import time
from pathlib import Path

import pytest

from tests.integration.alluxio_proxy_rig import info, lake_between, status
from tests.integration.contract_rig import bad, good
from tests.integration.backends_raw_rig import TOOL
from tests.integration.write_rig import LOCAL

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.fixture
def lake(tmp_path):
    with lake_between(tmp_path) as it:
        yield it


# Never sent

def test_names_that_would_be_cut(lake):
    """Refused here: no request goes out for them, by either name of a rename."""
    remote, between, client = lake
    good(client.put("f", b"x"))
    between.calls.clear()
    for name in ("a?b", "back\\slash", "d?/f", b"\xff", b"\xed\xa0\x80"):
        for call in (lambda: client.put(name, b"x"), lambda: client("mkdir", name), lambda: client.rename("f", name)):  # noqa: B023
            answer = bad(call(), E.EOPNOTSUPP)
            assert "UTF-8" in answer["why"]
    for op in ("stat", "remove", "rmdir", "list"):
        for name in ("a?b", "back\\slash"):
            bad(client(op, name), E.EOPNOTSUPP)
    assert {call.path for call in between.calls} <= {"f", ""}
    bad(client.put("n" * 256, b"x"), E.ENAMETOOLONG)
    assert remote.objects() == {b"f": b"x"}


def test_what_deletes_never_say(lake):
    """Nothing but `recursive: false`, whatever is configured; never the root."""
    remote, between, client = lake
    one = client.more(recursive=True, write_type="CACHE_THROUGH")
    for path in ("d", "d/e"):
        good(one("mkdir", path))
    good(one.put("d/f", b"x"))
    good(one.put("d/f", b"y"))
    good(one("remove", "d/f"))
    bad(one("rmdir", "d"), E.ENOTEMPTY)
    good(one("rmdir", "d/e"))
    good(one("rmdir", "d"))
    for op in ("remove", "rmdir"):
        bad(one(op, ""), E.EBUSY)
    deletes = [call for call in between.calls if call.action == "delete"]
    assert deletes and all(call.body == {"recursive": False} and call.path for call in deletes)
    sources = "".join(path.read_text() for path in (Path(__file__).parents[2] / "lib/backend").glob("alluxio_*.c"))
    assert "deleteMountPoint" not in sources and "alluxioOnly" not in sources


def test_a_folder_with_more_in_the_under_store(lake):
    """What Alluxio has not seen is not removed."""
    remote, _, client = lake
    good(client("mkdir", "d"))
    hidden = remote.server.ufs / remote.top.strip("/") / "d" / "hidden"
    hidden.write_bytes(b"x")
    bad(client("rmdir", "d"), E.ENOTEMPTY)
    assert hidden.read_bytes() == b"x"


# The cluster

def cluster(client, verb, path="", **more):
    return client("cluster", path, verb=verb, **more)


def test_free(lake):
    remote, _, client = lake
    good(client("mkdir", "d"))
    good(client.put("d/f", b"x"))
    assert info(remote, "d/f")["inAlluxioPercentage"] == 100
    bad(cluster(client, "free", "d"), E.ENOTEMPTY)  # not without recursive
    good(cluster(client, "free", "d", recursive=True))
    end = time.monotonic() + 20  # it works in the background
    while info(remote, "d/f")["inAlluxioPercentage"] and time.monotonic() < end:
        time.sleep(0.1)
    assert info(remote, "d/f")["inAlluxioPercentage"] == 0 and client.content("d/f") == b"x"
    bad(cluster(client, "free", "nothing"), E.ENOENT)
    good(cluster(client, "setattr", "d/f", pinned=True))
    bad(cluster(client, "free", "d/f"), E.EBUSY)
    good(cluster(client, "free", "d/f", forced=True))


def test_mount_and_unmount(lake, tmp_path):
    remote, between, client = lake
    store = tmp_path / "store"
    store.mkdir()
    (store / "inside").write_bytes(b"there")
    good(cluster(client, "mount", "m", source=str(store), read_only=True, shared=True, properties=["a.key", "a value"]))
    assert between.calls[-1].body == {"readOnly": True, "shared": True, "properties": {"a.key": "a value"}}
    assert info(remote, "m")["mountPoint"] and client.content("m/inside") == b"there"
    bad(client.put("m/new", b"x"), E.EROFS)
    bad(client("remove", "m/inside"), E.EROFS)
    good(cluster(client, "unmount", "m"))
    bad(cluster(client, "unmount", "m"), E.ENOENT)
    assert (store / "inside").read_bytes() == b"there"
    good(cluster(client, "mount", "m", source=str(store)))
    answer = bad(cluster(client, "mount", "m", source=str(store), properties=["s3.secretKey", "very secret"]), E.EEXIST)
    assert "secret" not in answer["why"]
    good(client.put("f", b"x"))
    bad(client.rename("f", "m/f"), E.EXDEV)
    good(client("mkdir", "d"))
    bad(client.rename("d", "m"), E.EXDEV)
    for call in (lambda: client("rmdir", "m"), lambda: client.rename("m", "n")):
        bad(call(), E.EBUSY)  # an empty folder to Alluxio, as long as nobody has listed it
    assert info(remote, "m")["mountPoint"] and (store / "inside").read_bytes() == b"there"
    good(cluster(client, "unmount", "m"))
    bad(cluster(client, "unmount", "d"), E.EINVAL)
    for verb in ("mount", "unmount"):
        bad(cluster(client, verb, "", source=str(store)), E.EBUSY)


def test_mount_whose_answer_is_lost(lake, tmp_path):
    remote, between, client = lake
    store = tmp_path / "store"
    store.mkdir()
    for verb, there in (("mount", True), ("unmount", False)):
        lost = []

        def rule(call):
            if call.action == verb and not lost:  # noqa: B023
                lost.append(call)  # noqa: B023
                return "lost"
            return None

        between.rule = rule
        between.calls.clear()
        good(cluster(client, verb, "m", source=str(store)))
        assert lost and between.actions().count(verb) == 1
        assert (b"m" in remote.objects()) == there


def test_set_attribute(lake):
    remote, _, client = lake
    good(client("mkdir", "d"))
    good(client.put("d/f", b"x"))
    good(cluster(client, "setattr", "d", mode=0o750, recursive=True))
    assert (info(remote, "d")["mode"], info(remote, "d/f")["mode"]) == (0o750, 0o750)
    good(cluster(client, "setattr", "d/f", ttl_ms=86400000, ttl_action="DELETE", replication_min=1, replication_max=2, pinned=True))
    now = info(remote, "d/f")
    assert (now["ttl"], now["ttlAction"], now["replicationMin"], now["replicationMax"], now["pinned"]) == (86400000, "DELETE", 1, 2, True)
    good(cluster(client, "setattr", "d/f", ttl_ms=-1, replication_min=0, pinned=False))
    assert (info(remote, "d/f")["ttl"], info(remote, "d/f")["pinned"]) == (-1, False)
    good(cluster(client, "setattr", "d/f", owner="root", group="root"))
    assert (info(remote, "d/f")["owner"], info(remote, "d/f")["group"]) == ("root", "root")
    bad(cluster(client, "setattr", "nothing", mode=0o600), E.ENOENT)


def test_info(lake):
    remote, _, client = lake
    good(client.put("f", b"some bytes"))
    told = good(cluster(client, "info", "f"))["info"]["info"]
    now = info(remote, "f")
    assert told.keys() == now.keys() and {name: told[name] for name in ("fileId", "length", "ufsPath", "blockIds", "mode", "acl")} == {
        name: now[name] for name in ("fileId", "length", "ufsPath", "blockIds", "mode", "acl")}
    assert told["fileBlockInfos"][0]["blockInfo"]["locations"][0]["workerAddress"]["host"]
    bad(cluster(client, "info", "nothing"), E.ENOENT)


# Hidden names

def test_names_of_unfinished_work(lake):
    remote, _, client = lake
    good(client("mkdir", "d"))
    remote.write("d/.prelux~put-x", b"1")
    assert client.names("d") == {}
    for op in ("stat", "remove", "rmdir", "list"):
        bad(client(op, "d/.prelux~put-x"), E.ENOENT)
    for call in (lambda: client.put("d/.prelux~x", b"x"), lambda: client("mkdir", ".prelux~x")):
        bad(call(), E.EOPNOTSUPP)
    assert good(client("clean", "d", idle_s=3600))["removed"] == 0  # another node's, and young
    assert good(client("clean", "d", idle_s=0))["removed"] == 1 and remote.objects() == {b"d": None}


def test_rmdir_where_the_dead_left_something(lake):
    remote, _, client = lake
    good(client("mkdir", "d"))
    good(client.put("x", b"x"))
    dead = client.more()
    remote.conf = dead.remote.conf
    good(dead.put("d/f", b"x"))
    calls = [call.path for call in lake[1].calls if call.action == "create-file" and call.hidden]
    dead.process.kill()
    dead.process.wait()
    remote.write(calls[-1], b"left by the dead")
    good(client("remove", "d/f"))
    good(client("rmdir", "d"))
    assert remote.objects() == {b"x": b"x"}


# Other proxies

def test_a_proxy_without_rest(lake):
    _, between, client = lake
    between.rule = lambda call: (200, b"")
    for answer in (client("able"), client.put("f", b"x"), client("mkdir", "d"), client("remove", "f"), client.rename("f", "g"),
                   cluster(client, "free", "f"), cluster(client, "info", "f")):
        bad(answer, E.EIO)
        assert "HTTP 200 and an empty body" in answer["why"] and "alluxio.proxy.s3.v2.version.enabled" in answer["advice"]


def test_a_proxy_of_3x_is_read_only(lake):
    """Told by a member that only its FileInfo has. Its deletes say 200 and do nothing, its renames say otherwise."""
    remote, between, client = lake

    def rule(call):
        if call.action != "get-status":
            return None
        code, body = remote.call("POST", call.path, "get-status")
        return code, json.dumps({**json.loads(body), "fromUFSFallBack": False}).encode() if code == 200 else body

    good(client.put("f", b"x"))
    between.rule = rule
    one = client.more()
    assert good(one("able"))["caps"] == 0
    between.calls.clear()
    for call in (lambda: one.put("g", b"x"), lambda: one("remove", "f"), lambda: one("mkdir", "d"), lambda: one.rename("f", "g")):
        assert "3.x" in bad(call(), E.EOPNOTSUPP)["why"]
    assert between.actions("get-status") == [] and one.content("f") == b"x"


def test_busy_for_a_while(lake):
    """RESOURCE_EXHAUSTED was not done: sent again by itself."""
    remote, between, client = lake
    left = [2]

    def rule(call):
        if call.action == "create-directory" and left[0]:
            left[0] -= 1
            return status("RESOURCE_EXHAUSTED")
        return None

    between.rule = rule
    good(client("mkdir", "d"))
    assert left == [0] and remote.objects() == {b"d": None}


# Folders that are renamed while files are sent

def test_a_folder_is_renamed_between_puts(prelux):
    """Not under one: its hidden file would stay behind, or bring the old folder to life again."""
    began, gate = threading.Event(), threading.Event()
    with lake_between(prelux.tmp) as (remote, between, _):
        def rule(call):
            if call.action == "streams/write" and not gate.is_set():
                began.set()
                gate.wait(60)
        between.rule = rule
        prelux.config({"version": 1, "backends": {"a": {"type": "alluxio-proxy", "url": between.url, "root": remote.top}},
                       "mappings": [{"local": LOCAL, "remote": "a:/", "write": "async", "freshness": "always"}]})
        prelux.run(f"mkdir {LOCAL}/d && echo text > {LOCAL}/d/f", args=["--no-wait"])
        assert began.wait(60)
        moving = prelux.popen(["mv", f"{LOCAL}/d", f"{LOCAL}/e"], args=["--no-wait"])
        time.sleep(1)
        assert moving.poll() is None and not [call for call in between.calls if call.action == "rename" and call.path == "d"]
        gate.set()
        assert moving.wait(60) == 0
        prelux.cli("flush", timeout=60)
        assert remote.objects() == {b"e": None, b"e/f": b"text\n"} and prelux.run(["ls", "-A", LOCAL, f"{LOCAL}/e"]).stdout == f"{LOCAL}:\ne\n\n{LOCAL}/e:\nf\n"
        assert info(remote, "e")["folder"] and remote.call("POST", "d", "get-status")[0] != 200
