"""Checks of writing on backend alluxio through the under store, the same on the stand-in (tests/integration/test_alluxio3_lake.py) and on a
real cluster (tests/interop): as tests/alluxio3.py. Alluxio's default is to believe for ever what it once saw: a cluster with that default
tells of everything old here, one that looks each time of nothing, and this node may not notice the difference."""

import json

import pytest

from tests import trees
from tests.alluxio3 import MIB, get
from tests.harness import wait_for

LAKE = "/prelux-lake"


def writable(prelux, place, below="", write="sync", **options):
    prelux.config({"version": 1,
                   "backends": {"src": place.backend(under_store="under", **options), "under": {"type": "file", "root": str(place.ufs)}},
                   "mappings": [{"local": LAKE, "remote": f"src:/{place.folder}/{below}", "write": write}]})
    return prelux


def seen_by_workers(place, name):
    """The worker's own word of a file's length, None: it is not there."""
    text = place.ask(place.owner(name), get(f"/v1/info?path={place.uri(name)}"), length=2)[0].partition(b"\r\n\r\n")[2]
    return json.loads(text)[0]["mLength"] if text else None


def list_by_workers(place, name):
    for worker in place.workers().values():
        place.ask(worker, get(f"/v1/files?path={place.uri(name)}"), length=2)


def forget(prelux, restart):
    """Nothing is cached, and with `restart` nothing remembered."""
    prelux.cli("flush")
    prelux.cli("evict", LAKE)
    if restart:
        prelux.cli("daemon", "stop")


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("restart", [False, True], ids=["evicted", "restarted"])
def test_what_was_written_stays(prelux, place, write, restart):
    """All pages and listings of what is changed are with the workers before. Afterwards everything is as it was written here."""
    below = f"stays-{write}-{restart:d}"
    sizes = {"small": 5_000, "page": MIB, "large": 12 * MIB + 7}
    for number, (name, size) in enumerate(sizes.items()):
        for kind in ("", "-gone", "-moved"):
            place.put(f"{below}/{name}{kind}", trees.pattern(size, number))
            place.warm(f"{below}/{name}{kind}")
            assert seen_by_workers(place, f"{below}/{name}{kind}") == size
    list_by_workers(place, below)
    writable(prelux, place, below, write)
    prelux.run(f"cd {LAKE} && ls -l && cat small page large | cksum && test ! -e new && test ! -e dir")
    prelux.run(f"""cd {LAKE} && for name in small page large; do
      tr '\\000-\\377' '\\001-\\377\\000' < $name > $name.tmp && cat $name.tmp > $name && rm $name.tmp $name-gone && mv $name-moved moved-$name
    done; mkdir dir && echo inside > dir/new && echo new > new""")
    forget(prelux, restart)
    want = sorted([*sizes, *(f"moved-{name}" for name in sizes), "dir", "new"])
    assert prelux.run(f"cd {LAKE} && ls").stdout.split() == want
    for number, (name, size) in enumerate(sizes.items()):
        old = trees.pattern(size, number)
        new = bytes(old).translate(bytes([*range(1, 256), 0]))
        assert (place.data / below / name).read_bytes() == new
        (prelux.tmp / "new").write_bytes(new)
        (prelux.tmp / "old").write_bytes(old)
        prelux.run(f"cmp {LAKE}/{name} {prelux.tmp}/new && cmp {LAKE}/moved-{name} {prelux.tmp}/old && test ! -e {LAKE}/{name}-gone")
    assert prelux.run(f"cat {LAKE}/new {LAKE}/dir/new").stdout == "new\ninside\n"


def test_workers_give_the_bytes(prelux, place):
    """What they know as the under store does is read from them, though mappings write."""
    data = trees.pattern(5 * MIB, 9)
    place.put("bytes/file", data)
    place.warm("bytes/file")
    writable(prelux, place, "bytes")
    (prelux.tmp / "copy").write_bytes(data)
    prelux.run(f"cmp {LAKE}/file {prelux.tmp}/copy")
    reads = next(row for row in prelux.cli("status", "--json")["backends"] if row["name"] == "src")["reads"]
    assert reads["worker_pages"]["bytes"] + reads["worker_s3"]["bytes"] >= len(data) and reads["under_store"]["bytes"] == 0


def test_two_nodes(prelux_factory, place):
    """Close-to-open between nodes that both write: by the under store, whatever the workers say."""
    one, two = (writable(prelux_factory(name), place, "nodes") for name in ("one", "two"))
    place.put("nodes/f", b"0")
    place.warm("nodes/f")
    for number in range(1, 4):
        for writer, reader in ((one, two), (two, one)):
            text = f"{number} {id(writer) % 97}"
            writer.run(f"printf '%s' '{text}' > {LAKE}/f && printf '%s' x > {LAKE}/only-{number}")
            reader.cli("evict", LAKE)
            wait_for(lambda: reader.run(f"cat {LAKE}/f").stdout == text, 90, "the other node's word")  # noqa: B023
            writer.run(f"rm {LAKE}/only-{number}")
