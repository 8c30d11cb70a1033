/* Reading: ranges of the S3 port, which loads what is not cached. A worker that does not own the file answers 307 or fetches the bytes
 * itself; redirects are followed by hand, by our own path, since a Location may hold it decoded.
 *
 * What version an answer is of, nobody has written down for these workers. So: the length in Content-Range must be the expected one,
 * an ETag of the known form "(len:..., modtime:...)" must tell the expected version, all answers of one read must have the same
 * ETag, and where the ETag did not tell the version, /v1/info is asked again afterwards: it must say what it said before. After a read of
 * an object of more than a page the under store is asked as well (alluxio_ee_doubt.c).
 *
 * Ranges are of 8 MiB at most, and several of a long read are on their way at once (parallel.c), each of them from whoever can. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/backend/read_on.h"

#define HOPS_MAX 3
#define VERIFY_ABOVE (1u << 20) /* one page is loaded in one go */

struct reading
{
  struct prelux_read_on on; /* first */
  struct prelux_ee *e;
  const char *target; /* path on the S3 port, encoded */
  char *url;
  char host[PRELUX_EE_HOST]; /* of the S3 port, "host:port" */
  char etag[256];
  bool begun, told; /* an answer was seen; all of them told their version */
};

/* Port 29998 of whoever has the HTTP port. */
static void s3_host(const struct prelux_ee *e, const char *http, char out[PRELUX_EE_HOST])
{
  const char *colon = strrchr(http, ':');
  size_t len = colon && !strchr(colon, ']') ? (size_t)(colon - http) : strlen(http);
  snprintf(out, PRELUX_EE_HOST, "%.*s:%u", (int)len, http, e->options.s3_port);
}

static int check(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  struct reading *g = (struct reading *)r;
  const struct prelux_object *expect = r->expect;
  uint64_t size = a->content_length, len;
  int64_t ms;
  int rc = 0;
  if (a->status == 206)
    rc = prelux_read_on_range(r, a, &size);
  else if (a->status != 200 || !prelux_read_on_whole(r))
    rc = prelux_problem(r->why, EPROTO, "GET %s: worker %s: HTTP %d to a range", r->what, g->host, a->status);
  if (rc < 0)
    return rc;
  if (size != UINT64_MAX && size != expect->size)
    return prelux_read_on_changed(r);
  if (g->begun && strcmp(g->etag, a->etag) != 0)
    return prelux_read_on_changed(r);
  bool tells = prelux_alluxio_etag(a->etag, &len, &ms);
  struct prelux_object now;
  if (tells)
    prelux_alluxio_describe_as(g->e->whole_seconds, false, len, ms, &now);
  if (tells && !prelux_alluxio_equal(&now, expect))
    return prelux_read_on_changed(r);
  g->told = tells && (!g->begun || g->told);
  g->begun = true;
  snprintf(g->etag, sizeof(g->etag), "%s", a->etag);
  return 0;
}

static int empty(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  const struct reading *g = (struct reading *)r;
  if (a->status == 416)
    return prelux_read_on_beyond(r, a);
  if (a->status < 200 || a->status >= 300)
    return prelux_ee_refused(a, "GET", r->what, g->host, r->why);
  int rc = r->checked ? 0 : check(r, a);
  return rc < 0 ? rc : prelux_read_on_short(r);
}

static int ask_once(struct reading *g, struct prelux_net_answer *a)
{
  struct prelux_read_on *r = &g->on;
  const char *const headers[] = {g->e->authorization, NULL};
  snprintf(g->url, PRELUX_URL_MAX, "http://%s%s", g->host, g->target);
  struct prelux_net_request req = {
      .method = "GET",
      .url = g->url,
      .headers = headers,
      .off = r->pos,
      .len = r->end - r->pos,
      .max_body = r->end - r->pos,
      .lone = true, /* after a body OSS workers send the next answer on the connection without a head */
      .connect_ms = PRELUX_EE_CONNECT_MS,
      .stall_s = PRELUX_EE_STALL_S,
      .sink = prelux_read_on_bytes,
      .arg = r,
      .cancel = r->over,
  };
  req.target = prelux_read_on_target(r, &req.target_len);
  return prelux_net_call(g->e->net, &req, a, r->why);
}

