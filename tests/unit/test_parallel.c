/* lib/backend/parallel.c: how many parts are on their way at once, what comes of a part that fails or stalls, and memory. What would come
 * over a line is made here. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/backend/parallel.h"

#define PART (1u << 20)

struct line
{
  struct prelux_parallel_job job; /* first */
  unsigned part_ms;               /* that each part takes on its connection */
  unsigned turn_ms;               /* that it takes of what all share */
  pthread_mutex_t turn;
  atomic_uint now, most, asked;
  unsigned fail_at, fail_rc, fail_got; /* part, from 1; 0: none */
  atomic_uint stalls;                  /* so many first tries stall until they are told that it is over */
  unsigned stall_from;                 /* from this part on */
  atomic_uint over;                    /* tries that were told so */
  atomic_bool tried[4096];
  atomic_bool stop;
  bool till_hedged; /* no part ends before one is asked for twice: a busy machine may see too late that they are slow */
};

static struct prelux_parallel pool;
static atomic_uint all_now, all_most; /* of all lines */
static uint64_t passed;
static atomic_size_t bytes_wrong;

static void nap(unsigned ms)
{
  struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
  nanosleep(&t, NULL);
}

static unsigned char byte_at(uint64_t at)
{
  return (unsigned char)((at >> 20) * 7 + at);
}

static size_t cut(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ends, size_t max)
{
  size_t n = 0;
  for (uint64_t pos = off; pos < end && n < max; pos = ends[n++])
    ends[n] = pos + PART < end ? pos + PART : end;
  return n;
}

static bool stalls(struct line *l, unsigned number)
{
  if (number < l->stall_from || atomic_exchange(&l->tried[number], true))
    return false;
  unsigned left = atomic_load(&l->stalls);
  while (left && !atomic_compare_exchange_weak(&l->stalls, &left, left - 1))
    ;
  return left > 0;
}

static unsigned hedged(void)
{
  pthread_mutex_lock(&pool.lock);
  unsigned n = pool.hedged;
  pthread_mutex_unlock(&pool.lock);
  return n;
}

static int carry(struct line *l, struct prelux_parallel_part *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  unsigned number = (unsigned)(p->from / PART) + 1;
  if (stalls(l, number))
  {
    while (!atomic_load(p->over))
      nap(5);
    atomic_fetch_add(&l->over, 1);
    return -ECANCELED;
  }
  nap(l->part_ms);
  for (unsigned i = 0; i < 2000 && l->till_hedged && hedged() == 0; i++)
    nap(5);
  pthread_mutex_lock(&l->turn);
  nap(l->turn_ms);
  pthread_mutex_unlock(&l->turn);
  uint64_t want = number == l->fail_at ? l->fail_got : p->to - p->from;
  unsigned char *bytes = malloc(PART);
  for (uint64_t i = 0; i < want; i += 4096)
    bytes[i] = byte_at(p->from + i);
  int rc = want ? sink(arg, p->from, bytes, (size_t)want) : 0;
  free(bytes);
  p->got = rc == 0 ? want : 0;
  return number == l->fail_at ? prelux_problem(why, (int)l->fail_rc, "part %u", number) : rc;
}

static void raise_to(atomic_uint *most, unsigned now)
{
  unsigned seen = atomic_load(most);
  while (now > seen && !atomic_compare_exchange_weak(most, &seen, now))
    ;
}

static int fetch(const struct prelux_parallel_job *job, struct prelux_parallel_part *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct line *l = (struct line *)job;
  raise_to(&l->most, atomic_fetch_add(&l->now, 1) + 1);
  raise_to(&all_most, atomic_fetch_add(&all_now, 1) + 1);
  atomic_fetch_add(&l->asked, 1);
  int rc = carry(l, p, sink, arg, why);
  atomic_fetch_sub(&l->now, 1);
  atomic_fetch_sub(&all_now, 1);
  return rc;
}

/* In order, each byte once. */
static int take(void *arg, uint64_t off, const void *buf, size_t len)
{
  uint64_t *pos = arg;
  assert_int_equal(off, *pos);
  for (size_t i = 0; i < len; i += 4096)
    bytes_wrong += ((const unsigned char *)buf)[i] != byte_at(off + i);
  *pos += len;
  return 0;
}

static struct line *line_make(unsigned part_ms, unsigned turn_ms)
{
  struct line *l = calloc(1, sizeof(*l));
  l->job = (struct prelux_parallel_job){.pool = &pool, .cut = cut, .fetch = fetch, .stop = &l->stop, .hedge = true};
  l->part_ms = part_ms;
  l->turn_ms = turn_ms;
  pthread_mutex_init(&l->turn, NULL);
  return l;
}

