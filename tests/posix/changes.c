/* Makes every call of shim/calls.h that is marked C_CHANGE, by its exported name, on paths below BASE:
 *
 *   changes FORM BASE NAME...     FORM: abs (BASE/NAME), cwd (chdir to BASE), dirfd (the at-calls, relative to an fd of BASE),
 *                                 fdlink (through /proc/self/fd/N of BASE)
 *
 * and prints "CALL NAME ERRNO" lines (0: it succeeded). A call that this program cannot make is printed as "CALL - -1": a
 * new row in calls.h needs a case here. Names between blanks in the variable CHANGES_SKIP are left out. Calls that take an fd get one that was opened for reading. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/quota.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>
#include <utmp.h>

struct place {
  int at;            /* for at-calls */
  const char *path;  /* for at-calls */
  const char *whole; /* for the others */
  const char *dir;   /* folder for templates */
};

typedef void (*fn_t)(void);
struct call {
  const char *name;
  long (*make)(fn_t fn, const struct place *p);
};

static const struct timeval old_times[2] = {{1, 0}, {2, 0}};
static const struct timespec old_specs[2] = {{1, 0}, {2, 0}};
static const struct utimbuf old_buf = {1, 2};

/* fn by its real type. */
#define AS(type) ((type)fn)
#define P const char *

static long with_mode(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, mode_t))(p->whole, 0600);
}

static long at_mode(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, mode_t))(p->at, p->path, 0600);
}

static long path_only(fn_t fn, const struct place *p)
{
  return AS(int (*)(P))(p->whole);
}

static long path_int(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, int))(p->whole, 0);
}

static long at_flags(fn_t fn, const struct place *p)
{
  int rc = AS(int (*)(int, P, int))(p->at, p->path, 0);
  return rc == 0 || errno != EISDIR ? rc : AS(int (*)(int, P, int))(p->at, p->path, AT_REMOVEDIR);
}

static long two_paths(fn_t fn, const struct place *p)
{
  char to[PATH_MAX];
  snprintf(to, sizeof(to), "%s.2", p->whole);
  return AS(int (*)(P, P))(p->whole, to);
}

static long two_at(fn_t fn, const struct place *p)
{
  char to[PATH_MAX];
  snprintf(to, sizeof(to), "%s.2", p->path);
  return AS(int (*)(int, P, int, P, int))(p->at, p->path, p->at, to, 0);
}

static long make_symlink(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, P))("target", p->whole);
}

static long make_symlinkat(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, int, P))("target", p->at, p->path);
}

static long make_node(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, mode_t, dev_t))(p->whole, S_IFREG | 0600, 0);
}

static long make_nodeat(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, mode_t, dev_t))(p->at, p->path, S_IFREG | 0600, 0);
}

static long make_xnode(fn_t fn, const struct place *p)
{
  dev_t dev = 0;
  return AS(int (*)(int, P, mode_t, dev_t *))(0, p->whole, S_IFREG | 0600, &dev);
}

static long make_xnodeat(fn_t fn, const struct place *p)
{
  dev_t dev = 0;
  return AS(int (*)(int, int, P, mode_t, dev_t *))(0, p->at, p->path, S_IFREG | 0600, &dev);
}

static long cut(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, off_t))(p->whole, 1);
}

static long mode_at(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, mode_t, int))(p->at, p->path, 0600, 0);
}

static long owner(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, uid_t, gid_t))(p->whole, getuid(), getgid());
}

static long owner_at(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, uid_t, gid_t, int))(p->at, p->path, getuid(), getgid(), 0);
}

static long times_buf(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, const struct utimbuf *))(p->whole, &old_buf);
}

static long times_val(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, const struct timeval *))(p->whole, old_times);
}

static long times_at(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, const struct timeval *))(p->at, p->path, old_times);
}

static long specs_at(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, const struct timespec *, int))(p->at, p->path, old_specs, 0);
}

static long set_attr(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, P, const void *, size_t, int))(p->whole, "user.x", "1", 1, 0);
}

static long remove_attr(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, P))(p->whole, "user.x");
}

/* Calls on an fd: 0 calls of these on names that cannot be opened would say nothing, so that errno is theirs. */
static int open_it(const struct place *p)
{
  return open(p->whole, O_RDONLY | O_CLOEXEC);
}

