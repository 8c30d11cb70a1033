/* Where an under store's path lies in the cluster's own namespace: the S3 port is asked by that. /v1/ufsInfo on any worker says it:
 * {"s3://data": {"alluxio_path": "/data", ...}, ...}. Beside it stand the under store's keys in plain text: the answer is wiped as
 * soon as it is read, no text of it is ever shown, and only the two paths are kept (and what alluxio_ee_ufs.c keeps, if it is told to). The longest mount at or above a path is
 * the one. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/backend/json_array.h"

#define RENEW_MS 120000
#define AGAIN_MS 5000 /* a path without a mount may have been mounted since */
#define ANSWER_MAX (4u << 20)
#define ROWS_MAX 10000

void prelux_ee_mounts_init(struct prelux_ee_mounts *m)
{
  pthread_mutex_init(&m->asking, NULL);
  pthread_mutex_init(&m->lock, NULL);
}

static void rows_free(struct prelux_ee_mount *rows, size_t n)
{
  for (size_t i = 0; i < n; i++)
  {
    free(rows[i].ufs);
    free(rows[i].path);
  }
  free(rows);
}

void prelux_ee_mounts_release(struct prelux_ee_mounts *m)
{
  rows_free(m->rows, m->n);
  pthread_mutex_destroy(&m->asking);
  pthread_mutex_destroy(&m->lock);
}

static char *without_slash(const char *s)
{
  size_t n = strlen(s);
  while (n && s[n - 1] == '/')
    n--;
  return strndup(s, n);
}

/* Keys are in there as strings: none may stay behind in freed memory. */
void prelux_ee_wipe(cJSON *o)
{
  for (cJSON *c = o ? o->child : NULL; c; c = c->next)
  {
    if (cJSON_IsString(c))
      explicit_bzero(c->valuestring, strlen(c->valuestring));
    prelux_ee_wipe(c);
  }
}

static int read_rows(const cJSON *o, struct prelux_ee_mount **ret, size_t *ret_n)
{
  int count = cJSON_GetArraySize(o);
  if (count > ROWS_MAX)
    return -EPROTO;
  struct prelux_ee_mount *rows = calloc((size_t)count + 1, sizeof(*rows));
  size_t n = 0;
  bool whole = rows != NULL;
  for (const cJSON *c = o->child; c && whole; c = c->next)
  {
    const char *path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c, "alluxio_path"));
    if (!path || path[0] != '/' || !c->string[0])
      continue;
    rows[n].ufs = without_slash(c->string);
    rows[n].path = without_slash(path);
    whole = rows[n].ufs && rows[n].path;
    n++;
  }
  if (!whole)
  {
    rows_free(rows, rows ? n : 0);
    return -ENOMEM;
  }
  *ret = rows;
  *ret_n = n;
  return 0;
}

/* One worker's answer. No text of it gets into *why. */
static int ask_one(struct prelux_ee *e, const char *host, struct prelux_ee_mount **ret, size_t *ret_n, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.max_body = ANSWER_MAX};
  int rc = prelux_ee_get(e, host, "ufsInfo", NULL, "", &req, &a, why);
  if (rc == 0 && a.status != 200)
    rc = prelux_problem(why, a.status == 401 || a.status == 403 ? EACCES : EIO, "ufsInfo: worker %s: HTTP %d", host, a.status);
  if (rc == 0)
  {
    cJSON *o = a.body ? prelux_json_object(a.body, a.body_len) : NULL;
    rc = o ? read_rows(o, ret, ret_n) : -EPROTO;
    if (rc < 0)
      prelux_problem(why, -rc, "ufsInfo: worker %s: the answer is no table of mounts", host);
    if (rc == 0)
      prelux_ee_learn(e, o);
    prelux_ee_wipe(o);
    cJSON_Delete(o);
  }
  if (a.body)
    explicit_bzero(a.body, a.body_len);
  prelux_net_answer_free(&a);
  return rc;
}

