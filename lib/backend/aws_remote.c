/* Sources of keys that are servers: STS, the container's agent, the instance's metadata. All are asked with short
 * time-outs; answers are small. Redirects are not followed. Agent and metadata are the machine's own: no proxy reaches them, and
 * none is to see their keys. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "lib/backend/aws_sources.h"
#include "lib/backend/s3_xml.h"
#include "lib/net/net.h"

#define ANSWER_MAX 65536
#define TOKEN_FILE_MAX 65536
#define URL_BYTES 2048

/* Calls. */

static bool no_retry(const struct prelux_net_answer *a)
{
  return false;
}

/* 0 and a 200 in *ret (free it), -ENOENT: nobody answers, -EACCES: another status. */
static int call(const struct prelux_aws_sources *s, struct prelux_net_request *req, const char *who,
                struct prelux_net_answer *ret, struct prelux_problem *why)
{
  struct prelux_problem said = {0};
  struct prelux_s3_error e;
  req->max_body = ANSWER_MAX;
  int rc = prelux_net_call(s->net, req, ret, &said);
  if (rc < 0)
    rc = prelux_problem(why, ENOENT, "%s: %.400s", who, said.text);
  else if (ret->status != 200)
  {
    prelux_s3_error_parse(ret->body, ret->body_len, &e);
    rc = prelux_problem(why, EACCES, "%s: HTTP %d %s %s", who, ret->status, e.code, e.message);
  }
  if (rc < 0 || !ret->body)
  {
    if (rc == 0)
      rc = prelux_problem(why, EACCES, "%s: an empty answer", who);
    prelux_net_answer_free(ret);
  }
  return rc;
}

static void wipe_answer(struct prelux_net_answer *a)
{
  if (a->body)
    explicit_bzero(a->body, a->body_len);
  prelux_net_answer_free(a);
}

/* {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}, as container and instance say it. */
static int set_of_json(const struct prelux_net_answer *a, const char *who, struct prelux_aws_set *ret,
                       struct prelux_problem *why)
{
  static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "Token", "Expiration", "Code"};
  const char *values[5];
  cJSON *doc = cJSON_ParseWithLength(a->body, a->body_len);
  for (size_t i = 0; i < 5; i++)
    values[i] = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(doc, names[i]));
  int64_t expires_s = values[3] ? prelux_s3_time(values[3]) : 0;
  int rc = -EINVAL;
  if (doc && (!values[4] || strcmp(values[4], "Success") == 0) && (!values[3] || expires_s))
    rc = prelux_aws_set_make(ret, values[0], values[1], values[2], expires_s);
  if (rc == -EINVAL)
    rc = prelux_problem(why, EACCES, "%s: an answer without keys%s%.40s", who, values[4] ? ", code " : "",
                        values[4] ? values[4] : "");
  else if (rc < 0)
    rc = prelux_problem(why, -rc, "%s: no memory", who);
  for (size_t i = 0; i < 3; i++)
    if (values[i])
      explicit_bzero((char *)values[i], strlen(values[i])); /* the document is ours */
  cJSON_Delete(doc);
  return rc;
}

/* STS */

struct sts
{
  XML_Parser parser;
  char *texts[4]; /* AccessKeyId, SecretAccessKey, SessionToken, Expiration */
  int at;         /* -1: none of these */
  int depth;
};

static void sts_start(void *arg, const char *name, const char **attributes)
{
  static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"};
  struct sts *s = arg;
  const char *colon = strrchr(name, ':');
  s->at = -1;
  if (++s->depth > 16)
    XML_StopParser(s->parser, XML_FALSE);
  for (int i = 0; i < 4; i++)
    if (!s->texts[i] && strcmp(colon ? colon + 1 : name, names[i]) == 0)
      s->at = i;
}

