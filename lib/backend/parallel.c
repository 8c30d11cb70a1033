/* Theory of operation. The caller passes one part on, helpers fetch the next ones into memory.
 *
 * One stream alone would wait for a look-up and the under store before each range, and for the line at 20 ms of it. A part lies in a buffer
 * until its turn; the caller takes parts like everybody else, his, too, by way of a buffer while few are in use: the bytes come there without
 * another copy and without waking him for each piece, and go to the sink in one (8 streams at once: 0.48 s for 0.56). Parts ahead of the sink
 * are bounded. Helpers are hired only while fewer parts are being fetched for the backend than a read found best: many readers need none, and
 * memory is bounded; without a helper the caller does all by himself. Buffers are used again, for fresh memory costs a page fault each 4 KiB;
 * once nobody reads the kernel may take them (MADV_FREE). A failure stops everybody.
 *
 * Width. A round is as many parts as are on their way at once. When one is over, its rate is compared with that of the round before the last
 * change; parts that had been begun before the change are not counted, and parts count when they have come, not when it is their turn. Where
 * the rate is that of a processor no more are tried.
 *
 * Hedging. Whoever has nothing to do looks for a part that takes three times as long as nearly all others did, and asks for it once more, into
 * a buffer of his own. Who is first wins, the other is told that it is over. */
#include "lib/backend/parallel.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define SHORT (1u << 20)
#define OWN 12u /* buffers in use up to which a caller takes one for his own part */
#define PARTS_MAX 64
#define STACK (256u << 10)
#define ENOUGH (UINT64_C(512) << 20) /* bytes a second above which no more connections are tried */
#define TRY_AGAIN_MS 30000           /* so long it is believed that more bring nothing */
#define LOOK_MS 50                   /* how often who waits looks for a part to hedge */
#define FEW 8u                       /* parts below which it is not known what is slow */
#define SLOW_MS 3000                 /* until then this is */
#define SLOW_LEAST_MS 250
#define HEDGE_FREE 4u                /* hedges before the rule of one in HEDGE_EVERY holds */
#define HEDGE_EVERY 20u

enum state { FREE, TAKEN, READY };

struct piece
{
  enum state state;
  uint64_t from, to;
  uint64_t got; /* bytes of it that came */
  char *buf;    /* READY: the pool's */
  int rc;
  unsigned tries; /* under way */
  bool direct, hedged;
  int64_t since_ms;
  atomic_bool over;
  struct prelux_problem why;
};

struct crew
{
  const struct prelux_parallel_job *job;
  struct prelux_parallel *pool;
  pthread_mutex_t lock; /* guards all that changes, but for the threads */
  pthread_cond_t changed;
  struct piece *pieces;
  size_t n, next, done, ready;
  unsigned helpers;
  size_t hired; /* helpers that there have been */
  pthread_t threads[PRELUX_PARALLEL_MOST];
  struct prelux_parallel_course course;
  /* the round */
  size_t count_from; /* it begins when so many have come */
  int64_t began_us;
  uint64_t bytes;
};

