"""Model test: three processes do random operations in a mapping of each backend, and their twins the same in a plain folder. Another client changes the remote, daemons
and programs are killed, requests fail. Every answer must be the plain folder's, and so must the remote at each rest.

  python3 -m tests.torture.model file:sync:always 7         the operations of seed 7
  python3 -m tests.torture.model file:sync:always LIST.json a list, as a failure prints it

Operations are done one at a time, so that the plain folder knows the answer; close-to-open between processes that run at once is judged by storm.py. What another client does is done
in the plain folder as a rename over the name, at the same place in the row. With `freshness: max_age` its files are evicted then: only so is a new version promised. Left out, because no
plain folder could tell what is right: another client's change of a file that is being written here (test_write_two_nodes.py), and SIGKILL of a program that has a file open for writing
(kills.py)."""

import contextlib
import errno
import itertools
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

from tests import harness
from tests.integration import contract_remotes
from tests.integration.crash_rig import LOCAL
from tests.s3client import encode
from tests.servers.faultproxy import FaultProxy
from tests.torture.model_ops import PROCESSES, operations
from tests.torture.model_worker import MODES, content
from tests.torture.shrink import shrink

ROWS = {"file": "file", "s3": "versitygw", "azure": "azurite", "alluxio-proxy": "alluxio-proxy"}
TARGETS = {kind: 100_000 for kind in ROWS}
LENGTH = 150          # operations in one list
STEP_SECONDS = 40
ANSWER_SECONDS = 90
NUMBERS = itertools.count(1)  # of lists: each has a folder of its own on the remote
CHANGING = {"put", "truncate", "rename", "noreplace", "unlink", "mkdir", "rmdir", "symlink", "open", "linkat", "link"}
BEHIND = {"forkwrite", "forkend", "forkhold", "execwrite", "unmap", "mapstore", "dup2", "map"}  # what is sent for them is sent when the call is over
FAULTS = {"reset": dict(reset_after=0), "closed": dict(close_unanswered=True), "500": dict(status=500), "503": dict(status=503), "cut": dict(reset_after=40)}


class Differs(AssertionError):
    """The mapping and the model do not agree."""


class Remote:
    """One of contract_remotes.py, with what the model needs beside: removal, and a proxy that fails when told."""

    def __init__(self, kind, tmp):
        self.kind = kind
        row = {row.name: row for row in contract_remotes.KINDS}[ROWS[kind]]
        self.caps, self.stack = row.caps, contextlib.ExitStack()
        self.inner = self.stack.enter_context(row.make(tmp))
        self.conf, self.proxy = dict(self.inner.conf), None
        key = {"s3": "endpoint", "azure": "endpoint", "alluxio-proxy": "url"}.get(kind)
        if key:
            parts = urllib.parse.urlsplit(self.conf[key])
            self.proxy = self.stack.enter_context(FaultProxy(f"{parts.hostname}:{parts.port}"))
            self.conf[key] = parts._replace(netloc=urllib.parse.urlsplit(self.proxy.url).netloc).geturl()

    def write(self, path, data):
        self.inner.write(path, data)

    def remove(self, path):
        if self.kind == "file":
            os.unlink(self.inner.at(path))
        elif self.kind == "s3":
            assert self.inner.client.request("DELETE", f"/data/{encode(path, b'/')}")[0] == 204
        elif self.kind == "azure":
            assert self.inner.request("DELETE", path)[0] == 202
        else:
            assert self.inner.call("POST", path, "delete")[0] == 200

    def tree(self, folder):
        """{path below the folder: bytes, or None for a folder}"""
        top = os.fsencode(folder) + b"/"
        return {os.fsdecode(path[len(top):]): data for path, data in self.inner.objects().items() if path.startswith(top) and b".prelux~" not in path}

    def close(self):
        self.stack.close()


