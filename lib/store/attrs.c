/* Attributes that this node keeps because the remote does not: modes, times and owners that programs have set, and those of files written
 * here. Memory holds what the remote says; these are laid over it wherever it is shown (prelux_fresh_get, the index, listings).
 *
 * A row belongs to one version of its object: with another version on the remote it means nothing, and goes with the next change. Folders
 * have one version for ever. Of a file being written the owner alone is taken from here, from the row of the version it began from or from one without
 * version: mode and time are its own; all of it is set anew when it is published.
 *
 * In memory by hash of the path, in the catalogue by path. The lock is inside all others but the catalogue's, and not held over that. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/store/attrs.h"
#include "lib/store/folder_time.h"

#define FIRST_SLOTS 64u
#define OWNERS (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID)
#define BATCH 64

/* ---- the table: open addressing, base 0 is free; a row that means nothing has `which` 0 and stays ---- */

static struct prelux_own *slot_of(const struct prelux_attrs *m, uint64_t base)
{
  size_t i = base & (m->n_slots - 1);
  while (m->slots[i].base && m->slots[i].base != base)
    i = (i + 1) & (m->n_slots - 1);
  return &m->slots[i];
}

static int grow(struct prelux_attrs *m)
{
  struct prelux_attrs bigger = {.n_slots = m->n_slots ? m->n_slots * 2 : FIRST_SLOTS};
  bigger.slots = calloc(bigger.n_slots, sizeof *bigger.slots);
  if (!bigger.slots)
    return -ENOMEM;
  m->count = 0;
  for (size_t i = 0; i < m->n_slots; i++)
    if (m->slots[i].base && m->slots[i].which)
    {
      *slot_of(&bigger, m->slots[i].base) = m->slots[i];
      m->count++;
    }
  free(m->slots);
  m->slots = bigger.slots;
  m->n_slots = bigger.n_slots;
  return 0;
}

static int put(struct prelux_attrs *m, const struct prelux_own *own)
{
  if (m->count * 4 >= m->n_slots * 3 && grow(m) < 0)
    return -ENOMEM;
  struct prelux_own *to = slot_of(m, own->base);
  m->count += to->base == 0;
  *to = *own;
  return 0;
}

static struct prelux_own get(struct prelux_tree *t, uint64_t base)
{
  struct prelux_own own = {0};
  pthread_mutex_lock(&t->attrs.lock);
  if (t->attrs.n_slots)
    own = *slot_of(&t->attrs, base);
  pthread_mutex_unlock(&t->attrs.lock);
  return own;
}

static int add_path(void *arg, const char *path, struct prelux_own *own)
{
  struct prelux_tree *t = arg;
  own->base = prelux_number_base(t, path, strlen(path));
  return put(&t->attrs, own);
}

int prelux_attrs_load(struct prelux_tree *t)
{
  return prelux_catalogue_attrs(t->store->cat, t->id, add_path, t);
}

void prelux_attrs_release(struct prelux_tree *t)
{
  free(t->attrs.slots);
  t->attrs.slots = NULL;
}

/* In the catalogue, then in memory; `which` 0: it goes. */
static int save(struct prelux_tree *t, const char *object, const struct prelux_own *own)
{
  if (t->attrs.count >= PRELUX_ATTRS_MAX && own->which && get(t, own->base).base == 0)
    return -ENOSPC;
  int rc = prelux_catalogue_set_attr(t->store->cat, t->id, object, own);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&t->attrs.lock);
  rc = put(&t->attrs, own);
  pthread_mutex_unlock(&t->attrs.lock);
  return rc;
}

/* ---- showing ---- */

static void lay_over(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *k)
{
  struct prelux_own own = get(t, prelux_number_base(t, object, len));
  uint32_t which = own.which;
  if (k->live)
    which &= OWNERS;
  else if (own.stamp == 0 || own.stamp != prelux_number_stamp(t, &k->obj))
    which = 0;
  if (which == 0)
    return;
  if (which & PRELUX_SETATTR_MODE)
    k->obj.mode = own.mode;
  if (which & PRELUX_SETATTR_MTIME)
  {
    k->obj.mtime_ns = own.mtime_ns;
    k->obj.mtime_rough = false;
  }
  if (which & OWNERS)
  {
    uint32_t uid = which & PRELUX_SETATTR_UID ? own.uid : (uint32_t)geteuid(), gid = which & PRELUX_SETATTR_GID ? own.gid : (uint32_t)getegid();
    k->owned = true;
    k->owner = uid | (uint64_t)gid << 32;
  }
}

void prelux_attrs_show(struct prelux_tree *t, const char *object, size_t len, struct prelux_known *k)
{
  if (t->attrs.count && k->obj.type != PRELUX_NONE && k->obj.type != PRELUX_LINK)
    lay_over(t, object, len, k);
  if (k->obj.type == PRELUX_DIR)
    prelux_folder_time_show(t, object, len, &k->obj);
}

int64_t prelux_attrs_mtime(struct prelux_tree *t, const char *object, const struct prelux_object *obj)
{
  struct prelux_own own = {0};
  if (obj->type == PRELUX_DIR && t->attrs.count)
    own = get(t, prelux_number_base(t, object, strlen(object)));
  return obj->type != PRELUX_DIR ? obj->mtime_ns : own.which & PRELUX_SETATTR_MTIME ? own.mtime_ns : 0;
}

/* ---- changing ---- */

static void merge(struct prelux_own *own, const struct prelux_setattr *set)
{
  uint32_t which = set->which & (PRELUX_SETATTR_MODE | PRELUX_SETATTR_MTIME | OWNERS);
  own->which |= which;
  if (which & PRELUX_SETATTR_MODE)
    own->mode = set->mode & 07777;
  if (which & PRELUX_SETATTR_MTIME)
    own->mtime_ns = set->mtime_ns;
  if (which & PRELUX_SETATTR_UID)
    own->uid = set->uid;
  if (which & PRELUX_SETATTR_GID)
    own->gid = set->gid;
}

