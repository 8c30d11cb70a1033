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
from contextlib import ExitStack
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.integration.test_backends_raw import Tool
from tests.servers import azurite
from tests.servers.base import ServerError, wait_for
from tests.servers.faultproxy import FaultProxy
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


# Folders, names and changes, by the backend alone and by programs.

@pytest.fixture
def tool(tmp_path):
    made = []

    def make(**conf):
        made.append(Tool(tmp_path / f"tool{len(made)}", **conf))
        return made[-1]

    make.made = made
    yield make
    for one in made:
        one.close()


@pytest.mark.asan
def test_folders(account, tool):
    account.make_container("folders")
    for name, head in [("made/by/name", {}), ("marked/", {}), ("both", {}), ("both/x", {}), ("full", {}), ("full/y", {}),
                       ("hdi", {"x-ms-meta-hdi_isfolder": "true"}), ("Hdi2", {"x-ms-meta-Hdi_isfolder": "true"}), ("hdi3/z", {}),
                       ("hdi3", {"x-ms-meta-hdi_isfolder": "true"}), ("file", {}), ("file-1", {}), ("file.1", {})]:
        account.put_blob("folders", name, b"" if name in ("both", "hdi", "Hdi2", "hdi3", "marked/") else b"x", **head)
    one = tool(**backend(account, "folders"))
    folders = ["made", "made/by", "marked", "both", "hdi", "Hdi2", "hdi3"]
    assert {path: one("stat", path).get("type") for path in folders} == {path: "dir" for path in folders}
    for path in ("file", "file-1", "made/by/name", "full", "full/y"):
        assert one("stat", path)["type"] == "file"
    listed = {}
    for row in one("list", "")["names"]:  # a name may come twice: the store keeps the folder
        listed.setdefault(row["name"], set()).add(row["type"])
    assert {name for name, types in listed.items() if "dir" in types} == {"made", "marked", "both", "hdi", "Hdi2", "hdi3"}
    assert listed["file"] == listed["full"] == {"file"}
    assert one.names("marked") == one.names("hdi") == {} and set(one.names("made")) == {b"by"}
    assert one("list", "file")["rc"] == -ENOTDIR
    assert one("list", "nothing")["rc"] == one("stat", "nothing")["rc"] == one("stat", "made/b")["rc"] == -ENOENT
    assert one("caps")["caps"] == 15


def test_listing_and_stat_say_the_same(account, tool, lake_data):
    one = tool(**backend(account, "tree"))
    rows = one.names("names")
    assert len(rows) > 40
    for name, row in rows.items():
        if row["type"] == "file":
            stat = one("stat", b"names/" + name)
            assert {key: stat[key] for key in row if key != "name"} == {key: row[key] for key in row if key != "name"}, name
            assert row["version"].startswith("e:0x") and len(row["md5"]) == 32
            rc, data, _ = one.read(b"names/" + name)
            assert rc == 0 and data == (lake_data / "names" / os.fsdecode(name)).read_bytes()


@pytest.mark.asan
def test_names_that_azure_cannot_carry(account, tool):
    account.make_container("cannot")
    one = tool(**backend(account, "cannot"))
    for name in (b"a\\b", b"latin-\xe9", b"\xed\xa0\x80", b"dir/\xff", b"\xc0\xaf", b"x" * 5000):
        answer = one("stat", name)
        assert answer["rc"] in (-EOPNOTSUPP, -ENOENT if len(name) > 1000 else -EOPNOTSUPP), (name, answer)


@pytest.mark.limit(240)
def test_pages(account, tool):
    """More names than a page of Azurite (5000) holds."""
    if account.request("HEAD", "/scale", {"restype": "container"})[0] != 200:
        account.make_container("scale")
        put_one = Uploader(account, "scale")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: put_one(f"ten-thousand/name-{n:05}", str(n).encode()), range(SCALE)))
    one = tool(**backend(account, "scale"))
    assert set(one.names("ten-thousand")) == {b"name-%05d" % n for n in range(SCALE)}
    assert one("list", "ten-thousand", stop_after=7)["rc"] < 0


