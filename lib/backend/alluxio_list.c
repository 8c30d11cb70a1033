/* Listing a folder: /v1/files on its owner, taken apart while it comes; for folders whose name the HTTP port would cut or
 * change, the S3 port's LIST (alluxio_xml.c).
 *
 * /v1/files says 200 [] for a folder that is not there, and shows a file as a folder of itself; so an empty list wants a look
 * at the folder, and each entry's own path must be that of a child. A listing that breaks off is begun anew elsewhere: names
 * may come twice, which the caller puts up with. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_xml.h"
#include "lib/backend/json_array.h"

#define LIST_MAX (16ull << 30)
#define NAMES_MAX 5000000u
#define XML_MAX (64u << 20) /* of one page */
#define KEYS_A_PAGE 10000
#define PAGES_MAX 2000
#define EMPTY_PAGES_MAX 100

struct listing
{
  const struct prelux_alluxio *x;
  const char *ufs; /* of the folder, no slash at the end but the root's own */
  size_t ufs_len;
  prelux_list_fn add;
  void *arg;
  size_t count;
  bool is_file;
  int failed;  /* what taking it apart said */
  int stopped; /* what `add` said */
};

static int pass_on(struct listing *l, const char *name, size_t len, const struct prelux_object *obj)
{
  if (++l->count > NAMES_MAX)
    return l->failed = -EPROTO;
  l->stopped = l->add(l->arg, name, len, obj);
  return l->stopped;
}

/* ufs is FOLDER/NAME */
static bool child(const struct listing *l, const char *ufs, const char *name)
{
  if (strncmp(ufs, l->ufs, l->ufs_len) != 0)
    return false;
  ufs += l->ufs_len;
  if (l->ufs_len && l->ufs[l->ufs_len - 1] != '/' && *ufs++ != '/')
    return false;
  return strcmp(ufs, name) == 0;
}

/* HTTP port */

struct stream
{
  struct listing *l;
  struct prelux_json_array json;
};

static int on_info(void *arg, const cJSON *info)
{
  struct listing *l = ((struct stream *)arg)->l;
  struct prelux_object obj;
  const char *name, *ufs;
  if (prelux_alluxio_file_info(l->x, info, &obj, &name, &ufs) < 0 || !ufs)
    return -EPROTO;
  if (obj.type == PRELUX_FILE && strcmp(ufs, l->ufs) == 0)
  {
    l->is_file = true;
    return -ENOTDIR;
  }
  return child(l, ufs, name) ? pass_on(l, name, strlen(name), &obj) : -EPROTO;
}

static int on_list_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct stream *s = arg;
  int rc = prelux_json_array_feed(&s->json, buf, len);
  if (rc < 0)
    s->l->failed = rc;
  return rc;
}

static enum prelux_alluxio_word weigh(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w, struct stream *s,
                                      const struct prelux_net_answer *a, int rc, int *ret_rc, struct prelux_problem *why)
{
  const struct listing *l = s->l;
  if (l->stopped < 0 || l->is_file)
  {
    prelux_alluxio_health_ok(w->health, PRELUX_ALLUXIO_HTTP);
    *ret_rc = l->stopped < 0 ? l->stopped : prelux_problem(why, ENOTDIR, "%s is a file", l->ufs);
    return PRELUX_ALLUXIO_FINAL;
  }
  if (rc == -EIO && a->status == 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
    return PRELUX_ALLUXIO_SILENT;
  }
  if (rc == 0 && (a->status != 200 || prelux_json_array_end(&s->json) < 0))
    rc = prelux_problem(why, EPROTO, "files %s: worker %s: HTTP %d, no list of FileInfo", l->ufs, w->address, a->status);
  else if (l->failed < 0)
  {
    prelux_problem(why, EPROTO, "files %s: worker %s: no list of what lies there", l->ufs, w->address);
    if (why)
      snprintf(why->advice, sizeof(why->advice), "is `root` the cluster's alluxio.dora.client.ufs.root?");
  }
  if (rc == 0)
    prelux_alluxio_health_ok(w->health, PRELUX_ALLUXIO_HTTP);
  else if (rc == -ECANCELED || rc == -ENOMEM)
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
  else
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_HTTP, why);
  return rc == 0 ? PRELUX_ALLUXIO_YES : PRELUX_ALLUXIO_OTHER;
}

