"""What has come of a streamed file is not fetched again: over a daemon's death or end, a failure of the remote, and the end of the program that
read it; while nobody changes it, and never over what it cannot be sure of."""

import os
import re
import signal
import sqlite3
import sys

import pytest

from tests.harness import wait_for
from tests.integration.stream_rig import LOCAL, MIB, bucket, content, md5

SIZE = 12 * MIB + 12345
BIG = f"{LOCAL}/big.bin"
PROGRAM = f"""
import hashlib, os, sys
fd, parts = os.open({BIG!r}, os.O_RDONLY), []
def more(n):
    b = os.read(fd, n)
    parts.append(b)
    return b
while sum(map(len, parts)) < 4 << 20: more((4 << 20) - sum(map(len, parts)))
print("begun", flush=True)
sys.stdin.readline()
try:
    while more(1 << 20): pass
except OSError as e:
    print("errno", e.errno, flush=True)
    sys.stdin.readline()
    while more(1 << 20): pass
print(hashlib.md5(b"".join(parts)).hexdigest(), flush=True)
"""


@pytest.fixture
def lake(prelux):
    with bucket(prelux) as it:
        it.data = content(SIZE)
        it.put("big.bin", it.data)
        it.cli("ls", LOCAL)
        yield it


def begin(lake, after=6 * MIB):
    """A program that has read 4 MiB of it, of which no more than `after` bytes come."""
    lake.wire.fault(lake.objects, stall_after=after, body=True, method="GET")
    child = lake.popen([sys.executable, "-c", PROGRAM], text=True, stdin=-1, stdout=-1, stderr=-2)
    assert line(child) == "begun"
    return child


def line(child):
    return child.stdout.readline().strip()


def go(child):
    child.stdin.write("\n")
    child.stdin.flush()


def again(lake):
    lake.wire.heal()
    lake.wire.down()
    lake.wire.up()


def starts(lake):
    """Where each GET of the file began."""
    ranges = [seen.fields.get("range", "") for seen in lake.wire.requests() if seen.method == "GET" and "big.bin" in seen.target]
    return [int(re.match(r"bytes=(\d+)-", text).group(1)) if text else 0 for text in ranges]


def fill(lake):
    folder = lake.cache / ".prelux" / "fill"
    return sorted(path for path in folder.iterdir() if path.suffix == "")


def nothing_left(lake):
    """The reader has its last byte before the file has its name."""
    wait_for(lambda: not os.listdir(lake.cache / ".prelux" / "fill"), what="an empty fill/")
    return True


