/* The store over a backend in memory: filling, freshness, listings, eviction, adoption, restarts. */
#include "tests/unit/store_fake.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>

#include "include/prelux/listing.h"
#include "lib/base/os.h"
#include "lib/index/reader.h"

static struct rig rig;

static int setup(void **state)
{
  rig_init(&rig);
  assert_int_equal(rig_open(&rig), 0);
  return 0;
}

static int teardown(void **state)
{
  rig_remove(&rig);
  return 0;
}

static void view(uint32_t freshness, uint64_t max_age_ns, uint64_t negative_ns)
{
  prelux_view_init(&rig.v, rig.t, freshness, max_age_ns, negative_ns, 0644, 0755);
}

static int stat_object(const char *object, struct prelux_attr *a)
{
  return prelux_store_stat(&rig.v, object, 0, a, &rig.why);
}

static void real_path(const char *object, char *ret, size_t cap)
{
  snprintf(ret, cap, "%s/%s", prelux_tree_root(rig.t), object);
}

static void test_stat_and_open(void **state)
{
  struct prelux_attr a, b;
  struct stat st;
  char path[512];
  fake_file(&rig.b, "d/e/file", 100000, 7);
  fake_dir(&rig.b, "d");
  assert_int_equal(stat_object("d/e/file", &a), 0);
  assert_int_equal(a.type, PRELUX_FILE);
  assert_int_equal(a.size, 100000);
  assert_int_equal(a.mode, 0644);
  assert_int_equal(a.cached, 0);
  assert_true(a.ino != 0 && a.valid_ns != 0);
  assert_int_equal(rig_check(&rig, "d/e/file"), 0);
  assert_int_equal(rig_check(&rig, "d/e/file"), 0);
  assert_int_equal(rig.b.reads, 1);
  assert_int_equal(rig.b.stats, 1);
  assert_int_equal(stat_object("d/e/file", &b), 0);
  assert_int_equal(b.cached, 1);
  assert_int_equal(b.ino, a.ino);
  real_path("d/e/file", path, sizeof path);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_ino, b.cache_ino);
  assert_int_equal(st.st_dev, b.cache_dev);
  assert_int_equal(st.st_mode & 07777, 0444);
  assert_int_equal((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, b.mtime_ns);
  assert_int_equal(stat_object("d", &a), 0);
  assert_int_equal(a.type, PRELUX_DIR);
  assert_int_equal(a.mode, 0755);
}

static void test_programs_are_executable(void **state)
{
  struct stat st;
  char path[512];
  fake_text(&rig.b, "script", "#!/bin/sh\nexit 0\n");
  fake_text(&rig.b, "data", "# no script\n");
  fake_text(&rig.b, "moded", "x");
  fake_find(&rig.b, "moded")->mode = 0750;
  fake_text(&rig.b, "empty", "");
  const struct {
    const char *name;
    unsigned mode;
  } want[] = {{"script", 0555}, {"data", 0444}, {"moded", 0555}, {"empty", 0444}};
  for (size_t i = 0; i < 4; i++)
  {
    assert_int_equal(rig_check(&rig, want[i].name), 0);
    real_path(want[i].name, path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, want[i].mode);
  }
}

static void test_negative_answers(void **state)
{
  struct prelux_attr a;
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND / 10);
  assert_int_equal(stat_object("nothing", &a), -ENOENT);
  assert_int_equal(stat_object("nothing", &a), -ENOENT);
  assert_int_equal(rig.b.stats, 1);
  fake_file(&rig.b, "nothing", 10, 1);
  assert_int_equal(stat_object("nothing", &a), -ENOENT);
  usleep(120000);
  assert_int_equal(stat_object("nothing", &a), 0);
}

static void test_below_a_file(void **state)
{
  struct prelux_attr a;
  fake_file(&rig.b, "f", 10, 1);
  assert_int_equal(stat_object("f/x", &a), -ENOTDIR);
  assert_int_equal(stat_object("f/x/y", &a), -ENOTDIR);
  assert_int_equal(stat_object("g/x/y", &a), -ENOENT);
}

static void test_bad_paths(void **state)
{
  char name[300];
  struct prelux_attr a;
  memset(name, 'a', 256);
  name[256] = 0;
  assert_int_equal(stat_object(name, &a), -ENAMETOOLONG);
  name[255] = 0;
  assert_int_equal(stat_object(name, &a), -ENOENT);
  fake_file(&rig.b, name, 3, 1);
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  assert_int_equal(rig_check(&rig, name), 0);
  static const char *const bad[] = {"/a", "a/", "a//b", ".", "..", "a/../b", "a/."};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    assert_int_equal(stat_object(bad[i], &a), -EINVAL);
}

