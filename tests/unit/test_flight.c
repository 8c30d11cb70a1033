/* Who joins a fill gets its result, but for a failure that others were told of before he asked. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/store/private.h"

static struct prelux_store store = {.lock = PTHREAD_MUTEX_INITIALIZER};
static struct prelux_tree tree = {.store = &store};
static struct prelux_view view = {.tree = &tree};

static void *join(void *arg)
{
  struct prelux_flight mine;
  assert_int_equal(prelux_flight_begin(&mine, &view, PRELUX_FLIGHT_FILL, "x", arg, NULL), 0);
  return NULL;
}

/* Returns when he waits. */
static pthread_t start(struct prelux_flight *f, int *ret)
{
  pthread_t thread;
  pthread_mutex_lock(&store.lock);
  unsigned before = f->waiters;
  pthread_mutex_unlock(&store.lock);
  assert_int_equal(pthread_create(&thread, NULL, join, ret), 0);
  for (bool waits = false; !waits; usleep(100))
  {
    pthread_mutex_lock(&store.lock);
    waits = f->waiters > before;
    pthread_mutex_unlock(&store.lock);
  }
  return thread;
}

static void fly(int result, int want_before, int want_after)
{
  struct prelux_flight f;
  int got, before = 1, after = 1;
  assert_int_equal(prelux_flight_begin(&f, &view, PRELUX_FLIGHT_FILL, "x", &got, NULL), 1);
  pthread_t one = start(&f, &before);
  pthread_mutex_lock(&store.lock);
  prelux_flight_tell(&tree, "other");
  prelux_flight_tell(&tree, "x");
  pthread_mutex_unlock(&store.lock);
  pthread_t two = start(&f, &after);
  prelux_flight_end(&store, &f, result, NULL);
  pthread_join(one, NULL);
  pthread_join(two, NULL);
  assert_int_equal(before, want_before);
  assert_int_equal(after, want_after);
}

static void test_failure(void **state)
{
  (void)state;
  fly(-EPROTO, -EPROTO, -EAGAIN);
}

static void test_success(void **state)
{
  (void)state;
  fly(0, 0, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_failure),
      cmocka_unit_test(test_success),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
