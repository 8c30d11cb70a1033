#include "lib/backend/alluxio_view.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GONE_MAX 64

struct gone
{
  struct prelux_alluxio_worker worker;
  int64_t left_ms;
};

struct owned
{
  struct prelux_alluxio_view view;
  atomic_uint refs;
  struct prelux_alluxio_worker *workers;
  struct gone *gone; /* who was there before; not in the ring */
  size_t n_gone;
};

static void worker_release(struct prelux_alluxio_worker *w)
{
  prelux_alluxio_patient_drop(w->health);
  free(w->address);
  free(w->host);
  free(w->http);
  free(w->s3);
}

static void owned_free(struct owned *o)
{
  for (size_t i = 0; i < o->view.n; i++)
    worker_release(&o->workers[i]);
  for (size_t i = 0; i < o->n_gone; i++)
    worker_release(&o->gone[i].worker);
  free(o->gone);
  free(o->workers);
  prelux_alluxio_ring_release(&o->view.ring);
  free(o);
}

struct prelux_alluxio_view *prelux_alluxio_view_hold(const struct prelux_alluxio_view *v)
{
  atomic_fetch_add(&((struct owned *)v)->refs, 1);
  return (struct prelux_alluxio_view *)v;
}

void prelux_alluxio_view_put(const struct prelux_alluxio_view *v)
{
  if (v && atomic_fetch_sub(&((struct owned *)v)->refs, 1) == 1)
    owned_free((struct owned *)v);
}

static int by_identity(const void *a, const void *b)
{
  const struct prelux_alluxio_entry *x = a, *y = b;
  int order = memcmp(&x->identity, &y->identity, sizeof x->identity);
  if (order == 0)
    order = strcmp(x->host, y->host);
  if (order == 0)
    order = (x->http_port > y->http_port) - (x->http_port < y->http_port);
  return order ? order : (x->birth < y->birth) - (x->birth > y->birth);
}

static bool same_place(const struct prelux_alluxio_entry *a, const struct prelux_alluxio_entry *b)
{
  return a->http_port == b->http_port && strcmp(a->host, b->host) == 0;
}

/* One address twice (a worker that lost its identity, and the old lease still lives): the younger is the one that is there. */
static void drop_doubles(struct prelux_alluxio_roster *r)
{
  size_t kept = 0;
  for (size_t i = 0; i < r->n; i++)
  {
    size_t k = 0;
    while (k < kept && !same_place(&r->entries[k], &r->entries[i]))
      k++;
    if (k == kept)
    {
      r->entries[kept++] = r->entries[i];
      continue;
    }
    struct prelux_alluxio_entry gone = r->entries[i];
    if (gone.birth > r->entries[k].birth)
    {
      gone = r->entries[k];
      r->entries[k] = r->entries[i];
    }
    free(gone.host);
  }
  r->n = kept;
}

static int worker_make(const struct prelux_alluxio_options *o, struct prelux_alluxio_health *health, struct prelux_alluxio_entry *e,
                       struct prelux_alluxio_worker *w)
{
  *w = (struct prelux_alluxio_worker){
      .host = e->host, .http_port = e->http_port, .s3_port = o->s3_port, .identity = e->identity, .birth = e->birth};
  e->host = NULL;
  if (asprintf(&w->address, "%s:%u", w->host, w->http_port) < 0)
    w->address = NULL;
  if (asprintf(&w->http, "http://%s:%u", w->host, w->http_port) < 0)
    w->http = NULL;
  if (asprintf(&w->s3, "http://%s:%u", w->host, w->s3_port) < 0)
    w->s3 = NULL;
  if (!w->address || !w->http || !w->s3)
    return -ENOMEM;
  w->health = prelux_alluxio_patient_find(health, w->address, w->s3_port);
  return w->health ? 0 : -ENOMEM;
}

static int ring_make(struct prelux_alluxio_view *v, unsigned virtual_nodes)
{
  struct prelux_alluxio_identity *ids = calloc(v->n + 1, sizeof *ids);
  if (!ids)
    return -ENOMEM;
  for (size_t i = 0; i < v->n; i++)
    ids[i] = v->workers[i].identity;
  int err = prelux_alluxio_ring_init(&v->ring, ids, v->n, virtual_nodes);
  free(ids);
  return err;
}

int prelux_alluxio_view_make(const struct prelux_alluxio_options *o, struct prelux_alluxio_health *health, enum prelux_alluxio_trust trust,
                             struct prelux_alluxio_roster *roster, struct prelux_alluxio_view **ret)
{
  int err = 0;
  for (size_t i = 0; i < roster->n; i++)
    if (!roster->entries[i].identified)
    {
      trust = PRELUX_ALLUXIO_RING_GUESSED;
      if ((err = prelux_alluxio_identity_of_host(roster->entries[i].host, &roster->entries[i].identity)) < 0)
        return -ENOMEM;
    }
  drop_doubles(roster);
  if (roster->n)
    qsort(roster->entries, roster->n, sizeof *roster->entries, by_identity);
  struct owned *v = calloc(1, sizeof *v);
  if (!v || !(v->workers = calloc(roster->n + 1, sizeof *v->workers)))
  {
    free(v);
    return -ENOMEM;
  }
  atomic_init(&v->refs, 1);
  v->view.trust = trust;
  v->view.workers = v->workers;
  for (size_t i = 0; i < roster->n && err == 0; i++)
  {
    v->view.n++;
    err = worker_make(o, health, &roster->entries[i], &v->workers[i]);
  }
  if (err == 0)
    err = ring_make(&v->view, o->virtual_nodes);
  if (err < 0)
    owned_free(v);
  else
    *ret = &v->view;
  return err;
}

