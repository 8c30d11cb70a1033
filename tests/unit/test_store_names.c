/* Names and attributes against a remote that loses answers, fails, or keeps little: what the remote has and what this node shows of it agree
 * afterwards. */
#include "tests/unit/stage_rig.h"

#include <sqlite3.h>
#include <sys/mman.h>

#include "include/prelux/listing.h"
#include "include/prelux/msg.h"
#include "lib/store/attrs.h"
#include "lib/store/links.h"

/* ---- a layer that injects faults into names, too ---- */

static struct {
  enum fault fault;
  int times;
  int calls;
  unsigned missing; /* caps that the remote lacks */
  void (*in_list)(void), (*in_read)(void), (*in_rmdir)(void); /* called once */
} names;

static void once(void (**hook)(void))
{
  void (*call)(void) = *hook;
  *hook = NULL;
  if (call)
    call();
}

#define REAL faulty.real->ops->write
#define INJECT(call)                                                                       \
  enum fault fault = names.times-- > 0 ? names.fault : NO_FAULT;                           \
  names.calls++;                                                                           \
  if (fault == FAIL_EIO || fault == FAIL_EACCES)                                           \
    return prelux_problem(why, fault == FAIL_EIO ? EIO : EACCES, "injected");              \
  if (fault == LOSE_BEFORE)                                                                \
    return prelux_problem(why, PRELUX_EUNKNOWN, "injected: no answer");                    \
  int rc = call;                                                                           \
  return fault == LOSE_AFTER && rc == 0 ? prelux_problem(why, PRELUX_EUNKNOWN, "injected: the answer is lost") : rc;

static int able_less(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  int rc = REAL->able(faulty.real, ret, why);
  ret->caps &= ~names.missing;
  return rc;
}

static int do_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  INJECT(REAL->remove(faulty.real, path, cond, why))
}

static int do_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                     struct prelux_problem *why)
{
  INJECT(REAL->rename(faulty.real, from, to, flags, ret, why))
}

static int do_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  INJECT(REAL->mkdir(faulty.real, path, mode, why))
}

static int do_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  once(&names.in_rmdir);
  INJECT(REAL->rmdir(faulty.real, path, why))
}

static int do_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  INJECT(REAL->set_attr(faulty.real, path, cond, set, ret, why))
}

/* A remote that keeps no attributes stamps the time itself. */
static int put_less(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                    struct prelux_problem *why)
{
  struct prelux_put less = *how;
  if (names.missing & PRELUX_CAP_KEEP_MODE)
    less.set.which = 0;
  return REAL->put(faulty.real, path, fd, size, &less, ret, why);
}

static int list_hooked(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  int rc = faulty_list(b, path, add, arg, why);
  once(&names.in_list); /* the answer is on its way */
  return rc;
}

static int read_hooked(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                       prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  int rc = faulty_read(b, path, expect, off, len, sink, arg, why);
  once(&names.in_read);
  return rc;
}

static int begin(void **state)
{
  int rc = set_up(state);
  memset(&names, 0, sizeof names);
  faulty.write.able = able_less;
  faulty.write.put = put_less;
  faulty.write.remove = do_remove;
  faulty.write.rename = do_rename;
  faulty.write.mkdir = do_mkdir;
  faulty.write.rmdir = do_rmdir;
  faulty.write.set_attr = do_set_attr;
  faulty.ops.list = list_hooked;
  faulty.ops.read = read_hooked;
  return rc;
}

static void inject(enum fault fault, int times)
{
  names.fault = fault;
  names.times = times;
  names.calls = 0;
}

/* ---- short words ---- */

static int unlink_(const char *object)
{
  return prelux_store_unlink(&rig.v, &rig.rules, object, &rig.why);
}

static int rename_(const char *from, const char *to)
{
  return prelux_store_rename(&rig.v, &rig.rules, from, to, 0, &rig.why);
}

static int mkdir_(const char *object)
{
  return prelux_store_mkdir(&rig.v, &rig.rules, object, 0755, &rig.why);
}

