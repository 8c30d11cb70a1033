#include "lib/backend/read_on.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"

#define CONTINUE_TIMES 4
#define ODD_SLOTS 16u
#define ODD_TIMES 3u
#define CONTINUE_EVERY (64u << 20) /* one more for so many bytes */

int prelux_read_on_say(const struct prelux_read_on *r, int err, const char *text, uint64_t a, uint64_t b)
{
  return prelux_problem(r->why, err, "GET %s: %s (%" PRIu64 ", %" PRIu64 ")", r->what, text, a, b);
}

int prelux_read_on_changed(const struct prelux_read_on *r)
{
  return prelux_problem(r->why, ESTALE, "GET %s: the object is not of the expected version any more", r->what);
}

int prelux_read_on_short(const struct prelux_read_on *r)
{
  return prelux_read_on_say(r, EPROTO, "the body is empty or short", r->pos, r->end);
}

int prelux_read_on_unable(struct prelux_read_on *r)
{
  r->whole_came = true;
  return prelux_read_on_say(r, EPROTO, "200 to a range: the server cannot send parts", r->pos, r->end);
}

char *prelux_read_on_target(const struct prelux_read_on *r, size_t *ret_len)
{
  *ret_len = r->place ? (size_t)(r->end - r->pos) : 0;
  return r->place ? r->place + (r->pos - r->place_from) : NULL;
}

bool prelux_read_on_whole(const struct prelux_read_on *r)
{
  return !r->expect || (r->pos == 0 && r->end == r->expect->size);
}

int prelux_read_on_range(const struct prelux_read_on *r, const struct prelux_net_answer *a, uint64_t *ret_size)
{
  uint64_t from, to, size;
  if (!prelux_http_content_range(a->content_range, &from, &to, &size) || from == UINT64_MAX)
    return prelux_read_on_say(r, EPROTO, "a part without a Content-Range that can be read", r->pos, r->end);
  if (from != r->pos || to != r->end - 1)
    return prelux_read_on_say(r, EPROTO, "another range than asked for came", from, to);
  if (a->content_length != UINT64_MAX && a->content_length != r->end - r->pos)
    return prelux_read_on_say(r, EPROTO, "Content-Length and Content-Range do not agree", a->content_length, r->end - r->pos);
  *ret_size = size == UINT64_MAX ? r->expect->size : size;
  return 0;
}

int prelux_read_on_beyond(const struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  uint64_t from, to, size;
  bool lie = prelux_http_content_range(a->content_range, &from, &to, &size) && size == r->expect->size;
  return lie ? prelux_read_on_say(r, EPROTO, "416 to a range that the object has", r->pos, r->end) : prelux_read_on_changed(r);
}

/* A server that is replacing the object just now may have told its new version with its old length, or the other way round (versitygw does): who
 * looks again sees what it is. One that goes on to tell the same is believed nothing. */
static bool told_before(const struct prelux_read_on *r, uint64_t size)
{
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  static struct
  {
    uint64_t what;
    unsigned times;
  } told[ODD_SLOTS];
  uint64_t what = XXH3_64bits_withSeed(r->what, strlen(r->what), size ^ (r->expect->size << 32));
  what = XXH3_64bits_withSeed(r->expect->version, strlen(r->expect->version), what);
  pthread_mutex_lock(&lock);
  unsigned i = what % ODD_SLOTS;
  told[i].times = told[i].what == what ? told[i].times + 1 : 1;
  told[i].what = what;
  bool often = told[i].times > ODD_TIMES;
  pthread_mutex_unlock(&lock);
  return often;
}

int prelux_read_on_length(const struct prelux_read_on *r, uint64_t size)
{
  if (size == r->expect->size)
    return 0;
  return told_before(r, size) ? prelux_read_on_say(r, EPROTO, "same version, other length", size, r->expect->size) : prelux_read_on_changed(r);
}

int prelux_read_on_same(const struct prelux_read_on *r, const struct prelux_net_answer *a, uint64_t size)
{
  const struct prelux_object *expect = r->expect;
  if (size == UINT64_MAX)
    size = expect->size; /* chunked: counted while it comes */
  if (!prelux_http_version_same(a, size, expect->version))
    return prelux_read_on_changed(r);
  if (size != expect->size && prelux_http_version_none(expect->version))
    return prelux_read_on_changed(r);
  return prelux_read_on_length(r, size);
}

int prelux_read_on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct prelux_read_on *r = arg;
  if (!r->checked)
    r->verdict = r->check(r, head);
  r->checked = true;
  if (r->verdict == 0 && len > r->end - r->pos)
    r->verdict = prelux_read_on_say(r, EPROTO, "more bytes than asked for", r->pos + len, r->end);
  if (r->verdict == 0)
    r->verdict = r->sink(r->arg, r->pos, buf, len);
  if (r->verdict == 0)
    r->pos += len;
  return r->verdict;
}

/* 0: all is read; 1: it broke off after some bytes and may be continued; or -errno. */
static int read_once(struct prelux_read_on *r)
{
  struct prelux_net_answer a = {0};
  uint64_t before = r->pos;
  r->checked = false;
  int rc = r->ask(r, &a);
  if (r->verdict < 0)
  {
    rc = r->verdict;
  }
  else if (rc < 0)
  {
    r->broke = r->failed(rc);
    rc = r->pos > before && r->pos < r->end ? 1 : r->broke;
  }
  else if (!r->checked || r->pos < r->end)
  {
    rc = r->empty(r, &a);
  }
  prelux_net_answer_free(&a);
  return rc;
}

int prelux_read_on_single(struct prelux_read_on *r)
{
  uint64_t most = 0;
  for (uint64_t tries = 0;; tries++)
  {
    int rc = read_once(r);
    if (rc <= 0)
      return rc;
    if (tries == 0)
      most = CONTINUE_TIMES + (r->end - r->pos) / CONTINUE_EVERY;
    if (!r->parts || tries == most)
      return r->broke; /* *why says how */
    if (r->over && atomic_load(r->over))
      return -ECANCELED;
    if (prelux_net_backoff(r->net, 0) < 0)
      return prelux_problem(r->why, EIO, "the daemon ends");
  }
}

int prelux_read_on(struct prelux_read_on *r)
{
  int rc = prelux_read_on_worth(r) ? prelux_read_on_parts(r) : 1;
  return rc == 1 ? prelux_read_on_single(r) : rc;
}
