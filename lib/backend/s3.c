/* Backend `s3`: the objects of a bucket, as files; folders are what keys have in common up to a slash.
 *
 * A name is looked at by HEAD of its key; 404 makes it a folder if there are keys below it, else it is not there. An
 * object without a byte gives way to a folder of its name (many tools make such objects to mark folders); one with
 * bytes wins over it, in a look-up as in a listing (s3_list.c), and what lies below it can still be opened by its full
 * name. The key `dir/` is the folder itself, whatever bytes it holds. A HEAD that is refused has no text: it is asked
 * again as a GET of one byte, whose answer says why, or serves as well.
 *
 * s3_request.c signs and asks, s3_list.c lists, s3_read.c reads, aws_*.c is about keys; s3_write.h says what writes. */
#include "lib/backend/s3.h"

#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/backends.h"
#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/conf/conf.h"

static struct prelux_s3 *self(struct prelux_backend *b)
{
  return (struct prelux_s3 *)b;
}

/* Setting up. */

/* A host name may hold it: then it can stand before the server's. */
static bool like_a_host(const char *bucket, bool https)
{
  size_t n = strlen(bucket);
  for (size_t i = 0; i < n; i++)
    if (!islower((unsigned char)bucket[i]) && !isdigit((unsigned char)bucket[i]) && bucket[i] != '-' &&
        (bucket[i] != '.' || https)) /* no certificate for *.host covers a.b.host */
      return false;
  return n > 0 && n <= 63 && bucket[0] != '-' && bucket[n - 1] != '-';
}

/* "HTTPS://Host:443/x/" -> "https://host/x" */
static int canonical_endpoint(const char *url, char **ret)
{
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0 || u.has_query || u.has_user)
    return -EINVAL;
  size_t path_len = u.path_len;
  while (path_len && u.path[path_len - 1] == '/')
    path_len--;
  char port[16] = "";
  if (u.port != (u.https ? 443u : 80u))
    snprintf(port, sizeof(port), ":%u", u.port);
  if (asprintf(ret, "%s://%.*s%s%.*s", u.https ? "https" : "http", (int)u.host_len, u.host, port, (int)path_len,
               u.path) < 0)
    return *ret = NULL, -ENOMEM;
  for (char *c = strstr(*ret, "://") + 3; *c && *c != '/'; c++)
    *c = (char)tolower((unsigned char)*c);
  return 0;
}

/* What is sent to it leaves this machine nowhere. */
static bool is_loopback(const char *endpoint)
{
  static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
  struct in_addr four;
  struct prelux_url u;
  char host[INET_ADDRSTRLEN];
  for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++)
    if (getenv(proxies[i]))
      return false; /* libcurl knows whether it goes by one, we do not */
  if (prelux_url_parse(endpoint, &u) < 0 || u.host_len >= sizeof(host))
    return false;
  snprintf(host, sizeof(host), "%.*s", (int)u.host_len, u.host);
  return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
         (inet_pton(AF_INET, host, &four) == 1 && ntohl(four.s_addr) >> 24 == 127);
}

static int set_endpoint(struct prelux_s3 *s, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const char *given = prelux_conf_str(conf, "endpoint");
  const char *endpoint = given ? given : prelux_aws_credentials_endpoint(s->credentials);
  const struct prelux_conf_value *style = prelux_conf_get(conf, "path_style");
  int rc = endpoint ? canonical_endpoint(endpoint, &s->endpoint) : 0;
  if (rc == -EINVAL)
    return prelux_problem(why, EINVAL, "backend %s: endpoint: an http or https URL without user and query is needed",
                          conf->name);
  bool https = !s->endpoint || strncmp(s->endpoint, "https:", 6) == 0;
  s->loopback = s->endpoint && is_loopback(s->endpoint);
  s->path_style = style ? style->number != 0 : s->endpoint != NULL;
  s->path_style = s->path_style || !like_a_host(s->bucket, https);
  return rc;
}

