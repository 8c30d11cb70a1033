/* Each path that a change names is a node, and so is each folder above it. A node knows the changes that name it (`own`) and those that
 * name something below it (`below`). A new change waits for: own and below of its paths, own of the folders above them; later ones among
 * these (by id), when it was late itself, wait for it. Each such pair
 * is an edge, kept at the one that is waited for; a change without edges towards it stands in the queue. */
#include "lib/store/order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLOTS_FIRST 256

struct change;

struct list /* of changes */
{
  struct change **items;
  size_t n, cap;
};

struct entry /* one change in one node */
{
  struct entry *next, **at; /* of the node's list */
  struct entry *more;       /* of the change */
  struct change *change;
  struct node *node;
};

struct node
{
  struct node *chain;
  uint64_t hash;
  struct entry *own, *below;
  size_t len;
  char path[];
};

enum place
{
  BLOCKED,
  QUEUED,
  TAKEN
};

struct change
{
  struct change *chain;      /* of the table by id */
  struct change *next, *prev; /* of the queue */
  int64_t id;
  enum place place;
  size_t blockers;
  struct list waiting; /* for this one */
  struct entry *entries;
};

struct prelux_order
{
  struct node **nodes;
  size_t node_slots, n_nodes;
  struct change **changes;
  size_t change_slots, n_changes, n_blocked;
  struct change *first, *last;
  uint64_t seed; /* paths are chosen by others */
};

/* Lists. */

static int list_add(struct list *l, struct change *c)
{
  if (l->n == l->cap)
  {
    size_t cap = l->cap ? l->cap * 2 : 4;
    struct change **more = realloc(l->items, cap * sizeof *more);
    if (!more)
      return -ENOMEM;
    l->items = more;
    l->cap = cap;
  }
  l->items[l->n++] = c;
  return 0;
}

/* The queue. */

static void queue_push(struct prelux_order *o, struct change *c)
{
  c->place = QUEUED;
  c->next = NULL;
  c->prev = o->last;
  *(o->last ? &o->last->next : &o->first) = c;
  o->last = c;
}

static void queue_drop(struct prelux_order *o, struct change *c)
{
  *(c->prev ? &c->prev->next : &o->first) = c->next;
  *(c->next ? &c->next->prev : &o->last) = c->prev;
  c->next = c->prev = NULL;
}

/* Tables. */

static uint64_t hash_of(const struct prelux_order *o, const char *path, size_t len)
{
  return XXH3_64bits_withSeed(path, len, o->seed);
}

static struct node **node_place(struct prelux_order *o, const char *path, size_t len, uint64_t hash)
{
  struct node **at = &o->nodes[hash & (o->node_slots - 1)];
  while (*at && ((*at)->hash != hash || (*at)->len != len || memcmp((*at)->path, path, len) != 0))
    at = &(*at)->chain;
  return at;
}

static void nodes_grow(struct prelux_order *o)
{
  size_t slots = o->node_slots * 2;
  struct node **more = calloc(slots, sizeof *more);
  if (!more)
    return; /* longer chains, no harm */
  for (size_t i = 0; i < o->node_slots; i++)
    for (struct node *n = o->nodes[i], *next; n; n = next)
    {
      next = n->chain;
      n->chain = more[n->hash & (slots - 1)];
      more[n->hash & (slots - 1)] = n;
    }
  free(o->nodes);
  o->nodes = more;
  o->node_slots = slots;
}

static struct node *node_make(struct prelux_order *o, const char *path, size_t len)
{
  uint64_t hash = hash_of(o, path, len);
  struct node **at = node_place(o, path, len, hash), *n = *at;
  if (n)
    return n;
  n = calloc(1, sizeof *n + len + 1);
  if (!n)
    return NULL;
  n->hash = hash;
  n->len = len;
  memcpy(n->path, path, len);
  *at = n;
  if (++o->n_nodes > o->node_slots)
    nodes_grow(o);
  return n;
}

static void node_release(struct prelux_order *o, struct node *n)
{
  if (n->own || n->below)
    return;
  *node_place(o, n->path, n->len, n->hash) = n->chain;
  o->n_nodes--;
  free(n);
}

