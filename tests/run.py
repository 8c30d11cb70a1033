#!/usr/bin/env python3
"""Runs the tests; the last line is "N passed, N failed, N skipped".

  tests/run.py [--list] [stage...]        exit status 1 when anything failed
  QUICK=1                                 leaves out tests marked slow
  TESTS="-k name"                         more words for pytest
  JOBS=N                                  test programs and test files at once (default: three for each core)

Most tests wait most of their time, so files and programs of all stages run beside each other (tests/jobs.py) as soon as
what they need is built. Those marked `alone` count what is there in the whole machine, or measure time: they run one by one
at the end. A stage that cannot be built, or a program that crashes or hangs, counts as one failed test: nothing disappears.
"""

import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.jobs import ASAN_FILES, CORES, NO_THREADS, TSAN_TOOL_FILES, Job, Runner, Step, Tally, say  # noqa: E402
from tests.servers.alluxio29 import Alluxio29  # noqa: E402
from tests.servers.base import ServerError  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BUILD = os.environ.get("PRELUX_BUILD", "build")
UNIT_SECONDS = 240
FILE_SECONDS = 1500
FUZZ_RUNS = "400"
CMOCKA = re.compile(r"^\[  (PASSED |FAILED |SKIPPED) \] (\d+) test\(s\)", re.M)
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|&#(x[0-9a-fA-F]+|[0-9]+);")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=0:second_deadlock_stack=1",
}
COVERAGE = ("COVERAGE=1",) if "--coverage" in sys.argv else ()
ASAN = ("SANITIZE=address,undefined",)
TSAN = ("SANITIZE=thread",)
MIXED = "build-tsan/mixed"
# Servers that are installed for tests, and how these name them.
INSTALLED = {"alluxio29": r"\balluxio29\b|\balluxio_server\b", "azurite": r"\bazurite\b", "versitygw": r"\bversitygw\b",
             "safetensors": r"\bsafetensors\b", "pythons": r"\bpythons\b", "crates": r"\bcrates\b", "debs": r"\bdebs\b",
             "grafana": r"\bservers import grafana\b", "dockerfiles": r"\bservers import dockerfiles\b"}
# "stage name seconds" of jobs that take longer than others, as a run left them in BUILD/seconds.txt: the longest begin first.
MEASURED = {tuple(line.split()[:2]): float(line.split()[2]) for line in (ROOT / "tests/data/seconds.txt").read_text().splitlines()}


# Steps: what has to be there before tests can run. Each returns "" or what went wrong.