static int rmdir_(const char *object)
{
  return prelux_store_rmdir(&rig.v, &rig.rules, object, &rig.why);
}

static struct prelux_attr shown(const char *object)
{
  struct prelux_attr attr = {0};
  prelux_store_stat(&rig.v, object, 0, &attr, &rig.why);
  return attr;
}

static bool there(const char *object)
{
  return shown(object).type != PRELUX_NONE;
}

static bool remote_there(const char *name)
{
  char path[600];
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  return access(path, F_OK) == 0;
}

/* The entry of a listing; size UINT64_MAX: it is not in it. */
static struct prelux_listing_entry listed(const char *folder, const char *name)
{
  struct prelux_attr attr;
  struct prelux_listing_entry found = {.size = UINT64_MAX};
  struct stat st;
  int fd = -1;
  assert_int_equal(prelux_store_list(&rig.v, folder, 0, &attr, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &st), 0);
  const struct prelux_listing *l = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  for (uint32_t i = 0; i < l->count; i++)
    if (strcmp((const char *)l + l->entries[i].name_off, name) == 0)
      found = l->entries[i];
  munmap((void *)l, (size_t)st.st_size);
  close(fd);
  return found;
}

static bool is_listed(const char *folder, const char *name)
{
  return listed(folder, name).size != UINT64_MAX;
}

/* ---- tests ---- */

static void test_lost_answers(void **state)
{
  static const enum fault lost[] = {LOSE_BEFORE, LOSE_AFTER};
  for (size_t i = 0; i < 2; i++)
  {
    struct prelux_setattr set = {.which = PRELUX_SETATTR_MODE, .mode = 0600 + (uint32_t)i};
    struct prelux_attr attr;
    put_text("f", "12345");
    rig_close();
    assert_int_equal(rig_open(), 0);
    assert_string_equal(read_text("f"), "12345");
    inject(lost[i], 1);
    assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "f", &set, &attr, &rig.why), 0);
    assert_int_equal(shown("f").mode, set.mode);
    inject(lost[i], 1);
    assert_int_equal(mkdir_("d"), 0);
    assert_true(there("d") && remote_there("d") && is_listed("", "d"));
    inject(lost[i], 1);
    assert_int_equal(rename_("f", "d/g"), 0);
    assert_true(!there("f") && !remote_there("f") && there("d/g"));
    assert_string_equal(read_text("d/g"), "12345");
    inject(lost[i], 1);
    assert_int_equal(rename_("d", "e"), 0);
    assert_string_equal(read_text("e/g"), "12345");
    assert_false(there("d") || there("d/g"));
    inject(lost[i], 1);
    assert_int_equal(unlink_("e/g"), 0);
    assert_false(there("e/g") || remote_there("e/g") || is_listed("e", "g"));
    inject(lost[i], 1);
    assert_int_equal(rmdir_("e"), 0);
    assert_false(there("e") || remote_there("e") || is_listed("", "e"));
    assert_int_equal(names.calls, lost[i] == LOSE_BEFORE ? 2 : 1); /* what was done is not done twice */
  }
}

/* Lost each time and never done, or refused: the error, and all is as before. */
static void test_failures_change_nothing(void **state)
{
  static const enum fault faults[] = {LOSE_BEFORE, FAIL_EIO, FAIL_EACCES};
  struct prelux_setattr set = {.which = PRELUX_SETATTR_MTIME, .mtime_ns = 77};
  struct prelux_attr attr;
  put_text("f", "12345");
  assert_int_equal(mkdir_("d"), 0);
  assert_string_equal(read_text("f"), "12345");
  uint64_t ino = shown("f").ino;
  for (size_t i = 0; i < 3; i++)
  {
    int err = faults[i] == FAIL_EACCES ? -EACCES : -EIO;
    inject(faults[i], 1000);
    assert_int_equal(unlink_("f"), err);
    assert_int_equal(rename_("f", "g"), err);
    assert_int_equal(rename_("d", "e"), err);
    assert_int_equal(mkdir_("new"), err);
    assert_int_equal(rmdir_("d"), err);
    assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "f", &set, &attr, &rig.why), err);
    int fd = wopen("f", O_RDWR);
    assert_int_equal(unlink_("f"), err); /* it is being written, and on the remote */
    assert_int_equal(rename_("f", "g"), err);
    assert_int_equal(wclose(fd), 0);
    assert_true(there("f") && there("d") && !there("g") && !there("e") && !there("new"));
    assert_true(is_listed("", "f") && is_listed("", "d") && !is_listed("", "g") && !is_listed("", "new"));
    assert_true(shown("f").ino == ino && shown("f").mtime_ns != 77);
    assert_string_equal(read_text("f"), "12345");
  }
}

