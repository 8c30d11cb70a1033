/* Folder streams. The DIR* is libc's, on a real folder; what readdir gives comes from elsewhere:
 *
 *   LISTED   a folder of a mapping: one listing of the daemon, mapped; the position is an index into it
 *   ABOVE    a real folder with prefixes (or their missing ancestors) below it: libc's own entries, then the names that
 *            are not on disk
 *
 * What is known of a stream hangs in a table keyed by the DIR*, without locks: opendir fills a slot before anybody else
 * can know the pointer, closedir empties it before libc frees it. Programs that open no such folder pay one load. */
#include <sys/mman.h>

#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"

struct extra { /* a name that only prelux knows */
  const char *name;
  size_t len;
  int mapping; /* -1: a missing ancestor */
};

struct stream {
  size_t bytes;                       /* of this mapping */
  const struct prelux_listing *list;  /* LISTED; NULL for ABOVE and for a missing ancestor */
  bool listed;                        /* entries come from `list` and `extras` only */
  bool in_extras;                     /* ABOVE: libc's entries are through */
  uint64_t pos;                       /* LISTED: 0 ".", 1 "..", then entries, then extras; ABOVE: index of the extra */
  uint64_t dir_ino;
  uint32_t n_extras;
  struct extra *extras;
  union {
    struct dirent d;
    struct dirent64 d64;
  } out;
  char path[];                        /* logical */
};
_Static_assert(sizeof(struct dirent) == sizeof(struct dirent64), "one layout");

enum { SLOTS = 4096, WINDOW = 64, NO_KEY = 0, GONE = 1 };
static struct {
  uintptr_t key; /* NO_KEY, GONE (was used), or a DIR* */
  struct stream *stream;
} slots[SLOTS];
static uint32_t in_use; /* slots that hold a stream */
/* getdents64 on a folder above mappings: extras handed out so far, by fd. */
enum { FDS = 4096 };
static uint16_t handed_out[FDS];

static uint32_t home(const DIR *dir)
{
  return (uint32_t)((uintptr_t)dir * 0x9e3779b97f4a7c15ull >> 40);
}

static struct stream *find(const DIR *dir)
{
  if (__builtin_expect(__atomic_load_n(&in_use, __ATOMIC_ACQUIRE) == 0, 1)) return NULL;
  for (uint32_t i = 0, at = home(dir); i < WINDOW; i++, at++) {
    uintptr_t key = __atomic_load_n(&slots[at % SLOTS].key, __ATOMIC_ACQUIRE);
    if (key == (uintptr_t)dir) return slots[at % SLOTS].stream;
    if (key == NO_KEY) return NULL;
  }
  return NULL;
}

static bool attach(const DIR *dir, struct stream *s)
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

static struct stream *detach(const DIR *dir)
{
  struct stream *s = find(dir);
  if (!s) return NULL;
  for (uint32_t i = 0, at = home(dir); i < WINDOW; i++, at++) {
    if (slots[at % SLOTS].key != (uintptr_t)dir) continue;
    __atomic_store_n(&slots[at % SLOTS].key, GONE, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&in_use, 1, __ATOMIC_RELEASE);
    break;
  }
  return s;
}

static void stream_free(struct stream *s)
{
  if (!s) return;
  prelux_listing_free(s->list);
  prelux_sys(SYS_munmap, s, s->bytes);
}

/* ---- names that only prelux knows */

static bool in_listing(const struct prelux_listing *l, const char *name, size_t len)
{
  uint32_t low = 0, high = l ? l->count : 0;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    const struct prelux_listing_entry *e = &l->entries[mid];
    size_t n = e->name_len < len ? e->name_len : len;
    int c = memcmp((const char *)l + e->name_off, name, n);
    if (c == 0) c = e->name_len < len ? -1 : e->name_len > len;
    if (c == 0) return true;
    if (c < 0) low = mid + 1;
    else high = mid;
  }
  return false;
}

struct gather {
  const struct prelux_listing *list;
  struct extra *to; /* NULL: count only */
  uint32_t n;
};

static void gather_one(const char *name, size_t len, bool is_root, int mapping, void *arg)
{
  struct gather *g = arg;
  if (in_listing(g->list, name, len)) return;
  if (g->to) g->to[g->n] = (struct extra){name, len, is_root ? mapping : -1};
  g->n++;
}

