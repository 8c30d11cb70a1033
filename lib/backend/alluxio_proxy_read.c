/* Backend `alluxio-proxy`, reading: download-file, or open-file and a stream where options for that are configured.
 *
 * download-file sends the whole file, knows no Range and, being chunked, not even its length; a stream has one pass from
 * the beginning. So a part costs what stands in front of it, every byte is counted, and the status before (`expect`) is
 * compared with the status after: fileId, length and time of change the same at both ends mean that all bytes between
 * were of that version. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"

#define READ_AGAIN 2 /* times a broken download is begun anew */

struct download
{
  uint64_t from, to; /* still to be passed on */
  uint64_t size;     /* of the whole file */
  uint64_t pos;      /* in the stream */
  prelux_read_fn sink;
  void *arg;
  int stopped; /* what the sink said */
  bool enough, too_long;
};

static int on_file_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct download *d = arg;
  uint64_t start = d->pos, end = d->pos + len;
  d->pos = end;
  if (end > d->size)
  {
    d->too_long = true;
    return -EPROTO;
  }
  if (end > d->from && start < d->to)
  {
    uint64_t skip = d->from > start ? d->from - start : 0;
    uint64_t take = (end < d->to ? end : d->to) - (start + skip);
    d->stopped = d->sink(d->arg, start + skip, (const char *)buf + skip, (size_t)take);
    if (d->stopped < 0)
      return d->stopped;
    d->from += take;
  }
  d->enough = d->from == d->to && d->to < d->size; /* the rest is not wanted */
  return d->enough ? -ECANCELED : 0;
}

/* What the end of a download says. 0: all of it came; -EAGAIN: it broke off, see get-status before trying again; other
 * -errno: final. */
static int judge(const struct download *d, const struct prelux_net_answer *a, int rc, const char *action, const char *path,
                 struct prelux_problem *why)
{
  if (d->stopped < 0)
    return d->stopped;
  if (d->enough)
    return 0;
  if (d->too_long)
    return prelux_problem(why, EPROTO, "%s /%s: longer than its length of %" PRIu64, action, path, d->size);
  if (rc < 0)
    return rc == -ENOMEM || rc == -ECANCELED ? prelux_proxy_failed(rc) : -EAGAIN;
  if (a->status != 200)
    return prelux_rest_error(a, action, path, why) == -EACCES ? -EACCES : -EAGAIN;
  if (d->pos == 0 && d->size)
    return prelux_rest_disabled(action, path, why);
  if (d->pos == d->size)
    return 0;
  prelux_problem(why, EIO, "%s /%s: ended after %" PRIu64 " of %" PRIu64 " bytes", action, path, d->pos, d->size);
  return -EAGAIN;
}

static int get(struct prelux_proxy *p, struct prelux_net_request *req, const char *action, const char *path, struct download *d,
               struct prelux_problem *why)
{
  struct prelux_net_answer a;
  req->tls = &p->tls;
  req->stall_s = p->timeout_s;
  req->sink = on_file_bytes;
  req->arg = d;
  d->pos = 0;
  int rc = prelux_net_call(p->net, req, &a, why);
  rc = judge(d, &a, rc, action, path, why);
  prelux_net_answer_free(&a);
  return rc;
}

/* A stream is read once and not again: what was read before an answer was lost does not come back. */
static int get_stream(struct prelux_proxy *p, const char *path, struct download *d, struct prelux_problem *why)
{
  static const char *const headers[] = {"Content-Type: application/json", NULL};
  struct prelux_proxy_outcome o = {0};
  char stream[32];
  char *body = prelux_proxy_message(p, PRELUX_PROXY_OPEN, UINT32_MAX), *answer = NULL;
  struct prelux_proxy_call c = {.action = "open-file", .path = path, .body = body};
  int rc = body ? prelux_proxy_change(p, &c, &o, &answer, why) : -ENOMEM;
  if (rc == 0 && sscanf(answer, "%31[0-9]", stream) != 1)
    rc = prelux_problem(why, EPROTO, "open-file /%.200s: the answer is no stream: %.40s", path, answer);
  free(answer);
  free(body);
  if (rc < 0)
    return rc == -PRELUX_EUNKNOWN || (rc == -EIO && o.again) ? -EAGAIN : rc;
  char url[1024];
  snprintf(url, sizeof(url), "%s/api/v1/streams/%s/read", p->url, stream);
  struct prelux_net_request req = {.method = "POST", .url = url, .headers = headers, .body = "", .once = true};
  rc = get(p, &req, "read", path, d, why);
  prelux_proxy_stream(p, stream, "close", NULL, &o, NULL, NULL);
  return rc;
}

static int download(struct prelux_proxy *p, const char *path, const char *url, struct download *d, struct prelux_problem *why)
{
  struct prelux_net_request req = {.method = "GET", .url = url, .retries = PRELUX_REST_RETRIES, .again = prelux_rest_again};
  return p->streams ? get_stream(p, path, d, why) : get(p, &req, "download-file", path, d, why);
}

/* -ESTALE unless the file still is what was expected. */
static int recheck(struct prelux_backend *b, const char *path, const struct prelux_object *expect,
                   struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = b->ops->stat(b, path, &now, why);
  if (rc == -EBUSY)
    return prelux_problem(why, ESTALE, "/%s: is being written anew", path);
  if (rc < 0)
    return rc;
  if (now.type != PRELUX_FILE || (expect->version[0] && strcmp(now.version, expect->version) != 0) ||
      now.size != expect->size)
    return prelux_problem(why, ESTALE, "/%s: changed (was %s, is %s)", path, expect->version, now.version);
  return 0;
}

static int read_file(struct prelux_backend *b, const char *path, const char *url, const struct prelux_object *expect,
                     struct download *d, struct prelux_problem *why)
{
  for (int n = 0;; n++)
  {
    struct prelux_problem now = {0};
    int rc = download((struct prelux_proxy *)b, path, url, d, why);
    if (d->stopped < 0)
      return rc;
    int status = recheck(b, path, expect, &now);
    if (status < 0)
    {
      if (why && (rc == 0 || status == -ESTALE || status == -ENOENT || status == -EACCES))
        *why = now; /* it explains the failure */
      return rc == 0 || status == -ESTALE || status == -ENOENT || status == -EACCES ? status
             : rc == -EAGAIN                                                        ? -EIO
                                                                                    : rc;
    }
    if (rc != -EAGAIN)
      return rc;
    if (n == READ_AGAIN || prelux_net_backoff(((struct prelux_proxy *)b)->net, n) < 0)
      return -EIO; /* *why tells of the last download */
  }
}

int prelux_proxy_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                      uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_proxy *p = (struct prelux_proxy *)b;
  if (len == 0)
    return 0;
  if (expect->size == UINT64_MAX || off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "/%s: a part behind its end was asked for", path);
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_rest_url(p->url, p->root, path, "download-file", url, PRELUX_URL_MAX, why);
  struct download d = {.from = off, .to = off + len, .size = expect->size, .sink = sink, .arg = arg};
  if (rc == 0)
    rc = read_file(b, path, url, expect, &d, why);
  free(url);
  return rc;
}
