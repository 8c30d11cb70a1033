"""Odd places, the writing half: what is written from or in them is on the remote, whole, and nowhere else; where it cannot be, the program is
told and nothing is lost."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import harness
from tests.integration.test_places import in_namespace, odd_user, world  # noqa: F401  pylint: disable=unused-import
from tests.integration.test_places import FAKE_STATFS, LAKE

# What a program does with a writable mapping; prints "done" and leaves new, log, map and d/moved.
SCRIPT = f"""set -e; cd {LAKE}; echo text > new; cat new; echo one > log; echo two >> log; mkdir -p d; echo moved > m; mv m d/moved; cp new gone
rm gone
python3 -I -c "
import mmap, os
fd = os.open('map', os.O_RDWR | os.O_CREAT, 0o644); os.ftruncate(fd, 8192); m = mmap.mmap(fd, 8192); os.close(fd)
import time; time.sleep(0.5)
m[100:104] = b'late'; m[8188:8192] = b'last'; m.close()
for _ in range(200):  # the kernel tells the daemon that the map has ended: not when all is killed before
    if os.getxattr('map', 'user.prelux.state') not in (b'dirty', b'pending'): break
    time.sleep(0.05)"
sed -i s/two/three/ log; cat log d/moved; echo done"""
CONFIG = "version: 1\nbackends: {{src: {{type: file, root: {0}}}}}\nmappings: [{{local: " + LAKE + ", remote: 'src:/', write: sync}}]\n"
SAID = "text\none\nthree\nmoved\ndone\n"
LEFT = {"new": b"text\n", "log": b"one\nthree\n", "d/moved": b"moved\n", "map": bytes(100) + b"late" + bytes(8084) + b"last"}


def left(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def written(source, before=()):
    """The remote has what the script wrote, beside what was there; the end of a map is told by the kernel only, a moment later."""
    want = {**LEFT, **dict(before)}
    try:
        harness.wait_for(lambda: left(source) == want, 30)
    except AssertionError:
        assert left(source) == want
        raise


@pytest.fixture
def lake(world):  # noqa: F811
    """`world` that can be written to."""
    shutil.rmtree(world.source)
    world.source.mkdir()
    world.file_mapping(world.source, LAKE, write="sync")
    return world


def run_of(lake, script):
    return f"{lake.exe} --config {lake.config_path} run -- bash -c '{script}'"


@pytest.fixture
def script(lake):
    """The script as a file: it has quotes of every kind."""
    path = lake.tmp / "script"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return f"bash {path}"


@pytest.mark.parametrize("write", ["sync", "async"])
def test_everything_on_overlayfs(lake, script, write):
    """Runtime folder, cache, staging and remote. A file that is still mapped when its descriptor is closed is sent with what was stored through
    the map (there the kernel's lease does not see such a map)."""
    layers = lake.tmp / "layers"
    lake.config({"version": 1, "cache": {"dir": f"{layers}/merged/cache"}, "backends": {"src": {"type": "file", "root": f"{layers}/merged/remote"}},
                 "mappings": [{"local": LAKE, "remote": "src:/", "write": write}]})
    done = in_namespace(["-m"], f"""
        mkdir -p {layers}/lower/remote {layers}/upper {layers}/work {layers}/merged {lake.tmp}/out
        cd {layers}; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged 2>&1 || {{ echo SKIP overlayfs; exit 0; }}; cd /
        export PRELUX_RUNTIME_DIR={layers}/merged/rt
        {run_of(lake, script)}
        for i in $(seq 40); do
          {lake.exe} --config {lake.config_path} flush > /dev/null 2>&1
          cmp -s -n 104 {layers}/merged/remote/map <(head -c 100 /dev/zero; printf late) && break; sleep 0.25
        done
        {run_of(lake, f"md5sum < {LAKE}/map")}
        cp -r {layers}/merged/remote/. {lake.tmp}/out
        kill $(cat {layers}/merged/rt/pid)""", lake.env)
    digest = subprocess.run(["md5sum"], input=LEFT["map"], capture_output=True).stdout.decode()
    assert done.stdout == SAID + digest, done.stderr
    assert left(lake.tmp / "out") == LEFT


@pytest.mark.parametrize("write", ["sync", "async"])
def test_a_cache_of_64_mib(lake, write):
    """A container's /dev/shm: what does not fit is ENOSPC for who writes it, what fits is sent, and nothing short is under the big one's name."""
    small = lake.tmp / "small"
    lake.config({"version": 1, "cache": {"dir": f"{small}/cache", "max_size": "1GiB", "min_free": "0%"},
                 "backends": {"src": {"type": "file", "root": str(lake.source)}},
                 "mappings": [{"local": LAKE, "remote": "src:/", "write": write}]})
    done = in_namespace(["-m"], f"""
        mkdir -p {small}; mount -t tmpfs -o size=64m none {small} || {{ echo SKIP tmpfs; exit 0; }}
        export PRELUX_RUNTIME_DIR={lake.runtime}
        {run_of(lake, f"head -c 20000000 /dev/zero > {LAKE}/fits && echo fits")}
        {run_of(lake, f"head -c 100000000 /dev/zero > {LAKE}/big || echo told")}
        {run_of(lake, f"rm -f {LAKE}/big; echo small > {LAKE}/small && cat {LAKE}/small")}
        {run_of(lake, f"head -c 30000000 /dev/zero > {LAKE}/again && echo again")}
        {lake.exe} --config {lake.config_path} flush --timeout 30
        kill $(cat {lake.runtime}/pid)""", lake.env)
    assert done.stdout.splitlines() == ["fits", "told", "small", "again"], done.stdout + done.stderr
    assert "No space left on device" in done.stderr
    assert {path.name: path.stat().st_size for path in lake.source.iterdir()} == {"fits": 20_000_000, "small": 6, "again": 30_000_000}


HIDE_HOME = FAKE_STATFS.replace('st->f_type = strtol(getenv("FAKE_TYPE"), NULL, 16);', 'if (below(fd)) st->f_type = 0x6969;').replace(
    "int fstatfs(int", """#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int below(int fd)
{
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n > 0 ? n : 0] = 0;
  return strncmp(path, getenv("NFS"), strlen(getenv("NFS"))) == 0;
}
int fstatfs(int""", 1)


def test_home_on_nfs(lake, odd_user, script):  # noqa: F811
    """f_type is faked below the home. Nothing is put there; the cache goes where a cache can be."""
    run, uid, folder = odd_user
    home = folder / "home"
    for made in (home, folder / "remote"):
        made.mkdir()
        os.chown(made, uid, uid)
    fake = folder / "fake.so"
    (folder / "fake.c").write_text(HIDE_HOME)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", fake, folder / "fake.c", "-ldl"], check=True)
    config = folder / "prelux.yaml"
    config.write_text(CONFIG.format(folder / "remote"))
    (folder / "script").write_text(SCRIPT)
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, uid, uid)
    daemon = subprocess.Popen([lake.daemon_exe, "--runtime", runtime, "--foreground"], user=uid, group=uid, extra_groups=[], stdin=subprocess.DEVNULL,
                              env={**lake.env, "HOME": str(home), "LD_PRELOAD": str(fake), "NFS": str(home)})
    try:
        harness.wait_for(lambda: (runtime / "sock").exists(), 60, "the daemon")
        done = run([lake.exe, "--config", config, "run", "--", "bash", folder / "script"], HOME=home, PRELUX_RUNTIME_DIR=runtime)
        assert done.stdout == SAID, done.stderr
        written(folder / "remote")
        assert harness.daemons_of(runtime) == [daemon.pid]
    finally:
        daemon.terminate()
        daemon.wait(30)
    assert (Path(f"/var/tmp/prelux-{uid}") / "trees").is_dir() and not [path for path in home.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("home", [None, "/", "read-only"])
def test_odd_homes_and_no_runtime_folder(lake, odd_user, home):  # noqa: F811
    """A user without passwd entry, neither PRELUX_RUNTIME_DIR nor XDG_RUNTIME_DIR, a TMPDIR of 200 bytes."""
    run, uid, folder = odd_user
    if home == "read-only":
        home = folder / "home"
        home.mkdir(mode=0o555)
    remote = folder / "remote"
    remote.mkdir()
    os.chown(remote, uid, uid)
    config = folder / "prelux.yaml"
    config.write_text(CONFIG.format(remote))
    (folder / "script").write_text(SCRIPT)
    done = run([lake.exe, "--config", config, "run", "--", "bash", folder / "script"], HOME=home, TMPDIR="/tmp/" + "t" * 195)
    assert (done.stdout, done.stderr) == (SAID, "")
    written(remote)
    assert {path.stat().st_uid for path in remote.rglob("*")} == {uid}
    for private in (f"/tmp/prelux-{uid}", f"/var/tmp/prelux-{uid}/.prelux/staging"):
        assert stat.S_IMODE(os.stat(private).st_mode) & 0o077 == 0


def test_two_users_and_one_cache(lake, odd_user, script):  # noqa: F811
    """The second one's files go by a cache of his own; the first one's is left alone, and what each wrote is his."""
    run, uid, folder = odd_user
    cache, remote = folder / "cache", folder / "remote"
    remote.mkdir(mode=0o1777)
    remote.chmod(0o1777)
    lake.config({"version": 1, "cache": {"dir": str(cache)}, "backends": {"src": {"type": "file", "root": str(remote)}},
                 "mappings": [{"local": LAKE, "remote": "src:/", "write": "sync"}]})
    lake.run(f"echo first > {LAKE}/first")
    cache.chmod(0o777)
    config = folder / "other.yaml"
    shutil.copy(lake.config_path, config)
    (folder / "script").write_text(SCRIPT)
    done = run([lake.exe, "--config", config, "run", "--", "bash", folder / "script"])
    assert done.stdout == SAID, done.stderr
    written(remote, {"first": b"first\n"})
    assert (remote / "new").stat().st_uid == uid and (remote / "first").stat().st_uid == 0
    assert {os.lstat(os.path.join(root, name)).st_uid for root, folders, files in os.walk(cache) for name in folders + files} == {0}


def test_two_hosts_and_one_cache(lake, script):
    """The second host is refused: its program is told, its files go nowhere, and what the first has not sent yet is still its own to send."""
    assert lake.run(f"echo first > {LAKE}/first; exec 7> {LAKE}/open; echo dirty >&7; cat {LAKE}/open").stdout == "dirty\n"
    child = lake.popen(f"exec 7> {LAKE}/held; echo held >&7; echo up; read x; echo more >&7", stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    other = Path(tempfile.mkdtemp(prefix="plx-", dir="/tmp"))
    try:
        second = run_of(lake, f"echo second > {LAKE}/second")
        done = in_namespace(["--uts"], f"hostname other-host; {second}; status=$?; kill $(cat {other}/pid); exit $status",
                            {**lake.env, "PRELUX_RUNTIME_DIR": str(other)}, check=False)
        assert done.returncode != 0 and "Input/output error" in done.stderr
        assert any("in use" in json.loads(line).get("cause", "") for line in (other / "errors").read_text().splitlines())
    finally:
        for pid in harness.daemons_of(other):
            harness.wait_for(lambda pid=pid: not harness.alive(pid), 60)
        shutil.rmtree(other)
    child.communicate("go\n", timeout=30)
    want = {"first": b"first\n", "open": b"dirty\n", "held": b"held\nmore\n"}
    harness.wait_for(lambda: left(lake.source) == want, 30, "all that the first host wrote")


def test_container_with_another_cache_folder(lake):
    """It sees the socket, but not the cache: what it writes goes through passed descriptors, to the same files."""
    lake.run(f"echo one > {LAKE}/log")
    table = lake.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
    done = in_namespace(["-m"], f"""
        mount -t tmpfs none {lake.cache} || {{ echo SKIP tmpfs; exit 0; }}
        export LD_PRELOAD={lake.library} PRELUX_CONFIG={table}
        bash -c "echo two >> {LAKE}/log; echo new > {LAKE}/new; cat {LAKE}/log {LAKE}/new; mkdir {LAKE}/d; mv {LAKE}/new {LAKE}/d/; cat {LAKE}/d/new"
        ls -A {lake.cache} | wc -l""", {**lake.env, "PRELUX_RUNTIME_DIR": str(lake.runtime)})
    assert done.stdout == "one\ntwo\nnew\nnew\n0\n", f"{done.stderr}{left(lake.source)}\n{lake.story()}"
    assert left(lake.source) == {"log": b"one\ntwo\n", "d/new": b"new\n"}
    assert lake.run(f"cat {LAKE}/log {LAKE}/d/new").stdout == "one\ntwo\nnew\n"


@pytest.mark.parametrize("bare", [False, True])
def test_process_one(lake, script, bare):
    """The program itself is process 1 of its namespace, or its run is."""
    env = {**lake.env, "PRELUX_RUNTIME_DIR": str(lake.runtime), "PRELUX_CONFIG": str(lake.config_path)}
    command = f"exec env LD_PRELOAD={lake.library} {script}" if bare else f"exec {run_of(lake, script)}"
    assert in_namespace(["--pid", "--fork", "--kill-child", "--mount-proc"], command, env).stdout == SAID
    lake.run("true")
    written(lake.source)


def test_read_only_root(lake, script):
    """Only the folders of prelux and the remote can be written to."""
    binds = " && ".join(f"mkdir -p {path} && mount --bind {path} {path}" for path in (lake.runtime, lake.cache, lake.source))
    done = in_namespace(["-m"], f"""
        {{ {binds}; }} || {{ echo SKIP bind; exit 0; }}
        mount -o remount,ro,bind / && ! touch /tmp/.prelux-can-write 2> /dev/null || {{ echo SKIP the root stays writable; exit 0; }}
        export PRELUX_RUNTIME_DIR={lake.runtime}
        {run_of(lake, script)}
        kill $(cat {lake.runtime}/pid)""", lake.env)
    assert done.stdout == SAID, done.stderr
    lake.run("true")
    written(lake.source)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("bare", [False, True])
def test_umask(lake, script, mask, bare):
    """Files have the mode that the program's umask gives; staging and journal are the user's alone, whatever it is."""
    held = lake.popen(f"exec 7> {LAKE}/held; echo up; read x", bare=bare, umask=mask, stdin=-1, stdout=-1, text=True)
    assert held.stdout.readline() == "up\n"
    done = lake.run(f"bash -c '{script}; stat -c %a {LAKE}/new {LAKE}/d'", umask=mask, bare=bare)
    assert done.stdout == SAID + f"{0o666 & ~mask:o}\n{0o777 & ~mask:o}\n"
    for path in [lake.cache / ".prelux/staging", *(lake.cache / ".prelux").glob("journal.db*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    held.communicate("go\n", timeout=30)
    written(lake.source, {"held": b""})
    for name in ("new", "log", "held"):
        assert stat.S_IMODE((lake.source / name).stat().st_mode) == 0o666 & ~mask, name
