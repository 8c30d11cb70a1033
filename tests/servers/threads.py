"""The frame of our own in-process servers (faultproxy, liar): a listener, a thread per connection, an end that ends them all.

They run inside the test, so that a test can change what they do while a request is under way and read what they saw.
"""

import collections
import fcntl
import socket
import struct
import termios
import threading
from typing import NamedTuple

from .base import LOOPBACK, PORT_ATTEMPTS, free_port, wait_for

RECEIVE_BYTES = 65536
HEAD_LIMIT = 1 << 20
JOIN_SECONDS = 5.0
LINGER_SECONDS = 2.0
DRAIN_SECONDS = 1.0


class Gone(Exception):
    """The other side went away, or the server is stopping: the connection's thread just ends."""


class Seen(NamedTuple):
    """A request that came by.  host: the address of ours that it was sent to."""
    method: str
    target: str
    fields: dict
    host: str = LOOPBACK

    @property
    def path(self):
        return self.target.partition("?")[0]


class Connection:
    """A socket with a read buffer.  Everything that fails on it is Gone."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self):
        """What is buffered, else what comes next; b"" at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        try:
            return self.sock.recv(RECEIVE_BYTES)
        except OSError as error:
            raise Gone from error

    def read_until(self, mark):
        """Bytes up to and including mark; b"" when the end comes first."""
        while mark not in self.buffer:
            if len(self.buffer) > HEAD_LIMIT:
                raise Gone("head above the limit")
            try:
                data = self.sock.recv(RECEIVE_BYTES)
            except OSError as error:
                raise Gone from error
            if not data:
                return b""
            self.buffer += data
        head, found, self.buffer = self.buffer.partition(mark)
        return head + found

    def body(self, length):
        """So many bytes, and none of what comes behind them; Gone when the end comes first."""
        parts = []
        while length > 0:
            data = self.receive()
            if not data:
                raise Gone
            parts.append(data[:length])
            self.buffer = data[length:]
            length -= len(parts[-1])
        return b"".join(parts)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def reset(self):
        """Close with RST: the peer reads what was sent before, then sees ECONNRESET, not an end of file."""
        try:
            # A reset throws away what the peer's window has kept here; without this wait "after N bytes" means "at most N".
            wait_for(lambda: self._unsent() == 0, DRAIN_SECONDS)
        except (OSError, TimeoutError):
            pass
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sock.shutdown(socket.SHUT_RD)  # sends nothing; ends a recv() elsewhere, which would hold the RST back
            self.sock.close()
        except OSError:
            pass
        raise Gone

    def _unsent(self):
        return struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]

    def wait_gone(self):
        """Read and forget until the peer, or stop(), ends the connection."""
        while self.receive():
            pass
        raise Gone

    def finish(self):
        """An orderly end.  Closing with unread bytes would send RST, which can destroy what was sent before."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(LINGER_SECONDS)
            self.wait_gone()
        except (OSError, Gone):
            pass

    def abort(self):
        """From another thread: end it, and leave the descriptor to its own thread, which wakes up (from select() too)."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self):
        self.abort()
        self.sock.close()


class ThreadServer:
    """Accepts on a free port of 127.0.0.1 (or the given one) and calls serve(connection) in a thread for each."""

    name = "thread-server"

    def __init__(self, port=0, hosts=(LOOPBACK,)):
        self.hosts, self.port = hosts, port
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.accepted = 0  # connections so far
        self._seen = []
        self._listeners, self._connections, self._threads = [], set(), []

    def serve(self, connection):
        raise NotImplementedError

    @property
    def url(self):
        return f"http://{LOOPBACK}:{self.port}"

    def start(self):
        self.stopping.clear()
        self.listen()
        return self

    def listen(self):
        """Open the listeners: connections are accepted from here on, since the kernel queues them."""
        self._listeners = self._bind_all()
        self.port = self._listeners[0].getsockname()[1]
        for listener in self._listeners:
            self._spawn(self._accept, listener)

    def _bind_all(self):
        """One listener per host, all on one port; a port that is free on the first host may be taken on the next."""
        for attempt in range(PORT_ATTEMPTS):
            port, listeners = self.port or free_port(), []
            try:
                for host in self.hosts:
                    listeners.append(socket.create_server((host, port), backlog=128))
                return listeners
            except OSError:
                for listener in listeners:
                    listener.close()
                if self.port or attempt + 1 == PORT_ATTEMPTS:
                    raise

    def unlisten(self):
        """Close listeners and connections; the port answers "refused" until listen()."""
        with self.lock:
            listeners, self._listeners = self._listeners, []
            connections = list(self._connections)
        for listener in listeners:
            try:
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(); close() alone does not
            except OSError:
                pass
            listener.close()
        for connection in connections:
            connection.abort()

    def stop(self):
        self.stopping.set()
        self.unlisten()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)
        self._threads = []

    def wait(self):
        """Block until stop(): for servers run by hand."""
        self.stopping.wait()

    def note(self, seen):
        """Record a request; how many of the same method and path came before."""
        with self.lock:
            earlier = sum((one.method, one.path) == (seen.method, seen.path) for one in self._seen)
            self._seen.append(seen)
            return earlier

    def requests(self):
        """Every request since start() or forget_requests(), as Seen, oldest first."""
        with self.lock:
            return list(self._seen)

    def counts(self):
        """Requests per path (the target without its query), as a Counter."""
        return collections.Counter(seen.path for seen in self.requests())

    def count(self, path):
        return self.counts()[path]

    def forget_requests(self):
        with self.lock:
            self._seen.clear()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    def adopt(self, connection):
        """A connection made by serve() itself (to an upstream) that has to end with the server."""
        with self.lock:
            self._connections.add(connection)
        if self.stopping.is_set():
            raise Gone
        return connection

    def drop(self, connection):
        with self.lock:
            self._connections.discard(connection)
        connection.close()

    def _spawn(self, function, *args):
        thread = threading.Thread(target=function, args=args, name=self.name, daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _accept(self, listener):
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            connection = Connection(sock)
            with self.lock:
                if listener not in self._listeners:
                    sock.close()
                    return
                self._connections.add(connection)
                self.accepted += 1
            self._spawn(self._serve, connection)

    def _serve(self, connection):
        try:
            self.serve(connection)
            connection.finish()
        except Gone:
            connection.finish()
        finally:
            self.drop(connection)


def head_fields(head):
    """Lower-case names to values of an HTTP head (bytes, first line included)."""
    fields = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields
