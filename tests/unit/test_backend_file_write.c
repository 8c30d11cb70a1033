/* Backend file, writing: every call of the operating system failing once, links that race. Threads:
 * test_backend_file_race.c; the promises themselves: tests/integration/test_contract.py. */
#include "tests/unit/file_write_rig.h"

static int open_files(void)
{
  int n = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (readdir(dir))
    n++;
  closedir(dir);
  return n;
}

/* What lies in a folder, as one text: names, sizes and modes; hidden names are counted. */
static int hidden;
static void describe(const char *folder, char *out, size_t cap)
{
  struct dirent **names;
  int n = scandir(folder, &names, NULL, alphasort);
  for (int i = 0; i < n; i++)
  {
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "%s/%s", folder, names[i]->d_name);
    if (strncmp(names[i]->d_name, ".prelux~", 8) == 0)
    {
      hidden++;
      if (strncmp(names[i]->d_name, ".prelux~up-", 11) == 0) /* whoever goes on with it must be able to open it */
        assert_true(lstat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    }
    else if (names[i]->d_name[0] != '.' && lstat(path, &st) == 0)
    {
      size_t len = strlen(out);
      snprintf(out + len, cap - len, "%s %ld %o\n", path + strlen(root), S_ISDIR(st.st_mode) ? 0 : (long)st.st_size,
               st.st_mode);
      if (S_ISDIR(st.st_mode))
        describe(path, out, cap);
    }
    free(names[i]);
  }
  free(names);
}

/* The N-th call of one member of prelux_os fails. */

static int failing_at, failing_errno;
static bool fails(void)
{
  if (!failing_at || --failing_at)
    return false;
  errno = failing_errno;
  return true;
}

static int fail_openat(int dir, const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
  va_end(ap);
  return fails() ? -1 : openat(dir, path, flags, mode);
}

#define FAIL(type, name, parameters, arguments)                                                                        \
  static type fail_##name parameters                                                                                   \
  {                                                                                                                    \
    return fails() ? -1 : name arguments;                                                                              \
  }
FAIL(int, fstat, (int fd, struct stat *st), (fd, st))
FAIL(int, fstatat, (int dir, const char *path, struct stat *st, int flags), (dir, path, st, flags))
FAIL(int, linkat, (int a, const char *f, int c, const char *t, int flags), (a, f, c, t, flags))
FAIL(int, renameat, (int a, const char *f, int c, const char *t), (a, f, c, t))
FAIL(int, renameat2, (int a, const char *f, int c, const char *t, unsigned flags), (a, f, c, t, flags))
FAIL(int, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
FAIL(int, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
FAIL(int, fchmod, (int fd, mode_t mode), (fd, mode))
FAIL(int, fchmodat, (int dir, const char *path, mode_t mode, int flags), (dir, path, mode, flags))
FAIL(int, utimensat, (int dir, const char *path, const struct timespec t[2], int flags), (dir, path, t, flags))
FAIL(int, futimens, (int fd, const struct timespec t[2]), (fd, t))
FAIL(int, fsync, (int fd), (fd))
FAIL(int, fdatasync, (int fd), (fd))
FAIL(int, ftruncate, (int fd, off_t len), (fd, len))
FAIL(int, flock, (int fd, int op), (fd, op))
FAIL(ssize_t, pread, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off))
FAIL(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t off), (fd, buf, n, off))

static DIR *null_fdopendir(int fd)
{
  return fails() ? NULL : fdopendir(fd);
}

static ssize_t no_copy(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
  errno = EXDEV;
  return -1;
}

static void hook(int which)
{
  prelux_os = real;
  prelux_os.copy_file_range = no_copy; /* so that pread and pwrite are called */
  switch (which)
  {
#define CASE(n, name)                                                                                                  \
  case n:                                                                                                              \
    prelux_os.name = fail_##name;                                                                                      \
    break;
    CASE(0, openat)
    CASE(1, fstat)
    CASE(2, fstatat)
    CASE(3, linkat)
    CASE(4, renameat)
    CASE(5, renameat2)
    CASE(6, unlinkat)
    CASE(7, mkdirat)
    CASE(8, fchmod)
    CASE(9, fchmodat)
    CASE(10, utimensat)
    CASE(11, futimens)
    CASE(12, fsync)
    CASE(13, fdatasync)
    CASE(14, ftruncate)
    CASE(15, flock)
    CASE(16, pread)
    CASE(17, pwrite)
  default:
    prelux_os.fdopendir = null_fdopendir;
  }
}
#define HOOKS 19

