"""A real MinIO, by hand only: building it takes seven minutes, so no run of CI does.

  GOBIN=DIR go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c
  PRELUX_TEST_MINIO=DIR/minio python3 -m pytest tests/integration/test_contract.py -k minio
"""

import os
import urllib.request
from pathlib import Path

from tests.s3client import S3Client

from .base import LOOPBACK, Server, free_port, wait_for

NAMED_BY = "PRELUX_TEST_MINIO"


class Minio(Server):
    name = "minio"

    def __init__(self, folder=None, access_key="prelux-access", secret_key="prelux-secret"):
        super().__init__(folder)
        self.access_key, self.secret_key, self.region = access_key, secret_key, "us-east-1"
        self.port = None

    @classmethod
    def missing(cls):
        return None if os.access(os.environ.get(NAMED_BY, ""), os.X_OK) else f"by hand only: {NAMED_BY} names no MinIO"

    @property
    def url(self):
        return f"http://{LOOPBACK}:{self.port}"

    def bucket(self, name):
        """Make a bucket; where it keeps it, in a form of its own."""
        client = S3Client(self.url, self.access_key, self.secret_key)
        wait_for(lambda: client.request("PUT", f"/{name}")[0] in (200, 409), 30, "the bucket")  # it is "ready" before it is
        client.connection.close()
        return Path(self.folder / "data" / name)

    def configure(self):
        self.port = free_port()

    def commands(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith(("MINIO_", "AWS_"))}
        env.update(MINIO_ROOT_USER=self.access_key, MINIO_ROOT_PASSWORD=self.secret_key, MINIO_BROWSER="off", MINIO_UPDATE="off")
        return [("minio", [os.environ[NAMED_BY], "server", self.folder / "data", "--address", f"{LOOPBACK}:{self.port}", "--quiet"], env)]

    def ready(self):
        with urllib.request.urlopen(self.url + "/minio/health/ready", timeout=2) as answer:
            return answer.status == 200
