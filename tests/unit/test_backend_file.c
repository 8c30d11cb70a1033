/* lib/backend/file.c and beneath.c: a folder as the remote. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/backend/backend.h"
#include "lib/backend/beneath.h"
#include "lib/base/os.h"
#include "lib/conf/conf.h"

static char top[1024];  /* of one test */
static char root[1032]; /* top/root */
static struct prelux_backend *b;

static const char *at(const char *name)
{
  static char paths[4][2 * PATH_MAX];
  static int n;
  char *path = paths[n++ % 4];
  int len = snprintf(path, sizeof(paths[0]), "%s/%s", root, name);
  assert_true(len > 0 && (size_t)len < sizeof(paths[0]));
  return path;
}

static void put(const char *path, const char *text)
{
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
  assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

static int create(const char *where, struct prelux_backend **ret, struct prelux_problem *why)
{
  static const struct prelux_conf_key key = {.name = "root"};
  struct prelux_conf_value value = {.key = &key, .text = (char *)where};
  struct prelux_conf_backend conf = {.name = (char *)"b", .type = (char *)"file", .values = &value, .n_values = 1};
  return prelux_backend_find("file")->create(&conf, NULL, ret, why);
}

static int set_up(void **state)
{
  const char *tmp = getenv("TMPDIR");
  snprintf(top, sizeof(top), "%s/prelux-file-XXXXXX", tmp ? tmp : "/tmp");
  if (!mkdtemp(top))
    return -1;
  snprintf(root, sizeof(root), "%s/root", top);
  mkdir(root, 0755);
  return create(root, &b, NULL);
}

static int tear_down(void **state)
{
  char cmd[PATH_MAX + 16];
  b->ops->free(b);
  b = NULL;
  snprintf(cmd, sizeof(cmd), "rm -rf '%s'", top);
  return system(cmd);
}

static int stat_rc(const char *path)
{
  struct prelux_object obj;
  struct prelux_problem why;
  int rc = b->ops->stat(b, path, &obj, &why);
  if (rc < 0)
  {
    assert_int_equal(why.err, -rc);
    assert_true(why.text[0]);
  }
  return rc;
}

static struct prelux_object object(const char *path)
{
  struct prelux_object obj;
  struct prelux_problem why = {0};
  if (b->ops->stat(b, path, &obj, &why) != 0)
    fail_msg("%s: %s", path, why.text);
  return obj;
}

struct names
{
  int count;
  char text[32][NAME_MAX + 1];
  struct prelux_object objs[32];
  int stop_at;
};

static int add(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct names *n = arg;
  assert_int_equal(strlen(name), len);
  if (n->stop_at && n->count + 1 == n->stop_at)
    return -EINTR;
  if (n->count < 32)
  {
    strcpy(n->text[n->count], name);
    n->objs[n->count] = *obj;
  }
  n->count++;
  return 0;
}

static int list(const char *path, struct names *n)
{
  memset(n, 0, sizeof(*n));
  return b->ops->list(b, path, add, n, NULL);
}

static const struct prelux_object *named(const struct names *n, const char *name)
{
  for (int i = 0; i < n->count && i < 32; i++)
    if (strcmp(n->text[i], name) == 0)
      return &n->objs[i];
  return NULL;
}

struct sunk
{
  char *data;
  uint64_t next, end;
  void (*once)(void); /* run when the first bytes come */
  int fail_at;
};

static int sink(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct sunk *s = arg;
  assert_true(off == s->next && len > 0 && off + len <= s->end);
  if (s->data)
    memcpy(s->data + off, buf, len);
  s->next += len;
  if (s->once)
    s->once();
  s->once = NULL;
  return s->fail_at && s->next >= (uint64_t)s->fail_at ? -ENOSPC : 0;
}

static int read_all(const char *path, const struct prelux_object *expect, struct sunk *s)
{
  s->end = s->next + (s->end ? s->end : expect->size);
  struct prelux_problem why = {0};
  int rc = b->ops->read(b, path, expect, s->next, s->end - s->next, sink, s, &why);
  if (rc < 0 && rc != -ENOSPC)
    assert_int_equal(why.err, -rc);
  return rc;
}

static void test_attributes(void **state)
{
  struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1500000000, .tv_nsec = 123456789}};
  put(at("f"), "hello");
  chmod(at("f"), 0751);
  utimensat(AT_FDCWD, at("f"), times, 0);
  struct prelux_object obj = object("f");
  assert_int_equal(obj.type, PRELUX_FILE);
  assert_int_equal(obj.mode, 0751);
  assert_true(obj.size == 5 && obj.mtime_ns == INT64_C(1500000000123456789) && !obj.mtime_rough && obj.version[0]);
  mkdir(at("d"), 0700);
  obj = object("d");
  assert_true(obj.type == PRELUX_DIR && obj.size == 0 && obj.mode == 0700);
  assert_int_equal(object("").type, PRELUX_DIR);
}

