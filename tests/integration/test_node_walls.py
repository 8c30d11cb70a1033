"""Node mode: what keeps one user's things from another who can do something in the remote's own folder, or speaks the protocol himself."""

import errno
import os
import stat

import pytest

from tests import wire
from tests.integration.node_rig import ALICE, BOB, CAROL, DAEMON, NODE, Node, as_user

pytestmark = NODE
LAB, DROP, INNER = "/plx-lab", "/plx-drop", "/plx-lab/deep/inner"


@pytest.fixture
def make():
    made = []

    def one(uid):
        made.append(Node(uid))
        return made[-1]

    yield one
    for node in made:
        node.close()


@pytest.mark.parametrize("write", ["sync", "async"])
def test_what_another_has_written_runs_as_nobody(make, write):
    """The file that takes the place of a setuid one is the daemon's: root's."""
    node = make(0)
    tools = [node.put(f"drop/{name}", "#!/bin/sh\n") for name in ("cut", "read", "roots")]
    for path in tools:
        os.chown(path, 0 if path.name == "roots" else ALICE, 0 if path.name == "roots" else ALICE)
        path.chmod(0o6755)
    node.configure({DROP: ("/drop", {"writers": [str(ALICE)], "write": write})})
    node.start()
    code = f"""
import json
read = open("{DROP}/read").read()
for name, mode in (("cut", "w"), ("read", "a"), ("roots", "r+")):
  with open("{DROP}/" + name, mode) as f: f.write("mine")
print(json.dumps(read))
"""
    assert node.python(ALICE, code) == "#!/bin/sh\n"
    assert node.cli(ALICE, "flush", DROP).returncode == 0
    for path in tools:
        assert "mine" in path.read_text()
        assert path.stat().st_uid == 0 and stat.S_IMODE(path.stat().st_mode) == 0o755, path


@pytest.mark.parametrize("uid", [0, DAEMON], ids=["root", "user"])
def test_links_in_the_remote_lead_nobody_to_what_is_anothers(make, uid):
    """alice can put links into the folder of the remote; what they lead to the daemon would read, or write, for her."""
    node = make(uid)
    secret = node.put("secret/file", "of secret")
    hers = node.put("drop/hers", "alice's")
    os.chown(hers, ALICE, ALICE)
    hers.chmod(0o644)
    drop = node.source / "drop"
    drop.chmod(0o755)
    links = {"out": "../secret/file", "dir": "../secret", "abs": str(secret), "guess": "../secret/none", "below": "../secret/file/none",
             "over": "ours", "mine": "hers", "ours": "../secret/file"}
    for name, target in links.items():
        (drop / name).symlink_to(target)
        owner = uid if name == "ours" else ALICE
        os.lchown(drop / name, owner, owner)
    node.configure({"/plx-secret": ("/secret", {}), DROP: ("/drop", {"writers": [str(ALICE)], "write": "sync"})})
    node.start()
    code = f"""
import json
def read(name): return open("{DROP}/" + name).read()
def write(name):
  with open("{DROP}/" + name, "w") as f: f.write("gotcha")
print(json.dumps([[no(read, n) for n in {list(links)} + ["dir/file", "dir/none"]], [no(write, n) for n in ("out", "dir/file", "dir/new", "guess")],
                  sorted(os.listdir("{DROP}"))]))
"""
    read, written, names = node.python(ALICE, code)
    assert read == ["EACCES"] * 6 + ["alice's", "of secret"] + ["EACCES"] * 2
    assert written == ["EACCES"] * 4
    assert names == ["hers", "mine", "ours"]
    assert secret.read_text() == "of secret" and os.listdir(node.source / "secret") == ["file"]


def test_what_an_inner_mapping_hides(make):
    """A prefix in another one, and its remote in the other's: who speaks the protocol gets there by the outer one no more than by its path."""
    node = make(DAEMON)
    for name in ("file", "deep/file", "deep/inner/plan", "deep/inner2/file"):
        (node.source / name).parent.mkdir(parents=True, exist_ok=True)
        node.put(name, f"of {name}")
    rules = {"write": "sync"}
    node.configure({LAB: ("/", {"writers": [str(BOB)], **rules}), INNER: ("/deep/inner", {"writers": [str(ALICE)], **rules})})
    node.start()

    def bob():
        out = {}
        for op in (wire.STAT, wire.OPEN, wire.LIST, wire.WRITE, wire.READLINK):
            for path in ("deep/inner/plan", "deep/inner"):
                with node.about(op, 0, path, (wire.F_FLAGS, 0)) as a:
                    out[op, path] = a.status
        for path, verb, *more in (("deep/inner/plan", wire.UNLINK), ("deep/inner", wire.RMDIR), ("deep/inner/new", wire.MKDIR), ("deep", wire.RMDIR),
                                  ("deep", wire.RENAME, (wire.F_TO, "mine")), ("deep/inner", wire.RENAME, (wire.F_TO, "mine")),
                                  ("file", wire.RENAME, (wire.F_TO, "deep/inner/plan"))):
            with node.about(wire.NAME, 0, path, (wire.F_VERB32, verb), *more) as a:
                out[path, verb] = a.status
        with node.about(wire.SETATTR, 0, "deep/inner/plan", (wire.F_SET, wire.SET.pack(wire.SET_MODE, 0o777, 0, 0, 0))) as a:
            out["setattr"] = a.status
        return out

    assert set(as_user(BOB, bob).values()) == {-errno.EACCES}

    def more():
        with node.about(wire.OPEN, 0, "file", (wire.F_FLAGS, 0)) as a, node.about(wire.LIST, 0, "deep") as b, \
             node.about(wire.STAT, 0, "deep/inner2/file") as c:
            return [a.status, b.status, c.status]

    assert as_user(BOB, more) == [0, 0, 0]
    with node.about(wire.WRITE, 1, "begun", (wire.F_FLAGS, os.O_RDWR | os.O_CREAT), (wire.F_MODE, 0o600)) as a:
        number = (wire.F_INO, os.fstat(a.fd).st_ino.to_bytes(8, "little"))

        def pending():
            with node.ask(wire.CTL, (wire.F_TABLE, node.table), (wire.F_VERB, "pending")) as b, node.about(wire.WHOSE, 0, "", number) as c, \
                 node.about(wire.SETATTR, 0, "", number, (wire.F_SET, wire.SET.pack(wire.SET_MODE, 0o777, 0, 0, 0))) as d:
                return [one["path"] for one in b.json()["files"]], c.status, d.status

        assert as_user(BOB, pending) == ([], -errno.ENOENT, -errno.EACCES)
        assert as_user(ALICE, lambda: pending()[0]) == [INNER + "/begun"]
    assert node.cli(BOB, "prefetch", LAB).returncode == 0
    states = [next(line.split()[1] for line in node.cli(DAEMON, "map", path).stdout.splitlines() if line.startswith("state"))
              for path in (LAB + "/deep/inner2/file", INNER + "/plan")]
    assert states == ["cached", "absent"]
    code = f'import json; print(json.dumps([open("{INNER}/plan").read(), no(os.stat, "{LAB}/file")]))'
    assert node.python(ALICE, code) == ["of deep/inner/plan", "EACCES"]


