/* Staging: what a hostile review found. Each lost acknowledged bytes once. */
#include "include/prelux/listing.h"
#include "lib/store/name.h"
#include "tests/unit/stage_rig.h"

enum { HEAD_START_US = 100000 }; /* for a thread to begin to wait */

struct opener {
  const char *path;
  int flags, got;
};

static void *open_it(void *arg)
{
  struct opener *o = arg;
  o->got = wopen(o->path, o->flags);
  return NULL;
}

static void write_async(const char *path, int flags, const char *text)
{
  rig.rules.async = true;
  int fd = wopen(path, O_WRONLY | O_CREAT | flags);
  assert_true(fd >= 0);
  say(fd, text);
  assert_int_equal(wclose(fd), 0);
}

static void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

/* `mv log log.1` while another program opens log anew: it gets a new file, not the one that was moved. */
static void test_an_open_that_waits_for_a_rename(void **state)
{
  struct opener o = {.path = "a", .flags = O_WRONLY | O_CREAT | O_TRUNC};
  struct prelux_claim c;
  pthread_t thread;
  (void)state;
  write_async("a", 0, "acknowledged");
  prelux_claim_take(&c, &rig.v, "a", "b");
  pthread_create(&thread, NULL, open_it, &o);
  usleep(HEAD_START_US);
  assert_int_equal(prelux_claim_rename(&c, "", true, &rig.why), 0);
  prelux_claim_drop(&c);
  pthread_join(thread, NULL);
  assert_true(o.got >= 0);
  say(o.got, "new");
  assert_int_equal(wclose(o.got), 0);
  send_all();
  assert_string_equal(remote_text("a"), "new");
  assert_string_equal(remote_text("b"), "acknowledged");
}

/* What was refused is kept as it was, whoever opens the path next. */
static void test_an_open_that_waits_for_a_refusal(void **state)
{
  struct opener o = {.path = "f", .flags = O_WRONLY | O_CREAT | O_TRUNC};
  char path[600], number[32];
  struct stat st;
  pthread_t thread;
  (void)state;
  write_async("f", 0, "acknowledged");
  struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "f");
  prelux_stage_name(d->row.ino, number);
  pthread_create(&thread, NULL, open_it, &o);
  usleep(HEAD_START_US);
  faulty.fault = FAIL_EACCES;
  faulty.times = 1;
  assert_int_equal(prelux_stage_send(rig.g, d, &rig.why), -EACCES);
  prelux_dirty_give(rig.g, d);
  pthread_join(thread, NULL);
  assert_true(o.got >= 0);
  snprintf(path, sizeof path, "%s/.prelux/staging/%s", rig.cache, number);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_size, strlen("acknowledged"));
  say(o.got, "next");
  assert_int_equal(wclose(o.got), 0);
  send_all();
  assert_string_equal(remote_text("f"), "next");
}

/* A row that stayed although its file was sent, and a new file with that inode number. */
static void test_a_number_that_was_given_again(void **state)
{
  (void)state;
  write_async("b", 0, "of b");
  struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "b");
  int64_t id = d->row.id;
  struct prelux_pending stale = d->row;
  prelux_dirty_give(rig.g, d);
  /* b's row is the later one: it is written again behind the stale one. */
  struct prelux_pending b = stale;
  b.path = (char *)"b";
  stale.path = (char *)"a";
  stale.id = id;
  stale.flags = PRELUX_PENDING_OVER;
  stale.state = PRELUX_PENDING_READY;
  assert_int_equal(prelux_stage_journal(rig.g, PRELUX_EDIT_SET, &stale), 0);
  b.id = 0;
  assert_int_equal(prelux_stage_journal(rig.g, PRELUX_EDIT_ADD, &b), 0);
  rig_close();
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_null(remote_text("a"));
  assert_string_equal(remote_text("b"), "of b");
}

/* The daemon dies when the remote has renamed, and before it knows: the target's former bytes are not sent over what came. */
static void test_a_rename_onto_what_waits_cut_off(void **state)
{
  struct prelux_claim c;
  struct prelux_object now = {0};
  (void)state;
  int fd = wopen("tmp", O_WRONLY | O_CREAT);
  say(fd, "precious");
  assert_int_equal(wclose(fd), 0);
  write_async("t", O_TRUNC, "old");
  prelux_claim_take(&c, &rig.v, "tmp", "t");
  assert_int_equal(prelux_claim_shelve(&c, 1, &rig.why), 0); /* as move_file() does */
  assert_int_equal(faulty.real->ops->write->rename(faulty.real, "tmp", "t", 0, &now, &rig.why), 0);
  prelux_claim_drop(&c);
  rig_close();
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_string_equal(remote_text("t"), "precious");
}

static void test_a_rename_onto_what_waits_that_fails(void **state)
{
  (void)state;
  int fd = wopen("tmp", O_WRONLY | O_CREAT);
  say(fd, "new");
  assert_int_equal(wclose(fd), 0);
  write_async("t", O_TRUNC, "waits");
  faulty.write.rename = NULL;
  assert_true(prelux_store_rename(&rig.v, &rig.rules, "tmp", "t", 0, &rig.why) < 0);
  rig_close();
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_string_equal(remote_text("t"), "waits");
  assert_string_equal(remote_text("tmp"), "new");
}

/* Names as a program reads them, one after another. */
static const char *list_root(void)
{
  static char names[300];
  struct prelux_attr attr;
  struct stat st;
  int fd = -1;
  names[0] = 0;
  assert_int_equal(prelux_store_list(&rig.v, "", 0, &attr, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &st), 0);
  struct prelux_listing *l = malloc((size_t)st.st_size);
  assert_int_equal(pread(fd, l, (size_t)st.st_size, 0), st.st_size);
  close(fd);
  for (uint32_t i = 0; i < l->count; i++)
  {
    strcat(names, (const char *)l + l->entries[i].name_off);
    strcat(names, " ");
  }
  free(l);
  return names;
}

/* A file that is sent, and settles, while its folder is being listed: the remote had not got it when it listed, and here it is no live
 * file any more. */
static void test_a_file_that_settles_during_a_listing(void **state)
{
  (void)state;
  put_text("old", "of the remote");
  write_async("f", 0, "acknowledged");
  faulty.listed = send_all;
  assert_string_equal(list_root(), "f old ");
  assert_string_equal(remote_text("f"), "acknowledged");
  assert_string_equal(list_root(), "f old ");
}

static int settle_at_fstat(int fd, struct stat *ret)
{
  prelux_os.fstat = fstat;
  send_all();
  return fstat(fd, ret);
}

/* ... and of a listing that comes from memory, when it is about to be sent. */
static void test_a_file_that_settles_behind_a_listing(void **state)
{
  (void)state;
  put_text("old", "of the remote");
  assert_string_equal(list_root(), "old ");
  write_async("f", 0, "acknowledged");
  assert_string_equal(list_root(), "f old ");
  write_async("g", 0, "acknowledged too");
  prelux_os.fstat = settle_at_fstat;
  assert_string_equal(list_root(), "f g old ");
  assert_ptr_equal(prelux_os.fstat, fstat);
  assert_string_equal(remote_text("g"), "acknowledged too");
  assert_string_equal(list_root(), "f g old ");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_an_open_that_waits_for_a_rename, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_an_open_that_waits_for_a_refusal, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_number_that_was_given_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_onto_what_waits_cut_off, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_onto_what_waits_that_fails, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_settles_during_a_listing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_settles_behind_a_listing, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
