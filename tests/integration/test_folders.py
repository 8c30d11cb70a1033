"""Folders: what a DIR* promises, names of every kind through every backend, names that were not listed, names that are not."""

import errno
import os
import time

import pytest

from tests import trees
from tests.servers.nginx import Nginx

LAKE = "/prelux-folders"


def content(name):
    return f"content of {name}\n" * 100


def folder_program(prelux):
    path = prelux.build / "tests" / "posix" / "hooks_folder"
    if not path.exists():
        pytest.fail(f"{path} is missing: make posix-programs")
    return path


def web(prelux, root, autoindex="html", **options):
    """An `http` mapping of a folder; the caller's `with` ends the server."""
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    server = Nginx(root, autoindex=autoindex)
    server.start()
    prelux.config({"version": 1, "backends": {"src": {"type": "http", "url": server.url}},
                   "mappings": [{"local": LAKE, "remote": "src:/", **options}]})
    return server


@pytest.fixture
def own(prelux):
    prelux.source = prelux.tmp / "source"
    prelux.source.mkdir()
    return prelux


# What a DIR* promises


@pytest.mark.parametrize("count", [0, 1, 7, 10_000])
def test_places_in_a_folder(own, count):
    prog = folder_program(own)
    for i in range(count):
        (own.source / f"name-{i:05}").touch()
    own.file_mapping(own.source, LAKE)
    for what in ("seek", "twice", "raw"):
        assert own.plain([prog, what, own.source]).stdout == f"right {count + 2}\n"
        assert own.run([prog, what, LAKE]).stdout == f"right {count + 2}\n"


def test_types_without_stat(own):
    trees.make_tree(own.source)
    own.file_mapping(own.source, LAKE)
    for folder in ("", "names", "sub", "names/empty dir"):
        plain = own.plain([folder_program(own), "types", own.source / folder]).stdout
        assert own.run([folder_program(own), "types", f"{LAKE}/{folder}"]).stdout == plain
    ls = "ls -F --color=always | cat -v; ls -1p; find . -maxdepth 1 -type d -o -type l -o -type p | sort"
    assert own.run(f"cd {LAKE}; {ls}").stdout == own.plain(f"cd {own.source}; {ls}").stdout


def talk(own, what, change):
    child = own.popen([folder_program(own), what, LAKE], stdin=-1, stdout=-1, text=True)
    lines = []
    while True:
        line = child.stdout.readline()
        assert line, f"the program ended after {lines}"
        if line == "waiting\n":
            break
        lines.append(line)
    change()
    out, _ = child.communicate("go\n", timeout=30)
    assert child.returncode == 0
    return [line.split() for line in lines + out.splitlines()]


def test_rewinddir_sees_new_names(own):
    (own.source / "a").touch()
    (own.source / "b").touch()
    own.file_mapping(own.source, LAKE, freshness="always")

    def change():
        (own.source / "c").touch()
        (own.source / "a").unlink()

    before, after = talk(own, "rewind", change)
    assert before == [".", "..", "a", "b"] and after == [".", "..", "b", "c"]


def test_readdir_is_one_instant(own):
    for i in range(2000):
        (own.source / f"name-{i:05}").touch()
    own.file_mapping(own.source, LAKE, freshness="always")

    def change():
        for i in range(2000):
            (own.source / f"name-{i:05}").unlink()
            (own.source / f"other-{i:05}").touch()
        assert own.run(["ls", LAKE]).stdout.split()[0] == "other-00000"  # somebody else lists it meanwhile

    names, = talk(own, "snapshot", change)
    assert names == [".", "..", *(f"name-{i:05}" for i in range(2000))]


