"""Closes of `write: async` that were acknowledged, and killed at once: by whom, and where, is of no matter to what was closed."""

import os

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
