/* Listings: ListObjectsV2 with delimiter=/, page by page. A page is taken apart while it comes and passed on when it is
 * whole, so that one that breaks off can be asked for again.
 *
 * Names: the key without the folder's own. The key `dir/` is the folder itself and passed over. A folder whose name an
 * object with bytes has too is left out: a look-up finds the object (s3.c). `a` and `a/` may stand on different pages,
 * with names between them that all begin with `a`; so of each page only the names that are the beginning of its last
 * one are carried over. Servers that encode no names (versitygw) put U+FFFD for what XML cannot carry: such names are
 * left out, with a line.
 *
 * Paging is bounded, and a server that goes in circles is found out by Brent's method: token and keys of a page are
 * compared with those of page 1, 2, 4, 8, ... A page that says there is more but not where is gone on from by
 * start-after (and marker, for servers of the first version), as long as each page goes further.
 *
 * After the first thousands of names the rest of a folder is listed in ranges, several at once: s3_ranges.c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/backend/s3_list.h"
#include "lib/base/log.h"

#define PAGE_KEYS "1000"
#define PAGE_BYTES (64u << 20)
#define PAGES_MAX 100000u
#define NAMES_MAX 5000000u
#define EMPTY_PAGES_MAX 100u
#define PAGE_TRIES 3
#define REPLACED "\xEF\xBF\xBD"    /* U+FFFD */

static int lied(struct prelux_s3_listing *l, const char *text)
{
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_show(l->s, l->prefix, shown);
  return prelux_problem(l->why, EPROTO, "LIST %s: %s", shown, text);
}

/* One page. */

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  return prelux_s3_page_feed(arg, buf, len);
}

static int fetch_once(struct prelux_s3 *s, const char *key, const char *query, const atomic_bool *cancel, struct prelux_s3_page **ret,
                      char date[64], bool *ret_again, struct prelux_problem *why)
{
  struct prelux_s3_page *page = prelux_s3_page_new();
  struct prelux_net_answer a;
  char shown[PRELUX_S3_SHOWN];
  if (!page)
    return prelux_problem(why, ENOMEM, "no memory for a listing");
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_LISTS, .query = query, .max_body = PAGE_BYTES, .sink = on_bytes, .arg = page, .cancel = cancel};
  int rc = prelux_s3_call(s, &ask, &a, why), bad = prelux_s3_page_feed(page, "", 0);
  *ret_again = rc < 0 && a.status == 200; /* it broke off */
  if (rc == 0 && a.status != 200)
  {
    ask.key = key;
    rc = prelux_s3_refused(s, &ask, &a, why);
  }
  else if (bad < 0 || (rc == 0 && (bad = prelux_s3_page_end(page)) < 0))
  {
    prelux_s3_show(s, key, shown);
    rc = prelux_problem(why, -bad, "LIST %s: no listing, or one that cannot be read", shown);
    *ret_again = true;
  }
  snprintf(date, 64, "%s", a.date);
  prelux_net_answer_free(&a);
  if (rc < 0)
    prelux_s3_page_free(page);
  else
    *ret = page;
  if (rc == 0 && prelux_s3_page_count(page))
    atomic_store_explicit(&s->plain_listings, !prelux_s3_page_encoded(page), memory_order_relaxed);
  return rc;
}

static int fetch(struct prelux_s3 *s, const char *key, const char *query, const atomic_bool *cancel, struct prelux_s3_page **ret,
                 char date[64], struct prelux_problem *why)
{
  for (int n = 0;; n++)
  {
    bool again;
    int rc = fetch_once(s, key, query, cancel, ret, date, &again, why);
    if (rc == 0 || !again || n + 1 == PAGE_TRIES || prelux_net_backoff(s->net, n) < 0)
      return rc;
  }
}

struct where
{
  const char *keys;                         /* how many at most */
  const char *token, *start_after, *marker; /* NULL: not sent */
};

