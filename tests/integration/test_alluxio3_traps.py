"""Backend alluxio without daemon and cache, on the stand-in: each trap of PROTOCOLS Part 0 by itself, and clusters that lie.

The rule: an error or the right bytes, never wrong ones, and within a time that is known. What the stand-in is too honest for is told
by a worker of ours (Fake), which a fixed list of workers names.
"""

import http.server
import json
import os
import pwd
import re
import subprocess
import threading
import time
from urllib.parse import unquote

import pytest

from tests import harness, trees
from tests.integration.backends_raw_rig import TOOL, Tool
from tests.standin.cluster import AlluxioStandin

pytestmark = [pytest.mark.asan,
              pytest.mark.skipif(not TOOL.exists(), reason=f"{TOOL} is not built (make unit-programs)"),
              pytest.mark.skipif(AlluxioStandin.missing() is not None, reason=str(AlluxioStandin.missing()))]

MIB = 1 << 20
BALANCED = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"]  # rings of 5 and 2000 differ for half of all names
ENOENT, EIO, EACCES, ENOTDIR, EPROTO, EOPNOTSUPP, ESTALE = 2, 5, 13, 20, 71, 95, 116


class Cluster(Tool):
    """A backend over a stand-in, with an under store unless it says otherwise."""

    def __init__(self, folder, standin, under=True, **conf):
        backends = {"b": {"type": "alluxio", "root": standin.root, "etcd": [standin.etcd.endpoint], "s3_port": standin.s3_port, **conf}}
        if under:
            backends["b"]["under_store"] = "u"
            backends["u"] = {"type": "file", "root": str(standin.ufs)} if under is True else under
        start(self, folder, backends)

    def log(self):
        return self.errors()


def start(tool, folder, backends):
    """As Tool's own constructor, for more than one backend."""
    folder.mkdir(parents=True, exist_ok=True)
    tool.folder = folder
    (folder / "conf.yaml").write_text(json.dumps({"version": 1, "backends": backends, "mappings": []}))
    tool.stderr = open(folder / "stderr", "wb+")
    tool.process = subprocess.Popen([TOOL, folder / "conf.yaml", "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=tool.stderr,
                                    env={**harness.clean_environment(), "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"})


@pytest.fixture
def tools():
    made = []
    yield made.append
    for tool in made:
        tool.close()


@pytest.fixture(scope="module")
def standin():
    with AlluxioStandin(sync_interval=0, timeout=2, master=False) as cluster:
        (cluster.ufs / "b").mkdir()
        yield cluster


@pytest.fixture
def own(tmp_path, request):
    """A cluster of this test only."""
    options = {"sync_interval": 0, "timeout": 2, "linger": 4, "master": False, **getattr(request, "param", {})}
    with AlluxioStandin(folder=tmp_path / "standin", **options) as cluster:
        (cluster.ufs / "b").mkdir()
        yield cluster


def with_options(**options):
    return pytest.mark.parametrize("own", [options], indirect=True, ids=["-".join(options)])


@pytest.fixture
def tool(standin, tmp_path, tools):
    made = Cluster(tmp_path / "tool", standin)
    tools(made)
    return made


def put(cluster, name, data):
    path = cluster.ufs / "b" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data


def owned(cluster, index, size=20_000, count=6, folder="owned"):
    """Names of files that belong to one worker."""
    names = (f"{folder}/f{number}" for number in range(1000))
    mine = [name for name in names if cluster.owner(f"/b/{name}") == index][:count]
    for number, name in enumerate(mine):
        put(cluster, name, trees.pattern(size + number, number))
    return mine


def content(cluster, name):
    return (cluster.ufs / "b" / name).read_bytes()


def sources(tool):
    rows = tool("report")["report"]["reads"]
    return {name: row["bytes"] for name, row in rows.items()}


# Names

NAMES = ["plain", "a#b", "100%", "%41", "a%2Fb", "a%3Ab", "a+b", "a'b", "a[b]", "a;b", "<a>", "a(b),@$!*~:", "a=b", "a&b=c", "a b", "ü日", "\"",
         "{a|b}^`", "tab\there", "\x7f", "new\nline", "n" * 255, "日" * 85]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:8].encode("unicode_escape").decode())
