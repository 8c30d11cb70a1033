"""docs/MIGRATING.md, the part on pandas, PyArrow and Ray: wheels of PyPI on a bucket of a real S3 (versitygw).

PyArrow and pandas are installed for these tests. Ray is 620 MB, and each of its rows takes half a minute to start it: `make full` installs
it, and where it is there already it runs here, too."""

import os
import subprocess

import pytest

from tests.integration import migrating_rig
from tests.servers import versitygw
from tests.servers.base import ServerError
from tests.servers.pythons import PYARROW, RAY

PAGE = migrating_rig.Page("arrow")
BIG = ("arrow.ray_file", "arrow.ray_folder")  # those that need the large one
MAKE = """
import pyarrow, pyarrow.parquet, sys
for part in range(4):
    rows = range(part * 1000, part * 1000 + 1000)
    pyarrow.parquet.write_table(pyarrow.table({"id": rows, "name": [f"n{row}" for row in rows]}), f"{sys.argv[1]}/part-{part}.parquet")
"""
# Ray for a test: no dashboard, two processors, little memory, its files below the test's folder, and an end to what it says.
RAY_INIT = "import ray\nray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 << 20, log_to_driver=False, _temp_dir={folder!r})\n"


def installed(package):
    if not package.installed():
        try:
            package.install()
        except ServerError as error:
            pytest.skip(f"{package.version} cannot be installed: {str(error)[:300]}")
    return package


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A bucket with sets/table/part-0 to 3.parquet, 1000 rows each."""
    package = installed(PYARROW)
    try:
        versitygw.TOOL.install()
    except ServerError as error:
        pytest.skip(f"versitygw cannot be installed: {str(error)[:300]}")
    if versitygw.Versitygw.missing():
        pytest.skip(versitygw.Versitygw.missing())
    root = tmp_path_factory.mktemp("buckets")
    table = root / "bucket/sets/table"
    table.mkdir(parents=True)
    subprocess.run([package.program, "-c", MAKE, table], check=True)
    with versitygw.Versitygw(root) as server:
        yield server


@pytest.fixture
def lake(prelux, store):
    keys = f", access_key: {store.access_key}, secret_key: {store.secret_key}}}"
    prelux.config(PAGE.config("arrow.config", {"https://s3.example.org\"}": f"{store.url}\"{keys}"}))
    return prelux


@pytest.mark.limit(200)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if "ray" in name else name for name in PAGE.names])
def test_row(lake, name, tmp_path):
    if name in BIG and not (RAY.installed() or os.environ.get("FULL")):
        pytest.skip("Ray is not installed (make full, or python3 -m tests.servers.pythons --install ray)")
    package = installed(RAY if name in BIG else PYARROW)
    # Ray's sockets have names of 107 bytes at most.
    replace = {"import ray\n": RAY_INIT.format(folder=str(lake.runtime / "ray"))} if "ray" in name else {}
    PAGE.run(lake, name, python=package.program, replace=replace, timeout=180, env={"RAY_DATA_DISABLE_PROGRESS_BARS": "1"})


def test_they_never_open_a_uri(lake, store):
    """The page says so: with a mapping of that very name nothing of it is asked for, and nothing is fetched."""
    text = lake.config_path.read_text().replace("/mnt/lake", "s3://bucket/sets")
    lake.config(text, name="uri.yaml")
    program = f"""
import os, pyarrow.dataset, pyarrow.fs
print(len(open("s3://bucket/sets/table/part-0.parquet", "rb").read()) > 1000)
store = pyarrow.fs.S3FileSystem(endpoint_override="{store.url}", access_key="{store.access_key}", secret_key="{store.secret_key}", region="us-east-1")
print(pyarrow.dataset.dataset("bucket/sets/table", filesystem=store).count_rows())
"""
    assert lake.run([PYARROW.program, "-c", program]).stdout == "True\n4000\n"
    states = [lake.cli("map", "--json", f"s3://bucket/sets/table/part-{part}.parquet")["state"] for part in range(4)]
    assert states == ["cached", "absent", "absent", "absent"]


def test_the_page():
    assert PAGE.syntax() == []
    assert PAGE.unchecked({}) == ([], [])
