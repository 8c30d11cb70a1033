/* The fts family where the walk can meet a mapping: libc's own opens folders inside libc.
 *
 * An FTS* made here carries the bit FTS_OURS in its fts_options, so that fts_read and the others tell it from libc's;
 * libc's fts_open refuses that bit. The walk never changes the working directory (FTS_NOCHDIR is always set: to change
 * it is an optimisation that programs may not rely on), so fts_accpath is always the path from where the walk began.
 *
 * All entries share one path buffer, as in libc: it holds the path of the entry last returned. It never has to grow:
 * the kernel opens no folder by a path of PATH_MAX bytes, so no path is longer than that and one more name. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "shim/decls.h"
#include "shim/fts.h"
#include "shim/walk.h"

#define FTS_OURS 0x40000000
#define INSTR_NONE 3 /* as FTS_NOINSTR, which is private to libc's header in some releases */
#define INFO_INIT 9  /* as FTS_INIT: nothing read yet */

struct build {
  FTS *fts;
  FTSENT *first, **last;
  size_t count;
  size_t dir_len; /* of the folder's path, without a final slash */
};

static FTSENT *new_entry(FTS *fts, const char *name, size_t len)
{
  size_t stat_at = (sizeof(FTSENT) + len + 1 + _Alignof(struct stat) - 1) & ~(_Alignof(struct stat) - 1);
  FTSENT *e = calloc(1, stat_at + sizeof(struct stat));

  if (!e)
    return NULL;
  memcpy(e->fts_name, name, len);
  e->fts_namelen = (unsigned short)len;
  e->fts_path = fts->fts_path;
  e->fts_statp = (struct stat *)((char *)e + stat_at);
  e->fts_instr = INSTR_NONE;
  return e;
}

static void free_list(FTSENT *e)
{
  while (e) {
    FTSENT *next = e->fts_link;
    free(e);
    e = next;
  }
}

static unsigned short examine_folder(FTSENT *e)
{
  const struct stat *st = e->fts_statp;

  e->fts_dev = st->st_dev;
  e->fts_ino = st->st_ino;
  e->fts_nlink = st->st_nlink;
  if (prelux_walk_is_dot(e->fts_name) && e->fts_level > FTS_ROOTLEVEL)
    return FTS_DOT;
  for (FTSENT *up = e->fts_parent; up && up->fts_level >= FTS_ROOTLEVEL; up = up->fts_parent)
    if (up->fts_ino == e->fts_ino && up->fts_dev == e->fts_dev) {
      e->fts_cycle = up;
      return FTS_DC;
    }
  return FTS_D;
}

/* Looks at `path` and fills in what the entry says about it. */
static unsigned short examine(const FTS *fts, FTSENT *e, const char *path, bool follow)
{
  struct stat *st = e->fts_statp;

  e->fts_errno = 0;
  if ((fts->fts_options & FTS_LOGICAL) || follow) {
    if (fstatat(AT_FDCWD, path, st, 0)) {
      int err = errno;
      if (fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = 0;
        return FTS_SLNONE;
      }
      e->fts_errno = err;
      memset(st, 0, sizeof(*st));
      return FTS_NS;
    }
  } else if (fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW)) {
    e->fts_errno = errno;
    memset(st, 0, sizeof(*st));
    return FTS_NS;
  }
  if (S_ISDIR(st->st_mode))
    return examine_folder(e);
  e->fts_dev = st->st_dev;
  e->fts_ino = st->st_ino;
  e->fts_nlink = st->st_nlink;
  return S_ISLNK(st->st_mode) ? FTS_SL : S_ISREG(st->st_mode) ? FTS_F : FTS_DEFAULT;
}

static int compare(const void *a, const void *b, void *fts)
{
  return ((FTS *)fts)->fts_compar((void *)a, (void *)b);
}

/* A list in the order of fts_compar. Without memory it stays as it is: the order is lost, no entry is. */
static FTSENT *sorted(FTS *fts, FTSENT *first, size_t count)
{
  if (!fts->fts_compar || count < 2)
    return first;
  FTSENT **all = malloc(count * sizeof(*all));
  if (!all)
    return first;
  size_t n = 0;
  for (FTSENT *e = first; e; e = e->fts_link)
    all[n++] = e;
  qsort_r(all, n, sizeof(*all), compare, fts);
  for (size_t i = 0; i < n; i++)
    all[i]->fts_link = i + 1 < n ? all[i + 1] : NULL;
  first = all[0];
  free(all);
  return first;
}

static bool needs_stat(const FTS *fts, const struct dirent *d)
{
  if (!(fts->fts_options & FTS_NOSTAT) || d->d_type == DT_UNKNOWN || d->d_type == DT_DIR)
    return true;
  return d->d_type == DT_LNK && (fts->fts_options & FTS_LOGICAL);
}

