"""A slice of the fault sweeps of `make torture` (tests/fault): a few hundred calls of the daemon, and of the library in a program, fail, one after the other; each scenario
each kind of fault may come about. The seed is printed; PRELUX_SEED chooses another: `make torture` goes through all of them."""

import os
import random
import time

import pytest

from tests.fault.sweeps import Sweeps, every
from tests.harness import BUILD

SEED = int(os.environ.get("PRELUX_SEED") or 14)
PER_SWEEP = 6
SECONDS = 2  # of each world, besides its beginning and its end


@pytest.mark.parametrize("world", ["file-sync", "file-async", "restart", "s3", "library-sync", "library-async"])
def test_slice(world, tmp_path):
    print(f"PRELUX_SEED={SEED}")
    rng = random.Random(SEED)
    combos = every([world])
    rng.shuffle(combos)
    sweeps = Sweeps(BUILD, tmp_path)
    did, end = 0, time.monotonic() + SECONDS
    for combo in combos:
        did += sweeps.sweep(*combo, rng, 1, PER_SWEEP)
        if time.monotonic() > end or sweeps.missing:
            break
    sweeps.end(rest=not world.startswith("library"))
    if sweeps.missing and not sweeps.findings:
        pytest.skip(sweeps.missing[world])
    assert not sweeps.findings, "\n".join(sweeps.findings)
    assert did > 0
