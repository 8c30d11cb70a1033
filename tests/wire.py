"""The wire protocol of include/prelux/msg.h, for tests that talk to preluxd themselves."""

import array
import json
import mmap
import os
import socket
import struct

MAGIC, MAJOR = 0x584C, 1
REPLY, PROGRESS, REGISTER, STAT, OPEN, LIST, SESSION, CTL, WRITE, CLOSED, NAME, SETATTR, READLINK, WHOSE = range(1, 15)
(F_STATUS, F_TABLE, F_MAPPING, F_PATH, F_FLAGS, F_ATTR, F_TEXT, F_CONFIG, F_CWD, F_ENV, F_NEED, F_VERB, F_ARG, F_HOME,
 F_BARE, F_MODE, F_INO, F_VERB32, F_TO_MAPPING, F_TO, F_SET) = range(1, 22)
UNLINK, RMDIR, MKDIR, RENAME, LINK, SYMLINK = range(1, 7)
SET_MODE, SET_MTIME, SET_UID, SET_GID, SET_LINK = 1, 2, 4, 8, 16
LIVE, OWNED = 1, 2
WANT_FD, RECHECK = 1, 2
NO_TABLE = -1001
HEADER, FIELD, ATTR = struct.Struct("=HHHHII"), struct.Struct("=HHI"), struct.Struct("=BBHIQqQQQQQ")
SET = struct.Struct("=IIIIq")
LISTING, ENTRY = struct.Struct("=QIIQQ"), struct.Struct("=QqQIIHB5x")


def pad(n):
    return (n + 7) & ~7


def message(op, *fields, serial=7, major=MAJOR):
    """fields: (id, value); int becomes u32, str and bytes go as they are."""
    body = b""
    for number, value in fields:
        if isinstance(value, int):
            value = struct.pack("=I", value & 0xFFFFFFFF)
        value = os.fsencode(value) if isinstance(value, str) else value
        body += FIELD.pack(number, 0, len(value)) + value + b"\0" * (pad(len(value) + 1) - len(value))
    return HEADER.pack(MAGIC, major, op, 0, HEADER.size + len(body), serial) + body


class Answer:
    """A reply, parsed. fd is owned: close() it, or use `with`."""

    def __init__(self, data, fd):
        self.magic, self.major, self.op, _, size, self.serial = HEADER.unpack_from(data)
        assert self.magic == MAGIC and size == len(data), (self.magic, size, len(data))
        self.fd, self.fields, at = fd, [], HEADER.size
        while at < len(data):
            number, _, n = FIELD.unpack_from(data, at)
            at += FIELD.size
            self.fields.append((number, data[at:at + n]))
            at += pad(n + 1)

    def all(self, number):
        return [value for n, value in self.fields if n == number]

    @property
    def status(self):
        return struct.unpack("=i", self.all(F_STATUS)[0])[0]

    @property
    def texts(self):
        return [os.fsdecode(value) for value in self.all(F_TEXT)]

    @property
    def table(self):
        return self.all(F_TABLE)[0] if self.all(F_TABLE) else None

    @property
    def attr(self):
        keys = "type cached flags mode size mtime_ns ino cache_ino cache_dev valid_ns owner".split()
        return dict(zip(keys, ATTR.unpack(self.all(F_ATTR)[0])))

    def json(self):
        with os.fdopen(self.fd, "rb") as f:
            self.fd = -1
            return json.load(f)

    def listing(self):
        """{name: (type, size)} of a LIST's fd."""
        return {name: (entry["type"], entry["size"]) for name, entry in self.entries().items()}

    def entries(self):
        """{name: {type, size, mtime_ns, ino, mode}} of a LIST's fd."""
        with mmap.mmap(self.fd, 0, prot=mmap.PROT_READ) as m:
            _, _, count, _, _ = LISTING.unpack_from(m)
            out = {}
            for i in range(count):
                size, mtime, ino, mode, off, n, kind = ENTRY.unpack_from(m, LISTING.size + i * ENTRY.size)
                out[os.fsdecode(m[off:off + n])] = {"type": kind, "size": size, "mtime_ns": mtime, "ino": ino, "mode": mode}
            return out

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def connect(runtime, timeout=30):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(timeout)
    sock.connect(os.path.join(str(runtime), "sock"))
    return sock


