/* Reading from a web server: GETs, continued when the connection breaks (read_on.c).
 *
 * Every request carries a condition (If-Match, If-Unmodified-Since), and since servers may ignore conditions, the head of every
 * answer is checked before its first byte is passed on: status, exact Content-Range, length, and the version it states against
 * the expected one.
 *
 * A file that is opened and of which nothing is known needs no HEAD: the head of a GET says the same, and the bytes that follow
 * are of that very version (prelux_http_fetch). Answers that do not plainly are a file with a length are given up, and
 * the question is put the long way. The answer of a large one is given up, too, where parts of it can be asked for at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/http.h"
#include "lib/backend/http_version.h"
#include "lib/backend/read_on.h"

struct reading
{
  struct prelux_read_on on;
  struct prelux_http *h;
  const char *url;
  /* of prelux_http_fetch: */
  const char *path;
  int (*begin)(void *arg, const struct prelux_object *obj);
  struct prelux_object obj;
  int first; /* what it came to instead of a file's bytes */
  bool large; /* its bytes are to be asked for in parts */
};

static const char *number(const char *s, uint64_t *ret)
{
  uint64_t n = 0;
  int digits = 0;
  for (; *s >= '0' && *s <= '9'; s++, digits++)
    n = n * 10 + (uint64_t)(*s - '0');
  *ret = n;
  return digits > 0 && digits < 19 ? s : NULL;
}

bool prelux_http_content_range(const char *s, uint64_t *ret_from, uint64_t *ret_to, uint64_t *ret_size)
{
  *ret_from = *ret_to = *ret_size = UINT64_MAX;
  if (strncmp(s, "bytes ", 6) != 0)
    return false;
  s += 6;
  if (*s == '*')
  {
    s++;
  }
  else
  {
    s = number(s, ret_from);
    if (!s || *s++ != '-' || !(s = number(s, ret_to)) || *ret_to < *ret_from)
      return false;
  }
  if (*s++ != '/')
    return false;
  if (strcmp(s, "*") == 0)
    return true;
  s = number(s, ret_size);
  return s && !*s;
}

/* Before the first byte: is this what was asked for, of the expected version? */
static int check(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  uint64_t size = a->content_length;
  bool whole = prelux_read_on_whole(r);
  int rc = 0;
  if (a->status != 200 && a->status != 206)
    rc = prelux_http_refused(a, "GET", ((const struct reading *)r->of)->url, r->why);
  else if (a->status == 206)
    rc = whole ? prelux_read_on_say(r, EPROTO, "206 though no range was asked for", r->pos, r->end) : prelux_read_on_range(r, a, &size);
  else if (!whole)
    rc = prelux_read_on_unable(r);
  return rc < 0 ? rc : prelux_read_on_same(r, a, size);
}

static int empty(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  if (a->status == 416)
    return prelux_read_on_beyond(r, a);
  int rc = check(r, a);
  return rc < 0 ? rc : prelux_read_on_short(r);
}

static int ask(struct prelux_read_on *r, struct prelux_net_answer *a)
{
  char condition[PRELUX_VERSION_MAX + 32];
  const struct reading *get = r->of;
  const struct prelux_http *h = get->h;
  bool whole = prelux_read_on_whole(r);
  const char **headers = calloc(h->n_headers + 2, sizeof(*headers));
  if (!headers)
    return prelux_problem(r->why, ENOMEM, "no memory for headers");
  for (size_t i = 0; i < h->n_headers; i++)
    headers[i] = h->headers[i];
  if (r->expect && prelux_http_version_condition(r->expect->version, condition, sizeof(condition)))
    headers[h->n_headers] = condition;
  struct prelux_net_request req = {
      .method = "GET",
      .url = get->url,
      .headers = headers,
      .tls = &h->tls,
      .off = whole ? 0 : r->pos,
      .len = whole ? 0 : r->end - r->pos,
      .max_redirects = r->expect ? PRELUX_HTTP_REDIRECTS : 0,
      .retries = PRELUX_HTTP_RETRIES,
      .sink = prelux_read_on_bytes,
      .arg = r,
      .cancel = r->over,
  };
  req.target = prelux_read_on_target(r, &req.target_len);
  int rc = prelux_net_call(h->net, &req, a, r->why);
  free(headers);
  return rc;
}

