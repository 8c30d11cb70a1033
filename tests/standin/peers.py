"""What stand-in workers, their master and the tests say to one another: a line of JSON each way.  A real cluster has gRPC here;
prelux never speaks it, so it needs no likeness."""

import asyncio
import json
import socket

CALL_SECONDS = 20.0
LINE_LIMIT = 64 << 20


class Unavailable(Exception):
    """Nobody answers there."""


class Peers:
    """Connections to others, kept for the next call."""

    def __init__(self):
        self._idle = {}

    async def call(self, host, port, message):
        idle = self._idle.setdefault((host, port), [])
        while True:
            used = bool(idle)
            try:
                reader, writer = idle.pop() if idle else await asyncio.open_connection(host, port, limit=LINE_LIMIT)
                writer.write(json.dumps(message).encode() + b"\n")
                line = await asyncio.wait_for(reader.readline(), CALL_SECONDS)
            except (OSError, asyncio.TimeoutError) as error:
                line = b""
                if not used:
                    raise Unavailable(str(error)) from None
            if line:
                idle.append((reader, writer))
                return json.loads(line)
            if not used:
                raise Unavailable("closed")


async def serve(handle, host, port):
    """handle(message) -> answer, a coroutine function."""
    async def connection(reader, writer):
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await handle(json.loads(line))).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()
    return await asyncio.start_server(connection, host, port, limit=LINE_LIMIT)


def ask(host, port, message, seconds=CALL_SECONDS):
    """One call, for programs without an event loop."""
    with socket.create_connection((host, port), timeout=seconds) as client:
        client.sendall(json.dumps(message).encode() + b"\n")
        with client.makefile("rb") as lines:
            line = lines.readline()
    if not line:
        raise ConnectionError("closed")
    return json.loads(line)