def test_names_that_one_port_can_carry(standin, tool, name):
    data = put(standin, f"names/{name}", name.encode())
    assert tool("stat", f"b/names/{name}")["size"] == len(data)
    assert tool.read(f"b/names/{name}")[:2] == (0, data)
    put(standin, f"folders/{name}/in {name[:80]}", b"inside")
    assert tool("stat", f"b/folders/{name}")["type"] == "dir"
    rows = tool("list", f"b/folders/{name}")
    assert rows["rc"] == 0 and [(unquote(row["name"]), row["size"]) for row in rows["names"]] == [(f"in {name[:80]}", 6)]
    for wrong in (name[:80] + "x", "x" + name[:80]):
        assert tool("stat", f"b/names/{wrong}")["rc"] == -ENOENT
        assert tool("list", f"b/names/{wrong}")["rc"] == -ENOENT


@pytest.mark.parametrize("name", [b"a?b", b"back\\slash", b"\xff\xfe"])
def test_names_that_no_port_can_carry(standin, tool, name):
    put(standin, "impossible/a", b"1")
    put(standin, "impossible/back/slash", b"another one")
    standin.forget_requests()
    for op in ("stat", "list"):
        answer = tool(op, b"b/impossible/" + name)
        assert answer["rc"] == -EOPNOTSUPP and answer["advice"]
    assert tool("read", b"b/impossible/" + name, out="/dev/null", expect={"size": 1})["rc"] == -EOPNOTSUPP
    assert standin.requests() == []


def test_a_name_that_the_port_would_cut_is_not_another_object(standin, tool):
    put(standin, "cut/dt", b"wrong")
    assert tool("stat", "b/cut/dt=2024")["rc"] == -ENOENT
    put(standin, "cut/dt=2024", b"right one")
    assert tool("stat", "b/cut/dt=2024")["size"] == 9
    put(standin, "cut/A", b"wrong")
    assert tool("stat", "b/cut/%41")["rc"] == -ENOENT


# Silence

def test_silence_is_told_apart(standin, tool):
    """A missing name costs a closed connection and two 404s; a folder that is not there lists as empty."""
    put(standin, "silent/file", b"1")
    (standin.ufs / "b" / "silent" / "empty").mkdir()
    assert tool("stat", "b/silent/none")["rc"] == -ENOENT
    assert tool("stat", "b/silent/file/below")["rc"] in (-ENOENT, -ENOTDIR)
    assert tool("list", "b/silent/none")["rc"] == -ENOENT
    assert tool("list", "b/silent/empty") ["names"] == []
    assert tool("list", "b/silent/empty")["rc"] == 0
    assert tool("list", "b/silent/file")["rc"] == -ENOTDIR
    assert tool("stat", "none")["rc"] == -ENOENT
    for who in (standin.owner("/b/silent/file"), None):  # silence that means nothing: of its owner, then of all
        standin.fault(who, dead=True)
        try:
            assert tool("stat", "b/silent/file").get("size") == 1
        finally:
            standin.fault(who, dead=False)


@with_options(no_s3=True)
def test_without_the_s3_api(own, tmp_path, tools):
    """Looking works by the HTTP port alone; bytes come from the under store, and `doctor` says why."""
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    data = put(own, "d/file", b"some bytes")
    assert tool("stat", "b/d/file")["size"] == 10
    assert tool("stat", "b/d/none")["rc"] == -ENOENT
    assert [row["name"] for row in tool("list", "b/d")["names"]] == ["file"]
    assert tool.read("b/d/file")[:2] == (0, data)
    assert sources(tool)["under_store"] == 10
    asked = tool("examine")["report"]["asked"]
    assert len(asked) == 2 and all(row["http"] == "ok" and row["s3"] == "unreachable" and "s3.api.enabled" in row["advice"] for row in asked)


