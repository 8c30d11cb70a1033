/* Identity: when st_ino stays and when it changes. */
#include "tests/unit/store_rig.h"

#include "lib/store/private.h"

static uint64_t number(const char *object)
{
  struct prelux_attr a;
  assert_int_equal(stat_object(object, &a), 0);
  assert_true(a.ino != 0 && a.ino <= INT64_MAX);
  return a.ino;
}

static uint64_t listed_number(const char *folder, const char *name)
{
  struct prelux_attr a;
  const struct prelux_listing *l = map_listing(folder, &a);
  uint64_t ino = 0;
  for (uint32_t i = 0; i < l->count; i++)
    if (strcmp(listed(l, i), name) == 0)
      ino = l->entries[i].ino;
  munmap((void *)l, l->bytes);
  return ino;
}

static void always(void)
{
  view(PRELUX_FRESH_ALWAYS, 0, 0);
}

static void evict_all(void)
{
  uint64_t files, bytes, busy;
  assert_int_equal(prelux_store_evict(&rig.v, "", &files, &bytes, &busy), 0);
}

static void test_stays_without_a_change(void **state)
{
  always();
  fake_file(&rig.b, "d/f", 1000, 1);
  fake_dir(&rig.b, "d");
  uint64_t first = number("d/f"), folder = number("d");
  assert_int_equal(listed_number("d", "f"), first);
  for (int i = 0; i < 3; i++)
  {
    assert_int_equal(number("d/f"), first);
    assert_int_equal(rig_check(&rig, "d/f"), 0);
    assert_int_equal(number("d/f"), first);
    evict_all();
    assert_int_equal(listed_number("d", "f"), first);
    rig_reopen(&rig);
    always();
  }
  /* A folder's time changes with every name that comes or goes. */
  fake_find(&rig.b, "d")->mtime_ns += 5;
  assert_int_equal(number("d"), folder);
}

static void test_changes_with_the_version(void **state)
{
  always();
  uint64_t seen[5];
  for (unsigned i = 0; i < 5; i++)
  {
    fake_file(&rig.b, "f", 1000, i + 1);
    seen[i] = number("f");
    for (unsigned j = 0; j < i; j++)
      assert_int_not_equal(seen[i], seen[j]);
    assert_int_equal(rig_check(&rig, "f"), 0);
    assert_int_equal(number("f"), seen[i]);
    assert_int_equal(listed_number("", "f"), seen[i]);
  }
  rig_reopen(&rig);
  always();
  assert_int_equal(listed_number("", "f"), seen[4]);
  assert_int_equal(number("f"), seen[4]);
}

static void test_a_listing_learns_too(void **state)
{
  always();
  fake_file(&rig.b, "a", 10, 1);
  fake_file(&rig.b, "b", 10, 1);
  uint64_t a = listed_number("", "a"), b = listed_number("", "b");
  fake_file(&rig.b, "a", 10, 2);
  uint64_t later = listed_number("", "a");
  assert_int_not_equal(later, a);
  assert_int_equal(listed_number("", "b"), b);
  assert_int_equal(number("a"), later);
  assert_int_equal(number("b"), b);
}

/* Sizes and times of an HTML index are rounded: such a listing shows the number that stat shows, whatever is known. */
static void test_rough_listings(void **state)
{
  rig.b.ops.caps &= ~(unsigned)(PRELUX_CAP_LIST_EXACT | PRELUX_CAP_LIST_ALL);
  view(PRELUX_FRESH_MAX_AGE, 60 * SECOND, SECOND);
  fake_file(&rig.b, "f", 10, 1);
  uint64_t first = listed_number("", "f");
  assert_int_equal(number("f"), first);
  fake_file(&rig.b, "f", 10, 2);
  assert_int_equal(listed_number("", "f"), first);
  unsigned lists = rig.b.lists;
  always();
  uint64_t second = number("f");
  assert_int_not_equal(second, first);
  /* The listing in memory is young enough, but would contradict. */
  view(PRELUX_FRESH_MAX_AGE, 60 * SECOND, SECOND);
  assert_int_equal(listed_number("", "f"), second);
  assert_int_equal(listed_number("", "f"), second);
  assert_int_equal(rig.b.lists, lists + 1);
}

