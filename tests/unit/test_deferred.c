/* Names of an `async` mapping: what programs see while the remote does not know yet, what it gets and in which order. When something goes wrong:
 * test_deferred_fails.c. */
#include "tests/unit/far_rig.h"

/* ---- one at a time ---- */

static void test_unlink(void **state)
{
  struct prelux_attr attr;
  (void)state;
  put_text("f", "text");
  assert_string_equal(ls(""), "f ");
  far.down = true;
  assert_int_equal(rm("f"), 0);
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_string_equal(ls(""), "");
  assert_int_equal(rm("f"), -ENOENT);
  assert_int_equal(wopen("f", O_WRONLY), -ENOENT);
  assert_null(read_text("f"));
  assert_int_equal(pending(), 1);
  try_once();
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_int_equal(wopen("f", O_WRONLY), -ENOENT); /* the remote is known to be away by now: what is remembered of it counts less */
  assert_true(prelux_store_owes(rig.s));
  far.down = false;
  assert_non_null(remote_text("f"));
  send_all();
  assert_null(remote_text("f"));
  assert_int_equal(pending(), 0);
  assert_false(prelux_store_owes(rig.s));
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_string_equal(ls(""), "");
  assert_string_equal(far.log, "rm f; ");
}

static void test_mkdir(void **state)
{
  struct prelux_attr attr, later;
  (void)state;
  assert_string_equal(ls(""), "");
  far.down = true;
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mkd("d"), -EEXIST);
  assert_int_equal(look("d", &attr), 0);
  assert_int_equal(attr.type, PRELUX_DIR);
  assert_int_equal(attr.mode, 0750);
  assert_int_equal(look("d/x", &later), -ENOENT);
  assert_string_equal(ls(""), "d/ ");
  assert_string_equal(ls("d"), "");
  assert_int_equal(mkd("d/e"), 0);
  assert_string_equal(ls("d"), "e/ ");
  assert_int_equal(wopen("d", O_WRONLY), -EISDIR);
  write_file("d/e/f", "inside");
  assert_string_equal(ls("d/e"), "f ");
  assert_string_equal(read_text("d/e/f"), "inside");
  assert_int_equal(rm("d"), -EISDIR);
  try_once();
  write_file("d/late", "");
  assert_true(prelux_stage_away(rig.t)); /* a row is no word of the remote's */
  assert_int_equal(rm("d/late"), 0);
  far.down = false;
  send_all();
  assert_string_equal(far.log, "mkdir d; mkdir d/e; put d/e/f; ");
  assert_string_equal(remote_text("d/e/f"), "inside");
  assert_int_equal(pending(), 0);
  assert_int_equal(look("d", &later), 0);
  assert_int_equal(later.ino, attr.ino);
  assert_string_equal(ls("d"), "e/ ");
  assert_string_equal(ls("d/e"), "f ");
  restart();
  assert_int_equal(look("d", &later), 0);
  assert_int_equal(later.ino, attr.ino);
}

/* What was begun in a folder behind the look that found it empty, or made in one that has gone since. */
static void test_overtaken(void **state)
{
  (void)state;
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mkd("e"), 0);
  write_file("d/f", "text");
  assert_int_equal(prelux_deferred_queue(rig.g, prelux_deferred_new(rig.t, PRELUX_INTENT_RMDIR, "d", NULL), NULL, &rig.why), -ENOTEMPTY);
  assert_int_equal(rmd("e"), 0);
  assert_int_equal(prelux_deferred_queue(rig.g, prelux_deferred_new(rig.t, PRELUX_INTENT_MKDIR, "e/x", NULL), NULL, &rig.why), -ENOENT);
  send_all();
  assert_string_equal(far.log, "mkdir d; mkdir e; put d/f; rmdir e; ");
  assert_int_equal(pending(), 0);
}

static void test_rmdir(void **state)
{
  struct prelux_attr attr;
  (void)state;
  make_remote("d");
  put_text("d/f", "text");
  assert_string_equal(ls(""), "d/ ");
  assert_string_equal(ls("d"), "f ");
  far.down = true;
  assert_int_equal(rmd("d"), -ENOTEMPTY);
  assert_int_equal(rmd("d/f"), -ENOTDIR);
  assert_int_equal(rm("d/f"), 0);
  assert_int_equal(rmd("d"), 0);
  assert_int_equal(rmd("d"), -ENOENT);
  assert_int_equal(look("d", &attr), -ENOENT);
  assert_int_equal(look("d/f", &attr), -ENOENT);
  assert_int_equal(mkd("d/e"), -ENOENT);
  assert_int_equal(wopen("d/g", O_WRONLY | O_CREAT), -ENOENT);
  assert_string_equal(ls(""), "");
  far.down = false;
  send_all();
  assert_string_equal(far.log, "rm d/f; rmdir d; ");
  assert_int_equal(pending(), 0);
  assert_string_equal(ls(""), "");
}

