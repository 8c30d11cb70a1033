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

/* Killed, and only then another one opened the file and closed it, before anybody looked: the last one decides. Not so if he was killed behind that. */
static void test_killed_before_the_last(void **state)
{
  for (int behind = 0; behind < 2; behind++)
  {
    struct child first, last;
    uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "half ", &first);
    if (!behind)
      kill_it(&first, SIGKILL, false);
    assert_int_equal(written_by("f", O_WRONLY | O_APPEND, "whole", &last), ino);
    mark(ino, last.pid);
    kill_it(&last, SIGKILL, false);
    if (behind)
      kill_it(&first, SIGKILL, false);
    prelux_left_settle(rig.g);
    prelux_stage_left(rig.g, ino);
    if (behind)
      is_kept(ino, "SIGKILL");
    else
      is_sent("f", "half whole");
    reap(&first);
    reap(&last);
  }
  assert_int_equal(rig.g->n_writers, 0);
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

/* ---- a close that is told while the file is being sent already, because the kernel was faster to tell of it ---- */

static struct {
  uint64_t ino;
  bool async, power, waits; /* what he says who tells; he is to wait */
  pthread_t thread;
} late;

static void *close_late(void *arg)
{
  struct prelux_problem why;
  struct prelux_write_rules rules = rig.rules;
  rules.async = late.async;
  rules.power = late.power;
  return (void *)(intptr_t)prelux_stage_closed(rig.g, late.ino, &rules, &why);
}

static void while_it_is_put(void)
{
  struct timespec end;
  void *rc = NULL;
  assert_int_equal(pthread_create(&late.thread, NULL, close_late, NULL), 0);
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += late.waits ? 1 : 60;
  late.waits = pthread_timedjoin_np(late.thread, &rc, &end) != 0;
  assert_int_equal((intptr_t)rc, 0);
}

/* As if the upload took for ever: the close says that it is done. */
static void sent_meanwhile(bool async, bool power, bool told_power, bool waits)
{
  rig.rules.async = true;
  rig.rules.power = power;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "text");
  late.ino = number(fd);
  late.async = async;
  late.power = told_power;
  late.waits = waits;
  close(fd);
  prelux_stage_left(rig.g, late.ino);
  assert_int_equal(dirty(late.ino)->row.state, PRELUX_PENDING_READY);
  atomic_store(&faulty.putting, while_it_is_put);
  send_all();
  if (late.waits)
    pthread_join(late.thread, NULL);
  assert_int_equal(late.waits, waits);
  is_sent("f", "text");
}

static void test_told_while_it_is_sent(void **state)
{
  sent_meanwhile(true, false, false, false);
  sent_meanwhile(true, true, true, false);
  sent_meanwhile(true, false, true, true); /* its bytes are not synced yet */
  sent_meanwhile(false, false, false, true);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_marks, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_killed_before_the_last, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_marks_of_before, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_told_while_it_is_sent, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
