"""The crash matrix: a program that writes, the daemon, or both are killed (-9) at random instants. Whatever a program was told is done is on the remote in the end,
another client sees whole versions only, at any time, and the next use of the mapping is all that is needed afterwards.

The program notes each step in a file of its own before it begins and when it is done. What a program that is killed has open then is kept, not sent (`on_crash: recover`): the remote
has what it had before. Unless that was `async`, had been closed, and was not sent yet: then the new bytes go with it, or, when the program has cut the file since, the remote has
an older version. A daemon that is killed leaves nothing of that kind: a new, empty file at most, of whose making nobody may have heard.

FULL=1: 1,000 instants instead of 60. PRELUX_TEST_SEED: another row of instants (the seed is printed)."""

import collections
import os
import random
import signal
import time

import pytest

from tests.harness import ROOT, alive, wait_for
from tests.integration import crash_rig
from tests.integration.crash_rig import CONTENT, FULL, LOCAL, Observer, content, mapped, peek, remote_of, seen

INSTANTS = int(os.environ.get("PRELUX_TEST_KILLS") or (1000 if FULL else 60))
SEED = int(os.environ.get("PRELUX_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
MODES = [f"{kind}-{write}" for kind in ("file", "versitygw", "azurite") for write in ("async", "sync")]
RECORD = 64  # bytes: a write() of so much is never torn
LARGE = (64 << 20) + 5_000_000  # in parts
# What is done, and how long after its beginning the kill comes, at most.
SPANS = {"create": 0.05, "append": 0.05, "rename": 0.06, "truncate": 0.05, "upload": 0.12, "multipart": 1.6}

WRITER = CONTENT + """
import os, sys, time
lake, log, kind, first, stop = sys.argv[1:]
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
number = int(first)

def note(*words):
    os.write(out, (" ".join(map(str, words)) + chr(10)).encode())

def step(what, name, size, act):
    note("begin", number, what, name, size)
    try:
        act()
    except FileExistsError:
        note("exists", number, what, name)
        return False
    except OSError as error:
        note("fail", number, what, name, error.errno)
        sys.exit(1)
    note("done", number, what, name)
    return True

def put(name, flags, data):
    def act():
        fd = os.open(lake + "/" + name, flags | os.O_WRONLY, 0o644)
        try:
            at = 0
            while at < len(data):
                at += os.write(fd, data[at:])
        finally:
            os.close(fd)
    return act

NEW, OVER = os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC
while not os.path.exists(stop):
    number += 1
    size = 64 + number * 7919 % 9000
    if kind == "create":
        step("put", f"c{number}", size, put(f"c{number}", NEW, content(f"c{number}", number, size)))
    elif kind == "append":
        name = f"log{number // 50 % 3}"
        step("append", name, 64, put(name, os.O_CREAT | os.O_APPEND, f"{number:063}".encode() + b"|"))
    elif kind == "rename":
        name, new = f"r{number % 3}", f"r{number}.new"
        if step("put", new, size, put(new, NEW, content(name, number, size))):
            step("rename", name, size, lambda: os.rename(lake + "/" + new, lake + "/" + name))
    elif kind == "truncate":
        name = f"t{number % 3}"
        step("put", name, 8000, put(name, OVER, content(name, number, 8000)))
        step("cut", name, 64 + number * 131 % 7900, lambda: os.truncate(lake + "/" + name, 64 + number * 131 % 7900))
    else:
        name, size = (f"u{number % 3}", 2_000_000 + number) if kind == "upload" else (f"m{number % 2}", %d + number)
        step("put", name, size, put(name, OVER, content(name, number, size)))
""".replace("%d", str(LARGE))


class Step:
    def __init__(self, number, what, name, size):
        self.number, self.what, self.name, self.size = number, what, name, size
        self.done = False
        self.killed = set()  # who died in it
        self.exists = False  # O_EXCL was refused: right, when a daemon died that may have made the file for it (docs/SEMANTICS.md)

    def of(self):
        return self.name.removesuffix(".new") if self.what != "put" or not self.name.endswith(".new") else f"r{self.number % 3}"

    def whole(self):
        """What the file holds afterwards."""
        size = 8000 if self.what == "cut" else self.size
        return content(self.of(), self.number, size)[:self.size]

    def part_of(self, data):
        """Is it what may be seen of a step that was cut short? A killed daemon's: what the open has made."""
        return "daemon" in self.killed and data == b"" and self.what == "put"

    def half_of(self, data):
        """Is it what a killed program may leave?"""
        return "writer" in self.killed and (self.whole().startswith(data) or (self.what == "cut" and data == content(self.of(), self.number, 8000)))


class Story:
    """What the programs have noted."""

    def __init__(self, log):
        self.log, self.at = log, 0
        self.steps = []
        self.by_name = collections.defaultdict(list)
        self.failed = []
        self.kept = set()  # names of which a killed program has left a half here, in a mapping that sends later

    def read(self):
        """The new lines; the step that is under way, or None."""
        text = self.log.read_bytes()[self.at:] if self.log.exists() else b""
        text = text[:text.rfind(b"\n") + 1]
        self.at += len(text)
        for line in text.decode().splitlines():
            words = line.split()
            if words[0] == "begin":
                one = Step(int(words[1]), words[2], words[3], int(words[4]))
                self.steps.append(one)
                self.by_name[one.name].append(one)
            elif words[0] == "done":
                self.steps[-1].done = True
            elif words[0] == "exists":
                self.steps[-1].exists = True
            else:
                self.failed.append(line)
        return self.steps[-1] if self.steps and not self.steps[-1].done and not self.steps[-1].exists else None

    def number(self):
        return self.steps[-1].number if self.steps else 0

    # Judging

    def records(self, name, data):
        """What is wrong with an appended file."""
        if len(data) % RECORD:
            return f"{len(data)} bytes"
        numbers = [int(data[at:at + RECORD - 1]) for at in range(0, len(data), RECORD)]
        known = {step.number for step in self.by_name[name]}
        if numbers != sorted(set(numbers)) or set(numbers) - known:
            return f"not a row of records: {numbers[-60:]}"
        return ""

    def may_be(self, name, data):
        """Was it ever a whole version of that name?"""
        if data is None:
            return True
        if name.startswith("log"):
            return not self.records(name, data)
        return any(data == step.whole() or step.part_of(data) for step in self.by_name[name] if abs(step.size - len(data)) < 1 or step.killed)

    def wrong(self, name, data):
        """What is wrong with it, after all that was acknowledged so far has been sent; "" for nothing."""
        steps = self.by_name[name]
        if name.startswith("log"):
            missing = [step.number for step in steps if step.done and f"{step.number:063}|".encode() not in (data or b"")]
            return f"acknowledged and not there: {missing}" if missing else self.records(name, data or b"")
        if name.endswith(".new"):
            return self.wrong_new(steps[-1], data)
        last = max((i for i, step in enumerate(steps) if step.done), default=None)
        if last is None:
            return "" if data is None or any(data == step.whole() or step.part_of(data) for step in steps) else "of no version"
        if data is None:
            lost = name in self.kept and any("writer" in step.killed for step in steps[last + 1:])
            return "" if lost else f"{steps[last].number} was acknowledged, nothing is there"
        if any(data == step.whole() or (step.killed and step.part_of(data)) for step in steps[last:]):
            return ""
        other = [step.number for step in steps if data == step.whole()]
        if name in self.kept and other and any("writer" in step.killed for step in steps[last + 1:]):
            return ""
        return f"{steps[last].what} {steps[last].number} was acknowledged, {len(data)} bytes of {other or 'none'} are there"

    def wrong_new(self, put, data):
        """A name that is renamed at once."""
        rename = next((step for step in self.by_name[put.of()] if step.number == put.number and step.what == "rename"), None)
        if rename and rename.done:
            return "" if data is None else "renamed, and there all the same"
        if not put.done:
            return "" if data is None or data == put.whole() or put.part_of(data) else "of no version"
        if data is None:
            there = peek(self.remote, put.of())
            return "" if rename and any(there == step.whole() for step in self.by_name[put.of()] if step.number >= put.number) else "acknowledged, and nowhere"
        return "" if data == put.whole() else "another version"


class Matrix:
    def __init__(self, prelux, remote, seed, write):
        self.prelux, self.remote, self.write = prelux, remote, write
        self.dice = random.Random(seed)
        self.story = Story(prelux.tmp / "noted")
        self.story.remote = remote
        self.stop = prelux.tmp / "stop"
        self.kills = collections.Counter()
        self.program = prelux.tmp / "writer.py"
        self.program.write_text(WRITER)
        self.recent, self.parts_met, self.kept, self.settled = [], 0, 0, 0

    def writer(self, kind):
        self.stop.unlink(missing_ok=True)
        argv = ["/usr/bin/env", "python3", self.program, LOCAL, self.story.log, kind, str(self.story.number()), self.stop]
        child = self.prelux.popen(argv, bare=True)
        begun = len(self.story.steps)
        wait_for(lambda: self.story.read() and len(self.story.steps) > begun or child.poll() is not None, 60, "the program's first step")
        return child

    def kill(self, whom, child):
        """kill -9, in the order of `whom`; the step that it met."""
        for one in whom:
            pid = child.pid if one == "writer" else self.prelux.daemon_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: not alive(pid) if one == "daemon" else child.wait() is not None, 30, f"the end of the {one}")
            self.kills[one] += 1
        met = self.story.read()
        for step in self.story.steps[-3:]:  # the one before may have ended while the kill was on its way
            step.killed |= set(whom) if step is met or "daemon" in whom else set()
        for step in self.story.steps[self.settled:]:  # the daemon may not have come to judge that yet
            step.killed |= {"daemon"} & set(whom) if "writer" in step.killed and not step.done else set()
        return met

    def instant(self, kind, whom):
        child = self.writer(kind)
        time.sleep(self.dice.uniform(0, SPANS[kind]))
        if "daemon" in whom:
            wait_for(self.prelux.daemon_pid, 30, "a daemon")
        before = len(self.story.steps)
        met = self.kill(whom, child)
        self.parts_met += kind == "multipart" and "daemon" in whom
        self.recent.append((kind, whom, met and (met.number, met.what, met.name)))
        if "writer" not in whom:
            time.sleep(self.dice.uniform(0, 0.05))
            self.stop.touch()
            assert child.wait(60) == 0, self.tale()
            self.story.read()
        assert not self.story.failed, self.tale()
        assert all(step.done or step is met or step.killed for step in self.story.steps[before:]), self.tale()
        assert all("daemon" in step.killed for step in self.story.steps[before:] if step.exists), self.tale()
        if self.write == "sync" and "writer" not in whom:
            self.look({step.name for step in self.story.steps[-4:]}, "told that it is there")

    def look(self, names, why):
        wrong = {name: text for name in names if (text := self.story.wrong(name, peek(self.remote, name)))}
        assert not wrong, f"{why}: {str(wrong)[:3000]}\n{self.tale()}"

    def settle(self):
        """The next use, and time: no more is needed."""
        self.prelux.run(["ls", LOCAL])
        self.clear()
        done = self.prelux.cli("flush", "--timeout", "60", check=False, timeout=120)
        assert done.returncode == 0, f"{done.stderr}\n{self.tale()}"
        self.look(list(self.story.by_name), "all that waited is sent")
        self.settled = len(self.story.steps)

    def clear(self):
        """What killed programs have left is kept with its bytes; a person gives it up."""
        def rows(state):
            return [row for row in self.prelux.cli("pending", "list", "--json")["files"] if row["state"] == state]
        wait_for(lambda: not rows("open"), 30, "nothing is open")
        for row in rows("recovered"):
            name, out = row["path"].rpartition("/")[2], self.prelux.tmp / "kept"
            self.prelux.cli("pending", "export", row["id"], out)
            data = out.read_bytes()
            out.unlink()
            right = not self.story.records(name, data) if name.startswith("log") else any(step.half_of(data) for step in self.story.by_name[name])
            assert right, f"{name}: {len(data)} bytes are kept that nobody wrote\n{self.tale()}"
            self.prelux.cli("pending", "drop", row["id"])
            self.kept += 1
            if self.write == "async":
                self.story.kept.add(name)

    def tale(self):
        """For messages."""
        lines = [f"seed {SEED}", *map(str, self.recent[-12:]), *self.story.failed]
        lines += [f"{step.number} {step.what} {step.name} {step.size} done={step.done} {sorted(step.killed)}" for step in self.story.steps[-12:]]
        return "\n".join(lines) + "\n" + self.prelux.story()


def rounds(mode):
    """This mode's share of all instants: (what is done, who is killed), every pair about as often."""
    pairs = [(kind, whom) for whom in (("daemon",), ("writer",), ("writer", "daemon"), ("daemon", "writer")) for kind in SPANS]
    share = len(range(MODES.index(mode), INSTANTS, len(MODES)))
    start = MODES.index(mode) * 5
    return [pairs[(start + i) % len(pairs)] for i in range(share)]


def exercise(prelux, mode, seed, pairs):
    """The Matrix after all these instants, and another client."""
    kind, write = mode.split("-")
    with remote_of(kind, prelux.tmp) as remote:
        mapped(prelux, remote, write=write)
        prelux.run("true")
        matrix = Matrix(prelux, remote, f"{seed} {mode}", write)
        other = Observer(remote, lambda name, data: data is None or name.startswith("log") and not len(data) % RECORD or
                         matrix.story.may_be(name, data), lambda name: name.startswith("m"))
        other.start()
        try:
            for number, (what, whom) in enumerate(pairs):
                matrix.instant(what, whom)
                other.names = [name for name in list(matrix.story.by_name)[-12:]]
                if number % 10 == 9:
                    matrix.settle()
            matrix.settle()
        finally:
            other.end()
        odd = [(name, len(data), data[:80]) for name, data in other.odd if not matrix.story.may_be(name, data)]
        assert not odd, f"another client saw what was no version: {odd[:20]}\n{matrix.tale()}"
        there = seen(remote)
        assert not set(there) - set(matrix.story.by_name), "names that nobody made"
        # One that was begun and not noted yet when the daemon died is removed when it has been idle for a day.
        assert remote.uploads() <= matrix.parts_met or kind == "versitygw", "uploads that nobody goes on with"
        listed = prelux.run(["ls", "-A", LOCAL]).stdout.split()
        assert set(listed) == set(there), matrix.tale()
        assert not os.listdir(prelux.cache / ".prelux/recovered"), matrix.tale()
        wait_for(lambda: not os.listdir(prelux.cache / ".prelux/staging"), 30, "what was made ahead is gone too")
    return matrix, other


@pytest.mark.slow
@pytest.mark.limit(3600 if FULL else 240)
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_random_instants(prelux, mode):
    print(f"PRELUX_TEST_SEED={SEED}")
    matrix, other = exercise(prelux, mode, SEED, rounds(mode))
    print(f"{dict(matrix.kills)} kills, {len(matrix.story.steps)} steps, {sum(not step.done for step in matrix.story.steps)} cut short, "
          f"{matrix.kept} kept, {other.looks} looks of another client")
    assert other.looks > 0 and any(not step.done for step in matrix.story.steps), "the kills met little"