class Process:
    """A worker: model_worker.py."""

    def __init__(self, popen):
        self.child = popen
        self.buffer = b""

    def say(self, *words):
        self.child.stdin.write(json.dumps(words).encode() + b"\n")
        self.child.stdin.flush()

    def hear(self):
        end = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self.buffer:
            if not select.select([self.child.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise Differs(f"no answer within {ANSWER_SECONDS} s")
            data = os.read(self.child.stdout.fileno(), 1 << 20)
            if not data:
                raise Differs(f"the program ended: {self.child.wait()}")
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def ask(self, *words):
        self.say(*words)
        return self.hear()

    def end(self, number):
        self.child.send_signal(number)
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


class Held:
    """What the twin in the plain folder holds open: slot -> (inode, may it be written)."""

    def __init__(self):
        self.slots, self.maps, self.children = {}, {}, {}

    def all(self):
        return [*self.slots.values(), *self.maps.values(), *(one for held in self.children.values() for one in held)]

    def follow(self, name, args, value):
        slot = args[0] if args else None
        if name in ("open", "tmpfile"):
            self.slots[slot] = (value, name == "tmpfile" or args[2] not in ("r", "d", "n"))
        elif name == "close":
            self.slots.pop(slot, None)
        elif name in ("dup", "dup2") and args[1] != slot:
            self.slots[args[1]] = self.slots[slot]
        elif name == "map":
            self.maps[slot] = (value, args[1])
        elif name == "unmap":
            self.maps.pop(slot, None)
        elif name == "forkhold":
            self.children[slot] = [*self.slots.values(), *self.maps.values()]
        elif name == "forkend":
            self.children.pop(slot, None)


class Model:
    """One set-up; runs lists of operations, each in a folder of its own."""

    def __init__(self, mode, tmp, remote, build=harness.BUILD):
        self.mode, self.remote = mode, remote
        self.kind, self.write, self.freshness = mode.split(":")[:3]
        self.prelux = harness.Prelux(tmp, build)
        self.plain_root = Path(tmp, "plain")
        self.plain_root.mkdir()
        more = dict(word.split("=") for word in mode.split(":")[3:])
        self.prelux.config({"version": 1, "backends": {"src": remote.conf}, "mappings": [
            {"local": LOCAL, "remote": "src:/", "write": self.write, "freshness": {"max_age": "1h"} if self.freshness == "max_age" else self.freshness, **more}]})
        self.prelux.run("true")
        self.done, self.lake, self.plain = 0, [], []
        self.folder, self.held, self.kill_in, self.flush_seconds = "", [], None, 60
        self.behind = False  # something may wait to be sent, also with `write: sync`

    # Workers

    def _worker(self, mapped):
        argv = [sys.executable, "-B", Path(__file__).parent / "model_worker.py", "/"]
        if mapped:
            child = self.prelux.popen(argv, bare=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        else:
            child = subprocess.Popen([str(word) for word in argv], env=self.prelux.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return Process(child)

    def _fresh_workers(self):
        for one in self.lake + self.plain:
            with contextlib.suppress(OSError):
                one.end(signal.SIGKILL)
        self.lake = [self._worker(True) for _ in range(PROCESSES)]
        self.plain = [self._worker(False) for _ in range(PROCESSES)]

    def begin(self):
        if not self.lake:
            self._fresh_workers()
        self.folder = f"s{os.getpid()}-{next(NUMBERS)}"
        self.held = [Held() for _ in range(PROCESSES)]
        self.kill_in = None
        (self.plain_root / self.folder).mkdir()
        self.lake[0].ask("reset", LOCAL)
        answer = self.lake[0].ask("mkdir", self.folder)
        if answer[0] != "ok":
            raise Differs(f"mkdir of the list's folder: {answer}")
        for roots, workers in ((LOCAL, self.lake), (self.plain_root, self.plain)):
            for one in workers:
                one.ask("reset", f"{roots}/{self.folder}")

    # One operation

    def do(self, op):
        process, name, *args = op
        if process < 0:
            getattr(self, "_" + name.replace("-", "_"))(*args)
            return
        lake = self._in_the_mapping(process, name, args)
        if name in ("link", "linkat"):
            self._judge_link(op, lake)
            return
        if name in ("rename", "noreplace") and lake == ["err", errno.EXDEV] and not self.remote.caps & contract_remotes.RENAME_DIR and self._is_folder(args[0]):
            return
        before = self.kill_in
        plain = self.plain[process].ask(name, *args)
        same = self._same(name, lake, plain)
        if not same and before is not None and name in CHANGING and plain[0] == "ok" and lake in (["err", errno.EEXIST], ["err", errno.ENOENT]):
            same = True  # done for a daemon that died then (docs/SEMANTICS.md); whether it was is seen by what comes
            if name == "open":
                lake = self.lake[process].ask("open", args[0], args[1], args[2].replace("x", "w-").replace("w-+", "r+"))
                same = lake[0] == "ok"
        if not same and before is not None and name in ("unlink", "rmdir") and [lake[0], plain] == ["ok", ["err", errno.ENOENT]]:
            same = True  # the answer to the second request was "it is gone"; who made it so nobody knows
        self.kill_in = None
        if not same:
            raise Differs(f"{op}: {lake}, in the plain folder {plain}")
        if plain[0] == "ok":
            self.held[process].follow(name, args, plain[1])

    def _in_the_mapping(self, process, name, args):
        one = self.lake[process]
        one.say(name, *args)
        self.behind |= name in BEHIND
        if self.kill_in is not None:
            time.sleep(self.kill_in / 1000)
            self._kill_daemon()
        return one.hear()

    def _same(self, name, lake, plain):
        if self.freshness != "always" and lake == ["err", errno.ENOENT] and plain == ["err", errno.ENOTDIR]:
            return True  # "Small differences"
        if name in ("open", "tmpfile", "map"):
            return lake[0] == plain[0] and (lake[0] == "ok" or lake == plain)
        if name in ("fstat", "stat", "lstat") and lake[0] == plain[0] == "ok":
            return lake[1][:2] == plain[1][:2] and (name == "fstat" or lake[1][2] == plain[1][2])
        return lake == plain

    def _judge_link(self, op, lake):
        """No hard links: EPERM, where there is no other reason against it. A file of O_TMPFILE gets its one name."""
        process, name, *args = op
        plain = self.plain[process].ask(name, *args)
        if plain[0] == "ok" and os.lstat(self._at(args[1])).st_nlink > 1:
            os.unlink(self._at(args[1]))
            plain = ["err", errno.EPERM]
        killed, self.kill_in = self.kill_in is not None, None
        if not self._same(name, lake, plain) and not (killed and plain[0] == "ok" and lake == ["err", errno.EEXIST]):
            raise Differs(f"{op}: {lake}, {plain} is right")

    def _at(self, path):
        return self.plain_root / self.folder / path

    def _is_folder(self, path):
        return self._at(path).is_dir() and not self._at(path).is_symlink()

    # The world

    def _inode(self, path):
        """Of a file that another client may change: no link on the way. None: no such file."""
        full = self._at(path)
        if os.path.realpath(full) != str(full.parent.resolve() / full.name) or full.is_dir():
            raise LookupError
        if full.parent.resolve() != full.parent or not full.parent.is_dir():
            raise LookupError
        return full.stat().st_ino if full.exists() else None

    def _may_change(self, path):
        try:
            inode = self._inode(path)
        except LookupError:
            return False
        held = [one for process in self.held for one in process.all()]
        if self.freshness != "always" and (inode is None or any(one == inode for one, _ in held)):
            return False
        writing = {one for one, may_write in held if may_write}
        if inode in writing or (writing and (self.write == "async" or self.behind)):
            return False
        if self.write == "async" or self.behind:
            self._flush()
        return True

    def _flush(self):
        done = self.prelux.cli("flush", "--timeout", str(self.flush_seconds), f"{LOCAL}/{self.folder}", check=False, timeout=120)
        if done.returncode:
            raise Differs(f"flush: {done.returncode} {done.stderr} {self.prelux.cli('pending', 'list')}")
        self.behind = False

    def _foreign(self, path, tag, size):
        if self._may_change(path):
            data = content(tag, size)
            self.remote.write(f"{self.folder}/{path}", data)
            aside = self.plain_root / "aside"
            aside.write_bytes(data)
            aside.rename(self._at(path))
            if self.freshness != "always":
                self._evict(path)

    def _foreign_remove(self, path):
        if self.freshness == "always" and self._may_change(path) and self._at(path).exists():
            self.remote.remove(f"{self.folder}/{path}")
            self._at(path).unlink()

    def _kill(self, whom):
        self.behind = True
        if whom == "daemon":
            self._kill_daemon()
            return
        held = self.held[whom]
        if held.children:
            return
        number = signal.SIGTERM if any(writing for _, writing in held.all()) else signal.SIGKILL
        for workers, mapped, root in ((self.lake, True, LOCAL), (self.plain, False, self.plain_root)):
            workers[whom].end(number)
            workers[whom] = self._worker(mapped)
            workers[whom].ask("reset", f"{root}/{self.folder}")
        self.held[whom] = Held()

    def _rest(self, process):
        """The program closes all that it has."""
        for workers, root in ((self.lake, LOCAL), (self.plain, self.plain_root)):
            workers[process].ask("reset", f"{root}/{self.folder}")
        self.held[process], self.behind = Held(), True

    def _kill_daemon(self):
        if pid := self.prelux.daemon_pid():
            os.kill(pid, signal.SIGKILL)
            harness.wait_for(lambda: not harness.alive(pid), 30, "the daemon's end")

    def _kill_in(self, ms):
        self.kill_in, self.behind = ms, True

    def _restart(self):
        if pid := self.prelux.daemon_pid():
            os.kill(pid, signal.SIGTERM)
            harness.wait_for(lambda: not harness.alive(pid), 60, "the daemon's end after SIGTERM")

    def _evict(self, path):
        """Of what a program has open nothing is dropped; a later open is of another inode then only if nobody has it."""
        done = self.prelux.cli("evict", f"{LOCAL}/{self.folder}/{path}", check=False)
        if done.returncode not in (0, 3) and "not found" not in done.stderr and self._at(path).exists():
            raise Differs(f"evict {path}: {done.returncode} {done.stderr}")

    def _fault(self, which, after):
        if self.remote.proxy and self.kind != "alluxio-proxy":
            self.remote.proxy.fault("/", **FAULTS[which], times=1)

    def _settle(self):
        """At rest the remote has what the plain folder has."""
        held = [one for process in self.held for one in process.all()]
        if any(writing for _, writing in held):
            return
        self._flush()
        wanted = self._plain_tree()
        end = time.monotonic() + 20
        while (there := self._there()) != wanted:
            if time.monotonic() > end:
                odd = {path: (None if there.get(path) is None else there[path][:24], None if wanted.get(path) is None else wanted[path][:24])
                       for path in there.keys() | wanted.keys() if there.get(path, 0) != wanted.get(path, 0)}
                raise Differs(f"on the remote, and in the plain folder: {odd}")
            time.sleep(0.05)

    def _there(self):
        return {path: data for path, data in self.remote.tree(self.folder).items() if data is not None or self.kind == "file"}

    def _plain_tree(self):
        """Links are this node's alone, and a folder may be no object."""
        found = {}
        for folder, folders, names in os.walk(self._at(".")):
            for name in folders + names:
                full = Path(folder, name)
                if not full.is_symlink() and (self.kind == "file" or not full.is_dir()):
                    found[str(full.relative_to(self._at(".")))] = None if full.is_dir() else full.read_bytes()
        return found

    # A list

    def finish(self, dice):
        """All is closed: the remote has it, and who looks anew sees it."""
        for one in (*self.lake, *self.plain):
            one.ask("reset", one is self.lake[0] and LOCAL or "/")
        self.held = [Held() for _ in range(PROCESSES)]
        self._settle()
        left = [row for row in self.prelux.cli("pending", "list", "--json")["files"] if self.folder in row["path"]]
        if left:
            raise Differs(f"left in pending: {left}")
        for act in (None, *dice.sample([self._kill_daemon, self._restart, lambda: self._evict(".")], 1)):
            if act:
                act()
            trees = [workers[0].ask("tree", f"{self.folder}" if root == LOCAL else f"{root}/{self.folder}".lstrip("/"))
                     for workers, root in ((self.lake, LOCAL), (self.plain, self.plain_root))]
            if trees[0] != trees[1]:
                raise Differs(f"at the end: {odd_ones(trees[0][1], trees[1][1]) if trees[0][0] == 'ok' else trees[0]}")
        if self.remote.proxy:
            self.remote.proxy.heal()

    def run(self, ops, seed=0):
        """Raises Differs."""
        self.begin()
        for number, op in enumerate(ops):
            try:
                self.do(op)
                self.done += 1
            except AssertionError as why:
                raise Differs(f"operation {number}: {why}") from None
        self.finish(random.Random(seed))
        self.lake[0].ask("rmtree", self.folder)
        shutil.rmtree(self._at("."))

    def fails(self, ops, seed=0):
        """"" or why."""
        try:
            self.run(ops, seed)
            return ""
        except (AssertionError, subprocess.TimeoutExpired, BrokenPipeError) as why:
            return str(why) or repr(why)
        finally:
            if self.remote.proxy:
                self.remote.proxy.heal()

    def after_failure(self):
        self._fresh_workers()
        for row in self.prelux.cli("pending", "list", "--json")["files"]:
            self.prelux.cli("pending", "drop", row["id"], check=False)

    def shrunk(self, ops, why, seed, seconds=120):
        """The failure as a text with a list that can be run."""
        records = self.prelux.errors()[-5:]
        kept, self.flush_seconds = [], 8  # what does not come in a minute does not come in these

        def still(part):
            self.after_failure()
            text = self.fails(part, seed)
            if text:
                kept.append(text)
            return bool(text)

        again = still(ops)
        short = shrink(ops, still, seconds) if again else ops
        self.after_failure()
        how = f"{len(short)} operations" if again else "not a second time; the whole list"
        return (f"{self.mode} seed {seed}: {why}\nshrunk to {how}: {kept[-1] if kept else ''}\npython3 -m tests.torture.model {self.mode} LIST.json, with\n"
                f"{json.dumps(short)}\nrecords: {records}")

    def close(self):
        for one in self.lake + self.plain:
            with contextlib.suppress(OSError):
                one.end(signal.SIGKILL)
        return self.prelux.close()


def odd_ones(got, wanted):
    return {name: (got.get(name), wanted.get(name)) for name in got.keys() | wanted.keys() if got.get(name) != wanted.get(name)}


def mode_of(kind, seed):
    """What the mapping says, by the seed."""
    dice = random.Random(f"mode {seed}")
    words = [kind, dice.choice(["sync", "async"]), dice.choice(["always", "always", "max_age"])]
    return ":".join(words + (["fsync=remote"] if dice.random() < 0.15 else []))


def work(mode, seed, seconds, tmp, remote, build=harness.BUILD, count=None, shrink_seconds=120):
    """(operations, findings) of lists until the seconds are over, or so many."""
    Path(tmp).mkdir(parents=True)
    model, findings, lists = Model(mode, tmp, remote, build), [], 0
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end and (count is None or lists < count):
            ops = operations(f"{seed}.{lists}", LENGTH)
            why = model.fails(ops, f"{seed}.{lists}")
            if why:
                findings.append(model.shrunk(ops, why, f"{seed}.{lists}", shrink_seconds))
                break
            lists += 1
    finally:
        findings += model.close()
    return model.done, findings


# The stage

def prepare(env):
    env.remotes = {}


def step(env, seed):
    counts, targets = getattr(env, "counts", {}), getattr(env, "targets", TARGETS)
    left = [kind for kind in ROWS if counts.get(kind, 0) < targets.get(kind, 0)] or list(ROWS)
    kind = left[seed % len(left)]
    if kind not in env.remotes:
        folder = env.tmp / f"remote-{kind}"
        folder.mkdir()
        env.remotes[kind] = Remote(kind, folder)
    tmp = env.tmp / f"step{seed}"
    done, findings = work(mode_of(kind, seed), seed, STEP_SECONDS, tmp, env.remotes[kind], env.build)
    if findings:
        env.remotes.pop(kind).close()
        shutil.rmtree(env.tmp / f"remote-{kind}", ignore_errors=True)
    shutil.rmtree(tmp, ignore_errors=True)
    return {kind: done, "findings": findings}


def finish(env):
    for remote in env.remotes.values():
        remote.close()


def main(argv):
    mode, what = argv
    ops = json.loads(Path(what).read_text()) if what.endswith(".json") else operations(what, LENGTH)
    import tempfile
    with tempfile.TemporaryDirectory() as tmp:
        (Path(tmp) / "remote").mkdir()
        (Path(tmp) / "node").mkdir()
        remote = Remote(mode.split(":")[0], Path(tmp) / "remote")
        model = Model(mode, Path(tmp) / "node", remote)
        why = model.fails(ops, what)
        print(model.shrunk(ops, why, what) if why else f"{model.done} operations, right")
        model.close()
        remote.close()
    return bool(why)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