static int ask(struct prelux_ee *e, const char *ufs, struct prelux_problem *why)
{
  struct prelux_ee_mounts *m = &e->mounts;
  struct prelux_ee_round r;
  struct prelux_ee_mount *rows = NULL;
  size_t n = 0;
  int rc = prelux_problem(why, EIO, "ufsInfo: there is no worker to ask");
  prelux_ee_round_init(e, ufs, &r);
  for (size_t i = 0; i < r.n && (i == 0 || (rc < 0 && rc != -ECANCELED)); i++)
  {
    rc = ask_one(e, r.hosts[i], &rows, &n, why);
    if (rc < 0 && rc != -EACCES && rc != -ENOMEM)
      prelux_ee_failed(e, r.hosts[i], ufs);
  }
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&m->lock);
  rows_free(m->rows, m->n);
  m->rows = rows;
  m->n = n;
  m->until_ms = prelux_alluxio_now_ms() + RENEW_MS;
  pthread_mutex_unlock(&m->lock);
  return 0;
}

/* NULL: no mount is at or above it. Under the lock. */
static char *replace(const struct prelux_ee_mounts *m, const char *ufs)
{
  const struct prelux_ee_mount *best = NULL;
  size_t best_len = 0;
  char *ret;
  for (size_t i = 0; i < m->n; i++)
  {
    size_t len = strlen(m->rows[i].ufs);
    if (strncmp(ufs, m->rows[i].ufs, len) == 0 && (ufs[len] == 0 || ufs[len] == '/') && (!best || len > best_len))
    {
      best = &m->rows[i];
      best_len = len;
    }
  }
  return best && asprintf(&ret, "%s%s", best->path, ufs + best_len) >= 0 ? ret : NULL;
}

/* True: *ret is the answer, or the table is as fresh as it can be. */
static bool look(struct prelux_ee_mounts *m, const char *ufs, char **ret)
{
  int64_t now = prelux_alluxio_now_ms();
  pthread_mutex_lock(&m->lock);
  *ret = replace(m, ufs);
  int64_t age_ms = now - (m->until_ms - RENEW_MS);
  bool done = m->until_ms != 0 && (*ret ? now < m->until_ms : age_ms < AGAIN_MS);
  pthread_mutex_unlock(&m->lock);
  return done;
}

int prelux_ee_place(struct prelux_ee *e, const char *ufs, char **ret, struct prelux_problem *why)
{
  struct prelux_ee_mounts *m = &e->mounts;
  int rc = 0;
  if (!look(m, ufs, ret))
  {
    free(*ret);
    *ret = NULL;
    pthread_mutex_lock(&m->asking);
    if (!look(m, ufs, ret))
    {
      char *old = *ret; /* better than nothing when nobody answers */
      rc = ask(e, ufs, why);
      if (rc == 0 || old == NULL)
        free(old);
      else
        *ret = old;
      if (rc == 0)
        look(m, ufs, ret);
      else if (old)
        rc = 0;
    }
    pthread_mutex_unlock(&m->asking);
  }
  if (rc < 0)
    return prelux_ee_error(rc);
  if (*ret)
    return 0;
  prelux_problem(why, EIO, "%.300s: no mount of the cluster is at or above it", ufs);
  if (why)
    snprintf(why->advice, sizeof(why->advice), "is `root` a path that the cluster has mounted (/v1/ufsInfo of a worker)?");
  return -EIO;
}

void prelux_ee_mounts_expire(struct prelux_ee_mounts *m)
{
  pthread_mutex_lock(&m->lock);
  if (m->until_ms)
    m->until_ms = prelux_alluxio_now_ms();
  pthread_mutex_unlock(&m->lock);
}

int prelux_ee_is_mount(struct prelux_ee *e, const char *path, bool *ret, struct prelux_problem *why)
{
  struct prelux_ee_mounts *m = &e->mounts;
  char *ufs = NULL, *place = NULL;
  int rc = prelux_ee_name(e, path, &ufs, why);
  if (rc == 0)
    rc = prelux_ee_place(e, ufs, &place, why);
  if (rc == 0)
  {
    *ret = false;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++)
      *ret = *ret || strcmp(m->rows[i].ufs, ufs) == 0 || strcmp(m->rows[i].path, place) == 0;
    pthread_mutex_unlock(&m->lock);
  }
  free(place);
  free(ufs);
  return rc;
}
