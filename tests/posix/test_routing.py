"""Routing: however a mapped name is reached, and whatever lies really at the prefix, programs see the mapping.

The oracle is the same program on a plain copy of the tree at the same place."""

import os
import shutil
import subprocess

import pytest

from tests import harness

PROBE = harness.BUILD / "tests/posix/probe"
NAMES = ["", "a.txt", "sub", "sub/b.bin", "sub/deep/c", "missing", "a.txt/x", "missing/x", "sub/", "a.txt/", "sub/.", "sub/..",
         "./a.txt", "sub//b.bin", "sub/../a.txt", "a.txt/../a.txt", "missing/../a.txt", "sub/deep/../../a.txt", "../lake/a.txt",
         "../side/s.txt", "..", "../.."]
LINKS = {"ln_root": "{base}/mnt/lake", "ln_rel": "mnt/lake", "ln_sub": "mnt/lake/sub", "ln_mnt": "{base}/mnt", "ln_chain": "ln_rel"}


def _forms():
    if not PROBE.exists():
        return ["not-built"]
    return subprocess.run([PROBE, "--list", "x"], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """BASE with neighbours and links, and the remote tree."""
    if not PROBE.exists():
        pytest.skip(f"{PROBE} is not built (make posix-programs)")
    base = tmp_path_factory.mktemp("base").resolve()
    remote = tmp_path_factory.mktemp("remote").resolve()
    (remote / "sub/deep").mkdir(parents=True)
    (remote / "a.txt").write_text("text of a\n")
    (remote / "sub/b.bin").write_bytes(bytes(range(1, 200)).replace(b"\n", b""))
    (remote / "sub/deep/c").write_text("c\n")
    (remote / "empty").mkdir()
    for folder in ("mnt/side", "far/below"):
        (base / folder).mkdir(parents=True)
    (base / "mnt/side/s.txt").write_text("unmapped\n")
    for name, to in LINKS.items():
        os.symlink(to.format(base=base), base / name)
    return base, remote


def _absent(root):
    pass


def _empty(root):
    root.mkdir()


def _covered(root):
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("WRONG: the real folder behind the prefix\n")
    (root / "decoy").write_text("WRONG\n")
    (root / "sub/decoy").write_text("WRONG\n")


def _clear(root):
    if root.exists():
        shutil.rmtree(root)


STATES = {"absent": _absent, "empty": _empty, "covered": _covered}
_oracle = {}


def _plain(place, form):
    """What the probe says of a plain copy; made once a form."""
    base, remote = place
    root = base / "mnt/lake"
    if form not in _oracle:
        _clear(root)
        shutil.copytree(remote, root)
        _oracle[form] = subprocess.run([PROBE, form, base, *NAMES], capture_output=True, env=harness.clean_environment(), check=True).stdout
        _clear(root)
    return _oracle[form]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("form", _forms())
def test_routing(prelux, place, form, state):
    base, remote = place
    expected = _plain(place, form)
    root = base / "mnt/lake"
    STATES[state](root)
    try:
        before = sorted(str(p) for p in base.rglob("*"))
        prelux.file_mapping(remote, root)
        ran = prelux.run([PROBE, form, base, *NAMES], bare=True, text=False)
        assert ran.stdout.decode("latin-1").splitlines() == expected.decode("latin-1").splitlines()
        assert sorted(str(p) for p in base.rglob("*")) == before, "something was made under the real prefix"
    finally:
        _clear(root)


@pytest.mark.parametrize("state", STATES)
def test_unlink_is_refused(prelux, place, state):
    """Every way to an existing name: EROFS, and it is still there."""
    base, remote = place
    root = base / "mnt/lake"
    _clear(root)
    STATES[state](root)
    try:
        prelux.file_mapping(remote, root)
        for form in _forms():
            ran = prelux.run([PROBE, form, base, "a.txt", "sub/b.bin"], bare=True, text=True, env={"PROBE_UNLINK": "1"})
            assert ran.stderr.splitlines() == ["unlink a.txt: EROFS", "unlink sub/b.bin: EROFS"], form
        assert (remote / "a.txt").read_text() == "text of a\n"
        if state == "covered":
            assert (root / "a.txt").exists()
    finally:
        _clear(root)


def test_missing_ancestors(prelux, tmp_path):
    """A prefix whose parents do not exist: they answer as folders, and nothing is made on disk."""
    remote = tmp_path / "remote"
    remote.mkdir()
    (remote / "f").write_text("f\n")
    base = tmp_path / "base"
    base.mkdir()
    (base / "real").write_text("r\n")
    prelux.file_mapping(remote, base / "x/y/lake")
    script = """
      set -e
      ls -a {b}; ls -a {b}/x; ls -a {b}/x/y; ls {b}/x/y/lake
      cd {b}/x; pwd; cat y/lake/f; cd y; pwd; cd lake; pwd; cd ../..; pwd; cd ..; pwd; cat real
      find {b} | sort
      test -d {b}/x/y; ! test -e {b}/x/z; ! touch {b}/x/z 2>/dev/null; ! mkdir {b}/x/y/new 2>/dev/null
    """.format(b=base)
    mapped = prelux.run(script, bare=True).stdout
    assert sorted(os.listdir(base)) == ["real"]
    (base / "x/y").mkdir(parents=True)
    shutil.copytree(remote, base / "x/y/lake")
    plain = prelux.plain(script.rpartition("test -d")[0]).stdout
    assert mapped == plain


def test_nested_prefixes(prelux, tmp_path):
    """One prefix inside another, at a folder that the outer remote does not have."""
    outer, inner, base = tmp_path / "outer", tmp_path / "inner", tmp_path / "base"
    (outer / "sub").mkdir(parents=True)
    (outer / "sub/o").write_text("o\n")
    (outer / "top").write_text("t\n")
    inner.mkdir()
    (inner / "i").write_text("i\n")
    base.mkdir()
    prelux.config({"version": 1,
                   "backends": {"o": {"type": "file", "root": str(outer)}, "i": {"type": "file", "root": str(inner)}},
                   "mappings": [{"local": str(base / "lake"), "remote": "o:/"}, {"local": str(base / "lake/new/in"), "remote": "i:/"},
                                {"local": str(base / "lake/sub/in"), "remote": "i:/"}]})
    script = "cd {b} && find lake | sort && cat lake/new/in/i lake/sub/in/i lake/sub/o && cd lake/sub/in && pwd && ls .. ../.. && cat ../o ../../top"
    mapped = prelux.run(script.format(b=base), bare=True).stdout
    shutil.copytree(outer, base / "lake")
    for folder in ("new", "sub"):
        shutil.copytree(inner, base / "lake" / folder / "in")
    assert mapped == prelux.plain(script.format(b=base)).stdout


def test_thousand_mappings_under_one_parent(prelux, tmp_path):
    remote, base = tmp_path / "remote", tmp_path / "base"
    base.mkdir()
    for i in range(1000):
        (remote / f"r{i}").mkdir(parents=True)
        (remote / f"r{i}/n").write_text(f"{i}\n")
    (base / "m7").mkdir()  # one of them exists, empty
    prelux.config({"version": 1, "backends": {"f": {"type": "file", "root": str(remote)}},
                   "mappings": [{"local": str(base / f"m{i}"), "remote": f"f:/r{i}"} for i in range(1000)]})
    ran = prelux.run(f"cd {base}; ls -U | sort -V | uniq -c | awk '{{print $1}}' | sort | uniq -c; cat m0/n m7/n m999/n; cat ../base/m500/n", bare=True)
    assert ran.stdout.split() == ["1000", "1", "0", "7", "999", "500"]


def test_inherited_folders(prelux, place):
    """A working directory and a folder fd that came over exec from a hooked parent."""
    base, remote = place
    root = base / "mnt/lake"
    _clear(root)
    prelux.file_mapping(remote, root)
    script = f"""
      cd {root}/sub && exec 7<{root} && bash -c '
        pwd; cat b.bin | wc -c; ls ..; cat ../a.txt; ls /proc/self/fd/7/sub; readlink /proc/self/fd/7 /proc/self/cwd'
    """
    lines = prelux.run(script, bare=True).stdout.splitlines()
    assert lines[0] == f"{root}/sub"
    assert lines[1] == str((remote / "sub/b.bin").stat().st_size)
    assert lines[2:5] == ["a.txt", "empty", "sub"]
    assert lines[5] == "text of a"
    assert lines[6:] == ["b.bin", "deep", str(root), f"{root}/sub"]


def test_uri_prefix(prelux, tmp_path):
    """s3://bucket/x as programs write it, also after pathlib has folded and absolutised it."""
    remote, work = tmp_path / "remote", tmp_path / "work"
    (remote / "sub").mkdir(parents=True)
    (remote / "sub/f").write_text("by uri\n")
    work.mkdir()
    prelux.config({"version": 1, "backends": {"f": {"type": "file", "root": str(remote)}},
                   "mappings": [{"local": "s3://bucket/data", "remote": "f:/"}]})
    script = """if 1:
        import os, pathlib
        print(open('s3://bucket/data/sub/f').read(), end='')
        print(pathlib.Path('s3://bucket/data/sub/f').read_text(), end='')
        print(pathlib.Path('s3://bucket/data/sub/f').absolute().read_text(), end='')
        print(sorted(os.listdir('s3://bucket/data')), os.path.isdir('s3://bucket/data/sub'), os.path.exists('s3://bucket/other'))
        print([sorted(f) for _, _, f in os.walk('s3:/bucket/data')])
        print(os.path.realpath('s3://bucket/data/sub/f') == os.path.join(os.getcwd(), 's3:/bucket/data/sub/f'))
        os.chdir('s3://bucket/data/sub')
        print(open('f').read(), end='')
        print(open(os.path.join(os.getcwd(), 'f')).read(), end='')
        """
    ran = prelux.run(["python3", "-c", script], cwd=work, bare=True)
    assert ran.stdout.splitlines() == ["by uri"] * 3 + ["['sub'] True False", "[[], ['f']]", "True", "by uri", "by uri"]
    # A real folder of that name is a real folder.
    (work / "s3:/bucket/data").mkdir(parents=True)
    (work / "s3:/bucket/data/real").write_text("real\n")
    assert prelux.run(["cat", f"{work}/s3:/bucket/data/real"], cwd=work, bare=True).stdout == "real\n"


def test_outside_links_off(prelux, place):
    base, remote = place
    root = base / "mnt/lake"
    _clear(root)
    prelux.config({"version": 1, "outside_links": "off", "backends": {"f": {"type": "file", "root": str(remote)}},
                   "mappings": [{"local": str(root), "remote": "f:/"}]})
    ran = prelux.run(f"cat {base}/ln_root/a.txt || echo none; cat {base}/mnt/side/../lake/a.txt; cd {base}/far/below; cat ../../mnt/lake/a.txt",
                     bare=True)
    assert ran.stdout.splitlines() == ["none", "text of a", "text of a"]


def test_off(prelux, place):
    base, remote = place
    root = base / "mnt/lake"
    _clear(root)
    prelux.file_mapping(remote, root)
    assert prelux.run(["cat", root / "a.txt"], bare=True, env={"PRELUX_OFF": "1"}, check=False).returncode == 1
    # and it survives: the child of a program that is off is off
    assert prelux.run(f"PRELUX_OFF=1 sh -c 'cat {root}/a.txt' || echo off; cat {root}/a.txt", bare=True).stdout == "off\ntext of a\n"
