/* Paths that workers are passed over for: none is forgotten before its time, however many there are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "lib/backend/alluxio.h"

#define MANY 5000

static struct prelux_alluxio_doubts d;

static int set_up(void **state)
{
  (void)state;
  prelux_alluxio_doubts_init(&d);
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  prelux_alluxio_doubts_release(&d);
  d = (struct prelux_alluxio_doubts){0};
  return 0;
}

static const char *name(int i)
{
  static char ret[40];
  snprintf(ret, sizeof ret, "folder/file-%d", i);
  return ret;
}

static void none_is_forgotten(void **state)
{
  (void)state;
  assert_false(prelux_alluxio_doubts_has(&d, name(0)));
  for (int i = 0; i < MANY; i++)
    prelux_alluxio_doubts_add(&d, name(i));
  for (int i = 0; i < MANY; i++)
    assert_true(prelux_alluxio_doubts_has(&d, name(i)));
}

static void few_others_are_doubted_along(void **state)
{
  int n = 0;
  (void)state;
  for (int i = 0; i < MANY; i++)
    prelux_alluxio_doubts_add(&d, name(i));
  for (int i = MANY; i < 2 * MANY; i++)
    n += prelux_alluxio_doubts_has(&d, name(i));
  assert_in_range(n, 1, MANY / 8); /* 5,000 of 65,536 places */
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(none_is_forgotten, set_up, tear_down),
      cmocka_unit_test_setup_teardown(few_others_are_doubted_along, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
