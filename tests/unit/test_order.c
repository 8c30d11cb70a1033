/* lib/store/order: against the rule written down plainly, by random histories; and how it grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/store/order.h"

#define MODEL 400

struct plain
{
  int64_t id;
  char path[32], to[32];
  int two, taken;
};

static struct plain model[MODEL];
static size_t n_model;

/* One is the other, or lies below it. */
static int touch(const char *a, const char *b)
{
  size_t n = strlen(a) < strlen(b) ? strlen(a) : strlen(b);
  const char *longer = strlen(a) < strlen(b) ? b : a;
  return memcmp(a, b, n) == 0 && (n == 0 || longer[n] == 0 || longer[n] == '/');
}

static int conflict(const struct plain *a, const struct plain *b)
{
  return touch(a->path, b->path) || (a->two && touch(a->to, b->path)) || (b->two && touch(a->path, b->to)) ||
         (a->two && b->two && touch(a->to, b->to));
}

static int blocked(size_t i)
{
  for (size_t k = 0; k < i; k++)
    if (conflict(&model[k], &model[i]))
      return 1;
  return 0;
}

static void random_path(unsigned *seed, char out[32])
{
  static const char *const names[] = {"a", "b", "ab", "c"};
  int depth = rand_r(seed) % 4;
  out[0] = 0;
  if (rand_r(seed) % 60 == 0)
    return;
  for (int i = 0; i <= depth; i++)
  {
    strcat(out, i ? "/" : "");
    strcat(out, names[rand_r(seed) % 4]);
  }
}

static void check(const struct prelux_order *o)
{
  size_t n = 0, seen;
  for (size_t i = 0; i < n_model; i++)
    n += (size_t)blocked(i);
  assert_int_equal(prelux_order_count(o, &seen), n_model);
  assert_int_equal(seen, n);
}

static void end_one(struct prelux_order *o, size_t i)
{
  assert_true(prelux_order_remove(o, model[i].id));
  assert_false(prelux_order_remove(o, model[i].id));
  memmove(&model[i], &model[i + 1], (--n_model - i) * sizeof *model);
}

static void take_one(struct prelux_order *o)
{
  int64_t id = prelux_order_take(o);
  size_t i = 0, waiting = 0;
  for (size_t k = 0; k < n_model; k++)
    waiting += !model[k].taken && !blocked(k);
  if (waiting == 0)
  {
    assert_int_equal(id, 0);
    return;
  }
  while (i < n_model && model[i].id != id)
    i++;
  assert_true(i < n_model && !model[i].taken && !blocked(i));
  model[i].taken = 1;
}

static void test_random_histories(void **state)
{
  (void)state;
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  for (int history = 0; history < 60; history++)
  {
    struct prelux_order *o;
    int64_t id = 0;
    assert_int_equal(prelux_order_create(&o), 0);
    n_model = 0;
    for (int step = 0; step < 500; step++)
    {
      int what = rand_r(&seed) % 10;
      if (what < 4 && n_model < MODEL)
      {
        struct plain *p = &model[n_model++];
        *p = (struct plain){.id = ++id, .two = rand_r(&seed) % 4 == 0};
        random_path(&seed, p->path);
        random_path(&seed, p->to);
        assert_int_equal(prelux_order_add(o, p->id, p->path, p->two ? p->to : NULL), 0);
        assert_int_equal(prelux_order_add(o, p->id, "x", NULL), -17);
      }
      else if (what < 7)
        take_one(o);
      else if (n_model)
      {
        size_t i = (size_t)rand_r(&seed) % n_model;
        if (what == 7 && model[i].taken)
        {
          prelux_order_back(o, model[i].id);
          model[i].taken = 0;
        }
        else if (model[i].taken || what == 8) /* done; or given up before its turn */
          end_one(o, i);
      }
      check(o);
    }
    prelux_order_free(o);
  }
}

