"""A full disk below cache, staging and journal, which share a file system: a small one, filled to the brim. Programs that write get ENOSPC, from write or from open; what was
acknowledged before is sent, at the latest when there is room again; the daemon lives on, and nothing half is on the remote at any time."""

import errno
import os
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import CONTENT, LOCAL, content, mapped, peek, remote_of, seen

SIZE_MIB = 24
PIECE = 1 << 20


class Disk:
    """A file system of its own, and a file that fills it."""

    def __init__(self, root):
        self.root, self.filler = root, root / "filler"

    def fill(self, leave=0):
        """No more than `leave` bytes are free, in blocks."""
        with open(self.filler, "ab", buffering=0) as file:
            for piece in (PIECE, 4096):
                try:
                    while self.free() > leave + (piece if piece > 4096 else 0):
                        file.write(bytes(piece))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        return self.free()

    def free(self):
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize

    def clear(self):
        self.filler.unlink(missing_ok=True)


@pytest.fixture
def disk(tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", root], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    yield Disk(root)
    subprocess.run(["umount", "-l", root], check=True)


@pytest.fixture(params=["file", "versitygw", "azurite"])
def lake(request, disk, prelux):
    def make(**options):
        mapped(prelux, prelux.remote, top={"cache": {"dir": str(disk.root / "cache"), "max_size": "1GiB", "min_free": "0"}}, **options)
        prelux.run("true")
        return prelux
    with remote_of(request.param, prelux.tmp) as remote:
        prelux.remote = remote
        yield make


# put(name, size) prints what became of it: "ok", or the call that failed and its errno.
PUT = CONTENT + f"""
import os, sys
def put(name, number, size, flags=os.O_CREAT | os.O_TRUNC):
    call = "open"
    try:
        fd = os.open("{LOCAL}/" + name, os.O_WRONLY | flags, 0o644)
        data, at = content(name, number, size), 0
        call = "write"
        try:
            while at < len(data):
                at += os.write(fd, data[at:])
        except OSError as error:
            try:
                os.close(fd)
            finally:
                os.unlink("{LOCAL}/" + name)
                raise error
        call = "close"
        os.close(fd)
        print(name, "ok", flush=True)
        return True
    except OSError as error:
        print(name, call, error.errno, flush=True)
        return False
"""


def run(lake, code, **more):
    """[(name, what became of it)]"""
    done = lake.run(["python3", "-c", PUT + code], args=("--no-wait",), check=False, **more)
    assert done.returncode == 0, f"{done.stderr}{lake.story()}"
    return [tuple(line.split(" ", 1)) for line in done.stdout.splitlines()]


def right(lake, told, sizes):
    """All that was acknowledged is there and whole; what close refused may be: it is tried on."""
    done = lake.cli("flush", "--timeout", "60", check=False, timeout=100)
    assert done.returncode == 0, f"{done.stderr}{lake.cli('pending', 'list', '--json')}{lake.story()}"
    there = seen(lake.remote)
    want = {name: content(name, *sizes[name]) for name, what in told if what == "ok"}
    more = {name: content(name, *sizes[name]) for name, what in told if what.startswith("close")}
    assert set(want) <= set(there) <= set(want) | set(more), (sorted(set(there) ^ set(want)), told)
    assert all(data == (want | more)[name] for name, data in there.items())
    for name in list(want)[:3]:
        assert lake.run(["cat", f"{LOCAL}/{name}"], text=False).stdout == want[name]
    assert not os.listdir(lake.config_path.parent / "small/cache/.prelux/staging"), lake.story()
    assert not os.listdir(lake.config_path.parent / "small/cache/.prelux/recovered"), lake.story()


@pytest.mark.parametrize("write", ["sync", "async"])
def test_staging_full_in_the_middle_of_a_file(lake, disk, write):
    """A file larger than the disk: write says so, as a full disk would; the program removes it and goes on."""
    lake = lake(write=write)
    pid = lake.daemon_pid()
    told = run(lake, f"put('before', 1, 3000); put('large', 2, {(SIZE_MIB + 8) * PIECE}); put('after', 3, 5000)")
    assert told == [("before", "ok"), ("large", f"write {errno.ENOSPC}"), ("after", "ok")], lake.story()
    right(lake, told, {"before": (1, 3000), "after": (3, 5000)})
    assert lake.daemon_pid() == pid


@pytest.mark.parametrize("write", ["sync", "async"])
def test_no_room_for_journal_and_staging(lake, disk, write):
    """Not a block is free: each step is done, or says ENOSPC; when there is room again, all goes on."""
    lake = lake(write=write)
    pid = lake.daemon_pid()
    sizes = {f"f{n}": (n, 64 + n * 3001 % 20000) for n in range(60)}
    told = run(lake, f"for n in range(10): put('f%d' % n, n, 64 + n * 3001 % 20000)")
    for leave in (0, 3 * 4096, 10 * 4096, 40 * 4096):
        disk.fill(leave)
        first = len(told)
        told += run(lake, f"for n in range({first}, {first + 10}): put('f%d' % n, n, 64 + n * 3001 % 20000)")
        disk.clear()
    told += run(lake, f"for n in range(50, 60): put('f%d' % n, n, 64 + n * 3001 % 20000)")
    failed = [what for _, what in told if what != "ok"]
    assert failed and set(failed) <= {f"{call} {errno.ENOSPC}" for call in ("open", "write", "close")}, f"{told}{lake.story()}"
    assert all(what == "ok" for _, what in told[:10] + told[50:]), told
    right(lake, told, sizes)
    assert lake.daemon_pid() == pid, "the daemon has died"


def test_what_waits_is_sent_on_a_full_disk(lake, disk):
    """Acknowledged before the disk was full, not sent yet: it is sent all the same, or at the latest when there is room; then it can be read."""
    lake = lake(write="async")
    code = f"""
for n in range(20): put('f%d' % n, n, 30000)
print(flush=True)
sys.stdin.readline()
for n in range(20, 25): put('f%d' % n, n, 30000)
"""
    child = lake.popen(["python3", "-c", PUT + code], args=("--no-wait",), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    told = []
    while line := child.stdout.readline().strip():
        told.append(tuple(line.split(" ", 1)))
        if len(told) == 10:
            disk.fill()
    acknowledged = {name for name, what in told if what == "ok"}
    assert len(acknowledged) >= 10
    wait_for(lambda: lake.cli("pending", "list", "--json")["sending"] == 0, 30, "nothing is being sent")
    for name in acknowledged:
        data = peek(lake.remote, name)
        assert data in (None, content(name, int(name[1:]), 30000)), "half a file"
    disk.clear()
    out, _ = child.communicate("\n", timeout=60)
    told += [tuple(line.split(" ", 1)) for line in out.splitlines()]
    assert all(what == "ok" for _, what in told[-5:]), told
    right(lake, told, {f"f{n}": (n, 30000) for n in range(25)})


@pytest.mark.slow
@pytest.mark.parametrize("lake", ["file"], indirect=True)
@pytest.mark.parametrize("write", ["sync", "async"])
def test_the_daemon_starts_on_a_full_disk(lake, disk, write):
    """Killed while the disk is full: the next one serves what it can, and goes on when there is room."""
    lake = lake(write=write)
    told = run(lake, "for n in range(10): put('f%d' % n, n, 3000)")
    disk.fill()
    lake.kill_daemon()
    first = lake.run(["cat", f"{LOCAL}/f3"], check=False, text=False)
    assert first.returncode == 0 and first.stdout == content("f3", 3, 3000) or first.returncode == 1 and first.stdout == b"", first.stderr
    told += run(lake, "for n in range(10, 15): put('f%d' % n, n, 3000)")
    assert all(what in ("ok", f"open {errno.ENOSPC}", f"open {errno.EIO}", f"write {errno.ENOSPC}", f"close {errno.ENOSPC}") for _, what in told), told
    disk.clear()
    end = time.monotonic() + 20  # a mapping that could not be set up is tried again, but not all the time
    while lake.run(["ls", LOCAL], check=False).returncode and time.monotonic() < end:
        time.sleep(0.5)
    told += run(lake, "for n in range(15, 20): put('f%d' % n, n, 3000)")
    assert all(what == "ok" for _, what in told[:10] + told[-5:]), f"{told}{lake.story()}"
    right(lake, told, {f"f{n}": (n, 3000) for n in range(20)})
