"""A remote that fails for a while: it says 500 or 503, says nothing, breaks connections, is gone, takes a token for expired. Programs that write `async` go on as if nothing were;
those that write `sync` are told or have to wait; whatever was acknowledged is on the remote afterwards, and nothing half is ever there.

Two programs, one for each way, in folders of one remote, over the whole time. FULL=1: 60 s without the remote, else 3."""

import contextlib
import errno
import json
import threading
import time
import urllib.parse

import pytest

from tests.integration.crash_rig import CONTENT, FULL, LOCAL, content, mapped, peek, remote_of
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3standin import KeysStandin
from tests.servers.s3standin_write import S3Changing

DOWN_SECONDS = 60 if FULL else 8
FAULTS = {"500": dict(status=500), "503": dict(status=503, fields={"Retry-After": "1"}), "reset": dict(reset_after=0), "closed": dict(close_unanswered=True),
          "silent": dict(delay=3600.0), "done-500": dict(status=500, done=True)}
WRITER = CONTENT + """
import json, os, sys, time
folder, how, until = sys.argv[1], sys.argv[2], sys.argv[3]
os.listdir(folder)
done, told, log, slowest, number = {}, [], [], 0, 0

def put(name, flags, data):
    global slowest
    begin = time.monotonic()
    try:
        fd = os.open(folder + "/" + name, flags | os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        return True
    except OSError as error:
        told.append((name, error.errno, number))
        return False
    finally:
        slowest = max(slowest, time.monotonic() - begin)

while not os.path.exists(until):
    number += 1
    size = 64 + number * 7919 % 9000
    for name, flags in ((f"new{number}", os.O_EXCL), (f"over{number % 3}", os.O_TRUNC)):
        if put(name, flags, content(name, number, size)):
            done[name] = [number, size]
    if put("log", os.O_APPEND, f"{number:07}|".encode()):
        log.append(number)
    print(number, flush=True)
    time.sleep(0.05)
print(json.dumps({"done": done, "told": told, "log": log, "slowest": slowest, "rounds": number}), flush=True)
"""


class Program:
    """A writer; it says after each round how far it is."""

    def __init__(self, prelux, how, until):
        self.how, self.rounds = how, 0
        path = prelux.tmp / "writer.py"
        path.write_text(WRITER)
        self.child = prelux.popen(["python3", path, f"{LOCAL}/{how}", how, until], args=("--no-wait",), stdout=-1, stderr=-1, text=True)
        self.lines = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line)
            self.rounds += 1

    def end(self, seconds):
        self.thread.join(seconds)
        err = self.child.stderr.read() if not self.thread.is_alive() else "it hangs"
        assert self.child.wait(10) == 0, err
        return json.loads(self.lines[-1])


def set_up(prelux, remote, conf):
    mapped(prelux, remote, conf)
    prelux.config({"version": 1, "backends": {"src": {**remote.conf, **conf}},
                   "mappings": [{"local": f"{LOCAL}/{how}", "remote": f"src:/{how}", "write": how} for how in ("async", "sync")]})
    for how in ("async", "sync"):
        prelux.run(f"echo 0000000 > {LOCAL}/{how}/first && cat {LOCAL}/{how}/first")


class Folder:
    """The remote of kind `file`."""

    def __init__(self, remote):
        self.root = remote.root

    def down(self):
        self.root.rename(f"{self.root}.away")

    def up(self):
        type(self.root)(f"{self.root}.away").rename(self.root)


class Proxied:
    def __init__(self, proxy, fault):
        self.proxy, self.fault = proxy, fault

    def down(self):
        if self.fault == "gone":
            self.proxy.down()
        else:
            self.proxy.fault("/", **FAULTS[self.fault])

    def up(self):
        self.proxy.heal()
        if self.fault == "gone":
            self.proxy.up()


@contextlib.contextmanager
def broken(kind, fault, prelux):
    """(remote as another client sees it, what breaks it)"""
    with remote_of(kind, prelux.tmp) as remote:
        if kind == "file":
            for how in ("async", "sync"):
                (remote.root / how).mkdir()
            set_up(prelux, remote, {})
            yield remote, Folder(remote)
            return
        parts = urllib.parse.urlsplit(remote.conf["endpoint"])
        with FaultProxy(f"{parts.hostname}:{parts.port}") as proxy:
            set_up(prelux, remote, {"endpoint": parts._replace(netloc=urllib.parse.urlsplit(proxy.url).netloc).geturl()})
            yield remote, Proxied(proxy, fault)


