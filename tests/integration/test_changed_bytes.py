"""Bytes that are others when they arrive, once: where the remote has a checksum they are asked for, or sent, again, and no program sees anything of it."""

import contextlib
import hashlib
import urllib.parse

import pytest

from tests.integration.crash_rig import LOCAL, mapped, peek, remote_of
from tests.servers.chaosproxy import ChaosProxy

DATA = b"0123456789" * 20_000


@contextlib.contextmanager
def behind_proxy(prelux, kind, conf=None, **options):
    with remote_of(kind, prelux.tmp) as remote:
        parts = urllib.parse.urlsplit(remote.conf["endpoint"])
        with ChaosProxy(f"{parts.hostname}:{parts.port}") as proxy:
            mapped(prelux, remote, {"endpoint": parts._replace(netloc=urllib.parse.urlsplit(proxy.url).netloc).geturl(), **(conf or {})}, **options)
            yield remote, proxy


def first(method, name):
    """Of requests for that file the first one."""
    seen = []

    def whose(_, of, target):
        path, _, query = target.partition("?")
        if of == method and path.endswith(f"/{name}") and "comp=" not in query:
            seen.append(target)
            return len(seen) == 1
        return False

    return whose


# A listing of S3 does not say whether an ETag is an MD5: the answer with the bytes does, or a CRC comes with it, or a HEAD beside parts tells.
@pytest.mark.parametrize("kind, listed, conf, times", [
    ("versitygw", False, {}, 1), ("versitygw", True, {}, 1), ("versitygw", False, {"checksums": "off"}, 1), ("versitygw", True, {"checksums": "off"}, 1),
    ("versitygw", True, {}, 100), ("versitygw", True, {"checksums": "off"}, 100), ("azurite", False, {}, 1), ("azurite", True, {}, 1)])
def test_read(prelux, kind, listed, conf, times):
    with behind_proxy(prelux, kind, conf, freshness={"max_age": "1h"}) as (remote, proxy):
        data = DATA * times
        remote.write("f", data)
        if listed:
            prelux.run(["ls", "-l", LOCAL])
        proxy.chaos(["corrupt"], 1.0, 1, first("GET", "f"))
        assert prelux.run(["md5sum", f"{LOCAL}/f"]).stdout.split()[0] == hashlib.md5(data).hexdigest()
        assert proxy.harmed["corrupt"] == 1 and not prelux.errors()


@pytest.mark.parametrize("kind", ["versitygw", "azurite"])
def test_read_that_stays_wrong_is_refused(prelux, kind):
    with behind_proxy(prelux, kind) as (remote, proxy):
        remote.write("f", DATA)
        proxy.chaos(["corrupt"], 1.0, 1, lambda _, method, target: method == "GET" and target.partition("?")[0].endswith("/f"))
        done = prelux.run(["cat", f"{LOCAL}/f"], check=False)
        assert "Input/output error" in done.stderr and not done.stdout
        proxy.heal()
        assert prelux.run(["cat", f"{LOCAL}/f"]).stdout.encode() == DATA


@pytest.mark.parametrize("kind", ["versitygw", "azurite"])
def test_write(prelux, kind):
    with behind_proxy(prelux, kind, write="sync") as (remote, proxy):
        prelux.run(["ls", LOCAL])
        proxy.chaos(["upwards"], 1.0, 1, first("PUT", "g"))
        source = prelux.tmp / "source"
        source.write_bytes(DATA)
        prelux.run(["cp", source, f"{LOCAL}/g"])
        assert proxy.harmed["upwards"] == 1 and peek(remote, "g") == DATA
