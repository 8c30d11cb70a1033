/* O_EXCL and a daemon that dies when the file has been made and nobody knows yet: who asked for it comes again and gets it, others are told EEXIST. */
#include "tests/unit/stage_rig.h"

static int start(void **state)
{
  int rc = set_up(state);
  rig.rules.async = true;
  return rc;
}

static int make(const char *object, uint64_t once)
{
  struct prelux_attr attr;
  const struct prelux_asker by = {.once = once, .pidfd = -1};
  int fd = -1, rc = prelux_store_open_write(&rig.v, &rig.rules, object, O_WRONLY | O_CREAT | O_EXCL, 0640, &by, &attr, &fd, &rig.why);
  return rc < 0 ? rc : fd;
}

/* The descriptor is lost with the daemon. */
static void make_and_die(const char *object, uint64_t once)
{
  int fd = make(object, once);
  assert_true(fd >= 0);
  close(fd);
  rig_close();
  assert_int_equal(rig_open(), 0);
}

static const struct prelux_dirty *dirty(const char *object)
{
  return prelux_dirty_by_path(rig.g, rig.t, object);
}

static void send_all(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static void test_asked_again(void **state)
{
  struct prelux_attr attr;
  (void)state;
  make_and_die("f", UINT64_MAX - 5);
  prelux_stage_poll(rig.g); /* housekeeping */
  send_all();
  assert_null(remote_text("f"));
  assert_int_equal(make("f", 0), -EEXIST);
  assert_int_equal(make("f", 77), -EEXIST);
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &attr, &rig.why), 0);
  assert_true(attr.mtime_ns > 0);
  int fd = make("f", UINT64_MAX - 5);
  assert_true(fd >= 0);
  say(fd, "mine");
  assert_int_equal(make("f", 77), -EEXIST);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(make("f", UINT64_MAX - 5), -EEXIST); /* it has heard by now */
  send_all();
  assert_string_equal(remote_text("f"), "mine");
}

/* The second one dies, too. */
static void test_asked_three_times(void **state)
{
  (void)state;
  make_and_die("f", 5);
  make_and_die("f", 5);
  int fd = make("f", 5);
  assert_true(fd >= 0);
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("f"), "");
  struct stat st;
  char path[600];
  snprintf(path, sizeof path, "%s/f", rig.remote);
  assert_int_equal(stat(path, &st), 0);
  assert_true(st.st_mtim.tv_sec > 1000000000);
}

/* Who asked is dead, too. */
static void test_nobody_comes(void **state)
{
  (void)state;
  make_and_die("f", 5);
  struct prelux_dirty *d = prelux_dirty_by_path(rig.g, rig.t, "f");
  assert_int_equal(d->row.state, PRELUX_PENDING_WRITING);
  d->row.made_ns -= 16000000000ll;
  prelux_stage_poll(rig.g);
  assert_int_equal(dirty("f")->row.state, PRELUX_PENDING_READY);
  send_all();
  assert_string_equal(remote_text("f"), "");
  assert_int_equal(pending(), 0);
  d = NULL;
  rig.rules.publish = true; /* else: test_stage_crash.c */
  int fd = make("g", 6);
  say(fd, "written to");
  close(fd);
  rig_close();
  assert_int_equal(rig_open(), 0);
  assert_int_equal(dirty("g")->row.state, PRELUX_PENDING_READY); /* he had heard */
  make_and_die("h", 0);
  assert_int_equal(dirty("h")->row.state, PRELUX_PENDING_READY);
}

static void test_others_go_on(void **state)
{
  (void)state;
  make_and_die("f", 5);
  int fd = wopen("f", O_WRONLY | O_CREAT);
  assert_true(fd >= 0);
  say(fd, "other");
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("f"), "other");
  make_and_die("g", 5);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "g", "h", 0, &rig.why), 0);
  fd = make("g", 5); /* it is another one now */
  assert_true(fd >= 0);
  assert_int_equal(wclose(fd), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, tear_down)

/* Nobody comes again to the daemon that has answered him. */
static void test_closed_without_a_word(void **state)
{
  (void)state;
  int fd = make("f", 77);
  close(fd);
  prelux_stage_poll(rig.g);
  assert_int_equal(dirty("f")->row.state, PRELUX_PENDING_READY);
}

int main(void)
{
  const struct CMUnitTest tests[] = {TEST(test_asked_again), TEST(test_asked_three_times), TEST(test_nobody_comes), TEST(test_others_go_on),
                                     TEST(test_closed_without_a_word)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
