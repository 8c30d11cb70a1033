/* Attributes: modes, owners, times, extended attributes.
 *
 * Below a writable mapping the daemon keeps what is set (SETATTR), for a path or for a staging file, which a descriptor may name when
 * no path does any more; the inode under a descriptor of ours is never changed by the library. Who may change what is judged here,
 * by the owner that is shown. Times of access are accepted and not kept. There are no extended attributes to be set: ENOTSUP, upon
 * which cp, mv, tar and rsync do without. */
#include "shim/change.h"
#include "shim/pending.h"

#include <linux/fs.h>
#include <stdarg.h>
#include <time.h>

#include "shim/stats.h"
#include "shim/tell.h"

/* What is to be set. */
struct want {
  struct prelux_setattr set;
  bool now; /* a time that is not of the caller's choice: who may write may set it */
};

/* ---- who may */

enum { GROUPS_MAX = 1024 };

static bool is_member(gid_t gid)
{
  gid_t groups[GROUPS_MAX];
  if ((gid_t)prelux_sys(SYS_getegid) == gid) return true;
  long n = prelux_sys(SYS_getgroups, GROUPS_MAX, groups);
  for (long i = 0; i < n; i++) {
    if (groups[i] == gid) return true;
  }
  return false;
}

/* w->set without what is so already. 0, or -EPERM. */
static int judge(struct prelux_setattr *set, bool now, const struct stat *st)
{
  uid_t me = (uid_t)prelux_sys(SYS_geteuid);
  bool root = me == 0, owner = root || me == st->st_uid;
  if ((set->which & PRELUX_SETATTR_MODE) && !owner) return -EPERM;
  if ((set->which & PRELUX_SETATTR_MTIME) && !owner && !now) return -EPERM;
  if (set->which & (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID)) {
    if ((set->which & PRELUX_SETATTR_UID) && !root && (set->uid != st->st_uid || !owner)) return -EPERM;
    if ((set->which & PRELUX_SETATTR_GID) && !root && (!owner || (set->gid != st->st_gid && !is_member(set->gid)))) return -EPERM;
    if (set->uid == st->st_uid) set->which &= ~(uint32_t)PRELUX_SETATTR_UID;
    if (set->gid == st->st_gid) set->which &= ~(uint32_t)PRELUX_SETATTR_GID;
  }
  return 0;
}

/* ---- by path */

static int act_set(struct prelux_change *c)
{
  const struct want *w = c->arg;
  struct prelux_setattr set = w->set;
  struct prelux_attr attr;
  struct stat st;
  int rc = prelux_ask_attr(&c->r, c->call, &attr);
  if (rc) return rc;
  prelux_fill_stat(c->r.mapping, &attr, &st);
  if (attr.type == PRELUX_LINK && (set.which & PRELUX_SETATTR_MODE)) return -EOPNOTSUPP;
  rc = judge(&set, w->now, &st);
  if (rc || set.which == 0) return rc;
  if (attr.type == PRELUX_LINK) set.which |= PRELUX_SETATTR_LINK;
  return prelux_tell_set(&c->r, c->call, &set);
}

/* ---- by descriptor. True: *ret is the answer; false: libc's is. by_name: AT_EMPTY_PATH, which O_PATH will do for. */

/* A staging file that has lost its name (unlink, rename over it): only descriptors know it, so what is set is the inode's own. */
static int set_nameless(int fd, const struct prelux_setattr *set)
{
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = set->mtime_ns / 1000000000, .tv_nsec = set->mtime_ns % 1000000000}};
  long rc = 0;
  if (times[1].tv_nsec < 0) {
    times[1].tv_nsec += 1000000000;
    times[1].tv_sec--;
  }
  if (set->which & PRELUX_SETATTR_NOW) times[1].tv_nsec = UTIME_NOW;
  if (set->which & PRELUX_SETATTR_MODE) rc = prelux_sys(SYS_fchmod, fd, set->mode);
  if (rc == 0 && (set->which & PRELUX_SETATTR_MTIME)) rc = prelux_sys(SYS_utimensat, fd, NULL, times, 0);
  if (rc == 0 && (set->which & (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID)))
    rc = prelux_sys(SYS_fchown, fd, set->which & PRELUX_SETATTR_UID ? set->uid : (uid_t)-1,
                    set->which & PRELUX_SETATTR_GID ? set->gid : (gid_t)-1);
  return (int)rc;
}

