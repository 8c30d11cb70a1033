/* How long an answer's head may take: of each origin and kind of request the last times are remembered, and a request that takes much longer than
 * nearly all of them is given up and asked anew, on another connection: it, or its connection, has stalled. Once in a call, and of one request in EVERY
 * at most, so that a server that has become slow is not asked for everything twice; what was given up counts as a time, too. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/net/engine.h"

#define FEW 16u         /* heads before it is known what is late */
#define LEAST_MS 1000
#define TIMES_P95 10    /* late: so many times what nineteen of twenty need */
#define FREE 4u         /* given up before the rule of one in EVERY holds */
#define EVERY 20u

/* What is asked, and how: a listing takes longer than a look-up. */
static uint64_t name_of(const struct prelux_net_transfer *t)
{
  uint64_t h = t->req->sink ? 1469598103934665603u : 1099511628211u;
  for (const char *c = t->origin; *c; c++)
    h = (h ^ (unsigned char)*c) * 1099511628211u;
  for (const char *c = t->req->method; *c; c++)
    h = (h ^ (unsigned char)*c) * 1099511628211u;
  return h ? h : 1;
}

static int by_size(const void *a, const void *b)
{
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

bool prelux_net_patience_may(const struct prelux_net_request *req)
{
  return req->retries > 0 && !req->once && !req->upload && (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0);
}

int64_t prelux_net_patience_ms(struct prelux_net *net, const struct prelux_net_transfer *t)
{
  uint32_t times[PRELUX_NET_TIMES];
  uint64_t of = name_of(t);
  pthread_mutex_lock(&net->lock);
  const struct prelux_net_heads *h = &net->heads[of % PRELUX_NET_ORIGINS];
  size_t n = h->of != of ? 0 : h->seen < PRELUX_NET_TIMES ? (size_t)h->seen : PRELUX_NET_TIMES;
  bool may = n >= FEW && h->given_up < FREE + h->seen / EVERY;
  memcpy(times, h->times, n * sizeof(*times));
  pthread_mutex_unlock(&net->lock);
  if (!may)
    return INT64_MAX;
  qsort(times, n, sizeof(*times), by_size);
  int64_t late = TIMES_P95 * (int64_t)times[n - 1 - n / 20];
  return late < LEAST_MS ? LEAST_MS : late;
}

void prelux_net_patience_learn(struct prelux_net *net, const struct prelux_net_transfer *t, bool given_up)
{
  uint64_t of = name_of(t);
  int64_t sent = atomic_load(&t->sent_ms), head = given_up ? prelux_net_now_ms() : atomic_load(&t->head_ms);
  if (!sent || !head)
    return;
  pthread_mutex_lock(&net->lock);
  struct prelux_net_heads *h = &net->heads[of % PRELUX_NET_ORIGINS];
  if (h->of != of)
    *h = (struct prelux_net_heads){.of = of};
  h->times[h->seen++ % PRELUX_NET_TIMES] = (uint32_t)(head - sent);
  h->given_up += given_up;
  pthread_mutex_unlock(&net->lock);
}
