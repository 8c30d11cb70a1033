"""What tests/run.py leaves out without asking pytest has nothing to run."""

import subprocess
import sys

from tests.run import ROOT, may_be_sanitized


def test_no_sanitized_test_is_left_out():
    folder = ROOT / "tests/integration"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", "-m", "asan", folder], cwd=ROOT, text=True,
                          capture_output=True, timeout=120, check=False)
    marked = {line.split("::")[0].rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}
    chosen = {path.name for path in folder.glob("test_*.py") if may_be_sanitized(path, path.read_text())}
    assert len(marked) > 20, done.stdout + done.stderr
    assert marked <= chosen
