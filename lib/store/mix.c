#include "lib/store/mix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
  int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
  const struct prelux_mix_name *x = a, *y = b;
  int c = compare(x->name, x->len, y->name, y->len);
  return c ? c : (int)y->known.live - (int)x->known.live; /* a file being written first: of equal names the first counts */
}

int prelux_mix_add(struct prelux_mix *m, const char *name, const struct prelux_known *k)
{
  if (m->n == m->cap)
  {
    size_t cap = m->cap ? m->cap * 2 : 16;
    struct prelux_mix_name *more = realloc(m->list, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    m->list = more;
    m->cap = cap;
  }
  char *copy = strdup(name);
  if (!copy)
    return -ENOMEM;
  struct prelux_mix_name *to = &m->list[m->n++];
  memset(to, 0, sizeof *to);
  to->name = copy;
  to->len = strlen(copy);
  if (k)
    to->known = *k;
  return 0;
}

void prelux_mix_release(struct prelux_mix *m)
{
  for (size_t i = 0; i < m->n; i++)
    free(m->list[i].name);
  free(m->list);
  *m = (struct prelux_mix){0};
}

static void add(struct prelux_listing *l, size_t *at, const struct prelux_listing_entry *e, const char *name)
{
  struct prelux_listing_entry *to = &l->entries[l->count++];
  *to = *e;
  to->name_off = (uint32_t)*at;
  memcpy((char *)l + *at, name, e->name_len + 1u);
  *at += e->name_len + 1u;
}

static void add_ours(struct prelux_listing *l, size_t *at, const struct prelux_mix_name *o)
{
  struct prelux_listing_entry e = {.size = o->known.obj.size, .mtime_ns = o->known.obj.mtime_ns, .ino = o->known.ino,
                                   .mode = o->known.obj.mode, .name_len = (uint16_t)o->len, .type = o->known.obj.type};
  add(l, at, &e, o->name);
}

int prelux_mix_merge(struct prelux_mix *m, const struct prelux_listing *theirs, struct prelux_listing **ret)
{
  size_t room = theirs->count + m->n, at = sizeof *theirs + room * sizeof *theirs->entries, names = 0, i = 0, k = 0;
  *ret = NULL;
  if (m->n == 0)
    return 0;
  qsort(m->list, m->n, sizeof *m->list, by_name);
  for (size_t j = 0; j < m->n; j++)
    names += m->list[j].len + 1;
  struct prelux_listing *l = malloc(at + (theirs->bytes - sizeof *theirs - theirs->count * sizeof *theirs->entries) + names);
  if (!l)
    return -ENOMEM;
  *l = *theirs;
  l->count = 0;
  while (i < theirs->count || k < m->n)
  {
    const struct prelux_listing_entry *e = i < theirs->count ? &theirs->entries[i] : NULL;
    const struct prelux_mix_name *o = k < m->n ? &m->list[k] : NULL;
    const char *name = e ? (const char *)theirs + e->name_off : NULL;
    int c = !e ? 1 : !o ? -1 : compare(name, e->name_len, o->name, o->len);
    if (c < 0)
      add(l, &at, e, name);
    else if (!o->gone)
      add_ours(l, &at, o);
    i += c <= 0;
    k += c >= 0;
    while (c >= 0 && k < m->n && compare(o->name, o->len, m->list[k].name, m->list[k].len) == 0)
      k++;
  }
  l->bytes = at; /* entries that were not needed stay as a gap before the names */
  memset(&l->entries[l->count], 0, (room - l->count) * sizeof *l->entries);
  *ret = l;
  return 0;
}
