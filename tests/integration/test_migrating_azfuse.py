"""docs/MIGRATING.md, the part on azfuse: every row on a real Azurite.

azfuse itself is not run: it is on no package registry, it needs AzCopy, and Azure's end point is fixed in it. Its side of the page is
held against the list of its methods and variables (its source, as of 2024)."""

import hashlib
import json
import subprocess

import pytest

from tests import trees
from tests.integration import migrating_rig
from tests.integration.azure_rig import account, put  # noqa: F401  (a fixture)
from tests.servers.faultproxy import FaultProxy

PAGE = migrating_rig.Page("azfuse")
CHECKS = migrating_rig.Checks()
BIG = trees.pattern(3 << 20, 6)
BLOBS = {"azfuse_data/abc.txt": b"abc", "azfuse_data/sub/d.txt": b"d", "azfuse_data/big.bin": BIG, "models/m.bin": b"model"}
CACHE = "/tmp/azfuse"  # in the page's mappings; the test's own folder in its stead
METHODS = {"open", "isfile", "get_file_size", "list", "walk", "prepare", "clear_cache", "is_cached", "get_cache_file", "rm", "upload", "read_byte_range",
           "async_upload", "send_to_async_upload", "create_download_process", "request_to_download", "set_access_tier", "ensure_initialized"}
VARIABLES = {"USE_FUSE", "TSV_USE_FUSE", "CLOUD_FUSE_CONFIG_FILE", "STORAGE_ACCOUNT_CONFIG_FOLDER", "USE_FUSE_ENABLE_GARBAGE_COLLECTION",
             "CLOUD_FUSE_GARBAGE_COLLECTION_MAX", "AZCOPY_NO_LOG", "DISABLE_EXCLUSIVE_READ_BY_LOCK", "LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK",
             "MPI_LOCALRANKID"}
PREFIXES = {"QD_", "AZFUSE_"}
KEYS = {"local", "remote", "cache", "storage_account", "cache_lock", "account_name", "container_name", "account_key", "sas_token",
        "use_default_azure_cred", "_base_"}
TASKS = {"d", "download", "cp", "url", "ls", "cold", "rm", "rmtree", "head", "tail", "cat", "nvim", "display", "open", "update", "u", "upload", "meta",
         "clear_meta", "break", "-c", "-f"}


class Setup:
    """A folder as azfuse's users have it, by the files of the page; a proxy before Azurite counts."""

    def __init__(self, prelux, account, proxy, name):  # noqa: F811
        self.prelux, self.account, self.proxy, self.tmp = prelux, account, proxy, prelux.tmp
        self.container = put(account, "move" + hashlib.md5(name.encode()).hexdigest()[:12], **BLOBS)
        self.replace = {CACHE: f"{self.tmp}/azfuse", "accountname": account.account, "accountkey": account.key, "containername": self.container}
        for block, path in (("mappings", "aux_data/configs/azfuse.yaml"), ("account", "aux_data/storage_account/storage_config_name.yaml"),
                            ("async_config", "prelux.yaml")):
            (self.tmp / path).parent.mkdir(parents=True, exist_ok=True)
            (self.tmp / path).write_text(PAGE.config(f"azfuse.{block}", self.replace))
        (self.tmp / "local.bin").write_bytes(b"from the disk")
        (self.tmp / "made").mkdir()
        for made in ("one", "two"):
            (self.tmp / f"made/{made}.bin").write_text(made)
        prelux.env["AZURE_STORAGE_BLOB_ENDPOINT"] = f"{proxy.url}/{{account}}"

    def blob(self, name):
        """What another client sees, or None."""
        status, _, body = self.account.request("GET", f"/{self.container}/{name}")
        return body if status == 200 else None

    def gets(self, name):
        return [seen for seen in self.proxy.requests() if seen.method == "GET" and seen.path.endswith(f"/{self.container}/{name}")]


@pytest.fixture
def setup(prelux, account, request):  # noqa: F811
    with FaultProxy(account.url.rpartition("/")[0]) as proxy:
        yield Setup(prelux, account, proxy, request.node.name)


def cached(setup, name):
    return (setup.tmp / "azfuse" / name).exists()


@CHECKS("azfuse.concurrent_readers")
def _(setup, done):
    assert len(setup.gets("azfuse_data/big.bin")) == 1
    assert (setup.tmp / "azfuse/data/big.bin").read_bytes() == BIG


@CHECKS("azfuse.prepare", "azfuse.request_to_download")
def _(setup, done):
    assert cached(setup, "data/sub/d.txt") and not cached(setup, "data/big.bin")
    assert len(setup.gets("azfuse_data/sub/d.txt")) == 1


