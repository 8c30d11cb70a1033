"""Names, attributes and links as the daemon does them, spoken over the wire: what the remote has afterwards, what this node shows of it, and
what a daemon killed in between finds again."""

import os
import threading

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.wire_node import Node

pytestmark = pytest.mark.asan

ENOENT, EAGAIN, EEXIST, EXDEV, ENOTDIR, EISDIR, EINVAL, EROFS, ENOTEMPTY, EBUSY = 2, 11, 17, 18, 20, 21, 22, 30, 39, 16
NOREPLACE, EXCHANGE = 1, 2


@pytest.fixture
def node(prelux):
    def make(**how):
        one = Node(prelux, **how)
        (one.source / "sub").mkdir()
        (one.source / "sub" / "in").write_bytes(b"in")
        return one
    return make


HOW = pytest.mark.parametrize("how", [{}, {"freshness": "immutable"}, {"freshness": "always"}, {"write": "async"}],
                              ids=["max_age", "immutable", "always", "async"])


def settled(node, check):
    def done():
        try:
            return check()
        except FileNotFoundError:
            return False
    wait_for(done, 20, "the remote has it")


@HOW
def test_unlink(node, how):
    node = node(**how)
    assert node.read("old") == b"old" and node.list() == ["old", "sub"]
    was = node.ino("old")
    assert node.unlink("old") == 0
    settled(node, lambda: not (node.source / "old").exists())
    assert node.stat("old") == -ENOENT and node.read("old") == -ENOENT and node.list() == ["sub"]
    assert node.unlink("old") == -ENOENT and node.unlink("sub") == -EISDIR and node.unlink("sub/in/x") in (-ENOTDIR, -ENOENT)
    assert node.write("old", b"anew") == 0
    assert node.ino("old") != was and node.read("old") == b"anew" and node.list() == ["old", "sub"]
    node.restart()
    assert node.stat("old")["size"] == 4


@HOW
def test_folders(node, how):
    node = node(**how)
    assert node.stat("d") == -ENOENT and node.list() == ["old", "sub"]
    assert node.mkdir("d", 0o750) == 0
    assert node.stat("d")["type"] == 2 and node.stat("d")["mode"] == 0o750 and node.list() == ["d", "old", "sub"]
    settled(node, lambda: (node.source / "d").is_dir())
    assert node.list("d") == []
    assert node.mkdir("d") == -EEXIST and node.mkdir("old") == -EEXIST and node.mkdir("none/d") == -ENOENT
    assert node.mkdir("old/d") in (-ENOTDIR, -ENOENT)
    fd = node.open("d/f", os.O_WRONLY | os.O_CREAT)
    assert node.rmdir("d") == -ENOTEMPTY, "a file is being written in it"
    assert node.mkdir("d/f") == -EEXIST and node.rmdir("d/f") == -ENOTDIR
    assert node.close("d/f", fd) == 0
    assert node.rmdir("d") == -ENOTEMPTY and node.rmdir("old") == -ENOTDIR
    assert node.unlink("d/f") == 0 and node.rmdir("d") == 0
    assert node.stat("d") == -ENOENT and node.list() == ["old", "sub"] and node.rmdir("d") == -ENOENT
    settled(node, lambda: not (node.source / "d").exists())
    assert node.mkdir("") == -EEXIST and node.rmdir("") == -EBUSY and node.unlink("") == -EISDIR


@HOW
def test_rename_a_file(node, how):
    node = node(**how)
    (node.source / "other").write_bytes(b"the other")
    assert node.read("old") == b"old" and node.read("other") == b"the other" and node.stat("new") == -ENOENT
    was = node.ino("old")
    assert node.rename("old", "new") == 0
    settled(node, lambda: (node.source / "new").exists() and not (node.source / "old").exists())
    assert node.stat("old") == -ENOENT and node.read("new") == b"old" and node.ino("new") == was
    assert node.rename("new", "other") == 0, "onto a file"
    settled(node, lambda: (node.source / "other").read_bytes() == b"old")
    assert node.read("other") == b"old" and node.ino("other") == was and node.list() == ["other", "sub"]
    assert node.rename("other", "sub/in", NOREPLACE) == -EEXIST and node.rename("other", "sub") == -EISDIR
    assert node.rename("none", "x") == -ENOENT and node.rename("other", "none/x") == -ENOENT
    assert node.rename("other", "other") == 0 and node.rename("other", "other", NOREPLACE) == -EEXIST
    assert node.rename("other", "sub/moved", NOREPLACE) == 0 and node.list("sub") == ["in", "moved"]
    node.restart()
    assert node.ino("sub/moved") == was and node.read("sub/moved") == b"old" and node.stat("other") == -ENOENT
    assert node.rename("", "x") == -EBUSY and node.rename("sub", "") == -EBUSY