static bool same_worker(const struct prelux_alluxio_worker *a, const struct prelux_alluxio_worker *b)
{
  return strcmp(a->address, b->address) == 0 && memcmp(&a->identity, &b->identity, sizeof a->identity) == 0;
}

bool prelux_alluxio_view_same(const struct prelux_alluxio_view *a, const struct prelux_alluxio_view *b)
{
  if (a->n != b->n || a->trust != b->trust)
    return false;
  for (size_t i = 0; i < a->n; i++)
    if (!same_worker(&a->workers[i], &b->workers[i]) || a->workers[i].birth != b->workers[i].birth)
      return false;
  return true;
}

static const struct prelux_alluxio_worker *at_address(const struct prelux_alluxio_view *v, const char *address)
{
  for (size_t i = 0; i < v->n; i++)
    if (strcmp(v->workers[i].address, address) == 0)
      return &v->workers[i];
  return NULL;
}

void prelux_alluxio_view_reborn(const struct prelux_alluxio_view *old, const struct prelux_alluxio_view *fresh)
{
  for (size_t i = 0; i < fresh->n; i++)
  {
    const struct prelux_alluxio_worker *before = at_address(old, fresh->workers[i].address);
    if (!before || before->birth != fresh->workers[i].birth || !same_worker(before, &fresh->workers[i]))
      prelux_alluxio_health_reborn(fresh->workers[i].health);
  }
}

/* A worker that has left, of another view. Without memory it is forgotten. */
static void remember(struct owned *o, const struct prelux_alluxio_worker *w, int64_t left_ms, struct prelux_alluxio_health *health)
{
  struct prelux_alluxio_worker copy = *w;
  if (o->n_gone == GONE_MAX || at_address(&o->view, w->address))
    return;
  copy.address = strdup(w->address);
  copy.host = strdup(w->host);
  copy.http = strdup(w->http);
  copy.s3 = strdup(w->s3);
  copy.health = prelux_alluxio_patient_find(health, w->address, w->s3_port);
  if (copy.address && copy.host && copy.http && copy.s3 && copy.health)
    o->gone[o->n_gone++] = (struct gone){.worker = copy, .left_ms = left_ms};
  else
    worker_release(&copy);
}

void prelux_alluxio_view_inherit(struct prelux_alluxio_view *fresh, const struct prelux_alluxio_view *old,
                                 struct prelux_alluxio_health *health)
{
  struct owned *o = (struct owned *)fresh;
  const struct owned *before = (const struct owned *)old;
  int64_t now = prelux_alluxio_clock_ms();
  if (!(o->gone = calloc(GONE_MAX, sizeof *o->gone)))
    return;
  for (size_t i = 0; i < old->n; i++)
    remember(o, &old->workers[i], now, health);
  for (size_t i = 0; i < before->n_gone; i++)
    if (now - before->gone[i].left_ms < PRELUX_ALLUXIO_GONE_MS)
      remember(o, &before->gone[i].worker, before->gone[i].left_ms, health);
}

bool prelux_alluxio_view_gone(const struct prelux_alluxio_view *v, size_t i, const struct prelux_alluxio_worker **ret)
{
  const struct owned *o = (const struct owned *)v;
  if (i >= o->n_gone)
    return false;
  bool young = prelux_alluxio_clock_ms() - o->gone[i].left_ms < PRELUX_ALLUXIO_GONE_MS;
  *ret = young ? &o->gone[i].worker : NULL;
  return true;
}

static size_t list_missing(const struct prelux_alluxio_view *of, const struct prelux_alluxio_view *in, char sign, char *out, size_t cap,
                           size_t used)
{
  for (size_t i = 0; i < of->n && used + 1 < cap; i++)
    if (!at_address(in, of->workers[i].address))
    {
      int n = snprintf(out + used, cap - used, "%s%c%s", used ? " " : "", sign, of->workers[i].address);
      used = n < 0 || (size_t)n >= cap - used ? cap - 1 : used + (size_t)n;
    }
  return used;
}

void prelux_alluxio_view_changes(const struct prelux_alluxio_view *old, const struct prelux_alluxio_view *fresh, char *out, size_t cap)
{
  out[0] = 0;
  list_missing(old, fresh, '-', out, cap, list_missing(fresh, old, '+', out, cap, 0));
}

size_t prelux_alluxio_view_owners(const struct prelux_alluxio_view *v, const char *ufs_path, size_t max,
                                  const struct prelux_alluxio_worker **out)
{
  uint32_t small[16], *order = small;
  if (max > v->n)
    max = v->n;
  if (max > sizeof small / sizeof *small && !(order = malloc(max * sizeof *order)))
  {
    order = small;
    max = sizeof small / sizeof *small;
  }
  size_t n = prelux_alluxio_ring_owners(&v->ring, ufs_path, max, order);
  for (size_t i = 0; i < n; i++)
    out[i] = &v->workers[order[i]];
  if (order != small)
    free(order);
  return n;
}
