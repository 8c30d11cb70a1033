"""Backend alluxio-ee, writing, on its stand-in (tests/standin_ee; not a real Alluxio Enterprise AI). What every writable remote must
do: the rows alluxio-ee and alluxio-ee-409 of test_contract.py."""

import json
import os
import time

import pytest

from tests.integration.backends_raw_rig import TOOL, Tool
from tests.integration.contract_rig import UNKNOWN
from tests.standin_ee.cluster import HOSTS, UNDER, EeStandin, said

ENOENT, EIO, EACCES, EBUSY, EEXIST, EXDEV, ENOTDIR, EINVAL, ENOTEMPTY, EOPNOTSUPP = 2, 5, 13, 16, 17, 18, 20, 22, 39, 95
EUNKNOWN = -UNKNOWN
MIB = 1 << 20

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"), pytest.mark.asan]


@pytest.fixture(params=[True, False], ids=["replaces", "409"])
def cluster(request, tmp_path):
    with EeStandin(tmp_path, under="hdfs://lake:9000/lake", replaces=request.param) as it:
        yield it


@pytest.fixture
def tool(cluster, tmp_path):
    one = Tool(tmp_path / "tool", **cluster.backend())
    yield one
    one.close()


def put(tool, path, data):
    source = tool.folder / "source"
    source.write_bytes(data)
    return tool("put", path, **{"from": str(source)})


def tree(cluster):
    return {str(path.relative_to(cluster.data)): path.read_bytes() if path.is_file() else None for path in sorted(cluster.data.rglob("*"))}


def posts(cluster, action):
    return [seen for seen in cluster.seen if seen.method == "POST" and seen.path.startswith(f"/v1/{action}/")]


# The whole way

@pytest.mark.parametrize("mode", ["sync", "async"])
def test_programs_write(prelux, cluster, mode):
    prelux.config({"version": 1, "backends": {"lake": cluster.backend()},
                   "mappings": [{"local": "/prelux-ee", "remote": "lake:/", "write": mode}]})
    large = os.urandom(9 * MIB + 17)
    (cluster.ufs / "large").write_bytes(large)
    prelux.run(["sh", "-ec", f"""cd /prelux-ee; mkdir -p d/e; echo one > a; echo two > a; : > empty; cp {cluster.ufs}/large d/e/large
        mv a d/b; cp d/b c; rm c; echo three >> d/b; mkdir gone; rmdir gone; cat d/b"""])
    prelux.cli("flush")
    assert tree(cluster) == {"d": None, "d/b": b"two\nthree\n", "d/e": None, "d/e/large": large, "empty": b""}
    for seen in posts(cluster, "rm"):
        assert {name: seen.query[name] for name in ("recursive", "recursiveAlias", "remove_alluxio_only", "delete_mount_point")} == dict.fromkeys(
            ("recursive", "recursiveAlias", "remove_alluxio_only", "delete_mount_point"), "False"), seen
        assert seen.query["ufsFullPath"].startswith(cluster.root + "/")
    assert all("/.prelux~" in seen.query["ufsFullPath"] for action in ("chunk", "touch") for seen in posts(cluster, action))


# What a status means: PROTOCOLS 3.3

CHANGES = {"mkdir": ("mkdir", "new", {}), "rm": ("remove", "a", {}), "mv": ("rename", "a", {"to": "b"}), "copy": ("copy", "a", {"to": "b"})}
STATUSES = [(400, EOPNOTSUPP), (401, EACCES), (403, EACCES), (404, ENOENT), (412, EBUSY), (408, EUNKNOWN), (418, EIO), (500, EUNKNOWN), (503, EUNKNOWN),
            (302, EIO)]


