"""CRCs of whole objects (x-amz-checksum-*): asked for, believed where they are of the whole, and compared instead of the ETag."""

import base64
import hashlib
import os
import subprocess
import time
import zlib

import pytest

from tests.servers.crc32c import crc32c
from tests.servers.s3standin import S3Standin
from tests.servers.versitygw import Versitygw

LOCAL = "/prelux-lake"
LARGE = os.urandom(1 << 20) * 20 + b"end"  # in parts; its answers tell nothing of the whole
SMALL = b"a small object" * 1000
NVME = 0x9a6c9329ac4bc9b5


def nvme_table():
    rows = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (NVME if byte & 1 else 0)
        rows.append(byte)
    return rows


def crc64nvme(data):
    table, state = nvme_table(), (1 << 64) - 1
    for byte in data:
        state = state >> 8 ^ table[(state ^ byte) & 0xff]
    return state ^ (1 << 64) - 1


def text(value, size):
    return base64.b64encode(value.to_bytes(size, "big")).decode()


SUMS = {"crc32": lambda data: text(zlib.crc32(data), 4), "crc32c": lambda data: text(crc32c(data), 4),
        "crc64nvme": lambda data: text(crc64nvme(data), 8)}
NO_MD5 = '"' + "0" * 31 + 'g"'
OTHER_MD5 = '"' + hashlib.md5(b"other bytes").hexdigest() + '"'


class Summing(S3Standin):
    """Tells an object's checksums to whom asks for them, and refuses to be asked with the lie "no-sums"; a range's answer tells those of the whole, too,
    which is a lie of its own."""

    def thing(self, request, key):
        asked = request.fields.get("x-amz-checksum-mode") == "ENABLED"
        if asked and "no-sums" in self.lie:
            return self.refusal(501, "NotImplemented")
        status, fields, body = super().thing(request, key)
        return status, {name: value for name, value in fields.items() if asked or not name.startswith("x-amz-checksum")}, body


@pytest.fixture
def s3():
    with Summing(keys={"AK": ("secret/+", None)}) as server:
        yield server


@pytest.fixture
def lake(prelux, s3):
    def make(name="prelux.yaml", **options):
        backend = {"type": "s3", "endpoint": s3.url, "bucket": "data", "access_key": "AK", "secret_key": "secret/+", **options}
        prelux.config({"version": 1, "backends": {"s": backend}, "mappings": [{"local": LOCAL, "remote": "s:/"}]}, name)
        return prelux
    return make


def fields(sums, kind="FULL_OBJECT"):
    return {**{f"x-amz-checksum-{name}": value for name, value in sums.items()}, **({"x-amz-checksum-type": kind} if kind else {})}


def reads(prelux, name, body):
    """True: the right bytes; False: an error."""
    one = prelux.run(["md5sum", f"{LOCAL}/{name}"], check=False)
    assert one.returncode == 0 or not one.stdout, one.stdout
    if one.returncode == 0:
        assert one.stdout.split()[0] == hashlib.md5(body).hexdigest()
    return one.returncode == 0


def asked_for_sums(s3, method):
    return len([one for one in s3.requests() if one.method == method and "x-amz-checksum-mode" in one.fields])


def test_small_ones_tell_it_with_their_bytes(s3, lake):
    for name, make in SUMS.items():
        s3.put(f"good-{name}", SMALL, etag=OTHER_MD5, fields=fields({name: make(SMALL)}))
        s3.put(f"bad-{name}", SMALL, etag=NO_MD5, fields=fields({name: make(b"other")}))
    prelux = lake()
    for name in SUMS:
        assert reads(prelux, f"good-{name}", SMALL), "the CRC counts, not an ETag that looks like an MD5"
        assert not reads(prelux, f"bad-{name}", SMALL)
    assert asked_for_sums(s3, "HEAD") == 0 and asked_for_sums(s3, "GET") >= 6


def test_large_ones_are_asked_once(s3, lake):
    right, wrong = SUMS["crc32c"](LARGE), SUMS["crc32c"](b"other")
    s3.put("good", LARGE, etag=OTHER_MD5, fields=fields({"crc32c": right}))
    s3.put("bad", LARGE, etag=NO_MD5, fields=fields({"crc32c": wrong}))
    s3.put("both", LARGE, fields=fields({"crc32c": wrong}))
    prelux = lake()
    assert reads(prelux, "good", LARGE)
    assert asked_for_sums(s3, "HEAD") == 1
    assert not reads(prelux, "bad", LARGE)
    assert reads(prelux, "both", LARGE), "where CRC and MD5 do not agree, either is good"
    assert "its MD5 is that of the bytes" in prelux.log()


