/* The store and its own disk: how what comes in is written, what happens when that fails, what evict takes along. */
#include "tests/unit/store_rig.h"

#include <openssl/evp.h>
#include <sqlite3.h>

#include "lib/store/catalogue.h"

static struct prelux_index_reader reader;

static unsigned n_writes, n_odd;

static ssize_t counting_pwrite(int fd, const void *buf, size_t len, off_t off)
{
  n_writes++;
  n_odd += off % (1 << 20) != 0;
  return pwrite(fd, buf, len, off);
}

static ssize_t counting_pwritev(int fd, const struct iovec *v, int n, off_t off)
{
  n_writes++;
  n_odd += off % (1 << 20) != 0;
  return pwritev(fd, v, n, off);
}

/* However the bytes come, they are written in pieces that give the page cache large folios. */
static void test_written_in_pieces(void **state)
{
  const struct {
    size_t size, first;
    unsigned writes;
  } cases[] = {{5 << 19, 0, 3}, {(2 << 20) + 1, 100000, 3}, {100000, 0, 1}, {1 << 20, 65536, 1}, {8192, 0, 1}, {1, 0, 1}};
  char name[16];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
  {
    snprintf(name, sizeof name, "f%zu", i);
    fake_file(&rig.b, name, cases[i].size, (unsigned)i);
    rig.b.cut_after = (long)cases[i].first; /* and asked for again from there */
    n_writes = n_odd = 0;
    prelux_os.pwrite = counting_pwrite;
    prelux_os.pwritev = counting_pwritev;
    int rc = rig_check(&rig, name);
    prelux_os.pwrite = pwrite;
    prelux_os.pwritev = pwritev;
    assert_int_equal(rc, 0);
    assert_int_equal(n_writes, cases[i].writes);
    assert_int_equal(n_odd, 0);
  }
}

static ssize_t broken_pwrite(int fd, const void *buf, size_t len, off_t off)
{
  errno = EIO;
  return -1;
}

/* By turns: interrupted; less than the first buffer; just that; half of the second, too. */
static ssize_t short_pwritev(int fd, const struct iovec *v, int n, off_t off)
{
  static unsigned turn;
  struct iovec less[2] = {v[0], v[1]};
  errno = EINTR;
  if (turn++ % 4 == 0)
    return -1;
  less[0].iov_len -= turn % 4 == 2;
  less[1].iov_len = turn % 4 == 0 ? v[1].iov_len / 2 : 0;
  return pwritev(fd, less, 2, off);
}

static void test_a_disk_that_takes_less(void **state)
{
  char name[16];
  prelux_os.pwritev = short_pwritev;
  for (unsigned i = 0; i < 8; i++)
  {
    snprintf(name, sizeof name, "f%u", i);
    fake_file(&rig.b, name, (3 << 20) + i, i);
    assert_int_equal(rig_check(&rig, name), 0);
  }
  prelux_os.pwritev = pwritev;
}

static ssize_t broken_pwritev(int fd, const struct iovec *v, int n, off_t off)
{
  errno = EIO;
  return -1;
}

/* A disk of ours that fails is not asked again as a remote would be. */
static void test_disk_fails_in_a_fill(void **state)
{
  fake_file(&rig.b, "f", 5 << 20, 1);
  prelux_os.pwrite = broken_pwrite;
  prelux_os.pwritev = broken_pwritev;
  assert_int_equal(rig_check(&rig, "f"), -EIO);
  prelux_os.pwrite = pwrite;
  prelux_os.pwritev = pwritev;
  assert_int_equal(rig.b.reads, 1);
  assert_non_null(strstr(rig.why.text, "cannot write"));
  assert_int_equal(rig_check(&rig, "f"), 0);
}

/* ---- what gets its name where nothing is ---- */

static int broken_renameat(int fromfd, const char *from, int tofd, const char *to)
{
  errno = EIO;
  return -1;
}

static void count_files(uint64_t files, uint64_t bytes)
{
  struct prelux_store_stats stats;
  prelux_store_stats(rig.s, &stats);
  assert_true(stats.files == files && stats.used_bytes == bytes);
}

