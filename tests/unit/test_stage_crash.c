/* What a killed writer leaves (lib/store/stage_crash.c). */
#include "tests/unit/stage_children.h"

/* ---- decisions ---- */

static void test_killed(void **state)
{
  for (int reaped = 0; reaped < 2; reaped++)
    for (int async = 0; async < 2; async++)
    {
      struct child c;
      rig.rules.async = async;
      put_text("f", "old");
      uint64_t ino = written_by("f", O_WRONLY | O_CREAT | O_TRUNC, "half", &c);
      prelux_stage_left(rig.g, ino);
      assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING); /* it lives, and may write */
      assert_int_equal(rig.g->n_writers, 1);
      int probe = prelux_process_open(c.pid), status;
      kill_it(&c, SIGKILL, reaped);
      bool told = prelux_process_end(probe, c.pid, &status) == PRELUX_END_KNOWN;
      close(probe);
      prelux_stage_left(rig.g, ino);
      if (told)
      {
        is_kept(ino, "killed by SIGKILL");
        assert_string_equal(read_text("f"), "old");
        send_all();
        assert_string_equal(remote_text("f"), "old");
        assert_int_equal(dirty(ino)->row.size, 4);
        assert_int_equal(prelux_stage_closed(rig.g, ino, &rig.rules, &rig.why), -EIO); /* who comes now is told */
        assert_int_equal(prelux_store_retry(rig.s, dirty(ino)->row.id, true, &rig.why), 0);
      }
      is_sent("f", "half");
      if (!reaped)
        reap(&c);
    }
}

static void test_ended(void **state)
{
  for (int how = 0; how < 3; how++)
  {
    struct child c;
    rig.rules.publish = how == 2;
    uint64_t ino = written_by("f", O_WRONLY | O_CREAT | O_TRUNC, "text", &c);
    assert_int_equal(rig.g->n_writers, how != 2);
    if (how == 0)
    {
      assert_int_equal(write(c.word, "e", 1), 1);
      dead(c.pid);
    }
    else
      kill_it(&c, how == 1 ? SIGTERM : SIGKILL, false);
    prelux_stage_poll(rig.g);
    is_sent("f", "text");
    assert_null(dirty(ino));
    reap(&c);
  }
}

/* A program without the library, which lives on: what it does afterwards is no news of the file. */
static void test_closed_and_lives(void **state)
{
  struct child c;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "text", &c);
  assert_int_equal(write(c.word, "c", 1), 1);
  for (int i = 0; i < 5000 && dirty(ino)->row.state == PRELUX_PENDING_WRITING; i++)
  {
    prelux_stage_left(rig.g, ino);
    usleep(1000);
  }
  assert_int_equal(rig.g->n_writers, 0);
  kill_it(&c, SIGKILL, true);
  is_sent("f", "text");
}

/* Killed before it got the descriptor, which the daemon has yet: that is nobody who outlived it. */
static void test_killed_while_it_is_handed(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT | O_EXCL);
  uint64_t ino = number(fd);
  struct child c = begin(-1);
  prelux_crash_handing(rig.g, ino, true);
  prelux_crash_writer(rig.g, ino, c.pid, prelux_process_open(c.pid));
  kill_it(&c, SIGKILL, false);
  prelux_stage_left(rig.g, ino);
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
  assert_int_equal(rig.g->n_writers, 1);
  close(fd);
  prelux_crash_handing(rig.g, ino, false);
  prelux_stage_left(rig.g, ino);
  is_kept(ino, "killed by SIGKILL");
  send_all();
  assert_null(remote_text("f"));
  reap(&c);
}

static void test_outlived(void **state)
{
  struct child first, last;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "one ", &first), same = written_by("f", O_WRONLY | O_APPEND, "two", &last);
  assert_int_equal(ino, same);
  assert_int_equal(dirty(ino)->n_writers, 2);
  kill_it(&first, SIGKILL, true);
  prelux_stage_left(rig.g, ino);
  assert_int_equal(dirty(ino)->n_writers, 1);
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
  kill_it(&last, SIGTERM, true);
  prelux_stage_left(rig.g, ino);
  is_sent("f", "one two");
}

static struct child *to_kill;

/* As the kernel, which says that somebody has it; who had it is killed right then, before anything is made of the answer. */
static int answer_and_kill(int fd, int cmd, ...)
{
  va_list more;
  va_start(more, cmd);
  int arg = va_arg(more, int);
  va_end(more);
  int rc = fcntl(fd, cmd, arg), err = errno;
  if (cmd == F_SETLEASE && rc < 0 && to_kill)
  {
    kill_it(to_kill, SIGKILL, false);
    to_kill = NULL;
  }
  errno = err;
  return rc;
}