static void sts_text(void *arg, const char *text, int len)
{
  struct sts *s = arg;
  if (s->at < 0)
    return;
  size_t n = s->texts[s->at] ? strlen(s->texts[s->at]) : 0;
  char *grown = malloc(n + (size_t)len + 1); /* realloc would leave copies */
  if (grown && n)
    memcpy(grown, s->texts[s->at], n);
  if (grown)
  {
    memcpy(grown + n, text, (size_t)len);
    grown[n + (size_t)len] = 0;
  }
  if (n)
    explicit_bzero(s->texts[s->at], n);
  free(s->texts[s->at]);
  s->texts[s->at] = grown;
}

static void sts_end(void *arg, const char *name)
{
  struct sts *s = arg;
  s->depth--;
  s->at = -1;
}

static void sts_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int internal)
{
  struct sts *s = arg;
  XML_StopParser(s->parser, XML_FALSE);
}

static int set_of_sts(const struct prelux_net_answer *a, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  struct sts s = {.parser = XML_ParserCreate("UTF-8"), .at = -1};
  if (!s.parser)
    return prelux_problem(why, ENOMEM, "STS: no memory");
  XML_SetUserData(s.parser, &s);
  XML_SetElementHandler(s.parser, sts_start, sts_end);
  XML_SetCharacterDataHandler(s.parser, sts_text);
  XML_SetStartDoctypeDeclHandler(s.parser, sts_doctype);
  bool good = XML_Parse(s.parser, a->body, (int)a->body_len, 1) == XML_STATUS_OK;
  XML_ParserFree(s.parser);
  int64_t expires_s = s.texts[3] ? prelux_s3_time(s.texts[3]) : 0;
  int rc = good && expires_s ? prelux_aws_set_make(ret, s.texts[0], s.texts[1], s.texts[2], expires_s) : -EINVAL;
  for (int i = 0; i < 4; i++)
  {
    if (s.texts[i])
      explicit_bzero(s.texts[i], strlen(s.texts[i]));
    free(s.texts[i]);
  }
  return rc < 0 ? prelux_problem(why, EACCES, "STS: an answer without keys") : 0;
}

static void trim_end(char *s, size_t *len)
{
  while (*len && (s[*len - 1] == '\n' || s[*len - 1] == '\r' || s[*len - 1] == ' '))
    s[--*len] = 0;
}

static int sts_url(const struct prelux_aws_sources *s, char out[URL_BYTES])
{
  const char *given = prelux_aws_env(s, "AWS_ENDPOINT_URL_STS");
  if (!given)
    given = prelux_aws_env(s, "AWS_ENDPOINT_URL");
  int n;
  if (given)
    n = snprintf(out, URL_BYTES, "%s%s", given, given[strlen(given) - 1] == '/' ? "" : "/");
  else if (s->region)
    n = snprintf(out, URL_BYTES, "https://sts.%s.amazonaws.com%s/", s->region,
                 strncmp(s->region, "cn-", 3) == 0 ? ".cn" : "");
  else
    n = snprintf(out, URL_BYTES, "https://sts.amazonaws.com/");
  return n < 0 || n >= URL_BYTES ? -EINVAL : 0;
}

