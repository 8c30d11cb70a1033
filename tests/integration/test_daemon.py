"""preluxd as a process: starting, ending, the socket, control. Most tests speak the wire protocol themselves (tests/wire.py)."""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests import wire
from tests.harness import alive, wait_for
from tests.integration.daemon_rig import Slow, data, served, start, tables  # noqa: F401 (a fixture)

EIO, EACCES, EINVAL, ENOENT, EAGAIN = 5, 13, 22, 2, 11
ROOT = Path(__file__).resolve().parents[2]


# Starting


@pytest.mark.asan
def test_second_daemon_leaves_quietly(prelux):
    first = start(prelux)
    second = start(prelux, wait=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out, err) == (0, b"", b"")
    assert prelux.daemon_pid() == first.pid


def test_options(prelux):
    def run(*args):
        return subprocess.run([prelux.daemon_exe, *args], env=prelux.env, capture_output=True, text=True, timeout=60)
    assert run("--version").stdout.startswith("preluxd ")
    assert "--idle" in run("--help").stdout
    for bad in (["--idle", "x"], ["--idle", "0"], ["--nope"], ["more"], ["--log-level", "loud"]):
        assert run("--runtime", str(prelux.runtime), *bad).returncode == 2
    os.chmod(prelux.runtime, 0o755)
    assert run("--runtime", str(prelux.runtime)).returncode == 1


@pytest.mark.asan
def test_killed_and_started_again(served):
    prelux, table, _ = served
    assert wire.open_object(prelux.runtime, table, 0, "one").status == 0
    prelux.kill_daemon()
    assert (prelux.runtime / "sock").exists(), "a killed daemon leaves its socket"
    start(prelux)
    assert wire.stat(prelux.runtime, table, 0, "one").status == wire.NO_TABLE
    again = wire.register(prelux.runtime, None, table=table)
    assert again.status == 0 and again.table == table
    with wire.open_object(prelux.runtime, table, 0, "one", wire.WANT_FD) as answer:
        assert os.read(answer.fd, 10) == b"1" and answer.attr["cached"] == 1


def test_places(prelux):
    """Long runtime path, closed fds 0-2, no environment, umask 0, a working directory that is gone."""
    runtime = prelux.tmp / ("r" * 100) / ("s" * 90)
    runtime.parent.mkdir()
    gone = prelux.tmp / "gone"
    gone.mkdir()

    def before():
        os.umask(0)
        os.chdir(gone)
        os.rmdir(gone)
        os.closerange(0, 3)

    child = subprocess.Popen([prelux.daemon_exe, "--runtime", str(runtime)], env={}, preexec_fn=before)
    prelux._children.append(child)
    wait_for(lambda: (runtime / "sock").exists(), 60, "socket")
    assert stat.S_IMODE((runtime / "sock").stat().st_mode) & 0o077 == 0
    for name in ("log", "key", "index", "daemon.lock", "pid"):
        wanted = 0o400 if name == "index" else 0o600  # programs have it mapped: nobody is to cut it
        assert stat.S_IMODE((runtime / name).stat().st_mode) == wanted, name
    assert int((runtime / "pid").read_text()) == child.pid
    links = [os.readlink(f"/proc/{child.pid}/fd/{n}") for n in range(3)]
    assert links == ["/dev/null"] * 3
    assert os.readlink(f"/proc/{child.pid}/cwd") == "/"
    fd = os.open(runtime, os.O_PATH)
    assert wire.ctl(f"/proc/self/fd/{fd}", "daemon-status").json()["pid"] == child.pid
    os.close(fd)
    child.terminate()
    assert child.wait(60) == 0
    assert not (runtime / "sock").exists() and not (runtime / "pid").exists()


def client_library(tmp):
    """lib/ipc as a shared object, for processes that start the daemon as the library does."""
    out = tmp / "client.so"
    files = ["lib/ipc/client.c", "lib/ipc/spawn.c", "lib/ipc/msg.c", "lib/ipc/runtime.c", "lib/base/trust.c"]
    subprocess.run(["cc", "-shared", "-fPIC", "-std=gnu11", "-D_GNU_SOURCE", "-I.", "-o", out, *files], cwd=ROOT, check=True)
    return ctypes.CDLL(str(out))


class Opts(ctypes.Structure):
    """struct prelux_client_opts, whole: what is missing here the library reads from beyond its end."""
    _fields_ = [("runtime", ctypes.c_char_p), ("daemon", ctypes.c_char_p), ("start", ctypes.c_void_p), ("envp", ctypes.c_void_p),
                ("timeout_ms", ctypes.c_uint), ("cloexec", ctypes.c_int), ("needs_fd", ctypes.c_int), ("slot", ctypes.c_void_p),
                ("ret_held", ctypes.c_void_p), ("progress", ctypes.c_void_p), ("progress_arg", ctypes.c_void_p), ("ret_lost", ctypes.c_void_p)]


