/* lib/store/journal: rows, order, all-or-nothing, what SIGKILL leaves, full disk, damage, one sync for many. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/base/os.h"
#include "lib/store/journal.h"

static char folder[200], file[240];

static int set_up(void **state)
{
  const char *tmp = getenv("TMPDIR");
  (void)state;
  snprintf(folder, sizeof folder, "%s/prelux-journal-XXXXXX", tmp ? tmp : "/tmp");
  assert_non_null(mkdtemp(folder));
  snprintf(file, sizeof file, "%s/journal.db", folder);
  return 0;
}

static int tear_down(void **state)
{
  char command[300];
  (void)state;
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  return system(command);
}

static struct prelux_journal *open_journal(void)
{
  struct prelux_journal *j = NULL;
  struct prelux_problem why = {0};
  int err = prelux_journal_open(file, NULL, NULL, &j, &why);
  if (err < 0)
    fail_msg("%s", why.text);
  return j;
}

static struct prelux_pending put_row(const char *path, uint64_t ino)
{
  return (struct prelux_pending){.tree = 3, .intent = PRELUX_INTENT_PUT, .state = PRELUX_PENDING_WRITING, .flags = PRELUX_PENDING_NEW,
                                 .path = (char *)path, .ino = ino, .mode = 0640, .made_ns = 5, .base = "v1"};
}

static int change(struct prelux_journal *j, enum prelux_edit_kind kind, struct prelux_pending *row)
{
  return prelux_journal_change(j, &(struct prelux_edit){kind, row}, 1);
}

struct seen
{
  size_t n;
  struct prelux_pending rows[16];
};

static int keep(void *arg, const struct prelux_pending *row)
{
  struct seen *s = arg;
  assert_true(s->n < 16);
  struct prelux_pending *to = &s->rows[s->n++];
  *to = *row;
  to->path = row->path ? strdup(row->path) : NULL;
  to->to = row->to ? strdup(row->to) : NULL;
  to->upload = row->upload ? strdup(row->upload) : NULL;
  to->cause = row->cause ? strdup(row->cause) : NULL;
  to->sent = row->sent ? strdup(row->sent) : NULL;
  return 0;
}

static void look(struct prelux_journal *j, struct seen *s)
{
  for (size_t i = 0; i < s->n; i++)
    prelux_pending_release(&s->rows[i]);
  s->n = 0;
  assert_int_equal(prelux_journal_each(j, keep, s), 0);
}

static void forget(struct seen *s)
{
  for (size_t i = 0; i < s->n; i++)
    prelux_pending_release(&s->rows[i]);
  s->n = 0;
}

static void test_rows_come_back_as_they_were(void **state)
{
  struct prelux_journal *j = open_journal();
  struct seen s = {0};
  struct prelux_pending a = put_row("a/\xff\n'b", UINT64_MAX - 1), b = put_row(NULL, 8);
  struct prelux_pending c = {.tree = -4, .intent = PRELUX_INTENT_RENAME, .state = PRELUX_PENDING_READY, .path = (char *)"", .to = (char *)"x/y"};
  (void)state;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &b), 0);
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &c), 0);
  a.state = PRELUX_PENDING_READY, a.size = 77, a.mtime_ns = -9, a.tries = 2, a.err = EIO, a.next_ns = 99;
  a.upload = (char *)"token", a.cause = (char *)"the server was away", a.sent = (char *)"3-ab 4-cd", a.made_ns = 1234;
  assert_int_equal(change(j, PRELUX_EDIT_SET, &a), 0);
  prelux_journal_free(j);

  j = open_journal();
  look(j, &s);
  assert_int_equal(s.n, 3);
  assert_string_equal(s.rows[0].path, "a/\xff\n'b");
  assert_true(s.rows[0].ino == UINT64_MAX - 1 && s.rows[0].size == 77 && s.rows[0].mtime_ns == -9 && s.rows[0].made_ns == 5);
  assert_true(s.rows[0].tries == 2 && s.rows[0].err == EIO && s.rows[0].next_ns == 99 && s.rows[0].mode == 0640);
  assert_string_equal(s.rows[0].upload, "token");
  assert_string_equal(s.rows[0].cause, "the server was away");
  assert_string_equal(s.rows[0].sent, "3-ab 4-cd");
  assert_string_equal(s.rows[0].base, "v1");
  assert_null(s.rows[1].path);
  assert_null(s.rows[1].upload);
  assert_string_equal(s.rows[2].path, "");
  assert_string_equal(s.rows[2].to, "x/y");
  assert_int_equal(s.rows[2].tree, -4);
  assert_true(s.rows[0].id < s.rows[1].id && s.rows[1].id < s.rows[2].id);
  forget(&s);
  prelux_journal_free(j);
}

static void test_ids_are_never_used_again(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_pending a = put_row("a", 1), b = put_row("b", 2);
  uint64_t n = 9;
  (void)state;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  assert_int_equal(change(j, PRELUX_EDIT_DROP, &a), 0);
  assert_int_equal(prelux_journal_count(j, &n), 0);
  assert_int_equal(n, 0);
  prelux_journal_free(j);
  j = open_journal();
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &b), 0);
  assert_true(b.id > a.id); /* the order of what was done stays, whatever went in between */
  assert_int_equal(change(j, PRELUX_EDIT_DROP, &a), -ENOENT);
  assert_int_equal(change(j, PRELUX_EDIT_SET, &a), -ENOENT);
  prelux_journal_free(j);
}

