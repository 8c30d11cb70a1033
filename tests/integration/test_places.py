"""Odd places: homes, runtime folders, users, hosts, namespaces, file systems. Each gives right bytes, or EIO with one line that says
what to set; nothing is written where it should not be."""

import json
import os
import random
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests import harness

LAKE = "/prelux-places"
NOBODY = 65534


@pytest.fixture
def world(prelux):
    """A `file` mapping, read by plain programs: the set-up is what varies."""
    prelux.source = prelux.tmp / "source"
    prelux.source.mkdir()
    for i in range(3):
        (prelux.source / f"f{i}").write_text(f"text {i}")
    prelux.file_mapping(prelux.source, LAKE)
    return prelux


def config_without_cache(world, **more):
    """cache.dir is chosen by the daemon."""
    import yaml
    value = {"version": 1, "backends": {"src": {"type": "file", "root": str(world.source)}}, "mappings": [{"local": LAKE, "remote": "src:/"}], **more}
    world.config(yaml.safe_dump(value), raw=True)


def cache_of(world, **options):
    """The cache folder in use, as `status` says it."""
    return Path(world.cli("status", "--json", **options)["cache"]["dir"])


def need_root():
    if os.geteuid() != 0:
        pytest.skip("needs root")


def in_namespace(flags, script, env, check=True, timeout=60, **popen):
    """Runs a bash script in new namespaces (of root's)."""
    need_root()
    probe = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"unshare {' '.join(flags)}: {probe.stderr.strip()}")
    done = subprocess.run(["unshare", *flags, "bash", "-c", script], env=env, capture_output=True, text=True, timeout=timeout,
                          stdin=subprocess.DEVNULL, **popen)
    if "SKIP" in done.stdout:
        pytest.skip(done.stdout.partition("SKIP")[2].strip())
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def cat(world, name="f0"):
    """A shell word list that reads a file under prelux."""
    return f"{world.exe} --config {world.config_path} run -- cat {LAKE}/{name}"


# Homes


def test_home_is_where_the_cache_goes(world):
    config_without_cache(world)
    assert world.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    assert cache_of(world) == world.home / ".cache" / "prelux"


@pytest.mark.parametrize("home", [None, "/", "relative", "/nonexistent/home", "/proc", "read-only"])
def test_odd_homes(world, home, odd_user):
    """Without a home that can be written to the cache goes to /var/tmp."""
    run, uid, folder = odd_user
    if home == "read-only":
        home = str(folder / "read-only")
        os.mkdir(home, 0o555)
    config = folder / "prelux.yaml"
    config.write_text(f"version: 1\nbackends: {{src: {{type: file, root: {folder}/source}}}}\nmappings: [{{local: {LAKE}, remote: 'src:/'}}]\n")
    done = run([world.exe, "--config", config, "run", "--", "cat", f"{LAKE}/f0"], HOME=home)
    assert (done.stdout, done.stderr) == ("text 0", "")
    cache = Path(f"/var/tmp/prelux-{uid}")
    assert (cache / "trees").is_dir() and stat.S_IMODE(os.stat(cache).st_mode) == 0o700
    assert not os.path.exists("/.cache/prelux") and not os.path.exists("/nonexistent")


@pytest.fixture
def odd_user(world):
    """run(argv, **env) as a user without passwd entry; (run, uid, a folder that everybody can enter). No runtime folder is named."""
    need_root()
    uid = random.randrange(61_000, 64_000)
    while os.path.exists(f"/tmp/prelux-{uid}") or os.path.exists(f"/var/tmp/prelux-{uid}"):
        uid += 1
    folder = Path(tempfile.mkdtemp(prefix="plx-public-", dir="/tmp"))
    folder.chmod(0o755)
    shutil.copytree(world.source, folder / "source")
    build_is_readable(world, folder)

    def run(argv, **env):
        full = {key: value for key, value in {**world.env, "PRELUX_RUNTIME_DIR": None, "HOME": None, **env}.items() if value is not None}
        return subprocess.run([os.fspath(word) for word in argv], env=full, cwd=folder, user=uid, group=uid, extra_groups=[], text=True,
                              capture_output=True, timeout=60, stdin=subprocess.DEVNULL)

    yield run, uid, folder
    for runtime in (f"/tmp/prelux-{uid}", str(folder)):
        for pid in harness.daemons_of(runtime):
            os.kill(pid, 15)
            harness.wait_for(lambda pid=pid: not harness.alive(pid), 60)
    for path in (folder, f"/tmp/prelux-{uid}", f"/var/tmp/prelux-{uid}"):
        shutil.rmtree(path, ignore_errors=True)


