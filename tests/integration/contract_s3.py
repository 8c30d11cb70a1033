"""S3 servers for the contract suite: versitygw (strict), `rclone serve s3` (hostile: ignores every condition), MinIO (by hand).

The other client of the same remote signs by itself (tests/s3client.py); where a server's own listings cannot say every name, its
folder is read instead.
"""

import base64
import contextlib
import hashlib
import os
import urllib.parse
import xml.etree.ElementTree as ET

from tests.integration.contract_remotes import Missing, Remote
from tests.s3client import S3Client, encode
from tests.servers.minio import Minio
from tests.servers.rclone_s3 import RcloneS3
from tests.servers.versitygw import Versitygw

BUCKET = "data"


class S3Remote(Remote):
    part_size = 5 << 20
    knows_part_size = False
    late_s = 0.5
    cannot = (b"\xff\xfe",)  # keys are Unicode

    def __init__(self, tmp, server):
        super().__init__(tmp)
        self.server = server
        self.folder = os.fsencode(server.bucket(BUCKET))
        self.client = S3Client(server.url, server.access_key, server.secret_key)
        self.conf = {"type": "s3", "bucket": BUCKET, "endpoint": server.url, "access_key": server.access_key,
                     "secret_key": server.secret_key, "region": server.region, "multipart_threshold": "64MiB"}

    def content(self, path):
        path = os.fsencode(path)
        status, _, body = self.client.request("GET", f"/{BUCKET}/{encode(path, b'/')}")
        assert status == 200, (status, path, body)
        return body

    def write(self, path, data):
        self.client.put(BUCKET, os.fsencode(path), data, **{"Content-MD5": base64.b64encode(hashlib.md5(data).digest()).decode()})

    def uploads(self):
        status, _, text = self.client.request("GET", f"/{BUCKET}", {"uploads": ""})
        if status == 404 and b"NoSuchUpload" in text:  # rclone: there are none
            return 0
        assert status == 200, text
        keys = [next(field.text for field in one if field.tag.endswith("Key")) for one in ET.fromstring(text) if one.tag.endswith("Upload")]
        return sum(".prelux~probe-" not in key for key in keys)  # the backend's trial of the server makes one, for a moment


class FolderOfObjects(S3Remote):
    """A server whose bucket is a folder."""

    def hidden(self, path):
        return False

    def marker(self, path):
        return False

    def objects(self):
        found = {}
        for folder, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not self.hidden(os.path.join(folder, name))]
            for name in folders:
                if self.marker(os.path.join(folder, name)):
                    found[os.path.relpath(os.path.join(folder, name), self.folder)] = None
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    found[os.path.relpath(os.path.join(folder, name), self.folder)] = file.read()
        return found


class VersitygwRemote(FolderOfObjects):
    completes_again = True  # a second `complete` of one upload is 200 with the same ETag
    cannot = (b"\xff\xfe", b"tab\tbell\a")  # its listings are not encoded: XML has no way to say it

    def hidden(self, path):
        return os.path.basename(path) == b".sgwtmp"

    def marker(self, path):
        return b"user.etag" in [os.fsencode(name) for name in os.listxattr(path)]


class RcloneRemote(FolderOfObjects):
    """Folders come and go with what is in them.  What it has not finished lies in the bucket's folder, where it does not show it."""

    cannot = (b"\xff\xfe", b"tab\tbell\a")
    breaks_on = (b"new\nline",)
    gaps = True

    def objects(self):
        return {path: data for path, data in super().objects().items() if not os.path.basename(path).startswith(b".rclone_temp_")}

    def forget(self, name):
        """Remove what it has made and denies."""
        os.unlink(os.path.join(self.folder, name))


class MinioRemote(S3Remote):
    """Seen by its own listings, which are encoded."""

    def objects(self):
        found, after = {}, None
        while after is None or after:
            query = {"list-type": "2", "encoding-type": "url", **({"continuation-token": after} if after else {})}
            status, _, text = self.client.request("GET", f"/{BUCKET}", query)
            assert status == 200, text
            page = ET.fromstring(text)
            for one in page.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key"):
                key = urllib.parse.unquote_to_bytes(one.text.replace("+", " "))
                found[key.rstrip(b"/")] = None if key.endswith(b"/") else self.content(key)
            after = page.findtext("{*}NextContinuationToken") or ""
        return found

    def uploads(self):
        """It lists those of one object only."""
        return len(list((self.server.folder / "data/.minio.sys/multipart").glob("*/*")))


@contextlib.contextmanager
def served(kind, remote, tmp):
    missing = kind.missing()
    if missing:
        raise Missing(missing)
    with kind(folder=tmp / kind.name) as server:
        yield remote(tmp, server)


def versitygw(tmp):
    return served(Versitygw, VersitygwRemote, tmp)


def rclone(tmp):
    return served(RcloneS3, RcloneRemote, tmp)


def minio(tmp):
    return served(Minio, MinioRemote, tmp)
