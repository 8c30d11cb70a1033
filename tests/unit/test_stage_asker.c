/* Opens for writing that fail when something has been made for them already, or whose program is dead by then (lib/store/stage.c). */
#include "tests/unit/stage_children.h"

#include "lib/base/os.h"

static struct child asking;

static void kill_asking(void)
{
  kill_it(&asking, SIGKILL, false);
}

static int open_by(int pidfd, const char *name, int flags)
{
  struct prelux_attr attr;
  const struct prelux_asker by = {.pidfd = pidfd};
  int fd = -1, rc = prelux_store_open_write(&rig.v, &rig.rules, name, flags, 0640, &by, &attr, &fd, &rig.why);
  return rc < 0 ? rc : fd;
}

/* He never gets the answer: nothing is begun for him, and nothing that was acknowledged is cut. */
static void test_killed_in_open(void **state)
{
  (void)state;
  rig.rules.async = true;
  put_text("old", "theirs");
  asking = begin(-1);
  int pidfd = prelux_process_open(asking.pid), fd = open_by(pidfd, "lives", O_WRONLY | O_CREAT);
  assert_true(fd >= 0);
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  faulty.asked = kill_asking;
  assert_int_equal(open_by(pidfd, "old", O_WRONLY), -ESRCH);
  assert_null(faulty.asked);
  assert_int_equal(open_by(pidfd, "old", O_WRONLY | O_TRUNC), -ESRCH);
  assert_int_equal(open_by(pidfd, "new", O_WRONLY | O_CREAT), -ESRCH);
  assert_int_equal(open_by(pidfd, "once", O_WRONLY | O_CREAT | O_EXCL), -ESRCH);
  assert_int_equal(open_by(pidfd, "", O_RDWR | O_TMPFILE), -ESRCH);
  assert_int_equal(open_by(pidfd, "lives", O_WRONLY | O_TRUNC), -ESRCH);
  assert_int_equal(rig.g->count, 1);
  is_sent("lives", "text");
  assert_string_equal(remote_text("old"), "theirs");
  assert_null(remote_text("new"));
  fd = wopen("once", O_WRONLY | O_CREAT | O_EXCL);
  assert_true(fd >= 0);
  assert_int_equal(wclose(fd), 0);
  close(pidfd);
  reap(&asking);
}

/* Right behind the name of the new file: the row is there, the program has no descriptor yet. */
static int link_and_kill(int from, const char *old, int to, const char *name, int flags)
{
  int rc = linkat(from, old, to, name, flags);
  if (asking.pid)
    kill_it(&asking, SIGKILL, true);
  asking.pid = 0;
  return rc;
}

static bool full;

static int no_more_files(int dirfd, const char *path, int flags, ...)
{
  if ((flags & O_ACCMODE) == O_WRONLY)
  {
    if (full)
      set_full(true);
    errno = EMFILE;
    return -1;
  }
  return openat(dirfd, path, flags, 0600);
}

/* What was begun is undone: no empty file goes anywhere, least of all over what is there. */
static void test_nobody_is_there(void **state)
{
  const int flags[] = {O_WRONLY | O_CREAT | O_EXCL, O_WRONLY | O_CREAT | O_TRUNC, O_WRONLY | O_CREAT, O_WRONLY | O_TRUNC | O_CREAT};
  put_text("f3", "theirs"); /* and it is not cached */
  for (int async = 0; async < 2; async++)
    for (int how = 0; how < 4; how++)
      for (int trouble = 0; trouble < 3; trouble++)
      {
        bool dies = trouble == 1;
        char name[8];
        int pidfd = -1;
        snprintf(name, sizeof name, "f%d", how);
        rig.rules.async = async;
        asking.pid = 0;
        full = trouble == 2;
        if (dies)
        {
          asking = begin(-1);
          pidfd = prelux_process_open(asking.pid);
          prelux_os.linkat = link_and_kill;
        }
        else
          prelux_os.openat = no_more_files;
        int rc = open_by(pidfd, name, flags[how]);
        prelux_os.linkat = linkat;
        prelux_os.openat = openat;
        set_full(false);
        assert_int_equal(rc, dies ? -ESRCH : -EMFILE);
        assert_int_equal(asking.pid, 0);
        assert_int_equal(rig.g->count, 0);
        prelux_stage_poll(rig.g);
        send_all();
        assert_int_equal(pending(), 0);
        if (how == 3)
          assert_string_equal(remote_text(name), "theirs");
        else
          assert_null(remote_text(name));
        if (pidfd >= 0)
          close(pidfd);
      }
  int fd = wopen("f0", O_WRONLY | O_CREAT | O_EXCL); /* and nothing is in the way of the next */
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  is_sent("f0", "text");
}

static int strangers;

static int a_stranger_has_it(int from, const char *old, int to, const char *name, int flags)
{
  if (strangers > 0)
  {
    strangers--;
    errno = EEXIST;
    return -1;
  }
  return linkat(from, old, to, name, flags);
}

/* The name that a file's number gives is taken: another number will do. */
static void test_name_of_the_number_is_taken(void **state)
{
  int before = open("/dev/null", O_RDONLY);
  close(before);
  prelux_os.linkat = a_stranger_has_it;
  strangers = 3;
  int fd = wopen("f", O_WRONLY | O_CREAT | O_EXCL);
  assert_int_equal(strangers, 0);
  assert_true(fd >= 0);
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  strangers = 1000;
  assert_int_equal(wopen("g", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  strangers = 0;
  prelux_os.linkat = linkat;
  is_sent("f", "text");
  assert_int_equal(rig.g->count, 0);
  int after = open("/dev/null", O_RDONLY); /* and no descriptor is left */
  assert_int_equal(after, before);
  close(after);
}

static int a_stranger_has_that(int from, const char *old, int to, const char *name, unsigned flags)
{
  if (strangers > 0 && (flags & RENAME_NOREPLACE))
  {
    strangers--;
    errno = EEXIST;
    return -1;
  }
  return renameat2(from, old, to, name, flags);
}

/* Files that are made ahead have their names by another call. */
static void test_name_of_a_spare_is_taken(void **state)
{
  struct stat st;
  int before = open("/dev/null", O_RDONLY);
  close(before);
  prelux_os.renameat2 = a_stranger_has_that;
  strangers = 3;
  prelux_spare_make(rig.g);
  assert_int_equal(strangers, 0);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES);
  strangers = 1000;
  assert_false(prelux_spare_new(rig.g, &st));
  assert_int_equal(strangers, 1000 - PRELUX_STRANGERS);
  strangers = 0;
  prelux_os.renameat2 = renameat2;
  int fd = wopen("f", O_WRONLY | O_CREAT | O_EXCL), after = open("/dev/null", O_RDONLY);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  assert_int_equal(after, before + 1);
  close(after);
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  is_sent("f", "text");
}

int main(void)
{
#define EACH(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      EACH(test_killed_in_open), EACH(test_nobody_is_there), EACH(test_name_of_the_number_is_taken), EACH(test_name_of_a_spare_is_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
