"""prelux from Python: fetch ahead, wait for uploads, look at the state. One file, nothing to build: put it where Python finds it.

It runs the command `prelux` (PRELUX_EXE, else beside this file or in its environment's bin, else by PATH) with the configuration of the process: below `prelux run` that of the run.

  import prelux
  prelux.prefetch(["/lake/train"])                   # until it is there: {"files": 1000, "bytes": ..., "cached": ..., ...}
  ahead = prelux.prefetch_ahead(paths)               # meanwhile; ahead.done(), ahead.result(), ahead.cancel()
  prelux.flush(["/lake/out"])                        # until what was written is on the remote
  prelux.status()["cache"]["used_bytes"]

What fails raises prelux.Error, which has `status` (the command's), `text` (what it said) and `answer` (what it printed, or None).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Ahead", "Error", "evict", "flush", "pin", "prefetch", "prefetch_ahead", "stats", "status", "unpin", "verify"]

DEGRADED = 3


class Error(OSError):
    """The command failed."""

    def __init__(self, words, status, text, answer=None):
        super().__init__(f"prelux {words[0]}: {text.strip() or f'exit status {status}'}")
        self.status, self.text, self.answer = status, text, answer


def command(*words, config=None):
    """The argument vector of a command."""
    here = Path(__file__).resolve().parent
    found = os.environ.get("PRELUX_EXE") or next((str(path) for path in (here / "prelux", here.parent / "bin/prelux", Path(sys.prefix, "bin/prelux")) if os.access(path, os.X_OK)
                                                  and path.is_file()), None) or shutil.which("prelux")
    if not found:
        raise FileNotFoundError("prelux is not in PATH: set PRELUX_EXE")
    return [found, *(["--config", os.fspath(config)] if config else []), *map(os.fspath, words)]


def _listed(paths):
    paths = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else paths
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


def _answer(words, status, out, err, accept=(0,)):
    try:
        answer = json.loads(out) if out.strip() else None
    except ValueError:
        answer = None
    if status not in accept or answer is None:
        raise Error(words, status, err.decode(errors="replace"), answer)
    return answer


def _run(*words, given=None, config=None, accept=(0,)):
    """given: paths for the standard input, where any number fits and none is taken for an option."""
    argv = command(*words, *(["-0", "-"] if given is not None else []), config=config)
    done = subprocess.run(argv, input=given, stdin=None if given is not None else subprocess.DEVNULL, capture_output=True, check=False)
    return _answer(words, done.returncode, done.stdout, done.stderr, accept)


class Ahead:
    """A prefetch under way. The files come in about the order of the list."""

    def __init__(self, paths, config=None):
        import threading
        self._words = ("prefetch", "--json", "--progress=none", "-0", "-")
        self._process = subprocess.Popen(command(*self._words, config=config), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._out = None
        self._thread = threading.Thread(target=self._talk, args=(_listed(paths),), daemon=True)
        self._thread.start()

    def _talk(self, listed):
        self._out = self._process.communicate(listed)

    def done(self):
        return not self._thread.is_alive()

    def cancel(self):
        """What has come stays; the rest is not begun."""
        self._process.terminate()
        self._thread.join()

    def result(self, timeout=None):
        """As prefetch(); TimeoutError when it is not done by then."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("prefetch is under way")
        return _answer(self._words, self._process.returncode, *self._out)


def prefetch(paths, config=None):
    """Fetches files, and folders with all below, and waits. The command's numbers; Error when some failed."""
    return _run("prefetch", "--json", "--progress=none", given=_listed(paths), config=config)


def prefetch_ahead(paths, config=None):
    """Begins to, and returns an Ahead at once."""
    return Ahead(paths, config)


def flush(paths=(), timeout=None, config=None):
    """Waits until what was written below `paths` (none: all) is on the remote. Error when something is left."""
    return _run("flush", "--json", *(["--timeout", str(timeout)] if timeout else []), given=_listed(paths) or None, config=config)


def evict(paths, config=None):
    return _run("evict", "--json", given=_listed(paths), config=config, accept=(0, DEGRADED))


def pin(paths, fetch=True, config=None):
    return _run("pin", "--json", *([] if fetch else ["--no-fetch"]), given=_listed(paths), config=config)


def unpin(paths, config=None):
    return _run("unpin", "--json", given=_listed(paths), config=config)


def verify(paths, data=False, repair=False, config=None):
    words = ["verify", "--json", *(["--data"] if data else []), *(["--repair"] if repair else [])]
    return _run(*words, given=_listed(paths), config=config, accept=(0, DEGRADED))


def status(config=None):
    return _run("status", "--json", config=config, accept=(0, DEGRADED))


def stats(config=None):
    return _run("stats", "--json", config=config)
