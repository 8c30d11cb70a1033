"""Alluxio as a writable remote of the contract suite: 2.9 (real; another client: plain REST calls to the same proxy) and Enterprise AI
(the stand-in of tests/standin_ee; another client: the folder that is its under store)."""

import contextlib
import itertools
import json
import os
import urllib.parse

from tests.integration import contract_remotes as r
from tests.servers import alluxio29
from tests.servers.base import ServerError
from tests.standin_ee.cluster import EeStandin

numbers = itertools.count()
running = {}


def lake():
    """One Alluxio for all tests of a file, or of a run."""
    if not alluxio29.PACKAGE.installed():
        try:
            alluxio29.PACKAGE.install()
        except ServerError as error:
            raise r.Missing(f"Alluxio 2.9 cannot be installed: {str(error)[:300]}") from error
    if alluxio29.Alluxio29.missing():
        raise r.Missing(alluxio29.Alluxio29.missing())
    if "server" not in running:
        running["server"] = alluxio29.Alluxio29.running() or alluxio29.Alluxio29().start()
    return running["server"]


class AlluxioRemote(r.Remote):
    """A folder of its own."""

    cannot = (b"a?b", b"back\\slash", b"*?[x]", b"\xff\xfe")
    gaps = True
    late_s = 0.5  # what the proxy has read of a request it goes on with

    def __init__(self, tmp, server):
        super().__init__(tmp)
        self.server = server
        self.top = f"/contract{os.getpid()}-{next(numbers)}"
        assert server.request("POST", self.top, "create-directory")[0] == 200
        self.conf = {"type": "alluxio-proxy", "url": server.url, "root": self.top}

    def call(self, method, path, action, options=None, query=""):
        status, _, body = self.server.request(method, os.fsencode(self.top) + b"/" + os.fsencode(path), action, options, query)
        return status, body

    def walk(self, folder=b""):
        status, body = self.call("POST", folder, "list-status")
        assert status == 200, body
        for info in json.loads(body):
            path = os.path.join(folder, info["name"].encode())
            yield path, info
            if info["folder"]:
                yield from self.walk(path)

    def objects(self):
        """What somebody is still writing has no bytes to others."""
        return {path: None if info["folder"] else self.content(path) if info["completed"] else b"not completed"
                for path, info in self.walk()}

    def content(self, path):
        status, body = self.call("GET", path, "download-file")
        assert status == 200, (path, body)
        return body

    def write(self, path, data):
        """Aside, then over it: of one who looks at both ends it is one step."""
        aside = os.fsencode(path) + b".new"
        options = {"recursive": True, "writeType": "CACHE_THROUGH"}
        status, stream = self.call("POST", aside, "create-file", options)
        assert status == 200, stream
        for action, body in (("write", data), ("close", None)):
            assert self.server.stream(int(stream), action, body)[0] == 200
        self.call("POST", path, "delete")
        target = urllib.parse.quote(os.fsencode(self.top) + b"/" + os.fsencode(path))
        assert self.call("POST", aside, "rename", query=f"?dst={target}")[0] == 200

    def uploads(self):
        return sum(b".prelux~" in path for path, _ in self.walk())


@contextlib.contextmanager
def alluxio_remote(tmp):
    yield AlluxioRemote(tmp, lake())


class EeRemote(r.FileRemote):
    """A folder as the under store; every change by prelux goes through the stand-in's calls."""

    cannot = (b"with space", b" lead and trail ", b"100%", b"%41", b"a?b", b"a#b", b"a&b=c;d", b"q'uo\"te", b"back\\slash", b"new\nline",
              b"tab\tbell\a", b"\xff\xfe", "\u00e9\u4e2d\U0001f600".encode(), b"+plus", b"*?[x]", b"{a,b}", b"a|b")
    late_s = 0.2  # what the stand-in has read of a request it goes on with

    def __init__(self, tmp, cluster):
        super().__init__(tmp, cluster.data)
        self.cluster, self.conf, self.gaps = cluster, cluster.backend(), not cluster.replaces

    def objects(self):
        return {path: b"not completed" if f"{self.cluster.root}/{os.fsdecode(path)}" in self.cluster.writing else data
                for path, data in super().objects().items()}

    def uploads(self):
        return sum(name.startswith(b".prelux~") for _, folders, names in os.walk(os.fsencode(self.root)) for name in folders + names)


@contextlib.contextmanager
def ee_remote(tmp, replaces):
    """Its under store tells milliseconds."""
    with EeStandin(tmp, under="hdfs://lake:9000/lake", replaces=replaces) as cluster:
        yield EeRemote(tmp, cluster)