static void test_deep_and_long(void **state)
{
  char path[sizeof rig.b.objects->path];
  size_t at = 0;
  for (int i = 0; i < 60; i++)
    at += (size_t)snprintf(path + at, sizeof path - at, "%sfolder", i ? "/" : "");
  fake_file(&rig.b, path, 5000, 3);
  assert_int_equal(rig_check(&rig, path), 0);
  assert_int_equal(rig_check(&rig, path), 0);
  assert_int_equal(rig.b.reads, 1);
}

static const struct prelux_listing *map_listing(const char *object, struct prelux_attr *a)
{
  struct stat st;
  int fd;
  assert_int_equal(prelux_store_list(&rig.v, object, 0, a, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &st), 0);
  const struct prelux_listing *l = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  assert_ptr_not_equal(l, MAP_FAILED);
  assert_int_equal(l->bytes, st.st_size);
  assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
  assert_int_equal(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
  close(fd);
  return l;
}

static const char *listed(const struct prelux_listing *l, uint32_t i)
{
  return (const char *)l + l->entries[i].name_off;
}

static void test_list(void **state)
{
  struct prelux_attr a, d;
  struct stat st;
  char path[512];
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "d/c", 3, 1);
  fake_file(&rig.b, "d/a", 1, 2);
  fake_dir(&rig.b, "d/b");
  const struct prelux_listing *l = map_listing("d", &d);
  assert_int_equal(l->magic, PRELUX_LISTING_MAGIC);
  assert_int_equal(l->count, 3);
  assert_string_equal(listed(l, 0), "a");
  assert_string_equal(listed(l, 1), "b");
  assert_string_equal(listed(l, 2), "c");
  assert_int_equal(l->entries[1].type, PRELUX_DIR);
  assert_int_equal(l->entries[2].size, 3);
  assert_int_equal(l->dir_ino, d.ino);
  real_path("d", path, sizeof path);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_ino, d.cache_ino);
  /* Children and missing names come from the listing now. */
  unsigned asked = rig.b.stats;
  assert_int_equal(stat_object("d/c", &a), 0);
  assert_int_equal(a.ino, l->entries[2].ino);
  assert_int_equal(stat_object("d/zzz", &a), -ENOENT);
  assert_int_equal(rig_check(&rig, "d/a"), 0);
  assert_int_equal(rig.b.stats, asked);
  munmap((void *)l, l->bytes);
  map_listing("d", &d);
  assert_int_equal(rig.b.lists, 1);
  int fd;
  assert_int_equal(prelux_store_list(&rig.v, "d/c", 0, &d, &fd, &rig.why), -ENOTDIR);
  assert_int_equal(prelux_store_list(&rig.v, "nope", 0, &d, &fd, &rig.why), -ENOENT);
}

static void test_list_drops_bad_names(void **state)
{
  struct prelux_attr d;
  static const char *const bad[] = {"", ".", "..", "a/b", "ok", "ok", "a", NULL};
  memcpy(rig.b.extra_names, bad, sizeof bad);
  fake_dir(&rig.b, "a");
  fake_file(&rig.b, ".prelux", 1, 1); /* an ordinary name in a store of many trees */
  const struct prelux_listing *l = map_listing("", &d);
  assert_int_equal(l->count, 3);
  assert_string_equal(listed(l, 0), ".prelux");
  assert_string_equal(listed(l, 1), "a");
  assert_int_equal(l->entries[1].type, PRELUX_DIR); /* the folder wins */
  assert_string_equal(listed(l, 2), "ok");
}

static void test_inexact_listing(void **state)
{
  struct prelux_attr a, d;
  rig.b.ops.caps &= ~(unsigned)PRELUX_CAP_LIST_EXACT;
  fake_file(&rig.b, "x", 77, 1);
  const struct prelux_listing *l = map_listing("", &d);
  assert_int_equal(l->entries[0].size, UINT64_MAX);
  unsigned asked = rig.b.stats;
  assert_int_equal(stat_object("x", &a), 0);
  assert_int_equal(a.size, 77);
  assert_int_equal(stat_object(".hidden", &a), -ENOENT);
  assert_int_equal(rig.b.stats, asked + 2);
}

/* What a listing lacks is not there, but only where the backend lists all. */
static void test_absence_from_a_listing(void **state)
{
  struct prelux_attr a, d;
  fake_dir(&rig.b, "sub");
  map_listing("", &d);
  fake_file(&rig.b, "later", 5, 1);
  assert_int_equal(stat_object("later", &a), -ENOENT);
  rig.b.ops.caps &= ~(unsigned)PRELUX_CAP_LIST_ALL;
  map_listing("sub", &d);
  fake_file(&rig.b, "sub/hidden", 6, 1);
  assert_int_equal(stat_object("sub/hidden", &a), 0);
  assert_int_equal(a.size, 6);
}

