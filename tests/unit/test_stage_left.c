/* Closes that nobody waits for (lib/store/stage_left.c): whom their marks speak for, and how long they stay. */
#include "tests/unit/stage_children.h"

static void mark(uint64_t ino, int pid)
{
  char source[600], name[600];
  snprintf(source, sizeof source, "%s/.prelux/" PRELUX_LEFT_FOLDER "/0", rig.cache);
  snprintf(name, sizeof name, "%s/.prelux/" PRELUX_LEFT_FOLDER "/%llu.%d", rig.cache, (unsigned long long)ino, pid);
  assert_int_equal(link(source, name), 0);
}

static unsigned marks(void)
{
  char path[600];
  struct stat st;
  snprintf(path, sizeof path, "%s/.prelux/" PRELUX_LEFT_FOLDER "/0", rig.cache);
  assert_int_equal(stat(path, &st), 0);
  return (unsigned)st.st_nlink - 1;
}

/* Who has left a mark has closed the file, whatever becomes of him; the marks of others do not speak for him, and a mark is of the last open. */
static void test_marks(void **state)
{
  struct child left, other, again_;
  uint64_t a = written_by("left", O_WRONLY | O_CREAT, "whole", &left), b = written_by("other", O_WRONLY | O_CREAT, "half", &other);
  uint64_t c = written_by("again", O_WRONLY | O_CREAT, "half", &again_);
  mark(a, left.pid);
  mark(b, other.pid + 1000000);
  mark(c, again_.pid);
  prelux_crash_writer(rig.g, c, again_.pid, prelux_process_open(again_.pid)); /* it opens the file once more */
  assert_int_equal(marks(), 2);
  mark(77, 88); /* of no file of ours */
  prelux_left_settle(rig.g);
  assert_int_equal(dirty(a)->row.state, PRELUX_PENDING_WRITING); /* they have it open yet */
  assert_int_equal(marks(), 1);                                  /* what nobody will ask for is gone */
  kill_it(&left, SIGKILL, true);
  kill_it(&other, SIGKILL, true);
  kill_it(&again_, SIGKILL, true);
  mark(b, 99);
  prelux_left_settle(rig.g);
  assert_int_equal(dirty(a)->row.state, PRELUX_PENDING_READY);
  is_kept(b, "SIGKILL");
  prelux_stage_left(rig.g, c);
  is_kept(c, "SIGKILL");
  is_sent("left", "whole");
  assert_int_equal(marks(), 0);
}

/* A daemon that comes later finds them, and those of files that it knows nothing of go. */
static void test_marks_of_before(void **state)
{
  int left = wopen("left", O_WRONLY | O_CREAT), lock = wopen("lock", O_WRONLY | O_CREAT | O_EXCL), half = wopen("half", O_WRONLY | O_CREAT);
  uint64_t a = number(left), b = number(lock), c = number(half);
  say(left, "whole");
  say(half, "half");
  rig_close();
  mark(a, 4000000);
  mark(b, 4000000);
  mark(a + 12345, 4000000);
  close(left), close(lock), close(half);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(marks(), 2);
  send_all();
  assert_string_equal(remote_text("left"), "whole");
  assert_string_equal(remote_text("lock"), "");
  assert_int_equal(dirty(c)->row.state, PRELUX_PENDING_WRITING);
  prelux_dirty_by_ino(rig.g, c)->orphan_ns = 1; /* the time is over */
  prelux_stage_poll(rig.g);
  is_kept(c, "when the daemon began");
  again(0);
  assert_int_equal(marks(), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_marks, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_marks_of_before, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