def receive(sock):
    """The next frame, or None when the daemon has hung up."""
    data, anc, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, raw in anc:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(raw[:len(raw) - len(raw) % 4])
    return Answer(data, fds[0] if fds else -1) if data else None


def ask(runtime, data, timeout=30, progress=None):
    """One request. progress: a list that gets a mark for each PROGRESS frame."""
    with connect(runtime, timeout) as sock:
        sock.send(data)
        while True:
            answer = receive(sock)
            assert answer, "the daemon hung up"
            if answer.op != PROGRESS:
                return answer
            if progress is not None:
                progress.append(answer.serial)


def register(runtime, config, cwd="/", env=(), bare=False, home=None, table=None):
    """REGISTER; env: "NAME=value" strings."""
    fields = [(F_CWD, str(cwd))] + [(F_ENV, one) for one in env]
    fields += [(F_CONFIG, str(config))] if config else []
    fields += [(F_BARE, 1)] if bare else []
    fields += [(F_HOME, str(home))] if home else []
    fields += [(F_TABLE, table)] if table else []
    return ask(runtime, message(REGISTER, *fields))


def stat(runtime, table, mapping, path, flags=0):
    return ask(runtime, message(STAT, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_FLAGS, flags)))


def open_object(runtime, table, mapping, path, flags=0, **more):
    return ask(runtime, message(OPEN, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_FLAGS, flags)), **more)


def list_folder(runtime, table, mapping, path, flags=0):
    return ask(runtime, message(LIST, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_FLAGS, flags)))


def write_open(runtime, table, mapping, path, flags, mode=0o644, **more):
    return ask(runtime, message(WRITE, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_FLAGS, flags), (F_MODE, mode)), **more)


def closed(runtime, table, mapping, path, ino, **more):
    return ask(runtime, message(CLOSED, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_INO, struct.pack("=Q", ino))), **more)


def name(runtime, table, mapping, path, verb, *fields, **more):
    return ask(runtime, message(NAME, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path), (F_VERB32, verb), *fields), **more)


def rename(runtime, table, mapping, path, to, flags=0, to_mapping=None, **more):
    fields = ((F_TO_MAPPING, mapping if to_mapping is None else to_mapping), (F_TO, to), (F_FLAGS, flags))
    return name(runtime, table, mapping, path, RENAME, *fields, **more)


def setattr_(runtime, table, mapping, path=None, ino=None, mode=None, mtime_ns=None, uid=None, gid=None, link=False, **more):
    which = sum(bit for bit, value in ((SET_MODE, mode), (SET_MTIME, mtime_ns), (SET_UID, uid), (SET_GID, gid)) if value is not None)
    packed = SET.pack(which | (SET_LINK if link else 0), mode or 0, uid or 0, gid or 0, mtime_ns or 0)
    fields = ((F_PATH, path),) if path is not None else ((F_INO, struct.pack("=Q", ino)),)
    return ask(runtime, message(SETATTR, (F_TABLE, table), (F_MAPPING, mapping), *fields, (F_SET, packed)), **more)


def readlink(runtime, table, mapping, path, **more):
    return ask(runtime, message(READLINK, (F_TABLE, table), (F_MAPPING, mapping), (F_PATH, path)), **more)


def whose(runtime, table, mapping, ino, **more):
    return ask(runtime, message(WHOSE, (F_TABLE, table), (F_MAPPING, mapping), (F_INO, struct.pack("=Q", ino))), **more)


def ctl(runtime, verb, *args, table=None):
    fields = [(F_VERB, verb)] + ([(F_TABLE, table)] if table else []) + [(F_ARG, arg) for arg in args]
    return ask(runtime, message(CTL, *fields))
