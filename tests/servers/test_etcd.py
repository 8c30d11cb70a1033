"""tests/servers/etcd.py does what it says."""

import os
import signal
import socket
import ssl
import urllib.error
import urllib.request

import pytest

from .base import LOOPBACK, free_port, port_open, wait_for
from .etcd import VERSION, Etcd, EtcdError


@pytest.fixture(autouse=True)
def _installed():
    if Etcd.missing():
        pytest.skip(Etcd.missing())


def test_version():
    assert Etcd.version().startswith(VERSION + ".")


def test_a_taken_port_is_changed(tmp_path, monkeypatch):
    with socket.create_server((LOOPBACK, 0)) as other:
        taken = other.getsockname()[1]
        ports = [taken]
        monkeypatch.setattr("%s.free_port" % Etcd.__module__, lambda: ports.pop() if ports else free_port())
        with Etcd(tmp_path) as etcd:
            assert etcd.port != taken


def test_keys_leases_and_a_restart(tmp_path):
    with Etcd(tmp_path) as etcd:
        lease = etcd.lease(1)
        etcd.put("/a/kept", b"\x00\xff")
        etcd.put("/a/leased", "short", lease=lease)
        etcd.put("/ab", "another prefix")
        assert etcd.below("/a/") == {"/a/kept": b"\x00\xff", "/a/leased": b"short"}
        assert etcd.get("/a/none") is None and etcd.keep_alive(lease) > 0
        wait_for(lambda: etcd.get("/a/leased") is None, 15, "the lease runs out")
        assert etcd.keep_alive(lease) == 0
        port, url = etcd.port, etcd.url
        etcd.kill()
        assert not port_open(port)
        etcd.restart()
        assert etcd.url == url and etcd.get("/a/kept") == b"\x00\xff"
        assert etcd.delete("/a/kept") == 1 and etcd.get("/a/kept") is None
        long = etcd.lease(600)
        etcd.put("/b", "1", lease=long)
        etcd.revoke(long)
        assert etcd.get("/b") is None


def test_frozen_etcd_accepts_and_says_nothing(tmp_path):
    with Etcd(tmp_path) as etcd:
        etcd.freeze()
        assert port_open(etcd.port)
        with pytest.raises(OSError):
            urllib.request.urlopen(etcd.url + "/health", timeout=0.3)
        etcd.thaw()
        wait_for(etcd.ready, 10)


def test_auth(tmp_path):
    with Etcd(tmp_path, auth=("reader", "pass word")) as etcd:
        etcd.put("/k", "v")
        for token, status in ((False, 400), ("made up.7", 401)):
            with pytest.raises(EtcdError) as caught:
                etcd.call("/v3/kv/range", {"key": "Lw=="}, token=token)
            assert caught.value.status == status
        with pytest.raises(EtcdError, match="invalid user ID or password"):
            etcd.login("reader", "wrong")
        etcd.kill()
        etcd.restart()
        assert etcd.get("/k") == b"v"


def test_tls(tmp_path):
    with Etcd(tmp_path, tls=True) as etcd:
        assert etcd.url.startswith("https://")
        etcd.put("/k", "v")
        assert etcd.get("/k") == b"v"
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(etcd.url + "/health", timeout=5)


def test_client_certificates(tmp_path):
    with Etcd(tmp_path, client_certs=True) as etcd:
        etcd.put("/k", "v")
        assert etcd.get("/k") == b"v"
        nobody = ssl.create_default_context(cafile=etcd.ca_file)
        with pytest.raises(OSError):
            urllib.request.urlopen(etcd.url + "/health", timeout=5, context=nobody)
        etcd.self_signed("a stranger", tmp_path / "stranger-key.pem", tmp_path / "stranger.pem")
        stranger = ssl.create_default_context(cafile=etcd.ca_file)
        stranger.load_cert_chain(tmp_path / "stranger.pem", tmp_path / "stranger-key.pem")
        with pytest.raises(OSError):
            urllib.request.urlopen(etcd.url + "/health", timeout=5, context=stranger)


def test_stop_leaves_nothing():
    etcd = Etcd().start()
    pid, folder = etcd.process("etcd").pid, etcd.folder
    etcd.stop()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)
