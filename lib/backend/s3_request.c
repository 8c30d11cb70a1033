/* One request to an S3 server: URL, signature, and what is put right when the server says what was wrong with it.
 *
 * A bucket of another region answers 301 or 400 and names the region (header or body); a wrong clock answers 403 with
 * the server's own; keys that have ended answer 400 or 403 with a code. Each is put right for the whole backend and the
 * request made again, once. A HEAD has no body: whoever needs to know why asks again by GET (s3.c). Redirects are never
 * followed: a signature is for one host, and another host must not see it. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/backend/http.h"
#include "lib/backend/s3.h"

#define SKEW_MAX_S 86400 /* a server further off than a day is not believed */

long prelux_s3_key(const struct prelux_s3 *s, const char *path, bool slash, char out[PRELUX_S3_KEY_MAX],
                   struct prelux_problem *why)
{
  int n = snprintf(out, PRELUX_S3_KEY_MAX, "%s%s%s%s", s->prefix, s->prefix[0] && path[0] ? "/" : "", path,
                   slash && (path[0] || s->prefix[0]) ? "/" : "");
  if (n < 0 || n >= PRELUX_S3_KEY_MAX)
    return prelux_problem(why, EOPNOTSUPP, "a key of more than %d bytes", PRELUX_S3_KEY_MAX - 1);
  return n;
}

void prelux_s3_show(const struct prelux_s3 *s, const char *key, char out[PRELUX_S3_SHOWN])
{
  char text[PRELUX_S3_SHOWN - 80];
  size_t len = strlen(key), most = (sizeof(text) - 1) / 3;
  prelux_url_encode(text, sizeof(text), key, len > most ? most : len);
  snprintf(out, PRELUX_S3_SHOWN, "s3://%.64s/%s%s", s->bucket, text, len > most ? "..." : "");
}

/* "https://bucket.host/" or "https://host/bucket/" without the last slash. */
static int base_url(const struct prelux_s3 *s, const char *region, char *out, size_t cap)
{
  char own[128];
  struct prelux_url u;
  bool china = strncmp(region, "cn-", 3) == 0;
  snprintf(own, sizeof(own), "https://s3.%s.amazonaws.com%s", region, china ? ".cn" : "");
  const char *endpoint = s->endpoint ? s->endpoint : own;
  if (s->path_style)
    return snprintf(out, cap, "%s/%s", endpoint, s->bucket);
  if (prelux_url_parse(endpoint, &u) < 0)
    return -1;
  return snprintf(out, cap, "%.*s%s.%s", (int)(u.host - endpoint), endpoint, s->bucket, u.host);
}

static int make_url(const struct prelux_s3 *s, const struct prelux_s3_ask *ask, const char *region, char *out,
                    struct prelux_problem *why)
{
  int n = base_url(s, region, out, PRELUX_URL_MAX);
  long more = n < 0 || n + 2 >= PRELUX_URL_MAX ? -1 : 0;
  if (more == 0 && (ask->key || !s->path_style))
    out[n++] = '/', out[n] = 0;
  if (more == 0 && ask->key)
    more = prelux_url_encode(out + n, (size_t)(PRELUX_URL_MAX - n), ask->key, strlen(ask->key));
  if (more >= 0 && ask->query && (size_t)n + (size_t)more + strlen(ask->query) < PRELUX_URL_MAX)
    strcpy(out + n + more, ask->query);
  else if (ask->query)
    more = -1;
  return more < 0 ? prelux_problem(why, EOPNOTSUPP, "a URL of more than %d bytes", PRELUX_URL_MAX) : 0;
}

/* Answers and what they say. */

struct attempt
{
  struct prelux_s3 *s;
  const struct prelux_s3_ask *ask;
  char region[PRELUX_S3_REGION_MAX];
  int64_t skew_s;
  struct prelux_aws_lease *lease;
  bool corrected[3]; /* region, clock, keys: once each */
};

static bool valid_region(const char *s)
{
  size_t n = strlen(s);
  for (size_t i = 0; i < n; i++)
    if (!islower((unsigned char)s[i]) && !isdigit((unsigned char)s[i]) && s[i] != '-')
      return false;
  return n > 0 && n < PRELUX_S3_REGION_MAX;
}

