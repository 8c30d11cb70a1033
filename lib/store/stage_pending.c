/* What the node owes the remote, for people: told, tried again, given up. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/os.h"
#include "lib/store/deferred.h"

struct telling {
  struct prelux_stage *g;
  int (*fn)(void *arg, const struct prelux_owed *o);
  void *arg;
};

static struct prelux_tree *tree_of(struct prelux_store *s, int64_t id)
{
  pthread_mutex_lock(&s->lock);
  struct prelux_tree *t = s->trees;
  while (t && atomic_load(&t->owed_id) != id)
    t = t->next;
  pthread_mutex_unlock(&s->lock);
  return t;
}

/* What memory knows better than the journal: who works on it, how far. */
static void look_closer(struct prelux_stage *g, const struct prelux_pending *row, struct prelux_owed *o)
{
  struct stat st;
  char name[24];
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_id(g, row->id);
  if (d)
  {
    o->next_ns = d->row.next_ns;
    o->sent = atomic_load(&d->sent);
    if (d->busy && d->row.state == PRELUX_PENDING_READY)
      o->state = PRELUX_OWED_SENDING;
    else if (d->row.state == PRELUX_PENDING_READY && o->state == PRELUX_OWED_OPEN) /* since the row was read */
      o->state = PRELUX_OWED_WAITING;
    o->settling = d->busy && d->settling;
  }
  const struct prelux_deferred *n = d ? NULL : prelux_deferred_by_id(g, row->id);
  if (n && n->decides)
  {
    o->next_ns = n->row.next_ns;
    o->state = n->busy ? PRELUX_OWED_SENDING : PRELUX_OWED_WAITING;
  }
  pthread_mutex_unlock(&g->lock);
  int folder = prelux_stage_name(g, row->ino, name);
  if (row->intent == PRELUX_INTENT_PUT && prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    o->size = (uint64_t)st.st_size;
}

/* A remote that no configuration in use has: which one. */
static void tell_away(struct prelux_stage *g, const struct prelux_pending *row, struct prelux_owed *o, char *buf, size_t cap)
{
  char identity[PRELUX_IDENTITY_MAX] = "?";
  if (o->state == PRELUX_OWED_OPEN || o->state == PRELUX_OWED_WAITING)
    o->state = PRELUX_OWED_AWAY;
  prelux_journal_identity(g->journal, row->tree, identity, sizeof identity);
  snprintf(buf, cap, "its remote is in no configuration in use: %s%s%s", identity, row->cause ? "; " : "", row->cause ? row->cause : "");
  o->cause = buf;
}

static int tell(void *arg, const struct prelux_pending *row)
{
  char cause[PRELUX_IDENTITY_MAX + 1024];
  static const enum prelux_owed_state states[] = {[PRELUX_PENDING_WRITING] = PRELUX_OWED_OPEN,
                                                  [PRELUX_PENDING_READY] = PRELUX_OWED_WAITING,
                                                  [PRELUX_PENDING_REFUSED] = PRELUX_OWED_REFUSED,
                                                  [PRELUX_PENDING_RECOVERED] = PRELUX_OWED_RECOVERED};
  struct telling *t = arg;
  bool put = row->intent == PRELUX_INTENT_PUT;
  struct prelux_owed o = {.id = row->id, .tree = tree_of(t->g->store, row->tree), .intent = row->intent, .path = row->path, .to = row->to,
                          .cause = row->cause, .size = put ? row->size : 0, .ino = put ? row->ino : 0, .made_ns = row->made_ns, .next_ns = row->next_ns,
                          .tries = row->tries, .err = row->err};
  o.state = row->state < sizeof states / sizeof *states ? states[row->state] : PRELUX_OWED_RECOVERED;
  if (!o.tree)
    tell_away(t->g, row, &o, cause, sizeof cause);
  look_closer(t->g, row, &o);
  return t->fn(t->arg, &o);
}

int prelux_store_owed(struct prelux_store *s, int (*fn)(void *arg, const struct prelux_owed *o), void *arg)
{
  struct telling t = {.g = s->stage, .fn = fn, .arg = arg};
  return s->stage ? prelux_journal_each(s->stage->journal, tell, &t) : 0;
}

void prelux_store_owed_sum(struct prelux_store *s, struct prelux_owed_sum *ret)
{
  struct prelux_stage *g = s->stage;
  *ret = (struct prelux_owed_sum){0};
  if (!g)
    return;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots; i++)
    for (const struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
    {
      ret->files[d->row.state == PRELUX_PENDING_WRITING   ? PRELUX_OWED_OPEN
                 : d->row.state == PRELUX_PENDING_REFUSED ? PRELUX_OWED_REFUSED
                 : d->row.state == PRELUX_PENDING_READY   ? PRELUX_OWED_WAITING
                                                          : PRELUX_OWED_RECOVERED]++;
      ret->bytes += d->row.state == PRELUX_PENDING_READY ? d->row.size : 0;
    }
  for (const struct prelux_deferred *n = g->names; n; n = n->next)
    ret->files[n->decides ? PRELUX_OWED_WAITING : PRELUX_OWED_REFUSED]++;
  ret->sent = g->sent;
  ret->failed = g->failed;
  pthread_mutex_unlock(&g->lock);
}

bool prelux_store_owes(struct prelux_store *s)
{
  struct prelux_owed_sum sum;
  if (!s->stage || (s->stage->count == 0 && s->stage->n_names == 0))
    return false;
  prelux_store_owed_sum(s, &sum);
  return sum.files[PRELUX_OWED_OPEN] + sum.files[PRELUX_OWED_WAITING] > 0;
}

int prelux_store_owed_state(const struct prelux_view *v, const char *object)
{
  struct prelux_stage *g = v->tree->store->stage;
  if (!g || g->count == 0)
    return -ENOENT;
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_path(g, v->tree, object);
  int state = !d ? -ENOENT : d->row.state == PRELUX_PENDING_WRITING ? PRELUX_OWED_OPEN : d->busy ? PRELUX_OWED_SENDING : PRELUX_OWED_WAITING;
  pthread_mutex_unlock(&g->lock);
  return state;
}

void prelux_store_hurry(struct prelux_store *s)
{
  struct prelux_stage *g = s->stage;
  if (!g)
    return;
  pthread_mutex_lock(&g->lock);
  prelux_stage_no_pause(g);
  for (size_t i = 0; i < g->slots; i++)
    for (struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      if (!d->busy) /* else its row is somebody else's to read and write; who waits hurries again */
        d->row.next_ns = 0;
  for (struct prelux_deferred *n = g->names; n; n = n->next)
    if (!n->busy)
      n->row.next_ns = 0;
  pthread_mutex_unlock(&g->lock);
}

/* The row, made the caller's. NULL: none that is known. */
static struct prelux_dirty *take(struct prelux_store *s, int64_t id, struct prelux_problem *why, int *ret)
{
  struct prelux_dirty *d = s->stage ? prelux_dirty_take_id(s->stage, id) : NULL;
  *ret = d ? 0 : prelux_problem(why, ENOENT, "nothing of that number waits, or its remote is not in use now");
  return d;
}

static int again(struct prelux_stage *g, struct prelux_dirty *d, bool overwrite, struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  bool hidden = next.state == PRELUX_PENDING_REFUSED || next.state == PRELUX_PENDING_RECOVERED;
  if (next.state == PRELUX_PENDING_WRITING)
    return prelux_problem(why, EBUSY, "%.200s is still open for writing", prelux_dirty_name(d));
  if (!next.path)
    return prelux_problem(why, EINVAL, "it has no name");
  if (!next.ino)
    return prelux_problem(why, ENODATA, "%.200s: %s", next.path, next.cause ? next.cause : "its bytes are lost");
  if (hidden && prelux_stage_has(d->tree, next.path, strlen(next.path)))
    return prelux_problem(why, EBUSY, "%.200s is being written anew", next.path);
  if (next.state == PRELUX_PENDING_RECOVERED) /* the row may be from before its writer wrote */
  {
    struct stat st;
    char name[24];
    int folder = prelux_stage_name(g, next.ino, name);
    if (prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
      return prelux_problem(why, errno, "staging file of %.200s: %s", next.path, strerror(errno));
    next.size = (uint64_t)st.st_size;
    next.mtime_ns = prelux_stat_mtime(&st);
  }
  next.state = PRELUX_PENDING_READY;
  next.next_ns = 0;
  next.flags |= overwrite ? PRELUX_PENDING_FORCE : 0;
  int rc = prelux_stage_journal_name(g, d, &next);
  if (rc < 0)
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  pthread_mutex_lock(&g->lock);
  if (next.id != d->row.id && d->queued)
    d->queued = !prelux_order_remove(g->order, d->row.id);
  prelux_dirty_renumber(g, d, &next);
  pthread_mutex_unlock(&g->lock);
  if (hidden)
    prelux_live_again(g, d);
  return prelux_stage_enqueue(g, d);
}

int prelux_store_retry(struct prelux_store *s, int64_t id, bool overwrite, struct prelux_problem *why)
{
  int rc = s->stage ? prelux_deferred_retry(s->stage, id, why) : -ENOENT;
  if (rc != -ENOENT)
    return rc;
  struct prelux_dirty *d = take(s, id, why, &rc);
  if (!d)
    return rc;
  rc = again(s->stage, d, overwrite, why);
  prelux_dirty_give(s->stage, d);
  return rc;
}

struct searching {
  struct prelux_store *s;
  int64_t id;
  uint64_t ino; /* of its staging file, if it has one */
  bool found;
};

static int is_away(void *arg, const struct prelux_pending *row)
{
  struct searching *w = arg;
  if (row->id != w->id || tree_of(w->s, row->tree))
    return 0;
  w->found = true;
  w->ino = row->intent == PRELUX_INTENT_PUT ? row->ino : 0;
  return 0;
}

/* A row that nobody has taken up; stage_lock held, so nobody does meanwhile. */
static int drop_away(struct prelux_store *s, int64_t id)
{
  struct searching w = {.s = s, .id = id};
  struct prelux_pending gone = {.id = id};
  char name[24];
  int rc = s->stage ? prelux_journal_each(s->stage->journal, is_away, &w) : 0;
  if (rc == 0 && !w.found)
    rc = -ENOENT;
  if (rc == 0)
    rc = prelux_stage_journal(s->stage, PRELUX_EDIT_DROP, &gone);
  if (rc < 0)
    return rc;
  int folder = prelux_stage_name(s->stage, w.ino, name);
  if (w.ino)
    prelux_os.unlinkat(folder, name, 0); /* left behind by a failure it goes to recovered/ at the next start */
  return 0;
}

int prelux_store_drop(struct prelux_store *s, int64_t id, struct prelux_problem *why)
{
  int rc = s->stage ? prelux_deferred_drop(s->stage, id, why) : -ENOENT;
  if (rc != -ENOENT)
    return rc;
  pthread_mutex_lock(&s->stage_lock);
  bool dropped = drop_away(s, id) == 0;
  pthread_mutex_unlock(&s->stage_lock);
  struct prelux_dirty *d = dropped ? NULL : take(s, id, why, &rc);
  if (!d)
    return dropped ? 0 : rc;
  if (d->row.state == PRELUX_PENDING_WRITING)
    rc = prelux_problem(why, EBUSY, "%.200s is still open for writing", prelux_dirty_name(d));
  else if ((rc = prelux_stage_discard(s->stage, d)) < 0)
    prelux_problem(why, -rc, "journal of %s: %s", s->dir, strerror(-rc));
  if (rc < 0)
    prelux_dirty_give(s->stage, d);
  return rc;
}

void prelux_store_hear(struct prelux_store *s, prelux_refused_fn fn, void *arg)
{
  pthread_mutex_lock(&s->stage_lock);
  s->refused_arg = arg;
  s->refused_fn = fn;
  pthread_mutex_unlock(&s->stage_lock);
}