/* A staging file of which the daemon knows nothing has lost its name, or has been sent meanwhile, which the daemon waits for: then it is a
 * cache file, by its path. Whoever writes to that one takes it out again. */
static int set_of_fd(struct prelux_change_fd *c, int fd, const char *call, const struct prelux_setattr *set)
{
  enum { LOOKS = 3 };
  for (int look = 1; c->staged; look++) {
    int rc = prelux_tell_set_inode(c->mapping, c->ino, call, set);
    if (rc != -ENOENT) return rc;
    if (look == LOOKS) return set_nameless(fd, set);
    rc = prelux_change_fd(c, call, fd);
    if (rc <= 0) return rc ? rc : set_nameless(fd, set);
  }
  return c->gone ? 0 : prelux_tell_set(&c->r, call, set);
}

static int set_open(struct prelux_change_fd *c, int fd, const char *call, const struct want *w)
{
  struct prelux_setattr set = w->set;
  struct stat st;
  int rc = (int)prelux_fstat(fd, &st);
  if (rc) return rc;
  prelux_patch_stat(fd, &st);
  rc = judge(&set, w->now, &st);
  return rc || set.which == 0 ? rc : set_of_fd(c, fd, call, &set);
}

static bool set_fd(int fd, const char *call, bool by_name, const struct want *w, int *ret)
{
  struct prelux_change_fd c;
  int rc = prelux_change_fd(&c, call, fd);
  if (rc == 0) return false;
  if (rc > 0) {
    long status = by_name ? 0 : prelux_sys(SYS_fcntl, fd, F_GETFL);
    rc = status > 0 && (status & O_PATH) ? -EBADF : set_open(&c, fd, call, w);
  }
  *ret = (int)prelux_ret(rc);
  return true;
}

