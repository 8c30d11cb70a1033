/* File systems and extended attributes as programs see them below a prefix.
 *
 * A mapping says FUSE (FUSE_SUPER_MAGIC): a file system whose content comes from elsewhere, that programs know and treat with
 * care (tail polls, for one). Sizes are those of the disk that holds the cache, f_fsid is the mapping's st_dev.
 *
 * The extended attributes user.prelux.* tell what prelux knows. They are not listed, so that cp and its like do not take them along.
 * There are no others: ENODATA, an empty list. */
#include <sys/sysmacros.h>

#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/read.h"
#include "shim/tell.h"

enum { FUSE_MAGIC = 0x65735546, FLAG_VALID = 0x20 };

_Static_assert(sizeof(struct statfs) == sizeof(struct statfs64), "one layout");
_Static_assert(sizeof(struct statvfs) == sizeof(struct statvfs64), "one layout");

static void describe(const struct prelux_table_mapping *m, struct statfs *st)
{
  char tree[PATH_MAX];

  if (prelux_sys(SYS_statfs, prelux_cache_root(m, tree), st) < 0)
    *st = (struct statfs){.f_bsize = 4096, .f_frsize = 4096};
  st->f_type = FUSE_MAGIC;
  long flags = ST_NODEV | ST_NOSUID | FLAG_VALID | (m->flags & PRELUX_MAPPING_WRITE ? 0 : ST_RDONLY);
  st->f_flags = (st->f_flags & ~(long)(ST_NOEXEC | ST_RDONLY)) | flags;
  st->f_namelen = NAME_MAX;
  st->f_fsid.__val[0] = (int)(uint32_t)m->dev;
  st->f_fsid.__val[1] = (int)(uint32_t)(m->dev >> 32);
}

static void describe_vfs(const struct prelux_table_mapping *m, struct statvfs *v)
{
  struct statfs st;

  describe(m, &st);
  *v = (struct statvfs){
    .f_bsize = (unsigned long)st.f_bsize,
    .f_frsize = (unsigned long)(st.f_frsize ? st.f_frsize : st.f_bsize),
    .f_blocks = st.f_blocks,
    .f_bfree = st.f_bfree,
    .f_bavail = st.f_bavail,
    .f_files = st.f_files,
    .f_ffree = st.f_ffree,
    .f_favail = st.f_ffree,
    .f_fsid = m->dev,
    .f_flag = (unsigned long)st.f_flags & ~(unsigned long)FLAG_VALID,
    .f_namemax = NAME_MAX,
  };
}

static int mapped_statfs(const struct prelux_route *r, struct statfs *st)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "statfs", &attr);

  if (rc == 0) describe(r->mapping, st);
  return rc;
}

static int mapped_statvfs(const struct prelux_route *r, struct statvfs *v)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "statvfs", &attr);

  if (rc == 0) describe_vfs(r->mapping, v);
  return rc;
}

PRELUX_EXPORT int statfs(const char *path, struct statfs *st)
{
  PRELUX_READ_BODY(int, AT_FDCWD, path, 0, mapped_statfs(&r, st), prelux_real.statfs(r.use, st));
}

PRELUX_EXPORT int __statfs(const char *path, struct statfs *st)
{
  return statfs(path, st);
}

PRELUX_EXPORT int statfs64(const char *path, struct statfs64 *st)
{
  return statfs(path, (struct statfs *)st);
}

PRELUX_EXPORT int statvfs(const char *path, struct statvfs *v)
{
  PRELUX_READ_BODY(int, AT_FDCWD, path, 0, mapped_statvfs(&r, v), prelux_real.statvfs(r.use, v));
}

PRELUX_EXPORT int statvfs64(const char *path, struct statvfs64 *v)
{
  return statvfs(path, (struct statvfs *)v);
}

static bool is_ours(int fd, struct prelux_route *r)
{
  uint64_t ino;
  uint32_t mapping;
  if (prelux_idle()) return false;
  prelux_settle(fd); /* where that fails it is no file of ours: EBADF */
  if (prelux_staged(fd, &ino, &mapping)) {
    prelux_route_root(mapping, r);
    return r->where == PRELUX_MAPPED;
  }
  return prelux_route_fd(fd, r) == PRELUX_MAPPED;
}

PRELUX_EXPORT int fstatfs(int fd, struct statfs *st)
{
  struct prelux_route r;

  if (!is_ours(fd, &r)) return prelux_real.fstatfs(fd, st);
  describe(r.mapping, st);
  return 0;
}

PRELUX_EXPORT int __fstatfs(int fd, struct statfs *st)
{
  return fstatfs(fd, st);
}

PRELUX_EXPORT int fstatfs64(int fd, struct statfs64 *st)
{
  return fstatfs(fd, (struct statfs *)st);
}

PRELUX_EXPORT int fstatvfs(int fd, struct statvfs *v)
{
  struct prelux_route r;

  if (!is_ours(fd, &r)) return prelux_real.fstatvfs(fd, v);
  describe_vfs(r.mapping, v);
  return 0;
}

PRELUX_EXPORT int fstatvfs64(int fd, struct statvfs64 *v)
{
  return fstatvfs(fd, (struct statvfs *)v);
}

/* The limits of the cache's file system; -1 with errno untouched means "no limit". */
static long mapped_pathconf(const struct prelux_route *r, int name)
{
  struct prelux_attr attr;
  char tree[PATH_MAX];
  int rc = prelux_ask_attr(r, "pathconf", &attr);

  return rc ? prelux_ret(rc) : prelux_real.pathconf(prelux_cache_root(r->mapping, tree), name);
}

