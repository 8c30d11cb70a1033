/* Is the cluster's page size Q the size P that we work with? No answer of a worker says. It is proven by lengths, over any file
 * that is longer than P, whatever its bytes are and whatever ranges others cut pages with:
 *
 *   a stored page (any N) of at least P bytes              =>  Q >= P
 *   a stored page N >= 1 that is exactly size - N*P long,
 *   N being the last by P                                  =>  Q <= P:  were Q > P, page N would begin at N*Q > N*P, and what
 *                                                              is left of the file there is shorter than that
 *
 * and confirmed by bytes: the ends of both pages are held against what the S3 port gave for the same offsets. Both take one
 * request of at most 256 bytes each, by `offset` and `length`. The pages are there since a read by the S3 port has just loaded
 * them (the last one is loaded by a range of some bytes at the object's end). When that fails, page 0 is asked how long it is: a
 * length L that fits neither P nor the file is a candidate for Q, which takes the second proof. What is proven replaces P.
 *
 * A proof holds for one worker, one registration of it, and five minutes. Workers of a list never register, and of the others we
 * hear late: meanwhile one may have come back with another page size, whose pages may be as long as ours. So the two pages of
 * the proof are kept in mind, as witnesses, and whoever has read pages asks for some bytes of both once more, afterwards: they are
 * as they were, so it has been the same size all the time. When one of them is not (it may be evicted, too), the proof is void and
 * what was read is not used. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio.h"
#include "lib/base/log.h"

#define TRIES_FREE 8             /* many a file is too short to tell */
#define TRY_AGAIN_MS 1000        /* after more; doubles */
#define TRY_AGAIN_MAX_MS 300000
#define SMALL (1u << 20)         /* no request more than needed for files up to this */
#define LEAST 1024               /* bytes a page has; a first page shorter than that was cut */
#define LUCK_MAX 16
#define LUCK_FIRST 4
#define KNOWN_MAX 4096           /* workers; beyond: the one whose proof is oldest gives way */
#define LENGTH_ONLY 1u           /* of a witness: there is a byte, whichever */
#define EVERY 8                  /* out of luck: pages are tried in one read of so many */

/* Some bytes of a page that was there when the size was proven. */
struct witness
{
  uint64_t page, off;
  bool to_end;       /* they reach to the page's end */
  unsigned len;      /* how many; of more than LENGTH_ONLY the values are known */
  unsigned char bytes[PRELUX_ALLUXIO_SAMPLE];
};

struct witnesses
{
  char id[PRELUX_ALLUXIO_ID_SIZE];
  struct witness full, tail; /* a page of at least the size, and the last one */
  uint64_t serial;           /* of the proof; no two have the same */
};

struct known
{
  struct known *next;
  char *address;
  int64_t birth;
  uint64_t proven;   /* page size; 0: none */
  int64_t proven_ms, try_ms;
  int tries;
  bool at_work;      /* somebody is proving */
  struct witnesses witnesses; /* of what is proven */
};

struct prelux_alluxio_pages
{
  pthread_mutex_t lock; /* guards all */
  const char *backend;
  uint64_t configured, size, larger; /* larger: the cluster's pages are at least that long */
  struct known *workers;
  uint64_t proofs; /* made so far */
  size_t n_workers;
  bool said;
  int luck;
  unsigned turn;
};

int prelux_alluxio_pages_create(const char *backend, uint64_t configured, struct prelux_alluxio_pages **ret)
{
  struct prelux_alluxio_pages *p = calloc(1, sizeof(*p));
  if (!p)
    return -ENOMEM;
  pthread_mutex_init(&p->lock, NULL);
  p->backend = backend;
  p->configured = p->size = configured;
  p->luck = LUCK_FIRST;
  *ret = p;
  return 0;
}

void prelux_alluxio_pages_free(struct prelux_alluxio_pages *p)
{
  if (!p)
    return;
  for (struct known *k = p->workers, *next; k; k = next)
  {
    next = k->next;
    free(k->address);
    free(k);
  }
  pthread_mutex_destroy(&p->lock);
  free(p);
}

uint64_t prelux_alluxio_page_size(struct prelux_alluxio_pages *p)
{
  pthread_mutex_lock(&p->lock);
  uint64_t size = p->size;
  pthread_mutex_unlock(&p->lock);
  return size;
}