static int ask(struct prelux_read_on *r, struct prelux_net_answer *a)
{
  struct reading *g = (struct reading *)r;
  struct prelux_url u;
  int rc = ask_once(g, a);
  for (int hop = 0; rc == 0 && (a->status == 307 || a->status == 302) && hop < HOPS_MAX; hop++)
  {
    bool good = a->location && prelux_url_parse(a->location, &u) == 0 && !u.https && !u.has_user && u.host_len < 256;
    if (!good)
      return prelux_problem(r->why, EPROTO, "GET %s: worker %s redirects to what is no worker", r->what, g->host);
    snprintf(g->host, sizeof(g->host), "%.*s:%u", (int)u.host_len, u.host, u.port);
    prelux_net_answer_free(a);
    *a = (struct prelux_net_answer){0};
    rc = ask_once(g, a);
  }
  return rc;
}

static int failed(int rc)
{
  return rc;
}

/* What the sink says ends it, whatever it is. */
struct guard
{
  prelux_read_fn sink;
  void *arg;
  int stopped;
  uint64_t pos; /* of the next byte */
};

static int on_bytes(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct guard *g = arg;
  g->stopped = g->sink(g->arg, off, buf, len);
  if (g->stopped == 0)
    g->pos = off + len;
  return g->stopped;
}

static int recheck(struct prelux_ee *e, const char *path, const char *ufs, const struct prelux_object *expect, struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = prelux_ee_stat_workers(e, path, ufs, &now, why);
  if (rc == -EBUSY || rc == -ENOENT)
    return prelux_problem(why, ESTALE, "/%s: is gone or being written anew", path);
  if (rc < 0)
    return rc;
  return now.type != PRELUX_FILE || strcmp(now.version, expect->version) != 0
             ? prelux_problem(why, ESTALE, "/%s: changed (was %s, is %s)", path, expect->version, now.version)
             : 0;
}

/* All of a read; its parts are fetched by several threads. */
struct whole
{
  struct prelux_parallel_job job; /* first */
  struct prelux_ee *e;
  const char *path, *ufs, *target;
  const struct prelux_object *expect;
  atomic_bool stop;
  pthread_mutex_t lock; /* guards what follows */
  char etag[256];
  bool begun, told; /* a part has come; the answers of all told their version */
};

/* A part from one worker after the other; g->on.pos tells how far it came. */
static int read_workers(struct reading *g, const char *ufs, struct guard *guard)
{
  struct prelux_ee_round r;
  int rc = prelux_problem(g->on.why, EIO, "%.300s: there is no worker to ask", ufs);
  prelux_ee_round_init(g->e, ufs, &r);
  for (size_t i = 0; i < r.n && guard->stopped == 0 && !prelux_ee_final(rc); i++)
  {
    s3_host(g->e, r.hosts[i], g->host);
    g->on.verdict = 0;
    rc = prelux_read_on(&g->on);
    if (guard->stopped == 0 && !prelux_ee_final(rc))
      prelux_ee_failed(g->e, r.hosts[i], ufs);
  }
  return guard->stopped < 0 ? guard->stopped : rc;
}

/* All parts are of one version, as far as their answers tell. */
static int compare(struct whole *w, const struct reading *g)
{
  pthread_mutex_lock(&w->lock);
  bool same = !w->begun || strcmp(w->etag, g->etag) == 0;
  w->told = g->told && (!w->begun || w->told);
  w->begun = true;
  memcpy(w->etag, g->etag, sizeof(w->etag));
  pthread_mutex_unlock(&w->lock);
  return same ? 0 : prelux_problem(g->on.why, ESTALE, "/%s: changed while it was read", w->path);
}

