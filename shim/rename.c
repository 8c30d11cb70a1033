/* Calls with two names: rename and link. A mapping is a file system of its own: between two of them, or between one and
 * the rest of the machine, the answer is EXDEV, upon which programs copy. */
#include "shim/change.h"

/* One side of the call. */
struct side {
  int at;
  const char *use;
  int where;
  struct prelux_change c;
};

/* Where the name leads; libc's path for it in at and use. */
static void take(struct side *s, int where)
{
  s->where = where;
  if (where == PRELUX_UNMAPPED || where == PRELUX_ANCESTOR) {
    s->at = s->c.r.at;
    s->use = s->c.r.use;
  }
}

static void look(struct side *s, const char *call, int dirfd, const char *path, unsigned how)
{
  s->c.dirfd = dirfd;
  s->c.path = path;
  s->c.call = call;
  take(s, prelux_route(dirfd, path, PRELUX_CHANGE | how, &s->c.r));
}

/* After libc failed: did a link lead to a mapping? */
static bool look_again(struct side *s, unsigned how)
{
  if (!prelux_route_again(s->c.dirfd, s->c.path, PRELUX_CHANGE | how, &s->c.r)) return false;
  take(s, s->c.r.where);
  return true;
}

static bool is_root(const struct side *s)
{
  return (s->where == PRELUX_MAPPED && s->c.r.rel_len == 0) || (s->where == PRELUX_ANCESTOR && s->c.r.missing);
}

/* At least one side is ours. */
static int refuse_rename(struct side *from, struct side *to)
{
  struct prelux_attr attr;

  if (from->where < 0) return from->where;
  if (to->where < 0) return to->where;
  if (is_root(from) || is_root(to) || prelux_change_dots(from->c.path) || prelux_change_dots(to->c.path)) return -EBUSY;
  if (from->where == PRELUX_MAPPED && to->where == PRELUX_MAPPED && from->c.r.index == to->c.r.index) {
    int rc = prelux_ask_attr(&from->c.r, from->c.call, &attr);
    if (rc == 0) rc = prelux_change_parent(&to->c);
    return rc ? rc : prelux_refuse(from->c.call, &from->c.r);
  }
  int rc = from->where == PRELUX_MAPPED ? prelux_change_parent(&from->c) : 0;
  if (rc == 0 && to->where == PRELUX_MAPPED) rc = prelux_change_parent(&to->c);
  return rc ? rc : -EXDEV;
}

/* libc must not see this side. */
static bool ours(const struct side *s)
{
  return s->where < 0 || s->where == PRELUX_MAPPED || (s->where == PRELUX_ANCESTOR && s->c.r.missing);
}

static int do_rename(const char *call, int fromfd, const char *from, int tofd, const char *to, unsigned flags,
                     int (*real)(int, const char *, int, const char *, unsigned))
{
  struct side a, b;

  if (prelux_idle() || !from || !to || !*from || !*to) return real(fromfd, from, tofd, to, flags);
  look(&a, call, fromfd, from, PRELUX_NOFOLLOW);
  look(&b, call, tofd, to, PRELUX_NOFOLLOW);
  for (;;) {
    if (ours(&a) || ours(&b)) return (int)prelux_ret(flags & ~7u ? -EINVAL : refuse_rename(&a, &b));
    int rc = real(a.at, a.use, b.at, b.use, flags);
    if (rc == 0 || !(look_again(&a, PRELUX_NOFOLLOW) | look_again(&b, PRELUX_NOFOLLOW))) return rc;
  }
}

static int real_rename(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
  return prelux_real.rename(from, to);
}

static int real_renameat(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
  return prelux_real.renameat(fromfd, from, tofd, to);
}

static int real_renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
  return prelux_real.renameat2(fromfd, from, tofd, to, flags);
}

PRELUX_EXPORT int rename(const char *from, const char *to)
{
  return do_rename("rename", AT_FDCWD, from, AT_FDCWD, to, 0, real_rename);
}

PRELUX_EXPORT int renameat(int fromfd, const char *from, int tofd, const char *to)
{
  return do_rename("renameat", fromfd, from, tofd, to, 0, real_renameat);
}

PRELUX_EXPORT int renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
  return do_rename("renameat2", fromfd, from, tofd, to, flags, real_renameat2);
}

static int refuse_link(struct side *old, struct side *new)
{
  struct prelux_attr attr;

  if (old->where < 0) return old->where;
  if (old->where == PRELUX_MAPPED) {
    int rc = prelux_ask_attr(&old->c.r, old->c.call, &attr);
    if (rc) return rc;
  } else {
    struct stat st;
    int flags = AT_SYMLINK_NOFOLLOW | (*old->use ? 0 : AT_EMPTY_PATH);
    long rc = prelux_sys(SYS_newfstatat, old->at, old->use, &st, flags);
    if (rc) return (int)rc;
  }
  if (new->where < 0) return new->where;
  if (new->where == PRELUX_ANCESTOR && new->c.r.missing) return -EEXIST;
  new->c.kind = PRELUX_CHG_MAKE;
  return new->where == PRELUX_MAPPED ? prelux_change_refuse(&new->c) : -EXDEV;
}

static int do_link(const char *call, int oldfd, const char *old, int newfd, const char *new, int flags,
                   int (*real)(int, const char *, int, const char *, int))
{
  struct side a, b;
  unsigned how = flags & AT_SYMLINK_FOLLOW ? 0 : PRELUX_NOFOLLOW;

  if (prelux_idle() || !old || !new || !*new || (!*old && !(flags & AT_EMPTY_PATH))) return real(oldfd, old, newfd, new, flags);
  bool by_fd = (flags & AT_EMPTY_PATH) && !*old;
  if (by_fd) {
    /* A second name for a cache file would let others write into it. */
    if (oldfd >= 0 && prelux_route_fd(oldfd, &a.c.r) == PRELUX_MAPPED) return (int)prelux_ret(-EXDEV);
    a = (struct side){.at = oldfd, .use = old, .where = PRELUX_UNMAPPED};
    a.c.r.where = PRELUX_ANCESTOR; /* nothing to look for again */
  } else {
    look(&a, call, oldfd, old, how);
  }
  look(&b, call, newfd, new, PRELUX_NOFOLLOW);
  for (;;) {
    if (ours(&a) || ours(&b)) return (int)prelux_ret(refuse_link(&a, &b));
    int rc = real(a.at, a.use, b.at, b.use, flags);
    if (rc == 0 || !(look_again(&a, how) | look_again(&b, PRELUX_NOFOLLOW))) return rc;
  }
}

static int real_link(int oldfd, const char *old, int newfd, const char *new, int flags)
{
  return prelux_real.link(old, new);
}

PRELUX_EXPORT int link(const char *old, const char *new)
{
  return do_link("link", AT_FDCWD, old, AT_FDCWD, new, 0, real_link);
}

PRELUX_EXPORT int linkat(int oldfd, const char *old, int newfd, const char *new, int flags)
{
  return do_link("linkat", oldfd, old, newfd, new, flags, prelux_real.linkat);
}
