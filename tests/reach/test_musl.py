"""The library built for musl, in programs that are linked with it; command and daemon are glibc's."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT

HERE = Path(__file__).resolve().parent
LAKE = "/prelux-musl"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """(folder of programs, library)."""
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is not installed (Debian: musl-tools)")
    out = tmp_path_factory.mktemp("musl")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-C", ROOT, "-j2", f"BUILD={out}", "musl"], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "warning:" not in done.stderr, done.stderr
    for source in (HERE / "musl_work.c", *((ROOT / "tests/posix" / f"{name}.c") for name in ("hooks_read", "hooks_signals", "hooks_stack", "hooks_threads"))):
        argv = ["musl-gcc", "-isystem", out / "musl/include", "-std=gnu11", "-D_GNU_SOURCE", "-I", ROOT, "-O1", "-o", out / source.stem, source, "-pthread"]
        subprocess.run(argv, check=True)
    return out, out / "musl/libprelux.so"


@pytest.fixture
def run(prelux, built):
    def run(*argv, mapped=True, check=True):
        env = {"LD_PRELOAD": str(built[1]), "PRELUX_CONFIG": prelux.cli("env", "--json")["PRELUX_CONFIG"]} if mapped else {}
        return prelux.plain([built[0] / argv[0], *argv[1:]], env=env, check=check)

    return run


def fill(folder, program):
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("text of a\n")
    shutil.copy(program, folder / "tool")
    for n in range(40):
        (folder / "sub" / f"f{n:03}").write_text(f"content of f{n:03}\n" * 100)
    return folder


def test_needs_musl_only(built):
    said = subprocess.run(["readelf", "-dVW", built[1]], capture_output=True, text=True, check=True).stdout
    assert "GLIBC" not in said and "[libc.so]" in said and "TEXTREL" not in said


def test_work(prelux, run, built):
    plain, source = fill(prelux.tmp / "plain", built[0] / "musl_work"), fill(prelux.tmp / "source", built[0] / "musl_work")
    prelux.file_mapping(source, LAKE, write="async")
    want = run("musl_work", plain, mapped=False)
    assert want.stdout.count("spawn 0, status 7") == 2 and want.stderr == ""
    done = run("musl_work", LAKE)
    assert (done.stdout, done.stderr) == (want.stdout, "")
    prelux.cli("flush")
    names = [[(path.relative_to(top), path.is_file() and path.read_bytes()) for path in sorted(top.rglob("*")) if not path.name.startswith("tmp-")]
             for top in (plain, source)]
    assert names[0] == names[1] and not prelux.errors()


def test_end_of_a_process(prelux, run, built):
    """Streams are written out, and the remote has the file, before exit returns."""
    source = fill(prelux.tmp / "source", built[0] / "musl_work")
    prelux.file_mapping(source, LAKE, write="sync")
    run("musl_work", LAKE, "exit")
    assert (source / "late").read_text() == "written at the end\n"


def test_programs_of_another_libc(prelux, run, built):
    """They get no preload that they could not load."""
    prelux.file_mapping(fill(prelux.tmp / "source", built[0] / "musl_work"), LAKE)
    done = run("musl_work", LAKE, "shell")
    assert (done.stdout, done.stderr) == ("a shell\nspawn 0, status 0\n", "")


@pytest.mark.parametrize("words", [("hooks_read", "@", "f000", "f039"), ("hooks_signals", "storm", "@", "40"), ("hooks_threads", "fork", "@", "20")], ids="-".join)
def test_awkward(prelux, run, built, words):
    """Of test_hooks.py: signals, forks and threads; each also in the plain folder."""
    source = fill(prelux.tmp / "source", built[0] / "musl_work") / "sub"
    prelux.file_mapping(source, LAKE, freshness="immutable")
    plain = run(*(word.replace("@", str(source)) for word in words), mapped=False).stdout
    assert "right" in plain
    assert run(*(word.replace("@", LAKE) for word in words)).stdout == plain


def test_without_a_configuration(run, built, prelux):
    """Nothing is in the way of a program that uses no mapping."""
    plain = fill(prelux.tmp / "plain", built[0] / "musl_work")
    want = prelux.plain([built[0] / "musl_work", plain])
    again = fill(prelux.tmp / "again", built[0] / "musl_work")
    done = prelux.plain([built[0] / "musl_work", again], env={"LD_PRELOAD": str(built[1])})
    assert (done.stdout, done.stderr) == (want.stdout, "")
