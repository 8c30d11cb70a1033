"""Names of an `async` mapping: mkdir, rm, rmdir and mv of files go on while the remote is down, show at once, survive the daemon, and reach the remote in
order."""

import contextlib
import signal
import time
import urllib.parse

import pytest

from tests.integration.crash_rig import LOCAL, mapped, remote_of, seen
from tests.integration.write_rig import SCRIPT
from tests.servers.faultproxy import FaultProxy
from tests.servers.s3standin_write import S3Changing

LONG = {"write": "async", "freshness": {"max_age": "1h"}, "negative_age": "1h"}
OLD = {"old/gone": b"1", "old/keep": b"2", "old/moved": b"3", "old/under": b"4", "old/sub/x": b"5", "old/sub/deep/y": b"6"}
LEARN = "ls -R .; cat old/moved old/keep"
OFFLINE = """
mkdir -p new/deep; echo text > new/deep/f; mkdir new 2>&1; echo twice > new/g; mv new/g new/deep/h; ls -R new
rm old/gone; rm old/gone 2>&1; rm -rf old/sub; ls -R old; rmdir old 2>&1; stat old/sub/x 2>&1
mv old/moved new/deep/moved; stat -c '%s %n' new/deep/moved; mv new/deep/moved new/last; ls -R .
cat new/last; cp new/last new/copied; cmp new/last new/copied && echo same; tail -c 1 new/last; python3 -c "
import os; f = open('new/last'); print(os.path.samestat(os.stat('new/last'), os.fstat(f.fileno())), os.path.getsize('new/last'), f.read())"
echo replaced > tmp; mv tmp old/under; cat old/under
mkdir pack; for i in 1 2 3; do mkdir pack/d$i; echo $i > pack/d$i/f; done; touch -d @1000 pack/d2 pack/d2/f
tar cf $TMPDIR/p.tar pack; rm -r pack; ls; tar xf $TMPDIR/p.tar; stat -c '%Y %n' pack/d2 pack/d2/f; ls -R .; cat pack/*/f
mkdir odd; rmdir odd; echo file > odd; rm odd; mkdir odd; echo x > odd/x; cp -r pack copy; ls -R copy; rm -rf copy; ls
"""


@contextlib.contextmanager
def far(prelux, kind, old, **options):
    """The remote behind a proxy that can be down: (remote, proxy)."""
    with remote_of(kind, prelux.tmp) as remote, FaultProxy(remote.conf["endpoint"]) as proxy:
        for name, data in old.items():
            remote.write(name, data)
        endpoint = urllib.parse.urlsplit(remote.conf["endpoint"])._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
        mapped(prelux, remote, conf={"endpoint": endpoint}, **{**LONG, **options})
        yield remote, proxy


def both(prelux, script, timeout=90):
    """The same lines here and in a plain folder."""
    plain = prelux.tmp / "plain"
    want = prelux.plain(SCRIPT.format(plain, script), timeout=timeout)
    done = prelux.run(SCRIPT.format(LOCAL, script), check=False, timeout=timeout, args=("--no-wait",))
    assert (done.stdout, done.stderr) == (want.stdout, want.stderr), prelux.story()


def plain_files(prelux):
    plain = prelux.tmp / "plain"
    return {str(path.relative_to(plain)): path.read_bytes() for path in plain.rglob("*") if path.is_file()}


def pending(prelux):
    return prelux.cli("pending", "list", "--json")


AGAIN = """if 1:
    import os, shutil
    for i in range(20):
        shutil.rmtree("known/d%d" % i)
        os.makedirs("d%d" % i)
        at = os.open("d%d" % i, os.O_RDONLY)
        named, opened = os.stat("d%d" % i), os.fstat(at)
        os.close(at)
        assert os.path.samestat(named, opened), (i, named, opened)
    """


def test_a_new_folder_is_not_a_former_one(prelux):
    """Its cache folder may have the inode of one just removed; shutil.rmtree compares stat with fstat."""
    old = {f"known/d{i}/f": b"1" for i in range(20)}
    for name, data in old.items():
        path = prelux.tmp / "plain" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    with far(prelux, "versitygw", old) as (_, proxy):
        both(prelux, "ls -R .; cat known/*/f")
        proxy.down()
        both(prelux, f"python3 -c '{AGAIN}'; ls -R .")
        proxy.up()
        prelux.cli("flush", timeout=90)


@pytest.mark.parametrize("kind", ["versitygw", "azurite"])
def test_the_remote_is_down(prelux, kind):
    for name, data in OLD.items():
        path = prelux.tmp / "plain" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with far(prelux, kind, OLD) as (remote, proxy):
        both(prelux, LEARN)
        proxy.down()
        both(prelux, OFFLINE)
        rows = pending(prelux)["files"]
        assert {row["intent"] for row in rows} == {"upload", "unlink", "mkdir", "rmdir", "rename"}
        moved = next(row for row in rows if row["intent"] == "rename")
        assert moved["path"] == f"{LOCAL}/old/moved" and moved["to"] == f"{LOCAL}/new/deep/moved"
        shown = prelux.cli("pending", "list")
        assert f"{LOCAL}/old/moved -> {LOCAL}/new/deep/moved" in getattr(shown, "stdout", shown)
        no_bytes = prelux.cli("pending", "export", moved["id"], str(prelux.tmp / "out"), check=False)
        assert no_bytes.returncode == 1 and "no bytes" in no_bytes.stderr
        assert set(OLD) == set(seen(remote)), "the remote knows nothing yet"
        assert prelux.cli("flush", "--timeout", "2", check=False).returncode == 3

        prelux.kill_daemon(signal.SIGKILL)
        both(prelux, "ls -R new pack odd; cat new/last new/deep/f pack/*/f; mkdir pack/more; echo 7 > pack/more/z; rm pack/d1/f; rmdir pack/d1; ls -R pack")
        proxy.up()
        prelux.cli("flush", timeout=90)
        assert pending(prelux)["count"] == 0
        assert seen(remote) == plain_files(prelux), prelux.story()
        both(prelux, "ls -R .; cat new/last old/* pack/*/*")


