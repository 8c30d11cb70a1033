/* Opening what lies, or will lie, at a cache path.
 *
 * First what the index says, then what the daemon says, then the fd that the daemon passes: a file may be replaced or
 * evicted between the look and the open, so each open is held against the inode that was promised. A staging file's name is
 * its number, which another file may have by then: so its slot is looked at again when the file is open, and says the same only if
 * the number was this object's all the time (numbers that programs see do not come again). An fd on another inode is let go
 * only after the daemon, too, has said that this inode is not the object: shim/fds.h says how. */
#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/open.h"
#include "shim/report.h"
#include "shim/stats.h"
#include "shim/write.h"

enum { FROM_KERNEL = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };
enum { WHERE_FLAGS = O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY };
enum { NUMBER_BYTES = 24 }; /* of a decimal 64-bit number, with a slash and NUL */
enum { STATUS_FLAGS = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME };

static bool is_tmpfile(int flags)
{
  return (flags & O_TMPFILE) == O_TMPFILE;
}

static bool would_change(int flags)
{
  if (flags & O_PATH) return false;
  return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) || is_tmpfile(flags);
}

long prelux_staging_path(const struct prelux_table_mapping *m, uint64_t ino, char *out, size_t cap)
{
  char digits[NUMBER_BYTES];
  const struct prelux_str *folder = ino & PRELUX_INO_SCRATCH ? &m->scratch : &m->staging;
  size_t n = folder->len, k = 0;
  ino = PRELUX_INO(ino);
  if (n == 0 || n + NUMBER_BYTES > cap) return -ENAMETOOLONG;
  memcpy(out, prelux_table_str(prelux_state.table, *folder), n);
  out[n++] = '/';
  for (; k == 0 || ino; ino /= 10) digits[k++] = (char)('0' + ino % 10);
  while (k) out[n++] = digits[--k];
  out[n] = '\0';
  return (long)n;
}

long prelux_cache_path(const struct prelux_route *r, char *out, size_t cap)
{
  size_t n = r->mapping->tree.len;
  if (n + r->rel_len + 2 > cap) return -ENAMETOOLONG;
  memcpy(out, prelux_table_str(prelux_state.table, r->mapping->tree), n);
  if (r->rel_len) out[n++] = '/';
  memcpy(out + n, r->rel, r->rel_len + 1);
  return (long)(n + r->rel_len);
}

const char *prelux_cache_root(const struct prelux_table_mapping *m, char out[PATH_MAX])
{
  const char *tree = prelux_table_str(prelux_state.table, m->tree);
  size_t n = m->tree.len, tail = m->object.len ? m->object.len + 1 : 0;
  if (tail == 0 || n <= tail || n - tail >= PATH_MAX) return tree;
  memcpy(out, tree, n - tail);
  out[n - tail] = '\0';
  return out;
}

/* The folder that holds r's object. False for the mapping root. */
static bool parent_of(const struct prelux_route *r, struct prelux_route *ret)
{
  if (r->rel_len == 0) return false;
  *ret = *r;
  ret->logical = ret->path + (r->logical - r->path);
  ret->rel = ret->path + (r->rel - r->path);
  while (ret->rel_len > 0 && ret->rel[ret->rel_len - 1] != '/') ret->rel_len--;
  if (ret->rel_len > 0) ret->rel_len--;
  ret->path[ret->rel - ret->path + (long)ret->rel_len] = '\0';
  ret->must_dir = true;
  return true;
}

/* An open for writing or creating: the errno that a read-only mounted file system gives, or 0: it only reads. */
static int refuse_open(const struct prelux_route *r, const char *call, int flags)
{
  struct prelux_attr attr;
  if ((flags & O_CREAT) && (flags & O_DIRECTORY) && !is_tmpfile(flags)) return -EINVAL;
  if ((flags & O_CREAT) && !is_tmpfile(flags) && r->slash) return -EISDIR;
  int rc = prelux_ask_attr(r, call, &attr);
  if ((flags & O_CREAT) && !is_tmpfile(flags)) {
    if (rc == -ENOENT) {
      struct prelux_route parent;
      if (parent_of(r, &parent) && (rc = prelux_ask_attr(&parent, call, &attr)) < 0) return rc;
      return prelux_refuse(call, r);
    }
    if (rc < 0) return rc;
    if (flags & O_EXCL) return -EEXIST;
    if (attr.type == PRELUX_DIR) return -EISDIR;
  }
  if (rc < 0) return rc;
  if ((flags & O_DIRECTORY) && attr.type != PRELUX_DIR) return -ENOTDIR;
  if (is_tmpfile(flags)) return prelux_refuse(call, r);
  if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_TRUNC)) return 0;
  return attr.type == PRELUX_DIR ? -EISDIR : prelux_refuse(call, r);
}