@pytest.mark.parametrize("action", CHANGES)
def test_statuses(cluster, tool, action):
    (cluster.data / "a").write_bytes(b"x")
    before = tree(cluster)
    op, path, more = CHANGES[action]
    for status, error in STATUSES:
        cluster.seen.clear()
        cluster.fault = lambda seen: ((status, {}, b'{"message": "what happened"}')  # noqa: B023
                                      if seen.path.startswith(f"/v1/{action}/") else None)
        answer = tool(op, path, **more)
        again = action == "copy" and error in (EIO, EUNKNOWN)  # under a hidden name: given up, and done anew
        error = EIO if again else error
        assert answer["rc"] == -error, (status, answer)
        assert "what happened" in answer["why"] or error in (EUNKNOWN, EIO), answer
        assert tree(cluster) == before and len(posts(cluster, action)) == (4 if again else 1), status


def test_409(cluster, tool):
    """mkdir: somebody was faster. rm: of a folder that was filled meanwhile."""
    cluster.fault = lambda seen: said({"message": "there"}, 409) if seen.path.startswith("/v1/mkdir/") else None
    assert tool("mkdir", "new")["rc"] == -EEXIST
    (cluster.data / "d").mkdir()

    def fill(seen):
        if seen.path.startswith("/v1/rm/"):
            (cluster.data / "d" / "x").touch()

    cluster.fault = fill
    assert tool("rmdir", "d")["rc"] == -ENOTEMPTY and tree(cluster) == {"d": None, "d/x": b""}


# Lost answers

def lose(cluster, action, done, times=1):
    """The first answers to these calls are lost, with or without the deed."""
    left = [times]

    def fault(seen):
        if not seen.path.startswith(f"/v1/{action}/") or left[0] == 0:
            return None
        left[0] -= 1
        if done:
            getattr(cluster, f"post_{action}")(seen)
        return "close"

    cluster.fault = fault


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("action", ["chunk", "mv"])
def test_a_put_without_an_answer(cluster, tool, action, done):
    for old in (False, True):
        lose(cluster, action, done)
        answer = put(tool, "a", b"new bytes" if old else b"bytes")
        assert answer["rc"] == 0, answer
        assert tree(cluster) == {"a": b"new bytes" if old else b"bytes"}


def test_a_body_that_is_cut(cluster, tool):
    """The worker says 200 and has half of it; nobody sees that under the file's name, and nothing of it stays."""
    (cluster.data / "a").write_bytes(b"old")

    def fault(seen):
        if not seen.path.startswith("/v1/chunk/"):
            return None
        cluster.post_chunk(seen)
        with open(cluster.local(seen.query["ufsFullPath"]), "r+b") as file:
            file.truncate(3)
        return said({"success": True})

    cluster.fault = fault
    answer = put(tool, "a", b"bytes")
    assert answer["rc"] == -EIO and "3 of 5 bytes" in answer["why"] and tree(cluster) == {"a": b"old"}


@pytest.mark.parametrize("done", [True, False])
def test_a_rename_without_an_answer(cluster, tool, done):
    """It is looked at, and never sent again: what comes late would take a file that was made since."""
    (cluster.data / "a").write_bytes(b"x")
    lose(cluster, "mv", done)
    assert tool("rename", "a", to="b")["rc"] == (0 if done else -EUNKNOWN)
    assert len(posts(cluster, "mv")) == 1 and tree(cluster) == ({"b": b"x"} if done else {"a": b"x"})


@pytest.mark.parametrize("done", [True, False])
def test_other_calls_without_an_answer(cluster, tool, done):
    (cluster.data / "a").write_bytes(b"x")
    lose(cluster, "rm", done)
    assert tool("remove", "a")["rc"] == (0 if done else -EUNKNOWN)
    lose(cluster, "mkdir", done)
    assert tool("mkdir", "d")["rc"] == -EUNKNOWN, "who made it cannot be told"
    lose(cluster, "copy", done)
    (cluster.data / "a").write_bytes(b"x")
    assert tool("copy", "a", to="b")["rc"] == 0
    assert tree(cluster) == {"a": b"x", "b": b"x", **({"d": None} if done else {})}
    assert len(posts(cluster, "rm")) == (1 if done else 1) + done and len(posts(cluster, "mkdir")) == 1


# A cluster that says what is not so

