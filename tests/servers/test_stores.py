"""versitygw, Azurite and rclone do what their files say."""

import base64
import urllib.parse

import pytest

from tests.s3client import S3Client, encode

from .azurite import Azurite
from .rclone_s3 import RcloneS3
from .versitygw import Versitygw

def need(server):
    if server.missing():
        pytest.skip(server.missing())


def s3(server, method, key, query=None, body=b"", secret=None, access=None, **fields):
    """One request: (status, fields in lower case, body)."""
    client = S3Client(server.url, access or server.access_key, secret or server.secret_key)
    try:
        return client.request(method, encode(key, b"/"), query, body, {name.replace("_", "-"): value for name, value in fields.items()})
    finally:
        client.connection.close()


# versitygw

@pytest.fixture(scope="module")
def gateway():
    need(Versitygw)
    with Versitygw() as server:
        server.bucket("data")
        yield server


def test_versitygw_serves_a_folder_both_ways(gateway):
    name = "folder/na me+%41 é"
    assert s3(gateway, "PUT", f"/data/{name}", body=b"bytes")[0] == 200
    assert (gateway.root / "data" / name).read_bytes() == b"bytes"
    (gateway.root / "data" / "behind").write_bytes(b"0123456789")
    status, head, body = s3(gateway, "GET", "/data/behind", Range="bytes=2-4")
    assert (status, body, head["content-range"]) == (206, b"234", "bytes 2-4/10")
    listing = s3(gateway, "GET", "/data", {"list-type": "2", "delimiter": "/"})[2]
    assert b"<Key>behind</Key>" in listing and b"<Prefix>folder/</Prefix>" in listing


def test_versitygw_checks_signatures_and_conditions(gateway):
    gateway.put("data", "checked", b"x")
    assert s3(gateway, "GET", "/data/checked", secret="other")[0] == 403
    assert s3(gateway, "GET", "/data/checked", access="nobody")[0] == 404
    etag = s3(gateway, "HEAD", "/data/checked")[1]["etag"]
    assert s3(gateway, "GET", "/data/checked", If_Match=etag)[0] == 200
    assert s3(gateway, "GET", "/data/checked", If_Match='"other"')[0] == 412
    assert s3(gateway, "GET", "/data/checked", If_None_Match=etag)[0] == 304
    assert s3(gateway, "GET", "/data/checked", Range="bytes=1-")[0] == 416


def test_versitygw_has_no_etag_for_what_came_from_behind(gateway):
    (gateway.root / "data" / "no-etag").write_bytes(b"x")
    status, head, _ = s3(gateway, "HEAD", "/data/no-etag")
    assert status == 200 and "etag" not in head


# Azurite

@pytest.fixture(scope="module")
def azurite():
    need(Azurite)
    with Azurite() as server:
        server.make_container("data")
        yield server


def test_azurite_keeps_blobs(azurite):
    name = "folder/na me+%41 é"
    etag = azurite.put_blob("data", name, b"0123456789")
    path = "/data/" + urllib.parse.quote(name)
    status, head, body = azurite.request("GET", path, fields={"x-ms-range": "bytes=2-4"})
    assert (status, body, head["ETag"]) == (206, b"234", etag)
    assert azurite.request("GET", path, fields={"If-Match": '"0x0"'})[0] == 412
    assert azurite.request("GET", path, fields={"If-None-Match": etag})[0] == 304
    listing = azurite.request("GET", "/data", {"restype": "container", "comp": "list", "delimiter": "/"})[2]
    assert b"<Name>folder/</Name>" in listing


def test_azurite_checks_the_key(azurite):
    right = azurite.key
    try:
        azurite.key = base64.b64encode(b"wrong" * 10).decode()
        assert azurite.request("GET", "/data", {"restype": "container", "comp": "list"})[0] == 403
    finally:
        azurite.key = right


# rclone

@pytest.fixture(scope="module")
def rclone():
    need(RcloneS3)
    with RcloneS3() as server:
        server.bucket("data")
        yield server


def test_rclone_is_hostile(rclone):
    (rclone.root / "data" / "file").write_bytes(b"0123456789")
    status, head, body = s3(rclone, "GET", "/data/file", Range="bytes=2-4")
    assert (status, body, head["content-range"]) == (200, b"234", "bytes 2-4/10")
    assert s3(rclone, "GET", "/data/file", If_Match='"other"')[0] == 200
    assert s3(rclone, "GET", "/data/file", secret="other")[0] == 403
    assert s3(rclone, "PUT", "/data/new", body=b"new")[0] == 200 and (rclone.root / "data" / "new").read_bytes() == b"new"