/* Of the answer that somebody has it nothing follows for who dies behind it: he may be the last. */
static void test_dies_behind_the_answer(void **state)
{
  struct child c;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "half", &c);
  to_kill = &c;
  prelux_os.fcntl = answer_and_kill;
  prelux_stage_left(rig.g, ino);
  prelux_os.fcntl = fcntl;
  assert_null(to_kill);
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
  assert_int_equal(dirty(ino)->n_writers, 1);
  prelux_stage_left(rig.g, ino);
  is_kept(ino, "SIGKILL");
  reap(&c);
}

static int note_settling(void *arg, const struct prelux_owed *o)
{
  *(int *)arg += o->settling;
  return 0;
}

static int settling;

static int look_meanwhile(int fd, int cmd, ...)
{
  va_list more;
  va_start(more, cmd);
  int arg = va_arg(more, int);
  va_end(more);
  if (cmd == F_SETLEASE)
    prelux_store_owed(rig.s, note_settling, &settling);
  return fcntl(fd, cmd, arg);
}

/* Who waits for what was closed is not told that it is open, by him who looks first whether it is. */
static void test_settling(void **state)
{
  struct child c;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "text", &c);
  prelux_os.fcntl = look_meanwhile;
  settling = 0;
  prelux_stage_left(rig.g, ino); /* it is not closed */
  assert_int_equal(settling, 1);
  pthread_mutex_lock(&rig.g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(rig.g, ino);
  assert_true(prelux_dirty_grab(rig.g, d)); /* somebody else works on it, while the program has it open */
  pthread_mutex_unlock(&rig.g->lock);
  prelux_store_owed(rig.s, note_settling, &settling);
  assert_int_equal(settling, 1);
  prelux_dirty_give(rig.g, d);
  kill_it(&c, SIGTERM, true);
  prelux_stage_left(rig.g, ino);
  prelux_os.fcntl = fcntl;
  assert_int_equal(settling, 2);
  is_sent("f", "text");
}

static void test_told_after_all(void **state)
{
  struct child c;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "text", &c);
  kill_it(&c, SIGKILL, false);
  prelux_crash_closing(rig.g, ino, true); /* his word is there, and its turn has not come */
  prelux_stage_left(rig.g, ino);
  prelux_stage_poll(rig.g);
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
  assert_int_equal(prelux_stage_closed(rig.g, ino, &rig.rules, &rig.why), 0);
  prelux_crash_closing(rig.g, ino, false);
  is_sent("f", "text");
  reap(&c);
}

static void test_untouched(void **state)
{
  struct child c;
  put_text("f", "old");
  uint64_t ino = written_by("f", O_RDWR, "", &c);
  kill_it(&c, SIGKILL, false);
  prelux_stage_left(rig.g, ino);
  assert_null(dirty(ino));
  assert_int_equal(pending(), 0);
  assert_int_equal(rig.g->n_writers, 0);
  reap(&c);
}

/* A pidfd that tells nothing: of what it stands for. */
static void test_unknown(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT), told = eventfd(1, EFD_CLOEXEC);
  uint64_t ino = number(fd);
  say(fd, "text");
  prelux_crash_writer(rig.g, ino, 0x3ffffff, told);
  close(fd);
  prelux_stage_left(rig.g, ino);
  is_sent("f", "text");
  assert_int_equal(fcntl(told, F_GETFD), -1);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *die(void *arg)
{
  usleep(100000);
  assert_int_equal(eventfd_write(*(int *)arg, 1), 0);
  return NULL;
}

/* It has lost its files and is not dead yet: /proc says so, its pidfd (which is none) says nothing. */
static void test_dying(void **state)
{
  struct child c = begin(-1);
  kill_it(&c, SIGKILL, false);
  for (int dies = 0; dies < 2; dies++)
  {
    int fd = wopen("f", O_WRONLY | O_CREAT | O_TRUNC), told = eventfd(0, EFD_CLOEXEC), own = dup(told);
    uint64_t ino = number(fd);
    pthread_t thread;
    say(fd, "text");
    prelux_crash_writer(rig.g, ino, c.pid, told);
    close(fd);
    if (dies)
      assert_int_equal(pthread_create(&thread, NULL, die, &own), 0);
    double begun = now();
    prelux_stage_left(rig.g, ino);
    double took = now() - begun;
    if (dies)
      pthread_join(thread, NULL);
    else /* as long as nobody knows nothing is sent, however long it takes */
    {
      assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
      assert_int_equal(eventfd_write(own, 1), 0);
      prelux_stage_left(rig.g, ino);
    }
    close(own);
    assert_true(dies ? took > 0.09 && took < PRELUX_DYING_MS / 1e3 : took > PRELUX_DYING_MS / 1e3 - 0.1);
    is_sent("f", "text");
  }
  reap(&c);
}