static int make_query(char query[PRELUX_URL_MAX], const char *prefix, const struct where *from,
                      struct prelux_problem *why)
{
  const struct
  {
    const char *name, *value;
  } rows[] = {
      {"continuation-token", from->token},
      {"delimiter", "/"},
      {"encoding-type", "url"},
      {"list-type", "2"},
      {"marker", from->marker},
      {"max-keys", from->keys},
      {"prefix", prefix},
      {"start-after", from->start_after},
  };
  query[0] = 0;
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (rows[i].value &&
        prelux_aws_query(query, PRELUX_URL_MAX - 512, rows[i].name, rows[i].value, strlen(rows[i].value)) < 0)
      return prelux_problem(why, EOPNOTSUPP, "LIST: a query of more than %d bytes", PRELUX_URL_MAX - 512);
  return 0;
}

/* Names of a page. */

int prelux_s3_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
  int c = memcmp(a, b, a_len < b_len ? a_len : b_len);
  return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int by_text(const void *a, const void *b)
{
  const struct prelux_s3_text *x = a, *y = b;
  return prelux_s3_compare(x->s, x->len, y->s, y->len);
}

static int names_add(struct prelux_s3_names *n, const char *s, size_t len)
{
  if (n->n == n->cap)
  {
    size_t cap = n->cap ? 2 * n->cap : 64;
    struct prelux_s3_text *grown = realloc(n->items, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    n->items = grown;
    n->cap = cap;
  }
  n->items[n->n++] = (struct prelux_s3_text){.s = (char *)s, .len = len};
  return 0;
}

static bool names_have(const struct prelux_s3_names *n, const char *s, size_t len)
{
  struct prelux_s3_text key = {.s = (char *)s, .len = len};
  return n->n && bsearch(&key, n->items, n->n, sizeof(key), by_text);
}

static void names_release(struct prelux_s3_names *n)
{
  for (size_t i = 0; i < n->n; i++)
    free(n->items[i].s);
  free(n->items);
  *n = (struct prelux_s3_names){.n = 0};
}

int prelux_s3_names_copy(struct prelux_s3_names *to, const struct prelux_s3_names *from)
{
  int rc = 0;
  for (size_t i = 0; i < from->n && rc == 0; i++)
  {
    char *own = strndup(from->items[i].s, from->items[i].len);
    rc = own ? names_add(to, own, from->items[i].len) : -ENOMEM;
    if (rc < 0)
      free(own);
  }
  return rc;
}

static bool is_replaced(const struct prelux_s3_page *page, const struct prelux_s3_entry *e)
{
  return !prelux_s3_page_encoded(page) && memmem(e->key, e->key_len, REPLACED, 3);
}

/* 1: the entry is behind the range's end, 0: it is of the range; -EAGAIN: it lies before it, where nobody asked for it, or it is not known where:
 * what is shown of its key is in no order. */
static int beyond(struct prelux_s3_listing *l, const struct prelux_s3_page *page, const struct prelux_s3_entry *e)
{
  if (l->stop && is_replaced(page, e))
    return l->unsaid++, -EAGAIN;
  if (l->after.s && prelux_s3_compare(e->key, e->key_len, l->after.s, l->after.len) <= 0)
    return -EAGAIN;
  return l->end.s && prelux_s3_compare(e->key, e->key_len, l->end.s, l->end.len) > 0;
}

/* The name of an entry below the listed folder; false: it is none (then *ret_rc is 0 or -errno). */
static bool name_of(struct prelux_s3_listing *l, const struct prelux_s3_page *page, const struct prelux_s3_entry *e,
                    struct prelux_s3_text *ret, int *ret_rc)
{
  *ret_rc = 0;
  bool replaced = is_replaced(page, e);
  if (e->key_len < l->prefix_len || memcmp(e->key, l->prefix, l->prefix_len) != 0)
  {
    *ret_rc = replaced ? 0 : lied(l, "a key that does not begin as asked for");
    l->unsaid += replaced;
    return false;
  }
  ret->s = (char *)e->key + l->prefix_len;
  ret->len = e->key_len - l->prefix_len;
  if (ret->len >= sizeof(PRELUX_S3_HIDDEN) - 1 && memcmp(ret->s, PRELUX_S3_HIDDEN, sizeof(PRELUX_S3_HIDDEN) - 1) == 0)
    return false;
  l->any = true;
  if (e->prefix && (ret->len == 0 || ret->s[ret->len - 1] != '/'))
    *ret_rc = lied(l, "a common prefix that is none");
  else if (!e->prefix && ret->len && memchr(ret->s, '/', ret->len))
    *ret_rc = lied(l, "the server ignores delimiter");
  else if (!e->prefix && ret->len && e->size == UINT64_MAX)
    *ret_rc = lied(l, "a key without a size");
  ret->len -= *ret_rc == 0 && e->prefix;
  if (replaced)
    l->unsaid++;
  return *ret_rc == 0 && !replaced && (e->prefix || ret->len);
}

static int pass_on(struct prelux_s3_listing *l, const struct prelux_s3_entry *e, const struct prelux_s3_text *name)
{
  struct prelux_object obj = {.type = PRELUX_DIR};
  if (!e->prefix)
  {
    struct prelux_net_answer as_head = {.content_length = e->size};
    snprintf(as_head.etag, sizeof(as_head.etag), "%s", e->etag);
    snprintf(as_head.date, sizeof(as_head.date), "%s", l->date);
    if (e->modified_s)
      prelux_http_date_format(as_head.last_modified, sizeof(as_head.last_modified), e->modified_s * 1000000000);
    prelux_s3_quote_etag(as_head.etag, sizeof(as_head.etag));
    obj = (struct prelux_object){.type = PRELUX_FILE, .size = e->size, .mtime_ns = e->modified_s * 1000000000};
    prelux_http_version(&as_head, e->size, obj.version);
  }
  if (++*l->total > NAMES_MAX)
    return lied(l, "more than 5000000 names");
  return l->add(l->arg, name->s, name->len, &obj);
}

static int keep_key(struct prelux_s3_listing *l, struct prelux_s3_text *to, const struct prelux_s3_entry *e)
{
  char *own = malloc(e->key_len + 1);
  if (!own)
    return prelux_problem(l->why, ENOMEM, "no memory for a listing");
  memcpy(own, e->key, e->key_len);
  own[e->key_len] = 0;
  free(to->s);
  *to = (struct prelux_s3_text){.s = own, .len = e->key_len};
  return 0;
}

/* Keeps the greatest key, and the least one of this page; *ret_further: this page went beyond the pages before it. */
static int advance(struct prelux_s3_listing *l, const struct prelux_s3_page *page, bool *ret_further)
{
  struct prelux_s3_entry e, best = {.key = l->last.s, .key_len = l->last.len}, least = {.key = NULL};
  *ret_further = false;
  for (size_t i = 0; i < prelux_s3_page_count(page); i++)
  {
    prelux_s3_page_entry(page, i, &e);
    if (!least.key || prelux_s3_compare(e.key, e.key_len, least.key, least.key_len) < 0)
      least = e;
    if (!best.key || prelux_s3_compare(e.key, e.key_len, best.key, best.key_len) > 0)
    {
      best = e;
      *ret_further = true;
    }
  }
  if (least.key && l->last.s && prelux_s3_compare(least.key, least.key_len, l->last.s, l->last.len) <= 0)
    l->unordered = true;
  int rc = least.key ? keep_key(l, &l->first, &least) : 0;
  if (rc < 0 || !*ret_further)
    return rc;
  l->last_prefix = best.prefix;
  return keep_key(l, &l->last, &best);
}

/* Of the names with bytes, those that a later page may show as a folder, too. */
static int carry_over(struct prelux_s3_listing *l, const struct prelux_s3_names *files)
{
  struct prelux_s3_names kept = {.n = 0};
  const char *last = l->last.s + (l->last.len < l->prefix_len ? l->last.len : l->prefix_len);
  size_t last_len = strlen(last);
  int rc = 0;
  for (int round = 0; round < 2; round++)
  {
    const struct prelux_s3_names *from = round ? files : &l->carry;
    for (size_t i = 0; i < from->n && rc == 0; i++)
    {
      const struct prelux_s3_text *t = &from->items[i];
      if (t->len > last_len || memcmp(t->s, last, t->len) != 0)
        continue;
      char *own = strndup(t->s, t->len);
      rc = own ? names_add(&kept, own, t->len) : -ENOMEM;
      if (rc < 0)
        free(own);
    }
  }
  names_release(&l->carry);
  l->carry = kept;
  if (kept.n)
    qsort(l->carry.items, l->carry.n, sizeof(*l->carry.items), by_text);
  return rc < 0 ? prelux_problem(l->why, ENOMEM, "no memory for a listing") : 0;
}

static int files_of(struct prelux_s3_listing *l, const struct prelux_s3_page *page, struct prelux_s3_names *ret)
{
  struct prelux_s3_entry e;
  int rc = 0;
  for (size_t i = 0; i < prelux_s3_page_count(page) && rc == 0; i++)
  {
    prelux_s3_page_entry(page, i, &e);
    if (!e.prefix && e.size && e.key_len > l->prefix_len)
      rc = names_add(ret, e.key + l->prefix_len, e.key_len - l->prefix_len);
  }
  if (ret->n)
    qsort(ret->items, ret->n, sizeof(*ret->items), by_text);
  return rc < 0 ? prelux_problem(l->why, ENOMEM, "no memory for a listing") : 0;
}

static int take_page(struct prelux_s3_listing *l, const struct prelux_s3_page *page, bool *ret_further)
{
  struct prelux_s3_names files = {.n = 0};
  struct prelux_s3_entry e;
  struct prelux_s3_text name;
  int rc = files_of(l, page, &files);
  for (size_t i = 0; i < prelux_s3_page_count(page) && rc == 0; i++)
  {
    prelux_s3_page_entry(page, i, &e);
    size_t unsaid = l->unsaid;
    int out = beyond(l, page, &e);
    l->passed = l->passed || out > 0;
    rc = out < 0 ? out : 0;
    if (out)
      continue;
    if (!name_of(l, page, &e, &name, &rc))
    {
      if (l->unsaid > unsaid && rc == 0) /* one name, of which nobody knows what it is */
        rc = l->add(l->arg, "", 0, &(struct prelux_object){.type = PRELUX_FILE});
      continue;
    }
    if (e.prefix && (names_have(&files, name.s, name.len) || names_have(&l->carry, name.s, name.len)))
      l->hidden++;
    else
      rc = pass_on(l, &e, &name);
  }
  if (rc == 0)
    rc = advance(l, page, ret_further);
  if (rc == 0 && prelux_s3_page_truncated(page) && l->last.s)
    rc = carry_over(l, &files);
  free(files.items); /* of the page */
  return rc;
}

/* Pages. */

static uint64_t hash_keys(const struct prelux_s3_page *page)
{
  struct prelux_s3_entry e;
  uint64_t h = 1;
  for (size_t i = 0; i < prelux_s3_page_count(page); i++)
  {
    prelux_s3_page_entry(page, i, &e);
    h = XXH3_64bits_withSeed(e.key, e.key_len, h);
  }
  return h;
}

/* This page, or its token, was here before. */
static bool in_circles(struct prelux_s3_listing *l, const struct prelux_s3_page *page)
{
  const char *token = prelux_s3_page_token(page);
  uint64_t t = token[0] ? XXH3_64bits(token, strlen(token)) : 0, k = prelux_s3_page_count(page) ? hash_keys(page) : 0;
  bool seen = l->power && ((t && t == l->mark_token) || (k && k == l->mark_keys));
  if (l->since == l->power)
  {
    l->power = l->power ? 2 * l->power : 1;
    l->since = 0;
    l->mark_token = t;
    l->mark_keys = k;
  }
  l->since++;
  return seen;
}

/* Where the next page begins; 1: there is none. */
static int next_page(struct prelux_s3_listing *l, const struct prelux_s3_page *page, bool further)
{
  free(l->start_after);
  l->start_after = NULL;
  if (!prelux_s3_page_truncated(page) || l->passed)
    return 1;
  l->empty_pages = prelux_s3_page_count(page) ? 0 : l->empty_pages + 1;
  if (in_circles(l, page))
    return lied(l, "its pages repeat");
  if (++l->pages > PAGES_MAX || l->empty_pages > EMPTY_PAGES_MAX)
    return lied(l, "too many pages");
  snprintf(l->token, sizeof(l->token), "%s", prelux_s3_page_token(page));
  if (l->token[0])
    return 0;
  if (!further)
    return lied(l, "there is more, but not where, and the pages do not advance");
  if (asprintf(&l->start_after, "%s%s", l->last.s, l->last_prefix ? PRELUX_S3_HIGHEST : "") < 0)
    return l->start_after = NULL, prelux_problem(l->why, ENOMEM, "no memory for a listing");
  return 0;
}

int prelux_s3_list_fetch(struct prelux_s3_listing *l, struct prelux_s3_page **ret)
{
  struct where from = {PAGE_KEYS, l->token[0] ? l->token : NULL, l->start_after, l->start_after};
  char *query = malloc(PRELUX_URL_MAX);
  int rc = query ? make_query(query, l->prefix, &from, l->why) : prelux_problem(l->why, ENOMEM, "no memory for a listing");
  if (rc == 0)
    rc = fetch(l->s, l->prefix, query, l->stop, ret, l->date, l->why);
  free(query);
  return rc;
}

int prelux_s3_list_take(struct prelux_s3_listing *l, const struct prelux_s3_page *page)
{
  bool further = false;
  int rc = take_page(l, page, &further);
  return rc == 0 ? next_page(l, page, further) : rc;
}

void prelux_s3_listing_release(struct prelux_s3_listing *l)
{
  names_release(&l->carry);
  free(l->first.s);
  free(l->last.s);
  free(l->start_after);
  free(l->after.s);
  free(l->end.s);
}

static int list_pages(struct prelux_s3_listing *l)
{
  int rc = 0;
  while (rc == 0 && !prelux_s3_ranges_worth(l))
  {
    struct prelux_s3_page *page = NULL;
    rc = prelux_s3_list_fetch(l, &page);
    if (rc == 0)
      rc = prelux_s3_list_take(l, page);
    prelux_s3_page_free(page);
  }
  return rc == 0 ? prelux_s3_ranges(l) : rc < 0 ? rc : 0;
}

static void tell(const struct prelux_s3_listing *l)
{
  char shown[PRELUX_S3_SHOWN];
  prelux_s3_show(l->s, l->prefix, shown);
  if (l->hidden)
    prelux_warn("listing of %s: %zu folders left out, objects of the same names are shown", shown, l->hidden);
  if (l->unsaid)
    prelux_warn("listing of %s: %zu names left out, the server does not encode what XML cannot carry", shown,
                l->unsaid);
}

/* Nothing is listed below `path`: an empty folder, a file, or nothing? */
static int judge_nothing(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  int rc = b->ops->stat(b, path, &obj, why);
  if (rc == 0 && obj.type == PRELUX_FILE)
    rc = prelux_problem(why, ENOTDIR, "%.200s is an object, not a folder", path);
  return rc;
}

int prelux_s3_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                   struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  bool any = false;
  char *prefix = malloc(PRELUX_S3_KEY_MAX);
  if (!prefix)
    return prelux_problem(why, ENOMEM, "no memory for a listing");
  long len = prelux_s3_key(s, path, true, prefix, why);
  int rc = len < 0 ? (int)len : -EAGAIN;
  for (bool again = false; rc == -EAGAIN; again = true) /* twice at most */
  {
    size_t total = 0;
    struct prelux_s3_listing l = {.s = s, .prefix = prefix, .prefix_len = (size_t)len, .add = add, .arg = arg, .why = why, .total = &total, .alone = again};
    rc = list_pages(&l);
    if (rc == 0)
      tell(&l);
    any = l.any;
    prelux_s3_listing_release(&l);
  }
  free(prefix);
  return rc == 0 && !any && path[0] ? judge_nothing(b, path, why) : rc;
}

