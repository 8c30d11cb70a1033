"""`prelux prefetch` of 10,000 files beside `rclone copy` of the same, in turn: from S3 (versitygw) and from a web server (nginx), both with their data
in memory. prelux's time holds the start of the command, not that of the daemon; each round begins with an empty cache, or an empty folder."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.writing import MEMORY, row, warm
from tests.harness import Prelux
from tests.servers.nginx import Nginx
from tests.servers import rclone_s3
from tests.servers.versitygw import Versitygw

FILES, BYTES, FOLDERS = 10000, 16384, 100
ROUNDS = 5
LOCAL = "/prelux-bench"


def make_data(folder):
    for number in range(FOLDERS):
        (folder / f"d{number:03}").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"d{number % FOLDERS:03}" / f"f{number:05}").write_bytes(number.to_bytes(8, "little") * (BYTES // 8))


def ours(prelux, backend, number):
    """A cache that is new: inode numbers that an eviction has freed cost some file systems a search."""
    prelux.config({"version": 1, "backends": {"src": backend}, "mappings": [{"local": LOCAL, "remote": "src:/", "freshness": "immutable"}],
                   "cache": {"dir": str(prelux.tmp / f"cache{number}")}})
    prelux.cli("map", LOCAL)  # the daemon runs, and knows the configuration
    warm()
    begin = time.perf_counter()
    answer = prelux.cli("prefetch", "--json", LOCAL, timeout=900)
    seconds = time.perf_counter() - begin
    if answer["files"] != FILES or answer["failed"]:
        raise RuntimeError(f"{answer}\n{prelux.story()}")
    prelux.cli("daemon", "stop")
    shutil.rmtree(prelux.tmp / f"cache{number}")
    return seconds


def theirs(rclone, conf, remote, target):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RCLONE_"))}
    warm()
    begin = time.perf_counter()
    subprocess.run([rclone, "--config", str(conf), "copy", remote, str(target)], check=True, env=env,
                   capture_output=True)
    seconds = time.perf_counter() - begin
    if sum(len(names) for _, _, names in os.walk(target)) != FILES:
        raise RuntimeError("rclone copied something else")
    shutil.rmtree(target)
    return seconds


def beside(name, prelux, rclone, backend, conf, remote):
    pairs = [(ours(prelux, backend, number), theirs(rclone, conf, remote, prelux.tmp / "copy")) for number in range(ROUNDS)]
    rate = FILES / sorted(pair[0] for pair in pairs)[ROUNDS // 2]
    return row(f"prefetch of {FILES} files of {BYTES >> 10} KiB from {name}, beside rclone copy", *zip(*pairs), note=f"{rate:.0f} files/s")


def s3(prelux, rclone, memory):
    with Versitygw(folder=memory / "s3") as server:
        make_data(server.bucket("data"))
        keys = {"endpoint": server.url, "access_key": server.access_key, "secret_key": server.secret_key}
        conf = prelux.tmp / "s3.conf"
        conf.write_text(f"[r]\ntype = s3\nprovider = Other\naccess_key_id = {server.access_key}\nsecret_access_key = {server.secret_key}\n"
                        f"endpoint = {server.url}\nforce_path_style = true\n")
        return beside("S3", prelux, rclone, {"type": "s3", "bucket": "data", **keys}, conf, "r:data")


def web(prelux, rclone, memory):
    make_data(memory / "web")
    with Nginx(memory / "web") as server:
        conf = prelux.tmp / "web.conf"
        conf.write_text(f"[r]\ntype = http\nurl = {server.url}\n")
        return beside("a web server", prelux, rclone, {"type": "http", "url": server.url}, conf, "r:")


def collect(build, tmp):
    rclone = shutil.which("rclone") or rclone_s3.binary()
    rows = []
    prelux = Prelux(tmp, build)
    try:
        for source, missing in ((s3, Versitygw.missing()), (web, Nginx.missing())):
            why = missing or (None if rclone else "rclone is not installed")
            if why:
                rows.append({"name": f"prefetch beside rclone copy ({source.__name__})", "missing": why})
                continue
            with tempfile.TemporaryDirectory(prefix="prelux-bench-", dir=MEMORY) as memory:
                rows.append(source(prelux, rclone, Path(memory)))
    finally:
        prelux.close()
    return {"prefetch": rows}
