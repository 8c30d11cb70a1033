"""An hour of mixed work by 1,000 processes with 10,000 open files over 1,000,000 names: memory, descriptors, disk and latencies stay flat, each byte is right.

soak_worker.c is what each process does. A step is a minute: it looks at the daemon, at some of the processes, at the cache folder and at how long the
calls of that minute took (beside the same read in a plain folder, so that a busy machine is no finding). Slopes are judged by Theil and Sen's median
over all pairs of minutes and by Kendall's tau, so that single bad minutes decide nothing.
"""

import itertools
import json
import math
import os
import shutil
import signal
import statistics
import struct
import subprocess
import time
from pathlib import Path

from tests import harness

TARGETS = {"minutes": 60, "processes": 1000, "open files": 10000, "names": 1000000}
KINDS = ("hit", "plain", "stat", "list", "cold", "write", "own")
BUCKETS, A_OCTAVE = 256, 6
A_FOLDER, COPIES = 1000, 512
JUDGED_EVERY = 10
FULL = {"processes": 1000, "held": 10, "names": 1000000, "hot": 500, "cold": 20000, "cache": "64MiB", "seconds": 60}
# What may come on top over all judged minutes, as a share of the median and as such.
MAY_GROW = {"daemon KiB": (0.10, 8192), "program KiB": (0.10, 64), "descriptors": (0.05, 40), "threads": (0.0, 16), "disk KiB": (0.10, 16384),
            "prelux KiB": (0.25, 16384)}
TAU, FACTOR, FEWEST_CALLS = 0.4, 1.5, 50


def slope(values):
    """Theil and Sen's: the median over all pairs; and Kendall's tau, -1 to 1."""
    pairs = [(values[k] - values[i], k - i) for i, k in itertools.combinations(range(len(values)), 2)]
    tau = sum((rise > 0) - (rise < 0) for rise, _ in pairs) / len(pairs)
    return statistics.median(rise / run for rise, run in pairs), tau


def judge(samples):
    """What is not flat in the samples behind the first third, in which caches fill."""
    samples = samples[len(samples) // 3:]
    found = []
    if len(samples) < 5:
        return found
    for key, (share, least) in MAY_GROW.items():
        values = [sample[key] for sample in samples]
        a_step, tau = slope(values)
        grown = a_step * (len(values) - 1)
        if tau > TAU and grown > max(share * statistics.median(values), least):
            found.append(f"{key} grow by {grown:.0f} in {len(values)} steps: {values}")
    for kind in KINDS:
        values = [sample["us"][kind] / sample["us"]["plain"] for sample in samples if sample["us"].get(kind) and sample["us"].get("plain")]
        if kind == "plain" or len(values) < 5:
            continue
        a_step, tau = slope([math.log(value) for value in values])
        if tau > TAU and math.exp(a_step * (len(values) - 1)) > FACTOR:
            found.append(f"{kind} gets slower beside a plain read: {[round(value, 1) for value in values]}")
    return found


def kib(pid, key="RssAnon"):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def disk_kib(folder):
    done = subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=False)  # files go meanwhile
    return int(done.stdout.split()[0])


