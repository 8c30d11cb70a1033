/* Parts that are sent while their file is being written (lib/store/stage_grow.c). But for the last tests no thread runs: a round is a call. */
#include "tests/unit/stage_rig.h"

#include <sys/mman.h>

#include "lib/store/name.h"

#define PART 65536u
#define ABOVE (2 * PART)

static char *wanted; /* what the file must be on the remote */
static size_t wanted_len;

static int begin_grow(void **state)
{
  int rc = set_up(state);
  wanted = calloc(1, 64 * PART);
  wanted_len = 0;
  rig.g->parts_above = ABOVE;
  rig.g->part_size = PART;
  rig.g->grower.not = 0; /* the rig's remote has folders, and uploads elsewhere */
  rig.g->grower.by_hand = true;
  return rc;
}

static int end_grow(void **state)
{
  free(wanted);
  return tear_down(state);
}

static void put_at(int fd, size_t off, size_t len, unsigned seed)
{
  for (size_t i = 0; i < len; i++)
    wanted[off + i] = (char)((off + i) * 31 + (off + i) / 251 + seed);
  assert_int_equal(pwrite(fd, wanted + off, len, (off_t)off), len);
  wanted_len = off + len > wanted_len ? off + len : wanted_len;
}

static void cut(int fd, size_t size)
{
  assert_int_equal(ftruncate(fd, (off_t)size), 0);
  if (size < wanted_len)
    memset(wanted + size, 0, wanted_len - size);
  wanted_len = size;
}

static void rounds(int n)
{
  size_t files;
  while (n-- > 0)
    prelux_grow_round(rig.g, &files);
}

static int uploads_left(void)
{
  int n = 0;
  char command[400];
  snprintf(command, sizeof command, "ls '%s' | grep -c upload-", rig.top);
  FILE *f = popen(command, "r");
  assert_int_equal(fscanf(f, "%d", &n), 1);
  pclose(f);
  return n;
}

static void check(const char *name)
{
  struct stat st;
  char path[600], *got = malloc(64 * PART);
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  int fd = open(path, O_RDONLY);
  assert_true(fd >= 0 && fstat(fd, &st) == 0);
  assert_int_equal(st.st_size, wanted_len);
  assert_int_equal(read(fd, got, 64 * PART), wanted_len);
  for (size_t i = 0; i < wanted_len; i++)
    if (got[i] != wanted[i])
      fail_msg("byte %zu", i);
  close(fd);
  free(got);
  assert_int_equal(pending(), 0);
  rounds(1);
  assert_int_equal(uploads_left(), 0);
}

static void test_grows(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT);
  put_at(fd, 0, ABOVE + PART, 0);
  rounds(2);
  assert_int_equal(uploads_left(), 0); /* it may end here, and go in one piece */
  put_at(fd, wanted_len, 2 * PART, 0);
  rounds(1);
  assert_int_equal(uploads_left(), 1);
  assert_int_equal(atomic_load(&faulty.parts), 4); /* but the last of five */
  rounds(2);
  assert_int_equal(atomic_load(&faulty.parts), 4);
  put_at(fd, wanted_len, 5 * PART + 17, 0);
  rounds(1);
  assert_int_equal(atomic_load(&faulty.parts), 9);
  assert_null(remote_text("f"));
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.parts), 11);
  assert_int_equal(atomic_load(&faulty.aborts), 0);
  assert_int_equal(atomic_load(&faulty.puts), 0);
  check("f");
}

/* Each of these is a file whose eight first parts were sent; how many more the close has to send, of how many in all. */
static int begin_file(const char *name)
{
  int fd = wopen(name, O_RDWR | O_CREAT);
  put_at(fd, 0, 9 * PART, 0);
  rounds(1);
  assert_int_equal(atomic_load(&faulty.parts), 8);
  return fd;
}

static void close_file(int fd, const char *name, int more)
{
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.parts) - 8, more);
  check(name);
}

static void test_header_is_written_last(void **state)
{
  int fd = begin_file("f");
  put_at(fd, 4, 8, 99);
  close_file(fd, "f", 2);
}

static void test_one_byte_in_each_part(void **state)
{
  int fd = begin_file("f");
  for (size_t i = 0; i < 8; i++)
    put_at(fd, i * PART + (i % 2 ? PART - 1 : 0), 1, 7);
  close_file(fd, "f", 9);
}

