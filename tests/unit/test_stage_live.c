/* Live files in the index: while a file is being written or waits to be sent, every view has a slot that names its staging file. */
#include "tests/unit/stage_rig.h"

enum { NOTHING, CLEAN, LIVE };

static struct prelux_attr slot;

static int indexed_in(const struct prelux_view *v, const char *object)
{
  if (!prelux_index_get(&rig.reader, rig.top, v->id, object, strlen(object), &slot))
    return NOTHING;
  return slot.flags & PRELUX_ATTR_LIVE ? LIVE : CLEAN;
}

static int indexed(const char *object)
{
  return indexed_in(&rig.v, object);
}

static uint64_t number_of(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino;
}

/* What the library does with a LIVE slot: the staging file by its number. */
static bool in_staging(uint64_t ino)
{
  struct stat st;
  char path[600];
  snprintf(path, sizeof path, "%s/%llu", prelux_store_staging(rig.s), (unsigned long long)ino);
  return lstat(path, &st) == 0 && st.st_ino == ino;
}

static void test_new_file(void **state)
{
  struct prelux_attr inode;
  struct prelux_view other;
  prelux_view_init(&other, rig.t, PRELUX_FRESH_ALWAYS, 0, 0, 0600, 0700);
  int fd = wopen("new", O_WRONLY | O_CREAT);
  uint64_t ino = number_of(fd);
  assert_int_equal(indexed("new"), LIVE);
  assert_true(slot.cache_ino == ino && slot.type == PRELUX_FILE && slot.mode == 0640 && slot.cached == 0 && slot.ino != 0);
  uint64_t shown = slot.ino;
  assert_int_equal(indexed_in(&other, "new"), LIVE); /* also where nothing is believed for longer than a call */
  assert_true(slot.ino == shown && in_staging(slot.cache_ino));
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 1);
  assert_true(inode.flags & PRELUX_ATTR_LIVE);
  assert_int_equal(inode.ino, shown);
  struct prelux_view late;
  prelux_view_init(&late, rig.t, PRELUX_FRESH_IMMUTABLE, 0, 0, 0604, 0705);
  assert_int_equal(indexed_in(&late, "new"), LIVE); /* and in a view that came later */
  say(fd, "hello");
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(indexed("new"), CLEAN);
  assert_true(slot.cached && slot.cache_ino == ino && slot.ino == shown && slot.size == 5);
  assert_int_not_equal(indexed_in(&other, "new"), LIVE);
  assert_int_equal(indexed_in(&late, "new"), CLEAN);
  assert_false(in_staging(ino));
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 1);
  assert_false(inode.flags & PRELUX_ATTR_LIVE);
}

static void test_clean_file(void **state)
{
  struct prelux_attr inode;
  put_text("old", "abc");
  assert_string_equal(read_text("old"), "abc");
  assert_int_equal(indexed("old"), CLEAN);
  uint64_t ino = slot.cache_ino, shown = slot.ino;
  int fd = wopen("old", O_WRONLY | O_APPEND);
  assert_int_equal(indexed("old"), LIVE);
  assert_true(slot.cache_ino == ino && slot.ino == shown && slot.mode == 0644);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 1);
  assert_true((inode.flags & PRELUX_ATTR_LIVE) && inode.ino == shown);
  /* What readers learn of the remote's object meanwhile is not shown. */
  struct prelux_known k = {.obj = {.type = PRELUX_FILE, .size = 77, .version = "x"}, .learned_ns = prelux_store_now(), .ino = 5};
  pthread_mutex_lock(&rig.s->lock);
  prelux_view_publish(&rig.v, "old", 3, &k);
  pthread_mutex_unlock(&rig.s->lock);
  assert_int_equal(indexed("old"), LIVE);
  assert_int_equal(wclose(fd), 0); /* nothing was written */
  assert_int_equal(indexed("old"), CLEAN);
  assert_true(slot.cache_ino == ino && slot.ino == shown && slot.size == 3);
}

static void test_waiting_and_refused(void **state)
{
  int64_t next;
  rig.rules.async = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "1");
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(indexed("f"), LIVE); /* until the remote has it */
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  assert_int_equal(indexed("f"), CLEAN);
  fd = wopen("g", O_WRONLY | O_CREAT);
  say(fd, "mine");
  put_text("g", "theirs");
  assert_int_equal(wclose(fd), 0);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  assert_int_equal(pending(), 1);
  assert_int_not_equal(indexed("g"), LIVE); /* refused: the path shows the remote's */
  assert_string_equal(read_text("g"), "theirs");
}

