/* Looking at objects and folders: /v1/info and /v1/files on the owner, else on another worker, else in the under store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_ee.h"
#include "lib/backend/hidden.h"
#include "lib/backend/json_array.h"

#define INFO_MAX (1u << 20)
#define LIST_MAX (16ull << 30)
#define NAMES_MAX 5000000u

/* stat */

struct found
{
  const struct prelux_ee *e;
  const char *ufs;
  struct prelux_ee_info info;
  size_t n;
  bool other; /* it is about something else */
};

static int on_info(void *arg, const cJSON *o)
{
  struct found *f = arg;
  if (prelux_ee_describe(f->e, o, &f->info) < 0 || ++f->n > 1)
    return -EPROTO;
  f->other = f->info.ufs_len != strlen(f->ufs) || memcmp(f->info.ufs, f->ufs, f->info.ufs_len) != 0;
  f->info.ufs = NULL; /* ends with the JSON */
  return 0;
}

static int read_info(struct found *f, const struct prelux_net_answer *a, const char *host, struct prelux_problem *why)
{
  struct prelux_json_array json;
  if (a->status != 200)
    return prelux_ee_refused(a, "info", f->ufs, host, why);
  prelux_json_array_init(&json, on_info, f);
  int rc = prelux_json_array_feed(&json, a->body ? a->body : "", a->body_len);
  if (rc == 0)
    rc = prelux_json_array_end(&json);
  prelux_json_array_release(&json);
  if (rc < 0 || f->n != 1)
    return prelux_problem(why, EPROTO, "info %.300s: worker %s: the answer is no FileInfo", f->ufs, host);
  if (f->other)
    return prelux_problem(why, EPROTO, "info %.300s: worker %s answers about another path", f->ufs, host);
  if (!f->info.complete)
    return prelux_problem(why, EBUSY, "%.300s: it is still being written on Alluxio", f->ufs);
  return 0;
}

int prelux_ee_stat_workers(struct prelux_ee *e, const char *path, const char *ufs, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_ee_round r;
  int rc = prelux_problem(why, EIO, "/%.300s: there is no worker to ask", path);
  prelux_ee_round_init(e, ufs, &r);
  for (size_t i = 0; i < r.n && !prelux_ee_final(rc); i++)
  {
    struct found f = {.e = e, .ufs = ufs};
    struct prelux_net_answer a = {0};
    struct prelux_net_request req = {.max_body = INFO_MAX};
    rc = prelux_ee_get(e, r.hosts[i], "info", ufs, "", &req, &a, why);
    if (rc == 0)
      rc = read_info(&f, &a, r.hosts[i], why);
    if (rc == 0)
      *ret = f.info.obj;
    else if (!prelux_ee_final(rc))
      prelux_ee_failed(e, r.hosts[i], ufs);
    prelux_net_answer_free(&a);
  }
  return prelux_ee_error(rc);
}

int prelux_ee_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_ee *e = (struct prelux_ee *)b;
  char *ufs = NULL;
  if (!path[0])
  {
    *ret = (struct prelux_object){.type = PRELUX_DIR};
    return 0;
  }
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%.300s: a name of unfinished work", path);
  int rc = prelux_ee_name(e, path, &ufs, why);
  if (rc < 0)
    return rc;
  prelux_ee_keep_learning(e);
  rc = prelux_ee_stat_workers(e, path, ufs, ret, why);
  free(ufs);
  if (rc == 0 && prelux_ee_doubted(e, path))
    prelux_ee_later(e, path, ret);
  return prelux_ee_under_stat(e, path, rc, ret, why);
}

/* list */

struct listing
{
  const struct prelux_ee *e;
  const char *ufs; /* of the folder */
  size_t ufs_len;
  prelux_list_fn add;
  void *arg;
  struct prelux_json_array json;
  bool is_file;
  int failed;  /* what taking it apart said */
  int stopped; /* what `add` said */
};

static int on_child(void *arg, const cJSON *o)
{
  struct listing *l = arg;
  struct prelux_ee_info info;
  if (prelux_ee_describe(l->e, o, &info) < 0 || l->json.count > NAMES_MAX)
    return -EPROTO;
  bool below = info.ufs_len >= l->ufs_len && memcmp(info.ufs, l->ufs, l->ufs_len) == 0;
  if (below && info.ufs_len == l->ufs_len && info.obj.type == PRELUX_FILE)
  { /* /v1/files of a file is the file itself */
    l->is_file = true;
    return -ENOTDIR;
  }
  bool slash = l->ufs_len && l->ufs[l->ufs_len - 1] == '/';
  const char *name = info.ufs + l->ufs_len + !slash;
  if (!below || info.ufs_len <= l->ufs_len + !slash || (!slash && name[-1] != '/'))
    return -EPROTO;
  l->stopped = l->add(l->arg, name, info.ufs_len - (size_t)(name - info.ufs), &info.obj);
  return l->stopped;
}

