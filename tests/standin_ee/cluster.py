"""Workers and coordinator of a cluster that is none: README.md.

    with EeStandin(tmp) as cluster:
        (cluster.data / "a").write_bytes(b"x")      # s3://lake/data/a
        conf = cluster.backend()

cluster.fault: a function (Seen) -> None (the usual answer), "close" (no answer) or (status, headers, body).
"""

import errno
import hashlib
import http.server
import json
import os
import random
import shutil
import socket
import threading
import urllib.parse
from pathlib import Path
from typing import NamedTuple

HOSTS = ("127.0.0.2", "127.0.0.3")
ACCESS, SECRET = "AKIDSTANDINEE7EXAMPLE", "sEcReT/standin+ee/KEY0123456789"
UNDER, MOUNT = "s3://lake", "/mnt/lake"


class Seen(NamedTuple):
    host: str
    door: str       # "http", "s3" or "coordinator"
    method: str
    path: str       # as sent, without the query
    query: dict     # decoded
    headers: dict
    body: bytes     # of a chunk: empty
    pieces: object  # of a chunk: they come, and then None when that was all of it


def lengthwise(source, left):
    while left and (piece := source.read(min(left, 1 << 16))):
        left -= len(piece)
        yield piece
    if not left:
        yield None


def chunks(source):
    while (size := source.readline().strip()) and int(size, 16):
        piece = source.read(int(size, 16))
        yield piece
        if source.readline() != b"\r\n":
            return
    if size:
        source.readline()
        yield None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster = door = host = None

    def log_message(self, *words):
        pass

    def handle_any(self):
        if (self.host, self.door) not in self.cluster.doors:  # down: connections that were open, too
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("content-length") or 0)
        large = path.startswith("/v1/chunk/")  # goes to its file as it comes
        body = self.rfile.read(length) if not large else b""
        pieces = chunks(self.rfile) if "chunked" in self.headers.get("transfer-encoding", "") else lengthwise(self.rfile, length)
        seen = Seen(self.host, self.door, self.command, path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
                    {name.lower(): value for name, value in self.headers.items()}, body, pieces)
        self.cluster.seen.append(seen)
        answer = self.cluster.fault(seen) if self.cluster.fault else None
        if answer is None:
            answer = getattr(self.cluster, f"answer_{self.door}")(seen)
        cut = answer != "close" and int(answer[1].get("Content-Length", len(answer[2]))) != len(answer[2])
        if answer == "close" or cut or self.door == "s3" or large:  # what was not read of it is no request
            self.close_connection = True
        if answer == "close":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = handle_any


