/* Backend `alluxio-ee` and `prelux cluster`: /v1/info as a worker sends it. What its workers could free or set is written nowhere
 * (PROTOCOLS part 3). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_ee.h"
#include "lib/backend/json_array.h"

#define INFO_MAX (1u << 20)

/* The answer of the first worker that gives one; that it is about this very path stat has found. */
static int ask(struct prelux_ee *e, const char *ufs, cJSON *ret, struct prelux_problem *why)
{
  struct prelux_ee_round r;
  int rc = prelux_problem(why, EIO, "%.300s: there is no worker to ask", ufs);
  prelux_ee_round_init(e, ufs, &r);
  for (size_t i = 0; i < r.n && rc < 0 && !prelux_ee_final(rc); i++)
  {
    struct prelux_net_answer a = {0};
    struct prelux_net_request req = {.max_body = INFO_MAX};
    rc = prelux_ee_get(e, r.hosts[i], "info", ufs, "", &req, &a, why);
    if (rc == 0 && a.status != 200)
      rc = prelux_ee_refused(&a, "info", ufs, r.hosts[i], why);
    char *start = a.body ? a.body + strspn(a.body, " \t\r\n[") : NULL, *end = start ? strrchr(start, ']') : NULL;
    if (end)
      *end = 0;
    cJSON *info = rc == 0 && end ? prelux_json_object(start, strlen(start)) : NULL;
    if (rc == 0 && !info)
      rc = prelux_problem(why, EPROTO, "info %.300s: worker %s: the answer is no FileInfo", ufs, r.hosts[i]);
    if (rc == 0 && !cJSON_AddRawToObject(ret, "info", start))
      rc = -ENOMEM;
    cJSON_Delete(info);
    prelux_net_answer_free(&a);
  }
  return prelux_ee_error(rc);
}

int prelux_ee_cluster(struct prelux_backend *b, const char *path, const struct prelux_cluster *call, struct cJSON *ret,
                      struct prelux_problem *why)
{
  struct prelux_ee *e = (struct prelux_ee *)b;
  struct prelux_object obj;
  char *ufs = NULL;
  if (call->verb == PRELUX_CLUSTER_LOCATE)
    return 0; /* ee_owners() says it */
  if (call->verb != PRELUX_CLUSTER_INFO)
    return prelux_problem(why, EOPNOTSUPP, "no call of Enterprise AI's workers is known that frees, mounts, unmounts or sets attributes");
  int rc = prelux_ee_name(e, path, &ufs, why);
  if (rc == 0 && path[0])
    rc = prelux_ee_stat_workers(e, path, ufs, &obj, why);
  if (rc == 0)
    rc = ask(e, ufs, ret, why);
  free(ufs);
  return rc;
}

int prelux_ee_object(const struct prelux_backend *b, const char *uri, char *out, size_t cap)
{
  return prelux_alluxio_options_object(&((const struct prelux_ee *)b)->options, uri, out, cap);
}
