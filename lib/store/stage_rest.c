/* A file that is written again and again, as a log is, and sent each time: the work would grow with the square of its length, and each open would
 * wait for a send. So what was sent a moment ago rests: sending takes at most one part in PRELUX_REST_TIMES + 1 of the time. Whoever wants it on
 * the remote (flush, the end of `run`, the end of the daemon) hurries, and does not wait for that. */
#include <string.h>

#include "lib/store/stage.h"

static struct prelux_rest *place(struct prelux_stage *g, const struct prelux_dirty *d, uint64_t *ret_path)
{
  *ret_path = prelux_store_hash(d->row.path, strlen(d->row.path), (uint64_t)d->tree->id);
  return &g->rests[*ret_path % PRELUX_RESTS];
}

void prelux_stage_rest(struct prelux_stage *g, const struct prelux_dirty *d, uint64_t begun_ns)
{
  uint64_t path, now = prelux_store_now(), cost = now - begun_ns;
  uint64_t rest = cost < PRELUX_REST_MAX_NS / PRELUX_REST_TIMES ? cost * g->rest_times : g->rest_times ? PRELUX_REST_MAX_NS : 0;
  pthread_mutex_lock(&g->lock);
  *place(g, d, &path) = (struct prelux_rest){.path = path, .until_ns = now + rest};
  pthread_mutex_unlock(&g->lock);
}

int64_t prelux_stage_rests(struct prelux_stage *g, const struct prelux_dirty *d)
{
  uint64_t path, now = prelux_store_now();
  pthread_mutex_lock(&g->lock);
  const struct prelux_rest *r = place(g, d, &path);
  int64_t left = r->path == path && r->until_ns > now ? (int64_t)(r->until_ns - now) : 0;
  pthread_mutex_unlock(&g->lock);
  return left ? prelux_store_wall() + left : 0;
}
