/* Writing, as the store offers it: see store.h. */
#include "lib/base/os.h"
#include "lib/store/deferred.h"
#include "lib/store/stage_lease.h"

int prelux_store_writable(struct prelux_store *s, struct prelux_problem *why)
{
  int rc = 0;
  pthread_mutex_lock(&s->stage_lock);
  if (!s->stage)
  {
    struct prelux_stage *g;
    rc = prelux_stage_create(s, &g, why);
    pthread_mutex_lock(&s->lock);
    for (struct prelux_tree *t = rc == 0 ? s->trees : NULL; t; t = t->next)
      t->taken_up = t->backend != NULL; /* in use already: nothing was left of it, for a journal from before is opened before all trees */
    if (rc == 0)
      s->stage = g;
    pthread_mutex_unlock(&s->lock);
  }
  pthread_mutex_unlock(&s->stage_lock);
  return rc;
}

int prelux_store_open_write(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, int flags,
                            uint32_t mode, const struct prelux_asker *by, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why)
{
  int rc = prelux_store_writable(v->tree->store, why);
  return rc < 0 ? rc : prelux_stage_open_by(v->tree->store->stage, v, rules, object, flags, mode, by, ret, ret_fd, why);
}

int prelux_store_closed(struct prelux_store *s, const struct prelux_write_rules *rules, uint64_t ino, struct prelux_problem *why)
{
  return s->stage ? prelux_stage_closed(s->stage, ino, rules, why) : 0;
}

void prelux_store_writer(struct prelux_store *s, uint64_t ino, int pid, int pidfd)
{
  if (s->stage)
    prelux_crash_writer(s->stage, ino, pid, pidfd);
  else if (pidfd >= 0)
    prelux_os.close(pidfd);
}

void prelux_store_closing(struct prelux_store *s, uint64_t ino, bool begins)
{
  if (s->stage)
    prelux_crash_closing(s->stage, ino, begins);
}

void prelux_store_handing(struct prelux_store *s, uint64_t ino, bool begins)
{
  if (s->stage)
    prelux_crash_handing(s->stage, ino, begins);
}

int prelux_store_sync(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                      struct prelux_problem *why)
{
  struct prelux_stage *g = v->tree->store->stage;
  return g ? prelux_fsync(g, v, rules, ino, object, why) : 0;
}

void prelux_store_left(struct prelux_store *s, uint64_t ino)
{
  if (s->stage)
    prelux_stage_left(s->stage, ino);
}

bool prelux_store_lease_stop(struct prelux_store *s)
{
  return !s->stage || prelux_lease_stop(s->stage);
}

void prelux_store_lefts(struct prelux_store *s)
{
  if (s->stage)
    prelux_left_settle(s->stage);
}

void prelux_store_poll(struct prelux_store *s)
{
  if (s->stage)
    prelux_stage_poll(s->stage);
}

bool prelux_store_wants_spares(struct prelux_store *s)
{
  return s->stage && prelux_spare_wanted(s->stage);
}

bool prelux_store_in_burst(struct prelux_store *s)
{
  return s->stage && prelux_spare_burst(s->stage);
}

void prelux_store_make_spares(struct prelux_store *s)
{
  prelux_spare_make(s->stage);
}

/* ---- senders ---- */

bool prelux_store_wants_sender(struct prelux_store *s)
{
  struct prelux_stage *g = s->stage;
  size_t blocked, all;
  if (!g || (g->count == 0 && g->n_names == 0))
    return false;
  pthread_mutex_lock(&g->lock);
  g->kicks++;
  bool placed = prelux_deferred_placed(g);
  all = prelux_order_count(g->order, &blocked);
  bool more = placed && g->senders < (prelux_stage_lingers(g) ? 1 : PRELUX_SENDERS_MAX) && all - blocked > g->senders;
  g->senders += more;
  pthread_mutex_unlock(&g->lock);
  return more;
}

void prelux_store_no_sender(struct prelux_store *s)
{
  pthread_mutex_lock(&s->stage->lock);
  s->stage->senders--;
  pthread_mutex_unlock(&s->stage->lock);
}

void prelux_store_linger(struct prelux_store *s)
{
  struct prelux_stage *g = s->stage;
  pthread_mutex_lock(&g->lock);
  prelux_stage_linger(g);
  pthread_mutex_unlock(&g->lock);
}

int64_t prelux_store_send_all(struct prelux_store *s)
{
  struct prelux_stage *g = s->stage;
  int64_t next = 0;
  pthread_mutex_lock(&g->lock);
  for (uint64_t seen = g->kicks - 1; seen != g->kicks;) /* what came in behind the last look would wait for the next one who asks */
  {
    seen = g->kicks;
    for (int more = 1; more == 1;)
    {
      prelux_stage_linger(g);
      pthread_mutex_unlock(&g->lock);
      more = prelux_stage_work(g, &next);
      pthread_mutex_lock(&g->lock);
    }
    prelux_stage_queue_done(g);
  }
  g->senders--;
  pthread_mutex_unlock(&g->lock);
  return next;
}
