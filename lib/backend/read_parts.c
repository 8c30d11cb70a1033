/* A large read in parts, several at once (parallel.c). Each part is a read of its own: its answers are checked as those of any other, so a
 * version that changes between two parts is seen by the first head that tells the new one. A version that may have been followed by
 * another one of the same name, within the second of a server that counts in seconds, is read in one answer. */
#include <errno.h>
#include <string.h>

#include "lib/backend/read_on.h"

#define WORTH (16u << 20) /* bytes from which on parts are asked for */

struct reading
{
  struct prelux_parallel_job job; /* first */
  struct prelux_read_on *on;
  atomic_bool stop, whole_came;
};

bool prelux_read_on_worth(const struct prelux_read_on *r)
{
  return r->parallel && r->parts && r->expect && r->end - r->pos >= WORTH && !strchr(r->expect->version, '~') &&
         !atomic_load_explicit(&r->parallel->whole_only, memory_order_relaxed);
}

static size_t cut(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ends, size_t max)
{
  uint64_t part = prelux_parallel_part(job->pool);
  size_t n = 0;
  for (uint64_t pos = off; pos < end && n < max; pos = ends[n++])
    ends[n] = end - pos > part ? pos + part : end;
  return n;
}

static int fetch(const struct prelux_parallel_job *job, struct prelux_parallel_part *part, prelux_read_fn sink, void *arg,
                 struct prelux_problem *why)
{
  struct reading *all = (struct reading *)job;
  struct prelux_read_on one = *all->on;
  one.pos = one.place_from = part->from;
  one.end = part->to;
  one.sink = sink;
  one.arg = arg;
  one.why = why;
  one.place = part->buf;
  one.over = part->over;
  int rc = prelux_read_on_single(&one);
  part->got = one.pos - part->from;
  if (one.whole_came)
    atomic_store(&all->whole_came, true);
  return rc;
}

static int pass(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct prelux_read_on *r = arg;
  int rc = r->sink(r->arg, off, buf, len);
  if (rc == 0)
    r->pos = off + len;
  return rc;
}

int prelux_read_on_parts(struct prelux_read_on *r)
{
  uint64_t from = r->pos;
  bool whole = prelux_read_on_whole(r);
  struct prelux_read_on shared = *r; /* parts copy it while r->pos moves */
  struct reading all = {.on = &shared};
  all.job = (struct prelux_parallel_job){.pool = r->parallel, .cut = cut, .fetch = fetch, .stop = &all.stop, .hedge = true};
  int rc = prelux_parallel_read(&all.job, from, r->end, pass, r, r->why);
  if (!atomic_load(&all.whole_came))
    return rc;
  atomic_store_explicit(&r->parallel->whole_only, true, memory_order_relaxed);
  return rc < 0 && whole && r->pos == from ? 1 : rc;
}
