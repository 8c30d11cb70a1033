/* Folder streams. The DIR* is libc's, on a real folder; what readdir gives comes from elsewhere:
 *
 *   LISTED   a folder of a mapping: one listing of the daemon, a copy; the position is an index into it
 *   ABOVE    a real folder with prefixes (or their missing ancestors) below it: libc's own entries, then the names that
 *            are not on disk
 *
 * What is known of a stream hangs in a table keyed by the DIR*, without locks: opendir fills a slot before anybody else
 * can know the pointer, closedir empties it before libc frees it. Programs that open no such folder pay one load. */
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stream.h"

enum { SLOTS = 4096, WINDOW = 64, NO_KEY = 0, GONE = 1 };
static struct {
  uintptr_t key; /* NO_KEY, GONE (was used), or a DIR* */
  struct prelux_stream *stream;
} slots[SLOTS];
static uint32_t in_use; /* slots that hold a stream */
static uint32_t home(const DIR *dir)
{
  return (uint32_t)((uintptr_t)dir * 0x9e3779b97f4a7c15ull >> 40);
}

static struct prelux_stream *find(const DIR *dir)
{
  if (__builtin_expect(__atomic_load_n(&in_use, __ATOMIC_ACQUIRE) == 0, 1)) return NULL;
  for (uint32_t i = 0, at = home(dir); i < WINDOW; i++, at++) {
    uintptr_t key = __atomic_load_n(&slots[at % SLOTS].key, __ATOMIC_ACQUIRE);
    if (key == (uintptr_t)dir) return slots[at % SLOTS].stream;
    if (key == NO_KEY) return NULL;
  }
  return NULL;
}

