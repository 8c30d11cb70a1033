/* ftw and nftw where the walk can meet a mapping: libc's own walkers open folders inside libc and would read the real
 * tree behind the prefix.
 *
 * A folder's names are read at once into a list, the folder is closed, then its entries are visited; so `nopenfd` is
 * always kept (one fd at a time) and names that appear meanwhile are not seen. Folders are visited once when links are
 * followed: (dev, ino) of every folder entered is remembered. The callback may leave by longjmp; that leaks memory, as
 * it does in libc. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/decls.h"
#include "shim/ftw.h"
#include "shim/walk.h"

struct seen {
  struct seen_id {
    dev_t dev;
    ino_t ino;
    bool used;
  } *ids;
  size_t count, cap; /* cap is a power of two, or 0 */
};

struct names {
  char *text; /* type byte, name, NUL; repeated */
  size_t len, cap;
};

struct walk {
  prelux_nftw_fn nftw_fn; /* exactly one of the two is set */
  prelux_ftw_fn ftw_fn;
  int flags;
  char *path;
  size_t cap;
  dev_t dev;
  int home; /* FTW_CHDIR: fd of the folder where the walk began, to which paths are relative; else AT_FDCWD */
  struct seen seen;
  struct FTW pos;
};

/* Old ftw() knows four types. */
static const int ftw_types[] = {
  [FTW_F] = FTW_F, [FTW_D] = FTW_D, [FTW_DNR] = FTW_DNR, [FTW_NS] = FTW_NS,
  [FTW_SL] = FTW_F, [FTW_DP] = FTW_D, [FTW_SLN] = FTW_NS,
};

static size_t seen_slot(const struct seen *s, dev_t dev, ino_t ino)
{
  size_t i = ((size_t)ino * 0x9e3779b97f4a7c15u ^ (size_t)dev) & (s->cap - 1);

  while (s->ids[i].used && (s->ids[i].dev != dev || s->ids[i].ino != ino))
    i = (i + 1) & (s->cap - 1);
  return i;
}

static int seen_grow(struct seen *s)
{
  struct seen bigger = {.count = s->count, .cap = s->cap ? s->cap * 2 : 64};

  bigger.ids = calloc(bigger.cap, sizeof(*bigger.ids));
  if (!bigger.ids)
    return -ENOMEM;
  for (size_t i = 0; i < s->cap; i++)
    if (s->ids[i].used)
      bigger.ids[seen_slot(&bigger, s->ids[i].dev, s->ids[i].ino)] = s->ids[i];
  free(s->ids);
  *s = bigger;
  return 0;
}

/* 1: entered for the first time, 0: was entered before, -ENOMEM. */
static int seen_add(struct seen *s, const struct stat *st)
{
  if (s->count * 2 >= s->cap && seen_grow(s))
    return -ENOMEM;
  size_t i = seen_slot(s, st->st_dev, st->st_ino);
  if (s->ids[i].used)
    return 0;
  s->ids[i] = (struct seen_id){.dev = st->st_dev, .ino = st->st_ino, .used = true};
  s->count++;
  return 1;
}

static int add_name(const struct dirent *entry, void *arg)
{
  struct names *n = arg;
  size_t len = strlen(entry->d_name) + 2;

  if (prelux_walk_is_dot(entry->d_name))
    return 0;
  if (n->len + len > n->cap) {
    size_t cap = (n->cap ? n->cap * 2 : 4096) + len;
    char *text = realloc(n->text, cap);
    if (!text)
      return -ENOMEM;
    n->text = text;
    n->cap = cap;
  }
  n->text[n->len] = (char)entry->d_type;
  memcpy(n->text + n->len + 1, entry->d_name, len - 1);
  n->len += len;
  return 0;
}

static int call(struct walk *w, const struct stat *st, int type)
{
  if (w->ftw_fn)
    return w->ftw_fn(w->path, st, ftw_types[type]);
  return w->nftw_fn(w->path, st, type, &w->pos);
}

/* The folder whose entries are visited next becomes the working directory. An empty path is the place of the start. */
static int enter(struct walk *w, size_t len)
{
  char saved = w->path[len];

  if (!(w->flags & FTW_CHDIR))
    return 0;
  if (fchdir(w->home))
    return -errno;
  if (len == 0)
    return 0;
  w->path[len] = 0;
  int ret = chdir(w->path) ? -errno : 0;
  w->path[len] = saved;
  return ret;
}

/* Appends "/name" to the path of `len` bytes. New length or -ENOMEM. */
static long append(struct walk *w, size_t len, const char *name)
{
  size_t more = strlen(name);

  if (len && w->path[len - 1] == '/') /* only "/" itself */
    len--;
  if (len + more + 2 > w->cap) {
    size_t cap = (len + more + 2) * 2;
    char *path = realloc(w->path, cap);
    if (!path)
      return -ENOMEM;
    w->path = path;
    w->cap = cap;
  }
  w->path[len] = '/';
  memcpy(w->path + len + 1, name, more + 1);
  w->pos.base = (int)len + 1;
  return (long)(len + 1 + more);
}

