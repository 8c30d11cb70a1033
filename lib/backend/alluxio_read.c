/* Reading. A read is cut into parts of at most 8 MiB that end where pages end, since a range that ends within a page leaves a
 * short page in the worker. Each part is fetched from: pages of the owner, where they are proven and being found; the owner's
 * S3 port, which loads what is not cached; the next on the ring, or the member that a redirect names; the under store. What
 * has come of a part before a failure stays, for all these check the version before their first byte.
 *
 * Several parts are on their way at once (parallel.c); the sink gets them in order, on the calling thread.
 *
 * The version that an answer tells is that of its beginning, and pages tell none. So a read of an object of more than one page
 * is followed by a look at the object, by the cluster and by the under store (alluxio_doubt.c): -ESTALE when it is another one
 * by now. Bytes that could not be verified are never left standing behind an -EIO, after which the caller would go on from
 * where it is. */
#include "lib/backend/alluxio_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERIFY_ABOVE (1u << 20) /* one page of Alluxio's default is loaded in one go */
#define SURPLUS_MAX (1u << 20)  /* more than asked for is read up to so much, so that a page is stored whole */

/* The range that is asked for: to the end of the page, where that costs little. */
static uint64_t range_end(const struct prelux_alluxio_reading *r, const struct prelux_alluxio_part *p)
{
  uint64_t page = r->page_size, to = (p->end + page - 1) / page * page;
  if (to > r->expect->size)
    to = r->expect->size;
  return to - p->end > SURPLUS_MAX || to - p->pos > PRELUX_ALLUXIO_RANGE_MAX ? p->end : to;
}

static int drop(void *arg, uint64_t off, const void *buf, size_t len)
{
  return 0;
}

/* The page that a range ends within is loaded whole by a range of its last byte, before any other. */
static void prime(struct prelux_alluxio_reading *r, const struct prelux_alluxio_round *round, const struct prelux_alluxio_worker *w,
                  const struct prelux_alluxio_part *part, uint64_t to)
{
  uint64_t page = r->page_size, n = (to - 1) / page, last = (n + 1) * page < r->expect->size ? (n + 1) * page : r->expect->size;
  const struct prelux_alluxio_worker *next;
  int rc;
  if (to >= last || to % page == 0)
    return;
  pthread_mutex_lock(&r->prime_lock); /* the others would cut the page meanwhile */
  if (n + 1 > r->primed && prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3))
  {
    struct prelux_alluxio_part byte = {.name = part->name, .expect = part->expect, .pos = last - 1, .end = last, .sink = drop};
    prelux_alluxio_range(r->x, round, w, &byte, last, &next, &rc, NULL);
    r->primed = n + 1;
  }
  pthread_mutex_unlock(&r->prime_lock);
}

/* Pages are all from one worker, whose page size can be vouched for afterwards. */
static bool may_page(struct prelux_alluxio_reading *r, const struct prelux_alluxio_worker *owner)
{
  pthread_mutex_lock(&r->prime_lock);
  if (!r->paged_by[0])
    snprintf(r->paged_by, sizeof(r->paged_by), "%s", owner->address);
  bool same = strcmp(r->paged_by, owner->address) == 0;
  pthread_mutex_unlock(&r->prime_lock);
  return same;
}

static enum prelux_alluxio_word by_pages(struct prelux_alluxio_reading *r, const struct prelux_alluxio_round *round,
                                         struct prelux_alluxio_part *p, int *ret_rc, struct prelux_problem *why)
{
  const struct prelux_alluxio_worker *owner = round->workers[0];
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_YES;
  if (round->view->trust == PRELUX_ALLUXIO_RING_GUESSED || !prelux_alluxio_page_proven(r->x->pages, owner, r->page_size) ||
      !may_page(r, owner))
    return PRELUX_ALLUXIO_SILENT;
  atomic_store(&r->strayed, true);
  while (p->pos < p->end && word == PRELUX_ALLUXIO_YES)
  {
    uint64_t before = p->pos;
    if (!atomic_load(&r->pages) || !prelux_alluxio_health_usable(owner->health, PRELUX_ALLUXIO_HTTP))
      return PRELUX_ALLUXIO_SILENT;
    word = prelux_alluxio_page_get(r->x, round, owner, r->id, r->page_size, p, ret_rc, why);
    if (p->pos > before)
    {
      atomic_store(&r->unverified, true);
      atomic_store(&r->paged, true);
    }
  }
  if (word != PRELUX_ALLUXIO_YES) /* where one page is missing others are */
    atomic_store(&r->pages, false);
  return word;
}

