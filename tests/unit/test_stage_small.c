/* Many small files: what need not be asked of the remote, and when the background begins to send. */
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/far_rig.h"

static atomic_int looks, lists;

static int count_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  atomic_fetch_add(&looks, 1);
  return far_stat(b, path, ret, why);
}

static int count_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  atomic_fetch_add(&lists, 1);
  return far_list(b, path, add, arg, why);
}

static int set_up_small(void **state)
{
  int rc = set_up_far(state);
  faulty.ops.stat = count_stat;
  faulty.ops.list = count_list;
  return rc;
}

/* ---- a folder that was made here ---- */

static void creates_unasked(const char *folder)
{
  char path[100];
  looks = lists = 0;
  for (int i = 0; i < 5; i++)
  {
    snprintf(path, sizeof path, "%s/f%d", folder, i);
    int fd = wopen(path, O_WRONLY | O_CREAT | O_TRUNC);
    assert_true(fd >= 0);
    say(fd, "text");
    assert_int_equal(wclose(fd), 0);
  }
  assert_int_equal(looks, 0);
  assert_int_equal(lists, 0);
}

static void test_a_made_folder_is_known_to_be_empty(void **state)
{
  struct prelux_attr attr;
  (void)state;
  assert_int_equal(mkd("d"), 0);
  send_all();
  creates_unasked("d");
  assert_int_equal(mkd("d/e"), 0);
  send_all();
  creates_unasked("d/e");
  send_all();
  put_text("d/e/theirs", "somebody else's");
  assert_int_equal(look("d/e/theirs", &attr), 0); /* who reads is told of what others do */
  put_text("d/e/z", "somebody else's");
  assert_string_equal(ls("d/e"), "f0 f1 f2 f3 f4 theirs z ");
  assert_int_equal(look("d/e/f1", &attr), 0);
}

static void test_so_it_is_with_sync(void **state)
{
  struct prelux_attr attr;
  (void)state;
  rig.rules.async = false;
  assert_int_equal(mkd("d"), 0);
  looks = lists = 0;
  int fd = wopen("d/f", O_WRONLY | O_CREAT | O_TRUNC);
  assert_int_equal(looks + lists, 0);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(rm("d/f"), 0);
  assert_int_equal(rmd("d"), 0);
  make_remote("d");
  put_text("d/theirs", "x");
  assert_string_equal(ls(""), "d/ ");
  assert_int_equal(look("d/theirs", &attr), 0); /* nothing of the folder that was removed is remembered */
}

static void test_what_others_put_there(void **state)
{
  (void)state;
  rig.rules.async = false;
  assert_int_equal(mkd("d"), 0);
  put_text("d/f", "somebody else's");
  put_text("d/g", "somebody else's");
  put_text("d/h", "somebody else's");
  looks = lists = 0;
  int fd = wopen("d/g", O_WRONLY | O_CREAT | O_TRUNC);
  assert_int_equal(looks + lists, 0);
  say(fd, "ours");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("d/g"), "ours");
  rig.rules.async = true;
  looks = lists = 0;
  fd = wopen("d/h", O_WRONLY | O_CREAT | O_EXCL);
  assert_int_equal(looks + lists, 0);
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("d/h"), "somebody else's"); /* the put's condition: nothing is lost on either side */
  assert_int_equal(pending(), 1);
  rig.rules.async = false;
  assert_int_equal(wopen("d/f", O_WRONLY | O_CREAT | O_EXCL), -EEXIST); /* it may be a lock */
  fd = wopen("d/f", O_WRONLY | O_CREAT | O_APPEND);
  say(fd, ", and ours");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("d/f"), "somebody else's, and ours");
}

static void test_old_knowledge(void **state)
{
  (void)state;
  assert_int_equal(mkd("d"), 0);
  send_all();
  rig.v.negative_age_ns = 1;
  looks = lists = 0;
  assert_int_equal(wopen("d/f", O_WRONLY), -ENOENT);
  for (int i = 0; i < 20; i++)
  {
    char name[16];
    snprintf(name, sizeof name, "d/f%d", i);
    int fd = wopen(name, O_WRONLY | O_CREAT | O_TRUNC);
    assert_true(fd >= 0);
    assert_int_equal(wclose(fd), 0);
  }
  assert_true(looks > 0);
  assert_true(lists > 0); /* many expired children: one listing */
}

