"""Writing by backend `file`, beyond the contract that all share (test_contract.py): every step of it killed, full and
read-only disks, rights, locks, names of its own, links."""

import errno as E
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests import harness
from tests.integration import contract_remotes as r
from tests.integration.contract_remotes import FileRemote, Missing, NamedFileRemote, small_disk
from tests.integration.contract_rig import MIB, Client, bad, good, unchanged
from tests.integration.backends_raw_rig import TOOL

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


@pytest.fixture(params=[FileRemote, NamedFileRemote], ids=["file", "file-without-tmpfile"])
def remote(request, tmp_path):
    return request.param(tmp_path)


@pytest.fixture
def clients(tmp_path):
    made = []

    def make(remote):
        made.append(Client(remote, f"tool{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.end()


def hidden(remote):
    return [name for _, _, names in os.walk(remote.root) for name in names if name.startswith(".prelux~")]


# Every step of every op, killed

def prepare(client):
    """What the ops below find."""
    for name in ("d", "d/full", "empty"):
        client("mkdir", name)
    for name in ("f", "g", "d/full/x"):
        client.put(name, name.encode() * 5000)


def complete(client):
    token, tags = client.upload("f", b"u" * 9000, 4096)
    return client("complete", "f", token=token, tags=tags, size=9000)


OPS = {
    "put": lambda client: client.put("f", b"n" * 10000, mode=0o640, mtime_ns="1"),
    "put-new": lambda client: client.put("n", b"n" * 10000),
    "put-absent": lambda client: client.put("n", b"n" * 10000, absent=True),
    "upload": complete,
    "copy": lambda client: client.copy("g", "f"),
    "remove": lambda client: client("remove", "f"),
    "rename": lambda client: client.rename("f", "g"),
    "rename-away": lambda client: client.rename("f", "d/n"),
    "rename-folder": lambda client: client.rename("d", "empty"),
    "rename-noreplace": lambda client: client.rename("f", "n", flags=r.NOREPLACE),
    "exchange": lambda client: client.rename("f", "d", flags=r.EXCHANGE),
    "mkdir": lambda client: client("mkdir", "n"),
    "rmdir": lambda client: client("rmdir", "empty"),
}


@pytest.mark.slow
@pytest.mark.limit(300)
@pytest.mark.parametrize("name", OPS)
def test_killed_before_every_step(name, remote, clients, tmp_path):
    """Each call that changes something is once the one that is not reached: the tree is as before or as after, whole, for readers;
    after a clean-up also for everybody else."""
    call = OPS[name]
    expected = type(remote)(tmp_path, tmp_path / "expected")
    oracle = clients(expected)
    prepare(oracle)
    before = expected.objects()
    good(call(oracle))
    after = expected.objects()
    assert before != after and not hidden(expected)
    seen = set()
    for at in range(1, 100):
        one = type(remote)(tmp_path, tmp_path / f"root{at}")
        victim = clients(one)
        prepare(victim)
        victim.steps(die_at=at)
        try:
            answer = call(victim)
        except (AssertionError, BrokenPipeError):
            answer = None
        if answer:
            good(answer)
            victim.steps()
            break
        victim.process.wait()
        shown = {path: data for path, data in one.objects().items() if not path.rpartition(b"/")[2].startswith(b".prelux~")}
        assert shown in (before, after), at
        seen.add(shown == after)
        sweeper = clients(one)
        assert set(sweeper.names()) == {path for path in shown if b"/" not in path}
        good(sweeper("clean", "", idle_s=0))
        assert one.objects() == shown and not hidden(one), at
        sweeper.close()
    assert at > 2 and False in seen


def test_what_the_living_hold_is_not_swept(clients, tmp_path):
    """A slow put has its hidden name and its lock; a sweeper lets it be, and it ends well."""
    remote = NamedFileRemote(tmp_path)
    slow, sweeper = clients(remote), clients(remote)
    slow.steps(step_ms=200)
    source = slow.source(b"x" * 100_000)
    slow.process.stdin.write(b'{"op": "put", "path": "f", "mode": 416, "from": "%s"}\n' % source.encode())
    slow.process.stdin.flush()

    def locked():  # it gets its mode after its lock
        return any(os.stat(remote.root / name).st_mode & 0o777 == 0o640 for name in hidden(remote))

    harness.wait_for(locked, 20, "a hidden file")
    for _ in range(3):
        assert good(sweeper("clean", "", idle_s=0))["removed"] == 0
    assert len(hidden(remote)) == 1
    assert b'"rc":0' in slow.process.stdout.readline()
    slow.steps()
    assert remote.objects() == {b"f": b"x" * 100_000}


def test_an_upload_in_use_is_not_swept(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    token, _ = client.upload("f", b"x" * 5000, 4096)
    with open(remote.root / f".prelux~{token}", "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert good(client("clean", "", idle_s=0))["removed"] == 0
        bad(client("abort", "f", token=token), E.EBUSY)
        bad(client("complete", "f", token=token, tags=["1000", "388"], size=5000), E.EBUSY)
    assert good(client("clean", "f", idle_s=0))["removed"] == 1 and not hidden(remote)


# Disks

@pytest.fixture
def disk(tmp_path):
    def make(**more):
        context = small_disk(tmp_path, **more)
        try:
            made.append((context, context.__enter__()))
        except Missing as why:
            pytest.skip(str(why))
        return made[-1][1]

    made = []
    yield make
    for context, _ in made:
        context.__exit__(None, None, None)


def free(remote):
    fs = os.statvfs(remote.root)
    return fs.f_bfree * fs.f_frsize


@pytest.mark.parametrize("steps", [{}, {"no_tmpfile": True}], ids=["tmpfile", "named"])
def test_a_full_disk(steps, disk, clients):
    remote = disk(size="24m")
    remote.steps = steps
    client = clients(remote)
    good(client.put("f", b"old" * 1000))
    before = free(remote)
    for path in ("f", "new"):
        unchanged(remote, client, lambda: client.put(path, os.urandom(40 * MIB)), E.ENOSPC)  # noqa: B023
        assert free(remote) == before and not hidden(remote)
    good(client.put("big", b"x" * 14 * MIB))
    unchanged(remote, client, lambda: client.copy("big", "copy"), E.ENOSPC)
    token, tags = client.upload("new", b"x" * MIB, MIB)
    source = client.source(b"y" * 20 * MIB)
    token2 = good(client("begin", "big", part_size=20 * MIB))["token"]
    bad(client("part", "big", token=token2, n=0, len=20 * MIB, **{"from": source}), E.ENOSPC)
    good(client("abort", "big", token=token2))
    good(client("complete", "new", token=token, tags=tags, size=MIB))
    good(client("remove", "big"))
    good(client.put("f", b"new" * 1000))
    assert not hidden(remote) and client.content("f") == b"new" * 1000


def test_a_disk_without_inodes(disk, clients):
    remote = disk(size="24m", options=",nr_inodes=6")
    client = clients(remote)
    for number in range(10):
        answer = client.put(f"f{number}", b"x")
        if answer["rc"]:
            break
    bad(answer, E.ENOSPC)
    bad(client("mkdir", "d"), E.ENOSPC)
    bad(client("begin", "n", part_size=4096), E.ENOSPC)
    good(client("remove", "f0"))
    good(client("mkdir", "d"))


def test_a_read_only_disk(disk, clients):
    remote = disk()
    client = clients(remote)
    prepare(client)
    token, tags = client.upload("f", b"u" * 5000, 4096)
    subprocess.run(["mount", "-o", "remount,ro", remote.root], check=True)
    able = good(client("able"))
    assert able["caps"] == 0
    for name, call in OPS.items():
        if name != "upload":
            unchanged(remote, client, lambda: call(client), E.EROFS)  # noqa: B023
    unchanged(remote, client, lambda: client("set_attr", "f", mode=0o600), E.EROFS)
    unchanged(remote, client, lambda: client("begin", "f", part_size=4096), E.EROFS)
    unchanged(remote, client, lambda: client("complete", "f", token=token, tags=tags, size=5000), E.EROFS)


def test_another_disk_below_the_root(disk, clients, tmp_path):
    """A put goes where the folder is; only what would have to move bytes is refused."""
    below = disk()
    remote = FileRemote(tmp_path, tmp_path)
    client = clients(remote)
    good(client.put("small/f", b"there"))
    good(client.put("here", b"here"))
    assert below.objects() == {b"f": b"there"}
    bad(client.rename("small/f", "x"), E.EXDEV)
    bad(client.rename("here", "small/f"), E.EXDEV)
    good(client.copy("small/f", "x"))
    good(client.copy("here", "small/f"))
    assert below.objects() == {b"f": b"here"} and (tmp_path / "x").read_bytes() == b"there"
    bad(client("rmdir", "small"), E.EBUSY, E.ENOTEMPTY)


# Rights

def test_without_rights(clients, tmp_path):
    """Not as root, who may do everything."""
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    remote = FileRemote(tmp_path)
    os.chmod(remote.root, 0o777)
    (remote.root / "foreign").mkdir()
    (remote.root / "foreign/f").write_bytes(b"x")
    (remote.root / "blind").mkdir(mode=0o755)
    os.chmod(remote.root / "blind", 0o733)
    client = Nobody.make(remote)
    try:
        for call in (lambda: client.put("foreign/f", b"y"), lambda: client.put("foreign/n", b"y"), lambda: client("remove", "foreign/f"),
                     lambda: client.rename("foreign/f", "n"), lambda: client("mkdir", "foreign/d"), lambda: client("rmdir", "foreign"),
                     lambda: client("set_attr", "foreign/f", mode=0o600), lambda: client("begin", "foreign/n", part_size=4096),
                     lambda: client.put("blind/f", b"y")):
            unchanged(remote, client, call, E.EACCES, E.ENOTEMPTY)
        good(client.put("mine", b"1", mode=0o000))
        good(client.put("mine", b"2", mode=0o444))
        good(client("set_attr", "mine", mode=0o000))
        good(client.put("mine", b"3", mode=0o400, if_version=client.version("mine")))
        token, tags = client.upload("mine", b"4" * 5000, 4096)
        call = {"token": token, "tags": tags, "size": 5000, "mode": 0o000}
        bad(client("complete", "mine", absent=True, **call), E.EEXIST)
        good(client("complete", "mine", **call))
        good(client("remove", "mine"))
    finally:
        client.close()


class Nobody(Client):
    """The tool as a user without rights."""

    launcher = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    @classmethod
    def make(cls, remote):
        if not shutil.which("setpriv"):
            pytest.skip("no setpriv")
        for folder in (remote.tmp, *remote.tmp.parents):
            if not os.stat(folder).st_mode & 1:
                os.chmod(folder, 0o711) if str(folder).startswith(tempfile.gettempdir()) else pytest.skip(f"{folder} is closed")
        if subprocess.run([*cls.launcher, "test", "-x", TOOL], check=False).returncode:
            pytest.skip(f"{TOOL} is closed to others")
        return cls(remote, "nobody")

    def source(self, data):
        path = super().source(data)
        os.chmod(path, 0o644)
        return path


# Locks

def test_a_lock_held_by_others(clients, tmp_path):
    """Whoever holds the folder is waited for."""
    remote = FileRemote(tmp_path)
    client = clients(remote)
    folder = os.open(remote.root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        source = client.source(b"x")
        client.process.stdin.write(b'{"op": "put", "path": "f", "from": "%s"}\n' % source.encode())
        client.process.stdin.flush()
        time.sleep(0.5)
        assert remote.objects() == {}
    finally:
        os.close(folder)
    assert b'"rc":0' in client.process.stdout.readline()
    assert remote.objects() == {b"f": b"x"}


@pytest.mark.slow
def test_a_lock_that_is_never_let_go(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    folder = os.open(remote.root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        begin = time.monotonic()
        bad(client.put("f", b"x"), E.EBUSY)
        assert 15 < time.monotonic() - begin < 60
    finally:
        os.close(folder)
    assert os.listdir(remote.root) == []


# Names of its own

def test_hidden_names(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    (remote.root / ".prelux~put-mine").write_bytes(b"half")
    assert client.names() == {}
    bad(client("stat", ".prelux~put-mine"), E.ENOENT)
    for name in (".prelux~x", ".prelux~x/f", "d/.prelux~", ".prelux~put-mine"):
        unchanged(remote, client, lambda: client.put(name, b"x"), E.EOPNOTSUPP)  # noqa: B023
        unchanged(remote, client, lambda: client("mkdir", name), E.EOPNOTSUPP)  # noqa: B023
        unchanged(remote, client, lambda: client("remove", name), E.EOPNOTSUPP)  # noqa: B023
    good(client.put(".prelux", b"x"))
    assert set(client.names()) == {b".prelux"}


def test_folders_that_only_the_dead_have_left(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    for name in ("d", "e"):
        good(client("mkdir", name))
        (remote.root / name / ".prelux~put-0123").write_bytes(b"half")
    good(client("rmdir", "d"))
    good(client("mkdir", "x"))
    good(client.rename("x", "e"))
    assert remote.objects() == {b"e": None}
    token, _ = client.upload("e/f", b"x", 4096)
    bad(client("rmdir", "e"), E.EBUSY)
    (remote.root / "e/g").touch()
    bad(client("rmdir", "e"), E.ENOTEMPTY)
    (remote.root / "e/g").unlink()
    good(client("abort", "e/f", token=token))
    good(client("rmdir", "e"))


# Links

def test_links(clients, tmp_path):
    """A put goes through a link, what acts on names acts on the link, and nothing leaves the root."""
    remote = FileRemote(tmp_path)
    client = clients(remote)
    root = remote.root
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    (root / "d").mkdir()
    (root / "d/f").write_bytes(b"old")
    for name, target in (("l", "d/f"), ("out", outside / "f"), ("outd", outside), ("dl", "d"), ("gone", "nothing"), ("abs", root / "d/f"),
                         ("gone-out", outside / "nothing")):
        os.symlink(target, root / name)
    good(client.put("l", b"new", if_version=client.version("l")))
    good(client.put("dl/n", b"n"))
    good(client.put("abs", b"newer"))
    assert (root / "d/f").read_bytes() == b"newer" and (root / "d/n").read_bytes() == b"n" and os.path.islink(root / "l")
    for call in (lambda: client.put("out", b"x"), lambda: client.put("outd/f", b"x"), lambda: client.put("outd/n", b"x"),
                 lambda: client("remove", "outd/f"), lambda: client("mkdir", "outd/x"), lambda: client.rename("d/n", "outd/x"),
                 lambda: client.rename("outd/f", "x"), lambda: client("set_attr", "out", mode=0o777), lambda: client.copy("out", "x"),
                 lambda: client.copy("d/f", "out"), lambda: client("begin", "outd/x", part_size=4096),
                 lambda: client("rmdir", "outd/x"), lambda: client.put("gone-out/x", b"x")):
        bad(call(), E.EACCES, E.EEXIST, E.ENOENT)
    assert os.listdir(outside) == ["f"] and (outside / "f").read_bytes() == b"secret" and os.stat(outside / "f").st_mode & 0o777 != 0o777
    bad(client.put("gone", b"x", absent=True), E.EEXIST)
    good(client.put("gone", b"x"))
    assert not os.path.islink(root / "gone") and not (root / "nothing").exists()
    bad(client("remove", "dl"), E.EISDIR)
    bad(client("rmdir", "dl"), E.ENOTEMPTY)
    good(client.rename("l", "l2"))
    good(client("remove", "l2"))
    for name in ("d/f", "d/n"):
        good(client("remove", name))
    good(client("rmdir", "dl"))
    assert (root / "d").is_dir() and not os.path.islink(root / "dl")


def test_what_is_no_object_is_not_replaced(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    os.mkfifo(remote.root / "fifo")
    good(client.put("f", b"x"))
    for call in (lambda: client.put("fifo", b"x"), lambda: client.put("fifo", b"x", absent=True), lambda: client.rename("f", "fifo"),
                 lambda: client.copy("f", "fifo"), lambda: client("mkdir", "fifo")):
        bad(call(), E.EEXIST)
    for call in (lambda: client("remove", "fifo"), lambda: client("rmdir", "fifo"), lambda: client.rename("fifo", "x"),
                 lambda: client("set_attr", "fifo", mode=0o600)):
        bad(call(), E.ENOENT)
    assert stat.S_ISFIFO(os.stat(remote.root / "fifo").st_mode)


def test_hard_links_are_two_objects(clients, tmp_path):
    remote = FileRemote(tmp_path)
    client = clients(remote)
    good(client.put("a", b"x"))
    os.link(remote.root / "a", remote.root / "b")
    good(client.rename("a", "b"))
    assert remote.objects() == {b"b": b"x"}
    os.link(remote.root / "b", remote.root / "c")
    good(client.put("c", b"new"))
    assert remote.objects() == {b"b": b"x", b"c": b"new"}


def test_bytes_are_shared_or_copied_by_the_kernel(clients, tmp_path):
    """copy_file_range does it; where it cannot (a file of /proc, another file system of an old kernel) reads and writes do."""
    remote = FileRemote(tmp_path)
    client = clients(remote)
    text = Path("/proc/version").read_bytes()
    good(client("put", "f", **{"from": "/proc/version"}, size=len(text)))
    assert remote.objects() == {b"f": text}
