/* Changed names that wait: their table, and what readers see of them. See deferred.h. */
#include "lib/store/deferred.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/folder_time.h"
#include "lib/store/mix.h"

/* ---- the table ---- */

static size_t path_slot(const struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len)
{
  return prelux_store_hash(object, len, (uint64_t)t->id) & (g->slots - 1);
}

static struct prelux_deferred **id_slot(struct prelux_stage *g, int64_t id)
{
  return &g->names_by_id[(size_t)id & (g->slots - 1)];
}

int prelux_deferred_create(struct prelux_stage *g)
{
  g->names_by_id = calloc(g->slots, sizeof *g->names_by_id);
  g->names_by_path = calloc(g->slots, sizeof *g->names_by_path);
  return g->names_by_id && g->names_by_path ? 0 : -ENOMEM;
}

void prelux_deferred_free(struct prelux_stage *g)
{
  for (struct prelux_deferred *d = g->names, *next; d; d = next)
  {
    next = d->next;
    prelux_deferred_release(d);
  }
  free(g->names_by_id);
  free(g->names_by_path);
}

struct prelux_deferred *prelux_deferred_by_id(struct prelux_stage *g, int64_t id)
{
  struct prelux_deferred *d = *id_slot(g, id);
  while (d && d->row.id != id)
    d = d->by_id;
  return d;
}

struct prelux_deferred *prelux_deferred_newest(struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_deferred_end *e = g->names_by_path[path_slot(g, t, object, len)];
  while (e && (e->of->tree != t || e->len != len || memcmp(e->path, object, len) != 0))
    e = e->chain;
  return e ? e->of : NULL;
}

static void end_put(struct prelux_stage *g, struct prelux_deferred *d, int i, const char *path)
{
  struct prelux_deferred_end *e = &d->ends[i];
  *e = (struct prelux_deferred_end){.of = d, .path = path, .len = strlen(path)};
  struct prelux_deferred_end **at = &g->names_by_path[path_slot(g, d->tree, path, e->len)];
  e->chain = *at;
  *at = e;
}

static void end_take(struct prelux_stage *g, struct prelux_deferred *d, int i)
{
  struct prelux_deferred_end *e = &d->ends[i];
  if (!e->path)
    return;
  struct prelux_deferred_end **at = &g->names_by_path[path_slot(g, d->tree, e->path, e->len)];
  while (*at != e)
    at = &(*at)->chain;
  *at = e->chain;
  e->path = NULL;
}

void prelux_deferred_insert(struct prelux_stage *g, struct prelux_deferred *d)
{
  struct prelux_deferred **slot = id_slot(g, d->row.id);
  d->by_id = *slot;
  *slot = d;
  d->next = g->names;
  d->at = &g->names;
  if (d->next)
    d->next->at = &d->next;
  g->names = d;
  g->n_names++;
  if (d->row.state != PRELUX_PENDING_READY)
    return;
  d->decides = true;
  end_put(g, d, 0, d->row.path);
  if (d->row.to)
    end_put(g, d, 1, d->row.to);
  if (prelux_order_add(g->order, d->row.id, d->row.path, d->row.to) < 0)
    g->unplaced = true;
}

bool prelux_deferred_placed(struct prelux_stage *g)
{
  bool all = true;
  for (const struct prelux_deferred *d = g->names; g->unplaced && d; d = d->next)
  {
    int rc = d->decides ? prelux_order_add(g->order, d->row.id, d->row.path, d->row.to) : 0;
    all = all && (rc == 0 || rc == -EEXIST);
  }
  g->unplaced = g->unplaced && !all;
  return !g->unplaced;
}

void prelux_deferred_hide(struct prelux_stage *g, struct prelux_deferred *d)
{
  if (!d->decides)
    return;
  d->decides = false;
  end_take(g, d, 0);
  end_take(g, d, 1);
  prelux_order_remove(g->order, d->row.id);
}

void prelux_deferred_take_out(struct prelux_stage *g, struct prelux_deferred *d)
{
  struct prelux_deferred **at = id_slot(g, d->row.id);
  prelux_deferred_hide(g, d);
  while (*at != d)
    at = &(*at)->by_id;
  *at = d->by_id;
  *d->at = d->next;
  if (d->next)
    d->next->at = d->at;
  g->n_names--;
  pthread_cond_broadcast(&g->changed);
}