@HOW
def test_rename_a_folder(node, how):
    node = node(**how)
    assert node.read("sub/in") == b"in" and node.list("sub") == ["in"]
    folder, inside = node.ino("sub"), node.ino("sub/in")
    fd = node.open("sub/w", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"half")
    again = node.open("sub/in", os.O_WRONLY | os.O_APPEND)
    assert node.rename("sub", "sub/below") == -EINVAL and node.rename("old", "old/x") in (-ENOTDIR, -EINVAL)
    assert node.rename("sub", "moved") == 0
    assert node.stat("sub") == -ENOENT and node.stat("sub/in") == -ENOENT and node.stat("sub/w") == -ENOENT
    assert node.ino("moved") == folder and node.ino("moved/in") == inside and node.list("moved") == ["in", "w"]
    os.write(fd, b" and more")
    os.write(again, b"+1")
    assert node.close("moved/w", fd) == 0 and node.close("moved/in", again) == 0
    settled(node, lambda: sorted(p.name for p in (node.source / "moved").iterdir() if p.name[0] != ".") == ["in", "w"])
    settled(node, lambda: (node.source / "moved" / "w").read_bytes() == b"half and more")
    settled(node, lambda: (node.source / "moved" / "in").read_bytes() == b"in+1")
    assert not (node.source / "sub").exists()
    assert node.mkdir("empty") == 0 and node.rename("moved", "empty") == 0 and node.read("empty/w") == b"half and more"
    assert node.mkdir("moved") == 0 and node.rename("moved", "empty") == -ENOTEMPTY and node.rename("empty", "old") == -ENOTDIR


def test_exchange(node):
    node = node()
    assert node.read("old") == b"old" and node.read("sub/in") == b"in"
    inos = node.ino("old"), node.ino("sub/in")
    assert node.rename("old", "sub/in", EXCHANGE) == 0
    assert (node.read("old"), node.read("sub/in")) == (b"in", b"old") and (node.ino("sub/in"), node.ino("old")) == inos
    assert node.rename("old", "none", EXCHANGE) == -ENOENT and node.rename("old", "x", 3) == -EINVAL


@HOW
def test_unlink_of_what_is_written(node, how):
    node = node(**how)
    new = node.open("new", os.O_RDWR | os.O_CREAT)
    old = node.open("old", os.O_RDWR | os.O_APPEND)
    os.write(new, b"new")
    os.write(old, b"+1")
    assert node.unlink("new") == 0 and node.unlink("old") == 0
    assert node.stat("new") == -ENOENT and node.stat("old") == -ENOENT and node.list() == ["sub"]
    settled(node, lambda: not (node.source / "old").exists())
    assert os.pread(new, 9, 0) == b"new" and os.pread(old, 9, 0) == b"old+1", "descriptors stay good"
    assert node.write("new", b"another") == 0
    assert node.close("new", new) == 0 and node.close("old", old) == 0
    settled(node, lambda: (node.source / "new").read_bytes() == b"another")
    settled(node, lambda: not (node.source / "old").exists())  # what has no name is never sent


@HOW
def test_rename_of_what_is_written(node, how):
    node = node(**how)
    new, old = node.open("tmp", os.O_RDWR | os.O_CREAT), node.open("old", os.O_RDWR | os.O_APPEND)
    os.write(new, b"new")
    os.write(old, b"+1")
    inos = node.ino("tmp"), node.ino("old")
    assert node.rename("tmp", "sub/in", NOREPLACE) == -EEXIST
    assert node.rename("tmp", "sub/in") == 0 and node.rename("old", "older") == 0
    assert (node.ino("sub/in"), node.ino("older")) == inos and node.stat("tmp") == -ENOENT and node.stat("old") == -ENOENT
    assert node.read("sub/in") == b"new" and node.read("older") == b"old+1" and node.list() == ["older", "sub"]
    os.write(new, b"!")
    node.restart()
    assert node.read("sub/in") == b"new!" and node.read("older") == b"old+1"
    assert (node.ino("sub/in"), node.ino("older")) == inos
    assert node.close("sub/in", new) == 0 and node.close("older", old) == 0
    settled(node, lambda: (node.source / "sub" / "in").read_bytes() == b"new!")
    settled(node, lambda: (node.source / "older").exists() and (node.source / "older").read_bytes() == b"old+1")
    settled(node, lambda: not (node.source / "tmp").exists() and not (node.source / "old").exists())
    assert (node.ino("sub/in"), node.ino("older")) == inos, "from the first write over rename and publication"


