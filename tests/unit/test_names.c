/* Listings in shared memory: what is copied is what was written, whole, or nothing, while the log runs in circles, the disk is full, and
 * the next daemon makes another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/base/os.h"
#include "lib/index/names.h"
#include "lib/index/writer.h"

static char runtime[64];
static struct prelux_index_writer *w;
static struct prelux_index_reader index_reader;

static int setup(void **state)
{
  strcpy(runtime, "/tmp/prelux-names-XXXXXX");
  memset(&index_reader, 0, sizeof index_reader);
  return mkdtemp(runtime) && prelux_index_writer_create(runtime, 1024, 4096, &w) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
  char cmd[128];
  prelux_index_writer_free(w);
  snprintf(cmd, sizeof cmd, "rm -rf '%s'", runtime);
  return system(cmd) == 0 ? 0 : -1;
}

/* All words follow from i, so that a mixture shows. */
static struct prelux_listing *listing_of(uint64_t i, uint64_t bytes)
{
  struct prelux_listing *l = malloc(bytes);
  assert_non_null(l);
  for (uint64_t k = 0; k < bytes / 8; k++)
    ((uint64_t *)l)[k] = i;
  l->magic = i;
  l->bytes = bytes;
  return l;
}

static int put(uint64_t i, uint64_t bytes, struct prelux_names_at *at)
{
  struct prelux_listing *l = listing_of(i, bytes);
  int rc = prelux_names_write(prelux_index_names(w), l, at);
  free(l);
  return rc;
}

/* 1: it is there, and right; 0: it is not there any more. */
static int get(uint64_t i, const struct prelux_names_at *at)
{
  uint64_t *to = malloc(at->bytes);
  assert_non_null(to);
  prelux_index_links(&index_reader, runtime); /* a look-up comes first */
  int rc = prelux_names_copy(&index_reader, runtime, at, to);
  for (uint64_t k = 0; rc == 1 && k < at->bytes / 8; k += 64) /* never the word of `bytes` */
    if (to[k] != i)
      rc = -1;
  free(to);
  return rc;
}

static void test_circles(void **state)
{
  enum { N = 40 };
  const uint64_t bytes = 5u << 20; /* 12 of them in a lap */
  struct prelux_names_at at[N];
  for (uint64_t i = 0; i < N; i++)
  {
    assert_int_equal(put(i, bytes, &at[i]), 0);
    assert_int_equal(get(i, &at[i]), 1);
    for (uint64_t k = i > 14 ? i - 14 : 0; k <= i; k++)
    {
      int there = get(k, &at[k]);
      assert_true(there == 1 || (there == 0 && i - k >= 11));
      assert_true(there == 0 || i - k < 13);
    }
  }
}

static void test_too_large(void **state)
{
  struct prelux_names_at at;
  assert_int_equal(put(1, PRELUX_NAMES_MAX - sizeof(struct prelux_names_head) + 8, &at), -EFBIG);
  assert_int_equal(put(2, PRELUX_NAMES_MAX - sizeof(struct prelux_names_head), &at), 0);
  assert_int_equal(get(2, &at), 1);
}

static uint64_t disk;

static int small_disk(int fd, int mode, off_t off, off_t len)
{
  if ((uint64_t)(off + len) <= disk)
    return 0; /* sparse: the test does not fill a disk */
  errno = ENOSPC;
  return -1;
}

static void test_full_disk(void **state)
{
  struct prelux_names_at first, second, third;
  int (*was)(int, int, off_t, off_t) = prelux_os.fallocate;
  prelux_os.fallocate = small_disk;
  disk = 12u << 20;
  assert_int_equal(put(1, 8u << 20, &first), 0);
  assert_int_equal(put(2, 8u << 20, &second), 0); /* over the first */
  assert_int_equal(put(3, 16u << 20, &third), -ENOSPC);
  prelux_os.fallocate = was;
  assert_int_equal(get(1, &first), 0);
  assert_int_equal(get(2, &second), 1);
}

static void test_slot(void **state)
{
  struct prelux_names_at at, got;
  struct prelux_attr dir = {.type = PRELUX_DIR, .ino = 5, .valid_ns = UINT64_MAX}, attr;
  assert_int_equal(put(7, 4096, &at), 0);
  prelux_index_put(w, 1, "a", 1, &dir, 0);
  assert_int_equal(prelux_index_get_names(&index_reader, runtime, 1, "a", 1, &got), 0);
  prelux_index_put_names(w, 1, "a", 1, &at, UINT64_MAX);
  assert_int_equal(prelux_index_get_names(&index_reader, runtime, 1, "a", 1, &got), 1);
  assert_memory_equal(&at, &got, sizeof at);
  assert_int_equal(prelux_index_get(&index_reader, runtime, 1, "a", 1, &attr), 1);
  assert_int_equal(attr.ino, 5);
  assert_int_equal(prelux_index_get_names(&index_reader, runtime, 2, "a", 1, &got), 0);
  prelux_index_drop_names(w, 1, "a", 1);
  assert_int_equal(prelux_index_get_names(&index_reader, runtime, 1, "a", 1, &got), 0);
  prelux_index_put_names(w, 1, "a", 1, &at, 1); /* long ago */
  assert_int_equal(prelux_index_get_names(&index_reader, runtime, 1, "a", 1, &got), 0);
}

static void test_next_daemon(void **state)
{
  struct prelux_names_at old, new;
  assert_int_equal(put(1, 4096, &old), 0);
  assert_int_equal(get(1, &old), 1);
  prelux_index_writer_free(w);
  assert_int_equal(prelux_index_writer_create(runtime, 1024, 4096, &w), 0);
  assert_int_equal(put(2, 4096, &new), 0);
  assert_int_equal(get(2, &new), 1);
  assert_int_equal(get(1, &old), 0); /* the same place, another file */
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct prelux_names_at shared; /* of listing `turn`, under lock */
static uint64_t turn;
static _Atomic int stop;

static void *read_on(void *arg)
{
  uint64_t *whole = arg;
  while (!atomic_load(&stop))
  {
    pthread_mutex_lock(&lock);
    uint64_t i = turn;
    struct prelux_names_at at = shared;
    pthread_mutex_unlock(&lock);
    int rc = get(i, &at);
    if (rc < 0)
      return arg;
    *whole += rc == 1;
  }
  return NULL;
}

/* The writer overtakes readers in the middle of their copies. */
static void test_overtaken(void **state)
{
  uint64_t whole = 0;
  pthread_t t;
  void *ret;
  assert_int_equal(put(0, 12u << 20, &shared), 0);
  turn = 0;
  atomic_store(&stop, 0);
  assert_int_equal(pthread_create(&t, NULL, read_on, &whole), 0);
  for (uint64_t i = 1; i < 60; i++)
  {
    struct prelux_names_at at;
    assert_int_equal(put(i, 12u << 20, &at), 0);
    pthread_mutex_lock(&lock);
    shared = at;
    turn = i;
    pthread_mutex_unlock(&lock);
  }
  atomic_store(&stop, 1);
  pthread_join(t, &ret);
  assert_null(ret);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_circles, setup, teardown),    cmocka_unit_test_setup_teardown(test_too_large, setup, teardown),
      cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),  cmocka_unit_test_setup_teardown(test_slot, setup, teardown),
      cmocka_unit_test_setup_teardown(test_next_daemon, setup, teardown), cmocka_unit_test_setup_teardown(test_overtaken, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
