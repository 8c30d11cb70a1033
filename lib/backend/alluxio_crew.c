/* Reading ahead: while the caller passes one part on, a few threads fetch the next ones into memory.
 *
 * Each answer of the S3 port has a connection of its own, so one stream alone would wait for a connection, a look-up and the under
 * store before each 8 MiB. A part lies in a buffer until its turn; the caller takes parts like everybody else, his, too, by way of a
 * buffer while few are in use: the bytes come there without another copy and without waking him for each piece, and go to the sink in
 * one (8 streams at once: 0.48 s for 0.56). At most WINDOW parts are ahead of the sink. Helpers are hired only while fewer than AT_ONCE
 * parts are being fetched for the backend: many readers need none, and memory is bounded; without a helper the caller does all by
 * himself. Buffers are used again, for fresh memory costs a page fault each 4 KiB; once nobody reads the kernel may take them
 * (MADV_FREE). A failure stops everybody. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/backend/alluxio_read.h"

#define WINDOW 4
#define HELPERS 3
#define AT_ONCE 4u
#define OWN 12u /* buffers in use up to which a caller takes one for his own part */
#define PARTS_MAX 64
#define STACK (256u << 10)

enum state { FREE, TAKEN, READY };

struct piece
{
  enum state state;
  uint64_t from, to;
  uint64_t got; /* bytes of it that came */
  char *buf;
  int rc;
  struct prelux_problem why;
};

struct crew
{
  struct prelux_alluxio_reading *r;
  pthread_mutex_t lock; /* guards next, done and the states */
  pthread_cond_t changed;
  struct piece *pieces;
  size_t n, next, done;
};

void prelux_alluxio_ahead_init(struct prelux_alluxio_ahead *a)
{
  pthread_mutex_init(&a->lock, NULL);
}

void prelux_alluxio_ahead_release(struct prelux_alluxio_ahead *a)
{
  while (a->n_spares)
    munmap(a->spares[--a->n_spares], PRELUX_ALLUXIO_RANGE_MAX);
  pthread_mutex_destroy(&a->lock);
}

/* NULL: no memory, or `most` are in use. */
static char *buffer_take(struct prelux_alluxio_ahead *a, unsigned most)
{
  pthread_mutex_lock(&a->lock);
  bool may = a->taken < most;
  char *buf = may && a->n_spares ? a->spares[--a->n_spares] : NULL;
  a->taken += may;
  pthread_mutex_unlock(&a->lock);
  if (buf || !may)
    return buf;
  void *fresh = mmap(NULL, PRELUX_ALLUXIO_RANGE_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh != MAP_FAILED)
    return fresh;
  pthread_mutex_lock(&a->lock);
  a->taken--;
  pthread_mutex_unlock(&a->lock);
  return NULL;
}

static void buffer_put(struct prelux_alluxio_ahead *a, char *buf)
{
  if (!buf)
    return;
  pthread_mutex_lock(&a->lock);
  a->taken--;
  bool keep = a->n_spares < PRELUX_ALLUXIO_SPARES;
  if (keep)
    a->spares[a->n_spares++] = buf;
  pthread_mutex_unlock(&a->lock);
  if (!keep)
    munmap(buf, PRELUX_ALLUXIO_RANGE_MAX);
}

static int to_memory(void *arg, uint64_t off, const void *buf, size_t len)
{
  const struct piece *p = arg;
  char *place = p->buf + (off - p->from);
  if (buf != place) /* the under store's, or more than is wanted of a page */
    memcpy(place, buf, len);
  return 0;
}

static int fetch(struct crew *c, struct piece *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_alluxio_part part = {
      .name = c->r->name, .expect = c->r->expect, .pos = p->from, .end = p->to, .sink = sink, .arg = arg, .cancel = &c->r->stop,
      .place = {.buf = p->buf, .from = p->from, .cap = PRELUX_ALLUXIO_RANGE_MAX}};
  int rc = prelux_alluxio_fetch(c->r, &part, why);
  p->got = part.pos - p->from;
  return rc == 0 && part.pos != part.end ? prelux_problem(why, EPROTO, "/%s: a part is not whole", c->r->name->path) : rc;
}

static int fetch_to_buffer(struct crew *c, struct piece *p)
{
  return fetch(c, p, to_memory, p, &p->why);
}