/* The row comes before the name: without that it goes again. */
static void test_a_file_that_gets_no_name(void **state)
{
  fake_file(&rig.b, "f", 5000, 1);
  prelux_os.renameat = broken_renameat;
  assert_int_equal(rig_check(&rig, "f"), -EIO);
  prelux_os.renameat = renameat;
  assert_non_null(strstr(rig.why.text, "cannot name"));
  count_files(0, 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  count_files(1, 8192);
  rig_reopen(&rig);
  count_files(1, 8192);
}

/* A row whose file has no name (its daemon died between both) is no file: it is fetched, and counted once. */
static void test_a_row_without_a_file(void **state)
{
  char path[128];
  fake_file(&rig.b, "f", 5000, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  unsigned reads = rig.b.reads;
  snprintf(path, sizeof path, "%s/f", prelux_tree_root(rig.t));
  prelux_store_close(rig.s);
  rig.s = NULL;
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rig_open(&rig), 0);
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(rig.b.reads, reads + 1);
  count_files(1, 8192);
}

#define CROWD 12
#define EACH 25

static void *fill_some(void *arg)
{
  char name[32];
  for (int i = 0; i < EACH; i++)
  {
    struct prelux_problem why = {0};
    struct prelux_attr a;
    int fd = -1;
    snprintf(name, sizeof name, "d/f%d-%d", (int)(intptr_t)arg, i);
    if (prelux_store_open_object(&rig.v, name, 0, &a, &fd, &why) < 0)
      return (void *)1;
    close(fd);
  }
  return NULL;
}

/* Rows of several files are written at once: each is there afterwards, and each file's number. */
static void test_a_crowd_of_fills(void **state)
{
  pthread_t threads[CROWD];
  struct prelux_attr a;
  uint64_t numbers[CROWD];
  char name[32];
  fake_dir(&rig.b, "d");
  for (int i = 0; i < CROWD * EACH; i++)
  {
    snprintf(name, sizeof name, "d/f%d-%d", i / EACH, i % EACH);
    fake_file(&rig.b, name, 5000, (unsigned)i);
  }
  for (int i = 0; i < CROWD; i++)
    pthread_create(&threads[i], NULL, fill_some, (void *)(intptr_t)i);
  for (int i = 0; i < CROWD; i++)
  {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
  count_files(CROWD * EACH, 8192ull * CROWD * EACH);
  for (int i = 0; i < CROWD; i++)
  {
    snprintf(name, sizeof name, "d/f%d-0", i);
    assert_int_equal(stat_object(name, &a), 0);
    numbers[i] = a.ino;
    fake_file(&rig.b, name, 5000, 1000); /* another one by the time of the next daemon */
  }
  rig_reopen(&rig);
  count_files(CROWD * EACH, 8192ull * CROWD * EACH);
  unsigned reads = rig.b.reads;
  for (int i = 0; i < CROWD * EACH; i++)
  {
    snprintf(name, sizeof name, "d/f%d-%d", i / EACH, i % EACH);
    assert_int_equal(rig_check(&rig, name), 0);
  }
  assert_int_equal(rig.b.reads, reads + CROWD);
  for (int i = 0; i < CROWD; i++)
  {
    snprintf(name, sizeof name, "d/f%d-0", i);
    assert_int_equal(stat_object(name, &a), 0);
    assert_true(a.ino != numbers[i]);
  }
}

static void list_all(void)
{
  static const char *const folders[] = {"d", "d/e/f", "d/e", "other", "other/x"};
  struct prelux_attr a;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
  {
    const struct prelux_listing *l = map_listing(folders[i], &a);
    munmap((void *)l, l->bytes);
  }
}

/* Listings below a folder go with it, those beside it stay. */
static void test_evict_forgets_listings_below(void **state)
{
  uint64_t n, bytes, busy;
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  fake_dir(&rig.b, "d");
  fake_dir(&rig.b, "d/e");
  fake_dir(&rig.b, "d/e/f");
  fake_dir(&rig.b, "other");
  fake_dir(&rig.b, "other/x");
  list_all();
  assert_int_equal(rig.b.lists, 5);
  list_all();
  assert_int_equal(rig.b.lists, 5);
  assert_int_equal(prelux_store_evict(&rig.v, "d", &n, &bytes, &busy), 0);
  list_all();
  assert_int_equal(rig.b.lists, 8);
  assert_int_equal(prelux_store_evict(&rig.v, "d/e/f", &n, &bytes, &busy), 0);
  assert_int_equal(prelux_store_evict(&rig.v, "d", &n, &bytes, &busy), 0);
  list_all();
  assert_int_equal(rig.b.lists, 11);
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

static unsigned n_preads;

static ssize_t first_pread_fails(int fd, void *buf, size_t len, off_t off)
{
  errno = EIO;
  return n_preads++ == 0 ? -1 : pread(fd, buf, len, off);
}

static int no_sum(struct prelux_backend *b, const char *path, const struct prelux_object *expect, bool ask, const atomic_bool *over, struct prelux_sum *ret)
{
  (void)b, (void)path, (void)expect, (void)ask, (void)over, (void)ret;
  return -ENOENT;
}

/* What has come is read again for its checksum, once the remote has said that it has none, and cannot be: the bytes are not called wrong for that, and it
 * is read in the end. */
static void test_read_again_for_a_checksum(void **state)
{
  const size_t size = 17 << 20;
  struct fake_object *o = fake_file(&rig.b, "large", size, 3);
  unsigned char *bytes = malloc(size), md5[16];
  (void)state;
  assert_non_null(bytes);
  for (size_t i = 0; i < size; i++)
    bytes[i] = fake_byte(3, i);
  assert_int_equal(EVP_Digest(bytes, size, md5, NULL, EVP_md5(), NULL), 1);
  free(bytes);
  for (int i = 0; i < 16; i++)
    snprintf(o->md5 + 2 * i, 3, "%02x", md5[i]);
  rig.b.ops.sum = no_sum;
  n_preads = 0;
  prelux_os.pread = first_pread_fails;
  int rc = rig_check(&rig, "large");
  prelux_os.pread = pread;
  assert_int_equal(rc, 0);
  assert_true(n_preads > 17);
  assert_int_equal(rig.b.reads, 1);
}

static sqlite3_vfs disk;
static sqlite3_io_methods database;
static int (*read_really)(sqlite3_file *, void *, int, sqlite3_int64);
static int n_reads, fail_read;

static int read_of_database(sqlite3_file *file, void *buf, int len, sqlite3_int64 off)
{
  return n_reads++ == fail_read ? SQLITE_IOERR_READ : read_really(file, buf, len, off);
}

static int open_of_database(sqlite3_vfs *v, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
  sqlite3_vfs *real = v->pAppData;
  int rc = real->xOpen(real, name, file, flags, ret_flags);
  if (rc != SQLITE_OK || !(flags & SQLITE_OPEN_MAIN_DB))
    return rc;
  database = *file->pMethods;
  read_really = database.xRead;
  database.xRead = read_of_database;
  file->pMethods = &database;
  return rc;
}

/* Whichever read of it fails: it holds links and pins, and is not put aside as damaged because of one. */
static void test_newer_catalogue_that_cannot_be_read_now(void **state)
{
  char path[128], command[512];
  struct prelux_catalogue *c;
  sqlite3 *db;
  (void)state;
  prelux_store_close(rig.s);
  rig.s = NULL;
  snprintf(path, sizeof path, "%s/.prelux/catalogue.db", rig.dir);
  snprintf(command, sizeof command, "test -z \"$(ls '%s/.prelux' | grep broken)\"", rig.dir);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, "UPDATE meta SET value='99' WHERE key='schema'", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  sqlite3_vfs *real = sqlite3_vfs_find(NULL);
  disk = *real;
  disk.zName = "failing";
  disk.pAppData = real;
  disk.xOpen = open_of_database;
  sqlite3_vfs_register(&disk, 1);
  for (fail_read = n_reads = 0; fail_read <= n_reads; fail_read++)
  {
    n_reads = 0;
    int rc = prelux_catalogue_open(path, &c, &rig.why);
    assert_int_equal(rc, n_reads > fail_read ? -EIO : -EPROTO);
    assert_int_equal(system(command), 0);
  }
  sqlite3_vfs_unregister(&disk);
  sqlite3_vfs_register(real, 1);
  assert_true(n_reads > 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      T(test_written_in_pieces), T(test_a_disk_that_takes_less), T(test_disk_fails_in_a_fill), T(test_a_file_that_gets_no_name),
      T(test_a_row_without_a_file), T(test_a_crowd_of_fills), T(test_evict_forgets_listings_below), T(test_evict_forgets_attributes),
      T(test_read_again_for_a_checksum), T(test_newer_catalogue_that_cannot_be_read_now),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
