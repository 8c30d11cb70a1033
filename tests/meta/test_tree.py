"""The tree as a reader finds it: sizes, leftovers, paths of somebody's machine."""

import re
import subprocess

import pytest

from tests.harness import ROOT

LINES_MAX = 700
WIDTH_MAX = {".c": 180, ".h": 250, ".sh": 170}  # tables and lists of tests may be wider
FUNCTION_MAX = 75
CODE = (".c", ".h", ".py", ".sh")


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


FILES = [path for path in tracked() if "tests/data" not in str(path)]


def code():
    return [path for path in FILES if path.suffix in CODE]


def rel(path):
    return str(path.relative_to(ROOT))


def test_files_are_one_concern():
    """A file of tests may be longer: its concern is the list."""
    long = {rel(path): count for path in code()
            if (count := len(path.read_text().splitlines())) > LINES_MAX + (300 if rel(path).startswith("tests/") else 0)}
    assert not long


def test_functions_fit_a_screen():
    """A C function begins with a brace in column 0 and ends with one."""
    long = []
    for path in code():
        if path.suffix != ".c":
            continue
        start = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                start = number
            elif line == "}" and start:
                if number - start > FUNCTION_MAX:
                    long.append(f"{rel(path)}:{start} {number - start} lines")
                start = None
    assert not long


def test_nothing_is_left_for_later():
    mark = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b|for now\b")
    found = [f"{rel(path)}:{number}" for path in FILES
             if path.suffix in CODE + (".md", ".mk", ".yaml") and path != ROOT / "tests/meta/test_tree.py"
             for number, line in enumerate(path.read_text().splitlines(), 1)
             if mark.search(line) and "mkstemp" not in line and "XXXXXX" not in line]
    assert not found


def test_no_paths_of_a_machine():
    mark = re.compile(r"/work/(main|shared)|/tmp/b-|\.pyenv")
    found = [f"{rel(path)}:{number}" for path in FILES if path != ROOT / "tests/meta/test_tree.py" and path.suffix != ".jsonl"
             for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1) if mark.search(line)]
    assert not found


def test_text_is_clean():
    found = []
    for path in code():
        data = path.read_bytes()
        if b"\r" in data or b"\t" in data.replace(b"\n\t", b"\n") and path.suffix in (".c", ".h"):
            found.append(f"{rel(path)}: tabs or carriage returns")
        if data and not data.endswith(b"\n"):
            found.append(f"{rel(path)}: no newline at the end")
        found += [f"{rel(path)}:{number}: blanks at the end" for number, line in enumerate(data.split(b"\n"), 1) if line.endswith(b" ")]
        found += [f"{rel(path)}:{number}: {len(line)} columns" for number, line in enumerate(data.decode().split("\n"), 1)
                  if len(line) > WIDTH_MAX.get(path.suffix, 200)]
    assert not found


def test_headers_guard_themselves():
    listed = ("shim/calls", "shim/decls_extra.h")  # included many times on purpose, or a part of another header
    found = [rel(path) for path in code() if path.suffix == ".h" and not rel(path).startswith(listed)
             and not re.search(r"#ifndef \w+_H\n#define \w+_H\n", path.read_text())]
    assert not found


def test_needed_files_are_there():
    for name in ("README.md", "LICENSE", "Makefile", ".ci/run", ".clang-format", "docs/ARCHITECTURE.md", "docs/SEMANTICS.md",
                 "docs/CONFIGURATION.md", "docs/SECURITY.md"):
        assert (ROOT / name).is_file(), name
