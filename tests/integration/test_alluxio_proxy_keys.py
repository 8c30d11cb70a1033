"""Every option of Alluxio's Python API as a key of the backend: its effect on a real Alluxio 2.9, or, where none can be seen, the
request that a go-between recorded."""

import errno as E
import threading
import time

import pytest

from tests import harness
from tests.integration.alluxio_proxy_rig import DROPPED, info, lake_between
from tests.integration.contract_rig import bad, good
from tests.integration.backends_raw_rig import TOOL

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.fixture
def lake(tmp_path):
    with lake_between(tmp_path) as it:
        yield it


CREATED = [  # key, value, what create-file is told, what get-status says then
    ("write_type", "THROUGH", {"writeType": "THROUGH"}, {"persistenceState": "PERSISTED", "inAlluxioPercentage": 0}),
    ("write_type", "CACHE_THROUGH", {"writeType": "CACHE_THROUGH"}, {"persistenceState": "PERSISTED", "inAlluxioPercentage": 100}),
    ("write_type", "MUST_CACHE", {"writeType": "MUST_CACHE"}, {"persistenceState": "NOT_PERSISTED"}),
    ("write_type", "TRY_CACHE", {"writeType": "TRY_CACHE"}, {"persistenceState": "NOT_PERSISTED"}),
    ("write_type", "ASYNC_THROUGH", {"writeType": "ASYNC_THROUGH"}, {"persistenceState": "TO_BE_PERSISTED"}),
    ("block_size_bytes", "1MiB", {"blockSizeBytes": 1 << 20}, {"blockSizeBytes": 1 << 20}),
    ("replication_min", 1, {"replicationMin": 1}, {"replicationMin": 1}),
    ("replication_max", 3, {"replicationMax": 3}, {"replicationMax": 3}),
    ("ttl", "7d", {"commonOptions": {"ttl": 604800000}}, {"ttl": 604800000}),
    ("mode", "0640", {"mode": {"ownerBits": "READ_WRITE", "groupBits": "READ", "otherBits": "NONE"}}, {"mode": 0o640}),
]


@pytest.mark.parametrize("key, value, told, seen", CREATED, ids=lambda one: str(one) if isinstance(one, (str, int)) else "")
def test_of_files(key, value, told, seen, lake):
    remote, between, client = lake
    one = client.more(**{key: value})
    good(one.put("f", b"bytes"))
    (call,) = (call for call in between.calls if call.action == "create-file")
    assert told.items() <= call.body.items()
    now = info(remote, "f")
    assert {name: now[name] for name in seen} == seen and now["completed"] and now["length"] == 5
    assert one.content("f") == b"bytes"


def test_what_is_not_configured_is_not_sent(lake):
    _, between, client = lake
    good(client.put("f", b"bytes"))
    good(client("mkdir", "d"))
    client.content("f")
    told = {call.action: call.body for call in between.calls if isinstance(call.body, dict)}
    assert set(told["create-file"]) == {"mode", "writeType"} and set(told["create-directory"]) == {"mode", "writeType"}
    assert told["get-status"] == {} and "open-file" not in told


@pytest.mark.parametrize("action", ["DELETE", "FREE", "DELETE_ALLUXIO"])
def test_ttl_action(action, lake):
    remote, _, client = lake
    good(client.more(ttl="1d", ttl_action=action).put("f", b"bytes"))
    assert info(remote, "f")["ttlAction"] == action


def test_ttl_is_told_in_milliseconds(lake):
    """That Alluxio ends the file then is its own affair: it looks once an hour."""
    remote, between, client = lake
    good(client.more(ttl="1s", ttl_action="DELETE").put("f", b"bytes"))
    assert info(remote, "f")["ttl"] == 1000


def test_replication_durable(lake):
    """Counts until the data is persisted; get-status does not show it."""
    _, between, client = lake
    good(client.more(replication_durable=1).put("f", b"bytes"))
    assert [call.body["replicationDurable"] for call in between.calls if call.action == "create-file"] == [1]


def test_write_type_none_never_completes(lake):
    remote, _, client = lake
    answer = bad(client.more(write_type="NONE").put("f", b"bytes"), E.EIO)
    assert "not completed" in answer["why"]
    assert remote.objects() == {}


def test_recursive(lake):
    remote, between, client = lake
    bad(client.put("a/b/f", b"x"), E.ENOENT)
    bad(client("mkdir", "c/d"), E.ENOENT)
    one = client.more(recursive=True)
    good(one.put("a/b/f", b"x"))
    good(one("mkdir", "c/d"))
    assert remote.objects() == {b"a": None, b"a/b": None, b"a/b/f": b"x", b"c": None, b"c/d": None}
    bad(one("rmdir", "a"), E.ENOTEMPTY)
    good(one("rmdir", "c/d"))
    assert not any(call.body.get("recursive") for call in between.calls if call.action == "delete")


def test_allow_exists(lake):
    _, _, client = lake
    good(client("mkdir", "d"))
    bad(client("mkdir", "d"), E.EEXIST)
    good(client.more(allow_exists=True)("mkdir", "d"))