/* One worker's S3 port; *ret_next: whom it sent us to. */
static enum prelux_alluxio_word one_range(struct prelux_alluxio_reading *r, const struct prelux_alluxio_round *round,
                                          const struct prelux_alluxio_worker *w, struct prelux_alluxio_part *p,
                                          const struct prelux_alluxio_worker **ret_next, int *ret_rc, struct prelux_problem *why)
{
  uint64_t before = p->pos, to = range_end(r, p);
  *ret_next = NULL;
  prime(r, round, w, p, to);
  if (!prelux_alluxio_health_usable(w->health, PRELUX_ALLUXIO_S3))
    return PRELUX_ALLUXIO_OTHER;
  enum prelux_alluxio_word word = prelux_alluxio_range(r->x, round, w, p, to, ret_next, ret_rc, why);
  /* Of an object longer than a page others may have, or will, come of another version. */
  uint64_t at_once = r->page_size < VERIFY_ABOVE ? r->page_size : VERIFY_ABOVE;
  if (p->pos > before && (r->expect->size > at_once || atomic_load(&r->some)))
    atomic_store(&r->unverified, true);
  if (p->pos > before)
    atomic_store(&r->some, true);
  if (w != round->workers[0] || word != PRELUX_ALLUXIO_YES)
    atomic_store(&r->strayed, true);
  return word;
}

static enum prelux_alluxio_word by_ranges(struct prelux_alluxio_reading *r, const struct prelux_alluxio_round *round,
                                          struct prelux_alluxio_part *p, int *ret_rc, struct prelux_problem *why)
{
  size_t n = r->x->under && round->n > 2 ? 2 : round->n; /* owner, next, under store */
  const struct prelux_alluxio_worker *sent = NULL, *next;
  if (!r->name->key)
  {
    prelux_problem(why, EIO, "/%s lies in the root of the cluster, where its workers' S3 API reads nothing", r->name->path);
    return PRELUX_ALLUXIO_OTHER;
  }
  for (size_t i = 0; i < n; i++)
  {
    const struct prelux_alluxio_worker *w = round->workers[i];
    if (w == sent)
      continue;
    enum prelux_alluxio_word word = one_range(r, round, w, p, &next, ret_rc, why);
    bool before_us = false;
    for (size_t k = 0; k <= i; k++)
      before_us = before_us || next == round->workers[k];
    if (word == PRELUX_ALLUXIO_OTHER && next && !before_us && next != sent)
    {
      sent = next;
      word = one_range(r, round, sent, p, &next, ret_rc, why);
    }
    if (word == PRELUX_ALLUXIO_YES || word == PRELUX_ALLUXIO_FINAL)
      return word;
  }
  prelux_alluxio_members_stir(r->x->members);
  return PRELUX_ALLUXIO_OTHER;
}

/* The workers once, then the under store. -EAGAIN: nobody could, and another try makes sense. */
static int fetch_once(struct prelux_alluxio_reading *r, struct prelux_alluxio_part *p, struct prelux_problem *why)
{
  struct prelux_alluxio_round round;
  enum prelux_alluxio_word word = PRELUX_ALLUXIO_OTHER;
  if (prelux_alluxio_doubted(r->x, r->name->path))
  {
    atomic_store(&r->strayed, true);
    return prelux_alluxio_under_read(r->x, p, PRELUX_ALLUXIO_NO_WORKER, why);
  }
  int rc = prelux_alluxio_round_init(r->x, &round, r->name->ufs, why);
  if (rc == 0 && atomic_load(&r->pages))
    word = by_pages(r, &round, p, &rc, why);
  if (rc == 0 && word != PRELUX_ALLUXIO_YES && word != PRELUX_ALLUXIO_FINAL)
    word = by_ranges(r, &round, p, &rc, why);
  if (word == PRELUX_ALLUXIO_YES)
    rc = 0;
  else if (word != PRELUX_ALLUXIO_FINAL)
  {
    atomic_store(&r->strayed, true);
    rc = prelux_alluxio_under_read(r->x, p, prelux_alluxio_round_plight(&round), why);
  }
  prelux_alluxio_round_release(&round);
  return rc;
}

