"""Readers of a few places of a huge file (`stream_above`): they fetch what they read and little around it, and the file may stay partial for good."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys

import pytest

from tests.harness import wait_for
from tests.integration.stream_rig import LOCAL, MIB, bucket, content, md5
from tests.servers.faultproxy import FaultProxy
from tests.servers.nginx import Nginx

SIZE = 48 * MIB + 12345
BIG = f"{LOCAL}/big.bin"
PROGRAM = f"""
import hashlib, json, os, random, sys
BIG, SIZE, MIB = {BIG!r}, {SIZE}, 1 << 20
h = lambda b: hashlib.md5(b).hexdigest()
def say(*what): print(*what, flush=True)
def places(n, seed): return [random.Random(seed * 1000003 + i).randrange(SIZE - 4096) for i in range(n)]
def at(fd, *offs): return h(b"".join(os.pread(fd, 4096, o) for o in offs))
"""
DATA = content(SIZE)


def places(n, seed):
    return [random.Random(seed * 1000003 + i).randrange(SIZE - 4096) for i in range(n)]


def at(*offs):
    return md5(b"".join(DATA[o:o + 4096] for o in offs))


@pytest.fixture
def lake(prelux):
    with bucket(prelux) as it:
        it.put("big.bin", DATA)
        it.cli("ls", LOCAL)
        yield it


def python(lake, text, **more):
    return lake.run([sys.executable, "-c", PROGRAM + text], **more)


def start(lake, text, **more):
    return lake.popen([sys.executable, "-c", PROGRAM + text], text=True, stdin=-1, stdout=-1, stderr=-2, **more)


def line(child):
    return child.stdout.readline().strip()


def go(child):
    child.stdin.write("\n")
    child.stdin.flush()


def ranges(lake):
    """[from, to) of each GET of the file."""
    found = []
    for seen in lake.wire.requests():
        if seen.method == "GET" and "big.bin" in seen.target:
            part = re.match(r"bytes=(\d+)-(\d*)", seen.fields.get("range", "bytes=0-"))
            found.append((int(part.group(1)), int(part.group(2)) + 1 if part.group(2) else SIZE))
    return found


def fetched(lake):
    return sum(to - at for at, to in ranges(lake))


def used(lake):
    return lake.cli("status", "--json")["cache"]["used_bytes"]


def test_few_bytes_for_few_reads(lake):
    out = python(lake, "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(200, 1)), os.fstat(fd).st_size)").stdout
    assert out.split() == [at(*places(200, 1)), str(SIZE)]
    assert fetched(lake) <= 16 * 200 * 4096, ranges(lake)
    assert used(lake) <= 16 * 200 * 4096
    assert lake.cli("map", "--json", BIG)["state"] == "partial"
    counted = lambda: lake.cli("stats", "--json")["mappings"][0]  # noqa: E731
    wait_for(lambda: counted()["remote_requests"] >= len(ranges(lake)) and counted()["remote_bytes"] >= 0.9 * fetched(lake), 60, "parts are counted")
    assert counted()["remote_bytes"] <= fetched(lake)


@pytest.mark.parametrize("kind", ["http", "file"])
def test_other_backends(prelux, kind):
    """Of a web server whose attributes come with the bytes, too: not all is asked for before it is known how large that is."""
    folder = prelux.tmp / "www"
    folder.mkdir()
    (folder / "big.bin").write_bytes(DATA)
    os.utime(folder / "big.bin", (1_600_000_000,) * 2)
    with Nginx(folder) as server, FaultProxy(server.url) as wire:
        source = {"type": "http", "url": wire.url} if kind == "http" else {"type": "file", "root": str(folder)}
        prelux.config({"version": 1, "backends": {"src": source}, "mappings": [{"local": LOCAL, "remote": "src:/", "stream_above": "1"}]})
        assert python(prelux, "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(50, 1)))").stdout.split() == [at(*places(50, 1))]
        prelux.wire = wire
        whole = ranges(prelux).count((0, SIZE))  # a question for all of it, given up at its head
        assert whole <= 1 and fetched(prelux) - SIZE * whole <= MIB + 50 * 65536
        assert used(prelux) <= MIB + 50 * 65536 and prelux.cli("map", "--json", BIG)["state"] == "partial"


READS = {
    "pread": "at(fd, *offs)",
    "seek and read": "h(b''.join((os.lseek(fd, o, 0), os.read(fd, 4096))[1] for o in offs))",
    "preadv": "h(b''.join((n := os.preadv(fd, [b], o), bytes(b)[:n])[1] for o in offs for b in [bytearray(4096)]))",
    "file object": "h(b''.join((f.seek(o), f.read(4096))[1] for f in [open(fd, 'rb', buffering=0, closefd=False)] for o in offs))",
    "copy_file_range": "copy(fd, offs)",
    "threads": "threads(fd, offs)",
}


@pytest.mark.parametrize("how", READS)
def test_ways_to_read(lake, how):
    """The beginning, the end, over the borders of parts, past the end, and here and there."""
    text = f"""
