"""What tests of files that are read while they come in share: a bucket of versitygw behind a slow, breakable wire, and programs that tell what they got when."""

import contextlib
import hashlib
import random

import pytest

from tests.servers.base import ServerError
from tests.servers.faultproxy import FaultProxy
from tests.servers.versitygw import TOOL, Versitygw

LOCAL = "/prelux-stream"
MIB = 1 << 20


def content(size, seed=1):
    """Bytes without a zero among them: whoever sees one has read what has not come."""
    return random.Random(seed).randbytes(size).replace(b"\0", b"\1")


def md5(data):
    return hashlib.md5(data).hexdigest()


@contextlib.contextmanager
def bucket(prelux, **options):
    """prelux with a mapping at LOCAL of a bucket. .put(name, data), .wire: the proxy, .objects: "/data/"."""
    try:
        TOOL.install()
    except ServerError as error:
        pytest.skip(f"versitygw cannot be installed: {str(error)[:300]}")
    options = {"stream_above": "1", **options}
    options = {key: value for key, value in options.items() if value is not None}
    keys, top = options.pop("backend", {}), options.pop("top", {})
    server = Versitygw(folder=prelux.tmp / "gw")
    server.bucket("data")
    with contextlib.ExitStack() as stack:
        server.start()
        stack.callback(server.stop)
        wire = stack.enter_context(FaultProxy(server.url))
        prelux.config({"version": 1, "backends": {"src": {"type": "s3", "endpoint": wire.url, "bucket": "data", "access_key": server.access_key,
                                                         "secret_key": server.secret_key, **keys}},
                       "mappings": [{"local": LOCAL, "remote": "src:/", **options}], **top})
        prelux.wire, prelux.objects = wire, "/data/"
        prelux.put = lambda name, data: server.put("data", name, data)
        yield prelux
