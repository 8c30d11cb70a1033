/* Membership from etcd, by its JSON gateway: keys and values are base64, int64 are strings, an empty answer has no `kvs`.
 * End points are tried in turn, the one that answered last first. With a user a token is asked for; it may die any time (a
 * restart of etcd, five minutes), so a refusal with an old token is answered with a new one, once. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_roster.h"
#include "lib/backend/json_array.h"

#define KEY_MAX 512
#define PREFIX "/ServiceDiscovery/"

static char *base64(const char *s)
{
  size_t len = strlen(s);
  char *out = malloc((len + 2) / 3 * 4 + 1);
  if (out)
    EVP_EncodeBlock((unsigned char *)out, (const unsigned char *)s, (int)len);
  return out;
}

/* malloc'd and NUL-terminated; NULL: no base64, or no memory. */
static char *unbase64(const char *s, size_t *ret_len)
{
  size_t len = strlen(s);
  if (len % 4 || len > INT32_MAX)
    return NULL;
  unsigned char *out = malloc(len / 4 * 3 + 1);
  int n = out ? EVP_DecodeBlock(out, (const unsigned char *)s, (int)len) : -1;
  for (size_t i = len; n > 0 && i > 0 && i + 2 > len && s[i - 1] == '='; i--)
    n--;
  if (n < 0)
  {
    free(out);
    return NULL;
  }
  out[n] = 0;
  *ret_len = (size_t)n;
  return (char *)out;
}

/* One POST; 0 and the answer (any status), or -errno with why. */
static int post(struct prelux_alluxio_etcd *e, const char *call, const cJSON *message, bool with_token, struct prelux_net_answer *ret,
                struct prelux_problem *why)
{
  const char *place = e->options->places[e->place];
  char url[1024], *body = cJSON_PrintUnformatted(message), *token = NULL;
  const char *headers[] = {"Content-Type: application/json", NULL, NULL};
  int err = body ? 0 : -ENOMEM;
  if (err == 0 && with_token && e->token)
  {
    if (asprintf(&token, "Authorization: %s", e->token) < 0)
      token = NULL, err = -ENOMEM;
    headers[1] = token;
  }
  if (err == 0 && snprintf(url, sizeof url, "%s/%s/%s", place, e->beta ? "v3beta" : "v3", call) >= (int)sizeof url)
    err = -ENAMETOOLONG;
  if (err < 0)
    prelux_problem(why, -err, "%s: %s", place, strerror(-err));
  else
  {
    struct prelux_net_request req = {
        .method = "POST", .url = url, .headers = headers, .body = body, .body_len = strlen(body), .tls = &e->options->etcd_tls,
        .connect_ms = PRELUX_ALLUXIO_ETCD_CONNECT_MS, .stall_s = PRELUX_ALLUXIO_ETCD_STALL_S, .cancel = e->stop};
    err = prelux_net_call(e->net, &req, ret, why);
  }
  if (token)
    explicit_bzero(token, strlen(token));
  free(token);
  if (body) /* it may hold the password */
    explicit_bzero(body, strlen(body));
  cJSON_free(body);
  return err;
}

/* What etcd says in an answer that is not 200. */
static int refused(const struct prelux_alluxio_etcd *e, const char *call, const struct prelux_net_answer *a, struct prelux_problem *why)
{
  cJSON *o = a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "message"));
  if (!text)
    text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "error"));
  prelux_problem(why, EIO, "%s %s: HTTP %d%s%.200s", e->options->places[e->place], call, a->status, text ? ": " : "", text ? text : "");
  if (why && text && strstr(text, "user name is empty"))
    snprintf(why->advice, sizeof why->advice, "give etcd_user and etcd_password");
  cJSON_Delete(o);
  return -EIO;
}

static void wipe(cJSON *text)
{
  if (cJSON_IsString(text))
    explicit_bzero(text->valuestring, strlen(text->valuestring));
}

