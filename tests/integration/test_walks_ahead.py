"""Metadata at a real S3 server (versitygw), by what is asked of it: one listing feeds what programs ask of a folder, and folders are listed before a
walk comes to them."""

import os
import re
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from tests.harness import wait_for
from tests.servers.faultproxy import FaultProxy
from tests.servers.versitygw import Versitygw

pytestmark = pytest.mark.skipif(Versitygw.missing(), reason=Versitygw.missing() or "")

LAKE = "/prelux-walk"
FOLDERS = 60


class Together(FaultProxy):
    """Listings of the folders of `late`, and files of these names, wait until three are asked for, however long that takes."""

    late, held = (), 0

    def __init__(self, url):
        super().__init__(url)
        self.three = threading.Condition()

    def _take_fault(self, method, target, fields):
        if (folder_of(target) or target.partition("?")[0].rpartition("/")[2]) in self.late:
            with self.three:
                self.held += 1
                self.three.notify_all()
                self.three.wait_for(lambda: self.held >= 3, 60)
        return super()._take_fault(method, target, fields)


def folder_of(target):
    """The folder whose listing is asked for, or None."""
    query = dict(urllib.parse.parse_qsl(target.partition("?")[2]))
    return query.get("prefix", "")[len("d/"):].strip("/") if "list-type" in query and query.get("max-keys") != "1" else None


@pytest.fixture
def lake(prelux):
    with Versitygw() as server, Together(server.url) as proxy:
        server.bucket("data")
        server.put("data", "d/f00/a.py", b"A = 1\n")
        root = next(Path(server.folder).rglob("a.py")).parent.parent
        for number in range(FOLDERS):
            for path in (f"f{number:02}/a.py", f"f{number:02}/sub/b.py"):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(b"A = 1\n")

        def config(idle_exit="5min", **options):
            s3 = {"type": "s3", "bucket": "data", "endpoint": proxy.url, "access_key": server.access_key, "secret_key": server.secret_key,
                  "region": server.region}
            prelux.config({"version": 1, "idle_exit": idle_exit, "backends": {"s": s3}, "mappings": [{"local": LAKE, "remote": "s:/d", **options}]})
            prelux.run(["true"])
            return prelux

        yield config, proxy, root


def listed(proxy):
    """The folders whose listings were asked for."""
    return [folder for folder in (folder_of(one.target) for one in proxy.requests()) if folder is not None]


def test_one_listing_feeds_all(lake):
    """ls -l, find, du, tests of names and python's search for modules, of a folder with 500 files."""
    config, proxy, root = lake
    for number in range(500):
        (root / "f00" / f"mod{number:03}.py").write_bytes(b"")
    prelux = config(prefetch="off")
    prelux.run(["stat", LAKE])
    prelux.run(["ls", "-l", f"{LAKE}/f00"])
    assert listed(proxy).count("f00") == 1 and len(proxy.requests()) <= 5  # and what the folders above are
    proxy.forget_requests()
    prelux.run(f"cd {LAKE}/f00; ls -l; find . -maxdepth 1 -size +0 -newer a.py; du -s --exclude=sub .; stat mod*; test -e mod7; test -e none; echo *.py")
    prelux.run(["/usr/bin/python3", "-B", "-c", f"""
import importlib.util, sys
sys.path.insert(0, "{LAKE}/f00")
assert importlib.util.find_spec("mod123") and importlib.util.find_spec("a")
assert not any(importlib.util.find_spec(f"none{{n}}") for n in range(50))
"""])
    assert [(one.method, one.target) for one in proxy.requests()] == []