/* All that is left of a part, from whoever can. */
static int fetch_part(struct prelux_alluxio_reading *r, struct prelux_alluxio_part *p, struct prelux_problem *why)
{
  struct prelux_alluxio_patience patience = {0};
  struct prelux_problem mine = {0};
  int rc = -EAGAIN;
  while (rc == -EAGAIN)
  {
    uint64_t before = p->pos;
    if (atomic_load(&r->stop))
      return -ECANCELED;
    rc = fetch_once(r, p, &mine);
    if (rc == -EAGAIN && p->pos > before)
      patience = (struct prelux_alluxio_patience){0};
    if (rc == -EAGAIN && (rc = prelux_alluxio_wait(r->x, &patience, &mine)) == 0)
      rc = -EAGAIN;
  }
  if (rc < 0 && why)
    *why = mine;
  return rc;
}

/* The reading a job is of: it is fetched from by several threads. */
static struct prelux_alluxio_reading *reading_of(const struct prelux_parallel_job *job)
{
  return (struct prelux_alluxio_reading *)job;
}

static int fetch(const struct prelux_parallel_job *job, struct prelux_parallel_part *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_alluxio_reading *r = reading_of(job);
  struct prelux_alluxio_part part = {
      .name = r->name, .expect = r->expect, .pos = p->from, .end = p->to, .sink = sink, .arg = arg, .cancel = &r->stop,
      .place = {.buf = p->buf, .from = p->from, .cap = PRELUX_ALLUXIO_RANGE_MAX}};
  int rc = fetch_part(r, &part, why);
  p->got = part.pos - p->from;
  return rc == 0 && part.pos != part.end ? prelux_problem(why, EPROTO, "/%s: a part is not whole", r->name->path) : rc;
}

/* Where the part that begins at pos ends. */
static uint64_t part_end(const struct prelux_alluxio_reading *r, uint64_t pos, uint64_t end)
{
  uint64_t page = r->page_size, stop = (pos + PRELUX_ALLUXIO_RANGE_MAX) / page * page;
  if (stop <= pos) /* a page is longer than a range may be */
  {
    uint64_t page_end = (pos / page + 1) * page;
    stop = pos + PRELUX_ALLUXIO_RANGE_MAX < page_end ? pos + PRELUX_ALLUXIO_RANGE_MAX : page_end;
  }
  return stop < end ? stop : end;
}

static size_t cut(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ends, size_t max)
{
  const struct prelux_alluxio_reading *r = reading_of(job);
  size_t n = 0;
  for (uint64_t pos = off; pos < end && n < max; pos = ends[n++])
    ends[n] = part_end(r, pos, end);
  return n;
}

/* The caller's sink, with a taste of the bytes kept for the proof of the page size. */
static int on_bytes(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct prelux_alluxio_reading *r = arg;
  prelux_alluxio_proof_taste(&r->proof, off, buf, len);
  r->got += len;
  int rc = r->sink(r->arg, off, buf, len);
  r->refused = rc < 0;
  return rc;
}

/* Pages have been read: had they the size all the time? The worker may have started anew with another one. */
static bool pages_fit(struct prelux_alluxio_reading *r, const struct prelux_alluxio_round *round)
{
  if (!atomic_load(&r->paged))
    return true;
  for (size_t i = 0; i < round->n; i++)
    if (strcmp(round->workers[i]->address, r->paged_by) == 0)
      return prelux_alluxio_proof_stands(r->x, round, round->workers[i], r->page_size);
  return false;
}

/* Is the object, now that its bytes have been read, still the one that was expected? */
static int verify(struct prelux_alluxio_reading *r, struct prelux_problem *why)
{
  const struct prelux_object *expect = r->expect;
  struct prelux_alluxio_round round;
  struct prelux_problem mine = {0};
  struct prelux_object now;
  int rc = prelux_alluxio_round_init(r->x, &round, r->name->ufs, &mine);
  bool fit = pages_fit(r, &round);
  if (rc == 0)
    rc = prelux_alluxio_stat_workers(r->x, &round, r->name, &now, &mine);
  if (rc == -EIO)
    rc = prelux_alluxio_under_stat(r->x, r->name->path, PRELUX_ALLUXIO_NO_WORKER, &now, &mine);
  prelux_alluxio_round_release(&round);
  if (!fit)
    return prelux_problem(why, ESTALE, "/%s: the pages it was read from may be of another size than %s was proven to have", r->name->path,
                          r->paged_by);
  if (rc < 0)
    return prelux_problem(why, ESTALE, "/%s: whether it changed while it was read cannot be told: %.300s", r->name->path, mine.text);
  if (now.type == PRELUX_FILE && prelux_alluxio_equal(&now, expect))
    return prelux_alluxio_under_agrees(r->x, r->name->path, expect)
               ? 0
               : prelux_problem(why, ESTALE, "/%s: the under store has another file than the cluster tells of (%s): its bytes may be of both",
                                r->name->path, expect->version);
  return prelux_problem(why, ESTALE, "/%s: changed while it was read: %s, expected %s", r->name->path, now.version, expect->version);
}