static int set_texts(struct prelux_s3 *s, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const char *bucket = prelux_conf_str(conf, "bucket"), *prefix = prelux_conf_str(conf, "prefix");
  const char *region = prelux_aws_credentials_region(s->credentials), *ca_file = prelux_conf_str(conf, "tls.ca_file");
  if (!bucket || !bucket[0] || strpbrk(bucket, "/?#%\\ "))
    return prelux_problem(why, EINVAL, "backend %s: bucket: no name of a bucket", conf->name);
  prefix = prefix ? prefix + strspn(prefix, "/") : "";
  size_t len = strlen(prefix);
  while (len && prefix[len - 1] == '/')
    len--;
  s->bucket = strdup(bucket);
  s->prefix = strndup(prefix, len);
  s->ca_file = ca_file ? strdup(ca_file) : NULL;
  snprintf(s->region, sizeof(s->region), "%s", region ? region : "us-east-1");
  return s->bucket && s->prefix && (!ca_file || s->ca_file)
             ? 0
             : prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
}

static void s3_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_s3 *s = self(b);
  prelux_aws_credentials_free(s->credentials);
  pthread_mutex_destroy(&s->lock);
  pthread_mutex_destroy(&s->able_lock);
  prelux_parallel_release(&s->parallel);
  free(s->bucket);
  free(s->prefix);
  free(s->endpoint);
  free(s->ca_file);
  free(s);
}

static int s3_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                     struct prelux_problem *why)
{
  struct prelux_s3 *s = calloc(1, sizeof(*s));
  if (!s)
    return prelux_problem(why, ENOMEM, "backend %s: no memory", conf->name);
  s->base.ops = &prelux_backend_s3;
  s->net = net;
  pthread_mutex_init(&s->lock, NULL);
  pthread_mutex_init(&s->able_lock, NULL);
  prelux_parallel_init(&s->parallel);
  const char *md5 = prelux_conf_str(conf, "etag_md5");
  s->no_md5 = md5 && strcmp(md5, "off") == 0;
  const char *sums = prelux_conf_str(conf, "checksums");
  s->no_sums = sums && strcmp(sums, "off") == 0;
  const char *sign = prelux_conf_str(conf, "sign_payload");
  s->sign = sign && strcmp(sign, "always") == 0  ? PRELUX_S3_SIGN_ALWAYS
            : sign && strcmp(sign, "never") == 0 ? PRELUX_S3_SIGN_NEVER
                                                 : PRELUX_S3_SIGN_AUTO;
  s->multipart_threshold = prelux_conf_num(conf, "multipart_threshold");
  s->anonymous = prelux_conf_num(conf, "anonymous") != 0;
  int rc = prelux_aws_credentials_create(conf, net, &s->credentials, why);
  if (rc == 0)
    rc = set_texts(s, conf, why);
  if (rc == 0)
    rc = set_endpoint(s, conf, why);
  if (rc < 0)
  {
    s3_free(&s->base);
    return rc;
  }
  s->tls = (struct prelux_net_tls){.ca_file = s->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  *ret = &s->base;
  return 0;
}

/* Not the region: a bucket of AWS has one name in all of them, and a server of one's own has what its endpoint says. */
static int s3_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  const struct prelux_s3 *s = (const struct prelux_s3 *)b;
  bool china = strncmp(s->region, "cn-", 3) == 0;
  const char *aws = china ? "https://s3.amazonaws.com.cn" : "https://s3.amazonaws.com";
  int n = snprintf(buf, cap, "s3:%s/%s/%s%s", s->endpoint ? s->endpoint : aws, s->bucket, s->prefix,
                   s->prefix[0] ? "/" : "");
  return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}

/* What an answer says of an object. */

void prelux_s3_quote_etag(char *etag, size_t cap)
{
  size_t n = strlen(etag);
  if (n == 0 || n + 3 > cap || etag[0] == '"' || strncmp(etag, "W/", 2) == 0)
    return;
  memmove(etag + 1, etag, n);
  etag[0] = etag[n + 1] = '"';
  etag[n + 2] = 0;
}

/* Does the answer say that the ETag of this object is no MD5 of its bytes? Encrypted by a key service or by the
 * customer's key, of a directory bucket, appended to (OSS). */