def test_access_says_what_open_says(make):
    node = make(DAEMON)
    node.put("lab/file", "x").chmod(0o666)
    node.configure({LAB: ("/lab", {"readers": [str(BOB)], "writers": [str(ALICE)], "write": "sync"}), DROP: ("/lab", {"readers": [str(BOB)]})})
    node.start()
    code = f"""
import json
print(json.dumps([[os.access(f, how) for f in ("{LAB}/file", "{LAB}", "{DROP}/file") for how in (os.R_OK, os.W_OK)], no(open, "{LAB}/file", "r+") == "EACCES"]))
"""
    assert node.python(BOB, code) == [[True, False, True, False, True, False], True]
    assert node.python(ALICE, code.replace('no(open, "/plx-lab/file", "r+") == "EACCES"', "0")) == [[True, True, True, True, False, False], 0]
    assert node.python(0, code.replace('no(open, "/plx-lab/file", "r+") == "EACCES"', "0")) == [[True, True, True, True, True, False], 0]


def test_a_tree_whose_opening_was_broken_off_is_closed(make):
    """The daemon has opened some of its folders, and must not take them for closed next time."""
    node = make(DAEMON)
    for name in ("lab/a", "lab/a/z"):
        (node.source / name).mkdir(parents=True)
        os.chown(node.source / name, DAEMON, DAEMON)
    node.put("lab/a/z/file", "z")
    two = {LAB: ("lab:/", {"readers": [str(ALICE)]}), DROP: ("lab:/a", {"readers": [str(BOB)]})}
    node.configure(two)
    node.start()
    assert node.python(ALICE, f'import json; print(json.dumps(open("{LAB}/a/z/file").read()))') == "z"
    node.stop()
    data = next(node.cache.glob("trees/*/data"))
    modes = [data, data / "a", data / "a/z"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in modes] == [0o700] * 3
    os.chown(data / "a/z", 0, 0)
    (data / "a/z").chmod(0o705)
    node.configure({LAB: two[LAB]})
    node.start()
    node.stop()
    assert stat.S_IMODE((data / "a").stat().st_mode) == 0o755
    os.chown(data / "a/z", DAEMON, DAEMON)
    node.configure(two)
    node.start()
    assert [stat.S_IMODE(path.stat().st_mode) for path in modes] == [0o700] * 3


def test_a_mappings_own_folder_is_left_as_it_is(make):
    """A folder of its remote may have any name."""
    node = make(DAEMON)
    (node.source / "trees/x").mkdir(parents=True)
    for name in ("trees", "trees/x"):
        os.chown(node.source / name, DAEMON, DAEMON)
    own = node.folder / "own"
    for path in (own, own / "trees", own / "trees/x"):
        path.mkdir()
        path.chmod(0o755)
        os.chown(path, DAEMON, DAEMON)
    node.configure({LAB: ("/", {"readers": [str(ALICE)], "cache": str(own)})})
    node.start()
    assert node.python(ALICE, f'import json; print(json.dumps(os.listdir("{LAB}/trees")))') == ["x"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (own / "trees", own / "trees/x")] == [0o755] * 2


def test_others_together_leave_places_for_who_runs_the_node(make):
    node = make(DAEMON)
    node.put("lab/file", "x")
    node.configure({LAB: ("/lab", {"readers": ["*"]})})
    node.before = ["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh"]
    node.start()
    held = []

    def session(uid):
        """A connection that stays, or None: refused."""
        os.seteuid(uid)
        try:
            sock = wire.connect(node.run, 200)
        finally:
            os.seteuid(0)
        try:
            sock.send(wire.message(wire.SESSION, (wire.F_TABLE, node.table)))
            answer = wire.receive(sock)
        except (BrokenPipeError, ConnectionResetError):
            answer = None
        if answer is None:
            sock.close()
            return None
        held.append(sock)
        return answer.status

    try:
        counts = []
        for uid in (ALICE, BOB, CAROL, CAROL + 1):
            n = 0
            while session(uid) == 0:
                n += 1
            counts.append(n)
        assert counts == [32, 32, 32, 0]
        assert [session(uid) for uid in (0, DAEMON)] == [0, 0]
    finally:
        for sock in held:
            sock.close()
