/* Leases (lib/store/stage_lease.c): what one leaves in the folder when its daemon dies, and who comes in between. */
#include "tests/unit/stage_children.h"

#include "lib/store/stage_lease.h"

static struct prelux_os real_os;
static int64_t lease;        /* its number */
static uint64_t late_file;   /* given, and not used yet */
static int late_folder = -1; /* the lease's: whoever links has found it already */
static int late_errno;       /* how that ended; 0: it has its name */
static bool late_came;

static const char *in_meta(const char *format, ...)
{
  static char path[2][600];
  static unsigned turn;
  va_list args;
  char *to = path[turn++ % 2];
  size_t n = (size_t)snprintf(to, 600, "%s/.prelux/", rig.cache);
  va_start(args, format);
  vsnprintf(to + n, 600 - n, format, args);
  va_end(args);
  return to;
}

/* A file made ahead. */
static uint64_t spare(void)
{
  struct stat st;
  assert_int_equal(mknod(in_meta("staging/new"), S_IFREG | 0600, 0), 0);
  assert_int_equal(stat(in_meta("staging/new"), &st), 0);
  assert_int_equal(rename(in_meta("staging/new"), in_meta("staging/%llu", (unsigned long long)st.st_ino)), 0);
  return st.st_ino;
}

/* As the library does it. */
static int make(uint64_t ino, const char *name, const char *text)
{
  const char *staging = in_meta("staging/%llu", (unsigned long long)ino);
  int fd = open(staging, O_WRONLY);
  if (fd < 0)
    return -errno;
  int rc = link(staging, in_meta("lease/%lld/%s", (long long)lease, name)) < 0 ? -errno : 0;
  if (rc == 0)
    say(fd, text);
  close(fd);
  return rc;
}

/* A folder of a lease on the root that a daemon has left, which is gone. */
static void leave_lease(void)
{
  char of[100];
  assert_int_equal(prelux_stage_tree(rig.g, rig.t), 0);
  rig.rules.async = true;
  snprintf(of, sizeof of, "%lld %x %o ", (long long)atomic_load(&rig.t->owed_id), prelux_stage_first_flags(&rig.rules, false), 0640);
  lease = prelux_store_wall();
  rig_close();
  assert_int_equal(symlink(of, in_meta("lease/%lld.of", (long long)lease)), 0);
  assert_int_equal(mkdir(in_meta("lease/%lld", (long long)lease), 0700), 0);
}

static void nothing_lies_there(void)
{
  struct stat st;
  assert_int_equal(stat(in_meta("lease"), &st), 0);
  assert_int_equal(st.st_nlink, 2);
  assert_int_equal(access(in_meta("lease/%lld.of", (long long)lease), F_OK) == 0, 0);
}

