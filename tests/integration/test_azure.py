"""Backend azure on a real Azurite: the programs of test_programs.py, names, folders, credentials, changes; and azfuse's own files.

What Azurite cannot show (tokens, archived blobs, lies) comes from stand-ins in this file, which are called so.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.integration.test_backends_raw import Tool
from tests.servers import azurite
from tests.servers.base import ServerError
from tests.servers.threads import ThreadServer, head_fields

ENOENT, EIO, EACCES, ENOTDIR, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 20, 71, 95, 116
CANNOT = ("back\\slash", "\x01control")  # Azure makes a slash of the one; Azurite cannot list the other
SCALE = 10_000


@pytest.fixture(scope="module")
def account():
    """A running Azurite with one account."""
    if not azurite.installed():
        try:
            azurite.install()
        except ServerError as error:
            pytest.skip(f"Azurite cannot be installed: {str(error)[:300]}")
    if azurite.Azurite.missing():
        pytest.skip(azurite.Azurite.missing())
    with azurite.Azurite() as server:
        yield server


def backend(account, container, **more):
    return {"type": "azure", "account": account.account, "container": container, "endpoint": account.url,
            **(more or {"account_key": account.key})}


class Uploader:
    """Puts blobs over kept connections, one a thread; tells Last-Modified of each."""

    def __init__(self, account, container):
        self.account, self.container = account, container
        self.local = threading.local()

    def __call__(self, name, data=b"", **fields):
        path = f"/{self.container}/" + urllib.parse.quote(name)
        head = {"x-ms-version": azurite.API_VERSION, "x-ms-date": formatdate(usegmt=True), "x-ms-blob-type": "BlockBlob",
                "Content-Type": "application/octet-stream", **fields}
        head["Authorization"] = self.account._sign("PUT", path, {}, head, str(len(data)) if data else "")
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPConnection("127.0.0.1", self.account.port, timeout=60)
        self.local.connection.request("PUT", f"/{self.account.account}{path}", data, head)
        answer = self.local.connection.getresponse()
        answer.read()
        assert answer.status == 201, (name, answer.status)
        return parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()


def upload(account, container, root):
    """The tree as blobs; its files get the times of theirs. An empty folder is a blob that says so of itself."""
    put, jobs = Uploader(account, container), []
    with ThreadPoolExecutor(4) as pool:
        for folder, folders, files in os.walk(root):
            below = os.path.relpath(folder, root).replace("./", "").strip(".") if folder != str(root) else ""
            for name in files:
                path = os.path.join(folder, name)
                jobs.append((path, pool.submit(lambda p, n: put(n, open(p, "rb").read()), path, f"{below}/{name}".strip("/"))))
            if not files and not folders:
                jobs.append((folder, pool.submit(put, below, b"", **{"x-ms-meta-hdi_isfolder": "true"})))
    for path, job in jobs:
        os.utime(path, (job.result(), job.result()))


@pytest.fixture(scope="module")
def lake_data(account, tmp_path_factory):
    root = tmp_path_factory.mktemp("azure") / "tree"
    trees.make_tree(root)
    for name in os.listdir(os.fsencode(root / "names")):
        if name in [one.encode() for one in CANNOT] + [trees.NOT_UTF8]:
            os.unlink(os.fsencode(root / "names") + b"/" + name)
    bare = root / "bare.git"
    subprocess.run(["git", "-c", "safe.directory=*", "clone", "-q", "--bare", "--no-hardlinks", root / "repository", bare], check=True)
    account.make_container("tree")
    upload(account, "tree", root)
    return root


def map_it(prelux, account, container, source=None, **more):
    prelux.config({"version": 1, "backends": {"src": backend(account, container, **more)},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", source, "azure"
    return prelux


@pytest.fixture
def lake(prelux, account, lake_data):
    return map_it(prelux, account, "tree", lake_data)


# The programs: bodies are those of test_programs.py, on this file's `lake`.

test_same_output = programs.test_same_output
test_times_of_files = programs.test_times_of_files
test_copy_and_diff = programs.test_copy_and_diff
test_python = programs.test_python
test_gcc_with_headers_there = programs.test_gcc_with_headers_there
test_java = programs.test_java
test_node = programs.test_node
test_programs_lying_there = programs.test_programs_lying_there
test_git_clone = programs.test_git_clone
test_sqlite = programs.test_sqlite
test_empty_file_and_ends = programs.test_empty_file_and_ends


@pytest.mark.limit(240)
def test_ten_thousand_names(prelux, account, tmp_path):
    folder = tmp_path / "tree" / "ten-thousand"
    folder.mkdir(parents=True)
    for number in range(SCALE):
        (folder / f"name-{number:05}").write_text(str(number))
    account.make_container("scale")
    upload(account, "scale", tmp_path / "tree")
    programs.test_ten_thousand_names(map_it(prelux, account, "scale", tmp_path / "tree"))


# Credentials

def put(account, container, **blobs):
    """A new container with blobs {name: bytes}; its name."""
    account.make_container(container)
    for name, data in blobs.items():
        account.put_blob(container, name, data)
    return container


def sas(account, container, permissions="rl", ends=3600, tamper=False):
    """A service SAS of a container, made by hand."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + ends))
    fields = [permissions, "", end, f"/blob/{account.account}/{container}", "", "", "", azurite.API_VERSION, "c"] + [""] * 7
    digest = hmac.new(base64.b64decode(account.key), "\n".join(fields).encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest[::-1] if tamper else digest).decode()
    return urllib.parse.urlencode({"sp": permissions, "se": end, "sv": azurite.API_VERSION, "sr": "c", "sig": signature})


