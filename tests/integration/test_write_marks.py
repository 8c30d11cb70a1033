"""Closes of `write: async` that were acknowledged, and killed at once: by whom, and where, is of no matter to what was closed."""

import os
import subprocess

import pytest

from tests.harness import wait_for
from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake, settled

PROGRAM = HEAD + """
#include <signal.h>
static void put(const char *name, int flags, const char *text, int closes)
{
  int fd = open(name, O_WRONLY | O_CREAT | flags, 0644);
  if (fd < 0 || write(fd, text, strlen(text)) != (long)strlen(text) || (closes && close(fd))) _exit(9);
}
int main(int argc, char **argv)
{
  chdir(argv[1]);
  put("f", 0, "whole", 1);
  if (strcmp(argv[2], "other") == 0 && fork()) pause();
  if (strcmp(argv[2], "closed")) put("f", O_APPEND, " half", 0);
  kill(strcmp(argv[2], "other") ? getpid() : 0, SIGKILL);
  for (;;) pause();
}
"""


@pytest.mark.parametrize("how, text", [("closed", "whole"), ("again", "whole half"), ("other", "whole half")])
@pytest.mark.parametrize("place", ["here", "namespace"])
def test_what_was_closed_is_sent(prelux, how, text, place):
    """Whatever its process number is for the daemon; and with what was put behind it."""
    if place == "namespace" and prelux.plain("unshare -rpf true", check=False).returncode:
        pytest.skip("no namespaces of processes here")
    lake = make_lake(prelux, write="async")
    program = compiled(lake.tmp, "closes", PROGRAM)
    lake.run("true")
    words = ["unshare", "-rpf", "--kill-child", "sh", "-c", '"$@"; true', "sh"] if place == "namespace" else []
    for _ in range(3):
        lake.run(["setsid", "-w", *words, program, LOCAL, how], check=False)
        settled(lake)
        wait_for(lambda: (lake.remote / "f").exists(), 10, f"the file: {lake.story()}")
        assert not lake.cli("pending", "list", "--json")["files"]
        assert (lake.remote / "f").read_text() == text
        lake.run(f"rm {LOCAL}/f")
        settled(lake)
        os.sync()


UNSEEN = HEAD + """
#include <sys/mman.h>
#include <sys/resource.h>
int main(int argc, char **argv)
{
  const struct rlimit many = {6000, 6000};
  int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (fd < 0 || ftruncate(fd, 4096) || setrlimit(RLIMIT_NOFILE, &many)) return 9;
  char *map = strcmp(argv[2], "map") ? NULL : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int high = map ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 5000);
  if (map == MAP_FAILED || (!map && high < 5000) || close(fd)) return 8;
  if (map) memcpy(map, "half", 4);
  else if (write(high, "half", 4) != 4) return 7;
  puts("up");
  fflush(stdout);
  for (;;) pause();
}
"""


@pytest.mark.parametrize("by", ["map", "number"])
def test_who_writes_on_behind_his_close_is_killed(prelux, by):
    """By a shared map, or a copy at a number that the library keeps no account of: the close said nothing of that."""
    lake = make_lake(prelux, write="async")
    (lake.remote / "f").write_text("theirs")
    program = compiled(lake.tmp, "unseen", UNSEEN)
    lake.run("true")
    child = lake.popen([program, f"{LOCAL}/f", by], bare=True, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "up\n"
    child.kill()
    child.wait(30)
    wait_for(lambda: [row["state"] for row in lake.cli("pending", "list", "--json")["files"]] != ["open"], 30, f"a verdict: {lake.story()}")
    assert [row["state"] for row in lake.cli("pending", "list", "--json")["files"]] == ["recovered"], lake.story()
    assert (lake.remote / "f").read_text() == "theirs"
