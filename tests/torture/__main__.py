"""`make torture`: what takes hours, in steps that add up.

  python3 -m tests.torture [--stage NAME...] [--seconds N] [--steps N] [--seed N] [--state DIR] [--page FILE]
  python3 -m tests.torture --mended STAGE:NUMBER "commit, test"     a finding that a run has left is mended

A stage is a module of this folder with TARGETS, step(env, seed) and, if it likes, prepare(env) and finish(env); env has `build`, `tmp`,
`seed`, `counts` (what is reached already) and `targets`. A step is some bounded work and gives counts to be added; "findings", a list of texts,
are defects. Every step's result is in DIR/STAGE.json (default: BUILD/torture) before the next begins, so a run that is killed, at whatever time,
goes on where it was. Stages that have reached their targets are left out; --seconds and --steps bound each of the others. A step's seed is the
first one (--seed, PRELUX_SEED, or the time) plus its number: `--stage S --seed N --steps 1` does one again. docs/TRUST.md is written from
the states. Exit status 1: a stage has a finding that is not mended, or could not be run.
"""

import argparse
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/TRUST.md"
FINDINGS_MAX = 100  # of one stage: what comes every time need not be told for ever


@dataclass
class Env:
    build: Path
    tmp: Path
    seed: int
    counts: dict = field(default_factory=dict)
    targets: dict = field(default_factory=dict)


def now():
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())


def commit():
    """With a plus where the tree has other changes than this page."""
    def git(*words):
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return (git("rev-parse", "--short=9", "HEAD") or "unknown") + ("+" if git("status", "--porcelain", "-uno", "--", ".", ":!docs/TRUST.md") else "")


def say(text):
    print(text, flush=True)


class State:
    """What a stage has reached, in a file that is always whole."""

    def __init__(self, folder, name):
        self.path = Path(folder, f"{name}.json")
        self.name = name
        self.data = {"counts": {}, "targets": {}, "findings": [], "steps": 0, "seconds": 0.0, "seeds": [], "commit": "", "began": now(), "ended": ""}
        if self.path.exists():
            self.data.update(json.loads(self.path.read_text()))

    def save(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}")
        with open(part, "w") as file:
            json.dump(self.data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)

    def done(self):
        return all(self.data["counts"].get(key, 0) >= target for key, target in self.data["targets"].items())

    def open_findings(self):
        return [finding for finding in self.data["findings"] if not finding.get("mended")]

    def add(self, seed, seconds, result, version):
        data = self.data
        for key, value in result.items():
            if key != "findings":
                data["counts"][key] = data["counts"].get(key, 0) + value
        for text in result.get("findings", []):
            say(f"{self.name}: FINDING {text}")
            if len(data["findings"]) < FINDINGS_MAX:
                data["findings"].append({"text": text, "seed": seed, "commit": version, "date": now()})
        data["steps"] += 1
        data["seconds"] += seconds
        data["seeds"] = [min([seed, *data["seeds"]]), max([seed, *data["seeds"]])]
        data["commit"], data["ended"] = version, now()
        self.save()


def stages():
    """Names of the modules here that are stages."""
    folder = Path(__file__).parent
    names = sorted(info.name for info in pkgutil.iter_modules([str(folder)]))
    texts = {name: (folder / f"{name}.py").read_text() for name in names if not name.startswith(("_", "test_"))}
    return [name for name, text in texts.items() if "\nTARGETS = {" in text and "\ndef step(env" in text]


def one_step(stage, env, seed):
    try:
        return stage.step(env, seed) or {}
    except KeyboardInterrupt:
        raise
    except BaseException:
        return {"findings": [f"seed {seed}: the step itself failed: {traceback.format_exc(limit=-4)}"], "failed steps": 1}


def run_stage(stage, state, env, words, version):
    """False: it could not be prepared."""
    env.counts, env.targets = state.data["counts"], state.data["targets"]
    begin, steps, failed = time.monotonic(), 0, 0
    first = env.seed + (0 if words.given else state.data["steps"])
    try:
        if hasattr(stage, "prepare"):
            stage.prepare(env)
        while not state.done() or words.steps:
            if words.steps and steps >= words.steps or words.seconds and time.monotonic() - begin >= words.seconds or failed >= 5:
                break
            seed, at = first + steps, time.monotonic()
            result = one_step(stage, env, seed)
            failed = failed + 1 if "failed steps" in result else 0
            state.add(seed, time.monotonic() - at, result, version)
            steps += 1
            reached = ", ".join(f"{env.counts.get(key, 0):,.0f} of {target:,} {key}" for key, target in env.targets.items())
            say(f"{state.name}: seed {seed}: {reached if len(reached) < 300 else f'step {steps}'}")
    except KeyboardInterrupt:
        raise
    except Exception:
        say(f"{state.name}: cannot be run: {traceback.format_exc(limit=-4)}")
        return False
    finally:
        if hasattr(stage, "finish"):
            stage.finish(env)
    return True


