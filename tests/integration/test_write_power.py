"""A power cut at every instant: what the daemon and a program did is recorded (power_rig.py), and each legal prefix of it is made again, with all that was not synced kept,
with the names of it, and without any of it. On each a daemon of another boot starts. With `async_durable: power` every close that was acknowledged before the cut reaches
the remote, nothing else ever does, and what fsync has made safe is still here.

FULL=1: every prefix at which the folder differs; else so many, at random, and those around each acknowledgement."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest


from tests.harness import wait_for
from tests.integration import power_rig
from tests.integration.crash_rig import FULL
from tests.servers.s3standin import Thing
from tests.servers.s3standin_write import S3Changing

CASES = 1_000_000 if FULL else 60
SEED = int(os.environ.get("PRELUX_TEST_SEED") or random.SystemRandom().randrange(1_000_000))
AT = "/prelux-pw"
PROBE = ".prelux~probe-"  # by which a daemon finds out what the server can
OLD = {"old": b"what was there before\n" * 40, "over": b"overwritten later\n" * 300, "target": b"renamed over later\n" * 30}
# (mapping, name, what, data): a step is a close, but for rename and unlink.
STEPS = [
    ("a", "c1", "new", b"first of c1\n" * 100),
    ("a", "log", "append", b"record 1\n"), ("b", "d1", "new", b"d1\n" * 2000), ("a", "log", "append", b"record 2\n"),
    ("a", "old", "append", b"and more\n"), ("a", "over", "over", b"new\n" * 1000),
    ("a", "safe", "fsync", b"part one\n" * 50 + b"part two\n" * 50),
    ("a", "r.new", "new", b"the new target\n" * 10), ("a", "r.new", "rename", "target"),
    ("a", "cut", "new", b"0123456789" * 500), ("a", "cut", "truncate", 1234), ("b", "gone", "new", b"gone\n"), ("b", "gone", "unlink", None),
    ("b", "d1", "append", b"d2\n"), ("a", "c1", "over", b"second of c1\n" * 10), ("a", "log", "append", b"record 3\n"), ("b", "last", "new", b"last\n"),
]
WRITER = f"""
import os, sys
AT, STEPS = {AT!r}, {STEPS!r}
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
FLAGS = dict(new=os.O_CREAT | os.O_EXCL, append=os.O_CREAT | os.O_APPEND, over=os.O_CREAT | os.O_TRUNC, fsync=os.O_CREAT)
for number, (mapping, name, what, data) in enumerate(STEPS):
    path = f"{{AT}}/{{mapping}}/{{name}}"
    if what == "rename":
        os.rename(path, f"{{AT}}/{{mapping}}/{{data}}")
    elif what == "unlink":
        os.unlink(path)
    elif what == "truncate":
        os.truncate(path, data)
    else:
        fd = os.open(path, os.O_WRONLY | FLAGS[what], 0o644)
        if what == "append":
            os.write(fd, data)
        elif what == "fsync":
            os.pwrite(fd, data[:450], 0)
            os.fsync(fd)
            os.write(out, f"synced {{number}} ".encode())
            os.pwrite(fd, data[450:], 450)
        else:
            os.pwrite(fd, data, 0)
        os.close(fd)
    os.write(out, f"done {{number}} ".encode())
