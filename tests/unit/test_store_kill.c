/* kill -9 during fills: a child opens the store and lets four threads open, change and evict objects; it is killed at a random
 * instant, 200 times. After each kill every file under a cache name is whole and of one version; then the next child starts on
 * what is left. At the end nothing was put aside or left over, and the catalogue agrees with the disk.
 *
 * The remote describes itself: bytes are a function of (object, version), and the versions live in shared memory, so the
 * parent can tell what is right whenever the child dies. KILLS=n runs another number. */
#include "tests/unit/store_fake.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/base/log.h"

#define OBJECTS 24
#define THREADS 4

static struct shared {
  _Atomic unsigned version[OBJECTS];
  _Atomic unsigned opened, ready;
} *shared;

static struct prelux_backend_ops ops;
static struct prelux_backend remote = {.ops = &ops};
static struct prelux_store_opts opts;
static char dir[64];

static void object_name(unsigned i, char *ret, size_t cap)
{
  snprintf(ret, cap, i % 3 ? "folder%u/object%u" : "folder%u-object%u", i % 4, i);
}

static int object_number(const char *path)
{
  char name[64];
  for (unsigned i = 0; i < OBJECTS; i++)
  {
    object_name(i, name, sizeof name);
    if (strcmp(name, path) == 0)
      return (int)i;
  }
  return -1;
}

static size_t size_of(unsigned i, unsigned version)
{
  return (i * 37717 + version * 7919) % 300000;
}

static void show(unsigned i, unsigned version, struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = PRELUX_FILE, .size = size_of(i, version), .mtime_ns = 1500000000000000000ll + version};
  snprintf(ret->version, sizeof ret->version, "%u", version);
}

static int remote_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  int i = object_number(path);
  if (i < 0)
    return strncmp(path, "folder", 6) == 0 || !*path ? (*ret = (struct prelux_object){.type = PRELUX_DIR}, 0)
                                                     : prelux_problem(why, ENOENT, "no %s", path);
  show((unsigned)i, shared->version[i], ret);
  return 0;
}

static int remote_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                       prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  unsigned char buf[16384];
  unsigned i = (unsigned)object_number(path), version = (unsigned)atoi(expect->version);
  if (shared->version[i] != version)
    return prelux_problem(why, ESTALE, "changed");
  for (uint64_t done = 0; done < len;)
  {
    size_t n = len - done < sizeof buf ? (size_t)(len - done) : sizeof buf;
    for (size_t k = 0; k < n; k++)
      buf[k] = fake_byte(i * 1000 + version, off + done + k);
    int rc = sink(arg, off + done, buf, n);
    if (rc < 0)
      return rc;
    done += n;
    usleep(50);
  }
  return 0;
}

static int remote_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  return prelux_problem(why, EOPNOTSUPP, "not here");
}

/* The version whose bytes these are, or -1. */
static int version_of(unsigned i, const unsigned char *buf, size_t size)
{
  for (unsigned v = 1; v <= shared->version[i]; v++)
  {
    size_t k = 0;
    if (size_of(i, v) != size)
      continue;
    while (k < size && buf[k] == fake_byte(i * 1000 + v, k))
      k++;
    if (k == size)
      return (int)v;
  }
  return -1;
}

static unsigned wrong, files;
static uint64_t disk_bytes;

static int check_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
  static unsigned char buf[400000];
  const char *data = strstr(path, "/data/");
  if (type != FTW_F || !data)
    return 0;
  int i = object_number(data + 6), fd = open(path, O_RDONLY);
  ssize_t n = read(fd, buf, sizeof buf);
  close(fd);
  files++;
  disk_bytes += (uint64_t)st->st_blocks * 512;
  if (i < 0 || n != st->st_size || version_of((unsigned)i, buf, (size_t)n) < 0)
  {
    wrong++;
    print_error("%s: %zd bytes are no version of it\n", data + 6, n);
  }
  return 0;
}

static struct prelux_store *store;
static struct prelux_view view;

static bool start(void)
{
  struct prelux_tree *t;
  struct prelux_problem why;
  int rc = prelux_store_open(&opts, NULL, &store, &why);
  if (rc == 0)
    rc = prelux_tree_open(store, "kill:remote", &remote, &t, &why);
  if (rc == 0)
    prelux_view_init(&view, t, PRELUX_FRESH_ALWAYS, 0, 0, 0644, 0755);
  else
    print_error("%s\n", why.text);
  return rc == 0;
}