/* Before: may pages be used, or is a proof of their size wanted? */
static void prepare(struct prelux_alluxio_reading *r, uint64_t off, uint64_t end)
{
  struct prelux_alluxio_round round;
  r->page_size = prelux_alluxio_page_size(r->x->pages);
  if (prelux_alluxio_round_init(r->x, &round, r->name->ufs, NULL) == 0 && round.view->trust != PRELUX_ALLUXIO_RING_GUESSED)
  {
    bool proven = prelux_alluxio_page_proven(r->x->pages, round.workers[0], r->page_size);
    if (!proven && r->name->key)
      prelux_alluxio_proof_begin(r->x, round.workers[0], r->expect, off, end, &r->proof);
    bool worth = proven && end - off >= 2 * r->page_size && prelux_alluxio_page_worth(r->x->pages);
    atomic_store(&r->pages, worth || (proven && !r->name->key));
  }
  prelux_alluxio_round_release(&round);
}

static void conclude(struct prelux_alluxio_reading *r, int rc)
{
  struct prelux_alluxio_round round;
  if (!r->proof.known)
    return;
  bool good = prelux_alluxio_round_init(r->x, &round, r->name->ufs, NULL) == 0 && rc == 0 && !atomic_load(&r->strayed);
  prelux_alluxio_proof_end(r->x, &round, r->name, good ? r->id : NULL, r->expect, &r->proof);
  prelux_alluxio_round_release(&round);
}

static int read_all(struct prelux_alluxio_reading *r, uint64_t off, uint64_t end, struct prelux_problem *why)
{
  int rc = prelux_alluxio_file_id(r->name->ufs, r->id);
  if (rc < 0)
    return prelux_problem(why, EIO, "no SHA-256 for the id of /%s", r->name->path);
  pthread_mutex_init(&r->prime_lock, NULL);
  prepare(r, off, end);
  r->job = (struct prelux_parallel_job){.pool = &r->x->parallel, .cut = cut, .fetch = fetch, .stop = &r->stop};
  rc = prelux_parallel_read(&r->job, off, end, on_bytes, r, why);
  conclude(r, rc);
  pthread_mutex_destroy(&r->prime_lock);
  /* After an -EIO the caller may go on from where it is: what it has must be as good as after a success. */
  if (r->got && !r->refused && (rc == 0 || rc == -EIO) && atomic_load(&r->unverified))
  {
    int verdict = verify(r, rc == 0 ? why : NULL);
    rc = verdict < 0 ? verdict : rc;
  }
  return rc;
}

/* What the under store says is there is read from the workers only when they have that: what they have by the same name may be what this
 * node has replaced. -ESTALE: the caller looks and reads again, and what is there still comes from the under store then. */
static int read_ruled(struct prelux_alluxio_reading *r, const char *path, uint64_t off, uint64_t len, int rc, struct prelux_problem *why)
{
  const struct prelux_backend_ops *under = r->x->under->ops;
  if (rc == 0 && !prelux_alluxio_doubted(r->x, path) && prelux_alluxio_distinct(r->x, r->expect))
  {
    rc = read_all(r, off, off + len, why);
    if (rc == -ESTALE)
      prelux_alluxio_doubt_own(r->x, path);
    if (rc != -ESTALE || r->got)
      return rc;
  }
  else if (rc < 0 && rc != -EOPNOTSUPP)
    return rc;
  rc = under->read(r->x->under, path, r->expect, off, len, r->sink, r->arg, why);
  if (rc == 0)
    prelux_alluxio_count(r->x->health, PRELUX_ALLUXIO_FROM_UNDER, len);
  return rc;
}

int prelux_alluxio_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off, uint64_t len,
                        prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_alluxio_name n = {0};
  if (len == 0)
    return 0;
  if (expect->size == UINT64_MAX || off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "/%s: a part behind its end was asked for", path);
  struct prelux_alluxio_reading r = {
      .x = (struct prelux_alluxio *)b, .name = &n, .expect = expect, .sink = sink, .arg = arg};
  int rc = prelux_alluxio_name_init(r.x, &n, path, why);
  if (prelux_alluxio_under_rules(r.x))
    rc = read_ruled(&r, path, off, len, rc, why);
  else if (rc == 0)
    rc = read_all(&r, off, off + len, why);
  prelux_alluxio_name_release(&n);
  return rc;
}