static enum prelux_alluxio_word by_files(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                         const struct prelux_alluxio_worker *w, bool fresh, struct listing *l, int *ret_rc,
                                         struct prelux_problem *why)
{
  struct stream s = {.l = l};
  struct prelux_net_answer a;
  char *url;
  if (asprintf(&url, "%s/v1/files?path=%s", w->http, l->ufs) < 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return PRELUX_ALLUXIO_FINAL;
  }
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .max_body = LIST_MAX,
      .lone = fresh,
      .born_after_ms = r->view->born_ms,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_STALL_S, /* nothing comes before the under store has listed all of it */
      .sink = on_list_bytes,
      .arg = &s,
  };
  l->failed = 0;
  prelux_json_array_init(&s.json, on_info, &s);
  int rc = prelux_net_call(x->net, &req, &a, why);
  enum prelux_alluxio_word word = weigh(x, w, &s, &a, rc, ret_rc, why);
  prelux_json_array_release(&s.json);
  prelux_net_answer_free(&a);
  free(url);
  return word;
}

/* S3 port */

struct keys
{
  struct listing *l;
  const char *prefix; /* of the keys: "" or "dir/" */
  size_t prefix_len;
  char *base; /* URL up to the continuation token */
};

static int on_key(void *arg, const struct prelux_alluxio_key *key)
{
  struct keys *k = arg;
  struct prelux_object obj;
  size_t len = strlen(key->name);
  if (strncmp(key->name, k->prefix, k->prefix_len) != 0)
    return k->l->failed = -EPROTO;
  const char *name = key->name + k->prefix_len;
  len -= k->prefix_len;
  bool folder = len && name[len - 1] == '/';
  if (len == 0)
    return 0; /* the folder itself */
  len -= folder;
  prelux_alluxio_describe(k->l->x, folder, folder ? 0 : key->size, key->mtime_ms, &obj);
  char *copy = strndup(name, len);
  if (!copy)
    return -ENOMEM;
  int rc = pass_on(k->l, copy, len, &obj);
  free(copy);
  return rc;
}

/* Pages whose tokens were there before, at ever longer distances: circles of any length. */
struct circle
{
  char *kept;
  unsigned steps, limit;
};

static bool in_circle(struct circle *c, const char *token)
{
  if (c->kept && strcmp(c->kept, token) == 0)
    return true;
  if (c->kept && ++c->steps < c->limit)
    return false;
  free(c->kept);
  c->kept = strdup(token); /* NULL: the number of pages is bounded, too */
  c->steps = 0;
  c->limit = c->limit ? 2 * c->limit : 1;
  return false;
}

/* One page of the listing; *token goes on from it, NULL at the end. */
static enum prelux_alluxio_word one_page(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w, struct keys *k,
                                         char **token, int *ret_rc, struct prelux_problem *why)
{
  const char *const headers[] = {x->authorization, NULL};
  struct prelux_alluxio_xml page = {.each = on_key, .arg = k};
  struct prelux_net_answer a = {0};
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_OTHER;
  char *url;
  if (asprintf(&url, "%s%s%s%s", w->s3, k->base, *token ? "&continuation-token=" : "", *token ? *token : "") < 0)
    url = NULL;
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .headers = headers,
      .max_body = XML_MAX,
      .lone = true,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_STALL_S,
  };
  free(*token);
  *token = NULL;
  int rc = url ? prelux_net_call(x->net, &req, &a, why) : -ENOMEM;
  if (rc == 0 && a.status == 404)
  {
    *ret_rc = prelux_problem(why, ENOENT, "%s: not there", k->l->ufs);
    word = PRELUX_ALLUXIO_FINAL;
  }
  else if (rc == 0)
  {
    rc = a.status == 200 ? prelux_alluxio_xml_read(&page, a.body ? a.body : "", a.body_len) : -EPROTO;
    if (rc == 0 && strcmp(page.prefix, k->prefix) != 0)
      rc = -EPROTO; /* the server cut or decoded it: these are another folder's names */
    if (k->l->stopped < 0)
    {
      *ret_rc = k->l->stopped;
      word = PRELUX_ALLUXIO_FINAL;
    }
    else if (rc < 0)
      prelux_problem(why, -rc, "list %s: worker %s: HTTP %d, no listing of it", k->l->ufs, w->address, a.status);
    else
      word = PRELUX_ALLUXIO_YES;
  }
  if (word == PRELUX_ALLUXIO_YES && page.truncated)
    *token = strdup(page.token);
  if (word == PRELUX_ALLUXIO_OTHER && rc != -ENOMEM && rc != -ECANCELED)
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_S3, why);
  else
    prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
  prelux_net_answer_free(&a);
  free(url);
  return word;
}

