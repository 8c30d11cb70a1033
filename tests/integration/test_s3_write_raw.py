"""Backend s3, writing, against a stand-in that keeps conditions or not and fails as told (tests/servers/s3standin_write.py): what the
contract suite cannot ask of real servers.  The rule for every failure: 0 only when it is done, an errno only when nothing was
changed, and else "unknown".
"""

import base64
import contextlib
import errno as E
import hashlib
import json
import os
import select
import socket
import ssl
import subprocess
import threading
import time

import pytest

from tests.integration import contract_remotes as r
from tests.integration.contract_rig import UNKNOWN, Client, bad, good
from tests.integration.backends_raw_rig import TOOL
from tests.integration.test_s3_raw import KEYS, S3Tool, remote
from tests.s3client import S3Client
from tests.servers.s3standin import KeysStandin
from tests.servers.s3standin_write import KEEPS, S3Changing, crc32c_text
from tests.servers.versitygw import Versitygw

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]

PART = 5 << 20


class WritingTool(S3Tool):
    """With the contract suite's words."""

    sent = 0
    source, put, copy, rename, version, content, upload = (Client.source, Client.put, Client.copy, Client.rename, Client.version,
                                                           Client.content, Client.upload)


@pytest.fixture
def s3():
    with S3Changing(keys={"AK": ("secret/+", None)}) as server:
        yield server


@pytest.fixture
def tool(tmp_path):
    made = []

    def make(server, env=None, **conf):
        keys = {} if env else {"access_key": "AK", "secret_key": "secret/+"}
        conf = {"endpoint": server.url, "bucket": "data", **keys, **conf}
        made.append(WritingTool(tmp_path / f"tool{len(made)}", env, **{name: value for name, value in conf.items() if value is not None}))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def able(s3, tool):
    """A tool that has tried the server already."""
    one = tool(s3)
    assert good(one("able"))["caps"] == r.S3
    s3.done.clear()
    return one


def bodies(s3):
    return {key: thing.body for key, thing in s3.objects.items()}


# What a server is found to do

def test_a_good_server_is_tried_once_and_left_as_it_was(s3, tool):
    s3.put("there", b"x")
    one = tool(s3, prefix="pre fix")
    for _ in range(3):
        assert good(one("able"))["caps"] == r.S3
    changes = [seen for seen in s3.requests() if seen.method != "GET"]
    assert len(changes) < 26 and all(seen.path.startswith("/data/pre%20fix/.prelux~probe-") for seen in changes)
    assert bodies(s3) == {b"there": b"x"} and not s3.uploads


COST = {"if-none-match": r.PUT_ABSENT | r.RENAME_NOREPLACE, "if-match": r.PUT_VERSION, "complete-if-none-match": r.PUT_ABSENT | r.PUT_VERSION |
        r.RENAME_NOREPLACE, "complete-if-match": r.PUT_VERSION, "delete-if-match": r.REMOVE_VERSION, "copy-source-if-match": r.COPY,
        "part-copy": r.COPY | r.RENAME_NOREPLACE, "part-again": r.MULTIPART | r.PUT_ABSENT | r.PUT_VERSION | r.COPY | r.RENAME_NOREPLACE,
        "markers": r.MKDIR_MARKER, "multipart": r.MULTIPART | r.COPY | r.RENAME_NOREPLACE, "payload-sha": 0, "payload-none": 0,
        "part-crc": 0, "complete-crc": 0, "put-crc": 0}


@pytest.mark.parametrize("ignored", sorted(KEEPS))
def test_what_a_server_ignores_is_not_promised(s3, tool, ignored):
    s3.keeps.discard(ignored)
    one = tool(s3)
    assert good(one("able"))["caps"] == r.S3 & ~COST[ignored]
    assert not s3.objects and not s3.uploads, "something of the trial is left"


def test_a_server_that_is_known_to_look_before_it_locks(s3, tool, monkeypatch):
    """A trial cannot see it: versitygw removes what another has just put."""
    thing = s3.thing
    monkeypatch.setattr(s3, "thing", lambda *args: (lambda status, fields, body: (status, {**fields, "Server": "VERSITYGW"}, body))(*thing(*args)))
    assert good(tool(s3)("able"))["caps"] == r.S3 & ~r.REMOVE_VERSION


