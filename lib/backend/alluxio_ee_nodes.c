/* Whom to ask: /v1/node on any worker names the owner of a path ({"Host", "HttpServerPort"}); where the ring has its points is the
 * cluster's own affair. The answer is remembered for a while: who has become a wrong owner meanwhile serves the path all the same,
 * or sends on. A host that failed rests for some seconds: it is asked last then. Lost updates of these tables cost a question. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/backend/alluxio_ee.h"
#include "lib/backend/json_array.h"

#define OWNER_MS 30000
#define REST_MS 5000
#define ASKED_MAX 3 /* for an owner, before the path itself is asked for wherever */
#define ANSWER_MAX 65536

void prelux_ee_nodes_init(struct prelux_ee_nodes *n)
{
  pthread_mutex_init(&n->lock, NULL);
}

void prelux_ee_nodes_release(struct prelux_ee_nodes *n)
{
  pthread_mutex_destroy(&n->lock);
}

static bool rests(struct prelux_ee_nodes *n, const char *host, int64_t now)
{
  for (size_t i = 0; i < PRELUX_EE_RESTING; i++)
    if (n->resting[i].until_ms > now && strcmp(n->resting[i].host, host) == 0)
      return true;
  return false;
}

static void put_to_rest(struct prelux_ee *e, const char *host)
{
  struct prelux_ee_nodes *n = &e->nodes;
  int64_t now = prelux_alluxio_now_ms();
  pthread_mutex_lock(&n->lock);
  if (!rests(n, host, now))
  {
    unsigned row = n->next++ % PRELUX_EE_RESTING;
    n->resting[row].until_ms = now + REST_MS;
    snprintf(n->resting[row].host, PRELUX_EE_HOST, "%s", host);
  }
  pthread_mutex_unlock(&n->lock);
}

void prelux_ee_failed(struct prelux_ee *e, const char *host, const char *ufs)
{
  uint64_t hash = XXH3_64bits(ufs, strlen(ufs));
  put_to_rest(e, host);
  pthread_mutex_lock(&e->nodes.lock);
  if (e->nodes.owners[hash % PRELUX_EE_OWNERS].hash == hash)
    e->nodes.owners[hash % PRELUX_EE_OWNERS].until_ms = 0;
  pthread_mutex_unlock(&e->nodes.lock);
}

size_t prelux_ee_resting(struct prelux_ee *e)
{
  size_t count = 0;
  int64_t now = prelux_alluxio_now_ms();
  pthread_mutex_lock(&e->nodes.lock);
  for (size_t i = 0; i < PRELUX_EE_RESTING; i++)
    count += e->nodes.resting[i].until_ms > now;
  pthread_mutex_unlock(&e->nodes.lock);
  return count;
}

static bool remembered(struct prelux_ee_nodes *n, uint64_t hash, char host[PRELUX_EE_HOST])
{
  int64_t now = prelux_alluxio_now_ms();
  size_t row = hash % PRELUX_EE_OWNERS;
  pthread_mutex_lock(&n->lock);
  bool found = n->owners[row].hash == hash && n->owners[row].until_ms > now;
  if (found)
    memcpy(host, n->owners[row].host, PRELUX_EE_HOST);
  pthread_mutex_unlock(&n->lock);
  return found;
}

static void remember(struct prelux_ee_nodes *n, uint64_t hash, const char *host)
{
  size_t row = hash % PRELUX_EE_OWNERS;
  pthread_mutex_lock(&n->lock);
  n->owners[row].hash = hash;
  n->owners[row].until_ms = prelux_alluxio_now_ms() + OWNER_MS;
  snprintf(n->owners[row].host, PRELUX_EE_HOST, "%s", host);
  pthread_mutex_unlock(&n->lock);
}