static void test_written_and_put_back(void **state)
{
  int fd = begin_file("f");
  put_at(fd, 100, 1000, 5);
  rounds(1);
  put_at(fd, 100, 1000, 0);
  close_file(fd, "f", 1); /* the same bytes were sent */
}

static void test_mapped(void **state)
{
  int fd = begin_file("f");
  char *map = mmap(NULL, 9 * PART, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  assert_true(map != MAP_FAILED);
  map[3 * PART + 5] = wanted[3 * PART + 5] = 'x';
  munmap(map, 9 * PART);
  close_file(fd, "f", 2);
}

static void test_cut_within_what_was_sent(void **state)
{
  int fd = begin_file("f");
  cut(fd, 5 * PART + 1);
  close_file(fd, "f", 1);
}

static void test_cut_where_a_part_ends(void **state)
{
  int fd = begin_file("f");
  cut(fd, 5 * PART);
  close_file(fd, "f", 1); /* one is always sent: an upload that is gone says so then */
}

static void test_cut_and_written_anew(void **state)
{
  int fd = begin_file("f");
  cut(fd, 0);
  put_at(fd, 0, 9 * PART + 3, 42);
  rounds(2);
  close_file(fd, "f", 10);
}

static void test_cut_to_little(void **state)
{
  int fd = begin_file("f");
  cut(fd, 1000);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.puts), 1);
  check("f");
}

static void test_upload_is_swept_meanwhile(void **state)
{
  char command[400];
  int fd = begin_file("f");
  snprintf(command, sizeof command, "rm '%s'/upload-*", rig.top);
  assert_int_equal(system(command), 0);
  assert_int_equal(wclose(fd), 0);
  check("f");
}

static void test_a_part_fails(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT);
  atomic_store(&faulty.fault_part, FAIL_EIO);
  put_at(fd, 0, 9 * PART, 0);
  rounds(1);
  atomic_store(&faulty.fault_part, NO_FAULT);
  put_at(fd, wanted_len, 3 * PART, 0);
  int before = atomic_load(&faulty.parts);
  rounds(2);
  assert_int_equal(atomic_load(&faulty.parts), before); /* not before the close */
  assert_int_equal(wclose(fd), 0);
  check("f");
}

static void test_end_is_lost(void **state)
{
  int fd = begin_file("f");
  atomic_store(&faulty.fault_part, LOSE_AFTER);
  assert_int_equal(wclose(fd), 0);
  atomic_store(&faulty.fault_part, NO_FAULT);
  check("f");
}

static void test_somebody_was_there_first(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT | O_EXCL);
  put_at(fd, 0, 9 * PART, 0);
  rounds(1);
  put_text("f", "another");
  assert_int_equal(wclose(fd), -ESTALE);
  assert_string_equal(remote_text("f"), "another");
  rounds(1);
  assert_int_equal(uploads_left(), 0);
}

static void test_holes_are_no_bytes(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT);
  cut(fd, 12 * PART);
  rounds(2);
  assert_int_equal(atomic_load(&faulty.parts), 0);
  put_at(fd, 0, 3 * PART, 0); /* as who takes room in advance */
  rounds(1);
  assert_int_equal(atomic_load(&faulty.parts), 3);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.parts), 12);
  check("f");
}

static void test_who_does_not_grow(void **state)
{
  rig.rules.async = true; /* nobody waits for it */
  int fd = wopen("async", O_WRONLY | O_CREAT);
  put_at(fd, 0, 9 * PART, 0);
  rounds(2);
  rig.rules.async = false;
  assert_int_equal(uploads_left(), 0);
  assert_int_equal(wclose(fd), 0);
  check("async");
  atomic_store(&faulty.parts, 0);
  fd = wopen("async", O_RDWR | O_APPEND); /* perhaps little of it changes */
  put_at(fd, wanted_len, 5 * PART, 0);
  rounds(2);
  assert_int_equal(atomic_load(&faulty.parts), 0);
  assert_int_equal(wclose(fd), 0);
  check("async");
  rig.g->grower.not = ~0u; /* a remote where an upload might be in the way */
  atomic_store(&faulty.parts, 0);
  fd = wopen("new", O_WRONLY | O_CREAT);
  put_at(fd, 0, 9 * PART, 0);
  rounds(2);
  assert_int_equal(atomic_load(&faulty.parts), 0);
  assert_int_equal(wclose(fd), 0);
}

