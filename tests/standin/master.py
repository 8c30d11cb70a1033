"""The stand-in's master, which does nothing but load jobs: python3 -m tests.standin.master CONFIG.json.

A job lists its folder and has each file loaded by the worker that owns it.  The answers are what 313 says, quirks included:
a submit while the same job runs is an exception (the worker closes the connection), the properties are the message cut at
colons, JSON has no jobState, the first moments of a job are NaN%."""

import asyncio
import json
import re
import sys
import time
import uuid
from pathlib import Path

from .membership import Gateway, Membership
from .peers import Peers, Unavailable, serve
from .store import UnderStore
from .text import hash_map, human, normal_path

BATCH = 20


class Job:
    def __init__(self, master, path, rel, given):
        self.master, self.path, self.rel, self.given = master, path, rel, given
        self.state, self.stage, self.ident = "RUNNING", "", str(uuid.uuid4())
        self.begin, self.end = time.monotonic(), None
        self.scanned = self.done = self.loaded = self.total = self.skipped = 0
        self.failed = []

    def flag(self, name):
        return self.given.get(name, "").lower() == "true"

    async def run(self):
        await asyncio.sleep(self.master.start_delay)
        files = self.files()
        for start in range(0, len(files), BATCH):
            batch = files[start:start + BATCH]
            self.scanned += len(batch)
            self.total += sum(status.length for status in batch)
            for status in batch:
                if self.state != "RUNNING":
                    return
                await asyncio.sleep(self.master.file_delay)
                await self.one(status)
        if self.flag("verify") and self.state == "RUNNING":
            self.state = "VERIFYING"
            await asyncio.sleep(self.master.start_delay)
        self.finish("FAILED" if self.failed else "SUCCEEDED")

    def finish(self, state):
        if self.end is None:
            self.state, self.end = state, time.monotonic()

    def files(self):
        status = self.master.under.stat(self.rel)
        if not status or not status.folder:
            return [status] if status else []
        found, folders = [], [self.rel]
        wanted = re.compile(self.given.get("fileFilterRegx", ""))
        while folders:
            for row in self.master.under.listing(folders.pop()) or []:
                if row.folder:
                    folders.append(row.rel)
                elif wanted.search(row.name):
                    found.append(row)
        return sorted(found, key=lambda row: row.rel)

    async def one(self, status):
        if not self.flag("loadMetadataOnly"):
            size = await self.master.load_file(status.rel)
            if size is None:
                self.failed.append(status.rel)
            else:
                self.loaded += size
        self.done += 1

    # What it says

    def state_text(self):
        if self.state != "FAILED":
            return self.state
        return "FAILED (java.lang.RuntimeException: Failed to load some files: stand-in)"

    def seconds(self):
        return (self.end or time.monotonic()) - self.begin

    def text(self):
        seconds = int(self.seconds())
        bandwidth = self.given.get("bandwidth") or "unlimited"
        lines = [f"\tSettings:\tbandwidth: {bandwidth}\tverify: {str(self.flag('verify')).lower()}"
                 f"\tmetadata-only: {str(self.flag('loadMetadataOnly')).lower()}",
                 f"\tTime Elapsed: {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}",
                 f"\tJob State: {self.state_text()}", f"\tInodes Scanned: {self.scanned}", f"\tInodes Processed: {self.done}"]
        if not self.flag("loadMetadataOnly"):
            lines.append(f"\tBytes Loaded: {human(self.loaded)} out of {human(self.total)}")
            if seconds and self.loaded:
                lines.append(f"\tThroughput: {human(self.loaded // seconds)}/s")
        rate = "NaN%" if not self.scanned else f"{100 * len(self.failed) / self.scanned:.2f}%"
        return lines + [f"\tFile Failure rate: {rate}", f"\tSubtask Failure rate: {rate}", f"\tFiles Failed: {len(self.failed)}",
                        f"\tSubtask Retry rate: {'NaN%' if not self.scanned else '0.00%'}",
                        "\tSubtasks on Retry Dead Letter Queue: 0"]

    def json(self):
        share = 100 * len(self.failed) / self.scanned if self.scanned else 0.0
        seconds = int(self.seconds())
        return json.dumps({
            "mVerbose": self.flag("verbose"), "mJobState": self.state, "mVerificationEnabled": self.flag("verify"),
            "mSkippedByteCount": self.skipped, "mLoadedByteCount": self.loaded, "mScannedInodesCount": self.scanned,
            "mProcessedInodesCount": self.done, "mTotalByteCount": self.total,
            "mThroughput": self.loaded // seconds if seconds else 0, "mFailureFilesPercentage": share,
            "mFailureSubTasksPercentage": share, "mRetrySubTasksPercentage": 0.0, "mFailedFileCount": len(self.failed),
            "mRecentFailedSubtasksWithReasons": [], "mRecentRetryingSubtasksWithReasons": [],
            "mSkipIfExists": self.flag("skipIfExists"), "mMetadataOnly": self.flag("loadMetadataOnly"), "mRunningStage": self.stage,
            "mRetryDeadLetterQueueSize": 0, "mTimeElapsed": int(self.seconds() * 1000)}, separators=(",", ":"))


