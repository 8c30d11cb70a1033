/* Attributes: modes, owners, times, extended attributes. */
#include "shim/change.h"

#include <linux/fs.h>
#include <stdarg.h>

PRELUX_EXPORT int chmod(const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(chmod, ALTER, AT_FDCWD, path, prelux_real.chmod(c.use, mode));
}

PRELUX_EXPORT int lchmod(const char *path, mode_t mode)
{
  PRELUX_CHANGE_BODY(lchmod, LALTER, AT_FDCWD, path, prelux_real.lchmod(c.use, mode));
}

PRELUX_EXPORT int fchmod(int fd, mode_t mode)
{
  PRELUX_CHANGE_FD_BODY(fchmod, fd, prelux_real.fchmod(fd, mode));
}

PRELUX_EXPORT int chown(const char *path, uid_t uid, gid_t gid)
{
  PRELUX_CHANGE_BODY(chown, ALTER, AT_FDCWD, path, prelux_real.chown(c.use, uid, gid));
}

PRELUX_EXPORT int lchown(const char *path, uid_t uid, gid_t gid)
{
  PRELUX_CHANGE_BODY(lchown, LALTER, AT_FDCWD, path, prelux_real.lchown(c.use, uid, gid));
}

PRELUX_EXPORT int fchown(int fd, uid_t uid, gid_t gid)
{
  PRELUX_CHANGE_FD_BODY(fchown, fd, prelux_real.fchown(fd, uid, gid));
}

/* The *at calls take AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH for the fd itself. A NULL path is the
 * fd's file in the calls that set times. */
static bool names_fd(int dirfd, const char *path, int flags)
{
  return path && !*path && dirfd >= 0 && (flags & AT_EMPTY_PATH);
}

static int lchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
  PRELUX_CHANGE_BODY(fchmodat, LALTER, dirfd, path, prelux_real.fchmodat(c.at, c.use, mode, flags));
}

static int fd_chmodat(int fd, const char *path, mode_t mode, int flags)
{
  PRELUX_CHANGE_FD_BODY(fchmodat, fd, prelux_real.fchmodat(fd, path, mode, flags));
}

PRELUX_EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
  if (names_fd(dirfd, path, flags)) return fd_chmodat(dirfd, path, mode, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lchmodat(dirfd, path, mode, flags);
  PRELUX_CHANGE_BODY(fchmodat, ALTER, dirfd, path, prelux_real.fchmodat(c.at, c.use, mode, flags));
}

static int lchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
  PRELUX_CHANGE_BODY(fchownat, LALTER, dirfd, path, prelux_real.fchownat(c.at, c.use, uid, gid, flags));
}

static int fd_chownat(int fd, const char *path, uid_t uid, gid_t gid, int flags)
{
  PRELUX_CHANGE_FD_BODY(fchownat, fd, prelux_real.fchownat(fd, path, uid, gid, flags));
}

PRELUX_EXPORT int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
  if (names_fd(dirfd, path, flags)) return fd_chownat(dirfd, path, uid, gid, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lchownat(dirfd, path, uid, gid, flags);
  PRELUX_CHANGE_BODY(fchownat, ALTER, dirfd, path, prelux_real.fchownat(c.at, c.use, uid, gid, flags));
}

PRELUX_EXPORT int utime(const char *path, const struct utimbuf *times)
{
  PRELUX_CHANGE_BODY(utime, ALTER, AT_FDCWD, path, prelux_real.utime(c.use, times));
}

PRELUX_EXPORT int utimes(const char *path, const struct timeval times[2])
{
  PRELUX_CHANGE_BODY(utimes, ALTER, AT_FDCWD, path, prelux_real.utimes(c.use, times));
}

PRELUX_EXPORT int lutimes(const char *path, const struct timeval times[2])
{
  PRELUX_CHANGE_BODY(lutimes, LALTER, AT_FDCWD, path, prelux_real.lutimes(c.use, times));
}

PRELUX_EXPORT int futimes(int fd, const struct timeval times[2])
{
  PRELUX_CHANGE_FD_BODY(futimes, fd, prelux_real.futimes(fd, times));
}

/* Both UTIME_OMIT: nothing is changed, and the kernel does not even look. */
static bool omits_both(const struct timespec times[2])
{
  return times && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT;
}

PRELUX_EXPORT int futimens(int fd, const struct timespec times[2])
{
  if (omits_both(times)) return prelux_real.futimens(fd, times);
  PRELUX_CHANGE_FD_BODY(futimens, fd, prelux_real.futimens(fd, times));
}

static int fd_utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
  PRELUX_CHANGE_FD_BODY(utimensat, fd, prelux_real.utimensat(fd, path, times, flags));
}

static int lutimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
  PRELUX_CHANGE_BODY(utimensat, LALTER, dirfd, path, prelux_real.utimensat(c.at, c.use, times, flags));
}

PRELUX_EXPORT int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
  if (omits_both(times)) return prelux_real.utimensat(dirfd, path, times, flags);
  if (!path || names_fd(dirfd, path, flags)) return fd_utimensat(dirfd, path, times, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lutimensat(dirfd, path, times, flags);
  PRELUX_CHANGE_BODY(utimensat, ALTER, dirfd, path, prelux_real.utimensat(c.at, c.use, times, flags));
}

static int fd_utimesat(int fd, const struct timeval times[2])
{
  PRELUX_CHANGE_FD_BODY(futimesat, fd, prelux_real.futimesat(fd, NULL, times));
}

PRELUX_EXPORT int futimesat(int dirfd, const char *path, const struct timeval times[2])
{
  if (!path) return fd_utimesat(dirfd, times);
  PRELUX_CHANGE_BODY(futimesat, ALTER, dirfd, path, prelux_real.futimesat(c.at, c.use, times));
}

PRELUX_EXPORT int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
  PRELUX_CHANGE_BODY(setxattr, ALTER, AT_FDCWD, path, prelux_real.setxattr(c.use, name, value, size, flags));
}

PRELUX_EXPORT int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
  PRELUX_CHANGE_BODY(lsetxattr, LALTER, AT_FDCWD, path, prelux_real.lsetxattr(c.use, name, value, size, flags));
}

PRELUX_EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
  PRELUX_CHANGE_FD_BODY(fsetxattr, fd, prelux_real.fsetxattr(fd, name, value, size, flags));
}

PRELUX_EXPORT int removexattr(const char *path, const char *name)
{
  PRELUX_CHANGE_BODY(removexattr, ALTER, AT_FDCWD, path, prelux_real.removexattr(c.use, name));
}

PRELUX_EXPORT int lremovexattr(const char *path, const char *name)
{
  PRELUX_CHANGE_BODY(lremovexattr, LALTER, AT_FDCWD, path, prelux_real.lremovexattr(c.use, name));
}

PRELUX_EXPORT int fremovexattr(int fd, const char *name)
{
  PRELUX_CHANGE_FD_BODY(fremovexattr, fd, prelux_real.fremovexattr(fd, name));
}

/* chattr and its kin set flags of the inode through an fd that is open for reading. */
PRELUX_EXPORT int ioctl(int fd, unsigned long request, ...)
{
  va_list ap;
  va_start(ap, request);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  if (request == FS_IOC_SETFLAGS || request == FS_IOC_FSSETXATTR || request == FS_IOC_SETVERSION) {
    int no = prelux_change_fd("ioctl", fd);
    if (no) return (int)prelux_ret(no);
  }
  return prelux_real.ioctl(fd, request, arg);
}
