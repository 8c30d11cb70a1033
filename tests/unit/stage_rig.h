/* A store over a real folder (backend `file`) that is written through lib/store/stage. Between the two stands a layer that injects faults:
 * answers that are lost, errors, a change on the remote just before a put. */
#ifndef PRELUX_TESTS_STAGE_RIG_H
#define PRELUX_TESTS_STAGE_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "include/prelux/table.h"
#include "lib/base/os.h"
#include "lib/conf/conf.h"
#include "lib/index/reader.h"
#include "lib/index/writer.h"
#include "lib/store/stage.h"

enum fault { NO_FAULT, FAIL_EIO, FAIL_EACCES, LOSE_BEFORE, LOSE_AFTER, CHANGE_BEFORE, FAIL_EACCES_LATER };

static struct faulty {
  struct prelux_backend base;
  struct prelux_backend_ops ops;
  struct prelux_backend_write write;
  struct prelux_backend *real;
  atomic_int fault;  /* enum fault, of the next `times` puts */
  atomic_int times;
  atomic_int puts, parts, aborts, stats;
  atomic_bool deaf;  /* stat says nothing */
  atomic_int fault_part; /* FAIL_EIO: of the third part; LOSE_AFTER, LOSE_BEFORE: of complete */
  atomic_int fail_aborts; /* so many of the next */
  void (*_Atomic asked)(void); /* called once, while the remote is asked for an object */
  void (*_Atomic putting)(void); /* called once, while an object is put */
  void (*listed)(void);  /* called once, when the remote has listed and before the store knows */
} faulty;

static struct {
  char top[200], remote[220], cache[220];
  struct prelux_index_writer *index;
  struct prelux_index_reader reader;
  struct prelux_store *s;
  struct prelux_tree *t;
  struct prelux_view v;
  struct prelux_stage *g;
  struct prelux_write_rules rules;
  struct prelux_problem why;
} rig;

static inline void put_text(const char *name, const char *text)
{
  char path[600];
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  unlink(path);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
  close(fd);
}

/* Text of a file of the remote; NULL: it is not there. */
static inline const char *remote_text(const char *name)
{
  static char text[4096];
  char path[600];
  snprintf(path, sizeof path, "%s/%s", rig.remote, name);
  int fd = open(path, O_RDONLY);
  if (fd < 0)
    return NULL;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n < 0 ? 0 : n] = 0;
  return text;
}

static inline int faulty_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  void (*asked)(void) = atomic_exchange(&faulty.asked, NULL);
  atomic_fetch_add(&faulty.stats, 1);
  if (asked)
    asked();
  return atomic_load(&faulty.deaf) ? prelux_problem(why, EIO, "injected: deaf") : faulty.real->ops->stat(faulty.real, path, ret, why);
}

static inline int faulty_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  void (*listed)(void) = faulty.listed;
  int rc = faulty.real->ops->list(faulty.real, path, add, arg, why);
  faulty.listed = NULL;
  if (listed)
    listed();
  return rc;
}

static inline int faulty_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                              prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  return faulty.real->ops->read(faulty.real, path, expect, off, len, sink, arg, why);
}

static inline int faulty_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  int rc = faulty.real->ops->write->able(faulty.real, ret, why);
  ret->caps |= PRELUX_CAP_MULTIPART;
  ret->part_min = 1;
  ret->part_max = 1 << 30;
  ret->parts_max = 10000;
  return rc;
}

