"""The last descriptor of a file that was written is closed by somebody who tells nobody: an exec, a process that was handed it, one without
the library. The remote has the bytes a moment later all the same, while whoever closed it lives on."""

import os
import signal
import time

import pytest

from tests.harness import wait_for
from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake

SOON = 4  # seconds: the kernel tells at once; the daemon looks around every 5 s
MORE = HEAD + """
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
static int sock[2];
static void send_fd(int fd)
{
  char c[CMSG_SPACE(sizeof(int))], b = 0; struct iovec v = {&b, 1};
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
  *(struct cmsghdr *)c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA((struct cmsghdr *)c), &fd, sizeof fd); sendmsg(sock[0], &m, 0);
}
static int receive_fd(int from)
{
  char c[CMSG_SPACE(sizeof(int))], b; struct iovec v = {&b, 1}; int fd;
  struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
  recvmsg(from, &m, 0); memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd); return fd;
}
#define SLEEP execlp("sleep", "sleep", "60", (char *)0)
int main(int argc, char **argv)
{
  int more = argc > 1 ? atoi(argv[1]) : 0;
"""
# Each program writes "all of it" to f and then lives on without a descriptor of it.
PROGRAMS = {
    "exec": 'int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644); write(fd, "all of it", 9); SLEEP;',
    "exec-of-many": """for (int i = 0; i < 40; i++) { char n[9]; sprintf(n, "n%d", i); write(open(n, O_WRONLY | O_CREAT | O_CLOEXEC, 0644), n, 2); }
        int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644); write(fd, "all of it", 9); SLEEP;""",
    "fork-exec": """int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644); write(fd, "all of ", 7);
        if (fork()) { close(fd); pause(); } sleep(1); write(fd, "it", 2); SLEEP;""",
    "handed": """if (more) { int fd = receive_fd(more); write(fd, "all of it", 9); close(fd); pause(); }
        socketpair(AF_UNIX, SOCK_DGRAM, 0, sock); char n[9]; sprintf(n, "%d", sock[1]);
        if (fork() == 0) execl(argv[0], argv[0], n, (char *)0);
        int fd = open("f", O_WRONLY | O_CREAT, 0644); send_fd(fd); close(fd); pause();""",
    "on-its-way": """int fd = open("f", O_WRONLY | O_CREAT, 0644); socketpair(AF_UNIX, SOCK_DGRAM, 0, sock); write(fd, "all of it", 9); send_fd(fd); close(fd);
        sleep(1); close(sock[0]); close(sock[1]); pause();""",
    "inherited": """if (more) { write(more, "all of it", 9); close(more); pause(); }
        int fd = open("f", O_WRONLY | O_CREAT, 0644); dup2(fd, 300); close(fd); if (fork() == 0) execl(argv[0], argv[0], "300", (char *)0); close(300); pause();""",
    "inherited-end": """if (more) { write(more, "all of it", 9); _exit(0); }
        int fd = open("f", O_WRONLY | O_CREAT, 0644); dup2(fd, 300); close(fd); if (fork() == 0) execl(argv[0], argv[0], "300", (char *)0); close(300); pause();""",
    "beyond-the-table": 'int fd = open("f", O_WRONLY | O_CREAT, 0644); write(fd, "all of it", 9); dup2(fd, 5000); close(fd); close(5000); pause();',
    "unhooked": """int fd = open("f", O_WRONLY | O_CREAT, 0644); dup2(fd, 0); close(fd);
        if (fork() == 0) execl(getenv("STATIC"), "static", (char *)0); close(0); pause();""",
    "spawned-beside-a-child": """posix_spawn_file_actions_t a; posix_spawn_file_actions_init(&a); pid_t p; char *v[] = {"printf", "all of it", 0};
        posix_spawn_file_actions_addopen(&a, 1, "f", O_WRONLY | O_CREAT, 0644); posix_spawnp(&p, "printf", &a, 0, v, environ); waitpid(p, 0, 0);
        if (fork() == 0) pause(); posix_spawn_file_actions_destroy(&a); pause();""",
    "map": """int fd = open("f", O_RDWR | O_CREAT, 0644); ftruncate(fd, 9); char *p = mmap(0, 9, PROT_WRITE, MAP_SHARED, fd, 0); close(fd);
        memcpy(p, "all of it", 9); munmap(p, 9); pause();""",
}


def read(file):
    try:
        return file.read_bytes()
    except OSError:
        return None


def is_sent(lake):
    return read(lake.remote / "f") == b"all of it"


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_closed_without_a_word(prelux, name, mode):
    lake = make_lake(prelux, write=mode)
    static = compiled(lake.tmp, "static", 'int main(void) { write(0, "all of it", 9); close(0); pause(); }', "-static")
    program = compiled(lake.tmp, name, MORE + PROGRAMS[name] + "}")
    child = lake.popen(f"ulimit -n 6000; cd {LOCAL} && exec {program}", env={"STATIC": static}, start_new_session=True)
    try:
        wait_for(lambda: is_sent(lake) or any(read(file) == b"all of it" for file in lake.cache.rglob("staging/*")), 30, "the writer")
        begin = time.monotonic()
        watched = "no inotify" not in lake.log()  # the machine has 128 for all its tests
        wait_for(lambda: is_sent(lake), SOON if watched else 4 * SOON, f"the bytes on the remote\n{lake.story()}")
        print(f"{name} {mode}: {time.monotonic() - begin:.2f} s")
        assert child.poll() is None
    finally:
        os.killpg(child.pid, signal.SIGKILL)


AT_EXEC = """
  if (more) { /* what comes does nothing of its own */
    printf("%s", getenv("PRELUX_WRITERS")); fflush(stdout); execlp("cat", "cat", argv[2], (char *)0);
  }
  int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), other = open("g", O_WRONLY | O_CREAT, 0644); write(fd, " all of it", 10);
  execl("none", "none", (char *)0); write(fd, " and more", 9);
  execl(argv[0], argv[0], "1", argv[1], (char *)0);
}"""


@pytest.mark.parametrize("through", ["", "fork"])
def test_exec_is_a_close(prelux, through):
    """sync: the program that comes begins when the remote has what exec closed, and tells of it once."""
    lake = make_lake(prelux, write="sync")
    source = MORE + AT_EXEC
    if through:
        source = source.replace("  execl(argv[0]", "  if (fork()) { close(fd); wait(0); return 0; } usleep(200000); execl(argv[0]")
    program = compiled(lake.tmp, "exec", source)
    # A first argument that is no number is 0 to the program.
    assert lake.run(f"cd {LOCAL} && {program} {lake.remote}/f").stdout == "1 all of it and more"


AT_END = """
  if (more) { write(more, "all of it", 9); %s; }
  int fd = open("f", O_WRONLY | O_CREAT, 0644), high = fcntl(fd, F_DUPFD, 300); close(fd);
  if (fork() == 0) execl(argv[0], argv[0], "300", (char *)0);
  close(high); wait(NULL);
  return execlp("cat", "cat", argv[1], (char *)0);
}"""


@pytest.mark.parametrize("end", ["return 0", "_exit(0)", "exit(0)", "close(more); _exit(0)"])
def test_the_end_of_who_inherited_a_high_number(prelux, end):
    """sync: who waits for it finds the bytes on the remote."""
    lake = make_lake(prelux, write="sync")
    program = compiled(lake.tmp, "end", MORE + AT_END % end)
    assert lake.run(f"cd {LOCAL} && {program} {lake.remote}/f").stdout == "all of it"
