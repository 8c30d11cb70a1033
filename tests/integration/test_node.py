"""Node mode: one daemon, several users. What each may, and what those try who may not."""

import contextlib
import errno
import json
import os
import stat
import struct
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import wire
from tests.integration.node_rig import ALICE, BOB, CAROL, DAEMON, DESIGN, NODE, SCIENCE, Node, as_user, become

pytestmark = NODE
SECRET, SHARED, DROP = "/plx-secret", "/plx-shared", "/plx-drop"


@pytest.fixture(scope="module", params=[0, DAEMON], ids=["root", "user"])
def node(request):
    """alice reads and writes `secret`; alice writes and science reads `shared`; alice and science write `drop`. All are of one remote and one cache."""
    one = Node(request.param)
    try:
        for name in ("secret", "shared", "drop"):
            one.put(f"{name}/file", f"of {name}\n" * 1000)
        one.configure({
            SECRET: ("/secret", {"readers": [str(ALICE)], "writers": [str(ALICE)], "write": "sync"}),
            SHARED: ("/shared", {"readers": [f"@{SCIENCE}"], "writers": [str(ALICE)], "write": "async"}),
            DROP: ("/drop", {"writers": [str(ALICE), f"@{SCIENCE}"], "write": "sync", "stream_above": "1MiB"}),
        })
        one.start()
        yield one
        one.stop()
    finally:
        one.close()


LOOK = """
import json, stat
where = sys.argv[1]
f = where + "/file"
def read():
  with open(f) as one: return len(one.read()), os.fstat(one.fileno()).st_ino == os.stat(f).st_ino
print(json.dumps([no(read), no(lambda: os.stat(f).st_size), no(os.listdir, where), no(os.access, f, os.R_OK), no(lambda: os.stat(where).st_uid)]))
"""
DENIED = ["EACCES", "EACCES", "EACCES", False, "EACCES"]


def seen(node, who, where, **more):
    return node.python(who, LOOK, where, **more)


def test_readers_read_and_others_get_eacces(node):
    for name, size in ((SECRET, 10000), (SHARED, 10000), (DROP, 8000)):
        assert seen(node, ALICE, name) == [[size, True], size, ["file"], True, ALICE]
        assert seen(node, CAROL, name) == DENIED
        assert seen(node, DAEMON if node.uid == 0 else ALICE + 90, name) == DENIED
        assert seen(node, 0, name)[0] == [size, True]
    assert seen(node, BOB, SECRET, groups=[SCIENCE]) == DENIED
    assert seen(node, BOB, SHARED, groups=[SCIENCE])[0] == [10000, True]
    assert seen(node, node.uid, SECRET)[0] == [10000, True]


def test_a_group_counts_from_the_next_connection_on(node):
    """The daemon asks the kernel, each time: not a copy of /etc/group from its start."""
    assert seen(node, BOB, SHARED) == DENIED
    assert seen(node, BOB, SHARED, groups=[DESIGN, SCIENCE])[0] == [10000, True]
    assert seen(node, BOB, SHARED, gid=SCIENCE)[0] == [10000, True]
    assert seen(node, BOB, SHARED, groups=[DESIGN]) == DENIED
    many = list(range(70000, 70300))
    assert seen(node, BOB, SHARED, groups=[*many, SCIENCE])[0] == [10000, True]
    assert seen(node, BOB, SHARED, groups=many) == DENIED


CHANGE = """
import json
where = sys.argv[1]
f = where + "/file"
def write(name, flags):
  fd = os.open(where + name, flags, 0o644)
  os.write(fd, b"mine"); os.close(fd)
tried = [no(write, "/file", os.O_WRONLY), no(write, "/file", os.O_RDWR | os.O_APPEND), no(write, "/file", os.O_WRONLY | os.O_TRUNC),
         no(write, "/new", os.O_WRONLY | os.O_CREAT), no(os.unlink, f), no(os.rename, f, where + "/moved"), no(os.mkdir, where + "/folder"),
         no(os.truncate, f, 1), no(os.chmod, f, 0o600), no(os.utime, f, (1, 1)), no(os.symlink, "file", where + "/link")]
print(json.dumps(tried))
"""


