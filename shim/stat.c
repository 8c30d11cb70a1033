/* stat and its twins. */
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout");

static int stat_mapped(const struct prelux_route *r, struct stat *st)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "stat", &attr);
  if (rc == 0) prelux_fill_stat(r->mapping, &attr, st);
  return (int)prelux_ret(rc);
}

/* libc came to the real folder that stands behind a prefix. */
static int turn_root(struct stat *st)
{
  struct prelux_route r;
  if (!S_ISDIR(st->st_mode)) return 0;
  int root = prelux_root_of(st->st_dev, st->st_ino);
  if (root < 0) return 0;
  prelux_route_root((uint32_t)root, &r);
  return r.where < 0 ? (int)prelux_ret(r.where) : stat_mapped(&r, st);
}

/* The descriptor behind a link of /proc, of a file: without a name any more it is nothing to route by. -1: none. */
static int behind_link(const char *path, unsigned mode, int flags)
{
  return S_ISREG(mode) && !(flags & AT_SYMLINK_NOFOLLOW) ? prelux_fd_of_link(path) : -1;
}

static int stat_routed(struct prelux_route *r, struct stat *st, int flags)
{
  if (r->where < 0) return (int)prelux_ret(r->where);
  if (r->where == PRELUX_MAPPED) return stat_mapped(r, st);
  int rc = prelux_real.fstatat(r->at, r->use, st, flags);
  int fd = rc == 0 ? behind_link(r->use, st->st_mode, flags) : -1;
  if (fd >= 0) prelux_patch_stat(fd, st);
  return rc == 0 ? turn_root(st) : rc;
}

__attribute__((noinline)) static int stat_near(int dirfd, const char *path, struct stat *st, int flags)
{
  struct prelux_route r;
  unsigned how = flags & AT_SYMLINK_NOFOLLOW ? PRELUX_NOFOLLOW : 0;
  prelux_route(dirfd, path, how, &r);
  int rc = stat_routed(&r, st, flags);
  if (rc < 0 && prelux_route_again(dirfd, path, how, &r)) rc = stat_routed(&r, st, flags);
  return rc;
}

/* After libc's own answer for a far path. */
__attribute__((noinline)) static int stat_after(int rc, int dirfd, const char *path, struct stat *st, int flags)
{
  struct prelux_route r;
  if (rc == 0) return turn_root(st);
  prelux_route_plain(dirfd, path, &r);
  if (!prelux_route_again(dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? PRELUX_NOFOLLOW : 0, &r)) return rc;
  return stat_routed(&r, st, flags);
}

static bool look_closer(int rc, const struct stat *st)
{
  if (rc == 0) return prelux_state.table && prelux_state.table->n_roots && S_ISDIR(st->st_mode);
  return errno == ENOENT || errno == ENOTDIR;
}

#define AS_STAT(p) ((struct stat *)(p))

#define STAT(name, type, nofollow)                                                        \
  PRELUX_EXPORT int name(const char *path, struct type *st)                               \
  {                                                                                       \
    if (prelux_idle()) return prelux_real.name(path, st);                                 \
    if (!prelux_far(AT_FDCWD, path)) return stat_near(AT_FDCWD, path, AS_STAT(st), nofollow); \
    int rc = prelux_real.name(path, st);                                                  \
    return look_closer(rc, AS_STAT(st)) ? stat_after(rc, AT_FDCWD, path, AS_STAT(st), nofollow) : rc; \
  }
STAT(stat, stat, 0)
STAT(stat64, stat64, 0)
STAT(lstat, stat, AT_SYMLINK_NOFOLLOW)
STAT(lstat64, stat64, AT_SYMLINK_NOFOLLOW)

/* A library behind ours that stands in for libc too (fakeroot) makes its stat of these old names, and finds ours: it is libc's that it wants,
 * by way of its own. */
#define FROM_BEHIND() prelux_real_is_behind(__builtin_return_address(0))

#define XSTAT(name, type, nofollow)                                                       \
  PRELUX_EXPORT int name(int ver, const char *path, struct type *st)                      \
  {                                                                                       \
    if (prelux_idle() || FROM_BEHIND()) return prelux_real.name(ver, path, st);           \
    if (!prelux_far(AT_FDCWD, path)) return stat_near(AT_FDCWD, path, AS_STAT(st), nofollow); \
    int rc = prelux_real.name(ver, path, st);                                             \
    return look_closer(rc, AS_STAT(st)) ? stat_after(rc, AT_FDCWD, path, AS_STAT(st), nofollow) : rc; \
  }