static int fetch(const struct prelux_parallel_job *job, struct prelux_parallel_part *part, prelux_read_fn sink, void *arg,
                 struct prelux_problem *why)
{
  struct whole *w = (struct whole *)job;
  struct guard guard = {.sink = sink, .arg = arg, .pos = part->from};
  struct reading g = {
      .on = {.net = w->e->net, .what = w->ufs, .expect = w->expect, .pos = part->from, .end = part->to, .sink = on_bytes, .arg = &guard,
             .why = why, .parts = true, .ask = ask, .check = check, .empty = empty, .failed = failed, .place = part->buf,
             .place_from = part->from, .over = part->over},
      .e = w->e,
      .target = w->target,
      .url = malloc(PRELUX_URL_MAX),
  };
  int rc = g.url ? read_workers(&g, w->ufs, &guard) : prelux_problem(why, ENOMEM, "no memory for a URL");
  if (guard.pos > part->from || rc == 0)
  {
    int differs = compare(w, &g);
    rc = differs < 0 && guard.stopped == 0 ? differs : rc;
  }
  part->got = guard.pos - part->from;
  free(g.url);
  return rc;
}

static size_t cut(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ends, size_t max)
{
  size_t n = 0;
  for (uint64_t pos = off; pos < end && n < max; pos = ends[n++])
    ends[n] = end - pos > PRELUX_EE_RANGE_MAX ? pos + PRELUX_EE_RANGE_MAX : end;
  return n;
}

static int read_all(struct whole *w, struct guard *guard, uint64_t end, struct prelux_problem *why)
{
  pthread_mutex_init(&w->lock, NULL);
  w->job = (struct prelux_parallel_job){.pool = &w->e->parallel, .cut = cut, .fetch = fetch, .stop = &w->stop};
  int rc = prelux_parallel_read(&w->job, guard->pos, end, on_bytes, guard, why);
  pthread_mutex_destroy(&w->lock);
  if (guard->stopped < 0)
    return guard->stopped;
  if (rc == 0 && !w->told)
    rc = recheck(w->e, w->path, w->ufs, w->expect, why);
  if (rc == 0 && w->expect->size > VERIFY_ABOVE && prelux_ee_outdated(w->e, w->path, w->expect))
    rc = prelux_problem(why, ESTALE, "/%s: the under store has a later file than the cluster tells of", w->path);
  return rc == -ENOENT ? prelux_problem(why, ESTALE, "/%s: is gone", w->path) : prelux_ee_error(rc);
}

/* Encoded once: what would need twice is refused by prelux_ee_name. */
static int target_of(struct prelux_ee *e, const char *ufs, char *out, struct prelux_problem *why)
{
  char *place = NULL;
  int rc = prelux_ee_place(e, ufs, &place, why);
  if (rc == 0 && prelux_url_encode(out, PRELUX_URL_MAX - PRELUX_EE_HOST, place, strlen(place)) < 0)
    rc = prelux_problem(why, EOPNOTSUPP, "%.300s: too long for a URL", ufs);
  free(place);
  return rc;
}

int prelux_ee_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                   prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_ee *e = (struct prelux_ee *)b;
  struct guard guard = {.sink = sink, .arg = arg, .pos = off};
  char *ufs = NULL, *text = NULL;
  if (len == 0)
    return 0;
  if (expect->size == UINT64_MAX || off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "/%s: a part behind its end was asked for", path);
  if (prelux_ee_doubted(e, path))
  {
    int done = prelux_ee_under_read(e, path, -EIO, expect, off, len, on_bytes, &guard, why);
    if (done == 0 || guard.stopped < 0 || guard.pos > off)
      return guard.stopped < 0 ? guard.stopped : done;
  }
  int rc = prelux_ee_name(e, path, &ufs, why);
  if (rc < 0)
    return rc;
  if (!(text = malloc(PRELUX_URL_MAX)))
    rc = prelux_problem(why, ENOMEM, "no memory for a URL");
  struct whole w = {.e = e, .path = path, .ufs = ufs, .target = text, .expect = expect};
  if (rc == 0)
    rc = target_of(e, ufs, text, why);
  if (rc == 0)
    rc = read_all(&w, &guard, off + len, why);
  free(text);
  free(ufs);
  if (guard.stopped < 0 || rc == 0)
    return rc;
  return prelux_ee_under_read(e, path, rc, expect, guard.pos, off + len - guard.pos, sink, arg, why);
}
