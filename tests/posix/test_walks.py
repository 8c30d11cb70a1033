"""ftw, nftw, fts, scandir, glob and wordexp over a mapping and what lies around it. The oracle: the same on a plain copy."""

import os
import shutil
import subprocess

import pytest

from tests import harness

WALKS = harness.BUILD / "tests/posix/walks"
PHYS, MOUNT, CHDIR, DEPTH, ACTION = 1, 2, 4, 8, 16


@pytest.fixture(scope="module", autouse=True)
def built():
    if not WALKS.exists():
        pytest.skip(f"{WALKS} is not built (make posix-programs)")


@pytest.fixture
def place(tmp_path):
    """m/lake is the mapping; beside it a plain folder and links into the mapping."""
    remote, area = tmp_path / "remote", tmp_path / "base/m"
    for name in ("sub/deep/er", "empty", "skip-tree/below", ".hidden"):
        (remote / name).mkdir(parents=True)
    for name in ("a.txt", "b.c", "again", "sub/c.c", "sub/deep/d.txt", "sub/deep/er/e", "skip-tree/below/f", ".hidden/g", "x[1]", "*star"):
        (remote / name).write_text(name)
    (area / "side").mkdir(parents=True)
    (area / "side/s.txt").write_text("side")
    os.symlink("lake", area / "ln")
    os.symlink("lake/sub", area / "side/ln_sub")
    os.symlink("nowhere", area / "side/dangling")
    return remote, area


def both(prelux, place, cmd, cwd):
    """(oracle, with prelux): outputs of `walks` in the same working directory."""
    remote, area = place
    shutil.copytree(remote, area / "lake")
    want = prelux.plain([WALKS, *cmd], cwd=cwd, check=False)
    shutil.rmtree(area / "lake")
    prelux.file_mapping(remote, area / "lake")
    if cwd.is_relative_to(area / "lake"):
        got = prelux.run(["sh", "-c", f"cd {cwd} && exec \"$@\"", "x", WALKS, *cmd], check=False)
    else:
        got = prelux.run([WALKS, *cmd], cwd=cwd, check=False)
    assert got.returncode == want.returncode == 0, got.stderr
    return want.stdout, got.stdout


def unordered(text):
    """Each walk's lines sorted: the order of a folder's names is the file system's."""
    walks = {}
    for line in text.splitlines():
        if line.startswith("== "):
            lines = walks[line] = []
        elif line.startswith(("-> ", "cwd ")):
            walks.setdefault(line, []).append("end of " + (list(walks)[-1]))
        else:
            lines.append(line)
    return {key: sorted(value) for key, value in walks.items()}


def roots(area):
    return [str(area / "lake"), str(area / "lake") + "/", str(area), str(area / "ln"), str(area / "ln/sub"), str(area / "lake/sub/deep"),
            str(area / "lake/a.txt"), str(area / "lake/none"), str(area / "lake/a.txt/x"), str(area / "side"), str(area / "none"),
            str(area / "lake/.."), ".", "..", ""]


@pytest.mark.parametrize("where", ["m", "m/lake", "m/side"])
@pytest.mark.parametrize("flags", [None, 0, PHYS, DEPTH, PHYS | DEPTH, PHYS | MOUNT, CHDIR, PHYS | CHDIR | DEPTH])
def test_ftw(prelux, place, tmp_path, where, flags):
    remote, area = place
    cmd = ["ftw", "0"] if flags is None else ["nftw", str(flags)]
    names = roots(area)
    if flags and flags & MOUNT:  # a mapping is a file system of its own: walks that begin outside do not enter it
        names = [name for name in names if name.startswith(str(area / "lake")) and ".." not in name]
    if not flags or not flags & PHYS:  # a folder reached by two names is shown by the first: the file system's order again
        twice = {str(area), str(area / "lake/.."), "..", "." if where == "m" else ".."}
        names = [name for name in names if name not in twice]
    want, got = both(prelux, place, [*cmd, *names], tmp_path / "base" / where)
    assert unordered(got) == unordered(want)
    first = got.split("-> ")[0].splitlines()
    paths = [line.split(" type ")[0] for line in first if line.startswith(f"{area}/lake/sub")]
    assert len(paths) >= 6
    if flags and flags & DEPTH:
        paths.reverse()
    for path in paths:  # a folder before what is in it
        assert all(paths.index(up) <= paths.index(path) for up in paths if path.startswith(up + "/"))