static void test_limits(void **state)
{
  int fds[140];
  char name[16];
  for (int i = 0; i < 140; i++)
  {
    snprintf(name, sizeof name, "f%d", i);
    fds[i] = wopen(name, O_WRONLY | O_CREAT);
    say(fds[i], "x");
    for (unsigned k = 0; k < PRELUX_FILE_WRITERS + 2; k++)
      prelux_crash_writer(rig.g, number(fds[i]), 1 + i * 20 + (int)k, eventfd(0, EFD_CLOEXEC));
    assert_true(dirty(number(fds[i]))->n_writers == (i < 120 ? PRELUX_FILE_WRITERS : dirty(number(fds[i]))->n_writers));
    assert_true(rig.g->n_writers <= PRELUX_WRITERS_MAX);
    prelux_crash_writer(rig.g, number(fds[i]), 1 + i * 20 + 5, eventfd(0, EFD_CLOEXEC)); /* once more: it is known */
    assert_true(dirty(number(fds[i]))->n_writers <= PRELUX_FILE_WRITERS);
  }
  assert_int_equal(rig.g->n_writers, PRELUX_WRITERS_MAX);
  for (int i = 0; i < 140; i++)
    assert_int_equal(wclose(fds[i]), 0);
  assert_int_equal(rig.g->n_writers, 0);
  prelux_crash_writer(rig.g, 4711, 1, eventfd(0, EFD_CLOEXEC)); /* of no file */
  assert_int_equal(rig.g->n_writers, 0);
}

/* A number that is used again is another process. */
static void test_a_number_again(void **state)
{
  int one = wopen("one", O_WRONLY | O_CREAT), two = wopen("two", O_WRONLY | O_CREAT);
  prelux_crash_writer(rig.g, number(one), 4711, eventfd(1, EFD_CLOEXEC)); /* dead */
  prelux_crash_writer(rig.g, number(two), 4711, eventfd(0, EFD_CLOEXEC));
  assert_int_equal(rig.g->n_writers, 2);
  prelux_crash_writer(rig.g, number(one), 4711, eventfd(0, EFD_CLOEXEC));
  assert_int_equal(rig.g->n_writers, 2);
  assert_int_equal(dirty(number(one))->n_writers, 2);
  assert_int_equal(wclose(one), 0);
  assert_int_equal(wclose(two), 0);
}

/* What was closed and waits is part of the file yet; once it was cut it is not. */
static void test_acknowledged(void **state)
{
  rig.rules.async = true;
  for (int cut = 0; cut < 2; cut++)
  {
    struct child c;
    int fd = wopen("f", O_WRONLY | O_CREAT);
    say(fd, "whole ");
    assert_int_equal(wclose(fd), 0);
    uint64_t ino = written_by("f", O_WRONLY | (cut ? O_TRUNC : O_APPEND), "half", &c);
    kill_it(&c, SIGKILL, false);
    prelux_stage_left(rig.g, ino);
    if (cut)
      is_kept(ino, "SIGKILL");
    else
      is_sent("f", "whole half");
    reap(&c);
  }
}

/* What had gone of a file that grew is no upload any more. */
static void test_growing(void **state)
{
  static char part[65536];
  struct child c;
  size_t files;
  rig.g->parts_above = 2 * sizeof part;
  rig.g->part_size = sizeof part;
  rig.g->grower.not = 0;
  rig.g->grower.by_hand = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  uint64_t ino = number(fd);
  for (int i = 0; i < 6; i++)
    assert_int_equal(write(fd, part, sizeof part), sizeof part);
  c = begin(fd);
  prelux_crash_writer(rig.g, ino, c.pid, prelux_process_open(c.pid));
  close(fd);
  prelux_grow_round(rig.g, &files);
  assert_true(atomic_load(&faulty.parts) > 0);
  kill_it(&c, SIGKILL, false);
  prelux_stage_left(rig.g, ino);
  is_kept(ino, "SIGKILL");
  prelux_grow_round(rig.g, &files);
  assert_int_equal(atomic_load(&faulty.aborts), 1);
  assert_int_equal(files, 0);
  assert_int_equal(prelux_store_retry(rig.s, dirty(ino)->row.id, false, &rig.why), 0);
  send_all();
  assert_int_equal(pending(), 0);
  reap(&c);
}

static void test_journal_fails(void **state)
{
  struct child c;
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "half", &c);
  kill_it(&c, SIGKILL, false);
  struct rlimit none, all;
  getrlimit(RLIMIT_FSIZE, &all);
  none = (struct rlimit){.rlim_cur = 1, .rlim_max = all.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  prelux_stage_left(rig.g, ino);
  setrlimit(RLIMIT_FSIZE, &all);
  assert_int_equal(dirty(ino)->row.state, PRELUX_PENDING_WRITING);
  assert_string_equal(read_text("f"), "half");
  prelux_stage_poll(rig.g); /* it is looked again */
  is_kept(ino, "SIGKILL");
  reap(&c);
}