static void *worker(void *arg)
{
  unsigned seed = (unsigned)(uintptr_t)arg;
  for (;;)
  {
    char name[64];
    struct prelux_attr a;
    uint64_t n, bytes, busy;
    unsigned i = (unsigned)rand_r(&seed) % OBJECTS;
    int fd;
    object_name(i, name, sizeof name);
    if (rand_r(&seed) % 4 == 0)
      shared->version[i]++;
    if (rand_r(&seed) % 8 == 0)
      prelux_store_evict(&view, name, &n, &bytes, &busy);
    if (rand_r(&seed) % 16 == 0)
      prelux_store_tick(store);
    if (prelux_store_open_object(&view, name, 0, &a, &fd, NULL) == 0)
    {
      shared->opened++;
      close(fd);
    }
  }
  return NULL;
}

static void child(unsigned seed)
{
  pthread_t t;
  if (!start())
    _exit(1);
  shared->ready = 1;
  for (uintptr_t i = 0; i < THREADS; i++)
    pthread_create(&t, NULL, worker, (void *)(seed * THREADS + i));
  pause();
}

static unsigned count_names(const char *sub)
{
  char cmd[160];
  unsigned n = 0;
  snprintf(cmd, sizeof cmd, "ls %s/.prelux/%s | wc -l", dir, sub);
  FILE *f = popen(cmd, "r");
  if (fscanf(f, "%u", &n) != 1)
    n = 9999;
  pclose(f);
  return n;
}

static void kill_once(unsigned round)
{
  unsigned seed = round * 2654435761u;
  int status;
  unsigned before = (unsigned)shared->opened;
  shared->ready = 0;
  pid_t pid = fork();
  if (pid == 0)
    child(round);
  /* Each fourth dies while it opens the store and tidies up after the one before. */
  bool early = round % 4 == 0;
  for (int i = 0; i < 20000 && !shared->ready && !early; i++)
    usleep(500);
  assert_true(shared->ready || early);
  /* Not before it has done something: a slow machine or sanitizer must not make the test an empty one. */
  for (int i = 0; i < 20000 && !early && (unsigned)shared->opened == before; i++)
    usleep(500);
  usleep(1000 + (unsigned)rand_r(&seed) % (early ? 15000 : 40000));
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  assert_true(WIFSIGNALED(status));
  nftw(dir, check_file, 16, FTW_PHYS);
  assert_int_equal(wrong, 0);
}

static void test_kills(void **state)
{
  struct prelux_store_stats stats;
  unsigned kills = getenv("KILLS") ? (unsigned)atoi(getenv("KILLS")) : 200;
  for (unsigned i = 0; i < kills; i++)
    kill_once(i + 1);
  assert_true(shared->opened >= kills / 2);
  assert_true(start());
  assert_int_equal(count_names("fill"), 0);
  assert_int_equal(count_names("held"), 0);
  assert_int_equal(count_names("recovered"), 0);
  for (unsigned i = 0; i < OBJECTS; i++)
  {
    static unsigned char buf[400000];
    char name[64];
    struct prelux_attr a;
    struct prelux_problem why;
    int fd;
    object_name(i, name, sizeof name);
    assert_int_equal(prelux_store_open_object(&view, name, 0, &a, &fd, &why), 0);
    ssize_t n = read(fd, buf, sizeof buf);
    assert_int_equal(n, size_of(i, shared->version[i]));
    assert_int_equal(version_of(i, buf, (size_t)n), shared->version[i]);
    close(fd);
  }
  prelux_store_tick(store);
  files = 0;
  disk_bytes = 0;
  nftw(dir, check_file, 16, FTW_PHYS);
  prelux_store_stats(store, &stats);
  assert_int_equal(stats.files, files);
  assert_int_equal(stats.used_bytes, disk_bytes);
  print_message("%u kills, %u opens, %u files whole\n", kills, shared->opened, files);
  prelux_store_close(store);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills)};
  char cmd[128];
  ops = (struct prelux_backend_ops){.type = "kill", .caps = PRELUX_CAP_RANGE | PRELUX_CAP_CONDITIONAL, .stat = remote_stat,
                                    .list = remote_list, .read = remote_read};
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (unsigned i = 0; i < OBJECTS; i++)
    shared->version[i] = 1;
  snprintf(dir, sizeof dir, "%s/prelux-test-kill-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  if (!mkdtemp(dir))
    return 1;
  opts = (struct prelux_store_opts){.dir = dir, .max_size = 2 << 20, .high = 0.9, .low = 0.7};
  prelux_log_set_level(PRELUX_LOG_ERROR);
  int rc = cmocka_run_group_tests(tests, NULL, NULL);
  snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
  return system(cmd) == 0 ? rc : 1;
}