def test_it_is_asked_for_with_the_keys_of_who_reads(s3, lake):
    """Not with those of the configuration that came last: a job with wrong keys fails alone."""
    s3.put("large", LARGE, etag=NO_MD5, fields=fields({"crc32c": SUMS["crc32c"](LARGE)}))
    s3.put("small", SMALL)
    prelux = lake()
    reads = f"import hashlib; open('{LOCAL}/small').read(); print(flush=True); input(); print(hashlib.md5(open('{LOCAL}/large', 'rb').read()).hexdigest())"
    one = prelux.popen(["python3", "-c", reads], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert one.stdout.readline() == "\n"
    lake("other.yaml", access_key="WRONG")
    assert prelux.run(["cat", f"{LOCAL}/other"], check=False).returncode != 0
    assert one.communicate("\n", timeout=60)[0].strip() == hashlib.md5(LARGE).hexdigest()
    asked, = [seen for seen in s3.requests() if seen.method == "HEAD" and "x-amz-checksum-mode" in seen.fields]
    assert "Credential=AK/" in asked.fields["authorization"]


@pytest.mark.parametrize("sums, kind", [({}, None), ({"crc32c": "AAAAAA==-3"}, "COMPOSITE"), ({"crc32c": "AAAAAA=="}, "COMPOSITE"), ({"crc32": "%%%"}, None),
                                        ({"crc32c": "AAAAAAAA"}, "FULL_OBJECT"), ({"sha256": "A" * 43 + "="}, "FULL_OBJECT")])
def test_what_is_no_crc_of_the_whole_counts_nothing(s3, lake, sums, kind):
    s3.put("f", LARGE, fields=fields(sums, kind))
    s3.put("small", SMALL, fields=fields(sums, kind))
    s3.put("bad", LARGE, etag=OTHER_MD5, fields=fields(sums, kind))
    prelux = lake()
    assert reads(prelux, "f", LARGE) and reads(prelux, "small", SMALL) and not reads(prelux, "bad", LARGE)


def test_an_upload_in_parts_that_does_not_say_which_kind(s3, lake):
    s3.put("f", SMALL, etag='"' + "0" * 32 + '-2"', fields=fields({"crc32c": SUMS["crc32c"](b"of the parts")}, None))
    assert reads(lake(), "f", SMALL)


def test_servers_that_do_not_take_the_question(s3, lake):
    s3.lie.add("no-sums")
    for n in range(3):
        s3.put(f"f{n}", SMALL)
    prelux = lake()
    assert all(reads(prelux, f"f{n}", SMALL) for n in range(3))
    assert asked_for_sums(s3, "GET") == 1
    s3.put("large", LARGE)
    s3.put("bad", LARGE, etag=OTHER_MD5)
    assert reads(prelux, "large", LARGE) and not reads(prelux, "bad", LARGE)


def test_switched_off(s3, lake):
    s3.put("f", SMALL, fields=fields({"crc32c": SUMS["crc32c"](b"other")}))
    s3.put("large", LARGE, fields=fields({"crc32c": SUMS["crc32c"](b"other")}))
    prelux = lake(checksums="off")
    assert reads(prelux, "f", SMALL) and reads(prelux, "large", LARGE)
    assert asked_for_sums(s3, "GET") + asked_for_sums(s3, "HEAD") == 0


def test_verify_asks_for_it(s3, lake):
    s3.put("f", SMALL, etag=NO_MD5, fields=fields({"crc32": SUMS["crc32"](SMALL)}))
    prelux = lake()
    assert reads(prelux, "f", SMALL)
    assert prelux.cli("verify", f"{LOCAL}/f", check=False).returncode == 0
    s3.objects[b"f"].fields = fields({"crc32": SUMS["crc32"](b"other")})
    prelux.cli("daemon", "stop")  # it remembers what was told
    assert prelux.cli("verify", f"{LOCAL}/f", check=False).returncode == 3


@pytest.mark.skipif(bool(Versitygw.missing()), reason=str(Versitygw.missing()))
def test_what_prelux_sends_has_one(prelux, tmp_path):
    """A real server: in one request and in parts, the object then has a CRC of the whole, and what is read is checked by it."""
    with Versitygw(folder=tmp_path / "versitygw") as server:
        server.bucket("data")
        backend = {"type": "s3", "endpoint": server.url, "bucket": "data", "access_key": server.access_key, "secret_key": server.secret_key,
                   "multipart_threshold": "64MiB"}
        prelux.config({"version": 1, "backends": {"s": backend}, "mappings": [{"local": LOCAL, "remote": "s:/", "write": "sync"}]})
        prelux.run(f"head -c 1000000 /dev/urandom > {LOCAL}/one; head -c 68000000 /dev/zero | tr '\\0' x > {LOCAL}/parts")
        sums = {}
        for name in ("one", "parts"):
            sums[name] = head(server, name)
            assert sums[name]["x-amz-checksum-type"] == "FULL_OBJECT"
        assert sums["parts"]["x-amz-checksum-crc32c"] == SUMS["crc32c"](b"x" * 68000000) and "-" in sums["parts"]["etag"]
        prelux.cli("evict", f"{LOCAL}/parts")
        assert prelux.run(f"tr -d x < {LOCAL}/parts | wc -c").stdout.split() == ["0"]


def head(server, name):
    from tests.s3client import S3Client
    client = S3Client(server.url, server.access_key, server.secret_key)
    try:
        return client.request("HEAD", f"/data/{name}", headers={"x-amz-checksum-mode": "ENABLED"})[1]
    finally:
        client.connection.close()