static void test_all_or_nothing(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_pending a = put_row("a", 1), b = put_row("b", 2), gone = put_row("c", 3);
  struct seen s = {0};
  (void)state;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  gone.id = 4711;
  struct prelux_pending moved = a;
  moved.path = (char *)"z";
  struct prelux_edit edits[] = {{PRELUX_EDIT_ADD, &b}, {PRELUX_EDIT_SET, &moved}, {PRELUX_EDIT_DROP, &gone}};
  assert_int_equal(prelux_journal_change(j, edits, 3), -ENOENT);
  assert_int_equal(b.id, 0);
  look(j, &s);
  assert_int_equal(s.n, 1);
  assert_string_equal(s.rows[0].path, "a");
  assert_int_equal(prelux_journal_change(j, edits, 2), 0);
  look(j, &s);
  assert_int_equal(s.n, 2);
  assert_string_equal(s.rows[0].path, "z");
  forget(&s);
  prelux_journal_free(j);
}

static int drop_it(void *arg, const struct prelux_pending *row)
{
  struct prelux_pending copy = {.id = row->id};
  return change(arg, PRELUX_EDIT_DROP, &copy);
}

static void test_rows_may_go_while_they_are_shown(void **state)
{
  struct prelux_journal *j = open_journal();
  uint64_t n;
  (void)state;
  for (int i = 0; i < 5; i++)
  {
    struct prelux_pending a = put_row("a", 1);
    assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  }
  assert_int_equal(prelux_journal_each(j, drop_it, j), 0);
  assert_int_equal(prelux_journal_count(j, &n), 0);
  assert_int_equal(n, 0);
  prelux_journal_free(j);
}

/* The child says over a pipe what was acknowledged, and is killed at some instant. */
static void write_until_killed(int out)
{
  struct prelux_journal *j = open_journal();
  for (int64_t i = 1;; i++)
  {
    struct prelux_pending a = put_row("a", (uint64_t)i), b = put_row("b", (uint64_t)i);
    struct prelux_edit both[] = {{PRELUX_EDIT_ADD, &a}, {PRELUX_EDIT_ADD, &b}};
    if (prelux_journal_change(j, both, 2) < 0 || write(out, &i, sizeof i) != sizeof i)
      _exit(1);
  }
}

static int count_pairs(void *arg, const struct prelux_pending *row)
{
  uint64_t *last = arg;
  if (row->path[0] == 'a')
    assert_true(row->ino == last[0] + 1 && last[0] == last[1]);
  else
    assert_true(row->ino == last[0]);
  last[row->path[0] - 'a'] = row->ino;
  return 0;
}

static void test_kills_lose_nothing_acknowledged(void **state)
{
  (void)state;
  for (int round = 0; round < 25; round++)
  {
    int pipes[2], status;
    int64_t acked = 0, i;
    uint64_t last[2] = {0};
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0)
    {
      close(pipes[0]);
      write_until_killed(pipes[1]);
    }
    close(pipes[1]);
    for (int wanted = 1 + round * 7; acked < wanted && read(pipes[0], &i, sizeof i) == sizeof i; acked = i)
      ;
    kill(pid, SIGKILL);
    while (read(pipes[0], &i, sizeof i) == sizeof i)
      acked = i;
    close(pipes[0]);
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    struct prelux_journal *j = open_journal();
    assert_int_equal(prelux_journal_each(j, count_pairs, last), 0);
    assert_true(last[0] >= (uint64_t)acked && last[0] == last[1]);
    prelux_journal_free(j);
    assert_int_equal(unlink(file), 0);
  }
}

static void test_damage_is_an_error_and_stays(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_problem why = {0};
  struct prelux_pending a = put_row("a", 1);
  (void)state;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  prelux_journal_free(j);
  int fd = open(file, O_WRONLY);
  assert_int_equal(pwrite(fd, "this is no database at all", 26, 0), 26);
  close(fd);
  assert_int_equal(prelux_journal_open(file, NULL, NULL, &j, &why), -EUCLEAN);
  assert_non_null(strstr(why.text, file));
  assert_true(why.advice[0]);
  assert_int_equal(access(file, F_OK), 0);
}

