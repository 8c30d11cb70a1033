/* `fsync: remote`: when an fsync returns the remote has what was written before it, and the last close sends what was written since, on the condition of that. */
#include <sys/mman.h>

#include "tests/unit/far_rig.h"

static const struct prelux_write_rules at_once = {.fsync_remote = true};
static char scratch[64];

/* While a put is under way. */
static void (*during)(void);

static int busy_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                    struct prelux_problem *why)
{
  void (*run)(void) = during;
  during = NULL;
  int rc = down(why);
  if (rc < 0)
    return rc;
  if (run)
    run();
  return faulty_put(b, path, fd, size, how, ret, why);
}

static int start(void **state)
{
  int rc = set_up_far(state);
  faulty.write.put = busy_put;
  rig.rules.async = false;
  rig.rules.fsync_remote = true;
  during = NULL;
  return rc;
}

static int start_async(void **state)
{
  int rc = start(state);
  rig.rules.async = true;
  return rc;
}

static int start_scratch(void **state)
{
  snprintf(scratch, sizeof scratch, "/dev/shm/prelux-test-XXXXXX");
  assert_non_null(mkdtemp(scratch));
  start(state);
  rig.rules.scratch = true;
  return prelux_store_stage_in(rig.s, scratch, &rig.why);
}

static int end_scratch(void **state)
{
  char command[200];
  snprintf(command, sizeof command, "rm -rf '%s'", scratch);
  return system(command) == 0 ? tear_down(state) : -1;
}

static uint64_t number(int fd)
{
  struct stat st;
  uint64_t dev;
  prelux_store_scratch(rig.s, &dev);
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino | (st.st_dev == dev ? PRELUX_INO_SCRATCH : 0);
}

/* As a program's fsync. */
static int sync_it(int fd)
{
  assert_int_equal(fsync(fd), 0);
  return prelux_store_sync(&rig.v, &rig.rules, number(fd), NULL, &rig.why);
}

static int sync_folder(const char *folder)
{
  return prelux_store_sync(&rig.v, &rig.rules, 0, folder, &rig.why);
}

/* As its close. */
static int end_it(int fd)
{
  uint64_t ino = number(fd);
  close(fd);
  return prelux_stage_closed(rig.g, ino, &rig.rules, &rig.why);
}

static int create(const char *name, const char *text)
{
  int fd = wopen(name, O_RDWR | O_CREAT);
  assert_true(fd >= 0);
  say(fd, text);
  return fd;
}

static int puts_done(void)
{
  return atomic_load(&faulty.puts);
}

static const struct prelux_pending *row_of(const char *path)
{
  const struct prelux_dirty *d = prelux_dirty_by_path(rig.g, rig.t, path);
  return d ? &d->row : NULL;
}

/* ---- one writer ---- */

static void test_the_remote_has_it(void **state)
{
  (void)state;
  int fd = create("f", "one");
  assert_null(remote_text("f"));
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one");
  say(fd, " two");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one two");
  say(fd, " three");
  assert_string_equal(remote_text("f"), "one two");
  assert_int_equal(end_it(fd), 0);
  assert_string_equal(remote_text("f"), "one two three");
  assert_int_equal(puts_done(), 3);
  assert_int_equal(pending(), 0);
}

static void test_nothing_written_since(void **state)
{
  (void)state;
  struct prelux_attr before, after;
  int fd = create("f", "one"), none;
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &before, &rig.why), 0);
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
  assert_int_equal(pending(), 0);
  assert_string_equal(read_text("f"), "one");
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &after, &rig.why), 0);
  assert_true(before.ino == after.ino && before.size == after.size);
  none = wopen("f", O_RDWR); /* the clean file, not written to */
  assert_int_equal(sync_it(none), 0);
  assert_int_equal(end_it(none), 0);
  assert_int_equal(puts_done(), 1);
}

static void test_cached_without_a_fetch(void **state)
{
  (void)state;
  struct prelux_object_info info;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_CACHED);
}

static void test_dropped_afterwards(void **state)
{
  (void)state;
  struct prelux_object_info info;
  rig.rules.drop = true;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
  assert_int_equal(pending(), 0);
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_not_equal(info.state, PRELUX_STATE_CACHED);
  assert_string_equal(read_text("f"), "one");
}