static int read_all(struct line *l, unsigned parts, struct prelux_problem *why)
{
  passed = 0;
  bytes_wrong = 0;
  int rc = prelux_parallel_read(&l->job, 0, (uint64_t)parts * PART, take, &passed, why);
  assert_int_equal(bytes_wrong, 0);
  assert_int_equal(atomic_load(&l->now), 0); /* nobody is left behind */
  assert_int_equal(pool.reads, 0);
  assert_int_equal(pool.taken, 0);
  return rc;
}

static int set_up(void **state)
{
  memset(&pool, 0, sizeof(pool));
  prelux_parallel_init(&pool);
  return 0;
}

static int tear_down(void **state)
{
  prelux_parallel_release(&pool);
  return 0;
}

#define MIB UINT64_C(1048576)

/* What a line brings at a width: `each` MiB a second of a connection, `all` of all. */
static struct prelux_parallel_course course_on(uint64_t each, uint64_t all)
{
  struct prelux_parallel_course c = {.width = PRELUX_PARALLEL_START};
  for (int i = 0; i < 10 && !c.settled; i++)
    prelux_parallel_round(&c, (each * c.width < all ? each * c.width : all) * MIB, 1000000);
  assert_true(c.settled);
  return c;
}

static void width_follows_the_line(void **state)
{
  assert_int_equal(course_on(10, 1000).width, 16); /* the connection is the limit */
  assert_int_equal(course_on(10, 40).width, 4);    /* four have it all */
  assert_int_equal(course_on(10, 45).width, 4);    /* an eighth more is not worth twice as many */
  assert_int_equal(course_on(10, 85).width, 8);
  assert_int_equal(course_on(200, 10000).width, 4); /* a processor's rate */
  struct prelux_parallel_course c = {.width = 4};
  prelux_parallel_round(&c, MIB, 0); /* a clock that stands still */
  assert_true(c.settled);
}

/* What was found lately is what the next read begins with; half of it when that is long ago, to be tried anew. */
static void width_is_remembered(void **state)
{
  static const struct { unsigned width; bool lately; unsigned widest; } rows[] = {{16, true, 16}, {16, false, 8}, {8, true, 8}, {8, false, 4}, {4, false, 4}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    pool.width = rows[i].width;
    pool.tried_ms = rows[i].lately ? (int64_t)t.tv_sec * 1000 : 0;
    pool.widest = 0;
    struct line *l = line_make(1, 0);
    unsigned parts = rows[i].lately ? 40 : rows[i].widest; /* too few for a round */
    assert_int_equal(read_all(l, parts, NULL), 0);
    assert_int_equal(passed, parts * PART);
    assert_int_equal(pool.widest, rows[i].widest);
    assert_in_range(atomic_load(&l->most), 1, rows[i].widest);
    free(l);
  }
}

/* Each round counts: with a line that is never full the read gets wider, or stays where it is when it was told so. */
static void rounds_are_counted(void **state)
{
  struct line *l = line_make(20, 0);
  l->job.hedge = false; /* a busy machine makes parts slow, and none shall be asked for twice */
  assert_int_equal(read_all(l, 64, NULL), 0);
  assert_int_equal(atomic_load(&l->asked), 64);
  assert_true(pool.tried_ms > 0 || pool.widest > PRELUX_PARALLEL_START);
  free(l);
}

static void small_reads_hire_nobody(void **state)
{
  struct line *l = line_make(1, 0);
  assert_int_equal(read_all(l, 1, NULL), 0);
  assert_int_equal(pool.widest, 0);
  assert_int_equal(atomic_load(&l->most), 1);
  free(l);
}

/* What lies before the part that failed has been passed on, nothing behind it; of an EIO what came of it, too. */
static void a_part_fails(void **state)
{
  static const struct { unsigned rc, got; uint64_t passed; } rows[] = {
      {ESTALE, 0, 6 * PART}, {ESTALE, 4096, 6 * PART}, {EIO, 0, 6 * PART}, {EIO, 8192, 6 * PART + 8192}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    struct prelux_problem why = {0};
    struct line *l = line_make(2, 0);
    l->fail_at = 7;
    l->fail_rc = rows[i].rc;
    l->fail_got = rows[i].got;
    assert_int_equal(read_all(l, 40, &why), -(int)rows[i].rc);
    assert_int_equal(passed, rows[i].passed);
    assert_string_equal(why.text, "part 7");
    assert_in_range(atomic_load(&l->asked), 7, 40 - 1);
    free(l);
  }
}