/* Is there such a folder? */

/* The first page with a key in it, of so many keys. */
static int first_page(struct prelux_s3 *s, const char *prefix, const char *keys, const char *start_after,
                      char query[PRELUX_URL_MAX], struct prelux_s3_page **ret, struct prelux_problem *why)
{
  struct where from = {.keys = keys, .start_after = start_after};
  char token[PRELUX_S3_TOKEN_MAX], date[64];
  for (size_t n = 0;; n++)
  {
    int rc = make_query(query, prefix, &from, why);
    if (rc == 0)
      rc = fetch(s, prefix, query, NULL, ret, date, why);
    if (rc < 0 || prelux_s3_page_count(*ret) || !prelux_s3_page_truncated(*ret) || !prelux_s3_page_token(*ret)[0])
      return rc;
    snprintf(token, sizeof(token), "%s", prelux_s3_page_token(*ret));
    from = (struct where){.keys = keys, .token = token};
    prelux_s3_page_free(*ret);
    if (n == EMPTY_PAGES_MAX)
      return prelux_problem(why, EPROTO, "LIST: nothing but empty pages");
  }
}

/* By its own line in the listing of the folder above, which shows empty folders of servers that keep files (MinIO,
 * versitygw, rclone) as well: what comes after every key that goes on with '.' or less, at most one key. 1, 0, -errno;
 * -EAGAIN: the server does not do as asked. */
