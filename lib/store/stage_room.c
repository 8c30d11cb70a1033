/* The quota of staging: what waits to be sent must not fill the disk. Who opens for writing waits while senders make room, then gets ENOSPC; who
 * has a file open already is the kernel's matter (a full disk). */
#include <errno.h>
#include <time.h>

#include "lib/store/stage.h"

/* stage.lock held. Files that are open count as they were when they were opened or sent last. */
static uint64_t waiting_bytes(const struct prelux_stage *g)
{
  uint64_t bytes = 0;
  for (size_t i = 0; i < g->slots; i++)
    for (const struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      if (d->row.state != PRELUX_PENDING_WRITING)
        bytes += d->row.size;
  return bytes;
}

int prelux_stage_room(struct prelux_stage *g, struct prelux_problem *why)
{
  struct timespec until;
  uint64_t bytes = 0;
  int64_t end = prelux_store_wall() + g->room_wait_ns;
  int rc = 0;
  if (g->count == 0)
    return 0;
  pthread_mutex_lock(&g->lock);
  while ((bytes = waiting_bytes(g)) >= g->room && rc != ETIMEDOUT)
  {
    until = (struct timespec){.tv_sec = end / 1000000000, .tv_nsec = end % 1000000000};
    rc = pthread_cond_timedwait(&g->changed, &g->lock, &until);
  }
  pthread_mutex_unlock(&g->lock);
  if (bytes < g->room)
    return 0;
  return prelux_problem(why, ENOSPC, "%llu bytes wait to be sent, %llu may (cache.staging): see `prelux pending list`", (unsigned long long)bytes,
                        (unsigned long long)g->room);
}
