"""One set-up for fault sweeps: a preluxd under tests/fault/inject.c, a program below a mapping (work.c), a remote that is looked at from behind, and what must
be true of each name: which contents it may have after what the program was told.

A scenario (scenarios.py) is run again and again, each time with the next call of the daemon failing: World.sweep().
"""

import errno
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
import zlib
from functools import lru_cache
from pathlib import Path

from tests import wire
from tests.fault import board as boards
from tests.fault.board import CHANGE, CLOSE, LOOK, MAP, MEMORY, NEW_FD, PART, ROOM, SLOW, SOCKET, SYNC, THREAD
from tests.harness import Prelux, alive, wait_for
from tests.integration import contract_remotes
from tests.integration.contract_remotes import Missing

LOCAL = "/lake"
# What a sweep makes fail: kinds of calls, errno, and what a program may be told for it besides EIO.
FAULTS = {
    "ENOSPC": (ROOM, errno.ENOSPC, {errno.ENOSPC}),
    "EIO": (LOOK | CHANGE | SYNC, errno.EIO, set()),
    "EIO-sync": (SYNC | CLOSE, errno.EIO, set()),
    "EMFILE": (NEW_FD, errno.EMFILE, {errno.EMFILE, errno.ENFILE}),
    "ENOMEM": (MEMORY, errno.ENOMEM, {errno.ENOMEM}),
    "ENOMEM-map": (MAP | THREAD, errno.ENOMEM, {errno.ENOMEM}),
    "EINTR": (SLOW, errno.EINTR, {errno.EINTR}),
    "ECONNRESET": (SOCKET, errno.ECONNRESET, set()),
    "half": (PART, 0, set()),
}


# Not the daemon's: what inject.c's own backtrace() has loaded (libgcc_s: the loader's list, of before the sanitizer knows threads), and what libyaml
# loses of a document when it finds no memory.
LOST_BY_OTHERS = "leak:dl_open_worker_begin\nleak:yaml_parser_load\n"


class Finding(Exception):
    """Something that must not be."""


