/* Backend `alluxio-ee`, writing: one change, and what may be made of its outcome (PROTOCOLS 3.2, 3.3).
 *
 * A worker that did not answer, or said 5xx, may have done it, and may do it yet. Nothing is sent again before /v1/info was asked:
 * whoever calls this knows what to look for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_ee_write.h"
#include "lib/backend/alluxio_names.h"

#define NAME_BYTES 255 /* of a component: under stores keep no more */
#define ANSWER_MAX 65536

static const char *const byte_headers[] = {"Content-Type: application/octet-stream", "transfer-type: chunked", NULL};

/* Names */

/* The path is sent in queries only, but it is read by the S3 port, too: what either would change is no name to write. */
int prelux_ee_may_make(struct prelux_ee *e, const char *path, struct prelux_problem *why)
{
  for (const char *name = path; *name; name += strcspn(name, "/"), name += *name == '/')
    if (strcspn(name, "/") > NAME_BYTES)
      return prelux_problem(why, ENAMETOOLONG, "%.200s: a name of more than %d bytes", path, NAME_BYTES);
  const char *root = strstr(e->options.root, "://");
  root = root ? root + 3 : e->options.root;
  if (strpbrk(path, "%+") || prelux_alluxio_name_way(path) != PRELUX_ALLUXIO_NAME_BOTH ||
      prelux_alluxio_name_way(root) != PRELUX_ALLUXIO_NAME_BOTH)
    return prelux_problem(why, EOPNOTSUPP, "%.200s: nothing is made on Alluxio under a name that one of its ports might change", path);
  if (prelux_hidden(path))
    return prelux_problem(why, EOPNOTSUPP, "%.200s: names that begin with %s are prelux's own", path, PRELUX_HIDDEN);
  return 0;
}

/* Looking */

int prelux_ee_look(struct prelux_ee *e, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  char *ufs = NULL;
  int rc = prelux_ee_name(e, path, &ufs, why);
  if (rc < 0)
    return rc;
  if (path[0])
    rc = prelux_ee_stat_workers(e, path, ufs, ret, why);
  else
    *ret = (struct prelux_object){.type = PRELUX_DIR};
  free(ufs);
  if (rc != -ENOENT)
    return rc;
  int above = prelux_ee_above(e, path, why);
  return above == -ENOTDIR ? above : prelux_problem(why, ENOENT, "/%.300s: not there", path);
}

int prelux_ee_above(struct prelux_ee *e, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  const char *slash = strrchr(path, '/');
  if (!slash)
    return 0;
  char *folder = strndup(path, (size_t)(slash - path));
  int rc = folder ? prelux_ee_look(e, folder, &obj, why) : prelux_problem(why, ENOMEM, "no memory for a name");
  if (rc == -EBUSY || (rc == 0 && obj.type != PRELUX_DIR))
    rc = prelux_problem(why, ENOTDIR, "/%.300s: %.200s is a file", path, folder);
  free(folder);
  return rc;
}

/* Changing */

int prelux_ee_change_status(int status)
{
  if (status >= 200 && status < 300)
    return 0;
  if (status == 408 || status < 300 || status >= 500)
    return -PRELUX_EUNKNOWN;
  struct prelux_net_answer a = {.status = status};
  return prelux_ee_refused(&a, "", "", "", NULL);
}

static bool add_path(char *url, const char *name, const char *ufs)
{
  size_t n = strlen(url);
  if (n + strlen(name) + 4 > PRELUX_URL_MAX)
    return false;
  n += (size_t)sprintf(url + n, "%s=", name);
  return prelux_url_encode(url + n, PRELUX_URL_MAX - n, ufs, strlen(ufs)) >= 0;
}

/* ACTION/ID?..., without the host; malloc'd. */
static char *target_of(const struct prelux_ee_change *c, const char *ufs, const char *to)
{
  char id[PRELUX_ALLUXIO_ID_SIZE], *url = malloc(PRELUX_URL_MAX);
  if (!url || prelux_alluxio_file_id(ufs, id) < 0)
  {
    free(url);
    return NULL;
  }
  sprintf(url, "%s/%s", c->action, id);
  bool good = add_path(url, to ? "?srcPath" : "?ufsFullPath", ufs) && (!to || add_path(url, "&dstPath", to)) &&
              strlen(url) + (c->more ? strlen(c->more) : 0) < PRELUX_URL_MAX;
  if (good && c->more)
    strcat(url, c->more);
  if (good)
    return url;
  free(url);
  return NULL;
}

/* *ret_next: this worker got nothing, another may be asked. */
static int post(struct prelux_ee *e, const struct prelux_ee_change *c, const char *host, const char *target, bool *ret_next,
                struct prelux_problem *why)
{
  char *url;
  struct prelux_net_answer a = {0};
  struct prelux_net_request req = {.method = "POST", .upload = c->upload, .once = true, .max_body = ANSWER_MAX,
                                   .connect_ms = PRELUX_EE_CONNECT_MS, .stall_s = PRELUX_EE_CHANGE_S};
  if (asprintf(&url, "http://%s/v1/%s", host, target) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  req.url = url;
  req.headers = c->upload ? byte_headers : NULL;
  req.body = c->upload ? NULL : "";
  int rc = prelux_net_call(e->net, &req, &a, why);
  *ret_next = rc < 0 && !a.sent && rc != -ECANCELED;
  if (rc == -EINVAL && c->upload)
    ; /* the file ended early */
  else if (rc < 0)
    rc = a.sent ? prelux_problem(why, PRELUX_EUNKNOWN, "%s /%.200s: worker %s: no answer: it may have been done", c->action, c->path, host)
                : -EIO;
  else if ((rc = prelux_ee_change_status(a.status)) < 0)
    prelux_ee_refused(&a, c->action, c->path, host, why);
  if (rc == -PRELUX_EUNKNOWN && why)
    why->err = PRELUX_EUNKNOWN;
  prelux_net_answer_free(&a);
  free(url);
  return rc;
}

int prelux_ee_change(struct prelux_ee *e, const struct prelux_ee_change *c, struct prelux_problem *why)
{
  struct prelux_ee_round r;
  char *ufs = NULL, *to = NULL, *target = NULL;
  bool next = true;
  int rc = prelux_ee_name(e, c->path, &ufs, why);
  if (rc == 0 && c->to)
    rc = prelux_ee_name(e, c->to, &to, why);
  if (rc == 0 && !(target = target_of(c, ufs, to)))
    rc = prelux_problem(why, EOPNOTSUPP, "%s /%.200s: too long for a URL", c->action, c->path);
  if (rc == 0)
  {
    prelux_ee_round_init(e, ufs, &r);
    rc = prelux_problem(why, EIO, "/%.300s: there is no worker to ask", c->path);
    for (size_t i = 0; i < r.n && next; i++)
    {
      rc = post(e, c, r.hosts[i], target, &next, why);
      if (rc == -EIO || rc == -PRELUX_EUNKNOWN)
        prelux_ee_failed(e, r.hosts[i], ufs);
    }
  }
  free(target);
  free(to);
  free(ufs);
  return rc;
}
