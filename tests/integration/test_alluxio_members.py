"""Who the workers of an Alluxio cluster are: real etcd (authentication, TLS, death, silence, restart), fixed lists, DNS, membership
changes; and what `map`, `status` and `doctor` show of it. The workers are stand-ins (tests/standin)."""

import base64
import json
import time

import pytest

from tests import harness, trees
from tests.servers.base import free_port
from tests.servers.etcd import Etcd
from tests.servers.faultproxy import FaultProxy
from tests.standin.cluster import AlluxioStandin

pytestmark = pytest.mark.skipif(bool(AlluxioStandin.missing()), reason=str(AlluxioStandin.missing()))

NAMES = [f"file{number:02}" for number in range(12)]
USER = ("prelux", "a word")


def fill(cluster):
    folder = cluster.ufs / "ours"
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(trees.pattern(5000 + number, number))
    return cluster


@pytest.fixture(scope="module")
def cluster():
    with AlluxioStandin(sync_interval=0, timeout=2) as it:
        yield fill(it)


@pytest.fixture
def breakable(request, tmp_path):
    with AlluxioStandin(**{"sync_interval": 0, "timeout": 2, "linger": 3, "folder": tmp_path / "standin", "master": False,
                           **getattr(request, "param", {})}) as it:
        yield fill(it)


def backend(cluster, /, **more):
    return {"type": "alluxio", "root": cluster.root, "etcd": [cluster.etcd.endpoint], "s3_port": cluster.s3_port,
            "page_size": cluster.page_size, "refresh": "300ms", **more}


def map_it(prelux, spec, **mapping):
    prelux.config({"version": 1, "backends": {"lake": spec},
                   "mappings": [{"local": "/prelux-lake", "remote": "lake:/ours", **mapping}]})


def read_all(prelux, cluster, names=NAMES, **options):
    done = prelux.run(["md5sum", *(f"/prelux-lake/{name}" for name in names)], **options)
    expected = prelux.plain(["md5sum", *(cluster.ufs / "ours" / name for name in names)]).stdout
    assert done.stdout.replace("/prelux-lake/", "") == expected.replace(f"{cluster.ufs}/ours/", "")


def read_fresh(prelux, cluster, number=[100]):
    """A file that nothing here has seen yet."""
    number[0] += 1
    name = f"fresh{number[0]}"
    (cluster.ufs / "ours" / name).write_bytes(trees.pattern(3000 + number[0], number[0]))
    read_all(prelux, cluster, [name])


def report(prelux):
    status = prelux.cli("status", "--json", check=False)
    return next(row for row in json.loads(status.stdout)["backends"] if row["name"] == "lake")


def owners(prelux, name):
    return prelux.cli("map", "--json", f"/prelux-lake/{name}")["owners"]


def expected_owners(cluster, name):
    return [f"{cluster.workers[i].host}:{cluster.workers[i].http_port}" for i in cluster.owners(f"/ours/{name}")]


# etcd

def test_owners_are_the_rings(prelux, cluster):
    map_it(prelux, backend(cluster))
    for name in NAMES:
        assert owners(prelux, name) == expected_owners(cluster, name)
    first, second = expected_owners(cluster, NAMES[0])
    assert f"owners     {first}, then {second}\n" in prelux.cli("map", f"/prelux-lake/{NAMES[0]}")


def test_nothing_is_asked_before_it_is_needed(prelux, cluster):
    """A configuration whose cluster is unreachable compiles, and status does not wait for it."""
    map_it(prelux, {**backend(cluster), "etcd": [f"127.0.0.1:{free_port()}"]})
    begin = time.monotonic()
    assert report(prelux)["membership"]["workers"] == 0
    assert prelux.run(["echo", "hello"]).stdout == "hello\n"
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("breakable", [{}, {"no_s3": True}], indirect=True, ids=["workers", "under store"])
def test_a_report_of_a_run_says_where_bytes_came_from(prelux, breakable, request):
    """`run --report`: workers without an S3 port look, and the under store gives the bytes."""
    prelux.config({"version": 1, "backends": {"lake": {**backend(breakable), "under_store": "under"}, "under": {"type": "file", "root": str(breakable.ufs)}},
                   "mappings": [{"local": "/prelux-lake", "remote": "lake:/ours"}]})
    read_all(prelux, breakable, args=[f"--report={prelux.tmp}/report.json"])
    found = json.loads((prelux.tmp / "report.json").read_text())["bytes"]
    size = sum(5000 + number for number in range(len(NAMES)))
    by_workers = "under store" not in request.node.name
    assert found["opened_asked"] == found["fetched"] == size and found["fetched_remote"] == 0
    assert (found["fetched_worker"], found["fetched_under_store"]) == ((size, 0) if by_workers else (0, size))
    read_all(prelux, breakable, args=[f"--report={prelux.tmp}/report.json"])
    found = json.loads((prelux.tmp / "report.json").read_text())["bytes"]
    assert found["opened_cached"] == size and found["fetched"] == found["fetched_worker"] == found["fetched_under_store"] == 0


