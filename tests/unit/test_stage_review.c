/* Staging: what a hostile review found. Each lost acknowledged bytes once. */
#include "include/prelux/listing.h"
#include <time.h>

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
  prelux_stage_name(rig.g, d->row.ino, number);
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
  rig.rules.async = false; /* at once */
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

static struct prelux_os real;
static int refused_opens;

static int openat_refused(int dirfd, const char *name, int flags, ...)
{
  if (dirfd == rig.g->fd && name[0] != '.' && (flags & O_ACCMODE) != O_RDONLY && refused_opens-- > 0)
  {
    errno = EMFILE;
    return -1;
  }
  return real.openat(dirfd, name, flags, 0600);
}

/* No descriptor is free for who opens what waits: all is as before, and it is sent as it was. */
static void test_an_open_that_gets_no_descriptor(void **state)
{
  (void)state;
  write_async("f", 0, "acknowledged");
  real = prelux_os;
  prelux_os.openat = openat_refused;
  for (int i = 0; i < 2; i++)
  {
    refused_opens = 1;
    assert_int_equal(wopen("f", O_WRONLY | (i ? O_TRUNC : O_APPEND)), -EMFILE);
    struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "f");
    assert_true(d->row.state == PRELUX_PENDING_READY && d->queued);
    prelux_dirty_give(rig.g, d);
  }
  prelux_os = real;
  send_all();
  assert_string_equal(remote_text("f"), "acknowledged");
}

static void test_cut_by_who_reads(void **state)
{
  (void)state;
  write_async("f", 0, "acknowledged");
  send_all();
  int fd = wopen("f", O_RDONLY | O_TRUNC);
  assert_true(fd >= 0);
  assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("f"), "");
}

/* Kernels before 6.13 stamp files with the coarse clock, and this is what the file that is written has of it. */
static struct timespec stamped;

static int coarse_fstat(int fd, struct stat *st)
{
  char link[64], path[600];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  int rc = real.fstat(fd, st);
  if (strstr(path, "/.prelux/staging/"))
    st->st_mtim = st->st_ctim = stamped;
  return rc;
}

/* The clean file is taken out of the tree, and was fetched just now, of a remote that does not say when it was written. */
static int coarse_renameat(int from, const char *old, int to, const char *new)
{
  clock_gettime(CLOCK_REALTIME_COARSE, &stamped);
  return real.renameat(from, old, to, new);
}

/* Fetched, opened and written within one tick of the clock that stamps files: written all the same. */
static void test_a_write_within_the_tick(void **state)
{
  (void)state;
  real = prelux_os;
  prelux_os.fstat = coarse_fstat;
  prelux_os.renameat = coarse_renameat;
  for (int i = 0; i < 10; i++)
  {
    char name[16];
    snprintf(name, sizeof name, "f%d", i);
    put_text(name, "aaaa");
    int fd = wopen(name, O_RDWR);
    clock_gettime(CLOCK_REALTIME_COARSE, &stamped);
    assert_int_equal(pwrite(fd, "b", 1, 0), 1);
    assert_int_equal(wclose(fd), 0);
    assert_string_equal(remote_text(name), "baaa");
  }
  prelux_os = real;
}

static void test_what_stands_in_no_queue(void **state)
{
  (void)state;
  write_async("f", 0, "acknowledged");
  struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "f");
  assert_true(prelux_order_remove(rig.g->order, d->row.id)); /* as after want of memory */
  d->queued = false;
  prelux_dirty_give(rig.g, d);
  send_all();
  assert_null(remote_text("f"));
  prelux_stage_poll(rig.g);
  send_all();
  assert_string_equal(remote_text("f"), "acknowledged");
}

/* tmp is on the remote, and was written on here; its rename to t began. done: on the remote it is done. */
static void begin_rename(bool done)
{
  struct prelux_claim c;
  struct prelux_object now = {0};
  write_async("tmp", 0, "one");
  send_all();
  write_async("tmp", O_APPEND, " two");
  prelux_claim_take(&c, &rig.v, "tmp", "t");
  assert_int_equal(prelux_claim_shelve(&c, 1, &rig.why), 0); /* as move_file() does */
  if (done)
    assert_int_equal(faulty.real->ops->write->rename(faulty.real, "tmp", "t", 0, &now, &rig.why), 0);
  prelux_claim_drop(&c);
  rig_close();
  assert_int_equal(rig_open(), 0);
}

static void test_a_rename_cut_off(void **state)
{
  (void)state;
  begin_rename(true);
  send_all();
  assert_null(remote_text("tmp"));
  assert_string_equal(remote_text("t"), "one two");
  assert_string_equal(read_text("t"), "one two");
  assert_int_equal(wopen("tmp", O_WRONLY), -ENOENT);
}

