/* One question to a worker's S3 port (PROTOCOLS 0.2, 2B).
 *
 * Every question has a connection of its own: after a body the next answer on it would come without a head. Ranges are at
 * most 8 MiB: one above the JVM's direct memory poisons the worker, which from then on promises bytes and sends none. The
 * server ignores conditions, so each answer's own version (its ETag "(len:..., modtime:...)", else Last-Modified and the
 * length in Content-Range) is held against the expected one before its first byte is passed on. A redirect is never
 * followed as it stands: its text has the key decoded once too often. It only names a member, whom the caller may ask. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/http.h"

#define NO_VERSION INT64_MIN

static char *url_of(const struct prelux_alluxio_worker *w, const struct prelux_alluxio_name *n, bool slash)
{
  char *url;
  size_t len = strlen(n->s3);
  return asprintf(&url, "%s%s%s", w->s3, n->s3, slash && n->s3[len - 1] != '/' ? "/" : "") < 0 ? NULL : url;
}

/* mtime that an answer tells, to the millisecond or (*ret_rough) to the second; NO_VERSION: none. */
static int64_t time_of(const struct prelux_net_answer *a, bool *ret_rough)
{
  uint64_t size;
  int64_t ms;
  *ret_rough = !prelux_alluxio_etag(a->etag, &size, &ms);
  if (!*ret_rough)
    return ms;
  int64_t ns = a->last_modified[0] ? prelux_http_date(a->last_modified) : 0;
  return ns ? ns / 1000000 : NO_VERSION;
}

static int64_t seconds(int64_t ms)
{
  return ms >= 0 ? ms / 1000 : -((999 - ms) / 1000);
}

bool prelux_alluxio_same(const struct prelux_alluxio *x, const struct prelux_net_answer *a, uint64_t size,
                         const struct prelux_object *expect)
{
  bool rough;
  uint64_t len;
  int64_t tagged, ms = time_of(a, &rough), want = expect->mtime_ns / 1000000;
  if (size != expect->size || (prelux_alluxio_etag(a->etag, &len, &tagged) && len != expect->size))
    return false;
  if (ms == NO_VERSION || expect->mtime_ns == 0)
    return true;
  return rough || x->whole_seconds ? seconds(ms) == seconds(want) : ms == want;
}

/* A failure of net: what is the worker to blame for? */
static enum prelux_alluxio_word broken(const struct prelux_alluxio_worker *w, const struct prelux_net_answer *a, int rc,
                                       const struct prelux_problem *why)
{
  bool promised = (a->status == 200 || a->status == 206) && a->content_length != UINT64_MAX && a->content_length > 0;
  if (rc == -ECANCELED || rc == -ENOMEM)
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
  else if (promised && a->received == 0 && rc == -EPROTO)
    prelux_alluxio_health_poisoned(w->health, why);
  else
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_S3, why);
  return PRELUX_ALLUXIO_OTHER;
}

/* A status that no answer with data has. */
static enum prelux_alluxio_word refused(const struct prelux_alluxio_worker *w, const struct prelux_net_answer *a, bool owner,
                                        const char *method, const struct prelux_alluxio_name *n, int *ret_rc,
                                        struct prelux_problem *why)
{
  char said[120];
  prelux_problem_said(said, sizeof(said), a->body, a->body_len);
  if (a->status == 404)
  {
    prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = prelux_problem(why, ENOENT, "%s /%s: not there (worker %s)", method, n->path, w->address);
    return PRELUX_ALLUXIO_FINAL;
  }
  if (a->status == 401 || a->status == 403 || a->status == 400)
  { /* 400 is how a worker says that it does not like the user */
    prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = prelux_problem(why, EACCES, "%s /%s: worker %s: HTTP %d %s", method, n->path, w->address, a->status, said);
    return PRELUX_ALLUXIO_FINAL;
  }
  prelux_problem(why, EIO, "%s /%s: worker %s: HTTP %d %s", method, n->path, w->address, a->status, said);
  if (owner)
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_S3, why);
  else /* 500 UNAVAILABLE for a dead worker's file says nothing about this one */
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
  return PRELUX_ALLUXIO_OTHER;
}

/* HEAD */