@pytest.mark.asan
def test_changed_blob(account, tool):
    put(account, "changes", a=trees.pattern(3 << 20, 1))
    one = tool(**backend(account, "changes"))
    before = one("stat", "a")
    expect = {"size": before["size"], "version": before["version"]}
    assert one.read("a", expect=expect, off=1000, len=5)[1] == trees.pattern(3 << 20, 1)[1000:1005]
    account.put_blob("changes", "a", trees.pattern(3 << 20, 2))
    for part in ({}, {"off": 1000, "len": 5}, {"off": (3 << 20) - 5, "len": 5}):
        assert one.read("a", expect=expect, **part)[0] == -ESTALE
    account.put_blob("changes", "a", b"short")
    assert one.read("a", expect=expect)[0] == -ESTALE
    account.request("DELETE", "/changes/a")
    assert one.read("a", expect=expect)[0] in (-ENOENT, -ESTALE) and one("stat", "a")["rc"] == -ENOENT


@pytest.mark.asan
def test_ends_of_ranges(account, tool):
    data = trees.pattern(100_000, 3)
    put(account, "ranges", a=data, empty=b"")
    one = tool(**backend(account, "ranges"))
    for off, length in [(0, 1), (0, 100_000), (1, 99_999), (99_999, 1), (4095, 2), (50_000, 50_000)]:
        assert one.read("a", off=off, len=length)[1] == data[off:off + length]
    assert one.read("empty")[1] == b""
    assert one.read("a", off=99_999, len=2)[0] == -ESTALE


def test_changes_are_seen_by_programs(prelux, account):
    put(account, "seen", a=b"one")
    prelux.config({"version": 1, "backends": {"src": backend(account, "seen")},
                   "mappings": [{"local": "/prelux-lake", "remote": "src:/", "freshness": "always"}]})
    assert prelux.run("cat /prelux-lake/a; ls /prelux-lake").stdout == "onea\n"
    account.put_blob("seen", "a", b"second")
    account.put_blob("seen", "b/c", b"new")
    assert prelux.run("cat /prelux-lake/a; stat -c %s /prelux-lake/a; ls /prelux-lake; cat /prelux-lake/b/c").stdout == "second6\na\nb\nnew"
    account.request("DELETE", "/seen/a")
    assert prelux.run("cat /prelux-lake/a; ls /prelux-lake", check=False).stdout == "b\n"


def test_a_blob_hides_the_folder_of_its_name(prelux, account):
    """Blobs `a` (with bytes) and `a/b`: a file by listing and by name, before and after a listing; the log says so."""
    put(account, "hides", **{"a": b"bytes", "a/b": b"below", "a-": b"", "a.txt": b""})
    map_it(prelux, account, "hides")
    check = "stat -c %F /prelux-lake/a; cat /prelux-lake/a /prelux-lake/a/b; ls -RF /prelux-lake; stat -c %F /prelux-lake/a"
    assert prelux.run(check).stdout == "regular file\nbytesbelow/prelux-lake:\na\na-\na.txt\nregular file\n"
    assert "blob 'a' hides the folder" in prelux.log()


def test_a_blob_hidden_by_a_folder(prelux, account):
    """Blobs `a` (empty) and `a/b`: a folder by listing and by name."""
    account.make_container("hidden")
    account.put_blob("hidden", "a", b"")
    account.put_blob("hidden", "a/b", b"below")
    map_it(prelux, account, "hidden")
    check = "stat -c %F /prelux-lake/a; cat /prelux-lake/a/b; ls -R /prelux-lake; stat -c %F /prelux-lake/a"
    assert prelux.run(check).stdout == "directory\nbelow/prelux-lake:\na\n\n/prelux-lake/a:\nb\ndirectory\n"