static void test_a_shared_map(void **state)
{
  (void)state;
  int fd = create("f", "0000000");
  char *map = mmap(NULL, 7, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(map != MAP_FAILED);
  assert_int_equal(sync_it(fd), 0);
  for (char i = '1'; i < '6'; i++)
  {
    map[i - '0'] = i; /* no call tells of it */
    assert_int_equal(sync_it(fd), 0);
    assert_int_equal(remote_text("f")[i - '0'], i);
  }
  int puts = puts_done();
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(puts_done(), puts);
  map[6] = '6';
  munmap(map, 7);
  assert_int_equal(end_it(fd), 0);
  assert_string_equal(remote_text("f"), "0123456");
}

static void test_holes(void **state)
{
  (void)state;
  struct stat st;
  char path[600], got[8] = "";
  int fd = create("f", "begin");
  assert_int_equal(pwrite(fd, "middle", 6, 5000000), 6);
  assert_int_equal(ftruncate(fd, 20000000), 0);
  assert_int_equal(sync_it(fd), 0);
  snprintf(path, sizeof path, "%s/f", rig.remote);
  int there = open(path, O_RDONLY);
  assert_int_equal(fstat(there, &st), 0);
  assert_int_equal(st.st_size, 20000000);
  assert_int_equal(pread(there, got, 6, 5000000), 6);
  assert_string_equal(got, "middle");
  close(there);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
}

static void test_without_a_name(void **state)
{
  (void)state;
  int fd = wopen("", O_TMPFILE | O_RDWR);
  assert_true(fd >= 0);
  say(fd, "x");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(puts_done(), 0);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, number(fd), "f", &rig.why), 0);
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "x");
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
}

static void test_local(void **state)
{
  (void)state;
  rig.rules.fsync_remote = false;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_null(remote_text("f"));
  assert_int_equal(end_it(fd), 0);
}

static void test_async(void **state)
{
  (void)state;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one");
  say(fd, " two");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(pending(), 0); /* nothing is to be sent */
  assert_string_equal(remote_text("f"), "one two");
  fd = create("g", "one");
  assert_int_equal(end_it(fd), 0);
  int reader = prelux_stage_reopen(rig.g, row_of("g")->ino, O_RDONLY); /* who reads what waits */
  assert_int_equal(sync_it(reader), 0);
  assert_string_equal(remote_text("g"), "one");
  assert_int_equal(pending(), 0);
  assert_int_equal(sync_it(reader), 0);
  close(reader);
}

/* ---- what goes wrong ---- */

static void test_the_remote_is_away(void **state)
{
  (void)state;
  int fd = create("f", "one");
  far.down = true;
  assert_int_equal(sync_it(fd), -EIO);
  assert_int_equal(sync_it(fd), -EIO); /* not forgotten */
  assert_int_equal(row_of("f")->state, PRELUX_PENDING_WRITING);
  far.down = false;
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one");
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
}

static void test_a_conflict(void **state)
{
  (void)state;
  int fd = create("f", "one");
  put_text("f", "one"); /* the same bytes, made by somebody else: a lock file */
  assert_int_equal(sync_it(fd), -ESTALE);
  assert_int_equal(sync_it(fd), -ESTALE);
  assert_int_equal(end_it(fd), -ESTALE);
  put_text("g", "theirs");
  fd = wopen("g", O_RDWR | O_TRUNC);
  say(fd, "mine");
  assert_int_equal(sync_it(fd), 0); /* as O_TRUNC wants it */
  put_text("g", "theirs again");
  say(fd, " on");
  assert_int_equal(sync_it(fd), -ESTALE); /* what is on the remote since is not ours to overwrite */
  assert_int_equal(end_it(fd), -ESTALE);
  assert_string_equal(remote_text("g"), "theirs again");
}

static void test_a_conflict_overwritten(void **state)
{
  (void)state;
  rig.rules.on_conflict = PRELUX_CONFLICT_OVERWRITE;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  put_text("f", "theirs");
  say(fd, " two");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one two");
  assert_int_equal(end_it(fd), 0);
}

static void lose(enum fault fault)
{
  atomic_store(&faulty.fault, (int)fault);
  atomic_store(&faulty.times, 1);
}

static void go_down(void)
{
  far.down = true;
}

