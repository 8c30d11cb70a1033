/* Staging and power cuts: what fsync, an epoch's syncfs or the rules have made safe is sent after one, what nothing has made safe is kept and never
 * sent unasked. A cut is made by keeping of the journal what was synced of it, and of staging/ what its last sync has seen. */
#include <time.h>

#include "tests/unit/stage_rig.h"

static struct prelux_os real;
static off_t wal_synced;
static int syncs, sync_err;
static char names[4096]; /* in staging/ at its last sync */

static void shell(const char *fmt, ...)
{
  char command[4000];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(command, sizeof command, fmt, ap);
  va_end(ap);
  assert_int_equal(system(command), 0);
}

static bool is(int fd, const char *end)
{
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  size_t len = strlen(end);
  return n >= (ssize_t)len && strcmp(path + n - len, end) == 0;
}

static int noted_fdatasync(int fd)
{
  struct stat st;
  if (sync_err)
  {
    errno = sync_err;
    return -1;
  }
  syncs++;
  if (is(fd, "/journal.db-wal") && fstat(fd, &st) == 0)
    wal_synced = st.st_size;
  return real.fdatasync(fd);
}

static int add_name(void *arg, int dirfd, const char *name)
{
  (void)arg, (void)dirfd;
  sprintf(names + strlen(names), " %s ", name);
  return 0;
}

static int noted_fsync(int fd)
{
  if (is(fd, "/staging"))
  {
    names[0] = 0;
    prelux_dir_each(fd, add_name, NULL);
  }
  return real.fsync(fd);
}

static int start(void **state)
{
  real = prelux_os;
  prelux_os.fdatasync = noted_fdatasync;
  prelux_os.fsync = noted_fsync;
  wal_synced = 0;
  syncs = sync_err = 0;
  names[0] = 0;
  return set_up(state);
}

static int end(void **state)
{
  prelux_os = real;
  return tear_down(state);
}

static int drop_unsynced(void *arg, int dirfd, const char *name)
{
  char word[40];
  (void)arg;
  snprintf(word, sizeof word, " %s ", name);
  return strstr(names, word) ? 0 : unlinkat(dirfd, name, 0);
}

static void sql(const char *text)
{
  shell("/usr/bin/python3 -c \"import sqlite3; c = sqlite3.connect('%s/.prelux/journal.db'); c.executescript(\\\"%s\\\")\"", rig.cache, text);
}

/* The machine goes down and comes up again. lost: with nothing but what was synced; else all was on the medium by chance. */
static void cut(bool lost)
{
  shell("cp -al '%s' '%s.cut' && cd '%s.cut/.prelux' && for f in *.db*; do cp $f $f.x && mv $f.x $f; done", rig.cache, rig.cache, rig.cache);
  rig_close();
  shell("rm -rf '%s' && mv '%s.cut' '%s'", rig.cache, rig.cache, rig.cache);
  if (lost)
  {
    shell("truncate -s %lld '%s/.prelux/journal.db-wal'", (long long)wal_synced, rig.cache);
    char path[300];
    snprintf(path, sizeof path, "%s/.prelux/staging", rig.cache);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    assert_int_equal(prelux_dir_each(fd, drop_unsynced, NULL), 0);
    close(fd);
  }
  sql("CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; UPDATE meta SET value='another' WHERE key='boot'");
  assert_int_equal(rig_open(), 0);
}

static void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static uint64_t number(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  return st.st_ino;
}

static int note_state(void *arg, const struct prelux_pending *row)
{
  sprintf(arg + strlen(arg), "%s:%s ", row->path ? row->path : "-",
          (const char *[]){"writing", "ready", "refused", "recovered"}[row->state]);
  return 0;
}

static const char *rows(void)
{
  static char text[1000];
  text[0] = 0;
  assert_int_equal(prelux_journal_each(rig.g->journal, note_state, text), 0);
  return text;
}

/* What a program's fsync does: the real one, then the daemon is told. */
static int wsync(int fd)
{
  uint64_t ino = number(fd);
  fsync(fd);
  return prelux_stage_sync(rig.g, ino, &rig.why);
}

