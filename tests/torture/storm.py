"""Storm: six programs replace, append to, remove and read a few files at once, while another client replaces others and daemons are killed. Close-to-open, by what each step says of its
beginning and end: who opens after another program's close, rename or unlink was acknowledged sees that or something newer; always one whole version; in an appended file each record
that was acknowledged, once.

  python3 -m tests.torture.storm s3:async 7 [SECONDS]"""

import errno
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests import harness
from tests.integration.crash_rig import LOCAL, content
from tests.torture.model import ROWS, Remote
from tests.torture.storm_worker import OTHERS

TARGETS = {f"{kind} steps at once": 100_000 for kind in ROWS}
PROGRAMS = 6
SECONDS = 30
NEVER = float("inf")
DONE_BY_ANOTHER = (errno.EEXIST, errno.ENOENT)  # a daemon died in the middle: done, perhaps


class History:
    """What may be seen of one name, by intervals."""

    def __init__(self):
        self.changes = {None: (0.0, 0.0)}  # version: (begun, acknowledged); a removal is a version of its own
        self.gone = {None}

    def add(self, number, begin, end, gone=False):
        self.changes[number] = (begin, end)
        if gone:
            self.gone.add(number)

    def old(self, number, begin):
        """Another change that is surely newer and was there before `begin`; None."""
        mine = self.changes[number][1]
        return next((other for other, (begun, done) in self.changes.items() if done < begin and begun > mine), None)

    def judge(self, number, begin, end):
        """What is wrong with a read; number None: there was nothing."""
        if number is not None:
            if number not in self.changes:
                return "of no version"
            if self.changes[number][0] > end:
                return "before it was written"
            newer = self.old(number, begin)
            return f"old: {newer} was there" if newer else ""
        if any(self.changes[one][0] < end and not self.old(one, begin) for one in self.gone):
            return ""
        return "nothing, and it was there"


class Storm:
    def __init__(self, mode, seed, tmp, remote, build):
        self.kind, self.write = mode.split(":")
        self.dice, self.seed, self.remote = random.Random(f"{mode} {seed}"), seed, remote
        self.prelux = harness.Prelux(tmp, build)
        self.prelux.config({"version": 1, "backends": {"src": remote.conf},
                            "mappings": [{"local": LOCAL, "remote": "src:/", "write": self.write, "freshness": "always"}]})
        self.folder = f"storm{seed}-{time.monotonic_ns()}"
        self.stop, self.lines, self.kills = Path(tmp, "stop"), [], []
        self.foreign = {name: [] for name in OTHERS}

    def move(self, name):
        number = len(self.foreign[name]) + 1
        begin = time.monotonic()
        self.remote.write(f"{self.folder}/{name}", content(name, number, self.dice.choice([50, 300, 7000, 100_000]) + number))
        self.foreign[name].append((number, begin, time.monotonic()))

    def run(self, seconds):
        self.prelux.run(["mkdir", f"{LOCAL}/{self.folder}", f"{LOCAL}/{self.folder}/d"])
        for name in OTHERS:
            self.move(name)
        children, threads = [], []
        for who in range(1, PROGRAMS + 1):
            argv = [sys.executable, "-B", "-m", "tests.torture.storm_worker", str(who), f"{LOCAL}/{self.folder}", self.stop, str(self.seed)]
            child = self.prelux.popen(argv, bare=True, cwd=harness.ROOT, stdout=subprocess.PIPE)
            children.append(child)
            threads.append(threading.Thread(target=lambda c=child: self.lines.extend(json.loads(line) for line in c.stdout), daemon=True))
            threads[-1].start()
        harness.wait_for(lambda: len(self.lines) > 20 or any(child.poll() for child in children), 120, "the programs' first steps")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(self.dice.uniform(0.02, 0.3))
            if self.kind != "alluxio-proxy":  # there another client's change is a removal and a rename
                self.move(self.dice.choice(OTHERS))
            pid = self.dice.random() < 0.1 and self.prelux.daemon_pid()
            if pid:
                begin = time.monotonic()
                self.prelux.kill_daemon()
                self.kills.append((begin, time.monotonic()))
        self.stop.touch()
        for child, thread in zip(children, threads):
            assert child.wait(120) == 0, "a program failed, or hangs"
            thread.join(30)

    def killed_in(self, begin, end):
        return any(begin <= over and at <= end for at, over in self.kills)

    def histories(self):
        found = {name: History() for name in (*OTHERS, "l0", "l1", "d/l2")}
        for name, moves in self.foreign.items():
            for move in moves:
                found[name].add(*move)
        odd = []
        for what, name, begin, end, error, number in self.lines:
            if what not in ("replace", "unlink") or error == errno.ENOENT and what == "unlink" and not self.killed_in(begin, end):
                continue
            if error and not (error in DONE_BY_ANOTHER and self.killed_in(begin, end)):
                odd.append(f"{what} {name}: {errno.errorcode[error]}")
            found[name].add(number, begin, NEVER if error else end, what == "unlink")
        return found, odd

    def judge(self):
        found, odd = self.histories()
        appended = {number: (begin, NEVER if error else end) for what, _, begin, end, error, number in self.lines if what == "append"}
        for what, name, begin, end, error, result in self.lines:
            if error and (error != errno.ENOENT or what == "append"):
                odd.append(f"{what} {name}: {errno.errorcode[error]}")
            elif what == "read":
                wrong = result if isinstance(result, str) else found[name].judge(result, begin, end)
                if wrong:
                    odd.append(f"read {name}: {result}: {wrong}")
            elif what == "log" and not error:
                odd += self.judge_log(result, appended, begin)
            elif what == "list" and not set(OTHERS) <= set(result or []):
                odd.append(f"listing without {OTHERS}: {result}")
        return odd, found, appended

    def judge_log(self, text, appended, begin):
        numbers = [int(one) for one in text.split("|")[:-1]]
        lost = [number for number, (_, end) in appended.items() if end < begin and number not in numbers]
        if len(text) % 10 or len(set(numbers)) != len(numbers) or set(numbers) - set(appended) or lost:
            return [f"log of {len(text)} bytes: lost {lost[:9]}, of nobody {sorted(set(numbers) - set(appended))[:9]}, {len(numbers) - len(set(numbers))} twice"]
        return []

    def afterwards(self, found, appended):
        """On the remote is what is here, and of each name the last."""
        done = self.prelux.cli("flush", "--timeout", "60", check=False, timeout=120)
        left = self.prelux.cli("pending", "list", "--json")["files"]
        odd = [f"flush {done.returncode}: {done.stderr} {left}"] if done.returncode or left else []
        now = time.monotonic()
        there = self.remote.tree(self.folder)
        for name, history in found.items():
            data = there.get(name)
            number = None if data is None else int(data.split(b" ")[1])
            wrong = history.judge(number, now, now)
            if wrong or (data is not None and data != content(name, number, len(data))):
                odd.append(f"{name} on the remote: {number}: {wrong}")
        return odd + self.judge_log(there.get("log", b"").decode(), appended, now)