def test_folders_are_listed_before_the_walk_comes(lake):
    config, proxy, _ = lake
    prelux = config()
    prelux.run(f"ls {LAKE}; for n in 0 1 2; do ls {LAKE}/f0$n; done")
    wait_for(lambda: len(set(listed(proxy)) - {""}) == 3 + 8, 30, "a window of listings")  # the first one is of eight folders
    time.sleep(0.3)
    ahead = sorted(set(listed(proxy)) - {"", "f00", "f01", "f02"})
    assert len(ahead) == 8 and len(listed(proxy)) == len(set(listed(proxy)))
    beside = [name for name in ahead if "/" not in name]
    assert beside == [f"f{n:02}" for n in range(3, 3 + len(beside))]  # the next ones, or what lies below them
    proxy.forget_requests()
    for name in ahead:
        assert prelux.run(["ls", f"{LAKE}/{name}"]).stdout.split() in (["a.py", "sub"], ["b.py"])
    assert listed(proxy) == []
    prelux.run(["ls", f"{LAKE}/f{3 + len(beside):02}"])  # he has come through: twice as many
    wait_for(lambda: len(listed(proxy)) == 1 + 16, 30, "the next window")
    wait_for(lambda: prelux.cli("stats", "--json")["mappings"][0]["remote_requests"] >= 3 + 8 + 1 + 16, 30, "those listed ahead are counted")


@pytest.mark.parametrize("name, script", [("f{:02}", "for n in 0 1 2; do ls f0$n; done"), ("m{:02}.py", "ls f00; for n in 0 1 2 3; do cat f00/m0$n.py; done")],
                         ids=["lists", "reads"])
def test_who_lists_or_reads_ahead_is_not_idle(lake, name, script):
    """The program that was ahead of has ended, and the daemon's idle second has gone by: what is under way comes first."""
    config, proxy, root = lake
    for number in range(FOLDERS):
        (root / "f00" / f"m{number:02}.py").write_bytes(b"A = 1\n")
    prelux = config(idle_exit="1s")
    proxy.late, proxy.held = {name.format(number) for number in range(4, FOLDERS)}, -FOLDERS  # until it is let go
    prelux.run(f"cd {LAKE}; ls; {script}")
    wait_for(lambda: proxy.held > -FOLDERS, 30, "something is asked for ahead")
    pid = prelux.daemon_pid()
    time.sleep(3)
    assert pid and prelux.daemon_pid() == pid, prelux.log()
    with proxy.three:
        proxy.held = 3
        proxy.three.notify_all()
    wait_for(lambda: not prelux.daemons(), 60, "idle exit")


def test_a_walk_lists_several_at_once(lake):
    config, proxy, _ = lake
    prelux = config()
    proxy.late = {f"f{number:02}" for number in range(3, FOLDERS)}
    found = prelux.run(["find", LAKE]).stdout.split()
    assert len(found) == len(set(found)) == 1 + FOLDERS * 4
    assert len(listed(proxy)) == len(set(listed(proxy))) == 1 + 2 * FOLDERS  # each once
    assert proxy.held == FOLDERS - 3


@pytest.mark.parametrize("options", [{"prefetch": "off"}, {"freshness": "always"}], ids=str)
def test_not_where_it_is_not_wanted(lake, options):
    config, proxy, _ = lake
    prelux = config(**options)
    prelux.run(f"ls {LAKE}; for n in 0 1 2 3 4; do ls {LAKE}/f0$n; done")
    prelux.cli("daemon", "stop")
    assert set(listed(proxy)) <= {"", "f00", "f01", "f02", "f03", "f04"}


@pytest.mark.skipif(not os.environ.get("FULL"), reason="FULL=1: a million names take minutes")
@pytest.mark.limit(1800)
@pytest.mark.parametrize("folders", [1000, 1])
def test_a_million_names_in_a_gibibyte(prelux, tmp_path, folders):
    source = tmp_path / "source"
    for number in range(folders):
        folder = source / f"folder{number:04}"
        folder.mkdir(parents=True)
        for name in range(1_000_000 // folders):
            os.close(os.open(folder / f"name{name:07}.bin", os.O_CREAT | os.O_WRONLY))
    mapped = prelux.file_mapping(source)
    assert int(prelux.run(f"find {mapped} | wc -l; ls -lR {mapped} >/dev/null", timeout=1200).stdout) == 1_000_000 + folders + 1
    pid = prelux.cli("daemon", "status", "--json")["pid"]
    most = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
    assert most < 1 << 20, f"{most} KiB"
