#!/usr/bin/env python3
"""Runs the tests, stage by stage, quick ones first; the last line is "N passed, N failed, N skipped".

  tests/run.py [--list] [stage...]        exit status 1 when anything failed
  QUICK=1                                 leaves out tests marked slow
  TESTS="-k name"                         more words for pytest

A stage that cannot be built, or a program that crashes or hangs, counts as one failed test: nothing disappears.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = os.environ.get("PRELUX_BUILD", "build")
UNIT_SECONDS = 240
CORES = os.cpu_count() or 1
CMOCKA = re.compile(r"^\[  (PASSED |FAILED |SKIPPED) \] (\d+) test\(s\)", re.M)
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|&#(x[0-9a-fA-F]+|[0-9]+);")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1",
}


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped = []  # "test: reason"

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"


def say(text):
    print(text, flush=True)


def make(*words):
    """True when make succeeds; its output is shown when it does not."""
    jobs = ["make", "--no-print-directory", f"-j{CORES}", *words]
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(jobs, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        say(f"FAILED: {shlex.join(jobs)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}")
    return done.returncode == 0


def failed_build():
    tally = Tally()
    tally.failed = 1
    return tally


# cmocka programs

def run_program(path, launcher):
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="prelux-unit-", ignore_cleanup_errors=True) as folder:
        env = {**os.environ, **SANITIZER_ENV, "TMPDIR": folder, "HOME": folder, "PRELUX_RUNTIME_DIR": folder + "/runtime"}
        begin = time.monotonic()
        try:
            done = subprocess.run([*launcher, str(path)], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=UNIT_SECONDS)
            output, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as over:
            output = (over.stdout or b"").decode("utf-8", "replace") + f"\nlonger than {UNIT_SECONDS} s"
            status = -1
    counts = {"PASSED ": 0, "FAILED ": 0, "SKIPPED": 0}
    for what, number in CMOCKA.findall(output):
        counts[what] += int(number)
    tally.passed, tally.failed = counts["PASSED "], counts["FAILED "]
    names = [line[13:] for line in output.splitlines() if line.startswith("[  SKIPPED ] ") and "test(s)" not in line]
    tally.skipped = [f"{path.name}: {name}" for name in list(dict.fromkeys(names))[:counts["SKIPPED"]]]
    tally.skipped += [f"{path.name}: (unnamed)"] * (counts["SKIPPED"] - len(tally.skipped))
    if status != 0 and not tally.failed:
        tally.failed = 1
    if status == 0 and not tally.passed and not tally.skipped and not tally.failed:
        tally.passed = 1  # a program of its own kind: its status is its result
    if status != 0:
        say(f"--- {path.name} (status {status})\n{output[-12000:]}")
    seconds = time.monotonic() - begin
    say(f"  {path.name:32} {seconds:6.1f} s  {tally}")
    return tally


# They bring an allocator of their own, which is what a sanitizer does, too.
NOT_SANITIZED = ("test_conf_nomem",)


def unit(build, *make_words, launcher=()):
    sources = sorted((ROOT / "tests/unit").glob("test_*.c"))
    if build.endswith(("-asan", "-tsan")):
        sources = [source for source in sources if source.stem not in NOT_SANITIZED]
    if not sources:
        return Tally()
    if not make(f"BUILD={build}", *make_words, "unit-programs"):
        return failed_build()
    total = Tally()
    with ThreadPoolExecutor(CORES) as pool:
        for tally in pool.map(lambda source: run_program(ROOT / build / "tests/unit" / source.stem, launcher), sources):
            total.add(tally)
    return total


def no_aslr():
    """gcc 12's TSan cannot live with the address randomisation of newer kernels."""
    if shutil.which("setarch") and subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0:
        return ["setarch", "-R"]
    return []


# pytest folders

def pytest(folder, build, *words, launcher=()):
    tally = Tally()
    if not any((ROOT / folder).glob("**/test_*.py")):
        return tally
    words = list(words) + shlex.split(os.environ.get("TESTS", ""))
    if os.environ.get("QUICK"):
        words += ["-m", "not slow"]
    with tempfile.TemporaryDirectory(prefix="prelux-pytest-", ignore_cleanup_errors=True) as scratch:
        report = Path(scratch, "report.xml")
        argv = [*launcher, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT / "tests"), "--tb=short",
                "--durations=8", "--durations-min=5", f"--basetemp={scratch}/tmp", f"--junitxml={report}", *words, folder]
        env = {**os.environ, "PRELUX_BUILD": build, "PYTHONDONTWRITEBYTECODE": "1"}
        status = subprocess.run(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL).returncode
        if report.exists():
            read_report(report, tally)
    if status not in (0, 5) and not tally.failed:  # 5: nothing collected
        tally.failed = 1
    return tally


