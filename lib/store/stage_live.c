/* Live files in the index: what is being written, or waits to be sent, can be looked at and opened without asking the daemon.
 *
 * For each view of the tree a live file has a slot that says LIVE and names its staging file; it is valid for ever, because the
 * kernel knows size and time. Slots and tables change together, under store.lock: a path has a LIVE slot only while its file is in the
 * tables, and what is known of the remote's object is never published over it (prelux_view_publish comes here first). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"

void prelux_live_attr(const struct prelux_dirty *d, const struct prelux_view *v, struct prelux_attr *ret)
{
  struct prelux_known k = {.obj = {.type = PRELUX_FILE, .mode = d->row.mode, .size = d->row.size, .mtime_ns = prelux_once_mtime(&d->row)},
                           .cache_ino = d->row.ino, .live = true, .ino = d->shown};
  if (d->row.path)
    prelux_attrs_show(d->tree, d->row.path, strlen(d->row.path), &k);
  prelux_view_attr(v, &k, ret);
}

bool prelux_stage_publish(const struct prelux_view *v, const char *object, size_t len)
{
  struct prelux_tree *t = v->tree;
  struct prelux_stage *g = t->store->stage;
  struct prelux_attr attr;
  if (!g || g->count == 0)
    return false;
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_find(g, t, object, len);
  if (d)
    prelux_live_attr(d, v, &attr);
  pthread_mutex_unlock(&g->lock);
  if (d)
    prelux_index_put(t->store->index, v->id, object, len, &attr, t->dev);
  return d != NULL;
}

void prelux_live_show(struct prelux_tree *t, const char *object)
{
  struct prelux_store *s = t->store;
  size_t len = strlen(object);
  pthread_mutex_lock(&s->lock);
  if (len)
    prelux_folder_stir(t, object, prelux_object_parent(object, len));
  for (size_t i = 0; s->index && i < t->n_views; i++)
    if (!prelux_stage_publish(&t->views[i], object, len))
      prelux_index_drop(s->index, t->views[i].id, object, len);
  pthread_mutex_unlock(&s->lock);
}

/* Who has it open can be told what it is by its inode alone; no object path begins with a slash. */
static void nameless_key(uint64_t ino, char ret[40])
{
  snprintf(ret, 40, "/nameless/%" PRIu64, ino);
}

/* store.lock held. */
static void nameless_gone(struct prelux_store *s, const struct prelux_dirty *d, bool gone)
{
  uint64_t dev = d->row.ino & PRELUX_INO_SCRATCH ? s->scratch_dev : s->dev;
  if (s->index)
    prelux_index_gone(s->index, dev, PRELUX_INO(d->row.ino), gone);
}

void prelux_live_start(struct prelux_stage *g, const struct prelux_dirty *d)
{
  struct prelux_store *s = g->store;
  struct prelux_attr attr;
  char key[40];
  if (d->row.path)
  {
    prelux_live_show(d->tree, d->row.path);
    return;
  }
  nameless_key(d->row.ino, key);
  pthread_mutex_lock(&s->lock);
  if (s->index && d->tree->n_views)
  {
    prelux_live_attr(d, &d->tree->views[0], &attr);
    prelux_index_put(s->index, d->tree->views[0].id, key, strlen(key), &attr, d->tree->dev);
    nameless_gone(s, d, true);
  }
  pthread_mutex_unlock(&s->lock);
}

void prelux_live_lend(struct prelux_tree *t, uint64_t ino, uint64_t shown, uint32_t mode)
{
  struct prelux_store *s = t->store;
  const struct prelux_known k = {.obj = {.type = PRELUX_FILE, .mode = mode}, .cache_ino = ino, .live = true, .ino = shown};
  struct prelux_attr attr;
  char key[40];
  nameless_key(ino, key);
  pthread_mutex_lock(&s->lock);
  if (s->index && t->n_views)
  {
    prelux_view_attr(&t->views[0], &k, &attr);
    prelux_index_put(s->index, t->views[0].id, key, strlen(key), &attr, t->dev);
  }
  pthread_mutex_unlock(&s->lock);
}

void prelux_live_lent(struct prelux_tree *t, uint64_t ino)
{
  struct prelux_store *s = t->store;
  char key[40];
  nameless_key(ino, key);
  pthread_mutex_lock(&s->lock);
  if (s->index && t->n_views)
    prelux_index_drop(s->index, t->views[0].id, key, strlen(key));
  pthread_mutex_unlock(&s->lock);
}