static void test_rename(void **state)
{
  struct prelux_attr was, attr;
  (void)state;
  put_text("a", "of a");
  put_text("b", "of b, longer");
  assert_string_equal(read_text("a"), "of a");
  assert_string_equal(ls(""), "a b ");
  assert_int_equal(look("a", &was), 0);
  far.down = true;
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(look("a", &attr), -ENOENT);
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
  assert_int_equal(attr.size, 4);
  assert_int_equal(attr.mtime_ns, was.mtime_ns);
  assert_string_equal(ls(""), "b ");
  assert_int_equal(mv("a", "c"), -ENOENT);
  assert_string_equal(read_text("b"), "of a"); /* its bytes are here */
  assert_true(wopen("b", O_RDWR) < 0);         /* what it would be put over is not known */
  far.down = false;
  assert_string_equal(read_text("b"), "of a");
  assert_int_equal(pending(), 1); /* reading has not asked for it */
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(far.log, "mv a>b; ");
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
  assert_int_equal(attr.mtime_ns, was.mtime_ns);
  assert_true(attr.cached); /* its cache file came along */
}

/* What was cached under the old name need not be fetched under the new one. */
static void test_rename_keeps_the_cached(void **state)
{
  struct prelux_store_stats before_, after;
  (void)state;
  put_text("a", "of a");
  assert_string_equal(read_text("a"), "of a");
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(mv("b", "c"), 0);
  send_all();
  prelux_store_stats(rig.s, &before_);
  assert_string_equal(read_text("c"), "of a");
  prelux_store_stats(rig.s, &after);
  assert_int_equal(after.fills, before_.fills);
}

/* There and back: the file that comes back is the same inode all the time, with the locks that programs have on it. */
static void test_rename_there_and_back(void **state)
{
  struct prelux_attr first, last;
  struct prelux_store_stats before_, after;
  (void)state;
  put_text("l", "text");
  assert_string_equal(read_text("l"), "text");
  assert_string_equal(ls(""), "l ");
  assert_int_equal(look("l", &first), 0);
  assert_true(first.cached);
  far.down = true;
  assert_int_equal(mv("l", "m"), 0);
  assert_int_equal(mv("m", "l"), 0);
  far.down = false;
  send_all();
  assert_string_equal(far.log, "mv l>m; mv m>l; ");
  prelux_store_stats(rig.s, &before_);
  assert_string_equal(read_text("l"), "text");
  assert_int_equal(look("l", &last), 0);
  assert_true(last.cached && last.cache_ino == first.cache_ino && last.ino == first.ino);
  prelux_store_stats(rig.s, &after);
  assert_int_equal(after.fills, before_.fills); /* or the number was given again */
}

static void test_rename_then_write(void **state)
{
  (void)state;
  put_text("a", "of a");
  assert_int_equal(mv("a", "b"), 0);
  int fd = wopen("b", O_WRONLY | O_APPEND); /* drains */
  assert_true(fd >= 0);
  say(fd, ", more");
  assert_int_equal(wclose(fd), 0);
  write_file("a", "anew");
  send_all();
  assert_string_equal(remote_text("b"), "of a, more");
  assert_string_equal(remote_text("a"), "anew");
}

/* ---- chains ---- */

static void test_chains(void **state)
{
  (void)state;
  put_text("a", "of a");
  put_text("x", "of x");
  assert_string_equal(ls(""), "a x ");
  far.down = true;
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(mv("b", "c"), 0);
  assert_string_equal(ls(""), "c x ");
  assert_int_equal(rm("x"), 0);
  assert_int_equal(mkd("x"), 0);
  assert_int_equal(rmd("x"), 0);
  write_file("x", "x anew");
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mv("c", "d/c"), 0);
  write_file("a", "a anew");
  assert_string_equal(ls(""), "a d/ x ");
  assert_string_equal(ls("d"), "c ");
  try_once();
  assert_string_equal(far.log, "");
  far.down = false;
  send_all();
  assert_string_equal(remote_text("d/c"), "of a");
  assert_string_equal(remote_text("x"), "x anew");
  assert_string_equal(remote_text("a"), "a anew");
  assert_string_equal(ls(""), "a d/ x ");
  assert_int_equal(pending(), 0);
}

