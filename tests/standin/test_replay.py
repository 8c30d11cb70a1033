"""The stand-in against the recording of a real cluster of Alluxio 313 (tests/data/alluxio-313-wire.jsonl, 181 exchanges).

Each request is sent again, in order, byte for byte; status line, head fields with their values and order, length of the body,
body, and whether the server closed are compared.  Made alike first, because it cannot be the same twice:

- ports: of redirects, and in the values of etcd
- what a write makes: mtime in ETAG, last-modified and LastModified of objects that were put during the recording
- ids of load jobs; elapsed time and throughput in their progress, and so the length; counts while a job is going on
- the order of elements in XML, which varied in the recording itself
- bytes of files that nobody wrote down (big.bin, w_00.bin): a digest stands for a digest, always the same one for the same
- the body of exchange 6, whose order of names was that of a folder on another disk: only its length is held
"""

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .cluster import AlluxioStandin

RECORDING = Path(__file__).resolve().parents[1] / "data" / "alluxio-313-wire.jsonl"
ROWS = [json.loads(line) for line in RECORDING.read_text().splitlines()]
EXCHANGES = [row for row in ROWS if "request" in row]
IDENTITIES = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222")
ROOT = "file:///tmp/ufs"
QUIET_SECONDS = 0.25
SLOW_QUIET_SECONDS = 1.0
SECOND = 1795259783  # when the recording's files were made
LIST_BY_DISK = 6
WHEN_RUNNING = 173
WHEN_DONE = 174
TIMES = re.compile(r"(modtime:|LastModified>|last-modified: )[^)<\r]*")


def make_ufs(top):
    """The recording's under store: names, lengths and times as its answers show them."""
    bucket, extra = top / "b", top / "w"
    for folder in (bucket / "dir" / "sub", bucket / "empty", extra):
        folder.mkdir(parents=True)
    files = {"a.txt": (b"hello", 332), "zero": (b"", 332), "big.bin": (_noise(1), 464), "big2.bin": (_noise(2), 476)}
    for name in ("amp&b.txt", "br[1]", "eq=1.txt", "hash#.txt", "lt<gt>.txt", "pct%.txt", "pct%41.txt", "plus+x.txt", "q'uote.txt",
                 "semi;x", "sp ace.txt", "ümlaut.txt", "q?m.txt", "back\\slash", "dir/in.txt", "dir/sub/deep.txt"):
        files[name] = (f"content of {name}".encode(), 489)
    for number in range(30):
        files[f"w_{number:02}.bin"] = (bytes([number]) * 1500, 490 if number else 489)
        (extra / f"w_{number:02}.bin").write_bytes(bytes([number]) * 1500)
    for name, (data, millis) in files.items():
        (bucket / name).write_bytes(data)
        _stamp(bucket / name, millis)
    for folder, millis in ((bucket / "dir" / "sub", 489), (bucket / "dir", 489), (bucket / "empty", 489), (bucket, 490), (extra, 499)):
        _stamp(folder, millis)


def _noise(seed):
    """2,500,000 bytes in which no two pages are alike; big.bin of the recording was random, and is not known."""
    return b"".join(hashlib.sha512(b"%d %d" % (seed, number)).digest() for number in range(39063))[:2500000]


def _stamp(path, millis):
    when = SECOND * 1_000_000_000 + millis * 1_000_000
    os.utime(path, ns=(when, when))


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """{n: (head, body, closed)} of all requests, sent in the recording's order."""
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    ufs = tmp_path_factory.mktemp("ufs")
    make_ufs(ufs)
    with AlluxioStandin(ufs, root=ROOT, sync_interval=0, identities=IDENTITIES) as cluster:
        cluster.load_delays(start=0.0, file=0.15)
        yield {"cluster": cluster, **{row["n"]: _send(cluster, row) for row in EXCHANGES}}


def _send(cluster, row):
    place = cluster.workers[int(row["to"][6]) - 1]
    port = place.http_port if row["to"].endswith("http") else place.s3_port
    request = row["request"].encode("latin-1")
    if len(request) < row["request_bytes"]:  # the recording cut a long body
        request += b"x" * (row["request_bytes"] - len(request))
    if row["n"] == WHEN_DONE:
        _until_loaded(place, row)
    with socket.create_connection((place.host, port), timeout=10) as client:
        client.sendall(request)
        return _receive(client, row)


def _until_loaded(place, row):
    """The recording waited for the end of the job here."""
    path = row["request"].split(" ")[1]
    for _ in range(200):
        client = http.client.HTTPConnection(place.host, place.http_port, timeout=10)
        client.request("GET", path)
        done = b'"jobState":"SUCCEEDED"' in client.getresponse().read()
        client.close()
        if done:
            return
        time.sleep(0.05)
    raise AssertionError("the load job does not end")


def _receive(client, row):
    """Head, body and whether the server closed.  The limit on silence is short where the recording has a connection left open."""
    data, closed = b"", False
    client.settimeout(QUIET_SECONDS if not row["server_closed"] else SLOW_QUIET_SECONDS)
    want = len(row["response_head"]) + 4 + row["body_bytes"]
    try:
        while chunk := client.recv(1 << 20):
            data += chunk
            if len(data) >= want and not row["server_closed"]:
                client.settimeout(0.05)
        closed = True
    except TimeoutError:
        pass
    except ConnectionResetError:
        closed = True
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), body, closed


# What cannot be the same twice

