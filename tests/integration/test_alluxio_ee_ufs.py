"""Backend alluxio-ee and the under store that its cluster tells of, with the keys (`fallback_to_ufs_enabled`): the stand-in for Enterprise AI
over a real S3 server (versitygw)."""

import json
import os
import time
import urllib.parse

import pytest

from tests import harness, trees
from tests.servers.versitygw import Versitygw
from tests.standin_ee.cluster import HOSTS, MOUNT, SECRET, UNDER, EeStandin

MIB = 1 << 20


@pytest.fixture
def cluster(tmp_path):
    if Versitygw.missing():
        pytest.skip(Versitygw.missing())
    with Versitygw(folder=tmp_path / "s3") as server, EeStandin(tmp_path) as it:
        it.server, it.ufs = server, type(it.ufs)(server.bucket("lake"))
        it.data = it.ufs / "data"
        (it.data / "d").mkdir(parents=True)
        it.large = trees.pattern(3 * MIB + 5, 4)
        for name, data in (("a", b"abc"), ("b", b"hello\n"), ("d/large", it.large)):
            (it.data / name).write_bytes(data)
            os.utime(it.data / name, (1_700_000_000, 1_700_000_000))
        it.entry = {"alluxio_path": MOUNT, "access_key": server.access_key, "secret_key": server.secret_key, "endpoint": server.url,
                    "region": server.region}
        it.mounts = {"s3://la": {**it.entry, "secret_key": SECRET}, UNDER: it.entry}
        yield it


def start(prelux, cluster, **more):
    prelux.config({"version": 1, "log": {"level": "debug"}, "backends": {"lake": cluster.backend(fallback_to_ufs_enabled=True, **more)},
                   "mappings": [{"local": "/prelux-ee", "remote": "lake:/", "freshness": "always"}]})
    assert prelux.run(["cat", "/prelux-ee/a"]).stdout == "abc"


def status_of(prelux):
    return next(one for one in json.loads(prelux.cli("status", "--json", check=False).stdout)["backends"] if one["name"] == "lake")


def texts(prelux, done):
    return [done.stdout, done.stderr, prelux.log(), json.dumps(prelux.errors()), prelux.cli("errors", check=False).stdout,
            *(prelux.cli(word, "--json", check=False).stdout for word in ("status", "doctor")), prelux.cli("config", "show", check=False).stdout]


def told(cluster, every):
    words = (cluster.entry["access_key"], cluster.entry["secret_key"], SECRET)
    return [text for text in every for word in words if word in text or urllib.parse.quote(word, safe="") in text]


@pytest.mark.asan
def test_without_workers(prelux, cluster):
    start(prelux, cluster)
    assert (status_of(prelux)["under_store"], status_of(prelux)["under_store_from"]) == ("s3", "ufsInfo")
    for host in HOSTS:
        cluster.down(host)
    done = prelux.run(["sh", "-c", "cat /prelux-ee/b; ls /prelux-ee; cat /prelux-ee/none"], check=False)
    assert done.stdout == "hello\na\nb\nd\n" and "No such file" in done.stderr
    assert prelux.run(["cat", "/prelux-ee/d/large"], text=False).stdout == cluster.large
    assert not told(cluster, texts(prelux, done))


