"""The HTTP port of a stand-in worker (28080 on a real one): info, files, pages, load, health.

Every failure is a closed connection without a byte.  A connection sees the ring as it was when it first needed it."""

import asyncio
import re

from .peers import Unavailable
from .text import gson, normal_path
from .wire import head_bytes, read_body, read_request, send_file

BODY_LIMIT = 10240
DECODED = (("%2F", "/"), ("%3A", ":"), ("%3F", "?"))  # in this order, and nothing else


class Close(Exception):
    """Closed without an answer."""


def values(query):
    """The parameters, cut as Java's split("=") cuts them."""
    found = {}
    for part in query.split("&"):
        pieces = part.split("=")
        while len(pieces) > 1 and not pieces[-1]:
            pieces.pop()  # split() drops empty ends
        if len(pieces) < 2:
            raise Close
        found[pieces[0]] = pieces[1]
    return found


def route(target):
    """(segments after the version, parameters)."""
    target = re.sub(r"^[a-z]+://[^/]*", "", target)
    path, asked, query = target.partition("?")
    if path.endswith("/") and asked:
        raise Close  # the query is lost
    segments = [part for part in path.split("/") if part]
    if len(segments) == 1 and not asked:
        segments = ["v1", *segments]
    if len(segments) < 2:
        raise Close
    return segments[1:], values(query) if asked else {}


class HttpPort:
    def __init__(self, worker):
        self.worker = worker
        self.connections = 0

    async def connection(self, reader, writer):
        self.connections += 1
        one = Connection(self.worker, self.connections, reader, writer)
        try:
            await one.run()
        except (Close, ConnectionError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


class Connection:
    def __init__(self, worker, number, reader, writer):
        self.worker, self.number, self.reader, self.writer = worker, number, reader, writer
        self.view = None

    async def run(self):
        while request := await read_request(self.reader):
            await self.worker.hold()
            large = (request.length or 0) > BODY_LIMIT
            if request.fields.get("expect", "").lower() == "100-continue" and not large:
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body, total = await read_body(self.reader, request, BODY_LIMIT)
            if total > BODY_LIMIT:
                self._count("too-large", request, 413)
                self.writer.write(head_bytes("413 Request Entity Too Large", [("content-length", 0)]))
                if request.chunked:
                    return
                continue
            try:
                await self._answer(request, body)
            except (Close, Unavailable):
                self._count("closed", request, 0)
                return
            await self.writer.drain()
            if self._ends(request):
                return

    def _count(self, kind, request, status, **more):
        self.worker.counter.write("http", kind, request, status, self.number, **more)

    @staticmethod
    def _ends(request):
        wish = request.fields.get("connection", "").lower()
        return wish == "close" or request.version == "HTTP/1.0" and wish != "keep-alive"

    async def _answer(self, request, body):
        segments, given = route(request.target)
        kind = segments[0]
        if kind == "file" and len(segments) == 4:
            if request.method == "GET":
                return await self._page(request, segments, given)
            if request.method in ("POST", "PUT"):
                return self._write_page(request, segments, body)
        if request.method != "GET" or len(segments) != 1:
            raise Close
        if kind == "health":
            return self._send(request, kind, "text/plain", b"worker is active")
        if kind == "info":
            return self._send(request, kind, "application/json", await self._info(given))
        if kind == "files":
            return self._send(request, kind, "application/json", await self._files(given))
        if kind == "load":
            return self._send(request, kind, "text/plain", await self._load(given))
        raise Close

    def _head(self, request, fields):
        ends = []
        if request.fields.get("connection", "").lower() == "close":
            ends = [("connection", "close")]
        elif request.version == "HTTP/1.0" and not self._ends(request):
            ends = [("connection", "keep-alive")]
        return head_bytes("200 OK", fields + ends)

    def _send(self, request, kind, content_type, data):
        self._count(kind, request, 200, bytes=len(data))
        self.writer.write(self._head(request, [("content-type", content_type), ("content-length", len(data))]) + data)

    # Metadata

    async def _rel(self, given):
        if "path" not in given:
            raise Close
        path = given["path"]
        for code, char in DECODED:
            path = path.replace(code, char)
        if not self.view:
            self.view = await self.worker.membership.fetch()
        root = self.worker.under.root
        if path == root or path.startswith(root.rstrip("/") + "/"):
            return normal_path(path[len(root.rstrip("/")):])
        return normal_path(path)

    async def _info(self, given):
        rel = await self._rel(given)
        status = await self.worker.status(self.view, rel)
        if status is None:
            raise Close
        return gson([self.worker.under.info(status)]).encode()

    async def _files(self, given):
        rel = await self._rel(given)
        rows = await self.worker.listing(self.view, rel)
        return gson([self.worker.under.info(status) for status in rows or []]).encode()

    # Pages

    async def _page(self, request, segments, given):
        pages, ident = self.worker.pages, segments[1]
        try:
            number, offset = int(segments[3]), int(given["offset"]) if "offset" in given else 0
            length = int(given["length"]) if "offset" in given and "length" in given else pages.page_size - offset
        except ValueError:
            raise Close from None
        stored = pages.length(ident, number)
        if stored is None or not 0 <= offset <= min(stored, pages.page_size) or length < 0:
            raise Close
        length = min(length, stored - offset)
        self._count("page", request, 200, bytes=length, page=number)
        self.writer.write(self._head(request, [("content-type", "text/plain"), ("content-length", length)]))
        await self.worker.throttle(length)
        await send_file(self.writer, pages.path(ident, number), offset, length)

    def _write_page(self, request, segments, body):
        try:
            number = int(segments[3])
        except ValueError:
            raise Close from None
        if self.worker.pages.length(segments[1], number) is not None:
            done = True
        else:
            done = bool(body)
            if done:
                self.worker.pages.put(segments[1], number, body)
        text = {"success": done, "message": "Page written successfully" if done else "Failed to write page"}
        self._send(request, "put-page", "application/json", gson(text).encode())

    # Load jobs: the master's affair

    async def _load(self, given):
        if "path" not in given or "opType" not in given:
            raise Close
        path = given["path"]
        for code, char in DECODED:
            path = path.replace(code, char)
        answer = await self.worker.load({**given, "path": path})
        if answer is None:
            raise Close
        return gson(answer).encode()
