"""What the daemon needs, beside curl where that does the same (S3 by versitygw, its data in memory), in turn:

  idle     resident memory of a daemon that has answered once
  streams  its greatest memory while 8 programs read 8 objects of 128 MiB, and its processor time for the GiB less that of one curl
           that fetches them at once; with a checksum of the server's, as is the default, with the ETags' MD5, and unchecked
  names    its memory when 1,000,000 names are known: 1,000 folders of a bucket, and one folder of a disk"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.reading import signed
from tests.bench.writing import MEMORY, MIB, warm
from tests.harness import Prelux
from tests.servers.versitygw import Versitygw

LOCAL = "/prelux-footprint"
ROUNDS, STREAMS, OBJECT = 5, 8, 128 << 20
NAMES, FOLDERS = 1_000_000, 1_000


def status(prelux):
    pid = prelux.cli("daemon", "status", "--json")["pid"]
    text = Path(f"/proc/{pid}/status").read_text()
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmHWM", "VmRSS")}, \
        (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def with_bucket(build, server, work, **options):
    with tempfile.TemporaryDirectory() as folder:
        prelux = Prelux(Path(folder), build)
        try:
            s3 = {"type": "s3", "bucket": "data", "endpoint": server.url, "access_key": server.access_key, "secret_key": server.secret_key,
                  "region": server.region, **options}
            prelux.config({"version": 1, "backends": {"s": s3}, "mappings": [{"local": LOCAL, "remote": "s:/"}]})
            prelux.run(["true"])
            return work(prelux)
        finally:
            prelux.close()


def read_all(prelux):
    warm()
    time.sleep(1)
    idle, before = status(prelux)
    prelux.run(f"for n in {' '.join(map(str, range(STREAMS)))}; do cat {LOCAL}/o$n >/dev/null & done; wait", timeout=600)
    busy, after = status(prelux)
    return idle["VmRSS"], busy["VmHWM"], after - before


def curl_cpu(server, tmp):
    before = os.times()
    urls = [word for n in range(STREAMS) for word in ("-o", f"{tmp}/c{n}", f"{server.url}/data/o{n}")]
    subprocess.run(["curl", "-sfS", "-Z", *signed(server), *urls], check=True, stderr=subprocess.DEVNULL)
    after = os.times()
    for n in range(STREAMS):
        os.unlink(f"{tmp}/c{n}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def figure(name, values, bar, unit):
    return {"name": name, "value": round(statistics.median(values), 2), "low": round(min(values), 2), "high": round(max(values), 2), "bar": bar, "unit": unit}


def stream_rows(build, tmp, server):
    block = os.urandom(MIB)
    for n in range(STREAMS):
        server.put("data", f"o{n}", block * (OBJECT // MIB))
    rounds = []
    for _ in range(ROUNDS):
        checked, md5 = with_bucket(build, server, read_all), with_bucket(build, server, read_all, checksums="off")
        bare = with_bucket(build, server, read_all, etag_md5="off", checksums="off")
        rounds.append((*checked, md5[2], bare[2], curl_cpu(server, tmp)))
    gib = STREAMS * OBJECT / (1 << 30)
    idle, most, cpu, md5, bare, curl = zip(*rounds)
    return [figure("daemon, idle", idle, 32, "MiB"), figure(f"daemon, {STREAMS} streams", most, 256, "MiB"),
            figure("processor time beyond curl's, checked by the server's CRC-64", [(a - b) / gib for a, b in zip(cpu, curl)], 0.6, "s/GiB"),
            figure("processor time beyond curl's, checksums: off (MD5 is checked)", [(a - b) / gib for a, b in zip(md5, curl)], 0.6, "s/GiB"),
            figure("processor time beyond curl's, nothing is checked", [(a - b) / gib for a, b in zip(bare, curl)], 0.6, "s/GiB")]


def make_names(folder, names, folders):
    for i in range(folders):
        sub = folder / f"folder{i:04d}" if folders > 1 else folder
        sub.mkdir(exist_ok=True)
        for j in range(names // folders):
            os.close(os.open(sub / f"name{j:07d}.bin", os.O_CREAT | os.O_WRONLY))


def walk(prelux, local=LOCAL):
    found = int(prelux.run(f"find {local} | wc -l; ls -lR {local} >/dev/null", timeout=3600).stdout)
    return found, status(prelux)[0]["VmHWM"]


def names_rows(build, data, server, names=NAMES, folders=FOLDERS):
    server.put("data", "names/f", b"x")
    make_names(next(Path(server.folder).rglob("names/f")).parent, names, folders)
    found, of_bucket = with_bucket(build, server, lambda prelux: walk(prelux, f"{LOCAL}/names"))
    assert found >= names + folders, found
    with tempfile.TemporaryDirectory() as folder:
        prelux = Prelux(Path(folder), build)
        try:
            make_names(data / "one", names, 1)
            found, of_disk = walk(prelux, prelux.file_mapping(data / "one"))
            assert found == names + 1, found
        finally:
            prelux.close()
    return [figure(f"daemon, {names} names in {folders} folders of S3", [of_bucket], 1024, "MiB"),
            figure(f"daemon, {names} names in one folder", [of_disk], 1024, "MiB")]


def collect(build, tmp, wanted=("streams", "names")):
    if Versitygw.missing():
        return {"footprint": [{"name": "footprint", "missing": Versitygw.missing()}]}
    with tempfile.TemporaryDirectory(prefix="prelux-bench-", dir=MEMORY) as data, Versitygw(folder=Path(data, "s3")) as server:
        server.bucket("data")
        kinds = {"streams": lambda: stream_rows(build, tmp, server), "names": lambda: names_rows(build, Path(data), server)}
        return {"footprint": [row for name in wanted for row in kinds[name]()]}


def table(rows):
    lines = ["| row | prelux | lowest to highest | bar |", "|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['name']} | not measured: {row['missing']} | | |" if "missing" in row else
                     f"| {row['name']} | {row['value']:.2f} {row['unit']} | {row['low']:.2f} to {row['high']:.2f} | {row['bar']} {row['unit']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="prelux-bench-") as folder_:
        print(table(collect(Path(sys.argv[1]).resolve(), Path(folder_), sys.argv[2:] or ("streams", "names"))["footprint"]))
