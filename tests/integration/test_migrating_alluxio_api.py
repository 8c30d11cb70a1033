"""docs/MIGRATING.md, the part on the Alluxio Python API: every row on a real Alluxio 2.9, and the client of PyPI beside it, on the same."""

import ast
import re

import pytest

from tests import harness
from tests.integration import contract_alluxio, contract_remotes, migrating_rig
from tests.integration.alluxio_proxy_rig import info
from tests.servers.base import ServerError
from tests.servers.pythons import ALLUXIO_API

PAGE = migrating_rig.Page("alluxio_api")
CHECKS = migrating_rig.Checks()
# The client answers each error of a 2.x proxy with a KeyError, and its ttl is of 1.x; the page says so.
THEIRS = [block.name for block in PAGE.blocks if block.side == "theirs" and not block.name.endswith((".setup", ".errors", ".ttl"))]


class Setup:
    """A folder of Alluxio's own for each test, in which the page's /data lies."""

    def __init__(self, prelux, remote, name):
        self.prelux, self.remote, self.tmp = prelux, remote, prelux.tmp
        remote.call("POST", "data", "create-directory")
        remote.call("POST", "data/d", "create-directory")
        remote.write("data/a.txt", b"hello world")
        remote.write("data/d/one", b"1")
        (self.tmp / "local.txt").write_text("from the disk")
        self.store = self.tmp / "store"
        self.store.mkdir()
        (self.store / "inside").write_text("x")
        self.replace = {"http://proxyhost:39999": remote.server.url, '"lake:/"': f'"lake:{remote.top}"', "s3://bucket/x": self.store}
        self.replace_theirs = {"'proxyhost', 39999": f"'127.0.0.1', {remote.server.ports['proxy.web']}", "'/data": f"'{remote.top}/data",
                               "s3://bucket/x": self.store}
        if name == "unmount":
            assert remote.call("POST", "data/m", "mount", {}, f"?src={self.store}")[0] == 200
        prelux.config(PAGE.config("alluxio_api.config", self.replace))

    def info(self, path):
        return info(self.remote, path)


@pytest.fixture
def setup(prelux, request):
    try:
        with contract_alluxio.alluxio_remote(prelux.tmp) as remote:
            yield Setup(prelux, remote, re.search(r"\[(?:alluxio_api\.)?(\w+)\]", request.node.name).group(1))
            remote.call("POST", "data/m", "unmount")
    except contract_remotes.Missing as why:
        pytest.skip(str(why))


@CHECKS("alluxio_api.create_directory")
def _(setup, done):
    now = setup.info("data/new/child")
    assert now["folder"] and now["mode"] == 0o750


@CHECKS("alluxio_api.create_file")
def _(setup, done):
    assert setup.remote.content("data/out.bin") == b"one two" and setup.info("data/out.bin")["persistenceState"] == "PERSISTED"


@CHECKS("alluxio_api.write")
def _(setup, done):
    assert setup.remote.content("data/out.txt") == b"written"


@CHECKS("alluxio_api.upload")
def _(setup, done):
    assert setup.remote.content("data/up.txt") == b"from the disk"


@CHECKS("alluxio_api.download")
def _(setup, done):
    assert (setup.tmp / "copy.txt").read_text() == "hello world"


@CHECKS("alluxio_api.rename")
def _(setup, done):
    assert set(setup.remote.objects()) == {b"data", b"data/b.txt", b"data/d", b"data/d/one"}
    assert setup.remote.content("data/b.txt") == b"hello world"


@CHECKS("alluxio_api.delete")
def _(setup, done):
    assert set(setup.remote.objects()) == {b"data", b"data/a.txt"}


@CHECKS("alluxio_api.free")
def _(setup, done):
    harness.wait_for(lambda: setup.info("data/d/one")["inAlluxioPercentage"] == 0, 20, "the workers have freed it")
    assert setup.info("data/a.txt")["inAlluxioPercentage"] == 100 and setup.remote.content("data/d/one") == b"1"


