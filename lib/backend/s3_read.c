/* Reading an object: one GET, continued by further ones when the connection breaks.
 *
 * Bytes of two versions are never put together. Every request carries If-Match, and since servers may ignore it, the
 * head of every answer is checked before its first byte is passed on: exact Content-Range, length, and the version it
 * states against the expected one. Some servers (rclone) answer a Range with 200 and the part: that is taken when
 * Content-Range says exactly what was asked; 200 without one is the whole object and taken only for that. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/backend/read_on.h"
#include "lib/backend/s3.h"

struct reading
{
  struct prelux_read_on on;
  struct prelux_s3 *s;
  const char *key;
};

/* Before the first byte: is this what was asked for, of the expected version? */
static int check(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  uint64_t size = a->content_length;
  bool whole = prelux_read_on_whole(r);
  int rc = 0;
  if (a->status != 200 && a->status != 206)
    rc = prelux_read_on_say(r, EPROTO, "no 200 or 206", 0, 0);
  else if (whole ? a->status == 206 : a->status == 206 || a->content_range[0])
    rc = whole ? prelux_read_on_say(r, EPROTO, "206 though no range was asked for", r->pos, r->end) : prelux_read_on_range(r, a, &size);
  else if (!whole)
    rc = prelux_read_on_unable(r);
  if (rc < 0)
    return rc;
  struct prelux_net_answer quoted = {0};
  memcpy(quoted.etag, a->etag, sizeof(quoted.etag));
  memcpy(quoted.last_modified, a->last_modified, sizeof(quoted.last_modified));
  memcpy(quoted.date, a->date, sizeof(quoted.date));
  prelux_s3_quote_etag(quoted.etag, sizeof(quoted.etag));
  rc = prelux_read_on_same(r, &quoted, size);
  if (rc == 0 && whole && a->status == 200)
    prelux_s3_sums_note(((const struct reading *)r->of)->s, ((const struct reading *)r->of)->key, r->expect->version, a);
  return rc;
}

/* An answer without a byte for the sink. */
static int empty(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  const struct reading *s3 = r->of;
  const struct prelux_s3_ask asked = {.kind = PRELUX_S3_GETS, .key = s3->key};
  if (a->status == 416)
    return prelux_read_on_beyond(r, a);
  if (a->status != 200 && a->status != 206)
    return prelux_s3_refused(s3->s, &asked, a, r->why);
  int rc = check(r, a);
  return rc < 0 ? rc : prelux_read_on_short(r);
}

/* Of a whole the checksums are asked for, too. There are servers that do not take that. */
static int call(const struct reading *s3, struct prelux_s3_ask *ask, bool whole, struct prelux_net_answer *a, struct prelux_problem *why)
{
  static const char *const sums[] = {PRELUX_S3_SUM_MODE, NULL};
  bool wanted = whole && prelux_s3_sums_wanted(s3->s);
  ask->headers = wanted ? sums : NULL;
  int rc = prelux_s3_call(s3->s, ask, a, why);
  if (rc < 0 || !wanted || (a->status != 400 && a->status != 501))
    return rc;
  prelux_net_answer_free(a);
  ask->headers = NULL;
  rc = prelux_s3_call(s3->s, ask, a, why);
  if (a->status >= 200 && a->status < 300)
    atomic_store(&s3->s->refuses_sums, true);
  return rc;
}

static int ask(struct prelux_read_on *r, struct prelux_net_answer *a)
{
  const struct reading *s3 = r->of;
  char condition[PRELUX_VERSION_MAX + 32];
  /* If-Unmodified-Since would not do: servers over files compare it with a time that has fractions, and always refuse.
   */
  bool conditional = r->expect->version[0] == 'e' && !atomic_load_explicit(&s3->s->bare_etags, memory_order_relaxed) &&
                     prelux_http_version_condition(r->expect->version, condition, sizeof(condition));
  bool whole = prelux_read_on_whole(r);
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_GETS,
      .key = s3->key,
      .condition = conditional ? condition : NULL,
      .off = whole ? 0 : r->pos,
      .len = whole ? 0 : r->end - r->pos,
      .sink = prelux_read_on_bytes,
      .arg = r,
      .cancel = r->over,
  };
  ask.target = prelux_read_on_target(r, &ask.target_len);
  return call(s3, &ask, whole, a, r->why);
}

static int as_it_is(int rc)
{
  return rc;
}

int prelux_s3_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                   uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  if (len == 0)
    return 0;
  if (off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "%s: a part behind its end was asked for", path);
  char *key = malloc(PRELUX_S3_KEY_MAX);
  if (!key)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  int rc = (int)prelux_s3_key(s, path, false, key, why);
  char shown[PRELUX_S3_SHOWN];
  struct reading r = {
      .on = {.net = s->net, .what = shown, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why,
             .parts = !prelux_http_version_none(expect->version) && expect->version[0],
             .ask = ask, .check = check, .empty = empty, .failed = as_it_is, .parallel = &s->parallel},
      .s = s,
      .key = key,
  };
  r.on.of = &r;
  if (rc >= 0)
    prelux_s3_show(s, key, shown);
  if (rc >= 0 && !r.on.parts && !prelux_read_on_whole(&r.on))
    rc = prelux_read_on_say(&r.on, EOPNOTSUPP, "an object without ETag and Last-Modified can only be read as a whole", off, off + len);
  if (rc >= 0)
    rc = prelux_read_on(&r.on);
  free(key);
  return rc;
}