static void test_restart(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT);
  uint64_t ino = number_of(fd);
  say(fd, "1");
  rig_close();
  memset(&rig.reader, 0, sizeof rig.reader);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(indexed("f"), LIVE);
  assert_int_equal(slot.cache_ino, ino);
  assert_int_equal(wclose(fd), 0);
  while (pending())
    prelux_stage_work(rig.g, &(int64_t){0});
  assert_int_equal(indexed("f"), CLEAN);
}

static void test_without_a_name(void **state)
{
  struct prelux_attr inode;
  put_text("taken", "x");
  assert_int_equal(wopen("taken", O_TMPFILE | O_RDWR), -ENOTDIR);
  assert_int_equal(wopen("none", O_TMPFILE | O_RDWR), -ENOENT);
  int fd = wopen("", O_TMPFILE | O_RDWR), named = wopen("", O_TMPFILE | O_WRONLY);
  assert_true(fd >= 0 && named >= 0);
  uint64_t ino = number_of(fd);
  say(fd, "never sent");
  say(named, "sent");
  assert_int_equal(pending(), 2);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, ino, &inode), 1);
  uint64_t shown = inode.ino;
  assert_true((inode.flags & PRELUX_ATTR_LIVE) && shown != 0 && shown != ino);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, number_of(named), "taken", &rig.why), -EEXIST);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, number_of(named), "none/x", &rig.why), -ENOENT);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, 12345, "named", &rig.why), -ENOENT);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, number_of(named), "named", &rig.why), 0);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, number_of(named), "again", &rig.why), -EPERM);
  assert_int_equal(prelux_stage_link(rig.g, &rig.v, ino, "named", &rig.why), -EEXIST);
  assert_int_equal(indexed("named"), LIVE);
  assert_string_equal(read_text("named"), "sent");
  /* A daemon that comes later knows both. */
  rig_close();
  memset(&rig.reader, 0, sizeof rig.reader);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(pending(), 2);
  assert_int_equal(wclose(named), 0);
  while (prelux_stage_work(rig.g, &(int64_t){0}) == 1)
    ;
  assert_string_equal(remote_text("named"), "sent");
  assert_true(in_staging(ino));
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(pending(), 0);
  assert_false(in_staging(ino));
}

/* A reader as the library is: slot, staging file or cache file, else it asks; never finds anything but the one inode, or nothing. */
static void *look_all_the_time(void *arg)
{
  atomic_bool *end = arg;
  struct prelux_index_reader reader = {0};
  unsigned lost = 0;
  while (!atomic_load(end))
  {
    struct prelux_attr a;
    if (!prelux_index_get(&reader, rig.top, rig.v.id, "f", 1, &a))
    {
      struct prelux_problem why;
      lost += prelux_store_stat(&rig.v, "f", 0, &a, &why) == -ENOENT;
    }
    else
      lost += a.type == PRELUX_NONE;
  }
  return (void *)(uintptr_t)lost;
}

static void test_name_is_never_gone(void **state)
{
  pthread_t readers[2];
  atomic_bool end = false;
  int first = wopen("f", O_WRONLY | O_CREAT);
  say(first, "x");
  assert_int_equal(wclose(first), 0);
  for (int i = 0; i < 2; i++)
    pthread_create(&readers[i], NULL, look_all_the_time, &end);
  for (int i = 0; i < 300; i++)
  {
    int fd = wopen("f", O_WRONLY | (i % 2 ? O_APPEND : O_TRUNC));
    assert_true(fd >= 0);
    say(fd, "y");
    assert_int_equal(wclose(fd), 0);
  }
  atomic_store(&end, true);
  for (int i = 0; i < 2; i++)
  {
    void *lost;
    pthread_join(readers[i], &lost);
    assert_int_equal((uintptr_t)lost, 0);
  }
}

/* ---- what goes to the remote, and how ---- */

static void work_off(void)
{
  while (prelux_stage_work(rig.g, &(int64_t){0}) == 1)
    ;
}

static int uploads_left(void)
{
  int n = 0;
  char command[400];
  snprintf(command, sizeof command, "ls '%s' | grep -c upload-", rig.top);
  FILE *f = popen(command, "r");
  assert_int_equal(fscanf(f, "%d", &n), 1);
  pclose(f);
  return n;
}

static void fill_with(int fd, size_t size)
{
  char *buf = malloc(size);
  for (size_t i = 0; i < size; i++)
    buf[i] = (char)('a' + i % 23);
  assert_int_equal(write(fd, buf, size), size);
  free(buf);
}

