"""Azurite as a writable remote of the contract suite. Another client: Azure's REST, signed by tests/servers/azurite.py."""

import base64
import contextlib
import itertools
import os
import urllib.parse
import xml.etree.ElementTree as ET

from tests.integration import contract_remotes as r
from tests.servers import azurite
from tests.servers.base import ServerError

numbers = itertools.count()
running = {}


def account():
    """One Azurite for all tests of a run."""
    if not azurite.PACKAGE.installed():
        try:
            azurite.PACKAGE.install()
        except ServerError as error:
            raise r.Missing(f"Azurite cannot be installed: {str(error)[:300]}") from error
    if azurite.Azurite.missing():
        raise r.Missing(azurite.Azurite.missing())
    if "server" not in running:
        running["server"] = azurite.Azurite().start()
    return running["server"]


class AzureRemote(r.Remote):
    """A container of its own."""

    cannot = (b"back\\slash", b"new\nline", b"tab\tbell\a", b"\xff\xfe")  # a slash to Azure; control characters; UTF-8

    def __init__(self, tmp, server):
        super().__init__(tmp)
        self.server = server
        self.container = f"contract{os.getpid()}-{next(numbers)}"
        server.make_container(self.container)
        self.conf = {"type": "azure", "account": server.account, "container": self.container, "endpoint": server.url,
                     "account_key": server.key}

    def request(self, method, path, query=None, **more):
        return self.server.request(method, f"/{self.container}/{urllib.parse.quote(os.fsencode(path))}", query, **more)

    def blobs(self, include):
        """[(name, is a folder's mark)] of all blobs."""
        found, marker = [], ""
        while True:
            query = {"restype": "container", "comp": "list", "include": include, "marker": marker}
            status, _, body = self.server.request("GET", f"/{self.container}", {name: value for name, value in query.items() if value})
            assert status == 200, body
            root = ET.fromstring(body)
            for blob in root.iter("Blob"):
                name = blob.find("Name")
                text = urllib.parse.unquote(name.text) if name.get("Encoded") == "true" else name.text
                found.append((text.encode(), blob.find("Metadata/hdi_isfolder") is not None))
            marker = root.findtext("NextMarker")
            if not marker:
                return found

    def objects(self):
        return {name: None if folder else self.content(name) for name, folder in self.blobs("metadata")}

    def content(self, path):
        status, _, body = self.request("GET", path)
        assert status == 200, (path, status)
        return body

    def write(self, path, data):
        self.server.put_blob(self.container, os.fsencode(path), data)

    def blocks(self, path):
        """Ids of uncommitted blocks."""
        status, _, body = self.request("GET", path, {"comp": "blocklist", "blocklisttype": "uncommitted"})
        return [base64.b64decode(block.findtext("Name")) for block in ET.fromstring(body).iter("Block")] if status == 200 else []

    def uploads(self):
        """Begun and not aborted: lib/backend/azure_blocks.c says what the ids mean."""
        count = 0
        for name, _ in self.blobs("uncommittedblobs"):
            marks = {(block[3:4], block[4:12]) for block in self.blocks(name) if block[:3] == b"PLX"}
            count += sum(kind == b"B" and (b"X", upload) not in marks for kind, upload in marks)
        return count


@contextlib.contextmanager
def azurite_remote(tmp):
    yield AzureRemote(tmp, account())
