"""`fsync: remote`. When an fsync has returned 0 another client finds on the remote what was written before it; what went wrong is the fsync's errno."""

import errno
import sqlite3
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.crash_rig import FULL
from tests.integration.write_rig import LOCAL, lake_of, make_lake, settled

# Each leaves a descriptor open: the last close sends in any case.
WAYS = {
    "fsync": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fsync(fd)",
    "fdatasync": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fdatasync(fd)",
    "by-a-copy": "fd = os.dup(os.open('f', os.O_WRONLY | os.O_CREAT)); os.write(fd, b'x'); os.fsync(fd)",
    "for-reading": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fsync(os.open('f', os.O_RDONLY))",
    "by-a-child": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.set_inheritable(fd, True); os.write(fd, b'x')\n"
                  "if os.spawnvp(os.P_WAIT, 'python3', ['python3', '-c', f'import os; os.fsync({fd})']): raise SystemExit(1)",
    "map": "import mmap; fd = os.open('f', os.O_RDWR | os.O_CREAT); os.write(fd, b'y'); m = mmap.mmap(fd, 1); os.fsync(fd); m[0] = 120; os.fsync(fd)",
    "renamed": "fd = os.open('g', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fsync(fd); os.rename('g', 'f'); os.fsync(os.open('.', os.O_RDONLY))",
    "renamed-closed": "fd = os.open('g', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fsync(fd); os.close(fd); os.rename('g', 'f'); "
                      "os.fsync(os.open('.', os.O_RDONLY))",
    "renamed-unsynced": "open('g', 'w').write('x'); os.rename('g', 'f'); os.fsync(os.open('.', os.O_RDONLY))",
}


def remote_of(lake):
    return {name: data for name, (_, _, data) in lake.seen().items()}


