"""Writing to a real Azurite through a proxy that loses requests and answers, before and after the work is done.

The rule: 0 is done; -EUNKNOWN may be either; any other error has changed nothing. What is harmless when done twice is sent again.
"""

import base64
import errno as E
import hashlib
import itertools
import threading
import time

import pytest

from tests.integration.azure_rig import DATA, StandIn, Tokens, account, stand_in_conf  # noqa: F401  account is a fixture
from tests.integration.contract_azure import AzureRemote
from tests.integration.contract_rig import MIB, UNKNOWN, Client
from tests.servers.faultproxy import FaultProxy

pytestmark = [pytest.mark.asan]
BUSY = {"x-ms-error-code": "ServerBusy", "Retry-After": "0"}
BEFORE = {"500": {"status": 500}, "502": {"status": 502}, "no answer": {"close_unanswered": True}}
REFUSED = {"busy": {"status": 503, "fields": BUSY}, "too many": {"status": 429}}
AFTER = {"500": {"status": 500, "done": True}, "503": {"status": 503, "done": True}, "reset": {"reset_after": 0}, "cut": {"close_after": 10}}


class HookedProxy(FaultProxy):
    """hook(method, target) sees each request before the server does."""

    def __init__(self, upstream):
        super().__init__(upstream)
        self.hook = lambda method, target: None

    def _take_fault(self, method, target, fields):
        self.hook(method, target)
        return super()._take_fault(method, target, fields)


class Place:
    """A container behind a proxy, with blobs `f` and `other`, and a client."""

    def __init__(self, server, tmp):
        self.remote = AzureRemote(tmp, server)
        self.remote.write("f", b"old")
        self.remote.write("other", b"other")
        self.proxy = HookedProxy(server.url)
        self.proxy.start()
        self.remote.conf = {**self.remote.conf, "endpoint": f"{self.proxy.url}/{server.account}"}
        self.base = f"/{server.account}/{self.remote.container}/"
        self.client = Client(self.remote, self.remote.container)
        self.token, self.tags, self.new = None, None, b""

    def close(self):
        if self.client:
            self.client.close()
            self.proxy.stop()
        self.client = None