def build_is_readable(world, folder):
    """Other users may not be able to enter the checkout: they get copies."""
    for name in ("exe", "daemon_exe", "library"):
        copy = folder / getattr(world, name).name
        shutil.copy(getattr(world, name), copy)
        copy.chmod(0o755)
        setattr(world, name, copy)


def test_user_without_passwd_entry(world, odd_user):
    run, uid, folder = odd_user
    config = folder / "prelux.yaml"
    config.write_text(f"version: 1\nbackends: {{src: {{type: file, root: {folder}/source}}}}\nmappings: [{{local: {LAKE}, remote: 'src:/'}}]\n")
    done = run([folder / "prelux", "--config", config, "run", "--", "stat", "-c", "%u %s", f"{LAKE}/f1"])
    assert done.stdout == f"{uid} 6\n", done.stderr
    runtime = os.stat(f"/tmp/prelux-{uid}")
    assert runtime.st_uid == uid and stat.S_IMODE(runtime.st_mode) == 0o700
    # The runtime folder that somebody else made first is not believed.
    other = folder / "others"
    other.mkdir()
    done = run([folder / "prelux", "--config", config, "run", "--", "cat", f"{LAKE}/f1"], PRELUX_RUNTIME_DIR=other)
    assert done.returncode != 0 and done.stdout == "" and str(other) in done.stderr


# Runtime folders


def test_xdg_runtime_dir(world):
    xdg = Path(tempfile.mkdtemp(prefix="plx-xdg-", dir="/tmp"))
    try:
        env = {"PRELUX_RUNTIME_DIR": None, "XDG_RUNTIME_DIR": xdg}
        assert world.run(["cat", f"{LAKE}/f0"], env=env).stdout == "text 0"
        assert stat.S_ISSOCK(os.stat(xdg / "prelux" / "sock").st_mode)
        assert world.daemons() == [] and len(harness.daemons_of(xdg / "prelux")) == 1
    finally:
        for pid in harness.daemons_of(xdg / "prelux"):
            os.kill(pid, 15)
            harness.wait_for(lambda pid=pid: not harness.alive(pid), 60)
        shutil.rmtree(xdg)


@pytest.mark.parametrize("bare", [False, True])
def test_long_runtime_folder(world, bare):
    """A socket's name has 108 bytes; the folder's may have more."""
    long = world.runtime / ("r" * 200)
    done = world.run(["cat", f"{LAKE}/f0"], env={"PRELUX_RUNTIME_DIR": long}, bare=bare)
    try:
        assert done.stdout == "text 0" and done.stderr == ""
        assert stat.S_ISSOCK(os.lstat(long / "sock").st_mode)
    finally:
        for pid in harness.daemons_of(long):
            os.kill(pid, 15)
            harness.wait_for(lambda pid=pid: not harness.alive(pid), 60)


def test_tmpdir_does_not_matter(world):
    for tmpdir in ("/tmp/" + "t" * 200, "/nonexistent", ""):
        assert world.run(["cat", f"{LAKE}/f0"], env={"TMPDIR": tmpdir}).stdout == "text 0"
    assert len(world.daemons()) == 1


