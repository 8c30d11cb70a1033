/* A backend that is a table in memory, for tests of the store only: counts what is asked, changes, delays, lies and fails on
 * demand. Also the set-up of a store in a temporary folder. */
#ifndef TESTS_UNIT_STORE_FAKE_H
#define TESTS_UNIT_STORE_FAKE_H

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "include/prelux/table.h"
#include "lib/backend/backend.h"
#include "lib/index/writer.h"
#include "lib/store/store.h"

#define FAKE_MAX 2048

struct fake_object {
  char path[512];
  uint8_t type;
  uint32_t mode;
  size_t size;
  unsigned seed; /* the bytes are a function of it */
  char text[32]; /* or these, when not "" */
  int64_t mtime_ns;
  char version[PRELUX_VERSION_MAX];
  char md5[33];
};

struct fake_backend {
  struct prelux_backend base;
  struct prelux_backend_ops ops;
  pthread_mutex_t lock;
  struct fake_object objects[FAKE_MAX];
  size_t n;
  unsigned stats, lists, reads;
  int fail_stat, fail_read, fail_list; /* -errno for every call */
  unsigned delay_us;
  long short_by;      /* read delivers so many bytes less and says success */
  long cut_after;     /* read delivers so many bytes, then -EIO, once */
  int change_in_read; /* the object gets a new version in the middle of that many next reads */
  bool swapped;            /* read delivers its second piece first */
  void (*in_read)(void);   /* called in the middle of a read, once */
  const char *extra_names[8]; /* listed as they are, in every folder */
};

static inline unsigned char fake_byte(unsigned seed, size_t i)
{
  return (unsigned char)((i * 131 + seed * 17 + (i >> 8) * 7) ^ (i >> 16));
}

static inline struct fake_object *fake_find(struct fake_backend *b, const char *path)
{
  for (size_t i = 0; i < b->n; i++)
    if (b->objects[i].type && strcmp(b->objects[i].path, path) == 0)
      return &b->objects[i];
  return NULL;
}

static inline struct fake_object *fake_file(struct fake_backend *b, const char *path, size_t size, unsigned seed)
{
  pthread_mutex_lock(&b->lock);
  struct fake_object *o = fake_find(b, path);
  if (!o)
    o = &b->objects[b->n++];
  memset(o, 0, sizeof *o);
  snprintf(o->path, sizeof o->path, "%s", path);
  o->type = PRELUX_FILE;
  o->size = size;
  o->seed = seed;
  o->mtime_ns = 1600000000000000000ll + seed * 1000000007ll;
  snprintf(o->version, sizeof o->version, "v%u-%zu", seed, size);
  pthread_mutex_unlock(&b->lock);
  return o;
}

static inline void fake_text(struct fake_backend *b, const char *path, const char *text)
{
  struct fake_object *o = fake_file(b, path, strlen(text), 1);
  snprintf(o->text, sizeof o->text, "%s", text);
}

static inline void fake_dir(struct fake_backend *b, const char *path)
{
  struct fake_object *o = fake_file(b, path, 0, 0);
  o->type = PRELUX_DIR;
  o->version[0] = 0;
}

static inline void fake_remove(struct fake_backend *b, const char *path)
{
  pthread_mutex_lock(&b->lock);
  struct fake_object *o = fake_find(b, path);
  if (o)
    o->type = 0;
  pthread_mutex_unlock(&b->lock);
}

static inline void fake_show(const struct fake_object *o, struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = o->type, .mode = o->mode, .size = o->size, .mtime_ns = o->mtime_ns};
  snprintf(ret->version, sizeof ret->version, "%s", o->version);
  snprintf(ret->md5, sizeof ret->md5, "%s", o->md5);
}

static inline int fake_stat(struct prelux_backend *base, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct fake_backend *b = (struct fake_backend *)base;
  if (b->delay_us)
    usleep(b->delay_us);
  pthread_mutex_lock(&b->lock);
  b->stats++;
  const struct fake_object *o = fake_find(b, path);
  int rc = b->fail_stat;
  if (rc == 0 && o)
    fake_show(o, ret);
  else if (rc == 0 && !*path)
    *ret = (struct prelux_object){.type = PRELUX_DIR};
  else if (rc == 0)
    rc = -ENOENT;
  pthread_mutex_unlock(&b->lock);
  return rc < 0 ? prelux_problem(why, -rc, "fake stat: %s", strerror(-rc)) : 0;
}

static inline int fake_list(struct prelux_backend *base, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct fake_backend *b = (struct fake_backend *)base;
  size_t len = strlen(path);
  if (b->delay_us)
    usleep(b->delay_us);
  pthread_mutex_lock(&b->lock);
  b->lists++;
  int rc = b->fail_list;
  /* Backwards: the store has to sort. */
  for (size_t i = b->n; rc == 0 && i-- > 0;)
  {
    const struct fake_object *o = &b->objects[i];
    const char *name = o->path + (len ? len + 1 : 0);
    if (!o->type || strlen(o->path) <= len || (len && (strncmp(o->path, path, len) != 0 || o->path[len] != '/')) ||
        strchr(name, '/'))
      continue;
    struct prelux_object show;
    fake_show(o, &show);
    rc = add(arg, name, strlen(name), &show);
  }
  for (int i = 0; rc == 0 && i < 8 && b->extra_names[i]; i++)
    rc = add(arg, b->extra_names[i], strlen(b->extra_names[i]), &(struct prelux_object){.type = PRELUX_FILE, .size = 1});
  pthread_mutex_unlock(&b->lock);
  return rc < 0 ? prelux_problem(why, -rc, "fake list: %s", strerror(-rc)) : 0;
}

