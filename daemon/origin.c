#include "daemon/origin.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDENTITY_MAX 4096
#define OBJECT_MAX 8192

struct prelux_instance {
  struct prelux_origins *origins;
  struct prelux_instance *next;
  struct prelux_backend *backend;
  unsigned char digest[32]; /* of its configuration, secrets included: tells equal ones, stays in memory */
  char *identity;
  uint32_t number;
  unsigned refs; /* guarded by origins->lock */
};

struct prelux_origins {
  pthread_mutex_t lock;
  struct prelux_instance *instances;
  struct prelux_net *net;
  const struct prelux_backend_ops *(*find)(const char *type);
  uint32_t numbers;
};

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

int prelux_origins_create(struct prelux_net *net, const struct prelux_backend_ops *(*find)(const char *type),
                          struct prelux_origins **ret)
{
  struct prelux_origins *o = calloc(1, sizeof *o);
  if (!o)
    return -ENOMEM;
  pthread_mutex_init(&o->lock, NULL);
  o->net = net;
  o->find = find ? find : prelux_backend_find;
  *ret = o;
  return 0;
}

void prelux_origins_free(struct prelux_origins *o)
{
  if (!o)
    return;
  pthread_mutex_destroy(&o->lock);
  free(o);
}

static void hash_text(EVP_MD_CTX *md, const char *s)
{
  EVP_DigestUpdate(md, s ? s : "\1", s ? strlen(s) + 1 : 2);
}

static void hash_conf(EVP_MD_CTX *md, const struct prelux_conf_backend *conf)
{
  hash_text(md, conf->type);
  for (size_t i = 0; i < conf->n_values; i++)
  {
    const struct prelux_conf_value *v = &conf->values[i];
    hash_text(md, v->key->name);
    hash_text(md, v->text);
    EVP_DigestUpdate(md, &v->n_items, sizeof v->n_items);
    for (size_t k = 0; k < v->n_items; k++)
      hash_text(md, v->items[k]);
  }
  for (char *const *e = conf->env; e && *e; e++)
    hash_text(md, *e);
  if (conf->under) /* which has no under store itself */
    hash_conf(md, conf->under);
}

static int digest_of(const struct prelux_conf_backend *conf, unsigned char out[32])
{
  EVP_MD_CTX *md = EVP_MD_CTX_new();
  if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
  {
    EVP_MD_CTX_free(md);
    return -ENOMEM;
  }
  hash_conf(md, conf);
  EVP_DigestFinal_ex(md, out, NULL);
  EVP_MD_CTX_free(md);
  return 0;
}

static void instance_free(struct prelux_instance *i)
{
  if (i->backend)
    i->backend->ops->free(i->backend);
  free(i->identity);
  free(i);
}

static int instance_new(struct prelux_origins *o, const struct prelux_conf_backend *conf,
                        const unsigned char digest[32], struct prelux_instance **ret, struct prelux_problem *why)
{
  char identity[IDENTITY_MAX];
  const struct prelux_backend_ops *ops = o->find(conf->type);
  if (!ops)
    return prelux_problem(why, ENOSYS, "backend \"%s\": this preluxd has no type \"%s\"", conf->name, conf->type);
  struct prelux_instance *i = calloc(1, sizeof *i);
  if (!i)
    return prelux_problem(why, ENOMEM, "backend \"%s\": no memory", conf->name);
  i->origins = o;
  i->refs = 1;
  memcpy(i->digest, digest, sizeof i->digest);
  int err = ops->create(conf, o->net, &i->backend, why);
  if (err == 0)
  {
    err = ops->identity(i->backend, identity, sizeof identity);
    err = err < 0 ? prelux_problem(why, -err, "backend \"%s\": no identity", conf->name) : 0;
  }
  if (err == 0 && !(i->identity = strdup(identity)))
    err = prelux_problem(why, ENOMEM, "backend \"%s\": no memory", conf->name);
  if (err < 0)
    instance_free(i);
  else
    *ret = i;
  return err;
}

int prelux_instance_get(struct prelux_origins *o, const struct prelux_conf_backend *conf, struct prelux_instance **ret,
                        struct prelux_problem *why)
{
  unsigned char digest[32];
  int err = digest_of(conf, digest);
  if (err < 0)
    return prelux_problem(why, ENOMEM, "backend \"%s\": no memory", conf->name);
  pthread_mutex_lock(&o->lock);
  struct prelux_instance *i = o->instances;
  while (i && memcmp(i->digest, digest, sizeof digest) != 0)
    i = i->next;
  if (i)
  {
    i->refs++;
    if (i->backend->ops->use)
      i->backend->ops->use(i->backend, conf);
  }
  else if ((err = instance_new(o, conf, digest, &i, why)) == 0) /* create() opens no connection: fine under the lock */
  {
    i->number = ++o->numbers;
    i->next = o->instances;
    o->instances = i;
  }
  pthread_mutex_unlock(&o->lock);
  if (err == 0)
    *ret = i;
  return err;
}