def read_report(path, tally):
    text = path.read_text("utf-8", "replace")
    text = NOT_XML.sub("?", text)  # outputs of programs, in the messages of failed tests
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed += 1
        elif skip is not None:
            tally.skipped.append(f"{name}: {skip.get('message')}")
        else:
            tally.passed += 1


def stage_pytest(folder, goals=("all",), build=BUILD, make_words=(), words=()):
    if not make(f"BUILD={build}", *make_words, *goals):
        return failed_build()
    return pytest(folder, build, *words)


def integration_tsan():
    """preluxd under TSan; CLI and library are the plain ones (a program with TSan cannot live behind a preloaded library)."""
    mixed = ROOT / "build-tsan/mixed"
    launcher = no_aslr()
    if not make(f"BUILD={BUILD}", "all", "tools") or not make("BUILD=build-tsan", *TSAN, "build-tsan/preluxd"):
        return failed_build()
    if not launcher:
        tally = Tally()
        tally.skipped = ["integration-tsan: address randomisation cannot be switched off here (setarch -R)"]
        return tally
    shutil.rmtree(mixed, ignore_errors=True)
    mixed.mkdir(parents=True)
    for path in (ROOT / BUILD / "prelux", ROOT / BUILD / "libprelux.so", ROOT / "build-tsan/preluxd"):
        shutil.copy(path, mixed)
    (mixed / "tests").symlink_to(ROOT / BUILD / "tests")
    return pytest("tests/integration", str(mixed), "-m", "asan", launcher=launcher)


COVERAGE = ["COVERAGE=1"] if "--coverage" in sys.argv else []
ASAN = ("SANITIZE=address,undefined",)
TSAN = ("SANITIZE=thread",)


def servers():
    """Installs what no package has (by Maven, go and npm) first, so that nothing is skipped for want of it."""
    for name in ("alluxio29", "versitygw", "azurite"):
        subprocess.run([sys.executable, "-m", f"tests.servers.{name}", "--install"], cwd=ROOT, stdin=subprocess.DEVNULL)
    return stage_pytest("tests/servers", make_words=COVERAGE)


STAGES = {
    "lint": lambda: lint(),
    "meta": lambda: stage_pytest("tests/meta", make_words=COVERAGE),
    "unit": lambda: unit(BUILD, *COVERAGE),
    "unit-asan": lambda: unit("build-asan", *ASAN),
    "unit-tsan": lambda: unit("build-tsan", *TSAN, launcher=no_aslr()),
    "servers": servers,
    "standin": lambda: stage_pytest("tests/standin", make_words=COVERAGE),
    "posix": lambda: stage_pytest("tests/posix", ("all", "tools"), make_words=COVERAGE),
    "integration": lambda: stage_pytest("tests/integration", ("all", "tools"), make_words=COVERAGE),
    "interop": lambda: stage_pytest("tests/interop", ("all", "tools"), make_words=COVERAGE),
    "integration-asan": lambda: stage_pytest("tests/integration", ("all", "tools"), "build-asan", ASAN, ("-m", "asan")),
    "integration-tsan": integration_tsan,
}


def lint():
    tally = Tally()
    if make("lint"):
        tally.passed = 1
    else:
        tally.failed = 1
    return tally


def main(words):
    wanted = [word for word in words if not word.startswith("-")]
    if "--list" in words:
        print("\n".join(STAGES))
        return 0
    unknown = [name for name in wanted if name not in STAGES]
    if unknown:
        sys.exit(f"unknown stage {unknown[0]}; there are: {' '.join(STAGES)}")
    if not wanted:
        wanted = [name for name in STAGES if name != "lint" or os.environ.get("DEVELOPER") == "1"]
    total = Tally()
    rows = []
    for name in wanted:
        say(f"\n=== {name}")
        begin = time.monotonic()
        tally = STAGES[name]()
        rows.append(f"{name:18} {time.monotonic() - begin:7.1f} s  {tally}")
        say(f"=== {rows[-1]}")
        total.add(tally)
    say("")
    for reason in total.skipped:
        say(f"SKIP {reason}")
    say("\n" + "\n".join(rows))
    say(f"{total}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
