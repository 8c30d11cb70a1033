/* Switches: what trees have for a backend (origin.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/measure.h"
#include "daemon/origin_private.h"

#define OBJECT_MAX 8192

struct prelux_switch {
  struct prelux_backend base;
  struct prelux_backend_ops ops; /* as the instance's, with our functions */
  struct prelux_origins *origins;
  struct prelux_instance *newest; /* guarded by origins->lock */
  char *identity;
  char *prefix;
};

static _Thread_local struct prelux_instance *bound;

void prelux_origin_bind(struct prelux_instance *i)
{
  bound = i;
}

/* The instance for a call, held, and the path it knows. */
static int enter(struct prelux_backend *b, const char *path, char *full, size_t cap, struct prelux_instance **ret,
                 struct prelux_problem *why)
{
  struct prelux_switch *s = (struct prelux_switch *)b;
  int n = snprintf(full, cap, "%s%s%s", s->prefix, s->prefix[0] && path[0] ? "/" : "", path);
  if (n < 0 || (size_t)n >= cap)
    return prelux_problem(why, ENAMETOOLONG, "object path longer than %zu bytes", cap - 1);
  if (bound && strcmp(bound->identity, s->identity) == 0)
    *ret = prelux_instance_hold(bound);
  else
  {
    pthread_mutex_lock(&s->origins->lock);
    s->newest->refs++;
    *ret = s->newest;
    pthread_mutex_unlock(&s->origins->lock);
  }
  return 0;
}

static int switch_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret,
                       struct prelux_problem *why)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  int err = enter(b, path, full, sizeof full, &i, why);
  if (err < 0)
    return err;
  prelux_measure_ask();
  err = i->backend->ops->stat(i->backend, full, ret, why);
  prelux_instance_drop(i);
  return err;
}

static int switch_sum(struct prelux_backend *b, const char *path, const struct prelux_object *expect, bool ask, const atomic_bool *over,
                      struct prelux_sum *ret)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  int err = enter(b, path, full, sizeof full, &i, NULL);
  if (err < 0)
    return err;
  err = i->backend->ops->sum(i->backend, full, expect, ask, over, ret);
  prelux_instance_drop(i);
  return err;
}

static void *switch_asker(void)
{
  return bound;
}

static void switch_ask_as(void *asker)
{
  bound = asker;
}

static bool switch_distrust(struct prelux_backend *b, const char *path)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  if (enter(b, path, full, sizeof full, &i, NULL) < 0)
    return false;
  bool ret = i->backend->ops->distrust(i->backend, full);
  prelux_instance_drop(i);
  return ret;
}

static int switch_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                       struct prelux_problem *why)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  int err = enter(b, path, full, sizeof full, &i, why);
  if (err < 0)
    return err;
  prelux_measure_ask();
  err = i->backend->ops->list(i->backend, full, add, arg, why);
  prelux_instance_drop(i);
  return err;
}

static int switch_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                       uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  int err = enter(b, path, full, sizeof full, &i, why);
  if (err < 0)
    return err;
  prelux_measure_ask();
  err = i->backend->ops->read(i->backend, full, expect, off, len, sink, arg, why);
  prelux_instance_drop(i);
  return err;
}

static int switch_fetch(struct prelux_backend *b, const char *path, int (*begin)(void *arg, const struct prelux_object *obj),
                        prelux_read_fn sink, void *arg, struct prelux_object *ret, struct prelux_problem *why)
{
  char full[OBJECT_MAX];
  struct prelux_instance *i;
  int err = enter(b, path, full, sizeof full, &i, why);
  if (err < 0)
    return err;
  prelux_measure_ask();
  err = i->backend->ops->fetch ? i->backend->ops->fetch(i->backend, full, begin, sink, arg, ret, why) : 1;
  prelux_instance_drop(i);
  return err;
}

/* Writing: the same, by a table of its own. What the instance cannot do is refused here. */

struct call { /* of one write op */
  struct prelux_instance *instance;
  struct prelux_backend *b; /* its backend */
  const struct prelux_backend_write *write;
  char path[OBJECT_MAX], to[OBJECT_MAX];
};

static int join(const struct prelux_switch *s, const char *path, char *full, struct prelux_problem *why)
{
  int n = snprintf(full, OBJECT_MAX, "%s%s%s", s->prefix, s->prefix[0] && path[0] ? "/" : "", path);
  return n < 0 || n >= OBJECT_MAX ? prelux_problem(why, ENAMETOOLONG, "object path longer than %d bytes", OBJECT_MAX - 1) : 0;
}

/* to: NULL where an op has one path. The caller gives `instance` back by leave(). */
static int begin(struct prelux_backend *b, const char *path, const char *to, struct call *c, struct prelux_problem *why)
{
  int err = to ? join((struct prelux_switch *)b, to, c->to, why) : 0;
  if (err == 0)
    err = enter(b, path, c->path, sizeof c->path, &c->instance, why);
  if (err < 0)
    return err;
  c->b = c->instance->backend;
  c->write = c->b->ops->write;
  return 0;
}

static int leave(struct call *c, int err, struct prelux_problem *why)
{
  if (err == -EOPNOTSUPP && why && !why->text[0])
    prelux_problem(why, EOPNOTSUPP, "backends of type %s cannot do this", c->b->ops->type);
  prelux_instance_drop(c->instance);
  return err;
}