@pytest.mark.parametrize("kind", ["file", "link", "missing parent", "wide"])
def test_runtime_folder_that_cannot_be(world, kind):
    runtime = world.tmp / "rt"
    if kind == "file":
        runtime.write_text("")
    elif kind == "link":
        (world.tmp / "real").mkdir(mode=0o700)
        runtime.symlink_to(world.tmp / "real")
    elif kind == "missing parent":
        runtime = world.tmp / "no" / "parent"
    else:
        runtime.mkdir()
        runtime.chmod(0o755)
    done = world.run(["cat", f"{LAKE}/f0"], env={"PRELUX_RUNTIME_DIR": runtime}, check=False)
    assert done.returncode != 0 and done.stdout == "" and str(runtime) in done.stderr and len(done.stderr.splitlines()) == 1
    bare = world.run(["cat", f"{LAKE}/f0"], env={"PRELUX_RUNTIME_DIR": runtime}, bare=True, check=False)
    assert bare.returncode == 1 and bare.stdout == "" and "Input/output error" in bare.stderr
    assert world.run(["cat", world.source / "f0"], env={"PRELUX_RUNTIME_DIR": runtime}, bare=True).stdout == "text 0"


# Caches that are somebody else's


def refused(world, done, *words, records=None):
    """EIO and a record that says why."""
    assert done.returncode == 1 and done.stdout == "" and "Input/output error" in done.stderr, done.stderr
    records = world.errors() if records is None else records
    causes = [record.get("cause", "") + " " + record.get("advice", "") for record in records]
    assert any(all(str(word) in cause for word in words) for cause in causes), causes


def test_two_daemons_and_one_cache(prelux_factory):
    """The second is refused with the first one's name; when the first has gone it gets the folder."""
    first, second = prelux_factory("a"), prelux_factory("b")
    for one in (first, second):
        one.source = first.tmp / "source"
        one.cache = first.cache
    first.source.mkdir()
    (first.source / "f0").write_text("text 0")
    for one in (first, second):
        one.file_mapping(first.source, LAKE)
    assert first.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    refused(second, second.run(["cat", f"{LAKE}/f0"], check=False), first.cache, "in use", first.daemon_pid(), "cache.dir")
    assert first.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    first.kill_daemon()
    second.kill_daemon()
    assert second.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
@pytest.mark.parametrize("which", ["cache.dir", "cache"])
def test_two_users_and_one_cache(world, odd_user, which, mode):
    """A mapping's own folder is refused; for the common one there are others to go to. The first user's is left alone."""
    run, uid, folder = odd_user
    cache = folder / "cache"
    mapping = {"local": LAKE, "remote": "src:/"}
    value = {"version": 1, "backends": {"src": {"type": "file", "root": str(folder / "source")}}, "mappings": [mapping]}
    if which == "cache":
        mapping["cache"] = str(cache)
    else:
        value["cache"] = {"dir": str(cache)}
    world.config(value)
    assert world.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    cache.chmod(mode)
    config = folder / "other.yaml"
    shutil.copy(world.config_path, config)
    if which == "cache":
        config.write_text(config.read_text().replace(str(world.cache), str(folder / "spare")))
    done = run([folder / "prelux", "--config", config, "run", "--", "cat", f"{LAKE}/f0"])
    reasons = ("belongs to user 0", "Permission denied", "others may write", "is not writable")
    if which == "cache":
        records = [json.loads(line) for line in Path(f"/tmp/prelux-{uid}/errors").read_text().splitlines()]
        refused(world, done, cache, records=records)
        assert any(reason in record["cause"] for reason in reasons for record in records), records
    else:
        assert (done.stdout, done.stderr) == ("text 0", "")
        lines = [line for line in Path(f"/tmp/prelux-{uid}/log").read_text().splitlines() if f"cache folder {cache}" in line]
        assert len(lines) == 1 and any(reason in lines[0] for reason in reasons) and f"/var/tmp/prelux-{uid}" in lines[0]
    cache.chmod(0o700)
    assert {os.lstat(os.path.join(root, name)).st_uid for root, folders, files in os.walk(cache) for name in folders + files} == {0}
    assert world.run(["cat", f"{LAKE}/f1"]).stdout == "text 1"


