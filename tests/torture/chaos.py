"""Network chaos: each backend's server behind a proxy that resets, stalls, truncates, corrupts, duplicates or slows 1, 10 or 50 % of the answers. Programs get right bytes or an errno of
docs/SEMANTICS.md, nothing takes longer than the time limits allow, nothing corrupt is served or kept where there is a checksum, and when the chaos is over all goes on by itself.

  python3 -m tests.torture.chaos s3:corrupt:10 7 [SECONDS]

Servers: nginx, versitygw, Azurite, Alluxio 2.9, and for Alluxio 3.x the stand-in with one worker, whose two ports (kind `alluxio`) or whose etcd (`etcd`) are behind the proxy."""

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from pathlib import Path

from tests import harness
from tests.integration.crash_rig import LOCAL, content, peek
from tests.servers.chaosproxy import HARMS, ChaosProxy
from tests.servers.nginx import Nginx
from tests.standin.cluster import AlluxioStandin
from tests.torture.model import Remote

KINDS = ("http", "s3", "azure", "alluxio-proxy", "alluxio", "etcd")
SHARES = (1, 10, 50)
TARGETS = {f"{kind} answers harmed": 3000 for kind in KINDS}
SUMS = ("s3", "azure")       # offer a checksum of each object; what is sent there carries one
WRITABLE = ("s3", "azure", "alluxio-proxy")
SECONDS = 20                 # of chaos in a step
SLOWEST = 240                # seconds for one call: four attempts of 30 s of silence each, for two requests
ALLOWED = {errno.EIO, errno.ESTALE}
BELOW = "data"               # workers of Alluxio read nothing in the root of the cluster by S3
STILL = {f"still{number}": size for number, size in enumerate([0, 60, 1000, 5000, 40_000, 300_000, 3_000_000])}
MOVING = ["moving0", "moving1"]


class Folder:
    """Another client of what nginx or a stand-in shows: its folder."""

    def __init__(self, root):
        self.root = Path(root)

    def write(self, name, data):
        (self.root / ".aside").write_bytes(data)
        (self.root / ".aside").rename(self.root / name)

    def peek(self, name):
        path = self.root / name
        return path.read_bytes() if path.exists() else None


class Store:
    """One of model.py, without its proxy."""

    def __init__(self, remote):
        self.inner = remote.inner
        self.write = remote.inner.write

    def peek(self, name):
        if hasattr(self.inner, "top"):  # Alluxio
            return self.inner.objects().get(os.fsencode(name))
        return peek(self.inner, name)


@contextlib.contextmanager
def served(kind, tmp):
    """(another client, configuration of the backend, proxies)"""
    with contextlib.ExitStack() as stack:
        def proxy(url):
            return stack.enter_context(ChaosProxy(url))
        if kind == "http":
            root = tmp / "served"
            root.mkdir()
            one = proxy(stack.enter_context(Nginx(root)).url)
            yield Folder(root), {"type": "http", "url": one.url}, [one]
        elif kind in ("alluxio", "etcd"):
            cluster = stack.enter_context(AlluxioStandin(folder=tmp / "cluster", workers=1, sync_interval=0))
            below = cluster.ufs / BELOW
            below.mkdir()
            conf = {"type": "alluxio", "root": cluster.root}
            if kind == "etcd":
                one = proxy(cluster.etcd.endpoint)
                yield Folder(below), {**conf, "etcd": [urllib.parse.urlsplit(one.url).netloc], "s3_port": cluster.s3_port, "refresh": "200ms"}, [one]
            else:
                both = [proxy(cluster.workers[0].http), proxy(cluster.workers[0].s3)]
                yield Folder(below), {**conf, "workers": [f"127.0.0.1:{both[0].port}"], "s3_port": both[1].port}, both
        else:
            (tmp / "remote").mkdir()
            remote = Remote(kind, tmp / "remote")
            stack.callback(remote.close)
            key = "url" if kind == "alluxio-proxy" else "endpoint"
            parts = urllib.parse.urlsplit(remote.inner.conf[key])
            one = proxy(f"{parts.hostname}:{parts.port}")
            yield Store(remote), {**remote.inner.conf, key: parts._replace(netloc=urllib.parse.urlsplit(one.url).netloc).geturl()}, [one]


def whose(kind):
    """Of which answers bytes may be others: of those that carry a sum."""
    def objects(harm, method, target):
        path, _, query = target.partition("?")
        if any(word in query for word in ("list-type", "comp=list", "uploads", "restype", "delete", "comp=metadata", "comp=blocklist")):
            return False
        return method == ("PUT" if harm == "upwards" else "GET") and path.count("/") > 1

    return objects if kind in SUMS else lambda harm, method, target: False


