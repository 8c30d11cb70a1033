"""A daemon whose socket is a service manager's, here systemd-socket-activate's protocol spoken by a few lines: started at the first connection,
gone when told, started by the next one, and no connection is lost between."""

import os
import select
import signal
import socket
import subprocess

import pytest

from tests.harness import wait_for

LAKE = "/prelux-activated"


class Manager:
    """What systemd does with a .socket and a .service."""

    def __init__(self, prelux):
        self.prelux, self.started = prelux, []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.path = prelux.runtime / "sock"
        self.socket.bind(str(self.path))
        self.socket.listen(100)

    def wanted(self, seconds=0):
        """Somebody waits in the backlog."""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def start(self):
        def child():
            os.dup2(self.socket.fileno(), 3)
            os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
            os.execve(self.prelux.daemon_exe, ["preluxd", "--runtime", str(self.prelux.runtime)], {**self.prelux.env, **os.environ})

        pid = os.fork()
        if pid == 0:
            try:
                child()
            finally:
                os._exit(99)
        self.started.append(pid)
        return pid

    def ended(self, pid):
        """Its status, when it has ended."""
        found, status = os.waitpid(pid, os.WNOHANG)
        return None if found == 0 else (os.waitstatus_to_exitcode(status),)

    def close(self):
        for pid in self.started:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
        self.socket.close()


@pytest.fixture
def lake(prelux):
    source = prelux.tmp / "source"
    source.mkdir()
    (source / "a").write_text("served\n")
    prelux.file_mapping(source, LAKE)
    return prelux


@pytest.fixture
def manager(lake):
    one = Manager(lake)
    yield one
    one.close()


def has_open(pid, name):
    """A descriptor of a file of that name."""
    for n in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{n}").endswith(f"/{name}"):
                return True
        except FileNotFoundError:
            pass  # closed meanwhile
    return False


def reader(lake):
    return lake.popen(["cat", f"{LAKE}/a"], stdout=subprocess.PIPE, text=True)


def test_started_by_the_first_connection(lake, manager):
    first = reader(lake)
    wait_for(lambda: manager.wanted(), 30, "a connection")
    pid = manager.start()
    assert first.communicate(timeout=60)[0] == "served\n"
    assert lake.daemon_pid() == pid and lake.cli("daemon", "status", "--json")["activated"] is True
    assert lake.run(["cat", f"{LAKE}/a"]).stdout == "served\n"


@pytest.mark.parametrize("how", ["stop", "signal", "idle"])
def test_the_socket_stays(lake, manager, how):
    inode = manager.path.stat().st_ino
    if how == "idle":
        lake.config_path.write_text(lake.config_path.read_text() + "\nidle_exit: 1s\n")
    first = reader(lake)
    wait_for(lambda: manager.wanted(), 30, "a connection")
    pid = manager.start()
    assert first.communicate(timeout=60)[0] == "served\n"
    if how == "stop":
        stop = subprocess.Popen([lake.exe, "daemon", "stop"], env=lake.env)
    elif how == "signal":
        os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: manager.ended(pid), 60, "the daemon's end") == (0,)
    if how == "stop":
        assert stop.wait(60) == 0
    assert manager.path.stat().st_ino == inode and not manager.wanted()
    second = reader(lake)
    wait_for(lambda: manager.wanted(), 30, "another connection")
    other = manager.start()
    assert second.communicate(timeout=60)[0] == "served\n" and lake.daemon_pid() == other != pid


def test_one_that_serves_already_is_waited_for(lake, manager):
    """It holds the lock of the runtime folder for a moment longer than its service manager, or a user, thinks."""
    first = reader(lake)
    wait_for(lambda: manager.wanted(), 30, "a connection")
    pid = manager.start()
    assert first.communicate(timeout=60)[0] == "served\n"
    other = manager.start()
    wait_for(lambda: os.readlink(f"/proc/{other}/exe") == str(lake.daemon_exe.resolve()), 30, "exec")
    wait_for(lambda: has_open(other, "daemon.lock"), 30, "its try to get the lock")
    assert manager.ended(other) is None
    os.kill(pid, signal.SIGTERM)
    assert wait_for(lambda: manager.ended(pid), 60, "the first one's end") == (0,)
    assert lake.run(["cat", f"{LAKE}/a"]).stdout == "served\n"
    assert lake.daemon_pid() == other


def test_another_socket_is_refused(lake, manager):
    manager.path.rename(lake.runtime / "elsewhere")
    pid = manager.start()
    assert wait_for(lambda: manager.ended(pid), 30, "its end") == (1,)
    (lake.runtime / "elsewhere").unlink()
