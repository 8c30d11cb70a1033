"""Each server of this folder does what it says.  pytest tests/servers; needs nginx, and the installed Alluxio for its part."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from . import base
from .alluxio29 import Alluxio29
from .base import LOOPBACK, ServerError, port_open, wait_for
from .faultproxy import FaultProxy
from .liar import FOREIGN_HOST, LIES, Liar
from .nginx import Nginx
from .raw import exchange, parse

ODD_NAMES = [b"plain", b"a b", b"a%41", b"a?b", b"a;b", b"back\\slash", b'q"uote', b"new\nline", "\u00e9".encode(), b"\xff\xfe",
             b"a#b&c", b"x" * 200, b"tab\t", b"{x}$y"]


def get(url, **fields):
    """(status, head fields, body) of a GET."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in fields.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


# base

@pytest.mark.parametrize("tries, starts", [(1, 1), (2, 2), (3, 2)])
def test_what_does_not_get_ready_is_started_again(tmp_path, tries, starts):
    class Second(base.Server):
        """Ready when it is started for the second time."""

        name, start_seconds, start_tries = "second", 0.3, tries
        begun = 0

        @classmethod
        def missing(cls):
            return None

        def configure(self):
            self.begun += 1

        def commands(self):
            return [("sleep", ["sleep", "60"], None)]

        def ready(self):
            return self.begun == 2

    server = Second(tmp_path)
    try:
        if tries == 1:
            pytest.raises(ServerError, server.start)
        else:
            server.start()
    finally:
        server.stop()
    assert server.begun == starts


def test_a_taken_port_is_changed(tmp_path, monkeypatch):
    need(Nginx)
    with socket.create_server((LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        ports = [taken]
        monkeypatch.setattr("%s.free_port" % Nginx.__module__, lambda: ports.pop() if ports else base.free_port())
        with Nginx(tmp_path, folder=tmp_path / "server") as server:
            assert server.port != taken


def test_a_failed_start_shows_the_log(tmp_path):
    need(Nginx)
    server = Nginx(tmp_path, folder=tmp_path / "server", http_extra="no_such_directive on;")
    with pytest.raises(ServerError, match="no_such_directive"):
        server.start()
    assert not server.processes


def test_a_killed_test_leaves_no_server(tmp_path):
    need(Nginx)
    top = Path(__file__).resolve().parents[2]
    code = ("import sys, time; from tests.servers.nginx import Nginx\n"
            "server = Nginx(sys.argv[1], folder=sys.argv[2]).start(); print(server.port, flush=True); time.sleep(600)")
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path, tmp_path / "server"], cwd=top, stdout=subprocess.PIPE)
    port = int(child.stdout.readline())
    assert port_open(port)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    wait_for(lambda: not port_open(port), 5, "nginx ends with the test that started it")


def need(server):
    if server.missing():
        pytest.skip(server.missing())


# nginx

@pytest.fixture(scope="module")
def odd_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd")
    for name in ODD_NAMES:
        with open(os.fsencode(root) + b"/" + name, "wb") as out:
            out.write(b"content of " + name)
    return root


@pytest.mark.parametrize("charset", [None, "utf-8"])
def test_nginx_serves_every_byte_of_a_name(tmp_path, odd_root, charset):
    need(Nginx)
    with Nginx(odd_root, folder=tmp_path, charset=charset) as server:
        page = get(server.url + "/")[2]
        for name in ODD_NAMES:
            assert get(f"{server.url}/{urllib.parse.quote(name)}")[2] == b"content of " + name
            assert b'<a href="' + urllib.parse.quote(name).encode() + b'"' in page


def test_nginx_json_listing(tmp_path, odd_root):
    need(Nginx)
    with Nginx(odd_root, folder=tmp_path, autoindex="json") as server:
        rows = json.loads(get(server.url + "/")[2].decode("utf-8", "surrogateescape"))
        assert sorted(os.fsencode(row["name"]) for row in rows) == sorted(ODD_NAMES)


def test_nginx_logs_requests(tmp_path, odd_root):
    need(Nginx)
    with Nginx(odd_root, folder=tmp_path) as server:
        status, fields, body = get(server.url + "/plain", Range="bytes=3-5")
        assert (status, body, fields["Content-Range"]) == (206, b"ten", "bytes 3-5/16")
        assert fields["ETag"]
        get(server.url + "//%FF%FE?q=1")
        first, second = server.requests(at_least=2)
        assert (first.method, first.uri, first.status, first.bytes, first.range) == ("GET", "/plain", 206, 3, "bytes=3-5")
        assert (second.uri, second.status, second.range) == ("//%FF%FE?q=1", 200, "")
        assert first.connection != second.connection
        server.forget_requests()
        assert server.requests() == []


