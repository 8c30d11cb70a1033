"""Python packages for programs under test and peers, each set in a venv of its own in .cache: what Debian does not have, or not as new.

  python3 -m tests.servers.pythons --install            (alluxiofs, alluxio, pyarrow, pandas, duckdb, zarr, netCDF4, kubernetes-validate: a minute, 700 MB; needs python3-venv)
  python3 -m tests.servers.pythons --install ray        (Ray: a minute, 620 MB; for `make full`)
  python3 -m tests.servers.pythons --install learning tfrecord   (Hugging Face's datasets, a reader of tf-records: half a minute, 450 MB; for `make full`)

    if ALLUXIOFS.installed(): run([ALLUXIOFS.program, "-c", "import alluxiofs"])

No servers, but installed as these are.
"""

import argparse
import sys
from pathlib import Path

from .base import Installation, fetch_by

CACHE = Path(__file__).resolve().parent / ".cache"
INSTALL_SECONDS = 600
# What the packages ask for without a version comes as the registry has it; these are what tests are about.
SETS = {"alluxiofs": ["alluxiofs==1.1.17"], "alluxio-api": ["alluxio==0.1.2", "--no-binary=alluxio"], "pyarrow": ["pyarrow==26.0.1", "pandas==3.1.1", "numpy==2.4.6"],
        "arrays": ["duckdb==2.0.0", "zarr==3.1.6", "netCDF4==1.7.5.1.post1"],
        "learning": ["datasets==5.2.0", "pyarrow==26.0.1", "pandas==3.1.1", "numpy==2.4.6"],
        "tfrecord": ["tfrecord==1.14.4", "protobuf==3.20.3"],
        "kubernetes": ["kubernetes-validate==1.37.0"],
        "ray": ["ray[data]==2.60.0", "pyarrow==26.0.1", "pandas==3.1.1", "numpy==2.4.6"]}
BESIDE = ("tfrecord",)  # see what the machine has: PyTorch and NumPy are python3-torch and its own
BY_DEFAULT = ("alluxiofs", "alluxio-api", "pyarrow", "arrays", "kubernetes")


def _venv(name):
    """pip's registry and proxies are the machine's own affair."""
    folder = CACHE / name
    python = folder / "venv" / "bin" / "python3"

    def fetch():
        fetch_by(["/usr/bin/python3", "-m", "venv", "--clear", *(["--system-site-packages"] if name in BESIDE else []), folder / "venv"], folder / "venv.log", INSTALL_SECONDS)
        argv = [python, "-m", "pip", "install", "--disable-pip-version-check", "--only-binary=:all:", *SETS[name]]
        fetch_by(argv, folder / "install.log", INSTALL_SECONDS)

    return Installation(folder, " ".join(SETS[name]), fetch, python)


ALL = {name: _venv(name) for name in SETS}
ALLUXIOFS, ALLUXIO_API, PYARROW, RAY, ARRAYS, LEARNING, TFRECORD = (ALL[name] for name in ("alluxiofs", "alluxio-api", "pyarrow", "ray", "arrays", "learning", "tfrecord"))
KUBERNETES = ALL["kubernetes"]


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.pythons", description="Python packages for tests")
    parser.add_argument("--install", nargs="*", choices=sorted(SETS), metavar="SET", required=True,
                        help="fetch these into the cache and leave; default: " + " ".join(BY_DEFAULT))
    for name in parser.parse_args(argv).install or BY_DEFAULT:
        ALL[name].install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