def test_status_and_doctor_show_the_workers(prelux, cluster):
    map_it(prelux, backend(cluster))
    read_all(prelux, cluster)
    row = report(prelux)
    assert row["ok"] and row["type"] == "alluxio"
    assert row["membership"]["from"] == "etcd" and row["membership"]["workers"] == 2 and row["membership"]["ring"] == "known"
    assert {one["worker"] for one in row["workers"]} == {f"{place.host}:{place.http_port}" for place in cluster.workers}
    assert all(one["http"]["state"] == one["s3"]["state"] == "ok" for one in row["workers"])
    assert sum(row["reads"][source]["bytes"] for source in ("worker_pages", "worker_s3")) >= sum(5000 + n for n in range(len(NAMES)))
    assert row["reads"]["under_store"]["reads"] == 0
    text = prelux.cli("status")
    assert "\nlake:\n" in text and "  membership    from etcd, workers 2, " in text and f"worker {cluster.workers[0].host}:" in text
    doctor = prelux.cli("doctor", "--json")
    lines = [check["text"] for check in doctor["checks"] if check["check"] == "backend lake"]
    assert any(line.startswith("asked: ") for line in lines) and any(line.startswith("ring") for line in lines), lines


def test_end_points_in_turn(prelux, cluster):
    """The first is nobody, the second is no etcd; a list in one string, with blanks."""
    web = f"{cluster.workers[0].host}:{cluster.workers[0].http_port}"
    map_it(prelux, backend(cluster, etcd=f"127.0.0.1:{free_port()}, http://{web} ,{cluster.etcd.url}/"))
    read_all(prelux, cluster)


def test_etcd_port_for_those_without(prelux, cluster):
    map_it(prelux, backend(cluster, etcd="127.0.0.1", etcd_port=cluster.etcd.port))
    read_all(prelux, cluster)


def test_by_alluxios_own_names(prelux, cluster):
    """A site file pasted under `options`."""
    map_it(prelux, {"type": "alluxio", "options": {
        "alluxio.dora.client.ufs.root": cluster.root, "alluxio.etcd.endpoints": cluster.etcd.url,
        "alluxio.worker.rest.port": str(cluster.s3_port), "alluxio.worker.page.store.page.size": "1MB",
        "alluxio.user.consistent.hash.virtual.node.count.per.worker": "5", "alluxio.worker.membership.manager.type": "ETCD",
        "alluxio.worker.ramdisk.size": "1GB"}})
    read_all(prelux, cluster)
    assert owners(prelux, NAMES[3]) == expected_owners(cluster, NAMES[3])
    checked = prelux.cli("config", "check", check=False)
    assert checked.returncode == 0 and 'nothing here looks at "alluxio.worker.ramdisk.size"' in checked.stderr


@pytest.mark.parametrize("breakable", [{"etcd_auth": USER}], indirect=True)
def test_tokens_die_with_etcd(prelux, breakable):
    """Simple tokens live in etcd's memory: after its restart ours is refused, and we log in again."""
    map_it(prelux, backend(breakable, etcd_user=USER[0], etcd_password="${WORD}"))
    prelux.env["WORD"] = USER[1]
    read_all(prelux, breakable)
    breakable.etcd.kill()
    breakable.etcd.restart()
    harness.wait_for(lambda: "error" not in report(prelux)["membership"] and report(prelux)["membership"]["age_s"] < 1, 20, "a new token")
    begin = time.monotonic()

    def learned_since():
        asked = time.monotonic()
        return report(prelux)["membership"]["age_s"] + 1 < asked - begin
    harness.wait_for(learned_since, 60, "it goes on")
    assert "a word" not in prelux.log() and "a word" not in prelux.cli("status", "--json", check=False).stdout


