"""What is taken from under a running daemon, and what two mappings know of one remote: each once gave a wrong answer."""

import os
import shutil
import sqlite3
import subprocess
import time

import pytest

from tests.harness import wait_for


def put(path, text, second):
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    os.utime(fresh, (1_600_000_000 + second,) * 2)
    os.rename(fresh, path)


@pytest.fixture
def source(prelux):
    folder = prelux.tmp / "source"
    (folder / "sub").mkdir(parents=True)
    for name in ("f", "g", "sub/f"):
        put(folder / name, "one", 1)
    return folder


# What is removed


@pytest.mark.parametrize("part", ["", "trees", ".prelux", ".prelux/fill", ".prelux/lock"])
def test_removed_cache_folder(prelux, source, part):
    lake = prelux.file_mapping(source)
    assert prelux.run(["cat", lake + "/f"]).stdout == "one"
    gone = prelux.cache / part
    (shutil.rmtree if gone.is_dir() else os.unlink)(gone)

    def served():
        done = prelux.run(["cat", lake + "/f", lake + "/g", lake + "/sub/f"], check=False)
        said = {line.rpartition(": ")[2] for line in done.stderr.splitlines()}
        assert done.returncode == 0 or said == {"Input/output error"}
        return done.returncode == 0 and done.stdout == "oneoneone"
    # Files that a new daemon finds there must not hide that the old one owns nothing any more.
    before = prelux.daemon_pid()
    wait_for(lambda: served() and prelux.daemon_pid() != before, 20, "the cache folder is made anew")


def test_removed_socket(prelux, source):
    lake = prelux.file_mapping(source)
    prelux.run(["cat", lake + "/f"])
    first = prelux.daemons()
    (prelux.runtime / "sock").unlink()
    assert prelux.run(["cat", lake + "/g"]).stdout == "one"
    assert prelux.daemons() != first


def test_removed_tables(prelux, source):
    lake = prelux.file_mapping(source)
    long = prelux.popen(f"cat {lake}/f; read x; cat {lake}/g", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert long.stdout.read(3) == "one"
    tables = prelux.runtime / "tables"
    names = sorted(os.listdir(tables))
    for name in names:
        (tables / name).unlink()
    # A start under the same configuration writes them at once, housekeeping for programs that run already.
    assert prelux.run(["cat", lake + "/g"]).stdout == "one"
    shutil.rmtree(tables)
    wait_for(lambda: tables.exists() and sorted(os.listdir(tables)) == names, 20, "the tables are written again")
    assert long.communicate("\n", timeout=20)[0] == "one"


def test_damage_in_the_middle_of_the_catalogue(prelux, source):
    for i in range(200):
        put(source / f"n{i}", f"text {i}\n", 1)
    lake = prelux.file_mapping(source, freshness="immutable")
    prelux.run(f"cat {lake}/n* > /dev/null")
    prelux.kill_daemon()
    path = prelux.cache / ".prelux" / "catalogue.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = bytearray(path.read_bytes())
    for i in range(2 * 4096, len(data)):
        data[i] ^= 0x5a
    path.write_bytes(data)
    put(source / "n0", "changed\n", 2)
    assert prelux.run(f"cat {lake}/n0 {lake}/n100").stdout == "changed\ntext 100\n"
    assert list(path.parent.glob("catalogue.db.broken-*"))


# What two know


@pytest.mark.parametrize("first", ["/outer/sub", "/inner"])
def test_cache_folders_in_one_another(prelux, source, first):
    other = prelux.tmp / "other"
    other.mkdir()
    put(other / "f", "two", 1)  # as long and as old as the other f
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)},
                                              "other": {"type": "file", "root": str(other)}}, "mappings": [
        {"local": "/outer", "remote": "src:/", "cache": str(prelux.tmp / "c")},
        {"local": "/inner", "remote": "other:/", "cache": str(prelux.tmp / "c" / "sub")}]})
    for path in (first, "/outer/sub", "/inner"):
        done = prelux.run(["cat", path + "/f"], check=False)
        assert done.stdout == {"/outer/sub": "one", "/inner": ""}[path]
    assert "lie in one another" in prelux.log()
    # The same remote may be mirrored so.
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}}, "mappings": [
        {"local": "/outer", "remote": "src:/", "cache": str(prelux.tmp / "d")},
        {"local": "/inner", "remote": "src:/sub", "cache": str(prelux.tmp / "d" / "sub")}]})
    assert prelux.run("cat /outer/sub/f /inner/f").stdout == "oneone"


def test_evict_of_a_file_in_use_believes_nothing_of_it(prelux, source):
    lake = prelux.file_mapping(source, freshness="immutable")
    reader = prelux.popen(f"exec 3<{lake}/f; echo; read x; cat <&3", stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True)
    reader.stdout.readline()
    put(source / "f", "second", 2)
    assert prelux.run(["cat", lake + "/f"]).stdout == "one"
    assert prelux.cli("evict", lake + "/f", check=False).returncode == 3
    time.sleep(6)  # uses are written down every 5 s
    prelux.kill_daemon()  # nor is it believed over a restart
    assert prelux.run(["stat", "-c", "%s", lake + "/f"]).stdout == "6\n"
    assert prelux.run(["cat", lake + "/f"]).stdout == "second"
    assert reader.communicate("\n", timeout=20)[0] == "one"


@pytest.mark.parametrize("by", ["cat {}/f", "ls -l {}"])
def test_two_mappings_of_one_remote_show_one_version(prelux, source, by):
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}}, "mappings": [
        {"local": "/kept", "remote": "src:/", "freshness": "immutable"},
        {"local": "/kept/fresh", "remote": "src:/sub", "freshness": {"max_age": "1s"}},
        {"local": "/long", "remote": "src:/", "freshness": {"max_age": "1h"}}]})
    look = "for d in /kept/sub /kept/fresh /long/sub; do ls -l $d > /dev/null; stat -c %s $d/f; cat $d/f | wc -c; done"
    assert prelux.run(look).stdout.split() == ["3"] * 6
    put(source / "sub/f", "second", 2)
    time.sleep(1.1)
    prelux.run(by.format("/kept/fresh"))
    sizes = prelux.run(look).stdout.split()
    assert sizes[0::2] == sizes[1::2] and sizes[2:4] == ["6", "6"]