static int64_t now_us(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

void prelux_parallel_init(struct prelux_parallel *p)
{
  pthread_mutex_init(&p->lock, NULL);
  p->width = PRELUX_PARALLEL_START;
}

void prelux_parallel_release(struct prelux_parallel *p)
{
  while (p->n_spares)
    munmap(p->spares[--p->n_spares], PRELUX_PARALLEL_PART);
  pthread_mutex_destroy(&p->lock);
}

/* NULL: no memory, or `most` are in use. */
static char *buffer_take(struct prelux_parallel *p, unsigned most)
{
  pthread_mutex_lock(&p->lock);
  bool may = p->taken < most;
  char *buf = may && p->n_spares ? p->spares[--p->n_spares] : NULL;
  p->taken += may;
  pthread_mutex_unlock(&p->lock);
  if (buf || !may)
    return buf;
  void *fresh = mmap(NULL, PRELUX_PARALLEL_PART, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh != MAP_FAILED)
  {
    madvise(fresh, PRELUX_PARALLEL_PART, MADV_HUGEPAGE); /* a fault each 2 MiB, not 4 KiB: an eighth of what a first large file costs */
    return fresh;
  }
  pthread_mutex_lock(&p->lock);
  p->taken--;
  pthread_mutex_unlock(&p->lock);
  return NULL;
}

static void buffer_put(struct prelux_parallel *p, char *buf)
{
  if (!buf)
    return;
  pthread_mutex_lock(&p->lock);
  p->taken--;
  bool keep = p->n_spares < PRELUX_PARALLEL_SPARES;
  if (keep)
    p->spares[p->n_spares++] = buf;
  pthread_mutex_unlock(&p->lock);
  if (!keep)
    munmap(buf, PRELUX_PARALLEL_PART);
}

/* What was measured. */

uint64_t prelux_parallel_part(struct prelux_parallel *p)
{
  pthread_mutex_lock(&p->lock);
  uint64_t least = PRELUX_PARALLEL_LEAST >> 20, most = PRELUX_PARALLEL_PART >> 20;
  uint64_t mib = p->flow_us ? 7 * p->wait_us / p->flow_us : 2 * least;
  pthread_mutex_unlock(&p->lock);
  return (mib < least ? least : mib > most ? most : mib) << 20;
}

static void average(uint64_t *average, uint64_t value)
{
  *average = *average ? (7 * *average + value) / 8 : value;
}

static void learn(struct prelux_parallel *p, const struct prelux_parallel_part *part, int64_t began_us, int64_t first_us)
{
  int64_t now = now_us();
  uint64_t flow = (uint64_t)(now - first_us) * (1u << 20) / (part->to - part->from);
  pthread_mutex_lock(&p->lock);
  p->times[p->parts++ % PRELUX_PARALLEL_TIMES] = (uint32_t)((now - began_us) / 1000);
  average(&p->wait_us, (uint64_t)(first_us - began_us));
  average(&p->flow_us, flow ? flow : 1);
  pthread_mutex_unlock(&p->lock);
}

static int by_size(const void *a, const void *b)
{
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

/* Milliseconds after which a part is slow; INT64_MAX: the budget for hedges is spent. */
static int64_t slow_ms(struct prelux_parallel *p)
{
  uint32_t times[PRELUX_PARALLEL_TIMES];
  pthread_mutex_lock(&p->lock);
  size_t n = p->parts < PRELUX_PARALLEL_TIMES ? p->parts : PRELUX_PARALLEL_TIMES;
  bool may = p->hedged < HEDGE_FREE + p->parts / HEDGE_EVERY;
  memcpy(times, p->times, n * sizeof(*times));
  pthread_mutex_unlock(&p->lock);
  if (!may)
    return INT64_MAX;
  if (n < FEW)
    return SLOW_MS;
  qsort(times, n, sizeof(*times), by_size);
  int64_t slow = 3 * (int64_t)times[n - 1 - n / 20];
  return slow < SLOW_LEAST_MS ? SLOW_LEAST_MS : slow;
}

/* Fetching. */

struct taste
{
  const struct prelux_parallel_part *part;
  int64_t first_us;
};

static int to_memory(void *arg, uint64_t off, const void *buf, size_t len)
{
  struct taste *t = arg;
  char *place = t->part->buf + (off - t->part->from);
  if (!t->first_us)
    t->first_us = now_us();
  if (buf != place) /* the under store's, or more than is wanted of a page */
    memcpy(place, buf, len);
  return 0;
}

void prelux_parallel_round(struct prelux_parallel_course *c, uint64_t bytes, uint64_t us)
{
  uint64_t rate = bytes * 1000000 / (us ? us : 1);
  bool more = !c->best || rate > c->best + c->best / 6;
  c->settled = !more || rate > ENOUGH || c->width == PRELUX_PARALLEL_MOST;
  c->best = rate;
  if (!more)
    c->width /= 2;
  else if (!c->settled)
    c->width = 2 * c->width < PRELUX_PARALLEL_MOST ? 2 * c->width : PRELUX_PARALLEL_MOST;
}

/* How many at once; the rest of this with c->lock held. */

/* A round is over. */
static void decide(struct crew *c)
{
  int64_t now = now_us();
  if (c->helpers + 1 < c->course.width) /* others read, too, or the end is near: it says nothing of the width */
  {
    c->course.settled = true;
    return;
  }
  prelux_parallel_round(&c->course, c->bytes, (uint64_t)(now - c->began_us));
  c->count_from = c->next;
  if (!c->course.settled)
    return;
  pthread_mutex_lock(&c->pool->lock);
  c->pool->width = c->course.width;
  c->pool->tried_ms = now / 1000;
  pthread_mutex_unlock(&c->pool->lock);
}

/* A part has come, in whatever order: those in flight at a change are waited for, then as many are counted as are on their way. */
static void count(struct crew *c, const struct piece *p)
{
  c->ready++;
  if (c->course.settled || c->ready < c->count_from)
    return;
  if (c->ready > c->count_from)
    c->bytes += p->to - p->from;
  if (c->ready == c->count_from)
  {
    c->began_us = now_us();
    c->bytes = 0;
  }
  else if (c->ready >= c->count_from + c->course.width)
    decide(c);
}

/* One try at a part that has been taken, into buf (NULL: there was no memory). The first that ends well makes it READY, or the last that fails. */
static void attempt(struct crew *c, struct piece *p, char *buf)
{
  struct prelux_problem why = {0};
  struct prelux_parallel_part part = {.from = p->from, .to = p->to, .buf = buf, .over = &p->over};
  struct taste taste = {.part = &part};
  int64_t began_us = now_us();
  int rc = buf ? c->job->fetch(c->job, &part, to_memory, &taste, &why) : prelux_problem(&why, ENOMEM, "no memory to read ahead");
  if (rc == 0)
    learn(c->pool, &part, began_us, taste.first_us);
  pthread_mutex_lock(&c->lock);
  p->tries--;
  bool counts = p->state == TAKEN && (rc == 0 || p->tries == 0);
  if (counts)
  {
    p->state = READY;
    p->buf = buf;
    p->got = part.got;
    p->rc = rc;
    p->why = why;
    count(c, p);
    atomic_store(&p->over, true);
    pthread_cond_broadcast(&c->changed);
  }
  pthread_mutex_unlock(&c->lock);
  if (!counts)
    buffer_put(c->pool, buf);
}

/* The following are called with c->lock held. */

static void take(struct piece *p)
{
  p->state = TAKEN;
  p->tries++;
  p->since_ms = now_us() / 1000;
}

static struct piece *overdue(struct crew *c)
{
  int64_t now = now_us() / 1000, slow = -1;
  for (size_t i = c->done; c->job->hedge && i < c->next; i++)
  {
    struct piece *p = &c->pieces[i];
    if (p->state != TAKEN || p->direct || p->hedged || now - p->since_ms < SLOW_LEAST_MS)
      continue;
    if (slow < 0)
      slow = slow_ms(c->pool);
    if (now - p->since_ms < slow)
      continue;
    p->hedged = true;
    p->tries++;
    pthread_mutex_lock(&c->pool->lock);
    c->pool->hedged++;
    pthread_mutex_unlock(&c->pool->lock);
    return p;
  }
  return NULL;
}

static void wait_for_change(struct crew *c)
{
  struct timespec until;
  if (!c->job->hedge)
  {
    pthread_cond_wait(&c->changed, &c->lock);
    return;
  }
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += LOOK_MS * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&c->changed, &c->lock, &until);
}

/* Parts ahead of the sink. */
static size_t window(const struct crew *c)
{
  return c->course.width + (c->course.width > PRELUX_PARALLEL_START ? c->course.width / 2 : 0);
}

/* What a helper is to do next. NULL: nothing any more. */
static struct piece *next_piece(struct crew *c)
{
  for (;;)
  {
    struct piece *p = NULL;
    if (atomic_load(c->job->stop) || c->helpers >= c->course.width || (c->next >= c->n && (!c->job->hedge || c->ready >= c->n)))
      return NULL;
    if (c->next < c->n && c->next < c->done + window(c))
    {
      p = &c->pieces[c->next++];
      take(p);
      return p;
    }
    if ((p = overdue(c)))
      return p;
    wait_for_change(c);
  }
}

static void give_back(struct prelux_parallel *pool, unsigned n)
{
  pthread_mutex_lock(&pool->lock);
  pool->reads -= n;
  for (size_t i = 0; pool->reads == 0 && i < pool->n_spares; i++)
    madvise(pool->spares[i], PRELUX_PARALLEL_PART, MADV_FREE);
  pthread_mutex_unlock(&pool->lock);
}

static void *help(void *arg)
{
  struct crew *c = arg;
  struct piece *p;
  pthread_mutex_lock(&c->lock);
  while ((p = next_piece(c)))
  {
    pthread_mutex_unlock(&c->lock);
    attempt(c, p, buffer_take(c->pool, UINT_MAX));
    pthread_mutex_lock(&c->lock);
  }
  c->helpers--;
  pthread_mutex_unlock(&c->lock);
  give_back(c->pool, 1);
  return NULL;
}

/* How many of `want` more parts may be fetched at once; c->lock held. */
static size_t allowed(struct crew *c, size_t want)
{
  struct prelux_parallel *pool = c->pool;
  pthread_mutex_lock(&pool->lock);
  unsigned most = pool->width > c->course.width ? pool->width : c->course.width;
  size_t n = pool->reads >= most ? 0 : most - pool->reads;
  n = n < want ? n : want;
  pool->reads += (unsigned)n;
  pthread_mutex_unlock(&pool->lock);
  return n;
}

/* Helpers up to the width, as far as there is work for them. */
static void hire(struct crew *c)
{
  pthread_attr_t attr;
  size_t n = 0, may = 0;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK > PTHREAD_STACK_MIN ? STACK : PTHREAD_STACK_MIN);
  pthread_mutex_lock(&c->lock); /* a helper counts himself out under it */
  size_t left = c->n - c->done, most = c->course.width < left ? c->course.width : left;
  if (most > c->hired + 1)
    may = allowed(c, most - c->hired - 1);
  while (n < may && pthread_create(&c->threads[c->hired], &attr, help, c) == 0)
  {
    n++;
    c->hired++;
    c->helpers++;
  }
  pthread_mutex_unlock(&c->lock);
  pthread_attr_destroy(&attr);
  if (may > n)
    give_back(c->pool, (unsigned)(may - n));
  pthread_mutex_lock(&c->pool->lock);
  if (n && c->hired + 1 > c->pool->widest)
    c->pool->widest = (unsigned)c->hired + 1;
  pthread_mutex_unlock(&c->pool->lock);
}