/* One that found no place when it was its turn, for want of memory: what was done later, and is not being done already, waits for it. */
static void test_a_late_one(void **state)
{
  struct prelux_order *o;
  size_t blocked;
  (void)state;
  assert_int_equal(prelux_order_create(&o), 0);
  assert_int_equal(prelux_order_add(o, 2, "a", NULL), 0);
  assert_int_equal(prelux_order_add(o, 3, "a/b", "c"), 0);
  assert_int_equal(prelux_order_add(o, 1, "a", NULL), 0);
  assert_int_equal(prelux_order_count(o, &blocked), 3);
  assert_int_equal(blocked, 2);
  for (int64_t id = 1; id <= 3; id++)
  {
    assert_int_equal(prelux_order_take(o), id);
    assert_int_equal(prelux_order_take(o), 0);
    assert_true(prelux_order_remove(o, id));
  }
  assert_int_equal(prelux_order_add(o, 9, "a", NULL), 0);
  assert_int_equal(prelux_order_take(o), 9);
  assert_int_equal(prelux_order_add(o, 7, "a", NULL), 0); /* 9 is under way */
  prelux_order_back(o, 9);
  assert_int_equal(prelux_order_add(o, 8, "a", NULL), 0); /* behind 7, which waits for 9 */
  assert_int_equal(prelux_order_take(o), 9);
  assert_true(prelux_order_remove(o, 9));
  assert_int_equal(prelux_order_take(o), 7);
  assert_int_equal(prelux_order_take(o), 0);
  assert_true(prelux_order_remove(o, 7));
  assert_int_equal(prelux_order_take(o), 8);
  assert_true(prelux_order_remove(o, 8));
  assert_int_equal(prelux_order_count(o, &blocked), 0);
  assert_int_equal(blocked, 0);
  prelux_order_free(o);
}

static void test_a_retry_goes_behind(void **state)
{
  struct prelux_order *o;
  (void)state;
  assert_int_equal(prelux_order_create(&o), 0);
  assert_int_equal(prelux_order_add(o, 1, "a", NULL), 0);
  assert_int_equal(prelux_order_add(o, 2, "b", NULL), 0);
  assert_int_equal(prelux_order_add(o, 3, "a", "c"), 0);
  assert_int_equal(prelux_order_take(o), 1);
  prelux_order_back(o, 1);
  assert_int_equal(prelux_order_take(o), 2);
  assert_int_equal(prelux_order_take(o), 1);
  assert_int_equal(prelux_order_take(o), 0);
  assert_true(prelux_order_remove(o, 1));
  assert_int_equal(prelux_order_take(o), 3);
  prelux_order_free(o);
}

/* 200,000 files in one folder between its mkdir and its rmdir: no step may look at all the others. */
static void test_many_in_one_folder(void **state)
{
  struct prelux_order *o;
  char path[40];
  size_t blocked_now;
  struct timespec begin, now;
  (void)state;
  assert_int_equal(prelux_order_create(&o), 0);
  clock_gettime(CLOCK_MONOTONIC, &begin);
  assert_int_equal(prelux_order_add(o, 1, "d", NULL), 0);
  for (int64_t i = 2; i < 200002; i++)
  {
    snprintf(path, sizeof path, "d/%lld", (long long)i);
    assert_int_equal(prelux_order_add(o, i, path, NULL), 0);
  }
  assert_int_equal(prelux_order_add(o, 200002, "d", NULL), 0);
  assert_int_equal(prelux_order_take(o), 1);
  assert_int_equal(prelux_order_take(o), 0);
  assert_true(prelux_order_remove(o, 1));
  for (int64_t i = 2; i < 200002; i++)
  {
    assert_int_equal(prelux_order_take(o), i);
    assert_true(prelux_order_remove(o, i));
  }
  assert_int_equal(prelux_order_take(o), 200002);
  assert_int_equal(prelux_order_count(o, &blocked_now), 1);
  assert_int_equal(blocked_now, 0);
  prelux_order_free(o);
  clock_gettime(CLOCK_MONOTONIC, &now);
  assert_in_range(now.tv_sec - begin.tv_sec, 0, 60); /* by squares it would be hours */
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_histories),
      cmocka_unit_test(test_a_late_one),
      cmocka_unit_test(test_a_retry_goes_behind),
      cmocka_unit_test(test_many_in_one_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