import threading
def copy(fd, offs):
    to = os.open("copy", os.O_RDWR | os.O_CREAT)
    for o in offs:
        had = 0
        while had < 4096 and (k := os.copy_file_range(fd, to, 4096 - had, offset_src=o + had)): had += k
    return h(os.pread(to, 1 << 20, 0))
def threads(fd, offs):
    got = [None] * len(offs)
    def run(i):
        for k in range(i, len(offs), 8): got[k] = os.pread(fd, 4096, offs[k])
    all = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    [t.start() for t in all]; [t.join() for t in all]
    return h(b"".join(got))
fd, offs = os.open(BIG, os.O_RDONLY), [0, 32768 * 1299 - 1, MIB - 5, 32768 * 1300, SIZE - 1000, SIZE - 1, SIZE, SIZE + 5] + places(30, 2)
say({READS[how]})
say(h(os.pread(fd, 3 * MIB, 40 * MIB + 77)), os.lseek(fd, 0, 2))
"""
    offs = [0, 32768 * 1299 - 1, MIB - 5, 32768 * 1300, SIZE - 1000, SIZE - 1, SIZE, SIZE + 5] + places(30, 2)
    assert python(lake, text, cwd=lake.tmp).stdout.split() == [at(*offs), md5(DATA[40 * MIB + 77:43 * MIB + 77]), str(SIZE)]
    assert fetched(lake) < 10 * MIB


def test_what_was_read_is_not_fetched_again(lake):
    """By the same reader, by another process, and over the end of the daemon, of whatever kind."""
    text = "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(50, 3)))"
    assert python(lake, text + "; say(at(fd, *places(50, 3)))").stdout.split() == [at(*places(50, 3))] * 2
    had = fetched(lake)
    for how in (None, signal.SIGKILL, signal.SIGTERM):
        if how:
            lake.kill_daemon(how)
        assert python(lake, text).stdout.split() == [at(*places(50, 3))]
        assert all(to - at <= 32768 for at, to in ranges(lake)[-1:])
        assert fetched(lake) - had <= 3 * 32768  # an open asks whether the remote has this version still
    assert python(lake, "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(50, 4)))").stdout.split() == [at(*places(50, 4))]


def test_daemon_killed_under_readers(lake):
    text = """
