"""fsync of what is written below a mapping: the bytes are the kernel's to sync, which path they are for stands in the daemon's journal, and is synced with them. What a
power cut then leaves: tests/unit/test_stage_power.c."""

import re
import subprocess

import pytest

from tests.harness import wait_for
from tests.integration.write_rig import LOCAL, make_lake, settled

SYNC = re.compile(r"(?:fsync|fdatasync)\(\d+<([^>]*)>")


@pytest.fixture
def lake(prelux):
    """.synced(): names of what the daemon has synced since."""
    make_lake(prelux, write="async")
    trace = prelux.tmp / "trace"
    daemon = subprocess.Popen(["strace", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o", trace, prelux.daemon_exe, "--foreground"],
                              env=prelux._merged(None), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: prelux.daemon_pid() or daemon.poll() is not None, 20, "the daemon")
        if daemon.poll() is not None:
            pytest.skip(f"nothing may be traced here: {daemon.stderr.read()[-300:]}")
        prelux.run(f"echo x > {LOCAL}/.first && rm {LOCAL}/.first")
        before = len(SYNC.findall(trace.read_text()))  # databases are made
        prelux.synced = lambda: [line.rpartition("/")[2] for line in SYNC.findall(trace.read_text())[before:]]
        yield prelux
    finally:
        prelux.kill_daemon()
        daemon.wait(20)
        daemon.stderr.close()


WAYS = {
    "fsync": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); before(); os.fsync(fd)",
    "fdatasync": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); before(); os.fdatasync(fd)",
    "by-a-copy": "fd = os.dup(os.open('f', os.O_WRONLY | os.O_CREAT)); os.write(fd, b'x'); before(); os.fsync(fd)",
    "for-reading": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); r = os.open('f', os.O_RDONLY); before(); os.fsync(r)",
    "by-a-child": "fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.set_inheritable(fd, True); os.write(fd, b'x'); before()\n"
                  "if os.spawnvp(os.P_WAIT, 'python3', ['python3', '-c', f'import os; os.fsync({fd})']): raise SystemExit(1)",
    "folder": "os.mkdir('d'); fd = os.open('d/f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); d = os.open('d', os.O_RDONLY); before(); os.fsync(d)",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_journal_is_synced(lake, way):
    """Between before() and the line behind the fsync."""
    code = f"import os\ndef before(): print(flush=True); input()\n{WAYS[way]}\nprint(flush=True); input()"
    program = lake.popen(f"cd {LOCAL} && exec python3 -c \"$CODE\"", env={"CODE": code}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "\n", program.stderr.read() + lake.story()
    assert "journal.db-wal" not in lake.synced(), "nothing is synced that nobody asks for"
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "\n", program.stderr.read() + lake.story()
    synced = lake.synced()
    assert "journal.db-wal" in synced and synced.index("staging") < synced.index("journal.db-wal"), synced
    program.communicate("\n", timeout=20)
    assert program.returncode == 0
    settled(lake)
    assert lake.remote.joinpath("d/f" if way == "folder" else "f").read_bytes() == b"x"


def test_a_close_behind_an_fsync(lake):
    """What is safe stays safe over the close, which syncs the row that says so; other closes sync nothing."""
    lake.run(f"cd {LOCAL} && echo one > plain && echo two > other")
    assert "journal.db-wal" not in lake.synced()
    code = "import os; fd = os.open('f', os.O_WRONLY | os.O_CREAT); os.write(fd, b'x'); os.fsync(fd); os.close(fd)"
    lake.run(f"cd {LOCAL} && python3 -c \"{code}\"")
    assert lake.synced().count("journal.db-wal") == 2


def test_what_is_not_written_asks_nobody(lake):
    """An fsync outside, or of what is only read, costs no request."""
    lake.run(f"echo x > {LOCAL}/f")
    settled(lake)
    code = f"""if 1:
        import os
        outside = os.open("{lake.tmp}/outside", os.O_WRONLY | os.O_CREAT)
        os.close(os.open("{LOCAL}/f", os.O_RDONLY))
        inside = os.open("{LOCAL}/f", os.O_RDONLY)
        before = open("{lake.tmp}/before", "w")
        print(flush=True); input()
        for fd in (outside, inside): os.fsync(fd)
        try: os.fsync(99)
        except OSError as e: print(e.errno, flush=True)
        input()
        """
    program = lake.popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "\n"
    requests = lake.cli("daemon", "status", "--json")["requests"]
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "9\n"
    assert lake.cli("daemon", "status", "--json")["requests"] == requests + 1, "the question itself"
    program.communicate("\n", timeout=20)


def test_no_daemon_no_promise(prelux):
    """What the journal says cannot be synced: the program is told."""
    make_lake(prelux, write="async")
    code = f"""if 1:
        import os, sys
        fd = os.open("{LOCAL}/f", os.O_WRONLY | os.O_CREAT)
        os.write(fd, b"x")
        print(flush=True); input()
        try: os.fsync(fd)
        except OSError as e: print(e.errno, flush=True)
        os._exit(0)
        """
    program = prelux.popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bare=True)
    assert program.stdout.readline() == "\n"
    prelux.kill_daemon()
    files = {path: path.read_bytes() for path in prelux.cache.glob(".prelux/journal.db*")}
    for path in files:
        path.write_bytes(b"not a database at all" * 100)
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "5\n", prelux.story()
    program.wait(20)
    prelux.kill_daemon()
    for path, data in files.items():
        path.write_bytes(data)
    prelux.run("true")
    rows = lambda: prelux.cli("pending", "list", "--json")["files"]  # noqa: E731
    wait_for(lambda: [row["state"] for row in rows()] == ["recovered"], 30, "nobody could be told how it ended: it is kept")
    prelux.cli("pending", "export", rows()[0]["id"], prelux.tmp / "kept")
    assert (prelux.tmp / "kept").read_bytes() == b"x" and not (prelux.remote / "f").exists()
