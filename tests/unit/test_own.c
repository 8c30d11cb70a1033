/* Where a program is that was started by a loader of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/base/own.h"

static void test_bundled(void **state)
{
  char path[64] = "/opt/my prelux/lib/prelux/rt/ld.so";
  assert_true(prelux_own_bundled(path, sizeof path, "preluxd"));
  assert_string_equal(path, "/opt/my prelux/bin/preluxd");
  strcpy(path, "/lib/prelux/rt/ld.so");
  assert_true(prelux_own_bundled(path, sizeof path, "prelux"));
  assert_string_equal(path, "/bin/prelux");
}

static void test_others_stay(void **state)
{
  const char *const others[] = {"/usr/bin/prelux", "/lib64/ld-linux-x86-64.so.2", "/opt/lib/prelux/rt/ld.so.old", "ld.so", ""};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
  {
    char path[64];
    strcpy(path, others[i]);
    assert_false(prelux_own_bundled(path, sizeof path, "prelux"));
    assert_string_equal(path, others[i]);
  }
}

static void test_no_room(void **state)
{
  char path[] = "/a/lib/prelux/rt/ld.so";
  assert_false(prelux_own_bundled(path, sizeof path, "a name that is far longer than what was there before"));
  assert_string_equal(path, "/a/lib/prelux/rt/ld.so");
}

static void test_this_program(void **state)
{
  char path[4096];
  long n = prelux_own_path(path, sizeof path, "prelux");
  assert_int_equal(n, strlen(path));
  assert_string_equal(strrchr(path, '/'), "/test_own");
}

/* A copy of this program that removes its own file, as an update does: /proc/self/exe says "(deleted)" then. */
static int told_when_removed(const char *self)
{
  char path[4096];
  return unlink(self) < 0 || prelux_own_path(path, sizeof path, "prelux") < 0 || strcmp(path, self) != 0;
}

static void test_removed(void **state)
{
  char dir[] = "/tmp/prelux-test-own-XXXXXX", command[8192], own[4096];
  assert_non_null(mkdtemp(dir));
  assert_true(prelux_own_path(own, sizeof own, "prelux") > 0);
  snprintf(command, sizeof command, "cp '%s' %s/copy && %s/copy %s/copy", own, dir, dir, dir);
  assert_int_equal(system(command), 0);
  assert_int_equal(rmdir(dir), 0);
}

int main(int argc, char **argv)
{
  if (argc > 1)
    return told_when_removed(argv[1]);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bundled),
      cmocka_unit_test(test_others_stay),
      cmocka_unit_test(test_no_room),
      cmocka_unit_test(test_this_program),
      cmocka_unit_test(test_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
