"""`prelux cluster` and what chmod and chown of a mapped file do, on a real Alluxio 2.9: the whole path from the command line and from
programs to the proxy's calls."""

import json
import os

import pytest

from tests import harness
from tests.integration import contract_alluxio, contract_remotes, readme_rig
from tests.integration.alluxio_proxy_rig import info
from tests.standin.cluster import AlluxioStandin
from tests.standin_ee.cluster import EeStandin

LOCAL = "/prelux-w"
BESIDE = "/prelux-beside"


@pytest.fixture
def lake(prelux):
    """.remote: Alluxio's own folder of the test, LOCAL a mapping of it that stays fresh for long."""
    try:
        with contract_alluxio.alluxio_remote(prelux.tmp) as remote:
            prelux.remote = remote
            configure(prelux)
            yield prelux
    except contract_remotes.Missing as why:
        pytest.skip(str(why))


def configure(prelux, **more):
    own = {"write": "sync", "freshness": {"max_age": "1h"}, **more}
    prelux.config({"version": 1, "backends": {"lake": prelux.remote.conf},
                   "mappings": [{"local": LOCAL, "remote": "lake:/", **own}, {"local": BESIDE, "remote": "lake:/d", **own}]})


def cluster(lake, *words, **options):
    return lake.cli("cluster", *words, check=False, **options)


def cluster_json(lake, *words):
    done = cluster(lake, *words, "--json")
    return done.returncode, json.loads(done.stdout)


def make(lake, *names):
    for name in names:
        lake.remote.write(name.encode(), name.encode())


def mode_of(lake, path):
    return lake.run(f"stat -c %a {path}").stdout.strip()


# info and locate

def test_info_is_what_alluxio_says(lake):
    make(lake, "d/f")
    status, told = cluster_json(lake, "info", f"{LOCAL}/d/f")
    assert status == 0 and told["info"] == info(lake.remote, "d/f")
    assert told["remote"] == "lake:/d/f" and told["backend"] == "lake" and told["verb"] == "info" and told["path"] == f"{LOCAL}/d/f"
    text = cluster(lake, "info", f"{LOCAL}/d/f").stdout
    assert text.startswith("lake:/d/f:\n") and "persistenceState" in text and "PERSISTED" in text
    assert cluster_json(lake, "info", f"{BESIDE}/f")[1]["info"]["path"] == f"{lake.remote.top}/d/f"


def test_numbers_of_64_bits_stay_as_they_are(lake, tmp_path):
    """mountId is a random 63-bit number: as a double it would be another one."""
    (tmp_path / "store").mkdir()
    assert cluster(lake, "mount", f"{LOCAL}/m", str(tmp_path / "store")).returncode == 0
    try:
        want = info(lake.remote, "m")["mountId"]
        assert want > 2**53 and cluster_json(lake, "info", f"{LOCAL}/m")[1]["info"]["mountId"] == want
    finally:
        cluster(lake, "unmount", f"{LOCAL}/m")


def test_locate_names_workers_of_each_block(lake):
    make(lake, "f")
    lake.remote.content(b"f")
    status, told = cluster_json(lake, "locate", f"{LOCAL}/f")
    assert status == 0 and told["under_store"].endswith(f"{lake.remote.top}/f") and told["owners"] == []
    assert told["endpoint"] == f"{lake.remote.server.url}/{lake.remote.top.strip('/')}"
    worker = info(lake.remote, "f")["fileBlockInfos"][0]["blockInfo"]["locations"][0]["workerAddress"]
    assert told["blocks"] == [{"offset": 0, "length": 1, "locations": [{"host": "127.0.0.1", "port": worker["dataPort"], "tier": "MEM"}]}]
    text = cluster(lake, "locate", f"{LOCAL}/f").stdout
    assert f"127.0.0.1:{worker['dataPort']}" in text and "under store" in text


