"""held: wait. A close waits for the other writers of the file, and never for who waits for it."""

import subprocess
import sys
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, settled

HOLD = f"""
import os, sys, time
fd = os.open("{LOCAL}/f", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644); os.write(fd, b"other "); print("has it", flush=True)
sys.stdin.readline(); os.write(fd, b"late "); os.close(fd)
"""
CLOSE = f"""
import os, sys, time
fd = os.open("{LOCAL}/f", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644); os.write(fd, b"mine "); print("has it", flush=True)
sys.stdin.readline(); begun = time.monotonic()
{{}}
print(time.monotonic() - begun, flush=True)
"""


def begin(lake, program):
    process = lake.popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "has it\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture(params=["sync", "async"])
def lake(prelux, request):
    return make_lake(prelux, write=request.param, held="wait")


def test_a_close_waits(lake):
    mine, other = begin(lake, CLOSE.format("os.close(fd)")), begin(lake, HOLD)
    go(mine)
    time.sleep(1)
    assert lake.seen() == {} and mine.poll() is None
    go(other)
    took = float(mine.stdout.readline())
    assert 0.9 < took < 20
    assert mine.wait(20) == other.wait(20) == 0
    settled(lake)
    assert sorted(lake.seen()["f"][2].split()) == [b"late", b"mine", b"other"]


def test_publish_does_not_wait(prelux):
    lake = make_lake(prelux, write="sync", held="publish")
    mine, other = begin(lake, CLOSE.format("os.close(fd)")), begin(lake, HOLD)
    go(mine)
    assert float(mine.stdout.readline()) < 5
    assert mine.wait(20) == 0 and lake.seen() == {}
    go(other)
    assert other.wait(20) == 0


def test_the_other_is_killed(lake):
    mine, other = begin(lake, CLOSE.format("os.close(fd)")), begin(lake, HOLD)
    go(mine)
    time.sleep(0.5)
    pids = subprocess.run(["pgrep", "-P", str(other.pid)], capture_output=True, text=True).stdout.split() or [str(other.pid)]
    subprocess.run(["kill", "-9", *pids], check=True)
    assert float(mine.stdout.readline()) < 20
    assert mine.wait(20) == 0
    other.wait(20)


def test_the_daemon_is_killed(lake):
    mine, other = begin(lake, CLOSE.format("os.close(fd)")), begin(lake, HOLD)
    go(mine)
    time.sleep(0.3)
    lake.kill_daemon()
    time.sleep(0.3)
    go(other)
    assert float(mine.stdout.readline()) < 25
    assert mine.wait(20) == other.wait(20) == 0
    settled(lake)
    assert len(lake.seen()["f"][2]) == 16


# Nobody waits for himself, nor for who waits for him.
ALONE = {
    "copy": "d = os.dup(fd); os.close(fd); os.write(d, b'more '); os.close(d)",
    "copy-unknown": "import fcntl; d = fcntl.fcntl(fd, fcntl.F_DUPFD, 100); os.close(fd); os.close(d)",
    "opened-twice": f"e = os.open('{LOCAL}/f', os.O_RDWR); os.close(fd); os.close(e)",
    "dup2": "d = os.dup(fd); os.dup2(0, fd); os.close(d)",
    "map": f"import mmap; e = os.open('{LOCAL}/f', os.O_RDWR); m = mmap.mmap(e, 4); os.close(e); os.close(fd); m[0:1] = b'M'; m.close()",
    "child": "import subprocess; subprocess.run(['sh', '-c', 'echo child; exec >&-'], stdout=fd, check=True); os.close(fd)",
    "fork": "p = os.fork()\nif p == 0: os.close(fd); os._exit(0)\nos.waitpid(p, 0); os.close(fd)",
    "fork-exit": "p = os.fork()\nif p == 0: os._exit(0)\nos.waitpid(p, 0); os.close(fd)",
    "reader": f"r = open('{LOCAL}/f'); os.close(fd); r.read()",
    "stream": f"import ctypes; c = ctypes.CDLL(None); c.fopen.restype = ctypes.c_void_p; f = c.fopen(b'{LOCAL}/f', b'a'); c.fclose(ctypes.c_void_p(f)); os.close(fd)",
}


@pytest.mark.parametrize("name", ALONE)
def test_nobody_waits_for_himself(lake, name):
    mine = begin(lake, CLOSE.format(ALONE[name]))
    go(mine)
    assert float(mine.stdout.readline()) < 15
    assert mine.wait(20) == 0
    settled(lake)
    wait_for(lambda: "f" in lake.seen(), 20, "the file")
    assert b"ine " in lake.seen()["f"][2]


def test_a_stream_waits(lake):
    program = CLOSE.replace("import os", "import ctypes, os").format(
        f"c = ctypes.CDLL(None); c.fopen.restype = ctypes.c_void_p; f = c.fopen(b'{LOCAL}/f', b'a'); os.close(fd); c.fclose(ctypes.c_void_p(f))")
    mine, other = begin(lake, program), begin(lake, HOLD)
    go(mine)
    time.sleep(0.7)
    assert mine.poll() is None
    go(other)
    assert 0.6 < float(mine.stdout.readline()) < 20
    assert mine.wait(20) == other.wait(20) == 0
