"""A real versitygw: S3 over a folder, strict about signatures, conditions and multipart uploads.

  python3 -m tests.servers.versitygw --install      build it into .cache/versitygw (needs go; minutes, 90 MB)
  python3 -m tests.servers.versitygw --run DIR      serve DIR, whose folders are the buckets, until ctrl-C

What surprises (1.8.0): a wrong access key is 404 XAdminUserNotFound, not 403; a `Range: bytes=5-2` and two ranges are 200 with
everything; the key `a//b` becomes `a/b`; `fd` beside `fd/x` is 409.  The region of a signature is not checked.  A file put into the folder from behind has no ETag.
"""

import argparse
import os
import sys
import urllib.request
from pathlib import Path

from tests.s3client import S3Client

from .base import LOOPBACK, Server, free_port, run_by_hand
from .gotools import GoTool

TOOL = GoTool("versitygw", "github.com/versity/versitygw/cmd/versitygw", "v1.8.0", seconds=900)
HEALTH = "/prelux-health"


class Versitygw(Server):
    """root: the folder whose folders are buckets (default FOLDER/data).  keep_alive: without it each answer ends its connection.
    access_key, secret_key: of the root account, which may do everything.
    """

    name = "versitygw"

    def __init__(self, root=None, folder=None, access_key="prelux-access", secret_key="prelux-secret/+=", keep_alive=True):
        super().__init__(folder)
        self.root = Path(root).absolute() if root else self.folder / "data"
        self.root.mkdir(parents=True, exist_ok=True)
        self.access_key, self.secret_key, self.keep_alive = access_key, secret_key, keep_alive
        self.region = "us-east-1"
        self.port = None

    @classmethod
    def missing(cls):
        return None if TOOL.installed() else "versitygw is not installed (python3 -m tests.servers.versitygw --install)"

    @property
    def url(self):
        """The end point; a bucket's URL is URL/BUCKET."""
        return f"http://{LOOPBACK}:{self.port}"

    def bucket(self, name):
        """Make a bucket; its folder, in which a test may put files (keys are paths below it)."""
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def put(self, bucket, key, data):
        """Put an object as a client does, so that it has an ETag; the ETag."""
        client = S3Client(self.url, self.access_key, self.secret_key)
        try:
            return client.put(bucket, key, data)
        finally:
            client.connection.close()

    def configure(self):
        self.port = free_port()

    def commands(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("VGW_", "ROOT_", "AWS_"))}
        env.update(ROOT_ACCESS_KEY=self.access_key, ROOT_SECRET_KEY=self.secret_key)
        argv = [TOOL.binary, "--port", f"{LOOPBACK}:{self.port}", "--region", self.region, "--health", HEALTH]
        argv += ["--keep-alive"] if self.keep_alive else []
        return [("versitygw", [*argv, "posix", self.root], env)]

    def ready(self):
        with urllib.request.urlopen(self.url + HEALTH, timeout=2) as answer:
            return answer.status == 200


def main(argv=None):
    parser = argparse.ArgumentParser(prog="tests.servers.versitygw", description="versitygw for tests")
    parser.add_argument("--install", action="store_true", help="build it into the cache and leave")
    parser.add_argument("--run", metavar="DIR", help="serve DIR")
    args = parser.parse_args(argv)
    if not args.install and not args.run:
        parser.error("--install or --run DIR")
    TOOL.install()
    if not args.run:
        return 0
    return run_by_hand(Versitygw(args.run), lambda it: f"{it.url} keys {it.access_key} {it.secret_key}")


if __name__ == "__main__":
    sys.exit(main())
