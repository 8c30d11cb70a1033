"""Processes that leave their parent's place: daemon(3), spawned with every action and attribute, in name spaces of their own. The plain folder is the oracle."""

import subprocess

import pytest

from tests.harness import wait_for
from tests.posix.test_hooks import content, need_root, program

LAKE = "/prelux-children"
# What it has been given: signals, group and session by /proc, and a file beside it.
SCRIPT = """#!/bin/sh
grep -E 'Sig(Blk|Ign)' /proc/self/status | tr '\\n' ' '
awk '{print "group", $5 == P, "session", $6 == P}' P=$$ /proc/$$/stat
head -n 1 "${0%/*}/f000"; echo "$1"
"""


def fill(folder):
    folder.mkdir()
    for n in range(2):
        (folder / f"f{n:03}").write_text(content(f"f{n:03}"))
    (folder / "script").write_text(SCRIPT)
    (folder / "script").chmod(0o755)
    return folder


@pytest.fixture
def lake(prelux):
    """A writable mapping; .source is its remote and .copy the same in a plain folder."""
    prelux.source, prelux.copy = fill(prelux.tmp / "source"), fill(prelux.tmp / "copy")
    prelux.file_mapping(prelux.source, LAKE, write="sync")
    return prelux


def contents(folder):
    return {path.name: (oct(path.stat().st_mode), path.read_bytes()) for path in folder.iterdir()}


@pytest.mark.parametrize("noclose", [0, 1])
@pytest.mark.parametrize("nochdir", [0, 1])
def test_daemon(lake, nochdir, noclose):
    prog, said = program(lake, "children"), []
    for run, folder in ((lake.plain, lake.copy), (lake.run, LAKE)):
        out = lake.tmp / f"out-{len(said)}"
        run([prog, "daemon", folder, nochdir, noclose, out])
        wait_for(out.exists, 30, "the daemon's words")
        said.append(out.read_text())
    assert said[0] == said[1] and ("relative 1" in said[0]) == bool(nochdir) and "from the root 1\nread 1, write 1" in said[0]
    wait_for(lambda: contents(lake.source) == contents(lake.copy), 30, "what the daemon made")


def test_spawn_with_every_action_and_attribute(lake):
    prog = program(lake, "children")
    want = lake.plain([prog, "spawn", lake.copy, lake.copy / "script"]).stdout
    assert want.count("status 0") == 19 and want.count("group 1") == 4 and want.count("session 1") == 2
    assert lake.run([prog, "spawn", LAKE, f"{LAKE}/script"]).stdout == want
    assert (lake.copy / "out").read_text().replace("copy\n", "prelux-children\n") == (lake.source / "out").read_text()
    assert (lake.copy / "err").read_text() == (lake.source / "err").read_text() == "err\n"
    assert (lake.source / "out").stat().st_mode == (lake.copy / "out").stat().st_mode


def test_spawn_that_is_given_the_terminal(lake):
    prog = program(lake, "children")
    want = lake.plain([prog, "terminal", lake.copy, lake.copy / "script"], check=False)
    if want.returncode or want.stdout.startswith("no "):
        pytest.skip(f"no action for a terminal here: {want.stdout}{want.stderr}")
    assert "terminal: ok, status 0\n" in want.stdout and "word\n" in want.stdout
    assert lake.run([prog, "terminal", LAKE, f"{LAKE}/script"]).stdout == want.stdout


@pytest.mark.parametrize("flags", ["--user --map-root-user", "--mount", "--pid --fork --mount-proc", "--net", "--uts", "--ipc", "--cgroup",
                                   "--user --map-root-user --mount --pid --fork --net --uts --ipc"])
def test_name_spaces(lake, flags):
    """A process that a name space was made for: it is served, also what must be asked for, and what it writes arrives."""
    need_root()
    argv = ["unshare", *flags.split()]
    if subprocess.run([*argv, "true"], capture_output=True).returncode:
        pytest.skip(f"no unshare {flags} here")
    script = "cd {} && cat f000 && ls && ./script word | tail -n 2 && echo new > made && mv made moved && cat moved && sh -c 'cat < f001'"
    want = lake.plain([*argv, "sh", "-c", script.format(lake.copy)]).stdout
    assert lake.run([*argv, "sh", "-c", script.format(LAKE)]).stdout == want
    lake.cli("flush")
    assert contents(lake.source) == contents(lake.copy)


SHARED = r"""
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
static void shared(const char *path)
{
  pid_t pid = vfork();
  if (pid == 0) {
    int fd = open(path, O_RDONLY);
    close(fd);
    _exit(fd < 0);
  }
  waitpid(pid, 0, 0);
}
int main(int n, char **v)
{
  int status;
  shared(v[1]);
  pid_t pid = fork();
  if (pid == 0) {
    shared(v[1]); /* before anything else */
    int fd = open(v[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    _exit(fd < 0 || write(fd, "written", 7) != 7 || close(fd) != 0 ? 2 : access(v[3], F_OK) != 0);
  }
  return waitpid(pid, &status, 0) != pid || status != 0;
}
"""


def test_a_child_whose_first_call_is_vfork(lake):
    """Of a process that has called it before: the memory is the child's own, and a file that it closes is on the remote."""
    (lake.tmp / "shared.c").write_text(SHARED)
    subprocess.run(["cc", "-w", "-O1", "-o", lake.tmp / "shared", lake.tmp / "shared.c"], check=True)
    lake.run([lake.tmp / "shared", f"{LAKE}/f000", f"{LAKE}/new", lake.source / "new"])
    assert (lake.source / "new").read_text() == "written"
