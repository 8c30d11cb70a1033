"""O_EXCL while daemons are killed: a name that nobody else has is never told to be there already, and of two programs that want one name just one gets it."""

import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import FULL
from tests.integration.write_rig import LOCAL, make_lake, settled

SECONDS = 60 if FULL else 6
# Names of its own, and names that all want. Prints those of the latter that it has made.
PROGRAM = """
import errno, os, sys, time
who, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
for n in range(100000):
    if time.monotonic() > until:
        break
    for name in (f"{who}-{n}", f"all-{n}"):
        try:
            fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if not name.startswith("all"):
                print("somebody has made", name, flush=True)
                raise SystemExit(1)
            continue
        os.write(fd, who.encode())
        os.close(fd)
        if name.startswith("all"):
            print(n, flush=True)
"""


@pytest.mark.parametrize("write", ["sync", "async"])
def test_daemons_are_killed(prelux, write):
    lake = make_lake(prelux, write=write)
    programs = {who: lake.popen(["python3", "-c", f"import os; os.chdir('{LOCAL}')\n{PROGRAM}", who, str(SECONDS)], args=("--no-wait",),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for who in "ab"}
    end, n = time.monotonic() + SECONDS - 1, 0
    while time.monotonic() < end:
        begun = time.monotonic()
        wait_for(lambda: lake.daemon_pid() or time.monotonic() > end, 30, "a daemon")
        took = time.monotonic() - begun  # who is never answered by ten daemons in a row gives up: on a slow machine each has longer
        time.sleep(0.02 + n % 11 * (0.02 + took / 4))
        n += 1
        if lake.daemon_pid():
            lake.kill_daemon()
    made = {}
    for who, program in programs.items():
        out, err = program.communicate(timeout=60)
        assert program.returncode == 0, out + err + lake.story()
        made[who] = {int(number) for number in out.split()}
    assert not made["a"] & made["b"], "two have made one file"
    settled(lake)
    for name, (_, _, data) in lake.seen().items():
        if name.startswith("all"):
            assert [who for who in "ab" if int(name[4:]) in made[who]] == [data.decode()], name
        else:
            assert data.decode() == name[0]