def test_only_writers_change_anything(node):
    before = {name: (node.source / name / "file").read_bytes() for name in ("secret", "shared", "drop")}
    for who, where, groups in ((BOB, SECRET, [SCIENCE]), (BOB, SHARED, [SCIENCE]), (CAROL, DROP, []), (CAROL, SHARED, [])):
        assert set(node.python(who, CHANGE, where, groups=groups)) == {"EACCES"}, (who, where)
    for name, text in before.items():
        assert (node.source / name / "file").read_bytes() == text
        assert os.listdir(node.source / name) == ["file"]


def test_what_one_writes_the_others_read(node):
    code = f"""
import json
with open("{SHARED}/report", "w") as f: f.write("by alice")
os.mkdir("{DROP}/box")
with open("{DROP}/box/a", "w") as f: f.write("a")
os.rename("{DROP}/box/a", "{DROP}/box/b")
print(json.dumps([open("{SHARED}/report").read(), os.stat("{SHARED}/report").st_uid, os.listdir("{DROP}/box")]))
"""
    assert node.python(ALICE, code) == ["by alice", ALICE, ["b"]]
    code = f'import json; print(json.dumps([open("{SHARED}/report").read(), no(open, "{SHARED}/report", "w"), open("{DROP}/box/b").read()]))'
    assert node.python(BOB, code, groups=[SCIENCE]) == ["by alice", "EACCES", "a"]
    code = f"""
import json
with open("{DROP}/box/b", "a") as f: f.write("b")
os.unlink("{DROP}/box/b") if len(sys.argv) > 1 else None
print(json.dumps(open("{DROP}/box/b").read()))
"""
    assert node.python(BOB, code, groups=[SCIENCE]) == "ab"
    assert (node.source / "drop/box/b").read_text() == "ab"
    assert node.cli(ALICE, "flush", SHARED).returncode == 0
    assert (node.source / "shared/report").read_text() == "by alice"
    code = f'import json; os.unlink("{DROP}/box/b"); os.rmdir("{DROP}/box"); os.unlink("{SHARED}/report"); print(json.dumps(1))'
    node.python(ALICE, code)
    assert node.cli(ALICE, "flush", SHARED).returncode == 0
    assert os.listdir(node.source / "shared") == ["file"] and os.listdir(node.source / "drop") == ["file"]


def test_what_waits_to_be_sent_is_told_to_readers(node):
    """Also when it was made in a crowd, as by somebody whom the daemon would give a lease."""
    code = f"""
import json
for i in range(30):
  with open("{SHARED}/w%d" % i, "w") as f: f.write(str(i))
print(json.dumps([open("{SHARED}/w%d" % i).read() for i in range(30)]))
"""
    assert node.python(ALICE, code) == [str(i) for i in range(30)]

    def waiting():
        with node.ask(wire.CTL, (wire.F_TABLE, node.table), (wire.F_VERB, "pending")) as a:
            return sorted(one["path"] for one in a.json()["files"])

    def leases():
        out = set()
        for i in range(12):
            with node.about(wire.WRITE, 1, f"x{i}", (wire.F_FLAGS, os.O_WRONLY | os.O_CREAT), (wire.F_MODE, 0o644)) as a:
                out |= {number for number, _ in a.fields if number in (23, 26, 27)}
        return out

    r, w = os.pipe()
    go, gone = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(ALICE, ALICE)
            with node.about(wire.WRITE, 1, "begun", (wire.F_FLAGS, os.O_RDWR | os.O_CREAT), (wire.F_MODE, 0o600)):
                os.write(w, b"x")
                os.read(go, 1)
        finally:
            os._exit(0)
    os.close(w)
    try:
        assert os.read(r, 1) == b"x"
        begun = SHARED + "/begun"
        assert begun in as_user(ALICE, waiting) and begun in as_user(BOB, waiting, groups=[SCIENCE]) and begun in as_user(node.uid, waiting)
        assert as_user(CAROL, waiting) == []
        assert as_user(CAROL, lambda: node.ask(wire.CTL, (wire.F_TABLE, node.table), (wire.F_VERB, "flush")).status) == 0
    finally:
        os.write(gone, b"x")
        os.waitpid(pid, 0)
        for fd in (r, go, gone):
            os.close(fd)
    code = f'import json; print(json.dumps([open("{SHARED}/w7").read(), len(os.listdir("{SHARED}")), no(os.unlink, "{SHARED}/w7")]))'
    assert node.python(BOB, code, groups=[SCIENCE]) == ["7", 32, "EACCES"]
    assert as_user(ALICE, leases) == set()
    assert node.cli(ALICE, "flush", SHARED).returncode == 0
    assert (node.source / "shared/w29").read_text() == "29"
    code = f'import json; [os.unlink(e.path) for e in os.scandir("{SHARED}") if e.name != "file"]; print(json.dumps(1))'
    node.python(ALICE, code)
    assert node.cli(ALICE, "flush", SHARED).returncode == 0
    assert os.listdir(node.source / "shared") == ["file"]


