/* Bounded threads for work that blocks. Jobs are owned by whoever submits them. */
#ifndef PRELUX_DAEMON_POOL_H
#define PRELUX_DAEMON_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct prelux_job {
  void (*run)(struct prelux_job *job); /* on a pool thread */
  /* The job ends here, on the thread that ran it (or in prelux_pool_free): the pool does not touch it afterwards. */
  void (*after)(struct prelux_job *job);
  uint32_t lane;                       /* jobs that may all hang for one reason share a lane: a backend */
  bool dropped;                        /* the pool ended before run() was called */
  struct prelux_job *next;             /* the pool's, until `after` */
};

struct prelux_pool_opts {
  unsigned min_threads, max_threads;
  unsigned lane_threads; /* one lane never holds more than this many, so that a dead backend leaves room for others */
  uint32_t aside_lane;   /* a lane of work that nobody waits for: */
  unsigned aside_threads; /* its own share; 0: as any other */
  unsigned max_queue;
  size_t stack; /* bytes */
};

struct prelux_pool_stats {
  unsigned threads, idle, queued, running;
  uint64_t done;
};

struct prelux_pool;

int prelux_pool_create(const struct prelux_pool_opts *opts, struct prelux_pool **ret);
/* Lets running jobs end, drops queued ones (after() is called, run() is not). NULL is allowed. */
void prelux_pool_free(struct prelux_pool *p);
/* 0; -EAGAIN: the queue is full; -ESHUTDOWN. On failure the job stays the caller's. */
int prelux_pool_submit(struct prelux_pool *p, struct prelux_job *job);
void prelux_pool_stats(struct prelux_pool *p, struct prelux_pool_stats *ret);

#endif