@pytest.mark.parametrize("breakable", [{"etcd_auth": USER}], indirect=True)
def test_wrong_password_and_none(prelux_factory, breakable):
    for number, (word, text) in enumerate([("hush-hush", "authentication failed"), (None, "user name is empty")]):
        prelux = prelux_factory(f"p{number}")
        map_it(prelux, backend(breakable, **({"etcd_user": USER[0], "etcd_password": word} if word else {})))
        assert prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).stderr.endswith("Input/output error\n")
        record = prelux.errors()[-1]
        assert "membership from etcd" in record["cause"] and text in record["cause"]
        assert "hush" not in json.dumps(record)


@pytest.mark.parametrize("breakable", [{"etcd_tls": True}], indirect=True)
def test_tls(prelux_factory, breakable):
    prelux = prelux_factory("right")
    map_it(prelux, backend(breakable, etcd_ca=str(breakable.etcd.ca_file)))
    read_all(prelux, breakable)
    stranger = prelux_factory("stranger")
    map_it(stranger, backend(breakable, etcd_tls=True))
    assert stranger.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 1
    assert "membership from etcd: POST https://" in stranger.errors()[-1]["cause"]


@pytest.mark.parametrize("breakable", [{"etcd_certs": True}], indirect=True)
@pytest.mark.parametrize("names", ["keys", "one file", "properties"])
def test_client_certificates(prelux_factory, breakable, names):
    """An etcd with client-cert-auth: certificate and key, both in one file, or by Alluxio's own names. Without one: EIO that says TLS."""
    etcd = breakable.etcd
    more = {"keys": {"etcd_cert": str(etcd.client_cert), "etcd_key": str(etcd.client_key), "etcd_ca": str(etcd.ca_file)},
            "one file": {"etcd_cert": str(etcd.client_file), "tls": {"ca_file": str(etcd.ca_file)}},
            "properties": {"options": {"alluxio.etcd.tls.enabled": "true", "alluxio.etcd.tls.ca.cert": str(etcd.ca_file),
                                       "alluxio.etcd.tls.client.cert": str(etcd.client_cert),
                                       "alluxio.etcd.tls.client.key": str(etcd.client_key)}}}[names]
    prelux = prelux_factory("right")
    map_it(prelux, backend(breakable, **more))
    read_all(prelux, breakable)
    nobody = prelux_factory("nobody")
    map_it(nobody, backend(breakable, etcd_ca=str(etcd.ca_file)))
    assert nobody.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 1
    assert "membership from etcd: POST https://" in nobody.errors()[-1]["cause"]


# Trouble

def test_down_at_the_start(prelux, breakable):
    """EIO that names etcd, within a time; then it is there, and everything works, without anybody's doing."""
    breakable.etcd.kill()
    map_it(prelux, backend(breakable))
    begin = time.monotonic()
    done = prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False)
    assert done.stderr.endswith("Input/output error\n") and time.monotonic() - begin < 40
    record = prelux.errors()[-1]
    assert "membership from etcd" in record["cause"] and breakable.etcd.endpoint in record["cause"]
    row = report(prelux)
    assert not row["ok"] and breakable.etcd.endpoint in row["trouble"]
    assert prelux.cli("status", check=False).returncode == 3
    breakable.etcd.restart()
    breakable.wait_members(2)
    harness.wait_for(lambda: prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 0, 20, "etcd is noticed")
    read_all(prelux, breakable)
    assert report(prelux)["ok"]


def test_silent_at_the_start(prelux, breakable):
    breakable.etcd.freeze()
    try:
        map_it(prelux, backend(breakable))
        begin = time.monotonic()
        assert prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 1
        assert time.monotonic() - begin < 40
        assert "etcd" in prelux.errors()[-1]["cause"]
    finally:
        breakable.etcd.thaw()
    harness.wait_for(lambda: prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 0, 20, "etcd is noticed")


