/* Reading: ranges of the S3 port, which loads what is not cached. A worker that does not own the file answers 307 or fetches the bytes
 * itself; redirects are followed by hand, by our own path, since a Location may hold it decoded.
 *
 * What version an answer is of, nobody has written down for these workers. So: the length in Content-Range must be the expected one,
 * an ETag of the known form "(len:..., modtime:...)" must tell the expected version, all answers of one read must have the same
 * ETag, and where the ETag did not tell the version, /v1/info is asked again afterwards: it must say what it said before. After a read of
 * an object of more than a page the under store is asked as well (alluxio_ee_doubt.c). */
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
  };
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

/* The part from one worker; g->on.pos tells how far it came. */
static int read_from(struct reading *g, const char *http_host, uint64_t end)
{
  int rc = 0;
  while (rc == 0 && g->on.pos < end)
  {
    s3_host(g->e, http_host, g->host);
    g->on.end = end - g->on.pos > PRELUX_EE_RANGE_MAX ? g->on.pos + PRELUX_EE_RANGE_MAX : end;
    g->on.verdict = 0;
    rc = prelux_read_on(&g->on);
  }
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

static int read_workers(struct prelux_ee *e, const char *path, const char *ufs, struct reading *g, struct guard *guard, uint64_t end)
{
  struct prelux_ee_round r;
  int rc = prelux_problem(g->on.why, EIO, "/%.300s: there is no worker to ask", path);
  prelux_ee_round_init(e, ufs, &r);
  for (size_t i = 0; i < r.n && guard->stopped == 0 && !prelux_ee_final(rc); i++)
  {
    rc = read_from(g, r.hosts[i], end);
    if (guard->stopped == 0 && !prelux_ee_final(rc))
      prelux_ee_failed(e, r.hosts[i], ufs);
  }
  if (guard->stopped < 0)
    return guard->stopped;
  if (rc == 0 && !g->told)
    rc = recheck(e, path, ufs, g->on.expect, g->on.why);
  if (rc == 0 && g->on.expect->size > VERIFY_ABOVE && prelux_ee_outdated(e, path, g->on.expect))
    rc = prelux_problem(g->on.why, ESTALE, "/%s: the under store has a later file than the cluster tells of", path);
  return rc == -ENOENT ? prelux_problem(g->on.why, ESTALE, "/%s: is gone", path) : prelux_ee_error(rc);
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
  if (!(text = malloc(2 * PRELUX_URL_MAX)))
    rc = prelux_problem(why, ENOMEM, "no memory for a URL");
  struct reading g = {
      .on = {.net = e->net, .what = ufs, .expect = expect, .pos = off, .end = off + len, .sink = on_bytes, .arg = &guard, .why = why,
             .parts = true, .ask = ask, .check = check, .empty = empty, .failed = failed},
      .e = e,
      .target = text,
      .url = text ? text + PRELUX_URL_MAX : NULL,
  };
  if (rc == 0)
    rc = target_of(e, ufs, text, why);
  if (rc == 0)
    rc = read_workers(e, path, ufs, &g, &guard, off + len);
  free(text);
  free(ufs);
  if (guard.stopped < 0 || rc == 0)
    return rc;
  return prelux_ee_under_read(e, path, rc, expect, guard.pos, off + len - guard.pos, sink, arg, why);
}