/* Ops to be swept. */

static int do_put(struct prelux_problem *why)
{
  struct prelux_put how = {.set = set};
  return w->put(b, "f", source, BYTES, &how, &obj, why);
}

static int do_put_absent(struct prelux_problem *why)
{
  struct prelux_put how = {.set = set, .cond.must = PRELUX_MUST_BE_ABSENT};
  return w->put(b, "n", source, BYTES, &how, &obj, why);
}

static int do_copy(struct prelux_problem *why)
{
  struct prelux_put how = {0};
  return w->copy(b, "g", "", "f", &how, &obj, why);
}

static int do_upload(struct prelux_problem *why)
{
  struct prelux_put how = {.set = set};
  struct prelux_part part = {0};
  char token[PRELUX_TOKEN_MAX];
  int rc = w->begin(b, "f", 1 << 20, &set, token, why);
  if (rc == 0)
    rc = w->part(b, "f", token, 0, source, 0, BYTES, part.tag, why);
  if (rc == 0)
    rc = w->part(b, "f", token, 0, source, 0, 9, part.tag, why); /* a shorter one: complete has to cut */
  if (rc == 0)
    rc = w->complete(b, "f", token, &part, 1, 9, &how, &obj, why);
  return rc;
}

static int do_remove(struct prelux_problem *why)
{
  return w->remove(b, "f", &any, why);
}

static int do_rename(struct prelux_problem *why)
{
  return w->rename(b, "f", "d/g", 0, &obj, why);
}

static int do_rename_folder(struct prelux_problem *why)
{
  return w->rename(b, "d", "e", 0, &obj, why);
}

static int do_mkdir(struct prelux_problem *why)
{
  return w->mkdir(b, "n", 0700, why);
}

static int do_rmdir(struct prelux_problem *why)
{
  return w->rmdir(b, "e", why);
}

static int do_set_attr(struct prelux_problem *why)
{
  return w->set_attr(b, "f", &any, &set, &obj, why);
}

static int (*const ops[])(struct prelux_problem *why) = {do_put,    do_put_absent,    do_copy,  do_upload, do_remove,
                                                         do_rename, do_rename_folder, do_mkdir, do_rmdir,  do_set_attr};

/* rc of the op whose N-th call fails, everything checked that must hold; 1: it did not come to the N-th call. */
static int sweep_one(size_t op, int which, int n, const char *before, const char *after)
{
  struct prelux_problem why = {0};
  char now[4096] = "";
  furnish();
  hook(which);
  int files = open_files();
  failing_at = n;
  failing_errno = EIO;
  int rc = ops[op](&why);
  bool failed = failing_at == 0;
  failing_at = 0;
  prelux_os = real;
  assert_int_equal(open_files(), files);
  hidden = 0;
  describe(root, now, sizeof(now));
  if (rc == 0)
    assert_string_equal(now, after);
  else
  {
    assert_int_equal(why.err, -rc);
    assert_true(why.text[0]);
    bool same = strcmp(now, before) == 0, done = strcmp(now, after) == 0;
    if (rc != -PRELUX_EUNKNOWN && !same)
      fail_msg("op %zu, call %d of %d: %s (%s) but it is now\n%s", op, n, which, why.text, strerror(-rc), now);
    if (rc == -PRELUX_EUNKNOWN && !same && !done && ops[op] != do_mkdir && ops[op] != do_set_attr)
      fail_msg("op %zu, call %d of %d: neither before nor after:\n%s", op, n, which, now);
  }
  assert_true(w->clean(b, "", 0, NULL) >= 0);
  hidden = 0;
  describe(root, now, sizeof(now));
  assert_int_equal(hidden, 0);
  return failed ? rc : 1;
}