void prelux_deferred_release(struct prelux_deferred *d)
{
  if (!d)
    return;
  prelux_pending_release(&d->row);
  free(d);
}

/* ---- which touch a path ---- */

static bool below(const char *path, const char *folder)
{
  size_t len = strlen(folder);
  return len == 0 || (strncmp(path, folder, len) == 0 && path[len] == '/');
}

static bool near(const char *a, const char *b)
{
  return a && b && (strcmp(a, b) == 0 || below(a, b) || below(b, a));
}

static bool touches(const struct prelux_deferred *d, const char *path, const char *second)
{
  return near(d->row.path, path) || near(d->row.to, path) || near(d->row.path, second) || near(d->row.to, second);
}

/* The oldest that touches; before 0: of all, else of those with a smaller number. */
static struct prelux_deferred *oldest(struct prelux_stage *g, const struct prelux_tree *t, const char *path, const char *second, int64_t before)
{
  struct prelux_deferred *ret = NULL;
  for (struct prelux_deferred *d = g->names; d; d = d->next)
    if (d->decides && d->tree == t && (!before || d->row.id < before) && (!ret || d->row.id < ret->row.id) && touches(d, path, second))
      ret = d;
  return ret;
}

struct prelux_deferred *prelux_deferred_first(struct prelux_stage *g, const struct prelux_tree *t, const char *path, const char *second)
{
  struct prelux_deferred *d = oldest(g, t, path, second, 0), *earlier;
  while (d && (earlier = oldest(g, t, d->row.path, d->row.to, d->row.id)))
    d = earlier;
  return d;
}

bool prelux_deferred_touch(const struct prelux_tree *t, const char *path, const char *second)
{
  struct prelux_stage *g = t->store->stage;
  if (!g || g->n_names == 0)
    return false;
  pthread_mutex_lock(&g->lock);
  bool ret = oldest(g, t, path, second, 0) != NULL;
  pthread_mutex_unlock(&g->lock);
  return ret;
}

/* ---- what readers see ---- */

/* Of the path that `d`, the last row of it, names. */
static void shows(const struct prelux_deferred *d, const char *object, size_t len, struct prelux_known *ret)
{
  const char *shown = d->row.to ? d->row.to : d->row.path;
  *ret = (struct prelux_known){0};
  if (strlen(shown) == len && memcmp(shown, object, len) == 0)
    *ret = d->known;
  ret->pending = ret->obj.type == PRELUX_FILE;
  ret->learned_ns = prelux_store_now();
}

/* 1: *ret; 0: no row decides. stage.lock held. */
static int decide(struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret)
{
  struct prelux_deferred *d = prelux_deferred_newest(g, t, object, len);
  if (d)
    shows(d, object, len, ret);
  while (!d && (len = prelux_object_parent(object, len)) > 0)
    if ((d = prelux_deferred_newest(g, t, object, len)))
      *ret = (struct prelux_known){.learned_ns = prelux_store_now()};
  return d != NULL;
}

int prelux_deferred_known(const struct prelux_tree *t, const char *object, size_t len, struct prelux_known *ret)
{
  struct prelux_stage *g = t->store->stage;
  if (!g || g->n_names == 0)
    return 0;
  pthread_mutex_lock(&g->lock);
  int rc = decide(g, t, object, len, ret);
  pthread_mutex_unlock(&g->lock);
  return rc;
}

bool prelux_deferred_has(const struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_stage *g = t->store->stage;
  if (!g || g->n_names == 0)
    return false;
  pthread_mutex_lock(&g->lock);
  bool has = prelux_deferred_newest(g, t, object, len) != NULL;
  pthread_mutex_unlock(&g->lock);
  return has;
}

bool prelux_deferred_made(const struct prelux_tree *t, const char *folder)
{
  struct prelux_known k;
  return prelux_deferred_known(t, folder, strlen(folder), &k) && k.obj.type == PRELUX_DIR;
}

/* The name of `path` in the folder, or NULL. */
static const char *name_in(const char *path, const char *folder, size_t len)
{
  if (!path || prelux_object_parent(path, strlen(path)) != len || memcmp(path, folder, len) != 0 || (len && path[len] != '/'))
    return NULL;
  return path + len + (len > 0);
}

