/* Backend `alluxio-proxy`: free, mount, unmount, set-attribute, and what get-status says, for `prelux cluster`.
 *
 * FileInfo is passed on as the text it came in: its 64-bit numbers (mountId) do not fit into a double.
 *
 * free and set-attribute are harmless when done twice; whether a mount or unmount was done get-status tells (mountPoint,
 * ufsPath). Dora's proxy has neither free nor mount: its INTERNAL without a message says so. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"
#include "lib/backend/json_array.h"

struct asked
{
  const char *path;
  const struct prelux_cluster *call;
};

/* FileInfo; ret_text (may be NULL): as it came, malloced. */
static int fetch_info(struct prelux_proxy *p, const char *path, cJSON **ret, char **ret_text, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = PRELUX_JSON_ELEMENT_MAX};
  char *options = prelux_proxy_message(p, PRELUX_PROXY_STATUS, UINT32_MAX);
  struct prelux_proxy_call c = {.action = "get-status", .path = path, .body = options};
  int rc = options ? prelux_proxy_post(p, &c, &req, &a, why) : -ENOMEM;
  if (rc < 0)
    rc = prelux_proxy_failed(rc);
  else if (a.status != 200)
    rc = prelux_rest_error(&a, "get-status", path, why);
  else if (a.body_len == 0)
    rc = prelux_rest_disabled("get-status", path, why);
  *ret = rc == 0 ? prelux_json_object(a.body, a.body_len) : NULL;
  if (rc == 0 && !*ret)
    rc = prelux_problem(why, EPROTO, "get-status /%s: the answer is no FileInfo", path);
  if (rc == 0 && ret_text)
  {
    *ret_text = a.body;
    a.body = NULL;
  }
  prelux_net_answer_free(&a);
  free(options);
  return rc;
}

/* Whether it was done */

static int again(struct prelux_proxy *p, void *arg)
{
  return 0;
}

static bool same_place(const char *a, const char *b)
{
  size_t n = strlen(a), m = strlen(b);
  while (n && a[n - 1] == '/')
    n--;
  while (m && b[m - 1] == '/')
    m--;
  return n == m && memcmp(a, b, n) == 0;
}

static int is_mounted(struct prelux_proxy *p, void *arg)
{
  const struct asked *asked = arg;
  cJSON *info;
  int rc = fetch_info(p, asked->path, &info, NULL, NULL);
  if (rc < 0)
    return rc == -ENOENT ? 0 : rc;
  const cJSON *place = cJSON_GetObjectItemCaseSensitive(info, "ufsPath");
  bool here = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(info, "mountPoint"));
  if (asked->call->verb == PRELUX_CLUSTER_UNMOUNT)
    rc = !here;
  else
    rc = here && cJSON_IsString(place) && same_place(place->valuestring, asked->call->source) ? 1 : -EEXIST;
  cJSON_Delete(info);
  return rc;
}

static int is_unmounted(struct prelux_proxy *p, void *arg)
{
  const struct asked *asked = arg;
  cJSON *info;
  int rc = fetch_info(p, asked->path, &info, NULL, NULL);
  if (rc < 0)
    return rc == -ENOENT ? 1 : rc;
  cJSON_Delete(info);
  return is_mounted(p, arg);
}

/* Options */

static bool mount_options(cJSON *o, const struct prelux_cluster *call)
{
  bool good = cJSON_AddBoolToObject(o, "readOnly", call->read_only) && cJSON_AddBoolToObject(o, "shared", call->shared);
  if (!good || !call->properties)
    return good;
  cJSON *properties = cJSON_AddObjectToObject(o, "properties");
  for (const char *const *p = call->properties; properties && good && p[0] && p[1]; p += 2)
    good = cJSON_AddStringToObject(properties, p[0], p[1]);
  return properties && good;
}

