"""make bench, names: what it costs to list and walk what is known already, beside a plain folder with the same names, in one run.

Two shapes of 100,000 names: one folder, and 1,000 folders of 100. Each row runs the same program on both in turn; seconds are
medians, the ratio is the median of the rounds' ratios."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.harness import Prelux  # noqa: E402

ROUNDS = 5
NAMES, FOLDERS = 100_000, 1_000
WALK = """
import os, sys, time
begin = time.perf_counter()
n = sum(len(d) + len(f) for _, d, f in os.walk(sys.argv[1]))
print(n, time.perf_counter() - begin)
"""
STATS = """
import os, sys, time
begin = time.perf_counter()
n = 0
for top, _, files in os.walk(sys.argv[1]):
    for name in files:
        n += os.stat(os.path.join(top, name)).st_size >= 0
print(n, time.perf_counter() - begin)
"""
# What a program does to the names of a folder; the time is the program's own, without its start, where it tells.
PROGRAMS = {
    "find": ["find", "{}"],
    "os.walk": ["/usr/bin/python3", "-c", WALK, "{}"],
    "os.walk and stat": ["/usr/bin/python3", "-c", STATS, "{}"],
    "ls -l": ["ls", "-lR", "{}"],
    "du": ["du", "-s", "{}"],
}


def make_names(folder, names, folders):
    for i in range(folders):
        sub = folder / f"folder{i:04d}" if folders > 1 else folder
        sub.mkdir(parents=True)
        for j in range(names // folders):
            (sub / f"name{j:06d}.bin").touch()


def seconds(argv, env):
    begin = time.perf_counter()
    done = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, text=True)
    whole = time.perf_counter() - begin
    return float(done.stdout.split()[1]) if argv[0].endswith("python3") else whole


def pair(name, mapped, plain):
    rounds = []
    for i in range(ROUNDS + 1):
        order = (mapped, plain) if i % 2 else (plain, mapped)
        times = {call: call() for call in order}
        rounds.append((times[mapped], times[plain]))
    rounds = rounds[1:]  # the first finds nothing in any cache
    ratios = sorted(a / b for a, b in rounds)
    a, b = (statistics.median(column) for column in zip(*rounds))
    return {"name": name, "a_s": round(a, 4), "b_s": round(b, 4), "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(ratios[0], 3), "ratio_high": round(ratios[-1], 3)}


def rows(build, tmp, kind, folders, only=None):
    prelux = Prelux(tmp, build)
    try:
        source = Path(tmp, "source")
        make_names(source, NAMES, folders)
        mapped = prelux.file_mapping(source, freshness="immutable")
        table = prelux.run(f"find {mapped} | wc -l; printenv PRELUX_CONFIG").stdout.split()[-1]
        env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)

        result = []
        for name, argv in PROGRAMS.items():
            if only and name not in only:
                continue
            ours = [word.format(mapped) if word == "{}" else word for word in argv]
            theirs = [word.format(source) if word == "{}" else word for word in argv]
            result.append(pair(f"{name}, {kind}", lambda: seconds(ours, env), lambda: seconds(theirs, prelux.env)))
        return result
    finally:
        prelux.close()


def collect(build, only=None):
    result = []
    for kind, folders in (("1,000 folders of 100", FOLDERS), ("one folder of 100,000", 1)):
        with tempfile.TemporaryDirectory(prefix="prelux-bench-") as tmp:
            result += rows(build, tmp, kind, folders, only)
    return result


def table(result):
    lines = ["| row | prelux s | plain s | ratio (lowest to highest) |", "|---|---|---|---|"]
    for row in result:
        lines.append(f"| {row['name']} | {row['a_s']:.3f} | {row['b_s']:.3f} | {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(collect(Path(sys.argv[1]).resolve(), sys.argv[2:])))