fd, seed = os.open(BIG, os.O_RDONLY), int(sys.argv[1])
say("begun")
for i in range(40): say(at(fd, *places(10, seed + i)))
"""
    children = [lake.popen([sys.executable, "-c", PROGRAM + text, str(100 * n)], text=True, stdout=-1, stderr=-2) for n in range(1, 4)]
    assert [line(child) for child in children] == ["begun"] * 3
    for i in range(40):
        if i % 10 == 5:
            lake.kill_daemon()
        assert [line(child) for child in children] == [at(*places(10, 100 * n + i)) for n in range(1, 4)]
    assert [child.wait(20) for child in children] == [0] * 3
    assert fetched(lake) < 3 * 400 * 16 * 4096


def test_random_and_from_the_beginning_at_once(lake):
    """One reads on from the beginning, others here and there; then all of it is in the cache, and is what the remote has."""
    one = start(lake, "f = open(BIG, 'rb', buffering=0); say(h(f.read(SIZE)))")
    others = [start(lake, f"fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(100, {seed})))") for seed in (5, 6)]
    assert [line(child) for child in (one, *others)] == [md5(DATA), at(*places(100, 5)), at(*places(100, 6))]
    lake.kill_daemon()
    had = fetched(lake)
    wait_for(lambda: lake.cli("map", "--json", BIG)["state"] == "cached", what="the whole file")
    assert python(lake, "say(h(open(BIG, 'rb').read()))").stdout.split() == [md5(DATA)]
    assert fetched(lake) == had


@pytest.mark.parametrize("how", ["mmap", "fopen", "sendfile"])
def test_the_whole_after_parts(lake, how):
    """What needs the whole file gets it, and readers of parts go on by it."""
    child = start(lake, "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(20, 7))); sys.stdin.readline(); say(at(fd, *places(20, 8)))")
    assert line(child) == at(*places(20, 7))
    text = {"mmap": "import mmap; fd = os.open(BIG, os.O_RDONLY); say(at(fd, 37 * MIB)); say(h(mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:]))",
            "fopen": "import subprocess; say(at(os.open(BIG, os.O_RDONLY), 37 * MIB)); subprocess.run(['awk', 'END { print NR }', BIG], stdout=-1, check=True); say(h(open(BIG, 'rb').read()))",
            "sendfile": "import socket, threading\n"
                        "fd, (a, b), parts = os.open(BIG, os.O_RDONLY), socket.socketpair(), []; say(at(fd, 37 * MIB))\n"
                        "t = threading.Thread(target=lambda: parts.extend(iter(lambda: b.recv(1 << 20), b''))); t.start()\n"
                        "while os.sendfile(a.fileno(), fd, None, 1 << 24): pass\n"
                        "a.close(); t.join(); say(h(b''.join(parts)))"}[how]
    assert python(lake, text).stdout.split() == [at(37 * MIB), md5(DATA)]
    had = fetched(lake)
    go(child)
    assert line(child) == at(*places(20, 8))
    assert fetched(lake) == had and lake.cli("map", "--json", BIG)["state"] == "cached"
    assert not os.listdir(lake.cache / ".prelux" / "fill")


def test_read_on_from_the_middle(lake):
    """Who reads one part after the other gets more and more at once."""
    text = "fd = os.open(BIG, os.O_RDONLY); os.lseek(fd, 20 * MIB, 0); say(h(b''.join(os.read(fd, 65536) for _ in range(256))))"
    assert python(lake, text).stdout.split() == [md5(DATA[20 * MIB:36 * MIB])]
    assert len(ranges(lake)) < 20 and fetched(lake) < 28 * MIB, ranges(lake)


def test_replaced_while_it_is_read(lake):
    child = start(lake, """
fd = os.open(BIG, os.O_RDONLY)
say(at(fd, *places(20, 9))); sys.stdin.readline()
try: say(at(fd, 37 * MIB))
except OSError as e: say("errno", e.errno)
say(at(fd, *places(20, 9))); sys.stdin.readline()
fd = os.open(BIG, os.O_RDONLY)
say(at(fd, 37 * MIB, *places(20, 9)))
""")
    assert line(child) == at(*places(20, 9))
    other = content(SIZE, 2)
    lake.put("big.bin", other)
    go(child)
    assert line(child) == "errno 116"
    assert line(child) == at(*places(20, 9))  # what it has
    go(child)
    assert line(child) == md5(b"".join(other[o:o + 4096] for o in [37 * MIB, *places(20, 9)]))


def test_remote_fails_and_comes_back(lake):
    child = start(lake, """
