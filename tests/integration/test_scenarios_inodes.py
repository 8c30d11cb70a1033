"""Locks and inodes, beyond test_write_inodes.py: locks that no call of the library may drop, readers of a database who were there before its
writer, a program without the library as the last that writes, a file that is cut while it is sent."""

import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, same_as_plain, settled
from tests.servers.s3standin_write import S3Changing


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux):
    return make_lake(prelux, write=request.param)


def both(lake, script, seed):
    """A bash script in a plain folder and in the mapping, each with what seed(folder) makes; they print the same."""
    plain = lake.tmp / "plain"
    plain.mkdir()
    seed(plain)
    seed(lake.remote)
    want = lake.plain(f"cd {plain}; {script}")
    got = lake.run(f"cd {LOCAL}; {script}")
    assert (got.stdout, got.stderr) == (want.stdout, want.stderr)
    settled(lake)
    return want.stdout


# One process that locks, and others that ask whether it still does. `calls` need no open file of their own in a plain folder.
LOCKER = r"""python3 - <<'X'
import fcntl, os, subprocess, sys
ASK = "import fcntl\nf = open('l', 'r+')\ntry: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\nexcept OSError: print('held')"
def ask(after):
    print(after, subprocess.run(["python3", "-c", ASK], stdout=subprocess.PIPE, text=True).stdout.strip())
def failing(call, *args):
    try: call(*args)
    except OSError as e: return e.errno
calls = {
    "stat": lambda: (os.stat("l"), os.lstat("l"), os.access("l", os.W_OK), os.path.realpath("l"), failing(os.readlink, "l")),
    "list": lambda: (os.listdir("."), list(os.scandir("."))),
    "statvfs": lambda: (os.statvfs("l"), os.listxattr("l")),
    "exclusive": lambda: failing(os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "folder": lambda: failing(os.open, "l", os.O_DIRECTORY),
    "path": lambda: os.close(os.open(".", os.O_PATH)),
    "chmod": lambda: os.chmod("l", 0o640),
    "utime": lambda: os.utime("l", (1, 2)),
    "truncate": lambda: os.truncate("l", 5),
    "rename": lambda: (os.rename("l", "m"), os.rename("m", "l")),
    "others": lambda: subprocess.run(["cat", "l"], stdout=subprocess.DEVNULL),
    "writers": lambda: subprocess.run(["sh", "-c", "echo more >> l"]),
    "close": lambda: os.close(os.open("l", os.O_RDONLY)),
}
for mode, kind in ("r", fcntl.LOCK_SH), ("r+", fcntl.LOCK_EX):
    for name, call in calls.items():
        with open("l", mode) as f:
            fcntl.lockf(f, kind)
            call()
            ask(f"{mode} {name}")
ask("end")
X"""


def test_no_call_drops_a_lock(lake):
    """What keeps a lock of fcntl() in a plain folder keeps it here, and an open and close of the same file drops it in both."""
    said = both(lake, LOCKER, lambda folder: (folder / "l").write_text("locked, and long enough"))
    assert said.splitlines().count("r close free") == 1 and "r truncate held" in said and "r+ writers held" in said


READER = r"""
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], uri=True, timeout=0, isolation_level=None)
def count():
    return db.execute("select count(*) from t").fetchone()[0]
print(count(), flush=True)
for line in sys.stdin:
    word = line.strip()
    if word != "count": db.execute(word)
    print(count() if word in ("count", "begin") else "did", flush=True)
"""
# The reader is there first. It looks, the writer writes, it looks again; then it looks inside a transaction of its own.
TALK = r"""python3 - <<'X'
import sqlite3, subprocess
def ask(word):
    reader.stdin.write(word + "\n"); reader.stdin.flush()
    return reader.stdout.readline().strip()
def write(n):
    code = f"import sqlite3\nd = sqlite3.connect('db', timeout=0.2, isolation_level=None)\ntry: d.execute('insert into t values({n})'); print('written')\n"
    code += "except sqlite3.OperationalError as e: print(e)"
    return subprocess.run(["python3", "-c", code], stdout=subprocess.PIPE, text=True).stdout.strip()
reader = subprocess.Popen(["python3", "../reader.py", "URI"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(reader.stdout.readline().strip(), write(2), ask("count"), write(3), write(4), ask("count"))
print(ask("begin"), write(5), ask("count"), ask("commit"), ask("count"), write(6), ask("count"))
reader.stdin.close(); reader.wait()
X"""


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_reader_before_the_writer(lake, journal):
    """Its file is a clean one of the cache; the writer opens the same inode. A database that was there before, fetched from the remote."""
    (lake.tmp / "reader.py").write_text(READER)

    def seed(folder):
        db = sqlite3.connect(folder / "db")
        db.execute(f"pragma journal_mode={journal}")
        db.execute("create table t(n)")
        db.execute("insert into t values(1)")
        db.commit()
        db.close()

    uri = "file:db?mode=ro" if journal == "delete" else "file:db"
    talk = TALK.replace("../reader.py", str(lake.tmp / "reader.py")).replace("URI", uri)
    said = both(lake, talk, seed)
    assert said == ("1 written 2 written written 4\n4 database is locked 4 did 4 written 5\n" if journal == "delete" else
                    "1 written 2 written written 4\n4 written 4 did 5 written 6\n")
    count = sqlite3.connect(lake.remote / "db").execute("select count(*) from t").fetchone()[0]
    assert count == (5 if journal == "delete" else 6)


