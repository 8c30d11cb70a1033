"""What a second hostile review of the library's writing found: streams that libc closes inside itself, other preloads behind ours that call the kernel
by number, a place without /proc, exit() in a signal handler."""

import subprocess

import pytest

from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake


@pytest.fixture
def lake(prelux):
    return make_lake(prelux, write="sync")


MNTENT = HEAD + """
#include <mntent.h>
#include <sys/socket.h>
int main(void)
{
  /* Closed by libc inside itself: it is sent all the same. */
  FILE *t = setmntent("table", "w");
  struct mntent row = {"device", "folder", "type", "options", 1, 2};
  printf("%d ", addmntent(t, &row));
  printf("%d ", endmntent(t));
  fflush(stdout);
  if (system("cat \\"$REMOTE/table\\"")) return 1;
  /* Its number comes again, by a way that no library sees. */
  int mine = open("table", O_RDONLY), sock[2];
  socketpair(AF_UNIX, SOCK_DGRAM, 0, sock);
  FILE *m = setmntent("/etc/passwd", "r");
  int number = fileno(m);
  endmntent(m);
  char c[CMSG_SPACE(sizeof(int))], b = 0; struct iovec v = {&b, 1};
  struct msghdr h = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
  *(struct cmsghdr *)c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA((struct cmsghdr *)c), &mine, sizeof mine);
  sendmsg(sock[0], &h, 0);
  recvmsg(sock[1], &h, 0);
  struct stat one, two;
  fstat(mine, &one);
  if (fstat(number, &two)) return 2;
  printf("%s\\n", one.st_ino == two.st_ino && one.st_dev == two.st_dev ? "the same" : "another");
  return 0;
}
"""


def test_streams_of_mntent(lake):
    program = compiled(lake.tmp, "mntent", MNTENT)
    plain = lake.tmp / "plain"
    plain.mkdir()
    want = lake.plain([program], cwd=plain, env={"REMOTE": plain}).stdout
    assert want.startswith("0 1 device folder") and want.endswith("the same\n")
    assert lake.run(f"cd {LOCAL} && {program}", env={"REMOTE": lake.remote}).stdout == want


def test_the_umask_where_no_proc_is(lake):
    """What it is cannot be asked there: what is made is the owner's alone."""
    if lake.plain("unshare -rm true", check=False).returncode:
        pytest.skip("no user namespaces here")
    lake.run("true")
    # A tmpfs over /proc, once all have started.
    code = f"""if 1:
        import ctypes, os
        os.umask(0o022)
        assert ctypes.CDLL(None).unshare(0x10020000) == 0, "unshare"
        assert ctypes.CDLL(None, use_errno=True).mount(b"none", b"/proc", b"tmpfs", 0, None) == 0, os.strerror(ctypes.get_errno())
        assert os.listdir("/proc") == []
        os.close(os.open("{LOCAL}/f", os.O_WRONLY | os.O_CREAT, 0o666))
        os.mkdir("{LOCAL}/d", 0o777)
        """
    lake.run(["python3", "-c", code])
    assert [oct((lake.remote / name).stat().st_mode & 0o777) for name in ("f", "d")] == ["0o600", "0o700"]
