"""Backends alone, without daemon and cache: backend_tool drives their ops against real servers and against one that lies.

The rule for every lie: an error or the right bytes, never wrong ones, and within a time that is known.
"""

import json
import os
import queue
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.backends_raw_rig import (  # noqa: F401 (a fixture)
    CONDITIONAL, EACCES, EIO, ENOENT, ENOSPC, ENOTDIR, EOPNOTSUPP, EPROTO, ESTALE, LISTED, OLD, RANGE,
    TOOL, StandIn, Tool, all_equal, fill, tool)
from tests.servers.liar import LIES, Liar
from tests.servers.nginx import Nginx

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


# nginx

@pytest.fixture(scope="module", params=["html", "json"])
def web(request, tmp_path_factory):
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    root = fill(tmp_path_factory.mktemp("web") / "root")
    with Nginx(root, autoindex=request.param, server_extra="index .none;") as server:
        yield server


def test_nginx_is_read_byte_for_byte(web, tool):
    http = tool(type="http", url=web.url)
    all_equal(http, web.root)


def test_nginx_listing(web, tool):
    http = tool(type="http", url=web.url + "/")
    rows = http.names()
    assert set(rows) == {*LISTED, b"sub", b"d e", b"empty", b"big"}
    for name, row in rows.items():
        full = os.path.join(os.fsencode(web.root), name)
        assert row["type"] == ("dir" if os.path.isdir(full) else "file")
        if row["type"] == "file":
            assert row["size"] == os.path.getsize(full)
            assert row["mtime_rough"] == (web.autoindex == "html")
            assert abs(int(row["mtime_ns"]) // 10**9 - int(OLD)) < (60 if row["mtime_rough"] else 1)
    assert set(http.names("sub")) == {b"deep.txt"}
    assert set(http.names("d e")) == {b"f"}
    assert http("list", "plain.txt")["rc"] == -ENOTDIR
    assert http("list", "nothing")["rc"] == -ENOENT
    assert http("list", "", stop_after=3)["rc"] == -4
    assert http("caps")["caps"] == RANGE | CONDITIONAL


def test_nginx_stat_errors(web, tool):
    http = tool(type="http", url=web.url)
    assert http("stat", "")["type"] == "dir"
    for path in ("nothing", "nothing/x", "plain.txt/x", "sub/nothing", "n" * 300, "x/" * 60 + "x"):
        answer = http("stat", path)
        assert answer["rc"] == -ENOENT and "404" in answer["why"], (path, answer)
    assert http("stat", "/".join(["%" * 250] * 50))["rc"] == -EOPNOTSUPP


def test_nginx_parts_and_threads(web, tool):
    http = tool(type="http", url=web.url)
    content = (web.root / "big").read_bytes()
    for off, size in ((0, 1), (1, 1), (4_999_999, 1), (12345, 2_000_000), (0, 5_000_000)):
        rc, data, _ = http.read("big", off=off, len=size)
        assert rc == 0 and data == content[off:off + size]
    answer = http("read", "big", out=str(http.folder / "many"), threads=12, slow_ms=1)
    assert answer["rc"] == 0, answer
    for number in range(12):
        assert (http.folder / f"many.{number}").read_bytes() == content
    assert http("read", "big", out=str(http.folder / "out"), fail_at=2_000_000)["rc"] == -ENOSPC
    assert http.read("big")[1] == content  # a sink that fails spoils nothing for the next


def test_connections_are_reused_and_bounded(web, tool):
    http = tool(type="http", url=web.url)
    web.forget_requests()
    for _ in range(20):
        assert http("stat", "plain.txt")["rc"] == 0
    ours = web.requests(at_least=20)[-20:]  # a line of the request before may come late: nginx logs after it has answered
    assert len({request.connection for request in ours}) == 1
    assert all(request.user_agent.startswith("prelux/") for request in web.requests())
    web.forget_requests()
    answer = http("read", "big", out=str(http.folder / "many"), threads=40, slow_ms=20)
    assert answer["rc"] == 0
    assert len({request.connection for request in web.requests(at_least=41) if request.method == "GET"}) <= 16


def test_slow_sinks_hold_up_nobody_else(web, tool):
    """32 readers whose sinks sleep need all places for reads twice; a stat by the same engine does not queue behind them."""
    http = tool(type="http", url=web.url)
    answer = http("read", "big", out=str(http.folder / "slow"), threads=32, slow_ms=250, meanwhile="plain.txt")
    assert answer["rc"] == 0 and answer["ms"] > 1000
    assert 0 <= answer["meanwhile_ms"] < answer["ms"] / 2, answer


def test_changed_between_stat_and_read(web, tool):
    http = tool(type="http", url=web.url)
    path = web.root / "changing"
    path.write_bytes(b"old bytes")
    os.utime(path, (OLD, OLD))
    before = http("stat", "changing")
    path.write_bytes(b"new bytes")
    os.utime(path, (OLD + 5, OLD + 5))
    expect = {"size": before["size"], "version": before["version"]}
    for part in ({}, {"off": 2, "len": 3}):
        answer = http("read", "changing", out=str(http.folder / "out"), expect=expect, **part)
        assert answer["rc"] == -ESTALE, answer
    assert http("stat", "changing")["version"] != before["version"]
    path.unlink()
    assert http("read", "changing", out=str(http.folder / "out"), expect=expect)["rc"] == -ENOENT


def test_two_changes_within_a_second(web, tool):
    """nginx gives both the same ETag; they must not get the same version, or the first's bytes would stay for ever."""
    http = tool(type="http", url=web.url)
    path = web.root / "twice"
    path.write_bytes(b"one")
    first = http("stat", "twice")
    path.write_bytes(b"two")
    second = http("stat", "twice")
    path.unlink()
    assert first["version"] != second["version"]


def test_no_listing(tmp_path, tool):
    root = fill(tmp_path / "root")
    with Nginx(root, server_extra="index index.html;") as server:
        none = tool(type="http", url=server.url, index="none")
        assert none("list", "")["rc"] == -EOPNOTSUPP
        assert none.read("plain.txt")[0] == 0
        (root / "sub/index.html").write_text("<html><title>Shop</title><a href=x>x</a></html>")
        auto = tool(type="http", url=server.url)
        answer = auto("list", "sub")
        assert answer["rc"] == -EOPNOTSUPP and "listing" in answer["why"]
        assert auto.read("sub/deep.txt")[1] == b"deep"
        assert auto("stat", "sub")["type"] == "dir"
    config = "location /dark/ { alias %s/; }" % root
    with Nginx(root, server_extra=config) as server:
        dark = tool(type="http", url=server.url + "/dark")
        answer = dark("list", "d e")
        assert answer["rc"] == -EACCES and "autoindex" in answer["advice"]
        assert dark.read("sub/deep.txt")[1] == b"deep"


def test_credentials(tmp_path, tool):
    root = fill(tmp_path / "root", [b"f"])
    with Nginx(root, bearer="t0p-s3cret") as server:
        assert tool(type="http", url=server.url, bearer="t0p-s3cret").read("sub/deep.txt")[1] == b"deep"
        assert tool(type="http", url=server.url, headers={"Authorization": "Bearer t0p-s3cret"}).names()
        wrong = tool(type="http", url=server.url, bearer="wr0ng-s3cret")
        for answer in (wrong("stat", "f"), wrong("list", ""), wrong.read("f")[2], wrong("stat", "nothing")):
            assert answer["rc"] == -EACCES
            assert "s3cret" not in json.dumps(answer)
        assert wrong("stat", "f")["why"].endswith("HTTP 401")
    with Nginx(root, basic=("user", "pa55")) as server:
        inside = server.url.replace("://", "://user:pa55@")
        good = tool(type="http", url=inside)
        assert good.read("sub/deep.txt")[1] == b"deep"
        assert "pa55" not in json.dumps([good("identity"), good("stat", "nothing"), good("list", "nothing")])
        assert good("identity")["identity"] == tool(type="http", url=server.url + "/")("identity")["identity"]


def test_tls(tmp_path, tool):
    root = fill(tmp_path / "root", [b"f"])
    with Nginx(root, tls=True) as server:
        good = tool(type="http", url=server.url, tls={"ca_file": str(server.ca_file)})
        assert good.read("big")[1] == (root / "big").read_bytes()
        bad = tool(type="http", url=server.url)
        answer = bad("stat", "f")
        assert answer["rc"] == -EIO and "tls.ca_file" in answer["advice"]
        assert answer["ms"] < 2000  # not worth a second try
        assert tool(type="http", url=server.url, tls={"insecure": True}).read("big")[0] == 0


def test_nobody_listens(tool):
    with Liar() as liar:
        url = liar.url
    dead = tool(type="http", url=url)
    for answer in (dead("stat", "f"), dead("list", ""), dead("read", "f", out="/dev/null", expect={"size": 3, "version": 'e:"x"'})):
        assert answer["rc"] == -EIO and answer["why"] and answer["ms"] < 5000
    nowhere = tool(type="http", url="http://no-such-host.invalid/")
    assert nowhere("stat", "f", seconds=60)["rc"] == -EIO


# The liar

LIMIT = 100.0  # seconds for one op, sanitized and on a loaded machine too, for all lies but the slow ones


@pytest.fixture(scope="module")
def liar():
    with Liar() as server:
        yield server


ARGUMENTS = {"wrong-range": ["=start", "=total", "=whole", "=missing"], "endless-body": ["", "=chunked"], "long-body": ["=1", "=100000"],
             "reset-at": ["=0", "=20", "=300", "=400", "=5000"], "busy-429": ["=1,0", "=3,0"], "busy-503": ["=2,0"],
             "head-differs": ["=1", "=100000", "=-1"], "clock-skew": ["=365", "=-365"], "busy-date": ["=1,1"]}
# "wrong-range=body" says the right range of the right version and sends other bytes: without a checksum nobody can know.
FILE_LIES = [name + argument for name, lie in LIES.items() if lie.about != "folder" and name not in ("slow", "stall-at")
             for argument in ARGUMENTS.get(name, [""])]
MUST_READ = ("honest", "no-length", "no-etag", "weak-etag", "gzip-label", "busy-429=1,0", "busy-429=3,0", "busy-503=2,0",
             "redirect-foreign", "list-loop", "long-body=1", "clock-skew=365", "ignore-range")
MUST_FAIL = {"short-body": EPROTO, "endless-body": EPROTO, "endless-body=chunked": EPROTO, "cut-chunks": EPROTO, "unanswered": EIO,
             "changing-etag": ESTALE, "changing-bytes": ESTALE, "head-differs=1": EPROTO, "html-error": EPROTO, "big-head": EPROTO,
             "redirect-loop": EPROTO, "reset-at=0": EIO}


def read_again(http, *args, **more):
    """Lengths that differ where the versions do not are a lie when told three times: before, the object may be just being replaced."""
    for _ in range(4):
        rc, data, answer = http.read(*args, **more)
        if rc != -ESTALE:
            break
    return rc, data, answer


@pytest.mark.parametrize("lie", FILE_LIES)
def test_a_liar_gives_right_bytes_or_an_error(lie, liar, tool):
    http = tool(type="http", url=f"{liar.url}/{lie}")
    for name, content in liar.files.items():
        rc, data, answer = http.read(name)
        assert answer["ms"] < LIMIT * 1000, answer
        assert rc < 0 or data == content, answer
        assert rc <= 0, "bytes out of order"
        if lie in MUST_READ:
            assert rc == 0, answer
        if lie in MUST_FAIL and name == "file.bin":
            if lie == "head-differs=1":
                rc, _, answer = read_again(http, name)
            assert rc == -MUST_FAIL[lie] and answer["why"], answer
    for off, size in ((0, 10), (1000, 3000), (99_999, 1)):
        rc, data, answer = http.read("file.bin", off=off, len=size)
        assert rc < 0 or data == liar.files["file.bin"][off:off + size], answer
        if lie == "wrong-range=total":
            rc, _, answer = read_again(http, "file.bin", off=off, len=size)
        if lie.startswith("wrong-range") or lie == "ignore-range":
            assert rc == -EPROTO, answer


@pytest.mark.parametrize("autoindex", ["html", "json"])
@pytest.mark.parametrize("lie", [name for name, lie in LIES.items() if lie.about == "folder"])
def test_a_lying_folder(lie, autoindex, liar, tool):
    liar.autoindex = autoindex
    http = tool(type="http", url=f"{liar.url}/{lie}")
    begin = time.monotonic()
    answer = http("list", "")
    assert time.monotonic() - begin < LIMIT
    names = [urllib.parse.unquote_to_bytes(row["name"]) for row in answer["names"]]
    assert not any(b"/" in name or b"\0" in name or name in (b"", b".", b"..") for name in names)
    if lie in ("list-cut", "list-endless", "list-html-error", "xml-bomb"):
        assert answer["rc"] < 0
    if lie == "list-outside":
        assert set(names) <= {b"small.txt"}
    if lie == "list-many":
        assert answer["rc"] == 0 and len(names) == 100_004
    if lie in ("list-repeat", "list-unsorted", "list-sizes"):
        assert set(names) == {b"d", b"empty", b"file.bin", b"small.txt"}
    if lie == "list-sizes":  # a listing's size is nobody's truth but the listing's
        assert http.read("small.txt")[1] == liar.files["small.txt"]


@pytest.mark.slow
@pytest.mark.limit(300)
def test_reset_at_each_byte(tmp_path):
    """An answer that ends by RST after any number of its bytes."""
    with Liar({"f": b"twenty bytes of text"}) as liar:
        tools = [Tool(tmp_path / f"t{number}", type="http", url=liar.url) for number in range(12)]
        version = tools[0]("stat", "honest/f")["version"]
        free = queue.SimpleQueue()

        def at(number):
            one = free.get()
            try:
                rc, data, answer = one.read(f"reset-at={number}/f", expect={"size": 20, "version": version})
                assert rc in (-EIO, -EPROTO) or (rc == 0 and data == b"twenty bytes of text"), (number, answer)
                return rc
            finally:
                free.put(one)

        for one in tools:
            free.put(one)
        try:
            with ThreadPoolExecutor(len(tools)) as pool:
                results = list(pool.map(at, range(0, 300)))
            assert results[0] < 0 and results[-1] == 0
        finally:
            for one in tools:
                one.close()


def test_a_broken_read_goes_on_where_it_stopped(tool):
    """Each answer breaks after some bytes: the next request asks for the rest of the same version."""
    content = bytes(range(256)) * 400
    with Liar({"f": content}) as liar:
        http = tool(type="http", url=f"{liar.url}/reset-at=40000")
        rc, data, answer = http.read("f")
        assert rc == 0 and data == content, answer
        asked = [seen.fields for seen in liar.requests() if seen.method == "GET"]
        assert len(asked) > 1 and all("if-match" in fields for fields in asked)
        assert "range" not in asked[0] and asked[1]["range"].endswith(f"-{len(content) - 1}")


def test_without_validators_only_whole_reads(tool):
    class Bare(Liar):
        def _answer(self, connection, seen, earlier):
            from tests.servers.liar import Exchange
            x = Exchange(self, connection, seen, "", "f", earlier)
            answer = x.honest()
            for field in ("ETag", "Last-Modified"):
                answer.fields.pop(field, None)
            x.send(answer)

    with Bare({"f": b"x" * 1000}) as server:
        http = tool(type="http", url=server.url + "/honest")
        one, two = http("stat", "f"), http("stat", "f")
        assert one["version"] != two["version"]
        assert http.read("f")[1] == b"x" * 1000
        assert http.read("f", off=1, len=2)[0] == -EOPNOTSUPP


OTHER = "Wed, 04 Mar 2020 10:00:00 GMT"
FIRST = "Tue, 03 Mar 2020 10:00:00 GMT"


@pytest.mark.parametrize("head, get", [
    ({"ETag": '"a"'}, {"ETag": '"b"'}), ({"ETag": '"a"'}, {}), ({"ETag": '"a"'}, {"ETag": 'W/"a"'}),
    ({"ETag": '"a"', "Last-Modified": FIRST}, {"Last-Modified": FIRST}),
    ({"Last-Modified": FIRST}, {"Last-Modified": OTHER}), ({"Last-Modified": FIRST}, {}),
    ({"Last-Modified": FIRST, "ETag": 'W/"a"'}, {"Last-Modified": FIRST, "ETag": 'W/"b"'})])
def test_a_server_that_knows_no_conditions(head, get, tool):
    """It answers 200 or 206 to If-Match, with bytes of another version: what the answer says of itself gives it away."""
    def script(seen, earlier):
        body = b"0123456789"
        if seen.method == "HEAD":
            return 200, body, head
        if "range" in seen.fields:
            return 206, body[2:5], {**get, "Content-Range": "bytes 2-4/10"}
        return 200, body, get

    with StandIn(script) as server:
        http = tool(type="http", url=server.url)
        assert http.read("f")[0] == -ESTALE
        assert http.read("f", off=2, len=3)[0] == -ESTALE


def test_every_read_is_conditional(web, tool):
    http = tool(type="http", url=web.url)
    web.forget_requests()
    assert http.read("big")[0] == 0 and http.read("big", off=5, len=5)[0] == 0
    reads = [request for request in web.requests(at_least=4) if request.method == "GET"]
    assert len(reads) == 2 and all(request.if_match.startswith('"') for request in reads)


def test_no_secret_goes_to_a_foreign_host(tool):
    with Liar() as liar:
        http = tool(type="http", url=f"{liar.url}/redirect-foreign", bearer="s3cret", headers={"X-Key": "s3cret", "Cookie": "s3cret"})
        assert http.read("small.txt")[1] == liar.files["small.txt"]
        there = [seen for seen in liar.requests() if seen.host == "127.0.0.2"]
        here = [seen for seen in liar.requests() if seen.host == "127.0.0.1"]
        assert there and here
        assert all("s3cret" in json.dumps(seen.fields) for seen in here)
        assert not any("s3cret" in json.dumps(seen.fields) for seen in there)
        assert any("if-match" in seen.fields for seen in there)


@pytest.mark.parametrize("lie", ["busy-503=1,2", "busy-date=1,2"])
def test_retry_after_is_honoured(lie, tool):
    with Liar() as liar:
        waiting = tool(type="http", url=f"{liar.url}/{lie}")
        begin = time.monotonic()
        assert waiting("stat", "small.txt")["rc"] == 0
        assert 0.9 < time.monotonic() - begin < 20


@pytest.mark.waits
@pytest.mark.slow
def test_retry_after_is_bounded(tool):
    with Liar() as liar:
        for_ever = tool(type="http", url=f"{liar.url}/busy-429=,3600")
        begin = time.monotonic()
        answer = for_ever("stat", "small.txt")
        assert answer["rc"] == -EIO and "429" in answer["why"]
        assert time.monotonic() - begin < 100


@pytest.mark.waits
@pytest.mark.slow
@pytest.mark.limit(200)
def test_a_server_that_stalls_or_dribbles(tmp_path):
    """30 s without progress are the limit of an attempt; nobody waits for ever."""
    def try_one(lie):
        one = Tool(tmp_path / lie, type="http", url=f"{liar.url}/{lie}")
        try:
            begin = time.monotonic()
            answer = one("read", "file.bin", seconds=180, out=str(one.folder / "out"), expect={"size": 100_000, "version": version})
            return lie, answer, time.monotonic() - begin
        finally:
            one.close()

    with Liar() as liar:
        probe = Tool(tmp_path / "probe", type="http", url=f"{liar.url}/honest")
        version = probe("stat", "file.bin")["version"]
        probe.close()
        with ThreadPoolExecutor(4) as pool:
            for lie, answer, seconds in pool.map(try_one, ("stall-at=10", "slow=0.5")):
                assert answer["rc"] == -EIO, (lie, answer)
                assert 25 < seconds < 170, (lie, seconds)
