/* Backend `alluxio-ee`: Alluxio Enterprise AI 3.7, by its workers. The server is proprietary: what is known of it is what the
 * vendor's client sends and expects, and the vendor's pages (PROTOCOLS part 3).
 *
 * How the files work together:
 *   alluxio_options    what is configured (shared with `alluxio`)
 *   alluxio_ee_nodes   whom to ask: /v1/node names the owner; its answers are remembered; who failed rests
 *   alluxio_ee_call    one question to the HTTP port, what its statuses mean, FileInfo; names
 *   alluxio_ee_stat    stat and list: /v1/info, /v1/files
 *   alluxio_ee_mounts  /v1/ufsInfo: where a path of the under store lies on the S3 port
 *   alluxio_ee_read    ranges of the S3 port
 *   alluxio_ee_write   a file under a hidden name; _change: one POST and its outcome, _swap: the name it gets, _names: names and folders
 *   alluxio_ee_load    load jobs, by a worker or by the coordinator
 *   alluxio_ee_under   the under store, when no worker can help; _ufs: the one that /v1/ufsInfo tells of; _doubt: or when it has a later file
 *
 * A version is length and time of change, in milliseconds, as of `alluxio`. */
#include "lib/backend/alluxio_ee.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee_write.h"
#include "lib/backend/backends.h"
#include "lib/base/log.h"
#include "lib/conf/conf.h"

static struct prelux_ee *self(struct prelux_backend *b)
{
  return (struct prelux_ee *)b;
}

static void ee_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_ee *e = self(b);
  prelux_alluxio_options_release(&e->options);
  prelux_ee_nodes_release(&e->nodes);
  prelux_ee_mounts_release(&e->mounts);
  prelux_ee_learning_release(&e->learning);
  prelux_alluxio_doubts_release(&e->doubts);
  prelux_parallel_release(&e->parallel);
  if (e->under)
    e->under->ops->free(e->under);
  free(e->coordinator);
  free(e->authorization);
  free(e);
}

static int make_under(struct prelux_ee *e, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const struct prelux_backend_ops *ops = conf->under ? prelux_backend_find(conf->under->type) : NULL;
  if (ops)
    return ops->create(conf->under, e->net, &e->under, why);
  if (conf->under)
    prelux_warn("backend %s: this version cannot read its under store %s, of type %s", conf->name, conf->under->name, conf->under->type);
  else if (!e->learning.on)
    prelux_info("backend %s: there is no under store (%s) to turn to when no worker can help: name one by under_store", conf->name,
                e->options.root);
  return 0;
}

static int ee_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                     struct prelux_problem *why)
{
  const char *coordinator = prelux_conf_str(conf, "coordinator");
  struct prelux_ee *e = calloc(1, sizeof(*e));
  if (!e)
    return prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
  e->base.ops = &prelux_backend_alluxio_ee;
  e->net = net;
  prelux_ee_nodes_init(&e->nodes);
  prelux_ee_mounts_init(&e->mounts);
  prelux_ee_learning_init(&e->learning);
  prelux_alluxio_doubts_init(&e->doubts);
  prelux_parallel_init(&e->parallel);
  e->learning.on = prelux_conf_num(conf, "fallback_to_ufs_enabled") != 0;
  int rc = prelux_alluxio_options_init(&e->options, conf, why);
  if (rc == 0)
    rc = make_under(e, conf, why);
  if (rc == 0 && (!(e->authorization = prelux_alluxio_authorization(conf)) || (coordinator && !(e->coordinator = strdup(coordinator)))))
    rc = prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
  if (rc < 0)
  {
    ee_free(&e->base);
    return rc;
  }
  e->whole_seconds = prelux_alluxio_whole_seconds(e->options.root);
  *ret = &e->base;
  return 0;
}

/* Which data: the cluster, by what is configured of it, and the root. */
static int ee_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_alluxio_options *o = &((const struct prelux_ee *)b)->options;
  int n = snprintf(buf, cap, "alluxio-ee:%s", o->membership == PRELUX_ALLUXIO_DNS ? "dns" : "list");
  for (size_t i = 0; i <= o->n_places && n >= 0 && (size_t)n < cap; i++)
  {
    int more = snprintf(buf + n, cap - (size_t)n, "%c%s", i && i < o->n_places ? ',' : ':', i < o->n_places ? o->places[i] : o->root);
    n = more < 0 ? more : n + more;
  }
  return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

static int ee_owners(struct prelux_backend *b, const char *path, int (*add)(void *arg, const char *owner), void *arg,
                     struct prelux_problem *why)
{
  struct prelux_ee_round r;
  char *ufs = NULL;
  int rc = prelux_ee_name(self(b), path, &ufs, why);
  if (rc < 0)
    return rc;
  prelux_ee_round_init(self(b), ufs, &r);
  for (size_t i = 0; rc == 0 && i < r.n; i++)
    rc = add(arg, r.hosts[i]);
  free(ufs);
  return rc;
}

static void ee_report(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_ee *e = self(b);
  cJSON_AddNumberToObject(into, "workers_resting", (double)prelux_ee_resting(e));
  struct prelux_ee_learnt *learnt;
  struct prelux_backend *under = prelux_ee_under_take(e, &learnt);
  if (under)
    cJSON_AddStringToObject(into, "under_store", under->ops->type);
  else
    cJSON_AddNullToObject(into, "under_store");
  if (learnt)
    cJSON_AddStringToObject(into, "under_store_from", "ufsInfo");
  prelux_ee_under_drop(e, learnt);
}

/* The root's listing may be long: its mount is asked for, which every read needs. */
static void ee_examine(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_problem why = {0};
  char *ufs = NULL, *place = NULL;
  int rc = prelux_ee_name(self(b), "", &ufs, &why);
  if (rc == 0)
    rc = prelux_ee_place(self(b), ufs, &place, &why);
  prelux_backend_reachable(into, rc, &why);
  if (rc == 0)
    cJSON_AddStringToObject(into, "mount", place);
  free(place);
  free(ufs);
}

const struct prelux_backend_ops prelux_backend_alluxio_ee = {
    .type = "alluxio-ee",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL | PRELUX_EE_WRITE_CAPS,
    .create = ee_create,
    .free = ee_free,
    .identity = ee_identity,
    .stat = prelux_ee_stat,
    .list = prelux_ee_list,
    .read = prelux_ee_read,
    .owners = ee_owners,
    .report = ee_report,
    .examine = ee_examine,
    .load = prelux_ee_load,
    .cluster = prelux_ee_cluster,
    .object = prelux_ee_object,
    .write = &prelux_ee_write,
};
