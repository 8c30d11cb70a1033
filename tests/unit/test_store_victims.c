/* Which files go to make room, counted: hits of the store's own order beside those of plain LRU, which is computed here for the same
 * requests and as many files. */
#include "tests/unit/store_rig.h"

#include "lib/store/private.h"

enum { FILE_BYTES = 4096, ROOM = 100 /* files */ };

static struct prelux_attr attr;
static unsigned hits, lru_hits, asked;
static int lru[ROOM], lru_n; /* the one used last at the end */
static struct timespec clock_now; /* some seconds go by between one request and the next */

static int virtual_clock(clockid_t id, struct timespec *ret)
{
  if (id != CLOCK_REALTIME)
    return clock_gettime(id, ret);
  *ret = clock_now;
  clock_now.tv_nsec += 1000;
  return 0;
}

static int setup_small(void **state)
{
  rig_init(&rig);
  clock_gettime(CLOCK_REALTIME, &clock_now);
  clock_now.tv_sec += 3600; /* what the kernel notes by its own clock is long past */
  clock_now.tv_nsec = 0;
  prelux_os.clock_gettime = virtual_clock;
  rig.opts.max_size = ROOM * FILE_BYTES;
  assert_int_equal(rig_open(&rig), 0);
  hits = lru_hits = asked = 0;
  lru_n = 0;
  return 0;
}

static int teardown_small(void **state)
{
  prelux_os.clock_gettime = clock_gettime;
  return teardown(state);
}

static void ask_lru(int id)
{
  int at = 0;
  while (at < lru_n && lru[at] != id)
    at++;
  lru_hits += at < lru_n;
  if (at == lru_n && lru_n == ROOM)
    at = 0;
  if (at < lru_n)
    memmove(&lru[at], &lru[at + 1], (size_t)(--lru_n - at) * sizeof *lru);
  lru[lru_n++] = id;
}

/* As the kernel does. */
static void note_read(const char *name)
{
  char path[512];
  struct timespec ts[2] = {{0}, {.tv_nsec = UTIME_OMIT}};
  ts[0] = clock_now;
  real_path(name, path, sizeof path);
  assert_int_equal(utimensat(AT_FDCWD, path, ts, 0), 0);
}

static void ask(char kind, int i)
{
  char name[32];
  int fd;
  snprintf(name, sizeof name, "%c%d", kind, i);
  unsigned reads = rig.b.reads;
  assert_int_equal(prelux_store_open_object(&rig.v, name, 0, &attr, &fd, &rig.why), 0);
  close(fd);
  bool hit = rig.b.reads == reads;
  hits += hit;
  asked++;
  if (hit)
    note_read(name);
  ask_lru(kind * 100000 + i);
  clock_now.tv_sec += 3;
  clock_now.tv_nsec = 0;
}

static void make(char kind, int n)
{
  char name[32];
  for (int i = 0; i < n; i++)
  {
    snprintf(name, sizeof name, "%c%d", kind, i);
    fake_file(&rig.b, name, FILE_BYTES, (unsigned)i);
  }
}

static void tell(const char *what)
{
  print_message("%s: %u asked, %u hits, plain LRU %u\n", what, asked, hits, lru_hits);
}

/* Epochs over twice what the cache holds, in the same order: LRU finds nothing, half is the most that can be found. */
static void test_loop(void **state)
{
  enum { FILES = 2 * ROOM, EPOCHS = 8 };
  make('a', FILES);
  for (int epoch = 0; epoch < EPOCHS; epoch++)
    for (int i = 0; i < FILES; i++)
      ask('a', i);
  tell("loop");
  assert_int_equal(lru_hits, 0);
  assert_true(hits > (EPOCHS - 2) * ROOM * 8 / 10);
}

/* In another order each time. */
static void test_shuffled(void **state)
{
  enum { FILES = 2 * ROOM, EPOCHS = 8 };
  int order[FILES];
  make('a', FILES);
  for (int i = 0; i < FILES; i++)
    order[i] = i;
  srand(7);
  for (int epoch = 0; epoch < EPOCHS; epoch++)
    for (int i = 0; i < FILES; i++)
    {
      int j = i + rand() % (FILES - i), was = order[i];
      order[i] = order[j];
      order[j] = was;
      ask('a', order[i]);
    }
  tell("shuffled");
  assert_true(hits > lru_hits * 5 / 4);
}

/* Some files are used all the time while others go by that nobody wants twice. */
static void test_scan_beside_hot_files(void **state)
{
  enum { HOT = 40, SCAN = 1000 };
  make('h', HOT);
  make('s', SCAN);
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < HOT; i++)
      ask('h', i);
  hits = lru_hits = asked = 0;
  for (int i = 0; i < SCAN; i++)
  {
    ask('s', i);
    if (i % 4 == 0)
      ask('h', i / 4 % HOT);
  }
  tell("scan beside hot files");
  assert_true(lru_hits <= HOT);
  assert_true(hits > SCAN / 4 * 9 / 10);
}

/* What was read again and again is done with; what comes instead fits, too. */
static void test_work_moves_on(void **state)
{
  enum { FILES = ROOM * 8 / 10, EPOCHS = 5 };
  static const char kinds[] = "abc";
  make('x', 2 * ROOM);
  for (int epoch = 0; epoch < 4; epoch++)
    for (int i = 0; i < 2 * ROOM; i++)
      ask('x', i);
  hits = lru_hits = asked = 0;
  for (const char *kind = kinds; *kind; kind++)
  {
    make(*kind, FILES);
    for (int epoch = 0; epoch < EPOCHS; epoch++)
      for (int i = 0; i < FILES; i++)
        ask(*kind, i);
  }
  tell("work moves on");
  assert_true(hits > lru_hits * 3 / 4);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_small, teardown_small)
  const struct CMUnitTest tests[] = {T(test_loop), T(test_shuffled), T(test_scan_beside_hot_files), T(test_work_moves_on)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
