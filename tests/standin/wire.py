"""The little HTTP that both ports share: a request is read with all its oddities kept, a counter writes it down."""

import asyncio
import json
import os
import time
from dataclasses import dataclass, field

HEAD_LIMIT = 16384
LINE_LIMIT = 4096    # Netty's, as are the fields'
FIELDS_LIMIT = 8192
BIG = 262144  # below that a copy is cheaper than what asyncio does around sendfile


@dataclass
class Request:
    method: str
    target: str      # Latin-1, nothing decoded
    version: str
    fields: dict = field(default_factory=dict)

    @property
    def length(self):
        text = self.fields.get("content-length", "")
        return int(text) if text.isdigit() else None

    @property
    def chunked(self):
        return "chunked" in self.fields.get("transfer-encoding", "").lower()


async def read_request(reader):
    """Request; None at the end of the connection, ValueError for what is no request line."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except asyncio.LimitOverrunError:
        raise ValueError("head too long") from None
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(lines[0]) > LINE_LIMIT or len(head) - len(lines[0]) > FIELDS_LIMIT:
        raise ValueError("head too long")
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise ValueError("request line")
    request = Request(*words)
    for line in lines[1:]:
        name, found, value = line.partition(":")
        if found:
            request.fields[name.strip().lower()] = value.strip()
    return request


async def read_body(reader, request, limit):
    """The body, at most `limit` bytes of it kept; (bytes, whole length)."""
    kept, total = bytearray(), 0
    if request.chunked:
        while True:
            size = int((await reader.readline()).split(b";")[0] or b"0", 16)
            data = await reader.readexactly(size)
            await reader.readexactly(2)
            if not size:
                break
            total += size
            kept += data[:max(0, limit - len(kept))]
        return bytes(kept), total
    left = request.length or 0
    while left:
        data = await reader.read(min(left, 1 << 20))
        if not data:
            raise ConnectionError("body cut")
        left -= len(data)
        total += len(data)
        kept += data[:max(0, limit - len(kept))]
    return bytes(kept), total


def head_bytes(status, fields):
    """fields: pairs, in order, spelled as given."""
    return (f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n").encode("latin-1")


async def send_file(writer, path, offset, length):
    """Bytes of a file, by sendfile where that pays.  What is missing is missing."""
    with open(path, "rb", buffering=0) as data:
        if length >= BIG:
            await asyncio.get_running_loop().sendfile(writer.transport, data, offset, length)
        else:
            writer.write(os.pread(data.fileno(), length, offset))


class Counter:
    """A line of JSON for each request, written before the answer: a test that has the answer finds the line."""

    def __init__(self, path):
        self._out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, port, kind, request, status, connection, **more):
        row = {"port": port, "kind": kind, "method": request.method, "target": request.target, "status": status,
               "range": request.fields.get("range", ""), "connection": connection, "time": round(time.time(), 4), **more}
        os.write(self._out, json.dumps(row).encode() + b"\n")
