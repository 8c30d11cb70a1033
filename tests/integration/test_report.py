"""`prelux run --report`: what the programs of a tree did, and which of them the library did not get into, and why."""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import struct
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests import harness

SLOTS = int(re.search(r"PRELUX_REPORT_PROCESSES = (\d+)", (harness.ROOT / "include/prelux/report.h").read_text()).group(1))
STATIC = r"""
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
/* MS [PROGRAM [WORD...]]: rests, then runs the program in a child, with an empty environment, and waits. */
int main(int n, char **v)
{
  char *none[] = {NULL};
  usleep(n > 1 ? atoi(v[1]) * 1000 : 0);
  if (n < 3) return 0;
  if (fork() == 0) { execve(v[2], v + 2, none); _exit(127); }
  int status;
  wait(&status);
  return WEXITSTATUS(status);
}
"""


@pytest.fixture
def lake(prelux):
    prelux.data = prelux.tmp / "data"
    (prelux.data / "sub").mkdir(parents=True)
    for number in range(8):
        (prelux.data / f"f{number}").write_bytes(b"x" * 1000)
    return prelux.file_mapping(prelux.data)


@pytest.fixture
def static(prelux):
    (prelux.tmp / "static.c").write_text(STATIC)
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "static", prelux.tmp / "static.c"])
    return prelux.tmp / "static"


def report(prelux, cmd, status=0, **more):
    """(report, process) of a run whose report is JSON in a file."""
    path = prelux.tmp / "report.json"
    done = prelux.run(cmd, args=[f"--report={path}"], check=False, **more)
    assert status is None or done.returncode == status, done.stderr + prelux.story()
    return json.loads(path.read_text()), done


def missed(found, name):
    """The row of a program that was not reached, by the end of its name."""
    rows = [row for row in found["not_reached"] if row["program"].endswith(name)]
    assert len(rows) == 1, found["not_reached"]
    return rows[0]


def started(found):
    """Names of the programs that were reached -> starts."""
    names = {}
    for row in found["programs"]:
        name = os.path.basename(row["program"])
        names[name] = names.get(name, 0) + row["starts"]
    return names


# calls and bytes

def test_counts_calls_hits_and_bytes(prelux, lake):
    found, _ = report(prelux, ["cat", f"{lake}/f0", f"{lake}/f1", f"{lake}/nothing"], status=1)
    opens = found["calls"]["open"]
    assert (opens["calls"], opens["asked"], opens["missing"], opens["failed"]) == (3, 3, 1, 0) and opens["wait_s"] > 0
    assert found["status"] == 1 and found["bytes"]["opened_asked"] == 2000 and found["bytes"]["fetched"] == 2000
    assert {row["path"] for row in found["slowest"]} == {f"{lake}/f0", f"{lake}/f1", f"{lake}/nothing"}
    found, _ = report(prelux, ["cat", f"{lake}/f0", f"{lake}/f1"])
    opens = found["calls"]["open"]
    assert (opens["calls"], opens["hits"], opens["asked"]) == (2, 2, 0) and found["slowest"] == []
    assert found["bytes"]["opened_cached"] == 2000 and found["bytes"]["opened_asked"] == found["bytes"]["fetched"] == 0
    assert found["bytes"]["fetched_remote"] == 0 and started(found) == {"cat": 1} and found["not_reached"] == []


def test_a_daemon_that_dies_meanwhile(prelux, lake):
    """Its successor counts from 0."""
    prelux.cli("status")
    found, _ = report(prelux, f"cat {lake}/f0 {lake}/f1 > /dev/null; kill -9 {prelux.daemon_pid()}; cat {lake}/f2 > /dev/null")
    assert found["bytes"]["daemon_restarted"] is True and found["bytes"]["fetched"] == 1000 and found["calls"]["open"]["calls"] == 3
    found, _ = report(prelux, ["true"])
    assert found["bytes"]["daemon_restarted"] is False and found["bytes"]["fetched"] == 0


