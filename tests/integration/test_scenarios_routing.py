"""Routing, by the programs that found the holes: each begins outside the mapping and comes in by a relative name, a folder's descriptor, a
glob or `..`. Whatever lies really at the prefix, they see what they see in a plain copy."""

import os
import shutil

import pytest

from tests import trees

SCRIPTS = {
    "cat-from-the-parent": "cd mnt; cat lake/a.txt lake/sub/b",
    "find-the-parent": "find mnt | sort; find mnt -name b -exec cat {} +; cd mnt; find . -type f -printf '%p %s\\n' | sort; "
                       "find lake -newer side/s.txt -name none",
    "cp-of-the-parent": "cp -r mnt $OUT/copy; cd $OUT/copy; find . -type f | sort; cat lake/sub/b; cd - > /dev/null; "
                        "cd mnt; cp -a lake/sub $OUT/sub; ls $OUT/sub; cp lake/*.txt $OUT; ls $OUT",
    "tar-of-the-parent": "tar cf - -C mnt lake side | tar xf - -C $OUT; (cd $OUT; find . -type f | sort; cat lake/a.txt); "
                         "tar cf - mnt | tar tf - | sort; cd mnt; tar cf - --sort=name lake | tar xOf - lake/sub/b",
    "ls-up": "cd mnt/lake; ls ..; ls -R ..; cd sub; ls .. ../..; pwd; pwd -P",
    "sibling": "cd mnt/side; cat ../lake/a.txt; ls ../lake/sub; test -e ../lake/none; echo $?; test -d ../lake/sub; echo $?",
    "cd-out-again": "cd mnt/lake/..; pwd; ls; cat side/s.txt; cd lake/sub/../..; pwd; cd -P lake/sub; cd -P ..; pwd; cat a.txt",
    "globs": "echo m*/l*; echo m*/l*/*; echo */*/*/b; cat m*/l*/a.t?t; cd mnt; echo l*; echo */; echo ../m*/l*/sub/*",
    "grep-and-du": "grep -r text mnt | sort; du -ab mnt | cut -f2 | sort; cd mnt; grep -rl text . | sort; wc -c lake/*.txt",
    "rsync-of-the-parent": "rsync -a mnt/ $OUT/; cd $OUT; find . -type f | sort; cat lake/sub/b",
}


@pytest.fixture
def base(prelux):
    """A folder with neighbours; .remote is what will lie at its mnt/lake."""
    base = (prelux.tmp / "base").resolve()
    (base / "mnt/side").mkdir(parents=True)
    (base / "mnt/side/s.txt").write_text("text of a neighbour\n")
    prelux.remote = prelux.tmp / "remote"
    (prelux.remote / "sub").mkdir(parents=True)
    (prelux.remote / "a.txt").write_text("text of a\n")
    (prelux.remote / "b.txt").write_text("text of b\n")
    (prelux.remote / "sub/b").write_text("below\n")
    return base


def _covered(root):
    (root / "sub").mkdir(parents=True)
    for name in ("a.txt", "decoy.txt", "sub/b", "sub/decoy"):
        (root / name).write_text("WRONG: the real folder behind the prefix\n")


STATES = {"absent": lambda root: None, "empty": lambda root: root.mkdir(), "covered": _covered}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_programs_that_come_in_from_outside(prelux, base, name, state):
    root, out = base / "mnt/lake", prelux.tmp / "out"
    script = f"cd {base}; {SCRIPTS[name]}"
    shutil.copytree(prelux.remote, root)
    out.mkdir()
    want = prelux.plain(script, env={"OUT": str(out)})
    copied = trees.manifest(out, times=False)
    for folder in (root, out):
        shutil.rmtree(folder)
    out.mkdir()
    STATES[state](root)
    before = sorted(str(path) for path in base.rglob("*"))
    prelux.file_mapping(prelux.remote, root)
    got = prelux.run(script, env={"OUT": str(out)})
    assert (got.stdout, got.stderr) == (want.stdout, want.stderr)
    assert trees.manifest(out, times=False) == copied
    assert sorted(str(path) for path in base.rglob("*")) == before


@pytest.mark.parametrize("state", STATES)
def test_rm_of_what_is_around(prelux, base, state):
    """A mapping that can be written to: its names go from the remote, the mount point is busy. One that cannot: nothing of it goes. What is
    around goes in any case, and nothing that lies really behind the prefix."""
    root = base / "mnt/lake"
    STATES[state](root)
    behind = sorted(str(path) for path in root.rglob("*"))
    files = sorted(str(path) for path in prelux.remote.rglob("*"))
    prelux.file_mapping(prelux.remote, root)
    done = prelux.run(f"cd {base}/mnt && rm -rf lake side", check=False)
    assert done.returncode == 1 and "Read-only file system" in done.stderr
    assert sorted(str(path) for path in prelux.remote.rglob("*")) == files and not (base / "mnt/side").exists()
    (base / "mnt/side").mkdir()
    prelux.file_mapping(prelux.remote, root, write="sync")
    done = prelux.run(["rm", "-r", base / "mnt"], check=False)
    assert done.returncode == 1 and "lake" in done.stderr and "busy" in done.stderr
    assert not os.listdir(prelux.remote) and not (base / "mnt/side").exists()
    assert sorted(str(path) for path in root.rglob("*")) == behind
    assert prelux.run(["ls", "-A", base / "mnt"]).stdout == "lake\n" and prelux.run(["ls", "-A", root]).stdout == ""