@pytest.mark.parametrize("breakable", [{"linger": 28}], indirect=True)  # as long as real workers' S3 ports know those who were there
def test_dead_and_silent_later(prelux, breakable):
    """The last known ring serves on, and no request waits for etcd. Leases end in the silence: who answers is not forgotten."""
    map_it(prelux, backend(breakable))
    read_all(prelux, breakable)
    breakable.etcd.freeze()
    harness.wait_for(lambda: "error" in report(prelux)["membership"], 20, "the silence is noticed")
    begin = time.monotonic()
    for _ in range(5):
        read_fresh(prelux, breakable)
    assert time.monotonic() - begin < 12  # had each waited for etcd: 3 s for each
    breakable.etcd.thaw()
    harness.wait_for(lambda: "error" not in report(prelux)["membership"], 20, "etcd is heard again")
    breakable.etcd.kill()
    harness.wait_for(lambda: "error" in report(prelux)["membership"], 20, "the death is noticed")
    read_fresh(prelux, breakable)
    assert "the last 2 workers stay" in prelux.log()
    breakable.etcd.restart()
    harness.wait_for(lambda: "error" not in report(prelux)["membership"], 20, "etcd is back")
    assert prelux.errors() == []


@pytest.mark.parametrize("breakable", [{"linger": 60}], indirect=True)
def test_lost_by_etcd_alone(prelux, breakable):
    """A worker whose lease ended while etcd was silent, who cannot register again, and answers: its files are read on, also when
    etcd is dead for good. An etcd that goes on saying so is believed."""
    with FaultProxy(breakable.etcd.url) as way:
        breakable.kill(1)
        breakable.restart(1, etcd=way.url)
        breakable.wait_members(2)
        map_it(prelux, backend(breakable))
        read_all(prelux, breakable)
        breakable.etcd.freeze()
        harness.wait_for(lambda: "error" in report(prelux)["membership"], 20, "the silence is noticed")
    breakable.etcd.thaw()
    breakable.wait_members(1)
    harness.wait_for(lambda: report(prelux)["membership"].get("lost_by_etcd") == 1, 5, "the loss is noticed")
    assert report(prelux)["membership"]["workers"] == 2 and "lost by etcd 1" in prelux.cli("status")
    begin = time.monotonic()
    for _ in range(6):
        read_fresh(prelux, breakable)
    breakable.etcd.kill()
    harness.wait_for(lambda: "error" in report(prelux)["membership"], 20, "the death is noticed")
    for _ in range(6):
        read_fresh(prelux, breakable)
    assert time.monotonic() - begin < 10 and report(prelux)["membership"]["workers"] == 2
    breakable.etcd.restart()
    harness.wait_for(lambda: report(prelux)["membership"]["workers"] == 1, 25, "etcd is believed")
    begin = time.monotonic()
    for _ in range(6):  # the other worker's S3 port goes on sending us to the one that has left
        read_fresh(prelux, breakable)
    assert time.monotonic() - begin < 10
    assert prelux.errors() == []


@pytest.mark.parametrize("breakable", [{"linger": 60}], indirect=True)
def test_removed_while_etcd_is_well(prelux, breakable):
    """The same worker, of an etcd that has answered all the time: out of the ring within the refresh, though it answers."""
    with FaultProxy(breakable.etcd.url) as way:
        breakable.kill(1)
        breakable.restart(1, etcd=way.url)
        breakable.wait_members(2)
        map_it(prelux, backend(breakable))
        read_all(prelux, breakable)
    breakable.wait_members(1)
    harness.wait_for(lambda: report(prelux)["membership"]["workers"] == 1, 8, "the new ring")  # had etcd been silent: 15 s
    assert "lost_by_etcd" not in report(prelux)["membership"]


def test_new_owners_after_a_death_and_a_birth(prelux, breakable):
    map_it(prelux, backend(breakable), freshness="always")
    read_all(prelux, breakable)
    before = {name: owners(prelux, name) for name in NAMES}
    generation = report(prelux)["membership"]["generation"]
    breakable.kill(1)
    breakable.wait_members(1)
    harness.wait_for(lambda: report(prelux)["membership"]["workers"] == 1, 30, "the new ring")
    assert all(owners(prelux, name) == expected_owners(breakable, name) for name in NAMES)
    read_fresh(prelux, breakable)
    breakable.restart(1, http_port=free_port(), empty=True)  # under another port
    breakable.wait_members(2)
    harness.wait_for(lambda: report(prelux)["membership"]["workers"] == 2, 30, "the newest ring")
    after = {name: owners(prelux, name) for name in NAMES}
    assert after == {name: expected_owners(breakable, name) for name in NAMES} and after != before
    assert report(prelux)["membership"]["generation"] >= generation + 2
    for _ in range(4):
        read_fresh(prelux, breakable)
    assert prelux.errors() == []