static const struct prelux_dirty *row_of(const char *object)
{
  pthread_mutex_lock(&rig.g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_path(rig.g, rig.t, object);
  pthread_mutex_unlock(&rig.g->lock);
  return d;
}

/* Somebody is at it yet when the next daemon takes up what was made. */
static void come_late(void)
{
  if (late_came || late_folder < 0)
    return;
  late_came = true;
  late_errno = linkat(AT_FDCWD, in_meta("staging/%llu", (unsigned long long)late_file), late_folder, "late", 0) < 0 ? errno : 0;
}

static int linkat_later(int fromfd, const char *from, int tofd, const char *to, int flags)
{
  int rc = real_os.linkat(fromfd, from, tofd, to, flags);
  come_late();
  return rc;
}

static int unlinkat_later(int dirfd, const char *path, int flags)
{
  come_late();
  return real_os.unlinkat(dirfd, path, flags);
}

static int set_up_lease(void **state)
{
  real_os = prelux_os;
  late_came = false;
  late_errno = -1;
  late_folder = -1;
  return set_up(state);
}

static int tear_down_lease(void **state)
{
  prelux_os = real_os;
  if (late_folder >= 0)
    close(late_folder);
  return tear_down(state);
}

/* Whoever was told that it is made has made it: there is a row, or the link fails. At each step that could be in between. */
static void late(int (*linkat_)(int, const char *, int, const char *, int), int (*unlinkat_)(int, const char *, int))
{
  leave_lease();
  uint64_t first = spare();
  late_file = spare();
  assert_int_equal(make(first, "first", "first"), 0);
  late_folder = open(in_meta("lease/%lld", (long long)lease), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  assert_true(late_folder >= 0);
  prelux_os.linkat = linkat_ ? linkat_ : prelux_os.linkat;
  prelux_os.unlinkat = unlinkat_ ? unlinkat_ : prelux_os.unlinkat;
  assert_int_equal(rig_open(), 0);
  prelux_os = real_os;
  assert_true(late_came);
  assert_non_null(row_of("first"));
  assert_int_equal(row_of("late") != NULL, late_errno == 0);
  nothing_lies_there();
}

static void test_late_link(void **state)
{
  late(linkat_later, NULL);
}

static void test_late_unlink(void **state)
{
  late(NULL, unlinkat_later);
}

/* Or the daemon that died was just ending the lease. */
static void test_left_closed(void **state)
{
  leave_lease();
  uint64_t named = spare();
  assert_int_equal(make(named, "named", "named"), 0);
  assert_int_equal(rename(in_meta("lease/%lld", (long long)lease), in_meta("lease/%lld" PRELUX_LEASE_CLOSED, (long long)lease)), 0);
  assert_int_equal(unlink(in_meta("staging/%llu", (unsigned long long)named)), 0);
  assert_int_equal(rig_open(), 0);
  assert_non_null(row_of("named"));
  assert_int_equal(access(in_meta("staging/%llu", (unsigned long long)named), F_OK), 0);
  nothing_lies_there();
}

/* ---- granting ---- */

static struct prelux_grant granted;

/* A lease on the root, for this process; how many files in a row that took. */
static unsigned get_lease(void)
{
  struct prelux_attr attr;
  int listing = -1, me = prelux_process_open(getpid());
  static uint64_t serial = 100;
  struct prelux_lease_ask ask = {.v = &rig.v, .rules = &rig.rules, .object = "streak", .flags = O_WRONLY | O_CREAT | O_EXCL, .mode = 0640, .made = true,
                                 .pid = getpid(), .pidfd = me};
  rig.rules.async = true;
  assert_int_equal(prelux_store_list(&rig.v, "", 0, &attr, &listing, &rig.why), 0);
  close(listing);
  if (rig.g->spares.n < PRELUX_LEASE_FIRST)
    prelux_spare_make(rig.g);
  prelux_lease_request(true);
  unsigned n = 1;
  for (serial++; ask.serial = serial++, !prelux_store_lease(rig.s, &ask, &granted); n++)
    assert_in_range(n, 1, 1000);
  prelux_lease_request(false);
  close(me);
  lease = granted.number;
  assert_int_equal(granted.n, PRELUX_LEASE_FIRST);
  return n;
}

/* The number of a file that was there before is another's now; what its writer has said of that one is not said of this. */
static void test_marks_of_the_number(void **state)
{
  prelux_spare_make(rig.g);
  for (unsigned i = 0; i < rig.g->spares.n; i++)
    assert_int_equal(link(in_meta("left/0"), in_meta("left/%llu.%d", (unsigned long long)rig.g->spares.ino[i], getpid())), 0);
  get_lease();
  for (unsigned i = 0; i < granted.n; i++)
    assert_false(prelux_left_marked(rig.g, granted.files[i], getpid()));
}

/* Each occupies the names that are there, so who does not use them gets the next one later. */
static void test_worth_it(void **state)
{
  char name[16];
  for (int i = 0; i < 80; i++)
  {
    snprintf(name, sizeof name, "there%d", i);
    put_text(name, "there");
  }
  assert_int_equal(get_lease(), PRELUX_LEASE_STREAK);
  prelux_lease_stop(rig.g);
  assert_int_equal(get_lease(), 2 * PRELUX_LEASE_STREAK);
  prelux_lease_stop(rig.g);
  assert_int_equal(get_lease(), 4 * PRELUX_LEASE_STREAK);
  for (unsigned i = 0; i < 12; i++)
  {
    snprintf(name, sizeof name, "made%u", i);
    assert_int_equal(make(granted.files[i], name, "made"), 0);
  }
  prelux_lease_stop(rig.g);
  assert_int_equal(get_lease(), PRELUX_LEASE_STREAK);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_late_link, set_up_lease, tear_down_lease),
      cmocka_unit_test_setup_teardown(test_late_unlink, set_up_lease, tear_down_lease),
      cmocka_unit_test_setup_teardown(test_left_closed, set_up_lease, tear_down_lease),
      cmocka_unit_test_setup_teardown(test_marks_of_the_number, set_up_lease, tear_down_lease),
      cmocka_unit_test_setup_teardown(test_worth_it, set_up_lease, tear_down_lease),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
