/* Load jobs: GET /v1/load on a worker, which hands it on to the master (PROTOCOLS 0.3, 2A.6).
 *
 * A worker closes the connection on the submit of a job that runs already, as it does on any error: so the progress is asked
 * then, and a job that runs is one to attach to. Progress comes as text, whose sizes are rounded and which says NaN before the
 * first file; the same as JSON has exact numbers but no state of its own, and is nothing at all as long as there are NaNs. So the
 * text tells the state, and the JSON, where there is one, the bytes. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/alluxio_members.h"
#include "lib/backend/alluxio_names.h"
#include "lib/backend/json_array.h"

#define ANSWER_MAX (4u << 20) /* a failed job lists files */
#define CONNECT_MS 2000u
#define WORKERS_MAX 8

struct call
{
  struct prelux_net *net;
  const char *path; /* full UFS path */
  const struct prelux_alluxio_worker *worker;
  struct prelux_problem *why;
};

/* -ENOENT and the like when nothing came, 1: the worker closed without a word; 0 and *ret (to be deleted). */
static int ask(const struct call *c, const char *verb, const char *more, cJSON **ret)
{
  struct prelux_net_answer a = {0};
  struct prelux_problem cause = {0};
  char *url = NULL;
  if (asprintf(&url, "%s/v1/load?path=%s&opType=%s%s", c->worker->http, c->path, verb, more) < 0)
    return prelux_problem(c->why, ENOMEM, "no memory for a URL");
  /* On a connection of its own: curl would send a request again that an old connection did not answer. */
  struct prelux_net_request req = {.method = "GET", .url = url, .max_body = ANSWER_MAX, .lone = true, .connect_ms = CONNECT_MS};
  int err = prelux_net_call(c->net, &req, &a, &cause);
  free(url);
  if (err == -EIO && a.status == 0)
    err = 1;
  else if (err == 0 && a.status != 200)
    err = prelux_problem(&cause, EIO, "%s: HTTP %d to a load job", c->worker->http, a.status);
  else if (err == 0 && (!a.body || !(*ret = prelux_json_object(a.body, a.body_len))))
    err = prelux_problem(&cause, EPROTO, "%s: the answer about a load job is not JSON", c->worker->http);
  if (err < 0)
    prelux_alluxio_health_failed(c->worker->health, PRELUX_ALLUXIO_HTTP, &cause);
  else if (err == 1)
    prelux_alluxio_health_done(c->worker->health, PRELUX_ALLUXIO_HTTP);
  else
    prelux_alluxio_health_ok(c->worker->health, PRELUX_ALLUXIO_HTTP);
  if (err != 0 && c->why)
    *c->why = cause;
  prelux_net_answer_free(&a);
  return err;
}

