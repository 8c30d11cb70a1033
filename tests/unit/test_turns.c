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
  struct prelux_flight *next = prelux_turns_end(&t, f);
  prelux_flight_free(f);
  return next;
}

static void each_has_turns_of_his_own(void **state)
{
  struct prelux_flight *his[PRELUX_TURNS], *more[2], *other = made();
  for (unsigned i = 0; i < PRELUX_TURNS; i++)
    assert_true(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, his[i] = made()));
  for (unsigned i = 0; i < 2; i++)
    assert_false(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, more[i] = made()));
  assert_true(prelux_turns_begin(&t, 2, PRELUX_TURN_ONE, other));
  assert_ptr_equal(over(his[0]), more[0]); /* in their order, one for one */
  assert_true(!more[0]->queued && more[1]->queued);
  assert_ptr_equal(over(more[0]), more[1]);
  for (unsigned i = 1; i < PRELUX_TURNS; i++)
    assert_null(over(his[i]));
  assert_null(over(more[1]));
  assert_null(over(other));
  assert_null(t.users); /* nobody is kept in mind */
}

/* A prefetch may take hours: programs of the same user go on. */
static void crews_and_requests_do_not_wait_for_each_other(void **state)
{
  enum { CREWS = PRELUX_TURNS / PRELUX_TURNS_CREW };
  struct prelux_flight *crews[CREWS], *one = made(), *late = made();
  for (unsigned i = 0; i < CREWS; i++)
    assert_true(prelux_turns_begin(&t, 1, PRELUX_TURN_CREW, crews[i] = made()));
  assert_false(prelux_turns_begin(&t, 1, PRELUX_TURN_CREW, late));
  assert_true(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, one));
  assert_null(over(one));
  assert_ptr_equal(over(crews[0]), late);
  assert_null(over(late));
  for (unsigned i = 1; i < CREWS; i++)
    assert_null(over(crews[i]));
  assert_null(t.users);
}

/* Whoever leaves the queue, at its head, in its middle or at its end: the others keep their places. */
static void who_leaves_is_passed_over(void **state)
{
  struct prelux_flight *his[PRELUX_TURNS], *more[4], *last = made();
  for (unsigned i = 0; i < PRELUX_TURNS; i++)
    assert_true(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, his[i] = made()));
  for (unsigned i = 0; i < 4; i++)
    assert_false(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, more[i] = made()));
  prelux_turns_leave(&t, more[0]);
  prelux_turns_leave(&t, more[3]);
  prelux_turns_leave(&t, more[3]); /* he is in no queue */
  assert_false(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, last));
  prelux_turns_leave(&t, more[2]);
  assert_ptr_equal(over(his[0]), more[1]);
  assert_ptr_equal(over(his[1]), last);
  for (unsigned i = 2; i < PRELUX_TURNS; i++)
    assert_null(over(his[i]));
  assert_null(over(more[1]));
  assert_null(over(last));
  assert_null(t.users);
  prelux_flight_free(more[0]);
  prelux_flight_free(more[2]);
  prelux_flight_free(more[3]);
}

static void at_the_end_all_is_freed(void **state)
{
  struct prelux_flight *f = made();
  assert_true(prelux_turns_begin(&t, 1, PRELUX_TURN_ONE, f));
  prelux_turns_free(&t); /* whose work was never handed back */
  assert_null(t.users);
  assert_null(over(f));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(each_has_turns_of_his_own),
      cmocka_unit_test(crews_and_requests_do_not_wait_for_each_other),
      cmocka_unit_test(who_leaves_is_passed_over),
      cmocka_unit_test(at_the_end_all_is_freed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
