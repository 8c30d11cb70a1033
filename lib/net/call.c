/* One call: attempts, redirects and back-off, all in the calling thread; the engine's thread does one transfer at a
 * time for it. Redirects are followed here and not by curl, so that what goes to which host is decided in one place. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/net/engine.h"

#define RETRY_WINDOW_MS 60000 /* no attempt begins later than this after the call, but for what it has waited for its turns */
#define BACKOFF_MS 100
#define BACKOFF_MAX_MS 10000
#define LOOK_MS 200 /* how often `cancel` is looked at, and progress told */

struct call
{
  struct prelux_net *net, *share;
  const struct prelux_net_request *req;
  struct prelux_net_answer *answer;
  struct prelux_problem *why;
  char *drain;    /* the other buffer, when there is a sink and no target; taken when it is needed */
  bool sunk;      /* a byte has reached the sink */
  int64_t waited_ms; /* for a turn */
  int64_t told_ms;   /* when progress was told, and at which byte */
  uint64_t told_at;
  bool transient; /* the last failure may be gone next time */
  bool late;      /* an answer was given up because it did not begin */
  int64_t patience_ms; /* when the one at hand would be */
  bool last_try;       /* nothing is asked anew after this one, nor ... */
  int64_t until_ms;    /* ... later than then */
  char *url;      /* of PRELUX_URL_MAX bytes: where we are after redirects */
};

