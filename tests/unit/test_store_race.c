/* Threads that open, list, change, evict and tick under a quota that holds a third of the objects, beside readers that do what
 * the library does: index, open of the cache path, inode check. What such a reader has open is whole, of one version, and its
 * inode is known to the index as that version of the object, however long it is held: no two versions or objects have one st_ino.
 * SECONDS=n runs longer. */
#include "tests/unit/store_fake.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "lib/base/log.h"
#include "lib/index/reader.h"
#include "lib/index/writer.h"

#define OBJECTS 12
#define SIZE 150000
#define MTIME 1500000000000000000ll
#define NUMBERS 65521u

static struct rig rig;
static char runtime[64];
static struct prelux_index_reader reader;
static _Atomic bool stop;
static _Atomic unsigned hits, misses, orphans, evicted, stale, full;
static _Atomic unsigned version[OBJECTS];
static pthread_mutex_t numbers_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t numbers[NUMBERS][2]; /* st_ino, and the object and version that has it */

static int race_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  unsigned i;
  *ret = (struct prelux_object){.type = PRELUX_DIR};
  if (sscanf(path, "d/o%u", &i) != 1)
    return strcmp(path, "d") == 0 || !*path ? 0 : prelux_problem(why, ENOENT, "not there");
  *ret = (struct prelux_object){.type = PRELUX_FILE, .size = SIZE, .mtime_ns = MTIME + version[i]};
  snprintf(ret->version, sizeof ret->version, "%u", version[i]);
  return 0;
}

static int race_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  int rc = 0;
  if (!*path)
    return add(arg, "d", 1, &(struct prelux_object){.type = PRELUX_DIR});
  for (unsigned i = 0; rc == 0 && i < OBJECTS; i++)
  {
    char name[16], object[24];
    struct prelux_object o;
    int n = snprintf(name, sizeof name, "o%u", i);
    snprintf(object, sizeof object, "d/%s", name);
    race_stat(b, object, &o, NULL);
    rc = add(arg, name, (size_t)n, &o);
  }
  return rc;
}

static int race_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                     prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  unsigned i, v = (unsigned)atoi(expect->version);
  unsigned char buf[SIZE];
  if (sscanf(path, "d/o%u", &i) != 1 || version[i] != v)
    return prelux_problem(why, ESTALE, "changed");
  /* Every byte tells object and version; the first four are the version. */
  memset(buf, (int)(i * 16 + v % 16), sizeof buf);
  memcpy(buf, &v, sizeof v);
  return sink(arg, off, buf + off, len);
}

/* Returns the version. */
static unsigned check_whole(int fd, unsigned i)
{
  unsigned char buf[SIZE + 1];
  unsigned v;
  ssize_t n = pread(fd, buf, sizeof buf, 0);
  memcpy(&v, buf, sizeof v);
  if (n != SIZE)
    fail_msg("object %u: %zd bytes", i, n);
  for (size_t k = sizeof v; k < SIZE; k++)
    if (buf[k] != (unsigned char)(i * 16 + v % 16))
      fail_msg("object %u version %u: byte %zu is %u", i, v, k, buf[k]);
  return v;
}

/* Whose number this is. */
static void check_number(uint64_t ino, unsigned i, unsigned v)
{
  static const uint64_t taken = (uint64_t)1 << 63;
  uint64_t owner = taken | (uint64_t)i << 32 | v;
  pthread_mutex_lock(&numbers_lock);
  size_t at = ino % NUMBERS;
  for (size_t n = 0; numbers[at][0] && numbers[at][0] != ino && n < NUMBERS; n++)
    at = (at + 1) % NUMBERS;
  if (!numbers[at][0])
  {
    numbers[at][0] = ino;
    numbers[at][1] = owner;
  }
  uint64_t has = numbers[at][1];
  pthread_mutex_unlock(&numbers_lock);
  if (has != owner)
    fail_msg("object %u version %u has the number of object %u version %u", i, v, (unsigned)(has >> 32 & INT32_MAX), (unsigned)has);
}

static void check_identity(const struct stat *st, const char *object, unsigned i, unsigned v)
{
  struct prelux_attr a;
  int have = prelux_index_get_inode(&reader, runtime, st->st_dev, st->st_ino, &a);
  struct prelux_attr known;
  if (!have)
    fail_msg("object %u: the index does not know its inode", i);
  check_number(a.ino, i, v);
  if (prelux_store_stat(&rig.v, object, 0, &known, NULL) == 0 && (a.ino == known.ino) != (known.mtime_ns == MTIME + v))
    fail_msg("object %u version %u: the index says number %llu, stat of version %lld says %llu", i, v, (unsigned long long)a.ino,
             (long long)(known.mtime_ns - MTIME), (unsigned long long)known.ino);
  if (a.cache_dev != prelux_tree_dev(rig.t))
    fail_msg("object %u: wrong st_dev", i);
}

