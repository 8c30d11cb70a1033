/* Calls with two names: rename and link. A mapping is a file system of its own: between two of them, or between one and
 * the rest of the machine, the answer is EXDEV, upon which programs copy. */
#include "shim/change.h"
#include "shim/tell.h"
#include "shim/write.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RENAME_WHITEOUT 4
#endif

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
  s->c.act = NULL;
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

/* Both names belong to one tree that can be written to. */
static bool one_tree(const struct side *from, const struct side *to)
{
  if (from->where != PRELUX_MAPPED || to->where != PRELUX_MAPPED) return false;
  if (!prelux_writable(&from->c.r) || !prelux_writable(&to->c.r)) return false;
  return from->c.r.mapping->tree_id == to->c.r.mapping->tree_id;
}

/* Length of the path below the mapping when `inner` lies in `outer`: > 0; 0: they are one; -1: neither. */
static long depth_in(const struct prelux_route *outer, const struct prelux_route *inner)
{
  if (outer->index != inner->index || strncmp(inner->rel, outer->rel, outer->rel_len) != 0) return -1;
  if (inner->rel[outer->rel_len] == '\0') return 0;
  return inner->rel[outer->rel_len] == '/' ? (long)(inner->rel_len - outer->rel_len) : -1;
}

static bool is_entry(const struct side *s)
{
  return s->c.r.rel_len > 0 && !prelux_change_dots(s->c.path);
}

/* Attributes of a side's object, whatever the path ends in; type NONE: there is none. */
static int look_up(struct side *s, struct prelux_attr *ret)
{
  bool must_dir = s->c.r.must_dir;
  s->c.r.must_dir = false;
  int rc = prelux_ask_attr(&s->c.r, s->c.call, ret);
  s->c.r.must_dir = must_dir;
  if (rc == -ENOENT) ret->type = PRELUX_NONE;
  return rc == -ENOENT ? 0 : rc;
}

/* The folder that holds the name; of "x/." that is x itself. */
static int check_folder_of(struct side *s)
{
  struct prelux_attr attr;
  if (s->c.r.rel_len == 0) return 0;
  return is_entry(s) ? prelux_change_parent(&s->c) : prelux_ask_attr(&s->c.r, s->c.call, &attr);
}

/* The kernel's checks in its order (do_renameat2). 0: nothing is wrong; 1: both are one; -errno. */
static int check_names(struct side *from, struct side *to, unsigned flags)
{
  struct prelux_attr old, new;
  const struct prelux_route *a = &from->c.r, *b = &to->c.r;
  long below = depth_in(a, b), above = depth_in(b, a);
  int rc = check_folder_of(from);
  if (rc == 0) rc = check_folder_of(to);
  if (rc) return rc;
  if (!is_entry(from)) return -EBUSY;
  if (!is_entry(to)) return flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
  rc = look_up(from, &old);
  if (rc == 0 && old.type == PRELUX_NONE) rc = -ENOENT;
  if (rc == 0) rc = look_up(to, &new);
  if (rc) return rc;
  if ((flags & RENAME_NOREPLACE) && new.type != PRELUX_NONE) return -EEXIST;
  if ((flags & RENAME_EXCHANGE) && new.type == PRELUX_NONE) return -ENOENT;
  if ((flags & RENAME_EXCHANGE) && new.type != PRELUX_DIR && b->must_dir) return -ENOTDIR;
  if (old.type != PRELUX_DIR && (a->must_dir || (!(flags & RENAME_EXCHANGE) && b->must_dir))) return -ENOTDIR;
  if (below > 0) return -EINVAL;
  if (above > 0) return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
  if (below == 0) return 1;
  return a->has_below || (b->has_below && new.type != PRELUX_NONE) ? -EBUSY : 0;
}

/* Within one tree. Most names are asked about only when the daemon has refused: which of several errors the program is to see. */
static int change_names(struct side *from, struct side *to, unsigned flags)
{
  const struct prelux_route *a = &from->c.r, *b = &to->c.r;
  int rc = 0;
  bool odd = !is_entry(from) || !is_entry(to) || a->must_dir || b->must_dir || a->has_below || b->has_below;
  if (odd || depth_in(a, b) >= 0 || depth_in(b, a) >= 0) rc = check_names(from, to, flags);
  if (rc) return rc < 0 ? rc : 0;
  rc = prelux_tell_rename(a, b, from->c.call, flags);
  if (rc == 0 || rc == -EIO || rc == -EXDEV) return rc;
  int why = check_names(from, to, flags);
  return why < 0 ? why : rc;
}

static bool bad_flags(unsigned flags)
{
  if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return true;
  return (flags & RENAME_EXCHANGE) && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT));
}

static int our_rename(struct side *from, struct side *to, unsigned flags)
{
  if (bad_flags(flags)) return -EINVAL;
  if (!one_tree(from, to)) return refuse_rename(from, to);
  return flags & RENAME_WHITEOUT ? -EINVAL : change_names(from, to, flags);
}

/* libc must not see this side. */
static bool ours(const struct side *s)
{
  return s->where < 0 || s->where == PRELUX_MAPPED || (s->where == PRELUX_ANCESTOR && s->c.r.missing);
}