XSTAT(__xstat, stat, 0)
XSTAT(__xstat64, stat64, 0)
XSTAT(__lxstat, stat, AT_SYMLINK_NOFOLLOW)
XSTAT(__lxstat64, stat64, AT_SYMLINK_NOFOLLOW)

static inline bool is_ours(int fd)
{
  uint32_t hint;
  return prelux_fd_get(fd, &hint) == PRELUX_CLASS_SHADOW;
}

#define FSTAT(name, type)                                          \
  PRELUX_EXPORT int name(int fd, struct type *st)                  \
  {                                                                \
    bool idle = prelux_idle();                                     \
    int rc = !idle && is_ours(fd) ? (int)prelux_ret(prelux_fstat(fd, AS_STAT(st))) : prelux_real.name(fd, st); \
    if (rc == 0 && !idle) prelux_patch_stat(fd, AS_STAT(st));      \
    return rc;                                                     \
  }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)

#define FXSTAT(name, type)                                         \
  PRELUX_EXPORT int name(int ver, int fd, struct type *st)         \
  {                                                                \
    bool idle = prelux_idle() || FROM_BEHIND();                    \
    int rc = prelux_real.name(ver, fd, st);                        \
    if (rc == 0 && !idle) prelux_patch_stat(fd, AS_STAT(st));      \
    return rc;                                                     \
  }
FXSTAT(__fxstat, stat)
FXSTAT(__fxstat64, stat64)

/* With AT_EMPTY_PATH and no path the fd itself is meant. */
static bool is_fd_itself(const char *path, int flags)
{
  return (flags & AT_EMPTY_PATH) && (!path || prelux_empty(path));
}

/* Programs learn by EINVAL what a kernel can do. */
static bool bad_statx(int flags, unsigned mask)
{
  const int known = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
  return (flags & ~known) || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE || (mask & STATX__RESERVED);
}

#define FSTATAT(name, type)                                                                   \
  PRELUX_EXPORT int name(int dirfd, const char *path, struct type *st, int flags)             \
  {                                                                                           \
    if (prelux_idle() || bad_statx(flags, 0)) return prelux_real.name(dirfd, path, st, flags); \
    if (is_fd_itself(path, flags)) {                                                          \
      if (dirfd == AT_FDCWD) return stat_near(AT_FDCWD, ".", AS_STAT(st), 0);                 \
      int rc = prelux_real.name(dirfd, path, st, flags);                                      \
      if (rc == 0) prelux_patch_stat(dirfd, AS_STAT(st));                                     \
      return rc;                                                                              \
    }                                                                                         \
    if (!prelux_far(dirfd, path)) return stat_near(dirfd, path, AS_STAT(st), flags);          \
    int rc = prelux_real.name(dirfd, path, st, flags);                                        \
    return look_closer(rc, AS_STAT(st)) ? stat_after(rc, dirfd, path, AS_STAT(st), flags) : rc; \
  }
FSTATAT(fstatat, stat)
FSTATAT(fstatat64, stat64)

#define FXSTATAT(name, type)                                                                  \
  PRELUX_EXPORT int name(int ver, int dirfd, const char *path, struct type *st, int flags)    \
  {                                                                                           \
    if (prelux_idle() || FROM_BEHIND()) return prelux_real.name(ver, dirfd, path, st, flags); \
    return fstatat(dirfd, path, AS_STAT(st), flags);                                          \
  }
FXSTATAT(__fxstatat, stat)
FXSTATAT(__fxstatat64, stat64)

/* ---- statx */

static void put_time(struct statx_timestamp *to, const struct timespec *from)
{
  to->tv_sec = from->tv_sec;
  to->tv_nsec = (uint32_t)from->tv_nsec;
}