class Msg(ctypes.Structure):
    _fields_ = [("buf", ctypes.c_void_p), ("cap", ctypes.c_size_t), ("len", ctypes.c_size_t), ("overflow", ctypes.c_bool)]


def make_caller(prelux, library, envp=None, timeout_ms=15000):
    """call(bytes) -> status, as prelux_client_call gives it; starts a daemon where none listens."""
    opts = Opts(os.fsencode(prelux.runtime), os.fsencode(prelux.daemon_exe), None, envp, timeout_ms, 1)
    reply = ctypes.create_string_buffer(65536 + 8)

    def call(data):
        buf = ctypes.create_string_buffer(data, len(data))
        m = Msg(ctypes.addressof(buf), len(data), len(data), False)
        return library.prelux_client_call(ctypes.byref(opts), ctypes.byref(m), reply, 65536, None)
    return call


@pytest.mark.alone
@pytest.mark.limit(180)
def test_thousand_processes_cold_one_daemon(prelux):
    """Each is answered, by the first daemon that serves; all but one wait for the table that it compiles."""
    source = data(prelux.tmp, one="1")
    prelux.file_mapping(source)
    call = make_caller(prelux, client_library(prelux.tmp), timeout_ms=120_000)
    request = wire.message(wire.REGISTER, (wire.F_CONFIG, str(prelux.config_path)), (wire.F_CWD, "/"))
    gate_read, gate_write = os.pipe()
    children = []
    for _ in range(1000):
        pid = os.fork()
        if pid == 0:
            os.close(gate_write)
            os.read(gate_read, 1)
            os._exit(0 if call(request) == 0 else 1)
        children.append(pid)
    os.close(gate_read)
    os.close(gate_write)
    results = [os.waitpid(pid, 0)[1] for pid in children]
    assert results == [0] * 1000, f"{sum(map(bool, results))} failed\n{prelux.story()}"
    assert len(prelux.daemons()) == 1 and prelux.log().count(" serves ") == 1, "no other has begun"
    assert len(tables(prelux)) == 1 and prelux.log().count(" table ") == 1, "compiled once"


@pytest.mark.limit(60)
def test_idle_exit_never_fails_a_client(prelux):
    """Clients that come just when the daemon ends for want of work get an answer: from it, or from its successor."""
    prelux.file_mapping(data(prelux.tmp, one="1"))
    prelux.config(Path(prelux.config_path).read_text() + "idle_exit: 1s\n")
    library = client_library(prelux.tmp)
    request = wire.message(wire.REGISTER, (wire.F_CONFIG, str(prelux.config_path)), (wire.F_CWD, "/"))
    failures, pids, stop = [], set(), time.monotonic() + 25

    def work(seed):
        rng = random.Random(seed)
        call = make_caller(prelux, library)
        while time.monotonic() < stop:
            status = call(request)
            if status:
                failures.append(status)
            pids.add(prelux.daemon_pid())
            # Together: all sleep until the same instant, about when the tick after the idle second comes.
            now = time.monotonic()
            time.sleep((int(now / 2.5) + 1) * 2.5 - now + rng.random() * 0.02)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, f"{failures}\n{prelux.story()}"
    assert len(pids - {None}) > 2, "the daemon has ended and come back"
    wait_for(lambda: not prelux.daemons(), 60, "idle exit")
    assert not (prelux.runtime / "sock").exists()


def test_session_keeps_it_alive(prelux):
    prelux.file_mapping(data(prelux.tmp, one="1"))
    for idle in (1, 4, 16):  # on a busy machine it has ended before it is asked
        child = start(prelux, "--idle", str(idle))
        with contextlib.suppress(OSError), wire.connect(prelux.runtime):
            table = wire.register(prelux.runtime, prelux.config_path).table
            session = wire.connect(prelux.runtime)
            break
    with session:
        session.send(wire.message(wire.SESSION, (wire.F_TABLE, table)))
        assert wire.receive(session).status == 0
        time.sleep(idle + 2.5)
        assert child.poll() is None
        assert wire.ctl(prelux.runtime, "daemon-status").json()["sessions"] == 1
    assert child.wait(60) == 0


def test_removed_runtime_folder_ends_it(prelux):
    child = start(prelux)
    for path in prelux.runtime.iterdir():
        if path.is_file() or path.is_socket():
            path.unlink()
    second = start(prelux, wait=False)
    assert child.wait(60) == 0
    wait_for(lambda: prelux.daemon_pid() == second.pid, 60, "the second daemon serves, and keeps its socket")