def leaked(prelux, *secrets):
    """What of the secrets lies in the daemon's folder (log, errors, tables), as it is or encoded. A snapshot has the YAML as it is
    written (docs/SECURITY.md)."""
    texts = [path.read_bytes() for path in prelux.runtime.rglob("*") if path.is_file() and path.suffix != ".conf"]
    texts += [prelux.cli("status", check=False).stdout.encode(), prelux.cli("errors", check=False).stdout.encode()]
    return [one for one in secrets if any(one.encode() in text or urllib.parse.quote(one).encode() in text for text in texts)]


def only_record(prelux, errno):
    """The one error record; its cause and advice."""
    records = prelux.errors()
    assert len(records) == 1, records
    assert records[0]["errno"] in (errno, errno_name(errno)), records
    return records[0]["cause"], records[0].get("advice", "")


def errno_name(number):
    import errno
    return errno.errorcode[number]


@pytest.fixture(scope="module")
def box(account):
    return put(account, "box", **{"a.txt": b"hello", "dir/b.txt": b"below", "empty": b""})


@pytest.mark.parametrize("mark", ["", "?"])
def test_sas(prelux, account, box, mark):
    token = sas(account, box)
    map_it(prelux, account, box, sas_token=mark + token)
    assert prelux.run("cat /prelux-lake/a.txt /prelux-lake/dir/b.txt; ls /prelux-lake").stdout == "hellobelowa.txt\ndir\nempty\n"
    assert not leaked(prelux, urllib.parse.parse_qs(token)["sig"][0])


@pytest.mark.parametrize("how, advice", [({"ends": -60}, "expired"), ({"tamper": True}, "refused")])
def test_sas_expired_or_tampered(prelux, account, box, how, advice):
    token = sas(account, box, **how)
    map_it(prelux, account, box, sas_token=token)
    done = prelux.run(["cat", "/prelux-lake/a.txt"], check=False)
    assert done.returncode == 1 and "Permission denied" in done.stderr
    cause, said = only_record(prelux, EACCES)
    assert "HTTP 403" in cause and advice in said
    assert not leaked(prelux, urllib.parse.parse_qs(token)["sig"][0])


def test_sas_that_may_not_list(prelux, account, box):
    """Files are read by name; of what is no blob nobody can say whether it is a folder."""
    map_it(prelux, account, box, sas_token=sas(account, box, "r"))
    assert prelux.run("cat /prelux-lake/a.txt /prelux-lake/dir/b.txt /prelux-lake/empty").stdout == "hellobelow"
    done = prelux.run("ls /prelux-lake/; stat /prelux-lake/nothing", check=False)
    assert done.stderr.count("Permission denied") == 2


def test_wrong_key(prelux, account, box):
    wrong = base64.b64encode(b"another key").decode()
    map_it(prelux, account, box, account_key=wrong)
    assert "Permission denied" in prelux.run(["cat", "/prelux-lake/a.txt"], check=False).stderr
    cause, advice = only_record(prelux, EACCES)
    assert "HTTP 403" in cause and account.account in advice
    assert not leaked(prelux, wrong, account.key)


