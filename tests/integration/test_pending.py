"""What was written and is not on the remote: pending, flush, errors, status, the end of a run and of the daemon. Files are written over the wire, as the
library does."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.wire_node import Node

ESTALE = 116
pytestmark = pytest.mark.asan

FLAGS = os.O_WRONLY | os.O_CREAT


@pytest.fixture
def node(prelux):
    def make(**how):
        return Node(prelux, **{"write": "async", **how})
    return make


def lock_out(node):
    """The remote takes nothing, for a time: its folder is gone."""
    os.rename(node.source, f"{node.source}.away")


def write_locked_out(node, name, data):
    fd = node.open(name, FLAGS)
    os.write(fd, data)
    lock_out(node)
    assert node.close(name, fd) == 0, "what is written is safe here"


def let_in(node):
    os.rename(f"{node.source}.away", node.source)


def pending(node, *words):
    return node.prelux.cli("pending", "list", *words, "--json")


def refused(node, name="old", data=b"mine"):
    """A file that somebody else changed meanwhile: its row."""
    fd = node.open(name, os.O_WRONLY | os.O_APPEND)
    assert fd >= 0, (fd, node.prelux.story())
    os.write(fd, data)
    (node.source / name).write_bytes(b"theirs")
    assert node.close(name, fd) in (0, -ESTALE)  # the kernel may have told of the close, and the sender of the conflict, before it asks
    wait_for(lambda: pending(node)["refused"] == 1, 60, "the conflict is seen")
    return pending(node)["files"][0]


def test_list_retry_drop_export(node, tmp_path):
    node = node()
    assert pending(node)["count"] == 0 and pending(node)["async"] is True
    row = refused(node)
    assert row["path"] == "/prelux-test/old" and row["state"] == "refused" and row["size"] == 7 and row["errno"] == "ESTALE" and row["cause"]
    assert node.read("old") == b"theirs", "the path shows the remote's"
    assert pending(node, "/prelux-test/old")["count"] == 1 and pending(node, "/prelux-test/other")["count"] == 0
    nowhere = node.prelux.cli("pending", "list", "/elsewhere", check=False)
    assert nowhere.returncode == 1 and "/elsewhere is in no mapping" in nowhere.stderr
    errors = [e for e in node.prelux.errors() if e["path"] == "/prelux-test/old"]
    assert errors and errors[0]["call"] == "upload" and errors[0]["errno"] == "ESTALE"
    status = node.prelux.cli("status", "--json")
    assert status["pending"]["refused"] == 1 and status["pending"]["count"] == 1
    assert node.prelux.cli("daemon", "status", "--json")["pending_uploads"] == 1
    assert node.prelux.cli("map", "/prelux-test/old", "--json")["state"] != "pending"
    shown = subprocess.run([node.prelux.exe, "--config", node.prelux.config_path, "pending", "list"], env=node.prelux._merged(None),
                           capture_output=True, text=True)
    assert row["id"] in shown.stdout and "refused" in shown.stdout and "/prelux-test/old" in shown.stdout

    out = tmp_path / "exported"
    node.prelux.cli("pending", "export", row["id"], str(out))
    assert out.read_bytes() == b"oldmine"
    assert node.prelux.cli("pending", "export", row["id"], str(out), check=False).returncode == 1, "nothing is written over"
    assert node.prelux.cli("pending", "drop", check=False).returncode == 2, "the ID has to be said"
    assert node.prelux.cli("pending", "drop", "ffff-99", check=False).returncode == 1

    node.prelux.cli("pending", "retry", row["id"])
    wait_for(lambda: pending(node)["files"][0]["tries"] == 2, 60, "tried again, on the same condition")
    assert pending(node)["refused"] == 1 and (node.source / "old").read_bytes() == b"theirs"
    node.prelux.cli("pending", "retry", row["id"], "--overwrite")
    wait_for(lambda: pending(node)["count"] == 0, 60, "overwritten")
    assert (node.source / "old").read_bytes() == b"oldmine" == node.read("old")

    row = refused(node)
    node.prelux.cli("pending", "drop", row["id"])
    assert pending(node)["count"] == 0 and node.read("old") == b"theirs"
    assert not list((node.prelux.cache / ".prelux/staging").iterdir())


def test_flush(node):
    node = node()
    for n in range(20):
        assert node.write(f"f{n}", b"x") == 0
    node.prelux.cli("flush")
    assert len(list(node.source.glob("f*"))) == 20 and pending(node)["count"] == 0
    fd = node.open("open", FLAGS)
    done = node.prelux.cli("flush", "/prelux-test/open", check=False)
    assert done.returncode == 3 and "open" in done.stderr, "somebody still writes to it"
    node.prelux.cli("flush", "/prelux-test/f0")
    assert node.close("open", fd) == 0
    node.prelux.cli("flush", "--json")
    write_locked_out(node, "late", b"late")
    began = time.monotonic()
    done = node.prelux.cli("flush", "--timeout", "2", check=False)
    assert done.returncode == 3 and "/prelux-test/late" in done.stderr and time.monotonic() - began < 25  # less than the grace
    let_in(node)
    node.prelux.cli("flush")
    assert (node.source / "late").read_bytes() == b"late"


def test_more_paths_than_a_request_holds(node):
    node = node()
    fd = node.open("last", FLAGS)
    paths = [f"/prelux-test/none-{number:04}" for number in range(1100)] + ["/prelux-test/last"]
    done = node.prelux.cli("flush", *paths, check=False)
    assert done.returncode == 3 and "/prelux-test/last" in done.stderr
    assert node.prelux.cli("flush", "-0", "-", input="\0".join(paths), check=False).returncode == 3
    answer = pending(node, *paths)
    assert answer["count"] == answer["open"] == len(answer["files"]) == 1 and isinstance(answer["files"][0]["since_ns"], int)
    assert node.prelux.cli("flush", "--json", "-", input="", check=False).stdout == "{}\n", "an empty list is not everything"
    assert node.close("last", fd) == 0
    assert node.prelux.cli("flush", "--json", "-", input="\n".join(paths))["count"] == 0 and (node.source / "last").exists()


KILLED = """
import os, signal
for half in range(2):
    r, w = os.pipe()
    if os.fork() == 0:
        for i in range(half * 515, half * 515 + 515): os.write(os.open(f'f{i}', os.O_WRONLY | os.O_CREAT, 0o644), b'%d\\n' % i)
        os.write(w, b'x')
        signal.pause()
    os.read(r, 1)