int64_t prelux_net_now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_ms(struct prelux_net *net, int64_t ms)
{
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += ms / 1000;
  end.tv_nsec += ms % 1000 * 1000000;
  if (end.tv_nsec >= 1000000000)
  {
    end.tv_sec++;
    end.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock(&net->lock);
  int rc = 0;
  while (!net->ending && rc == 0)
    rc = pthread_cond_timedwait(&net->changed, &net->lock, &end);
  bool ending = net->ending;
  pthread_mutex_unlock(&net->lock);
  return ending ? -ECANCELED : 0;
}

static int64_t backoff_ms(int n)
{
  return n < 7 ? (int64_t)BACKOFF_MS << n : BACKOFF_MAX_MS;
}

int prelux_net_backoff(struct prelux_net *net, int n)
{
  return wait_ms(net->whole ? net->whole : net, backoff_ms(n));
}

/* What a Retry-After says, in ms; -1: nothing. */
static int64_t retry_after_ms(const struct prelux_net_answer *a)
{
  const char *s = a->retry_after;
  if (s[0] >= '0' && s[0] <= '9')
  {
    long seconds = strtol(s, NULL, 10);
    return seconds > BACKOFF_MAX_MS / 1000 ? BACKOFF_MAX_MS : seconds * 1000;
  }
  int64_t at = s[0] ? prelux_http_date(s) : 0, from = prelux_http_date(a->date);
  if (!at || !from)
    return -1;
  int64_t ms = at > from ? (at - from) / 1000000 : 0;
  return ms > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : ms;
}

/* Buffers. */

char *prelux_net_buffer_take(struct prelux_net *net)
{
  pthread_mutex_lock(&net->lock);
  char *buffer = net->n_spares ? net->spares[--net->n_spares] : NULL;
  pthread_mutex_unlock(&net->lock);
  return buffer ? buffer : malloc(PRELUX_NET_BUFFER);
}

void prelux_net_buffer_put(struct prelux_net *net, char *buffer)
{
  pthread_mutex_lock(&net->lock);
  if (buffer && net->n_spares < PRELUX_NET_SPARES)
  {
    net->spares[net->n_spares++] = buffer;
    buffer = NULL;
  }
  pthread_mutex_unlock(&net->lock);
  free(buffer);
}

/* Texts. */

static int say(struct call *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int say(struct call *c, int err, const char *fmt, ...)
{
  char where[200], what[280];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(what, sizeof(what), fmt, ap);
  va_end(ap);
  prelux_url_show(where, sizeof(where), c->url);
  return prelux_problem(c->why, err, "%s %s: %s", c->req->method, where, what);
}

static int cut_short(struct call *c, const struct prelux_net_transfer *t)
{
  c->transient = true;
  if (t->answer->content_length != UINT64_MAX)
    return say(c, EPROTO, "server closed after %" PRIu64 " of %" PRIu64 " bytes", t->received,
               t->answer->content_length);
  return say(c, EPROTO, "server closed after %" PRIu64 " bytes, before the end", t->received);
}

/* curl's verdict as ours. */
static int judge(struct call *c, struct prelux_net_transfer *t)
{
  const char *text = t->curl_text[0] ? t->curl_text : curl_easy_strerror(t->result);
  if (t->body_cut)
    return 0;
  if (t->err)
    return say(c, -t->err, "%s", t->err_text);
  switch (t->result)
  {
  case CURLE_OK:
    return 0;
  case CURLE_PARTIAL_FILE:
    return cut_short(c, t);
  case CURLE_COULDNT_CONNECT:
    c->transient = true;
    return say(c, ECONNREFUSED, "%s", text);
  case CURLE_OPERATION_TIMEDOUT:
    c->transient = true;
    return say(c, ETIMEDOUT, "%s", text);
  case CURLE_RECV_ERROR:
    if (t->answer->status >= 200 && t->received)
      return cut_short(c, t);
    c->transient = true;
    return say(c, EIO, "%s", text);
  case CURLE_COULDNT_RESOLVE_HOST:
  case CURLE_COULDNT_RESOLVE_PROXY:
  case CURLE_SEND_ERROR:
  case CURLE_GOT_NOTHING:
  case CURLE_SSL_CONNECT_ERROR:
    c->transient = true;
    return say(c, EIO, "%s", text);
  case CURLE_PEER_FAILED_VERIFICATION:
  case CURLE_SSL_CACERT_BADFILE:
    say(c, EIO, "%s", text);
    if (c->why)
      snprintf(c->why->advice, sizeof(c->why->advice), "name the server's authority by tls.ca_file");
    return -EIO;
  case CURLE_UNSUPPORTED_PROTOCOL: /* no status line: maybe what an earlier answer on this connection had too much */
    c->transient = true;
    return say(c, EPROTO, "%s", text);
  case CURLE_WEIRD_SERVER_REPLY:
  case CURLE_BAD_CONTENT_ENCODING:
  case CURLE_WRITE_ERROR: /* chunks that cannot be read, and our own refusals, which were handled above */
    return say(c, EPROTO, "%s", text);
  case CURLE_OUT_OF_MEMORY:
    if (t->received == 0) /* what libcurl says of a header line above its limit, too: by far the likelier */
      return say(c, EPROTO, "a header line too long");
    return say(c, ENOMEM, "%s", text);
  default:
    return say(c, EIO, "%s", text);
  }
}

/* curl counts too; a transfer that lies about its length must not depend on that. */
static int check_length(struct call *c, struct prelux_net_transfer *t)
{
  const struct prelux_net_answer *a = t->answer;
  bool bodyless = strcmp(c->req->method, "HEAD") == 0 || a->status == 204 || a->status == 304;
  if (bodyless || t->body_cut || a->content_length == UINT64_MAX || a->content_length == t->received)
    return 0;
  return cut_short(c, t);
}

/* One transfer. */

/* Lock held; released while the engine is told. */
static void give_up(struct call *c, struct prelux_net_transfer *t)
{
  t->stop = true;
  pthread_mutex_unlock(&t->lock);
  prelux_net_wish(c->net, t, PRELUX_NET_STOP);
  pthread_mutex_lock(&t->lock);
}

/* Tells how far the body is, now and then: 1, or 0 when it is not time yet, or -errno. Lock held, not meanwhile. */
static int tell(struct call *c, struct prelux_net_transfer *t)
{
  const struct prelux_net_upload *u = c->req->upload;
  int64_t now = prelux_net_now_ms();
  uint64_t done = t->read_at;
  if (!u || !u->progress || (now < c->told_ms + LOOK_MS && done - c->told_at < PRELUX_NET_BUFFER)) /* less: sent again */
    return 0;
  c->told_ms = now;
  c->told_at = done;
  pthread_mutex_unlock(&t->lock);
  int rc = u->progress(u->arg, done);
  pthread_mutex_lock(&t->lock);
  return rc < 0 ? say(c, -rc, "given up") : 1;
}

static bool is_late(const struct call *c, struct prelux_net_transfer *t)
{
  int64_t sent = atomic_load(&t->sent_ms);
  return c->patience_ms != INT64_MAX && sent && !atomic_load(&t->head_ms) && prelux_net_now_ms() - sent > c->patience_ms;
}

/* Waits for a change, and looks at `cancel` and the clock. Lock held; released while the engine is told to stop. */
static int await(struct call *c, struct prelux_net_transfer *t, int rc)
{
  struct timespec end;
  bool watched = c->req->cancel || (c->req->upload && c->req->upload->progress) || c->patience_ms != INT64_MAX;
  if (!watched || rc < 0)
  {
    pthread_cond_wait(&t->changed, &t->lock);
    return rc;
  }
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_nsec += LOOK_MS * 1000000l;
  end.tv_sec += end.tv_nsec / 1000000000;
  end.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&t->changed, &t->lock, &end);
  bool canceled = c->req->cancel && atomic_load(c->req->cancel);
  if (t->done || (!canceled && !is_late(c, t)))
    return 0;
  give_up(c, t);
  if (canceled)
    return say(c, ECANCELED, "given up");
  c->late = c->transient = true;
  return say(c, ETIMEDOUT, "no answer after %" PRId64 " ms, where others took a tenth", c->patience_ms);
}

/* Gives the engine more of the body, or waits. As await. */
static int feed(struct call *c, struct prelux_net_transfer *t, int rc)
{
  if (!c->req->upload || rc < 0)
    return await(c, t, rc);
  int fed = prelux_net_supply_more(c->net, t);
  if (fed < 0)
    rc = say(c, -fed, fed == -EINVAL ? "the file to be sent ended early" : "cannot read what is to be sent");
  else
    rc = tell(c, t);
  if (rc < 0)
    give_up(c, t);
  if (rc != 0 || fed != 0) /* the lock was let go: what is waited for may have come */
    return rc < 0 ? rc : 0;
  return await(c, t, 0);
}

/* The bytes at t->fill become the sink's; the engine goes on behind them, or in the other buffer. */
static void swap(struct call *c, struct prelux_net_transfer *t)
{
  char *taken = t->fill;
  if (c->req->target)
  {
    t->fill += t->fill_len;
    t->fill_cap -= t->fill_len;
  }
  else
  {
    t->fill = c->drain;
    c->drain = taken;
  }
  t->fill_len = 0;
}

/* Feeds the sink until the transfer is done or the sink refuses. */
static int pump(struct call *c, struct prelux_net_transfer *t)
{
  int rc = 0;
  bool told = false; /* the sink has seen the head, and the bytes come to their place without it */
  pthread_mutex_lock(&t->lock);
  for (;;)
  {
    while (!t->done && (!t->fill_len || rc < 0 || told))
      rc = feed(c, t, rc);
    if (!t->fill_len || rc < 0)
      break;
    char *data = t->fill;
    size_t n = t->fill_len;
    bool resume = t->paused;
    swap(c, t);
    t->paused = false;
    pthread_mutex_unlock(&t->lock);
    if (resume)
      prelux_net_wish(c->net, t, PRELUX_NET_RESUME);
    c->sunk = true;
    told = c->req->target != NULL;
    rc = c->req->sink(c->req->arg, t->answer, data, n);
    if (rc < 0)
      prelux_net_wish(c->net, t, PRELUX_NET_STOP);
    pthread_mutex_lock(&t->lock);
    t->stop = rc < 0;
  }
  pthread_mutex_unlock(&t->lock);
  return rc;
}

static void count_by(const struct prelux_net_transfer *t, char *out, size_t cap)
{
  struct prelux_url u;
  if (prelux_url_parse(t->url, &u) < 0)
    snprintf(out, cap, "?");
  else
    snprintf(out, cap, "%d%.*s:%u", u.https, (int)(u.host_len < 256 ? u.host_len : 256), u.host, u.port);
}

static bool buffers_open(struct call *c, struct prelux_net_transfer *t)
{
  if (c->req->sink && !c->req->target && !c->drain && !(c->drain = prelux_net_buffer_take(c->net)))
    return false;
  if (c->req->sink)
  {
    t->fill = c->req->target ? c->req->target : prelux_net_buffer_take(c->net);
    t->fill_cap = c->req->target ? c->req->target_len : PRELUX_NET_BUFFER;
  }
  return (!c->req->sink || t->fill) && prelux_net_supply_open(c->net, t) == 0;
}

static void buffers_close(struct call *c, struct prelux_net_transfer *t)
{
  if (!c->req->target)
    prelux_net_buffer_put(c->net, t->fill);
  prelux_net_supply_close(c->net, t);
}

/* Giving up is of use only where another try follows: else who waits longer may get his answer yet. */
static int64_t patience(const struct call *c, const struct prelux_net_transfer *t)
{
  if (c->late || c->last_try || !prelux_net_patience_may(c->req))
    return INT64_MAX;
  int64_t ms = prelux_net_patience_ms(c->net, t);
  return ms < c->until_ms + c->waited_ms - prelux_net_now_ms() ? ms : INT64_MAX;
}

/* By the engine. What the sink said, or that there was no way. */
static int by_engine(struct call *c, struct prelux_net_transfer *t)
{
  int rc;
  count_by(t, t->origin, sizeof(t->origin));
  bool was_late = c->late;
  c->patience_ms = patience(c, t);
  if (!buffers_open(c, t))
  {
    buffers_close(c, t);
    return say(c, ENOMEM, "no memory for a buffer");
  }
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->changed, NULL);
  rc = prelux_net_wish(c->net, t, PRELUX_NET_START) ? pump(c, t) : say(c, ECANCELED, "the daemon ends");
  pthread_cond_destroy(&t->changed);
  pthread_mutex_destroy(&t->lock);
  if (prelux_net_patience_may(c->req))
    prelux_net_patience_learn(c->net, t, c->late && !was_late);
  buffers_close(c, t);
  return rc;
}