/* Type of the object at w->path, or -errno where the walk has to end. */
static int examine(struct walk *w, struct stat *st, bool root)
{
  bool phys = w->flags & FTW_PHYS;

  memset(st, 0, sizeof(*st));
  if (fstatat(w->home, w->path, st, phys ? AT_SYMLINK_NOFOLLOW : 0) == 0)
    return S_ISDIR(st->st_mode) ? FTW_D : S_ISLNK(st->st_mode) ? FTW_SL : FTW_F;
  int err = errno;
  if (!phys && err == ENOENT && fstatat(w->home, w->path, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st->st_mode))
    return FTW_SLN;
  if (root || (err != EACCES && err != ENOENT))
    return -err;
  return FTW_NS;
}

static int visit_folder(struct walk *w, struct stat *st, size_t len);

/* One object: its callback, and its subtree. Result as the callback's; -1 with errno on failure. */
static int visit(struct walk *w, size_t len, bool root)
{
  struct stat st;
  int type = examine(w, &st, root);
  int ret;

  if (type < 0) {
    errno = -type;
    return -1;
  }
  if (root)
    w->dev = st.st_dev;
  else if ((w->flags & FTW_MOUNT) && type != FTW_NS && st.st_dev != w->dev)
    return 0;
  if (type == FTW_D) {
    int first = w->flags & FTW_PHYS ? 1 : seen_add(&w->seen, &st);
    if (first < 0) {
      errno = -first;
      return -1;
    }
    ret = first ? visit_folder(w, &st, len) : 0;
  } else {
    ret = call(w, &st, type);
  }
  if ((w->flags & FTW_ACTIONRETVAL) && ret == FTW_SKIP_SUBTREE)
    ret = 0;
  return ret;
}

static int visit_entries(struct walk *w, const struct names *names, size_t len)
{
  int base = w->pos.base;
  int ret = 0;

  w->pos.level++;
  for (size_t at = 0; at < names->len && ret == 0; at += strlen(names->text + at + 1) + 2) {
    long longer = append(w, len, names->text + at + 1);
    if (longer < 0) {
      errno = ENOMEM;
      ret = -1;
      break;
    }
    ret = visit(w, (size_t)longer, false);
  }
  w->path[len] = 0;
  w->pos.level--;
  w->pos.base = base;
  if ((w->flags & FTW_ACTIONRETVAL) && ret == FTW_SKIP_SIBLINGS)
    ret = 0;
  return ret;
}

static int visit_folder(struct walk *w, struct stat *st, size_t len)
{
  struct names names = {0};
  size_t parent = w->pos.base > 1 ? (size_t)w->pos.base - 1 : (size_t)w->pos.base;
  int err = prelux_walk_folder(w->home, w->path, add_name, &names);
  int ret;

  if (err == -EACCES) {
    free(names.text);
    return call(w, st, FTW_DNR);
  }
  ret = err ? -1 : 0;
  if (!err && !(w->flags & FTW_DEPTH))
    ret = call(w, st, FTW_D);
  if (ret == 0 && (err = enter(w, len)))
    ret = -1;
  if (ret == 0) {
    ret = visit_entries(w, &names, len);
    err = ret == -1 ? -errno : 0;
  }
  free(names.text);
  if (ret == 0 && (w->flags & FTW_DEPTH)) {
    ret = call(w, st, FTW_DP); /* from inside the folder, as in libc */
    err = ret == -1 ? -errno : 0;
  }
  bool goes_on = ret == 0 || ((w->flags & FTW_ACTIONRETVAL) && ret != -1 && ret != FTW_STOP);
  if (goes_on && (err = enter(w, parent))) ret = -1;
  if (err) errno = -err;
  return ret;
}

static int start(struct walk *w, const char *root)
{
  size_t len = strlen(root);

  if (len == 0) {
    errno = ENOENT;
    return -1;
  }
  w->cap = len + 256;
  w->path = malloc(w->cap);
  if (!w->path)
    return -1;
  memcpy(w->path, root, len + 1);
  while (len > 1 && w->path[len - 1] == '/')
    w->path[--len] = 0;
  const char *slash = strrchr(w->path, '/');
  w->pos.base = slash && slash[1] ? (int)(slash - w->path) + 1 : 0;
  w->home = AT_FDCWD;
  if (w->flags & FTW_CHDIR) {
    w->home = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->home < 0)
      return -1;
    size_t parent = w->pos.base > 1 ? (size_t)w->pos.base - 1 : (size_t)w->pos.base;
    int err = enter(w, parent);
    if (err) {
      errno = -err;
      return -1;
    }
  }
  int ret = visit(w, len, true);
  if ((w->flags & FTW_ACTIONRETVAL) && (ret == FTW_SKIP_SUBTREE || ret == FTW_SKIP_SIBLINGS))
    ret = 0;
  return ret;
}

int prelux_ftw_walk(const char *root, prelux_nftw_fn nftw_fn, prelux_ftw_fn ftw_fn, int flags)
{
  struct walk w = {.nftw_fn = nftw_fn, .ftw_fn = ftw_fn, .flags = flags, .home = -1};
  int ret = start(&w, root);
  int err = errno;

  if (w.home >= 0) {
    if (fchdir(w.home) && ret == 0)
      ret = -1, err = errno;
    close(w.home);
  }
  free(w.path);
  free(w.seen.ids);
  errno = err;
  return ret;
}
