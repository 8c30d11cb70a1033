/* Names of an `async` mapping when something goes wrong: what a daemon that died leaves to the next, what lost answers and refusals come to. */
#include <sqlite3.h>

#include "tests/unit/far_rig.h"

/* ---- a journal that fails ---- */

static void sql(const char *text)
{
  char path[300];
  sqlite3 *db;
  snprintf(path, sizeof path, "%s/.prelux/journal.db", rig.cache);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
}

/* Such a row that cannot be dropped just then goes with the next change: a start would do what a program was told has failed. */
static void test_overtaken_and_not_dropped(void **state)
{
  (void)state;
  rig_close();
  sql("INSERT INTO meta VALUES('stop','0'); CREATE TRIGGER stop BEFORE DELETE ON pending WHEN (SELECT value FROM meta WHERE key='stop')='1' "
      "BEGIN SELECT RAISE(FAIL, 'stop'); END");
  assert_int_equal(rig_open(), 0);
  assert_int_equal(mkd("d"), 0);
  write_file("d/f", "text");
  assert_int_equal(prelux_journal_set_meta(rig.g->journal, "stop", "1"), 0);
  assert_int_equal(prelux_deferred_queue(rig.g, prelux_deferred_new(rig.t, PRELUX_INTENT_RMDIR, "d", NULL), NULL, &rig.why), -ENOTEMPTY);
  assert_int_equal(prelux_journal_set_meta(rig.g->journal, "stop", "0"), 0);
  assert_int_equal(pending(), 3);
  assert_int_equal(mkd("e"), 0);
  assert_int_equal(pending(), 3);
  restart();
  send_all();
  assert_string_equal(far.log, "mkdir d; mkdir e; put d/f; ");
  assert_int_equal(pending(), 0);
}

/* ---- a daemon dies ---- */

static void test_restart(void **state)
{
  struct prelux_attr was, attr;
  (void)state;
  put_text("a", "of a");
  put_text("f", "of f");
  make_remote("e");
  assert_string_equal(ls(""), "a e/ f ");
  assert_string_equal(ls("e"), "");
  assert_string_equal(read_text("a"), "of a");
  assert_int_equal(look("a", &was), 0);
  far.down = true;
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(rmd("e"), 0);
  assert_int_equal(mkd("d"), 0);
  write_file("d/g", "of g");
  restart();
  assert_int_equal(pending(), 5);
  assert_int_equal(look("a", &attr), -ENOENT);
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_int_equal(look("e", &attr), -ENOENT);
  assert_int_equal(look("d", &attr), 0);
  assert_string_equal(ls("d"), "g ");
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
  assert_int_equal(attr.size, was.size);
  assert_int_equal(attr.mtime_ns, was.mtime_ns);
  far.down = false;
  assert_string_equal(ls(""), "b d/ ");
  send_all();
  assert_string_equal(ls(""), "b d/ ");
  assert_int_equal(pending(), 0);
  assert_string_equal(remote_text("b"), "of a");
  assert_string_equal(remote_text("d/g"), "of g");
  assert_null(remote_text("f"));
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
}

/* The remote had done it all when the daemon died. */
static void test_restart_behind_the_deed(void **state)
{
  char from[600], to[600];
  (void)state;
  put_text("a", "of a");
  put_text("f", "of f");
  make_remote("e");
  assert_string_equal(ls("e"), "");
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(rmd("e"), 0);
  assert_int_equal(mkd("d"), 0);
  snprintf(from, sizeof from, "%s/a", rig.remote);
  snprintf(to, sizeof to, "%s/b", rig.remote);
  assert_int_equal(rename(from, to), 0);
  snprintf(from, sizeof from, "%s/f", rig.remote);
  assert_int_equal(unlink(from), 0);
  snprintf(from, sizeof from, "%s/e", rig.remote);
  assert_int_equal(rmdir(from), 0);
  make_remote("d");
  restart();
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(ls(""), "b d/ ");
  assert_string_equal(read_text("b"), "of a");
}

/* ---- what goes wrong ---- */

static void test_lost_answers(void **state)
{
  (void)state;
  put_text("a", "of a");
  put_text("f", "of f");
  make_remote("e");
  assert_string_equal(ls("e"), "");
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(rmd("e"), 0);
  assert_int_equal(mkd("d"), 0);
  far.lose = 4;
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(ls(""), "b d/ ");
  assert_string_equal(far.log, "mv a>b; rm f; rmdir e; mkdir d; ");
}

/* Done, and the first try failed all the same: the next finds it done. */
static void test_rename_found_done(void **state)
{
  (void)state;
  put_text("a", "of a");
  assert_int_equal(mv("a", "b"), 0);
  far.rename_only_there = true;
  try_once();
  far.rename_only_there = false;
  assert_int_equal(pending(), 1);
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(read_text("b"), "of a");
}

