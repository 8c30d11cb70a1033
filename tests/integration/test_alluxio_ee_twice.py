"""A worker of alluxio-ee that has done a mv or rm and answers as if it had not, or not at all: the program is told what is so, and
nothing is asked for a second time where once was enough. On the stand-in (tests/standin_ee; not a real Alluxio Enterprise AI)."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.standin_ee.cluster import EeStandin, said

LOCAL = "/prelux-ee"
RENAME = "python3 -c 'import os; os.rename(\"a\", \"b\")'"

# name -> (script, the action that goes wrong, what is there before, what is there afterwards)
VERBS = {
    "mv": ("mv a b", "mv", {"a": b"one"}, {"b": b"one"}),
    "mv-over": ("mv a b", "mv", {"a": b"one", "b": b"old bytes"}, {"b": b"one"}),
    "mv-over-as-long": ("mv a b", "mv", {"a": b"one", "b": b"old"}, {"b": b"one"}),
    "write-over": ("echo new > a", "mv", {"a": b"old bytes"}, {"a": b"new\n"}),
    "rm": ("rm a c", "rm", {"a": b"one", "b": b"two", "c": b""}, {"b": b"two"}),
    "rmdir": ("rmdir d", "rm", {"d": None, "b": b"two"}, {"b": b"two"}),
    "mv-folder": ("mv d e", "rm", {"d": None, "d/f": b"one"}, {"e": None, "e/f": b"one"}),  # which is copied
}
ANSWERS = {
    "500": said({"message": "Internal Server Error"}, 500),
    "404": said({"message": "does not exist"}, 404),
    "409": said({"message": "exists"}, 409),
    "412": said({"message": "not in this state"}, 412),
    "cut": (200, {"Content-Length": "100"}, b'{"succ'),
    "empty": (200, {}, b""),
    "reset": "close",
}


@pytest.fixture(params=[True, False], ids=["replaces", "409"])
def cluster(request, tmp_path):
    with EeStandin(tmp_path, under="hdfs://lake:9000/lake", replaces=request.param) as it:
        yield it


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux, cluster):
    prelux.config({"version": 1, "backends": {"lake": cluster.backend()},
                   "mappings": [{"local": LOCAL, "remote": "lake:/", "write": request.param, "freshness": "always"}]})
    prelux.mode, prelux.cluster = request.param, cluster
    return prelux


def fill(cluster, folder, files):
    (cluster.data / folder).mkdir()
    for number, (name, data) in enumerate(files.items()):
        path = cluster.data / folder / name
        if data is None:
            path.mkdir()
            continue
        path.write_bytes(data)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))


def tree(cluster, folder):
    top = cluster.data / folder
    return {str(path.relative_to(top)): path.read_bytes() if path.is_file() else None for path in sorted(top.rglob("*"))}


class Fault:
    """The at-th call of an action that the worker carries out (or, not done, would have), is answered so; `then` comes before that answer."""

    def __init__(self, cluster, action, answer, done=True, at=1, then=None):
        self.cluster, self.action, self.answer, self.done, self.at, self.then, self.calls = cluster, action, answer, done, at, then, 0
        cluster.fault = self

    def __call__(self, seen):
        if not seen.path.startswith(f"/v1/{self.action}/"):
            return None
        if not self.done:
            self.calls += 1
            return self.answer if self.calls == self.at else None
        usual = self.cluster.answer_http(seen)
        self.calls += usual[0] == 200
        if usual[0] != 200 or self.calls != self.at:
            return usual
        if self.then:
            self.then()
        return self.answer


def asked(cluster):
    """What was asked to be moved or removed, in order."""
    return [(seen.path.split("/")[2], seen.query.get("srcPath") or seen.query["ufsFullPath"], seen.query.get("dstPath"))
            for seen in cluster.seen if seen.method == "POST" and seen.path.startswith(("/v1/mv/", "/v1/rm/"))]


def once(cluster):
    """Nothing was asked for twice; what was refused with 409 may be, when the name is free."""
    calls = [call for call in asked(cluster) if cluster.replaces or call[0] != "mv"]
    assert len(calls) == len(set(calls)), calls


def in_each(lake, before, script, faults, check=True):
    """The script in a folder for each answer, all at once, as each waits before it asks again: what became of it, by folder."""
    lake.cluster.seen.clear()
    for folder in faults:
        fill(lake.cluster, folder, before)

    def fault(seen):
        path = seen.query.get("srcPath") or seen.query.get("ufsFullPath") or ""
        one = faults.get(path.removeprefix(lake.cluster.root).strip("/").split("/")[0])
        return one(seen) if one else None

    lake.cluster.fault = fault
    with ThreadPoolExecutor(len(faults)) as pool:
        began = {folder: pool.submit(lake.run, ["sh", "-c", f"cd {LOCAL}/{folder} || exit 9; {script}"], check=check, timeout=200) for folder in faults}
        done = {folder: one.result() for folder, one in began.items()}
    lake.cli("flush", check=check)
    return done


def run(lake, folder, script, check=True):
    lake.cluster.seen.clear()
    done = lake.run(["sh", "-c", f"cd {LOCAL}/{folder} || exit 9; {script}"], check=check, timeout=200)
    lake.cli("flush", check=check)
    return done


def all_well(lake, folder, after):
    assert tree(lake.cluster, folder) == after, (folder, asked(lake.cluster))
    assert lake.cli("pending", "list", "--json")["count"] == 0 and lake.errors() == [], folder


@pytest.mark.parametrize("verb", VERBS)
def test_done_and_answered_wrongly(lake, verb):
    script, action, before, after = VERBS[verb]
    if not lake.cluster.replaces and "over" not in verb:
        pytest.skip("the same where mv replaces")
    faults = {answer: Fault(lake.cluster, action, ANSWERS[answer]) for answer in ANSWERS}
    in_each(lake, before, script, faults)
    once(lake.cluster)
    for answer, fault in faults.items():
        assert fault.calls, answer
        all_well(lake, answer, after)


@pytest.mark.parametrize("step", [("mv", 1), ("mv", 2), ("rm", 1), ("rm", 2)], ids=["aside", "in", "old", "folder"])
def test_each_step_of_a_replacement(lake, step):
    """Where mv says 409 the old file is moved aside, the new one in, the old one removed, and then the folder it lay in."""
    if lake.cluster.replaces:
        pytest.skip("mv replaces: there is one step, above")
    faults = {answer: Fault(lake.cluster, step[0], ANSWERS[answer], at=step[1]) for answer in ("500", "404", "409", "reset")}
    in_each(lake, {"a": b"old bytes"}, "echo new > a", faults)
    once(lake.cluster)
    for answer, fault in faults.items():
        assert fault.calls >= step[1], answer
        all_well(lake, answer, {"a": b"new\n"})


@pytest.mark.parametrize("verb", VERBS)
def test_not_done_and_not_told(lake, verb):
    """It is looked at, and asked once more."""
    script, action, before, after = VERBS[verb]
    if not lake.cluster.replaces and "over" not in verb:
        pytest.skip("the same where mv replaces")
    answers = ("500", "cut", "reset") + ("empty",) * (action == "rm")
    faults = {answer: Fault(lake.cluster, action, ANSWERS[answer], done=False) for answer in answers}
    in_each(lake, before, script, faults)
    for answer, fault in faults.items():
        assert fault.calls >= 2, answer
        all_well(lake, answer, after)


@pytest.mark.parametrize("verb", ["mv", "rm", "rmdir"])
def test_refused(lake, verb):
    """Nothing was done: an error, and all is where it was."""
    script, action, before, _ = VERBS[verb]
    if not lake.cluster.replaces:
        pytest.skip("the same where mv replaces")
    def refuse(answer):
        return lambda seen: ANSWERS[answer] if seen.path.startswith(f"/v1/{action}/") else None

    done = in_each(lake, before, script, {answer: refuse(answer) for answer in ("404", "409", "412")}, check=False)
    for answer in done:
        told = [row for row in lake.errors() if f"{LOCAL}/{answer}/" in row["path"]]
        assert done[answer].returncode != 0 if lake.mode == "sync" else told or (answer == "404" and action == "rm"), answer
        assert tree(lake.cluster, answer) == before, answer


# Somebody else was there at the same time

def test_what_cannot_be_told_is_an_error(lake):
    """The name is gone, and what is at the other is somebody else's."""
    fill(lake.cluster, "d", {"a": b"one"})
    Fault(lake.cluster, "mv", ANSWERS["reset"], then=lambda: (lake.cluster.data / "d/b").write_bytes(b"somebody else's"))
    done = run(lake, "d", RENAME, check=False)
    assert lake.mode == "async" or "Errno 5]" in done.stderr
    assert any(row["errno"] == "EIO" and "cannot be told" in row["cause"] for row in lake.errors()), lake.errors()
    assert tree(lake.cluster, "d") == {"b": b"somebody else's"}