#define ON_FD(name, type, ...)                             \
  static long name(fn_t fn, const struct place *p)         \
  {                                                        \
    int fd = open_it(p);                                   \
    if (fd < 0) return -1;                                 \
    long rc = AS(type)(fd, __VA_ARGS__);                   \
    int err = errno;                                       \
    close(fd);                                             \
    errno = err;                                           \
    return rc;                                             \
  }
ON_FD(fd_mode, int (*)(int, mode_t), 0600)
ON_FD(fd_owner, int (*)(int, uid_t, gid_t), getuid(), getgid())
ON_FD(fd_specs, int (*)(int, const struct timespec *), old_specs)
ON_FD(fd_times, int (*)(int, const struct timeval *), old_times)
ON_FD(fd_set_attr, int (*)(int, P, const void *, size_t, int), "user.x", "1", 1, 0)
ON_FD(fd_remove_attr, int (*)(int, P), "user.x")

static long do_mount(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, P, P, unsigned long, const void *))("none", p->whole, "tmpfs", 0, NULL);
}

static long do_move(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, int, P, unsigned))(p->at, p->path, p->at, p->path, 0);
}

static long do_mount_attr(fn_t fn, const struct place *p)
{
  uint64_t attr[4] = {0};
  return AS(int (*)(int, P, unsigned, void *, size_t))(p->at, p->path, 0, attr, sizeof(attr));
}

static long do_pivot(fn_t fn, const struct place *p)
{
  return AS(int (*)(P, P))(p->whole, p->whole);
}

static long do_quota(fn_t fn, const struct place *p)
{
  return AS(int (*)(int, P, int, void *))(QCMD(Q_SYNC, USRQUOTA), p->whole, 0, NULL);
}

static long do_updwtmp(fn_t fn, const struct place *p)
{
  struct utmp entry = {.ut_type = USER_PROCESS};
  errno = 0;
  AS(void (*)(P, const struct utmp *))(p->whole, &entry);
  return errno ? -1 : 0;
}

static long do_bind(fn_t fn, const struct place *p)
{
  struct sockaddr_un un = {.sun_family = AF_UNIX};
  if (strlen(p->whole) >= sizeof(un.sun_path)) return errno = EROFS, -1;
  strcpy(un.sun_path, p->whole);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  long rc = AS(int (*)(int, const struct sockaddr *, socklen_t))(fd, (struct sockaddr *)&un, sizeof(un));
  int err = errno;
  close(fd);
  errno = err;
  return rc;
}

static long do_creat(fn_t fn, const struct place *p)
{
  int fd = AS(int (*)(P, mode_t))(p->whole, 0600);
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}

/* Templates: `suffix` bytes ".c" behind the X's, flags when the call takes them. */
static long temp(fn_t fn, const struct place *p, int suffix, int flags, int pointer)
{
  char name[PATH_MAX];
  snprintf(name, sizeof(name), "%s/tXXXXXX%s", p->dir, suffix ? ".c" : "");
  errno = 0;
  if (pointer) {
    const char *made = AS(char *(*)(char *))(name);
    return made && *made ? 0 : -1;
  }
  int fd = suffix && flags ? AS(int (*)(char *, int, int))(name, 2, O_CLOEXEC)
           : suffix        ? AS(int (*)(char *, int))(name, 2)
           : flags         ? AS(int (*)(char *, int))(name, O_CLOEXEC)
                           : AS(int (*)(char *))(name);
  if (fd >= 0) close(fd);
  return fd < 0 ? -1 : 0;
}

static long temp_file(fn_t fn, const struct place *p)
{
  return temp(fn, p, 0, 0, 0);
}

static long temp_flags(fn_t fn, const struct place *p)
{
  return temp(fn, p, 0, 1, 0);
}

static long temp_suffix(fn_t fn, const struct place *p)
{
  return temp(fn, p, 2, 0, 0);
}

static long temp_both(fn_t fn, const struct place *p)
{
  return temp(fn, p, 2, 1, 0);
}

static long temp_name(fn_t fn, const struct place *p)
{
  return temp(fn, p, 0, 0, 1);
}

