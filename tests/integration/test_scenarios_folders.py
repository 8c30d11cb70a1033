"""Folders: keys that no file system has, seen by programs; pages of a list that change while they are asked for; names that go meanwhile."""

import errno
import os
import subprocess

import pytest

from tests.integration.write_rig import LOCAL, make_lake, settled
from tests.servers.s3standin import S3Standin, Thing

# Keys of a bucket, and what is seen of each: where it is listed and read, an errno, or nothing at all.
LONG = "/".join(["x" * 250] * 4 + ["y" * 20])
KEYS = {
    b"a": b"bytes of a", b"a/b": b"below a", b"s//t": b"two slashes", b"s/u": b"one slash",
    b"dir/": b"a marker with bytes", b"dir/f": b"in dir", b"empty/": b"",
    b".prelux": b"not ours", b"p/.prelux/catalogue.db": b"no database",
    b"../up": b"no", b"d/../up": b"no", b"d/./same": b"no", b"d/ok": b"ok", b"none": b"",
    LONG.encode(): b"1,024 bytes of name", b"n" * 256: b"a name that is too long",
    b"\x01\x02\x7f\n\t": b"control", b"\xff\xfe\x80": b"not UTF-8", b"/lead": b"no", b"ctl/\x1b[31m": b"red",
}
SEEN = {b"a": b"bytes of a", b"a/b": b"below a", b"s/u": b"one slash", b"dir/f": b"in dir", b".prelux": b"not ours",
        b"p/.prelux/catalogue.db": b"no database", b"d/ok": b"ok",
        b"none": b"", LONG.encode(): b"1,024 bytes of name", b"\x01\x02\x7f\n\t": b"control", b"\xff\xfe\x80": b"not UTF-8", b"ctl/\x1b[31m": b"red"}
LOOK = """
import errno, os, sys
root = os.fsencode(sys.argv[1])
for folder, folders, files in os.walk(root):
    for name in files:
        path = os.path.join(folder, name)
        print("listed", os.path.relpath(path, root).hex())
for name in sys.argv[2:]:
    path = os.path.join(root, bytes.fromhex(name))
    try:
        if os.path.isdir(path):
            print("folder", name)
        else:
            with open(path, "rb") as f:
                data = f.read()
            assert os.stat(path).st_size == len(data)
            print("read", name, data.hex() or "-")
    except OSError as e:
        print("failed", name, errno.errorcode[e.errno])
"""


def bucket(prelux, server, **options):
    keys = {"bucket": "data", "access_key": "AK", "secret_key": "SK", "region": "us-east-1"}
    prelux.config({"version": 1, "backends": {"s": {"type": "s3", "endpoint": server.url, **keys}},
                   "mappings": [{"local": LOCAL, "remote": "s:/", **options}]})


@pytest.mark.parametrize("page", [1, 1000])
def test_keys_of_every_kind(prelux, page):
    """The right bytes, or an errno: never another object's, never a name that cannot be opened."""
    with S3Standin(page=page) as s3:
        for key, body in KEYS.items():
            s3.put(key, body)
        assert len(LONG) == 1024
        bucket(prelux, s3)
        asked = [*(key.hex() for key in KEYS if not key.startswith((b"..", b"/"))), b"s".hex(), b"empty".hex(), b"n".hex(), b"dir".hex()]
        rows = [line.split() for line in prelux.run(["/usr/bin/python3", "-c", LOOK, LOCAL, *asked]).stdout.splitlines()]
        read = {bytes.fromhex(row[1]): bytes.fromhex(row[2].replace("-", "")) for row in rows if row[0] == "read"}
        assert {key: data for key, data in read.items() if key in SEEN} == SEEN
        listed = {bytes.fromhex(row[1]) for row in rows if row[0] == "listed"}
        # What lies below an object with bytes is had by its full name only.
        assert listed == set(SEEN) - {b"a/b"}
        assert {bytes.fromhex(row[1]) for row in rows if row[0] == "folder"} >= {b"dir/", b"empty/", b"s", b"empty", b"dir"}
        failed = {bytes.fromhex(row[1]): row[2] for row in rows if row[0] == "failed"}
        assert failed.pop(b"n" * 256) == "ENAMETOOLONG" and failed.pop(b"n") == "ENOENT"
        # Paths as the kernel reads them: `s//t` is s/t, `d/./same` is d/same; there are no such objects, and the bytes of the odd keys are nobody's.
        assert set(failed) == {b"s//t", b"d/../up", b"d/./same"} and set(failed.values()) == {"ENOENT"}
        assert set(read) == set(SEEN)
        assert not any(part in (".", "..") for seen in s3.requests() for part in seen.path.split("/"))