class Chaos:
    def __init__(self, mode, seed, tmp, build, client, conf, proxies):
        self.kind, self.harm, self.share = mode.split(":")
        self.mode, self.seed, self.client, self.proxies = mode, seed, client, proxies
        self.dice = random.Random(f"{mode} {seed}")
        self.prelux = harness.Prelux(tmp, build)
        self.stop = Path(tmp, "stop")
        self.write = self.dice.choice(["sync", "async"]) if self.kind in WRITABLE else "off"
        self.prelux.config({"version": 1, "backends": {"src": conf}, "mappings": [
            {"local": LOCAL, "remote": f"src:/{BELOW if self.kind in ('alluxio', 'etcd') else ''}", "write": self.write, "freshness": "always", "prefetch": self.dice.choice(["off", "siblings"])}]})
        self.children, self.lines, self.threads = [], [], []
        self.wrote = {}  # moving name: [(version, begun, there)]
        self.findings, self.counts, self.records = [], {}, []

    def program(self, what, *names):
        argv = [sys.executable, "-B", "-m", "tests.torture.chaos_worker", what, LOCAL, self.stop, *names]
        child = self.prelux.popen(argv, bare=True, cwd=harness.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        thread = threading.Thread(target=lambda: self.lines.extend(json.loads(line) for line in child.stdout), daemon=True)
        thread.start()
        self.children.append(child)
        self.threads.append(thread)

    def move(self, name):
        number = len(self.wrote[name])
        begin = time.monotonic()
        self.client.write(name, content(name, number, 200 + number))
        self.wrote[name].append((number, begin, time.monotonic()))

    def run(self, seconds):
        for name, size in STILL.items():
            self.client.write(name, content(name, 1, size + 30))
        for name in MOVING:
            self.wrote[name] = []
            self.move(name)
        self.prelux.run(["ls", LOCAL])
        for number, one in enumerate(self.proxies):
            one.chaos([self.harm], int(self.share) / 100, f"{self.seed} {number}", whose(self.kind))
        for what, names in (("read", [*STILL, *MOVING]), ("read", [*STILL, *MOVING]), ("list", [])):
            self.program(what, *names)
        if self.write != "off":
            self.program("write")
        harness.wait_for(lambda: len(self.lines) > 5 or any(child.poll() for child in self.children), 300, "the programs' first steps")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.dice.uniform(0.1, 0.4))
            if self.kind != "alluxio-proxy" or self.dice.random() < 0.3:
                self.move(self.dice.choice(MOVING))
            with contextlib.suppress(AssertionError):
                self.prelux.cli("evict", LOCAL, check=False, timeout=SLOWEST)
        self.stop.touch()
        self.counts = {f"{self.kind} answers harmed": sum(sum(one.harmed.values()) for one in self.proxies)}
        for child, thread in zip(self.children, self.threads):
            try:
                if child.wait(SLOWEST):
                    self.findings.append(f"a program ended with {child.returncode}: {child.stderr.read().decode()[-1500:]}")
            except subprocess.TimeoutExpired:
                self.findings.append(f"a call takes longer than {SLOWEST} s")
                child.kill()
            thread.join(10)
        for one in self.proxies:
            one.heal()
        self.judge()
        self.afterwards()

    def judge(self):
        for what, name, begin, end, error, result in self.lines:
            self.counts[what] = self.counts.get(what, 0) + 1
            if end - begin > SLOWEST:
                self.findings.append(f"{what} {name}: {end - begin:.0f} s")
            if error is not None:
                self.counts[f"{what}s refused"] = self.counts.get(f"{what}s refused", 0) + 1
                if error not in ALLOWED and not self.follows(what, name, error):
                    self.findings.append(f"{what} {name}: {errno.errorcode.get(error, error)}")
            elif what == "read":
                self.judge_read(name, begin, end, result)
            elif what == "list" and not {*STILL, *MOVING} <= set(result):
                self.findings.append(f"a listing without {sorted({*STILL, *MOVING} - set(result))}: {result}")

    def follows(self, what, name, error):
        """What comes of an earlier failure: a file that was not made is not there, or one was made although its maker was told EIO."""
        return what in ("rename", "unlink") and error == errno.ENOENT or what == "put" and error == errno.EEXIST and name.startswith("new")

    def judge_read(self, name, begin, end, result):
        if isinstance(result, str):
            self.findings.append(f"read {name}: bytes that nobody wrote: {result}")
        elif name in self.wrote:
            there = max((number for number, _, done in self.wrote[name] if done < begin), default=0)
            known = [number for number, begun, _ in self.wrote[name] if begun < end]
            if result < there or result not in known:
                self.findings.append(f"read {name}: version {result}, {there} was there before it was opened")
        elif result != 1:
            self.findings.append(f"read {name}: version {result}")

    def afterwards(self):
        """Without a hand: readers read, what was written is sent."""
        if self.write != "off":
            done = self.prelux.cli("flush", "--timeout", "120", check=False, timeout=200)
            left = self.prelux.cli("pending", "list", "--json")["files"]
            refused = [row for row in left if not (row["state"] == "refused" and row["errno"] in ("ESTALE", "EEXIST", "ENOENT"))]
            if refused or (done.returncode and not left):
                self.findings.append(f"after the chaos, flush: {done.returncode} {done.stderr[-600:]} {left}")
            self.judge_written({row["path"].rpartition("/")[2] for row in left})
        for evict in (False, True):
            if evict:
                self.prelux.cli("evict", LOCAL, check=False)
            for name in [*STILL, *MOVING]:
                want = content(name, 1, STILL[name] + 30) if name in STILL else content(name, len(self.wrote[name]) - 1, 199 + len(self.wrote[name]))
                done = self.prelux.run(["cat", f"{LOCAL}/{name}"], text=False, check=False, args=("--no-wait",), timeout=SLOWEST)
                if done.stdout != want:
                    self.findings.append(f"after the chaos{', evicted' if evict else ''}, {name}: status {done.returncode}, {done.stdout[:60]!r} {done.stderr[-300:]!r}")

    def judge_written(self, kept):
        """What was acknowledged is there, or something newer that may be."""
        last, gone, log = {}, set(), []
        for what, name, _, _, error, _ in self.lines:
            words = name.split()
            if what == "put":
                last.setdefault(words[0], []).append((int(words[1]), error))
            elif what == "rename":
                last.setdefault(words[1], []).append((int(words[2]), error))
                gone.add(words[0])
            elif what == "unlink":
                gone.add(name)
            elif what == "log" and error is None:
                log.append(int(name))
        for name, puts in last.items():
            done = [number for number, error in puts if error is None]
            if not done or name in kept or name in gone:
                continue
            data = self.client.peek(name)
            may = [number for number, error in puts if number >= done[-1]]
            ok = data is not None and any(data[:40].startswith(f"{word} {number} ".encode()) for number in may for word in (name, f"new{number}"))
            if not ok:
                self.findings.append(f"{name}: {done[-1]} was acknowledged, on the remote is {data and data[:40]!r}")
        there = (self.client.peek("log") or b"").split(b"|")[:-1]
        lost = set(log) - {int(one) for one in there}
        if (lost or len(there) != len(set(there))) and "log" not in kept:
            self.findings.append(f"log: acknowledged, and not there: {sorted(lost)[:20]}; {len(there) - len(set(there))} twice")

    def close(self):
        self.records = self.prelux.errors()[-4:]
        self.findings += self.prelux.close()