def test_a_file_in_the_root(standin, tmp_path, tools):
    """The S3 API takes its name for a bucket."""
    (standin.ufs / "lonely").write_bytes(b"in the root")
    tool = Cluster(tmp_path / "with", standin)
    tools(tool)
    assert tool("stat", "lonely")["size"] == 11
    assert tool.read("lonely")[:2] == (0, b"in the root")
    assert tool("stat", "lonelier")["rc"] == -ENOENT
    (standin.ufs / "lonely one").write_bytes(b"not by HTTP")
    assert tool("stat", "lonely one")["size"] == 11
    assert tool.read("lonely one")[:2] == (0, b"not by HTTP")


def test_a_root_that_is_not_the_clusters(standin, tmp_path, tools):
    """By HTTP all would be well, and the S3 port would take another name for the bucket."""
    put(standin, "here/x", b"1")
    tool = Cluster(tmp_path / "tool", standin, root=standin.root + "/b")
    tools(tool)
    answer = tool("stat", "here/x")
    assert answer["rc"] == -EPROTO and "ufs.root" in answer["advice"], answer
    assert tool("read", "here/x", out="/dev/null", expect={"size": 1})["rc"] < 0


# Ranges

def test_ranges_end_where_pages_end(standin, tool):
    size = 21 * MIB + 77
    data = put(standin, "ranges/file", trees.pattern(size, 4))
    standin.forget_requests()
    assert tool.read("b/ranges/file", off=0, len=100)[1] == data[:100]
    assert tool.read("b/ranges/file", off=5 * MIB - 10, len=3 * MIB)[1] == data[5 * MIB - 10:8 * MIB - 10]
    assert tool.read("b/ranges/file")[1] == data
    assert tool.read("b/ranges/file", off=size - 1, len=1)[1] == data[-1:]
    rows = [row for row in standin.requests(kind="get") if row.range]
    ends = [(int(first), int(last) + 1) for first, last in (row.range[6:].split("-") for row in rows)]
    assert ends and all(end - first <= 8 * MIB and (end % MIB == 0 or end == size) for first, end in ends), ends
    pages = standin.pages("/b/ranges/file")
    assert pages == {number: min(MIB, size - number * MIB) for number in range(22)}
    assert len({(row.worker, row.connection) for row in rows}) == len(rows) and not [row for row in standin.requests() if row.spent]


@with_options(page_size=20 * MIB)
def test_pages_longer_than_a_range(own, tmp_path, tools):
    """20 MiB pages: the last byte of a page first, then ranges of 8 MiB; every page is whole in the end."""
    tool = Cluster(tmp_path / "tool", own, page_size="20MiB")
    tools(tool)
    size = 45 * MIB + 3
    data = put(own, "f", trees.pattern(size, 8))
    assert tool.read("b/f")[1] == data
    assert sum(own.state(index)["ufs_bytes"] for index in (0, 1)) <= size + 1000, "a page was loaded again and again, each time longer"
    for _ in range(2):
        assert tool.read("b/f")[1] == data
    assert own.pages("/b/f") == {0: 20 * MIB, 1: 20 * MIB, 2: 5 * MIB + 3}
    fetched = sum(row.bytes for row in own.requests(kind="get"))
    assert fetched <= 2 * size + 1000  # by ranges once or twice, then by pages
    assert sources(tool)["worker_pages"] >= size
    assert tool("report")["report"]["pages"]["verdict"] == "proven"


def test_short_pages_are_misses(standin, tool):
    data = put(standin, "short/file", trees.pattern(6 * MIB + 5, 12))
    assert tool.read("b/short/file")[1] == data          # proves the page size, too
    standin.drop_pages("/b/short/file")
    import http.client
    place = standin.workers[standin.owner("/b/short/file")]
    for first, last in ((0, 9), (2 * MIB + 5, 2 * MIB + 50), (6 * MIB, 6 * MIB)):
        client = http.client.HTTPConnection(place.host, place.s3_port)
        client.request("GET", "/b/short/file", headers={"Range": f"bytes={first}-{last}"})
        client.getresponse().read()
        client.close()
    assert standin.pages("/b/short/file")[0] == 10
    before = sources(tool)
    for _ in range(2):
        assert tool.read("b/short/file")[1] == data
    assert sources(tool)["worker_s3"] > before["worker_s3"]