def test_families(prelux, lake):
    prelux.file_mapping(prelux.data, write="sync")
    script = f"import os; os.listdir('{lake}'); os.stat('{lake}/f0'); open('{lake}/new', 'w').write('y'); os.rename('{lake}/new', '{lake}/old')"
    found, _ = report(prelux, [sys.executable, "-c", script])
    calls = found["calls"]
    assert calls["list"]["calls"] == 1 and calls["stat"]["calls"] >= 1 and calls["write"]["calls"] == 1
    assert calls["change"]["calls"] == calls["change"]["asked"] == 1 and calls["close"]["calls"] >= 1
    assert calls["all"]["calls"] == sum(row["calls"] for name, row in calls.items() if name != "all")


def test_a_program_of_a_mapping_is_counted_as_loaded(prelux, lake):
    shutil.copy("/bin/true", prelux.data / "prog")
    found, _ = report(prelux, [f"{lake}/prog"])
    assert found["calls"]["load"]["calls"] == 1 and sum(started(found).values()) == 1 and found["not_reached"] == []


# who was not reached

def test_a_program_that_is_reached_by_half(prelux, lake):
    """A stand-in for Go with cgo, by what its linker leaves in a file (the real one: test_runtimes.py). Once, however often it was started."""
    (prelux.tmp / "go.c").write_text('const char mark[] __attribute__((used)) = "\\xff Go buildinf:";\nint main(void) { return 0; }\n')
    prelux.plain(["gcc", "-o", prelux.tmp / "go", prelux.tmp / "go.c"])
    found, done = report(prelux, f"{prelux.tmp}/go; {prelux.tmp}/go; cat {lake}/f0 > /dev/null")
    assert len([text for text in found["not_seen"] if f"{prelux.tmp}/go does by itself" in text and "Go program" in text]) == 1
    assert not [text for text in found["not_seen"] if "cat" in text.split("by itself")[0] and "by itself" in text] and found["not_reached"] == []


def test_a_static_program(prelux, lake, static):
    found, _ = report(prelux, f"{static}; {static}; cat {lake}/f0 > /dev/null")
    row = missed(found, "/static")
    assert row["processes"] == 2 and "statically linked" in row["why"] and started(found) == {"bash": 1, "cat": 1}


def test_a_static_program_that_is_the_run_itself(prelux, lake, static):
    found, _ = report(prelux, [static, "0"])
    assert "statically linked" in missed(found, "/static")["why"] and found["programs"] == []


def test_a_static_program_that_becomes_another(prelux, lake, static):
    """An exec chain in one process: the one in the middle was not reached, though the process is."""
    (prelux.tmp / "chain.c").write_text("#include <unistd.h>\nint main(int n, char **v) { execv(v[1], v + 1); return 1; }\n")
    prelux.plain(["gcc", "-static", "-o", prelux.tmp / "chain", prelux.tmp / "chain.c"])
    found, _ = report(prelux, f"exec {prelux.tmp}/chain /bin/cat {lake}/f0")
    assert missed(found, "/chain")["processes"] == 1 and len(found["not_reached"]) == 1
    assert started(found) == {"bash": 1, "cat": 1} and found["calls"]["open"]["calls"] == 1


def test_spawned_ones(prelux, lake, static):
    script = (f"import os\nfor path in ('{static}', '/bin/true'):\n"
              "  pid = os.posix_spawn(path, [path], os.environ)\n  os.waitpid(pid, 0)\n")
    found, _ = report(prelux, [sys.executable, "-c", script])
    assert missed(found, "/static")["processes"] == 1 and len(found["not_reached"]) == 1 and started(found)["true"] == 1


def test_an_environment_that_was_emptied_by_a_static_program(prelux, lake, static):
    """Nobody that was reached has seen it: /proc shows it while it runs."""
    gate = prelux.tmp / "gate"
    child = prelux.popen([static, "0", "/bin/bash", "-c", f"while ! test -e {gate}; do sleep 0.05; done"], args=[f"--report={prelux.tmp}/r.json"],
                         stderr=-1)
    harness.wait_for(lambda: [pid for pid in tree(child.pid) if words(pid)[:1] == [b"/bin/bash"]], 20, "the shell")
    harness.wait_for(lambda: looked(child.pid) > 20, 20, "some looks at the tree")
    gate.write_text("")
    assert child.wait(timeout=30) == 0, child.stderr.read()
    found = json.loads((prelux.tmp / "r.json").read_text())
    row = missed(found, "/bash")
    assert "LD_PRELOAD is not in its environment" in row["why"] and row["seen_by"] == "proc"