@pytest.mark.asan
def test_only_when_asked_for(prelux, cluster):
    prelux.config({"version": 1, "backends": {"lake": cluster.backend()}, "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
    assert prelux.run(["cat", "/prelux-ee/a"]).stdout == "abc"
    assert status_of(prelux)["under_store"] is None
    for host in HOSTS:
        cluster.down(host)
    done = prelux.run(["cat", "/prelux-ee/b"], check=False)
    assert "Input/output error" in done.stderr
    assert not told(cluster, texts(prelux, done))


def test_what_is_wiped(prelux, cluster):  # not with a sanitizer, which holds on to freed memory
    """Not asked for, the keys do not stay in the daemon's memory. (What curl's own buffer holds the next answers overwrite.)"""
    prelux.config({"version": 1, "backends": {"lake": cluster.backend()}, "mappings": [{"local": "/prelux-ee", "remote": "lake:/"}]})
    for name, data in (("a", b"abc"), ("d/large", cluster.large)):
        assert prelux.run(["cat", f"/prelux-ee/{name}"], text=False).stdout == data
    assert cluster.calls("/v1/ufsInfo")
    found = []
    pid = prelux.daemon_pid()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            first, last = (int(word, 16) for word in line.split()[0].split("-"))
            if line.split()[1].startswith("rw") and last - first < 1 << 30:
                memory.seek(first)
                try:
                    data = memory.read(last - first)
                except OSError:
                    continue
                for word in (cluster.entry["secret_key"], SECRET):
                    at = data.find(word.encode())
                    while at >= 0:
                        found.append((line.split()[0], at, data[max(0, at - 120):at + 60]))
                        at = data.find(word.encode(), at + 1)
    assert not found


@pytest.mark.asan
@pytest.mark.parametrize("change", [{"access_key": "file:/etc/passwd"}, {"access_key": "${HOME}"}, {"secret_key": "a b"}, {"secret_key": 7},
                                    {"secret_key": ""}, {"endpoint": "http://user:pw@127.0.0.1:1"}, {"endpoint": "ftp://127.0.0.1"},
                                    {"endpoint": "http://127.0.0.1/?x"}, {"endpoint": None}, {"access_key": "x" * 5000}])
def test_what_no_key_looks_like(prelux, cluster, change):
    """Nothing of it is looked up on this machine, and nobody is asked by it."""
    cluster.entry.update(change)
    start(prelux, cluster)
    status = status_of(prelux)
    assert status["under_store"] is None and "under_store_from" not in status
    words = [str(word) for word in change.values() if word and len(str(word)) > 5]
    done = prelux.run(["cat", "/prelux-ee/b"])
    assert not [text for text in texts(prelux, done) for word in words if word in text]


@pytest.mark.asan
def test_wrong_keys(prelux, cluster):
    """The store's refusal is told, and no key."""
    cluster.entry["secret_key"] = SECRET
    start(prelux, cluster)
    for host in HOSTS:
        cluster.down(host)
    done = prelux.run(["cat", "/prelux-ee/b"], check=False)
    assert "Permission denied" in done.stderr or "Input/output error" in done.stderr
    assert "under store of lake" in json.dumps(prelux.errors())
    assert not told(cluster, texts(prelux, done))


@pytest.mark.asan
def test_keys_that_were_replaced(prelux, cluster):
    """The store refuses the old ones; workers, whose S3 port is silent, know the new ones before the next renewal is due."""
    right, cluster.entry["secret_key"] = cluster.entry["secret_key"], SECRET
    start(prelux, cluster)
    for host in HOSTS:
        cluster._close((host, "s3"))
    asked = len(cluster.calls("/v1/ufsInfo"))
    began = time.monotonic()
    done = prelux.run(["sh", "-c", "for i in 1 2 3 4 5 6; do cat /prelux-ee/b; done"], check=False)
    times = len(cluster.calls("/v1/ufsInfo")) - asked
    assert not done.stdout and 1 <= times <= 2 + (time.monotonic() - began) / 5, "asked again, not each time"
    cluster.entry["secret_key"] = right
    harness.wait_for(lambda: prelux.run(["cat", "/prelux-ee/b"], check=False).stdout == "hello\n", 30, "the new keys are taken")
    assert prelux.run(["cat", "/prelux-ee/d/large"], text=False).stdout == cluster.large
    assert not [text for text in texts(prelux, done) if right in text or SECRET in text or urllib.parse.quote(right, safe="") in text]


def test_one_under_store(prelux, cluster):
    prelux.config({"version": 1, "backends": {"lake": cluster.backend(fallback_to_ufs_enabled=True, under_store="plain"),
                                              "plain": {"type": "file", "root": str(cluster.data)}}, "mappings": []})
    done = prelux.cli("config", "check", check=False)
    assert done.returncode == 1 and "fallback_to_ufs_enabled" in done.stdout + done.stderr
