/* The shared index: what is put is got, nothing else, while it grows, is replaced, and its writer dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/index/reader.h"
#include "lib/index/writer.h"

static char runtime[64];

static int setup(void **state)
{
  strcpy(runtime, "/tmp/prelux-index-XXXXXX");
  return mkdtemp(runtime) ? 0 : -1;
}

static int teardown(void **state)
{
  char cmd[128];
  snprintf(cmd, sizeof cmd, "rm -rf '%s'", runtime);
  return system(cmd) == 0 ? 0 : -1;
}

static uint64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* All fields follow from i, so that a torn slot shows. */
static struct prelux_attr attr_of(uint64_t i)
{
  return (struct prelux_attr){.type = PRELUX_FILE, .mode = 0644, .size = i * 3, .mtime_ns = (int64_t)i * 5, .ino = i + 7, .valid_ns = UINT64_MAX};
}

static void put_number(struct prelux_index_writer *w, uint64_t name, uint64_t value)
{
  char path[32];
  int n = snprintf(path, sizeof path, "d/%lu", (unsigned long)name);
  struct prelux_attr a = attr_of(value);
  prelux_index_put(w, 1, path, (size_t)n, &a, 99);
}

static int get_number(struct prelux_index_reader *r, uint64_t name, struct prelux_attr *a)
{
  char path[32];
  int n = snprintf(path, sizeof path, "d/%lu", (unsigned long)name);
  return prelux_index_get(r, runtime, 1, path, (size_t)n, a);
}

static void put_and_get(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr a, b = attr_of(11);
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 0);
  prelux_index_put(w, 1, "x", 1, &b, 99);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 1);
  assert_int_equal(a.size, 33);
  assert_int_equal(a.mode, 0644);
  assert_int_equal(a.ino, 18);
  assert_int_equal(a.cached, 0);
  assert_int_equal(prelux_index_get(&r, runtime, 2, "x", 1, &a), 0);
  b.type = PRELUX_NONE;
  prelux_index_put(w, 1, "x", 1, &b, 99);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 1);
  assert_int_equal(a.type, PRELUX_NONE);
  prelux_index_drop(w, 1, "x", 1);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 0);
  prelux_index_writer_free(w);
}

static void expiry(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr a, b = attr_of(1);
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  b.valid_ns = now_ns() - 50000000;
  prelux_index_put(w, 1, "x", 1, &b, 0);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 0);
  b.valid_ns = now_ns() + 60000000000ull;
  prelux_index_put(w, 1, "x", 1, &b, 0);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 1);
  b.valid_ns = 0;
  prelux_index_put(w, 1, "x", 1, &b, 0);
  assert_int_equal(prelux_index_get(&r, runtime, 1, "x", 1, &a), 0);
  prelux_index_writer_free(w);
}

static void inode_entries(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr a, b = attr_of(4);
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  b.cached = 1;
  b.cache_ino = 1234;
  b.cache_dev = 56;
  prelux_index_put(w, 1, "x", 1, &b, 78);
  assert_int_equal(prelux_index_get_inode(&r, runtime, 56, 1234, &a), 1);
  assert_int_equal(a.ino, b.ino);
  assert_int_equal(a.cache_dev, 78);
  assert_int_equal(prelux_index_get_inode(&r, runtime, 57, 1234, &a), 0);
  prelux_index_drop_inode(w, 56, 1234);
  assert_int_equal(prelux_index_get_inode(&r, runtime, 56, 1234, &a), 0);
  prelux_index_writer_free(w);
}

static void grows_under_a_reader(void **state)
{
  enum { COUNT = 20000 };
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr a;
  assert_int_equal(prelux_index_writer_create(runtime, 64, 65536, &w), 0);
  for (uint64_t i = 0; i < COUNT; i++)
  {
    put_number(w, i, i);
    assert_int_equal(get_number(&r, i, &a), 1);
    assert_int_equal(a.size, i * 3);
  }
  for (uint64_t i = 0; i < COUNT; i++)
    assert_int_equal(get_number(&r, i, &a), 1);
  prelux_index_writer_free(w);
}

/* At its limit it forgets, it never lies and never fails. */
static void full_index_forgets(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr a;
  int found = 0;
  assert_int_equal(prelux_index_writer_create(runtime, 256, 256, &w), 0);
  for (uint64_t i = 0; i < 5000; i++)
  {
    put_number(w, i, i);
    assert_int_equal(get_number(&r, i, &a), 1);
  }
  for (uint64_t i = 0; i < 5000; i++)
    if (get_number(&r, i, &a))
    {
      assert_int_equal(a.size, i * 3);
      found++;
    }
  assert_in_range(found, 100, 256);
  prelux_index_writer_free(w);
}

