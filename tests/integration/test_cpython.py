"""CPython's own tests for files and processes, in a mapped folder of the `file` backend: what passes in a plain folder passes there, but for the list in
docs/SEMANTICS.md, each case of which must still be as listed. FULL=1: all of them, with `write: sync`, and of other versions that are here (PATH, PYENV_ROOT); else those
that take seconds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.integration.crash_rig import FULL
from tests.integration.suite_rig import judge, listed
from tests.integration.write_rig import LOCAL, make_lake

RUNNER = ROOT / "tests/integration/cpython_cases.py"
QUICK = ["test_posix", "test_file", "test_fileio", "test_mmap", "test_dbm", "test_dbm_dumb", "test_dbm_gnu", "test_dbm_ndbm", "test_filecmp", "test_fileinput",
         "test_shelve", "test_zipimport", "test_linecache", "test_zipapp",
         "test_os.StatAttributeTests", "test_os.UtimeTests", "test_os.WalkTests", "test_os.FwalkTests", "test_os.MakedirTests",
         "test_os.LinkTests", "test_os.TestScandir", "test_os.ExtendedAttributeTests", "test_os.TestSendfile", "test_os.FDInheritanceTests", "test_os.SpawnTests",
         "test_os.URandomFDTests", "test_os.FileTests", "test_os.NonLocalSymlinkTests", "test_os.RemoveDirsTests", "test_os.Pep383Tests"]
WHOLE = ["test_os", "test_shutil", "test_tempfile", "test_glob", "test_pathlib", "test_zipfile", "test_tarfile", "test_io", "test_subprocess", "test_mailbox",
         "test_gzip", "test_bz2", "test_lzma", "test_largefile", "test_py_compile", "test_univnewlines",
         "test_fcntl", "test_compileall", "test_genericpath", "test_posixpath", "test_file_eintr", "test_sqlite3", "test_bufio", "test_fork1", "test_wait3", "test_wait4",
         "test_openpty", "test_runpy", "test_import", "test_pkg", "test_pkgutil", "test_modulefinder", "test_logging", "test_configparser", "test_csv", "test_pickle",
         "test_marshal", "test_plistlib", "test_cmd_line_script", "test_venv", "test_threadedtempfile", "test_unicode_file", "test_unicode_file_functions"]
SECONDS = 600 if FULL else 100


def cases_of(done, names):
    lines = done.stdout.splitlines()
    assert lines, f"{names}: no outcome\n{done.stderr[-3000:]}"
    return json.loads(lines[-1])


def command(python, names):
    return [python, RUNNER, SECONDS, *names]


def plain_cases(lake, python, names):
    folder = lake.tmp / "plain"
    folder.mkdir(exist_ok=True)
    return cases_of(lake.plain(command(python, names), cwd=folder, check=False, timeout=SECONDS + 60), names)


def mapped_cases(lake, python, names):
    lake.run(["mkdir", LOCAL + "/cases"])
    words = " ".join(f"'{word}'" for word in map(str, command(python, names)))
    return cases_of(lake.run(f"cd {LOCAL}/cases && exec {words}", check=False, timeout=SECONDS + 60), names)


def compare(lake, names, python=sys.executable):
    got = mapped_cases(lake, python, names)
    other = [case for case, outcome in got.items() if outcome != "ok"]
    judge(got, plain_cases(lake, python, other) if other else {}, listed("CPython's own tests", "test."), lake.story())


def others():
    """{version: interpreter} of those that are not the one that runs this, of PATH and PYENV_ROOT."""
    folders = [*os.get_exec_path(), *map(str, Path(os.environ.get("PYENV_ROOT", "/none")).glob("versions/3.*/bin"))]
    found = {path.name: str(path) for folder in folders for path in sorted(Path(folder).glob("python3.[0-9]*")) if re.fullmatch(r"python3\.\d+", path.name)}
    found.pop(f"python{sys.version_info.major}.{sys.version_info.minor}", None)
    return {name: path for name, path in sorted(found.items()) if int(name[8:]) >= 8}


def has(python, name):
    """This version has such tests, and what they need."""
    return subprocess.run([python, "-c", f"import test.{name}"], capture_output=True).returncode == 0


def needs_tests():
    if subprocess.run([sys.executable, "-c", "import test.test_os, test.test_tarfile"], capture_output=True).returncode:
        pytest.skip(f"{sys.executable} has no tests of CPython (Debian: libpython3-testsuite)")


@pytest.mark.slow
@pytest.mark.limit(900)
@pytest.mark.parametrize("mode", ["async", "sync"] if FULL else ["async"])
def test_cases_of_seconds(prelux, mode):
    needs_tests()
    compare(make_lake(prelux, write=mode), ["test." + name for name in QUICK])


if FULL:
    @pytest.mark.limit(900)
    @pytest.mark.parametrize("name", WHOLE)
    def test_cases_of_minutes(prelux, name):
        needs_tests()
        if not has(sys.executable, name):
            pytest.skip(f"{sys.executable} has no test.{name}, or not what it needs")
        compare(make_lake(prelux, write="async"), ["test." + name])

    @pytest.mark.limit(1500)
    # test_logging: 3.13's hangs in a plain folder when those cases run alone that are skipped elsewhere.
    @pytest.mark.parametrize("name", sorted({name.split(".")[0] for name in QUICK + WHOLE} - {"test_logging"}))
    @pytest.mark.parametrize("python", others().values(), ids=others())
    def test_another_version(prelux, python, name):
        if not has(python, name):
            pytest.skip(f"{python} has no test.{name}, or not what it needs")
        compare(make_lake(prelux, write="async"), ["test." + name], python)
