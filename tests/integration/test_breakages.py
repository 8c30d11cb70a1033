"""Ways to break the set-up: mapped paths give EIO and one record, unmapped paths are untouched, and nothing ever appears
under the real prefix (I12)."""

import os
import shutil
import socket
import stat
from pathlib import Path

import pytest

from tests.harness import wait_for

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
    """A damaged index is no index: the daemon, the same one, is asked, and the file is right."""
    table = table_of(world)
    pid = world.daemon_pid()
    index = world.runtime / "index"
    index.chmod(0o600)
    with open(index, "r+b") as f:
        f.write(b"\xff" * index.stat().st_size)
    for _ in range(2):
        assert world.run(["cat", world.prefix / "f"], **under_table(world, table)).stdout == "remote"
    assert world.daemon_pid() == pid


def test_index_is_cut_short(world):
    table = table_of(world)
    (world.runtime / "index").chmod(0o600)
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


# ---- the table goes: PRELUX_PREFIXES (lib/map/prefixes.h)

NOBODY = "/nonexistent/preluxd"  # PRELUX_DAEMON: no daemon can be started


def variables_of(world, **more):
    """What `prelux env` says, as options of run(): a child that is started later."""
    said = world.cli("env", "--json")
    return dict(bare=True, config=said["PRELUX_CONFIG"], env={"PRELUX_PREFIXES": said["PRELUX_PREFIXES"], **more})


def clear_runtime(world):
    world.kill_daemon()
    shutil.rmtree(world.runtime)


def test_runtime_folder_is_removed_and_no_daemon(world):
    later = variables_of(world, PRELUX_DAEMON=NOBODY)
    clear_runtime(world)
    check_closed(world, probe(world, **later))


def test_runtime_folder_is_removed_inside_the_run(world):
    """`prelux run` itself gives its children what they need."""
    done = world.run("cat $P/f; kill -9 $PID; rm -rf $PRELUX_RUNTIME_DIR; export PRELUX_DAEMON=$NOBODY; cat $P/f; env -i PRELUX_DAEMON=$NOBODY /bin/cat $P/f; "
                     "perl -e 'exec {\"/bin/cat\"} \"cat\", \"$ENV{P}/f\"'; cat $PLAIN", check=False,
                     env={"P": world.prefix, "PID": pid_of(world), "NOBODY": NOBODY, "PLAIN": world.tmp / "plain"})
    assert done.stdout == "remoteplain" and done.stderr.count("Input/output error") == 3, done


def pid_of(world):
    world.run(["true"])
    return world.daemon_pid()


def test_links_to_a_lost_prefix(world):
    """A real folder may stand behind it, and libc would follow the link there."""
    later = variables_of(world, PRELUX_DAEMON=NOBODY)
    (world.tmp / "link").symlink_to(world.prefix)
    (world.tmp / "file").symlink_to("prefix/f")
    (world.tmp / "new").symlink_to("prefix/new")
    clear_runtime(world)
    done = world.run("cat link/f; cat file; ls link; echo x >link/made; echo x >new; echo x >>file; cat link/../plain; cd link; cat plain", check=False, **later)
    assert done.stdout == "plain" and done.stderr.count("Input/output error") == 8, done
    assert os.listdir(world.prefix) == ["f"] and (world.prefix / "f").read_text() == "decoy"


def test_children_of_a_bare_program_know_as_much(world):
    """It was started with the YAML file, so nobody had set PRELUX_PREFIXES; its children get it, also by exec without an environment."""
    done = world.run(["/usr/bin/python3", "-c", """
import os, shutil, signal, subprocess, sys
prefix, pid = sys.argv[1], int(sys.argv[2])
assert open(prefix + "/f").read() == "remote" and "PRELUX_PREFIXES" not in os.environ
os.kill(pid, signal.SIGKILL)
shutil.rmtree(os.environ["PRELUX_RUNTIME_DIR"])
os.environ["PRELUX_DAEMON"] = "/nonexistent/preluxd"
for env in (None, {"PRELUX_DAEMON": os.environ["PRELUX_DAEMON"]}):
    done = subprocess.run(["sh", "-c", "cat $0/f; /usr/bin/env -i PRELUX_DAEMON=$PRELUX_DAEMON /bin/cat $0/f", prefix], env=env,
                          capture_output=True, text=True)
    print(done.stdout, done.stderr.count("Input/output error"))
""", world.prefix, pid_of(world)], bare=True)
    assert done.stdout.split() == ["2", "2"], done


@pytest.mark.parametrize("damage", ["removed", "cut", "empty", "garbage", "folder"])
def test_table_file_goes(world, damage):
    later = variables_of(world, PRELUX_DAEMON=NOBODY)
    table = Path(later["config"])
    size = table.stat().st_size
    world.kill_daemon()
    if damage == "cut":
        os.truncate(table, size - 10)
    else:
        table.unlink()
    if damage in ("empty", "garbage"):
        table.write_bytes(b"\xff" * size if damage == "garbage" else b"")
    if damage == "folder":
        table.mkdir()
    check_closed(world, probe(world, **later))