/* Links are found however full it gets, and are counted in every file that takes its place. */
static void links_stay(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0};
  struct prelux_attr link = {.type = PRELUX_LINK, .mode = 0777, .size = 4, .ino = 5, .valid_ns = UINT64_MAX}, a;
  assert_int_equal(prelux_index_writer_create(runtime, 64, 256, &w), 0);
  for (uint64_t i = 0; i < 20000; i++)
  {
    if (i < 20)
    {
      char path[32];
      int n = snprintf(path, sizeof path, "l/%lu", (unsigned long)i);
      prelux_index_count_links(w, 1);
      prelux_index_put(w, 1, path, (size_t)n, &link, 99);
    }
    put_number(w, i, i);
  }
  assert_int_equal(prelux_index_links(&r, runtime), 20);
  for (unsigned i = 0; i < 20; i++)
  {
    char path[32];
    int n = snprintf(path, sizeof path, "l/%u", i);
    assert_int_equal(prelux_index_get(&r, runtime, 1, path, (size_t)n, &a), 1);
    assert_true(a.type == PRELUX_LINK && a.size == 4 && a.ino == 5 && a.valid_ns == UINT64_MAX);
  }
  prelux_index_count_links(w, -20);
  assert_int_equal(prelux_index_links(&r, runtime), 0);
  prelux_index_writer_free(w);
}

static void next_daemon_takes_over(void **state)
{
  struct prelux_index_writer *w, *w2;
  struct prelux_index_reader r = {0};
  struct prelux_attr a;
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  put_number(w, 1, 1);
  assert_int_equal(get_number(&r, 1, &a), 1);
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w2), 0); /* the first was killed */
  assert_int_equal(get_number(&r, 1, &a), 0);
  put_number(w2, 2, 2);
  assert_int_equal(get_number(&r, 2, &a), 1);
  prelux_index_writer_free(w2);
  usleep(30000);
  assert_int_equal(get_number(&r, 2, &a), 0);
  prelux_index_writer_free(w);
}

static void *read_all_the_time(void *arg)
{
  struct prelux_index_reader r = {0};
  atomic_bool *stop = arg;
  struct prelux_attr a;
  uintptr_t torn = 0;
  while (!atomic_load(stop))
    for (uint64_t i = 0; i < 8; i++)
      if (get_number(&r, i, &a))
        torn += a.size % 3 != 0 || a.mtime_ns != (int64_t)(a.size / 3 * 5) || a.ino != a.size / 3 + 7;
  return (void *)torn;
}

/* Writers in a child are killed at any instant; readers here never see a mixture of two writes. */
static void killed_writers_tear_nothing(void **state)
{
  pthread_t readers[2];
  atomic_bool stop = false;
  for (int i = 0; i < 2; i++)
    pthread_create(&readers[i], NULL, read_all_the_time, &stop);
  for (int round = 0; round < 20; round++)
  {
    pid_t pid = fork();
    if (pid == 0)
    {
      struct prelux_index_writer *w;
      if (prelux_index_writer_create(runtime, 64, 1024, &w) < 0)
        _exit(1);
      for (uint64_t i = 0;; i++)
        put_number(w, i % 8, i);
    }
    usleep(20000);
    kill(pid, SIGKILL);
    int status;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 2; i++)
  {
    void *torn;
    pthread_join(readers[i], &torn);
    assert_null(torn);
  }
}

static void bad_files_are_no_index(void **state)
{
  struct prelux_index_reader r = {0};
  struct prelux_attr a;
  char path[96];
  snprintf(path, sizeof path, "%s/index", runtime);
  for (int size = 0; size < 300; size += 37)
  {
    FILE *f = fopen(path, "w");
    for (int i = 0; i < size; i++)
      fputc(i * 7, f);
    fclose(f);
    assert_int_equal(get_number(&r, 1, &a), 0);
    usleep(21000);
  }
}

static void fill_file(const char *path, int byte, off_t from)
{
  struct stat st;
  chmod(path, 0600);
  int fd = open(path, O_RDWR);
  assert_int_equal(fstat(fd, &st), 0);
  for (off_t at = from; at < st.st_size; at++)
    assert_int_equal(pwrite(fd, &(char){(char)byte}, 1, at), 1);
  close(fd);
}