def test_two_hosts_and_one_cache(world):
    """Another host name on the same kernel, for lack of a second one: the lock says who has it."""
    assert world.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    other = Path(tempfile.mkdtemp(prefix="plx-", dir="/tmp"))
    env = {**world.env, "PRELUX_RUNTIME_DIR": str(other)}
    try:
        done = in_namespace(["--uts"], f"hostname other-host; {cat(world)}; status=$?; kill $(cat {other}/pid); exit $status", env, check=False)
        records = [json.loads(line) for line in (other / "errors").read_text().splitlines()]
        refused(world, done, world.cache, "in use", os.uname().nodename, world.daemon_pid(), records=records)
    finally:
        for pid in harness.daemons_of(other):
            harness.wait_for(lambda pid=pid: not harness.alive(pid), 60)
        shutil.rmtree(other)
    assert world.run(["cat", f"{LAKE}/f1"]).stdout == "text 1"


# File systems

FAKE_STATFS = """
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/vfs.h>
int fstatfs(int fd, struct statfs *st)
{
  int (*next)(int, struct statfs *) = (int (*)(int, struct statfs *))dlsym(RTLD_NEXT, "fstatfs");
  int ret = next(fd, st);
  if (ret == 0) st->f_type = strtol(getenv("FAKE_TYPE"), NULL, 16);
  return ret;
}
int fstatfs64(int fd, struct statfs64 *st)
{
  int (*next)(int, struct statfs64 *) = (int (*)(int, struct statfs64 *))dlsym(RTLD_NEXT, "fstatfs64");
  int ret = next(fd, st);
  if (ret == 0) st->f_type = strtol(getenv("FAKE_TYPE"), NULL, 16);
  return ret;
}
"""


@pytest.mark.parametrize("magic,name", [("6969", "nfs"), ("ff534d42", "cifs"), ("0bd00bd0", "lustre")])
def test_cache_on_a_network_file_system(world, magic, name):
    """f_type is faked in the daemon by a library of our own."""
    fake = world.tmp / "fake.so"
    fake.with_suffix(".c").write_text(FAKE_STATFS)
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", fake, fake.with_suffix(".c"), "-ldl"], check=True)
    daemon = world.popen([world.daemon_exe, "--runtime", world.runtime], bare=True, env={"LD_PRELOAD": fake, "FAKE_TYPE": magic, "PRELUX_CONFIG": None})
    harness.wait_for(world.daemon_pid, 60, "the daemon")
    assert daemon.poll() is None
    done = world.run(["cat", f"{LAKE}/f0"], check=False)
    refused(world, done, world.cache, "network file system", name, "cache.dir")
    assert not (world.cache / "trees").exists()


def test_cache_on_overlayfs(world):
    layers, mapped = world.tmp / "layers", world.tmp / "mapped.py"
    mapped.write_text(f"import mmap\nf = open('{LAKE}/f2')\nprint(mmap.mmap(f.fileno(), 0, prot=1)[:], end='')\n")
    script = f"""
    mkdir -p {layers}/lower {layers}/upper {layers}/work {layers}/merged
    mount -t overlay overlay -o lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work {layers}/merged 2>&1 || {{ echo SKIP overlayfs; exit 0; }}
    export PRELUX_RUNTIME_DIR={layers}/merged/rt
    {cat(world, 'f0')}; {cat(world, 'f1')}
    {world.exe} --config {world.config_path} run -- bash -c 'stat -c %i {LAKE}/f2; cat {LAKE}/f2; stat -c %i {LAKE}/f2; python3 {mapped}'
    {world.exe} --config {world.config_path} evict {LAKE} > /dev/null; {cat(world, 'f0')}
    stat -f -c ' %T' {layers}/merged/cache
    kill $(cat {layers}/merged/rt/pid)
    """
    world.config({"version": 1, "cache": {"dir": f"{layers}/merged/cache"}, "backends": {"src": {"type": "file", "root": str(world.source)}},
                  "mappings": [{"local": LAKE, "remote": "src:/"}]})
    out = in_namespace(["-m"], script, world.env).stdout
    number = out.removeprefix("text 0text 1").split("\n")[0]
    assert out == f"text 0text 1{number}\ntext 2{number}\nb'text 2'text 0 overlayfs\n"