def test_listing_while_the_remote_changes(own):
    """Names that are always there are always listed, once; a name that never was never is."""
    for i in range(300):
        (own.source / f"stays-{i:03}").touch()
    own.file_mapping(own.source, LAKE, freshness="always")
    churn = own.popen(f"cd {own.source}; for k in $(seq 400); do : > comes-$k; mv comes-$k goes-$k; rm goes-$k; done", bare=True,
                      env={"LD_PRELOAD": ""})
    rounds = 0
    while churn.poll() is None or rounds < 5:
        names = own.run(["ls", "-U", LAKE]).stdout.split()
        assert [n for n in sorted(names) if n.startswith("stays")] == [f"stays-{i:03}" for i in range(300)]
        assert len(names) == len(set(names)) and all(n.split("-")[0] in ("stays", "comes", "goes") for n in names)
        rounds += 1


def test_empty_folders(own):
    (own.source / "empty" / "inner").mkdir(parents=True)
    look = "ls -a empty/inner; find . | sort; echo empty/inner/*; test -d empty/inner; echo $?; cat empty/inner/x 2>&1; cd empty/inner; pwd | tail -c 12"
    plain = own.plain(f"cd {own.source}; {look}").stdout
    own.file_mapping(own.source, LAKE)
    assert own.run(f"cd {LAKE}; {look}").stdout == plain
    with web(own, own.source):
        assert own.run(f"cd {LAKE}; {look}").stdout == plain
    with web(own, own.source, "json"):
        assert own.run(f"cd {LAKE}; {look}").stdout == plain


def test_empty_folder_of_alluxio(own, alluxio_server):
    (alluxio_server.ufs / "folders-empty" / "inner").mkdir(parents=True)
    own.config({"version": 1, "backends": {"src": {"type": "alluxio-proxy", "url": alluxio_server.url, "root": "/folders-empty"}},
                "mappings": [{"local": LAKE, "remote": "src:/"}]})
    assert own.run(["find", LAKE]).stdout.split() == [LAKE, f"{LAKE}/inner"]
    assert own.run(["ls", "-a", f"{LAKE}/inner"]).stdout.split() == [".", ".."]


# Found before listed, listed before found


@pytest.mark.parametrize("kind", ["file", "html", "json"])
def test_found_before_the_folder_was_listed(own, kind):
    (own.source / "d").mkdir()
    (own.source / "d" / "first").write_text(content("first"))
    if kind == "file":
        own.file_mapping(own.source, LAKE)
        look(own)
    else:
        with web(own, own.source, kind):
            look(own)


def look(own):
    assert own.run(["stat", "-c", "%s", f"{LAKE}/d/first"]).stdout == "1700\n"
    (own.source / "d" / "second").write_text(content("second"))
    assert own.run(["ls", f"{LAKE}/d"]).stdout == "first\nsecond\n"
    assert own.run(["cat", f"{LAKE}/d/second"]).stdout == content("second")
    assert own.run(["cat", f"{LAKE}/d/first"]).stdout == content("first")


@pytest.mark.parametrize("kind", ["html", "json"])
def test_served_but_not_listed(own, kind):
    """nginx leaves names with a dot out of its pages and serves them: a listing's silence is no proof."""
    (own.source / ".hidden").write_text(content(".hidden"))
    (own.source / ".dir").mkdir()
    (own.source / ".dir" / "f").write_text(content("f"))
    (own.source / "seen").write_text(content("seen"))
    with web(own, own.source, kind):
        assert own.run(["ls", "-A", LAKE]).stdout == "seen\n"
        assert own.run(["cat", f"{LAKE}/.hidden"]).stdout == content(".hidden")
        assert own.run(["stat", "-c", "%s", f"{LAKE}/.hidden"]).stdout == f"{len(content('.hidden'))}\n"
        assert own.run(["cat", f"{LAKE}/.dir/f"]).stdout == content("f")
        assert own.run(["ls", "-A", f"{LAKE}/.dir"]).stdout == "f\n"
        assert own.run(["ls", "-A", LAKE]).stdout == "seen\n"
        assert own.run(f"test -e {LAKE}/.absent; echo $?").stdout == "1\n"


