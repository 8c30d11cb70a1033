/* Pages: GET /v1/file/ID/page/N on the owner, over connections that are kept; the fastest way to what the cluster has cached.
 *
 * Nothing in the answer says of which file, which version or which offset the bytes are. So
 * - a page is used only when the page size of this worker has been proven (alluxio_proof.c): with another size page N begins
 *   elsewhere, and its length may still be the expected one;
 * - a page must be exactly min(page size, file size - offset) long: a range cut short somebody's earlier load, and what is
 *   shorter is a miss, not the end of the file;
 * - whoever reads pages compares the version afterwards (alluxio_read.c).
 * A miss is a closed connection; so pages are asked for only while they are being found. */
#include "lib/backend/alluxio_page.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"

struct fetch
{
  struct prelux_alluxio_part *part;
  uint64_t expected;
  bool other; /* length: a short page, or none of ours */
};

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct fetch *f = arg;
  if (head->status != 200 || head->content_length != f->expected)
  {
    f->other = true;
    return -EPROTO;
  }
  return prelux_alluxio_pass(f->part, buf, len);
}

static char *page_url(const struct prelux_alluxio_worker *w, const char *id, uint64_t n, uint64_t off, uint64_t len, bool whole)
{
  char *url;
  int rc = whole ? asprintf(&url, "%s/v1/file/%s/page/%" PRIu64, w->http, id, n)
                 : asprintf(&url, "%s/v1/file/%s/page/%" PRIu64 "?offset=%" PRIu64 "&length=%" PRIu64, w->http, id, n, off, len);
  return rc < 0 ? NULL : url;
}

static enum prelux_alluxio_word weigh(const struct prelux_alluxio_worker *w, const struct fetch *f, const struct prelux_net_answer *a,
                                      int rc, int *ret_rc, struct prelux_problem *why)
{
  const struct prelux_alluxio_part *p = f->part;
  if (p->stopped < 0)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
    *ret_rc = p->stopped;
    return PRELUX_ALLUXIO_FINAL;
  }
  if (rc == 0 && a->status == 200 && a->received == f->expected)
  {
    prelux_alluxio_health_ok(w->health, PRELUX_ALLUXIO_HTTP);
    return PRELUX_ALLUXIO_YES;
  }
  if (rc == -ECONNREFUSED || rc == -ETIMEDOUT)
  {
    prelux_alluxio_health_failed(w->health, PRELUX_ALLUXIO_HTTP, why);
    return PRELUX_ALLUXIO_OTHER;
  }
  /* Closed, short, empty, or evicted while it was being sent: not there. */
  prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
  return PRELUX_ALLUXIO_SILENT;
}

int prelux_alluxio_page_get(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_worker *w,
                            const char *id, uint64_t page_size, struct prelux_alluxio_part *part, int *ret_rc,
                            struct prelux_problem *why)
{
  uint64_t n = part->pos / page_size, start = n * page_size, size = part->expect->size;
  uint64_t full = size - start < page_size ? size - start : page_size, before = part->pos;
  uint64_t stop = part->end < start + full ? part->end : start + full;
  bool whole = part->pos == start && stop == start + full;
  struct fetch f = {.part = part, .expected = stop - part->pos};
  struct prelux_net_answer a;
  char *url = page_url(w, id, n, part->pos - start, stop - part->pos, whole);
  if (!url)
  {
    prelux_alluxio_health_done(w->health, PRELUX_ALLUXIO_HTTP);
    *ret_rc = prelux_problem(why, ENOMEM, "no memory for a URL");
    return PRELUX_ALLUXIO_FINAL;
  }
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .born_after_ms = r->view->born_ms,
      .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
      .stall_s = PRELUX_ALLUXIO_META_STALL_S,
      .sink = on_bytes,
      .arg = &f,
      .cancel = part->cancel,
  };
  prelux_alluxio_target(part, f.expected, &req);
  int rc = prelux_net_call(x->net, &req, &a, why);
  enum prelux_alluxio_word word = weigh(w, &f, &a, rc, ret_rc, why);
  if (part->pos > before)
    prelux_alluxio_count(x->health, PRELUX_ALLUXIO_FROM_PAGES, part->pos - before);
  prelux_alluxio_page_found(x->pages, word == PRELUX_ALLUXIO_YES);
  if (f.other) /* cut short, or the worker has come back with another size: its proof is looked at again */
    prelux_alluxio_proof_stands(x, r, w, page_size);
  prelux_net_answer_free(&a);
  free(url);
  return word;
}