/* A file that was begun before a change of the name that it gets: it goes behind that, and does so in the next daemon, too. */
static void test_a_file_gets_a_name_that_waits(void **state)
{
  (void)state;
  put_text("y", "old");
  assert_string_equal(ls(""), "y ");
  far.down = true;
  write_file("tmp", "new");
  assert_int_equal(rm("y"), 0);
  assert_int_equal(mkd("d"), 0);
  write_file("tmp2", "new 2");
  assert_int_equal(mv("tmp", "y"), 0);
  assert_int_equal(mv("tmp2", "d/z"), 0);
  restart();
  far.down = false;
  send_all();
  assert_string_equal(remote_text("y"), "new");
  assert_string_equal(remote_text("d/z"), "new 2");
  assert_int_equal(pending(), 0);
}

/* The answer to a put was lost, so the remote may have something of it: renamed, it is sent under its new name, and the old one is removed. */
static void test_rename_of_what_may_be_there(void **state)
{
  (void)state;
  assert_string_equal(ls(""), "");
  write_file("tmp", "precious");
  far.lose = 1;
  far.dies = true;
  try_once();
  assert_true(far.down);
  assert_int_equal(mv("tmp", "t"), 0);
  assert_string_equal(ls(""), "t ");
  far.down = false;
  assert_string_equal(remote_text("tmp"), "precious");
  send_all();
  assert_string_equal(remote_text("t"), "precious");
  assert_null(remote_text("tmp"));
  assert_string_equal(read_text("t"), "precious");
  assert_int_equal(pending(), 0);
}

/* The same of one that was there before, opened, written and renamed. */
static void test_rename_of_what_is_written_anew(void **state)
{
  struct prelux_attr was, attr;
  (void)state;
  put_text("a", "of a");
  assert_int_equal(look("a", &was), 0);
  int fd = wopen("a", O_WRONLY | O_APPEND);
  say(fd, ", more");
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
  assert_int_equal(look("a", &attr), -ENOENT);
  say(fd, ", and more");
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("b"), "of a, more, and more");
  assert_null(remote_text("a"));
  assert_int_equal(look("b", &attr), 0);
  assert_int_equal(attr.ino, was.ino);
}

/* A new file in the place of one that the remote has: removed, the old one must not come back. */
static void test_unlink_of_what_replaced(void **state)
{
  struct prelux_attr attr;
  (void)state;
  put_text("f", "old");
  assert_string_equal(read_text("f"), "old");
  write_file("tmp", "new");
  assert_int_equal(mv("tmp", "f"), 0);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(look("f", &attr), -ENOENT);
  send_all();
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_null(remote_text("f"));
}

static void test_onto_what_waits(void **state)
{
  (void)state;
  put_text("a", "of a");
  assert_string_equal(ls(""), "a ");
  far.down = true;
  write_file("b", "never sent");
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(pending(), 1);
  assert_string_equal(ls(""), "b ");
  restart();
  far.down = false;
  send_all();
  assert_string_equal(remote_text("b"), "of a");
  assert_string_equal(far.log, "mv a>b; ");
}

/* unlink of a file that is being written and that the remote has: row and staging file change in one step. */
static void test_unlink_of_what_is_written(void **state)
{
  (void)state;
  put_text("a", "of a");
  int fd = wopen("a", O_WRONLY | O_APPEND);
  say(fd, ", more");
  far.down = true;
  assert_int_equal(rm("a"), 0);
  assert_int_equal(pending(), 1);
  say(fd, ", for nobody");
  assert_int_equal(wclose(fd), 0);
  far.down = false;
  send_all();
  assert_null(remote_text("a"));
  assert_string_equal(far.log, "rm a; ");
}

/* ---- what does not wait ---- */

/* A folder's rename, attributes and what a `sync` mapping does: all that waits there goes first. */
static void test_drains(void **state)
{
  struct prelux_attr attr;
  const struct prelux_setattr set = {.which = PRELUX_SETATTR_MTIME, .mtime_ns = 5000000000};
  const struct prelux_write_rules sync = {.async = false};
  (void)state;
  put_text("a", "of a");
  put_text("other", "of others");
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mv("a", "d/a"), 0);
  assert_int_equal(rm("other"), 0);
  assert_int_equal(mv("d", "e"), 0);
  assert_string_equal(far.log, "mkdir d; mv a>d/a; mv d>e; ");
  assert_string_equal(ls(""), "e/ ");
  assert_string_equal(read_text("e/a"), "of a");
  assert_int_equal(mv("e/a", "e/b"), 0);
  assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "e/b", &set, &attr, &rig.why), 0);
  assert_string_equal(far.log, "mkdir d; mv a>d/a; mv d>e; mv e/a>e/b; ");
  assert_int_equal(rm("e/b"), 0);
  assert_int_equal(prelux_store_rmdir(&rig.v, &sync, "e", &rig.why), 0);
  assert_string_equal(far.log, "mkdir d; mv a>d/a; mv d>e; mv e/a>e/b; rm e/b; rmdir e; ");
  assert_int_equal(pending(), 1);
}