static void test_change_is_seen_by_freshness(void **state)
{
  struct prelux_attr a;
  static const uint32_t fresh[] = {PRELUX_FRESH_ALWAYS, PRELUX_FRESH_SKIP, PRELUX_FRESH_MAX_AGE, PRELUX_FRESH_IMMUTABLE};
  for (unsigned i = 0; i < 4; i++)
  {
    char name[8];
    snprintf(name, sizeof name, "f%u", i);
    view(fresh[i], SECOND / 5, SECOND);
    fake_file(&rig.b, name, 1000 + i, 1);
    assert_int_equal(rig_check(&rig, name), 0);
    int fd, old;
    assert_int_equal(prelux_store_open_object(&rig.v, name, 0, &a, &old, &rig.why), 0);
    fake_file(&rig.b, name, 1000 + i, 2);
    assert_int_equal(prelux_store_open_object(&rig.v, name, 0, &a, &fd, &rig.why), 0);
    assert_int_equal(fake_equal(&rig.b, name, fd), i < 2);
    close(fd);
    usleep(220000);
    assert_int_equal(prelux_store_open_object(&rig.v, name, 0, &a, &fd, &rig.why), 0);
    assert_int_equal(fake_equal(&rig.b, name, fd), i < 3);
    close(fd);
    /* Who had it open keeps the old version. */
    assert_false(fake_equal(&rig.b, name, old));
    close(old);
  }
  uint64_t files, bytes, busy;
  assert_int_equal(prelux_store_evict(&rig.v, "f3", &files, &bytes, &busy), 0);
  assert_int_equal(files, 1);
  assert_int_equal(rig_check(&rig, "f3"), 0);
}

static void test_always_does_not_fetch_again(void **state)
{
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  fake_file(&rig.b, "f", 5000, 1);
  for (int i = 0; i < 3; i++)
    assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 1);
  assert_int_equal(rig.b.stats, 3);
}

static void test_skip_keeps_nothing(void **state)
{
  struct prelux_attr a;
  char path[512];
  int fd;
  view(PRELUX_FRESH_SKIP, 0, 0);
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &a, &fd, &rig.why), 0);
  assert_true(fake_equal(&rig.b, "f", fd));
  assert_int_equal(a.cached, 0);
  assert_int_equal(a.valid_ns, 0);
  real_path("f", path, sizeof path);
  assert_int_equal(access(path, F_OK), -1);
  prelux_store_tick(rig.s);
  assert_true(fake_equal(&rig.b, "f", fd));
  close(fd);
  prelux_store_tick(rig.s);
  snprintf(path, sizeof path, "%s/.prelux/held", rig.dir);
  assert_int_equal(rmdir(path), 0);
  assert_int_equal(mkdir(path, 0700), 0);
}

static void test_changed_while_read(void **state)
{
  for (int conditional = 0; conditional < 2; conditional++)
  {
    char name[8];
    snprintf(name, sizeof name, "c%d", conditional);
    rig.b.ops.caps = PRELUX_CAP_RANGE | (conditional ? PRELUX_CAP_CONDITIONAL : 0);
    fake_file(&rig.b, name, 70000, 1);
    rig.b.change_in_read = conditional ? 0 : 2;
    assert_int_equal(rig_check(&rig, name), 0);
  }
  rig.b.ops.caps = PRELUX_CAP_RANGE;
  fake_file(&rig.b, "wild", 70000, 1);
  rig.b.change_in_read = 100;
  assert_int_equal(rig_check(&rig, "wild"), -ESTALE);
  char path[512];
  real_path("wild", path, sizeof path);
  assert_int_equal(access(path, F_OK), -1);
}