@pytest.mark.parametrize("answer", ["404", "reset"])
def test_the_source_was_taken_by_somebody(lake, answer):
    """What is at the target is as long as what was to come, and is what was there before: the move was not done."""
    fill(lake.cluster, "d", {"a": b"one", "b": b"old"})
    folder = lake.cluster.data / "d"

    def fault(seen):
        if not seen.path.startswith("/v1/mv/") or (folder / "away").exists():
            return None
        (folder / "a").rename(folder / "away")
        return ANSWERS[answer]

    lake.cluster.fault = fault
    done = run(lake, "d", RENAME, check=False)
    assert lake.errors() if lake.mode == "async" else "Errno 2]" in done.stderr
    assert tree(lake.cluster, "d") == {"away": b"one", "b": b"old"}


@pytest.mark.parametrize("theirs", [b"somebody else's", None], ids=["file", "folder"])
def test_somebody_is_later_than_a_put(lake, theirs):
    """What he wrote is what is read afterwards, on this node, too."""
    path = lake.cluster.data / "d" / "a"

    def replace():
        path.unlink()
        path.mkdir() if theirs is None else path.write_bytes(theirs)

    fill(lake.cluster, "d", {})
    Fault(lake.cluster, "mv", said({"success": True}), then=replace)
    run(lake, "d", "echo new > a")
    assert lake.run(["sh", "-c", f"cat {LOCAL}/d/a || ls -d {LOCAL}/d/a/"], check=False).stdout == (theirs or b"/prelux-ee/d/a/\n").decode()
    all_well(lake, "d", {"a": theirs})