def test_number_of_requests(prelux, account):
    """A cold file: one to find it, one to read it; after a listing: one."""
    put(account, "count", **{f"f{number}": b"%d" % number for number in range(10)}, **{"d/e": b"deep"})
    with FaultProxy(account.url) as proxy:
        more = {"account_key": account.key}
        conf = {**backend(account, "count", **more), "endpoint": f"{proxy.url}/{account.account}"}
        prelux.config({"version": 1, "backends": {"src": conf}, "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
        assert prelux.run(["cat", "/prelux-lake/f3"]).stdout == "3"
        assert [seen.method for seen in proxy.requests()] == ["HEAD", "GET"]
        proxy.forget_requests()
        assert prelux.run("ls /prelux-lake >/dev/null; cat /prelux-lake/f*").stdout == "0123456789"
        assert len(proxy.requests()) == 1 + 9
        proxy.forget_requests()
        assert prelux.run("cat /prelux-lake/f*; test -e /prelux-lake/nothing || echo no").stdout == "0123456789no\n"
        assert proxy.requests() == []
        assert prelux.run(["cat", "/prelux-lake/d/e"]).stdout == "deep"
        assert len(proxy.requests()) == 2
        assert proxy.accepted < 8


@pytest.mark.asan
def test_broken_connections(account, tool):
    data = trees.pattern(2 << 20, 9)
    put(account, "broken", a=data)
    with FaultProxy(account.url) as proxy:
        one = tool(**{**backend(account, "broken", account_key=account.key), "endpoint": f"{proxy.url}/{account.account}"})
        path = f"/{account.account}/broken/a"
        for fault in ({"reset_after": 300_000, "times": 2}, {"close_after": 1_000_000, "times": 1}):
            proxy.fault(path, **fault)
            rc, got, answer = one.read("a")
            assert rc == 0 and got == data, answer
        put(account, "broken2", **{f"name-{number}": b"" for number in range(50)})
        one = tool(**{**backend(account, "broken2", account_key=account.key), "endpoint": f"{proxy.url}/{account.account}"})
        proxy.fault(f"/{account.account}/broken2", reset_after=3000, times=2)
        assert len(one.names()) == len(one("list")["names"]) == 50
        proxy.fault(f"/{account.account}/broken2", reset_after=3000)
        assert one("list")["rc"] == -EIO and one("list")["names"] == []


# Stand-ins: a server whose answers a test makes up.

class StandIn(ThreadServer):
    """answer(method, target, fields, body) -> (status, fields, body bytes)"""

    name = "stand-in"

    def __init__(self, answer):
        super().__init__()
        self.answer = answer
        self.bodies = []

    def serve(self, connection):
        while head := connection.read_until(b"\r\n\r\n"):
            method, target = head.decode("latin-1").split(" ")[:2]
            fields = head_fields(head)
            body = b""
            while len(body) < int(fields.get("content-length", 0)):
                body += connection.receive()
            with self.lock:
                self.bodies.append((method, target, fields, body))
            status, more, data = self.answer(method, target, fields, body)
            more = {"Content-Length": str(len(data)), "Date": formatdate(usegmt=True), **more}
            lines = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in more.items() if value is not None]
            connection.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if method == "HEAD" else data))


