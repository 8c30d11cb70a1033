"""For tests that start a preluxd of their own and speak its wire protocol."""

import http.server
import subprocess
import threading

import pytest

from tests import wire
from tests.harness import wait_for


def start(prelux, *args, wait=True, **popen):
    """A daemon of this test's runtime folder, ready."""
    popen.setdefault("env", prelux.env)
    child = subprocess.Popen([str(prelux.daemon_exe), "--runtime", str(prelux.runtime), *args], stdin=subprocess.DEVNULL, **popen)
    prelux._children.append(child)
    if wait:
        wait_for(lambda: prelux.daemon_pid() == child.pid, 60, "preluxd listens")
    return child


def tables(prelux):
    return sorted(p.name for p in (prelux.runtime / "tables").glob("*") if len(p.name) == 32)


def data(tmp, **files):
    folder = tmp / "data"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def served(prelux):
    """A daemon with one table: prelux, table hash, source folder."""
    source = data(prelux.tmp, one="1", two="22")
    prelux.file_mapping(source)
    start(prelux)
    answer = wire.register(prelux.runtime, prelux.config_path)
    assert answer.status == 0, answer.texts
    return prelux, answer.table, source


class Slow:
    """An HTTP server whose answers to GET wait for `delay` seconds (a number, or function of the path) or until the gate is open; it counts them.
    `token`: what Authorization must say. `names`: what the listing of / has, which does not wait."""

    def __init__(self, delay, token=None, names=()):
        outer = self
        self.gets, self.delay, self.token, self.gate = [], delay, token, threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def reply(self, body):
                if outer.token and self.headers.get("Authorization") != "Bearer " + outer.token:
                    self.send_response(401)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return False
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"v1"')
                self.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                self.end_headers()
                return True

            def do_HEAD(self):
                self.reply(b"slow bytes")

            def do_GET(self):
                if names and self.path == "/":
                    page = "<title>Index of /</title>" + "".join(f'<a href="{name}">{name}</a>\n' for name in names) + "</html>"
                    if self.reply(page.encode()):
                        self.wfile.write(page.encode())
                    return
                outer.gets.append(self.path)
                outer.gate.wait(outer.delay(self.path) if callable(outer.delay) else outer.delay)
                if self.reply(b"slow bytes"):
                    self.wfile.write(b"slow bytes")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def lake_of(prelux, count, size):
    """d/f00, d/f01, ... of so many bytes, below a mapping that fetches nothing by itself: its prefix."""
    (prelux.tmp / "source/d").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (prelux.tmp / f"source/d/f{number:02}").write_bytes(b"x" * size)
    return prelux.file_mapping(prelux.tmp / "source", prefetch="off", write="async", freshness="immutable")


def http_config(prelux, url, **more):
    prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": url, **more}},
                   "mappings": [{"local": "/web", "remote": "web:/", "freshness": "immutable"}]})
