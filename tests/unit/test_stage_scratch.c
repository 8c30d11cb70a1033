/* `staging: DIR`: what is made anew is staged on another file system, and may be gone from there after a restart of the machine. */
#include <sys/statfs.h>

#include "tests/unit/stage_rig.h"

static char dir[64];
static struct prelux_os real;

static int shm_up(void **state)
{
  snprintf(dir, sizeof dir, "/dev/shm/prelux-test-XXXXXX");
  assert_non_null(mkdtemp(dir));
  set_up(state);
  real = prelux_os;
  rig.rules.scratch = true;
  assert_int_equal(prelux_store_stage_in(rig.s, dir, &rig.why), 0);
  return 0;
}

static int shm_down(void **state)
{
  char command[200];
  int rc = tear_down(state); /* the store's threads use prelux_os until they have ended */
  prelux_os = real;
  snprintf(command, sizeof command, "rm -rf '%s'", dir);
  return system(command) == 0 ? rc : -1;
}

static bool in_scratch(int fd)
{
  char link[64], path[600];
  uint64_t dev;
  const char *folder = prelux_store_scratch(rig.s, &dev);
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  path[n < 0 ? 0 : n] = 0;
  return folder && strncmp(path, folder, strlen(folder)) == 0;
}

static unsigned names_in(const char *sub)
{
  char command[700], out[32] = "";
  snprintf(command, sizeof command, "ls %s/prelux-*/*/%s | wc -l", dir, sub);
  FILE *f = popen(command, "r");
  assert_non_null(fgets(out, sizeof out, f));
  pclose(f);
  return (unsigned)atoi(out);
}

/* As the library calls it: PRELUX_INO_SCRATCH for files of that device. */
static int sclose(int fd)
{
  struct stat st;
  uint64_t dev;
  prelux_store_scratch(rig.s, &dev);
  assert_int_equal(fstat(fd, &st), 0);
  close(fd);
  return prelux_stage_closed(rig.g, st.st_ino | (st.st_dev == dev ? PRELUX_INO_SCRATCH : 0), &rig.rules, &rig.why);
}

static int reopen(bool again)
{
  rig_close();
  int rc = rig_open();
  return rc == 0 && again ? prelux_store_stage_in(rig.s, dir, &rig.why) : rc;
}

static void send_all(void)
{
  int64_t next;
  while (prelux_stage_work(rig.g, &next) == 1)
    ;
}

static const struct prelux_pending *row_of(const char *path)
{
  for (size_t i = 0; i < rig.g->slots; i++)
    for (const struct prelux_dirty *d = rig.g->by_ino[i]; d; d = d->by_ino)
      if (strcmp(d->row.path, path) == 0)
        return &d->row;
  return NULL;
}

static void test_new_and_old(void **state)
{
  struct prelux_attr attr, slot, inode;
  struct stat st;
  int reader = -1;
  char buf[16] = "";
  int fd = wopen("new", O_WRONLY | O_CREAT);
  assert_true(in_scratch(fd));
  assert_int_equal(fstat(fd, &st), 0);
  say(fd, "hello");
  assert_int_equal(prelux_index_get(&rig.reader, rig.top, rig.v.id, "new", 3, &slot), 1);
  assert_true(slot.cache_ino == (st.st_ino | PRELUX_INO_SCRATCH) && (slot.flags & PRELUX_ATTR_LIVE));
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, st.st_dev, st.st_ino, &inode), 1);
  assert_true((inode.flags & PRELUX_ATTR_LIVE) && inode.ino == slot.ino);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, rig.s->dev, st.st_ino, &inode), 0);
  assert_int_equal(prelux_store_open_object(&rig.v, "new", 0, &attr, &reader, &rig.why), 0);
  assert_int_equal(sclose(fd), 0);
  assert_string_equal(remote_text("new"), "hello");
  /* A copy in the cache, which readers from now on get; who had the other goes on, by the same number. */
  assert_int_equal(prelux_index_get(&rig.reader, rig.top, rig.v.id, "new", 3, &slot), 1);
  assert_true(slot.cached && !(slot.flags & PRELUX_ATTR_LIVE) && slot.cache_ino < PRELUX_INO_SCRATCH && slot.ino == attr.ino);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, st.st_dev, st.st_ino, &inode), 1);
  assert_true(inode.ino == attr.ino && !(inode.flags & PRELUX_ATTR_LIVE));
  assert_int_equal(read(reader, buf, sizeof buf), 5);
  assert_string_equal(read_text("new"), "hello");
  assert_int_equal(names_in("files"), 0);
  assert_int_equal(names_in("held"), 1);
  close(reader);
  prelux_hold_sweep(rig.s);
  assert_int_equal(names_in("held"), 0);
  assert_int_equal(prelux_index_get_inode(&rig.reader, rig.top, st.st_dev, st.st_ino, &inode), 0);
  fd = wopen("new", O_WRONLY | O_APPEND); /* a cached file stays the inode it is */
  assert_false(in_scratch(fd));
  say(fd, "+");
  assert_int_equal(sclose(fd), 0);
  assert_string_equal(remote_text("new"), "hello+");
  assert_int_equal(pending(), 0);
}

