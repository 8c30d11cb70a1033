/* A large folder is listed in ranges of its keys, several at once: page after page, each a round trip and what the server needs for it,
 * 100,000 names take a hundred times that.
 *
 * Who has nothing to do halves somebody's range: behind the page that came last, in the middle of what names of that kind may still be. What
 * varied in the page, and stands before it of the same kind, says of which kind names are (digits, hexadecimal digits, letters); so a cut that
 * finds nothing behind it has cost one request, and the next one is a place nearer. Cuts that brought hardly anything are counted: one in CUTS_EVERY
 * pages is allowed. Others only as a range has shown that it is long: one for each two of its pages.
 *
 * A cut is "NAME" and U+10FFFF: all keys that begin with NAME lie before it, so no common prefix lies on both sides. An object `a` with bytes
 * hides the folder `a/`, between which other names may lie (a-b): if a cut lies there, too, `a` is the beginning of the cut and so of the last
 * key of the range that was cut, and was carried over (s3_list.c); the new range gets a copy of what was.
 *
 * Each name comes once: a range takes the keys up to its end as it is when a page has come, and whoever began behind a cut takes what is
 * greater. That wants order, and a server that begins where start-after says. The latter is tried first, where it is known what must come
 * (there are servers that then say nothing, or begin anew); order is looked at in each page. A server that lies is listed from the beginning,
 * page after page, from then on; so is, once, a folder in which a new range is refused, or where the server shows a key as it is not. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/s3_list.h"

#define WIDTH 8u           /* ranges at once: half of what runs to one origin */
#define WORTH_NAMES 4000u  /* of a folder, before it is cut */
#define WORTH_PAGES 4u
#define CUTS_FREE 12u      /* cuts that may bring hardly anything, and one more in so many pages */
#define CUTS_EVERY 8u
#define FEW 300u           /* names that are hardly anything */
#define STACK (256u << 10)

struct range
{
  struct prelux_s3_listing l;
  struct prelux_problem why;
  struct crew *crew;
  bool used;
  bool paged;    /* a page has come since it began */
  unsigned pages, cuts; /* since it began; cuts that brought something, or may yet */
  struct range *from;   /* whose it was */
};

struct crew
{
  pthread_mutex_t lock; /* guards all that changes; held while names are passed on */
  pthread_cond_t changed;
  struct range ranges[WIDTH]; /* the first one is the caller's */
  unsigned busy;
  atomic_bool stop;
  unsigned waste;
  size_t pages;
  int rc;
  struct range *failed; /* whose that is */
};

/* Behind a cut, which is no key of anybody's, behind the least key of the page that was last there are keys of that page. 1, 0; -EAGAIN: that
 * page does not do, -errno: it cannot be tried. */
static int heeds_start_after(const struct prelux_s3_listing *l)
{
  struct prelux_s3_page *page;
  struct prelux_s3_entry e = {0};
  char *cut;
  if (atomic_load(&l->s->knows_start_after))
    return 1;
  if (!l->first.s || !l->last.s || (l->last.len >= l->first.len && memcmp(l->first.s, l->last.s, l->first.len) == 0))
    return -EAGAIN;
  if (asprintf(&cut, "%s" PRELUX_S3_HIGHEST, l->first.s) < 0)
    return -ENOMEM;
  int rc = prelux_s3_keys_after(l->s, l->prefix, "1", cut, &page, NULL);
  if (rc == 0)
  {
    if (prelux_s3_page_count(page))
      prelux_s3_page_entry(page, 0, &e);
    rc = e.key && prelux_s3_compare(e.key, e.key_len, cut, strlen(cut)) > 0 &&
         prelux_s3_compare(e.key, e.key_len, l->last.s, l->last.len) <= 0;
    prelux_s3_page_free(page);
    atomic_store(&l->s->knows_start_after, rc > 0);
  }
  free(cut);
  return rc;
}

bool prelux_s3_ranges_worth(struct prelux_s3_listing *l)
{
  if (*l->total < WORTH_NAMES || l->pages < WORTH_PAGES || l->unordered || l->unsaid || l->alone || atomic_load(&l->s->no_ranges))
    return false;
  int rc = heeds_start_after(l);
  l->alone = rc < 0 && rc != -EAGAIN;
  if (rc == 0)
    atomic_store(&l->s->no_ranges, true);
  return rc > 0;
}

/* Where to cut. */

