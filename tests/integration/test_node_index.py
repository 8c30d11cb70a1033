"""Node mode, when all mappings have the same readers: these read the index, and a hit asks nobody. Nobody else does."""

import os
import signal

import pytest

from tests.harness import wait_for
from tests.integration.node_rig import ALICE, BOB, CAROL, DAEMON, NODE, SCIENCE, Node, as_user

pytestmark = NODE
LAB, MORE = "/plx-lab", "/plx-more"
BOTH = {"readers": [f"@{SCIENCE}", str(ALICE)]}


@pytest.fixture
def node():
    one = Node(DAEMON)
    try:
        for i in range(20):
            one.put(f"lab/f{i}", f"{i}\n")
        one.put("more/file", "more\n")
        yield one
    finally:
        one.close()


READ = f"""
import json
print(json.dumps([sorted(no(os.listdir, "{LAB}")), [no(lambda: open("{LAB}/f%d" % i).read()) for i in range(20)], no(os.stat, "{LAB}/none")]))
"""
ALL = [sorted(f"f{i}" for i in range(20)), [f"{i}\n" for i in range(20)], "ENOENT"]


def readable(node):
    def look():
        out = []
        for name in ("index", "names", "key", "tables", "log"):
            try:
                os.close(os.open(node.run / name, os.O_RDONLY))
                out.append(name)
            except PermissionError:
                pass
        return out
    return look


def test_a_hit_asks_nobody(node):
    """Proved by a daemon that does not run."""
    node.configure({LAB: ("lab:/", {**BOTH, "freshness": "immutable"}), MORE: ("more:/", BOTH)})
    node.start()
    assert node.python(BOB, READ, groups=[SCIENCE]) == ALL
    assert as_user(BOB, readable(node), groups=[SCIENCE]) == ["index", "names"]
    assert as_user(CAROL, readable(node)) == []
    node.child.send_signal(signal.SIGSTOP)
    try:
        hits = READ.replace(', no(os.stat, "/plx-lab/none")', ', "ENOENT"')
        assert node.python(BOB, hits, groups=[SCIENCE]) == ALL
        assert node.python(ALICE, hits) == ALL
    finally:
        node.child.send_signal(signal.SIGCONT)
    assert node.python(CAROL, READ.replace("sorted(", "(")) == ["EACCES", ["EACCES"] * 20, "EACCES"]


def test_a_daemon_that_is_started_anew_is_waited_for(node):
    """Nobody of those whom it serves could start it; what they have open and in the cache they have without it."""
    node.configure({LAB: ("lab:/", {**BOTH, "freshness": "immutable"}), MORE: ("more:/", BOTH)})
    node.start()
    node.stop()
    begun = node.folder / "begun"
    begun.mkdir()
    begun.chmod(0o777)
    code = f'import json; open("{begun}/x", "w"); print(json.dumps(open("{LAB}/f7").read()))'
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, node.python(ALICE, code, PRELUX_CONFIG=str(node.run / "table")).encode())
        finally:
            os._exit(0)
    os.close(w)
    wait_for((begun / "x").exists, 60, "a program that needs the daemon")
    node.start()
    os.waitpid(pid, 0)
    assert os.read(r, 10) == b"7\n"
    os.close(r)


@pytest.mark.parametrize("more", [{"readers": [str(ALICE)]}, {}, {"readers": ["*"]}], ids=["fewer", "nobody", "everybody"])
def test_one_mapping_of_other_readers_closes_the_index(node, more):
    node.configure({LAB: ("lab:/", BOTH), MORE: ("more:/", more)})
    node.start()
    assert node.python(BOB, READ, groups=[SCIENCE]) == ALL
    for who, groups in ((ALICE, []), (BOB, [SCIENCE]), (CAROL, [])):
        assert as_user(who, readable(node), groups=groups) == []


def test_it_stays_theirs_when_it_grows(node):
    """Another file takes its place."""
    folder = node.source / "more/many"
    folder.mkdir()
    os.chown(folder, node.uid, node.uid)
    for i in range(45000):
        os.close(os.open(folder / f"a-name-{i}", os.O_CREAT | os.O_WRONLY, 0o644))
    node.configure({LAB: ("lab:/", BOTH), MORE: ("more:/", BOTH)})
    node.start()
    before = (node.run / "index").stat().st_ino
    assert node.python(BOB, f'import json; print(json.dumps(len(list(os.scandir("{MORE}/many")))))', groups=[SCIENCE]) == 45000
    node.python(BOB, f'import json; print(json.dumps(sum(os.stat(e.path).st_size for e in os.scandir("{MORE}/many"))))', groups=[SCIENCE])
    wait_for(lambda: (node.run / "index").stat().st_ino != before, 60, "the index has grown")
    assert as_user(BOB, readable(node), groups=[SCIENCE]) == ["index", "names"]
    assert as_user(CAROL, readable(node)) == []