"""


class Remote(S3Changing):
    """Slow at changes, so that there is something that waits; knows what it held when."""

    def __init__(self, before):
        super().__init__()
        self.objects = {name.encode(): Thing(data) for name, data in before.items()}
        self.slow, self.wrote = 0.03, []  # (when, name, data)
        self.moments = [(0.0, dict(self.objects))]

    def store(self, key, body, fields, etag=None):
        thing = super().store(key, body, fields, etag)
        self.wrote.append((time.time(), key.decode(), bytes(body)))
        return thing

    def thing(self, request, key):
        if request.method in ("PUT", "DELETE"):
            time.sleep(self.slow)
        answer = super().thing(request, key)
        if request.method in ("PUT", "DELETE"):
            with self.lock2:
                self.moments.append((time.time(), dict(self.objects)))
        return answer

    def at(self, when):
        return next(dict(objects) for moment, objects in reversed(self.moments) if moment <= when)


def configuration(prelux, cache, a, b, name, turned=False):
    backends = {one: {"type": "s3", "endpoint": remote.url, "bucket": "data", "access_key": "AK", "secret_key": "SK", "region": "us-east-1", "multipart_threshold": "64MiB"}
                for one, remote in (("a", a), ("b", b))}
    mappings = [{"local": f"{AT}/{one}", "remote": f"{one}:/", "write": "async", "async_durable": "power"} for one in "ab"]
    if turned:  # who comes first decides nothing
        backends, mappings = dict(reversed(backends.items())), mappings[::-1]
    return prelux.config({"version": 1, "cache": {"dir": str(cache)}, "backends": backends, "mappings": mappings}, name=name)


def record(prelux, a, b):
    """All calls, in order."""
    cache, program = prelux.tmp / "then", prelux.tmp / "writer.py"
    configuration(prelux, cache, a, b, "then.yaml")
    program.write_text(WRITER)
    script = (f'"$0" --foreground & while ! test -S {prelux.runtime}/sock; do sleep 0.02; done; '
              f'LD_PRELOAD={prelux.library} PRELUX_CONFIG={prelux.config_path} python3 -I -S {program} {prelux.tmp}/noted; '
              f'{prelux.exe} --config {prelux.config_path} flush; sleep 0.3; kill -9 $!; wait')
    done = subprocess.run([*power_rig.STRACE, prelux.tmp / "trace", "bash", "-c", script, prelux.daemon_exe], env=prelux._merged(None), cwd=prelux.tmp,
                          capture_output=True, text=True, timeout=100)
    if "ptrace" in done.stderr or not (prelux.tmp / "trace").exists():
        pytest.skip(f"nothing may be traced here: {done.stderr[-300:]}")
    noted = (prelux.tmp / "noted").read_text()
    assert noted.split()[-1] == str(len(STEPS) - 1), f"{noted}{done.stderr}"
    return cache, power_rig.read_trace(prelux.tmp / "trace")


def held(mapping):
    """[{name: bytes}]: what the mapping's remote should hold after none, one, two, ... steps."""
    now = dict(OLD) if mapping == "a" else {}
    states = [dict(now)]
    for where, name, what, data in STEPS:
        if where == mapping:
            if what == "rename":
                now[data] = now.pop(name)
            elif what == "unlink":
                del now[name]
            elif what == "truncate":
                now[name] = now[name][:data]
            else:
                now[name] = now.get(name, b"") + data if what == "append" else data
        states.append(dict(now))
    return states


HELD = {"a": held("a"), "b": held("b")}
VERSIONS = {one: {(name, data) for state in HELD[one] for name, data in state.items()} for one in "ab"}


class Cut:
    """The instant behind a call: what was acknowledged, what the remotes held."""

    def __init__(self, number, when, done, synced, disk):
        self.number, self.when, self.done, self.synced, self.disk = number, when, done, synced, disk


def wrong(cut, mapping, objects):
    """What is wrong with what a remote holds in the end. A step that was under way may have happened; a rename and an unlink need not have lasted."""
    found = {key.decode(): thing.body for key, thing in objects.items() if not key.decode().startswith(PROBE)}
    under_way = STEPS[cut.done] if cut.done < len(STEPS) else None
    bad = []
    for name in set(HELD[mapping][-1]) | set(found) | set(HELD[mapping][cut.done]):
        allowed = {HELD[mapping][cut.done].get(name), HELD[mapping][min(cut.done + 1, len(STEPS))].get(name)}
        for i, (where, one, what, data) in enumerate(STEPS[:cut.done + 1]):
            if where == mapping and what in ("rename", "unlink") and name in (one, data):
                allowed |= {HELD[mapping][i].get(name), HELD[mapping][i + 1].get(name)}
        if found.get(name) not in allowed:
            bad.append((name, found.get(name, b"nothing")[:60], len(found.get(name, b"")), f"under way: {under_way and under_way[:3]}"))
    return bad


