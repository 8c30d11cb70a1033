"""`max_connections` of a backend, counted at a real server (nginx) behind a proxy that counts connections and says who is there at once."""

import subprocess

import pytest

from tests.harness import wait_for
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx

LAKE = "/prelux-limit"
FILES = 60


@pytest.fixture
def web(tmp_path):
    root = tmp_path / "web"
    root.mkdir()
    for number in range(FILES):
        (root / f"f{number:02}").write_bytes(b"%d" % number * 2000)
    for number in range(2):
        (root / f"large{number}").write_bytes(b"x" * 3_000_000)
    with Nginx(root) as server, FaultProxy(server.url) as proxy:
        yield proxy


def config(prelux, url, most):
    limit = {"max_connections": most} if most else {}
    prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": url, **limit}}, "mappings": [{"local": LAKE, "remote": "w:/"}]})


@pytest.mark.parametrize("most", [1, 3, None])
def test_so_many_connections(prelux, web, most):
    """Many want files at once; connections are kept, so that as many were made as there were at once."""
    config(prelux, web.url, most)
    web.fault("/", delay=0.03 if most else 0.3)
    prelux.run(f"ls {LAKE} >/dev/null")
    prelux.run(f"for n in 0 1 2 3 4 5 6 7; do cat {LAKE}/f?$n >/dev/null & done; wait")
    assert all(web.count(f"/f{number:02}") >= 1 for number in range(FILES) if number % 10 < 8)
    assert web.accepted <= most if most else web.accepted > 3


def test_stat_does_not_wait_behind_reads(prelux, web):
    config(prelux, web.url, 2)
    prelux.run(["ls", LAKE])
    web.fault("/large", stall_after=1000, body=True, method="GET")
    readers = [prelux.popen(["cat", f"{LAKE}/large{n}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for n in range(2)]
    try:
        wait_for(lambda: web.count("/large0") + web.count("/large1") > 0, 30, "a read at the server")
        assert prelux.run(["stat", "-c", "%s", f"{LAKE}/f01"]).stdout == "2000\n"
        assert web.accepted <= 2 and [reader.poll() for reader in readers] == [None, None]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