def test_old_metadata_after_a_put(cluster, tool):
    """The worker goes on telling of the old file: that is no success."""
    (cluster.data / "a").write_bytes(b"old")
    old = cluster.info(f"{cluster.root}/a")
    cluster.fault = lambda seen: said([old]) if "/v1/info" in seen.path and seen.query["path"] == f"{cluster.root}/a" else None
    answer = put(tool, "a", b"bytes")
    assert answer["rc"] == -EUNKNOWN and "shows the old file still" in answer["why"], answer


def test_the_old_file_is_put_back(tmp_path):
    """It is moved aside, and the new one is refused its name."""
    with EeStandin(tmp_path, replaces=False) as cluster:
        tool = Tool(tmp_path / "tool", **cluster.backend())
        try:
            (cluster.data / "a").write_bytes(b"old")

            def fault(seen):
                if seen.path.startswith("/v1/mv/") and "/.prelux~put-" in seen.query["srcPath"] and not (cluster.data / "a").exists():
                    return said({"message": "what happened"}, 403)
                return None

            cluster.fault = fault
            answer = put(tool, "a", b"bytes")
            assert answer["rc"] == -EACCES and "what happened" in answer["why"], answer
            assert tree(cluster) == {"a": b"old"}
        finally:
            tool.close()


def test_what_cannot_be_removed_goes_with_the_next_put(cluster, tool):
    """Though the process that has made it lives on."""
    cluster.fault = lambda seen: said({"message": "not now"}, 403) if seen.path.startswith(("/v1/mv/", "/v1/rm/")) else None
    assert put(tool, "a", b"bytes")["rc"] == -EACCES and len(tree(cluster)) == 1
    cluster.fault = None
    assert put(tool, "a", b"more bytes")["rc"] == 0 and tree(cluster) == {"a": b"more bytes"}


def test_what_is_removed_and_still_shown(cluster, tool):
    (cluster.data / "a").write_bytes(b"old")
    cluster.fault = lambda seen: said({"success": True}) if seen.path.startswith("/v1/rm/") else None
    answer = tool("remove", "a")
    assert answer["rc"] == -EUNKNOWN and "shows it still" in answer["why"], answer


def test_a_worker_that_removes_full_folders(cluster, tool):
    (cluster.data / "d").mkdir()
    (cluster.data / "d" / "x").touch()
    assert tool("rmdir", "d")["rc"] == -ENOTEMPTY
    assert not posts(cluster, "rm"), "it is not even asked"


def test_a_mount_point_stays(cluster, tool):
    (cluster.data / "d").mkdir()
    cluster.mounts[f"{cluster.root}/d"] = {"alluxio_path": "/other"}
    answer = tool("rmdir", "d")
    assert answer["rc"] == -EBUSY and "mount point" in answer["why"] and not posts(cluster, "rm")


def test_the_source_of_a_copy_changes(cluster, tool):
    (cluster.data / "a").write_bytes(b"abc")

    def fault(seen):
        if seen.path.startswith("/v1/copy/"):
            answer = cluster.post_copy(seen)
            (cluster.data / "a").write_bytes(b"xyz")
            os.utime(cluster.data / "a", (1, 1))
            return answer
        return None

    cluster.fault = fault
    assert tool("copy", "a", to="b")["rc"] == -116
    assert tree(cluster) == {"a": b"xyz"}


# Versions

def test_equal_lengths_in_one_second(tmp_path):
    """An object store's times have seconds: the second put waits for the next one."""
    with EeStandin(tmp_path) as cluster:
        assert cluster.under == UNDER
        tool = Tool(tmp_path / "tool", **cluster.backend())
        try:
            versions = []
            for number in range(3):
                begin = time.time()
                assert put(tool, "a", b"%d" % number)["rc"] == 0
                versions.append(tool("stat", "a")["version"])
                assert time.time() - begin < 4
            assert len(set(versions)) == 3, versions
            assert tree(cluster) == {"a": b"2"}
        finally:
            tool.close()


# What is not done at all