/* The remote's words: tabs and blanks at the ends away. */
static void copy_text(char *out, size_t cap, const char *text)
{
  text += strspn(text ? text : "", " \t\n");
  size_t n = strlen(text);
  while (n && strchr(" \t\n", text[n - 1]))
    n--;
  if (n >= cap)
    for (n = cap - 1; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
      n--;
  memcpy(out, text, n);
  out[n] = 0;
}

static const char *string_of(const cJSON *o, const char *key)
{
  const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
  return s ? s : "";
}

/* "29.30KB out of 43.95KB" -> both, rounded as they are. */
static void rough_bytes(const char *s, struct prelux_load *ret)
{
  static const char units[] = "KMGTPE";
  uint64_t *into[] = {&ret->bytes_done, &ret->bytes_total};
  for (size_t i = 0; i < 2; i++)
  {
    double v = 0, place = 1;
    for (; *s >= '0' && *s <= '9'; s++) /* by hand: strtod follows the locale */
      v = v * 10 + (*s - '0');
    if (*s == '.')
      for (s++; *s >= '0' && *s <= '9'; s++)
        v += (*s - '0') * (place /= 10);
    const char *unit = *s ? strchr(units, *s) : NULL;
    for (long k = unit ? unit - units : -1; k >= 0; k--)
      v *= 1024;
    *into[i] = v < 9e18 ? (uint64_t)v : 0;
    const char *next = strstr(s, "out of ");
    if (!next)
      return;
    s = next + 7;
  }
}

static void exact_bytes(const struct call *c, struct prelux_load *ret)
{
  cJSON *o = NULL, *inner = NULL;
  struct call quiet = *c;
  quiet.why = NULL;
  if (ask(&quiet, "progress", "&progressFormat=JSON", &o) == 0)
  {
    const char *message = string_of(o, "message"), *from = strstr(message, "\n{");
    inner = from ? prelux_json_object(from + 1, strlen(from + 1)) : NULL;
  }
  const cJSON *done = cJSON_GetObjectItemCaseSensitive(inner, "mLoadedByteCount"),
              *total = cJSON_GetObjectItemCaseSensitive(inner, "mTotalByteCount"),
              *skipped = cJSON_GetObjectItemCaseSensitive(inner, "mSkippedByteCount");
  if (cJSON_IsNumber(done) && cJSON_IsNumber(total) && done->valuedouble >= 0 && total->valuedouble >= 0)
  {
    double sum = done->valuedouble + (cJSON_IsNumber(skipped) && skipped->valuedouble > 0 ? skipped->valuedouble : 0);
    ret->bytes_done = (uint64_t)(sum < total->valuedouble ? sum : total->valuedouble);
    ret->bytes_total = (uint64_t)total->valuedouble;
  }
  cJSON_Delete(inner);
  cJSON_Delete(o);
}

static enum prelux_load_state state_of(const char *state, const char *message)
{
  if (strstr(state, "FAILED"))
    return strstr(message, "cannot be found") ? PRELUX_LOAD_UNKNOWN : PRELUX_LOAD_FAILED;
  if (strstr(state, "SUCCEEDED"))
    return PRELUX_LOAD_DONE;
  if (strstr(state, "STOPPED"))
    return PRELUX_LOAD_STOPPED;
  return strstr(message, "NaN") ? PRELUX_LOAD_STARTING : PRELUX_LOAD_RUNNING;
}

bool prelux_alluxio_load_told(const cJSON *o, struct prelux_load *ret)
{
  const cJSON *properties = cJSON_GetObjectItemCaseSensitive(o, "respProperties");
  const char *state = string_of(o, "jobState"), *message = string_of(o, "message");
  if (!state[0])
    return false;
  *ret = (struct prelux_load){.state = state_of(state, message)};
  rough_bytes(string_of(properties, "Bytes Loaded"), ret);
  ret->files_failed = strtoull(string_of(properties, "Files Failed"), NULL, 10);
  copy_text(ret->text, sizeof ret->text, message);
  return true;
}

static int progress(const struct call *c, struct prelux_load *ret)
{
  struct prelux_load got;
  cJSON *o = NULL;
  int err = ask(c, "progress", "", &o);
  if (err != 0)
    return err;
  if (!prelux_alluxio_load_told(o, &got))
    err = prelux_problem(c->why, EPROTO, "%s: a load job without a state: %.200s", c->worker->http, string_of(o, "message"));
  else
  {
    if (got.state == PRELUX_LOAD_RUNNING || got.state == PRELUX_LOAD_DONE)
      exact_bytes(c, &got);
    *ret = got;
  }
  cJSON_Delete(o);
  return err;
}

static bool under_way(const struct prelux_load *l)
{
  return l->state == PRELUX_LOAD_STARTING || l->state == PRELUX_LOAD_RUNNING;
}

/* "success": false */
static int unsuccessful(const struct call *c, const char *message)
{
  bool missing = strstr(message, "NOT_FOUND") != NULL;
  prelux_problem(c->why, missing ? ENOENT : EIO, "%.300s", message[0] ? message : "the load job was refused");
  if (c->why && !missing)
    snprintf(c->why->advice, sizeof c->why->advice, "load jobs need a master: see the workers' alluxio.master.hostname");
  return missing ? -ENOENT : -EIO;
}

static int submit(const struct call *c, const struct prelux_load_options *options, struct prelux_load *ret)
{
  char more[256], bandwidth[48] = "";
  cJSON *o = NULL;
  if (options->bandwidth)
    snprintf(bandwidth, sizeof bandwidth, "&bandwidth=%llu", (unsigned long long)options->bandwidth);
  snprintf(more, sizeof more, "%s%s%s%s%s", options->verify ? "&verify=true" : "", options->metadata_only ? "&loadMetadataOnly=true" : "",
           options->skip_if_exists ? "&skipIfExists=true" : "", options->partial_listing ? "&partialListing=true" : "", bandwidth);
  int err = ask(c, "submit", more, &o);
  if (err == 1)
  {
    struct prelux_load running;
    err = progress(c, &running);
    if (err == 0 && !under_way(&running))
      return prelux_problem(c->why, EIO, "%s closed the connection on the submit of a load job", c->worker->http);
    if (err == 0)
    {
      *ret = running;
      ret->attached = true;
    }
    return err;
  }
  if (err == 0 && !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "success")))
    err = unsuccessful(c, string_of(o, "message"));
  if (err == 0)
  {
    *ret = (struct prelux_load){.state = PRELUX_LOAD_STARTING};
    copy_text(ret->job, sizeof ret->job, string_of(o, "jobId"));
    copy_text(ret->text, sizeof ret->text, string_of(o, "message"));
  }
  cJSON_Delete(o);
  return err;
}

