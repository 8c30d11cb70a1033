"""safetensors, which Debian does not have: the wheel of PyPI, fetched once by pip into .cache/safetensors.

  python3 -m tests.servers.safetensors --install      (a few seconds, 2 MB; needs python3-pip)

PATH is what PYTHONPATH needs.  No server, but installed as these are.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from .base import ServerError, installing

VERSION = "0.5.3"
INSTALL_SECONDS = 300
CACHE = Path(__file__).resolve().parent / ".cache" / "safetensors"
PATH = CACHE / "packages"


def installed():
    """True when this version is in the cache, all of it."""
    stamp = CACHE / "installed"
    return stamp.is_file() and stamp.read_text() == VERSION


def install():
    """pip, once; registry and proxies are the machine's own affair."""
    if not installed():
        with installing(CACHE):
            _install()


def _install():
    if installed():
        return
    log = CACHE / "install.log"
    argv = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary=:all:", "--upgrade", "--target", PATH, f"safetensors=={VERSION}"]
    with open(log, "wb") as out:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise ServerError(f"pip failed; the end of {log}:\n" + log.read_text(errors="replace")[-3000:])
    (CACHE / "installed").write_text(VERSION)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.safetensors", description="safetensors for tests")
    parser.add_argument("--install", action="store_true", required=True, help="fetch it into the cache and leave")
    parser.parse_args(argv)
    install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
