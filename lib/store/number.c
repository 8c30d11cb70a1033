/* Identity: the st_ino of an object's present version.
 *
 * A number is a keyed hash of (tree, path), mixed with a generation once the object was seen replaced. What counts as
 * replaced is decided where something is learned (a stat's answer, a listing), by comparing stamps: hashes of what tells
 * versions apart. In doubt nothing was replaced: a server that shows no version must not make `cp` believe that each look is at
 * another file. So the number does not depend on whether a version is known yet: a listing without versions shows the number
 * that stat will show.
 *
 * The table below, kept in memory and in the catalogue, has the objects that were cached once (their stamp: so that a change
 * made while the daemon was down or the file evicted is seen), that went away while known, and those with a generation.
 * Others are compared with what memory holds of them. A generation is the instant of the change: never given twice, even
 * when old rows were dropped at PRELUX_NUMBERS_MAX.
 *
 * Who learns holds the tree's learn lock from looking at what was known until the new is remembered: two that see the
 * same change give it one number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/store/attrs.h"

#define FIRST_SLOTS 64u

/* Low bits of a stamp: what it was made of; of a version also which sort of version ("e:..." an ETag, "m:..." a time). Stamps of
 * different kinds say nothing about each other, but for folders. */
enum { BY_SIZE = 1, BY_TIME, BY_MD5, BY_VERSION, FOLDER, SORT = 3, KIND = 0x7ff };

static uint64_t stamp(const void *data, size_t len, uint64_t seed, unsigned kind)
{
  return (prelux_store_hash(data, len, seed) & ~(uint64_t)KIND) | kind;
}

/* 0: nothing is known. */
uint64_t prelux_number_stamp(const struct prelux_tree *t, const struct prelux_object *o)
{
  uint64_t words[2] = {o->size, (uint64_t)o->mtime_ns}, seed = t->key + o->size;
  size_t len = strcspn(o->version, "~"); /* behind that it is a random number: made to be equal to none */
  unsigned sort = len > 1 && o->version[1] == ':' ? (unsigned char)o->version[0] : 0;
  if (o->type == PRELUX_DIR)
    return FOLDER;
  if (o->type != PRELUX_FILE || o->size == UINT64_MAX)
    return 0;
  if (len && sort != 'n')
    return stamp(o->version, len, seed, BY_VERSION | sort << SORT);
  if (o->md5[0])
    return stamp(o->md5, strlen(o->md5), seed, BY_MD5);
  if (o->mtime_ns && !o->mtime_rough)
    return stamp(words, sizeof words, seed, BY_TIME);
  return stamp(words, sizeof words[0], seed, BY_SIZE);
}

static bool replaced(uint64_t was, uint64_t now)
{
  bool comparable = (was & KIND) == (now & KIND) || (was & KIND) == FOLDER || (now & KIND) == FOLDER;
  return was && now && was != now && comparable;
}

uint64_t prelux_number_base(const struct prelux_tree *t, const char *object, size_t len)
{
  uint64_t base = prelux_store_hash(object, len, t->key) & INT64_MAX;
  return base ? base : 1;
}

static uint64_t shown(const struct prelux_tree *t, uint64_t base, const struct prelux_number *n)
{
  uint64_t words[2] = {base, n ? n->generation : 0};
  if (n && n->ino)
    return n->ino;
  if (words[1] == 0)
    return base;
  uint64_t ino = prelux_store_hash(words, sizeof words, t->key) & INT64_MAX;
  return ino ? ino : 1;
}

/* ---- the table: open addressing, base 0 is free, nothing is ever taken out ---- */

static struct prelux_number *slot_of(const struct prelux_numbers *m, uint64_t base)
{
  size_t i = base & (m->n_slots - 1);
  while (m->slots[i].base && m->slots[i].base != base)
    i = (i + 1) & (m->n_slots - 1);
  return &m->slots[i];
}

static const struct prelux_number *find(const struct prelux_tree *t, uint64_t base)
{
  const struct prelux_number *n = t->numbers.n_slots ? slot_of(&t->numbers, base) : NULL;
  return n && n->base ? n : NULL;
}

