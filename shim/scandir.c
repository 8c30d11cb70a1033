/* scandir and its kin open the folder inside libc; here they run over the opendir hook where that may matter. */
#include "shim/walk.h"

#include "shim/decls.h"
#include "shim/route.h"

typedef int (*select_fn)(const struct dirent *);
typedef int (*compare_fn)(const struct dirent **, const struct dirent **);

struct scan {
  select_fn select;
  struct dirent **list;
  size_t count, cap;
};

static int take(const struct dirent *entry, void *arg)
{
  struct scan *s = arg;

  if (s->select && !s->select(entry)) return 0;
  if (s->count == s->cap) {
    size_t cap = s->cap ? s->cap * 2 : 16;
    struct dirent **list = realloc(s->list, cap * sizeof(*list));
    if (!list) return -ENOMEM;
    s->list = list;
    s->cap = cap;
  }
  size_t size = offsetof(struct dirent, d_name) + strlen(entry->d_name) + 1;
  if (size < entry->d_reclen) size = entry->d_reclen;
  struct dirent *copy = malloc(size);
  if (!copy) return -ENOMEM;
  memcpy(copy, entry, size);
  s->list[s->count++] = copy;
  return 0;
}

static int scan(int at, const char *path, struct dirent ***ret, select_fn select, compare_fn compare)
{
  struct scan s = {.select = select};
  int saved = errno;
  int rc = prelux_walk_folder(at, path, take, &s);

  if (rc == 0 && !s.list && !(s.list = malloc(sizeof(*s.list)))) rc = -ENOMEM;
  if (rc) {
    while (s.count > 0) free(s.list[--s.count]);
    free(s.list);
    return (int)prelux_ret(rc);
  }
  if (compare && s.count > 1) qsort(s.list, s.count, sizeof(*s.list), (int (*)(const void *, const void *))compare);
  *ret = s.list;
  errno = saved;
  return (int)s.count;
}

/* True: our own scan. libc's is tried first where only a link from outside could lead to a mapping. */
static bool scan_ourselves(int at, const char *path)
{
  struct prelux_route r;

  return !prelux_far(at, path) && (prelux_route(at, path, 0, &r) != PRELUX_UNMAPPED || r.use != path);
}

static bool missed(int rc)
{
  return rc < 0 && (errno == ENOENT || errno == ENOTDIR) && !prelux_idle();
}

_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one layout");

PRELUX_EXPORT int scandir(const char *path, struct dirent ***list, select_fn select, compare_fn compare)
{
  if (!prelux_idle() && scan_ourselves(AT_FDCWD, path)) return scan(AT_FDCWD, path, list, select, compare);
  int rc = prelux_real.scandir(path, list, select, compare);
  return missed(rc) ? scan(AT_FDCWD, path, list, select, compare) : rc;
}

PRELUX_EXPORT int scandirat(int at, const char *path, struct dirent ***list, select_fn select, compare_fn compare)
{
  if (!prelux_idle() && scan_ourselves(at, path)) return scan(at, path, list, select, compare);
  int rc = prelux_real.scandirat(at, path, list, select, compare);
  return missed(rc) ? scan(at, path, list, select, compare) : rc;
}

PRELUX_EXPORT int scandir64(const char *path, struct dirent64 ***list, int (*select)(const struct dirent64 *),
                            int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
  return scandir(path, (struct dirent ***)list, (select_fn)select, (compare_fn)compare);
}

PRELUX_EXPORT int scandirat64(int at, const char *path, struct dirent64 ***list,
                              int (*select)(const struct dirent64 *),
                              int (*compare)(const struct dirent64 **, const struct dirent64 **))
{
  return scandirat(at, path, (struct dirent ***)list, (select_fn)select, (compare_fn)compare);
}
