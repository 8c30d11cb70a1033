/* realpath and readlink. Links below a prefix are those that this node keeps; what /proc says of our files becomes logical names. */
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/tell.h"

/* ---- readlink */

/* libc's answer names something of ours only for the magic links of /proc (or a link that somebody made into the cache
 * on purpose, which stays as it is). */
static bool on_proc(int at, const char *path)
{
  struct stat link, proc;
  if (strncmp(path, "/proc/", 6) == 0) return true;
  if (prelux_sys(SYS_newfstatat, at, path, &link, AT_SYMLINK_NOFOLLOW) < 0) return false;
  return prelux_sys(SYS_newfstatat, AT_FDCWD, "/proc/self", &proc, AT_SYMLINK_NOFOLLOW) == 0 &&
         link.st_dev == proc.st_dev;
}

/* Logical name of a staging file by its real one: length, 0: it is none, or has no name. */
static long staged_name(const char *real, char *out, size_t cap)
{
  uint64_t ino;
  uint32_t mapping;
  struct prelux_attr attr;
  struct prelux_route r;
  if (!prelux_staged_path(real, &ino, &mapping) || prelux_tell_whose(mapping, ino, "readlink", &attr, &r) != 1) return 0;
  size_t n = strlen(r.logical);
  if (n >= cap) return -ENAMETOOLONG;
  memcpy(out, r.logical, n + 1);
  return (long)n;
}

/* buf[0..n) is what the kernel gave: n of what the program is to see. */
static ssize_t shown(int at, const char *path, char *buf, ssize_t n, size_t size)
{
  static const char gone[] = " (deleted)";
  char real[PATH_MAX], logical[PATH_MAX];
  if (n <= 0 || buf[0] != '/') return n;
  long len = n;
  if ((size_t)n < size && (size_t)n < sizeof(real)) memcpy(real, buf, (size_t)n); /* all of it */
  else len = prelux_sys(SYS_readlinkat, at, path, real, sizeof(real) - 1);
  if (len <= 0) return n;
  if ((size_t)len > sizeof(gone) && memcmp(real + len - (sizeof(gone) - 1), gone, sizeof(gone) - 1) == 0)
    len -= sizeof(gone) - 1;
  real[len] = '\0';
  len = prelux_logical(real, -1, logical, sizeof(logical));
  if (len == 0) len = staged_name(real, logical, sizeof(logical));
  if (len <= 0 || !on_proc(at, path)) return n;
  if ((size_t)len > size) len = (long)size;
  memcpy(buf, logical, (size_t)len);
  return len;
}

static ssize_t readlink_kept(const struct prelux_route *r, char *buf, size_t size)
{
  char target[PATH_MAX];
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "readlink", &attr);
  if (rc < 0) return rc;
  if (attr.type != PRELUX_LINK) return -EINVAL;
  long n = prelux_tell_readlink(r, "readlink", target, sizeof(target));
  if (n > (long)size) n = (long)size;
  if (n > 0) memcpy(buf, target, (size_t)n);
  return n;
}

/* By the system call that the program would make: a filter may know no other. */
static ssize_t read_libc(int dirfd, const char *path, char *buf, size_t size)
{
  return dirfd == AT_FDCWD ? prelux_real.readlink(path, buf, size) : prelux_real.readlinkat(dirfd, path, buf, size);
}

static ssize_t readlink_routed(struct prelux_route *r, char *buf, size_t size)
{
  if (r->where < 0) return prelux_ret(r->where);
  if (r->where == PRELUX_MAPPED) return prelux_ret(readlink_kept(r, buf, size));
  ssize_t n = read_libc(r->at, r->use, buf, size);
  return n > 0 ? shown(r->at, r->use, buf, n, size) : n;
}

__attribute__((noinline)) static ssize_t readlink_near(int dirfd, const char *path, char *buf, size_t size)
{
  struct prelux_route r;
  prelux_route(dirfd, path, PRELUX_NOFOLLOW, &r);
  ssize_t n = readlink_routed(&r, buf, size);
  if (n < 0 && prelux_route_again(dirfd, path, PRELUX_NOFOLLOW, &r)) n = readlink_routed(&r, buf, size);
  return n;
}