/* The next part in order, to the sink. */
static int deliver(struct crew *c, struct piece *p, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  char *buf = NULL;
  pthread_mutex_lock(&c->lock);
  bool mine = p->state == FREE;
  if (mine)
  {
    take(p);
    c->next++;
    buf = buffer_take(c->pool, OWN);
    p->direct = !buf;
  }
  pthread_mutex_unlock(&c->lock);
  if (p->direct)
  {
    struct prelux_parallel_part part = {.from = p->from, .to = p->to, .over = &p->over};
    return c->job->fetch(c->job, &part, sink, arg, why);
  }
  if (mine)
    attempt(c, p, buf);
  pthread_mutex_lock(&c->lock);
  while (p->state != READY)
  {
    struct piece *late = overdue(c);
    if (!late)
    {
      wait_for_change(c);
      continue;
    }
    pthread_mutex_unlock(&c->lock);
    attempt(c, late, buffer_take(c->pool, UINT_MAX));
    pthread_mutex_lock(&c->lock);
  }
  pthread_mutex_unlock(&c->lock);
  if (p->rc < 0 && why)
    *why = p->why;
  if (p->rc < 0 && (p->rc != -EIO || !p->got))
    return p->rc;
  int rc = sink(arg, p->from, p->buf, (size_t)p->got); /* after an -EIO it is gone on behind what came */
  return rc < 0 ? rc : p->rc;
}