def test_listed_but_gone(own):
    """Between a listing and an open the object may go: ENOENT, and the name goes with it."""
    (own.source / "f").write_text(content("f"))
    (own.source / "g").write_text(content("g"))
    own.file_mapping(own.source, LAKE, freshness={"max_age": "2s"})
    program = """
import errno, os, sys
lake, source = sys.argv[1:]
names = os.listdir(lake)
os.unlink(source + "/f")
try:
    open(lake + "/f").read()
    print("read", sorted(names))
except OSError as e:
    print(errno.errorcode[e.errno], sorted(names), os.path.exists(lake + "/f"))
"""
    assert own.run(["python3", "-c", program, LAKE, own.source]).stdout == "ENOENT ['f', 'g'] False\n"
    assert not [r for r in own.errors() if r["errno"] == "EIO"]
    time.sleep(2.1)
    assert own.run(["ls", LAKE]).stdout == "g\n"


def test_what_was_listed_is_not_asked_again(own):
    for i in range(50):
        (own.source / f"f{i:03}").write_text(content(f"f{i:03}"))
    with web(own, own.source) as server:
        own.run(["ls", LAKE])
        server.forget_requests()
        own.run(["ls", "-l", LAKE])
        own.run(f"stat -c %s {LAKE}/*")
        time.sleep(1)  # until nginx has written down the last one
        # nginx's page has minutes, no seconds: a file whose exact time is not known yet may be asked for once.
        assert len(server.requests()) <= 50
        server.forget_requests()
        own.run(f"stat -c %s {LAKE}/*; ls -l {LAKE}")
        time.sleep(1)
        assert server.requests() == []


# Names that are not there


def test_negative_answers(own):
    (own.source / "d").mkdir()
    (own.source / "f").write_text(content("f"))
    with web(own, own.source, negative_age="3s") as server:
        program = f"""
import errno, os
for i in range(200):
    for call in (os.stat, os.listdir, lambda p: os.open(p, os.O_RDONLY), os.readlink):
        try:
            call("{LAKE}/d/nothing%d" % (i % 10))
            print("found")
        except OSError as e:
            assert e.errno == errno.ENOENT, e
for path in ("f/x", "f/", "nothing/x", "d/nothing/x/y"):
    try:
        os.stat("{LAKE}/" + path)
        print("found", path)
    except OSError as e:
        print(path, errno.errorcode[e.errno])
"""
        begin = time.monotonic()
        out = own.run(["python3", "-c", program]).stdout
        asked = [r for r in server.requests() if "nothing" in r.uri]
        if time.monotonic() - begin < 3:
            assert len(asked) <= 40  # ten names and a few below them, not 800
        assert out == "f/x ENOTDIR\nf/ ENOTDIR\nnothing/x ENOENT\nd/nothing/x/y ENOENT\n"
        assert own.errors() == []  # "not there" is an answer, not an error
        (own.source / "d" / "nothing1").write_text("now")
        time.sleep(3.1)
        assert own.run(["cat", f"{LAKE}/d/nothing1"]).stdout == "now"


def test_negative_answers_with_always(own):
    own.file_mapping(own.source, LAKE, freshness="always")
    for i in range(5):
        assert own.run(f"test -e {LAKE}/f; echo $?").stdout == "1\n"
        (own.source / "f").write_text(str(i))
        assert own.run(f"cat {LAKE}/f; ls {LAKE}").stdout == f"{i}f\n"
        (own.source / "f").unlink()


# Names of every kind

NAMES = [name.encode() for name in trees.PORTABLE_NAMES + trees.OTHER_NAMES] + [trees.NOT_UTF8, trees.LONG.encode(), ("日" * 85).encode()]
NAMES += [b".prelux", b"..hidden", b"a%2Fb", b"%00", b"x?y=z#f", b"&amp;", b"&lt;", b"<a href=x>", b'a"b\'c', b"\xff", b" ", b"\t", b"a\rb",
          b"C:", b"http:", b"a:b", b"?C=N;O=D", b"....", b".a", b"-", b"\xe2\x80\xae", b"a\\", b"%", b"+", b"%20", b"%25"]
