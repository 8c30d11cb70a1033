/* The store on a fake backend: attributes, listings, freshness, opening. */
#include "tests/unit/store_rig.h"

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

/* A listing is no longer believed for what it lacks than for what it has. */
static void test_negative_by_listing(void **state)
{
  struct prelux_attr a;
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "d/f", 10, 1);
  view(PRELUX_FRESH_MAX_AGE, SECOND / 10, 100 * SECOND);
  const struct prelux_listing *l = map_listing("d", &a);
  munmap((void *)l, l->bytes);
  unsigned stats = rig.b.stats;
  assert_int_equal(stat_object("d/new", &a), -ENOENT);
  assert_int_equal(rig.b.stats, stats);
  fake_file(&rig.b, "d/new", 10, 1);
  usleep(120000);
  assert_int_equal(stat_object("d/new", &a), 0);
  assert_int_equal(stat_object("d/other", &a), -ENOENT); /* asked for itself: for negative_age */
  fake_file(&rig.b, "d/other", 10, 1);
  usleep(120000);
  assert_int_equal(stat_object("d/other", &a), -ENOENT);
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

/* Two ways to see one tree: what one learns of a new version, the other must not go on showing as the old one. */
static void test_views_share_what_is_learned(void **state)
{
  struct prelux_attr a;
  memset(&reader, 0, sizeof reader);
  rig_index(&rig);
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  struct prelux_view kept = rig.v;
  fake_dir(&rig.b, "d");
  fake_file(&rig.b, "d/f", 10, 1);
  fake_file(&rig.b, "d/same", 10, 1);
  map_listing("d", &a);
  assert_int_equal(prelux_index_get(&reader, rig.dir, kept.id, "d/f", 3, &a), 1);
  view(PRELUX_FRESH_MAX_AGE, 1, SECOND);
  fake_file(&rig.b, "d/f", 20, 2);
  map_listing("d", &a);
  assert_int_equal(prelux_index_get(&reader, rig.dir, kept.id, "d/f", 3, &a), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, kept.id, "d/same", 6, &a), 1);
  assert_int_equal(prelux_store_stat(&kept, "d/f", 0, &a, &rig.why), 0);
  assert_int_equal(prelux_index_get(&reader, rig.dir, kept.id, "d/f", 3, &a), 1);
  assert_int_equal(a.size, 20);
  fake_file(&rig.b, "d/f", 30, 3);
  assert_int_equal(stat_object("d/f", &a), 0);
  assert_int_equal(a.size, 30);
  assert_int_equal(prelux_index_get(&reader, rig.dir, kept.id, "d/f", 3, &a), 0);
}

/* A view that did not list a folder itself asks for one name and has its neighbours, too. */
static void test_neighbours_are_published(void **state)
{
  struct prelux_attr a;
  char name[16];
  rig_index(&rig);
  fake_dir(&rig.b, "d");
  for (int i = 0; i < 20; i++)
  {
    snprintf(name, sizeof name, "d/n%02d", i);
    fake_file(&rig.b, name, 5, 1);
  }
  const struct prelux_listing *l = map_listing("d", &a);
  munmap((void *)l, l->bytes);
  view(PRELUX_FRESH_MAX_AGE, 50 * SECOND, SECOND);
  memset(&reader, 0, sizeof reader);
  assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, "d/n19", 5, &a), 0);
  assert_int_equal(stat_object("d/n07", &a), 0);
  for (int i = 0; i < 20; i++)
  {
    int n = snprintf(name, sizeof name, "d/n%02d", i);
    assert_int_equal(prelux_index_get(&reader, rig.dir, rig.v.id, name, (size_t)n, &a), 1);
    assert_int_equal(a.size, 5);
  }
  assert_int_equal(rig.b.stats, 1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      T(test_stat_and_open), T(test_programs_are_executable), T(test_negative_answers), T(test_negative_by_listing), T(test_below_a_file),
      T(test_bad_paths), T(test_deep_and_long), T(test_list), T(test_list_drops_bad_names), T(test_inexact_listing),
      T(test_absence_from_a_listing), T(test_change_is_seen_by_freshness), T(test_always_does_not_fetch_again),
      T(test_skip_keeps_nothing), T(test_changed_while_read), T(test_liars), T(test_cached_only_never_asks),
      T(test_renewal_by_listing), T(test_single_flight), T(test_old_version_keeps_its_identity),
      T(test_fill_overtaken), T(test_index_is_warm_after_restart),
      T(test_listing_and_stat_agree), T(test_neighbours_are_published), T(test_views_share_what_is_learned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