static inline int faulty_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                             struct prelux_object *ret, struct prelux_problem *why)
{
  enum fault fault = atomic_fetch_sub(&faulty.times, 1) > 0 ? (enum fault)atomic_load(&faulty.fault) : NO_FAULT;
  void (*putting)(void) = atomic_exchange(&faulty.putting, NULL);
  atomic_fetch_add(&faulty.puts, 1);
  if (putting)
    putting();
  if (fault == FAIL_EACCES_LATER && strstr(path, ".conflict-"))
    return prelux_problem(why, EACCES, "injected");
  if (fault == FAIL_EIO || fault == FAIL_EACCES)
    return prelux_problem(why, fault == FAIL_EIO ? EIO : EACCES, "injected");
  if (fault == LOSE_BEFORE)
    return prelux_problem(why, PRELUX_EUNKNOWN, "injected: no answer");
  if (fault == CHANGE_BEFORE)
    put_text(path, "somebody else's");
  int rc = faulty.real->ops->write->put(faulty.real, path, fd, size, how, ret, why);
  return fault == LOSE_AFTER && rc == 0 ? prelux_problem(why, PRELUX_EUNKNOWN, "injected: the answer is lost") : rc;
}

static inline unsigned path_sum(const char *path)
{
  unsigned sum = 5381;
  for (; *path; path++)
    sum = sum * 33 + (unsigned char)*path;
  return sum;
}

/* Uploads in parts, which the real backend does not have: each is a file in rig.top, whose name is the token, and of one object. */
static inline int faulty_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                               char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  snprintf(token, PRELUX_TOKEN_MAX, "%s/upload-%llu-%08x-XXXXXX", rig.top, (unsigned long long)part_size, path_sum(path));
  int fd = mkstemp(token);
  return fd < 0 ? -EIO : close(fd);
}

static inline int faulty_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off, uint64_t len,
                              char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  if (atomic_fetch_add(&faulty.parts, 1) == 2 && atomic_load(&faulty.fault_part) == FAIL_EIO)
    return prelux_problem(why, EIO, "injected");
  const char *size = strstr(token, "upload-");
  char *buf = malloc(len);
  int to = open(token, O_WRONLY);
  bool good = to >= 0 && pread(fd, buf, len, (off_t)off) == (ssize_t)len &&
              pwrite(to, buf, len, (off_t)(n * strtoull(size + 7, NULL, 10))) == (ssize_t)len;
  if (to >= 0)
    close(to);
  free(buf);
  snprintf(tag, PRELUX_TAG_MAX, "tag%u", n);
  return good ? 0 : prelux_problem(why, to < 0 ? ENXIO : EIO, "upload %s", token);
}

static inline int faulty_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts, size_t n,
                                  uint64_t size, const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  char tag[PRELUX_TAG_MAX];
  for (unsigned i = 0; i < n; i++)
  {
    snprintf(tag, sizeof tag, "tag%u", i);
    if (parts[i].n != i || strcmp(parts[i].tag, tag) != 0)
      return prelux_problem(why, EINVAL, "part %u", i);
  }
  if (atomic_load(&faulty.fault_part) == LOSE_BEFORE)
    return prelux_problem(why, PRELUX_EUNKNOWN, "injected: no answer");
  int fd = open(token, O_RDONLY);
  int rc = fd < 0 ? -ENXIO : faulty.real->ops->write->put(faulty.real, path, fd, size, how, ret, why);
  if (fd >= 0)
    close(fd);
  if (rc == 0)
    unlink(token);
  return rc == 0 && atomic_load(&faulty.fault_part) == LOSE_AFTER ? prelux_problem(why, PRELUX_EUNKNOWN, "injected: the answer is lost") : rc;
}

static inline int faulty_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  char own[16];
  atomic_fetch_add(&faulty.aborts, 1);
  if (atomic_fetch_sub(&faulty.fail_aborts, 1) > 0)
    return prelux_problem(why, EIO, "injected");
  snprintf(own, sizeof own, "-%08x-", path_sum(path));
  if (strstr(token, own))
    unlink(token);
  return 0;
}

