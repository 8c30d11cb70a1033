"""A preluxd of a node, and users to use it: the numbers of nobody on this machine. Only root can be somebody else."""

import json
import os
import pickle
import shutil
import subprocess
import tempfile
import traceback
from pathlib import Path

import pytest

from tests import harness, wire

PYTHON = "/usr/bin/python3"
ALICE, BOB, CAROL, DAEMON = 61501, 61502, 61503, 61500
SCIENCE, DESIGN = 61601, 61602
NODE = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users"),
        pytest.mark.skipif(not os.path.exists(PYTHON), reason="needs a Python that other users may run")]


def become(uid, gid, groups=()):
    os.setgroups(list(groups))
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


class Node:
    """A folder that others may pass, with the programs (the build may lie where they may not), remote data, configuration and daemon."""

    def __init__(self, uid):
        self.uid, self.child, self.before = uid, None, []  # before: what executes the daemon's command
        if not (harness.BUILD / "preluxd").exists():
            pytest.skip(f"{harness.BUILD} is not built")
        self.folder = Path(tempfile.mkdtemp(prefix="plx-node-", dir="/var/lib"))
        self.folder.chmod(0o755)
        self.bin, self.run, self.cache, self.source = (self.folder / n for n in ("bin", "run", "cache", "source"))
        self.bin.mkdir()
        for name in ("preluxd", "prelux", "libprelux.so"):
            shutil.copy2(harness.BUILD / name, self.bin / name)
        for folder in (self.run, self.cache, self.source):
            folder.mkdir(mode=0o700)
            os.chown(folder, uid, uid)
        self.config = self.folder / "node.yaml"

    def put(self, name, text):
        path = self.source / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for one in (path.parent, path):
            os.chown(one, self.uid, self.uid)
        return path

    def configure(self, mappings, **more):
        """{local: (path, options)}; a path is of the backend src, or has another one's name before a colon: a folder of the source."""
        rows = [{"local": local, "remote": path if ":" in path else "src:" + path, **options} for local, (path, options) in mappings.items()]
        backends = {"src": {"type": "file", "root": str(self.source)}}
        backends.update({name: {"type": "file", "root": str(self.source / name)} for name in (row["remote"].split(":")[0] for row in rows) if name != "src"})
        self.config.write_text(json.dumps({"version": 1, "cache": {"dir": str(self.cache), "min_free": "0"},
                                           "backends": backends, "mappings": rows, **more}))
        self.config.chmod(0o600)
        os.chown(self.config, self.uid, self.uid)

    def environment(self, **more):
        return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PRELUX_RUNTIME_DIR": str(self.run),
                "PRELUX_CONFIG": str(self.run / "table"), **more}

    def launch(self, *args):
        command = [*self.before, str(self.bin / "preluxd"), "--foreground", "--node", str(self.config), "--runtime", str(self.run),
                   "--log", str(self.run / "log"), *args]
        logs = f"log_path={self.folder}/sanitizer"
        return subprocess.Popen(command, user=self.uid, group=self.uid, extra_groups=[], stdin=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True, cwd="/",
                                env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "ASAN_OPTIONS": logs, "UBSAN_OPTIONS": logs})

    def start(self, *args):
        self.child = self.launch(*args)
        harness.wait_for(lambda: self.child.poll() is not None or self.answers(), 60, "preluxd --node listens")
        assert self.child.poll() is None, self.child.stderr.read()
        self.table = wire.register(self.run, self.run / "table").table

    def answers(self):
        try:
            wire.connect(self.run).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.child:
            self.child.terminate()
            assert self.child.wait(60) == 0
            self.child.stderr.close()
        self.child = None

    def close(self):
        if self.child and self.child.poll() is None:
            self.stop()
        found = [path.read_text() for path in self.folder.glob("sanitizer.*")]
        shutil.rmtree(self.folder)
        assert not found, found

    def program(self, who, command, gid=None, groups=(), **env):
        """A program of that user below the library; the finished process."""
        env = self.environment(LD_PRELOAD=str(self.bin / "libprelux.so"), **env)
        return subprocess.run(command, user=who, group=gid or who, extra_groups=list(groups), env=env, cwd="/", text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=220)

    def python(self, who, code, *args, **more):
        """What such a Python program prints, as a Python value; OSError is the name of its errno."""
        text = f"import errno, os, sys\ndef no(f, *a, **k):\n  try: return f(*a, **k)\n  except OSError as e: return errno.errorcode[e.errno]\n{code}"
        done = self.program(who, [PYTHON, "-c", text, *map(str, args)], **more)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def cli(self, who, *args, gid=None, **env):
        return subprocess.run([str(self.bin / "prelux"), *args], user=who, group=gid or who, extra_groups=[], env=self.environment(**env),
                              cwd="/", text=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=220)

    def ask(self, *args):
        return wire.ask(self.run, wire.message(*args))

    def about(self, op, mapping, path, *more):
        """A request of an object, by whoever asks: as_user()."""
        return self.ask(op, (wire.F_TABLE, self.table), (wire.F_MAPPING, mapping), (wire.F_PATH, path), *more)


def as_user(uid, fn, gid=None, groups=()):
    """What fn() returns in a process of that user."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            become(uid, gid or uid, groups)
            try:
                out = (True, fn())
            except BaseException:
                out = (False, traceback.format_exc())
            with os.fdopen(w, "wb") as f:
                pickle.dump(out, f)
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        data = f.read()
    os.waitpid(pid, 0)
    good, value = pickle.loads(data)
    assert good, value
    return value