/* Lock held. Addresses come and go with the pods of a cluster. */
static void forget_one(struct prelux_alluxio_pages *p)
{
  struct known **oldest = NULL;
  for (struct known **at = &p->workers; *at; at = &(*at)->next)
    if (!(*at)->at_work && (!oldest || (*at)->proven_ms < (*oldest)->proven_ms))
      oldest = at;
  if (!oldest)
    return;
  struct known *gone = *oldest;
  *oldest = gone->next;
  p->n_workers--;
  free(gone->address);
  free(gone);
}

/* Lock held. NULL: no memory. A worker that has registered anew is a new one. */
static struct known *find(struct prelux_alluxio_pages *p, const struct prelux_alluxio_worker *w)
{
  struct known *k = p->workers;
  while (k && strcmp(k->address, w->address) != 0)
    k = k->next;
  if (k && k->birth != w->birth)
  {
    k->birth = w->birth;
    k->proven = 0;
    k->tries = 0;
    k->try_ms = 0;
  }
  if (!k && p->n_workers >= KNOWN_MAX)
    forget_one(p);
  if (k || !(k = calloc(1, sizeof(*k))))
    return k;
  k->birth = w->birth;
  k->address = strdup(w->address);
  if (!k->address)
  {
    free(k);
    return NULL;
  }
  k->next = p->workers;
  p->workers = k;
  p->n_workers++;
  return k;
}

static bool holds(const struct known *k, uint64_t size, int64_t now)
{
  return k && k->proven == size && now - k->proven_ms < PRELUX_ALLUXIO_PROOF_MS;
}

bool prelux_alluxio_page_proven(struct prelux_alluxio_pages *p, const struct prelux_alluxio_worker *w, uint64_t size)
{
  pthread_mutex_lock(&p->lock);
  bool ret = holds(find(p, w), size, prelux_alluxio_now_ms());
  pthread_mutex_unlock(&p->lock);
  return ret;
}

bool prelux_alluxio_page_worth(struct prelux_alluxio_pages *p)
{
  pthread_mutex_lock(&p->lock);
  bool ret = p->luck > 0 || p->turn++ % EVERY == 0;
  pthread_mutex_unlock(&p->lock);
  return ret;
}

void prelux_alluxio_page_found(struct prelux_alluxio_pages *p, bool hit)
{
  pthread_mutex_lock(&p->lock);
  p->luck = hit ? (p->luck < LUCK_MAX ? p->luck + 1 : LUCK_MAX) : p->luck / 2;
  pthread_mutex_unlock(&p->lock);
}

void prelux_alluxio_pages_report(struct prelux_alluxio_pages *p, struct cJSON *into)
{
  cJSON *o = cJSON_AddObjectToObject(into, "pages");
  int64_t now = prelux_alluxio_now_ms();
  int proven = 0;
  pthread_mutex_lock(&p->lock);
  for (const struct known *k = p->workers; k; k = k->next)
    proven += holds(k, p->size, now);
  const char *verdict = proven ? (p->size == p->configured ? "proven" : "other") : p->larger ? "larger" : "unproven";
  cJSON_AddNumberToObject(o, "size", (double)p->size);
  cJSON_AddNumberToObject(o, "configured", (double)p->configured);
  cJSON_AddStringToObject(o, "verdict", verdict);
  cJSON_AddNumberToObject(o, "workers_proven", proven);
  if (p->larger)
    cJSON_AddNumberToObject(o, "at_least", (double)p->larger);
  pthread_mutex_unlock(&p->lock);
}

/* Samples */