fd = os.open(BIG, os.O_RDONLY)
say(at(fd, *places(20, 10))); sys.stdin.readline()
try: say(at(fd, 37 * MIB))
except OSError as e: say("errno", e.errno)
say(at(fd, *places(20, 10))); sys.stdin.readline()
say(at(fd, 37 * MIB))
""")
    assert line(child) == at(*places(20, 10))
    lake.wire.down()
    go(child)
    assert line(child) == "errno 5"
    assert line(child) == at(*places(20, 10))
    lake.wire.up()
    go(child)
    assert line(child) == at(37 * MIB)


def test_larger_than_the_cache(prelux):
    """Parts of it are read for as long as one likes, and no more is kept than may be."""
    with bucket(prelux, top={"cache": {"max_size": "8MiB"}}) as lake:
        lake.put("big.bin", DATA)
        lake.put("other.bin", content(4 * MIB, 3))
        child = start(lake, """
fd = os.open(BIG, os.O_RDONLY)
for i in range(10): say(at(fd, *places(60, 20 + i)))
""")
        for i in range(10):
            assert line(child) == at(*places(60, 20 + i))
            assert used(lake) <= 8 * MIB
        assert child.wait(20) == 0
        assert lake.run(f"md5sum < {LOCAL}/other.bin").stdout.split()[0] == md5(content(4 * MIB, 3))


def test_restarted_with_pages_that_lie(lake):
    """A page that promises more than the file has, or a part behind its end: nothing of it is believed."""
    text = "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(50, 3)))"
    for cut in (2 * MIB, 100):
        assert python(lake, text).stdout.split() == [at(*places(50, 3))]
        lake.kill_daemon()
        file = next(path for path in (lake.cache / ".prelux" / "fill").iterdir() if path.suffix == "")
        os.truncate(file, cut)
        had = len(ranges(lake))
        assert python(lake, text).stdout.split() == [at(*places(50, 3))]
        assert ranges(lake)[had][0] == 0


# ---- forked processes: nothing is waited for, and they have one offset

FORK = """
def fork(run):
    pid = os.fork()
    if pid == 0:
        try: run()
        except BaseException as e: say("child:", repr(e))
        os._exit(0)
    return pid
"""


def test_forked_workers(lake):
    """As a DataLoader: opened by the parent, read by its children, all at once, while threads of the parent read."""
    text = FORK + """
import threading
fd = os.open(BIG, os.O_RDONLY)
over, wrong = [], []
def run(seed):
    while not over:
        o = places(1, seed)[0]; seed += 1
        if os.pread(fd, 100, o) != os.pread(fd, 100, o): wrong.append(o)
threads = [threading.Thread(target=run, args=(1000 * (i + 1),)) for i in range(2)]
[t.start() for t in threads]
r, w = os.pipe()
for n in range(12): fork(lambda: os.write(w, f"{n} {at(fd, *places(10, 30 + n))}\\n".encode()))
for _ in range(12): assert os.wait()[1] == 0
over.append(1); [t.join() for t in threads]
os.close(w)
print(open(r).read(), wrong)
"""
    out = python(lake, text).stdout.split()
    assert out[-1] == "[]" and dict(zip(out[:-1:2], out[1:-1:2])) == {str(n): at(*places(10, 30 + n)) for n in range(12)}
    assert lake.cli("map", "--json", BIG)["state"] == "partial"


@pytest.mark.parametrize("whole", ["nobody", "child", "parent"])
def test_offset_of_forked_processes(lake, whole):
    """Also when one of them has the whole file by now, and the other not yet."""
    text = FORK + f"""