STATIC = """#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) { usleep(400000); dprintf(1, "%s\\n", argv[1]); return 0; }
"""


@pytest.fixture
def static(prelux):
    source, program = prelux.tmp / "static.c", prelux.tmp / "static"
    source.write_text(STATIC)
    if subprocess.run(["gcc", "-static", "-o", program, source], capture_output=True).returncode:
        if not shutil.which("musl-gcc"):
            pytest.skip("no static libc here")
        subprocess.run(["musl-gcc", "-static", "-o", program, source], check=True)
    assert "INTERP" not in subprocess.run(["readelf", "-l", program], capture_output=True, text=True).stdout
    return program


def test_a_static_program_inherits_what_is_written(lake, static):
    """Nobody tells of its close: the kernel does. It takes the place of the program that opened, outlives it, or is one of several."""
    same_as_plain(lake, f"""
        (exec > a; echo first; exec {static} last)
        {static} alone > b
        (sh -c 'echo shell; {static} behind & exit' > c; sleep 1)
        exec 7>> d; {static} one >&7; echo two >&7; exec 7>&-; {static} three >> d
        cat a b c d""")


class Slow(S3Changing):
    """Parts of the object take a while once `gate` is open, and each version that was ever whole is kept."""

    def __init__(self):
        super().__init__()
        self.versions, self.begun, self.gate = [], 0, threading.Event()

    def store(self, key, body, fields, etag=None):
        if key == b"f":
            self.versions.append(bytes(body))
        return super().store(key, body, fields, etag)

    def part(self, request, key):
        self.begun += key == b"f"
        self.lock2.release()
        if key == b"f":
            self.gate.wait(60)
        time.sleep(0.4)
        self.lock2.acquire()
        return super().part(request, key)


CUTS = {
    "truncate": ("truncate -s 1000 {0}", lambda data: data[:1000]),
    "open-and-cut": ("python3 -c \"import os; f = open('{0}', 'r+b'); os.ftruncate(f.fileno(), 70_000_000); f.write(b'new')\"",
                     lambda data: b"new" + data[3:70_000_000]),
    "overwrite": ("printf short > {0}", lambda data: b"short"),
    "append": ("printf more >> {0}", lambda data: data + b"more"),
}


@pytest.mark.limit(200)
@pytest.mark.slow
@pytest.mark.parametrize("how", CUTS)
def test_cut_while_an_upload_reads(prelux, how):
    """The upload has some of its parts; what it reads next is not what it began with. The remote has one whole version or the other."""
    command, cut = CUTS[how]
    data = b"".join(b"%015d\n" % n for n in range(72_000_000 // 16))
    (prelux.tmp / "data").write_bytes(data)
    with Slow() as s3:
        keys = {"bucket": "data", "access_key": "AK", "secret_key": "SK", "region": "us-east-1", "multipart_threshold": "64MiB"}
        prelux.config({"version": 1, "backends": {"s": {"type": "s3", "endpoint": s3.url, **keys}},
                       "mappings": [{"local": LOCAL, "remote": "s:/", "write": "async"}]})
        prelux.run(f"cp {prelux.tmp}/data {LOCAL}/f", args=["--no-wait"])
        wait_for(lambda: s3.begun > 1, 60, "the upload's first parts")
        assert not s3.versions, "the upload was over too soon"
        s3.gate.set()
        prelux.run(command.format(f"{LOCAL}/f"), timeout=100)
        settled(prelux, 100)
        assert s3.versions[-1] == cut(data)
        assert all(version in (data, cut(data)) for version in s3.versions), [len(version) for version in s3.versions]
        assert prelux.run(["cat", f"{LOCAL}/f"], text=False).stdout == cut(data)


APPENDS = """
import os, sys, time
small, big, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
holders = [os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) for path in (small, big)]
for _ in range(64):
    os.write(holders[1], bytes(1 << 20))
took = {small: 0, big: 0}
for number in range(count):
    for path in took:
        begin = time.monotonic()
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(fd, b"%07d\\n" % number)
        os.close(fd)
        took[path] += time.monotonic() - begin
print(took[small], took[big])
"""


@pytest.mark.slow
def test_what_an_append_costs(lake):
    """Beside another writer: as much for a log of 64 MiB as for a short one, turn by turn, so ten thousand of them take linear time. (Where each
    is the last writer it waits for what is sent just then.)"""
    count = 10_000
    small, big = map(float, lake.run(["python3", "-c", APPENDS, f"{LOCAL}/small", f"{LOCAL}/big", count], timeout=230).stdout.split())
    print(f"{count} appends to a short log {small:.2f} s, to a long one {big:.2f} s")
    assert big < 2.5 * small, (small, big)
    settled(lake, 60)
    lines = b"".join(b"%07d\n" % number for number in range(count))
    assert (lake.remote / "small").read_bytes() == lines and (lake.remote / "big").read_bytes() == bytes(64 << 20) + lines
