"""Programs that compare what stat said before with what it says now: cp, tar, git, make, find, rsync. What they see is the
same over first use, caching, eviction and a new daemon."""

import os
import shutil
import stat

import pytest

from tests import trees

LAKE = "/prelux-same"


@pytest.fixture(params=["file", "http"])
def world(request, prelux, portable_tree):
    """The awkward tree, read only, by a `file` and an `http` backend."""
    prelux.source = portable_tree
    if request.param == "file":
        prelux.file_mapping(portable_tree, LAKE, freshness="immutable")
    else:
        server = request.getfixturevalue("nginx_server")
        prelux.config({"version": 1, "backends": {"src": {"type": "http", "url": server.url}},
                       "mappings": [{"local": LAKE, "remote": "src:/", "freshness": "immutable"}]})
    return prelux


@pytest.fixture
def own(prelux):
    """A `file` mapping of a folder that the test fills itself."""
    prelux.source = prelux.tmp / "source"
    prelux.source.mkdir()
    prelux.file_mapping(prelux.source, LAKE, freshness="immutable")
    return prelux


def put(folder, files, second=0):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (trees.EPOCH + second,) * 2)


def lives(world):
    """The states in which nothing may look different, one after another."""
    yield "as it was"
    world.run(f"find {LAKE} -type f -exec cat {{}} + > /dev/null")
    yield "cached"
    world.cli("evict", LAKE)
    yield "evicted"
    world.run(f"find {LAKE} -type f -exec cat {{}} + > /dev/null")
    yield "filled again"
    world.kill_daemon()
    yield "with a new daemon"


def test_cp_of_an_uncached_file(world):
    """cp compares the file it opened with the one it looked at before."""
    done = world.run(["cp", "-p", f"{LAKE}/size4097", world.tmp / "copy"])
    assert done.stderr == "" and (world.tmp / "copy").read_bytes() == (world.source / "size4097").read_bytes()
    assert int(os.stat(world.tmp / "copy").st_mtime) == int(os.stat(world.source / "size4097").st_mtime)
    done = world.run(["cp", "-rp", f"{LAKE}/sub", world.tmp / "sub"])
    assert done.stderr == "" and trees.manifest(world.tmp / "sub") == trees.manifest(world.source / "sub")


@pytest.mark.parametrize("how", ["", "--format=posix", "--sparse", "--atime-preserve=system"])
def test_tar_sees_no_change(world, how):
    done = world.run(f"tar {how} -cf {world.tmp}/out.tar -C {LAKE} package sub many big.bin")
    assert done.stderr == ""
    names = world.plain(["tar", "tf", world.tmp / "out.tar"]).stdout.splitlines()
    assert len(names) > 305


def test_tar_finds_no_hard_links(own):
    """Two equal files, and two names of one file on the remote, are files of their own here."""
    put(own.source, {f"f{i}": "the same" for i in range(20)})
    os.link(own.source / "f0", own.source / "second-name")
    for _ in lives(own):
        kinds = own.run(f"tar cf - -C {LAKE} . | tar tvf -").stdout.splitlines()
        assert [line for line in kinds if line.startswith("h")] == [] and len(kinds) == 22
    assert own.run(["find", LAKE, "-type", "f", "-links", "+1"]).stdout == ""
    own.run(["cp", "-a", LAKE, own.tmp / "copy"])
    assert {os.stat(path).st_nlink for path in (own.tmp / "copy").iterdir()} == {1}


