"""Backend azure on a real Azurite: the programs of test_programs.py, names, folders, credentials, changes; and azfuse's own files.

What Azurite cannot show (tokens, archived blobs, lies) comes from stand-ins in this file, which are called so.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.integration.test_backends_raw import Tool
from tests.servers import azurite
from tests.servers.base import ServerError
from tests.servers.threads import ThreadServer, head_fields

ENOENT, EIO, EACCES, ENOTDIR, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 20, 71, 95, 116
CANNOT = ("back\\slash", "\x01control")  # Azure makes a slash of the one; Azurite cannot list the other
SCALE = 10_000


@pytest.fixture(scope="module")
def account():
    """A running Azurite with one account."""
    if not azurite.installed():
        try:
            azurite.install()
        except ServerError as error:
            pytest.skip(f"Azurite cannot be installed: {str(error)[:300]}")
    if azurite.Azurite.missing():
        pytest.skip(azurite.Azurite.missing())
    with azurite.Azurite() as server:
        yield server


def backend(account, container, **more):
    return {"type": "azure", "account": account.account, "container": container, "endpoint": account.url,
            **(more or {"account_key": account.key})}


class Uploader:
    """Puts blobs over kept connections, one a thread; tells Last-Modified of each."""

    def __init__(self, account, container):
        self.account, self.container = account, container
        self.local = threading.local()

    def __call__(self, name, data=b"", **fields):
        path = f"/{self.container}/" + urllib.parse.quote(name)
        head = {"x-ms-version": azurite.API_VERSION, "x-ms-date": formatdate(usegmt=True), "x-ms-blob-type": "BlockBlob",
                "Content-Type": "application/octet-stream", **fields}
        head["Authorization"] = self.account._sign("PUT", path, {}, head, str(len(data)) if data else "")
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.account.port, timeout=60)
        self.local.connection.request("PUT", f"/{self.account.account}{path}", data, head)
        answer = self.local.connection.getresponse()
        answer.read()
        assert answer.status == 201, (name, answer.status)
        return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()


def upload(account, container, root):
    """The tree as blobs; its files get the times of theirs. An empty folder is a blob that says so of itself."""
    put, jobs = Uploader(account, container), []
    with ThreadPoolExecutor(4) as pool:
        for folder, folders, files in os.walk(root):
            below = os.path.relpath(folder, root).replace("./", "").strip(".") if folder != str(root) else ""
            for name in files:
                path = os.path.join(folder, name)
                jobs.append((path, pool.submit(lambda p, n: put(n, open(p, "rb").read()), path, f"{below}/{name}".strip("/"))))
            if not files and not folders:
                jobs.append((folder, pool.submit(put, below, b"", **{"x-ms-meta-hdi_isfolder": "true"})))
    for path, job in jobs:
        os.utime(path, (job.result(), job.result()))


@pytest.fixture(scope="module")
def lake_data(account, tmp_path_factory):
    root = tmp_path_factory.mktemp("azure") / "tree"
    trees.make_tree(root)
    for name in os.listdir(os.fsencode(root / "names")):
        if name in [one.encode() for one in CANNOT] + [trees.NOT_UTF8]:
            os.unlink(os.fsencode(root / "names") + b"/" + name)
    bare = root / "bare.git"
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--bare", "--no-hardlinks", root / "repository", bare], check=True)
    account.make_container("tree")
    upload(account, "tree", root)
    return root


def map_it(prelux, account, container, source=None, **more):
    prelux.config({"version": 1, "backends": {"src": backend(account, container, **more)},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", source, "azure"
    return prelux


@pytest.fixture
def lake(prelux, account, lake_data):
    return map_it(prelux, account, "tree", lake_data)


# The programs: bodies are those of test_programs.py, on this file's `lake`.

test_same_output = programs.test_same_output
test_times_of_files = programs.test_times_of_files
test_copy_and_diff = programs.test_copy_and_diff
test_python = programs.test_python
test_gcc_with_headers_there = programs.test_gcc_with_headers_there
test_java = programs.test_java
test_node = programs.test_node
test_programs_lying_there = programs.test_programs_lying_there
test_git_clone = programs.test_git_clone
test_sqlite = programs.test_sqlite
test_empty_file_and_ends = programs.test_empty_file_and_ends


@pytest.mark.limit(240)
def test_ten_thousand_names(prelux, account, tmp_path):
    folder = tmp_path / "tree" / "ten-thousand"
    folder.mkdir(parents=True)
    for number in range(SCALE):
        (folder / f"name-{number:05}").write_text(str(number))
    account.make_container("scale")
    upload(account, "scale", tmp_path / "tree")
    programs.test_ten_thousand_names(map_it(prelux, account, "scale", tmp_path / "tree"))
