"""Backend s3 on real servers: versitygw (strict) and `rclone serve s3` (hostile: 200 to a Range, ignores If-Match).

The programs are those of test_programs.py, collected here with a `lake` of their own.
"""

import hashlib
import json
import os
import shutil
import subprocess

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.s3client import S3Client, encode
from tests.servers.base import ServerError
from tests.servers.rclone_s3 import RcloneS3
from tests.servers.s3standin import S3Standin
from tests.servers.versitygw import Versitygw

# Collected here, in this order: pytest looks for their fixtures in this module first. A plain `git clone` makes hard links to
# the source, so it comes after what counts them.
from tests.integration.test_programs import (  # noqa: F401
    test_same_output, test_times_of_files, test_copy_and_diff, test_python, test_gcc_with_headers_there, test_java, test_node,
    test_programs_lying_there, test_git_clone, test_sqlite, test_empty_file_and_ends, test_ten_thousand_names)

SERVERS = {"versitygw": Versitygw, "rclone": RcloneS3}


def start(request, kind, root):
    """A running server of this kind over the folder, or a skip with a line."""
    server = SERVERS[kind]
    if server is Versitygw:
        from tests.servers.versitygw import TOOL
        try:
            TOOL.install()
        except ServerError as error:
            pytest.skip(f"versitygw cannot be installed: {str(error)[:300]}")
    why = server.missing()
    if why:
        pytest.skip(why)
    one = server(root)
    request.session.config.add_cleanup(one.stop)
    one.start()
    return one


def backend(server, bucket="data", **keys):
    return {"type": "s3", "endpoint": server.url, "bucket": bucket, "access_key": server.access_key,
            "secret_key": server.secret_key, **keys}


@pytest.fixture(scope="module")
def served(request, tmp_path_factory):
    """{kind: (root, server)}, each with the bucket `tree`, made once."""
    return {}