def test_several_paths_and_one_that_is_not_there(lake):
    make(lake, "a", "b")
    status, told = cluster_json(lake, "info", f"{LOCAL}/a", f"{LOCAL}/none", f"{LOCAL}/b")
    assert status == 1 and [row.get("errno") for row in told] == [None, 2, None]
    assert [row["info"]["name"] for row in told if "info" in row] == ["a", "b"] and "none" in told[1]["cause"]
    status, told = cluster_json(lake, "info", f"{LOCAL}/none")
    assert status == 1 and told["errno"] == 2
    done = cluster(lake, "info", f"{LOCAL}/none", f"{LOCAL}/b")
    assert done.returncode == 1 and "none" in done.stderr and done.stdout.startswith("lake:/b:\n")


@pytest.mark.parametrize("name", ["with space", "100%41", "a=b&c", "#x;y", "ü", "-r", "it's \"q\"", "[*]"])
def test_odd_names(lake, name):
    make(lake, name)
    status, told = cluster_json(lake, "info", f"{LOCAL}/{name}")
    assert status == 0 and told["info"]["name"] == name and told["remote"] == f"lake:/{name}"
    assert cluster(lake, "setattr", "--mode", "604", f"{LOCAL}/{name}").returncode == 0
    assert info(lake.remote, name)["mode"] == 0o604
    if name == "-r":
        assert cluster(lake, "info", "--", name, cwd=lake.tmp).returncode == 1  # a path, of no mapping


def test_names_alluxio_cannot_carry(lake):
    done = cluster(lake, "info", f"{LOCAL}/a?b")
    assert done.returncode == 1 and "cannot carry" in done.stderr


# Other ways to say where

def test_by_backend_and_by_uri(lake):
    make(lake, "d/f")
    top = lake.remote.top
    for where in ("lake:/d/f", "lake://d/f", f"alluxio://{lake.remote.server.master}{top}/d/f", f"alluxio://{top}/d/f"):
        status, told = cluster_json(lake, "info", where)
        assert status == 0 and told["info"]["path"] == f"{top}/d/f" and told["remote"] == "lake:/d/f", where
    for where in ("pond:/d/f", "alluxio:///elsewhere/f", f"alluxio://{top}x/f", "/usr", "s3://bucket/x"):
        done = cluster(lake, "info", where)
        assert done.returncode == 1 and "is in no mapping" in done.stderr, where


# Usage

@pytest.mark.parametrize("words, why", [
    (["flush", f"{LOCAL}/f"], "there are free"),
    (["free"], "wants"),
    (["mount", f"{LOCAL}/f"], "PATH and URI"),
    (["mount", f"{LOCAL}/f", "s3://b", "more"], "PATH and URI"),
    (["setattr", f"{LOCAL}/f"], "what is to be set"),
    (["setattr", "--recursive", f"{LOCAL}/f"], "what is to be set"),
    (["setattr", "--ttl", "soon", f"{LOCAL}/f"], "--ttl soon"),
    (["setattr", "--owner=", f"{LOCAL}/f"], "value is wanted"),
    (["setattr", "--owner"], "wants a value"),
    (["free", "--pinned", "true", f"{LOCAL}/f"], "takes no --pinned"),
    (["info", "--recursive", f"{LOCAL}/f"], "takes no --recursive"),
    (["unmount", "--forced", f"{LOCAL}/f"], "takes no --forced"),
])
def test_wrong_usage(lake, words, why):
    done = cluster(lake, *words)
    assert done.returncode == 2 and why in done.stderr, done


@pytest.mark.parametrize("words", [["--mode", "1777"], ["--mode", "rw"], ["--mode", "8"], ["--pinned", "yes"], ["--replication-min", "two"],
                                   ["--replication-max", "-2"], ["--persisted", "TRUE"]])
def test_wrong_values(lake, words):
    make(lake, "f")
    before = info(lake.remote, "f")
    done = cluster(lake, "setattr", *words, f"{LOCAL}/f")
    assert done.returncode == 1 and "is no value" in done.stderr
    assert info(lake.remote, "f") == before


# free

