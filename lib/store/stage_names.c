/* Changing the names of files that are being written. See name.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"

/* ---- claims ---- */

static void release(struct prelux_stage *g, struct prelux_dirty *d)
{
  pthread_mutex_lock(&g->lock);
  prelux_dirty_release(g, d);
  pthread_mutex_unlock(&g->lock);
}

static void lead(struct prelux_claim *c, int i)
{
  int rc;
  while (!prelux_flight_begin(&c->flight[i], c->v, PRELUX_FLIGHT_FILL, c->path[i], &rc, NULL))
    ;
}

/* Nobody began to write one of the paths before we led its flight. */
static bool still(const struct prelux_claim *c)
{
  struct prelux_stage *g = c->v->tree->store->stage;
  bool same = true;
  pthread_mutex_lock(&g->lock);
  for (int i = 0; i < 2 && c->path[i]; i++)
    same = same && prelux_dirty_by_path(g, c->v->tree, c->path[i]) == c->dirty[i];
  pthread_mutex_unlock(&g->lock);
  return same;
}

/* A rename that a daemon before has begun is decided first, if the remote tells. */
static void decide_at(const struct prelux_view *v, const char *path)
{
  struct prelux_stage *g = v->tree->store->stage;
  struct prelux_dirty *d = prelux_dirty_take(g, v->tree, path);
  if (d && d->row.to)
    prelux_dirty_decide(g, d, NULL);
  if (d)
    prelux_dirty_give(g, d);
}

void prelux_claim_take(struct prelux_claim *c, const struct prelux_view *v, const char *path, const char *second)
{
  struct prelux_stage *g = v->tree->store->stage;
  decide_at(v, path);
  if (second)
    decide_at(v, second);
  *c = (struct prelux_claim){.v = v, .path = {path, second}};
  int first = second && strcmp(second, path) < 0, n = second ? 2 : 1;
  for (;;)
  {
    for (int k = 0; k < n; k++)
      c->dirty[first ^ k] = prelux_dirty_take(g, v->tree, c->path[first ^ k]);
    for (int k = 0; k < n; k++)
      lead(c, first ^ k);
    if (still(c))
      return;
    prelux_claim_drop(c);
  }
}

int prelux_claim_shelve(struct prelux_claim *c, int i, struct prelux_problem *why)
{
  static char cause[] = "was being replaced by a rename when the daemon died";
  struct prelux_pending rows[2];
  struct prelux_edit edits[2] = {{.kind = PRELUX_EDIT_SET, .row = &rows[0]}, {.kind = PRELUX_EDIT_SET, .row = &rows[1]}};
  size_t n = 0;
  if (c->dirty[i])
  {
    rows[n] = c->dirty[i]->row;
    rows[n].state = PRELUX_PENDING_RECOVERED;
    rows[n++].cause = cause;
  }
  if (c->dirty[!i])
  {
    rows[n] = c->dirty[!i]->row;
    rows[n++].to = (char *)c->path[i];
  }
  int rc = n ? prelux_journal_change(c->v->tree->store->stage->journal, edits, n) : 0;
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", c->v->tree->store->dir, strerror(-rc)) : 0;
}

void prelux_claim_unshelve(struct prelux_claim *c, int i)
{
  for (int k = 0; k < 2; k++)
  {
    int rc = c->dirty[k] ? prelux_stage_journal(c->v->tree->store->stage, PRELUX_EDIT_SET, &c->dirty[k]->row) : 0;
    if (rc < 0)
      prelux_warn("journal of %s: %s", c->v->tree->store->dir, strerror(-rc));
  }
}

void prelux_claim_drop(struct prelux_claim *c)
{
  struct prelux_store *s = c->v->tree->store;
  for (int i = 0; i < 2 && c->path[i]; i++)
  {
    prelux_flight_end(s, &c->flight[i], -EAGAIN, NULL);
    if (c->dirty[i])
      release(s->stage, c->dirty[i]);
    c->dirty[i] = NULL;
  }
}

/* ---- one file ---- */