/* A stream for the folder `logical`; list is taken over (NULL: none). */
static struct stream *stream_new(const char *logical, const struct prelux_listing *list, bool listed)
{
  size_t n = strlen(logical);
  struct gather g = {.list = list};
  if (prelux_state.table) prelux_table_children(prelux_state.table, logical, gather_one, &g);
  size_t at = (sizeof(struct stream) + n + 1 + 15) & ~(size_t)15;
  size_t bytes = at + g.n * sizeof(struct extra);
  long map = prelux_sys(SYS_mmap, NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
  if (map < 0 && map > -4096) return NULL;
  struct stream *s = (struct stream *)map;
  s->bytes = bytes;
  s->list = list;
  s->listed = listed;
  s->dir_ino = list ? list->dir_ino : 0;
  s->extras = g.to = (struct extra *)((char *)s + at);
  g.n = 0;
  if (prelux_state.table) prelux_table_children(prelux_state.table, logical, gather_one, &g);
  s->n_extras = g.n;
  memcpy(s->path, logical, n + 1);
  return s;
}

/* Logical path of an extra. */
static bool extra_path(const char *folder, const struct extra *e, char out[PATH_MAX])
{
  size_t n = strlen(folder);
  if (n == 1) n = 0; /* "/" */
  if (n + e->len + 2 > PATH_MAX) return false;
  memcpy(out, folder, n);
  out[n] = '/';
  memcpy(out + n + 1, e->name, e->len);
  out[n + 1 + e->len] = '\0';
  return true;
}

/* Number and type of an extra, without asking the daemon: a listing must not wait for every backend below it. As with a
 * mount point the number may be another than stat's while the root is not in the index. */
static uint64_t extra_ino(const char *folder, const struct extra *e, unsigned char *ret_type)
{
  struct prelux_route r;
  struct prelux_attr attr;
  struct stat st;
  char path[PATH_MAX];
  *ret_type = DT_DIR;
  uint64_t ino = prelux_component_hash(e->name, e->len) | 1;
  if (!extra_path(folder, e, path)) return ino;
  int where = prelux_route(AT_FDCWD, path, PRELUX_NOFOLLOW, &r);
  if (where == PRELUX_MAPPED && prelux_index_look(&r, &attr) && attr.type != PRELUX_NONE) {
    if (attr.type != PRELUX_DIR) *ret_type = attr.type == PRELUX_LINK ? DT_LNK : DT_REG;
    return attr.ino;
  }
  if (where == PRELUX_ANCESTOR && prelux_sys(SYS_newfstatat, r.at, r.use, &st, 0) == 0) return st.st_ino;
  return ino;
}

static struct dirent *emit(struct stream *s, const char *name, size_t len, uint64_t ino, unsigned char type)
{
  struct dirent *d = &s->out.d;
  if (len >= sizeof(d->d_name)) len = sizeof(d->d_name) - 1;
  d->d_ino = ino;
  d->d_off = (off_t)(s->listed ? s->pos : 0);
  d->d_type = type;
  d->d_reclen = (unsigned short)((offsetof(struct dirent, d_name) + len + 1 + 7) & ~(size_t)7);
  memcpy(d->d_name, name, len);
  memset(d->d_name + len, 0, d->d_reclen - offsetof(struct dirent, d_name) - len);
  return d;
}

static uint64_t parent_ino(const struct stream *s)
{
  struct prelux_route r;
  struct prelux_attr attr;
  struct stat st;
  char path[PATH_MAX];
  if (prelux_path_join(path, sizeof(path), s->path[0] == '/' ? s->path : "/", "..") < 0) return 1;
  int where = prelux_route(AT_FDCWD, path, 0, &r);
  if (where == PRELUX_MAPPED && prelux_index_look(&r, &attr) && attr.type == PRELUX_DIR) return attr.ino;
  if (where >= 0 && where != PRELUX_MAPPED && prelux_sys(SYS_newfstatat, r.at, r.use, &st, 0) == 0) return st.st_ino;
  return s->dir_ino ? s->dir_ino : 1;
}

/* Next entry of a LISTED folder, NULL at the end. */
static struct dirent *next_listed(struct stream *s)
{
  uint64_t i = s->pos, count = s->list ? s->list->count : 0;
  unsigned char type;
  if (i >= 2 + count + s->n_extras) return NULL;
  s->pos++;
  if (i == 0) return emit(s, ".", 1, s->dir_ino ? s->dir_ino : 1, DT_DIR);
  if (i == 1) return emit(s, "..", 2, parent_ino(s), DT_DIR);
  if (i - 2 < count) {
    const struct prelux_listing_entry *e = &s->list->entries[i - 2];
    if ((uint64_t)e->name_off + e->name_len >= s->list->bytes) return NULL;
    return emit(s, (const char *)s->list + e->name_off, e->name_len, e->ino,
                e->type == PRELUX_DIR ? DT_DIR : e->type == PRELUX_LINK ? DT_LNK : DT_REG);
  }
  const struct extra *x = &s->extras[i - 2 - count];
  uint64_t ino = extra_ino(s->path, x, &type);
  return emit(s, x->name, x->len, ino, type);
}

/* Next name of an ABOVE folder that is not on disk. */
static struct dirent *next_extra(struct stream *s, int dirfd)
{
  while (s->pos < s->n_extras) {
    const struct extra *x = &s->extras[s->pos++];
    struct stat st;
    unsigned char type;
    char name[256];
    if (x->len >= sizeof(name)) continue;
    memcpy(name, x->name, x->len);
    name[x->len] = '\0';
    if (prelux_sys(SYS_newfstatat, dirfd, name, &st, AT_SYMLINK_NOFOLLOW) != -ENOENT) continue; /* libc has shown it */
    uint64_t ino = extra_ino(s->path, x, &type);
    return emit(s, x->name, x->len, ino, type);
  }
  return NULL;
}

/* ---- opening */

static DIR *with_stream(DIR *dir, struct stream *s)
{
  if (dir && s && attach(dir, s)) return dir;
  int err = dir ? prelux_fail(EMFILE, "opendir", s ? s->path : "", "too many folders of mappings are open", NULL) : 0;
  stream_free(s);
  if (dir) {
    prelux_real.closedir(dir);
    errno = -err;
  }
  return NULL;
}

/* The listing of a mapped folder in a stream, or NULL and errno. */
static struct stream *stream_of(const struct prelux_route *r, const char *call)
{
  const struct prelux_listing *list;
  struct prelux_attr attr;
  int rc = prelux_ask_list(r, call, &list, &attr);
  if (rc < 0) return prelux_null(rc);
  struct stream *s = stream_new(r->logical, list, true);
  if (!s) {
    prelux_listing_free(list);
    return prelux_null(-ENOMEM);
  }
  return s;
}

static DIR *opendir_mapped(const struct prelux_route *r)
{
  char real[PATH_MAX];
  int saved = errno;
  struct stream *s = stream_of(r, "opendir");
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
  struct stream *s = dir ? stream_new(logical, NULL, missing) : NULL;
  struct stat st;
  if (!dir) return NULL;
  prelux_fd_set(dirfd(dir), PRELUX_CLASS_UNKNOWN, 0);
  if (s && missing && prelux_sys(SYS_fstat, dirfd(dir), &st) == 0) s->dir_ino = st.st_ino;
  return with_stream(dir, s);
}

/* libc opened a folder by an unmapped path: it may be the real one behind a prefix. */
static DIR *turn_root(DIR *dir)
{
  struct prelux_route r;
  struct stat st;
  if (!dir) return NULL;
  prelux_fd_set(dirfd(dir), PRELUX_CLASS_PLAIN, 0);
  if (!prelux_state.table || prelux_state.table->n_roots == 0 || prelux_sys(SYS_fstat, dirfd(dir), &st) < 0) return dir;
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

/* A link or ".." may lead to a folder above mappings: its names must be complete, too. */
static DIR *opendir_far(DIR *dir)
{
  char path[PATH_MAX];
  bool ours;
  if (find(dir) || !prelux_state.table || (prelux_state.table->flags & PRELUX_TABLE_LINKS_OFF)) return dir;
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
    if (prelux_sys(SYS_fstat, fd, &st) == 0 && !S_ISDIR(st.st_mode)) return prelux_real.fdopendir(fd); /* ENOTDIR */
    struct stream *s = stream_of(&r, "fdopendir");
    return s ? with_stream(prelux_real.fdopendir(fd), s) : NULL;
  }
  if (where == PRELUX_ANCESTOR) return above(prelux_real.fdopendir(fd), r.logical, r.missing);
  DIR *dir = prelux_real.fdopendir(fd);
  if (!dir || prelux_dir_path(fd, path, sizeof(path), &ours) <= 0) return dir;
  return above(dir, path, false);
}

/* ---- reading */

static struct dirent *next(DIR *dir, struct stream *s)
{
  if (s->listed) return next_listed(s);
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
  return next_extra(s, dirfd(dir));
}

PRELUX_EXPORT struct dirent *readdir(DIR *dir)
{
  if (prelux_idle()) return prelux_real.readdir(dir);
  struct stream *s = find(dir);
  return s ? next(dir, s) : prelux_real.readdir(dir);
}

PRELUX_EXPORT struct dirent64 *readdir64(DIR *dir)
{
  if (prelux_idle()) return prelux_real.readdir64(dir);
  struct stream *s = find(dir);
  return s ? (struct dirent64 *)next(dir, s) : prelux_real.readdir64(dir);
}

static int next_r(DIR *dir, struct stream *s, struct dirent *entry, struct dirent **ret)
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
  struct stream *s = find(dir);
  return s ? next_r(dir, s, entry, ret) : prelux_real.readdir_r(dir, entry, ret);
}

