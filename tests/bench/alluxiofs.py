"""alluxiofs 1.1.17 (PyPI) and prelux side by side: many small files and a large one, cold and warm, by 1 and by 8 processes, from one worker.

The worker is a stand-in in C (standin_worker.c; no registry has a real one, and that of tests/standin, in Python, took half of the time of either).
alluxiofs asks `/v1/node` before whatever it does, which a worker of 3.x does not know: the stand-in answers that as a forwarder before a worker would.
Its S3 port is 29998, fixed. Both run the same program in the same interpreter, `open` being one's or the other's; what is timed is reading,
not importing: every process lists the folder and reads its share of the files, or its share of the large file in pieces of 4 MiB.
Cold: the node has nothing of the files (the worker has all, always); warm: the same again. alluxiofs has a cache of its own, switched off by
default: a column of its own."""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

from tests.harness import Prelux
from tests.servers.base import free_port
from tests.servers.pythons import ALLUXIOFS

MIB = 1 << 20
SMALL, SMALL_SIZE, LARGE_SIZE = 2000, 64 << 10, 256 * MIB
S3_PORT = 29998
LOCAL = "/prelux-bench"
ROUNDS = 5
BARS = {"small": 5.0, "large": 2.0}  # cold, how many times as fast prelux has to be

READER = """
import multiprocessing, os, sys, time
kind, prefix, processes, job = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
PIECE = 4 << 20

def opener():
    if kind == "prelux":
        return lambda name: open(prefix + name, "rb"), lambda name: os.listdir(prefix + name)
    from alluxiofs import AlluxioFileSystem
    more = {"mcap_enabled": True, "local_cache_dir": os.environ["BENCH_CACHE"]} if kind == "cache" else {}
    fs = AlluxioFileSystem(worker_hosts=os.environ["BENCH_NODE"], **more)
    names = lambda name: [os.path.basename(entry["ufs_path"]) for entry in fs.ls(prefix + name, detail=True)]
    return lambda name: fs.open(prefix + name, "rb"), names

def read(number, ready, total):
    take, names = opener()
    ready.wait()
    count = 0
    if job == "large":
        size = int(sys.argv[5]) // processes
        with take("large") as file:
            file.seek(number * size)
            while count < size:
                piece = file.read(min(PIECE, size - count))
                if not piece:
                    break
                count += len(piece)
    else:
        for name in sorted(names("small"))[number::processes]:
            with take("small/" + name) as file:
                count += len(file.read())
    with total.get_lock():
        total.value += count

total, ready = multiprocessing.Value("q", 0), multiprocessing.Barrier(processes + 1)
workers = [multiprocessing.Process(target=read, args=(number, ready, total)) for number in range(processes)]
for worker in workers:
    worker.start()
ready.wait()
start = time.monotonic()
for worker in workers:
    worker.join()
print(time.monotonic() - start, total.value)
"""


class Worker:
    """standin_worker.c."""

    def __init__(self, build, ufs):
        self.root, self.host, self.http_port = f"file://{ufs}", "127.0.0.1", free_port()
        program = build / "tests/bench/standin_worker"
        self.process = subprocess.Popen([program, ufs, self.root, self.host, str(self.http_port), str(S3_PORT)], stdout=subprocess.PIPE)
        self.process.stdout.readline()  # it listens

    @property
    def address(self):
        return f"{self.host}:{self.http_port}"

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def missing(build):
    if not (build / "tests/bench/standin_worker").exists():
        return "the stand-in is not built (make bench-programs)"
    if not ALLUXIOFS.installed():
        return "alluxiofs is not installed (python3 -m tests.servers.pythons --install)"
    try:
        socket.create_server(("127.0.0.1", S3_PORT)).close()
    except OSError:
        return f"port {S3_PORT} is in use, and alluxiofs knows no other"
    return None


