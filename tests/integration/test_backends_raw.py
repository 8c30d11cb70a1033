"""Backends alone, without daemon and cache: backend_tool drives their ops against real servers and against one that lies.

The rule for every lie: an error or the right bytes, never wrong ones, and within a time that is known.
"""

import json
import os
import select
import subprocess
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import harness
from tests.servers.liar import LIES, Liar
from tests.servers.nginx import Nginx

TOOL = harness.BUILD / "tests/unit/backend_tool"
pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]

ENOENT, EIO, EACCES, EBUSY, ENOTDIR, ENOSPC, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 16, 20, 28, 71, 95, 116
RANGE, EXACT, CONDITIONAL, ALL = 1, 2, 4, 8
NAMES = [b"plain.txt", b"with space", b"100%", b"%41", b"a?b", b"a#b", b"a&b;c=d", b"q'uo\"te", b"<x>", b"back\\slash", b"new\nline",
         b"\xff\xfe", "é中".encode() * 20, b"n" * 255, b"a:b", b"+plus", b"~t", b"index.html", b"-", b"..."]
LISTED = {name for name in NAMES if not name.startswith(b".")}  # nginx leaves the others out, and still serves them
OLD = time.time() - 1000


class Tool:
    """One backend in a process of its own. Answers are dicts; paths str or bytes."""

    launcher = ()  # words before the program's own

    def __init__(self, folder, **conf):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "conf.yaml").write_text(json.dumps({"version": 1, "backends": {"b": conf}, "mappings": []}))
        env = harness.clean_environment()
        env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
        self.stderr = open(folder / "stderr", "wb+")
        self.process = subprocess.Popen([*self.launcher, TOOL, folder / "conf.yaml", "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.stderr, env=env)

    def __call__(self, op, path="", seconds=100, **more):
        request = {"op": op, "path": urllib.parse.quote(path), **more}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], seconds)[0]
        assert ready, f"{request}: no answer within {seconds} s"
        line = self.process.stdout.readline()
        assert line, f"{request}: the tool died: {self.errors()}"
        return json.loads(line.decode("utf-8", "surrogateescape"))

    def read(self, path, **more):
        """(rc, bytes or None, answer)"""
        out = self.folder / "out"
        answer = self("read", path, out=str(out), **more)
        return answer["rc"], out.read_bytes() if answer["rc"] == 0 else None, answer

    def names(self, path=""):
        answer = self("list", path)
        assert answer["rc"] == 0, answer
        return {urllib.parse.unquote_to_bytes(row["name"]): row for row in answer["names"]}

    def errors(self):
        self.stderr.seek(0)
        return self.stderr.read().decode(errors="replace")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        status = self.process.wait(60)
        text = self.errors()
        self.stderr.close()
        assert status == 0 and not any(mark in text for mark in harness.SANITIZER_MARKS), f"status {status}: {text}"

    def end(self):
        """close(), of one that a test may have killed."""
        if self.process.poll() is None:
            self.close()
        else:
            self.stderr.close()


@pytest.fixture
def tool(tmp_path):
    made = []

    def make(**conf):
        made.append(Tool(tmp_path / f"tool{len(made)}", **conf))
        return made[-1]

    yield make
    for one in made:
        one.close()


def fill(root, names=NAMES):
    root.mkdir()
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(root), name), "wb") as file:
            file.write(b"%d" % number * (number * 3000))
    (root / "sub").mkdir()
    (root / "sub/deep.txt").write_text("deep")
    (root / "d e").mkdir()
    (root / "d e/f").write_text("f")
    (root / "empty").touch()
    (root / "big").write_bytes(os.urandom(5_000_000))
    age(root)
    return root


def age(root):
    """Versions made of a time in seconds are not trusted in their first second."""
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            os.utime(os.path.join(folder, name), (OLD, OLD))


def all_equal(tool, root):
    """Every file below root by stat and read."""
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in folders:
            path = os.path.relpath(os.path.join(folder, name), os.fsencode(root))
            assert tool("stat", path)["type"] == "dir", path
        for name in names:
            full = os.path.join(folder, name)
            path = os.path.relpath(full, os.fsencode(root))
            with open(full, "rb") as file:
                content = file.read()
            rc, data, answer = tool.read(path)
            assert rc == 0, (path, answer)
            assert data == content, path
            assert answer["size"] == len(content)
            assert int(answer["mtime_ns"]) // 10**9 == int(OLD), path


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

