/* What the daemon keeps in its runtime folder: snapshots, table files, the digest of an environment. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "daemon/bound.h"
#include "daemon/files.h"
#include "daemon/prune.h"
#include "daemon/snapshot.h"
#include "lib/ipc/msg.h"

static char top[] = "/tmp/plx-files-XXXXXX";

static int make_top(void **state)
{
  return mkdtemp(top) ? 0 : -1;
}

static int drop_top(void **state)
{
  char command[64];
  snprintf(command, sizeof command, "rm -rf %s", top);
  return system(command);
}

static char *in_top(const char *name)
{
  return prelux_join(top, name);
}

static void fill_snapshot(struct prelux_snapshot *s)
{
  struct stat st = {0};
  s->source = strdup("/a/odd\nname 7");
  s->cwd = strdup("/w");
  s->home = strdup("");
  s->bare = true;
  char *text = malloc(6);
  memcpy(text, "a\0\nb\n", 6);
  assert_int_equal(prelux_snapshot_add_file(s, strdup("/a/odd\nname 7"), text, 5, 0, &st), 0);
  assert_int_equal(prelux_snapshot_add_file(s, strdup("/secret"), NULL, 0, 0, &st), 0);
  assert_int_equal(prelux_snapshot_add_env(s, "ZED"), 0);
  assert_int_equal(prelux_snapshot_add_env(s, "ABLE"), 0);
  assert_int_equal(prelux_snapshot_add_env(s, "ZED"), 0);
}

static void snapshot_comes_back(void **state)
{
  struct prelux_snapshot s = {0}, r = {0};
  char *path = in_top("x.conf");
  fill_snapshot(&s);
  assert_int_equal(prelux_snapshot_write(&s, top, "x.conf"), 0);
  assert_int_equal(prelux_snapshot_read(path, &r), 0);
  assert_string_equal(r.source, s.source);
  assert_string_equal(r.cwd, "/w");
  assert_string_equal(r.home, "");
  assert_true(r.bare);
  assert_int_equal(r.n_env, 2);
  assert_string_equal(r.env[0], "ABLE");
  assert_string_equal(r.env[1], "ZED");
  assert_int_equal(r.n_files, 1); /* what is secret is not there */
  assert_memory_equal(r.files[0].text, "a\0\nb\n", 5);
  assert_int_equal(r.files[0].len, 5);
  prelux_snapshot_release(&s);
  prelux_snapshot_release(&r);
  free(path);
}

/* Cut at every length, and with every byte changed: refused or read, never a crash (run under ASan). */
static void damaged_snapshots(void **state)
{
  struct prelux_snapshot s = {0}, r;
  char *path = in_top("x.conf"), *bytes;
  size_t len;
  fill_snapshot(&s);
  assert_int_equal(prelux_snapshot_write(&s, top, "x.conf"), 0);
  assert_int_equal(prelux_file_read(path, 1 << 20, &bytes, &len, NULL), 0);
  for (size_t cut = 0; cut < len; cut++)
  {
    assert_int_equal(prelux_files_write(top, "y.conf", bytes, cut), 0);
    char *y = in_top("y.conf");
    if (prelux_snapshot_read(y, &r) == 0)
      prelux_snapshot_release(&r);
    else if (cut == len)
      fail();
    bytes[cut] ^= 0x11;
    assert_int_equal(prelux_files_write(top, "y.conf", bytes, len), 0);
    if (prelux_snapshot_read(y, &r) == 0)
      prelux_snapshot_release(&r);
    bytes[cut] ^= 0x11;
    free(y);
  }
  free(bytes);
  free(path);
  prelux_snapshot_release(&s);
}

static void snapshot_knows_changes(void **state)
{
  struct prelux_snapshot s = {0};
  struct stat st;
  char *path = in_top("conf.yaml"), *text, *absent = in_top("absent");
  size_t len;
  assert_int_equal(prelux_files_write(top, "conf.yaml", "one", 3), 0);
  assert_int_equal(prelux_file_read(path, 100, &text, &len, &st), 0);
  prelux_snapshot_add_file(&s, strdup(path), text, len, 0, &st);
  prelux_snapshot_add_file(&s, strdup(absent), NULL, 0, -ENOENT, NULL);
  assert_true(prelux_snapshot_current(&s));
  int fd = open(path, O_WRONLY); /* same size, same inode, mtime put back: ctime tells */
  assert_int_equal(write(fd, "two", 3), 3);
  futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim});
  close(fd);
  assert_false(prelux_snapshot_current(&s));
  stat(path, &s.files[0].st);
  assert_true(prelux_snapshot_current(&s));
  assert_int_equal(prelux_files_write(top, "absent", "", 0), 0);
  assert_false(prelux_snapshot_current(&s)); /* a file that was missing has come */
  prelux_snapshot_release(&s);
  free(path);
  free(absent);
}

static _Alignas(8) unsigned char buf[1024];

static void digest(const char *const *env, const char *const *names, size_t n, unsigned char out[16])
{
  static const unsigned char key[PRELUX_BOUND_KEY] = "key";
  struct prelux_msg m;
  struct prelux_sent_env e;
  prelux_msg_begin(&m, buf, sizeof buf, PRELUX_OP_REGISTER);
  for (size_t i = 0; env[i]; i++)
    prelux_msg_put_str(&m, PRELUX_FIELD_ENV, env[i]);
  assert_int_equal(prelux_sent_env_read(buf, &e), 0);
  assert_int_equal(prelux_bound_digest(key, (char *const *)names, n, &e, out), 0);
  prelux_sent_env_release(&e);
}