static void test_every_call_fails_once(void **state)
{
  int failures = 0, unknown = 0;
  for (size_t op = 0; op < sizeof(ops) / sizeof(ops[0]); op++)
  {
    char before[4096] = "", after[4096] = "";
    furnish();
    describe(root, before, sizeof(before));
    assert_int_equal(ops[op](NULL), 0);
    describe(root, after, sizeof(after));
    assert_string_not_equal(before, after);
    for (int which = 0; which < HOOKS; which++)
    {
      int rc = 0;
      for (int n = 1; n < 60 && rc <= 0; n++)
      {
        rc = sweep_one(op, which, n, before, after);
        failures += rc < 0;
        unknown += rc == -PRELUX_EUNKNOWN;
      }
      assert_int_equal(rc, 1);
    }
  }
  assert_true(failures > 150);
  assert_true(unknown > 5);
}

/* Odd answers of the kernel */

static ssize_t short_copy(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
  static int turn;
  errno = turn % 2 ? EINTR : EINVAL;
  return ++turn % 3 == 0 ? -1 : copy_file_range(in, in_off, out, out_off, n > 1000 ? 1000 : n, flags);
}

static ssize_t short_pread(int fd, void *buf, size_t n, off_t off)
{
  static int turn;
  errno = EINTR;
  return ++turn % 3 == 0 ? -1 : pread(fd, buf, n > 7001 ? 7001 : n, off);
}

static ssize_t short_pwrite(int fd, const void *buf, size_t n, off_t off)
{
  static int turn;
  errno = EINTR;
  return ++turn % 3 == 0 ? -1 : pwrite(fd, buf, n > 999 ? 999 : n, off);
}

static void expect_bytes(const char *name)
{
  char *bytes = malloc(BYTES + 1);
  int fd = open(at(name), O_RDONLY);
  assert_int_equal(read(fd, bytes, BYTES + 1), BYTES);
  for (int i = 0; i < BYTES; i++)
    assert_int_equal(bytes[i], 's');
  close(fd);
  free(bytes);
}

static void test_short_copies(void **state)
{
  furnish();
  prelux_os.copy_file_range = short_copy;
  prelux_os.pread = short_pread;
  prelux_os.pwrite = short_pwrite;
  assert_int_equal(do_put(NULL), 0);
  expect_bytes("f");
  prelux_os.copy_file_range = no_copy;
  assert_int_equal(do_put_absent(NULL), 0);
  expect_bytes("n");
}

static int refuse_tmpfile(int dir, const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
  va_end(ap);
  errno = EOPNOTSUPP;
  return (flags & O_TMPFILE) == O_TMPFILE ? -1 : openat(dir, path, flags, mode);
}

static int no_flags(int a, const char *f, int c, const char *t, unsigned flags)
{
  errno = EINVAL;
  return flags ? -1 : renameat(a, f, c, t);
}

static int no_links(int a, const char *f, int c, const char *t, int flags)
{
  errno = EPERM;
  return -1;
}

static int no_locks(int fd, int op)
{
  errno = ENOLCK;
  return -1;
}

static void test_no_locks(void **state)
{
  furnish();
  prelux_os.flock = no_locks;
  prelux_os.openat = refuse_tmpfile;
  assert_int_equal(do_put(NULL), 0);
  assert_int_equal(do_put_absent(NULL), 0);
  assert_int_equal(do_put_absent(NULL), -EEXIST);
  assert_int_equal(do_upload(NULL), 0);
  assert_int_equal(b->ops->stat(b, "f", &obj, NULL), 0);
  struct prelux_put how = {.cond.must = PRELUX_MUST_BE_VERSION};
  memcpy(how.cond.version, obj.version, sizeof(how.cond.version));
  assert_int_equal(w->put(b, "f", source, BYTES, &how, &obj, NULL), -EOPNOTSUPP);
  assert_int_equal(w->remove(b, "f", &how.cond, NULL), -EOPNOTSUPP);
  assert_int_equal(do_rename(NULL), 0);
  assert_int_equal(w->clean(b, "", 0, NULL), 0); /* who knows who lives */
  prelux_os = real;
  assert_int_equal(w->clean(b, "", 0, NULL), 1); /* what furnish() left */
}

/* NFS: the link is made, the answer lost, and the second attempt says EEXIST. */
static int link_twice(int a, const char *f, int c, const char *t, int flags)
{
  int rc = linkat(a, f, c, t, flags);
  return rc < 0 ? rc : linkat(a, f, c, t, flags);
}