CHECK = """
import errno, os, sys
lake, source = (os.fsencode(a) for a in sys.argv[1:3])
listed = set(os.listdir(lake))
for name in sorted(os.listdir(source)):
    try:
        with open(lake + b"/" + name, "rb") as f:
            data = f.read()
        verdict = "right" if data == open(source + b"/" + name, "rb").read() and os.stat(lake + b"/" + name).st_size == len(data) else "WRONG"
    except OSError as e:
        verdict = errno.errorcode[e.errno]
    print(repr(name), verdict, "listed" if name in listed else "-")
for name in listed - set(os.listdir(source)):
    print(repr(name), "INVENTED")
"""


def fill_with_names(folder, names=NAMES):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(sorted(set(names))):
        with open(os.fsencode(folder) + b"/" + name, "wb") as out:
            out.write(b"%d is " % number + name)


def verdicts(own, folder=""):
    rows = {}
    for line in own.run(["python3", "-c", CHECK, f"{LAKE}{folder}", f"{own.source}{folder}"]).stdout.splitlines():
        name, verdict, *listed = line.rsplit(" ", 2) if not line.endswith("INVENTED") else (line, "INVENTED")
        rows[eval(name) if verdict != "INVENTED" else name] = (verdict, *listed)
    return rows


def test_awkward_names_of_a_folder(own):
    fill_with_names(own.source)
    own.file_mapping(own.source, LAKE)
    rows = verdicts(own)
    assert {name: row for name, row in rows.items() if row != ("right", "listed")} == {}
    assert len(rows) == len(set(NAMES))


@pytest.mark.parametrize("autoindex", ["html", "json"])
def test_awkward_names_over_http(own, autoindex):
    fill_with_names(own.source)
    with web(own, own.source, autoindex):
        rows = verdicts(own)
    assert len(rows) == len(set(NAMES))
    wrong = {}
    for name, row in rows.items():
        if row == ("right", "listed") or (name.startswith(b".") and row == ("right", "-")):
            continue
        wrong[name] = row
    # What the server itself does not serve under its own link gets an errno, never another file. nginx refuses %00 only.
    assert wrong == {}


def test_folder_with_a_page_of_its_own(own):
    """Where index.html lies nginx shows that, not a listing: said so, and the files are there."""
    for name in ("index.html", "f"):
        (own.source / name).write_text(content(name))
    with web(own, own.source):
        done = own.run(["ls", LAKE], check=False)
        assert done.returncode == 2 and "not supported" in done.stderr
        assert [r["errno"] for r in own.errors() if r["path"] == LAKE] == ["EOPNOTSUPP"]
        assert own.run(f"cat {LAKE}/f {LAKE}/index.html").stdout == content("f") + content("index.html")


def test_awkward_names_over_alluxio(own, alluxio_server):
    """Not in this folder: '?' and '\\' (the next test), and what is no UTF-8, with which Alluxio shows no name of a folder."""
    own.source = alluxio_server.ufs / "folders-names"
    names = [name for name in NAMES if not set(b"?\\\xff") & set(name)]
    fill_with_names(own.source, names)
    own.config({"version": 1, "backends": {"src": {"type": "alluxio-proxy", "url": alluxio_server.url, "root": "/folders-names"}},
                "mappings": [{"local": LAKE, "remote": "src:/"}]})
    rows = verdicts(own)
    assert {name: row for name, row in rows.items() if row != ("right", "listed")} == {}
    assert len(rows) == len(set(names))


def test_names_that_alluxio_cannot_carry(own, alluxio_server):
    """An errno and one record, never another file."""
    folder = alluxio_server.ufs / "folders-cannot"
    folder.mkdir()
    for name in ("a", "a?b", "q", "back", "slash"):
        (folder / name).write_text(f"this is {name}")
    own.config({"version": 1, "backends": {"src": {"type": "alluxio-proxy", "url": alluxio_server.url, "root": "/folders-cannot"}},
                "mappings": [{"local": LAKE, "remote": "src:/"}]})
    for name in ("a?b", "q?", "back\\slash", "?"):
        for _ in range(3):
            done = own.run(["cat", f"{LAKE}/{name}"], check=False)
            assert done.returncode == 1 and done.stdout == "", name
        records = [r["errno"] for r in own.errors() if r["path"] == f"{LAKE}/{name}"]
        assert records == ["EOPNOTSUPP"], (name, done.stderr)
    assert own.run(["cat", f"{LAKE}/a"]).stdout == "this is a"


