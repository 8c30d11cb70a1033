"""Large reads by several connections at once, on the wire: what is asked for, what comes of servers that cannot send parts, of versions that
change between two parts, of parts that fail or stall. backend_tool drives the backends; how many connections there are is also in
tests/unit/test_parallel.c."""

import hashlib
import threading
import time

import pytest

from tests import trees
from tests.bench.delay import Delay
from tests.integration import azure_rig
from tests.integration.azure_rig import account  # noqa: F401 (a fixture)
from tests.integration.backends_raw_rig import EIO, ESTALE, TOOL, Tool, tool  # noqa: F401 (a fixture)
from tests.servers.liar import Liar
from tests.servers.s3standin import HttpStandin, S3Standin

pytestmark = pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")

MIB = 1 << 20
SIZE = 40 * MIB + 12345
OLD = "Tue, 03 Mar 2020 10:00:00 GMT"


@pytest.fixture(scope="module")
def content():
    return trees.pattern(SIZE, 3)


class OneObject(HttpStandin):
    """/f with ranges and If-Match. `before` is called with each span before its answer, and may return (status, fields, body) instead."""

    def __init__(self, content):
        super().__init__()
        self.content, self.etag, self.modified = content, '"one"', OLD
        self.spans, self.conditions, self.now, self.most = [], [], 0, 0
        self.before = lambda span: None
        self.conditional = self.ranges = True

    def answer(self, request):
        fields = {"ETag": self.etag, "Last-Modified": self.modified, "Accept-Ranges": "bytes"}
        fields = {name: value for name, value in fields.items() if value}
        if request.method == "HEAD":
            return 200, {**fields, "Content-Length": len(self.content)}, b""
        first, _, last = request.fields.get("range", "").removeprefix("bytes=").partition("-")
        span = (int(first), int(last) + 1) if first and self.ranges else (0, len(self.content))
        with self.lock:
            self.spans.append(span)
            self.conditions.append(request.fields.get("if-match", request.fields.get("if-unmodified-since")))
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            instead = self.before(span)
            if instead:
                return instead
            if self.conditional and self.etag and request.fields.get("if-match", self.etag) != self.etag:
                return 412, {}, b""
            fields["ETag"] = self.etag or ""
            body = self.content[span[0]:span[1]]
            if not first or not self.ranges:
                return 200, fields, body
            return 206, {**fields, "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{len(self.content)}"}, body
        finally:
            with self.lock:
                self.now -= 1

    def whole_once(self):
        """Each byte was asked for once."""
        spans = sorted(self.spans)
        return spans[0][0] == 0 and spans[-1][1] == len(self.content) and all(a[1] == b[0] for a, b in zip(spans, spans[1:]))


@pytest.fixture
def server(content):
    with OneObject(content) as one:
        yield one


def slowly(seconds=0.05):
    return lambda span: time.sleep(seconds)


def test_each_byte_is_asked_for_once_with_the_version(server, tool):
    server.before = slowly()
    http = tool(type="http", url=server.url)
    rc, data, answer = http.read("f")
    assert rc == 0 and data == server.content, answer
    assert server.whole_once() and len(server.spans) >= 5, server.spans
    assert all(condition == '"one"' for condition in server.conditions)
    assert 3 <= server.most <= 16 and server.accepted <= 17, (server.most, server.accepted)
    accepted = server.accepted
    server.spans.clear()
    assert http.read("f")[1] == server.content and server.whole_once()
    assert server.accepted <= max(accepted, 17), "connections are used again"
    server.spans.clear()
    assert http.read("f", off=3 * MIB + 7, len=30 * MIB)[1] == server.content[3 * MIB + 7:33 * MIB + 7]
    spans = sorted(server.spans)
    assert len(spans) > 3 and (spans[0][0], spans[-1][1]) == (3 * MIB + 7, 33 * MIB + 7)


