/* Leases (lib/store/stage_lease.c): who gets one, what it hides, and what becomes of files whose names were being made when it ended. */
#include "tests/unit/stage_children.h"

#include <dirent.h>
#include <inttypes.h>

#include "lib/store/deferred.h"
#include "lib/store/stage_lease.h"

static uint64_t serial;
static int self = -1; /* pidfd */

static int lease_set_up(void **state)
{
  int rc = set_up(state);
  rig.rules.async = true;
  serial = 0;
  self = prelux_process_open(getpid());
  prelux_lease_request(true); /* the one that the tests make */
  return rc;
}

static int lease_tear_down(void **state)
{
  prelux_lease_request(false);
  close(self);
  return tear_down(state);
}

/* A streak's next open of `object`, as if by a program. */
static bool ask(const char *object, struct prelux_lease_ask like, struct prelux_grant *ret)
{
  struct prelux_lease_ask a = {.v = &rig.v, .rules = &rig.rules, .object = object, .flags = O_WRONLY | O_CREAT | O_TRUNC, .mode = 0644, .made = true,
                               .pid = getpid(), .pidfd = self, .serial = ++serial};
  if (like.flags)
    a.flags = like.flags;
  if (like.mode)
    a.mode = like.mode;
  if (like.serial)
    serial = a.serial = serial + like.serial;
  a.made = !like.made;
  return prelux_store_lease(rig.s, &a, ret);
}

static void spares(void)
{
  struct stat st;
  for (int i = 0; i < 12; i++)
    prelux_spare_take(rig.g, 0600, &st); /* files in quick succession */
  prelux_spare_make(rig.g);
}

/* The folder is one that is known, and a lease on it is granted. */
static struct prelux_grant granted(const char *folder)
{
  struct prelux_grant g = {0};
  struct prelux_attr attr;
  char object[300];
  int fd = -1;
  assert_int_equal(prelux_store_list(&rig.v, folder, 0, &attr, &fd, &rig.why), 0);
  close(fd);
  spares();
  snprintf(object, sizeof object, "%s/x", folder);
  for (unsigned i = 1; i < PRELUX_LEASE_STREAK; i++)
    assert_false(ask(object, (struct prelux_lease_ask){0}, &g));
  assert_true(ask(object, (struct prelux_lease_ask){0}, &g));
  assert_int_equal(g.n, PRELUX_LEASE_FIRST);
  return g;
}

static const char *staging_of(uint64_t ino)
{
  static char path[600];
  snprintf(path, sizeof path, "%s/.prelux/staging/%" PRIu64, rig.cache, ino);
  return path;
}

static const char *lease_of(int64_t number, const char *end, const char *name)
{
  static char path[600];
  snprintf(path, sizeof path, "%s/.prelux/" PRELUX_LEASE_FOLDER "/%" PRId64 "%s/%s", rig.cache, number, end, name);
  return path;
}

/* What a program does to make a file: 0 or -errno. */
static int make(const struct prelux_grant *g, unsigned i, const char *name, const char *text)
{
  char source[600];
  snprintf(source, sizeof source, "%s", staging_of(g->files[i]));
  int fd = open(source, O_WRONLY);
  if (fd < 0)
    return -errno;
  int rc = link(source, lease_of(g->number, "", name)) < 0 ? -errno : 0;
  if (rc == 0)
    say(fd, text);
  close(fd);
  return rc;
}

static unsigned entries(const char *folder)
{
  char path[600];
  unsigned n = 0;
  snprintf(path, sizeof path, "%s/.prelux/%s", rig.cache, folder);
  DIR *d = opendir(path);
  assert_non_null(d);
  while (readdir(d))
    n++;
  closedir(d);
  return n - 2;
}

/* ---- */

