"""Calls that would change something below a prefix: every row of calls.h marked C_CHANGE, in every way to name a path.

Each is refused with the errno of a read-only mounted file system, and neither the remote, the cache tree nor the real folder behind the
prefix changes. The oracle is such a mount where one can be made (root)."""

import errno
import os
import re
import shutil
import subprocess

import pytest

from tests import harness, trees

CHANGES = harness.BUILD / "tests/posix/changes"
ROOT = harness.ROOT
NAMES = ["f", "d", "new", "no/x", "f/x", "d/.", "d/..", "new/", "f/", ""]
FORMS = ["abs", "cwd", "dirfd", "fdlink"]
TEMPS = {"mkstemp", "mkstemp64", "mkostemp", "mkostemp64", "mkstemps", "mkstemps64", "mkostemps", "mkostemps64", "mkdtemp", "mktemp"}
REMOVERS = {"unlink", "unlinkat", "rmdir", "remove", "rename", "renameat", "renameat2"}
ADMIN = {"mount", "open_tree", "move_mount", "fspick", "mount_setattr", "umount", "umount2", "pivot_root", "chroot", "swapon", "swapoff", "quotactl"}

# Where the errno is prelux's own: they only note a name, return nothing, or would make nothing.
LOOSE = {"acct", "utmpname", "utmpxname", "updwtmp", "updwtmpx", "mktemp"}

# On a real file system these would succeed, and what follows would run on their ruins.
SKIP_ADMIN = {"CHANGES_SKIP": " ".join(["", *sorted(ADMIN | {"acct"}), ""])}


def rows():
    """Names of calls.h with C_CHANGE."""
    text = "".join((ROOT / "shim" / name).read_text() for name in ("calls.h", "calls_extra.h"))
    return {m[1] for m in re.finditer(r"^CALL\(\w+, (\w+), ([^,]*),", text, re.M) if "C_CHANGE" in m[2]}


def parse(text):
    found = {}
    for line in text.splitlines():
        call, name, number = line.split(" ")
        found[call, name] = errno.errorcode.get(int(number), number)
    return found


@pytest.fixture(scope="module", autouse=True)
def built():
    if not CHANGES.exists():
        pytest.skip(f"{CHANGES} is not built (make posix-programs)")


@pytest.fixture
def remote(tmp_path):
    folder = tmp_path / "remote"
    (folder / "d").mkdir(parents=True)
    (folder / "f").write_text("content\n")
    (folder / "d/g").write_text("more\n")
    os.utime(folder / "f", (1e9, 1e9))
    return folder


def _behind(tmp_path, state, remote):
    """The real folder at the prefix: absent, empty or with content of its own."""
    local = tmp_path / "mnt/lake"
    local.parent.mkdir()
    if state == "empty":
        local.mkdir()
    if state == "covered":
        shutil.copytree(remote, local)
        (local / "f").write_text("WRONG\n")
    return local


def _shape(folder):
    """All that a changing call could change: names, content, modes, times, attributes."""
    if not folder.exists():
        return None
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        st = path.lstat()
        found[str(path)] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_nlink, tuple(os.listxattr(path)),
                            path.read_bytes() if path.is_file() else None)
    return found


@pytest.mark.parametrize("state", ["absent", "empty", "covered"])
@pytest.mark.parametrize("form", FORMS)
def test_nothing_changes(prelux, tmp_path, remote, state, form):
    local = _behind(tmp_path, state, remote)
    prelux.file_mapping(remote, local)
    prelux.run(["cat", f"{local}/f", f"{local}/d/g"])  # cached: a call that slipped through would find something
    before = _shape(remote), _shape(local)
    cached = {p: _shape(p) for p in prelux.cache.rglob("data")}
    assert cached
    names = [name for name in NAMES if name or form != "fdlink"]  # the link itself is the kernel's
    got = parse(prelux.run([CHANGES, form, local, *names]).stdout)
    assert {call for call, _ in got} == rows()
    wrong = {key: value for key, value in got.items() if value in ("0", "-1")}
    assert not wrong
    assert (_shape(remote), _shape(local)) == before
    assert {p: _shape(p) for p in prelux.cache.rglob("data")} == cached
    assert sorted(p.name for p in local.parent.iterdir()) == ([] if state == "absent" else ["lake"])


def test_read_only_everywhere(prelux, tmp_path, remote):
    """What exists or could exist: EROFS, and each refusal stands in the records with its path."""
    local = prelux.file_mapping(remote, tmp_path / "mnt/lake")
    got = parse(prelux.run([CHANGES, "abs", local, "f", "new"]).stdout)
    makers = {"mkdir", "mkdirat", "symlink", "symlinkat", "mknod", "mknodat", "__xmknod", "__xmknodat", "mkfifo", "mkfifoat", "bind"}
    for call in rows() - ADMIN:
        target = "new" if call in makers else "f"
        assert (call, got[call, target]) == (call, "EROFS")
    for call in ADMIN:
        assert (call, got[call, "f"]) == (call, "EPERM")
    paths = {record["path"] for record in prelux.errors() if record["errno"] == "EROFS"}
    assert {f"{local}/f", f"{local}/new"} <= paths


