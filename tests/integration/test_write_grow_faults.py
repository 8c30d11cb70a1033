"""Parts that go while their file grows (test_write_grow.py), when something else fails: the server is killed and comes back, with or without the uploads that it had; the disk
is full; the files being written lie in a staging folder of their own. What the last close says holds, and no upload is left."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import LOCAL, mapped, peek, remote_of
from tests.integration.test_write_grow import MIB, PART, SIZE, grown, made, whole

DISK = 11 * PART


@pytest.fixture
def lake(prelux):
    """Maps a remote of its own; ends the writers."""
    prelux.writers = []

    def make(top=None, **options):
        mapped(prelux, prelux.remote, top=top, write="sync", **options)
        return prelux

    with remote_of("versitygw", prelux.tmp) as prelux.remote:
        yield make
        for writer in prelux.writers:
            writer.process.stdin.close()
            writer.process.wait(30)


class Outage:
    """The server is dead from now on; `end` starts it at the same port."""

    def __init__(self, server):
        self.server, self.command = server, server.commands()[0]
        victim = server.processes.pop()
        victim.popen.kill()
        victim.popen.wait()

    def end(self):
        self.server.start_process(*self.command)
        wait_for(self.server._probe, 20, "the server")


def forget_uploads(remote):
    for folder in Path(os.fsdecode(remote.folder)).glob(".sgwtmp/multipart/*"):
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.parametrize("forgets", [False, True])
def test_the_server_comes_back_before_the_close(lake, forgets):
    """Parts that failed meanwhile cost nothing but time; if the server has lost the upload, all is sent anew."""
    lake = lake()
    writer, data = grown(lake)
    outage = Outage(lake.remote.server)
    writer.good(f"more({3 * PART}, 5)")
    if forgets:
        forget_uploads(lake.remote)
    outage.end()
    writer.good(f"more({PART + 7}, 6)")
    writer.good("f.close()")
    whole(lake, "f", data + made(3 * PART, 5) + made(PART + 7, 6))


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.parametrize("forgets", [False, True])
def test_the_server_is_gone_at_the_close(lake, forgets):
    """The close says so; what was written stays, is shown as pending, and is sent when the server is back."""
    lake = lake()
    writer, data = grown(lake)
    outage = Outage(lake.remote.server)
    writer.good(f"more({PART}, 5)")
    assert writer("f.close()") == f"errno {errno.EIO}", lake.story()
    assert lake.run(["cat", f"{LOCAL}/f"], text=False).stdout == data + made(PART, 5)
    if forgets:
        forget_uploads(lake.remote)
    outage.end()
    lake.cli("flush", timeout=100)
    whole(lake, "f", data + made(PART, 5))


@pytest.fixture
def disk(tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK + MIB}", "none", root], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    yield root
    subprocess.run(["umount", "-l", root], check=True)


@pytest.mark.slow
@pytest.mark.limit(180)
def test_the_disk_is_full_while_it_grows(lake, disk):
    """write says so; what is there at the close is the file. What is cut off then goes on."""
    lake = lake(top={"cache": {"dir": str(disk / "cache"), "max_size": "1GiB", "min_free": "0"}})
    writer, data = grown(lake)
    assert writer(f"more({2 * DISK}, 5)") == f"errno {errno.ENOSPC}", lake.story()
    writer.good(f"f.truncate({SIZE + PART}); f.seek(0, 2)")
    writer.good(f"more({PART}, 6)")
    writer.good("f.close()")
    whole(lake, "f", data + made(PART, 5) + made(PART, 6))
    assert not os.listdir(disk / "cache/.prelux/staging")


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.parametrize("lines, so", [([], lambda data: data),
                                       (["f.seek(2)", "f.write(b'HEADER')"], lambda data: data[:2] + b"HEADER" + data[8:])], ids=["as it is", "header"])
def test_with_a_staging_folder(lake, lines, so):
    """On another file system than the cache."""
    memory = tempfile.mkdtemp(prefix="prelux-test-", dir="/dev/shm")
    try:
        lake = lake(staging=memory)
        writer, data = grown(lake)
        for line in lines:
            writer.good(line)
        assert peek(lake.remote, "f") is None
        writer.good("f.close()")
        whole(lake, "f", so(data))
        assert lake.run(["cat", f"{LOCAL}/f"], text=False).stdout == so(data)
    finally:
        shutil.rmtree(memory)