static void test_who_gets_one(void **state)
{
  struct prelux_grant g;
  struct prelux_attr attr;
  int fd;
  char path[600];
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  spares();
  for (int i = 0; i < 20; i++) /* nothing is known of the folder */
    assert_false(ask("d/x", (struct prelux_lease_ask){0}, &g));
  assert_int_equal(prelux_store_list(&rig.v, "d", 0, &attr, &fd, &rig.why), 0);
  close(fd);
  const struct prelux_lease_ask other[] = {{.flags = O_WRONLY | O_CREAT}, {.flags = O_WRONLY | O_CREAT | O_TRUNC | O_SYNC}, {.mode = 0755}, {.made = true},
                                           {.flags = O_WRONLY | O_CREAT | O_TRUNC | O_DIRECT}};
  for (size_t k = 0; k < sizeof other / sizeof *other; k++)
    for (int i = 0; i < 20; i++)
      assert_false(ask("d/x", other[k], &g));
  for (int i = 0; i < 40; i++) /* somebody else has asked in between */
    assert_false(ask("d/x", (struct prelux_lease_ask){.serial = i % 7 == 6}, &g));
  serial++;
  for (int i = 0; i < 40; i++)
    assert_false(ask(i & 1 ? "d/x" : "d/y/x", (struct prelux_lease_ask){0}, &g));
  for (unsigned i = 0; i < 40; i++) /* another request that may change names is under way */
  {
    prelux_lease_request(true);
    assert_false(ask("d/x", (struct prelux_lease_ask){0}, &g));
    prelux_lease_request(false);
  }
  rig.rules.power = true;
  for (int i = 0; i < 20; i++)
    assert_false(ask("d/x", (struct prelux_lease_ask){0}, &g));
  rig.rules.power = false;
  g = granted("d");
  assert_true(prelux_leases_active());
  for (int i = 0; i < 20; i++) /* one at a time */
    assert_false(ask("d/x", (struct prelux_lease_ask){0}, &g));
  prelux_lease_stop(rig.g);
  assert_false(prelux_leases_active());
  assert_int_equal(entries(PRELUX_LEASE_FOLDER), 1);
}

/* Names that the remote has, or this node, are taken, whether the index has a slot of them or not. */
static void test_names_of_before(void **state)
{
  char path[600];
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  put_text("d/theirs", "theirs");
  struct prelux_attr attr;
  int fd;
  assert_int_equal(prelux_store_list(&rig.v, "d", 0, &attr, &fd, &rig.why), 0);
  close(fd);
  int ours = wopen("d/ours", O_WRONLY | O_CREAT | O_EXCL), sent = wopen("d/sent", O_WRONLY | O_CREAT | O_EXCL);
  assert_true(ours >= 0 && sent >= 0);
  assert_int_equal(wclose(sent), 0);
  send_all();
  assert_string_equal(remote_text("d/sent"), "");
  const struct prelux_grant g = granted("d");
  assert_int_equal(make(&g, 0, "theirs", ""), -EEXIST);
  assert_int_equal(make(&g, 0, "ours", ""), -EEXIST);
  assert_int_equal(make(&g, 0, "sent", ""), -EEXIST);
  assert_int_equal(make(&g, 0, "new", "new"), 0);
  assert_int_equal(make(&g, 1, "new", ""), -EEXIST);
  prelux_lease_adopt(rig.g);
  struct stat name, placeholder;
  assert_int_equal(stat(lease_of(g.number, "", "new"), &name), 0);
  assert_int_equal(stat(lease_of(g.number, "", "theirs"), &placeholder), 0);
  assert_int_equal(name.st_ino, placeholder.st_ino); /* it has its row: a daemon that comes later makes none of it */
  assert_int_equal(make(&g, 1, "new", ""), -EEXIST);
  assert_int_equal(make(&g, 1, "second", "2"), 0);
  prelux_lease_stop(rig.g);
  assert_int_equal(make(&g, 2, "third", ""), -ENOENT);
  send_all();
  assert_string_equal(remote_text("d/new"), "new");
  assert_string_equal(remote_text("d/second"), "2");
  assert_string_equal(remote_text("d/theirs"), "theirs");
  close(ours);
}

static bool in_index(const char *object, struct prelux_attr *ret)
{
  return prelux_index_get(&rig.reader, rig.top, rig.v.id, object, strlen(object), ret) == 1;
}