static int mkdir_of_somebody_else(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  char name[100];
  make_remote(path);
  snprintf(name, sizeof name, "%s/theirs", path);
  put_text(name, "x");
  return prelux_problem(why, PRELUX_EUNKNOWN, "no answer");
}

static void test_a_folder_that_somebody_may_have_made(void **state)
{
  (void)state;
  faulty.write.mkdir = mkdir_of_somebody_else;
  assert_int_equal(mkd("d"), 0);
  send_all();
  assert_int_equal(wopen("d/theirs", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
}

/* ---- a pause ---- */

static void *background(void *arg)
{
  prelux_store_linger(rig.s);
  prelux_store_send_all(rig.s);
  return NULL;
}

static void nap(int ms)
{
  nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

static uint64_t ms_since(uint64_t begun)
{
  return (prelux_store_now() - begun) / 1000000;
}

static bool sent_any(void)
{
  pthread_mutex_lock(&rig.g->lock);
  bool ret = rig.g->sent > 0;
  pthread_mutex_unlock(&rig.g->lock);
  return ret;
}

static pthread_t sender(void)
{
  pthread_t id;
  assert_true(prelux_store_wants_sender(rig.s));
  assert_int_equal(pthread_create(&id, NULL, background, NULL), 0);
  return id;
}

static bool lingers(void)
{
  pthread_mutex_lock(&rig.g->lock);
  bool ret = prelux_stage_lingers(rig.g);
  pthread_mutex_unlock(&rig.g->lock);
  return ret;
}

static void test_senders_wait_for_a_pause(void **state)
{
  (void)state;
  rig.rules.linger_ns = 3600000000000ull;
  rig.g->pause_len_ns = 3600000000000ull;
  far.quiet = true;
  write_file("f0", "text");
  pthread_t id = sender();
  for (int i = 0; i < 8; i++)
  {
    char name[8];
    snprintf(name, sizeof name, "f%d", i);
    write_file(name, "text");
    assert_false(prelux_store_wants_sender(rig.s)); /* one is enough to wait */
  }
  nap(300);
  assert_false(sent_any());
  prelux_store_ending(rig.s);
  pthread_join(id, NULL);
  assert_int_equal(pending(), 0);
}

static void test_a_pause(void **state)
{
  (void)state;
  rig.rules.linger_ns = 3600000000000ull;
  far.quiet = true;
  write_file("f0", "text");
  pthread_t id = sender();
  nap(60);
  uint64_t last = prelux_store_now();
  write_file("f1", "text");
  pthread_join(id, NULL);
  assert_int_equal(pending(), 0);
  assert_true(ms_since(last) >= 190);
}

static void test_not_for_ever(void **state)
{
  (void)state;
  rig.rules.linger_ns = 400000000;
  rig.g->pause_len_ns = 3600000000000ull;
  uint64_t begun = prelux_store_now();
  write_file("f", "text");
  if (ms_since(begun) < 300)
    assert_true(lingers());
  while (ms_since(begun) < 900)
    nap(10);
  write_file("g", "text");
  assert_false(lingers());
  assert_true(prelux_store_wants_sender(rig.s));
  prelux_store_send_all(rig.s);
  begun = prelux_store_now();
  write_file("f", "text"); /* another time */
  if (ms_since(begun) < 300)
    assert_true(lingers());
}

static void *in_a_moment(void *arg)
{
  void (*what)(struct prelux_store *) = *(void (**)(struct prelux_store *))arg;
  nap(50);
  what(rig.s);
  return NULL;
}

/* The sender, in linger, goes on when `what` is called. */
static void goes_on(void (*what)(struct prelux_store *s))
{
  pthread_t other;
  rig.rules.linger_ns = 3600000000000ull;
  rig.g->pause_len_ns = 3600000000000ull;
  write_file("f", "text");
  pthread_t id = sender();
  assert_int_equal(pthread_create(&other, NULL, in_a_moment, &what), 0);
  pthread_join(id, NULL);
  pthread_join(other, NULL);
  assert_int_equal(pending(), 0);
}

static void test_who_hurries(void **state)
{
  (void)state;
  goes_on(prelux_store_hurry);
  write_file("f", "text");
  assert_true(lingers());
  prelux_store_hurry(rig.s);
  write_file("g", "text"); /* somebody who goes on */
  assert_false(lingers());
}

static void test_the_end(void **state)
{
  (void)state;
  goes_on(prelux_store_ending);
  uint64_t begun = prelux_store_now();
  write_file("f", "text");
  prelux_store_linger(rig.s);
  assert_true(ms_since(begun) < 60000); /* nobody waits from then on */
}

static void test_what_waits_is_much(void **state)
{
  (void)state;
  rig.rules.linger_ns = 3600000000000ull;
  rig.g->room = 8;
  write_file("a", "1234");
  assert_true(lingers());
  write_file("b", "5678");
  assert_false(lingers()); /* there is no room for more */
}

static void test_without(void **state)
{
  (void)state;
  write_file("a", "1234");
  assert_false(lingers());
}

/* ---- files made ahead ---- */

/* Names in staging/, and one of them. */
static unsigned staged(char one[24])
{
  char path[600];
  unsigned n = 0;
  snprintf(path, sizeof path, "%s/.prelux/staging", rig.cache);
  DIR *d = opendir(path);
  assert_non_null(d);
  for (const struct dirent *e; (e = readdir(d));)
    if (e->d_name[0] != '.')
    {
      snprintf(one, 24, "%.23s", e->d_name);
      n++;
    }
  closedir(d);
  return n;
}

static void make_ahead(void)
{
  rig.g->spares.quick = 100;
  rig.g->spares.last_ns = prelux_store_now();
  assert_true(prelux_spare_wanted(rig.g));
  assert_false(prelux_spare_wanted(rig.g)); /* somebody is at it */
  prelux_spare_make(rig.g);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES);
}

static void test_made_ahead(void **state)
{
  const struct timespec moment = {.tv_nsec = 30000000};
  char one[24];
  struct stat st;
  (void)state;
  assert_int_equal(mkd("d"), 0);
  assert_false(prelux_spare_wanted(rig.g));
  make_ahead();
  assert_int_equal(staged(one), PRELUX_SPARES);
  nanosleep(&moment, NULL);
  int64_t before = prelux_store_wall();
  int fd = wopen("d/f", O_WRONLY | O_CREAT | O_TRUNC);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  assert_int_equal(staged(one), PRELUX_SPARES); /* it was one of those */
  assert_int_equal(fstat(fd, &st), 0);
  assert_int_equal(st.st_size, 0);
  assert_true(prelux_stat_mtime(&st) >= before - 10000000); /* the kernel's clock of files goes by ticks */
  say(fd, "text");
  assert_int_equal(wclose(fd), 0);
  send_all();
  assert_string_equal(remote_text("d/f"), "text");
  assert_int_equal(staged(one), PRELUX_SPARES - 1);
  prelux_spare_drop(rig.g, false); /* files are being made */
  assert_int_equal(staged(one), PRELUX_SPARES - 1);
  rig.g->spares.last_ns = 1;
  prelux_spare_drop(rig.g, false);
  assert_int_equal(staged(one), 0);
}

/* A spare that is not what it was is nobody's file. */
static void test_made_ahead_and_touched(void **state)
{
  char one[24], path[600];
  (void)state;
  make_ahead();
  snprintf(path, sizeof path, "%s/.prelux/staging/%llu", rig.cache, (unsigned long long)rig.g->spares.ino[PRELUX_SPARES - 1]);
  int spare = open(path, O_WRONLY);
  say(spare, "not yours");
  close(spare);
  snprintf(path, sizeof path, "%s/.prelux/staging/" PRELUX_SPARE_NAME, rig.cache); /* and so one is that a death kept from its number */
  close(open(path, O_WRONLY | O_CREAT, 0600));
  write_file("f", "mine");
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  send_all();
  assert_string_equal(remote_text("f"), "mine");
  rig_close();
  assert_int_equal(staged(one), 1); /* no other outlives the daemon */
  assert_int_equal(rig_open(), 0);
  assert_int_equal(staged(one), 0);
}

/* And so is one whose name another file has by now. */
static void test_made_ahead_and_replaced(void **state)
{
  char path[600];
  (void)state;
  make_ahead();
  snprintf(path, sizeof path, "%s/.prelux/staging/%llu", rig.cache, (unsigned long long)rig.g->spares.ino[PRELUX_SPARES - 1]);
  int held = open(path, O_RDONLY); /* its number is not given again */
  assert_int_equal(unlink(path), 0);
  close(open(path, O_WRONLY | O_CREAT, 0600));
  write_file("f", "mine");
  close(held);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  send_all();
  assert_string_equal(remote_text("f"), "mine");
}

/* What programs may execute can be executed while it is written, too. */
static void test_made_ahead_to_be_executed(void **state)
{
  struct prelux_attr attr;
  struct stat st;
  int fd = -1;
  (void)state;
  make_ahead();
  assert_int_equal(prelux_stage_open(rig.g, &rig.v, &rig.rules, "f", O_WRONLY | O_CREAT, 0755, &attr, &fd, &rig.why), 0);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  assert_int_equal(fstat(fd, &st), 0);
  assert_int_equal(st.st_mode & 0777, 0700);
  assert_int_equal(wclose(fd), 0);
}

/* The one that was taken goes: no row is about it. */
static void test_made_ahead_and_no_journal(void **state)
{
  char one[24];
  struct rlimit none, all;
  (void)state;
  make_ahead();
  getrlimit(RLIMIT_FSIZE, &all);
  none = (struct rlimit){.rlim_cur = 1, .rlim_max = all.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &none);
  int fd = wopen("f", O_WRONLY | O_CREAT);
  setrlimit(RLIMIT_FSIZE, &all);
  assert_true(fd < 0);
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES - 1);
  assert_int_equal(staged(one), PRELUX_SPARES - 1);
}

static int hardly_any(int fd, struct statfs *st)
{
  int rc = fstatfs(fd, st);
  st->f_bavail = (100u << 20) / (uint64_t)st->f_bsize;
  return rc;
}

static void test_none_where_room_is_scarce(void **state)
{
  char one[24];
  (void)state;
  rig.g->spares.quick = 100;
  assert_true(prelux_spare_wanted(rig.g));
  prelux_os.fstatfs = hardly_any;
  prelux_spare_make(rig.g);
  prelux_os.fstatfs = fstatfs;
  assert_int_equal(staged(one), 0);
}

static int no_room(int dirfd, const char *path, mode_t mode, dev_t dev)
{
  errno = ENOSPC;
  return -1;
}

static void test_none_can_be_made(void **state)
{
  char one[24];
  (void)state;
  int (*was)(int dirfd, const char *path, mode_t mode, dev_t dev) = prelux_os.mknodat;
  rig.g->spares.quick = 100;
  assert_true(prelux_spare_wanted(rig.g));
  prelux_os.mknodat = no_room;
  prelux_spare_make(rig.g);
  prelux_os.mknodat = was;
  assert_int_equal(staged(one), 0);
  assert_false(prelux_spare_wanted(rig.g));
  rig.g->spares.quick = 100;
  assert_true(prelux_spare_wanted(rig.g)); /* it can be tried again */
  write_file("f", "text");
  send_all();
  assert_string_equal(remote_text("f"), "text");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_small, tear_down)
      TEST(test_a_made_folder_is_known_to_be_empty),
      TEST(test_so_it_is_with_sync),
      TEST(test_what_others_put_there),
      TEST(test_old_knowledge),
      TEST(test_a_folder_that_somebody_may_have_made),
      TEST(test_senders_wait_for_a_pause),
      TEST(test_a_pause),
      TEST(test_not_for_ever),
      TEST(test_who_hurries),
      TEST(test_the_end),
      TEST(test_what_waits_is_much),
      TEST(test_without),
      TEST(test_made_ahead),
      TEST(test_made_ahead_and_touched),
      TEST(test_made_ahead_and_replaced),
      TEST(test_made_ahead_to_be_executed),
      TEST(test_made_ahead_and_no_journal),
      TEST(test_none_where_room_is_scarce),
      TEST(test_none_can_be_made),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