def cached(lake, path):
    return info(lake.remote, path)["inAlluxioPercentage"]


def test_free(lake):
    make(lake, "d/a", "d/b")
    assert cached(lake, "d/a") == 100
    done = cluster(lake, "free", f"{LOCAL}/d")
    assert done.returncode == 1 and "recursive" in done.stderr and cached(lake, "d/a") == 100
    assert cluster(lake, "free", "-r", f"{LOCAL}/d").stdout == "lake:/d is being freed\n"
    harness.wait_for(lambda: cached(lake, "d/a") == cached(lake, "d/b") == 0, 20, "the workers have freed it")
    assert lake.run(f"cat {LOCAL}/d/a").stdout == "d/a"
    cluster(lake, "setattr", "--pinned", "true", f"{LOCAL}/d/a")
    done = cluster(lake, "free", f"{LOCAL}/d/a")
    assert done.returncode == 1 and "pinned" in done.stderr
    assert cluster(lake, "free", "--forced", f"{LOCAL}/d/a").returncode == 0
    harness.wait_for(lambda: cached(lake, "d/a") == 0, 20, "it is freed")


def test_the_whole_namespace_is_never_freed(lake):
    make(lake, "f")
    lake.remote.conf = {**lake.remote.conf, "root": "/"}
    configure(lake)
    where = f"{LOCAL}{lake.remote.top}"
    for words in (["free", "-r", LOCAL], ["free", "-r", "--forced", LOCAL], ["unmount", LOCAL], ["setattr", "-r", "--mode", "700", LOCAL],
                  ["free", "-r", "lake:/"], ["mount", LOCAL, "/x"]):
        done = cluster(lake, *words)
        assert done.returncode == 1 and ("root" in done.stderr or "whole of Alluxio" in done.stderr), words
    assert cluster(lake, "free", "-r", where).returncode == 0


# mount, unmount

def test_mount_shows_at_once_and_unmount_hides_at_once(lake, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "inside").write_text("there\n")
    assert lake.run(f"ls {LOCAL}; cat {LOCAL}/m/inside", check=False).returncode != 0  # known not to be there, for an hour
    done = cluster(lake, "mount", "--read-only", "--shared", f"{LOCAL}/m", str(store))
    assert done.returncode == 0 and done.stdout == "lake:/m is mounted\n"
    assert lake.run(f"ls {LOCAL}; cat {LOCAL}/m/inside").stdout == "m\nthere\n"
    done = lake.run(f"cp {store}/inside {LOCAL}/m/new", check=False)
    assert "Read-only file system" in done.stderr
    done = cluster(lake, "unmount", f"{LOCAL}/m")
    assert done.returncode == 1 and "not on the remote yet" in done.stderr
    lake.cli("pending", "drop", lake.cli("pending", "list", "--json")["files"][0]["id"])
    for words in ([], ["--read-only", "--shared"]):  # a mount is there: the same is no success, for its options are not looked at
        assert cluster(lake, "mount", *words, f"{LOCAL}/m", str(store)).returncode == 1
    assert cluster(lake, "unmount", f"{LOCAL}/m").returncode == 0
    done = lake.run(f"ls {LOCAL}; cat {LOCAL}/m/inside", check=False)
    assert done.stdout == "" and "No such file" in done.stderr and (store / "inside").read_text() == "there\n"
    make(lake, "d/f")
    done = cluster(lake, "unmount", f"{LOCAL}/d")
    assert done.returncode == 1 and "mount point" in done.stderr and cached(lake, "d/f") == 100


