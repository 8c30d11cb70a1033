"""Servers that lie: every row of tests/servers/liar.py, read by a program. Within bounded time each file gives its right bytes or
an errno that is recorded; never wrong bytes. The daemon lives, and an honest answer heals.

All lies are told at once, each to a mapping and a program of its own; the tests then look at what the programs said."""

import errno
import hashlib
import json
import subprocess
import time

import pytest

from tests import harness
from tests.servers.liar import LIES, Liar, built_in_files

AGE = "5s"  # longer than between a stat and the read behind it, on a busy machine: a lie told by HEAD is then seen by the GET
PREFIX = "/prelux-liars"
FILES = built_in_files()
NAMES = {"": {"d", "empty", "file.bin", "small.txt"}, "d": {"deep.txt"}}
BOUND = 240  # seconds for one call: two stalls of 30 s, an endless listing to its limit, and a machine ten times slower
HARMLESS = {"honest", "no-etag", "weak-etag", "ignore-range", "clock-skew", "busy-429=2", "busy-503=2", "busy-date=1", "redirect-loop=3",
            "list-repeat", "list-unsorted", "no-length", "list-many", "slow", "stall-at=60000"}

# Lies that keep a connection: one file each, so that the whole stays short. (lie, file or None for the folder)
# A server that goes on trickling is given up after five stalls of 30 s, too long for here: stall-at=60000 has one.
LONG = [("stall-at=50", "file.bin"), ("stall-at=60000", "file.bin"), ("slow", "small.txt"), ("endless-body", "file.bin"),
        ("endless-body=chunked", "file.bin"), ("endless-body", "small.txt"), ("busy-429", "small.txt"), ("busy-503", "small.txt"),
        ("busy-date", "small.txt"), ("list-endless", None), ("unanswered", "small.txt"), ("xml-bomb", None)]
SHORT = ["short-body", "long-body", "no-length", "cut-chunks", "reset-at", "reset-at=700", "reset-at=50000", "ignore-range", "wrong-range=start",
         "wrong-range=total", "wrong-range=body", "wrong-range=whole", "wrong-range=missing", "no-etag", "weak-etag", "changing-etag",
         "changing-bytes", "head-differs", "head-differs=-1", "html-error", "big-head", "gzip-label", "clock-skew", "busy-429=2", "busy-503=2",
         "busy-date=1", "redirect-loop", "redirect-loop=3", "redirect-foreign", "list-repeat", "list-unsorted", "list-loop", "list-outside",
         "list-cut", "list-sizes", "list-many", "list-changing", "list-html-error", "honest"]

PROGRAM = """
import errno, hashlib, json, os, sys, threading, time
lake, files, folders = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
said = {"files": {}, "folders": {}, "seconds": {}}
def timed(what, name, call, path):
    begin = time.monotonic()
    try:
        said[what][name] = call(path)
    except OSError as e:
        said[what][name] = errno.errorcode[e.errno]
    said["seconds"][what + " " + name] = round(time.monotonic() - begin, 1)
def content(path):
    size = os.stat(path).st_size
    with open(path, "rb") as f:
        opened = os.fstat(f.fileno()).st_size
        data = f.read()
    assert opened == len(data), (path, opened, len(data))
    return [len(data), hashlib.md5(data).hexdigest(), data[:4].hex()]
work = [("folders", folder, os.listdir) for folder in folders] + [("files", name, content) for name in files]
threads = [threading.Thread(target=timed, args=(what, name, call, lake + "/" + name)) for what, name, call in work]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(said))
"""


class Healing(Liar):
    """A liar that can be told to be honest."""
    lying = True

    def _answer(self, connection, seen, earlier):
        if not self.lying:
            seen = seen._replace(target="/honest/" + seen.target.removeprefix("/").partition("/")[2])
        super()._answer(connection, seen, earlier)


def place_of(kind, lie, file):
    return f"{PREFIX}/{kind}-{lie.replace('=', '_')}-{(file or 'folder').replace('.', '_') if (lie, file) in LONG else 'all'}"