static void test_a_lost_answer(void **state)
{
  (void)state;
  int fd = create("f", "one");
  lose(LOSE_AFTER);
  assert_int_equal(sync_it(fd), 0); /* a look has told */
  assert_string_equal(remote_text("f"), "one");
  say(fd, " two");
  lose(LOSE_AFTER);
  during = go_down;
  assert_int_equal(sync_it(fd), -EIO);
  far.down = false;
  say(fd, " three");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one two three");
  assert_int_equal(end_it(fd), 0);
}

/* The daemon dies with the put, which gets there. */
static void test_a_daemon_that_dies(void **state)
{
  (void)state;
  for (int got_there = 0; got_there < 2; got_there++)
  {
    int fd = create("f", "one");
    assert_int_equal(sync_it(fd), 0);
    say(fd, " two");
    lose(got_there ? LOSE_AFTER : LOSE_BEFORE);
    during = go_down;
    assert_int_equal(sync_it(fd), -EIO);
    restart();
    far.down = false;
    say(fd, " three");
    assert_int_equal(sync_it(fd), 0);
    assert_string_equal(remote_text("f"), "one two three");
    say(fd, " four");
    assert_int_equal(end_it(fd), 0);
    assert_string_equal(remote_text("f"), "one two three four");
    assert_int_equal(prelux_store_unlink(&rig.v, &at_once, "f", &rig.why), 0);
  }
}

/* The writer is killed, after the daemon was. */
static void test_nobody_is_left(void **state)
{
  (void)state;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  uint64_t ino = number(fd);
  close(fd);
  restart();
  prelux_stage_left(rig.g, ino);
  send_all();
  assert_string_equal(remote_text("f"), "one");
  assert_int_equal(pending(), 0);
}

static void test_no_room(void **state)
{
  (void)state;
  int fd = create("f", "one");
  rig.g->room = 1;
  rig.g->waiting = 1;
  rig.g->room_wait_ns = 1000000;
  assert_int_equal(sync_it(fd), -ENOSPC);
  rig.g->waiting = 0;
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(rig.g->waiting, 0);
  rig.g->room = UINT64_MAX;
  assert_int_equal(end_it(fd), 0);
}

static ssize_t (*real_copy)(int, off_t *, int, off_t *, size_t, unsigned);

static ssize_t no_copy(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
  errno = flags ? EINVAL : EXDEV;
  return in < 0 || out < 0 || !in_off || !out_off || !n ? 0 : -1;
}

static ssize_t full_copy(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
  no_copy(in, in_off, out, out_off, n, flags);
  errno = ENOSPC;
  return -1;
}

static void test_copies(void **state)
{
  (void)state;
  real_copy = prelux_os.copy_file_range;
  prelux_os.copy_file_range = no_copy;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("f"), "one");
  prelux_os.copy_file_range = full_copy;
  say(fd, " two");
  int rc = sync_it(fd);
  prelux_os.copy_file_range = real_copy;
  assert_true(rc == -ENOSPC || rc == 0); /* a clone needs no copy */
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
}

/* ---- names ---- */

static void test_removed(void **state)
{
  (void)state;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(prelux_store_unlink(&rig.v, &rig.rules, "f", &rig.why), 0);
  send_all();
  assert_null(remote_text("f"));
  say(fd, " two");
  assert_int_equal(sync_it(fd), 0); /* it has no name */
  assert_int_equal(end_it(fd), 0);
  send_all();
  assert_null(remote_text("f"));
}

static void test_renamed(void **state)
{
  (void)state;
  int fd = create("f", "one");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "f", "g", 0, &rig.why), 0);
  assert_null(remote_text("f"));
  assert_string_equal(remote_text("g"), "one"); /* at no time the remote has neither */
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 1);
  assert_int_equal(pending(), 0);
  assert_string_equal(read_text("g"), "one");
  fd = create("h", "two");
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "h", "g", 0, &rig.why), 0);
  say(fd, " three");
  assert_int_equal(sync_it(fd), 0);
  assert_string_equal(remote_text("g"), "two three");
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(puts_done(), 3);
}

static void test_written_under_a_new_name(void **state)
{
  (void)state;
  put_text("f", "old");
  int fd = wopen("f", O_RDWR);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "f", "g", PRELUX_RENAME_NOREPLACE, &rig.why), 0);
  assert_int_equal(end_it(fd), 0); /* nothing was written, and yet it is to get there */
  send_all();
  assert_string_equal(remote_text("g"), "old");
  assert_null(remote_text("f"));
}