def test_large_files_are_whole_when_they_are_opened(node):
    """A file that comes in is one of the daemon's folders, where others cannot open it."""
    node.put("drop/large", "0123456789abcdef" * (3 << 16))
    node.put("drop/larger", "0123456789abcdef" * (4 << 16))
    code = f'import json, hashlib; print(json.dumps([len(open("{DROP}/large").read()), sorted(os.listdir("{DROP}"))]))'
    assert node.python(BOB, code, groups=[SCIENCE]) == [3 << 20, ["file", "large", "larger"]]

    def stream():
        with node.about(wire.OPEN, 2, "larger", (wire.F_FLAGS, 4)) as a:
            return a.status, a.fd, a.attr["size"], a.all(24)

    assert as_user(BOB, stream, groups=[SCIENCE]) == (0, -1, 4 << 20, [])
    for name in ("large", "larger"):
        (node.source / "drop" / name).unlink()
    node.python(ALICE, f'import json; print(json.dumps([no(os.unlink, "{DROP}/" + n) for n in ("large", "larger")]))')


def test_two_users_write_one_file(node):
    """Appends of both are all there, and whole."""
    code = f"""
import json
for i in range(50):
  fd = os.open("{DROP}/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
  os.write(fd, b"%d %d\\n" % (os.getuid(), i)); os.close(fd)
print(json.dumps(1))
"""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(w, str(node.python(BOB, code, groups=[SCIENCE])).encode())
        finally:
            os._exit(0)
    os.close(w)
    node.python(ALICE, code)
    os.waitpid(pid, 0)
    assert os.read(r, 10) == b"1"
    os.close(r)
    text = (node.source / "drop/log").read_text().splitlines()
    assert sorted(text) == sorted(f"{who} {i}" for who in (ALICE, BOB) for i in range(50))
    node.python(ALICE, f'import json; os.unlink("{DROP}/log"); print(json.dumps(1))')


def test_a_name_does_not_leave_for_where_one_may_not_write(node):
    code = f'import json; print(json.dumps([no(os.rename, "{DROP}/file", "{SHARED}/x"), no(os.rename, "{SHARED}/file", "{DROP}/x")]))'
    assert node.python(BOB, code, groups=[SCIENCE]) == ["EACCES", "EACCES"]
    assert os.listdir(node.source / "shared") == ["file"] and os.listdir(node.source / "drop") == ["file"]


# ---- who speaks the protocol himself ----

def mapping(number, path=""):
    return [(wire.F_MAPPING, number), (wire.F_PATH, path)]


def test_each_request_is_admitted(node):
    """Every operation of the protocol, of somebody who may do nothing; numbers that do not exist yet, too."""
    def carol():
        for op in range(4, 60):
            if op in (wire.SESSION, wire.CTL):
                continue
            for number in (0, 1, 2):
                for verb in (0, wire.RENAME):
                    with node.about(op, number, "file", (wire.F_VERB32, verb), (wire.F_TO, "x"), (wire.F_FLAGS, 0), (wire.F_INO, struct.pack("=Q", 1)),
                                    (wire.F_SET, wire.SET.pack(1, 0o777, 0, 0, 0))) as a:
                        assert (a.status, a.fd) == (-errno.EACCES, -1), (op, number, a.status)
                        assert not a.all(wire.F_ATTR)
            with node.about(op, 99, "file") as a:
                assert a.status == -errno.EINVAL or a.status == -errno.EACCES, (op, a.status)
        return True

    assert as_user(CAROL, carol)


