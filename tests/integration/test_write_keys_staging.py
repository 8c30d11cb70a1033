"""staging: DIR, on memory. Files that are made lie there until the remote has them; programs see no difference, nothing is dropped silently."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, same_as_plain, settled

SHM = Path("/dev/shm")

pytestmark = pytest.mark.skipif("tmpfs" not in subprocess.run(["stat", "-f", "-c", "%T", SHM], capture_output=True, text=True).stdout,
                                reason="no tmpfs at /dev/shm")


@pytest.fixture
def memory():
    folder = tempfile.mkdtemp(prefix="prelux-test-", dir=SHM)
    yield Path(folder)
    shutil.rmtree(folder)


@pytest.fixture(params=["sync-keep", "async-keep", "async-drop"])
def lake(prelux, memory, request):
    write, after = request.param.split("-")
    return make_lake(prelux, write=write, after_upload=after, staging=str(memory))


def names(memory, which):
    return [name for folder in memory.glob(f"prelux-*/*/{which}") for name in os.listdir(folder)]


SCRIPTS = {
    "files": "mkdir d; echo a >d/a; echo b >>d/a; cp d/a d/b; mv d/b d/c; cat d/*; printf x | dd of=d/a conv=notrunc status=none; cat d/a; "
             "tar cf t.tar --sort=name --mtime=@0 d; mkdir u; tar xf t.tar -C u; ls -A u/d; rm -r d; truncate -s 100 t; truncate -s 50 t; "
             "stat -c %s t; exec 3<>rw; echo one >&3; cat rw; (echo two >&3); exec 3>&-; cat rw; sed -i s/one/ONE/ rw; cat rw; sort -o rw rw",
    "git": "git init -q g && cd g && seq 500 >y && git add y && git -c user.name=n -c user.email=e commit -qm m && git status --short && "
           "git gc -q && git fsck && git log --format=%s && cd .. && rm -rf g",
    "python": """python3 - <<'X'
import fcntl, mmap, os, subprocess, tempfile
w = open("m", "w+b"); w.truncate(4096); r = open("m", "rb"); ro = mmap.mmap(r.fileno(), 4096, prot=mmap.PROT_READ)
rw = mmap.mmap(w.fileno(), 4096); rw[7:10] = b"abc"; print(ro[7:10], os.path.samestat(os.fstat(w.fileno()), os.stat("m")))
fcntl.lockf(w, fcntl.LOCK_EX); open("m", "rb"); os.stat("m"); os.listdir(".")
print(subprocess.run(["python3", "-c", "import fcntl\\ntry: fcntl.lockf(open('m', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\\nexcept OSError: print('held')"],
                     stdout=subprocess.PIPE).stdout)
w.close(); rw.close(); print(open("m", "rb").read(12))
with open("out", "w") as out: subprocess.run(["sh", "-c", "echo child; exec >&-; sleep 0.1"], stdout=out)
print(open("out").read())
fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640); os.write(fd, b"nameless"); os.link(f"/proc/self/fd/{fd}", "named", src_dir_fd=fd, follow_symlinks=True); os.close(fd)
print(open("named").read(), oct(os.stat("named").st_mode))
f = open("f", "w+"); f.write("first"); f.flush(); os.unlink("f"); print(os.fstat(f.fileno()).st_size, os.path.exists("f"))
g = open("f", "w"); g.write("second"); g.close(); f.seek(0); print(f.read(), open("f").read())
a = open("a", "w"); a.write("a"); a.flush(); os.rename("a", "b"); a.write("b"); os.chmod("b", 0o600); os.utime("b", (1, 1)); a.close(); print(open("b").read(), oct(os.stat("b").st_mode))
os.fsync(os.open("b", os.O_RDWR)); os.truncate("b", 1); print(open("b").read())
e = os.open("e", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644); os.write(e, b"exec"); os.execvp("cat", ["cat", "e"])
X""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_like_a_plain_folder(lake, memory, name):
    same_as_plain(lake, SCRIPTS[name])
    wait_for(lambda: not names(memory, "files"), 20, "an empty staging folder")
    assert lake.errors() == []


def test_where_bytes_are(prelux, memory):
    lake = make_lake(prelux, write="async", staging=str(memory))
    lake.remote.joinpath("old").write_text("old\n")
    seen = lake.run(f"exec 3>{LOCAL}/new 4>>{LOCAL}/old; echo new >&3; echo more >&4; readlink /proc/self/fd/3; cat {LOCAL}/new {LOCAL}/old; "
                    f"ls {memory}/prelux-*/*/files; stat -c '%a %u' {memory}/prelux-*").stdout.split("\n")
    assert seen[:4] == [f"{LOCAL}/new", "new", "old", "more"] and seen[4].isdigit() and seen[5] == f"700 {os.getuid()}" and len(seen) == 7
    settled(lake)
    assert lake.seen()["new"][2] == b"new\n" and lake.seen()["old"][2] == b"old\nmore\n"
    wait_for(lambda: names(memory, "files") == names(memory, "held") == [], 20, "an empty folder")
    cached = [name for _, _, found in os.walk(lake.cache / "trees") for name in found]
    assert {"new", "old"} <= set(cached)


def test_a_writer_without_the_library(prelux, memory):
    lake = make_lake(prelux, write="sync", staging=str(memory))
    lake.run(f"exec 3>{LOCAL}/f; env -u LD_PRELOAD sh -c 'sleep 0.3; echo late >&3' & exit 0")
    wait_for(lambda: lake.seen().get("f", ("", "", b""))[2] == b"late\n", 20, "what was written late")


