/* Fault sweep: one scenario is run again and again, each time with the next OS call of the store failing, until a run sees no
 * failure. After each: no file under a cache name is short or wrong, no fd is left open, and the same folder works again. */
#include "tests/unit/store_fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "lib/base/log.h"
#include "lib/base/os.h"

static struct prelux_os real;
static long calls, fail_at; /* fail_at 0: never */
static int fail_errno;

static int failing(void)
{
  if (++calls != fail_at)
    return 0;
  errno = fail_errno;
  return 1;
}

#define WRAP(type, name, params, args) \
  static type f_##name params          \
  {                                    \
    return failing() ? (type)-1 : real.name args; \
  }

WRAP(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n))
WRAP(ssize_t, pread, (int fd, void *buf, size_t n, off_t off), (fd, buf, n, off))
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t n, off_t off), (fd, buf, n, off))
WRAP(int, fstat, (int fd, struct stat *st), (fd, st))
WRAP(int, fstatat, (int fd, const char *p, struct stat *st, int fl), (fd, p, st, fl))
WRAP(int, fstatfs, (int fd, struct statfs *st), (fd, st))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m))
WRAP(int, mkdirat, (int fd, const char *p, mode_t m), (fd, p, m))
WRAP(int, renameat, (int a, const char *p, int b, const char *q), (a, p, b, q))
WRAP(int, linkat, (int a, const char *p, int b, const char *q, int fl), (a, p, b, q, fl))
WRAP(int, unlinkat, (int fd, const char *p, int fl), (fd, p, fl))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n))
WRAP(int, fchmod, (int fd, mode_t m), (fd, m))
WRAP(int, futimens, (int fd, const struct timespec ts[2]), (fd, ts))
WRAP(int, syncfs, (int fd), (fd))
WRAP(int, flock, (int fd, int op), (fd, op))
WRAP(int, memfd_create, (const char *n, unsigned fl), (n, fl))

static int f_open(const char *p, int flags, ...)
{
  return failing() ? -1 : real.open(p, flags, 0600);
}

static int f_openat(int fd, const char *p, int flags, ...)
{
  return failing() ? -1 : real.openat(fd, p, flags, 0600);
}

static int f_fcntl(int fd, int cmd, ...)
{
  va_list ap;
  va_start(ap, cmd);
  long arg = va_arg(ap, long);
  va_end(ap);
  return failing() ? -1 : real.fcntl(fd, cmd, arg);
}

static DIR *f_fdopendir(int fd)
{
  return failing() ? NULL : real.fdopendir(fd);
}

static void faults(bool on)
{
  if (!on)
  {
    prelux_os = real;
    return;
  }
  prelux_os.open = f_open;
  prelux_os.openat = f_openat;
  prelux_os.fcntl = f_fcntl;
  prelux_os.fdopendir = f_fdopendir;
#define ON(name) prelux_os.name = f_##name;
  ON(write) ON(pread) ON(pwrite) ON(fstat) ON(fstatat) ON(fstatfs) ON(mkdir) ON(mkdirat) ON(renameat) ON(linkat)
  ON(unlinkat) ON(ftruncate) ON(fallocate) ON(fchmod) ON(futimens) ON(syncfs) ON(flock) ON(memfd_create)
}

static struct rig rig;

static int count_fds(void)
{
  int n = 0;
  DIR *d = opendir("/proc/self/fd");
  while (readdir(d))
    n++;
  closedir(d);
  return n;
}

/* One version of a file, whole. */
static bool whole(const unsigned char *buf, size_t size)
{
  for (unsigned seed = 1; seed <= 4; seed++)
  {
    size_t i = 0;
    while (i < size && buf[i] == fake_byte(seed, i))
      i++;
    if (i == size)
      return true;
  }
  return false;
}

static int check_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  static unsigned char buf[200000];
  if (type != FTW_F || !strstr(path, "/data/"))
    return 0;
  const char *object = strstr(path, "/data/") + 6;
  const struct fake_object *o = fake_find(&rig.b, object);
  int fd = open(path, O_RDONLY);
  ssize_t n = read(fd, buf, sizeof buf);
  close(fd);
  if (!o || (size_t)n != o->size || !whole(buf, (size_t)n))
    fail_msg("call %ld failed with %d: %s has %zd bytes and is not whole", fail_at, fail_errno, object, n);
  return 0;
}

static int step(const char *object)
{
  struct prelux_attr a;
  int fd = -1, rc = prelux_store_open_object(&rig.v, object, 0, &a, &fd, &rig.why);
  if (rc == 0)
  {
    if (!fake_equal(&rig.b, object, fd))
      fail_msg("call %ld failed with %d: %s is served wrong", fail_at, fail_errno, object);
    close(fd);
  }
  else if (fd != -1 || rc > 0 || rig.why.err != -rc || !rig.why.text[0])
    fail_msg("call %ld failed with %d: error %d of %s is badly reported (fd %d, %d '%s')", fail_at, fail_errno, rc, object, fd,
             rig.why.err, rig.why.text);
  return rc;
}

static bool scenario(void)
{
  struct prelux_attr a;
  uint64_t files, bytes, busy;
  int fd;
  memset(&rig.why, 0, sizeof rig.why);
  fake_file(&rig.b, "d/changes", 70000, 1);
  bool ok = rig_open(&rig) == 0;
  if (!ok)
  {
    assert_true(rig.why.err > 0 && rig.why.text[0]);
    goto out;
  }
  prelux_view_init(&rig.v, rig.t, PRELUX_FRESH_ALWAYS, 0, 0, 0644, 0755);
  ok &= step("d/changes") == 0;
  fake_file(&rig.b, "d/changes", 70000, 2);
  ok &= step("d/changes") == 0;
  ok &= step("empty") == 0;
  if (prelux_store_list(&rig.v, "d", 0, &a, &fd, &rig.why) == 0)
    close(fd);
  else
    ok = false;
  ok &= prelux_store_open_object(&rig.v, "d", 0, &a, NULL, &rig.why) == 0;
  ok &= prelux_store_evict(&rig.v, "d", &files, &bytes, &busy) == 0;
  ok &= step("d/changes") == 0;
  prelux_view_init(&rig.v, rig.t, PRELUX_FRESH_SKIP, 0, 0, 0644, 0755);
  ok &= step("d/changes") == 0;
  prelux_store_tick(rig.s);
out:
  prelux_store_close(rig.s);
  rig.s = NULL;
  return ok;
}

static void sweep(int err)
{
  rig_init(&rig);
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "empty", 0, 1);
  fail_errno = err;
  int fds = count_fds();
  for (fail_at = 1;; fail_at++)
  {
    calls = 0;
    faults(true);
    bool ok = scenario();
    faults(false);
    long seen = calls;
    nftw(rig.dir, check_file, 16, FTW_PHYS);
    if (count_fds() != fds)
      fail_msg("call %ld failed with %d: %d fds are left open", fail_at, err, count_fds() - fds);
    if (seen < fail_at)
    {
      assert_true(ok);
      break;
    }
    /* And the next owner finds nothing it could not use. */
    long was = fail_at;
    fail_at = 0;
    if (was % 8 == 0)
      assert_true(scenario());
    fail_at = was;
  }
  print_message("%ld calls failed in turn with %s\n", fail_at - 1, strerror(err));
  rig_remove(&rig);
}

static void test_sweep_eio(void **state)
{
  sweep(EIO);
}

static void test_sweep_enospc(void **state)
{
  sweep(ENOSPC);
}

static void test_sweep_emfile(void **state)
{
  sweep(EMFILE);
}

/* A full disk in the middle of a fill: evicts and goes on, or says so. */
static void test_short_writes_and_interrupts(void **state)
{
  rig_init(&rig);
  assert_int_equal(rig_open(&rig), 0);
  fake_file(&rig.b, "f", 70000, 1);
  fail_errno = EINTR;
  prelux_os.pwrite = f_pwrite;
  prelux_os.fallocate = f_fallocate;
  for (long i = 1; i < 8; i++)
  {
    uint64_t n, bytes, busy;
    calls = 0;
    fail_at = i;
    assert_int_equal(rig_check(&rig, "f"), 0);
    assert_int_equal(prelux_store_evict(&rig.v, "f", &n, &bytes, &busy), 0);
  }
  faults(false);
  rig_remove(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sweep_eio), cmocka_unit_test(test_sweep_enospc),
                                     cmocka_unit_test(test_sweep_emfile), cmocka_unit_test(test_short_writes_and_interrupts)};
  real = prelux_os;
  if (access("/dev/shm", W_OK) == 0)
    setenv("STORE_TEST_DIR", "/dev/shm", 0);
  prelux_log_set_level(PRELUX_LOG_ERROR);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
