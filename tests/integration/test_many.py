"""Many at once: configurations, processes, readers of one object; daemons that die meanwhile."""

import os
import signal
import subprocess
import time

import pytest

from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx
from tests.trees import pattern


def test_twenty_configurations_at_once(prelux):
    """Pairs of configuration and working directory, relative prefixes, one daemon: no cross-talk."""
    children = []
    for i in range(20):
        source, work = prelux.tmp / f"source{i}", prelux.tmp / f"work{i}"
        source.mkdir()
        work.mkdir()
        (source / "f").write_text(f"data of {i}")
        (source / f"only{i}").touch()
        config = prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}},
                                "mappings": [{"local": "./data", "remote": "src:/"}]}, name=f"c{i}.yaml")
        script = "for k in 1 2 3 4 5; do cat data/f; echo; ls data; (cd data && cat f && pwd); done"
        children.append((i, work, prelux.popen(script, cwd=work, config=config, stdout=subprocess.PIPE, text=True)))
    for i, work, child in children:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        assert out == f"data of {i}\nf\nonly{i}\ndata of {i}{work}/data\n" * 5
    assert len(prelux.daemons()) == 1


@pytest.mark.alone
@pytest.mark.limit(180)
def test_thousand_processes_cold(prelux):
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "f").write_text("hello")
    lake = prelux.file_mapping(source)
    env = dict(prelux.env, LD_PRELOAD=str(prelux.library), PRELUX_CONFIG=str(prelux.config_path))
    start = time.monotonic()
    script = f"for i in $(seq 1000); do /bin/cat {lake}/f & done; wait"
    done = subprocess.run(["bash", "-c", f"unset LD_PRELOAD; export LD_PRELOAD={prelux.library}; {script}"],
                          env={**env, "LD_PRELOAD": ""}, capture_output=True, text=True, timeout=120)
    took = time.monotonic() - start
    assert done.stderr == ""
    assert done.stdout == "hello" * 1000
    assert len(prelux.daemons()) == 1
    print(f"1000 processes: {took:.1f} s")


def web(prelux, url, **options):
    prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": url}},
                   "mappings": [{"local": "/prelux-web", "remote": "w:/", **options}]})
    return "/prelux-web"


def test_one_fill_for_32_processes(prelux, tmp_path):
    root = tmp_path / "web"
    root.mkdir()
    data = pattern(3_000_000)
    (root / "big").write_bytes(data)
    with Nginx(root) as server, FaultProxy(server.url) as slow:
        slow.fault("/big", delay=0.5)
        lake = web(prelux, slow.url)
        done = prelux.run(f"for i in $(seq 32); do md5sum < {lake}/big & done; wait")
        assert len(set(done.stdout.split("\n")[:-1])) == 1 and done.stdout.count("\n") == 32
        bodies = [r for r in server.requests(at_least=1) if r.method == "GET" and "/big" in r.uri]
        assert sum(r.bytes for r in bodies) == len(data)


@pytest.mark.limit(240)
def test_daemon_killed_in_the_middle(prelux, tmp_path):
    """32 readers, the daemon killed again and again while it fills: all finish, all right."""
    root = tmp_path / "web"
    root.mkdir()
    names = [f"f{i}" for i in range(8)]
    for i, name in enumerate(names):
        (root / name).write_bytes(pattern(2_000_000, i))
    with Nginx(root) as server, FaultProxy(server.url) as slow:
        slow.fault("/f", rate=4_000_000)
        lake = web(prelux, slow.url)
        prelux.run(["true"])
        child = prelux.popen(f"for i in $(seq 32); do md5sum {lake}/f$((i % 8)) & done; wait", stdout=subprocess.PIPE, text=True)
        for _ in range(5):
            time.sleep(0.4)
            pid = prelux.daemon_pid()
            if pid:
                os.kill(pid, signal.SIGKILL)
        out, _ = child.communicate(timeout=200)
    want = subprocess.run(["bash", "-c", f"cd {root} && md5sum *"], capture_output=True, text=True).stdout
    sums = {line.split()[1].rsplit("/", 1)[-1]: line.split()[0] for line in want.splitlines()}
    lines = out.splitlines()
    assert len(lines) == 32
    for line in lines:
        digest, path = line.split()
        assert digest == sums[path.rsplit("/", 1)[-1]]


def test_open_files_outlive_the_daemon(prelux):
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "f").write_bytes(pattern(1_000_000))
    lake = prelux.file_mapping(source)
    child = prelux.popen(["python3", "-c", "import sys; f = open(sys.argv[1], 'rb'); f.read(10); print('up', flush=True); "
                          "sys.stdin.readline(); print(len(f.read()))", lake + "/f"], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    prelux.kill_daemon()
    assert child.communicate("go\n", timeout=30)[0] == "999990\n"


def test_forked_workers(prelux):
    """A DataLoader that forks 64 workers."""
    source = prelux.tmp / "source"
    source.mkdir()
    for i in range(64):
        (source / f"{i}").write_text(str(i) * 1000)
    lake = prelux.file_mapping(source)
    program = """
import os, sys
lake = sys.argv[1]
open(lake + "/0").read()
pids = []
for i in range(64):
    pid = os.fork()
    if pid == 0:
        ok = all(open(f"{lake}/{k}").read() == str(k) * 1000 for k in (i, (i * 7) % 64))
        os._exit(0 if ok else 1)
    pids.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids))
"""
    assert prelux.run(["python3", "-c", program, lake]).stdout == "0\n"


def test_two_hundred_readers_map_what_eviction_wants(prelux):
    source = prelux.tmp / "source"
    source.mkdir()
    for i in range(40):
        (source / f"{i}").write_bytes(pattern(200_000, i))
    prelux.config({"version": 1, "cache": {"dir": str(prelux.cache), "max_size": "2MiB"},
                   "backends": {"src": {"type": "file", "root": str(source)}}, "mappings": [{"local": "/prelux-test", "remote": "src:/"}]})
    program = """
import mmap, os, sys
from tests.trees import pattern
maps = []
for i in range(5):
    with open(f"/prelux-test/{i}", "rb") as f:
        maps.append(mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ))
print("up", flush=True)
sys.stdin.readline()
print(all(maps[i][:] == pattern(200_000, i) for i in range(5)))
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    child = prelux.popen(["python3", "-c", program], env={"PYTHONPATH": root}, stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    prelux.run("for i in $(seq 5 39); do md5sum /prelux-test/$i; done >/dev/null; cat /prelux-test/* > /dev/null")
    assert child.communicate("go\n", timeout=30)[0] == "True\n"