def test_other_paths_of_the_remote_are_not_reached(node):
    def bob():
        out = []
        for path in ("../secret/file", "/secret/file", "..", "a/../../secret/file", "./file"):
            for op in (wire.STAT, wire.OPEN, wire.LIST):
                with node.about(op, 1, path, (wire.F_FLAGS, wire.WANT_FD)) as a:
                    out.append((a.status, a.fd))
        return out

    assert set(as_user(BOB, bob, groups=[SCIENCE])) == {(-errno.EINVAL, -1)}


@contextlib.contextmanager
def held_open(node, uid, data, *question):
    """A process of uid has a new file with these bytes open for writing: its number, and how to end the process, which tells the file's mode."""
    r, w = os.pipe()
    go, gone = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            become(uid, uid)
            with node.about(wire.WRITE, *question, (wire.F_MODE, 0o600)) as a:
                os.write(a.fd, data)
                os.write(w, struct.pack("=Q", os.fstat(a.fd).st_ino))
                os.read(go, 1)
                os.write(w, struct.pack("=I", os.fstat(a.fd).st_mode))
        finally:
            os._exit(0)
    os.close(w)

    def end():
        nonlocal pid
        if pid:
            os.write(gone, b"x")
            os.waitpid(pid, 0)
            pid = 0
        return struct.unpack("=I", os.read(r, 4))[0]

    try:
        yield (wire.F_INO, os.read(r, 8)), end
    finally:
        if pid:
            end()
        for fd in (r, go, gone):
            os.close(fd)


def test_another_ones_staging_files_are_not_reached_by_number(node):
    """alice has a file open for writing; bob knows its number."""
    def bob(number):
        out = {}
        for name, op, more in (("whose", wire.WHOSE, []), ("closed", wire.CLOSED, []), ("sync", 15, []),
                               ("setattr", wire.SETATTR, [(wire.F_SET, wire.SET.pack(wire.SET_MODE, 0o777, 0, 0, 0))]),
                               ("link", wire.NAME, [(wire.F_VERB32, wire.LINK)])):
            with node.about(op, 2, "mine" if name == "link" else "", number, *more) as b:
                out[name] = (b.status, b.fd, b.all(wire.F_ATTR), b.all(wire.F_PATH))
        with node.about(wire.WRITE, 2, "", (wire.F_FLAGS, os.O_RDWR | os.O_TMPFILE), (wire.F_MODE, 0o600)) as b:
            out["tmpfile"] = (b.status, b.fd, [], [])
        return out

    with held_open(node, ALICE, b"alice's plan", 0, "plan", (wire.F_FLAGS, os.O_RDWR | os.O_CREAT)) as (number, end):
        got = as_user(BOB, lambda: bob(number), groups=[SCIENCE])
        mode = end()
    assert got == {"whose": (-errno.ENOENT, -1, [], []), "closed": (-errno.EACCES, -1, [], []), "sync": (-errno.EACCES, -1, [], []),
                   "setattr": (-errno.EACCES, -1, [], []), "link": (-errno.EPERM, -1, [], []), "tmpfile": (-errno.EOPNOTSUPP, -1, [], [])}
    assert stat.S_IMODE(mode) == 0o600
    assert os.listdir(node.source / "drop") == ["file"]