def test_kills(prelux, memory):
    """Daemons killed under writers: what was closed is on the remote in the end."""
    lake = make_lake(prelux, write="async", staging=str(memory))
    for number in range(5):
        writer = lake.popen(f"for i in $(seq 30); do echo {number} $i >{LOCAL}/{number}-$i; done", stdout=subprocess.DEVNULL)
        time.sleep(0.1 + 0.07 * number)
        wait_for(lake.daemon_pid, 20, "a daemon")
        lake.kill_daemon()
        assert writer.wait(60) == 0
    lake.run("true")
    settled(lake, 60)
    assert {path: data for path, (_, _, data) in lake.seen().items()} == {f"{n}-{i}": f"{n} {i}\n".encode() for n in range(5) for i in range(1, 31)}
    assert lake.cli("pending", "list", "--json")["files"] == []
    wait_for(lambda: names(memory, "files") == [], 10, "an empty folder")


def test_emptied(prelux, memory):
    """As a restart of the machine leaves it: what was in it is told of, and stays told of."""
    lake = make_lake(prelux, write="async", staging=str(memory))
    lake.run(f"echo sent >{LOCAL}/sent")
    settled(lake)
    lake.remote.rename(lake.tmp / "elsewhere")
    lake.run(f"echo gone >{LOCAL}/gone", args=["--no-wait"])
    lake.kill_daemon()
    shutil.rmtree(next(memory.iterdir()))
    (lake.tmp / "elsewhere").rename(lake.remote)
    done = lake.run(f"cat {LOCAL}/sent; cat {LOCAL}/gone", check=False)
    assert done.stdout == "sent\n" and "No such file" in done.stderr
    for _ in range(2):
        row, = lake.cli("pending", "list", "--json")["files"]
        assert row["path"] == f"{LOCAL}/gone" and row["state"] == "recovered" and "lost" in row["cause"] and str(memory) in row["cause"], row
        assert lake.cli("pending", "retry", row["id"], check=False).returncode != 0
        lake.run(f"echo other >{LOCAL}/other")
        lake.kill_daemon()
        lake.run("true")
    wait_for(lambda: "other" in lake.seen(), 20, "what was written since")
    lake.cli("pending", "drop", row["id"])
    assert lake.cli("pending", "list", "--json")["files"] == []


def test_not_there(prelux, memory):
    """A folder that cannot be looked at loses nothing: nobody is told of the mapping's files as if there were no others, and all goes on when it is back."""
    lake = make_lake(prelux, write="async", staging=str(memory))
    lake.run(f"echo sent >{LOCAL}/sent")
    settled(lake)
    lake.remote.rename(lake.tmp / "elsewhere")
    lake.run(f"echo waits >{LOCAL}/waits", args=["--no-wait"])
    lake.kill_daemon()
    (lake.tmp / "elsewhere").rename(lake.remote)
    away = memory.with_name(memory.name + "-away")
    memory.rename(away)
    try:
        done = lake.run(f"cat {LOCAL}/waits; echo new >{LOCAL}/new", check=False)
        assert done.returncode != 0 and done.stderr.count("Input/output error") == 2, done.stderr
        assert str(memory) in lake.story(), "the daemon says which folder"
        lake.kill_daemon()
    finally:
        away.rename(memory)
    lake.run(f"cat {LOCAL}/waits; echo new >{LOCAL}/new")
    settled(lake)
    assert {name: data for name, (_, _, data) in lake.seen().items()} == {"sent": b"sent\n", "waits": b"waits\n", "new": b"new\n"}


def mistakes(prelux, *mappings):
    prelux.config({"version": 1, "backends": {"src": {"type": "file", "root": str(prelux.tmp)}},
                   "mappings": [{"local": f"/x{i}", "remote": "src:/", "write": "async", **m} for i, m in enumerate(mappings)]})
    return json.loads(prelux.cli("config", "check", "--json", check=False).stdout)["errors"]


def test_wrong_combinations(prelux, memory):
    assert mistakes(prelux, {"staging": str(memory)}) == []
    said = " ".join(mistakes(prelux, {"staging": str(memory), "async_durable": "power"}))
    assert f"`staging`: {memory} is memory, and `async_durable: power` promises" in said
    assert f"`staging`: {memory}/later/there is memory" in " ".join(mistakes(prelux, {"staging": f"{memory}/later/there", "async_durable": "power"}))
    assert mistakes(prelux, {"staging": str(prelux.tmp), "async_durable": "power"}) == []
    assert mistakes(prelux, {"staging": str(memory), "async_durable": "power", "write": "sync"}) == []
    said = " ".join(mistakes(prelux, {"staging": str(memory)}, {"staging": "/dev/shm"}))
    assert "are staged in that of line" in said
    assert mistakes(prelux, {"staging": str(memory)}, {"staging": "/dev/shm", "cache": str(prelux.tmp / "own")}, {}) == []


def test_a_folder_that_cannot_be_used(prelux, memory):
    """Files are staged in the cache, and the log says why."""
    os.mkdir(memory / f"prelux-{os.getuid()}", 0o755)
    lake = make_lake(prelux, write="sync", staging=str(memory))
    lake.run(f"echo x >{LOCAL}/f; cat {LOCAL}/f")
    assert lake.seen()["f"][2] == b"x\n"
    assert "not a folder of ours with mode 0700" in lake.log() and names(memory, "files") == []