static void test_a_rename_cut_off_before_it_was_done(void **state)
{
  (void)state;
  begin_rename(false);
  write_async("tmp", O_APPEND, " three");
  send_all();
  assert_string_equal(remote_text("tmp"), "one two three");
  assert_null(remote_text("t"));
}

/* Nobody can look at first; then the old name is opened, and made anew. */
static void test_a_rename_cut_off_and_a_remote_away(void **state)
{
  (void)state;
  begin_rename(true);
  atomic_store(&faulty.deaf, true);
  send_all();
  struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "tmp");
  assert_true(d->row.state == PRELUX_PENDING_READY && d->row.to);
  prelux_dirty_give(rig.g, d);
  atomic_store(&faulty.deaf, false);
  write_async("tmp", O_TRUNC, "anew");
  prelux_store_hurry(rig.s);
  send_all();
  assert_string_equal(remote_text("t"), "one two");
  assert_string_equal(remote_text("tmp"), "anew");
}

/* The new name was written before anybody had looked: what was to come there is kept for a person. */
static void test_a_rename_cut_off_and_a_target_written_anew(void **state)
{
  (void)state;
  begin_rename(true);
  write_async("t", O_TRUNC, "newer");
  send_all();
  prelux_store_hurry(rig.s);
  send_all();
  assert_string_equal(remote_text("t"), "newer");
  assert_int_equal(rig.g->count, 1);
  assert_int_equal(rig.g->refused, 1);
}

/* The program asks the next daemon for the same rename. */
static void test_a_rename_cut_off_and_asked_again(void **state)
{
  (void)state;
  begin_rename(true);
  int rc = prelux_store_rename(&rig.v, &rig.rules, "tmp", "t", 0, &rig.why);
  assert_true(rc == 0 || rc == -ENOENT); /* which the library takes for the first one's success */
  send_all();
  assert_null(remote_text("tmp"));
  assert_string_equal(remote_text("t"), "one two");
}

static int openat_late(int dirfd, const char *name, int flags, ...)
{
  if (dirfd == rig.g->fd && name[0] != '.' && flags == (O_RDONLY | O_NOFOLLOW | O_CLOEXEC))
  {
    prelux_os = real;
    struct prelux_claim c;
    prelux_claim_take(&c, &rig.v, "a", "b");
    assert_int_equal(prelux_claim_rename(&c, "", true, &rig.why), 0);
    prelux_claim_drop(&c);
    write_async("a", 0, "new");
  }
  return real.openat(dirfd, name, flags, 0600);
}

/* Between the look at the table and the open, the number goes to another name: the reader gets the file that has the name. */
static void test_a_reader_that_comes_late(void **state)
{
  (void)state;
  write_async("a", 0, "old");
  real = prelux_os;
  prelux_os.openat = openat_late;
  assert_string_equal(read_text("a"), "new");
  assert_ptr_not_equal(prelux_os.openat, openat_late);
  assert_string_equal(read_text("b"), "old");
}

/* A log: what was sent a moment ago rests, so that not each line sends the whole file, and nobody waits for that. */
static void test_a_file_that_is_written_again_rests(void **state)
{
  int64_t next = 0;
  (void)state;
  rig.rules.async = true;
  rig.g->rest_times = PRELUX_REST_TIMES;
  for (int i = 0; i < 50; i++)
  {
    int fd = wopen("log", O_WRONLY | O_CREAT | O_APPEND);
    assert_true(fd >= 0);
    say(fd, ".");
    assert_int_equal(wclose(fd), 0);
    if (i == 0)
      send_all();
    /* As long as the longest rest: a slow machine stays within it. */
    for (unsigned k = 0; i == 0 && k < PRELUX_RESTS; k++)
      if (rig.g->rests[k].until_ns)
        rig.g->rests[k].until_ns = prelux_store_now() + PRELUX_REST_MAX_NS;
    assert_int_equal(prelux_stage_work(rig.g, &next), 0);
  }
  assert_true(next > prelux_store_wall());
  assert_int_equal(atomic_load(&faulty.puts), 1);
  assert_string_equal(remote_text("log"), ".");
  prelux_store_hurry(rig.s);
  send_all();
  assert_int_equal(atomic_load(&faulty.puts), 2);
  assert_int_equal(strlen(remote_text("log")), 50);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_an_open_that_waits_for_a_rename, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_an_open_that_waits_for_a_refusal, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_number_that_was_given_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_onto_what_waits_cut_off, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_onto_what_waits_that_fails, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_an_open_that_gets_no_descriptor, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_cut_by_who_reads, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_write_within_the_tick, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_what_stands_in_no_queue, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_cut_off, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_cut_off_before_it_was_done, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_cut_off_and_a_remote_away, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_cut_off_and_a_target_written_anew, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_rename_cut_off_and_asked_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_reader_that_comes_late, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_settles_during_a_listing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_settles_behind_a_listing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_file_that_is_written_again_rests, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
