"""Cold reading from S3 (versitygw, its data in memory) beside FUSE peers and curl, in turn:

  random   200 reads of 4 KiB at random places of an object of 4 GiB (`stream_above`), open included; beside it, bytes fetched for each byte read
  small    10,000 files of 64 KiB in 10 folders by 1 and by 8 processes, which list them first
  far      the same with fewer files, 20 ms away (delay.py), `prefetch: directory`
  line     1 GiB at 20 ms and 40 MB/s of each connection, beside one curl
  first    the first byte of an object of 10 GiB, beside curl's
  listing  ls of 100,000 names, beside the same pages asked for by curl"""

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import quote

from tests.bench.delay import Delay
from tests.bench.peers import PEERS, there
from tests.bench.writing import MEMORY, MIB, row, warm
from tests.harness import Prelux
from tests.servers.versitygw import Versitygw

LOCAL = "/prelux-cold"
ROUNDS = 5
READS, HUGE, TEN = 200, 4 << 30, 10 << 30
FOLDERS, SMALL, SMALL_BYTES = 10, 10000, 65536
FAR_SMALL, FAR_MS, LINE_RATE = 1000, 20, 40_000_000
NAMES = 100_000

RANDOM = """
import os, random, sys, time
r, n, size = random.Random(int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]); begin = time.perf_counter()
fd = os.open(sys.argv[1], os.O_RDONLY)
for _ in range(n): assert len(os.pread(fd, 4096, r.randrange(size - 4096))) == 4096
print(time.perf_counter() - begin)
"""
FILES = """
import os, sys, time
root, procs = sys.argv[1], int(sys.argv[2]); begin = time.perf_counter()
def work(number):
    for at, folder in enumerate(sorted(os.listdir(root))):
        for name in sorted(os.listdir(f"{root}/{folder}"))[number::procs]:
            with open(f"{root}/{folder}/{name}", "rb") as f: assert len(f.read()) == 65536
pids = []
for number in range(procs):
    pid = os.fork()
    if pid == 0:
        work(number); os._exit(0)
    pids.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
print(time.perf_counter() - begin)
"""
WHOLE = """
import sys, time
begin = time.perf_counter()
with open(sys.argv[1], "rb", buffering=0) as f:
    sum_, buf = 0, bytearray(1 << 20)
    while n := f.readinto(buf): sum_ += n
print(time.perf_counter() - begin, sum_)
"""
FIRST = """
import os, sys, time
begin = time.perf_counter(); fd = os.open(sys.argv[1], os.O_RDONLY); assert len(os.read(fd, 1)) == 1
print(time.perf_counter() - begin)
"""
NAMES_OF = """
import os, sys, time
begin = time.perf_counter(); assert len(os.listdir(sys.argv[1])) == int(sys.argv[2])
print(time.perf_counter() - begin)
"""


def received():
    return int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text())


class Cold:
    """A bucket, and a prelux with a new cache and a new daemon each time."""

    def __init__(self, build, tmp, server, url=None, **options):
        self.build, self.tmp, self.server, self.url, self.options = build, tmp, server, url or server.url, options

    @contextlib.contextmanager
    def prelux(self):
        with tempfile.TemporaryDirectory(dir=self.tmp) as folder:
            prelux = Prelux(Path(folder), self.build)
            try:
                s3 = {"type": "s3", "bucket": "data", "endpoint": self.url, "access_key": self.server.access_key,
                      "secret_key": self.server.secret_key, "region": self.server.region}
                prelux.config({"version": 1, "backends": {"s": s3}, "mappings": [{"local": LOCAL, "remote": "s:/", **self.options}]})
                prelux.run(["true"])  # the daemon is there
                yield prelux
            finally:
                prelux.close()

    def once(self, code, path, *words):
        with self.prelux() as prelux:
            warm()
            return float(prelux.run([sys.executable, "-c", code, f"{LOCAL}/{path}", *map(str, words)], timeout=600).stdout.split()[0])

    def of_peer(self, peer, code, path, *words):
        with peer(self.server, "data", self.tmp, self.url) as target:
            warm()
            return plain(code, target / path, *words)


def plain(code, path, *words):
    done = subprocess.run([sys.executable, "-c", code, str(path), *map(str, words)], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[0])


def beside_peers(name, cold, code, path, *words, rounds=ROUNDS, note=""):
    peers = [peer for peer in PEERS if there(peer)]
    ours, theirs = [], {peer: [] for peer in peers}
    for _ in range(rounds):
        ours.append(cold.once(code, path, *words))
        for peer in peers:
            theirs[peer].append(cold.of_peer(peer, code, path, *words))
    return [row(f"{name}, beside {peer.__name__}", ours, times, note) for peer, times in theirs.items()]


