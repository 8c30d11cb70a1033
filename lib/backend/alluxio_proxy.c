/* Backend `alluxio-proxy`: the REST API of Alluxio's proxy (PROTOCOLS 2C): get-status and list-status. Reading:
 * alluxio_proxy_read.c; writing: alluxio_proxy_write.c; options: alluxio_proxy_options.c; calls: alluxio_proxy_call.c.
 *
 * A file that somebody is still writing (completed: false) has a length of 0 here: it is listed without a size, and stat
 * and read fail with -EBUSY, since an empty file would be a lie. Names of our own unfinished work do not exist. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"
#include "lib/backend/backends.h"
#include "lib/backend/json_array.h"
#include "lib/conf/conf.h"

#define LIST_MAX (16ull << 30) /* a list-status of millions; it is taken apart while it comes */
#define NAMES_MAX 5000000u
#define EXACT_MAX 9007199254740992.0

static struct prelux_proxy *self(struct prelux_backend *b)
{
  return (struct prelux_proxy *)b;
}

/* Setting up. */

static void proxy_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_proxy *p = self(b);
  free(p->url);
  free(p->root);
  prelux_proxy_options_free(p);
  free(p->ca_file);
  pthread_cond_destroy(&p->changed);
  pthread_mutex_destroy(&p->lock);
  free(p);
}

/* Copy of s without slashes at its ends (front: only at its end). */
static char *trimmed(const char *s, bool front)
{
  while (front && *s == '/')
    s++;
  size_t len = strlen(s);
  while (len && s[len - 1] == '/')
    len--;
  return strndup(s, len);
}

static int proxy_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                        struct prelux_problem *why)
{
  const char *url = prelux_conf_str(conf, "url"), *root = prelux_conf_str(conf, "root");
  const char *ca_file = prelux_conf_str(conf, "tls.ca_file");
  struct prelux_url u;
  if (!url || prelux_url_parse(url, &u) < 0 || u.has_query)
    return prelux_problem(why, EINVAL, "backend %s: url: an http or https URL without ? is needed", conf->name);
  if (root && strpbrk(root, "?\\"))
    return prelux_problem(why, EINVAL, "backend %s: root: the proxy's REST API cannot carry '?' and '\\'", conf->name);
  struct prelux_proxy *p = calloc(1, sizeof(*p));
  if (!p)
    return -ENOMEM;
  p->base.ops = &prelux_backend_alluxio_proxy;
  pthread_mutex_init(&p->lock, NULL);
  pthread_cond_init(&p->changed, NULL);
  p->net = net;
  p->url = trimmed(url, false);
  p->root = trimmed(root ? root : "", true);
  p->ca_file = ca_file ? strdup(ca_file) : NULL;
  p->tls = (struct prelux_net_tls){.ca_file = p->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  if (prelux_proxy_options(p, conf) < 0 || !p->url || !p->root || (ca_file && !p->ca_file))
  {
    proxy_free(&p->base);
    return -ENOMEM;
  }
  *ret = &p->base;
  return 0;
}

static int proxy_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_proxy *p = (const struct prelux_proxy *)b;
  struct prelux_url u;
  if (prelux_url_parse(p->url, &u) < 0)
    return -EINVAL;
  int n = snprintf(buf, cap, "alluxio-proxy:%s://%.*s:%u%.*s/%s", u.https ? "https" : "http", (int)u.host_len, u.host,
                   u.port, (int)u.path_len, u.path, p->root);
  return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

/* FileInfo -> object */

static int number(const cJSON *info, const char *name, double *ret)
{
  const cJSON *n = cJSON_GetObjectItemCaseSensitive(info, name);
  if (!cJSON_IsNumber(n) || !(n->valuedouble >= -EXACT_MAX && n->valuedouble <= EXACT_MAX))
    return -EPROTO;
  *ret = n->valuedouble;
  return 0;
}

static void text(const cJSON *info, const char *name, char *ret, size_t cap)
{
  const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(info, name));
  if (value && strlen(value) < cap)
    strcpy(ret, value);
}

int prelux_proxy_describe(const cJSON *info, struct prelux_proxy_info *ret)
{
  const cJSON *folder = cJSON_GetObjectItemCaseSensitive(info, "folder");
  const cJSON *completed = cJSON_GetObjectItemCaseSensitive(info, "completed");
  double length, modified, mode, id = 0;
  struct prelux_proxy_info seen = {.complete = cJSON_IsTrue(folder) || !cJSON_IsFalse(completed)};
  struct prelux_object *obj = &seen.obj;
  if (!cJSON_IsBool(folder) || number(info, "lastModificationTimeMs", &modified) < 0)
    return -EPROTO;
  if (number(info, "mode", &mode) == 0 && mode > 0 && mode < 65536)
    obj->mode = (uint32_t)mode & 07777;
  obj->type = cJSON_IsTrue(folder) ? PRELUX_DIR : PRELUX_FILE;
  if (modified > -9e12 && modified < 9e12)
    obj->mtime_ns = (int64_t)modified * 1000000;
  bool has_id = number(info, "fileId", &id) == 0;
  if (obj->type == PRELUX_FILE)
  {
    if (number(info, "length", &length) < 0 || length < 0 || !has_id)
      return -EPROTO;
    obj->size = seen.complete ? (uint64_t)length : UINT64_MAX;
    if (seen.complete)
      snprintf(obj->version, sizeof(obj->version), "%.17g-%" PRIu64 "-%.17g", id, obj->size, modified);
  }
  snprintf(seen.id, sizeof(seen.id), "%.17g", id);
  text(info, "persistenceState", seen.persistence, sizeof(seen.persistence));
  text(info, "owner", seen.owner, sizeof(seen.owner));
  text(info, "group", seen.group, sizeof(seen.group));
  seen.mount = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(info, "mountPoint"));
  seen.release = cJSON_GetObjectItemCaseSensitive(info, "fromUFSFallBack") ? PRELUX_PROXY_3 : PRELUX_PROXY_2;
  *ret = seen;
  return 0;
}

