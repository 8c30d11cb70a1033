"""All sweeps: a world (what is mapped how, whose calls fail), a scenario, a fault, once or from then on.

    python3 -m tests.fault.sweeps [--world NAME] [--scenario NAME] [--fault NAME] [--at N [--again]] [--seconds N] [--seed N] [--build DIR]

runs some of them and prints what was told; with --at one fault alone, as a finding names it.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fault import restarts, scenarios
from tests.fault.rig import FAULTS, Finding, Missing, World
from tests.harness import BUILD

DAEMON = tuple(FAULTS)
LIBRARY = ("ENOSPC", "EIO", "EIO-sync", "EMFILE", "ENOMEM-map", "EINTR", "ECONNRESET")
# name: (words of World(), scenarios, faults)
WORLDS = {
    "file-sync": ({"freshness": "always"}, scenarios.ALL, DAEMON),
    "file-async": ({"write": "async", "write_back": "0ms", "freshness": "always"}, scenarios.ALL, DAEMON),
    "restart": ({"write": "async", "write_back": "2s"}, [scenarios.Restart], DAEMON),
    "file-small": ({"write": "off"}, [scenarios.Evict], DAEMON),
    "s3": ({"kind": "versitygw", "freshness": "always"}, [scenarios.Miss, scenarios.Stale, scenarios.New, scenarios.Rewrite, scenarios.Append, scenarios.Rename, scenarios.Remove,
                                   scenarios.Folders, scenarios.Config], DAEMON),
    "s3-parts": ({"kind": "versitygw"}, [scenarios.Large], DAEMON),
    "library-sync": ({"gated": True, "freshness": "always"}, [*scenarios.READING, *scenarios.WRITING], LIBRARY),
    "library-async": ({"gated": True, "write": "async"}, [one for one in (*scenarios.READING, *scenarios.WRITING) if one is not scenarios.Stale], LIBRARY),
}
SMALL = {"cache": {"max_size": "1MiB", "high": 0.5, "low": 0.3}}


def every(names=WORLDS):
    """[(world, scenario, fault, again)]. Who is interrupted for ever tries for ever."""
    return [(world, scenario, fault, again) for world in names for scenario in WORLDS[world][1] for fault in WORLDS[world][2] for again in (False, True)
            if not (again and fault == "EINTR")]


class Sweeps:
    """Worlds are kept, and made anew after a finding."""

    def __init__(self, tools, tmp, build=None):
        self.tools, self.tmp, self.build = tools, Path(tmp), build
        self.worlds, self.made, self.findings, self.outcomes, self.calls = {}, 0, [], {}, 0
        self.missing = {}  # {world: why this machine cannot}

    def world(self, name):
        if name not in self.worlds:
            self.made += 1
            words = dict(WORLDS[name][0])
            if name == "file-small":
                words["top"] = SMALL
            build = self.build if not words.get("gated") else None
            world = World(self.tools, self.tmp / f"{name}{self.made}", build=build, **words)
            world.outcomes = self.outcomes
            self.worlds[name] = world
        return self.worlds[name]

    def drop(self, name):
        """After a finding nothing of it is believed any more."""
        world = self.worlds.pop(name)
        try:
            world.close()
        except (Finding, AssertionError) as error:
            self.findings.append(f"{world.name}: at its end: {error}")

    def sweep(self, name, scenario, fault, again, rng, seconds, most=None):
        """Faults that were injected: each call of a run once, or as many as the time allows."""
        end, did = time.monotonic() + seconds, 0
        if name in self.missing:
            return 0
        try:
            world = self.world(name)
            one = scenario()
            restart = scenario is scenarios.Restart
            world.lives()
            daemon, before = world.daemon.pid, world.fds() if world.worker else None
            total = restarts.run(world, fault, 0, False)[0] if restart else world.count(one, fault)
            before = before or world.fds()
            order = list(range(1, total + 3))
            rng.shuffle(order)
            for n, at in enumerate(order[:most]):
                if n and time.monotonic() > end:  # one at least: to count them may have taken all of the time
                    break
                _, failed = restarts.run(world, fault, at, again) if restart else world.run(one, fault, at, again)
                did += failed > 0
                self.calls += failed
            world.lives()
            if not restart and daemon == world.daemon.pid:
                world.leaks(before)
            if world.options["write"] != "off":
                world.check_remote()
        except Missing as why:
            self.missing[name] = str(why)
        except Exception as finding:  # pylint: disable=broad-except
            text = str(finding) if isinstance(finding, Finding) else "".join(traceback.format_exception(finding)[-4:])
            self.findings.append(f"{name}: {scenario.__name__} {fault} again={int(again)}: {text}")
            if name in self.worlds:
                self.drop(name)
        return did

    def end(self, rest=True):
        """What is left of each world, and its end."""
        for name in list(self.worlds):
            try:
                if rest and name not in self.missing:
                    self.worlds[name].check_rest()
            except (Finding, AssertionError) as finding:
                self.findings.append(f"{name}: {finding}")
            self.drop(name)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", nargs="*", default=list(WORLDS))
    parser.add_argument("--scenario", nargs="*")
    parser.add_argument("--fault", nargs="*")
    parser.add_argument("--at", type=int)
    parser.add_argument("--again", type=int, choices=(0, 1))
    parser.add_argument("--seconds", type=float, default=30, help="of one sweep")
    parser.add_argument("--most", type=int, help="faults of one sweep")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--build", default=BUILD)
    parser.add_argument("--sanitized", help="build folder of the daemon")
    words = parser.parse_args()
    rng = random.Random(words.seed)
    with tempfile.TemporaryDirectory(prefix="prelux-sweeps-") as tmp:
        sweeps = Sweeps(Path(words.build), tmp, build=words.sanitized)
        total = 0
        for name, scenario, fault, again in every(words.world):
            if (words.scenario and scenario.__name__.lower() not in words.scenario) or (words.fault and fault not in words.fault):
                continue
            if words.again is not None and again != bool(words.again):
                continue
            if words.at:
                world = sweeps.world(name)
                print(world.run(scenario(), fault, words.at, again), world.board.name, world.outcomes)
                continue
            known, begin = len(sweeps.findings), time.monotonic()
            did = sweeps.sweep(name, scenario, fault, again, rng, words.seconds, words.most)
            total += did
            print(f"{name} {scenario.__name__} {fault} {'on' if again else 'once'}: {did} faults, {time.monotonic() - begin:.1f} s,"
                  f" {sweeps.outcomes.get((scenario.__name__.lower(), fault), '')}", flush=True)
            for text in sweeps.findings[known:]:
                print("FINDING", text, flush=True)
        sweeps.end()
        print(f"seed {words.seed}: {total} faults ({sweeps.calls} calls), {len(sweeps.findings)} findings", sweeps.missing or "")
        for text in sweeps.findings:
            print("FINDING", text)
    return bool(sweeps.findings)


if __name__ == "__main__":
    sys.exit(main())
