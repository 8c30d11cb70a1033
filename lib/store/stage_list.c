/* Listings with the files that are being written: those of the remote, sorted, and ours, sorted, merged; ours win. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/stage.h"

struct ours {
  char *name; /* of one file in the folder */
  size_t len;
  struct prelux_known known;
};

struct mix {
  struct ours *list;
  size_t n, cap;
  size_t names; /* bytes, with their NUL */
};

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
  int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
  const struct ours *x = a, *y = b;
  return compare(x->name, x->len, y->name, y->len);
}

static int keep(struct mix *m, const char *name)
{
  if (m->n == m->cap)
  {
    size_t cap = m->cap ? m->cap * 2 : 16;
    struct ours *more = realloc(m->list, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    m->list = more;
    m->cap = cap;
  }
  char *copy = strdup(name);
  if (!copy)
    return -ENOMEM;
  m->list[m->n++] = (struct ours){.name = copy, .len = strlen(copy)};
  return 0;
}

/* The names of dirty files whose folder this is. */
static int collect(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct mix *m)
{
  size_t len = strlen(folder);
  int rc = 0;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots && rc == 0; i++)
    for (const struct prelux_dirty *d = g->by_path[i]; d && rc == 0; d = d->by_path)
    {
      const char *path = d->row.path;
      if (d->tree == t && prelux_object_parent(path, strlen(path)) == len && memcmp(path, folder, len) == 0 && (len == 0 || path[len] == '/'))
        rc = keep(m, path + len + (len > 0));
    }
  pthread_mutex_unlock(&g->lock);
  return rc;
}

/* Attributes as they are now; a file that was sent meanwhile is the remote's again. */
static void look(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct mix *m)
{
  char path[PRELUX_OBJECT_MAX + PRELUX_NAME_MAX + 2];
  size_t len = strlen(folder), n = 0;
  memcpy(path, folder, len);
  if (len)
    path[len++] = '/';
  for (size_t i = 0; i < m->n; i++)
  {
    struct ours *o = &m->list[i];
    memcpy(path + len, o->name, o->len + 1);
    if (prelux_stage_known(g, t, path, &o->known))
    {
      m->names += o->len + 1;
      m->list[n++] = *o;
    }
    else
      free(o->name);
  }
  m->n = n;
}

static void add(struct prelux_listing *l, size_t *at, const struct prelux_listing_entry *e, const char *name)
{
  struct prelux_listing_entry *to = &l->entries[l->count++];
  *to = *e;
  to->name_off = (uint32_t)*at;
  memcpy((char *)l + *at, name, e->name_len + 1u);
  *at += e->name_len + 1u;
}

static void add_ours(struct prelux_listing *l, size_t *at, const struct ours *o)
{
  struct prelux_listing_entry e = {.size = o->known.obj.size, .mtime_ns = o->known.obj.mtime_ns, .ino = o->known.ino,
                                   .mode = o->known.obj.mode, .name_len = (uint16_t)o->len, .type = PRELUX_FILE};
  add(l, at, &e, o->name);
}

static struct prelux_listing *merge(const struct prelux_listing *theirs, const struct mix *m)
{
  size_t room = theirs->count + m->n, at = sizeof *theirs + room * sizeof *theirs->entries, i = 0, k = 0;
  struct prelux_listing *l = malloc(at + (theirs->bytes - sizeof *theirs - theirs->count * sizeof *theirs->entries) + m->names);
  if (!l)
    return NULL;
  *l = *theirs;
  l->count = 0;
  while (i < theirs->count || k < m->n)
  {
    const struct prelux_listing_entry *e = i < theirs->count ? &theirs->entries[i] : NULL;
    const struct ours *o = k < m->n ? &m->list[k] : NULL;
    const char *name = e ? (const char *)theirs + e->name_off : NULL;
    int c = !e ? 1 : !o ? -1 : compare(name, e->name_len, o->name, o->len);
    if (c < 0)
      add(l, &at, e, name);
    else
      add_ours(l, &at, o);
    i += c <= 0;
    k += c >= 0;
  }
  l->bytes = at; /* entries that were not needed stay as a gap before the names */
  memset(&l->entries[l->count], 0, (room - l->count) * sizeof *l->entries);
  return l;
}

int prelux_stage_list(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, const struct prelux_listing *l,
                      struct prelux_listing **ret)
{
  struct mix m = {0};
  *ret = NULL;
  if (g->count == 0)
    return 0;
  int rc = collect(g, t, folder, &m);
  if (rc == 0)
    look(g, t, folder, &m);
  if (rc == 0 && m.n)
  {
    qsort(m.list, m.n, sizeof *m.list, by_name);
    *ret = merge(l, &m);
    rc = *ret ? 0 : -ENOMEM;
  }
  for (size_t i = 0; i < m.n; i++)
    free(m.list[i].name);
  free(m.list);
  return rc;
}