def test_a_file_without_a_name_gets_none_from_others(node):
    """The daemon's own user has one; its number is all that bob knows."""
    def bob(number):
        with node.about(wire.NAME, 2, "mine", number, (wire.F_VERB32, wire.LINK)) as a, node.about(wire.WHOSE, 2, "", number) as b:
            return a.status, b.status, b.all(wire.F_ATTR)

    with held_open(node, node.uid, b"nobody's", 2, "", (wire.F_FLAGS, os.O_RDWR | os.O_TMPFILE)) as (number, _):
        assert as_user(BOB, lambda: bob(number), groups=[SCIENCE]) == (-errno.EPERM, -errno.ENOENT, [])
        assert os.listdir(node.source / "drop") == ["file"]


def test_nobody_is_given_a_program_that_is_roots(node):
    """The remote is a folder of this machine, and the daemon may be root: no owner, no setuid by whoever speaks the protocol."""
    def alice():
        out = []
        with node.about(wire.WRITE, 0, "shell", (wire.F_FLAGS, os.O_WRONLY | os.O_CREAT), (wire.F_MODE, 0o6755)) as a:
            assert a.status == 0
            os.write(a.fd, b"#!/bin/sh\n")
            number = (wire.F_INO, struct.pack("=Q", os.fstat(a.fd).st_ino))
            os.close(a.fd)
            a.fd = -1
        with node.about(wire.CLOSED, 0, "", number) as a:
            out.append(a.status)
        with node.about(wire.NAME, 0, "box", (wire.F_VERB32, wire.MKDIR), (wire.F_MODE, 0o6777)) as a:
            out.append(a.status)
        for which in (wire.SET_UID, wire.SET_GID, wire.SET_MODE, wire.SET_UID | wire.SET_MODE):
            with node.about(wire.SETATTR, 0, "shell", (wire.F_SET, wire.SET.pack(which, 0o4755 if which == wire.SET_MODE else 0o755, 0, 0, 0))) as a:
                out.append(a.status)
        return out

    assert as_user(ALICE, alice) == [0, 0] + [-errno.EPERM] * 4
    for name in ("shell", "box"):
        made = (node.source / "secret" / name).stat()
        assert made.st_uid == node.uid and not made.st_mode & 0o6000
    node.python(ALICE, f'import json; os.unlink("{SECRET}/shell"); os.rmdir("{SECRET}/box"); print(json.dumps(1))')


def test_commands_of_the_daemons_own_user(node):
    """Others may look at what they may read, and nothing else."""
    def verbs():
        out = {}
        for verb, args in (("daemon-stop", []), ("evict", [SHARED]), ("pin", [SHARED]), ("unpin", [SHARED]), ("pins", []), ("verify", [SHARED]),
                           ("errors", []), ("log", []), ("log-level", ["debug"]), ("tables", []), ("status", []), ("stats", []), ("metrics", []), ("doctor", []),
                           ("pending-retry", ["all"]), ("pending-drop", ["1-1"]), ("load", ["submit", SHARED]), ("cluster", ["free", SHARED]), ("nothing", []),
                           ("map", [SECRET]), ("stat", [SECRET + "/file"]), ("ls", [SECRET]), ("ls", [SHARED])):
            with node.ask(wire.CTL, (wire.F_TABLE, node.table), (wire.F_VERB, verb), *[(wire.F_ARG, one) for one in args]) as a:
                out[verb] = a.status
        return out

    got = as_user(BOB, verbs, groups=[SCIENCE])
    assert got.pop("ls") == 0 and set(got.values()) <= {-errno.EACCES, -errno.EINVAL} and got["nothing"] == -errno.EINVAL
    assert [verb for verb, status in got.items() if status == -errno.EINVAL] == ["nothing"]
    assert node.child.poll() is None

    def everything():
        with node.ask(wire.CTL, (wire.F_TABLE, node.table), (wire.F_VERB, "pending")) as a:
            return a.status, a.json()["files"] if a.status == 0 else None

    def without_table():
        with node.ask(wire.CTL, (wire.F_VERB, "pending")) as a:
            return a.status

    assert as_user(CAROL, everything) == (0, [])
    assert as_user(CAROL, without_table) == wire.NO_TABLE