def test_what_is_refused_before_anybody_is_asked(cluster, tool):
    """A folder's mv would copy file by file; a NOREPLACE that is none replaces; the root stays."""
    (cluster.data / "d").mkdir()
    (cluster.data / "a").write_bytes(b"x")
    before = tree(cluster)
    assert tool("rename", "d", to="e")["rc"] == -EXDEV
    assert [tool("rename", "a", to="b", flags=flags)["rc"] for flags in (1, 2, 3)] == [-EOPNOTSUPP, -EOPNOTSUPP, -EINVAL]
    assert [tool(op, "")["rc"] for op in ("remove", "rmdir", "mkdir")] == [-EBUSY, -EBUSY, -EEXIST]
    assert tool("rename", "a", to="")["rc"] == -EBUSY and tool("rename", "", to="b")["rc"] == -EBUSY
    assert put(tool, "a/b", b"x")["rc"] == -ENOTDIR and tool("mkdir", "a/b")["rc"] == -ENOTDIR and tool("mkdir", "c/d")["rc"] == -ENOENT
    assert tree(cluster) == before
    assert not [seen for seen in cluster.seen if seen.method == "POST"]


# Workers

def test_a_dead_owner(cluster, tool):
    """Who surely got nothing is passed over."""
    cluster.down(HOSTS[0])
    for number in range(6):
        assert put(tool, f"f{number}", b"x" * number)["rc"] == 0
    assert tool("rename", "f1", to="g")["rc"] == 0 and tool("remove", "f2")["rc"] == 0 and tool("mkdir", "d")["rc"] == 0
    assert set(tree(cluster)) == {"f0", "g", "f3", "f4", "f5", "d"}
    cluster.down(HOSTS[1])
    assert put(tool, "x", b"x")["rc"] == -EIO and tool("mkdir", "e")["rc"] == -EIO


# Hidden names

def test_hidden_names(cluster, tool):
    (cluster.data / ".prelux~put-x").write_bytes(b"half")
    (cluster.data / "d").mkdir()
    (cluster.data / "d" / ".prelux~put-x").write_bytes(b"half")
    assert set(tool.names("")) == {b"d"} and tool.names("d") == {}
    assert tool("stat", ".prelux~put-x")["rc"] == -ENOENT and tool("list", ".prelux~put-x")["rc"] == -ENOENT
    assert tool("remove", ".prelux~put-x")["rc"] == -ENOENT
    assert put(tool, ".prelux~x", b"")["rc"] == -EOPNOTSUPP and tool("mkdir", ".prelux~x/d")["rc"] == -EOPNOTSUPP
    assert tool("rmdir", "d")["rc"] == -ENOTEMPTY, "somebody's, of this day"
    os.utime(cluster.data / "d" / ".prelux~put-x", (1, 1))
    assert tool("rmdir", "d")["rc"] == 0 and not (cluster.data / "d").exists()


def test_of_two_old_files_the_last_one_comes_back(cluster, tool):
    """Two died while they replaced `a`: the first after the new one was there, the second before."""
    for number, data in ((1, b"first"), (2, b"second"), (3, b"third")):
        name = f".prelux~old-{'0' * 16}-{9 - number:x}-1-{1_700_000_000_000_000_000 + number:x}.0"
        (cluster.data / name).mkdir()
        (cluster.data / name / "a").write_bytes(data)
        os.utime(cluster.data / name, (1, 1))
    assert tool("clean", "", idle_s=60)["removed"] == 3
    assert tree(cluster) == {"a": b"third"}


def test_names_are_sent_whole(cluster, tool):
    """What a port might change is not made, nor removed."""
    for name in ("a b", "a=b", "a&b", "é", "a#b", "100%", "a+b"):
        (cluster.data / name).write_bytes(b"there")
        for answer in (put(tool, name, b"x"), tool("remove", name), tool("mkdir", name), tool("rename", name, to="x")):
            assert answer["rc"] == -EOPNOTSUPP, (name, answer)
    assert not [seen for seen in cluster.seen if seen.method == "POST"]


def test_able_says_so(cluster, tool):
    assert json.dumps(tool("able")["caps"]) == json.dumps(0x100 | 0x2000 | 0x40000 | 0x800000)
