/* The table: which path belongs to which mapping, in both orders of precedence. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "daemon/measure.h"
#include "lib/map/build.h"
#include "lib/map/match.h"

#define MANY 1000

static struct prelux_table *build(const char *const *locals, size_t n, uint32_t flags)
{
  struct prelux_build_mapping *m = calloc(n, sizeof *m);
  struct prelux_table *t = NULL;
  char (*trees)[64] = calloc(n, sizeof *trees);
  for (size_t i = 0; i < n; i++)
  {
    snprintf(trees[i], sizeof trees[i], "/cache/t%zu", i);
    m[i] = (struct prelux_build_mapping){.local = locals[i], .tree = trees[i], .object = "", .remote = "r:/", .tree_id = i + 1};
  }
  struct prelux_build in = {.mappings = m, .n_mappings = n, .flags = flags, .source = "/c.yaml", .cwd = "/"};
  assert_int_equal(prelux_table_build(&in, &t, NULL), 0);
  assert_int_equal(prelux_table_check(t, t->bytes), 0);
  free(m);
  free(trees);
  return t;
}

static void expect(const struct prelux_table *t, const char *path, enum prelux_match_kind kind, uint32_t index, const char *rel)
{
  struct prelux_match m;
  prelux_table_match(t, path, false, &m);
  if (m.kind != kind)
    fail_msg("%s: kind %d, expected %d", path, (int)m.kind, (int)kind);
  if (kind == PRELUX_MATCH_MAPPED)
  {
    if (m.index != index || strcmp(m.rel, rel) != 0)
      fail_msg("%s: mapping %u rel '%s', expected %u '%s'", path, m.index, m.rel, index, rel);
  }
  if (kind != PRELUX_MATCH_NONE)
    assert_true(prelux_table_maybe(t, path) && (!path[1] || prelux_table_letters(t) >> (path[1] & 63) & 1));
}

static void longest_prefix_wins(void **state)
{
  static const char *const locals[] = {"/mnt/lake", "/mnt/lake/deep/er", "/data"};
  struct prelux_table *t = build(locals, 3, 0);
  expect(t, "/mnt/lake", PRELUX_MATCH_MAPPED, 0, "");
  expect(t, "/mnt/lake/x/y", PRELUX_MATCH_MAPPED, 0, "x/y");
  expect(t, "/mnt/lake/deep", PRELUX_MATCH_MAPPED, 0, "deep");
  expect(t, "/mnt/lake/deep/er", PRELUX_MATCH_MAPPED, 1, "");
  expect(t, "/mnt/lake/deep/er/z", PRELUX_MATCH_MAPPED, 1, "z");
  expect(t, "/mnt/lake/deep/err", PRELUX_MATCH_MAPPED, 0, "deep/err");
  expect(t, "/mnt", PRELUX_MATCH_ANCESTOR, 0, "");
  expect(t, "/", PRELUX_MATCH_ANCESTOR, 0, "");
  expect(t, "/mnt/lakes", PRELUX_MATCH_NONE, 0, "");
  expect(t, "/mn", PRELUX_MATCH_NONE, 0, "");
  expect(t, "/database/a", PRELUX_MATCH_NONE, 0, "");
  struct prelux_match m;
  prelux_table_match(t, "/mnt/lake/deep", false, &m);
  assert_true(m.has_below);
  prelux_table_match(t, "/mnt/lake/x", false, &m);
  assert_false(m.has_below);
  free(t);
}

/* PROTOCOLS 1.3: the first entry in list order, not the longest; "/" matches only itself. */
static void azfuse_first_match_wins(void **state)
{
  static const char *const locals[] = {"/w/data", "/w/data/sub", "/", "/w/data"};
  struct prelux_table *t = build(locals, 4, PRELUX_TABLE_FIRST_MATCH);
  expect(t, "/w/data/sub/a", PRELUX_MATCH_MAPPED, 0, "sub/a");
  expect(t, "/w/data", PRELUX_MATCH_MAPPED, 0, "");
  expect(t, "/w/database/a", PRELUX_MATCH_NONE, 0, "");
  expect(t, "/etc/x", PRELUX_MATCH_NONE, 0, "");
  expect(t, "/", PRELUX_MATCH_MAPPED, 2, "");
  free(t);
  static const char *const turned[] = {"/w/data/sub", "/w/data"};
  t = build(turned, 2, PRELUX_TABLE_FIRST_MATCH);
  expect(t, "/w/data/sub/a", PRELUX_MATCH_MAPPED, 0, "a");
  expect(t, "/w/data/x", PRELUX_MATCH_MAPPED, 1, "x");
  free(t);
}

static void root_mapping_takes_all(void **state)
{
  static const char *const locals[] = {"/", "/proc"};
  struct prelux_table *t = build(locals, 2, 0);
  expect(t, "/", PRELUX_MATCH_MAPPED, 0, "");
  expect(t, "/etc/x", PRELUX_MATCH_MAPPED, 0, "etc/x");
  expect(t, "/proc/1", PRELUX_MATCH_MAPPED, 1, "1");
  free(t);
}

static void uri_prefixes(void **state)
{
  static const char *const locals[] = {"s3:/bucket/x", "/mnt"};
  struct prelux_table *t = build(locals, 2, 0);
  struct prelux_match m;
  assert_true(t->flags & PRELUX_TABLE_HAS_URI);
  prelux_table_match(t, "s3:/bucket/x/y", true, &m);
  assert_int_equal(m.kind, PRELUX_MATCH_MAPPED);
  assert_string_equal(m.rel, "y");
  prelux_table_match(t, "/s3:/bucket/x/y", false, &m);
  assert_int_equal(m.kind, PRELUX_MATCH_NONE);
  free(t);
}