@pytest.mark.parametrize("kind, cached", [("NO_CACHE", 0), ("CACHE", 100), ("CACHE_PROMOTE", 100)])
def test_read_type(kind, cached, lake):
    remote, between, client = lake
    good(client.more(write_type="THROUGH").put("f", b"bytes"))
    one = client.more(read_type=kind)
    assert one.content("f") == b"bytes"
    assert [call.body for call in between.calls if call.action == "open-file"] == [{"readType": kind}]
    assert between.actions()[-4:-1] == ["open-file", "streams/read", "streams/close"]
    end = time.monotonic() + 10  # the worker caches behind the reader's back
    while info(remote, "f")["inAlluxioPercentage"] != cached and time.monotonic() < end:
        time.sleep(0.1)
    assert info(remote, "f")["inAlluxioPercentage"] == cached


def test_max_ufs_read_concurrency(lake):
    _, between, client = lake
    good(client.put("f", b"some bytes"))
    rc, data, _ = client.more(max_ufs_read_concurrency=3).read("f", off=2, len=5)
    assert (rc, data) == (0, b"me by")
    assert [call.body for call in between.calls if call.action == "open-file"] == [{"maxUfsReadConcurrency": 3}]


@pytest.mark.parametrize("key, field, op", [
    ("location_policy_class", "locationPolicyClass", "create-file"),
    ("cache_location_policy_class", "cacheLocationPolicyClass", "open-file"),
    ("ufs_read_location_policy_class", "ufsReadLocationPolicyClass", "open-file")])
def test_location_policies(key, field, op, lake):
    """Fields of 1.x: sent as they are; 2.9 refuses them, and the record shows its words."""
    _, between, client = lake
    good(client.put("f", b"bytes"))
    one = client.more(**{key: "a.b.C"})
    answer = one.put("g", b"x") if op == "create-file" else one.read("f")[2]
    assert answer["rc"] == -E.EIO and field in answer["why"], answer
    assert {call.body[field] for call in between.calls if call.action == op and field in call.body} == {"a.b.C"}


@pytest.mark.parametrize("kind", ["NEVER", "ONCE", "ALWAYS"])
def test_load_metadata_type(kind, lake):
    """A file that somebody puts into the under store, in a folder that Alluxio has listed before."""
    remote, between, client = lake
    good(client("mkdir", "d"))
    remote.call("POST", "d", "list-status")
    (remote.server.ufs / remote.top.strip("/") / "d" / "f").write_bytes(b"new")
    assert set(client.more(load_metadata_type=kind).names("d")) == ({b"f"} if kind == "ALWAYS" else set())
    assert between.calls[-1].body == {"loadMetadataType": kind} or between.calls[-2].body == {"loadMetadataType": kind}


def test_sync_interval(lake):
    remote, _, client = lake
    good(client.put("f", b"old"))
    (remote.server.ufs / remote.top.strip("/") / "f").write_bytes(b"newer")
    assert client("stat", "f")["size"] == 3
    assert client.more(sync_interval="0s")("stat", "f")["size"] == 5


def test_timeout(lake):
    """All tries are over before the first has an answer. By default each waits longer than that."""
    _, between, client = lake
    over, answered = threading.Event(), []

    def rule(call):
        if not over.wait(25):
            answered.append(call)
        return DROPPED

    one = client.more(timeout="1s")
    between.rule = rule
    bad(one("stat", "f"), E.EIO)
    over.set()
    assert not answered


def config(prelux, backend, **mapping):
    prelux.config({"version": 1, "backends": {"b": {"type": "alluxio-proxy", "url": "http://127.0.0.1:1", **backend}},
                   "mappings": [{"local": "/prelux-x", "remote": "b:/", **mapping}]})
    return prelux.cli("config", "check", check=False)


@pytest.mark.parametrize("kind", ["MUST_CACHE", "TRY_CACHE", "NONE"])
def test_volatile_data_needs_a_word(kind, prelux):
    done = config(prelux, {"write_type": kind}, write="sync")
    assert done.returncode == 1 and "allow_volatile" in done.stderr and kind in done.stderr
    assert config(prelux, {"write_type": kind, "allow_volatile": True}, write="sync").returncode == 0
    assert config(prelux, {"write_type": kind}).returncode == 0


def test_every_key_of_the_python_api_is_here():
    """The names of its option classes (PROTOCOLS 2C.6), and where they are tested or what they are called here."""
    text = (harness.ROOT / "lib/conf/keys.c").read_text()
    for key in ("allow_exists", "mode", "recursive", "write_type", "block_size_bytes", "location_policy_class", "ttl", "ttl_action",
                "replication_min", "replication_max", "replication_durable", "load_metadata_type", "cache_location_policy_class",
                "max_ufs_read_concurrency", "read_type", "ufs_read_location_policy_class", "timeout"):
        assert f'AT_BACKEND("alluxio-proxy"), .name = "{key}"' in text
