#include "daemon/crew.h"

#include <stdlib.h>

struct worker {
  struct prelux_job job;
  struct prelux_crew *crew;
};

void prelux_crew_init(struct prelux_crew *crew)
{
  pthread_mutex_init(&crew->lock, NULL);
  crew->active = 0;
}

void prelux_crew_release(struct prelux_crew *crew)
{
  pthread_mutex_destroy(&crew->lock);
}

static void run(struct prelux_job *job)
{
  struct prelux_crew *crew = ((struct worker *)job)->crew;
  while (crew->step(crew))
    ;
}

/* A worker that adds work calls others before it leaves, so who is last leaves nothing behind. */
static void leave(struct prelux_job *job)
{
  struct prelux_crew *crew = ((struct worker *)job)->crew;
  free(job);
  pthread_mutex_lock(&crew->lock);
  bool last = --crew->active == 0;
  pthread_mutex_unlock(&crew->lock);
  if (last)
    crew->end(crew);
}

bool prelux_crew_call(struct prelux_crew *crew)
{
  pthread_mutex_lock(&crew->lock);
  bool room = crew->active < crew->limit;
  crew->active += room;
  pthread_mutex_unlock(&crew->lock);
  if (!room)
    return false;
  struct worker *w = calloc(1, sizeof *w);
  if (w)
  {
    w->job = (struct prelux_job){.run = run, .after = leave, .lane = crew->lane};
    w->crew = crew;
    if (prelux_pool_submit(crew->pool, &w->job) == 0)
      return true;
    free(w);
  }
  pthread_mutex_lock(&crew->lock);
  crew->active--;
  pthread_mutex_unlock(&crew->lock);
  return false;
}