def test_it_heals(world):
    """With a daemon to be had the source is compiled again: at once, or when the daemon without a folder has let the cache go."""
    later = variables_of(world)
    shutil.rmtree(world.runtime)

    def read():
        done = world.run(["cat", world.prefix / "f"], check=False, **later)
        assert done.stdout in ("", "remote") and (done.returncode == 0 or "Input/output error" in done.stderr), done
        return done.stdout == "remote"
    wait_for(read, 30, "the table to be made again")
    assert world.run(["printenv", "PRELUX_CONFIG"], **later).stdout.strip() == later["config"]


def test_a_running_program_heals(world):
    child = world.popen(["python3", "-c", """
import sys, time
assert open(sys.argv[1] + "/f").read() == "remote"
print("up", flush=True)
for _ in range(300):
    sys.stdin.readline()
    try:
        print(open(sys.argv[1] + "/later").read(), flush=True)
    except OSError as e:
        print(e.errno, flush=True)
""", world.prefix], stdin=-1, stdout=-1, text=True)
    assert child.stdout.readline() == "up\n"
    (world.source / "later").write_text("later")
    world.kill_daemon()
    shutil.rmtree(world.runtime)

    def read():
        child.stdin.write("\n")
        child.stdin.flush()
        said = child.stdout.readline().strip()
        assert said in ("later", "5")
        return said == "later"
    wait_for(read, 30, "the program to be served again")


def test_source_with_other_prefixes_does_not_open_the_old_ones(world):
    later = variables_of(world)
    world.kill_daemon()
    shutil.rmtree(world.runtime)
    world.file_mapping(world.source, world.tmp / "elsewhere")
    check_closed(world, probe(world, **later))


@pytest.mark.parametrize("name", ["co:lon", "per%cent%3a", "new\nline", "blank and\ttab", "quote'\"", "#hash", "plus+", b"byte\xff", "ünicode"])
def test_prefixes_of_any_letters(world, name):
    prefix = world.tmp / os.fsdecode(name)
    prefix.mkdir()
    (prefix / "f").write_text("decoy")
    beside = world.tmp / os.fsdecode(name)[:-1]
    beside.mkdir()
    (beside / "f").write_text("beside")
    said = "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in os.fsencode(prefix))
    if not os.fsencode(name).isascii():
        if name == b"byte\xff":
            pytest.skip("YAML has no such bytes")
        said = str(prefix)
    world.config(f'version: 1\nbackends: {{src: {{type: file, root: {world.source}}}}}\n'
                 f'mappings: [{{local: "{said}", remote: "src:/"}}]\ncache: {{dir: {world.cache}}}\n', raw=True)
    later = variables_of(world, PRELUX_DAEMON=NOBODY)
    assert world.run(["cat", prefix / "f"], **later).stdout == "remote"
    clear_runtime(world)
    world.prefix = prefix
    check_closed(world, probe(world, **later))
    assert world.run(["cat", beside / "f"], **later).stdout == "beside"