def test_commands_as_people_type_them(node):
    done = node.cli(ALICE, "run", "--", "cat", SECRET + "/file")
    assert (done.returncode, done.stdout) == (0, "of secret\n" * 1000), done.stderr
    done = node.cli(CAROL, "run", "--", "cat", SECRET + "/file")
    assert done.returncode == 1 and "Permission denied" in done.stderr
    assert node.cli(CAROL, "daemon", "status").returncode == 0
    lines = [line.split(None, 2) for line in node.cli(CAROL, "doctor").stdout.splitlines()]
    assert ["ok", "runtime", f"folder   {node.run}, of a daemon for several users"] in lines and ["ok", "daemon"] in [line[:2] for line in lines]
    done = node.cli(CAROL, "daemon", "stop")
    assert done.returncode == 1 and node.child.poll() is None
    assert node.cli(BOB, "prefetch", SHARED, gid=SCIENCE).returncode == 0
    done = node.cli(BOB, "ls", SECRET, gid=SCIENCE)
    assert done.returncode == 1 and "ermission denied" in done.stderr
    assert node.cli(node.uid, "pin", SECRET).returncode == 0
    assert node.cli(0, "unpin", SECRET).returncode == 0


def test_a_configuration_of_their_own_is_refused(node):
    """The daemon would read it, and all that it names, with its own rights."""
    own = Path(tempfile.mkdtemp(dir=node.folder)) / "mine.yaml"
    own.write_text(node.config.read_text().replace(SECRET, "/plx-mine").replace(str(ALICE), str(CAROL)))
    own.parent.chmod(0o755)
    own.chmod(0o644)

    def ask(**more):
        with wire.register(node.run, **more) as a:
            return a.status, a.table

    assert as_user(CAROL, lambda: ask(config=own)) == (-errno.EPERM, None)
    assert as_user(CAROL, lambda: ask(config=None, table=bytes(16))) == (-errno.EPERM, None)
    assert as_user(CAROL, lambda: ask(config=None)) == (-errno.EPERM, None)
    assert as_user(node.uid, lambda: ask(config=own)) == (-errno.EPERM, None)
    for name in (node.config, node.run / "table"):
        assert as_user(CAROL, lambda: ask(config=name)) == (0, node.table)
    done = node.cli(CAROL, "run", "--", "cat", "/plx-mine/file", PRELUX_CONFIG=str(own))
    assert done.returncode != 0 and str(node.run / "table") in done.stderr and "of secret" not in done.stdout


def reachable(start):
    """What that user can open below a folder, or make there, by the kernel's own rules."""
    found, todo = [], [str(start)]
    while todo:
        one = todo.pop()
        for flags, what in ((os.O_RDONLY, "r"), (os.O_WRONLY, "w")):
            try:
                os.close(os.open(one, flags))
                found.append((one, what))
            except OSError:
                pass
        try:
            todo += [os.path.join(one, name) for name in os.listdir(one)]
        except OSError:
            pass
    return found


def test_nothing_in_the_folders_but_the_table(node):
    """Index, names, key, log, errors, snapshot, catalogue, cache and staging files by their paths, which bob is told by others."""
    seen(node, ALICE, SECRET)
    seen(node, BOB, SHARED, groups=[SCIENCE])
    every = [str(path) for top in (node.run, node.cache) for path in top.rglob("*")]
    assert {os.path.basename(one) for one in every} >= {"index", "names", "key", "log", "table", "catalogue.db", "staging", "file", "tables"}
    secret = [one for one in every if "secret" in one]
    assert secret

    def carol():
        out = [hit for one in (node.run, node.cache, node.config) for hit in reachable(one)]
        for one in every:
            out += reachable(one)
            try:
                os.rename(one, one + ".mine")
                out.append((one, "renamed"))
            except OSError:
                pass
        return {hit for hit in out if not os.path.exists(hit[0]) or not stat.S_ISSOCK(os.stat(hit[0]).st_mode)}

    assert as_user(CAROL, carol) == {(str(node.run / "table"), "r")}


