"""Many at once: readers that map what eviction wants, and the writing half: processes, ranks, workers, configurations that write together."""

import os
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, lake_of, make_lake, settled
from tests.trees import pattern

FULL = bool(os.environ.get("FULL"))

MAPPERS = """
import mmap, os, sys
from tests.trees import pattern
lake, readers, files, size = sys.argv[1], *map(int, sys.argv[2:])
truth = [pattern(size, i) for i in range(files)]
r, w = os.pipe()
go_r, go_w = os.pipe()
children = []
for number in range(readers):
    pid = os.fork()
    if pid == 0:
        os.close(go_w)
        maps = []
        for i in (number % files, number * 7 % files):
            with open(f"{lake}/{i}", "rb") as f:
                maps.append((i, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)))
        os.write(w, b"m")
        os.read(go_r, 1)
        os._exit(0 if all(m[:] == truth[i] for i, m in maps) else 1)
    children.append(pid)
os.close(w)
for _ in range(readers):
    assert os.read(r, 1) == b"m", "a reader could not map"
print("mapped", flush=True)
sys.stdin.readline()
os.close(go_r)
os.close(go_w)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_200_readers_map_what_eviction_wants(prelux):
    """The quota is a third of what they have mapped; others read on, and eviction is asked for by hand, too."""
    source = prelux.tmp / "source"
    source.mkdir()
    for number in range(60):
        (source / str(number)).write_bytes(pattern(200_000, number))
    prelux.config({"version": 1, "cache": {"dir": str(prelux.cache), "max_size": "2MiB"}, "backends": {"src": {"type": "file", "root": str(source)}},
                   "mappings": [{"local": LOCAL, "remote": "src:/", "freshness": "immutable"}]})
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    # What is mapped is more than the quota: the last of them may have to wait for room, or get none.
    mappers = prelux.popen(["python3", "-c", MAPPERS, LOCAL, "200", "8", "200000"], env={"PYTHONPATH": root}, stdin=-1, stdout=-1, text=True)
    assert mappers.stdout.readline() == "mapped\n"
    done = prelux.run(f"for i in $(seq 8 59); do cmp {LOCAL}/$i {source}/$i; done", timeout=100)
    assert done.stdout == ""
    prelux.cli("evict", LOCAL, check=False)
    used = sum(os.stat(path).st_blocks * 512 for path in prelux.cache.glob("trees/*/data/*"))
    assert used <= 2 << 20, used
    assert {path.name for path in prelux.cache.glob("trees/*/data/*")} >= {str(number) for number in range(8)}, "what is mapped stays"
    assert mappers.communicate("go\n", timeout=60)[0] == "0\n"


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux):
    return make_lake(prelux, write=request.param)


def contents(lake):
    return {path.name: path.read_text() for path in lake.remote.iterdir()}


@pytest.mark.alone
@pytest.mark.slow
def test_a_thousand_processes_write_cold(lake):
    """Each a file of its own, and nobody has started a daemon: one does it all, none fails."""
    script = f"for i in $(seq 1000); do /bin/cp {lake.tmp}/from {LOCAL}/f$i & done; wait"
    (lake.tmp / "from").write_text("text")
    env = {**lake.env, "PRELUX_CONFIG": str(lake.config_path), "LD_PRELOAD": ""}
    done = subprocess.run(["bash", "-c", f"export LD_PRELOAD={lake.library}; {script}"], env=env, capture_output=True, text=True, timeout=200)
    assert done.stderr == "" and len(lake.daemons()) == 1
    settled(lake, 60)
    assert contents(lake) == {f"f{number}": "text" for number in range(1, 1001)}


RANKS = """
import os, sys
path, ranks, lines = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
children = []
for rank in range(ranks):
    pid = os.fork()
    if pid == 0:
        for line in range(lines):
            with open(path, "a") as f:
                f.write(f"{rank:03} {line:03}\\n")
        os._exit(0)
    children.append(pid)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_128_ranks_append_to_one_object(lake):
    assert lake.run(["python3", "-c", RANKS, f"{LOCAL}/log", "128", "4"], timeout=200).stdout == "0\n"
    settled(lake, 60)
    lines = (lake.remote / "log").read_text().splitlines()
    assert sorted(lines) == [f"{rank:03} {line:03}" for rank in range(128) for line in range(4)]