def test_prelux_as_a_name(own):
    """Our own folder's name is a name like others on the remote; where it cannot be, it is refused and said so."""
    (own.source / ".prelux" / "fill").mkdir(parents=True)
    (own.source / ".prelux" / "fill" / "f").write_text("remote's own")
    (own.source / "d" / ".prelux").mkdir(parents=True)
    (own.source / "d" / ".prelux" / "catalogue.db").write_text("no database")
    own.file_mapping(own.source, LAKE)
    assert own.run(f"cat {LAKE}/.prelux/fill/f; ls -A {LAKE} {LAKE}/.prelux").stdout == f"remote's own{LAKE}:\n.prelux\nd\n\n{LAKE}/.prelux:\nfill\n"
    assert own.run(["cat", f"{LAKE}/d/.prelux/catalogue.db"]).stdout == "no database"
    mirror = own.tmp / "mirror"
    own.file_mapping(own.source, LAKE, cache=str(mirror))
    done = own.run(f"cat {LAKE}/d/.prelux/catalogue.db; cat {LAKE}/.prelux/fill/f", check=False)
    assert done.returncode == 1 and done.stdout == "no database" and "not supported" in done.stderr
    assert [r["errno"] for r in own.errors() if r["path"] == f"{LAKE}/.prelux/fill/f"] == ["EOPNOTSUPP"]
    assert own.run(f"ls {LAKE}/d -A").stdout == ".prelux\n"
    stolen = own.run(["cat", f"{LAKE}/.prelux/catalogue.db"], check=False)
    assert stolen.returncode == 1 and stolen.stdout == ""


# Long and deep


def test_long_names(own):
    names = [b"n" * 255, ("ü" * 127).encode(), b"x" * 254 + b"\xff"]
    fill_with_names(own.source, names)
    own.file_mapping(own.source, LAKE)
    assert set(verdicts(own).values()) == {("right", "listed")}
    program = f"""
import errno, os
for path in ("{LAKE}/" + "y" * 256, "{LAKE}/" + "/".join(["z" * 200] * 19), "{LAKE}/" + "/".join(["z" * 200] * 30)):
    try:
        os.stat(path)
        print("found")
    except OSError as e:
        print(errno.errorcode[e.errno])
"""
    assert own.run(["python3", "-c", program]).stdout == "ENAMETOOLONG\nENOENT\nENAMETOOLONG\n"


@pytest.mark.parametrize("depth,long", [(40, False), (100, False), (20, True)])
def test_deep_folders(own, depth, long):
    """Up to PATH_MAX all is right. Beyond it (a walk by chdir or openat gets there) an errno, never another file."""
    name = "d" * 250 if long else "deep"
    at = os.open(own.source, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=at)
        at, old = os.open(name, os.O_RDONLY, dir_fd=at), at
        os.close(old)
    with open(os.open("f000", os.O_WRONLY | os.O_CREAT, dir_fd=at), "w") as out:
        out.write(content("f000"))
    os.close(at)
    own.file_mapping(own.source, LAKE)
    plain = own.plain([folder_program(own), "steps", own.source, str(depth), name]).stdout
    assert plain == "openat right\nchdir right\n"
    mapped = own.run([folder_program(own), "steps", LAKE, str(depth), name]).stdout
    if not long:
        assert mapped == plain
        return
    refusal = {f"{how} {n}: {errno.ENAMETOOLONG}" for how in ("openat", "chdir") for n in range(14, depth)}
    assert all(line in refusal or line in plain for line in mapped.splitlines()) and len(mapped.splitlines()) == 2, mapped