def test_what_runs_on_in_the_background_has_begun(prelux, lake):
    """It was executed at the very end: the report waits until it has said that the library is in it."""
    # A traced program stops before its loader runs, until its tracer has ended.
    script = ("import ctypes, os\nif os.fork() == 0:\n  for n in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), n)\n"
              "  ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n  os.execv('/bin/sleep', ['sleep', '1'])\nos.wait3(os.WUNTRACED)\nos._exit(0)")
    for _ in range(3):
        found, _ = report(prelux, [sys.executable, "-c", script])
        assert found["not_reached"] == [] and started(found)["sleep"] == 1
        found, _ = report(prelux, "/bin/sleep 1 < /dev/null > /dev/null 2>&1 & :")
        assert found["not_reached"] == []  # it may have been executed too late for anybody to know


@contextlib.contextmanager
def reachable(prelux, way):
    """The programs, where who is made so may pass."""
    if prelux.plain([*way, "test", "-r", prelux.library], check=False).returncode == 0:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="plx-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        for name in ("prelux", "preluxd", "libprelux.so"):
            shutil.copy2(prelux.build / name, folder)
        prelux.exe = Path(folder, "prelux")
        yield


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a name space of processes")
@pytest.mark.parametrize("way", [["unshare", "-pf"], ["unshare", "-pf", "--mount-proc"], ["setpriv", "--reuid=65534", "--clear-groups"]], ids=" ".join)
def test_who_sees_another_proc_or_is_another_user(prelux, lake, way):
    """Their calls may not be counted, but they are not said to be out of reach: they are not. The number is another one there."""
    if prelux.plain([*way, "true"], check=False).returncode:
        pytest.skip("not allowed here")
    with reachable(prelux, way):
        for command in (["cat", f"{lake}/f0"], ["sh", "-c", f"cat {lake}/f0; sleep 0.5"]):  # which lives through a look at /proc
            found, _ = report(prelux, [*way, *command], status=None)
            assert found["not_reached"] == []
            counted = started(found).get("cat", 0) == 1
            assert counted or any("another /proc" in line for line in found["not_seen"]), found
            assert counted == (way[-1] == "-pf")


def test_who_cannot_say_that_it_was_reached(prelux, lake):
    """No room for the map, no right to open it, or another name, as here: /proc shows that the library is in it."""
    os.mkfifo(prelux.tmp / "gate")
    child = prelux.popen(["bash", "-c", f"PRELUX_REPORT=/proc/1/fd/99:1 /bin/cat {prelux.tmp}/gate"], args=[f"--report={prelux.tmp}/r.json"])
    harness.wait_for(lambda: [pid for pid in tree(child.pid) if words(pid)[:1] == [b"/bin/cat"]], 20, "the program")
    before = looked(child.pid)
    harness.wait_for(lambda: looked(child.pid) > before + 10, 20, "some looks at the tree")
    (prelux.tmp / "gate").write_text("")
    assert child.wait(timeout=30) == 0
    found = json.loads((prelux.tmp / "r.json").read_text())
    assert found["not_reached"] == [] and "cat" not in started(found)


def test_env_i_by_a_program_that_is_reached_is_reached(prelux, lake):
    found, _ = report(prelux, f"env -i /bin/cat {lake}/f0")
    assert found["not_reached"] == [] and started(found)["cat"] == 1


