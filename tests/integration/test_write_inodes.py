"""One inode for each path and node: locks, shared maps, descriptors that travel, names that change below open files. The same program in
a plain folder is the oracle."""

import os
import signal
import subprocess
import time

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, same_as_plain, settled

PYTHON = "python3 - <<'X'\nimport fcntl, mmap, os, socket, subprocess, sys, time\n{}\nX\n"

# Python programs; each prints what it sees.
PROGRAMS = {
    "lock-kept": """
import threading
open("l", "w").write("x")
f = open("l", "r+"); fcntl.lockf(f, fcntl.LOCK_EX)
def other():
    code = "import fcntl,sys\\nf = open('l', 'r+')\\ntry: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\\nexcept OSError: print('held')"
    print(subprocess.run(["python3", "-c", code], stdout=subprocess.PIPE).stdout.decode().strip())
other(); os.stat("l"); os.listdir("."); os.access("l", os.W_OK); other(); open("other", "w").write("o"); other(); f.write("changed"); f.flush(); other(); f.close(); other()
""",
    "flock-two": """
f = open("l", "w"); fcntl.flock(f, fcntl.LOCK_EX); g = open("l", "r")
try: fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB); print("got")
except OSError as e: print("held")
f.close(); fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB); print("got")
""",
    "two-writers-one-truncates": """
a = open("f", "w"); a.write("long text of the first"); a.flush()
b = open("f", "w"); b.write("short"); b.flush(); print(open("f").read(), os.fstat(a.fileno()).st_size)
a.write("!"); a.close(); b.close(); print(open("f", "rb").read())
""",
    "reader-before-writer": """
open("f", "w").write("old"); r = open("f"); print(r.read())
with open("f", "a") as a: a.write("+new")
print(r.read()); r.seek(0); print(r.read(), os.path.samestat(os.fstat(r.fileno()), os.stat("f")))
""",
    "shared-map": """
w = open("m", "w+b"); w.truncate(4096); r = open("m", "rb"); ro = mmap.mmap(r.fileno(), 4096, prot=mmap.PROT_READ)
rw = mmap.mmap(w.fileno(), 4096); rw[7:10] = b"abc"; print(ro[7:10]); os.pwrite(w.fileno(), b"Z", 8); print(ro[7:10], rw[7:10])
w.close(); rw[0:1] = b"S"; print(ro[0:1]); rw.close(); print(open("m", "rb").read(10))
""",
    "unlink-open-create": """
a = open("f", "w+"); a.write("first"); a.flush(); os.unlink("f"); print(os.path.exists("f"), os.fstat(a.fileno()).st_size)
b = open("f", "w"); b.write("second"); b.close(); a.write("+more"); a.flush(); a.seek(0); print(a.read(), open("f").read())
print(os.path.samestat(os.fstat(a.fileno()), os.stat("f"))); a.close(); print(open("f").read())
""",
    "unlink-open-proc": """
open("r", "w").write("read"); a = open("f", "w+"); a.write("text"); a.flush(); r = open("r"); os.unlink("f"); os.unlink("r")
code = "import os, sys\\nprint(os.stat('/proc/self/fd/0').st_nlink)"
for f in a, r:
    for name in f"/proc/self/fd/{f.fileno()}", f"/proc/thread-self/fd/{f.fileno()}", f"/dev/fd/{f.fileno()}", f"/proc/{os.getpid()}/fd/{f.fileno()}":
        st = os.stat(name); print(st.st_nlink, st.st_size, os.path.samestat(st, os.fstat(f.fileno())), os.lstat(name).st_size)
    print(subprocess.run(["stat", "-Lc", "%h %s", "/dev/fd/0"], stdin=f, stdout=subprocess.PIPE).stdout, subprocess.run(["python3", "-c", code], stdin=f, stdout=subprocess.PIPE).stdout)
""",
    "rename-over-open": """
a = open("f", "w+"); a.write("first"); a.flush(); open("n", "w").write("new"); os.rename("n", "f"); print(open("f").read())
a.write("+more"); a.flush(); a.seek(0); print(a.read()); open("n", "w").write("again"); a.close(); print(sorted(os.listdir(".")), open("f").read(), open("n").read())
""",
    "rename-open": """
a = open("f", "w"); a.write("first"); a.flush(); os.rename("f", "g"); a.write("+more"); a.close(); print(os.listdir("."), open("g").read())
b = open("g", "a"); ino = os.stat("g").st_ino; os.rename("g", "h"); b.write("!"); b.close(); print(open("h").read(), os.stat("h").st_ino == ino)
""",
    "tmpfile-linkat": """
d = os.open(".", os.O_RDONLY); fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640); os.write(fd, b"nameless"); print(os.listdir("."))
os.link(f"/proc/self/fd/{fd}", "named", dst_dir_fd=d, follow_symlinks=True); os.write(fd, b"+more"); os.close(fd); print(os.listdir("."), open("named").read())
fd = os.open(".", os.O_TMPFILE | os.O_RDWR); os.write(fd, b"gone"); os.close(fd); print(os.listdir("."))
""",
    "fork-child-closes-first": """
f = os.open("f", os.O_WRONLY | os.O_CREAT); os.write(f, b"p")
if os.fork() == 0: os.write(f, b"c"); os.close(f); os._exit(0)
os.wait(); os.write(f, b"p2"); os.close(f); print(open("f").read())
""",
    "fork-parent-closes-first": """
f = os.open("f", os.O_WRONLY | os.O_CREAT); os.write(f, b"p"); r, w = os.pipe()
if os.fork() == 0: os.read(r, 1); os.write(f, b"c"); os.close(f); os._exit(0)
os.close(f); os.write(w, b"x"); os.wait(); print(open("f").read())
""",
    "sent-over-a-socket": """
a, b = socket.socketpair(); f = os.open("f", os.O_WRONLY | os.O_CREAT)
if os.fork() == 0:
    os.close(f); data, fds, *_ = socket.recv_fds(b, 9, 1); os.write(fds[0], b"there"); os.close(fds[0]); os._exit(0)
os.write(f, b"here "); socket.send_fds(a, [b"x"], [f]); os.close(f); os.wait(); print(open("f").read())
""",
    "map-close-store-unmap": """
f = open("m", "w+b"); f.truncate(8192); m = mmap.mmap(f.fileno(), 8192); f.close(); m[100:104] = b"late"; m.close(); print(open("m", "rb").read()[100:104])
""",
    "exec-inherits": """
f = os.open("f", os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.set_inheritable(f, True); os.write(f, b"a\\n")
subprocess.run(["sh", "-c", f"echo b >&{f}"], close_fds=False); subprocess.run(["env", "-i", "sh", "-c", f"echo c >&{f}"], close_fds=False)
if os.fork() == 0: os.dup2(f, 1); os.execvp("echo", ["echo", "d"])
os.wait(); os.close(f); print(open("f").read())
""",
    "modes": """
for flags in ("w", "r+", "a", "w+", "a+", "x"):
    for there in (False, True):
        name = f"{flags}-{there}"
        if there: open(name, "w").write("0123456789")
        try:
            with open(name, flags) as f:
                print(name, f.tell(), end=" ")
                f.write("AB")
            print(open(name).read())
        except OSError as e: print(name, e.errno)
for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
    for more in (0, os.O_CREAT, os.O_TRUNC, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_CREAT | os.O_DIRECTORY):
        for name in ("new", "old", "dir", "none/x", "old/", "dir/", "new/", "old/x", ".", "dir/."):
            for n in ("new", "old"):
                if os.path.exists(n): os.remove(n)
            open("old", "w").write("data"); os.makedirs("dir", exist_ok=True)
            try:
                fd = os.open(name, flags | more); r = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND)
                try: r = (r, os.write(fd, b"Z"))
                except OSError as e: r = (r, e.errno)
                os.close(fd)
            except OSError as e: r = e.errno
            print(flags, more, name, r, os.path.getsize("old"))
""",
    "append-ten-processes": """
ps = []
for i in range(10):
    ps.append(os.fork())
    if ps[-1] == 0:
        for k in range(30):
            with open("log", "a") as f: f.write(f"{i:02} {k:02}\\n")
        os._exit(0)
for p in ps: os.waitpid(p, 0)
lines = sorted(open("log")); print(len(lines), len(set(lines))); open("log", "w").writelines(lines)
""",
    "ftruncate-while-sent": """
f = open("f", "wb"); f.write(b"x" * 9_000_000); f.close()
for size in (5_000_000, 10, 0, 7_000_000):
    with open("f", "r+b") as f: f.truncate(size)
    os.truncate("f", size // 2); print(os.path.getsize("f"))
""",
    "sqlite-switches-to-wal-beside-a-writer": """
import sqlite3
a, b = (sqlite3.connect("db", timeout=60, isolation_level=None) for _ in "ab"); a.execute("create table t(n)"); a.execute("begin immediate")
try: print(b.execute("pragma journal_mode=wal").fetchone())
except sqlite3.OperationalError as e: print(e)
a.execute("insert into t values(1)"); a.execute("commit"); print(b.execute("pragma journal_mode=wal").fetchone(), a.execute("select * from t").fetchall())
""",
    "threads": """
import threading
def work(i):
    for k in range(40):
        with open(f"t{i}-{k % 4}", "w") as f: f.write(f"{i} {k}")
        with open(f"t{i}-{k % 4}") as f: assert f.read() == f"{i} {k}"
ts = [threading.Thread(target=work, args=(i,)) for i in range(8)]
for t in ts: t.start()
for t in ts: t.join()
print(len(os.listdir(".")))
""",
    "spawn-opens": """
W = os.O_WRONLY | os.O_CREAT
for actions in ([(os.POSIX_SPAWN_OPEN, 1, "out", W | os.O_TRUNC, 0o640)], [(os.POSIX_SPAWN_OPEN, 1, "out", W | os.O_APPEND, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)],
                [(os.POSIX_SPAWN_OPEN, 1, "none/out", W, 0o600)], [(os.POSIX_SPAWN_OPEN, 1, "out", W | os.O_EXCL, 0o600)]):
    try: print(os.waitpid(os.posix_spawnp("sh", ["sh", "-c", "echo a; echo b >&2"], os.environ, file_actions=actions), 0)[1])
    except OSError as e: print(e.errno)
    print(os.path.exists("out") and (open("out").read(), oct(os.stat("out").st_mode)))
""",
    "vfork-child-writes": """
for i in range(5): subprocess.run(["sh", "-c", "echo child >> out"], check=True)
with open("direct", "w") as f: subprocess.run(["sh", "-c", "echo a; echo b >&2"], stdout=f, stderr=subprocess.STDOUT)
print(open("out").read(), open("direct").read())
""",
}


