"""What alluxio-proxy makes of answers that go wrong while something is changed: each statusCode, answers that are lost, a close that
lies, deaths in the middle of replacing a file. A go-between in front of a real Alluxio 2.9 injects the faults."""

import errno as E
import os

import pytest

from tests.integration.alluxio_proxy_rig import DROPPED, LOST, lake_between, status
from tests.integration.contract_rig import MIB, UNKNOWN, bad, good
from tests.integration.backends_raw_rig import TOOL

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.fixture
def lake(tmp_path):
    with lake_between(tmp_path) as it:
        yield it


def once(action, what, at=1):
    """A rule: the at-th call of that action."""
    seen = []

    def rule(call):
        if call.action != action:
            return None
        seen.append(call)
        return what if len(seen) == at else None

    return rule


def always(action, what):
    return lambda call: what if call.action == action else None


# statusCode -> (errno, sent again, get-status decides) of a change: docs/BACKENDS.md

TABLE = {"CANCELLED": (E.EIO, True, True), "UNKNOWN": (E.EIO, False, True), "INVALID_ARGUMENT": (E.EOPNOTSUPP, False, False),
         "DEADLINE_EXCEEDED": (E.EIO, True, True), "NOT_FOUND": (E.ENOENT, False, False), "ALREADY_EXISTS": (E.EEXIST, False, False),
         "PERMISSION_DENIED": (E.EACCES, False, False), "RESOURCE_EXHAUSTED": (E.EIO, True, False),
         "FAILED_PRECONDITION": (E.EIO, False, False), "ABORTED": (E.EIO, True, False), "OUT_OF_RANGE": (E.ESTALE, False, False),
         "UNIMPLEMENTED": (E.EOPNOTSUPP, False, False), "INTERNAL": (E.EIO, False, True), "UNAVAILABLE": (E.EIO, True, True),
         "DATA_LOSS": (E.EIO, False, True), "UNAUTHENTICATED": (E.EACCES, False, False)}