/* The body of a hook with an fd. */
#define SET_FD_BODY(name, fd, by_name, want, expr)               \
  int rc;                                                        \
  return set_fd(fd, #name, by_name, want, &rc) ? rc : (expr)

/* Programs that hold a file by O_PATH set its attributes by its link in /proc: the descriptor says which file that is, also when the name
 * that it has in the cache is none of ours. */
static int linked(const char *path)
{
  return prelux_idle() || prelux_no_pointer(path) || path[0] != '/' ? -1 : prelux_fd_of_link(path);
}

#define SET_LINKED(name, path, want)                                                         \
  do {                                                                                       \
    int rc_, fd_ = linked(path);                                                             \
    if (fd_ >= 0 && set_fd(fd_, #name, true, want, &rc_)) return rc_;                        \
  } while (0)

static bool bad_flags(int flags)
{
  return flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH); /* the kernel refuses them before it looks at the path */
}

/* The *at calls take AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH for the fd itself. */
static bool names_fd(int dirfd, const char *path, int flags)
{
  return prelux_empty(path) && dirfd >= 0 && (flags & AT_EMPTY_PATH);
}

/* ---- modes */

static struct want mode_of(mode_t mode)
{
  return (struct want){.set = {.which = PRELUX_SETATTR_MODE, .mode = mode & 07777}};
}

PRELUX_EXPORT int chmod(const char *path, mode_t mode)
{
  const struct want w = mode_of(mode);
  SET_LINKED(chmod, path, &w);
  PRELUX_CHANGE_BODY(chmod, ALTER, AT_FDCWD, path, act_set, &w, prelux_real.chmod(c.use, mode));
}

PRELUX_EXPORT int lchmod(const char *path, mode_t mode)
{
  const struct want w = mode_of(mode);
  PRELUX_CHANGE_BODY(lchmod, LALTER, AT_FDCWD, path, act_set, &w, prelux_real.lchmod(c.use, mode));
}

PRELUX_EXPORT int fchmod(int fd, mode_t mode)
{
  const struct want w = mode_of(mode);
  SET_FD_BODY(fchmod, fd, false, &w, prelux_real.fchmod(fd, mode));
}

static int lchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
  const struct want w = mode_of(mode);
  PRELUX_CHANGE_BODY(fchmodat, LALTER, dirfd, path, act_set, &w, prelux_real.fchmodat(c.at, c.use, mode, flags));
}

static int fd_chmodat(int fd, const char *path, mode_t mode, int flags)
{
  const struct want w = mode_of(mode);
  SET_FD_BODY(fchmodat, fd, true, &w, prelux_real.fchmodat(fd, path, mode, flags));
}

PRELUX_EXPORT int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
  const struct want w = mode_of(mode);
  if (names_fd(dirfd, path, flags)) return fd_chmodat(dirfd, path, mode, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lchmodat(dirfd, path, mode, flags);
  SET_LINKED(fchmodat, path, &w);
  PRELUX_CHANGE_BODY(fchmodat, ALTER, dirfd, path, act_set, &w, prelux_real.fchmodat(c.at, c.use, mode, flags));
}

/* ---- owners */

static struct want owner_of(uid_t uid, gid_t gid)
{
  uint32_t which = (uid != (uid_t)-1 ? PRELUX_SETATTR_UID : 0) | (gid != (gid_t)-1 ? PRELUX_SETATTR_GID : 0);
  return (struct want){.set = {.which = which, .uid = uid, .gid = gid}};
}

PRELUX_EXPORT int chown(const char *path, uid_t uid, gid_t gid)
{
  const struct want w = owner_of(uid, gid);
  SET_LINKED(chown, path, &w);
  PRELUX_CHANGE_BODY(chown, ALTER, AT_FDCWD, path, act_set, &w, prelux_real.chown(c.use, uid, gid));
}

PRELUX_EXPORT int lchown(const char *path, uid_t uid, gid_t gid)
{
  const struct want w = owner_of(uid, gid);
  PRELUX_CHANGE_BODY(lchown, LALTER, AT_FDCWD, path, act_set, &w, prelux_real.lchown(c.use, uid, gid));
}

PRELUX_EXPORT int fchown(int fd, uid_t uid, gid_t gid)
{
  const struct want w = owner_of(uid, gid);
  SET_FD_BODY(fchown, fd, false, &w, prelux_real.fchown(fd, uid, gid));
}

static int lchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
  const struct want w = owner_of(uid, gid);
  PRELUX_CHANGE_BODY(fchownat, LALTER, dirfd, path, act_set, &w, prelux_real.fchownat(c.at, c.use, uid, gid, flags));
}

static int fd_chownat(int fd, const char *path, uid_t uid, gid_t gid, int flags)
{
  const struct want w = owner_of(uid, gid);
  SET_FD_BODY(fchownat, fd, true, &w, prelux_real.fchownat(fd, path, uid, gid, flags));
}

PRELUX_EXPORT int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
  if (bad_flags(flags)) return prelux_real.fchownat(dirfd, path, uid, gid, flags);
  const struct want w = owner_of(uid, gid);
  if (names_fd(dirfd, path, flags)) return fd_chownat(dirfd, path, uid, gid, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lchownat(dirfd, path, uid, gid, flags);
  SET_LINKED(fchownat, path, &w);
  PRELUX_CHANGE_BODY(fchownat, ALTER, dirfd, path, act_set, &w, prelux_real.fchownat(c.at, c.use, uid, gid, flags));
}

/* ---- times: only that of the last change is kept. A function that is told wrong ones returns -EINVAL. */

/* ns: of the second argument, or UTIME_NOW, UTIME_OMIT. */
static struct want time_of(int64_t sec, long ns)
{
  struct want w = {.set = {.which = PRELUX_SETATTR_MTIME | (ns == UTIME_NOW ? PRELUX_SETATTR_NOW : 0)}, .now = ns == UTIME_NOW};
  struct timespec now = {.tv_sec = sec, .tv_nsec = ns};
  if (ns == UTIME_OMIT) w.set.which = 0;
  if (ns == UTIME_NOW && !prelux_quiet()) prelux_sys(SYS_clock_gettime, CLOCK_REALTIME_COARSE, &now);
  w.set.mtime_ns = now.tv_sec * 1000000000ll + now.tv_nsec;
  return w;
}