def properties(message):
    """The message's lines, each cut at its colons: what comes first is the key, what comes second the value."""
    pairs = [line.split(":") for line in message.split("\n")]
    return hash_map((pair[0].strip(), pair[1].strip()) for pair in pairs if len(pair) > 1)


class Master:
    def __init__(self, config):
        self.port, self.host = config["port"], config["host"]
        self.under = UnderStore(config["root"], config["ufs"])
        self.start_delay, self.file_delay = config["start_delay"], config["file_delay"]
        self.peers, self.jobs, self.tasks = Peers(), {}, set()
        auth = tuple(config["etcd_auth"]) if config["etcd_auth"] else None
        self.members = Membership(Gateway(config["etcd"], auth, config["etcd_ca"], config["etcd_client"]), config["cluster"], bytes(16), "", 2,
                                  config["virtual_nodes"], 0)

    async def run(self):
        server = await serve(self.told, self.host, self.port)
        print(f"stand-in master: {self.host}:{self.port}", flush=True)
        async with server:
            await server.serve_forever()

    async def load_file(self, rel):
        """By the file's owner; None when that fails."""
        owner = (await self.members.fetch()).owner(self.under.uri(rel))
        try:
            return (await self.peers.call(owner.host, owner.rpc_port, {"op": "load-file", "rel": rel}))["answer"] if owner else None
        except Unavailable:
            return None

    async def told(self, message):
        if message["op"] == "delays":
            self.start_delay, self.file_delay = message["start"], message["file"]
            return {"answer": True}
        given = message.get("given", {})
        action = {"submit": self.submit, "progress": self.progress, "stop": self.stop}.get(given.get("opType", "").lower())
        return {"answer": action(given["path"], given) if action else None}

    def submit(self, path, given):
        running = self.jobs.get(path)
        if running and running.end is None:
            return None
        rel = normal_path(path[len(self.under.root):]) if path.startswith(self.under.root) else None
        if rel is None or not self.under.stat(rel):
            plain = self.under.plain_root + rel if rel else path
            return {"success": False, "jobId": "NONE", "path": path, "message": f"Failed to submit load job {path}: NOT_FOUND: {plain}"}
        job = self.jobs[path] = Job(self, path, rel, given)
        task = asyncio.create_task(job.run())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return {"success": True, "jobId": job.ident, "path": path,
                "message": f"Load '{path}' is successfully submitted. JobId: {job.ident}\n"}

    def progress(self, path, given):
        job = self.jobs.get(path)
        if not job:
            return {"jobState": "FAILED", "path": path, "message": f"Load for path '{path}' cannot be found.", "respProperties": {}}
        form = given.get("progressFormat", "TEXT")
        if form not in ("TEXT", "JSON"):
            return None
        lines = job.text() if form == "TEXT" else [job.json()]
        message = f"Progress for loading path '{path}':\n" + "\n".join(lines) + ("\n" if form == "TEXT" else "")
        table = properties(message)
        return {"jobState": table.get("Job State"), "path": path, "message": message, "respProperties": table}

    def stop(self, path, _):
        job = self.jobs.get(path)
        if not job or job.end is not None:
            text = f"Cannot find load job for path {path}, it might have already been stopped or finished\n"
            return {"success": False, "path": path, "message": text}
        job.finish("STOPPED")
        return {"success": True, "path": path, "message": f"Load '{path}' is successfully stopped.\n"}


if __name__ == "__main__":
    asyncio.run(Master(json.loads(Path(sys.argv[1]).read_text())).run())
