/* The store on a fake backend: what it keeps over restarts and crashes, what it adopts, what it lets go, whose folder it takes. */
#include "tests/unit/store_rig.h"

#include "lib/store/catalogue.h"
#include "lib/store/pin.h"

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

static ssize_t no_pread(int fd, void *buf, size_t n, off_t at)
{
  (void)fd, (void)buf, (void)n, (void)at;
  errno = EIO;
  return -1;
}

/* It is fetched; the sanitizers find what was held for its checksum. */
static void test_what_cannot_be_read_is_not_adopted(void **state)
{
  struct prelux_os real = prelux_os;
  char path[512];
  (void)state;
  fake_text(&rig.b, "f", "abc");
  strcpy(fake_find(&rig.b, "f")->md5, "900150983cd24fb0d6963f7d28e17f72");
  real_path("f", path, sizeof path);
  write_file(path, 1, 3, 1);
  prelux_os.pread = no_pread;
  int rc = rig_check(&rig, "f");
  prelux_os = real;
  assert_int_equal(rc, 0);
  assert_int_equal(rig.b.reads, 1);
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

static int open_err;

/* Of a folder "remote" it fails. */
static int open_of_no_other(const char *path, int flags, ...)
{
  size_t len = strlen(path);
  if (len < 7 || strcmp(path + len - 7, "/remote") != 0)
    return open(path, flags, 0600);
  errno = open_err;
  return -1;
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
  const int passing[] = {EMFILE, ENOMEM, EINTR, EIO};
  for (size_t i = 0; i < sizeof passing / sizeof *passing; i++)
  {
    open_err = passing[i];
    prelux_os.open = open_of_no_other;
    assert_int_equal(prelux_store_place(dir, home, out, sizeof out, &why), -passing[i]); /* no other one is taken for that */
    prelux_os.open = open;
  }
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

/* ---- pins ---- */

static void (*beside)(void); /* called once, when the evictor opens that file: it has seen that it is not pinned */
static const char *beside_what;

static int openat_beside(int fd, const char *path, int flags, ...)
{
  void (*fn)(void) = strcmp(path, beside_what) == 0 ? beside : NULL;
  if (fn)
  {
    beside = NULL;
    fn();
  }
  return openat(fd, path, flags, 0600);
}

static uint64_t evict_beside(const char *what, void (*fn)(void))
{
  beside = fn;
  beside_what = what;
  prelux_os.openat = openat_beside;
  uint64_t freed = prelux_evict_bytes(rig.s, 1);
  prelux_os.openat = openat;
  assert_null(beside);
  return freed;
}

static void cache_files(const char *format, int n)
{
  char name[32];
  for (int i = 0; i < n; i++)
  {
    snprintf(name, sizeof name, format, i);
    fake_file(&rig.b, name, 4096, (unsigned)i);
    assert_int_equal(rig_check(&rig, name), 0);
  }
}

static bool is_cached(const char *object)
{
  struct prelux_object_info info;
  assert_int_equal(prelux_store_info(&rig.v, object, &info), 0);
  return info.state == PRELUX_STATE_CACHED;
}

static void pin_f0(void)
{
  assert_int_equal(prelux_store_pin(&rig.v, "f0", true), 0);
}

static void unpin_f0(void)
{
  assert_int_equal(prelux_store_pin(&rig.v, "f0", false), 0);
}

static void test_unpin_beside_an_eviction(void **state)
{
  cache_files("f%d", 2);
  pin_f0();
  assert_true(evict_beside("f1", unpin_f0) > 0);
  assert_true(is_cached("f0") && !is_cached("f1"));
  assert_true(prelux_evict_bytes(rig.s, 1) > 0);
  assert_false(is_cached("f0"));
}

static void test_what_was_just_pinned_stays(void **state)
{
  uint64_t files, bytes, busy;
  cache_files("f%d", 1);
  assert_int_equal(evict_beside("f0", pin_f0), 0);
  assert_true(is_cached("f0"));
  assert_int_equal(prelux_store_let_go(&rig.v, "f0"), -EBUSY);
  assert_int_equal(prelux_store_evict(&rig.v, "f0", &files, &bytes, &busy), 0); /* the command has it all the same */
  assert_int_equal(files, 1);
}

/* posix_fadvise, which looks at the pins when nobody can set one any more before the file is gone. */
static void test_what_is_let_go_is_pinned_meanwhile(void **state)
{
  cache_files("f%d", 2);
  beside = pin_f0;
  beside_what = "f0";
  prelux_os.openat = openat_beside;
  assert_int_equal(prelux_store_let_go(&rig.v, "f0"), -EBUSY);
  prelux_os.openat = openat;
  assert_true(!beside && is_cached("f0"));
  assert_int_equal(prelux_store_let_go(&rig.v, "f1"), 0);
  assert_false(is_cached("f1"));
  unpin_f0();
  assert_int_equal(prelux_store_let_go(&rig.v, "f0"), 0);
  assert_false(is_cached("f0"));
}

static int count_pin(void *arg, int64_t tree, const char *path)
{
  ++*(int *)arg;
  return 0;
}

static int pins_kept(void)
{
  int n = 0;
  assert_int_equal(prelux_catalogue_pins(rig.s->cat, count_pin, &n), 0);
  return n;
}

static void refuse_writes(bool on)
{
  assert_int_equal(sqlite3_exec(rig.s->cat->db, on ? "PRAGMA query_only=1" : "PRAGMA query_only=0", NULL, NULL, NULL), SQLITE_OK);
}

static void test_a_pin_that_the_catalogue_refuses(void **state)
{
  refuse_writes(true);
  assert_true(prelux_store_pin(&rig.v, "f0", true) < 0);
  assert_false(prelux_pinned(rig.s, rig.v.tree->id, "f0"));
  refuse_writes(false);
  pin_f0();
  assert_int_equal(prelux_store_pin(&rig.v, "f0", true), 1);
  refuse_writes(true);
  assert_true(prelux_store_pin(&rig.v, "f0", true) < 0);
  assert_true(prelux_store_pin(&rig.v, "f0", false) < 0);
  assert_true(prelux_pinned(rig.s, rig.v.tree->id, "f0"));
  refuse_writes(false);
  assert_int_equal(pins_kept(), 1);
  unpin_f0();
  assert_int_equal(prelux_store_pin(&rig.v, "f0", false), -ENOENT);
  assert_int_equal(pins_kept(), 0);
}

enum { ROUNDS = 300 };
static pthread_barrier_t round_barrier;

static void *pin_in_rounds(void *arg)
{
  for (int i = 0; i < ROUNDS; i++)
  {
    pthread_barrier_wait(&round_barrier);
    prelux_store_pin(&rig.v, "f0", arg != NULL);
    pthread_barrier_wait(&round_barrier);
  }
  return NULL;
}

static void test_pin_and_unpin_at_once(void **state)
{
  pthread_t threads[2];
  int differ = 0;
  pthread_barrier_init(&round_barrier, NULL, 3);
  for (int i = 0; i < 2; i++)
    pthread_create(&threads[i], NULL, pin_in_rounds, i ? &rig : NULL);
  for (int i = 0; i < ROUNDS; i++)
  {
    pthread_barrier_wait(&round_barrier);
    pthread_barrier_wait(&round_barrier);
    differ += pins_kept() != prelux_pinned(rig.s, rig.v.tree->id, "f0");
  }
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  pthread_barrier_destroy(&round_barrier);
  assert_int_equal(differ, 0);
}

static int count_commit(void *arg)
{
  ++*(int *)arg;
  return 0;
}

static void test_pinned_rows_are_marked_together(void **state)
{
  enum { FILES = 150 };
  struct prelux_victim row;
  int commits = 0;
  fake_dir(&rig.b, "d");
  cache_files("d/f%d", FILES);
  assert_int_equal(prelux_store_pin(&rig.v, "d", true), 0);
  prelux_evict_tick(rig.s); /* writes what was used */
  sqlite3_commit_hook(rig.s->cat->db, count_commit, &commits);
  assert_int_equal(prelux_evict_bytes(rig.s, 1), 0);
  sqlite3_commit_hook(rig.s->cat->db, NULL, NULL);
  assert_int_equal(commits, (FILES + 63) / 64);
  assert_int_equal(prelux_catalogue_victims(rig.s->cat, ONCE_OLDEST, INT64_MIN, &row, 1), 0);
  assert_int_equal(prelux_store_pin(&rig.v, "d", false), 0);
  assert_int_equal(prelux_evict_bytes(rig.s, FILES * 4096), FILES * 4096);
}

/* ---- verify ---- */

static int looked, damaged;

static int verify(bool data)
{
  enum prelux_verdict verdict = PRELUX_VERDICT_SAME;
  int rc = prelux_store_verify(&rig.v, "f", data, &verdict, &rig.why);
  looked++;
  damaged += rc == 0 && verdict == PRELUX_VERDICT_DAMAGED;
  return rc;
}

static int renameat_beside(int from, const char *name, int to, const char *new_name)
{
  verify(false);
  int rc = renameat(from, name, to, new_name);
  verify(false);
  return rc;
}

static void test_verify_beside_those_at_work(void **state)
{
  uint64_t files, bytes, busy;
  looked = damaged = 0;
  view(PRELUX_FRESH_ALWAYS, 0, 0);
  prelux_os.renameat = renameat_beside;
  for (unsigned i = 0; i < 3; i++) /* where nothing lies, and over another version */
  {
    fake_file(&rig.b, "f", 5000, i);
    assert_int_equal(rig_check(&rig, "f"), 0);
  }
  assert_int_equal(prelux_store_evict(&rig.v, "f", &files, &bytes, &busy), 0);
  prelux_os.renameat = renameat;
  assert_int_equal(files, 1);
  assert_true(looked >= 8);
  assert_int_equal(damaged, 0);
}

static void scribble(void)
{
  char path[512];
  real_path("f", path, sizeof path);
  assert_int_equal(chmod(path, 0600), 0);
  int fd = open(path, O_WRONLY);
  assert_int_equal(pwrite(fd, "changed", 7, 100), 7);
  close(fd);
}

/* As one does who opens the cached file to write to it: it leaves the cache, as it is. */
static void take_and_scribble(void)
{
  uint64_t bytes;
  scribble();
  assert_int_equal(prelux_catalogue_del(rig.s->cat, rig.t->id, "f", &bytes), 0);
}

static void test_verify_and_what_is_damaged(void **state)
{
  char path[512];
  looked = damaged = 0;
  real_path("f", path, sizeof path);
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(verify(true), 0);
  rig.b.in_read = take_and_scribble;
  assert_int_equal(verify(true), -ENOENT);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(damaged, 0);
  rig.b.in_read = scribble; /* by nobody that we know of */
  assert_int_equal(verify(true), 0);
  assert_int_equal(damaged, 1);
  assert_int_equal(verify(false), 0);
  assert_int_equal(damaged, 2);
  assert_int_equal(unlink(path), 0);
  atomic_fetch_add(&rig.t->moving, 1); /* a folder's rename, which may be the one above it */
  assert_int_equal(verify(false), -ENOENT);
  atomic_fetch_sub(&rig.t->moving, 1);
  assert_int_equal(verify(false), 0);
  assert_int_equal(damaged, 3);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      T(test_restart), T(test_edited_cache_file_is_not_served), T(test_adoption), T(test_what_cannot_be_read_is_not_adopted),
      T(test_file_becomes_folder_and_back), T(test_quota_evicts_the_oldest), T(test_evict_command), T(test_info),
      T(test_one_owner), T(test_network_file_systems), T(test_single_store), T(test_broken_catalogue),
      T(test_unclean_boot), T(test_unpin_beside_an_eviction), T(test_what_was_just_pinned_stays), T(test_what_is_let_go_is_pinned_meanwhile),
      T(test_a_pin_that_the_catalogue_refuses), T(test_pin_and_unpin_at_once), T(test_pinned_rows_are_marked_together),
      T(test_verify_beside_those_at_work), T(test_verify_and_what_is_damaged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
