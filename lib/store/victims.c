/* Which cached file goes first: a segmented LRU that notices when LRU fails.
 *
 * Rows are of two segments: files that were used `again` since they were fetched, and those that were not, of which the oldest goes
 * first: so a file that is read once and never again pushes nothing out that is in use. The oldest of the first segment goes before it
 * when it was left alone four times as long: what nobody wants any more does not stay for ever.
 *
 * Somebody who reads more than the cache holds, from one end to the other, again and again (a training job, epoch after epoch) finds
 * nothing by this order: each file goes just before it is wanted. It shows by fetching files that were evicted a short time ago, of
 * which hashes are kept ("ghosts"). While half of what is fetched is such, files that were not used again go newest first, but for
 * those of the last sixteenth of the cache: what is there stays, and is there in the next round. So a fraction of size / (bytes of a
 * round) is found, which is as much as can be. Files that are fetched for the first time end it. */
#include "lib/store/victims.h"

#include <stdlib.h>
#include <string.h>

#include "lib/store/catalogue.h"

#define ONE 65536 /* the regret of somebody who fetches ghosts only */
#define WEIGHT 16 /* of what was before, against the last file */
#define MS 1000000
#define STEPS 64u /* marks are set each such part of the cache */

static uint64_t hash_of(const struct prelux_tree *t, const char *object)
{
  uint64_t h = prelux_store_hash(object, strlen(object), t->store->seed + (uint64_t)t->id + 1);
  return h ? h : 1;
}

static void mark(struct prelux_store *s, uint64_t bytes)
{
  struct prelux_ghosts *g = &s->ghosts;
  uint64_t step = s->max_bytes / STEPS + 1, steps = (g->rest + bytes) / step;
  g->rest = (g->rest + bytes) % step;
  int64_t now = steps ? prelux_store_wall() : 0;
  for (uint64_t i = 0; i < steps && i < PRELUX_MARKS; i++)
    g->marks[g->n_marks++ % PRELUX_MARKS] = now;
}

void prelux_victims_filled(const struct prelux_tree *t, const char *object, uint64_t bytes)
{
  struct prelux_store *s = t->store;
  struct prelux_ghosts *g = &s->ghosts;
  uint64_t h = hash_of(t, object);
  pthread_mutex_lock(&s->lock);
  struct prelux_ghost *slot = g->slots ? &g->slots[h % PRELUX_GHOSTS] : NULL;
  bool known = slot && slot->tag == (uint32_t)(h >> 32);
  if (known)
  {
    slot->tag = 0;
    int64_t after = (int64_t)((uint32_t)(prelux_store_wall() / MS) - slot->used_ms) * MS;
    g->round_ns += (after - g->round_ns) / 8;
  }
  g->regret += ((known ? ONE : 0) - g->regret) / WEIGHT;
  g->keeps = g->regret > (g->keeps ? ONE / 4 : ONE / 2);
  mark(s, bytes);
  pthread_mutex_unlock(&s->lock);
}

void prelux_victims_evicted(const struct prelux_tree *t, const char *object, int64_t used_ns)
{
  struct prelux_store *s = t->store;
  uint64_t h = hash_of(t, object);
  pthread_mutex_lock(&s->lock);
  if (!s->ghosts.slots)
    s->ghosts.slots = calloc(PRELUX_GHOSTS, sizeof *s->ghosts.slots); /* without memory it stays with LRU */
  if (s->ghosts.slots)
    s->ghosts.slots[h % PRELUX_GHOSTS] = (struct prelux_ghost){.tag = (uint32_t)(h >> 32), .used_ms = (uint32_t)(used_ns / MS)};
  pthread_mutex_unlock(&s->lock);
}

void prelux_order_begin(struct prelux_store *s, struct prelux_order *o)
{
  const struct prelux_ghosts *g = &s->ghosts;
  *o = (struct prelux_order){.once_after = INT64_MIN, .again_after = INT64_MIN};
  pthread_mutex_lock(&s->lock);
  o->keeps = g->keeps && g->n_marks >= PRELUX_MARKS;
  o->round_ns = g->round_ns;
  o->before = g->marks[g->n_marks % PRELUX_MARKS]; /* the oldest of them */
  int64_t young = prelux_store_wall() - g->young_ns;
  pthread_mutex_unlock(&s->lock);
  if (o->before > young) /* who has just asked for a file must find it */
    o->before = young;
}

static int keep(struct prelux_store *s, struct prelux_order *o, struct prelux_victim *ret, int n)
{
  int count = prelux_catalogue_victims(s->cat, ONCE_NEWEST, o->before, ret, n);
  if (count > 0)
    o->before = ret[count - 1].used_ns;
  return count;
}

/* used_ns of the next row of a segment; INT64_MAX: it has none. */
static int64_t next_of(struct prelux_store *s, enum stmt segment, int64_t after)
{
  struct prelux_victim row;
  if (prelux_catalogue_victims(s->cat, segment, after, &row, 1) <= 0)
    return INT64_MAX;
  free(row.path);
  return row.used_ns;
}

int prelux_order_next(struct prelux_store *s, struct prelux_order *o, struct prelux_victim *ret, int n)
{
  int64_t once = next_of(s, ONCE_OLDEST, o->once_after), again = next_of(s, AGAIN_OLDEST, o->again_after), now = prelux_store_wall();
  bool let_go = once == 0; /* by the command: those are first in any order */
  bool alone = again != INT64_MAX && !let_go && (o->keeps ? now - again > 2 * o->round_ns : once == INT64_MAX || (now - again) / 4 > now - once);
  if (o->keeps && !let_go && !alone)
  {
    int count = keep(s, o, ret, n);
    if (count != 0)
      return count;
    o->keeps = false;
    alone = once == INT64_MAX;
  }
  /* Of those that were left alone one at a time: the next may not have been. */
  int count = alone ? prelux_catalogue_victims(s->cat, AGAIN_OLDEST, o->again_after, ret, 1)
                    : prelux_catalogue_victims(s->cat, ONCE_OLDEST, o->once_after, ret, n);
  if (count > 0)
    *(alone ? &o->again_after : &o->once_after) = ret[count - 1].used_ns;
  return count;
}