def test_a_server_that_keeps_nothing(s3, tool):
    s3.keeps.clear()
    one = tool(s3)
    assert good(one("able"))["caps"] == r.WRITE | r.RENAME_FILE and not s3.objects
    good(one.put("f", b"x"))
    for call in (lambda: one.put("f", b"y", absent=True), lambda: one.put("f", b"y", if_version=one.version("f")), lambda: one("mkdir", "d"),
                 lambda: one("remove", "f", if_version=one.version("f")), lambda: one("begin", "g", part_size=PART), lambda: one.copy("f", "g"),
                 lambda: one.rename("f", "g", flags=r.NOREPLACE)):
        bad(call(), E.EOPNOTSUPP)
    assert bodies(s3) == {b"f": b"x"}
    good(one.rename("f", "g"))
    assert bodies(s3) == {b"g": b"x"}


def test_whoever_may_not_delete_does_not_begin(s3, tool):
    s3.fail("DELETE", status=403, code="AccessDenied", times=None)
    one = tool(s3)
    assert good(one("able"))["caps"] == r.WRITE | r.MULTIPART | r.RENAME_FILE
    assert s3.asked("PUT") == s3.asked("POST") == 0
    good(one.put("f", b"x"))
    answer = bad(one("remove", "f"), E.EACCES)
    assert "s3:DeleteObject" in answer["advice"]


def test_anonymous_is_read_only(s3, tool):
    s3.keys = {}
    one = tool(s3, access_key=None, secret_key=None, anonymous=True)
    assert good(one("able"))["caps"] == 0
    bad(one.put("f", b"x"), E.EROFS)
    assert s3.requests() == []


@pytest.mark.parametrize("how, status, code", [("answer", 403, "AccessDenied"), ("answer", 501, "NotImplemented"), ("answer", 400, "InvalidRequest"),
                                               pytest.param("reset", 0, "", marks=pytest.mark.waits)])
def test_every_request_of_the_trial_refused(s3, tool, how, status, code):
    """Never a promise that was not seen to be kept, and nothing left behind unless the removal itself is what fails."""
    true = r.S3
    for number in range(30):
        s3.failures.clear()
        times = 1 if how == "answer" else 6
        s3.fail(status=status, code=code, how=how, skip=number, times=times)
        one = tool(s3)
        answer = one("able")
        assert answer["rc"] or answer["caps"] & ~true == 0, answer
        if s3.failures[0].times == times:
            assert answer["caps"] == true
            break
        removing = s3.requests()[-1].method == "DELETE"
        assert not s3.objects or removing or answer["rc"], (number, s3.objects)
        s3.objects.clear()
        s3.uploads.clear()
    else:
        raise AssertionError("no end")


def test_a_trial_that_was_killed(s3, tool):
    """What is left is not seen, and goes by clean."""
    s3.fail("POST", how="stall", times=None)
    victim = tool(s3)
    victim.process.stdin.write(b'{"op": "able"}\n')
    victim.process.stdin.flush()
    while not s3.asked("POST"):
        time.sleep(0.05)
    victim.process.kill()
    victim.process.wait()
    assert len(s3.objects) == 1
    name = next(iter(s3.objects))
    s3.failures.clear()
    one = tool(s3)
    assert one.names() == {} and one("stat", name)["rc"] == -E.ENOENT
    bad(one.put(name, b"x"), E.EOPNOTSUPP)
    assert good(one("clean", "", idle_s=3600))["removed"] == 0 and name in s3.objects
    assert good(one("clean", "", idle_s=0))["removed"] == 1 and not s3.objects


# What is sent

@pytest.mark.parametrize("size", [0, 5, 300_000])
@pytest.mark.parametrize("sign, without, name", [("always", set(), "content-md5"), ("auto", set(), "x-amz-checksum-crc32c"), ("auto", {"put-crc"}, "content-md5"),
                                                 ("never", set(), "x-amz-checksum-crc32c"), ("never", {"put-crc"}, "content-md5")])