static void test_a_newer_schema_is_refused(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_problem why = {0};
  char command[500];
  (void)state;
  prelux_journal_free(j);
  snprintf(command, sizeof command,
           "/usr/bin/python3 -c \"import sqlite3; c = sqlite3.connect('%s'); c.execute(\\\"UPDATE meta SET value='9'\\\"); c.commit()\"", file);
  assert_int_equal(system(command), 0);
  assert_int_equal(prelux_journal_open(file, NULL, NULL, &j, &why), -EPROTO);
  assert_non_null(strstr(why.text, "newer"));
}

static void sql(const char *text)
{
  char command[2000];
  snprintf(command, sizeof command, "/usr/bin/python3 -c \"import sqlite3; c = sqlite3.connect('%s'); c.executescript(\\\"%s\\\")\"", file, text);
  assert_int_equal(system(command), 0);
}

static int name_of_3(void *arg, int64_t tree, char *ret, size_t cap)
{
  ++*(int *)arg;
  snprintf(ret, cap, "file root=/three");
  return tree == 3 ? 0 : -ENOENT;
}

/* Numbers of version 1 were the catalogue's: they stay, with the identity that it has for them, and are given to nobody else. */
static void test_a_journal_of_version_1(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_problem why = {0};
  struct prelux_pending a = put_row("a", 1), b = put_row("b", 2);
  struct seen s = {0};
  char identity[100];
  int64_t id;
  int asked = 0;
  (void)state;
  b.tree = 7;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &b), 0);
  prelux_journal_free(j);
  sql("DROP TABLE trees; ALTER TABLE pending DROP COLUMN sent; UPDATE meta SET value='1'");
  assert_int_equal(prelux_journal_open(file, name_of_3, &asked, &j, &why), 0);
  assert_int_equal(asked, 2);
  assert_int_equal(prelux_journal_tree(j, "file root=/three", false, &id), 0);
  assert_int_equal(id, 3);
  assert_int_equal(prelux_journal_identity(j, 7, identity, sizeof identity), 0); /* of nobody: it waits for a person */
  assert_non_null(strstr(identity, "number 7 of a catalogue"));
  assert_int_equal(prelux_journal_tree(j, "file root=/new", false, &id), -ENOENT);
  assert_int_equal(prelux_journal_tree(j, "file root=/new", true, &id), 0);
  assert_int_equal(id, 8);
  look(j, &s);
  assert_int_equal(s.n, 2);
  assert_true(s.rows[0].tree == 3 && s.rows[1].tree == 7);
  forget(&s);
  prelux_journal_free(j);
  assert_int_equal(prelux_journal_open(file, name_of_3, &asked, &j, &why), 0);
  assert_int_equal(asked, 2); /* once */
  assert_int_equal(prelux_journal_tree(j, "file root=/new", true, &id), 0);
  assert_int_equal(id, 8);
  assert_int_equal(prelux_journal_identity(j, 9, identity, sizeof identity), -ENOENT);
  prelux_journal_free(j);
}

enum { WRITERS = 16 };
static atomic_int syncs, committed;
static int sync_result;

/* The first one lasts until all have committed, however slow the machine is. */
static int counted_fdatasync(int fd)
{
  (void)fd;
  if (atomic_fetch_add(&syncs, 1) == 0)
    for (int i = 0; i < 10000 && atomic_load(&committed) < WRITERS; i++)
      usleep(1000);
  if (sync_result)
    errno = sync_result;
  return sync_result ? -1 : 0;
}

static void *commit_and_sync(void *arg)
{
  struct prelux_pending a = put_row("t", 1);
  int err = change(arg, PRELUX_EDIT_ADD, &a);
  atomic_fetch_add(&committed, 1);
  return (void *)(intptr_t)(err ? err : prelux_journal_durable(arg, UINT64_MAX));
}

static void test_one_sync_for_many(void **state)
{
  struct prelux_journal *j = open_journal();
  pthread_t threads[WRITERS];
  (void)state;
  struct prelux_os saved = prelux_os;
  prelux_os.fdatasync = counted_fdatasync;
  atomic_store(&syncs, 0);
  for (size_t i = 0; i < WRITERS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, commit_and_sync, j), 0);
  for (size_t i = 0; i < WRITERS; i++)
  {
    void *result;
    pthread_join(threads[i], &result);
    assert_null(result);
  }
  assert_in_range(atomic_load(&syncs), 1, 3);
  int before = atomic_load(&syncs);
  assert_int_equal(prelux_journal_durable(j, UINT64_MAX), 0);
  assert_int_equal(atomic_load(&syncs), before); /* nothing new: nothing to sync */

  sync_result = EIO;
  struct prelux_pending a = put_row("u", 1);
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  assert_int_equal(prelux_journal_durable(j, UINT64_MAX), -EIO);
  sync_result = 0;
  assert_int_equal(prelux_journal_durable(j, UINT64_MAX), -EIO); /* a sync after a failed one proves nothing */
  prelux_os = saved;
  prelux_journal_free(j);
}