int prelux_deferred_names(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, struct prelux_mix *m)
{
  size_t len = strlen(folder);
  int rc = 0;
  if (g->n_names == 0)
    return 0;
  pthread_mutex_lock(&g->lock);
  for (const struct prelux_deferred *d = g->names; d && rc == 0; d = d->next)
    for (int i = 0; i < 2 && rc == 0; i++)
    {
      const char *path = d->ends[i].path, *name = d->tree == t ? name_in(path, folder, len) : NULL;
      struct prelux_known k;
      if (!name || prelux_deferred_newest(g, t, path, d->ends[i].len) != d)
        continue;
      shows(d, path, d->ends[i].len, &k);
      rc = prelux_mix_add(m, name, &k);
      if (rc == 0)
        m->list[m->n - 1].gone = k.obj.type == PRELUX_NONE;
    }
  pthread_mutex_unlock(&g->lock);
  return rc;
}

void prelux_deferred_show(struct prelux_tree *t, const char *object)
{
  struct prelux_store *s = t->store;
  struct prelux_known k;
  size_t len = strlen(object);
  pthread_mutex_lock(&s->lock);
  prelux_tree_unpublish(t, object, len);
  if (prelux_memory_get(t, object, len, &k))
    for (size_t i = 0; i < t->n_views; i++)
      if (prelux_view_fresh(&t->views[i], &k, prelux_store_now()))
        prelux_view_publish(&t->views[i], object, len, &k);
  pthread_mutex_unlock(&s->lock);
}

/* ---- putting off ---- */

struct prelux_deferred *prelux_deferred_new(struct prelux_tree *t, enum prelux_intent intent, const char *path, const char *to)
{
  struct prelux_deferred *d = calloc(1, sizeof *d);
  if (!d || !(d->row.path = strdup(path)) || (to && !(d->row.to = strdup(to))))
  {
    prelux_deferred_release(d);
    return NULL;
  }
  d->tree = t;
  d->row.intent = intent;
  d->row.state = PRELUX_PENDING_READY;
  d->row.made_ns = prelux_store_wall();
  d->row.mtime_ns = prelux_store_stamp(t->store);
  return d;
}

/* What a row shows, from the row alone. */
static void know(struct prelux_deferred *d)
{
  const struct prelux_pending *row = &d->row;
  struct prelux_object *obj = &d->known.obj;
  if (row->intent == PRELUX_INTENT_MKDIR)
  {
    *obj = (struct prelux_object){.type = PRELUX_DIR, .mode = row->mode, .mtime_ns = row->mtime_ns};
    d->known.ino = prelux_number_fresh(d->tree, prelux_number_base(d->tree, row->path, strlen(row->path)), row->made_ns);
  }
  else if (row->intent == PRELUX_INTENT_RENAME && obj->type == PRELUX_NONE)
  {
    *obj = (struct prelux_object){.type = PRELUX_FILE, .size = row->size, .mode = row->mode, .mtime_ns = row->mtime_ns};
    memcpy(obj->version, row->base, sizeof obj->version);
    d->known.ino = row->ino;
  }
}

struct prelux_deferred *prelux_deferred_taken_up(struct prelux_tree *t, const struct prelux_pending *row)
{
  struct prelux_deferred *d = row->path ? prelux_deferred_new(t, (enum prelux_intent)row->intent, row->path, row->to) : NULL;
  if (!d)
    return NULL;
  char *path = d->row.path, *to = d->row.to;
  d->row = *row;
  d->row.path = path;
  d->row.to = to;
  d->row.upload = NULL;
  d->row.cause = row->cause ? strdup(row->cause) : NULL;
  d->resumed = true;
  know(d);
  return d;
}

int prelux_deferred_overtaken(struct prelux_stage *g, const struct prelux_deferred *d, struct prelux_problem *why)
{
  const char *path = d->row.to ? d->row.to : d->row.path;
  struct prelux_known k;
  size_t len = strlen(path);
  if (d->row.intent == PRELUX_INTENT_RMDIR)
  {
    bool used = prelux_dirty_any_below(g, d->tree, path) != NULL;
    for (const struct prelux_deferred *e = g->names; e && !used; e = e->next)
      for (int i = 0; i < 2 && !used; i++)
        if (e->tree == d->tree && e->ends[i].path && below(e->ends[i].path, path))
          used = decide(g, d->tree, e->ends[i].path, e->ends[i].len, &k) && k.obj.type != PRELUX_NONE;
    return used ? prelux_problem(why, ENOTEMPTY, "%.200s: this node has files in it", path) : 0;
  }
  if (d->row.intent == PRELUX_INTENT_REMOVE)
    return 0;
  len = prelux_object_parent(path, len);
  bool gone = len && decide(g, d->tree, path, len, &k) && k.obj.type != PRELUX_DIR;
  return gone ? prelux_problem(why, ENOENT, "%.200s: its folder was removed", path) : 0;
}