def cases(kind):
    short = [(lie, None) for lie in SHORT if kind == "html" or lie.startswith("list") or lie == "honest"]
    return short + [case for case in LONG if kind == "html" or case[0].startswith("list")]


def what_to_read(lie, file):
    if (lie, file) not in LONG:
        return sorted(FILES), ["", "d"]
    return ([file], []) if file else (["small.txt"], [""])


def run_all(prelux, liars):
    children = {}
    for kind in liars:
        for lie, file in cases(kind):
            files, folders = what_to_read(lie, file)
            argv = ["python3", "-c", PROGRAM, place_of(kind, lie, file), json.dumps(files), json.dumps(folders)]
            children[kind, lie, file] = prelux.popen(argv, stdout=-1, stderr=-1, text=True)
    said = {}
    end = time.monotonic() + BOUND + 60
    for key, child in children.items():
        try:
            out, err = child.communicate(timeout=max(1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            said[key] = "did not end"
            continue
        said[key] = json.loads(out) if child.returncode == 0 else err
    return said


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Everything that was said, lied to and healed."""
    if not harness.BUILD.joinpath("preluxd").exists():
        pytest.skip(f"{harness.BUILD} is not built")
    prelux = harness.Prelux(tmp_path_factory.mktemp("liars"))
    with Healing(autoindex="html") as html, Healing(autoindex="json") as as_json:
        prelux.liars = {"html": html, "json": as_json}
        backends, mappings = {}, []
        for kind, liar in prelux.liars.items():
            for number, (lie, file) in enumerate(cases(kind)):
                backends[f"{kind}{number}"] = {"type": "http", "url": f"{liar.url}/{lie}", "headers": {"X-Secret": "do-not-tell"}}
                mappings.append({"local": place_of(kind, lie, file), "remote": f"{kind}{number}:/", "freshness": {"max_age": AGE}, "negative_age": "1s"})
        prelux.config({"version": 1, "backends": backends, "mappings": mappings})
        prelux.run(["true"])
        prelux.pid = prelux.daemon_pid()
        prelux.lied = run_all(prelux, prelux.liars)
        prelux.records = prelux.errors()
        prelux.cached = {path.relative_to(prelux.cache): path.read_bytes() for path in prelux.cache.glob("trees/*/data/**/*") if path.is_file()}
        html.lying = as_json.lying = False
        time.sleep(float(AGE.rstrip("s")) + 0.2)
        prelux.healed = run_all(prelux, prelux.liars)
        yield prelux
    complaints = prelux.close()
    assert not complaints, complaints


def truth(name):
    data = FILES[name]
    return [len(data), hashlib.md5(data).hexdigest(), data[:4].hex()]


def shifted_truths(name):
    """What changing-bytes may have said, whole and of one version."""
    data = FILES[name]
    return [[len(data), hashlib.md5(bytes((b + shift) % 256 for b in data)).hexdigest()] for shift in range(256)]


def is_errno(answer):
    return isinstance(answer, str) and hasattr(errno, answer)


def records_of(world, path, answer):
    """Linux has two names for one number."""
    return [r for r in world.records if r["path"] == path and getattr(errno, r["errno"]) == getattr(errno, answer)]


CASES = [(kind, lie, file) for kind in ("html", "json") for lie, file in cases(kind)]


def test_every_lie_of_the_table_is_told():
    assert {lie.partition("=")[0] for lie, _ in cases("html")} == set(LIES)
    assert {lie for lie in LIES if lie.startswith("list")} <= {lie.partition("=")[0] for lie, _ in cases("json")}


@pytest.mark.slow
@pytest.mark.limit(500)
@pytest.mark.parametrize("kind,lie,file", CASES, ids=[f"{kind}-{lie}-{file or ''}" for kind, lie, file in CASES])
def test_right_bytes_or_an_errno(world, kind, lie, file):
    said = world.lied[kind, lie, file]
    assert isinstance(said, dict), said
    assert max(said["seconds"].values()) < BOUND, said["seconds"]
    place = place_of(kind, lie, file)
    for name, answer in said["files"].items():
        if is_errno(answer):
            assert lie not in HARMLESS, (name, answer)
            assert answer != "ENOENT" and records_of(world, f"{place}/{name}", answer), f"{name}: {answer} without a record"
        elif lie == "changing-bytes":
            assert answer[:2] in shifted_truths(name), name
        else:
            assert answer == truth(name), name


@pytest.mark.slow
@pytest.mark.limit(500)
@pytest.mark.parametrize("kind,lie,file", [case for case in CASES if case[1].startswith("list") or case[1] in ("honest", "xml-bomb", "html-error")],
                         ids=lambda value: str(value or ""))
def test_right_names_or_an_errno(world, kind, lie, file):
    said = world.lied[kind, lie, file]
    for folder, names in said["folders"].items():
        if is_errno(names):
            assert lie not in HARMLESS, (folder, names)
            path = f"{place_of(kind, lie, file)}/{folder}".rstrip("/")
            # A folder of which the server shows no page is not to be told from one that is not there.
            assert records_of(world, path, names) or (names == "ENOENT" and lie == "list-html-error"), f"{folder}: {names} without a record"
            continue
        assert len(names) == len(set(names))
        extra = {"list-loop": {"loop"}, "list-many": {f"many-{n:07}" for n in range(100_000)}}.get(lie, set())
        if lie == "list-outside":
            extra = {"small.txt"}
        if lie == "list-outside" and kind == "json":
            extra |= {"?C=N;O=D", "#top", "javascript:void(0)"}  # names like others, there
        assert set(names) - NAMES[folder] <= extra, folder
        if lie in HARMLESS:
            assert set(names) == NAMES[folder] | extra
        assert lie not in ("list-html-error", "xml-bomb", "list-endless", "list-cut"), "a page that is no whole listing was taken for one"


@pytest.mark.slow
@pytest.mark.limit(500)
@pytest.mark.parametrize("kind,lie,file", CASES, ids=[f"{kind}-{lie}-{file or ''}" for kind, lie, file in CASES])
def test_honesty_heals(world, kind, lie, file):
    said = world.healed[kind, lie, file]
    assert isinstance(said, dict), said
    assert {name: answer for name, answer in said["files"].items() if answer != truth(name)} == {}
    assert {folder: names for folder, names in said["folders"].items() if is_errno(names) or set(names) != NAMES[folder]} == {}


@pytest.mark.slow
def test_nothing_wrong_was_kept(world):
    wrong = {}
    for path, data in world.cached.items():
        name = "/".join(path.parts[3:]).replace("loop/", "")
        same_length = [whole for whole in FILES.values() if len(whole) == len(data)]
        if name.startswith("many-") or data == FILES.get(name):
            continue
        if not same_length or [len(data), hashlib.md5(data).hexdigest()] not in shifted_truths(name):
            wrong[str(path)] = len(data)
    assert wrong == {}


@pytest.mark.slow
def test_daemon_lives_and_tells_no_secret(world):
    assert world.daemons() == [world.pid]
    assert "do-not-tell" not in world.log() + json.dumps(world.errors())
    assert world.sanitizer_reports() == ""


@pytest.mark.slow
def test_lies_are_named(world):
    """Who reads the records learns which server it is and what is wrong with it."""
    for record in world.records:
        assert record["cause"] and record["backend"], record
    for lie in ("short-body", "cut-chunks", "html-error", "redirect-loop", "big-head", "head-differs", "list-html-error"):
        mine = [r["cause"] for r in world.records if f"{PREFIX}/html-{lie}-" in r["path"] + "-"]
        assert mine and all(len(cause) > 10 for cause in mine), lie


@pytest.mark.slow
def test_redirect_carries_no_secret(world):
    requests = world.liars["html"].requests()
    foreign = [seen for seen in requests if seen.host == "127.0.0.2"]
    assert [seen for seen in requests if "x-secret" in seen.fields]
    assert all("x-secret" not in seen.fields for seen in foreign)