def test_properties_come_from_a_file(lake, tmp_path):
    store, options = tmp_path / "store", tmp_path / "options"
    store.mkdir()
    options.write_text("# of the store\n\na.key=a value\nsecret.key=pa=ss\n")
    assert cluster(lake, "mount", "--properties", options, f"{LOCAL}/m", str(store)).returncode == 0
    assert cluster(lake, "unmount", f"{LOCAL}/m").returncode == 0
    options.write_text("a.key=1\nnonsense\n")
    done = cluster(lake, "mount", "--properties", options, f"{LOCAL}/m", str(store))
    assert done.returncode == 2 and f"{options}:2" in done.stderr
    done = cluster(lake, "mount", "--properties", tmp_path / "none", f"{LOCAL}/m", str(store))
    assert done.returncode == 1 and "No such file" in done.stderr
    options.write_text("s3.secret=very-secret\n")
    assert cluster(lake, "mount", "--properties", options, f"{LOCAL}/d/none/m", str(store)).returncode == 1
    assert "very-secret" not in json.dumps(lake.errors()) + lake.log()


# setattr

def test_setattr_of_everything(lake):
    make(lake, "d/f")
    where = f"{LOCAL}/d/f"
    done = cluster(lake, "setattr", "--owner", "nobody", "--group", "nogroup", "--mode", "640", "--pinned", "true", "--ttl", "24h",
                   "--ttl-action", "FREE", "--replication-min", "1", "--replication-max", "2", where)
    assert done.returncode == 0, done
    now = info(lake.remote, "d/f")
    assert {key: now[key] for key in ("owner", "group", "mode", "pinned", "ttl", "ttlAction", "replicationMin", "replicationMax")} == {
        "owner": "nobody", "group": "nogroup", "mode": 0o640, "pinned": True, "ttl": 86400000, "ttlAction": "FREE", "replicationMin": 1,
        "replicationMax": 2}
    done = cluster(lake, "setattr", "--pinned", "false", "--ttl", "never", "--replication-min", "0", "--replication-max", "-1", where)
    assert done.returncode == 0, done
    now = info(lake.remote, "d/f")
    assert (now["pinned"], now["ttl"], now["replicationMin"], now["replicationMax"], now["owner"]) == (False, -1, 0, -1, "nobody")


def test_owners_that_alluxio_refuses(lake):
    """Of both at once, the user has to be in the group, as the master's machine knows it; the under store may refuse a name."""
    make(lake, "f")
    done = cluster(lake, "setattr", "--owner", "daemon", "--group", "nogroup", f"{LOCAL}/f")
    assert done.returncode == 1 and "does not belong to the group" in done.stderr
    done = cluster(lake, "setattr", "--owner", "someone", f"{LOCAL}/f")
    assert done.returncode == 1 and "someone" not in info(lake.remote, "f")["owner"]
    assert [row["errno"] for row in lake.errors()[-2:]] == ["EPERM", "EACCES"]


def test_what_this_node_knows_of_a_mode_is_forgotten(lake):
    make(lake, "d/f", "d/g")
    lake.run(f"cat {LOCAL}/d/f; ls -l {LOCAL}/d {BESIDE}")
    lake.run(f"chmod 2755 {LOCAL}/d/g")  # a bit that Alluxio does not keep is this node's
    assert mode_of(lake, f"{LOCAL}/d/g") == "2755"
    assert cluster(lake, "setattr", "-r", "--mode", "604", f"{LOCAL}/d").returncode == 0
    for path in ("d/f", "d/g"):
        assert info(lake.remote, path)["mode"] == 0o604
        assert mode_of(lake, f"{LOCAL}/{path}") == mode_of(lake, f"{BESIDE}/{path[2:]}") == "604"
    assert lake.run(f"ls -l {BESIDE}").stdout.count("-rw----r--") == 2
    assert lake.run(f"cat {LOCAL}/d/f").stdout == "d/f"


def test_immutable_mappings_look_again(lake):
    configure(lake, freshness="immutable")
    make(lake, "f")
    lake.run(f"cat {LOCAL}/f")
    assert cluster(lake, "setattr", "--mode", "600", f"{LOCAL}/f").returncode == 0
    assert mode_of(lake, f"{LOCAL}/f") == "600"