static bool attributes(cJSON *o, const struct prelux_cluster *call)
{
  bool good = cJSON_AddBoolToObject(o, "recursive", call->recursive);
  cJSON *common = call->which & PRELUX_CLUSTER_TTL || call->ttl_action ? cJSON_AddObjectToObject(o, "commonOptions") : NULL;
  if (call->which & PRELUX_CLUSTER_MODE)
    good = good && prelux_proxy_add_mode(o, call->mode & 0777);
  if (call->which & PRELUX_CLUSTER_PINNED)
    good = good && cJSON_AddBoolToObject(o, "pinned", call->pinned);
  if (call->which & PRELUX_CLUSTER_PERSISTED)
    good = good && cJSON_AddBoolToObject(o, "persisted", call->persisted);
  if (call->which & PRELUX_CLUSTER_REPLICATION_MIN)
    good = good && cJSON_AddNumberToObject(o, "replicationMin", (double)call->replication_min);
  if (call->which & PRELUX_CLUSTER_REPLICATION_MAX)
    good = good && cJSON_AddNumberToObject(o, "replicationMax", (double)call->replication_max);
  if (call->owner)
    good = good && cJSON_AddStringToObject(o, "owner", call->owner);
  if (call->group)
    good = good && cJSON_AddStringToObject(o, "group", call->group);
  if (call->which & PRELUX_CLUSTER_TTL)
    good = good && common && cJSON_AddNumberToObject(common, "ttl", (double)call->ttl_ms);
  if (call->ttl_action)
    good = good && common && cJSON_AddStringToObject(common, "ttlAction", call->ttl_action);
  return good;
}

static char *options_of(const struct prelux_cluster *call)
{
  cJSON *o = cJSON_CreateObject();
  bool good = o != NULL;
  if (good && call->verb == PRELUX_CLUSTER_MOUNT)
    good = mount_options(o, call);
  else if (good && call->verb == PRELUX_CLUSTER_SETATTR)
    good = attributes(o, call);
  else if (good && call->verb == PRELUX_CLUSTER_FREE)
    good = cJSON_AddBoolToObject(o, "recursive", call->recursive) && cJSON_AddBoolToObject(o, "forced", call->forced);
  char *text = good ? cJSON_PrintUnformatted(o) : NULL;
  cJSON_Delete(o);
  return text;
}

/* "?src=..." */
static char *source_query(const char *source)
{
  char *query = malloc(PRELUX_PROXY_QUERY_MAX);
  if (!query)
    return NULL;
  memcpy(query, "?src=", 6);
  if (prelux_url_encode(query + 5, PRELUX_PROXY_QUERY_MAX - 5, source, strlen(source)) >= 0)
    return query;
  free(query);
  return NULL;
}

/* The ops */

static int info(struct prelux_proxy *p, const char *path, cJSON *ret, struct prelux_problem *why)
{
  cJSON *doc;
  char *text = NULL;
  int rc = fetch_info(p, path, &doc, &text, why);
  if (rc == 0 && !cJSON_AddRawToObject(ret, "info", text))
    rc = prelux_problem(why, ENOMEM, "no memory for an answer");
  cJSON_Delete(doc);
  free(text);
  return rc;
}

static void copy_member(const cJSON *from, const char *key, cJSON *to, const char *name)
{
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(from, key);
  if (item)
    cJSON_AddItemToObject(to, name, cJSON_Duplicate(item, true));
}

/* One of fileBlockInfos: which workers hold a block, and in which tier. */
static cJSON *block_of(const cJSON *from)
{
  const cJSON *inner = cJSON_GetObjectItemCaseSensitive(from, "blockInfo"), *place;
  cJSON *block = cJSON_CreateObject(), *places = cJSON_AddArrayToObject(block, "locations");
  copy_member(from, "offset", block, "offset");
  copy_member(inner, "length", block, "length");
  cJSON_ArrayForEach(place, cJSON_GetObjectItemCaseSensitive(inner, "locations"))
  {
    const cJSON *worker = cJSON_GetObjectItemCaseSensitive(place, "workerAddress");
    cJSON *one = cJSON_CreateObject();
    copy_member(worker, "host", one, "host");
    copy_member(worker, "dataPort", one, "port");
    copy_member(place, "tierAlias", one, "tier");
    cJSON_AddItemToArray(places, one);
  }
  return block;
}