static void test_errors(void **state)
{
  char longer[300];
  memset(longer, 'n', sizeof(longer));
  longer[299] = 0;
  put(at("f"), "x");
  assert_int_equal(stat_rc("nothing"), -ENOENT);
  assert_int_equal(stat_rc("f/x"), -ENOTDIR);
  assert_int_equal(stat_rc(longer), -ENOENT);
  struct names n;
  assert_int_equal(list("f", &n), -ENOTDIR);
  assert_int_equal(list("nothing", &n), -ENOENT);
  struct prelux_object expect = {.size = 1};
  struct sunk s = {0};
  mkdir(at("d"), 0755);
  assert_int_equal(read_all("d", &expect, &s), -EISDIR);
}

static void test_a_missing_root_is_no_empty_tree(void **state)
{
  rmdir(root);
  assert_int_equal(stat_rc("f"), -EIO);
  assert_int_equal(stat_rc(""), -EIO);
  struct names n;
  assert_int_equal(list("", &n), -EIO);
  mkdir(root, 0755);
}

static void test_what_is_neither_file_nor_folder(void **state)
{
  struct names n;
  mkfifo(at("fifo"), 0600);
  struct sockaddr_un sun = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM, 0), here = open(".", O_RDONLY);
  assert_int_equal(chdir(root), 0);
  strcpy(sun.sun_path, "sock");
  assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
  assert_int_equal(fchdir(here), 0);
  close(here);
  close(fd);
  assert_int_equal(symlink("/dev/null", at("dev")), 0);
  put(at("f"), "x");
  assert_int_equal(stat_rc("fifo"), -ENOENT);
  assert_int_equal(stat_rc("sock"), -ENOENT);
  assert_int_equal(list("", &n), 0);
  assert_int_equal(n.count, 1);
  struct prelux_object expect = {.size = 1};
  struct sunk s = {0};
  assert_int_equal(read_all("fifo", &expect, &s), -ENOENT); /* and does not wait for a writer */
}

static void test_list_and_stat_agree(void **state)
{
  struct names n;
  put(at("a"), "1");
  put(at("b \xff\n"), "22");
  mkdir(at("c"), 0755);
  assert_int_equal(symlink("a", at("l")), 0);
  assert_int_equal(list("", &n), 0);
  assert_int_equal(n.count, 4);
  for (int i = 0; i < n.count; i++)
  {
    struct prelux_object obj = object(n.text[i]);
    assert_memory_equal(&obj, &n.objs[i], sizeof(obj));
  }
  n.count = 0;
  n.stop_at = 2;
  assert_int_equal(b->ops->list(b, "", add, &n, NULL), -EINTR);
  assert_int_equal(n.count, 1);
}

static void test_links_inside(void **state)
{
  char target[PATH_MAX + 16];
  mkdir(at("a"), 0755);
  mkdir(at("a/b"), 0755);
  put(at("a/b/f"), "inside");
  assert_int_equal(symlink("a/b", at("rel")), 0);
  assert_int_equal(symlink("../../rel/f", at("a/b/up")), 0);
  assert_int_equal(symlink("./a/.//b/../b/", at("odd")), 0);
  snprintf(target, sizeof(target), "%s/a/b/f", root);
  assert_int_equal(symlink(target, at("abs")), 0);
  assert_int_equal(symlink("abs", at("chain")), 0);
  static const char *const paths[] = {"rel/f", "a/b/up", "odd/f", "abs", "chain"};
  struct prelux_object f = object("a/b/f");
  for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
    assert_string_equal(object(paths[i]).version, f.version);
  char data[8] = "";
  struct sunk s = {.data = data};
  assert_int_equal(read_all("chain", &f, &s), 0);
  assert_string_equal(data, "inside");
  struct names n;
  assert_int_equal(list("rel", &n), 0);
  assert_int_equal(n.count, 2);
}