static void test_a_folder(void **state)
{
  (void)state;
  assert_int_equal(prelux_store_mkdir(&rig.v, &rig.rules, "d", 0755, &rig.why), 0);
  assert_int_equal(prelux_store_mkdir(&rig.v, &rig.rules, "e", 0755, &rig.why), 0);
  int fd = create("d/f", "one"), open_one = create("d/open", "not synced");
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(sync_folder("d"), 0);
  assert_string_equal(remote_text("d/f"), "one");
  assert_null(remote_text("d/open"));
  assert_int_not_equal(access(rig.remote, F_OK), -1);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "d/f", "d/g", 0, &rig.why), 0);
  assert_int_equal(prelux_store_mkdir(&rig.v, &rig.rules, "e/x", 0755, &rig.why), 0);
  assert_string_equal(remote_text("d/f"), "one");
  assert_int_equal(sync_folder("d"), 0);
  assert_string_equal(remote_text("d/g"), "one");
  assert_null(remote_text("d/f"));
  assert_true(prelux_deferred_has(rig.t, "e/x", 3)); /* no matter of this folder */
  far.down = true;
  assert_int_equal(prelux_store_unlink(&rig.v, &rig.rules, "d/g", &rig.why), 0);
  assert_int_equal(sync_folder("d"), -EIO);
  far.down = false;
  assert_int_equal(sync_folder("d"), 0);
  assert_null(remote_text("d/g"));
  assert_int_equal(end_it(open_one), 0);
  send_all();
}

/* ---- many ---- */

static struct {
  int fd;
  pthread_t thread[6];
  int rc[6];
  atomic_int waiting;
} crowd;

static void *one_of_many(void *arg)
{
  int *rc = arg;
  atomic_fetch_add(&crowd.waiting, 1);
  *rc = prelux_store_sync(&rig.v, &rig.rules, number(crowd.fd), NULL, NULL);
  return NULL;
}

/* The first is on its way: all others come now, behind more bytes. */
static void crowd_comes(void)
{
  struct prelux_dirty *d = prelux_dirty_by_ino(rig.g, number(crowd.fd));
  say(crowd.fd, " two");
  for (size_t i = 1; i < 6; i++)
    pthread_create(&crowd.thread[i], NULL, one_of_many, &crowd.rc[i]);
  for (unsigned n = 0; n < 5; usleep(1000))
  {
    pthread_mutex_lock(&rig.g->lock);
    n = d->waiters;
    pthread_mutex_unlock(&rig.g->lock);
  }
}

static void test_one_flight_for_many(void **state)
{
  (void)state;
  for (int fails = 0; fails < 2; fails++)
  {
    const char *name = fails ? "g" : "f";
    crowd.fd = create(name, "one");
    int puts = puts_done();
    during = crowd_comes;
    atomic_store(&faulty.fault, FAIL_EIO);
    atomic_store(&faulty.times, fails ? 2 : 0);
    assert_int_equal(sync_it(crowd.fd), fails ? -EIO : 0);
    for (size_t i = 1; i < 6; i++)
    {
      pthread_join(crowd.thread[i], NULL);
      assert_int_equal(crowd.rc[i], fails ? -EIO : 0);
    }
    assert_int_equal(puts_done(), puts + 2);
    if (!fails)
      assert_string_equal(remote_text(name), "one two");
    assert_int_equal(end_it(crowd.fd), 0);
    assert_string_equal(remote_text(name), "one two");
  }
}

static atomic_bool stop;
static _Atomic uint64_t written;

/* Numbers every 8 bytes, one after the other, without a pause. */
static void *keep_writing(void *arg)
{
  int fd = *(int *)arg;
  for (uint64_t i = 1; !stop; i++)
  {
    if (pwrite(fd, &i, sizeof i, (off_t)((i % 4096) * sizeof i)) != sizeof i)
      return (void *)1;
    atomic_store(&written, i);
  }
  return NULL;
}