@pytest.fixture(params=["sync", "async"])
def lake(request, prelux):
    return make_lake(prelux, write=request.param)


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_a_plain_folder(lake, name):
    same_as_plain(lake, PYTHON.format(PROGRAMS[name]))


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_in_two_processes(lake, journal):
    """A reader that was there before, a writer beside it, each a process of its own. Who makes the database says what journal it has, as a
    real program does: while one process switches an old one to WAL, or just writes to it, another's "pragma journal_mode=wal" is SQLITE_BUSY
    at once, in a plain folder also (2 runs of 60): SQLite holds a shared lock by then and asks no busy timeout."""
    code = f"""
import sqlite3, sys, time
db = sqlite3.connect("{LOCAL}/db", timeout=60, isolation_level=None)
db.execute("pragma journal_mode={journal}")
for i in range(40):
    db.execute("begin immediate"); n = db.execute("select coalesce(max(n), 0) from t").fetchone()[0]
    db.execute("insert into t values(?, ?)", (n + 1, sys.argv[1])); db.execute("commit")
"""
    lake.run(["python3", "-c", f"import sqlite3\nd = sqlite3.connect('{LOCAL}/db')\n"
              f"d.execute('pragma journal_mode={journal}'); d.execute('create table t(n, who)'); d.commit()"])
    both = [lake.popen(["python3", "-c", code, who], stderr=subprocess.PIPE, text=True) for who in "ab"]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    check = f"""
import sqlite3
db = sqlite3.connect("{LOCAL}/db"); print(db.execute("pragma integrity_check").fetchone()[0], db.execute("select count(*), count(distinct n), max(n) from t").fetchone())
"""
    assert lake.run(["python3", "-c", check]).stdout == "ok (80, 80, 80)\n"
    settled(lake)
    plain = lake.plain(["python3", "-c", check.replace(LOCAL, str(lake.remote))])
    assert plain.stdout == "ok (80, 80, 80)\n"


