#include "daemon/measure.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/map/match.h"

/* With those of Alluxio's own histograms. */
const double prelux_measure_bounds[PRELUX_MEASURE_TIMES] = {0.001, 0.004, 0.01, 0.04, 0.16, 0.64, 2.56, 10.24, 40.96};
const char *const prelux_measure_ops[PRELUX_MEASURE_OPS] = {"stat", "open", "list"};
const char *const prelux_measure_results[PRELUX_MEASURE_RESULTS] = {"hit", "miss", "error"};

#define HEADS 8192u /* of a configuration with 20,000 mappings two or three look-ups each */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next three; entries are never freed */
static struct prelux_measure *all, *heads[HEADS];
static uint64_t looks;
static _Thread_local uint64_t asked;

/* lock held. NULL: no memory. */
static struct prelux_measure *make(const char *local, struct prelux_measure **head)
{
  struct prelux_measure *m = calloc(1, sizeof *m);
  if (!m || !(m->local = strdup(local)))
  {
    free(m);
    return NULL;
  }
  m->chain = *head;
  m->next = all;
  return all = *head = m;
}

struct prelux_measure *prelux_measure_of(const char *local)
{
  struct prelux_measure **head = &heads[prelux_component_hash(local, strlen(local)) % HEADS];
  pthread_mutex_lock(&lock);
  struct prelux_measure *m = *head;
  for (; m && strcmp(m->local, local) != 0; m = m->chain)
    looks++;
  if (!m)
    m = make(local, head);
  pthread_mutex_unlock(&lock);
  return m;
}

uint64_t prelux_measure_looks(void)
{
  pthread_mutex_lock(&lock);
  uint64_t ret = looks;
  pthread_mutex_unlock(&lock);
  return ret;
}

void prelux_measure_each(void (*fn)(const struct prelux_measure *m, void *arg), void *arg)
{
  pthread_mutex_lock(&lock);
  const struct prelux_measure *m = all;
  pthread_mutex_unlock(&lock);
  for (; m; m = m->next)
    fn(m, arg);
}

void prelux_measure_done(struct prelux_measure *m, int op, enum prelux_measure_result result, uint64_t ns)
{
  unsigned i = 0;
  if (!m)
    return;
  while (i < PRELUX_MEASURE_TIMES && (double)ns / 1e9 > prelux_measure_bounds[i])
    i++;
  atomic_fetch_add_explicit(&m->requests[op][result], 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&m->times[op][i], 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&m->sum_us[op], ns / 1000, memory_order_relaxed);
}

uint64_t prelux_measure_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t prelux_measure_asked(void)
{
  return asked;
}

void prelux_measure_ask(void)
{
  asked++;
}

void prelux_measure_remote(struct prelux_measure *m, uint64_t asked_before, uint64_t bytes)
{
  if (!m)
    return;
  atomic_fetch_add_explicit(&m->remote_bytes, bytes, memory_order_relaxed);
  atomic_fetch_add_explicit(&m->remote_requests, asked - asked_before, memory_order_relaxed);
}
