"""What tests/run.py leaves out without asking pytest, or of a sanitizer, has nothing to show there."""

import re
import subprocess
import sys

from tests.harness import BUILD
from tests.jobs import NO_THREADS, TSAN_TOOL_FILES
from tests.run import ROOT, drives_a_tool_alone, may_be_sanitized


def test_no_sanitized_test_is_left_out():
    folder = ROOT / "tests/integration"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "asan", folder], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, check=False)
    marked = {line.split("::")[0].rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}
    chosen = {path.name for path in folder.glob("test_*.py") if may_be_sanitized(path, path.read_text())}
    assert len(marked) > 20, done.stdout + done.stderr
    assert marked <= chosen


def test_programs_without_threads_have_none():
    """Their sources and what they are linked with start none."""
    for name in NO_THREADS:
        source = (ROOT / f"tests/unit/{name}.c").read_text()
        assert "pthread_create" not in source and "thrd_create" not in source, name
        program = BUILD / "tests/unit" / name
        if program.exists():
            assert not re.search(r"\bU (pthread_create|thrd_create)\b", subprocess.run(["nm", "-D", program], capture_output=True, text=True, check=True).stdout), name


def test_what_drives_a_tool_alone_is_found():
    """With TSan a daemon is tested by all that start one; of the others each that is chosen must be there."""
    folder = ROOT / "tests/integration"
    for name in TSAN_TOOL_FILES:
        assert drives_a_tool_alone(folder / name) and may_be_sanitized(folder / name, (folder / name).read_text()), name
    alone = [path.name for path in folder.glob("test_*.py") if drives_a_tool_alone(path)]
    assert not [name for name in alone if "daemon_pid" in (folder / name).read_text()]
    assert "test_contract.py" in alone and not {"test_cli.py", "test_daemon.py", "test_azure.py", "test_write_lease.py"} & set(alone)
