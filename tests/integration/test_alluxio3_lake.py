"""Programs write on the stand-in, whose workers believe for ever what they once saw: the checks of tests/alluxio3_write.py, and what can only
be asked of a cluster that may be broken."""

import pytest

pytest.register_assert_rewrite("tests.alluxio3", "tests.alluxio3_write")

from tests.alluxio3_write import *  # noqa: E402, F401, F403
from tests.alluxio3_write import LAKE, forget, seen_by_workers, writable  # noqa: E402
from tests.integration.test_alluxio3 import make_place  # noqa: E402
from tests.standin.cluster import AlluxioStandin  # noqa: E402


@pytest.fixture(scope="module")
def place():
    if AlluxioStandin.missing():
        pytest.skip(AlluxioStandin.missing())
    with AlluxioStandin(sync_interval=-1, timeout=2, master=False) as cluster:
        yield make_place(cluster)


def test_the_workers_are_as_old_as_that(prelux, place):
    """The stand-in does what the others are about."""
    place.put("old/f", b"12345")
    place.warm("old/f")
    writable(prelux, place, "old").run(f"printf 1234567 > {LAKE}/f")
    assert seen_by_workers(place, "old/f") == 5 and (place.data / "old/f").read_bytes() == b"1234567"


@pytest.mark.parametrize("said", [False, True], ids=["off", "write_through"])
def test_a_mapping_that_reads_only_asks_workers(prelux, place, said):
    """Unless it says that it wants to see what others write."""
    place.put(f"reads-{said}/f", b"12345")
    place.warm(f"reads-{said}/f")
    place.put(f"reads-{said}/f", b"1234567")
    writable(prelux, place, f"reads-{said}", "off", **({"write_through": "under_store"} if said else {}))
    assert prelux.run(f"stat -c %s {LAKE}/f").stdout == ("7\n" if said else "5\n")


def test_two_configurations_of_one_daemon(prelux, place):
    """One only reads and came first: its backend is the other's, too."""
    place.put("both/f", b"12345")
    place.put("both/g", b"g")
    place.warm("both/f")
    writable(prelux, place, "both").run(f"printf 1234567 > {LAKE}/f")
    forget(prelux, restart=True)
    writable(prelux, place, "both", "off").run(f"cat {LAKE}/g")
    assert writable(prelux, place, "both").run(f"stat -c %s {LAKE}/f; cat {LAKE}/f").stdout == "7\n1234567"


def test_no_under_store(prelux, place):
    """Small files by a worker; a large one is refused by its close, with a record, and stays in `pending`."""
    prelux.config({"version": 1, "backends": {"src": place.backend()},
                   "mappings": [{"local": LAKE, "remote": f"src:/{place.folder}", "write": "sync"}]})
    prelux.run(f"mkdir {LAKE}/alone && printf small > {LAKE}/alone/f && cat {LAKE}/alone/f && rm {LAKE}/alone/f && echo 2 > {LAKE}/alone/g")
    assert [path.name for path in (place.data / "alone").iterdir()] == ["g"]
    program = f"import os\nf = open('{LAKE}/alone/large', 'wb')\nf.write(bytes(9 << 20))\ntry:\n  f.close()\nexcept OSError as e:\n  print(e.errno)"
    done = prelux.run(["/usr/bin/python3", "-c", program], check=False)
    assert done.stdout == "27\n", done
    assert not (place.data / "alone/large").exists()
    assert "takes 8388608 bytes at most" in prelux.cli("errors", check=False).stdout
    assert "alone/large" in prelux.cli("pending", "list", check=False).stdout
