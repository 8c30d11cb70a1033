/* access and its twins. What may be written is in the mode shown, where the mapping can be written to; what may be executed, too,
 * or with `exec: auto` on the cache file itself, whose x bits the daemon sets for ELF files and scripts. */
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"
#include "shim/tell.h"
#include "shim/write.h"

static int may_execute(const struct prelux_route *r, const struct prelux_attr *attr)
{
  char real[PATH_MAX];
  struct prelux_attr whole;
  struct stat st;
  if (attr->type != PRELUX_FILE || (prelux_shown_mode(r->mapping, attr) & 0111)) return 0;
  if (!(r->mapping->flags & PRELUX_MAPPING_EXEC)) return -EACCES;
  int rc = prelux_real_path(r, "access", real, sizeof(real), &whole);
  if (rc < 0) return rc;
  rc = (int)prelux_sys(SYS_newfstatat, AT_FDCWD, real, &st, 0);
  return rc < 0 ? rc : st.st_mode & 0111 ? 0 : -EACCES;
}

/* The kernel refuses such a mode before it looks at the path. */
static bool bad_mode(int mode)
{
  return (mode & ~(R_OK | W_OK | X_OK)) != 0;
}

/* Where the daemon serves several users, its rules decide: advice that means nothing needs what a change of the file needs. Its own rights count, too. */
static int node_writes(const struct prelux_route *r, const struct prelux_attr *attr)
{
  unsigned char reply[PRELUX_REPLY_BYTES] __attribute__((aligned(8)));
  const struct prelux_request q = {.op = PRELUX_OP_ADVISE, .call = "access", .logical = r->logical, .mapping = r->index, .path = r->rel};
  if (prelux_ask(&q, reply, NULL) == -EACCES) return -EACCES;
  return prelux_state.table->uid == 0 || (prelux_shown_mode(r->mapping, attr) & 0222) ? 0 : -EACCES;
}

/* As the open that would follow: shim/write.c. */
static int may_write(const struct prelux_route *r, const struct prelux_attr *attr, int flags)
{
  if (!prelux_writable(r)) return -EROFS;
  if (prelux_state.table->flags & PRELUX_TABLE_NODE) return node_writes(r, attr);
  if (prelux_id(flags & AT_EACCESS ? SYS_geteuid : SYS_getuid) == 0) return 0;
  return prelux_shown_mode(r->mapping, attr) & 0222 ? 0 : -EACCES;
}

static int access_mapped(const struct prelux_route *r, int mode, int flags)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "access", &attr);
  if (rc == 0 && (mode & X_OK)) rc = may_execute(r, &attr);
  return rc == 0 && (mode & W_OK) ? may_write(r, &attr, flags) : rc;
}

static int access_routed(struct prelux_route *r, int mode, int flags)
{
  if (r->where < 0) return (int)prelux_ret(r->where);
  if (r->where == PRELUX_MAPPED) return (int)prelux_ret(access_mapped(r, mode, flags));
  if (r->where == PRELUX_ANCESTOR && r->missing && (mode & W_OK)) return (int)prelux_ret(-EROFS);
  return prelux_real.faccessat(r->at, r->use, mode, flags);
}

__attribute__((noinline)) static int access_near(int dirfd, const char *path, int mode, int flags)
{
  struct prelux_route r;
  unsigned how = flags & AT_SYMLINK_NOFOLLOW ? PRELUX_NOFOLLOW : 0;
  prelux_route(dirfd, path, how, &r);
  int rc = access_routed(&r, mode, flags);
  if (rc < 0 && prelux_route_again(dirfd, path, how, &r)) rc = access_routed(&r, mode, flags);
  return rc;
}

__attribute__((noinline)) static int access_again(int dirfd, const char *path, int mode, int flags)
{
  struct prelux_route r;
  prelux_route_plain(dirfd, path, &r);
  if (!prelux_route_again(dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? PRELUX_NOFOLLOW : 0, &r)) return -1;
  return access_routed(&r, mode, flags);
}

#define ACCESS(name, flags)                                                                  \
  PRELUX_EXPORT int name(const char *path, int mode)                                         \
  {                                                                                          \
    if (prelux_idle() || bad_mode(mode)) return prelux_real.name(path, mode);                \
    if (!prelux_far(AT_FDCWD, path)) return access_near(AT_FDCWD, path, mode, flags);        \
    int rc = prelux_real.name(path, mode);                                                   \
    return rc < 0 && (errno == ENOENT || errno == ENOTDIR) ? access_again(AT_FDCWD, path, mode, flags) : rc; \
  }
ACCESS(access, 0)
ACCESS(eaccess, AT_EACCESS)
ACCESS(euidaccess, AT_EACCESS)

PRELUX_EXPORT int faccessat(int dirfd, const char *path, int mode, int flags)
{
  const int known = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH;
  struct prelux_route r;
  if (prelux_idle() || bad_mode(mode) || (flags & ~known)) return prelux_real.faccessat(dirfd, path, mode, flags);
  if ((flags & AT_EMPTY_PATH) && prelux_empty(path)) {
    if (dirfd == AT_FDCWD) return access_near(AT_FDCWD, ".", mode, flags);
    uint64_t ino;
    uint32_t mapping;
    if (prelux_staged(dirfd, &ino, &mapping)) return 0; /* whoever has it may */
    int where = prelux_route_fd(dirfd, &r);
    if (where == PRELUX_MAPPED || where < 0) return access_routed(&r, mode, flags);
    return prelux_real.faccessat(dirfd, path, mode, flags);
  }
  if (!prelux_far(dirfd, path)) return access_near(dirfd, path, mode, flags);
  int rc = prelux_real.faccessat(dirfd, path, mode, flags);
  return rc < 0 && (errno == ENOENT || errno == ENOTDIR) ? access_again(dirfd, path, mode, flags) : rc;
}