class Door(http.server.ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


def free_port():
    """Free on all hosts, and no outgoing connection takes it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(15000, 32000)
        try:
            for host in HOSTS:
                socket.create_server((host, port)).close()
        except OSError:
            continue
        return port


def said(value, status=200):
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


class EeStandin:
    """under: what is mounted; replaces: mv takes the place of a file that is there, else it is 409."""

    def __init__(self, tmp, redirect=True, etag=True, under=UNDER, replaces=True):
        self.under, self.replaces, self.writing = under, replaces, set()
        self.ufs = Path(tmp) / "ee-ufs"  # the bucket `lake`
        self.data = self.ufs / "data"
        self.data.mkdir(parents=True)
        self.redirect, self.etag = redirect, etag
        self.seen, self.fault, self.doors, self.jobs = [], None, {}, {}
        self._choose_ports()
        self.root = f"{under}/data"
        self.mounts = {"s3://la": {"alluxio_path": "/wrong"}, under: {"alluxio_path": MOUNT, "access_key": ACCESS, "secret_key": SECRET,
                                                                     "endpoint": "http://127.0.0.1:1"}}

    def backend(self, **more):
        return {"type": "alluxio-ee", "root": self.root, "workers": list(HOSTS), "http_port": self.http_port, "s3_port": self.s3_port, **more}

    def _choose_ports(self):
        self.http_port, self.s3_port, self.coordinator_port = free_port(), free_port(), free_port()

    def __enter__(self):
        while True:
            try:
                for host in HOSTS:
                    self.up(host)
                self._open(HOSTS[0], "coordinator", self.coordinator_port)
                return self
            except OSError as error:
                self.__exit__()
                if error.errno != errno.EADDRINUSE:
                    raise
                self._choose_ports()  # somebody was faster

    def __exit__(self, *exc):
        for key in list(self.doors):
            self._close(key)

    def _open(self, host, door, port):
        handler = type("Handler", (Handler,), {"cluster": self, "door": door, "host": host})
        server = Door((host, port), handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.doors[host, door] = server

    def _close(self, key):
        server = self.doors.pop(key)
        server.shutdown()
        server.server_close()

    def up(self, host):
        self._open(host, "http", self.http_port)
        self._open(host, "s3", self.s3_port)

    def down(self, host):
        self._close((host, "http"))
        self._close((host, "s3"))

    def owner(self, path):
        return HOSTS[hashlib.sha256(path.encode()).digest()[0] % len(HOSTS)]

    def calls(self, action, door="http"):
        return [seen for seen in self.seen if seen.door == door and (action in seen.path)]

    # The under store

    def local(self, path):
        """Of s3://lake/...; None: of no mount."""
        if path.rstrip("/") != self.under and not path.startswith(self.under + "/"):
            return None
        return self.ufs / path[len(self.under):].strip("/")

    def info(self, path):
        local = self.local(path)
        about = local.stat()
        folder = local.is_dir()
        return {"mType": "directory" if folder else "file", "mName": local.name, "mPath": MOUNT + path[len(self.under):], "mUfsPath": path,
                "mLength": 0 if folder else about.st_size, "mCompleted": path not in self.writing, "mOwner": "u", "mGroup": "g", "mMode": 420,
                "mLastModificationTimeMs": about.st_mtime_ns // 1000000, "mPersisted": True, "mInAlluxioPercentage": 0, "mContentHash": ""}

    # HTTP port

    def answer_http(self, seen):
        action, _, ident = seen.path.removeprefix("/v1/").partition("/")
        handler = getattr(self, f"{seen.method.lower()}_{action}", None)
        if not handler:
            return said({"message": "no such call"}, 404)
        if ident and ident != hashlib.sha256((seen.query.get("ufsFullPath") or seen.query.get("srcPath", "")).encode()).hexdigest():
            return said({"message": "the id is not that of the path"}, 400)
        try:
            return handler(seen)
        except (FileNotFoundError, NotADirectoryError) as error:
            return said({"message": f"{error.filename} does not exist"}, 404)
        except IsADirectoryError as error:
            return said({"message": f"{error.filename} is a directory"}, 409)
        except FileExistsError as error:
            return said({"message": f"{error.filename} exists"}, 409)
        except PermissionError:
            return said({"message": "permission denied"}, 403)

    def get_node(self, seen):
        return said({"Host": self.owner(seen.query["path"]), "HttpServerPort": self.http_port})

    def get_ufsInfo(self, seen):
        return said(self.mounts)

    def get_info(self, seen):
        return said([self.info(seen.query["path"])])

    def get_files(self, seen):
        path = seen.query["path"]
        local = self.local(path)
        if local.is_file():
            return said([self.info(path)])
        return said([row for name in sorted(os.listdir(local)) if (row := self.info_if_there(f"{path.rstrip('/')}/{name}"))])

    def info_if_there(self, path):
        """None: it was removed while its folder is listed, which is no 404 of the folder."""
        try:
            return self.info(path)
        except FileNotFoundError:
            return None

    # Writing

    def make_room(self, path):
        """Whoever does not look makes the folders above, as object stores do."""
        local = self.local(path)
        local.parent.mkdir(parents=True, exist_ok=True)
        return local

    def aged(self, local):
        """An object store has a file's time from the moment it is there, however it came."""
        if self.under.startswith("s3:"):
            os.utime(local)
        return said({"success": True})

    def post_chunk(self, seen):
        """A body that is cut leaves what had come, as a whole file."""
        path, whole = seen.query["ufsFullPath"], False
        assert int(seen.query["chunkSize"]) > 0 and seen.headers["content-type"] == "application/octet-stream"
        local = self.make_room(path)
        self.writing.add(path)
        try:
            with open(local, "wb", buffering=0) as file:
                for piece in seen.pieces:
                    whole = piece is None
                    file.write(piece or b"")
        finally:
            self.writing.discard(path)
        return said({"success": True}) if whole else "close"

    def post_touch(self, seen):
        self.make_room(seen.query["ufsFullPath"]).touch()
        return said({"success": True})

    def post_mkdir(self, seen):
        self.make_room(seen.query["ufsFullPath"]).mkdir()
        return said({"success": True})

    def post_mv(self, seen):
        """The vendor's client knows 409; whether mv says it of a file that is there is not written: `replaces`."""
        source, target = self.local(seen.query["srcPath"]), self.local(seen.query["dstPath"])
        source.stat()
        if target.is_dir() or (target.exists() and not self.replaces):
            raise FileExistsError(17, "exists", str(target))
        os.rename(source, self.make_room(seen.query["dstPath"]))
        return self.aged(target)

    def post_copy(self, seen):
        source, target = self.local(seen.query["srcPath"]), self.make_room(seen.query["dstPath"])
        if target.exists() and seen.query["forced"] == "False":
            raise FileExistsError(17, "exists", str(target))
        shutil.copyfile(source, target)
        return said({"success": True})

    def post_rm(self, seen):
        """What is not said has the client's default."""
        local = self.local(seen.query["ufsFullPath"])
        local.stat()
        if seen.query.get("remove_alluxio_only", "True") == "True":
            return said({"success": True})
        if seen.query.get("recursive") == "True" or seen.query.get("delete_mount_point") == "True":
            raise AssertionError(f"never: {seen.query}")
        if not local.is_dir():
            local.unlink()
        elif os.listdir(local):
            return said({"message": "the directory is not empty"}, 412)
        else:
            local.rmdir()
        return said({"success": True})

    def get_load(self, seen):
        """A job ends when a test says so: jobs[path] is its state."""
        path, verb = seen.query["path"], seen.query["opType"]
        if seen.query["verbose"] not in ("true", "false"):
            return said({"message": "verbose"}, 400)
        if verb == "submit":
            self.local(path).stat()
            fresh = self.jobs.get(path) != "RUNNING"
            self.jobs[path] = "RUNNING"
            return said({"success": fresh})
        if verb == "stop":
            running = self.jobs.get(path) == "RUNNING"
            self.jobs[path] = "STOPPED" if running else self.jobs.get(path)
            return said({"success": running})
        state = self.jobs.get(path)
        return said({"jobState": state, "message": f"Job State: {state}"} if state else
                    {"jobState": "FAILED", "message": f"Load job for {path} cannot be found"})

    # Coordinator

    def answer_coordinator(self, seen):
        if seen.path != "/api/v1/load":
            return said({"status": "no such call"}, 404)
        if seen.method == "POST":
            order = json.loads(seen.body)
            if not all(self.local(path) and self.local(path).exists() for path in order["paths"]):
                return said({"status": "a path does not exist"}, 404)
            self.jobs[order["alias"]] = {"id": "job-1", "startTime": 1, "state": "RUNNING", "paths": order["paths"], "totalBytes": 300,
                                         "loadedBytes": 100, "options": order["options"]}
            return said(self.jobs[order["alias"]])
        job = self.jobs.get(seen.query.get("alias"))
        return said(job) if job else said({"status": "no such job"}, 404)

    # S3 port

    def answer_s3(self, seen):
        path = urllib.parse.unquote(seen.path)
        if not seen.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential="):
            return 403, {}, b"<Error><Code>AccessDenied</Code></Error>"
        if not path.startswith(MOUNT + "/"):
            return 404, {}, b"<Error><Code>NoSuchBucket</Code></Error>"
        full = self.under + path[len(MOUNT):]
        local = self.local(full)
        if self.redirect and self.owner(full) != seen.host:
            return 307, {"Location": f"http://{self.owner(full)}:{self.s3_port}{path}"}, b""
        if not local.is_file():
            return 404, {}, b"<Error><Code>NoSuchKey</Code></Error>"
        data, about = local.read_bytes(), local.stat()
        headers = {"ETag": f"(len:{len(data)}, modtime:{about.st_mtime_ns // 1000000})"} if self.etag else {}
        if seen.headers.get("range"):
            first, last = seen.headers["range"].removeprefix("bytes=").split("-")
            part = data[int(first):int(last) + 1]
            return 206, {**headers, "Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"}, part
        return 200, headers, data