static void test_fsync_before_the_close(void **state)
{
  (void)state;
  int fd = wopen("f", O_WRONLY | O_CREAT), other = wopen("other", O_WRONLY | O_CREAT);
  say(fd, "of f");
  say(other, "of other");
  assert_int_equal(wsync(fd), 0);
  assert_int_equal(wsync(fd), 0);
  assert_int_equal(syncs, 1); /* what is safe is not made safe again */
  int late = wopen("late", O_WRONLY | O_CREAT);
  say(late, "of late");
  assert_int_equal(wsync(fd), 0);
  assert_int_equal(syncs, 1); /* ... whatever has changed of others */
  int each = wopen("each", O_WRONLY | O_CREAT | O_DSYNC);
  assert_int_equal(syncs, 2);
  say(each, "of each");
  int last = wopen("last", O_WRONLY | O_CREAT);
  close(fd), close(other), close(late), close(each), close(last);
  cut(true);
  assert_string_equal(rows(), "f:recovered other:recovered late:recovered each:recovered "); /* its writer was cut off: a person decides */
  send_all();
  assert_null(remote_text("f"));
  assert_int_equal(prelux_store_retry(rig.s, 1, false, &rig.why), 0);
  send_all();
  assert_string_equal(remote_text("f"), "of f");
}

static int no_ftruncate(int fd, off_t size)
{
  (void)fd, (void)size;
  errno = EIO;
  return -1;
}

/* An open that fails, because the file cannot be cut or its row cannot be made durable, has cut nothing, and nothing is sent over what the remote has
 * by then. What waited to be sent still waits. */
static void test_a_cut_that_fails(void **state)
{
  const int flags = O_WRONLY | O_TRUNC;
  (void)state;
  for (int i = 0; i < 2; i++)
  {
    int fd = wopen("f", O_WRONLY | O_CREAT | O_TRUNC);
    say(fd, "of f");
    assert_int_equal(wclose(fd), 0);
    rig.rules.async = true;
    fd = wopen("waits", O_WRONLY | O_CREAT | O_TRUNC);
    say(fd, "of waits");
    assert_int_equal(wclose(fd), 0);
    prelux_os.ftruncate = i ? real.ftruncate : no_ftruncate;
    sync_err = i ? EIO : 0;
    assert_int_equal(wopen("f", i ? flags | O_SYNC : flags), -EIO);
    assert_int_equal(wopen("waits", i ? flags | O_SYNC : flags), -EIO);
    assert_string_equal(rows(), "waits:ready f:writing ");
    put_text("f", "theirs");
    prelux_os.ftruncate = real.ftruncate;
    prelux_stage_poll(rig.g);
    send_all();
    assert_string_equal(remote_text("f"), "theirs");
    assert_string_equal(remote_text("waits"), "of waits");
    assert_int_equal(pending(), 0);
    rig.rules.async = false;
  }
}

/* `fsync: remote`: the remote has it, so there is nothing to ask anybody about. */
static void test_fsync_remote(void **state)
{
  (void)state;
  rig.rules.fsync_remote = true;
  int fd = wopen("f", O_WRONLY | O_CREAT), more = wopen("more", O_WRONLY | O_CREAT);
  say(fd, "of f");
  say(more, "of ");
  assert_int_equal(prelux_store_sync(&rig.v, &rig.rules, number(fd), NULL, &rig.why), 0);
  assert_int_equal(prelux_store_sync(&rig.v, &rig.rules, number(more), NULL, &rig.why), 0);
  say(more, "more");
  close(fd), close(more);
  cut(true);
  assert_string_equal(rows(), "more:recovered ");
  assert_string_equal(remote_text("f"), "of f");
  assert_string_equal(remote_text("more"), "of ");
  assert_int_equal(prelux_store_retry(rig.s, 2, false, &rig.why), 0);
  send_all();
  assert_string_equal(remote_text("more"), "of more");
}

static void test_fsync_and_close(void **state)
{
  (void)state;
  rig.rules.async = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "of f");
  assert_int_equal(wsync(fd), 0);
  assert_int_equal(wclose(fd), 0);
  int more = wopen("more", O_WRONLY | O_CREAT);
  say(more, "of ");
  assert_int_equal(wsync(more), 0);
  say(more, "more");
  assert_int_equal(wclose(more), 0);
  cut(true);
  assert_string_equal(rows(), "f:ready more:recovered ");
  send_all();
  assert_string_equal(remote_text("f"), "of f");
  assert_null(remote_text("more"));
}