static int build_entry(const struct dirent *d, void *arg)
{
  struct build *b = arg;
  FTS *fts = b->fts;
  size_t len = strlen(d->d_name);

  if (!(fts->fts_options & FTS_SEEDOT) && prelux_walk_is_dot(d->d_name))
    return 0;
  FTSENT *e = new_entry(fts, d->d_name, len);
  if (!e)
    return -ENOMEM;
  e->fts_level = fts->fts_cur->fts_level + 1;
  e->fts_parent = fts->fts_cur;
  e->fts_pathlen = (unsigned short)(b->dir_len + 1 + len);
  e->fts_accpath = fts->fts_path;
  e->fts_info = needs_stat(fts, d) ? FTS_NS : FTS_NSOK;
  *b->last = e;
  b->last = &e->fts_link;
  b->count++;
  return 0;
}

/* Writes "/name" behind the path of e's parent. */
static void put_name(FTS *fts, const FTSENT *e)
{
  size_t len = e->fts_parent->fts_pathlen;

  if (len && fts->fts_path[len - 1] == '/')
    len--;
  fts->fts_path[len] = '/';
  memcpy(fts->fts_path + len + 1, e->fts_name, (size_t)e->fts_namelen + 1);
}

/* Entries of the current folder, NULL when there are none or on failure (fts_info of the folder says which). */
static FTSENT *build(FTS *fts, bool reading, bool names_only)
{
  FTSENT *cur = fts->fts_cur;
  size_t len = cur->fts_pathlen;
  struct build b = {.fts = fts, .dir_len = len};

  b.last = &b.first;
  if (len && fts->fts_path[len - 1] == '/')
    b.dir_len--;
  int err = prelux_walk_folder(AT_FDCWD, cur->fts_accpath, build_entry, &b);
  if (err == -ENOMEM) {
    free_list(b.first);
    cur->fts_info = FTS_ERR;
    cur->fts_errno = ENOMEM;
    fts->fts_options |= FTS_STOP;
    errno = ENOMEM;
    return NULL;
  }
  if (err) {
    free_list(b.first);
    if (reading) {
      cur->fts_info = FTS_DNR;
      cur->fts_errno = -err;
    }
    errno = -err;
    return NULL;
  }
  for (FTSENT *e = b.first; e; e = e->fts_link) {
    if (names_only) {
      e->fts_info = FTS_NSOK;
    } else if (e->fts_info == FTS_NS) {
      put_name(fts, e);
      e->fts_info = examine(fts, e, fts->fts_path, false);
    }
  }
  fts->fts_path[len] = 0;
  if (!b.first && reading)
    cur->fts_info = FTS_DP;
  return sorted(fts, b.first, b.count);
}

static void load_root(FTS *fts, FTSENT *e)
{
  size_t len = e->fts_namelen;
  const char *slash;

  memcpy(fts->fts_path, e->fts_name, len + 1);
  e->fts_pathlen = (unsigned short)len;
  slash = strrchr(e->fts_name, '/');
  if (slash && (slash != e->fts_name || slash[1])) { /* fts_name is the last component, unless it is "/" */
    len = strlen(slash + 1);
    memmove(e->fts_name, slash + 1, len + 1);
    e->fts_namelen = (unsigned short)len;
  }
  e->fts_accpath = e->fts_path = fts->fts_path;
  fts->fts_dev = e->fts_dev;
}

static FTSENT *read_roots(FTS *fts, char *const *argv, FTSENT *parent)
{
  FTSENT *first = NULL, **last = &first;
  size_t count = 0;

  for (; *argv; argv++) {
    FTSENT *e = **argv ? new_entry(fts, *argv, strlen(*argv)) : NULL;
    if (!e) {
      int err = **argv ? ENOMEM : ENOENT;
      free_list(first);
      errno = err;
      return NULL;
    }
    e->fts_level = FTS_ROOTLEVEL;
    e->fts_parent = parent;
    e->fts_accpath = e->fts_name;
    e->fts_info = examine(fts, e, e->fts_name, fts->fts_options & FTS_COMFOLLOW);
    *last = e;
    last = &e->fts_link;
    count++;
  }
  return sorted(fts, first, count);
}

/* libc keeps a dummy in front of the roots as the current entry until the first fts_read(). */
static FTS *fill(FTS *fts, char *const *argv)
{
  FTSENT *parent = new_entry(fts, "", 0);
  FTSENT *dummy = new_entry(fts, "", 0);

  if (parent && dummy) {
    parent->fts_level = FTS_ROOTPARENTLEVEL;
    dummy->fts_parent = parent;
    dummy->fts_info = INFO_INIT;
    errno = 0;
    dummy->fts_link = read_roots(fts, argv, parent);
    if (dummy->fts_link || !*argv) {
      fts->fts_cur = dummy;
      return fts;
    }
  }
  int err = errno ? errno : ENOMEM;
  free(parent);
  free(dummy);
  errno = err;
  return NULL;
}

