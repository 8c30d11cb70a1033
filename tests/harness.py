"""What an integration test holds in its hands: one runtime folder, one cache, one home, one configuration, one daemon.

Nothing of the caller's environment decides a result: PRELUX_*, AZFUSE_*, QD_*, XDG_* and LD_PRELOAD are dropped, HOME is the
test's own. The daemon is found by its command line (`--runtime OURS`), so a test can have several and none is left behind.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("PRELUX_BUILD", "build"))
BUILD = BUILD if BUILD.is_absolute() else ROOT / BUILD
STOP_SECONDS = 10.0
# A size: all mappings get this `stream_above`, so that any test can be run with large files handed out while they come in.
STREAM_ABOVE = os.environ.get("PRELUX_TEST_STREAM_ABOVE")
# Sanitizer reports of a process end here, because a daemon's stderr is /dev/null until its log is open.
SANITIZER_LOG = "sanitizer"
SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer")
DROPPED = ("PRELUX_", "AZFUSE_", "QD_", "XDG_", "LD_PRELOAD", "AWS_", "AZURE_", "http_proxy", "https_proxy", "HTTP_PROXY",
           "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "PYTEST_", "MAKE", "MFLAGS")


def clean_environment():
    """The caller's environment without what would change a result."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(DROPPED)}
    env["LC_ALL"] = "C.UTF-8"
    env["TZ"] = "UTC"
    # Programs under test must not leave byte code in folders that are compared.
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return env


