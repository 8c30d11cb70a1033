"""Writing through prelux beside its peers, in turn, so that both see the same machine. The server (versitygw) has its data in memory:

  sync    write and close of a large file to S3 (versitygw), beside `curl -T` of a file that is there already
  async   the same with `write: async`, beside a plain write to the same disk
  small   2,000 files of 16 KiB, `write: async`, beside a plain folder; and beside s3fs and `rclone mount` where they are installed
  log     open, append a line, close, again and again: what the last thousand cost beside the first"""

import mmap
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.peers import PEERS, there
from tests.harness import Prelux, wait_for
from tests.servers.versitygw import Versitygw

MIB = 1 << 20
LOCAL = "/prelux-bench"
ROUNDS = 5
SMALL, SMALL_BYTES, APPENDS = 2000, 16384, 10000
MADV_POPULATE_WRITE = 23  # no name in Python's mmap yet
MEMORY = "/dev/shm"  # the server's data: its disk is not what is measured

BIG = """
import os, sys, time
block = os.urandom(1 << 20); begin = time.perf_counter()
with open(sys.argv[1], "wb", buffering=0) as f:
    for _ in range(int(sys.argv[2])): f.write(block)
print(time.perf_counter() - begin)
"""
MANY = """
import os, sys, time
data = os.urandom(int(sys.argv[3])); begin = time.perf_counter()
for i in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/f{i}", "wb") as f: f.write(data)
print(time.perf_counter() - begin)
"""
LOG = """
import sys, time
parts = []
for part in range(10):
    begin = time.perf_counter()
    for i in range(int(sys.argv[2]) // 10):
        with open(sys.argv[1], "a") as f: f.write("%015d\\n" % i)
    parts.append(time.perf_counter() - begin)
print(*parts)
"""


class Lake:
    """A bucket of its own, mapped sync at LOCAL/sync and async at LOCAL/async."""

    def __init__(self, prelux, server):
        self.prelux, self.server = prelux, server
        backends = {}
        for how in ("sync", "async"):
            server.bucket(how)
            backends[how] = {"type": "s3", "bucket": how, "endpoint": server.url, "access_key": server.access_key,
                             "secret_key": server.secret_key, "region": server.region}
        prelux.config({"version": 1, "backends": backends,
                       "mappings": [{"local": f"{LOCAL}/{how}", "remote": f"{how}:/", "write": how} for how in backends]})
        table = prelux.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
        self.env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)

    def python(self, code, *words, env=None):
        done = subprocess.run(["python3", "-c", code, *map(str, words)], env=env or self.env, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr + self.prelux.story())
        return [float(word) for word in done.stdout.split()]

    def settle(self):
        wait_for(lambda: self.prelux.cli("daemon", "status", "--json")["pending_uploads"] == 0, 600, "the end of uploads")

    def curl(self, path):
        begin = time.perf_counter()
        subprocess.run(["curl", "-sfS", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--aws-sigv4", f"aws:amz:{self.server.region}:s3", "--user",
                        f"{self.server.access_key}:{self.server.secret_key}", "-T", path, f"{self.server.url}/sync/curl"], check=True)
        return time.perf_counter() - begin


def row(name, ours, theirs, note=""):
    pairs = sorted(b / a for a, b in zip(ours, theirs))
    return {"name": name, "prelux_s": statistics.median(ours), "peer_s": statistics.median(theirs), "ratio": statistics.median(pairs),
            "ratio_low": pairs[0], "ratio_high": pairs[-1], "note": note}


def free_bytes():
    with open("/proc/meminfo") as text:
        return next(int(line.split()[1]) << 10 for line in text if line.startswith("MemFree:"))