DATA = trees.pattern(1000, 4)
BLOB = {"ETag": '"0x8D1"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}


def blob_stand_in(valid=lambda fields: True, **changes):
    """A container with one blob `a`; valid(fields): does the server like the request's credential?"""

    def answer(method, target, fields, body):
        if not valid(fields):
            return 401, {"x-ms-error-code": "InvalidAuthenticationInfo"}, b""
        if "comp=list" in target:
            return 200, {}, changes.get("page", b"<EnumerationResults><Blobs/></EnumerationResults>")
        if not target.endswith("/box/a"):
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        part = fields.get("x-ms-range")
        head, status, data = {**BLOB, **changes.get("head", {})}, 200, DATA
        if method == "GET" and part:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", part).groups())
            head["Content-Range"], status, data = f"bytes {first}-{last}/{len(DATA)}", 206, DATA[first:last + 1]
        if method == "GET":
            head = {**head, **changes.get("get", {})}
            status, data = changes.get("status", status), changes.get("data", data)
        return status, head, data

    return StandIn(answer)


def stand_in_conf(server, **more):
    return {"type": "azure", "account": "acct", "container": "box", "endpoint": f"{server.url}/acct", **more}


def test_the_stand_in_is_read(tool):
    with blob_stand_in() as server:
        one = tool(**stand_in_conf(server))
        assert one.read("a")[1] == DATA and one.read("a", off=10, len=20)[1] == DATA[10:30]
        assert one("stat", "b")["rc"] == -ENOENT


LIES = {
    "another etag": ({"get": {"ETag": '"0x8D2"'}}, ESTALE),
    "no etag": ({"head": {"ETag": None}}, EPROTO),
    "etag with a line": ({"head": {"ETag": '"a b"'}}, EPROTO),
    "no etag when read": ({"get": {"ETag": None}}, EPROTO),
    "200 to a range": ({"status": 200, "get": {"Content-Range": None}, "data": DATA}, EPROTO),
    "200 and the first bytes": ({"status": 200, "get": {"Content-Range": None}, "data": DATA[:20]}, EPROTO),
    "another range": ({"get": {"Content-Range": "bytes 11-30/1000"}}, EPROTO),
    "another length": ({"get": {"Content-Range": "bytes 10-29/999"}}, EPROTO),
    "no content-range": ({"get": {"Content-Range": None}}, EPROTO),
    "short": ({"data": DATA[10:20]}, EPROTO),
    "long": ({"data": DATA[10:40]}, EPROTO),
    "empty": ({"data": b""}, EPROTO),
    "archived": ({"status": 409, "get": {"x-ms-error-code": "BlobArchived"}, "data": b""}, EIO),
    "a name that is too much": ({"status": 400, "get": {"x-ms-error-code": "OutOfRangeInput"}, "data": b""}, EOPNOTSUPP),
    "changed": ({"status": 412, "get": {"x-ms-error-code": "ConditionNotMet"}, "data": b""}, ESTALE),
    "gone": ({"status": 404, "get": {"x-ms-error-code": "BlobNotFound"}, "data": b""}, ENOENT),
    "a page": ({"status": 302, "get": {"Location": "/login"}, "data": b"log in"}, EIO),
}


@pytest.mark.asan
@pytest.mark.parametrize("name", LIES)
def test_lies(tool, name):
    changes, errno = LIES[name]
    with blob_stand_in(**changes) as server:
        rc, _, answer = tool(**stand_in_conf(server)).read("a", off=10, len=20)
        assert rc == -errno, answer
        assert name != "archived" or "rehydrate" in answer["advice"]


@pytest.mark.asan
def test_a_part_where_all_was_asked_for(tool):
    with blob_stand_in(status=206, get={"Content-Range": "bytes 0-999/1000"}) as server:
        assert tool(**stand_in_conf(server)).read("a")[0] == -EPROTO


def page_of(names, marker=""):
    blobs = "".join(f"<Blob><Name>{name}</Name><Properties><Content-Length>1</Content-Length><Etag>0x1</Etag></Properties></Blob>"
                    for name in names)
    return f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>".encode()


PAGES = {
    "the same marker": lambda marker: page_of(["a"], "again"),
    "a circle": lambda marker: page_of([], {"": "1", "1": "2", "2": "3", "3": "1"}[marker]),
    "empty ones": lambda marker: page_of([], str(int(marker or 0) + 1)),
    "no xml": lambda marker: b"<html>log in</html>",
    "json": lambda marker: b"{}",
    "cut": lambda marker: page_of(["a", "b"])[:-10],
    "nothing": lambda marker: b"",
    "bomb": lambda marker: b'<!DOCTYPE r [<!ENTITY a "aaaa">]><EnumerationResults>&a;</EnumerationResults>',
    "other names": lambda marker: page_of(["elsewhere"]),
    "no etag": lambda marker: page_of(["dir/a"]).replace(b"<Etag>0x1</Etag>", b""),
    "a long name": lambda marker: page_of(["dir/" + "n" * 20000]),
}


@pytest.mark.asan
@pytest.mark.parametrize("name", PAGES)
def test_lists_that_lie(tool, name):
    def answer(method, target, fields, body):
        marker = urllib.parse.parse_qs(target.partition("?")[2]).get("marker", [""])[0]
        return 200, {}, PAGES[name](marker)

    with StandIn(answer) as server:
        assert tool(**stand_in_conf(server))("list", "dir" if name not in ("the same marker", "a circle") else "")["rc"] == -EPROTO
        assert len(server.bodies) < 2000


@pytest.mark.asan
def test_empty_pages_are_not_the_end(tool):
    pages = {"": page_of([], "1"), "1": page_of([], "2&amp;"), "2&": page_of(["a b"], ""), "x": b""}

    def answer(method, target, fields, body):
        query = urllib.parse.parse_qs(target.partition("?")[2])
        if method == "HEAD":
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        return 200, {}, pages[query.get("marker", [""])[0]].replace(b"a b", query["prefix"][0].encode() + b"x" if "prefix" in query else b"a b")

    with StandIn(answer) as server:
        one = tool(**stand_in_conf(server))
        assert set(one.names()) == {b"a b"}
        assert one("stat", "folder")["type"] == "dir"


@pytest.mark.asan
def test_blob_and_folder_on_different_pages(tool):
    prefix = b"<Blobs><BlobPrefix><Name>%s/</Name></BlobPrefix>"
    pages = {"": page_of(["a", "a-x", "b"], "1"), "1": page_of(["ba", "c"], "2").replace(b"<Blobs>", prefix % b"b"),
             "2": page_of(["c-", "c.", "c.d"], "3"), "3": page_of([], "4"), "4": page_of(["d"]).replace(b"<Blobs>", prefix % b"c")}

    def answer(method, target, fields, body):
        return 200, {}, pages[urllib.parse.parse_qs(target.partition("?")[2]).get("marker", [""])[0]]

    with StandIn(answer) as server:
        rows = tool(**stand_in_conf(server))("list")["names"]
        assert sorted((row["name"], row["type"]) for row in rows) == [(name, "file") for name in
                                                                      ("a", "a-x", "b", "ba", "c", "c-", "c.", "c.d", "d")]
        pages[""] = pages[""].replace(b"<Content-Length>1", b"<Content-Length>0")
        assert ("b", "dir") in [(row["name"], row["type"]) for row in tool(**stand_in_conf(server))("list")["names"]]


@pytest.mark.asan
def test_busy_server_is_asked_again(tool):
    count = iter(range(100))

    def answer(method, target, fields, body):
        if next(count) < 2:
            return 503, {"x-ms-error-code": "ServerBusy", "Retry-After": "0"}, b""
        return 200, BLOB, DATA

    with StandIn(answer) as server:
        assert tool(**stand_in_conf(server))("stat", "a")["rc"] == 0


@pytest.mark.asan
@pytest.mark.parametrize("shift, word", [(3600, "behind"), (-3600, "ahead")])
def test_clock_skew_is_named(tool, shift, word):
    def answer(method, target, fields, body):
        return 403, {"x-ms-error-code": "AuthenticationFailed", "Date": formatdate(time.time() + shift, usegmt=True)}, b""

    with StandIn(answer) as server:
        answer = tool(**stand_in_conf(server, account_key="a2V5"))("stat", "a")
        assert answer["rc"] == -EACCES and word in answer["advice"] and "36" in answer["advice"]


# Tokens: stand-ins for the token servers (Azurite takes tokens by TLS only), and one for the store.

class Tokens:
    """What the stand-in token servers gave out. life: seconds a token lives; down: they refuse."""

    def __init__(self, life=3600):
        self.life, self.down, self.given, self.asked = life, None, [], []
        self.valid = set()
        self.hook = lambda: None
        self.lock = threading.Lock()

    def answer(self, method, target, fields, body):
        self.hook()
        with self.lock:
            self.asked.append((method, target, fields, body.decode()))
            if self.down:
                return self.down, {}, b'{"error": "invalid_client", "error_description": "AADSTS7000215 secret text"}'
            self.given.append(f"token-{len(self.given)}-{os.urandom(8).hex()}")
            self.valid.add(self.given[-1])
            life = self.life if len(self.given) % 2 else str(self.life)  # some servers say it as text
            return 200, {}, json.dumps({"token_type": "Bearer", "access_token": self.given[-1], "expires_in": life}).encode()

    def likes(self, fields):
        return fields.get("authorization", "").removeprefix("Bearer ") in self.valid


GRANTS = {
    "service principal": ({}, lambda url, file: {"AZURE_TENANT_ID": "ten/ant", "AZURE_CLIENT_ID": "me", "AZURE_CLIENT_SECRET": "s3/cr&t=",
                                                 "AZURE_AUTHORITY_HOST": url + "/"}),
    "default": ({"default_credential": True}, lambda url, file: {"AZURE_TENANT_ID": "ten/ant", "AZURE_CLIENT_ID": "me",
                                                                 "AZURE_CLIENT_SECRET": "s3/cr&t=", "AZURE_AUTHORITY_HOST": url}),
    "workload": ({}, lambda url, file: {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "me", "AZURE_FEDERATED_TOKEN_FILE": file,
                                        "AZURE_AUTHORITY_HOST": url}),
    "app service": ({}, lambda url, file: {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "s3/cr&t="}),
    "machine": ({"managed_identity": True, "client_id": "who/is"}, lambda url, file: {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}),
    "machine by default": ({"default_credential": True}, lambda url, file: {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}),
}


@pytest.fixture
def grant(prelux):
    """grant(name, tokens, ...): prelux on a stand-in store that likes tokens of a stand-in token server; returns the store."""
    with ExitStack() as stack:
        def make(name, tokens, **changes):
            prelux.tokens = stack.enter_context(StandIn(tokens.answer))
            store = stack.enter_context(blob_stand_in(tokens.likes, **changes))
            federated = prelux.tmp / "federated"
            federated.write_text("s3/cr&t=\n")
            conf, env = GRANTS[name][0], GRANTS[name][1](prelux.tokens.url, str(federated))
            prelux.env.update(env)
            prelux.config({"version": 1, "backends": {"src": stand_in_conf(store, **conf)},
                           "mappings": [{"local": "/prelux-lake", "remote": "src:/", "freshness": "always"}]})
            return store

        yield make


READ = "cat /prelux-lake/a | md5sum | cut -c1-32"
SUM = hashlib.md5(DATA).hexdigest() + "\n"


@pytest.mark.asan
@pytest.mark.parametrize("name", GRANTS)
def test_tokens(prelux, grant, name):
    tokens = Tokens()
    grant(name, tokens)
    assert prelux.run(f"{READ}; {READ}").stdout == 2 * SUM
    (method, target, fields, body), = tokens.asked
    form, query = urllib.parse.parse_qs(body), urllib.parse.parse_qs(target.partition("?")[2])
    if name in ("service principal", "default", "workload"):
        assert method == "POST" and target.endswith("/oauth2/v2.0/token")
        assert form["scope"] == ["https://storage.azure.com/.default"] and form["client_id"] == ["me"]
        assert form["grant_type"] == ["client_credentials"]
        assert form["client_assertion" if name == "workload" else "client_secret"] == ["s3/cr&t="]
    else:
        assert method == "GET" and query["resource"] == ["https://storage.azure.com/"] and query["api-version"]
        assert fields.get("metadata") == "true" or fields.get("x-identity-header") == "s3/cr&t="
        assert query.get("client_id") == (["who/is"] if name == "machine" else None)
    assert not leaked(prelux, tokens.given[0], "s3/cr&t=")


@pytest.mark.asan
def test_token_is_renewed_before_it_ends(prelux, grant):
    """A token of 8 s is renewed in its last two; who reads meanwhile goes on with the old one; none that has ended is sent."""
    tokens = Tokens(life=8)
    store = grant("machine", tokens)
    assert prelux.run(READ).stdout == SUM
    first, seen = time.monotonic(), []

    def slow_renewal():
        seen.append(time.monotonic() - first)
        before = len(store.bodies)
        wait_for(lambda: len(store.bodies) > before, 10, "reads while the token is renewed")

    tokens.hook = slow_renewal
    time.sleep(max(0, 6.2 - (time.monotonic() - first)))
    assert prelux.run(f"for i in 1 2 3; do {READ} & done; wait").stdout == 3 * SUM
    assert len(seen) == 1 and seen[0] < 8 and len(tokens.given) == 2
    assert [1 for _, _, fields, _ in store.bodies if fields["authorization"].endswith(tokens.given[0])]


def test_renewal_that_fails_leaves_the_old_token(prelux, grant):
    tokens = Tokens(life=8)
    grant("service principal", tokens)
    assert prelux.run(READ).stdout == SUM
    tokens.down = 500
    time.sleep(6.2)  # in its last quarter
    assert prelux.run(f"{READ}; {READ}").stdout == 2 * SUM and len(tokens.given) == 1
    asked = len(tokens.asked)
    assert 1 < asked <= 5
    time.sleep(2)
    assert "Input/output error" in prelux.run(["cat", "/prelux-lake/a"], check=False).stderr


@pytest.mark.asan
def test_refused_token_is_renewed_once(prelux, grant):
    tokens = Tokens()
    grant("machine", tokens)
    assert prelux.run(READ).stdout == SUM
    tokens.valid.clear()  # revoked
    time.sleep(5.1)       # one that is younger is not asked for anew
    assert prelux.run(READ).stdout == SUM and len(tokens.given) == 2
    tokens.valid.clear()
    assert prelux.run(f"{READ}; {READ}", check=False).stdout != SUM and len(tokens.given) == 2


@pytest.mark.asan
def test_many_wait_for_one_token(prelux, grant):
    tokens = Tokens()
    grant("machine", tokens)
    assert prelux.run(f"for i in $(seq 20); do cat /prelux-lake/a$i 2>/dev/null & done; {READ}; wait").stdout == SUM
    assert len(tokens.given) == 1


@pytest.mark.asan
def test_token_server_that_refuses(prelux, grant):
    tokens = Tokens()
    tokens.down = 401
    grant("service principal", tokens)
    done = prelux.run("for i in 1 2 3 4 5 6; do cat /prelux-lake/a$i; done", check=False)
    assert done.stderr.count("Permission denied") == 6 and len(tokens.asked) <= 2
    assert "invalid_client" in prelux.story() and "tenant, client" in prelux.story()
    assert not leaked(prelux, "s3/cr&t=", "secret text")


def test_token_server_that_is_not_there(prelux, grant):
    grant("machine", Tokens())
    prelux.tokens.stop()
    assert "Input/output error" in prelux.run(["cat", "/prelux-lake/a"], check=False).stderr
    assert "Azure machine" in prelux.story()


def test_tokens_and_secrets_need_tls(tool):
    """To another machine neither a token nor a client's secret goes by plain http."""
    conf = {"type": "azure", "account": "acct", "container": "box", "endpoint": "http://192.0.2.1/acct"}
    for more in ({"bearer": "t"}, {"managed_identity": True}):
        one = tool(**conf, **more)
        assert one.process.wait(20) == 2 and "https is needed" in one.errors()
        one.stderr.close()
        tool.made.remove(one)


def test_bearer_of_the_configuration(tool):
    with blob_stand_in(lambda fields: fields.get("authorization") == "Bearer abc.def") as server:
        assert tool(**stand_in_conf(server, bearer="abc.def")).read("a")[1] == DATA
        assert tool(**stand_in_conf(server, bearer="other"))("stat", "a")["rc"] == -EACCES


def test_status_and_doctor_name_the_source(prelux, grant):
    tokens = Tokens()
    store = grant("workload", tokens, page=page_of(["a"]))
    assert prelux.run(READ).stdout == SUM
    (shown,) = prelux.cli("status", "--json")["backends"]
    assert shown["credentials"].startswith("workload identity") and 3000 < shown["credentials_valid_s"] <= 3600
    assert shown["endpoint"] == f"{store.url}/acct/box"
    text = prelux.cli("doctor", check=False).stdout
    assert "workload identity" in text and "reachable: yes" in text
    store.stop()
    text = prelux.cli("doctor", check=False).stdout
    assert "reachable: no" in text
    assert not leaked(prelux, tokens.given[0], "s3/cr&t=")