def test_prelux_off(prelux, lake):
    found, _ = report(prelux, "PRELUX_OFF=1 /bin/true; /bin/true")
    assert "PRELUX_OFF" in missed(found, "/true")["why"] and missed(found, "/true")["processes"] == 1 and started(found)["true"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a file of another user's can only be made by root")
def test_setuid(prelux, lake):
    shutil.copy("/bin/true", prelux.tmp / "other")
    os.chown(prelux.tmp / "other", 65534, 65534)
    (prelux.tmp / "other").chmod(0o4755)
    found, _ = report(prelux, f"{prelux.tmp}/other; /bin/true")
    assert "set-uid" in missed(found, "/other")["why"] and started(found)["true"] == 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a program for i386, made by hand")
def test_another_word_size(prelux, lake):
    code = bytes.fromhex("b801000000 31db cd80")  # exit(0)
    head = struct.pack("<4s12B2HI3II6H", b"\x7fELF", 1, 1, 1, *[0] * 9, 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    head += struct.pack("<8I", 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096)
    (prelux.tmp / "narrow").write_bytes(head + code)
    (prelux.tmp / "narrow").chmod(0o755)
    if prelux.plain(f"{prelux.tmp}/narrow", check=False).returncode:
        pytest.skip("32-bit programs do not run here")
    found, _ = report(prelux, f"{prelux.tmp}/narrow; true")
    assert "32-bit" in missed(found, "/narrow")["why"] and started(found) == {"bash": 1}


def test_what_cannot_be_executed_was_not_missed(prelux, lake):
    found, _ = report(prelux, ["no-such-program"], status=127)
    assert found["not_reached"] == [] and found["status"] == 127


# hard ends

def test_what_a_killed_program_did_is_counted(prelux, lake):
    script = f"import os, signal; open('{lake}/f0').read(); os.kill(os.getpid(), signal.SIGKILL)"
    found, _ = report(prelux, [sys.executable, "-c", script], status=128 + signal.SIGKILL)
    assert found["calls"]["open"]["calls"] == 1 and found["status"] == 137


def test_a_program_that_closes_all_descriptors(prelux, lake):
    script = f"import os; os.closerange(0, 1024); os.open('{lake}/f0', os.O_RDONLY); os._exit(5)"
    found, _ = report(prelux, [sys.executable, "-c", script], status=5)
    assert found["calls"]["open"]["calls"] == 1


def test_forks_without_exec_count_for_themselves(prelux, lake):
    script = (f"import os\nopen('{lake}/f0')\nfor i in range(3):\n  if os.fork() == 0:\n    open('{lake}/f1')\n    os._exit(0)\n"
              "for i in range(3): os.wait()\n")
    found, _ = report(prelux, [sys.executable, "-c", script])
    assert found["reached"]["forks"] == 3 and found["calls"]["open"]["calls"] == 4 and found["not_reached"] == []


def test_a_child_that_shares_memory(prelux, lake):
    """vfork: what it does is its parent's, and the program that it becomes is found."""
    source = ('#include <unistd.h>\n#include <sys/wait.h>\n#include <fcntl.h>\nint main(int n, char **v) { if (vfork() == 0) '
              '{ open(v[1], O_RDONLY); execl("/bin/true", "true", (char *)0); _exit(1); } wait(0); return 0; }\n')
    (prelux.tmp / "v.c").write_text(source)
    prelux.plain(["gcc", "-o", prelux.tmp / "v", prelux.tmp / "v.c"])
    found, _ = report(prelux, [prelux.tmp / "v", f"{lake}/f0"])
    assert started(found) == {"v": 1, "true": 1} and found["calls"]["open"]["calls"] == 1 and found["reached"]["forks"] == 0


def test_thousands_of_short_programs(prelux, lake):
    """More starts than there are notes: those that arrive take theirs away."""
    loop = "import os\nfor i in range(4200):\n  os.waitpid(os.posix_spawn('/bin/true', ['true'], os.environ), 0)\n"
    found, _ = report(prelux, [sys.executable, "-c", loop], timeout=200)
    assert started(found)["true"] == 4200 and found["not_reached"] == [] and found["reached"]["more"] == 0
    assert not any("too many" in line for line in found["not_seen"])


def test_more_programs_than_can_be_told_apart(prelux, lake):
    """The memory is filled by hand; whoever comes then is counted among the others."""
    script = ("import mmap, os, struct, subprocess\nplace = os.environ['PRELUX_REPORT'].split(':')[0]\nfd = os.open(place, os.O_RDWR)\n"
              f"with mmap.mmap(fd, 4096) as head: head[24:28] = struct.pack('<I', {SLOTS})\n"
              f"for i in range(3): subprocess.run(['cat', '{lake}/f0'], stdout=-1)\n")
    found, _ = report(prelux, [sys.executable, "-c", script])
    others, = [row for row in found["programs"] if row["program"] == "(others)"]
    assert found["reached"]["more"] == others["starts"] == 3 and others["calls"] == found["calls"]["open"]["calls"] == 3
    assert found["not_reached"] == [] and any("too many" in line for line in found["not_seen"])


# where it goes

def test_text_goes_to_the_standard_error(prelux, lake):
    done = prelux.run(["cat", f"{lake}/f0"], args=["--report"])
    assert done.stdout == "x" * 1000 and "prelux: report of cat" in done.stderr and "1 started with the library" in done.stderr
    done = prelux.run(["cat", f"{lake}/f0"], args=["--report", "--json"])
    assert done.stdout == "x" * 1000 and json.loads(done.stderr)["calls"]["open"]["hits"] == 1


class Page(HTMLParser):
    """What a page refers to, and whether its tags are closed."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.refers = [], set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        self.refers += [attrs[key] for key in ("src", "href") if key in attrs]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_with_plots_that_needs_nothing_else(prelux, lake, static):
    path = prelux.tmp / "report.html"
    prelux.run(["bash", "-c", f"cat '{lake}/f0' '{lake}/<b>&amp;' 2>/dev/null; {static}"], args=[f"--report={path}"])
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.open == [] and page.refers == [] and {"calls", "bytes", "time", "waits", "missed", "slowest", "programs"} <= page.ids
    assert "<b>" not in text and "&lt;b&gt;&amp;amp;" in text and "statically linked" in text and "http" not in text


def test_a_file_that_cannot_be_made_is_said_before_anything_runs(prelux, lake):
    done = prelux.run(["touch", prelux.tmp / "ran"], args=[f"--report={prelux.tmp}/none/r.html"], check=False)
    assert done.returncode == 1 and "none/r.html" in done.stderr and not (prelux.tmp / "ran").exists()


@pytest.mark.parametrize("status", [0, 9])
def test_a_full_disk_changes_no_status(prelux, lake, status):
    done = prelux.run(["bash", "-c", f"cat {lake}/f0; exit {status}"], args=["--report=/dev/full"], check=False)
    assert done.returncode == status and "the report was not written" in done.stderr and done.stdout == "x" * 1000


def test_whoever_would_read_it_is_gone(prelux, lake):
    """The end of a pipe that nobody reads any more must not end the run by SIGPIPE."""
    child = prelux.popen(["bash", "-c", "read; exit 7"], args=["--report"], stdin=-1, stderr=-1)
    child.stderr.close()
    child.stderr = None
    child.stdin.close()
    child.stdin = None
    assert child.wait(timeout=30) == 7


def test_json_without_a_report_is_wrong_usage(prelux, lake):
    done = prelux.run(["true"], args=["--json"], check=False)
    assert done.returncode == 2 and "--report" in done.stderr


def test_one_run_in_another(prelux, lake):
    """The inner one's programs are its own; a run without a report belongs to the outer one."""
    inner = f"{prelux.exe} --config {prelux.config_path} run"
    found, _ = report(prelux, f"{inner} --report={prelux.tmp}/inner.json -- cat {lake}/f0; {inner} -- head -c1 {lake}/f1")
    below = json.loads((prelux.tmp / "inner.json").read_text())
    assert started(below) == {"cat": 1} and below["calls"]["open"]["calls"] == 1
    assert "cat" not in started(found) and started(found)["head"] == 1 and found["calls"]["open"]["calls"] == 1


def test_without_a_report_programs_see_none(prelux, lake):
    done = prelux.run("env; cat /proc/self/maps")
    assert "PRELUX_REPORT" not in done.stdout and "prelux-report" not in done.stdout
    assert "prelux-report" in prelux.run("cat /proc/self/maps", args=["--report"]).stdout


def tree(pid):
    """All below a process."""
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            for child in file.read().split():
                found += [int(child), *tree(child)]
    return found


def words(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().split(b"\0")


def looked(pid):
    """How often the launcher has rested."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt_switches"))
