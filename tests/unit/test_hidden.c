/* Backend alluxio-ee, writing: what a status says of a change. Hidden names (hidden.c): whose they are, and what a sweep makes of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "lib/backend/alluxio_ee_write.h"

static void statuses(void **state)
{
  static const struct
  {
    int status, rc;
  } rows[] = {
      {200, 0},       {201, 0},        {204, 0},       {299, 0},      {100, -PRELUX_EUNKNOWN}, {0, -PRELUX_EUNKNOWN}, {302, -EIO},
      {307, -EIO},    {400, -EOPNOTSUPP}, {401, -EACCES}, {403, -EACCES}, {404, -ENOENT},         {405, -EIO},           {408, -PRELUX_EUNKNOWN},
      {409, -EEXIST}, {412, -EBUSY},   {418, -EIO},    {500, -PRELUX_EUNKNOWN}, {503, -PRELUX_EUNKNOWN}, {599, -PRELUX_EUNKNOWN},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    if (prelux_ee_change_status(rows[i].status) != rows[i].rc)
      fail_msg("%d: %d", rows[i].status, prelux_ee_change_status(rows[i].status));
}

static void hidden(void **state)
{
  static const char *const yes[] = {".prelux~x", "a/.prelux~", "a/.prelux~put-1/b"};
  static const char *const no[] = {"", "a", "a.prelux~x", ".prelux", "a/b.prelux~/c", ".preluX~"};
  for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++)
    assert_true(prelux_hidden(yes[i]));
  for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
    assert_false(prelux_hidden(no[i]));
}

static void what_is_left(void **state)
{
  int64_t now = (int64_t)time(NULL) * 1000000000;
  char *one = prelux_hidden_beside("d/file", "put"), *other = prelux_hidden_beside("d/file", "old");
  assert_false(prelux_hidden_dead(one + 2, now, 3600));
  prelux_hidden_leave(one);
  assert_true(prelux_hidden_dead(one + 2, now, 3600)); /* its process lives, and does not care for it any more */
  assert_false(prelux_hidden_dead(other + 2, now, 3600));
  free(one);
  free(other);
}

static void owners(void **state)
{
  int64_t now = (int64_t)time(NULL) * 1000000000, long_ago = now - INT64_C(7200) * 1000000000;
  char *mine = prelux_hidden_beside("d/e/file", "put"), *other = prelux_hidden_beside("d/e/file", "put");
  assert_true(strncmp(mine, "d/e/" PRELUX_HIDDEN "put-", 16) == 0 && strcmp(mine, other) != 0 && strlen(mine + 4) < 255);
  assert_false(prelux_hidden_dead(mine + 4, long_ago, 1)); /* this process lives, however old it is */
  free(mine);
  free(other);
  int fds[2];
  char name[300] = "";
  assert_int_equal(pipe(fds), 0);
  pid_t child = fork();
  if (child == 0)
  {
    char *its = prelux_hidden_beside("file", "old");
    _exit(write(fds[1], its, strlen(its)) < 0);
  }
  assert_int_equal(waitpid(child, NULL, 0), child);
  assert_true(read(fds[0], name, sizeof name - 1) > 0);
  close(fds[0]);
  close(fds[1]);
  assert_true(prelux_hidden_dead(name, now, 3600)); /* its process is gone, however young it is */
  const char *foreign = PRELUX_HIDDEN "put-0000000000000001-1-1-1.0", *odd = PRELUX_HIDDEN "put-x";
  assert_false(prelux_hidden_dead(foreign, now, 3600));
  assert_true(prelux_hidden_dead(foreign, long_ago, 3600));
  char made[300];
  for (int hours = 0; hours < 4; hours += 2)
  {
    snprintf(made, sizeof made, PRELUX_HIDDEN "old-0000000000000001-1-1-%llx.0", (unsigned long long)(now - hours * INT64_C(3600) * 1000000000));
    assert_int_equal(prelux_hidden_dead(made, 0, 3600), hours == 2); /* a remote that tells no time */
  }
  assert_false(prelux_hidden_dead(odd, now, 3600));
  assert_true(prelux_hidden_dead(odd, long_ago, 3600));
}

/* A remote of a few paths. */
struct remote
{
  char paths[16][128]; /* of folders with a slash at the end */
  int fail_drop;
};