/* libc's of a far path failed. */
__attribute__((noinline)) static ssize_t readlink_after(int dirfd, const char *path, char *buf, size_t size)
{
  struct prelux_route r;
  prelux_route_plain(dirfd, path, &r);
  return prelux_route_again(dirfd, path, PRELUX_NOFOLLOW, &r) ? readlink_routed(&r, buf, size) : -1;
}

static inline ssize_t readlink_any(int dirfd, const char *path, char *buf, size_t size)
{
  /* Without a path the fd itself is meant: a link cannot be ours. Without room libc fails before it looks. */
  if (prelux_no_pointer(path) || !*path || (int)size <= 0) return read_libc(dirfd, path, buf, size);
  if (!prelux_far(dirfd, path)) return readlink_near(dirfd, path, buf, size);
  ssize_t n = read_libc(dirfd, path, buf, size);
  if (n > 0) return shown(dirfd, path, buf, n, size);
  return n < 0 && (errno == ENOENT || errno == ENOTDIR) ? readlink_after(dirfd, path, buf, size) : n;
}

PRELUX_EXPORT ssize_t readlink(const char *path, char *buf, size_t size)
{
  if (prelux_idle()) return prelux_real.readlink(path, buf, size);
  return readlink_any(AT_FDCWD, path, buf, size);
}

PRELUX_EXPORT ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
{
  if (prelux_idle()) return prelux_real.readlinkat(dirfd, path, buf, size);
  return readlink_any(dirfd, path, buf, size);
}

PRELUX_EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t size, size_t buflen)
{
  if (prelux_idle() || size > buflen) return prelux_real.__readlink_chk(path, buf, size, buflen);
  return readlink_any(AT_FDCWD, path, buf, size);
}

PRELUX_EXPORT ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t size, size_t buflen)
{
  if (prelux_idle() || size > buflen) return prelux_real.__readlinkat_chk(dirfd, path, buf, size, buflen);
  return readlink_any(dirfd, path, buf, size);
}

/* ---- realpath */

static char *give(const char *path, char *resolved)
{
  return resolved ? memcpy(resolved, path, strlen(path) + 1) : strdup(path);
}

static char *realpath_mapped(const struct prelux_route *r, char *resolved)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "realpath", &attr);
  if (rc < 0) return prelux_null(rc);
  return give(r->logical, resolved);
}

static char *realpath_routed(struct prelux_route *r, char *resolved)
{
  char logical[PATH_MAX];
  if (r->where < 0) return prelux_null(r->where);
  if (r->where == PRELUX_MAPPED) return realpath_mapped(r, resolved);
  if (r->where == PRELUX_ANCESTOR && r->missing) return give(r->logical, resolved);
  char *got = prelux_real.realpath(r->use, resolved);
  if (!got || prelux_logical(got, -1, logical, sizeof(logical)) <= 0) return got;
  /* Through /proc into a cache tree; a path that names the tree itself stays. */
  if (strncmp(r->use, "/proc/", 6) != 0 && strncmp(r->use, "/dev/", 5) != 0) return got;
  if (!resolved) free(got);
  return give(logical, resolved);
}

static char *realpath_any(const char *path, char *resolved)
{
  struct prelux_route r;
  prelux_route(AT_FDCWD, path, 0, &r);
  char *got = realpath_routed(&r, resolved);
  if (!got && prelux_route_again(AT_FDCWD, path, 0, &r)) got = realpath_routed(&r, resolved);
  return got;
}

PRELUX_EXPORT char *realpath(const char *path, char *resolved)
{
  if (prelux_idle()) return prelux_real.realpath(path, resolved);
  return realpath_any(path, resolved);
}

PRELUX_EXPORT char *__realpath_chk(const char *path, char *resolved, size_t buflen)
{
  if (prelux_idle() || buflen < PATH_MAX) return prelux_real.__realpath_chk(path, resolved, buflen);
  return realpath_any(path, resolved);
}

PRELUX_EXPORT char *canonicalize_file_name(const char *path)
{
  if (prelux_idle()) return prelux_real.canonicalize_file_name(path);
  return realpath_any(path, NULL);
}
