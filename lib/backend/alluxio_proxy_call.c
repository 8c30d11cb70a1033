/* Backend `alluxio-proxy`: one call, and what may be made of its outcome when it changes something.
 *
 * Theory of operation. The proxy is a client of the master: its answer can get lost, and so can the master's answer to
 * it (DEADLINE_EXCEEDED, UNAVAILABLE, ...). Such an outcome is unclear, and nothing is sent again before get-status has
 * been asked. What is asked for is the fileId: it belongs to one inode and goes along when that is renamed, so that
 * "done by us", "not done" and "somebody else's" can be told apart. What surely was not done (RESOURCE_EXHAUSTED,
 * ABORTED, no connection) lib/net sends again by itself.
 *
 * A change that was done has an empty answer. So has everything at a proxy whose REST API is switched off; that is seen
 * by get-status, which each change begins with or follows. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"
#include "lib/backend/json_array.h"

#define ANSWER_MAX (1u << 20)

static const char *const json_headers[] = {"Content-Type: application/json", NULL};
static const char *const byte_headers[] = {"Content-Type: application/octet-stream", NULL};

int prelux_proxy_failed(int rc)
{
  return rc == -EPROTO || rc == -ENOMEM || rc == -EOPNOTSUPP || rc == -ENAMETOOLONG ? rc : -EIO;
}

static int url_of(struct prelux_proxy *p, const struct prelux_proxy_call *c, char *url, struct prelux_problem *why)
{
  int rc = prelux_rest_url(p->url, p->root, c->path, c->action, url, PRELUX_URL_MAX, why);
  size_t len = rc == 0 ? strlen(url) : 0;
  if (rc == 0 && c->query && len + strlen(c->query) >= PRELUX_URL_MAX)
    return prelux_problem(why, ENAMETOOLONG, "%.200s: too long for a URL", c->path);
  if (rc == 0 && c->query)
    strcpy(url + len, c->query);
  return rc;
}

char *prelux_proxy_query(const struct prelux_proxy *p, const char *name, const char *path)
{
  char *full, *query = malloc(PRELUX_PROXY_QUERY_MAX);
  if (!query || asprintf(&full, "/%s%s%s", p->root, p->root[0] && path[0] ? "/" : "", path) < 0)
  {
    free(query);
    return NULL;
  }
  int n = snprintf(query, PRELUX_PROXY_QUERY_MAX, "?%s=", name);
  long more = prelux_url_encode(query + n, PRELUX_PROXY_QUERY_MAX - (size_t)n, full, strlen(full));
  free(full);
  if (more >= 0)
    return query;
  free(query);
  return NULL;
}

static void fill(const struct prelux_proxy *p, const struct prelux_proxy_call *c, const char *url, struct prelux_net_request *req)
{
  req->method = "POST";
  req->url = url;
  req->headers = json_headers;
  req->body = c->body ? c->body : "{}";
  req->body_len = strlen(req->body);
  req->tls = &p->tls;
  req->retries = PRELUX_REST_RETRIES;
  req->stall_s = p->timeout_s;
  req->again = prelux_rest_again;
}

int prelux_proxy_post(struct prelux_proxy *p, const struct prelux_proxy_call *c, struct prelux_net_request *req,
                      struct prelux_net_answer *a, struct prelux_problem *why)
{
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = url_of(p, c, url, why);
  if (rc == 0)
  {
    fill(p, c, url, req);
    rc = prelux_net_call(p->net, req, a, why);
  }
  free(url);
  return rc;
}

/* get-status */

static const char *last_name(const char *path)
{
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* A name that the server cut or changed on its way is another object. */
static int judge_status(const struct prelux_net_answer *a, const char *path, struct prelux_proxy_info *ret,
                        struct prelux_problem *why)
{
  if (a->status != 200)
    return prelux_rest_error(a, "get-status", path, why);
  if (a->body_len == 0)
    return prelux_rest_disabled("get-status", path, why);
  cJSON *info = prelux_json_object(a->body, a->body_len);
  int rc = info ? prelux_proxy_describe(info, ret) : -EPROTO;
  const cJSON *name = info ? cJSON_GetObjectItemCaseSensitive(info, "name") : NULL;
  if (rc < 0)
    rc = prelux_problem(why, EPROTO, "get-status /%s: the answer is no FileInfo", path);
  else if (path[0] && !(cJSON_IsString(name) && strcmp(name->valuestring, last_name(path)) == 0))
    rc = prelux_problem(why, EPROTO, "get-status /%s: the answer is about another file", path);
  cJSON_Delete(info);
  return rc;
}

int prelux_proxy_status(struct prelux_proxy *p, const char *path, struct prelux_proxy_info *ret, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = PRELUX_JSON_ELEMENT_MAX};
  char *options = prelux_proxy_message(p, PRELUX_PROXY_STATUS, UINT32_MAX);
  struct prelux_proxy_call c = {.action = "get-status", .path = path, .body = options};
  if (!options)
    return prelux_problem(why, ENOMEM, "no memory for options");
  int rc = prelux_proxy_post(p, &c, &req, &a, why);
  rc = rc < 0 ? prelux_proxy_failed(rc) : judge_status(&a, path, ret, why);
  prelux_net_answer_free(&a);
  free(options);
  if (rc == 0)
    p->release = ret->release;
  return rc;
}

/* Changes */

