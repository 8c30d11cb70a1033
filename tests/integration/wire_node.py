"""A node as tests ask it over the wire: a daemon, one table with a writable mapping of a folder, and what a program with the library
would ask."""

import os

from tests import wire


class Node:
    def __init__(self, prelux, source=None, **how):
        """source: the remote; None: one that is made, with a file."""
        self.prelux, self.source = prelux, source or prelux.tmp / "remote"
        if not source:
            self.source.mkdir()
            (self.source / "old").write_bytes(b"old")
        prelux.file_mapping(self.source, **{"write": "sync", **how})
        self.start()

    def start(self):
        self.prelux.run("true")
        answer = wire.register(self.prelux.runtime, self.prelux.config_path)
        assert answer.status == 0, answer.texts
        self.table = answer.table

    def restart(self):
        self.prelux.kill_daemon()
        self.start()

    def ask(self, what, *args, **more):
        return what(self.prelux.runtime, self.table, 0, *args, **more)

    def open(self, path, flags, mode=0o644):
        """A descriptor, or the negative errno."""
        with self.ask(wire.write_open, path, flags, mode) as answer:
            return os.dup(answer.fd) if answer.status == 0 else answer.status

    def close(self, path, fd):
        ino = os.fstat(fd).st_ino
        os.close(fd)
        return self.ask(wire.closed, path, ino).status

    def write(self, path, data, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
        fd = self.open(path, flags)
        assert fd >= 0, fd
        os.write(fd, data)
        return self.close(path, fd)

    def read(self, path):
        with self.ask(wire.open_object, path, wire.WANT_FD) as answer:
            return os.pread(answer.fd, 1 << 20, 0) if answer.status == 0 else answer.status

    def stat(self, path, flags=0):
        answer = self.ask(wire.stat, path, flags)
        return answer.attr if answer.status == 0 else answer.status

    def ino(self, path):
        return self.stat(path)["ino"]

    def size(self, path):
        shown = self.stat(path)
        return shown if isinstance(shown, int) else shown["size"]

    def list(self, path=""):
        with self.ask(wire.list_folder, path) as answer:
            return sorted(answer.listing()) if answer.status == 0 else answer.status

    def unlink(self, path):
        return self.ask(wire.name, path, wire.UNLINK).status

    def rmdir(self, path):
        return self.ask(wire.name, path, wire.RMDIR).status

    def mkdir(self, path, mode=0o755):
        return self.ask(wire.name, path, wire.MKDIR, (wire.F_MODE, mode)).status

    def rename(self, path, to, flags=0):
        return self.ask(wire.rename, path, to, flags).status
