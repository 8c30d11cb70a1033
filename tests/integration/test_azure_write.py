"""Writing by backend azure beyond the contract suite: uploads that meet, folders of other tools, metadata, leases, SAS, lies on the wire.

On a real Azurite, and on stand-ins for what it cannot show (copies that take their time, answers that make no sense).
"""

import base64
import errno as E
import hashlib
import http.client
import os
import time
import urllib.parse

import pytest

from tests.integration import contract_remotes as r
from tests.integration.azure_rig import StandIn, account, sas, stand_in_conf  # noqa: F401  account is a fixture
from tests.integration.contract_azure import AzureRemote
from tests.integration.contract_rig import MIB, UNKNOWN, Client

pytestmark = [pytest.mark.asan]


@pytest.fixture
def remote(account, tmp_path):  # noqa: F811
    return AzureRemote(tmp_path, account)


@pytest.fixture
def clients(remote):
    made = []

    def make(**more):
        conf = {**remote.conf, **more}
        place = type("Place", (), {"conf": {key: value for key, value in conf.items() if value is not None}, "tmp": remote.tmp, "steps": {}})
        made.append(Client(place, f"tool{len(made)}"))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def one(clients):
    return clients()


def rc_of(answer, *errnos):
    assert -answer["rc"] in errnos, answer
    return answer


# Uploads that meet

def test_two_uploads_to_one_blob(remote, clients):
    """Who completes first wins; the other's blocks are dropped with that, and it is told: never a mixture."""
    one, two = clients(), clients()
    ours, theirs = b"a" * (2 * MIB + 1), b"b" * (2 * MIB + 1)
    first = one.upload("f", ours, MIB)
    second = two.upload("f", theirs, MIB)
    assert {row["token"] for row in one("uploads", "f")["uploads"]} == {first[0], second[0]}
    rc_of(one("complete", "f", token=first[0], tags=first[1], size=len(ours)), 0)
    rc_of(two("part", "f", token=second[0], n=1, off=MIB, len=MIB, **{"from": two.source(theirs)}), E.ENXIO)
    tags = [second[1][0], first[1][1], second[1][2]]
    rc_of(two("complete", "f", token=second[0], tags=tags, size=len(theirs)), E.EINVAL)  # another upload's part
    rc_of(two("complete", "f", token=second[0], tags=second[1], size=len(theirs)), E.ENXIO)
    assert remote.content("f") == ours and remote.uploads() == 0
    assert one("uploads", "f")["uploads"] == []


def test_an_upload_over_a_blob_is_found_by_its_name(remote, clients):
    one, two = clients(), clients()
    remote.write("f", b"old")
    token, tags = one.upload("f", b"new" * MIB, MIB)
    assert [row["token"] for row in two("uploads", "f")["uploads"]] == [token]
    rc_of(one("set_attr", "f", mode=0o600), 0)  # another version, the blocks stay
    tag = rc_of(one("part", "f", token=token, n=2, off=0, len=MIB, **{"from": one.source(b"z" * MIB)}), 0)["tag"]
    rc_of(two("abort", "f", token=token), 0)
    rc_of(one("complete", "f", token=token, tags=[*tags[:2], tag], size=3 * MIB), E.ENXIO)
    assert remote.content("f") == b"old" and one("uploads", "f")["uploads"] == []


def test_the_tag_says_which_bytes(remote, one):
    """A first try that arrives late cannot take the place of a later one."""
    token, tags = one.upload("f", b"a" * 100, 100)
    again = rc_of(one("part", "f", token=token, n=0, len=100, **{"from": one.source(b"b" * 100)}), 0)["tag"]
    rc_of(one("part", "f", token=token, n=0, len=100, **{"from": one.source(b"a" * 100)}), 0)
    rc_of(one("complete", "f", token=token, tags=[again], size=100), 0)
    assert remote.content("f") == b"b" * 100 and again != tags[0]


def test_blocks_of_another_client(remote, one):
    """Their ids have another length: Azure takes none of ours beside them. They are not ours to list or remove."""
    block = base64.b64encode(b"theirs").decode()
    assert remote.request("PUT", "f", {"comp": "block", "blockid": block}, body=b"x")[0] == 201
    assert "unfinished upload" in rc_of(one("begin", "f", part_size=MIB), E.EBUSY)["advice"]
    assert one("uploads", "")["uploads"] == [] and one("clean", "", idle_s=0)["removed"] == 0
    assert one("stat", "f")["rc"] == -E.ENOENT and one.names() == {}
    rc_of(one.put("f", b"new", absent=True), E.EIO, E.EBUSY, 0)  # Azurite alone takes the blocks for a blob
    rc_of(one.put("f", b"new"), 0)
    assert remote.content("f") == b"new"