/* Only a plain host and port: it becomes part of URLs. */
static bool read_node(const struct prelux_net_answer *a, char host[PRELUX_EE_HOST])
{
  cJSON *o = a->status == 200 && a->body ? prelux_json_object(a->body, a->body_len) : NULL;
  const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "Host"));
  const cJSON *port = cJSON_GetObjectItemCaseSensitive(o, "HttpServerPort");
  bool good = name && name[0] && strlen(name) < 256 && cJSON_IsNumber(port) && port->valuedouble >= 1 && port->valuedouble <= 65535 &&
              name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]")] == 0;
  if (good)
  {
    bool bare6 = strchr(name, ':') && name[0] != '[';
    snprintf(host, PRELUX_EE_HOST, "%s%s%s:%d", bare6 ? "[" : "", name, bare6 ? "]" : "", port->valueint);
  }
  cJSON_Delete(o);
  return good;
}

/* Whoever answers names the owner; who cannot be reached rests. */
static bool ask_owner(struct prelux_ee *e, const char *ufs, const struct prelux_ee_round *r, char host[PRELUX_EE_HOST])
{
  bool good = false;
  for (size_t i = 0; i < r->n && i < ASKED_MAX && !good; i++)
  {
    struct prelux_net_answer a = {0};
    struct prelux_net_request req = {.max_body = ANSWER_MAX};
    int rc = prelux_ee_get(e, r->hosts[i], "node", ufs, "", &req, &a, NULL);
    good = rc == 0 && read_node(&a, host);
    if (rc < 0)
      put_to_rest(e, r->hosts[i]);
    prelux_net_answer_free(&a);
    if (rc == -ECANCELED)
      break;
  }
  return good;
}

static bool has_port(const char *place)
{
  const char *end = place[0] == '[' ? strchr(place, ']') : place;
  return end && strchr(end, ':');
}

/* What is configured, each path beginning elsewhere, so that the questions are spread; at most `room` of them. */
static void places(struct prelux_ee *e, uint64_t hash, size_t room, struct prelux_ee_round *r)
{
  const struct prelux_alluxio_options *o = &e->options;
  int64_t now = prelux_alluxio_now_ms();
  for (int resting = 0; resting < 2; resting++)
    for (size_t i = 0; i < o->n_places && r->n < room; i++)
    {
      const char *place = o->places[(hash + i) % o->n_places];
      char host[PRELUX_EE_HOST];
      snprintf(host, sizeof host, has_port(place) ? "%s" : "%s:%u", place, o->http_port);
      pthread_mutex_lock(&e->nodes.lock);
      bool rested = rests(&e->nodes, host, now);
      pthread_mutex_unlock(&e->nodes.lock);
      if (rested == (resting == 1))
        memcpy(r->hosts[r->n++], host, sizeof host);
    }
}

void prelux_ee_round_init(struct prelux_ee *e, const char *ufs, struct prelux_ee_round *r)
{
  uint64_t hash = XXH3_64bits(ufs, strlen(ufs));
  char owner[PRELUX_EE_HOST];
  r->n = 0;
  places(e, hash, PRELUX_EE_HOSTS - 1, r);
  bool known = remembered(&e->nodes, hash, owner);
  if (!known && ask_owner(e, ufs, r, owner))
  {
    remember(&e->nodes, hash, owner);
    known = true;
  }
  pthread_mutex_lock(&e->nodes.lock);
  bool first = known && !rests(&e->nodes, owner, prelux_alluxio_now_ms());
  pthread_mutex_unlock(&e->nodes.lock);
  if (!known)
    return;
  size_t at = 0;
  while (at < r->n && strcmp(r->hosts[at], owner) != 0)
    at++;
  if (at < r->n)
    memmove(r->hosts[at], r->hosts[at + 1], (--r->n - at) * PRELUX_EE_HOST);
  at = first ? 0 : r->n;
  memmove(r->hosts[at + 1], r->hosts[at], (r->n++ - at) * PRELUX_EE_HOST);
  memcpy(r->hosts[at], owner, PRELUX_EE_HOST);
}
