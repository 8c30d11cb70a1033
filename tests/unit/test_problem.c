/* Texts of servers in messages of ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/base/problem.h"

static void said(const char *text, size_t len, size_t cap, const char *want)
{
  char out[16];
  memset(out, '#', sizeof(out));
  prelux_problem_said(out, cap, text, len);
  assert_string_equal(out, want);
  assert_int_equal(out[cap], '#');
}

static void test_nothing_but_printable_ascii(void **state)
{
  said("a\nb\033[2J\177\303\274~", 11, 15, "a.b.[2J...~");
  said("a\0b", 3, 15, "a.b");
}

static void test_bounds(void **state)
{
  said("0123456789", 10, 5, "0123");
  said("0123456789", 3, 5, "012");
  said("0123", 4, 5, "0123");
  said("x", 1, 1, "");
  said("x", 0, 5, "");
  said(NULL, 7, 5, "");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nothing_but_printable_ascii),
      cmocka_unit_test(test_bounds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