static void remember_code(const struct prelux_net_answer *a, const char *action, struct prelux_proxy_outcome *o)
{
  cJSON *doc = a->status == 500 && a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const cJSON *code = doc ? cJSON_GetObjectItemCaseSensitive(doc, "statusCode") : NULL;
  if (cJSON_IsString(code))
    snprintf(o->code, sizeof(o->code), "%s", code->valuestring);
  const cJSON *message = doc ? cJSON_GetObjectItemCaseSensitive(doc, "message") : NULL;
  if (cJSON_IsString(message))
    prelux_rest_said(action, message->valuestring, o->said, sizeof(o->said));
  cJSON_Delete(doc);
}

/* The proxy itself says 500 to all that it refuses: who stands before it may have asked twice, and pass on what he was told then. */
static bool asked_twice(const struct prelux_net_answer *a)
{
  return a->status == 404 || a->status == 409;
}

/* What one answer, or the lack of it, says. */
static int judge_change(const struct prelux_net_answer *a, int rc, const char *action, const char *path,
                        struct prelux_proxy_outcome *o, struct prelux_problem *why)
{
  *o = (struct prelux_proxy_outcome){.again = true};
  if (rc < 0)
  {
    o->err = prelux_proxy_failed(rc);
    if (!a->sent)
      return o->err;
    return prelux_problem(why, PRELUX_EUNKNOWN, "%s /%.200s: no answer: it may have been done", action, path);
  }
  if (a->status == 200)
    return 0;
  struct prelux_problem said = {0};
  o->err = prelux_rest_error(a, action, path, &said);
  o->again = prelux_rest_again(a);
  remember_code(a, action, o);
  if (why)
    *why = said;
  if (!prelux_rest_unclear(a) && !asked_twice(a))
    return o->err;
  return prelux_problem(why, PRELUX_EUNKNOWN, "%.400s: it may have been done", said.text);
}

static int change(struct prelux_proxy *p, struct prelux_net_request *req, const char *action, const char *path,
                  struct prelux_proxy_outcome *o, char **ret_body, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  req->once = true;
  req->again = prelux_rest_not_done;
  req->max_body = ANSWER_MAX;
  int rc = prelux_net_call(p->net, req, &a, why);
  if (rc == -EINVAL && req->upload) /* the file ended early */
    *o = (struct prelux_proxy_outcome){.err = rc};
  else
    rc = judge_change(&a, rc, action, path, o, why);
  if (rc == 0 && ret_body)
  {
    *ret_body = a.body;
    a.body = NULL;
    if (!*ret_body || !(*ret_body)[0])
    {
      free(*ret_body);
      *ret_body = NULL;
      rc = prelux_rest_disabled(action, path, why);
    }
  }
  prelux_net_answer_free(&a);
  return rc;
}

int prelux_proxy_change(struct prelux_proxy *p, const struct prelux_proxy_call *c, struct prelux_proxy_outcome *o, char **ret_body,
                        struct prelux_problem *why)
{
  struct prelux_net_request req = {0};
  char *url = malloc(PRELUX_URL_MAX);
  *o = (struct prelux_proxy_outcome){0};
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = url_of(p, c, url, why);
  if (rc == 0)
  {
    fill(p, c, url, &req);
    rc = change(p, &req, c->action, c->path, o, ret_body, why);
  }
  free(url);
  return rc;
}

int prelux_proxy_settle(struct prelux_proxy *p, const struct prelux_proxy_call *c, prelux_proxy_done_fn done, void *arg,
                        struct prelux_problem *why)
{
  bool lost = false;
  for (int tries = 0;; tries++)
  {
    struct prelux_proxy_outcome o;
    int rc = prelux_proxy_change(p, c, &o, NULL, why);
    if (rc == 0 || (rc != -PRELUX_EUNKNOWN && !lost))
      return rc;
    lost = true;
    int state = done(p, arg);
    if (state == 1)
      return 0;
    if (state < 0)
      return -PRELUX_EUNKNOWN;
    if (rc != -PRELUX_EUNKNOWN)
      return rc; /* refused, and the one that was lost would be refused, too */
    if (!o.again)
      return prelux_problem(why, -o.err, "%s /%.200s: failed (%s%s%s), and was not done", c->action, c->path,
                            o.code[0] ? o.code : "no status", o.said[0] ? ": " : "", o.said);
    if (tries == PRELUX_PROXY_TRIES || prelux_net_backoff(p->net, tries) < 0)
      return -PRELUX_EUNKNOWN;
  }
}

int prelux_proxy_stream(struct prelux_proxy *p, const char *id, const char *op, const struct prelux_net_upload *upload,
                        struct prelux_proxy_outcome *o, char **ret_body, struct prelux_problem *why)
{
  char url[1024], name[64];
  struct prelux_net_request req = {.method = "POST", .url = url, .tls = &p->tls, .retries = PRELUX_REST_RETRIES};
  int n = snprintf(url, sizeof(url), "%s/api/v1/streams/%s/%s", p->url, id, op);
  if (n < 0 || (size_t)n >= sizeof(url))
    return prelux_problem(why, EINVAL, "the proxy's URL is too long");
  snprintf(name, sizeof(name), "stream %s", id);
  req.headers = upload ? byte_headers : json_headers;
  req.upload = upload;
  req.body = upload ? NULL : "";
  req.stall_s = p->timeout_s;
  return change(p, &req, op, name, o, ret_body, why);
}