static char *find(struct remote *r, const char *path, bool *ret_folder)
{
  size_t len = strlen(path);
  for (size_t i = 0; i < 16; i++)
    if (r->paths[i][0] && strncmp(r->paths[i], path, len) == 0 && (r->paths[i][len] == 0 || strcmp(r->paths[i] + len, "/") == 0))
    {
      *ret_folder = r->paths[i][len] == '/';
      return r->paths[i];
    }
  return NULL;
}

static int type_of(void *arg, const char *path, uint8_t *ret, struct prelux_problem *why)
{
  bool folder = true;
  if (path[0] && !find(arg, path, &folder))
    return -ENOENT;
  *ret = folder ? PRELUX_DIR : PRELUX_FILE;
  return 0;
}

static int each(void *arg, const char *path, prelux_list_fn add, void *add_arg, struct prelux_problem *why)
{
  struct remote copy = *(struct remote *)arg;
  size_t len = strlen(path);
  int rc = 0;
  for (size_t i = 0; i < 16 && rc == 0; i++)
  {
    const char *p = copy.paths[i], *name = len ? p + len + 1 : p;
    if (!p[0] || (len && (strncmp(p, path, len) != 0 || p[len] != '/')) || !name[0])
      continue;
    size_t n = strcspn(name, "/");
    struct prelux_object obj = {.type = name[n] ? PRELUX_DIR : PRELUX_FILE, .mtime_ns = 1};
    if (name[n] == 0 || name[n + 1] == 0)
      rc = add(add_arg, name, n, &obj);
  }
  return rc;
}

static int move(void *arg, const char *from, const char *to)
{
  bool folder;
  char *there = find(arg, to, &folder), *it = find(arg, from, &folder);
  if (there || !it)
    return there ? -EEXIST : -ENOENT;
  snprintf(it, 128, "%s", to);
  return 0;
}

static int drop(void *arg, const char *path)
{
  struct remote *r = arg;
  bool folder;
  char *it = find(r, path, &folder);
  if (r->fail_drop)
    return -EIO;
  if (it)
    it[0] = 0;
  return 0;
}

static const struct prelux_hidden_ops ops = {.type = type_of, .each = each, .move = move, .drop = drop};

static void expect(const struct remote *r, const char *wanted)
{
  char got[512] = "";
  for (size_t i = 0; i < 16; i++)
    if (r->paths[i][0])
      snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s", got[0] ? " " : "", r->paths[i]);
  assert_string_equal(got, wanted);
}

#define OLD(n) PRELUX_HIDDEN "old-0000000000000001-1-1-" n ".0"

static void sweeps(void **state)
{
  struct remote r = {.fail_drop = 0, .paths = {OLD("1") "/", OLD("1") "/a", OLD("2") "/", OLD("2") "/a", "b", OLD("3") "/", OLD("3") "/b", "d/",
                      "d/" PRELUX_HIDDEN "put-x", PRELUX_HIDDEN "other"}};
  assert_int_equal(prelux_hidden_clean(&ops, &r, "", 60, NULL), 4);
  expect(&r, "a b d/ " PRELUX_HIDDEN "other"); /* a: what was moved aside last (checked below); b is there: what it replaced goes */
}

static void the_last_comes_back(void **state)
{
  struct remote r = {.fail_drop = 0, .paths = {OLD("9") "/", OLD("9") "/a", OLD("10") "/", OLD("10") "/a", OLD("f") "/", OLD("f") "/a"}};
  char moved[128];
  assert_int_equal(prelux_hidden_clean(&ops, &r, "a", 60, NULL), 3); /* of a file: its folder */
  snprintf(moved, sizeof moved, "%s", r.paths[3]);
  assert_string_equal(moved, "a"); /* 0x10 is more than 0xf and 9 */
  expect(&r, "a");
}

static void what_cannot_be_removed(void **state)
{
  struct remote r = {.paths = {OLD("1") "/", OLD("1") "/a"}, .fail_drop = 1};
  assert_int_equal(prelux_hidden_clean(&ops, &r, "", 60, NULL), 0);
  expect(&r, OLD("1") "/ a");
  assert_int_equal(prelux_hidden_clean(&ops, &r, "no/such", 60, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(statuses), cmocka_unit_test(hidden),           cmocka_unit_test(owners),
      cmocka_unit_test(what_is_left), cmocka_unit_test(sweeps),
      cmocka_unit_test(the_last_comes_back), cmocka_unit_test(what_cannot_be_removed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