static void *help(void *arg)
{
  struct crew *c = arg;
  pthread_mutex_lock(&c->lock);
  for (;;)
  {
    while (!atomic_load(&c->r->stop) && c->next < c->n && c->next >= c->done + WINDOW)
      pthread_cond_wait(&c->changed, &c->lock);
    if (atomic_load(&c->r->stop) || c->next >= c->n)
      break;
    struct piece *p = &c->pieces[c->next++];
    p->state = TAKEN;
    pthread_mutex_unlock(&c->lock);
    p->buf = buffer_take(&c->r->x->ahead, UINT_MAX);
    p->rc = p->buf ? fetch_to_buffer(c, p) : prelux_problem(&p->why, ENOMEM, "no memory to read ahead");
    pthread_mutex_lock(&c->lock);
    p->state = READY;
    pthread_cond_broadcast(&c->changed);
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

/* The next part in order, to the sink. */
static int deliver(struct crew *c, struct piece *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  pthread_mutex_lock(&c->lock);
  bool mine = p->state == FREE;
  if (mine)
  {
    p->state = TAKEN;
    c->next++;
  }
  while (!mine && p->state != READY)
    pthread_cond_wait(&c->changed, &c->lock);
  pthread_mutex_unlock(&c->lock);
  if (mine)
    p->buf = buffer_take(&c->r->x->ahead, OWN);
  if (mine && !p->buf)
    return fetch(c, p, sink, arg, why);
  if (mine)
    p->rc = fetch_to_buffer(c, p);
  if (p->rc < 0 && why)
    *why = p->why;
  if (p->rc < 0 && (p->rc != -EIO || !p->got))
    return p->rc;
  int rc = sink(arg, p->from, p->buf, (size_t)p->got); /* after an -EIO it is gone on behind what came */
  return rc < 0 ? rc : p->rc;
}

/* How many more parts may be fetched at once; the caller's own is counted in any case. */
static size_t allowed(struct prelux_alluxio_ahead *a, size_t want)
{
  pthread_mutex_lock(&a->lock);
  a->reads++;
  size_t n = a->reads >= AT_ONCE ? 0 : AT_ONCE - a->reads;
  n = n < want ? n : want;
  a->reads += (unsigned)n;
  pthread_mutex_unlock(&a->lock);
  return n;
}

static void give_back(struct prelux_alluxio_ahead *a, size_t n)
{
  pthread_mutex_lock(&a->lock);
  a->reads -= (unsigned)n;
  for (size_t i = 0; a->reads == 0 && i < a->n_spares; i++)
    madvise(a->spares[i], PRELUX_ALLUXIO_RANGE_MAX, MADV_FREE);
  pthread_mutex_unlock(&a->lock);
}

static size_t hire(struct crew *c, pthread_t *threads)
{
  pthread_attr_t attr;
  size_t n = 0, want = allowed(&c->r->x->ahead, c->n - 1 < HELPERS ? c->n - 1 : HELPERS);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK > PTHREAD_STACK_MIN ? STACK : PTHREAD_STACK_MIN);
  while (n < want && pthread_create(&threads[n], &attr, help, c) == 0)
    n++;
  pthread_attr_destroy(&attr);
  give_back(&c->r->x->ahead, want - n);
  return n;
}

static int run(struct crew *c, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  pthread_t threads[HELPERS];
  size_t helpers = hire(c, threads);
  int rc = 0;
  for (size_t i = 0; i < c->n && rc == 0; i++)
  {
    rc = deliver(c, &c->pieces[i], sink, arg, why);
    buffer_put(&c->r->x->ahead, c->pieces[i].buf);
    c->pieces[i].buf = NULL;
    pthread_mutex_lock(&c->lock);
    c->done = i + 1;
    atomic_store(&c->r->stop, rc < 0);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
  }
  for (size_t i = 0; i < helpers; i++)
    pthread_join(threads[i], NULL);
  for (size_t i = 0; i < c->n; i++)
    buffer_put(&c->r->x->ahead, c->pieces[i].buf);
  give_back(&c->r->x->ahead, helpers + 1);
  return rc;
}

/* One batch of parts; *ret_to: how far they go. */
static int batch(struct prelux_alluxio_reading *r, uint64_t off, uint64_t end, uint64_t *ret_to, prelux_read_fn sink, void *arg,
                 struct prelux_problem *why)
{
  uint64_t ends[PARTS_MAX];
  struct crew c = {.r = r, .n = prelux_alluxio_cut(r, off, end, ends, PARTS_MAX)};
  c.pieces = calloc(c.n, sizeof(*c.pieces));
  if (!c.pieces)
    return prelux_problem(why, ENOMEM, "no memory to read");
  for (size_t i = 0; i < c.n; i++)
  {
    c.pieces[i].from = i ? ends[i - 1] : off;
    c.pieces[i].to = ends[i];
  }
  pthread_mutex_init(&c.lock, NULL);
  pthread_cond_init(&c.changed, NULL);
  int rc = run(&c, sink, arg, why);
  pthread_cond_destroy(&c.changed);
  pthread_mutex_destroy(&c.lock);
  free(c.pieces);
  *ret_to = ends[c.n - 1];
  return rc;
}

int prelux_alluxio_crew(struct prelux_alluxio_reading *r, uint64_t off, uint64_t end, prelux_read_fn sink, void *arg,
                        struct prelux_problem *why)
{
  int rc = 0;
  while (off < end && rc == 0)
    rc = batch(r, off, end, &off, sink, arg, why);
  return rc;
}