static struct change **change_place(struct prelux_order *o, int64_t id)
{
  struct change **at = &o->changes[(uint64_t)id & (o->change_slots - 1)];
  while (*at && (*at)->id != id)
    at = &(*at)->chain;
  return at;
}

static void changes_grow(struct prelux_order *o)
{
  size_t slots = o->change_slots * 2;
  struct change **more = calloc(slots, sizeof *more);
  if (!more)
    return;
  for (size_t i = 0; i < o->change_slots; i++)
    for (struct change *c = o->changes[i], *next; c; c = next)
    {
      next = c->chain;
      c->chain = more[(uint64_t)c->id & (slots - 1)];
      more[(uint64_t)c->id & (slots - 1)] = c;
    }
  free(o->changes);
  o->changes = more;
  o->change_slots = slots;
}

/* Length of the folder above path[0..len); SIZE_MAX: there is none above "". */
static size_t above(const char *path, size_t len)
{
  if (len == 0)
    return SIZE_MAX;
  while (len > 0 && path[len - 1] != '/')
    len--;
  return len > 0 ? len - 1 : 0;
}

/* Shall `other`, which is there already, wait for c? Not when it is being done; nor when an older one waits for that: it would be a circle. */
static bool gives_way(const struct change *other, const struct change *c)
{
  bool yes = other->id > c->id && other->place != TAKEN;
  for (size_t i = 0; yes && i < other->waiting.n; i++)
    yes = other->waiting.items[i]->id > other->id;
  return yes;
}

/* c and all of a node's list: who is first. One that is there twice costs two edges, which are taken back together. */
static int wait_for(struct prelux_order *o, struct change *c, const struct entry *list)
{
  for (const struct entry *e = list; e; e = e->next)
  {
    struct change *other = e->change;
    if (other == c)
      continue;
    bool later = gives_way(other, c);
    if (list_add(later ? &c->waiting : &other->waiting, later ? other : c) < 0)
      return -ENOMEM;
    (later ? other : c)->blockers++;
    if (later && other->place == QUEUED)
    {
      queue_drop(o, other);
      other->place = BLOCKED;
      o->n_blocked++;
    }
  }
  return 0;
}

/* Whoever waits for c does so no more. */
static void let_go(struct prelux_order *o, struct change *c)
{
  for (size_t i = 0; i < c->waiting.n; i++)
  {
    struct change *other = c->waiting.items[i];
    if (--other->blockers == 0)
    {
      o->n_blocked--;
      queue_push(o, other);
    }
  }
  c->waiting.n = 0;
}

static int stand_in(struct change *c, struct node *n, struct entry **list)
{
  struct entry *e = calloc(1, sizeof *e);
  if (!e)
    return -ENOMEM;
  *e = (struct entry){.next = *list, .at = list, .more = c->entries, .change = c, .node = n};
  if (e->next)
    e->next->at = &e->next;
  *list = c->entries = e;
  return 0;
}

static int enter(struct prelux_order *o, struct change *c, const char *path)
{
  size_t len = strlen(path);
  struct node *n = node_make(o, path, len);
  int err = !n ? -ENOMEM : stand_in(c, n, &n->own);
  if (err == 0 && (wait_for(o, c, n->own) < 0 || wait_for(o, c, n->below) < 0))
    err = -ENOMEM;
  while (err == 0 && (len = above(path, len)) != SIZE_MAX)
  {
    n = node_make(o, path, len);
    err = !n ? -ENOMEM : stand_in(c, n, &n->below);
    if (err == 0)
      err = wait_for(o, c, n->own);
  }
  if (err < 0 && n)
    node_release(o, n); /* made just now, and empty */
  return err;
}

static void leave(struct prelux_order *o, struct change *c)
{
  for (struct entry *e = c->entries, *more; e; e = more)
  {
    more = e->more;
    *e->at = e->next;
    if (e->next)
      e->next->at = e->at;
    node_release(o, e->node);
    free(e);
  }
  c->entries = NULL;
}