def test_cache_that_is_full(world):
    """64 MiB like a container's /dev/shm: ENOSPC, recorded; what fits is right, and nothing wrong is served."""
    small = world.tmp / "small"
    big = world.source / "big"
    big.write_bytes(os.urandom(1 << 20) * 100)
    (world.source / "half").write_bytes(os.urandom(1 << 20) * 20)
    world.config({"version": 1, "cache": {"dir": f"{small}/cache", "max_size": "1GiB", "min_free": "0%"},
                  "backends": {"src": {"type": "file", "root": str(world.source)}}, "mappings": [{"local": LAKE, "remote": "src:/"}]})
    script = f"""
    mkdir -p {small}; mount -t tmpfs -o size=64m none {small} || {{ echo SKIP tmpfs; exit 0; }}
    export PRELUX_RUNTIME_DIR={world.runtime}
    {cat(world, 'half')} | cmp - {world.source}/half && echo same
    {cat(world, 'big')} | wc -c
    {cat(world, 'f0')}; echo
    {world.exe} --config {world.config_path} run -- stat -c %s {LAKE}/big
    {cat(world, 'half')} | cmp - {world.source}/half && echo same
    dd if=/dev/zero of={small}/filler bs=1M 2> /dev/null
    {cat(world, 'f1')}; echo " $?"
    rm {small}/filler
    {cat(world, 'f2')}; echo
    {cat(world, 'big')} | wc -c
    """
    done = in_namespace(["-m"], script, world.env)
    lines = done.stdout.splitlines()
    assert lines[0] == "same" and lines[1] == "0" and lines[2] == "text 0" and lines[3] == str(100 << 20) and lines[4] == "same"
    assert lines[5] in ("text 1 0", " 1") and lines[6] == "text 2" and lines[7] == "0"
    assert "No space left on device" in done.stderr
    records = [record for record in world.errors() if record["path"] == f"{LAKE}/big"]
    assert records and {record["errno"] for record in records} == {"ENOSPC"}


# Namespaces


def test_container_with_another_cache_folder(world):
    """It sees the socket, but where the cache should be there is something else: files come as passed descriptors."""
    assert world.run(["cat", f"{LAKE}/f0"]).stdout == "text 0"
    table = world.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()
    script = f"""
    mount -t tmpfs none {world.cache} || {{ echo SKIP tmpfs; exit 0; }}
    export LD_PRELOAD={world.library} PRELUX_CONFIG={table}
    bash -c "cat {LAKE}/f0 {LAKE}/f1; ls {LAKE}; cat {LAKE}/f2; stat -c ' %s' {LAKE}/f1; grep -c text {LAKE}/f*; find {LAKE} | wc -l; cd {LAKE} 2>&1"
    ls -A {world.cache} | wc -l
    """
    env = {**world.env, "PRELUX_RUNTIME_DIR": str(world.runtime)}
    out = in_namespace(["-m"], script, env).stdout
    greps = "".join(f"{LAKE}/f{i}:1\n" for i in range(3))
    assert out.startswith(f"text 0text 1f0\nf1\nf2\ntext 2 6\n{greps}4\n") and out.endswith("\n0\n")
    assert "cd: " + LAKE in out and "Input/output error" in out  # the kernel has no folder to stand in: said so
    # A decoy at the same place is not read: it has another inode.
    script = script.replace("export LD", f"cp -r {world.tmp}/copy/. {world.cache}; for f in $(find {world.cache}/trees -name 'f?'); do echo decoy > $f; done; export LD")
    shutil.copytree(world.cache, world.tmp / "copy")
    out = in_namespace(["-m"], script, env).stdout
    assert out.startswith("text 0text 1f0\n") and "decoy" not in out