def test_a_part_of_less_is_one_request(server, tool):
    http = tool(type="http", url=server.url)
    assert http.read("f", off=5, len=10 * MIB)[1] == server.content[5:5 + 10 * MIB]
    assert server.spans == [(5, 5 + 10 * MIB)]


@pytest.mark.parametrize("etag, modified", [(None, None), (None, "now")])
def test_what_cannot_be_told_apart_is_one_answer(etag, modified, server, tool):
    """Without a validator, and with one that says seconds, the second not being over."""
    server.etag, server.modified = etag, modified and server.date()
    rc, data, answer = tool(type="http", url=server.url).read("f")
    assert rc == 0 and data == server.content, answer
    assert server.spans == [(0, SIZE)]


@pytest.mark.parametrize("conditional", [True, False])
def test_a_version_that_changes_between_parts(conditional, server, tool):
    """The server looks at If-Match, or does not."""
    server.conditional = conditional
    http = tool(type="http", url=server.url)
    expect = {"size": SIZE, "version": http("stat", "f")["version"]}
    turn = threading.Semaphore(5)

    def change(span):
        time.sleep(0.02)
        if not turn.acquire(blocking=False):
            server.etag = '"two"'

    server.before = change
    rc, _, answer = http.read("f", expect=expect)
    assert rc == -ESTALE, answer


def test_a_server_without_ranges_is_asked_for_the_whole(server, tool):
    server.ranges = False
    http = tool(type="http", url=server.url)
    rc, data, answer = http.read("f")
    assert rc == 0 and data == server.content, answer
    server.spans.clear()
    assert http.read("f")[1] == server.content
    assert server.spans == [(0, SIZE)], "it is known by now"


def test_a_lying_range(tool, content):
    with Liar({"f": content[:20 * MIB]}) as liar:
        for lie in ("wrong-range=start", "wrong-range=total", "wrong-range=whole", "changing-etag", "changing-bytes"):
            rc, data, answer = tool(type="http", url=f"{liar.url}/{lie}").read("f")
            assert rc < 0, (lie, answer)


def test_a_part_is_refused_at_first(server, tool):
    """503 is asked again; what is asked for does not grow."""
    left = [2]

    def busy(span):
        time.sleep(0.02)
        with server.lock:
            left[0] -= span[0] > 8 * MIB
            now = left[0] >= 0 and span[0] > 8 * MIB
        return (503, {}, b"") if now else None

    server.before = busy
    rc, data, answer = tool(type="http", url=server.url).read("f")
    assert rc == 0 and data == server.content, answer
    twice = len(server.spans) - len(set(server.spans))
    assert twice == 2, server.spans


def test_a_part_fails(server, tool):
    server.before = lambda span: (500, {}, b"") if span[0] >= 20 * MIB else None
    rc, _, answer = tool(type="http", url=server.url).read("f")
    assert rc == -EIO and "500" in answer["why"], answer


def test_a_part_breaks_off(server, tool):
    """The connection ends within one part: the rest of that part alone is asked for."""
    once = threading.Semaphore(1)

    def cut(span):
        if span[0] > 8 * MIB and once.acquire(blocking=False):
            body = server.content[span[0]:span[1]]
            return 206, {"ETag": server.etag, "Connection": "close", "Content-Length": len(body),
                         "Content-Range": f"bytes {span[0]}-{span[1] - 1}/{SIZE}"}, body[:100_000]
        return None

    class Cutting(OneObject):
        def serve(self, connection):
            send = connection.send

            def then_end(data):
                send(data)
                if b"Connection: close" in data[:400]:
                    connection.reset()

            connection.send = then_end
            super().serve(connection)

    with Cutting(server.content) as cutting:
        server, cutting.before = cutting, cut
        rc, data, answer = tool(type="http", url=cutting.url).read("f")
        assert rc == 0 and data == cutting.content, answer
        broken = [span for span in cutting.spans if sum(other[1] == span[1] for other in cutting.spans) > 1]
        assert len(broken) == 2 and broken[0][0] < broken[1][0], cutting.spans