static bool told_apart(const struct prelux_object *obj)
{
  return !prelux_http_version_none(obj->version) && obj->version[0];
}

int prelux_http_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                     uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_http *h = (struct prelux_http *)b;
  if (len == 0)
    return 0;
  if (off > expect->size || len > expect->size - off)
    return prelux_problem(why, ESTALE, "%s: a part behind its end was asked for", path);
  char *url = malloc(PRELUX_URL_MAX), shown[200];
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_http_url(h, path, false, url, PRELUX_URL_MAX, why);
  struct reading r = {
      .on = {.net = h->net, .what = shown, .expect = expect, .pos = off, .end = off + len, .sink = sink, .arg = arg, .why = why,
             .parts = told_apart(expect), .ask = ask, .check = check, .empty = empty, .failed = prelux_http_failed,
             .parallel = &h->parallel},
      .h = h,
      .url = url,
  };
  r.on.of = &r;
  if (rc == 0)
    prelux_url_show(shown, sizeof(shown), url);
  if (rc == 0 && !r.on.parts && !prelux_read_on_whole(&r.on))
    rc = prelux_read_on_say(&r.on, EOPNOTSUPP, "an object without ETag and Last-Modified can only be read as a whole", off, off + len);
  if (rc == 0)
    rc = prelux_read_on(&r.on);
  free(url);
  return rc;
}

/* stat and read in one. */

static bool sends_parts(const struct prelux_net_answer *a)
{
  char text[32];
  return prelux_net_header(a, "Accept-Ranges", text, sizeof(text)) > 0 && strcasecmp(text, "bytes") == 0;
}

/* The head of the first answer: from here on its object is what is expected. */
static int first_head(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  struct reading *get = r->of;
  if (r->expect)
    return check(r, a);
  if (!prelux_http_plain_file(a, get->url, &get->obj))
  {
    get->first = 1;
    return -ECANCELED;
  }
  int rc = get->begin(r->arg, &get->obj);
  if (rc < 0)
    return rc;
  r->end = get->obj.size;
  r->parts = told_apart(&get->obj);
  r->expect = &get->obj;
  get->large = sends_parts(a) && prelux_read_on_worth(r);
  return get->large ? -ECANCELED : 0;
}

static int first_empty(struct prelux_read_on *r, const struct prelux_net_answer *a)
{
  struct reading *get = r->of;
  if (r->expect)
    return empty(r, a);
  if (a->status >= 200 && a->status < 300)
    return first_head(r, a);
  get->first = prelux_http_no_file(get->h, get->path, get->url, a, &get->obj, r->why);
  return get->first < 0 ? get->first : -ECANCELED;
}

int prelux_http_fetch(struct prelux_backend *b, const char *path, int (*begin)(void *arg, const struct prelux_object *obj),
                      prelux_read_fn sink, void *arg, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_http *h = (struct prelux_http *)b;
  if (!path[0] || atomic_load_explicit(&h->redirects_files, memory_order_relaxed))
    return 1;
  char *url = malloc(PRELUX_URL_MAX), shown[200];
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_http_url(h, path, false, url, PRELUX_URL_MAX, why);
  struct reading r = {
      .on = {.net = h->net, .what = shown, .sink = sink, .arg = arg, .why = why,
             .ask = ask, .check = first_head, .empty = first_empty, .failed = prelux_http_failed, .parallel = &h->parallel},
      .h = h,
      .url = url,
      .path = path,
      .begin = begin,
      .first = -1,
  };
  r.on.of = &r;
  if (rc == 0)
  {
    prelux_url_show(shown, sizeof(shown), url);
    rc = prelux_read_on(&r.on);
    if (rc == -ECANCELED && r.first >= 0)
      rc = r.first;
  }
  if (rc == -ECANCELED && r.large)
  {
    r.on.verdict = 0;
    rc = prelux_read_on(&r.on);
  }
  if (rc == 0)
    *ret = r.obj;
  free(url);
  return rc;
}