FTS *prelux_fts_open(char *const *argv, int options, prelux_fts_cmp cmp)
{
  size_t longest = PATH_MAX;

  if (options & ~FTS_OPTIONMASK) {
    errno = EINVAL;
    return NULL;
  }
  for (char *const *arg = argv; *arg; arg++)
    if (strlen(*arg) > longest)
      longest = strlen(*arg);
  if (longest > USHRT_MAX - NAME_MAX - 2) {
    errno = ENAMETOOLONG;
    return NULL;
  }
  FTS *fts = calloc(1, sizeof(*fts));
  if (!fts)
    return NULL;
  fts->fts_pathlen = (int)longest + NAME_MAX + 2;
  fts->fts_path = malloc((size_t)fts->fts_pathlen);
  fts->fts_options = options | FTS_NOCHDIR | FTS_OURS;
  fts->fts_compar = (prelux_fts_order)cmp;
  fts->fts_rfd = -1;
  if (fts->fts_path && fill(fts, argv))
    return fts;
  int err = errno;
  free(fts->fts_path);
  free(fts);
  errno = err;
  return NULL;
}

bool prelux_fts_is_ours(const FTS *fts)
{
  return fts && (fts->fts_options & FTS_OURS);
}

static FTSENT *give(FTS *fts, FTSENT *e)
{
  return fts->fts_cur = e;
}

static FTSENT *give_named(FTS *fts, FTSENT *e)
{
  put_name(fts, e);
  e->fts_accpath = fts->fts_path;
  return give(fts, e);
}

/* The current folder was shown before its entries; now come its first entry or itself again. */
static FTSENT *go_down(FTS *fts, FTSENT *e, int instr)
{
  if (instr == FTS_SKIP || ((fts->fts_options & FTS_XDEV) && e->fts_dev != fts->fts_dev)) {
    free_list(fts->fts_child);
    fts->fts_child = NULL;
    e->fts_info = FTS_DP;
    return e;
  }
  if (fts->fts_child && (fts->fts_options & FTS_NAMEONLY)) {
    fts->fts_options &= ~FTS_NAMEONLY;
    free_list(fts->fts_child);
    fts->fts_child = NULL;
  }
  FTSENT *child = fts->fts_child;
  fts->fts_child = NULL;
  if (!child)
    child = build(fts, true, false);
  if (!child)
    return fts->fts_options & FTS_STOP ? NULL : e;
  return give_named(fts, child);
}

/* The next entry beside `e`, or the folder both lie in once more. Frees `e`. */
static FTSENT *go_on(FTS *fts, FTSENT *e)
{
  for (;;) {
    FTSENT *next = e->fts_link;
    FTSENT *parent = e->fts_parent;
    free(e);
    if (!next && parent->fts_level == FTS_ROOTPARENTLEVEL) {
      free(parent);
      errno = 0;
      return give(fts, NULL);
    }
    if (!next) {
      fts->fts_path[parent->fts_pathlen] = 0;
      parent->fts_info = parent->fts_errno ? FTS_ERR : FTS_DP;
      return give(fts, parent);
    }
    e = next;
    give(fts, e);
    if (e->fts_level == FTS_ROOTLEVEL) {
      load_root(fts, e);
      return e;
    }
    if (e->fts_instr == FTS_SKIP)
      continue;
    give_named(fts, e);
    if (e->fts_instr == FTS_FOLLOW) {
      e->fts_info = examine(fts, e, e->fts_accpath, true);
      e->fts_instr = INSTR_NONE;
    }
    return e;
  }
}

FTSENT *prelux_fts_read(FTS *fts)
{
  FTSENT *e = fts->fts_cur;

  if (!e || (fts->fts_options & FTS_STOP))
    return NULL;
  int instr = e->fts_instr;
  e->fts_instr = INSTR_NONE;
  if (instr == FTS_AGAIN) {
    e->fts_info = examine(fts, e, e->fts_accpath, false);
    return e;
  }
  if (instr == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)) {
    e->fts_info = examine(fts, e, e->fts_accpath, true);
    return e;
  }
  if (e->fts_info == FTS_D)
    return go_down(fts, e, instr);
  free_list(fts->fts_child);
  fts->fts_child = NULL;
  return go_on(fts, e);
}

FTSENT *prelux_fts_children(FTS *fts, int instr)
{
  FTSENT *e = fts->fts_cur;

  if (instr != 0 && instr != FTS_NAMEONLY) {
    errno = EINVAL;
    return NULL;
  }
  errno = 0;
  if (!e || (fts->fts_options & FTS_STOP))
    return NULL;
  if (e->fts_info == INFO_INIT)
    return e->fts_link;
  if (e->fts_info != FTS_D)
    return NULL;
  free_list(fts->fts_child);
  if (instr == FTS_NAMEONLY)
    fts->fts_options |= FTS_NAMEONLY;
  else
    fts->fts_options &= ~FTS_NAMEONLY;
  return fts->fts_child = build(fts, false, instr == FTS_NAMEONLY);
}

int prelux_fts_close(FTS *fts)
{
  FTSENT *e = fts->fts_cur;

  free_list(fts->fts_child);
  while (e) { /* what is left beside and above the current entry */
    FTSENT *next = e->fts_link ? e->fts_link : e->fts_parent;
    free(e);
    e = next;
  }
  free(fts->fts_path);
  free(fts);
  return 0;
}
