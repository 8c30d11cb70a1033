/* Health of workers, and the budget of the under store, on a clock that the test turns. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/backend/alluxio_health.h"

#define HTTP PRELUX_ALLUXIO_HTTP
#define S3 PRELUX_ALLUXIO_S3

static _Atomic int64_t clock_ms;
static struct prelux_alluxio_health *h;
static struct prelux_alluxio_patient *a;

static int64_t turned(void)
{
  return atomic_load(&clock_ms);
}

static void pass(int64_t ms)
{
  atomic_fetch_add(&clock_ms, ms);
}

static int set_up(void **state)
{
  (void)state;
  prelux_alluxio_clock_ms = turned;
  atomic_store(&clock_ms, 1000000);
  if (prelux_alluxio_health_create(&h) < 0)
    return -1;
  a = prelux_alluxio_patient_find(h, "a:1", 2);
  return a ? 0 : -1;
}

static int tear_down(void **state)
{
  (void)state;
  prelux_alluxio_patient_drop(a);
  prelux_alluxio_health_free(h);
  return 0;
}

/* How long the door stays shut after a failure just reported: between base and base + 25 %. */
static void rests(enum prelux_alluxio_door door, int64_t base)
{
  assert_false(prelux_alluxio_health_well(a, door));
  assert_false(prelux_alluxio_health_usable(a, door));
  pass(base - 1);
  assert_false(prelux_alluxio_health_usable(a, door));
  pass(base / 4 + 2);
  assert_true(prelux_alluxio_health_well(a, door));
}

static void doubling(void **state)
{
  (void)state;
  int64_t base = PRELUX_ALLUXIO_BACKOFF_MS;
  for (int i = 0; i < 12; i++)
  {
    assert_true(prelux_alluxio_health_usable(a, HTTP));
    prelux_alluxio_health_failed(a, HTTP, NULL);
    rests(HTTP, base);
    base = base * 2 > PRELUX_ALLUXIO_BACKOFF_MAX_MS ? PRELUX_ALLUXIO_BACKOFF_MAX_MS : base * 2;
  }
  assert_true(prelux_alluxio_health_usable(a, S3)); /* the other door is another matter */
  assert_true(prelux_alluxio_health_usable(a, HTTP));
  prelux_alluxio_health_ok(a, HTTP);
  prelux_alluxio_health_failed(a, HTTP, NULL);
  rests(HTTP, PRELUX_ALLUXIO_BACKOFF_MS);
}

/* One that says nothing costs seconds each time, so it is asked less often than one that refuses. */
static void silence(void **state)
{
  (void)state;
  struct prelux_problem why = {.err = ETIMEDOUT, .text = "no answer"};
  prelux_alluxio_health_failed(a, HTTP, &why);
  rests(HTTP, PRELUX_ALLUXIO_SILENT_MS);
  assert_true(prelux_alluxio_health_usable(a, HTTP));
  prelux_alluxio_health_failed(a, HTTP, &why);
  rests(HTTP, 2 * PRELUX_ALLUXIO_SILENT_MS);
  assert_true(prelux_alluxio_health_usable(a, HTTP));
  prelux_alluxio_health_failed(a, HTTP, &why);
  rests(HTTP, PRELUX_ALLUXIO_SILENT_MAX_MS);
}