/* As the library does it. */
static void *reader_thread(void *arg)
{
  unsigned seed = (unsigned)(uintptr_t)arg;
  while (!stop)
  {
    char object[24], path[256];
    struct prelux_attr a;
    struct stat st;
    unsigned i = (unsigned)rand_r(&seed) % OBJECTS;
    int n = snprintf(object, sizeof object, "d/o%u", i), fd = -1;
    if (prelux_index_get(&reader, runtime, rig.v.id, object, (size_t)n, &a) && a.cached)
    {
      snprintf(path, sizeof path, "%s/%s", prelux_tree_root(rig.t), object);
      fd = open(path, O_RDONLY);
      if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino != a.cache_ino || st.st_nlink == 0))
      {
        orphans += st.st_nlink == 0;
        close(fd);
        fd = -1;
      }
    }
    if (fd < 0)
    {
      misses++;
      int rc = prelux_store_open_object(&rig.v, object, PRELUX_STORE_RECHECK, &a, &fd, NULL);
      /* A quota of four files and four readers, an object changed all the time: these two errors are honest. */
      stale += rc == -ESTALE;
      full += rc == -ENOSPC;
      if (rc < 0 && rc != -ESTALE && rc != -ENOSPC)
        fail_msg("object %u: %s", i, strerror(-rc));
      if (rc < 0)
        continue;
      fstat(fd, &st);
    }
    else
      hits++;
    unsigned v = check_whole(fd, i);
    usleep((unsigned)rand_r(&seed) % 3000);
    check_identity(&st, object, i, v);
    check_whole(fd, i);
    close(fd);
  }
  return NULL;
}

static void *mover_thread(void *arg)
{
  unsigned seed = 7;
  while (!stop)
  {
    char object[24];
    struct prelux_attr a;
    uint64_t n = 0, bytes, busy;
    int fd;
    unsigned i = (unsigned)rand_r(&seed) % OBJECTS;
    snprintf(object, sizeof object, "d/o%u", i);
    switch (rand_r(&seed) % 4)
    {
    case 0:
      version[i]++;
      break;
    case 1:
      if (prelux_store_evict(&rig.v, object, &n, &bytes, &busy) == 0)
        evicted += (unsigned)n;
      break;
    case 2:
      if (prelux_store_list(&rig.v, "d", 0, &a, &fd, NULL) == 0)
        close(fd);
      break;
    default:
      prelux_store_tick(rig.s);
    }
    usleep(300);
  }
  return NULL;
}

static void run(uint32_t freshness)
{
  struct prelux_store_stats stats;
  pthread_t threads[5];
  unsigned seconds = getenv("SECONDS") ? (unsigned)atoi(getenv("SECONDS")) : 2;
  rig_init(&rig);
  rig.b.ops.stat = race_stat;
  rig.b.ops.list = race_list;
  rig.b.ops.read = race_read;
  rig.opts.max_size = 4 * 155648;
  snprintf(runtime, sizeof runtime, "%s", rig.dir);
  assert_int_equal(prelux_index_writer_create(runtime, 1024, 1024, &rig.index), 0);
  memset(&reader, 0, sizeof reader);
  assert_int_equal(rig_open(&rig), 0);
  prelux_view_init(&rig.v, rig.t, freshness, SECOND / 50, SECOND, 0644, 0755);
  stop = false;
  memset(numbers, 0, sizeof numbers);
  hits = misses = orphans = evicted = stale = full = 0;
  for (uintptr_t i = 0; i < 4; i++)
    pthread_create(&threads[i], NULL, reader_thread, (void *)(i + 1));
  pthread_create(&threads[4], NULL, mover_thread, NULL);
  sleep(seconds);
  /* On a busy machine, or under a sanitizer, longer: the work counts, not the time. */
  for (int i = 0; i < 600 && (hits < 20 || misses < 20); i++)
    usleep(100000);
  stop = true;
  for (int i = 0; i < 5; i++)
    pthread_join(threads[i], NULL);
  prelux_store_tick(rig.s);
  prelux_store_stats(rig.s, &stats);
  print_message("%u hits, %u misses, %llu fills, %llu evictions, %u stale, %u full, %u orphans\n", (unsigned)hits, (unsigned)misses,
                (unsigned long long)stats.fills, (unsigned long long)stats.evictions, (unsigned)stale, (unsigned)full, (unsigned)orphans);
  assert_true(hits >= 20 && misses >= 20 && stats.evictions > 3);
  assert_true(stats.used_bytes <= rig.opts.max_size);
  rig_remove(&rig);
}

static void test_max_age(void **state)
{
  run(PRELUX_FRESH_MAX_AGE);
}

static void test_immutable(void **state)
{
  run(PRELUX_FRESH_IMMUTABLE);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_max_age), cmocka_unit_test(test_immutable)};
  if (access("/dev/shm", W_OK) == 0)
    setenv("STORE_TEST_DIR", "/dev/shm", 0);
  prelux_log_set_level(PRELUX_LOG_ERROR);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