static inline int rig_open(void)
{
  struct prelux_store_opts opts = {.dir = rig.cache, .max_size = 64 << 20, .high = 0.9, .low = 0.7};
  int rc = prelux_index_writer_create(rig.top, 1u << 10, 1u << 12, &rig.index);
  if (rc == 0)
    rc = prelux_store_open(&opts, rig.index, &rig.s, &rig.why);
  if (rc == 0)
    rc = prelux_store_writable(rig.s, &rig.why);
  if (rc == 0)
    rc = prelux_tree_open(rig.s, "file:test", &faulty.base, &rig.t, &rig.why);
  if (rc == 0)
  {
    rig.g = rig.s->stage;
    rig.g->rest_times = 0;
    prelux_view_init(&rig.v, rig.t, PRELUX_FRESH_MAX_AGE, 60000000000ull, 5000000000ull, 0644, 0755);
  }
  return rc;
}

static inline void rig_close(void)
{
  prelux_store_close(rig.s);
  prelux_index_writer_free(rig.index);
  rig.index = NULL;
  rig.g = NULL;
  rig.s = NULL;
}

static inline int set_up(void **state)
{
  static const struct prelux_conf_key key = {.name = "root"};
  const char *tmp = getenv("TMPDIR");
  memset(&rig, 0, sizeof rig);
  snprintf(rig.top, sizeof rig.top, "%s/prelux-stage-XXXXXX", tmp ? tmp : "/tmp");
  assert_non_null(mkdtemp(rig.top));
  snprintf(rig.remote, sizeof rig.remote, "%s/remote", rig.top);
  snprintf(rig.cache, sizeof rig.cache, "%s/cache", rig.top);
  mkdir(rig.remote, 0755);
  struct prelux_conf_value value = {.key = &key, .text = rig.remote};
  struct prelux_conf_backend conf = {.name = (char *)"b", .type = (char *)"file", .values = &value, .n_values = 1};
  memset(&faulty, 0, sizeof faulty);
  assert_int_equal(prelux_backend_find("file")->create(&conf, NULL, &faulty.real, &rig.why), 0);
  faulty.write = (struct prelux_backend_write){.able = faulty_able, .put = faulty_put, .begin = faulty_begin, .part = faulty_part, .complete = faulty_complete,
                                                .abort = faulty_abort};
  faulty.ops = (struct prelux_backend_ops){.type = "file", .caps = faulty.real->ops->caps, .stat = faulty_stat, .list = faulty_list,
                                           .read = faulty_read, .write = &faulty.write};
  faulty.base.ops = &faulty.ops;
  if (rig_open() < 0)
    fail_msg("%s", rig.why.text);
  return 0;
}

static inline int tear_down(void **state)
{
  char command[300];
  rig_close();
  faulty.real->ops->free(faulty.real);
  snprintf(command, sizeof command, "rm -rf '%s'", rig.top);
  return system(command);
}

/* A descriptor, or -errno. */
static inline int wopen(const char *object, int flags)
{
  struct prelux_attr attr;
  int fd = -1, rc = prelux_stage_open(rig.g, &rig.v, &rig.rules, object, flags, 0640, &attr, &fd, &rig.why);
  return rc < 0 ? rc : fd;
}

/* What a program's close does: the real one, then the daemon is told. */
static inline int wclose(int fd)
{
  struct stat st;
  assert_int_equal(fstat(fd, &st), 0);
  close(fd);
  return prelux_stage_closed(rig.g, st.st_ino, &rig.rules, &rig.why);
}

static inline void say(int fd, const char *text)
{
  assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static inline uint64_t pending(void)
{
  uint64_t n = 99;
  assert_int_equal(prelux_journal_count(rig.g->journal, &n), 0);
  return n;
}

/* The journal cannot be written. */
static inline void set_full(bool yes)
{
  struct rlimit room;
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &room);
  room.rlim_cur = yes ? 0 : room.rlim_max;
  setrlimit(RLIMIT_FSIZE, &room);
}

/* Reads an object as the store gives it to readers. */
static inline const char *read_text(const char *object)
{
  static char text[4096];
  struct prelux_attr attr;
  int fd = -1;
  if (prelux_store_open_object(&rig.v, object, PRELUX_STORE_RECHECK, &attr, &fd, &rig.why) < 0)
    return NULL;
  ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n < 0 ? 0 : n] = 0;
  return text;
}

#endif
