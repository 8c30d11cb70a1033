"""More of the crowd: many ranks on one object, a user whose inotify instances are used up, very many names, look-ups that race
with a name's coming. FULL=1 (`make full`) runs the last two at the sizes that are promised: 1,000,000 names, 20,000,000 look-ups."""

import os
import random
import subprocess
import time

import pytest

from tests.servers.nginx import Nginx
from tests.trees import pattern

FULL = bool(os.environ.get("FULL"))
NAMES = 1_000_000 if FULL else 50_000
LOOKUPS = 20_000_000 if FULL else 1_000_000


def test_128_ranks_open_one_object(prelux, tmp_path):
    root = tmp_path / "web"
    root.mkdir()
    data = pattern(500_000)
    (root / "object").write_bytes(data)
    os.utime(root / "object", (1_600_000_000,) * 2)
    with Nginx(root) as server:
        prelux.config({"version": 1, "backends": {"w": {"type": "http", "url": server.url}},
                       "mappings": [{"local": "/prelux-web", "remote": "w:/"}]})
        done = prelux.run("for i in $(seq 128); do md5sum < /prelux-web/object & done; wait", timeout=100)
        assert done.stdout.count("\n") == 128 and len(set(done.stdout.split())) == 2  # one digest, and "-"
        bodies = [r for r in server.requests(at_least=1) if r.method == "GET" and "/object" in r.uri]
        assert sum(r.bytes for r in bodies) == len(data)
    assert len(prelux.daemons()) == 1


@pytest.mark.alone
def test_inotify_instances_used_up(prelux):
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "f").write_text("here")
    lake = prelux.file_mapping(source)
    program = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
held = 0
while libc.inotify_init() >= 0:
    held += 1
print("used up", flush=True)
sys.stdin.readline()
"""
    hog = prelux.popen(["bash", "-c", "ulimit -n 4096; exec python3 -c \"$0\"", program], env={"PRELUX_OFF": "1"}, bare=True, stdin=-1,
                       stdout=-1, text=True)
    assert hog.stdout.readline() == "used up\n"
    assert prelux.run(["cat", lake + "/f"]).stdout == "here"
    assert prelux.run(["ls", lake]).stdout == "f\n"
    hog.communicate("go\n", timeout=30)


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return {key: int(value.split()[0]) for key, value in (line.split(":") for line in f) if key in ("VmHWM", "VmRSS")}


@pytest.mark.slow
@pytest.mark.limit(1500 if FULL else 300)
@pytest.mark.parametrize("folder_of", [1_000_000, 1000], ids=["flat", "tree"])
def test_very_many_names(prelux, folder_of):
    """Found, counted and looked up; what the daemon takes for it is bounded. The figures are printed (pytest -s)."""
    source = prelux.tmp / "source"
    source.mkdir()
    names = []
    for i in range(NAMES):
        folder = f"d{i // folder_of:04}" if folder_of < NAMES else ""
        if folder and i % folder_of == 0:
            (source / folder).mkdir()
        names.append(os.path.join(folder, f"n{i:07}"))
        os.mknod(source / names[-1], 0o644)
    lake = prelux.file_mapping(source, freshness={"max_age": "30m"})
    folders = NAMES // folder_of if folder_of < NAMES else 0
    picked = random.Random(5).sample(names, 1000)
    (prelux.tmp / "picked").write_text("".join(f"{lake}/{name}\n" for name in picked))

    def run(what, command, wanted):
        start = time.monotonic()
        got = prelux.run(command, timeout=900).stdout.split()
        print(f"{NAMES} names, {folders} folders, {what}: {time.monotonic() - start:.2f} s", resident_kib(prelux.daemon_pid()))
        assert got == wanted.split()

    run("find, first", f"find {lake} -type f | wc -l", str(NAMES))
    run("find, again", f"find {lake} -type f | wc -l", str(NAMES))
    run("ls -fR", f"ls -fR {lake} | grep -c '^n'", str(NAMES))
    run("find -size 0 (a stat each)", f"find {lake} -type f -size 0 -perm 644 | wc -l", str(NAMES))
    run("find -size 0, again", f"find {lake} -type f -size 0 -perm 644 | wc -l", str(NAMES))
    run("1000 stats", f"xargs stat -c %s < {prelux.tmp}/picked | sort | uniq -c", "1000 0")
    run("1000 reads", f"xargs cat < {prelux.tmp}/picked | wc -c", "0")
    numbers = prelux.run(f"cd {lake}/{os.path.dirname(names[-1])} && ls -fi | awk '$2 ~ /^n/ {{print $1, $2}}' | sort -k2 | tail -n 2000;"
                         " echo; ls -f | grep ^n | sort | tail -n 2000 | xargs stat -c '%i %n'", env={"LC_ALL": "C"}).stdout.split("\n\n")
    assert numbers[0] == numbers[1].rstrip() and numbers[0].count("\n") >= 999
    assert resident_kib(prelux.daemon_pid())["VmHWM"] < 150_000 + NAMES * 0.6


@pytest.mark.slow
def test_a_hundred_thousand_names(prelux):
    """Listed whole and once each, also while names are being made: a listing is one instant."""
    source = prelux.tmp / "source"
    source.mkdir()
    for i in range(100_000):
        (source / f"n{i:06}").touch()
    lake = prelux.file_mapping(source, freshness="always")
    program = """
