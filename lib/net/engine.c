/* The engine: one thread that owns a curl multi handle.
 *
 * Theory of operation. A calling thread makes a transfer, puts a wish in the inbox and wakes the thread by
 * curl_multi_wakeup; the thread adds the transfer to curl as soon as fewer than PER_ORIGIN others of its kind (with or
 * without much to move) run to its origin. Body bytes for a sink go into the transfer's buffer; when that is full the
 * transfer is paused (so TCP's window closes and nothing piles up) until the caller, whose own thread runs the sink,
 * has swapped the buffer for an empty one and wishes RESUME. So a slow disk under one sink delays nobody else. The
 * thread never waits for a caller: it only takes the two locks for moments, the engine's before a transfer's.
 *
 * Large bodies on connections of their own, which nobody uses a second time, are shared with a second engine, made when the first of them
 * comes: one thread moves about 1.7 GB/s, and waits for its turn among those who write what it brings. */
#include "lib/net/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/prelux/version.h"
#include "lib/base/log.h"

#define PER_ORIGIN 16u       /* running transfers to one origin, of each kind */
#define CONNECTIONS_KEPT 64L /* idle ones */
#define CONNECT_MS 10000L
#define STALL_SECONDS 30L
#define STALL_BYTES 1024L       /* a second; slower than this for STALL_SECONDS is a stall */
#define WHOLE_ANSWER_MS 300000L /* an answer without a sink */
#define CURL_BUFFER (256L << 10)
#define IDLE_MS 60000

bool prelux_net_wish(struct prelux_net *net, struct prelux_net_transfer *t, unsigned wish)
{
  pthread_mutex_lock(&net->lock);
  bool taken = !t->over && !(net->ending && wish == PRELUX_NET_START);
  if (taken && !t->wishes)
  {
    t->inbox_next = net->inbox;
    net->inbox = t;
  }
  if (taken)
    t->wishes |= wish;
  pthread_mutex_unlock(&net->lock);
  if (taken)
    curl_multi_wakeup(net->multi);
  return taken;
}

/* What curl calls. */

static size_t refuse(struct prelux_net_transfer *t, int err, const char *text)
{
  t->err = err;
  t->err_text = text;
  return 0; /* not what curl offered: it ends the transfer */
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
  struct prelux_net_transfer *t = arg;
  size_t n = size * count;
  t->header_bytes += n;
  if (t->header_bytes > PRELUX_NET_HEADERS_MAX)
    return n == 0 ? n : refuse(t, -EPROTO, "the answer's headers are longer than 64 KiB");
  if (t->trailers)
    return n;
  if (prelux_net_head_line(t->answer, line, n) < 0)
    return refuse(t, -EPROTO, "the answer's head makes no sense (status line or Content-Length)");
  bool empty = n > 0 && (line[0] == '\r' || line[0] == '\n');
  if (empty && t->answer->status >= 200)
  {
    atomic_store(&t->head_ms, prelux_net_now_ms());
    t->trailers = true; /* whatever comes later as a header does not describe this body */
    if (t->answer->content_length != UINT64_MAX)
      t->answer->bounded = true;
  }
  return n;
}

static bool keep_body(struct prelux_net_transfer *t, const char *data, size_t n)
{
  struct prelux_net_answer *a = t->answer;
  if (a->body_len + n + 1 > t->body_cap)
  {
    size_t cap = 2 * (a->body_len + n + 1);
    char *grown = realloc(a->body, cap);
    if (!grown)
      return false;
    a->body = grown;
    t->body_cap = cap;
  }
  memcpy(a->body + a->body_len, data, n);
  a->body_len += n;
  a->body[a->body_len] = 0;
  return true;
}

