/* A daemon that starts and cannot read something: each call of its start fails once, in turn, and then another daemon starts. What was acknowledged is owed
 * still, by its state, and is sent: that something could not be looked at is no sign that it is gone. */
#include "tests/unit/stage_children.h"

#include <dirent.h>
#include <sys/statfs.h>

static struct prelux_os real;
static long calls, fail_at;
static int fail_errno;

static int failing(void)
{
  if (++calls != fail_at)
    return 0;
  errno = fail_errno;
  return 1;
}

#define WRAP(type, bad, name, params, args) \
  static type f_##name params               \
  {                                         \
    return failing() ? bad : real.name args; \
  }

WRAP(ssize_t, -1, pread, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off))
WRAP(int, -1, fstat, (int fd, struct stat *st), (fd, st))
WRAP(int, -1, fstatat, (int fd, const char *p, struct stat *st, int fl), (fd, p, st, fl))
WRAP(int, -1, fstatfs, (int fd, struct statfs *st), (fd, st))
WRAP(ssize_t, -1, readlinkat, (int fd, const char *p, char *buf, size_t n), (fd, p, buf, n))
WRAP(int, -1, linkat, (int a, const char *p, int b, const char *q, int fl), (a, p, b, q, fl))
WRAP(int, -1, renameat, (int a, const char *p, int b, const char *q), (a, p, b, q))
WRAP(int, -1, unlinkat, (int fd, const char *p, int fl), (fd, p, fl))
WRAP(int, -1, mkdirat, (int fd, const char *p, mode_t m), (fd, p, m))
WRAP(DIR *, NULL, fdopendir, (int fd), (fd))

static int f_open(const char *p, int flags, ...)
{
  return failing() ? -1 : real.open(p, flags, 0600);
}

static int f_openat(int fd, const char *p, int flags, ...)
{
  return failing() ? -1 : real.openat(fd, p, flags, 0600);
}

static void faults(void)
{
  prelux_os.open = f_open;
  prelux_os.openat = f_openat;
#define ON(name) prelux_os.name = f_##name;
  ON(pread) ON(fstat) ON(fstatat) ON(fstatfs) ON(readlinkat) ON(linkat) ON(renameat) ON(unlinkat) ON(mkdirat) ON(fdopendir)
}

/* As who was granted a lease leaves it when he and the daemon die: a file with a name in the lease's folder, no row, and the mark of its close. */
static void leave_a_lease(void)
{
  char path[700], other[700], text[100];
  snprintf(text, sizeof text, "%lld %x 600 ", (long long)atomic_load(&rig.t->owed_id), (unsigned)prelux_stage_first_flags(&rig.rules, false));
  snprintf(path, sizeof path, "%s/.prelux/lease/7.of", rig.cache);
  assert_int_equal(symlink(text, path), 0);
  snprintf(path, sizeof path, "%s/.prelux/lease/7", rig.cache);
  assert_int_equal(mkdir(path, 0700), 0);
  snprintf(path, sizeof path, "%s/.prelux/staging/new", rig.cache);
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  uint64_t ino = number(fd);
  say(fd, "leased");
  close(fd);
  snprintf(other, sizeof other, "%s/.prelux/staging/%llu", rig.cache, (unsigned long long)ino);
  assert_int_equal(rename(path, other), 0);
  snprintf(path, sizeof path, "%s/.prelux/lease/7/leased", rig.cache);
  assert_int_equal(link(other, path), 0);
  snprintf(path, sizeof path, "%s/.prelux/" PRELUX_LEFT_FOLDER "/0", rig.cache);
  snprintf(other, sizeof other, "%s/.prelux/" PRELUX_LEFT_FOLDER "/%llu.4000000", rig.cache, (unsigned long long)ino);
  assert_int_equal(link(path, other), 0);
}

/* True: the start made fewer calls than fail_at. */
static bool start_with(long at, int err)
{
  set_up(NULL);
  rig.rules.async = true;
  put_text("old", "before");
  int closed = wopen("closed", O_WRONLY | O_CREAT), over = wopen("old", O_WRONLY);
  say(closed, "acknowledged");
  say(over, "behind");
  assert_int_equal(wclose(closed), 0);
  assert_int_equal(wclose(over), 0);
  leave_a_lease();
  rig_close();
  calls = 0;
  fail_at = at;
  fail_errno = err;
  faults();
  rig_open();
  prelux_os = real;
  bool beyond = calls < at;
  rig_close();
  if (rig_open() < 0)
    fail_msg("call %ld failed with %d: then %s", at, err, rig.why.text);
  if (pending() != 3)
    fail_msg("call %ld failed with %d: %llu files are owed, not 3", at, err, (unsigned long long)pending());
  send_all();
  const char *const wanted[][2] = {{"closed", "acknowledged"}, {"old", "behind"}, {"leased", "leased"}};
  for (int i = 0; i < 3; i++)
    if (!remote_text(wanted[i][0]) || strcmp(remote_text(wanted[i][0]), wanted[i][1]) != 0)
      fail_msg("call %ld failed with %d: %s is %s on the remote", at, err, wanted[i][0], remote_text(wanted[i][0]) ? remote_text(wanted[i][0]) : "not there");
  assert_int_equal(pending(), 0);
  tear_down(NULL);
  return beyond;
}

static void sweep(int err)
{
  long at = 1;
  while (!start_with(at, err))
    at++;
  print_message("%ld calls failed in turn with %s\n", at - 1, strerror(err));
  assert_true(at > 50);
}

static void test_eio(void **state)
{
  sweep(EIO);
}

static void test_emfile(void **state)
{
  sweep(EMFILE);
}

static int fstatat_of_all_but_the_journal(int fd, const char *path, struct stat *st, int flags)
{
  if (strcmp(path, "journal.db") != 0)
    return fstatat(fd, path, st, flags);
  errno = EIO;
  return -1;
}

/* Whether there is one cannot be told: a store that is opened without it sends what is made from now on, and what it names later, over that. */
static void test_a_journal_that_cannot_be_seen(void **state)
{
  set_up(NULL);
  rig.rules.async = true;
  int closed = wopen("closed", O_WRONLY | O_CREAT);
  say(closed, "acknowledged");
  assert_int_equal(wclose(closed), 0);
  rig_close();
  prelux_os.fstatat = fstatat_of_all_but_the_journal;
  int rc = rig_open();
  prelux_os = real;
  assert_int_equal(rc, -EIO);
  rig_close();
  assert_int_equal(rig_open(), 0);
  assert_int_equal(pending(), 1);
  send_all();
  assert_string_equal(remote_text("closed"), "acknowledged");
  tear_down(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_eio), cmocka_unit_test(test_emfile), cmocka_unit_test(test_a_journal_that_cannot_be_seen)};
  real = prelux_os;
  if (access("/dev/shm", W_OK) == 0)
    setenv("TMPDIR", "/dev/shm", 1);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
