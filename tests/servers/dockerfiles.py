"""What is wrong with a Dockerfile, by the checks of an editor's language server (npm: dockerfile-utils). No server, and no Docker.

  python3 -m tests.servers.dockerfiles --install       (needs npm; a second, 1 MB)
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path

from .base import Installation, fetch_npm

CACHE = Path(__file__).resolve().parent / ".cache" / "dockerfiles"
PACKAGES = {"dockerfile-utils": "0.16.3"}
CHECKS = Installation(CACHE, " ".join(PACKAGES.values()), partial(fetch_npm, CACHE, PACKAGES), CACHE / "node_modules/dockerfile-utils/package.json")
SCRIPT = """
const text = require("fs").readFileSync(process.argv[1], "utf8");
for (const found of require("dockerfile-utils").validate(text)) console.log(`${found.range.start.line + 1}: ${found.message}`);
"""


def complaints(path):
    """A line for each; "" when there is nothing wrong."""
    done = subprocess.run(["node", "-e", SCRIPT, path], cwd=CACHE, capture_output=True, text=True)
    return done.stdout + done.stderr or ("" if done.returncode == 0 else f"status {done.returncode}")


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.dockerfiles", description="Checks of Dockerfiles")
    parser.add_argument("--install", action="store_true", required=True, help="fetch them into the cache and leave")
    parser.parse_args(argv)
    CHECKS.install()
    return 0


if __name__ == "__main__":
    sys.exit(main())