@pytest.fixture(params=SERVERS)
def lake(request, prelux, served, tmp_path_factory):
    kind = request.param
    if kind not in served:
        buckets = tmp_path_factory.mktemp(kind) / "buckets"
        buckets.mkdir()
        server = start(request, kind, buckets)
        served[kind] = programs.make_data(buckets / "tree", portable=True), server
        if kind == "rclone":  # which calls it by a picture of a tab
            (buckets / "tree/names/tab\tin").unlink()
    root, server = served[kind]
    if kind == "rclone" and request.function is test_ten_thousand_names:
        pytest.skip("rclone reads its whole folder for each page")
    prelux.config({"version": 1, "backends": {"src": backend(server, "tree")},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", root, kind
    return prelux


# Objects that come by PUT, with ETags; names as S3 has them

AWKWARD = [b"plain", b"a b", b"a+b", b"100%", b"%41", b"a?b", b"a#b", b"a&b=c;d", b"q'uo\"te", b"<x>", b"back\\slash", b"new\nline", b"tab\t",
           b"not-utf8-\xe9\xff", "é中🜚".encode(), b"\x01\x7f", b"a:b", b"~t", b"-", b"...", b" lead", b"trail ", b"*", b"k" * 255,
           "日".encode() * 85, b".hidden", b"d/e/f g", b"x" * 200 + b"/" + b"y" * 200 + b"/" + b"z" * 200]

READ_ALL = """
import hashlib, os, sys
root = os.fsencode(sys.argv[1])
for folder, folders, files in os.walk(root):
    for name in files:
        path = os.path.join(folder, name)
        print("listed", os.path.relpath(path, root).hex())
for name in sys.argv[2:]:
    try:
        with open(os.path.join(root, bytes.fromhex(name)), "rb") as f:
            print("read", name, hashlib.md5(f.read()).hexdigest())
    except OSError as error:
        print("failed", name, error.errno)
"""


@pytest.fixture(params=SERVERS)
def bucket(request, prelux, served, tmp_path_factory):
    """(server, client) with an empty bucket `data` on /prelux-lake."""
    name = "put-" + request.param
    if name not in served:
        folder = tmp_path_factory.mktemp(name) / "buckets"
        folder.mkdir()
        served[name] = folder, start(request, request.param, folder)
    folder, server = served[name]
    shutil.rmtree(folder / "data", ignore_errors=True)
    (folder / "data").mkdir()
    prelux.config({"version": 1, "backends": {"src": backend(server)},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/", "freshness": "always"}]})
    return server, S3Client(server.url, server.access_key, server.secret_key)


def test_awkward_names(prelux, bucket):
    """Each name the server took: the right bytes, or an errno with a record; and whatever is listed can be read."""
    server, client = bucket
    took = {}
    for number, name in enumerate(AWKWARD):
        body = name + b"\n" + trees.pattern(number * 111, number)
        status, _, _ = client.request("PUT", "/data/" + encode(name, b"/"), body=body)
        if status == 200 and client.head("data", name)[0] == 200:
            took[name] = hashlib.md5(body).hexdigest()
    assert len(took) > len(AWKWARD) - 6
    out = prelux.run(["/usr/bin/python3", "-c", READ_ALL, "/prelux-lake", *(name.hex() for name in took)]).stdout.split("\n")
    rows = [line.split() for line in out if line]
    listed = {bytes.fromhex(row[1]) for row in rows if row[0] == "listed"}
    read = {bytes.fromhex(row[1]): row[2] for row in rows if row[0] == "read"}
    failed = {bytes.fromhex(row[1]): int(row[2]) for row in rows if row[0] == "failed"}
    assert listed <= set(took) | {name for name in listed if server.name == "rclone-s3"}
    assert read == {name: took[name] for name in read}
    assert set(read) | set(failed) == set(took)
    for name in failed:
        assert any(os.fsdecode(name) in record["path"] for record in prelux.errors()), (name, failed[name], prelux.errors())
    if server.name == "versitygw":
        assert not failed, failed
        assert set(took) - listed <= {b"not-utf8-\xe9\xff", b"\x01\x7f"}  # it does not encode names
        assert "names left out" in prelux.log()


def test_changed_objects(prelux, bucket):
    server, client = bucket
    for number in range(5):
        body = trees.pattern(3_000_000, number)
        client.put("data", "x", body)
        assert prelux.run("md5sum < /prelux-lake/x").stdout.split()[0] == hashlib.md5(body).hexdigest()
    status, _, _ = client.request("DELETE", "/data/x")
    assert status == 204
    assert prelux.run("cat /prelux-lake/x", check=False).returncode == 1


def test_open_file_keeps_its_version(prelux, bucket):
    server, client = bucket
    client.put("data", "x", b"one" * 1000)
    child = prelux.popen("exec 3< /prelux-lake/x; echo open; read go; cat <&3", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"open\n"
    client.put("data", "x", b"two" * 1000)
    assert prelux.run("cat /prelux-lake/x").stdout == "two" * 1000
    assert child.communicate(b"go\n")[0] == b"one" * 1000


@pytest.mark.parametrize("keys", [{"secret_key": "wrong"}, {"access_key": "nobody"}])
def test_wrong_keys_are_eacces_with_a_record(prelux, bucket, keys):
    server, client = bucket
    client.put("data", "x", b"hello")
    prelux.config({"version": 1, "backends": {"src": backend(server, **keys)}, "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    for command in ("cat /prelux-lake/x", "ls /prelux-lake"):
        done = prelux.run(command, check=False)
        assert done.returncode != 0 and "Permission denied" in done.stderr, done.stderr
    record = prelux.errors()[0]
    assert record["errno"] == "EACCES" and "doctor" in record["advice"], record
    assert server.secret_key not in json.dumps(prelux.errors()) + prelux.log()


def test_keys_of_the_environment_in_which_run_starts(prelux, bucket):
    server, client = bucket
    client.put("data", "x", b"hello")
    conf = backend(server)
    keys = {"AWS_ACCESS_KEY_ID": conf.pop("access_key"), "AWS_SECRET_ACCESS_KEY": conf.pop("secret_key")}
    prelux.config({"version": 1, "backends": {"src": conf}, "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    off = {"AWS_EC2_METADATA_DISABLED": "true"}
    done = prelux.run("cat /prelux-lake/x", env=off, check=False)
    assert done.returncode != 0 and "Permission denied" in done.stderr
    assert "no keys anywhere" in prelux.errors()[0]["cause"]
    assert prelux.run("cat /prelux-lake/x", env={**off, **keys}).stdout == "hello"


def test_missing_bucket_is_eio_with_advice(prelux, bucket):
    server, _ = bucket
    prelux.config({"version": 1, "backends": {"src": backend(server, "no-such-bucket")},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    done = prelux.run("ls /prelux-lake", check=False)
    assert done.returncode != 0 and "Input/output error" in done.stderr
    assert "bucket" in prelux.errors()[0]["advice"]


def test_empty_bucket_and_root(prelux, bucket):
    assert prelux.run("ls -A /prelux-lake; cd /prelux-lake && pwd; test -d /prelux-lake && echo folder").stdout == "/prelux-lake\nfolder\n"


# Requests, counted by a stand-in

@pytest.fixture
def counted(prelux):
    with S3Standin(bucket="data", keys={"AK": ("SK", None)}) as server:
        for number in range(20):
            server.put(f"d/f{number}", b"%d" % number * 1000)
        prelux.config({"version": 1, "backends": {"src": {"type": "s3", "endpoint": server.url, "bucket": "data", "access_key": "AK",
                                                          "secret_key": "SK"}},
                       "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
        yield server


def test_requests_of_cold_files(prelux, counted):
    assert prelux.run("cat /prelux-lake/d/f3").stdout == "3" * 1000
    assert [seen.method for seen in counted.requests()] == ["HEAD", "GET"]
    prelux.run("ls /prelux-lake/d; ls -l /prelux-lake/d")
    counted.forget_requests()
    assert prelux.run("cat /prelux-lake/d/f5 /prelux-lake/d/f6").stdout == "5" * 1000 + "6" * 1000
    assert [seen.path for seen in counted.requests()] == ["/data/d/f5", "/data/d/f6"]
    counted.forget_requests()
    prelux.run("cat /prelux-lake/d/f5; for i in 1 2 3; do test -e /prelux-lake/d/nothing$i && exit 1; done; exit 0")
    assert not counted.requests()  # what a listing does not show is not there
    assert counted.accepted <= 4
