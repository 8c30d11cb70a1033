"""A slice of the soak, and its judge: what grows is seen, what only shakes is not."""

import os
import random
import time

import pytest

from tests import harness
from tests.torture import soak

SMALL = {"processes": 24, "held": 5, "names": 3000, "hot": 40, "cold": 900, "cache": "4MiB", "seconds": 1.2}
FLAT = {"daemon KiB": 40000, "program KiB": 900, "descriptors": 90, "threads": 20, "disk KiB": 60000, "prelux KiB": 20000}


def series(count, seed, **grown):
    """Samples that shake; of what is named more comes on top each time."""
    dice = random.Random(seed)
    us = {"plain": 20.0, "hit": 25.0, "stat": 5.0, "list": 300.0, "cold": 900.0, "write": 400.0, "own": 50.0}
    for i in range(count):
        load = dice.uniform(1, 4)
        sample = {key: value * dice.uniform(0.97, 1.03) + i * grown.get(key, 0) for key, value in FLAT.items()}
        yield {**sample, "us": {kind: value * load * dice.uniform(0.8, 1.25) * (1 + i * grown.get(kind, 0)) for kind, value in us.items()}}


@pytest.mark.parametrize("seed", range(20))
def test_what_shakes_is_flat(seed):
    assert not soak.judge(list(series(60, seed)))


@pytest.mark.parametrize("key, step", [("daemon KiB", 300), ("program KiB", 10), ("descriptors", 2), ("threads", 1), ("disk KiB", 900), ("prelux KiB", 900),
                                       ("hit", 0.1), ("cold", 0.1), ("write", 0.1)])
def test_what_grows_is_seen(key, step):
    found = soak.judge(list(series(60, 1, **{key: step})))
    assert len(found) == 1 and found[0].startswith(key), found


def test_a_slice(tmp_path):
    if not (harness.BUILD / "prelux").exists():
        pytest.skip(f"{harness.BUILD} is not built")
    seed = int(os.environ.get("PRELUX_SEED") or time.time())
    print(f"PRELUX_SEED={seed}")
    world = soak.World(tmp_path, harness.BUILD, seed, SMALL)
    try:
        results = [world.step() for _ in range(2)]
    finally:
        left = world.close()
    assert not left and not [text for result in results for text in result["findings"]]
    assert results[0]["processes"] == 24 and results[0]["open files"] >= 24 * 5 and sum(result["calls"] for result in results) > 24
