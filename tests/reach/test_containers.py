"""A root as a container's: user namespace, a number for a user that no file names, no capabilities, read-only overlay, a /dev/shm of 64 MiB and process 1
that reaps nobody. What can be written varies: reading and writing work, or what is said names what to set. Below a chroot, and wherever else Linux makes no
user namespaces, all but these."""

import os
import shutil
import subprocess
import tempfile

import pytest

from tests.reach.test_packages import deb  # noqa: F401
from tests.servers import debs

# As root: the mounts. Then an ordinary user makes the user namespace, as container engines without root do, and is somebody else in it.
CONTAINER = r"""
set -e
lower=$1 deb=$2 base=$3 script=$4
mount -t tmpfs t "$base"
mkdir "$base/up" "$base/work" "$base/root"
mount -t overlay o -o "lowerdir=$lower,upperdir=$base/up,workdir=$base/work" "$base/root" || { echo SKIP no overlayfs; exit; }
root=$base/root
dpkg-deb -x "$deb" "$root"
rm -f "$root/etc/passwd"
mkdir -p "$root/proc" "$root/dev" "$root/data" "$root/volume"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 t "$root/dev"
for node in null zero urandom; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/shm"
mount -t tmpfs -o size=64m,mode=1777 t "$root/dev/shm"
mount -t tmpfs -o mode=777 t "$root/data"
echo hello > "$root/data/a"
[ -z "$VOLUME" ] || mount -t tmpfs -o mode=1777 t "$root/volume"
mount -o remount,ro "$root"
set -- setpriv --reuid=1234567 --regid=1234567 --clear-groups --no-new-privs --bounding-set=-all unshare --user --map-user=1000680000 --map-group=0
if "$@" true 2> /dev/null; then exec "$@" --root="$root" /bin/bash -c "$script"; fi
exec setpriv --no-new-privs --bounding-set=-all,+sys_chroot,+setuid,+setgid \
  chroot --userspec=1000680000:0 --groups= "$root" /bin/bash -c "$script"
"""
MAPPING = """
cd /; export HOME=/ PATH=/usr/bin:/bin
conf() {
  echo 'version: 1
backends: {d: {type: file, root: /data}}
mappings: [{local: /mnt/d, remote: "d:/", write: sync}]' > $1/prelux.yaml
  export PRELUX_CONFIG=$1/prelux.yaml
}
"""
WORK = """
prelux run -- bash -c 'cat /mnt/d/a; echo new > /mnt/d/new; mkdir /mnt/d/f; head -c 5000000 /dev/zero > /mnt/d/f/big; ls /mnt/d'
echo status $?
prelux run -- mv /mnt/d/new /mnt/d/f/moved
cat /data/f/moved; stat -c %s /data/f/big
exec prelux daemon stop  # as process 1, so that nobody reaps the daemon
"""


@pytest.fixture
def container(deb):  # noqa: F811
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv")
    if debs.OWN.missing():
        pytest.skip(debs.OWN.missing())
    base = tempfile.mkdtemp(prefix="plx-box-", dir="/tmp")  # pytest's folders are closed to others
    os.chmod(base, 0o755)

    def run(script, volume=""):
        argv = ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private", "bash", "-c", CONTAINER, "container",
                debs.OWN.root, deb, base, MAPPING + script]
        env = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C", "VOLUME": volume}
        done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200)
        if "SKIP" in done.stdout or "unshare: " in done.stderr:
            pytest.skip(done.stdout.partition("SKIP ")[2] or done.stderr)
        return done

    yield run
    os.rmdir(base)


def test_with_a_volume(container):
    """HOME cannot be written, /tmp neither: two variables, or two keys, name the volume."""
    done = container("conf /volume; echo 'cache: {dir: /volume/cache, min_free: 0}' >> $PRELUX_CONFIG; export PRELUX_RUNTIME_DIR=/volume/run; id -u; touch /x" + WORK, "yes")
    assert done.stdout == "1000680000\nhello\na\nf\nnew\nstatus 0\nnew\n5000000\n" and done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == "touch: cannot touch '/x': Read-only file system\n"


def test_with_nothing_but_shared_memory(container):
    done = container("conf /dev/shm; echo 'cache: {dir: /dev/shm/cache, min_free: 0}' >> $PRELUX_CONFIG; export PRELUX_RUNTIME_DIR=/dev/shm/run" + WORK)
    assert done.stdout == "hello\na\nf\nnew\nstatus 0\nnew\n5000000\n" and done.returncode == 0, done.stdout + done.stderr


def test_shared_memory_that_is_too_small(container):
    """More than fits: the write fails with ENOSPC, and what was there before is whole."""
    done = container("conf /dev/shm; echo 'cache: {dir: /dev/shm/cache, min_free: 0}' >> $PRELUX_CONFIG; export PRELUX_RUNTIME_DIR=/dev/shm/run\n"
                     "prelux run -- bash -c 'head -c 90000000 /dev/zero > /mnt/d/big; cat /mnt/d/a'\n echo status $?")
    assert done.stdout.startswith("hello\n") and "No space left on device" in done.stderr


def test_no_place_for_the_runtime_folder(container):
    done = container("conf /dev/shm\n prelux run -- cat /mnt/d/a; echo status $?; prelux doctor")
    assert "status 1\n" in done.stdout and "set PRELUX_RUNTIME_DIR" in done.stdout
    assert done.stderr == "prelux: runtime folder /tmp/prelux-1000680000: Read-only file system; set PRELUX_RUNTIME_DIR to a folder of yours, mode 0700\n"


def test_no_place_for_the_cache(container):
    done = container("conf /dev/shm; export PRELUX_RUNTIME_DIR=/dev/shm/run\n prelux run -- cat /mnt/d/a; echo status $?; prelux errors; prelux doctor; prelux daemon stop")
    assert done.stderr == "cat: /mnt/d/a: Input/output error\n" and "status 1\n" in done.stdout
    assert done.stdout.count("cannot make or open cache folder /var/tmp/prelux-1000680000: Read-only file system; cache.dir names another one") == 2