class World:
    """Remote, daemon and processes."""

    def __init__(self, tmp, build, seed, size):
        self.size, self.samples, self.seen = size, [], None
        self.tmp = Path(tmp)
        self.state, self.plain, self.source, self.sink = (self.tmp / name for name in ("state", "plain", "source", "sink"))
        for folder in (self.state, self.plain, self.source, self.sink):
            folder.mkdir(parents=True)
        (self.state / "counts").write_bytes(bytes(8 * (1 + len(KINDS) * BUCKETS)))
        self.fill()
        self.worker = self.tmp / "soak_worker"
        subprocess.run(["cc", "-std=gnu11", "-D_GNU_SOURCE", "-O1", "-o", self.worker, Path(__file__).with_name("soak_worker.c"), "-lm"], check=True)
        self.prelux = harness.Prelux(self.tmp, Path(build))
        self.prelux.config({"version": 1, "cache": {"max_size": size["cache"]},
                            "backends": {"source": {"type": "file", "root": str(self.source)}, "sink": {"type": "file", "root": str(self.sink)}},
                            "mappings": [{"local": "/prelux-soak/read", "remote": "source:/"},
                                         {"local": "/prelux-soak/write", "remote": "sink:/", "write": "async"}]})
        words = [self.worker, "start", size["processes"], "/prelux-soak/read", "/prelux-soak/write", self.plain, self.state, size["held"], size["names"],
                 size["hot"], size["cold"], seed]
        self.log = open(self.tmp / "out", "wb")
        self.child = self.prelux.popen([str(word) for word in words], stdout=self.log, stderr=self.log)
        harness.wait_for(lambda: self.ready() >= size["processes"] or self.child.poll() is not None, 900, "all processes have begun")
        assert self.child.poll() is None, (self.tmp / "out").read_text()
        self.daemon = self.prelux.daemon_pid()
        self.count_window()

    def fill(self):
        for folder, count in (("hot0", self.size["hot"]), ("cold", self.size["cold"])):
            (self.source / folder).mkdir()
            for i in range(count):
                (self.source / folder / f"{i:06}").write_bytes(f"{folder}{i:06}".encode() * COPIES)
        shutil.copytree(self.source / "hot0", self.plain / "hot0")
        for i in range(self.size["names"]):
            if i % A_FOLDER == 0:
                folder = self.source / "names" / f"{i // A_FOLDER:03}"
                folder.mkdir(parents=True)
                at = os.open(folder, os.O_RDONLY)
            os.close(os.open(f"{i:06}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at))
            if i % A_FOLDER == A_FOLDER - 1:
                os.close(at)

    def ready(self):
        return struct.unpack("=Q", (self.state / "counts").read_bytes()[:8])[0]

    def count_window(self):
        """Calls of each kind since the last look, by bucket."""
        numbers = struct.unpack(f"={len(KINDS) * BUCKETS}Q", (self.state / "counts").read_bytes()[8:])
        now = {kind: numbers[i * BUCKETS:(i + 1) * BUCKETS] for i, kind in enumerate(KINDS)}
        before, self.seen = self.seen or {kind: [0] * BUCKETS for kind in KINDS}, now
        return {kind: [a - b for a, b in zip(now[kind], before[kind])] for kind in KINDS}

    def children(self):
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self.is_ours(pid)]

    def is_ours(self, pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[:2] == [os.fsencode(self.worker), b"work"]

    def sample(self):
        window = self.count_window()
        pids = self.children()
        some = pids[:: max(1, len(pids) // 20)]
        one = {"daemon KiB": kib(self.daemon), "program KiB": statistics.median(kib(pid) for pid in some),
               "descriptors": len(os.listdir(f"/proc/{self.daemon}/fd")), "threads": len(os.listdir(f"/proc/{self.daemon}/task")),
               "disk KiB": disk_kib(self.prelux.cache), "prelux KiB": disk_kib(self.prelux.cache / ".prelux") + disk_kib(self.prelux.runtime),
               "calls": sum(map(sum, window.values())), "processes": len(pids),
               "open": sum(len(os.listdir(f"/proc/{pid}/fd")) - 3 for pid in pids), "us": {}}
        for kind, buckets in window.items():
            half, passed = sum(buckets) / 2, 0
            for at, number in enumerate(buckets):
                passed += number
                if sum(buckets) >= FEWEST_CALLS and passed >= half and kind not in one["us"]:
                    one["us"][kind] = 2 ** ((at + 0.5) / A_OCTAVE) / 1000
        self.samples.append(one)
        (self.state / "samples.json").write_text(json.dumps(self.samples))
        return one

    def lines(self):
        """What the processes have seen since the last look."""
        path = self.state / "findings"
        if not path.exists():
            return []
        path.rename(self.state / "told")
        return (self.state / "told").read_text().splitlines()[:20]

    def findings(self):
        """The same, and who is not there any more."""
        found = self.lines()
        if self.prelux.daemon_pid() != self.daemon:
            found.append(f"daemon {self.daemon} has gone, {self.prelux.daemon_pid()} serves: {self.prelux.log()[-2000:]}")
            self.daemon = self.prelux.daemon_pid() or self.daemon
        if self.child.poll() is not None:
            found.append(f"the processes have ended: {(self.tmp / 'out').read_text()[-1000:]}")
        return found

    def step(self):
        time.sleep(self.size["seconds"])
        found = self.findings()
        one = self.sample() if not found else None
        first = one and len(self.samples) == 1
        counts = {"minutes": 1, "calls": one["calls"] if one else 0}
        if first:
            counts.update({"processes": one["processes"], "open files": one["open"], "names": self.size["names"]})
        if len(self.samples) % JUDGED_EVERY == 0:
            found += judge(self.samples)
        return {**counts, "findings": found}

    def close(self):
        """Ends all; what was written is on the remote, all of it, and nothing else. Findings."""
        found = self.findings()
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(300)
        found += self.lines()
        if status != 0:
            found.append(f"status {status} at the end: {(self.tmp / 'out').read_text()[-1000:]}")
        self.prelux.cli("flush", timeout=300)
        want = dict(line.split(" ") for path in self.state.glob("files.*") for line in path.read_text().splitlines())
        have = {str(path.relative_to(self.sink)): path.read_bytes() for path in self.sink.rglob("*") if path.is_file()}
        found += [f"{name} is {'' if name in have else 'not '}on the remote" for name in sorted(set(want) ^ set(have))][:20]
        found += [f"bytes of {name} on the remote" for name in sorted(set(want) & set(have)) if have[name] != want[name].encode() * COPIES][:20]
        found += self.prelux.close()
        self.log.close()
        return found


WORLD = None


def prepare(env):
    global WORLD
    WORLD = World(env.tmp, env.build, env.seed, FULL)


def step(env, seed):
    return WORLD.step()


def finish(env):
    found = WORLD.close() if WORLD else []
    assert not found, found
