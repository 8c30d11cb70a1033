"""The writing half of lib/backend/backend.h, over every kind of remote in contract_remotes.py: removing, renaming, folders, attributes,
copies, uploads in parts, and death. Puts and conditions: test_contract.py.
"""

import errno as E
import os
import random
import time
import urllib.parse

import pytest

from tests.integration import contract_remotes as r
from tests.integration.contract_rig import FULL, MIB, bad, client, clients, folder, good, kind, needs, remote, unchanged  # noqa: F401
from tests.integration.backends_raw_rig import TOOL

pytestmark = [pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)")]


# Remove

def test_remove(remote, client):
    good(client.put("f", b"x"))
    folder(remote, client, "d")
    unchanged(remote, client, lambda: client("remove", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client("remove", "nothing"), E.ENOENT)
    unchanged(remote, client, lambda: client("remove", ""), E.EBUSY)
    unchanged(remote, client, lambda: client("remove", "f", absent=True), E.EINVAL)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client("remove", "f/x"), E.ENOTDIR)
    good(client("remove", "f"))
    bad(client("stat", "f"), E.ENOENT)
    bad(client("remove", "f"), E.ENOENT)


def test_remove_a_version(remote, client):
    needs(remote, r.REMOVE_VERSION)
    good(client.put("f", b"one"))
    version = client.version("f")
    good(client.put("f", b"two"))
    unchanged(remote, client, lambda: client("remove", "f", if_version=version), E.ESTALE)
    good(client("remove", "f", if_version=client.version("f")))
    bad(client("remove", "f", if_version=version), E.ENOENT)
    assert remote.objects() == {}


# Rename

def test_rename_a_file(remote, client):
    needs(remote, r.RENAME_FILE)
    good(client.put("a", b"aaa", **({"mode": 0o640} if remote.caps & r.KEEP_MODE else {})))
    made = folder(remote, client, "d")
    version = client.version("a")
    answer = good(client.rename("a", "d/b"))
    seen = client("stat", "d/b")
    assert answer["version"] in ("", seen["version"]) and seen["size"] == 3
    assert not remote.caps & r.RENAME_SAME or seen["version"] == version
    assert not remote.caps & r.KEEP_MODE or seen["mode"] == 0o640
    good(client.put("c", b"ccc"))
    good(client.rename("d/b", "c"))
    assert remote.objects() == {b"c": b"aaa", **made}
    good(client.rename("c", "c"))
    unchanged(remote, client, lambda: client.rename("nothing", "x"), E.ENOENT)
    unchanged(remote, client, lambda: client.rename("c", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client.rename("", "x"), E.EBUSY)
    unchanged(remote, client, lambda: client.rename("c", ""), E.EBUSY)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client.rename("c", "no/x"), E.ENOENT)
        unchanged(remote, client, lambda: client.rename("c", "c/x"), E.ENOTDIR)


def test_rename_without_replacing(remote, client):
    needs(remote, r.RENAME_NOREPLACE)
    good(client.put("a", b"a"))
    good(client.put("b", b"b"))
    unchanged(remote, client, lambda: client.rename("a", "b", flags=r.NOREPLACE), E.EEXIST)
    unchanged(remote, client, lambda: client.rename("a", "a", flags=r.NOREPLACE), E.EEXIST)
    good(client.rename("a", "c", flags=r.NOREPLACE))
    assert remote.objects() == {b"b": b"b", b"c": b"a"}
    unchanged(remote, client, lambda: client.rename("c", "x", flags=r.NOREPLACE | r.EXCHANGE), E.EINVAL)
    unchanged(remote, client, lambda: client.rename("c", "x", flags=8), E.EOPNOTSUPP)


def test_rename_to_exchange(remote, client):
    needs(remote, r.RENAME_EXCHANGE)
    good(client.put("a", b"a"))
    good(client("mkdir", "d"))
    good(client.put("d/b", b"b"))
    good(client.rename("a", "d/b", flags=r.EXCHANGE))
    assert remote.objects() == {b"a": b"b", b"d": None, b"d/b": b"a"}
    good(client.rename("a", "d", flags=r.EXCHANGE))
    assert remote.objects() == {b"d": b"b", b"a": None, b"a/b": b"a"}
    unchanged(remote, client, lambda: client.rename("d", "nothing", flags=r.EXCHANGE), E.ENOENT)
    unchanged(remote, client, lambda: client.rename("nothing", "d", flags=r.EXCHANGE), E.ENOENT)


