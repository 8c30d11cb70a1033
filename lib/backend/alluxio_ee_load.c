/* Load jobs: GET /v1/load on a worker, or the coordinator's /api/v1/load where one is configured.
 *
 * A job belongs to a path. What is under way is attached to; a submit that had no answer is not sent again before its progress has been
 * asked. The coordinator knows jobs by an alias, here made of the path, so that any node finds a job again; it has no call that
 * stops one. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/backend/json_array.h"

#define ANSWER_MAX (4u << 20)

struct job
{
  struct prelux_ee *e;
  const char *ufs;
  const struct prelux_load_options *options;
  struct prelux_load *ret;
  struct prelux_problem *why;
};

static bool under_way(const struct prelux_load *l)
{
  return l->state == PRELUX_LOAD_STARTING || l->state == PRELUX_LOAD_RUNNING;
}

static int read_answer(const struct job *j, const struct prelux_net_answer *a, int rc, const char *host, cJSON **ret)
{
  if (rc < 0)
    return rc;
  if (a->status < 200 || a->status >= 300)
    return prelux_ee_refused(a, "load", j->ufs, host, j->why);
  *ret = a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  return *ret ? 0 : prelux_problem(j->why, EPROTO, "load %.300s: %s: the answer is not JSON", j->ufs, host);
}

/* Worker */

static int ask_worker(const struct job *j, const char *host, const char *verb, cJSON **ret)
{
  char more[64];
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = ANSWER_MAX, .lone = true, .once = true};
  snprintf(more, sizeof(more), "&opType=%s&verbose=false", verb);
  int rc = prelux_ee_get(j->e, host, "load", j->ufs, more, &req, &a, j->why);
  rc = read_answer(j, &a, rc, host, ret);
  prelux_net_answer_free(&a);
  return rc;
}

static int worker_progress(const struct job *j, const char *host)
{
  struct prelux_load got;
  cJSON *o = NULL;
  int rc = ask_worker(j, host, "progress", &o);
  if (rc == 0 && !prelux_alluxio_load_told(o, &got))
    rc = prelux_problem(j->why, EPROTO, "load %.300s: worker %s tells no state of the job", j->ufs, host);
  if (rc == 0)
    *j->ret = got;
  cJSON_Delete(o);
  return rc;
}

static int worker_submit(const struct job *j, const char *host)
{
  cJSON *o = NULL;
  int rc = ask_worker(j, host, "submit", &o);
  bool done = rc == 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "success"));
  cJSON_Delete(o);
  if (done)
  {
    *j->ret = (struct prelux_load){.state = PRELUX_LOAD_STARTING};
    return 0;
  }
  if (rc < 0 && prelux_ee_final(rc) && rc != -EEXIST)
    return rc;
  struct prelux_load was = *j->ret, now = {0};
  struct job look = *j;
  look.why = NULL;
  look.ret = &now;
  if (worker_progress(&look, host) < 0 || !under_way(&now))
  {
    *j->ret = was;
    return rc < 0 ? rc : prelux_problem(j->why, EIO, "load %.300s: worker %s refuses the job", j->ufs, host);
  }
  *j->ret = now;
  j->ret->attached = true;
  return 0;
}

static int worker_stop(const struct job *j, const char *host)
{
  cJSON *o = NULL;
  int rc = ask_worker(j, host, "stop", &o);
  bool done = rc == 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "success"));
  if (rc == 0)
    *j->ret = (struct prelux_load){.state = done ? PRELUX_LOAD_STOPPED : PRELUX_LOAD_UNKNOWN};
  cJSON_Delete(o);
  return rc;
}

/* Of the path's owner: which other worker knows of its job, nobody has written. */
static int by_worker(const struct job *j, enum prelux_load_verb verb)
{
  struct prelux_ee_round r;
  const struct prelux_load_options *o = j->options;
  if (o && (o->verify || o->metadata_only || o->skip_if_exists || o->partial_listing || o->bandwidth))
    return prelux_problem(j->why, EOPNOTSUPP, "load %.300s: a worker of Enterprise AI takes no options of load jobs", j->ufs);
  prelux_ee_round_init(j->e, j->ufs, &r);
  if (r.n == 0)
    return prelux_problem(j->why, EIO, "load %.300s: there is no worker to ask", j->ufs);
  int rc = verb == PRELUX_LOAD_SUBMIT ? worker_submit(j, r.hosts[0]) : verb == PRELUX_LOAD_STOP ? worker_stop(j, r.hosts[0])
                                                                                                : worker_progress(j, r.hosts[0]);
  if (!prelux_ee_final(rc))
    prelux_ee_failed(j->e, r.hosts[0], j->ufs);
  return prelux_ee_error(rc);
}

/* Coordinator */

static int alias_of(const char *ufs, char out[32])
{
  char id[PRELUX_ALLUXIO_ID_SIZE];
  if (prelux_alluxio_file_id(ufs, id) < 0)
    return -EIO;
  snprintf(out, 32, "prelux-%.16s", id);
  return 0;
}

static int ask_coordinator(const struct job *j, const char *query, const char *body, cJSON **ret)
{
  static const char *const headers[] = {"Content-Type: application/json", NULL};
  struct prelux_net_answer a = {0};
  char *url;
  if (asprintf(&url, "http://%s/api/v1/load%s", j->e->coordinator, query) < 0)
    return prelux_problem(j->why, ENOMEM, "no memory for a URL");
  struct prelux_net_request req = {
      .method = body ? "POST" : "GET",
      .url = url,
      .headers = headers,
      .body = body,
      .body_len = body ? strlen(body) : 0,
      .max_body = ANSWER_MAX,
      .once = body != NULL,
      .connect_ms = PRELUX_EE_CONNECT_MS,
      .stall_s = PRELUX_EE_STALL_S,
  };
  int rc = read_answer(j, &a, prelux_net_call(j->e->net, &req, &a, j->why), j->e->coordinator, ret);
  prelux_net_answer_free(&a);
  free(url);
  return rc;
}

