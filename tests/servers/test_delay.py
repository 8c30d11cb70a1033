"""The delaying proxy of tests/bench: nothing comes before its time, and nothing is lost or faster than it may be."""

import socket
import time

import pytest

from tests.bench.delay import Delay, ceiling
from tests.servers.nginx import Nginx


def get(address, path):
    """(seconds to the first byte, seconds in all, body) of a GET on a fresh connection."""
    start, first, data = time.monotonic(), None, b""
    with socket.create_connection(tuple(address.split(":"))) as far:
        far.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        while piece := far.recv(1 << 16):
            first = first or time.monotonic() - start
            data += piece
    return first, time.monotonic() - start, data.partition(b"\r\n\r\n")[2]


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/small").write_bytes(b"small")
    (tmp_path / "web/large").write_bytes(bytes(range(256)) * 8192)  # 2 MiB
    with Nginx(tmp_path / "web", tmp_path / "nginx") as server:
        yield server


def test_a_round_trip_for_the_connection_and_one_for_the_request(web):
    with Delay(web.url, milliseconds=100) as far:
        first, _, body = get(far.address, "/small")
    assert body == b"small" and first >= 0.2


def test_latency_costs_no_bandwidth(web):
    with Delay(web.url, milliseconds=200) as far:
        first, whole, body = get(far.address, "/large")
    assert body == bytes(range(256)) * 8192
    assert whole - first < 1.5  # 32 pieces one after the other would take 3 s at least


def test_rate_is_of_a_connection(web):
    with Delay(web.url, rate=2 << 20) as far:
        _, whole, body = get(far.address, "/large")
    assert len(body) == 2 << 20 and whole >= 0.95


def test_who_is_not_there_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as dead:
        port = dead.getsockname()[1]
    with Delay(f"127.0.0.1:{port}") as far, socket.create_connection(tuple(far.address.split(":"))) as near:
        near.settimeout(10)
        assert near.recv(1) == b""


def test_ceiling_is_measured():
    rows = ceiling(latencies=(0, 20), size=8 << 20)
    assert [(row["ms"], row["connections"]) for row in rows] == [(0, 1), (0, 8), (20, 1), (20, 8)]
    assert all(row["first_byte_s"] >= 2 * row["ms"] / 1000 and row["bytes_per_s"] > 0 for row in rows)
