/* When a name in a folder was made, renamed or removed here last: st_mtime of the folder, from then on, as on any file system. The remote says
 * it later (when it has the name), by another clock, or never (stores of objects have no folders).
 *
 * What the remote or attrs.c say is shown if it is later, as names change elsewhere, too. If it is later than now it tells nothing about whether
 * it was before, and does not count; so utimes() forgets the instant noted here.
 *
 * In memory by hash of the path, at each change; in the catalogue a while later (prelux_store_tick). With the first change since, the catalogue
 * notes that there are changes it does not know of (a negative number): after a death such a folder has changed just now. Whoever changes names does
 * not put the folder's slot into the index: it leaves it, once for all changes until somebody asks again.
 * The lock is inside store.lock. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/store/folder_time.h"

#define FIRST_SLOTS 64u
#define BATCH 256

static struct prelux_time *slot_of(const struct prelux_times *m, uint64_t base)
{
  size_t i = base & (m->n_slots - 1);
  while (m->slots[i].base && m->slots[i].base != base)
    i = (i + 1) & (m->n_slots - 1);
  return &m->slots[i];
}

static int grow(struct prelux_times *m)
{
  struct prelux_times bigger = {.n_slots = m->n_slots ? m->n_slots * 2 : FIRST_SLOTS};
  bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
  if (!bigger.slots)
    return -ENOMEM;
  size_t count = 0;
  for (size_t i = 0; i < m->n_slots; i++)
    if (m->slots[i].base && (m->slots[i].ns || m->slots[i].unsaved))
    {
      *slot_of(&bigger, m->slots[i].base) = m->slots[i];
      count++;
    }
  free(m->slots);
  m->slots = bigger.slots;
  m->n_slots = bigger.n_slots;
  atomic_store(&m->count, count);
  return 0;
}

/* NULL: none, and it may not be made. Lock held. */
static struct prelux_time *find(struct prelux_times *m, uint64_t base, bool make)
{
  struct prelux_time *at = m->n_slots ? slot_of(m, base) : NULL;
  if ((at && at->base) || !make)
    return at && at->base ? at : NULL;
  if (m->count >= PRELUX_TIMES_MAX || (m->count * 4 >= m->n_slots * 3 && grow(m) < 0))
    return NULL;
  at = slot_of(m, base);
  at->base = base;
  m->count++;
  return at;
}

static void set(struct prelux_times *m, struct prelux_time *at, int64_t ns)
{
  at->ns = ns;
  m->n_unsaved += !at->unsaved;
  at->unsaved = true;
}

/* True: its slot in the index says something else. ret: the row that the catalogue is to have at once, base 0: none. */
static bool note(struct prelux_tree *t, const char *folder, size_t len, int64_t ns, struct prelux_time *ret)
{
  struct prelux_times *m = &t->times;
  pthread_mutex_lock(&m->lock);
  struct prelux_time *at = find(m, prelux_number_base(t, folder, len), true);
  bool shown = !at || at->seen || at->ns == 0;
  if (at && !at->unsaved)
    *ret = (struct prelux_time){.base = at->base, .ns = -ns};
  if (at)
  {
    set(m, at, ns > at->ns ? ns : at->ns + at->seen);
    at->seen = false;
  }
  pthread_mutex_unlock(&m->lock);
  return shown;
}

static void complain(const struct prelux_tree *t, int rc)
{
  prelux_warn("cache catalogue of %s: %s: times of folders will be the remote's", t->store->dir, strerror(-rc));
}

void prelux_folder_moved_at(struct prelux_tree *t, const char *object, int64_t at_ns)
{
  size_t len = strlen(object), parent = prelux_object_parent(object, len);
  struct prelux_time first = {0};
  int rc = 0;
  if (len == 0)
    return;
  pthread_mutex_lock(&t->store->lock); /* as long as that is held nobody puts a slot there with the time before */
  if (note(t, object, parent, at_ns ? at_ns : prelux_store_stamp(t->store), &first))
    prelux_tree_unpublish_slots(t, object, parent);
  pthread_mutex_unlock(&t->store->lock);
  if (first.base && (rc = prelux_catalogue_set_times(t->store->cat, t->id, &first, 1)) < 0)
    complain(t, rc);
}