def test_key_that_is_none(prelux, account, box):
    map_it(prelux, account, box, account_key="not base64!")
    assert "Input/output error" in prelux.run(["cat", "/prelux-lake/a.txt"], check=False).stderr
    assert "base64" in prelux.story() and not leaked(prelux, "not base64!")


def test_public_container(prelux, account):
    status = account.request("PUT", "/public", {"restype": "container"}, fields={"x-ms-blob-public-access": "container"})[0]
    assert status == 201
    account.put_blob("public", "a", b"for all")
    map_it(prelux, account, "public", prefix="")
    assert prelux.run("cat /prelux-lake/a; ls /prelux-lake").stdout == "for alla\n"


def test_private_container_without_credential(prelux, account, box):
    map_it(prelux, account, box, prefix="")
    assert "Permission denied" in prelux.run(["cat", "/prelux-lake/a.txt"], check=False).stderr
    assert "give account_key" in only_record(prelux, EACCES)[1]


def test_no_such_container(prelux, account):
    map_it(prelux, account, "nowhere")
    assert "Input/output error" in prelux.run(["ls", "/prelux-lake/"], check=False).stderr
    assert "no such container" in only_record(prelux, EIO)[1]


def test_prefix(prelux, account, box):
    map_it(prelux, account, box, account_key=account.key, prefix="/dir/")
    assert prelux.run("ls /prelux-lake; cat /prelux-lake/b.txt; test -e /prelux-lake/a.txt || echo no").stdout == "b.txt\nbelowno\n"


def environments(account, container):
    """How the environment may say who we are, and where the account is."""
    where = {"AZURE_STORAGE_BLOB_ENDPOINT": account.url}
    both = f"AccountName={account.account};BlobEndpoint={account.url}/;"
    return {
        "key": {**where, "AZURE_STORAGE_ACCOUNT": account.account, "AZURE_STORAGE_KEY": account.key},
        "access key": {**where, "AZURE_STORAGE_ACCESS_KEY": account.key},
        "sas": {**where, "AZURE_STORAGE_SAS_TOKEN": "?" + sas(account, container)},
        "connection": {"AZURE_STORAGE_CONNECTION_STRING": f"{both}AccountKey={account.key};EndpointSuffix=x.example"},
        "connection with sas": {"AZURE_STORAGE_CONNECTION_STRING": f"{both}SharedAccessSignature={sas(account, container)}"},
        "account in the end point": {"AZURE_STORAGE_BLOB_ENDPOINT": account.url.replace(account.account, "{account}"),
                                     "AZURE_STORAGE_KEY": account.key},
    }


