"""Ways to break the set-up: mapped paths give EIO and one record, unmapped paths are untouched, and nothing ever appears
under the real prefix (I12)."""

import os
import socket
import stat

import pytest

PROBE = """
import errno, os, sys
prefix, plain = sys.argv[1:3]
def err(call, *args):
    try:
        call(*args)
        return "ok"
    except OSError as e:
        return errno.errorcode[e.errno]
print(err(os.open, prefix + "/f", os.O_RDONLY), err(os.stat, prefix + "/f"), err(os.listdir, prefix),
      err(os.open, prefix + "/new", os.O_WRONLY | os.O_CREAT), err(os.mkdir, prefix + "/d"), err(os.unlink, prefix + "/f"),
      open(plain).read())
"""


@pytest.fixture
def world(prelux):
    """A mapping over a real folder that must stay as it is: it holds a decoy of the same name."""
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "f").write_text("remote")
    (prelux.tmp / "plain").write_text("plain")
    prefix = prelux.tmp / "prefix"
    prefix.mkdir()
    (prefix / "f").write_text("decoy")
    prelux.source, prelux.prefix = source, prefix
    prelux.file_mapping(source, prefix)
    return prelux


def probe(world, **options):
    return world.run(["python3", "-c", PROBE, world.prefix, world.tmp / "plain"], **options).stdout.split()


def check_closed(world, words, records=1):
    opened, statted, listed, made, mkdir, unlinked, plain = words
    assert (opened, statted, listed) == ("EIO", "EIO", "EIO")
    assert made in ("EIO", "EROFS") and mkdir in ("EIO", "EROFS") and unlinked in ("EIO", "EROFS")
    assert plain == "plain"
    assert sorted(os.listdir(world.prefix)) == ["f"] and (world.prefix / "f").read_text() == "decoy"
    mine = [r for r in world.errors() if r["errno"] == "EIO" and r["path"].endswith("/f") and r["call"] in ("open", "openat", "route")]
    assert len(mine) == records, world.errors()


def table_of(world):
    return world.run(["printenv", "PRELUX_CONFIG"]).stdout.strip()


def under_table(world, table, **more):
    """Bare preload with a table that exists already: nothing is registered before the first mapped path."""
    return dict(bare=True, config=table, env=more)


def no_binary(world, table):
    """The daemon is gone and cannot be started."""
    away = world.tmp / "elsewhere"
    away.mkdir()
    library = away / "libprelux.so"
    library.write_bytes(world.library.read_bytes())
    return library


def test_daemon_cannot_be_started(world):
    library = no_binary(world, None)
    words = probe(world, bare=True, env={"LD_PRELOAD": library, "PRELUX_RUNTIME_DIR": world.runtime})
    check_closed(world, words)


def test_dead_socket(world):
    table = table_of(world)
    world.kill_daemon()
    (world.runtime / "lock").unlink()
    (world.runtime / "lock").mkdir()  # nobody can start another
    check_closed(world, probe(world, **under_table(world, table)))


def test_socket_is_a_plain_file(world):
    table = table_of(world)
    world.kill_daemon()
    (world.runtime / "sock").unlink()
    (world.runtime / "sock").write_text("not a socket")
    (world.runtime / "lock").unlink()
    (world.runtime / "lock").mkdir()
    check_closed(world, probe(world, **under_table(world, table)))


def test_somebody_who_never_answers(world):
    world.config(world.config_path.read_text() + "\ndaemon_timeout: 1s\n")
    table = table_of(world)
    world.kill_daemon()
    (world.runtime / "sock").unlink()
    (world.runtime / "index").unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(world.runtime / "sock"))
        mute.listen(64)
        check_closed(world, probe(world, timeout=60, **under_table(world, table)))


def test_somebody_who_talks_nonsense(world):
    table = table_of(world)
    world.kill_daemon()
    (world.runtime / "sock").unlink()
    (world.runtime / "index").unlink()
    mad = world.popen(["python3", "-c", """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(sys.argv[1]); s.listen(64); print("up", flush=True)
while True:
    c, _ = s.accept(); c.recv(65536); c.send(b"nonsense" * 10); c.close()
""", world.runtime / "sock"], config=table, bare=True, env={"PRELUX_OFF": "1"}, stdout=-1)
    assert mad.stdout.readline() == b"up\n"
    check_closed(world, probe(world, **under_table(world, table)))


