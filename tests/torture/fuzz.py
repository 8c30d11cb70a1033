"""Every fuzzer of tests/fuzz for ten minutes of its own: libFuzzer with clang (coverage leads the mutations), else the mutations of tests/fuzz/main.c,
under the address and undefined-behaviour sanitizers.

What libFuzzer has found worth keeping stays in BUILD/torture/corpus, so that a run begins where the last one ended; an input that fails is left in
BUILD/torture/crashes. `BUILD/fuzz/tests/fuzz/fuzz_NAME FILE` runs it again."""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem[5:] for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
SECONDS = 600  # of each
STEP = 50
TARGETS = {f"{name} seconds": SECONDS for name in NAMES}
CLANG = shutil.which("clang")
MEMORY_MB = 2048
INPUT_MAX = 65536
INPUT_SECONDS = 25  # by the clock, on a machine that others use


def make(*words):
    jobs = ["make", "--no-print-directory", f"-j{os.cpu_count() or 1}", *words]
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(jobs, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(jobs)}\n{done.stderr[-3000:]}")


def prepare(env):
    words = ["FUZZ=1", f"CC={CLANG}"] if CLANG else []
    make(f"BUILD={env.build}/fuzz", "SANITIZE=address,undefined", *words, "fuzzers")


def libfuzzer(env, name, seed, seconds, left):
    grown = env.build / "torture/corpus" / name
    grown.mkdir(parents=True, exist_ok=True)
    words = [f"-seed={seed % 2**31 or 1}", f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", f"-max_len={INPUT_MAX}", f"-rss_limit_mb={MEMORY_MB}",
             f"-artifact_prefix={left}/{name}-", "-print_final_stats=1", "-verbosity=0"]
    words += [f"-dict={path}" for path in (ROOT / "tests/fuzz/words" / name,) if path.exists()]
    return [env.build / "fuzz/tests/fuzz" / f"fuzz_{name}", *words, grown, ROOT / "tests/fuzz/corpus" / name], r"stat::number_of_executed_units: (\d+)"


def own(env, name, seed, seconds, left):
    words = ["--corpus", ROOT / "tests/fuzz/corpus" / name, "--seed", str(seed), "--seconds", str(seconds), "--left", left]
    return [env.build / "fuzz/tests/fuzz/fuzz", name, *words], r": (\d+) executions"


def what_failed(output):
    lines = [line for line in output.splitlines() if re.search(r"ERROR: |runtime error|does not hold|SUMMARY|Test unit written|left as|-- becomes --", line)]
    return " / ".join(line.strip()[:200] for line in lines[:6]) or output[-400:]


def step(env, seed):
    """The fuzzer that has had the least."""
    name = min(NAMES, key=lambda one: env.counts.get(f"{one} seconds", 0))
    left = env.build / "torture/crashes"
    left.mkdir(parents=True, exist_ok=True)
    seconds = max(1, min(STEP, SECONDS - int(env.counts.get(f"{name} seconds", 0))))
    argv, count = (libfuzzer if CLANG else own)(env, name, seed, seconds, left)
    options = {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    begin = time.monotonic()
    done = subprocess.run([str(word) for word in argv], cwd=ROOT, env={**os.environ, **options, "TMPDIR": str(env.tmp)}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds * 20 + 600, check=False)
    output = done.stdout.decode("utf-8", "replace")
    found = re.search(count, output)
    counts = {f"{name} seconds": min(seconds, int(time.monotonic() - begin + 1)), f"{name} executions": int(found.group(1)) if found else 0}
    if done.returncode:
        counts["findings"] = [f"{name}, seed {seed}, status {done.returncode}: {what_failed(output)}"]
    return counts