def work(mode, seed, seconds, tmp, build=harness.BUILD):
    """(counts, findings)"""
    Path(tmp).mkdir(exist_ok=True)
    kind = mode.split(":")[0]
    node = Path(tmp, "node")
    node.mkdir()
    with served(kind, Path(tmp)) as (client, conf, proxies):
        chaos = Chaos(mode, seed, node, build, client, conf, proxies)
        try:
            chaos.run(seconds)
        finally:
            chaos.close()
    seen = list(dict.fromkeys(chaos.findings))
    return chaos.counts, [f"{mode} {chaos.write} seed {seed}: {text}\nrecords: {chaos.records}" for text in seen[:5]]


def modes(left):
    return [f"{kind}:{harm}:{share}" for harm in HARMS for share in SHARES for kind in left if kind in SUMS or harm not in ("corrupt", "upwards")]


# The stage

def step(env, seed):
    counts, targets = getattr(env, "counts", {}), getattr(env, "targets", TARGETS)
    left = [kind for kind in KINDS if counts.get(f"{kind} answers harmed", 0) < targets.get(f"{kind} answers harmed", 0)] or list(KINDS)
    rows = modes(left)
    tmp = env.tmp / f"step{seed}"
    found, findings = work(rows[seed % len(rows)], seed, SECONDS, tmp, env.build)
    shutil.rmtree(tmp, ignore_errors=True)
    return {**found, "findings": findings}


def main(argv):
    with tempfile.TemporaryDirectory() as tmp:
        counts, findings = work(argv[0], argv[1], float(argv[2]) if len(argv) > 2 else SECONDS, Path(tmp, "run"))
    print(json.dumps(counts), *findings, sep="\n")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