/* As long as it lasts nobody finds in the index that a name is not there, nor what the folder is, nor its listing; whatever the daemon learns. */
static void test_what_is_hidden(void **state)
{
  struct prelux_attr attr;
  struct prelux_names_at at;
  char path[600];
  int fd;
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  put_text("d/theirs", "theirs");
  put_text("beside", "beside");
  assert_int_equal(prelux_store_stat(&rig.v, "d/none", 0, &attr, &rig.why), -ENOENT);
  assert_true(in_index("d/none", &attr) && attr.type == PRELUX_NONE);
  const struct prelux_grant g = granted("d");
  assert_int_equal(prelux_store_list(&rig.v, "d", 0, &attr, &fd, &rig.why), 0);
  close(fd);
  assert_int_equal(prelux_store_stat(&rig.v, "d", 0, &attr, &rig.why), 0);
  assert_int_equal(prelux_store_stat(&rig.v, "d/nor", 0, &attr, &rig.why), -ENOENT);
  assert_false(in_index("d/nor", &attr));
  assert_false(in_index("d", &attr));
  assert_int_equal(prelux_index_get_names(&rig.reader, rig.top, rig.v.id, "d", 1, &at), 0);
  assert_int_equal(prelux_store_stat(&rig.v, "d/theirs", 0, &attr, &rig.why), 0);
  assert_int_equal(prelux_store_stat(&rig.v, "nowhere", 0, &attr, &rig.why), -ENOENT);
  assert_true(in_index("d/theirs", &attr) && in_index("nowhere", &attr)); /* that can do no harm */
  assert_int_equal(make(&g, 0, "made", "made"), 0);
  prelux_lease_stop(rig.g);
  assert_true(in_index("d/made", &attr) && (attr.flags & PRELUX_ATTR_LIVE));
  assert_int_equal(prelux_store_stat(&rig.v, "d/nor", 0, &attr, &rig.why), -ENOENT);
  assert_int_equal(prelux_store_stat(&rig.v, "d", 0, &attr, &rig.why), 0);
  assert_true(in_index("d/nor", &attr) && in_index("d", &attr));
}

/* A link that is on its way when the lease ends: it has the folder open already. */
static struct {
  int dirfd;
  char source[600];
  int result;
  unsigned after; /* unlinks of staging files */
} late;
static int (*real_unlinkat)(int dirfd, const char *path, int flags);

static int late_unlinkat(int dirfd, const char *path, int flags)
{
  bool ours = dirfd == rig.g->fd && strcmp(path, strrchr(late.source, '/') + 1) == 0;
  if (ours && late.after == 0)
    late.result = linkat(AT_FDCWD, late.source, late.dirfd, "late", 0) < 0 ? -errno : 0;
  char open_file[64];
  int fd = ours ? open(late.source, O_PATH) : -1;
  int rc = real_unlinkat(dirfd, path, flags);
  snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", fd);
  if (ours && late.after == 1)
    late.result = linkat(AT_FDCWD, open_file, late.dirfd, "late", AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
  if (fd >= 0)
    close(fd);
  return rc;
}

static void end_with_late_link(unsigned after)
{
  char path[600];
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  const struct prelux_grant g = granted("d");
  snprintf(late.source, sizeof late.source, "%s", staging_of(g.files[3]));
  late.dirfd = open(lease_of(g.number, "", ""), O_RDONLY | O_DIRECTORY);
  late.after = after;
  late.result = 1;
  int fd = open(late.source, O_WRONLY);
  say(fd, "late");
  assert_int_equal(make(&g, 0, "first", "first"), 0);
  real_unlinkat = prelux_os.unlinkat;
  prelux_os.unlinkat = late_unlinkat;
  prelux_lease_stop(rig.g);
  prelux_os.unlinkat = real_unlinkat;
  close(fd);
  close(late.dirfd);
  assert_false(prelux_leases_active());
  prelux_stage_poll(rig.g);
  send_all();
  assert_string_equal(remote_text("d/first"), "first");
}

static void test_a_link_before_the_end(void **state)
{
  end_with_late_link(0);
  assert_int_equal(late.result, 0);
  assert_string_equal(remote_text("d/late"), "late");
}

static void test_a_link_behind_the_end(void **state)
{
  end_with_late_link(1);
  assert_int_equal(late.result, -ENOENT);
  assert_null(remote_text("d/late"));
}

static void test_more(void **state)
{
  struct prelux_grant g, next;
  char path[600];
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  g = granted("d");
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number + 1, ++serial, &next), -ESTALE);
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number, ++serial, &next), 0);
  assert_int_equal(next.n, 2 * PRELUX_LEASE_FIRST);
  assert_int_equal(next.number, g.number);
  for (unsigned i = 0; i < g.n; i++)
    for (unsigned k = 0; k < next.n; k++)
      assert_int_not_equal(g.files[i], next.files[k]);
  assert_int_equal(make(&next, 31, "big", "0123456789"), 0);
  struct prelux_grant few;
  struct stat st;
  while (prelux_spare_take(rig.g, 0600, &st))
    ;
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number, ++serial, &few), 0); /* none lies ready: better some that are made at once than the end */
  assert_int_equal(few.n, PRELUX_LEASE_FIRST);
  rig.g->room = 5; /* so much may wait to be sent: who makes files had better ask */
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number, ++serial, &next), -ESTALE);
  rig.g->room = 1 << 20;
  spares();
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number, ++serial, &next), 0);
  struct prelux_view old = rig.v;
  prelux_view_init(&old, rig.t, PRELUX_FRESH_MAX_AGE, 50000000, 50000000, 0644, 0755);
  spares();
  usleep(60000); /* what is known of the folder is too old for it */
  assert_int_equal(prelux_store_lease_more(&old, g.number, ++serial, &next), -ESTALE);
  prelux_lease_stop(rig.g);
  assert_int_equal(prelux_store_lease_more(&rig.v, g.number, ++serial, &next), -ESTALE);
}