LIMIT = 40.0  # seconds for one op on a loaded machine, for all lies but the slow ones


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
            assert rc == -MUST_FAIL[lie] and answer["why"], answer
    for off, size in ((0, 10), (1000, 3000), (99_999, 1)):
        rc, data, answer = http.read("file.bin", off=off, len=size)
        assert rc < 0 or data == liar.files["file.bin"][off:off + size], answer
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
        tools = [Tool(tmp_path / f"t{number}", type="http", url=f"{liar.url}/honest") for number in range(1)]
        version = tools[0]("stat", "f")["version"]
        tools[0].close()

        def at(number):
            one = Tool(tmp_path / f"n{number}", type="http", url=f"{liar.url}/reset-at={number}")
            try:
                rc, data, answer = one.read("f", expect={"size": 20, "version": version})
                assert rc in (-EIO, -EPROTO) or (rc == 0 and data == b"twenty bytes of text"), (number, answer)
                return rc
            finally:
                one.close()

        with ThreadPoolExecutor(12) as pool:
            results = list(pool.map(at, range(0, 300)))
        assert results[0] < 0 and results[-1] == 0


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


@pytest.mark.slow
def test_retry_after_is_bounded(tool):
    with Liar() as liar:
        for_ever = tool(type="http", url=f"{liar.url}/busy-429=,3600")
        begin = time.monotonic()
        answer = for_ever("stat", "small.txt")
        assert answer["rc"] == -EIO and "429" in answer["why"]
        assert time.monotonic() - begin < 100


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


# The proxy of a real Alluxio

ALLUXIO_NAMES = [name for name in NAMES if name not in (b"a?b", b"back\\slash", b"\xff\xfe", b"...")]


@pytest.fixture(scope="module")
def lake(alluxio_server):
    root = alluxio_server.ufs / "raw"
    if not root.exists():
        fill(root, ALLUXIO_NAMES)
    return alluxio_server


def proxy(tool, lake, **more):
    return tool(type="alluxio-proxy", url=lake.url, root="/raw", load_metadata_type="ALWAYS", sync_interval="0s", **more)


def test_alluxio_is_read_byte_for_byte(lake, tool):
    all_equal(proxy(tool, lake), lake.ufs / "raw")


def test_alluxio_listing(lake, tool):
    one = proxy(tool, lake)
    rows = one.names()
    assert set(rows) >= {*ALLUXIO_NAMES, b"sub", b"d e", b"empty", b"big"}
    for name in ALLUXIO_NAMES:
        stat = one("stat", name)
        assert {key: stat[key] for key in rows[name] if key != "name"} == {key: rows[name][key] for key in rows[name] if key != "name"}
        assert stat["mode"] == os.stat(os.path.join(os.fsencode(lake.ufs / "raw"), name)).st_mode & 0o7777
    assert one("list", "plain.txt")["rc"] == -ENOTDIR
    assert one("list", "nothing")["rc"] == -ENOENT
    assert one("stat", "nothing")["rc"] == -ENOENT
    assert one("stat", "plain.txt/x")["rc"] == -ENOTDIR
    assert one("stat", "")["type"] == "dir"
    assert one("caps")["caps"] & 0xff == EXACT | CONDITIONAL
    (lake.ufs / "raw/nobody").mkdir(exist_ok=True)
    assert one.names("nobody") == {}


def test_alluxio_parts_and_threads(lake, tool):
    one = proxy(tool, lake)
    content = (lake.ufs / "raw/big").read_bytes()
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
    path = lake.ufs / "raw/changing"
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

class StandIn(Liar):
    """Answers every request with what `script` (path -> Answer) says; a POST's body is skipped by closing."""

    def __init__(self, script):
        super().__init__({})
        self.script = script

    def _answer(self, connection, seen, earlier):
        from tests.servers.liar import Answer
        status, body, fields = self.script(seen, earlier)
        answer = Answer(status, body, {"Content-Length": len(body), "Connection": "close", **fields})
        connection.send(answer.head() + (b"" if seen.method == "HEAD" else body))
        from tests.servers.threads import Gone
        raise Gone


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