def put_small(server, root, folders, files):
    data = os.urandom(SMALL_BYTES)
    server.put("data", f"{root}/d0/f", data)
    there_ = next(Path(server.folder).rglob(f"{root}/d0/f")).parent.parent
    for folder in range(folders):
        (there_ / f"d{folder}").mkdir(exist_ok=True)
        for number in range(files // folders):
            (there_ / f"d{folder}" / f"f{number:05d}").write_bytes(data)
    (there_ / "d0" / "f").unlink()


def put_sparse(server, name, size):
    server.put("data", name, b"x" * MIB)
    os.truncate(next(Path(server.folder).rglob(name)), size)


def random_rows(cold, server):
    put_sparse(server, "huge.bin", HUGE)
    rows = []
    ours, fetched = [], []
    peers = {peer: ([], []) for peer in PEERS if there(peer)}
    for seed in range(ROUNDS):
        before = received()
        ours.append(cold.once(RANDOM, "huge.bin", seed, READS, HUGE))
        fetched.append((received() - before) / (READS * 4096))
        for peer, (times, bytes_) in peers.items():
            reads = READS if peer.__name__ != "s3fs" else READS // 10  # it fetches 10 MiB for each
            before = received()
            times.append(cold.of_peer(peer, RANDOM, "huge.bin", seed, reads, HUGE) * READS / reads)
            bytes_.append((received() - before) / (reads * 4096))
    for peer, (times, bytes_) in peers.items():
        rows.append(row(f"{READS} reads of 4 KiB in 4 GiB, beside {peer.__name__}", ours, times,
                        f"bytes fetched for one: {statistics.median(fetched):.1f}, {statistics.median(bytes_):.1f}"))
    return rows


def small_rows(cold, server):
    put_small(server, "small", FOLDERS, SMALL)
    return [one for procs in (1, 8) for one in beside_peers(f"{SMALL} cold files of 64 KiB, {procs} at once", cold, FILES, "small", procs, rounds=3)]


def far_rows(build, tmp, server):
    put_small(server, "far", FOLDERS, FAR_SMALL)
    with Delay(server.url, FAR_MS) as far:
        cold = Cold(build, tmp, server, f"http://{far.address}", prefetch="directory")
        return beside_peers(f"{FAR_SMALL} cold files of 64 KiB at 20 ms, prefetch: directory", cold, FILES, "far", 1, rounds=3)


def signed(server):
    return ["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--aws-sigv4", f"aws:amz:{server.region}:s3", "--user", f"{server.access_key}:{server.secret_key}"]


def curl(server, url, path, *words):
    begin = time.perf_counter()
    subprocess.run(["curl", "-sfS", *signed(server), *map(str, words), f"{url}/data{path}"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def line_rows(build, tmp, server):
    server.put("data", "line.bin", os.urandom(MIB) * 1024)
    with Delay(server.url, FAR_MS, LINE_RATE) as far:
        cold = Cold(build, tmp, server, f"http://{far.address}")
        ours, theirs = [], []
        for _ in range(3):
            ours.append(cold.once(WHOLE, "line.bin"))
            theirs.append(curl(server, f"http://{far.address}", "/line.bin", "-o", tmp / "out"))
    return [row("1 GiB at 20 ms and 40 MB/s a connection, beside curl", ours, theirs)]


def first_rows(cold, server):
    put_sparse(server, "ten.bin", TEN)
    ours = [cold.once(FIRST, "ten.bin") for _ in range(ROUNDS)]
    theirs = [curl(server, server.url, "/ten.bin", "-r", "0-0", "-o", cold.tmp / "out") for _ in range(ROUNDS)]
    return [row("first byte of 10 GiB, beside curl -r 0-0", ours, theirs, f"{1000 * (statistics.median(ours) - statistics.median(theirs)):.1f} ms more")]


def pages(server, prefix):
    """The listing by curl, page after page."""
    begin, token = time.perf_counter(), ""
    while True:
        # Signed as it stands: sorted and encoded.
        query = (f"continuation-token={quote(token, safe='')}&" if token else "") + f"delimiter=%2F&list-type=2&prefix={quote(prefix, safe='')}"
        done = subprocess.run(["curl", "-sfS", *signed(server), f"{server.url}/data?{query}"], check=True, stdout=subprocess.PIPE)
        root = ElementTree.fromstring(done.stdout)
        token = next((one.text for one in root if one.tag.endswith("NextContinuationToken")), "")
        if not token:
            return time.perf_counter() - begin


def listing_rows(cold, server):
    server.put("data", "names/f", b"x")
    folder = next(Path(server.folder).rglob("names/f")).parent
    for number in range(NAMES - 1):
        (folder / f"name{number:06d}").touch()
    ours, theirs = [], []
    for _ in range(3):
        ours.append(cold.once(NAMES_OF, "names", NAMES))
        theirs.append(pages(server, "names/"))
    shutil.rmtree(folder)
    return [row(f"listing {NAMES} names, cold, beside curl", ours, theirs)]


def collect(build, tmp, wanted=("random", "small", "far", "line", "first", "listing")):
    if Versitygw.missing():
        return {"reading": [{"name": "reading", "missing": Versitygw.missing()}]}
    with tempfile.TemporaryDirectory(prefix="prelux-bench-", dir=MEMORY) as data, Versitygw(folder=Path(data, "s3")) as server:
        server.bucket("data")
        cold, streams = Cold(build, tmp, server), Cold(build, tmp, server, stream_above="8MiB")
        kinds = {"random": lambda: random_rows(streams, server), "small": lambda: small_rows(cold, server),
                 "far": lambda: far_rows(build, tmp, server), "line": lambda: line_rows(build, tmp, server),
                 "first": lambda: first_rows(streams, server), "listing": lambda: listing_rows(cold, server)}
        return {"reading": [one for name in wanted for one in kinds[name]()]}


if __name__ == "__main__":
    from tests.bench.writing import table
    with tempfile.TemporaryDirectory(prefix="prelux-bench-") as folder_:
        print(table(collect(Path(sys.argv[1]).resolve(), Path(folder_), sys.argv[2:] or ("random", "small", "far", "line", "first", "listing"))["reading"]))
