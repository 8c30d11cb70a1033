/* lib/store/stage: one inode for all writers, what a close promises, conflicts, lost answers, restarts. */
#include <sys/mman.h>

#include "tests/unit/stage_rig.h"

static void test_create_write_close(void **state)
{
  int fd = wopen("new", O_WRONLY | O_CREAT);
  assert_true(fd >= 0);
  assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
  say(fd, "hello");
  assert_string_equal(read_text("new"), "hello"); /* readers see it as it is written */
  assert_null(remote_text("new"));                /* nothing is visible before the close */
  assert_int_equal(pending(), 1);
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("new"), "hello");
  assert_int_equal(pending(), 0);
  int puts = atomic_load(&faulty.puts);
  assert_string_equal(read_text("new"), "hello"); /* from the cache */
  assert_int_equal(atomic_load(&faulty.puts), puts);
  struct stat st;
  char path[600];
  snprintf(path, sizeof path, "%s/new", rig.remote);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 07777, 0640);
}

static void test_flags(void **state)
{
  put_text("old", "abc");
  mkdir(strcat(strcpy((char[600]){0}, rig.remote), "/dir"), 0755);
  assert_int_equal(wopen("none", O_WRONLY), -ENOENT);
  assert_int_equal(wopen("none/x", O_WRONLY | O_CREAT), -ENOENT);
  assert_int_equal(wopen("old/x", O_WRONLY | O_CREAT), -ENOTDIR);
  assert_int_equal(wopen("old", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  assert_int_equal(wopen("dir", O_WRONLY), -EISDIR);
  assert_int_equal(pending(), 0);
  int fd = wopen("old", O_RDWR | O_APPEND);
  char buf[8] = "";
  assert_int_equal(pread(fd, buf, sizeof buf, 0), 3);
  assert_string_equal(buf, "abc");
  say(fd, "d");
  assert_int_equal(wopen("old", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("old"), "abcd");
  fd = wopen("old", O_WRONLY | O_TRUNC);
  say(fd, "x");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("old"), "x");
}

static void test_all_share_one_inode(void **state)
{
  struct prelux_attr attr;
  struct stat a, b, c;
  int before;
  char buf[16] = "";
  put_text("f", "12345");
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &attr, &before, &rig.why), 0); /* reads, opened before */
  int one = wopen("f", O_RDWR), two = wopen("f", O_WRONLY);
  assert_true(one >= 0 && two >= 0);
  fstat(before, &a);
  fstat(one, &b);
  fstat(two, &c);
  assert_true(a.st_ino == b.st_ino && b.st_ino == c.st_ino);
  assert_int_equal(pwrite(one, "AB", 2, 0), 2);
  assert_int_equal(pwrite(two, "Z", 1, 4), 1);
  assert_int_equal(pread(before, buf, sizeof buf, 0), 5);
  assert_string_equal(buf, "AB34Z");
  assert_int_equal(wclose(one), -EAGAIN); /* the other still writes */
  assert_string_equal(remote_text("f"), "12345");
  assert_int_equal(wclose(two), 0);
  assert_string_equal(remote_text("f"), "AB34Z");
  assert_int_equal(pread(before, buf, sizeof buf, 0), 5);
  close(before);
}

static void test_nothing_written_nothing_sent(void **state)
{
  struct prelux_attr was, is;
  put_text("f", "12345");
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &was, &rig.why), 0);
  int fd = wopen("f", O_RDWR);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.puts), 0);
  assert_int_equal(pending(), 0);
  assert_int_equal(prelux_store_stat(&rig.v, "f", PRELUX_STORE_RECHECK, &is, &rig.why), 0);
  assert_true(is.mtime_ns == was.mtime_ns && is.ino == was.ino && is.size == 5);
  struct prelux_object_info info;
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_CACHED); /* it went back to its place */
  fd = wopen("f", O_WRONLY | O_TRUNC); /* which is a change, though nobody writes */
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("f"), "");
}

/* "name size, name size" of a folder, as readers get it. */
static const char *listed(const char *folder)
{
  static char text[1000];
  struct prelux_attr attr;
  struct stat st;
  int fd = -1;
  text[0] = 0;
  assert_int_equal(prelux_store_list(&rig.v, folder, 0, &attr, &fd, &rig.why), 0);
  fstat(fd, &st);
  const struct prelux_listing *l = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  assert_true(l != MAP_FAILED && (uint64_t)st.st_size == l->bytes);
  for (uint32_t i = 0; i < l->count; i++)
  {
    const char *name = (const char *)l + l->entries[i].name_off;
    assert_int_equal(strlen(name), l->entries[i].name_len);
    sprintf(text + strlen(text), "%s%s %d", i ? ", " : "", name, (int)l->entries[i].size);
  }
  munmap((void *)l, (size_t)st.st_size);
  close(fd);
  return text;
}