/* What the kernel says before it looks. 1: there are two names; 0: libc is to say what is wrong; -errno: it would look for a name of
 * ours first. */
static int two_names(int fromfd, const char *from, int tofd, const char *to)
{
  bool bad = prelux_no_pointer(from) || prelux_no_pointer(to);
  if (!bad && strlen(from) < PATH_MAX && strlen(to) < PATH_MAX) return 1;
  if (prelux_far(fromfd, from) && prelux_far(tofd, to)) return 0;
  return bad ? -EFAULT : -ENAMETOOLONG;
}

static int do_rename(const char *call, int fromfd, const char *from, int tofd, const char *to, unsigned flags,
                     int (*real)(int, const char *, int, const char *, unsigned))
{
  struct side a, b;
  int names = prelux_idle() ? 0 : two_names(fromfd, from, tofd, to);

  if (names < 0) return (int)prelux_ret(names);
  if (!names || !*from || !*to) return real(fromfd, from, tofd, to, flags);
  look(&a, call, fromfd, from, PRELUX_NOFOLLOW | PRELUX_PARENT);
  look(&b, call, tofd, to, PRELUX_NOFOLLOW | PRELUX_PARENT);
  for (;;) {
    if (ours(&a) || ours(&b)) return (int)prelux_ret(our_rename(&a, &b, flags));
    int rc = real(a.at, a.use, b.at, b.use, flags);
    if (rc == 0 || !(look_again(&a, PRELUX_NOFOLLOW | PRELUX_PARENT) | look_again(&b, PRELUX_NOFOLLOW | PRELUX_PARENT)))
      return rc;
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

static bool one_store(const struct prelux_table_mapping *a, const struct prelux_table_mapping *b)
{
  const struct prelux_table *t = prelux_state.table;
  return a->staging.len == b->staging.len && memcmp(prelux_table_str(t, a->staging), prelux_table_str(t, b->staging), a->staging.len) == 0;
}

/* A name for a file that was made without one (O_TMPFILE): linkat of its descriptor, or of the link of /proc to that. False: fd is no
 * such file. */
static bool link_nameless(int fd, struct side *new, int *ret)
{
  uint32_t mapping;
  uint64_t ino;
  if (fd < 0 || !prelux_staged(fd, &ino, &mapping)) return false;
  *ret = new->where < 0 ? new->where : -EXDEV;
  if (new->where != PRELUX_MAPPED || !prelux_writable(&new->c.r)) return true;
  if (!one_store(&prelux_table_mappings(prelux_state.table)[mapping], new->c.r.mapping)) return true;
  new->c.kind = PRELUX_CHG_MAKE;
  *ret = prelux_change_check(&new->c);
  if (*ret == 0) *ret = prelux_tell_link(&new->c.r, new->c.call, ino);
  return true;
}

/* There are no hard links below a prefix: EPERM, as on file systems without them, once all else would be right. */
static int refuse_new_name(const struct side *old, struct side *new)
{
  new->c.kind = PRELUX_CHG_MAKE;
  if (!prelux_writable(&new->c.r)) return prelux_change_refuse(&new->c);
  int rc = prelux_change_new(&new->c);
  if (rc) return rc;
  return old->where == PRELUX_MAPPED && old->c.r.mapping->dev == new->c.r.mapping->dev ? -EPERM : -EXDEV;
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
  return new->where == PRELUX_MAPPED ? refuse_new_name(old, new) : -EXDEV;
}

static int do_link(const char *call, int oldfd, const char *old, int newfd, const char *new, int flags,
                   int (*real)(int, const char *, int, const char *, int))
{
  struct side a, b;
  unsigned how = flags & AT_SYMLINK_FOLLOW ? 0 : PRELUX_NOFOLLOW;
  int rc = prelux_idle() ? 0 : two_names(oldfd, old, newfd, new);

  if (rc < 0) return (int)prelux_ret(rc);
  if (!rc || !*new || (!*old && !(flags & AT_EMPTY_PATH))) return real(oldfd, old, newfd, new, flags);
  bool by_fd = (flags & AT_EMPTY_PATH) && !*old;
  look(&b, call, newfd, new, PRELUX_NOFOLLOW | PRELUX_PARENT);
  if (by_fd) {
    if (link_nameless(oldfd, &b, &rc)) return (int)prelux_ret(rc);
    /* A second name for a cache file would let others write into it. */
    if (oldfd >= 0 && prelux_route_fd(oldfd, &a.c.r) == PRELUX_MAPPED) return (int)prelux_ret(-EXDEV);
    a = (struct side){.at = oldfd, .use = old, .where = PRELUX_UNMAPPED};
    a.c.r.where = PRELUX_ANCESTOR; /* nothing to look for again */
  } else {
    look(&a, call, oldfd, old, how);
  }
  if ((flags & AT_SYMLINK_FOLLOW) && link_nameless(prelux_fd_of_link(old), &b, &rc)) return (int)prelux_ret(rc);
  for (;;) {
    if (ours(&a) || ours(&b)) return (int)prelux_ret(refuse_link(&a, &b));
    rc = real(a.at, a.use, b.at, b.use, flags);
    if (rc == 0 || !(look_again(&a, how) | look_again(&b, PRELUX_NOFOLLOW | PRELUX_PARENT))) return rc;
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