static void stop_all(struct crew *c)
{
  atomic_store(c->job->stop, true);
  for (size_t i = 0; i < c->n; i++)
    atomic_store(&c->pieces[i].over, true);
}

static int run(struct crew *c, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  int rc = 0;
  pthread_mutex_lock(&c->pool->lock);
  c->pool->reads++;
  pthread_mutex_unlock(&c->pool->lock);
  for (size_t i = 0; i < c->n && rc == 0; i++)
  {
    hire(c);
    rc = deliver(c, &c->pieces[i], sink, arg, why);
    buffer_put(c->pool, c->pieces[i].buf);
    c->pieces[i].buf = NULL;
    pthread_mutex_lock(&c->lock);
    if (c->pieces[i].direct)
      count(c, &c->pieces[i]);
    c->done = i + 1;
    if (rc < 0)
      stop_all(c);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
  }
  for (size_t i = 0; i < c->hired; i++)
    pthread_join(c->threads[i], NULL);
  for (size_t i = 0; i < c->n; i++)
    buffer_put(c->pool, c->pieces[i].buf);
  give_back(c->pool, 1);
  return rc;
}

/* With how many it begins, and whether more are tried. */
static void begin(struct crew *c)
{
  struct prelux_parallel *pool = c->pool;
  pthread_mutex_lock(&pool->lock);
  bool known = pool->tried_ms && now_us() / 1000 - pool->tried_ms < TRY_AGAIN_MS;
  c->course.settled = known;
  c->course.width = known || pool->width <= PRELUX_PARALLEL_START ? pool->width : pool->width / 2;
  pthread_mutex_unlock(&pool->lock);
  c->count_from = 1; /* threads and connections are made for the first */
}