def test_a_put_where_an_upload_was_left(remote, one):
    token, _ = one.upload("f", b"x" * 10, MIB)
    rc_of(one("abort", "f", token=token), 0)
    rc_of(one.put("f", b"new", absent=True, mode=0o640), 0)
    assert remote.content("f") == b"new" and one("stat", "f")["mode"] == 0o640
    one.upload("g", b"x" * 10, MIB)
    rc_of(one.put("g", b"", absent=True), 0)
    rc_of(one.put("g", b"again", absent=True), E.EEXIST)
    assert remote.content("g") == b""


def test_many_parts(remote, one):
    """Small ones, the list of which is long."""
    data = os.urandom(300 * 1000 + 1)
    token, tags = one.upload("f", data, 1000)
    rc_of(one("complete", "f", token=token, tags=tags, size=len(data)), 0)
    assert remote.content("f") == data


# Folders of other tools

def test_folders_that_only_blobs_make(remote, one):
    for name, data in (("made/x", b"x"), ("marked/", b""), ("full/", b"bytes")):
        remote.write(name, data)
    before = remote.objects()
    for path in ("made", "marked"):
        rc_of(one.put(path, b"x"), E.EISDIR)
        rc_of(one.put(path, b"x", absent=True), E.EEXIST)
        rc_of(one.copy("made/x", path), E.EISDIR)
        rc_of(one("begin", path, part_size=MIB), E.EISDIR)
        rc_of(one("mkdir", path), E.EEXIST)
        rc_of(one("remove", path), E.EISDIR)
        rc_of(one("set_attr", path, mode=0o700), E.EOPNOTSUPP)
    rc_of(one("rmdir", "made"), E.ENOTEMPTY)
    rc_of(one("rmdir", "full"), E.ENOTEMPTY)  # nobody sees these bytes here; that is no reason to remove them
    assert remote.objects() == before
    rc_of(one("rmdir", "marked"), 0)
    assert set(remote.objects()) == {b"made/x", b"full/"}


def test_a_folder_is_marked_as_other_tools_do(remote, one):
    rc_of(one("mkdir", "d"), 0)
    status, head, body = remote.request("HEAD", "d")
    assert (status, head["x-ms-meta-hdi_isfolder"], head["Content-Length"]) == (200, "true", "0")
    rc_of(one.put("d/f", b"x"), 0)
    rc_of(one("remove", "d/f"), 0)
    assert one("stat", "d")["type"] == "dir"  # a folder that was made stays when it is empty


# Metadata

def test_metadata_of_azcopy(remote, one):
    """AzCopy's --preserve-posix-properties, in both its styles; what cannot be read does not count."""
    mtime = {"x-ms-meta-modtime": "1500000000123456789"}
    rows = {"posix": ({**mtime, "x-ms-meta-permissions": str(0o100640)}, 0o640, "1500000000123456789"),
            "amlfs": ({"x-ms-meta-permissions": "0751", "x-ms-meta-modtime": "2026-01-02 03:04:05 +0000"}, 0o751, None),
            "odd": ({"x-ms-meta-permissions": "rwx", "x-ms-meta-modtime": "99999999999999999999"}, 0, None),
            "old": ({"x-ms-meta-Modtime": "-5"}, 0, "-5"), "none": ({}, 0, None)}
    for name, (fields, _, _) in rows.items():
        remote.server.put_blob(remote.container, name, b"x", **fields)
    listed = one.names()
    for name, (_, mode, mtime_ns) in rows.items():
        seen = one("stat", name)
        assert seen["mode"] == mode and (seen["mtime_ns"] == mtime_ns if mtime_ns else int(seen["mtime_ns"]) > 1.7e18), (name, seen)
        assert {key: listed[name.encode()][key] for key in ("mode", "mtime_ns", "version", "md5")} == \
            {key: seen[key] for key in ("mode", "mtime_ns", "version", "md5")}