def test_the_table_is_that_of_the_docs():
    from tests import harness
    rows = {}
    for line in (harness.ROOT / "docs/BACKENDS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells[0] in TABLE:
            rows[cells[0]] = (getattr(E, cells[1].split(";")[0].split()[0]), cells[2] == "yes", cells[3] == "yes")
    assert rows == TABLE and len(TABLE) == 16


@pytest.mark.parametrize("code", TABLE)
def test_a_change_that_was_not_done(code, lake):
    remote, between, client = lake
    errno, again, unclear = TABLE[code]
    good(client.put("f", b"x"))
    between.rule = always("rename", status(code))
    between.calls.clear()
    answer = client.rename("f", "g", flags=1)
    if again and unclear:
        assert answer["rc"] == UNKNOWN and "may have been done" in answer["why"]
    elif code == "NOT_FOUND":
        bad(answer, E.ENOENT)
    else:
        bad(answer, errno)
    assert code in answer["why"] or answer["rc"] == UNKNOWN
    order = between.actions()
    assert order.count("rename") == (4 if again else 1)
    decided = [order[n + 1:n + 3] for n, action in enumerate(order) if action == "rename"]
    assert all(after == ["get-status", "get-status"] for after in decided) == unclear, order
    assert set(remote.objects()) == {b"f"}


@pytest.mark.parametrize("code", [code for code, row in TABLE.items() if row[2]])
def test_a_change_that_was_done(code, lake):
    """The master did it, its answer to the proxy got lost: nothing is sent twice."""
    remote, between, client = lake
    good(client.put("f", b"x"))

    def rule(call):
        if call.action == "rename":
            remote.call("POST", "f", "rename", query=f"?dst={remote.top}/g")
            return status(code)
        return None

    between.rule = rule
    between.calls.clear()
    good(client.rename("f", "g"))
    assert between.actions().count("rename") == 1 and remote.objects() == {b"g": b"x"}


@pytest.mark.parametrize("what", [LOST, DROPPED, status("DEADLINE_EXCEEDED"), status("RESOURCE_EXHAUSTED")], ids=["lost", "dropped", "deadline", "busy"])
@pytest.mark.parametrize("action", ["create-file", "streams/write", "streams/close", "rename", "delete", "create-directory", "get-status"])
def test_one_answer_of_a_put_is_lost(action, what, lake):
    """Wherever it is: the file is there in the end, once, and nothing else is."""
    remote, between, client = lake
    good(client.put("f", b"old"))
    for at in (1, 2):
        data = os.urandom(70_000)
        between.rule = once(action, what, at)
        good(client.put("f", data))
        between.rule = lambda call: None
        good(client("clean", "", idle_s=0))  # of a create-file without an answer something may be left
        assert remote.objects() == {b"f": data}, (action, at)


@pytest.mark.parametrize("what", [LOST, DROPPED], ids=["lost", "dropped"])
def test_one_answer_about_a_name_is_lost(what, lake):
    remote, between, client = lake
    good(client.put("f", b"x"))
    calls = [("delete", lambda: client("remove", "f"), set()), ("rename", lambda: client.rename("f", "g"), {b"g"}),
             ("set-attribute", lambda: client("set_attr", "f", mode=0o600), {b"f"})]
    for action, call, left in calls:
        between.rule = lambda call: None
        good(client.put("f", b"x"))
        between.rule = once(action, what)
        between.calls.clear()
        good(call())
        assert set(remote.objects()) == left
        order = between.actions()
        assert order.count(action) == (1 if what == LOST and action != "set-attribute" else order.count(action)) <= 2
        assert order[order.index(action) + 1] == "get-status"
        for name in left:
            client("remove", name)
    between.rule = once("delete", what)
    good(client("mkdir", "d"))
    good(client("rmdir", "d"))
    assert remote.objects() == {}


def test_a_lost_mkdir_is_not_known(lake):
    """Whose a folder is nothing tells: the caller has to say what he knew. Not done at all is told, and tried again."""
    remote, between, client = lake
    between.rule = once("create-directory", LOST)
    assert client("mkdir", "d")["rc"] == UNKNOWN and remote.objects() == {b"d": None}
    between.rule = once("create-directory", DROPPED)
    good(client("mkdir", "e"))


def test_what_somebody_else_did_is_not_ours(lake):
    """The answer is lost, and the target is another inode: neither success nor a second try."""
    remote, between, client = lake
    good(client.put("f", b"x"))

    def rule(call):
        if call.action == "rename":
            remote.call("POST", "f", "delete")
            remote.write("g", b"theirs")
            between.rule = lambda call: None
            return DROPPED
        return None

    between.rule = rule
    between.calls.clear()
    assert client.rename("f", "g")["rc"] == UNKNOWN
    assert between.actions().count("rename") == 1 and remote.objects() == {b"g": b"theirs"}


def test_while_nothing_can_be_asked_it_is_not_known(lake):
    _, between, client = lake
    good(client.put("f", b"x"))

    def rule(call):
        if call.action == "delete":
            between.rule = lambda call: DROPPED
            return LOST
        return None

    between.rule = rule
    assert client("remove", "f")["rc"] == UNKNOWN


# A write is verified

def test_a_close_that_did_not_work(lake):
    """close answers 200 whatever happened: get-status says that the file is not completed."""
    remote, between, client = lake
    good(client.put("f", b"old"))

    def rule(call):
        if call.action != "get-status" or not call.hidden:
            return None
        code, body = remote.call("POST", call.path, "get-status")
        return code, body.replace(b'"completed":true', b'"completed":false')

    between.rule = rule
    between.calls.clear()
    answer = bad(client.put("f", b"new"), E.EIO)
    assert "not completed" in answer["why"] and between.actions().count("create-file") == 3
    assert remote.objects() == {b"f": b"old"}


def test_a_close_that_is_lost_is_sent_again(lake):
    """The bytes are not."""
    remote, between, client = lake
    between.rule = once("streams/close", DROPPED)
    good(client.put("f", b"new"))
    assert between.actions().count("streams/close") == 2 and between.actions().count("streams/write") == 1
    assert remote.objects() == {b"f": b"new"}


def test_fewer_bytes_than_were_sent(lake):
    remote, between, client = lake
    good(client.put("f", b"old"))

    def rule(call):
        if call.action != "streams/write":
            return None
        remote.server.stream(call.path, "write", b"cut")
        return 200, b"9"

    between.rule = rule
    answer = bad(client.put("f", b"new bytes"), E.EIO)
    assert "3 of 9 bytes" in answer["why"]
    between.rule = always("streams/write", (200, b"8"))
    answer = bad(client.put("f", b"new bytes"), E.EIO)
    assert "took 8 of 9" in answer["why"]
    assert remote.objects() == {b"f": b"old"}


def test_not_in_the_under_store(lake):
    """A master that does not do as it is told: the bytes are in a worker only."""
    remote, between, client = lake
    one = client.more()

    def rule(call):
        if call.action == "create-file":
            return remote.call("POST", call.path, "create-file", {"writeType": "MUST_CACHE"})
        return None

    between.rule = rule
    answer = bad(one.put("f", b"bytes"), E.EIO)
    assert "NOT_PERSISTED" in answer["why"] and remote.objects() == {}


def test_a_cut_upload_shows_nothing(lake):
    """The write breaks off each time; what the stream has is closed, removed, and never had the name."""
    remote, between, client = lake
    good(client.put("f", b"old"))

    def rule(call):
        if call.action != "streams/write":
            return None
        remote.server.stream(call.path, "write", b"half")
        assert remote.content("f") == b"old"
        return DROPPED

    between.rule = rule
    bad(client.put("f", os.urandom(MIB)), E.EIO)
    assert remote.objects() == {b"f": b"old"}
    folder = remote.server.ufs / remote.top.strip("/")
    assert [path.name for path in folder.iterdir()] == ["f"]


# In the middle of replacing

def names_moved(call):
    return call.action == "rename" and ".prelux~put-" in call.path


def test_the_new_file_cannot_have_the_name(lake):
    """Then the old one has it again."""
    remote, between, client = lake
    good(client.put("f", b"old"))
    seen = []

    def rule(call):
        if names_moved(call):
            seen.append(call)
            return status("ALREADY_EXISTS") if len(seen) == 1 else status("PERMISSION_DENIED")
        return None

    between.rule = rule
    bad(client.put("f", b"new"), E.EACCES)
    assert len(seen) == 2 and remote.objects() == {b"f": b"old"}


def test_somebody_takes_the_name_meanwhile(lake):
    """The last writer wins; nothing stays behind."""
    remote, between, client = lake
    good(client.put("f", b"old"))
    taken = []

    def rule(call):
        if names_moved(call) and len(taken) < 3 and b"f" not in remote.objects():
            taken.append(call)
            remote.write("f", b"theirs")
        return None

    between.rule = rule
    good(client.put("f", b"new"))
    assert len(taken) == 3 and remote.objects() == {b"f": b"new"}


def test_a_folder_takes_the_name_meanwhile(lake):
    remote, between, client = lake

    def rule(call):
        if names_moved(call) and b"f" not in remote.objects():
            remote.call("POST", "f", "create-directory")
        return None

    between.rule = rule
    bad(client.put("f", b"new"), E.EISDIR)
    assert remote.objects() == {b"f": None}


def test_a_death_in_the_gap(lake):
    """Killed when the old file is aside and the new one has no name: clean brings the old one back, whole."""
    remote, between, client = lake
    good(client.put("f", b"old"))
    version = client.version("f")
    victim = client.more()

    def rule(call):
        if names_moved(call) and b"f" not in remote.objects():
            victim.process.kill()
            return DROPPED
        return None

    between.rule = rule
    with pytest.raises(AssertionError, match="the tool died"):
        victim.put("f", b"new")
    victim.process.wait()
    between.rule = lambda call: None
    left = remote.objects()
    assert b"f" not in left and sorted(left.values(), key=str) == [None, b"new", b"old"]
    assert client.names() == {} and client("stat", "f")["rc"] == -E.ENOENT
    assert good(client("clean", "f", idle_s=86400))["removed"] == 2
    assert remote.objects() == {b"f": b"old"} and client.version("f") == version


def test_a_death_after_the_gap(lake):
    """The new file has the name: the old one goes."""
    remote, between, client = lake
    good(client.put("f", b"old"))
    victim = client.more()

    def rule(call):
        if call.action == "delete" and ".prelux~old-" in call.path:
            victim.process.kill()
            return DROPPED
        return None

    between.rule = rule
    with pytest.raises(AssertionError, match="the tool died"):
        victim.put("f", b"new")
    victim.process.wait()
    between.rule = lambda call: None
    assert good(client("clean", "", idle_s=86400))["removed"] == 1
    assert remote.objects() == {b"f": b"new"}


STEPS = {"the bytes": lambda call: call.action == "streams/write", "aside": lambda call: call.action == "rename" and call.path == "d/f",
         "in": lambda call: names_moved(call) and call.query["dst"].endswith("/f"), "the old one": lambda call: call.action == "delete"}


def outage(between, begins):
    """From then on nothing gets through; what did not is listed."""
    gone = []

    def rule(call):
        if gone or begins(call):
            gone.append(call)
        return DROPPED if gone else None

    between.rule = rule
    return gone


@pytest.mark.parametrize("step", STEPS)
def test_what_an_outage_leaves_goes_with_the_next_put(step, lake):
    """The proxy is away in the middle of it. What is left is nobody's, though the process that has made it lives on."""
    remote, between, client = lake
    good(client("mkdir", "d"))
    good(client.put("d/f", b"old"))
    good(client.put("d/g", b"beside"))
    gone = outage(between, STEPS[step])
    client.put("d/f", b"new")
    assert gone and any(b".prelux~" in path for path in remote.objects())
    between.rule = lambda call: None
    good(client.put("d/f", b"newer"))
    assert remote.objects() == {b"d": None, b"d/f": b"newer", b"d/g": b"beside"}


def test_what_an_outage_leaves_is_not_in_the_way_of_rmdir(lake):
    remote, between, client = lake
    good(client("mkdir", "d"))
    outage(between, STEPS["the bytes"])
    client.put("d/f", b"new")
    between.rule = lambda call: None
    assert client.names("d") == {} and len(remote.objects()) == 2
    good(client("rmdir", "d"))
    assert remote.objects() == {}


def test_a_put_beside_decides_nothing(lake):
    """The name of the old file is free, as it is for a moment whenever a file is replaced: nothing comes back then."""
    remote, between, client = lake
    good(client("mkdir", "d"))
    good(client.put("d/f", b"old"))
    outage(between, lambda call: names_moved(call) and b"d/f" not in remote.objects())
    client.put("d/f", b"new")
    between.rule = lambda call: None
    good(client.put("d/g", b"beside"))
    left = remote.objects()
    assert b"d/f" not in left and sorted(data for data in left.values() if data) == [b"beside", b"old"]
    good(client.put("d/f", b"newer"))
    assert remote.objects() == {b"d": None, b"d/f": b"newer", b"d/g": b"beside"}