def test_replaced_socket_ends_it(prelux):
    """By a service manager that was told nothing of it: nobody finds the old daemon, and it has the lock that the next one needs."""
    child = start(prelux)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(prelux.runtime / "other"))
        other.listen()
        (prelux.runtime / "other").rename(prelux.runtime / "sock")
        inode = (prelux.runtime / "sock").stat().st_ino
        assert child.wait(60) == 0
        assert (prelux.runtime / "sock").stat().st_ino == inode
    (prelux.runtime / "sock").unlink()


def test_renamed_runtime_folder_ends_it(prelux):
    child = start(prelux)
    prelux.runtime.rename(prelux.tmp / "elsewhere")
    prelux.runtime.mkdir(mode=0o700)  # else a sanitizer makes it for its log, with other rights
    second = start(prelux, wait=False)
    assert child.wait(60) == 0
    wait_for(lambda: prelux.daemon_pid() == second.pid, 60, "the second daemon serves")


# The socket


@pytest.mark.asan
def test_garbage(served):
    prelux, table, _ = served
    pid = prelux.daemon_pid()
    good = wire.message(wire.STAT, (wire.F_TABLE, table), (wire.F_MAPPING, 0), (wire.F_PATH, "one"))
    rng = random.Random(1)
    bad = [b"x", b"\0" * 16, good[:20], good + b"\0" * 8, os.urandom(100), os.urandom(65536), b"\xff" * 70000,
           wire.message(wire.STAT, major=9), wire.message(99), wire.message(wire.REPLY), wire.message(wire.STAT),
           wire.message(wire.CTL), wire.message(wire.REGISTER), wire.message(wire.SESSION), wire.message(wire.LIST, (wire.F_TABLE, b"x")),
           wire.message(wire.REGISTER, (wire.F_TABLE, b"y" * 16)), wire.message(wire.REGISTER, (wire.F_CWD, "relative"))]
    for _ in range(300):
        mutant = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            mutant[rng.randrange(len(mutant))] = rng.randrange(256)
        bad.append(bytes(mutant))
    for one in bad:
        with wire.connect(prelux.runtime) as sock:
            sock.send(one)
            with contextlib.suppress(OSError, socket.timeout):
                while (answer := wire.receive(sock)) and answer.op == wire.PROGRESS:
                    pass
    major = wire.ask(prelux.runtime, wire.message(wire.STAT, major=9))
    assert major.status == -93, "EPROTONOSUPPORT, so that a newer client knows"
    assert wire.stat(prelux.runtime, table, 0, "one").status == 0
    assert prelux.daemon_pid() == pid


def test_passed_fds_are_dropped(served):
    prelux, table, _ = served
    pid = prelux.daemon_pid()
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(50):
        with wire.connect(prelux.runtime) as sock:
            socket.send_fds(sock, [wire.message(wire.STAT, (wire.F_TABLE, table), (wire.F_MAPPING, 0))], [0, 1, 2])
            assert wire.receive(sock).status == 0
    assert len(os.listdir(f"/proc/{pid}/fd")) <= before + 2


def test_paths_are_checked(served):
    prelux, table, _ = served
    for path in ("/one", "one/", "a//b", "..", "a/../one", ".", "./one", "a/."):
        assert wire.stat(prelux.runtime, table, 0, path).status == -EINVAL, path
    assert wire.stat(prelux.runtime, table, 0, "x" * 256).status == -36
    assert wire.stat(prelux.runtime, table, 0, "/".join(["y" * 200] * 25)).status == -36
    assert wire.stat(prelux.runtime, table, 1, "one").status == -EINVAL
    assert wire.stat(prelux.runtime, b"z" * 16, 0, "one").status == wire.NO_TABLE


def test_foreign_user_is_refused(prelux):
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    os.chmod(prelux.tmp, 0o755)
    prelux.daemon_exe = shutil.copy(prelux.daemon_exe, prelux.runtime)  # the tree may lie where others may not look: /root
    os.chown(prelux.runtime, 54321, 54321)
    child = start(prelux, user=54321, group=54321, extra_groups=[], cwd="/")
    with wire.connect(prelux.runtime) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.send(wire.message(wire.CTL, (wire.F_VERB, "daemon-status")))
            assert sock.recv(100) == b"", "no answer for uid 0"
    assert "uid 0 refused" in prelux.log()
    child.terminate()
    assert child.wait(60) == 0


@pytest.mark.limit(60)
def test_silent_clients_are_closed(served):
    prelux, table, _ = served
    with wire.connect(prelux.runtime, 40) as silent:
        begun = time.monotonic()
        assert silent.recv(10) == b""
        assert 9 < time.monotonic() - begun < 30


