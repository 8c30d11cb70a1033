"""Writing with little room: hardly a descriptor free, and files that may not be written to."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake, settled

# With N numbers free: the errno of each open (0: it went well), after which all is as it was before.
FULL = HEAD + """
#include <errno.h>
#include <sys/resource.h>
int main(int argc, char **argv)
{
  struct rlimit limit = {40, 40};
  int last = -1, fd, room = atoi(argv[1]);
  /* The library's own first look, and the daemon's start. */
  struct stat st; stat("none", &st);
  if (setrlimit(RLIMIT_NOFILE, &limit)) return 1;
  while ((fd = dup(2)) >= 0) last = fd;
  for (int i = 0; i < room; i++) close(last - i);
  errno = 0;
  fd = open("kept", O_WRONLY | O_TRUNC); printf("%d ", fd < 0 ? errno : 0); if (fd >= 0) { write(fd, "new", 3); close(fd); }
  fd = open("excl", O_WRONLY | O_CREAT | O_EXCL, 0644); printf("%d ", fd < 0 ? errno : 0); if (fd >= 0) close(fd);
  fd = open("made", O_RDWR | O_CREAT, 0644); printf("%d ", fd < 0 ? errno : 0); if (fd >= 0) close(fd);
  FILE *f = fopen("stream", "w"); printf("%d ", f ? 0 : errno); if (f) fclose(f);
  fd = 0; while (dup(2) >= 0) fd++;
  printf("%d\\n", fd);
  return 0;
}
"""


@pytest.mark.parametrize("free", range(4))
def test_hardly_a_descriptor_free(prelux, free):
    """Where the descriptor of an open could not be received nothing is cut and nothing is made."""
    lake = make_lake(prelux, write="sync")
    (lake.remote / "kept").write_text("old")
    program = compiled(lake.tmp, "full", FULL)
    *errnos, left = map(int, lake.run(f"cd {LOCAL} && {program} {free}").stdout.split())
    settled(lake)
    assert left == free, "numbers were lost"
    assert set(errnos) <= {0, 24}, errnos
    assert errnos == [24] * 4 if free == 0 else True
    assert errnos == [0] * 4 if free >= 2 else True
    there = {path.name: path.read_text() for path in lake.remote.iterdir()}
    want = {"kept": "new" if errnos[0] == 0 else "old"}
    want.update({name: "" for name, errno in zip(("excl", "made", "stream"), errnos[1:]) if errno == 0})
    assert there == want, errnos
    assert not lake.cli("pending", "list", "--json")["files"]


def test_a_file_without_a_w_bit(prelux):
    """Who is not root gets EACCES, whether the library knew the file before or the daemon had to look; who makes such a file writes to it."""
    if os.geteuid() != 0:
        pytest.skip("another user is needed, and only root can be one")
    top = Path(tempfile.mkdtemp(prefix="plx-narrow-", dir="/tmp"))
    try:
        for name in ("remote", "home", "run"):
            (top / name).mkdir(mode=0o700)
        for name in ("remote/unknown", "remote/known", "remote/open"):
            (top / name).write_text("old")
            (top / name).chmod(0o644 if name.endswith("open") else 0o444)
        (top / "prelux.yaml").write_text(f"""
version: 1
cache: {{dir: {top}/cache, min_free: 0}}
backends: {{src: {{type: file, root: {top}/remote}}}}
mappings: [{{local: {LOCAL}, remote: "src:/", write: async}}]
""")
        for path in (top, *top.rglob("*")):
            os.chown(path, 65534, 65534)
        (top / "bin").mkdir()
        for name in ("prelux", "preluxd", "libprelux.so"):  # the tree may lie where he has no way to
            shutil.copy(prelux.exe.parent / name, top / "bin")
        script = f"""cd {LOCAL} || exit 9
(echo new > unknown) 2>/dev/null && echo "unknown was cut"
cat unknown
ls -l known > /dev/null; cat known; (echo new >> known) 2>/dev/null && echo "known was written to"
echo new > open; cat open
umask 0222; echo mine > mine; cat mine; (echo again > mine) 2>/dev/null && echo "mine was cut"
exit 0"""
        env = {**prelux.env, "HOME": str(top / "home"), "PRELUX_RUNTIME_DIR": str(top / "run")}
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", top / "bin/prelux"]
        done = subprocess.run([*user, "--config", top / "prelux.yaml", "run", "--", "bash", "-c", script], env=env, text=True,
                              capture_output=True, timeout=60, cwd=top, check=False)
        subprocess.run([*user, "daemon", "stop"], env=env, cwd=top, capture_output=True, timeout=60, check=False)
        assert done.stdout.split("\n") == ["old" + "old" + "new", "mine", ""], (done.stdout, done.stderr)
        assert (top / "remote/unknown").read_text() == (top / "remote/known").read_text() == "old"
    finally:
        shutil.rmtree(top, ignore_errors=True)
