"""Backends alone, by backend_tool: the proxy of a real Alluxio, one that misbehaves, and a folder. The rule is that of test_backends_raw.py."""

import json
import os
import time

import pytest

from tests.integration.backends_raw_rig import (  # noqa: F401 (a fixture)
    ALL, CONDITIONAL, EACCES, EBUSY, EIO, ENOENT, ENOTDIR, EOPNOTSUPP, EPROTO, ESTALE, EXACT, NAMES,
    RANGE, TOOL, StandIn, all_equal, fill, tool)

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


# The proxy of a real Alluxio

ALLUXIO_NAMES = [name for name in NAMES if name not in (b"a?b", b"back\\slash", b"\xff\xfe", b"...")]


RAW = f"raw{os.getpid()}"  # the server may be others', too


@pytest.fixture(scope="module")
def lake(alluxio_server):
    root = alluxio_server.ufs / RAW
    if not root.exists():
        fill(root, ALLUXIO_NAMES)
    return alluxio_server


def proxy(tool, lake, **more):
    return tool(type="alluxio-proxy", url=lake.url, root=f"/{RAW}", load_metadata_type="ALWAYS", sync_interval="0s", **more)


def test_alluxio_is_read_byte_for_byte(lake, tool):
    all_equal(proxy(tool, lake), lake.ufs / RAW)


def test_alluxio_listing(lake, tool):
    one = proxy(tool, lake)
    rows = one.names()
    assert set(rows) >= {*ALLUXIO_NAMES, b"sub", b"d e", b"empty", b"big"}
    for name in ALLUXIO_NAMES:
        stat = one("stat", name)
        assert {key: stat[key] for key in rows[name] if key != "name"} == {key: rows[name][key] for key in rows[name] if key != "name"}
        assert stat["mode"] == os.stat(os.path.join(os.fsencode(lake.ufs / RAW), name)).st_mode & 0o7777
    assert one("list", "plain.txt")["rc"] == -ENOTDIR
    assert one("list", "nothing")["rc"] == -ENOENT
    assert one("stat", "nothing")["rc"] == -ENOENT
    assert one("stat", "plain.txt/x")["rc"] == -ENOTDIR
    assert one("stat", "")["type"] == "dir"
    assert one("caps")["caps"] & 0xff == EXACT | CONDITIONAL
    (lake.ufs / RAW / "nobody").mkdir(exist_ok=True)
    assert one.names("nobody") == {}


def test_alluxio_parts_and_threads(lake, tool):
    one = proxy(tool, lake)
    content = (lake.ufs / RAW / "big").read_bytes()
    rc, data, answer = one.read("big", off=12345, len=1_000_000)
    assert rc == 0 and data == content[12345:1_012_345], answer
    assert one("read", "big", out=str(one.folder / "many"), threads=4)["rc"] == 0
    assert all((one.folder / f"many.{number}").read_bytes() == content for number in range(4))


def test_alluxio_names_it_cannot_carry(lake, tool):
    one = proxy(tool, lake)
    for name in ("a?b", "back\\slash", "d?/x"):
        for op in ("stat", "list"):
            answer = one(op, name)
            assert answer["rc"] == -EOPNOTSUPP and "cannot carry" in answer["why"]
        assert one("read", name, out="/dev/null", expect={"size": 1, "version": "1-1-1"})["rc"] == -EOPNOTSUPP


def test_alluxio_changed(lake, tool):
    one = proxy(tool, lake)
    path = lake.ufs / RAW / "changing"
    path.write_bytes(b"old bytes")
    before = one("stat", "changing")
    time.sleep(0.01)  # Alluxio's times are in milliseconds
    path.write_bytes(b"new bytes")
    expect = {"size": before["size"], "version": before["version"]}
    answer = one("read", "changing", out=str(one.folder / "out"), expect=expect)
    assert answer["rc"] == -ESTALE, answer
    assert one.read("changing")[1] == b"new bytes"
    path.unlink()
    assert one("read", "changing", out=str(one.folder / "out"), expect=expect)["rc"] == -ENOENT


def test_alluxio_file_being_written(lake, tool):
    one = tool(type="alluxio-proxy", url=lake.url)
    status, _, stream = lake.request("POST", "/half-written", "create-file")
    assert status == 200, stream
    try:
        answer = one("stat", "half-written")
        assert answer["rc"] == -EBUSY and "not completed" in answer["why"]
        assert "size" not in one.names()[b"half-written"]
        assert one("read", "half-written", out="/dev/null", expect={"size": 0, "version": ""})["rc"] in (0, -EBUSY)
    finally:
        lake.request("POST", "/half-written", "delete", {"alluxioOnly": False})


# What stands in for a proxy when it must misbehave

def info(**more):
    return json.dumps({"name": "f", "path": "/f", "folder": False, "length": 9, "completed": True, "fileId": 7, "mode": 420,
                       "lastModificationTimeMs": 1500000000000, **more}).encode()


