"""What a process pays for the library when it starts: pages touched and system calls, beside a start without it."""

import os
import re
import shutil
import subprocess

import pytest

PROGRAM = "/bin/true"


def faults(env):
    """Of the cheapest of many starts: where ld.so puts things is random."""
    found = []
    for _ in range(60):
        _, status, usage = os.wait4(os.posix_spawn(PROGRAM, ["true"], env), 0)
        assert status == 0
        found.append(usage.ru_minflt)
    return sorted(found)[len(found) // 4]


@pytest.fixture
def table(prelux, tmp_path):
    (tmp_path / "remote").mkdir()
    prelux.file_mapping(tmp_path / "remote")
    return prelux.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()


def test_few_pages(prelux, table):
    """An empty library of gcc's own making costs six or seven."""
    env = {"PATH": os.environ["PATH"], "PRELUX_RUNTIME_DIR": prelux.env["PRELUX_RUNTIME_DIR"]}
    more = faults(dict(env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)) - faults(env)
    assert more <= 8, more


def test_few_system_calls(prelux, table):
    """ld.so's to load it, then the table: open, whose it is, read, close."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)
    log = prelux.tmp / "strace.log"
    done = subprocess.run(["strace", "-o", log, "env", "-i", *(f"{k}={v}" for k, v in env.items()), PROGRAM], capture_output=True, text=True)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip(done.stderr)
    lines = log.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if table in line and line.startswith("open"))
    calls = [line.split("(")[0].replace("newfstatat", "fstat") for line in lines[start:]]
    own = ["geteuid"] if os.geteuid() else []  # root's word is everybody's
    assert calls[:4 + len(own)] == ["openat", "fstat", "pread64", *own, "close"], lines[start:]


def test_one_page_is_written(prelux):
    """All that ld.so writes, and what the start stores, in one page; no RELRO, which would make more of it."""
    sections = dict(re.findall(r"\] (\.\S+)\s+\S+\s+([0-9a-f]{16})",
                               subprocess.run(["readelf", "-SW", prelux.library], capture_output=True, text=True, check=True).stdout))
    symbols = subprocess.run(["nm", prelux.library], capture_output=True, text=True, check=True).stdout
    places = {name: int(sections[name], 16) for name in (".tdata", ".dynamic", ".got", ".data", ".bss")}
    for name in ("begun", "few", "kept_len", "n_objects", "prelux_state", "start_runtime"):
        places[name] = int(re.search(rf"^([0-9a-f]+) . {name}$", symbols, re.M)[1], 16)
    assert len({place >> 12 for place in places.values()}) == 1, {k: hex(v) for k, v in places.items()}
    assert "GNU_RELRO" not in subprocess.run(["readelf", "-lW", prelux.library], capture_output=True, text=True, check=True).stdout
