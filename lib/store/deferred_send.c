/* Changed names that wait: sending them, in the background and because somebody needs them done. See deferred.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"

/* ---- on the remote ---- */

/* A folder that is there already will do. */
static int make_folder(const struct prelux_view *v, const struct prelux_pending *row, struct prelux_problem *why)
{
  struct prelux_object now = {0};
  int rc = prelux_name_do(v, PRELUX_DO_MKDIR, row->path, row->mode, why);
  bool there = rc == -EEXIST && v->backend->ops->stat(v->backend, row->path, &now, NULL) == 0 && now.type == PRELUX_DIR;
  return there ? 0 : rc;
}

/* A try before this one may have done it. */
static int rename_file(const struct prelux_view *v, const struct prelux_deferred *d, struct prelux_object *ret, struct prelux_problem *why)
{
  const struct prelux_pending *row = &d->row;
  const struct prelux_backend_ops *ops = v->backend->ops;
  unsigned flags = row->flags & PRELUX_PENDING_NEW ? PRELUX_RENAME_NOREPLACE : 0;
  struct prelux_object old = {0};
  int rc = prelux_name_move(v, row->path, row->to, flags, &d->known.obj, ret, why);
  if ((rc != -ENOENT && rc != -EEXIST) || !(d->resumed || row->tries > 0))
    return rc;
  *ret = (struct prelux_object){0};
  bool done = ops->stat(v->backend, row->path, &old, NULL) == -ENOENT && ops->stat(v->backend, row->to, ret, NULL) == 0 &&
              prelux_name_arrived(v, &d->known.obj, ret);
  return done ? 0 : rc;
}

/* *ret: what is at the new name, as far as the remote has told. */
static int carry_out(const struct prelux_view *v, const struct prelux_deferred *d, struct prelux_object *ret, struct prelux_problem *why)
{
  const struct prelux_pending *row = &d->row;
  int rc = -EINVAL;
  *ret = (struct prelux_object){0};
  if (row->intent == PRELUX_INTENT_REMOVE)
    rc = prelux_name_do(v, PRELUX_DO_REMOVE, row->path, 0, why);
  else if (row->intent == PRELUX_INTENT_RMDIR)
    rc = prelux_name_do(v, PRELUX_DO_RMDIR, row->path, 0, why);
  else if (row->intent == PRELUX_INTENT_MKDIR)
    rc = make_folder(v, row, why);
  else if (row->intent == PRELUX_INTENT_RENAME)
    rc = rename_file(v, d, ret, why);
  bool removes = row->intent == PRELUX_INTENT_REMOVE || row->intent == PRELUX_INTENT_RMDIR;
  return rc == -ENOENT && removes ? 0 : rc;
}

/* ---- afterwards ---- */

/* By path, as claims: so no two wait for each other. */
static void lead(const struct prelux_view *v, const struct prelux_pending *row, struct prelux_flight flight[2])
{
  const char *path[2] = {row->path, row->to};
  int first = row->to && strcmp(row->to, row->path) < 0, n = row->to ? 2 : 1, rc;
  for (int k = 0; k < n; k++)
    while (!prelux_flight_begin(&flight[first ^ k], v, PRELUX_FLIGHT_FILL, path[first ^ k], &rc, NULL))
      ;
}

static void land(struct prelux_store *s, const struct prelux_pending *row, struct prelux_flight flight[2])
{
  prelux_flight_end(s, &flight[0], -EAGAIN, NULL);
  if (row->to)
    prelux_flight_end(s, &flight[1], -EAGAIN, NULL);
}

/* Nothing has been done to the path since. */
static bool latest(struct prelux_stage *g, const struct prelux_deferred *d, const char *path)
{
  pthread_mutex_lock(&g->lock);
  bool ret = prelux_deferred_newest(g, d->tree, path, strlen(path)) == d && !prelux_dirty_by_path(g, d->tree, path);
  pthread_mutex_unlock(&g->lock);
  return ret;
}

