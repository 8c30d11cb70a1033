#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/turns.h"

static struct prelux_turns t;

static struct prelux_flight *made(void)
{
  return prelux_flight_new(NULL, 0);
}

/* What comes next when f is over. */
static struct prelux_flight *over(struct prelux_flight *f)
{
  prelux_turns_end(&t, f);
  prelux_flight_free(f);
  return prelux_turns_next(&t, 1);
}

static void each_has_turns_of_his_own(void **state)
{
  struct prelux_flight *his[PRELUX_TURNS], *more[2], *other = made();
  for (unsigned i = 0; i < PRELUX_TURNS; i++)
    assert_true(prelux_turns_begin(&t, 1, 1, his[i] = made()));
  for (unsigned i = 0; i < 2; i++)
    assert_false(prelux_turns_begin(&t, 1, 1, more[i] = made()));
  assert_true(prelux_turns_begin(&t, 2, 1, other));
  assert_ptr_equal(over(his[0]), more[0]); /* in their order, one for one */
  assert_null(prelux_turns_next(&t, 1));
  assert_ptr_equal(over(more[0]), more[1]);
  for (unsigned i = 1; i < PRELUX_TURNS; i++)
    assert_null(over(his[i]));
  assert_null(over(more[1]));
  assert_null(over(other));
  assert_null(prelux_turns_next(&t, 2));
  assert_null(t.users); /* nobody is kept in mind */
}

static void larger_ones_wait_for_room_and_let_nobody_pass(void **state)
{
  struct prelux_flight *first = made(), *large = made(), *small = made();
  assert_true(prelux_turns_begin(&t, 1, PRELUX_TURNS - 1, first));
  assert_false(prelux_turns_begin(&t, 1, PRELUX_TURNS + 5, large)); /* more than there are: alone */
  assert_false(prelux_turns_begin(&t, 1, 1, small));
  assert_ptr_equal(over(first), large);
  assert_null(prelux_turns_next(&t, 1));
  assert_ptr_equal(over(large), small);
  assert_null(over(small));
  assert_null(t.users);
}

/* Whoever leaves the queue, at its head, in its middle or at its end: the others keep their places, and the next may fit now. */
static void who_leaves_makes_room(void **state)
{
  struct prelux_flight *first = made(), *large = made(), *one = made(), *two = made(), *last = made();
  assert_true(prelux_turns_begin(&t, 1, PRELUX_TURNS - 1, first));
  assert_false(prelux_turns_begin(&t, 1, 2, large));
  assert_false(prelux_turns_begin(&t, 1, 1, one));
  assert_false(prelux_turns_begin(&t, 1, 1, two));
  prelux_turns_leave(&t, two);
  prelux_flight_free(two);
  assert_null(prelux_turns_next(&t, 1));
  assert_false(prelux_turns_begin(&t, 1, 1, last));
  prelux_turns_leave(&t, large);
  prelux_flight_free(large);
  assert_ptr_equal(prelux_turns_next(&t, 1), one);
  assert_null(prelux_turns_next(&t, 1));
  assert_true(last->queued && !one->queued);
  prelux_turns_leave(&t, last);
  prelux_flight_free(last);
  assert_null(over(first));
  assert_non_null(t.users);
  assert_null(over(one));
  assert_null(t.users);
}

static void at_the_end_all_is_freed(void **state)
{
  struct prelux_flight *f = made();
  assert_true(prelux_turns_begin(&t, 1, 1, f));
  prelux_turns_free(&t); /* whose work was never handed back */
  assert_null(t.users);
  assert_null(over(f));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_has_turns_of_his_own),
      cmocka_unit_test(larger_ones_wait_for_room_and_let_nobody_pass),
      cmocka_unit_test(who_leaves_makes_room),
      cmocka_unit_test(at_the_end_all_is_freed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