class Replay:
    def __init__(self, prelux, a, b, root):
        self.prelux, self.remotes, self.root = prelux, {"a": a, "b": b}, root
        self.boot = prelux.tmp / "boot_id"
        self.starts = 0

    def daemon(self):
        """One of another boot, as far as it can tell."""
        self.boot.write_text("00000000-0000-4000-8000-%012d\n" % self.starts)
        script = f'mount --bind {self.boot} /proc/sys/kernel/random/boot_id && exec "$0" --foreground'
        return subprocess.Popen(["unshare", "-m", "sh", "-c", script, self.prelux.daemon_exe], env=self.prelux._merged(None), stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def run(self, cut, model):
        """What is wrong, or ""."""
        prelux, cache = self.prelux, self.prelux.tmp / f"cut{self.starts}"
        self.starts += 1
        cut.disk.make(cache, model)
        for remote in self.remotes.values():
            remote.slow, remote.objects, remote.wrote, remote.uploads = 0, remote.at(cut.when), [], {}
        configuration(prelux, cache, self.remotes["a"], self.remotes["b"], f"cut{self.starts}.yaml", turned=self.starts % 2 == 1)
        daemon = self.daemon()
        try:
            return self.judge(cut, daemon, cache)
        finally:
            daemon.kill()
            daemon.wait()
            wait_for(lambda: not prelux.daemons(), 10, "the daemon's end")
            shutil.rmtree(cache)

    def judge(self, cut, daemon, cache):
        prelux = self.prelux
        wait_for(lambda: prelux.daemon_pid() == daemon.pid or daemon.poll() is not None, 20, "the daemon")
        done = prelux.run(["ls", f"{AT}/a", f"{AT}/b"], check=False)
        if daemon.poll() is not None or done.returncode:
            return f"no start: {done.returncode} {done.stderr}"
        flush = prelux.cli("flush", "--timeout", "20", check=False, timeout=60)
        for one, remote in self.remotes.items():
            odd = [(name, data[:60], len(data)) for _, name, data in remote.wrote
                   if (name, data) not in VERSIONS[one] and not name.startswith(PROBE)]
            if odd:
                return f"{one}: sent, and no version: {odd}"
            bad = wrong(cut, one, remote.objects)
            if bad:
                return f"{one}: {bad}; flush: {flush.returncode} {flush.stderr}"
        if cut.synced and not self.kept(cache, STEPS[cut.synced][3][:450]):
            return "what was synced is gone"
        return ""

    def kept(self, cache, data):
        """Somewhere on this node, or on the remote."""
        files = [path for name in ("staging", "recovered") for path in (cache / ".prelux" / name).glob("*")]
        return any(path.read_bytes().startswith(data) for path in files) or any(
            thing.body.startswith(data) for thing in self.remotes["a"].objects.values())


def cuts_of(root, noted, rows):
    """Yields a Cut behind each call that changed the folder or acknowledged a step; its disk is valid until the next."""
    disk, done, synced = power_rig.Disk(root), 0, None
    for number, (when, call, args, result) in enumerate(rows):
        told = call == "write" and args[0][1] == str(noted)
        if told:
            words = args[1].decode().split()
            synced = int(words[1]) if words[0] == "synced" else synced
            done = int(words[1]) + 1 if words[0] == "done" else done
        disk.do(call, args, result)
        if told or str(root) in str(args):
            yield Cut(number, when, done, synced, disk), told


def chosen(root, noted, rows):
    """{(number of a call, model)}"""
    last, points, around = {}, [], set()
    before = []
    for cut, told in cuts_of(root, noted, rows):
        for model in power_rig.MODELS:
            print_ = fingerprint(cut.disk.top, model), cut.done
            if last.get(model) != print_:
                points.append((cut.number, model))
                last[model] = print_
        before = [*before[-1:], cut.number]
        if told:
            around |= {(number, model) for number in before for model in power_rig.MODELS}
    points = sorted(set(points) | around)
    dice = random.Random(SEED)
    if len(points) <= CASES:
        return set(points), len(points)
    picked = set(dice.sample(sorted(around), min(len(around), CASES // 2)))
    return picked | set(dice.sample(sorted(set(points) - picked), CASES - len(picked))), len(points)


def fingerprint(node, model):
    if not node.folder:
        return hash(bytes(node.shown(model)))
    return hash(tuple((name, fingerprint(child, model)) for name, child in sorted(node.shown(model).items())))


@pytest.mark.slow
@pytest.mark.limit(3600 if FULL else 240)
def test_every_prefix(prelux):
    probe = subprocess.run(["unshare", "-m", "sh", "-c", f"mount --bind {prelux.home} /proc/sys/kernel"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no mount namespaces here: {probe.stderr.strip()}")
    print(f"PRELUX_TEST_SEED={SEED}")
    with Remote(OLD) as a, Remote({}) as b:
        root, rows = record(prelux, a, b)
        assert_whole(root, rows)
        for one, remote in (("a", a), ("b", b)):
            assert {key.decode(): thing.body for key, thing in remote.objects.items()} == HELD[one][-1]
        noted = prelux.tmp / "noted"
        points, of = chosen(root, noted, rows)
        replay = Replay(prelux, a, b, root)
        for cut, _ in cuts_of(root, noted, rows):
            for model in power_rig.MODELS:
                if (cut.number, model) in points:
                    text = replay.run(cut, model)
                    assert not text, f"seed {SEED}, behind call {cut.number} ({tale(rows, cut.number)}), {model}, {cut.done} steps done: {text}\n{prelux.story()}"
        print(f"{replay.starts} power cuts of {of}, {len(rows)} calls")


def tale(rows, number):
    return "; ".join(f"{call} {[one if not isinstance(one, bytes) else one[:40] for one in args]}" for _, call, args, _ in rows[max(0, number - 1):number + 1])


def assert_whole(root, rows):
    """The record says what really is there."""
    disk = power_rig.Disk(root)
    for _, call, args, result in rows:
        disk.do(call, args, result)
    for folder, _, names in os.walk(root):
        for name in names:
            node = disk.find(os.path.join(folder, name))
            assert node and bytes(node.content) == Path(folder, name).read_bytes(), name
