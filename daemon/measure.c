#include "daemon/measure.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* With those of Alluxio's own histograms. */
const double prelux_measure_bounds[PRELUX_MEASURE_TIMES] = {0.001, 0.004, 0.01, 0.04, 0.16, 0.64, 2.56, 10.24, 40.96};
const char *const prelux_measure_ops[PRELUX_MEASURE_OPS] = {"stat", "open", "list"};
const char *const prelux_measure_results[PRELUX_MEASURE_RESULTS] = {"hit", "miss", "error"};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the next; entries are never freed */
static struct prelux_measure *all;
static _Thread_local uint64_t asked;

struct prelux_measure *prelux_measure_of(const char *local)
{
  pthread_mutex_lock(&lock);
  struct prelux_measure *m = all;
  while (m && strcmp(m->local, local) != 0)
    m = m->next;
  if (!m && (m = calloc(1, sizeof *m)))
  {
    m->local = strdup(local);
    m->next = all;
    if (m->local)
      all = m;
    else
    {
      free(m);
      m = NULL;
    }
  }
  pthread_mutex_unlock(&lock);
  return m;
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