os.killpg(0, signal.SIGKILL)
"""


def test_more_than_an_answer_holds(prelux, tmp_path):
    """All are listed, each once, with the digits of its time, and any can be exported."""
    source = prelux.tmp / "source"
    source.mkdir()
    lake = prelux.file_mapping(source, write="async")
    prelux.run(["setsid", "-w", "sh", "-c", f'cd {lake} && exec "$@"', "sh", sys.executable, "-c", KILLED], timeout=120, bare=True, check=False)
    wait_for(lambda: prelux.cli("pending", "list", "--json")["recovered"] == 1030, 60, "what killed programs leave")
    shown = prelux.cli("pending", "list", "--json")
    assert shown["count"] == 1030 and "more" not in shown
    assert sorted(row["path"] for row in shown["files"]) == sorted(f"{lake}/f{i}" for i in range(1030))
    assert len({row["id"] for row in shown["files"]}) == 1030
    last = shown["files"][-1]
    assert [row["since_ns"] for row in prelux.cli("pending", "list", last["path"], "--json")["files"]] == [last["since_ns"]]
    assert any(row["since_ns"] % 256 for row in shown["files"]), "as no double has them"
    out = tmp_path / "out"
    prelux.cli("pending", "export", last["id"], out)
    assert out.read_text() == last["path"].rpartition("/f")[2] + "\n"
    assert "no such number" in prelux.cli("pending", "export", last["id"] + "0", tmp_path / "none", check=False).stderr


def test_state_of_a_path(node):
    node = node()
    fd = node.open("new", FLAGS)
    assert node.prelux.cli("map", "/prelux-test/new", "--json")["state"] == "dirty"
    lock_out(node)
    assert node.close("new", fd) == 0
    assert node.prelux.cli("map", "/prelux-test/new", "--json")["state"] == "pending"
    let_in(node)
    node.prelux.cli("flush")
    assert node.prelux.cli("map", "/prelux-test/new", "--json")["state"] == "cached"


def test_the_end_of_the_daemon_drains(node):
    node = node()
    node.prelux.cli("daemon", "stop")
    node.start()
    write_locked_out(node, "f", b"1")
    let_in(node)
    node.prelux.cli("daemon", "stop")
    assert (node.source / "f").read_bytes() == b"1"

    node.start()
    refused(node)
    done = node.prelux.cli("daemon", "stop", check=False)
    assert done.returncode == 3 and "/prelux-test/old" in done.stderr
    node.prelux.run("true")
    assert pending(node)["refused"] == 1, "kept for the next daemon"


def test_sigterm_drains_within_the_grace(prelux):
    source = prelux.tmp / "remote"
    source.mkdir()
    prelux.config({"version": 1, "grace": "60s", "backends": {"src": {"type": "file", "root": str(source)}},
                   "mappings": [{"local": "/prelux-test", "remote": "src:/", "write": "async"}]})
    prelux.run("true")
    table = wire.register(prelux.runtime, prelux.config_path).table

    def close(name):
        ino = os.fstat(fds[name]).st_ino
        os.close(fds[name])
        assert wire.closed(prelux.runtime, table, 0, name, ino).status == 0
    fds = {}
    for name in "ab":
        with wire.write_open(prelux.runtime, table, 0, name, FLAGS) as answer:
            fds[name] = os.dup(answer.fd)
    os.rename(source, f"{source}.away")
    close("a")
    pid = prelux.daemon_pid()
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    close("b")  # it serves on
    os.rename(f"{source}.away", source)
    wait_for(lambda: prelux.daemon_pid() != pid, 60, "it ends when all is sent")
    assert (source / "a").exists() and (source / "b").exists()


def test_idle_exit_waits(node):
    node = node()
    write_locked_out(node, "f", b"1")
    node.prelux.kill_daemon()
    node.prelux.env["PRELUX_LOG"] = "debug"
    daemon = subprocess.Popen([node.prelux.daemon_exe, "--foreground", "--idle", "4"], env=node.prelux._merged(None),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: node.prelux.daemon_pid() == daemon.pid, 60, "it serves")
        assert wire.register(node.prelux.runtime, node.prelux.config_path, table=node.table).status == 0
        time.sleep(6.5)
        assert daemon.poll() is None, "something waits to be sent"
        let_in(node)
        daemon.wait(60)
        assert (node.source / "f").read_bytes() == b"1"
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.slow
def test_flush_tries_again_while_it_waits(node):
    """After many tries the daemon's next is up to a minute away; who waits for a remote that comes back need not wait for that."""
    node = node()
    write_locked_out(node, "new", b"bytes")
    def tried_often():
        assert node.prelux.cli("flush", "--timeout", "0.4", check=False).returncode == 3
        row = pending(node)["files"][0]
        return row["tries"] >= 8 and row["state"] == "waiting"
    wait_for(tried_often, 60, "the next try is a minute away")
    waits = subprocess.Popen([node.prelux.exe, "--config", node.prelux.config_path, "flush", "--timeout", "100"], env=node.prelux._merged(None),
                             stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    let_in(node)
    begin = time.monotonic()
    _, said = waits.communicate(timeout=120)
    assert waits.returncode == 0 and time.monotonic() - begin < 25, said
    assert (node.source / "new").read_bytes() == b"bytes"
