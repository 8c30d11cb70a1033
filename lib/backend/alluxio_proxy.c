/* Backend `alluxio-proxy`: reading through the REST API of Alluxio's proxy (PROTOCOLS 2C; get-status, list-status,
 * download-file).
 *
 * download-file sends the whole file, knows no Range and, being chunked, not even its length. So a part costs what
 * stands in front of it, every byte is counted, and the status before (`expect`) is compared with the status after:
 * fileId, length and time of change the same at both ends mean that all bytes between were of that version. A file that
 * somebody is still writing (completed: false) has a length of 0 here: it is listed without a size, and stat and read
 * fail with -EBUSY, since an empty file would be a lie. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_rest.h"
#include "lib/backend/backends.h"
#include "lib/backend/json_array.h"
#include "lib/conf/conf.h"

#define LIST_MAX (16ull << 30) /* a list-status of millions; it is taken apart while it comes */
#define NAMES_MAX 5000000u
#define READ_AGAIN 2 /* times a broken download is begun anew */
#define EXACT_MAX 9007199254740992.0

struct proxy
{
  struct prelux_backend base;
  struct prelux_net *net; /* borrowed */
  char *url;              /* without a slash at the end */
  char *root;             /* Alluxio path without slashes at the ends */
  char *options;          /* JSON for get-status and list-status */
  struct prelux_net_tls tls;
  char *ca_file;
};

static struct proxy *self(struct prelux_backend *b)
{
  return (struct proxy *)b;
}

/* Setting up. */

static void proxy_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct proxy *p = self(b);
  free(p->url);
  free(p->root);
  free(p->options);
  free(p->ca_file);
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
  const struct prelux_conf_value *sync = prelux_conf_get(conf, "sync_interval");
  struct prelux_url u;
  if (!url || prelux_url_parse(url, &u) < 0 || u.has_query)
    return prelux_problem(why, EINVAL, "backend %s: url: an http or https URL without ? is needed", conf->name);
  if (root && strpbrk(root, "?\\"))
    return prelux_problem(why, EINVAL, "backend %s: root: the proxy's REST API cannot carry '?' and '\\'", conf->name);
  struct proxy *p = calloc(1, sizeof(*p));
  if (!p)
    return -ENOMEM;
  p->base.ops = &prelux_backend_alluxio_proxy;
  p->net = net;
  p->url = trimmed(url, false);
  p->root = trimmed(root ? root : "", true);
  p->options = prelux_rest_options(prelux_conf_str(conf, "load_metadata_type"), sync ? sync->number / 1000000 : -1);
  p->ca_file = ca_file ? strdup(ca_file) : NULL;
  p->tls = (struct prelux_net_tls){.ca_file = p->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  if (!p->url || !p->root || !p->options || (ca_file && !p->ca_file))
  {
    proxy_free(&p->base);
    return -ENOMEM;
  }
  *ret = &p->base;
  return 0;
}

static int proxy_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct proxy *p = (const struct proxy *)b;
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

/* -EPROTO: not a FileInfo. *ret_complete: nobody is writing it. */
static int describe(const cJSON *info, struct prelux_object *ret, bool *ret_complete)
{
  const cJSON *folder = cJSON_GetObjectItemCaseSensitive(info, "folder");
  const cJSON *completed = cJSON_GetObjectItemCaseSensitive(info, "completed");
  const cJSON *id = cJSON_GetObjectItemCaseSensitive(info, "fileId");
  double length, modified, mode;
  struct prelux_object obj = {0};
  if (!cJSON_IsBool(folder) || number(info, "lastModificationTimeMs", &modified) < 0)
    return -EPROTO;
  if (number(info, "mode", &mode) == 0 && mode > 0 && mode < 65536)
    obj.mode = (uint32_t)mode & 07777;
  obj.type = cJSON_IsTrue(folder) ? PRELUX_DIR : PRELUX_FILE;
  if (modified > -9e12 && modified < 9e12)
    obj.mtime_ns = (int64_t)modified * 1000000;
  *ret_complete = cJSON_IsTrue(folder) || !cJSON_IsFalse(completed);
  if (obj.type == PRELUX_FILE)
  {
    if (number(info, "length", &length) < 0 || length < 0 || !cJSON_IsNumber(id))
      return -EPROTO;
    obj.size = *ret_complete ? (uint64_t)length : UINT64_MAX;
    if (*ret_complete)
      snprintf(obj.version, sizeof(obj.version), "%.17g-%" PRIu64 "-%.17g", id->valuedouble, obj.size, modified);
  }
  *ret = obj;
  return 0;
}

static const char *last_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* stat */