def test_nginx_asks_for_credentials(tmp_path, odd_root):
    need(Nginx)
    with Nginx(odd_root, folder=tmp_path / "basic", basic=("user", "pass")) as server:
        assert get(server.url + "/plain")[0] == 401
        assert get(server.url + "/plain", Authorization="Basic dXNlcjpwYXNz")[0] == 200
    with Nginx(odd_root, folder=tmp_path / "bearer", bearer="a.b-c") as server:
        assert get(server.url + "/plain", Authorization="Bearer other")[0] == 401
        assert get(server.url + "/plain", Authorization="Bearer a.b-c")[0] == 200


def test_nginx_tls(tmp_path, odd_root):
    need(Nginx)
    with Nginx(odd_root, folder=tmp_path, tls=True) as server:
        trusting = ssl.create_default_context(cafile=server.ca_file)
        with urllib.request.urlopen(server.url + "/plain", context=trusting) as answer:
            assert answer.read() == b"content of plain"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(server.url + "/plain", context=ssl.create_default_context())


# faultproxy, in front of the honest liar

@pytest.fixture
def proxied():
    with Liar() as liar, FaultProxy(liar.url) as proxy:
        yield liar, proxy


FILE = "/honest/file.bin"


def test_proxy_changes_nothing_by_itself(proxied):
    liar, proxy = proxied
    client = http.client.HTTPConnection(LOOPBACK, proxy.port, timeout=10)
    for _ in range(3):
        client.request("GET", FILE, headers={"Range": "bytes=4-7"})
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (206, b"\0\0\0\4")
    client.request("HEAD", FILE)
    assert client.getresponse().read() == b""
    client.close()
    assert proxy.count(FILE) == liar.count(FILE) == 4 and proxy.accepted == liar.accepted == 1
    assert get(proxy.url + "/no-length/small.txt")[2] == b"twenty bytes of text"
    assert proxy.requests()[0].fields["range"] == "bytes=4-7"