/* Opens the cache path, or the staging file: fd (the inode is the promised one), or -errno. *ret_other: an fd on another inode, -1:
 * none. */
static int open_cache(const struct prelux_route *r, int flags, const struct prelux_attr *attr, int *ret_other)
{
  struct stat st;
  bool live = (attr->flags & PRELUX_ATTR_LIVE) != 0;
  size_t n = live ? r->mapping->staging.len + r->mapping->scratch.len + NUMBER_BYTES : r->mapping->tree.len + r->rel_len + 2;
  char path[n];
  if ((live ? prelux_staging_path(r->mapping, attr->cache_ino, path, n) : prelux_cache_path(r, path, n)) < 0) return -ESTALE;
  int saved = errno;
  uint64_t moved = attr->type == PRELUX_DIR ? prelux_folders_moved() : 0;
  int fd = prelux_real.openat(AT_FDCWD, path, flags & ~WHERE_FLAGS);
  if (fd < 0) {
    int err = errno;
    errno = saved;
    return -err;
  }
  long rc = prelux_fstat(fd, &st);
  bool any_folder = attr->cache_ino == 0 && attr->type == PRELUX_DIR;
  bool right = rc == 0 && (any_folder ? S_ISDIR(st.st_mode) : st.st_ino == PRELUX_INO(attr->cache_ino));
  if (right && (!live || prelux_is_live(r, attr))) {
    prelux_tree_dev(st.st_dev);
    if (moved) prelux_fd_named(fd, &st, path, strlen(path), moved);
    return fd;
  }
  *ret_other = fd;
  return -ESTALE;
}

static bool gone(int rc)
{
  return rc == -ENOENT || rc == -ENOTDIR || rc == -ESTALE || rc == -EISDIR || rc == -EACCES;
}

static int wrong_type(const struct prelux_route *r, int flags, const struct prelux_attr *attr)
{
  if (attr->type == PRELUX_NONE) return -ENOENT;
  if (attr->type != PRELUX_DIR && ((flags & O_DIRECTORY) || r->must_dir)) return -ENOTDIR;
  return attr->type == PRELUX_LINK ? -ELOOP : 0; /* O_NOFOLLOW: routes follow all others */
}

/* The daemon's own fd, given the flags that the program asked for. */
static int passed_fd(const struct prelux_route *r, const char *call, int flags)
{
  struct prelux_attr attr;
  int fd = -1;
  int rc = prelux_ask_open(r, call, PRELUX_F_WANT_FD | PRELUX_F_RECHECK, &attr, &fd);
  if (rc < 0) return rc;
  if (fd < 0) return prelux_fail(EIO, call, r->logical, "the daemon passed no file", NULL);
  rc = wrong_type(r, flags, &attr);
  if (rc < 0) {
    prelux_fd_let_go(fd);
    return rc;
  }
  if (flags & STATUS_FLAGS) prelux_sys(SYS_fcntl, fd, F_SETFL, flags & STATUS_FLAGS);
  if (!(flags & O_CLOEXEC)) prelux_sys(SYS_fcntl, fd, F_SETFD, 0);
  struct stat st;
  if (prelux_fstat(fd, &st) == 0) prelux_tree_dev(st.st_dev);
  return fd;
}

int prelux_open_asked(const struct prelux_route *r, const char *call, int flags, bool tried, int other)
{
  struct prelux_attr attr;
  int fd = -ESTALE, again = -1;
  if (r->mapping->freshness != PRELUX_FRESH_SKIP) {
    int rc = prelux_ask_open(r, call, tried ? PRELUX_F_RECHECK : 0, &attr, NULL);
    if (rc == 0) rc = wrong_type(r, flags, &attr);
    struct stat st;
    if (other >= 0 && rc == 0 && prelux_fstat(other, &st) == 0 && st.st_ino == PRELUX_INO(attr.cache_ino)) return other;
    if (other >= 0) prelux_fd_let_go(other);
    if (rc < 0) return rc;
    fd = open_cache(r, flags, &attr, &again);
    if (fd >= 0 || !gone(fd)) return fd;
  }
  fd = passed_fd(r, call, flags);
  if (again >= 0) prelux_fd_let_go(again);
  return fd;
}

