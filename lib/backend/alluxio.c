/* Backend `alluxio`: OSS 3.x (Dora), read from its workers.
 *
 * How the files work together:
 *   alluxio_options, _members, _ring, _health   what is configured; who the workers are; whose an object is; how they do
 *   alluxio_names    which port can carry a name, and how; ids of files; versions
 *   alluxio_info     stat: /v1/info, and what a closed connection meant
 *   alluxio_list     list: /v1/files, else the S3 port's LIST (_xml)
 *   alluxio_read     read: parts, whom to ask for each, the look afterwards; several parts at once by parallel.c
 *   alluxio_s3       HEAD and ranges of the S3 port, which loads what is not cached
 *   alluxio_page     pages of the HTTP port; _proof: only once the cluster's page size is proven
 *   alluxio_under    the under store, when no worker can help; _doubt: or when the cluster's metadata are old
 *   alluxio_write    changes, through the under store; _put: through a worker
 *   alluxio_doctor   `doctor`: do ring and redirects agree, is the S3 API on
 *
 * A version is length and time of change, in milliseconds: all that every source can tell. Where a mapping writes it is that of the under
 * store, which is then asked first for all but bytes. */
#include "lib/backend/alluxio.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/backend/backends.h"
#include "lib/base/log.h"
#include "lib/conf/conf.h"

#define USER_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static struct prelux_alluxio *self(struct prelux_backend *b)
{
  return (struct prelux_alluxio *)b;
}

int64_t prelux_alluxio_now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void alluxio_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_alluxio *x = self(b);
  prelux_alluxio_members_free(x->members);
  prelux_alluxio_health_free(x->health);
  prelux_alluxio_pages_free(x->pages);
  prelux_alluxio_options_release(&x->options);
  if (x->under)
    x->under->ops->free(x->under);
  prelux_parallel_release(&x->parallel);
  prelux_alluxio_doubts_release(&x->doubts);
  free(x->authorization);
  free(x);
}

/* With its default authentication (SIMPLE) the S3 port wants a user's name, in the place where a signature names the key. It checks no
 * signature. */
char *prelux_alluxio_authorization(const struct prelux_conf_backend *conf)
{
  const char *user = prelux_conf_item(conf, "options", "alluxio.security.login.username");
  struct passwd pw, *found = NULL;
  char text[1024], *header;
  if (!user && getpwuid_r(geteuid(), &pw, text, sizeof(text), &found) == 0 && found)
    user = found->pw_name;
  if (!user || !user[0] || strspn(user, USER_CHARACTERS) != strlen(user))
    user = "prelux";
  return asprintf(&header, "Authorization: AWS4-HMAC-SHA256 Credential=%s/prelux", user) < 0 ? NULL : header;
}

/* Said once, when the backend is made: whoever must read through workers alone should know it before they die. */
static int make_under(struct prelux_alluxio *x, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  if (!conf->under)
  {
    prelux_info("backend %s: there is no under store (%s) to turn to when no worker can help: name one by under_store", conf->name,
                x->options.root);
    return 0;
  }
  const struct prelux_backend_ops *ops = prelux_backend_find(conf->under->type);
  if (!ops)
  {
    prelux_warn("backend %s: this version cannot read its under store %s, of type %s", conf->name, conf->under->name,
                conf->under->type);
    return 0;
  }
  return ops->create(conf->under, x->net, &x->under, why);
}

static int alluxio_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                          struct prelux_problem *why)
{
  struct prelux_alluxio *x = calloc(1, sizeof(*x));
  if (!x)
    return prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
  x->base.ops = &prelux_backend_alluxio;
  prelux_parallel_init(&x->parallel);
  prelux_alluxio_doubts_init(&x->doubts);
  x->net = net;
  int rc = prelux_alluxio_options_init(&x->options, conf, why);
  if (rc == 0)
    rc = prelux_alluxio_health_create(&x->health);
  if (rc == 0)
    rc = prelux_alluxio_members_create(&x->options, x->health, net, &x->members, why);
  if (rc == 0)
    rc = prelux_alluxio_pages_create(x->options.name, x->options.page_size, &x->pages);
  if (rc == 0)
    rc = make_under(x, conf, why);
  if (rc == 0 && !(x->authorization = prelux_alluxio_authorization(conf)))
    rc = -ENOMEM;
  if (rc < 0)
  {
    if (rc == -ENOMEM)
      prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
    alluxio_free(&x->base);
    return rc;
  }
  bool objects = x->under && (strcmp(x->under->ops->type, "s3") == 0 || strcmp(x->under->ops->type, "azure") == 0);
  x->whole_seconds = objects || prelux_alluxio_whole_seconds(x->options.root);
  prelux_alluxio_write_init(x, conf);
  *ret = &x->base;
  return 0;
}