@HOW
def test_rename_onto_what_is_written(node, how):
    node = node(**how)
    loser = node.open("f", os.O_RDWR | os.O_CREAT)
    os.write(loser, b"loser")
    winner = node.open("g", os.O_RDWR | os.O_CREAT)
    os.write(winner, b"winner")
    assert node.rename("g", "f") == 0 and node.read("f") == b"winner" and node.list() == ["f", "old", "sub"]
    assert os.pread(loser, 9, 0) == b"loser"
    assert node.close("f", loser) == 0 and node.close("f", winner) == 0
    settled(node, lambda: (node.source / "f").exists() and (node.source / "f").read_bytes() == b"winner")
    again = node.open("f", os.O_RDWR | os.O_APPEND)
    os.write(again, b"+1")
    assert node.rename("old", "f") == 0 and node.read("f") == b"old"
    assert node.close("f", again) == 0
    settled(node, lambda: (node.source / "f").read_bytes() == b"old")
    assert node.list() == ["f", "sub"]


@HOW
def test_numbers_last_from_creation_on(node, how):
    node = node(**how)
    fd = node.open("f", os.O_WRONLY | os.O_CREAT)
    first = node.ino("f")
    os.write(fd, b"1")
    node.restart()
    assert node.ino("f") == first
    assert node.close("f", fd) == 0
    settled(node, lambda: (node.source / "f").exists())
    assert node.ino("f") == first
    with node.ask(wire.list_folder, "") as answer:
        assert answer.entries()["f"]["ino"] == first
    assert node.write("f", b"rewritten", os.O_WRONLY | os.O_TRUNC) == 0 and node.ino("f") == first
    settled(node, lambda: (node.source / "f").read_bytes() == b"rewritten")
    node.restart()
    assert node.ino("f") == first
    assert node.unlink("f") == 0 and node.write("f", b"2") == 0
    second = node.ino("f")
    assert second != first
    assert node.unlink("f") == 0
    fd = node.open("f", os.O_WRONLY | os.O_CREAT)
    assert node.ino("f") not in (first, second)
    node.close("f", fd)


def test_many_rename_onto_one_another(node):
    node = node()
    names = ["a", "b"]
    for name in names:
        assert node.write(name, name.encode()) == 0
    stop, wrong = threading.Event(), []

    def swap(one, two):
        while not stop.is_set():
            status = node.rename(one, two)
            if status not in (0, -ENOENT):
                wrong.append(status)
            status = node.write(one, one.encode()) if status == 0 else 0
            if status not in (0, -EAGAIN):  # a file that lost its name may have left its inode number to the other's next one
                wrong.append(("write", status))

    threads = [threading.Thread(target=swap, args=pair) for pair in (("a", "b"), ("b", "a"))]
    for thread in threads:
        thread.start()
    stop.wait(3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]
    listed = node.list()
    assert listed == sorted(p.name for p in node.source.iterdir() if p.name[0] != ".")
    for name in set(listed) & set(names):
        assert node.read(name) == (node.source / name).read_bytes()


def test_a_name_that_goes_while_it_is_listed(node):
    """A listing asked before the change and coming after it must not bring the name back."""
    node = node(freshness="immutable")
    stop, lists = threading.Event(), []

    def walk():
        while not stop.is_set():
            lists.append(node.list())

    walkers = [threading.Thread(target=walk) for _ in range(3)]
    for walker in walkers:
        walker.start()
    for n in range(60):
        name = f"f{n}"
        assert node.write(name, b"x") == 0 and name in node.list() and node.stat(name)["size"] == 1
        assert node.unlink(name) == 0 and name not in node.list() and node.stat(name) == -ENOENT
    stop.set()
    for walker in walkers:
        walker.join()
    assert node.list() == ["old", "sub"] and lists


def test_a_mapping_that_is_not_for_writing(node):
    node = node(write="off")
    assert (node.unlink("old"), node.rmdir("sub"), node.mkdir("x"), node.rename("old", "x")) == (-EROFS,) * 4
    assert node.list() == ["old", "sub"]


# ---- attributes ----

S = 1_000_000_000