/* One call; form is a query with its '?', and is wiped and freed here. by: signed with these keys; NULL: not signed. */
static int sts_call(const struct prelux_aws_sources *s, char *form, const struct prelux_aws_keys *by,
                    struct prelux_aws_set *ret, struct prelux_problem *why)
{
  char url[URL_BYTES], payload[65];
  struct prelux_aws_headers signature = {{NULL}};
  const char *headers[PRELUX_AWS_HEADERS + 2] = {"Content-Type: application/x-www-form-urlencoded; charset=utf-8"};
  struct prelux_net_answer a;
  size_t len = strlen(form);
  int rc = sts_url(s, url) < 0 ? prelux_problem(why, EACCES, "STS: no URL") : 0;
  struct prelux_aws_request to_sign = {.method = "POST",
                                       .url = url,
                                       .payload = payload,
                                       .region = s->region ? s->region : "us-east-1",
                                       .service = "sts",
                                       .when_s = (int64_t)time(NULL)};
  if (rc == 0 && by &&
      (prelux_aws_payload(form + 1, len - 1, payload) < 0 || prelux_aws_sign(by, &to_sign, &signature) < 0))
    rc = prelux_problem(why, EACCES, "STS: cannot sign");
  for (size_t i = 0; i < PRELUX_AWS_HEADERS && signature.lines[i]; i++)
    headers[i + 1] = signature.lines[i];
  struct prelux_net_request req = {.method = "POST",
                                   .url = url,
                                   .headers = headers,
                                   .body = form + 1,
                                   .body_len = len - 1,
                                   .connect_ms = 5000,
                                   .stall_s = 15,
                                   .retries = 2};
  if (rc == 0 && call(s, &req, "STS", &a, why) < 0)
    rc = -EACCES; /* configured, so its silence counts */
  explicit_bzero(form, len);
  free(form);
  prelux_aws_headers_release(&signature);
  if (rc < 0)
    return rc;
  rc = set_of_sts(&a, ret, why);
  wipe_answer(&a);
  return rc;
}

struct parameter
{
  const char *name, *value; /* NULL: left out */
};

/* NULL: no memory. `session`: NULL makes one. */
static char *sts_form(const char *action, const char *session, const struct parameter *more, size_t n)
{
  char own[64];
  snprintf(own, sizeof(own), "prelux-%lld", (long long)time(NULL));
  session = session ? session : own;
  size_t cap = 3 * strlen(session) + 256;
  for (size_t i = 0; i < n; i++)
    cap += more[i].value ? 3 * strlen(more[i].value) + 64 : 0;
  char *form = calloc(1, cap);
  if (!form)
    return NULL;
  prelux_aws_query(form, cap, "Action", action, strlen(action));
  prelux_aws_query(form, cap, "RoleSessionName", session, strlen(session));
  prelux_aws_query(form, cap, "Version", "2011-06-15", 10);
  for (size_t i = 0; i < n; i++)
    if (more[i].value)
      prelux_aws_query(form, cap, more[i].name, more[i].value, strlen(more[i].value));
  return form;
}

int prelux_aws_assume_by_token(const struct prelux_aws_sources *s, const char *role, const char *token_file,
                               const char *session, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  char *token;
  size_t len;
  int rc = prelux_aws_read_file(token_file, TOKEN_FILE_MAX, &token, &len);
  if (rc < 0)
    return prelux_problem(why, EACCES, "web identity token %s: %s", token_file, strerror(-rc));
  trim_end(token, &len);
  const struct parameter more[] = {{"RoleArn", role}, {"WebIdentityToken", token}};
  char *form = sts_form("AssumeRoleWithWebIdentity", session, more, 2);
  explicit_bzero(token, len);
  free(token);
  return form ? sts_call(s, form, NULL, ret, why) : prelux_problem(why, ENOMEM, "STS: no memory");
}

int prelux_aws_assume_by_keys(const struct prelux_aws_sources *s, const struct prelux_aws_profile *p,
                              const struct prelux_aws_keys *by, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  const struct parameter more[] = {{"RoleArn", prelux_aws_profile_get(p, "role_arn")},
                                   {"ExternalId", prelux_aws_profile_get(p, "external_id")},
                                   {"DurationSeconds", prelux_aws_profile_get(p, "duration_seconds")}};
  char *form = sts_form("AssumeRole", prelux_aws_profile_get(p, "role_session_name"), more, 3);
  return form ? sts_call(s, form, by, ret, why) : prelux_problem(why, ENOMEM, "STS: no memory");
}

