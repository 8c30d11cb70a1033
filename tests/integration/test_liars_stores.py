"""Backends s3 and azure against servers that lie on the wire: what SCENARIOS says under "Liars" and the servers of test_s3_raw.py and
test_azure.py are too well-behaved for. The rule: an error or the right bytes and names, within a time that is known."""

import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.backends_raw_rig import TOOL, tool  # noqa: F401

pytestmark = [pytest.mark.asan, pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]

DATA = b"0123456789" * 500
DATE = "Sat, 21 Nov 2026 10:00:00 GMT"
VERSION = f'ETag: "0x8D1"\r\nLast-Modified: {DATE}\r\nx-ms-version: 2021-12-02\r\n'
PAGES = {"s3": b'<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>5000</Size><ETag>"0x8D1"</ETag>'
               b"<LastModified>2026-11-21T10:00:00.000Z</LastModified></Contents></ListBucketResult>",
         "azure": b"<EnumerationResults><Blobs><Blob><Name>a</Name><Properties><Content-Length>5000</Content-Length><Etag>0x8D1</Etag>"
                  b"<Last-Modified>Sat, 21 Nov 2026 10:00:00 GMT</Last-Modified></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"}


def whole(body, head="200 OK", fields=VERSION, length=None):
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body) if length is None else length}\r\n{fields}\r\n".encode() + body


class Server:
    """HEAD is honest; what `says` for "get" and "list" is said as it is: bytes, or a function of the handler."""

    def __init__(self, kind, **says):
        self.asked = 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.asked += 1
                what = "head" if self.command == "HEAD" else "list" if "list" in self.path else "get"
                answer = {"head": whole(b"", length=len(DATA)), "get": whole(DATA), "list": whole(PAGES[kind]), **says}[what]
                try:
                    self.wfile.write(answer(self) or b"" if callable(answer) else answer)
                except OSError:
                    pass  # given up, as it should be
                self.close_connection = True
            do_HEAD = do_GET
            log_message = lambda *_: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}"
        self.conf = {"s3": {"type": "s3", "endpoint": url, "bucket": "box", "anonymous": True},
                     "azure": {"type": "azure", "endpoint": url + "/acct", "account": "acct", "container": "box"}}[kind]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def endless(head, body):
    def say(handler):
        handler.wfile.write(head)
        for _ in range(3000):
            handler.wfile.write(body)
    return say


def slowly(data):
    def say(handler):
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.5)
    return say


def with_fields(data, fields):
    return data.replace(b"\r\n\r\n", b"\r\n" + fields + b"\r\n", 1)


LIES = {
    "longer than it says": lambda data: data + b"more of it",
    "shorter than it says": lambda data: data[:-7],
    "10 MB head": lambda data: with_fields(data, b"X: %s\r\n" % (b"y" * 1000) * 10_000),
    "one field of 10 MB": lambda data: with_fields(data, b"X: %s\r\n" % (b"y" * 10_000_000)),
    "endless body": lambda data: endless(f"HTTP/1.1 200 OK\r\n{VERSION}\r\n".encode(), b"<" * 100_000),
    "endless chunks": lambda data: endless(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{VERSION}\r\n".encode(), b"3e8\r\n" + b" " * 1000 + b"\r\n"),
    "html": lambda data: whole(b"<html>log in</html>", fields="Content-Type: text/html\r\n"),
    "another ETag": lambda data: data.replace(b"0x8D1", b"0x8D2"),
    "a weak ETag": lambda data: data.replace(b'ETag: "', b'ETag: W/"'),
    "no ETag": lambda data: data.replace(b'ETag: "0x8D1"\r\n', b""),
    "a part": lambda data: whole(DATA[:100], "206 Partial Content", VERSION + "Content-Range: bytes 0-99/5000\r\n"),
    "elsewhere": lambda data: whole(b"", "302 Found", "Location: http://127.0.0.1:9/x\r\n"),
    "attributes": lambda data: data.replace(b"</", b" ".join([b"<x"] + [b'a%d="%s"' % (i, b"y" * 100) for i in range(90_000)]) + b"/></", 1),
    "a bomb": lambda data: whole(b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>' + PAGES["s3"].replace(b">a<", b">&b;<")),
}


def judge(tool, kind, what, say, bound=25):  # noqa: F811
    with Server(kind, **{what: say}) as server:
        one = tool(**server.conf)
        begin = time.monotonic()
        if what == "get":
            rc, came, answer = one.read("a")
            right = DATA
        else:
            answer = one("list")
            rc, came, right = answer["rc"], [row["name"] for row in answer["names"]], ["a"]
        assert time.monotonic() - begin < bound
        assert server.asked < 60
        assert came == right if rc == 0 else rc in (-5, -71, -116, -13), answer
        return rc


@pytest.mark.parametrize("what", ["get", "list"])
@pytest.mark.parametrize("kind", PAGES)
def test_the_honest_answer(tool, kind, what):  # noqa: F811
    assert judge(tool, kind, what, whole(DATA if what == "get" else PAGES[kind])) == 0


@pytest.mark.limit(200)
@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("what", ["get", "list"])
@pytest.mark.parametrize("kind", PAGES)
def test_lies_on_the_wire(tool, kind, what, lie):  # noqa: F811
    judge(tool, kind, what, LIES[lie](whole(DATA if what == "get" else PAGES[kind])))


@pytest.mark.limit(200)
@pytest.mark.parametrize("what", ["get", "list"])
@pytest.mark.parametrize("kind", PAGES)
def test_cut_at_each_byte_once(tool, kind, what):  # noqa: F811
    """The first answer ends after n bytes, the next is whole: the right bytes, whatever n."""
    data = whole(DATA if what == "get" else PAGES[kind])
    head = data.index(b"\r\n\r\n") + 4
    for n in sorted({0, 1, 9, head - 2, head - 1, head, head + 1, head + 50, len(data) - 1}):
        state = {"first": True}

        def say(handler):
            first, state["first"] = state["first"], False
            part = handler.headers.get("Range") or handler.headers.get("x-ms-range")
            if part and not first:
                begin = int(part[6:].split("-")[0])
                return whole(DATA[begin:], "206 Partial Content", f"{VERSION}Content-Range: bytes {begin}-4999/5000\r\n")
            return data[:n] if first else data
        assert judge(tool, kind, what, say) == 0, n


@pytest.mark.waits
@pytest.mark.slow
@pytest.mark.limit(300)
def test_byte_by_byte(tool):  # noqa: F811
    """All at once: a minute each."""
    with ThreadPoolExecutor(len(PAGES)) as pool:
        list(pool.map(lambda kind: judge(tool, kind, "get", slowly(whole(DATA)), bound=200), PAGES))
