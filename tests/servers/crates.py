"""Suites for file systems that others wrote in Rust, built from their published crates into .cache/NAME/bin, once.

  python3 -m tests.servers.crates --install       (a minute, 10 MB; needs cargo 1.85)

PJDFSTEST: what POSIX says of each call, errno by errno. FSX: random reads, writes, maps and truncations of one file, each read
compared with what must be there.  The registry is the machine's own affair.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from .base import Installation, ServerError, fetch_by

CACHE = Path(__file__).resolve().parent / ".cache"
TARGET = CACHE / "crates-target"
NEEDED = (1, 85)
SECONDS = 900
SEARCH_PATH = os.environ.get("PATH", "") + ":" + str(Path("~/.cargo/bin").expanduser())


class Crate(Installation):
    def __init__(self, name, version):
        super().__init__(CACHE / name, version, self._build, CACHE / name / "bin" / name)
        self.name = name

    def missing(self):
        """Why it cannot run here, or None."""
        return None if self.installed() else f"{self.name} is not installed (python3 -m tests.servers.crates --install)"

    def _build(self):
        # Quickly built rather than quick: what they wait for are calls. What both are made of is built once.
        env = {**os.environ, "CARGO_TARGET_DIR": str(TARGET), "CARGO_PROFILE_DEV_OPT_LEVEL": "0", "CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_INCREMENTAL": "0"}
        argv = [cargo(), "install", "--debug", "--locked", "--force", "--root", self.folder, "--version", self.version, self.name]
        fetch_by(argv, self.folder / "install.log", SECONDS, env)


def cargo():
    """Path of a cargo that is new enough."""
    own = shutil.which("cargo", path=SEARCH_PATH)
    if not own:
        raise ServerError("cargo is not installed (Debian 12: apt-get install cargo-web)")
    text = subprocess.run([own, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    found = re.search(r"cargo (\d+)\.(\d+)", text)
    if not found or (int(found[1]), int(found[2])) < NEEDED:
        raise ServerError(f"{own} is {text.strip() or 'of no version'}; {NEEDED[0]}.{NEEDED[1]} is needed (Debian 12: cargo-web)")
    return own


PJDFSTEST = Crate("pjdfstest", "0.2.2")
FSX = Crate("fsx", "0.3.2")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.crates", description="pjdfstest and fsx for tests")
    parser.add_argument("--install", action="store_true", required=True, help="build them into the cache and leave")
    parser.parse_args(argv)
    for crate in (PJDFSTEST, FSX):
        crate.install()
    shutil.rmtree(TARGET, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