static int grow(struct prelux_numbers *m)
{
  struct prelux_numbers bigger = {.n_slots = m->n_slots ? m->n_slots * 2 : FIRST_SLOTS};
  bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
  if (!bigger.slots)
    return -ENOMEM;
  for (size_t i = 0; i < m->n_slots; i++)
    if (m->slots[i].base)
      *slot_of(&bigger, m->slots[i].base) = m->slots[i];
  free(m->slots);
  m->slots = bigger.slots;
  m->n_slots = bigger.n_slots;
  return 0;
}

static int put(void *arg, const struct prelux_number *n)
{
  struct prelux_numbers *m = arg;
  if (m->count * 4 >= m->n_slots * 3 && grow(m) < 0)
    return -ENOMEM;
  struct prelux_number *to = slot_of(m, n->base);
  m->count += to->base == 0;
  *to = *n;
  return 0;
}

/* In memory at once, in the catalogue by prelux_learn_save(). */
static void set(struct prelux_tree *t, const struct prelux_number *n)
{
  struct prelux_numbers *m = &t->numbers;
  if (m->n_unsaved == m->cap_unsaved)
  {
    size_t cap = m->cap_unsaved ? m->cap_unsaved * 2 : 16;
    struct prelux_number *grown = realloc(m->unsaved, cap * sizeof *grown);
    if (!grown)
      return;
    m->unsaved = grown;
    m->cap_unsaved = cap;
  }
  if (put(m, n) == 0)
    m->unsaved[m->n_unsaved++] = *n;
}

int prelux_numbers_load(struct prelux_tree *t)
{
  free(t->numbers.slots);
  t->numbers.slots = NULL;
  t->numbers.n_slots = t->numbers.count = 0;
  return prelux_catalogue_numbers(t->store->cat, t->id, put, &t->numbers);
}

void prelux_numbers_release(struct prelux_tree *t)
{
  free(t->numbers.slots);
  free(t->numbers.unsaved);
}

/* ---- learning ---- */

void prelux_learn_lock(struct prelux_tree *t)
{
  pthread_mutex_lock(&t->numbers.learn);
}

void prelux_learn_unlock(struct prelux_tree *t)
{
  pthread_mutex_unlock(&t->numbers.learn);
}

void prelux_learn_save(struct prelux_tree *t)
{
  struct prelux_numbers *m = &t->numbers;
  if (m->n_unsaved == 0)
    return;
  int rc = prelux_catalogue_set_numbers(t->store->cat, t->id, m->unsaved, m->n_unsaved);
  if (m->n_unsaved > FIRST_SLOTS)
  {
    free(m->unsaved);
    m->unsaved = NULL;
    m->cap_unsaved = 0;
  }
  m->n_unsaved = 0;
  if (rc == 0 && m->count > PRELUX_NUMBERS_MAX)
  {
    rc = prelux_catalogue_prune_numbers(t->store->cat, t->id, PRELUX_NUMBERS_MAX / 4 * 3);
    if (rc == 0)
      rc = prelux_numbers_load(t);
  }
  if (rc < 0)
    prelux_warn("cache catalogue of %s: %s: inode numbers may change with the next daemon", t->store->dir, strerror(-rc));
}

uint64_t prelux_learn_number(const struct prelux_tree *t, const char *object, size_t len)
{
  uint64_t base = prelux_number_base(t, object, len);
  return shown(t, base, find(t, base));
}

/* What memory knew before: 1 and *ret, its latest that was not "not there". */
static int known_before(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret)
{
  pthread_mutex_lock(&t->store->lock);
  int have = prelux_memory_get(t, object, len, ret);
  const struct prelux_entry *e = have && ret->obj.type == PRELUX_NONE ? prelux_entry_find(t, object, len) : NULL;
  if (e && e->type != PRELUX_NONE)
    prelux_entry_known(e, ret);
  pthread_mutex_unlock(&t->store->lock);
  return have && ret->obj.type != PRELUX_NONE;
}

static uint64_t next_generation(const struct prelux_number *n)
{
  uint64_t instant = (uint64_t)prelux_store_wall();
  return n && instant <= n->generation ? n->generation + 1 : instant;
}