enum prelux_alluxio_word prelux_alluxio_head(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w,
                                             const struct prelux_alluxio_name *n, bool slash, struct prelux_object *ret, int *ret_rc,
                                             struct prelux_problem *why)
{
  const char *const headers[] = {x->authorization, NULL};
  struct prelux_net_answer a;
  char *url = url_of(w, n, slash);
  if (!url)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return PRELUX_ALLUXIO_FINAL;
  }
  struct prelux_net_request req = {
      .method = "HEAD",
      .url = url,
      .headers = headers,
      .lone = true,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_META_STALL_S,
  };
  int rc = prelux_net_call(x->net, &req, &a, why);
  enum prelux_alluxio_word word;
  bool rough;
  if (rc < 0)
    word = broken(w, &a, rc, why);
  else if (a.status != 200)
    word = refused(w, &a, false, "HEAD", n, ret_rc, why);
  else if (!slash && n->key && a.content_length == UINT64_MAX)
  {
    prelux_problem(why, EPROTO, "HEAD /%s: worker %s does not say how long it is", n->path, w->address);
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_S3, why);
    word = PRELUX_ALLUXIO_OTHER;
  }
  else
  {
    bool folder = slash || !n->key; /* a bucket is a folder */
    int64_t ms = time_of(&a, &rough);
    prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
    prelux_alluxio_describe(x, folder, folder ? 0 : a.content_length, ms == NO_VERSION ? 0 : ms, ret);
    word = PRELUX_ALLUXIO_YES;
  }
  prelux_net_answer_free(&a);
  free(url);
  return word;
}

/* GET of a range */

struct answer
{
  struct prelux_alluxio *x;
  struct prelux_alluxio_part *part;
  uint64_t to;
  uint64_t at; /* of the next byte */
  bool judged;
  int verdict;  /* what is wrong with the head: -ESTALE is final, -EPROTO the worker's fault */
  struct prelux_problem *why;
};

int prelux_alluxio_pass(struct prelux_alluxio_part *p, const void *buf, size_t len)
{
  if (len > p->end - p->pos)
    len = (size_t)(p->end - p->pos);
  if (len)
    p->stopped = p->sink(p->arg, p->pos, buf, len);
  if (p->stopped == 0)
    p->pos += len;
  return p->stopped;
}

void prelux_alluxio_target(const struct prelux_alluxio_part *p, uint64_t len, struct prelux_net_request *req)
{
  uint64_t skip = p->pos - p->place.from;
  if (!p->place.buf || skip > p->place.cap || len > p->place.cap - skip)
    return;
  req->target = p->place.buf + skip;
  req->target_len = len;
}

/* Is this the range that was asked for, of the version that is expected? */
static int judge(struct answer *t, const struct prelux_net_answer *a)
{
  const char *path = t->part->name->path;
  uint64_t from, to, size;
  if (a->status != 206)
    return prelux_problem(t->why, EPROTO, "GET /%s: HTTP %d to a range", path, a->status);
  if (!prelux_http_content_range(a->content_range, &from, &to, &size) || size == UINT64_MAX)
    return prelux_problem(t->why, EPROTO, "GET /%s: Content-Range \"%.60s\"", path, a->content_range);
  if (!prelux_alluxio_same(t->x, a, size, t->part->expect))
    return prelux_problem(t->why, ESTALE, "GET /%s: changed: length %" PRIu64 ", ETag %.80s, %.60s; expected %s", path, size, a->etag,
                          a->last_modified, t->part->expect->version);
  if (from != t->at || to != t->to - 1 || a->content_length != t->to - t->at)
    return prelux_problem(t->why, EPROTO, "GET /%s: bytes %" PRIu64 "-%" PRIu64 " were asked for, came %.60s", path, t->at,
                          t->to - 1, a->content_range);
  return 0;
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct answer *t = arg;
  if (!t->judged)
    t->verdict = judge(t, head);
  t->judged = true;
  if (t->verdict == 0 && len > t->to - t->at)
    t->verdict = prelux_problem(t->why, EPROTO, "GET /%s: more bytes than asked for", t->part->name->path);
  if (t->verdict < 0)
    return t->verdict;
  int rc = t->part->pos < t->part->end ? prelux_alluxio_pass(t->part, buf, len) : 0;
  if (rc == 0)
    t->at += len;
  return rc;
}