def test_sums_are_sent(s3, tool, size, sign, without, name):
    """The CRC-32C alone to a server that has refused a wrong one, where nobody on the way could change both."""
    data = os.urandom(size)
    s3.keeps -= without
    able = tool(s3, sign_payload=sign)
    answer = good(able.put("f", data))
    seen = [one for one in s3.requests() if one.method == "PUT"][-1]
    right = {"content-md5": base64.b64encode(hashlib.md5(data).digest()).decode(), "x-amz-checksum-crc32c": crc32c_text(data)}
    assert {one: seen.fields.get(one) for one in right} == {one: value if one == name else None for one, value in right.items()}
    assert seen.fields["x-amz-content-sha256"] == (hashlib.sha256(data).hexdigest() if sign == "always" else "UNSIGNED-PAYLOAD")
    assert name in seen.fields["authorization"]
    assert answer["md5"] == hashlib.md5(data).hexdigest() and answer["version"] == able.version("f") and bodies(s3) == {b"f": data}
    assert abs(int(answer["mtime_ns"]) - int(able("stat", "f")["mtime_ns"])) <= 2 * 10**9


def test_what_arrives_otherwise_is_sent_again(s3, able):
    s3.fail("PUT", status=400, code="BadDigest", times=2)
    good(able.put("f", b"x"))
    s3.fail("PUT", status=400, code="XAmzContentSHA256Mismatch", times=None)
    bad(able.put("f", b"y"), E.EIO)
    assert bodies(s3) == {b"f": b"x"}


def test_another_sum_in_the_answer(s3, tool):
    s3.keeps.discard("put-crc")  # else the server has compared
    able = tool(s3)
    s3.etags["PUT", ""] = '"' + hashlib.md5(b"other").hexdigest() + '"'
    bad(able.put("f", b"x"), -UNKNOWN)
    good(tool(s3, etag_md5="off").put("f", b"x"))


def part(one, token, n, data):
    return one("part", "f", token=token, n=n, len=len(data), **{"from": one.source(data)})


def sent_parts(s3):
    return [one for one in s3.requests() if one.method == "PUT" and "partNumber" in one.target]


def test_a_part_with_another_sum_in_the_answer(s3, tool):
    s3.keeps -= {"payload-sha", "part-crc"}  # all there is to go by
    able = tool(s3)
    token = good(able("begin", "f", part_size=PART))["token"]
    s3.etags["PUT", "partNumber"] = '"' + hashlib.md5(b"other").hexdigest() + '"'
    bad(part(able, token, 0, b"x"), E.EIO)


MD5, SHA, CRC = "content-md5", "x-amz-content-sha256", "x-amz-checksum-crc32c"


@pytest.mark.parametrize("sign, without, sums", [
    ("auto", set(), {CRC}), ("never", set(), {CRC}), ("always", set(), {SHA}), ("always", {"payload-sha"}, {MD5, SHA}),
    ("auto", {"part-crc"}, {SHA}), ("auto", {"complete-crc"}, {SHA}), ("auto", {"payload-none"}, {SHA}), ("never", {"part-crc"}, {MD5}),
    ("auto", {"part-crc", "payload-sha"}, {MD5, SHA})])
def test_sums_of_parts(s3, tool, sign, without, sums):
    """What a server has refused a wrong one of is enough for it; the SHA-256 is signed unless all is within this machine, or it is told not to."""
    data = os.urandom(300_000)
    s3.keeps -= without
    able = tool(s3, sign_payload=sign)
    token = good(able("begin", "f", part_size=PART))["token"]
    tag = good(part(able, token, 0, data))["tag"]
    seen = sent_parts(s3)[-1].fields
    right = {MD5: base64.b64encode(hashlib.md5(data).digest()).decode(), SHA: hashlib.sha256(data).hexdigest(), CRC: crc32c_text(data)}
    assert {name: seen.get(name) for name in right} == {
        name: value if name in sums else "UNSIGNED-PAYLOAD" if name == SHA else None for name, value in right.items()}
    good(able("complete", "f", token=token, tags=[tag], size=len(data)))
    assert bodies(s3) == {b"f": data}


@pytest.mark.parametrize("host, proxy, unsigned", [("127.0.0.1", False, True), ("localhost", False, True), ("127.0.0.1", True, False),
                                                   ("s3.localhost", False, False)])