uint64_t prelux_learn(struct prelux_tree *t, const char *object, size_t len, const struct prelux_known *now)
{
  struct prelux_known was;
  int have = known_before(t, object, len, &was);
  if (have && was.learned_ns > now->learned_ns)
    return was.ino;
  uint64_t base = prelux_number_base(t, object, len), before = have ? prelux_number_stamp(t, &was.obj) : 0, present = prelux_number_stamp(t, &now->obj);
  const struct prelux_number *n = find(t, base);
  struct prelux_number next = {.base = base, .generation = n ? n->generation : 0, .stamp = present};
  uint64_t last = n && (n->stamp & KIND) == (present & KIND) ? n->stamp : before ? before : n ? n->stamp : 0;
  if (replaced(last, present))
  {
    next.generation = next_generation(n);
    set(t, &next);
  }
  else if (now->obj.type == PRELUX_NONE && before && (!n || n->stamp != before))
  {
    next.stamp = before;
    next.ino = n ? n->ino : 0;
    set(t, &next);
  }
  return shown(t, base, find(t, base));
}

void prelux_number_note(struct prelux_tree *t, const char *object, const struct prelux_object *obj)
{
  size_t len = strlen(object);
  prelux_learn_lock(t);
  uint64_t base = prelux_number_base(t, object, len), present = prelux_number_stamp(t, obj);
  const struct prelux_number *n = find(t, base);
  if (present && (!n || (n->stamp != present && !replaced(n->stamp, present))))
  {
    set(t, &(struct prelux_number){.base = base, .generation = n ? n->generation : 0, .stamp = present, .ino = n ? n->ino : 0});
    prelux_learn_save(t);
  }
  prelux_learn_unlock(t);
}

bool prelux_number_first(struct prelux_tree *t, const char *object, const struct prelux_object *obj, struct prelux_number *ret)
{
  prelux_learn_lock(t);
  *ret = (struct prelux_number){.base = prelux_number_base(t, object, strlen(object)), .stamp = prelux_number_stamp(t, obj)};
  bool first = ret->stamp && !find(t, ret->base) && t->numbers.count < PRELUX_NUMBERS_MAX && put(&t->numbers, ret) == 0;
  prelux_learn_unlock(t);
  return first;
}

uint64_t prelux_number_of(struct prelux_tree *t, const char *object, const struct prelux_object *obj)
{
  uint64_t base = prelux_number_base(t, object, strlen(object));
  prelux_learn_lock(t);
  const struct prelux_number *n = find(t, base);
  uint64_t ino = n && replaced(n->stamp, prelux_number_stamp(t, obj)) ? 0 : shown(t, base, n);
  prelux_learn_unlock(t);
  return ino;
}

/* ---- what is made, removed and renamed here ---- */

uint64_t prelux_number_fresh(const struct prelux_tree *t, uint64_t staging_ino, int64_t made_ns)
{
  uint64_t words[3] = {staging_ino, (uint64_t)made_ns, 0x66726573};
  uint64_t ino = prelux_store_hash(words, sizeof words, t->key) & INT64_MAX;
  return ino ? ino : 1;
}

static void assign(struct prelux_tree *t, const char *object, uint64_t ino, uint64_t stamp_)
{
  uint64_t base = prelux_number_base(t, object, strlen(object));
  const struct prelux_number *n = find(t, base);
  set(t, &(struct prelux_number){.base = base, .generation = n ? n->generation : 0, .stamp = stamp_, .ino = ino});
}

void prelux_number_set(struct prelux_tree *t, const char *object, uint64_t ino, const struct prelux_object *obj)
{
  prelux_learn_lock(t);
  assign(t, object, ino, obj ? prelux_number_stamp(t, obj) : 0);
  prelux_learn_save(t);
  prelux_learn_unlock(t);
}

void prelux_number_end(struct prelux_tree *t, const char *object)
{
  uint64_t base = prelux_number_base(t, object, strlen(object));
  prelux_learn_lock(t);
  set(t, &(struct prelux_number){.base = base, .generation = next_generation(find(t, base))});
  prelux_learn_save(t);
  prelux_learn_unlock(t);
}

void prelux_learn_written(struct prelux_tree *t, const char *object, uint64_t ino, const struct prelux_object *obj, uint32_t mode,
                          int64_t mtime_ns)
{
  const struct prelux_setattr owner = prelux_attrs_owner(t, object);
  prelux_number_set(t, object, ino, obj);
  prelux_attrs_keep(t, object, obj, mode, mtime_ns, &owner);
}