PRELUX_EXPORT long pathconf(const char *path, int name)
{
  struct prelux_route r;

  if (prelux_idle()) return prelux_real.pathconf(path, name);
  int where = prelux_route(AT_FDCWD, path, 0, &r);
  int saved = errno;
  for (;; where = r.where) {
    if (where < 0) return prelux_ret(where);
    if (where == PRELUX_MAPPED) return mapped_pathconf(&r, name);
    errno = 0;
    long value = prelux_real.pathconf(r.use, name);
    if (value != -1 || !errno || !prelux_route_again(AT_FDCWD, path, 0, &r)) {
      if (!errno) errno = saved;
      return value;
    }
    errno = saved;
  }
}

/* ---- extended attributes */

static const char own_names[] = "user.prelux.";

static const char *state_of(const struct prelux_attr *attr)
{
  if (attr->type == PRELUX_DIR) return "directory";
  if (attr->type == PRELUX_LINK) return "link";
  if (attr->flags & PRELUX_ATTR_LIVE) return "dirty";
  return attr->cached ? "cached" : "absent";
}

/* What the attribute holds; NULL: there is none of that name. `room` is for one that is put together. */
static const char *value_of(const struct prelux_route *r, const struct prelux_attr *attr, const char *name, char room[PATH_MAX])
{
  const struct prelux_table *t = prelux_state.table;
  if (strncmp(name, own_names, sizeof(own_names) - 1) != 0) return NULL;
  name += sizeof(own_names) - 1;
  if (strcmp(name, "state") == 0) return state_of(attr);
  if (strcmp(name, "mapping") == 0) return prelux_table_str(t, r->mapping->local);
  if (strcmp(name, "remote") != 0) return NULL;
  const char *remote = prelux_table_str(t, r->mapping->remote);
  size_t n = r->mapping->remote.len;
  if (n + r->rel_len + 2 > PATH_MAX) return NULL;
  memcpy(room, remote, n);
  if (r->rel_len && (n == 0 || room[n - 1] != '/')) room[n++] = '/';
  memcpy(room + n, r->rel, r->rel_len + 1);
  return room;
}

static ssize_t attribute(const struct prelux_route *r, const char *call, const char *name, void *value, size_t size)
{
  struct prelux_attr attr;
  char room[PATH_MAX];
  int rc = prelux_ask_attr(r, call, &attr);

  if (rc) return rc;
  const char *is = value_of(r, &attr, name, room);
  if (!is) return -ENODATA;
  size_t n = strlen(is);
  if (size == 0) return (ssize_t)n;
  if (size < n) return -ERANGE;
  memcpy(value, is, n);
  return (ssize_t)n;
}

static ssize_t attribute_of_fd(int fd, const struct prelux_route *r, const char *name, void *value, size_t size)
{
  uint64_t ino;
  uint32_t mapping;
  struct prelux_attr attr;
  struct prelux_route named;
  if (strncmp(name, own_names, sizeof(own_names) - 1) != 0) return -ENODATA;
  if (!prelux_staged(fd, &ino, &mapping)) return attribute(r, "fgetxattr", name, value, size);
  int rc = prelux_tell_whose(mapping, ino, "fgetxattr", &attr, &named);
  if (rc == -ENOENT && prelux_route_fd(fd, &named) == PRELUX_MAPPED) rc = 1; /* it has been sent meanwhile: a cache file */
  return rc <= 0 ? (rc ? rc : -ENODATA) : attribute(&named, "fgetxattr", name, value, size);
}

static int no_attributes(const struct prelux_route *r, const char *call)
{
  struct prelux_attr attr;

  return prelux_ask_attr(r, call, &attr);
}

PRELUX_EXPORT ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
  PRELUX_READ_BODY(ssize_t, AT_FDCWD, path, 0, attribute(&r, "getxattr", name, value, size),
                   prelux_real.getxattr(r.use, name, value, size));
}

PRELUX_EXPORT ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)
{
  PRELUX_READ_BODY(ssize_t, AT_FDCWD, path, PRELUX_NOFOLLOW, attribute(&r, "lgetxattr", name, value, size),
                   prelux_real.lgetxattr(r.use, name, value, size));
}

PRELUX_EXPORT ssize_t fgetxattr(int fd, const char *name, void *value, size_t size)
{
  struct prelux_route r;

  if (!is_ours(fd, &r)) return prelux_real.fgetxattr(fd, name, value, size);
  return prelux_ret(attribute_of_fd(fd, &r, name, value, size));
}

PRELUX_EXPORT ssize_t listxattr(const char *path, char *list, size_t size)
{
  PRELUX_READ_BODY(ssize_t, AT_FDCWD, path, 0, no_attributes(&r, "listxattr"),
                   prelux_real.listxattr(r.use, list, size));
}

PRELUX_EXPORT ssize_t llistxattr(const char *path, char *list, size_t size)
{
  PRELUX_READ_BODY(ssize_t, AT_FDCWD, path, PRELUX_NOFOLLOW, no_attributes(&r, "llistxattr"),
                   prelux_real.llistxattr(r.use, list, size));
}

PRELUX_EXPORT ssize_t flistxattr(int fd, char *list, size_t size)
{
  struct prelux_route r;

  return is_ours(fd, &r) ? 0 : prelux_real.flistxattr(fd, list, size);
}