def test_a_part_that_stalls_is_asked_for_a_second_time(server, tool):
    """Silence of one connection: 30 s for one stream."""
    once = threading.Semaphore(1)

    def stall(span):
        if span[0] > 8 * MIB and once.acquire(blocking=False):
            server.stopping.wait(60)

    server.before = stall
    http = tool(type="http", url=server.url)
    assert http.read("f", off=0, len=8 * MIB)[0] == 0
    begin = time.monotonic()
    rc, data, answer = http.read("f")
    assert rc == 0 and data == server.content, answer
    assert time.monotonic() - begin < 28
    assert 1 <= len(server.spans) - len(set(server.spans)) <= 5, server.spans


def test_more_connections_where_each_is_slow(server, tool):
    """20 ms away, 3 MB/s on each connection. A machine that does much else may be what is slow: then once more."""
    for _ in range(6):
        with Delay(server.url, milliseconds=20, rate=3_000_000) as far:
            http = tool(type="http", url=f"http://{far.address}")
            rc, data, answer = http.read("f")
            assert rc == 0 and data == server.content, answer
            assert http.read("f")[0] == 0
            if far.connections > 5:  # three or four is what it begins with
                return
    assert far.connections > 5, far.connections


def test_s3(tool, content):
    with S3Standin(keys={"AK": ("secret", None)}) as s3:
        s3.put("f", content)
        s3.lie.add("range-200")
        one = tool(type="s3", endpoint=s3.url, bucket="data", access_key="AK", secret_key="secret")
        rc, data, answer = one.read("f")
        assert rc == 0 and data == content, answer
        s3.lie.clear()
        other = tool(type="s3", endpoint=s3.url, bucket="data", access_key="AK", secret_key="secret")
        before = len(s3.requests())
        rc, data, answer = other.read("f")
        assert rc == 0 and data == content, answer
        asked = [seen.fields for seen in s3.requests()[before:] if seen.method == "GET"]
        assert len(asked) >= 5 and all("range" in fields and "if-match" in fields for fields in asked), asked


def test_azure(account, tool, content):  # noqa: F811
    azure_rig.put(account, "parallel", f=content)
    rc, data, answer = tool(**azure_rig.backend(account, "parallel")).read("f")
    assert rc == 0 and data == content, answer


@pytest.mark.parametrize("says", [True, False])
def test_an_unknown_file_is_asked_for_in_parts_by_its_first_answer(says, content, prelux):
    """Of a file that nothing is known of a GET is the first question. Its answer is given up when the file is large and the server says that it
    sends parts, and read to its end when it does not."""
    class Quiet(OneObject):
        def answer(self, request):
            status, fields, body = super().answer(request)
            return status, {name: value for name, value in fields.items() if says or name != "Accept-Ranges"}, body

    with Quiet(content) as server:
        prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": server.url}},
                       "mappings": [{"local": "/prelux-web", "remote": "w:/"}]})
        assert prelux.run(["sha256sum", "/prelux-web/f"]).stdout.split()[0] == hashlib.sha256(content).hexdigest()
        assert [seen.method for seen in server.requests() if seen.path == "/f"].count("HEAD") == 0
        assert server.spans[0] == (0, SIZE)
        if says:
            del server.spans[0]
            assert server.whole_once() and len(server.spans) >= 5, server.spans
        else:
            assert server.spans == [(0, SIZE)]


def test_a_daemon_with_few_descriptors(server, tmp_path):
    """No more connections than there are descriptors for: fewer, or an error that says so; never wrong bytes, and nobody hangs."""
    class Few(Tool):
        launcher = ("prlimit", "--nofile=24:24")

    one = Few(tmp_path / "few", type="http", url=server.url)
    try:
        rc, data, answer = one.read("f")
        assert (rc == 0 and data == server.content) or rc == -EIO, answer
    finally:
        one.close()