static void test_while_it_is_written(void **state)
{
  (void)state;
  pthread_t writer;
  void *failed;
  char path[600];
  int fd = create("f", "");
  stop = false;
  pthread_create(&writer, NULL, keep_writing, &fd);
  snprintf(path, sizeof path, "%s/f", rig.remote);
  for (int i = 0; i < 10; i++)
  {
    usleep(3000);
    uint64_t before = written, got = 0;
    assert_int_equal(sync_it(fd), 0);
    int there = open(path, O_RDONLY);
    assert_true(there >= 0);
    if (before)
      assert_int_equal(pread(there, &got, sizeof got, (off_t)((before % 4096) * sizeof got)), sizeof got);
    close(there);
    assert_true(got >= before);
  }
  stop = true;
  pthread_join(writer, &failed);
  assert_null(failed);
  assert_int_equal(end_it(fd), 0);
}

/* ---- parts ---- */

static void test_parts_that_were_sent(void **state)
{
  (void)state;
  static char block[40960];
  struct prelux_grow *w;
  size_t n;
  rig.g->parts_above = 16384;
  rig.g->part_size = 8192;
  rig.g->grower.by_hand = true;
  rig.g->grower.not = 0;
  int fd = create("f", "");
  memset(block, 'a', sizeof block);
  assert_int_equal(write(fd, block, sizeof block), sizeof block);
  prelux_grow_round(rig.g, &n);
  int parts = atomic_load(&faulty.parts);
  assert_true(parts > 0);
  w = prelux_dirty_by_path(rig.g, rig.t, "f")->grow;
  assert_non_null(w);
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(atomic_load(&faulty.parts), 5); /* none twice */
  assert_int_equal(pwrite(fd, "B", 1, 100), 1);
  assert_int_equal(sync_it(fd), 0);
  assert_int_equal(remote_text("f")[100], 'B');
  assert_int_equal(end_it(fd), 0);
  assert_int_equal(pending(), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_the_remote_has_it, start, tear_down),
      cmocka_unit_test_setup_teardown(test_the_remote_has_it, start_scratch, end_scratch),
      cmocka_unit_test_setup_teardown(test_nothing_written_since, start, tear_down),
      cmocka_unit_test_setup_teardown(test_nothing_written_since, start_scratch, end_scratch),
      cmocka_unit_test_setup_teardown(test_cached_without_a_fetch, start, tear_down),
      cmocka_unit_test_setup_teardown(test_cached_without_a_fetch, start_scratch, end_scratch),
      cmocka_unit_test_setup_teardown(test_dropped_afterwards, start, tear_down),
      cmocka_unit_test_setup_teardown(test_dropped_afterwards, start_scratch, end_scratch),
      cmocka_unit_test_setup_teardown(test_a_shared_map, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_shared_map, start_scratch, end_scratch),
      cmocka_unit_test_setup_teardown(test_holes, start, tear_down),
      cmocka_unit_test_setup_teardown(test_without_a_name, start, tear_down),
      cmocka_unit_test_setup_teardown(test_local, start, tear_down),
      cmocka_unit_test_setup_teardown(test_async, start_async, tear_down),
      cmocka_unit_test_setup_teardown(test_the_remote_is_away, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_conflict, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_conflict_overwritten, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_lost_answer, start, tear_down),
      cmocka_unit_test_setup_teardown(test_a_daemon_that_dies, start, tear_down),
      cmocka_unit_test_setup_teardown(test_nobody_is_left, start, tear_down),
      cmocka_unit_test_setup_teardown(test_no_room, start, tear_down),
      cmocka_unit_test_setup_teardown(test_copies, start, tear_down),
      cmocka_unit_test_setup_teardown(test_removed, start, tear_down),
      cmocka_unit_test_setup_teardown(test_removed, start_async, tear_down),
      cmocka_unit_test_setup_teardown(test_renamed, start, tear_down),
      cmocka_unit_test_setup_teardown(test_renamed, start_async, tear_down),
      cmocka_unit_test_setup_teardown(test_written_under_a_new_name, start_async, tear_down),
      cmocka_unit_test_setup_teardown(test_a_folder, start_async, tear_down),
      cmocka_unit_test_setup_teardown(test_one_flight_for_many, start, tear_down),
      cmocka_unit_test_setup_teardown(test_while_it_is_written, start, tear_down),
      cmocka_unit_test_setup_teardown(test_parts_that_were_sent, start, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