static int journal(struct prelux_stage *g, struct prelux_deferred *d, struct prelux_dirty *gone)
{
  struct prelux_edit edits[2] = {{.kind = PRELUX_EDIT_ADD, .row = &d->row}, {.kind = PRELUX_EDIT_DROP, .row = gone ? &gone->row : NULL}};
  int rc = prelux_stage_tree(g, d->tree);
  d->row.tree = atomic_load(&d->tree->owed_id);
  if (rc == 0)
    rc = prelux_journal_change(g->journal, edits, gone ? 2 : 1);
  return rc;
}

int prelux_deferred_queue(struct prelux_stage *g, struct prelux_deferred *d, struct prelux_dirty *gone, struct prelux_problem *why)
{
  int rc = d ? journal(g, d, gone) : -ENOMEM;
  if (rc < 0)
  {
    prelux_deferred_release(d);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  know(d);
  if (d->row.intent == PRELUX_INTENT_RMDIR) /* before it decides: who makes a file in it afterwards looks whether it is still there */
    atomic_fetch_add(&d->tree->shape, 1);
  pthread_mutex_lock(&g->lock);
  rc = prelux_deferred_overtaken(g, d, why);
  if (rc == 0)
    prelux_deferred_insert(g, d);
  pthread_mutex_unlock(&g->lock);
  if (rc == 0)
    return 0;
  int err = prelux_journal_forget(g->journal, d->row.id); /* who asked is told that it was not done: nor may it be by the next start */
  if (err < 0)
    prelux_warn("journal of %s: %s", g->store->dir, strerror(-err));
  prelux_deferred_release(d);
  return rc;
}

static struct prelux_deferred *take_made(struct prelux_stage *g, const struct prelux_tree *t, const char *object)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_deferred *d = prelux_deferred_newest(g, t, object, strlen(object));
  if (d && (d->busy || d->done || d->row.intent != PRELUX_INTENT_MKDIR))
    d = NULL;
  if (d)
    d->busy = true;
  pthread_mutex_unlock(&g->lock);
  return d;
}

int prelux_deferred_set(struct prelux_tree *t, const char *object, const struct prelux_setattr *set, struct prelux_known *ret)
{
  struct prelux_stage *g = t->store->stage;
  bool ours = g && g->n_names && !(set->which & (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID));
  struct prelux_deferred *d = ours ? take_made(g, t, object) : NULL;
  if (!d)
    return 0;
  struct prelux_pending next = d->row;
  if (set->which & PRELUX_SETATTR_MODE)
  {
    next.mode = set->mode & 07777;
    next.flags |= PRELUX_PENDING_MODE;
  }
  if (set->which & PRELUX_SETATTR_MTIME)
  {
    next.mtime_ns = set->mtime_ns;
    next.flags |= PRELUX_PENDING_MTIME;
    prelux_folder_time_drop(t, object);
  }
  int rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  pthread_mutex_lock(&g->lock);
  if (rc == 0)
    d->row = next;
  know(d);
  *ret = d->known;
  ret->learned_ns = prelux_store_now();
  d->busy = false;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return rc < 0 ? rc : 1;
}

int prelux_deferred_safe(struct prelux_stage *g, const struct prelux_write_rules *rules, int rc, struct prelux_problem *why)
{
  if (rc == 0 && rules->power && (rc = prelux_journal_durable(g->journal, UINT64_MAX)) < 0)
    prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  return rc;
}

void prelux_deferred_left(struct prelux_tree *t, const char *object)
{
  prelux_number_end(t, object);
  prelux_attrs_drop(t, object);
  prelux_folder_time_drop(t, object);
  prelux_attrs_move_below(t, object, NULL);
  prelux_cache_drop(t, object);
  prelux_deferred_show(t, object);
}