static void test_liars(void **state)
{
  struct prelux_attr a;
  fake_file(&rig.b, "short", 70000, 1);
  rig.b.short_by = 1;
  assert_int_equal(rig_check(&rig, "short"), -EPROTO);
  rig.b.short_by = -1;
  assert_int_equal(rig_check(&rig, "short"), -EPROTO);
  rig.b.short_by = 0;
  rig.b.swapped = true;
  assert_int_equal(rig_check(&rig, "short"), -EPROTO);
  rig.b.swapped = false;
  strcpy(fake_file(&rig.b, "sum", 3, 1)->md5, "00000000000000000000000000000000");
  assert_int_equal(rig_check(&rig, "sum"), -EPROTO);
  fake_text(&rig.b, "sum", "abc");
  strcpy(fake_find(&rig.b, "sum")->md5, "900150983cd24fb0d6963f7d28e17f72");
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  assert_int_equal(rig_check(&rig, "sum"), 0);
  fake_file(&rig.b, "none", 0, 1)->size = SIZE_MAX;
  assert_int_equal(stat_object("none", &a), -EPROTO);
  /* A connection cut in the middle goes on where it stopped. */
  fake_file(&rig.b, "cut", 100000, 9);
  rig.b.cut_after = 50000;
  assert_int_equal(rig_check(&rig, "cut"), 0);
}

static void test_restart(void **state)
{
  struct prelux_attr a, b;
  fake_file(&rig.b, "d/f", 70000, 1);
  assert_int_equal(rig_check(&rig, "d/f"), 0);
  assert_int_equal(stat_object("d/f", &a), 0);
  uint64_t dev = prelux_tree_dev(rig.t), id = rig.v.id;
  rig_reopen(&rig);
  assert_int_equal(prelux_tree_dev(rig.t), dev);
  assert_int_equal(rig.v.id, id);
  assert_int_equal(rig_check(&rig, "d/f"), 0);
  assert_int_equal(rig.b.reads, 1);
  assert_int_equal(stat_object("d/f", &b), 0);
  assert_int_equal(a.ino, b.ino);
  assert_int_equal(a.cache_ino, b.cache_ino);
  /* An immutable object needs no remote at all. */
  rig_reopen(&rig);
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  rig.b.fail_stat = rig.b.fail_read = -EIO;
  assert_int_equal(rig_check(&rig, "d/f"), 0);
}

static void test_edited_cache_file_is_not_served(void **state)
{
  char path[512];
  fake_file(&rig.b, "f", 1000, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  real_path("f", path, sizeof path);
  assert_int_equal(chmod(path, 0600), 0);
  int fd = open(path, O_WRONLY);
  assert_int_equal(pwrite(fd, "changed", 7, 0), 7);
  close(fd);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 2);
}

static void write_file(const char *path, unsigned seed, size_t size, int64_t mtime_s)
{
  unsigned char *buf = malloc(size);
  for (size_t i = 0; i < size; i++)
    buf[i] = fake_byte(seed, i);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  assert_int_equal(write(fd, buf, size), size);
  struct timespec ts[2] = {{.tv_sec = mtime_s}, {.tv_sec = mtime_s}};
  futimens(fd, ts);
  close(fd);
  free(buf);
}

static void test_adoption(void **state)
{
  char path[512];
  struct prelux_store_stats stats;
  int64_t second = fake_file(&rig.b, "same", 5000, 1)->mtime_ns / 1000000000;
  real_path("same", path, sizeof path);
  write_file(path, 1, 5000, second);
  assert_int_equal(rig_check(&rig, "same"), 0);
  assert_int_equal(rig.b.reads, 0);
  fake_file(&rig.b, "other", 5000, 2);
  real_path("other", path, sizeof path);
  write_file(path, 1, 5000, second - 100);
  assert_int_equal(rig_check(&rig, "other"), 0);
  assert_int_equal(rig.b.reads, 1);
  fake_file(&rig.b, "longer", 5000, 1);
  real_path("longer", path, sizeof path);
  write_file(path, 1, 5001, second);
  assert_int_equal(rig_check(&rig, "longer"), 0);
  fake_file(&rig.b, "folder", 50, 2);
  real_path("folder", path, sizeof path);
  mkdir(path, 0700);
  strcat(path, "/x");
  write_file(path, 1, 10, 1);
  assert_int_equal(rig_check(&rig, "folder"), 0);
  fake_file(&rig.b, "link", 50, 2);
  real_path("link", path, sizeof path);
  assert_int_equal(symlink("/etc/passwd", path), 0);
  assert_int_equal(rig_check(&rig, "link"), 0);
  prelux_store_stats(rig.s, &stats);
  assert_int_equal(stats.adopted, 1);
  assert_int_equal(stats.files, 5);
  char cmd[200];
  snprintf(cmd, sizeof cmd, "test $(ls %s/.prelux/recovered | wc -l) = 4", rig.dir);
  assert_int_equal(system(cmd), 0);
}

static void test_file_becomes_folder_and_back(void **state)
{
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  fake_file(&rig.b, "a", 100, 1);
  assert_int_equal(rig_check(&rig, "a"), 0);
  fake_dir(&rig.b, "a");
  fake_file(&rig.b, "a/b", 100, 2);
  assert_int_equal(rig_check(&rig, "a/b"), 0);
  fake_remove(&rig.b, "a/b");
  fake_file(&rig.b, "a", 300, 3);
  assert_int_equal(rig_check(&rig, "a"), 0);
}

