/* The working directory. The kernel's own is a real folder of the cache tree (or a stand-in); programs see the logical
 * name of it. */
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/pending.h"

static int chdir_mapped(const struct prelux_route *r)
{
  char real[PATH_MAX];
  struct prelux_attr attr;
  int rc = prelux_ask_attr(r, "chdir", &attr);
  if (rc == 0 && attr.type != PRELUX_DIR) rc = -ENOTDIR;
  if (rc == 0) rc = prelux_real_path(r, "chdir", real, sizeof(real), &attr);
  if (rc < 0) return (int)prelux_ret(rc);
  rc = prelux_real.chdir(real);
  if (rc == 0) prelux_cwd_mapped(r->index);
  return rc;
}

/* After libc changed to an unmapped folder: it may be the real one behind a prefix. */
static int turn_root(void)
{
  struct prelux_route r;
  struct stat st;
  if (!prelux_state.table || prelux_state.table->n_roots == 0) return 0;
  if (prelux_sys(SYS_newfstatat, AT_FDCWD, ".", &st, 0) < 0) return 0;
  int root = prelux_root_of(st.st_dev, st.st_ino);
  if (root >= 0) {
    prelux_route_root((uint32_t)root, &r);
  } else { /* or one below it */
    char real[PATH_MAX];
    if (prelux_sys(SYS_getcwd, real, sizeof(real)) < 0 || real[0] != '/') return 0;
    if (prelux_route(AT_FDCWD, real, 0, &r) != PRELUX_MAPPED) return 0;
  }
  return r.where < 0 ? (int)prelux_ret(r.where) : chdir_mapped(&r);
}

static int chdir_routed(struct prelux_route *r)
{
  if (r->where < 0) return (int)prelux_ret(r->where);
  if (r->where == PRELUX_MAPPED) return chdir_mapped(r);
  int rc = prelux_real.chdir(r->use);
  if (rc < 0) return rc;
  if (r->where == PRELUX_ANCESTOR) prelux_cwd_unknown();
  else prelux_cwd_plain();
  return turn_root();
}

PRELUX_EXPORT int chdir(const char *path)
{
  struct prelux_route r;
  if (prelux_idle()) return prelux_real.chdir(path);
  prelux_route(AT_FDCWD, path, 0, &r);
  int rc = chdir_routed(&r);
  if (rc < 0 && prelux_route_again(AT_FDCWD, path, 0, &r)) rc = chdir_routed(&r);
  return rc;
}

PRELUX_EXPORT int fchdir(int fd)
{
  struct prelux_route r;
  uint32_t hint;
  bool idle = prelux_idle();
  int rc = prelux_real.fchdir(fd);
  if (rc < 0 || idle) return rc;
  enum prelux_class class = prelux_fd_get(fd, &hint);
  if (class == PRELUX_CLASS_PLAIN || class == PRELUX_CLASS_FAR) prelux_cwd_plain();
  else if (prelux_route_fd(fd, &r) == PRELUX_MAPPED) prelux_cwd_mapped(r.index);
  else prelux_cwd_unknown();
  return turn_root();
}

PRELUX_EXPORT int daemon(int nochdir, int noclose)
{
  bool idle = prelux_idle();
  if (!idle) prelux_settle_all(); /* it forks inside libc */
  int rc = prelux_real.daemon(nochdir, noclose);
  if (!nochdir && !idle) prelux_cwd_unknown();
  return rc;
}

/* Logical working directory when it differs from the kernel's: length, else 0 (libc knows best), or -errno. */
static long shown(char *out, size_t cap)
{
  bool ours;
  int saved = errno;
  long len = prelux_cwd_far() ? 0 : prelux_dir_path(AT_FDCWD, out, cap, &ours);
  errno = saved;
  return len > 0 && !ours ? 0 : len;
}

static char *give(const char *path, size_t len, char *buf, size_t size)
{
  if (!buf) {
    size_t cap = size ? size : len + 1;
    buf = cap > len ? malloc(cap) : NULL;
    if (!buf && cap > len) return NULL;
  } else if (size == 0) {
    errno = EINVAL;
    return NULL;
  }
  if (!buf || (size && size <= len)) {
    errno = ERANGE;
    return NULL;
  }
  return memcpy(buf, path, len + 1);
}

PRELUX_EXPORT char *getcwd(char *buf, size_t size)
{
  char path[PATH_MAX];
  if (prelux_idle()) return prelux_real.getcwd(buf, size);
  long len = shown(path, sizeof(path));
  if (len == 0) return prelux_real.getcwd(buf, size);
  return len < 0 ? prelux_null(len) : give(path, (size_t)len, buf, size);
}

PRELUX_EXPORT char *__getcwd_chk(char *buf, size_t size, size_t buflen)
{
  if (prelux_idle() || size > buflen) return prelux_real.__getcwd_chk(buf, size, buflen); /* libc aborts */
  return getcwd(buf, size);
}

PRELUX_EXPORT char *getwd(char *buf)
{
  char path[PATH_MAX];
  if (prelux_idle() || !buf) return prelux_real.getwd(buf);
  long len = shown(path, sizeof(path));
  return len <= 0 ? prelux_real.getwd(buf) : memcpy(buf, path, (size_t)len + 1);
}

PRELUX_EXPORT char *__getwd_chk(char *buf, size_t buflen)
{
  char path[PATH_MAX];
  if (prelux_idle()) return prelux_real.__getwd_chk(buf, buflen);
  long len = shown(path, sizeof(path));
  if (len <= 0 || (size_t)len >= buflen) return prelux_real.__getwd_chk(buf, buflen);
  return memcpy(buf, path, (size_t)len + 1);
}

PRELUX_EXPORT char *get_current_dir_name(void)
{
  char path[PATH_MAX];
  if (prelux_idle()) return prelux_real.get_current_dir_name();
  long len = shown(path, sizeof(path));
  return len <= 0 ? prelux_real.get_current_dir_name() : strdup(path);
}
