"""Parts that are sent while their file is still being written (lib/store/stage_grow.c), to real stores: whatever is written, cut, renamed or killed
after parts of it have gone, the remote gets what the file is at its close, nothing of it before, and no upload is left."""

import signal
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.contract_s3 import BUCKET
from tests.integration.crash_rig import LOCAL, mapped, peek, remote_of

MIB = 1 << 20
PART = 16 * MIB
SIZE = 7 * PART + 4321  # from 96 MiB on parts go before the close
WRITER = r"""
import mmap, os, sys
f = open(sys.argv[1], sys.argv[2], buffering=0)
def more(size, seed):
    block = bytes((n * 7 + seed) % 251 for n in range(65521))
    while size:
        size -= f.write(block[:size])
for line in sys.stdin:
    try:
        exec(line)
        print("done", flush=True)
    except OSError as why:
        print("errno", why.errno, flush=True)
"""


def made(size, seed):
    block = bytes((n * 7 + seed) % 251 for n in range(65521))
    return bytearray((block * (size // len(block) + 1))[:size])


class Writer:
    """A program that does as it is told, one line at a time."""

    def __init__(self, prelux, mode="wb+"):
        self.prelux = prelux
        self.process = prelux.popen(["python3", "-c", WRITER, f"{LOCAL}/f", mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, self.prelux.story()
        return answer

    def good(self, line):
        assert self(line) == "done", self.prelux.story()


@pytest.fixture(params=["versitygw", "azurite"])
def lake(prelux, request):
    with remote_of(request.param, prelux.tmp) as remote:
        mapped(prelux, remote, write="sync")
        prelux.remote, prelux.writers = remote, []
        yield prelux
        for writer in prelux.writers:
            writer.process.stdin.close()
            writer.process.wait(30)


def grown(lake, mode="wb+"):
    """A writer, some of whose parts are on the remote already, and what it has written."""
    writer = Writer(lake, mode)
    lake.writers.append(writer)
    writer.good(f"more({SIZE}, 1)")
    wait_for(lambda: lake.remote.uploads() == 1, 60, "an upload of a file that grows")
    time.sleep(1)
    assert peek(lake.remote, "f") is None
    return writer, made(SIZE, 1)


def whole(lake, name, wanted):
    got = peek(lake.remote, name)
    assert got is not None and len(got) == len(wanted) and got == wanted, lake.story()
    try:
        wait_for(lambda: lake.remote.uploads() == 0, 30, "the end of all uploads")
    except AssertionError as late:
        raise AssertionError(f"{late}\n{lake.cli('pending', 'list', '--json')}\n{lake.story()}") from None


CHANGES = {
    "nothing": ([], lambda data: data),
    "header": (["f.seek(2)", "f.write(b'HEADER')"], lambda data: data[:2] + b"HEADER" + data[8:]),
    "map": ([f"m = mmap.mmap(f.fileno(), 0); m[{3 * PART}:{3 * PART + 4}] = b'map!'; m.close()"],
            lambda data: data[:3 * PART] + b"map!" + data[3 * PART + 4:]),
    "cut": ([f"f.truncate({5 * PART})"], lambda data: data[:5 * PART]),
    "cut and on": ([f"f.truncate({2 * PART - 1}); f.seek(0, 2)", f"more({5 * PART}, 9)"], lambda data: data[:2 * PART - 1] + made(5 * PART, 9)),
    "cut to little": (["f.truncate(100)"], lambda data: data[:100]),
    "another opens and cuts": ([f"g = open({LOCAL + '/f'!r}, 'wb', buffering=0); g.write(b'other'); g.close()"],
                               lambda data: b"other"),
}


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_what_changes_after_it_was_sent(lake, change):
    writer, data = grown(lake)
    lines, so = CHANGES[change]
    for line in lines:
        writer.good(line)
    assert peek(lake.remote, "f") is None
    writer.good("f.close()")
    whole(lake, "f", so(data))


@pytest.mark.slow
@pytest.mark.limit(180)
def test_renamed_while_it_grows(lake):
    writer, data = grown(lake)
    writer.good(f"os.rename({LOCAL + '/f'!r}, {LOCAL + '/g'!r})")
    writer.good(f"more({PART}, 5)")
    writer.good("f.close()")
    whole(lake, "g", data + made(PART, 5))
    assert peek(lake.remote, "f") is None


@pytest.mark.slow
@pytest.mark.limit(180)
def test_removed_while_it_grows(lake):
    writer, _ = grown(lake)
    writer.good(f"os.unlink({LOCAL + '/f'!r})")
    wait_for(lambda: lake.remote.uploads() == 0, 30, "the end of the upload")
    writer.good(f"more({2 * PART}, 5)")
    writer.good("f.close()")
    assert peek(lake.remote, "f") is None and lake.remote.uploads() == 0


@pytest.mark.slow
@pytest.mark.limit(180)
def test_its_writer_is_killed(lake):
    """What it has written is kept, and what was sent of that is given up; it is sent when a person says so."""
    writer, data = grown(lake)
    writer.process.stdin.write(f"os.kill(os.getpid(), {signal.SIGKILL})\n")
    writer.process.stdin.close()
    wait_for(lambda: [row["state"] for row in lake.cli("pending", "list", "--json")["files"]] == ["recovered"], 60, "the file is kept")
    wait_for(lambda: lake.remote.uploads() == 0, 30, "the end of the upload")
    assert peek(lake.remote, "f") is None
    lake.cli("pending", "retry", lake.cli("pending", "list", "--json")["files"][0]["id"])
    wait_for(lambda: peek(lake.remote, "f") is not None, 60, "the file on the remote")
    whole(lake, "f", data)


@pytest.mark.slow
@pytest.mark.limit(180)
def test_the_daemon_is_killed(lake):
    """The next one gives up what the dead one had sent."""
    writer, data = grown(lake)
    lake.kill_daemon()
    writer.good(f"more({PART}, 5)")
    writer.good("f.close()")
    whole(lake, "f", data + made(PART, 5))


@pytest.mark.slow
@pytest.mark.limit(180)
def test_somebody_else_makes_it_meanwhile(lake):
    writer, _ = grown(lake, "xb+")
    lake.remote.write("f", b"theirs")
    assert writer("f.close()").startswith("errno")
    assert peek(lake.remote, "f") == b"theirs"
    wait_for(lambda: lake.remote.uploads() == 0, 30, "the end of all uploads")


def parts_of(remote, name):
    """An object that was put together bears the number of its parts."""
    status, fields, _ = remote.client.request("HEAD", f"/{BUCKET}/{name}")
    assert status == 200
    return int(({key.lower(): value for key, value in fields.items()}["etag"].strip('"').split("-") + ["1"])[1])


@pytest.fixture
def own_machine(prelux):
    """A server of this machine, and not a word of `multipart_threshold`."""
    with remote_of("versitygw", prelux.tmp) as remote:
        del remote.conf["multipart_threshold"]
        prelux.remote, prelux.writers = remote, []
        yield prelux
        for writer in prelux.writers:
            writer.process.stdin.close()
            writer.process.wait(30)


@pytest.mark.slow
@pytest.mark.limit(180)
@pytest.mark.parametrize("threshold, parts", [(None, 1), ("64MiB", 8)])
def test_one_request_within_this_machine(own_machine, threshold, parts):
    """Of a file that is there within a second, for it has holes."""
    own_machine.remote.conf.update({"multipart_threshold": threshold} if threshold else {})
    mapped(own_machine, own_machine.remote, write="sync")
    own_machine.run(["truncate", "-s", str(SIZE), f"{LOCAL}/f"])
    assert peek(own_machine.remote, "f") == bytes(SIZE) and parts_of(own_machine.remote, "f") == parts


@pytest.mark.slow
@pytest.mark.limit(180)
def test_parts_within_this_machine_of_what_takes_long(own_machine):
    mapped(own_machine, own_machine.remote, write="sync")
    writer, data = grown(own_machine)
    writer.good("f.close()")
    whole(own_machine, "f", data)
    assert parts_of(own_machine.remote, "f") == 8