PRELUX_EXPORT int readdir64_r(DIR *dir, struct dirent64 *entry, struct dirent64 **ret)
{
  if (prelux_idle()) return prelux_real.readdir64_r(dir, entry, ret);
  struct stream *s = find(dir);
  if (!s) return prelux_real.readdir64_r(dir, entry, ret);
  return next_r(dir, s, (struct dirent *)entry, (struct dirent **)ret);
}

/* Takes a new snapshot. When that fails the old one stays: rewinddir cannot fail. */
static void renew(DIR *dir, struct stream *s)
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
  struct stream *s = find(dir);
  if (s) renew(dir, s);
  prelux_real.rewinddir(dir);
}

/* Positions among the extras of an ABOVE folder are negative: libc's own never are. */
PRELUX_EXPORT long telldir(DIR *dir)
{
  if (prelux_idle()) return prelux_real.telldir(dir);
  struct stream *s = find(dir);
  if (!s) return prelux_real.telldir(dir);
  if (s->listed) return (long)s->pos;
  return s->in_extras ? -2 - (long)s->pos : prelux_real.telldir(dir);
}

PRELUX_EXPORT void seekdir(DIR *dir, long pos)
{
  struct stream *s = prelux_idle() ? NULL : find(dir);
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
  struct stream *s = detach(dir);
  if (fd >= 0) prelux_fd_forget((unsigned)fd, (unsigned)fd);
  int rc = prelux_real.closedir(dir);
  stream_free(s);
  return rc;
}