static void change_free(struct change *c)
{
  for (struct entry *e = c->entries, *more; e; e = more)
  {
    more = e->more;
    free(e);
  }
  free(c->waiting.items);
  free(c);
}

int prelux_order_create(struct prelux_order **ret)
{
  struct prelux_order *o = calloc(1, sizeof *o);
  if (!o)
    return -ENOMEM;
  o->node_slots = o->change_slots = SLOTS_FIRST;
  o->nodes = calloc(o->node_slots, sizeof *o->nodes);
  o->changes = calloc(o->change_slots, sizeof *o->changes);
  if (!o->nodes || !o->changes)
  {
    prelux_order_free(o);
    return -ENOMEM;
  }
  if (getrandom(&o->seed, sizeof o->seed, GRND_NONBLOCK) < 0)
    o->seed = (uintptr_t)o;
  *ret = o;
  return 0;
}

void prelux_order_free(struct prelux_order *o)
{
  if (!o)
    return;
  for (size_t i = 0; o->nodes && i < o->node_slots; i++)
    for (struct node *n = o->nodes[i], *next; n; n = next)
    {
      next = n->chain;
      free(n);
    }
  for (size_t i = 0; o->changes && i < o->change_slots; i++)
    for (struct change *c = o->changes[i], *next; c; c = next)
    {
      next = c->chain;
      change_free(c);
    }
  free(o->nodes);
  free(o->changes);
  free(o);
}

/* Takes back every edge towards c: it was never added. */
static void unwait(struct prelux_order *o, const struct change *c)
{
  for (size_t i = 0; i < o->change_slots; i++)
    for (struct change *other = o->changes[i]; other; other = other->chain)
      for (size_t k = other->waiting.n; k-- > 0;)
        if (other->waiting.items[k] == c)
          other->waiting.items[k] = other->waiting.items[--other->waiting.n];
}

int prelux_order_add(struct prelux_order *o, int64_t id, const char *path, const char *to)
{
  if (*change_place(o, id))
    return -EEXIST;
  struct change *c = calloc(1, sizeof *c);
  if (!c)
    return -ENOMEM;
  c->id = id;
  int err = enter(o, c, path);
  if (err == 0 && to)
    err = enter(o, c, to);
  if (err < 0)
  {
    let_go(o, c);
    unwait(o, c);
    leave(o, c);
    change_free(c);
    return err;
  }
  *change_place(o, id) = c;
  if (++o->n_changes > o->change_slots)
    changes_grow(o);
  if (c->blockers == 0)
    queue_push(o, c);
  else
    o->n_blocked++;
  return 0;
}

bool prelux_order_remove(struct prelux_order *o, int64_t id)
{
  struct change **at = change_place(o, id), *c = *at;
  if (!c)
    return false;
  *at = c->chain;
  o->n_changes--;
  if (c->place == QUEUED)
    queue_drop(o, c);
  else if (c->place == BLOCKED)
  {
    o->n_blocked--;
    unwait(o, c);
  }
  let_go(o, c);
  leave(o, c);
  change_free(c);
  return true;
}

int64_t prelux_order_take(struct prelux_order *o)
{
  struct change *c = o->first;
  if (!c)
    return 0;
  queue_drop(o, c);
  c->place = TAKEN;
  return c->id;
}

bool prelux_order_take_id(struct prelux_order *o, int64_t id)
{
  struct change *c = *change_place(o, id);
  if (!c || c->place != QUEUED)
    return false;
  queue_drop(o, c);
  c->place = TAKEN;
  return true;
}

bool prelux_order_waited(struct prelux_order *o, int64_t id)
{
  const struct change *c = *change_place(o, id);
  return c && c->waiting.n > 0;
}

void prelux_order_back(struct prelux_order *o, int64_t id)
{
  struct change *c = *change_place(o, id);
  if (c && c->place == TAKEN)
    queue_push(o, c);
}

size_t prelux_order_count(const struct prelux_order *o, size_t *ret_blocked)
{
  if (ret_blocked)
    *ret_blocked = o->n_blocked;
  return o->n_changes;
}