static void forget_token(struct prelux_alluxio_etcd *e)
{
  if (e->token)
    explicit_bzero(e->token, strlen(e->token));
  free(e->token);
  e->token = NULL;
}

static int log_in(struct prelux_alluxio_etcd *e, int *ret_status, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  cJSON *m = cJSON_CreateObject(), *o = NULL;
  cJSON_AddStringToObject(m, "name", e->options->etcd_user);
  cJSON_AddStringToObject(m, "password", e->options->etcd_password);
  forget_token(e);
  int err = post(e, "auth/authenticate", m, false, &a, why);
  *ret_status = err == 0 ? a.status : 0;
  if (err == 0 && a.status != 200)
    err = refused(e, "auth/authenticate", &a, why);
  if (err == 0)
  {
    o = a.body ? prelux_json_object(a.body, a.body_len) : NULL;
    const char *token = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "token"));
    if (!token || strpbrk(token, "\r\n"))
      err = prelux_problem(why, EIO, "%s: no token in the answer to auth/authenticate", e->options->places[e->place]);
    else if (!(e->token = strdup(token)))
      err = -ENOMEM;
  }
  wipe(cJSON_GetObjectItem(m, "password"));
  wipe(cJSON_GetObjectItemCaseSensitive(o, "token"));
  cJSON_Delete(m);
  cJSON_Delete(o);
  if (a.body)
    explicit_bzero(a.body, a.body_len);
  prelux_net_answer_free(&a);
  return err;
}

static cJSON *range_message(const char *cluster)
{
  char from[KEY_MAX], to[KEY_MAX];
  if (snprintf(from, sizeof from, PREFIX "%s/", cluster) >= (int)sizeof from)
    return NULL;
  snprintf(to, sizeof to, PREFIX "%s0", cluster); /* '0' follows '/': without the slash cluster X would see the workers of X2 */
  cJSON *m = cJSON_CreateObject();
  char *key = base64(from), *end = base64(to);
  cJSON_AddStringToObject(m, "key", key ? key : "");
  cJSON_AddStringToObject(m, "range_end", end ? end : "");
  if (!key || !end)
  {
    cJSON_Delete(m);
    m = NULL;
  }
  free(key);
  free(end);
  return m;
}

static int64_t whole(const cJSON *o, const char *name)
{
  const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
  return cJSON_IsString(v) ? strtoll(v->valuestring, NULL, 10) : cJSON_IsNumber(v) ? (int64_t)v->valuedouble : 0;
}

/* -EINVAL: nobody can read it; Alluxio's own clients skip such values. */
static int add_value(const struct prelux_alluxio_options *options, const cJSON *value, int64_t birth, struct prelux_alluxio_roster *ret)
{
  const cJSON *address = cJSON_GetObjectItemCaseSensitive(value, "WorkerNetAddress");
  const cJSON *identity = cJSON_GetObjectItemCaseSensitive(value, "Identity");
  const char *host = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(address, "Host"));
  const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(identity, "identifier"));
  const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(value, "State"));
  struct prelux_alluxio_identity parsed;
  int64_t port = whole(address, "HttpServerPort");
  if (!host || (identity && !id) || (state && strcmp(state, "DECOMMISSIONED") == 0))
    return -EINVAL;
  if (id && prelux_alluxio_identity_parse(id, (int32_t)whole(identity, "version"), &parsed) < 0)
    return -EINVAL;
  if (!cJSON_GetObjectItemCaseSensitive(address, "HttpServerPort")) /* 304 to 307 do not say it */
    port = options->http_port;
  return prelux_alluxio_roster_add(ret, host, strlen(host), port > 0 && port < 65536 ? (unsigned)port : 0, id ? &parsed : NULL, birth);
}

