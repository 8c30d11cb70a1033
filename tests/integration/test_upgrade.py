"""Two versions at once: an old library with a new daemon and the reverse, while programs run; what an old daemon has left is read; what a newer one has left
is refused, clearly, and stays as it is.

The older programs are built from this repository's own history (FULL=1; without the commits the tests skip). What changes between versions is otherwise played:
numbers in the heads of messages, tables and databases."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests import harness, wire
from tests.harness import ROOT, alive, wait_for
from tests.integration.daemon_rig import start
from tests.integration.test_scenarios_death import HOLDER, tell
from tests.integration.write_rig import LOCAL, make_lake, settled

OLD = ("e7d91db", "de0750c")  # the states of two landings
FULL = pytest.mark.skipif(not os.environ.get("FULL"), reason="builds older versions: FULL=1")


# Messages

class OtherMajor:
    """Answers each message with one of the next major version, of which nobody here knows what it means."""

    def __init__(self, runtime, *fields):
        self.asked, self.fields = 0, fields
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(runtime / "sock"))
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                with one:
                    if one.recv(65536):
                        self.asked += 1
                        one.send(wire.message(wire.REPLY, (wire.F_STATUS, 0), *self.fields, major=wire.MAJOR + 1))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_a_daemon_of_another_major_is_named(prelux):
    """The program gets EIO, asks once, and the record says why; so does the command. When a daemon of its own version is back, all is well."""
    lake = make_lake(prelux, write="async")
    (lake.remote / "f").write_text("text")
    (lake.remote / "g").write_text("text")
    table = lake.run(["sh", "-c", f"cat {LOCAL}/f > /dev/null; printenv PRELUX_CONFIG"]).stdout.strip()
    lake.kill_daemon()
    (lake.runtime / "sock").unlink()
    other = OtherMajor(lake.runtime)
    done = lake.run(["cat", f"{LOCAL}/g"], config=table, bare=True, check=False)
    assert (done.returncode, other.asked) == (1, 1) and "Input/output error" in done.stderr, (done, other.asked)
    assert lake.errors()[-1]["cause"] == "the daemon is of another version of prelux than this program's library"
    assert lake.run(["cat", f"{LOCAL}/f"], config=table, bare=True, check=False).stdout == "text", "a hit asks nobody"
    done = lake.cli("daemon", "status", check=False)
    assert done.returncode != 0 and "another version" in done.stderr, done
    other.close()
    (lake.runtime / "sock").unlink()
    assert lake.run(["cat", f"{LOCAL}/g"], config=table, bare=True).stdout == "text"


def test_fields_of_another_major_mean_nothing(prelux):
    """What stands where this major has the names of variables that are wanted, and a path: a program that brings its configuration asks once."""
    lake = make_lake(prelux, write="async")
    lake.runtime.mkdir(mode=0o700, exist_ok=True)
    other = OtherMajor(lake.runtime, (wire.F_NEED, "HOME"), (wire.F_TEXT, "/no/table"))
    done = lake.run(["cat", f"{LOCAL}/g"], config=lake.config_path, bare=True, check=False)
    assert done.returncode == 1 and "Input/output error" in done.stderr and other.asked == 1, (done, other.asked)
    assert lake.errors()[-1]["cause"] == "the daemon is of another version of prelux than this program's library"
    other.close()


def test_messages_of_another_major_are_refused(prelux):
    """By the daemon, which does nothing of what they ask, and goes on."""
    start(prelux)
    for op, fields in ((wire.CTL, [(wire.F_VERB, "daemon-stop")]), (wire.REGISTER, [(wire.F_CWD, "/")]), (wire.STAT, [])):
        for major in (0, wire.MAJOR + 1, 65535):
            answer = wire.ask(prelux.runtime, wire.message(op, *fields, major=major))
            assert answer.status == -93, "EPROTONOSUPPORT"
    assert prelux.cli("daemon", "status", "--json", config=False)["pid"] == prelux.daemon_pid()


def test_what_is_added_within_a_major_is_skipped(prelux):
    """Fields that this daemon does not know are none, operations are EOPNOTSUPP, commands are named."""
    lake = make_lake(prelux)
    (lake.remote / "f").write_text("text")
    start(lake)
    table = wire.register(lake.runtime, lake.config_path).table
    more = [(900, "of later"), (901, b"\1" * 1000), (65535, 7)]
    answer = wire.ask(lake.runtime, wire.message(wire.STAT, more[0], (wire.F_TABLE, table), (wire.F_MAPPING, 0), more[1], (wire.F_PATH, "f"), more[2]))
    assert answer.status == 0 and answer.attr["size"] == 4
    assert wire.ask(lake.runtime, wire.message(900, (wire.F_TABLE, table))).status == -95
    answer = wire.ask(lake.runtime, wire.message(wire.CTL, (wire.F_VERB, "of-later")))
    assert answer.status == -22 and "no such verb" in answer.texts[0]


# Databases

def bump(path, version):
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE meta SET value=? WHERE key='schema'", (version,))
        db.execute("CREATE TABLE of_later(a)")
        db.commit()


def dump(path):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        return sorted(db.iterdump())


def test_a_newer_catalogue_is_refused_and_stays(prelux):
    """Links that were made here, and pins, are in it and nowhere else: it is not put aside as if it were damaged."""
    lake = make_lake(prelux, write="async")
    (lake.remote / "f").write_text("text")
    lake.run(f"cat {LOCAL}/f; ln -s f {LOCAL}/link")
    lake.cli("pin", f"{LOCAL}/f")
    lake.kill_daemon()
    catalogue = lake.cache / ".prelux/catalogue.db"
    bump(catalogue, "4")
    before = dump(catalogue)
    done = lake.run(["cat", f"{LOCAL}/f"], check=False)
    assert done.returncode == 1 and "Input/output error" in done.stderr, done
    assert any("made by a newer prelux" in record["cause"] and record["advice"] for record in lake.errors()), lake.story()
    lake.kill_daemon()
    assert dump(catalogue) == before and not list(catalogue.parent.glob("*.broken*"))
    with contextlib.closing(sqlite3.connect(catalogue)) as db:
        db.execute("UPDATE meta SET value='3' WHERE key='schema'")
        db.commit()
    assert lake.run(f"readlink {LOCAL}/link; cat {LOCAL}/link").stdout == "f\ntext"
    assert lake.cli("pin", "--list", check=False).stdout or True


def test_a_newer_journal_is_refused_and_stays(prelux):
    """What waits to be sent is in it."""
    lake = make_lake(prelux, write="async")
    lake.run(f"echo text > {LOCAL}/f")
    settled(lake)
    lake.kill_daemon()
    journal, = (lake.cache / ".prelux").glob("journal*.db")
    bump(journal, "9")
    before = dump(journal)
    done = lake.run(f"cat {LOCAL}/f", check=False)
    assert done.returncode == 1 and any("made by a newer prelux" in record["cause"] for record in lake.errors()), lake.story()
    lake.kill_daemon()
    assert dump(journal) == before


# Two real versions

@pytest.fixture(scope="module", params=OLD)
def old(request, tmp_path_factory):
    """A build of that commit."""
    commit = request.param
    if subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, capture_output=True).returncode:
        pytest.skip(f"commit {commit} is not in this repository's history (a shallow clone?)")
    folder = tmp_path_factory.mktemp(f"old-{commit}")
    with subprocess.Popen(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        with tarfile.open(fileobj=archive.stdout, mode="r|") as tar:
            tar.extractall(folder / "src")
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "-C", folder / "src", "-j2", f"BUILD={folder}/build", "all"], env=env, capture_output=True, text=True, timeout=1500)
    if done.returncode:
        pytest.skip(f"{commit} cannot be built here: {done.stderr[-300:]}")
    yield folder / "build"
    shutil.rmtree(folder)


def as_of(lake, build):
    """The same runtime folder, cache and configuration by other programs."""
    other = harness.Prelux(lake.tmp, build)
    shutil.rmtree(other.runtime)
    other.runtime, other.env["PRELUX_RUNTIME_DIR"] = lake.runtime, str(lake.runtime)
    other.config_path, other.remote = lake.config_path, lake.remote
    return other


@FULL
@pytest.mark.limit(1800)
@pytest.mark.parametrize("write", ["sync", "async"])
@pytest.mark.parametrize("first", ["old", "new"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_programs_run_on_below_the_other_version(prelux, old, write, first, end):
    """A program of one version holds a file that it writes and one that it reads, and a working folder; its daemon goes, and one of the other version comes."""
    lake = make_lake(prelux, write=write)
    one, two = (as_of(lake, old), lake) if first == "old" else (lake, as_of(lake, old))
    (lake.remote / "d").mkdir()
    (lake.remote / "d/never-read").write_text("never read before")
    (lake.remote / "old").write_text("old")
    child = one.popen(["python3", "-c", HOLDER], stdin=-1, stdout=-1, text=True)
    try:
        assert child.stdout.readline() == "up\n"
        pid = lake.daemon_pid()
        os.kill(pid, 15 if end == "stop" else 9)
        wait_for(lambda: not alive(pid), 150, "its end")
        two.popen([two.daemon_exe, "--runtime", lake.runtime], bare=True, env={"LD_PRELOAD": "", "PRELUX_CONFIG": None})
        wait_for(lambda: lake.daemon_pid() not in (None, pid), 60, "the other version's daemon")
        said, _, text = tell(child)
        assert (said, text) == ("0", "old\n")
        assert tell(child) == ["never", "read", f"before before after {LOCAL}/d\n"]
        settled(two)
        assert (lake.remote / "held").read_bytes() == b"before after"
    finally:
        child.kill()
        child.wait()
        for other in (one, two):
            if other is not prelux:
                assert not other.close()


@FULL
@pytest.mark.limit(1800)
def test_what_the_old_one_has_left_is_read(prelux, old):
    """Cached files are not fetched again, keep their numbers; links, pins, modes, and what waits to be sent, are there. And back again: the old one serves that, or
    says why not."""
    lake = make_lake(prelux, write="async")
    before = as_of(lake, old)
    for i in range(20):
        (lake.remote / f"f{i}").write_text(f"text {i}")
    shown = before.run(f"cd {LOCAL}; cat f*; ln -s f1 link; chmod 640 f2; stat -c '%n %i %a %s' f* link").stdout
    before.cli("pin", f"{LOCAL}/f3")
    lake.remote.rename(lake.tmp / "away")  # nothing can be sent, and nothing fetched
    before.run(f"echo waits > {LOCAL}/waiting; mkdir {LOCAL}/made", args=["--no-wait"], check=False)
    before.kill_daemon()
    try:
        again = lake.run(f"cd {LOCAL}; cat f*; stat -c '%n %i %a %s' f* link; cat waiting", args=["--no-wait"], check=False)
        assert again.stdout == shown + "waits\n", again
        assert f"{LOCAL}/f3" in lake.cli("pin", "--list")
        (lake.tmp / "away").rename(lake.remote)
        settled(lake)
        assert (lake.remote / "waiting").read_text() == "waits\n" and (lake.remote / "made").is_dir()
        lake.kill_daemon()
        back = before.run(f"cd {LOCAL}; cat f*; cat waiting", check=False)
        assert back.returncode == 0 and back.stdout.endswith("waits\n") or any("newer" in record["cause"] for record in before.errors()), back
    finally:
        assert not before.close()
