"""A staging file is named by its inode number, and numbers come again. Who looked at an index slot, and comes to that file a moment later, must
not take another one's for it. Here the file goes to another name, number and all, while a reader stands between look and file."""

import os
import time
from pathlib import Path

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake

HOLDER = """if 1:
    import os, sys
    a, b = sys.argv[1:]
    fd = os.open(a, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"first")
    print("begun", flush=True)
    sys.stdin.readline()
    os.rename(a, b)
    os.write(fd, b", and this is of b")
    new = os.open(a, os.O_WRONLY | os.O_CREAT)
    os.write(new, b"second")
    print("done", flush=True)
    sys.stdin.readline()
    """
# What the reader stands before, and its command: all are told of the file that has the name now.
READERS = {
    "open": ("openat", ["cat"], "second"),
    "stat": ("newfstatat", ["stat", "-c", "%s"], "6\n"),
}


@pytest.mark.parametrize("how", READERS)
def test_a_number_that_another_name_has_now(prelux, how):
    lake = make_lake(prelux, write="async")
    lake.run(["true"])
    for seconds in (3, 12, 40):  # a busy machine may need longer than the reader stands there: that tells nothing
        in_time, said = _goes_meanwhile(lake, how, seconds)
        if in_time:
            break
    assert in_time and said == READERS[how][2]


def _goes_meanwhile(lake, how, seconds):
    """Was the reader held all the time, and what it said."""
    call, command, _ = READERS[how]
    name, command = f"{LOCAL}/a{seconds}", [*command, f"{LOCAL}/a{seconds}"]
    staging = wait_for(lambda: next(lake.cache.rglob("staging"), None), what="the staging folder")
    before = set(os.listdir(staging))
    holder = lake.popen(["python3", "-c", HOLDER, name, f"{LOCAL}/b{seconds}"], stdin=-1, stdout=-1, text=True)
    assert holder.stdout.readline() == "begun\n"
    file = staging / (set(os.listdir(staging)) - before).pop()
    out = lake.tmp / "out"
    with open(out, "wb") as to:
        reader = lake.popen(["strace", "-f", "-qq", "-o", lake.tmp / "trace", "-P", file, "-e", f"inject={call}:delay_enter={seconds}000000:when=1",
                             *command], stdout=to, stderr=to)
        wait_for(lambda: _stands(command) or reader.poll() is not None, 60, "a reader between look and file")
        holder.stdin.write("go\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "done\n"
        in_time = _stands(command)
        assert reader.wait(timeout=120) == 0
    assert "(DELAYED)" in (lake.tmp / "trace").read_text()
    holder.communicate("end\n")
    return in_time, out.read_text()


def _stands(command):
    """A process of this command line that its tracer holds for a while."""
    words = b"".join(os.fsencode(word) + b"\0" for word in command)
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            if Path("/proc", entry, "cmdline").read_bytes() == words and all(_held(entry) for _ in range(20)):
                return True
        except OSError:
            continue
    return False


def _held(entry):
    time.sleep(0.01)
    return Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[0] == "t"
