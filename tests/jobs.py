"""The jobs of a test run, several at once: which begins when, and what is said of it.

A step (a build, an installation) goes before the jobs that name it; the steps of a lane go one after another. Of the jobs that
can begin, the longest begins first; of those that start a large server no more than HEAVY run at once; those that have to be
alone follow when all others have ended. A job is one line of output, and all of its output when it failed.
"""

import os
import re
import threading
import time
from collections import namedtuple
from dataclasses import dataclass, field

# Files of tests/integration that also run with a sanitized daemon and CLI, besides tests marked `asan`.
ASAN_FILES = ("test_cli.py", "test_freshness.py", "test_breakages.py", "test_daemon.py", "test_daemon_requests.py")
# Of those that drive backend_tool alone these run with a tool under TSan, too: the others' remotes differ, and not what runs beside each other.
TSAN_TOOL_FILES = ("test_backends_raw.py", "test_s3_write_raw.py", "test_azure_write.py", "test_alluxio3_versions.py")
# Single-threaded: no thread sanitizer sees more of them (tests/meta/test_stages.py looks at what they are linked with).
NO_THREADS = ("test_alluxio_data", "test_alluxio_ring", "test_aws_sign", "test_azure_sign", "test_azure_xml", "test_conf", "test_conf_alluxio", "test_conf_azfuse",
              "test_conf_broken", "test_conf_rescue", "test_conf_show", "test_crc", "test_match", "test_msg", "test_order", "test_own", "test_path", "test_place",
              "test_prefixes", "test_problem", "test_s3_fields", "test_s3_xml", "test_url")
CORES = os.cpu_count() or 1
HEAVY = 2
REASONS = re.compile(r"E  |FAILED |ERROR |\[  (ERROR|FAILED)|==\d+==|SUMMARY|WARNING: ThreadS")  # of pytest, cmocka, sanitizers
REASON_LINES = 25

# run() returns "" or what went wrong. after: names of earlier steps of the same lane.
Step = namedtuple("Step", "name run after", defaults=((),))


@dataclass
class Tally:
    passed: int = 0
    failed: int = 0
    skipped: list = field(default_factory=list)  # "test: reason"

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {len(self.skipped)} skipped"


@dataclass(eq=False)
class Job:
    """run() returns a Tally and what is to be shown."""
    stage: str
    name: str
    run: object
    after: tuple = ()
    seconds: float = 10
    heavy: bool = False
    alone: bool = False


def say(text):
    print(text, flush=True)


class Runner:
    def __init__(self, stages, lanes, jobs):
        self.lanes, self.waiting = lanes, list(jobs)
        self.workers = int(os.environ.get("JOBS") or 3 * CORES)
        self.tallies = {stage: Tally() for stage in stages}
        self.seconds = {stage: 0.0 for stage in stages}
        self.left = {stage: sum(job.stage == stage for job in jobs) for stage in stages}
        self.done, self.broken = set(), set()  # names of steps
        self.running = []
        self.took = []  # (seconds, stage, name) of those that ran
        self.wrong = []  # what is said once more at the end
        self.change = threading.Condition()

    def run(self):
        """The sum, and the reasons of what was skipped."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.workers)]
        threads += [threading.Thread(target=self._prepare, args=(lane,), daemon=True) for lane in self.lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        say("")
        for line in self.wrong:
            say(line)
        total = Tally()
        for stage, tally in self.tallies.items():
            say(f"{stage:18} {self.seconds[stage]:7.1f} s  {tally}")
            total.add(tally)
        return total, total.skipped

    # Inside.

    def _prepare(self, lane):
        for step in lane:
            begin = time.monotonic()
            with self.change:
                missing = [name for name in step.after if name not in self.done]
            wrong = f"{missing[0]} is not there" if missing else step.run()
            with self.change:
                say(f"  {step.name:46} {time.monotonic() - begin:6.1f} s" + (f"  FAILED\n{wrong}" if wrong else ""))
                (self.broken if wrong else self.done).add(step.name)
                for job in [job for job in self.waiting if step.name in job.after and wrong]:
                    self.waiting.remove(job)
                    self.tallies[job.stage].failed = 1  # one for the stage
                    self._ended(job, Tally(), 0)
                self.change.notify_all()

    def _work(self):
        while True:
            with self.change:
                job = self._choose()
                while job is None:
                    if not self.waiting:
                        return
                    self.change.wait()
                    job = self._choose()
                self.waiting.remove(job)
                self.running.append(job)
            begin = time.monotonic()
            try:
                tally, output = job.run()
            except Exception as error:  # of the runner itself
                tally, output = Tally(failed=1), repr(error)
            with self.change:
                self.running.remove(job)
                self._show(job, tally, output, time.monotonic() - begin)
                self._ended(job, tally, time.monotonic() - begin)
                self.took.append((time.monotonic() - begin, job.stage, job.name))
                self.change.notify_all()

    def _choose(self):
        if any(job.alone for job in self.running):
            return None
        ready = [job for job in self.waiting if set(job.after) <= self.done]
        beside = [job for job in ready if not job.alone]
        if sum(job.heavy for job in self.running) >= HEAVY:
            beside = [job for job in beside if not job.heavy]
        if beside:
            return max(beside, key=lambda job: job.seconds)
        if not self.running and ready and all(job.alone for job in self.waiting) and self._prepared():
            return ready[0]
        return None

    def _prepared(self):
        return all(step.name in self.done | self.broken for lane in self.lanes for step in lane)

    def _show(self, job, tally, output, seconds):
        say(f"  {job.stage + ' ' + job.name:46} {seconds:6.1f} s  {tally}")
        if tally.failed:
            say(f"--- {job.stage} {job.name}\n{output}\n---")
            self.wrong.append(f"failed: {job.stage} {job.name}")
            reasons = [line for line in output.splitlines() if REASONS.match(line)]
            reasons.sort(key=lambda line: not line.startswith("FAILED "))  # which test comes before what it said
            self.wrong += [f"  {line[:300]}" for line in reasons[:REASON_LINES]]
        elif output:
            say("\n".join("        " + line for line in output.splitlines()))

    def _ended(self, job, tally, seconds):
        self.tallies[job.stage].add(tally)
        self.seconds[job.stage] += seconds
        self.left[job.stage] -= 1
        if not self.left[job.stage]:
            say(f"=== {job.stage:18} {self.seconds[job.stage]:7.1f} s  {self.tallies[job.stage]}")
