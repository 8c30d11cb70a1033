"""What tests of alluxio-proxy share: a go-between in front of a real Alluxio's proxy, which writes down each call and does with it
what a test says, and the backend's tool behind it."""

import contextlib
import http.client
import http.server
import json
import threading
import urllib.parse
from dataclasses import dataclass

import pytest

from tests.integration import contract_alluxio, contract_remotes
from tests.integration.contract_rig import Client

LOST = "lost"        # the proxy does it, and its answer does not come
DROPPED = "dropped"  # the proxy never sees it, and no answer comes


@dataclass
class Call:
    method: str
    action: str   # "create-file", ..., "streams/write"
    path: str     # of the object below the test's root, decoded
    query: dict
    body: object  # the options, or the length of a stream's bytes
    hidden: bool = False

    def __str__(self):
        return f"{self.action} {self.path}"


def status(code, message="told so by the test"):
    """A rule's answer: an exception of the proxy."""
    return 500, json.dumps({"statusCode": code, "message": message}).encode()


class Between(http.server.ThreadingHTTPServer):
    """rule(call): None (pass it on), LOST, DROPPED, or (status, body). Set while nothing is under way."""

    daemon_threads = True

    def __init__(self, upstream, top):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        self.top, self.calls, self.rule = top, [], lambda call: None
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def actions(self, *without):
        return [call.action for call in self.calls if call.action not in without]

    def end(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # who was cut off


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def call_of(self, body):
        path, _, query = self.path.partition("?")
        parts = path.removeprefix("/api/v1/").split("/")
        if parts[0] == "streams":
            return Call(self.command, f"streams/{parts[2]}", parts[1], {}, len(body))
        name = urllib.parse.unquote("/".join(parts[1:-1])).removeprefix(f"/{self.server.top.strip('/')}").strip("/")
        fields = {key: urllib.parse.unquote(value) for key, _, value in (item.partition("=") for item in query.split("&") if item)}
        return Call(self.command, parts[-1], name, fields, json.loads(body) if body else None, ".prelux~" in name)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = self.call_of(body)
        self.server.calls.append(call)
        rule = self.server.rule(call)
        if rule == DROPPED:
            return self.cut()
        if isinstance(rule, tuple):
            return self.answer(*rule)
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        headers = {"Content-Type": self.headers.get("Content-Type", "")} if "Content-Type" in self.headers else {}
        upstream.request(self.command, self.path, body if self.command == "POST" else None, headers)
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        if rule == LOST:
            return self.cut()
        return self.answer(answer.status, data)

    do_GET = do_POST

    def cut(self):
        self.close_connection = True

    def answer(self, code, data):
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def lake_between(tmp):
    """(remote, between, client): client is the tool, whose proxy is the go-between; client.more(**keys) is another with those keys."""
    made = []
    try:
        with contract_alluxio.alluxio_remote(tmp) as remote:
            between = Between(remote.server.url, remote.top)

            def more(**keys):
                remote.conf = {"type": "alluxio-proxy", "url": between.url, "root": remote.top, **keys}
                made.append(Client(remote, f"tool{len(made)}"))
                return made[-1]

            client = more()
            client.more = more
            yield remote, between, client
            for one in made:
                one.end()
            between.end()
    except contract_remotes.Missing as why:
        pytest.skip(str(why))


def info(remote, path=""):
    """Alluxio's own word on a path."""
    code, body = remote.call("POST", path, "get-status")
    assert code == 200, body
    return json.loads(body)
