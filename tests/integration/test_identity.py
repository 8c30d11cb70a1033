"""Programs that compare what stat said before with what it says now: cp, tar, git, make, find, rsync. What they see is the
same over first use, caching, eviction and a new daemon."""

import http.server
import os
import shutil
import stat
import threading
import time

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


@pytest.fixture
def changing(prelux):
    """The same where each look compares with the remote."""
    prelux.source = prelux.tmp / "source"
    prelux.source.mkdir()
    prelux.file_mapping(prelux.source, LAKE, freshness="always")
    return prelux


def replace(path, text):
    """Another file under the same name, at one instant."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    os.rename(fresh, path)


def wait_for(path, text):
    deadline = time.monotonic() + 20
    while text not in path.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_text()


def test_tail_follows_a_name_over_a_replace(changing):
    """tail -F without inotify looks at (st_dev, st_ino) of the name and of what it has open."""
    put(changing.source, {"log": "one\n"})
    out, said = changing.tmp / "out", changing.tmp / "said"
    with open(out, "wb") as stdout, open(said, "wb") as stderr:
        tail = changing.popen(["tail", "---disable-inotify", "-s", "0.1", "-n", "+1", "-F", f"{LAKE}/log"],
                              stdout=stdout, stderr=stderr)
        try:
            assert wait_for(out, "one\n") == "one\n"
            replace(changing.source / "log", "two\n")  # as long as the first, so that only the number tells
            assert wait_for(out, "two\n") == "one\ntwo\n"
            replace(changing.source / "log", "three and longer\n")
            assert wait_for(out, "longer\n") == "one\ntwo\nthree and longer\n"
            os.unlink(changing.source / "log")
            assert "inaccessible" in wait_for(said, "inaccessible")
            put(changing.source, {"log": "four\n"})
            assert wait_for(out, "four\n").endswith("longer\nfour\n")
        finally:
            tail.kill()
            tail.wait()
    assert said.read_text().count("following new file") == 3


def test_a_replaced_file_is_another_file(changing):
    """What is open keeps its number and bytes; the name has another number, for stat, readdir and who opens it now."""
    put(changing.source, {"d/f": "old", "d/g": "same"})
    program = f"""
import os, sys
def listed():
    with os.scandir("{LAKE}/d") as names:
        return {{name.name: name.inode() for name in names}}
fd = os.open("{LAKE}/d/f", os.O_RDONLY)
first = os.fstat(fd)
assert first.st_ino == os.stat("{LAKE}/d/f").st_ino == listed()["f"]
other, folder = os.stat("{LAKE}/d/g").st_ino, os.stat("{LAKE}/d").st_ino
print("open", flush=True)
sys.stdin.readline()
named = os.stat("{LAKE}/d/f")
again = os.open("{LAKE}/d/f", os.O_RDONLY)
assert os.fstat(fd).st_ino == first.st_ino and os.pread(fd, 9, 0) == b"old"
assert named.st_ino != first.st_ino and named.st_dev == first.st_dev
assert named.st_ino == os.fstat(again).st_ino == listed()["f"] and os.pread(again, 9, 0) == b"new"
assert os.stat("{LAKE}/d/g").st_ino == listed()["g"] == other and os.stat("{LAKE}/d").st_ino == folder
assert not os.path.samestat(os.fstat(fd), os.fstat(again))
print(named.st_ino)
"""
    child = changing.popen(["python3", "-c", program], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "open\n"
    replace(changing.source / "d/f", "new")
    number = child.communicate("go\n", timeout=30)[0]
    assert child.returncode == 0
    # The new number is as stable as the first was.
    for state in lives(changing):
        assert changing.run(["stat", "-c", "%i", f"{LAKE}/d/f"]).stdout == number, state
        assert changing.run(f"ls -i {LAKE}/d | grep f").stdout.split() == [number.strip(), "f"], state


def test_replaced_while_the_daemon_was_down(changing):
    put(changing.source, {"kept": "1", "dropped": "1", "same": "1"})
    show = ["stat", "-c", "%n %i", f"{LAKE}/kept", f"{LAKE}/dropped", f"{LAKE}/same"]
    changing.run(f"cat {LAKE}/*")
    before = changing.run(show).stdout.splitlines()
    changing.cli("evict", f"{LAKE}/dropped")
    changing.kill_daemon()
    replace(changing.source / "kept", "2")
    replace(changing.source / "dropped", "2")
    after = changing.run(show).stdout.splitlines()
    assert [a == b for a, b in zip(before, after)] == [False, False, True]
    assert changing.run(f"ls -i {LAKE}").stdout.split() == \
        [word for line in sorted(after, key=lambda line: line) for word in reversed(line.replace(LAKE + "/", "").split())]


def test_numbers_with_an_html_index(prelux, tmp_path):
    """The listing knows neither size nor version: its numbers are stat's all the same, before and after a change."""
    from tests.servers.nginx import Nginx
    source = tmp_path / "web"
    put(source, {"f": "one", "g": "same"})
    with Nginx(source) as server:
        prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": server.url}},
                       "mappings": [{"local": LAKE, "remote": "w:/", "freshness": {"max_age": "300ms"}}]})
        both = f"ls -i {LAKE}; stat -c '%i %n' {LAKE}/f {LAKE}/g"

        def numbers():
            words = prelux.run(both).stdout.replace(LAKE + "/", "").split()
            assert words[:4] == words[4:], words
            return words[0], words[2]

        first = numbers()
        prelux.run(f"cat {LAKE}/f {LAKE}/g")
        assert numbers() == first
        put(source, {"f": "two!"}, second=50)
        time.sleep(0.4)
        prelux.run(["stat", f"{LAKE}/f"])
        second = numbers()
        assert second[0] != first[0] and second[1] == first[1]
        assert numbers() == second


class WithoutValidators(http.server.BaseHTTPRequestHandler):
    """Neither ETag nor Last-Modified: no two answers can be told to be of one version."""

    body = b"nobody knows which version"

    def do_HEAD(self):
        self.send_response(200 if self.path == "/f" else 404)
        self.send_header("Content-Length", str(len(self.body) if self.path == "/f" else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        if self.path == "/f":
            self.wfile.write(self.body)

    def log_message(self, *words):
        pass


def web(prelux, url):
    prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": url}},
                   "mappings": [{"local": LAKE, "remote": "w:/", "freshness": "always"}]})


def test_a_server_that_cannot_tell_versions(prelux):
    """It is not another file at each look: cp, which compares stat with fstat, copies it."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WithoutValidators)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        web(prelux, f"http://127.0.0.1:{server.server_port}")
        for _ in range(3):
            assert prelux.run(["cp", f"{LAKE}/f", prelux.tmp / "copy"]).stderr == ""
            assert (prelux.tmp / "copy").read_bytes() == WithoutValidators.body
        numbers = prelux.run(f"stat -c %i {LAKE}/f {LAKE}/f {LAKE}/f").stdout.split()
        assert len(set(numbers)) == 1
    finally:
        server.shutdown()
        server.server_close()


def test_a_file_changed_this_second(prelux, tmp_path):
    """nginx's ETag is of whole seconds: within the second it is not trusted, but no other file at each look either."""
    from tests.servers.nginx import Nginx
    source = tmp_path / "web"
    source.mkdir()
    with Nginx(source) as server:
        web(prelux, server.url)
        (source / "f").write_text("just made")
        assert prelux.run(["cp", f"{LAKE}/f", prelux.tmp / "copy"]).stderr == ""
        assert (prelux.tmp / "copy").read_text() == "just made"


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