def _oracle(tmp_path, remote, form, names):
    """The same calls on a read-only tmpfs."""
    place = tmp_path / "oracle"
    place.mkdir()
    script = f"""set -e
        mount -t tmpfs none {place}; cp -a {remote}/. {place}; mount -o remount,ro {place}
        exec {CHANGES} {form} {place} "$@" """
    done = subprocess.run(["unshare", "-m", "bash", "-c", script, "x", *names], capture_output=True, text=True,
                          env={**harness.clean_environment(), **SKIP_ADMIN})
    if done.returncode:
        pytest.skip("no read-only mount can be made here: " + done.stderr.strip()[-200:])
    return parse(done.stdout)


@pytest.mark.parametrize("form", FORMS)
def test_as_a_read_only_mount(prelux, tmp_path, remote, form):
    names = [name for name in NAMES if name]
    oracle = _oracle(tmp_path, remote, form, names)
    local = prelux.file_mapping(remote, tmp_path / "mnt/lake")
    got = parse(prelux.run([CHANGES, form, local, *names], env=SKIP_ADMIN).stdout)
    wrong = []
    for (call, name), value in got.items():
        want = oracle[call, name]
        if call in LOOSE or value == want:
            continue
        # What does not exist cannot be removed: the kernel does not look, prelux does (docs/SEMANTICS.md).
        if call in REMOVERS and want == "EROFS" and value in ("ENOENT", "ENOTDIR") and name in ("new", "new/", "f/"):
            continue
        wrong.append((call, name, value, "oracle", want))
    assert wrong == []


def test_names_of_two_sides(prelux, tmp_path, remote):
    """rename and link over the border are EXDEV, so mv and cp -l fall back; between two mappings too."""
    a, b, out = tmp_path / "m/a", tmp_path / "m/b", tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine\n")
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(remote)}},
                   "mappings": [{"local": str(a), "remote": "src:/"}, {"local": str(b), "remote": "src:/d"}]})
    script = f"""
import errno, os
def say(fn, *args):
    try:
        fn(*args); print("ok")
    except OSError as e:
        print(errno.errorcode[e.errno])
say(os.rename, "{a}/f", "{out}/x"); say(os.rename, "{out}/mine", "{a}/x"); say(os.rename, "{a}/f", "{b}/f")
say(os.rename, "{a}/f", "{a}/f2"); say(os.rename, "{a}/none", "{a}/x"); say(os.rename, "{out}/mine", "{a}/no/x")
say(os.rename, "{a}", "{out}/a"); say(os.rename, "{out}", "{a}")
say(os.link, "{a}/f", "{out}/x"); say(os.link, "{out}/mine", "{a}/x"); say(os.link, "{out}/none", "{a}/x")
fd = os.open("{a}/f", os.O_RDONLY)
say(lambda: os.link(f"/proc/self/fd/{{fd}}", "{out}/x", follow_symlinks=True))
say(os.rename, "{out}/mine", "{out}/mine2")
"""
    got = prelux.run(["python3", "-c", script]).stdout.split()
    assert got == ["EXDEV", "EXDEV", "EXDEV", "EROFS", "ENOENT", "ENOENT", "EBUSY", "EBUSY", "EXDEV", "EROFS", "ENOENT", "EXDEV", "ok"]
    assert sorted(os.listdir(out)) == ["mine2"]
    prelux.run(["mv", out / "mine2", out / "mine3"])
    prelux.run(f"cp -l {a}/f {out}/copied || cp {a}/f {out}/copied")
    assert (out / "copied").read_text() == "content\n"


def test_connect(prelux, tmp_path, remote):
    local = prelux.file_mapping(remote, "/plx")
    script = """
import errno, socket, sys
for path in sys.argv[1:]:
    try:
        socket.socket(socket.AF_UNIX).connect(path); print("ok")
    except OSError as e:
        print(errno.errorcode[e.errno])
"""
    got = prelux.run(["python3", "-c", script, f"{local}/f", f"{local}/new", f"{local}/f/x"]).stdout.split()
    assert got == ["EROFS", "ENOENT", "ENOTDIR"]
    trees.manifest(remote)


def test_plain_folder_untouched(prelux, tmp_path, remote):
    """Outside of a prefix the same calls do what they do without prelux."""
    prelux.file_mapping(remote, tmp_path / "mnt/lake")
    results = []
    for number, run in enumerate((prelux.plain, prelux.run)):
        place = tmp_path / f"plain{number}"
        shutil.copytree(remote, place)
        done = run([CHANGES, "cwd", ".", "new", "f", "d", "no/x", "f/x", "new/"], cwd=place, env=SKIP_ADMIN)
        results.append((done.stdout, sorted(re.sub("^t.{6}", "t", p.name) for p in place.rglob("*"))))
    assert results[0] == results[1]
