"""A client that hides nothing: one HTTP request over a plain socket, the bytes that came and how the connection ended."""

import socket
from dataclasses import dataclass
from typing import Optional

from .base import LOOPBACK
from .threads import head_fields

LIMIT_BYTES = 12_000_000


@dataclass
class Raw:
    status: int
    fields: dict            # lower-case names
    body: bytes             # as it came, chunk sizes included
    total: int              # bytes in all
    pieces: int = 1         # how many recv() calls they took

    @property
    def length(self) -> Optional[int]:
        text = self.fields.get("content-length")
        return None if text is None else int(text)


class Received(bytes):
    """The bytes of an answer; .pieces is how many recv() calls they took."""
    pieces = 0


def exchange(port, path, method="GET", quiet=0.3, fields=None):
    """(bytes, end); end is "closed", "reset", "silent" (nothing for `quiet` seconds, ten times that for the first byte) or "limit" (12 million)."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n"
    head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in (fields or {}).items())
    parts, size, end = [], 0, "limit"
    with socket.create_connection((LOOPBACK, port), timeout=10) as client:
        client.sendall(head.encode("latin-1") + b"\r\n")
        client.settimeout(10 * quiet)
        while size < LIMIT_BYTES:
            try:
                data = client.recv(1 << 20)
            except TimeoutError:
                end = "silent"
                break
            except ConnectionResetError:
                end = "reset"
                break
            if not data:
                end = "closed"
                break
            client.settimeout(quiet)
            parts.append(data)
            size += len(data)
    received = Received(b"".join(parts))
    received.pieces = len(parts)
    return received, end


def parse(data):
    """An answer's bytes as Raw; status 0 when the head is not whole."""
    head, found, body = bytes(data).partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if found else 0
    return Raw(status, head_fields(head) if found else {}, body, len(data), getattr(data, "pieces", 1))
