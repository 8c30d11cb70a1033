"""preluxd is killed (-9) again and again while files are made, appended to, written over and renamed. Programs go on as the library does: what gets no answer is
asked again of the next daemon. In the end every acknowledged close is on the remote, nothing was ever half visible there, and no hand was needed."""

import os
import random
import signal
import threading
import time

import pytest

from tests import wire
from tests.harness import wait_for
from tests.integration.crash_rig import FULL
from tests.integration.wire_node import Node

KILLS = int(os.environ.get("PRELUX_TEST_KILLS") or (120 if FULL else 60))
WRITERS = 4
ENOENT, EAGAIN = 2, 11


class Writer(threading.Thread):
    """One program: its own names, one after the other. `truth` is what each name holds by what was acknowledged."""

    def __init__(self, node, number, how, stop):
        super().__init__()
        self.node, self.how, self.stop = node, how, stop
        self.dice = random.Random(number)
        self.truth = {}
        self.prefix = f"w{number}-"
        self.next = 0
        self.wrong, self.done, self.lost = [], 0, 0
        self.story = []

    def ask(self, call, *args, **more):
        """Until some daemon has answered. (answer, whether an earlier daemon may have done it)"""
        again = False
        while True:
            try:
                answer = call(self.node.prelux.runtime, self.node.table, 0, *args, **more)
                if answer.status == -1001:  # a new daemon: it has to be told of the table
                    wire.register(self.node.prelux.runtime, self.node.prelux.config_path, table=self.node.table)
                    continue
                return answer, again
            except (OSError, AssertionError):
                if not again:
                    self.story.append(("lost", call.__name__) + args)
                again = True
                self.lost += 1
                time.sleep(0.005)

    def write(self, name, flags, data):
        answer, _ = self.ask(wire.write_open, name, flags)
        if answer.status != 0:
            self.wrong.append((name, "open", answer.status, answer.texts))
            return False
        with answer:
            os.write(answer.fd, data)
            ino = os.fstat(answer.fd).st_ino
        answer, _ = self.ask(wire.closed, name, ino)
        if answer.status != 0:
            self.wrong.append((name, "close", answer.status, answer.texts))
            return False
        return True

    def remote(self, name):
        try:
            return (self.node.source / name).read_bytes()
        except FileNotFoundError:
            return None

    def step(self):
        what = self.dice.choice(("create", "append", "append", "over", "rename")) if self.truth else "create"
        data = bytes([self.dice.randrange(33, 127)]) * self.dice.randrange(1, 9000)
        name = self.dice.choice(sorted(self.truth)) if self.truth else None
        self.story = self.story[-30:] + [(what, name, self.next)]
        if what == "rename":
            to = f"{self.prefix}{self.next}"
            self.next += 1
            answer, again = self.ask(wire.rename, name, to)
            if answer.status != 0 and not (again and answer.status == -ENOENT):
                self.wrong.append((name, "rename", answer.status, answer.texts))
                return
            self.truth[to] = self.truth.pop(name)
            self.story.append(("to", to, again, answer.status))
            name = to
        elif what == "append":
            if not self.write(name, os.O_WRONLY | os.O_APPEND, data):
                return
            self.truth[name] += data
        else:
            if what == "create":
                name = f"{self.prefix}{self.next}"
                self.next += 1
            if not self.write(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, data):
                return
            self.truth[name] = data
        if self.how == "sync" and self.remote(name) != self.truth[name]:
            self.wrong.append((name, what, "acknowledged and not on the remote"))
        self.done += 1

    def run(self):
        while not self.stop.is_set() and not self.wrong:
            self.step()


def told(writers):
    return "\n".join(str(line) for writer in writers if writer.wrong for line in writer.wrong + writer.story[-12:])


def start_daemon(node):
    node.prelux.run("true")
    wire.register(node.prelux.runtime, node.prelux.config_path, table=node.table)


@pytest.mark.limit(480)
@pytest.mark.parametrize("how", ["sync", "async"])
def test_nothing_acknowledged_is_lost(prelux, how):
    source = prelux.tmp / "remote"
    source.mkdir()
    node = Node(prelux, source, write=how)
    stop = threading.Event()
    writers = [Writer(node, n, how, stop) for n in range(WRITERS)]
    dice = random.Random(7)
    for writer in writers:
        writer.start()
    try:
        for number in range(KILLS):
            pid = wait_for(prelux.daemon_pid, 30, "a daemon")
            time.sleep(dice.uniform(0, 0.15))
            os.kill(pid, signal.SIGKILL)
            start_daemon(node)
            assert not any(writer.wrong for writer in writers), told(writers)
    finally:
        stop.set()
        for writer in writers:
            writer.join(60)
    assert not any(writer.wrong for writer in writers), told(writers)
    start_daemon(node)
    done = prelux.cli("flush", "--timeout", "60", check=False, timeout=120)
    truth = {name: data for writer in writers for name, data in writer.truth.items()}
    # What a put left that was killed in the middle no reader sees, and the next upload after a death removes.
    found = {path.name: path.read_bytes() for path in source.iterdir() if not path.name.startswith(".prelux~put-")}
    print(f"{KILLS} kills, {sum(w.done for w in writers)} changes, {sum(w.lost for w in writers)} answers lost, {len(truth)} files")
    assert done.returncode == 0, done.stderr
    bad = {name for name in truth if found.get(name) != truth[name]}
    assert not bad, {name: (len(found[name]) if name in found else None, len(truth[name])) for name in bad}
    assert not set(found) - set(truth), "names that nobody has now"
    assert sum(writer.done for writer in writers) > KILLS, "the kills met little"
    wait_for(lambda: not os.listdir(prelux.cache / ".prelux/staging"), 30, "what was made ahead is gone too")
    assert not os.listdir(prelux.cache / ".prelux/recovered")
    with wire.list_folder(prelux.runtime, node.table, 0, "") as answer:
        assert set(answer.listing()) == set(truth)
    for name in sorted(truth)[:50]:
        data = node.read(name)
        assert data == truth[name]