@lru_cache(maxsize=256)
def content(seed, size):
    """As work.c writes it."""
    return b"".join(b"%08x%07x\n" % (seed, line) for line in range(-(-size // 16)))[:size]


def said(call, number):
    return f"{call} {errno.errorcode.get(number, number)}"


class World:
    """kind: a row of contract_remotes. options: of the mapping. top: more of the configuration. build: of preluxd, when not that of the tools (sanitized).
    gated: system calls of the program fail (gate.c), not the daemon's."""

    def __init__(self, tools, tmp, kind="file", build=None, top=None, gated=False, **options):
        self.tools, self.tmp, self.kind = Path(tools), Path(tmp), kind
        self.tmp.mkdir(parents=True, exist_ok=True)
        words = [kind, *(["library"] if gated else []), *(["sanitized"] if build else []), *(f"{key}={value}" for key, value in options.items())]
        self.name = " ".join(words)
        row = next(row for row in contract_remotes.KINDS if row.name == kind)
        self.stack = row.make(self.tmp)
        self.remote = self.stack.__enter__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="prelux-fault-", dir=memory if os.access(memory, os.W_OK) else None))
        self.prelux = Prelux(self.tmp, build=self.tools)
        if build:
            self.prelux.daemon_exe = Path(build) / "preluxd"
            (self.tmp / "lsan").write_text(LOST_BY_OTHERS)
            self.prelux.env["LSAN_OPTIONS"] = f"suppressions={self.tmp}/lsan:print_suppressions=0"
        self.sanitized = bool(build)
        self.gated, self.gate, self.seen, self.failed, self.where = gated, None, 0, 0, ""
        self.prelux.cache = self.folder / "cache"
        conf = dict(self.remote.conf)
        others = conf.pop("others", {})
        options.setdefault("write", "sync")
        self.text = {"version": 1, "backends": {"src": conf, **others}, "daemon_timeout": "2s", "idle_exit": "0", **(top or {}),
                     "mappings": [{"local": LOCAL, "remote": "src:/", **options}]}
        self.options = options
        self.prelux.config(self.text)
        self.board = boards.Board(str(self.folder / "board"))
        self.names = {}        # {name: set of contents that it may have; None: it is not there}
        self.serial = 0
        self.worker = self.daemon = None
        self.findings = []
        self.outcomes = {}     # {(scenario, fault): {outcome: how often}}
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    # The daemon and the program.

    def start(self, wait=True, arm=None, register=True):
        """A daemon. arm: words of Board.arm(), from its first instruction on."""
        env = {**self.prelux.env, "LD_PRELOAD": str(self.tools / "tests/fault/inject.so"), "PRELUX_FAULT_BOARD": self.board.path}
        if self.sanitized:
            env["ASAN_OPTIONS"] += ":verify_asan_link_order=0:allocator_may_return_null=1:fast_unwind_on_malloc=0"
        if arm:
            self.board.arm(*arm)
        self.daemon = subprocess.Popen([str(self.prelux.daemon_exe), "--runtime", str(self.prelux.runtime)], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        if wait:
            wait_for(lambda: self.prelux.daemon_pid() == self.daemon.pid, 60, "preluxd listens")
            self.maps = boards.maps_of(self.daemon.pid)
            if register:
                self.register()

    def ask(self, file):
        """REGISTER of a configuration, as the library does it: told what is wanted of the environment, it is said."""
        answer = wire.register(self.prelux.runtime, file)
        if answer.status == -errno.EAGAIN:
            names = [os.fsdecode(name) for name in answer.all(wire.F_NEED)]
            answer = wire.register(self.prelux.runtime, file, env=[f"{name}={self.prelux.env[name]}" if name in self.prelux.env else name for name in names])
        return answer

    def register(self):
        answer = self.ask(self.prelux.config_path)
        if answer.status:
            raise Finding(f"the configuration is refused: {answer.status} {answer.texts}")
        self.table = answer.table

    def work(self, line, seconds=40):
        """One line to the program: its answer."""
        if self.worker is None:
            env = {"LD_PRELOAD": self.tools / "libprelux.so", "PRELUX_CONFIG": self.prelux.runtime / "tables" / self.table.hex(), "PRELUX_DAEMON": "/nonexistent"}
            command = [self.tools / "tests/fault/work", *(["--gate"] if self.gated else [])]
            self.worker = self.prelux.popen(command, bare=True, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            if self.worker.stdout.readline() != b"up\n":
                raise Missing("this kernel has no PR_SET_SYSCALL_USER_DISPATCH")
        if self.gate:
            self.worker.stdin.write(b"gate %d %d %d %d\n" % self.gate)
        self.worker.stdin.write(os.fsencode(line) + b"\n")
        self.worker.stdin.flush()
        if not select.select([self.worker.stdout], [], [], seconds)[0]:
            raise Finding(f"hangs: {line}\n{self.backtrace()}")
        answer = self.worker.stdout.readline().decode(errors="replace").rstrip("\n")
        if not answer:
            raise Finding(f"the program has ended, status {self.worker.wait()}: {line}")
        if self.gate:
            answer, _, counts = answer.partition(" gate ")
            seen, failed, number = map(int, counts.split())
            self.seen, self.failed = max(self.seen, seen), self.failed + failed
            self.where = self.where or (f"system call {number} in {line.split()[0]}" if failed else "")
        return answer

    def backtrace(self):
        done = subprocess.run(["gdb", "-p", str(self.daemon.pid), "-batch", "-ex", "thread apply all bt 12"], capture_output=True, text=True)
        return done.stdout[-6000:]

    def stop(self, number=signal.SIGTERM, seconds=40):
        """The daemon ends, in order or not."""
        if self.daemon.poll() is None:
            self.daemon.send_signal(number)
        try:
            status = self.daemon.wait(seconds)
        except subprocess.TimeoutExpired:
            trace = self.backtrace()
            self.daemon.kill()
            self.daemon.wait()
            raise Finding(f"preluxd does not end within {seconds} s of signal {number}\n{trace}") from None
        wait_for(lambda: not alive(self.daemon.pid), 10)
        return status

    def lives(self):
        """Nothing has crashed. A daemon ends, in order, whose catalogue SQLite calls damaged; the next one puts that aside."""
        status = self.daemon.poll()
        if status == 0 and "is not what it was: ending" in self.prelux.log()[-20000:]:
            for pid in self.prelux.daemons():
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda: not alive(pid), 20)  # pylint: disable=cell-var-from-loop
            self.start()
            status = None
        if status is not None:
            raise Finding(f"preluxd has ended, status {status}\n{self.prelux.log()[-3000:]}\n{self.prelux.sanitizer_reports()[:6000]}")
        reports = self.prelux.sanitizer_reports()
        if reports:
            raise Finding(f"sanitizer: {reports[:6000]}")

    def close(self):
        self.board.disarm()
        if self.worker:
            self.worker.stdin.close()
            try:
                self.worker.wait(5)
            except subprocess.TimeoutExpired:
                self.worker.kill()
        try:
            if self.daemon:
                self.stop()
        finally:
            self.prelux.close()
            self.board.close()
            self.stack.__exit__(None, None, None)
            shutil.rmtree(self.folder, ignore_errors=True)

    # What is on this node and on the remote.

    def path(self, name):
        return f"{LOCAL}/{name}"

    def fds(self):
        """What the daemon has open, without what may come and go: {kind: how many}."""
        found = {}
        folder = f"/proc/{(self.worker if self.gated else self.daemon).pid}/fd"
        for fd in os.listdir(folder):
            try:
                target = os.readlink(f"{folder}/{fd}")
            except OSError:
                continue
            kind = "socket" if target.startswith("socket:") else "memfd" if target.startswith("/memfd:") else "anon" if not target.startswith("/") else "file"
            found[kind] = found.get(kind, 0) + 1
        return found

    def flush(self, seconds=30):
        """Nothing waits to be sent."""
        end = time.monotonic() + seconds
        while True:
            with wire.ctl(self.prelux.runtime, "flush") as answer:
                told = answer.json() if answer.status == 0 else {}
            if told and not sum(told.get(state, 0) for state in ("open", "waiting", "sending", "refused", "recovered", "away")):
                return
            if time.monotonic() > end:
                raise Finding(f"not all is sent in {seconds} s: {told}")
            time.sleep(0.02)

    def may_be(self, name, *contents):
        self.names[name] = set(contents)

    def check_names(self, names=None):
        """By the program, at once: each has one of the contents that it may have, which from now on it must keep."""
        for name in names if names is not None else list(self.names):
            answer = self.work(f"read {self.path(name)}")
            wanted = {self.answer_of(data): data for data in self.names[name]}
            if answer not in wanted:
                raise Finding(f"{name} reads as {answer!r}, and may be {sorted(map(str, wanted))}")
            self.names[name] = {wanted[answer]}

    @staticmethod
    def answer_of(data):
        if data is None:
            return f"open {errno.ENOENT}"
        return f"ok {len(data)} {zlib.crc32(data):08x} {len(data)}"

    def check_remote(self):
        """When all is sent, the remote has what the program saw, and nothing else."""
        self.flush()
        self.check_names()
        there = {os.fsdecode(path): data for path, data in self.remote.objects().items() if data is not None}
        for name, contents in self.names.items():
            if there.get(name) not in contents:
                raise Finding(f"the remote has {len(there[name]) if name in there else 'no'} bytes of {name}; may be {[len(c) if c is not None else None for c in contents]}")
        more = {name for name in set(there) - set(self.names) if not name.split("/")[-1].startswith(".prelux~")}  # what a failed put left goes later
        if more:
            raise Finding(f"the remote has {sorted(more)[:5]}, which nobody has made")

    def check_rest(self):
        """Nothing is left of what is done: after a restart no staging file, no row, no partial file. What could not be removed may be in recovered/."""
        self.check_remote()
        status = self.stop()
        if status:
            raise Finding(f"preluxd ended with {status} after SIGTERM\n{self.prelux.sanitizer_reports()[:6000]}")
        if self.prelux.sanitizer_reports():
            raise Finding(f"sanitizer: {self.prelux.sanitizer_reports()[:8000]}")
        self.start()
        left = {}
        for folder in ("staging", "fill", "held", "lease"):
            for root, _, names in os.walk(self.prelux.cache / ".prelux" / folder):
                left.setdefault(folder, []).extend(name for name in names if name != "0")
        self.check_names()
        left = {folder: names for folder, names in left.items() if names}
        if left:
            raise Finding(f"left over: { {folder: names[:5] for folder, names in left.items()} }")

    # One fault after the other.

    def run(self, scenario, fault, at, again):
        """One run with one fault. How many calls were seen, and how many failed."""
        kinds, err, also = FAULTS[fault]
        self.serial += 1
        self.fault = fault
        scenario.prepare(self, self.serial)
        try:
            told = self.armed(scenario, kinds, err, at, again)
            seen, failed = self.seen, self.failed
            self.lives()
            for outcome in told:
                call, _, number = outcome.partition(" ")
                if call != "ok":
                    self.note(scenario, fault, said(call, int(number)))
                    if int(number) not in {errno.EIO} | also | scenario.errnos:
                        raise Finding(f"told {said(call, int(number))}")
                    if not failed:
                        raise Finding(f"told {said(call, int(number))} without a fault")
            if all(outcome.startswith("ok") for outcome in told):
                self.note(scenario, fault, "ok")
            scenario.check(self, self.serial, told)
            # And at once, without a fault, without a hand.
            again_told = scenario.again(self, self.serial)
            if any(not outcome.startswith("ok") for outcome in again_told):
                raise Finding(f"without a fault: {again_told}")
            self.lives()
        except Finding as finding:
            what = f"{self.name} at={at}: {finding}"
            if self.failed:
                what += "\n  failed: " + (self.where if self.gated else self.describe())
            raise Finding(what) from None
        return seen, failed

    def describe(self):
        """The first call that failed, and who made it."""
        return f"{self.board.name} by {boards.names(self.board.stack(), self.maps)}"

    def armed(self, scenario, kinds, err, at, again):
        """What a scenario is told while calls fail."""
        self.seen, self.failed, self.where = 0, 0, ""
        if self.gated:
            self.gate = (err, kinds, at, int(again))
        else:
            self.board.arm(kinds, err, at, again)
        try:
            return scenario.act(self, self.serial)
        finally:
            self.gate = None
            if not self.gated:
                self.board.disarm()
                self.seen, self.failed = self.board.seen, self.board.failed

    def note(self, scenario, fault, outcome):
        counts = self.outcomes.setdefault((scenario.name, fault), {})
        counts[outcome] = counts.get(outcome, 0) + 1

    def count(self, scenario, fault):
        """How many calls of these kinds a run without a fault makes."""
        self.serial += 1
        kinds, err, _ = FAULTS[fault]
        scenario.prepare(self, self.serial)
        told = self.armed(scenario, kinds, err, 0, False)
        if any(not outcome.startswith("ok") for outcome in told):
            raise Finding(f"{self.name}: {scenario.name} without a fault: {told}")
        scenario.check(self, self.serial, told)
        return self.seen

    def leaks(self, before, slack=3):
        """More descriptors than before, and they stay."""
        end = time.monotonic() + 5
        while True:
            now = self.fds()
            more = {kind: (before.get(kind, 0), n) for kind, n in now.items() if n > before.get(kind, 0) + slack and kind != "socket"}
            if not more:
                return
            if time.monotonic() > end:
                raise Finding(f"descriptors before and after: {more}")
            time.sleep(0.1)