/* One batch of parts; *ret_to: how far they go. */
static int batch(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, uint64_t *ret_to, prelux_read_fn sink, void *arg,
                 struct prelux_problem *why)
{
  uint64_t ends[PARTS_MAX];
  struct crew c = {.job = job, .pool = job->pool, .n = job->cut(job, off, end, ends, PARTS_MAX)};
  pthread_condattr_t monotonic;
  c.pieces = calloc(c.n, sizeof(*c.pieces));
  if (!c.pieces)
    return prelux_problem(why, ENOMEM, "no memory to read");
  for (size_t i = 0; i < c.n; i++)
  {
    c.pieces[i].from = i ? ends[i - 1] : off;
    c.pieces[i].to = ends[i];
  }
  pthread_mutex_init(&c.lock, NULL);
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&c.changed, &monotonic);
  pthread_condattr_destroy(&monotonic);
  begin(&c);
  int rc = run(&c, sink, arg, why);
  pthread_cond_destroy(&c.changed);
  pthread_mutex_destroy(&c.lock);
  free(c.pieces);
  *ret_to = ends[c.n - 1];
  return rc;
}

/* What is one part, and short: as it comes, on this thread. */
static int alone(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  atomic_bool over = false;
  struct prelux_parallel_part part = {.from = off, .to = end, .over = &over};
  return job->fetch(job, &part, sink, arg, why);
}

int prelux_parallel_read(const struct prelux_parallel_job *job, uint64_t off, uint64_t end, prelux_read_fn sink, void *arg,
                         struct prelux_problem *why)
{
  uint64_t first[2];
  int rc = 0;
  if (end - off <= SHORT && job->cut(job, off, end, first, 2) == 1)
    return alone(job, off, end, sink, arg, why);
  while (off < end && rc == 0)
    rc = batch(job, off, end, &off, sink, arg, why);
  return rc;
}
