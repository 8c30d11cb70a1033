"""A process loses its POSIX locks on a file when it closes any descriptor of it. So the library may open and close no file of ours in the program's
process where libc would not: what a program does beside its lock leaves the lock as a plain folder does."""

import os
import sys

import pytest

from tests.integration.test_write_ends import HEAD, compiled
from tests.integration.write_rig import LOCAL, make_lake

# Each is done with a lock on "f", which is open; the answer is printed, then whether another process still finds the lock.
DEEDS = {
    "nothing": "",
    "truncate": 'truncate("f", 3);',
    "truncate-0": 'truncate("f", 0);',
    "truncate-beyond": 'truncate("f", 100000);',
    "truncate-by-number": 'syscall(SYS_truncate, "f", 3L);',
    "coded-append": 'FILE *s = fopen("f", "a,ccs=UTF-8"); fputs("x", s); fflush(s);',
    "coded-write": 'FILE *s = fopen("f", "w,ccs=UTF-8"); fputs("x", s); fflush(s);',
    "coded-read": 'FILE *s = fopen("f", "r,ccs=UTF-8"); printf("%d ", fgetwc(s));',
    "freopen-fails": 'FILE *s = fopen("other", "w"); printf("%d ", freopen("f/", "w", s) == NULL);',
    "freopen": 'FILE *s = fopen("other", "w"); s = freopen("f", "a", s); fputs("x", s); fflush(s);',
    "spawn-append": """posix_spawn_file_actions_t a; posix_spawn_file_actions_init(&a); pid_t p; char *v[] = {"sh", "-c", "echo more", 0};
        printf("%d ", posix_spawn_file_actions_addopen(&a, 1, "f", O_WRONLY | O_APPEND, 0));
        printf("%d ", posix_spawnp(&p, "sh", &a, 0, v, environ));
        posix_spawn_file_actions_destroy(&a); waitpid(p, 0, 0);""",
    "spawn-write": """posix_spawn_file_actions_t a; posix_spawn_file_actions_init(&a); pid_t p; char *v[] = {"sh", "-c", "echo more", 0};
        posix_spawn_file_actions_addopen(&a, 1, "f", O_WRONLY | O_CREAT | O_TRUNC, 0600); printf("%d ", posix_spawnp(&p, "sh", &a, 0, v, environ));
        waitpid(p, 0, 0); posix_spawn_file_actions_destroy(&a);""",
    "spawn-read": """posix_spawn_file_actions_t a; posix_spawn_file_actions_init(&a); pid_t p; char *v[] = {"wc", "-c", 0};
        posix_spawn_file_actions_addopen(&a, 0, "f", O_RDONLY, 0); fflush(stdout); printf("%d ", posix_spawnp(&p, "wc", &a, 0, v, environ));
        posix_spawn_file_actions_destroy(&a); waitpid(p, 0, 0);""",
    "looks": """struct stat st; stat("f", &st); lstat("f", &st); fstat(fd, &st); access("f", W_OK); char b[99]; readlink("f", b, 99); free(realpath("f", 0));
        getxattr("f", "user.x", b, 9); close(open("f", O_PATH)); printf("%d ", inotify_add_watch(inotify_init(), "f", IN_MODIFY));
        DIR *d = opendir("."); while (readdir(d)); closedir(d); ftok("f", 1); struct statvfs v; statvfs("f", &v); glob_t g; glob("*", 0, 0, &g);""",
    "attributes": 'utime("f", 0); chmod("f", 0640); chown("f", -1, getgid()); fchmod(fd, 0600); futimens(fd, 0); setxattr("f", "user.y", "", 0, 0);',
    "refusals": """errno = 0; open("f/", O_RDONLY); printf("%d ", errno); open("f", O_RDONLY | O_DIRECTORY); printf("%d ", errno);
        open("f/x", O_RDONLY); printf("%d ", errno);
        open("f", O_WRONLY | O_CREAT | O_EXCL, 0600); printf("%d ", errno); mknod("f", S_IFREG | 0600, 0); printf("%d ", errno);
        opendir("f"); printf("%d ", errno);
        mkdir("f", 0700); printf("%d ", errno); truncate("f/", 1); printf("%d ", errno); chdir("f"); printf("%d ", errno);""",
    "exec-refused": 'execl("f", "f", (char *)0); printf("%d ", errno);',
    "spawn-itself": """write(fd, "\\n", 1); pwrite(fd, "#!/bin/true\\n", 12, 0); fchmod(fd, 0755); pid_t p; char *v[] = {"f", 0};
        if (posix_spawn(&p, "./f", 0, 0, v, environ) == 0) waitpid(p, 0, 0);""",
    "exec-itself": """unlink("f"); char b[4096]; sprintf(b, "cp %s f && chmod 755 f", argv[0]); system(b); int r = open("f", O_RDONLY); l.l_type = F_RDLCK;
        fcntl(r, F_SETLK, &l); sprintf(b, "%d", r); execl("./f", "./f", "look", b, (char *)0); perror("exec");""",
    "lockf-exec-refused": """l.l_type = F_UNLCK; fcntl(fd, F_SETLK, &l); lseek(fd, 0, SEEK_SET); printf("%d ", lockf(fd, F_TLOCK, 0));
        execl("f", "f", (char *)0); printf("%d ", errno);""",
    "names": 'rename("f", "g"); rename("g", "f"); unlink("f"); open("f", O_WRONLY | O_CREAT, 0600);',
    "other-file": 'int o = open("other", O_RDWR | O_CREAT, 0600); write(o, "x", 1); close(o); close(open("other", O_RDONLY)); unlink("other");',
}
SOURCE = HEAD + """
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <spawn.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <utime.h>
extern char **environ;
static void locked(int fd)
{
  fflush(stdout);
  if (fork() == 0) { /* it has none of the locks, and the same file */
    struct flock l = {.l_type = F_WRLCK};
    fcntl(fd, F_GETLK, &l);
    printf("%s\\n", l.l_type == F_UNLCK ? "lost" : "held");
    fflush(stdout);
    _exit(0);
  }
  wait(NULL);
}
int main(int argc, char **argv)
{
  if (argc > 2) { locked(atoi(argv[2])); return 0; }
  int fd = open("f", O_RDWR | O_CREAT, 0600);
  struct flock l = {.l_type = F_WRLCK};
  write(fd, "0123456789", 10);
  if (fcntl(fd, F_SETLK, &l)) perror("lock");
#define DEED(name) if (strcmp(argv[1], name) == 0)
%s
  locked(fd);
  return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    deeds = "\n".join(f'  DEED("{name}") {{ {deed} }}' for name, deed in DEEDS.items())
    return compiled(tmp_path_factory.mktemp("locks"), "locks", SOURCE.replace("%s\n", deeds + "\n", 1))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_locks_stay(prelux, program, mode):
    lake = make_lake(prelux, write=mode)
    plain = lake.tmp / "plain"
    plain.mkdir()
    script = "".join(f"rm -f f g other; echo -n '{name}: '; {program} {name} 2>&1; echo \"$(cat f)\" | head -c 40; echo\n" for name in DEEDS)
    want = lake.plain(f"umask 022; cd {plain}\n{script}").stdout
    assert "lost" in want and want.count("held") > len(DEEDS) - 4
    got = lake.run(f"umask 022; cd {LOCAL}\n{script}").stdout
    assert got == want, lake.story()


FLOCKS = """
import fcntl, sys
late = 0
for n in range(400):
    f = open(f"l{n % 5}", "r+b" if n % 2 and n > 5 else "wb")
    fcntl.flock(f, fcntl.LOCK_EX)
    g = open(f"l{n % 5}", "rb")
    f.close()
    try: fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError: late += 1
    g.close()
print(late)
"""


@pytest.mark.parametrize("write", ["sync", "async"])
def test_a_lock_ends_with_the_close(prelux, write):
    """The daemon passes a descriptor that shares its lock: it must have closed its own by then. On one processor the program runs before it has."""
    lake = make_lake(prelux, write=write)
    lake.run(["true"])
    one = min(os.sched_getaffinity(0))
    for task in os.listdir(f"/proc/{lake.daemon_pid()}/task"):
        os.sched_setaffinity(int(task), {one})
    script = lake.tmp / "flocks.py"
    script.write_text(FLOCKS)
    assert lake.run(["taskset", "-c", str(one), "sh", "-c", f"cd {LOCAL} && exec {sys.executable} {script}"]).stdout == "0\n"