# The page.

def number(value):
    return f"{value:,.0f}"


def table_of(state):
    data = state.data
    lines = ["| | reached | target |", "|---|---|---|"]
    for key in [*data["targets"], *sorted(set(data["counts"]) - set(data["targets"]))]:
        target = data["targets"].get(key)
        lines.append(f"| {key} | {number(data['counts'].get(key, 0))} | {number(target) if target else ''} |")
    return lines


def section(state):
    data, left = state.data, state.open_findings()
    verdict = "all targets reached" if state.done() else "under way"
    seeds = f", seeds {data['seeds'][0]} to {data['seeds'][1]}" if data["seeds"] else ""
    lines = [f"## {state.name}: {verdict}, {len(left)} open finding{'' if len(left) == 1 else 's'}", "",
             f"{data.get('about', '')}\n" if data.get("about") else "",
             f"{number(data['steps'])} steps in {number(data['seconds'])} s{seeds}; commit {data['commit'] or 'none'}, "
             f"{data['began']} to {data['ended'] or data['began']} UTC.", "", *table_of(state), ""]
    for i, finding in enumerate(data["findings"]):
        text = finding["text"].strip().splitlines()[0][:300].replace("|", "\\|")
        lines.append(f"- {state.name}:{i} (seed {finding['seed']}, {finding['commit']}): {text}"
                     + (f" **Mended:** {finding['mended']}" if finding.get("mended") else " **Open.**"))
    return "\n".join(line for line in [*lines, ""] if line is not None)


def page(states):
    head = """# Trust

What `make torture` has shown, written by it (`tests/torture`). Counts add up over runs; each stage says which seeds it had, so that any step can be
done again: `python3 -m tests.torture --stage NAME --seed N --steps 1`. `make check` runs a slice of each with a seed of its own.

| stage | steps | seconds | open findings | mended | commit | date |
|---|---|---|---|---|---|---|
"""
    rows = []
    for state in states:
        data, left = state.data, len(state.open_findings())
        rows.append(f"| {state.name} | {number(data['steps'])} | {number(data['seconds'])} | {left} | {len(data['findings']) - left} "
                    f"| {data['commit']} | {data['ended'][:10]} |")
    return head + "\n".join(rows) + "\n\n" + "\n".join(section(state) for state in states).replace("\n\n\n", "\n\n").rstrip() + "\n"


def write_page(folder, path):
    states = [State(folder, file.stem) for file in sorted(Path(folder).glob("*.json"))]
    if states:
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(page([state for state in states if state.data["steps"]]))
        part.replace(path)


def mend(folder, where, text):
    name, _, i = where.partition(":")
    state = State(folder, name)
    state.data["findings"][int(i)]["mended"] = text
    state.save()


def parse(argv):
    parser = argparse.ArgumentParser(prog="python3 -m tests.torture")
    parser.add_argument("--stage", nargs="+", action="extend", default=[])
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--state", type=Path)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--mended", nargs=2)
    words = parser.parse_args(argv)
    words.given = words.seed is not None or bool(os.environ.get("PRELUX_SEED"))
    if words.seed is None:
        words.seed = int(os.environ.get("PRELUX_SEED") or time.time())
    return words


def main(argv, modules=None):
    """modules: {name: module}, the stages where tests bring their own."""
    words = parse(argv)
    build = (ROOT / os.environ.get("PRELUX_BUILD", "build")).resolve()
    folder = words.state or build / "torture"
    if words.mended:
        mend(folder, *words.mended)
        write_page(folder, words.page)
        return 0
    known = list(modules or stages())
    unknown = [name for name in words.stage if name not in known]
    if unknown:
        sys.exit(f"unknown stage {unknown[0]}; there are: {' '.join(known)}")
    version, wrong = commit(), []
    for name in words.stage or known:
        stage = modules[name] if modules else importlib.import_module(f"tests.torture.{name}")
        state = State(folder, name)
        state.data["targets"] = dict(stage.TARGETS)
        state.data["about"] = (stage.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
        if state.done() and not words.steps:
            say(f"{name}: all targets are reached")
        else:
            env = Env(build, Path(tempfile.mkdtemp(prefix=f"prelux-torture-{name}-")), words.seed)
            try:
                if not run_stage(stage, state, env, words, version):
                    wrong.append(f"{name} cannot be run")
            finally:
                shutil.rmtree(env.tmp, ignore_errors=True)
                write_page(folder, words.page)
        wrong += [f"{name}:{state.data['findings'].index(finding)} {finding['text']}" for finding in state.open_findings()]
    for line in wrong:
        say(f"FINDING {line}")
    say(f"{len(wrong)} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
