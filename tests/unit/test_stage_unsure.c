/* Staging: bytes that the remote may have, because the answer to a put was lost or the daemon died in the middle, and what the program does with the file
 * before anybody can look. */
#include "lib/store/name.h"
#include "tests/unit/stage_rig.h"

static int real_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret, struct prelux_problem *why)
{
  (void)b;
  return faulty.real->ops->write->rename(faulty.real, from, to, flags, ret, why);
}

static int real_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  (void)b;
  return faulty.real->ops->write->remove(faulty.real, path, cond, why);
}

/* From the next put on nobody can look. */
static bool deafens;

static int deafening_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                         struct prelux_problem *why)
{
  if (deafens)
    atomic_store(&faulty.deaf, true);
  deafens = false;
  return faulty_put(b, path, fd, size, how, ret, why);
}

static int start(void **state)
{
  int rc = set_up(state);
  faulty.write.put = deafening_put;
  faulty.write.rename = real_rename;
  faulty.write.remove = real_remove;
  rig.rules.async = true;
  return rc;
}

static void write_it(const char *path, int flags, const char *text)
{
  int fd = wopen(path, O_WRONLY | flags);
  assert_true(fd >= 0);
  say(fd, text);
  assert_int_equal(wclose(fd), 0);
}

static void send_all(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static void send_all_once(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  prelux_stage_work(rig.g, &next);
}

/* What the file is now is sent; the answer is lost, and nobody can look any more. */
static void lose(enum fault fault)
{
  int puts = atomic_load(&faulty.puts);
  atomic_store(&faulty.fault, (int)fault);
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.deaf, false);
  deafens = true;
  send_all_once();
  assert_int_equal(atomic_load(&faulty.puts), puts + 1);
}

static void restart(void)
{
  rig_close();
  assert_int_equal(rig_open(), 0);
}

static const char *state_of(const char *path)
{
  static const char *const states[] = {"writing", "ready", "refused", "recovered"};
  for (size_t i = 0; i < rig.g->slots; i++)
    for (const struct prelux_dirty *d = rig.g->by_ino[i]; d; d = d->by_ino)
      if (d->row.path && strcmp(d->row.path, path) == 0)
        return states[d->row.state];
  return "gone";
}

static void test_written_on(void **state)
{
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_AFTER);
  assert_string_equal(remote_text("f"), "one");
  write_it("f", O_APPEND, " two");
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(state_of("f"), "gone");
  assert_string_equal(remote_text("f"), "one two");
}

static void test_written_on_again_and_again(void **state)
{
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_AFTER);
  write_it("f", O_APPEND, " two");
  lose(LOSE_BEFORE); /* never got there: what is there is older */
  restart();
  write_it("f", O_APPEND, " three");
  restart();
  atomic_store(&faulty.deaf, false);
  write_it("f", O_APPEND, " four");
  send_all();
  assert_string_equal(state_of("f"), "gone");
  assert_string_equal(remote_text("f"), "one two three four");
}

/* As a log that grows through a long outage: what got there first is known, however many tries and states there were since. */
static void test_written_on_while_away(void **state)
{
  char text[200] = "one";
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_AFTER);
  int puts = atomic_load(&faulty.puts);
  for (int i = 0; i < 20; i++)
  {
    atomic_store(&faulty.times, 1);
    atomic_store(&faulty.fault, LOSE_BEFORE);
    write_it("f", O_APPEND, " more");
    strcat(text, " more");
    send_all_once();
  }
  assert_int_equal(atomic_load(&faulty.puts), puts);
  atomic_store(&faulty.times, 0);
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(state_of("f"), "gone");
  assert_string_equal(remote_text("f"), text);
}

/* The remote can be looked at, and each put is lost. */
static void test_many_lost(void **state)
{
  char text[200] = "one";
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_AFTER);
  for (int i = 0; i < 20; i++)
  {
    write_it("f", O_APPEND, " more");
    strcat(text, " more");
    lose(LOSE_BEFORE);
  }
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(state_of("f"), "gone");
  assert_string_equal(remote_text("f"), text);
}