static int locate(struct prelux_proxy *p, const char *path, cJSON *ret, struct prelux_problem *why)
{
  cJSON *doc, *blocks, *from;
  int rc = fetch_info(p, path, &doc, NULL, why);
  if (rc < 0)
    return rc;
  copy_member(doc, "ufsPath", ret, "under_store");
  blocks = cJSON_AddArrayToObject(ret, "blocks");
  cJSON_ArrayForEach(from, cJSON_GetObjectItemCaseSensitive(doc, "fileBlockInfos"))
    cJSON_AddItemToArray(blocks, block_of(from));
  cJSON_Delete(doc);
  return 0;
}

/* What would touch all that the cluster has is never meant. */
static int may_call(const struct prelux_proxy *p, const char *path, const struct prelux_cluster *call, struct prelux_problem *why)
{
  bool top = !path[0] && !p->root[0];
  if (call->verb == PRELUX_CLUSTER_MOUNT && !call->source)
    return prelux_problem(why, EINVAL, "/%.200s: nothing to mount", path);
  if (!path[0] && (call->verb == PRELUX_CLUSTER_MOUNT || call->verb == PRELUX_CLUSTER_UNMOUNT))
    return prelux_problem(why, EBUSY, "the root can be neither mounted nor unmounted");
  if (top && (call->verb == PRELUX_CLUSTER_FREE || (call->verb == PRELUX_CLUSTER_SETATTR && call->recursive)))
    return prelux_problem(why, EBUSY, "the whole of Alluxio's namespace is not freed or changed at once: name its folders");
  return 0;
}

static int change(struct prelux_proxy *p, const char *path, const struct prelux_cluster *call, struct prelux_problem *why)
{
  static const struct
  {
    const char *action;
    prelux_proxy_done_fn done;
  } verbs[] = {
      [PRELUX_CLUSTER_FREE] = {.action = "free", .done = again},
      [PRELUX_CLUSTER_MOUNT] = {.action = "mount", .done = is_mounted},
      [PRELUX_CLUSTER_UNMOUNT] = {.action = "unmount", .done = is_unmounted},
      [PRELUX_CLUSTER_SETATTR] = {.action = "set-attribute", .done = again},
  };
  struct asked asked = {.path = path, .call = call};
  bool mount = call->verb == PRELUX_CLUSTER_MOUNT;
  int rc = mount ? prelux_proxy_may_make(p, path, why) : prelux_proxy_writable(p, why);
  char *query = rc == 0 && mount ? source_query(call->source) : NULL;
  char *body = rc == 0 ? options_of(call) : NULL;
  if (rc == 0 && (!body || (mount && !query)))
    rc = prelux_problem(why, ENOMEM, "no memory for options");
  struct prelux_proxy_call c = {.action = verbs[call->verb].action, .path = path, .query = query, .body = body};
  if (rc == 0)
    rc = prelux_proxy_settle(p, &c, verbs[call->verb].done, &asked, why);
  free(query);
  free(body);
  return rc;
}

int prelux_proxy_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                         struct prelux_problem *why)
{
  struct prelux_proxy *p = (struct prelux_proxy *)b;
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%.200s: a name of unfinished work", path);
  if (call->verb == PRELUX_CLUSTER_INFO)
    return info(p, path, ret, why);
  if (call->verb == PRELUX_CLUSTER_LOCATE)
    return locate(p, path, ret, why);
  int rc = may_call(p, path, call, why);
  return rc < 0 ? rc : change(p, path, call, why);
}

/* "alluxio://HOST:PORT/PATH" or "alluxio:///PATH", in which normalisation leaves two slashes: a first name with a colon is the master's. */
int prelux_proxy_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap)
{
  const struct prelux_proxy *p = (const struct prelux_proxy *)b;
  size_t root = strlen(p->root);
  if (strncmp(uri, "alluxio://", 10) != 0)
    return -EOPNOTSUPP;
  const char *path = uri + 10, *rest = path + strcspn(path, "/");
  if (memchr(path, ':', (size_t)(rest - path)))
    path = rest + (*rest == '/');
  if (root && (strncmp(path, p->root, root) != 0 || (path[root] && path[root] != '/')))
    return -EOPNOTSUPP;
  path += root + (root && path[root]);
  int n = snprintf(out, cap, "%s", path);
  return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}