/* Somebody writes over the file while it is mapped: neither side leaves its map, and nothing is found that was not put. */
static void garbage_leads_nowhere(void **state)
{
  static const unsigned char bytes[] = {0xff, 0x00, 0x55, 0x80};
  char path[96];
  snprintf(path, sizeof path, "%s/index", runtime);
  for (size_t i = 0; i < sizeof bytes; i++)
    for (int retired = 0; retired < 2; retired++)
    {
      struct prelux_index_writer *w;
      struct prelux_index_reader r = {0};
      struct prelux_attr a;
      assert_int_equal(prelux_index_writer_create(runtime, 64, 1024, &w), 0);
      put_number(w, 1, 1);
      assert_int_equal(get_number(&r, 1, &a), 1);
      /* Without the head's own mark readers go on looking: its words about size and seed are garbage then. */
      fill_file(path, bytes[i], 0);
      if (!retired)
      {
        int fd = open(path, O_RDWR);
        assert_int_equal(pwrite(fd, "\0\0\0\0", 4, (off_t)offsetof(struct prelux_index, retired)), 4);
        close(fd);
      }
      for (uint64_t n = 0; n < 200; n++)
        assert_int_equal(get_number(&r, n, &a), 0);
      for (uint64_t n = 0; n < 5000; n++)
        put_number(w, n, n);
      prelux_index_drop(w, 1, "d/1", 3);
      prelux_index_writer_free(w);
    }
}

/* A file that outlived a boot: its times are of another clock. */
static void other_boots_are_not_believed(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader same = {0}, other = {0}, unknown = {0};
  struct prelux_attr a;
  char path[96], id[PRELUX_BOOT_ID] = "";
  snprintf(path, sizeof path, "%s/index", runtime);
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  put_number(w, 1, 1);
  assert_int_equal(get_number(&same, 1, &a), 1);
  chmod(path, 0600);
  int fd = open(path, O_RDWR);
  off_t at = (off_t)offsetof(struct prelux_index, boot);
  assert_int_equal(pread(fd, id, sizeof id, at), sizeof id);
  assert_int_equal(strlen(id), 36);
  id[0] = id[0] == 'a' ? 'b' : 'a';
  assert_int_equal(pwrite(fd, id, sizeof id, at), sizeof id);
  assert_int_equal(get_number(&other, 1, &a), 0);
  assert_int_equal(pwrite(fd, "", 1, at), 1); /* no /proc where the daemon is */
  assert_int_equal(get_number(&unknown, 1, &a), 1);
  close(fd);
  prelux_index_writer_free(w);
}

/* Who has made the runtime folder anew, in /tmp, could say anything of files, and cut the map under whoever reads it. */
static void somebody_elses_is_no_index(void **state)
{
  struct prelux_index_writer *w;
  struct prelux_index_reader r = {0}, again = {0};
  struct prelux_attr a;
  char path[96];
  if (geteuid() != 0)
    skip();
  assert_int_equal(prelux_index_writer_create(runtime, 64, 64, &w), 0);
  put_number(w, 1, 11);
  snprintf(path, sizeof path, "%s/index", runtime);
  assert_int_equal(chown(path, 54321, 54321), 0);
  assert_int_equal(get_number(&r, 1, &a), 0);
  assert_int_equal(chown(runtime, 54321, 54321), 0); /* his own folder, but /tmp is everybody's */
  assert_int_equal(get_number(&(struct prelux_index_reader){0}, 1, &a), 0);
  assert_int_equal(chown(path, 0, 0), 0);
  assert_int_equal(get_number(&again, 1, &a), 1);
  prelux_index_writer_free(w);
}

/* Not even by its owner, as long as he does not change the mode: a program that has it mapped would die of SIGBUS. */
static void nobody_writes_to_it(void **state)
{
  pid_t pid = fork();
  if (pid == 0)
  {
    struct prelux_index_writer *w, *next;
    struct prelux_index_reader r = {0};
    struct prelux_attr a;
    char path[96];
    if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
      _exit(2);
    strcpy(runtime, "/tmp/prelux-index-XXXXXX");
    if (!mkdtemp(runtime) || prelux_index_writer_create(runtime, 64, 64, &w) < 0)
      _exit(3);
    put_number(w, 1, 1);
    snprintf(path, sizeof path, "%s/index", runtime);
    int opened = open(path, O_RDWR) >= 0 || open(path, O_WRONLY | O_TRUNC) >= 0 || truncate(path, 0) == 0;
    int found = get_number(&r, 1, &a);
    if (prelux_index_writer_create(runtime, 64, 64, &next) < 0)
      _exit(4);
    int retired = get_number(&r, 1, &a) == 0; /* the next one can all the same */
    prelux_index_writer_free(w);
    prelux_index_writer_free(next);
    snprintf(path, sizeof path, "rm -rf '%s'", runtime);
    _exit(system(path) != 0 || opened || !found || !retired);
  }
  int status;
  assert_int_equal(waitpid(pid, &status, 0), pid);
  assert_int_equal(status, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
  const struct CMUnitTest tests[] = {T(put_and_get), T(expiry), T(inode_entries), T(grows_under_a_reader), T(full_index_forgets),
                                     T(links_stay), T(next_daemon_takes_over), T(killed_writers_tear_nothing),
                                     T(bad_files_are_no_index), T(garbage_leads_nowhere), T(other_boots_are_not_believed),
                                     T(nobody_writes_to_it), T(somebody_elses_is_no_index)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