/* ---- after the death of a daemon ---- */

static void test_orphans(void **state)
{
  put_text("old", "old");
  put_text("idle", "idle");
  put_text("cut", "cut");
  rig.rules.async = true;
  int fd = wopen("late", O_WRONLY | O_CREAT), lost = wopen("old", O_WRONLY | O_TRUNC), idle = wopen("idle", O_RDWR), acked = wopen("log", O_WRONLY | O_CREAT);
  int made = wopen("made", O_WRONLY | O_CREAT | O_EXCL), more = wopen("more", O_WRONLY | O_CREAT);
  int cut = wopen("cut", O_WRONLY | O_TRUNC);
  uint64_t late = number(fd), gone = number(lost), shared = number(more), emptied = number(cut);
  say(fd, "late");
  say(lost, "half");
  say(more, "more");
  say(acked, "whole");
  assert_int_equal(wclose(acked), 0);
  say(acked = wopen("log", O_WRONLY | O_APPEND), ", half");
  rig_close();
  close(fd), close(lost), close(idle), close(acked), close(made), close(more), close(cut);
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_string_equal(remote_text("log"), "whole, half"); /* acknowledged once */
  assert_string_equal(remote_text("made"), "");            /* nobody may know of it: the answer to the open was lost perhaps */
  assert_string_equal(remote_text("idle"), "idle");
  assert_string_equal(remote_text("cut"), "cut"); /* who has put nothing in the place of that had no time to */
  prelux_stage_poll(rig.g);
  assert_int_equal(dirty(late)->row.state, PRELUX_PENDING_WRITING); /* there is time yet */
  assert_string_equal(read_text("old"), "half");
  assert_int_equal(prelux_stage_closed(rig.g, late, &rig.rules, &rig.why), 0);
  is_sent("late", "late");
  say(more = wopen("more", O_WRONLY | O_APPEND), " of it"); /* somebody goes on with that */
  prelux_dirty_by_ino(rig.g, gone)->orphan_ns = 1;           /* the time is over */
  prelux_dirty_by_ino(rig.g, emptied)->orphan_ns = 1;
  prelux_stage_poll(rig.g);
  is_kept(gone, "when the daemon began");
  is_kept(emptied, "when the daemon began");
  assert_string_equal(read_text("old"), "old");
  assert_string_equal(read_text("cut"), "cut");
  assert_int_equal(dirty(shared)->orphan_ns, 0);
  assert_int_equal(wclose(more), 0);
  is_sent("more", "more of it");
  again(0);
  is_kept(gone, "when the daemon began");
  assert_int_equal(pending(), 2);
}

/* Who has a file is found among all processes. */
static void test_found(void **state)
{
  struct child killed, ended;
  uint64_t first = written_by("killed", O_WRONLY | O_CREAT, "half", &killed), second = written_by("ended", O_WRONLY | O_CREAT, "text", &ended);
  again(0);
  assert_int_equal(rig.g->n_writers, 2);
  assert_int_equal(dirty(first)->n_writers, 1);
  assert_int_equal(dirty(first)->orphan_ns, 0);
  kill_it(&killed, SIGKILL, false);
  kill_it(&ended, SIGTERM, false);
  prelux_stage_poll(rig.g);
  is_kept(first, "SIGKILL");
  assert_int_equal(dirty(second)->row.state, PRELUX_PENDING_READY);
  is_sent("ended", "text");
  reap(&killed);
  reap(&ended);
}

/* Who reads only is no writer of it, and his death says nothing. */
static void test_found_readers(void **state)
{
  struct child writer, reader;
  char path[600];
  uint64_t ino = written_by("f", O_WRONLY | O_CREAT, "text", &writer);
  snprintf(path, sizeof path, "%s/.prelux/staging/%llu", rig.cache, (unsigned long long)ino);
  int fd = open(path, O_RDONLY);
  reader = begin(fd);
  close(fd);
  again(0);
  assert_int_equal(dirty(ino)->n_writers, 1);
  kill_it(&reader, SIGKILL, false);
  kill_it(&writer, SIGTERM, false);
  prelux_stage_poll(rig.g);
  is_sent("f", "text");
  reap(&reader);
  reap(&writer);
}

int main(void)
{
#define EACH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      EACH(test_killed),   EACH(test_ended),         EACH(test_closed_and_lives),
      EACH(test_killed_while_it_is_handed), EACH(test_outlived), EACH(test_told_after_all),   EACH(test_untouched), EACH(test_unknown),       EACH(test_dying),
      EACH(test_limits),           EACH(test_acknowledged),     EACH(test_growing),   EACH(test_journal_fails), EACH(test_orphans),
      EACH(test_found),            EACH(test_dies_behind_the_answer), EACH(test_settling),
      EACH(test_a_number_again),   EACH(test_found_readers),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