static int first_row(void *arg, const struct prelux_owed *o)
{
  if (*(int64_t *)arg == 0)
    *(int64_t *)arg = o->id;
  return 0;
}

static int64_t first_id(void)
{
  int64_t id = 0;
  prelux_store_owed(rig.s, first_row, &id);
  return id;
}

static void test_refused(void **state)
{
  struct prelux_attr attr;
  struct prelux_owed_sum sum;
  (void)state;
  put_text("f", "of f");
  put_text("a", "of a");
  assert_string_equal(read_text("a"), "of a");
  assert_int_equal(rm("f"), 0);
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(mkd("d"), 0);
  far.refuse = 3;
  send_all();
  assert_string_equal(ls(""), "a f ");
  assert_int_equal(look("b", &attr), -ENOENT);
  assert_int_equal(look("d", &attr), -ENOENT);
  assert_string_equal(read_text("f"), "of f");
  assert_string_equal(read_text("a"), "of a");
  assert_false(prelux_store_owes(rig.s));
  prelux_store_owed_sum(rig.s, &sum);
  assert_int_equal(sum.files[PRELUX_OWED_REFUSED], 3);
  assert_int_equal(prelux_store_retry(rig.s, first_id(), false, &rig.why), 0);
  assert_int_equal(look("f", &attr), -ENOENT);
  send_all();
  assert_null(remote_text("f"));
  while (first_id())
    assert_int_equal(prelux_store_drop(rig.s, first_id(), &rig.why), 0);
  assert_int_equal(pending(), 0);
  assert_string_equal(ls(""), "a ");
}

/* Somebody else puts a file into the folder: rmdir is refused, and the folder is there again. */
static void test_refused_rmdir(void **state)
{
  (void)state;
  make_remote("d");
  assert_string_equal(ls("d"), "");
  assert_int_equal(rmd("d"), 0);
  put_text("d/theirs", "of others");
  send_all();
  assert_string_equal(ls(""), "d/ ");
  assert_string_equal(read_text("d/theirs"), "of others");
  assert_int_equal(pending(), 1);
}

static void test_drop_what_waits(void **state)
{
  (void)state;
  put_text("f", "of f");
  assert_string_equal(ls(""), "f ");
  far.down = true;
  assert_int_equal(rm("f"), 0);
  assert_int_equal(prelux_store_drop(rig.s, first_id(), &rig.why), 0);
  far.down = false;
  assert_string_equal(ls(""), "f ");
  assert_string_equal(read_text("f"), "of f");
  assert_string_equal(far.log, "");
}

/* The state behind an insertion for which there was no memory: what came later does not pass it. */
static void test_no_place_in_the_order(void **state)
{
  struct prelux_attr attr;
  (void)state;
  put_text("f", "old");
  assert_int_equal(look("f", &attr), 0);
  for (int both = 0; both < 2; both++)
  {
    far.log[0] = 0;
    assert_int_equal(rm("f"), 0);
    assert_true(prelux_order_remove(rig.g->order, rig.g->names->row.id));
    rig.g->unplaced = true;
    if (!both)
    {
      prelux_store_hurry(rig.s);
      assert_true(prelux_store_wants_sender(rig.s)); /* though it is all there is */
      prelux_store_send_all(rig.s);
    }
    write_file("f", "new");
    send_all();
    assert_string_equal(far.log, "rm f; put f; ");
  }
  assert_string_equal(remote_text("f"), "new");
  assert_int_equal(pending(), 0);
}

/* A row that is done, and cannot be dropped: nobody may come to its path before it is, or a start would undo what he did there. */
static void test_done_and_not_dropped(void **state)
{
  struct prelux_attr attr;
  (void)state;
  put_text("f", "old");
  put_text("a", "of a");
  assert_int_equal(look("f", &attr), 0);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mv("a", "b"), 0);
  set_full(true);
  send_all();
  set_full(false);
  assert_string_equal(far.log, "rm f; mkdir d; mv a>b; ");
  assert_int_equal(pending(), 3);
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_int_equal(look("a", &attr), -ENOENT);
  assert_int_equal(look("b", &attr), 0);
  write_file("f", "new");
  write_file("a", "anew");
  send_all();
  assert_int_equal(pending(), 0);
  restart();
  send_all();
  assert_string_equal(far.log, "rm f; mkdir d; mv a>b; put f; put a; ");
  assert_string_equal(remote_text("f"), "new");
  assert_string_equal(remote_text("a"), "anew");
  assert_string_equal(remote_text("b"), "of a");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_far, tear_down)
      TEST(test_overtaken_and_not_dropped),
      TEST(test_restart),
      TEST(test_restart_behind_the_deed),
      TEST(test_lost_answers),
      TEST(test_rename_found_done),
      TEST(test_refused),
      TEST(test_refused_rmdir),
      TEST(test_drop_what_waits),
      TEST(test_no_place_in_the_order),
      TEST(test_done_and_not_dropped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