def read_whole(lake):
    return lake.run(f"cat {BIG} | md5sum").stdout.split()[0]


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_reader_goes_on(lake, how):
    child = begin(lake)
    lake.kill_daemon(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    again(lake)
    go(child)
    assert line(child) == md5(lake.data)
    assert starts(lake)[0] == 0 and min(starts(lake)[1:]) >= 4 * MIB, starts(lake)
    assert nothing_left(lake)


@pytest.mark.parametrize("reader", ["cat", "fopen"])
def test_another_reader_later(lake, reader):
    child = begin(lake)
    child.kill()
    child.wait()
    lake.kill_daemon()
    again(lake)
    if reader == "fopen":  # waits for the whole
        assert lake.run(["awk", "END { print NR }", BIG]).returncode == 0
    assert read_whole(lake) == md5(lake.data)
    assert min(starts(lake)[1:]) >= 4 * MIB, starts(lake)
    assert nothing_left(lake)


def test_remote_fails_and_comes_back(lake):
    child = begin(lake)
    lake.wire.down()
    go(child)
    assert line(child) == "errno 5"
    lake.wire.heal()
    lake.wire.up()
    go(child)
    assert line(child) == md5(lake.data)
    assert min(starts(lake)[1:]) >= 4 * MIB, starts(lake)


def test_killed_again_and_again(lake):
    """Readers see the right bytes, and no try begins before the one that was killed did."""
    lake.wire.fault(lake.objects, stall_after=11 * MIB // 2, body=True, method="GET")
    children = [lake.popen([sys.executable, "-c", PROGRAM], text=True, stdin=-1, stdout=-1, stderr=-2) for _ in range(3)]
    assert [line(child) for child in children] == ["begun"] * 3
    for child in children:
        go(child)
    came = 4 * MIB
    for _ in range(3):
        wait_for(lambda: [path for path in fill(lake) if path.stat().st_size >= came], 30, what="more of the file")
        came = fill(lake)[0].stat().st_size + MIB // 2
        wait_for(lake.daemon_pid, 30, what="a daemon")  # so much may have come before the last kill
        lake.kill_daemon()
        lake.wire.fault(lake.objects, stall_after=5 * MIB // 2, body=True, method="GET")
    again(lake)
    assert [line(child) for child in children] == [md5(lake.data)] * 3
    assert starts(lake) == sorted(starts(lake)) and starts(lake)[1] >= 4 * MIB, starts(lake)


def test_replaced_meanwhile(lake):
    child = begin(lake)
    lake.kill_daemon()
    other = content(SIZE, 2)
    lake.put("big.bin", other)
    again(lake)
    go(child)
    assert line(child) == "errno 116"
    assert read_whole(lake) == md5(other)
    assert nothing_left(lake)


def part(lake):
    """The kept file, with no daemon and no reader."""
    child = begin(lake)
    child.kill()
    child.wait()
    lake.kill_daemon()
    again(lake)
    files = fill(lake)
    assert len(files) == 1
    return files[0]


def test_bytes_changed_on_the_disk(lake):
    """The remote's checksum is compared with what lies there, not with what came once."""
    path = part(lake)
    with open(path, "r+b") as f:
        f.seek(MIB)
        f.write(b"\0\0\0")
    lake.wire.fault(lake.objects, stall_after=MIB, body=True, method="GET", times=1)
    text = f"""
import mmap, os, sys
fd = os.open({BIG!r}, os.O_RDONLY)
print("opened", flush=True)
sys.stdin.readline()
try: mmap.mmap(fd, 0, prot=mmap.PROT_READ)
except OSError as e: print("errno", e.errno)
"""
    child = lake.popen([sys.executable, "-c", text], text=True, stdin=-1, stdout=-1, stderr=-2)
    assert line(child) == "opened"
    again(lake)
    go(child)
    assert line(child) == "errno 5"
    assert read_whole(lake) == md5(lake.data)
    assert starts(lake)[-1] == 0 and nothing_left(lake)


@pytest.mark.parametrize("what", ["shorter", "no page", "page cut", "no row", "another boot"])
def test_what_cannot_be_gone_on_with(lake, what):
    path = part(lake)
    front = path.with_suffix(".front")
    if what == "shorter":
        os.truncate(path, 2 * MIB)
    elif what == "no page":
        front.unlink()
    elif what == "page cut":
        os.truncate(front, 100)
    else:
        with sqlite3.connect(lake.cache / ".prelux" / "catalogue.db") as db:
            db.execute("DELETE FROM partials" if what == "no row" else "UPDATE meta SET value='another' WHERE key='boot'")
        db.close()
    assert read_whole(lake) == md5(lake.data)
    assert starts(lake)[-1] == 0 and nothing_left(lake)


def used(lake):
    return lake.cli("status", "--json")["cache"]["used_bytes"]


def test_counts_and_makes_room(prelux):
    with bucket(prelux, top={"cache": {"max_size": "16MiB"}}) as lake:
        lake.put("big.bin", content(SIZE))
        other = content(SIZE, 2)
        lake.put("other.bin", other)
        part(lake)
        lake.run(f"ls {LOCAL}")
        assert 4 * MIB <= used(lake) < 7 * MIB
        assert len(fill(lake)) == 1
        assert lake.cli("map", "--json", BIG)["state"] == "partial"
        assert lake.run(f"cat {LOCAL}/other.bin | md5sum").stdout.split()[0] == md5(other)
        assert nothing_left(lake) and used(lake) < 13 * MIB
        assert read_whole(lake) == md5(content(SIZE))
        assert starts(lake)[-1] == 0


def test_evicted_by_hand(lake):
    part(lake)
    lake.run(f"ls {LOCAL}")
    assert lake.cli("evict", LOCAL) and nothing_left(lake) and used(lake) == 0