static size_t body_to_answer(struct prelux_net_transfer *t, const char *data, size_t n, bool bad)
{
  uint64_t max = t->req->max_body && !bad ? t->req->max_body : PRELUX_NET_BODY_MAX;
  if (bad)
    max = PRELUX_NET_OTHER_BODY_MAX;
  uint64_t left = max - t->answer->body_len;
  size_t take = n <= left ? n : bad ? (size_t)left : 0;
  if (take < n && !bad)
    return refuse(t, -EPROTO, "the answer is longer than it may be");
  if (!keep_body(t, data, take))
    return refuse(t, -ENOMEM, "no memory for the answer");
  if (take < n)
  {
    t->body_cut = true; /* the status is what counts: the rest of an error page is not waited for */
    return 0;
  }
  return n;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
  struct prelux_net_transfer *t = arg;
  size_t n = size * count;
  bool good = t->answer->status >= 200 && t->answer->status < 300;
  if (!good || !t->req->sink)
  {
    t->received += n;
    return body_to_answer(t, data, n, !good);
  }
  if (t->req->max_body && t->received + n > t->req->max_body)
    return refuse(t, -EPROTO, "the body is longer than what was asked for");
  if (t->req->target && t->received + n > t->req->target_len)
    return refuse(t, -EPROTO, "the body is longer than there is room for");
  if (t->here)
    return prelux_net_here_body(t, data, n);
  pthread_mutex_lock(&t->lock);
  size_t ret = n;
  n = prelux_net_receive_clip(t, n);
  if (t->stop)
  {
    ret = 0;
  }
  else if (t->fill_len + n > t->fill_cap)
  {
    t->paused = true;
    pthread_cond_signal(&t->changed);
    ret = CURL_WRITEFUNC_PAUSE;
  }
  else
  {
    /* The caller sees the first bytes at once, for they tell what the answer is; later ones in large pieces, or it would be
     * woken for each 64 KiB. What is left it finds when the transfer is done, and so all of an answer that one piece holds. */
    bool first = t->received == 0 && t->answer->content_length > PRELUX_NET_SMALL;
    memcpy(t->fill + t->fill_len, data, n);
    t->fill_len += n;
    t->received += n;
    if (prelux_net_receive(t))
      ret = 0;
    if (first || (!t->req->target && t->fill_len >= PRELUX_NET_WAKE))
      pthread_cond_signal(&t->changed);
  }
  pthread_mutex_unlock(&t->lock);
  return ret;
}

/* The connection is there, the request goes out next. curl does that by itself a second time when a connection that was idle
 * breaks before an answer: the server may have closed it, or have done what was asked and died. */
static int on_request(void *arg, char *to_ip, char *from_ip, int to_port, int from_port)
{
  struct prelux_net_transfer *t = arg;
  if (t->req->once && t->requests)
  {
    refuse(t, -EIO, "the connection broke before an answer");
    return CURL_PREREQFUNC_ABORT;
  }
  if (!t->requests++)
    atomic_store(&t->sent_ms, prelux_net_now_ms());
  t->answer->sent = true;
  prelux_net_receive_connected(t, from_port);
  return CURL_PREREQFUNC_OK;
}

/* Making a curl handle of a transfer. */

