"""Kills: a program that writes, the daemon, or both are killed (-9) at random instants, by the crash matrix of tests/integration/test_write_crash.py: nothing that was acknowledged is
lost, and another client sees whole versions only.

  python3 -m tests.torture.kills versitygw-async 7 [SECONDS]"""

import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import harness
from tests.integration import test_write_crash as crash

TARGETS = {"kills": 10_000}
SECONDS = 45
WHOM = [("daemon",), ("writer",), ("writer", "daemon"), ("daemon", "writer")]
# Files in parts (72 MB each) are made rarely: one of them costs as much as twenty of the others.
WHAT = {"create": 4, "append": 4, "rename": 4, "truncate": 4, "upload": 3, "multipart": 0.3}


def pairs(seed, seconds):
    dice, end = random.Random(f"kills {seed}"), time.monotonic() + seconds
    while time.monotonic() < end:
        yield dice.choices(list(WHAT), list(WHAT.values()))[0], dice.choice(WHOM)


def work(mode, seed, seconds, tmp, build=harness.BUILD):
    """(counts, findings)"""
    Path(tmp).mkdir()
    prelux, findings, counts = harness.Prelux(tmp, build), [], {}
    try:
        matrix, other = crash.exercise(prelux, mode, seed, pairs(seed, seconds))
        counts = {"kills": sum(matrix.kills.values()), **{f"kills of the {whom}": count for whom, count in matrix.kills.items()},
                  "steps of programs": len(matrix.story.steps), "looks of another client": other.looks}
    except AssertionError as why:
        findings.append(f"{mode} seed {seed}: {why}")
    findings += prelux.close()
    return counts, findings


def step(env, seed):
    tmp = env.tmp / f"step{seed}"
    counts, findings = work(crash.MODES[seed % len(crash.MODES)], seed, SECONDS, tmp, env.build)
    shutil.rmtree(tmp, ignore_errors=True)
    return {**counts, "findings": findings}


def main(argv):
    with tempfile.TemporaryDirectory() as tmp:
        counts, findings = work(argv[0], argv[1], float(argv[2]) if len(argv) > 2 else SECONDS, Path(tmp, "run"))
    print(counts, *findings, sep="\n")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
