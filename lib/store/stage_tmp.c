/* Staging files without a name: O_TMPFILE. They have a row, so that a daemon that comes later knows them, and are never sent; a name (linkat) makes
 * them files like others, the last close without one is their end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/deferred.h"

/* Its row is as good as gone. */
static void vanish(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_store *s = g->store;
  char name[24];
  prelux_live_end(g, d);
  int folder = prelux_stage_name(g, d->row.ino, name);
  if (s->index) /* the number may be used again */
    prelux_index_drop_inode(s->index, d->row.ino & PRELUX_INO_SCRATCH ? s->scratch_dev : s->dev, PRELUX_INO(d->row.ino));
  prelux_os.unlinkat(folder, name, 0); /* left behind by a failure it goes to recovered/ at the next start */
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  prelux_dirty_remove(g, d);
  pthread_mutex_unlock(&g->lock);
}

int prelux_stage_discard(struct prelux_stage *g, struct prelux_dirty *d)
{
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &d->row);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  vanish(g, d);
  return 0;
}

void prelux_stage_undo(struct prelux_stage *g, struct prelux_dirty *d)
{
  int rc = prelux_journal_forget(g->journal, d->row.id);
  if (rc < 0)
    prelux_warn("journal of %s: %s", g->store->dir, strerror(-rc));
  vanish(g, d);
}

/* May the name be made? The caller leads the path's fill flight. */
static int check_name(struct prelux_stage *g, const struct prelux_view *v, const char *object, struct prelux_problem *why)
{
  char parent[PRELUX_OBJECT_MAX + 1];
  struct prelux_known k;
  size_t len = prelux_object_parent(object, strlen(object));
  if (prelux_stage_has(v->tree, object, strlen(object)))
    return prelux_problem(why, EEXIST, "%.200s exists", object);
  int rc = prelux_fresh_get(v, object, 0, true, &k, why);
  if (rc == 0)
    return prelux_problem(why, EEXIST, "%.200s exists", object);
  if (rc != -ENOENT)
    return rc;
  memcpy(parent, object, len);
  parent[len] = 0;
  rc = prelux_fresh_get(v, parent, 0, false, &k, why);
  return rc < 0 ? rc : k.obj.type == PRELUX_DIR ? 0 : prelux_problem(why, ENOTDIR, "%.200s is no folder", parent);
}

int prelux_stage_journal_name(struct prelux_stage *g, const struct prelux_dirty *d, struct prelux_pending *next)
{
  struct prelux_pending old = {.id = d->row.id};
  struct prelux_edit edits[2] = {{.kind = PRELUX_EDIT_ADD, .row = next}, {.kind = PRELUX_EDIT_DROP, .row = &old}};
  if (!prelux_deferred_touch(d->tree, next->path, NULL))
    return prelux_stage_journal(g, PRELUX_EDIT_SET, next);
  return prelux_journal_change(g->journal, edits, 2);
}

/* d is the caller's. */
static int name_it(struct prelux_stage *g, const struct prelux_view *v, struct prelux_dirty *d, const char *object, struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  int rc = check_name(g, v, object, why);
  if (rc < 0)
    return rc;
  next.path = strdup(object);
  next.flags |= PRELUX_PENDING_NEW;
  rc = next.path ? prelux_stage_journal_name(g, d, &next) : -ENOMEM;
  if (rc < 0)
  {
    free(next.path);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  char *path = next.path;
  next.path = NULL;
  pthread_mutex_lock(&g->lock);
  prelux_dirty_renumber(g, d, &next);
  pthread_mutex_unlock(&g->lock);
  prelux_live_named(g, d, path);
  return 0;
}

int prelux_stage_link(struct prelux_stage *g, const struct prelux_view *v, uint64_t ino, const char *object, struct prelux_problem *why)
{
  struct prelux_flight flight;
  int rc = prelux_object_check(g->store, object, why);
  struct prelux_dirty *d = rc == 0 ? prelux_dirty_take_ino(g, ino) : NULL;
  if (rc == 0 && (!d || d->tree != v->tree))
    rc = prelux_problem(why, d ? EXDEV : ENOENT, "no such staging file: %llu", (unsigned long long)ino);
  else if (rc == 0 && d->row.path)
    rc = prelux_problem(why, EPERM, "%.200s has a name already", d->row.path);
  int ignored;
  while (rc == 0 && !prelux_flight_begin(&flight, v, PRELUX_FLIGHT_FILL, object, &ignored, NULL))
    ;
  if (rc == 0)
  {
    rc = name_it(g, v, d, object, why);
    prelux_flight_end(g->store, &flight, -EAGAIN, NULL);
  }
  if (d)
    prelux_dirty_give(g, d);
  return rc;
}
