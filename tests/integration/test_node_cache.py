"""Node mode: who may read all that a cache tree shows may look at it by its path, as chdir and exec do; nobody else, by no way."""

import errno
import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests import wire
from tests.integration.node_rig import ALICE, BOB, CAROL, DAEMON, NODE, SCIENCE, Node, as_user

pytestmark = NODE
LAB, PRIVATE, OPEN = "/plx-lab", "/plx-private", "/plx-open"
RULES = {LAB: ("lab:/", {"readers": [f"@{SCIENCE}", str(ALICE)], "writers": [str(ALICE)], "write": "sync"}),
         PRIVATE: ("private:/", {"writers": [str(ALICE)], "write": "sync"}), OPEN: ("open:/", {"readers": ["*"]})}


@pytest.fixture(params=[0, DAEMON], ids=["root", "user"])
def node(request):
    one = Node(request.param)
    try:
        for name in ("lab", "private", "open"):
            one.put(f"{name}/file", f"of {name}\n")
        one.put("lab/tool", "#!/bin/sh\necho tool $(pwd)\n").chmod(0o755)
        (one.source / "lab/deep").mkdir()
        one.put("lab/deep/file", "deep\n")
        one.configure(RULES)
        one.start()
        yield one
    finally:
        one.close()


def tree(node, mapping):
    """The folder of a mapping's cache tree, as the daemon's user sees it."""
    text = node.cli(node.uid, "map", mapping).stdout
    return Path(next(line.split()[1] for line in text.splitlines() if line.startswith("cache")))


def opened(*paths):
    """What can be opened, by the kernel's rules, and how."""
    out = []
    for path in paths:
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.close(os.open(path, flags))
                out.append((str(path), flags))
            except OSError:
                pass
    return out


USE = f"""
import json, subprocess
def cd(where):
  os.chdir(where); return os.getcwd(), sorted(os.listdir(".")), open("file").read()
def run(what): return subprocess.run([what], capture_output=True, text=True).stdout
print(json.dumps([no(cd, "{LAB}/deep"), no(cd, "{OPEN}"), no(run, "{LAB}/tool"), no(cd, "{PRIVATE}")]))
"""


def test_readers_go_into_folders_and_run_programs(node):
    deep, wide = [LAB + "/deep", ["file"], "deep\n"], [OPEN, ["file"], "of open\n"]
    assert node.python(ALICE, USE) == [deep, wide, f"tool {OPEN}\n", [PRIVATE, ["file"], "of private\n"]]
    assert node.python(BOB, USE, groups=[SCIENCE]) == [deep, wide, f"tool {OPEN}\n", "EACCES"]
    assert node.python(CAROL, USE) == ["EACCES", wide, "EACCES", "EACCES"]


def test_cache_files_can_be_read_by_readers_alone(node):
    """By their paths, and from a descriptor of a folder upwards."""
    for name in (LAB, PRIVATE, OPEN):
        node.python(ALICE, f'import json; print(json.dumps(len(open("{name}/file").read())))')
    lab, private, wide = (tree(node, name) for name in (LAB, PRIVATE, OPEN))
    every = [lab / "file", private / "file", wide / "file", lab, private, wide, lab.parent, node.cache, node.cache / "trees", node.cache / ".prelux"]
    readable = {BOB: (lab, wide), CAROL: (wide,), ALICE: (lab, private, wide)}
    for who, trees in readable.items():
        expected = {str(path) for one in trees for path in (one, one / "file")}
        assert {path for path, _ in as_user(who, lambda: opened(*every), groups=[SCIENCE] if who == BOB else [])} == expected
        assert not [path for path, flags in as_user(who, lambda: opened(*every)) if flags == os.O_WRONLY]

    def climb():
        out = []
        with node.about(wire.OPEN, 2, "", (wire.F_FLAGS, wire.WANT_FD)) as a:
            for other in (lab, private):
                for name in ("file", "."):
                    try:
                        out.append(os.stat(f"../../{other.parent.name}/data/{name}", dir_fd=a.fd).st_size)
                    except OSError as error:
                        out.append(errno.errorcode[error.errno])
        return out

    assert as_user(CAROL, climb) == ["EACCES"] * 4