def work(mode, seed, seconds, tmp, remote, build=harness.BUILD):
    """(steps, findings)"""
    Path(tmp).mkdir()
    storm = Storm(mode, seed, tmp, remote, build)
    odd = []
    try:
        storm.run(seconds)
        odd, found, appended = storm.judge()
        odd += storm.afterwards(found, appended)
        storm.prelux.run(["rm", "-r", f"{LOCAL}/{storm.folder}"], check=False)
    except AssertionError as why:
        odd.append(str(why))
    records = storm.prelux.errors()[-4:]
    odd += storm.prelux.close()
    return len(storm.lines), [f"{mode} seed {seed}, {len(storm.kills)} kills: {text}\nrecords: {records}" for text in list(dict.fromkeys(odd))[:5]]


# The stage

def prepare(env):
    env.remotes = {}


def step(env, seed):
    counts, targets = getattr(env, "counts", {}), getattr(env, "targets", TARGETS)
    left = [kind for kind in ROWS if counts.get(f"{kind} steps at once", 0) < targets.get(f"{kind} steps at once", 0)] or list(ROWS)
    kind = left[seed % len(left)]
    if kind not in env.remotes:
        folder = env.tmp / f"remote-{kind}"
        folder.mkdir()
        env.remotes[kind] = Remote(kind, folder)
    tmp = env.tmp / f"step{seed}"
    done, findings = work(f"{kind}:{random.Random(seed).choice(['sync', 'async'])}", seed, SECONDS, tmp, env.remotes[kind], env.build)
    shutil.rmtree(tmp, ignore_errors=True)
    return {f"{kind} steps at once": done, "findings": findings}


def finish(env):
    for remote in env.remotes.values():
        remote.close()


def main(argv):
    with tempfile.TemporaryDirectory() as tmp:
        Path(tmp, "remote").mkdir()
        remote = Remote(argv[0].split(":")[0], Path(tmp, "remote"))
        done, findings = work(argv[0], argv[1], float(argv[2]) if len(argv) > 2 else SECONDS, Path(tmp, "run"), remote)
        remote.close()
    print(done, "steps", *findings, sep="\n")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