int prelux_aws_from_web_identity(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                                 struct prelux_problem *why)
{
  const char *file = prelux_aws_env(s, "AWS_WEB_IDENTITY_TOKEN_FILE"), *role = prelux_aws_env(s, "AWS_ROLE_ARN");
  if (!file)
    return prelux_problem(why, ENOENT, "AWS_WEB_IDENTITY_TOKEN_FILE is not set");
  if (!role)
    return prelux_problem(why, EACCES, "AWS_WEB_IDENTITY_TOKEN_FILE is set, but not AWS_ROLE_ARN");
  return prelux_aws_assume_by_token(s, role, file, prelux_aws_env(s, "AWS_ROLE_SESSION_NAME"), ret, why);
}

/* Container */

bool prelux_aws_container_url(const char *url)
{
  static const char *const hosts[] = {"localhost", "[::1]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"};
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0 || u.has_user)
    return false;
  if (u.https)
    return true;
  for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
    if (strlen(hosts[i]) == u.host_len && strncmp(hosts[i], u.host, u.host_len) == 0)
      return true;
  char host[16];
  unsigned a, b, c, d;
  int end = 0;
  if (u.host_len >= sizeof(host))
    return false;
  snprintf(host, sizeof(host), "%.*s", (int)u.host_len, u.host);
  return sscanf(host, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &end) == 4 && (size_t)end == u.host_len && a == 127 &&
         b < 256 && c < 256 && d < 256;
}

