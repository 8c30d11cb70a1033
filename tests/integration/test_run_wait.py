"""The end of `prelux run`: it waits for the uploads of what was written below it. The library's own writing is tested elsewhere: here the files are written over
the wire while a run lasts, below the same configuration."""

import os
import signal
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.test_pending import ESTALE, lock_out, let_in, refused, FLAGS
from tests.integration.wire_node import Node

pytestmark = pytest.mark.asan


@pytest.fixture
def node(prelux):
    def make(how={"write": "async"}, **top):
        node = Node(prelux, **how)
        if top:
            prelux.config({"version": 1, **top, "backends": {"src": {"type": "file", "root": str(node.source)}},
                           "mappings": [{"local": "/prelux-test", "remote": "src:/", **how}]})
            node.start()
        return node
    return make


class Run:
    """A run that lasts until end()."""

    def __init__(self, node, *options, cmd=("cat",)):
        self.child = node.prelux.popen(list(cmd), args=options, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.child.stdin.write("x\n")
        self.child.stdin.flush()
        assert self.child.stdout.readline() == "x\n"

    def end(self, timeout=30):
        out, err = self.child.communicate(timeout=timeout)
        return self.child.returncode, err


def written_while_locked_out(node, name="f"):
    fd = node.open(name, FLAGS)
    os.write(fd, b"data")
    lock_out(node)
    assert node.close(name, fd) == 0


def test_it_waits(node):
    node = node()
    run = Run(node)
    written_while_locked_out(node)
    run.child.stdin.close()
    time.sleep(1)
    assert run.child.poll() is None, "it waits for the upload"
    let_in(node)
    run.child.stdin = None
    assert run.end() == (0, "")
    assert (node.source / "f").read_bytes() == b"data"


def test_it_does_not_wait_when_told_so(node):
    node = node()
    run = Run(node, "--no-wait")
    written_while_locked_out(node)
    assert run.end(25)[0] == 0  # less than the grace
    let_in(node)


def test_it_gives_up_and_says_what_is_left(node):
    node = node(grace="1s")
    run = Run(node)
    written_while_locked_out(node)
    status, err = run.end()
    assert status == 3 and "/prelux-test/f" in err
    let_in(node)
    node.prelux.cli("flush")
    assert (node.source / "f").read_bytes() == b"data"


def test_sigterm_gives_it_the_grace(node):
    node = node(grace="2s")
    run = Run(node, cmd=("sh", "-c", "trap 'exit 0' TERM; cat"))
    written_while_locked_out(node)
    began = time.monotonic()
    run.child.send_signal(signal.SIGTERM)
    status, err = run.end()
    took = time.monotonic() - began
    assert status == 3 and "/prelux-test/f" in err and 1 < took < 20, took
    let_in(node)


def test_what_was_refused_is_named(node):
    node = node()
    refused(node, "old")
    (node.source / "other").write_bytes(b"x")
    assert node.prelux.run("true", check=False).returncode == 0, "what was refused before is not this run's"
    run = Run(node)
    fd = node.open("other", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"mine")
    (node.source / "other").write_bytes(b"theirs")
    assert node.close("other", fd) in (0, -ESTALE)  # as in refused()
    status, err = run.end()
    assert status == 3 and "refused" in err and "/prelux-test/other" in err and "/prelux-test/old" not in err


def test_strict(node):
    node = node()
    for options, expected in (((), 0), (("--strict",), 3)):
        run = Run(node, *options)
        written_while_locked_out(node, f"f{expected}")
        wait_for(lambda: node.prelux.cli("pending", "list", "--json")["files"][0]["tries"] > 0, 60, "a try has failed")
        let_in(node)
        status, err = run.end()
        assert status == expected and (node.source / f"f{expected}").exists(), err
    run = Run(node, "--strict")
    assert node.write("fine", b"x") == 0
    assert run.end() == (0, "")


def test_the_programs_own_status_wins(node):
    node = node(grace="1s")
    run = Run(node, cmd=("sh", "-c", "cat; exit 7"))
    written_while_locked_out(node)
    status, err = run.end()
    assert status == 7 and "/prelux-test/f" in err
    let_in(node)


def test_as_process_one(node):
    """A namespace whose process 1 is the run: told to end one second after asynchronous closes."""
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode != 0:
        pytest.skip("no PID namespaces here")
    node = node()
    names = [f"f{n}" for n in range(30)]
    child = subprocess.Popen(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", str(node.prelux.exe), "--config",
                              str(node.prelux.config_path), "run", "--", "sh", "-c", "(sleep 0.2 &); echo up; exec sleep 30"],
                             env=node.prelux._merged(None), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "up\n"
    for name in names:
        assert node.write(name, b"data") == 0
    time.sleep(1)
    inner = int(subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()[0])
    os.kill(inner, signal.SIGTERM)
    _, err = child.communicate(timeout=60)
    assert child.returncode in (128 + signal.SIGTERM, 3), err
    missing = [name for name in names if not (node.source / name).exists()]
    assert not missing or all(f"/prelux-test/{name}" in err for name in missing)