def daemons_of(runtime):
    """Process ids of the preluxd processes whose command line names this runtime folder."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words and os.path.basename(words[0]) == b"preluxd" and os.fsencode(str(runtime)) in words[1:]:
            found.append(int(entry))
    return found


def alive(pid):
    """True while the process runs: a zombie that nobody reaped (a container without init) has ended, but not one whose other
    threads still die: they hold its locks."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def wait_for(condition, seconds=10.0, what="condition"):
    """Poll until condition() is true; return its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)


class Prelux:
    """One set-up. See tests/README.md for its use."""

    def __init__(self, tmp, build=BUILD):
        self.tmp = Path(tmp)
        self.build = Path(build)
        self.exe = self.build / "prelux"
        self.daemon_exe = self.build / "preluxd"
        self.library = self.build / "libprelux.so"
        # What `run` and `env` name: libraries for programs of each word size, where the build has them.
        self.preload = str(self.build / "preload/$LIB/libprelux.so" if (self.build / "preload").is_dir() else self.library)
        # A short path: a unix socket's name has 108 bytes, pytest's folders often more.
        self.runtime = Path(tempfile.mkdtemp(prefix="plx-", dir="/tmp"))
        self.cache = self.tmp / "cache"
        self.home = self.tmp / "home"
        self.home.mkdir(exist_ok=True)
        self.config_path = None
        self.env = clean_environment()
        self.env.update(HOME=str(self.home), PRELUX_RUNTIME_DIR=str(self.runtime))
        logs = f"log_path={self.runtime}/{SANITIZER_LOG}"
        self.env["ASAN_OPTIONS"] = f"{logs}:detect_leaks=1:abort_on_error=0"
        self.env["UBSAN_OPTIONS"] = f"{logs}:print_stacktrace=1"
        self.env["TSAN_OPTIONS"] = f"{logs}:halt_on_error=0"
        self.env["LSAN_OPTIONS"] = "suppressions=/dev/null"
        self._children = []

    # Configuration

    def config(self, content, name="prelux.yaml", raw=False):
        """Write a configuration (dict, list or YAML text) and make it the current one. Returns its path.

        cache.dir becomes self.cache where a native configuration says none, cache.min_free 0. raw: write the text as it is."""
        path = self.tmp / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not raw:
            content = self._with_cache(content)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
        self.config_path = path
        return path

    def _with_cache(self, content):
        value = yaml.safe_load(content) if isinstance(content, (str, bytes)) else content
        if STREAM_ABOVE and isinstance(value, dict) and _stream(value):
            content = value
        if not isinstance(value, dict):  # an azfuse list, or something broken on purpose
            return content if isinstance(content, (str, bytes)) else yaml.safe_dump(value, sort_keys=False)
        cache = value.get("cache") or {}
        if not isinstance(cache, dict) or ("dir" in cache and isinstance(content, (str, bytes))):
            return content if isinstance(content, (str, bytes)) else yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
        # How full the machine's disk is decides no result.
        cache = {"min_free": "0", **cache} if "dir" in cache else {**cache, "dir": str(self.cache), "min_free": cache.get("min_free", "0")}
        if isinstance(content, str) and "cache" not in value:
            return content.rstrip("\n") + f"\ncache: {json.dumps(cache)}\n"
        value = {**value, "cache": cache}
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)

    def file_mapping(self, root, local=None, **options):
        """The shortest set-up: a `file` backend on `root`, mapped at `local` (default /prelux-test). Returns `local`."""
        local = str(local or "/prelux-test")
        self.config({"version": 1, "backends": {"src": {"type": "file", "root": str(root)}},
                     "mappings": [{"local": local, "remote": "src:/", **options}]})
        return local

    # Programs

    def run(self, cmd, cwd=None, env=None, bare=False, check=True, timeout=60, text=True, config=None, args=(), input=None,
            **popen):
        """Run a program below prelux: `prelux --config C run [args] -- cmd`, or with a bare LD_PRELOAD (bare=True).

        cmd: a list, or a string for bash. env: what to add (None as a value removes). check: a status other than 0 fails
        the test and shows both outputs, the error records and the daemon's log."""
        argv, full = self._command(cmd, env, bare, config, args)
        errors = "surrogateescape" if text else None
        with _told(timeout, "below prelux", self.story):
            done = subprocess.run(argv, cwd=cwd or self.tmp, env=full, timeout=timeout, text=text, errors=errors, input=input,
                                  stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, **popen)
        if check and done.returncode != 0:
            raise AssertionError(f"status {done.returncode}, {last_line(done.stderr)!r}, of {cmd!r}\n--- stdout\n{_tail(done.stdout)}\n--- stderr\n"
                                 f"{_tail(done.stderr)}\n{self.story()}")
        return done

    def popen(self, cmd, cwd=None, env=None, bare=False, config=None, args=(), **popen):
        """As run(), but started only; what still runs at the end of the test is killed."""
        argv, full = self._command(cmd, env, bare, config, args)
        popen.setdefault("stdin", subprocess.DEVNULL)
        child = subprocess.Popen(argv, cwd=cwd or self.tmp, env=full, **popen)
        self._children.append(child)
        return child

    def plain(self, cmd, cwd=None, env=None, check=True, timeout=60, text=True, **popen):
        """The same program without prelux: the oracle."""
        argv = ["bash", "-c", cmd] if isinstance(cmd, str) else [_word(word) for word in cmd]
        full = self._merged(env)
        with _told(timeout, "without prelux"):
            done = subprocess.run(argv, cwd=cwd or self.tmp, env=full, timeout=timeout, text=text, stdin=subprocess.DEVNULL,
                                  errors="surrogateescape" if text else None, capture_output=True, **popen)
        if check and done.returncode != 0:
            raise AssertionError(f"status {done.returncode}, {last_line(done.stderr)!r}, of {cmd!r} (plain)\n{_tail(done.stderr)}")
        return done

    def cli(self, *words, check=True, timeout=60, config=True, env=None, cwd=None, input=None):
        """A command of the CLI. With --json among the words: the parsed answer, else its text; check=False: CompletedProcess."""
        argv = [str(self.exe)]
        if config and self.config_path and "--config" not in words:
            argv += ["--config", str(self.config_path)]
        argv += [_word(word) for word in words]
        done = subprocess.run(argv, cwd=cwd or self.tmp, env=self._merged(env), timeout=timeout, text=True, input=input,
                              stdin=None if input is not None else subprocess.DEVNULL, capture_output=True, errors="surrogateescape")
        if not check:
            return done
        if done.returncode != 0:
            raise AssertionError(f"status {done.returncode} of prelux {' '.join(map(str, words))}\n{done.stdout}\n{done.stderr}\n"
                                 f"{self.story()}")
        return json.loads(done.stdout) if "--json" in words else done.stdout

    def _command(self, cmd, env, bare, config, args):
        argv = ["bash", "-c", cmd] if isinstance(cmd, str) else [_word(word) for word in cmd]
        config = config or self.config_path
        full = self._merged(env)
        if bare:
            full.setdefault("LD_PRELOAD", str(self.library))
            if config and "PRELUX_CONFIG" not in (env or {}):
                full["PRELUX_CONFIG"] = str(config)
            return argv, full
        head = [str(self.exe)] + (["--config", str(config)] if config else []) + ["run", *args, "--"]
        return head + argv, full

    def _merged(self, env):
        full = dict(self.env)
        for key, value in (env or {}).items():
            if value is None:
                full.pop(key, None)
            else:
                full[key] = str(value)
        return full

    # The daemon

    def daemon_pid(self):
        """Process id of whoever made the socket, or None. Works for a daemon that hangs."""
        path = self.runtime / "sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            try:
                sock.connect(str(path))
            except OSError:
                return None
            pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return pid

    def daemons(self):
        """All daemons of this runtime folder: one, unless something is wrong."""
        return [pid for pid in daemons_of(self.runtime) if alive(pid)]

    def kill_daemon(self, number=signal.SIGKILL):
        """Kill it and wait until it is gone. Returns its process id."""
        pid = self.daemon_pid()
        assert pid, "no daemon to kill"
        os.kill(pid, number)
        wait_for(lambda: not alive(pid), STOP_SECONDS, f"end of preluxd {pid}")
        return pid

    def errors(self):
        """The error records written so far, oldest first."""
        records = []
        for name in ("errors.1", "errors"):
            path = self.runtime / name
            if path.exists():
                records += [json.loads(line) for line in path.read_text(errors="replace").splitlines() if line.strip()]
        return records

    def log(self):
        """The daemon's log."""
        path = self.runtime / "log"
        return path.read_text(errors="replace") if path.is_file() else ""

    def story(self):
        """For messages: error records and the end of the log."""
        records = "\n".join(json.dumps(record) for record in self.errors()[-20:])
        return f"--- error records\n{records}\n--- daemon's log\n{_tail(self.log())}\n{self.sanitizer_reports()}"

    def sanitizer_reports(self):
        """Text of sanitizer reports of the daemon and the CLI, or ""."""
        texts = [path.read_text(errors="replace") for path in sorted(self.runtime.glob(SANITIZER_LOG + ".*"))]
        texts += [line for line in self.log().splitlines() if any(mark in line for mark in SANITIZER_MARKS)]
        return "\n".join(text for text in texts if text.strip())

    # The end

    def close(self):
        """End what the test started; returns a list of complaints."""
        complaints = []
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        pids = self.daemons()
        for pid in pids:
            _send(pid, signal.SIGCONT)
            _send(pid, signal.SIGTERM)
        for pid in pids:
            try:
                wait_for(lambda: not alive(pid), STOP_SECONDS)
            except AssertionError:
                complaints.append(f"preluxd {pid} did not end within {STOP_SECONDS:g} s of SIGTERM\n{_tail(self.log())}")
                _send(pid, signal.SIGKILL)
        reports = self.sanitizer_reports()
        if reports:
            complaints.append("sanitizer report:\n" + reports[-20000:])
        shutil.rmtree(self.runtime, ignore_errors=True)
        return complaints


def _stream(value):
    """Adds `stream_above` to what says none. True: something was added."""
    found = value.get("mappings")
    mappings = [one for one in (found if isinstance(found, list) else []) if isinstance(one, dict) and "stream_above" not in one]
    for one in mappings:
        one["stream_above"] = STREAM_ABOVE
    return bool(mappings)


def last_line(text):
    """Of a failure little but the first line of its message may be shown: this belongs there."""
    return (_tail(text).strip().splitlines() or [""])[-1][:200]


@contextlib.contextmanager
def _told(seconds, how, story=str):
    """Python's own message of a time limit begins with the whole command, and has nothing of what the program has said."""
    try:
        yield
    except subprocess.TimeoutExpired as over:
        raise AssertionError(f"longer than {seconds} s, {how}\n--- stdout\n{_tail(over.stdout)}\n--- stderr\n{_tail(over.stderr)}\n"
                             f"{over.cmd!r}\n{story()}") from None


def _word(word):
    return word if isinstance(word, (str, bytes)) else str(word)


def _send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _tail(text, limit=6000):
    if text is None:
        return ""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return text[-limit:]