static void test_in_doubt_it_stays(void **state)
{
  always();
  struct fake_object *o = fake_file(&rig.b, "f", 10, 1);
  o->version[0] = 0;
  o->mtime_ns = 0;
  uint64_t first = number("f");
  assert_int_equal(rig_check(&rig, "f"), 0);
  assert_int_equal(number("f"), first);
  o->mtime_ns = 1700000000000000000ll; /* the server begins to tell */
  assert_int_equal(number("f"), first);
  snprintf(o->version, sizeof o->version, "etag");
  assert_int_equal(number("f"), first);
  o->mtime_ns = 0;
  o->version[0] = 0;
  assert_int_equal(number("f"), first);
  /* Versions made to be equal to none, and of different sorts. */
  static const char *const same[] = {"n:1234", "n:5678", "e:\"x\"~12", "e:\"x\"~34", "e:\"x\"", "m:77-10", "e:\"x\""};
  for (size_t i = 0; i < sizeof same / sizeof *same; i++)
  {
    snprintf(o->version, sizeof o->version, "%s", same[i]);
    assert_int_equal(number("f"), first);
  }
  snprintf(o->version, sizeof o->version, "e:\"y\"~56");
  uint64_t second = number("f");
  assert_int_not_equal(second, first);
  o->version[0] = 0;
  assert_int_equal(number("f"), second);
  o->size = 11;
  assert_int_not_equal(number("f"), second);
}

static void test_gone_and_back(void **state)
{
  struct prelux_attr a;
  always();
  fake_file(&rig.b, "f", 10, 1);
  uint64_t first = number("f");
  for (int i = 0; i < 2; i++)
  {
    fake_remove(&rig.b, "f");
    assert_int_equal(stat_object("f", &a), -ENOENT);
    assert_int_equal(listed_number("", "f"), 0);
    fake_file(&rig.b, "f", 10, 1);
    assert_int_equal(number("f"), first);
  }
  fake_remove(&rig.b, "f");
  assert_int_equal(stat_object("f", &a), -ENOENT);
  fake_file(&rig.b, "f", 10, 2);
  uint64_t second = number("f");
  assert_int_not_equal(second, first);
  /* The listing is the only one that saw it go. */
  fake_file(&rig.b, "g", 10, 1);
  uint64_t other = number("g");
  fake_remove(&rig.b, "g");
  assert_int_equal(listed_number("", "g"), 0);
  fake_file(&rig.b, "g", 10, 2);
  assert_int_not_equal(number("g"), other);
  assert_int_equal(number("f"), second);
}

static void test_file_becomes_folder(void **state)
{
  always();
  fake_file(&rig.b, "f", 0, 1);
  uint64_t file = number("f");
  fake_dir(&rig.b, "f");
  uint64_t folder = number("f");
  assert_int_not_equal(folder, file);
  assert_int_equal(number("f"), folder);
  fake_file(&rig.b, "f", 0, 1);
  assert_int_not_equal(number("f"), folder);
}

/* What was cached once is remembered: a change while nobody looked is a change. */
static void test_changed_behind_our_back(void **state)
{
  fake_file(&rig.b, "kept", 10, 1);
  fake_file(&rig.b, "evicted", 10, 1);
  fake_file(&rig.b, "other", 10, 1);
  uint64_t kept = number("kept"), evicted = number("evicted"), other = number("other");
  uint64_t files, bytes, busy;
  assert_int_equal(rig_check(&rig, "kept") | rig_check(&rig, "evicted") | rig_check(&rig, "other"), 0);
  assert_int_equal(prelux_store_evict(&rig.v, "evicted", &files, &bytes, &busy), 0);
  assert_int_equal(files, 1);
  prelux_store_close(rig.s);
  rig.s = NULL;
  fake_file(&rig.b, "kept", 10, 2);
  fake_file(&rig.b, "evicted", 10, 2);
  assert_int_equal(rig_open(&rig), 0);
  assert_int_not_equal(listed_number("", "kept"), kept);
  assert_int_not_equal(number("evicted"), evicted);
  assert_int_equal(number("other"), other);
}

/* Replaced in the eyes of one view, then a new daemon: `immutable` does not show the old row under the new number. */
static void test_row_of_a_replaced_object(void **state)
{
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  fake_file(&rig.b, "f", 10, 1);
  assert_int_equal(rig_check(&rig, "f"), 0);
  uint64_t first = number("f");
  fake_file(&rig.b, "f", 10, 2);
  always();
  uint64_t second = number("f");
  assert_int_not_equal(second, first);
  rig_reopen(&rig);
  view(PRELUX_FRESH_IMMUTABLE, 0, SECOND);
  assert_int_equal(number("f"), second);
  assert_int_equal(rig_check(&rig, "f"), 0);
}

