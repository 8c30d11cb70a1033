"""A proxy that is far away: each byte comes DELAY later than it was sent, and each connection carries RATE bytes a second at most.

  python3 -m tests.bench.delay HOST:PORT MILLISECONDS [BYTES_PER_SECOND]      forwards 127.0.0.1:PORT' (printed) to HOST:PORT until ctrl-C
  python3 -m tests.bench.delay --ceiling                                      what the proxy itself can carry, as Markdown

`MILLISECONDS` is a round trip: half of it is added in each direction, and a whole one to the first byte of a connection, which a handshake costs.
Bytes wait in a queue with the instant they are due, so latency costs no bandwidth; a queue that is full stops the reading from its sender, so the
sender sees a window of WINDOW bytes as over a real line. A figure measured through it is worth something below its ceiling only: that is
measured by the same program, a stream over 1 and over 8 connections at each latency, and printed beside."""

import asyncio
import contextlib
import sys
import threading
import time

PIECE = 256 << 10
WINDOW = 16 << 20
LATENCIES = (0, 1, 20, 100)
MIB = 1 << 20


class Line:
    """One direction of one connection."""

    def __init__(self, reader, writer, seconds, rate):
        self.reader, self.writer, self.seconds, self.rate = reader, writer, seconds, rate
        self.pieces, self.held, self.free_at = asyncio.Queue(), 0, 0.0
        self.room = asyncio.Event()
        self.room.set()

    async def take(self):
        """What comes, each piece with the instant it is due at the other end."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(PIECE):
                now = loop.time()
                self.free_at = max(now, self.free_at) + (len(data) / self.rate if self.rate else 0)
                self.pieces.put_nowait((self.free_at + self.seconds, data))
                self.held += len(data)
                if self.held >= WINDOW:
                    self.room.clear()
                    await self.room.wait()
        self.pieces.put_nowait((loop.time() + self.seconds, b""))

    async def give(self):
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while True:
                due, data = await self.pieces.get()
                if due > loop.time():
                    await asyncio.sleep(due - loop.time())
                if not data:
                    break
                self.writer.write(data)
                await self.writer.drain()
                self.held -= len(data)
                self.room.set()
            if self.writer.can_write_eof():
                self.writer.write_eof()
            return
        self.writer.transport.abort()
        self.held = 0
        self.room.set()


class Delay:
    """with Delay("127.0.0.1:9000", milliseconds=20, rate=40_000_000) as far: ... far.address ..."""

    def __init__(self, upstream, milliseconds=0.0, rate=0):
        host, _, port = upstream.removeprefix("http://").rstrip("/").rpartition(":")
        self.upstream, self.seconds, self.rate = (host, int(port)), milliseconds / 1000, rate
        self.connections = 0
        self.address = self._loop = self._thread = None

    async def _one(self, reader, writer):
        self.connections += 1
        try:
            await asyncio.sleep(self.seconds)  # the handshake of a connection that goes all the way
            far_reader, far_writer = await asyncio.open_connection(*self.upstream, limit=MIB)
        except OSError:
            writer.transport.abort()
            return
        lines = [Line(reader, far_writer, self.seconds / 2, self.rate), Line(far_reader, writer, self.seconds / 2, self.rate)]
        try:
            await asyncio.gather(*(work() for line in lines for work in (line.take, line.give)))
        finally:
            writer.close()
            far_writer.close()

    def __enter__(self):
        ready = threading.Event()

        async def serve():
            server = await asyncio.start_server(self._one, "127.0.0.1", 0, limit=MIB, backlog=1024)
            self.address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            ready.set()
            await self._stop.wait()
            server.close()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self._thread.start()
        if not ready.wait(30):
            raise RuntimeError("the proxy does not begin")
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


async def _pour(reader, writer):
    """An upstream: so many bytes as the 8 digits ask for."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        left, block = int(await reader.readexactly(8)), bytes(PIECE)
        while left > 0:
            writer.write(block[:min(left, PIECE)])
            left -= PIECE
            await writer.drain()
    writer.close()


async def _drink(address, size):
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=MIB)
    writer.write(b"%08d" % size)
    first, count = None, 0
    while data := await reader.read(PIECE):
        first = first or time.monotonic()
        count += len(data)
    writer.close()
    return first, count


async def _measure(address, connections, size):
    start = time.monotonic()
    done = await asyncio.gather(*(_drink(address, size) for _ in range(connections)))
    assert all(count == size for _, count in done)
    return min(first for first, _ in done) - start, connections * size / (time.monotonic() - start)


def ceiling(latencies=LATENCIES, rate=0, size=64 * MIB):
    """Rows: milliseconds, connections, seconds to the first byte, bytes a second."""
    rows, holder, ready = [], {}, threading.Event()

    async def upstream():
        server = await asyncio.start_server(_pour, "127.0.0.1", 0)
        holder.update(port=server.sockets[0].getsockname()[1], loop=asyncio.get_running_loop(), stop=asyncio.Event())
        ready.set()
        await holder["stop"].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(upstream(),), daemon=True)
    thread.start()
    ready.wait(30)
    try:
        for milliseconds in latencies:
            for connections in (1, 8):
                with Delay("127.0.0.1:%d" % holder["port"], milliseconds, rate) as far:
                    first, speed = asyncio.run(_measure(far.address, connections, size // connections))
                rows.append({"ms": milliseconds, "connections": connections, "first_byte_s": first, "bytes_per_s": speed})
    finally:
        holder["loop"].call_soon_threadsafe(holder["stop"].set)
        thread.join(30)
    return rows


def table(rows):
    lines = ["| round trip ms | connections | first byte ms | MB/s at most |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {row['ms']} | {row['connections']} | {row['first_byte_s'] * 1000:.1f} | {row['bytes_per_s'] / 1e6:.0f} |" for row in rows])


if __name__ == "__main__":
    if sys.argv[1] == "--ceiling":
        print(table(ceiling()))
    else:
        with Delay(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0) as proxy:
            print(proxy.address, flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