void prelux_alluxio_proof_begin(struct prelux_alluxio *x, const struct prelux_alluxio_worker *w, const struct prelux_object *expect,
                                uint64_t off, uint64_t end, struct prelux_alluxio_proof *p)
{
  struct prelux_alluxio_pages *pages = x->pages;
  uint64_t size = prelux_alluxio_page_size(pages);
  int64_t now = prelux_alluxio_now_ms();
  *p = (struct prelux_alluxio_proof){.page_size = size};
  if (expect->size <= (size < SMALL ? size : SMALL))
    return;
  pthread_mutex_lock(&pages->lock);
  struct known *k = find(pages, w);
  if (k && !k->at_work && !holds(k, size, now) && now >= k->try_ms)
  {
    k->at_work = true;
    p->known = k;
  }
  pthread_mutex_unlock(&pages->lock);
  if (!p->known)
    return;
  uint64_t edge = end / size * size; /* of the last full page that ends here */
  if (edge > off)
  {
    p->full.len = edge - off < PRELUX_ALLUXIO_SAMPLE ? (unsigned)(edge - off) : PRELUX_ALLUXIO_SAMPLE;
    if (p->full.len > size)
      p->full.len = (unsigned)size;
    p->full.at = edge - p->full.len;
  }
  if (end == expect->size)
  {
    p->tail.len = end - off < PRELUX_ALLUXIO_SAMPLE ? (unsigned)(end - off) : PRELUX_ALLUXIO_SAMPLE;
    p->tail.at = end - p->tail.len;
  }
}

static void taste(struct prelux_alluxio_sample *s, uint64_t off, const unsigned char *buf, size_t len)
{
  uint64_t at = s->at + s->have;
  if (s->have >= s->len || at < off || at >= off + len)
    return;
  uint64_t n = off + len - at;
  if (n > s->len - s->have)
    n = s->len - s->have;
  memcpy(s->bytes + s->have, buf + (at - off), (size_t)n);
  s->have += (unsigned)n;
}

void prelux_alluxio_proof_taste(struct prelux_alluxio_proof *p, uint64_t off, const void *buf, size_t len)
{
  if (!p->known)
    return;
  taste(&p->full, off, buf, len);
  taste(&p->tail, off, buf, len);
}

/* Requests */

struct proving
{
  struct prelux_alluxio *x;
  const struct prelux_alluxio_round *r;
  const struct prelux_alluxio_worker *w;
  const struct prelux_alluxio_name *name;
  const char *id;
  const struct prelux_object *expect;
  struct prelux_alluxio_proof *proof;
  struct witnesses seen;
};

static int on_head(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  *(uint64_t *)arg = head->status == 200 ? head->content_length : UINT64_MAX;
  return -ECANCELED; /* the length is all that is wanted */
}

/* The length of the whole page 0; UINT64_MAX: not there. */
static uint64_t length_of_first(struct proving *v)
{
  uint64_t length = UINT64_MAX;
  struct prelux_net_answer a;
  char *url;
  if (!prelux_alluxio_health_usable(v->w->health, PRELUX_ALLUXIO_HTTP))
    return UINT64_MAX;
  if (asprintf(&url, "%s/v1/file/%s/page/0", v->w->http, v->id) >= 0)
  {
    struct prelux_net_request req = {.method = "GET",
                                     .url = url,
                                     .born_after_ms = v->r->view->born_ms,
                                     .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
                                     .stall_s = PRELUX_ALLUXIO_META_STALL_S,
                                     .sink = on_head,
                                     .arg = &length};
    prelux_net_call(v->x->net, &req, &a, NULL);
    prelux_net_answer_free(&a);
    free(url);
  }
  prelux_alluxio_health_done(v->w->health, PRELUX_ALLUXIO_HTTP);
  return length;
}

/* Does the page hold exactly these bytes there? */
static bool testifies(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_worker *worker,
                      const char *id, const struct witness *w)
{
  struct prelux_net_answer a;
  char *url, length[40] = "";
  if (!prelux_alluxio_health_usable(worker->health, PRELUX_ALLUXIO_HTTP))
    return false;
  if (!w->to_end)
    snprintf(length, sizeof(length), "&length=%u", w->len);
  bool good = false;
  if (asprintf(&url, "%s/v1/file/%s/page/%" PRIu64 "?offset=%" PRIu64 "%s", worker->http, id, w->page, w->off, length) >= 0)
  {
    struct prelux_net_request req = {.method = "GET",
                                     .url = url,
                                     .max_body = 2 * PRELUX_ALLUXIO_SAMPLE,
                                     .born_after_ms = r->view->born_ms,
                                     .connect_ms = PRELUX_ALLUXIO_CONNECT_MS,
                                     .stall_s = PRELUX_ALLUXIO_META_STALL_S};
    int rc = prelux_net_call(x->net, &req, &a, NULL);
    good = rc == 0 && a.status == 200 && a.body_len == w->len &&
           (w->len <= LENGTH_ONLY || memcmp(a.body, w->bytes, w->len) == 0);
    prelux_net_answer_free(&a);
    free(url);
  }
  prelux_alluxio_health_done(worker->health, PRELUX_ALLUXIO_HTTP);
  return good;
}