@CHECKS("alluxio_api.mount")
def _(setup, done):
    assert setup.info("data/m")["mountPoint"] and setup.remote.content("data/m/inside") == b"x"
    assert setup.remote.call("POST", "data/m/new", "create-directory")[0] == 500  # read-only
    assert done.stdout in ("", "lake:/data/m is mounted\ninside\n".replace("/data", f"{setup.remote.top}/data"))


@CHECKS("alluxio_api.unmount")
def _(setup, done):
    assert b"data/m" not in setup.remote.objects() and (setup.store / "inside").read_text() == "x"


@CHECKS("alluxio_api.set_attribute")
def _(setup, done):
    assert setup.info("data/d/one")["pinned"] and setup.info("data/d")["pinned"] and not setup.info("data/a.txt")["pinned"]


@CHECKS("alluxio_api.chown")
def _(setup, done):
    now = setup.info("data/a.txt")
    assert (now["owner"], now["mode"]) == ("nobody", 0o640)


@CHECKS("alluxio_api.ttl")
def _(setup, done):
    now = setup.info("data/a.txt")
    assert (now["ttl"], now["ttlAction"]) == (86400000, "FREE")


@pytest.mark.parametrize("name", PAGE.names)
def test_row(setup, name):
    CHECKS.run(name, setup, PAGE.run(setup.prelux, name, cwd=setup.tmp, replace=setup.replace))


@pytest.fixture(scope="module")
def package():
    if not ALLUXIO_API.installed():
        try:
            ALLUXIO_API.install()
        except ServerError as error:
            pytest.skip(f"alluxio cannot be installed: {str(error)[:300]}")
    return ALLUXIO_API


@pytest.mark.parametrize("name", THEIRS)
def test_their_row(setup, package, name):
    """The page's left side prints the same and does the same: it is checked as ours is."""
    out = PAGE.run_theirs(setup.prelux, name, package.program, cwd=setup.tmp, replace=setup.replace_theirs)
    assert PAGE.expected(name) in (None, out)
    CHECKS.run(name, setup, migrating_rig.Done(out, ""))


@pytest.mark.parametrize("name, error", [("errors", "KeyError: 'status'"), ("ttl", "JSONDecodeError")], ids=["errors", "ttl"])
def test_what_the_page_says_that_the_client_cannot(setup, package, name, error):
    with pytest.raises(AssertionError, match=error):
        PAGE.run_theirs(setup.prelux, f"alluxio_api.{name}", package.program, cwd=setup.tmp, replace=setup.replace_theirs)
    assert setup.info("data/a.txt")["ttl"] == -1


# The tables against the package

def classes(package, module):
    path, = package.folder.glob(f"venv/lib/python3*/site-packages/alluxio/{module}.py")
    return [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]


def rows(heading):
    return migrating_rig.rows_of_tables(PAGE.text, heading)


def test_methods_are_complete(package):
    there = {f"{one.name}.{f.name}" for one in classes(package, "client") for f in one.body
             if isinstance(f, ast.FunctionDef) and not f.name.startswith("_")}
    assert len(there) > 18 and there == rows("### Methods of its classes")


def test_options_are_complete(package):
    there = set()
    for one in classes(package, "option"):
        keys = {call.args[0].value for call in ast.walk(one) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and
                call.func.attr == "get" and isinstance(call.args[0], ast.Constant)}
        there |= {f"{one.name}.{key}" for key in keys} or {one.name}
    assert len(there) > 25 and there == rows("### Option classes")


def test_exceptions_and_wire_classes_are_complete(package):
    assert {one.name for one in classes(package, "exceptions")} - {"Status"} == rows("### Exceptions")
    assert {one.name for one in classes(package, "wire")} == rows("### Wire classes")


def test_the_page():
    assert PAGE.syntax() == []
    assert PAGE.unchecked(CHECKS) == ([], [])
