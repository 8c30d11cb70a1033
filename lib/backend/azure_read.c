/* Reading: GET with If-Match and, for a part, x-ms-range. Before the first byte of every answer goes on it is checked: status,
 * exact Content-Range, length, ETag; servers exist that answer a range with other bytes. What breaks off after some bytes is
 * continued, since the version is pinned. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure.h"
#include "lib/backend/http.h"

#define CONTINUE_TIMES 4
#define CONTINUE_EVERY (64u << 20) /* one more for so many bytes */

struct reading {
  struct prelux_azure *z;
  const char *url;
  const struct prelux_object *expect;
  uint64_t pos, end; /* still to be read */
  prelux_read_fn sink;
  void *arg;
  struct prelux_problem *why;
  bool checked; /* the head of the answer at hand */
  int verdict;  /* a check's or the sink's -errno: final */
  int broke;    /* how the last answer broke off */
};

static int say(const struct reading *r, int err, const char *text, uint64_t a, uint64_t b)
{
  char shown[200];
  prelux_url_show(shown, sizeof(shown), r->url);
  return prelux_problem(r->why, err, "GET %s: %s (%" PRIu64 ", %" PRIu64 ")", shown, text, a, b);
}

static bool whole(const struct reading *r)
{
  return r->pos == 0 && r->end == r->expect->size;
}

static int check_range(const struct reading *r, const struct prelux_net_answer *a)
{
  uint64_t from, to, size;
  if (!prelux_http_content_range(a->content_range, &from, &to, &size) || from == UINT64_MAX)
    return say(r, EPROTO, "206 without a Content-Range that can be read", r->pos, r->end);
  if (size != r->expect->size)
    return say(r, EPROTO, "same version, other length", size, r->expect->size);
  if (from != r->pos || to != r->end - 1)
    return say(r, EPROTO, "another range than asked for came", from, to);
  return 0;
}

/* Before the first byte: is this what was asked for, of the expected version? */
static int check_head(const struct reading *r, const struct prelux_net_answer *a)
{
  char now[PRELUX_VERSION_MAX];
  if (a->status != 200 && a->status != 206)
    return prelux_azure_refused(r->z, a, "GET", r->url, r->why);
  if (!prelux_azure_version(a->etag, now))
    return say(r, EPROTO, "an answer without an ETag", r->pos, r->end);
  if (r->expect->version[0] && strcmp(now, r->expect->version) != 0)
    return say(r, ESTALE, "the blob is not of the expected version any more", r->pos, r->end);
  if ((a->status == 200) != whole(r))
    return say(r, EPROTO, a->status == 200 ? "200 to a range" : "206 though no range was asked for", r->pos, r->end);
  if (a->content_length != UINT64_MAX && a->content_length != r->end - r->pos)
    return say(r, EPROTO, "another length than asked for", a->content_length, r->end - r->pos);
  return a->status == 206 ? check_range(r, a) : 0;
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct reading *r = arg;
  if (!r->checked)
    r->verdict = check_head(r, head);
  r->checked = true;
  if (r->verdict == 0 && len > r->end - r->pos)
    r->verdict = say(r, EPROTO, "more bytes than asked for", r->pos + len, r->end);
  if (r->verdict == 0)
    r->verdict = r->sink(r->arg, r->pos, buf, len);
  if (r->verdict == 0)
    r->pos += len;
  return r->verdict;
}

/* An answer without a byte for the sink. */
static int judge_empty(const struct reading *r, const struct prelux_net_answer *a)
{
  if (a->status == 416) /* If-Match comes first: of this version the range must exist */
    return say(r, r->expect->version[0] ? EPROTO : ESTALE, "416 to a range that the blob has", r->pos, r->end);
  int rc = check_head(r, a);
  return rc < 0 ? rc : say(r, EPROTO, "the body is empty or short", r->pos, r->end);
}

/* 0: all is read; 1: it broke off after some bytes and may be continued; or -errno. */
static int read_once(struct reading *r)
{
  struct prelux_net_answer a;
  struct prelux_azure_call call = {
      .method = "GET",
      .url = r->url,
      .etag = strncmp(r->expect->version, "e:", 2) == 0 ? r->expect->version + 2 : NULL,
      .off = r->pos,
      .len = whole(r) ? 0 : r->end - r->pos,
      .sink = on_bytes,
      .arg = r,
  };
  uint64_t before = r->pos;
  r->checked = false;
  int rc = prelux_azure_call(r->z, &call, &a, r->why);
  if (r->verdict < 0)
    rc = r->verdict;
  else if (rc < 0)
  {
    r->broke = prelux_azure_failed(rc);
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
  for (;;)
  {
    int rc = read_once(r);
    if (rc <= 0)
      return rc;
    if (!r->expect->version[0] || tries-- == 0)
      return r->broke; /* *why says how */
    if (prelux_net_backoff(r->z->net, 0) < 0)
      return prelux_problem(r->why, EIO, "the daemon ends");
  }
}

int prelux_azure_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                      uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_azure *z = (struct prelux_azure *)b;
  if (len == 0)
    return 0;
  if (expect->size == UINT64_MAX || off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "%s: a part behind its end was asked for", path);
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_azure_blob_url(z, path, url, PRELUX_URL_MAX, why);
  struct reading r = {.z = z, .url = url, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why};
  if (rc == 0)
    rc = read_all(&r);
  free(url);
  return rc;
}