/* Its number, attributes and cache file left the path when the row was made; what lies there now may be a later row's. */
static void removed(struct prelux_stage *g, const struct prelux_deferred *d)
{
  struct prelux_tree *t = d->tree;
  const char *object = d->row.path;
  struct prelux_known none = {.learned_ns = prelux_store_now()};
  size_t len = strlen(object);
  pthread_mutex_lock(&t->store->lock);
  prelux_entries_drop_below(t, object, len);
  prelux_folders_drop_below(t, object, len);
  pthread_mutex_unlock(&t->store->lock);
  prelux_name_there(t, object, &none);
  if (latest(g, d, object))
    prelux_cache_drop(t, object); /* a daemon before may not have come to that */
}

static void made(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_deferred *d)
{
  const struct prelux_pending *row = &d->row;
  struct prelux_tree *t = v->tree;
  struct prelux_setattr set = {.mode = row->mode, .mtime_ns = row->mtime_ns};
  struct prelux_known k = {.learned_ns = prelux_store_now(), .ino = d->known.ino};
  if (v->backend->ops->stat(v->backend, row->path, &k.obj, NULL) < 0 || k.obj.type != PRELUX_DIR)
    k.obj = (struct prelux_object){.type = PRELUX_DIR};
  if (k.obj.mtime_ns > row->mtime_ns) /* that the remote has it now is no change of the folder */
    k.obj.mtime_ns = row->mtime_ns;
  set.which = (k.obj.mode == 0 || row->flags & PRELUX_PENDING_MODE ? PRELUX_SETATTR_MODE : 0) |
              (row->flags & PRELUX_PENDING_MTIME ? PRELUX_SETATTR_MTIME : 0);
  if (latest(g, d, row->path))
  {
    prelux_number_set(t, row->path, k.ino, &k.obj);
    if (set.which)
      prelux_attrs_set(t, row->path, &k.obj, &set);
  }
  prelux_name_there(t, row->path, &k);
}

/* The cache file came along when the row was made; it is of the new version now. Its inode; 0: there is none. */
static uint64_t follow_cache(struct prelux_tree *t, const char *to, const struct prelux_object *was, const struct prelux_object *now)
{
  struct prelux_row row;
  int64_t old;
  if (prelux_catalogue_get(t->store->cat, t->id, to, &row) < 0 || !prelux_object_same(&row.obj, was) || now->size != row.obj.size)
    return 0;
  row.obj = *now;
  return prelux_catalogue_finish(t->store->cat, t->id, to, &row, &old) < 0 ? 0 : row.ino;
}

static void renamed(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_deferred *d, struct prelux_object *now)
{
  struct prelux_tree *t = v->tree;
  const char *to = d->row.to;
  struct prelux_known k = {.learned_ns = prelux_store_now(), .ino = d->known.ino};
  prelux_name_complete(v, to, now);
  now->type = PRELUX_FILE;
  k.obj = *now;
  if (latest(g, d, to))
  {
    prelux_number_set(t, to, k.ino, now);
    prelux_attrs_keep(t, to, now, d->known.obj.mode, d->known.obj.mtime_ns, &d->owner);
    k.cache_ino = follow_cache(t, to, &d->known.obj, now);
    if (!k.cache_ino)
      prelux_cache_drop(t, to);
  }
  prelux_name_there(t, to, &k);
  removed(g, d);
}

static void follow(struct prelux_stage *g, const struct prelux_view *v, struct prelux_deferred *d, struct prelux_object *now)
{
  if (d->row.intent == PRELUX_INTENT_MKDIR)
    made(g, v, d);
  else if (d->row.intent == PRELUX_INTENT_RENAME)
    renamed(g, v, d, now);
  else
    removed(g, d);
}

/* The remote has it. d is gone afterwards, unless its row cannot be dropped: until it is nothing may go to its paths that was done later, or the next
 * start would do this one behind that. */
static int finish(struct prelux_stage *g, const struct prelux_view *v, struct prelux_deferred *d, struct prelux_object *now, struct prelux_problem *why)
{
  struct prelux_flight flight[2];
  struct prelux_store *s = g->store;
  lead(v, &d->row, flight);
  if (!d->done)
    follow(g, v, d, now);
  d->done = true;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &d->row);
  if (rc < 0 && rc != -ENOENT)
  {
    land(s, &d->row, flight);
    return prelux_problem(why, EIO, "journal of %s: %s", s->dir, strerror(-rc));
  }
  pthread_mutex_lock(&g->lock);
  bool waited = prelux_order_waited(g->order, d->row.id);
  pthread_mutex_unlock(&g->lock);
  if (waited) /* done once more after a power cut it would undo what is sent next */
    prelux_journal_durable(g->journal, UINT64_MAX);
  pthread_mutex_lock(&g->lock);
  prelux_deferred_take_out(g, d);
  pthread_mutex_unlock(&g->lock);
  prelux_deferred_show(d->tree, d->row.path);
  if (d->row.to)
    prelux_deferred_show(d->tree, d->row.to);
  land(s, &d->row, flight);
  prelux_deferred_release(d);
  return 0;
}