@CHECKS("azfuse.clear_cache")
def _(setup, done):
    assert not cached(setup, "data/abc.txt") and not cached(setup, "data/sub/d.txt")
    assert setup.blob("azfuse_data/abc.txt") == b"abc"
    setup.account.put_blob(setup.container, "azfuse_data/abc.txt", b"new")
    assert setup.prelux.run(["cat", "data/abc.txt"], env={"AZFUSE_USE_FUSE": "1"}).stdout == "new"


@CHECKS("azfuse.open_write")
def _(setup, done):
    assert setup.blob("azfuse_data/new/out.txt") == b"written"
    missing = setup.prelux.run("echo x >data/no/such/folder", env={"AZFUSE_USE_FUSE": "1"}, check=False)
    assert missing.returncode and "No such file" in missing.stderr


@CHECKS("azfuse.append")
def _(setup, done):
    assert setup.blob("azfuse_data/moved.txt") == b"aXcdef" and setup.blob("azfuse_data/abc.txt") is None


@CHECKS("azfuse.upload")
def _(setup, done):
    assert setup.blob("azfuse_data/up.bin") == b"from the disk" and setup.blob("azfuse_data/sub/d.txt") is None


@CHECKS("azfuse.async_upload")
def _(setup, done):
    assert [setup.blob(f"azfuse_data/{i}.txt") for i in range(100)] == [str(i).encode() for i in range(100)]


@CHECKS("azfuse.shm_as_tmp")
def _(setup, done):
    assert setup.blob("models/checkpoint.bin") == bytes(1000000)
    assert not cached(setup, "models/checkpoint.bin")
    assert done.stderr == "" and "staged in the cache" not in setup.prelux.log()  # /dev/shm was taken


@CHECKS("azfuse.send_to_async_upload")
def _(setup, done):
    assert (setup.blob("azfuse_data/one.bin"), setup.blob("azfuse_data/two.bin")) == (b"one", b"two")


@CHECKS("azfuse.torch_save")
def _(setup, done):
    assert setup.blob("models/last.pt")[:2] == b"PK"


@CHECKS("azfuse.command_line")
def _(setup, done):
    assert setup.blob("models/copy.txt") == b"abc" and setup.blob("azfuse_data/sub/d.txt") is None


def no_torch():
    """Debian's python3-torch, 500 MB with what it needs, which `make full` installs."""
    return subprocess.run(["/usr/bin/python3", "-c", "import torch"], capture_output=True).returncode != 0


@pytest.mark.parametrize("name", PAGE.names)
def test_row(setup, name):
    if name == "azfuse.torch_save" and no_torch():
        pytest.skip("no python3-torch here (make full)")
    done = PAGE.run(setup.prelux, name, env={"AZFUSE_USE_FUSE": "1"} if PAGE.of(name, "ours", "python") else {}, replace=setup.replace, shown=setup.replace)
    CHECKS.run(name, setup, done)
    if name != "azfuse.environment":
        left = json.loads(setup.prelux.plain([setup.prelux.exe, "pending", "list", "--json"], env={"AZFUSE_USE_FUSE": "1"}).stdout)
        assert left["count"] == 0 and left["files"] == []


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("program", ["rm -r data/tree", "find data/tree -delete", "python3 -c 'import shutil; shutil.rmtree(\"data/tree\")'"])
def test_folders_without_marks_are_removed(setup, write, program):
    """What azcopy made: a folder goes with the last blob in it, before the program gets to remove it."""
    for name in ("a/b/c/1", "a/b/2", "d/3", "4"):
        setup.account.put_blob(setup.container, "azfuse_data/tree/" + name, b"x")
    setup.prelux.config((setup.tmp / "prelux.yaml").read_text().replace("write: async", f"write: {write}"), name="tree.yaml", raw=True)
    done = setup.prelux.run(f"{program}; test ! -e data/tree; rmdir data/tree 2>&1 || ls data")
    assert "No such file" in done.stdout.splitlines()[0] and done.stdout.splitlines()[1:] == ["abc.txt", "big.bin", "sub"]
    assert setup.blob("azfuse_data/tree/a/b/c/1") is None and setup.blob("azfuse_data/tree/4") is None


def test_the_page():
    assert PAGE.syntax() == []
    assert PAGE.unchecked(CHECKS) == ([], [])


@pytest.mark.parametrize("heading, names", [("### Methods of `File`", {"File." + name for name in METHODS}), ("### Environment", VARIABLES | PREFIXES),
                                            ("### Keys of the files", KEYS), ("### Command line", TASKS)])
def test_tables_are_complete(heading, names):
    assert migrating_rig.rows_of_tables(PAGE.text, heading) == names
