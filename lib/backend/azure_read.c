/* Reading: GET with If-Match and, for a part, x-ms-range. Before the first byte of every answer goes on it is checked: status,
 * exact Content-Range, length, ETag; servers exist that answer a range with other bytes. What breaks off after some bytes is
 * continued, since the version is pinned. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure.h"
#include "lib/backend/read_on.h"

struct reading {
  struct prelux_read_on on;
  struct prelux_azure *z;
  const char *url;
};

/* Before the first byte: is this what was asked for, of the expected version? */
static int check(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  const struct reading *az = r->of;
  char now[PRELUX_VERSION_MAX];
  uint64_t size = r->expect->size;
  if (a->status != 200 && a->status != 206)
    return prelux_azure_refused(az->z, a, "GET", az->url, r->why);
  if (!prelux_azure_version(a->etag, now))
    return prelux_read_on_say(r, EPROTO, "an answer without an ETag", r->pos, r->end);
  if (r->expect->version[0] && strcmp(now, r->expect->version) != 0)
    return prelux_read_on_changed(r);
  if (a->status == 200 && !prelux_read_on_whole(r))
    return prelux_read_on_unable(r);
  if (a->status == 206 && prelux_read_on_whole(r))
    return prelux_read_on_say(r, EPROTO, "206 though no range was asked for", r->pos, r->end);
  if (a->content_length != UINT64_MAX && a->content_length != r->end - r->pos)
    return prelux_read_on_say(r, EPROTO, "another length than asked for", a->content_length, r->end - r->pos);
  int rc = a->status == 206 ? prelux_read_on_range(r, a, &size) : 0;
  return rc == 0 ? prelux_read_on_length(r, size) : rc;
}

/* An answer without a byte for the sink. */
static int empty(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  if (a->status == 416) /* If-Match comes first: of this version the range must exist */
    return prelux_read_on_say(r, r->expect->version[0] ? EPROTO : ESTALE, "416 to a range that the blob has", r->pos, r->end);
  int rc = check(r, a);
  return rc < 0 ? rc : prelux_read_on_short(r);
}

static int ask(struct prelux_read_on *r, struct prelux_net_answer *a)
{
  const struct reading *az = r->of;
  struct prelux_azure_call call = {
      .method = "GET",
      .url = az->url,
      .etag = strncmp(r->expect->version, "e:", 2) == 0 ? r->expect->version + 2 : NULL,
      .off = r->pos,
      .len = prelux_read_on_whole(r) ? 0 : r->end - r->pos,
      .sink = prelux_read_on_bytes,
      .arg = r,
      .cancel = r->over,
  };
  call.target = prelux_read_on_target(r, &call.target_len);
  return prelux_azure_call(az->z, &call, a, r->why);
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
  char shown[200];
  struct reading r = {
      .on = {.net = z->net, .what = shown, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why,
             .parts = expect->version[0], .ask = ask, .check = check, .empty = empty, .failed = prelux_azure_failed,
             .parallel = &z->parallel},
      .z = z,
      .url = url,
  };
  r.on.of = &r;
  if (rc == 0)
  {
    prelux_url_show(shown, sizeof(shown), url);
    rc = prelux_read_on(&r.on);
  }
  free(url);
  return rc;
}
