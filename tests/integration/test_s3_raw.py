"""Backend s3 alone, driven by backend_tool: against a stand-in that checks signatures and lies on demand, and stand-ins for the
places keys come from.  The rule for every lie: an error or the right bytes and names, never wrong ones."""

import email.utils
import json
import os
import time

import pytest

from tests import harness
from tests.integration.backends_raw_rig import EACCES, EIO, ENOENT, ENOTDIR, EOPNOTSUPP, EPROTO, ESTALE, TOOL, Tool
from tests.servers.s3standin import HttpStandin, KeysStandin, S3Standin

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]

NAMES = [b"plain", b"a b", b"a+b", b"100%", b"%41", b"a?b", b"a#b", b"a&b=c;d", b"q'uo\"te", b"<x>", b"back\\slash", b"new\nline",
         b"\xff\xfe", "é中🜚".encode(), b"\x01\x7f", b"a:b", b"~t", b"-", b"...", b" lead", b"trail ", b"*", b"k" * 255, b"a\tb"]


class S3Tool(Tool):
    """With variables in the environment of the configuration."""

    def __init__(self, folder, env=None, **conf):
        clean = harness.clean_environment

        def with_ours():
            return {**clean(), "HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", **(env or {})}

        harness.clean_environment = with_ours
        try:
            super().__init__(folder, type="s3", **conf)
        finally:
            harness.clean_environment = clean


@pytest.fixture
def s3(tmp_path):
    with S3Standin(keys={"AK": ("secret/+", None)}) as server:
        yield server