RANDOM = '''python3 - <<'P'
import errno, os, random
dice = random.Random({0})
names = ["a", "b", "c", "d", "d/a", "d/b", "d/c", "d/d", "b/a", "b/b", "c/d"]
def call(fn, *args):
    try:
        fn(*args)
        return "0"
    except OSError as e: # of two faults of a rename either may be told
        return "ENOENT" if e.errno == errno.ENOTDIR else "ENOTEMPTY" if e.errno == errno.EISDIR else errno.errorcode[e.errno]
def write(name, how, text):
    with open(name, how) as f: f.write(text)
for i in range(150):
    one, two = dice.choice(names), dice.choice(names)
    what, args = dice.choice([(write, (one, "w", f"{{i}},")), (write, (one, "a", f"{{i}},")), (os.unlink, (one,)), (os.mkdir, (one,)), (os.rmdir, (one,)),
                              (os.rename, (one, two)), (os.rename, (one, two)), (os.rename, (one, two))])
    if what is os.rename and os.path.isdir(one):
        continue # not every remote renames folders
    print(i, what.__name__, *args, call(what, *args))
    for folder, folders, files in os.walk("."):
        folders.sort()
        print(folder, sorted(folders), sorted(files), *(os.path.getsize(os.path.join(folder, f)) for f in sorted(files)))
    if dice.random() < .2:
        for folder, _, files in os.walk("."):
            for f in sorted(files): print(open(os.path.join(folder, f)).read())
P
'''


@pytest.mark.parametrize("seed", range(3))
def test_random_calls_on_a_slow_remote(prelux, seed):
    """Each listing is a plain folder's, whatever part of it the remote has got by then."""
    (prelux.tmp / "plain").mkdir()
    with far(prelux, "versitygw", old={}, negative_age="5s") as (remote, proxy):
        proxy.fault(delay=0.02)
        both(prelux, RANDOM.format(seed), timeout=240)
        proxy.heal()
        prelux.cli("flush", timeout=90)
        assert pending(prelux)["count"] == 0 and seen(remote) == plain_files(prelux), prelux.story()


SET_WHILE_SENT = f"""if 1:
    import os
    os.chdir("{LOCAL}")
    def shown(st):
        return st.st_mode & 0o7777, st.st_mtime_ns, st.st_ino
    for n, flags in enumerate((os.O_RDONLY, os.O_RDWR, os.O_RDONLY)):
        with open("f", "xb", opener=lambda path, how: os.open(path, how, 0o600)) as file:
            file.write(b"bytes")
        fd = os.open("f", flags)  # it is being sent
        if n == 2:
            os.rename("f", "g")
        was = os.fstat(fd)
        os.fchmod(fd, 0o640)
        os.utime(fd, ns=(1, 10 ** 18))
        want = 0o640, 10 ** 18, was.st_ino
        assert shown(os.fstat(fd)) == want, (n, os.fstat(fd), was)
        assert shown(os.stat("g" if n == 2 else "f")) == want, (n, os.stat("."))
        os.close(fd)
        os.rename("g" if n == 2 else "f", f"r{{n}}")
        assert shown(os.stat(f"r{{n}}")) == want, n
    """
SHOWN = f"cd {LOCAL}; stat -c '%a %Y %n' r*; cat r*"


class SlowPut(S3Changing):
    def put_object(self, request, key):
        if request.body:
            self.lock2.release()
            time.sleep(0.4)
            self.lock2.acquire()
        return super().put_object(request, key)


def test_attributes_by_a_descriptor_of_what_is_being_sent(prelux):
    """It was a staging file when the program asked, and is a cache file when the daemon is at it (rsync's fchmod by a descriptor for reading was lost)."""
    with SlowPut() as s3:
        conf = {"type": "s3", "bucket": s3.bucket, "endpoint": s3.url, "region": s3.region, "access_key": "AK", "secret_key": "SK"}
        prelux.config({"version": 1, "backends": {"src": conf},
                       "mappings": [{"local": LOCAL, "remote": "src:/", **LONG}]})
        prelux.run(["python3", "-c", SET_WHILE_SENT])
        want = "".join(f"640 1000000000 r{n}\n" for n in range(3)) + "bytes" * 3
        assert prelux.run(SHOWN).stdout == want, prelux.story()
        prelux.cli("flush", timeout=90)
        assert prelux.run(SHOWN).stdout == want, prelux.story()
