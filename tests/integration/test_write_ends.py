"""What a hostile review found. The end of a process with files open for writing: whatever it left in stdio's buffers, in threads, in copies
of descriptors, is on the remote when who waited for it goes on, and nowhere else. And links that openat2 may not pass."""

import subprocess

import pytest

from tests.integration.write_rig import LOCAL, make_lake

HEAD = """#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wchar.h>
"""
PROGRAMS = {
    "wide": 'int main(void) { FILE *f = fopen("f", "w"); fwprintf(f, L"wide\\n"); return 0; }',
    "cookie": """
        static ssize_t put(void *c, const char *b, size_t n) { return write(*(int *)c, b, n); }
        static int fd;
        int main(void) { fd = open("f", O_WRONLY | O_CREAT, 0644); FILE *f = fopencookie(&fd, "w", (cookie_io_functions_t){.write = put});
          fputs("by a cookie\\n", f); return 0; }""",
    "at-exit": """
        static FILE *f;
        static void late(void) { fputs("handler\\n", f); fflush(NULL); fputs("after\\n", f); }
        __attribute__((destructor)) static void later(void) { fputs("destructor\\n", f); }
        int main(void) { f = fopen("f", "w"); atexit(late); fputs("main\\n", f); return 0; }""",
    "duplicated": """
        int main(void) { int fd = open("f", O_WRONLY | O_CREAT | O_CLOEXEC, 0644), d = fcntl(fd, F_DUPFD, 100); write(d, "one ", 4); close(fd);
          write(d, "two\\n", 4); _exit(0); }""",
    "forked": """
        int main(void) { FILE *f = fopen("f", "w"); if (fork() == 0) { fputs("child\\n", f); exit(0); } wait(NULL); fputs("parent\\n", f); return 0; }""",
    "freopened": """
        int main(void) { freopen("f", "wx", stdout); puts("first"); fflush(stdout); freopen(NULL, "a", stdout); puts("second"); return 0; }""",
}


@pytest.fixture
def lake(prelux):
    return make_lake(prelux, write="sync")


def compiled(folder, name, source, *words):
    (folder / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-w", "-o", folder / name, folder / f"{name}.c", "-pthread", *words], check=True)
    return folder / name


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_was_buffered(lake, name):
    program = compiled(lake.tmp, name, HEAD + PROGRAMS[name])
    plain = lake.tmp / "plain"
    plain.mkdir()
    lake.plain([program], cwd=plain)
    # The copy is taken by the shell that waited for the program.
    done = lake.run(f"cd {LOCAL} && {program} && cat {lake.remote}/f")
    assert done.stdout == (plain / "f").read_text() != ""


def test_a_destructor_of_another_library(lake):
    library = HEAD + 'static FILE *g; void keep(FILE *f) { g = f; }\n__attribute__((destructor)) static void end(void) ' \
        '{ fflush(NULL); if (fputs("two\\n", g) < 0 || fflush(g)) perror("destructor"); }'
    compiled(lake.tmp, "libkeeps.so", library, "-shared", "-fPIC")
    program = compiled(lake.tmp, "keeps", HEAD + 'void keep(FILE *f);\nint main(void) { FILE *f = fopen("f", "w"); fputs("one\\n", f); keep(f); return 0; }',
                       lake.tmp / "libkeeps.so", f"-Wl,-rpath,{lake.tmp}")
    done = lake.run(f"cd {LOCAL} && {program} && cat {lake.remote}/f")
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "")


def test_threads_that_run_on(lake):
    """Their numbers are nobody else's before the process is gone."""
    program = compiled(lake.tmp, "threads", HEAD + f"""
        static int fd;
        static void *put(void *x) {{ for (;;) write(fd, "MAPPED", 6); }}
        static void *others(void *x) {{ for (;;) {{ int o = open("{lake.tmp}/other", O_WRONLY | O_CREAT | O_APPEND, 0644); usleep(200); close(o); }} }}
        int main(void) {{ static char z[8 << 20]; pthread_t t; fd = open("{LOCAL}/f", O_WRONLY | O_CREAT, 0644); write(fd, z, sizeof z);
          pthread_create(&t, 0, put, 0); pthread_create(&t, 0, others, 0); usleep(20000); exit(0); }}""")
    for _ in range(5):
        lake.run([program])
        assert (lake.tmp / "other").read_bytes() == b""


def test_a_child_of_vfork_inherits(lake):
    """subprocess of Python: the parent closes its copy, the child is the last."""
    code = f"""if 1:
        import subprocess
        f = open("{LOCAL}/f", "wb")
        p = subprocess.Popen(["sh", "-c", "sleep 0.3; echo child"], stdout=f)
        f.close()
        p.wait()
        print(open("{lake.remote}/f").read(), end="")
        """
    assert lake.run(["python3", "-c", code]).stdout == "child\n"


OPENAT2 = HEAD + """
#include <errno.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
int main(void)
{
  unsigned long long ways[] = {0, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT};
  mkdir("box", 0755); close(open("secret", O_WRONLY | O_CREAT, 0644)); close(open("box/own", O_WRONLY | O_CREAT, 0644));
  symlink("../secret", "box/out"); symlink("/etc/passwd", "box/far"); mkdir("box/d", 0755); symlink("d", "box/in");
  int box = open("box", O_RDONLY | O_DIRECTORY);
  const char *names[] = {"out", "far", "own", "d", "in/../own"};
  for (int n = 0; n < 5; n++)
    for (int i = 0; i < 4; i++) {
      struct open_how how = {.resolve = ways[i]};
      if (n == 4 && i > 1) continue; /* a link that stays inside: refused by prelux, too */
      if (n < 2 && i == 3) continue; /* where it would lead in a root of its own: refused by prelux */
      long fd = syscall(SYS_openat2, box, names[n], &how, sizeof how);
      printf("%s %llx %s\\n", names[n], ways[i], fd < 0 ? strerror(errno) : "open");
    }
  return 0;
}
"""


def test_openat2_and_links(lake):
    program = compiled(lake.tmp, "openat2", OPENAT2)
    plain = lake.tmp / "plain"
    plain.mkdir()
    want = lake.plain([program], cwd=plain).stdout
    assert "Too many levels" in want and "cross-device" in want
    assert lake.run(f"cd {LOCAL} && {program}").stdout == want