import mmap
fd = os.open(BIG, os.O_RDONLY)
os.lseek(fd, 20 * MIB, 0)
got = os.read(fd, 1000)
r, w = os.pipe()
def child():
    os.write(w, os.read(fd, 1000))
    if {whole!r} == "child": mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.write(w, os.read(fd, 1000))
    os.lseek(fd, 500, 1)
pid = fork(child)
os.waitpid(pid, 0)
if {whole!r} == "parent": mmap.mmap(fd, 0, prot=mmap.PROT_READ)
got += os.read(r, 2000) + os.read(fd, 1000)
pid = fork(lambda: say(h(os.read(fd, 1000))))
os.waitpid(pid, 0)
say(h(got), os.lseek(fd, 0, 1) - 20 * MIB, h(os.pread(fd, 4096, 30 * MIB)))
"""
    base = 20 * MIB
    want = [md5(DATA[base + 4500:base + 5500]), md5(DATA[base:base + 3000] + DATA[base + 3500:base + 4500]), "5500", at(30 * MIB)]
    assert python(lake, text).stdout.split() == want


def test_parent_and_child_go_their_ways(lake):
    """Each closes it and opens it anew, again and again: what was shared is nobody else's later."""
    text = FORK + """
def go(seed):
    global fd
    r = random.Random(seed)
    for i in range(20):
        o = r.randrange(SIZE - 10000)
        os.lseek(fd, o, 0)
        assert os.read(fd, 100) == os.pread(fd, 100, o) and os.lseek(fd, 0, 1) == o + 100, i
        os.close(fd); fd = os.open(BIG, os.O_RDONLY)
fd = os.open(BIG, os.O_RDONLY)
before = len(os.listdir("/proc/self/fd"))
pids = []
for n in range(6): pids.append(fork(lambda: (os.close(fd), globals().update(fd=os.open(BIG, os.O_RDONLY)), go(n))))
os.close(fd); fd = os.open(BIG, os.O_RDONLY)
go(99)
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
say("right", len(os.listdir("/proc/self/fd")) - before)
"""
    assert python(lake, text).stdout == "right 0\n"


def test_parts_while_others_open_it(lake):
    """Each open asks the remote whether it has this version still. Parts that come meanwhile are not fetched again, and nobody gives up (EIO once)."""
    lake.wire.fault(lake.objects, delay=0.1, method="GET")
    opens = "os.close(os.open(BIG, os.O_RDONLY))\nsay('opened')\nwhile True: os.close(os.open(BIG, os.O_RDONLY))"
    others = [start(lake, opens) for _ in range(3)]
    try:
        assert [line(one) for one in others] == ["opened"] * 3
        read = python(lake, "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *[(9 + i) * MIB + 5 for i in range(15)]))")
    finally:
        for one in others:
            one.terminate()
        for one in others:
            one.communicate()
    assert read.stdout.split() == [at(*[(9 + i) * MIB + 5 for i in range(15)])], lake.story()
    got = [at for at, _ in ranges(lake)]
    assert [got.count((9 + i) * MIB) for i in range(15)] == [1] * 15, got


def test_shell_and_its_children(lake):
    """One offset for a shell's read, and for what it starts, which has the whole."""
    lines = b"".join(b"%07d\n" % i for i in range(5_000_000))
    lake.put("lines", lines)
    lake.cli("evict", LOCAL)
    done = lake.run(f'exec 3<{LOCAL}/lines; read -r a <&3; (read -r b <&3; echo "$b"); read -r c <&3; echo "$a $c"; head -c 8 <&3; tail -c 8 <&3; read -r d <&3 || echo end')
    assert done.stdout == "0000001\n0000000 0000002\n0000003\n4999999\nend\n"


