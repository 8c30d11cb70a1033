/* The thread that looks at files that grow (stage_grow.c) and gives up uploads that nobody completes (stage_lost.c). It begins when a file is opened
 * for writing, and sleeps while there is nothing to look at. */
#include <time.h>

#include "lib/store/stage.h"

#define LOOK_MS 40 /* from a look that found nothing to the next; twice as long each time. None when something was sent */
#define LOOK_MAX_MS 1000
#define LOOK_SHARE 20 /* a look that takes long is not made more often than this part of the time */

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000ll + t.tv_nsec / 1000000;
}

static void wait_ms(struct prelux_stage *g, int64_t ms)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  t.tv_nsec += ms % 1000 * 1000000;
  t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&g->grower.wake, &g->lock, &t);
}

static void *watch(void *arg)
{
  struct prelux_stage *g = arg;
  struct prelux_grower *r = &g->grower;
  int64_t every = LOOK_MS;
  size_t n = 1;
  pthread_mutex_lock(&g->lock);
  while (!r->ending)
  {
    r->idle = n == 0 && !r->kicked && !r->files && !r->lost;
    if (r->idle)
      pthread_cond_wait(&r->wake, &g->lock);
    every = r->kicked ? LOOK_MS : every;
    r->idle = every > LOOK_MS; /* whoever begins to write now need not wait that long */
    if (!r->ending && every)
      wait_ms(g, every);
    r->idle = r->kicked = false;
    pthread_mutex_unlock(&g->lock);
    int64_t begun = now_ms();
    bool more = prelux_grow_round(g, &n);
    int64_t took = more ? 0 : (now_ms() - begun) * LOOK_SHARE;
    every = more ? 0 : every == 0 ? LOOK_MS : every * 2 < LOOK_MAX_MS ? every * 2 : LOOK_MAX_MS;
    every = every > took ? every : took;
    pthread_mutex_lock(&g->lock);
  }
  pthread_mutex_unlock(&g->lock);
  return NULL;
}

/* stage.lock held. */
static void start(struct prelux_stage *g)
{
  struct prelux_grower *r = &g->grower;
  if (!r->running && !r->ending && !r->by_hand)
  {
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512u << 10);
    r->running = pthread_create(&r->thread, &attr, watch, g) == 0;
    pthread_attr_destroy(&attr);
  }
}

void prelux_grow_wake(struct prelux_stage *g)
{
  start(g);
  pthread_cond_signal(&g->grower.wake);
}

void prelux_grow_kick(struct prelux_stage *g)
{
  struct prelux_grower *r = &g->grower;
  pthread_mutex_lock(&g->lock);
  r->kicked = true;
  start(g);
  if (r->idle)
    pthread_cond_signal(&r->wake);
  r->idle = false;
  pthread_mutex_unlock(&g->lock);
}

void prelux_grow_init(struct prelux_stage *g)
{
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&g->grower.wake, &attr);
  pthread_condattr_destroy(&attr);
  g->grower.not = PRELUX_CAP_MKDIR;
}

void prelux_grow_end(struct prelux_stage *g)
{
  struct prelux_grower *r = &g->grower;
  pthread_mutex_lock(&g->lock);
  r->ending = true;
  bool running = r->running;
  r->running = false;
  pthread_cond_signal(&r->wake);
  pthread_mutex_unlock(&g->lock);
  if (running)
    pthread_join(r->thread, NULL);
}
