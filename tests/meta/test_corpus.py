"""Nothing that programs import from libc, and no number they give to syscall(), is unjudged: it is intercepted (calls.h, sys.c), left with a
reason (calls_left.h), or deals in no files (data/libc_other.txt). The corpus is recorded in data/imports.tsv (`tests/corpus.py record`
makes it anew, from the packages of data/corpus.txt); what is installed here is looked at as well."""

import os
import subprocess

import pytest

from tests import corpus

QUICK = ("/usr/bin", "/usr/sbin")
PROGRAM = """#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) { return (int)syscall(SYS_openat2, 1, "x", 0, 0) + (int)syscall(SYS_read, 0, 0, 0) + puts("x"); }
"""


def test_every_import_of_the_corpus():
    lines = (corpus.DATA / "imports.tsv").read_text().splitlines()
    assert lines[0].startswith("# files\t") and int(lines[0].split("\t")[1]) >= 3000
    assert sorted(set(corpus.record_of()) - corpus.listed()) == []


@pytest.mark.limit(600)
def test_every_import_of_what_is_installed():
    """The numbers, too, of programs; the whole of /usr with FULL=1."""
    roots = corpus.INSTALLED if os.environ.get("FULL") else QUICK
    found, files = corpus.scan(roots, corpus.number_names())
    assert files > 100
    assert sorted(set(found) - corpus.listed()) == []


def test_a_name_is_judged_once():
    names, numbers = corpus.judged()
    assert (names | numbers) & corpus.other() == set()
    assert len(names) > 300 and len(numbers) > 100 and len(corpus.other()) > 1000


@pytest.mark.parametrize("flags", [["-fplt"], ["-fno-plt"], ["-O2", "-fcf-protection=full"], ["-no-pie"]], ids=" ".join)
def test_the_scan_sees_imports_and_numbers(tmp_path, flags):
    """Of a program as compilers make it, whatever way it calls libc."""
    (tmp_path / "x.c").write_text(PROGRAM)
    subprocess.run(["cc", *flags, "-o", tmp_path / "x", tmp_path / "x.c"], check=True)
    (tmp_path / "x.c").unlink()
    found, files = corpus.scan([str(tmp_path)], corpus.number_names())
    assert files == 1 and {"puts", "syscall", "syscall openat2", "syscall read"} <= set(found)
    assert "syscall ?" not in found
