"""The stand-in's ring and ids against vectors made by Alluxio's own code (PROTOCOLS 2A.5, 2D.3)."""

import pytest

from .ring import Ring, key_hash, murmur3, points
from .text import file_id, gson, hash_map, human, uri

HASHES = {b"": 0, b"a": 1009084850, b"ab": -1681926305, b"abc": -1277324294, b"abcd": 1139631978, b"hello, world": 345750399,
          bytes(range(256)): -469103018, "é𝄞".encode(): -612386355}
KEYS = {("s3://bucket/a.txt", 1): -560135248, ("s3://bucket/a.txt", 2): -847578369, ("file:///data/x", 1): -249968202,
        ("/tmp/underFSStorage/x", 1): 1871248360}
LOCALHOST, WORKER1, WORKER2 = ("421aa90e079f3326b6494f812ad13e79", "ebad64149cc737baa6ef069819279fd5",
                               "01925b7892e23a198993afdd20a7c761")
POINTS = {LOCALHOST: [-1774348271, -2076976842, -1716151406, 337351572, -1552272562],
          WORKER1: [1582892386, 138868292, 741530990, -680699647, 657120561],
          WORKER2: [-36601180, -1025292451, 1946073326, 327488655, 739076151]}
OWNERS = {"s3://bucket/a.txt": "212", "s3://bucket/b.txt": "121", "s3://bucket/c.txt": "211", "file:///data/x": "222"}
IDS = {"s3://bucket/a.txt": "e67b7b993c608a4ed7a7acb69ada26b4bbcfc98db96795b064d4f453bd1fb81f",
       "file:///data/x": "26be92aec3d3625f09f8dee6c05b3c5a1b1bc03e4e0a4ed39989bef0578fce03",
       "/tmp/underFSStorage/x": "e887749ffd926254f0643029435be84210431087a16bd8e49e4134c176198895"}


@pytest.mark.parametrize("data", HASHES)
def test_murmur(data):
    assert murmur3(data) == HASHES[data]


def test_keys_and_points():
    assert {key: key_hash(*key) for key in KEYS} == KEYS
    assert {name: points(bytes.fromhex(name), 1, 5) for name in POINTS} == POINTS
    assert points(bytes.fromhex("0000011f71fb04cb"), 0, 2) == [1358759969, -1136818933]


@pytest.mark.parametrize("path", OWNERS)
def test_owners(path):
    ring = Ring({"1": (bytes.fromhex(WORKER1), 1), "2": (bytes.fromhex(WORKER2), 1)}, 5)
    assert "".join(ring.at(path, attempt) for attempt in (1, 2, 3)) == OWNERS[path]
    assert ring.owner(path) == OWNERS[path][0]
    assert sorted(ring.owners(path, 2)) == ["1", "2"] and ring.owners(path, 9)[0] == OWNERS[path][0]


def test_an_empty_ring_and_one_worker():
    assert Ring({}, 5).owner("x") is None
    assert Ring({"only": (bytes(16), 1)}, 5).owners("x", 3) == ["only"]


@pytest.mark.parametrize("path", IDS)
def test_file_ids(path):
    assert file_id(uri(path)) == IDS[path]


def test_uris():
    assert uri("file:/x") == "file:///x" and uri("s3://b//d/") == "s3://b/d" and uri("/a\\b/./c/../d/") == "/a/b/d"
    assert uri("file:///") == "file:///"


def test_json_and_sizes():
    assert gson({"a": None, "b": "<it's>&=é"}) == '{"b":"\\u003cit\\u0027s\\u003e\\u0026\\u003dé"}'
    assert [human(size) for size in (0, 5120, 5121, 77542, 2500000, 6 << 20)] == \
        ["0B", "5120B", "5.00KB", "75.72KB", "2441.41KB", "6.00MB"]
    assert list(hash_map([("Settings", 1), ("Files Failed", 2), ("Job State", 3)])) == ["Files Failed", "Settings", "Job State"]
