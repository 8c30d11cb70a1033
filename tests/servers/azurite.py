"""A real Azurite: Azure Blob Storage, everything kept in memory.

  python3 -m tests.servers.azurite --install      fetch it into .cache/azurite (needs npm; half a minute, 365 MB)
  python3 -m tests.servers.azurite --run          until ctrl-C

What surprises (3.37.0): `bytes=-5` is the whole blob with a senseless content-range; start = size is 206 with nothing;
`If-None-Match: *` on an existing blob is 409; an x-ms-version later than it knows is 400.  Container names have at least
3 characters.
"""

import argparse
import base64
import hashlib
import hmac
import os
import secrets
import shutil
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from email.utils import formatdate
from functools import partial
from pathlib import Path

from .base import LOOPBACK, Installation, Server, ServerError, fetch_npm, free_port, run_by_hand

VERSION = "3.37.0"
# Later ones want packages that a registry may not have yet, or a Node later than that of Debian 12.
PINNED = {"applicationinsights": "3.16.0", "https-proxy-agent": "7.0.6", "http-proxy-agent": "7.0.2"}
API_VERSION = "2021-12-02"
CACHE = Path(__file__).resolve().parent / ".cache" / "azurite"
PROGRAM = CACHE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


PACKAGE = Installation(CACHE, VERSION, partial(fetch_npm, CACHE, {"azurite": VERSION}, PINNED), PROGRAM)


class Azurite(Server):
    """account, key: the one account that there is; the key is base64."""

    name = "azurite"
    start_seconds = 60.0
    stop_signal = signal.SIGKILL  # it keeps nothing

    def __init__(self, folder=None, account="preluxtest", key=None):
        super().__init__(folder)
        self.account = account
        self.key = key or base64.b64encode(secrets.token_bytes(64)).decode()
        self.port = None

    @classmethod
    def missing(cls):
        if not shutil.which("node"):
            return "node is not installed (Debian: apt-get install nodejs)"
        return None if PACKAGE.installed() else "Azurite is not installed (python3 -m tests.servers.azurite --install)"

    @property
    def url(self):
        """The account's end point; a blob's URL is URL/CONTAINER/NAME."""
        return f"http://{LOOPBACK}:{self.port}/{self.account}"

    def configure(self):
        self.port = free_port()

    def commands(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AZURITE_", "AZURE_"))}
        env["AZURITE_ACCOUNTS"] = f"{self.account}:{self.key}"
        argv = ["node", PROGRAM, "--blobHost", LOOPBACK, "--blobPort", self.port, "--silent", "--disableTelemetry",
                "--inMemoryPersistence"]
        return [("azurite", argv, env)]

    def ready(self):
        try:
            with urllib.request.urlopen(f"{self.url}?comp=list", timeout=5) as answer:
                return bool(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return True  # 403: it asks who we are

    # A client for tests that put something there: own signing, so that prelux's is not tested against itself.

    def make_container(self, name):
        status, _, body = self.request("PUT", f"/{name}", {"restype": "container"})
        if status != 201:
            raise ServerError(f"azurite: container {name}: {status} {body[:300]!r}")

    def put_blob(self, container, name, data, **fields):
        """Put a block blob; its ETag."""
        path = f"/{container}/{urllib.parse.quote(name)}"
        status, head, body = self.request("PUT", path, body=data, fields={"x-ms-blob-type": "BlockBlob", **fields})
        if status != 201:
            raise ServerError(f"azurite: blob {name}: {status} {body[:300]!r}")
        return head["ETag"]

    def request(self, method, path, query=None, body=None, fields=None):
        """One signed request below the account (path percent-encoded): (status, head fields, body bytes)."""
        query = query or {}
        fields = {"x-ms-version": API_VERSION, "x-ms-date": formatdate(usegmt=True), **(fields or {})}
        if body is not None:
            fields.setdefault("Content-Type", "application/octet-stream")
        length = "" if not body else str(len(body))
        fields["Authorization"] = self._sign(method, path, query, fields, length)
        url = self.url + path + ("?" + urllib.parse.urlencode(query, quote_via=urllib.parse.quote) if query else "")
        request = urllib.request.Request(url, body, fields, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def _sign(self, method, path, query, fields, length):
        """SharedKey of 2015-02-21 and later.  The account stands twice: once as account, once as the path's first part."""
        lower = {name.lower(): value for name, value in fields.items()}
        standard = [lower.get(name, "") for name in ("content-encoding", "content-language")] + [length]
        standard += [lower.get(name, "") for name in ("content-md5", "content-type", "date", "if-modified-since", "if-match",
                                                      "if-none-match", "if-unmodified-since", "range")]
        own = "".join(f"{name}:{lower[name]}\n" for name in sorted(lower) if name.startswith("x-ms-"))
        resource = f"/{self.account}/{self.account}{path}" + "".join(f"\n{name}:{query[name]}" for name in sorted(query))
        text = "\n".join([method, *standard]) + "\n" + own + resource
        digest = hmac.new(base64.b64decode(self.key), text.encode(), hashlib.sha256).digest()
        return f"SharedKey {self.account}:{base64.b64encode(digest).decode()}"


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.azurite", description="Azurite for tests")
    parser.add_argument("--install", action="store_true", help="fetch it into the cache and leave")
    parser.add_argument("--run", action="store_true", help="serve an empty account")
    args = parser.parse_args(argv)
    if not args.install and not args.run:
        parser.error("--install or --run")
    PACKAGE.install()
    return 0 if not args.run else run_by_hand(Azurite(), lambda it: f"{it.url} key {it.key}")


if __name__ == "__main__":
    sys.exit(main())
