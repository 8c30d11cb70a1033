#include "shim/stream.h"

#include "lib/base/path.h"
#include "lib/index/listing.h"
#include "shim/ask.h"
#include "shim/pages.h"
#include "shim/stats.h"

void prelux_stream_free(struct prelux_stream *s)
{
  if (!s) return;
  prelux_listing_free(s->list);
  prelux_pages_free(s);
}

/* ---- names that only prelux knows */

static bool in_listing(const struct prelux_listing *l, const char *name, size_t len)
{
  uint32_t low = 0, high = l ? l->count : 0;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    const struct prelux_listing_entry *e = &l->entries[mid];
    size_t n = e->name_len < len ? e->name_len : len;
    const char *theirs = prelux_listing_name(l, e);
    if (!theirs) return false; /* damaged */
    int c = memcmp(theirs, name, n);
    if (c == 0) c = e->name_len < len ? -1 : e->name_len > len;
    if (c == 0) return true;
    if (c < 0) low = mid + 1;
    else high = mid;
  }
  return false;
}

struct gather {
  const struct prelux_listing *list;
  struct prelux_extra *to; /* NULL: count only */
  uint32_t n;
};

static void gather_one(const char *name, size_t len, bool is_root, int mapping, void *arg)
{
  struct gather *g = arg;
  if (in_listing(g->list, name, len)) return;
  if (g->to) g->to[g->n] = (struct prelux_extra){name, len, is_root ? mapping : -1};
  g->n++;
}

/* A stream for the folder `logical`; list is taken over (NULL: none). */
struct prelux_stream *prelux_stream_new(const char *logical, const struct prelux_listing *list, bool listed)
{
  size_t n = strlen(logical);
  struct gather g = {.list = list};
  if (prelux_state.table) prelux_table_children(prelux_state.table, logical, gather_one, &g);
  size_t at = (sizeof(struct prelux_stream) + n + 1 + 15) & ~(size_t)15;
  struct prelux_stream *s = prelux_pages_take(at + g.n * sizeof(struct prelux_extra));
  if (!s) return NULL;
  memset(s, 0, sizeof(*s));
  s->list = list;
  s->listed = listed;
  s->dir_ino = list ? list->dir_ino : 0;
  s->extras = g.to = (struct prelux_extra *)((char *)s + at);
  g.n = 0;
  if (prelux_state.table) prelux_table_children(prelux_state.table, logical, gather_one, &g);
  s->n_extras = g.n;
  memcpy(s->path, logical, n + 1);
  return s;
}

/* Logical path of an extra. */
static bool extra_path(const char *folder, const struct prelux_extra *e, char out[PATH_MAX])
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
static uint64_t extra_ino(const char *folder, const struct prelux_extra *e, unsigned char *ret_type)
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

static struct dirent *emit(struct prelux_stream *s, const char *name, size_t len, uint64_t ino, unsigned char type)
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

static uint64_t parent_ino(const struct prelux_stream *s)
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
struct dirent *prelux_stream_next(struct prelux_stream *s)
{
  uint64_t i = s->pos, count = s->list ? s->list->count : 0;
  unsigned char type;
  if (i >= 2 + count + s->n_extras) return NULL;
  s->pos++;
  if (i == 0) return emit(s, ".", 1, s->dir_ino ? s->dir_ino : 1, DT_DIR);
  if (i == 1) return emit(s, "..", 2, parent_ino(s), DT_DIR);
  if (i - 2 < count) {
    const struct prelux_listing_entry *e = &s->list->entries[i - 2];
    const char *name = prelux_listing_name(s->list, e);
    return !name ? NULL : emit(s, name, e->name_len, e->ino,
                e->type == PRELUX_DIR ? DT_DIR : e->type == PRELUX_LINK ? DT_LNK : DT_REG);
  }
  const struct prelux_extra *x = &s->extras[i - 2 - count];
  uint64_t ino = extra_ino(s->path, x, &type);
  return emit(s, x->name, x->len, ino, type);
}

/* Next name of an ABOVE folder that is not on disk. */
struct dirent *prelux_stream_extra(struct prelux_stream *s, int dirfd)
{
  while (s->pos < s->n_extras) {
    const struct prelux_extra *x = &s->extras[s->pos++];
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

/* The listing of a mapped folder in a stream, or NULL and errno. */
struct prelux_stream *prelux_stream_of(const struct prelux_route *r, const char *call)
{
  const struct prelux_listing *list;
  struct prelux_attr attr;
  int rc = prelux_ask_list(r, call, &list, &attr);
  if (rc < 0) return prelux_null(rc);
  struct prelux_stream *s = prelux_stream_new(r->logical, list, true);
  if (!s) {
    prelux_listing_free(list);
    return prelux_null(-ENOMEM);
  }
  return s;
}
