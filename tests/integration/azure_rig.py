"""What the test files of backend azure share: a running Azurite, the backend's tool, and servers whose answers a test makes up."""

import base64
import hashlib
import hmac
import json
import os
import re
import threading
import time
import urllib.parse
from email.utils import formatdate

import pytest

from tests import trees
from tests.integration.backends_raw_rig import Tool
from tests.servers import azurite
from tests.servers.base import ServerError
from tests.servers.threads import ThreadServer, head_fields

ENOENT, EIO, EACCES, ENOTDIR, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 20, 71, 95, 116


@pytest.fixture(scope="module")
def account():
    """A running Azurite with one account."""
    if not azurite.PACKAGE.installed():
        try:
            azurite.PACKAGE.install()
        except ServerError as error:
            pytest.skip(f"Azurite cannot be installed: {str(error)[:300]}")
    if azurite.Azurite.missing():
        pytest.skip(azurite.Azurite.missing())
    with azurite.Azurite() as server:
        yield server


def backend(account, container, **more):
    return {"type": "azure", "account": account.account, "container": container, "endpoint": account.url,
            **(more or {"account_key": account.key})}


def put(account, container, **blobs):
    """A new container with blobs {name: bytes}; its name."""
    account.make_container(container)
    for name, data in blobs.items():
        account.put_blob(container, name, data)
    return container


def sas(account, container, permissions="rl", ends=3600, tamper=False):
    """A service SAS of a container, made by hand."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ends))
    fields = [permissions, "", end, f"/blob/{account.account}/{container}", "", "", "", azurite.API_VERSION, "c"] + [""] * 7
    digest = hmac.new(base64.b64decode(account.key), "\n".join(fields).encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest[::-1] if tamper else digest).decode()
    return urllib.parse.urlencode({"sp": permissions, "se": end, "sv": azurite.API_VERSION, "sr": "c", "sig": signature})


def leaked(prelux, *secrets):
    """What of the secrets lies in the daemon's folder (log, errors, tables), as it is or encoded. A snapshot has the YAML as it is
    written (docs/SECURITY.md)."""
    texts = [path.read_bytes() for path in prelux.runtime.rglob("*") if path.is_file() and path.suffix != ".conf"]
    texts += [prelux.cli("status", check=False).stdout.encode(), prelux.cli("errors", check=False).stdout.encode()]
    return [one for one in secrets if any(one.encode() in text or urllib.parse.quote(one).encode() in text for text in texts)]


@pytest.fixture
def tool(tmp_path):
    made = []

    def make(**conf):
        made.append(Tool(tmp_path / f"tool{len(made)}", **conf))
        return made[-1]

    make.made = made
    yield make
    for one in made:
        one.close()


# Stand-ins: a server whose answers a test makes up.

class StandIn(ThreadServer):
    """answer(method, target, fields, body) -> (status, fields, body bytes)"""

    name = "stand-in"

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.bodies = []

    def serve(self, connection):
        while head := connection.read_until(b"\r\n\r\n"):
            method, target = head.decode("latin-1").split(" ")[:2]
            fields = head_fields(head)
            body = connection.body(int(fields.get("content-length", 0)))
            with self.lock:
                self.bodies.append((method, target, fields, body))
            status, more, data = self.answer(method, target, fields, body)
            more = {"Content-Length": str(len(data)), "Date": formatdate(usegmt=True), **more}
            lines = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in more.items() if value is not None]
            connection.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else data))


DATA = trees.pattern(1000, 4)
BLOB = {"ETag": '"0x8D1"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}


def blob_stand_in(valid=lambda fields: True, **changes):
    """A container with one blob `a`; valid(fields): does the server like the request's credential?"""

    def answer(method, target, fields, body):
        if not valid(fields):
            return 401, {"x-ms-error-code": "InvalidAuthenticationInfo"}, b""
        if "comp=list" in target:
            return 200, {}, changes.get("page", b"<EnumerationResults><Blobs/></EnumerationResults>")
        if not target.endswith("/box/a"):
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        part = fields.get("x-ms-range")
        head, status, data = {**BLOB, **changes.get("head", {})}, 200, DATA
        if method == "GET" and part:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", part).groups())
            head["Content-Range"], status, data = f"bytes {first}-{last}/{len(DATA)}", 206, DATA[first:last + 1]
        if method == "GET":
            head = {**head, **changes.get("get", {})}
            status, data = changes.get("status", status), changes.get("data", data)
        return status, head, data

    return StandIn(answer)


def stand_in_conf(server, **more):
    return {"type": "azure", "account": "acct", "container": "box", "endpoint": f"{server.url}/acct", **more}


def page_of(names, marker=""):
    blobs = "".join(f"<Blob><Name>{name}</Name><Properties><Content-Length>1</Content-Length><Etag>0x1</Etag></Properties></Blob>"
                    for name in names)
    return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>".encode()


class Tokens:
    """What the stand-in token servers gave out. life: seconds a token lives; down: they refuse."""

    def __init__(self, life=3600):
        self.life, self.down, self.given, self.asked = life, None, [], []
        self.valid = set()
        self.hook = lambda: None
        self.lock = threading.Lock()

    def answer(self, method, target, fields, body):
        self.hook()
        with self.lock:
            self.asked.append((method, target, fields, body.decode()))
            if self.down:
                return self.down, {}, b'{"error": "invalid_client", "error_description": "AADSTS7000215 secret text"}'
            self.given.append(f"token-{len(self.given)}-{os.urandom(8).hex()}")
            self.valid.add(self.given[-1])
            life = self.life if len(self.given) % 2 else str(self.life)  # some servers say it as text
            return 200, {}, json.dumps({"token_type": "Bearer", "access_token": self.given[-1], "expires_in": life}).encode()

    def likes(self, fields):
        return fields.get("authorization", "").removeprefix("Bearer ") in self.valid