static bool etag_is_other(const struct prelux_net_answer *a)
{
  static const struct
  {
    const char *name, *good; /* any other value: no MD5 */
  } rows[] = {
      {"x-amz-server-side-encryption", "AES256"},
      {"x-oss-server-side-encryption", "AES256"},
      {"x-amz-server-side-encryption-customer-algorithm", ""},
      {"x-amz-storage-class", NULL},
      {"x-oss-object-type", "Normal"},
  };
  char value[64];
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
  {
    long n = prelux_net_header(a, rows[i].name, value, sizeof(value));
    if (n == -ENOENT)
      continue;
    if (rows[i].good ? n < 0 || strcmp(value, rows[i].good) != 0 : n < 0 || strcmp(value, "EXPRESS_ONEZONE") == 0)
      return true;
  }
  return false;
}

/* 32 hex digits in quotes: the form of an MD5. Parts make another (-N). */
bool prelux_s3_like_md5(const char *etag)
{
  return strlen(etag) >= 34 && etag[0] == '"' && etag[33] == '"' && strspn(etag + 1, "0123456789abcdefABCDEF") == 32;
}

void prelux_s3_md5_of(const struct prelux_net_answer *a, char out[33])
{
  char etag[sizeof(a->etag)];
  memcpy(etag, a->etag, sizeof(etag));
  prelux_s3_quote_etag(etag, sizeof(etag));
  out[0] = 0;
  if (strlen(etag) != 34 || !prelux_s3_like_md5(etag) || etag_is_other(a))
    return;
  for (int i = 0; i < 32; i++)
    out[i] = (char)tolower((unsigned char)etag[i + 1]);
  out[32] = 0;
}

static void be_folder(struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = PRELUX_DIR};
}

void prelux_s3_file_of(struct prelux_s3 *s, struct prelux_net_answer *a, uint64_t size, struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = PRELUX_FILE, .size = size, .mtime_ns = prelux_http_date(a->last_modified)};
  if (a->etag[0] && a->etag[0] != '"' && a->etag[0] != 'W')
    atomic_store_explicit(&s->bare_etags, true, memory_order_relaxed);
  prelux_s3_quote_etag(a->etag, sizeof(a->etag));
  prelux_http_version(a, size, ret->version);
  if (!s->no_md5)
    prelux_s3_md5_of(a, ret->md5);
}

bool prelux_s3_hidden(const char *path)
{
  for (const char *name = path; name; name = strchr(name, '/'))
  {
    name += *name == '/';
    if (strncmp(name, PRELUX_S3_HIDDEN, sizeof(PRELUX_S3_HIDDEN) - 1) == 0)
      return true;
  }
  return false;
}

/* stat */

static int stop_at_once(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  bool *stopped = arg;
  *stopped = true;
  return -ECANCELED;
}

/* Length of the whole object that an answer is about; UINT64_MAX: not said. */
static uint64_t size_of(const struct prelux_net_answer *a)
{
  uint64_t from, to, size;
  bool range = prelux_http_content_range(a->content_range, &from, &to, &size);
  if (a->status == 416)
    return range && size == 0 ? 0 : UINT64_MAX;
  return range ? size : a->status == 206 ? UINT64_MAX : a->content_length;
}

/* The first byte by GET: the answer to a HEAD that said too little. */
static int look_by_get(struct prelux_s3 *s, const char *key, struct prelux_object *ret, struct prelux_problem *why)
{
  bool stopped = false;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_GETS, .key = key, .len = 1, .sink = stop_at_once, .arg = &stopped};
  struct prelux_net_answer a;
  int rc = prelux_s3_call(s, &ask, &a, why);
  if (rc < 0 && stopped)
    rc = 0;
  bool good = a.status == 200 || a.status == 206 || a.status == 416;
  if (rc == 0 && good && size_of(&a) != UINT64_MAX)
    prelux_s3_file_of(s, &a, size_of(&a), ret);
  else if (rc == 0 && good)
    rc = prelux_problem(why, EPROTO, "s3://%s: the server does not say how long an object is", s->bucket);
  else if (rc == 0)
    rc = prelux_s3_refused(s, &ask, &a, why);
  prelux_net_answer_free(&a);
  return rc;
}