static struct want time_of_specs(const struct timespec times[2])
{
  return times ? time_of(times[1].tv_sec, times[1].tv_nsec) : time_of(0, UTIME_NOW);
}

static struct want time_of_vals(const struct timeval times[2])
{
  return times ? time_of(times[1].tv_sec, times[1].tv_usec * 1000) : time_of(0, UTIME_NOW);
}

/* The kernel, or libc before it, says EINVAL of these. */
static bool wrong_spec(const struct timespec *t)
{
  return t->tv_nsec != UTIME_NOW && t->tv_nsec != UTIME_OMIT && (t->tv_nsec < 0 || t->tv_nsec >= 1000000000);
}

static bool wrong_specs(const struct timespec times[2])
{
  return times && (wrong_spec(&times[0]) || wrong_spec(&times[1]));
}

static bool wrong_vals(const struct timeval times[2])
{
  return times && (times[0].tv_usec < 0 || times[0].tv_usec >= 1000000 || times[1].tv_usec < 0 || times[1].tv_usec >= 1000000);
}

PRELUX_EXPORT int utime(const char *path, const struct utimbuf *times)
{
  const struct want w = times ? time_of(times->modtime, 0) : time_of(0, UTIME_NOW);
  SET_LINKED(utime, path, &w);
  PRELUX_CHANGE_BODY(utime, ALTER, AT_FDCWD, path, act_set, &w, prelux_real.utime(c.use, times));
}

PRELUX_EXPORT int utimes(const char *path, const struct timeval times[2])
{
  if (wrong_vals(times)) return prelux_real.utimes(path, times);
  const struct want w = time_of_vals(times);
  SET_LINKED(utimes, path, &w);
  PRELUX_CHANGE_BODY(utimes, ALTER, AT_FDCWD, path, act_set, &w, prelux_real.utimes(c.use, times));
}

PRELUX_EXPORT int lutimes(const char *path, const struct timeval times[2])
{
  if (wrong_vals(times)) return prelux_real.lutimes(path, times);
  const struct want w = time_of_vals(times);
  PRELUX_CHANGE_BODY(lutimes, LALTER, AT_FDCWD, path, act_set, &w, prelux_real.lutimes(c.use, times));
}

PRELUX_EXPORT int futimes(int fd, const struct timeval times[2])
{
  if (wrong_vals(times)) return prelux_real.futimes(fd, times);
  const struct want w = time_of_vals(times);
  SET_FD_BODY(futimes, fd, false, &w, prelux_real.futimes(fd, times));
}

/* Both UTIME_OMIT: nothing is changed, and the kernel does not even look. */
static bool omits_both(const struct timespec times[2])
{
  return times && times[0].tv_nsec == UTIME_OMIT && times[1].tv_nsec == UTIME_OMIT;
}

PRELUX_EXPORT int futimens(int fd, const struct timespec times[2])
{
  if (omits_both(times) || wrong_specs(times)) return prelux_real.futimens(fd, times);
  const struct want w = time_of_specs(times);
  SET_FD_BODY(futimens, fd, false, &w, prelux_real.futimens(fd, times));
}

static int fd_utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
  const struct want w = time_of_specs(times);
  SET_FD_BODY(utimensat, fd, true, &w, prelux_real.utimensat(fd, path, times, flags));
}

static int lutimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
  const struct want w = time_of_specs(times);
  PRELUX_CHANGE_BODY(utimensat, LALTER, dirfd, path, act_set, &w, prelux_real.utimensat(c.at, c.use, times, flags));
}

PRELUX_EXPORT int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
  if (omits_both(times) || wrong_specs(times) || bad_flags(flags)) return prelux_real.utimensat(dirfd, path, times, flags);
  if (!path) return prelux_real.utimensat(dirfd, path, times, flags); /* libc says EINVAL; the system call is futimens: shim/sys.c */
  if (names_fd(dirfd, path, flags)) return fd_utimensat(dirfd, path, times, flags);
  if (flags & AT_SYMLINK_NOFOLLOW) return lutimensat(dirfd, path, times, flags);
  const struct want w = time_of_specs(times);
  SET_LINKED(utimensat, path, &w);
  PRELUX_CHANGE_BODY(utimensat, ALTER, dirfd, path, act_set, &w, prelux_real.utimensat(c.at, c.use, times, flags));
}