/* Afterwards one caller alone finds out. */
static void one_probe(void **state)
{
  (void)state;
  prelux_alluxio_health_failed(a, S3, NULL);
  pass(PRELUX_ALLUXIO_BACKOFF_MS * 2);
  assert_true(prelux_alluxio_health_ill(a, S3));
  assert_false(prelux_alluxio_health_ill(a, HTTP));
  assert_true(prelux_alluxio_health_usable(a, S3));
  assert_false(prelux_alluxio_health_usable(a, S3));
  assert_false(prelux_alluxio_health_well(a, S3));
  prelux_alluxio_health_done(a, S3); /* it said nothing: the next may */
  assert_true(prelux_alluxio_health_usable(a, S3));
  assert_false(prelux_alluxio_health_usable(a, S3));
  pass(PRELUX_ALLUXIO_PROBE_MS + 1); /* whoever was let in is lost */
  assert_true(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_ok(a, S3);
  assert_false(prelux_alluxio_health_ill(a, S3));
  assert_true(prelux_alluxio_health_usable(a, S3));
  assert_true(prelux_alluxio_health_usable(a, S3));
}

/* Ten calls under way when it dies are one failure; one that was let in before and comes home does not open the door. */
static void a_crowd_at_once(void **state)
{
  (void)state;
  for (int i = 0; i < 10; i++)
    prelux_alluxio_health_failed(a, HTTP, NULL);
  prelux_alluxio_health_ok(a, HTTP);
  rests(HTTP, PRELUX_ALLUXIO_BACKOFF_MS);
}

static void poison(void **state)
{
  (void)state;
  struct prelux_problem why = {.text = "206 and no bytes"};
  prelux_alluxio_health_failed(a, S3, NULL);
  prelux_alluxio_health_poisoned(a, &why);
  assert_true(prelux_alluxio_health_usable(a, HTTP));
  rests(S3, PRELUX_ALLUXIO_POISON_MS);
  assert_true(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_poisoned(a, &why);
  rests(S3, 2 * PRELUX_ALLUXIO_POISON_MS);
  assert_true(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_failed(a, S3, NULL); /* poisoned workers that fail otherwise are poisoned still */
  rests(S3, 4 * PRELUX_ALLUXIO_POISON_MS);
  assert_true(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_answered(a, S3); /* a HEAD: nothing is proven, the next may find out */
  assert_true(prelux_alluxio_health_ill(a, S3));
  assert_true(prelux_alluxio_health_usable(a, S3));
  assert_false(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_poisoned(a, &why);
  assert_false(prelux_alluxio_health_usable(a, S3));
  prelux_alluxio_health_failed(a, HTTP, &why);
  pass(PRELUX_ALLUXIO_BACKOFF_MS * 2);
  assert_true(prelux_alluxio_health_usable(a, HTTP));
  prelux_alluxio_health_answered(a, HTTP);
  assert_false(prelux_alluxio_health_ill(a, HTTP));
  prelux_alluxio_health_reborn(a);
  assert_true(prelux_alluxio_health_usable(a, S3));
  assert_true(prelux_alluxio_health_usable(a, S3));
}

/* By address: what is known survives the view. */
static void by_address(void **state)
{
  (void)state;
  struct prelux_alluxio_patient *b = prelux_alluxio_patient_find(h, "a:1", 2), *c = prelux_alluxio_patient_find(h, "a:3", 2);
  assert_ptr_equal(a, b);
  assert_ptr_not_equal(a, c);
  prelux_alluxio_patient_drop(b);
  prelux_alluxio_health_failed(c, HTTP, NULL);
  prelux_alluxio_patient_drop(c);
  c = prelux_alluxio_patient_find(h, "a:3", 2);
  assert_false(prelux_alluxio_health_well(c, HTTP));
  prelux_alluxio_patient_drop(c);
  /* Bounded: the longest unused goes, and nobody else. */
  char name[32];
  for (int i = 0; i < PRELUX_ALLUXIO_PATIENTS_MAX - 2; i++)
  {
    pass(1);
    snprintf(name, sizeof name, "v%d:1", i);
    struct prelux_alluxio_patient *v = prelux_alluxio_patient_find(h, name, 2);
    if (i == PRELUX_ALLUXIO_PATIENTS_MAX - 3)
      prelux_alluxio_health_poisoned(v, NULL);
    prelux_alluxio_patient_drop(v);
  }
  for (int i = 0; i < 2; i++) /* in place of a:3 and v0:1 */
    prelux_alluxio_patient_drop(prelux_alluxio_patient_find(h, i ? "y:1" : "x:1", 2));
  snprintf(name, sizeof name, "v%d:1", PRELUX_ALLUXIO_PATIENTS_MAX - 3);
  c = prelux_alluxio_patient_find(h, name, 2);
  assert_false(prelux_alluxio_health_well(c, S3));
  prelux_alluxio_patient_drop(c);
  for (int i = 0; i < 2 * PRELUX_ALLUXIO_PATIENTS_MAX; i++)
  {
    pass(1);
    snprintf(name, sizeof name, "w%d:1", i);
    prelux_alluxio_patient_drop(prelux_alluxio_patient_find(h, name, 2));
  }
  c = prelux_alluxio_patient_find(h, "a:3", 2);
  assert_true(prelux_alluxio_health_well(c, HTTP));
  prelux_alluxio_patient_drop(c);
  assert_ptr_equal(prelux_alluxio_patient_find(h, "a:1", 2), a);
  prelux_alluxio_patient_drop(a);
}

static void report(void **state)
{
  (void)state;
  struct prelux_problem why = {.text = "no answer"};
  uint64_t bytes;
  cJSON *o = cJSON_CreateObject();
  prelux_alluxio_health_ok(a, HTTP);
  prelux_alluxio_health_failed(a, S3, &why);
  prelux_alluxio_count(h, PRELUX_ALLUXIO_FROM_PAGES, 10);
  prelux_alluxio_count(h, PRELUX_ALLUXIO_FROM_PAGES, 20);
  assert_int_equal(prelux_alluxio_counted(h, PRELUX_ALLUXIO_FROM_PAGES, &bytes), 2);
  assert_int_equal(bytes, 30);
  prelux_alluxio_health_report(h, &a, 1, o);
  char *text = cJSON_PrintUnformatted(o);
  assert_non_null(strstr(text, "\"workers\":[{\"worker\":\"a:1\",\"http\":{\"state\":\"ok\",\"ok\":1,\"failed\":0},\"s3\":{\"state\":\"resting\""));
  assert_non_null(strstr(text, "\"cause\":\"no answer\""));
  assert_non_null(strstr(text, "\"worker_pages\":{\"reads\":2,\"bytes\":30}"));
  assert_non_null(strstr(text, "\"under_store\":{\"reads\":0,\"bytes\":0,\"refused\":0}"));
  cJSON_free(text);
  cJSON_Delete(o);
}

/* A slow cluster costs tokens; a dead one only the number of calls at once. */
static void budget(void **state)
{
  (void)state;
  for (int i = 0; i < PRELUX_ALLUXIO_UNDER_TOKENS; i++)
  {
    assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), 0);
    prelux_alluxio_under_leave(h);
  }
  assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), -EAGAIN);
  for (int i = 0; i < 100; i++)
  {
    assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_NO_WORKER), 0);
    prelux_alluxio_under_leave(h);
  }
  pass(1000);
  for (int i = 0; i < PRELUX_ALLUXIO_UNDER_TOKENS_S; i++)
  {
    assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), 0);
    prelux_alluxio_under_leave(h);
  }
  assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), -EAGAIN);
  pass(1000000); /* not saved up for ever */
  for (int i = 0; i < PRELUX_ALLUXIO_UNDER_TOKENS; i++)
  {
    assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), 0);
    prelux_alluxio_under_leave(h);
  }
  assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_SLOW), -EAGAIN);
}

static atomic_int inside, most;

static void *under(void *arg)
{
  (void)arg;
  for (int i = 0; i < 5; i++)
  {
    assert_int_equal(prelux_alluxio_under_enter(h, PRELUX_ALLUXIO_NO_WORKER), 0);
    int n = atomic_fetch_add(&inside, 1) + 1, seen = atomic_load(&most);
    while (n > seen && !atomic_compare_exchange_weak(&most, &seen, n))
      ;
    usleep(10000);
    atomic_fetch_sub(&inside, 1);
    prelux_alluxio_under_leave(h);
  }
  return NULL;
}

static void at_once(void **state)
{
  (void)state;
  pthread_t threads[48];
  for (int i = 0; i < 48; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, under, NULL), 0);
  for (int i = 0; i < 48; i++)
    pthread_join(threads[i], NULL);
  assert_in_range(atomic_load(&most), 2, PRELUX_ALLUXIO_UNDER_CALLS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
  const struct CMUnitTest tests[] = {TEST(doubling), TEST(silence), TEST(one_probe), TEST(a_crowd_at_once), TEST(poison), TEST(by_address),
                                     TEST(report),   TEST(budget),    TEST(at_once)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
