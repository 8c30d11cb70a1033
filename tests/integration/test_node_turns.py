"""Node mode: a user whose requests hang at a remote leaves the others threads to be served by."""

import json
import subprocess
import threading

import pytest

from tests.harness import wait_for
from tests.integration.node_rig import ALICE, BOB, DAEMON, NODE, Node
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx

pytestmark = [*NODE, pytest.mark.skipif(Nginx.missing() is not None, reason=str(Nginx.missing()))]
WEB, TURNS = "/plx-web", 12  # of daemon/turns.h
STATS, PREFETCHES, FILES = 60, 10, 8  # FILES: in a folder, as many as a prefetch has workers; either way more than the threads that may hang together


class Held(FaultProxy):
    """Requests of names with `slow` in them wait."""

    def __init__(self, url):
        super().__init__(url)
        self.going, self.targets = threading.Event(), set()

    def _take_fault(self, method, target, fields):
        if "slow" in target:
            with self.lock:
                self.targets.add(target)
            self.going.wait(200)
        return super()._take_fault(method, target, fields)

    def held(self):
        with self.lock:
            return len(self.targets)


@pytest.fixture
def node(tmp_path):
    (tmp_path / "fast").write_text("fast")
    for number in range(STATS):
        (tmp_path / f"slow{number}").write_text("slow")
    for number in range(PREFETCHES):
        (tmp_path / f"folder{number}").mkdir()
        for name in range(FILES):
            (tmp_path / f"folder{number}/slow{name}").write_text("slow")
    with Nginx(tmp_path) as web, Held(web.url) as wire:
        one = Node(DAEMON)
        one.wire = wire
        backend = {"type": "http", "url": wire.url, "max_connections": 200}
        one.configure({WEB: ("web:/", {"readers": [str(ALICE), str(BOB)]})}, backends={"web": backend})
        one.start()
        yield one
        wire.going.set()
        one.close()


def start(node, who, *words):
    return subprocess.Popen([node.bin / "prelux", *words], user=who, group=who, extra_groups=[], env=node.environment(), cwd="/",
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("verb, name, many", [("stat", "slow{}", STATS), ("prefetch", "folder{}", PREFETCHES)], ids=["stat", "prefetch"])
def test_who_hangs_leaves_others_their_turn(node, verb, name, many):
    """Other users, and himself who asks for something of the other kind: his programs do not wait for a prefetch."""
    children = [start(node, ALICE, verb, f"{WEB}/{name.format(number)}") for number in range(many)]
    wait_for(lambda: node.wire.held() >= TURNS, 100, "as many as may hang at once")
    for who, what in (BOB, verb), (ALICE, "prefetch" if verb == "stat" else "stat"):
        done = node.cli(who, what, f"{WEB}/fast")
        assert done.returncode == 0, done.stderr
    assert node.wire.held() == TURNS
    gone = children.pop()
    gone.kill()
    gone.wait()
    node.wire.going.set()
    assert [child.wait(100) for child in children] == [0] * (many - 1)
    assert node.cli(ALICE, verb, f"{WEB}/fast").returncode == 0


def test_who_leaves_the_queue_is_never_asked_for(node):
    """Killed while he waits for his turn; who stands behind him has it then."""
    def clients():
        return json.loads(node.cli(0, "daemon", "status", "--json").stdout)["clients"]

    children = [start(node, ALICE, "stat", f"{WEB}/slow{number}") for number in range(TURNS)]
    wait_for(lambda: node.wire.held() == TURNS, 100, "all of them hang")
    before = clients()
    gone = start(node, ALICE, "stat", f"{WEB}/slow{TURNS}")
    wait_for(lambda: clients() > before, 100, "he is in the queue")
    children.append(start(node, ALICE, "stat", f"{WEB}/slow{TURNS + 1}"))
    wait_for(lambda: clients() > before + 1, 100, "and who stands behind him")
    gone.kill()
    gone.wait()
    wait_for(lambda: clients() == before + 1, 100, "the daemon has seen that he left")
    node.wire.going.set()
    assert [child.wait(100) for child in children] == [0] * len(children)
    assert node.wire.held() == len(children)