def outage(prelux, what, seconds):
    """What both programs say of the time before, in and after it."""
    until = prelux.tmp / "until"
    programs = {how: Program(prelux, how, until) for how in ("async", "sync")}
    wait = time.monotonic() + 30
    while min(one.rounds for one in programs.values()) < 3 and time.monotonic() < wait:
        time.sleep(0.05)
    what.down()
    before = programs["async"].rounds
    time.sleep(seconds)
    within = programs["async"].rounds - before
    what.up()
    time.sleep(1)
    until.touch()
    said = {how: one.end(seconds + 120) for how, one in programs.items()}
    return said, within


def check(prelux, look, said):
    """look(name) -> bytes. What was acknowledged is there; of the rest nothing half is."""
    for how, one in said.items():
        for name, (number, size) in one["done"].items():
            data = look(f"{how}/{name}")
            later = [content(name, n, 64 + n * 7919 % 9000) for told, _, n in one["told"] if told == name and n > number]
            assert data in [content(name, number, size), *later], (how, name, number, data and data[:60], one["told"][:20], prelux.story())
        for name, _, number in one["told"]:
            data = look(f"{how}/{name}")
            assert name == "log" or data is None or data in [content(name, n, 64 + n * 7919 % 9000) for n in range(1, one["rounds"] + 1)], (how, name, data[:60])
        lines = (look(f"{how}/log") or b"").split(b"|")
        assert lines.pop() == b"" and lines == sorted(set(lines)), lines
        assert set(one["log"]) <= {int(line) for line in lines}, (how, set(one["log"]) - {int(line) for line in lines}, prelux.story())


CASES = [("file", "gone"), ("versitygw", "500"), ("versitygw", "done-500"), ("azurite", "503"), ("azurite", "reset")]
if FULL:
    CASES += [("versitygw", fault) for fault in ("503", "reset", "silent", "gone", "closed")] + [("azurite", fault) for fault in ("500", "silent", "gone")]
# Seconds that one step may take: a file that is being sent is waited for. A server that fails is given up after some seconds, a silent one after half a minute.
SLOWEST = {"silent": 100}


@pytest.mark.slow
@pytest.mark.limit(900 if FULL else 240)
@pytest.mark.parametrize("kind, fault", CASES, ids=[f"{kind}-{fault}" for kind, fault in CASES])
def test_nothing_is_lost(prelux, kind, fault):
    with broken(kind, fault, prelux) as (remote, what):
        said, within = outage(prelux, what, DOWN_SECONDS)
        print({how: (one["rounds"], one["told"][:4], len(one["told"]), round(one["slowest"], 2)) for how, one in said.items()}, within)
        assert not said["async"]["told"], f"{said['async']['told'][:10]}\n{prelux.story()}"
        assert within >= 1 or fault == "silent", "asynchronous writers do not go on"
        assert said["async"]["slowest"] < SLOWEST.get(fault, 15), said["async"]["slowest"]
        sent = prelux.cli("flush", "--timeout", "60", check=False, timeout=120)
        assert sent.returncode == 0, sent.stderr
        check(prelux, lambda name: peek(remote, name), said)


@pytest.mark.slow
@pytest.mark.limit(900 if FULL else 240)
def test_keys_that_have_ended(prelux):
    """The token is refused, and who gives tokens is out of order: for a time nothing goes. Nobody has to do anything afterwards."""
    with S3Changing(keys={f"KEY{n}": (f"SECRET{n}", f"TOKEN{n}") for n in range(1, 50)}) as s3, KeysStandin(seconds=3600) as keys:
        prelux.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = keys.url + "/container"

        class Bucket:
            conf = {"type": "s3", "bucket": s3.bucket, "endpoint": s3.url, "region": s3.region, "multipart_threshold": "64MiB"}

        class Keys:
            def down(self):
                keys.broken = True
                s3.expired |= {f"TOKEN{n}" for n in range(1, keys.number + 1)}

            def up(self):
                keys.broken = False

        set_up(prelux, Bucket, {})
        time.sleep(5.2)  # what was refused at once would not be asked for again
        said, within = outage(prelux, Keys(), DOWN_SECONDS)
        print({how: (one["rounds"], one["told"][:4], len(one["told"]), round(one["slowest"], 2)) for how, one in said.items()}, within)
        assert not said["async"]["told"], f"{said['async']['told'][:10]}\n{prelux.story()}"
        assert within >= 1, "asynchronous writers do not go on"
        assert {code for _, code, _ in said["sync"]["told"]} <= {errno.EACCES} and said["sync"]["told"], said["sync"]["told"][:10]
        sent = prelux.cli("flush", "--timeout", "60", check=False, timeout=120)
        assert sent.returncode == 0, f"{sent.stderr}{prelux.story()}"
        check(prelux, lambda name: s3.objects[name.encode()].body if name.encode() in s3.objects else None, said)