static void test_a_folder_that_cannot_be_renamed(void **state)
{
  names.missing = PRELUX_CAP_RENAME_DIR;
  assert_int_equal(mkdir_("d"), 0);
  inject(NO_FAULT, 0);
  int fd = wopen("d/f", O_WRONLY | O_CREAT);
  assert_int_equal(rename_("d", "e"), -EXDEV);
  assert_int_equal(names.calls, 0);
  assert_int_equal(wclose(fd), 0);
  assert_true(remote_there("d/f") && there("d/f"));
}

/* Temporary files that come and go before anybody closes them cost the remote nothing. */
static void test_what_was_never_sent_is_not_removed_there(void **state)
{
  int fd = wopen("tmp", O_RDWR | O_CREAT);
  say(fd, "x");
  inject(FAIL_EIO, 1000);
  assert_int_equal(rename_("tmp", "tmp2"), 0);
  assert_int_equal(unlink_("tmp2"), 0);
  assert_int_equal(names.calls, 0);
  assert_int_equal(wclose(fd), 0);
  assert_int_equal(pending(), 0);
  assert_int_equal(atomic_load(&faulty.puts), 0);
}

/* The kernel executes the cache file, and the staging file: their x bits follow. */
static void test_executable(void **state)
{
  struct prelux_setattr set = {.which = PRELUX_SETATTR_MODE, .mode = 0755};
  struct prelux_attr attr;
  struct stat st;
  char path[500];
  for (int i = 0; i < 2; i++) /* kept by the remote, then here */
  {
    const char *object = i ? "g" : "f";
    put_text(object, "12345");
    assert_string_equal(read_text(object), "12345");
    snprintf(path, sizeof path, "%s/%s", prelux_tree_root(rig.t), object);
    assert_true(stat(path, &st) == 0 && (st.st_mode & 0111) == 0);
    ino_t ino = st.st_ino;
    assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, object, &set, &attr, &rig.why), 0);
    assert_true(stat(path, &st) == 0 && (st.st_mode & 0100) && st.st_ino == ino);
    assert_true(attr.mode == 0755 && attr.cached && attr.cache_ino == ino);
    names.missing = PRELUX_CAP_KEEP_MODE | PRELUX_CAP_SET_ATTR;
  }
  int fd = wopen("h", O_WRONLY | O_CREAT);
  assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "h", &set, &attr, &rig.why), 0);
  assert_true(fstat(fd, &st) == 0 && (st.st_mode & 0100));
  assert_int_equal(wclose(fd), 0);
  snprintf(path, sizeof path, "%s/h", prelux_tree_root(rig.t));
  assert_true(stat(path, &st) == 0 && (st.st_mode & 0100));
}

