/* Names and sizes: mkdir, unlink, symlink, mknod, truncate and their kin. */
#include "shim/change.h"
#include "shim/tell.h"
#include "shim/umask.h"
#include "shim/write.h"

/* ---- what they do below a writable mapping */

static int act_mkdir(struct prelux_change *c)
{
  int rc = prelux_change_check(c);
  return rc ? rc : prelux_tell_mkdir(&c->r, c->call, *(const mode_t *)c->arg & 01777 & ~prelux_umask());
}

static int act_rmdir(struct prelux_change *c)
{
  int rc = prelux_change_check(c);
  if (rc) return rc;
  return c->r.has_below ? -ENOTEMPTY : prelux_tell_rmdir(&c->r, c->call);
}

static int act_unlink(struct prelux_change *c)
{
  int rc = prelux_change_check(c);
  return rc ? rc : prelux_tell_unlink(&c->r, c->call);
}

static int act_remove(struct prelux_change *c)
{
  int rc = act_unlink(c);
  return rc == -EISDIR ? act_rmdir(c) : rc;
}

static int act_symlink(struct prelux_change *c)
{
  int rc = prelux_change_check(c);
  return rc ? rc : prelux_tell_symlink(&c->r, c->call, c->arg);
}

static int act_mknod(struct prelux_change *c)
{
  mode_t mode = *(const mode_t *)c->arg;
  switch (mode & S_IFMT) {
  case S_IFREG:
  case 0: break;
  case S_IFIFO:
  case S_IFSOCK:
  case S_IFCHR:
  case S_IFBLK: return prelux_change_no_node(c);
  default: return -EINVAL;
  }
  int rc = prelux_change_new(c);
  if (rc) return rc;
  struct prelux_hold h;
  rc = prelux_hold(&c->r, c->call, O_WRONLY | O_CREAT | O_EXCL, mode & 07777, &h);
  return rc < 0 ? rc : prelux_hold_close(&h, c->call);
}

/* By the name of its staging file: 0 or -errno. */
__attribute__((noinline)) static int cut_by_name(const struct prelux_hold *h, off_t length)
{
  char path[PATH_MAX];
  long n = prelux_hold_path(h, path, sizeof(path));
  return n < 0 ? (int)n : (int)prelux_sys(SYS_truncate, path, length);
}

/* That name is not to be seen, or not to be used, from here. */
static int cut_by_fd(const struct prelux_change *c, off_t length)
{
  int fd = prelux_write_open(&c->r, c->call, O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  int rc = (int)prelux_sys(SYS_ftruncate, fd, length);
  int end = prelux_change_close(fd, c->call);
  return rc ? rc : end;
}

static int act_truncate(struct prelux_change *c)
{
  off_t length = *(const off_t *)c->arg;
  struct prelux_hold h;
  int rc = prelux_hold(&c->r, c->call, O_WRONLY | (length ? 0 : O_TRUNC), 0, &h);
  if (rc < 0) return rc;
  rc = cut_by_name(&h, length);
  if (rc == -ENOENT || rc == -EACCES) rc = cut_by_fd(c, length);
  int end = prelux_hold_close(&h, c->call);
  return rc ? rc : end;
}

/* ---- hooks */

PRELUX_EXPORT int mkdir(const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkdir, MAKE_DIR, AT_FDCWD, path, act_mkdir, &mode, prelux_real.mkdir(c.use, mode));
}

PRELUX_EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkdirat, MAKE_DIR, dirfd, path, act_mkdir, &mode, prelux_real.mkdirat(c.at, c.use, mode));
}

PRELUX_EXPORT int rmdir(const char *path)
{
  PRELUX_CHANGE_BODY(rmdir, RMDIR, AT_FDCWD, path, act_rmdir, NULL, prelux_real.rmdir(c.use));
}

PRELUX_EXPORT int unlink(const char *path)
{
  PRELUX_CHANGE_BODY(unlink, UNLINK, AT_FDCWD, path, act_unlink, NULL, prelux_real.unlink(c.use));
}

static int unlinkat_dir(int dirfd, const char *path, int flags)
{
  PRELUX_CHANGE_BODY(unlinkat, RMDIR, dirfd, path, act_rmdir, NULL, prelux_real.unlinkat(c.at, c.use, flags));
}

PRELUX_EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
  if (flags & ~AT_REMOVEDIR) return prelux_real.unlinkat(dirfd, path, flags); /* EINVAL */
  if (flags & AT_REMOVEDIR) return unlinkat_dir(dirfd, path, flags);
  PRELUX_CHANGE_BODY(unlinkat, UNLINK, dirfd, path, act_unlink, NULL, prelux_real.unlinkat(c.at, c.use, flags));
}

