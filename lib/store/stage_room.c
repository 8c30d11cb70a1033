/* The quota of staging: what waits to be sent must not fill the disk. Who opens for writing waits while senders make room, then gets ENOSPC; who
 * has a file open already is the kernel's matter (a full disk). */
#include <errno.h>
#include <time.h>

#include "lib/store/stage.h"

int prelux_stage_room(struct prelux_stage *g, struct prelux_problem *why)
{
  struct timespec until;
  uint64_t bytes = 0;
  int64_t end = prelux_store_wall() + g->room_wait_ns;
  int rc = 0;
  if (g->count == 0)
    return 0;
  pthread_mutex_lock(&g->lock);
  while ((bytes = g->waiting) >= g->room && rc != ETIMEDOUT)
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