/* The remote keeps neither mode nor time: this node does, over restarts, until the remote has another version. */
static void test_own_attributes(void **state)
{
  struct prelux_setattr set = {.which = PRELUX_SETATTR_MODE | PRELUX_SETATTR_MTIME, .mode = 0711, .mtime_ns = 1234567890123456789};
  struct prelux_attr attr;
  names.missing = PRELUX_CAP_KEEP_MODE | PRELUX_CAP_KEEP_MTIME | PRELUX_CAP_SET_ATTR;
  int fd = wopen("f", O_WRONLY | O_CREAT);
  say(fd, "12345");
  assert_int_equal(futimens(fd, (struct timespec[2]){{.tv_sec = 5}, {.tv_sec = 1000, .tv_nsec = 7}}), 0);
  assert_int_equal(wclose(fd), 0);
  uint64_t ino = shown("f").ino;
  for (int i = 0; i < 2; i++)
  {
    assert_true(shown("f").mtime_ns == 1000000000007 && shown("f").mode == 0640 && shown("f").ino == ino);
    assert_true(listed("", "f").mtime_ns == 1000000000007 && listed("", "f").mode == 0640 && listed("", "f").ino == ino);
    rig_close();
    assert_int_equal(rig_open(), 0);
  }
  inject(FAIL_EIO, 1000); /* nobody asks the remote to set anything */
  assert_int_equal(prelux_store_setattr(&rig.v, &rig.rules, "f", &set, &attr, &rig.why), 0);
  assert_true(attr.mode == 0711 && attr.mtime_ns == set.mtime_ns && attr.ino == ino);
  inject(NO_FAULT, 0);
  assert_int_equal(rename_("f", "g"), 0);
  assert_true(shown("g").mtime_ns == set.mtime_ns && shown("g").mode == 0711 && shown("g").ino == ino);
  assert_int_equal(listed("", "g").mtime_ns, set.mtime_ns);
  put_text("g", "somebody else's");
  rig_close();
  assert_int_equal(rig_open(), 0);
  assert_true(shown("g").mtime_ns != set.mtime_ns && shown("g").mode == 0644 && shown("g").ino != ino);
}

static void unlink_a(void)
{
  assert_int_equal(unlink_("d/a"), 0);
  int fd = wopen("d/b", O_WRONLY | O_CREAT);
  assert_int_equal(wclose(fd), 0);
}

/* The answer to a listing that was asked before comes after: it is neither sent nor believed. */
static void test_a_listing_on_its_way(void **state)
{
  assert_int_equal(mkdir_("d"), 0);
  put_text("d/a", "a");
  names.in_list = unlink_a;
  assert_false(is_listed("d", "a"));
  assert_true(is_listed("d", "b"));
  assert_true(!there("d/a") && there("d/b"));
  /* The same with nobody who waits for it: a stat that renews the folder. */
  put_text("d/a", "a");
  rig_close();
  assert_int_equal(rig_open(), 0);
  names.in_list = unlink_a;
  struct prelux_folder *f = NULL;
  assert_int_equal(prelux_list_refresh(&rig.v, "d", &f, &rig.why), 0);
  assert_true(f->outdated && prelux_folder_child(f, "a", 1) >= 0);
  prelux_folder_unref(f);
  assert_true(!there("d/a") && there("d/b") && !is_listed("d", "a") && is_listed("d", "b"));
}

/* Forgetting what was changed must not let an older listing speak again. */
static void test_an_entry_that_goes_takes_the_old_listing_along(void **state)
{
  put_text("a", "a");
  assert_true(is_listed("", "a"));
  assert_int_equal(unlink_("a"), 0);
  pthread_mutex_lock(&rig.s->lock);
  prelux_entry_drop(rig.t, "a", 1);
  struct prelux_known k;
  int have = prelux_memory_get(rig.t, "a", 1, &k);
  pthread_mutex_unlock(&rig.s->lock);
  assert_true(!have || k.obj.type == PRELUX_NONE);
}

/* The daemon died between the remote's change and its memory. */
static void test_killed_after_the_remote(void **state)
{
  char from[600], to[600];
  put_text("f", "12345");
  put_text("g", "old g");
  assert_string_equal(read_text("f"), "12345");
  assert_string_equal(read_text("g"), "old g");
  rig_close();
  snprintf(from, sizeof from, "%s/f", rig.remote);
  snprintf(to, sizeof to, "%s/g", rig.remote);
  assert_int_equal(rename(from, to), 0);
  assert_int_equal(rig_open(), 0);
  assert_false(there("f"));
  assert_string_equal(read_text("g"), "12345");
}

