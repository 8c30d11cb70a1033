"""Backend azure and what Azurite cannot show: servers that lie, are busy or have another clock; token servers. All are stand-ins."""

import hashlib
import os
import re
import time
import urllib.parse
from contextlib import ExitStack
from email.utils import formatdate

import pytest

from tests.integration.azure_rig import (  # noqa: F401  tool is a fixture
    BLOB, DATA, EACCES, EIO, EOPNOTSUPP, EPROTO, ENOENT, ESTALE, StandIn, Tokens, blob_stand_in, leaked, page_of, stand_in_conf, tool)
from tests.servers.base import wait_for


def test_the_stand_in_is_read(tool):
    with blob_stand_in() as server:
        one = tool(**stand_in_conf(server))
        assert one.read("a")[1] == DATA and one.read("a", off=10, len=20)[1] == DATA[10:30]
        assert one("stat", "b")["rc"] == -ENOENT


LIES = {
    "another etag": ({"get": {"ETag": '"0x8D2"'}}, ESTALE),
    "no etag": ({"head": {"ETag": None}}, EPROTO),
    "etag with a line": ({"head": {"ETag": '"a b"'}}, EPROTO),
    "no etag when read": ({"get": {"ETag": None}}, EPROTO),
    "200 to a range": ({"status": 200, "get": {"Content-Range": None}, "data": DATA}, EPROTO),
    "200 and the first bytes": ({"status": 200, "get": {"Content-Range": None}, "data": DATA[:20]}, EPROTO),
    "another range": ({"get": {"Content-Range": "bytes 11-30/1000"}}, EPROTO),
    "another length": ({"get": {"Content-Range": "bytes 10-29/999"}}, EPROTO),
    "no content-range": ({"get": {"Content-Range": None}}, EPROTO),
    "short": ({"data": DATA[10:20]}, EPROTO),
    "long": ({"data": DATA[10:40]}, EPROTO),
    "empty": ({"data": b""}, EPROTO),
    "archived": ({"status": 409, "get": {"x-ms-error-code": "BlobArchived"}, "data": b""}, EIO),
    "a name that is too much": ({"status": 400, "get": {"x-ms-error-code": "OutOfRangeInput"}, "data": b""}, EOPNOTSUPP),
    "changed": ({"status": 412, "get": {"x-ms-error-code": "ConditionNotMet"}, "data": b""}, ESTALE),
    "gone": ({"status": 404, "get": {"x-ms-error-code": "BlobNotFound"}, "data": b""}, ENOENT),
    "a page": ({"status": 302, "get": {"Location": "/login"}, "data": b"log in"}, EIO),
}


@pytest.mark.asan
@pytest.mark.parametrize("name", LIES)
def test_lies(tool, name):
    changes, errno = LIES[name]
    with blob_stand_in(**changes) as server:
        one = tool(**stand_in_conf(server))
        rc, _, answer = one.read("a", off=10, len=20)
        for _ in range(3 if name == "another length" else 0):  # told three times it is a lie: before, the object may be just being replaced
            assert rc == -ESTALE, answer
            rc, _, answer = one.read("a", off=10, len=20)
        assert rc == -errno, answer
        assert name != "archived" or "rehydrate" in answer["advice"]


@pytest.mark.asan
def test_a_part_where_all_was_asked_for(tool):
    with blob_stand_in(status=206, get={"Content-Range": "bytes 0-999/1000"}) as server:
        assert tool(**stand_in_conf(server)).read("a")[0] == -EPROTO


PAGES = {
    "the same marker": lambda marker: page_of(["a"], "again"),
    "a circle": lambda marker: page_of([], {"": "1", "1": "2", "2": "3", "3": "1"}[marker]),
    "empty ones": lambda marker: page_of([], str(int(marker or 0) + 1)),
    "no xml": lambda marker: b"<html>log in</html>",
    "json": lambda marker: b"{}",
    "cut": lambda marker: page_of(["a", "b"])[:-10],
    "nothing": lambda marker: b"",
    "bomb": lambda marker: b'<!DOCTYPE r [<!ENTITY a "aaaa">]><EnumerationResults>&a;</EnumerationResults>',
    "other names": lambda marker: page_of(["elsewhere"]),
    "no etag": lambda marker: page_of(["dir/a"]).replace(b"<Etag>0x1</Etag>", b""),
    "a long name": lambda marker: page_of(["dir/" + "n" * 20000]),
}


