/* Reading from a web server: one GET, continued by further ones when the connection breaks.
 *
 * Bytes of two versions are never put together. Every request carries a condition (If-Match, If-Unmodified-Since), and
 * since servers may ignore conditions, the head of every answer is checked before its first byte is passed on: status,
 * exact Content-Range, length, and the version it states against the expected one. An object without validators is read
 * in one GET or not at all. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"

#define CONTINUE_TIMES 4
#define CONTINUE_EVERY (64u << 20) /* one more for so many bytes */

struct reading
{
  struct prelux_http *h;
  const char *url;
  const struct prelux_object *expect;
  uint64_t pos, end; /* still to be read */
  prelux_read_fn sink;
  void *arg;
  struct prelux_problem *why;
  bool head_checked; /* of the answer at hand */
  int verdict;       /* a check's or the sink's -errno: final */
  int broke;         /* how the last answer broke off */
};

static const char *number(const char *s, uint64_t *ret)
{
  uint64_t n = 0;
  int digits = 0;
  for (; *s >= '0' && *s <= '9'; s++, digits++)
    n = n * 10 + (uint64_t)(*s - '0');
  *ret = n;
  return digits > 0 && digits < 19 ? s : NULL;
}

bool prelux_http_content_range(const char *s, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size)
{
  *ret_from = *ret_to = *ret_size = UINT64_MAX;
  if (strncmp(s, "bytes ", 6) != 0)
    return false;
  s += 6;
  if (*s == '*')
  {
    s++;
  }
  else
  {
    s = number(s, ret_from);
    if (!s || *s++ != '-' || !(s = number(s, ret_to)) || *ret_to < *ret_from)
      return false;
  }
  if (*s++ != '/')
    return false;
  if (strcmp(s, "*") == 0)
    return true;
  s = number(s, ret_size);
  return s && !*s;
}

static int say(struct reading *r, int err, const char *text, uint64_t a, uint64_t b)
{
  char shown[200];
  prelux_url_show(shown, sizeof(shown), r->url);
  return prelux_problem(r->why, err, "GET %s: %s (%" PRIu64 ", %" PRIu64 ")", shown, text, a, b);
}

static int changed(struct reading *r)
{
  char shown[200];
  prelux_url_show(shown, sizeof(shown), r->url);
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
    return say(r, EPROTO, "206 without a Content-Range that can be read", r->pos, r->end);
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
  if (a->status == 206 && !whole(r))
    rc = check_range(r, a, &size);
  else if (a->status == 206)
    rc = say(r, EPROTO, "206 though no range was asked for", r->pos, r->end);
  else if (a->status != 200)
    rc = prelux_http_refused(a, "GET", r->url, r->why);
  else if (!whole(r))
    rc = say(r, EPROTO, "200 to a range: the server cannot send parts", r->pos, r->end);
  if (rc < 0)
    return rc;
  if (size == UINT64_MAX)
    size = r->expect->size; /* chunked: counted while it comes */
  if (!prelux_http_version_same(a, size, r->expect->version))
    return changed(r);
  if (size != r->expect->size)
    return prelux_http_version_none(r->expect->version)
               ? changed(r)
               : say(r, EPROTO, "same version, other length", size, r->expect->size);
  return 0;
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct reading *r = arg;
  if (!r->head_checked)
    r->verdict = check_head(r, head);
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
static int judge_empty(struct reading *r, const struct prelux_net_answer *a)
{
  uint64_t from, to, size;
  if (a->status == 416)
  {
    bool shorter = prelux_http_content_range(a->content_range, &from, &to, &size) && size != r->expect->size;
    return shorter ? changed(r) : say(r, EPROTO, "416 to a range that the object has", r->pos, r->end);
  }
  int rc = check_head(r, a);
  return rc < 0 ? rc : say(r, EPROTO, "the body is empty or short", r->pos, r->end);
}

/* 0: all is read; 1: it broke off after some bytes and may be continued; or -errno. */
static int read_once(struct reading *r)
{
  char condition[PRELUX_VERSION_MAX + 32];
  const struct prelux_http *h = r->h;
  const char **headers = calloc(h->n_headers + 2, sizeof(*headers));
  if (!headers)
    return prelux_problem(r->why, ENOMEM, "no memory for headers");
  for (size_t i = 0; i < h->n_headers; i++)
    headers[i] = h->headers[i];
  if (prelux_http_version_condition(r->expect->version, condition, sizeof(condition)))
    headers[h->n_headers] = condition;
  struct prelux_net_answer a;
  struct prelux_net_request req = {
      .method = "GET",
      .url = r->url,
      .headers = headers,
      .tls = &h->tls,
      .off = whole(r) ? 0 : r->pos,
      .len = whole(r) ? 0 : r->end - r->pos,
      .max_redirects = PRELUX_HTTP_REDIRECTS,
      .retries = PRELUX_HTTP_RETRIES,
      .sink = on_bytes,
      .arg = r,
  };
  uint64_t before = r->pos;
  r->head_checked = false;
  int rc = prelux_net_call(h->net, &req, &a, r->why);
  free(headers);
  if (r->verdict < 0)
    rc = r->verdict;
  else if (rc < 0)
  {
    r->broke = prelux_http_failed(rc);
    rc = r->pos > before && r->pos < r->end ? 1 : r->broke;
  }
  else if (r->pos < r->end)
    rc = judge_empty(r, &a);
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
    if (prelux_net_backoff(r->h->net, 0) < 0)
      return prelux_problem(r->why, EIO, "the daemon ends");
  }
}

int prelux_http_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                     uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_http *h = (struct prelux_http *)b;
  if (len == 0)
    return 0;
  if (off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "%s: a part behind its end was asked for", path);
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_http_url(h, path, false, url, PRELUX_URL_MAX, why);
  struct reading r = {
      .h = h, .url = url, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why};
  if (rc == 0)
    rc = read_all(&r);
  free(url);
  return rc;
}
