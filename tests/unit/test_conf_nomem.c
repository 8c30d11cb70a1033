/* Memory runs out at the 1st, 2nd, 3rd, ... allocation of a load: each time the load says so and leaves nothing behind.
 * Needs libc's own allocator: skipped in a sanitizer build, whose allocator cannot be put aside. */
#include "conf_util.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)

static void sweep(void **state)
{
  print_message("SKIP: the sanitizer owns malloc\n");
  skip();
}

#else

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static long countdown = -1; /* allocations until one fails; -1: none does */
static long live;

static bool fails(void)
{
  if (countdown < 0 || countdown-- > 0)
    return false;
  errno = ENOMEM;
  return true;
}

void *malloc(size_t n)
{
  if (fails())
    return NULL;
  live++;
  return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
  if (fails())
    return NULL;
  live++;
  return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
  if (fails())
    return NULL;
  live += p == NULL;
  return __libc_realloc(p, n);
}

void free(void *p)
{
  live -= p != NULL;
  __libc_free(p);
}

/* The load of `text` with its n-th allocation failing. True: there was no n-th. */
static bool load_with(long n, bool lenient, int whole, const char *whole_report)
{
  char *env[] = {"HOME=/home/me", "A=/va", NULL};
  struct prelux_conf_input in = {.file = conf_file, .cwd = scratch, .env = env};
  struct prelux_conf *c = NULL;
  struct prelux_conf_error err = {NULL};
  long before = live;
  countdown = n;
  int status = prelux_conf_load(&in, lenient, &c, &err);
  bool beyond = countdown >= 0;
  countdown = -1;
  /* libc does without in places (qsort): then the result is the whole one. */
  if (status != -ENOMEM && (status != whole || strcmp(err.text ? err.text : "", whole_report) != 0))
    fail_msg("allocation %ld: status %d, report %s", n, status, err.text ? err.text : "(none)");
  if (status == -ENOMEM && (c || err.text))
    fail_msg("allocation %ld: something is given back beside -ENOMEM", n);
  free(err.text);
  prelux_conf_free(c);
  if (live != before)
    fail_msg("allocation %ld: %ld left behind", n, live - before);
  return beyond;
}

static void sweep_text(const char *text, int whole)
{
  char *env[] = {"HOME=/home/me", "A=/va", NULL}, *report = NULL;
  struct prelux_conf *c = NULL;
  assert_int_equal(load_text(text, env, false, &c, &report), whole);
  prelux_conf_free(c);
  for (int lenient = 0; lenient < 2; lenient++)
  {
    long n = 0;
    while (!load_with(n, lenient, whole, report ? report : ""))
      n++;
    assert_true(n > 20);
  }
  free(report);
}

static void sweep(void **state)
{
  put_file("tok", "secret\n");
  put_file("aux_data/storage_account/vig.yaml", "_base_: base.yaml\naccount_name: a\n");
  put_file("aux_data/storage_account/base.yaml", "container_name: c\naccount_key: k\n");
  sweep_text("version: 1\nbackends:\n  a: &a {type: http, url: \"http://h/\", headers: {A: \"${A}\"}, bearer: file:tok}\n  b: {<<: *a}\n"
             "  c: {type: alluxio, root: /x, workers: [w, v], under_store: a}\n"
             "mappings:\n - {local: \"${A}/x\", remote: \"a:x\", cache: ~/c, freshness: {max_age: 1s}}\n - {local: s3://b, remote: \"b:\"}\n",
             0);
  sweep_text("- {local: data, remote: x, cache: ~/c, storage_account: vig}\n", 0);
  sweep_text("version: 2\nx: [\"${NOPE}\"]\nbackends: {a: {type: s3}}\nmappings:\n  - {local: /a, remote: b}\n  - {local: /a, local: /b}\n", -EINVAL);
  sweep_text("version: 1\nbroken: [\n  - local: /a\n  - {local: \"${A}\", x: y}\n", -EINVAL);
}

#endif

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(sweep)};
  return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