static void test_a_daemon_that_died(void **state)
{
  struct prelux_object now = {0};
  struct prelux_put how = {0};
  (void)state;
  write_it("f", O_CREAT, "one");
  char path[600];
  snprintf(path, sizeof path, "%s/bytes", rig.top);
  int fd = open(path, O_RDWR | O_CREAT, 0600);
  say(fd, "one");
  assert_int_equal(faulty.real->ops->write->put(faulty.real, "f", fd, 3, &how, &now, &rig.why), 0); /* its put, and nobody wrote that down */
  close(fd);
  restart();
  atomic_store(&faulty.deaf, true);
  write_it("f", O_APPEND, " two");
  restart();
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(remote_text("f"), "one two");
}

static void test_somebody_elses(void **state)
{
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_BEFORE);
  write_it("f", O_APPEND, " two");
  put_text("f", "ten"); /* of the same size */
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(state_of("f"), "refused");
  assert_string_equal(remote_text("f"), "ten");
  write_it("g", O_CREAT, "one");
  lose(LOSE_BEFORE);
  write_it("g", O_APPEND, " two");
  put_text("g", "one two"); /* that was never sent */
  atomic_store(&faulty.deaf, false);
  send_all();
  assert_string_equal(state_of("g"), "refused");
  write_it("h", O_CREAT, "same");
  put_text("h", "same"); /* equal bytes are no proof when nothing was lost */
  send_all();
  assert_string_equal(state_of("h"), "refused");
}

static const struct prelux_write_rules at_once = {.async = false};

static void test_removed(void **state)
{
  (void)state;
  write_it("f", O_CREAT, "one");
  lose(LOSE_AFTER);
  write_it("f", O_APPEND, " two");
  atomic_store(&faulty.deaf, false);
  assert_int_equal(prelux_store_unlink(&rig.v, &at_once, "f", &rig.why), 0);
  assert_null(remote_text("f"));
  write_it("g", O_CREAT | O_TRUNC, "one");
  lose(LOSE_AFTER);
  write_it("g", O_TRUNC, "two");
  atomic_store(&faulty.deaf, false);
  assert_int_equal(prelux_store_unlink(&rig.v, &at_once, "g", &rig.why), 0);
  assert_null(remote_text("g"));
  send_all();
  assert_null(remote_text("f"));
}

static void test_renamed(void **state)
{
  (void)state;
  for (int more = 0; more < 2; more++)
  {
    write_it("f", O_CREAT, "one");
    lose(LOSE_AFTER);
    if (more)
      write_it("f", O_APPEND, " two");
    atomic_store(&faulty.deaf, false);
    assert_int_equal(prelux_store_rename(&rig.v, &at_once, "f", "g", 0, &rig.why), 0);
    assert_null(remote_text("f"));
    assert_string_equal(remote_text("g"), "one");
    write_it("g", O_APPEND, ", three");
    send_all();
    assert_string_equal(state_of("g"), "gone");
    assert_string_equal(remote_text("g"), more ? "one two, three" : "one, three");
    assert_int_equal(prelux_store_unlink(&rig.v, &at_once, "g", &rig.why), 0);
  }
}

static int no_renameat(int from, const char *old, int to, const char *new)
{
  (void)from, (void)old, (void)to, (void)new;
  errno = EIO;
  return -1;
}

/* The remote has it, and its file cannot be put into the cache. */
static void test_sent_and_not_kept(void **state)
{
  int64_t next;
  (void)state;
  write_it("f", O_CREAT, "one");
  struct prelux_os saved = prelux_os;
  prelux_os.renameat = no_renameat;
  prelux_stage_work(rig.g, &next);
  prelux_os = saved;
  assert_string_equal(state_of("f"), "ready");
  write_it("f", O_APPEND, " two");
  send_all();
  assert_string_equal(remote_text("f"), "one two");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_written_on, start, tear_down),
      cmocka_unit_test_setup_teardown(test_written_on_again_and_again, start, tear_down),
      cmocka_unit_test_setup_teardown(test_written_on_while_away, start, tear_down),
      cmocka_unit_test_setup_teardown(test_many_lost, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_daemon_that_died, start, tear_down),
      cmocka_unit_test_setup_teardown(test_somebody_elses, start, tear_down),
      cmocka_unit_test_setup_teardown(test_removed, start, tear_down),
      cmocka_unit_test_setup_teardown(test_renamed, start, tear_down),
      cmocka_unit_test_setup_teardown(test_sent_and_not_kept, start, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
