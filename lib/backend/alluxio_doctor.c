/* `doctor`: what only asking can tell. Of each worker: does the HTTP port answer, is the S3 API there, is it poisoned. Of the
 * cluster: do its redirects go where our ring says ("x of y agree"), and would another number of virtual nodes do better.
 *
 * The ring is asked about by a range of one byte, at the end of the first page of a file (so that no short page is left), from a
 * worker that should not own it: it answers 307 to the owner and reads nothing. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_roster.h"

#define SAMPLE 16      /* files */
#define FOLDERS_MAX 24 /* listed to find them */
#define WORKERS_MAX 32 /* asked one by one */

static const unsigned usual_nodes[] = {5, 2000};

/* Workers */

static const char *http_state(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w)
{
  static const char *const words[] = {[PRELUX_ALLUXIO_PULSE_NONE] = "unreachable",
                                      [PRELUX_ALLUXIO_PULSE_OK] = "ok",
                                      [PRELUX_ALLUXIO_PULSE_CLOSES] = "closes",
                                      [PRELUX_ALLUXIO_PULSE_UNKNOWN] = "unknown"};
  return words[prelux_alluxio_pulse(x->net, w, PRELUX_ALLUXIO_CONNECT_MS, 3, NULL)];
}

/* HEAD of a bucket that nobody has: never of "/", which would plant an empty listing for two days. */
static const char *s3_state(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w)
{
  const char *const headers[] = {x->authorization, NULL};
  struct prelux_net_answer a;
  char *url;
  if (asprintf(&url, "%s/prelux-doctor", w->s3) < 0)
    return "unknown";
  struct prelux_net_request req = {.method = "HEAD",
                                   .url = url,
                                   .headers = headers,
                                   .lone = true,
                                   .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
                                   .stall_s = 3};
  int rc = prelux_net_call(x->net, &req, &a, NULL);
  const char *ret = rc < 0                                  ? "unreachable"
                    : a.status == 200 || a.status == 404     ? "ok"
                    : a.status == 400 || a.status == 403     ? "refuses"
                                                             : "fails";
  prelux_net_answer_free(&a);
  free(url);
  return ret;
}

/* NULL: all is well. */
static const char *advice_for(const char *http, const char *s3)
{
  bool dumb = strcmp(http, "unreachable") == 0;
  if (strcmp(s3, "ok") == 0)
    return dumb ? "its HTTP port does not answer: is http_port the cluster's alluxio.worker.http.server.port?" : NULL;
  if (strcmp(s3, "refuses") == 0)
    return "name a user by options: alluxio.security.login.username";
  if (strcmp(s3, "unreachable") == 0 && dumb)
    return "neither port answers: is the worker dead, or a firewall between? Others, and the under store, serve its files";
  if (strcmp(s3, "unreachable") == 0)
    return "is alluxio.worker.s3.api.enabled=true there, and s3_port its alluxio.worker.rest.port? Nothing uncached can be read "
           "without it";
  return "its S3 API fails: has another worker just died? Else its log says why";
}

static void examine_workers(struct prelux_alluxio *x, const struct prelux_alluxio_view *v, cJSON *into)
{
  cJSON *list = cJSON_AddArrayToObject(into, "asked");
  for (size_t i = 0; i < v->n && i < WORKERS_MAX; i++)
  {
    const struct prelux_alluxio_worker *w = &v->workers[i];
    cJSON *o = cJSON_CreateObject();
    const char *s3 = s3_state(x, w), *http = http_state(x, w), *advice = advice_for(http, s3);
    cJSON_AddStringToObject(o, "worker", w->address);
    cJSON_AddStringToObject(o, "http", http);
    cJSON_AddStringToObject(o, "s3", s3);
    if (advice)
      cJSON_AddStringToObject(o, "advice", advice);
    cJSON_AddItemToArray(list, o);
  }
}

/* Ring */

struct sample
{
  struct prelux_alluxio *x;
  char *files[SAMPLE];
  uint64_t sizes[SAMPLE];
  size_t n;
  char *folders[FOLDERS_MAX];
  size_t n_folders;
  const char *at; /* the folder that is being listed */
};

static int on_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct sample *s = arg;
  char *path;
  bool file = obj->type == PRELUX_FILE;
  if (file ? s->n == SAMPLE || obj->size == 0 || obj->size == UINT64_MAX || !s->at[0] : s->n_folders == FOLDERS_MAX)
    return 0;
  if (memchr(name, '/', len) || asprintf(&path, "%s%s%.*s", s->at, s->at[0] ? "/" : "", (int)len, name) < 0)
    return 0;
  if (prelux_alluxio_name_way(path) == PRELUX_ALLUXIO_NAME_NONE)
  {
    free(path);
    return 0;
  }
  if (file)
  {
    s->sizes[s->n] = obj->size;
    s->files[s->n++] = path;
  }
  else
  {
    s->folders[s->n_folders++] = path;
  }
  return 0;
}

static void collect(struct sample *s)
{
  s->at = "";
  prelux_alluxio_list(&s->x->base, "", on_name, s, NULL);
  for (size_t i = 0; i < s->n_folders && s->n < SAMPLE; i++)
  {
    s->at = s->folders[i];
    prelux_alluxio_list(&s->x->base, s->at, on_name, s, NULL);
  }
}

