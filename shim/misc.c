/* Watches, keys and catalogues: the few other calls that take a path. */
#include "shim/read.h"

/* The watch stands on the cache file or folder: it tells of a refill or an eviction, not of changes on the remote. */
static long watch(const struct prelux_route *r, int fd, uint32_t mask)
{
  struct prelux_attr attr;
  char cache[PATH_MAX];
  int rc = prelux_real_path(r, "inotify_add_watch", cache, sizeof(cache), &attr);

  return rc ? rc : prelux_sys(SYS_inotify_add_watch, fd, cache, mask);
}

PRELUX_EXPORT int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
  PRELUX_READ_BODY(int, AT_FDCWD, path, mask & IN_DONT_FOLLOW ? PRELUX_NOFOLLOW : 0, watch(&r, fd, mask),
                   prelux_real.inotify_add_watch(fd, r.use, mask));
}

static long mark(const struct prelux_route *r, int fd, unsigned flags, uint64_t mask)
{
  struct prelux_attr attr;
  char cache[PATH_MAX];
  int rc = prelux_real_path(r, "fanotify_mark", cache, sizeof(cache), &attr);

  return rc ? rc : prelux_sys(SYS_fanotify_mark, fd, flags, mask, AT_FDCWD, cache);
}

PRELUX_EXPORT int fanotify_mark(int fd, unsigned flags, prelux_fanotify_mask mask, int dirfd, const char *path)
{
  PRELUX_READ_BODY(int, dirfd, path, flags & FAN_MARK_DONT_FOLLOW ? PRELUX_NOFOLLOW : 0, mark(&r, fd, flags, mask),
                   prelux_real.fanotify_mark(fd, flags, mask, r.at, r.use));
}

/* As libc's, from what the stat hook says. */
static int key_of(const struct prelux_route *r, int id)
{
  struct prelux_attr attr;
  struct stat st;
  int rc = prelux_ask_attr(r, "ftok", &attr);

  if (rc) return (int)prelux_ret(rc);
  prelux_fill_stat(r->mapping, &attr, &st);
  return (int)((st.st_ino & 0xffff) | ((st.st_dev & 0xff) << 16) | ((unsigned)id & 0xff) << 24);
}

PRELUX_EXPORT key_t ftok(const char *path, int id)
{
  struct prelux_route r;

  if (prelux_idle()) return prelux_real.ftok(path, id);
  int where = prelux_route(AT_FDCWD, path, 0, &r);
  for (;; where = r.where) {
    if (where < 0) return (key_t)prelux_ret(where);
    if (where == PRELUX_MAPPED) return key_of(&r, id);
    key_t key = prelux_real.ftok(r.use, id);
    if (key != -1 || !prelux_route_again(AT_FDCWD, path, 0, &r)) return key;
  }
}

/* A name without a slash is looked for along NLSPATH by libc. */
PRELUX_EXPORT nl_catd catopen(const char *name, int flag)
{
  struct prelux_route r;
  struct prelux_attr attr;
  char cache[PATH_MAX];

  if (prelux_idle() || !strchr(name, '/')) return prelux_real.catopen(name, flag);
  int where = prelux_route(AT_FDCWD, name, 0, &r);
  if (where == PRELUX_MAPPED) where = prelux_real_path(&r, "catopen", cache, sizeof(cache), &attr);
  if (where < 0) {
    errno = -where;
    return (nl_catd)-1;
  }
  return prelux_real.catopen(r.where == PRELUX_MAPPED ? cache : r.use, flag);
}