static void test_fsync_of_a_folder(void **state)
{
  (void)state;
  rig.rules.async = true;
  int fd = wopen("a", O_WRONLY | O_CREAT);
  say(fd, "text");
  assert_int_equal(wsync(fd), 0);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "a", "b", 0, &rig.why), 0);
  assert_int_equal(prelux_stage_sync(rig.g, 0, &rig.why), 0);
  cut(true);
  assert_string_equal(rows(), "b:ready ");
}

static void test_rules_that_say_power(void **state)
{
  (void)state;
  rig.rules.async = rig.rules.power = true;
  for (int i = 0; i < 3; i++)
  {
    int fd = wopen((const char *[]){"a", "b", "c"}[i], O_WRONLY | O_CREAT);
    say(fd, "text");
    assert_int_equal(wclose(fd), 0);
  }
  assert_int_equal(syncs, 3);
  cut(true);
  assert_string_equal(rows(), "a:ready b:ready c:ready ");
  send_all();
  assert_string_equal(remote_text("c"), "text");
}

/* The kernel told of the close first, or a daemon before has: whoever tells of it then is promised the same. */
static void test_power_when_the_close_is_old_news(void **state)
{
  (void)state;
  rig.rules.async = rig.rules.power = rig.rules.publish = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  uint64_t ino = number(fd);
  say(fd, "text");
  close(fd);
  rig_close();
  assert_int_equal(rig_open(), 0); /* does not know the rules, and finds that nobody writes any more */
  assert_string_equal(rows(), "f:ready ");
  int before = syncs;
  assert_int_equal(prelux_stage_closed(rig.g, ino, &rig.rules, &rig.why), 0);
  assert_int_equal(syncs, before + 1);
  cut(true);
  assert_string_equal(rows(), "f:ready ");
  send_all();
  assert_string_equal(remote_text("f"), "text");
}

static void test_a_medium_that_fails(void **state)
{
  (void)state;
  rig.rules.async = rig.rules.power = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "text");
  sync_err = EIO;
  assert_int_equal(prelux_stage_sync(rig.g, number(fd), &rig.why), -EIO);
  assert_int_equal(wclose(fd), -EIO);
  send_all(); /* it is sent all the same */
  assert_string_equal(remote_text("f"), "text");
}

static void test_what_nothing_has_made_safe(void **state)
{
  (void)state;
  rig.rules.async = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "zeros, for all we know");
  assert_int_equal(wclose(fd), 0);
  cut(false);
  assert_string_equal(rows(), "f:recovered ");
  send_all();
  assert_null(remote_text("f"));
}

static void test_an_epoch(void **state)
{
  struct timespec now;
  (void)state;
  rig.rules.async = true;
  int fd = wopen("before", O_WRONLY | O_CREAT);
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  assert_true(rig.s->unsynced); /* so that there will be one */
  int touched = wopen("touched", O_WRONLY | O_CREAT);
  say(touched, "text");
  assert_int_equal(wclose(touched), 0);
  clock_gettime(CLOCK_REALTIME, &now);
  prelux_stage_synced(rig.g, (int64_t)(now.tv_sec + 100) * 1000000000);
  touched = wopen("touched", O_WRONLY);
  assert_int_equal(pwrite(touched, "T", 1, 0), 1);
  assert_int_equal(wclose(touched), 0);
  struct prelux_dirty *d = prelux_dirty_take(rig.g, rig.t, "touched");
  struct prelux_pending row = d->row;
  row.mtime_ns--; /* the disk has older bytes than the row */
  assert_int_equal(prelux_stage_journal(rig.g, PRELUX_EDIT_SET, &row), 0);
  prelux_dirty_give(rig.g, d);
  cut(false);
  assert_string_equal(rows(), "before:ready touched:recovered ");
}

/* The daemon ends in order, and with it, a moment later, the machine. */
static void test_a_shutdown(void **state)
{
  (void)state;
  rig.rules.async = true;
  int fd = wopen("f", O_WRONLY | O_CREAT), open_ = wopen("open", O_WRONLY | O_CREAT);
  say(fd, "text");
  say(open_, "te");
  assert_int_equal(wclose(fd), 0);
  rig_close();
  close(open_);
  sql("UPDATE meta SET value='another' WHERE key='boot'");
  assert_int_equal(rig_open(), 0);
  assert_string_equal(rows(), "f:ready open:recovered ");
  send_all();
  assert_string_equal(remote_text("f"), "text");
}