def test_what_is_within_this_machine(s3, tool, host, proxy, unsigned):
    """Another name may be another machine (libcurl takes this one for the same), and a proxy may be one: there the SHA-256 is signed."""
    env = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret/+", **({"http_proxy": s3.url, "no_proxy": host} if proxy else {})}
    able = tool(s3, env, endpoint=f"http://{host}:{s3.port}", path_style=True)
    token = good(able("begin", "f", part_size=PART))["token"]
    good(part(able, token, 0, b"x"))
    assert (sent_parts(s3)[-1].fields[SHA] == "UNSIGNED-PAYLOAD") == unsigned


class TlsWay:
    """https://s3.localhost:PORT, to a server that speaks http."""

    def __init__(self, folder, port):
        self.ca_file, key, self.upstream = folder / "cert.pem", folder / "key.pem", port
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
                        "/CN=s3.localhost", "-addext", "subjectAltName=DNS:s3.localhost", "-keyout", key, "-out", self.ca_file],
                       check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.ca_file, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://s3.localhost:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.forward, args=(self.listener.accept()[0],), daemon=True).start()

    def forward(self, one):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.upstream)) as plain, \
                self.context.wrap_socket(one, server_side=True) as tls:
            while True:
                ready = [tls] if tls.pending() else select.select([tls, plain], [], [])[0]
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    (plain if end is tls else tls).sendall(data)


@pytest.mark.parametrize("verified, sums", [(True, {CRC}), (False, {SHA})])
def test_sums_over_tls(s3, tool, tmp_path, verified, sums):
    """Without a signature of the bytes only where the server's certificate is verified."""
    way = TlsWay(tmp_path, s3.port)
    try:
        one = tool(s3, endpoint=way.url, path_style=True, tls={"ca_file": str(way.ca_file)} if verified else {"insecure": True})
        token = good(one("begin", "f", part_size=PART))["token"]
        good(part(one, token, 0, b"x"))
        seen = sent_parts(s3)[-1].fields
        assert {name for name in (MD5, SHA, CRC) if seen.get(name, "UNSIGNED-PAYLOAD") != "UNSIGNED-PAYLOAD"} == sums
    finally:
        way.listener.close()


def test_tokens_and_tags_with_sums(s3, tool, able):
    """Over restarts, whatever has been found out of the server meanwhile, an upload goes on as it was begun; and nothing of it is taken for another."""
    token, tags = able.upload("f", DATA, PART)
    assert token[16] == "+" and all("+" in tag for tag in tags)
    asked = s3.asked("POST", "uploadId")
    for wrong in (token[:16] + "." + token[17:], "0" + token[1:]):
        bad(able("complete", "f", token=wrong, tags=tags, size=len(DATA)), E.ENXIO)
    for wrong in ([tag[:tag.index("+")] + tag[tag.index("+") + 7:] for tag in tags], tags[::-1], [tags[0].replace("+", "-", 1), *tags[1:]]):
        bad(able("complete", "f", token=token, tags=wrong, size=len(DATA)), E.EINVAL)
    assert s3.asked("POST", "uploadId") == asked, "the server was asked"
    later = tool(s3, sign_payload="always")
    again = good(part(later, token, 0, DATA[:PART]))["tag"]
    assert sent_parts(s3)[-1].fields[SHA] == hashlib.sha256(DATA[:PART]).hexdigest() and again == tags[0]
    good(later("complete", "f", token=token, tags=tags, size=len(DATA)))
    assert bodies(s3) == {b"f": DATA}
    plain, tags = later.upload("g", DATA, PART)
    assert plain[16] == "." and not any("+" in tag for tag in tags)
    good(able("complete", "g", token=plain, tags=tags, size=len(DATA)))
    assert bodies(s3) == {b"f": DATA, b"g": DATA}