static int stop(const struct call *c, struct prelux_load *ret)
{
  cJSON *o = NULL;
  int err = ask(c, "stop", "", &o);
  if (err == 0)
  {
    bool stopped = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "success"));
    *ret = (struct prelux_load){.state = stopped ? PRELUX_LOAD_STOPPED : PRELUX_LOAD_UNKNOWN};
    copy_text(ret->text, sizeof ret->text, string_of(o, "message"));
  }
  cJSON_Delete(o);
  return err;
}

static int ask_worker(const struct call *c, enum prelux_load_verb verb, const struct prelux_load_options *options, struct prelux_load *ret)
{
  static const struct prelux_load_options none = {0};
  switch (verb)
  {
  case PRELUX_LOAD_SUBMIT:
    return submit(c, options ? options : &none, ret);
  case PRELUX_LOAD_PROGRESS:
    return progress(c, ret);
  case PRELUX_LOAD_STOP:
    return stop(c, ret);
  default:
    return prelux_problem(c->why, EINVAL, "no such verb of load jobs");
  }
}

/* Another worker may answer what this one did not: all ask the same master. */
static bool final(int err)
{
  return err == 0 || err == -ENOENT || err == -EINVAL || err == -ENOMEM || err == -ECANCELED;
}

int prelux_alluxio_load(struct prelux_alluxio_members *m, struct prelux_net *net, const char *ufs_path, enum prelux_load_verb verb,
                        const struct prelux_load_options *options, struct prelux_load *ret, struct prelux_problem *why)
{
  const struct prelux_alluxio_view *view = NULL;
  const struct prelux_alluxio_worker *workers[WORKERS_MAX];
  const char *scheme = strstr(ufs_path, "://");
  if (prelux_alluxio_name_way(scheme ? scheme + 3 : ufs_path) != PRELUX_ALLUXIO_NAME_BOTH)
    return prelux_problem(why, EOPNOTSUPP, "%s: Alluxio takes no load job for this name", ufs_path);
  int err = prelux_alluxio_view_get(m, &view, why);
  if (err < 0)
    return err;
  size_t n = prelux_alluxio_view_owners(view, ufs_path, WORKERS_MAX, workers);
  err = prelux_problem(why, EIO, n ? "no worker can be asked about a load job" : "no worker of the cluster is registered");
  for (size_t i = 0; i < n; i++)
  {
    struct call c = {.net = net, .path = ufs_path, .worker = workers[i], .why = why};
    if (!prelux_alluxio_health_usable(workers[i]->health, PRELUX_ALLUXIO_HTTP))
      continue;
    err = ask_worker(&c, verb, options, ret);
    if (final(err))
      break;
    if (err == 1)
      err = prelux_problem(why, EIO, "%s closed the connection; has the cluster a master?", workers[i]->http);
  }
  prelux_alluxio_view_put(view);
  return err;
}