/* stat */

static int proxy_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_proxy_info info;
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%s: a name of unfinished work", path);
  int rc = prelux_proxy_status(self(b), path, &info, why);
  if (rc == 0 && !info.complete)
    rc = prelux_problem(why, EBUSY, "/%s: not completed: it is still being written on Alluxio", path);
  if (rc == 0)
    *ret = info.obj;
  return rc;
}

/* list */

struct listing
{
  struct prelux_json_array json;
  char *path; /* Alluxio path of the folder */
  prelux_list_fn add;
  void *arg;
  bool is_file, hidden; /* hidden: the names of unfinished work, too */
  int failed;  /* what taking it apart said */
  int stopped; /* what `add` said */
};

static int on_info(void *arg, const cJSON *info)
{
  struct listing *l = arg;
  const cJSON *name = cJSON_GetObjectItemCaseSensitive(info, "name"),
              *path = cJSON_GetObjectItemCaseSensitive(info, "path");
  struct prelux_proxy_info seen;
  if (!cJSON_IsString(name) || !cJSON_IsString(path) || prelux_proxy_describe(info, &seen) < 0)
    return -EPROTO;
  if (strcmp(path->valuestring, l->path) == 0)
  { /* list-status of a file is the file itself */
    l->is_file = true;
    return -ENOTDIR;
  }
  if (l->json.count > NAMES_MAX)
    return -EPROTO;
  if (!l->hidden && prelux_hidden(name->valuestring))
    return 0;
  l->stopped = l->add(l->arg, name->valuestring, strlen(name->valuestring), &seen.obj);
  return l->stopped;
}

static int on_list_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  l->failed = prelux_json_array_feed(&l->json, buf, len);
  return l->failed;
}

/* 313 says 200 [] for a folder that is not there. */
static int check_empty(struct prelux_proxy *p, const char *path, struct prelux_problem *why)
{
  struct prelux_proxy_info now;
  int rc = prelux_proxy_status(p, path, &now, why);
  if (rc == 0 && now.obj.type != PRELUX_DIR)
    return prelux_problem(why, ENOTDIR, "/%s is a file", path);
  return rc;
}

static int judge_list(struct prelux_proxy *p, const struct listing *l, const struct prelux_net_answer *a, int rc,
                      const char *path, struct prelux_problem *why)
{
  if (l->stopped < 0)
    return l->stopped;
  if (l->is_file)
    return prelux_problem(why, ENOTDIR, "/%s is a file", path);
  if (l->failed < 0)
    return prelux_problem(why, -l->failed, "list-status /%s: the answer is no list of FileInfo", path);
  if (rc < 0)
    return prelux_proxy_failed(rc);
  if (a->status != 200)
    return prelux_rest_error(a, "list-status", path, why);
  if (a->received == 0)
    return prelux_rest_disabled("list-status", path, why);
  if (prelux_json_array_end(&l->json) < 0)
    return prelux_problem(why, EPROTO, "list-status /%s: the list is cut", path);
  return l->json.count == 0 ? check_empty(p, path, why) : 0;
}

static int list(struct prelux_proxy *p, const char *path, struct listing *l, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = LIST_MAX, .sink = on_list_bytes, .arg = l};
  if (asprintf(&l->path, "/%s%s%s", p->root, p->root[0] && path[0] ? "/" : "", path) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  char *options = prelux_proxy_message(p, PRELUX_PROXY_STATUS, UINT32_MAX);
  struct prelux_proxy_call c = {.action = "list-status", .path = path, .body = options};
  prelux_json_array_init(&l->json, on_info, l);
  int rc = options ? prelux_proxy_post(p, &c, &req, &a, why) : -ENOMEM;
  rc = judge_list(p, l, &a, rc, path, why);
  prelux_json_array_release(&l->json);
  prelux_net_answer_free(&a);
  free(options);
  free(l->path);
  return rc;
}

static int proxy_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                      struct prelux_problem *why)
{
  struct listing l = {.add = add, .arg = arg};
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%s: a name of unfinished work", path);
  return list(self(b), path, &l, why);
}

int prelux_proxy_each(struct prelux_proxy *p, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct listing l = {.add = add, .arg = arg, .hidden = true};
  return list(p, path, &l, why);
}

const struct prelux_backend_ops prelux_backend_alluxio_proxy = {
    .type = "alluxio-proxy",
    .caps = PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL | PRELUX_PROXY_WRITE_CAPS,
    .create = proxy_create,
    .free = proxy_free,
    .identity = proxy_identity,
    .stat = proxy_stat,
    .list = proxy_list,
    .read = prelux_proxy_read,
    .cluster = prelux_proxy_cluster,
    .object = prelux_proxy_object,
    .write = &prelux_proxy_write,
};