/* As testifies(); a good one is kept. */
static bool call_witness(struct proving *v, struct witness *keep, const struct witness *w)
{
  bool good = testifies(v->x, v->r, v->w, v->id, w);
  if (good)
    *keep = *w;
  return good;
}

static int keep_tail(void *arg, uint64_t off, const void *buf, size_t len)
{
  taste(arg, off, buf, len);
  return 0;
}

/* The object's end, where the read did not go: it is read, and with it the last page is loaded. */
static bool have_tail(struct proving *v)
{
  struct prelux_alluxio_sample *t = &v->proof->tail;
  const struct prelux_alluxio_worker *next;
  int rc;
  if (t->len)
    return t->have == t->len;
  t->len = PRELUX_ALLUXIO_SAMPLE;
  t->at = v->expect->size - t->len;
  struct prelux_alluxio_part part = {
      .name = v->name, .expect = v->expect, .pos = t->at, .end = v->expect->size, .sink = keep_tail, .arg = t};
  if (!prelux_alluxio_health_usable(v->w->health, PRELUX_ALLUXIO_S3))
    return false;
  return prelux_alluxio_range(v->x, v->r, v->w, &part, part.end, &next, &rc, NULL) == PRELUX_ALLUXIO_YES && t->have == t->len;
}

/* Q >= size */
static bool at_least(struct proving *v)
{
  const struct prelux_alluxio_sample *f = &v->proof->full;
  uint64_t size = v->proof->page_size, edge = f->at + f->len;
  struct witness w = {.page = edge / size - 1, .off = size - f->len, .len = f->len};
  memcpy(w.bytes, f->bytes, sizeof(w.bytes));
  return f->len && f->have == f->len && call_witness(v, &v->seen.full, &w);
}

/* A page 0 of that length was just seen: it has a last byte. */
static bool as_long_as(struct proving *v, uint64_t size)
{
  return call_witness(v, &v->seen.full, &(struct witness){.page = 0, .off = size - LENGTH_ONLY, .len = LENGTH_ONLY});
}

/* Q <= size */
static bool at_most(struct proving *v, uint64_t size)
{
  const struct prelux_alluxio_sample *t = &v->proof->tail;
  uint64_t n = (v->expect->size - 1) / size, rest = v->expect->size - n * size;
  if (n == 0 || !have_tail(v))
    return false;
  unsigned k = rest < t->len ? (unsigned)rest : t->len;
  struct witness w = {.page = n, .off = rest - k, .to_end = true, .len = k};
  memcpy(w.bytes, t->bytes + t->len - k, k);
  return call_witness(v, &v->seen.tail, &w);
}

static void size_text(uint64_t size, char *out, size_t cap)
{
  bool whole = size % (1u << 20) == 0;
  snprintf(out, cap, "%" PRIu64 "%s", whole ? size >> 20 : size % 1024 == 0 ? size >> 10 : size,
           whole ? "MiB" : size % 1024 == 0 ? "KiB" : "");
}

/* Lock held. One line for a backend, whatever is learned later. */
static void say(struct prelux_alluxio_pages *p, uint64_t exact, uint64_t larger)
{
  char ours[40], theirs[40];
  if (p->said)
    return;
  p->said = true;
  size_text(p->configured, ours, sizeof(ours));
  size_text(exact ? exact : larger, theirs, sizeof(theirs));
  if (exact)
    prelux_warn("backend %s: the cluster's page size is %s, not %s: set page_size to it (it is used as of now)", p->backend, theirs,
                ours);
  else
    prelux_warn("backend %s: the cluster's page size is %s or more, not %s: set page_size; pages are not used until it is known",
                p->backend, theirs, ours);
}

