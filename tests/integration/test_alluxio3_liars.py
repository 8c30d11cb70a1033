"""Backend alluxio against workers that lie on the wire: SCENARIOS "Liars" for each of the calls that it makes (info, files, range, LIST of
the S3 port). What lies in the meaning of an answer is in test_alluxio3_traps.py.

The rule: an error or the right bytes, never wrong ones, and within a time that is known."""

import time

import pytest

from tests.integration.test_alluxio3_traps import TOOL, fake, file_info, part, tools, whole  # noqa: F401

pytestmark = [pytest.mark.asan, pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]

EIO, ENOENT, EPROTO, ESTALE = 5, 2, 71, 116
BAD = (-EIO, -EPROTO, -ESTALE, -ENOENT)  # ENOENT: the (empty) under store's word
DATA = b"1234567890"
FOLDER = "b/a b"  # a name that only the S3 port can carry


def key_page(token="", names=("a b/f",), before=""):
    rows = "".join(f"<Contents><Key>{name}</Key><Size>3</Size><LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents>" for name in names)
    return whole(f"{before}<ListBucketResult><Prefix>a b/</Prefix><IsTruncated>{'true' if token else 'false'}</IsTruncated>"
                 f"<NextContinuationToken>{token}</NextContinuationToken>{rows}</ListBucketResult>".encode())


INFO, RANGE, FILES, KEYS = whole(file_info()), part(0, 9, 10, DATA), whole(file_info("b/d/f")), key_page()


def ask(tool, what):
    """(rc, what came, the right answer) of the call that uses it."""
    if what == "info":
        answer = tool("stat", "b/f")
        return answer["rc"], answer.get("size"), 10
    if what == "get":
        rc, data, _ = tool.read("b/f")
        return rc, data, DATA
    answer = tool("list", "b/d" if what == "files" else FOLDER)
    return answer["rc"], sorted(row["name"] for row in answer["names"]), ["f"]


def judge(fake, what, say, good=False):
    says = {"info": INFO, "files": FILES, "list": whole(b"<html/>"), "head": whole(b"", "500 x"), "get": RANGE}
    tool = fake(**{**says, what: say})
    begin = time.monotonic()
    rc, came, right = ask(tool, what)
    assert time.monotonic() - begin < 50
    if good:
        assert (rc, came) == (0, right)
    else:
        assert rc in BAD or (rc, came) == (0, right), (rc, came)


CALLS = {"info": INFO, "get": RANGE, "files": FILES, "list": KEYS}


@pytest.mark.parametrize("what", CALLS)
def test_the_honest_answer(fake, what):
    judge(fake, what, CALLS[what], good=True)


@pytest.mark.limit(200)
@pytest.mark.parametrize("what", CALLS)
def test_cut_at_each_byte(fake, what):
    """Each time some bytes more, then the end of the connection."""
    data = CALLS[what]
    head = data.index(b"\r\n\r\n") + 4
    for n in sorted({*range(0, len(data), 11), head - 1, head, head + 1, len(data) - 1}):
        judge(fake, what, data[:n] or (lambda handler: None))


def endless(head, body):
    def say(handler):
        try:
            handler.wfile.write(head)
            for _ in range(3000):
                handler.wfile.write(body)
        except OSError:
            pass  # given up, as it should be
    return say


def slowly(data):
    def say(handler):
        try:
            for byte in data:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.5)
        except OSError:
            pass
    return say


WIRE_LIES = {
    "longer than it says": lambda data: data + b"more of it",
    "10 MB head": lambda data: data.replace(b"\r\n\r\n", b"\r\n" + b"X: %s\r\n" % (b"y" * 1000) * 10_000 + b"\r\n", 1),
    "one field of 10 MB": lambda data: data.replace(b"\r\n\r\n", b"\r\nX: %s\r\n\r\n" % (b"y" * 10_000_000), 1),
    "endless body": lambda data: endless(b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n\r\n", b"[" * 100_000),
    "endless body and 200": lambda data: endless(b"HTTP/1.1 200 OK\r\n\r\n", b"[" * 100_000),
    "endless chunks": lambda data: endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + b" " * 1000 + b"\r\n"),
    "slow": lambda data: slowly(data),
    "429": lambda data: whole(b"", "429 Slow", "Retry-After: 3600\r\n"),
    "503": lambda data: whole(b"", "503 Busy", "Retry-After: 3600\r\n"),
    "redirect": lambda data: whole(b"", "302 Found", "Location: http://127.0.0.1:9/x\r\n"),
}


@pytest.mark.limit(200)
@pytest.mark.parametrize("lie", WIRE_LIES)
@pytest.mark.parametrize("what", CALLS)
def test_lies_on_the_wire(fake, what, lie):
    judge(fake, what, WIRE_LIES[lie](CALLS[what]))


# LIST of the S3 port

def paged(pages):
    """pages(token) -> an answer"""
    return lambda handler: pages(handler.path.partition("continuation-token=")[2])


BOMB = '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
LIST_LIES = {
    "the same page": lambda token: key_page("again"),
    "a circle": lambda token: key_page({"": "one", "one": "two", "two": "one"}[token]),
    "empty pages": lambda token: key_page("t%d" % (int(token[1:] or 0) + 1), names=()),
    "more, but not where": lambda token: key_page().replace(b">false<", b">true<"),
    "a bomb": lambda token: key_page(before=BOMB),
    "a deep one": lambda token: whole(b"<ListBucketResult>" + b"<a>" * 100_000),
    "a long name": lambda token: key_page(names=("a b/" + "n" * 100_000,)),
    "a field with 10 MB of attributes": lambda token: whole(b"<ListBucketResult %s/>" % b" ".join(b'a%d="%s"' % (i, b"y" * 100) for i in range(90_000))),
    "another folder's": lambda token: key_page(names=("c/f",)),
    "half of a token": lambda token: key_page("a&prefix=other"),
}


@pytest.mark.limit(200)
@pytest.mark.parametrize("lie", LIST_LIES)
def test_lists_of_keys_that_lie(fake, lie):
    tool = fake(list=paged(LIST_LIES[lie]), head=whole(b"", "500 x"))
    begin = time.monotonic()
    answer = tool("list", FOLDER)
    assert answer["rc"] in BAD, answer
    assert time.monotonic() - begin < 50
    assert len(tool.fake.asked) < 300  # going in circles is noticed
