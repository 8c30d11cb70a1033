"""What was written to one remote goes to that one and no other, whatever becomes of the catalogue that numbers the remotes of a cache folder."""

import os

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.wire_node import Node

pytestmark = pytest.mark.asan

FLAGS = os.O_WRONLY | os.O_CREAT


class Rig:
    """Two configurations, one and two, each with a remote of its own, and one cache folder."""

    def __init__(self, prelux):
        self.prelux = prelux
        self.roots = {name: prelux.tmp / name for name in ("one", "two")}
        for root in self.roots.values():
            root.mkdir()

    def use(self, name):
        return Node(self.prelux, self.roots[name], write="async")

    def owe(self, name, files):
        """Files of a remote that is away until it is let in."""
        node = self.use(name)
        fds = {path: node.open(path, FLAGS) for path in files}
        for path, fd in fds.items():
            os.write(fd, files[path])
        os.rename(node.source, f"{node.source}.away")
        for path, fd in fds.items():
            assert node.close(path, fd) == 0
        self.prelux.kill_daemon()

    def let_in(self, name):
        os.rename(f"{self.roots[name]}.away", self.roots[name])

    def lose_catalogue(self):
        for path in self.prelux.cache.glob(".prelux/catalogue.db*"):
            path.unlink()

    def pending(self, *words):
        return self.prelux.cli("pending", "list", *words, "--json")


@pytest.fixture
def rig(prelux):
    return Rig(prelux)


@pytest.mark.parametrize("lost", [True, False], ids=["catalogue-lost", "catalogue-kept"])
def test_bytes_of_one_remote_never_go_to_another(rig, lost):
    rig.owe("one", {"a": b"of one", "b": b"of one, too"})
    if lost:
        rig.lose_catalogue()
    rig.let_in("one")

    two = rig.use("two")
    assert two.write("own", b"of two") == 0
    rig.prelux.cli("flush")
    assert sorted(path.name for path in two.source.iterdir()) == ["own"], "what was written to the other remote"
    assert two.read("a") == -2 and not list(rig.roots["one"].iterdir())
    told = rig.pending()
    assert told["away"] == 2 and told["count"] == 0 == rig.pending("/prelux-test")["away"]
    assert {(f["path"], f["state"], f["size"]) for f in told["files"]} == {("a", "away", 6), ("b", "away", 11)}
    assert all(str(rig.roots["one"]) in f["cause"] for f in told["files"]), told["files"]

    one = rig.use("one")
    wait_for(lambda: (one.source / "a").exists() and (one.source / "b").exists(), 20, "they reach their own")
    assert (one.source / "a").read_bytes() == b"of one" == one.read("a") and (one.source / "b").read_bytes() == b"of one, too"
    rig.prelux.cli("flush")
    assert rig.pending()["away"] == 0 and sorted(path.name for path in rig.roots["two"].iterdir()) == ["own"]
    assert not list((rig.prelux.cache / ".prelux/staging").iterdir()) and not list((rig.prelux.cache / ".prelux/recovered").iterdir())


def test_a_person_may_take_or_drop_what_is_away(rig):
    rig.owe("one", {"a": b"of one", "b": b"of one, too"})
    rig.use("two")
    rows = {f["path"]: f["id"] for f in rig.pending()["files"]}
    out = rig.prelux.tmp / "out"
    rig.prelux.cli("pending", "export", rows["a"], str(out))
    assert out.read_bytes() == b"of one"
    assert rig.prelux.cli("pending", "retry", rows["a"], check=False).returncode == 1, "its remote is not in use"
    rig.prelux.cli("pending", "drop", rows["a"])
    assert [f["path"] for f in rig.pending()["files"]] == ["b"]
    assert len(list((rig.prelux.cache / ".prelux/staging").iterdir())) == 1
    rig.let_in("one")
    one = rig.use("one")
    wait_for(lambda: (one.source / "b").exists(), 20, "the other is sent")
    assert wire.stat(rig.prelux.runtime, one.table, 0, "a").status == -2


def test_a_descriptor_that_outlives_catalogue_and_daemon(rig):
    """It is written to while no daemon is there, and while another remote has the catalogue's first number."""
    one = rig.use("one")
    fd = one.open("f", FLAGS)
    rig.prelux.kill_daemon()
    rig.lose_catalogue()
    os.write(fd, b"late")
    two = rig.use("two")
    assert two.read("f") == -2
    one = rig.use("one")
    assert one.read("f") == b"late"
    assert one.close("f", fd) == 0
    wait_for(lambda: (one.source / "f").exists(), 20, "it is sent")
    assert (one.source / "f").read_bytes() == b"late" and not list(rig.roots["two"].iterdir())