@pytest.mark.skipif(bool(Versitygw.missing()), reason=str(Versitygw.missing()))
def test_versitygw_gets_sums(tool, tmp_path):
    """A real server, which has shown in the trial that it checks them, and keeps one of the whole."""
    with Versitygw(folder=tmp_path / "versitygw") as server:
        server.bucket("data")
        one = tool(server, access_key=server.access_key, secret_key=server.secret_key)
        token, tags = one.upload("f", DATA, PART)
        assert token[16] == "+" and token in [row["token"] for row in good(one("uploads", ""))["uploads"]]
        good(one("complete", "f", token=token, tags=tags, size=len(DATA)))
        client = S3Client(server.url, server.access_key, server.secret_key)
        _, fields, _ = client.request("HEAD", "/data/f", headers={"x-amz-checksum-mode": "ENABLED"})
        client.connection.close()
        assert fields["x-amz-checksum-crc32c"] == crc32c_text(DATA)


def test_a_part_with_another_crc_in_the_answer(s3, able, monkeypatch):
    token = good(able("begin", "f", part_size=PART))["token"]
    take = s3.part

    def part_of_others(request, key):
        status, fields, body = take(request, key)
        return status, {**fields, CRC: crc32c_text(b"other")}, body

    monkeypatch.setattr(s3, "part", part_of_others)
    bad(part(able, token, 0, b"x"), E.EIO)
    monkeypatch.undo()
    good(part(able, token, 0, b"x"))


def test_a_part_that_arrives_otherwise_is_sent_again(s3, able):
    token = good(able("begin", "f", part_size=PART))["token"]
    s3.fail("PUT", status=400, code="XAmzContentSHA256Mismatch", query="partNumber", times=2)
    good(part(able, token, 0, b"x"))
    s3.fail("PUT", status=400, code="XAmzContentSHA256Mismatch", query="partNumber", times=None)
    bad(part(able, token, 1, b"y"), E.EIO)


def test_a_bucket_that_wants_the_md5_of_parts(s3, tool):
    """As one with object lock does: told once, it gets it with every part (a CRC-32C would do)."""
    s3.keeps.discard("part-crc")
    able = tool(s3)
    token = good(able("begin", "f", part_size=PART))["token"]
    before = len(sent_parts(s3))
    s3.fail("PUT", status=400, code="InvalidRequest", query="partNumber")
    for n in range(2):
        good(part(able, token, n, b"x"))
    assert ["content-md5" in one.fields for one in sent_parts(s3)[before:]] == [False, True, True]


# Failures

def some_version(s3, able):
    s3.put("f", b"old")
    return {"if_version": able.version("f")}


CONDITIONS = {"any": lambda s3, able: {}, "absent": lambda s3, able: {"absent": True}, "version": some_version}


# 503 and 409 mean that it was not done, whoever says them.
FAILURES = [(failure, when) for failure in ("503 SlowDown", "500 InternalError", "504 GatewayTimeout", "409 ConditionalRequestConflict", "reset")
            for when in ("before", "after") if when == "before" or failure[:3] not in ("503", "409")]


@pytest.mark.parametrize("condition", sorted(CONDITIONS))
@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("failure, when", FAILURES)
def test_failures_of_a_put(s3, able, failure, when, times, condition):
    more = CONDITIONS[condition](s3, able)
    before = bodies(s3)
    status, _, code = failure.partition(" ")
    if status == "reset":
        s3.fail("PUT", when=when, how="reset", times=times)
    else:
        s3.fail("PUT", when=when, status=int(status), code=code, times=times)
    answer = able.put("f", b"new", **more)
    tries = s3.done["PUT", ""] if when == "after" else 0
    done = bodies(s3).get(b"f") == b"new"
    if status == "reset":
        assert answer["rc"] == UNKNOWN and done == (when == "after") and tries <= 1
    elif times is None:
        assert answer["rc"] == {"503": -E.EIO, "409": -E.EBUSY}.get(status, UNKNOWN), answer
        assert done == (when == "after")
    elif when == "before" or condition == "any":
        assert answer["rc"] == 0 and done, answer
    else:  # done, and asked again: the condition then fails by ourselves
        assert answer["rc"] == UNKNOWN and done, answer
    assert done or bodies(s3) == before


