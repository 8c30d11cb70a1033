/* Reading an object: one GET, continued by further ones when the connection breaks.
 *
 * Bytes of two versions are never put together. Every request carries If-Match, and since servers may ignore it, the
 * head of every answer is checked before its first byte is passed on: exact Content-Range, length, and the version it
 * states against the expected one. Some servers (rclone) answer a Range with 200 and the part: that is taken when
 * Content-Range says exactly what was asked; 200 without one is the whole object and taken only for that. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/backend/s3.h"

#define CONTINUE_TIMES 4
#define CONTINUE_EVERY (64u << 20) /* one more for so many bytes */

struct reading
{
  struct prelux_s3 *s;
  const char *key;
  const struct prelux_object *expect;
  uint64_t pos, end; /* still to be read */
  prelux_read_fn sink;
  void *arg;
  struct prelux_problem *why;
  bool head_checked; /* of the answer at hand */
  int verdict;       /* a check's or the sink's -errno: final */
  int broke;         /* how the last answer broke off */
};

static int say(struct reading *r, int err, const char *text, uint64_t a, uint64_t b)
{
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_show(r->s, r->key, shown);
  return prelux_problem(r->why, err, "GET %s: %s (%" PRIu64 ", %" PRIu64 ")", shown, text, a, b);
}

static int changed(struct reading *r)
{
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_show(r->s, r->key, shown);
  return prelux_problem(r->why, ESTALE, "GET %s: the object is not of the expected version any more", shown);
}

/* The whole object is asked for: no Range is sent. */
static bool whole(const struct reading *r)
{
  return r->pos == 0 && r->end == r->expect->size;
}

static int check_range(struct reading *r, const struct prelux_net_answer *a, uint64_t *ret_size)
{
  uint64_t from, to, size;
  if (!prelux_http_content_range(a->content_range, &from, &to, &size) || from == UINT64_MAX)
    return say(r, EPROTO, "a part without a Content-Range that can be read", r->pos, r->end);
  if (from != r->pos || to != r->end - 1)
    return say(r, EPROTO, "another range than asked for came", from, to);
  if (a->content_length != UINT64_MAX && a->content_length != r->end - r->pos)
    return say(r, EPROTO, "Content-Length and Content-Range do not agree", a->content_length, r->end - r->pos);
  *ret_size = size == UINT64_MAX ? r->expect->size : size;
  return 0;
}

/* Before the first byte: is this what was asked for, of the expected version? */
static int check_head(struct reading *r, const struct prelux_net_answer *a)
{
  uint64_t size = a->content_length;
  int rc = 0;
  if (whole(r) ? a->status == 206 : a->status == 206 || (a->status == 200 && a->content_range[0]))
    rc = whole(r) ? say(r, EPROTO, "206 though no range was asked for", r->pos, r->end) : check_range(r, a, &size);
  else if (a->status == 200 && !whole(r))
    rc = say(r, EPROTO, "200 to a range: the server cannot send parts", r->pos, r->end);
  if (rc < 0)
    return rc;
  if (size == UINT64_MAX)
    size = r->expect->size; /* chunked: counted while it comes */
  struct prelux_net_answer quoted = {0};
  memcpy(quoted.etag, a->etag, sizeof(quoted.etag));
  memcpy(quoted.last_modified, a->last_modified, sizeof(quoted.last_modified));
  memcpy(quoted.date, a->date, sizeof(quoted.date));
  prelux_s3_quote_etag(quoted.etag, sizeof(quoted.etag));
  if (!prelux_http_version_same(&quoted, size, r->expect->version))
    return changed(r);
  if (size != r->expect->size)
    return prelux_http_version_none(r->expect->version)
               ? changed(r)
               : say(r, EPROTO, "same version, other length", size, r->expect->size);
  return 0;
}

/* Called for 2xx only. */
static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct reading *r = arg;
  if (!r->head_checked)
    r->verdict =
        head->status == 200 || head->status == 206 ? check_head(r, head) : say(r, EPROTO, "no 200 or 206", 0, 0);
  r->head_checked = true;
  if (r->verdict == 0 && len > r->end - r->pos)
    r->verdict = say(r, EPROTO, "more bytes than asked for", r->pos + len, r->end);
  if (r->verdict == 0)
    r->verdict = r->sink(r->arg, r->pos, buf, len);
  if (r->verdict == 0)
    r->pos += len;
  return r->verdict;
}

/* An answer without a byte for the sink. */
static int judge_empty(struct reading *r, const struct prelux_s3_ask *ask, const struct prelux_net_answer *a)
{
  uint64_t from, to, size;
  if (a->status == 416)
  {
    bool shorter = prelux_http_content_range(a->content_range, &from, &to, &size) && size == r->expect->size;
    return shorter ? say(r, EPROTO, "416 to a range that the object has", r->pos, r->end) : changed(r);
  }
  if (a->status != 200 && a->status != 206)
    return prelux_s3_refused(r->s, ask, a, r->why);
  int rc = check_head(r, a);
  return rc < 0 ? rc : say(r, EPROTO, "the body is empty or short", r->pos, r->end);
}

/* 0: all is read; 1: it broke off after some bytes and may be continued; or -errno. */
static int read_once(struct reading *r)
{
  char condition[PRELUX_VERSION_MAX + 32];
  /* If-Unmodified-Since would not do: servers over files compare it with a time that has fractions, and always refuse.
   */
  bool conditional = r->expect->version[0] == 'e' && !atomic_load_explicit(&r->s->bare_etags, memory_order_relaxed) &&
                     prelux_http_version_condition(r->expect->version, condition, sizeof(condition));
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_GETS,
      .key = r->key,
      .condition = conditional ? condition : NULL,
      .off = whole(r) ? 0 : r->pos,
      .len = whole(r) ? 0 : r->end - r->pos,
      .sink = on_bytes,
      .arg = r,
  };
  struct prelux_net_answer a;
  uint64_t before = r->pos;
  r->head_checked = false;
  int rc = prelux_s3_call(r->s, &ask, &a, r->why);
  if (r->verdict < 0)
  {
    rc = r->verdict;
  }
  else if (rc < 0)
  {
    r->broke = rc;
    rc = r->pos > before && r->pos < r->end ? 1 : rc;
  }
  else if (r->pos < r->end)
  {
    rc = judge_empty(r, &ask, &a);
  }
  prelux_net_answer_free(&a);
  return rc;
}

static int read_all(struct reading *r)
{
  uint64_t tries = CONTINUE_TIMES + (r->end - r->pos) / CONTINUE_EVERY;
  bool parts = !prelux_http_version_none(r->expect->version) && r->expect->version[0];
  if (!parts && !whole(r))
    return say(r, EOPNOTSUPP, "an object without ETag and Last-Modified can only be read as a whole", r->pos, r->end);
  for (;;)
  {
    int rc = read_once(r);
    if (rc <= 0)
      return rc;
    if (!parts || tries-- == 0)
      return r->broke; /* *why says how */
    if (prelux_net_backoff(r->s->net, 0) < 0)
      return prelux_problem(r->why, EIO, "the daemon ends");
  }
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
  struct reading r = {
      .s = s, .key = key, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why};
  if (rc >= 0)
    rc = read_all(&r);
  free(key);
  return rc;
}
