"""`prelux cluster` on remotes that are no cluster: what info and locate tell of objects on real servers, and that nothing else is done."""

import hashlib
import json
import uuid

import pytest

from tests.integration import azure_rig
from tests.integration.azure_rig import account  # noqa: F401
from tests.s3client import S3Client
from tests.servers.nginx import Nginx
from tests.servers.versitygw import Versitygw

LOCAL = "/prelux-store"
DATA, ODD = b"hello\n", "a b+%41 ü#x"

pytestmark = pytest.mark.asan


class Store:
    """conf: of its backend; endpoint: as locate tells it; secrets: never told."""

    def __init__(self, conf, endpoint, secrets=(), md5=True):
        self.conf, self.endpoint, self.secrets, self.md5 = conf, endpoint, secrets, md5


@pytest.fixture
def http(tmp_path):
    if Nginx.missing():
        pytest.skip(Nginx.missing())
    root = tmp_path / "www"
    (root / "d").mkdir(parents=True)
    for name in ("f", ODD):
        (root / "d" / name).write_bytes(DATA)
    with Nginx(root, bearer="to-ken-0123") as server:
        yield Store({"type": "http", "url": server.url, "bearer": "to-ken-0123"}, server.url, ["to-ken-0123"], md5=False)


@pytest.fixture
def s3(tmp_path):
    if Versitygw.missing():
        pytest.skip(Versitygw.missing())
    with Versitygw(folder=tmp_path / "s3") as server:
        server.bucket("lake")
        client = S3Client(server.url, server.access_key, server.secret_key)
        for name in ("f", ODD):
            client.put("lake", f"d/{name}".encode(), DATA)
        yield Store({"type": "s3", "endpoint": server.url, "bucket": "lake", "access_key": server.access_key, "secret_key": server.secret_key},
                    f"{server.url}/lake/", [server.access_key, server.secret_key])


@pytest.fixture
def azure(account):  # noqa: F811
    container = azure_rig.put(account, f"cluster-{uuid.uuid4().hex[:12]}", **{"d/f": DATA, f"d/{ODD}": DATA})
    return Store(azure_rig.backend(account, container), f"{account.url}/{container}", [account.key])


@pytest.fixture(params=["http", "s3", "azure"])
def store(request, prelux):
    one = request.getfixturevalue(request.param)
    prelux.config({"version": 1, "backends": {"lake": one.conf}, "mappings": [{"local": LOCAL, "remote": "lake:/d"}]})
    return one


def told(prelux, *words):
    done = prelux.cli("cluster", *words, "--json", check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", ["f", ODD])
def test_info(prelux, store, name):
    seen = json.loads(prelux.run(["python3", "-c", f"import os; s = os.stat('{LOCAL}/{name}'); print([s.st_size, s.st_mtime_ns])"]).stdout)
    for where in (f"{LOCAL}/{name}", f"lake:/d/{name}"):
        status, answer = told(prelux, "info", where)
        info = answer["info"]
        assert status == 0 and answer["remote"] == f"lake:/d/{name}" and answer["verb"] == "info"
        assert (info["type"], info["size"], info["mtime_ns"]) == ("file", *seen) and info["version"]
        assert info.get("md5") == (hashlib.md5(DATA).hexdigest() if store.md5 else None)
    status, answer = told(prelux, "info", LOCAL)
    assert status == 0 and answer["info"]["type"] in ("dir", "directory")
    status, answer = told(prelux, "info", f"{LOCAL}/none")
    assert status == 1 and answer["errno"] == 2


def test_locate(prelux, store):
    status, answer = told(prelux, "locate", f"{LOCAL}/f")
    assert status == 0 and answer["endpoint"].rstrip("/") == store.endpoint.rstrip("/") and answer["owners"] == []
    text = prelux.cli("cluster", "locate", f"{LOCAL}/f")
    assert store.endpoint.rstrip("/") in text
    for word in store.secrets:
        assert word not in text + json.dumps(answer) + json.dumps(told(prelux, "info", f"{LOCAL}/f"))


def test_nothing_else(prelux, store):
    for words in (["free", f"{LOCAL}/f"], ["mount", f"{LOCAL}/m", "s3://x"], ["unmount", LOCAL], ["setattr", "--mode", "600", f"{LOCAL}/f"]):
        done = prelux.cli("cluster", *words, check=False)
        assert done.returncode == 1 and "have no cluster" in done.stderr, words
    assert {row["errno"] for row in prelux.errors()} == {"EOPNOTSUPP"}
    assert prelux.run(["cat", f"{LOCAL}/f"]).stdout == DATA.decode()