@pytest.mark.asan
@pytest.mark.parametrize("name", PAGES)
def test_lists_that_lie(tool, name):
    def answer(method, target, fields, body):
        marker = urllib.parse.parse_qs(target.partition("?")[2]).get("marker", [""])[0]
        return 200, {}, PAGES[name](marker)

    with StandIn(answer) as server:
        assert tool(**stand_in_conf(server))("list", "dir" if name not in ("the same marker", "a circle") else "")["rc"] == -EPROTO
        assert len(server.bodies) < 2000


@pytest.mark.asan
def test_empty_pages_are_not_the_end(tool):
    pages = {"": page_of([], "1"), "1": page_of([], "2&amp;"), "2&": page_of(["a b"], ""), "x": b""}

    def answer(method, target, fields, body):
        query = urllib.parse.parse_qs(target.partition("?")[2])
        if method == "HEAD":
            return 404, {"x-ms-error-code": "BlobNotFound"}, b""
        return 200, {}, pages[query.get("marker", [""])[0]].replace(b"a b", query["prefix"][0].encode() + b"x" if "prefix" in query else b"a b")

    with StandIn(answer) as server:
        one = tool(**stand_in_conf(server))
        assert set(one.names()) == {b"a b"}
        assert one("stat", "folder")["type"] == "dir"


@pytest.mark.asan
def test_blob_and_folder_on_different_pages(tool):
    prefix = b"<Blobs><BlobPrefix><Name>%s/</Name></BlobPrefix>"
    pages = {"": page_of(["a", "a-x", "b"], "1"), "1": page_of(["ba", "c"], "2").replace(b"<Blobs>", prefix % b"b"),
             "2": page_of(["c-", "c.", "c.d"], "3"), "3": page_of([], "4"), "4": page_of(["d"]).replace(b"<Blobs>", prefix % b"c")}

    def answer(method, target, fields, body):
        return 200, {}, pages[urllib.parse.parse_qs(target.partition("?")[2]).get("marker", [""])[0]]

    with StandIn(answer) as server:
        rows = tool(**stand_in_conf(server))("list")["names"]
        assert sorted((row["name"], row["type"]) for row in rows) == [(name, "file") for name in
                                                                      ("a", "a-x", "b", "ba", "c", "c-", "c.", "c.d", "d")]
        pages[""] = pages[""].replace(b"<Content-Length>1", b"<Content-Length>0")
        assert ("b", "dir") in [(row["name"], row["type"]) for row in tool(**stand_in_conf(server))("list")["names"]]


@pytest.mark.asan
def test_busy_server_is_asked_again(tool):
    count = iter(range(100))

    def answer(method, target, fields, body):
        if next(count) < 2:
            return 503, {"x-ms-error-code": "ServerBusy", "Retry-After": "0"}, b""
        return 200, BLOB, DATA

    with StandIn(answer) as server:
        assert tool(**stand_in_conf(server))("stat", "a")["rc"] == 0


@pytest.mark.asan
@pytest.mark.parametrize("shift, word", [(3600, "behind"), (-3600, "ahead")])
def test_clock_skew_is_named(tool, shift, word):
    def answer(method, target, fields, body):
        return 403, {"x-ms-error-code": "AuthenticationFailed", "Date": formatdate(time.time() + shift, usegmt=True)}, b""

    with StandIn(answer) as server:
        answer = tool(**stand_in_conf(server, account_key="a2V5"))("stat", "a")
        assert answer["rc"] == -EACCES and word in answer["advice"]
        assert abs(int(re.search(r"(\d+) s ", answer["advice"]).group(1)) - 3600) < 60, answer["advice"]  # the request took a while, too


# Tokens: stand-ins for the token servers (Azurite takes tokens by TLS only), and one for the store.

