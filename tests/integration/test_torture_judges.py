"""What the stages model, storm and chaos of tests/torture judge by: lists that depend on their seed alone, shrinking, intervals. The stages themselves: `make torture`."""

import pytest

from tests.torture import model, storm
from tests.torture.model_worker import content
from tests.torture.shrink import shrink


def test_shrinking_leaves_what_is_needed():
    assert shrink(list(range(200)), lambda part: {17, 18, 150} <= set(part)) == [17, 18, 150]


@pytest.mark.parametrize("number, begin, end, wrong", [(2, 5, 6, ""), (1, 5, 6, "old"), (1, 2.5, 6, ""), (3, 5, 6, ""), (4, 5, 6, "no version"), (3, 2, 3, "before"), (None, 5, 6, "nothing")])
def test_intervals(number, begin, end, wrong):
    """Version 1 at 1 to 2, 2 at 2.2 to 4, 3 from 5.5 on."""
    history = storm.History()
    for version, begun, done in ((1, 1, 2), (2, 2.2, 4), (3, 5.5, storm.NEVER)):
        history.add(version, begun, done)
    found = history.judge(number, begin, end)
    assert wrong in found and bool(wrong) == bool(found)


def test_lists_are_of_their_seed_alone():
    assert model.operations("7", 100) == model.operations("7", 100) != model.operations("8", 100)
    assert content("a", 10) == b"<a><a><a><"