static void test_open_file_keeps_its_number(void **state)
{
  static struct prelux_index_reader reader;
  struct prelux_attr a, b;
  struct stat st;
  int old, new;
  rig_index(&rig);
  always();
  fake_file(&rig.b, "f", 1000, 1);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &a, &old, NULL), 0);
  fake_file(&rig.b, "f", 1000, 2);
  assert_int_equal(prelux_store_open_object(&rig.v, "f", 0, &b, &new, NULL), 0);
  assert_int_not_equal(a.ino, b.ino);
  uint64_t first = a.ino, second = b.ino;
  fstat(old, &st);
  assert_int_equal(prelux_index_get_inode(&reader, rig.dir, st.st_dev, st.st_ino, &a), 1);
  assert_int_equal(a.ino, first);
  fstat(new, &st);
  assert_int_equal(prelux_index_get_inode(&reader, rig.dir, st.st_dev, st.st_ino, &a), 1);
  assert_int_equal(a.ino, second);
  close(old);
  close(new);
  memset(&reader, 0, sizeof reader);
}

/* What is made, rewritten, renamed and removed here. */
static void test_made_here(void **state)
{
  always();
  struct fake_object *o = fake_file(&rig.b, "f", 10, 1);
  uint64_t made = prelux_number_fresh(rig.t, 77, 1000), first = number("f");
  assert_true(made != first && made == prelux_number_fresh(rig.t, 77, 1000));
  assert_true(made != prelux_number_fresh(rig.t, 77, 1001) && made != prelux_number_fresh(rig.t, 78, 1000));
  /* Published as the version that the remote has now: the number is the file's own, until another version is there. */
  struct prelux_object obj;
  fake_file(&rig.b, "f", 11, 2);
  fake_show(o, &obj);
  prelux_learn_written(rig.t, "f", made, &obj, 0, 0);
  for (int i = 0; i < 2; i++)
  {
    assert_int_equal(number("f"), made);
    assert_int_equal(listed_number("", "f"), made);
    assert_int_equal(rig_check(&rig, "f"), 0);
    assert_int_equal(number("f"), made);
    rig_reopen(&rig);
    always();
  }
  /* Renamed: the new path has it, whatever version it gets; the old one never again. */
  fake_remove(&rig.b, "f");
  fake_file(&rig.b, "g", 11, 3);
  prelux_number_set(rig.t, "g", made, NULL);
  prelux_number_end(rig.t, "f");
  rig_reopen(&rig);
  always();
  assert_int_equal(number("g"), made);
  fake_file(&rig.b, "f", 11, 2);
  uint64_t again = number("f");
  assert_true(again != made && again != first);
  fake_file(&rig.b, "g", 12, 4);
  assert_int_not_equal(number("g"), made);
  /* Removed here: another number, were it the same bytes, and were it twice within the clock's grain. */
  for (int i = 0; i < 3; i++)
  {
    uint64_t was = number("f");
    prelux_number_end(rig.t, "f");
    prelux_number_end(rig.t, "f");
    assert_int_not_equal(number("f"), was);
  }
}

static int count_row(void *arg, const struct prelux_number *n)
{
  unsigned *count = arg;
  count[n->generation > 0]++;
  return 0;
}

/* At the limit those go first that only say which version was cached. */
static void test_rows_are_bounded(void **state)
{
  struct prelux_number rows[60];
  unsigned count[2] = {0, 0};
  for (uint64_t i = 0; i < 60; i++)
    rows[i] = (struct prelux_number){.base = 1000 + i, .generation = i % 3 == 0 ? i + 1 : 0, .stamp = 9};
  assert_int_equal(prelux_catalogue_set_numbers(rig.s->cat, 77, rows, 60), 0);
  assert_int_equal(prelux_catalogue_prune_numbers(rig.s->cat, 77, 30), 0);
  assert_int_equal(prelux_catalogue_numbers(rig.s->cat, 77, count_row, count), 0);
  assert_int_equal(count[0], 10);
  assert_int_equal(count[1], 20);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
      T(test_stays_without_a_change), T(test_changes_with_the_version), T(test_a_listing_learns_too), T(test_rough_listings),
      T(test_in_doubt_it_stays), T(test_gone_and_back), T(test_file_becomes_folder), T(test_changed_behind_our_back),
      T(test_row_of_a_replaced_object), T(test_open_file_keeps_its_number), T(test_made_here), T(test_rows_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