/* Where `w`, which should not own it, sends us; NULL: it cannot be told; w itself: it serves it. */
static const struct prelux_alluxio_worker *true_owner(struct prelux_alluxio *x, const struct prelux_alluxio_view *v,
                                                      const struct prelux_alluxio_worker *w, const struct prelux_alluxio_name *n,
                                                      uint64_t size)
{
  const char *const headers[] = {x->authorization, NULL};
  const struct prelux_alluxio_worker *ret = NULL;
  uint64_t page = prelux_alluxio_page_size(x->pages), last = (size < page ? size : page) - 1;
  struct prelux_net_answer a;
  struct prelux_url u;
  char *url;
  if (asprintf(&url, "%s%s", w->s3, n->s3) < 0)
    return NULL;
  struct prelux_net_request req = {.method = "GET",
                                   .url = url,
                                   .headers = headers,
                                   .off = last,
                                   .len = 1,
                                   .max_body = 1,
                                   .lone = true,
                                   .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
                                   .stall_s = PRELUX_ALLUXIO_META_STALL_S};
  int rc = prelux_net_call(x->net, &req, &a, NULL);
  if (rc == 0 && a.status == 206)
    ret = w;
  else if (rc == 0 && a.status == 307 && a.location && prelux_url_parse(a.location, &u) == 0)
    ret = prelux_alluxio_view_member(x->members, v, u.host, u.host_len, u.port);
  prelux_net_answer_free(&a);
  free(url);
  return ret;
}

struct vote
{
  unsigned asked, agree;
  unsigned better[sizeof(usual_nodes) / sizeof(usual_nodes[0])]; /* as many would agree with that number of virtual nodes */
};

static void ask_one(struct prelux_alluxio *x, const struct prelux_alluxio_view *v, const struct prelux_alluxio_ring *rings,
                    const char *path, uint64_t size, struct vote *vote)
{
  const struct prelux_alluxio_worker *owners[2];
  struct prelux_alluxio_name n = {0};
  if (prelux_alluxio_name_init(x, &n, path, NULL) == 0 && prelux_alluxio_view_owners(v, n.ufs, 2, owners) == 2)
  {
    const struct prelux_alluxio_worker *owner = true_owner(x, v, owners[1], &n, size);
    vote->asked += owner != NULL;
    vote->agree += owner == owners[0];
    for (size_t i = 0; owner && i < sizeof(usual_nodes) / sizeof(usual_nodes[0]); i++)
    {
      size_t at = prelux_alluxio_ring_owner(&rings[i], n.ufs, 1);
      vote->better[i] += at < v->n && &v->workers[at] == owner;
    }
  }
  prelux_alluxio_name_release(&n);
}

static void tell(struct prelux_alluxio *x, const struct vote *vote, cJSON *into)
{
  char text[160];
  cJSON *ring = cJSON_AddObjectToObject(into, "ring_check");
  cJSON_AddNumberToObject(ring, "asked", vote->asked);
  cJSON_AddNumberToObject(ring, "agree", vote->agree);
  snprintf(text, sizeof(text), "%u of %u agree", vote->agree, vote->asked);
  cJSON_AddStringToObject(ring, "text", text);
  if (vote->agree == vote->asked)
    return;
  size_t best = 0;
  for (size_t i = 1; i < sizeof(usual_nodes) / sizeof(usual_nodes[0]); i++)
    best = vote->better[i] > vote->better[best] ? i : best;
  if (vote->better[best] == vote->asked && usual_nodes[best] != x->options.virtual_nodes)
    snprintf(text, sizeof(text), "set virtual_nodes: %u: with it %u of %u agree", usual_nodes[best], vote->better[best], vote->asked);
  else
    snprintf(text, sizeof(text), "is virtual_nodes (%u) what the workers have, and root their root, byte for byte?",
             x->options.virtual_nodes);
  cJSON_AddStringToObject(ring, "advice", text);
}

static void examine_ring(struct prelux_alluxio *x, const struct prelux_alluxio_view *v, cJSON *into)
{
  struct prelux_alluxio_ring rings[sizeof(usual_nodes) / sizeof(usual_nodes[0])] = {0};
  struct prelux_alluxio_identity *identities = calloc(v->n + 1, sizeof(*identities));
  struct sample *s = calloc(1, sizeof(*s));
  struct vote vote = {0};
  bool good = identities && s;
  for (size_t i = 0; good && i < v->n; i++)
    identities[i] = v->workers[i].identity;
  for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++)
    good = good && prelux_alluxio_ring_init(&rings[i], identities, v->n, usual_nodes[i]) == 0;
  if (good && v->n > 1)
  {
    s->x = x;
    collect(s);
    for (size_t i = 0; i < s->n; i++)
      ask_one(x, v, rings, s->files[i], s->sizes[i], &vote);
  }
  tell(x, &vote, into);
  for (size_t i = 0; s && i < s->n; i++)
    free(s->files[i]);
  for (size_t i = 0; s && i < s->n_folders; i++)
    free(s->folders[i]);
  for (size_t i = 0; i < sizeof(rings) / sizeof(rings[0]); i++)
    prelux_alluxio_ring_release(&rings[i]);
  free(identities);
  free(s);
}

void prelux_alluxio_examine(struct prelux_backend *b, struct cJSON *into)
{
  struct prelux_alluxio *x = (struct prelux_alluxio *)b;
  const struct prelux_alluxio_view *v;
  struct prelux_problem why = {0};
  if (prelux_alluxio_view_get(x->members, &v, &why) < 0)
  {
    cJSON_AddStringToObject(into, "problem", why.text);
  }
  else
  {
    examine_workers(x, v, into);
    examine_ring(x, v, into);
    prelux_alluxio_view_put(v);
  }
  b->ops->report(b, into);
}