PRELUX_EXPORT int remove(const char *path)
{
  PRELUX_CHANGE_BODY(remove, REMOVE, AT_FDCWD, path, act_remove, NULL, prelux_real.remove(c.use));
}

/* The kernel says so before it looks at the path. */
static bool bad_target(const char *target)
{
  return prelux_no_pointer(target) || !*target || strlen(target) >= PATH_MAX;
}

PRELUX_EXPORT int symlink(const char *target, const char *path)
{
  if (bad_target(target)) return prelux_real.symlink(target, path);
  PRELUX_CHANGE_BODY(symlink, MAKE, AT_FDCWD, path, act_symlink, target, prelux_real.symlink(target, c.use));
}

PRELUX_EXPORT int symlinkat(const char *target, int dirfd, const char *path)
{
  if (bad_target(target)) return prelux_real.symlinkat(target, dirfd, path);
  PRELUX_CHANGE_BODY(symlinkat, MAKE, dirfd, path, act_symlink, target, prelux_real.symlinkat(target, c.at, c.use));
}

/* libc before 2.33 has mknod only as an inline function around __xmknod. */
static int real_mknod(const char *path, mode_t mode, dev_t dev)
{
  return prelux_real_has(prelux_real.mknod) ? prelux_real.mknod(path, mode, dev)
                                            : prelux_real.__xmknod(0, path, mode, &dev);
}

static int real_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
  return prelux_real_has(prelux_real.mknodat) ? prelux_real.mknodat(dirfd, path, mode, dev)
                                              : prelux_real.__xmknodat(0, dirfd, path, mode, &dev);
}

/* The kernel refuses these before it looks at the path. */
static bool no_node(mode_t mode)
{
  mode_t type = mode & S_IFMT;
  return type != 0 && type != S_IFREG && type != S_IFIFO && type != S_IFSOCK && type != S_IFCHR && type != S_IFBLK;
}

PRELUX_EXPORT int mknod(const char *path, mode_t mode, dev_t dev)
{
  if (no_node(mode)) return real_mknod(path, mode, dev);
  PRELUX_CHANGE_BODY(mknod, MAKE, AT_FDCWD, path, act_mknod, &mode, real_mknod(c.use, mode, dev));
}

PRELUX_EXPORT int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
  if (no_node(mode)) return real_mknodat(dirfd, path, mode, dev);
  PRELUX_CHANGE_BODY(mknodat, MAKE, dirfd, path, act_mknod, &mode, real_mknodat(c.at, c.use, mode, dev));
}

PRELUX_EXPORT int __xmknod(int ver, const char *path, mode_t mode, dev_t *dev)
{
  if (no_node(mode)) return prelux_real.__xmknod(ver, path, mode, dev);
  PRELUX_CHANGE_BODY(__xmknod, MAKE, AT_FDCWD, path, act_mknod, &mode, prelux_real.__xmknod(ver, c.use, mode, dev));
}

PRELUX_EXPORT int __xmknodat(int ver, int dirfd, const char *path, mode_t mode, dev_t *dev)
{
  if (no_node(mode)) return prelux_real.__xmknodat(ver, dirfd, path, mode, dev);
  PRELUX_CHANGE_BODY(__xmknodat, MAKE, dirfd, path, act_mknod, &mode,
                     prelux_real.__xmknodat(ver, c.at, c.use, mode, dev));
}

PRELUX_EXPORT int mkfifo(const char *path, mode_t mode)
{
  const mode_t fifo = S_IFIFO | (mode & 07777);
  PRELUX_CHANGE_BODY(mkfifo, MAKE, AT_FDCWD, path, act_mknod, &fifo, prelux_real.mkfifo(c.use, mode));
}

PRELUX_EXPORT int mkfifoat(int dirfd, const char *path, mode_t mode)
{
  const mode_t fifo = S_IFIFO | (mode & 07777);
  PRELUX_CHANGE_BODY(mkfifoat, MAKE, dirfd, path, act_mknod, &fifo, prelux_real.mkfifoat(c.at, c.use, mode));
}

PRELUX_EXPORT int truncate(const char *path, off_t length)
{
  if (length < 0) return prelux_real.truncate(path, length); /* EINVAL */
  PRELUX_CHANGE_BODY(truncate, TRUNCATE, AT_FDCWD, path, act_truncate, &length, prelux_real.truncate(c.use, length));
}

PRELUX_EXPORT int truncate64(const char *path, off64_t length)
{
  if (length < 0) return prelux_real.truncate64(path, length);
  PRELUX_CHANGE_BODY(truncate64, TRUNCATE, AT_FDCWD, path, act_truncate, &length,
                     prelux_real.truncate64(c.use, length));
}