/* "/BUCKET?list-type=2&delimiter=%2F&max-keys=N&prefix=DIR%2F" */
static char *list_base(const struct prelux_alluxio_name *n, const char *prefix)
{
  char *base = NULL;
  size_t bucket = strcspn(n->s3 + 1, "/") + 1, room = 3 * strlen(prefix) + 1;
  char *encoded = malloc(room);
  if (encoded && prelux_url_encode(encoded, room, prefix, strlen(prefix)) >= 0 &&
      asprintf(&base, "%.*s?list-type=2&delimiter=%%2F&max-keys=%d&prefix=%s", (int)bucket, n->s3, KEYS_A_PAGE, encoded) < 0)
    base = NULL;
  free(encoded);
  return base;
}

static enum prelux_alluxio_word by_keys(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w,
                                        const struct prelux_alluxio_name *n, struct listing *l, int *ret_rc,
                                        struct prelux_problem *why)
{
  const char *slash = strchr(n->path, '/');
  char *prefix = NULL, *token = NULL;
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_FINAL;
  if (asprintf(&prefix, "%s%s", slash ? slash + 1 : "", slash ? "/" : "") < 0)
    prefix = NULL;
  struct keys k = {.l = l, .prefix = prefix, .prefix_len = prefix ? strlen(prefix) : 0};
  struct circle circle = {0};
  unsigned empty = 0;
  k.base = prefix ? list_base(n, prefix) : NULL;
  l->failed = 0;
  *ret_rc = -ENOMEM;
  for (int i = 0; k.base && i < PAGES_MAX && empty < EMPTY_PAGES_MAX; i++)
  {
    size_t before = l->count;
    word = i == 0 || prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3) ? one_page(x, w, &k, &token, ret_rc, why)
                                                                              : PRELUX_ALLUXIO_OTHER;
    if (word != PRELUX_ALLUXIO_YES || !token || in_circle(&circle, token))
      break;
    empty = l->count == before ? empty + 1 : 0;
  }
  free(circle.kept);
  if (!k.base)
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
  if (word == PRELUX_ALLUXIO_YES && token)
  { /* pages without end */
    *ret_rc = prelux_problem(why, EPROTO, "list %s: worker %s: a listing without end", l->ufs, w->address);
    word = PRELUX_ALLUXIO_FINAL;
  }
  free(token);
  free(k.base);
  free(prefix);
  return word;
}

/* "a:b" is what the S3 API calls the folder /a/b. */
static bool bucket_fits(const char *path)
{
  size_t len = strcspn(path, "/");
  return len && !memchr(path, ':', len);
}

/* Both */

static enum prelux_alluxio_word ask_round(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                          const struct prelux_alluxio_name *n, struct listing *l, int *ret_rc,
                                          struct prelux_problem *why)
{
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_OTHER;
  for (size_t i = 0; i < r->n; i++)
  {
    const struct prelux_alluxio_worker *w = r->workers[i];
    word = PRELUX_ALLUXIO_OTHER;
    if (n->way == PRELUX_ALLUXIO_NAME_BOTH && prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_HTTP))
      word = by_files(x, r, w, i > 0, l, ret_rc, why);
    if (word == PRELUX_ALLUXIO_OTHER || word == PRELUX_ALLUXIO_SILENT)
    {
      prelux_alluxio_members_stir(x->members);
      if (bucket_fits(n->path) && prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3))
        word = by_keys(x, w, n, l, ret_rc, why);
    }
    if (word == PRELUX_ALLUXIO_YES || word == PRELUX_ALLUXIO_FINAL)
      break;
  }
  return word;
}

