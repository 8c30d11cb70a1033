/* Looking at one object: /v1/info on its owner, which any other worker forwards to, over connections that are kept.
 *
 * A worker's HTTP port has no error answers: it closes. So silence means "not there" or "something went wrong", and the S3
 * port is asked which: HEAD has a real 404. It says 404 for a folder too, unless the name ends in a slash; hence a name is
 * not there after two of them. Where the S3 API is off, the folder above is listed. Names that the HTTP port would cut or
 * change go to the S3 port from the start. When no worker can say anything, the under store is asked. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/json_array.h"

#define EXACT_MAX 9007199254740992.0
#define INFO_MAX (1u << 20)
#define SILENT_MAX 2 /* workers that close without a word before the folder above is asked */

/* FileInfo -> object */

static bool whole_number(const cJSON *info, const char *name, double *ret)
{
  const cJSON *n = cJSON_GetObjectItemCaseSensitive(info, name);
  if (n && !cJSON_IsNumber(n))
    return false;
  *ret = n ? n->valuedouble : 0; /* Gson leaves nothing out but nulls; an object store's folder has no time */
  return *ret >= -EXACT_MAX && *ret <= EXACT_MAX;
}

void prelux_alluxio_describe_as(bool whole_seconds, bool folder, uint64_t size, int64_t mtime_ms, struct prelux_object *ret)
{
  if (whole_seconds || folder) /* HEAD knows a folder's time to the second only: it must not depend on who was asked */
    mtime_ms -= (mtime_ms % 1000 + 1000) % 1000;
  if (mtime_ms > INT64_MAX / 1000000 || mtime_ms < INT64_MIN / 1000000)
    mtime_ms = 0;
  *ret = (struct prelux_object){.type = folder ? PRELUX_DIR : PRELUX_FILE, .size = size, .mtime_ns = mtime_ms * 1000000};
  if (!folder)
    prelux_alluxio_version(size, mtime_ms, ret->version, sizeof(ret->version));
}

void prelux_alluxio_describe(const struct prelux_alluxio *x, bool folder, uint64_t size, int64_t mtime_ms, struct prelux_object *ret)
{
  prelux_alluxio_describe_as(x->whole_seconds, folder, size, mtime_ms, ret);
}

void prelux_alluxio_translate(bool whole_seconds, const struct prelux_object *under, struct prelux_object *ret)
{
  struct prelux_object obj = *under;
  bool folder = under->type == PRELUX_DIR;
  obj.version[0] = 0;
  if (folder || (under->size != UINT64_MAX && under->mtime_ns != 0 && !under->mtime_rough))
  {
    int64_t ms = under->mtime_ns / 1000000 - (under->mtime_ns % 1000000 < 0);
    prelux_alluxio_describe_as(whole_seconds, folder, under->size, ms, &obj);
    obj.mode = under->mode;
    memcpy(obj.md5, under->md5, sizeof(obj.md5));
  }
  *ret = obj;
}

static int64_t floor_s(int64_t ns)
{
  return ns / 1000000000 - (ns % 1000000000 < 0);
}

bool prelux_alluxio_equal(const struct prelux_object *a, const struct prelux_object *b)
{
  if (a->size != b->size)
    return false;
  if (a->mtime_ns == 0 || b->mtime_ns == 0)
    return true;
  if (a->mtime_ns % 1000000000 == 0 || b->mtime_ns % 1000000000 == 0)
    return floor_s(a->mtime_ns) == floor_s(b->mtime_ns);
  return a->mtime_ns / 1000000 == b->mtime_ns / 1000000;
}

bool prelux_alluxio_fits(const struct prelux_object *under, const struct prelux_object *expect)
{
  return under->type == PRELUX_FILE && under->mtime_ns != 0 && !under->mtime_rough && prelux_alluxio_equal(under, expect);
}

/* mPath is relative to the cluster's own root. Where that is another one than ours, HTTP works and the S3 port, whose bucket is the
 * first name below the cluster's root, reads something else. */
static bool rooted(const cJSON *info, const char *ufs, const char *root)
{
  const cJSON *path = cJSON_GetObjectItemCaseSensitive(info, "mPath");
  size_t len = strlen(root);
  if (!cJSON_IsString(path) || !ufs || strncmp(ufs, root, len) != 0)
    return true; /* judged by the UFS path alone */
  const char *ours = ufs + len, *theirs = path->valuestring;
  return strcmp(ours + strspn(ours, "/"), theirs + strspn(theirs, "/")) == 0;
}

