"""A proxy of our own that forwards to an upstream and breaks what it is told to break.

  python3 -m tests.servers.faultproxy HOST:PORT [--rate BYTES] [--delay SECONDS] [--reset-after N] ...

    with FaultProxy(nginx.url) as proxy:
        proxy.fault("/data/", reset_after=1000, times=2)       # the first two answers below /data/ die after 1000 bytes
        ... read proxy.url + "/data/file" ...
        assert proxy.count("/data/file") == 3

Theory of operation.  A thread per client connection, with one upstream connection each.  In HTTP mode the thread reads a
request, finds its fault, passes the request on, and passes the answer back through a Valve, which is where all faults of an
answer happen.  It knows just enough HTTP/1.1 to find where messages end (Content-Length, chunked, end of the connection) and
changes no byte; so signatures, chunk sizes and Host stay what they were.  In TCP mode ("tcp=True": TLS, gRPC) the whole
connection counts as one request of path "*".
"""

import argparse
import selectors
import socket
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Optional

from .base import LOOPBACK, run_by_hand
from .threads import Connection, Gone, Seen, ThreadServer, head_fields

RATE_SLICE_SECONDS = 0.02
RATE_SLICE_MIN_BYTES = 256
UPSTREAM_SECONDS = 10


@dataclass
class Fault:
    """What to do to answers.  Byte counts include the head, or start behind it with body=True."""
    delay: float = 0.0                  # seconds before the answer's first byte
    rate: Optional[int] = None          # bytes per second of this connection
    reset_after: Optional[int] = None   # RST when so many bytes of the answer are out
    stall_after: Optional[int] = None   # nothing more after so many bytes, the connection stays open
    close_after: Optional[int] = None   # orderly end after so many bytes
    close_unanswered: bool = False      # end the connection instead of an answer; the upstream sees no request
    status: Optional[int] = None        # answer this, without a body ...
    fields: Optional[dict] = None       # ... with these header fields
    done: bool = False                  # after the upstream has done the work; else it sees no request
    body: bool = False
    method: Optional[str] = None        # only these requests
    times: Optional[int] = None         # so many requests, then none; None: always

    def answer(self):
        lines = [f"HTTP/1.1 {self.status} Fault", "Content-Length: 0"] + [f"{name}: {value}" for name, value in (self.fields or {}).items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def takes(self, method):
        return self.times != 0 and self.method in (None, method)


class Valve:
    """The way of one answer to the client."""

    def __init__(self, client, fault, stopping):
        self.client, self.fault, self.stopping = client, fault, stopping
        self.sent = 0
        self.in_body = False
        self._waited = False
        self._due = 0.0  # when the bytes sent so far may be over, at the fault's rate

    def send(self, data):
        if not self._waited and data:
            self._waited = True
            self._pause(self.fault.delay)
        while data:
            piece = data[:self._slice()]
            room = self._room()
            if room is not None and room <= len(piece):
                self._out(piece[:room])
                self._break()
            self._out(piece)
            data = data[len(piece):]

    def body_begins(self):
        self.in_body = True
        if self.fault.body and self._room() == 0:
            self._break()

    def _slice(self):
        if not self.fault.rate:
            return 1 << 30
        return max(RATE_SLICE_MIN_BYTES, int(self.fault.rate * RATE_SLICE_SECONDS))

    def _limit(self):
        limits = (self.fault.reset_after, self.fault.stall_after, self.fault.close_after)
        return min((limit for limit in limits if limit is not None), default=None)

    def _room(self):
        """Bytes until the fault strikes, None for never."""
        limit = self._limit()
        if limit is None or (self.fault.body and not self.in_body):
            return None
        return limit - self.sent

    def _out(self, piece):
        self.client.send(piece)
        if self.in_body or not self.fault.body:
            self.sent += len(piece)
        if self.fault.rate:
            now = time.monotonic()
            self._due = max(self._due, now) + len(piece) / self.fault.rate
            self._pause(self._due - now)

    def _break(self):
        if self.fault.stall_after == self._limit():
            self.client.wait_gone()
        if self.fault.reset_after == self._limit():
            self.client.reset()
        raise Gone

    def _pause(self, seconds):
        if seconds > 0 and self.stopping.wait(seconds):
            raise Gone


class _Nobody:
    """A client that listens to nothing."""

    def send(self, data):
        pass


class FaultProxy(ThreadServer):
    """upstream: "host:port" or an http(s) URL, whose path is ignored.  tcp: do not look into the bytes."""

    name = "faultproxy"

    def __init__(self, upstream, port=0, tcp=False):
        super().__init__(port)
        parts = urllib.parse.urlsplit(upstream if "//" in upstream else "//" + upstream)
        self.upstream = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self.tcp = tcp
        self.scheme = parts.scheme or "http"
        self._faults = {}

    @property
    def url(self):
        return f"{self.scheme}://{LOOPBACK}:{self.port}"

    # Programming.

    def fault(self, prefix="/", **fields):
        """Faults for request targets that begin with prefix (the longest prefix wins), from the next request on.
        Without fields: forward these untouched.  Fields as in Fault."""
        with self.lock:
            self._faults[prefix] = Fault(**fields)

    def heal(self):
        """Forget all faults; what already stalls goes on stalling until its client leaves."""
        with self.lock:
            self._faults.clear()

    def down(self):
        """Be a dead host: refuse connections, end those there are.  up() brings the same port back."""
        self.unlisten()

    def up(self):
        self.listen()

    # Inside.

    def _take_fault(self, method, target, fields):
        """Record a request and take its fault."""
        self.note(Seen(method, target, fields))
        with self.lock:
            prefixes = [prefix for prefix in self._faults if target.startswith(prefix) or target == "*"]
            fault = self._faults[max(prefixes, key=len)] if prefixes else Fault()
            if not fault.takes(method):
                return Fault()
            if fault.times is not None:
                fault.times -= 1
            return fault

    def serve(self, client):
        try:
            upstream = Connection(socket.create_connection(self.upstream, UPSTREAM_SECONDS))
        except OSError as error:
            raise Gone from error
        upstream.sock.settimeout(None)
        self.adopt(upstream)
        try:
            if self.tcp:
                self._tunnel(client, upstream)
            while not self.tcp and self._exchange(client, upstream):
                pass
        finally:
            self.drop(upstream)

    def _tunnel(self, client, upstream):
        fault = self._take_fault("CONNECT", "*", {})
        if fault.close_unanswered:
            return

        def upwards():
            try:
                _pump(client, upstream.send)
                upstream.sock.shutdown(socket.SHUT_WR)
            except (Gone, OSError):
                pass

        thread = threading.Thread(target=upwards, daemon=True)
        thread.start()
        try:
            _pump(upstream, Valve(client, fault, self.stopping).send)
        finally:
            self.drop(client)
            thread.join()

    def _exchange(self, client, upstream):
        """One request and its answer; True when the connection can carry another."""
        _wait_for_request(client, upstream)
        head = client.read_until(b"\r\n\r\n")
        if not head:
            return False
        method, target = head.decode("latin-1").split("\r\n")[0].split(" ")[:2]
        fields = head_fields(head)
        fault = self._take_fault(method, target, fields)
        if fault.close_unanswered:
            return False
        if fault.status and not fault.done:
            _copy_body(client, lambda data: None, fields, until_close=False)
            client.send(fault.answer())
            return True
        valve = self.valve(client, fault)
        answer = self._send_request(client, upstream, head, fields, fault)
        if answer is None:
            answer = _final_head(upstream, valve)
        if not answer:
            return False  # the upstream ended the connection unanswered: so do we
        if fault.status:
            _send_answer(upstream, Valve(_Nobody(), Fault(), self.stopping), method, answer)
            client.send(fault.answer())
            return True
        reusable = _send_answer(upstream, valve, method, answer)
        closing = "close" in (fields.get("connection", "").lower(), head_fields(answer).get("connection", "").lower())
        return reusable and not closing

    def valve(self, client, fault):
        return Valve(client, fault, self.stopping)

    def _send_request(self, client, upstream, head, fields, fault):  # pylint: disable=unused-argument
        """Pass a request on.  Returns the answer's head where it came before the body was asked for, else None."""
        upstream.send(head)
        if fields.get("expect", "").lower() == "100-continue":
            early = upstream.read_until(b"\r\n\r\n")
            if _status(early) != 100:
                return early
            client.send(early)
        try:
            _copy_body(client, upstream.send, fields, until_close=False)
        except Gone:
            pass  # an upstream that refuses a body may have answered already; if not, reading says so
        return None


def _wait_for_request(client, upstream):
    """Idle between requests: an upstream that closes now must be seen by the client as a close, not at its next request."""
    if client.buffer:
        return
    with selectors.DefaultSelector() as selector:
        selector.register(client.sock, selectors.EVENT_READ)
        selector.register(upstream.sock, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in selector.select()]
    if client.sock not in ready:
        raise Gone


def _status(head):
    try:
        return int(head.split(b" ", 2)[1])
    except (IndexError, ValueError):
        return 0


def _final_head(upstream, valve):
    """Pass 1xx answers on, return the head of the real one (b"" when the connection ended)."""
    while True:
        head = upstream.read_until(b"\r\n\r\n")
        if not 100 <= _status(head) < 200:
            return head
        valve.client.send(head)


def _send_answer(upstream, valve, method, head):
    """Pass an answer on; True when its end was marked in the bytes, so that the connection lives on."""
    valve.send(head)
    if method == "HEAD" or _status(head) in (204, 304):
        return True
    valve.body_begins()
    return _copy_body(upstream, valve.send, head_fields(head), until_close=True)


def _copy_body(source, send, fields, until_close):
    """Copy one body; False when its only mark was the end of the connection."""
    if "chunked" in fields.get("transfer-encoding", "").lower():
        _copy_chunks(source, send)
    elif "content-length" in fields:
        _copy_count(source, send, int(fields["content-length"]))
    elif until_close:
        _pump(source, send)
        return False
    return True


def _pump(source, send):
    while True:
        data = source.receive()
        if not data:
            return
        send(data)


def _copy_count(source, send, count):
    while count:
        data = source.receive()
        if not data:
            raise Gone
        source.buffer = data[count:]
        send(data[:count])
        count -= len(data[:count])


def _copy_chunks(source, send):
    while True:
        line = source.read_until(b"\r\n")
        if not line:
            raise Gone
        send(line)
        size = int(line.split(b";")[0], 16)
        if size == 0:
            break
        _copy_count(source, send, size + 2)
    while True:  # trailers, then an empty line
        line = source.read_until(b"\r\n")
        send(line)
        if line in (b"\r\n", b""):
            return


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.faultproxy", description="a proxy that breaks answers")
    parser.add_argument("upstream", metavar="HOST:PORT")
    parser.add_argument("--tcp", action="store_true", help="do not look into the bytes")
    parser.add_argument("--prefix", default="/", help="only request targets that begin so")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before the first byte")
    for option in ("rate", "reset-after", "stall-after", "close-after", "times"):
        parser.add_argument("--" + option, type=int)
    parser.add_argument("--body", action="store_true", help="count bytes from the body's first")
    args = vars(parser.parse_args(argv))
    proxy = FaultProxy(args.pop("upstream"), tcp=args.pop("tcp"))
    proxy.fault(args.pop("prefix"), **args)
    return run_by_hand(proxy, lambda it: it.url)


if __name__ == "__main__":
    sys.exit(main())
