/* Small files that are closed in quick succession (tar x, a compiler, a checkout) would be sent while more of them are being written, by threads
 * that take the processors from who writes. So the senders of the background wait for a pause of the writers, PRELUX_PAUSE_NS; not longer than
 * `write_back` says, counted from the first close, and not while much waits. Whoever wants it on the remote (flush, the end of `run` and of the
 * daemon, an open that waits for room) hurries; who does something at once (a close of `sync`, a drain) never comes here. */
#include <time.h>

#include "lib/store/stage_lease.h"

/* stage.lock held. When senders may begin, CLOCK_MONOTONIC; 0: now. */
static uint64_t begins(const struct prelux_stage *g)
{
  uint64_t at = g->pause_ns < g->patience_ns ? g->pause_ns : g->patience_ns;
  return !g->ending && g->waiting < PRELUX_LINGER_BYTES && g->waiting < g->room && at > prelux_store_now() ? at : 0;
}

void prelux_stage_closed_just_now(struct prelux_stage *g, const struct prelux_write_rules *rules)
{
  uint64_t now = prelux_store_now();
  pthread_mutex_lock(&g->lock);
  if (g->patience_ns == 0 || now + rules->linger_ns < g->patience_ns)
    g->patience_ns = now + rules->linger_ns;
  g->pause_ns = now + g->pause_len_ns;
  if (begins(g) == 0)
    pthread_cond_broadcast(&g->go);
  pthread_mutex_unlock(&g->lock);
}

void prelux_stage_no_pause(struct prelux_stage *g)
{
  g->pause_ns = 0;
  if (prelux_order_count(g->order, NULL) > 0) /* and until these are sent others who go on writing make no pause of it */
    g->patience_ns = 1;
  pthread_cond_broadcast(&g->go);
}

void prelux_store_ending(struct prelux_store *s)
{
  struct prelux_stage *g = s->stage;
  if (!g)
    return;
  prelux_lease_stop(g);
  pthread_mutex_lock(&g->lock);
  g->ending = true;
  pthread_cond_broadcast(&g->go);
  pthread_mutex_unlock(&g->lock);
}

void prelux_stage_queue_done(struct prelux_stage *g)
{
  g->patience_ns = 0;
}

void prelux_stage_linger(struct prelux_stage *g)
{
  for (uint64_t at; (at = begins(g)) != 0;)
  {
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000u), .tv_nsec = (long)(at % 1000000000u)};
    pthread_cond_timedwait(&g->go, &g->lock, &until);
  }
}

bool prelux_stage_lingers(const struct prelux_stage *g)
{
  return begins(g) != 0;
}