def test_other_configurations_of_the_daemon_forget_too(lake):
    """With a cache of their own."""
    make(lake, "d/f")
    first = lake.config_path
    other = lake.config({"version": 1, "cache": {"dir": str(lake.tmp / "other")}, "backends": {"sea": lake.remote.conf},
                         "mappings": [{"local": "/prelux-sea", "remote": "sea:/d", "cache": str(lake.tmp / "sea"), "write": "sync",
                                       "freshness": {"max_age": "1h"}}]}, name="other.yaml")
    assert lake.run("stat -c %a /prelux-sea/f; ls -l /prelux-sea", config=other).stdout.startswith("644\n")
    lake.config_path = first
    assert cluster(lake, "setattr", "--mode", "600", f"{LOCAL}/d/f").returncode == 0
    assert lake.run("stat -c %a /prelux-sea/f; ls -l /prelux-sea", config=other).stdout.startswith("600\n")
    child = lake.popen(f"exec 3> /prelux-sea/new; echo x >&3; touch {lake.tmp}/ready; sleep 60", config=other)
    try:
        harness.wait_for((lake.tmp / "ready").exists, 30, "it is being written")
        assert "not on the remote yet" in cluster(lake, "free", "-r", f"{LOCAL}/d").stderr
    finally:
        child.terminate()
        child.wait()


def test_not_while_something_is_not_sent(lake):
    make(lake, "d/f")
    child = lake.popen(f"exec 3> {LOCAL}/d/new; echo x >&3; touch {lake.tmp}/ready; sleep 60")
    try:
        harness.wait_for((lake.tmp / "ready").exists, 30, "it is being written")
        for words in (["setattr", "--mode", "600", f"{LOCAL}/d/new"], ["setattr", "-r", "--mode", "700", f"{BESIDE}"], ["free", "-r", f"{LOCAL}/d"]):
            done = cluster(lake, *words)
            assert done.returncode == 1 and "not on the remote yet" in done.stderr, words
        assert cluster(lake, "setattr", "--mode", "600", f"{LOCAL}/d/f").returncode == 0
    finally:
        child.terminate()
        child.wait()


def test_refusals_leave_a_record(lake):
    make(lake, "d/f")
    assert cluster(lake, "unmount", f"{LOCAL}/d").returncode == 1
    rows = lake.errors()
    assert [(row["call"], row["path"], row["errno"]) for row in rows][-1] == ("cluster unmount", f"{LOCAL}/d", "EINVAL"), rows
    assert cluster(lake, "unmount", f"{LOCAL}/none").returncode == 1
    assert len(lake.errors()) == len(rows)  # that there is no such path is no error


# chmod and chown of programs

def whose(lake, path):
    now = info(lake.remote, path)
    return now["owner"], now["group"]


def test_chmod_and_chown_reach_alluxio(lake):
    make(lake, "d/f")
    lake.run(f"cd {LOCAL}/d; chmod 640 f; chown nobody f; chgrp nogroup f; stat -c '%a %U %G' f")
    assert whose(lake, "d/f") == ("nobody", "nogroup") and info(lake.remote, "d/f")["mode"] == 0o640
    assert lake.run(f"stat -c '%a %U %G' {LOCAL}/d/f {BESIDE}/f").stdout == "640 nobody nogroup\n" * 2
    assert lake.run(f"cat {LOCAL}/d/f").stdout == "d/f"
    lake.run(f"chown daemon:nogroup {LOCAL}/d; python3 -c 'import os; os.chown(\"{LOCAL}/d/f\", 0, -1)'")
    assert whose(lake, "d") == ("daemon", "nogroup") and whose(lake, "d/f") == ("root", "nogroup")
    lake.run(f"chown -R nobody:root {LOCAL}/d")
    assert whose(lake, "d") == whose(lake, "d/f") == ("nobody", "root")
    assert lake.run(f"stat -c '%U %G' {LOCAL}/d").stdout == "nobody root\n"


def test_owner_that_is_set_as_it_is_asks_nobody(lake):
    make(lake, "f")
    lake.run(f"chown root:root {LOCAL}/f")  # as it is shown
    assert whose(lake, "f") == ("", "")


