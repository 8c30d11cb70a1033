"""What the torture tests of writing share: remotes with another client that looks at them, and contents that say themselves which version they are."""

import contextlib
import os
import threading
import time

import pytest

from tests.integration import contract_remotes
from tests.s3client import encode
from tests.torture.contents import CONTENT, content  # noqa: F401  pylint: disable=unused-import

FULL = bool(os.environ.get("FULL"))
LOCAL = "/prelux-t"


@contextlib.contextmanager
def remote_of(kind, tmp):
    """A Remote of contract_remotes.py."""
    row = {row.name: row for row in contract_remotes.KINDS}[kind]
    with contextlib.ExitStack() as stack:
        try:
            remote = stack.enter_context(row.make(tmp))
        except contract_remotes.Missing as why:
            pytest.skip(str(why))
        yield remote


def mapped(prelux, remote, conf=None, top=None, **options):
    """The remote at LOCAL. conf: keys of the backend that differ; top: keys beside it."""
    prelux.config({"version": 1, **(top or {}), "backends": {"src": {**remote.conf, **(conf or {})}},
                   "mappings": [{"local": LOCAL, "remote": "src:/", **options}]})


def peek(remote, name):
    """What another client reads of a name now: bytes, or None when there is nothing. Each call is a client of its own."""
    if hasattr(remote, "root"):
        try:
            return remote.content(name)
        except FileNotFoundError:
            return None
    if hasattr(remote, "container"):
        status, _, body = remote.request("GET", name)
    else:
        client = type(remote.client)(remote.server.url, remote.server.access_key, remote.server.secret_key)
        try:
            status, _, body = client.request("GET", f"/data/{encode(os.fsencode(name), b'/')}")
        finally:
            client.connection.close()
    assert status in (200, 404), (name, status, body[:300])
    return body if status == 200 else None


def seen(remote):
    """{name: bytes} of all that another client sees; not what a put left that was killed, which no reader of the remote's own kind takes for a file."""
    return {os.fsdecode(name): data for name, data in remote.objects().items() if data is not None and not name.startswith(b".prelux~")}


class Observer(threading.Thread):
    """Another client, which looks at names again and again and keeps what judge(name, data) does not like. Large ones now and then only."""

    def __init__(self, remote, judge, rare=lambda name: False):
        super().__init__(daemon=True)
        self.remote, self.judge, self.rare = remote, judge, rare
        self.names, self.odd, self.looks = [], [], 0
        self.over = threading.Event()

    def run(self):
        turn = 0
        while not self.over.is_set():
            turn += 1
            for name in list(self.names):
                if self.over.is_set() or (self.rare(name) and turn % 20):
                    continue
                data = peek(self.remote, name)
                self.looks += 1
                if not self.judge(name, data):
                    self.odd.append((name, data))
                time.sleep(0.004)
            time.sleep(0.01)

    def end(self):
        self.over.set()
        self.join(60)
