/* A stand-in for lib/net's calls: linked by --wrap, so that backends ask the input. It keeps net.h's promises where callers lean on them: head fields as
 * answer.c reads them, lengths that are compared, bounds of bodies, a sink that is called in pieces, HEAD without a body. */
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <time.h>

#include "lib/backend/alluxio_roster.h"
#include "lib/net/engine.h"
#include "tests/fuzz/rig.h"

enum { BACKOFFS = 3 }; /* then the engine ends */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const uint8_t *left;
static size_t left_len;
static unsigned asked, backoffs;
static struct prelux_net net;

void fuzz_answers(const uint8_t *data, size_t size)
{
  left = data;
  left_len = size;
  asked = backoffs = 0;
}

struct prelux_net *fuzz_net(void)
{
  return &net;
}

unsigned fuzz_asked(void)
{
  return asked;
}

/* What goes out is one request: no end of line, no blank in a URL. */
static void check_request(const struct prelux_net_request *req)
{
  for (const char *s = req->url; *s; s++)
    FUZZ_CHECK_TEXT((unsigned char)*s > ' ' && *s != 0x7f, req->url);
  for (size_t i = 0; req->headers && req->headers[i]; i++)
    FUZZ_CHECK_TEXT(!strpbrk(req->headers[i], "\r\n") && strchr(req->headers[i], ':'), req->headers[i]);
}

static char *take(size_t *ret_len)
{
  pthread_mutex_lock(&lock);
  char *piece = left_len ? fuzz_piece(&left, &left_len, FUZZ_NEXT, ret_len) : NULL;
  asked++;
  pthread_mutex_unlock(&lock);
  return piece;
}

/* Head lines up to an empty one; where the body begins, or NULL: no head. */
static const char *read_head(struct prelux_net_answer *a, const char *text, size_t len)
{
  const char *end = text + len;
  for (const char *line = text; line < end;)
  {
    const char *stop = memchr(line, '\n', (size_t)(end - line)), *next = stop ? stop + 1 : end;
    size_t n = (size_t)((stop ? stop : end) - line);
    if (n == 0)
      return a->status ? next : NULL;
    if (prelux_net_head_line(a, line, n) < 0)
      return NULL;
    line = next;
  }
  return a->status ? end : NULL;
}

/* In uneven pieces: what is taken apart while it comes must not depend on where it is cut. */
static int pour(const struct prelux_net_request *req, struct prelux_net_answer *a, const char *body, size_t len)
{
  size_t most = req->target ? len : 1 + len / 3;
  if (req->target && len > req->target_len)
    return -EPROTO;
  if (req->target)
    memcpy(req->target, body, len);
  for (size_t at = 0; at < len; at += most)
  {
    size_t n = len - at < most ? len - at : most;
    char *piece = req->target ? NULL : malloc(n);
    if (piece)
      memcpy(piece, body + at, n);
    int rc = req->sink(req->arg, a, piece ? piece : (char *)req->target + at, n);
    free(piece);
    if (rc < 0)
      return rc;
    a->received += n;
  }
  return 0;
}

static int keep(const struct prelux_net_request *req, struct prelux_net_answer *a, const char *body, size_t len)
{
  if (req->sink && len > PRELUX_NET_OTHER_BODY_MAX)
    len = PRELUX_NET_OTHER_BODY_MAX;
  if (!req->sink && len > (req->max_body ? req->max_body : PRELUX_NET_BODY_MAX))
    return -EPROTO;
  a->body = malloc(len + 1);
  if (!a->body)
    return -ENOMEM;
  memcpy(a->body, body, len);
  a->body[len] = 0;
  a->body_len = a->received = len;
  return 0;
}

int __wrap_prelux_net_call(struct prelux_net *n, const struct prelux_net_request *req, struct prelux_net_answer *ret, struct prelux_problem *why);
int __wrap_prelux_net_call(struct prelux_net *n, const struct prelux_net_request *req, struct prelux_net_answer *ret, struct prelux_problem *why)
{
  struct prelux_url u;
  size_t len = 0;
  check_request(req);
  *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
  if (prelux_url_parse(req->url, &u) < 0)
    return prelux_problem(why, EIO, "no URL");
  char *text = take(&len);
  if (!text)
    return prelux_problem(why, ECONNREFUSED, "nobody listens");
  ret->sent = true;
  const char *body = read_head(ret, text, len);
  size_t body_len = body ? len - (size_t)(body - text) : 0;
  bool head = strcmp(req->method, "HEAD") == 0;
  int rc = body ? 0 : prelux_problem(why, EIO, "no answer");
  if (rc == 0 && req->again)
    req->again(ret);
  bool good = ret->status >= 200 && ret->status < 300;
  if (rc == 0 && head)
    body_len = 0;
  else if (rc == 0 && req->max_body && req->sink && good && body_len > req->max_body)
    rc = prelux_problem(why, EPROTO, "too long");
  else if (rc == 0)
    rc = req->sink && good ? pour(req, ret, body, body_len) : keep(req, ret, body, body_len);
  if (rc == 0 && !head && ret->content_length != UINT64_MAX && ret->content_length != body_len)
    rc = prelux_problem(why, EPROTO, "shorter or longer than its length");
  if (rc == 0 && req->max_redirects > 0 && ret->status / 100 == 3)
    rc = prelux_problem(why, EIO, "redirected for ever");
  ret->bounded |= ret->content_length != UINT64_MAX;
  free(text);
  return rc;
}

int __wrap_prelux_net_backoff(struct prelux_net *n, int times);
int __wrap_prelux_net_backoff(struct prelux_net *n, int times)
{
  return __atomic_add_fetch(&backoffs, 1, __ATOMIC_RELAXED) > BACKOFFS ? -ECANCELED : 0;
}

/* Nobody waits for the clock, or asks a name server. */
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *rest);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *rest)
{
  return 0;
}

int __wrap_prelux_alluxio_resolve(const char *host, const atomic_bool *stop, struct prelux_alluxio_addresses *ret, struct prelux_problem *why);
int __wrap_prelux_alluxio_resolve(const char *host, const atomic_bool *stop, struct prelux_alluxio_addresses *ret, struct prelux_problem *why)
{
  return prelux_problem(why, EIO, "%s: no such name", host);
}
