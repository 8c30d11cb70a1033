"""Stage of `make torture`: calls of the daemon, and of the library in a program, fail one after the other (tests/fault/)."""

import random
import subprocess
import time
from pathlib import Path

from tests.fault.sweeps import Sweeps, every
from tests.harness import ROOT

TARGETS = {"faults": 20000}
SECONDS = 40
SANITIZED_EACH = 4  # so many-th step is one of a sanitized daemon


def prepare(env):
    env.sanitized = Path(f"{env.build}-asan")
    env.faults = 0
    subprocess.run(["make", "--no-print-directory", f"BUILD={env.build}", "all", f"{env.build}/tests/fault/inject.so", f"{env.build}/tests/fault/work"], cwd=ROOT, check=True)
    subprocess.run(["make", "--no-print-directory", f"BUILD={env.sanitized}", "SANITIZE=address,undefined", f"{env.sanitized}/preluxd"], cwd=ROOT, check=True)


def step(env, seed):
    """Sweeps from a place in the list of all that the seed names, for SECONDS."""
    env.faults += 1
    rng = random.Random(seed)
    build = env.sanitized if env.faults % SANITIZED_EACH == 0 else None
    sweeps = Sweeps(env.build, Path(env.tmp) / f"faults{seed}", build=build)
    combos = every()
    at, end, did = rng.randrange(len(combos)), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        did += sweeps.sweep(*combos[at % len(combos)], rng, min(10, end - time.monotonic()))
        at += 1
    sweeps.end()
    findings = [f"seed {seed}{' sanitized' if build else ''}: {text}" for text in sweeps.findings]
    return {"faults": did, "failed_calls": sweeps.calls, "findings": findings}