static void test_links_out(void **state)
{
  char secret[PATH_MAX + 16], near[PATH_MAX + 16];
  snprintf(secret, sizeof(secret), "%s/secret", top);
  snprintf(near, sizeof(near), "%s-near", root);
  put(secret, "secret");
  put(near, "secret");
  mkdir(at("d"), 0755);
  assert_int_equal(symlink("../secret", at("rel")), 0);
  assert_int_equal(symlink(secret, at("abs")), 0);
  assert_int_equal(symlink(near, at("near")), 0); /* begins as the root's path does */
  assert_int_equal(symlink("..", at("up")), 0);
  assert_int_equal(symlink("d/../../secret", at("deep")), 0);
  assert_int_equal(symlink("/", at("slash")), 0);
  assert_int_equal(symlink("/proc/self/root/etc/passwd", at("magic")), 0);
  static const char *const paths[] = {"rel",  "abs", "near", "up", "up/secret", "deep", "slash", "slash/etc/passwd",
                                      "magic"};
  for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
    assert_int_equal(stat_rc(paths[i]), -EACCES);
  struct names n;
  assert_int_equal(list("", &n), 0);
  assert_int_equal(n.count, 1);
  struct prelux_object expect = {.size = 6};
  struct sunk s = {0};
  assert_int_equal(read_all("rel", &expect, &s), -EACCES);
  unlink(near);
}

static void test_links_without_end(void **state)
{
  struct names n;
  mkdir(at("a"), 0755);
  mkdir(at("b"), 0755);
  put(at("a/f"), "x");
  assert_int_equal(symlink(".", at("self")), 0);
  assert_int_equal(symlink("..", at("a/parent")), 0);
  assert_int_equal(symlink("../b", at("a/sister")), 0);
  assert_int_equal(symlink("../a", at("b/back")), 0);
  assert_int_equal(symlink("loop2", at("loop1")), 0);
  assert_int_equal(symlink("loop1", at("loop2")), 0);
  assert_int_equal(symlink("gone", at("dangling")), 0);
  assert_int_equal(stat_rc("self"), -EACCES);
  assert_int_equal(stat_rc("self/a/f"), -EACCES);
  assert_int_equal(stat_rc("a/parent"), -EACCES);
  assert_int_equal(stat_rc("loop1"), -EACCES);
  assert_int_equal(stat_rc("dangling"), -ENOENT);
  assert_int_equal(object("a/sister").type, PRELUX_DIR); /* not yet seen on this path */
  assert_int_equal(object("b/back/f").type, PRELUX_FILE);
  assert_int_equal(stat_rc("a/sister/back"), -EACCES);
  assert_int_equal(list("", &n), 0);
  assert_int_equal(n.count, 2);
  assert_int_equal(list("a", &n), 0);
  assert_true(named(&n, "f") && named(&n, "sister") && n.count == 2);
  assert_int_equal(list("a/sister", &n), 0);
  assert_int_equal(n.count, 0);
}

static void test_deep_and_long(void **state)
{
  char path[2048] = "", cmd[3 * PATH_MAX];
  for (int i = 0; i < 40; i++)
    snprintf(path + strlen(path), sizeof(path) - strlen(path), "%sd%039d", i ? "/" : "", i);
  snprintf(cmd, sizeof(cmd), "mkdir -p '%s'", at(path));
  assert_int_equal(system(cmd), 0);
  assert_int_equal(symlink(path, at("short")), 0);
  char file[3 * PATH_MAX];
  snprintf(file, sizeof(file), "%s/f", at(path));
  put(file, "x");
  assert_true(object("short/f").size == 1);
}

static void test_read_parts(void **state)
{
  size_t len = 700000;
  char *in = malloc(len), *out = calloc(1, len);
  for (size_t i = 0; i < len; i++)
    in[i] = (char)(i * 7 + i / 256);
  int fd = open(at("f"), O_WRONLY | O_CREAT, 0644);
  assert_true(write(fd, in, len) == (ssize_t)len);
  close(fd);
  struct prelux_object f = object("f");
  struct sunk s = {.data = out};
  assert_int_equal(read_all("f", &f, &s), 0);
  assert_memory_equal(in, out, len);
  struct sunk part = {.data = out, .next = 12345, .end = 300000};
  memset(out, 0, len);
  assert_int_equal(read_all("f", &f, &part), 0);
  assert_memory_equal(in + 12345, out + 12345, 300000);
  assert_true(part.next == 312345);
  struct sunk full = {.fail_at = 300000};
  assert_int_equal(read_all("f", &f, &full), -ENOSPC);
  struct sunk behind = {.next = 600000, .end = 200000};
  assert_int_equal(read_all("f", &f, &behind), -ESTALE);
  free(in);
  free(out);
}