static int transfer(struct call *c, bool foreign)
{
  struct prelux_net_transfer t = {.req = c->req, .url = c->url, .foreign = foreign, .answer = c->answer, .fresh = c->late};
  c->transient = false;
  prelux_net_head_reset(c->answer);
  int64_t from_ms = prelux_net_now_ms();
  if (prelux_net_turn_take(c->share, c->req) < 0)
    return say(c, ECANCELED, "given up");
  c->waited_ms += prelux_net_now_ms() - from_ms;
  int rc = prelux_net_here(c->net, &t);
  if (rc == -EAGAIN && !t.here)
    rc = by_engine(c, &t);
  prelux_net_turn_give(c->share, c->req);
  c->sunk = c->sunk || t.sunk;
  if (rc == 0)
    rc = judge(c, &t);
  if (rc == 0)
    rc = check_length(c, &t);
  c->answer->received = t.received;
  curl_easy_cleanup(t.easy);
  curl_slist_free_all(t.headers);
  return rc;
}

/* Redirects. */

static bool is_redirect(const struct call *c)
{
  int s = c->answer->status;
  return (s == 301 || s == 302 || s == 303 || s == 307 || s == 308) && c->answer->location &&
         (strcmp(c->req->method, "GET") == 0 || strcmp(c->req->method, "HEAD") == 0);
}

