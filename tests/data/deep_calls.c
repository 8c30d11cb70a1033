/* Every call that a program may make on names, by number, in the folder given, which has prog (this program) and script: what each gives, a line each. Run in a
 * plain folder and in a mapped one, the lines are the same. Linked statically: nothing can be preloaded into it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utime.h>

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

/* What a name is, and its time where that was set. */
static void look(const char *name, int timed)
{
  struct stat st;
  if (lstat(name, &st) < 0)
    printf("  %s: %s\n", name, strerror(errno));
  else
    printf("  %s: %o %ld %ld\n", name, st.st_mode, S_ISLNK(st.st_mode) ? 0L : (long)st.st_size, timed ? (long)st.st_mtime : 0L);
}

static void no_attribute(const char *what, long rc)
{
  printf("%s: %s\n", what, rc < 0 && (errno == ENODATA || errno == ENOTSUP) ? "none" : rc < 0 ? strerror(errno) : "ok");
}
#define NONE(call, ...) no_attribute(#call " " #__VA_ARGS__, syscall(SYS_##call, __VA_ARGS__))

static void attributes(int fd, int folder)
{
  struct timespec times[2] = {{1000000000, 0}, {1100000000, 0}};
  struct statfs fs, named;
  struct stat st;
  char buf[64];
  SAY(fstat, fd, &st);
  printf("%o %ld\n", st.st_mode, (long)st.st_size);
  SAY(fchmod, fd, 0604);
  SAY(fchown, fd, getuid(), getgid());
  look("file", 0);
  SAY(fchownat, folder, "file", getuid(), getgid(), 0);
  SAY(fchmodat, folder, "none", 0600);
  if (syscall(452, AT_FDCWD, "/none of this name", 0600, 0) < 0 && errno == ENOENT) /* fchmodat2 is here */
    say("fchmodat2", syscall(452, folder, "file", 0640, 0));
  SAY(utimensat, folder, "file", times, 0);
  SAY(utimensat, folder, "none", times, 0);
  look("file", 1);
  SAY(statfs, "file", &named);
  SAY(statfs, "none", &fs);
  SAY(fstatfs, fd, &fs);
  printf("%ld %d\n", (long)fs.f_namelen, fs.f_type == named.f_type);
  NONE(getxattr, "file", "user.none", buf, sizeof buf);
  NONE(lgetxattr, "file", "user.none", buf, sizeof buf);
  NONE(fgetxattr, fd, "user.none", buf, sizeof buf);
  NONE(getxattr, "none", "user.none", buf, sizeof buf);
  SAY(listxattr, "file", buf, sizeof buf);
  SAY(llistxattr, "file", buf, sizeof buf);
  SAY(flistxattr, fd, buf, sizeof buf);
  SAY(listxattr, "none", buf, sizeof buf);
  SAY(fsync, fd);
  SAY(fdatasync, fd);
}

