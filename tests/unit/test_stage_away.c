/* Staging: opens for writing while the remote does not answer. */
#include "tests/unit/stage_rig.h"

static void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static void write_it(const char *path, int flags, const char *text)
{
  int fd = wopen(path, O_WRONLY | flags);
  assert_true(fd >= 0);
  say(fd, text);
  assert_int_equal(wclose(fd), 0);
}

/* The remote is known from before, and then says nothing. */
static int learn_and_go(void **state)
{
  int rc = set_up(state);
  put_text("old", "was");
  rig.rules.async = true;
  write_it("first", O_CREAT, "1");
  send_all();
  assert_string_equal(read_text("old"), "was");
  atomic_store(&faulty.deaf, true);
  return rc;
}

static void test_who_does_not_wait_goes_on(void **state)
{
  (void)state;
  write_it("old", O_APPEND, "+more");
  write_it("new", O_CREAT | O_EXCL, "n");
  int asked = atomic_load(&faulty.stats);
  write_it("new2", O_CREAT | O_TRUNC, "n2");
  write_it("first", O_TRUNC, "anew");
  assert_int_equal(atomic_load(&faulty.stats), asked); /* it is known to be away */
  assert_int_equal(wopen("new", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(remote_text("old"), "was+more");
  assert_string_equal(remote_text("new"), "n");
  assert_string_equal(remote_text("new2"), "n2");
  assert_string_equal(remote_text("first"), "anew");
  assert_int_equal(pending(), 0);
  asked = atomic_load(&faulty.stats);
  write_it("old", O_APPEND, "!");
  assert_true(atomic_load(&faulty.stats) > asked); /* it is back */
}

static void test_who_waits_and_who_knows_nothing_is_told(void **state)
{
  (void)state;
  assert_int_equal(wopen("unknown", O_WRONLY), -EIO);
  assert_int_equal(wopen("nowhere/new", O_WRONLY | O_CREAT), -EIO);
  rig.rules.async = false;
  assert_int_equal(wopen("sync", O_WRONLY | O_CREAT), -EIO);
  assert_int_equal(wopen("old", O_WRONLY | O_APPEND), -EIO);
  atomic_store(&faulty.deaf, false);
  assert_int_equal(pending(), 0);
}

/* Somebody else has made the name meanwhile: the loser is told, and nothing is overwritten. */
static void test_a_new_name_that_was_not_new(void **state)
{
  (void)state;
  write_it("theirs", O_CREAT, "ours");
  put_text("theirs", "made by others");
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(remote_text("theirs"), "made by others");
  assert_int_equal(pending(), 1);
}

/* After a long outage each row waits for its own next try; the first that gets through takes the others along, but not where some always do. */
static void test_all_go_when_one_has_gone(void **state)
{
  int64_t next;
  (void)state;
  for (int i = 0; i < 3; i++)
  {
    char name[8];
    snprintf(name, sizeof name, "f%d", i);
    write_it(name, O_CREAT | O_TRUNC, "text");
  }
  atomic_store(&faulty.fault, FAIL_EIO);
  atomic_store(&faulty.times, 1000);
  for (int i = 0; i < 8; i++) /* the next try is half a minute away */
  {
    prelux_store_hurry(rig.s);
    send_all();
  }
  atomic_store(&faulty.times, 0);
  atomic_store(&faulty.deaf, false);
  assert_int_equal(prelux_stage_work(rig.g, &next), 0);
  assert_int_equal(pending(), 3);
  atomic_store(&rig.t->sent_ns, prelux_store_now()); /* it takes others: these have their time */
  write_it("other", O_CREAT, "text");
  send_all();
  assert_int_equal(pending(), 3);
  atomic_store(&rig.t->sent_ns, prelux_store_now() - PRELUX_RESUME_NS);
  write_it("new", O_CREAT, "text");
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(remote_text("f2"), "text");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_who_does_not_wait_goes_on, learn_and_go, tear_down),
      cmocka_unit_test_setup_teardown(test_all_go_when_one_has_gone, learn_and_go, tear_down),
      cmocka_unit_test_setup_teardown(test_who_waits_and_who_knows_nothing_is_told, learn_and_go, tear_down),
      cmocka_unit_test_setup_teardown(test_a_new_name_that_was_not_new, learn_and_go, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