@pytest.fixture
def places(account, tmp_path):  # noqa: F811
    made = []

    def make():
        made.append(Place(account, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def begin(place):
    place.new = b"n" * (MIB + 5)
    place.token, place.tags = place.client.upload("f", place.new, MIB)


def put(place, data=b"new", path="f", **more):
    place.new = data
    return place.client.put(path, data, **more)


def is_new(place):
    return place.remote.content("f") == place.new


# name: (what of the target is hit, method, harmless, what comes of a lost answer, call, is it done?, made ready by)
OPS = {
    "put": ("f", "PUT", False, UNKNOWN, put, is_new, None),
    "put over a version": ("f", "PUT", True, UNKNOWN, lambda p: put(p, if_version=p.version), is_new, None),
    "put where nothing is": ("g", "PUT", True, UNKNOWN, lambda p: p.client.put("g", b"new", absent=True),
                             lambda p: b"g" in p.remote.objects(), None),
    "large put, a block": ("f?comp=block&", "PUT", True, 0, lambda p: put(p, b"x" * (9 * MIB)), is_new, None),
    "large put, the list": ("f?comp=blocklist", "PUT", True, 0, lambda p: put(p, b"x" * (9 * MIB)), is_new, None),
    "begin": ("f?comp=block&", "PUT", True, 0, lambda p: p.client("begin", "f", part_size=MIB), lambda p: len(p.remote.blocks("f")) > 0, None),
    "part": ("f?comp=block&", "PUT", True, 0, lambda p: p.client("part", "f", token=p.token, n=2, len=5, **{"from": p.client.source(b"12345")}),
             lambda p: len(p.remote.blocks("f")) == 4, begin),
    "complete": ("f?comp=blocklist", "PUT", True, 0, lambda p: p.client("complete", "f", token=p.token, tags=p.tags, size=len(p.new)), is_new, begin),
    "complete over a version": ("f?comp=blocklist", "PUT", True, 0,
                                lambda p: p.client("complete", "f", token=p.token, tags=p.tags, size=len(p.new), if_version=p.version),
                                is_new, begin),
    "abort": ("f?comp=block&", "PUT", True, 0, lambda p: p.client("abort", "f", token=p.token),
              lambda p: any(block[3:4] == b"X" for block in p.remote.blocks("f")), begin),
    "remove": ("f", "DELETE", True, UNKNOWN, lambda p: p.client("remove", "f"), lambda p: b"f" not in p.remote.objects(), None),
    "remove a version": ("f", "DELETE", True, UNKNOWN, lambda p: p.client("remove", "f", if_version=p.version),
                         lambda p: b"f" not in p.remote.objects(), None),
    "mkdir": ("d", "PUT", True, UNKNOWN, lambda p: p.client("mkdir", "d"), lambda p: p.remote.objects().get(b"d", 1) is None, None),
    "rmdir": ("d", "DELETE", True, UNKNOWN, lambda p: p.client("rmdir", "d"), lambda p: b"d" not in p.remote.objects(),
              lambda p: p.client("mkdir", "d")),
    "set_attr": ("f?comp=metadata", "PUT", True, UNKNOWN, lambda p: p.client("set_attr", "f", mode=0o600),
                 lambda p: p.client("stat", "f")["mode"] == 0o600, None),
    "copy": ("g", "PUT", False, UNKNOWN, lambda p: p.client.copy("f", "g"), lambda p: p.remote.objects().get(b"g") == b"old", None),
    "copy where nothing is": ("g", "PUT", True, UNKNOWN, lambda p: p.client.copy("f", "g", absent=True), lambda p: b"g" in p.remote.objects(), None),
    "rename, the copy": ("g", "PUT", False, UNKNOWN, lambda p: p.client.rename("f", "g"), lambda p: b"g" in p.remote.objects(), None),
    "rename, the removal": ("f", "DELETE", True, 0, lambda p: p.client.rename("f", "g"), lambda p: b"f" not in p.remote.objects(), None),
}


def prepared(place, make_ready):
    place.version = place.client.version("f")
    if make_ready:
        make_ready(place)


@pytest.mark.limit(300)
@pytest.mark.parametrize("name", OPS)
def test_one_fault(places, name):
    target, method, harmless, lost, call, done, make_ready = OPS[name]
    place = None
    rows = [(when, *one) for when, faults in (("before", BEFORE), ("refused", REFUSED), ("after", AFTER)) for one in faults.items()]
    for when, fault, fields in rows:
        if place:
            place.close()
        place = places()
        prepared(place, make_ready)
        place.proxy.fault(place.base + target, method=method, times=1, **fields)
        rc = call(place)["rc"]
        wanted = {"before": 0 if harmless else UNKNOWN, "refused": 0, "after": lost}[when]
        assert (rc, done(place)) == (wanted, when != "before" or harmless), (name, when, fault)
        if name.startswith("rename") and rc == 0:
            assert place.remote.objects() == {b"g": b"old", b"other": b"other"}


@pytest.mark.parametrize("name", OPS)
def test_a_server_that_is_not_there_or_busy_for_ever(places, name):
    """An error, and nothing has changed."""
    target, method, _, _, call, done, make_ready = OPS[name]
    place = places()
    prepared(place, make_ready)
    before = place.remote.objects()
    place.proxy.fault(place.base + target, method=method, status=503, fields=BUSY)
    rc = call(place)["rc"]
    assert rc == -E.EIO and place.remote.objects() == before and not done(place)
    place.proxy.heal()
    place.proxy.down()
    rc = call(place)["rc"]
    place.proxy.up()
    assert rc == -E.EIO and place.remote.objects() == before and not done(place)


@pytest.mark.parametrize("name", ["put", "put over a version", "complete", "remove"])
def test_500_for_ever(places, name):
    target, method, _, _, call, done, make_ready = OPS[name]
    place = places()
    prepared(place, make_ready)
    place.proxy.fault(place.base + target, method=method, status=500)
    assert call(place)["rc"] == UNKNOWN and not done(place)
    place.proxy.heal()
    assert call(place)["rc"] == 0 and done(place)


@pytest.mark.waits
@pytest.mark.slow
@pytest.mark.limit(300)
def test_no_answer_in_time(places):
    """The work is done, the answer never comes."""
    place = places()
    place.proxy.fault(place.base + "f", method="PUT", stall_after=0, times=1)
    assert put(place)["rc"] == UNKNOWN and is_new(place)
    begin(place)
    place.proxy.fault(place.base + "f?comp=blocklist", method="PUT", stall_after=0, times=1)
    assert OPS["complete"][4](place)["rc"] == 0 and is_new(place)


def test_a_connection_that_ends_within_the_body(places):
    place = places()
    place.proxy.fault(place.base + "f", method="PUT", close_unanswered=True)
    assert put(place, b"x" * (6 * MIB))["rc"] == UNKNOWN and place.remote.content("f") == b"old"
    place.proxy.heal()
    assert put(place, b"x" * (6 * MIB))["rc"] == 0 and is_new(place)


def test_a_source_that_changes_during_a_rename(places):
    """Between the copy and the removal: the copy is made again, nothing of the other's is lost."""
    place = places()
    others = iter([b"by somebody else", b"twice"])

    def hook(method, target):
        if method == "DELETE":
            if (data := next(others, None)) is not None:
                place.remote.write("f", data)

    place.proxy.hook = hook
    assert place.client.rename("f", "g")["rc"] == 0
    assert place.remote.objects() == {b"g": b"twice", b"other": b"other"}


def test_a_target_that_changes_during_a_rename(places):
    """The first copy was replaced by somebody else's: theirs stays, and we say that we do not know."""
    place = places()
    hits = itertools.count()

    def hook(method, target):
        if method == "DELETE" and next(hits) == 0:
            place.remote.write("f", b"source, newer")
            place.remote.write("g", b"theirs")

    place.proxy.hook = hook
    assert place.client.rename("f", "g")["rc"] == UNKNOWN
    assert place.remote.objects() == {b"f": b"source, newer", b"g": b"theirs", b"other": b"other"}


def test_a_source_that_changes_during_a_copy(places):
    place = places()
    hits = itertools.count()

    def hook(method, target):
        if method == "PUT" and next(hits) % 2 == 0:
            place.remote.write("f", b"newer")

    place.proxy.hook = hook
    answer = place.client.copy("f", "g", source_version=place.client.version("f"))
    assert answer["rc"] == -E.ESTALE and b"g" not in place.remote.objects()
    assert place.client.copy("f", "g")["rc"] in (0, -E.ESTALE)
    hits = itertools.count(1)
    assert place.client.copy("f", "g")["rc"] == 0 and place.remote.content("g") == b"newer"


def test_others_that_write_all_the_time(places):
    """Whoever may remove any version does not go on for ever."""
    place = places()
    lock = threading.Lock()

    def hook(method, target):
        with lock:
            if method in ("DELETE", "PUT"):
                place.remote.write("f", b"again")

    place.proxy.hook = hook
    assert place.client("remove", "f")["rc"] == -E.EBUSY
    assert place.client("set_attr", "f", mode=0o600)["rc"] == -E.EBUSY
    assert place.remote.content("f") == b"again"


# Tokens that have expired, on a stand-in

def test_an_expired_token_is_renewed_and_the_body_sent_again(tmp_path):
    tokens, stored = Tokens(), []

    def answer(method, target, fields, body):
        if not tokens.likes(fields):
            return 401, {"x-ms-error-code": "InvalidAuthenticationInfo"}, b""
        if method == "PUT":
            assert fields["content-md5"] == base64.b64encode(hashlib.md5(body).digest()).decode()
            stored.append((target, body))
            return 201, {"ETag": f'"0x{len(stored)}"'}, b""
        if "comp=list" in target:
            return 200, {}, b"<EnumerationResults><Blobs/></EnumerationResults>"
        return 404, {"x-ms-error-code": "BlobNotFound"}, b""

    with StandIn(tokens.answer) as service, StandIn(answer) as store:
        class Place:
            conf, tmp, steps = stand_in_conf(store, managed_identity=True), tmp_path, {}

        Client.launcher, before = ("/usr/bin/env", f"AZURE_POD_IDENTITY_AUTHORITY_HOST={service.url}"), Client.launcher
        try:
            client = Client(Place, "tool")
        finally:
            Client.launcher = before
        assert client.put("f", DATA)["rc"] == 0 and len(tokens.given) == 1
        tokens.valid.clear()
        time.sleep(5.1)  # one that is younger is not asked for anew
        answer = client.put("g", 2 * DATA, absent=True)
        assert answer["rc"] == 0 and answer["version"] == "e:0x2" and len(tokens.given) == 2
        assert [body for _, body in stored] == [DATA, 2 * DATA]
        client.close()
