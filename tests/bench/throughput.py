"""Cold streams through prelux beside fetch.c, a bare libcurl client that asks what prelux was seen to ask (from the server's log).

Both are timed from the start of their programs to the end of the last one. prelux: `cat` of each cold file to /dev/null, the daemon
running; fetch: the same requests, bytes written to files beside the cache. In turn, so that both see the same machine.

Before each of them as many bytes are written to a file there, which is removed: memory that a virtual machine's host took back
meanwhile (free page reporting) would cost whoever comes first ten times what writing costs."""

import os
import statistics
import subprocess
import time
from urllib.parse import quote

from tests.harness import Prelux
from tests.servers.nginx import Nginx
from tests.standin.cluster import AlluxioStandin

MIB = 1 << 20
ROUNDS = 5
LAYOUTS = (("single", ["one"], 256 * MIB), ("8 in parallel", [f"part{i}" for i in range(8)], 64 * MIB))
LOCAL = "/prelux-bench"
RANGE_PAGE = 256 * MIB  # a read of 256 MiB is less than two pages: ranges are asked for


def make_data(folder):
    folder.mkdir(parents=True)
    block = os.urandom(MIB)
    for _, names, size in LAYOUTS:
        for name in names:
            with open(folder / name, "wb") as out:
                for _ in range(size // MIB):
                    out.write(block)
    (folder / "small").write_bytes(b"x" * 4000)


class Web:
    """nginx. requests(names): lines for fetch of what came since forget()."""

    connections, headers, peer = {"single": 4, "8 in parallel": 1}, [], True

    def __init__(self, folder, data):
        self.name, self.server = "http (nginx)", Nginx(data, folder / "nginx")

    def start(self):
        self.server.start()
        return {"type": "http", "url": self.server.url}, "/"

    def forget(self):
        self.server.forget_requests()

    def rows(self):
        time.sleep(0.3)  # a line is written after its answer's last byte
        return self.server.requests()

    def requests(self, names):
        lines = []
        for row in self.rows():
            name = row.uri.lstrip("/")
            if name in names:
                kind = "head" if row.method == "HEAD" else "data"
                span = row.range.removeprefix("bytes=") or "-"
                lines.append(f"{names.index(name)} {kind} {span.split('-')[0] or 0} {span} {self.server.url}{row.uri}")
        return lines

    def counts(self):
        return [f"{row.method} {row.uri}" for row in self.rows()]


class Lake:
    """The stand-in. Pages of 1 MiB are asked for by page; pages longer than half a read by ranges."""

    peer = False
    connections = {"single": 4, "8 in parallel": 1}

    def __init__(self, folder, data, page_size, kind):
        self.name, self.kind, self.page_size = f"alluxio (stand-in, {'pages' if kind == 'page' else 'S3 ranges'})", kind, page_size
        self.headers = ["Authorization: AWS4-HMAC-SHA256 Credential=prelux/"]
        self.server = AlluxioStandin(data.parent, folder / f"standin-{kind}", page_size=page_size, master=False, sync_interval=0)
        self.folder = data.name

    def start(self):
        self.server.start()
        return {"type": "alluxio", "root": self.server.root, "etcd": [self.server.etcd.endpoint], "s3_port": self.server.s3_port,
                "page_size": self.page_size}, f"/{self.folder}"

    def forget(self):
        self.server.forget_requests()

    def rows(self):
        return [row for row in self.server.requests() if row.kind in ("info", "files", "page", "get", "head", "list")]

    def requests(self, names):
        ids = {self.server.file_id(f"/{self.folder}/{name}"): i for i, name in enumerate(names)}
        ends = {quote(f"{self.folder}/{name}"): i for i, name in enumerate(names)}
        lines = []
        for row in self.rows():
            place = self.server.workers[row.worker]
            if row.kind == "page" and self.kind == "get":
                continue  # a look at how long pages are, given up after the answer's head
            if row.kind == "page":
                file, kind, offset, span = ids.get(row.target.split("/")[3]), "data", row.page * self.page_size, "-"
                if "offset=" in row.target:
                    kind = "meta"  # a look at a page's end
            else:
                target = row.target.partition("&")[0]
                file = next((i for end, i in ends.items() if target.replace("%2F", "/").endswith("/" + end)), None)
                span = row.range.removeprefix("bytes=") or "-"
                kind, offset = ("lone", span.split("-")[0]) if row.kind == "get" else ("head" if row.method == "HEAD" else "meta", 0)
            if file is not None:
                lines.append(f"{file} {kind} {offset} {span} {place.http if row.port == 'http' else place.s3}{row.target}")
        return lines

    def counts(self):
        return [f"{row.kind} {row.port} {row.target.split('?')[0]}" for row in self.rows()]


class Bench:
    def __init__(self, prelux, fetch, source, config, below):
        self.prelux, self.fetch, self.source = prelux, fetch, source
        prelux.config({"version": 1, "backends": {"src": config},
                       "mappings": [{"local": LOCAL, "remote": f"src:{below}", "freshness": "immutable"}]})
        table = prelux.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
        self.env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table)
        self.folder = prelux.tmp / "fetched"
        self.folder.mkdir(exist_ok=True)

    def evict(self):
        self.prelux.cli("evict", LOCAL)

    def settle(self, size):
        path, block = self.folder / "memory", b"x" * MIB
        with open(path, "wb", buffering=0) as out:
            for _ in range(size // MIB):
                out.write(block)
        path.unlink()

    def cat(self, names):
        """Seconds of a cat for each name, all at once."""
        begin = time.perf_counter()
        cats = [subprocess.Popen(["cat", f"{LOCAL}/{name}"], env=self.env, stdout=subprocess.DEVNULL) for name in names]
        failed = [cat.wait() for cat in cats]
        seconds = time.perf_counter() - begin
        if any(failed):
            raise RuntimeError(f"cat of a cold file failed\n{self.prelux.story()}")
        return seconds

    def bare(self, names, requests, size, connections):
        argv = [self.fetch, self.folder, str(connections), *self.source.headers]
        begin = time.perf_counter()
        subprocess.run(argv, input="\n".join(requests) + "\n", text=True, check=True)
        seconds = time.perf_counter() - begin
        for i in range(len(names)):
            if (self.folder / str(i)).stat().st_size != size:
                raise RuntimeError("fetch: a file is not whole")
            (self.folder / str(i)).unlink()
        return seconds

    def curl(self, names):
        outs = [word for name in names for word in ("-o", str(self.folder / name), f"{self.source.server.url}/{name}")]
        begin = time.perf_counter()
        subprocess.run(["curl", "-sfS", *(["-Z", "--parallel-immediate", "--no-progress-meter"] if len(names) > 1 else []), *outs], check=True)
        seconds = time.perf_counter() - begin
        for name in names:
            (self.folder / name).unlink()
        return seconds

    def row(self, layout, names, size):
        for _ in range(3):  # loads and proves pages, finds them, is what the others will be like
            self.evict()
            self.source.forget()
            self.cat(names)
        requests = self.source.requests(names)
        times = {"prelux": [], "bare": [], "curl": []}
        for _ in range(ROUNDS):
            self.evict()
            self.settle(size * len(names))
            times["prelux"].append(self.cat(names))
            self.evict()  # neither runs beside the other's memory
            self.settle(size * len(names))
            times["bare"].append(self.bare(names, requests, size, self.source.connections[layout]))
            if self.source.peer:
                self.settle(size * len(names))
                times["curl"].append(self.curl(names))
        self.evict()
        return summary(f"cold stream {self.source.name}, {layout}", times, size * len(names), len(requests))

    def small(self):
        """Requests of a cold small file, and of one whose folder has been listed."""
        self.evict()
        self.source.forget()
        self.cat(["small"])
        alone = self.source.counts()
        self.evict()
        self.prelux.run(["ls", LOCAL])
        self.source.forget()
        self.cat(["small"])
        return {"name": f"requests of a cold small file, {self.source.name}", "cold": alone, "listed": self.source.counts()}


def summary(name, times, size, requests):
    ratios = sorted(b / a for a, b in zip(times["prelux"], times["bare"]))
    row = {"name": name, "ratio": round(statistics.median(ratios), 3), "ratio_low": round(ratios[0], 3), "ratio_high": round(ratios[-1], 3),
           "requests": requests, "load": round(os.getloadavg()[0], 1)}
    for who, seconds in times.items():
        if seconds:
            row[f"{who}_mb_s"] = round(size / 1e6 / statistics.median(seconds), 1)
    return row


def collect(build, folder, only=""):
    data = folder / "remote" / "data"
    make_data(data)
    streams, small = [], []
    for source in (Web(folder, data), Lake(folder, data, MIB, "page"), Lake(folder, data, RANGE_PAGE, "get")):
        if only not in source.name:
            continue
        if source.server.missing():
            streams.append({"name": f"cold stream {source.name}", "missing": source.server.missing()})
            continue
        place = folder / f"{len(streams)}"
        place.mkdir()
        prelux = Prelux(place, build)
        try:
            config, below = source.start()
            bench = Bench(prelux, build / "tests" / "bench" / "fetch", source, config, below)
            streams += [bench.row(layout, names, size) for layout, names, size in LAYOUTS]
            small.append(bench.small())
        finally:
            prelux.close()
            source.server.stop()
    return {"streams": streams, "small": small}