static void test_readers_see_what_is_written(void **state)
{
  struct prelux_attr attr, again;
  put_text("b", "bb");
  put_text("d", "dd");
  mkdir(strcat(strcpy((char[600]){0}, rig.remote), "/sub"), 0755);
  assert_int_equal(prelux_store_stat(&rig.v, "c", 0, &attr, &rig.why), -ENOENT); /* known for seconds */
  assert_string_equal(listed(""), "b 2, d 2, sub 0");
  int c = wopen("c", O_WRONLY | O_CREAT), d = wopen("d", O_WRONLY | O_APPEND), a = wopen("a", O_WRONLY | O_CREAT);
  assert_int_equal(prelux_store_stat(&rig.v, "c", 0, &attr, &rig.why), 0);
  assert_true(attr.size == 0 && attr.type == PRELUX_FILE && attr.mode == 0640 && attr.cached == 0 && attr.valid_ns == UINT64_MAX);
  say(c, "ccc");
  say(d, "+++");
  assert_int_equal(prelux_store_stat(&rig.v, "c", 0, &again, &rig.why), 0);
  assert_true(again.size == 3 && again.ino == attr.ino && again.mtime_ns >= attr.mtime_ns);
  assert_string_equal(listed(""), "a 0, b 2, c 3, d 5, sub 0");
  assert_string_equal(read_text("d"), "dd+++");
  assert_int_equal(prelux_store_stat(&rig.v, "d", PRELUX_STORE_CACHED_ONLY, &again, &rig.why), 0);
  assert_int_equal(again.size, 5);
  assert_int_equal(wclose(c) | wclose(d) | wclose(a), 0);
  assert_string_equal(listed(""), "a 0, b 2, c 3, d 5, sub 0");
  assert_int_equal(prelux_store_stat(&rig.v, "c", 0, &again, &rig.why), 0);
  assert_int_equal(again.size, 3);
  assert_string_equal(listed("sub"), "");
  int x = wopen("sub/x", O_WRONLY | O_CREAT);
  assert_string_equal(listed("sub"), "x 0");
  assert_int_equal(wclose(x), 0);
  assert_string_equal(remote_text("sub/x"), "");
}

static void test_conflicts(void **state)
{
  put_text("f", "one");
  int fd = wopen("f", O_WRONLY | O_APPEND);
  say(fd, "+mine");
  put_text("f", "theirs");
  assert_int_equal(wclose(fd), -ESTALE);
  assert_string_equal(remote_text("f"), "theirs");
  assert_int_equal(pending(), 1);
  assert_string_equal(read_text("f"), "theirs"); /* the node shows the remote's again; ours is kept */
  struct prelux_dirty *d = rig.g->by_id[1];
  assert_int_equal(d->row.state, PRELUX_PENDING_REFUSED);
  assert_int_equal(d->row.size, 8);

  fd = wopen("f", O_WRONLY | O_TRUNC); /* overwrites whatever is there */
  say(fd, "all mine");
  put_text("f", "theirs again");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("f"), "all mine");

  fd = wopen("n", O_WRONLY | O_CREAT); /* made here, and by somebody else */
  say(fd, "n");
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, CHANGE_BEFORE);
  assert_int_equal(wclose(fd), -ESTALE);
  assert_string_equal(remote_text("n"), "somebody else's");

  fd = wopen("lock", O_WRONLY | O_CREAT | O_EXCL); /* two nodes make one lock file: one of them has it, though both are empty */
  put_text("lock", "");
  assert_int_equal(wclose(fd), -ESTALE);

  rig.rules.on_conflict = PRELUX_CONFLICT_OVERWRITE;
  fd = wopen("f", O_WRONLY | O_APPEND);
  say(fd, "!");
  put_text("f", "theirs");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("f"), "all mine!");
}

static void test_lost_answers(void **state)
{
  int fd = wopen("a", O_WRONLY | O_CREAT);
  say(fd, "aaa");
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, LOSE_AFTER);
  assert_int_equal(wclose(fd), 0); /* it had arrived: seen by looking */
  assert_string_equal(remote_text("a"), "aaa");
  assert_int_equal(atomic_load(&faulty.puts), 1);

  fd = wopen("b", O_WRONLY | O_CREAT);
  say(fd, "bbb");
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, LOSE_BEFORE);
  assert_int_equal(wclose(fd), -EIO);
  assert_null(remote_text("b"));
  assert_int_equal(pending(), 1); /* not lost: it is tried again */
  assert_string_equal(read_text("b"), "bbb");
  int64_t next;
  rig.g->by_id[2]->row.next_ns = 0;
  assert_int_equal(prelux_stage_work(rig.g, &next), 1);
  assert_string_equal(remote_text("b"), "bbb");
  assert_int_equal(pending(), 0);
}

