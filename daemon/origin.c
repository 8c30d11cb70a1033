#include "daemon/origin_private.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"

#define IDENTITY_MAX 4096

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
  prelux_net_limited_free(i->share);
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
  int64_t most = prelux_conf_num(conf, "max_connections");
  int err = most && o->net ? prelux_net_limited(o->net, (unsigned)most, &i->share) : 0;
  if (err == 0)
    err = ops->create(conf, i->share ? i->share : o->net, &i->backend, why);
  if (err == 0 && prelux_conf_num(conf, "tls.insecure"))
    prelux_warn("backend %s: whoever answers is believed, its certificate is not looked at (tls.insecure)", conf->name);
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
