"""A proxy, or what stands before it, that has done a rename or delete and answers as if it had not, or not at all: the program is told
what is so, and nothing is asked for a second time where once was enough. A go-between in front of a real Alluxio 2.9 answers so."""

import contextlib

import pytest

from tests.integration import contract_alluxio, contract_remotes
from tests.integration.alluxio_proxy_rig import DROPPED, LOST, Between, status

LOCAL = "/prelux-proxy"

# name -> (script, the action that goes wrong, what is there before, what is there afterwards)
VERBS = {
    "mv": ("mv a b", "rename", {"a": b"one"}, {"b": b"one"}),
    "mv-over": ("mv a b", "rename", {"a": b"one", "b": b"old"}, {"b": b"one"}),
    "mv-folder": ("mv d e", "rename", {"d": None, "d/f": b"one"}, {"e": None, "e/f": b"one"}),
    "mv-folder-over": ("mv -T d e", "rename", {"d": None, "d/f": b"one", "e": None}, {"e": None, "e/f": b"one"}),
    "write-over": ("echo new > a", "rename", {"a": b"old bytes"}, {"a": b"new\n"}),
    "rm": ("rm a", "delete", {"a": b"one", "b": b"two"}, {"b": b"two"}),
    "rmdir": ("rmdir d", "delete", {"d": None, "b": b"two"}, {"b": b"two"}),
}
ANSWERS = {"internal": status("INTERNAL"), "not-found": status("NOT_FOUND"), "exists": status("ALREADY_EXISTS"), "404": (404, b"Not Found"),
           "409": (409, b""), "reset": LOST}


@pytest.fixture(scope="module")
def server():
    try:
        return contract_alluxio.lake()
    except contract_remotes.Missing as why:
        pytest.skip(str(why))


@contextlib.contextmanager
def lake_of(prelux, server, mode):
    remote = contract_alluxio.AlluxioRemote(prelux.tmp, server)
    between = Between(server.url, remote.top)
    prelux.config({"version": 1, "backends": {"lake": {"type": "alluxio-proxy", "url": between.url, "root": remote.top}},
                   "mappings": [{"local": LOCAL, "remote": "lake:/", "write": mode, "freshness": "always"}]})
    prelux.mode, prelux.remote, prelux.between = mode, remote, between
    try:
        yield prelux
    finally:
        between.end()


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux, server):
    with lake_of(prelux, server, request.param) as it:
        yield it


def fill(remote, files):
    for name, data in files.items():
        if data is None:
            assert remote.call("POST", name, "create-directory")[0] == 200
        else:
            remote.write(name, data)


def tree(remote):
    return {path.decode(): data for path, data in remote.objects().items()}


class Fault:
    """The at-th call of an action that the master carries out (or, not done, would have) is answered so; `then` comes before."""

    def __init__(self, lake, action, answer, done=True, at=1, then=None):
        self.lake, self.action, self.answer, self.done, self.at, self.then, self.calls = lake, action, answer, done, at, then, 0
        lake.between.calls.clear()
        lake.between.rule = self

    def __call__(self, call):
        if call.action != self.action:
            return None
        if not self.done:
            self.calls += 1
            return self.answer if self.calls == self.at else None
        if self.calls >= self.at:
            return None
        target = f"?dst={call.query['dst']}" if "dst" in call.query else ""
        code, body = self.lake.remote.call("POST", call.path, self.action, call.body, target)
        self.calls += code == 200
        if code != 200 or self.calls != self.at:
            return code, body
        if self.then:
            self.then()
        return self.answer if self.answer != LOST else DROPPED


def once(lake):
    """Nothing that the master had done was asked for again; a rename that met a file may be, when the name is free."""
    calls = [(call.path, call.query.get("dst")) for call in lake.between.calls if call.action in ("rename", "delete")]
    again = {call for call in calls if calls.count(call) > 1 and not (call[1] and call[1].endswith(("/a", "/b", "/e")))}
    assert not again, calls


def run(lake, script, check=True):
    done = lake.run(["sh", "-c", f"cd {LOCAL} || exit 9; {script}"], check=check, timeout=200)
    lake.cli("flush", check=check)
    return done


def all_well(lake, after):
    assert tree(lake.remote) == after
    assert lake.cli("pending", "list", "--json")["count"] == 0 and lake.errors() == []


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("verb", VERBS)
def test_done_and_answered_wrongly(lake, verb, answer):
    script, action, before, after = VERBS[verb]
    if action == "delete" and answer == "exists":
        pytest.skip("that is what a rename can meet")
    fill(lake.remote, before)
    fault = Fault(lake, action, ANSWERS[answer])
    run(lake, script)
    assert fault.calls
    once(lake)
    all_well(lake, after)


@pytest.mark.parametrize("answer", ["not-found", "exists", "404"])
@pytest.mark.parametrize("step", [("rename", 2), ("delete", 1), ("delete", 2)], ids=["in", "old", "folder"])
def test_each_step_of_a_replacement(lake, step, answer):
    """The old file is moved aside (above), the new one in, the old one removed, and then the folder it lay in."""
    if step[0] == "delete" and answer == "exists":
        pytest.skip("that is what a rename can meet")
    fill(lake.remote, {"a": b"old bytes"})
    fault = Fault(lake, step[0], ANSWERS[answer], at=step[1])
    run(lake, "echo new > a")
    assert fault.calls == step[1]
    all_well(lake, {"a": b"new\n"})


@pytest.mark.parametrize("answer", ["404", "409", "reset"])
@pytest.mark.parametrize("verb", ["mv", "mv-folder", "rm", "rmdir"])
def test_not_done(lake, verb, answer):
    """Told so where it was told; asked once more where nothing was. All is where it was, or where it belongs."""
    script, action, before, after = VERBS[verb]
    fill(lake.remote, before)
    Fault(lake, action, DROPPED if answer == "reset" else ANSWERS[answer], done=False)
    done = run(lake, script, check=answer == "reset")
    if answer == "reset" or lake.mode == "async":
        return all_well(lake, after) if answer == "reset" else None
    assert done.returncode != 0 and tree(lake.remote) == before and lake.errors()