static int on_list_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  l->failed = prelux_json_array_feed(&l->json, buf, len);
  return l->failed;
}

static int judge_list(const struct listing *l, const struct prelux_net_answer *a, int rc, const char *host, struct prelux_problem *why)
{
  if (l->stopped < 0)
    return l->stopped;
  if (l->is_file)
    return prelux_problem(why, ENOTDIR, "%.300s is a file", l->ufs);
  if (l->failed == -ENOMEM)
    return prelux_problem(why, ENOMEM, "no memory for a listing");
  if (l->failed < 0)
    return prelux_problem(why, EPROTO, "files %.300s: worker %s: no list of what lies there", l->ufs, host);
  if (rc < 0)
    return rc;
  if (a->status != 200)
    return prelux_ee_refused(a, "files", l->ufs, host, why);
  return prelux_json_array_end(&l->json) < 0 ? prelux_problem(why, EPROTO, "files %.300s: worker %s: the list is cut", l->ufs, host) : 0;
}

/* OSS workers say 200 [] for a folder that is not there; whether these do, nobody has written. */
static int check_empty(struct prelux_ee *e, const char *path, const char *ufs, struct prelux_problem *why)
{
  struct prelux_object now;
  if (!path[0])
    return 0;
  int rc = prelux_ee_stat_workers(e, path, ufs, &now, why);
  return rc == 0 && now.type != PRELUX_DIR ? prelux_problem(why, ENOTDIR, "/%s is a file", path) : rc;
}

static int list_workers(struct prelux_ee *e, const char *path, const char *ufs, prelux_list_fn add, void *arg, int *ret_stopped,
                        struct prelux_problem *why)
{
  struct prelux_ee_round r;
  int rc = prelux_problem(why, EIO, "/%.300s: there is no worker to ask", path);
  prelux_ee_round_init(e, ufs, &r);
  for (size_t i = 0; i < r.n && *ret_stopped == 0 && !prelux_ee_final(rc); i++)
  {
    struct listing l = {.e = e, .ufs = ufs, .ufs_len = strlen(ufs), .add = add, .arg = arg};
    struct prelux_net_answer a = {0};
    struct prelux_net_request req = {.max_body = LIST_MAX, .sink = on_list_bytes, .arg = &l};
    prelux_json_array_init(&l.json, on_child, &l);
    rc = prelux_ee_get(e, r.hosts[i], "files", ufs, "", &req, &a, why);
    rc = judge_list(&l, &a, rc, r.hosts[i], why);
    if (rc == 0 && l.json.count == 0)
      rc = check_empty(e, path, ufs, why);
    *ret_stopped = l.stopped;
    if (l.stopped == 0 && !prelux_ee_final(rc))
      prelux_ee_failed(e, r.hosts[i], ufs);
    prelux_json_array_release(&l.json);
    prelux_net_answer_free(&a);
  }
  return *ret_stopped ? *ret_stopped : prelux_ee_error(rc);
}

int prelux_ee_each(struct prelux_ee *e, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  char *ufs = NULL;
  int stopped = 0, rc = prelux_ee_name(e, path, &ufs, why);
  if (rc == 0)
    rc = list_workers(e, path, ufs, add, arg, &stopped, why);
  free(ufs);
  return rc;
}

/* What programs may see. */
struct shown
{
  prelux_list_fn add;
  void *arg;
  int stopped; /* what `add` said */
};

static int on_shown(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct shown *s = arg;
  if (len >= sizeof(PRELUX_HIDDEN) - 1 && memcmp(name, PRELUX_HIDDEN, sizeof(PRELUX_HIDDEN) - 1) == 0)
    return 0;
  s->stopped = s->add(s->arg, name, len, obj);
  return s->stopped;
}

int prelux_ee_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct prelux_ee *e = (struct prelux_ee *)b;
  struct shown s = {.add = add, .arg = arg};
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%.300s: a name of unfinished work", path);
  prelux_ee_keep_learning(e);
  int rc = prelux_ee_each(e, path, on_shown, &s, why);
  return s.stopped == 0 ? prelux_ee_under_list(e, path, rc, on_shown, &s, why) : rc;
}