static void test_drain_fails(void **state)
{
  (void)state;
  assert_string_equal(ls(""), "");
  far.down = true;
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(mv("d", "e"), -EIO);
  assert_string_equal(ls(""), "d/ ");
  far.down = false;
  assert_int_equal(mv("d", "e"), 0);
  assert_string_equal(far.log, "mkdir d; mv d>e; ");
}

/* A `sync` close in a folder that waits. */
static void test_a_close_drains(void **state)
{
  (void)state;
  assert_int_equal(mkd("d"), 0);
  int fd = wopen("d/f", O_WRONLY | O_CREAT);
  say(fd, "text");
  rig.rules.async = false;
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(far.log, "mkdir d; put d/f; ");
}

/* What a power cut was not to undo goes to the remote before it is written again, and its folder before that. */
static void test_an_open_of_what_is_safe_drains(void **state)
{
  (void)state;
  rig.rules.power = true;
  assert_int_equal(mkd("d"), 0);
  write_file("d/f", "safe");
  int fd = wopen("d/f", O_WRONLY | O_APPEND);
  assert_true(fd >= 0);
  assert_string_equal(far.log, "mkdir d; put d/f; ");
  say(fd, ", more");
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("d/f"), "safe, more");
}

/* tar sets a folder's time when all is in it. */
static void test_attributes_of_a_new_folder(void **state)
{
  struct prelux_attr attr;
  const struct prelux_setattr set = {.which = PRELUX_SETATTR_MTIME | PRELUX_SETATTR_MODE, .mtime_ns = 5000000000, .mode = 0711};
  (void)state;
  assert_string_equal(ls(""), "");
  far.down = true;
  assert_int_equal(mkd("d"), 0);
  assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "d", &set, &attr, &rig.why), 0);
  assert_int_equal(attr.mtime_ns, 5000000000);
  restart();
  assert_int_equal(look("d", &attr), 0);
  assert_int_equal(attr.mtime_ns, 5000000000);
  assert_int_equal(attr.mode, 0711);
  far.down = false;
  send_all();
  assert_int_equal(look("d", &attr), 0);
  assert_int_equal(attr.mtime_ns, 5000000000);
  assert_int_equal(attr.mode, 0711);
}

static int slot(const char *object, struct prelux_attr *ret)
{
  return prelux_index_get(&rig.reader, rig.top, rig.v.id, object, strlen(object), ret);
}

/* No slot tells of the remote's object while a row names its path. */
static void test_slots(void **state)
{
  struct prelux_attr attr;
  (void)state;
  put_text("f", "of f");
  assert_int_equal(look("f", &attr), 0);
  assert_int_equal(slot("f", &attr), 1);
  assert_int_equal(rm("f"), 0);
  assert_int_equal(slot("f", &attr), 0);
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_int_equal(slot("f", &attr), 0);
  send_all();
  assert_int_equal(look("f", &attr), -ENOENT);
  assert_int_equal(slot("f", &attr), 1);
  assert_int_equal(attr.type, PRELUX_NONE);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_far, tear_down)
      TEST(test_unlink),
      TEST(test_mkdir),
      TEST(test_overtaken),
      TEST(test_rmdir),
      TEST(test_rename),
      TEST(test_rename_keeps_the_cached),
      TEST(test_rename_there_and_back),
      TEST(test_rename_then_write),
      TEST(test_chains),
      TEST(test_a_file_gets_a_name_that_waits),
      TEST(test_rename_of_what_may_be_there),
      TEST(test_rename_of_what_is_written_anew),
      TEST(test_unlink_of_what_replaced),
      TEST(test_onto_what_waits),
      TEST(test_unlink_of_what_is_written),
      TEST(test_drains),
      TEST(test_drain_fails),
      TEST(test_a_close_drains),
      TEST(test_an_open_of_what_is_safe_drains),
      TEST(test_attributes_of_a_new_folder),
      TEST(test_slots),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
