"""What every server of this folder shares.

A server lives in a folder of its own (configuration, data, logs), listens on free ports of 127.0.0.1, is ready when it says
so (polled, with a limit on the whole start) and is stopped by the process groups that it made.  A second copy of the rule
"stop what you started" is a guard process per group: it holds the read end of a pipe and ends the group when this program
dies without calling stop(), even by SIGKILL.  A JVM left behind by an interrupted test run would cost 200 MB for ever.
"""

import atexit
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from pathlib import Path

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02
STOP_SECONDS = 5.0
LOG_TAIL_BYTES = 4000
PORT_ATTEMPTS = 3
# What servers say when another program took the port between our look and their bind.
PORT_TAKEN = (b"Address already in use", b"address already in use", b"could not bind", b"BindException", b"Failed to bind")

_running = weakref.WeakSet()


class ServerError(RuntimeError):
    """A server did not start; the message ends with the tail of its logs."""


def free_port():
    """A port nobody listens on, below the usual ephemeral range: an outgoing connection cannot take it meanwhile."""
    for _ in range(200):
        port = random.SystemRandom().randrange(15000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                return port
            except OSError:
                continue
    raise ServerError("no free port between 15000 and 32000")


def port_open(port, host=LOOPBACK):
    """True when something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def wait_for(condition, seconds, what="condition"):
    """Poll until condition() is true and return its value; TimeoutError after the limit."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not true within {seconds:g} s")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def installing(folder):
    """Programs that install into a folder at the same time do so one after another, and look again whether there is still need.
    A run of all tests installs before it begins and sets PRELUX_TEST_NO_INSTALL: what failed then is not tried by each file."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = folder / "failed"
    if os.environ.get("PRELUX_TEST_NO_INSTALL"):
        raise ServerError(failed.read_text() if failed.exists() else f"{folder} was not tried")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            failed.unlink(missing_ok=True)
            yield
        except (ServerError, subprocess.TimeoutExpired) as error:
            failed.write_text(str(error))
            raise ServerError(str(error)) from None


def fetch_by(argv, log, seconds, env=None, cwd=None):
    """Runs what fetches or builds; ServerError with the end of its words when that fails."""
    with open(log, "wb") as out:
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, timeout=seconds, cwd=cwd)
        except subprocess.TimeoutExpired:
            raise ServerError(f"{argv[0]}: longer than {seconds} s") from None
    if done.returncode:
        raise ServerError(f"{argv[0]} failed; the end of {log}:\n" + log.read_text(errors="replace")[-3000:])


def fetch_npm(folder, dependencies, overrides=None):
    """Packages of npm into folder/node_modules. npm's registry and proxies are the machine's own affair."""
    if not shutil.which("npm"):
        raise ServerError("npm is not installed (Debian: apt-get install npm)")
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": dependencies, "overrides": overrides or {}}))
    argv = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--omit=dev"]
    fetch_by(argv, folder / "install.log", 600, cwd=folder)


class Installation:
    """What a registry has, fetched once into a folder. program: a file that must be there then, too."""

    def __init__(self, folder, version, fetch, program=None):
        self.folder, self.version, self.fetch, self.program = folder, version, fetch, program

    def installed(self):
        """True when this version is there, all of it."""
        stamp = self.folder / "installed"
        whole = self.program is None or self.program.is_file()
        return whole and stamp.is_file() and stamp.read_text() == self.version

    def install(self):
        """Unless it is there already. ServerError: why not."""
        if self.installed():
            return
        with installing(self.folder):
            if not self.installed():
                self.fetch()
                (self.folder / "installed").write_text(self.version)


class Process:
    """One child in a process group of its own, with a guard that ends the group when this program dies."""

    def __init__(self, name, argv, log, env=None, cwd=None):
        self.name = name
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd,
                                          start_new_session=True)
        self.pid = self.popen.pid
        # End of file means that we are gone, a line that stop() has done the work.  "-s KILL": dash takes no "--" otherwise.
        self._guard = subprocess.Popen(["/bin/sh", "-c", 'read -r done_ || kill -s KILL -- "-$1"', "guard", str(self.pid)],
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)

    def alive(self):
        if self.popen.returncode is not None:
            return False
        # WNOWAIT: as long as the leader is not reaped nobody else can get its number, which is the group's.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def signal(self, number):
        """Send a signal to the whole group."""
        if self.popen.returncode is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass

    def finish(self, seconds=STOP_SECONDS):
        """Wait for the end, kill what is left of the group (workers of a dead master), dismiss the guard."""
        try:
            wait_for(lambda: not self.alive(), seconds)
        except TimeoutError:
            pass
        self.signal(signal.SIGKILL)
        self.popen.wait()
        if self._guard.returncode is None:
            self._guard.communicate(b"done\n")

    def kill(self):
        """SIGKILL at once: the way a node dies."""
        self.signal(signal.SIGKILL)
        self.finish()


class Server:
    """A server made of one or more processes.  A subclass says how to configure, start and probe it.

    folder: where everything of this server lives; made when missing and kept.  None: a temporary one, removed by stop().
    """

    name = "server"
    start_seconds = 20.0
    start_tries = 1  # when it does not get ready, though its ports are free
    stop_signal = signal.SIGTERM

    def __init__(self, folder=None):
        self._temporary = folder is None
        self.folder = Path(tempfile.mkdtemp(prefix=f"prelux-{self.name}-") if folder is None else folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.processes = []
        self.started_in = None

    # What a subclass provides.

    @classmethod
    def missing(cls):
        """Why this server cannot run here ("nginx is not installed ..."), or None."""
        return None

    def configure(self):
        """Choose ports, write configuration.  Called again with new ports when a port was taken meanwhile."""

    def commands(self):
        """A list of (process name, argv, environment or None)."""
        raise NotImplementedError

    def ready(self):
        """True when requests are answered.  May raise OSError for "not yet"."""
        raise NotImplementedError

    @property
    def url(self):
        raise NotImplementedError

    # What a test uses.

    def start(self):
        """Start and wait until ready; ServerError with the tail of the logs otherwise.  Returns self."""
        why = self.missing()
        if why:
            raise ServerError(why)
        begin, tries = time.monotonic(), self.start_tries
        for attempt in range(1, PORT_ATTEMPTS + 1):
            problem = self._start_once(time.monotonic() + self.start_seconds)
            if problem is None:
                self.started_in = time.monotonic() - begin
                return self
            tail = self.log_tail()
            self._end_processes()
            tries -= not any(text in tail for text in PORT_TAKEN)
            if attempt == PORT_ATTEMPTS or tries == 0:
                break
        self.stop()
        raise ServerError(f"{self.name}: {problem}\n{tail.decode('utf-8', 'replace')}")

    def stop(self):
        """End every process of this server.  May be called twice."""
        self._end_processes()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self):
        return bool(self.processes) and all(process.alive() for process in self.processes)

    def process(self, name):
        """The running process of that name, for tests that kill or stop one of several."""
        return next(process for process in self.processes if process.name == name)

    def logs(self):
        """Log files, oldest name first; a subclass may have more than one per process."""
        return sorted(self.folder.glob("*.log"))

    def log_tail(self):
        parts = []
        for path in self.logs():
            data = path.read_bytes()[-LOG_TAIL_BYTES:]
            if data.strip():
                parts.append(b"--- " + path.name.encode() + b"\n" + data)
        return b"\n".join(parts)

    def wait(self):
        """Block until the first process ends: for servers run by hand."""
        self.processes[0].popen.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()

    # Inside.

    def _start_once(self, deadline):
        """None when ready, else what went wrong."""
        for path in self.logs():
            path.unlink()
        self.configure()
        try:
            for name, argv, env in self.commands():
                self.start_process(name, argv, env)
            while time.monotonic() < deadline:
                dead = [process for process in self.processes if not process.alive()]
                if dead:
                    return f"{dead[0].name} ended with status {dead[0].popen.poll()} before it was ready"
                if any(text in self.log_tail() for text in PORT_TAKEN):
                    return "a port was taken"  # nginx would go on trying it for seconds
                if self._probe():
                    return None
                time.sleep(POLL_SECONDS)
        except BaseException:
            self._end_processes()
            raise
        return f"not ready within {self.start_seconds:g} s"

    def start_process(self, name, argv, env=None):
        process = Process(name, [str(word) for word in argv], self.folder / f"{name}.log", env, self.folder)
        self.processes.append(process)
        _running.add(self)
        return process

    def _probe(self):
        try:
            return self.ready()
        except (OSError, ValueError):  # refused, reset, or an answer that is not whole yet
            return False

    def _end_processes(self):
        for process in self.processes:
            process.signal(self.stop_signal)
        for process in self.processes:
            process.finish()
        self.processes = []


def run_by_hand(server, describe):
    """Start a server, print what describe(server) says, run until it ends or ctrl-C / SIGTERM, stop it."""
    def leave(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, leave)
    try:
        with server:
            print(describe(server), flush=True)
            server.wait()
            print(f"{server.name} ended by itself", flush=True)
            return 1
    except KeyboardInterrupt:
        return 0


def _stop_all():
    for server in list(_running):
        server.stop()


atexit.register(_stop_all)