def test_program_is_process_one(world):
    """`prelux run` as a container's init: it reaps orphans, forwards signals, gives the program's status."""
    env = {**world.env, "PRELUX_RUNTIME_DIR": str(world.runtime)}
    run = f"{world.exe} --config {world.config_path} run -- "
    flags = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    need_root()
    probe = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"unshare: {probe.stderr.strip()}")

    def go(command, **options):
        argv = ["unshare", *flags, str(world.exe), "--config", str(world.config_path), "run", "--", "bash", "-c", command]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, **options)

    done = go(f"cat {LAKE}/f0; (sleep 0.1 & disown) ; sleep 0.3; "
              "for i in {1..200}; do n=$(ps -eo stat= | grep -c Z); test $n = 0 && break; sleep 0.1; done; echo $n; exit 7")
    assert done.stdout == "text 00\n" and done.returncode == 7, done.stderr
    done = go("kill -TERM $$")
    assert done.returncode == 128 + 15
    done = go(f"trap 'echo told; exit 5' TERM; cat {LAKE}/f1; sleep 9 & kill -TERM 1; wait")
    assert done.returncode == 5 and done.stdout == "text 1told\n"
    assert run


def test_bare_preload_as_process_one(world):
    env = {**world.env, "PRELUX_RUNTIME_DIR": str(world.runtime), "PRELUX_CONFIG": str(world.config_path)}
    script = f"exec env LD_PRELOAD={world.library} cat {LAKE}/f0 {LAKE}/f1"
    assert in_namespace(["--pid", "--fork", "--kill-child", "--mount-proc"], script, env).stdout == "text 0text 1"


def test_read_only_root(world):
    """Only the runtime and cache folders can be written to."""
    script = f"""
    mount --bind {world.runtime} {world.runtime} && mkdir -p {world.cache} && mount --bind {world.cache} {world.cache} || {{ echo SKIP bind; exit 0; }}
    mount -o remount,ro,bind / && ! touch /tmp/.prelux-can-write 2> /dev/null || {{ echo SKIP the root stays writable; exit 0; }}
    export PRELUX_RUNTIME_DIR={world.runtime}
    {cat(world)}; {world.exe} --config {world.config_path} run -- ls {LAKE}
    LD_PRELOAD={world.library} PRELUX_CONFIG={world.config_path} cat {LAKE}/f1
    kill $(cat {world.runtime}/pid)
    """
    assert in_namespace(["-m"], script, world.env).stdout == "text 0f0\nf1\nf2\ntext 1"


def test_read_only_everything(world):
    """Nowhere to put a runtime folder: EIO and one line; plain files are read."""
    script = f"""
    mount -o remount,ro,bind / && ! touch /tmp/.prelux-can-write 2> /dev/null || {{ mount --bind / / ; echo SKIP the root stays writable; exit 0; }}
    export PRELUX_RUNTIME_DIR={world.tmp}/nowhere
    {cat(world)}; echo $?
    export LD_PRELOAD={world.library} PRELUX_CONFIG={world.config_path}
    cat {LAKE}/f1; echo $?; cat {world.source}/f2
    """
    done = in_namespace(["-m"], script, world.env)
    assert done.stdout == "1\n1\ntext 2"
    assert "Input/output error" in done.stderr and f"{world.tmp}/nowhere" in done.stderr


# Permissions


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("bare", [False, True])
def test_umask(world, mask, bare):
    """Nobody else gets in, whatever the umask of who starts the daemon is (docs/SECURITY.md); and the program keeps its own."""
    (world.source / "run").write_text("#!/bin/sh\necho ran\n")
    (world.source / "run").chmod(0o755)
    shown = world.run(f"cat {LAKE}/f0; umask; {LAKE}/run; ls {LAKE} | wc -l", umask=mask, bare=bare).stdout
    assert shown == f"text 0{mask:04o}\nran\n4\n"
    assert stat.S_IMODE(os.stat(world.runtime).st_mode) == 0o700
    for name in ("sock", "errors", "log", "index", "key", "lock", "tables"):
        path = world.runtime / name
        if path.exists():
            assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0, name
    assert stat.S_IMODE(os.stat(world.cache).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(world.cache / ".prelux" / "catalogue.db").st_mode) & 0o077 == 0
    file, = world.cache.glob("trees/*/data/f0")
    script, = world.cache.glob("trees/*/data/run")
    assert os.stat(file).st_mode & 0o400 and not os.stat(file).st_mode & 0o022
    assert os.stat(script).st_mode & 0o100
    for root, folders, _ in os.walk(world.cache):
        for name in folders:
            assert os.stat(os.path.join(root, name)).st_mode & 0o022 == 0