static void test_empty_file(void **state)
{
  put(at("e"), "");
  struct prelux_object e = object("e");
  struct sunk s = {0};
  assert_int_equal(read_all("e", &e, &s), 0);
  assert_true(s.next == 0);
}

/* Changes of a file, each of which a reader must notice. */

static void append(void)
{
  int fd = open(at("f"), O_WRONLY | O_APPEND);
  assert_true(write(fd, "more", 4) == 4);
  close(fd);
}

static void overwrite(void)
{
  int fd = open(at("f"), O_WRONLY);
  assert_true(write(fd, "HELLO", 5) == 5);
  close(fd);
}

static void overwrite_with_old_time(void)
{
  struct stat st;
  assert_int_equal(stat(at("f"), &st), 0);
  overwrite();
  struct timespec times[2] = {st.st_atim, st.st_mtim};
  utimensat(AT_FDCWD, at("f"), times, 0);
}

static void cut_off(void)
{
  assert_int_equal(truncate(at("f"), 2), 0);
}

static void swap(void)
{
  struct stat st;
  assert_int_equal(stat(at("f"), &st), 0);
  put(at("g"), "HELLO");
  struct timespec times[2] = {st.st_atim, st.st_mtim};
  utimensat(AT_FDCWD, at("g"), times, 0);
  assert_int_equal(rename(at("g"), at("f")), 0);
}

static void (*const changes[])(void) = {append, overwrite, overwrite_with_old_time, cut_off, swap};

static void test_changed_before_the_read(void **state)
{
  for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
  {
    put(at("f"), "hello");
    usleep(12000); /* a tick: a version is told apart by it */
    struct prelux_object f = object("f");
    changes[i]();
    struct sunk s = {0};
    assert_int_equal(read_all("f", &f, &s), -ESTALE);
    assert_true(s.next == 0);
    f = object("f");
    s = (struct sunk){0};
    assert_int_equal(read_all("f", &f, &s), 0);
  }
}

/* The file was made this very moment, and changes at once while it is read: no tick lies between but the one that read
 * waits. */
static void test_changed_during_the_read(void **state)
{
  for (int round = 0; round < 20; round++)
    for (size_t i = 0; i < 4; i++)
    { /* `swap` is not one: the open inode keeps its bytes */
      put(at("f"), "hello");
      struct prelux_object f = object("f");
      struct sunk s = {.once = changes[i]};
      assert_int_equal(read_all("f", &f, &s), -ESTALE);
    }
}

/* Kernels before 6.13 stamp all changes within a tick alike: the first byte is read a tick after the last change. */
static int64_t age_at_read_ns;

static void note_age(void)
{
  struct stat st;
  struct timespec now;
  assert_int_equal(stat(at("f"), &st), 0);
  clock_gettime(CLOCK_REALTIME, &now);
  age_at_read_ns = (now.tv_sec - st.st_ctim.tv_sec) * INT64_C(1000000000) + now.tv_nsec - st.st_ctim.tv_nsec;
}

static void test_a_read_waits_for_the_tick(void **state)
{
  put(at("f"), "hello");
  struct prelux_object f = object("f");
  struct sunk s = {.once = note_age};
  assert_int_equal(read_all("f", &f, &s), 0);
  assert_true(age_at_read_ns >= 10000000);
}

static void test_replaced_during_the_read(void **state)
{
  put(at("f"), "hello");
  struct prelux_object f = object("f");
  char data[8] = "";
  struct sunk s = {.data = data, .once = swap};
  int rc = read_all("f", &f, &s);
  if (rc == 0)
    assert_string_equal(data, "hello");
  else
    assert_int_equal(rc, -ESTALE); /* rename touches the ctime of what it replaces */
}

/* Faults of the operating system */

static int failing_at;
static int real_openat(int dir, const char *path, int flags, ...)
{
  if (failing_at && --failing_at == 0)
  {
    errno = EMFILE;
    return -1;
  }
  return openat(dir, path, flags);
}

static int open_files(void)
{
  int n = 0;
  DIR *dir = opendir("/proc/self/fd");
  while (readdir(dir))
    n++;
  closedir(dir);
  return n;
}