@pytest.fixture
def tool(tmp_path):
    made = []

    def make(server, env=None, **conf):
        conf = {"endpoint": server.url, "bucket": "data", **conf}
        if env is None and "profile" not in conf and "anonymous" not in conf:
            conf = {"access_key": "AK", "secret_key": "secret/+", **conf}
        made.append(S3Tool(tmp_path / f"tool{len(made)}", env, **{name: value for name, value in conf.items() if value is not None}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def same_everywhere(one, names):
    """stat agrees with the listing, and the bytes are right."""
    for name, row in one.names().items():
        seen = one("stat", name)
        assert seen["rc"] == 0 and seen["type"] == row["type"], (name, seen)
        if row["type"] == "file":
            assert (seen["size"], seen["version"], seen["mtime_ns"]) == (row["size"], row["version"], row["mtime_ns"])
            assert one.read(name)[1] == names[name]


# Names and keys

@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("prefix", [None, "pre fix+%/über"])
def test_names_byte_for_byte(s3, tool, virtual, prefix):
    base = prefix.encode() + b"/" if prefix else b""
    want = {}
    for number, name in enumerate(NAMES):
        want[name] = b"%d" % number * (number * 700)
        s3.put(base + name, want[name])
        s3.put(base + b"sub/" + name, name)
    s3.put(b"outside", b"x")
    endpoint = s3.url.replace("127.0.0.1", "localhost") if virtual else s3.url
    one = tool(s3, endpoint=endpoint, path_style=False if virtual else None, prefix=prefix)
    assert set(one.names()) == set(NAMES) | {b"sub"} | (set() if prefix else {b"outside"})
    if not prefix:
        want[b"outside"] = b"x"
    same_everywhere(one, want)
    assert set(one.names("sub")) == set(NAMES)
    for name in NAMES:
        assert one.read(b"sub/" + name)[1] == name
    hosts = {seen.fields["host"] for seen in s3.requests()}
    assert hosts == {f"data.localhost:{s3.port}" if virtual else f"127.0.0.1:{s3.port}"}


def test_no_dot_segment_is_ever_sent(s3, tool):
    s3.put(b"../up", b"no")
    s3.put(b"a/./b", b"no")
    s3.put(b"a//b", b"no")
    s3.put(b"a/c", b"c")
    one = tool(s3)
    assert set(one.names("a")) == {b"c", b".", b""}  # the store drops the last two, with a line
    one("stat", "...")
    assert not any(part in (".", "..") for seen in s3.requests() for part in seen.path.split("/"))


def test_object_and_folder_of_one_name(s3, tool):
    s3.put("a", b"bytes")
    s3.put("a.txt", b"between")
    s3.put("a/b", b"below")
    s3.put("e", b"")
    s3.put("e/f", b"below")
    s3.put("m/", b"")       # a marker
    s3.put("n/", b"bytes")  # one with bytes
    for page in (1, 2, 1000):
        s3.page = page
        one = tool(s3)
        rows = one.names()
        assert {name: row["type"] for name, row in rows.items() if name != b"e"} == \
            {b"a": "file", b"a.txt": "file", b"m": "dir", b"n": "dir"}
        assert b"e" in rows  # twice, as object and as folder: the store keeps the folder
        assert one("stat", "a")["type"] == "file" and one.read("a")[1] == b"bytes"
        assert one.read("a/b")[1] == b"below"
        for folder in ("e", "m", "n"):
            assert one("stat", folder)["type"] == "dir", folder
        assert one.names("m") == {} and one.names("n") == {} and set(one.names("e")) == {b"f"}
    assert one("list", "a.txt")["rc"] == -ENOTDIR
    assert one("list", "nothing")["rc"] == -ENOENT
    assert one("stat", "nothing")["rc"] == -ENOENT


def test_requests_of_a_cold_file_and_of_nothing(s3, tool):
    s3.put("d/x", b"x" * 100)
    one = tool(s3)
    assert one("stat", "d")["type"] == "dir"
    s3.forget_requests()
    assert one.read("d/x")[1] == b"x" * 100
    assert [seen.method for seen in s3.requests()] == ["HEAD", "GET"]
    s3.forget_requests()
    row = one.names("d")[b"x"]
    assert one.read("d/x", expect={"size": row["size"], "version": row["version"]})[1] == b"x" * 100
    assert len(s3.requests()) == 2
    s3.forget_requests()
    assert one("stat", "nothing")["rc"] == -ENOENT
    assert len(s3.requests()) == 2


# Listings

def test_many_names_in_pages(s3, tool):
    for number in range(12_345):
        s3.put(f"many/{number:05}", b"x")
        if number % 100 == 0:
            s3.put(f"many/{number:05}-folder/x", b"x")
    one = tool(s3)
    rows = one.names("many")
    assert len(rows) == 12_345 + 124 and rows[b"12300-folder"]["type"] == "dir"
    assert s3.count("/data") >= 13


@pytest.mark.parametrize("lie", ["no-token", "unsorted", "empty-pages", "no-start-after", "start-after-nothing"])
def test_odd_listings_are_whole(s3, tool, lie):
    for number in range(50):
        s3.put(f"f{number:02}", b"x")
        s3.put(f"g{number:02}/x", b"x")
    s3.page = 7
    s3.lie.add(lie)
    one = tool(s3)
    assert len(one.names()) == 100
    assert one("stat", "g07")["type"] == "dir"
    assert one("stat", "g0")["rc"] == -ENOENT


@pytest.mark.parametrize("lie", ["repeat-page", "loop-token", "dtd", "cut", "foreign-key", "no-delimiter", "error-page"])
def test_lying_listings(s3, tool, lie):
    for number in range(50):
        s3.put(f"d/f{number:02}/x", b"x")
    s3.page = 7
    s3.lie.add(lie)
    one = tool(s3)
    begin = time.monotonic()
    answer = one("list", "d")
    assert answer["rc"] == -EPROTO and "LIST" in answer["why"], answer
    assert time.monotonic() - begin < 60


def test_names_that_a_server_cannot_say_are_left_out(s3, tool):
    s3.lie.add("plain-names")
    for name in (b"good", b"bad\xff", b"bad\x01", b"d/x"):
        s3.put(name, name)
    one = tool(s3)
    assert set(one.names()) == {b"good", b"d", b""}  # "" tells the store that the listing is not all there is
    assert one.read(b"bad\xff")[1] == b"bad\xff"  # by its name it can be had


# Reading

@pytest.mark.parametrize("lie", [None, "range-200", "ignore-if-match"])
def test_parts(s3, tool, lie):
    body = os.urandom(100_000)
    s3.put("x", body)
    if lie:
        s3.lie.add(lie)
    one = tool(s3)
    for off, length in ((0, 100_000), (0, 1), (99_999, 1), (10, 5000), (50_000, 50_000)):
        assert one.read("x", off=off, len=length)[1] == body[off:off + length]


@pytest.mark.parametrize("lie", [None, "ignore-if-match", "range-200"])
@pytest.mark.parametrize("part", [None, (10, 100)])
def test_changed_object_is_stale_before_a_byte_is_taken(s3, tool, lie, part):
    s3.put("x", b"a" * 1000)
    one = tool(s3)
    old = one("stat", "x")
    s3.put("x", b"b" * 1000, modified=1_700_000_100)
    s3.lie.update({"ignore-if-match"} if lie == "range-200" else set(), {lie} if lie else set())
    more = {"off": part[0], "len": part[1]} if part else {}
    rc, _, answer = one.read("x", expect={"size": 1000, "version": old["version"]}, **more)
    assert rc == -ESTALE, answer
    assert one.read("x")[1] == b"b" * 1000


def test_a_length_of_another_version(s3, tool):
    """What HEAD and GET tell of one version does not agree: a server that is replacing the object says so once or twice, a liar goes on."""
    s3.put("x", b"a" * 1000)
    one = tool(s3)
    odd = {"size": 990, "version": one("stat", "x")["version"]}
    for rc in (-ESTALE, -ESTALE, -ESTALE, -EPROTO, -EPROTO):
        assert one.read("x", expect=odd)[0] == rc
    assert one.read("x", expect={**odd, "size": 980})[0] == -ESTALE
    assert one.read("x", expect={**odd, "size": 1000})[1] == b"a" * 1000


def test_shorter_and_gone_objects(s3, tool):
    s3.put("x", b"a" * 1000)
    one = tool(s3)
    old = one("stat", "x")
    expect = {"size": 1000, "version": old["version"]}
    s3.put("x", b"a" * 10)
    s3.lie.add("ignore-if-match")
    assert one.read("x", expect=expect, off=500, len=10)[0] == -ESTALE
    del s3.objects[b"x"]
    assert one.read("x", expect=expect)[0] == -ENOENT


def test_wrong_range(s3, tool):
    s3.put("x", b"a" * 1000)
    s3.lie.add("wrong-range")
    one = tool(s3)
    assert one.read("x", off=10, len=10)[0] == -EPROTO


@pytest.mark.parametrize("etag, fields, md5", [
    (None, {}, True), (None, {"x-amz-server-side-encryption": "AES256"}, True),
    (None, {"x-amz-server-side-encryption": "aws:kms"}, False), (None, {"x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
    (None, {"x-oss-object-type": "Appendable"}, False), (None, {"x-amz-storage-class": "EXPRESS_ONEZONE"}, False),
    ('"0123456789abcdef0123456789abcdef-2"', {}, False), ('"0123456789ABCDEF0123456789abcdeg"', {}, False), ("plain", {}, False), ("", {}, False),
    ('W/"x"', {}, False), ("(len:5, modtime:1795258142460)", {}, False)])
def test_versions_and_md5(s3, tool, etag, fields, md5):
    s3.put("x", b"hello", etag=etag, fields=fields)
    one = tool(s3)
    seen = one("stat", "x")
    assert bool(seen["md5"]) == md5 and (not md5 or seen["md5"] == "5d41402abc4b2a76b9719d911017c592")
    assert seen["version"] and one.names()[b"x"]["version"] == seen["version"]
    assert one.read("x")[1] == b"hello"
    assert tool(s3, etag_md5="off")("stat", "x")["md5"] == ""


def test_slow_down_is_waited_for(s3, tool):
    s3.put("x", b"hello")
    s3.lie.add("slow-down-2")
    assert tool(s3).read("x")[1] == b"hello"


class Busy(S3Standin):
    """Refuses the first requests with a Retry-After, and notes when each came."""

    def __init__(self, *refusals):
        super().__init__(keys={"AK": ("secret/+", None)})
        self.refusals, self.times = list(refusals), []

    def answer(self, request):
        self.times.append(time.monotonic())
        if not self.refusals:
            return super().answer(request)
        status, code, after = self.refusals.pop(0)
        _, fields, body = self.refusal(status, code)
        return status, {**fields, "Retry-After": after() if callable(after) else after}, body


def in_three_seconds():
    return email.utils.formatdate(time.time() + 3, usegmt=True)


@pytest.mark.parametrize("after, least, most", [("2", 2, 9), (in_three_seconds, 1.9, 9), ("0", 0, 5), ("Sat, 01 Jan 2000 00:00:00 GMT", 0, 5),
                                                ("soon", 0, 6)])
@pytest.mark.parametrize("status, code", [(503, "SlowDown"), (429, "TooManyRequests")])
def test_retry_after_is_honoured(tool, status, code, after, least, most):
    with Busy((status, code, after)) as s3:
        s3.put("x", b"hello")
        assert tool(s3).read("x")[1] == b"hello"
        assert least <= s3.times[1] - s3.times[0] < most and len(s3.times) == 3


@pytest.mark.parametrize("op", ["list", "read"])
def test_retry_after_in_the_middle(tool, op):
    """Of a listing's second page, and of an object whose attributes have come."""
    with Busy() as s3:
        s3.page = 1
        for name in ("x", "y"):
            s3.put(name, b"hello")
        one = tool(s3)
        seen = one("stat", "x")
        s3.times.clear()
        s3.refusals = [(503, "SlowDown", "0"), (503, "SlowDown", "2")]
        expect = {key: seen[key] for key in ("size", "version", "mtime_ns")}
        answer = one("list") if op == "list" else one("read", "x", out="/dev/null", off=0, len=5, expect=expect)
        assert answer["rc"] == 0 and s3.refusals == []
        assert 2 <= s3.times[2] - s3.times[1] < 9


@pytest.mark.waits
@pytest.mark.slow
def test_retry_after_is_bounded(tool):
    """An hour is not waited for: ten seconds at most each time, then it is an error that says so."""
    with Busy(*[(503, "SlowDown", "3600")] * 20) as s3:
        begin = time.monotonic()
        answer = tool(s3)("stat", "x")
        assert answer["rc"] < 0 and "503" in answer["why"] and time.monotonic() - begin < 120
        assert all(later - earlier < 30 for earlier, later in zip(s3.times, s3.times[1:]))


# What servers say is wrong

@pytest.mark.parametrize("says", [True, False])
def test_region_is_learned_once(s3, tool, says):
    s3.region, s3.says_region = "eu-central-1", says
    s3.put("x", b"hello")
    one = tool(s3)
    assert one.read("x")[1] == b"hello"
    assert one("report")["report"]["region"] == "eu-central-1"
    s3.forget_requests()
    assert one.read("x")[1] == b"hello"
    assert len(s3.requests()) == 2


def test_clock_is_learned(s3, tool):
    s3.clock = 5000
    s3.put("x", b"hello")
    one = tool(s3)
    assert one.read("x")[1] == b"hello"
    assert abs(one("report")["report"]["clock_skew_s"] - 5000) < 10


def test_signature_goes_nowhere_else(s3, tool):
    with S3Standin() as other:
        s3.put("x", b"hello")
        other.put("x", b"theirs")
        s3.lie.add("redirect")
        s3.elsewhere = other.url
        answer = tool(s3)("stat", "x")
        assert answer["rc"] == -EIO and "endpoint" in answer["advice"]
        assert not other.requests()


@pytest.mark.parametrize("access, secret, code", [("AK", "wrong", "SignatureDoesNotMatch"), ("NO", "secret/+", "InvalidAccessKeyId")])
def test_wrong_keys(s3, tool, access, secret, code):
    s3.put("x", b"hello")
    one = tool(s3, access_key=access, secret_key=secret)
    for op in ("stat", "list"):
        answer = one(op, "x")
        assert answer["rc"] == -EACCES and code in answer["why"] and "doctor" in answer["advice"], answer
    assert "secret" not in json.dumps(one("examine")) and "wrong" not in json.dumps(one("examine"))


def test_refused_head_is_asked_as_get(s3, tool):
    s3.put("x", b"hello")
    s3.lie.add("deny-head")
    one = tool(s3)
    assert one("stat", "x")["size"] == 5
    assert one("stat", "y")["rc"] == -ENOENT


def test_missing_bucket(s3, tool):
    answer = tool(s3, bucket="other")("stat", "x")
    assert answer["rc"] == -EIO and "NoSuchBucket" in answer["why"] and "bucket" in answer["advice"]


def test_anonymous(tool):
    with S3Standin() as public:
        public.put("x", b"hello")
        assert tool(public, anonymous=True, env={"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}).read("x")[1] == b"hello"
        assert not any("authorization" in seen.fields for seen in public.requests())


def test_identity(s3, tool):
    def identity(**conf):
        return tool(s3, **conf)("identity")["identity"]

    assert identity() == f"s3:{s3.url}/data/"
    assert identity(prefix="/a/b/", region="x") == f"s3:{s3.url}/data/a/b/"
    assert identity(endpoint="HTTPS://Host.Example:443/") == "s3:https://host.example/data/"
    assert identity(endpoint=None, region="eu-west-1") == identity(endpoint=None, region="us-east-1") == "s3:https://s3.amazonaws.com/data/"
    assert identity(endpoint=None, region="cn-north-1") == "s3:https://s3.amazonaws.com.cn/data/"


class Proxy(HttpStandin):
    """Says no to whoever wants to be connected, and notes where to."""

    def answer(self, request):
        return 502, {}, b""


@pytest.mark.parametrize("conf, host", [
    ({}, "data.s3.us-east-1.amazonaws.com"), ({"region": "eu-west-1"}, "data.s3.eu-west-1.amazonaws.com"),
    ({"path_style": True}, "s3.us-east-1.amazonaws.com"), ({"region": "cn-north-1"}, "data.s3.cn-north-1.amazonaws.com.cn"),
    ({"bucket": "with.dots"}, "s3.us-east-1.amazonaws.com"), ({"bucket": "Upper_Case"}, "s3.us-east-1.amazonaws.com"),
    ({"endpoint": "https://oss-cn-hangzhou.aliyuncs.com", "path_style": False}, "data.oss-cn-hangzhou.aliyuncs.com"),
    ({"endpoint": "https://s3.example.org"}, "s3.example.org")])
def test_hosts(tmp_path, conf, host):
    with Proxy() as proxy:
        one = S3Tool(tmp_path / "tool", {"https_proxy": proxy.url}, **{"bucket": "data", "access_key": "A", "secret_key": "S", **conf})
        assert one("stat", "x")["rc"] == -EIO
        assert {seen.target for seen in proxy.requests()} == {host + ":443"}
        one.close()


# Where keys come from

def files(folder, credentials="", config=""):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "credentials").write_text(credentials)
    (folder / "config").write_text(config)
    return {"AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"), "AWS_CONFIG_FILE": str(folder / "config")}


def crowd(one, path, threads, **more):
    """Many threads read at once; the worst outcome."""
    return one("read", path, out=str(one.folder / "out"), threads=threads, **more)["rc"]


def source_of(one):
    answer = one("stat", "x")
    assert answer["rc"] == 0, answer
    report = one("report")["report"]["credentials"]
    assert "secret" not in json.dumps(report)
    return report["source"]


def test_environment(s3, tool):
    s3.put("x", b"hello")
    s3.keys["TEMP"] = ("s", "tok/en+=")
    assert source_of(tool(s3, env={"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret/+"})) == "environment"
    assert source_of(tool(s3, env={"AWS_ACCESS_KEY_ID": "TEMP", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "tok/en+="})) == \
        "environment"
    answer = tool(s3, env={"AWS_ACCESS_KEY_ID": "AK"})("stat", "x")
    assert answer["rc"] == -EACCES and "only one" in answer["why"]
    answer = tool(s3, env={"AWS_ACCESS_KEY_ID": ""})("stat", "x")
    assert answer["rc"] == -EACCES and "no keys anywhere" in answer["why"] and "AWS_ACCESS_KEY_ID" in answer["advice"]


def test_profiles(s3, tool, tmp_path):
    s3.put("x", b"hello")
    keys = "aws_access_key_id = AK\naws_secret_access_key = secret/+"
    env = files(tmp_path / "one", f"# comment\n[other]\naws_access_key_id=NO\naws_secret_access_key=NO\n[work] ; comment\ns3 =\n  aws_access_key_id = NESTED\n{keys} # mine\n",
                "[profile work]\nregion = eu-west-3\ns3 =\n  aws_access_key_id = NESTED\n[work]\nregion = no\n")
    one = tool(s3, env=env, profile="work")
    assert source_of(one) == "profile" and one("report")["report"]["region"] == "eu-west-3" or s3.region == "us-east-1"
    assert source_of(tool(s3, env={**env, "AWS_PROFILE": "work"})) == "profile"
    assert source_of(tool(s3, env={**env, "AWS_PROFILE": "other", "AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret/+"})) == \
        "environment"
    assert source_of(tool(s3, env={**env, "AWS_ACCESS_KEY_ID": "NO", "AWS_SECRET_ACCESS_KEY": "NO"}, profile="work")) == "profile"
    answer = tool(s3, env=env, profile="nobody")("stat", "x")
    assert answer["rc"] == -EACCES and "there is no profile nobody" in answer["why"]
    only_config = files(tmp_path / "two", "", f"[default]\n{keys}\nendpoint_url = {s3.url}\n")
    assert source_of(tool(s3, env=only_config, endpoint=None)) == "profile"
    home = tmp_path / "home"
    files(home / ".aws", f"[default]\n{keys}\n")
    assert source_of(tool(s3, env={"HOME": str(home)})) == "profile"
    assert source_of(tool(s3, env={"HOME": str(home), "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"})) == "profile"
    answer = tool(s3, env={"AWS_SHARED_CREDENTIALS_FILE": "relative"})("stat", "x")
    assert answer["rc"] == -EACCES and "absolute" in answer["why"]


@pytest.mark.parametrize("setting, text", [
    ("credential_process = touch RAN", "credential_process"), ("role_arn = a\nsource_profile = b\nmfa_serial = c", "mfa_serial"),
    ("role_arn = a\ncredential_source = b", "credential_source"), ("sso_session = x", "sign-on")])
def test_what_a_profile_names_and_is_not_done(s3, tool, tmp_path, setting, text):
    answer = tool(s3, env=files(tmp_path / "aws", "", f"[default]\n{setting}\n".replace("RAN", str(tmp_path / "ran"))))("stat", "x")
    assert answer["rc"] == -EACCES and text in answer["why"] and "export-credentials" in answer["advice"]
    assert not (tmp_path / "ran").exists()


def test_endpoint_from_the_environment(s3, tool):
    s3.put("x", b"hello")
    keys = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "secret/+"}
    for env in ({"AWS_ENDPOINT_URL": s3.url}, {"AWS_ENDPOINT_URL_S3": s3.url, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}):
        assert source_of(tool(s3, env={**keys, **env, "AWS_DEFAULT_REGION": "us-east-1"}, endpoint=None)) == "environment"


KEYS = {f"KEY{n}": (f"SECRET{n}", f"TOKEN{n}") for n in range(1, 50)}


def remote(kind, keys, folder):
    """Environment that leads to the stand-in by this way."""
    (folder / "token").write_text("web-token\n")
    return {
        "web identity": {"AWS_ENDPOINT_URL_STS": keys.url + "/sts", "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "token"),
                         "AWS_ROLE_ARN": "arn:aws:iam::1:role/r"},
        "container": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": keys.url + "/container"},
        "instance": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": keys.url, "AWS_EC2_METADATA_DISABLED": "false"},
    }[kind]


REMOTES = ["web identity", "container", "instance"]


@pytest.mark.parametrize("kind", REMOTES)
def test_remote_keys_are_kept_and_renewed(tool, tmp_path, kind):
    with S3Standin(keys=KEYS) as s3, KeysStandin(seconds=3600) as keys:
        s3.put("x", b"hello")
        one = tool(s3, env=remote(kind, keys, tmp_path))
        assert source_of(one) == kind
        for _ in range(5):
            assert one.read("x")[1] == b"hello"
        assert keys.number == 1
        s3.expired.add("TOKEN1")
        time.sleep(5.2)  # what was refused at once would not be asked for again
        assert one.read("x")[1] == b"hello"
        assert keys.number == 2


@pytest.mark.parametrize("kind", ["container", "instance"])
def test_keys_of_the_machine_are_fetched_by_no_proxy(tool, tmp_path, kind):
    """A proxy could not reach them, and what it sees are secrets."""
    with S3Standin(keys=KEYS) as s3, KeysStandin(seconds=3600) as keys, Proxy() as proxy:
        s3.put("x", b"hello")
        env = {**remote(kind, keys, tmp_path), "http_proxy": proxy.url, "all_proxy": proxy.url, "no_proxy": "localhost"}
        one = tool(s3, env=env, endpoint=s3.url.replace("127.0.0.1", "localhost"), path_style=True)
        assert one.read("x")[1] == b"hello" and source_of(one) == kind
        assert proxy.requests() == [] and keys.number == 1


def test_a_token_server_is_asked_by_the_proxy(tool, tmp_path):
    """The same set-up, where the proxy is to be used: it would be seen."""
    with S3Standin(keys=KEYS) as s3, KeysStandin(seconds=3600) as keys, Proxy() as proxy:
        env = {**remote("web identity", keys, tmp_path), "http_proxy": proxy.url, "no_proxy": "localhost"}
        one = tool(s3, env=env, endpoint=s3.url.replace("127.0.0.1", "localhost"), path_style=True)
        assert one("stat", "x")["rc"] == -EACCES
        assert len(proxy.requests()) >= 1 and keys.number == 0


@pytest.mark.parametrize("kind", REMOTES)
def test_remote_keys_near_their_end(tool, tmp_path, kind):
    """With 200 s left: used, and renewed by one of many."""
    with S3Standin(keys=KEYS) as s3, KeysStandin(seconds=200) as keys:
        s3.put("x", b"hello")
        one = tool(s3, env=remote(kind, keys, tmp_path))
        begin = time.monotonic()
        assert crowd(one, "x", 16) == 0
        if time.monotonic() - begin < 5:  # later they are asked for anew
            assert keys.number == 1
        keys.broken = True
        time.sleep(5.2)
        assert crowd(one, "x", 16) == 0  # the old ones are still good
        keys.broken = False


def test_renewed_by_one_while_the_others_go_on(tool, tmp_path):
    with S3Standin(keys=KEYS) as s3, KeysStandin(seconds=200) as keys:
        s3.put("x", b"hello")
        one = tool(s3, env=remote("container", keys, tmp_path))
        seen = one("stat", "x")
        time.sleep(5.2)
        keys.delay, keys.seconds = 3.0, 3600
        begin = time.monotonic()
        assert crowd(one, "x", 16, expect={"size": 5, "version": seen["version"]}) == 0
        assert keys.number == 2 and time.monotonic() - begin >= 2.9  # one of them waited for the new ones
        tokens = [seen.fields["x-amz-security-token"] for seen in s3.requests() if seen.method == "GET"]
        assert len(tokens) == 16 and tokens.count("TOKEN1") >= 15


def test_many_threads_ask_once(tool, tmp_path):
    with S3Standin(keys=KEYS) as s3, KeysStandin() as keys:
        s3.put("x", b"hello")
        keys.delay = 0.5
        one = tool(s3, env=remote("container", keys, tmp_path))
        assert crowd(one, "x", 32, expect={"size": 5, "version": ""}) == 0
        assert keys.number == 1


@pytest.mark.parametrize("kind", REMOTES)
def test_broken_sources(tool, tmp_path, kind):
    with S3Standin(keys=KEYS) as s3, KeysStandin() as keys:
        s3.put("x", b"hello")
        keys.broken = True
        one = tool(s3, env=remote(kind, keys, tmp_path))
        answer = one("stat", "x")
        assert answer["rc"] == -EACCES and kind in answer["why"], answer
        asked = len(keys.requests())
        for _ in range(20):
            assert one("stat", "x")["rc"] == -EACCES
        assert len(keys.requests()) == asked  # not asked again at once


def test_container_authorization_and_hosts(tool, tmp_path):
    (tmp_path / "auth").write_text("Bearer abc\n")
    with S3Standin(keys=KEYS) as s3, KeysStandin() as keys:
        s3.put("x", b"hello")
        keys.want = {"authorization": "Bearer abc"}
        env = remote("container", keys, tmp_path)
        assert tool(s3, env=env)("stat", "x")["rc"] == -EACCES
        assert source_of(tool(s3, env={**env, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer abc"})) == "container"
        assert source_of(tool(s3, env={**env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "auth")})) == "container"
        for uri in ("http://example.org/x", "http://127.0.0.1.example.org/x", "http://user@127.0.0.1/x", "http://169.254.169.254/x"):
            answer = tool(s3, env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri})("stat", "x")
            assert answer["rc"] == -EACCES and "neither https nor" in answer["why"], uri


def test_web_identity_in_a_profile(tool, tmp_path):
    with S3Standin(keys=KEYS) as s3, KeysStandin() as keys:
        s3.put("x", b"hello")
        (tmp_path / "token").write_text("web-token")
        env = files(tmp_path / "aws", "", f"[profile w]\nrole_arn = arn:aws:iam::1:role/r\nweb_identity_token_file = {tmp_path}/token\n")
        assert source_of(tool(s3, env={**env, "AWS_ENDPOINT_URL_STS": keys.url + "/sts/"}, profile="w")) == "profile"


def test_roles_of_profiles(tool, tmp_path):
    with S3Standin(keys=KEYS) as s3, KeysStandin() as keys:
        s3.put("x", b"hello")
        s3.region = "eu-west-3"
        env = {**files(tmp_path / "aws", "[base]\naws_access_key_id = AK\naws_secret_access_key = SK\n"
                       "[own]\naws_access_key_id = AK\naws_secret_access_key = SK\n",
                       "[profile one]\nrole_arn = r1\nsource_profile = base\nexternal_id = a&b\nregion = eu-west-3\n"
                       "[profile two]\nrole_arn = r2\nsource_profile = one\nregion = eu-west-3\n"
                       "[profile own]\nrole_arn = r3\nsource_profile = own\nregion = eu-west-3\n"
                       "[profile loop]\nrole_arn = r4\nsource_profile = pool\n[profile pool]\nrole_arn = r5\nsource_profile = loop\n"
                       "[profile lost]\nrole_arn = r6\nsource_profile = nobody\n"),
               "AWS_ENDPOINT_URL_STS": keys.url + "/sts/"}
        for profile, roles in (("one", [("r1", "a&b")]), ("two", [("r1", "a&b"), ("r2", "")]), ("own", [("r3", "")])):
            keys.assumed.clear()
            assert source_of(tool(s3, env=env, profile=profile)) == "profile"
            assert keys.assumed == roles
        for profile, text in (("loop", "circles"), ("lost", "nobody")):
            answer = tool(s3, env=env, profile=profile)("stat", "x")
            assert answer["rc"] == -EACCES and text in answer["why"], answer