def test_a_remove_whose_answer_is_lost(s3, able):
    for when in ("before", "after"):
        s3.put("f", b"x")
        s3.failures.clear()
        s3.fail("DELETE", when=when, how="reset")
        asked = s3.asked("DELETE")
        bad(able("remove", "f"), -UNKNOWN)
        assert (b"f" in s3.objects) == (when == "before") and s3.asked("DELETE") == asked + 1


@pytest.mark.waits
@pytest.mark.slow
@pytest.mark.limit(200)
def test_a_server_that_never_answers(s3, able):
    s3.fail("PUT", when="after", how="stall")
    begin = time.monotonic()
    bad(able.put("f", b"x"), -UNKNOWN)
    assert time.monotonic() - begin < 60 and s3.done["PUT", ""] == 1


def test_refusals(s3, able):
    table = {(403, "AccessDenied"): E.EACCES, (400, "EntityTooLarge"): E.EFBIG, (507, "XMinioStorageFull"): E.ENOSPC, (403, "QuotaExceeded"): E.EDQUOT,
             (409, "ObjectParentIsFile"): E.ENOTDIR, (409, "ExistingObjectIsDirectory"): E.EISDIR, (400, "KeyTooLongError"): E.EOPNOTSUPP,
             (404, "NoSuchBucket"): E.EIO}
    for (status, code), errno in table.items():
        s3.fail("PUT", status=status, code=code)
        asked = s3.asked("PUT")
        answer = bad(able.put("f", b"x"), errno)
        assert code in answer["why"] and s3.asked("PUT") == asked + 1
    assert not s3.objects


def test_keys_that_have_expired(tmp_path, tool):
    for when in ("before", "after"):
        with S3Changing(keys=KEYS) as s3, KeysStandin() as keys:
            one = tool(s3, env=remote("container", keys, tmp_path))
            good(one.put("f", b"x"))
            time.sleep(5.2)  # what was refused at once would not be asked for again
            if when == "before":
                s3.expired.add("TOKEN1")
            else:
                s3.fail("PUT", when="after", status=400, code="ExpiredToken")
            good(one.put("f", b"new"))
            assert keys.number == 2 and bodies(s3) == {b"f": b"new"}


def test_keys_that_end_for_good(s3, able):
    s3.fail("PUT", status=403, code="ExpiredToken", times=None)
    asked = s3.asked("PUT")
    bad(able.put("f", b"x"), E.EKEYEXPIRED)
    assert s3.asked("PUT") == asked + 1


# Uploads

DATA = os.urandom(PART + 99)


def complete(one, token, tags, **more):
    return one("complete", "f", token=token, tags=tags, size=len(DATA), **more)


@pytest.mark.parametrize("failure", [{"how": "reset"}, {"status": 500}, {"status": 503, "code": "SlowDown"}])
@pytest.mark.parametrize("when", ["before", "after"])
def test_parts_are_sent_again(s3, able, failure, when):
    for method, query in (("POST", "uploads"), ("PUT", "partNumber"), ("DELETE", "uploadId")):
        s3.fail(method, when=when, query=query, **failure)
    token, tags = able.upload("f", DATA, PART)
    good(complete(able, token, tags))
    other = good(able("begin", "f", part_size=PART))["token"]
    good(able("abort", "f", token=other))
    assert bodies(s3) == {b"f": DATA}
    left = good(able("clean", "", idle_s=0))["removed"]
    assert left == (1 if when == "after" else 0) and not s3.uploads  # the one that was begun twice


@pytest.mark.parametrize("how, status, code, rc", [
    ("hidden", 200, "InternalError", UNKNOWN), ("hidden", 200, "SlowDown", -E.EIO), ("hidden", 200, "AccessDenied", -E.EACCES),
    ("hidden", 200, "InvalidPart", -E.EINVAL), ("answer", 500, "InternalError", UNKNOWN), ("reset", 0, "", UNKNOWN)])
def test_an_upload_that_does_not_end(s3, able, how, status, code, rc):
    token, tags = able.upload("f", DATA, PART)
    s3.fail("POST", query="uploadId", how=how, status=status, code=code, times=None)
    answer = bad(complete(able, token, tags), -rc)
    assert not s3.objects and s3.asked("POST", "uploadId") - 3 <= 5, answer
    s3.failures.clear()
    good(complete(able, token, tags))
    assert bodies(s3) == {b"f": DATA}


