#include "daemon/tables.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clock.h"
#include "lib/map/match.h"

struct prelux_tables {
  pthread_mutex_t lock;
  struct prelux_live_table *first; /* newest first */
  unsigned count;
  uint64_t orders;
};

void prelux_hex(const unsigned char bytes[16], char out[33])
{
  static const char digits[] = "0123456789abcdef";
  for (int i = 0; i < 16; i++)
  {
    out[2 * i] = digits[bytes[i] >> 4];
    out[2 * i + 1] = digits[bytes[i] & 15];
  }
  out[32] = 0;
}

static int nibble(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int prelux_unhex(const char *hex, unsigned char out[16])
{
  if (strlen(hex) != 32)
    return -EINVAL;
  for (int i = 0; i < 16; i++)
  {
    int hi = nibble(hex[2 * i]), lo = nibble(hex[2 * i + 1]);
    if (hi < 0 || lo < 0)
      return -EINVAL;
    out[i] = (unsigned char)(hi << 4 | lo);
  }
  return 0;
}

void prelux_live_table_drop(struct prelux_live_table *t)
{
  if (!t || atomic_fetch_sub(&t->refs, 1) > 1)
    return;
  for (uint32_t i = 0; t->mappings && i < t->n_mappings; i++)
  {
    struct prelux_live_mapping *m = &t->mappings[i];
    prelux_instance_drop(m->instance);
    free(m->backend);
    free(m->type);
    prelux_who_release(&m->readers);
    prelux_who_release(&m->writers);
    free(m->root);
    free(m->cache);
    free(m->cause);
    free(m->advice);
  }
  free(t->mappings);
  prelux_snapshot_release(&t->snapshot);
  free(t->table);
  free(t->path);
  free(t->metrics);
  free(t);
}

int prelux_tables_create(struct prelux_tables **ret)
{
  struct prelux_tables *all = calloc(1, sizeof *all);
  if (!all)
    return -ENOMEM;
  pthread_mutex_init(&all->lock, NULL);
  *ret = all;
  return 0;
}

void prelux_tables_free(struct prelux_tables *all)
{
  if (!all)
    return;
  while (all->first)
  {
    struct prelux_live_table *t = all->first;
    all->first = t->next;
    prelux_live_table_drop(t);
  }
  pthread_mutex_destroy(&all->lock);
  free(all);
}

static struct prelux_live_table *hold(struct prelux_live_table *t)
{
  if (t)
  {
    atomic_fetch_add(&t->refs, 1);
    t->last_use_ms = prelux_clock_ms();
  }
  return t;
}

struct prelux_live_table *prelux_tables_get(struct prelux_tables *all, const unsigned char hash[16])
{
  pthread_mutex_lock(&all->lock);
  struct prelux_live_table *t = all->first;
  while (t && memcmp(t->table->hash, hash, 16) != 0)
    t = t->next;
  if (t)
    atomic_fetch_add_explicit(&t->uses, 1, memory_order_relaxed);
  hold(t);
  pthread_mutex_unlock(&all->lock);
  return t;
}

/* Takes it out of the list; the registry's reference goes to the caller. */
static struct prelux_live_table *take_out(struct prelux_tables *all, struct prelux_live_table *t)
{
  for (struct prelux_live_table **at = &all->first; *at; at = &(*at)->next)
    if (*at == t)
    {
      *at = t->next;
      all->count--;
      break;
    }
  return t;
}

/* A bucket or container has no folder of a name before something is in it; a program that writes there expects one at the prefix. */
static void imply_roots(struct prelux_live_table *t)
{
  for (uint32_t i = 0; i < t->n_mappings; i++)
  {
    struct prelux_live_mapping *m = &t->mappings[i];
    if (m->broken || m->rules.off)
      continue;
    unsigned caps = m->view.backend->ops->caps;
    if ((caps & PRELUX_CAP_WRITE) && !(caps & PRELUX_CAP_MKDIR))
      m->view.root = prelux_table_str(t->table, prelux_table_mappings(t->table)[i].object);
  }
}

void prelux_tables_add(struct prelux_tables *all, struct prelux_live_table *t)
{
  imply_roots(t);
  struct prelux_live_table *same = NULL, *oldest = NULL;
  pthread_mutex_lock(&all->lock);
  for (struct prelux_live_table *o = all->first; o; o = o->next)
  {
    if (memcmp(o->table->hash, t->table->hash, 16) == 0)
      same = o;
    if (!oldest || o->last_use_ms < oldest->last_use_ms)
      oldest = o;
  }
  if (same)
    take_out(all, same);
  else if (all->count >= PRELUX_TABLES_MAX)
    same = take_out(all, oldest);
  t->order = ++all->orders;
  t->next = all->first;
  all->first = hold(t);
  all->count++;
  pthread_mutex_unlock(&all->lock);
  prelux_live_table_drop(same);
}

struct prelux_live_table *prelux_tables_find(struct prelux_tables *all,
                                             bool (*match)(const struct prelux_live_table *t, void *arg), void *arg)
{
  pthread_mutex_lock(&all->lock);
  struct prelux_live_table *t = all->first;
  while (t && !match(t, arg))
    t = t->next;
  hold(t);
  pthread_mutex_unlock(&all->lock);
  return t;
}

void prelux_tables_each(struct prelux_tables *all, void (*fn)(struct prelux_live_table *t, void *arg), void *arg)
{
  pthread_mutex_lock(&all->lock);
  for (struct prelux_live_table *t = all->first; t; t = t->next)
    fn(t, arg);
  pthread_mutex_unlock(&all->lock);
}

unsigned prelux_tables_count(struct prelux_tables *all)
{
  pthread_mutex_lock(&all->lock);
  unsigned n = all->count;
  pthread_mutex_unlock(&all->lock);
  return n;
}