static const char digits[] = "0123456789", hex_low[] = "0123456789abcdef", hex_high[] = "0123456789ABCDEF",
                  low[] = "0123456789abcdefghijklmnopqrstuvwxyz", high[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                  all[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"; /* sorted; all behind '/' */

/* The smallest kind that has both; NULL: none. */
static const char *kind_of(char a, char b)
{
  static const char *const kinds[] = {digits, hex_low, hex_high, low, high, all};
  for (size_t i = 0; a && b && i < sizeof(kinds) / sizeof(kinds[0]); i++)
    if (strchr(kinds[i], a) && strchr(kinds[i], b))
      return kinds[i];
  return NULL;
}

static size_t common(const char *a, size_t a_len, const char *b, size_t b_len)
{
  size_t n = 0;
  while (n < a_len && n < b_len && a[n] == b[n])
    n++;
  return n;
}

size_t prelux_s3_ranges_cut(const char *first, size_t first_len, const char *last, size_t last_len, const char *end, size_t end_len, char *out)
{
  size_t vary = common(first, first_len, last, last_len), least = common(last, last_len, end, end_len);
  const char *kind = vary < first_len && vary < last_len ? kind_of(first[vary], last[vary]) : NULL;
  size_t from = vary;
  while (kind && from > 0 && last[from - 1] && strchr(kind, last[from - 1]))
    from--;
  for (size_t at = from > least ? from : least; kind && at < last_len; at++)
  {
    /* What may stand here instead: from last's own on, and before the end's. */
    const char *lo = last[at] ? strchr(kind, last[at]) : NULL, *hi = kind + strlen(kind);
    if (!lo)
      return 0;
    while (at == least && at < end_len && hi > lo && (unsigned char)hi[-1] >= (unsigned char)end[at])
      hi--;
    if (hi == lo)
      continue;
    memcpy(out, last, at);
    out[at] = lo[(hi - lo - 1) / 2];
    memcpy(out + at + 1, PRELUX_S3_HIGHEST, sizeof(PRELUX_S3_HIGHEST));
    return at + sizeof(PRELUX_S3_HIGHEST);
  }
  return 0;
}

/* The rest with c->lock held, but for fetching. */

static void end_all(struct crew *c, struct range *r, int rc)
{
  c->rc = rc;
  c->failed = r;
  atomic_store(&c->stop, true);
  pthread_cond_broadcast(&c->changed);
}

/* NULL: no cut, or no memory for it. */
static char *cut_of(const struct prelux_s3_listing *l)
{
  size_t n = l->prefix_len, end = l->end.s ? l->end.len - (sizeof(PRELUX_S3_HIGHEST) - 1) : n;
  if (!l->first.s || !l->last.s || l->first.len < n || l->last.len < n)
    return NULL;
  char *key = malloc(l->last.len + sizeof(PRELUX_S3_HIGHEST) + 1);
  if (!key)
    return NULL;
  memcpy(key, l->prefix, n);
  size_t len = prelux_s3_ranges_cut(l->first.s + n, l->first.len - n, l->last.s + n, l->last.len - n, l->end.s ? l->end.s + n : "", end - n, key + n);
  len += len ? n : 0;
  if (len && strlen(key) == len && prelux_s3_compare(key, len, l->last.s, l->last.len) > 0) /* not so where keys are no UTF-8 */
    return key;
  free(key);
  return NULL;
}

/* What lies behind `key` of the victim's range becomes r's. */
static bool take_over(struct crew *c, struct range *r, struct range *victim, const char *key)
{
  const struct prelux_s3_listing *v = &victim->l;
  struct prelux_s3_listing *l = &r->l;
  prelux_s3_listing_release(l);
  *l = (struct prelux_s3_listing){.s = v->s, .prefix = v->prefix, .prefix_len = v->prefix_len, .add = v->add, .arg = v->arg,
                                  .why = &r->why, .stop = &c->stop, .total = v->total, .hidden = l->hidden, .unsaid = l->unsaid, .any = l->any};
  size_t len = strlen(key);
  char *end = strdup(key);
  l->after = (struct prelux_s3_text){strdup(key), len};
  l->start_after = strdup(key);
  if (!end || !l->after.s || !l->start_after || prelux_s3_names_copy(&l->carry, &v->carry) < 0)
  {
    free(end);
    end_all(c, r, prelux_problem(&r->why, ENOMEM, "no memory for a listing"));
    return false;
  }
  l->end = v->end;
  victim->l.end = (struct prelux_s3_text){end, len};
  victim->cuts++;
  r->used = true;
  r->paged = false;
  r->pages = r->cuts = 0;
  r->from = victim;
  c->busy++;
  return true;
}

/* How many more cuts it is worth. */
static int due(const struct range *r)
{
  return (int)(r->pages / 2) - (int)r->cuts;
}

/* Finds r something to do. False: not now. */
static bool steal(struct crew *c, struct range *r)
{
  struct range *victim = NULL;
  if (c->waste >= CUTS_FREE + c->pages / CUTS_EVERY)
    return false;
  for (size_t i = 0; i < WIDTH; i++)
    if (c->ranges[i].used && c->ranges[i].paged && due(&c->ranges[i]) > (victim ? due(victim) : 0))
      victim = &c->ranges[i];
  char *key = victim ? cut_of(&victim->l) : NULL;
  bool may = key && take_over(c, r, victim, key);
  free(key);
  if (victim && !may)
    victim->paged = false; /* not before its next page */
  return may;
}

/* A page of r has come, or not. */
static void settle(struct crew *c, struct range *r, int rc, const struct prelux_s3_page *page)
{
  bool new = r->l.after.s && !r->l.first.s;
  size_t before = *r->l.total;
  if (rc == 0)
    rc = prelux_s3_list_take(&r->l, page);
  else if (new && (rc == -EIO || rc == -EOPNOTSUPP)) /* the server does not take this cut, or as many requests */
    rc = -EAGAIN;
  if (r->l.unordered || (rc == -EAGAIN && page && !r->l.unsaid))
    atomic_store(&r->l.s->no_ranges, true);
  rc = r->l.unordered ? -EAGAIN : rc;
  if (rc < 0)
  {
    end_all(c, r, rc);
    return;
  }
  c->pages++;
  if (new && rc != 0 && *r->l.total - before < FEW)
  {
    c->waste++;
    r->from->cuts -= r->from->cuts > 0;
  }
  r->paged = rc == 0;
  r->pages++;
  r->used = rc == 0;
  c->busy -= rc != 0;
  pthread_cond_broadcast(&c->changed);
}

static void *work(void *arg)
{
  struct range *r = arg;
  struct crew *c = r->crew;
  pthread_mutex_lock(&c->lock);
  while (!atomic_load(&c->stop) && c->busy)
  {
    if (!r->used && !steal(c, r))
    {
      if (!atomic_load(&c->stop))
        pthread_cond_wait(&c->changed, &c->lock);
      continue;
    }
    struct prelux_s3_page *page = NULL;
    pthread_mutex_unlock(&c->lock);
    int rc = prelux_s3_list_fetch(&r->l, &page);
    pthread_mutex_lock(&c->lock);
    if (!atomic_load(&c->stop))
      settle(c, r, rc, page);
    prelux_s3_page_free(page);
  }
  pthread_mutex_unlock(&c->lock);
  return NULL;
}

/* Everybody has gone home. */
static int sum_up(struct crew *c, struct prelux_s3_listing *l)
{
  struct prelux_problem *why = l->why;
  *l = c->ranges[0].l;
  l->why = why;
  l->stop = NULL;
  for (size_t i = 0; i < WIDTH; i++)
  {
    struct range *r = &c->ranges[i];
    if (c->failed == r && why)
      *why = r->why;
    if (i == 0)
      continue;
    l->any = l->any || r->l.any;
    l->hidden += r->l.hidden;
    l->unsaid += r->l.unsaid;
    prelux_s3_listing_release(&r->l);
  }
  pthread_cond_destroy(&c->changed);
  pthread_mutex_destroy(&c->lock);
  return c->rc;
}

int prelux_s3_ranges(struct prelux_s3_listing *l)
{
  struct crew *c = calloc(1, sizeof(*c));
  pthread_t threads[WIDTH];
  pthread_attr_t attr;
  size_t n = 1;
  if (!c)
    return prelux_problem(l->why, ENOMEM, "no memory for a listing");
  pthread_mutex_init(&c->lock, NULL);
  pthread_cond_init(&c->changed, NULL);
  for (size_t i = 0; i < WIDTH; i++)
    c->ranges[i].crew = c;
  c->ranges[0].l = *l;
  c->ranges[0].l.why = &c->ranges[0].why;
  c->ranges[0].l.stop = &c->stop;
  c->ranges[0].used = c->ranges[0].paged = true;
  c->ranges[0].pages = (unsigned)l->pages;
  c->busy = 1;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK > PTHREAD_STACK_MIN ? STACK : PTHREAD_STACK_MIN);
  while (n < WIDTH && pthread_create(&threads[n], &attr, work, &c->ranges[n]) == 0)
    n++;
  pthread_attr_destroy(&attr);
  work(&c->ranges[0]);
  while (n > 1)
    pthread_join(threads[--n], NULL);
  int rc = sum_up(c, l);
  free(c);
  return rc;
}