static int fd_utimesat(int fd, const struct timeval times[2])
{
  const struct want w = time_of_vals(times);
  SET_FD_BODY(futimesat, fd, false, &w, prelux_real.futimesat(fd, NULL, times));
}

PRELUX_EXPORT int futimesat(int dirfd, const char *path, const struct timeval times[2])
{
  if (wrong_vals(times)) return prelux_real.futimesat(dirfd, path, times);
  if (!path) return fd_utimesat(dirfd, times);
  const struct want w = time_of_vals(times);
  PRELUX_CHANGE_BODY(futimesat, ALTER, dirfd, path, act_set, &w, prelux_real.futimesat(c.at, c.use, times));
}

/* ---- extended attributes: what prelux itself tells by them (shim/fsinfo.c) cannot be set, all others do not exist */

static int no_xattr(const char *name)
{
  return strncmp(name, "user.prelux.", 12) == 0 ? -EPERM : -ENOTSUP;
}

static int act_xattr(struct prelux_change *c)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(&c->r, c->call, &attr);
  return rc ? rc : no_xattr(c->arg);
}

static bool xattr_fd(int fd, const char *call, const char *name, int *ret)
{
  struct prelux_change_fd c;
  int rc = prelux_change_fd(&c, call, fd);
  if (rc == 0) return false;
  *ret = (int)prelux_ret(rc < 0 ? rc : no_xattr(name));
  return true;
}

PRELUX_EXPORT int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
  PRELUX_CHANGE_BODY(setxattr, ALTER, AT_FDCWD, path, act_xattr, name,
                     prelux_real.setxattr(c.use, name, value, size, flags));
}

PRELUX_EXPORT int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
  PRELUX_CHANGE_BODY(lsetxattr, LALTER, AT_FDCWD, path, act_xattr, name,
                     prelux_real.lsetxattr(c.use, name, value, size, flags));
}

PRELUX_EXPORT int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
  int rc;
  return xattr_fd(fd, "fsetxattr", name, &rc) ? rc : prelux_real.fsetxattr(fd, name, value, size, flags);
}

PRELUX_EXPORT int removexattr(const char *path, const char *name)
{
  PRELUX_CHANGE_BODY(removexattr, ALTER, AT_FDCWD, path, act_xattr, name, prelux_real.removexattr(c.use, name));
}

PRELUX_EXPORT int lremovexattr(const char *path, const char *name)
{
  PRELUX_CHANGE_BODY(lremovexattr, LALTER, AT_FDCWD, path, act_xattr, name, prelux_real.lremovexattr(c.use, name));
}

PRELUX_EXPORT int fremovexattr(int fd, const char *name)
{
  int rc;
  return xattr_fd(fd, "fremovexattr", name, &rc) ? rc : prelux_real.fremovexattr(fd, name);
}

/* chattr and its kin set flags of the inode through an fd that is open for reading. */
PRELUX_EXPORT int ioctl(int fd, prelux_ioctl_request number, ...)
{
  va_list ap;
  va_start(ap, number);
  void *arg = va_arg(ap, void *);
  va_end(ap);
  unsigned request = (unsigned)number; /* the kernel takes no more of it */
  if (request == FS_IOC_SETFLAGS || request == FS_IOC_FSSETXATTR || request == FS_IOC_SETVERSION) {
    struct prelux_change_fd c;
    int no = prelux_change_fd(&c, "ioctl", fd);
    if (no) return (int)prelux_ret(no < 0 ? no : -ENOTTY);
  }
  /* From one remote to somewhere else no blocks are shared. */
  if (request == FICLONE && prelux_pending_any() && !prelux_idle() && prelux_pending_is((int)(intptr_t)arg)) return (int)prelux_ret(-EXDEV);
  bool pending = prelux_pending_any() && !prelux_idle() && prelux_pending_is(fd);
  int rc = pending ? (request >> 8 & 0xff) == 'T' ? -ENOTTY : prelux_settle(fd) : 0; /* terminals are asked for by every open of Python's */
  return rc < 0 ? (int)prelux_ret(rc) : prelux_real.ioctl(fd, number, arg);
}
