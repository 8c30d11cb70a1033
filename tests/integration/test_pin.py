"""`prelux pin`, `unpin` and `verify`."""

import errno
import json
import os

import pytest

from tests.harness import alive, wait_for
from tests.integration.test_prefetch import cached

FILES = 12
SIZE = 256 << 10
FAILED, DEGRADED = 1, 3


@pytest.fixture
def lake(prelux):
    """Files of 256 KiB, and a cache for eight of them."""
    source = prelux.tmp / "source"
    for folder in ("keep", "more"):
        (source / folder).mkdir(parents=True)
        for number in range(FILES):
            (source / folder / f"f{number:02}").write_bytes(bytes([number]) * SIZE)
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}}, "cache": {"max_size": 8 * SIZE + 65536},
                   "mappings": [{"local": "/lake", "remote": "src:/", "freshness": "immutable", "prefetch": "off"}]})
    return "/lake"


def read_all(prelux, folder):
    prelux.run(f"for f in /lake/{folder}/*; do cat $f >/dev/null; done")


def kept(prelux):
    return [name for name in cached(prelux) if name.startswith("keep/")]


def test_pinned_files_stay(prelux, lake):
    assert prelux.cli("pin", "--json", *[f"{lake}/keep/f{number:02}" for number in range(3)])["files"] == 3
    read_all(prelux, "more")
    read_all(prelux, "more")
    assert kept(prelux) == ["keep/f00", "keep/f01", "keep/f02"]
    pins = prelux.cli("pin", "--list", "--json")["pins"]
    assert [(pin["path"], pin["files"]) for pin in pins] == [(f"{lake}/keep/f{number:02}", 1) for number in range(3)]
    assert all(pin["bytes"] >= SIZE for pin in pins) and "/lake/keep/f01" in prelux.cli("pin", "-l")


def test_pins_outlive_the_daemon_and_end(prelux, lake):
    prelux.cli("pin", f"{lake}/keep/f00", f"{lake}/keep/f01")
    for stop in (prelux.kill_daemon, lambda: prelux.cli("daemon", "stop")):
        pid = prelux.daemon_pid()
        stop()
        wait_for(lambda: not alive(pid), 60, "it has ended")
        read_all(prelux, "more")
        assert kept(prelux) == ["keep/f00", "keep/f01"]
    assert prelux.cli("unpin", "--json", f"{lake}/keep/f00")["unpinned"] == 1
    read_all(prelux, "more")
    read_all(prelux, "more")
    assert kept(prelux) == ["keep/f01"]
    assert prelux.cli("unpin", f"{lake}/keep/f00", check=False).returncode == FAILED
    assert prelux.cli("pin", check=False).returncode == 2 and prelux.cli("pin", "/elsewhere", check=False).returncode == FAILED


def test_a_pinned_folder_and_what_comes_into_it(prelux, lake):
    assert prelux.cli("pin", "--json", "--no-fetch", f"{lake}/keep") == {"pinned": 1} and kept(prelux) == []
    prelux.run(f"cat {lake}/keep/f05 {lake}/keep/f06 > /dev/null")
    read_all(prelux, "more")
    assert kept(prelux) == ["keep/f05", "keep/f06"]
    pins = prelux.cli("pin", "--list", "--json")["pins"]
    assert [(pin["path"], pin["files"]) for pin in pins] == [(f"{lake}/keep", 2)]


def test_when_pins_fill_the_cache(prelux, lake):
    done = prelux.cli("pin", f"{lake}/keep", check=False)
    assert done.returncode == FAILED and "pinned" in done.stderr and "8 files" in done.stdout
    assert len(kept(prelux)) == 8
    done = prelux.run(["cat", f"{lake}/more/f00"], check=False)
    assert done.returncode == 1 and os.strerror(errno.ENOSPC) in done.stderr
    assert "or pinned" in prelux.cli("errors") and "unpin" in prelux.cli("errors", "--json")[-1]["advice"]
    prelux.cli("unpin", f"{lake}/keep")
    prelux.run(["cat", f"{lake}/more/f00"], text=False)


def test_all_of_a_command_or_none(prelux, lake):
    def pinned():
        return [pin["path"] for pin in prelux.cli("pin", "--list", "--json")["pins"]]

    done = prelux.cli("pin", f"{lake}/keep/f00", "/elsewhere", check=False)
    assert done.returncode == FAILED and "/elsewhere" in done.stderr and pinned() == []
    prelux.cli("pin", f"{lake}/keep/f01")
    assert prelux.cli("unpin", f"{lake}/keep/f01", "/elsewhere", check=False).returncode == FAILED
    assert pinned() == [f"{lake}/keep/f01"]


def test_what_was_pinned_before_one_that_cannot_be(prelux, lake):
    lake = prelux.file_mapping(prelux.tmp / "source", cache=str(prelux.tmp / "own"))
    prelux.cli("pin", f"{lake}/keep/f01")
    done = prelux.cli("pin", f"{lake}/keep/f00", f"{lake}/keep/f01", f"{lake}/.prelux", check=False)
    assert done.returncode == FAILED and os.strerror(errno.EOPNOTSUPP) in done.stderr
    assert [pin["path"] for pin in prelux.cli("pin", "--list", "--json")["pins"]] == [f"{lake}/keep/f01"]


def test_evict_takes_what_is_pinned(prelux, lake):
    prelux.cli("pin", f"{lake}/keep/f00")
    assert prelux.cli("evict", "--json", lake)["files"] == 1 and kept(prelux) == []
    assert [pin["files"] for pin in prelux.cli("pin", "--list", "--json")["pins"]] == [0]


# verify

