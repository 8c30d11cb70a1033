"""Calls of a daemon fail from its first instruction on: catalogue opened, journal taken up, files sent. It may refuse to start; the next one does without a hand."""

import signal
import time

from tests.fault.board import maps_of
from tests.fault.rig import FAULTS, Finding, content
from tests.harness import wait_for

SIZE = 9000


def prepare(world, n):
    """Something waits to be sent, something is cached, and the daemon is gone."""
    for i in range(3):
        name = f"r{(n + i) % 7}"
        told = world.work(f"put {world.path(name)} ct {SIZE} {n + i}")
        if told != "ok":
            raise Finding(f"prepare: {told}")
        world.may_be(name, content(n + i, SIZE))
    world.stop(signal.SIGKILL if n % 2 else signal.SIGTERM)


def start(world, words):
    """A daemon under faults, which serves, or has ended. Its status then, else None."""
    world.start(wait=False, arm=words)
    wait_for(lambda: world.daemon.poll() is not None or world.prelux.daemon_pid() == world.daemon.pid, 60, "preluxd starts or ends")
    status = world.daemon.poll()
    if status is None:
        world.maps = maps_of(world.daemon.pid)
        try:
            world.ask(world.prelux.config_path)
        except (AssertionError, OSError):
            pass
        told = world.work(f"read {world.path('r1')}")
        if told not in map(world.answer_of, world.names.get("r1", {None})) and told.startswith("ok"):
            raise Finding(f"r1 reads as {told}")
    world.board.disarm()
    world.seen, world.failed = world.board.seen, world.board.failed
    status = world.daemon.poll()
    if status is not None and (status < 0 or world.prelux.sanitizer_reports()):
        raise Finding(f"preluxd has crashed, status {status}\n{world.prelux.log()[-2000:]}\n{world.prelux.sanitizer_reports()[:6000]}")
    return status


def goes_on(world):
    """Without faults: all is served and sent, at the latest when what could not be set up is tried again, which a program that only writes must bring about, too."""
    end, name, n = time.monotonic() + 15, f"after{world.serial % 3}", world.serial + 3000
    while True:
        try:
            if world.serial % 2:
                world.check_names()
            told = world.work(f"put {world.path(name)} ct {SIZE} {n}")
            if told != "ok":
                raise Finding(f"put {told} behind it")
            break
        except Finding:
            if time.monotonic() > end or world.daemon.poll() is not None:
                raise
            time.sleep(0.2)
    world.may_be(name, content(n, SIZE))
    world.check_remote()
    world.lives()


def run(world, fault, at, again):
    kinds, err, _ = FAULTS[fault]
    world.serial += 1
    prepare(world, world.serial)
    world.failed = 0
    try:
        status = start(world, (kinds, err, at, again))
        world.outcomes.setdefault(("restart", fault), {}).setdefault("ok" if status is None else f"status {status}", 0)
        world.outcomes["restart", fault]["ok" if status is None else f"status {status}"] += 1
        if status is not None:
            world.start(register=False)
        goes_on(world)
    except (Finding, AssertionError) as finding:
        where = f"\n  failed: {world.describe()}" if world.board.failed else ""
        raise Finding(f"{world.name} at={at}: {finding}{where}") from None
    return world.seen, world.failed