static void test_links_below_a_folder_that_moves(void **state)
{
  assert_int_equal(mkdir_("d"), 0);
  assert_int_equal(mkdir_("d/e"), 0);
  assert_int_equal(prelux_store_symlink(&rig.v, &rig.rules, "d/e/l", "target", &rig.why), 0);
  assert_int_equal(prelux_store_symlink(&rig.v, &rig.rules, "dd", "other", &rig.why), 0);
  assert_int_equal(rename_("d", "x"), 0);
  char *text = NULL;
  assert_int_equal(prelux_store_readlink(&rig.v, "x/e/l", &text, &rig.why), 0);
  assert_string_equal(text, "target");
  free(text);
  assert_false(there("d/e/l"));
  rig_close();
  assert_int_equal(rig_open(), 0);
  assert_int_equal(shown("x/e/l").type, PRELUX_LINK);
  assert_int_equal(shown("dd").type, PRELUX_LINK);
  assert_int_equal(rig.t->links.count, 2);
}

/* What the remote says when something is to be changed is news. */
static void test_somebody_else_was_here(void **state)
{
  char path[600];
  put_text("f", "12345");
  assert_true(there("f") && !there("d"));
  snprintf(path, sizeof path, "%s/d", rig.remote);
  assert_int_equal(mkdir(path, 0755), 0);
  assert_int_equal(mkdir_("d"), -EEXIST);
  assert_true(there("d"));
  snprintf(path, sizeof path, "%s/f", rig.remote);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(rename_("f", "g"), -ENOENT);
  assert_false(there("f"));
  put_text("f", "again");
  assert_int_equal(unlink_("f"), 0);
  assert_false(remote_there("f"));
  assert_int_equal(unlink_("f"), -ENOENT);
}

/* Who has a folder of the cache as working directory goes along with it. */
static void test_the_cache_folder_is_renamed(void **state)
{
  struct prelux_attr attr;
  struct stat before, after;
  char path[500];
  int fd = -1;
  assert_int_equal(mkdir_("d"), 0);
  put_text("d/f", "12345");
  assert_string_equal(read_text("d/f"), "12345");
  uint64_t ino = shown("d/f").ino;
  assert_int_equal(prelux_store_open_object(&rig.v, "d", 0, &attr, &fd, &rig.why), 0);
  assert_int_equal(fstat(fd, &before), 0);
  for (int i = 0; i < 2; i++) /* the second time onto an empty folder, which has one in the cache */
  {
    const char *from = i ? "e" : "d", *to = i ? "g" : "e";
    if (i)
      assert_true(mkdir_("g") == 0 && prelux_store_open_object(&rig.v, "g", 0, &attr, NULL, &rig.why) == 0);
    assert_int_equal(rename_(from, to), 0);
    snprintf(path, sizeof path, "%s/%s", prelux_tree_root(rig.t), to);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);
    snprintf(path, sizeof path, "%s/f", to);
    assert_int_equal(shown(path).ino, ino);
    struct prelux_object_info info;
    assert_int_equal(prelux_store_info(&rig.v, path, &info), 0);
    assert_int_equal(info.state, PRELUX_STATE_CACHED);
    assert_string_equal(read_text(path), "12345");
  }
  close(fd);
}

static void move_d_to_e(void)
{
  assert_int_equal(rename_("d", "e"), 0);
}

/* The folder is renamed between a writer's look at the file and the row of its staging file. */
static void test_a_writer_that_comes_too_late(void **state)
{
  assert_int_equal(mkdir_("d"), 0);
  put_text("d/f", "12345");
  names.in_read = move_d_to_e;
  assert_int_equal(wopen("d/f", O_RDWR), -ENOENT);
  assert_int_equal(pending(), 0);
  assert_string_equal(read_text("e/f"), "12345");
  int fd = wopen("e/f", O_RDWR | O_APPEND);
  say(fd, "6");
  assert_int_equal(wclose(fd), 0);
  assert_string_equal(remote_text("e/f"), "123456");
}