static void check_remote(const char *name, size_t size)
{
  struct stat st;
  char path[600], got[4096];
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  int fd = open(path, O_RDONLY);
  assert_true(fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == size);
  for (size_t at = 0; at < size;)
  {
    ssize_t n = read(fd, got, sizeof got);
    assert_true(n > 0);
    for (ssize_t i = 0; i < n; i++)
      if (got[i] != (char)('a' + (at + (size_t)i) % 23))
        fail_msg("byte %zu", at + (size_t)i);
    at += (size_t)n;
  }
  close(fd);
}

static void test_parts(void **state)
{
  rig.g->parts_above = 1000000;
  rig.g->part_size = 300000;
  size_t size = (size_t)rig.g->part_size * 9 + 12345;
  int fd = wopen("big", O_WRONLY | O_CREAT);
  fill_with(fd, size);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.parts), 10);
  assert_int_equal(atomic_load(&faulty.puts), 0);
  check_remote("big", size);
  assert_int_equal(pending(), 0);
  /* A part that fails: nothing is left, and the next try sends all. */
  atomic_store(&faulty.parts, 0);
  atomic_store(&faulty.fault_part, FAIL_EIO);
  fd = wopen("bad", O_WRONLY | O_CREAT);
  fill_with(fd, size);
  assert_int_equal(wclose(fd), -EIO);
  assert_int_equal(atomic_load(&faulty.aborts), 1);
  assert_null(remote_text("bad"));
  assert_int_equal(uploads_left(), 0);
  atomic_store(&faulty.fault_part, NO_FAULT);
  prelux_store_hurry(rig.s);
  work_off();
  check_remote("bad", size);
  /* The answer to the last step is lost: the remote is looked at. */
  atomic_store(&faulty.fault_part, LOSE_AFTER);
  fd = wopen("lost", O_WRONLY | O_CREAT);
  fill_with(fd, size);
  assert_int_equal(wclose(fd), 0);
  check_remote("lost", size);
  assert_int_equal(pending(), 0);
}

static void test_parts_of_the_dead(void **state)
{
  const uint64_t part = 300000;
  char token[PRELUX_TOKEN_MAX], tag[PRELUX_TAG_MAX];
  rig.rules.async = true;
  int fd = wopen("big", O_WRONLY | O_CREAT);
  fill_with(fd, (size_t)part * 2);
  uint64_t ino = number_of(fd);
  assert_int_equal(wclose(fd), 0);
  /* As a daemon that dies after the first part. */
  struct prelux_dirty *d = prelux_dirty_take_ino(rig.g, ino);
  fd = prelux_stage_reopen(rig.g, ino, O_RDONLY);
  assert_int_equal(faulty_begin(NULL, "big", part, NULL, token, &rig.why), 0);
  assert_int_equal(faulty_part(NULL, "big", token, 0, fd, 0, part, tag, &rig.why), 0);
  close(fd);
  d->row.upload = strdup(token);
  assert_int_equal(prelux_stage_journal(rig.g, PRELUX_EDIT_SET, &d->row), 0);
  prelux_dirty_give(rig.g, d);
  rig_close();
  memset(&rig.reader, 0, sizeof rig.reader);
  assert_int_equal(rig_open(), 0);
  work_off();
  check_remote("big", (size_t)part * 2);
  assert_int_equal(atomic_load(&faulty.aborts), 1);
  assert_int_equal(uploads_left(), 0);
  assert_int_equal(pending(), 0);
}

static const char *conflict_copy(void)
{
  static char name[300];
  char command[400];
  snprintf(command, sizeof command, "cd '%s' && ls | grep conflict", rig.remote);
  FILE *f = popen(command, "r");
  name[0] = 0;
  if (fscanf(f, "%299s", name) != 1)
    name[0] = 0;
  pclose(f);
  return name;
}

static void test_loser_is_kept(void **state)
{
  rig.rules.on_conflict = PRELUX_CONFLICT_KEEP;
  put_text("f", "base");
  int fd = wopen("f", O_WRONLY | O_APPEND);
  say(fd, "+mine");
  put_text("f", "theirs");
  assert_int_equal(wclose(fd), -ESTALE); /* told */
  assert_string_equal(remote_text("f"), "theirs");
  assert_string_equal(read_text("f"), "theirs");
  const char *copy = conflict_copy();
  assert_memory_equal(copy, "f.conflict-", 11);
  assert_string_equal(remote_text(copy), "base+mine");
  assert_string_equal(read_text(copy), "base+mine");
  assert_int_equal(pending(), 0);
  /* What cannot be kept there is kept here. */
  char path[600];
  snprintf(path, sizeof path, "%s/%s", rig.remote, copy);
  unlink(path);
  fd = wopen("f", O_WRONLY | O_APPEND);
  say(fd, "+again");
  put_text("f", "theirs again");
  atomic_store(&faulty.fault, FAIL_EACCES_LATER);
  atomic_store(&faulty.times, 100);
  assert_int_equal(wclose(fd), -ESTALE);
  atomic_store(&faulty.times, 0);
  assert_int_equal(pending(), 1);
}