static void test_renamed(void **state)
{
  int fd = begin_file("f");
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "f", "g", 0, &rig.why), 0);
  rounds(1); /* an upload is of one name */
  assert_int_equal(uploads_left(), 0);
  put_at(fd, wanted_len, 3 * PART, 0);
  rounds(2);
  assert_int_equal(uploads_left(), 0);
  assert_int_equal(wclose(fd), 0);
  check("g");
  assert_null(remote_text("f"));
}

static void test_renamed_and_closed_at_once(void **state)
{
  int fd = begin_file("f");
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "f", "g", 0, &rig.why), 0);
  assert_int_equal(wclose(fd), 0);
  check("g");
}

static void test_removed(void **state)
{
  int fd = begin_file("f");
  assert_int_equal(prelux_store_unlink(&rig.v, &rig.rules, "f", &rig.why), 0);
  rounds(1);
  assert_int_equal(uploads_left(), 0);
  put_at(fd, 9 * PART, 3 * PART, 0);
  rounds(1);
  assert_int_equal(uploads_left(), 0);
  wclose(fd);
  assert_null(remote_text("f"));
  assert_int_equal(pending(), 0);
}

static void test_daemon_dies(void **state)
{
  int fd = begin_file("f");
  rig_close();
  memset(&rig.reader, 0, sizeof rig.reader);
  assert_int_equal(uploads_left(), 1);
  put_at(fd, wanted_len, PART, 0);
  assert_int_equal(rig_open(), 0);
  rig.g->parts_above = ABOVE;
  rig.g->part_size = PART;
  rig.g->grower.by_hand = true;
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(atomic_load(&faulty.aborts), 1);
  check("f");
}

/* ---- uploads that cannot be aborted just now ---- */

/* The close fails, as do so many aborts from then on; there are no other failures. */
static void close_badly(int fd, int aborts)
{
  atomic_store(&faulty.parts, 2);
  atomic_store(&faulty.fault_part, FAIL_EIO);
  atomic_store(&faulty.fail_aborts, aborts);
  assert_int_equal(wclose(fd), -EIO);
  atomic_store(&faulty.fault_part, NO_FAULT);
}

static void send_all_that_waits(void)
{
  int64_t next;
  prelux_store_hurry(rig.s);
  while (prelux_stage_work(rig.g, &next))
    ;
}

/* Whatever it takes; the pause before the second try is half a second. */
static void await_no_uploads(void)
{
  for (int i = 0; i < 100 && uploads_left() > 0; i++)
  {
    usleep(50000);
    rounds(1);
  }
  assert_int_equal(uploads_left(), 0);
}

/* The remote is back between the abort of what a failed close has left and the begin of what goes next. */
static void test_next_try_begins_anew(void **state)
{
  close_badly(begin_file("f"), 2);
  assert_int_equal(uploads_left(), 1);
  send_all_that_waits();
  assert_int_equal(pending(), 0);
  await_no_uploads();
  check("f");
}

static void test_completion_is_unknown(void **state)
{
  int fd = begin_file("f");
  atomic_store(&faulty.fault_part, LOSE_BEFORE);
  assert_int_equal(wclose(fd), -EIO);
  assert_int_equal(uploads_left(), 1);
  atomic_store(&faulty.fault_part, NO_FAULT);
  send_all_that_waits();
  assert_int_equal(uploads_left(), 0);
  check("f");
}

static void test_renamed_after_a_failed_close(void **state)
{
  close_badly(begin_file("f"), 1);
  assert_int_equal(prelux_store_rename(&rig.v, &rig.rules, "f", "g", 0, &rig.why), 0);
  send_all_that_waits();
  await_no_uploads();
  check("g");
}

static void test_removed_after_a_failed_close(void **state)
{
  close_badly(begin_file("f"), 1);
  assert_int_equal(prelux_store_unlink(&rig.v, &rig.rules, "f", &rig.why), 0);
  assert_int_equal(pending(), 0);
  await_no_uploads();
}

static void test_removed_while_the_remote_is_away(void **state)
{
  int fd = begin_file("f");
  assert_int_equal(prelux_store_unlink(&rig.v, &rig.rules, "f", &rig.why), 0);
  atomic_store(&faulty.fail_aborts, 1);
  rounds(2);
  assert_int_equal(uploads_left(), 1);
  assert_int_equal(atomic_load(&faulty.aborts), 1); /* it rests */
  await_no_uploads();
  wclose(fd);
}

/* ---- with the thread ---- */

struct writer
{
  pthread_t thread;
  char name[8];
  unsigned seed;
};