/* The object of this very key. */
static int look(struct prelux_s3 *s, const char *key, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_HEADS, .key = key};
  struct prelux_net_answer a;
  int rc = prelux_s3_call(s, &ask, &a, why);
  bool clear = a.status == 404 || (a.status == 200 && a.content_length != UINT64_MAX) || a.status >= 500;
  if (rc == 0 && a.status == 200 && clear)
    prelux_s3_file_of(s, &a, a.content_length, ret);
  else if (rc == 0 && clear)
    rc = prelux_s3_refused(s, &ask, &a, why);
  prelux_net_answer_free(&a);
  return rc == 0 && !clear ? look_by_get(s, key, ret, why) : rc;
}

static int s3_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_s3 *s = self(b);
  struct prelux_object found = {0};
  if (!path[0])
  {
    be_folder(ret);
    return 0;
  }
  if (prelux_s3_hidden(path))
    return prelux_problem(why, ENOENT, "%.200s: names that begin with " PRELUX_S3_HIDDEN " are nobody's", path);
  char *key = malloc(PRELUX_S3_KEY_MAX);
  if (!key)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  int rc = (int)prelux_s3_key(s, path, false, key, why);
  if (rc >= 0)
    rc = look(s, key, &found, why);
  free(key);
  if (rc == -ENOENT || (rc == 0 && found.size == 0))
  {
    struct prelux_problem own = {0};
    int folder = prelux_s3_is_folder(s, path, &own);
    if (folder > 0)
    {
      be_folder(ret);
      return 0;
    }
    if (folder < 0 && rc < 0) /* an empty object is there for sure */
    {
      if (why)
        *why = own;
      return folder;
    }
  }
  if (rc == 0)
    *ret = found;
  return rc;
}

/* What `status` and `doctor` show. */

static void s3_report(struct prelux_backend *b, cJSON *into)
{
  static const char *const names[] = {
      [PRELUX_S3_HEADS] = "heads",        [PRELUX_S3_GETS] = "gets",   [PRELUX_S3_LISTS] = "lists",
      [PRELUX_S3_PUTS] = "puts",          [PRELUX_S3_POSTS] = "posts", [PRELUX_S3_DELETES] = "deletes",
      [PRELUX_S3_CORRECTED] = "corrected"};
  struct prelux_s3 *s = self(b);
  char region[PRELUX_S3_REGION_MAX];
  pthread_mutex_lock(&s->lock);
  memcpy(region, s->region, sizeof(region));
  int64_t skew_s = s->skew_s;
  pthread_mutex_unlock(&s->lock);
  cJSON_AddStringToObject(into, "endpoint", s->endpoint ? s->endpoint : "AWS");
  cJSON_AddStringToObject(into, "bucket", s->bucket);
  cJSON_AddStringToObject(into, "region", region);
  cJSON_AddBoolToObject(into, "path_style", s->path_style);
  if (skew_s)
    cJSON_AddNumberToObject(into, "clock_skew_s", (double)skew_s);
  cJSON *requests = cJSON_AddObjectToObject(into, "requests");
  for (size_t i = 0; requests && i < PRELUX_S3_COUNTS; i++)
    cJSON_AddNumberToObject(requests, names[i], (double)atomic_load_explicit(&s->counts[i], memory_order_relaxed));
  cJSON *credentials = cJSON_AddObjectToObject(into, "credentials");
  if (credentials && s->anonymous)
    cJSON_AddStringToObject(credentials, "source", "anonymous");
  else if (credentials)
    prelux_aws_credentials_report(s->credentials, credentials);
}

static void s3_examine(struct prelux_backend *b, cJSON *into)
{
  struct prelux_s3 *s = self(b);
  struct prelux_problem why = {0};
  int rc = prelux_s3_is_folder(s, "", &why);
  s3_report(b, into);
  prelux_backend_reachable(into, rc, &why);
}

const struct prelux_backend_ops prelux_backend_s3 = {
    .type = "s3",
    .caps =
        PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_LIST_ALL | PRELUX_CAP_CONDITIONAL | PRELUX_S3_WRITE_CAPS,
    .create = s3_create,
    .free = s3_free,
    .identity = s3_identity,
    .stat = s3_stat,
    .list = prelux_s3_list,
    .read = prelux_s3_read,
    .sum = prelux_s3_sum,
    .report = s3_report,
    .examine = s3_examine,
    .write = &prelux_s3_write,
};