static bool correct_region(struct attempt *t, const struct prelux_net_answer *a, const struct prelux_s3_error *e)
{
  char told[PRELUX_S3_REGION_MAX];
  if (a->status != 301 && a->status != 307 && a->status != 400 && a->status != 403)
    return false;
  if (prelux_net_header(a, "x-amz-bucket-region", told, sizeof(told)) <= 0)
    snprintf(told, sizeof(told), "%s", e->region);
  if (!valid_region(told) || strcmp(told, t->region) == 0)
    return false;
  pthread_mutex_lock(&t->s->lock);
  snprintf(t->s->region, sizeof(t->s->region), "%s", told);
  pthread_mutex_unlock(&t->s->lock);
  return true;
}

static bool correct_clock(struct attempt *t, const struct prelux_net_answer *a, const struct prelux_s3_error *e)
{
  int64_t date = prelux_http_date(a->date) / 1000000000, skew = date - (int64_t)time(NULL);
  if (strcmp(e->code, "RequestTimeTooSkewed") != 0 || !date || skew > SKEW_MAX_S || skew < -SKEW_MAX_S)
    return false;
  pthread_mutex_lock(&t->s->lock);
  t->s->skew_s = skew;
  pthread_mutex_unlock(&t->s->lock);
  return true;
}

static bool correct_keys(struct attempt *t, const struct prelux_net_answer *a, const struct prelux_s3_error *e)
{
  static const char *const codes[] = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
                                      "InvalidAccessKeyId"};
  bool named = false;
  for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
    named = named || strcmp(codes[i], e->code) == 0;
  return named && t->lease && prelux_aws_credentials_refused(t->s->credentials, t->lease);
}

/* True: the same request may fare better now. */
static bool correct(struct attempt *t, const struct prelux_net_answer *a)
{
  static bool (*const ways[])(struct attempt *, const struct prelux_net_answer *,
                              const struct prelux_s3_error *) = {correct_region, correct_clock, correct_keys};
  struct prelux_s3_error e;
  if (a->status < 300 || a->status == 304 || a->status == 404 || a->status == 412 || a->status == 416 ||
      a->status >= 500)
    return false;
  prelux_s3_error_parse(a->body, a->body ? a->body_len : 0, &e);
  for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
    if (!t->corrected[i] && ways[i](t, a, &e))
      return t->corrected[i] = true;
  return false;
}

/* Asking. */

static const struct
{
  const char *method, *verb; /* as sent, and as texts say it */
} kinds[PRELUX_S3_COUNTS] = {
    [PRELUX_S3_HEADS] = {"HEAD", "HEAD"}, [PRELUX_S3_GETS] = {"GET", "GET"},    [PRELUX_S3_LISTS] = {"GET", "LIST"},
    [PRELUX_S3_PUTS] = {"PUT", "PUT"},    [PRELUX_S3_POSTS] = {"POST", "POST"}, [PRELUX_S3_DELETES] = {"DELETE", "DELETE"},
};

bool prelux_s3_https(const struct prelux_s3 *s)
{
  return !s->endpoint || strncmp(s->endpoint, "https:", 6) == 0;
}

static int sign(struct attempt *t, const char *url, struct prelux_aws_headers *ret, struct prelux_problem *why)
{
  char payload[65];
  struct prelux_aws_request r = {
      .method = kinds[t->ask->kind].method,
      .url = url,
      .headers = t->ask->headers,
      .payload = t->ask->body && !t->ask->payload ? payload : t->ask->payload,
      .region = t->region,
      .service = "s3",
      .when_s = (int64_t)time(NULL) + t->skew_s,
      .content_header = true,
  };
  int rc = prelux_aws_credentials_get(t->s->credentials, &t->lease, why);
  if (rc == 0 && t->ask->body && !t->ask->payload &&
      prelux_aws_payload(t->ask->body, strlen(t->ask->body), payload) < 0)
    rc = prelux_problem(why, ENOMEM, "cannot sign a request");
  if (rc < 0)
    return rc;
  rc = prelux_aws_sign(&t->lease->keys, &r, ret);
  if (rc == -EINVAL)
    return prelux_problem(why, EACCES, "bucket %s: the access key or session token holds a control character",
                          t->s->bucket);
  return rc < 0 ? prelux_problem(why, -rc, "cannot sign a request") : 0;
}

#define OWN_HEADERS_MAX 120 /* what a caller may want signed */

/* A failure of net. Those of a file to be sent are their own. */
static int failed(const struct prelux_s3_ask *ask, int rc)
{
  return ask->upload && rc == -EINVAL ? rc : prelux_http_failed(rc); /* a sink remembers its own */
}