int prelux_attrs_set(struct prelux_tree *t, const char *object, const struct prelux_object *obj, const struct prelux_setattr *set)
{
  uint64_t base = prelux_number_base(t, object, strlen(object)), stamp = obj ? prelux_number_stamp(t, obj) : 0;
  struct prelux_own own = get(t, base);
  if (own.stamp != stamp)
    own = (struct prelux_own){.stamp = stamp};
  own.base = base;
  merge(&own, set);
  return save(t, object, &own);
}

void prelux_attrs_keep(struct prelux_tree *t, const char *object, const struct prelux_object *obj, uint32_t mode, int64_t mtime_ns,
                       const struct prelux_setattr *owner)
{
  struct prelux_own own = {.base = prelux_number_base(t, object, strlen(object)), .stamp = prelux_number_stamp(t, obj)};
  struct prelux_own was = get(t, own.base);
  struct prelux_setattr set = {.mode = mode, .mtime_ns = mtime_ns};
  set.which = (mode && mode != obj->mode ? PRELUX_SETATTR_MODE : 0) |
              (mtime_ns && (mtime_ns != obj->mtime_ns || obj->mtime_rough) ? PRELUX_SETATTR_MTIME : 0);
  merge(&own, &set);
  if (owner)
    merge(&own, owner);
  if (own.which == 0 && was.which == 0)
    return;
  int rc = save(t, object, &own);
  if (rc < 0)
    prelux_warn("cache catalogue of %s: %s: attributes of %.200s are the remote's", t->store->dir, strerror(-rc), object);
}

struct prelux_setattr prelux_attrs_owner(struct prelux_tree *t, const char *object)
{
  struct prelux_own own = t->attrs.count ? get(t, prelux_number_base(t, object, strlen(object))) : (struct prelux_own){0};
  return (struct prelux_setattr){.which = own.which & OWNERS, .uid = own.uid, .gid = own.gid};
}

void prelux_attrs_drop(struct prelux_tree *t, const char *object)
{
  struct prelux_own none = {.base = prelux_number_base(t, object, strlen(object))};
  if (t->attrs.count && get(t, none.base).which)
    save(t, object, &none);
}

/* ---- below a folder ---- */

struct below {
  char *path[BATCH];
  struct prelux_own own[BATCH];
  int n;
};

static int collect(void *arg, const char *path, struct prelux_own *own)
{
  struct below *b = arg;
  b->path[b->n] = strdup(path);
  if (!b->path[b->n])
    return -ENOMEM;
  b->own[b->n++] = *own;
  return b->n == BATCH ? 1 : 0;
}

static int move_one(struct prelux_tree *t, const char *path, const struct prelux_own *own, const char *from, const char *to)
{
  char moved_path[PRELUX_OBJECT_MAX + 1];
  struct prelux_own moved = *own, none = {.base = prelux_number_base(t, path, strlen(path))};
  if (to && snprintf(moved_path, sizeof moved_path, "%s%s", to, path + strlen(from)) < (int)sizeof moved_path)
  {
    moved.base = prelux_number_base(t, moved_path, strlen(moved_path));
    save(t, moved_path, &moved);
  }
  return save(t, path, &none);
}

void prelux_attrs_move_below(struct prelux_tree *t, const char *from, const char *to)
{
  int n = t->attrs.count ? BATCH : 0, rc = 0;
  while (n == BATCH && rc == 0)
  {
    struct below b = {.n = 0};
    prelux_catalogue_attrs_below(t->store->cat, t->id, from, collect, &b);
    n = b.n;
    for (int i = 0; i < n; i++)
    {
      if (rc == 0)
        rc = move_one(t, b.path[i], &b.own[i], from, to);
      free(b.path[i]);
    }
  }
}

static void clear_one(struct prelux_tree *t, const char *path, uint32_t which)
{
  struct prelux_own own = get(t, prelux_number_base(t, path, strlen(path)));
  if (!(own.which & which))
    return;
  own.which &= ~which;
  int rc = save(t, path, &own);
  if (rc < 0)
    prelux_warn("cache catalogue of %s: %s: attributes of %.200s stay this node's", t->store->dir, strerror(-rc), path);
}

struct clearing {
  char **paths;
  size_t n, cap;
};

static int remember(void *arg, const char *path, struct prelux_own *own)
{
  struct clearing *c = arg;
  if (c->n == c->cap)
  {
    char **more = realloc(c->paths, (c->cap * 2 + BATCH) * sizeof *more);
    if (!more)
      return -ENOMEM;
    c->paths = more;
    c->cap = c->cap * 2 + BATCH;
  }
  c->paths[c->n] = strdup(path);
  return c->paths[c->n] ? (c->n++, 0) : -ENOMEM;
}

void prelux_attrs_clear(struct prelux_tree *t, const char *object, uint32_t which, bool below)
{
  struct clearing c = {.n = 0};
  struct prelux_catalogue *cat = t->store->cat;
  if (t->attrs.count == 0)
    return;
  clear_one(t, object, which);
  int rc = !below ? 0 : *object ? prelux_catalogue_attrs_below(cat, t->id, object, remember, &c) : prelux_catalogue_attrs(cat, t->id, remember, &c);
  if (rc < 0)
    prelux_warn("cache catalogue of %s: not all attributes below %.200s are the remote's again", t->store->dir, object);
  for (size_t i = 0; i < c.n; i++)
  {
    clear_one(t, c.paths[i], which);
    free(c.paths[i]);
  }
  free(c.paths);
}