def times(node, path):
    return os.stat(node.source / path).st_mtime_ns, os.stat(node.source / path).st_mode & 0o7777


@HOW
def test_attributes_of_what_the_remote_has(node, how):
    node = node(**how)
    assert node.read("old") == b"old"
    was = node.ino("old")
    answer = node.ask(wire.setattr_, "old", mode=0o751, mtime_ns=1234 * S + 5)
    assert answer.status == 0 and answer.attr["mode"] == 0o751 and answer.attr["mtime_ns"] == 1234 * S + 5
    settled(node, lambda: times(node, "old") == (1234 * S + 5, 0o751))
    for _ in range(2):
        attr = node.stat("old")
        assert (attr["mode"], attr["mtime_ns"], attr["ino"], attr["size"]) == (0o751, 1234 * S + 5, was, 3)
        with node.ask(wire.list_folder, "") as listed:
            entry = listed.entries()["old"]
        assert (entry["mode"], entry["mtime_ns"], entry["ino"]) == (0o751, 1234 * S + 5, was)
        assert node.read("old") == b"old"
        node.restart()
    assert node.ask(wire.setattr_, "sub", mode=0o700).status == 0 and node.stat("sub")["mode"] == 0o700
    assert node.ask(wire.setattr_, "none", mode=0o700).status == -ENOENT
    assert node.ask(wire.setattr_, "", mtime_ns=77 * S).status == 0 and node.stat("")["mtime_ns"] == 77 * S


@HOW
def test_owners_are_this_nodes(node, how):
    node = node(**how)
    assert node.ask(wire.setattr_, "old", uid=12).status == 0
    assert node.ask(wire.setattr_, "old", gid=34).status == 0
    for _ in range(2):
        attr = node.stat("old")
        assert attr["flags"] == wire.OWNED and attr["owner"] == 12 | 34 << 32
        node.restart()
    assert node.ask(wire.setattr_, "old", mode=0o600).status == 0 and node.stat("old")["owner"] == 12 | 34 << 32
    assert node.rename("old", "new") == 0 and node.stat("new")["owner"] == 12 | 34 << 32
    fd = node.open("new", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"+")
    assert node.stat("new")["owner"] == 12 | 34 << 32
    assert node.close("new", fd) == 0
    settled(node, lambda: (node.source / "new").read_bytes() == b"old+")
    assert node.stat("new")["owner"] == 12 | 34 << 32
    assert node.rename("sub", "moved") == 0 and node.ask(wire.setattr_, "moved/in", uid=5).status == 0
    assert node.rename("moved", "sub") == 0 and node.stat("sub/in")["owner"] & 0xFFFFFFFF == 5
    assert node.unlink("new") == 0 and node.write("new", b"x") == 0 and node.stat("new")["flags"] & wire.OWNED == 0
    (node.source / "sub" / "in").write_bytes(b"by somebody else")
    node.restart()
    if how.get("freshness") != "immutable":
        assert node.stat("sub/in")["flags"] == 0, "another version on the remote: nothing of ours holds"


@HOW
def test_attributes_of_what_is_written(node, how):
    node = node(**how)
    fd = node.open("f", os.O_RDWR | os.O_CREAT, 0o640)
    os.write(fd, b"12345")
    assert node.stat("f")["mode"] == 0o640
    assert node.ask(wire.setattr_, "f", mode=0o755, mtime_ns=99 * S, uid=7).status == 0
    ino = os.fstat(fd).st_ino
    answer = node.ask(wire.setattr_, None, ino, gid=8)
    assert answer.status == 0 and answer.attr["mode"] == 0o755 and answer.attr["mtime_ns"] == 99 * S and answer.attr["size"] == 5
    assert answer.attr["owner"] == 7 | 8 << 32
    node.restart()
    assert node.stat("f")["mode"] == 0o755 and node.stat("f")["mtime_ns"] == 99 * S and node.stat("f")["owner"] == 7 | 8 << 32
    assert node.close("f", fd) == 0
    settled(node, lambda: times(node, "f") == (99 * S, 0o755))
    attr = node.stat("f")
    assert (attr["mode"], attr["mtime_ns"], attr["owner"], attr["size"]) == (0o755, 99 * S, 7 | 8 << 32, 5)
    assert node.ask(wire.setattr_, None, ino, mode=0o600).status == -ENOENT, "it is no staging file any more"


