"""docs/MIGRATING.md, the part on alluxiofs: every row on the stand-in for Enterprise AI (tests/standin_ee; no real one is to be had).

alluxiofs itself (PyPI) runs its side of the rows on the same stand-in, where it can: its reads need the S3 port to be 29998 and ask without a
signature, which is refused here, and some calls end in its own errors."""

import ast
import json
import os

import pytest

from tests.integration import migrating_rig
from tests.servers.base import ServerError
from tests.servers.pythons import ALLUXIOFS
from tests.standin_ee.cluster import HOSTS, UNDER, EeStandin

PAGE = migrating_rig.Page("alluxiofs")
CHECKS = migrating_rig.Checks()
TIME = 1_700_000_000
# What alluxiofs 1.1.17 itself gets done on the stand-in. The others read by the S3 port (see above), or by calls that 3.7 may have and nobody described.
THEIRS = ["ls", "info", "isdir", "exists", "mkdir", "touch", "write", "upload", "copy", "mv", "rename", "rm", "submit_load", "load_progress"]


class Setup:
    def __init__(self, prelux, cluster):
        self.prelux, self.cluster, self.data = prelux, cluster, cluster.data
        (self.data / "d").mkdir()
        self.put("a.txt", "hello world")
        self.put("d/one", "1")
        (prelux.tmp / "local.txt").write_text("from the disk")
        ports = f"http_port: {cluster.http_port}, s3_port: {cluster.s3_port}"
        self.replace = {"s3://bucket/data": f"{UNDER}/data", "workers: [worker1, worker2]": f"workers: [{', '.join(HOSTS)}], {ports}"}
        prelux.config(PAGE.config("alluxiofs.config", self.replace))

    def put(self, name, text):
        (self.data / name).write_text(text)
        os.utime(self.data / name, (TIME, TIME))

    def read(self, name):
        path = self.data / name
        return path.read_text() if path.is_file() else None


@pytest.fixture
def setup(prelux, tmp_path):
    with EeStandin(tmp_path) as cluster:
        yield Setup(prelux, cluster)


@CHECKS("alluxiofs.mkdir")
def _(setup, done):
    assert (setup.data / "new").is_dir()


@CHECKS("alluxiofs.touch")
def _(setup, done):
    assert setup.read("empty") == ""


@CHECKS("alluxiofs.write")
def _(setup, done):
    assert setup.read("out.txt") == "written"


@CHECKS("alluxiofs.upload")
def _(setup, done):
    assert setup.read("up.txt") == "from the disk"


@CHECKS("alluxiofs.copy")
def _(setup, done):
    assert setup.read("a.txt") == setup.read("b.txt") == "hello world"


@CHECKS("alluxiofs.mv", "alluxiofs.rename")
def _(setup, done):
    assert setup.read("a.txt") is None and setup.read("b.txt") == "hello world"


@CHECKS("alluxiofs.rm")
def _(setup, done):
    assert setup.read("a.txt") is None and setup.read("d/one") == "1"


@CHECKS("alluxiofs.submit_load")
def _(setup, done):
    assert setup.cluster.jobs[f"{UNDER}/data/d"] == "RUNNING"


@CHECKS("alluxiofs.get_error_metrics")
def _(setup, done):
    refused, _, rows = done.stdout.partition("\n")
    row = json.loads(rows)[-1]
    assert refused == "refused" and (row["call"], row["path"], row["errno"]) == ("mkdir", "/mnt/lake/a?b", "EOPNOTSUPP")
    assert "one of its ports might change" in row["cause"]


@CHECKS("alluxiofs.stop_load")
def _(setup, done):
    assert setup.cluster.jobs[f"{UNDER}/data/d"] == "STOPPED"


@pytest.mark.parametrize("name", PAGE.names)
def test_row(setup, name):
    done = PAGE.run(setup.prelux, name, replace=setup.replace)
    CHECKS.run(name, setup, done)


@pytest.fixture
def package():
    if not ALLUXIOFS.installed():
        try:
            ALLUXIOFS.install()
        except ServerError as error:
            pytest.skip(f"alluxiofs cannot be installed: {str(error)[:300]}")
    return ALLUXIOFS


@pytest.mark.parametrize("row", THEIRS)
def test_their_row(setup, package, row):
    """The page's left side does the same to the cluster: it is checked as ours is."""
    if row == "load_progress":
        setup.cluster.jobs[f"{UNDER}/data/d"] = "RUNNING"
    replace = {**setup.replace, "worker1:28080,worker2:28080": f"{HOSTS[0]}:{setup.cluster.http_port},{HOSTS[1]}:{setup.cluster.http_port}",
               ', target_protocol="s3"': ""}
    done = PAGE.run_theirs(setup.prelux, f"alluxiofs.{row}", package.program, env={"ALLUXIO_PYTHON_SDK_LOG_PATH": setup.prelux.tmp}, replace=replace)
    CHECKS.run(f"alluxiofs.{row}", setup, migrating_rig.Done(done, ""))


# The tables against the package

def sources(package):
    return {path.name if path.parent.name == "alluxiofs" else f"{path.parent.name}/{path.name}": ast.parse(path.read_text())
            for folder in package.folder.glob("venv/lib/python3*/site-packages/alluxiofs") for path in folder.rglob("*.py")}


def public(tree, *classes):
    return {f.name for c in tree.body if isinstance(c, ast.ClassDef) and c.name in classes for f in c.body
            if isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) and not f.name.startswith("_")}


def arguments(tree, owner, name):
    for node in tree.body:
        for f in (node.body if isinstance(node, ast.ClassDef) and node.name == owner else []):
            if isinstance(f, ast.FunctionDef) and f.name == name:
                return {one.arg for one in f.args.args} - {"self"}


def test_methods_are_complete(package):
    tree = sources(package)
    there = public(tree["core.py"], "AlluxioFileSystem")
    assert len(there) > 25 and there <= migrating_rig.rows_of_tables(PAGE.text, "### Methods of AlluxioFileSystem")
    there = public(tree["client/core.py"], "AlluxioClient", "AlluxioAsyncFileSystem")
    assert len(there) > 20 and there == migrating_rig.rows_of_tables(PAGE.text, "### Methods of its client")


def test_options_are_complete(package):
    tree = sources(package)
    there = arguments(tree["client/config.py"], "AlluxioClientConfig", "__init__") | arguments(tree["core.py"], "AlluxioFileSystem", "__init__")
    for name in ("rm", "copy"):
        there |= arguments(tree["core.py"], "AlluxioFileSystem", name) - {"path", "path1", "path2"}
    shown = migrating_rig.rows_of_tables(PAGE.text, "### Options")
    assert len(there) > 25 and there <= shown and shown - there == {"skip_alluxio", "log_level"}


def test_the_page():
    assert PAGE.syntax() == []
    assert PAGE.unchecked(CHECKS) == ([], [])