static void test_dropped(void **state)
{
  rig.rules.drop = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "x");
  assert_int_equal(sclose(fd), 0);
  prelux_hold_sweep(rig.s);
  assert_int_equal(names_in("files") + names_in("held"), 0);
  assert_int_equal(rig.s->stats.files, 0);
  assert_string_equal(read_text("f"), "x");
}

static int little_room(int fd, struct statfs *ret)
{
  int rc = real.fstatfs(fd, ret);
  ret->f_bavail = ret->f_blocks / 5;
  return rc;
}

static int no_tmpfile(int dirfd, const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  mode_t mode = va_arg(ap, mode_t);
  va_end(ap);
  if (dirfd == rig.s->scratch_fd && (flags & O_TMPFILE) == O_TMPFILE)
  {
    errno = ENOSPC;
    return -1;
  }
  return real.openat(dirfd, path, flags, mode);
}

/* And what has to be in the cache: O_DIRECT, a mapping without the rule. */
static void test_spills(void **state)
{
  prelux_os.fstatfs = little_room;
  int a = wopen("a", O_WRONLY | O_CREAT);
  prelux_os = real;
  prelux_os.openat = no_tmpfile;
  int b = wopen("b", O_WRONLY | O_CREAT);
  prelux_os = real;
  int c = wopen("c", O_WRONLY | O_CREAT | O_DIRECT);
  rig.rules.scratch = false;
  int d = wopen("d", O_WRONLY | O_CREAT);
  rig.rules.scratch = true;
  int e = wopen("e", O_WRONLY | O_CREAT);
  assert_true(a >= 0 && b >= 0 && c >= 0 && d >= 0);
  assert_false(in_scratch(a) || in_scratch(b) || in_scratch(c) || in_scratch(d));
  assert_true(in_scratch(e));
  say(a, "a");
  say(b, "b");
  say(e, "e");
  assert_int_equal(sclose(a) | sclose(b) | sclose(c) | sclose(d) | sclose(e), 0);
  assert_string_equal(remote_text("a"), "a");
  assert_string_equal(remote_text("b"), "b");
  assert_string_equal(remote_text("e"), "e");
}

/* A daemon that comes later finds both, whatever its configuration says. */
static void test_restart(void **state)
{
  rig.rules.async = true;
  int there = wopen("there", O_WRONLY | O_CREAT), open_yet = wopen("open", O_WRONLY | O_CREAT);
  rig.rules.scratch = false;
  int here = wopen("here", O_WRONLY | O_CREAT);
  rig.rules.scratch = true;
  say(there, "there");
  say(here, "here");
  say(open_yet, "open");
  assert_int_equal(sclose(there) | sclose(here), 0);
  assert_int_equal(reopen(false), 0);
  assert_int_equal(pending(), 3);
  send_all();
  assert_string_equal(remote_text("there"), "there");
  assert_string_equal(remote_text("here"), "here");
  say(open_yet, "+");
  assert_string_equal(read_text("open"), "open+");
  assert_int_equal(sclose(open_yet), 0);
  send_all();
  assert_string_equal(remote_text("open"), "open+");
  assert_int_equal(names_in("files"), 0);
  assert_int_equal(pending(), 0);
  assert_int_equal(reopen(true), 0);
}