@pytest.mark.parametrize("text", [
    "version: 1\nbackends: {src: {type: file, root: %(source)s}}\nmappings: [{local: %(prefix)s, remote: 'src:/', freshnes: 3}]\n",
    "version: 1\nbackends: {src: {type: fil, root: %(source)s}}\nmappings:\n  - {local: %(prefix)s, remote: 'src:/'}\n",
    "version: 1\nmappings:\n  - {local: %(prefix)s, remote: 'nobody:/'}\n",
    "version: 1\nmappings:\n  - local: %(prefix)s\n    remote: [\n",
    "version: 2\nbackends: {src: {type: file, root: %(source)s}}\nmappings:\n  - local: \"%(prefix)s\"\n    remote: 'src:/'\n",
], ids=["unknown key", "unknown type", "unknown backend", "broken yaml", "unknown version"])
def test_broken_configuration(world, text):
    world.config(text % {"source": world.source, "prefix": world.prefix}, raw=True)
    done = world.run(["true"], check=False)
    assert done.returncode == 2 and str(world.config_path) in done.stderr
    check_closed(world, probe(world, bare=True))


def test_backend_that_is_not_there(world):
    world.config({"version": 1, "backends": {"src": {"type": "http", "url": "http://127.0.0.1:9/x"}},
                  "mappings": [{"local": str(world.prefix), "remote": "src:/"}]})
    check_closed(world, probe(world))


def test_cache_folder_is_refused(world):
    """A mapping's own cache folder has no stand-in (the common one has: docs/CONFIGURATION)."""
    blocked = world.tmp / "blocked"
    blocked.write_text("a file, no folder")
    world.config({"version": 1, "backends": {"src": {"type": "file", "root": str(world.source)}},
                  "mappings": [{"local": str(world.prefix), "remote": "src:/", "cache": str(blocked)}]})
    check_closed(world, probe(world))


def test_runtime_folder_is_foreign(world):
    """Somebody else's folder, or one that others may write, is not believed."""
    os.chmod(world.runtime, 0o777)
    try:
        opened, statted, listed, *_, plain = probe(world, bare=True)
    finally:
        os.chmod(world.runtime, 0o700)
    assert (opened, statted, listed, plain) == ("EIO", "EIO", "EIO", "plain")
    assert (world.prefix / "f").read_text() == "decoy"


def test_table_is_damaged(world):
    table = table_of(world)
    damaged = world.runtime / "tables" / "damaged"
    data = bytearray(open(table, "rb").read())
    data[8] ^= 0xff
    damaged.write_bytes(data)
    done = world.run(["cat", world.tmp / "plain"], bare=True, config=damaged)
    assert done.stdout == "plain"
    assert world.errors()


def test_hung_daemon(world):
    import signal
    world.config(world.config_path.read_text() + "\ndaemon_timeout: 1s\n")
    table = table_of(world)
    pid = world.daemon_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        check_closed(world, probe(world, timeout=60, **under_table(world, table)))
    finally:
        os.kill(pid, signal.SIGCONT)


def test_index_is_garbage(world):
    """A damaged index is no index: the daemon is asked, and the file is right."""
    table = table_of(world)
    (world.runtime / "index").write_bytes(b"\xff" * 70000)
    assert world.run(["cat", world.prefix / "f"], **under_table(world, table)).stdout == "remote"


def test_switched_off(world):
    done = world.run(["cat", world.prefix / "f"], bare=True, env={"PRELUX_OFF": "1"})
    assert done.stdout == "decoy"


def test_prefix_stays_absent(prelux):
    """A prefix that does not exist is never made, whatever programs try."""
    source = prelux.tmp / "source"
    source.mkdir()
    prefix = prelux.file_mapping(source, prelux.tmp / "absent" / "deep")
    prelux.run(f"mkdir -p {prefix}/a; touch {prefix}/b; echo x > {prefix}/c; ln -s x {prefix}/d; mkfifo {prefix}/e; "
               f"cp /etc/passwd {prefix}/; python3 -c \"import os; os.makedirs('{prefix}/x/y')\"; rm -rf {prefix}; true")
    assert not (prelux.tmp / "absent").exists()
    assert stat.S_ISDIR(os.stat(source).st_mode) and os.listdir(source) == []