@pytest.mark.parametrize("how", ["subprocess", "posix_spawn", "fork and exec", "system"])
def test_programs_started_meanwhile(lake, how):
    """What does not get the file makes nobody wait for it."""
    text = {"subprocess": "import subprocess; assert subprocess.run(['true']).returncode == 0",
            "posix_spawn": "assert os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)[1] == 0",
            "fork and exec": FORK + "assert os.waitpid(fork(lambda: os.execv('/bin/true', ['true'])), 0)[1] == 0",
            "system": "assert os.system('true') == 0"}[how]
    out = python(lake, f"fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(10, 50)))\n{text}\nsay(at(fd, *places(10, 51)))").stdout.split()
    assert out == [at(*places(10, 50)), at(*places(10, 51))]
    assert fetched(lake) < 4 * MIB and lake.cli("map", "--json", BIG)["state"] == "partial"


@pytest.mark.parametrize("how", ["stdin", "pass_fds", "spawned stdin"])
def test_programs_that_get_the_file(lake, how):
    """... and what gets it has it whole, with the offset, which it moves for its parent."""
    text = {"stdin": "subprocess.run(['head', '-c', '1000000'], stdin=fd, stdout=w, check=True)",
            "pass_fds": "subprocess.run(['sh', '-c', f'head -c 1000000 <&{fd}'], pass_fds=[fd], stdout=w, check=True)",
            "spawned stdin": "os.waitpid(os.posix_spawnp('head', ['head', '-c', '1000000'], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, w, 1)]), 0)"}[how]
    text = f"""
import subprocess
fd, w = os.open(BIG, os.O_RDONLY), os.open("out", os.O_RDWR | os.O_CREAT)
assert at(fd, 30 * MIB) and os.lseek(fd, 20 * MIB, 0) == 20 * MIB
{text}
say(h(os.pread(w, 1000000, 0)), at(fd, 40 * MIB), h(os.read(fd, 1000)))
"""
    start = 20 * MIB + 1000000
    assert python(lake, text, cwd=lake.tmp).stdout.split() == [md5(DATA[20 * MIB:start]), at(40 * MIB), md5(DATA[start:start + 1000])]


def test_stays_partial_while_others_come(prelux):
    """A file of which parts are in use stays for as long as older whole ones can go."""
    with bucket(prelux, top={"cache": {"max_size": "40MiB"}}) as lake:
        lake.put("big.bin", DATA)
        for name in "abcd":
            lake.put(name, content(12 * MIB, ord(name)))
        text = "fd = os.open(BIG, os.O_RDONLY); say(at(fd, *places(100, 60)))"
        lake.run(f"md5sum {LOCAL}/a {LOCAL}/b")
        assert python(lake, text).stdout.split() == [at(*places(100, 60))]
        had = fetched(lake)
        lake.run(f"md5sum {LOCAL}/c {LOCAL}/d")
        assert python(lake, text).stdout.split() == [at(*places(100, 60))]
        assert fetched(lake) - had <= 32768 and used(lake) <= 40 * MIB


@pytest.fixture
def small_disk(tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", root], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
    yield root
    subprocess.run(["umount", "-l", root], check=True)


def test_full_disk(prelux, small_disk):
    """ENOSPC for what would have to be written, or right bytes, when other parts made room; and all of it when there is room again."""
    with bucket(prelux, top={"cache": {"dir": str(small_disk / "cache"), "max_size": "1GiB", "min_free": "0"}}) as lake:
        lake.put("big.bin", DATA)
        child = start(lake, """
fd = os.open(BIG, os.O_RDONLY)
say(at(fd, *places(20, 70))); sys.stdin.readline()
for o in [37 * MIB + i * MIB for i in range(8)]:
    try: say(at(fd, o))
    except OSError as e: say("errno", e.errno)
sys.stdin.readline()
say(at(fd, *places(20, 71)), at(fd, *places(20, 70)))
""")
        assert line(child) == at(*places(20, 70))
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        go(child)
        got = [line(child) for _ in range(8)]
        assert "errno 28" in got and set(got) <= {"errno 28", *(at(37 * MIB + i * MIB) for i in range(8))}, got
        filler.unlink()
        go(child)
        assert line(child).split() == [at(*places(20, 71)), at(*places(20, 70))]
