/* Backend `azure`: blobs of one container of Azure Storage, by its REST protocol (2021-12-02).
 *
 * What is a folder: what blobs below it make one (prefix "path/"), a blob "path/", and a blob that says so of itself:
 * hdi_isfolder, or a directory of a hierarchical namespace. stat asks for the blob; only when that is missing or empty does it
 * look for blobs below: an empty blob beside "path/..." is some tool's mark of a folder; one with bytes wins over the folder, and
 * what lies below it can still be opened by its name. So a file costs one request to find and one to read.
 * azure_cred.c knows who we are, azure_call.c sends, azure_list.c lists, azure_read.c reads. */
#include "lib/backend/azure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cjson/cJSON.h>

#include "lib/backend/azure_sign.h"
#include "lib/backend/backends.h"
#include "lib/conf/conf.h"

#define ETAG_MAX 120
#define ENDPOINT_MAX 2048

static struct prelux_azure *self(struct prelux_backend *b)
{
  return (struct prelux_azure *)b;
}

/* Setting up. */

static void azure_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_azure *z = self(b);
  prelux_azure_cred_free(z->cred);
  free(z->account);
  free(z->container);
  free(z->prefix);
  free(z->url);
  free(z->ca_file);
  free(z);
}

/* "$root" and "$web" too. What else Azure allows it knows itself. */
static bool container_name(const char *s)
{
  size_t len = strlen(s);
  return len >= 3 && len <= 63 && strspn(s + (s[0] == '$'), "abcdefghijklmnopqrstuvwxyz0123456789-") == len - (s[0] == '$');
}

static bool account_name(const char *s)
{
  return s[0] && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == strlen(s);
}

/* "/a//b/" -> "a/b/" */
static char *prefix_of(const char *given)
{
  char *out = malloc(strlen(given) + 2), *p = out;
  for (; out && *given; given++)
    if (*given != '/' || (p > out && p[-1] != '/'))
      *p++ = *given;
  if (out && p > out && p[-1] != '/')
    *p++ = '/';
  if (out)
    *p = 0;
  return out;
}

static int set_names(struct prelux_azure *z, const struct prelux_conf_backend *conf, const char *endpoint)
{
  const char *prefix = prelux_conf_str(conf, "prefix"), *ca_file = prelux_conf_str(conf, "tls.ca_file");
  z->account = strdup(prelux_conf_str(conf, "account"));
  z->container = strdup(prelux_conf_str(conf, "container"));
  z->prefix = prefix_of(prefix ? prefix : "");
  z->ca_file = ca_file ? strdup(ca_file) : NULL;
  z->tls = (struct prelux_net_tls){.ca_file = z->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  if (!z->account || !z->container || !z->prefix || (ca_file && !z->ca_file))
    return -ENOMEM;
  return asprintf(&z->url, "%s/%s", endpoint, z->container) < 0 ? -ENOMEM : 0;
}

static int azure_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                        struct prelux_problem *why)
{
  char endpoint[ENDPOINT_MAX];
  const char *account = prelux_conf_str(conf, "account"), *container = prelux_conf_str(conf, "container");
  if (!account || !account_name(account))
    return prelux_problem(why, EINVAL, "backend %s: account: the name of a storage account is needed", conf->name);
  if (!container || !container_name(container))
    return prelux_problem(why, EINVAL, "backend %s: container: 3 to 63 of a-z, 0-9 and - are needed, or $root, $web", conf->name);
  int rc = prelux_azure_endpoint(conf, endpoint, sizeof(endpoint), why);
  if (rc < 0)
    return rc;
  struct prelux_azure *z = calloc(1, sizeof(*z));
  if (!z)
    return -ENOMEM;
  z->base.ops = &prelux_backend_azure;
  z->net = net;
  rc = set_names(z, conf, endpoint);
  if (rc == 0)
    rc = prelux_azure_cred_create(conf, endpoint, net, &z->cred, why);
  if (rc < 0)
    azure_free(&z->base);
  else
    *ret = &z->base;
  return rc;
}

static int azure_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_azure *z = (const struct prelux_azure *)b;
  struct prelux_url u;
  if (prelux_url_parse(z->url, &u) < 0)
    return -EINVAL;
  int n = snprintf(buf, cap, "azure:%s://%.*s:%u%.*s/%s", u.https ? "https" : "http", (int)u.host_len, u.host, u.port,
                   (int)u.path_len, u.path, z->prefix);
  if (n < 0 || (size_t)n >= cap)
    return -ENAMETOOLONG;
  char *host = strstr(buf, "://") + 3;
  for (size_t i = 0; i < u.host_len; i++)
    if (host[i] >= 'A' && host[i] <= 'Z')
      host[i] = (char)(host[i] | 32);
  return 0;
}

/* Names. */

