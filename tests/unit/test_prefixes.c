/* PRELUX_PREFIXES: what is written is read back, whatever the letters; what is not ours, or cut anywhere, is refused and
 * harms nothing (run under ASan: each value lies in memory of its own size). */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "lib/map/build.h"
#include "lib/map/match.h"
#include "lib/map/prefixes.h"

#define SOURCE "/home/a b/c:%.yaml"

static struct prelux_table *build(const char *const *locals, size_t n, uint32_t flags)
{
  struct prelux_build_mapping *m = calloc(n + 1, sizeof *m);
  struct prelux_table *t = NULL;
  for (size_t i = 0; i < n; i++)
    m[i] = (struct prelux_build_mapping){.local = locals[i], .tree = "/cache", .object = "", .remote = "r:/", .tree_id = i + 1};
  struct prelux_build in = {.mappings = m, .n_mappings = n, .flags = flags, .source = SOURCE, .cwd = "/home/a b"};
  assert_int_equal(prelux_table_build(&in, &t, NULL), 0);
  free(m);
  return t;
}

static char *format(const struct prelux_table *t)
{
  size_t n = prelux_prefixes_format(t, NULL, 0);
  char *text = malloc(n + 1);
  assert_int_equal(prelux_prefixes_format(t, text, n + 1), n);
  assert_int_equal(strlen(text), n);
  assert_true(prelux_prefixes_are_of(text, t));
  for (const char *p = text; *p; p++)
    assert_true((unsigned char)*p > ' ' && *p != 0x7f);
  return text;
}

static void path_of(const struct prelux_table *t, char path[64])
{
  size_t at = (size_t)sprintf(path, "/run/tables/");
  for (int i = 0; i < 16; i++)
    at += (size_t)sprintf(path + at, "%02x", t->hash[i]);
  assert_true(prelux_prefixes_is_name(strrchr(path, '/') + 1, t));
}

/* Frees text; *room is to be freed. */
static int parse(char *text, const char *path, void **room, struct prelux_prefixes *p)
{
  *room = malloc(prelux_prefixes_room(text));
  int err = prelux_prefixes_parse(text, path, *room, p);
  free(text);
  return err;
}

static void comes_back(void **state)
{
  static const char *const locals[] = {"/mnt/lake", "/a:b", "/100%", "/new\nline", "/#x", "/+y", "/ blank", "/\xff\x01", "s3:/bucket/x"};
  enum { N = sizeof locals / sizeof *locals };
  struct prelux_table *t = build(locals, N, 0), *fewer = build(locals, N - 1, 0);
  struct prelux_prefixes p;
  char path[64];
  void *room;
  path_of(t, path);
  assert_int_equal(parse(format(t), path, &room, &p), 0);
  assert_string_equal(p.source, SOURCE);
  assert_string_equal(p.folder, "/home/a b");
  assert_int_equal(p.n_set, 0);
  assert_false(p.cut);
  const char *at = p.list;
  for (size_t i = 0; i < N; i++, at += strlen(at) + 1)
    assert_string_equal(at, locals[i]);
  assert_string_equal(at, "");
  assert_true(prelux_prefixes_have(&p, "/mnt/lake") && prelux_prefixes_have(&p, "/mnt/lake/x") && prelux_prefixes_have(&p, "/a:b/c"));
  assert_false(prelux_prefixes_have(&p, "/mnt/lakes") || prelux_prefixes_have(&p, "/mnt") || prelux_prefixes_have(&p, "/"));
  assert_true(prelux_prefixes_covered(&p, t));
  assert_false(prelux_prefixes_covered(&p, fewer));
  free(room);
  free(t);
  free(fewer);
}

static void many(size_t n, bool cut)
{
  const char **locals = calloc(n, sizeof *locals);
  char (*names)[48] = calloc(n, sizeof *names), path[64], name[64];
  for (size_t i = 0; i < n; i++)
  {
    snprintf(names[i], sizeof names[i], "/some/where/in/the/tree/number-%zu", i);
    locals[i] = names[i];
  }
  struct prelux_table *t = build(locals, n, 0), *fewer = build(locals, n - 1, 0);
  struct prelux_prefixes p;
  void *room;
  path_of(t, path);
  char *text = format(t);
  assert_true(strlen(text) <= PRELUX_PREFIXES_MAX);
  assert_int_equal(parse(text, path, &room, &p), 0);
  assert_string_equal(p.list, "");
  assert_int_equal(p.cut, cut);
  assert_int_equal(p.n_set, cut ? 0 : n);
  for (size_t i = 0; i < n && !cut; i += 97)
  {
    assert_true(prelux_prefixes_have(&p, names[i]));
    snprintf(name, sizeof name, "%s/f", names[i]);
    assert_true(prelux_prefixes_have(&p, name));
    snprintf(name, sizeof name, "%sx", names[i]);
    assert_false(prelux_prefixes_have(&p, name));
  }
  assert_false(prelux_prefixes_have(&p, "/some/where/in/the/tree") || prelux_prefixes_have(&p, "/"));
  assert_true(prelux_prefixes_covered(&p, t));
  assert_int_equal(prelux_prefixes_covered(&p, fewer), cut);
  free(room);
  free(t);
  free(fewer);
  free(names);
  free(locals);
}

static void a_thousand(void **state)
{
  many(1000, false);
}

static void too_many(void **state)
{
  many(17000, true);
}

static void root(void **state)
{
  static const char *const locals[] = {"", "/x"};
  for (int list = 0; list < 2; list++)
  {
    struct prelux_table *t = build(locals, 2, list ? PRELUX_TABLE_FIRST_MATCH : 0);
    struct prelux_prefixes p;
    char path[64];
    void *room;
    path_of(t, path);
    assert_int_equal(parse(format(t), path, &room, &p), 0);
    assert_int_equal(prelux_prefixes_have(&p, "/etc/passwd"), !list); /* in a list "/" is "/" alone */
    assert_true(prelux_prefixes_have(&p, "/x/y") && prelux_prefixes_covered(&p, t));
    free(room);
    free(t);
  }
}

static char *copy(const char *text, size_t n)
{
  char *out = malloc(n + 1);
  memcpy(out, text, n);
  out[n] = 0;
  return out;
}

static void nonsense(void **state)
{
  static const char *const locals[] = {"/a:b", "/c%d", "/e"};
  struct prelux_table *t = build(locals, 3, 0);
  struct prelux_prefixes p;
  char path[64], other[64], *text = format(t);
  void *room;
  path_of(t, path);
  path_of(t, other);
  other[20] ^= 1;
  assert_int_equal(parse(copy(text, strlen(text)), other, &room, &p), -ENOENT);
  free(room);
  assert_int_equal(parse(copy(text, strlen(text)), "no slash", &room, &p), -ENOENT);
  free(room);
  size_t n = strlen(text);
  srand(1);
  for (size_t i = 0; i <= n; i++)
  {
    parse(copy(text, i), path, &room, &p);
    free(room);
  }
  for (int i = 0; i < 20000; i++)
  {
    static const char letters[] = ":#%+/A0\xff";
    char *bad = copy(text, n);
    for (int k = 0; k < 3; k++)
      bad[33 + (size_t)rand() % (n - 33)] = letters[rand() % 8];
    if (parse(bad, path, &room, &p) == 0)
      prelux_prefixes_have(&p, "/a:b/c");
    free(room);
  }
  free(text);
  free(t);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(comes_back), cmocka_unit_test(a_thousand), cmocka_unit_test(too_many),
      cmocka_unit_test(root),       cmocka_unit_test(nonsense),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
