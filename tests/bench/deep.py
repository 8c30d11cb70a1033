"""What `prelux run --deep` costs, beside the same without prelux, in turn:

  make    of a small project in C with no mapped path in it, by `prelux run` with --deep and without: wall and processor time
  calls   of a static program, plain, supervised on a plain file, and on a mapped one; starts of it by a supervised and by a dynamic program"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests import harness
from tests.bench.footprint import figure, table
from tests.harness import Prelux

ROUNDS, SOURCES, CALLS, STARTS = 9, 60, 20000, 300
SOURCE = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "all.h"
int number_{n}(const char *words) {{ char text[64]; int sum = {n}; for (const char *p = words; *p; p++) sum = sum * 31 + *p;
  snprintf(text, sizeof text, "%d %s", sum, words); return (int)strlen(text) + atoi(text); }}
"""


def make_project(folder):
    folder.mkdir()
    names = [f"part{n}" for n in range(SOURCES)]
    (folder / "all.h").write_text("".join(f"int number_{n}(const char *words);\n" for n in range(SOURCES)))
    for n, name in enumerate(names):
        (folder / f"{name}.c").write_text(SOURCE.format(n=n))
    (folder / "main.c").write_text('#include "all.h"\nint main(void) { return ' + " + ".join(f'number_{n}("x")' for n in range(SOURCES)) + " == 1; }\n")
    objects = " ".join(f"{name}.o" for name in ["main", *names])
    (folder / "Makefile").write_text(f"CFLAGS = -O2\nprog: libparts.a main.o\n\t$(CC) -o $@ main.o libparts.a\nlibparts.a: {objects}\n"
                                     f"\tar cr $@ {objects}\n%.o: %.c all.h\n\t$(CC) $(CFLAGS) -c -o $@ $<\n")


def used():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(argv, folder, env):
    for path in [*folder.glob("*.o"), *folder.glob("*.a")]:
        path.unlink()
    cpu, start = used(), time.perf_counter()
    subprocess.run(argv, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, used() - cpu


def make_rows(prelux, tmp):
    folder = tmp / "project"
    make_project(folder)
    make, run = ["make", "-j2"], [prelux.exe, "--config", prelux.config_path, "run"]
    ways = {"plain": make, "run": [*run, "--", *make], "run --deep": [*run, "--deep", "--", *make]}
    rounds = []
    for turn in range(ROUNDS + 1):
        order = list(ways) if turn % 2 else list(ways)[::-1]
        rounds.append({way: timed(ways[way], folder, prelux._merged(None)) for way in order})
    rows = []
    for which, name in enumerate(("wall", "processor")):
        rows.append(figure(f"make, plain: {name} time", [one["plain"][which] for one in rounds[1:]], "", "s"))
        for way in ("run", "run --deep"):
            rows.append(figure(f"make, {way}: {name} time beside plain", [one[way][which] / one["plain"][which] for one in rounds[1:]], 1.05, ""))
    return rows


def call_rows(prelux, tmp, mapped):
    program = tmp / "cost"
    subprocess.run(["gcc", "-O", "-w", "-static", "-o", program, harness.ROOT / "tests/data/deep_cost.c"], check=True)

    def cost(what, count, name, way):
        words = [program, what, str(count), name]
        done = prelux.plain(words, timeout=300) if way == "plain" else prelux.run(words, args=way, timeout=300)
        return float(done.stdout)
    rows = []
    for what in ("stat", "open", "read"):
        names = {"plain": (tmp / "f", "plain"), "supervised, unmapped": (tmp / "f", ["--deep"]), "supervised, mapped": (f"{mapped}/f", ["--deep"])}
        found = {way: [] for way in names}
        for _ in range(ROUNDS):
            for way, (name, args) in names.items():
                found[way].append(cost(what, CALLS if what != "read" else CALLS // 20, name, args))
        label = {"stat": "stat", "open": "open and close", "read": "open, 100 pread, close"}[what]
        rows += [figure(f"{label}: {way}", values, "", "us") for way, values in found.items()]
    found = {"plain": [], "supervised": []}
    for _ in range(ROUNDS):
        found["plain"].append(cost("start", STARTS, program, "plain"))
        found["supervised"].append(cost("start", STARTS, program, ["--deep"]))
    return rows + [figure(f"start of a static program: {way}", values, "", "us") for way, values in found.items()]


def launched_rows(prelux, tmp):
    """By a dynamic program: by the launcher, with --deep."""
    script = f"import os, time\nt = time.perf_counter()\nfor _ in range({STARTS}): os.waitpid(os.posix_spawn('{tmp}/cost', ['cost'], os.environ), 0)\n" \
             f"print((time.perf_counter() - t) / {STARTS} * 1e6)"
    found = {"run": [], "run --deep": []}
    for _ in range(ROUNDS):
        for way, args in ("run", []), ("run --deep", ["--deep"]):
            found[way].append(float(prelux.run([sys.executable, "-c", script], args=args, timeout=300).stdout))
    return [figure(f"start of a static program by a dynamic one: {way}", values, "", "us") for way, values in found.items()]


def collect(build, tmp, wanted=("make", "calls")):
    (tmp / "prelux").mkdir()
    prelux = Prelux(tmp / "prelux", build)
    try:
        (tmp / "data").mkdir()
        for folder in (tmp, tmp / "data"):
            (folder / "f").write_bytes(b"x" * 4000)
        mapped = prelux.file_mapping(tmp / "data", freshness="immutable")
        prelux.run(f"cat {mapped}/f > /dev/null")
        kinds = {"make": lambda: make_rows(prelux, tmp), "calls": lambda: call_rows(prelux, tmp, mapped) + launched_rows(prelux, tmp)}
        return {"deep": [row for name in wanted for row in kinds[name]()]}
    finally:
        prelux.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="prelux-bench-") as folder_:
        print(table(collect(Path(sys.argv[1]).resolve(), Path(folder_), sys.argv[2:] or ("make", "calls"))["deep"]))
