/* Workers that etcd has lost, and that are there.
 *
 * A worker is known as long as its lease lives. An etcd that was silent for longer than that comes back without workers who are
 * well, and who register anew some seconds later (2 to 5, PROTOCOLS 2D.1). Believed at once, such an answer takes a living worker
 * out of the ring, and should etcd die before it is back, for good: workers send us on to one whom we do not know any more. So a
 * worker that is missing and still answers stays in the ring, until it has registered or etcd has said the same for long enough.
 * One that does not answer is gone at once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_roster.h"

#define ASK_CONNECT_MS 1000
#define ASK_STALL_S 2
#define ASK_ALL_MS 2000 /* who could not be asked by then is taken to answer: he is asked next time */

/* A name that DNS has dropped fails like a connection that was closed. */
static bool has_address(const char *host, const atomic_bool *cancel)
{
  struct prelux_alluxio_addresses found = {0};
  int rc = prelux_alluxio_resolve(host, cancel, &found, NULL);
  prelux_alluxio_addresses_release(&found);
  return rc == 0;
}

enum prelux_alluxio_pulse prelux_alluxio_pulse(struct prelux_net *net, const struct prelux_alluxio_worker *w, unsigned connect_ms,
                                               unsigned stall_s, const atomic_bool *cancel)
{
  struct prelux_net_answer a;
  char *url;
  if (asprintf(&url, "%s/v1/health", w->http) < 0)
    return PRELUX_ALLUXIO_PULSE_UNKNOWN;
  struct prelux_net_request req = {.method = "GET",
                                   .url = url,
                                   .max_body = 65536,
                                   .lone = true,
                                   .connect_ms = connect_ms,
                                   .stall_s = stall_s,
                                   .cancel = cancel};
  int rc = prelux_net_call(net, &req, &a, NULL);
  enum prelux_alluxio_pulse ret = PRELUX_ALLUXIO_PULSE_NONE;
  if (rc == 0 && a.status == 200)
    ret = PRELUX_ALLUXIO_PULSE_OK;
  else if (rc == -EIO && a.status == 0 && has_address(w->host, cancel)) /* before 313 there is no health call */
    ret = PRELUX_ALLUXIO_PULSE_CLOSES;
  else if (rc == -ECANCELED || rc == -ENOMEM)
    ret = PRELUX_ALLUXIO_PULSE_UNKNOWN;
  prelux_net_answer_free(&a);
  free(url);
  return ret;
}

/* Under another address it has moved, and under another identity somebody else is there. */
static bool is_listed(const struct prelux_alluxio_roster *r, const struct prelux_alluxio_worker *w)
{
  for (size_t i = 0; i < r->n; i++)
  {
    const struct prelux_alluxio_entry *e = &r->entries[i];
    if (e->http_port == w->http_port && strcmp(e->host, w->host) == 0)
      return true;
    if (e->identified && memcmp(&e->identity, &w->identity, sizeof w->identity) == 0)
      return true;
  }
  return false;
}

size_t prelux_alluxio_absent_count(const struct prelux_alluxio_view *known, const struct prelux_alluxio_roster *r)
{
  size_t n = 0;
  for (size_t i = 0; known && i < known->n; i++)
    n += !is_listed(r, &known->workers[i]);
  return n;
}

int prelux_alluxio_absent_keep(struct prelux_net *net, const struct prelux_alluxio_view *known, const atomic_bool *stop,
                               struct prelux_alluxio_roster *r, size_t *ret_kept)
{
  int64_t until = prelux_alluxio_clock_ms() + ASK_ALL_MS;
  size_t listed = r->n;
  int err = 0;
  *ret_kept = 0;
  for (size_t i = 0; i < known->n && err == 0; i++)
  {
    const struct prelux_alluxio_worker *w = &known->workers[i];
    const struct prelux_alluxio_roster theirs = {.entries = r->entries, .n = listed};
    if (is_listed(&theirs, w))
      continue;
    if (prelux_alluxio_clock_ms() < until &&
        prelux_alluxio_pulse(net, w, ASK_CONNECT_MS, ASK_STALL_S, stop) == PRELUX_ALLUXIO_PULSE_NONE)
      continue;
    /* A guessed ring has identities made up here, of the host: they are made up again. */
    const struct prelux_alluxio_identity *id = known->trust == PRELUX_ALLUXIO_RING_GUESSED ? NULL : &w->identity;
    err = prelux_alluxio_roster_add(r, w->host, strlen(w->host), w->http_port, id, w->birth);
    *ret_kept += err == 0;
  }
  return err;
}
