/* Shared by s3_list.c (one listing, or one range of it, page after page) and s3_ranges.c (several ranges at once). */
#ifndef PRELUX_BACKEND_S3_LIST_H
#define PRELUX_BACKEND_S3_LIST_H

#include "lib/backend/s3.h"

#define PRELUX_S3_HIGHEST "\xF4\x8F\xBF\xBF" /* U+10FFFF: behind whatever follows a key */

struct prelux_s3_text
{
  char *s;
  size_t len;
};

struct prelux_s3_names /* sorted, borrowed from a page or own */
{
  struct prelux_s3_text *items;
  size_t n, cap;
};

struct prelux_s3_listing
{
  struct prelux_s3 *s;
  char *prefix; /* of the keys: "" or ending in a slash */
  size_t prefix_len;
  prelux_list_fn add;
  void *arg;
  struct prelux_problem *why;
  const atomic_bool *stop; /* true: what is under way is of no use any more; NULL: never */
  char date[64];           /* of the page's answer */
  size_t *total;           /* names passed on, of all ranges */
  size_t pages, empty_pages, hidden, unsaid;
  bool any;                     /* an entry came, if only the folder itself */
  bool alone;                   /* no ranges, whatever the server is like */
  bool unordered;               /* keys of a page were not behind those of the page before */
  struct prelux_s3_text first;  /* own: the least key of the last page that had one */
  struct prelux_s3_text last;   /* own: the greatest key so far */
  bool last_prefix;             /* it is a common prefix */
  struct prelux_s3_names carry; /* own: of earlier pages */
  char token[PRELUX_S3_TOKEN_MAX];
  char *start_after;   /* own; NULL: the next page needs none */
  size_t power, since; /* Brent */
  uint64_t mark_token, mark_keys;
  /* A range: keys behind `after` up to `end`, both own; NULL: no bound. */
  struct prelux_s3_text after, end;
  bool passed; /* a key behind `end` came */
};

/* s3_list.c. The next page, and what is done with it: 0 there are more, 1 that was the last, -errno; -EAGAIN: what the server sends is not
 * of the range. */
int prelux_s3_list_fetch(struct prelux_s3_listing *l, struct prelux_s3_page **ret);
int prelux_s3_list_take(struct prelux_s3_listing *l, const struct prelux_s3_page *page);
void prelux_s3_listing_release(struct prelux_s3_listing *l); /* what is its own */
int prelux_s3_compare(const char *a, size_t a_len, const char *b, size_t b_len);
/* As prelux_s3_first_keys, of what lies behind a key. */
int prelux_s3_keys_after(struct prelux_s3 *s, const char *prefix, const char *keys, const char *start_after, struct prelux_s3_page **ret,
                         struct prelux_problem *why);
int prelux_s3_names_copy(struct prelux_s3_names *to, const struct prelux_s3_names *from);

/* s3_ranges.c */
/* Is the rest worth it, and would the server do as asked (it may have to be tried)? */
bool prelux_s3_ranges_worth(struct prelux_s3_listing *l);
/* The rest of `l`, some pages of which have come. 0 or -errno; -EAGAIN: the server does not do as asked, and all must be listed from the
 * beginning (names that were passed on come again). */
int prelux_s3_ranges(struct prelux_s3_listing *l);
/* Pure: a key behind which the rest of a range may be somebody else's, in the middle of what names like these may be: `first` and `last` are of
 * the last page, both below the prefix; end: of the range ("": none). Length of what was written to out (of at least last_len + 5 bytes), 0:
 * there is none. */
size_t prelux_s3_ranges_cut(const char *first, size_t first_len, const char *last, size_t last_len, const char *end, size_t end_len, char *out);

#endif
