/* The pool: bounds, lanes, the end; and crews on it. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/crew.h"
#include "daemon/lanes.h"
#include "daemon/pool.h"

static atomic_int running, most, finished, dropped;
static atomic_bool gate;

static void reset(bool open)
{
  running = most = finished = dropped = 0;
  gate = open;
}

static void nap(void)
{
  usleep(1000);
}

static void work(struct prelux_job *job)
{
  int now = atomic_fetch_add(&running, 1) + 1, old = atomic_load(&most);
  while (now > old && !atomic_compare_exchange_weak(&most, &old, now))
    ;
  while (!atomic_load(&gate))
    nap();
  atomic_fetch_sub(&running, 1);
}

static void after(struct prelux_job *job)
{
  atomic_fetch_add(job->dropped ? &dropped : &finished, 1);
}

static struct prelux_pool *make(unsigned min, unsigned max, unsigned lane, unsigned queue)
{
  struct prelux_pool_opts opts = {.min_threads = min, .max_threads = max, .lane_threads = lane, .max_queue = queue};
  struct prelux_pool *p = NULL;
  assert_int_equal(prelux_pool_create(&opts, &p), 0);
  return p;
}

static void submit(struct prelux_pool *p, struct prelux_job *jobs, unsigned n, uint32_t lane)
{
  for (unsigned i = 0; i < n; i++)
  {
    jobs[i] = (struct prelux_job){.run = work, .after = after, .lane = lane};
    assert_int_equal(prelux_pool_submit(p, &jobs[i]), 0);
  }
}

static void wait_for(atomic_int *what, int value)
{
  for (int i = 0; i < 5000 && atomic_load(what) < value; i++)
    nap();
  assert_int_equal(atomic_load(what), value);
}

static void grows_to_its_limit(void **state)
{
  static struct prelux_job jobs[100];
  reset(false);
  struct prelux_pool *p = make(2, 8, 8, 1000);
  struct prelux_pool_stats st;
  prelux_pool_stats(p, &st);
  assert_int_equal(st.threads, 2);
  submit(p, jobs, 100, 1);
  wait_for(&running, 8);
  usleep(20000);
  prelux_pool_stats(p, &st);
  assert_int_equal(st.threads, 8);
  assert_int_equal(st.queued, 92);
  atomic_store(&gate, true);
  wait_for(&finished, 100);
  assert_int_equal(most, 8);
  prelux_pool_free(p);
  assert_int_equal(dropped, 0);
}

static void queue_is_bounded(void **state)
{
  static struct prelux_job jobs[5], more = {.run = work, .after = after};
  reset(false);
  struct prelux_pool *p = make(1, 1, 1, 4);
  submit(p, jobs, 1, 0);
  wait_for(&running, 1);
  submit(p, jobs + 1, 4, 0);
  assert_int_equal(prelux_pool_submit(p, &more), -EAGAIN);
  atomic_store(&gate, true);
  wait_for(&finished, 5);
  assert_int_equal(prelux_pool_submit(p, &more), 0);
  wait_for(&finished, 6);
  prelux_pool_free(p);
}

static void full_lane_leaves_room(void **state)
{
  static struct prelux_job stuck[50], other[1];
  reset(false);
  struct prelux_pool *p = make(1, 8, 6, 1000);
  submit(p, stuck, 50, 1);
  wait_for(&running, 6);
  usleep(20000);
  assert_int_equal(running, 6);
  submit(p, other, 1, 2);
  wait_for(&running, 7);
  atomic_store(&gate, true);
  wait_for(&finished, 51);
  prelux_pool_free(p);
}

/* However many backends a daemon has met, a fixed lane is none of theirs. */
static void instances_have_lanes_of_their_own(void **state)
{
  bool used[PRELUX_LANES] = {false};
  for (uint32_t number = 0; number < 1000; number++)
  {
    uint32_t lane = prelux_lane_of(number);
    assert_true(lane >= PRELUX_LANE_BACKENDS && lane < PRELUX_LANE_REGISTER);
    used[lane] = true;
  }
  for (uint32_t lane = PRELUX_LANE_BACKENDS; lane < PRELUX_LANE_REGISTER; lane++)
    assert_true(used[lane]);
  assert_int_equal(prelux_lane_of(1), PRELUX_LANE_BACKENDS);
  assert_true(PRELUX_LANE_PREFETCH < PRELUX_LANES);
}