static void put_stat(struct statx *x, const struct stat *st)
{
  uint64_t dev = st->st_dev;
  x->stx_mask = STATX_BASIC_STATS;
  x->stx_blksize = (uint32_t)st->st_blksize;
  x->stx_attributes = 0;
  x->stx_attributes_mask = 0;
  x->stx_nlink = (uint32_t)st->st_nlink;
  x->stx_uid = st->st_uid;
  x->stx_gid = st->st_gid;
  x->stx_mode = (uint16_t)st->st_mode;
  x->stx_ino = st->st_ino;
  x->stx_size = (uint64_t)st->st_size;
  x->stx_blocks = (uint64_t)st->st_blocks;
  put_time(&x->stx_atime, &st->st_atim);
  put_time(&x->stx_mtime, &st->st_mtim);
  put_time(&x->stx_ctime, &st->st_ctim);
  memset(&x->stx_btime, 0, sizeof(x->stx_btime));
  x->stx_dev_major = (uint32_t)((dev >> 8 & 0xfff) | (dev >> 32 & ~0xfffull));
  x->stx_dev_minor = (uint32_t)((dev & 0xff) | (dev >> 12 & ~0xffull));
}

static uint64_t dev_of(const struct statx *x)
{
  uint64_t major = x->stx_dev_major, minor = x->stx_dev_minor;
  return (major & 0xfff) << 8 | (major & ~0xfffull) << 32 | (minor & 0xff) | (minor & ~0xffull) << 12;
}

/* What the patching of a real answer needs to know of it. */
static void take_statx(const struct statx *x, struct stat *st)
{
  memset(st, 0, sizeof(*st));
  st->st_dev = dev_of(x);
  st->st_ino = x->stx_ino;
  st->st_mode = x->stx_mode;
  st->st_size = (off_t)x->stx_size;
}

static int statx_mapped(const struct prelux_route *r, struct statx *x)
{
  struct stat st;
  int rc = stat_mapped(r, &st);
  if (rc < 0) return rc;
  memset(x, 0, sizeof(*x));
  put_stat(x, &st);
  return 0;
}

/* x: the kernel's answer of what is open as fd. */
static void patch_statx(int fd, struct statx *x)
{
  struct stat st;
  take_statx(x, &st);
  dev_t dev = st.st_dev;
  ino_t ino = st.st_ino;
  prelux_patch_stat(fd, &st);
  if (st.st_dev != dev || st.st_ino != ino) put_stat(x, &st);
}

static int statx_fd(int fd, const char *path, int flags, unsigned mask, struct statx *x)
{
  int rc = prelux_real.statx(fd, path, flags, mask | STATX_TYPE | STATX_INO | STATX_SIZE, x);
  if (rc == 0) patch_statx(fd, x);
  return rc;
}

static int statx_routed(struct prelux_route *r, int flags, unsigned mask, struct statx *x)
{
  struct stat st;
  if (r->where < 0) return (int)prelux_ret(r->where);
  if (r->where == PRELUX_MAPPED) return statx_mapped(r, x);
  int rc = prelux_real.statx(r->at, r->use, flags, mask | STATX_TYPE | STATX_INO | STATX_SIZE, x);
  int fd = rc == 0 ? behind_link(r->use, x->stx_mode, flags) : -1;
  if (fd >= 0) patch_statx(fd, x);
  if (rc < 0 || !S_ISDIR(x->stx_mode)) return rc;
  take_statx(x, &st);
  int root = prelux_root_of(st.st_dev, st.st_ino);
  if (root < 0) return rc;
  prelux_route_root((uint32_t)root, r);
  return r->where < 0 ? (int)prelux_ret(r->where) : statx_mapped(r, x);
}

PRELUX_EXPORT int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *x)
{
  if (prelux_idle() || !x || bad_statx(flags, mask)) return prelux_real.statx(dirfd, path, flags, mask, x);
  bool itself = is_fd_itself(path, flags);
  if (itself && dirfd != AT_FDCWD) return statx_fd(dirfd, path, flags, mask, x);
  struct prelux_route r;
  if (itself) path = ".";
  unsigned how = flags & AT_SYMLINK_NOFOLLOW ? PRELUX_NOFOLLOW : 0;
  prelux_route(dirfd, path, how, &r);
  int rc = statx_routed(&r, flags, mask, x);
  if (rc < 0 && prelux_route_again(dirfd, path, how, &r)) rc = statx_routed(&r, flags, mask, x);
  return rc;
}