static int interruptions;

static int interrupted_fdatasync(int fd)
{
  (void)fd;
  errno = EINTR;
  return interruptions-- > 0 ? -1 : 0;
}

/* On some file systems a sync may be: nothing has failed, and the next ones are believed. */
static void test_an_interrupted_sync(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_pending a = put_row("t", 1);
  (void)state;
  struct prelux_os saved = prelux_os;
  prelux_os.fdatasync = interrupted_fdatasync;
  assert_int_equal(change(j, PRELUX_EDIT_ADD, &a), 0);
  interruptions = 2;
  assert_int_equal(prelux_journal_durable(j, UINT64_MAX), 0);
  assert_int_equal(interruptions, -1);
  prelux_os = saved;
  prelux_journal_free(j);
}

static void set_full(bool yes)
{
  struct rlimit room;
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &room);
  room.rlim_cur = yes ? 0 : room.rlim_max;
  setrlimit(RLIMIT_FSIZE, &room);
}

/* A row that is over, and could not be dropped, goes with the next change, or at the end. */
static void test_what_is_over_goes_with_the_next_change(void **state)
{
  struct prelux_journal *j = open_journal();
  struct prelux_pending row[4];
  uint64_t n;
  (void)state;
  for (unsigned i = 0; i < 4; i++)
  {
    row[i] = put_row("t", i + 1);
    assert_int_equal(change(j, PRELUX_EDIT_ADD, &row[i]), 0);
  }
  set_full(true);
  for (int i = 0; i < 2; i++)
    assert_true(prelux_journal_forget(j, row[i].id) < 0);
  set_full(false);
  assert_int_equal(prelux_journal_count(j, &n), 0);
  assert_int_equal(n, 4);
  assert_int_equal(change(j, PRELUX_EDIT_SET, &row[3]), 0);
  assert_int_equal(prelux_journal_count(j, &n), 0);
  assert_int_equal(n, 2);
  set_full(true);
  assert_true(prelux_journal_forget(j, row[2].id) < 0);
  set_full(false);
  prelux_journal_free(j);
  j = open_journal();
  assert_int_equal(prelux_journal_count(j, &n), 0);
  assert_int_equal(n, 1);
  prelux_journal_free(j);
}

/* RLIMIT_FSIZE stands for the full disk: SQLite gets a short write. In a child, since the limit is a process's. */
static int work_on_a_full_disk(void)
{
  struct prelux_journal *j = open_journal();
  struct prelux_pending a = put_row("a", 1), b = put_row("b", 2);
  uint64_t n = 0;
  if (change(j, PRELUX_EDIT_ADD, &a) < 0)
    return 1;
  struct rlimit limit = {.rlim_cur = 16384, .rlim_max = RLIM_INFINITY};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &limit);
  int err = 0;
  for (int i = 0; i < 100 && err == 0; i++)
  {
    err = change(j, PRELUX_EDIT_ADD, &b);
    if (err == 0 && change(j, PRELUX_EDIT_DROP, &b) < 0)
      break;
  }
  if (err != -ENOSPC && err != -EIO)
    return 2;
  limit.rlim_cur = RLIM_INFINITY;
  setrlimit(RLIMIT_FSIZE, &limit);
  if (change(j, PRELUX_EDIT_ADD, &b) < 0 || prelux_journal_count(j, &n) < 0 || n < 2 || n > 3)
    return 3;
  prelux_journal_free(j);
  j = open_journal();
  uint64_t again = 0;
  if (prelux_journal_count(j, &again) < 0 || again != n)
    return 4;
  prelux_journal_free(j);
  return 0;
}

static void test_full_disk(void **state)
{
  int status;
  (void)state;
  pid_t pid = fork();
  if (pid == 0)
    _exit(work_on_a_full_disk());
  waitpid(pid, &status, 0);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_rows_come_back_as_they_were, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_ids_are_never_used_again, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_all_or_nothing, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_rows_may_go_while_they_are_shown, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_kills_lose_nothing_acknowledged, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_damage_is_an_error_and_stays, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_newer_schema_is_refused, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_a_journal_of_version_1, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_one_sync_for_many, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_an_interrupted_sync, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_what_is_over_goes_with_the_next_change, set_up, tear_down),
      cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