static void *write_much(void *arg)
{
  struct writer *w = arg;
  char *block = malloc(PART), *again = calloc(1, PART);
  memset(block, (int)w->seed, PART);
  int fd = wopen(w->name, O_RDWR | O_CREAT);
  for (unsigned i = 0; i < 40; i++)
  {
    memcpy(block, &i, sizeof i);
    if (pwrite(fd, block, PART, (off_t)i * PART) != PART)
      abort();
    usleep(3000);
    if (i % 8 == 7 && pwrite(fd, "again", 5, (off_t)(i / 2) * PART + 100) != 5)
      abort();
  }
  struct prelux_problem why;
  struct stat st;
  fstat(fd, &st);
  close(fd);
  intptr_t rc = prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &why);
  free(block);
  free(again);
  return (void *)rc;
}

static void test_many_at_once(void **state)
{
  struct writer writers[4];
  rig.g->grower.by_hand = false;
  for (unsigned i = 0; i < 4; i++)
  {
    writers[i].seed = 'a' + i;
    snprintf(writers[i].name, sizeof writers[i].name, "f%u", i);
    pthread_create(&writers[i].thread, NULL, write_much, &writers[i]);
  }
  for (unsigned i = 0; i < 4; i++)
  {
    void *rc;
    pthread_join(writers[i].thread, &rc);
    assert_int_equal((intptr_t)rc, 0);
  }
  assert_int_equal(pending(), 0);
  assert_int_equal(uploads_left(), 0);
  for (unsigned i = 0; i < 4; i++)
  {
    char path[600], *got = malloc(40 * PART + 1);
    snprintf(path, sizeof path, "%s/%s", rig.remote, writers[i].name);
    int fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, got, 40 * PART + 1), 40 * PART);
    close(fd);
    for (unsigned k = 0; k < 40; k++)
    {
      unsigned n;
      memcpy(&n, got + (size_t)k * PART, sizeof n);
      assert_int_equal(n, k);
      bool again = k % 4 == 3 && k < 20;
      assert_int_equal(memcmp(got + (size_t)k * PART + 100, "again", 5) == 0, again);
      assert_int_equal(got[(size_t)k * PART + PART - 1], (char)writers[i].seed);
    }
    free(got);
  }
}

static _Thread_local void *asker;
static atomic_int as_nobody;

static void *asks_as(void)
{
  return asker;
}

static void ask_as(void *who)
{
  asker = who;
}

static int noting_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off, uint64_t len,
                       char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  usleep(10000); /* so that nobody sends them all */
  atomic_fetch_add(&as_nobody, !asker);
  return faulty_part(b, path, token, n, fd, off, len, tag, why);
}

/* Several threads send a file's parts; all with the keys of who has closed it. */
static void test_all_ask_as_one(void **state)
{
  int fd = wopen("f", O_WRONLY | O_CREAT);
  (void)state;
  faulty.ops.asker = asks_as;
  faulty.ops.ask_as = ask_as;
  faulty.write.part = noting_part;
  put_at(fd, 0, 20 * PART, 0);
  asker = &rig;
  int rc = wclose(fd);
  asker = NULL;
  assert_int_equal(rc, 0);
  assert_int_equal(atomic_load(&faulty.parts), 20);
  assert_int_equal(atomic_load(&as_nobody), 0);
  check("f");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_grow, end_grow)
  const struct CMUnitTest tests[] = {
      TEST(test_grows), TEST(test_header_is_written_last), TEST(test_one_byte_in_each_part), TEST(test_written_and_put_back),
      TEST(test_mapped), TEST(test_cut_within_what_was_sent), TEST(test_cut_where_a_part_ends), TEST(test_cut_and_written_anew),
      TEST(test_cut_to_little), TEST(test_upload_is_swept_meanwhile), TEST(test_a_part_fails), TEST(test_end_is_lost),
      TEST(test_somebody_was_there_first), TEST(test_holes_are_no_bytes), TEST(test_who_does_not_grow), TEST(test_renamed),
      TEST(test_renamed_and_closed_at_once), TEST(test_removed), TEST(test_daemon_dies),
      TEST(test_next_try_begins_anew), TEST(test_completion_is_unknown), TEST(test_renamed_after_a_failed_close),
      TEST(test_removed_after_a_failed_close), TEST(test_removed_while_the_remote_is_away), TEST(test_many_at_once),
      TEST(test_all_ask_as_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