/* Its paths show the remote again: what was known of that is old by now. d is busy, and decides no more. */
static void given_up(struct prelux_stage *g, const struct prelux_deferred *d)
{
  const struct prelux_view v = {.tree = d->tree, .backend = d->tree->backend};
  struct prelux_flight flight[2];
  lead(&v, &d->row, flight);
  if (d->row.to)
    prelux_cache_drop(d->tree, d->row.to);
  for (int i = 0; i < (d->row.to ? 2 : 1); i++)
    prelux_name_forget(d->tree, i ? d->row.to : d->row.path);
  land(g->store, &d->row, flight);
}

static bool final(int err)
{
  return err == -ENOTEMPTY || err == -EBUSY || err == -EXDEV || err == -EPERM || prelux_stage_final(err);
}

static void put_off(struct prelux_stage *g, struct prelux_deferred *d, int err, const struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  next.tries++;
  next.err = -err;
  next.cause = strdup(why->text);
  next.next_ns = prelux_stage_next_try(d->row.tries);
  if (final(err))
    next.state = PRELUX_PENDING_REFUSED;
  if (prelux_stage_journal(g, PRELUX_EDIT_SET, &next) < 0)
    prelux_warn("journal of %s cannot be written", g->store->dir); /* the row as it stands is right, too: READY */
  if (g->store->refused_fn && (next.tries == 1 || next.state == PRELUX_PENDING_REFUSED))
    g->store->refused_fn(g->store->refused_arg, d->tree, next.intent, d->row.path, err, why);
  pthread_mutex_lock(&g->lock);
  g->failed++;
  free(d->row.cause);
  d->row = next;
  if (next.state == PRELUX_PENDING_REFUSED)
  {
    g->refused++;
    prelux_deferred_hide(g, d);
  }
  else
    prelux_order_back(g->order, next.id);
  pthread_mutex_unlock(&g->lock);
  if (next.state == PRELUX_PENDING_REFUSED)
    given_up(g, d);
  pthread_mutex_lock(&g->lock);
  d->busy = false;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}

int prelux_deferred_send(struct prelux_stage *g, struct prelux_deferred *d, struct prelux_problem *why)
{
  const struct prelux_view v = {.tree = d->tree, .backend = d->tree->backend};
  struct prelux_problem mine = {0};
  struct prelux_object now = {0};
  int rc = d->done ? 0 : v.backend->ops->write ? carry_out(&v, d, &now, &mine) : prelux_problem(&mine, EROFS, "backends of this type are read-only");
  if (!d->done)
    prelux_stage_heard(d->tree, rc);
  if (rc == 0)
  {
    prelux_stage_took(g, d->tree);
    rc = finish(g, &v, d, &now, &mine);
    if (rc == 0)
      return 0;
  }
  put_off(g, d, rc, &mine);
  if (why)
    *why = mine;
  return rc;
}

/* ---- now ---- */

/* Somebody else sends it; waits until he has. stage.lock held. What his try failed with, or 0. */
static int wait_for(struct prelux_stage *g, const struct prelux_deferred *d, struct prelux_problem *why)
{
  int64_t id = d->row.id;
  uint32_t tries = d->row.tries;
  while ((d = prelux_deferred_by_id(g, id)) && d->busy)
    pthread_cond_wait(&g->changed, &g->lock);
  if (!d || !d->decides || d->row.tries == tries)
    return 0;
  return prelux_problem(why, d->row.err, "%s", d->row.cause ? d->row.cause : "not sent yet");
}

