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
WEB, TURNS, CREW = "/plx-web", 12, 6  # of daemon/turns.h
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
    children = [start(node, ALICE, verb, f"{WEB}/{name.format(number)}") for number in range(many)]
    wait_for(lambda: node.wire.held() >= TURNS, 100, "as many as may hang at once")
    done = node.cli(BOB, verb, f"{WEB}/fast")
    assert done.returncode == 0, done.stderr
    assert node.wire.held() == TURNS
    gone = children.pop()
    gone.kill()
    gone.wait()
    node.wire.going.set()
    assert [child.wait(100) for child in children] == [0] * (many - 1)
    assert node.cli(ALICE, "stat", f"{WEB}/fast").returncode == 0


def test_who_leaves_the_queue_lets_others_pass(node):
    """A prefetch waits for more room than there is, and something small behind it: when the prefetch is killed, that has its turn."""
    def clients():
        return json.loads(node.cli(0, "daemon", "status", "--json").stdout)["clients"]

    children = [start(node, ALICE, "stat", f"{WEB}/slow{number}") for number in range(TURNS - CREW + 1)]
    wait_for(lambda: node.wire.held() == len(children), 100, "all of them hang")
    before = clients()
    large = start(node, ALICE, "prefetch", f"{WEB}/folder0")
    wait_for(lambda: clients() > before, 100, "the prefetch in the queue")
    children.append(start(node, ALICE, "stat", f"{WEB}/slow{len(children)}"))
    wait_for(lambda: clients() > before + 1, 100, "and who waits behind it")
    large.kill()
    large.wait()
    wait_for(lambda: node.wire.held() == len(children), 100, "its turn")
    node.wire.going.set()
    assert [child.wait(100) for child in children] == [0] * len(children)