static void test_old_and_poor_file_systems(void **state)
{
  furnish();
  prelux_os.openat = refuse_tmpfile;
  prelux_os.renameat2 = no_flags;
  assert_int_equal(do_put_absent(NULL), 0); /* by link */
  assert_int_equal(do_put_absent(NULL), -EEXIST);
  assert_int_equal(w->rename(b, "n", "f", PRELUX_RENAME_NOREPLACE, &obj, NULL), -EEXIST);
  assert_int_equal(w->rename(b, "n", "m", PRELUX_RENAME_NOREPLACE, &obj, NULL), 0);
  assert_int_equal(w->rename(b, "m", "f", PRELUX_RENAME_EXCHANGE, &obj, NULL), -EOPNOTSUPP);
  assert_int_equal(w->rename(b, "d", "x", PRELUX_RENAME_NOREPLACE, &obj, NULL), -EINVAL);
  expect_bytes("m");
  prelux_os.linkat = no_links; /* and not even that: there is no exact way */
  assert_int_equal(do_put_absent(NULL), -EOPNOTSUPP);
  assert_int_equal(w->rename(b, "m", "k", PRELUX_RENAME_NOREPLACE, &obj, NULL), -EOPNOTSUPP);
  assert_int_equal(do_put(NULL), 0);
  prelux_os = real;
  hidden = 0;
  char now[4096] = "";
  describe(root, now, sizeof(now));
  assert_int_equal(hidden, 1); /* the one that furnish() made */
}

static void test_a_link_whose_answer_is_lost(void **state)
{
  furnish();
  prelux_os.linkat = link_twice;
  assert_int_equal(do_put_absent(NULL), 0);
  assert_int_equal(do_put_absent(NULL), -EEXIST);
  prelux_os.openat = refuse_tmpfile;
  prelux_os.renameat2 = no_flags;
  struct prelux_put how = {.cond.must = PRELUX_MUST_BE_ABSENT};
  assert_int_equal(w->put(b, "m", source, BYTES, &how, &obj, NULL), 0);
  expect_bytes("m");
}

static int write_after_rename(int a, const char *f, int c, const char *t)
{
  int rc = renameat(a, f, c, t);
  put_file(at("f"), "somebody");
  return rc;
}

static void test_somebody_writes_at_once(void **state)
{
  furnish();
  assert_int_equal(do_put(NULL), 0);
  assert_string_not_equal(obj.version, "");
  prelux_os.renameat = write_after_rename;
  assert_int_equal(do_put(NULL), 0);
  assert_string_equal(obj.version, ""); /* not a version of bytes that we never sent */
}

/* Somebody without a lock makes the name after we have looked: it stays his. */

static int link_too_late(int a, const char *f, int c, const char *t, int flags)
{
  if (t[0] != '.')
    put_file(at(t), "foreign");
  return linkat(a, f, c, t, flags);
}

static int rename_too_late(int a, const char *f, int c, const char *t, unsigned flags)
{
  put_file(at(t), "foreign");
  return renameat2(a, f, c, t, flags);
}

static void expect_foreign(const char *name)
{
  char text[16] = "";
  int fd = open(at(name), O_RDONLY);
  assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
  assert_string_equal(text, "foreign");
  close(fd);
}

static void test_create_only_is_exact_against_everybody(void **state)
{
  furnish();
  prelux_os.linkat = link_too_late;
  prelux_os.renameat2 = rename_too_late;
  assert_int_equal(do_put_absent(NULL), -EEXIST);
  expect_foreign("n");
  assert_int_equal(w->rename(b, "f", "k", PRELUX_RENAME_NOREPLACE, &obj, NULL), -EEXIST);
  expect_foreign("k");
  assert_int_equal(unlink(at("n")), 0);
  prelux_os.openat = refuse_tmpfile;
  assert_int_equal(do_put_absent(NULL), -EEXIST);
  expect_foreign("n");
}

/* What is done in which order: a power cut between any two steps leaves the old object or the new one. 'b' bytes of the
 * file on disk, 'n' a name made or changed, 'f' names of the folder on disk. */

static char order[64];
static void note(char c)
{
  size_t len = strlen(order);
  if (len + 1 < sizeof(order))
    order[len] = c;
}

static int note_fsync(int fd)
{
  struct stat st;
  note(fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'f' : 'b');
  return fsync(fd);
}

static int note_fdatasync(int fd)
{
  note('b');
  return fdatasync(fd);
}