def test_proxy_passes_uploads_and_chunks(tmp_path):
    """PUT with Expect, and chunked both ways, against nginx's dav module."""
    need(Nginx)
    data = os.urandom(300_000)
    with Nginx(tmp_path / "root", folder=tmp_path / "server", location_extra="dav_methods PUT;") as server:
        server.root.mkdir()
        with FaultProxy(server.url) as proxy:
            client = http.client.HTTPConnection(LOOPBACK, proxy.port, timeout=10)
            client.request("PUT", "/chunked", body=iter([data[:7], data[7:]]), encode_chunked=True,
                           headers={"Transfer-Encoding": "chunked"})
            assert client.getresponse().read() == b""
            client.close()
            with socket.create_connection((LOOPBACK, proxy.port), timeout=10) as raw:
                raw.sendall(b"PUT /expected HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
                assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
                raw.sendall(b"abc")
                assert raw.recv(1000).startswith(b"HTTP/1.1 201 ")
            assert (server.root / "chunked").read_bytes() == data and (server.root / "expected").read_bytes() == b"abc"
            assert get(proxy.url + "/")[2].endswith(b"</html>\r\n")  # chunked by nginx


def test_proxy_breaks_answers(proxied):
    _, proxy = proxied
    proxy.fault("/honest/", reset_after=1000)
    assert exchange(proxy.port, FILE)[1] == "reset" and len(exchange(proxy.port, FILE)[0]) == 1000
    proxy.fault("/honest/", close_after=500, body=True)
    data, end = exchange(proxy.port, FILE)
    assert end == "closed" and len(parse(data).body) == 500
    proxy.fault("/honest/", stall_after=60_000)
    data, end = exchange(proxy.port, FILE, quiet=0.2)
    assert end == "silent" and len(data) == 60_000
    proxy.fault("/honest/", close_unanswered=True)
    assert exchange(proxy.port, FILE) == (b"", "closed")
    proxy.heal()
    assert len(get(proxy.url + FILE)[2]) == 100_000


def test_proxy_answers_itself_before_or_after_the_work(proxied):
    liar, proxy = proxied
    client = http.client.HTTPConnection(LOOPBACK, proxy.port, timeout=10)
    for done, asked in ((False, 0), (True, 1)):
        proxy.fault("/honest/", status=503, fields={"Retry-After": "0"}, done=done, times=1)
        client.request("GET", FILE)
        answer = client.getresponse()
        assert (answer.status, answer.headers["Retry-After"], answer.read(), liar.count(FILE)) == (503, "0", b"", asked)
    proxy.fault("/honest/", status=500, times=1)
    client.request("PUT", FILE, body=b"x" * 300_000)
    assert client.getresponse().read() == b""
    client.request("GET", FILE)  # on the same connection
    assert len(client.getresponse().read()) == 100_000
    client.close()
    assert proxy.accepted == 1


def test_proxy_faults_are_chosen_by_prefix_method_and_times(proxied):
    _, proxy = proxied
    proxy.fault("/", reset_after=0, times=2)
    proxy.fault("/honest/small", method="HEAD", close_unanswered=True)
    ends = [exchange(proxy.port, FILE)[1] for _ in range(3)]
    assert ends == ["reset", "reset", "silent"]
    assert get(proxy.url + "/honest/small.txt")[0] == 200
    assert exchange(proxy.port, "/honest/small.txt", method="HEAD") == (b"", "closed")


@pytest.mark.alone
def test_proxy_delays_and_limits(proxied):
    _, proxy = proxied
    proxy.fault("/honest/small", delay=0.15)
    proxy.fault("/honest/file", rate=400_000)
    begin = time.monotonic()
    get(proxy.url + "/honest/small.txt")
    assert 0.15 <= time.monotonic() - begin < 1
    begin = time.monotonic()
    assert len(get(proxy.url + FILE)[2]) == 100_000
    assert 0.24 < time.monotonic() - begin < 1


def test_proxy_can_be_a_dead_host(proxied):
    _, proxy = proxied
    with socket.create_connection((LOOPBACK, proxy.port)) as idle:
        wait_for(lambda: proxy.accepted, 5)
        proxy.down()
        assert idle.recv(1) == b"" and not port_open(proxy.port)
    proxy.up()
    assert get(proxy.url + FILE)[0] == 200


def test_proxy_tunnels(proxied):
    liar, _ = proxied
    with FaultProxy(liar.url, tcp=True) as proxy:
        assert get(proxy.url + "/honest/small.txt")[2] == b"twenty bytes of text"
        proxy.fault("*", reset_after=300)
        data, end = exchange(proxy.port, FILE)
        assert (len(data), end) == (300, "reset")


# liar: seen by a raw socket, since a client library would hide some of it

SMALL = b"twenty bytes of text"


@pytest.fixture(scope="module")
def liar():
    with Liar() as server:
        yield server


def ask(liar, path, method="GET", quiet=0.3, **fields):
    data, end = exchange(liar.port, path, method, quiet, {"Connection": "close", **fields})
    return parse(data), end


def test_liar_can_be_honest(liar):
    answer, end = ask(liar, "/honest/small.txt", Connection="keep-alive")
    assert (answer.status, answer.body, end) == (200, SMALL, "silent")
    etag = answer.fields["etag"]
    assert ask(liar, "/honest/small.txt", "HEAD")[0].fields["content-length"] == "20"
    part = ask(liar, "/honest/small.txt", Range="bytes=-4", If_Range=etag)[0]
    assert (part.status, part.body, part.fields["content-range"]) == (206, b"text", "bytes 16-19/20")
    assert ask(liar, "/honest/small.txt", Range="bytes=0-3", If_Range='"other"')[0].status == 200
    assert ask(liar, "/honest/small.txt", Range="bytes=20-")[0].fields["content-range"] == "bytes */20"
    assert ask(liar, "/honest/small.txt", If_Match='"other"')[0].status == 412
    assert ask(liar, "/honest/small.txt", If_None_Match=etag)[0].status == 304
    assert ask(liar, "/honest/nothing")[0].status == 404
    assert hrefs(ask(liar, "/honest/")[0]) == ["d/", "empty", "file.bin", "small.txt"]
    assert hrefs(ask(liar, "/honest/d/")[0]) == ["deep.txt"]


def hrefs(answer):
    return [part.partition('"')[0] for part in answer.body.decode().split('<a href="')[2:]]


def test_liar_json_page():
    with Liar(autoindex="json") as server:
        rows = json.loads(ask(server, "/honest/")[0].body)
        assert [(row["name"], row["type"], row.get("size")) for row in rows] == [
            ("d", "directory", None), ("empty", "file", 0), ("file.bin", "file", 100_000), ("small.txt", "file", 20)]


def _changes(read):
    return len({read() for _ in range(3)}) == 3


BODY_CHECKS = {
    "short-body": lambda a, end: a.length == 20 and a.body == SMALL[:10] and end == "closed",
    "long-body=5": lambda a, end: a.length == 20 and a.body == SMALL + b"!!!!!" and end == "closed",
    "endless-body": lambda a, end: a.length is None and len(a.body) > 1_000_000 and end == "limit",
    "endless-body=chunked": lambda a, end: a.fields["transfer-encoding"] == "chunked" and end == "limit",
    "no-length": lambda a, end: a.length is None and a.body == SMALL and end == "closed",
    "cut-chunks": lambda a, end: a.body == b"a\r\n" + SMALL[:10] + b"\r\n" and end == "closed",
    "reset-at=30": lambda a, end: a.total == 30 and end == "reset",
    "stall-at=30": lambda a, end: a.total == 30 and end == "silent",
    "slow=0.001": lambda a, end: a.body == SMALL and a.pieces > 30,
    "unanswered": lambda a, end: a.total == 0 and end == "closed",
    "no-etag": lambda a, end: "etag" not in a.fields and a.body == SMALL,
    "weak-etag": lambda a, end: a.fields["etag"].startswith('W/"') and a.body == SMALL,
    "html-error": lambda a, end: a.status == 200 and a.body.startswith(b"<html>"),
    "big-head": lambda a, end: a.total > 10_000_000 and a.body == SMALL,
    "gzip-label": lambda a, end: a.fields["content-encoding"] == "gzip" and a.body == SMALL,
    "clock-skew": lambda a, end: int(a.fields["date"].split()[3]) > time.gmtime().tm_year,
    "busy-429": lambda a, end: a.status == 429 and a.fields["retry-after"] == "1",
    "busy-503=9,7": lambda a, end: a.status == 503 and a.fields["retry-after"] == "7",
    "busy-date": lambda a, end: a.status == 503 and a.fields["retry-after"].endswith(" GMT"),
    "redirect-loop": lambda a, end: a.status == 302 and a.fields["location"] == "/redirect-loop/small.txt?hop=1",
    "redirect-foreign": lambda a, end: a.status == 302 and a.fields["location"].startswith(f"http://{FOREIGN_HOST}:"),
}


@pytest.mark.parametrize("lie", BODY_CHECKS)
def test_liar_lies_about_a_file(liar, lie):
    answer, end = ask(liar, f"/{lie}/small.txt")
    assert BODY_CHECKS[lie](answer, end), (answer, end)


RANGE_CHECKS = {
    "ignore-range": lambda a: a.status == 200 and a.length == 100_000,
    "wrong-range=start": lambda a: a.fields["content-range"] == "bytes 9-12/100000" and a.body == b"\0\0\0\x08",
    "wrong-range=total": lambda a: a.fields["content-range"] == "bytes 8-11/100001",
    "wrong-range=body": lambda a: a.fields["content-range"] == "bytes 8-11/100000" and a.body == b"\0\0\x08\0",
    "wrong-range=whole": lambda a: a.status == 206 and a.length == len(a.body) == 100_000,
    "wrong-range=missing": lambda a: a.status == 206 and "content-range" not in a.fields,
}


@pytest.mark.parametrize("lie", RANGE_CHECKS)
def test_liar_lies_about_a_range(liar, lie):
    assert RANGE_CHECKS[lie](ask(liar, f"/{lie}/file.bin", Range="bytes=8-11")[0])


def test_liar_lies_that_change(liar):
    assert _changes(lambda: ask(liar, "/changing-etag/small.txt")[0].fields["etag"])
    assert _changes(lambda: ask(liar, "/changing-bytes/small.txt")[0].body)
    assert _changes(lambda: ask(liar, "/changing-bytes/small.txt", "HEAD")[0].fields["etag"])
    assert ask(liar, "/head-differs/small.txt", "HEAD")[0].length == 21
    assert ask(liar, "/head-differs/small.txt")[0].length == 20
    assert [ask(liar, "/busy-503=2/d/deep.txt")[0].status for _ in range(3)] == [503, 503, 200]
    assert [ask(liar, "/redirect-loop=1/d/deep.txt")[0].status for _ in range(2)] == [302, 200]


def test_liar_shows_who_followed_to_the_foreign_host(liar):
    assert get(liar.url + "/redirect-foreign/small.txt", Authorization="Bearer x")[2] == SMALL
    seen = liar.requests()[-1]
    assert (seen.host, seen.path, seen.fields["authorization"]) == (FOREIGN_HOST, "/honest/small.txt", "Bearer x")


TRUE_NAMES = ["d/", "empty", "file.bin", "small.txt"]
FOLDER_CHECKS = {
    "list-repeat": lambda a, end: hrefs(a) == [name for name in TRUE_NAMES for _ in range(3)],
    "list-unsorted": lambda a, end: sorted(hrefs(a)) == TRUE_NAMES,
    "list-loop": lambda a, end: hrefs(a) == TRUE_NAMES + ["loop/"],
    "list-outside": lambda a, end: {"../../up.txt", "//etc/passwd", "small.txt"} < set(hrefs(a)),
    "list-cut": lambda a, end: a.length == len(a.body) and b"</html>" not in a.body,
    "list-sizes": lambda a, end: b" 21\r\n" in a.body and b" 100001\r\n" in a.body,
    "list-many=3": lambda a, end: hrefs(a)[-1] == "many-0000002",
    "list-endless": lambda a, end: len(hrefs(a)) > 10_000 and end == "limit",
    "list-changing": lambda a, end: set(hrefs(a)) <= set(TRUE_NAMES),
    "list-html-error": lambda a, end: a.status == 200 and b"502" in a.body,
    "xml-bomb": lambda a, end: a.body.startswith(b"<?xml") and len(a.body) < 2000,
}


@pytest.mark.parametrize("lie", FOLDER_CHECKS)
def test_liar_lies_about_a_folder(liar, lie):
    answer, end = ask(liar, f"/{lie}/")
    assert FOLDER_CHECKS[lie](answer, end), (answer, end)


def test_liar_loops_for_ever(liar):
    assert hrefs(ask(liar, "/list-loop/loop/loop/loop/")[0])[-1] == "loop/"
    assert ask(liar, "/list-loop/loop/loop/small.txt")[0].body == SMALL
    orders = {tuple(hrefs(ask(liar, "/list-unsorted/")[0])) for _ in range(8)}
    assert len(orders) > 1


def test_every_lie_is_observed_here():
    others = {"honest", "changing-etag", "changing-bytes", "head-differs"}
    tested = {lie.partition("=")[0] for checks in (BODY_CHECKS, RANGE_CHECKS, FOLDER_CHECKS) for lie in checks}
    assert tested | others == set(LIES)
    assert all(lie.function.__doc__ for lie in LIES.values())


# alluxio

@pytest.fixture(scope="module")
def alluxio(tmp_path_factory):
    need(Alluxio29)
    with Alluxio29(folder=tmp_path_factory.mktemp("alluxio")) as server:
        yield server


def test_alluxio_serves_the_under_store(alluxio):
    folder = alluxio.ufs / "caf\u00e9 #1"
    folder.mkdir()
    data = os.urandom(70_000)
    (folder / "a b%41").write_bytes(data)
    path = "/caf\u00e9 #1/a b%41"
    status, _, body = alluxio.request("POST", path, "get-status")
    info = json.loads(body)
    assert status == 200
    assert (info["path"], info["length"], info["folder"], info["completed"]) == (path, len(data), False, True)
    rows = json.loads(alluxio.request("POST", "/caf\u00e9 #1", "list-status")[2])
    assert [(row["name"], row["length"]) for row in rows] == [("a b%41", len(data))]
    assert alluxio.request("GET", path, "download-file")[2] == data


def test_alluxio_says_not_found(alluxio):
    status, _, body = alluxio.request("POST", "/nothing", "get-status")
    assert status == 500 and json.loads(body)["statusCode"] == "NOT_FOUND"
    assert alluxio.request("POST", "/nothing", "exists")[2] == b"false"
    assert alluxio.request("GET", "/nothing", "download-file")[0] == 500


def test_alluxio_stops_what_it_started(tmp_path):
    """With its worker dead it is not alive, and stop() still ends the rest."""
    need(Alluxio29)
    with Alluxio29(folder=tmp_path) as server:
        pids = [process.pid for process in server.processes]
        assert len(pids) == 3 and server.alive()
        server.process("worker").kill()
        assert not server.alive()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