def test_a_proxy_without_rest(tool):
    with StandIn(lambda seen, earlier: (200, b"", {})) as server:
        one = tool(type="alluxio-proxy", url=server.url)
        for answer in (one("stat", "f"), one("list", ""), one.read("f", expect={"size": 9, "version": "7-9-1500000000000"})[2]):
            assert answer["rc"] == -EIO and "REST API is disabled" in answer["why"], answer
            assert "alluxio.proxy.s3.v2.version.enabled" in answer["advice"]


STATUS = {"CANCELLED": (EIO, True), "UNKNOWN": (EIO, False), "INVALID_ARGUMENT": (EOPNOTSUPP, False),
          "DEADLINE_EXCEEDED": (EIO, True), "NOT_FOUND": (ENOENT, False), "ALREADY_EXISTS": (17, False),
          "PERMISSION_DENIED": (EACCES, False), "RESOURCE_EXHAUSTED": (EIO, True), "FAILED_PRECONDITION": (EIO, False),
          "ABORTED": (EIO, True), "OUT_OF_RANGE": (ESTALE, False), "UNIMPLEMENTED": (EOPNOTSUPP, False), "INTERNAL": (EIO, False),
          "UNAVAILABLE": (EIO, True), "DATA_LOSS": (EIO, False), "UNAUTHENTICATED": (EACCES, False)}


@pytest.mark.parametrize("code", STATUS)
def test_every_status_of_the_proxy(code, tool):
    errno, again = STATUS[code]
    body = json.dumps({"statusCode": code, "message": "what\nhappened"}).encode()
    with StandIn(lambda seen, earlier: (500, body, {})) as server:
        answer = tool(type="alluxio-proxy", url=server.url)("stat", "f")
        assert answer["rc"] == -errno and code in answer["why"] and "\n" not in answer["why"]
        assert len(server.requests()) == (4 if again else 1)


@pytest.mark.parametrize("status, body, errno", [
    (500, b"HTTP 404 Not Found", EIO), (500, b"", EIO), (400, b"Unrecognized field", EIO), (403, b"no", EACCES),
    (500, b'{"statusCode": "WEIRD"}', EIO), (500, b'{"statusCode": 5}', EIO), (500, b"{" * 10000, EIO), (200, b"null", EPROTO),
    (200, b"[]", EPROTO), (200, b"{}", EPROTO), (200, info(length=-1), EPROTO), (200, info(length="9"), EPROTO),
    (200, info(length=1e30), EPROTO), (200, info(folder=None), EPROTO), (200, info(name="g"), EPROTO),
    (200, info(lastModificationTimeMs=None), EPROTO), (200, info()[:-1], EPROTO), (200, info() + b"x", EPROTO),
    (200, b'{"a":' * 50 + b"1" + b"}" * 50, EPROTO), (302, b"", EIO)])
def test_odd_answers_of_a_proxy(status, body, errno, tool):
    with StandIn(lambda seen, earlier: (status, body, {})) as server:
        answer = tool(type="alluxio-proxy", url=server.url)("stat", "f")
        assert answer["rc"] == -errno and answer["why"], answer


@pytest.mark.parametrize("data, rc", [
    (b"nine byte", 0), (b"nine byt", -EIO), (b"nine bytes", -EPROTO), (b"", -EIO)])
def test_a_download_is_counted(data, rc, tool):
    def script(seen, earlier):
        return (200, data, {}) if "download-file" in seen.path else (200, info(), {})

    with StandIn(script) as server:
        one = tool(type="alluxio-proxy", url=server.url)
        assert one.read("f")[0] == rc
        if rc == 0:
            assert one.read("f", off=2, len=3)[1] == data[2:5]


@pytest.mark.parametrize("change", [{"length": 10}, {"fileId": 8}, {"lastModificationTimeMs": 1500000000001}, {"completed": False}])
def test_a_download_that_changes_under_it(change, tool):
    def script(seen, earlier):
        if "download-file" in seen.path:
            return 200, b"nine byte", {}
        return 200, info(**(change if earlier else {})), {}

    with StandIn(script) as server:
        answer = tool(type="alluxio-proxy", url=server.url).read("f")[2]
        assert answer["rc"] == -ESTALE, answer


def test_a_listing_of_3x_that_is_not_there(tool):
    """313 answers 200 [] for a folder that does not exist."""
    def script(seen, earlier):
        if "list-status" in seen.path:
            return 200, b"[]", {}
        return 500, b'{"statusCode":"NOT_FOUND","message":null}', {}

    with StandIn(script) as server:
        assert tool(type="alluxio-proxy", url=server.url)("list", "d")["rc"] == -ENOENT


# A folder

def test_file_backend_through_the_tool(tmp_path, tool):
    root = fill(tmp_path / "root")
    one = tool(type="file", root=str(root))
    all_equal(one, root)
    assert set(one.names()) == {*NAMES, b"sub", b"d e", b"empty", b"big"}
    assert one("caps")["caps"] & 0xff == RANGE | EXACT | CONDITIONAL | ALL  # the others: test_contract.py