/* Moves c->url to where the answer points. */
static int follow(struct call *c)
{
  struct prelux_url from, to;
  char *next = malloc(PRELUX_URL_MAX);
  if (!next)
    return say(c, ENOMEM, "no memory for a URL");
  int rc = 0;
  if (prelux_url_join(next, PRELUX_URL_MAX, c->url, c->answer->location) < 0 || prelux_url_parse(next, &to) < 0 ||
      prelux_url_parse(c->url, &from) < 0)
    rc = say(c, EPROTO, "redirected to what is no http or https URL");
  else if (from.https && !to.https)
    rc = say(c, EPROTO, "redirected from https to http");
  if (rc == 0)
    strcpy(c->url, next);
  free(next);
  return rc;
}

static bool is_foreign(const struct call *c)
{
  struct prelux_url first, here;
  return prelux_url_parse(c->req->url, &first) < 0 || prelux_url_parse(c->url, &here) < 0 ||
         !prelux_url_same_origin(&first, &here);
}

/* From the request's URL to an answer that is no redirect. */
static int attempt(struct call *c)
{
  bool foreign = false; /* once a foreign host was in the chain it stays so: it chose where to go next */
  c->answer->redirects = 0;
  snprintf(c->url, PRELUX_URL_MAX, "%s", c->req->url);
  for (;;)
  {
    int rc = transfer(c, foreign);
    if (rc < 0 || c->req->max_redirects == 0 || !is_redirect(c))
      return rc;
    if (c->answer->redirects >= c->req->max_redirects)
      return say(c, EPROTO, "redirected more than %d times", c->req->max_redirects);
    rc = follow(c);
    if (rc < 0)
      return rc;
    foreign = foreign || is_foreign(c);
    c->answer->redirects++;
  }
}

