"""Backend s3 on real servers: versitygw (strict) and `rclone serve s3` (hostile: 200 to a Range, ignores If-Match).

The programs are those of test_programs.py, collected here with a `lake` of their own.
"""

import os
import shutil

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.s3client import S3Client
from tests.servers.base import ServerError
from tests.servers.rclone_s3 import RcloneS3
from tests.servers.versitygw import Versitygw

# Collected here, in this order: pytest looks for their fixtures in this module first. A plain `git clone` makes hard links to
# the source, so it comes after what counts them.
from tests.integration.test_programs import (  # noqa: F401
    test_same_output, test_times_of_files, test_copy_and_diff, test_python, test_gcc_with_headers_there, test_java, test_node,
    test_programs_lying_there, test_git_clone, test_sqlite, test_empty_file_and_ends, test_ten_thousand_names)

SERVERS = {"versitygw": Versitygw, "rclone": RcloneS3}


def start(request, kind, root):
    """A running server of this kind over the folder, or a skip with a line."""
    server = SERVERS[kind]
    if server is Versitygw:
        from tests.servers.versitygw import TOOL
        try:
            TOOL.install()
        except ServerError as error:
            pytest.skip(f"versitygw cannot be installed: {str(error)[:300]}")
    why = server.missing()
    if why:
        pytest.skip(why)
    one = server(root)
    request.session.config.add_cleanup(one.stop)
    one.start()
    return one


def backend(server, bucket="data", **keys):
    return {"type": "s3", "endpoint": server.url, "bucket": bucket, "access_key": server.access_key,
            "secret_key": server.secret_key, **keys}


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """{kind: (root, server)}, each with the bucket `tree`, made once."""
    return {}


@pytest.fixture(params=SERVERS)
def lake(request, prelux, served, tmp_path_factory):
    kind = request.param
    if kind not in served:
        buckets = tmp_path_factory.mktemp(kind) / "buckets"
        buckets.mkdir()
        server = start(request, kind, buckets)
        served[kind] = programs.make_data(buckets / "tree", portable=True), server
        if kind == "rclone":  # which calls it by a picture of a tab
            (buckets / "tree/names/tab\tin").unlink()
    root, server = served[kind]
    if kind == "rclone" and request.function is test_ten_thousand_names:
        pytest.skip("rclone reads its whole folder for each page")
    prelux.config({"version": 1, "backends": {"src": backend(server, "tree")},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", root, kind
    return prelux
