"""alluxiofs 1.1.17 (PyPI) and prelux side by side: many small files and a large one, cold and warm, by 1 and by 8 processes, from one worker.

The worker is the stand-in of tests/standin (no registry has a real one; it is a program in Python, which costs whoever asks more often).
alluxiofs asks `/v1/node` before whatever it does, which a worker of 3.x does not know: a small forwarder answers that, and only that.
Its S3 port is 29998, fixed. Both run the same program in the same interpreter, `open` being one's or the other's; what is timed is reading,
not importing: every process lists the folder and reads its share of the files, or its share of the large file in pieces of 4 MiB.
Cold: neither the node nor the worker has anything of the files; warm: the same again. alluxiofs has a cache of its own, switched off by
default: a column of its own."""

import http.server
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import threading
import time

from tests.harness import Prelux
from tests.servers.pythons import ALLUXIOFS
from tests.standin.cluster import AlluxioStandin

MIB = 1 << 20
SMALL, SMALL_SIZE, LARGE_SIZE = 2000, 64 << 10, 256 * MIB
S3_PORT = 29998
LOCAL = "/prelux-bench"
ROUNDS = 3
# ext4 does not give out numbers of inodes that were freed in the last 5 s, and who makes files meanwhile searches for others: that took a fifth
# of the daemon's time right after an eviction.
SETTLE = 6
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


class OneWorker(AlluxioStandin):
    def __init__(self, ufs, folder):
        super().__init__(ufs=ufs, folder=folder, workers=1, sync_interval=0, master=False)

    def configure(self):
        super().configure()
        self.workers[0].s3_port = S3_PORT


class Node:
    """GET /v1/node: the one worker."""

    def __init__(self, host, port):
        body = json.dumps({"Host": host, "HttpServerPort": port}).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def missing():
    if not ALLUXIOFS.installed():
        return "alluxiofs is not installed (python3 -m tests.servers.pythons --install)"
    try:
        socket.create_server(("127.0.0.1", S3_PORT)).close()
    except OSError:
        return f"port {S3_PORT} is in use, and alluxiofs knows no other"
    return AlluxioStandin.missing()


def make_data(folder, small, large):
    (folder / "set/small").mkdir(parents=True)
    for number in range(small):
        (folder / f"set/small/{number:04}").write_bytes(os.urandom(SMALL_SIZE))
    block = os.urandom(MIB)
    with open(folder / "set/large", "wb") as out:
        for _ in range(large // MIB):
            out.write(block)


class Race:
    def __init__(self, lake, cluster, node, folder, sizes):
        self.lake, self.cluster, self.sizes, self.cache = lake, cluster, sizes, folder / "alluxiofs-cache"
        self.env = {"BENCH_NODE": node.address, "BENCH_CACHE": self.cache, "ALLUXIO_PYTHON_SDK_LOG_PATH": folder, "ALLUXIO_PYTHON_SDK_LOG_LEVEL": "ERROR"}
        self.reader = folder / "reader.py"
        self.reader.write_text(READER)
        lake.config({"version": 1, "backends": {"lake": {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint], "s3_port": S3_PORT}},
                     "mappings": [{"local": LOCAL, "remote": "lake:/set", "freshness": "immutable"}]})

    def forget(self):
        """All that anybody has of the files."""
        self.cluster.drop_pages()
        self.lake.cli("evict", LOCAL)
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        time.sleep(SETTLE)

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
        prefix = f"{LOCAL}/" if kind == "prelux" else f"{self.cluster.root}/set/"
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
    why = missing()
    if why:
        return {"alluxiofs": [{"name": "alluxiofs", "missing": why}]}
    make_data(tmp / "ufs", small, large)
    (tmp / "lake").mkdir()
    lake = Prelux(tmp / "lake", build)
    try:
        with OneWorker(tmp / "ufs", tmp / "worker") as cluster:
            place = cluster.workers[0]
            node = Node(place.host, place.http_port)
            try:
                race = Race(lake, cluster, node, tmp, {"small": small, "large": large})
                return {"alluxiofs": [race.row(job, processes, rounds) for job in ("small", "large") for processes in (1, 8)]}
            finally:
                node.close()
    finally:
        lake.close()


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