static int line_above(struct prelux_s3 *s, const char *key, char query[PRELUX_URL_MAX], struct prelux_problem *why)
{
  struct prelux_s3_page *page;
  struct prelux_s3_entry e;
  char *after;
  size_t len = strlen(key);
  if (asprintf(&after, "%s." PRELUX_S3_HIGHEST, key) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  int rc = first_page(s, key, "1", after, query, &page, why);
  if (rc < 0)
  {
    free(after);
    return rc;
  }
  size_t n = prelux_s3_page_count(page);
  int verdict = n == 0 && !atomic_load(&s->knows_start_after) ? -EAGAIN : 0;
  for (size_t i = 0; i < n && verdict == 0; i++)
  {
    prelux_s3_page_entry(page, i, &e);
    if (e.key_len == len + 1 && memcmp(e.key, key, len) == 0 && e.key[len] == '/')
      verdict = 1;
    else if (prelux_s3_compare(e.key, e.key_len, after, strlen(after)) <= 0)
      verdict = -EAGAIN;
  }
  if (verdict == 1)
    atomic_store(&s->knows_start_after, true);
  prelux_s3_page_free(page);
  free(after);
  return verdict;
}

/* By what lies in it. */
static int keys_below(struct prelux_s3 *s, const char *key, char query[PRELUX_URL_MAX], struct prelux_problem *why)
{
  struct prelux_s3_page *page;
  int rc = first_page(s, key, "1", NULL, query, &page, why);
  if (rc < 0)
    return rc;
  rc = prelux_s3_page_count(page) > 0;
  prelux_s3_page_free(page);
  return rc;
}

int prelux_s3_is_folder(struct prelux_s3 *s, const char *path, struct prelux_problem *why)
{
  char *key = malloc(PRELUX_S3_KEY_MAX + PRELUX_URL_MAX), *query = key + PRELUX_S3_KEY_MAX;
  if (!key)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  int rc = (int)prelux_s3_key(s, path, false, key, why);
  if (rc > 0 && path[0])
    rc = line_above(s, key, query, why);
  else if (rc >= 0)
    rc = -EAGAIN;
  if (rc == -EAGAIN)
    rc = (int)prelux_s3_key(s, path, true, key, why) < 0 ? -EOPNOTSUPP : keys_below(s, key, query, why);
  free(key);
  return rc;
}

int prelux_s3_keys_after(struct prelux_s3 *s, const char *prefix, const char *keys, const char *start_after, struct prelux_s3_page **ret,
                         struct prelux_problem *why)
{
  char *query = malloc(PRELUX_URL_MAX);
  int rc = query ? first_page(s, prefix, keys, start_after, query, ret, why) : prelux_problem(why, ENOMEM, "no memory for a query");
  free(query);
  return rc;
}

int prelux_s3_first_keys(struct prelux_s3 *s, const char *prefix, const char *keys, struct prelux_s3_page **ret,
                         struct prelux_problem *why)
{
  return prelux_s3_keys_after(s, prefix, keys, NULL, ret, why);
}