static void lane_aside_has_a_share_of_its_own(void **state)
{
  static struct prelux_job aside[20], stuck[20], other[1];
  struct prelux_pool_opts opts = {.min_threads = 1, .max_threads = 8, .lane_threads = 5, .aside_lane = 3, .aside_threads = 2, .max_queue = 100};
  struct prelux_pool *p = NULL;
  reset(false);
  assert_int_equal(prelux_pool_create(&opts, &p), 0);
  submit(p, aside, 20, 3);
  wait_for(&running, 2);
  submit(p, stuck, 20, 1);
  wait_for(&running, 7);
  submit(p, other, 1, 2);
  wait_for(&running, 8);
  atomic_store(&gate, true);
  wait_for(&finished, 41);
  prelux_pool_free(p);
}

static void *open_gate_later(void *arg)
{
  usleep(30000);
  atomic_store(&gate, true);
  return NULL;
}

static void end_drops_what_waits(void **state)
{
  static struct prelux_job jobs[10];
  pthread_t id;
  reset(false);
  struct prelux_pool *p = make(1, 2, 2, 100);
  submit(p, jobs, 10, 0);
  wait_for(&running, 2);
  pthread_create(&id, NULL, open_gate_later, NULL);
  prelux_pool_free(p);
  pthread_join(id, NULL);
  assert_int_equal(finished, 2);
  assert_int_equal(dropped, 8);
}

/* A crew that splits numbers until they are 1: each step may add work. */
struct split {
  struct prelux_crew crew;
  unsigned stack[64], n;
  atomic_uint ones, ended, at_once, most_at_once;
};

static bool split_step(struct prelux_crew *crew)
{
  struct split *s = (struct split *)crew;
  unsigned v = 0;
  pthread_mutex_lock(&crew->lock);
  if (s->n)
    v = s->stack[--s->n];
  pthread_mutex_unlock(&crew->lock);
  if (v == 0)
    return false;
  unsigned now = atomic_fetch_add(&s->at_once, 1) + 1;
  if (now > s->most_at_once)
    s->most_at_once = now;
  if (v == 1)
    s->ones++;
  else
  {
    pthread_mutex_lock(&crew->lock);
    s->stack[s->n++] = v / 2;
    s->stack[s->n++] = v - v / 2;
    pthread_mutex_unlock(&crew->lock);
    prelux_crew_call(crew);
  }
  atomic_fetch_sub(&s->at_once, 1);
  return true;
}

static void split_end(struct prelux_crew *crew)
{
  ((struct split *)crew)->ended++;
}

static void crew_does_all_and_ends_once(void **state)
{
  struct prelux_pool *p = make(2, 8, 8, 100);
  for (int round = 0; round < 50; round++)
  {
    struct split s = {.crew = {.pool = p, .limit = 3, .step = split_step, .end = split_end}, .stack = {500}, .n = 1};
    prelux_crew_init(&s.crew);
    assert_true(prelux_crew_call(&s.crew));
    for (int i = 0; i < 5000 && !s.ended; i++)
      nap();
    assert_int_equal(s.ended, 1);
    assert_int_equal(s.ones, 500);
    assert_true(s.most_at_once <= 3);
    prelux_crew_release(&s.crew);
  }
  prelux_pool_free(p);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(grows_to_its_limit),   cmocka_unit_test(queue_is_bounded),
      cmocka_unit_test(full_lane_leaves_room), cmocka_unit_test(end_drops_what_waits),
      cmocka_unit_test(instances_have_lanes_of_their_own), cmocka_unit_test(lane_aside_has_a_share_of_its_own),
      cmocka_unit_test(crew_does_all_and_ends_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
