"""`prefetch` of a mapping: files that are there before anybody asks, how many at most, and none for who reads here and there."""

import os
import time

import pytest

from tests.harness import wait_for

READ = """
import os, sys
names = sorted(os.listdir(sys.argv[1]))
for at in eval(sys.argv[2])(len(names)):
    with open(os.path.join(sys.argv[1], names[at]), "rb") as file:
        assert file.read(400) == names[at].encode() * 100, names[at]
"""


@pytest.fixture
def lake(prelux, tmp_path):
    """Function: a mapping with so many small files -> function that has a program read these places and says which files are in the cache then."""
    def make(count, size=400, **options):
        source = tmp_path / "source/d"
        source.mkdir(parents=True)
        for number in range(count):
            (source / f"{number:04}").write_bytes((f"{number:04}".encode() * 100).ljust(size, b"\0"))
        local = prelux.file_mapping(source.parent, **{"freshness": "immutable", **options})

        def cached():
            return sorted(name for root, _, names in os.walk(prelux.cache) for name in names if ".prelux" not in root and name.isdigit())

        def read(places):
            prelux.run(["/usr/bin/python3", "-c", READ, f"{local}/d", places])
            return settled(cached)
        return read
    return make


def settled(cached, seconds=0.5):
    """What is there when nothing more comes."""
    last, since = cached(), time.monotonic()
    while time.monotonic() < since + seconds:
        time.sleep(0.1)
        now = cached()
        if now != last:
            last, since = now, time.monotonic()
    return last


def test_siblings_are_read_as_ever(lake, prelux):
    cached = lake(300)("lambda n: range(n)")
    assert cached == [f"{number:04}" for number in range(300)]
    counted = lambda: prelux.cli("stats", "--json")["mappings"][0]  # noqa: E731
    wait_for(lambda: counted()["remote_bytes"] == 300 * 400 and counted()["remote_requests"] > 300, 60, "whoever asked: programs, or who read ahead")


def test_a_reader_who_stops_leaves_a_window_at_most(lake):
    cached = lake(400)("lambda n: range(100)")
    assert cached[:100] == [f"{number:04}" for number in range(100)]
    assert 8 <= len(cached) - 100 <= 64 + 32


def test_few_opens_are_no_stream(lake):
    assert lake(50)("lambda n: range(3)") == ["0000", "0001", "0002"]


def test_a_reader_of_every_tenth_ends_it(lake):
    read = lake(1000)
    cached = read("lambda n: [*range(40), *range(50, n, 10)]")
    assert len(cached) <= 40 + 95 + 2 * 64 + 16


def test_a_reader_in_any_order_is_none(lake):
    cached = lake(300)("lambda n: [(at * 97) % n for at in range(100)]")
    assert len(cached) == 100


def test_off(lake):
    assert len(lake(100, prefetch="off")("lambda n: range(30)")) == 30


def test_always_asks_for_itself(lake):
    assert len(lake(100, freshness="always")("lambda n: range(30)")) == 30


def test_directory(lake):
    cached = lake(200, prefetch="directory")("lambda n: [7]")
    assert cached == [f"{number:04}" for number in range(200)]


def test_directory_without_a_listing_of_the_program(prelux, lake):
    lake(50, prefetch="directory")("lambda n: []")
    prelux.cli("evict", "/prelux-test")
    prelux.kill_daemon()
    prelux.run(["cat", "/prelux-test/d/0007"])
    wait_for(lambda: sum(name.isdigit() for root, _, names in os.walk(prelux.cache) if ".prelux" not in root for name in names) == 50,
             what="all of the folder in the cache")


def test_large_files_are_left(lake):
    assert len(lake(20, size=5 << 20)("lambda n: [0]")) == 1