/* ---- a daemon that died ---- */

/* A staging file as one made ahead; its number. */
static uint64_t staged(const char *text)
{
  char path[600];
  struct stat st;
  snprintf(path, sizeof path, "%s/.prelux/staging/new", rig.cache);
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  assert_true(fd >= 0 && fstat(fd, &st) == 0);
  say(fd, text);
  close(fd);
  assert_int_equal(rename(path, staging_of(st.st_ino)), 0);
  return st.st_ino;
}

static void named(uint64_t ino, int64_t number, const char *end, const char *name)
{
  char source[600];
  snprintf(source, sizeof source, "%s", staging_of(ino));
  assert_int_equal(link(source, lease_of(number, end, name)), 0);
}

static void marked(uint64_t ino)
{
  char source[600], name[600];
  snprintf(source, sizeof source, "%s/.prelux/" PRELUX_LEFT_FOLDER "/0", rig.cache);
  snprintf(name, sizeof name, "%s/.prelux/" PRELUX_LEFT_FOLDER "/%" PRIu64 ".4000000", rig.cache, ino);
  assert_int_equal(link(source, name), 0);
}

static void left_folder(int64_t number, const char *end, const char *what)
{
  char path[600];
  mkdir(lease_of(number, end, ""), 0700);
  snprintf(path, sizeof path, "%s/.prelux/" PRELUX_LEASE_FOLDER "/%" PRId64 ".of", rig.cache, number);
  if (what)
    assert_int_equal(symlink(what, path), 0);
}

static void test_left_behind(void **state)
{
  char what[100], path[600];
  snprintf(path, sizeof path, "%s/d", rig.remote);
  mkdir(path, 0755);
  int fd = wopen("d/row", O_WRONLY | O_CREAT | O_EXCL); /* the tree has a number in the journal */
  say(fd, "row");
  uint64_t row = number(fd);
  snprintf(what, sizeof what, "%" PRId64 " %x 640 d", (int64_t)atomic_load(&rig.t->owed_id),
           (unsigned)(PRELUX_PENDING_MODE | PRELUX_PENDING_FRESH | PRELUX_PENDING_OVER));
  rig_close();
  close(fd);
  left_folder(5, "", what);
  uint64_t whole = staged("whole"), open_yet = staged("half"), unnamed = staged(""), cut = staged("cut");
  named(whole, 5, "", "whole");
  named(open_yet, 5, "", "half");
  named(row, 5, "", "row"); /* it got its row before the end */
  marked(whole);
  marked(row);
  snprintf(path, sizeof path, "%s/.prelux/" PRELUX_LEASE_FOLDER "/0", rig.cache);
  assert_int_equal(link(path, lease_of(5, "", "before")), 0); /* and this one was sent */
  left_folder(6, PRELUX_LEASE_CLOSED, what);
  named(cut, 6, PRELUX_LEASE_CLOSED, "cut");
  marked(cut);
  unlink(staging_of(cut)); /* the death came before it had its name back */
  left_folder(7, "", NULL);
  left_folder(8, "", "no such words");
  assert_int_equal(rig_open(), 0);
  assert_int_equal(entries(PRELUX_LEASE_FOLDER), 1);
  assert_int_equal(pending(), 4);
  rig.g->orphan_len_ns = 1;
  send_all();
  assert_string_equal(remote_text("d/whole"), "whole");
  assert_string_equal(remote_text("d/cut"), "cut");
  assert_string_equal(remote_text("d/row"), "row");
  assert_null(remote_text("d/before"));
  assert_null(remote_text("d/half")); /* nobody has said that it was closed */
  struct prelux_attr attr;
  assert_int_equal(prelux_store_stat(&rig.v, "d/whole", 0, &attr, &rig.why), 0);
  assert_int_equal(attr.mode & 07777, 0640);
  assert_int_not_equal(access(staging_of(unnamed), F_OK), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, lease_set_up, lease_tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_who_gets_one), TEST(test_names_of_before), TEST(test_what_is_hidden), TEST(test_a_link_before_the_end), TEST(test_a_link_behind_the_end),
      TEST(test_more), TEST(test_left_behind),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