/* "Authorization: ..." or NULL; free and wipe. The file is read each time: it is renewed there. */
static int container_header(const struct prelux_aws_sources *s, char **ret, struct prelux_problem *why)
{
  const char *file = prelux_aws_env(s, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  const char *token = prelux_aws_env(s, "AWS_CONTAINER_AUTHORIZATION_TOKEN");
  char *text = NULL;
  size_t len = 0;
  int rc = file ? prelux_aws_read_file(file, TOKEN_FILE_MAX, &text, &len) : 0;
  *ret = NULL;
  if (rc < 0)
    return prelux_problem(why, EACCES, "container: token %s: %s", file, strerror(-rc));
  if (text)
    trim_end(text, &len);
  token = text ? text : token;
  for (const char *c = token ? token : ""; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 0x7f)
      rc = prelux_problem(why, EACCES, "container: the authorization token holds a control character");
  if (rc == 0 && token && asprintf(ret, "Authorization: %s", token) < 0)
    rc = prelux_problem(why, ENOMEM, "container: no memory");
  if (text)
    explicit_bzero(text, len);
  free(text);
  return rc;
}

int prelux_aws_from_container(const struct prelux_aws_sources *s, struct prelux_aws_set *ret,
                              struct prelux_problem *why)
{
  const char *relative = prelux_aws_env(s, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
  const char *full = prelux_aws_env(s, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
  char url[URL_BYTES], *header;
  if (!relative && !full)
    return prelux_problem(why, ENOENT, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and _FULL_URI are not set");
  int n = relative ? snprintf(url, sizeof(url), "http://169.254.170.2%s", relative)
                   : snprintf(url, sizeof(url), "%s", full);
  if (n < 0 || n >= URL_BYTES || (relative && relative[0] != '/') || !prelux_aws_container_url(url))
    return prelux_problem(why, EACCES, "container: the URI is neither https nor one of loopback, ECS or EKS");
  int rc = container_header(s, &header, why);
  if (rc < 0)
    return rc;
  const char *const headers[] = {"Accept: application/json", header, NULL};
  bool near = strncmp(url, "https:", 6) != 0; /* by plain HTTP only the machine itself is asked; what TLS leads to may be anywhere */
  struct prelux_net_request req = {
      .method = "GET", .url = url, .headers = headers, .direct = near, .connect_ms = 2000, .stall_s = 5, .retries = 2};
  struct prelux_net_answer a;
  rc = call(s, &req, "container", &a, why);
  if (header)
    explicit_bzero(header, strlen(header));
  free(header);
  if (rc < 0)
    return -EACCES;
  rc = set_of_json(&a, "container", ret, why);
  wipe_answer(&a);
  return rc;
}

/* Instance: version 2 of the service only, whose token other machines cannot get by way of a careless proxy. */

static int instance_get(const struct prelux_aws_sources *s, const char *base, const char *path, const char *token,
                        struct prelux_net_answer *ret, struct prelux_problem *why)
{
  char url[URL_BYTES];
  const char *const headers[] = {token, NULL};
  snprintf(url, sizeof(url), "%s/latest/meta-data/iam/security-credentials/%s", base, path);
  struct prelux_net_request req = {
      .method = "GET", .url = url, .headers = headers, .direct = true, .connect_ms = 1000, .stall_s = 2, .retries = 1};
  int rc = call(s, &req, "instance", ret, why);
  if (rc < 0 && ret->status == 404)
    rc = prelux_problem(why, ENOENT, "the instance has no role");
  return rc;
}

static int instance_token(const struct prelux_aws_sources *s, const char *base, char **ret, struct prelux_problem *why)
{
  static const char *const headers[] = {"X-aws-ec2-metadata-token-ttl-seconds: 21600", NULL};
  char url[URL_BYTES];
  snprintf(url, sizeof(url), "%s/latest/api/token", base);
  struct prelux_net_request req = {
      .method = "PUT", .url = url, .headers = headers, .direct = true, .connect_ms = 1000, .stall_s = 2, .again = no_retry};
  struct prelux_net_answer a;
  int rc = call(s, &req, "instance", &a, why);
  if (rc < 0)
    return -ENOENT; /* no such machine, or its metadata are not for us */
  bool plain = a.body_len > 0 && a.body_len < 4096 &&
               strspn(a.body, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-.") == a.body_len;
  if (!plain)
    rc = prelux_problem(why, ENOENT, "instance: no token where one should be");
  else if (asprintf(ret, "X-aws-ec2-metadata-token: %s", a.body) < 0)
    rc = prelux_problem(why, ENOMEM, "instance: no memory");
  wipe_answer(&a);
  return rc;
}

static int instance_set(const struct prelux_aws_sources *s, const char *base, const char *token,
                        struct prelux_aws_set *ret, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  char role[512];
  int rc = instance_get(s, base, "", token, &a, why);
  if (rc < 0)
    return rc;
  size_t len = strcspn(a.body, "\r\n");
  bool fits = len > 0 && prelux_url_encode(role, sizeof(role), a.body, len) > 0;
  prelux_net_answer_free(&a);
  if (!fits)
    return prelux_problem(why, ENOENT, "the instance has no role");
  rc = instance_get(s, base, role, token, &a, why);
  if (rc < 0)
    return rc;
  rc = set_of_json(&a, "instance", ret, why);
  wipe_answer(&a);
  return rc;
}

int prelux_aws_from_instance(const struct prelux_aws_sources *s, struct prelux_aws_set *ret, struct prelux_problem *why)
{
  const char *off = prelux_aws_env(s, "AWS_EC2_METADATA_DISABLED"),
             *given = prelux_aws_env(s, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
  char base[URL_BYTES - 256], *token = NULL;
  if (off && strcasecmp(off, "true") == 0)
    return prelux_problem(why, ENOENT, "AWS_EC2_METADATA_DISABLED");
  int n = snprintf(base, sizeof(base), "%s", given ? given : "http://169.254.169.254");
  if (n < 0 || n >= (int)sizeof(base))
    return prelux_problem(why, EACCES, "AWS_EC2_METADATA_SERVICE_ENDPOINT is too long");
  while (n && base[n - 1] == '/')
    base[--n] = 0;
  int rc = instance_token(s, base, &token, why);
  if (rc == 0)
    rc = instance_set(s, base, token, ret, why);
  if (token)
    explicit_bzero(token, strlen(token));
  free(token);
  return rc;
}
