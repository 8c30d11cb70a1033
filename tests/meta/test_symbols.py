"""What libprelux.so exports and needs: exactly the calls of shim/calls.h, only libc, nothing newer than glibc 2.28."""

import re
import subprocess

import pytest

from tests.harness import BUILD, ROOT

LIBRARY = BUILD / "libprelux.so"
NEWEST = (2, 28)
ALLOWED = {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
ROW = re.compile(r"^CALL\((\w+), (\w+), ([^,]*), (\w+),\s*\"(.*)\"\)$", re.M)


def calls():
    text = (ROOT / "shim/calls.h").read_text() + (ROOT / "shim/calls_extra.h").read_text()
    return [match.groups() for match in ROW.finditer(text)]


def left():
    text = (ROOT / "shim/calls_left.h").read_text()
    return re.findall(r"^LEFT\((\w+), \"(.*)\"\)$", text, re.M)


def tool(*argv):
    if not LIBRARY.exists():
        pytest.skip(f"{LIBRARY} is not built")
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_list_is_read_whole():
    """The rows as a program reads them are the rows as this test reads them."""
    text = '#define CALL(family, name, ...) @row name;\n#include "shim/calls.h"\n'
    done = subprocess.run(["cc", "-E", "-P", "-I", ROOT, "-xc", "-"], input=text, capture_output=True, text=True, check=True)
    names = re.findall(r"@row (\w+);", done.stdout)
    assert sorted(names) == sorted(name for _, name, *_ in calls())
    assert len(set(names)) == len(names)


def test_exports_are_the_list():
    defined = {line.split()[-1] for line in tool("nm", "-D", "--defined-only", LIBRARY).splitlines() if line.strip()}
    wanted = {name for _, name, *_ in calls()}
    assert sorted(defined - wanted) == [] and sorted(wanted - defined) == []


def test_cells_are_filled():
    for family, name, flags, pending, why in calls():
        assert pending in ("NONE", "SERVE", "SETTLE", "NATIVE") and len(why) > 6, name
        assert flags == "0" or all(re.fullmatch(r"C_[A-Z]+", flag.strip()) for flag in flags.split("|")), name
        if "C_FD" in flags:
            assert pending != "NONE", f"{name} takes an fd: what does it do on a pending file?"


def test_every_symbol_of_the_corpus():
    """libc symbols that 3,373 ELF files import and that deal in paths or descriptors: intercepted, or left with a reason."""
    rows = [line.split("\t") for line in (ROOT / "tests/data/symbols.tsv").read_text().splitlines()[1:]]
    have = {name for _, name, *_ in calls()}
    without = {name: reason for name, reason in left()}
    assert have & set(without) == set()
    assert [row[1] for row in rows if row[1] not in have and row[1] not in without] == []
    for name, reason in without.items():
        assert len(reason) > 8, name


def test_needs_libc_only():
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-dW", LIBRARY)))
    assert "libc.so.6" in needed and needed <= ALLOWED


def test_no_newer_libc():
    versions = {tuple(map(int, found.split("."))) for found in
                re.findall(r"\*UND\*.*GLIBC_([0-9.]+)", tool("objdump", "-T", LIBRARY))}
    assert versions and max(v[:2] for v in versions) <= NEWEST


def test_loader_flags():
    dynamic = tool("readelf", "-dW", LIBRARY)
    for flag in ("INITFIRST", "NODELETE", "NOW"):
        assert flag in dynamic, flag
    assert "TEXTREL" not in dynamic


def test_no_executable_stack():
    stack = [line for line in tool("readelf", "-lW", LIBRARY).splitlines() if "GNU_STACK" in line]
    assert stack and "RWE" not in stack[0]
