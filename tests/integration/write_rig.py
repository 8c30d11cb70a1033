"""What tests of writing share: a writable mapping of a folder, and the same done in a plain folder to compare with."""

import contextlib
import difflib
import os
import time
from pathlib import Path

import pytest

from tests.harness import last_line, wait_for
from tests.integration import contract_remotes

LOCAL = "/prelux-w"
SCRIPT = "export LC_ALL=C.UTF-8 TZ=UTC PYTHONDONTWRITEBYTECODE=1; umask 022; cd {0} && {{ {1}\n}}"
# Of a script that shows nothing, because both folders fail alike.
BROKEN = ("command not found", "Traceback (most recent call last)", "syntax error")


def tree(root):
    """{path: (kind, mode, bytes)} of a folder."""
    found = {}
    for folder, folders, names in os.walk(root):
        for name in folders + names:
            path = Path(folder, name)
            kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
            found[str(path.relative_to(root))] = (kind, kind != "link" and oct(path.stat().st_mode & 0o7777),
                                                  path.read_bytes() if kind == "file" else None)
    return found


def make_lake(prelux, **options):
    """prelux with a writable, empty mapping at LOCAL of the folder .remote."""
    prelux.remote = prelux.tmp / "remote"
    prelux.remote.mkdir()
    prelux.file_mapping(prelux.remote, LOCAL, **options)
    prelux.seen = lambda: tree(prelux.remote)
    return prelux


@contextlib.contextmanager
def lake_of(prelux, kind, below="", **options):
    """The same of a row of contract_remotes.py. .seen(): what another client sees there, as tree() of a folder, without modes; a
    store of objects has no empty folders."""
    rows = {row.name: row for row in contract_remotes.KINDS}
    with contextlib.ExitStack() as stack:
        try:
            remote = stack.enter_context(rows[kind].make(prelux.tmp))
        except contract_remotes.Missing as why:
            pytest.skip(str(why))
        conf = dict(remote.conf)
        others = conf.pop("others", {})
        prelux.config({"version": 1, "backends": {"src": conf, **others}, "mappings": [{"local": LOCAL, "remote": f"src:/{below}", **options}]})
        prelux.seen = lambda: {os.fsdecode(path): ("file", None, data) for path, data in remote.objects().items() if data is not None}
        yield prelux


def settled(prelux, seconds=30):
    """Nothing waits to be sent."""
    wait_for(lambda: prelux.cli("daemon", "status", "--json")["pending_uploads"] == 0, seconds, "the end of uploads")


def same_as_plain(lake, script, timeout=60):
    """Runs a bash script in the mapping and in a plain folder: both print the same and leave the same."""
    plain = lake.tmp / "plain"
    plain.mkdir()
    want = lake.plain(SCRIPT.format(plain, script), timeout=timeout)
    assert not any(word in want.stderr for word in BROKEN), f"the script is broken here, without prelux: {last_line(want.stderr)}\n{want.stderr}"
    done = lake.run(SCRIPT.format(LOCAL, script), check=False, timeout=timeout)
    for got, wanted, what in ((done.stdout, want.stdout, "stdout"), (done.stderr, want.stderr, "stderr")):
        assert got == wanted, f"{what} differs; status {done.returncode}: {last_line(done.stderr)}\n{_differ(wanted, got)}\n{done.stderr}\n{lake.story()}"
    settled(lake)
    wanted = tree(plain)
    if not hasattr(lake, "remote"):
        wanted = {path: ("file", None, data) for path, (kind, _, data) in wanted.items() if kind == "file"}
    end = time.monotonic() + 20  # the end of a map or of a process is told by the kernel only, a moment later
    while (wrong := _wrong(wanted, lake.seen())) and time.monotonic() < end:
        time.sleep(0.05)
    assert not wrong, f"plain and remote: {str(wrong)[:3000]}\n{lake.story()}"
    return done


def _wrong(wanted, got):
    return {path: (wanted.get(path), got.get(path)) for path in got.keys() | wanted.keys() if got.get(path) != wanted.get(path)}


def _differ(wanted, got):
    return "\n".join(list(difflib.unified_diff(wanted.splitlines(), got.splitlines(), "plain", "mapped", lineterm=""))[:60])