/* Which words there are besides those of workers, nobody has written: what is none of an end is under way. */
static enum prelux_load_state state_of(const char *s)
{
  if (strcasestr(s, "FAIL"))
    return PRELUX_LOAD_FAILED;
  if (strcasestr(s, "SUCCE") || strcasestr(s, "COMPLETE"))
    return PRELUX_LOAD_DONE;
  return strcasestr(s, "STOP") || strcasestr(s, "CANCEL") ? PRELUX_LOAD_STOPPED : PRELUX_LOAD_RUNNING;
}

static uint64_t bytes(const cJSON *o, const char *name)
{
  const cJSON *n = cJSON_GetObjectItemCaseSensitive(o, name);
  return cJSON_IsNumber(n) && n->valuedouble > 0 && n->valuedouble < 9e18 ? (uint64_t)n->valuedouble : 0;
}

static int coordinator_progress(const struct job *j, const char *alias)
{
  char query[64];
  cJSON *o = NULL;
  snprintf(query, sizeof(query), "?alias=%s", alias);
  int rc = ask_coordinator(j, query, NULL, &o);
  const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "state"));
  if (rc == 0 && !state)
    rc = prelux_problem(j->why, EPROTO, "load %.300s: the coordinator tells no state of the job", j->ufs);
  if (rc == -ENOENT)
  {
    *j->ret = (struct prelux_load){.state = PRELUX_LOAD_UNKNOWN};
    rc = 0;
  }
  else if (rc == 0 && state)
  {
    *j->ret = (struct prelux_load){
        .state = state_of(state), .bytes_done = bytes(o, "loadedBytes"), .bytes_total = bytes(o, "totalBytes")};
    snprintf(j->ret->job, sizeof(j->ret->job), "%s", alias);
    snprintf(j->ret->text, sizeof(j->ret->text), "%.200s", state);
  }
  cJSON_Delete(o);
  return rc;
}

static char *order_of(const struct job *j, const char *alias)
{
  cJSON *o = cJSON_CreateObject(), *paths = cJSON_AddArrayToObject(o, "paths");
  cJSON *options = cJSON_AddStringToObject(o, "alias", alias) ? cJSON_AddObjectToObject(o, "options") : NULL;
  bool whole = options && cJSON_AddItemToArray(paths, cJSON_CreateString(j->ufs));
  if (whole && j->options && j->options->skip_if_exists)
    whole = cJSON_AddTrueToObject(options, "skipIfExists") != NULL;
  char *text = whole ? cJSON_PrintUnformatted(o) : NULL;
  cJSON_Delete(o);
  return text;
}

static int coordinator_submit(const struct job *j, const char *alias)
{
  struct prelux_load was = *j->ret;
  int rc = coordinator_progress(j, alias);
  if (rc == 0 && under_way(j->ret))
  {
    j->ret->attached = true;
    return 0;
  }
  *j->ret = was;
  char *order = rc == 0 ? order_of(j, alias) : NULL;
  cJSON *o = NULL;
  if (rc == 0)
    rc = order ? ask_coordinator(j, "", order, &o) : prelux_problem(j->why, ENOMEM, "no memory for a load job");
  if (rc == 0)
  {
    *j->ret = (struct prelux_load){.state = PRELUX_LOAD_STARTING};
    snprintf(j->ret->job, sizeof(j->ret->job), "%s", alias);
  }
  free(order);
  cJSON_Delete(o);
  return rc;
}

static int by_coordinator(const struct job *j, enum prelux_load_verb verb)
{
  const struct prelux_load_options *o = j->options;
  char alias[32];
  if (verb == PRELUX_LOAD_STOP)
    return prelux_problem(j->why, EOPNOTSUPP, "load %.300s: the coordinator cannot stop a job", j->ufs);
  if (o && (o->verify || o->metadata_only || o->partial_listing || o->bandwidth))
    return prelux_problem(j->why, EOPNOTSUPP, "load %.300s: the coordinator takes no such option", j->ufs);
  if (alias_of(j->ufs, alias) < 0)
    return prelux_problem(j->why, EIO, "load %.300s: no alias can be made", j->ufs);
  return prelux_ee_error(verb == PRELUX_LOAD_SUBMIT ? coordinator_submit(j, alias) : coordinator_progress(j, alias));
}

int prelux_ee_load(struct prelux_backend *b, const char *path, enum prelux_load_verb verb, const struct prelux_load_options *options,
                   struct prelux_load *ret, struct prelux_problem *why)
{
  struct prelux_ee *e = (struct prelux_ee *)b;
  const char *scheme = strstr(path, "://"), *plain = scheme ? scheme + 3 : path;
  size_t cap = strlen(e->options.root) + strlen(path) + 8;
  char *ufs = malloc(cap);
  if (!ufs)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct job j = {.e = e, .ufs = ufs, .options = options, .ret = ret, .why = why};
  int rc;
  if (prelux_alluxio_ufs_path(&e->options, path, ufs, cap) < 0 || strpbrk(plain, "%+") ||
      prelux_alluxio_name_way(plain) == PRELUX_ALLUXIO_NAME_NONE)
    rc = prelux_problem(why, EOPNOTSUPP, "/%.300s: no path of this cluster's", path);
  else
    rc = e->coordinator ? by_coordinator(&j, verb) : by_worker(&j, verb);
  free(ufs);
  return rc;
}
