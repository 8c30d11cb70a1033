"""preluxd is killed (-9) a thousand times while files are filled: whatever lies under a cache name at any instant is whole and
right (I1), readers never get wrong bytes, and the next daemon goes on."""

import os
import random
import signal
import time

import pytest

from tests.harness import wait_for
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx
from tests.trees import pattern

LAKE = "/prelux-kill"
FILES = 48
READERS = 4
KILL_SECONDS = 200
READER = """
import errno, os, random, sys
lake, source, seed, stop, progress = sys.argv[1:]
truth = {name: open(source + "/" + name, "rb").read() for name in os.listdir(source)}
names = sorted(truth)
dice = random.Random(int(seed))
right = refused = 0
tally = open(f"{progress}/{seed}", "ab", 0)
while not os.path.exists(stop):
    name = dice.choice(names)
    try:
        with open(lake + "/" + name, "rb") as f:
            data = f.read()
    except OSError as e:
        if e.errno != errno.EIO:
            print("errno", errno.errorcode[e.errno], name)
        refused += 1
        continue
    if data != truth[name]:
        print("WRONG", name, len(data), len(truth[name]))
    right += 1
    tally.write(b"1")
print("right", right, "refused", refused)
"""


def make_source(folder, smallest, largest):
    folder.mkdir()
    dice = random.Random(1)
    for number in range(FILES):
        (folder / f"f{number:02}").write_bytes(pattern(dice.randrange(smallest, largest), number))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def data_folders(cache):
    return [tree / "data" for tree in (cache / "trees").glob("*")] if (cache / "trees").exists() else []


def check_cache(cache, truth, why):
    """Every file under a cache name, compared with the source. Number of files seen."""
    seen = 0
    for folder in data_folders(cache):
        for root, _, names in os.walk(folder):
            for name in names:
                try:
                    with open(os.path.join(root, name), "rb") as data:
                        got = data.read()
                except FileNotFoundError:  # evicted meanwhile
                    continue
                assert got == truth[name], f"{why}: {name} has {len(got)} bytes of {len(truth[name])}"
                seen += 1
    return seen


def partial(cache):
    """{name: bytes on disk} of what is being filled."""
    found = {}
    try:
        for entry in os.scandir(cache / ".prelux" / "fill"):
            try:
                found[entry.name] = entry.stat().st_blocks * 512
            except FileNotFoundError:  # just renamed into place
                pass
    except FileNotFoundError:
        pass
    return found


def wait_for_fills(cache, before, seconds=0.5):
    """A daemon that has just come up has to open its cache first; killing it earlier tests little."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not set(partial(cache)) - set(before):
        time.sleep(0.001)


def kill_many(prelux, kills, truth, enough):
    """Kills daemons as they come up: so many, and more until a quarter of so many met a partial file and enough() is true, as a
    busy machine leaves readers little between two kills. (kills, kills that met a partial file, files seen under cache names)"""
    dice = random.Random(2)
    met = seen = number = 0
    left = {}
    end = time.monotonic() + KILL_SECONDS
    while number < kills or ((met < kills // 4 or not enough()) and time.monotonic() < end):
        number += 1
        pid = wait_for(prelux.daemon_pid, 30, "a new daemon")
        if number % 10:  # some die at birth
            wait_for_fills(prelux.cache, left)
        time.sleep(dice.uniform(0, 0.02 if number % 4 == 0 else 0.001))  # a small file is filled in a millisecond
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        left = partial(prelux.cache)
        met += any(left.values())
        seen += check_cache(prelux.cache, truth, f"after kill {number}")
    return number, met, seen


def run_kills(prelux, kills, truth):
    stop, progress = prelux.tmp / "stop", prelux.tmp / "progress"
    progress.mkdir()
    readers = [prelux.popen(["python3", "-c", READER, LAKE, prelux.source, str(seed), stop, progress], stdout=-1, stderr=-1, text=True)
               for seed in range(READERS)]
    wait_for(lambda: check_cache(prelux.cache, truth, "at the start") >= 3, 30, "the first files")
    done, met, seen = kill_many(prelux, kills, truth, lambda: sum(path.stat().st_size for path in progress.iterdir()) > kills // 4)
    stop.touch()
    right = 0
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err
        lines = out.splitlines()
        assert len(lines) == 1 and lines[0].startswith("right "), out
        right += int(lines[0].split()[1])
    print(f"{done} kills, {met} with a partial file, {seen} files looked at, {right} right reads")
    assert met >= kills // 4, "the kills met no fills"
    assert seen > kills and right > kills // 4
    # Then all is as if nothing had been.
    names = sorted(truth)
    done = prelux.run(["python3", "-c", f"import hashlib\nfor n in {names!r}: print(hashlib.md5(open('{LAKE}/' + n, 'rb').read()).hexdigest())"])
    plain = prelux.plain(["python3", "-c", f"import hashlib\nfor n in {names!r}: print(hashlib.md5(open('{prelux.source}/' + n, 'rb').read()).hexdigest())"])
    assert done.stdout == plain.stdout
    check_cache(prelux.cache, truth, "at the end")
    assert os.listdir(prelux.cache / ".prelux" / "fill") == []


@pytest.mark.slow
@pytest.mark.limit(400)
def test_killed_five_hundred_times_while_copying(prelux):
    prelux.source = prelux.tmp / "source"
    truth = make_source(prelux.source, 50_000, 1_000_000)
    prelux.config({"version": 1, "cache": {"dir": str(prelux.cache), "max_size": "6MiB"}, "backends": {"src": {"type": "file", "root": str(prelux.source)}},
                   "mappings": [{"local": LAKE, "remote": "src:/", "freshness": "immutable"}]})
    run_kills(prelux, 500, truth)


@pytest.mark.slow
@pytest.mark.limit(300)
def test_killed_five_hundred_times_while_downloading(prelux):
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    prelux.source = prelux.tmp / "source"
    truth = make_source(prelux.source, 20_000, 200_000)
    with Nginx(prelux.source) as server, FaultProxy(server.url) as proxy:
        proxy.fault("/f", rate=4_000_000)
        prelux.config({"version": 1, "cache": {"dir": str(prelux.cache), "max_size": "1MiB"},
                       "backends": {"src": {"type": "http", "url": proxy.url}}, "mappings": [{"local": LAKE, "remote": "src:/"}]})
        run_kills(prelux, 500, truth)