def warm():
    """Memory that a virtual machine's host took back would cost whoever comes first up to ten times what writing costs: all that is free is touched,
    for which of it comes next nobody knows. And what others have left to be written to the disk, as much again."""
    os.sync()
    with mmap.mmap(-1, free_bytes() // 10 * 9, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        try:
            memory.madvise(MADV_POPULATE_WRITE)
        except OSError:  # before Linux 5.14
            for at in range(0, len(memory), mmap.PAGESIZE):
                memory[at] = 1


def large(lake, folder, size):
    """Each time a new file, of ours as of the plain ones."""
    lake.python(BIG, folder / "there", size // MIB, env=lake.prelux.env)
    ours, theirs, later, plain = [], [], [], []
    for number in range(ROUNDS):
        warm()
        ours += lake.python(BIG, f"{LOCAL}/sync/big{number}", size // MIB)
        warm()
        theirs.append(lake.curl(folder / "there"))
        warm()
        later += lake.python(BIG, f"{LOCAL}/async/big{number}", size // MIB)
        lake.settle()
        warm()
        plain += lake.python(BIG, folder / "plain", size // MIB, env=lake.prelux.env)
        (folder / "plain").unlink()
        lake.prelux.run(["rm", f"{LOCAL}/sync/big{number}", f"{LOCAL}/async/big{number}"])
        lake.settle()
    return [row(f"write and close of {size // MIB} MiB, sync, beside curl -T", ours, theirs),
            row(f"write and close of {size // MIB} MiB, async, beside a plain write", later, plain)]


def many(lake, folder):
    ours, plain = [], []
    for number in range(ROUNDS):
        lake.prelux.run(["mkdir", f"{LOCAL}/async/many{number}"])
        warm()
        ours += lake.python(MANY, f"{LOCAL}/async/many{number}", SMALL, SMALL_BYTES)
        lake.settle()
        target = folder / f"many{number}"
        target.mkdir()
        warm()
        plain += lake.python(MANY, target, SMALL, SMALL_BYTES, env=lake.prelux.env)
    rows = [row(f"{SMALL} files of 16 KiB, async, beside a plain folder", ours, plain)]
    rows += [row(f"{SMALL} files of 16 KiB, async, beside {peer.__name__}", ours, mounted(lake, folder, peer)) for peer in PEERS if there(peer)]
    return rows


def mounted(lake, folder, peer):
    """Seconds of the small files in a mount, ROUNDS of them."""
    with peer(lake.server, "async", folder) as target:
        times = []
        for number in range(ROUNDS):
            os.makedirs(target / f"{peer.__name__}{number}")
            warm()
            times += lake.python(MANY, target / f"{peer.__name__}{number}", SMALL, SMALL_BYTES, env=lake.prelux.env)
        return times


def log(lake):
    parts = lake.python(LOG, f"{LOCAL}/async/log", APPENDS)
    lake.settle()
    return {"name": f"{APPENDS} appends to one log, async: the last tenth beside the first", "prelux_s": parts[-1], "peer_s": parts[0],
            "ratio": parts[0] / parts[-1], "ratio_low": parts[0] / max(parts), "ratio_high": parts[0] / min(parts), "note": f"{sum(parts):.1f} s in all"}


def collect(build, tmp, size=1024 * MIB):
    if Versitygw.missing():
        return {"writing": [{"name": "writing", "missing": Versitygw.missing()}]}
    folder = tmp / "writing"
    folder.mkdir()
    prelux = Prelux(tmp, build)
    try:
        with tempfile.TemporaryDirectory(prefix="prelux-bench-", dir=MEMORY) as data, Versitygw(folder=Path(data, "s3")) as server:
            lake = Lake(prelux, server)
            return {"writing": [*large(lake, folder, size), *many(lake, folder), log(lake)]}
    finally:
        prelux.close()


def table(rows):
    lines = ["| row | prelux s | peer s | peer / prelux (lowest to highest) | |", "|---|---|---|---|---|"]
    for one in rows:
        if "missing" in one:
            lines.append(f"| {one['name']} | not measured: {one['missing']} | | | |")
        else:
            lines.append(f"| {one['name']} | {one['prelux_s']:.2f} | {one['peer_s']:.2f} | {one['ratio']:.2f} "
                         f"({one['ratio_low']:.2f} to {one['ratio_high']:.2f}) | {one['note']} |")
    return "\n".join(lines)