def make_data(folder, small, large):
    (folder / "set/small").mkdir(parents=True)
    for number in range(small):
        (folder / f"set/small/{number:04}").write_bytes(os.urandom(SMALL_SIZE))
    block = os.urandom(MIB)
    with open(folder / "set/large", "wb") as out:
        for _ in range(large // MIB):
            out.write(block)


class Race:
    """lake: a set-up with an empty cache, a new one for each cold run: ext4 without a journal does not give out numbers of inodes that were freed in the
    last minutes, and who makes files meanwhile searches for others, which took a third of the daemon's time after an eviction."""

    def __init__(self, build, worker, folder, sizes):
        self.build, self.worker, self.folder, self.sizes, self.cache = build, worker, folder, sizes, folder / "alluxiofs-cache"
        self.lake, self.lakes = None, 0
        self.env = {"BENCH_NODE": worker.address, "BENCH_CACHE": self.cache, "ALLUXIO_PYTHON_SDK_LOG_PATH": folder, "ALLUXIO_PYTHON_SDK_LOG_LEVEL": "ERROR"}
        self.reader = folder / "reader.py"
        self.reader.write_text(READER)

    def close(self):
        if self.lake:
            self.lake.close()

    def forget(self):
        """All that the node has of the files."""
        self.close()
        self.lakes += 1
        home = self.folder / f"lake{self.lakes}"
        home.mkdir()
        self.lake = Prelux(home, self.build)
        self.lake.config({"version": 1, "backends": {"lake": {"type": "alluxio", "root": self.worker.root, "workers": [self.worker.address], "s3_port": S3_PORT}},
                          "mappings": [{"local": LOCAL, "remote": "lake:/set", "freshness": "immutable"}]})
        self.lake.run(["true"])
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        self.touch_memory()

    def touch_memory(self):
        """What a virtual machine's host took back meanwhile costs who comes first ten times what writing costs (throughput.py)."""
        path, block = self.folder / "memory", b"x" * MIB
        with open(path, "wb", buffering=0) as out:
            for _ in range(2 * max(self.sizes["large"], self.sizes["small"] * SMALL_SIZE) // MIB):
                out.write(block)
        path.unlink()

    def prefetched(self, job, processes):
        """Cold, as docs/MIGRATING.md has it for many files: `prelux prefetch`, then read; both count."""
        self.forget()
        start = time.monotonic()
        self.lake.cli("prefetch", f"{LOCAL}/{job}", timeout=600)
        fetched = time.monotonic() - start
        seconds, right = self.seconds("prelux", job, processes)
        return fetched + seconds, right

    def seconds(self, kind, job, processes):
        count = self.sizes[job]
        expected = count * SMALL_SIZE if job == "small" else count
        prefix = f"{LOCAL}/" if kind == "prelux" else f"{self.worker.root}/set/"
        argv = [ALLUXIOFS.program, self.reader, kind, prefix, str(processes), job, str(count)]
        run = self.lake.run if kind == "prelux" else self.lake.plain
        seconds, total = run(argv, env=self.env, timeout=1200).stdout.split()[-2:]
        return float(seconds), int(total) == expected

    def row(self, job, processes, rounds):
        """Each round: cold, then warm, in turn; the least of the rounds."""
        times = {}
        for _ in range(rounds):
            for kind in ("prelux", "alluxiofs"):
                self.forget()
                for state in ("cold", "warm"):
                    times.setdefault((kind, state), []).append(self.seconds(kind, job, processes))
        times["prefetch", "cold"] = [self.prefetched(job, processes) for _ in range(rounds)]
        self.forget()
        times["cache", "cold"], times["cache", "warm"] = ([self.seconds("cache", job, processes)] for _ in range(2))
        least = {key: min(seconds for seconds, _ in each) for key, each in times.items()}
        ratios = [theirs / ours for (theirs, _), (ours, _) in zip(times["alluxiofs", "cold"], times["prelux", "cold"])]
        wrong = sorted({kind for (kind, _), each in times.items() for _, right in each if not right})
        return {"name": f"{job}, {processes} process{'es' if processes > 1 else ''}", "job": job, "processes": processes, "wrong": wrong,
                **{f"{kind}_{state}_s": round(value, 3) for (kind, state), value in least.items()}, "cold_ratio": round(statistics.median(ratios), 2),
                "warm_ratio": round(least["alluxiofs", "warm"] / least["prelux", "warm"], 2), "bar": BARS[job]}


def collect(build, tmp, small=SMALL, large=LARGE_SIZE, rounds=ROUNDS):
    why = missing(build)
    if why:
        return {"alluxiofs": [{"name": "alluxiofs", "missing": why}]}
    make_data(tmp / "ufs", small, large)
    worker = Worker(build, tmp / "ufs")
    race = Race(build, worker, tmp, {"small": small, "large": large})
    try:
        return {"alluxiofs": [race.row(job, processes, rounds) for job in ("small", "large") for processes in (1, 8)]}
    finally:
        race.close()
        worker.close()


def line(row):
    if "missing" in row:
        return f"| {row['name']} | not measured: {row['missing']} | | | | | | |"
    wrong = f" (wrong bytes: {', '.join(row['wrong'])})" if row["wrong"] else ""
    return (f"| {row['name']}{wrong} | {row['prelux_cold_s']:.2f} | {row['prefetch_cold_s']:.2f} | {row['alluxiofs_cold_s']:.2f} | {row['cold_ratio']:.1f} (at least {row['bar']:g}) | "
            f"{row['prelux_warm_s']:.3f} | {row['alluxiofs_warm_s']:.2f} | {row['cache_warm_s']:.2f} |")


def table(rows):
    lines = ["| read all of | prelux cold s | with prefetch s | alluxiofs cold s | times as fast, without prefetch | prelux warm s | alluxiofs warm s | its cache on, warm s |",
             "|---|---|---|---|---|---|---|---|"]
    return "\n".join(lines + [line(row) for row in rows])


if __name__ == "__main__":
    import tempfile
    from pathlib import Path
    with tempfile.TemporaryDirectory(prefix="prelux-bench-") as folder:
        print(table(collect(Path(sys.argv[1]).resolve(), Path(folder), *map(int, sys.argv[2:]))["alluxiofs"]))
