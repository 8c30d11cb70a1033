"""Checks of backend alluxio that are the same on the stand-in (tests/integration/test_alluxio3.py) and on a real cluster
(tests/interop): both import everything from here and bring a fixture `place`, a Place, and `lake_data`, data in it.

What cannot be asked of a cluster that others run (kills, counters, faults) is in tests/integration alone.
"""

import http.client
import json
import os
import shutil
import socket
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import trees
from tests.integration import test_programs as programs
from tests.standin.membership import parse
from tests.standin.ring import Ring
from tests.standin.text import file_id

MIB = 1 << 20
# Those of trees.OTHER_NAMES that Alluxio can carry by one of its ports; never a `?`, a backslash or what is not UTF-8.
MORE_NAMES = ["...", "new\nline", "hash#mark", ".hidden", "\x7f", trees.LONG, "日" * 85]
CLIENT_PAGES = (1, 4, 20)
SIZES = {"half": MIB // 2, "one": MIB, "three-and": 3 * MIB + 12345, "four": 4 * MIB, "five": 5 * MIB + 1, "twenty": 20 * MIB,
         "twenty-one": 21 * MIB + 7, "forty-five": 45 * MIB - 1}


@dataclass
class Place:
    """A cluster, real or not, whose root is a local folder, with a folder below it that is ours."""
    root: str               # of the cluster: file:///DIR
    ufs: Path               # the same as a folder
    folder: str             # ours, a name
    etcd: str               # host:port
    cluster: str = "DefaultAlluxioCluster"
    s3_port: int = 29998
    page_size: int = MIB
    virtual_nodes: int = 5
    load: bool = True       # load jobs work
    standin: object = None  # AlluxioStandin, None for a real one
    extra: dict = field(default_factory=dict)

    @property
    def data(self):
        return self.ufs / self.folder

    def backend(self, **more):
        return {"type": "alluxio", "root": self.root, "etcd": [self.etcd], "cluster": self.cluster, "s3_port": self.s3_port,
                "page_size": self.page_size, "virtual_nodes": self.virtual_nodes, **self.extra, **more}

    def uri(self, name):
        return f"{self.root.rstrip('/')}/{self.folder}/{name}"

    def workers(self):
        """{name: Member}, as etcd has them now."""
        import base64
        prefix = f"/ServiceDiscovery/{self.cluster}/"
        key, end = (base64.b64encode(text.encode()).decode() for text in (prefix, prefix[:-1] + "0"))
        request = urllib.request.Request(f"http://{self.etcd}/v3/kv/range", json.dumps({"key": key, "range_end": end}).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            rows = json.load(answer).get("kvs", [])
        members = [parse(base64.b64decode(row["value"]).decode()) for row in rows]
        return {one.name: one for one in members}

    def owner(self, name):
        members = self.workers()
        ring = Ring({one.name: (one.identity, one.version) for one in members.values()}, self.virtual_nodes)
        return members[ring.owner(self.uri(name))]

    def put(self, name, data):
        """Behind Alluxio, into the under store."""
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def ask(self, worker, text, port="http", quiet=1.0, length=None):
        """(bytes, "closed" or "silent") of one raw request; with `length`, until a body of that length is there."""
        data = b""
        address = (worker.host, self.s3_port if port == "s3" else worker.http_port)
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(text.encode("latin-1"))
            try:
                while chunk := client.recv(MIB):
                    data += chunk
                    if length is not None and len(data.partition(b"\r\n\r\n")[2]) >= length:
                        client.settimeout(quiet)
                        length = None
            except TimeoutError:
                return data, "silent"
        return data, "closed"

    def s3(self, name, first, last):
        """A range by the S3 port of the owner: what loads pages."""
        worker = self.owner(name)
        client = http.client.HTTPConnection(worker.host, self.s3_port, timeout=60)
        client.request("GET", f"/{self.folder}/{quote(name)}", headers={"Range": f"bytes={first}-{last}"})
        answer = client.getresponse()
        body = answer.read()
        client.close()
        assert answer.status == 206 and len(body) == last - first + 1
        return body

    def warm(self, name):
        """All pages of a file are in its owner's cache, whole. Ranges end where pages of any size end."""
        size = (self.data / name).stat().st_size
        step = max(1, 8 * MIB // self.page_size) * self.page_size
        for first in range(0, size, step):
            self.s3(name, first, min(first + step, size) - 1)

    def page(self, name, number):
        """Bytes of a page at its owner, None where it has none."""
        target = f"/v1/file/{file_id(self.uri(name))}/page/{number}"
        worker = self.owner(name)
        client = http.client.HTTPConnection(worker.host, worker.http_port, timeout=30)
        try:
            client.request("GET", target)
            return client.getresponse().read()
        except (http.client.RemoteDisconnected, ConnectionError):
            return None
        finally:
            client.close()


def get(path, fields="", method="GET"):
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"


def make_data(top):
    """The awkward tree with every name that Alluxio can carry, and a bare repository."""
    programs.make_data(top, portable=True)
    for number, name in enumerate(MORE_NAMES):
        path = top / "names" / name
        path.write_bytes(b"content of " + name.encode() + b"\n")
        os.utime(path, (trees.EPOCH + number, trees.EPOCH + number))
    return top


def map_it(prelux, place, below="", mapping=None, **options):
    prelux.config({"version": 1, "backends": {"src": place.backend(**options)},
                   "mappings": [{"local": "/prelux-lake", "remote": f"src:/{place.folder}{below}", **(mapping or {})}]})
    prelux.lake, prelux.source, prelux.kind = "/prelux-lake", place.data / below.strip("/"), "alluxio"
    return prelux


@pytest.fixture
def lake(prelux, place, lake_data):
    """The tree below a mapping; `lake_data` has made it at PLACE/tree."""
    return map_it(prelux, place, "/tree")


# The programs: bodies are those of test_programs.py, on `lake`.

test_same_output = programs.test_same_output
test_times_of_files = programs.test_times_of_files
test_copy_and_diff = programs.test_copy_and_diff
test_python = programs.test_python
test_gcc_with_headers_there = programs.test_gcc_with_headers_there
test_java = programs.test_java
test_node = programs.test_node
test_programs_lying_there = programs.test_programs_lying_there
test_git_clone = programs.test_git_clone
test_sqlite = programs.test_sqlite
test_empty_file_and_ends = programs.test_empty_file_and_ends


def test_every_byte_of_every_name(lake):
    """By two programs that share nothing: tar here, a walk of the source there."""
    out = lake.tmp / "out"
    out.mkdir()
    lake.run(f"tar cf - -C {lake.lake} . | tar xf - -C {out}", timeout=110)
    assert trees.manifest(out) == trees.manifest(lake.source)


def test_names_one_by_one(lake):
    """Cold, without a listing before: a name is found by itself; its neighbours that are not there are not."""
    names = sorted(os.listdir(lake.source / "names"))
    files = [name for name in names if (lake.source / "names" / name).is_file()]
    program = """
import os, sys, json
top, found = sys.argv[1], {}
for name in json.load(sys.stdin):
    with open(os.path.join(top, name), "rb") as f:
        found[name] = f.read().hex()
    for wrong in (name + "x", name + "=", "?" + name):
        assert not os.path.exists(os.path.join(top, wrong[:255])) or wrong[:255] == name, wrong
print(json.dumps(found))
"""
    done = lake.run(["/usr/bin/python3", "-c", program, lake.lake + "/names"], input=json.dumps(files), timeout=110)
    assert json.loads(done.stdout) == {name: (lake.source / "names" / name).read_bytes().hex() for name in files}


test_ten_thousand_names = programs.test_ten_thousand_names  # the last: it fills the tree


# Pages

READER = """
import hashlib, os, sys
for path in sys.argv[1:]:
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    tail = os.pread(fd, 100, max(0, size - 100))       # the last page first
    whole = hashlib.sha256()
    at = 0
    while data := os.pread(fd, 1 << 20, at):
        whole.update(data)
        at += len(data)
    assert at == size and tail == os.pread(fd, 100, max(0, size - 100)), (path, at, size)
    print(os.path.basename(path), size, whole.hexdigest())
    os.close(fd)
"""


@pytest.fixture(scope="module")
def sized(place):
    """Files of SIZES below PLACE/sizes, whole in the workers' caches."""
    for number, (name, size) in enumerate(SIZES.items()):
        place.put(f"sizes/{name}", trees.pattern(size, number + 1))
        place.warm(f"sizes/{name}")
    yield list(SIZES)
    shutil.rmtree(place.data / "sizes", ignore_errors=True)


def read_all(prelux, names, **options):
    paths = [f"{prelux.lake}/{name}" for name in names]
    mapped = prelux.run(["/usr/bin/python3", "-c", READER, *paths], timeout=110, **options).stdout
    plain = prelux.plain(["/usr/bin/python3", "-c", READER, *(str(prelux.source / name) for name in names)]).stdout
    assert mapped == plain and len(mapped.splitlines()) == len(names)


def page_size_lines(prelux):
    """What the log says of it."""
    return [line for line in prelux.log().splitlines() if "page size" in line]


@pytest.mark.limit(300)
@pytest.mark.parametrize("pages", CLIENT_PAGES)
def test_page_size_right_or_wrong(prelux, place, sized, pages):
    """Whatever the client believes: right bytes; one line of the log when it believes wrong."""
    map_it(prelux, place, "/sizes", page_size=pages * MIB)
    read_all(prelux, sized)
    lines = [line for line in prelux.log().splitlines() if "page size" in line]
    assert len(lines) == (0 if pages * MIB == place.page_size else 1), lines


def test_page_cut_by_an_earlier_range(prelux, place):
    data = trees.pattern(3 * MIB + 99, 77)
    place.put("cut/file", data)
    place.s3("cut/file", 0, 9)
    place.s3("cut/file", MIB + 5, MIB + 50)
    assert len(place.page("cut/file", 0)) < place.page_size
    map_it(prelux, place, "/cut")
    read_all(prelux, ["file"])


# What a real worker does on the wire: held against the stand-in and the real one by the same lines.

def test_wire_failures_are_silent(place):
    worker = next(iter(place.workers().values()))
    for target in (f"/v1/info?path=/{place.folder}/nope", "/v1/nope", f"/v1/file/{'0' * 64}/page/0", "/v1/info?path=", "/v1/metrics"):
        assert place.ask(worker, get(target)) == (b"", "closed"), target
    data, end = place.ask(worker, get(f"/v1/files?path=/{place.folder}/nope"), length=2)
    assert data.endswith(b"\r\n\r\n[]") and end == "silent"


def test_wire_redirect_goes_to_the_rings_owner(place):
    workers = place.workers()
    for number in range(40):
        name = f"ring/file{number}"
        place.put(name, b"x")
        owner = place.owner(name)
        for worker in workers.values():
            data, _ = place.ask(worker, get(f"/{place.folder}/{name}"), "s3", length=1, quiet=0.05)
            if worker.host == owner.host:
                assert data.startswith(b"HTTP/1.1 200 ")
            else:
                assert f"location: http://{owner.host}:{place.s3_port}/{place.folder}/{name}".encode() in data
        assert place.page(name, 0) == b"x"


def test_wire_second_request_on_an_s3_connection(place):
    place.put("wire/reused", b"0123456789")
    path = f"/{place.folder}/wire/reused"
    data, end = place.ask(place.owner("wire/reused"), get(path) + get(path, "Range: bytes=2-4\r\n"), "s3", length=13)
    assert data.partition(b"\r\n\r\n")[2] == b"0123456789234" and end == "silent"


def test_wire_names(place):
    """By HTTP raw, by S3 encoded twice where that is needed."""
    worker = next(iter(place.workers().values()))
    for name, by_http in {"a#b": True, "a%b": True, "a+b": True, "a'b": True, "a[b]": True, "a;b": True, "<a>": True, "a(b),@$!*~:": True,
                          "a=b": False, "a&b": False, "a b": False, "ü": False}.items():
        place.put(f"wire-names/{name}", name.encode())
        raw = place.ask(worker, get(f"/v1/info?path=/{place.folder}/wire-names/" + name.encode().decode("latin-1")), length=10)[0]
        assert raw.startswith(b"HTTP/1.1 200") == by_http, name
        once = quote(quote(name, safe="") if any(char in name for char in "+%") else name, safe="")
        head = place.ask(worker, get(f"/{place.folder}/wire-names/{once}", method="HEAD"), "s3")[0]
        assert head.startswith(b"HTTP/1.1 200") and f"Content-Length: {len(name.encode())}".encode() in head, name


def test_wire_short_page(place):
    data = trees.pattern(place.page_size * 2 + 1000, 5)
    place.put("wire/short", data)
    assert place.page("wire/short", 0) is None
    place.s3("wire/short", 0, 9)
    assert place.page("wire/short", 0) == data[:10]
    end = place.page_size + 4999
    place.s3("wire/short", place.page_size // 2, end)
    assert place.page("wire/short", 0) == data[:place.page_size]
    assert place.page("wire/short", 1) == data[place.page_size:end + 1] and place.page("wire/short", 2) is None


# Load jobs

def wait_load(prelux, path, seconds=60):
    """Exit status and output of `load progress` once it is not running."""
    end = time.monotonic() + seconds
    while True:
        done = prelux.cli("load", "progress", path, check=False)
        if done.returncode != 3 or time.monotonic() > end:
            return done
        time.sleep(0.1)


def test_load_job(prelux, place):
    if not place.load:
        pytest.skip("load jobs need a master: PRELUX_TEST_ALLUXIO_MASTER is not set")
    names = [f"load/file{number:02}" for number in range(30)]
    for number, name in enumerate(names):
        place.put(name, trees.pattern(1500 + number, number))
    map_it(prelux, place)
    assert prelux.cli("load", "progress", "/prelux-lake/load", check=False).returncode == 1  # unknown
    submitted = prelux.cli("load", "submit", "/prelux-lake/load", check=False)
    assert submitted.returncode in (0, 3), submitted.stderr
    again = prelux.cli("load", "submit", "/prelux-lake/load", check=False)  # attaches, or starts it anew
    assert again.returncode in (0, 3), again.stderr
    done = wait_load(prelux, "/prelux-lake/load")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(place.page(name, 0) == (place.data / name).read_bytes() for name in names)
    assert prelux.cli("load", "submit", "/prelux-lake/load/none", check=False).returncode == 1