WORKERS = f"""
import os, sys
shared = os.open("{LOCAL}/shared", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
open("{LOCAL}/before", "w").write("before")
children = []
for number in range(64):
    pid = os.fork()
    if pid == 0:
        with open(f"{LOCAL}/w{{number}}", "w") as f:
            f.write(str(number) * 1000)
        os.write(shared, b"%02d\\n" % number)
        right = open("{LOCAL}/before").read() == "before" and open(f"{LOCAL}/w{{number}}").read() == str(number) * 1000
        os._exit(0 if right else 1)
    children.append(pid)
os.close(shared)
print(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_64_forked_workers_write(lake):
    """Each a file of its own, all one descriptor that they inherited; the parent has closed it."""
    assert lake.run(["python3", "-c", WORKERS]).stdout == "0\n"
    settled(lake)
    wait_for(lambda: (lake.remote / "shared").exists(), 20, "what the last of them closed")
    found = contents(lake)
    assert sorted(found.pop("shared").split()) == [f"{number:02}" for number in range(64)]
    assert found == {"before": "before", **{f"w{number}": str(number) * 1000 for number in range(64)}}


@pytest.mark.parametrize("write", ["sync", "async"])
def test_twenty_configurations_write(prelux, write):
    """Pairs of configuration and working directory, each with a ./data and a backend of its own: what is written goes where its writer's says."""
    children = []
    for number in range(20):
        source, work = prelux.tmp / f"source{number}", prelux.tmp / f"work{number}"
        source.mkdir()
        work.mkdir()
        config = prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(source)}},
                                "mappings": [{"local": "./data", "remote": "src:/", "write": write}]}, name=f"c{number}.yaml")
        script = (f"for k in 1 2 3 4 5; do echo data of {number} >> data/log; echo $k > data/f$k; mkdir data/d$k; mv data/f$k data/d$k/; done; "
                  f"cat data/log; cd data/d3 && echo {number} > here && cat ../d3/here")
        children.append((number, source, work, prelux.popen(script, cwd=work, config=config, stdout=subprocess.PIPE, text=True)))
    for number, source, work, child in children:
        out, _ = child.communicate(timeout=100)
        assert child.returncode == 0 and out == f"data of {number}\n" * 5 + f"{number}\n"
        found = {str(path.relative_to(source)): path.read_text() for path in source.rglob("*") if path.is_file()}
        assert found == {"log": f"data of {number}\n" * 5, "d3/here": f"{number}\n", **{f"d{k}/f{k}": f"{k}\n" for k in range(1, 6)}}
        assert os.listdir(work) == []
    assert len(prelux.daemons()) == 1


HOG = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
while libc.inotify_init() >= 0:
    pass
print("used up", flush=True)
sys.stdin.readline()
"""


@pytest.mark.alone
def test_inotify_instances_used_up_by_others(lake):
    """The daemon has none to watch its writers with: who tells of his close loses nothing by it, of the killed it learns a little later."""
    hog = lake.popen(["bash", "-c", "ulimit -n 4096; exec python3 -c \"$0\"", HOG], env={"PRELUX_OFF": "1"}, bare=True, stdin=-1, stdout=-1, text=True)
    assert hog.stdout.readline() == "used up\n"
    assert lake.run(f"echo text > {LOCAL}/f; cat {LOCAL}/f").stdout == "text\n"
    settled(lake)
    assert (lake.remote / "f").read_text() == "text\n"
    said = lake.tmp / "said"
    victim = f"bash -c 'exec > {LOCAL}/killed; echo some; echo > {said}; exec sleep 9'"
    done = lake.run(f"{victim} & until test -e {said}; do sleep 0.05; done; kill -KILL $!; wait $!; true", check=False)
    assert done.returncode == 3 and "recovered" in done.stderr, done.stderr
    row, = lake.cli("pending", "list", "--json")["files"]
    lake.cli("pending", "export", row["id"], lake.tmp / "some")
    assert (lake.tmp / "some").read_text() == "some\n" and "SIGKILL" in row["cause"] and not (lake.remote / "killed").exists()
    hog.communicate("go\n", timeout=30)


@pytest.mark.slow
@pytest.mark.limit(1500 if FULL else 300)
def test_very_many_names_are_made(lake):
    """Made one by one, counted, renamed and removed again; FULL=1: 50,000 of them (a million that are there already: test_crowds.py)."""
    names, folders = (50_000, 50) if FULL else (2000, 10)
    code = f"""
import os
for d in range({folders}):
    os.mkdir(f"{LOCAL}/d{{d}}")
    for n in range({names // folders}):
        os.mknod(f"{LOCAL}/d{{d}}/n{{n}}")
    os.rename(f"{LOCAL}/d{{d}}/n0", f"{LOCAL}/d{{d}}/first")
print(sum(len(files) for _, _, files in os.walk("{LOCAL}")))
"""
    start = time.monotonic()
    assert lake.run(["python3", "-c", code], timeout=1400).stdout == f"{names}\n"
    settled(lake, 300)
    print(f"{names} names made: {time.monotonic() - start:.1f} s")
    assert sum(len(files) for _, _, files in os.walk(lake.remote)) == names
    lake.run(["rm", "-r", *[f"{LOCAL}/d{number}" for number in range(folders)]], timeout=1400)
    settled(lake, 300)
    assert not os.listdir(lake.remote)


def test_128_ranks_write_one_object_of_a_store(prelux):
    """All truncate and write the same: one of the texts is there in the end, whole, on a store that takes whole objects."""
    with lake_of(prelux, "versitygw", write="async") as lake:
        done = lake.run(f"for i in $(seq 128); do (printf '%4000d' $i > {LOCAL}/object) & done; wait", timeout=200)
        assert done.stderr == ""
        settled(lake, 60)
        data = lake.seen()["object"][2]
        assert len(data) == 4000 and 1 <= int(data) <= 128 and data == b"%4000d" % int(data)