static bool worth_again(const struct call *c, int rc)
{
  int s = c->answer->status;
  if (rc < 0)
    return c->transient && !c->sunk && !(c->req->once && c->answer->sent);
  if (c->req->again)
    return c->req->again(c->answer);
  if (c->req->once)
    return s == 408 || s == 429 || s == 503;
  return s == 408 || s == 429 || (s >= 500 && s != 501 && s != 505);
}

static int call(struct call *c)
{
  c->until_ms = prelux_net_now_ms() + RETRY_WINDOW_MS;
  for (int n = 0;; n++)
  {
    c->last_try = n >= c->req->retries;
    int rc = attempt(c);
    if (c->last_try || !worth_again(c, rc))
      return rc;
    int64_t ms = rc == 0 ? retry_after_ms(c->answer) : rc == -ETIMEDOUT && c->late && n == 0 ? 0 : -1;
    if (ms < 0)
      ms = backoff_ms(n);
    if (prelux_net_now_ms() + ms > c->until_ms + c->waited_ms)
      return rc;
    if (wait_ms(c->net, ms) < 0)
      return say(c, ECANCELED, "the daemon ends");
  }
}

static bool enter(struct prelux_net *net)
{
  pthread_mutex_lock(&net->lock);
  bool open = !net->ending;
  net->users += open;
  pthread_mutex_unlock(&net->lock);
  return open;
}

static void leave(struct prelux_net *net)
{
  pthread_mutex_lock(&net->lock);
  if (--net->users == 0)
    pthread_cond_broadcast(&net->changed);
  pthread_mutex_unlock(&net->lock);
}

int prelux_net_call(struct prelux_net *net, const struct prelux_net_request *req, struct prelux_net_answer *ret,
                    struct prelux_problem *why)
{
  struct prelux_url u;
  struct prelux_net *share = net->whole ? net : NULL;
  net = share ? share->whole : net;
  *ret = (struct prelux_net_answer){.content_length = UINT64_MAX};
  if (strlen(req->url) >= PRELUX_URL_MAX || prelux_url_parse(req->url, &u) < 0)
    return prelux_problem(why, EIO, "%s: a URL that cannot be asked for", req->method);
  if (!enter(net))
    return prelux_problem(why, ECANCELED, "the daemon ends");
  struct call c = {.net = prelux_net_pick(net, req), .share = share, .req = req, .answer = ret, .why = why, .url = malloc(PRELUX_URL_MAX)};
  int rc = c.url ? call(&c) : prelux_problem(why, ENOMEM, "no memory for a call");
  if (rc == 0 && ret->redirects)
  {
    free(ret->location); /* of an answer that is no redirect: it is ours to say where we are */
    ret->location = strdup(c.url);
  }
  prelux_net_buffer_put(c.net, c.drain);
  free(c.url);
  leave(net);
  return rc;
}
