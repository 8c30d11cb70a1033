"""Threads that come, open, map, walk, write, fork, spawn and go, beside one another: every byte read is known, and with the library under ThreadSanitizer
there is no race in it. FULL=1: ten minutes of the first kind and two of each other."""

import os
import shutil
import subprocess
import threading

import pytest

from tests.harness import ROOT
from tests.integration.crash_rig import FULL

HERE = ROOT / "tests/posix"
LAKE, SEA = "/prelux-storm", "/prelux-sea"
COUNT = 20
KINDS = {"evicted": {}, "asked": {"freshness": "always"}, "streamed": {"stream_above": "1KiB"}}
SECONDS = {kind: (600 if FULL else 20) if kind == "evicted" else (120 if FULL else 3) for kind in KINDS}


@pytest.fixture(scope="module")
def under_tsan(tmp_path_factory):
    """(program, library): both are instrumented, which takes an address space that is not random, also for whoever is given the library."""
    if not shutil.which("setarch") or subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode:
        pytest.skip("address randomisation cannot be switched off here (setarch -R)")
    out = tmp_path_factory.mktemp("storm")
    program = out / "hooks_storm"
    flags = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-fsanitize=thread", "-pthread", "-I", ROOT]
    if subprocess.run(["gcc", *flags, "-o", program, HERE / "hooks_storm.c"], capture_output=True).returncode:
        pytest.skip("gcc has no libtsan here")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-C", ROOT, "-j2", f"BUILD={out}", "SANITIZE=thread", "SANITIZE_SHIM=1", out / "libprelux.so"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program, out / "libprelux.so"


@pytest.fixture(params=KINDS)
def lake(request, prelux):
    prelux.kind, prelux.source, prelux.made = request.param, prelux.tmp / "source", prelux.tmp / "made"
    prelux.source.mkdir()
    prelux.made.mkdir()
    for n in range(COUNT):
        (prelux.source / f"f{n:03}").write_text(f"content of f{n:03}\n" * 100)
    backends = {"in": {"type": "file", "root": str(prelux.source)}, "out": {"type": "file", "root": str(prelux.made)}}
    prelux.config({"version": 1, "backends": backends, "mappings": [{"local": LAKE, "remote": "in:/", **KINDS[request.param]},
                                                                    {"local": SEA, "remote": "out:/", "write": "async"}]})
    return prelux


def storm(lake, seconds, run, program, **more):
    """Misses come from evictions."""
    over = threading.Event()

    def evict():
        while not over.wait(0.3):
            lake.cli("evict", "--all", check=False)

    thread = threading.Thread(target=evict)
    if lake.kind != "asked":
        thread.start()
    try:
        done = run([*program, LAKE, SEA, seconds, COUNT], check=False, timeout=seconds + 150, **more)
    finally:
        over.set()
        if lake.kind != "asked":
            thread.join()
    assert (done.returncode, done.stdout) == (0, "right\n"), f"{done.stderr}\n{lake.story()}"
    assert not lake.errors(), lake.story()
    lake.cli("flush")
    assert list(lake.made.iterdir()) == []
    return done


@pytest.mark.limit(1000)
def test_under_a_sanitizer(lake, under_tsan):
    """It tells on stderr, by addresses, and with another exit status: its symbolizer and its files of logs come through our calls before both are set up."""
    program, library = under_tsan
    env = {"PRELUX_CONFIG": lake.cli("env", "--json")["PRELUX_CONFIG"], "TSAN_OPTIONS": "halt_on_error=0:symbolize=0:history_size=5"}
    storm(lake, SECONDS[lake.kind], lake.plain, ["setarch", "-R", "env", f"LD_PRELOAD={library}", program], env=env)


@pytest.mark.limit(1000)
def test_as_it_is(lake):
    """The library that is shipped."""
    program = lake.build / "tests/posix/hooks_storm"
    if not program.exists():
        pytest.fail(f"{program} is missing: make posix-programs")
    plain = lake.tmp / "plain"
    plain.mkdir()
    assert lake.plain([program, lake.source, plain, 1, COUNT]).stdout == "right\n"
    storm(lake, 60 if FULL else 3, lake.run, [program])