struct prelux_instance *prelux_instance_hold(struct prelux_instance *i)
{
  pthread_mutex_lock(&i->origins->lock);
  i->refs++;
  pthread_mutex_unlock(&i->origins->lock);
  return i;
}

void prelux_instance_drop(struct prelux_instance *i)
{
  if (!i)
    return;
  struct prelux_origins *o = i->origins;
  pthread_mutex_lock(&o->lock);
  bool last = --i->refs == 0;
  for (struct prelux_instance **at = &o->instances; last && *at; at = &(*at)->next)
    if (*at == i)
    {
      *at = i->next;
      break;
    }
  pthread_mutex_unlock(&o->lock);
  if (last)
    instance_free(i);
}

const char *prelux_instance_identity(const struct prelux_instance *i)
{
  return i->identity;
}

const char *prelux_instance_type(const struct prelux_instance *i)
{
  return i->backend->ops->type;
}

uint32_t prelux_instance_number(const struct prelux_instance *i)
{
  return i->number;
}

int prelux_instance_stat(struct prelux_instance *i, const char *path, struct prelux_object *ret,
                         struct prelux_problem *why)
{
  return i->backend->ops->stat(i->backend, path, ret, why);
}

int prelux_instance_owners(struct prelux_instance *i, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                           struct prelux_problem *why)
{
  return i->backend->ops->owners ? i->backend->ops->owners(i->backend, path, add, arg, why) : 0;
}

int prelux_instance_load(struct prelux_instance *i, const char *path, enum prelux_load_verb verb,
                         const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why)
{
  if (!i->backend->ops->load)
    return prelux_problem(why, EOPNOTSUPP, "backends of type %s have no load jobs", i->backend->ops->type);
  return i->backend->ops->load(i->backend, path, verb, options, ret, why);
}

/* A backend's stat, in the names of prelux_object. */
static int info_of_stat(struct prelux_backend *b, const char *path, cJSON *ret, struct prelux_problem *why)
{
  struct prelux_object obj = {0};
  char number[32];
  int rc = b->ops->stat(b, path, &obj, why);
  if (rc < 0)
    return rc;
  cJSON *o = cJSON_AddObjectToObject(ret, "info");
  cJSON_AddStringToObject(o, "type", obj.type == PRELUX_DIR ? "directory" : "file");
  if (obj.size != UINT64_MAX && obj.type == PRELUX_FILE)
  {
    snprintf(number, sizeof number, "%" PRIu64, obj.size);
    cJSON_AddRawToObject(o, "size", number);
  }
  if (obj.mtime_ns)
  {
    snprintf(number, sizeof number, "%" PRId64, obj.mtime_ns);
    cJSON_AddRawToObject(o, "mtime_ns", number);
  }
  if (obj.mode)
    cJSON_AddNumberToObject(o, "mode", obj.mode);
  if (obj.version[0])
    cJSON_AddStringToObject(o, "version", obj.version);
  if (obj.md5[0])
    cJSON_AddStringToObject(o, "md5", obj.md5);
  return 0;
}

int prelux_instance_cluster(struct prelux_instance *i, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                            struct prelux_problem *why)
{
  struct prelux_backend *b = i->backend;
  if (b->ops->cluster)
    return b->ops->cluster(b, path, call, ret, why);
  if (call->verb == PRELUX_CLUSTER_INFO)
    return info_of_stat(b, path, ret, why);
  if (call->verb == PRELUX_CLUSTER_LOCATE)
    return 0;
  return prelux_problem(why, EOPNOTSUPP, "backends of type %s have no cluster that could do this", b->ops->type);
}

int prelux_instance_object(struct prelux_instance *i, const char *uri, char *out, size_t cap)
{
  return i->backend->ops->object ? i->backend->ops->object(i->backend, uri, out, cap) : -EOPNOTSUPP;
}

void prelux_instance_report(struct prelux_instance *i, struct cJSON *into)
{
  if (i->backend->ops->report)
    i->backend->ops->report(i->backend, into);
}

void prelux_instance_examine(struct prelux_instance *i, struct cJSON *into)
{
  if (i->backend->ops->examine)
    i->backend->ops->examine(i->backend, into);
  else
    prelux_instance_report(i, into);
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
  err = i->backend->ops->stat(i->backend, full, ret, why);
  prelux_instance_drop(i);
  return err;
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