int prelux_alluxio_file_info(const struct prelux_alluxio *x, const struct cJSON *info, struct prelux_object *ret,
                             const char **ret_name, const char **ret_ufs)
{
  const cJSON *type = cJSON_GetObjectItemCaseSensitive(info, "mType"), *name = cJSON_GetObjectItemCaseSensitive(info, "mName"),
              *ufs = cJSON_GetObjectItemCaseSensitive(info, "mUfsPath"), *length = cJSON_GetObjectItemCaseSensitive(info, "mLength");
  double size, mtime;
  if (!cJSON_IsString(type) || !cJSON_IsString(name))
    return -EPROTO;
  bool folder = strcmp(type->valuestring, "directory") == 0;
  if (!folder && (strcmp(type->valuestring, "file") != 0 || !cJSON_IsNumber(length)))
    return -EPROTO;
  if (!whole_number(info, "mLength", &size) || !whole_number(info, "mLastModificationTimeMs", &mtime) || size < 0)
    return -EPROTO;
  prelux_alluxio_describe(x, folder, folder ? 0 : (uint64_t)size, (int64_t)mtime, ret);
  *ret_name = name->valuestring;
  *ret_ufs = cJSON_IsString(ufs) ? ufs->valuestring : NULL;
  if (!rooted(info, *ret_ufs, x->options.root))
    *ret_ufs = "a path below another root";
  return 0;
}

/* Names and rounds */

int prelux_alluxio_name_init(struct prelux_alluxio *x, struct prelux_alluxio_name *n, const char *path, struct prelux_problem *why)
{
  size_t cap = strlen(x->options.root) + strlen(path) + 8, wide = 5 * strlen(path) + 16;
  *n = (struct prelux_alluxio_name){.path = path, .way = prelux_alluxio_name_way(path), .key = strchr(path, '/') != NULL};
  if (n->way == PRELUX_ALLUXIO_NAME_NONE)
  {
    prelux_problem(why, EOPNOTSUPP, "/%s: Alluxio's workers cannot carry a name with '?', '\\' or bytes that are not UTF-8", path);
    if (why)
      snprintf(why->advice, sizeof(why->advice), "map the under store itself to reach it");
    return -EOPNOTSUPP;
  }
  n->ufs = malloc(cap);
  n->s3 = malloc(wide);
  if (!n->ufs || !n->s3)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  if (prelux_alluxio_ufs_path(&x->options, path, n->ufs, cap) < 0 || prelux_alluxio_s3_path(path, false, n->s3, wide) < 0)
    return prelux_problem(why, EOPNOTSUPP, "/%s: no path of Alluxio's", path);
  return 0;
}

void prelux_alluxio_name_release(struct prelux_alluxio_name *n)
{
  free(n->ufs);
  free(n->s3);
  n->ufs = n->s3 = NULL;
}

int prelux_alluxio_round_init(struct prelux_alluxio *x, struct prelux_alluxio_round *r, const char *key, struct prelux_problem *why)
{
  *r = (struct prelux_alluxio_round){0};
  int rc = prelux_alluxio_view_get(x->members, &r->view, why);
  if (rc < 0)
    return rc;
  r->n = prelux_alluxio_view_owners(r->view, key, PRELUX_ALLUXIO_OWNERS, r->workers);
  return r->n ? 0 : prelux_problem(why, EIO, "backend %s: no worker of the cluster is registered", x->options.name);
}

void prelux_alluxio_round_release(struct prelux_alluxio_round *r)
{
  prelux_alluxio_view_put(r->view);
  r->view = NULL;
  r->n = 0;
}

enum prelux_alluxio_plight prelux_alluxio_round_plight(const struct prelux_alluxio_round *r)
{
  for (size_t i = 0; i < r->n; i++)
    if (prelux_alluxio_health_well(r->workers[i]->health, PRELUX_ALLUXIO_HTTP) ||
        prelux_alluxio_health_well(r->workers[i]->health, PRELUX_ALLUXIO_S3))
      return PRELUX_ALLUXIO_SLOW;
  return PRELUX_ALLUXIO_NO_WORKER;
}

/* /v1/info */