# The page size

FILES = {"half": MIB // 2, "five": 5 * MIB, "five-one": 5 * MIB + 1, "eight": 8 * MIB, "nine": 9 * MIB - 7, "zeros": 9 * MIB}


@pytest.mark.parametrize("theirs", [1, 4])
@pytest.mark.parametrize("ours", [1, 2, 4, 20])
def test_page_size_differs(tmp_path_factory, tools, sized_clusters, theirs, ours):
    """Lengths may be equal while bytes are not: 5 MiB in pages of 4 has a page 1 of one MiB, as pages of 1 do."""
    cluster, cache = sized_clusters(theirs)
    tool = Cluster(tmp_path_factory.mktemp("tool"), cluster, page_size=f"{ours}MiB", under=False)
    tools(tool)
    for turn in range(3):
        for name in FILES if turn != 1 else reversed(FILES):
            data = cache[name]
            tail = min(len(data), 100)
            assert tool.read(f"b/{name}", off=len(data) - tail, len=tail)[1] == data[-tail:]
            assert tool.read(f"b/{name}")[1] == data, name
    verdict = tool("report")["report"]["pages"]
    lines = [line for line in tool.log().splitlines() if "page size" in line]
    assert len(lines) == (theirs != ours), lines
    assert verdict["configured"] == ours * MIB
    assert verdict["size"] == theirs * MIB and verdict["verdict"] == ("proven" if ours == theirs else "other"), verdict


@pytest.mark.parametrize("own, ours", [({"workers": 1, "page_size": theirs * MIB}, ours) for theirs, ours in ((1, 4), (4, 1), (4, 2))],
                         indirect=["own"])
def test_page_size_and_files_of_zeros(own, tmp_path, tools, ours):
    """One length of the two fits, and all bytes: what is left is the other length. By name: at_least, at_most of alluxio_proof.c."""
    tool = Cluster(tmp_path / "tool", own, page_size=f"{ours}MiB", under=False)
    tools(tool)
    data = {"zeros": put(own, "zeros", bytes(9 * MIB)), "five": put(own, "five", trees.pattern(5 * MIB, 3))}
    for end in (3 * MIB, 4 * MIB, 8 * MIB, 9 * MIB):
        assert tool.read("b/zeros", off=0, len=end)[1] == data["zeros"][:end]
        pages = tool("report")["report"]["pages"]
        assert pages["verdict"] != "proven" and pages["size"] in (ours * MIB, own.page_size), pages
    for _ in range(2):
        for name in data:
            assert tool.read(f"b/{name}")[1] == data[name], name
    assert tool("report")["report"]["pages"]["size"] == own.page_size


@pytest.fixture(scope="module")
def sized_clusters(tmp_path_factory):
    made = {}

    def get(pages):
        if pages not in made:
            cluster = AlluxioStandin(sync_interval=0, page_size=pages * MIB, master=False).start()
            (cluster.ufs / "b").mkdir()
            data = {name: put(cluster, name, bytes(size) if name == "zeros" else trees.pattern(size, size % 97)) for name, size in FILES.items()}
            made[pages] = cluster, data
        return made[pages]
    yield get
    for cluster, _ in made.values():
        cluster.stop()


@with_options(workers=1)
def test_a_worker_that_comes_back_with_other_pages(own, tmp_path, tools):
    """What was proven of a worker is forgotten when it registers anew."""
    tool = Cluster(tmp_path / "tool", own, under=False, options={"alluxio.user.worker.list.refresh.interval": "1s"})
    tools(tool)
    data = put(own, "five", trees.pattern(5 * MIB, 1))
    for _ in range(2):
        assert tool.read("b/five")[1] == data
    assert tool("report")["report"]["pages"]["verdict"] == "proven"
    own.kill(0)
    own.wait_members(0)
    own.restart(0, empty=True, page_size=4 * MIB)
    deadline = time.monotonic() + 60
    while tool("report")["report"]["pages"]["size"] != 4 * MIB:
        assert time.monotonic() < deadline
        assert tool.read("b/five")[1] == data
        time.sleep(0.2)


# Sick workers

@with_options(range_limit=4 * MIB)
def test_poisoned_workers(own, tmp_path, tools):
    """206 and no bytes: the next one or the under store, and it is left alone from then on."""
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    names = owned(own, 0, size=40_000)
    own.fault(0, poisoned=True)
    for name in names:
        assert tool.read(f"b/{name}")[1] == content(own, name)
    report = tool("report")["report"]
    sick = [row for row in report["workers"] if row["worker"] == f"127.0.0.1:{own.workers[0].http_port}"]
    assert sick[0]["s3"]["state"] == "poisoned" and report["reads"]["under_store"]["bytes"] > 0
    assert len(own.requests(worker=0, kind="get")) == 1  # and no other


@with_options(identities=BALANCED)
def test_redirect_to_a_stranger(own, tmp_path, tools):
    """Nothing is ever sent to whom the cluster does not know."""
    heard = []

    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_response(200)
            self.end_headers()
        log_message = do_HEAD = lambda *_: None
    server = http.server.ThreadingHTTPServer(("127.0.0.99", own.s3_port), Stranger)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = owned(own, 0)
    tool = Cluster(tmp_path / "tool", own, virtual_nodes=2000)  # so that some are asked of the wrong worker
    tools(tool)
    own.fault(redirect_to="127.0.0.99")
    try:
        for name in names + owned(own, 1):
            assert tool.read(f"b/{name}")[1] == content(own, name)
    finally:
        server.shutdown()
        server.server_close()
    assert heard == [] and tool("report")["report"]["ring"]["redirected"] > 0


@with_options(identities=[*BALANCED, "33333333-3333-4333-8333-333333333333"], workers=3)
def test_wrong_virtual_nodes(own, tmp_path, tools):
    """Redirects lead to the owner all the same, keys encoded anew; doctor counts and names the right number."""
    tool = Cluster(tmp_path / "tool", own, virtual_nodes=2000)
    tools(tool)
    for number in range(30):
        put(own, f"v/a+b%41 {number}", trees.pattern(3000 + number, number))
    for number in range(30):
        assert tool.read(f"b/v/a+b%41 {number}")[1] == content(own, f"v/a+b%41 {number}")
    assert sources(tool)["under_store"] == 0
    report = tool("examine")["report"]
    check = report["ring_check"]
    assert report["ring"]["redirected"] > 0 and check["agree"] < check["asked"] == 16
    assert check["text"] == f"{check['agree']} of 16 agree" and "virtual_nodes: 5" in check["advice"]
    assert all(own.pages(f"/b/v/a+b%41 {number}") == {0: 3000 + number} for number in range(30)), "doctor cut a page"


def test_right_virtual_nodes(standin, tool):
    for number in range(20):
        put(standin, f"ring/{number}", b"x" * 100)
    check = tool("examine")["report"]["ring_check"]
    assert check["agree"] == check["asked"] > 0 and "advice" not in check
    for number in range(5):
        path = f"/b/ring/{number}"
        assert tool("owners", path.strip("/"))["owners"] == [f"{standin.workers[index].host}:{standin.workers[index].http_port}"
                                                             for index in standin.owners(path)]


@pytest.mark.slow
def test_deaths_with_an_under_store(own, tmp_path, tools):
    tool = Cluster(tmp_path / "tool", own, options={"alluxio.user.worker.list.refresh.interval": "1s"})
    tools(tool)
    names = owned(own, 0) + owned(own, 1)
    first = {name: tool("stat", f"b/{name}")["version"] for name in names}
    own.kill(0)
    for name in names:
        assert tool.read(f"b/{name}")[1] == content(own, name)
    own.kill(1)
    begin = time.monotonic()
    for name in names:
        rc, data, answer = tool.read(f"b/{name}")
        assert data == content(own, name) and answer["version"] == first[name], "another version by the under store"
    assert sorted(row["name"] for row in tool("list", "b/owned")["names"]) == sorted(name.rpartition("/")[2] for name in names)
    assert tool("stat", "b/owned/none")["rc"] == -ENOENT
    assert time.monotonic() - begin < 60
    own.restart(0)
    own.restart(1)
    deadline = time.monotonic() + 90
    before = sources(tool)["worker_s3"]
    while sources(tool)["worker_s3"] == before:
        assert time.monotonic() < deadline
        assert tool.read(f"b/{names[0]}")[1] == content(own, names[0])
        time.sleep(0.5)


@pytest.mark.waits
@pytest.mark.slow
def test_a_death_without_an_under_store(own, tmp_path, tools):
    """500 UNAVAILABLE for some seconds: waited for. Both dead: an error that names what is missing."""
    tool = Cluster(tmp_path / "tool", own, under=False, options={"alluxio.user.worker.list.refresh.interval": "1s"})
    tools(tool)
    names = owned(own, 0)
    for name in names[:2]:
        tool("stat", f"b/{name}")
    assert tool.log().count("no under store") == 1
    own.kill(0)
    for name in names:
        assert tool.read(f"b/{name}")[1] == content(own, name)
    own.kill(1)
    begin = time.monotonic()
    answer = tool("stat", f"b/{names[0]}")
    assert answer["rc"] == -EIO and "no under store" in answer["why"] and own.root in answer["advice"], answer
    assert 30 < time.monotonic() - begin < 100


# Versions

def test_a_change_is_noticed(standin, tool):
    put(standin, "change/file", b"a" * 3000)
    seen = tool("stat", "b/change/file")
    expect = {key: seen[key] for key in ("size", "version", "mtime_ns")}
    for data in (b"b" * 3001, b"c" * 3000, b"d"):
        time.sleep(0.02)
        put(standin, "change/file", data)
        assert tool("read", "b/change/file", out="/dev/null", expect=expect)["rc"] == -ESTALE
    (standin.ufs / "b" / "change" / "file").unlink()
    assert tool("read", "b/change/file", out="/dev/null", expect=expect)["rc"] in (-ESTALE, -ENOENT)


def test_a_change_in_the_middle_is_noticed(own, tmp_path, tools):
    """The heads of all answers were right; the look afterwards is what tells."""
    tool = Cluster(tmp_path / "tool", own)
    tools(tool)
    put(own, "mid", bytes(7 * MIB))
    tool("stat", "b/mid")
    own.fault(slow=3)  # so the look is not answered sooner than that after the first bytes
    out = tmp_path / "out"

    def change():
        harness.wait_for(lambda: out.exists() and out.stat().st_size, 60, "the first bytes")
        with open(own.ufs / "b" / "mid", "r+b") as file:
            file.seek(6 * MIB)
            file.write(b"new")
    thread = threading.Thread(target=change)
    thread.start()
    assert tool("read", "b/mid", out=str(out))["rc"] == -ESTALE
    thread.join()


def test_an_under_store_that_lies_elsewhere(own, tmp_path, tools):
    """Same names, other files."""
    elsewhere = tmp_path / "elsewhere" / "b"
    elsewhere.mkdir(parents=True)
    tool = Cluster(tmp_path / "tool", own, under={"type": "file", "root": str(tmp_path / "elsewhere")})
    tools(tool)
    data = put(own, "file", b"x" * 1000)
    seen = tool("stat", "b/file")
    expect = {key: seen[key] for key in ("size", "version", "mtime_ns")}
    for index in (0, 1):
        own.kill(index)
    assert tool("read", "b/file", out="/dev/null", expect=expect)["rc"] == -ESTALE
    (elsewhere / "file").write_bytes(b"y" * 1000)
    assert tool("read", "b/file", out="/dev/null", expect=expect)["rc"] == -ESTALE
    (elsewhere / "file").write_bytes(data)
    os.utime(elsewhere / "file", ns=(0, int(seen["mtime_ns"])))
    assert tool("read", "b/file", out="/dev/null", expect=expect)["rc"] == 0


# A worker that lies

class Fake:
    """One worker of a fixed list whose ports say what a test wants."""

    def __init__(self, **says):
        self.says, self.asked = says, []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                kind = "info" if self.path.startswith("/v1/info") else "files" if self.path.startswith("/v1/files") else \
                    "page" if "/page/" in self.path else "head" if self.command == "HEAD" else "list" if "list-type" in self.path else "get"
                fake.asked.append((kind, self.path, self.headers.get("Range")))
                answer = fake.says.get(kind)
                answer = answer(self) if callable(answer) else answer
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                self.close_connection = True
            do_HEAD = do_GET
            log_message = lambda *_: None
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def conf(self):
        return {"type": "alluxio", "root": "file:///u", "workers": [f"127.0.0.1:{self.port}"], "s3_port": self.port}


def whole(body, head="200 OK", fields=""):
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def file_info(path="b/f", size=10, mtime=1000, kind="file", **more):
    return json.dumps([{"mType": kind, "mName": path.rpartition("/")[2], "mPath": "/" + path, "mUfsPath": "file:///u/" + path,
                        "mLastModificationTimeMs": mtime, "mLength": size, **more}]).encode()


@pytest.fixture
def fake(tmp_path, tools):
    made = []

    def start_fake(**says):
        one = Fake(**says)
        tool = Tool.__new__(Tool)
        start(tool, tmp_path / "fake", {"b": {**one.conf(), "under_store": "u"}, "u": {"type": "file", "root": str(tmp_path / "none")}})
        (tmp_path / "none").mkdir(exist_ok=True)
        made.append(one.server)
        tools(tool)
        tool.fake = one
        return tool
    yield start_fake
    for server in made:
        server.shutdown()
        server.server_close()


INFO_LIES = {
    "another file": whole(file_info("b/g")), "another folder": whole(file_info("c/f")), "two": whole(json.dumps([{}, {}]).encode()),
    "empty": whole(b"[]"), "no array": whole(b"{}"), "html": whole(b"<html>sorry</html>"), "negative": whole(file_info(size=-1)),
    "a fraction beyond": whole(file_info(size=1e300)), "no length": whole(json.dumps([{"mType": "file", "mName": "f"}]).encode()),
    "no type": whole(file_info(kind="link")), "text length": whole(file_info(size="10")), "nul": whole(file_info("b/f\0")),
    "cut": whole(file_info())[:-5], "deep": whole(b"[" * 1000), "status": whole(file_info(), "500 no"),
    "endless head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40000, "garbage": b"garbage\r\n\r\n",
}


@pytest.mark.parametrize("lie", INFO_LIES)
def test_info_lies(fake, lie):
    tool = fake(info=INFO_LIES[lie], head=whole(b"", "500 Internal Server Error"))
    begin = time.monotonic()
    assert tool("stat", "b/f")["rc"] in (-EIO, -EPROTO, -ENOENT)  # ENOENT: the (empty) under store's word
    assert time.monotonic() - begin < 50
    assert tool("read", "b/f", out="/dev/null")["rc"] < 0


LIST_LIES = {"other folder": whole(file_info("c/f")), "deeper": whole(file_info("b/d/f/g")), "html": whole(b"<p>"),
             "cut": whole(b"[" + file_info("b/d/f")[1:-1] + b",")}


@pytest.mark.parametrize("lie", LIST_LIES)
def test_list_lies(fake, lie):
    tool = fake(files=LIST_LIES[lie], list=whole(b"<html/>"), head=whole(b"", "500 x"))
    assert tool("list", "b/d")["rc"] in (-EIO, -EPROTO, -ENOENT)


def part(first, last, size, body, fields="ETAG: (len:10, modtime:1000)\r\n", head="206 Partial Content"):
    return (f"HTTP/1.1 {head}\r\nContent-Length: {last - first + 1}\r\nContent-Range: bytes {first}-{last}/{size}\r\n{fields}\r\n").encode() + body


DATA_LIES = {
    "short": part(0, 9, 10, b"12345"), "nothing": part(0, 9, 10, b""), "other range": part(1, 9, 10, b"234567890"),
    "moved range": part(1, 10, 10, b"2345678901"),
    "longer file": part(0, 9, 11, b"1234567890"), "other time": part(0, 9, 10, b"1234567890", "ETAG: (len:10, modtime:1001)\r\n"),
    "other length in the ETag": part(0, 9, 10, b"1234567890", "ETAG: (len:11, modtime:1000)\r\n"),
    "other second": part(0, 9, 10, b"1234567890", "Last-Modified: Thu, 01 Jan 1970 00:00:02 GMT\r\n"),
    "200 to a range": whole(b"1234567890"), "206 without a range": whole(b"1234567890", "206 Partial Content"),
    "range behind the end": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\nContent-Range: bytes 0-0/10\r\n\r\n",
    "html": whole(b"<html/>"), "500": whole(b"UNAVAILABLE: io exception", "500 Internal Server Error"), "404": whole(b"", "404 Not Found"),
    "no length": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\n\r\n1234567890",
    "redirect to itself": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1/b/f\r\nContent-Length: 0\r\n\r\n",
    "redirect to nowhere": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: ::\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("lie", DATA_LIES)
def test_data_lies(fake, lie):
    tool = fake(info=whole(file_info()), get=DATA_LIES[lie])
    begin = time.monotonic()
    rc, data, answer = tool.read("b/f")
    assert rc in (-EIO, -EPROTO, -ESTALE, -ENOENT) and data is None, answer
    assert time.monotonic() - begin < 50


@pytest.mark.parametrize("fields", ["ETAG: (len:10, modtime:1000)\r\n", "Last-Modified: Thu, 01 Jan 1970 00:00:01 GMT\r\n",
                                    "content-encoding: application/octet-stream\r\nETAG: 83afa1ab818370731da1157d27957304\r\n", ""])
def test_the_truth(fake, fields):
    tool = fake(info=whole(file_info()), get=part(0, 9, 10, b"1234567890", fields))
    assert tool.read("b/f")[:2] == (0, b"1234567890")
    assert [kind for kind, *_ in tool.fake.asked] == ["info", "get"]


def test_a_bad_user(fake):
    tool = fake(info=whole(file_info()), get=whole(b"<Code>AuthorizationHeaderMalformed</Code>", "400 Bad Request"))
    answer = tool("read", "b/f", out="/dev/null")
    assert answer["rc"] == -EACCES and "AuthorizationHeaderMalformed" in answer["why"]


def test_a_user_is_named(fake):
    seen = []

    def get(handler):
        seen.append(handler.headers["Authorization"])
        return part(0, 9, 10, b"1234567890")
    tool = fake(info=whole(file_info()), get=get)
    assert tool.read("b/f")[0] == 0
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert seen[0] == f"AWS4-HMAC-SHA256 Credential={name if re.fullmatch('[A-Za-z0-9._-]+', name) else 'prelux'}/prelux"


def test_a_worker_that_hangs(fake):
    """Connection taken, head sent, then nothing."""
    def hang(handler):
        handler.wfile.write(part(0, 9, 10, b"123"))
        handler.wfile.flush()
        over.wait(60)
    over = threading.Event()
    tool = fake(info=whole(file_info()), get=hang)
    begin = time.monotonic()
    assert tool("read", "b/f", out="/dev/null")["rc"] < 0
    assert 5 < time.monotonic() - begin < 55
    over.set()


def test_a_sink_that_refuses_ends_it(standin, tool):
    put(standin, "refused", bytes(30 * MIB))
    begin = time.monotonic()
    assert tool("read", "b/refused", out="/dev/null", fail_at=100)["rc"] == -28
    assert time.monotonic() - begin < 30


def test_many_threads(standin, tool):
    data = put(standin, "threads", trees.pattern(20 * MIB + 9, 5))
    answer = tool("read", "b/threads", out=str(tool.folder / "many"), threads=8)
    assert answer["rc"] == 0, answer
    assert all((tool.folder / f"many.{number}").read_bytes() == data for number in range(8))