/* Well-formed UTF-8: Azure's names are Unicode. */
static bool is_utf8(const char *text)
{
  const unsigned char *s = (const unsigned char *)text;
  while (*s)
  {
    int more = *s < 0x80 ? 0 : *s >= 0xc2 && *s < 0xe0 ? 1 : (*s & 0xf0) == 0xe0 ? 2 : *s >= 0xf0 && *s < 0xf5 ? 3 : -1;
    if (more < 0 || (*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
        (*s == 0xf4 && s[1] > 0x8f))
      return false;
    for (s++; more > 0; more--, s++)
      if ((*s & 0xc0) != 0x80)
        return false;
  }
  return true;
}

int prelux_azure_blob_url(const struct prelux_azure *z, const char *path, char *out, size_t cap, struct prelux_problem *why)
{
  if (strchr(path, '\\'))
    return prelux_problem(why, EOPNOTSUPP, "%s: Azure makes a slash of a backslash in a name", path);
  if (!is_utf8(path))
    return prelux_problem(why, EOPNOTSUPP, "%s: Azure's names are UTF-8", path);
  int n = snprintf(out, cap, "%s/", z->url);
  long more = n < 0 || (size_t)n >= cap ? -1 : prelux_url_encode(out + n, cap - (size_t)n, z->prefix, strlen(z->prefix));
  long last = more < 0 ? -1 : prelux_url_encode(out + n + more, cap - (size_t)(n + more), path, strlen(path));
  return last < 0 ? prelux_problem(why, EOPNOTSUPP, "%.100s...: a URL of more than %zu bytes", path, cap) : 0;
}

bool prelux_azure_version(const char *etag, char out[PRELUX_VERSION_MAX])
{
  size_t len = strlen(etag);
  if (len >= 2 && etag[0] == '"' && etag[len - 1] == '"')
  {
    etag++;
    len -= 2;
  }
  if (len == 0 || len > ETAG_MAX)
    return false;
  for (size_t i = 0; i < len; i++)
    if (etag[i] <= ' ' || etag[i] >= 0x7f || etag[i] == '"')
      return false;
  snprintf(out, PRELUX_VERSION_MAX, "e:%.*s", (int)len, etag);
  return true;
}

/* stat */

static bool header_is(const struct prelux_net_answer *a, const char *name, const char *value)
{
  char text[32];
  return prelux_net_header(a, name, text, sizeof(text)) > 0 && strcasecmp(text, value) == 0;
}

static int be_file(const struct prelux_net_answer *a, const char *url, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_object obj = {.type = PRELUX_FILE, .size = a->content_length, .mtime_ns = prelux_http_date(a->last_modified)};
  char shown[200];
  prelux_url_show(shown, sizeof(shown), url);
  if (obj.size == UINT64_MAX)
    return prelux_problem(why, EPROTO, "HEAD %s: the answer does not say how long the blob is", shown);
  if (!prelux_azure_version(a->etag, obj.version))
    return prelux_problem(why, EPROTO, "HEAD %s: an answer without an ETag", shown);
  prelux_azure_md5(a->content_md5, obj.md5);
  *ret = obj;
  return 0;
}

/* No blob, or an empty one: do blobs below it make it a folder? `rc` is what the blob itself would give. */
static int maybe_folder(struct prelux_azure *z, const char *path, int rc, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_problem own = {0};
  int below = prelux_azure_has_children(z, path, &own);
  if (below > 0)
    *ret = (struct prelux_object){.type = PRELUX_DIR};
  if (below >= 0)
    return below ? 0 : rc;
  if (rc == 0 && below == -EACCES)
    return 0; /* who may not list sees no folders */
  if (why)
    *why = own;
  return below;
}

static int judge(struct prelux_azure *z, const char *path, const char *url, const struct prelux_net_answer *a,
                 struct prelux_object *ret, struct prelux_problem *why)
{
  if (a->status != 200)
  {
    int rc = prelux_azure_refused(z, a, "HEAD", url, why);
    return rc == -ENOENT ? maybe_folder(z, path, rc, ret, why) : rc;
  }
  if (header_is(a, "x-ms-resource-type", "directory") || header_is(a, "x-ms-meta-hdi_isfolder", "true"))
  {
    *ret = (struct prelux_object){.type = PRELUX_DIR};
    return 0;
  }
  int rc = be_file(a, url, ret, why);
  return rc == 0 && a->content_length == 0 ? maybe_folder(z, path, 0, ret, why) : rc;
}

static int azure_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_azure *z = self(b);
  struct prelux_net_answer a;
  if (!path[0])
  {
    *ret = (struct prelux_object){.type = PRELUX_DIR};
    return 0;
  }
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_azure_blob_url(z, path, url, PRELUX_URL_MAX, why);
  if (rc == 0)
  {
    struct prelux_azure_call call = {.method = "HEAD", .url = url};
    rc = prelux_azure_call(z, &call, &a, why);
    rc = rc < 0 ? prelux_azure_failed(rc) : judge(z, path, url, &a, ret, why);
    prelux_net_answer_free(&a);
  }
  free(url);
  return rc;
}

/* Telling. */

static void azure_report(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_azure *z = self(b);
  cJSON_AddStringToObject(into, "endpoint", z->url);
  prelux_azure_cred_report(z->cred, into);
}

static void azure_examine(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_problem why = {0};
  int rc = prelux_azure_has_children(self(b), "", &why);
  azure_report(b, into);
  cJSON_AddBoolToObject(into, "reachable", rc >= 0);
  if (rc < 0)
    cJSON_AddStringToObject(into, "problem", why.text);
  if (rc < 0 && why.advice[0])
    cJSON_AddStringToObject(into, "advice", why.advice);
}

const struct prelux_backend_ops prelux_backend_azure = {
    .type = "azure",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_CONDITIONAL | PRELUX_CAP_LIST_ALL,
    .create = azure_create,
    .free = azure_free,
    .identity = azure_identity,
    .stat = azure_stat,
    .list = prelux_azure_list,
    .read = prelux_azure_read,
    .report = azure_report,
    .examine = azure_examine,
};
