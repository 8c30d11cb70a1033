"""Changes of the remote: seen when the mapping says so, never half."""

import os
import time

import pytest

from tests.servers.nginx import Nginx


def world(prelux, freshness, **options):
    source = prelux.tmp / "source"
    source.mkdir()
    put(source / "f", "one", 1)
    prelux.source = source
    return prelux.file_mapping(source, freshness=freshness, **options)


def put(path, text, second):
    """A new version arrives as remotes replace objects: another file under the same name."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    os.utime(fresh, (1_600_000_000 + second,) * 2)
    os.rename(fresh, path)


def cat(prelux, path):
    return prelux.run(["cat", path]).stdout


def test_max_age(prelux):
    lake = world(prelux, {"max_age": "2s"})
    start = time.monotonic()
    assert cat(prelux, lake + "/f") == "one"
    put(prelux.source / "f", "second", 2)
    text = cat(prelux, lake + "/f")
    if time.monotonic() - start < 2:
        assert text == "one"
    time.sleep(2.1)
    assert cat(prelux, lake + "/f") == "second"
    assert prelux.run(["stat", "-c", "%s %Y", lake + "/f"]).stdout == "6 1600000002\n"


def test_always(prelux):
    lake = world(prelux, "always")
    for i in range(5):
        put(prelux.source / "f", "x" * (i + 1), i)
        assert prelux.run(["stat", "-c", "%s", lake + "/f"]).stdout == f"{i + 1}\n"
        assert cat(prelux, lake + "/f") == "x" * (i + 1)
    os.unlink(prelux.source / "f")
    assert "No such file" in prelux.run(["cat", lake + "/f"], check=False).stderr
    put(prelux.source / "g", "new", 1)
    assert prelux.run(["ls", lake]).stdout == "g\n"


def test_a_name_below_a_file_that_has_gone(prelux):
    """ENOTDIR is said of what is there, not of what was."""
    lake = world(prelux, "always")
    assert cat(prelux, f"{lake}/f") == "one"
    assert "Not a directory" in prelux.run(["cat", f"{lake}/f/x"], check=False).stderr
    (prelux.source / "f").unlink()
    assert "No such file" in prelux.run(["cat", f"{lake}/f/x"], check=False).stderr
    (prelux.source / "f").mkdir()
    (prelux.source / "f/x").write_text("below")
    assert cat(prelux, f"{lake}/f/x") == "below"


def test_always_of_an_unchanged_file_fetches_once(prelux, tmp_path):
    source = tmp_path / "web"
    source.mkdir()
    (source / "f").write_bytes(b"y" * 100_000)
    os.utime(source / "f", (1_600_000_000,) * 2)  # not within the last second, which no ETag of nginx can resolve
    with Nginx(source) as server:
        prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": server.url}},
                       "mappings": [{"local": "/prelux-web", "remote": "w:/", "freshness": "always"}]})
        for _ in range(4):
            assert prelux.run(["wc", "-c", "/prelux-web/f"]).stdout.split()[0] == "100000"
        bodies = [r for r in server.requests(at_least=1) if r.method == "GET" and r.bytes >= 100_000]
        assert len(bodies) == 1


def test_immutable_until_evict(prelux):
    lake = world(prelux, "immutable")
    assert cat(prelux, lake + "/f") == "one"
    put(prelux.source / "f", "second", 2)
    assert cat(prelux, lake + "/f") == "one"
    prelux.kill_daemon()
    assert cat(prelux, lake + "/f") == "one"
    prelux.cli("evict", lake + "/f")
    assert cat(prelux, lake + "/f") == "second"


def test_skip_keeps_nothing(prelux):
    lake = world(prelux, "skip")
    assert cat(prelux, lake + "/f") == "one"
    put(prelux.source / "f", "second", 2)
    assert cat(prelux, lake + "/f") == "second"
    assert not [p for p in prelux.cache.rglob("f") if p.is_file()]


def test_open_file_keeps_its_version(prelux):
    lake = world(prelux, "always")
    put(prelux.source / "f", "old" * 1000, 1)
    program = """
import os, sys
path, marker = sys.argv[1:3]
with open(path) as first:
    head = first.read(10)
    before = os.fstat(first.fileno())
    print("opened", flush=True)
    sys.stdin.readline()
    second = open(path).read()
    after = os.fstat(first.fileno())
    rest = first.read()
print(head + rest == "old" * 1000, second == "new!" * 500, (before.st_ino, before.st_size) == (after.st_ino, after.st_size))
print(os.stat(path).st_ino != before.st_ino)
"""
    child = prelux.popen(["python3", "-c", program, lake + "/f", "x"], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "opened\n"
    put(prelux.source / "f", "new!" * 500, 2)
    out, _ = child.communicate("go\n", timeout=30)
    assert out == "True True True\nTrue\n"


@pytest.mark.parametrize("freshness", ["immutable", {"max_age": "60s"}], ids=["immutable", "max_age"])
def test_negative_answers_age(prelux, freshness):
    lake = world(prelux, freshness, negative_age="1s")
    check = f"test -e {lake}/later && echo there || echo missing"
    assert prelux.run(check).stdout == "missing\n"
    put(prelux.source / "later", "x", 1)
    time.sleep(1.2)
    if freshness != "immutable":
        prelux.cli("evict", lake)
    assert prelux.run(check).stdout == "there\n"


def test_deleted_remote(prelux):
    lake = world(prelux, {"max_age": "1s"})
    assert cat(prelux, lake + "/f") == "one"
    os.unlink(prelux.source / "f")
    time.sleep(1.2)
    assert prelux.run(["cat", lake + "/f"], check=False).returncode == 1
    assert prelux.run(["ls", lake]).stdout == ""


def test_identity_over_eviction_and_restart(prelux):
    """git and make look at these: the same before caching, after, after eviction, after a restart."""
    lake = world(prelux, "immutable")
    show = ["stat", "-c", "%d %i %s %Y %Z %a %h %u %F", lake + "/f"]
    before = prelux.run(show).stdout
    cat(prelux, lake + "/f")
    assert prelux.run(show).stdout == before
    opened = prelux.run(["python3", "-c", f"import os; s = os.fstat(os.open('{lake}/f', 0)); print(s.st_dev, s.st_ino, s.st_size)"]).stdout
    assert opened.split() == before.split()[:3]
    prelux.cli("evict", lake)
    assert prelux.run(show).stdout == before
    prelux.kill_daemon()
    assert prelux.run(show).stdout == before