static void test_errors_of_the_remote(void **state)
{
  int64_t next = 0;
  int fd = wopen("a", O_WRONLY | O_CREAT);
  say(fd, "aaa");
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, FAIL_EIO);
  assert_int_equal(wclose(fd), -EIO);
  assert_int_equal(rig.g->by_id[1]->row.state, PRELUX_PENDING_READY);
  assert_int_equal(prelux_stage_work(rig.g, &next), 0); /* not due yet */
  assert_true(next > prelux_store_wall());
  assert_int_equal(rig.g->by_id[1]->row.tries, 1);
  assert_string_equal(rig.g->by_id[1]->row.cause, "injected");
  fd = wopen("a", O_WRONLY | O_APPEND); /* goes on from what is here */
  say(fd, "+");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("a"), "aaa+");
  assert_int_equal(pending(), 0);
  assert_int_equal(prelux_stage_work(rig.g, &next), 0);

  fd = wopen("c", O_WRONLY | O_CREAT);
  say(fd, "ccc");
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, FAIL_EACCES);
  assert_int_equal(wclose(fd), -EACCES);
  assert_int_equal(rig.g->by_id[2]->row.state, PRELUX_PENDING_REFUSED);
  assert_int_equal(prelux_stage_work(rig.g, &next), 0);
  assert_int_equal(next, 0);
}

static void test_async(void **state)
{
  int64_t next;
  rig.rules.async = true;
  for (int i = 0; i < 20; i++)
  {
    char name[8];
    snprintf(name, sizeof name, "f%d", i);
    int fd = wopen(name, O_WRONLY | O_CREAT);
    say(fd, name);
    assert_int_equal(wclose(fd), 0);
  }
  assert_int_equal(atomic_load(&faulty.puts), 0);
  assert_int_equal(pending(), 20);
  int fd = wopen("f3", O_WRONLY | O_APPEND); /* is written again before its turn */
  say(fd, "x");
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  assert_int_equal(pending(), 1);
  assert_null(remote_text("f3"));
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(prelux_stage_work(rig.g, &next), 1);
  assert_string_equal(remote_text("f3"), "f3x");
  assert_string_equal(remote_text("f19"), "f19");
  assert_int_equal(pending(), 0);
}

/* The daemon dies between a put and the word of it in the journal: the next one sees that the remote has it. */
static void test_sent_but_not_written_down(void **state)
{
  int64_t next;
  rig.rules.async = true;
  int fd = wopen("a", O_WRONLY | O_CREAT);
  say(fd, "abc");
  assert_int_equal(wclose(fd), 0);
  rig_close();
  put_text("a", "abc");
  assert_int_equal(rig_open(), 0);
  assert_int_equal(prelux_stage_work(rig.g, &next), 1);
  assert_int_equal(pending(), 0);
  assert_int_equal(rig.g->refused, 0);
  assert_string_equal(read_text("a"), "abc");
}

/* A writer that goes without a word; and a close that comes after the poll has seen it gone. */
static void test_writers_that_just_go(void **state)
{
  struct stat st;
  int64_t next;
  int quiet = wopen("quiet", O_WRONLY | O_CREAT), still = wopen("still", O_WRONLY | O_CREAT), late = wopen("late", O_WRONLY | O_CREAT);
  say(quiet, "q");
  say(still, "s");
  say(late, "l");
  fstat(late, &st);
  close(quiet);
  close(late);
  prelux_stage_poll(rig.g);
  assert_null(remote_text("quiet")); /* nobody waits for it: it is sent in the background */
  assert_int_equal(prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &rig.why), 0);
  assert_string_equal(remote_text("late"), "l"); /* sync: close says 0 when the remote has it */
  assert_int_equal(prelux_stage_work(rig.g, &next), 1);
  assert_string_equal(remote_text("quiet"), "q");
  assert_int_equal(prelux_stage_work(rig.g, &next), 0);
  assert_int_equal(wclose(still), 0);
  assert_string_equal(remote_text("still"), "s");

  late = wopen("refused", O_WRONLY | O_CREAT);
  say(late, "r");
  fstat(late, &st);
  close(late);
  prelux_stage_poll(rig.g);
  atomic_store(&faulty.times, 1);
  atomic_store(&faulty.fault, FAIL_EACCES);
  assert_int_equal(prelux_stage_work(rig.g, &next), 1);
  assert_int_equal(prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &rig.why), -EACCES);
  assert_int_equal(prelux_stage_work(rig.g, &next), 0);
  assert_int_equal(pending(), 1);
}