static void test_quota_evicts_the_oldest(void **state)
{
  struct prelux_store_stats stats;
  struct prelux_attr a;
  char name[16];
  int fd;
  prelux_store_close(rig.s);
  rig.opts.max_size = 1 << 20;
  assert_int_equal(rig_open(&rig), 0);
  for (int i = 0; i < 10; i++)
  {
    snprintf(name, sizeof name, "f%d", i);
    fake_file(&rig.b, name, 200 << 10, (unsigned)i);
    assert_int_equal(rig_check(&rig, name), 0);
    usleep(2000);
  }
  prelux_store_stats(rig.s, &stats);
  assert_true(stats.used_bytes <= 1 << 20);
  assert_true(stats.evictions >= 5);
  assert_int_equal(rig.b.reads, 10);
  assert_int_equal(rig_check(&rig, "f9"), 0);
  assert_int_equal(rig.b.reads, 10);
  prelux_store_tick(rig.s);
  prelux_store_stats(rig.s, &stats);
  assert_true(stats.used_bytes <= 0.9 * (1 << 20));
  fake_file(&rig.b, "huge", 2 << 20, 1);
  assert_int_equal(rig_check(&rig, "huge"), -ENOSPC);
  /* Open files stay, so that there is no room. */
  int held[5], n = 0;
  for (int i = 5; i < 10; i++)
  {
    snprintf(name, sizeof name, "f%d", i);
    assert_int_equal(prelux_store_open_object(&rig.v, name, 0, &a, &fd, &rig.why), 0);
    held[n++] = fd;
  }
  fake_file(&rig.b, "more", 200 << 10, 77);
  assert_int_equal(rig_check(&rig, "more"), -ENOSPC);
  for (int i = 0; i < 5; i++)
  {
    snprintf(name, sizeof name, "f%d", i + 5);
    assert_true(fake_equal(&rig.b, name, held[i]));
    close(held[i]);
  }
  assert_int_equal(rig_check(&rig, "more"), 0);
}

static void test_evict_command(void **state)
{
  uint64_t files, bytes, busy;
  struct prelux_attr a;
  int fd;
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "d/a", 5000, 1);
  fake_file(&rig.b, "d/b", 5000, 2);
  fake_file(&rig.b, "d2", 5000, 2);
  assert_int_equal(rig_check(&rig, "d/a"), 0);
  assert_int_equal(rig_check(&rig, "d2"), 0);
  assert_int_equal(prelux_store_open_object(&rig.v, "d/b", 0, &a, &fd, &rig.why), 0);
  assert_int_equal(prelux_store_evict(&rig.v, "d", &files, &bytes, &busy), 0);
  assert_int_equal(files, 1);
  assert_int_equal(busy, 1);
  assert_int_equal(bytes, 8192);
  close(fd);
  assert_int_equal(prelux_store_evict(&rig.v, "", &files, &bytes, &busy), 0);
  assert_int_equal(files, 2);
  assert_int_equal(busy, 0);
  struct prelux_store_stats stats;
  prelux_store_stats(rig.s, &stats);
  assert_int_equal(stats.used_bytes, 0);
  assert_int_equal(stats.files, 0);
}

static void test_info(void **state)
{
  struct prelux_object_info info;
  struct prelux_attr a;
  fake_file(&rig.b, "f", 10, 1);
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_ABSENT);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_CACHED);
  assert_string_equal(info.version, "v1-10");
  stat_object("nope", &a);
  assert_int_equal(prelux_store_info(&rig.v, "nope", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_NEGATIVE);
}