GRANTS = {
    "service principal": ({}, lambda url, file: {"AZURE_TENANT_ID": "ten/ant", "AZURE_CLIENT_ID": "me", "AZURE_CLIENT_SECRET": "s3/cr&t=",
                                                 "AZURE_AUTHORITY_HOST": url + "/"}),
    "default": ({"default_credential": True}, lambda url, file: {"AZURE_TENANT_ID": "ten/ant", "AZURE_CLIENT_ID": "me",
                                                                 "AZURE_CLIENT_SECRET": "s3/cr&t=", "AZURE_AUTHORITY_HOST": url}),
    "workload": ({}, lambda url, file: {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "me", "AZURE_FEDERATED_TOKEN_FILE": file,
                                        "AZURE_AUTHORITY_HOST": url}),
    "app service": ({}, lambda url, file: {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "s3/cr&t="}),
    "machine": ({"managed_identity": True, "client_id": "who/is"}, lambda url, file: {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}),
    "machine by default": ({"default_credential": True}, lambda url, file: {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}),
}


@pytest.fixture
def grant(prelux):
    """grant(name, tokens, ...): prelux on a stand-in store that likes tokens of a stand-in token server; returns the store."""
    with ExitStack() as stack:
        def make(name, tokens, **changes):
            prelux.tokens = stack.enter_context(StandIn(tokens.answer))
            store = stack.enter_context(blob_stand_in(tokens.likes, **changes))
            federated = prelux.tmp / "federated"
            federated.write_text("s3/cr&t=\n")
            conf, env = GRANTS[name][0], GRANTS[name][1](prelux.tokens.url, str(federated))
            prelux.env.update(env)
            prelux.config({"version": 1, "backends": {"src": stand_in_conf(store, **conf)},
                           "mappings": [{"local": "/prelux-lake", "remote": "src:/", "freshness": "always"}]})
            return store

        yield make


READ = "cat /prelux-lake/a | md5sum | cut -c1-32"
SUM = hashlib.md5(DATA).hexdigest() + "\n"


@pytest.mark.asan
@pytest.mark.parametrize("name", GRANTS)
def test_tokens(prelux, grant, name):
    tokens = Tokens()
    grant(name, tokens)
    assert prelux.run(f"{READ}; {READ}").stdout == 2 * SUM
    (method, target, fields, body), = tokens.asked
    form, query = urllib.parse.parse_qs(body), urllib.parse.parse_qs(target.partition("?")[2])
    if name in ("service principal", "default", "workload"):
        assert method == "POST" and target.endswith("/oauth2/v2.0/token")
        assert form["scope"] == ["https://storage.azure.com/.default"] and form["client_id"] == ["me"]
        assert form["grant_type"] == ["client_credentials"]
        assert form["client_assertion" if name == "workload" else "client_secret"] == ["s3/cr&t="]
    else:
        assert method == "GET" and query["resource"] == ["https://storage.azure.com/"] and query["api-version"]
        assert fields.get("metadata") == "true" or fields.get("x-identity-header") == "s3/cr&t="
        assert query.get("client_id") == (["who/is"] if name == "machine" else None)
    assert not leaked(prelux, tokens.given[0], "s3/cr&t=")


@pytest.mark.asan
def test_token_is_renewed_before_it_ends(prelux, grant):
    """A token is renewed in its last quarter; who reads meanwhile goes on with the old one; none that has ended is sent."""
    assert any(renewed(prelux, grant, life) for life in (8, 24, 72))


def renewed(prelux, grant, life):
    """False: the readers of a slow machine missed the last quarter, which says nothing; or nobody goes on with the old one."""
    tokens = Tokens(life)
    store = grant("machine", tokens)
    assert prelux.run(READ).stdout == SUM
    first, begun, late = time.monotonic(), [], False

    def slow_renewal():
        nonlocal late
        begun.append(time.monotonic() - first)
        before = len(store.bodies)
        try:
            wait_for(lambda: len(store.bodies) > before, life, "reads while the token is renewed")
        except TimeoutError:
            late = True

    tokens.hook = slow_renewal
    time.sleep(max(0, 0.775 * life - (time.monotonic() - first)))
    done = prelux.run(f"for i in 1 2 3; do {READ} & done; wait", check=False)
    if late or not begun:
        prelux.cli("daemon", "stop")
        return False
    assert done.stdout == 3 * SUM and not done.stderr
    assert len(begun) == 1 and begun[0] < life and len(tokens.given) == 2
    assert [1 for _, _, fields, _ in store.bodies if fields["authorization"].endswith(tokens.given[0])]
    return True