static inline int fake_read(struct prelux_backend *base, const char *path, const struct prelux_object *expect, uint64_t off,
                            uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct fake_backend *b = (struct fake_backend *)base;
  unsigned char buf[8192];
  pthread_mutex_lock(&b->lock);
  b->reads++;
  struct fake_object *o = fake_find(b, path);
  int rc = b->fail_read ? b->fail_read : o ? 0 : -ENOENT;
  struct fake_object was = o ? *o : (struct fake_object){0};
  if (rc == 0 && (b->ops.caps & PRELUX_CAP_CONDITIONAL) && strcmp(expect->version, was.version) != 0)
    rc = -ESTALE;
  if (rc == 0 && b->change_in_read > 0)
  {
    b->change_in_read--;
    o->seed++;
    snprintf(o->version, sizeof o->version, "v%u-%zu", o->seed, o->size);
    o->mtime_ns += 1000000007;
  }
  long cut = b->cut_after, short_by = b->short_by;
  void (*in_read)(void) = rc == 0 ? b->in_read : NULL;
  b->cut_after = 0;
  if (in_read)
    b->in_read = NULL;
  pthread_mutex_unlock(&b->lock);
  if (in_read)
    in_read();
  if (short_by && rc == 0)
    len -= (uint64_t)short_by;
  for (uint64_t done = 0; rc == 0 && done < len;)
  {
    size_t n = len - done < sizeof buf ? (size_t)(len - done) : sizeof buf;
    if (cut && done >= (uint64_t)cut)
      rc = -EIO;
    uint64_t at = off + (b->swapped && done < 2 * sizeof buf ? (done ? 0 : sizeof buf) : done);
    for (size_t i = 0; i < n; i++)
      buf[i] = was.text[0] ? (unsigned char)was.text[at + i] : fake_byte(was.seed, at + i);
    if (b->delay_us)
      usleep(b->delay_us);
    if (rc == 0)
      rc = sink(arg, at, buf, n);
    done += n;
  }
  return rc < 0 ? prelux_problem(why, -rc, "fake read: %s", strerror(-rc)) : 0;
}

static inline void fake_init(struct fake_backend *b)
{
  memset(b, 0, sizeof *b);
  pthread_mutex_init(&b->lock, NULL);
  b->ops = (struct prelux_backend_ops){.type = "fake",
                                       .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_LIST_ALL | PRELUX_CAP_CONDITIONAL,
                                       .stat = fake_stat,
                                       .list = fake_list,
                                       .read = fake_read};
  b->base.ops = &b->ops;
}

/* fd holds exactly the object's present bytes. */
static inline bool fake_equal(struct fake_backend *b, const char *path, int fd)
{
  const struct fake_object *o = fake_find(b, path);
  unsigned char buf[65536];
  size_t at = 0;
  ssize_t n;
  if (!o)
    return false;
  while ((n = pread(fd, buf, sizeof buf, (off_t)at)) > 0)
    for (ssize_t i = 0; i < n; i++, at++)
      if (at >= o->size || buf[i] != (o->text[0] ? (unsigned char)o->text[at] : fake_byte(o->seed, at)))
        return false;
  return n == 0 && at == o->size;
}

/* A store over the fake, in a temporary folder. */
struct rig {
  char dir[64];
  struct fake_backend b;
  struct prelux_store *s;
  struct prelux_tree *t;
  struct prelux_view v;
  struct prelux_problem why;
  struct prelux_store_opts opts;
  struct prelux_index_writer *index;
};

#define SECOND 1000000000ull

static inline int rig_open(struct rig *r)
{
  int rc = prelux_store_open(&r->opts, r->index, &r->s, &r->why);
  if (rc == 0)
    rc = prelux_tree_open(r->s, "fake:one", &r->b.base, &r->t, &r->why);
  if (rc == 0)
    prelux_view_init(&r->v, r->t, PRELUX_FRESH_MAX_AGE, 60 * SECOND, 5 * SECOND, 0644, 0755);
  return rc;
}

static inline void rig_init(struct rig *r)
{
  memset(r, 0, sizeof *r);
  /* In memory where there is such a place: hundreds of SQLite commits on a shared disk take minutes. */
  const char *base = getenv("STORE_TEST_DIR");
  snprintf(r->dir, sizeof r->dir, "%s/prelux-test-store-XXXXXX", base ? base : "/tmp");
  assert_non_null(mkdtemp(r->dir));
  fake_init(&r->b);
  r->opts = (struct prelux_store_opts){.dir = r->dir, .max_size = 64 << 20, .high = 0.9, .low = 0.7};
}

/* With a real index, read as the library reads it. */
static inline void rig_index(struct rig *r)
{
  prelux_store_close(r->s);
  r->s = NULL;
  assert_int_equal(prelux_index_writer_create(r->dir, 1024, 4096, &r->index), 0);
  assert_int_equal(rig_open(r), 0);
}

static inline void rig_remove(struct rig *r)
{
  char cmd[128];
  prelux_store_close(r->s);
  prelux_index_writer_free(r->index);
  snprintf(cmd, sizeof cmd, "rm -rf '%s'", r->dir);
  assert_int_equal(system(cmd), 0);
}

static inline void rig_reopen(struct rig *r)
{
  prelux_store_close(r->s);
  r->s = NULL;
  assert_int_equal(rig_open(r), 0);
}

/* Opens and compares; the store's answer. */
static inline int rig_check(struct rig *r, const char *object)
{
  struct prelux_attr a;
  int fd = -1, rc = prelux_store_open_object(&r->v, object, 0, &a, &fd, &r->why);
  if (rc == 0)
  {
    assert_true(fake_equal(&r->b, object, fd));
    close(fd);
  }
  return rc;
}

#endif