static void test_cached_only_never_asks(void **state)
{
  struct prelux_attr a;
  int fd;
  fake_file(&rig.b, "f", 10, 1);
  assert_int_equal(prelux_store_stat(&rig.v, "f", PRELUX_STORE_CACHED_ONLY, &a, NULL), -EAGAIN);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", PRELUX_STORE_CACHED_ONLY, &a, &fd, NULL), -EAGAIN);
  assert_int_equal(prelux_store_list(&rig.v, "", PRELUX_STORE_CACHED_ONLY, &a, &fd, NULL), -EAGAIN);
  assert_int_equal(rig.b.stats + rig.b.reads + rig.b.lists, 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", PRELUX_STORE_CACHED_ONLY, &a, &fd, NULL), 0);
  close(fd);
}

static void test_renewal_by_listing(void **state)
{
  struct prelux_attr a, d;
  char name[16];
  view(PRELUX_FRESH_MAX_AGE, SECOND / 20, SECOND / 20);
  for (int i = 0; i < 40; i++)
  {
    snprintf(name, sizeof name, "f%02d", i);
    fake_file(&rig.b, name, 10, 1);
  }
  map_listing("", &d);
  usleep(60000);
  view(PRELUX_FRESH_MAX_AGE, 60 * SECOND, SECOND);
  view(PRELUX_FRESH_MAX_AGE, SECOND / 20, SECOND / 20);
  unsigned asked = rig.b.stats;
  for (int i = 0; i < 40; i++)
  {
    snprintf(name, sizeof name, "f%02d", i);
    assert_int_equal(stat_object(name, &a), 0);
  }
  assert_true(rig.b.stats - asked <= 16);
  assert_true(rig.b.lists >= 2);
}

struct opener {
  pthread_t thread;
  int rc;
};

static void *open_one(void *arg)
{
  struct opener *o = arg;
  struct prelux_attr a;
  struct prelux_problem why;
  int fd;
  o->rc = prelux_store_open_object(&rig.v, "shared", 0, &a, &fd, &why);
  if (o->rc == 0)
  {
    o->rc = fake_equal(&rig.b, "shared", fd) ? 0 : -EBADMSG;
    close(fd);
  }
  return NULL;
}

static void open_by_many(struct opener *o, int n)
{
  for (int i = 0; i < n; i++)
    pthread_create(&o[i].thread, NULL, open_one, &o[i]);
  for (int i = 0; i < n; i++)
    pthread_join(o[i].thread, NULL);
}

static void test_single_flight(void **state)
{
  struct opener o[32];
  fake_file(&rig.b, "shared", 200000, 1);
  rig.b.delay_us = 500;
  open_by_many(o, 32);
  for (int i = 0; i < 32; i++)
    assert_int_equal(o[i].rc, 0);
  assert_int_equal(rig.b.reads, 1);
  assert_int_equal(rig.b.stats, 1);
  /* A failure is everybody's, too. */
  fake_file(&rig.b, "shared", 300000, 2);
  rig.b.fail_read = -EACCES;
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  open_by_many(o, 8);
  for (int i = 0; i < 8; i++)
    assert_int_equal(o[i].rc, -EACCES);
}

static void test_one_owner(void **state)
{
  struct prelux_store *other = NULL;
  struct prelux_problem why;
  assert_int_equal(prelux_store_open(&rig.opts, NULL, &other, &why), -EBUSY);
  assert_non_null(strstr(why.text, "in use"));
}

static uint32_t faked_type;

static int fstatfs_faked(int fd, struct statfs *fs)
{
  int rc = fstatfs(fd, fs);
  fs->f_type = faked_type;
  return rc;
}

static void test_network_file_systems(void **state)
{
  static const uint32_t types[] = {0x6969, 0xff534d42, 0xfe534d42, 0x0bd00bd0, 0x00c36400, 0x47504653, 0x01021997, 0x5346414f,
                                   0x65735546};
  char dir[96], out[256], home[64];
  struct prelux_store *other = NULL;
  struct prelux_store_opts opts = {.dir = dir};
  struct prelux_problem why;
  snprintf(dir, sizeof dir, "%s/remote", rig.dir);
  prelux_os.fstatfs = fstatfs_faked;
  for (size_t i = 0; i < sizeof types / sizeof *types; i++)
  {
    faked_type = types[i];
    assert_int_equal(prelux_store_open(&opts, NULL, &other, &why), -EREMOTE);
    assert_true(why.advice[0] != 0);
  }
  prelux_os.fstatfs = fstatfs;
  snprintf(home, sizeof home, "%s", rig.dir);
  assert_int_equal(prelux_store_place(NULL, home, out, sizeof out, &why), 0);
  assert_non_null(strstr(out, "/.cache/prelux"));
  assert_int_equal(prelux_store_place(dir, home, out, sizeof out, &why), 0);
  assert_string_equal(out, dir);
  assert_int_equal(chmod(dir, 0777), 0);
  assert_int_equal(prelux_store_place(dir, home, out, sizeof out, &why), 0);
  assert_non_null(strstr(out, "/.cache/prelux"));
}

static void test_single_store(void **state)
{
  struct prelux_tree *other;
  struct prelux_attr a, d;
  char dir[96], path[128];
  prelux_store_close(rig.s);
  snprintf(dir, sizeof dir, "%s/single", rig.dir);
  mkdir(dir, 0755);
  chmod(dir, 0755);
  rig.opts.dir = dir;
  rig.opts.single = true;
  assert_int_equal(rig_open(&rig), 0);
  assert_string_equal(prelux_tree_root(rig.t), dir);
  fake_file(&rig.b, "f", 10, 1);
  fake_file(&rig.b, ".prelux", 10, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(stat_object(".prelux", &a), -EOPNOTSUPP);
  assert_int_equal(stat_object(".prelux/lock", &a), -EOPNOTSUPP);
  assert_int_equal(map_listing("", &d)->count, 1);
  snprintf(path, sizeof path, "%s/f", dir);
  struct stat st;
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0400); /* others can reach it here */
  assert_int_equal(prelux_tree_open(rig.s, "fake:two", &rig.b.base, &other, &rig.why), -EEXIST);
}

static void test_broken_catalogue(void **state)
{
  char path[128];
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  prelux_store_close(rig.s);
  snprintf(path, sizeof path, "%s/.prelux/catalogue.db", rig.dir);
  int fd = open(path, O_WRONLY | O_TRUNC);
  assert_int_equal(write(fd, "this is no database, not at all, at any length", 46), 46);
  close(fd);
  assert_int_equal(rig_open(&rig), 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 1); /* adopted */
}

static char boot_text[40];

static int open_boot(const char *path, int flags, ...)
{
  if (strcmp(path, "/proc/sys/kernel/random/boot_id") != 0)
    return open(path, flags, 0600);
  int fd = memfd_create("boot", 0);
  if (write(fd, boot_text, strlen(boot_text)) < 0)
    abort();
  return fd;
}

/* Leaves the store as a power cut would: the catalogue and files as they are now, no clean end. */
static void crash(void)
{
  char cmd[512];
  snprintf(cmd, sizeof cmd, "rm -rf %s.copy && cp -a %s %s.copy", rig.dir, rig.dir, rig.dir);
  assert_int_equal(system(cmd), 0);
  prelux_store_close(rig.s);
  rig.s = NULL;
  /* The same inodes must come back: put the catalogue of that instant beside the files that stayed. */
  snprintf(cmd, sizeof cmd, "cp -a %s.copy/.prelux/catalogue.db* %s/.prelux/ && rm -rf %s.copy", rig.dir, rig.dir, rig.dir);
  assert_int_equal(system(cmd), 0);
}

static void test_unclean_boot(void **state)
{
  prelux_store_close(rig.s);
  prelux_os.open = open_boot;
  strcpy(boot_text, "boot-1");
  assert_int_equal(rig_open(&rig), 0);
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  crash();
  assert_int_equal(rig_open(&rig), 0); /* same boot: only the daemon died */
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 1);
  crash();
  strcpy(boot_text, "boot-2");
  assert_int_equal(rig_open(&rig), 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 2);
  prelux_store_close(rig.s); /* a clean end */
  strcpy(boot_text, "boot-3");
  assert_int_equal(rig_open(&rig), 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, 2);
  prelux_os.open = open;
}