def test_whose(node):
    node = node()
    fd = node.open("sub/f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"123")
    answer = node.ask(wire.whose, os.fstat(fd).st_ino)
    assert answer.status == 0 and answer.attr["size"] == 3 and answer.attr["flags"] & wire.LIVE
    assert answer.all(wire.F_PATH) == [b"sub/f"] and answer.attr["ino"] == node.ino("sub/f")
    assert node.rename("sub/f", "g") == 0
    assert node.ask(wire.whose, os.fstat(fd).st_ino).all(wire.F_PATH) == [b"g"]
    assert node.unlink("g") == 0 and node.ask(wire.whose, os.fstat(fd).st_ino).status == -ENOENT
    assert node.ask(wire.whose, 1).status == -ENOENT


# ---- links ----

ELOOP = 40


def symlink(node, path, target):
    return node.ask(wire.name, path, wire.SYMLINK, (wire.F_TEXT, target)).status


def readlink(node, path):
    answer = node.ask(wire.readlink, path)
    return answer.texts[0] if answer.status == 0 else answer.status


@HOW
def test_links(node, how):
    node = node(**how)
    assert node.stat("l") == -ENOENT and node.list() == ["old", "sub"]
    assert symlink(node, "l", "../some where/else") == 0 and readlink(node, "l") == "../some where/else"
    attr = node.stat("l")
    assert (attr["type"], attr["size"], attr["mode"]) == (3, 18, 0o777) and attr["valid_ns"] == 2 ** 64 - 1
    with node.ask(wire.list_folder, "") as answer:
        assert answer.listing() == {"l": (3, 18), "old": (1, 3), "sub": (2, 0)} and answer.entries()["l"]["ino"] == attr["ino"]
    assert symlink(node, "l", "x") == -EEXIST and symlink(node, "old", "x") == -EEXIST and node.mkdir("l") == -EEXIST
    assert readlink(node, "old") == -EINVAL and readlink(node, "none") == -ENOENT and symlink(node, "none/l", "x") == -ENOENT
    assert node.read("l") == -ELOOP and node.open("l", os.O_WRONLY | os.O_CREAT) == -ELOOP and node.stat("l/x") == -ELOOP
    assert node.open("l", os.O_WRONLY | os.O_CREAT | os.O_EXCL) == -EEXIST and node.rmdir("l") == -ENOTDIR
    assert symlink(node, "sub/l", "a") == 0 and node.list("sub") == ["in", "l"]
    assert node.ask(wire.setattr_, "l", mtime_ns=5 * S, link=True).status == 0 and node.stat("l")["mtime_ns"] == 5 * S
    node.restart()
    assert node.stat("l")["ino"] == attr["ino"] and node.stat("l")["mtime_ns"] == 5 * S and readlink(node, "sub/l") == "a"
    assert node.unlink("sub/in") == 0 and node.rmdir("sub") == -ENOTEMPTY and node.unlink("sub/l") == 0 and node.rmdir("sub") == 0
    assert node.unlink("l") == 0 and node.stat("l") == -ENOENT and node.list() == ["old"] and node.unlink("l") == -ENOENT
    settled(node, lambda: sorted(p.name for p in node.source.iterdir() if p.name[0] != ".") == ["old"])


def test_links_are_renamed(node):
    node = node()
    assert symlink(node, "l", "target") == 0
    ino = node.ino("l")
    assert node.rename("l", "m") == 0 and readlink(node, "m") == "target" and node.stat("l") == -ENOENT and node.ino("m") == ino
    assert node.rename("m", "old") == 0 and readlink(node, "old") == "target" and not (node.source / "old").exists()
    assert node.rename("old", "sub") == -EISDIR and node.rename("sub", "old") == -ENOTDIR
    fd = node.open("w", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"w")
    assert node.rename("old", "w") == 0 and readlink(node, "w") == "target" and node.close("w", fd) == 0
    assert not (node.source / "w").exists()
    assert node.write("f", b"f") == 0 and node.rename("f", "w") == 0 and node.read("w") == b"f" and node.list() == ["sub", "w"]
    assert symlink(node, "sub/l", "x") == 0 and node.rename("sub", "moved") == 0
    assert readlink(node, "moved/l") == "x" and node.stat("sub/l") == -ENOENT and node.list("moved") == ["in", "l"]
    assert node.mkdir("sub") == 0 and node.rename("sub", "moved") == -ENOTEMPTY and node.rename("moved/l", "old", NOREPLACE) == 0
    node.restart()
    assert readlink(node, "old") == "x" and node.list("moved") == ["in"]
