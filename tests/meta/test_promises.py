"""Each promise of docs/SEMANTICS.md and docs/SECURITY.md names the tests that try to break it, in the table at the end of its page, and they are there.

A promise is a row of a table, an item of a list or a paragraph. A row of the last table names it by its section and the words that it begins with."""

import re
from functools import lru_cache

import pytest

from tests.harness import ROOT
from tests.meta.test_scenarios import names_in

PAGES = ("SEMANTICS", "SECURITY")
LAST = "Tests"
RULE = re.compile(r"^\|[-| ]+\|$")
PLACES = ("integration", "posix", "reach", "interop", "meta", "servers")
# What promises nothing: introductions, and what nobody is kept from. Each is named by its words, as in the tables.
PROMISES_NOTHING = {
    "SEMANTICS": ["", "CPython's own tests", "pjdfstest"],
    "SECURITY": [],
}
NOTHING = "none: "  # in the column of tests, with the reason


def plain(text):
    """The words of a line, without what marks them."""
    return re.sub(r"\s+", " ", re.sub(r"[*`|]|\\", " ", text)).strip(" -")


def units(text):
    """(section, words) of each promise, and the rows of the table of tests."""
    found, rows, section, paragraph = [], [], "", []

    def end():
        if paragraph:
            found.append((section, plain(" ".join(paragraph))))
            paragraph.clear()

    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("#") or not line.strip() or line.startswith(("|", "- ")):
            end()
        if line.startswith("## "):
            section = line[3:]
        elif line.startswith("|") and not RULE.match(line) and not (i + 1 < len(lines) and RULE.match(lines[i + 1])):
            if section == LAST:
                rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
            else:
                found.append((section, plain(line)))
        elif line.strip() and not line.startswith(("#", "|")) and section != LAST:
            paragraph.append(line)
    end()
    return found, rows


@lru_cache(None)
def file_of(name):
    folder, _, stem = name.rpartition("/")
    if folder == "unit":
        return ROOT / f"tests/unit/test_{stem}.c"
    found = [ROOT / "tests" / place / f"test_{name}.py" for place in PLACES if (ROOT / "tests" / place / f"test_{name}.py").is_file()]
    return found[0] if len(found) == 1 else None


def read(page):
    return units((ROOT / f"docs/{page}.md").read_text())


def matches(section, words, row):
    where, _, begin = plain(row[0]).partition(": ")
    return where == plain(section) and words.startswith(begin)


@pytest.mark.parametrize("page", PAGES)
def test_each_promise_has_a_row(page):
    found, rows = read(page)
    promises = [(section, words) for section, words in found if section not in PROMISES_NOTHING[page]]
    assert len(promises) > {"SEMANTICS": 140, "SECURITY": 25}[page]
    for section, words in promises:
        ours = [row for row in rows if matches(section, words, row)]
        assert len(ours) == 1, f"{section}: {words[:80]}: {len(ours)} rows of the table of tests"


@pytest.mark.parametrize("page", PAGES)
def test_each_row_is_of_one_promise(page):
    found, rows = read(page)
    for row in rows:
        assert len(row) == 2 and len([1 for section, words in found if matches(section, words, row)]) == 1, row


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_are_there(page):
    _, rows = read(page)
    for what, tests in rows:
        if tests.startswith(NOTHING):
            assert len(tests) > len(NOTHING) + 10, what
            continue
        names = tests.split(", ")
        assert names and len(names) == len(set(names)), what
        for name in names:
            file, _, function = name.strip("`").partition(":")
            path = file_of(file)
            assert path and path.is_file(), f"{what}: {name}: no such file of tests"
            assert {function, f"test_{function}"} & names_in(path), f"{what}: {name}: {path.name} has no such test"


def test_few_promises_have_no_test():
    """May only become less."""
    reasons = [row[1] for page in PAGES for row in read(page)[1] if row[1].startswith(NOTHING)]
    assert len(reasons) <= 6, reasons