def test_tail_follows_an_appended_file(lake):
    lake.run(f"echo first > {LOCAL}/log")
    out = lake.tmp / "seen"
    with open(out, "wb") as file:
        tail = lake.popen(["tail", "-n", "+1", "-f", "-s", "0.05", f"{LOCAL}/log"], stdout=file, start_new_session=True)
        wait_for(lambda: out.read_text() == "first\n", 20, "the first line")
        for i in range(5):
            lake.run(f"echo {i} >> {LOCAL}/log")
        wait_for(lambda: out.read_text() == "first\n0\n1\n2\n3\n4\n", 20, "all lines, once each")
        os.killpg(tail.pid, signal.SIGKILL)  # `prelux run` and what it runs
        tail.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_a_pipeline_that_is_ended(lake, number):
    """`train | tee f`: what tee had written is on the remote, whatever ended it; after a crash it is kept here."""
    child = lake.popen(f"exec tee {LOCAL}/f", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    child.stdin.write(b"some lines\n")
    child.stdin.flush()
    wait_for(lambda: lake.run(f"cat {LOCAL}/f 2>/dev/null || true").stdout == "some lines\n", 20, "what tee wrote")
    for pid in _tree_of(child.pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    child.wait(timeout=30)
    if number == signal.SIGKILL:
        wait_for(lambda: [row["state"] for row in lake.cli("pending", "list", "--json")["files"]] == ["recovered"], 20, "the file is kept")
        assert not (lake.remote / "f").exists()
        lake.cli("pending", "retry", lake.cli("pending", "list", "--json")["files"][0]["id"])
    wait_for(lambda: (lake.remote / "f").exists() and (lake.remote / "f").read_bytes() == b"some lines\n", 20, "the remote's file")


def _tree_of(pid):
    found = [pid]
    for one in found:
        for task in os.listdir(f"/proc/{one}/task"):
            try:
                found += [int(word) for word in open(f"/proc/{one}/task/{task}/children").read().split()]
            except OSError:
                pass
    return found[1:]


def test_ten_thousand_appends(prelux):
    """One writer after another to one log: each sees what the one before it left, and the work does not grow with the file."""
    lake = make_lake(prelux, write="async")
    begin = time.monotonic()
    code = f"for i in range(5000):\n  with open('{LOCAL}/log', 'a') as f: f.write('%07d\\n' % i)\n  if i == 2499: import time; print(time.time(), end=' ')\nprint(time.time())"
    lake.run(["python3", "-c", code], timeout=300)
    print(f"5,000 appends in {time.monotonic() - begin:.1f} s")
    settled(lake, 60)
    assert (lake.remote / "log").read_text() == "".join(f"{i:07}\n" for i in range(5000))