static int open_object(const struct prelux_route *r, const char *call, int flags)
{
  struct prelux_attr attr;
  int other = -1;
  if (r->mapping->freshness == PRELUX_FRESH_SKIP || !prelux_index_look(r, &attr)) return prelux_open_asked(r, call, flags, false, -1);
  int rc = wrong_type(r, flags, &attr);
  if (rc < 0) return rc;
  if (!attr.cached && !(attr.flags & PRELUX_ATTR_LIVE)) return prelux_open_asked(r, call, flags, false, -1);
  int fd = open_cache(r, flags, &attr, &other);
  return fd >= 0 || !gone(fd) ? fd : prelux_open_asked(r, call, flags, true, other);
}

int prelux_open_told(const struct prelux_route *r, int flags, const struct prelux_attr *attr)
{
  int other = -1;
  int fd = wrong_type(r, flags, attr);
  if (fd < 0) return fd;
  fd = open_cache(r, flags, attr, &other);
  if (other >= 0) prelux_fd_let_go(other);
  if (fd >= 0) prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r->index);
  return fd < 0 && gone(fd) ? -EAGAIN : fd;
}

static int open_mapped(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  if (flags & O_PATH) flags &= FROM_KERNEL;
  bool change = would_change(flags);
  if (change && prelux_writable(r)) return prelux_write_open(r, call, flags, mode);
  int rc = change ? refuse_open(r, call, flags) : 0;
  if (rc < 0) return rc;
  int fd = open_object(r, call, flags);
  if (fd >= 0) prelux_fd_set(fd, PRELUX_CLASS_SHADOW, r->index);
  return fd;
}

int prelux_open_marked(const struct prelux_report_mark *m, const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  int fd = open_mapped(r, call, flags, mode);
  bool change = would_change(flags);
  prelux_report_count(m, change ? PRELUX_REPORT_WRITE : PRELUX_REPORT_OPEN, fd, change || (flags & O_PATH) ? -1 : fd);
  return fd;
}

int prelux_open_mapped(const struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  struct prelux_report_mark m;
  prelux_report_mark(&m);
  return prelux_open_marked(&m, r, call, flags, mode);
}

static int real_path(const struct prelux_route *r, const char *call, char *out, size_t cap, struct prelux_attr *ret)
{
  bool known = r->mapping->freshness != PRELUX_FRESH_SKIP && prelux_index_look(r, ret);
  if (known && ret->type == PRELUX_NONE) return -ENOENT;
  if (known && ret->type != PRELUX_DIR && r->must_dir) return -ENOTDIR;
  for (int round = 0; round < 3; round++) {
    struct stat st;
    bool live = known && (ret->flags & PRELUX_ATTR_LIVE);
    long n = live ? prelux_staging_path(r->mapping, ret->cache_ino, out, cap) : prelux_cache_path(r, out, cap);
    if (n < 0) return (int)n;
    if (known && (ret->cached || live) && prelux_sys(SYS_newfstatat, AT_FDCWD, out, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (ret->cache_ino ? st.st_ino == PRELUX_INO(ret->cache_ino) : S_ISDIR(st.st_mode)) && (!live || round > 0 || prelux_is_live(r, ret)))
      return 0;
    if (round == 2) break;
    int rc = prelux_ask_open(r, call, round || known ? PRELUX_F_RECHECK : 0, ret, NULL);
    if (rc < 0) return rc;
    known = true;
    if (ret->type == PRELUX_DIR) ret->cached = 1; /* the daemon has made it */
  }
  return prelux_fail(EIO, call, r->logical, "the file does not stay in the cache", "the cache may be too small");
}

/* What is not executed or loaded is counted where it is looked at. */
int prelux_real_path(const struct prelux_route *r, const char *call, char *out, size_t cap, struct prelux_attr *ret)
{
  struct prelux_report_mark m;
  prelux_report_mark(&m);
  int rc = real_path(r, call, out, cap, ret);
  if (strcmp(call, "exec") == 0 || strcmp(call, "dlopen") == 0) prelux_report_count(&m, PRELUX_REPORT_LOAD, rc, -1);
  return rc;
}