@pytest.mark.asan
def test_many_connections(served):
    prelux, table, _ = served
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(wire.connect(prelux.runtime)) for _ in range(1500)]
        assert wire.stat(prelux.runtime, table, 0, "one").status == 0
        assert wire.ctl(prelux.runtime, "daemon-status").json()["clients"] >= 1500
        for sock in idle:
            sock.send(wire.message(wire.OPEN, (wire.F_TABLE, table), (wire.F_MAPPING, 0), (wire.F_PATH, "two"), (wire.F_FLAGS, wire.WANT_FD)))
        for i, sock in enumerate(idle):
            with wire.receive(sock) as answer:
                assert answer.status == 0 and os.read(answer.fd, 9) == b"22", i


# Control


def test_verbs(prelux):
    source = data(prelux.tmp, one="1")
    (source / "sub" / "deep").mkdir(parents=True)
    for i in range(300):
        (source / "sub" / "deep" / f"f{i}").write_text("x" * i)
    odd = os.fsencode(source) + b"/odd\xff"
    Path(os.fsdecode(odd)).write_text("odd")
    prelux.file_mapping(source)
    start(prelux)
    runtime = prelux.runtime
    table = wire.register(runtime, prelux.config_path).table

    def ctl(*words):
        answer = wire.ctl(runtime, *words, table=table)
        return answer.json() if answer.status == 0 else answer.status

    assert ctl("map", "/prelux-test/sub/deep/f7")["state"] == "absent"
    got = ctl("prefetch", "/prelux-test")
    assert (got["files"], got["bytes"], got["folders"], got["failed"]) == (302, sum(range(300)) + 4, 3, 0), got
    where = ctl("map", "/prelux-test/sub/deep/f7")
    assert where["state"] == "cached" and where["remote"] == "src:/sub/deep/f7" and Path(where["cache"]).read_text() == "x" * 7
    assert ctl("map", "/elsewhere") == {"path": "/elsewhere", "mapping": None}
    names = {e["name"]: e for e in ctl("ls", "/prelux-test")["entries"]}
    assert set(names) == {"one", "sub", "odd\xff"} and names["odd\xff"]["name_hex"] == b"odd\xff".hex()
    assert [e["name"] for e in ctl("ls", "/")["entries"]] == ["prelux-test"]
    assert ctl("stat", "/prelux-test/one")["size"] == 1
    assert ctl("stat", "/prelux-test/none") == -ENOENT and ctl("stat", "/none") == -ENOENT
    assert ctl("evict", "/prelux-test/sub")["files"] == 300
    assert ctl("map", "/prelux-test/sub/deep/f7")["state"] == "absent"
    assert ctl("map", "/prelux-test/one")["state"] == "cached"
    assert ctl("doctor")["mappings"][0]["ok"] is True
    assert ctl("tables")["tables"][0]["hash"] == table.hex()
    assert ctl("log-level", "debug") == {"level": "debug"} and ctl("log-level", "loud") == -EINVAL
    assert "serves" in ctl("log")["text"] and ctl("log", "1")["text"].count("\n") == 1
    state = ctl("status")
    assert state["cache"]["files"] == 2 and state["pending"]["count"] == 0 and state["backends"][0]["name"] == "src"
    assert ctl("nonsense") == -EINVAL and ctl("map") == -EINVAL
    assert wire.ctl(runtime, "map", "/x").status == wire.NO_TABLE
    pid = prelux.daemon_pid()
    assert ctl("daemon-stop")["pid"] == pid
    wait_for(lambda: not alive(pid), 60, "daemon-stop")


def test_prefetch_ends_when_the_asker_leaves(prelux):
    with Slow(100) as server:
        source = prelux.tmp / "many"
        source.mkdir()
        prelux.config({"version": 1, "backends": {"web": {"type": "http", "url": server.url}}, "mappings": [{"local": "/web", "remote": "web:/"}]})
        start(prelux)
        table = wire.register(prelux.runtime, prelux.config_path).table
        with wire.connect(prelux.runtime) as sock:
            sock.send(wire.message(wire.CTL, (wire.F_VERB, "prefetch"), (wire.F_TABLE, table), *[(wire.F_ARG, f"/web/f{i}") for i in range(400)]))
            wait_for(lambda: server.gets, 60, "prefetch has begun")
            clients = wire.ctl(prelux.runtime, "daemon-status").json()["clients"]
        wait_for(lambda: wire.ctl(prelux.runtime, "daemon-status").json()["clients"] < clients, 60, "the asker has left")
        server.gate.set()
        time.sleep(3)
        assert len(server.gets) <= 16  # what each worker was at, and no more


def test_log_is_opened_again_on_hangup(prelux):
    child = start(prelux)
    log = prelux.runtime / "log"
    log.rename(prelux.runtime / "log.old")
    child.send_signal(signal.SIGHUP)
    wait_for(log.exists, 60, "a new log")
    assert wire.ctl(prelux.runtime, "daemon-status").status == 0