@pytest.mark.parametrize("how", ["key", "access key", "sas", "connection", "connection with sas", "account in the end point"])
def test_environment(prelux, account, box, how):
    prelux.config({"version": 1, "backends": {"src": {"type": "azure", "account": account.account, "container": box}},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    assert prelux.run("cat /prelux-lake/a.txt; ls /prelux-lake/dir", env=environments(account, box)[how]).stdout == "hellob.txt\n"
    assert not leaked(prelux, account.key)


def test_environment_of_another_account(prelux, account, box):
    """Its key is not ours, nor is its end point: the request goes to Azure's own name and finds nobody there."""
    prelux.config({"version": 1, "backends": {"src": {"type": "azure", "account": account.account, "container": box,
                                                      "endpoint": account.url}},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    for env in ({"AZURE_STORAGE_ACCOUNT": "other", "AZURE_STORAGE_KEY": account.key},
                {"AZURE_STORAGE_CONNECTION_STRING": f"AccountName=other;AccountKey={account.key}"}):
        assert "Permission denied" in prelux.run(["cat", "/prelux-lake/a.txt"], env=env, check=False).stderr


def test_configuration_keeps_the_environment_out(prelux, account, box):
    map_it(prelux, account, box, account_key=base64.b64encode(b"wrong").decode())
    assert "Permission denied" in prelux.run(["cat", "/prelux-lake/a.txt"], env={"AZURE_STORAGE_KEY": account.key}, check=False).stderr


def test_two_runs_with_different_keys(prelux, account, box):
    """One daemon, one cache; each run has its own environment."""
    prelux.config({"version": 1, "backends": {"src": {"type": "azure", "account": account.account, "container": box}},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
    good = environments(account, box)["key"]
    assert "Permission denied" in prelux.run(["cat", "/prelux-lake/a.txt"], env={**good, "AZURE_STORAGE_KEY": "d3Jvbmc="}, check=False).stderr
    assert prelux.run(["cat", "/prelux-lake/a.txt"], env=good).stdout == "hello"
    assert len(prelux.daemons()) == 1


# azfuse: the files of its README, in structure; the end point, which is fixed in azfuse, comes from the environment.

AZFUSE = """
- cache: {tmp}/azfuse/data
  local: data
  remote: azfuse_data
  storage_account: storage_config_name
- cache: {tmp}/azfuse/models
  local: models
  remote: models
  storage_account: storage_config_name
- cache: {tmp}/azfuse/late
  local: data/late
  remote: models
  storage_account: storage_config_name
"""
ACCOUNT = """
account_name: {account}
account_key: {key}
sas_token: {sas}
container_name: {container}
"""


@pytest.fixture
def azfuse(prelux, account, request):
    """A folder as azfuse's users have it; prelux.azfuse(key, sas) writes the account's file."""
    container = put(account, "fuse" + hashlib.md5(request.node.name.encode()).hexdigest()[:12],
                    **{"azfuse_data/abc.txt": b"abc", "azfuse_data/sub/d.txt": b"d", "models/m.bin": b"model", "other": b"no"})
    config = prelux.tmp / "aux_data/configs/azfuse.yaml"
    (prelux.tmp / "aux_data/storage_account").mkdir(parents=True)
    config.parent.mkdir()
    config.write_text(AZFUSE.format(tmp=prelux.tmp))
    prelux.env.update(AZFUSE_USE_FUSE="1", AZFUSE_CLOUD_FUSE_CONFIG_FILE="./aux_data/configs/azfuse.yaml",
                      AZURE_STORAGE_BLOB_ENDPOINT=account.url.replace(account.account, "{account}"))

    def write(key="null", token="null", name="storage_config_name"):
        text = ACCOUNT.format(account=account.account, key=key, sas=token, container=container)
        (prelux.tmp / f"aux_data/storage_account/{name}.yaml").write_text(text)

    prelux.azfuse, prelux.container = write, container
    return prelux


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("how", ["key", "sas", "sas with mark", "base"])
def test_azfuse(azfuse, account, how, bare):
    token = sas(account, azfuse.container)
    if how == "base":
        azfuse.azfuse(key=account.key, name="base")
        (azfuse.tmp / "aux_data/storage_account/storage_config_name.yaml").write_text("_base_: base.yaml\nsas_token: null\n")
    else:
        azfuse.azfuse(**{"key": {"key": account.key}, "sas": {"token": token}, "sas with mark": {"token": f"'?{token}'"}}[how])
    done = azfuse.run("cat data/abc.txt data/sub/d.txt models/m.bin; ls data models; ls data/late", bare=bare, check=False)
    assert done.stdout == "abcdmodeldata:\nabc.txt\nsub\n\nmodels:\nm.bin\n", done.stderr
    assert "data/late" in done.stderr  # the first entry that matches wins: late is looked for below azfuse_data
    assert (azfuse.tmp / "azfuse/data/abc.txt").read_text() == "abc"


def test_azfuse_files_are_immutable(azfuse, account):
    azfuse.azfuse(key=account.key)
    assert azfuse.run("cat data/abc.txt").stdout == "abc"
    account.put_blob(azfuse.container, "azfuse_data/abc.txt", b"changed")
    assert azfuse.run("cat data/abc.txt; stat -c %s data/abc.txt").stdout == "abc3\n"
    azfuse.cli("evict", str(azfuse.tmp / "data"))
    assert azfuse.run("cat data/abc.txt").stdout == "changed"


def test_azfuse_switched_off(azfuse, account):
    azfuse.azfuse(key=account.key)
    assert azfuse.run(["cat", "data/abc.txt"], env={"AZFUSE_USE_FUSE": "0"}, check=False).returncode == 1


def test_azfuse_cache_of_before_is_adopted(azfuse, account):
    """azfuse keeps files under the same names: what is equal is not fetched again, what is not is."""
    azfuse.azfuse(key=account.key)
    old = azfuse.tmp / "azfuse/data"
    (old / "sub").mkdir(parents=True)
    (old / "abc.txt").write_text("abc")
    (old / "sub/d.txt").write_text("x")
    assert azfuse.run("cat data/abc.txt data/sub/d.txt").stdout == "abcd"