/* Nothing is in it: is it a folder at all? */
static int check_empty(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                       struct prelux_problem *why)
{
  struct prelux_object obj;
  if (!n->path[0])
    return 0;
  int rc = prelux_alluxio_stat_workers(x, r, n, &obj, why);
  if (rc == 0 && obj.type != PRELUX_DIR)
    return prelux_problem(why, ENOTDIR, "/%s is a file", n->path);
  return rc;
}

static int list_workers(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                        struct listing *l, struct prelux_problem *why)
{
  int rc = -EIO;
  enum prelux_alluxio_word word = ask_round(x, r, n, l, &rc, why);
  if (word == PRELUX_ALLUXIO_FINAL)
    return rc;
  if (word != PRELUX_ALLUXIO_YES)
    return -EIO;
  return l->count == 0 ? check_empty(x, r, n, why) : 0;
}

/* The ring hashes a folder to be listed with a slash at its end. */
static int round_of_folder(struct prelux_alluxio *x, struct prelux_alluxio_round *r, const char *ufs, struct prelux_problem *why)
{
  char *key;
  size_t len = strlen(ufs);
  *r = (struct prelux_alluxio_round){0};
  if (asprintf(&key, "%s%s", ufs, len && ufs[len - 1] == '/' ? "" : "/") < 0)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  int rc = prelux_alluxio_round_init(x, r, key, why);
  free(key);
  return rc;
}

int prelux_alluxio_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct prelux_alluxio *x = (struct prelux_alluxio *)b;
  struct prelux_alluxio_patience patience = {0};
  struct prelux_alluxio_name n = {0};
  bool done = false;
  if (prelux_alluxio_under_rules(x))
    return prelux_alluxio_under_list(x, path, PRELUX_ALLUXIO_NO_WORKER, add, arg, why);
  int rc = prelux_alluxio_name_init(x, &n, path, why);
  while (rc == 0 && !done)
  {
    struct listing l = {.x = x, .ufs = n.ufs, .ufs_len = strlen(n.ufs), .add = add, .arg = arg};
    struct prelux_alluxio_round r;
    rc = round_of_folder(x, &r, n.ufs, why);
    if (rc == 0)
      rc = list_workers(x, &r, &n, &l, why);
    if (rc == -EIO && l.stopped == 0)
      rc = prelux_alluxio_under_list(x, path, prelux_alluxio_round_plight(&r), add, arg, why);
    prelux_alluxio_round_release(&r);
    done = rc == 0;
    if (rc == -EAGAIN)
      rc = prelux_alluxio_wait(x, &patience, why);
  }
  prelux_alluxio_name_release(&n);
  return rc;
}

/* One name in the listing above it */

struct search
{
  const char *name;
  size_t len;
  bool found;
  struct prelux_object obj;
};

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct search *s = arg;
  if (len == s->len && memcmp(name, s->name, len) == 0)
  {
    s->found = true;
    s->obj = *obj;
  }
  return 0;
}

int prelux_alluxio_list_one(struct prelux_alluxio *x, const struct prelux_alluxio_name *n, struct prelux_object *ret,
                            struct prelux_problem *why)
{
  const char *slash = strrchr(n->path, '/');
  struct search s = {.name = slash ? slash + 1 : n->path};
  struct prelux_alluxio_name above = {0};
  struct prelux_alluxio_round r = {0};
  char *path = strndup(n->path, slash ? (size_t)(slash - n->path) : 0);
  s.len = strlen(s.name);
  int rc = path ? prelux_alluxio_name_init(x, &above, path, why) : -ENOMEM;
  if (rc == 0)
    rc = round_of_folder(x, &r, above.ufs, why);
  if (rc == 0)
  {
    struct listing l = {.x = x, .ufs = above.ufs, .ufs_len = strlen(above.ufs), .add = on_name, .arg = &s};
    enum prelux_alluxio_word word = ask_round(x, &r, &above, &l, &rc, why);
    if (word == PRELUX_ALLUXIO_OTHER || word == PRELUX_ALLUXIO_SILENT)
      rc = -EIO;
    else if (word == PRELUX_ALLUXIO_YES || rc == -ENOTDIR)
      rc = s.found ? 0 : prelux_problem(why, ENOENT, "/%s: not there", n->path);
  }
  if (rc == 0)
    *ret = s.obj;
  prelux_alluxio_round_release(&r);
  prelux_alluxio_name_release(&above);
  free(path);
  return rc;
}
