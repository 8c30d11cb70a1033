/* Jobs wait in lanes (FIFO each); a thread takes the next lane, round robin, that has work and is below its share. So a
 * backend that hangs fills its own lane and no other, and one busy configuration cannot starve the rest. Threads are
 * started when work waits and nobody is idle, and leave after a while without work. */
#include "daemon/lanes.h"
#include "daemon/pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_SECONDS 30

struct lane {
  struct prelux_job *first, **last;
  unsigned running;
};

struct prelux_pool {
  struct prelux_pool_opts opts;
  pthread_mutex_t lock;
  pthread_cond_t work, gone;
  struct lane lanes[PRELUX_LANES];
  unsigned turn;
  unsigned threads, idle, queued, running;
  uint64_t done;
  bool ending;
};

static unsigned share(const struct prelux_pool *p, unsigned lane)
{
  return p->opts.aside_threads && lane == p->opts.aside_lane ? p->opts.aside_threads : p->opts.lane_threads;
}

static struct prelux_job *take(struct prelux_pool *p, unsigned *ret_lane)
{
  for (unsigned i = 0; i < PRELUX_LANES && p->queued; i++)
  {
    unsigned at = (p->turn + i) % PRELUX_LANES;
    struct lane *l = &p->lanes[at];
    if (!l->first || (l->running >= share(p, at) && !p->ending))
      continue;
    struct prelux_job *job = l->first;
    l->first = job->next;
    if (!l->first)
      l->last = &l->first;
    job->next = NULL;
    p->queued--;
    p->turn = at + 1;
    *ret_lane = at;
    return job;
  }
  return NULL;
}

/* With the lock held. False: this thread has been idle long enough and is one too many. */
static bool wait_for_work(struct prelux_pool *p)
{
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += IDLE_SECONDS;
  p->idle++;
  int ret = pthread_cond_timedwait(&p->work, &p->lock, &until);
  p->idle--;
  return ret != ETIMEDOUT || p->threads <= p->opts.min_threads || p->queued;
}

static void *worker(void *arg)
{
  struct prelux_pool *p = arg;
  unsigned lane = 0;
  pthread_mutex_lock(&p->lock);
  for (;;)
  {
    struct prelux_job *job = take(p, &lane);
    if (!job)
    {
      if (p->ending || !wait_for_work(p))
        break;
      continue;
    }
    p->lanes[lane].running++;
    p->running++;
    job->dropped = p->ending;
    pthread_mutex_unlock(&p->lock);
    if (!job->dropped)
      job->run(job);
    job->after(job);
    pthread_mutex_lock(&p->lock);
    p->lanes[lane].running--;
    p->running--;
    p->done++;
    if (p->queued && p->idle) /* a lane that was at its share may go on */
      pthread_cond_signal(&p->work);
  }
  p->threads--;
  pthread_cond_signal(&p->gone);
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

/* With the lock held. */
static int start_thread(struct prelux_pool *p)
{
  pthread_attr_t attr;
  pthread_t id;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (p->opts.stack)
    pthread_attr_setstacksize(&attr, p->opts.stack);
  int ret = pthread_create(&id, &attr, worker, p);
  pthread_attr_destroy(&attr);
  if (ret == 0)
    p->threads++;
  return -ret;
}

int prelux_pool_create(const struct prelux_pool_opts *opts, struct prelux_pool **ret)
{
  struct prelux_pool *p = calloc(1, sizeof *p);
  pthread_condattr_t attr;
  if (!p)
    return -ENOMEM;
  p->opts = *opts;
  pthread_mutex_init(&p->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&p->work, &attr);
  pthread_cond_init(&p->gone, &attr);
  pthread_condattr_destroy(&attr);
  for (unsigned i = 0; i < PRELUX_LANES; i++)
    p->lanes[i].last = &p->lanes[i].first;
  int err = 0;
  pthread_mutex_lock(&p->lock);
  for (unsigned i = 0; i < opts->min_threads && err == 0; i++)
    err = start_thread(p);
  err = p->threads ? 0 : err;
  pthread_mutex_unlock(&p->lock);
  if (err < 0)
  {
    prelux_pool_free(p);
    return err;
  }
  *ret = p;
  return 0;
}

void prelux_pool_free(struct prelux_pool *p)
{
  unsigned lane;
  if (!p)
    return;
  pthread_mutex_lock(&p->lock);
  p->ending = true;
  pthread_cond_broadcast(&p->work);
  while (p->threads)
    pthread_cond_wait(&p->gone, &p->lock);
  for (struct prelux_job *job; (job = take(p, &lane));)
  {
    job->dropped = true;
    job->after(job);
  }
  pthread_mutex_unlock(&p->lock);
  pthread_cond_destroy(&p->work);
  pthread_cond_destroy(&p->gone);
  pthread_mutex_destroy(&p->lock);
  free(p);
}

int prelux_pool_submit(struct prelux_pool *p, struct prelux_job *job)
{
  int ret = 0;
  pthread_mutex_lock(&p->lock);
  if (p->ending)
    ret = -ESHUTDOWN;
  else if (p->queued >= p->opts.max_queue)
    ret = -EAGAIN;
  else
  {
    struct lane *l = &p->lanes[job->lane % PRELUX_LANES];
    job->next = NULL;
    *l->last = job;
    l->last = &job->next;
    p->queued++;
    if (p->idle < p->queued && p->threads < p->opts.max_threads)
      start_thread(p); /* failure: the job waits for the threads there are */
  }
  pthread_mutex_unlock(&p->lock);
  if (ret == 0) /* not before: who wakes would wait for the lock at once. The pool is not freed under who submits */
    pthread_cond_signal(&p->work);
  return ret;
}

void prelux_pool_stats(struct prelux_pool *p, struct prelux_pool_stats *ret)
{
  pthread_mutex_lock(&p->lock);
  *ret = (struct prelux_pool_stats){p->threads, p->idle, p->queued, p->running, p->done};
  pthread_mutex_unlock(&p->lock);
}