static int post(struct proxy *p, const char *action, const char *path, struct prelux_net_request *req,
                struct prelux_net_answer *a, struct prelux_problem *why)
{
  static const char *const headers[] = {"Content-Type: application/json", NULL};
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_rest_url(p->url, p->root, path, action, url, PRELUX_URL_MAX, why);
  if (rc == 0)
  {
    req->method = "POST";
    req->url = url;
    req->headers = headers;
    req->body = p->options;
    req->body_len = strlen(p->options);
    req->tls = &p->tls;
    req->retries = PRELUX_REST_RETRIES;
    req->again = prelux_rest_again;
    rc = prelux_net_call(p->net, req, a, why);
  }
  free(url);
  return rc;
}

static int failed(int rc)
{
  return rc == -EPROTO || rc == -ENOMEM || rc == -EOPNOTSUPP ? rc : -EIO;
}

/* Reads a get-status answer. A name that the server cut or changed on its way is another object. */
static int judge_status(const struct prelux_net_answer *a, const char *path, struct prelux_object *ret,
                        struct prelux_problem *why)
{
  bool complete;
  if (a->status != 200)
    return prelux_rest_error(a, "get-status", path, why);
  if (a->body_len == 0)
    return prelux_rest_disabled("get-status", path, why);
  cJSON *info = prelux_json_object(a->body, a->body_len);
  int rc = info ? describe(info, ret, &complete) : -EPROTO;
  const cJSON *name = info ? cJSON_GetObjectItemCaseSensitive(info, "name") : NULL;
  if (rc < 0)
    rc = prelux_problem(why, EPROTO, "get-status /%s: the answer is no FileInfo", path);
  else if (path[0] && !(cJSON_IsString(name) && strcmp(name->valuestring, last_name(path)) == 0))
    rc = prelux_problem(why, EPROTO, "get-status /%s: the answer is about another file", path);
  else if (!complete)
    rc = prelux_problem(why, EBUSY, "/%s: not completed: it is still being written on Alluxio", path);
  cJSON_Delete(info);
  return rc;
}

static int proxy_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = PRELUX_JSON_ELEMENT_MAX};
  struct prelux_object obj;
  int rc = post(self(b), "get-status", path, &req, &a, why);
  rc = rc < 0 ? failed(rc) : judge_status(&a, path, &obj, why);
  prelux_net_answer_free(&a);
  if (rc == 0)
    *ret = obj;
  return rc;
}

/* list */

struct listing
{
  struct prelux_json_array json;
  char *path; /* Alluxio path of the folder */
  prelux_list_fn add;
  void *arg;
  bool is_file;
  int failed;  /* what taking it apart said */
  int stopped; /* what `add` said */
};

static int on_info(void *arg, const cJSON *info)
{
  struct listing *l = arg;
  const cJSON *name = cJSON_GetObjectItemCaseSensitive(info, "name"),
              *path = cJSON_GetObjectItemCaseSensitive(info, "path");
  struct prelux_object obj;
  bool complete;
  if (!cJSON_IsString(name) || !cJSON_IsString(path) || describe(info, &obj, &complete) < 0)
    return -EPROTO;
  if (strcmp(path->valuestring, l->path) == 0)
  { /* list-status of a file is the file itself */
    l->is_file = true;
    return -ENOTDIR;
  }
  if (l->json.count > NAMES_MAX)
    return -EPROTO;
  l->stopped = l->add(l->arg, name->valuestring, strlen(name->valuestring), &obj);
  return l->stopped;
}

static int on_list_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  l->failed = prelux_json_array_feed(&l->json, buf, len);
  return l->failed;
}

/* 313 says 200 [] for a folder that is not there. */
static int check_empty(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  int rc = proxy_stat(b, path, &obj, why);
  if (rc == 0 && obj.type != PRELUX_DIR)
    return prelux_problem(why, ENOTDIR, "/%s is a file", path);
  return rc;
}

static int judge_list(struct prelux_backend *b, const struct listing *l, const struct prelux_net_answer *a, int rc,
                      const char *path, struct prelux_problem *why)
{
  if (l->stopped < 0)
    return l->stopped;
  if (l->is_file)
    return prelux_problem(why, ENOTDIR, "/%s is a file", path);
  if (l->failed < 0)
    return prelux_problem(why, -l->failed, "list-status /%s: the answer is no list of FileInfo", path);
  if (rc < 0)
    return failed(rc);
  if (a->status != 200)
    return prelux_rest_error(a, "list-status", path, why);
  if (a->received == 0)
    return prelux_rest_disabled("list-status", path, why);
  if (prelux_json_array_end(&l->json) < 0)
    return prelux_problem(why, EPROTO, "list-status /%s: the list is cut", path);
  return l->json.count == 0 ? check_empty(b, path, why) : 0;
}

static int proxy_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                      struct prelux_problem *why)
{
  struct proxy *p = self(b);
  struct listing l = {.add = add, .arg = arg};
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = LIST_MAX, .sink = on_list_bytes, .arg = &l};
  if (asprintf(&l.path, "/%s%s%s", p->root, p->root[0] && path[0] ? "/" : "", path) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  prelux_json_array_init(&l.json, on_info, &l);
  int rc = post(p, "list-status", path, &req, &a, why);
  rc = judge_list(b, &l, &a, rc, path, why);
  prelux_json_array_release(&l.json);
  prelux_net_answer_free(&a);
  free(l.path);
  return rc;
}