def run_make(*words):
    jobs = ["make", "--no-print-directory", f"-j{CORES}", *words]
    env = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(jobs, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return f"{shlex.join(jobs)}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}" if done.returncode else ""


def build_all(goals):
    """goals: {(folder, make's words): set of goals}."""
    for (folder, words), names in goals.items():
        yield Step(folder, partial(run_make, f"BUILD={folder}", *words, *sorted(names)))


def mix():
    """preluxd and backend_tool under TSan; what runs behind the library is plain, and so is that (a program with TSan cannot live there)."""
    mixed = ROOT / MIXED
    shutil.rmtree(mixed, ignore_errors=True)
    (mixed / "tests").mkdir(parents=True)
    for path in (ROOT / BUILD / "prelux", ROOT / BUILD / "libprelux.so", ROOT / "build-tsan/preluxd"):
        shutil.copy(path, mixed)
    (mixed / "tests/posix").symlink_to(ROOT / BUILD / "tests/posix")
    (mixed / "tests/unit").symlink_to(ROOT / "build-tsan/tests/unit")
    return ""


def install(name):
    """What no package has (by Maven, go, npm, pip and cargo), so that nothing is skipped for want of it. Tests do not try again."""
    done = subprocess.run([sys.executable, "-m", f"tests.servers.{name}", "--install"], cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace")
    if done.returncode:
        say(f"{name} could not be installed; tests of it are skipped:\n{done.stderr[-2000:]}")
    elif name == "alluxio29":
        try:
            Alluxio29.for_all()
        except ServerError as error:
            say(f"no Alluxio 2.9 for all tests, each file starts its own: {str(error)[:2000]}")
    return ""


@functools.cache
def texts_of(path):
    """{file: text} of the file, and of those of its folder that it names."""
    texts, more = {}, [path]
    while more:
        texts.update({one: one.read_text() for one in more})
        named = set(re.findall(r"\w+", "".join(texts[one] for one in more)))
        more = [one for one in path.parent.glob("*.py") if one.stem in named and one not in texts]
    return texts


def drives_a_tool_alone(path):
    """It starts no daemon: backend_tool is what it tests."""
    return "backends_raw_rig.py" in [one.name for one in texts_of(path)] and not re.search(r"\bprelux(_factory)?\s*[,)]|Prelux\(", path.read_text())


def servers_of(path):
    """Those of INSTALLED that the file names, or a file of its folder that it names."""
    texts = texts_of(path)
    return [name for name, words in INSTALLED.items() if any(re.search(words, text) for text in texts.values())]


def no_aslr():
    """gcc 12's TSan cannot live with the address randomisation of newer kernels."""
    if shutil.which("setarch") and subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0:
        return ["setarch", "-R"]
    return []


# cmocka programs

def run_program(path, launcher, words=()):
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="prelux-unit-", ignore_cleanup_errors=True) as folder:
        env = {**os.environ, **SANITIZER_ENV, "TMPDIR": folder, "HOME": folder, "PRELUX_RUNTIME_DIR": folder + "/runtime"}
        try:
            done = subprocess.run([*launcher, str(path), *words], cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
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
    return tally, f"status {status}\n{output[-12000:]}" if status else ""


# They bring an allocator of their own, which is what a sanitizer does, too.
NOT_SANITIZED = ("test_conf_nomem",)


def unit_names(build):
    left_out = (NOT_SANITIZED if build.endswith(("-asan", "-tsan")) else ()) + (NO_THREADS if build.endswith("-tsan") else ())
    return [source.stem for source in sorted((ROOT / "tests/unit").glob("test_*.c")) if source.stem not in left_out]


def unit(stage, build, launcher=()):
    for name in unit_names(build):
        yield Job(stage, name, partial(run_program, ROOT / build / "tests/unit" / name, launcher), (build,), MEASURED.get((stage, name), 5))


def fuzzers(stage, build):
    """Each replays its corpus and makes FUZZ_RUNS other inputs of it, the same each time; `make torture` makes others. What it prints names the seed."""
    program = ROOT / build / "tests/fuzz/fuzz"
    for source in sorted((ROOT / "tests/fuzz").glob("fuzz_*.c")):
        name = source.stem[5:]
        words = (name, "--corpus", f"tests/fuzz/corpus/{name}", "--runs", FUZZ_RUNS, "--seed", os.environ.get("PRELUX_SEED") or "14", "--left", build)
        yield Job(stage, f"fuzz_{name}", partial(run_program, program, (), words), (build,), MEASURED.get((stage, f"fuzz_{name}"), 2))


# pytest files

def run_pytest(target, build, launcher, words):
    """A file of tests, or the tests of a folder that are marked `alone`."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="prelux-pytest-", ignore_cleanup_errors=True) as scratch:
        report, log = Path(scratch, "report.xml"), Path(scratch, "log")
        python = [sys.executable, "-X", f"pycache_prefix={ROOT / BUILD / 'pycache'}"]
        argv = [*launcher, *python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT / "tests"), "--tb=short", "--durations=5",
                "--durations-min=20", f"--basetemp={scratch}/tmp", f"--junitxml={report}", *words,
                *shlex.split(os.environ.get("TESTS", "")), str(target)]
        env = {**os.environ, "PRELUX_BUILD": build, "PRELUX_TEST_NO_INSTALL": "1"}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # three hundred of them need not compile the same files; programs under test do not write any (conftest.py)
        with open(log, "wb") as out:
            child = subprocess.Popen(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            status = wait_for(child)
        output = log.read_text("utf-8", "replace")
        if report.exists():
            read_report(report, tally)
    if status not in (0, 5) and not tally.failed:  # 5: nothing collected
        tally.failed = 1
    durations = [line for line in output.splitlines() if re.match(r"[0-9.]+s (setup|call|teardown)", line)]
    return tally, output if tally.failed else "\n".join(durations)


def wait_for(child):
    try:
        return child.wait(FILE_SECONDS)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)  # pytest ends what the test has started
    try:
        return child.wait(60) or -1
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


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


def may_be_sanitized(path, text):
    """To hear from pytest that a file has no such test takes some seconds, twice, and most have none."""
    return path.name in ASAN_FILES or re.search("asan|contract_rig", text) is not None


def pytest(stage, build=BUILD, after=(BUILD,), marks=(), launcher=(), folder=None):
    folder = folder or ROOT / "tests" / stage
    marks = [*marks, *(["not slow"] if os.environ.get("QUICK") else [])]
    words = ["-m", " and ".join(marks)] if marks else []
    alone = False
    for path in sorted(path for path in folder.glob("**/test_*.py") if ".cache" not in path.parts):  # what is installed there has tests, too
        text = path.read_text()
        if "asan" in marks and not may_be_sanitized(path, text):
            continue
        if stage == "integration-tsan" and drives_a_tool_alone(path) and path.name not in TSAN_TOOL_FILES:
            continue
        alone = alone or "mark.alone" in text
        run = partial(run_pytest, path, build, launcher, [*words, "--alone=not"])
        heavy = re.search(INSTALLED["alluxio29"], text) is not None
        yield Job(stage, path.stem, run, (*after, *servers_of(path)), MEASURED.get((stage, path.stem), 10), heavy)
    if alone:
        yield Job(stage, "(alone)", partial(run_pytest, folder, build, launcher, [*words, "--alone=only"]), after, alone=True)


# Stages: (folder and words for make, its goals) they need, and their jobs

def integration(stage, build, after):
    launcher = no_aslr() if stage == "integration-tsan" else []
    if stage == "integration-tsan" and not launcher:
        tally = Tally()
        tally.skipped = ["integration-tsan: address randomisation cannot be switched off here (setarch -R)"]
        return [Job(stage, "none", lambda: (tally, ""), ())]
    marks = [] if stage == "integration" else ["asan", *([] if os.environ.get("FULL") else ["not waits"])]
    return pytest(stage, build, after, marks, launcher, ROOT / "tests/integration")


def lint():
    wrong = run_make("lint")
    return Tally(failed=1) if wrong else Tally(passed=1), wrong


PLAIN = (BUILD, COVERAGE)
STAGES = {
    "lint": ({}, lambda: [Job("lint", "lint", lint, (), 100)]),
    "meta": ({PLAIN: {"all"}}, lambda: pytest("meta")),
    "unit": ({PLAIN: {"unit-programs"}}, lambda: unit("unit", BUILD)),
    "unit-asan": ({("build-asan", ASAN): {"unit-programs"}}, lambda: unit("unit-asan", "build-asan")),
    "unit-tsan": ({("build-tsan", TSAN): {f"build-tsan/tests/unit/{name}" for name in unit_names("build-tsan")}}, lambda: unit("unit-tsan", "build-tsan", no_aslr())),
    "torture": ({PLAIN: {"all", "tools"}, ("build-asan", ASAN): {"fuzzers"}},
                lambda: [*fuzzers("torture", "build-asan"), *pytest("torture")]),
    "servers": ({PLAIN: {"all"}}, lambda: pytest("servers")),
    "standin": ({PLAIN: {"all"}}, lambda: pytest("standin")),
    "posix": ({PLAIN: {"all", "tools"}}, lambda: pytest("posix")),
    "reach": ({PLAIN: {"all", "tools"}}, lambda: pytest("reach")),
    "integration": ({PLAIN: {"all", "tools"}}, lambda: integration("integration", BUILD, (BUILD,))),
    "interop": ({PLAIN: {"all", "tools"}}, lambda: pytest("interop")),
    "integration-asan": ({("build-asan", ASAN): {"all", "tools"}}, lambda: integration("integration-asan", "build-asan", ("build-asan",))),
    "integration-tsan": ({PLAIN: {"all", "tools"}, ("build-tsan", TSAN): {"build-tsan/preluxd", "build-tsan/tests/unit/backend_tool"}},
                         lambda: integration("integration-tsan", str(ROOT / MIXED), ("mixed",))),
}


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
    begin = time.monotonic()
    goals, jobs = {}, []
    for name in wanted:
        for folder, more in STAGES[name][0].items():
            goals.setdefault(folder, set()).update(more)
        jobs += STAGES[name][1]()
    needed = {step for job in jobs for step in job.after}
    lanes = [list(build_all(goals))] + [[Step(name, partial(install, name)) for name in INSTALLED if name in needed and (name == "alluxio29") == alone]
                                        for alone in (False, True)]  # that one is started, too, and the first to be waited for
    if "mixed" in needed:
        lanes[0].append(Step("mixed", mix, (BUILD, "build-tsan")))
    runner = Runner(wanted, lanes, jobs)
    total, skipped = runner.run()
    (ROOT / BUILD).mkdir(parents=True, exist_ok=True)
    (ROOT / BUILD / "seconds.txt").write_text("".join(f"{stage} {name} {took:.0f}\n" for took, stage, name in sorted(runner.took) if took > 15))
    for reason in skipped:
        say(f"SKIP {reason}")
    say(f"\nin {time.monotonic() - begin:.0f} s\n{total}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