@pytest.mark.parametrize("count, form", [(60, ":/"), (1000, ":#"), pytest.param(20000, ":+", marks=pytest.mark.waits)])
def test_many_prefixes(world, count, form):
    """Past some KiB their hashes are carried, past all bounds only the source, which is read then as well as can be."""
    mappings = [{"local": str(world.prefix)}] + [{"local": str(world.tmp / f"mappings/of/some/length/number-{i}")} for i in range(count - 1)]
    world.config({"version": 1, "backends": {"src": {"type": "file", "root": str(world.source)}},
                  "mappings": [{**m, "remote": "src:/"} for m in mappings]})
    later = variables_of(world, PRELUX_DAEMON=NOBODY)
    value = later["env"]["PRELUX_PREFIXES"]
    assert form in value and len(value) < 100000
    clear_runtime(world)
    for name in (0, count // 2, count - 2):
        folder = world.tmp / f"mappings/of/some/length/number-{name}"
        folder.mkdir(parents=True)
        (folder / "f").write_text("decoy")
        done = world.run(["cat", folder / "f"], check=False, **later)
        assert done.stdout == "" and "Input/output error" in done.stderr
    other = world.tmp / f"mappings/of/some/length/number-{count}"
    other.mkdir()
    (other / "f").write_text("mine")
    assert world.run(["cat", other / "f"], **later).stdout == "mine"
    check_closed(world, probe(world, **later), records=4)


def test_words_about_another_table_are_not_believed(world):
    """A program sets another PRELUX_CONFIG and leaves PRELUX_PREFIXES as it was."""
    later = variables_of(world)
    other = world.tmp / "other"
    other.mkdir()
    (other / "f").write_text("real")
    gone = world.runtime / "tables" / ("0" * 32)
    assert world.run(["cat", other / "f"], bare=True, config=gone, env=later["env"]).stdout == "real"
    assert world.run(["cat", world.prefix / "f"], bare=True, env=later["env"]).stdout == "remote"
    world.file_mapping(world.source, other)
    assert world.run(["cat", other / "f"], env=later["env"]).stdout == "remote"
    for nonsense in ("", "x", "0" * 32, Path(later["config"]).name, Path(later["config"]).name + ":", Path(later["config"]).name + ":/a%zz:/",
                     Path(later["config"]).name + ":/a:/b:#12345", Path(later["config"]).name + ":/a:/b:#" + "\x01" * 6):
        assert world.run(["cat", world.tmp / "plain"], bare=True, config=later["config"], env={"PRELUX_PREFIXES": nonsense}).stdout == "plain"


def test_set_up_by_env_for_a_shell(world):
    """`eval "$(prelux env)"`: the words survive the shell."""
    said = world.cli("env")
    clear_runtime(world)
    done = world.plain(f'{said}\nexport PRELUX_DAEMON={NOBODY}\ncat "{world.prefix}/f"; cat "{world.tmp}/plain"', check=False)
    assert done.stdout == "plain" and "Input/output error" in done.stderr


# ---- no daemon at all: the library reads the file as well as can be (shim/lost.c)

LIST = "- local: %(prefix)s\n  remote: a/b\n  cache: %(cache)s\n  storage_account: acc\n"


def seen(world, text, config="prelux.yaml", **env):
    """What a program under a bare preload sees at the prefix: "decoy", or "EIO"."""
    world.config(text % {"prefix": world.prefix, "cache": world.cache, "tmp": world.tmp}, name=config, raw=True)
    done = world.run(["cat", world.prefix / "f"], bare=True, check=False, env={"PRELUX_DAEMON": NOBODY, **env})
    assert done.stdout == "decoy" or (done.stdout == "" and "Input/output error" in done.stderr), done
    assert world.run(["cat", world.tmp / "plain"], bare=True, env={"PRELUX_DAEMON": NOBODY, **env}).stdout == "plain"
    return done.stdout or "EIO"


@pytest.mark.parametrize("env, what", [
    ({}, "decoy"), ({"AZFUSE_USE_FUSE": "1"}, "EIO"), ({"QD_USE_FUSE": "0", "AZFUSE_USE_FUSE": "1"}, "decoy"),
    ({"AZFUSE_TSV_USE_FUSE": "1"}, "EIO"), ({"QD_TSV_USE_FUSE": " +1_0\n"}, "EIO"), ({"AZFUSE_TSV_USE_FUSE": "0"}, "decoy"),
    ({"AZFUSE_USE_FUSE": "1", "QD_TSV_USE_FUSE": "-1"}, "decoy"), ({"AZFUSE_USE_FUSE": "yes"}, "EIO"), ({"AZFUSE_USE_FUSE": ""}, "EIO"),
], ids=str)
def test_azfuse_switch_without_a_daemon(world, env, what):
    """As lib/conf/azfuse.c: two switches are added up; one that makes no sense opens nothing."""
    assert seen(world, LIST, **env) == what


@pytest.mark.parametrize("head", ["", "---\n", "# a comment\n---\n", "\n  # blank lines\n\n", "\ufeff", "%%YAML 1.1\n--- # list\n", "\ufeff# x\n---\n\n"], ids=repr)
def test_azfuse_list_is_known_for_one(world, head):
    assert seen(world, head + LIST) == "decoy"
    assert seen(world, head + LIST, AZFUSE_USE_FUSE="1") == "EIO"


def test_azfuse_default_file(world):
    name = "aux_data/configs/azfuse.yaml"
    assert seen(world, LIST, config=name, PRELUX_CONFIG=None, AZFUSE_USE_FUSE="1") == "EIO"
    assert seen(world, LIST, config=name, PRELUX_CONFIG=None, QD_TSV_USE_FUSE="1") == "EIO"
    assert seen(world, LIST, config=name, PRELUX_CONFIG=None, AZFUSE_USE_FUSE="0") == "decoy"
    assert seen(world, LIST, config=name, PRELUX_CONFIG=None) == "decoy"


@pytest.mark.parametrize("line", [
    "local: ${TMP_OF_TEST}/prefix", 'local: "${TMP_OF_TEST}/${NAME}"', "{local: ${TMP_OF_TEST}/prefix, remote: 'src:/'}", "local: ./prefix", "'local': prefix",
    "local: '%(tmp)s/prefix' # here", "local:\n      %(tmp)s/prefix", "local: &a %(tmp)s/prefix", "local: !!str %(tmp)s/prefix", "{remote: 'src:/', local: prefix}",
    '"local" : "%(tmp)s/pre\\x66ix"', "local: ~/../prefix", "local: %(tmp)s/prefix\r",
])
def test_native_forms_without_a_daemon(world, line):
    env = {"TMP_OF_TEST": world.tmp, "NAME": "prefix"}
    assert seen(world, f"version: 1\nmappings:\n  - {line}\n", **env) == "EIO"
    assert seen(world, f"version: 1\nmappings:\n  # - {line}\n".replace("\n      ", " "), **env) == "decoy"


def test_variable_that_is_not_set(world):
    assert seen(world, "version: 1\nmappings:\n  - local: ${NOT_SET_AT_ALL}/x\n  - local: %(prefix)s\n") == "EIO"
