/* System calls by number through libc's syscall(), below BASE, printed so that two runs can be compared. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct open_how_ {
  uint64_t flags, mode, resolve;
};

static long say(const char *what, long rc)
{
  printf("%s %ld %s\n", what, rc > 2 ? 3 : rc, rc == -1 ? strerrorname_np(errno) : "");
  return rc;
}

static void text(const char *what, int fd)
{
  char buf[64] = "";
  long n = fd < 0 ? -1 : syscall(SYS_pread64, fd, buf, sizeof(buf) - 1, 0L);
  printf("%s [%s] %ld\n", what, buf, n);
}

static int by_name(const void *a, const void *b)
{
  return strcmp(a, b);
}

static void list(const char *what, int fd)
{
  static char names[64][264];
  char buf[4096];
  size_t count = 0;
  long n;
  while ((n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
    for (long at = 0; at < n && count < 64;) {
      struct dirent64 *d = (struct dirent64 *)(buf + at);
      snprintf(names[count++], sizeof(names[0]), "%s:%d", d->d_name, d->d_type);
      at += d->d_reclen;
    }
  qsort(names, count, sizeof(names[0]), by_name);
  printf("%s", what);
  for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
  printf(" end %ld\n", n);
}

#ifdef SYS_getdents
static void list_old(int fd)
{
  struct old {
    unsigned long ino, off;
    unsigned short reclen;
    char name[];
  } *d;
  static char names[64][264];
  char buf[200] __attribute__((aligned(8)));
  size_t count = 0;
  long n;
  lseek(fd, 0, SEEK_SET);
  while ((n = syscall(SYS_getdents, fd, buf, sizeof(buf))) > 0)
    for (long at = 0; at < n && count < 64; at += d->reclen) {
      d = (struct old *)(buf + at);
      snprintf(names[count++], sizeof(names[0]), "%s:%d %d", d->name, ((char *)d)[d->reclen - 1], d->ino != 0);
    }
  qsort(names, count, sizeof(names[0]), by_name);
  printf("getdents");
  for (size_t i = 0; i < count; i++) printf(" %s", names[i]);
  printf(" end %ld\n", n);
}
#endif

static void reads(const char *file, const char *dir)
{
  struct statx sx;
  struct stat st;
  struct open_how_ how = {.flags = O_RDONLY};
  char buf[4096];
  int fd = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDONLY | O_CLOEXEC);
  text("openat", fd);
  say("fstat", syscall(SYS_fstat, fd, &st));
  printf("size %ld type %o\n", (long)st.st_size, st.st_mode & S_IFMT);
  uint64_t ino = st.st_ino;
  say("newfstatat", syscall(SYS_newfstatat, AT_FDCWD, file, &st, 0));
  printf("same %d\n", ino == st.st_ino);
  say("statx", syscall(SYS_statx, AT_FDCWD, file, 0, STATX_BASIC_STATS, &sx));
  printf("same %d size %llu\n", sx.stx_ino == ino, (unsigned long long)sx.stx_size);
  say("statx fd", syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &sx));
  printf("same %d\n", sx.stx_ino == ino);
  int copy = (int)say("dup", syscall(SYS_dup, fd));
  text("dup", copy);
  say("dup3", syscall(SYS_dup3, fd, 50, O_CLOEXEC));
  text("dup3", 50);
  say("close", syscall(SYS_close, fd));
  say("close again", syscall(SYS_close, fd));
  say("close_range", syscall(SYS_close_range, 50u, 60u, 0));
  text("openat2", (int)syscall(SYS_openat2, AT_FDCWD, file, &how, sizeof(how)));
  say("access", syscall(SYS_faccessat, AT_FDCWD, file, R_OK));
  say("faccessat2", syscall(SYS_faccessat2, AT_FDCWD, file, W_OK | R_OK, AT_EACCESS));
  say("readlink", syscall(SYS_readlinkat, AT_FDCWD, file, buf, sizeof(buf)));
  int folder = (int)syscall(SYS_openat, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
  list("getdents64", folder);
#ifdef SYS_getdents
  list_old(folder);
#endif
  text("below", (int)syscall(SYS_openat, folder, "f", O_RDONLY));
  say("chdir", syscall(SYS_chdir, dir));
  long n = say("getcwd", syscall(SYS_getcwd, buf, sizeof(buf)));
  printf("cwd %d %d\n", strcmp(buf, dir) == 0, n == (long)strlen(dir) + 1);
  say("getcwd short", syscall(SYS_getcwd, buf, 3));
  text("relative", (int)syscall(SYS_openat, AT_FDCWD, "d/g", O_RDONLY));
  say("fchdir", syscall(SYS_fchdir, folder));
#ifdef SYS_open
  text("open", (int)syscall(SYS_open, file, O_RDONLY, 0));
  say("stat", syscall(SYS_stat, "f", &st));
  say("lstat", syscall(SYS_lstat, "none", &st));
  say("old access", syscall(SYS_access, "f/x", F_OK));
#endif
}

static void changes(void)
{
  say("mkdirat", syscall(SYS_mkdirat, AT_FDCWD, "new", 0755));
  say("unlinkat", syscall(SYS_unlinkat, AT_FDCWD, "f", 0));
  say("renameat2", syscall(SYS_renameat2, AT_FDCWD, "f", AT_FDCWD, "f2", 0));
  say("truncate", syscall(SYS_truncate, "f", 0L));
  say("fchmodat", syscall(SYS_fchmodat, AT_FDCWD, "f", 0600));
  say("creat", syscall(SYS_openat, AT_FDCWD, "new", O_CREAT | O_WRONLY, 0600));
}

/* Six arguments, all used; a number that nothing knows; a child by number. */
static void others(void)
{
  void *p = (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  printf("mmap %d\n", p != MAP_FAILED && *(char *)p == 0);
  say("nothing", syscall(9999, 1, 2, 3, 4, 5, 6));
  say("negative", syscall(-1));
  fflush(stdout);
  long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) _exit(5);
  int status;
  waitpid((pid_t)pid, &status, 0);
  printf("clone %d\n", WEXITSTATUS(status));
  fflush(stdout);
  pid = fork();
  if (pid == 0) {
    char *args[] = {"sh", "-c", "cat f", NULL}, *env[] = {NULL};
    syscall(SYS_execve, "/bin/sh", args, env);
    _exit(9);
  }
  waitpid((pid_t)pid, &status, 0);
  printf("execve %d\n", WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
  char file[4096];
  if (argc < 2) return 2;
  snprintf(file, sizeof(file), "%s/f", argv[1]);
  reads(file, argv[1]);
  if (argc > 2) changes();
  others();
  return 0;
}
