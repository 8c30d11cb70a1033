/* Reading what was renamed in an `async` mapping and is not on the remote yet: its bytes are served when they are here, whether the remote answers or not. */
#include "tests/unit/far_rig.h"

/* By the descriptor's inode. */
static uint64_t number_of_open(const char *object)
{
  struct prelux_attr attr, by_inode = {0};
  struct stat st;
  int fd = -1;
  assert_int_equal(prelux_store_open_object(&rig.v, object, 0, &attr, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &st), 0);
  assert_int_equal(attr.cache_ino, st.st_ino);
  prelux_index_get_inode(&rig.reader, rig.top, st.st_dev, st.st_ino, &by_inode);
  close(fd);
  return by_inode.ino;
}

static void test_read_while_the_remote_is_away(void **state)
{
  struct prelux_attr was;
  uint64_t files, bytes, busy;
  (void)state;
  put_text("a", "of a");
  put_text("n", "of n");
  put_text("x", "of x");
  assert_string_equal(ls(""), "a n x ");
  assert_string_equal(read_text("a"), "of a");
  assert_string_equal(read_text("x"), "of x");
  assert_int_equal(look("a", &was), 0);
  far.down = true;
  assert_int_equal(mv("a", "b"), 0);
  assert_int_equal(mv("b", "c"), 0);
  assert_string_equal(read_text("c"), "of a");
  assert_int_equal(number_of_open("c"), was.ino);
  assert_null(read_text("b"));
  assert_int_equal(mv("n", "x"), 0); /* it was never read: what lay at x must not pass for it */
  assert_null(read_text("x"));
  restart();
  assert_string_equal(read_text("c"), "of a");
  assert_int_equal(number_of_open("c"), was.ino);
  assert_null(read_text("x"));
  assert_int_equal(prelux_store_evict(&rig.v, "c", &files, &bytes, &busy), 0);
  assert_int_equal(files, 1);
  assert_null(read_text("c"));
  far.down = false;
  assert_string_equal(read_text("c"), "of a");
  assert_string_equal(read_text("x"), "of n");
}

/* What is known of the remote stays what it is, and the path has no slot. */
static void test_reading_teaches_nothing(void **state)
{
  struct prelux_known k;
  struct prelux_attr attr;
  (void)state;
  put_text("a", "of a");
  put_text("b", "of b, longer");
  assert_string_equal(ls(""), "a b ");
  assert_string_equal(read_text("a"), "of a");
  assert_int_equal(mv("a", "b"), 0);
  assert_string_equal(read_text("b"), "of a");
  pthread_mutex_lock(&rig.s->lock);
  assert_int_equal(prelux_memory_get(rig.t, "b", 1, &k), 1);
  pthread_mutex_unlock(&rig.s->lock);
  assert_int_equal(k.obj.size, 12);
  assert_int_not_equal(prelux_index_get(&rig.reader, rig.top, rig.v.id, "b", 1, &attr), 1);
  assert_string_equal(far.log, "");
}

/* As move_clean in name_move.c does it, up to where the cache file comes along. */
static void rename_half(const char *from, const char *to)
{
  struct prelux_deferred *d = prelux_deferred_new(rig.t, PRELUX_INTENT_RENAME, from, to);
  assert_int_equal(prelux_fresh_get(&rig.v, from, 0, false, &d->known, &rig.why), 0);
  d->known.cache_ino = 0;
  d->row.ino = d->known.ino;
  d->row.size = d->known.obj.size;
  memcpy(d->row.base, d->known.obj.version, sizeof d->row.base);
  assert_int_equal(prelux_deferred_queue(rig.g, d, NULL, &rig.why), 0);
}

/* The daemon died just then: at the new name lies what was there before. */
static void test_the_cache_file_did_not_come(void **state)
{
  (void)state;
  put_text("a", "of a");
  put_text("b", "of b");
  assert_string_equal(ls(""), "a b ");
  assert_string_equal(read_text("a"), "of a");
  assert_string_equal(read_text("b"), "of b");
  far.down = true;
  rename_half("a", "b");
  restart();
  assert_null(read_text("b"));
  far.down = false;
  assert_string_equal(read_text("b"), "of a");
}

static atomic_bool reading;

static void *reader(void *arg)
{
  reading = true;
  const char *text = read_text(arg);
  return text ? strdup(text) : NULL;
}

static void test_while_it_is_renamed(void **state)
{
  struct prelux_claim claim;
  struct prelux_object obj;
  struct prelux_known k;
  pthread_t thread;
  void *text;
  (void)state;
  put_text("a", "of a");
  assert_string_equal(ls(""), "a ");
  assert_string_equal(read_text("a"), "of a");
  assert_int_equal(prelux_fresh_get(&rig.v, "a", 0, false, &k, &rig.why), 0);
  obj = k.obj;
  far.down = true;
  reading = false;
  prelux_claim_take(&claim, &rig.v, "a", "b");
  rename_half("a", "b");
  pthread_create(&thread, NULL, reader, (void *)"b");
  while (!reading)
    usleep(1000);
  usleep(50000);
  assert_int_not_equal(prelux_cache_move(rig.t, "a", &obj, "b", &obj), 0);
  prelux_claim_drop(&claim);
  pthread_join(thread, &text);
  assert_non_null(text);
  assert_string_equal(text, "of a");
  free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_far, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_read_while_the_remote_is_away),
      TEST(test_reading_teaches_nothing),
      TEST(test_the_cache_file_did_not_come),
      TEST(test_while_it_is_renamed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
