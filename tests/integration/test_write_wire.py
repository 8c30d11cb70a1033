"""Writing as the daemon does it: WRITE gives a descriptor, CLOSED says what a close is worth. Spoken over the wire, step by step."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.wire_node import Node

pytestmark = pytest.mark.asan

ENOENT, EEXIST, EAGAIN, EROFS, ESTALE = 2, 17, 11, 30, 116


@pytest.fixture
def node(prelux):
    def make(**how):
        return Node(prelux, **how)
    return make


def test_close_is_worth_the_remote(node):
    node = node()
    assert node.write("new", b"12345") == 0
    assert (node.source / "new").read_bytes() == b"12345" == node.read("new")
    fd = node.open("old", os.O_RDWR | os.O_APPEND)
    assert os.pread(fd, 9, 0) == b"old"
    os.write(fd, b"+1")
    assert node.size("old") == 5 and node.read("old") == b"old+1"
    assert (node.source / "old").read_bytes() == b"old", "nothing is half visible"
    again = node.open("old", os.O_WRONLY | os.O_APPEND)
    os.write(again, b"+2")
    assert node.close("old", fd) == -EAGAIN
    assert node.close("old", again) == 0
    assert (node.source / "old").read_bytes() == b"old+1+2"
    assert node.open("old", os.O_WRONLY | os.O_CREAT | os.O_EXCL) == -EEXIST
    assert node.open("none/x", os.O_WRONLY | os.O_CREAT) == -ENOENT
    fd = node.open("old", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"!")
    (node.source / "old").write_bytes(b"theirs")
    assert node.close("old", fd) == -ESTALE
    assert (node.source / "old").read_bytes() == b"theirs"


def test_async_goes_in_the_background(node):
    node = node(write="async")
    names = [f"f{n}" for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: node.write(name, name.encode()), names)) == {0}
    wait_for(lambda: all((node.source / name).exists() for name in names), 20, "all are sent")
    assert [(node.source / name).read_text() for name in names] == names


def killed_writer(node, name, data):
    fd = node.open(name, os.O_WRONLY | os.O_CREAT)
    child = subprocess.Popen([sys.executable, "-c", f"import os, time; os.write(0, {data!r}); print(flush=True); time.sleep(99)"],
                             stdin=fd, stdout=subprocess.PIPE)
    os.close(fd)
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


def test_a_writer_that_is_killed_is_noticed(node):
    node = node()
    took = []
    for n in range(5):
        killed_writer(node, f"victim{n}", b"half")
        began = time.monotonic()
        wait_for(lambda: (node.source / f"victim{n}").exists(), 30, "the kernel tells that nobody writes any more")
        took.append(time.monotonic() - began)
        assert (node.source / f"victim{n}").read_bytes() == b"half"
    assert sorted(took)[3] < 1.5, f"housekeeping alone takes 2.5 s on average: {took}"


@pytest.mark.parametrize("how", [{"write": "sync"}, {"write": "async"}], ids=["sync", "async"])
def test_daemon_killed_while_files_are_open(node, how):
    node = node(**how)
    fds = {name: node.open(name, os.O_WRONLY | os.O_CREAT) for name in ("a", "b")}
    old = node.open("old", os.O_WRONLY | os.O_APPEND)
    for name, fd in fds.items():
        os.write(fd, name.encode())
    node.prelux.kill_daemon()
    os.write(old, b"+after")
    os.write(fds["a"], b"+after")
    os.close(fds["b"])  # while no daemon is there: nobody can be told
    node.prelux.run("true")
    assert wire.register(node.prelux.runtime, node.prelux.config_path, table=node.table).status == 0
    assert node.read("a") == b"a+after" and node.read("old") == b"old+after"
    assert node.close("a", fds["a"]) == 0 and node.close("old", old) == 0
    rows = lambda: node.prelux.cli("pending", "list", "--json")["files"]  # noqa: E731
    wait_for(lambda: "recovered" in [row["state"] for row in rows()], 30, "nobody tells how b ended: it is kept")
    assert not (node.source / "b").exists()
    node.prelux.cli("pending", "retry", next(row["id"] for row in rows() if row["state"] == "recovered"))
    wait_for(lambda: (node.source / "b").exists() and (node.source / "a").exists(), 20, "all are sent")
    wait_for(lambda: (node.source / "old").read_bytes() == b"old+after", 20, "old is sent")
    assert (node.source / "a").read_bytes() == b"a+after" and (node.source / "b").read_bytes() == b"b"


def test_who_asked_has_given_up(node):
    """A daemon that comes to nothing for a while: what its clients have told their programs has failed is not done later."""
    node = node()
    names = [f"kept{i}" for i in range(12)]
    for name in names:
        (node.source / name).write_bytes(b"text")
    cut = (wire.F_FLAGS, os.O_WRONLY | os.O_TRUNC), (wire.F_MODE, 0o644)
    make = (wire.F_FLAGS, os.O_WRONLY | os.O_CREAT | os.O_EXCL), (wire.F_MODE, 0o644)
    to = (wire.F_TO_MAPPING, 0), (wire.F_FLAGS, 0)
    mode = (wire.F_SET, wire.SET.pack(wire.SET_MODE, 0o600, 0, 0, 0))
    asked = [(wire.WRITE, name, *cut) for name in names[:3]] + [(wire.WRITE, f"new{i}", *make) for i in range(3)]
    asked += [(wire.NAME, name, (wire.F_VERB32, wire.UNLINK)) for name in names[3:6]] + [(wire.SETATTR, name, mode) for name in names[6:9]]
    asked += [(wire.NAME, name, (wire.F_VERB32, wire.RENAME), (wire.F_TO, name + "x"), *to) for name in names[9:]]
    pid = node.prelux.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        for op, name, *fields in asked:
            with wire.connect(node.prelux.runtime) as sock:
                sock.send(wire.message(op, (wire.F_TABLE, node.table), (wire.F_MAPPING, 0), (wire.F_PATH, name), *fields))
    finally:
        os.kill(pid, signal.SIGCONT)
    for i in range(9):  # behind them; what was begun all the same is done by then
        assert node.write(f"after{i}", b"after") == 0
    assert [name for name in names if node.read(name) != b"text"] == []
    assert [name for name in names if (node.source / name).stat().st_mode & 0o777 == 0o600] == []
    assert node.list() == sorted(["old", *names, *(f"after{i}" for i in range(9))])


def test_a_backend_that_reads_only(prelux):
    prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": "http://127.0.0.1:9/"}},
                   "mappings": [{"local": "/prelux-test", "remote": "web:/"}]})
    prelux.run("true")
    table = wire.register(prelux.runtime, prelux.config_path).table
    assert wire.write_open(prelux.runtime, table, 0, "x", os.O_WRONLY | os.O_CREAT).status == -EROFS