def test_an_upload_that_ended_and_said_otherwise(s3, able):
    for how, code in (("hidden", "InternalError"), ("answer", "InternalError"), ("reset", "")):
        s3.objects.clear()
        token, tags = able.upload("f", DATA, PART)
        s3.fail("POST", when="after", query="uploadId", how=how, code=code)
        bad(complete(able, token, tags), -UNKNOWN)
        assert bodies(s3) == {b"f": DATA}
        bad(complete(able, token, tags), E.ENXIO)


def test_an_answer_that_makes_no_sense(s3, able):
    for body in (b"", b"<html>please log in</html>", b"<CompleteMultipartUploadResult/>", b"<!DOCTYPE x><CompleteMultipartUploadResult/>"):
        s3.objects.clear()
        token, tags = able.upload("f", DATA, PART)
        s3.answers["POST", "uploadId"] = body
        bad(complete(able, token, tags), -UNKNOWN)
        s3.answers.clear()


def test_uploads_in_pages_and_their_age(s3, tool):
    s3.uploads_page = 2
    one = tool(s3, prefix="p")
    names = ["a b+c", "a b+c/x", "d/e", "d/é%", "dx", "z"]
    tokens = {name: good(one("begin", name, part_size=PART))["token"] for name in names}
    tokens["second of z"] = good(one("begin", "z", part_size=PART))["token"]
    s3.uploads["foreign"] = type(next(iter(s3.uploads.values())))(b"outside", {})
    rows = {row["token"]: row for row in good(one("uploads", ""))["uploads"]}
    assert set(rows) == set(tokens.values())
    assert [row["path"] for row in good(one("uploads", "d"))["uploads"]] == ["d/e", "d/%C3%A9%25"]
    assert len(good(one("uploads", "a b+c"))["uploads"]) == 2 and len(good(one("uploads", "z"))["uploads"]) == 2
    for number, upload in enumerate(one for one in s3.uploads.values() if one.key.startswith(b"p/")):
        upload.begun -= 5000
        if number % 2:  # something was sent later
            upload.parts[1], upload.sent[1] = b"x", time.time() - 100
    ages = sorted(row["idle_s"] // 1000 for row in good(one("uploads", ""))["uploads"])
    assert ages == [0, 0, 0, 5, 5, 5, 5] or ages == [0, 0, 0, 4, 4, 4, 4]
    assert good(one("clean", "", idle_s=3000))["removed"] == 4 and len(s3.uploads) == 4
    assert good(one("clean", "d", idle_s=0))["removed"] == 1
    assert good(one("clean", "", idle_s=0))["removed"] == 2 and set(s3.uploads) == {"foreign"}


# Copies

def test_a_copy_above_5_gib(s3, able):
    s3.put("big", b"beginning", etag='"big"', fields={"Content-Length": str(6 << 30), "Content-Type": "text/x", "X-Amz-Meta-Who": "me  too", "Cache-Control": "no"})
    version = able.version("big")
    answer = good(able.copy("big", "to", source_version=version))
    parts = [seen for seen in s3.requests() if seen.method == "PUT" and "x-amz-copy-source-range" in seen.fields]
    ranges = [tuple(map(int, seen.fields["x-amz-copy-source-range"][6:].split("-"))) for seen in parts]
    assert ranges[0][0] == 0 and ranges[-1][1] == (6 << 30) - 1 and all(a[1] + 1 == b[0] for a, b in zip(ranges, ranges[1:]))
    assert all(seen.fields["x-amz-copy-source-if-match"] == '"big"' for seen in parts) and answer["size"] == 6 << 30
    assert s3.objects[b"to"].fields == {"Content-Type": "text/x", "X-Amz-Meta-Who": "me  too", "Cache-Control": "no"} and not s3.uploads
    s3.fail("PUT", query="partNumber", skip=3, status=412, code="PreconditionFailed")
    bad(able.copy("big", "to2", source_version=version), E.ESTALE)
    assert b"to2" not in s3.objects and not s3.uploads


def test_conditional_copies(s3, able):
    s3.put("a", b"aaa", fields={"X-Amz-Meta-Who": "me"})
    s3.put("b", b"bbb")
    s3.put("e", b"")
    bad(able.copy("a", "b", absent=True), E.EEXIST)
    good(able.copy("a", "b", if_version=able.version("b")))
    good(able.copy("e", "e2", absent=True))
    bad(able.copy("e", "b", absent=True), E.EEXIST)
    assert {name: thing.body for name, thing in s3.objects.items()} == {b"a": b"aaa", b"b": b"aaa", b"e": b"", b"e2": b""}
    assert s3.objects[b"b"].fields["X-Amz-Meta-Who"] == "me" and not s3.uploads


def test_a_server_that_copies_no_ranges(s3, tool):
    """It stores an empty part and says 200."""
    s3.keeps.discard("part-copy")
    s3.put("a", b"aaa")
    s3.put("big", b"beginning", etag='"big"', fields={"Content-Length": str(2 << 30)})
    one = tool(s3)
    bad(one.copy("a", "b", absent=True), E.EOPNOTSUPP)
    assert set(bodies(s3)) == {b"a", b"big"} and not s3.uploads
    good(one.rename("a", "b"))
    good(one.rename("big", "c"))  # in one piece then
    assert set(bodies(s3)) == {b"b", b"c"} and not s3.uploads


@pytest.mark.parametrize("failure, when, rc", [({"how": "hidden", "code": "InternalError"}, "before", 0), ({"how": "hidden", "code": "AccessDenied"}, "before", -E.EACCES),
                                               ({"how": "reset"}, "after", UNKNOWN), ({"how": "reset"}, "before", UNKNOWN)])
def test_failures_of_a_rename(s3, able, failure, when, rc):
    s3.put("a", b"aaa")
    s3.fail("PUT", when=when, **failure)
    assert able.rename("a", "b")["rc"] == rc
    assert (b"a" in s3.objects) == (rc != 0) and (b"b" in s3.objects) == (rc == 0 or when == "after")


def test_a_rename_that_cannot_remove(s3, able):
    s3.put("a", b"aaa")
    s3.fail("DELETE", status=403, code="AccessDenied")
    bad(able.rename("a", "b"), -UNKNOWN)
    assert bodies(s3) == {b"a": b"aaa", b"b": b"aaa"}


@pytest.mark.parametrize("keeps", [True, False])
def test_what_comes_to_the_old_name_meanwhile_stays(s3, tool, monkeypatch, keeps):
    if not keeps:
        s3.keeps.discard("delete-if-match")
    able = tool(s3)
    s3.put("a", b"aaa")
    good(able("able"))
    copy = s3.copy_object

    def copy_and_be_overtaken(request, key):
        answer = copy(request, key)
        s3.put("a", b"newer")
        return answer

    monkeypatch.setattr(s3, "copy_object", copy_and_be_overtaken)
    good(able.rename("a", "b"))
    assert bodies(s3) == {b"a": b"newer", b"b": b"aaa"}


# Names

def test_names_that_are_refused_before_anything_is_asked(s3, able):
    asked = len(s3.requests())
    for name in (b"\xff", b"a\xed\xa0\x80", b"\xc0\xaf", b"d/.prelux~x/y", b"n" * 256, b"d/" * 600 + b"x"):
        bad(able.put(name, b"x"), E.EOPNOTSUPP, E.ENAMETOOLONG)
        bad(able("mkdir", name), E.EOPNOTSUPP, E.ENAMETOOLONG)
    assert len(s3.requests()) == asked


def test_an_object_wins_over_the_folder_of_its_name(s3, able):
    s3.put("a", b"bytes")
    s3.put("a/b", b"below")
    good(able.put("a", b"new"))
    good(able("remove", "a"))
    bad(able.put("a", b"x"), E.EISDIR)
    bad(able("rmdir", "a"), E.ENOTEMPTY)
    good(able("remove", "a/b"))
    bad(able("stat", "a"), E.ENOENT)


def test_the_report_counts(s3, able):
    good(able.put("f", b"x"))
    report = able("report")["report"]["requests"]
    assert report["puts"] > 0 and report["deletes"] > 0 and report["posts"] > 0 and json.dumps(report)
