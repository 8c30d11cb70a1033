"""make bench: what a call costs, beside plain libc and in the same run.

Prints a table, writes every figure to --json after each stage, with --markdown FILE replaces the table between the markers there, and with --svg FILE plots
the ratios. With --only a run can be made in pieces."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.bench import alluxiofs, deep, footprint, metadata, plot, prefetch, reading, throughput, writing  # noqa: E402
from tests.harness import Prelux  # noqa: E402

BEGIN, END = "<!-- bench table -->", "<!-- end of bench table -->"
BIG = 64 << 20
EXECS = 200


def make_data(folder):
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"x" * 4000)
    with open(folder / "big", "wb") as out:
        block = os.urandom(1 << 20)
        for _ in range(BIG >> 20):
            out.write(block)
    for i in range(20):
        (folder / f"name{i}").touch()


def rows_of(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def spawn_us(env):
    start = time.perf_counter()
    pid = os.posix_spawn("/bin/true", ["true"], env)
    os.waitpid(pid, 0)
    return (time.perf_counter() - start) * 1e6


def exec_rows(prelux, table, empty):
    """/bin/true with the library, with an empty one preloaded, and without, in turn."""
    plain = dict(prelux.env)
    kinds = [dict(plain, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=table), dict(plain, LD_PRELOAD=str(empty)), plain]
    rounds = [[spawn_us(env) for env in kinds] for _ in range(EXECS)][10:]
    rows = []
    for name, peer in (("exec of /bin/true, beside an empty preload", 1), ("exec of /bin/true, beside no preload", 2)):
        over = sorted(times[0] - times[peer] for times in rounds)
        rows.append({"name": name, "a_us": round(statistics.median(times[0] for times in rounds), 1),
                     "b_us": round(statistics.median(times[peer] for times in rounds), 1), "over_us": round(statistics.median(over), 1),
                     "over_us_low": round(over[len(over) // 10], 1), "over_us_high": round(over[len(over) * 9 // 10], 1)})
    return rows


def collect(build):
    programs = build / "tests" / "bench"
    with tempfile.TemporaryDirectory(prefix="prelux-bench-") as tmp:
        prelux = Prelux(tmp, build)
        try:
            source = Path(tmp, "source")
            make_data(source)
            mapped = prelux.file_mapping(source, freshness="immutable")
            prelux.run(f"cat {mapped}/* >/dev/null; stat {mapped}/missing; ls {mapped} >/dev/null", check=False)
            table = prelux.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
            calls = rows_of(prelux.run([programs / "calls", source, mapped], timeout=600).stdout)
            env = dict(prelux.env, PRELUX_CONFIG=table)
            route = rows_of(subprocess.run([programs / "route"], env=env, check=True, capture_output=True, text=True).stdout)
            return {"calls": calls, "route": route, "exec": exec_rows(prelux, table, programs / "empty.so")}
        finally:
            prelux.close()


def stream_line(row):
    if "missing" in row:
        return f"| {row['name']} | not measured: {row['missing']} | | | | |"
    curl = f", curl {row['curl_mb_s']:.0f}" if "curl_mb_s" in row else ""
    return (f"| {row['name']} | {row['prelux_mb_s']:.0f} | {row['bare_mb_s']:.0f}{curl} | {row['ratio']:.2f} "
            f"({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) | {row['requests']} | {row['load']} |")


def stream_table(result):
    lines = ["| row | prelux MB/s | bare libcurl MB/s | ratio (lowest to highest) | requests | load |", "|---|---|---|---|---|---|"]
    lines += [stream_line(row) for row in result["streams"]]
    lines += ["", "| row | cold | after a listing |", "|---|---|---|"]
    for row in result["small"]:
        cold, listed = (f"{len(row[key])}: {', '.join(row[key])}" for key in ("cold", "listed"))
        lines.append(f"| {row['name']} | {cold} | {listed} |")
    return "\n".join(lines)


def table(result):
    lines = ["| row | prelux ns | plain ns | ratio (10th to 90th percentile) | over plain, ns |", "|---|---|---|---|---|"]
    for row in result["calls"]:
        lines.append(f"| {row['name']} | {row['a_ns']:.0f} | {row['b_ns']:.0f} | {row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f}) | {row['over_ns']:.0f} |")
    for row in result["route"]:
        lines.append(f"| {row['name']} | {row['ns']:.1f} ({row['low']:.1f} to {row['high']:.1f}) | | | |")
    for row in result["exec"]:
        lines.append(f"| {row['name']} | {row['a_us'] * 1000:.0f} | {row['b_us'] * 1000:.0f} | | {row['over_us'] * 1000:.0f} "
                     f"({row['over_us_low'] * 1000:.0f} to {row['over_us_high'] * 1000:.0f}) |")
    return "\n".join(lines)


STAGES = {
    "calls": (lambda build, tmp: collect(build), table),
    "names": (lambda build, tmp: {"names": metadata.collect(build)}, lambda result: metadata.table(result["names"])),
    "streams": (throughput.collect, stream_table),
    "writing": (writing.collect, lambda result: writing.table(result["writing"])),
    "prefetch": (prefetch.collect, lambda result: writing.table(result["prefetch"])),
    "reading": (reading.collect, lambda result: writing.table(result["reading"])),
    "footprint": (footprint.collect, lambda result: footprint.table(result["footprint"])),
    "alluxiofs": (alluxiofs.collect, lambda result: alluxiofs.table(result["alluxiofs"])),
    "deep": (deep.collect, lambda result: footprint.table(result["deep"])),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build")
    parser.add_argument("--json")
    parser.add_argument("--markdown")
    parser.add_argument("--svg")
    parser.add_argument("--only", nargs="*", choices=STAGES, help="these stages; the others' figures stay as --json has them")
    args = parser.parse_args()
    build, figures = Path(args.build).resolve(), Path(args.json) if args.json else None
    result = json.loads(figures.read_text()) if args.only is not None and figures and figures.exists() else {}
    for stage in STAGES if args.only is None else args.only:
        with tempfile.TemporaryDirectory(prefix="prelux-bench-") as tmp:
            result.update(STAGES[stage][0](build, Path(tmp)))
        if figures:
            figures.write_text(json.dumps(result, indent=1) + "\n")
    result["machine"] = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    text = "\n\n".join(show(result) for stage, (_, show) in STAGES.items() if stage in result)
    print(text)
    print(f"\nmachine: {result['machine']}")
    if args.svg:
        Path(args.svg).write_text(plot.svg(result))
    if args.markdown:
        page = Path(args.markdown)
        head, rest = page.read_text().split(BEGIN)
        page.write_text(f"{head}{BEGIN}\n{text}\n\nMachine: {result['machine']}.\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