/* Header fields that may go to another origin than the request's own: those that hold no secret. */
static bool harmless(const char *header)
{
  static const char *const names[] = {
      "Accept:", "If-Match:", "If-None-Match:", "If-Modified-Since:", "If-Unmodified-Since:"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    if (strncasecmp(header, names[i], strlen(names[i])) == 0)
      return true;
  return false;
}

static int add_header(struct prelux_net_transfer *t, const char *header)
{
  struct curl_slist *grown = curl_slist_append(t->headers, header);
  if (!grown)
    return -ENOMEM;
  t->headers = grown;
  return 0;
}

static int set_headers(struct prelux_net_transfer *t)
{
  int rc = add_header(t, "Accept-Encoding: identity");
  if (rc == 0)
    rc = add_header(t, t->req->expect ? "Expect: 100-continue" : "Expect:"); /* the latter: no wait */
  if (rc == 0 && strcmp(t->req->method, "PUT") == 0)
    rc = add_header(t, "Content-Type:"); /* none, unless the caller's headers have one; not curl's own of a form */
  for (const char *const *h = t->req->headers; h && *h && rc == 0; h++)
    if (!t->foreign || harmless(*h))
      rc = add_header(t, *h);
  if (t->req->len && rc == 0)
  {
    char range[80];
    snprintf(range, sizeof(range), "Range: bytes=%llu-%llu", (unsigned long long)t->req->off,
             (unsigned long long)(t->req->off + t->req->len - 1));
    rc = add_header(t, range);
  }
  if (rc == 0)
    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
  return rc;
}

/* curl copies it; where it has no memory it would go by what was there before: another method, the system's certificates. */
static void set_text(struct prelux_net_transfer *t, CURLoption option, const char *text)
{
  t->unset |= curl_easy_setopt(t->easy, option, text) == CURLE_OUT_OF_MEMORY;
}

static void set_method(struct prelux_net_transfer *t)
{
  const char *method = t->req->method;
  if (strcmp(method, "HEAD") == 0)
  {
    curl_easy_setopt(t->easy, CURLOPT_NOBODY, 1L);
  }
  else if (t->req->upload)
  {
    curl_easy_setopt(t->easy, CURLOPT_UPLOAD, 1L);
    set_text(t, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(t->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)t->req->upload->len);
    curl_easy_setopt(t->easy, CURLOPT_UPLOAD_BUFFERSIZE, CURL_BUFFER);
    curl_easy_setopt(t->easy, CURLOPT_READFUNCTION, prelux_net_supply_read);
    curl_easy_setopt(t->easy, CURLOPT_READDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_SEEKFUNCTION, prelux_net_supply_seek);
    curl_easy_setopt(t->easy, CURLOPT_SEEKDATA, t);
  }
  else if (strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0)
  {
    curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
    set_text(t, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->req->body_len);
    curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->req->body ? t->req->body : "");
  }
  else if (strcmp(method, "GET") != 0)
  {
    set_text(t, CURLOPT_CUSTOMREQUEST, method);
  }
}

/* The system's certificates where libcurl, built for another distribution, does not look for them; NULL: where it does, or nowhere. */
static const char *system_ca(void)
{
  static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                                      "/etc/ssl/cert.pem"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    if (access(files[i], R_OK) == 0)
      return i ? files[i] : NULL;
  return NULL;
}

static void set_tls(struct prelux_net_transfer *t)
{
  const struct prelux_net_tls *tls = t->req->tls;
  const char *ca_file = tls && tls->ca_file ? tls->ca_file : strncmp(t->req->url, "https:", 6) == 0 ? system_ca() : NULL;
  if (ca_file)
    set_text(t, CURLOPT_CAINFO, ca_file);
  if (tls && tls->cert_file && !t->foreign)
  {
    set_text(t, CURLOPT_SSLCERT, tls->cert_file);
    set_text(t, CURLOPT_SSLKEY, tls->key_file ? tls->key_file : tls->cert_file);
  }
  if (tls && tls->insecure)
  {
    curl_easy_setopt(t->easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(t->easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
}

/* Which connection it runs on, and how long that may take. */
static void set_connection(struct prelux_net_transfer *t)
{
  const struct prelux_net_request *r = t->req;
  curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, r->connect_ms ? (long)r->connect_ms : CONNECT_MS);
  curl_easy_setopt(t->easy, CURLOPT_LOW_SPEED_TIME, r->stall_s ? (long)r->stall_s : STALL_SECONDS);
  if (r->direct)
    set_text(t, CURLOPT_PROXY, "");
  if (r->lone || t->fresh)
    curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
  if (r->lone)
    curl_easy_setopt(t->easy, CURLOPT_FORBID_REUSE, 1L);
  if (r->born_after_ms)
  {
    int64_t age = (prelux_net_now_ms() - r->born_after_ms) / 1000; /* curl counts whole seconds, and lets live what is that old */
    if (age < 2)
      curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, 1L);
    else
      curl_easy_setopt(t->easy, CURLOPT_MAXLIFETIME_CONN, (long)age - 1);
  }
}

static bool is_large(const struct prelux_net_transfer *t)
{
  return t->req->sink || t->req->upload;
}

int prelux_net_set_up(struct prelux_net_transfer *t)
{
  CURL *e = t->easy = curl_easy_init();
  t->unset = false;
  if (!e)
    return -ENOMEM;
  curl_easy_setopt(e, CURLOPT_PRIVATE, t);
  set_text(t, CURLOPT_URL, t->url);
  curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L);
  set_text(t, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* parallel parts want parallel connections */
  curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(e, CURLOPT_HTTP_CONTENT_DECODING, 0L);
  curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(e, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES);
  set_connection(t);
  if (!is_large(t))
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, WHOLE_ANSWER_MS);
  curl_easy_setopt(e, CURLOPT_BUFFERSIZE, CURL_BUFFER);
  prelux_net_receive_set_up(t);
  curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, t->req->lone && !t->req->upload ? 0L : 1L); /* it lives as long as its answer comes */
  set_text(t, CURLOPT_USERAGENT, "prelux/" PRELUX_VERSION);
  curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->curl_text);
  curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
  curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
  curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_request);
  curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
  set_method(t);
  set_tls(t);
  int rc = set_headers(t);
  return t->unset ? -ENOMEM : rc;
}

