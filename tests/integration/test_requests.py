"""What an open costs on the wire, by nginx's own log: one GET, whose head says what a HEAD would, and whose bytes are of the version it names."""

import os
import subprocess
import threading
import time

import pytest

from tests.harness import wait_for
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx
from tests.trees import pattern

LAKE = "/prelux-web"
SIZES = {"small": 4000, "empty": 0, "byte": 1, "mid.bin": 9_000_000, "dir/inner": 70_000}
OLD = time.time() - 3600


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "web"
    for i, (name, size) in enumerate(SIZES.items()):
        put(root, name, pattern(size, i))
    return root


def put(root, name, data, when=OLD):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "new").write_bytes(data)
    os.utime(root / "new", (when, when))
    os.rename(root / "new", path)


def config(prelux, url, **options):
    prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": url}},
                   "mappings": [{"local": LAKE, "remote": "w:/", **options}]})


def asked(server, at_least=1):
    time.sleep(0.2)
    rows = [f"{r.method} {r.uri} {r.status}" for r in server.requests(at_least=at_least)]
    server.forget_requests()
    return rows


def cat(prelux, name, root=None):
    done = prelux.run(["cat", f"{LAKE}/{name}"], text=False)
    assert root is None or done.stdout == (root / name).read_bytes()


@pytest.mark.parametrize("freshness", ["immutable", {"max_age": "60s"}, "always", "skip"], ids=str)
def test_a_cold_file_is_one_request(prelux, root, freshness):
    with Nginx(root) as server:
        config(prelux, server.url, freshness=freshness)
        for name in SIZES:
            cat(prelux, name, root)
            assert asked(server) == [f"GET /{name} 200"]
        again = [f"GET /{name} 200" for name in SIZES] if freshness == "skip" else \
                [f"HEAD /{name} 200" for name in SIZES] if freshness == "always" else []
        for name in SIZES:
            cat(prelux, name, root)
        rows = asked(server, at_least=len(again))
        assert [row for row in rows if "GET" in row or freshness != "skip"] == again


def test_a_cold_file_after_a_listing_is_one_request(prelux, root):
    with Nginx(root) as server:
        config(prelux, server.url)
        assert prelux.run(["ls", LAKE]).stdout.split() == ["byte", "dir", "empty", "mid.bin", "small"]
        assert asked(server) == ["GET / 200"]
        for name in SIZES:
            cat(prelux, name, root)
            assert asked(server) == [f"GET /{name} 200"]


def test_connections_are_used_again(prelux, root):
    with Nginx(root) as server:
        config(prelux, server.url)
        prelux.run(f"for name in {' '.join(SIZES)}; do cat {LAKE}/$name >/dev/null; done")
        assert len({row.connection for row in server.requests(at_least=len(SIZES))}) == 1


def test_stat_moves_no_bytes(prelux, root):
    with Nginx(root) as server:
        config(prelux, server.url)
        assert prelux.run(["stat", "-c", "%s %F", f"{LAKE}/mid.bin"]).stdout == "9000000 regular file\n"
        assert asked(server) == ["HEAD /mid.bin 200"]
        cat(prelux, "mid.bin", root)
        assert asked(server) == ["GET /mid.bin 200"]


def test_what_is_not_a_file(prelux, root):
    with Nginx(root) as server:
        config(prelux, server.url)
        assert "Is a directory" in prelux.run(["cat", f"{LAKE}/dir"], check=False).stderr
        assert asked(server) == ["GET /dir 301"]
        assert "No such file" in prelux.run(["cat", f"{LAKE}/none"], check=False).stderr
        assert asked(server) == ["GET /none 404"]
        assert prelux.run(["cat", f"{LAKE}/none"], check=False).returncode == 1
        assert asked(server, at_least=0) == []
        assert "Not a directory" in prelux.run(["cat", f"{LAKE}/small/below"], check=False).stderr
        assert prelux.run(["stat", "-c", "%F", f"{LAKE}/dir"]).stdout == "directory\n"