def test_chown_that_is_refused(lake, prelux):
    make(lake, "f")
    done = lake.run(f"chown 54321 {LOCAL}/f", check=False)
    assert done.returncode == 1 and "Invalid argument" in done.stderr and whose(lake, "f") == ("", "")
    assert "has no name" in prelux.errors()[-1]["cause"]
    (lake.remote.server.ufs / lake.remote.top.strip("/") / "f").unlink()  # so the under store cannot
    done = lake.run(f"chown nobody {LOCAL}/f", check=False)
    assert done.returncode == 1 and "Operation not permitted" in done.stderr and whose(lake, "f") == ("", "")
    assert lake.run(f"stat -c %U {LOCAL}/f").stdout == "root\n"


def test_who_owns_a_file_that_is_written(lake):
    """Given away while it is open, and before it is sent; a new version stays whose the old one was."""
    script = f"exec 3> {LOCAL}/f; echo one >&3; chown nobody:nogroup {LOCAL}/f; chmod 604 {LOCAL}/f"
    lake.run(script)
    assert whose(lake, "f") == ("nobody", "nogroup") and info(lake.remote, "f")["mode"] == 0o604 and lake.remote.content(b"f") == b"one\n"
    lake.run(f"echo two >> {LOCAL}/f; stat -c '%U %G' {LOCAL}/f")
    assert whose(lake, "f") == ("nobody", "nogroup") and lake.remote.content(b"f") == b"one\ntwo\n"
    make(lake, "g")
    assert cluster(lake, "setattr", "--owner", "daemon", f"{LOCAL}/g").returncode == 0
    lake.run(f"echo new > {LOCAL}/g")
    assert whose(lake, "g") == ("daemon", "") and lake.remote.content(b"g") == b"new\n"
    lake.run(f"mv {LOCAL}/f {LOCAL}/h")
    assert whose(lake, "h") == ("nobody", "nogroup") and lake.run(f"stat -c %U {LOCAL}/h").stdout == "nobody\n"


def test_async_mappings_too(lake):
    configure(lake, write="async")
    make(lake, "f")
    lake.run(f"mkdir {LOCAL}/d; echo x > {LOCAL}/d/new; chown nobody {LOCAL}/d {LOCAL}/d/new {LOCAL}/f; chmod 600 {LOCAL}/f")
    assert whose(lake, "d")[0] == whose(lake, "d/new")[0] == whose(lake, "f")[0] == "nobody" and info(lake.remote, "f")["mode"] == 0o600


# Backends without

def test_backends_without_a_cluster(prelux, tmp_path):
    (tmp_path / "f").write_text("12345")
    prelux.file_mapping(tmp_path, LOCAL)
    status, told = cluster_json(prelux, "info", f"{LOCAL}/f")
    assert status == 0 and (told["info"]["type"], told["info"]["size"]) == ("file", 5)
    assert told["info"]["mtime_ns"] == os.stat(tmp_path / "f").st_mtime_ns
    status, told = cluster_json(prelux, "locate", f"{LOCAL}/f")
    assert status == 0 and told["endpoint"] == str(tmp_path) and told["owners"] == []
    for words in (["free", f"{LOCAL}/f"], ["mount", f"{LOCAL}/m", "/x"], ["unmount", f"{LOCAL}/f"], ["setattr", "--mode", "600", f"{LOCAL}/f"]):
        done = cluster(prelux, *words)
        assert done.returncode == 1 and "have no cluster" in done.stderr, words
    rows = [row for row in prelux.errors() if row["call"].startswith("cluster ")]
    assert [(row["call"], row["errno"]) for row in rows] == [(f"cluster {verb}", "EOPNOTSUPP") for verb in ("free", "mount", "unmount", "setattr")]


# Alluxio 3.x