def test_mount_border(prelux, place, tmp_path):
    remote, area = place
    prelux.file_mapping(remote, area / "lake")
    got = prelux.run([WALKS, "nftw", str(PHYS | MOUNT), area]).stdout
    assert f"{area}/side/s.txt" in got and f"{area}/lake" not in got
    assert "a.txt" not in prelux.run(["find", area, "-xdev"]).stdout


def test_actions(prelux, place, tmp_path):
    want, got = both(prelux, place, ["nftw", str(PHYS | ACTION), str(place[1] / "lake")], tmp_path / "base/m")
    assert unordered(got) == unordered(want) and "skip-tree type" in got and "below" not in got


def test_callback_stops(prelux, place, tmp_path):
    (place[0] / "sub/stop-here").write_text("x")
    for cmd in (["ftw", "0"], ["nftw", "0"], ["nftw", str(ACTION)]):
        remote, area = place
        prelux.file_mapping(remote, area / "lake")
        lines = prelux.run([WALKS, *cmd, area / "lake/sub"], cwd=area).stdout.splitlines()
        assert "stop-here" in lines[-3] and lines[-2] == ("-> 1 0" if cmd[1] != "0" else "-> 42 0") and lines[-1] == f"cwd {area}"


LOGICAL, PHYSICAL, COMFOLLOW, NOCHDIR, NOSTAT, SEEDOT, XDEV = 2, 0x10, 1, 4, 8, 0x20, 0x40
CHILDREN, NAMES, INSTRUCT = 0x1000, 0x2000, 0x4000


@pytest.mark.parametrize("where", ["m", "m/lake"])
@pytest.mark.parametrize("flags", [PHYSICAL, LOGICAL, PHYSICAL | COMFOLLOW, PHYSICAL | NOCHDIR, PHYSICAL | SEEDOT | NOCHDIR, LOGICAL | INSTRUCT,
                                   PHYSICAL | INSTRUCT | NOCHDIR, PHYSICAL | CHILDREN, PHYSICAL | NAMES | NOCHDIR, LOGICAL | CHILDREN, 0, 3000])
def test_fts(prelux, place, tmp_path, where, flags):
    remote, area = place
    names = roots(area)[:-1]
    if flags & INSTRUCT and flags & PHYSICAL:  # docs/SEMANTICS.md: FTS_FOLLOW in a physical walk that began far from any mapping
        names.remove(str(area / "side"))
    want, got = both(prelux, place, ["fts", str(flags), *names], tmp_path / "base" / where)
    if flags & 0xfff:
        assert "a.txt" in got
    assert got == want


def test_fts_without_stat(prelux, place, tmp_path):
    """FTS_NOSTAT: which files are looked at depends on link counts and d_type, so only names and folders are compared."""
    remote, area = place
    want, got = both(prelux, place, ["fts", str(PHYSICAL | NOSTAT), str(area / "lake"), str(area)], tmp_path / "base/m")

    def names(text):
        return [line.split(" info ")[0] for line in text.splitlines()]
    assert names(got) == names(want)


def test_fts_stops(prelux, place, tmp_path):
    (place[0] / "sub/stop-here").write_text("x")
    want, got = both(prelux, place, ["fts", str(PHYSICAL), str(place[1] / "lake")], tmp_path / "base/m")
    assert got == want


@pytest.mark.parametrize("flags", [0, 1, 2])
@pytest.mark.parametrize("where", ["m", "m/lake"])
def test_scandir(prelux, place, tmp_path, where, flags):
    want, got = both(prelux, place, ["scandir", str(flags), *roots(place[1])], tmp_path / "base" / where)
    assert got == want and "a.txt" in got