def test_renewal_that_fails_leaves_the_old_token(prelux, grant):
    tokens = Tokens(life=20)
    grant("service principal", tokens)
    assert prelux.run(READ).stdout == SUM
    tokens.down = 500
    time.sleep(15.2)  # in its last quarter
    assert prelux.run(f"{READ}; {READ}").stdout == 2 * SUM and len(tokens.given) == 1
    asked = len(tokens.asked)
    assert 1 < asked <= 5
    time.sleep(5)
    assert "Input/output error" in prelux.run(["cat", "/prelux-lake/a"], check=False).stderr


@pytest.mark.asan
def test_refused_token_is_renewed_once(prelux, grant):
    tokens = Tokens()
    grant("machine", tokens)
    assert prelux.run(READ).stdout == SUM
    tokens.valid.clear()  # revoked
    time.sleep(5.1)       # one that is younger is not asked for anew
    assert prelux.run(READ).stdout == SUM and len(tokens.given) == 2
    tokens.valid.clear()
    assert prelux.run(f"{READ}; {READ}", check=False).stdout != SUM and len(tokens.given) == 2


@pytest.mark.asan
def test_many_wait_for_one_token(prelux, grant):
    tokens = Tokens()
    grant("machine", tokens)
    assert prelux.run(f"for i in $(seq 20); do cat /prelux-lake/a$i 2>/dev/null & done; {READ}; wait").stdout == SUM
    assert len(tokens.given) == 1


@pytest.mark.asan
def test_token_server_that_refuses(prelux, grant):
    tokens = Tokens()
    tokens.down = 401
    grant("service principal", tokens)
    done = prelux.run("for i in 1 2 3 4 5 6; do cat /prelux-lake/a$i; done", check=False)
    assert done.stderr.count("Permission denied") == 6 and len(tokens.asked) <= 2
    assert "invalid_client" in prelux.story() and "tenant, client" in prelux.story()
    assert not leaked(prelux, "s3/cr&t=", "secret text")


def test_token_server_that_is_not_there(prelux, grant):
    grant("machine", Tokens())
    prelux.tokens.stop()
    assert "Input/output error" in prelux.run(["cat", "/prelux-lake/a"], check=False).stderr
    assert "Azure machine" in prelux.story()


def test_tokens_and_secrets_need_tls(tool):
    """To another machine neither a token nor a client's secret goes by plain http."""
    conf = {"type": "azure", "account": "acct", "container": "box", "endpoint": "http://192.0.2.1/acct"}
    for more in ({"bearer": "t"}, {"managed_identity": True}):
        one = tool(**conf, **more)
        assert one.process.wait(20) == 2 and "https is needed" in one.errors()
        one.stderr.close()
        tool.made.remove(one)


def test_bearer_of_the_configuration(tool):
    with blob_stand_in(lambda fields: fields.get("authorization") == "Bearer abc.def") as server:
        assert tool(**stand_in_conf(server, bearer="abc.def")).read("a")[1] == DATA
        assert tool(**stand_in_conf(server, bearer="other"))("stat", "a")["rc"] == -EACCES


def test_status_and_doctor_name_the_source(prelux, grant):
    tokens = Tokens()
    store = grant("workload", tokens, page=page_of(["a"]))
    assert prelux.run(READ).stdout == SUM
    (shown,) = prelux.cli("status", "--json")["backends"]
    assert shown["credentials"].startswith("workload identity") and 3000 < shown["credentials_valid_s"] <= 3600
    assert shown["endpoint"] == f"{store.url}/acct/box"
    text = prelux.cli("doctor", check=False).stdout
    assert "workload identity" in text and "reachable: yes" in text
    store.stop()
    text = prelux.cli("doctor", check=False).stdout
    assert "reachable: no" in text
    assert not leaked(prelux, tokens.given[0], "s3/cr&t=")
