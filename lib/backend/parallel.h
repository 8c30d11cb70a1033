/* One read by several connections at once: what backends with ranges have in common. It is cut into parts; each is fetched into memory by
 * whoever is free, and the sink gets them in order, on the calling thread.
 *
 * How many are on their way at once is learned: a read begins with START, doubles while that brings more, and leaves it at what was best; the
 * next read begins with half of that. How long a part is follows from what a first byte costs. */
#ifndef PRELUX_BACKEND_PARALLEL_H
#define PRELUX_BACKEND_PARALLEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "lib/backend/backend.h"

#define PRELUX_PARALLEL_PART (8u << 20)  /* bytes of a part at most, and of a buffer */
#define PRELUX_PARALLEL_LEAST (2u << 20) /* what prelux_parallel_part says at least; twice that while nothing is known */
#define PRELUX_PARALLEL_START 4u
#define PRELUX_PARALLEL_MOST 16u         /* parts of a backend fetched at once */
#define PRELUX_PARALLEL_SPARES 12
#define PRELUX_PARALLEL_TIMES 64u        /* parts remembered for what is slow */

/* What a backend knows of parallel reading; thread-safe. */
struct prelux_parallel {
  pthread_mutex_t lock; /* guards all but the last two */
  unsigned reads;       /* parts being fetched */
  unsigned width;       /* parts at once that a read found best */
  int64_t tried_ms;     /* when that was found, CLOCK_MONOTONIC; 0: not yet */
  unsigned taken;       /* buffers in use */
  char *spares[PRELUX_PARALLEL_SPARES];
  unsigned n_spares;
  uint32_t times[PRELUX_PARALLEL_TIMES]; /* ms that the last parts took */
  uint64_t parts, hedged;                /* so many ended well; were asked for a second time */
  uint64_t wait_us, flow_us;             /* moving averages: until the first byte, for a MiB after it */
  unsigned widest;                       /* parts that one read had on their way at once */
  atomic_bool whole_only;                /* the server has answered a range by the whole */
};
void prelux_parallel_init(struct prelux_parallel *p);
void prelux_parallel_release(struct prelux_parallel *p);
/* Bytes that a part should have, a multiple of 1 MiB between LEAST and PART: the first byte is to cost an eighth of its time at most. */
uint64_t prelux_parallel_part(struct prelux_parallel *p);

/* How many parts at once: pure. */
struct prelux_parallel_course {
  unsigned width;
  uint64_t best; /* bytes a second at half of that; 0: nothing was measured */
  bool settled;  /* the width stays */
};
/* A round at that width has brought so many bytes. */
void prelux_parallel_round(struct prelux_parallel_course *c, uint64_t bytes, uint64_t us);

struct prelux_parallel_part {
  uint64_t from, to;
  char *buf;               /* where its bytes belong; NULL: the sink wants them as they come */
  const atomic_bool *over; /* true: nobody wants it any more */
  uint64_t got;            /* to be set, also on failure: bytes of it that came */
};

struct prelux_parallel_job {
  struct prelux_parallel *pool;
  /* Where the parts of [off, end) end: how many, at most max. */
  size_t (*cut)(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ends, size_t max);
  /* Fetches one part and passes it to the sink; on several threads at once. An -EIO leaves standing what came. */
  int (*fetch)(const struct prelux_parallel_job *job, struct prelux_parallel_part *part, prelux_read_fn sink, void *arg,
               struct prelux_problem *why);
  atomic_bool *stop; /* set when somebody has failed: the others need not go on */
  bool hedge;        /* a part that takes much longer than others is asked for a second time, a part in twenty at most */
};
/* 0, or the -errno of the first part in order that failed; what lies before it has been passed on, and after -EIO what came of it. */
int prelux_parallel_read(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, prelux_read_fn sink, void *arg,
                         struct prelux_problem *why);

#endif
