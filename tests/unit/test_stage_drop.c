/* after_upload: drop. What the remote has leaves the node; who has it open goes on with it. */
#include "tests/unit/stage_rig.h"

static bool cached(const char *object)
{
  struct stat st;
  char path[700];
  snprintf(path, sizeof path, "%s/%s", prelux_tree_root(rig.t), object);
  return lstat(path, &st) == 0;
}

static bool staged(uint64_t ino)
{
  struct stat st;
  char path[600];
  snprintf(path, sizeof path, "%s/%llu", prelux_store_staging(rig.s), (unsigned long long)ino);
  return lstat(path, &st) == 0;
}

static uint64_t number_of(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino;
}

/* Sends what waits. */
static void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static void test_nothing_stays(void **state)
{
  struct prelux_attr slot, inode;
  rig.rules.drop = true;
  int fd = wopen("new", O_WRONLY | O_CREAT);
  uint64_t ino = number_of(fd);
  say(fd, "hello");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("new"), "hello");
  assert_false(cached("new") || staged(ino));
  assert_int_equal(pending(), 0);
  prelux_hold_sweep(rig.s); /* whoever sent it had it open */
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 0); /* the number may come again */
  assert_int_equal(prelux_store_stat(&rig.v, "new", 0, &slot, &rig.why), 0);
  assert_true(slot.size == 5 && !slot.cached && slot.mode == 0640);
  assert_string_equal(read_text("new"), "hello"); /* fetched */
  assert_true(cached("new"));
}

static void test_readers_go_on(void **state)
{
  struct prelux_attr before, after, inode;
  char buf[16] = "";
  int reader = -1;
  rig.rules.drop = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  uint64_t ino = number_of(fd);
  say(fd, "hello");
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &before, &reader, &rig.why), 0);
  assert_int_equal(number_of(reader), ino);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(read(reader, buf, sizeof buf), 5);
  assert_string_equal(buf, "hello");
  /* fstat of it goes on to say what it is, and nobody else gets its number. */
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 1);
  assert_true(inode.ino == before.ino && !(inode.flags & PRELUX_ATTR_LIVE));
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &after, &rig.why), 0);
  assert_true(after.ino == before.ino && after.mtime_ns == inode.mtime_ns);
  assert_false(cached("f") || staged(ino));
  close(reader);
  prelux_hold_sweep(rig.s);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 0);
}

/* A cached file that is written to, and one that was only opened. */
static void test_cached_before(void **state)
{
  put_text("old", "abc");
  put_text("same", "xyz");
  assert_string_equal(read_text("old"), "abc");
  assert_string_equal(read_text("same"), "xyz");
  rig.rules.drop = true;
  int fd = wopen("old", O_WRONLY | O_APPEND);
  say(fd, "def");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("old"), "abcdef");
  assert_false(cached("old"));
  fd = wopen("same", O_RDWR);
  assert_int_equal(wclose(fd), 0);
  assert_true(cached("same")); /* nothing was sent */
  fd = wopen("old", O_WRONLY | O_APPEND);
  say(fd, "ghi");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("old"), "abcdefghi");
  assert_int_equal(pending(), 0);
}

/* Over an older version in the cache, which was never opened for writing. */
static void test_older_version_goes(void **state)
{
  put_text("f", "one");
  assert_string_equal(read_text("f"), "one");
  put_text("f", "two, longer");
  rig.rules.drop = true;
  int fd = wopen("f", O_WRONLY | O_TRUNC);
  say(fd, "three");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("f"), "three");
  assert_false(cached("f"));
  assert_string_equal(read_text("f"), "three");
}

/* Cut without being in the cache: it keeps the remote's mode, as one that is. */
static void test_cut_keeps_its_mode(void **state)
{
  struct stat st;
  char path[600];
  snprintf(path, sizeof path, "%s/script", rig.remote);
  put_text("script", "long");
  assert_int_equal(chmod(path, 0751), 0);
  int fd = wopen("script", O_WRONLY | O_CREAT | O_TRUNC);
  say(fd, "x");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("script"), "x");
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0751);
}

/* The rule is in the row: a daemon that comes later knows it, and one of two mappings says so by its last close. */
static void test_the_row_knows(void **state)
{
  rig.rules = (struct prelux_write_rules){.async = true, .drop = true, .publish = true};
  int fd = wopen("closed", O_WRONLY | O_CREAT);
  say(fd, "closed");
  assert_int_equal(wclose(fd), 0);
  assert_true(staged(prelux_dirty_by_path(rig.g, rig.t, "closed")->row.ino));
  fd = wopen("open", O_WRONLY | O_CREAT);
  say(fd, "open");
  rig_close();
  close(fd);
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_string_equal(remote_text("closed"), "closed");
  assert_string_equal(remote_text("open"), "open");
  assert_false(cached("closed") || cached("open"));
  fd = wopen("kept", O_WRONLY | O_CREAT);
  say(fd, "kept");
  rig.rules.drop = false;
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_true(cached("kept"));
  assert_int_equal(pending(), 0);
}

static void test_what_fails_stays(void **state)
{
  rig.rules.drop = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  uint64_t ino = number_of(fd);
  say(fd, "precious");
  atomic_store(&faulty.fault, FAIL_EIO);
  atomic_store(&faulty.times, 1);
  assert_int_equal(wclose(fd), -EIO);
  assert_true(staged(ino));
  assert_string_equal(read_text("f"), "precious");
  assert_int_equal(prelux_store_retry(rig.s, prelux_dirty_by_path(rig.g, rig.t, "f")->row.id, false, &rig.why), 0);
  send_all();
  assert_string_equal(remote_text("f"), "precious");
  assert_false(staged(ino) || cached("f"));
}

/* Between the file and its row the daemon died: the remote has it. */
static void test_died_before_the_row(void **state)
{
  char path[600];
  rig.rules = (struct prelux_write_rules){.async = true, .drop = true};
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "sent");
  assert_int_equal(wclose(fd), 0);
  put_text("f", "sent");
  snprintf(path, sizeof path, "%s/%llu", prelux_store_staging(rig.s), (unsigned long long)prelux_dirty_by_path(rig.g, rig.t, "f")->row.ino);
  rig_close();
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(pending(), 0);
  assert_string_equal(read_text("f"), "sent");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_nothing_stays, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_readers_go_on, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_cached_before, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_older_version_goes, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_cut_keeps_its_mode, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_the_row_knows, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_what_fails_stays, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_died_before_the_row, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
