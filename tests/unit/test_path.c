#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "lib/base/path.h"

static void joins(void **state)
{
  static const struct
  {
    const char *base, *path, *want;
  } rows[] = {
      {NULL, "/", "/"},          {NULL, "//a///b/", "/a/b"},     {NULL, "/a/./b/../c", "/a/c"}, {NULL, "/..", "/"},
      {NULL, "/../../a", "/a"},  {"/x/y", "z", "/x/y/z"},        {"/x/y", "../z", "/x/z"},      {"/x/y", "../../..", "/"},
      {"/", "a", "/a"},          {"/x", "", "/x"},               {"/x/", "./", "/x"},           {NULL, "/...", "/..."},
      {NULL, "/.a/..b", "/.a/..b"}, {"/x", "s3://b/k", "/x/s3:/b/k"}, {"/x", "/y", "/y"},
  };
  char out[64];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
  {
    long n = prelux_path_join(out, sizeof out, rows[i].base, rows[i].path);
    assert_int_equal(n, strlen(rows[i].want));
    assert_string_equal(out, rows[i].want);
  }
}

static void join_limits(void **state)
{
  char out[8];
  assert_int_equal(prelux_path_join(out, sizeof out, NULL, "a"), -EINVAL);
  assert_int_equal(prelux_path_join(out, sizeof out, "rel", "a"), -EINVAL);
  assert_int_equal(prelux_path_join(out, sizeof out, NULL, "/abcdef"), 7);
  assert_int_equal(prelux_path_join(out, sizeof out, NULL, "/abcdefg"), -ENAMETOOLONG);
}

static void below(void **state)
{
  const char *rel = NULL;
  assert_true(prelux_path_below("/mnt/lake/a/b", "/mnt/lake", &rel));
  assert_string_equal(rel, "a/b");
  assert_true(prelux_path_below("/mnt/lake", "/mnt/lake/", &rel));
  assert_string_equal(rel, "");
  assert_false(prelux_path_below("/mnt/lakes", "/mnt/lake", &rel));
  assert_true(prelux_path_below("/etc", "/", &rel));
  assert_string_equal(rel, "etc");
}

static void expand(void **state)
{
  char out[32];
  assert_int_equal(prelux_path_expand(out, sizeof out, "/home/u", "~/x"), 9);
  assert_string_equal(out, "/home/u/x");
  assert_int_equal(prelux_path_expand(out, sizeof out, NULL, "~/x"), -ENOENT);
  assert_int_equal(prelux_path_expand(out, sizeof out, NULL, "~x"), 2);
  assert_int_equal(prelux_path_expand(out, 4, "/home/u", "~"), -ENAMETOOLONG);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(joins), cmocka_unit_test(join_limits), cmocka_unit_test(below),
                                     cmocka_unit_test(expand)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
