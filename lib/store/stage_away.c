/* A remote that does not answer. Whoever writes asynchronously does without it: what is remembered of a name, however old, is enough to begin
 * from, because the put says on what it was made, and a conflict is told then. Without anything remembered the open fails as any other.
 *
 * A remote counts as away from a failure on, be it of a look or of a send, until something succeeds, or for PRELUX_AWAY_NS: then the
 * next open asks again. While files wait their senders find out. */
#include <errno.h>
#include <string.h>

#include "lib/store/deferred.h"

static bool trouble(int rc)
{
  return rc == -EIO || rc == -ETIMEDOUT || rc == -EKEYEXPIRED || rc == -PRELUX_EUNKNOWN;
}

void prelux_stage_heard(struct prelux_tree *t, int rc)
{
  if (rc >= 0)
    atomic_store(&t->away_ns, 0);
  else if (trouble(rc))
    atomic_store(&t->away_ns, prelux_store_now());
}

/* Each row waits for up to a minute after a long outage. One that fails now and then only, as under too much load, is left its time. */
void prelux_stage_took(struct prelux_stage *g, struct prelux_tree *t)
{
  uint64_t now = prelux_store_now();
  if (now - atomic_exchange(&t->sent_ns, now) < PRELUX_RESUME_NS)
    return;
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots; i++)
    for (struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      if (d->tree == t && !d->busy && d->row.tries)
        d->row.next_ns = 0;
  for (struct prelux_deferred *n = g->names; n; n = n->next)
    if (n->tree == t && !n->busy && n->row.tries)
      n->row.next_ns = 0;
  pthread_mutex_unlock(&g->lock);
}

bool prelux_stage_away(struct prelux_tree *t)
{
  uint64_t since = atomic_load(&t->away_ns);
  return since && prelux_store_now() - since < PRELUX_AWAY_NS;
}

/* What memory has of it, of whatever age. makes: a name of which nothing is known, in a folder that is, is taken for a new one. False: nothing. */
static bool remembered(const struct prelux_view *v, const char *object, bool makes, struct prelux_known *ret)
{
  struct prelux_known parent;
  size_t len = strlen(object);
  pthread_mutex_lock(&v->tree->store->lock);
  bool have = prelux_memory_get(v->tree, object, len, ret);
  if (!have && makes && prelux_memory_get(v->tree, object, prelux_object_parent(object, len), &parent) && parent.obj.type == PRELUX_DIR)
  {
    *ret = (struct prelux_known){.obj.type = PRELUX_NONE};
    have = true;
  }
  pthread_mutex_unlock(&v->tree->store->lock);
  return have;
}

int prelux_stage_ask(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, unsigned how, struct prelux_known *ret,
                     struct prelux_problem *why)
{
  struct prelux_known old;
  struct prelux_problem mine = {0};
  bool row = prelux_deferred_known(v->tree, object, strlen(object), &old); /* what it says needs no remote */
  if (!row && (how & PRELUX_ASK_NEW) && !(how & PRELUX_ASK_AGAIN) && prelux_list_lacks(v, object))
    return prelux_problem(why, ENOENT, "%.200s is new", object);
  bool makes = how & PRELUX_ASK_MAKES, have = !row && rules->async && prelux_stage_away(v->tree) && remembered(v, object, makes, &old);
  uint64_t begun = prelux_store_now();
  int rc = have ? 0 : prelux_fresh_get(v, object, 0, how & PRELUX_ASK_AGAIN, ret, &mine);
  if (!have && trouble(rc))
    prelux_stage_heard(v->tree, rc);
  else if (!have && !row && rc == 0 && ret->learned_ns >= begun)
    prelux_stage_heard(v->tree, 0);
  if (!have && rules->async && trouble(rc))
    have = remembered(v, object, makes, &old);
  if (have && old.obj.type == PRELUX_NONE)
    return prelux_problem(why, ENOENT, "%.200s was not there when the remote was heard last", object);
  if (have)
    *ret = old;
  else if (rc < 0 && why)
    *why = mine;
  return have ? 0 : rc;
}
