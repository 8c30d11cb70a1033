/* Backend file, writing: threads against each other, and against who swaps folders. */
#include "tests/unit/file_write_rig.h"

/* Threads: a counter in a file, added to by whoever replaces the version read. Nothing may be lost. */

#define THREADS 4
#define ADDED 25

static int take(void *arg, uint64_t off, const void *buf, size_t len)
{
  assert_true(off + len < 32);
  memcpy((char *)arg + off, buf, len);
  return 0;
}

static int add_one(int fd)
{
  char text[32] = "";
  struct prelux_object seen;
  struct prelux_put how = {.cond.must = PRELUX_MUST_BE_VERSION, .set = {.which = PRELUX_SET_MTIME}};
  if (b->ops->stat(b, "f", &seen, NULL) < 0 || b->ops->read(b, "f", &seen, 0, seen.size, take, text, NULL) < 0)
    return -ESTALE;
  int n = snprintf(text, sizeof(text), "%09ld", atol(text) + 1);
  if (pwrite(fd, text, (size_t)n, 0) != n)
    return -EIO;
  memcpy(how.cond.version, seen.version, sizeof(how.cond.version));
  return w->put(b, "f", fd, (uint64_t)n, &how, &seen, NULL);
}

static void *count(void *arg)
{
  int fd = memfd_create("count", MFD_CLOEXEC);
  for (int added = 0; added < ADDED;)
  {
    int rc = add_one(fd);
    if (rc != 0 && rc != -ESTALE)
      return "failed";
    added += rc == 0;
  }
  close(fd);
  return NULL;
}

static void test_threads_lose_nothing(void **state)
{
  pthread_t threads[THREADS];
  furnish();
  put_file(at("f"), "000000000");
  for (int i = 0; i < THREADS; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
  for (int i = 0; i < THREADS; i++)
  {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
  char text[32] = "";
  int fd = open(at("f"), O_RDONLY);
  assert_int_equal(read(fd, text, sizeof(text)), 9);
  close(fd);
  assert_int_equal(atoi(text), THREADS * ADDED);
}

/* Renames in both directions between two folders at once: nobody waits for ever, and nothing is lost. */
static void *to_and_fro(void *arg)
{
  struct prelux_object moved;
  const char *from = arg ? "d/a" : "e/b", *to = arg ? "e/a" : "d/b";
  for (int i = 0; i < 100; i++)
  {
    int rc = w->rename(b, from, to, 0, &moved, NULL);
    if (rc == 0)
      rc = w->rename(b, to, from, 0, &moved, NULL);
    if (rc < 0)
      return "failed";
  }
  return NULL;
}

static void test_renames_against_each_other(void **state)
{
  pthread_t threads[2];
  furnish();
  put_file(at("d/a"), "a");
  put_file(at("e/b"), "b");
  for (int i = 0; i < 2; i++)
    assert_int_equal(pthread_create(&threads[i], NULL, to_and_fro, i ? root : NULL), 0);
  for (int i = 0; i < 2; i++)
  {
    void *failed;
    pthread_join(threads[i], &failed);
    assert_null(failed);
  }
  assert_true(access(at("d/a"), F_OK) == 0 && access(at("e/b"), F_OK) == 0);
}

/* A folder is swapped against a link that leads out, again and again, while others write below it. */
static atomic_bool over;

static void *swap_for_ever(void *arg)
{
  while (!atomic_load(&over))
  {
    rename(at("d"), at("aside"));
    rename(at("link"), at("d"));
    rename(at("d"), at("link"));
    rename(at("aside"), at("d"));
  }
  return NULL;
}

static void test_a_race_never_writes_outside(void **state)
{
  char outside[PATH_MAX];
  pthread_t thread;
  furnish();
  snprintf(outside, sizeof(outside), "%s/outside", top);
  mkdir(outside, 0755);
  assert_int_equal(symlink("../outside", at("link")), 0);
  atomic_store(&over, false);
  pthread_create(&thread, NULL, swap_for_ever, NULL);
  int good = 0;
  for (int i = 0; i < 600 || (good < 20 && i < 1000000); i++) /* the other thread may sleep where every put fails */
  {
    struct prelux_put how = {0};
    good += w->put(b, "d/f", source, 10, &how, &obj, NULL) == 0;
    w->mkdir(b, "d/x", 0755, NULL);
    w->rename(b, "d/f", "d/y", 0, &obj, NULL);
    w->set_attr(b, "d", &any, &set, &obj, NULL);
    w->remove(b, "d/y", &any, NULL);
  }
  atomic_store(&over, true);
  pthread_join(thread, NULL);
  struct stat st;
  assert_true(good > 0);
  assert_true(stat(outside, &st) == 0 && (st.st_mode & 0777) == 0755);
  assert_int_equal(rmdir(outside), 0); /* nothing is in it */
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      T(test_threads_lose_nothing),
      T(test_renames_against_each_other),
      T(test_a_race_never_writes_outside),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