/* ---- getdents64 */

/* Copies entries to a caller's buffer until it is full; bytes, 0 at the end, -EINVAL when not even one fits. */
static ssize_t fill(struct stream *s, int fd, char *buf, size_t size)
{
  size_t used = 0;
  for (;;) {
    uint64_t was = s->pos;
    struct dirent *d = s->listed ? next_listed(s) : next_extra(s, fd);
    if (!d) return (ssize_t)used;
    if (used + d->d_reclen > size) {
      s->pos = was;
      return used ? (ssize_t)used : -EINVAL;
    }
    memcpy(buf + used, d, d->d_reclen);
    used += d->d_reclen;
  }
}

/* The position is the kernel's own offset of the fd, so that it is shared by dup and fork as it should be. */
static ssize_t getdents_mapped(int fd, const struct prelux_route *r, void *buf, size_t size)
{
  struct stream *s = stream_of(r, "getdents64");
  if (!s) return -1;
  long pos = prelux_sys(SYS_lseek, fd, 0L, SEEK_CUR);
  s->pos = pos < 0 ? 0 : (uint64_t)pos;
  ssize_t n = fill(s, fd, buf, size);
  if (n > 0) {
    long rc = prelux_sys(SYS_lseek, fd, (long)s->pos, SEEK_SET);
    if (rc < 0) n = rc;
  }
  stream_free(s);
  return prelux_ret(n);
}

static ssize_t getdents_above(int fd, const char *logical, void *buf, size_t size)
{
  if (fd >= FDS) return prelux_real.getdents64(fd, buf, size);
  if (prelux_sys(SYS_lseek, fd, 0L, SEEK_CUR) == 0) __atomic_store_n(&handed_out[fd], 0, __ATOMIC_RELAXED);
  ssize_t n = prelux_real.getdents64(fd, buf, size);
  if (n != 0) return n;
  struct stream *s = stream_new(logical, NULL, false);
  if (!s) return 0;
  s->pos = __atomic_load_n(&handed_out[fd], __ATOMIC_RELAXED);
  n = fill(s, fd, buf, size);
  __atomic_store_n(&handed_out[fd], (uint16_t)s->pos, __ATOMIC_RELAXED);
  stream_free(s);
  return prelux_ret(n);
}

PRELUX_EXPORT ssize_t getdents64(int fd, void *buf, size_t size)
{
  struct prelux_route r;
  char path[PATH_MAX];
  bool ours;
  if (prelux_idle()) return prelux_real.getdents64(fd, buf, size);
  int where = prelux_route_fd(fd, &r);
  if (where < 0) return prelux_ret(where);
  if (where == PRELUX_MAPPED) return getdents_mapped(fd, &r, buf, size);
  if (where == PRELUX_ANCESTOR) return getdents_above(fd, r.logical, buf, size);
  return prelux_dir_path(fd, path, sizeof(path), &ours) > 0 ? getdents_above(fd, path, buf, size)
                                                            : prelux_real.getdents64(fd, buf, size);
}