def test_a_written_file_is_the_readers_too(node):
    """What lay in staging comes into the tree; what is written again leaves it."""
    node.python(ALICE, f'import json; open("{LAB}/new", "w").write("new"); os.mkdir("{LAB}/box"); open("{LAB}/box/x", "w").write("x"); print(json.dumps(1))')
    code = f'import json; os.chdir("{LAB}/box"); print(json.dumps([open("x").read(), open("{LAB}/new").read(), os.fstat(os.open("x", 0)).st_uid]))'
    assert node.python(BOB, code, groups=[SCIENCE]) == ["x", "new", BOB]
    new = tree(node, LAB) / "new"
    assert as_user(BOB, lambda: opened(new), groups=[SCIENCE]) == [(str(new), os.O_RDONLY)]

    def keep():
        """A descriptor for reading of a file that is then written: no way to write by it."""
        fd = os.open(new, os.O_RDONLY)
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
            return "opened"
        except OSError as error:
            return errno.errorcode[error.errno]

    assert as_user(BOB, keep, groups=[SCIENCE]) == "EACCES"


def test_who_is_taken_out_of_the_rules_is_shut_out(node):
    """Rules are those of the daemon that runs; trees that no mapping shows any more are shut, too."""
    for name in (LAB, OPEN):
        node.python(ALICE, f'import json; print(json.dumps(len(open("{name}/file").read())))')
    lab, wide = tree(node, LAB), tree(node, OPEN)
    both = [lab / "file", wide / "file"]
    assert len(as_user(BOB, lambda: opened(*both), groups=[SCIENCE])) == 2
    node.stop()
    node.configure({LAB: ("lab:/", {"readers": [str(ALICE)]})})
    node.start()
    assert as_user(BOB, lambda: opened(*both), groups=[SCIENCE]) == []
    assert len(as_user(ALICE, lambda: opened(*both))) == 1
    node.stop()
    node.configure({LAB: ("lab:/", {"readers": [str(ALICE)]}), LAB + "-deep": ("lab:/deep", {"readers": [str(BOB)]})})
    node.start()
    code = f'import json; print(json.dumps([no(os.stat, "{LAB}/file") and 1, open("{LAB}/deep/file").read()]))'
    assert node.python(ALICE, code) == [1, "deep\n"]

    def climb():
        """Two mappings of one tree, of different readers: its folders lead nowhere, those that were open before as well."""
        out = []
        with node.about(wire.OPEN, 1, "", (wire.F_FLAGS, wire.WANT_FD)) as a:
            for name in ("../file", "file", "."):
                try:
                    out.append(os.stat(name, dir_fd=a.fd).st_size)
                except OSError as error:
                    out.append(errno.errorcode[error.errno])
        return out

    assert as_user(BOB, climb) == ["EACCES"] * 3
    assert as_user(ALICE, lambda: opened(*both)) == []


def test_what_was_fetched_for_others_before_is_not_opened(node):
    """A tree is opened only by a mapping that shows all of it: else there may be in it what nobody of today's readers may see."""
    node.python(ALICE, f'import json; print(json.dumps(len(open("{LAB}/file").read())))')
    lab = tree(node, LAB)
    node.stop()
    node.configure({LAB + "-deep": ("lab:/deep", {"readers": ["*"]})})
    node.start()
    assert node.python(CAROL, f'import json; print(json.dumps(open("{LAB}-deep/file").read()))') == "deep\n"
    assert as_user(CAROL, lambda: opened(lab / "file", lab / "deep/file", lab, lab / "deep")) == []


def test_a_daemon_of_one_user_shuts_what_was_open(node):
    node.python(ALICE, f'import json; print(json.dumps(len(open("{LAB}/file").read())))')
    lab = tree(node, LAB)
    assert len(as_user(ALICE, lambda: opened(lab / "file"))) == 1
    node.stop()
    run = node.folder / "own"
    run.mkdir(mode=0o700)
    os.chown(run, node.uid, node.uid)
    done = node.cli(node.uid, "ls", LAB, PRELUX_RUNTIME_DIR=str(run), PRELUX_CONFIG=str(node.config))
    assert done.returncode == 0 and "file" in done.stdout, done.stderr
    assert stat.S_IMODE(lab.parent.stat().st_mode) == 0o700
    assert as_user(ALICE, lambda: opened(lab / "file")) == []
    assert as_user(ALICE, lambda: opened(run, run / "index")) == []
    assert node.cli(node.uid, "daemon", "stop", PRELUX_RUNTIME_DIR=str(run)).returncode == 0
    refused = subprocess.run([str(node.bin / "preluxd"), "--runtime", str(node.run), "--foreground"], user=node.uid, group=node.uid, extra_groups=[],
                             env=node.environment(), capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "runtime folder" in refused.stderr