@pytest.mark.skipif(bool(AlluxioStandin.missing()), reason=str(AlluxioStandin.missing()))
def test_alluxio_3(prelux):
    with AlluxioStandin(sync_interval=0, timeout=2) as it:
        (it.ufs / "d").mkdir()
        (it.ufs / "d" / "f").write_bytes(b"12345")
        prelux.config({"version": 1, "backends": {"lake": {"type": "alluxio", "root": it.root, "etcd": [it.etcd.endpoint], "s3_port": it.s3_port}},
                       "mappings": [{"local": LOCAL, "remote": "lake:/d"}]})
        for where in (f"{LOCAL}/f", "lake:/d/f", f"{it.root}/d/f"):
            status, told = cluster_json(prelux, "info", where)
            assert status == 0 and told["info"]["mLength"] == 5 and told["info"]["mUfsPath"] == f"{it.root}/d/f", where
            assert told["remote"] == "lake:/d/f"
        status, told = cluster_json(prelux, "locate", f"{LOCAL}/f")
        assert status == 0 and told["owners"] == prelux.cli("map", f"{LOCAL}/f", "--json")["owners"] and len(told["owners"]) == 2
        status, told = cluster_json(prelux, "info", f"{LOCAL}/none")
        assert status == 1 and told["errno"] == 2
        for words in (["free", "-r", LOCAL], ["mount", f"{LOCAL}/m", "s3://b"], ["unmount", LOCAL], ["setattr", "--pinned", "true", f"{LOCAL}/f"]):
            done = cluster(prelux, *words)
            assert done.returncode == 1 and "Alluxio 3.x have no call" in done.stderr, words
        assert {row["errno"] for row in prelux.errors()} == {"EOPNOTSUPP"} and "prelux load" in prelux.errors()[-1]["advice"]
        assert "s3:/elsewhere/x is in no mapping" in cluster(prelux, "info", "s3://elsewhere/x").stderr
        assert (it.ufs / "d" / "f").read_bytes() == b"12345"


def test_alluxio_enterprise(prelux, tmp_path):
    """On its stand-in, not on a real one."""
    with EeStandin(tmp_path / "ee") as it:
        (it.data / "d").mkdir()
        (it.data / "d" / "f").write_bytes(b"12345")
        prelux.config({"version": 1, "backends": {"lake": it.backend()}, "mappings": [{"local": LOCAL, "remote": "lake:/d"}]})
        for where in (f"{LOCAL}/f", f"{it.backend()['root']}/d/f"):
            status, told = cluster_json(prelux, "info", where)
            assert status == 0 and told["info"]["mLength"] == 5 and told["info"]["mUfsPath"] == f"{it.backend()['root']}/d/f", where
        status, told = cluster_json(prelux, "locate", f"{LOCAL}/f")
        assert status == 0 and told["owners"] == prelux.cli("map", f"{LOCAL}/f", "--json")["owners"] and told["owners"]
        assert cluster_json(prelux, "info", f"{LOCAL}/none")[1]["errno"] == 2
        done = cluster(prelux, "free", "-r", LOCAL)
        assert done.returncode == 1 and "is known that frees" in done.stderr


def test_commands_of_readme(lake, tmp_path):
    """Its row of the table, in the order of the page."""
    forms = [form for form in readme_rig.forms() if form.startswith("cluster ")]
    make(lake, "d/f")
    (tmp_path / "store").mkdir()
    done = []
    for _, name, *words in map(str.split, forms):
        path = f"{LOCAL}/m" if name in ("mount", "unmount") else f"{LOCAL}/d/f"
        more = ["--mode", "604"] if name == "setattr" else []
        told = cluster(lake, name, *more, *({"PATH": path, "PATH...": path, "URI": str(tmp_path / "store")}[word] for word in words))
        assert told.returncode == 0, (name, told)
        done.append(name)
        if name in ("mount", "unmount"):
            assert ("m" in lake.run(["ls", LOCAL]).stdout.split()) == (name == "mount")
    assert mode_of(lake, f"{LOCAL}/d/f") == "604" and {"mount", "unmount", "setattr", "free"} < set(done)
