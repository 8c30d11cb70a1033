/* after_upload: drop, and `staging: DIR`. What the remote has does not get the name of its object in the cache: the staging file loses its name.
 * Who has it open goes on with it; who opens it anew fetches it, or gets a copy in the cache if the rules say keep. */
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
  int folder = prelux_stage_name(g, d->row.ino, name);
  struct prelux_pending sent = d->row;
  sent.flags |= PRELUX_PENDING_SENT;
  if ((d->row.ino & PRELUX_INO_SCRATCH) && prelux_stage_journal(g, PRELUX_EDIT_SET, &sent) < 0)
    prelux_warn("journal of %s cannot be written", s->dir);
  prelux_hold_shown(s, folder, name, held);
  if (prelux_os.unlinkat(folder, name, 0) < 0 && errno != ENOENT)
    prelux_warn("staging file %s of %s: %s", name, s->dir, strerror(errno)); /* the next start puts it aside */
  int rc = prelux_journal_forget(g->journal, d->row.id);
  if (rc < 0)
    prelux_warn("journal of %s: %s", s->dir, strerror(-rc));
  if (*held)
    prelux_hold_release(s, held, false);
}

/* The copy in fill/ gets its name. The caller leads the flight; the path shows obj as the remote's. */
static int name_copy(struct prelux_stage *g, struct prelux_dirty *d, const char *copy, struct prelux_row *row)
{
  struct prelux_store *s = g->store;
  const char *base;
  int64_t old = -1;
  int dir, rc = prelux_disk_parent(d->tree, d->row.path, true, &dir, &base);
  if (rc < 0)
    return rc;
  rc = prelux_catalogue_begin(s->cat, d->tree->id, d->row.path, row);
  if (rc == 0 && prelux_os.renameat(s->fill_fd, copy, dir, base) < 0)
  {
    rc = -errno;
    prelux_catalogue_abort(s->cat, d->tree->id, d->row.path);
  }
  prelux_os.close(dir);
  if (rc < 0)
    return rc;
  rc = prelux_catalogue_finish(s->cat, d->tree->id, d->row.path, row, &old);
  pthread_mutex_lock(&s->lock);
  s->unsynced = true;
  if (rc == 0)
    prelux_store_account(s, old, (int64_t)row->bytes);
  pthread_mutex_unlock(&s->lock);
  return rc;
}

int prelux_stage_let_go(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj)
{
  const struct prelux_view v = {.tree = d->tree, .backend = d->tree->backend};
  struct prelux_flight flight;
  struct prelux_row row;
  char copy[32];
  bool copied = !(d->row.flags & PRELUX_PENDING_DROP) && prelux_scratch_copy(g, d, obj, copy, &row) == 0;
  int rc;
  while (!prelux_flight_begin(&flight, &v, PRELUX_FLIGHT_FILL, d->row.path, &rc, NULL))
    ; /* as for prelux_stage_install */
  publish_inode(d, obj);
  prelux_live_settle(g, d, obj);
  prelux_cache_drop(d->tree, d->row.path);
  if (copied && name_copy(g, d, copy, &row) == 0)
    prelux_live_clean(d, obj, row.ino);
  else if (copied)
    prelux_os.unlinkat(g->store->fill_fd, copy, 0);
  lose_name(g, d);
  prelux_flight_end(g->store, &flight, 0, NULL);
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  prelux_dirty_remove(g, d);
  pthread_mutex_unlock(&g->lock);
  return 0;
}