def test_what_others_keep_stays(remote, one):
    """set_attr, copy and rename keep foreign metadata and properties; chmod keeps the time."""
    remote.server.put_blob(remote.container, "f", b"x", **{"x-ms-meta-Project": "a=b; c", "x-ms-blob-content-type": "text/x-thing"})
    before = one("stat", "f")
    time.sleep(1.1)  # Last-Modified has seconds
    rc_of(one("set_attr", "f", mode=0o600), 0)
    after = one("stat", "f")
    assert (after["mode"], after["mtime_ns"]) == (0o600, before["mtime_ns"]) and after["version"] != before["version"]
    rc_of(one.copy("f", "g"), 0)
    rc_of(one.rename("f", "h"), 0)
    for name in ("g", "h"):
        head = remote.request("HEAD", name)[1]
        assert (head["x-ms-meta-project"], head["Content-Type"], head["x-ms-meta-permissions"]) == ("a=b; c", "text/x-thing", str(0o100600))
        assert one("stat", name)["mtime_ns"] == before["mtime_ns"]


def test_checksums(remote, one):
    """What is put has its MD5, whether in one piece or in blocks; an upload in parts has none."""
    for size in (0, 5, 9 * MIB):
        data = os.urandom(size)
        answer = rc_of(one.put("f", data), 0)
        assert answer["md5"] == one("stat", "f")["md5"] == hashlib.md5(data).hexdigest()
    token, tags = one.upload("f", b"12345", MIB)
    rc_of(one("complete", "f", token=token, tags=tags, size=5), 0)
    assert one("stat", "f")["md5"] == "" and one.content("f") == b"12345"


class Flipper(StandIn):
    """Passes requests on to Azurite, with one byte of the first bodies changed."""

    def __init__(self, server, times):
        super().__init__(self.pass_on)
        self.server, self.times = server, times

    def pass_on(self, method, target, fields, body):
        if method == "PUT" and len(body) > 100 and self.times:
            self.times -= 1
            body = body[:50] + bytes([body[50] ^ 1]) + body[51:]
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        upstream.request(method, target, body or None, {name: value for name, value in fields.items() if name != "connection"})
        answer = upstream.getresponse()
        data = answer.read()
        upstream.close()
        own = ("transfer-encoding", "connection", "date", "keep-alive")
        head = {name: value for name, value in answer.headers.items() if name.lower() not in own}
        return answer.status, {**head, "Content-Length": answer.headers.get("Content-Length", str(len(data)))}, data


def test_bytes_that_change_on_their_way(remote, clients):
    """The server refuses them by the MD5; they are sent again."""
    with Flipper(remote.server, times=1) as proxy:
        one = clients(endpoint=f"{proxy.url}/{remote.server.account}")
        data = os.urandom(1000)
        rc_of(one.put("f", data), 0)
        assert remote.content("f") == data and proxy.times == 0
        proxy.times = 1
        token, tags = one.upload("g", data, MIB)
        rc_of(one("complete", "g", token=token, tags=tags, size=1000), 0)
        assert remote.content("g") == data and proxy.times == 0
        proxy.times = 100
        rc_of(one.put("f", os.urandom(1000)), E.EIO)
        assert remote.content("f") == data


# Leases, snapshots, other kinds of blobs

def test_a_lease(remote, one):
    remote.write("f", b"leased")
    remote.write("g", b"free")
    status, head, _ = remote.request("PUT", "f", {"comp": "lease"}, fields={"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"})
    assert status == 201
    version = one.version("f")
    for call in (lambda: one.put("f", b"x"), lambda: one.put("f", b"x", if_version=version), lambda: one("remove", "f"),
                 lambda: one("set_attr", "f", mode=0o600), lambda: one.copy("g", "f"), lambda: one("remove", "f", if_version=version),
                 lambda: one("begin", "f", part_size=MIB)):
        assert "lease" in rc_of(call(), E.EBUSY)["advice"]
    before = remote.objects()
    assert "lease" in rc_of(one.rename("f", "h"), E.EBUSY)["advice"]  # the copy that was made goes again
    assert remote.objects() == before == {b"f": b"leased", b"g": b"free"}
    rc_of(one.rename("f", "g"), E.EREMOTEIO)  # both are there
    assert remote.objects() == {b"f": b"leased", b"g": b"leased"}