static int send_once(struct attempt *t, char *url, struct prelux_net_answer *ret, struct prelux_problem *why)
{
  struct prelux_aws_headers signature = {{NULL}};
  const char *headers[PRELUX_AWS_HEADERS + OWN_HEADERS_MAX + 2] = {NULL};
  size_t n = 0;
  pthread_mutex_lock(&t->s->lock);
  memcpy(t->region, t->s->region, sizeof(t->region));
  t->skew_s = t->s->skew_s;
  pthread_mutex_unlock(&t->s->lock);
  int rc = make_url(t->s, t->ask, t->region, url, why);
  if (rc == 0 && !t->s->anonymous)
    rc = sign(t, url, &signature, why);
  for (size_t i = 0; i < PRELUX_AWS_HEADERS && signature.lines[i]; i++)
    headers[n++] = signature.lines[i];
  if (t->ask->condition)
    headers[n++] = t->ask->condition;
  for (size_t i = 0; t->ask->headers && t->ask->headers[i] && i < OWN_HEADERS_MAX; i++)
    headers[n++] = t->ask->headers[i];
  struct prelux_net_request req = {
      .method = kinds[t->ask->kind].method,
      .url = url,
      .headers = headers,
      .body = t->ask->body,
      .body_len = t->ask->body ? strlen(t->ask->body) : 0,
      .upload = t->ask->upload,
      .once = t->ask->once,
      .stall_s = t->ask->stall_s,
      .tls = &t->s->tls,
      .off = t->ask->off,
      .len = t->ask->len,
      .max_body = t->ask->max_body,
      .retries = PRELUX_S3_RETRIES,
      .sink = t->ask->sink,
      .arg = t->ask->arg,
      .target = t->ask->target,
      .target_len = t->ask->target_len,
      .cancel = t->ask->cancel,
  };
  if (rc == 0)
  {
    atomic_fetch_add_explicit(&t->s->counts[t->ask->kind], 1, memory_order_relaxed);
    rc = prelux_net_call(t->s->net, &req, ret, why);
    if (rc < 0)
      rc = failed(t->ask, rc);
  }
  prelux_aws_headers_release(&signature);
  return rc;
}

int prelux_s3_call(struct prelux_s3 *s, const struct prelux_s3_ask *ask, struct prelux_net_answer *ret,
                   struct prelux_problem *why)
{
  struct attempt t = {.s = s, .ask = ask};
  char *url = malloc(PRELUX_URL_MAX);
  *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc;
  for (;;)
  {
    rc = send_once(&t, url, ret, why);
    bool again = rc == 0 && correct(&t, ret);
    prelux_aws_lease_drop(t.lease);
    t.lease = NULL;
    if (!again)
      break;
    prelux_net_answer_free(ret);
    *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
    atomic_fetch_add_explicit(&s->counts[PRELUX_S3_CORRECTED], 1, memory_order_relaxed);
  }
  free(url);
  return rc;
}

/* Refusals. */

#define LIST_ADVICE "without the right s3:ListBucket a missing object is refused (403) instead of missing (404)"
#define WRITE_ADVICE "the keys may not write here: s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload are needed"
#define FULL_ADVICE "the remote is full"
#define KEYS_ADVICE "see `prelux doctor` for where the keys come from"

