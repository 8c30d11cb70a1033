"""Programs in Go, built from their published modules into .cache/NAME/bin, once.

The module proxy and everything else that Go reads from its environment is the machine's own affair.  A Go that is too old
(Debian 12 has 1.19) is enough to fetch a newer one, which is published as a module, too.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .base import Installation, ServerError, fetch_by

CACHE = Path(__file__).resolve().parent / ".cache"
NEEDED = (1, 25)
TOOLCHAIN = "golang.org/toolchain@v0.0.1-go1.25.5.linux-amd64"
SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/local/go/bin"


class GoTool(Installation):
    """module: path of the command's package.  version: "v1.2.3"."""

    def __init__(self, name, module, version, seconds):
        super().__init__(CACHE / name, version, self._build, CACHE / name / "bin" / name)
        self.name, self.module, self.seconds = name, module, seconds

    @property
    def binary(self):
        return self.program

    def _build(self):
        # CGO off: no C compiler's headers are needed, and the program runs everywhere.
        env = {**os.environ, "GOBIN": str(self.folder / "bin"), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
        fetch_by([go(), "install", "-ldflags=-s -w", f"{self.module}@{self.version}"], self.folder / "install.log", self.seconds, env)


def go():
    """Path of a Go that is new enough."""
    own = shutil.which("go", path=SEARCH_PATH)
    if not own:
        raise ServerError("go is not installed (Debian: apt-get install golang-go)")
    if _version(own) >= NEEDED:
        return own
    return str(_toolchain(own))


def _version(program):
    text = subprocess.run([program, "version"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout
    found = re.search(r"go(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def _toolchain(own):
    """The newer Go, fetched by the old one into the cache.  Modules carry no x bits."""
    modules = CACHE / "go"
    root = modules / TOOLCHAIN
    program = root / "bin" / "go"
    if not os.access(program, os.X_OK):
        (CACHE / "go").mkdir(parents=True, exist_ok=True)
        env = {**os.environ, "GOMODCACHE": str(modules), "GOFLAGS": "-modcacherw"}
        fetch_by([own, "mod", "download", TOOLCHAIN], modules / "install.log", 600, env, modules)
        for path in [*(root / "pkg" / "tool").rglob("*"), *(root / "bin").iterdir()]:
            if path.is_file():
                path.chmod(0o755)
    return program