static int late;

static void write_in_d(void)
{
  late = wopen("d/new", O_WRONLY | O_CREAT);
}

/* A file is begun in a folder while that is being removed: it was not empty. */
static void test_a_writer_before_rmdir(void **state)
{
  assert_int_equal(mkdir_("d"), 0);
  names.in_rmdir = write_in_d;
  assert_int_equal(rmdir_("d"), -ENOTEMPTY);
  assert_true(late >= 0);
  say(late, "x");
  assert_int_equal(wclose(late), 0);
  assert_string_equal(remote_text("d/new"), "x");
  assert_true(there("d") && is_listed("d", "new"));
}

#define TO_2                                                                                                           \
  "DROP INDEX objects_once; DROP INDEX objects_again; ALTER TABLE objects DROP COLUMN again; ALTER TABLE fills DROP COLUMN again;" \
  "CREATE INDEX objects_used ON objects(used);"

static void test_migration_from_2(void **state)
{
  char path[400];
  sqlite3 *db;
  struct prelux_object_info info;
  put_text("f", "12345");
  assert_string_equal(read_text("f"), "12345");
  uint64_t ino = shown("f").ino;
  rig_close();
  snprintf(path, sizeof path, "%s/.prelux/catalogue.db", rig.cache);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db, TO_2 "UPDATE meta SET value='2' WHERE key='schema'", NULL, NULL, NULL), SQLITE_OK);
  sqlite3_close(db);
  assert_int_equal(rig_open(), 0);
  assert_int_equal(shown("f").ino, ino);
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_CACHED);
}

/* A catalogue of a version before is read, with its numbers. */
static void test_migration(void **state)
{
  char path[400];
  sqlite3 *db;
  put_text("f", "12345");
  assert_string_equal(read_text("f"), "12345");
  uint64_t ino = shown("f").ino;
  rig_close();
  snprintf(path, sizeof path, "%s/.prelux/catalogue.db", rig.cache);
  assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
  assert_int_equal(sqlite3_exec(db,
                                "CREATE TABLE n1(tree INTEGER NOT NULL, base INTEGER NOT NULL, generation INTEGER NOT NULL,"
                                " stamp INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(tree, base)) WITHOUT ROWID;"
                                "INSERT INTO n1 SELECT tree,base,generation+5,stamp,at FROM numbers; DROP TABLE numbers;"
                                "ALTER TABLE n1 RENAME TO numbers; DROP TABLE attrs; DROP TABLE links;" TO_2
                                "UPDATE meta SET value='1' WHERE key='schema'",
                                NULL, NULL, NULL),
                   SQLITE_OK);
  sqlite3_close(db);
  assert_int_equal(rig_open(), 0);
  assert_int_not_equal(shown("f").ino, ino); /* the generation that we wrote into it is read */
  struct prelux_object_info info;
  assert_int_equal(prelux_store_info(&rig.v, "f", &info), 0);
  assert_int_equal(info.state, PRELUX_STATE_CACHED);
  assert_int_equal(prelux_store_symlink(&rig.v, &rig.rules, "l", "x", &rig.why), 0);
  rig_close();
  assert_int_equal(rig_open(), 0);
  assert_int_equal(shown("l").type, PRELUX_LINK);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, begin, tear_down)
      T(test_lost_answers), T(test_failures_change_nothing), T(test_a_folder_that_cannot_be_renamed),
      T(test_what_was_never_sent_is_not_removed_there), T(test_executable), T(test_own_attributes), T(test_a_listing_on_its_way),
      T(test_an_entry_that_goes_takes_the_old_listing_along), T(test_killed_after_the_remote), T(test_links_below_a_folder_that_moves),
      T(test_a_writer_that_comes_too_late), T(test_a_writer_before_rmdir), T(test_somebody_else_was_here),
      T(test_the_cache_folder_is_renamed), T(test_migration), T(test_migration_from_2),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
