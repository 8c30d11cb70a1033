/* A crew: several pool threads at one list of work that may grow while they work. */
#ifndef PRELUX_DAEMON_CREW_H
#define PRELUX_DAEMON_CREW_H

#include <pthread.h>
#include <stdbool.h>

#include "daemon/pool.h"

struct prelux_crew {
  struct prelux_pool *pool;
  uint32_t lane;
  unsigned limit;                           /* workers at once */
  bool (*step)(struct prelux_crew *crew);   /* one piece of work; false: there is none now */
  void (*end)(struct prelux_crew *crew);    /* the last worker has left: nothing of the crew is used afterwards */
  pthread_mutex_t lock;                     /* guards `active`; the user's own data too, if it likes */
  unsigned active;
};

/* Fills the members above first. */
void prelux_crew_init(struct prelux_crew *crew);
void prelux_crew_release(struct prelux_crew *crew);
/* Starts one worker more, unless there are `limit`. From a step, or (once) by who starts the crew. False: none could be
 * started. */
bool prelux_crew_call(struct prelux_crew *crew);

#endif
