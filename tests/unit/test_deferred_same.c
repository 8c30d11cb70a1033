/* Renames that are to be settled by a look, on a remote whose versions go along with a rename: another file of the same length is no answer. */
#include "tests/unit/far_rig.h"

static const char *theirs; /* comes to `b` once `a` has gone */

/* A version that goes along with a rename: the inode's number. */
static int stat_inode(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  char at[600], aside[600];
  struct stat st;
  snprintf(at, sizeof at, "%s/a", rig.remote);
  if (theirs && access(at, F_OK) < 0)
  {
    snprintf(at, sizeof at, "%s/b", rig.remote);
    snprintf(aside, sizeof aside, "%s/keeps its number", rig.remote); /* a free number could be the next file's */
    assert_int_equal(rename(at, aside), 0);
    put_text("b", theirs);
    theirs = NULL;
  }
  int rc = far_stat(b, path, ret, why);
  snprintf(at, sizeof at, "%s/%s", rig.remote, path);
  if (rc == 0 && ret->type == PRELUX_FILE && stat(at, &st) == 0)
    snprintf(ret->version, sizeof ret->version, "%llu", (unsigned long long)st.st_ino);
  return rc;
}

static void versions_go_along(void)
{
  theirs = NULL;
  faulty.ops.stat = stat_inode;
  faulty.ops.caps |= PRELUX_CAP_RENAME_SAME;
}

static void test_equal_length_is_not_the_file(void **state)
{
  char a[600];
  (void)state;
  versions_go_along();
  put_text("a", "of a");
  put_text("b", "of b");
  assert_int_equal(mv("a", "b"), 0);
  far.broken = true;
  try_once();
  far.broken = false;
  snprintf(a, sizeof a, "%s/a", rig.remote);
  assert_int_equal(unlink(a), 0);
  send_all();
  assert_int_equal(pending(), 1); /* `b` is what it was */
  assert_string_equal(remote_text("b"), "of b");
}

static void test_version_tells_that_it_was_done(void **state)
{
  (void)state;
  versions_go_along();
  put_text("a", "of a");
  assert_int_equal(mv("a", "b"), 0);
  far.rename_only_there = true;
  try_once();
  far.rename_only_there = false;
  send_all();
  assert_int_equal(pending(), 0);
  assert_string_equal(remote_text("b"), "of a");
}

static void test_lost_answer_and_a_file_as_long(void **state)
{
  (void)state;
  versions_go_along();
  rig.rules.async = false;
  put_text("a", "of a");
  theirs = "else";
  far.lose = 1;
  assert_int_equal(mv("a", "b"), -EIO);
  assert_string_equal(remote_text("b"), "else");
  put_text("a", "of a");
  far.lose = 1;
  assert_int_equal(mv("a", "c"), 0);
  assert_string_equal(remote_text("c"), "of a");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_far, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_equal_length_is_not_the_file),
      TEST(test_version_tells_that_it_was_done),
      TEST(test_lost_answer_and_a_file_as_long),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