static int note_linkat(int a, const char *f, int c, const char *t, int flags)
{
  if (t[0] != '.')
    note('n');
  return linkat(a, f, c, t, flags);
}

static int note_renameat(int a, const char *f, int c, const char *t)
{
  note('n');
  return renameat(a, f, c, t);
}

static int note_renameat2(int a, const char *f, int c, const char *t, unsigned flags)
{
  note('n');
  return renameat2(a, f, c, t, flags);
}

static int note_unlinkat(int dir, const char *path, int flags)
{
  note('n');
  return unlinkat(dir, path, flags);
}

static void test_order_of_syncs(void **state)
{
  static const struct
  {
    int (*run)(struct prelux_problem *why);
    const char *order;
  } rows[] = {{do_put, "bnf"},   {do_put_absent, "bnf"}, {do_copy, "bnf"}, {do_upload, "fbbbnf"},
              {do_remove, "nf"}, {do_rename, "nff"},     {do_mkdir, "ff"}, {do_set_attr, "b"}};
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    furnish();
    prelux_os.fsync = note_fsync;
    prelux_os.fdatasync = note_fdatasync;
    prelux_os.linkat = note_linkat;
    prelux_os.renameat = note_renameat;
    prelux_os.renameat2 = note_renameat2;
    prelux_os.unlinkat = note_unlinkat;
    memset(order, 0, sizeof(order));
    assert_int_equal(rows[i].run(NULL), 0);
    assert_string_equal(order, rows[i].order);
  }
}

static void append_to_g(void)
{
  int fd = open(at("g"), O_WRONLY | O_APPEND);
  assert_int_equal(write(fd, "x", 1), 1);
  close(fd);
}

static ssize_t copy_and_append(int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
  append_to_g();
  return copy_file_range(in, in_off, out, out_off, n, flags);
}

static void test_a_source_that_changes_while_it_is_copied(void **state)
{
  furnish();
  prelux_os.copy_file_range = copy_and_append;
  assert_int_equal(do_copy(NULL), -ESTALE);
  struct stat st;
  assert_true(stat(at("f"), &st) == 0 && st.st_size == 3);
}

/* A version never comes back at a path: ctimes are taken from a clock that ticks, so whatever takes the place of a file
 * waits for the tick after its ctime. (Kernels since 6.13 have finer ctimes, but only for files that somebody looked
 * at.) */

static int64_t ctime_of(const char *name)
{
  struct stat st;
  assert_int_equal(stat(at(name), &st), 0);
  return st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec;
}

static int ticks;
static void expect_tick(void)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  assert_true(now.tv_sec * INT64_C(1000000000) + now.tv_nsec > ctime_of("f"));
  ticks++;
}

static int rename_after_tick(int a, const char *f, int c, const char *t)
{
  expect_tick();
  return renameat(a, f, c, t);
}

static int rename2_after_tick(int a, const char *f, int c, const char *t, unsigned flags)
{
  expect_tick();
  return renameat2(a, f, c, t, flags);
}

static int unlink_after_tick(int dir, const char *path, int flags)
{
  expect_tick();
  return unlinkat(dir, path, flags);
}

static void test_a_version_is_outlived(void **state)
{
  furnish();
  prelux_os.renameat = rename_after_tick;
  prelux_os.renameat2 = rename2_after_tick;
  prelux_os.unlinkat = unlink_after_tick;
  for (int i = 0; i < 20; i++)
  {
    put_file(at("f"), "f");
    assert_int_equal(do_put(NULL), 0);
    assert_int_equal(chmod(at("f"), 0644), 0);
    assert_int_equal(do_copy(NULL), 0);
    put_file(at("k"), "k");
    assert_int_equal(chmod(at("f"), 0644), 0);
    assert_int_equal(w->rename(b, "k", "f", 0, &obj, NULL), 0);
    put_file(at("f"), "f");
    assert_int_equal(do_remove(NULL), 0);
  }
  assert_int_equal(ticks, 80);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      T(test_every_call_fails_once),
      T(test_short_copies),
      T(test_old_and_poor_file_systems),
      T(test_no_locks),
      T(test_a_link_whose_answer_is_lost),
      T(test_somebody_writes_at_once),
      T(test_a_source_that_changes_while_it_is_copied),
      T(test_create_only_is_exact_against_everybody),
      T(test_order_of_syncs),
      T(test_a_version_is_outlived),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
