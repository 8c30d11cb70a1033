"""Each scenario of scenarios.tsv has tests, and they are there."""

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

from tests.harness import ROOT

# Words of the line of each family, as the design has them; a row's scenario has to begin each or hold it.
WORDS = {
    "Clusters": ["page size of client and cluster differ", "lengths match while bytes differ", "wrong virtual_nodes", "short pages",
                 "poisoned worker", "worker dead", "back under another port", "with an empty cache", "ring change between two parts",
                 "etcd down at start", "etcd down later", "etcd slow", "etcd with auth", "redirect to a foreign host",
                 "stale metadata for ever", "load job submitted twice"],
    "Liars": ["short body", "long body", "wrong range", "200 to a Range", "endless body", "HTML", "10 MB header", "slow byte by byte",
              "reset at each byte of an answer", "ETag missing", "ETag changing", "ETag weak", "list page that repeats",
              "list page that loops", "list page that is unsorted", "XML bombs", "clock skew", "429 and 503 with Retry-After",
              "expired token in the middle of a multipart"],
}

# How many rows of each family there are at least: the list of the others' scenarios is the table itself, and none may go.
LEAST = {"Routing": 29, "Hooks": 27, "Identity": 11, "Locks and inodes": 16, "Death": 15, "Folders": 17, "Places": 16, "Many": 7, "Clusters": 20,
         "Liars": 20}


def rows():
    text = (Path(__file__).parent / "scenarios.tsv").read_text()
    return [line.split("\t") for line in text.splitlines() if line and not line.startswith("#")]


ROWS = rows()


@lru_cache(None)
def names_in(path):
    """Tests of a file: functions of Python, and those of C that the table of the program runs."""
    text = path.read_text()
    if path.suffix == ".py":
        return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    return set(re.findall(r"\b(?:TEST|T|cmocka_unit_test\w*)\((\w+)", text))


def test_three_columns():
    assert ROWS and all(len(row) == 3 and all(row) for row in ROWS)
    assert len({tuple(row[:2]) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("family, scenario, tests", ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_the_tests_are_there(family, scenario, tests):
    for name in tests.split(" "):
        file, _, function = name.partition("::")
        assert (ROOT / file).is_file(), file
        assert function in names_in(ROOT / file), name


@pytest.mark.parametrize("family", LEAST)
def test_no_row_has_gone(family):
    ours = [scenario for name, scenario, _ in ROWS if name == family]
    assert len(ours) >= LEAST[family] and not {name for name, *_ in ROWS} - set(LEAST)


@pytest.mark.parametrize("family", WORDS)
def test_nothing_of_a_family_is_left_out(family):
    ours = [scenario for name, scenario, _ in ROWS if name == family]
    assert not [word for word in WORDS[family] if not any(word in scenario for scenario in ours)]