/* Each file of staging/ and tree is where the journal says, whatever the instant at which the daemon died. */
static void test_restarts(void **state)
{
  int64_t next;
  put_text("old", "old");
  put_text("idle", "idle");
  rig.rules.async = rig.rules.publish = true; /* else: test_stage_crash.c */
  int done = wopen("done", O_WRONLY | O_CREAT), open_still = wopen("old", O_RDWR | O_APPEND), idle = wopen("idle", O_RDWR);
  int orphan = wopen("orphan", O_WRONLY | O_CREAT);
  say(done, "done");
  assert_int_equal(wclose(done), 0);
  say(open_still, "+1");
  say(orphan, "orphan");
  rig_close();
  close(orphan); /* nobody tells: the daemon was away */
  close(idle);
  char path[600];
  snprintf(path, sizeof path, "%s/.prelux/staging/12345678", rig.cache);
  close(open(path, O_WRONLY | O_CREAT, 0600));
  assert_int_equal(rig_open(), 0);
  assert_int_equal(access(path, F_OK), -1);
  snprintf(path, sizeof path, "%s/.prelux/recovered/staging-12345678", rig.cache);
  assert_int_equal(access(path, F_OK), 0);
  assert_int_equal(pending(), 4); /* idle, too: that nobody wrote to it cannot be proved any more */
  assert_string_equal(read_text("old"), "old+1");
  assert_string_equal(read_text("done"), "done");
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  assert_string_equal(remote_text("done"), "done");
  assert_string_equal(remote_text("orphan"), "orphan");
  assert_string_equal(remote_text("old"), "old");
  assert_string_equal(remote_text("idle"), "idle");
  say(open_still, "+2"); /* a descriptor of before goes on */
  assert_int_equal(wclose(open_still), 0);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  assert_string_equal(remote_text("old"), "old+1+2");
  assert_int_equal(pending(), 0);
}

/* Eight threads append to one file, and to some of their own, each with open and close; another sends. */
static atomic_bool appending;

static void *append(void *arg)
{
  char name[16];
  struct prelux_problem why;
  snprintf(name, sizeof name, "own%ld", (long)(intptr_t)arg);
  for (int i = 0; i < 60; i++)
    for (int k = 0; k < 2; k++)
    {
      struct prelux_attr attr;
      struct stat st;
      int fd = -1, rc = prelux_stage_open(rig.g, &rig.v, &rig.rules, k ? name : "shared", O_WRONLY | O_CREAT | O_APPEND, 0644, &attr, &fd, &why);
      if (rc < 0 || write(fd, "x", 1) != 1 || fstat(fd, &st) < 0)
        return (void *)1;
      close(fd);
      rc = prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &why);
      if (rc < 0 && rc != -EAGAIN)
        return (void *)2;
    }
  return NULL;
}

static void *send_all(void *arg)
{
  int64_t next;
  while (atomic_load(&appending))
    if (prelux_stage_work(rig.g, &next) == 0)
      usleep(500);
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
  return NULL;
}

static void test_many_append(void **state)
{
  for (int async = 0; async < 2; async++)
  {
    pthread_t threads[8], sender;
    char path[600], command[700];
    struct stat st;
    rig.rules.async = async;
    atomic_store(&appending, true);
    assert_int_equal(pthread_create(&sender, NULL, send_all, NULL), 0);
    for (intptr_t i = 0; i < 8; i++)
      assert_int_equal(pthread_create(&threads[i], NULL, append, (void *)i), 0);
    for (int i = 0; i < 8; i++)
    {
      void *result;
      pthread_join(threads[i], &result);
      assert_null(result);
    }
    atomic_store(&appending, false);
    pthread_join(sender, NULL);
    assert_int_equal(pending(), 0);
    snprintf(path, sizeof path, "%s/shared", rig.remote);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 480);
    snprintf(path, sizeof path, "%s/own7", rig.remote);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 60);
    rig_close();
    snprintf(command, sizeof command, "rm -rf '%s'/* '%s'", rig.remote, rig.cache);
    assert_int_equal(system(command), 0);
    assert_int_equal(rig_open(), 0);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_create_write_close, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_flags, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_all_share_one_inode, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_nothing_written_nothing_sent, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_readers_see_what_is_written, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_conflicts, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_lost_answers, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_errors_of_the_remote, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_async, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_sent_but_not_written_down, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_writers_that_just_go, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_restarts, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_many_append, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
