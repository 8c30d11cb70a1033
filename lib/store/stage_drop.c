/* after_upload: drop. What the remote has is not kept here: the staging file loses its name instead of getting one in the tree. Who has it
 * open goes on with it; who opens it anew fetches it. */
#include <errno.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/name.h"
#include "lib/store/stage.h"

/* Descriptors of it tell what the object is, as those of cached files do. */
static void publish_inode(struct prelux_dirty *d, const struct prelux_object *obj)
{
  struct prelux_tree *t = d->tree;
  struct prelux_known k = {.obj = *obj, .learned_ns = prelux_store_now(), .cache_ino = d->row.ino, .ino = d->shown};
  pthread_mutex_lock(&t->store->lock);
  if (t->n_views)
    prelux_view_publish_inode(&t->views[0], &k);
  pthread_mutex_unlock(&t->store->lock);
}

/* The row goes last: a daemon that finds one without its file knows that the remote has it. */
static void lose_name(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_store *s = g->store;
  char name[24], held[32];
  prelux_stage_name(d->row.ino, name);
  prelux_hold(s, g->fd, name, held);
  if (prelux_os.unlinkat(g->fd, name, 0) < 0 && errno != ENOENT)
    prelux_warn("staging file %s of %s: %s", name, s->dir, strerror(errno)); /* the next start puts it aside */
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &d->row);
  if (rc < 0)
    prelux_warn("journal of %s: %s", s->dir, strerror(-rc));
  if (*held)
    prelux_hold_release(s, held, false);
}

int prelux_stage_let_go(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj)
{
  const struct prelux_view v = {.tree = d->tree, .backend = d->tree->backend};
  struct prelux_flight flight;
  int rc;
  while (!prelux_flight_begin(&flight, &v, PRELUX_FLIGHT_FILL, d->row.path, &rc, NULL))
    ; /* as for prelux_stage_install */
  publish_inode(d, obj);
  prelux_live_settle(g, d, obj);
  prelux_cache_drop(d->tree, d->row.path);
  lose_name(g, d);
  prelux_flight_end(g->store, &flight, 0, NULL);
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  prelux_dirty_remove(g, d);
  pthread_mutex_unlock(&g->lock);
  return 0;
}