/* birth: of the life that was asked about. A worker that has started anew meanwhile has proven nothing. */
static void conclude(struct prelux_alluxio_pages *p, struct known *k, int64_t birth, uint64_t proven, uint64_t larger,
                     const struct witnesses *seen)
{
  int64_t now = prelux_alluxio_now_ms();
  pthread_mutex_lock(&p->lock);
  if (k->birth != birth)
    proven = larger = 0;
  k->at_work = false;
  k->proven = proven;
  k->proven_ms = now;
  if (proven)
  {
    k->witnesses = *seen;
    k->witnesses.serial = ++p->proofs;
  }
  k->tries = proven ? 0 : k->tries + 1;
  int over = k->tries - TRIES_FREE;
  k->try_ms = over <= 0 ? 0 : now + (over < 9 ? (int64_t)TRY_AGAIN_MS << over : TRY_AGAIN_MAX_MS);
  if (proven)
  {
    p->size = proven;
    p->larger = 0;
    if (proven != p->configured)
      say(p, proven, 0);
  }
  else if (larger > p->size)
  {
    if (larger > p->larger)
      p->larger = larger;
    say(p, 0, larger);
  }
  pthread_mutex_unlock(&p->lock);
}

/* Is it still the same life of the same worker that the read began with? */
static bool same_worker(struct prelux_alluxio_pages *p, const struct known *k, const struct prelux_alluxio_round *r)
{
  if (r->n == 0)
    return false;
  pthread_mutex_lock(&p->lock);
  bool ret = k->birth == r->workers[0]->birth && strcmp(k->address, r->workers[0]->address) == 0;
  pthread_mutex_unlock(&p->lock);
  return ret;
}

void prelux_alluxio_proof_end(struct prelux_alluxio *x, const struct prelux_alluxio_round *r, const struct prelux_alluxio_name *n,
                              const char *id, const struct prelux_object *expect, struct prelux_alluxio_proof *p)
{
  uint64_t proven = 0, larger = 0, ours = p->page_size;
  struct proving v = {.x = x, .r = r, .name = n, .id = id, .expect = expect, .proof = p};
  if (!p->known)
    return;
  if (id && same_worker(x->pages, p->known, r))
  {
    v.w = r->workers[0];
    snprintf(v.seen.id, sizeof(v.seen.id), "%s", id);
    if (expect->size > ours && at_least(&v) && at_most(&v, ours))
      proven = ours;
    uint64_t length = proven ? UINT64_MAX : length_of_first(&v);
    if (length != UINT64_MAX && length != (ours < expect->size ? ours : expect->size))
    {
      if (length < expect->size && length >= LEAST && at_most(&v, length) && as_long_as(&v, length))
        proven = length;
      else if (length > ours)
        larger = length;
    }
  }
  conclude(x->pages, p->known, r->n ? r->workers[0]->birth : 0, proven, larger, &v.seen);
}

/* Afterwards */

static bool witnesses_of(struct prelux_alluxio_pages *p, const struct prelux_alluxio_worker *w, uint64_t size, struct witnesses *ret)
{
  pthread_mutex_lock(&p->lock);
  const struct known *k = find(p, w);
  bool there = k && k->proven == size; /* of five minutes the read may have taken some */
  if (there)
    *ret = k->witnesses;
  pthread_mutex_unlock(&p->lock);
  return there;
}

/* Unless somebody has proven it anew. */
static void make_void(struct prelux_alluxio_pages *p, const struct prelux_alluxio_worker *w, const struct witnesses *of)
{
  pthread_mutex_lock(&p->lock);
  struct known *k = find(p, w);
  if (k && k->witnesses.serial == of->serial)
  {
    k->proven = 0;
    k->tries = 0;
    k->try_ms = 0;
  }
  pthread_mutex_unlock(&p->lock);
}

bool prelux_alluxio_proof_stands(struct prelux_alluxio *x, const struct prelux_alluxio_round *r,
                                 const struct prelux_alluxio_worker *w, uint64_t size)
{
  struct witnesses all;
  if (!witnesses_of(x->pages, w, size, &all))
    return false;
  bool good = testifies(x, r, w, all.id, &all.full) && testifies(x, r, w, all.id, &all.tail);
  if (!good)
    make_void(x->pages, w, &all);
  return good;
}
