"""A real `rclone serve s3`: the hostile S3.  It answers a Range with 200 and the part, and ignores If-Match.

  python3 -m tests.servers.rclone_s3 --install      build it into .cache/rclone (needs go; five minutes and more)
  python3 -m tests.servers.rclone_s3 --run DIR      serve DIR, whose folders are the buckets, until ctrl-C

Building takes too long for every run of CI: tests use it where it is installed, or where PRELUX_TEST_RCLONE names a binary
with `serve s3` (1.65 or later; Debian's 1.60 has none), and are skipped with a line elsewhere.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from .base import LOOPBACK, Server, free_port, port_open, run_by_hand
from .gotools import GoTool

TOOL = GoTool("rclone", "github.com/rclone/rclone", "v1.75.1", seconds=2400)
NAMED_BY = "PRELUX_TEST_RCLONE"


def binary():
    """Path of the rclone to use, or None."""
    named = os.environ.get(NAMED_BY)
    if named:
        return Path(named)
    return TOOL.binary if TOOL.installed() else None


class RcloneS3(Server):
    """root: the folder whose folders are buckets (default FOLDER/data)."""

    name = "rclone-s3"

    def __init__(self, root=None, folder=None, access_key="prelux-access", secret_key="prelux-secret"):
        super().__init__(folder)
        self.root = Path(root).absolute() if root else self.folder / "data"
        self.root.mkdir(parents=True, exist_ok=True)
        self.access_key, self.secret_key = access_key, secret_key
        self.region = "us-east-1"
        self.port = None

    @classmethod
    def missing(cls):
        program = binary()
        if not program:
            return f"rclone is not installed (python3 -m tests.servers.rclone_s3 --install, or {NAMED_BY}=PATH)"
        done = subprocess.run([program, "serve", "s3", "--help"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return None if "--auth-key" in done.stdout else f"{program} has no `serve s3`"

    @property
    def url(self):
        """The end point; a bucket's URL is URL/BUCKET."""
        return f"http://{LOOPBACK}:{self.port}"

    def bucket(self, name):
        """Make a bucket; its folder, in which a test may put files (keys are paths below it)."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def configure(self):
        self.port = free_port()

    def commands(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RCLONE_", "AWS_"))}
        argv = [binary(), "serve", "s3", self.root, "--addr", f"{LOOPBACK}:{self.port}", "--config", self.folder / "none.conf",
                "--cache-dir", self.folder / "cache", "--auth-key", f"{self.access_key},{self.secret_key}",
                "--dir-cache-time", "0s", "--vfs-cache-mode", "off"]
        return [("rclone", argv, env)]

    def ready(self):
        return port_open(self.port)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.rclone_s3", description="rclone serve s3 for tests")
    parser.add_argument("--install", action="store_true", help="build it into the cache and leave")
    parser.add_argument("--run", metavar="DIR", help="serve DIR")
    args = parser.parse_args(argv)
    if not args.install and not args.run:
        parser.error("--install or --run DIR")
    if args.install:
        TOOL.install()
    return 0 if not args.run else run_by_hand(RcloneS3(args.run), lambda it: f"{it.url} keys {it.access_key} {it.secret_key}")


if __name__ == "__main__":
    sys.exit(main())
