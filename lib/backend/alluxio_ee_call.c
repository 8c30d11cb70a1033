/* One question to a worker's HTTP port, and what its answer says (PROTOCOLS part 3).
 *
 * Names. The vendor's client sends paths encoded once in queries, and raw to the S3 port. How often the servers decode is not
 * written anywhere; OSS workers decode the S3 path twice, and cut queries at '='. So names in which a second decoding would see an
 * escape or a blank ('%', '+') are refused, and an answer about another path than the one asked for is none. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/backend/json_array.h"

#define EXACT_MAX 9007199254740992.0
#define SAID_MAX 240

int prelux_ee_name(const struct prelux_ee *e, const char *path, char **ret, struct prelux_problem *why)
{
  size_t cap = strlen(e->options.root) + strlen(path) + 8;
  char *ufs = malloc(cap);
  if (!ufs)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  if (prelux_alluxio_ufs_path(&e->options, path, ufs, cap) < 0 || strpbrk(path, "%+") ||
      prelux_alluxio_name_way(path) == PRELUX_ALLUXIO_NAME_NONE)
  {
    free(ufs);
    prelux_problem(why, EOPNOTSUPP, "/%s: Alluxio's workers cannot carry a name with '?', '\\', '%%', '+' or bytes that are not UTF-8", path);
    if (why)
      snprintf(why->advice, sizeof(why->advice), "map the under store itself to reach it");
    return -EOPNOTSUPP;
  }
  *ret = ufs;
  return 0;
}

static char *url_of(const char *host, const char *action, const char *ufs, const char *more)
{
  char *url = malloc(PRELUX_URL_MAX + 256);
  int n = url ? snprintf(url, PRELUX_URL_MAX, "http://%s/v1/%s%s", host, action, ufs ? "?path=" : "") : -1;
  long len = n < 0 || n >= PRELUX_URL_MAX ? -1 : ufs ? prelux_url_encode(url + n, PRELUX_URL_MAX - (size_t)n, ufs, strlen(ufs)) : 0;
  if (len < 0 || strlen(more) > 255)
  {
    free(url);
    return NULL;
  }
  strcpy(url + n + len, more);
  return url;
}

int prelux_ee_get(struct prelux_ee *e, const char *host, const char *action, const char *ufs, const char *more,
                  struct prelux_net_request *req, struct prelux_net_answer *a, struct prelux_problem *why)
{
  char *url = url_of(host, action, ufs, more);
  if (!url)
    return prelux_problem(why, EOPNOTSUPP, "%s %.200s: too long for a URL", action, ufs ? ufs : "");
  req->method = "GET";
  req->url = url;
  req->connect_ms = PRELUX_EE_CONNECT_MS;
  req->stall_s = PRELUX_EE_STALL_S;
  int rc = prelux_net_call(e->net, req, a, why);
  free(url);
  return rc;
}

static const struct row
{
  int status, err;
  const char *text;
} rows[] = {
    {.status = 400, .err = EOPNOTSUPP, .text = "the worker does not take this path"},
    {.status = 401, .err = EACCES, .text = "not authenticated"},
    {.status = 403, .err = EACCES, .text = "permission denied"},
    {.status = 404, .err = ENOENT, .text = "not there"},
    {.status = 409, .err = EEXIST, .text = "is there already"},
    {.status = 412, .err = EBUSY, .text = "not possible in this state"},
};

/* {"message": ...} where the body is that, else the body; without what could upset a terminal or a record. */
static void said(const struct prelux_net_answer *a, char out[SAID_MAX])
{
  cJSON *o = a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const char *message = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "message")), *text = message ? message : a->body;
  prelux_problem_said(out, SAID_MAX, text, text ? strlen(text) : 0);
  cJSON_Delete(o);
}

int prelux_ee_refused(const struct prelux_net_answer *a, const char *action, const char *what, const char *host,
                      struct prelux_problem *why)
{
  char text[SAID_MAX];
  said(a, text);
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (rows[i].status == a->status)
      return prelux_problem(why, rows[i].err, "%s %.300s: %s (worker %s: HTTP %d %s)", action, what, rows[i].text, host, a->status, text);
  return prelux_problem(why, EIO, "%s %.300s: worker %s: HTTP %d %s", action, what, host, a->status, text);
}

bool prelux_ee_final(int rc)
{
  switch (rc)
  {
  case 0:
  case -ENOENT:
  case -EACCES:
  case -EBUSY:
  case -EEXIST:
  case -ENOTDIR:
  case -EISDIR:
  case -ESTALE:
  case -EOPNOTSUPP:
  case -ENOMEM:
  case -ECANCELED:
    return true;
  default:
    return false;
  }
}

int prelux_ee_error(int rc)
{
  return (prelux_ee_final(rc) && rc != -ECANCELED) || rc == -EPROTO ? rc : -EIO;
}

/* FileInfo */

static bool whole_number(const cJSON *o, const char *name, double *ret)
{
  const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
  if (n && !cJSON_IsNumber(n) && !cJSON_IsNull(n))
    return false;
  *ret = cJSON_IsNumber(n) ? n->valuedouble : 0;
  return *ret >= -EXACT_MAX && *ret <= EXACT_MAX;
}

int prelux_ee_describe(const struct prelux_ee *e, const struct cJSON *o, struct prelux_ee_info *ret)
{
  const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "mType"));
  const char *ufs = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "mUfsPath"));
  double size, mtime;
  bool folder = type && strcasecmp(type, "directory") == 0;
  if (!ufs || !ufs[0] || !type || (!folder && strcasecmp(type, "file") != 0) ||
      (!folder && !cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(o, "mLength"))))
    return -EPROTO;
  if (!whole_number(o, "mLength", &size) || !whole_number(o, "mLastModificationTimeMs", &mtime) || size < 0 || floor(size) != size)
    return -EPROTO;
  *ret = (struct prelux_ee_info){.ufs = ufs, .ufs_len = strlen(ufs), .complete = true};
  while (ret->ufs_len > 1 && ufs[ret->ufs_len - 1] == '/')
    ret->ufs_len--;
  prelux_alluxio_describe_as(e->whole_seconds, folder, folder ? 0 : (uint64_t)size, (int64_t)mtime, &ret->obj);
  if (!folder && cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(o, "mCompleted")))
  {
    ret->complete = false;
    ret->obj.size = UINT64_MAX;
    ret->obj.version[0] = 0;
  }
  return 0;
}