/* Lists of transfers; only the engine's thread touches them. */

static void detach(struct prelux_net_transfer **list, struct prelux_net_transfer *t)
{
  while (*list && *list != t)
    list = &(*list)->next;
  if (*list)
    *list = t->next;
  t->next = NULL;
}

static void append(struct prelux_net_transfer **list, struct prelux_net_transfer *t)
{
  while (*list)
    list = &(*list)->next;
  *list = t;
  t->next = NULL;
}

/* The transfer is the caller's again, who may free it at once: nothing may touch it afterwards. */
static void finish(struct prelux_net *net, struct prelux_net_transfer *t, CURLcode result)
{
  if (t->running)
    curl_multi_remove_handle(net->multi, t->easy);
  detach(t->running ? &net->active : &net->waiting, t);
  t->running = false;
  pthread_mutex_lock(&net->lock); /* a wish that came meanwhile must not find the transfer later */
  for (struct prelux_net_transfer **p = &net->inbox; *p; p = &(*p)->inbox_next)
    if (*p == t)
    {
      *p = t->inbox_next;
      break;
    }
  t->wishes = 0;
  t->over = true;
  pthread_mutex_unlock(&net->lock);
  pthread_mutex_lock(&t->lock);
  t->result = t->whole ? CURLE_OK : result;
  t->done = true;
  pthread_cond_signal(&t->changed);
  pthread_mutex_unlock(&t->lock);
}

static bool has_room(const struct prelux_net *net, const struct prelux_net_transfer *t)
{
  unsigned n = 0;
  for (const struct prelux_net_transfer *a = net->active; a; a = a->next)
    n += is_large(a) == is_large(t) && strcmp(a->origin, t->origin) == 0;
  return n < PER_ORIGIN;
}

static void start_waiting(struct prelux_net *net)
{
  for (struct prelux_net_transfer *t = net->waiting, *next; t; t = next)
  {
    next = t->next;
    if (!has_room(net, t))
      continue;
    int rc = prelux_net_set_up(t);
    if (rc < 0 || curl_multi_add_handle(net->multi, t->easy) != CURLM_OK)
    {
      refuse(t, -ENOMEM, "no memory for a transfer");
      finish(net, t, CURLE_OUT_OF_MEMORY);
      continue;
    }
    detach(&net->waiting, t);
    append(&net->active, t);
    t->running = true;
  }
}

static void stop(struct prelux_net *net, struct prelux_net_transfer *t)
{
  if (!t->err)
    refuse(t, -ECANCELED, "stopped");
  finish(net, t, CURLE_ABORTED_BY_CALLBACK);
}

/* curl hands out at once what it has held back. When that ends the transfer (the body is whole, or refused) it says so here alone: it would go on
 * waiting for a server that has nothing more to send, until that is a stall. */
static void resume(struct prelux_net *net, struct prelux_net_transfer *t)
{
  CURLcode rc = curl_easy_pause(t->easy, CURLPAUSE_CONT);
  if (rc != CURLE_OK)
    finish(net, t, rc);
}

static void grant(struct prelux_net *net, struct prelux_net_transfer *t, unsigned wishes)
{
  if (wishes & PRELUX_NET_START)
    append(&net->waiting, t);
  if (wishes & PRELUX_NET_STOP)
    stop(net, t);
  else if ((wishes & PRELUX_NET_RESUME) && t->running)
    resume(net, t);
}