static struct prelux_index_reader reader;

static int known_inode(const struct stat *st, struct prelux_attr *a)
{
  return prelux_index_get_inode(&reader, rig.dir, st->st_dev, st->st_ino, a);
}

static unsigned held_files(void)
{
  char cmd[128];
  unsigned n = 0;
  snprintf(cmd, sizeof cmd, "ls %s/.prelux/held | wc -l", rig.dir);
  FILE *f = popen(cmd, "r");
  assert_int_equal(fscanf(f, "%u", &n), 1);
  pclose(f);
  return n;
}

/* Who has an old version open keeps its identity; its inode number is not given away before; afterwards all is gone. */
static void test_old_version_keeps_its_identity(void **state)
{
  struct prelux_attr a, k;
  struct stat st;
  int fd;
  memset(&reader, 0, sizeof reader);
  rig_index(&rig);
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &a, &fd, &rig.why), 0);
  fstat(fd, &st);
  fake_file(&rig.b, "f", 5000, 2);
  assert_int_equal(rig_check(&rig, "f"), 0);
  prelux_store_tick(rig.s);
  assert_int_equal(held_files(), 1);
  assert_int_equal(known_inode(&st, &k), 1);
  assert_int_equal(k.ino, a.ino);
  assert_int_equal(k.cache_dev, prelux_tree_dev(rig.t));
  close(fd);
  prelux_store_tick(rig.s);
  assert_int_equal(held_files(), 0);
  assert_int_equal(known_inode(&st, &k), 0);
}

