/* Names and sizes: mkdir, unlink, rename, link, symlink, mknod, truncate and their kin. */
#include "shim/change.h"

PRELUX_EXPORT int mkdir(const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkdir, MAKE_DIR, AT_FDCWD, path, prelux_real.mkdir(c.use, mode));
}

PRELUX_EXPORT int mkdirat(int dirfd, const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkdirat, MAKE_DIR, dirfd, path, prelux_real.mkdirat(c.at, c.use, mode));
}

PRELUX_EXPORT int rmdir(const char *path)
{
  PRELUX_CHANGE_BODY(rmdir, RMDIR, AT_FDCWD, path, prelux_real.rmdir(c.use));
}

PRELUX_EXPORT int unlink(const char *path)
{
  PRELUX_CHANGE_BODY(unlink, UNLINK, AT_FDCWD, path, prelux_real.unlink(c.use));
}

static int unlinkat_dir(int dirfd, const char *path, int flags)
{
  PRELUX_CHANGE_BODY(unlinkat, RMDIR, dirfd, path, prelux_real.unlinkat(c.at, c.use, flags));
}

PRELUX_EXPORT int unlinkat(int dirfd, const char *path, int flags)
{
  if (flags & AT_REMOVEDIR) return unlinkat_dir(dirfd, path, flags);
  PRELUX_CHANGE_BODY(unlinkat, UNLINK, dirfd, path, prelux_real.unlinkat(c.at, c.use, flags));
}

PRELUX_EXPORT int remove(const char *path)
{
  PRELUX_CHANGE_BODY(remove, REMOVE, AT_FDCWD, path, prelux_real.remove(c.use));
}

PRELUX_EXPORT int symlink(const char *target, const char *path)
{
  PRELUX_CHANGE_BODY(symlink, MAKE, AT_FDCWD, path, prelux_real.symlink(target, c.use));
}

PRELUX_EXPORT int symlinkat(const char *target, int dirfd, const char *path)
{
  PRELUX_CHANGE_BODY(symlinkat, MAKE, dirfd, path, prelux_real.symlinkat(target, c.at, c.use));
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

PRELUX_EXPORT int mknod(const char *path, mode_t mode, dev_t dev)
{
  PRELUX_CHANGE_BODY(mknod, MAKE, AT_FDCWD, path, real_mknod(c.use, mode, dev));
}

PRELUX_EXPORT int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
  PRELUX_CHANGE_BODY(mknodat, MAKE, dirfd, path, real_mknodat(c.at, c.use, mode, dev));
}

PRELUX_EXPORT int __xmknod(int ver, const char *path, mode_t mode, dev_t *dev)
{
  PRELUX_CHANGE_BODY(__xmknod, MAKE, AT_FDCWD, path, prelux_real.__xmknod(ver, c.use, mode, dev));
}

PRELUX_EXPORT int __xmknodat(int ver, int dirfd, const char *path, mode_t mode, dev_t *dev)
{
  PRELUX_CHANGE_BODY(__xmknodat, MAKE, dirfd, path, prelux_real.__xmknodat(ver, c.at, c.use, mode, dev));
}

PRELUX_EXPORT int mkfifo(const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkfifo, MAKE, AT_FDCWD, path, prelux_real.mkfifo(c.use, mode));
}

PRELUX_EXPORT int mkfifoat(int dirfd, const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(mkfifoat, MAKE, dirfd, path, prelux_real.mkfifoat(c.at, c.use, mode));
}

PRELUX_EXPORT int truncate(const char *path, off_t length)
{
  PRELUX_CHANGE_BODY(truncate, TRUNCATE, AT_FDCWD, path, prelux_real.truncate(c.use, length));
}

PRELUX_EXPORT int truncate64(const char *path, off64_t length)
{
  PRELUX_CHANGE_BODY(truncate64, TRUNCATE, AT_FDCWD, path, prelux_real.truncate64(c.use, length));
}