static void digest_tells_environments_apart(void **state)
{
  static const char *const names[] = {"A", "B"};
  static const char *const cases[][4] = {
      {"A=1", "B=2"}, {"A=1", "B"}, {"A=", "B"}, {"A", "B"}, {"A", "B="}, {"A=1B=2", "B"}, {"A=2", "B=1"},
      {"A=1 B=x", "B=y"}, {"A=1", "B=x B=y"},
  };
  unsigned char seen[9][16], again[16], zero[16] = {0};
  for (size_t i = 0; i < 9; i++)
  {
    digest(cases[i], names, 2, seen[i]);
    for (size_t k = 0; k < i; k++)
      assert_memory_not_equal(seen[i], seen[k], 16);
  }
  digest((const char *const[]){"B=2", "C=9", "A=1", NULL}, names, 2, again); /* order and others do not matter */
  assert_memory_equal(again, seen[0], 16);
  digest(cases[0], names, 0, again);
  assert_memory_equal(again, zero, 16);
}

static void key_is_made_once(void **state)
{
  unsigned char a[PRELUX_BOUND_KEY], b[PRELUX_BOUND_KEY];
  struct stat st;
  char *path = in_top("key");
  assert_int_equal(prelux_bound_key(top, a), 0);
  assert_int_equal(prelux_bound_key(top, b), 0);
  assert_memory_equal(a, b, sizeof a);
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0600);
  assert_int_equal(truncate(path, 5), 0); /* damaged: a new one */
  assert_int_equal(prelux_bound_key(top, b), 0);
  assert_memory_not_equal(a, b, sizeof a);
  free(path);
}

static void put_table(const char *dir, unsigned i, bool snapshot, long age)
{
  char name[80], path[200];
  struct timespec when[2] = {{time(NULL) - age, 0}, {time(NULL) - age, 0}};
  snprintf(name, sizeof name, "%032x", i);
  assert_int_equal(prelux_files_write(dir, name, "t", 1), 0);
  snprintf(path, sizeof path, "%s/%s", dir, name);
  utimensat(AT_FDCWD, path, when, 0);
  if (!snapshot)
    return;
  strcat(name, ".conf");
  assert_int_equal(prelux_files_write(dir, name, "s", 1), 0);
  snprintf(path, sizeof path, "%s/%s", dir, name);
  utimensat(AT_FDCWD, path, when, 0);
}

static bool there(const char *dir, const char *fmt, unsigned i)
{
  char name[80], path[200];
  snprintf(name, sizeof name, fmt, i);
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return access(path, F_OK) == 0;
}

static void old_tables_go(void **state)
{
  char *dir = in_top("tables");
  mkdir(dir, 0700);
  for (unsigned i = 0; i < 10; i++)
    put_table(dir, i, i != 4, (long)(20 - i) * 86400);
  put_table(dir, 10, true, 10);
  put_table(dir, 11, true, 20);
  assert_int_equal(prelux_files_write(dir, "notes", "mine", 4), 0);
  assert_int_equal(prelux_files_write(dir, ".00000000000000000000000000000001.99", "cut off", 7), 0);
  prelux_prune_tables(dir, 6);
  for (unsigned i = 0; i < 12; i++)
  {
    assert_int_equal(there(dir, "%032x", i), i >= 6);
    assert_int_equal(there(dir, "%032x.conf", i), i >= 6);
  }
  assert_true(there(dir, "notes%.0u", 0));
  assert_false(there(dir, ".00000000000000000000000000000001.99%.0u", 0));
  prelux_prune_tables(dir, 1);
  assert_true(there(dir, "%032x", 10)); /* of today: stays, whatever the limit */
  assert_true(there(dir, "%032x", 11));
  assert_false(there(dir, "%032x", 9));
  free(dir);
}

static void tails(void **state)
{
  char *path = in_top("tail"), *text;
  size_t len;
  assert_int_equal(prelux_file_tail(path, 100, &text, &len), 0);
  assert_string_equal(text, "");
  free(text);
  assert_int_equal(prelux_files_write(top, "tail", "first\nsecond\nthird\n", 19), 0);
  assert_int_equal(prelux_file_tail(path, 8, &text, &len), 0);
  assert_string_equal(text, "third\n");
  assert_int_equal(len, 6);
  free(text);
  assert_int_equal(prelux_file_tail(path, 19, &text, &len), 0);
  assert_string_equal(text, "first\nsecond\nthird\n");
  free(text);
  assert_int_equal(prelux_file_read(path, 18, &text, &len, NULL), -EFBIG);
  assert_int_equal(prelux_file_read(top, 18, &text, &len, NULL), -EISDIR);
  free(path);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(snapshot_comes_back),    cmocka_unit_test(damaged_snapshots),
      cmocka_unit_test(snapshot_knows_changes), cmocka_unit_test(digest_tells_environments_apart),
      cmocka_unit_test(key_is_made_once),       cmocka_unit_test(old_tables_go),
      cmocka_unit_test(tails),
  };
  return cmocka_run_group_tests(tests, make_top, drop_top);
}