/* store.lock held. */
static void nameless_end(struct prelux_store *s, const struct prelux_dirty *d)
{
  char key[40];
  nameless_key(d->row.ino, key);
  if (s->index && d->tree->n_views)
    prelux_index_drop(s->index, d->tree->views[0].id, key, strlen(key));
}

void prelux_live_begin(struct prelux_view *v)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_stage *g = s->stage;
  struct prelux_attr attr;
  if (!g || g->count == 0 || !s->index)
    return;
  pthread_mutex_lock(&s->lock);
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots; i++)
    for (const struct prelux_dirty *d = g->by_path[i]; d; d = d->by_path)
      if (d->tree == v->tree)
      {
        prelux_live_attr(d, v, &attr);
        prelux_index_put(s->index, v->id, d->row.path, strlen(d->row.path), &attr, v->tree->dev);
      }
  pthread_mutex_unlock(&g->lock);
  pthread_mutex_unlock(&s->lock);
}

/* forget: what memory says of the remote's object may not be so any more. */
static void hide(struct prelux_stage *g, struct prelux_dirty *d, bool forget)
{
  struct prelux_store *s = g->store;
  const char *path = d->row.path;
  pthread_mutex_lock(&s->lock);
  pthread_mutex_lock(&g->lock);
  prelux_dirty_hide(g, d);
  pthread_mutex_unlock(&g->lock);
  if (path)
    prelux_tree_unpublish(d->tree, path, strlen(path));
  else
    nameless_end(s, d);
  if (path && forget && !prelux_deferred_has(d->tree, path, strlen(path))) /* else the row says what is there, and puts memory right */
    prelux_memory_forget(d->tree, path, strlen(path));
  pthread_mutex_unlock(&s->lock);
}

void prelux_live_end(struct prelux_stage *g, struct prelux_dirty *d)
{
  hide(g, d, true);
}

void prelux_live_gone(struct prelux_stage *g, struct prelux_dirty *d)
{
  hide(g, d, prelux_dirty_on_remote(d));
}

void prelux_live_settle(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj)
{
  struct prelux_tree *t = d->tree;
  struct prelux_store *s = g->store;
  size_t len = strlen(d->row.path);
  struct prelux_known k = {.obj = *obj, .learned_ns = prelux_store_now(), .ino = d->shown};
  pthread_mutex_lock(&s->lock);
  pthread_mutex_lock(&g->lock);
  prelux_dirty_hide(g, d);
  pthread_mutex_unlock(&g->lock);
  prelux_tree_unpublish(t, d->row.path, len);
  prelux_entry_put(t, d->row.path, len, &k);
  prelux_folder_touch(t, d->row.path, len); /* a listing under way may be from before the remote had it */
  pthread_mutex_unlock(&s->lock);
}

void prelux_live_named(struct prelux_stage *g, struct prelux_dirty *d, char *path)
{
  struct prelux_store *s = g->store;
  pthread_mutex_lock(&s->lock);
  nameless_end(s, d);
  nameless_gone(s, d, false);
  pthread_mutex_lock(&g->lock);
  d->row.path = path;
  prelux_dirty_unhide(g, d);
  pthread_mutex_unlock(&g->lock);
  pthread_mutex_unlock(&s->lock);
  prelux_live_show(d->tree, path);
}

void prelux_live_again(struct prelux_stage *g, struct prelux_dirty *d)
{
  pthread_mutex_lock(&g->lock);
  prelux_dirty_unhide(g, d);
  pthread_mutex_unlock(&g->lock);
  if (d->row.path)
    prelux_live_show(d->tree, d->row.path);
}

void prelux_live_clean(struct prelux_dirty *d, const struct prelux_object *obj, uint64_t cache_ino)
{
  struct prelux_tree *t = d->tree;
  struct prelux_store *s = t->store;
  size_t len = strlen(d->row.path);
  struct prelux_known k = {.obj = *obj, .learned_ns = prelux_store_now(), .cache_ino = cache_ino, .ino = d->shown};
  pthread_mutex_lock(&s->lock);
  prelux_entry_put(t, d->row.path, len, &k);
  for (size_t i = 0; i < t->n_views; i++)
    prelux_view_publish(&t->views[i], d->row.path, len, &k);
  pthread_mutex_unlock(&s->lock);
}