/* Which data: the cluster, by how its members are found, and the root. */
static int alluxio_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  static const char *const from[] = {
      [PRELUX_ALLUXIO_ETCD] = "etcd", [PRELUX_ALLUXIO_LIST] = "list", [PRELUX_ALLUXIO_DNS] = "dns"};
  const struct prelux_alluxio_options *o = &((const struct prelux_alluxio *)b)->options;
  int n = snprintf(buf, cap, "alluxio:%s", from[o->membership]);
  for (size_t i = 0; i < o->n_places && n >= 0 && (size_t)n < cap; i++)
  {
    int more = snprintf(buf + n, cap - (size_t)n, "%c%s", i ? ',' : ':', o->places[i]);
    n = more < 0 ? more : n + more;
  }
  if (n >= 0 && (size_t)n < cap)
  {
    int more = snprintf(buf + n, cap - (size_t)n, ":%s:%s", o->membership == PRELUX_ALLUXIO_ETCD ? o->cluster : "", o->root);
    n = more < 0 ? more : n + more;
  }
  return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

static int alluxio_owners(struct prelux_backend *b, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                          struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  struct prelux_alluxio_name n = {0};
  struct prelux_alluxio_round r = {0};
  int rc = prelux_alluxio_name_init(x, &n, path, why);
  if (rc == 0)
    rc = prelux_alluxio_round_init(x, &r, n.ufs, why);
  for (size_t i = 0; rc == 0 && i < r.n; i++)
    rc = add(arg, r.workers[i]->address);
  prelux_alluxio_round_release(&r);
  prelux_alluxio_name_release(&n);
  return rc;
}

static int alluxio_load(struct prelux_backend *b, const char *path, enum prelux_load_verb verb,
                        const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = self(b);
  size_t cap = strlen(x->options.root) + strlen(path) + 8;
  char *ufs = malloc(cap);
  if (!ufs)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  int rc = prelux_alluxio_ufs_path(&x->options, path, ufs, cap) < 0
               ? prelux_problem(why, EOPNOTSUPP, "/%s: no path of Alluxio's", path)
               : prelux_alluxio_load(x->members, x->net, ufs, verb, options, ret, why);
  free(ufs);
  return rc;
}

static void alluxio_report(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_alluxio *x = self(b);
  prelux_alluxio_members_report(x->members, into);
  prelux_alluxio_pages_report(x->pages, into);
  cJSON *ring = cJSON_AddObjectToObject(into, "ring");
  cJSON_AddNumberToObject(ring, "answered", (double)atomic_load(&x->answered));
  cJSON_AddNumberToObject(ring, "redirected", (double)atomic_load(&x->redirects));
  if (x->under)
    cJSON_AddStringToObject(into, "under_store", x->under->ops->type);
  else
    cJSON_AddNullToObject(into, "under_store");
}

const struct prelux_backend_ops prelux_backend_alluxio = {
    .type = "alluxio",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL | PRELUX_ALLUXIO_WRITE_CAPS,
    .create = alluxio_create,
    .free = alluxio_free,
    .identity = alluxio_identity,
    .stat = prelux_alluxio_stat,
    .list = prelux_alluxio_list,
    .read = prelux_alluxio_read,
    .distrust = prelux_alluxio_distrust,
    .owners = alluxio_owners,
    .report = alluxio_report,
    .examine = prelux_alluxio_examine,
    .load = alluxio_load,
    .cluster = prelux_alluxio_cluster,
    .object = prelux_alluxio_object,
    .use = prelux_alluxio_use,
    .write = &prelux_alluxio_write,
};