def test_numbers_are_one_a_file(world):
    """ls -i, stat, fstat of what was opened, and readdir agree; no two files have one number."""
    program = """
import os, sys
seen = {}
for folder, folders, files in os.walk(os.fsencode(sys.argv[1])):
    with os.scandir(folder) as entries:
        d_ino = {entry.name: entry.inode() for entry in entries}
    for name in folders + files:
        path = os.path.join(folder, name)
        fd = os.open(path, os.O_RDONLY)
        opened, named, link = os.fstat(fd), os.stat(path), os.lstat(path)
        os.close(fd)
        numbers = {(s.st_dev, s.st_ino) for s in (opened, named, link, os.stat(path))}
        assert numbers == {(named.st_dev, d_ino[name])}, (path, numbers, d_ino[name])
        assert (opened.st_size, opened.st_mtime_ns, opened.st_mode, opened.st_nlink) == \\
               (named.st_size, named.st_mtime_ns, named.st_mode, named.st_nlink), path
        assert seen.setdefault(named.st_ino, path) == path
print(hash(frozenset(seen.items())), len(seen))
"""
    env = {"PYTHONHASHSEED": "0"}
    first = None
    for state in lives(world):
        now = world.run(["python3", "-c", program, LAKE], env=env).stdout
        first = first or now
        assert now == first, state
        listed = world.run(["ls", "-1i", f"{LAKE}/many"]).stdout.split()
        statted = world.run(f"cd {LAKE}/many && stat -c '%i %n' *").stdout.split()
        assert listed == statted and len(listed) == 600, state


def test_same_file_by_two_names(world):
    link = world.tmp / "link"
    link.symlink_to(LAKE)
    same = [("size4096", "sub/../size4096"), ("size4096", "./size4096"), ("sub", "sub/folder/.."), ("sub/folder/needle.txt",) * 2]
    differ = [("size4096", "size4097"), ("sub", "sub/folder"), ("many/f0001", "many/f0002"), ("one", "empty")]
    lines = [f'test {LAKE}/{a} -ef {LAKE}/{b}; echo $?; test {link}/{a} -ef {LAKE}/{b}; echo $?; (cd {LAKE}/many && test ../{a} -ef '
             f'{LAKE}/{b}; echo $?)' for a, b in same + differ]
    expected = ["0"] * 3 * len(same) + ["1"] * 3 * len(differ)
    for state in lives(world):
        assert world.run("\n".join(lines)).stdout.split() == expected, state
    assert world.run(f"test {LAKE}/one -ef {world.source}/one; echo $?").stdout == "1\n"


def test_find_stays_on_one_file_system(prelux, portable_tree):
    """A prefix is a mount point: -xdev shows it and does not go in; inside all is one file system."""
    outer = prelux.tmp / "outer"
    (outer / "plain").mkdir(parents=True)
    (outer / "plain" / "file").touch()
    lake = prelux.file_mapping(portable_tree, outer / "lake")
    names = prelux.run(["find", outer, "-xdev", "-printf", "%P\n"]).stdout.split()
    assert sorted(names) == ["lake", "plain", "plain/file"]
    everything = prelux.run(["find", outer, "-printf", "."]).stdout
    inside = prelux.run(["find", lake, "-printf", "."]).stdout
    assert len(everything) == len(inside) + 3
    assert prelux.run(["find", lake, "-xdev", "-printf", "."]).stdout == inside == \
        prelux.plain(["find", portable_tree, "-xdev", "-printf", "."]).stdout
    devices = prelux.run(["stat", "-c", "%d", outer, lake, f"{lake}/one", f"{lake}/sub/folder"]).stdout.split()
    assert devices[0] != devices[1] and len(set(devices[1:])) == 1
    assert int(prelux.run(["du", "-sxb", outer]).stdout.split()[0]) < 100_000  # the lake holds megabytes


def test_git_status_of_a_repository_there(prelux, source_tree):
    prelux.source = source_tree
    prelux.file_mapping(source_tree, LAKE, freshness="immutable")
    show = ["git", "-c", "safe.directory=*", "--no-optional-locks", "-C", f"{LAKE}/repository", "status", "--porcelain"]
    for state in lives(prelux):
        assert prelux.run(show).stdout == "", state
    log = [*show[:-2], "log", "--oneline"]
    assert len(prelux.run(log).stdout.splitlines()) == 5