/* Numbers that walk() has not: all that the supervisor answers. */
static void numbers(const char *base)
{
  struct open_how how = {.flags = O_RDONLY};
  char buf[4096], *argv[] = {"prog", "by", "folder", NULL};
  int status, folder = (int)SAY(openat, AT_FDCWD, "numbers", O_RDONLY | O_DIRECTORY), above = open(".", O_RDONLY);
  printf("%s\n", syscall(SYS_getcwd, buf, sizeof buf) > 0 ? "here" : strerror(errno));
  int fd = (int)SAY(openat2, AT_FDCWD, "script", &how, sizeof how);
  printf("%.*s\n", (int)read(fd, buf, 9), buf);
  how.resolve = RESOLVE_BENEATH;
  SAY(openat2, folder, "../script", &how, sizeof how);
  SAY(openat2, folder, "none", &how, sizeof how);
  SAY(chdir, "numbers");
  long len = syscall(SYS_getcwd, buf, sizeof buf);
  printf("%d %s\n", len == (long)strlen(base) + 9, strncmp(buf, base, strlen(base)) == 0 ? strrchr(buf, '/') : buf);
  SAY(mknodat, folder, "file", S_IFREG | 0644, 0);
  SAY(mknodat, folder, "file", S_IFREG | 0644, 0);
  fd = open("file", O_RDWR);
  printf("%zd\n", write(fd, "text", 4));
  attributes(fd, folder);
  SAY(faccessat2, folder, "file", R_OK | W_OK, AT_EACCESS);
  SAY(faccessat2, folder, "none", F_OK, 0);
  SAY(linkat, folder, "none", folder, "other", 0);
  SAY(linkat, folder, "file", above, "script", 0);
  SAY(symlinkat, "file", folder, "link");
  ssize_t n = syscall(SYS_readlinkat, folder, "link", buf, sizeof buf);
  printf("%.*s\n", n < 0 ? 0 : (int)n, buf);
  SAY(renameat, folder, "file", folder, "moved");
  SAY(renameat, folder, "none", folder, "moved");
  look("moved", 1);
  fd = (int)SAY(openat2, folder, "moved", &how, sizeof how);
  printf("%zd\n", read(fd, buf, sizeof buf));
  SAY(inotify_add_watch, inotify_init(), "moved", IN_OPEN);
  SAY(inotify_add_watch, inotify_init(), "none", IN_OPEN);
  fflush(stdout);
  if (fork() == 0)
  {
    syscall(SYS_execveat, above, "prog", argv, environ, 0);
    _exit(errno);
  }
  wait(&status);
  printf("execveat %d\n", status);
}

#if defined(__x86_64__)
/* The kernel's oldest, which libc does not make any more, but Go and others do. */
static void old_numbers(void)
{
  struct utimbuf two = {1000000000, 1200000000};
  struct timeval micro[2] = {{1000000000, 0}, {1300000000, 0}};
  struct stat st;
  char buf[4096];
  int fd = (int)SAY(open, "../script", O_RDONLY, 0);
  printf("%.*s\n", (int)read(fd, buf, 9), buf);
  SAY(open, "none", O_RDONLY, 0);
  fd = (int)SAY(creat, "created", 0666);
  printf("%zd\n", write(fd, "text", 4));
  close(fd);
  fd = (int)SAY(open, "created", O_RDONLY, 0);
  printf("%zd\n", read(fd, buf, sizeof buf));
  close(fd);
  SAY(mknod, "node", S_IFREG | 0600, 0);
  SAY(mkdir, "folder", 0777);
  SAY(mkdir, "folder", 0777);
  SAY(symlink, "created", "old link");
  SAY(stat, "old link", &st);
  printf("%o %ld\n", st.st_mode, (long)st.st_size);
  SAY(lstat, "old link", &st);
  printf("%o\n", st.st_mode);
  ssize_t n = SAY(readlink, "old link", buf, sizeof buf);
  printf("%.*s\n", n < 0 ? 0 : (int)n, buf);
  SAY(readlink, "created", buf, sizeof buf);
  SAY(access, "created", R_OK);
  SAY(access, "none", R_OK);
  SAY(chmod, "created", 0604);
  SAY(chown, "created", getuid(), getgid());
  SAY(lchown, "old link", getuid(), getgid());
  SAY(utime, "created", &two);
  look("created", 1);
  SAY(utimes, "created", micro);
  look("created", 1);
  micro[1].tv_sec += 5;
  SAY(futimesat, AT_FDCWD, "created", micro);
  look("created", 1);
  SAY(link, "none", "other");
  SAY(link, "created", "node");
  SAY(rename, "created", "folder/moved");
  SAY(rmdir, "folder");
  SAY(unlink, "folder/moved");
  SAY(unlink, "none");
  SAY(rmdir, "folder");
  fd = open(".", O_RDONLY | O_DIRECTORY);
  int names = 0;
  for (long got; (got = syscall(SYS_getdents, fd, buf, sizeof buf)) > 0;)
    for (long at = 0; at < got; at += *(unsigned short *)(buf + at + 16))
      names++;
  printf("%d names\n", names);
  list(".");
}
#endif

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
  SAY(mkdirat, AT_FDCWD, "numbers", 0755);
  numbers(v[1]);
#if defined(__x86_64__)
  old_numbers();
#endif
  return 0;
}