def cache_file(prelux, name):
    return next(os.path.join(root, name.rpartition("/")[2]) for root, _, names in os.walk(prelux.cache)
                if root.endswith("/data/" + name.rpartition("/")[0]) and name.rpartition("/")[2] in names)


def damage(path):
    """Other bytes under the same stamps, as a bad disk has them."""
    st = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"!")
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))


def test_verify(prelux, lake):
    source = prelux.tmp / "source/keep"
    prelux.cli("prefetch", *[f"{lake}/keep/f0{number}" for number in range(6)])
    assert prelux.cli("verify", "--json", lake)["same"] == 6
    (source / "f01").write_bytes(b"new")
    (source / "f02").unlink()
    damage(cache_file(prelux, "keep/f03"))
    with open(cache_file(prelux, "keep/f04"), "ab") as file:
        file.write(b"more")
    done = prelux.cli("verify", lake, check=False)
    assert done.returncode == DEGRADED and "6 files: 3 as on the remote, 1 stale, 1 gone there, 1 damaged" in done.stdout
    assert f"{lake}/keep/f01: stale" in done.stderr and f"{lake}/keep/f02: gone" in done.stderr and f"{lake}/keep/f04: damaged" in done.stderr
    found = {row["path"][-3:]: row["state"] for row in json.loads(prelux.cli("verify", "--data", "--json", lake, check=False).stdout)["found"]}
    assert found == {"f01": "stale", "f02": "gone", "f03": "damaged", "f04": "damaged"}
    answer = prelux.cli("verify", "--data", "--repair", "--json", lake)
    assert answer["repaired"] == 4
    assert prelux.cli("verify", "--data", "--json", lake) | {"failed": 0} == {
        "files": 5, "same": 5, "stale": 0, "gone": 0, "damaged": 0, "unknown": 0, "failed": 0, "repaired": 0, "found": []}
    assert prelux.run(["cat", f"{lake}/keep/f03"], text=False).stdout == bytes([3]) * SIZE
    assert prelux.run(["cat", f"{lake}/keep/f01"]).stdout == "new"


def test_verify_of_one_file_and_of_none(prelux, lake):
    prelux.cli("prefetch", f"{lake}/keep/f00", f"{lake}/keep/f01")
    assert prelux.cli("verify", "--json", f"{lake}/keep/f01")["files"] == 1
    assert prelux.cli("verify", "--json", f"{lake}/more")["files"] == 0
    assert prelux.cli("verify", "/elsewhere", check=False).returncode == FAILED


def test_verify_of_a_broken_mapping(prelux, lake):
    (prelux.tmp / "file").write_text("")
    local = prelux.file_mapping(prelux.tmp / "source", cache=str(prelux.tmp / "file" / "below"))
    done = prelux.cli("verify", local, check=False)
    assert done.returncode == FAILED and f"{local}: failed: " in done.stderr
    assert json.loads(prelux.cli("verify", "--json", local, check=False).stdout)["failed"] == 1


def test_a_list_that_is_longer_than_a_request(prelux, lake):
    """`found` has a hundred of each request, and a hundred are named."""
    prelux.cli("prefetch", f"{lake}/keep/f00", f"{lake}/keep/f01")
    (prelux.tmp / "source/keep/f01").write_bytes(b"new")
    paths = [f"{lake}/keep/f{number % 2:02}" for number in range(1200)]
    done = prelux.cli("verify", *paths, check=False)
    assert done.returncode == DEGRADED and "1200 files: 600 as on the remote, 600 stale" in done.stdout
    assert "600 findings in all: the first 100 are named" in done.stderr and done.stderr.count(": stale") == 100
    assert prelux.cli("pin", "--json", "--no-fetch", "-", input="\n".join(paths[:600])) == {"pinned": 600}
    assert prelux.cli("unpin", "--json", "-0", "-", input="\0".join(paths[:600])) == {"unpinned": 2}
    assert prelux.cli("evict", "--json", "-", input="\n".join(paths[:2]))["files"] == 2


def test_all_of_a_long_list_or_none(prelux, lake):
    """The last of three requests has what cannot be pinned; then it can."""
    names = [f"{lake}/keep/none{number:04}" for number in range(1200)]
    done = prelux.cli("pin", "--no-fetch", "-", check=False, input="\n".join([*names, "/elsewhere/x"]))
    assert done.returncode == FAILED and "/elsewhere/x is in no mapping" in done.stderr
    assert prelux.cli("pin", "--list", "--json")["pins"] == []
    assert prelux.cli("pin", "--no-fetch", "--json", "-", input="\n".join(names))["pinned"] == 1200


def test_a_pin_is_no_pattern(prelux, lake):
    def pinned():
        return [pin["path"] for pin in prelux.cli("pin", "--list", "--json")["pins"]]
    (prelux.tmp / "source/keep/*1").write_bytes(b"star")
    for words in (["--no-fetch"], []):
        done = prelux.cli("pin", *words, f"{lake}/keep/f00", f"{lake}/keep/f*", check=False)
        assert done.returncode == 2 and "takes no patterns" in done.stderr and pinned() == []
    assert prelux.cli("pin", "--json", f"{lake}/keep/*1")["files"] == 1 and pinned() == [f"{lake}/keep/*1"] and kept(prelux) == ["keep/*1"]
    assert prelux.cli("pin", "--json", "-", input=f"{lake}/keep/f02\n{lake}/keep/f03\n")["files"] == 2
    assert pinned() == [f"{lake}/keep/*1", f"{lake}/keep/f02", f"{lake}/keep/f03"] and kept(prelux) == ["keep/*1", "keep/f02", "keep/f03"]