struct found
{
  const struct prelux_alluxio *x;
  const struct prelux_alluxio_name *name;
  struct prelux_object obj;
  size_t n;
  bool other; /* the answer is about something else */
  char where[160];
};

static int on_info(void *arg, const cJSON *info)
{
  struct found *f = arg;
  const char *name, *ufs;
  int rc = prelux_alluxio_file_info(f->x, info, &f->obj, &name, &ufs);
  if (rc < 0 || ++f->n > 1)
    return -EPROTO;
  f->other = !ufs || strcmp(ufs, f->name->ufs) != 0;
  snprintf(f->where, sizeof(f->where), "%s", ufs ? ufs : name);
  return 0;
}

/* An array of exactly one FileInfo, of the very path that was asked for. */
static int read_info(struct found *f, const struct prelux_net_answer *a, const struct prelux_alluxio_worker *w,
                     struct prelux_problem *why)
{
  struct prelux_json_array json;
  const char *path = f->name->path;
  prelux_json_array_init(&json, on_info, f);
  int rc = a->status == 200 ? prelux_json_array_feed(&json, a->body ? a->body : "", a->body_len) : -EPROTO;
  if (rc == 0)
    rc = prelux_json_array_end(&json);
  prelux_json_array_release(&json);
  if (rc < 0 || f->n != 1)
    return prelux_problem(why, EPROTO, "info /%s: worker %s: HTTP %d, no FileInfo", path, w->address, a->status);
  if (!f->other)
    return 0;
  prelux_problem(why, EPROTO, "info /%s: worker %s answers about %s instead of %s", path, w->address, f->where, f->name->ufs);
  if (why)
    snprintf(why->advice, sizeof(why->advice), "is `root` the cluster's alluxio.dora.client.ufs.root?");
  return -EPROTO;
}

enum prelux_alluxio_word prelux_alluxio_info(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                             const struct prelux_alluxio_worker *w, const struct prelux_alluxio_name *n, bool fresh,
                                             struct prelux_object *ret, int *ret_rc, struct prelux_problem *why)
{
  struct found f = {.x = x, .name = n};
  struct prelux_net_answer a;
  char *url;
  if (asprintf(&url, "%s/v1/info?path=%s", w->http, n->ufs) < 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return PRELUX_ALLUXIO_FINAL;
  }
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .max_body = INFO_MAX,
      .lone = fresh,
      .born_after_ms = r->view->born_ms,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_META_STALL_S,
  };
  int rc = prelux_net_call(x->net, &req, &a, why);
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_OTHER;
  if (rc == -EIO && a.status == 0)
    word = PRELUX_ALLUXIO_SILENT;
  if (rc == 0)
    rc = read_info(&f, &a, w, why);
  if (rc == 0)
    word = PRELUX_ALLUXIO_YES;
  if (word == PRELUX_ALLUXIO_YES)
    prelux_alluxio_health_ok(w->health, PRELUX_ALLUXIO_HTTP);
  else if (word == PRELUX_ALLUXIO_SILENT || rc == -ECANCELED || rc == -ENOMEM || f.other)
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
  else
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_HTTP, why);
  if (f.other)
  { /* a wrong `root` is wrong at every worker */
    word = PRELUX_ALLUXIO_FINAL;
    *ret_rc = -EPROTO;
  }
  if (word == PRELUX_ALLUXIO_YES)
    *ret = f.obj;
  prelux_net_answer_free(&a);
  free(url);
  return word;
}

/* HEAD of the file, then of the folder of that name. A worker that answers both with 404 knows that nothing is there. */
static enum prelux_alluxio_word by_head(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w,
                                        const struct prelux_alluxio_name *n, struct prelux_object *ret, int *ret_rc,
                                        struct prelux_problem *why)
{
  if (!prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3))
    return PRELUX_ALLUXIO_OTHER;
  enum prelux_alluxio_word word = prelux_alluxio_head(x, w, n, false, ret, ret_rc, why);
  if (word != PRELUX_ALLUXIO_FINAL || *ret_rc != -ENOENT)
    return word;
  if (!prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3))
    return PRELUX_ALLUXIO_OTHER;
  return prelux_alluxio_head(x, w, n, true, ret, ret_rc, why);
}