static void newer_version_is_seen(void)
{
  struct prelux_attr a;
  struct prelux_view other = rig.v;
  other.freshness = PRELUX_FRESH_ALWAYS;
  fake_file(&rig.b, "f", 5000, 2);
  assert_int_equal(prelux_store_stat(&other, "f", 0, &a, &rig.why), 0);
}

/* Another request learns of a newer version while the older one is being filled. */
static void test_fill_overtaken(void **state)
{
  struct prelux_attr a, k;
  struct stat st;
  int fd;
  memset(&reader, 0, sizeof reader);
  rig_index(&rig);
  fake_file(&rig.b, "f", 5000, 1);
  rig.b.in_read = newer_version_is_seen;
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &a, &fd, &rig.why), 0);
  fstat(fd, &st);
  assert_int_equal(known_inode(&st, &k), 1);
  assert_int_equal(k.ino, a.ino);
  close(fd);
  assert_int_equal(rig_check(&rig, "f"), 0);
}

/* Descriptors outlive daemons: a new index knows the files that were cached before. */
static void test_index_is_warm_after_restart(void **state)
{
  struct prelux_attr a, k;
  struct stat st;
  int fd;
  memset(&reader, 0, sizeof reader);
  rig_index(&rig);
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &a, &fd, &rig.why), 0);
  fstat(fd, &st);
  prelux_store_close(rig.s);
  prelux_index_writer_free(rig.index);
  rig.s = NULL;
  rig.index = NULL;
  assert_int_equal(prelux_index_writer_create(rig.dir, 1024, 4096, &rig.index), 0);
  assert_int_equal(rig_open(&rig), 0);
  memset(&reader, 0, sizeof reader);
  assert_int_equal(known_inode(&st, &k), 1);
  assert_int_equal(k.ino, a.ino);
  /* Believed without the remote by `immutable` only. */
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "f", 1, &k), 0);
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "f", 1, &k), 1);
  assert_int_equal(k.cache_ino, st.st_ino);
  /* And evict takes it back. */
  uint64_t n, bytes, busy;
  close(fd);
  assert_int_equal(prelux_store_evict(&rig.v, "", &n, &bytes, &busy), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "f", 1, &k), 0);
  assert_int_equal(known_inode(&st, &k), 0);
}

/* What the index holds of objects that are not cached goes with evict, too. */
static void test_evict_forgets_attributes(void **state)
{
  struct prelux_attr a;
  uint64_t n, bytes, busy;
  memset(&reader, 0, sizeof reader);
  rig_index(&rig);
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "d/f", 10, 1);
  fake_file(&rig.b, "d/g", 10, 1);
  assert_int_equal(stat_object("d/f", &a), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "d/f", 3, &a), 1);
  assert_int_equal(prelux_store_evict(&rig.v, "d", &n, &bytes, &busy), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "d/f", 3, &a), 0);
  map_listing("d", &a);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "d/g", 3, &a), 1);
  assert_int_equal(prelux_store_evict(&rig.v, "d", &n, &bytes, &busy), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "d/g", 3, &a), 0);
}

/* A name that came to be after the listing, found by stat, is listed from then on. */
static void test_listing_and_stat_agree(void **state)
{
  struct prelux_attr a;
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND / 20);
  fake_file(&rig.b, "f", 10, 1);
  assert_int_equal(map_listing("", &a)->count, 1);
  fake_file(&rig.b, "new", 10, 1);
  assert_int_equal(map_listing("", &a)->count, 1);
  usleep(60000);
  assert_int_equal(stat_object("new", &a), 0);
  assert_int_equal(map_listing("", &a)->count, 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      T(test_stat_and_open), T(test_programs_are_executable), T(test_negative_answers), T(test_below_a_file),
      T(test_bad_paths), T(test_deep_and_long), T(test_list), T(test_list_drops_bad_names), T(test_inexact_listing),
      T(test_absence_from_a_listing),
      T(test_change_is_seen_by_freshness), T(test_always_does_not_fetch_again), T(test_skip_keeps_nothing),
      T(test_changed_while_read), T(test_liars), T(test_restart), T(test_edited_cache_file_is_not_served), T(test_adoption),
      T(test_file_becomes_folder_and_back), T(test_quota_evicts_the_oldest), T(test_evict_command), T(test_info),
      T(test_cached_only_never_asks), T(test_renewal_by_listing), T(test_single_flight), T(test_one_owner),
      T(test_network_file_systems), T(test_single_store), T(test_broken_catalogue), T(test_unclean_boot),
      T(test_old_version_keeps_its_identity), T(test_fill_overtaken), T(test_index_is_warm_after_restart), T(test_evict_forgets_attributes), T(test_listing_and_stat_agree),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