def test_git_trusts_what_stat_said(own):
    """The index lies elsewhere and remembers stat of the files here. diff-files reads no content: it compares stat alone."""
    put(own.source, {f"d{i % 3}/file{i}": f"text {i}\n" for i in range(12)})
    git = f"git --git-dir={own.tmp}/git --work-tree={LAKE} -c core.checkStat=default"
    own.run(f"git init -q --bare {own.tmp}/git && cd {LAKE} && {git} add -A . && "
            f"{git} -c user.name=t -c user.email=t@t commit -q -m one")
    for state in lives(own):
        assert own.run(f"cd {LAKE} && {git} diff-files --name-only; {git} --no-optional-locks status --porcelain").stdout == "", state
    put(own.source, {"d1/file1": "changed\n"}, second=9)
    own.cli("evict", LAKE)
    assert own.run(f"cd {LAKE} && {git} diff-files --name-only").stdout == "d1/file1\n"


def test_make_has_nothing_to_do(own):
    put(own.source, {"a.c": "int main(void) { return 0; }\n", "a.h": "\n", "rules.mk": "OUT := .\n"})
    makefile = own.tmp / "Makefile"
    makefile.write_text(f"include {LAKE}/rules.mk\nout: {LAKE}/a.c {LAKE}/a.h\n\tcp {LAKE}/a.c out\n")
    assert own.run(["make", "-q"], check=False).returncode == 1
    own.run(["make"])
    for state in lives(own):
        assert own.run(["make", "-q"], check=False).returncode == 0, state
    put(own.source, {"a.h": "/* new */\n"}, second=10**9)
    own.cli("evict", LAKE)
    assert own.run(["make", "-q"], check=False).returncode == 1


def test_second_rsync_copies_nothing(world):
    if not shutil.which("rsync"):
        pytest.skip("rsync is not installed")
    out = world.tmp / "out"
    say = ["rsync", "-rt", "--itemize-changes", "--hard-links", f"{LAKE}/", out]
    first = world.run(say)
    assert first.stderr == "" and len(first.stdout.splitlines()) > 300
    assert trees.manifest(out) == trees.manifest(world.source)
    for state in lives(world):
        changed = [line for line in world.run(say).stdout.splitlines() if not line.startswith(".d")]
        assert changed == [], state
    # And by content.
    assert [line for line in world.run([*say[:2], "-c", *say[2:]]).stdout.splitlines() if not line.startswith(".d")] == []


def test_open_file_and_its_name_after_eviction(own):
    """What is open stays what it was, and fstat goes on saying what stat says."""
    put(own.source, {"f": "text " * 1000})
    program = f"""
import os, sys
fd = os.open("{LAKE}/f", os.O_RDONLY)
before = os.fstat(fd)
print("open", flush=True)
sys.stdin.readline()
again, named = os.fstat(fd), os.stat("{LAKE}/f")
same = lambda a, b: (a.st_dev, a.st_ino, a.st_size, a.st_mtime_ns, a.st_mode) == (b.st_dev, b.st_ino, b.st_size, b.st_mtime_ns, b.st_mode)
print(same(before, again), same(before, named), os.pread(fd, 10000, 0) == b"text " * 1000)
"""
    child = own.popen(["python3", "-c", program], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "open\n"
    own.cli("evict", LAKE, check=False)  # it is in use, and says so
    own.run(["cat", f"{LAKE}/f"])
    own.cli("evict", LAKE, check=False)
    assert child.communicate("go\n", timeout=30)[0] == "True True True\n"


def test_shown_attributes(own):
    """Owner is the user, one link, blocks as the size says, times of the remote, mode of the remote without surprises."""
    put(own.source, {"f": "x" * 1025, "run": "#!/bin/sh\n"})
    (own.source / "run").chmod(0o755)
    (own.source / "f").chmod(0o640)
    for state in lives(own):
        row = own.run(["stat", "-c", "%u %h %s %b %Y %X %Z %a %F", f"{LAKE}/f"]).stdout.split(" ", 8)
        assert row == [str(os.getuid()), "1", "1025", "3", *[str(trees.EPOCH)] * 3, "640", "regular file\n"], state
        assert own.run(["stat", "-c", "%a %F", f"{LAKE}/run"]).stdout == "755 regular file\n", state
        folder = own.run(["stat", "-c", "%h %F", LAKE]).stdout
        assert folder == "1 directory\n", state
    assert stat.S_IMODE(os.stat(own.source / "f").st_mode) == 0o640