static enum prelux_alluxio_word by_info(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, size_t i,
                                        const struct prelux_alluxio_name *n, struct prelux_object *ret, int *ret_rc,
                                        struct prelux_problem *why)
{
  if (n->way != PRELUX_ALLUXIO_NAME_BOTH || !prelux_alluxio_health_usable(r->workers[i]->health, PRELUX_ALLUXIO_HTTP))
    return PRELUX_ALLUXIO_OTHER;
  /* The owner is dead: another worker sees that on a new connection, not on an old one (PROTOCOLS 0.3). */
  enum prelux_alluxio_word word = prelux_alluxio_info(x, r, r->workers[i], n, i > 0, ret, ret_rc, why);
  if (word == PRELUX_ALLUXIO_OTHER)
    prelux_alluxio_members_stir(x->members);
  return word;
}

/* Everyone in turn. YES, FINAL; SILENT: somebody closed and nobody could say why; OTHER: nobody answered. */
static enum prelux_alluxio_word ask_round(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                          const struct prelux_alluxio_name *n, struct prelux_object *ret, int *ret_rc,
                                          struct prelux_problem *why)
{
  int silent = 0;
  for (size_t i = 0; i < r->n && silent < SILENT_MAX; i++)
  {
    enum prelux_alluxio_word word = by_info(x, r, i, n, ret, ret_rc, why);
    silent += word == PRELUX_ALLUXIO_SILENT;
    if (word == PRELUX_ALLUXIO_SILENT || word == PRELUX_ALLUXIO_OTHER)
    {
      struct prelux_object head;
      word = by_head(x, r->workers[i], n, &head, ret_rc, why);
      /* What the S3 API takes for a missing bucket may be a file in the root: only a listing knows. */
      if (word == PRELUX_ALLUXIO_FINAL && *ret_rc == -ENOENT && !n->key)
        word = PRELUX_ALLUXIO_SILENT;
      if (word == PRELUX_ALLUXIO_YES)
        *ret = head;
      if (word == PRELUX_ALLUXIO_SILENT)
        return word;
    }
    if (word == PRELUX_ALLUXIO_YES || word == PRELUX_ALLUXIO_FINAL)
      return word;
  }
  return silent ? PRELUX_ALLUXIO_SILENT : PRELUX_ALLUXIO_OTHER;
}

int prelux_alluxio_stat_workers(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                                struct prelux_object *ret, struct prelux_problem *why)
{
  int rc = -EIO;
  enum prelux_alluxio_word word = ask_round(x, r, n, ret, &rc, why);
  if (word == PRELUX_ALLUXIO_YES)
    return 0;
  if (word == PRELUX_ALLUXIO_FINAL)
    return rc;
  if (word == PRELUX_ALLUXIO_SILENT)
  {
    rc = prelux_alluxio_list_one(x, n, ret, why);
    if (rc == 0 || rc == -ENOENT)
      return rc;
  }
  return -EIO;
}

int prelux_alluxio_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_alluxio *x = (struct prelux_alluxio *)b;
  struct prelux_alluxio_name n = {0};
  if (!path[0])
  {
    *ret = (struct prelux_object){.type = PRELUX_DIR};
    return 0;
  }
  if (prelux_alluxio_under_rules(x))
    return prelux_alluxio_under_stat(x, path, PRELUX_ALLUXIO_NO_WORKER, ret, why);
  struct prelux_alluxio_patience patience = {0};
  int rc = prelux_alluxio_name_init(x, &n, path, why);
  bool done = rc == 0 && prelux_alluxio_doubted(x, path) && prelux_alluxio_under_stat(x, path, PRELUX_ALLUXIO_NO_WORKER, ret, NULL) == 0;
  while (rc == 0 && !done)
  {
    struct prelux_alluxio_round r;
    struct prelux_object obj;
    rc = prelux_alluxio_round_init(x, &r, n.ufs, why);
    if (rc == 0)
      rc = prelux_alluxio_stat_workers(x, &r, &n, &obj, why);
    if (rc == -EIO)
      rc = prelux_alluxio_under_stat(x, path, prelux_alluxio_round_plight(&r), &obj, why);
    prelux_alluxio_round_release(&r);
    if (rc == 0)
    {
      *ret = obj;
      break;
    }
    if (rc == -EAGAIN)
      rc = prelux_alluxio_wait(x, &patience, why);
  }
  prelux_alluxio_name_release(&n);
  return rc;
}