def test_many_at_once_are_one_request(prelux, root):
    with Nginx(root) as server, FaultProxy(server.url) as slow:
        slow.fault("/mid.bin", delay=0.5)
        config(prelux, slow.url)
        done = prelux.run(f"for i in 1 2 3 4 5 6 7 8; do md5sum < {LAKE}/mid.bin & done; wait")
        assert len(set(done.stdout.splitlines())) == 1 and len(done.stdout.splitlines()) == 8
        assert asked(server) == ["GET /mid.bin 200"]


def test_a_new_version_is_seen(prelux, root):
    with Nginx(root) as server:
        config(prelux, server.url, freshness="always")
        cat(prelux, "small", root)
        put(root, "small", pattern(5000, 77), OLD + 100)
        server.forget_requests()
        cat(prelux, "small", root)
        assert asked(server) == ["HEAD /small 200", "GET /small 200"]


def test_a_file_of_this_very_second(prelux, root):
    """Its time cannot tell it from the next one of the same second: the bytes are taken for this open, not for later ones."""
    with Nginx(root) as server:
        config(prelux, server.url, freshness="always")
        for i in range(4):
            put(root, "young", pattern(3000, i), time.time())
            cat(prelux, "young", root)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("broken", [{"reset_after": 3_000_000}, {"close_after": 3_000_000}], ids=["reset", "closed"])
def test_an_answer_that_breaks_off(prelux, root, broken, replaced):
    """It goes on where it broke, of the same version; of another one it begins anew."""
    with Nginx(root) as server, FaultProxy(server.url) as faults:
        faults.fault("/mid.bin", times=1, **broken)
        config(prelux, faults.url)
        swap = threading.Thread(target=replace_under_it, args=(prelux, root, pattern(9_000_000, 99)))
        if replaced:
            faults.fault("/mid.bin", times=1, rate=1_000_000, **broken)
            swap.start()
        done = prelux.run(["md5sum", f"{LAKE}/mid.bin"])
        if replaced:
            swap.join()
        want = subprocess.run(["md5sum", root / "mid.bin"], capture_output=True, text=True, check=True).stdout
        assert done.stdout.split()[0] == want.split()[0]
        rows = server.requests(at_least=2)
        assert rows[0].method == "GET" and not rows[0].range and rows[1].range.startswith("bytes=") and rows[1].if_match
        assert rows[1].status == (412 if replaced else 206)
        assert replaced or len(rows) == 2


def replace_under_it(prelux, root, data):
    """Another version while the first answer, which takes three seconds, is on its way."""
    wait_for(lambda: list((prelux.cache / ".prelux/fill").glob("*")), 30, "the first bytes")
    put(root, "mid.bin", data, OLD + 500)


def test_files_that_live_elsewhere(prelux, root, tmp_path):
    """Redirects are followed as ever; from a server that does it the long way is taken at once."""
    with Nginx(root) as server, Nginx(root, tmp_path / "front", location_extra=f"return 302 {server.url}$request_uri;") as front:
        config(prelux, front.url)
        for name in ("small", "empty", "mid.bin"):
            cat(prelux, name, root)
        rows = asked(front, at_least=3)
        assert [row for row in rows if row.startswith("GET")] == ["GET /small 302", "GET /small 302", "GET /mid.bin 302"]


def test_a_full_cache_is_said_before_the_bytes_come(prelux, root):
    with Nginx(root) as server:
        prelux.config({"version": 1, "cache": {"dir": str(prelux.cache), "max_size": "5MB", "min_free": "0"},
                       "backends": {"w": {"type": "http", "url": server.url}}, "mappings": [{"local": LAKE, "remote": "w:/"}]})
        assert "No space left" in prelux.run(["cat", f"{LAKE}/mid.bin"], check=False).stderr
        cat(prelux, "small", root)


def test_what_lies_in_the_cache_folder_is_looked_at_first(prelux, root, tmp_path):
    """azfuse's old cache: a file that is the remote's is adopted, none of its bytes come again."""
    with Nginx(root) as server:
        old = tmp_path / "old"
        old.mkdir()
        subprocess.run(["cp", "-p", root / "mid.bin", old / "mid.bin"], check=True)
        config(prelux, server.url, cache=str(old))
        cat(prelux, "mid.bin", root)
        assert all(row.startswith("HEAD") for row in asked(server))