def test_other_clusters_in_the_same_etcd(prelux, cluster):
    """Cluster X does not see the workers of X2; values that nobody can read are skipped."""
    lease = cluster.etcd.lease(60)
    value = json.dumps({"Identity": {"version": 1, "identifier": "00" * 16}, "WorkerNetAddress": {"Host": "192.0.2.1", "HttpServerPort": 1}})
    for key, text in (*((f"/ServiceDiscovery/{cluster.cluster}{more}/worker-x", value) for more in ("2", "0", "-b")), (f"/ServiceDiscovery/{cluster.cluster}/worker-y", "{}"),
                      (f"/ServiceDiscovery/{cluster.cluster}/worker-z", b"\xff\x00")):
        cluster.etcd.put(key, text, lease)
    try:
        map_it(prelux, backend(cluster))
        read_all(prelux, cluster)
        assert report(prelux)["membership"]["workers"] == 2
    finally:
        cluster.etcd.revoke(lease)


def test_nobody_is_registered(prelux, cluster):
    map_it(prelux, backend(cluster, cluster="NoSuchCluster"))
    begin = time.monotonic()
    assert prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 1
    assert "no worker" in prelux.errors()[-1]["cause"] and time.monotonic() - begin < 30
    assert report(prelux)["trouble"] == "no worker is registered"


# Without etcd

def test_fixed_list(prelux, cluster):
    """The identities are not those of the cluster, so the ring is another one: right bytes all the same, by redirects."""
    spec = backend(cluster, workers=[f"{place.host}:{place.http_port}" for place in cluster.workers])
    del spec["etcd"]
    map_it(prelux, spec)
    read_all(prelux, cluster)
    row = report(prelux)
    assert row["membership"]["ring"] == "likely" and row["membership"]["workers"] == 2
    assert sorted(owners(prelux, NAMES[0])) == sorted(f"{place.host}:{place.http_port}" for place in cluster.workers)


def test_one_of_the_list_is_nobody(prelux, cluster):
    spec = backend(cluster, workers=[f"127.0.0.3:{free_port()}", *(f"{place.host}:{place.http_port}" for place in cluster.workers)])
    del spec["etcd"]
    map_it(prelux, spec)
    read_all(prelux, cluster)


@pytest.mark.parametrize("breakable", [{"workers": 1}], indirect=True)
def test_by_dns(prelux, breakable):
    spec = backend(breakable, domain="localhost", http_port=breakable.workers[0].http_port)
    del spec["etcd"]
    map_it(prelux, spec)
    read_all(prelux, breakable)
    row = report(prelux)
    assert row["membership"]["from"] == "dns" and row["membership"]["ring"] == "guessed"


def test_no_such_domain(prelux, cluster):
    spec = backend(cluster, domain="no-such-name.invalid")
    del spec["etcd"]
    map_it(prelux, spec)
    assert prelux.run(["cat", f"/prelux-lake/{NAMES[0]}"], check=False).returncode == 1
    assert "no-such-name.invalid" in prelux.errors()[-1]["cause"]


def test_keys_and_values_are_base64(tmp_path):
    """What the unit test's gateway takes for granted, by the real one: an int64 is a string, nobody is no `kvs`."""
    with Etcd(tmp_path / "etcd") as etcd:
        empty = etcd.call("/v3/kv/range", {"key": base64.b64encode(b"/x").decode()})
        assert "kvs" not in empty and "header" in empty
        etcd.put("/x", "y", etcd.lease(5))
        row = etcd.call("/v3/kv/range", {"key": base64.b64encode(b"/x").decode()})["kvs"][0]
        assert isinstance(row["create_revision"], str) and isinstance(row["lease"], str) and base64.b64decode(row["value"]) == b"y"