static void test_opened_and_not_written(void **state)
{
  (void)state;
  put_text("old", "as it was");
  int fd = wopen("old", O_RDWR);
  assert_int_equal(wsync(fd), 0);
  put_text("used", "as it was");
  int used = wopen("used", O_RDWR);
  assert_int_equal(pwrite(used, "A", 1, 0), 1);
  close(fd), close(used);
  cut(false);
  assert_string_equal(rows(), "used:recovered ");
  assert_string_equal(read_text("old"), "as it was");
  assert_string_equal(read_text("used"), "as it was");
}

/* Safe bytes are not written over before the remote has them. */
static void test_safe_bytes_go_first(void **state)
{
  (void)state;
  rig.rules.async = rig.rules.power = true;
  int fd = wopen("log", O_WRONLY | O_CREAT);
  say(fd, "one ");
  assert_int_equal(wclose(fd), 0);
  fd = wopen("log", O_WRONLY | O_APPEND);
  assert_string_equal(remote_text("log"), "one ");
  say(fd, "two");
  assert_int_equal(wclose(fd), 0);
  int64_t next;
  int puts = atomic_load(&faulty.puts);
  faulty.fault = FAIL_EIO;
  faulty.times = 1;
  prelux_stage_work(rig.g, &next);
  fd = wopen("log", O_WRONLY | O_APPEND); /* the remote is away: nobody waits for it */
  assert_int_equal(atomic_load(&faulty.puts), puts + 1);
  assert_true(fd >= 0);
  assert_string_equal(remote_text("log"), "one ");
  say(fd, ", three");
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("log"), "one two, three");
}

/* Rows of which one cannot be read or dropped: nothing of the tree is in use, and the next try finds all. */
static void test_taking_up_fails_in_the_middle(void **state)
{
  struct prelux_tree *t;
  char name[24];
  (void)state;
  rig.rules.async = true;
  uint64_t last = 0;
  for (int i = 0; i < 3; i++)
  {
    int fd = wopen((const char *[]){"a", "b", "c"}[i], O_WRONLY | O_CREAT);
    last = i == 1 ? number(fd) : last;
    say(fd, "text");
    assert_int_equal(wclose(fd), 0);
  }
  rig_close();
  snprintf(name, sizeof name, "%llu", (unsigned long long)last);
  shell("rm '%s/.prelux/staging/%s'", rig.cache, name);
  sql("INSERT INTO meta VALUES('stop','1'); CREATE TRIGGER stop BEFORE DELETE ON pending WHEN (SELECT value FROM meta WHERE key='stop')='1' "
      "BEGIN SELECT RAISE(FAIL, 'stop'); END");
  assert_true(rig_open() < 0);
  rig.g = rig.s->stage;
  assert_int_equal(rig.g->count, 0);
  assert_int_equal(prelux_order_count(rig.g->order, NULL), 0);
  assert_int_equal(prelux_tree_open(rig.s, "file:test", NULL, &t, &rig.why), 0);
  assert_null(t->backend);
  assert_int_equal(prelux_journal_set_meta(rig.g->journal, "stop", "0"), 0);
  assert_int_equal(prelux_tree_open(rig.s, "file:test", &faulty.base, &rig.t, &rig.why), 0);
  assert_int_equal(rig.g->count, 2);
  send_all();
  assert_string_equal(remote_text("a"), "text");
  assert_string_equal(remote_text("c"), "text");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_fsync_before_the_close, start, end),
      cmocka_unit_test_setup_teardown(test_fsync_and_close, start, end),
      cmocka_unit_test_setup_teardown(test_fsync_of_a_folder, start, end),
      cmocka_unit_test_setup_teardown(test_rules_that_say_power, start, end),
      cmocka_unit_test_setup_teardown(test_power_when_the_close_is_old_news, start, end),
      cmocka_unit_test_setup_teardown(test_a_medium_that_fails, start, end),
      cmocka_unit_test_setup_teardown(test_a_cut_that_fails, start, end),
      cmocka_unit_test_setup_teardown(test_what_nothing_has_made_safe, start, end),
      cmocka_unit_test_setup_teardown(test_an_epoch, start, end),
      cmocka_unit_test_setup_teardown(test_a_shutdown, start, end),
      cmocka_unit_test_setup_teardown(test_fsync_remote, start, end),
      cmocka_unit_test_setup_teardown(test_opened_and_not_written, start, end),
      cmocka_unit_test_setup_teardown(test_safe_bytes_go_first, start, end),
      cmocka_unit_test_setup_teardown(test_taking_up_fails_in_the_middle, start, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