#define CALL(op, ...) (c.write && c.write->op ? c.write->op(c.b, __VA_ARGS__) : -EOPNOTSUPP)

static int switch_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, "", NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(able, ret, why), why);
}

static int switch_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                      struct prelux_object *ret, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(put, c.path, fd, size, how, ret, why), why);
}

static int switch_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                        char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(begin, c.path, part_size, set, token, why), why);
}

static int switch_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off, uint64_t len,
                       char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(part, c.path, token, n, fd, off, len, tag, why), why);
}

static int switch_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts, size_t n,
                           uint64_t size, const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(complete, c.path, token, parts, n, size, how, ret, why), why);
}

static int switch_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(abort, c.path, token, why), why);
}

/* The instance tells paths below its own root; those of uploads outside the prefix are nobody's here. */
struct uploads {
  prelux_upload_fn add;
  void *arg;
  const char *prefix;
};

static int add_upload(void *arg, const char *path, const char *token, uint64_t idle_s)
{
  const struct uploads *u = arg;
  size_t len = strlen(u->prefix);
  if (len && (strncmp(path, u->prefix, len) != 0 || (path[len] && path[len] != '/')))
    return 0;
  return u->add(u->arg, path + len + (len && path[len]), token, idle_s);
}

static int switch_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg, struct prelux_problem *why)
{
  struct uploads u = {.add = add, .arg = arg, .prefix = ((struct prelux_switch *)b)->prefix};
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(uploads, c.path, add_upload, &u, why), why);
}

static int switch_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(clean, c.path, idle_s, why), why);
}

static int switch_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                         struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(remove, c.path, cond, why), why);
}

static int switch_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                         struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, from, to, &c, why);
  return err < 0 ? err : leave(&c, CALL(rename, c.path, c.to, flags, ret, why), why);
}

static int switch_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(mkdir, c.path, mode, why), why);
}

static int switch_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(rmdir, c.path, why), why);
}

static int switch_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, const struct prelux_set *set,
                           struct prelux_object *ret, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, path, NULL, &c, why);
  return err < 0 ? err : leave(&c, CALL(set_attr, c.path, cond, set, ret, why), why);
}

static int switch_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to, const struct prelux_put *how,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  struct call c;
  int err = begin(b, from, to, &c, why);
  return err < 0 ? err : leave(&c, CALL(copy, c.path, source_version, c.to, how, ret, why), why);
}

static const struct prelux_backend_write switch_write = {
    .able = switch_able,
    .put = switch_put,
    .begin = switch_begin,
    .part = switch_part,
    .complete = switch_complete,
    .abort = switch_abort,
    .uploads = switch_uploads,
    .clean = switch_clean,
    .remove = switch_remove,
    .rename = switch_rename,
    .mkdir = switch_mkdir,
    .rmdir = switch_rmdir,
    .set_attr = switch_set_attr,
    .copy = switch_copy,
};

static int switch_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_switch *s = (const struct prelux_switch *)b;
  int n = snprintf(buf, cap, "%s%s%s", s->identity, s->prefix[0] ? " path=" : "", s->prefix);
  return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

/* Switches live as long as their tree; their owner frees them. */
static void switch_keep(struct prelux_backend *b)
{
  (void)b;
}

int prelux_switch_create(struct prelux_instance *i, const char *prefix, struct prelux_switch **ret)
{
  struct prelux_switch *s = calloc(1, sizeof *s);
  if (!s)
    return -ENOMEM;
  s->identity = strdup(i->identity);
  s->prefix = strdup(prefix);
  if (!s->identity || !s->prefix)
  {
    free(s->identity);
    free(s->prefix);
    free(s);
    return -ENOMEM;
  }
  s->ops = (struct prelux_backend_ops){
      .type = i->backend->ops->type,
      .caps = i->backend->ops->caps,
      .free = switch_keep,
      .identity = switch_identity,
      .stat = switch_stat,
      .list = switch_list,
      .read = switch_read,
      .fetch = i->backend->ops->fetch ? switch_fetch : NULL,
      .sum = i->backend->ops->sum ? switch_sum : NULL,
      .asker = switch_asker,
      .ask_as = switch_ask_as,
      .distrust = i->backend->ops->distrust ? switch_distrust : NULL,
      .write = i->backend->ops->write ? &switch_write : NULL,
  };
  s->base.ops = &s->ops;
  s->origins = i->origins;
  s->newest = prelux_instance_hold(i);
  *ret = s;
  return 0;
}

void prelux_switch_free(struct prelux_switch *s)
{
  if (!s)
    return;
  prelux_instance_drop(s->newest);
  free(s->identity);
  free(s->prefix);
  free(s);
}

struct prelux_backend *prelux_switch_backend(struct prelux_switch *s)
{
  return &s->base;
}

void prelux_switch_renew(struct prelux_switch *s, struct prelux_instance *i)
{
  struct prelux_instance *old;
  pthread_mutex_lock(&s->origins->lock);
  old = s->newest;
  i->refs++;
  s->newest = i;
  pthread_mutex_unlock(&s->origins->lock);
  prelux_instance_drop(old);
}