def test_snapshots_do_not_go_with_the_blob(remote, one):
    remote.write("f", b"x")
    assert remote.request("PUT", "f", {"comp": "snapshot"})[0] == 201
    assert "snapshots" in rc_of(one("remove", "f"), E.EBUSY)["advice"]
    rc_of(one.put("f", b"new"), 0)
    assert remote.content("f") == b"new"


def test_an_append_blob(remote, one):
    status, _, body = remote.request("PUT", "f", fields={"x-ms-blob-type": "AppendBlob"}, body=b"")
    assert status == 201, body
    assert one("stat", "f")["size"] == 0
    rc_of(one("begin", "f", part_size=MIB), E.EOPNOTSUPP)
    assert one("uploads", "")["uploads"] == []
    rc_of(one.put("f", b"replaced"), 0, E.EOPNOTSUPP)
    rc_of(one("remove", "f"), 0)


# Who may what

def test_what_a_sas_allows(remote, clients):
    remote.write("f", b"x")
    token = {what: sas(remote.server, remote.container, what) for what in ("rl", "rlw", "racwdl")}
    reader, writer, all_of_it = (clients(account_key=None, sas_token=one) for one in token.values())
    assert reader("able")["caps"] == 0
    rc_of(reader.put("f", b"y"), E.EACCES)
    assert writer("able")["caps"] == all_of_it("able")["caps"] & ~(r.RENAME_FILE | r.RENAME_NOREPLACE)
    rc_of(writer.put("f", b"y"), 0)
    assert "racwdl" in rc_of(writer("remove", "f"), E.EACCES)["advice"] or remote.content("f") == b"y"
    rc_of(all_of_it.rename("f", "g"), 0)
    rc_of(all_of_it.copy("g", "h", source_version=all_of_it.version("g")), 0)
    data, secret = b"n" * (2 * MIB), urllib.parse.parse_qs(token["racwdl"])["sig"][0]
    upload, tags = all_of_it.upload("g", data, MIB)
    rc_of(all_of_it("complete", "g", token=upload, tags=tags, size=len(data)), 0)
    rc_of(all_of_it("remove", "h"), 0)
    assert remote.objects() == {b"g": data}
    head = remote.request("HEAD", "h")[1]
    assert secret not in str(dict(head)) and secret not in upload
    stranger = clients(account_key=None, prefix="")
    assert stranger("able")["caps"] == 0


# Lies

class Store:
    """A stand-in: answers[(method, word of the target)] -> (status, fields, body); what is not there is 404."""

    def __init__(self, **answers):
        self.answers, self.calls = answers, []

    def __call__(self, method, target, fields, body):
        self.calls.append((method, target))
        if "comp=list" in target:
            return 200, {}, b"<EnumerationResults><Blobs/></EnumerationResults>"
        name = target.partition("?")[0].rpartition("/")[2]
        found = self.answers.get(f"{method}_{name}", (404, {"x-ms-error-code": "BlobNotFound"}, b""))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found


def on(store, tmp_path, run, name="tool"):
    with StandIn(store) as server:
        client = Client(type("Place", (), {"conf": stand_in_conf(server, account_key="a2V5"), "tmp": tmp_path, "steps": {}}), name)
        try:
            return run(client)
        finally:
            client.close()


LIES = {
    "200": (200, {"ETag": '"0x1"'}, b""), "204": (204, {}, b""), "302": (302, {"Location": "/"}, b""),
    "a page": (200, {}, b"<html>log in</html>"),
}


@pytest.mark.parametrize("name", LIES)
def test_what_is_no_answer_to_a_put(tmp_path, name):
    def run(one):
        return [one.put("f", b"x")["rc"], one.put("f", b"x", absent=True)["rc"], one("mkdir", "f")["rc"]]

    assert on(Store(PUT_f=LIES[name]), tmp_path, run) == ([-E.EIO] * 3 if name == "302" else [UNKNOWN] * 3)


def test_an_answer_without_an_etag(tmp_path):
    answer = on(Store(PUT_f=(201, {}, b"")), tmp_path, lambda one: one.put("f", b"x"))
    assert (answer["rc"], answer["version"], answer["size"]) == (0, "", 1)


BLOCK_LISTS = [b"", b"<html/>", b"<BlockList><UncommittedBlocks><Block><Name>x</Name></Block></UncommittedBlocks></BlockList>",
               b"<BlockList><UncommittedBlocks><Block><Name>x</Name><Size>-1</Size></Block></UncommittedBlocks></BlockList>",
               b"<BlockList><UncommittedBlocks>", b"<!DOCTYPE a><BlockList/>", b"<BlockList>" + b"<a>" * 20]