/* read */

struct download
{
  uint64_t from, to; /* still to be passed on */
  uint64_t size;     /* of the whole file */
  uint64_t pos;      /* in the stream */
  prelux_read_fn sink;
  void *arg;
  int stopped; /* what the sink said */
  bool enough, too_long;
};

static int on_file_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct download *d = arg;
  uint64_t start = d->pos, end = d->pos + len;
  d->pos = end;
  if (end > d->size)
  {
    d->too_long = true;
    return -EPROTO;
  }
  if (end > d->from && start < d->to)
  {
    uint64_t skip = d->from > start ? d->from - start : 0;
    uint64_t take = (end < d->to ? end : d->to) - (start + skip);
    d->stopped = d->sink(d->arg, start + skip, (const char *)buf + skip, (size_t)take);
    if (d->stopped < 0)
      return d->stopped;
    d->from += take;
  }
  d->enough = d->from == d->to && d->to < d->size; /* the rest is not wanted */
  return d->enough ? -ECANCELED : 0;
}

/* One download. 0: all of it came; -EAGAIN: it broke off, see get-status before trying again; other -errno: final. */
static int download(struct proxy *p, const char *path, const char *url, struct download *d, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .tls = &p->tls,
      .retries = PRELUX_REST_RETRIES,
      .again = prelux_rest_again,
      .sink = on_file_bytes,
      .arg = d,
  };
  d->pos = 0;
  int rc = prelux_net_call(p->net, &req, &a, why);
  if (d->stopped < 0)
    rc = d->stopped;
  else if (d->enough)
    rc = 0;
  else if (d->too_long)
    rc = prelux_problem(why, EPROTO, "download-file /%s: longer than its length of %" PRIu64, path, d->size);
  else if (rc < 0)
    rc = rc == -ENOMEM || rc == -ECANCELED ? failed(rc) : -EAGAIN;
  else if (a.status != 200)
    rc = prelux_rest_error(&a, "download-file", path, why) == -EACCES ? -EACCES : -EAGAIN;
  else if (d->pos == 0 && d->size)
    rc = prelux_rest_disabled("download-file", path, why);
  else if (d->pos != d->size)
  {
    prelux_problem(why, EIO, "download-file /%s: ended after %" PRIu64 " of %" PRIu64 " bytes", path, d->pos, d->size);
    rc = -EAGAIN;
  }
  prelux_net_answer_free(&a);
  return rc;
}

/* -ESTALE unless the file still is what was expected. */
static int recheck(struct prelux_backend *b, const char *path, const struct prelux_object *expect,
                   struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = proxy_stat(b, path, &now, why);
  if (rc == -EBUSY)
    return prelux_problem(why, ESTALE, "/%s: is being written anew", path);
  if (rc < 0)
    return rc;
  if (now.type != PRELUX_FILE || (expect->version[0] && strcmp(now.version, expect->version) != 0) ||
      now.size != expect->size)
    return prelux_problem(why, ESTALE, "/%s: changed (was %s, is %s)", path, expect->version, now.version);
  return 0;
}

static int read_file(struct prelux_backend *b, const char *path, const char *url, const struct prelux_object *expect,
                     struct download *d, struct prelux_problem *why)
{
  for (int n = 0;; n++)
  {
    struct prelux_problem now = {0};
    int rc = download(self(b), path, url, d, why);
    if (d->stopped < 0)
      return rc;
    int status = recheck(b, path, expect, &now);
    if (status < 0)
    {
      if (why && (rc == 0 || status == -ESTALE || status == -ENOENT || status == -EACCES))
        *why = now; /* it explains the failure */
      return rc == 0 || status == -ESTALE || status == -ENOENT || status == -EACCES ? status
             : rc == -EAGAIN                                                        ? -EIO
                                                                                    : rc;
    }
    if (rc != -EAGAIN)
      return rc;
    if (n == READ_AGAIN || prelux_net_backoff(self(b)->net, n) < 0)
      return -EIO; /* *why tells of the last download */
  }
}

static int proxy_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                      uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct proxy *p = self(b);
  if (len == 0)
    return 0;
  if (expect->size == UINT64_MAX || off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "/%s: a part behind its end was asked for", path);
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_rest_url(p->url, p->root, path, "download-file", url, PRELUX_URL_MAX, why);
  struct download d = {.from = off, .to = off + len, .size = expect->size, .sink = sink, .arg = arg};
  if (rc == 0)
    rc = read_file(b, path, url, expect, &d, why);
  free(url);
  return rc;
}

const struct prelux_backend_ops prelux_backend_alluxio_proxy = {
    .type = "alluxio-proxy",
    .caps = PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL,
    .create = proxy_create,
    .free = proxy_free,
    .identity = proxy_identity,
    .stat = proxy_stat,
    .list = proxy_list,
    .read = proxy_read,
};