/* Emptied, as a restart of the machine leaves it. */
static void test_lost(void **state)
{
  char command[200];
  rig.rules.async = true;
  int closed = wopen("closed", O_WRONLY | O_CREAT), other = wopen("other", O_WRONLY | O_CREAT), writing = wopen("writing", O_WRONLY | O_CREAT);
  say(closed, "closed");
  say(other, "other");
  say(writing, "writing");
  assert_int_equal(sclose(closed) | sclose(other), 0);
  rig_close();
  close(writing);
  snprintf(command, sizeof command, "rm -rf '%s'/*", dir);
  assert_int_equal(system(command), 0);
  assert_int_equal(rig_open(), 0);
  send_all();
  assert_int_equal(pending(), 3);
  for (int i = 0; i < 3; i++)
  {
    const struct prelux_pending *row = row_of((const char *[]){"closed", "other", "writing"}[i]);
    assert_non_null(row);
    assert_true(row->state == PRELUX_PENDING_RECOVERED && row->ino == 0 && strstr(row->cause, "lost") && strstr(row->cause, dir));
  }
  int64_t id = row_of("closed")->id;
  assert_null(remote_text("closed"));
  assert_int_equal(prelux_stage_known(rig.g, rig.t, "closed", &(struct prelux_known){0}), 0);
  assert_int_equal(prelux_store_retry(rig.s, id, false, &rig.why), -ENODATA);
  /* They stay told of, beside new files of the same numbers. */
  assert_int_equal(prelux_store_stage_in(rig.s, dir, &rig.why), 0);
  int fd = wopen("closed", O_WRONLY | O_CREAT);
  assert_true(in_scratch(fd));
  say(fd, "again");
  assert_int_equal(sclose(fd), 0);
  assert_int_equal(reopen(true), 0);
  send_all();
  assert_string_equal(remote_text("closed"), "again");
  assert_int_equal(pending(), 3);
  assert_int_equal(prelux_store_drop(rig.s, id, &rig.why), 0);
  assert_int_equal(pending(), 2);
}

static bool cut_at_unlink;

static int cut_unlinkat(int dirfd, const char *path, int flags)
{
  int rc = real.unlinkat(dirfd, path, flags);
  if (dirfd == rig.s->scratch_fd)
    cut_at_unlink = true;
  return rc;
}

static int note_only;

static int copy_file(const char *from, const char *to)
{
  char command[1400];
  snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
  return system(command);
}

/* The daemon dies when the file is gone and the row is not: the journal as it was then. */
static int stop_unlinkat(int dirfd, const char *path, int flags)
{
  int rc = cut_unlinkat(dirfd, path, flags);
  if (dirfd == rig.s->scratch_fd && !note_only++)
  {
    char from[400], to[400];
    for (int i = 0; i < 2; i++)
    {
      snprintf(from, sizeof from, "%s/.prelux/journal.db%s", rig.cache, i ? "-wal" : "");
      snprintf(to, sizeof to, "%s/saved%s", rig.top, i ? "-wal" : "");
      copy_file(from, to);
    }
  }
  return rc;
}

static void test_died_when_it_was_sent(void **state)
{
  char from[400], to[400];
  note_only = 0;
  rig.rules.drop = true;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "sent");
  prelux_os.unlinkat = stop_unlinkat;
  assert_int_equal(sclose(fd), 0);
  prelux_os = real;
  assert_true(cut_at_unlink);
  rig_close();
  for (int i = 0; i < 2; i++)
  {
    snprintf(from, sizeof from, "%s/saved%s", rig.top, i ? "-wal" : "");
    snprintf(to, sizeof to, "%s/.prelux/journal.db%s", rig.cache, i ? "-wal" : "");
    assert_int_equal(copy_file(from, to), 0);
  }
  snprintf(to, sizeof to, "%s/.prelux/journal.db-shm", rig.cache);
  unlink(to);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(pending(), 0); /* neither lost nor sent again */
  assert_string_equal(remote_text("f"), "sent");
}

static uint32_t fs_type, fs_id;

static int another_fs(int fd, struct statfs *ret)
{
  int rc = real.fstatfs(fd, ret);
  ret->f_type = fs_type;
  memcpy(&ret->f_fsid, &fs_id, sizeof fs_id);
  return rc;
}