import os, sys
lake, source = sys.argv[1:]
seen = []
with os.scandir(lake) as entries:
    for i, entry in enumerate(entries):
        if i % 1000 == 0:
            open(f"{source}/made-{i}", "w").close()
        seen.append(entry.name)
print(len(seen), len(set(seen)), sum(n.startswith("n") for n in seen), len(os.listdir(lake)))
"""
    out = prelux.run(["python3", "-c", program, lake, source], timeout=100).stdout.split()
    assert out == ["100000", "100000", "100000", "100100"]


def test_a_name_that_comes_is_never_lost_again(prelux):
    """Look-ups of a name that is there must not say ENOENT, whatever listings and negative answers do beside them."""
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "stays").write_text("x")
    lake = prelux.file_mapping(source, freshness={"max_age": "20ms"}, negative_age="10ms")
    program = """
import os, sys, time
lake = sys.argv[1]
end, wrong, n = time.monotonic() + 6, 0, 0
while time.monotonic() < end:
    for _ in range(1000):
        n += 1
        try:
            os.stat(lake + "/stays")
        except FileNotFoundError:
            wrong += 1
    os.path.exists(f"{lake}/absent{n % 50}")
    if n % 20000 == 0:
        os.listdir(lake)
print(wrong, n > 20000)
"""
    children = [prelux.popen(["python3", "-c", program, lake], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    end = time.monotonic() + 5
    while time.monotonic() < end:
        (source / "comes").touch()
        time.sleep(0.003)
        (source / "comes").unlink()
    assert [child.communicate(timeout=60)[0] for child in children] == ["0 True\n"] * 2


@pytest.mark.slow
@pytest.mark.limit(1500 if FULL else 240)
@pytest.mark.parametrize("freshness, negative_ms, share", [({"max_age": "50ms"}, 20, 1), ({"max_age": "60s"}, 200, 1), ("immutable", 20, 1),
                                                          ("always", 0, 0.01)], ids=["short", "long", "immutable", "always"])
def test_lookups_race_with_creations(prelux, freshness, negative_ms, share):
    """No name is missed that was found or is there for longer than a negative answer holds, and none is found that is not there."""
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "stays").touch()
    lake = prelux.file_mapping(source, freshness=freshness, negative_age=f"{negative_ms}ms")
    total = int(LOOKUPS * share)
    start = time.monotonic()
    done, wrong, made = map(int, prelux.run([prelux.build / "tests/posix/lookups", lake, source, total, 2, 2, negative_ms],
                                            timeout=1400).stdout.split())
    print(f"{done} look-ups, {made} names made meanwhile: {time.monotonic() - start:.1f} s")
    assert done >= total and wrong == 0 and made > 50


def test_rm_one_file_system_stays_outside(prelux):
    """A prefix below a folder that is removed is another file system: it is skipped, and its remote untouched."""
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "f").write_text("kept")
    outside = prelux.tmp / "outside"
    (outside / "sub").mkdir(parents=True)
    prelux.file_mapping(source, outside / "lake")
    done = prelux.run(["rm", "-r", "--one-file-system", outside], check=False)
    assert done.returncode == 1 and "lake" in done.stderr
    assert (source / "f").read_text() == "kept"
    assert not (outside / "lake").exists() and not (outside / "sub").exists()
