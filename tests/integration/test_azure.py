"""Backend azure on a real Azurite: the programs of test_programs.py, names, folders, credentials, changes; and azfuse's own files.

What Azurite cannot show (tokens, archived blobs, lies): test_azure_stand_in.py. Writing: test_contract.py, test_azure_write.py.
"""

import base64
import hashlib
import http.client
import os
import subprocess
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate, parsedate_to_datetime

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.integration.azure_rig import (  # noqa: F401  account and tool are fixtures
    EACCES, EIO, ENOENT, ENOTDIR, EOPNOTSUPP, ESTALE, account, backend, leaked, put, sas, tool)
from tests.servers import azurite
from tests.servers.faultproxy import FaultProxy

CANNOT = ("back\\slash", "\x01control")  # Azure makes a slash of the one; Azurite cannot list the other
SCALE = 10_000


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
    assert one("caps")["caps"] & 0xff == 15  # of reading


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