/* A disk that is not mounted when the daemon starts: it says nothing of what is on it. */
static void test_not_mounted(void **state)
{
  char command[300];
  (void)state;
  rig.rules.async = true;
  fs_type = 0xef53;
  fs_id = 1;
  rig_close();
  assert_int_equal(rig_open(), 0);
  prelux_os.fstatfs = another_fs;
  assert_int_equal(prelux_store_stage_in(rig.s, dir, &rig.why), 0);
  int fd = wopen("f", O_WRONLY | O_CREAT);
  assert_true(in_scratch(fd));
  say(fd, "waits");
  assert_int_equal(sclose(fd), 0);
  rig_close();
  snprintf(command, sizeof command, "mv '%s' '%s-x' && mkdir '%s'", dir, dir, dir);
  assert_int_equal(system(command), 0);
  fs_id = 2;
  assert_int_equal(rig_open(), -ENODEV);
  assert_non_null(strstr(rig.why.text, dir));
  rig_close();
  snprintf(command, sizeof command, "rmdir '%s' && mv '%s-x' '%s'", dir, dir, dir);
  assert_int_equal(system(command), 0);
  fs_id = 1;
  assert_int_equal(reopen(true), 0);
  send_all();
  assert_string_equal(remote_text("f"), "waits");
  /* The same disk, emptied by somebody: that is told of. */
  fd = wopen("g", O_WRONLY | O_CREAT);
  say(fd, "gone");
  assert_int_equal(sclose(fd), 0);
  rig_close();
  snprintf(command, sizeof command, "rm -rf '%s'/*", dir);
  assert_int_equal(system(command), 0);
  assert_int_equal(rig_open(), 0);
  assert_true(row_of("g")->state == PRELUX_PENDING_RECOVERED && row_of("g")->ino == 0);
}

/* Not ours, or not alone ours: nobody's bytes go there. */
static void test_whose_folder(void **state)
{
  struct prelux_store_opts opts = {.max_size = 64 << 20, .high = 0.9, .low = 0.7};
  char path[300], cache[300];
  struct prelux_store *s = NULL;
  snprintf(cache, sizeof cache, "%s/cache2", rig.top);
  opts.dir = cache;
  assert_int_equal(prelux_store_open(&opts, NULL, &s, &rig.why), 0);
  snprintf(path, sizeof path, "%s/prelux-%u", dir, (unsigned)geteuid());
  assert_int_equal(chmod(path, 0755), 0);
  assert_int_equal(prelux_store_stage_in(s, dir, &rig.why), -EACCES);
  assert_int_equal(chmod(path, 0700), 0);
  assert_int_equal(prelux_store_stage_in(s, "/dev/shm/prelux-is-not-there", &rig.why), -ENODEV);
  assert_int_equal(prelux_store_stage_in(s, rig.top, &rig.why), 1); /* of the cache's file system */
  assert_int_equal(prelux_store_stage_in(s, dir, &rig.why), 0);
  assert_int_equal(prelux_store_stage_in(s, dir, &rig.why), 0);
  assert_int_equal(prelux_store_stage_in(s, "/dev/shm", &rig.why), -EBUSY);
  prelux_store_close(s);
  /* A link of somebody else's is not followed. */
  char command[1600];
  snprintf(command, sizeof command, "mv '%s' '%s-x' && ln -s '%s-x' '%s'", path, path, path, path);
  assert_int_equal(system(command), 0);
  opts.dir = cache;
  assert_int_equal(prelux_store_open(&opts, NULL, &s, &rig.why), 0);
  assert_true(prelux_store_stage_in(s, dir, &rig.why) < 0);
  prelux_store_close(s);
}

/* Files made ahead lie in the cache: of no use to who stages elsewhere. */
static void test_made_ahead(void **state)
{
  (void)state;
  rig.g->spares.quick = 100;
  assert_true(prelux_spare_wanted(rig.g));
  prelux_spare_make(rig.g);
  int fd = wopen("f", O_WRONLY | O_CREAT);
  assert_true(in_scratch(fd));
  assert_int_equal(rig.g->spares.n, PRELUX_SPARES);
  assert_int_equal(sclose(fd), 0);
}

int main(void)
{
  struct statfs fs;
  if (statfs("/dev/shm", &fs) < 0 || fs.f_type != 0x01021994)
  {
    printf("no tmpfs at /dev/shm\n");
    return 0;
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_new_and_old, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_dropped, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_spills, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_restart, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_lost, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_not_mounted, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_died_when_it_was_sent, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_whose_folder, shm_up, shm_down),
      cmocka_unit_test_setup_teardown(test_made_ahead, shm_up, shm_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
