"""A real cluster of Alluxio 3.x, named by the environment; without one every test here is skipped with a line that says so.

PRELUX_TEST_ALLUXIO_ETCD=host:port             its etcd
PRELUX_TEST_ALLUXIO_ROOT=file:///DIR           its UFS root, a folder of this machine: the tests write below it
PRELUX_TEST_ALLUXIO_CLUSTER=NAME               default DefaultAlluxioCluster
PRELUX_TEST_ALLUXIO_MASTER=1                   load jobs work
PRELUX_TEST_ALLUXIO_S3_PORT, _PAGE_SIZE        default 29998 and 1048576
"""

import os
import shutil
import uuid
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.alluxio3", "tests.alluxio3_write")

from tests import alluxio3  # noqa: E402

PREFIX = "PRELUX_TEST_ALLUXIO_"


def setting(name, default=""):
    return os.environ.get(PREFIX + name, default)


def missing():
    """Why the tests cannot run, or None."""
    unset = [PREFIX + name for name in ("ETCD", "ROOT") if not setting(name)]
    if unset:
        return f"no real Alluxio 3.x: {' and '.join(unset)} not set (see tests/interop/conftest.py)"
    root = setting("ROOT")
    if not root.startswith("file:///") or not os.access(root[7:], os.W_OK):
        return f"{PREFIX}ROOT={root}: the tests need a root that is a folder of this machine and can be written to"
    return None


@pytest.fixture(scope="module")
def place():
    root = setting("ROOT")
    one = alluxio3.Place(root=root, ufs=Path(root[7:]), folder=f"prelux-{uuid.uuid4().hex[:12]}", etcd=setting("ETCD"),
                         cluster=setting("CLUSTER", "DefaultAlluxioCluster"), s3_port=int(setting("S3_PORT", "29998")),
                         page_size=int(setting("PAGE_SIZE", str(alluxio3.MIB))), load=setting("MASTER") == "1")
    one.data.mkdir()
    yield one
    shutil.rmtree(one.data, ignore_errors=True)


@pytest.fixture(scope="module")
def lake_data(place):
    return alluxio3.make_data(place.data / "tree")