/* A code says more than a status. */
static const struct refusal
{
  const char *code;
  int status; /* where there is no code */
  int err;
  const char *advice;
} refusals[] = {
    {.code = "NoSuchKey", .err = ENOENT},
    {.code = "NoSuchBucket", .err = EIO, .advice = "the bucket does not exist: see `bucket`, `endpoint` and `region`"},
    {.code = "InvalidBucketName", .err = EIO, .advice = "see `bucket`"},
    {.code = "XAdminUserNotFound", .err = EACCES, .advice = KEYS_ADVICE},
    {.code = "InvalidAccessKeyId", .err = EACCES, .advice = KEYS_ADVICE},
    {.code = "SignatureDoesNotMatch", .err = EACCES, .advice = KEYS_ADVICE},
    {.code = "ExpiredToken", .err = EKEYEXPIRED, .advice = KEYS_ADVICE},
    {.code = "ExpiredTokenException", .err = EKEYEXPIRED, .advice = KEYS_ADVICE},
    {.code = "TokenRefreshRequired", .err = EKEYEXPIRED, .advice = KEYS_ADVICE},
    {.code = "InvalidToken", .err = EACCES, .advice = KEYS_ADVICE},
    {.code = "RequestTimeTooSkewed", .err = EACCES, .advice = "set the clock of this node"},
    {.code = "AccessDenied", .err = EACCES, .advice = LIST_ADVICE},
    {.code = "InvalidObjectState", .err = EIO, .advice = "the object is archived: restore it first"},
    {.code = "KeyTooLongError", .err = EOPNOTSUPP},
    {.code = "InvalidURI", .err = EOPNOTSUPP, .advice = "the server does not take this name as a key"},
    {.code = "InvalidObjectName", .err = EOPNOTSUPP, .advice = "the server does not take this name as a key"},
    {.code = "XMinioInvalidObjectName", .err = EOPNOTSUPP, .advice = "the server does not take this name as a key"},
    {.code = "PreconditionFailed", .err = ESTALE},
    {.code = "ConditionalRequestConflict", .err = EBUSY, .advice = "others write this object all the time"},
    {.code = "OperationAborted", .err = EBUSY, .advice = "others change this bucket or object all the time"},
    {.code = "NoSuchUpload", .err = ENXIO},
    {.code = "InvalidPart", .err = EINVAL},
    {.code = "InvalidPartOrder", .err = EINVAL},
    {.code = "EntityTooSmall", .err = EINVAL, .advice = "the server wants larger parts"},
    {.code = "EntityTooLarge", .err = EFBIG},
    {.code = "ObjectParentIsFile", .err = ENOTDIR},        /* versitygw */
    {.code = "ExistingObjectIsDirectory", .err = EISDIR},  /* versitygw */
    {.code = "XMinioParentIsObject", .err = ENOTDIR},      /* MinIO's */
    {.code = "XMinioObjectExistsAsDirectory", .err = EISDIR},
    {.code = "XMinioStorageFull", .err = ENOSPC, .advice = FULL_ADVICE},
    {.code = "InsufficientStorage", .err = ENOSPC, .advice = FULL_ADVICE},
    {.code = "QuotaExceeded", .err = EDQUOT, .advice = FULL_ADVICE}, /* Ceph's and versitygw's */
    {.code = "XMinioAdminBucketQuotaExceeded", .err = EDQUOT, .advice = FULL_ADVICE},
    {.code = "NotImplemented", .err = EOPNOTSUPP},
    {.code = "PermanentRedirect",
     .err = EIO,
     .advice = "the bucket is at another endpoint: see `endpoint` and `region`"},
    {.code = "TemporaryRedirect",
     .err = EIO,
     .advice = "the bucket is at another endpoint: see `endpoint` and `region`"},
    {.status = 301, .err = EIO, .advice = "the bucket is in another region or at another endpoint: see `region`"},
    {.status = 307, .err = EIO, .advice = "the bucket is in another region or at another endpoint: see `region`"},
    {.status = 401, .err = EACCES, .advice = KEYS_ADVICE},
    {.status = 403, .err = EACCES, .advice = LIST_ADVICE},
    {.status = 404, .err = ENOENT},
    {.status = 410, .err = ENOENT},
    {.status = 412, .err = ESTALE},
    {.status = 405, .err = EOPNOTSUPP},
    {.status = 414, .err = EOPNOTSUPP},
    {.status = 501, .err = EOPNOTSUPP},
    {.status = 507, .err = ENOSPC, .advice = FULL_ADVICE},
};

static const struct refusal *find_refusal(const char *code, int status)
{
  for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
    if (refusals[i].code && strcmp(refusals[i].code, code) == 0)
      return &refusals[i];
  for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
    if (!refusals[i].code && refusals[i].status == status)
      return &refusals[i];
  return NULL;
}

int prelux_s3_refused(struct prelux_s3 *s, const struct prelux_s3_ask *ask, const struct prelux_net_answer *a,
                      struct prelux_problem *why)
{
  struct prelux_s3_error e;
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_error_parse(a->body, a->body ? a->body_len : 0, &e);
  const struct refusal *r = find_refusal(e.code, a->status);
  int err = r ? r->err : a->status >= 200 && a->status < 300 && !e.code[0] ? EPROTO : EIO;
  prelux_s3_show(s, ask->key ? ask->key : "", shown);
  prelux_problem(why, err, "%s %s: HTTP %d%s%s%s%s", kinds[ask->kind].verb, shown, a->status, e.code[0] ? " " : "", e.code,
                 e.message[0] ? ": " : "", e.message);
  bool may_not = r && r->advice && strcmp(r->advice, LIST_ADVICE) == 0 && ask->kind >= PRELUX_S3_PUTS;
  if (why && r && r->advice)
    snprintf(why->advice, sizeof(why->advice), "%s", may_not ? WRITE_ADVICE : r->advice);
  return -err;
}