/* Takes one wish at a time: granting one may end the transfer, and with it others' places in the list. */
static bool empty_inbox(struct prelux_net *net)
{
  for (;;)
  {
    pthread_mutex_lock(&net->lock);
    struct prelux_net_transfer **last = &net->inbox;
    while (*last && (*last)->inbox_next)
      last = &(*last)->inbox_next;
    struct prelux_net_transfer *t = *last;
    unsigned wishes = t ? t->wishes : 0;
    if (t)
    {
      *last = NULL;
      t->wishes = 0;
    }
    bool ending = net->ending;
    pthread_mutex_unlock(&net->lock);
    if (!t)
      return ending;
    grant(net, t, wishes);
  }
}

static void collect(struct prelux_net *net)
{
  CURLMsg *msg;
  int left;
  while ((msg = curl_multi_info_read(net->multi, &left)))
  {
    struct prelux_net_transfer *t = NULL;
    CURLcode result = msg->data.result;
    if (msg->msg == CURLMSG_DONE && curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t) == CURLE_OK && t)
      finish(net, t, result);
  }
}

static void *run(void *arg)
{
  struct prelux_net *net = arg;
  while (!empty_inbox(net))
  {
    int running;
    start_waiting(net);
    curl_multi_perform(net->multi, &running);
    collect(net);
    start_waiting(net);
    curl_multi_poll(net->multi, NULL, 0, IDLE_MS, NULL); /* or until curl's own next time-out */
  }
  while (net->active)
    stop(net, net->active);
  while (net->waiting)
    stop(net, net->waiting);
  return NULL;
}

static int start_thread(struct prelux_net *net)
{
  sigset_t all, old;
  sigfillset(&all); /* signals are the main thread's */
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&net->thread, NULL, run, net);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return -rc;
}

static void release(struct prelux_net *net)
{
  if (!net)
    return;
  curl_multi_cleanup(net->multi);
  while (net->n_spares)
    free(net->spares[--net->n_spares]);
  while (net->n_multis)
    curl_multi_cleanup(net->multis[--net->n_multis]);
  pthread_cond_destroy(&net->changed);
  pthread_mutex_destroy(&net->lock);
  free(net);
}

int prelux_net_engine_new(struct prelux_net **ret)
{
  pthread_condattr_t attr;
  struct prelux_net *net = calloc(1, sizeof(*net));
  if (!net || !(net->multi = curl_multi_init()))
  {
    free(net);
    return -ENOMEM;
  }
  curl_multi_setopt(net->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT);
  pthread_mutex_init(&net->lock, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&net->changed, &attr);
  pthread_condattr_destroy(&attr);
  int rc = start_thread(net);
  if (rc < 0)
    release(net);
  else
    *ret = net;
  return rc;
}

struct prelux_net *prelux_net_pick(struct prelux_net *net, const struct prelux_net_request *req)
{
  if (!req->lone || !req->sink || prelux_net_here_fits(req))
    return net;
  pthread_mutex_lock(&net->lock);
  if (!net->second && !net->ending && prelux_net_engine_new(&net->second) < 0)
    net->second = NULL; /* then one does it all */
  struct prelux_net *ret = net->second && net->turn++ % 2 ? net->second : net;
  pthread_mutex_unlock(&net->lock);
  return ret;
}

/* Its thread has ended, and with it all transfers. */
static void end(struct prelux_net *net)
{
  pthread_mutex_lock(&net->lock);
  net->ending = true;
  pthread_cond_broadcast(&net->changed);
  pthread_mutex_unlock(&net->lock);
  curl_multi_wakeup(net->multi);
  pthread_join(net->thread, NULL);
}

void prelux_net_free(struct prelux_net *net)
{
  if (!net)
    return;
  end(net);
  if (net->second) /* there comes none any more */
    end(net->second);
  pthread_mutex_lock(&net->lock);
  while (net->users)
    pthread_cond_wait(&net->changed, &net->lock);
  pthread_mutex_unlock(&net->lock);
  release(net->second);
  release(net);
}