bool prelux_dirty_on_remote(const struct prelux_dirty *d)
{
  return d->row.base[0] || prelux_dirty_unsure(d);
}

/* The row is out of the journal and no name leads to d any more: its file goes, and d. */
static void end(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_store *s = g->store;
  char name[24], held[32];
  int folder = prelux_stage_name(g, d->row.ino, name);
  prelux_hold(s, folder, name, held);
  if (prelux_os.unlinkat(folder, name, 0) < 0 && errno != ENOENT)
    prelux_warn("staging file %s of %s: %s", name, s->dir, strerror(errno)); /* the next start puts it aside */
  if (*held)
    prelux_hold_release(s, held, false);
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  prelux_dirty_remove(g, d);
  pthread_mutex_unlock(&g->lock);
}

void prelux_claim_end(struct prelux_claim *c, int i)
{
  struct prelux_stage *g = c->v->tree->store->stage;
  prelux_live_gone(g, c->dirty[i]);
  end(g, c->dirty[i]);
  c->dirty[i] = NULL;
}

int prelux_claim_unlink(struct prelux_claim *c, int i, struct prelux_problem *why)
{
  struct prelux_stage *g = c->v->tree->store->stage;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &c->dirty[i]->row);
  if (rc < 0 && rc != -ENOENT)
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  prelux_claim_end(c, i);
  return 0;
}

struct new_name {
  const char *to, *base;
  bool over;
  bool sure;                    /* base is all that the remote has of it */
  struct prelux_dirty *gone;    /* what was being written there, or NULL */
  struct prelux_deferred *left; /* or NULL */
};

/* d, the caller's, stands for the path of `next` from now on, which it owns. At once for all readers. */
static void row_moves(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_pending *next, const struct new_name *n)
{
  struct prelux_store *s = g->store;
  char *was = d->row.path;
  pthread_mutex_lock(&s->lock);
  pthread_mutex_lock(&g->lock);
  prelux_lost_row(g, d); /* an upload is of one name */
  prelux_dirty_hide(g, d);
  if (n->gone)
    prelux_dirty_hide(g, n->gone);
  bool queued = d->queued && prelux_order_remove(g->order, d->row.id);
  prelux_dirty_renumber(g, d, next);
  prelux_dirty_unhide(g, d);
  if (queued)
    d->queued = prelux_order_add(g->order, d->row.id, d->row.path, NULL) == 0;
  if (n->left)
    prelux_deferred_insert(g, n->left);
  pthread_mutex_unlock(&g->lock);
  prelux_tree_unpublish(d->tree, was, strlen(was));
  pthread_mutex_unlock(&s->lock);
  prelux_live_show(d->tree, d->row.path);
  free(was);
}

/* Rows are sent in the order of their numbers: one that gets a name behind changes of that name gets a new one. */
static int journal_name(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_pending *next, const struct new_name *n)
{
  bool renumber = prelux_deferred_touch(d->tree, n->to, NULL);
  struct prelux_edit edits[4];
  size_t k = 0;
  edits[k++] = (struct prelux_edit){.kind = renumber ? PRELUX_EDIT_ADD : PRELUX_EDIT_SET, .row = next};
  if (renumber)
    edits[k++] = (struct prelux_edit){.kind = PRELUX_EDIT_DROP, .row = &d->row};
  if (n->gone)
    edits[k++] = (struct prelux_edit){.kind = PRELUX_EDIT_DROP, .row = &n->gone->row};
  if (n->left)
  {
    n->left->row.tree = next->tree;
    edits[k++] = (struct prelux_edit){.kind = PRELUX_EDIT_ADD, .row = &n->left->row};
  }
  return prelux_journal_change(g->journal, edits, k);
}

static void next_flags(struct prelux_pending *next, const struct new_name *n)
{
  next->flags &= ~(uint32_t)((n->over || n->base[0] ? PRELUX_PENDING_NEW : 0) | (n->sure ? PRELUX_PENDING_UNSURE : 0));
  next->flags |= n->over ? PRELUX_PENDING_OVER : 0;
  if (n->left && !n->over) /* it does not go on from what the remote has there */
    next->flags = (next->flags & ~(uint32_t)PRELUX_PENDING_OVER) | PRELUX_PENDING_NEW;
  if (n->left && next->mode)
    next->flags |= PRELUX_PENDING_MODE;
}