static int refuse_third(void *arg, uint64_t off, const void *buf, size_t len)
{
  return off >= 2 * PART ? -ENOSPC : take(arg, off, buf, len);
}

static void the_sink_says_no(void **state)
{
  struct line *l = line_make(2, 0);
  passed = 0;
  assert_int_equal(prelux_parallel_read(&l->job, 0, 40ull * PART, refuse_third, &passed, NULL), -ENOSPC);
  assert_int_equal(passed, 2 * PART);
  assert_int_equal(pool.reads + pool.taken + atomic_load(&l->now), 0);
  free(l);
}

/* A part that takes much longer than others is asked for a second time; who stalls is told that it is over. */
static void a_stalled_part_is_asked_for_again(void **state)
{
  struct line *l = line_make(5, 0);
  l->stalls = 1;
  l->stall_from = 20;
  assert_int_equal(read_all(l, 40, NULL), 0);
  assert_int_equal(passed, 40 * PART);
  assert_in_range(pool.hedged, 1, 4 + 40 / 20); /* more than one: others were late, too */
  assert_int_equal(atomic_load(&l->over), 1);
  assert_int_equal(atomic_load(&l->asked), 40 + pool.hedged);
  free(l);
}

static void without_hedges_nothing_is_asked_twice(void **state)
{
  struct line *l = line_make(400, 0);
  l->job.hedge = false;
  for (unsigned i = 0; i < PRELUX_PARALLEL_TIMES; i++)
    pool.times[i] = 1;
  pool.parts = PRELUX_PARALLEL_TIMES;
  assert_int_equal(read_all(l, 4, NULL), 0);
  assert_int_equal(atomic_load(&l->asked), 4);
  free(l);
}

/* When all parts have become slow, a few are asked for twice, not all. */
static void hedges_have_a_budget(void **state)
{
  struct line *l = line_make(400, 0);
  for (unsigned i = 0; i < PRELUX_PARALLEL_TIMES; i++)
    pool.times[i] = 1;
  pool.parts = PRELUX_PARALLEL_TIMES;
  l->till_hedged = true;
  unsigned most = 4 + (PRELUX_PARALLEL_TIMES + 24) / 20;
  assert_int_equal(read_all(l, 24, NULL), 0);
  assert_in_range(pool.hedged, 1, most);
  assert_in_range(atomic_load(&l->asked), 25, 24 + most);
  free(l);
}

/* Many readers at once: each does its own, and buffers are bounded. */
static void *one_reader(void *arg)
{
  struct line *l = arg;
  uint64_t pos = 0;
  return (void *)(intptr_t)prelux_parallel_read(&l->job, 0, 30ull * PART, take, &pos, NULL);
}

static void many_readers(void **state)
{
  pthread_t threads[12];
  struct line *lines[12];
  atomic_store(&all_most, 0);
  for (int i = 0; i < 12; i++)
  {
    lines[i] = line_make(3, 0);
    assert_int_equal(pthread_create(&threads[i], NULL, one_reader, lines[i]), 0);
  }
  for (int i = 0; i < 12; i++)
  {
    void *rc = NULL;
    pthread_join(threads[i], &rc);
    assert_null(rc);
    free(lines[i]);
  }
  assert_int_equal(bytes_wrong, 0);
  assert_int_equal(pool.reads + pool.taken, 0);
  assert_in_range(atomic_load(&all_most), 2, PRELUX_PARALLEL_MOST); /* the readers, and the helpers of the first */
}

/* A part is to cost an eighth for its first byte. */
static void parts_fit_the_line(void **state)
{
  static const struct { uint64_t wait_us, flow_us, part; } rows[] = {
      {0, 0, 2 * PRELUX_PARALLEL_LEAST},
      {200, 1000, PRELUX_PARALLEL_LEAST},
      {20000, 131000, PRELUX_PARALLEL_LEAST},
      {20000, 25000, 5u << 20},
      {100000, 10000, PRELUX_PARALLEL_PART}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    pool.wait_us = rows[i].wait_us;
    pool.flow_us = rows[i].flow_us;
    assert_int_equal(prelux_parallel_part(&pool), rows[i].part);
  }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(width_follows_the_line),
      TEST(width_is_remembered),
      TEST(rounds_are_counted),
      TEST(small_reads_hire_nobody),
      TEST(a_part_fails),
      TEST(the_sink_says_no),
      TEST(a_stalled_part_is_asked_for_again),
      TEST(without_hedges_nothing_is_asked_twice),
      TEST(hedges_have_a_budget),
      TEST(many_readers),
      TEST(parts_fit_the_line),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