static void many_prefixes_under_one_parent(void **state)
{
  char (*names)[32] = calloc(MANY, sizeof *names);
  const char **locals = calloc(MANY, sizeof *locals);
  for (int i = 0; i < MANY; i++)
  {
    snprintf(names[i], sizeof names[i], "/mnt/d%d", i);
    locals[i] = names[i];
  }
  struct prelux_table *t = build(locals, MANY, 0);
  for (int i = 0; i < MANY; i++)
  {
    char path[48];
    snprintf(path, sizeof path, "%s/f", names[i]);
    expect(t, path, PRELUX_MATCH_MAPPED, (uint32_t)i, "f");
  }
  expect(t, "/mnt/d1000", PRELUX_MATCH_NONE, 0, "");
  free(t);
  free(names);
  free(locals);
}

static void count_child(const char *name, size_t len, bool is_root, int mapping, void *arg)
{
  char *out = arg;
  strncat(out, name, len);
  strcat(out, is_root ? "! " : " ");
}

static void children_of_parents(void **state)
{
  static const char *const locals[] = {"/mnt/a", "/mnt/b/c"};
  struct prelux_table *t = build(locals, 2, 0);
  char out[64] = "";
  prelux_table_children(t, "/mnt", count_child, out);
  assert_true(strcmp(out, "a! b ") == 0 || strcmp(out, "b a! ") == 0);
  out[0] = 0;
  prelux_table_children(t, "/other", count_child, out);
  assert_string_equal(out, "");
  free(t);
}

static void back_from_the_tree(void **state)
{
  static const char *const locals[] = {"/a", "/b"};
  struct prelux_table *t = build(locals, 2, 0);
  uint32_t index;
  const char *rel;
  assert_non_null(prelux_table_by_tree(t, "/cache/t1/x/y", -1, &index, &rel));
  assert_int_equal(index, 1);
  assert_string_equal(rel, "x/y");
  assert_null(prelux_table_by_tree(t, "/cache/t11", -1, &index, &rel));
  free(t);
}

static void duplicates_clash(void **state)
{
  struct prelux_build_mapping m[2] = {{.local = "/a", .tree = "/c", .object = "", .remote = ""},
                                      {.local = "/a", .tree = "/d", .object = "", .remote = ""}};
  struct prelux_build in = {.mappings = m, .n_mappings = 2};
  struct prelux_table *t = NULL;
  size_t clash = 9;
  assert_int_equal(prelux_table_build(&in, &t, &clash), -EEXIST);
  assert_int_equal(clash, 1);
  assert_null(t);
}

/* Work, not time: what a mapping costs does not grow with their number. */
static void the_work_grows_with_the_mappings(void **state)
{
  const size_t n = 20000;
  struct prelux_build_mapping *m = calloc(n, sizeof *m);
  char (*locals)[64] = calloc(n, sizeof *locals);
  size_t looks = 0;
  for (size_t i = 0; i < n; i++)
  {
    snprintf(locals[i], sizeof locals[i], "/mnt/many/d%zu/m%zu", i % 200, i);
    m[i] = (struct prelux_build_mapping){.local = locals[i], .tree = "/c", .object = "", .remote = "", .tree_id = 1};
  }
  struct prelux_build in = {.mappings = m, .n_mappings = n, .ret_looks = &looks};
  struct prelux_table *t = NULL;
  assert_int_equal(prelux_table_build(&in, &t, NULL), 0);
  expect(t, "/mnt/many/d199/m19999/x", PRELUX_MATCH_MAPPED, 19999, "x");
  if (looks > 10 * n)
    fail_msg("%zu nodes were compared for %zu mappings", looks, n);
  for (size_t i = 0; i < n; i++)
    assert_non_null(prelux_measure_of(locals[i]));
  assert_ptr_equal(prelux_measure_of(locals[7]), prelux_measure_of(locals[7]));
  if (prelux_measure_looks() > 10 * n)
    fail_msg("%llu counters were compared for %zu mappings", (unsigned long long)prelux_measure_looks(), n);
  free(t);
  free(m);
  free(locals);
}

/* A table comes from a file: whatever its bytes, check() or a look-up must not run outside of it. */
static void damaged_tables_are_refused_or_harmless(void **state)
{
  static const char *const locals[] = {"/mnt/lake", "/mnt/x/y"};
  struct prelux_table *t = build(locals, 2, 0);
  size_t n = t->bytes;
  for (size_t cut = 0; cut < n; cut += 7)
  {
    char *copy = malloc(cut + 1); /* exact size: ASan sees any overrun */
    memcpy(copy, t, cut);
    assert_int_not_equal(prelux_table_check(copy, cut), 0);
    free(copy);
  }
  for (size_t i = 0; i < n; i++)
    for (int bit = 0; bit < 8; bit += 3)
    {
      char *copy = malloc(n);
      struct prelux_match m;
      memcpy(copy, t, n);
      copy[i] ^= (char)(1 << bit);
      if (prelux_table_check(copy, n) == 0)
        prelux_table_match((void *)copy, "/mnt/lake/z", false, &m);
      free(copy);
    }
  free(t);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(longest_prefix_wins),   cmocka_unit_test(azfuse_first_match_wins),
      cmocka_unit_test(root_mapping_takes_all), cmocka_unit_test(uri_prefixes),
      cmocka_unit_test(many_prefixes_under_one_parent), cmocka_unit_test(children_of_parents),
      cmocka_unit_test(back_from_the_tree),    cmocka_unit_test(duplicates_clash),
      cmocka_unit_test(the_work_grows_with_the_mappings),
      cmocka_unit_test(damaged_tables_are_refused_or_harmless)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