static int add_row(struct prelux_alluxio_etcd *e, const cJSON *row, struct prelux_alluxio_roster *ret)
{
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "value"));
  size_t len = 0;
  char *plain = text ? unbase64(text, &len) : NULL;
  cJSON *value = plain ? prelux_json_object(plain, len) : NULL;
  /* A worker that comes back before its lease has ended writes over its key, which then is as old as before; only this is new. */
  int64_t birth = whole(row, "mod_revision");
  int err = value ? add_value(e->options, value, birth ? birth : whole(row, "create_revision"), ret) : -EINVAL;
  cJSON_Delete(value);
  free(plain);
  if (err != -EINVAL)
    return err;
  e->skipped++;
  return 0;
}

static int take_answer(struct prelux_alluxio_etcd *e, const struct prelux_net_answer *a, struct prelux_alluxio_roster *ret,
                       struct prelux_problem *why)
{
  cJSON *o = a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const cJSON *kvs = cJSON_GetObjectItemCaseSensitive(o, "kvs"), *row;
  int err = 0;
  e->skipped = 0;
  if (!o || !cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(o, "header")) || (kvs && !cJSON_IsArray(kvs)))
    err = prelux_problem(why, EIO, "%s: the answer to kv/range is not etcd's", e->options->places[e->place]);
  cJSON_ArrayForEach(row, kvs) if (err == 0 && (err = add_row(e, row, ret)) < 0)
      prelux_problem(why, -err, "%s: %s", e->options->places[e->place], err == -E2BIG ? "too many workers" : strerror(-err));
  cJSON_Delete(o);
  return err;
}

/* One range at one end point. *ret_status: HTTP status when it is not 200. */
static int range(struct prelux_alluxio_etcd *e, const cJSON *message, struct prelux_alluxio_roster *ret, int *ret_status,
                 struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  *ret_status = 0;
  int err = post(e, "kv/range", message, true, &a, why);
  if (err == 0 && a.status != 200)
  {
    *ret_status = a.status;
    err = refused(e, "kv/range", &a, why);
  }
  if (err == 0)
    err = take_answer(e, &a, ret, why);
  prelux_net_answer_free(&a);
  return err;
}

static int ask_place(struct prelux_alluxio_etcd *e, const cJSON *message, struct prelux_alluxio_roster *ret, struct prelux_problem *why)
{
  bool fresh = false;
  int status, err = 0;
  for (int round = 0; round < 4; round++)
  {
    if (e->options->etcd_user && !e->token)
    {
      err = log_in(e, &status, why);
      fresh = true;
    }
    else
      err = 0;
    prelux_alluxio_roster_release(ret);
    if (err == 0)
      err = range(e, message, ret, &status, why);
    if (err < 0 && status == 404)
      e->beta = !e->beta; /* 3.3 has /v3beta only, 3.5 has /v3 only */
    else if (err < 0 && e->token && !fresh && (status == 400 || status == 401 || status == 403))
      forget_token(e);
    else
      return err;
  }
  return err;
}

int prelux_alluxio_etcd_fetch(struct prelux_alluxio_etcd *e, struct prelux_alluxio_roster *ret, struct prelux_problem *why)
{
  struct prelux_problem last = {0};
  cJSON *message = range_message(e->options->cluster);
  int err = message ? -EIO : -ENOMEM;
  size_t n = e->options->n_places;
  *ret = (struct prelux_alluxio_roster){0};
  for (size_t i = 0; message && i < n && !atomic_load(e->stop); i++)
  {
    last = (struct prelux_problem){0};
    err = ask_place(e, message, ret, &last);
    if (err == 0 || err == -ENOMEM)
      break;
    err = -EIO;
    e->place = (e->place + 1) % n;
  }
  cJSON_Delete(message);
  if (err < 0)
  {
    prelux_problem(why, -err, "membership from etcd: %.400s", last.text[0] ? last.text : strerror(-err));
    if (why)
      memcpy(why->advice, last.advice, sizeof why->advice);
  }
  return err;
}

void prelux_alluxio_etcd_release(struct prelux_alluxio_etcd *e)
{
  forget_token(e);
}
