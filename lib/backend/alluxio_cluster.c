/* Alluxio 3.x and `prelux cluster`: what a worker says of a path (/v1/info). The workers of 3.x free, mount and set nothing: their HTTP
 * port has files, info, pages and load jobs (PROTOCOLS 2A.3), and the S3 port objects.
 *
 * A worker closes without a word when a path is not there, and on any other failure; stat knows how to tell these apart, so it goes
 * first. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/json_array.h"

#define INFO_MAX (1u << 20)

/* "[{...}]" -> "{...}", in place. NULL: it is not that, or of another path. */
static char *only_element(const struct prelux_alluxio *x, const char *ufs, char *text)
{
  struct prelux_object obj;
  const char *name, *where;
  char *end = strrchr(text, ']'), *start = text + strspn(text, " \t\r\n");
  if (!end || *start != '[')
    return NULL;
  *end = 0;
  cJSON *info = prelux_json_object(start + 1, strlen(start + 1));
  bool good = info && prelux_alluxio_file_info(x, info, &obj, &name, &where) == 0 && where && strcmp(where, ufs) == 0;
  cJSON_Delete(info);
  return good ? start + 1 : NULL;
}

static int ask(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w, const char *ufs, cJSON *ret, struct prelux_problem *why)
{
  struct prelux_net_answer a = {0};
  char *url = NULL, *text = NULL;
  if (asprintf(&url, "%s/v1/info?path=%s", w->http, ufs) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  struct prelux_net_request req = {.method = "GET", .url = url, .max_body = INFO_MAX, .lone = true,
                                   .connect_ms = PRELUX_ALLUXIO_CONNECT_MS, .stall_s = PRELUX_ALLUXIO_META_STALL_S};
  int rc = prelux_net_call(x->net, &req, &a, why);
  if (rc == 0 && (a.status != 200 || !a.body || !(text = only_element(x, ufs, a.body))))
    rc = prelux_problem(why, EPROTO, "%s: HTTP %d, no FileInfo of %.300s", w->http, a.status, ufs);
  if (rc == 0 && !cJSON_AddRawToObject(ret, "info", text))
    rc = prelux_problem(why, ENOMEM, "no memory for an answer");
  prelux_net_answer_free(&a);
  free(url);
  return rc;
}

static int ask_owners(struct prelux_alluxio *x, const struct prelux_alluxio_name *n, cJSON *ret, struct prelux_problem *why)
{
  struct prelux_alluxio_round r;
  int rc = prelux_alluxio_round_init(x, &r, n->ufs, why);
  for (size_t i = 0; rc == 0 && i < r.n; i++)
  {
    rc = ask(x, r.workers[i], n->ufs, ret, why);
    if (rc == 0 || i + 1 == r.n)
      break;
    rc = 0;
  }
  prelux_alluxio_round_release(&r);
  return rc == -ENOMEM || rc == 0 ? rc : -EIO;
}

int prelux_alluxio_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                           struct prelux_problem *why)
{
  struct prelux_alluxio *x = (struct prelux_alluxio *)b;
  struct prelux_alluxio_name n = {0};
  struct prelux_object obj;
  if (call->verb == PRELUX_CLUSTER_LOCATE)
    return 0; /* the ring says it: alluxio_owners() */
  if (call->verb != PRELUX_CLUSTER_INFO)
  {
    prelux_problem(why, EOPNOTSUPP, "workers of Alluxio 3.x have no call to free, mount, unmount or set attributes");
    if (why)
      snprintf(why->advice, sizeof why->advice, "load jobs: prelux load; other changes: Alluxio's own command line");
    return -EOPNOTSUPP;
  }
  int rc = prelux_alluxio_stat(b, path, &obj, why);
  if (rc == 0)
    rc = prelux_alluxio_name_init(x, &n, path, why);
  if (rc == 0 && n.way != PRELUX_ALLUXIO_NAME_BOTH)
    rc = prelux_problem(why, EOPNOTSUPP, "/%.300s: a name that a worker's HTTP port cannot carry", path);
  if (rc == 0)
    rc = ask_owners(x, &n, ret, why);
  prelux_alluxio_name_release(&n);
  return rc;
}

int prelux_alluxio_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap)
{
  return prelux_alluxio_options_object(&((const struct prelux_alluxio *)b)->options, uri, out, cap);
}
