/* A folder is renamed while a file in it, which the remote has already, is on its way into the cache under its old name. */
#include "tests/unit/far_rig.h"

static atomic_bool inside, go, moved;

static int slow_renameat(int old_dir, const char *old, int new_dir, const char *new)
{
  if (old_dir == rig.g->fd && !atomic_exchange(&inside, true))
    while (!go)
      usleep(1000);
  return renameat(old_dir, old, new_dir, new);
}

static void *send_them(void *arg)
{
  send_all();
  return NULL;
}

static void *move_it(void *arg)
{
  *(int *)arg = mv("d", "e");
  moved = true;
  return NULL;
}

static void test_a_folder_waits_for_what_settles_in_it(void **state)
{
  struct prelux_attr attr;
  pthread_t sender, mover;
  int rc = 1;
  assert_int_equal(mkd("d"), 0);
  write_file("d/f", "text");
  prelux_os.renameat = slow_renameat;
  assert_int_equal(pthread_create(&sender, NULL, send_them, NULL), 0);
  while (!inside)
    usleep(1000);
  assert_int_equal(pthread_create(&mover, NULL, move_it, &rc), 0);
  usleep(200000);
  assert_false(moved);
  go = true;
  pthread_join(sender, NULL);
  pthread_join(mover, NULL);
  prelux_os.renameat = renameat;
  assert_int_equal(rc, 0);
  assert_int_equal(look("d/f", &attr), -ENOENT);
  assert_int_equal(look("d", &attr), -ENOENT);
  assert_int_equal(look("e/f", &attr), 0);
  assert_string_equal(read_text("e/f"), "text");
  assert_int_equal(pending(), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_a_folder_waits_for_what_settles_in_it, set_up_far, tear_down)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