class Changing(S3Standin):
    """Between one page and the next something comes, goes and is replaced."""

    def __init__(self):
        super().__init__(page=10)
        self.pages = 0

    def listing(self, query):
        if query.get("prefix", b"") == b"d/":
            self.pages += 1
            self.objects[b"d/comes-%03d" % self.pages] = Thing(b"new")
            self.objects.pop(b"d/goes-%03d" % self.pages, None)
            self.objects[b"d/stays-%03d" % (self.pages % 100)] = Thing(b"other %d" % self.pages)
            self.objects.pop(b"d/goes-%03d" % (99 - self.pages), None)
        return super().listing(query)


def test_pages_that_change_under_the_reader(prelux):
    """What is there all the time is listed, once; what is listed opens, unless it has gone by now; nothing else is listed."""
    with Changing() as s3:
        for number in range(100):
            s3.put(b"d/stays-%03d" % number, b"old")
            s3.put(b"d/goes-%03d" % number, b"old")
        bucket(prelux, s3, freshness="always")
        for _ in range(3):
            names = prelux.run(["ls", "-U", f"{LOCAL}/d"]).stdout.split()
            assert sorted(name for name in names if name.startswith("stays")) == [f"stays-{number:03}" for number in range(100)]
            assert len(names) == len(set(names)) and {name.split("-")[0] for name in names} <= {"stays", "comes", "goes"}
        assert s3.pages > 30
        code = f"""
import os
for name in os.listdir("{LOCAL}/d"):
    try: data = open("{LOCAL}/d/" + name).read()
    except FileNotFoundError: assert name.startswith("goes"), name
    else: assert data in ("new", "old") or data.startswith("other "), (name, data)
print("right")
"""
        assert prelux.run(["python3", "-c", code]).stdout == "right\n"


@pytest.mark.parametrize("write", ["sync", "async"])
def test_rm_while_others_list(prelux, write):
    """rm -r reads the folder from which it removes; others walk the same meanwhile: none of them meets anything but a name that has gone."""
    lake = make_lake(prelux, write=write)
    for folder in range(5):
        (lake.remote / f"t/d{folder}").mkdir(parents=True)
        for number in range(150):
            (lake.remote / f"t/d{folder}/n{number:03}").write_text("x")
    (lake.remote / "t/kept").write_text("x")
    walker = f"""
import errno, os, sys
print("up", flush=True)
last = None
while last != {{"t", "t/kept"}}:
    found, last = set(), set()
    for folder, folders, files in os.walk("{LOCAL}", onerror=lambda e: e.errno == errno.ENOENT or sys.exit(f"{{e}}")):
        for name in folders + files:
            path = os.path.join(folder, name)
            assert path not in found, path
            found.add(path)
            try: os.lstat(path)
            except FileNotFoundError: continue
            last.add(os.path.relpath(path, "{LOCAL}"))
print("over")
"""
    walkers = [lake.popen(["python3", "-c", walker], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [child.stdout.readline() for child in walkers] == ["up\n"] * 2
    assert lake.run(["find", f"{LOCAL}/t", "-type", "f"]).stdout.count("\n") == 751
    done = lake.run(f"rm -r {LOCAL}/t/d0 & rm -r {LOCAL}/t/d1 {LOCAL}/t/d2 & find {LOCAL}/t/d3 -delete & rm -rf {LOCAL}/t/d4; wait")
    assert done.stderr == ""
    assert [child.communicate(timeout=60)[0] for child in walkers] == ["over\n"] * 2
    settled(lake)
    assert sorted(os.listdir(lake.remote / "t")) == ["kept"]


def test_a_name_found_before_it_is_listed_and_the_reverse(prelux):
    """Of a bucket: a stat finds what the last listing did not have, and from then on listings have it; what a listing has is found without a
    question, and its bytes are right."""
    with S3Standin() as s3:
        s3.put("d/listed", b"listed")
        bucket(prelux, s3, freshness={"max_age": "60s"}, negative_age="0ms")
        assert prelux.run(["ls", f"{LOCAL}/d"]).stdout == "listed\n"
        s3.put("d/found", b"found later")
        assert prelux.run(["stat", "-c", "%s", f"{LOCAL}/d/found"]).stdout == "11\n"
        assert prelux.run(["ls", f"{LOCAL}/d"]).stdout == "found\nlisted\n"
        s3.forget_requests()
        assert prelux.run(["stat", "-c", "%s", f"{LOCAL}/d/listed"]).stdout == "6\n"
        assert not s3.requests(), "a listing said it"
        assert prelux.run(f"cat {LOCAL}/d/listed {LOCAL}/d/found").stdout == "listedfound later"
        del s3.objects[b"d/found"]
        done = prelux.run(["cat", f"{LOCAL}/d/found"], check=False)
        assert done.stdout == "found later", "it was cached"
        prelux.cli("evict", f"{LOCAL}/d")
        done = prelux.run(["cat", f"{LOCAL}/d/found"], check=False)
        assert done.returncode == 1 and os.strerror(errno.ENOENT) in done.stderr