def alike_head(row, head):
    head = re.sub(r"(location: http://[^:]*:)\d+", r"\1PORT", head)
    if _is_new(row):
        head = TIMES.sub(r"\1TIME", head)
    return re.sub(r"length: \d+", "length: N", head) if _is_progress(row) else head


def _is_progress(row):
    """Of a load job: elapsed time and rate have as many digits as the machine is slow."""
    return "opType=progress" in row["request"]


def _is_new(row):
    """About an object that was put during the recording."""
    return re.search(r"/(new|copy)\.txt|/folder/", row["request"].split(" ")[1]) is not None


def alike_body(row, text):
    if text.startswith("<"):
        text = _sorted_xml(ElementTree.fromstring(text))
    if _is_new(row):
        text = TIMES.sub(r"\1TIME", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID", text)
    if _is_progress(row):
        text = _progress(row, text)
    return text


def _sorted_xml(node):
    below = sorted(_sorted_xml(child) for child in node)
    return f"<{node.tag}>{node.text or ''}{''.join(below)}</{node.tag}>"


def _progress(row, text):
    text = re.sub(r"(Elapsed: |mTimeElapsed..:)[\d:]+", r"\1TIME", text)
    text = re.sub(r"(\\tThroughput: |\"Throughput\":\")[\d.]+\w+/s|(mThroughput..:)\d+", r"\1\2RATE", text)
    if row["n"] == WHEN_RUNNING:
        text = re.sub(r"(Inodes \w+(: |\":\"))\d+", r"\1N", text)
        text = re.sub(r"(Bytes Loaded(: |\":\"))[\d.]+\w+ out of [\d.]+\w+", r"\1N out of N", text)
    return text


def numbers(row):
    return f"{row['n']:03} {row['to']} {row['note']}"


@pytest.mark.parametrize("row", EXCHANGES, ids=numbers)
def test_status_head_and_closing(answers, row):
    head, _, closed = answers[row["n"]]
    assert alike_head(row, head) == alike_head(row, row["response_head"])
    assert closed == row["server_closed"]


@pytest.mark.parametrize("row", EXCHANGES, ids=numbers)
def test_body(answers, row):
    head, body, _ = answers[row["n"]]
    if _is_progress(row):
        assert f"length: {len(body)}\r\n" in f"{head.lower()}\r\n"
    else:
        assert len(body) == row["body_bytes"]
    if row["body"] and not _unknown_bytes(row):
        assert alike_body(row, body.decode()) == alike_body(row, row["body"])


def _unknown_bytes(row):
    return row["body"] is None or "\ufffd" in row["body"]


def test_bytes_that_nobody_wrote_down(answers):
    """One digest of ours for each of theirs and the reverse."""
    ours = {}
    for row in EXCHANGES:
        if row["body_bytes"] and _unknown_bytes(row) and row["n"] != LIST_BY_DISK:
            ours.setdefault(row["body_sha256"], set()).add(hashlib.sha256(answers[row["n"]][1]).hexdigest())
    assert len(ours) >= 6 and all(len(values) == 1 for values in ours.values())
    assert len(set.union(*ours.values())) == len(ours)


def test_ranges_are_the_bytes_asked_for(answers):
    """Of big.bin: what the digests above cannot tell."""
    data = (answers["cluster"].ufs / "b" / "big.bin").read_bytes()
    found = 0
    for row in EXCHANGES:
        head, body, _ = answers[row["n"]]
        part = re.search(r"Content-Range: bytes (\d+)-(\d+)/2500000", head)
        page = re.search(r"/v1/file/69e8\w+/page/0*(\d+)(?:\?offset=(\d+))?", row["request"])
        if part:
            assert body == data[int(part.group(1)):int(part.group(2)) + 1]
        elif page and body:
            start = int(page.group(1) or 0) * (1 << 20) + int(page.group(2) or 0)
            assert body == data[start:start + len(body)]
        found += bool(body and (part or page))
    assert found >= 10


def test_list_that_depends_on_a_disk(answers):
    rows = json.loads(answers[LIST_BY_DISK][1])
    assert len(rows) == 49 and sorted(row["mName"] for row in rows)[:2] == ["a.txt", "amp&b.txt"]


@pytest.mark.parametrize("row", [row for row in ROWS if "request" not in row], ids=lambda row: row["response"]["kvs"][0]["key"].split("/")[1])
def test_registration(answers, row):
    cluster = answers["cluster"]
    recorded = {kv["key"]: kv for kv in row["response"]["kvs"]}
    prefix = next(iter(recorded)).rpartition("/")[0] + "/"
    answer = cluster.etcd.below(prefix)
    assert {key: _ports(value.decode()) for key, value in answer.items()} == {key: _ports(kv["value"]) for key, kv in recorded.items()}
    leased = [kv.get("lease", "0") != "0" for kv in _rows_of(cluster, prefix)]
    assert leased == ["lease" in kv for kv in recorded.values()]
    for place in cluster.workers:
        text = answer[f"{prefix}worker-{uuid.UUID(bytes=place.identity)}"].decode()
        assert f'"HttpServerPort":{place.http_port}' in text and f'"RpcPort":{place.rpc_port}' in text


def _rows_of(cluster, prefix):
    first, end = (base64.b64encode(text.encode()).decode() for text in (prefix, prefix[:-1] + "0"))
    return cluster.etcd.call("/v3/kv/range", {"key": first, "range_end": end})["kvs"]


def _ports(text):
    return re.sub(r'("(?:RpcPort|HttpServerPort)":)\d+', r"\1PORT", text)


def test_no_worker_has_complained(answers):
    log = answers["cluster"].log_tail().decode()
    assert "Traceback" not in log