static int move_row(struct prelux_stage *g, struct prelux_dirty *d, const struct new_name *n, struct prelux_problem *why)
{
  char *old = n->sure ? d->row.sent : NULL, *meant = d->row.to;
  struct prelux_pending next = d->row;
  next.path = strdup(n->to);
  if (!next.path)
    return prelux_problem(why, ENOMEM, "no memory");
  snprintf(next.base, sizeof next.base, "%s", n->base);
  next_flags(&next, n);
  next.sent = n->sure ? NULL : next.sent;
  next.to = NULL;
  next.tries = 0;
  next.next_ns = 0;
  int rc = journal_name(g, d, &next, n);
  if (rc < 0)
  {
    free(next.path);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  row_moves(g, d, &next, n);
  free(old);
  free(meant);
  return 0;
}

static int rename_to(struct prelux_claim *c, const struct new_name *n, struct prelux_problem *why)
{
  struct prelux_stage *g = c->v->tree->store->stage;
  int rc = move_row(g, c->dirty[0], n, why);
  if (rc < 0)
    return rc;
  if (n->gone)
    end(g, n->gone);
  c->dirty[1] = c->dirty[0]; /* it stands for the other path now */
  c->dirty[0] = NULL;
  return 0;
}

int prelux_claim_rename(struct prelux_claim *c, const char *base, bool over, struct prelux_problem *why)
{
  const struct new_name n = {.to = c->path[1], .base = base, .over = over, .sure = true, .gone = c->dirty[1]};
  return rename_to(c, &n, why);
}

int prelux_claim_leave(struct prelux_claim *c, const char *base, bool over, struct prelux_deferred *left, struct prelux_problem *why)
{
  const struct new_name n = {.to = c->path[1], .base = base, .over = over, .sure = true, .gone = c->dirty[1], .left = left};
  int rc = rename_to(c, &n, why);
  if (rc < 0)
    prelux_deferred_release(left);
  else /* the remote has nothing of it under the new name */
    c->dirty[1]->resumed = false;
  return rc;
}

/* ---- a rename cut off ---- */

/* The remote has renamed it, and has `now` there. The caller leads the flight of d->row.to. */
static int follow(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *now, struct prelux_problem *why)
{
  struct prelux_tree *t = d->tree;
  char *from = strdup(d->row.path), *to = strdup(d->row.to);
  int rc = from && to ? 0 : prelux_problem(why, ENOMEM, "no memory");
  if (rc == 0)
  {
    const struct prelux_setattr owner = prelux_attrs_owner(t, from);
    prelux_number_set(t, to, d->shown, now);
    if (owner.which)
      prelux_attrs_set(t, to, NULL, &owner);
    else
      prelux_attrs_drop(t, to);
    prelux_attrs_drop(t, from);
    const struct new_name n = {.to = to, .base = now->version, .sure = true};
    rc = move_row(g, d, &n, why);
    prelux_cache_drop(t, to);
    prelux_name_touch(t, to);
    prelux_name_gone(t, from);
  }
  free(from);
  free(to);
  return rc;
}

/* It was not renamed. */
static int stay(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  char *meant = d->row.to;
  next.to = NULL;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  if (rc < 0)
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  prelux_dirty_becomes(g, d, &next);
  free(meant);
  return 0;
}

int prelux_dirty_decide(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  const struct prelux_view v = {.tree = d->tree, .backend = b};
  struct prelux_object old = {0}, now = {0};
  struct prelux_flight flight;
  int ignored, rc = b->ops->stat(b, d->row.path, &old, why);
  if (rc == 0)
    return stay(g, d, why);
  if (rc != -ENOENT && rc != -ENOTDIR)
    return rc;
  rc = b->ops->stat(b, d->row.to, &now, why);
  if (rc == -ENOENT || rc == -ENOTDIR || (rc == 0 && now.type != PRELUX_FILE))
    return stay(g, d, why);
  if (rc < 0)
    return rc;
  char *to = strdup(d->row.to); /* the flight's */
  if (!to)
    return prelux_problem(why, ENOMEM, "no memory");
  while (!prelux_flight_begin(&flight, &v, PRELUX_FLIGHT_FILL, to, &ignored, NULL))
    ;
  if (prelux_stage_has(d->tree, to, strlen(to)))
    rc = prelux_problem(why, ESTALE, "%.200s was renamed to %.200s, which was written anew since", d->row.path, to);
  else
    rc = follow(g, d, &now, why);
  prelux_flight_end(g->store, &flight, -EAGAIN, NULL);
  free(to);
  return rc;
}

/* ---- below a folder ---- */

static bool below(const char *path, const char *folder, size_t len)
{
  return path && (len == 0 || (strncmp(path, folder, len) == 0 && path[len] == '/'));
}

struct prelux_dirty *prelux_dirty_any_below(struct prelux_stage *g, const struct prelux_tree *t, const char *folder)
{
  size_t len = strlen(folder);
  for (size_t i = 0; i < g->slots; i++)
    for (struct prelux_dirty *d = g->by_path[i]; d; d = d->by_path)
      if (d->tree == t && below(d->row.path, folder, len))
        return d;
  return NULL;
}

bool prelux_dirty_below(const struct prelux_tree *t, const char *folder)
{
  struct prelux_stage *g = t->store->stage;
  if (!g || g->count == 0)
    return false;
  pthread_mutex_lock(&g->lock);
  bool there = prelux_dirty_any_below(g, t, folder) != NULL;
  pthread_mutex_unlock(&g->lock);
  return there;
}

static int move_one(struct prelux_stage *g, struct prelux_dirty *d, const char *from, const char *to, struct prelux_problem *why)
{
  char path[PRELUX_OBJECT_MAX + 1];
  if (snprintf(path, sizeof path, "%s%s", to, d->row.path + strlen(from)) >= (int)sizeof path)
    return prelux_problem(why, ENAMETOOLONG, "%.200s: the path gets too long", d->row.path);
  prelux_number_set(d->tree, path, d->shown, NULL);
  const struct new_name n = {.to = path, .base = d->row.base};
  return move_row(g, d, &n, why);
}

/* Waits for files that have been sent, and are just becoming cache files under their old names. True: there were some. stage.lock held. */
static bool await_settling(struct prelux_stage *g, const struct prelux_tree *t, const char *folder)
{
  size_t len = strlen(folder), i = 0;
  bool waited = false;
  while (i < g->slots)
  {
    struct prelux_dirty *d = g->by_ino[i];
    while (d && !(d->busy && d->tree == t && below(d->row.path, folder, len)))
      d = d->by_ino;
    i = d ? 0 : i + 1; /* the table may have changed while we wait */
    waited |= d != NULL;
    if (d && prelux_dirty_grab(g, d))
      prelux_dirty_release(g, d);
  }
  return waited;
}

void prelux_dirty_settle_below(struct prelux_tree *t, const char *folder)
{
  struct prelux_stage *g = t->store->stage;
  pthread_mutex_lock(&g->lock);
  await_settling(g, t, folder);
  pthread_mutex_unlock(&g->lock);
}

int prelux_dirty_move_below(struct prelux_tree *t, const char *from, const char *to, struct prelux_problem *why)
{
  struct prelux_stage *g = t->store->stage;
  int rc = 0;
  while (rc == 0)
  {
    pthread_mutex_lock(&g->lock);
    struct prelux_dirty *d = prelux_dirty_any_below(g, t, from);
    bool done = !d && !await_settling(g, t, from), mine = d && prelux_dirty_grab(g, d);
    bool moved = mine && !below(d->row.path, from, strlen(from)); /* while we waited */
    pthread_mutex_unlock(&g->lock);
    if (done)
      break;
    if (!mine)
      continue;
    if (!moved)
      rc = move_one(g, d, from, to, why);
    release(g, d);
  }
  return rc;
}
