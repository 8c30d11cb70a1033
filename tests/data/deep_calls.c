/* Every call that a program may make on names, by number, in the folder given: what each gives, a line each. Run in a plain folder and in a mapped
 * one, the lines are the same. Linked statically: nothing can be preloaded into it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long say(const char *what, long rc)
{
  if (rc < 0)
    printf("%s: %s\n", what, strerror(errno));
  else
    printf("%s: ok\n", what);
  return rc;
}
#define SAY(call, ...) say(#call " " #__VA_ARGS__, syscall(SYS_##call, __VA_ARGS__))

static void show(const char *name)
{
  char buf[256];
  struct stat a, b, c;
  struct statx x;
  int fd = (int)SAY(openat, AT_FDCWD, name, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf);
  printf("%s: %zd %.*s\n", name, n, n > 0 ? (int)n : 0, buf);
  if (fd < 0)
    return;
  memset(&x, 0, sizeof x);
  fstat(fd, &a);
  stat(name, &b);
  fstatat(fd, "", &c, AT_EMPTY_PATH);
  syscall(SYS_statx, AT_FDCWD, name, 0, STATX_BASIC_STATS, &x);
  printf("%ld %o %d %d %d\n", (long)a.st_size, a.st_mode, a.st_ino == b.st_ino && a.st_dev == b.st_dev, a.st_ino == c.st_ino, x.stx_ino == a.st_ino);
  close(fd);
}

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *name)
{
  char *names[256];
  int n = 0;
  DIR *d = opendir(name);
  for (struct dirent *e; d && n < 256 && (e = readdir(d));)
    names[n++] = strdup(e->d_name);
  qsort(names, (size_t)n, sizeof *names, by_name);
  printf("%s:", name);
  for (int i = 0; i < n; i++)
    printf(" %s", names[i]);
  puts("");
  if (d)
    closedir(d);
}

static void make(const char *name, const char *text, int flags)
{
  int fd = (int)say(name, openat(AT_FDCWD, name, O_WRONLY | O_CREAT | flags, 0666));
  if (fd >= 0 && write(fd, text, strlen(text)) < 0)
    perror(name);
  if (fd >= 0)
    close(fd);
}

static void walk(void)
{
  char buf[4096], *argv[] = {"prog", "one", "two", NULL}, *sh[] = {"script", "three", NULL};
  struct stat st;
  umask(027);
  SAY(mkdirat, AT_FDCWD, "d", 0777);
  SAY(mkdirat, AT_FDCWD, "d", 0777);
  make("d/a", "first\n", O_EXCL);
  make("d/a", "again\n", O_EXCL);
  make("d/b", "second\n", 0);
  show("d/a");
  stat("d", &st);
  printf("d %o\n", st.st_mode);
  SAY(renameat2, AT_FDCWD, "d/a", AT_FDCWD, "d/c", 0);
  SAY(renameat2, AT_FDCWD, "d/c", AT_FDCWD, "d/b", RENAME_NOREPLACE);
  int d = (int)SAY(openat, AT_FDCWD, "d", O_RDONLY | O_DIRECTORY);
  show("d/c");
  SAY(faccessat, d, "b", R_OK);
  SAY(faccessat, d, "none", R_OK);
  SAY(unlinkat, d, "b", 0);
  SAY(unlinkat, d, "b", 0);
  SAY(fchmodat, d, "c", 0640);
  make("d/big", "", O_TRUNC);
  SAY(truncate, "d/big", 5000);
  printf("%ld\n", stat("d/big", &st) == 0 ? (long)st.st_size : -1);
  list("d");
  SAY(symlinkat, "c", d, "link");
  ssize_t n = readlink("d/link", buf, sizeof buf);
  printf("link %.*s\n", (int)n, buf);
  show("d/link");
  SAY(unlinkat, AT_FDCWD, "d", AT_REMOVEDIR);
  SAY(chdir, "d");
  printf("%s\n", getcwd(buf, sizeof buf) ? strrchr(buf, '/') : "none");
  list(".");
  list("..");
  show("c");
  show("../d/c");
  SAY(chdir, "none");
  SAY(chdir, "..");
  fflush(stdout);
  for (int i = 0; i < 2; i++)
  {
    if (fork() == 0)
    {
      execve(i ? "./script" : "prog", i ? sh : argv, environ);
      _exit(errno);
    }
    int status;
    wait(&status);
    printf("exec %d\n", status);
  }
  SAY(openat, AT_FDCWD, "d/none/x", O_RDONLY);
  SAY(openat, AT_FDCWD, "d/c/x", O_RDONLY);
  SAY(openat, AT_FDCWD, "", O_RDONLY);
  SAY(openat, AT_FDCWD, NULL, O_RDONLY);
  SAY(openat, 77, "c", O_RDONLY);
}

int main(int n, char **v)
{
  if (n > 1 && strcmp(v[0], "prog") == 0)
  {
    printf("prog %s %s\n", v[1], v[2]);
    return 7;
  }
  if (chdir(v[1]) < 0)
    return 1;
  walk();
  return 0;
}