/* 307 to whoever owns it. */
static enum prelux_alluxio_word sent_on(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                        const struct prelux_alluxio_worker *w, const struct prelux_net_answer *a, const char *path,
                                        const struct prelux_alluxio_worker **ret_next, struct prelux_problem *why)
{
  struct prelux_url u;
  const struct prelux_alluxio_worker *next = NULL;
  prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
  atomic_fetch_add_explicit(&x->redirects, 1, memory_order_relaxed);
  if (r->view->trust != PRELUX_ALLUXIO_RING_GUESSED) /* of a guessed order nothing else was to be expected */
    prelux_alluxio_members_stir(x->members);
  if (a->location && prelux_url_parse(a->location, &u) == 0)
    next = prelux_alluxio_view_member(x->members, r->view, u.host, u.host_len, u.port);
  if (!next)
    prelux_problem(why, EIO, "GET /%s: worker %s redirects to %.100s, which is no member of the cluster", path, w->address,
                   a->location ? a->location : "nowhere");
  else
    prelux_problem(why, EIO, "GET /%s: worker %s redirects to %s", path, w->address, next->address);
  if (next == w) /* to itself by another name: it will not get better */
    next = NULL;
  *ret_next = next;
  return PRELUX_ALLUXIO_OTHER;
}

static enum prelux_alluxio_word weigh(struct answer *t, const struct prelux_alluxio_round *r, const struct prelux_alluxio_worker *w,
                                      const struct prelux_net_answer *a, int rc, const struct prelux_alluxio_worker **ret_next,
                                      int *ret_rc)
{
  struct prelux_alluxio_part *p = t->part;
  if (p->stopped < 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = p->stopped;
    return PRELUX_ALLUXIO_FINAL;
  }
  if (rc == 0 && a->status == 307)
    return sent_on(t->x, r, w, a, p->name->path, ret_next, t->why);
  if (rc == 0 && (a->status < 200 || a->status >= 300))
    return refused(w, a, w == r->workers[0], "GET", p->name, ret_rc, t->why);
  if (rc == 0 && !t->judged)
    t->verdict = judge(t, a); /* not a byte: "bytes 0-0/size" is what a range behind the end gets */
  if (t->verdict == -ESTALE)
  {
    prelux_alluxio_health_answered(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = -ESTALE;
    return PRELUX_ALLUXIO_FINAL;
  }
  if (t->verdict < 0 || rc < 0)
    return broken(w, a, rc < 0 ? rc : t->verdict, t->why);
  prelux_alluxio_health_ok(w->health, PRELUX_ALLUXIO_S3);
  atomic_fetch_add_explicit(&t->x->answered, 1, memory_order_relaxed);
  return PRELUX_ALLUXIO_YES;
}

enum prelux_alluxio_word prelux_alluxio_range(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                              const struct prelux_alluxio_worker *w, struct prelux_alluxio_part *part, uint64_t to,
                                              const struct prelux_alluxio_worker **ret_next, int *ret_rc, struct prelux_problem *why)
{
  const char *const headers[] = {x->authorization, NULL};
  struct answer t = {.x = x, .part = part, .to = to, .at = part->pos, .why = why};
  struct prelux_net_answer a;
  uint64_t before = part->pos;
  char *url = url_of(w, part->name, false);
  *ret_next = NULL;
  if (!url)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_S3);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return PRELUX_ALLUXIO_FINAL;
  }
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .headers = headers,
      .off = part->pos,
      .len = to - part->pos,
      .max_body = to - part->pos,
      .lone = true,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_STALL_S,
      .sink = on_bytes,
      .arg = &t,
      .cancel = part->cancel,
  };
  prelux_alluxio_target(part, req.len, &req);
  int rc = prelux_net_call(x->net, &req, &a, why);
  enum prelux_alluxio_word word = weigh(&t, r, w, &a, rc, ret_next, ret_rc);
  if (part->pos > before)
    prelux_alluxio_count(x->health, PRELUX_ALLUXIO_FROM_S3, part->pos - before);
  prelux_net_answer_free(&a);
  free(url);
  return word;
}