static void test_no_fd_leaks_when_the_walk_fails(void **state)
{
  mkdir(at("a"), 0755);
  mkdir(at("a/b"), 0755);
  put(at("a/b/f"), "x");
  assert_int_equal(symlink("../a/b/../b", at("a/l")), 0);
  int before = open_files();
  prelux_os.openat = real_openat;
  for (int i = 1; i < 100; i++)
  {
    failing_at = i;
    int rc = stat_rc("a/l/f");
    assert_int_equal(open_files(), before);
    if (failing_at)
    {
      assert_int_equal(rc, 0);
      assert_true(i > 5);
      break;
    }
    assert_int_equal(rc, -EIO);
  }
  failing_at = 0;
  prelux_os.openat = openat;
}

static ssize_t short_pread(int fd, void *buf, size_t n, off_t off)
{
  static int turn;
  if (++turn % 3 == 0)
  {
    errno = EINTR;
    return -1;
  }
  return pread(fd, buf, n > 3 ? 3 : n, off);
}

static ssize_t bad_pread(int fd, void *buf, size_t n, off_t off)
{
  errno = EIO;
  return -1;
}

static void test_short_and_failing_reads(void **state)
{
  put(at("f"), "hello world");
  struct prelux_object f = object("f");
  char data[16] = "";
  struct sunk s = {.data = data};
  prelux_os.pread = short_pread;
  assert_int_equal(read_all("f", &f, &s), 0);
  assert_string_equal(data, "hello world");
  prelux_os.pread = bad_pread;
  s = (struct sunk){0};
  assert_int_equal(read_all("f", &f, &s), -EIO);
  prelux_os.pread = pread;
}

/* A folder is swapped against a link that leads out, again and again, while others look below it. */
static atomic_bool over;

static void *swap_for_ever(void *arg)
{
  while (!atomic_load(&over))
  {
    rename(at("d"), at("aside"));
    rename(at("link"), at("d"));
    rename(at("d"), at("link"));
    rename(at("aside"), at("d"));
  }
  return NULL;
}

static void test_a_race_never_leaves_the_root(void **state)
{
  char secret[PATH_MAX + 16];
  pthread_t thread;
  snprintf(secret, sizeof(secret), "%s/secret", top);
  mkdir(secret, 0755);
  snprintf(secret, sizeof(secret), "%s/secret/f", top);
  put(secret, "SECRET!");
  mkdir(at("d"), 0755);
  put(at("d/f"), "x");
  assert_int_equal(symlink("../secret", at("link")), 0);
  assert_int_equal(symlink("d/f", at("via")), 0);
  atomic_store(&over, false);
  pthread_create(&thread, NULL, swap_for_ever, NULL);
  for (int i = 0; i < 4000; i++)
  {
    struct prelux_object obj;
    if (b->ops->stat(b, i % 2 ? "d/f" : "via", &obj, NULL) == 0)
      assert_true(obj.size == 1);
  }
  atomic_store(&over, true);
  pthread_join(thread, NULL);
}

static void test_create_and_identity(void **state)
{
  struct prelux_backend *other;
  struct prelux_problem why;
  char one[PATH_MAX], two[PATH_MAX], with_slashes[PATH_MAX + 4];
  assert_int_equal(create("relative", &other, &why), -EINVAL);
  assert_int_equal(create(NULL, &other, &why), -EINVAL);
  snprintf(with_slashes, sizeof(with_slashes), "%s//", root);
  assert_int_equal(create(with_slashes, &other, &why), 0);
  assert_int_equal(b->ops->identity(b, one, sizeof(one)), 0);
  assert_int_equal(b->ops->identity(other, two, sizeof(two)), 0);
  assert_string_equal(one, two);
  assert_int_equal(b->ops->identity(b, one, 5), -ENAMETOOLONG);
  other->ops->free(other);
  b->ops->free(NULL);
  assert_null(prelux_backend_find("no-such-kind"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      T(test_attributes),
      T(test_errors),
      T(test_a_missing_root_is_no_empty_tree),
      T(test_what_is_neither_file_nor_folder),
      T(test_list_and_stat_agree),
      T(test_links_inside),
      T(test_links_out),
      T(test_links_without_end),
      T(test_deep_and_long),
      T(test_read_parts),
      T(test_empty_file),
      T(test_changed_before_the_read),
      T(test_changed_during_the_read),
      T(test_a_read_waits_for_the_tick),
      T(test_replaced_during_the_read),
      T(test_no_fd_leaks_when_the_walk_fails),
      T(test_short_and_failing_reads),
      T(test_a_race_never_leaves_the_root),
      T(test_create_and_identity),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