/* The kernel's word of the close came first, and the file was sent before the closer's own. */
static int close_late(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  close(fd);
  prelux_stage_poll(rig.g);
  work_off();
  return prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &rig.why);
}

static void test_loser_whose_close_is_told_late(void **state)
{
  struct stat st;
  rig.rules.on_conflict = PRELUX_CONFLICT_KEEP;
  put_text("f", "base");
  int fd = wopen("f", O_WRONLY | O_APPEND);
  say(fd, "+mine");
  put_text("f", "theirs");
  assert_int_equal(fstat(fd, &st), 0);
  assert_int_equal(close_late(fd), -ESTALE);
  assert_non_null(strstr(rig.why.text, "is kept there as f.conflict-"));
  assert_string_equal(remote_text(conflict_copy()), "base+mine");
  assert_string_equal(read_text("f"), "theirs");
  assert_int_equal(pending(), 0);
  assert_int_equal(prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &rig.why), 0); /* once */
  /* The number may be another file's by then. */
  fd = wopen("g", O_WRONLY | O_CREAT);
  assert_int_equal(fstat(fd, &st), 0);
  assert_int_equal(wclose(fd), 0);
  pthread_mutex_lock(&rig.g->lock);
  prelux_loser_note(rig.g, st.st_ino, &rig.why);
  pthread_mutex_unlock(&rig.g->lock);
  fd = wopen("g", O_WRONLY | O_APPEND);
  say(fd, "g");
  assert_int_equal(close_late(fd), 0);
  assert_string_equal(remote_text("g"), "g");
  /* What is refused says the same, were it a new file's name. */
  rig.rules.on_conflict = PRELUX_CONFLICT_FAIL;
  fd = wopen("n", O_WRONLY | O_CREAT | O_EXCL);
  say(fd, "n");
  put_text("n", "theirs");
  assert_int_equal(close_late(fd), -ESTALE);
  assert_string_equal(remote_text("n"), "theirs");
}

static void *send_soon(void *arg)
{
  nanosleep(&(struct timespec){0, 100000000}, NULL);
  work_off();
  return NULL;
}

static void test_quota(void **state)
{
  pthread_t sender;
  struct prelux_owed_sum sum;
  rig.rules.async = true;
  rig.g->room = 1000;
  rig.g->room_wait_ns = 50000000;
  int fd = wopen("a", O_WRONLY | O_CREAT), open_before = wopen("b", O_WRONLY | O_CREAT);
  fill_with(fd, 1000);
  assert_int_equal(wclose(fd), 0);
  prelux_store_owed_sum(rig.s, &sum);
  assert_true(sum.bytes == 1000 && sum.files[PRELUX_OWED_WAITING] == 1 && sum.files[PRELUX_OWED_OPEN] == 1);
  assert_int_equal(wopen("c", O_WRONLY | O_CREAT), -ENOSPC);
  assert_non_null(strstr(rig.why.text, "cache.staging"));
  say(open_before, "goes on");
  assert_int_equal(wclose(open_before), 0);
  rig.g->room_wait_ns = 5000000000;
  pthread_create(&sender, NULL, send_soon, NULL);
  fd = wopen("c", O_WRONLY | O_CREAT); /* waits for the sender */
  pthread_join(sender, NULL);
  assert_true(fd >= 0);
  assert_int_equal(wclose(fd), 0);
  work_off();
  assert_int_equal(pending(), 0);
  check_remote("a", 1000);
}

/* Who has listed a folder knows which names are not there, and files that are sent do not change what is known of the others. */
static void test_new_files_in_a_listed_folder(void **state)
{
  struct prelux_attr attr;
  char name[8];
  int fd = -1;
  (void)state;
  assert_int_equal(prelux_store_list(&rig.v, "", 0, &attr, &fd, &rig.why), 0);
  close(fd);
  int asked = atomic_load(&faulty.stats);
  for (int i = 0; i < 20; i++)
  {
    snprintf(name, sizeof name, "f%d", i);
    fd = wopen(name, O_WRONLY | O_CREAT | O_EXCL);
    say(fd, name);
    assert_int_equal(wclose(fd), 0);
    assert_string_equal(remote_text(name), name);
  }
  assert_int_equal(atomic_load(&faulty.stats), asked);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_new_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_clean_file, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_waiting_and_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_restart, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_without_a_name, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_parts_of_the_dead, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_loser_is_kept, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_loser_whose_close_is_told_late, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_quota, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_name_is_never_gone, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_new_files_in_a_listed_folder, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