def test_rename_a_folder(remote, client):
    needs(remote, r.RENAME_DIR)
    for name in ("d", "d/sub", "empty", "full"):
        good(client("mkdir", name))
    for name in ("d/f", "d/sub/g", "full/f", "file"):
        good(client.put(name, name.encode()))
    unchanged(remote, client, lambda: client.rename("d", "full"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client.rename("d", "file"), E.ENOTDIR)
    unchanged(remote, client, lambda: client.rename("d/sub", "d"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client.rename("d", "d/sub/x"), E.EINVAL)
    unchanged(remote, client, lambda: client.rename("file", "d"), E.EISDIR)
    unchanged(remote, client, lambda: client.rename("d", "empty", flags=r.NOREPLACE), E.EEXIST)
    good(client.rename("d", "empty"))
    good(client.rename("empty", "new", flags=r.NOREPLACE if remote.caps & r.RENAME_NOREPLACE else 0))
    assert remote.objects() == {b"new": None, b"new/sub": None, b"new/f": b"d/f", b"new/sub/g": b"d/sub/g", b"full": None, b"full/f": b"full/f",
                                b"file": b"file"}


# Folders

def test_folders(remote, client):
    if not remote.caps & (r.MKDIR | r.MKDIR_MARKER):
        return  # refused: see above
    good(client("mkdir", "d", mode=0o700))
    good(client("mkdir", "d/e", mode=0o755))
    assert client("stat", "d/e")["type"] == "dir" and set(client.names("d")) == {b"e"} and client.names("d/e") == {}
    assert not (remote.caps & r.MKDIR and remote.caps & r.KEEP_MODE) or client("stat", "d")["mode"] == 0o700
    good(client.put("f", b"x"))
    for name in ("d", "f", ""):
        unchanged(remote, client, lambda: client("mkdir", name), E.EEXIST)  # noqa: B023
    unchanged(remote, client, lambda: client("rmdir", "d"), E.ENOTEMPTY)
    unchanged(remote, client, lambda: client("rmdir", "f"), E.ENOTDIR)
    unchanged(remote, client, lambda: client("rmdir", "nothing"), E.ENOENT)
    unchanged(remote, client, lambda: client("rmdir", ""), E.EBUSY)
    if remote.caps & r.MKDIR:
        unchanged(remote, client, lambda: client("mkdir", "no/x"), E.ENOENT)
        unchanged(remote, client, lambda: client("mkdir", "f/x"), E.ENOTDIR)
    good(client("rmdir", "d/e"))
    good(client("rmdir", "d"))
    bad(client("stat", "d"), E.ENOENT)
    assert remote.objects() == {b"f": b"x"}


# Attributes

def test_set_attr(remote, client):
    needs(remote, r.SET_ATTR)
    good(client.put("f", b"bytes"))
    answer = good(client("set_attr", "f", mode=0o600, mtime_ns="1500000000123456789"))
    seen = client("stat", "f")
    assert seen["mode"] == answer["mode"] == 0o600 and answer["version"] in ("", seen["version"])
    if remote.caps & r.KEEP_MTIME:
        assert int(seen["mtime_ns"]) // remote.mtime_unit_ns == 1500000000123456789 // remote.mtime_unit_ns
    good(client("set_attr", "f", mode=0o444))
    assert client("stat", "f")["mtime_ns"] == seen["mtime_ns"] and client("stat", "f")["mode"] == 0o444
    assert remote.objects() == {b"f": b"bytes"}
    unchanged(remote, client, lambda: client("set_attr", "nothing", mode=0o600), E.ENOENT)
    unchanged(remote, client, lambda: client("set_attr", "", mode=0o600), E.EBUSY)
    good(client("mkdir", "d"))
    if remote.caps & r.MKDIR:
        good(client("set_attr", "d", mode=0o750))
        assert client("stat", "d")["mode"] == 0o750


def test_set_attr_of_a_version(remote, client):
    needs(remote, r.SET_ATTR, r.REMOVE_VERSION)
    good(client.put("f", b"one", mode=0o644))
    version = client.version("f")
    good(client.put("f", b"two"))
    before = client("stat", "f")
    bad(client("set_attr", "f", mode=0o600, if_version=version), E.ESTALE)
    after = client("stat", "f")
    assert before["mode"] == after["mode"] == 0o644 and before["version"] == after["version"]
    good(client("set_attr", "f", mode=0o600, if_version=after["version"]))
    assert client("stat", "f")["mode"] == 0o600


# Copy

def test_copy(remote, client):
    needs(remote, r.COPY)
    data = os.urandom(MIB)
    kept, timed = remote.caps & r.KEEP_MODE, remote.caps & r.KEEP_MTIME
    good(client.put("a", data, mode=0o640, mtime_ns="1500000000000000000"))
    answer = good(client.copy("a", "b", source_version=client.version("a")))
    seen = client("stat", "b")
    assert answer["version"] in ("", seen["version"]) and (not kept or seen["mode"] == 0o640)
    assert not timed or seen["mtime_ns"] == "1500000000000000000"
    assert remote.objects() == {b"a": data, b"b": data}
    good(client.put("b", b"other"))
    if remote.caps & r.PUT_ABSENT:
        unchanged(remote, client, lambda: client.copy("a", "b", absent=True), E.EEXIST)
    if remote.caps & r.PUT_VERSION:
        unchanged(remote, client, lambda: client.copy("a", "b", if_version="other"), E.ESTALE)
    folder(remote, client, "d")
    unchanged(remote, client, lambda: client.copy("a", "b", source_version=client.version("b")), E.ESTALE)
    unchanged(remote, client, lambda: client.copy("nothing", "b"), E.ENOENT)
    unchanged(remote, client, lambda: client.copy("d", "b"), E.EISDIR)
    unchanged(remote, client, lambda: client.copy("a", "d"), E.EISDIR)
    good(client.copy("a", "b"))
    assert client.content("b") == data


# Uploads in parts

def test_an_upload_in_parts(remote, clients):
    """The last part first, by two processes, the first of which is gone; a part sent twice."""
    needs(remote, r.MULTIPART)
    one, size = clients(), remote.part_size
    data = os.urandom(2 * size + 777)
    token, tags = one.upload("f", data, size, skip=(1,))
    assert remote.objects() == {} and remote.uploads() == 1 and one.names() == {}
    one.close()
    two = clients()
    bad_part = two.source(os.urandom(size))
    assert two("part", "f", token=token, n=1, len=size, **{"from": bad_part})["rc"] == 0
    tag = good(two("part", "f", token=token, n=1, len=size, **{"from": two.source(data[size:2 * size])}))["tag"]
    tags.insert(1, tag)
    answer = good(two("complete", "f", token=token, tags=tags, size=len(data), mode=0o640, mtime_ns="1500000000000000000"))
    seen = two("stat", "f")
    assert answer["version"] in ("", seen["version"]) and seen["size"] == len(data)
    assert remote.objects() == {b"f": data} and remote.uploads() == 0 and two.content("f") == data
    again = two("complete", "f", token=token, tags=tags, size=len(data))
    if remote.completes_again:
        assert good(again)["version"] == answer["version"]
    else:
        bad(again, E.ENXIO)
    bad(two("part", "f", token=token, n=0, len=1, **{"from": bad_part}), E.ENXIO)
    good(two("abort", "f", token=token))
    assert remote.objects() == {b"f": data}


def test_conditions_of_an_upload(remote, client):
    needs(remote, r.MULTIPART, r.PUT_ABSENT)
    size = remote.part_size
    data = os.urandom(size + 1)
    good(client.put("f", b"there"))
    token, tags = client.upload("f", data, size)
    call = {"token": token, "tags": tags, "size": len(data)}
    unchanged(remote, client, lambda: client("complete", "f", absent=True, mode=0o400, **call), E.EEXIST)
    if remote.caps & r.PUT_VERSION:
        unchanged(remote, client, lambda: client("complete", "f", if_version="other", **call), E.ESTALE)
        good(client("complete", "f", if_version=client.version("f"), **call))
    else:
        good(client("complete", "f", **call))
    assert client.content("f") == data
    token, tags = client.upload("new", data, size)
    good(client("complete", "new", absent=True, token=token, tags=tags, size=len(data)))
    assert client.content("new") == data


def test_wrong_parts(remote, client):
    needs(remote, r.MULTIPART)
    size = remote.part_size
    data = os.urandom(2 * size + 1)
    token, tags = client.upload("f", data, size)
    total = len(data)
    for odd in ([], tags[:2], tags[1:], tags + tags, [tags[0], tags[2], tags[1]]):
        unchanged(remote, client, lambda: client("complete", "f", token=token, tags=odd, size=total), E.EINVAL)  # noqa: B023
    unchanged(remote, client, lambda: client("complete", "f", token=token, tags=tags, size=total + 1), E.EINVAL)
    source = client.source(data)
    if remote.knows_part_size:
        unchanged(remote, client, lambda: client("part", "f", token=token, n=0, len=size + 1, **{"from": source}), E.EINVAL)
    else:
        longer = good(client("part", "f", token=token, n=0, len=size + 1, **{"from": source}))["tag"]
        unchanged(remote, client, lambda: client("complete", "f", token=token, tags=[longer, *tags[1:]], size=total + 1), E.EINVAL)
        unchanged(remote, client, lambda: client("complete", "f", token=token, tags=[longer, *tags[1:]], size=total), E.EINVAL)
        good(client("part", "f", token=token, n=0, len=size, **{"from": source}))
    unchanged(remote, client, lambda: client("part", "f", token=token, n=0, len=0, **{"from": source}), E.EINVAL)
    for foreign in ("", "x", "up-", "../f", "f", token + "0", token[:-1]):
        unchanged(remote, client, lambda: client("complete", "f", token=foreign, tags=tags, size=total), E.ENXIO)  # noqa: B023
    unchanged(remote, client, lambda: client("complete", "g", token=token, tags=tags, size=total), E.ENXIO)
    good(client("complete", "f", token=token, tags=tags, size=total))
    assert client.content("f") == data


def test_uploads_are_listed_and_go(remote, client):
    needs(remote, r.MULTIPART)
    size = remote.part_size
    made = folder(remote, client, "d")
    data = os.urandom(size)
    names = ("f", "g", "d/f")
    tokens = {name: client.upload(name, data, size)[0] for name in names}

    def listed(path):
        answer = good(client("uploads", path))
        return {row["token"]: urllib.parse.unquote(row["path"]) for row in answer["uploads"]}

    assert set(listed("")) == set(tokens.values())
    assert set(listed("d")) == {tokens["d/f"]} and set(listed("f")) == {tokens["f"]} and listed("nothing") == {}
    assert remote.objects() == made and client.names("d").keys() == {name[2:] for name in made if name[1:2] == b"/"}
    assert good(client("clean", "", idle_s=3600))["removed"] == 0 and remote.uploads() == 3
    for token, path in listed("d").items():
        good(client("abort", path, token=token))
    good(client("abort", "g", token=tokens["g"]))
    good(client("abort", "g", token=tokens["g"]))
    assert set(listed("")) == {tokens["f"]} and remote.uploads() == 1
    assert good(client("clean", "", idle_s=0))["removed"] == 1
    assert listed("") == {} and remote.uploads() == 0


# Death

@pytest.mark.waits
@pytest.mark.slow
@pytest.mark.limit(400)
def test_killed_at_random_instants(remote, clients):
    """Old or new, whole; and after the next clean-up nothing is left but that."""
    chance = random.Random(5)
    bodies = [bytes([letter]) * (6 * MIB) for letter in b"ab"]
    keeper = clients()
    good(keeper.put("f", bodies[0]))
    begin = time.monotonic()
    good(keeper.put("f", bodies[0]))
    span = 1.3 * (time.monotonic() - begin)
    outcomes, now, restored = set(), bodies[0], 0
    for number in range(60 if FULL else 30):
        victim = clients()
        victim("stat", "f")
        new = bodies[(number + 1) % 2]
        source = victim.source(new)
        victim.process.stdin.write(b'{"op": "put", "path": "f", "from": "%s"}\n' % source.encode())
        victim.process.stdin.flush()
        time.sleep(chance.random() * span)
        victim.process.kill()
        victim.process.wait()
        time.sleep(remote.late_s)
        if remote.gaps and b"f" not in remote.objects():  # killed while there was neither
            good(keeper("clean", "f", idle_s=86400))
            restored += 1
            assert remote.content("f") == now
        data = remote.content("f")
        assert data in (now, new)
        outcomes.add(data == new)
        span *= 0.9 if data == new else 1.2  # a put takes as long as the machine is busy
        now = data
    print(f"brought back {restored} times")
    good(keeper("clean", "", idle_s=0))
    assert remote.objects() == {b"f": now} and remote.uploads() == 0
    assert outcomes == {True, False}, "no kill met a put"