def begin(lake, code):
    """A program that has come to the end of the code, and waits there."""
    program = lake.popen(["python3", "-c", f"import os, sys\nos.chdir('{LOCAL}')\n{code}\nprint(flush=True); input()"], args=("--no-wait",),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "\n", program.stderr.read() + lake.story()
    return program


@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_the_remote_has_it(prelux, way, write):
    lake = make_lake(prelux, write=write, fsync="remote", write_back="1h")
    program = begin(lake, WAYS[way])
    assert remote_of(lake) == {"f": b"x"}, lake.story()
    program.communicate("\n", timeout=20)
    assert program.returncode == 0
    settled(lake)
    assert remote_of(lake) == {"f": b"x"}


def test_a_folder(prelux):
    """Its own names, those of no other one."""
    lake = make_lake(prelux, write="async", fsync="remote", write_back="1h")
    for _ in range(20):  # the other one is sent when there is a pause: once more where this test has to wait for a processor for so long
        program = begin(lake, "os.makedirs('a/d'); os.mkdir('e')\nfor path in 'a/d/f', 'e/f': open(path, 'w').write('x')\nos.fsync(os.open('a/d', os.O_RDONLY))")
        there = {name for name, data in remote_of(lake).items() if data}
        assert "a/d/f" in there
        if there == {"a/d/f"}:
            break
        program.communicate("\n", timeout=20)
        lake.run(["rm", "-r", f"{LOCAL}/a", f"{LOCAL}/e"])
        lake.cli("flush")
    assert there == {"a/d/f"}
    program.communicate("\n", timeout=20)
    lake.cli("flush")
    assert {name for name, data in remote_of(lake).items() if data} == {"a/d/f", "e/f"}


def test_local_sends_nothing(prelux):
    lake = make_lake(prelux, write="sync")
    program = begin(lake, WAYS["fsync"])
    assert remote_of(lake) == {}
    program.communicate("\n", timeout=20)
    assert remote_of(lake) == {"f": b"x"}


@pytest.mark.parametrize("write", ["sync", "async"])
def test_a_conflict_is_told(prelux, write):
    lake = make_lake(prelux, write=write, fsync="remote")
    code = """if 1:
        fd = os.open("f", os.O_WRONLY | os.O_CREAT); os.write(fd, b"one"); os.fsync(fd)
        print(flush=True); input()
        os.write(fd, b" two")
        try: os.fsync(fd)
        except OSError as e: print(e.errno, flush=True)
        os._exit(0)"""
    program = begin(lake, code)
    (lake.remote / "f").write_bytes(b"theirs")
    out, _ = program.communicate("\n", timeout=30)
    assert out == f"{errno.ESTALE}\n"
    assert remote_of(lake) == {"f": b"theirs"}
    wait_for(lambda: [row["state"] for row in lake.cli("pending", "list", "--json")["files"]] == ["refused"], 20, "it is kept")


# Appends, syncs, and looks at once, past the mapping. Prints how many were acknowledged.
APPENDER = """
import os, sys, time
remote, until = sys.argv[1], time.monotonic() + float(sys.argv[2])
fd, data, failed = os.open("f", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), b"", 0
while time.monotonic() < until:
    record = b"%d " % len(data)
    os.write(fd, record)
    data += record
    try:
        os.fsync(fd)
    except OSError as e:
        failed += 1
        continue
    there = open(remote, "rb").read()
    if there != data:
        print("the remote has", there[-60:], "and not", data[-60:], flush=True)
        raise SystemExit(1)
os.close(fd)
print(len(data), failed, flush=True)
"""


@pytest.mark.parametrize("write", ["sync", "async"])
def test_daemons_are_killed(prelux, write):
    lake = make_lake(prelux, write=write, fsync="remote")
    seconds = 30 if FULL else 5
    program = lake.popen(["python3", "-c", f"import os; os.chdir('{LOCAL}')\n{APPENDER}", lake.remote / "f", str(seconds)], args=("--no-wait",),
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + seconds - 1
    for n in range(1000):
        time.sleep(0.05 + n % 7 * 0.06)
        if time.monotonic() > end:
            break
        if lake.daemon_pid():  # else the last kill is not noticed yet
            lake.kill_daemon()
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, out + err + lake.story()
    size = int(out.split()[0])
    assert size > 0
    settled(lake)
    assert len(remote_of(lake)["f"]) == size


def test_a_writer_is_killed(prelux):
    """What was acknowledged is on the remote, whatever becomes of the rest."""
    lake = make_lake(prelux, write="async", fsync="remote")
    program = begin(lake, "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'one'); os.fsync(fd); os.write(fd, b' two')\n"
                          "print(flush=True); input(); os.kill(os.getpid(), 9)")
    program.communicate("\n", timeout=20)
    assert program.returncode != 0
    assert remote_of(lake)["f"].startswith(b"one")


# SQLite does not wait to change the journal's mode: on a plain folder, too, it says at once that the database is locked when another writes.
MAKE = """
import sqlite3, sys
db = sqlite3.connect("x.db")
db.execute(f"pragma journal_mode={sys.argv[1]}"), db.execute("create table t(who, n, filler)"), db.commit()
db.close()
"""
# Two of them write one database. Each says which row it has committed, and goes on when it is told to.
CLIENT = """
import sqlite3, sys
who, rows = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect("x.db", timeout=60)
db.execute("pragma synchronous=extra")
for n in range(rows):
    db.execute("insert into t values(?, ?, ?)", (who, n, who * 500)), db.commit()
    print(n, flush=True)
    input()
db.close()
"""


def rows_of(lake, folder):
    """{who: rows} of what another client finds: all objects as they are now, as after the death of this node."""
    folder.mkdir()
    for name, data in remote_of(lake).items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(data)
    db = sqlite3.connect(folder / "x.db")
    try:
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        return dict(db.execute("select who, count(*) from t group by who").fetchall())
    finally:
        db.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("kind", ["file", "versitygw"])
def test_sqlite_with_two_processes(prelux, tmp_path, kind, write, mode):
    rows = 20 if FULL else 5
    with lake_of(prelux, kind, write=write, fsync="remote") as lake:
        lake.run(["python3", "-c", f"import os; os.chdir('{LOCAL}')\n{MAKE}", mode])
        clients = {who: lake.popen(["python3", "-c", f"import os; os.chdir('{LOCAL}')\n{CLIENT}", who, str(rows)], args=("--no-wait",),
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for who in "ab"}
        for n in range(rows):
            for client in clients.values():
                assert client.stdout.readline() == f"{n}\n", client.stderr.read() + lake.story()
            assert rows_of(lake, tmp_path / str(n)) == {"a": n + 1, "b": n + 1}
            for client in clients.values():
                client.stdin.write("\n")
                client.stdin.flush()
        for client in clients.values():
            out, err = client.communicate(timeout=60)
            assert client.returncode == 0, out + err
        settled(lake)
        assert rows_of(lake, tmp_path / "end") == {"a": rows, "b": rows}