int prelux_deferred_drain(struct prelux_tree *t, const char *path, const char *second, struct prelux_problem *why)
{
  struct prelux_stage *g = t->store->stage;
  struct prelux_deferred *d;
  int rc = 0;
  if (!g || g->n_names == 0)
    return 0;
  pthread_mutex_lock(&g->lock);
  while (rc == 0 && (d = prelux_deferred_first(g, t, path, second)))
  {
    if (d->busy)
      rc = wait_for(g, d, why);
    else if (!prelux_deferred_placed(g))
      rc = prelux_problem(why, ENOMEM, "no memory");
    else if (!prelux_order_take_id(g->order, d->row.id))
      pthread_cond_wait(&g->changed, &g->lock);
    else
    {
      d->busy = true;
      pthread_mutex_unlock(&g->lock);
      rc = prelux_deferred_send(g, d, why);
      if (final(rc)) /* refused: the path is the remote's again */
        rc = 0;
      pthread_mutex_lock(&g->lock);
    }
  }
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int prelux_claim_settled(struct prelux_claim *c, const struct prelux_view *v, const char *path, const char *second, struct prelux_problem *why)
{
  for (;;)
  {
    int rc = prelux_deferred_drain(v->tree, path, second, why);
    if (rc < 0)
      return rc;
    prelux_claim_take(c, v, path, second);
    if (!prelux_deferred_touch(v->tree, path, second))
      return 0;
    prelux_claim_drop(c);
  }
}

/* ---- for people ---- */

/* The row, made the caller's; stage.lock held. NULL: there is none. */
static struct prelux_deferred *take(struct prelux_stage *g, int64_t id)
{
  struct prelux_deferred *d;
  while ((d = prelux_deferred_by_id(g, id)) && d->busy)
    pthread_cond_wait(&g->changed, &g->lock);
  if (d)
    d->busy = true;
  return d;
}

static void give(struct prelux_stage *g, struct prelux_deferred *d)
{
  pthread_mutex_lock(&g->lock);
  d->busy = false;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}

/* What was refused is done as if it were asked for just then: under a new number, behind all else. */
static int queue_again(struct prelux_stage *g, struct prelux_deferred *d)
{
  struct prelux_pending next = d->row;
  struct prelux_pending old = {.id = d->row.id};
  struct prelux_edit edits[2] = {{.kind = PRELUX_EDIT_ADD, .row = &next}, {.kind = PRELUX_EDIT_DROP, .row = &old}};
  next.state = PRELUX_PENDING_READY;
  next.next_ns = 0;
  struct prelux_deferred *again = prelux_deferred_taken_up(d->tree, &next);
  int rc = again ? prelux_journal_change(g->journal, edits, 2) : -ENOMEM;
  if (rc < 0)
  {
    prelux_deferred_release(again);
    return rc;
  }
  again->row.id = next.id;
  again->busy = true;
  pthread_mutex_lock(&g->lock);
  prelux_deferred_take_out(g, d);
  prelux_deferred_insert(g, again);
  pthread_mutex_unlock(&g->lock);
  prelux_deferred_release(d);
  prelux_deferred_show(again->tree, again->row.path);
  if (again->row.to)
    prelux_deferred_show(again->tree, again->row.to);
  give(g, again);
  return 0;
}

int prelux_deferred_retry(struct prelux_stage *g, int64_t id, struct prelux_problem *why)
{
  int rc = 0;
  pthread_mutex_lock(&g->lock);
  struct prelux_deferred *d = take(g, id);
  bool again = d && !d->decides;
  if (again)
    rc = prelux_deferred_overtaken(g, d, why);
  else if (d)
    d->row.next_ns = 0;
  pthread_mutex_unlock(&g->lock);
  if (!d)
    return -ENOENT;
  if (rc < 0)
  {
    give(g, d);
    return rc;
  }
  if (again)
    rc = queue_again(g, d);
  if (!again || rc < 0)
    give(g, d);
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
}

int prelux_deferred_drop(struct prelux_stage *g, int64_t id, struct prelux_problem *why)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_deferred *d = take(g, id);
  pthread_mutex_unlock(&g->lock);
  if (!d)
    return -ENOENT;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &d->row);
  if (rc < 0)
  {
    give(g, d);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  pthread_mutex_lock(&g->lock);
  bool decided = d->decides;
  prelux_deferred_hide(g, d);
  pthread_mutex_unlock(&g->lock);
  if (decided)
    given_up(g, d);
  pthread_mutex_lock(&g->lock);
  prelux_deferred_take_out(g, d);
  pthread_mutex_unlock(&g->lock);
  prelux_deferred_release(d);
  return 0;
}