static const struct call calls[] = {
  {"mkdir", with_mode}, {"mkdirat", at_mode}, {"rmdir", path_only}, {"unlink", path_only}, {"unlinkat", at_flags},
  {"remove", path_only}, {"rename", two_paths}, {"renameat", two_at}, {"renameat2", two_at}, {"link", two_paths},
  {"linkat", two_at}, {"symlink", make_symlink}, {"symlinkat", make_symlinkat}, {"mknod", make_node},
  {"mknodat", make_nodeat}, {"__xmknod", make_xnode}, {"__xmknodat", make_xnodeat}, {"mkfifo", with_mode},
  {"mkfifoat", at_mode}, {"truncate", cut}, {"truncate64", cut}, {"chmod", with_mode}, {"lchmod", with_mode},
  {"fchmodat", mode_at}, {"fchmod", fd_mode}, {"chown", owner}, {"lchown", owner}, {"fchownat", owner_at},
  {"fchown", fd_owner}, {"utime", times_buf}, {"utimes", times_val}, {"lutimes", times_val}, {"utimensat", specs_at},
  {"futimesat", times_at}, {"futimens", fd_specs}, {"futimes", fd_times}, {"setxattr", set_attr},
  {"lsetxattr", set_attr}, {"fsetxattr", fd_set_attr}, {"removexattr", remove_attr}, {"lremovexattr", remove_attr},
  {"fremovexattr", fd_remove_attr}, {"mount", do_mount}, {"umount", path_only}, {"umount2", path_int},
  {"open_tree", at_flags}, {"fspick", at_flags}, {"move_mount", do_move}, {"mount_setattr", do_mount_attr},
  {"pivot_root", do_pivot}, {"chroot", path_only}, {"swapon", path_int}, {"swapoff", path_only}, {"acct", path_only},
  {"quotactl", do_quota}, {"updwtmp", do_updwtmp}, {"updwtmpx", do_updwtmp}, {"utmpname", path_only},
  {"utmpxname", path_only}, {"bind", do_bind}, {"creat", do_creat}, {"creat64", do_creat}, {"mkstemp", temp_file},
  {"mkstemp64", temp_file}, {"mkostemp", temp_flags}, {"mkostemp64", temp_flags}, {"mkstemps", temp_suffix},
  {"mkstemps64", temp_suffix}, {"mkostemps", temp_both}, {"mkostemps64", temp_both}, {"mkdtemp", temp_name},
  {"mktemp", temp_name},
};

static const struct {
  const char *name;
  unsigned flags;
} rows[] = {
#define CALL(family, name, flags, pending, why) {#name, flags},
#include "shim/calls.h"
#undef CALL
};

static const struct call *find(const char *name)
{
  for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
    if (strcmp(calls[i].name, name) == 0) return &calls[i];
  return NULL;
}

static int skipped(const char *name)
{
  const char *list = getenv("CHANGES_SKIP");
  char word[64];
  snprintf(word, sizeof(word), " %s ", name);
  return list && strstr(list, word);
}

static void make_all(const char *name, const struct place *p)
{
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
    if (!(rows[i].flags & C_CHANGE) || skipped(rows[i].name)) continue;
    const struct call *c = find(rows[i].name);
    fn_t fn = (fn_t)dlsym(RTLD_DEFAULT, rows[i].name);
    if (!c) {
      printf("%s - -1\n", rows[i].name);
    } else if (fn) {
      errno = 0;
      long rc = c->make(fn, p);
      printf("%s %s %d\n", rows[i].name, *name ? name : "ROOT", rc == 0 ? 0 : errno);
    }
    fflush(stdout);
  }
}

int main(int argc, char **argv)
{
  const char *form = argv[1], *base = argv[2];
  char prefix[PATH_MAX / 2], whole[PATH_MAX];
  int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  if (argc < 4 || fd < 0) return 2;
  if (strcmp(form, "cwd") == 0 && chdir(base)) return 2;
  if (strcmp(form, "fdlink") == 0) snprintf(prefix, sizeof(prefix), "/proc/self/fd/%d", fd);
  else snprintf(prefix, sizeof(prefix), "%s", strcmp(form, "cwd") == 0 ? "." : base);
  for (int i = 3; i < argc; i++) {
    struct place p = {.at = AT_FDCWD, .path = whole, .whole = whole, .dir = prefix};
    snprintf(whole, sizeof(whole), "%s%s%.1000s", prefix, *argv[i] ? "/" : "", argv[i]);
    if (strcmp(form, "dirfd") == 0) {
      p.at = fd;
      p.path = *argv[i] ? argv[i] : ".";
    }
    make_all(argv[i], &p);
  }
  return 0;
}