@pytest.mark.parametrize("flags", [0, 1, 2, 4, 8, 16, 64, 1 << 7, (1 << 10) | (1 << 13), 1 << 13])
@pytest.mark.parametrize("where", ["m", "m/lake"])
def test_glob(prelux, place, tmp_path, where, flags):
    area = place[1]
    patterns = [f"{area}/*", f"{area}/l*", f"{area}/l*/*.c", f"{area}/*/*", f"{area}/lake/*", f"{area}/lake/.*", f"{area}/lake/*/", f"{area}/ln/*",
                f"{area}/*/sub/[cd]*", f"{area}/lake/{{a,b}}*", f"{area}/lake/none*", f"{area}/lake/x\\[1]", f"{area}/lake/\\**", f"{area}/lake/a.txt",
                f"{area}/lake/a.txt/*", f"{tmp_path}/base/?/lake/s*", "*", "*/*", "l*/a*", "../m/lake/*", "sub/../*", "~root"]
    want, got = both(prelux, place, ["glob", str(flags), *patterns], tmp_path / "base" / where)
    if flags & 4:  # GLOB_NOSORT
        want, got = (sorted(text.splitlines()) for text in (want, got))
    assert got == want


def test_wordexp(prelux, place, tmp_path):
    area = place[1]
    words = [f"{area}/lake/*.c x {area}/*/s*", f"{area}/lake/none*", "plain words", f"'{area}/lake/*'", "$HOME ~root", "lake/*"]
    want, got = both(prelux, place, ["wordexp", "0", *words], tmp_path / "base/m")
    assert got == want


def test_bash_globs(prelux, place, tmp_path):
    remote, area = place
    script = f"shopt -s globstar; cd {area}; echo *; echo l*/*; echo lake/**/*.txt; echo */; cd lake; echo *; echo ../*; echo {area}/*/sub/"
    shutil.copytree(remote, area / "lake")
    want = prelux.plain(script).stdout
    shutil.rmtree(area / "lake")
    prelux.file_mapping(remote, area / "lake")
    assert prelux.run(script).stdout == want


def test_far_walks_are_libcs(prelux, place, tmp_path):
    """A walk that can meet no mapping is libc's own: the same lines in the same order, and FTS* of both kinds at once."""
    remote, area = place
    prelux.file_mapping(remote, "/plx/lake")
    shutil.copytree(remote, area / "lake")
    for cmd in (["nftw", str(PHYS)], ["fts", str(PHYSICAL)], ["scandir", "0"], ["glob", "0"]):
        want, got = (run([WALKS, *cmd, area], cwd=area).stdout for run in (prelux.plain, prelux.run))
        assert got == want


def test_deep_and_long(prelux, tmp_path):
    """40 folders deep, names of 100 bytes: the path is longer than the kernel takes, which must end in an answer."""
    remote = tmp_path / "remote"
    deep = remote
    for i in range(40):
        deep = deep / ("d%02d" % i + "x" * 97)
        if len(str(deep)) > 3900:
            break
    os.makedirs(deep)
    (deep / "end").write_text("x")
    local = prelux.file_mapping(remote, "/plx-a-longer-prefix-than-the-remote-has" * 6)
    for cmd in (["nftw", str(PHYS)], ["fts", str(PHYSICAL)], ["ftw", "0"]):
        done = prelux.run([WALKS, *cmd, local])
        assert "d30" in done.stdout and done.stdout.splitlines()[-2].startswith("-> ")
    subprocess.run(["rm", "-rf", remote], check=True)


def test_folder_above_by_another_way(prelux):
    """A link to a folder above the prefix, which is not on disk: its names are complete, and those of other folders are as they were."""
    top, source, other = prelux.tmp / "top", prelux.tmp / "source", prelux.tmp / "other"
    for folder in (top, source, other):
        folder.mkdir()
    for name in ("top/own", "source/f", "other/x"):
        (prelux.tmp / name).touch()
    (prelux.tmp / "link").symlink_to(top)
    (prelux.tmp / "up").symlink_to(prelux.tmp)
    prelux.file_mapping(source, str(top / "deep" / "lake"))
    script = "import os, sys\nfor folder in sys.argv[1:]: print(*sorted(os.listdir(folder)))"
    done = prelux.run(["python3", "-c", script, *(prelux.tmp / name for name in ("link", "other/../link", "up/link", "link/deep", "other", "up/other"))])
    assert done.stdout.splitlines() == ["deep own", "deep own", "deep own", "lake", "x", "x"]