void prelux_folder_moved(struct prelux_tree *t, const char *object)
{
  prelux_folder_moved_at(t, object, 0);
}

void prelux_folder_time_show(struct prelux_tree *t, const char *object, size_t len, struct prelux_object *folder)
{
  struct prelux_times *m = &t->times;
  if (m->count == 0)
    return;
  pthread_mutex_lock(&m->lock);
  struct prelux_time *at = find(m, prelux_number_base(t, object, len), false);
  int64_t ns = at ? at->ns : 0;
  if (at)
    at->seen = true;
  pthread_mutex_unlock(&m->lock);
  if (ns && (folder->mtime_ns < ns || folder->mtime_ns > prelux_store_wall()))
  {
    folder->mtime_ns = ns;
    folder->mtime_rough = false;
  }
}

void prelux_folder_time_drop(struct prelux_tree *t, const char *object)
{
  struct prelux_times *m = &t->times;
  if (m->count == 0)
    return;
  pthread_mutex_lock(&m->lock);
  struct prelux_time *at = find(m, prelux_number_base(t, object, strlen(object)), false);
  if (at && at->ns)
    set(m, at, 0);
  pthread_mutex_unlock(&m->lock);
}

void prelux_folder_time_move(struct prelux_tree *t, const char *from, const char *to)
{
  struct prelux_times *m = &t->times;
  if (m->count == 0)
    return;
  pthread_mutex_lock(&m->lock);
  struct prelux_time *at = find(m, prelux_number_base(t, from, strlen(from)), false);
  int64_t ns = at ? at->ns : 0;
  if (at)
    set(m, at, 0);
  at = find(m, prelux_number_base(t, to, strlen(to)), ns != 0);
  if (at)
    set(m, at, ns);
  pthread_mutex_unlock(&m->lock);
}

/* ---- the catalogue ---- */

static int load_one(void *arg, uint64_t base, int64_t ns)
{
  struct prelux_tree *t = arg;
  struct prelux_time *at = find(&t->times, base, true);
  if (at && ns < 0)
    set(&t->times, at, prelux_store_stamp(t->store));
  else if (at)
    at->ns = ns;
  return at ? 0 : -ENOMEM;
}

int prelux_folder_times_load(struct prelux_tree *t)
{
  return prelux_catalogue_times(t->store->cat, t->id, load_one, t);
}

void prelux_folder_times_release(struct prelux_tree *t)
{
  free(t->times.slots);
  t->times.slots = NULL;
}

/* Some of those that the catalogue does not have; from *at on. */
static size_t take_unsaved(struct prelux_times *m, size_t *at, struct prelux_time batch[BATCH])
{
  size_t n = 0;
  pthread_mutex_lock(&m->lock);
  for (; m->n_unsaved && *at < m->n_slots && n < BATCH; ++*at)
    if (m->slots[*at].unsaved)
    {
      m->slots[*at].unsaved = false;
      m->n_unsaved--;
      batch[n++] = m->slots[*at];
    }
  pthread_mutex_unlock(&m->lock);
  return n;
}

static void save(struct prelux_tree *t)
{
  struct prelux_time batch[BATCH];
  size_t at = 0, n;
  int rc = 0;
  while (rc == 0 && (n = take_unsaved(&t->times, &at, batch)) > 0)
    rc = prelux_catalogue_set_times(t->store->cat, t->id, batch, n);
  if (rc < 0)
    complain(t, rc);
}

void prelux_folder_times_save(struct prelux_store *s)
{
  pthread_mutex_lock(&s->lock);
  struct prelux_tree *t = s->trees;
  pthread_mutex_unlock(&s->lock);
  for (; t; t = t->next) /* none goes before the store */
    save(t);
}