def test_a_descriptor_is_all_that_it_is(node):
    """What is passed cannot be opened again for writing, and leads nowhere: not to the folder above, not to another mapping's files."""
    seen(node, ALICE, SECRET)
    tree = os.path.dirname(json.loads(node.cli(ALICE, "map", "--json", SECRET).stdout)["cache"])

    def bob():
        out = []

        def attempt(fn):
            try:
                out.append(("made", fn()))
            except OSError as error:
                out.append(errno.errorcode[error.errno])

        with node.about(wire.OPEN, 1, "file", (wire.F_FLAGS, wire.WANT_FD)) as a:
            assert os.pread(a.fd, 10, 0) == b"of shared\n"
            me = f"/proc/self/fd/{a.fd}"
            attempt(lambda: os.open(me, os.O_RDWR))
            attempt(lambda: os.fchmod(a.fd, 0o777))
            attempt(lambda: os.ftruncate(a.fd, 0))
            attempt(lambda: os.utime(a.fd))
        with node.about(wire.OPEN, 1, "", (wire.F_FLAGS, wire.WANT_FD)) as a:
            me = f"/proc/self/fd/{a.fd}"
            for name in ("../secret/file", "../../data/secret/file", f"../../../{os.path.basename(os.path.dirname(tree))}/data/secret/file",
                         "../../../../.prelux/catalogue.db", "mine"):
                attempt(lambda: os.open(name, os.O_RDONLY if name != "mine" else os.O_WRONLY | os.O_CREAT, dir_fd=a.fd))
                attempt(lambda: os.stat(name, dir_fd=a.fd).st_size)
        return out

    got = as_user(BOB, bob, groups=[SCIENCE])
    assert not [one for one in got if isinstance(one, tuple)], got


def test_a_daemon_of_a_place_that_others_can_make_is_not_believed(node):
    """Who sets PRELUX_RUNTIME_DIR to a folder of /tmp may meet somebody there who was quicker."""
    if node.uid == 0:
        pytest.skip("root's daemon is believed anywhere")
    copy = Path(tempfile.mkdtemp(dir="/tmp", prefix="plx-"))
    try:
        copy.chmod(0o755)
        os.chown(copy, node.uid, node.uid)
        (copy / "run").symlink_to(node.run)
        listen = "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(sys.argv[1]); s.listen(5); print(1, flush=True); s.accept()"
        child = subprocess.Popen(["/usr/bin/python3", "-c", listen, str(copy / "sock")], user=node.uid, group=node.uid, extra_groups=[],
                                 stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"1\n"
        (copy / "sock").chmod(0o666)
        done = node.cli(ALICE, "daemon", "status", PRELUX_RUNTIME_DIR=str(copy))
        assert done.returncode == 1 and "no daemon runs" in done.stderr
        done = node.cli(ALICE, "daemon", "status", PRELUX_RUNTIME_DIR=str(copy / "run"))
        assert done.returncode == 1 and "no daemon runs" in done.stderr
        child.kill()
        child.wait()
        child.stdout.close()
        assert node.cli(ALICE, "daemon", "status").returncode == 0
    finally:
        for one in copy.iterdir():
            one.unlink()
        copy.rmdir()


def test_what_cannot_be_kept_is_refused(prelux):
    one = Node(DAEMON)
    try:
        one.put("a/file", "x")
        one.configure({SECRET: ("/a", {"readers": ["no-such-user-here"]}), SHARED: ("/a", {"readers": ["65534"]}), DROP: ("/a", {})})
        one.start()
        code = f'import json; print(json.dumps([no(os.stat, p + "/file") for p in ("{SECRET}", "{SHARED}", "{DROP}")]))'
        assert one.python(CAROL, code) == ["EIO", "EIO", "EACCES"]
        assert one.python(DAEMON, code.replace(f'"{DROP}"', f'"{SECRET}"')) == ["EIO", "EIO", "EIO"]
        one.stop()
        for change, word in ((lambda: one.config.chmod(0o622), "others may write"), (lambda: one.config.write_text("version: 2\n"), "version"),
                             (lambda: one.run.chmod(0o773), "runtime folder")):
            one.configure({DROP: ("/a", {})})
            change()
            child = one.launch()
            assert child.wait(60) == 1
            assert word in child.stderr.read()
            child.stderr.close()
    finally:
        one.close()