@pytest.mark.parametrize("number", range(len(BLOCK_LISTS)))
def test_lists_of_blocks_that_lie(tmp_path, number):
    def run(one):
        token = rc_of(one("begin", "f", part_size=MIB), 0)["token"]
        return [one("uploads", "f")["rc"], one("abort", "f", token=token)["rc"]]

    assert on(Store(PUT_f=(201, {}, b""), GET_f=(200, {}, BLOCK_LISTS[number])), tmp_path, run) == [-E.EPROTO] * 2


FILE = {"ETag": '"0x1"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT", "Content-Length": "5"}


def copying(status, **more):
    return {**FILE, "ETag": '"0x9"', "x-ms-copy-id": "id-1", "x-ms-copy-status": status, **more}


def test_a_copy_that_takes_its_time(tmp_path):
    """The answer says "pending"; the target is asked until it is done. Meanwhile it has no version."""
    pending = (200, copying("pending"), b"")
    store = Store(HEAD_f=(200, FILE, b""), PUT_g=(202, copying("pending", **{"Content-Length": "0"}), b""),
                  HEAD_g=[(404, {"x-ms-error-code": "BlobNotFound"}, b""), pending, (503, {"Retry-After": "0"}, b""), pending,
                          (200, copying("success", ETag='"0xa"'), b"")])
    answer = on(store, tmp_path, lambda one: one.copy("f", "g"))
    assert (answer["rc"], answer["version"], answer["size"]) == (0, "e:0xa", 5)
    rc_of(on(Store(HEAD_f=pending), tmp_path, lambda one: one("stat", "f"), "tool2"), E.EBUSY)


@pytest.mark.parametrize("end", ["failed", "aborted", "replaced", "gone"])
def test_a_copy_that_comes_to_nothing(tmp_path, end):
    last = {"replaced": (200, copying("success", **{"x-ms-copy-id": "id-2"}), b""), "gone": (404, {"x-ms-error-code": "BlobNotFound"}, b"")}
    store = Store(HEAD_f=(200, FILE, b""), PUT_g=(202, copying("pending", **{"Content-Length": "0"}), b""),
                  HEAD_g=[(404, {"x-ms-error-code": "BlobNotFound"}, b""), (200, copying("pending"), b""), last.get(end, (200, copying(end), b""))])
    rc_of(on(store, tmp_path, lambda one: one.copy("f", "g")), E.EREMOTEIO)


def test_the_source_of_a_copy_carries_the_sas(tmp_path):
    """Azure wants it there, too; Azurite would not miss it."""
    heads = []

    def answer(method, target, fields, body):
        heads.append((method, fields))
        return Store(HEAD_f=(200, FILE, b""), PUT_g=(202, copying("success", **{"Content-Length": "0"}), b""))(method, target, fields, body)

    with StandIn(answer) as server:
        client = Client(type("Place", (), {"conf": stand_in_conf(server, sas_token="?sp=racwdl&sig=a%2Bb"), "tmp": tmp_path, "steps": {}}), "tool")
        rc_of(client.copy("f", "g"), 0)
        client.close()
        (sent,) = [fields for method, fields in heads if method == "PUT"]
        assert sent["x-ms-copy-source"] == f"{server.url}/acct/box/f?sp=racwdl&sig=a%2Bb" and sent["x-ms-source-if-match"] == '"0x1"'


def test_a_pending_copy_in_a_listing(tmp_path):
    """Its size is not known yet; who wants to know asks by stat, and is told EBUSY."""
    page = (b"<EnumerationResults><Blobs><Blob><Name>f</Name><Properties><Etag>0x1</Etag><Content-Length>0</Content-Length>"
            b"<CopyStatus>pending</CopyStatus></Properties></Blob></Blobs></EnumerationResults>")
    with StandIn(lambda method, target, fields, body: (200, {}, page)) as server:
        client = Client(type("Place", (), {"conf": stand_in_conf(server), "tmp": tmp_path, "steps": {}}), "tool")
        row = client.names()[b"f"]
        client.close()
    assert "size" not in row and row["version"] == "" and "include=copy%2Cmetadata" in str(server.bodies)
