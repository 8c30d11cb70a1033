/* A remote that does not say as what version it has taken a file: it is asked, and what somebody else has put there by then is not our file. */
#include "tests/unit/stage_rig.h"

static const char *theirs; /* is there when it is asked; "": a folder. NULL: what we have put */

static int put_and_say_nothing(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                               struct prelux_object *ret, struct prelux_problem *why)
{
  char at[600];
  int rc = faulty_put(b, path, fd, size, how, ret, why);
  ret->version[0] = 0;
  snprintf(at, sizeof at, "%s/%s", rig.remote, path);
  if (rc == 0 && theirs && theirs[0])
    put_text(path, theirs);
  else if (rc == 0 && theirs)
    rc = unlink(at) < 0 || mkdir(at, 0755) < 0 ? -errno : 0;
  return rc;
}

static void write_f(size_t size)
{
  faulty.write.put = put_and_say_nothing;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  assert_true(fd >= 0);
  if (size == 4)
    say(fd, "ours");
  else
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(pending(), 0);
}

static struct prelux_attr seen(void)
{
  struct prelux_attr attr;
  assert_int_equal(prelux_store_stat(&rig.v, "f", 0, &attr, &rig.why), 0);
  return attr;
}

static void test_it_is_asked(void **state)
{
  (void)state;
  theirs = NULL;
  write_f(4);
  assert_int_equal(seen().size, 4);
  assert_true(seen().cache_ino != 0);
  assert_string_equal(read_text("f"), "ours");
}

static void test_a_file_of_somebody_else(void **state)
{
  char at[600];
  (void)state;
  theirs = "somebody else's";
  write_f(4);
  snprintf(at, sizeof at, "%s/f", prelux_tree_root(rig.t));
  assert_int_equal(access(at, F_OK), -1); /* ours is not kept in the place of theirs */
  assert_int_equal(seen().size, strlen(theirs));
  assert_string_equal(read_text("f"), theirs);
}

static void test_a_folder_of_somebody_else(void **state)
{
  struct prelux_object folder;
  char at[600];
  (void)state;
  theirs = "";
  snprintf(at, sizeof at, "%s/d", rig.remote);
  assert_int_equal(mkdir(at, 0755), 0);
  assert_int_equal(faulty.real->ops->stat(faulty.real, "d", &folder, NULL), 0);
  write_f((size_t)folder.size); /* as long as a folder says that it is */
  assert_int_equal(seen().type, PRELUX_DIR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_it_is_asked),
      TEST(test_a_file_of_somebody_else),
      TEST(test_a_folder_of_somebody_else),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