static bool attach(const DIR *dir, struct prelux_stream *s)
{
  for (uint32_t i = 0, at = home(dir); i < WINDOW; i++, at++) {
    uintptr_t *key = &slots[at % SLOTS].key, is = __atomic_load_n(key, __ATOMIC_RELAXED);
    if (is > GONE) continue;
    /* Taken by the key first: a stranger's look-up never asks for this DIR*, so the stream may follow. */
    if (!__atomic_compare_exchange_n(key, &is, (uintptr_t)dir, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) continue;
    slots[at % SLOTS].stream = s;
    __atomic_fetch_add(&in_use, 1, __ATOMIC_RELEASE);
    return true;
  }
  return false;
}

static struct prelux_stream *detach(const DIR *dir)
{
  struct prelux_stream *s = find(dir);
  if (!s) return NULL;
  for (uint32_t i = 0, at = home(dir); i < WINDOW; i++, at++) {
    if (__atomic_load_n(&slots[at % SLOTS].key, __ATOMIC_RELAXED) != (uintptr_t)dir) continue;
    __atomic_store_n(&slots[at % SLOTS].key, GONE, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&in_use, 1, __ATOMIC_RELEASE);
    break;
  }
  return s;
}

/* ---- opening */

static DIR *with_stream(DIR *dir, struct prelux_stream *s)
{
  if (dir && s && attach(dir, s)) return dir;
  int err = dir ? prelux_fail(EMFILE, "opendir", s ? s->path : "", "too many folders of mappings are open", NULL) : 0;
  prelux_stream_free(s);
  if (dir) {
    prelux_real.closedir(dir);
    errno = -err;
  }
  return NULL;
}

static DIR *opendir_mapped(const struct prelux_route *r)
{
  char real[PATH_MAX];
  int saved = errno;
  struct prelux_stream *s = prelux_stream_of(r, "opendir");
  if (!s) return NULL;
  DIR *dir = prelux_cache_path(r, real, sizeof(real)) < 0 ? prelux_null(-ENAMETOOLONG) : prelux_real.opendir(real);
  if (!dir && (errno == ENOENT || errno == EACCES)) { /* evicted in between, or not to be seen from here: passed by the daemon */
    int fd = prelux_open_mapped(r, "opendir", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    dir = fd < 0 ? prelux_null(fd) : prelux_real.fdopendir(fd);
    if (!dir && fd >= 0) prelux_sys(SYS_close, fd);
  }
  if (dir) {
    prelux_fd_set(dirfd(dir), PRELUX_CLASS_SHADOW, r->index);
    errno = saved;
  }
  return with_stream(dir, s);
}

/* A real folder (or a stand-in) above mappings. */
static DIR *above(DIR *dir, const char *logical, bool missing)
{
  struct prelux_stream *s = dir ? prelux_stream_new(logical, NULL, missing) : NULL;
  struct stat st;
  if (!dir) return NULL;
  prelux_fd_set(dirfd(dir), PRELUX_CLASS_UNKNOWN, 0);
  if (s && missing && prelux_fstat(dirfd(dir), &st) == 0) s->dir_ino = st.st_ino;
  return with_stream(dir, s);
}

/* libc opened a folder by an unmapped path: it may be the real one behind a prefix. */
static DIR *turn_root(DIR *dir)
{
  struct prelux_route r;
  struct stat st;
  if (!dir) return NULL;
  prelux_fd_set(dirfd(dir), PRELUX_CLASS_PLAIN, 0);
  if (!prelux_state.table || prelux_state.table->n_roots == 0 || prelux_fstat(dirfd(dir), &st) < 0) return dir;
  int root = prelux_root_of(st.st_dev, st.st_ino);
  if (root < 0) return dir;
  prelux_real.closedir(dir);
  prelux_route_root((uint32_t)root, &r);
  return r.where < 0 ? prelux_null(r.where) : opendir_mapped(&r);
}

static DIR *opendir_routed(struct prelux_route *r)
{
  if (r->where < 0) return prelux_null(r->where);
  if (r->where == PRELUX_MAPPED) return opendir_mapped(r);
  DIR *dir = prelux_real.opendir(r->use);
  if (r->where == PRELUX_ANCESTOR) return above(dir, r->logical, r->missing);
  return turn_root(dir);
}

/* The folder is none of those above a mapping, of which there are few, and no real one stands behind the prefix: /proc need not be
 * asked for its name. False also when it would take longer to look. */
static bool surely_not_above(int fd)
{
  const struct prelux_table *t = prelux_state.table;
  const struct prelux_table_mapping *m = prelux_table_mappings(t);
  struct stat is, up;
  char path[PATH_MAX];
  if (t->n_mappings != 1 || t->n_roots > 0 || (t->flags & PRELUX_TABLE_HAS_URI) || prelux_fstat(fd, &is) < 0) return false;
  const char *local = prelux_table_str(t, m->local);
  for (size_t n = 0, depth = 0; n <= m->local.len; n++) {
    if (n < m->local.len && local[n] != '/') continue;
    if (++depth > 4 || n + 2 > sizeof(path)) return false;
    size_t len = n ? n : 1;
    memcpy(path, local, len);
    path[len] = '\0';
    long rc = prelux_sys(SYS_newfstatat, AT_FDCWD, path, &up, 0);
    if (rc == -ENOENT) return true;
    if (rc < 0 || (up.st_dev == is.st_dev && up.st_ino == is.st_ino)) return false;
  }
  return false;
}

/* A link or ".." may lead to a folder above mappings: its names must be complete, too. */
static DIR *opendir_far(DIR *dir)
{
  char path[PATH_MAX];
  bool ours;
  if (find(dir) || !prelux_state.table || (prelux_state.table->flags & PRELUX_TABLE_LINKS_OFF)) return dir;
  if (surely_not_above(dirfd(dir))) return dir;
  int saved = errno;
  long len = prelux_dir_path(dirfd(dir), path, sizeof(path), &ours);
  errno = saved;
  return len > 0 ? above(dir, path, false) : dir;
}

PRELUX_EXPORT DIR *opendir(const char *path)
{
  struct prelux_route r;
  if (prelux_idle()) return prelux_real.opendir(path);
  prelux_route(AT_FDCWD, path, 0, &r);
  DIR *dir = opendir_routed(&r);
  if (!dir && prelux_route_again(AT_FDCWD, path, 0, &r)) dir = opendir_routed(&r);
  if (!dir || r.where != PRELUX_UNMAPPED) return dir;
  return opendir_far(dir);
}

PRELUX_EXPORT DIR *fdopendir(int fd)
{
  struct prelux_route r;
  char path[PATH_MAX];
  bool ours;
  if (prelux_idle()) return prelux_real.fdopendir(fd);
  int where = prelux_route_fd(fd, &r);
  if (where < 0) return prelux_null(where);
  if (where == PRELUX_MAPPED) {
    struct stat st;
    if (prelux_fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode)) return prelux_real.fdopendir(fd); /* ENOTDIR */
    struct prelux_stream *s = prelux_stream_of(&r, "fdopendir");
    return s ? with_stream(prelux_real.fdopendir(fd), s) : NULL;
  }
  if (where == PRELUX_ANCESTOR) return above(prelux_real.fdopendir(fd), r.logical, r.missing);
  DIR *dir = prelux_real.fdopendir(fd);
  if (!dir || prelux_dir_path(fd, path, sizeof(path), &ours) <= 0) return dir;
  return above(dir, path, false);
}

/* ---- reading */

static struct dirent *next(DIR *dir, struct prelux_stream *s)
{
  if (s->listed) return prelux_stream_next(s);
  if (!s->in_extras) {
    int saved = errno;
    errno = 0;
    struct dirent *d = prelux_real.readdir(dir);
    if (d || errno) {
      if (d) errno = saved;
      return d;
    }
    errno = saved;
    s->in_extras = true;
    s->pos = 0;
  }
  return prelux_stream_extra(s, dirfd(dir));
}

PRELUX_EXPORT struct dirent *readdir(DIR *dir)
{
  if (prelux_idle()) return prelux_real.readdir(dir);
  struct prelux_stream *s = find(dir);
  return s ? next(dir, s) : prelux_real.readdir(dir);
}

PRELUX_EXPORT struct dirent64 *readdir64(DIR *dir)
{
  if (prelux_idle()) return prelux_real.readdir64(dir);
  struct prelux_stream *s = find(dir);
  return s ? (struct dirent64 *)next(dir, s) : prelux_real.readdir64(dir);
}

static int next_r(DIR *dir, struct prelux_stream *s, struct dirent *entry, struct dirent **ret)
{
  int saved = errno;
  errno = 0;
  struct dirent *d = next(dir, s);
  int err = errno;
  errno = saved;
  *ret = NULL;
  if (!d) return err;
  memcpy(entry, d, d->d_reclen);
  *ret = entry;
  return 0;
}

PRELUX_EXPORT int readdir_r(DIR *dir, struct dirent *entry, struct dirent **ret)
{
  if (prelux_idle()) return prelux_real.readdir_r(dir, entry, ret);
  struct prelux_stream *s = find(dir);
  return s ? next_r(dir, s, entry, ret) : prelux_real.readdir_r(dir, entry, ret);
}

PRELUX_EXPORT int readdir64_r(DIR *dir, struct dirent64 *entry, struct dirent64 **ret)
{
  if (prelux_idle()) return prelux_real.readdir64_r(dir, entry, ret);
  struct prelux_stream *s = find(dir);
  if (!s) return prelux_real.readdir64_r(dir, entry, ret);
  return next_r(dir, s, (struct dirent *)entry, (struct dirent **)ret);
}

/* Takes a new snapshot. When that fails the old one stays: rewinddir cannot fail. */
static void renew(DIR *dir, struct prelux_stream *s)
{
  struct prelux_route r;
  const struct prelux_listing *list;
  struct prelux_attr attr;
  s->pos = 0;
  s->in_extras = false;
  if (!s->list || prelux_route_fd(dirfd(dir), &r) != PRELUX_MAPPED) return;
  if (prelux_ask_list(&r, "rewinddir", &list, &attr) < 0) return;
  prelux_listing_free(s->list);
  s->list = list;
}

PRELUX_EXPORT void rewinddir(DIR *dir)
{
  if (prelux_idle()) {
    prelux_real.rewinddir(dir);
    return;
  }
  struct prelux_stream *s = find(dir);
  if (s) renew(dir, s);
  prelux_real.rewinddir(dir);
}

/* Positions among the extras of an ABOVE folder are negative: libc's own never are. */
PRELUX_EXPORT long telldir(DIR *dir)
{
  if (prelux_idle()) return prelux_real.telldir(dir);
  struct prelux_stream *s = find(dir);
  if (!s) return prelux_real.telldir(dir);
  if (s->listed) return (long)s->pos;
  return s->in_extras ? -2 - (long)s->pos : prelux_real.telldir(dir);
}

PRELUX_EXPORT void seekdir(DIR *dir, long pos)
{
  struct prelux_stream *s = prelux_idle() ? NULL : find(dir);
  if (s && s->listed) {
    s->pos = (uint64_t)pos;
  } else if (s && pos <= -2) {
    s->in_extras = true;
    s->pos = (uint64_t)(-2 - pos);
  } else {
    if (s) s->in_extras = false;
    prelux_real.seekdir(dir, pos);
  }
}

PRELUX_EXPORT int closedir(DIR *dir)
{
  if (prelux_idle() || !dir) return prelux_real.closedir(dir);
  int fd = dirfd(dir);
  struct prelux_stream *s = detach(dir);
  if (fd >= 0) prelux_fd_forget((unsigned)fd, (unsigned)fd);
  int rc = prelux_real.closedir(dir);
  prelux_stream_free(s);
  return rc;
}
