/* Backend `http`: the files behind a web server, read with HEAD and GET; folders where the server shows listings.
 *
 * What is a folder: a name that the server redirects to itself with a slash (nginx, Apache, Python and most others do),
 * or whose page with a slash is a listing. Everything else that answers 200 is a file. The root always is a folder.
 * http_read.c reads, http_list.c lists, http_version.c tells versions apart. */
#include "lib/backend/http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/backends.h"
#include "lib/backend/http_version.h"
#include "lib/conf/conf.h"

static struct prelux_http *self(struct prelux_backend *b)
{
  return (struct prelux_http *)b;
}

/* Setting up. */

static bool printable(const char *s)
{
  for (; *s; s++)
    if ((unsigned char)*s < ' ' || *s == 0x7f)
      return false;
  return true;
}

/* Takes "Name: value"; header injection by a line end in a value ends here. */
static int add_header(struct prelux_http *h, const char *name, const char *glue, const char *value)
{
  char *line;
  if (!name[0] || !printable(name) || strpbrk(name, ": ") || !printable(value))
    return -EINVAL;
  char **grown = realloc(h->headers, (h->n_headers + 2) * sizeof(*grown));
  if (!grown)
    return -ENOMEM;
  h->headers = grown;
  if (asprintf(&line, "%s: %s%s", name, glue, value) < 0)
    return -ENOMEM;
  h->headers[h->n_headers++] = line;
  h->headers[h->n_headers] = NULL;
  return 0;
}

static int set_headers(struct prelux_http *h, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const struct prelux_conf_value *map = prelux_conf_get(conf, "headers");
  const char *bearer = prelux_conf_str(conf, "bearer");
  int rc = 0;
  for (size_t i = 0; map && i + 1 < map->n_items && rc == 0; i += 2)
    rc = add_header(h, map->items[i], "", map->items[i + 1]);
  if (rc == -EINVAL)
    return prelux_problem(why, EINVAL, "backend %s: headers: a name or value that HTTP does not allow", conf->name);
  if (rc == 0 && bearer)
    rc = add_header(h, "Authorization", "Bearer ", bearer);
  if (rc == -EINVAL)
    return prelux_problem(why, EINVAL, "backend %s: bearer: holds a control character", conf->name);
  return rc;
}

static int set_url(struct prelux_http *h, const struct prelux_conf_backend *conf, struct prelux_problem *why)
{
  const char *url = prelux_conf_str(conf, "url");
  struct prelux_url u;
  if (!url || prelux_url_parse(url, &u) < 0)
    return prelux_problem(why, EINVAL, "backend %s: url: an http or https URL is needed", conf->name);
  if (u.has_query)
    return prelux_problem(why, EINVAL, "backend %s: url: must not hold ? or #", conf->name);
  size_t len = strlen(url);
  while (len > u.origin_len && url[len - 1] == '/')
    len--;
  h->url = strndup(url, len);
  return h->url ? 0 : -ENOMEM;
}

static void http_free(struct prelux_backend *b)
{
  if (!b)
    return;
  struct prelux_http *h = self(b);
  for (size_t i = 0; i < h->n_headers; i++)
  {
    explicit_bzero(h->headers[i], strlen(h->headers[i]));
    free(h->headers[i]);
  }
  free(h->headers);
  free(h->url);
  free(h->ca_file);
  prelux_parallel_release(&h->parallel);
  free(h);
}

static int http_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                       struct prelux_problem *why)
{
  static const char *const forms[] = {
      [PRELUX_INDEX_HTML] = "html", [PRELUX_INDEX_JSON] = "json", [PRELUX_INDEX_NONE] = "none"};
  struct prelux_http *h = calloc(1, sizeof(*h));
  if (!h)
    return -ENOMEM;
  h->base.ops = &prelux_backend_http;
  h->net = net;
  prelux_parallel_init(&h->parallel);
  const char *index = prelux_conf_str(conf, "index"), *ca_file = prelux_conf_str(conf, "tls.ca_file");
  for (size_t i = 1; index && i < sizeof(forms) / sizeof(forms[0]); i++)
    if (strcmp(index, forms[i]) == 0)
      h->index = (enum prelux_http_index)i;
  int rc = set_url(h, conf, why);
  if (rc == 0)
    rc = set_headers(h, conf, why);
  if (rc == 0 && ca_file && !(h->ca_file = strdup(ca_file)))
    rc = -ENOMEM;
  if (rc < 0)
  {
    http_free(&h->base);
    return rc;
  }
  h->tls = (struct prelux_net_tls){.ca_file = h->ca_file, .insecure = (int)prelux_conf_num(conf, "tls.insecure")};
  *ret = &h->base;
  return 0;
}

int prelux_http_identity(const char *url, const char *before, const char *after, char *buf, size_t cap)
{
  size_t start = strlen(before), end = strlen(after);
  if (start + end + 1 >= cap)
    return -ENAMETOOLONG;
  memcpy(buf, before, start);
  long n = prelux_url_canonical(buf + start, cap - start - end - 1, url);
  if (n < 0)
    return (int)n;
  buf[start + (size_t)n] = '/';
  memcpy(buf + start + n + 1, after, end + 1);
  return 0;
}

static int http_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  return prelux_http_identity(((const struct prelux_http *)b)->url, "http:", "", buf, cap);
}

/* Shared with the other files. */

int prelux_http_url(const struct prelux_http *h, const char *path, bool slash, char *out, size_t cap,
                    struct prelux_problem *why)
{
  size_t base = strlen(h->url);
  int n = snprintf(out, cap, "%s%s", h->url, path[0] ? "/" : "");
  long more = n < 0 || (size_t)n + 2 >= cap ? -1 : prelux_url_encode(out + n, cap - (size_t)n - 2, path, strlen(path));
  if (more < 0)
    return prelux_problem(why, EOPNOTSUPP, "a URL of more than %zu bytes", cap > base ? cap : base);
  if (slash)
    strcat(out, "/");
  return 0;
}

int prelux_http_failed(int rc)
{
  return rc == -EPROTO || rc == -ENOMEM ? rc : -EIO;
}

int prelux_http_refused(const struct prelux_net_answer *a, const char *method, const char *url,
                        struct prelux_problem *why)
{
  static const struct
  {
    int status, err;
  } rows[] = {
      {401, EACCES}, {403, EACCES},     {407, EACCES},     {404, ENOENT},     {410, ENOENT},
      {412, ESTALE}, {405, EOPNOTSUPP}, {414, EOPNOTSUPP}, {501, EOPNOTSUPP},
  };
  char shown[200];
  int err = a->status >= 200 && a->status < 300 ? EPROTO : EIO;
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    if (rows[i].status == a->status)
      err = rows[i].err;
  prelux_url_show(shown, sizeof(shown), url);
  return prelux_problem(why, err, "%s %s: HTTP %d", method, shown, a->status);
}

/* stat */

/* Nothing of the body is wanted. */
static int stop_at_once(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  return -ECANCELED;
}

/* HEAD; or, from a server that has none, GET of the first byte. Fills *a (free it) and *ret_size (UINT64_MAX: not
 * said). */
static int look(struct prelux_http *h, const char *url, bool head, int redirects, struct prelux_net_answer *a,
                uint64_t *ret_size, struct prelux_problem *why)
{
  struct prelux_net_request req = {
      .method = head ? "HEAD" : "GET",
      .url = url,
      .headers = (const char *const *)h->headers,
      .tls = &h->tls,
      .len = head ? 0 : 1,
      .max_redirects = redirects,
      .retries = PRELUX_HTTP_RETRIES,
      .sink = head ? NULL : stop_at_once,
  };
  int rc = prelux_net_call(h->net, &req, a, why);
  if (rc == -ECANCELED && !head && a->status >= 200)
    rc = 0; /* our own stop, the head is there */
  if (rc < 0)
    return prelux_http_failed(rc);
  uint64_t from, to, size;
  bool range = prelux_http_content_range(a->content_range, &from, &to, &size);
  *ret_size = a->content_length;
  if (a->status == 206 || a->status == 416)
    *ret_size = range && (a->status == 206 ? from == 0 && to == 0 : size == 0) ? size : UINT64_MAX;
  return 0;
}

/* HEAD first, GET where the server cannot or HEAD tells no length. */
static int look_anyhow(struct prelux_http *h, const char *url, int redirects, struct prelux_net_answer *a,
                       uint64_t *ret_size, struct prelux_problem *why)
{
  if (!atomic_load_explicit(&h->no_head, memory_order_relaxed))
  {
    int rc = look(h, url, true, redirects, a, ret_size, why);
    if (rc < 0)
      return rc;
    bool refused = a->status == 405 || a->status == 501;
    if (refused)
      atomic_store_explicit(&h->no_head, true, memory_order_relaxed);
    if (!refused && !(a->status == 200 && *ret_size == UINT64_MAX))
      return 0;
    prelux_net_answer_free(a);
  }
  return look(h, url, false, redirects, a, ret_size, why);
}

/* `to` is the path of `from` and a slash; whatever the host (servers behind proxies name themselves wrongly). */
static bool adds_slash(const char *from, const char *to)
{
  char *absolute = malloc(PRELUX_URL_MAX), *a = malloc(2 * PRELUX_URL_MAX);
  char *b = a ? a + PRELUX_URL_MAX : NULL;
  struct prelux_url u, v;
  bool yes = false;
  if (absolute && a && prelux_url_join(absolute, PRELUX_URL_MAX, from, to) > 0 && prelux_url_parse(from, &u) == 0 &&
      prelux_url_parse(absolute, &v) == 0)
  {
    long n = prelux_url_decode(a, PRELUX_URL_MAX, u.path, u.path_len),
         m = prelux_url_decode(b, PRELUX_URL_MAX, v.path, v.path_len);
    yes = n >= 0 && m == n + 1 && memcmp(a, b, (size_t)n) == 0 && b[n] == '/';
  }
  free(absolute);
  free(a);
  return yes;
}

static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Content-MD5 (base64 of 16 bytes) as hex; "" when it is none. */
static void md5_hex(const char *text, char out[33])
{
  unsigned bits = 0, n_bits = 0, n = 0;
  unsigned char bytes[18];
  out[0] = 0;
  if (strlen(text) != 24 || strcmp(text + 22, "==") != 0)
    return;
  for (int i = 0; i < 22; i++)
  {
    const char *p = memchr(base64, text[i], 64);
    if (!p)
      return;
    bits = bits << 6 | (unsigned)(p - base64);
    n_bits += 6;
    if (n_bits >= 8)
    {
      n_bits -= 8;
      bytes[n++] = (unsigned char)(bits >> n_bits);
    }
  }
  for (unsigned i = 0; i < 16; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void be_folder(struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = PRELUX_DIR};
}

/* A page made on the spot (HTML without validators) is a log-in page or an error that came as 200, unless HTML is what
 * the name promises. */
static bool like_a_page(const struct prelux_net_answer *a)
{
  return (a->status == 200 || a->status == 206) && strncmp(a->content_type, "text/html", 9) == 0 && !a->etag[0] &&
         !a->last_modified[0];
}

static bool named_html(const char *url)
{
  size_t len = strlen(url);
  return (len > 5 && strcasecmp(url + len - 5, ".html") == 0) || (len > 4 && strcasecmp(url + len - 4, ".htm") == 0);
}

static int be_file(const struct prelux_net_answer *a, uint64_t size, const char *url, struct prelux_object *ret,
                   struct prelux_problem *why)
{
  char shown[200];
  if (size == UINT64_MAX)
  {
    prelux_url_show(shown, sizeof(shown), url);
    return prelux_problem(why, EOPNOTSUPP, "%s: the server does not say how long it is", shown);
  }
  if (like_a_page(a) && !named_html(url))
  {
    prelux_url_show(shown, sizeof(shown), url);
    return prelux_problem(why, EPROTO, "%s: an HTML page without ETag and Last-Modified instead of a file", shown);
  }
  *ret = (struct prelux_object){.type = PRELUX_FILE, .size = size, .mtime_ns = prelux_http_date(a->last_modified)};
  prelux_http_version(a, size, ret->version);
  if (a->status == 200)
    md5_hex(a->content_md5, ret->md5);
  return 0;
}

/* The URL that redirects led to is that of a folder by the name that was asked for. */
static bool ends_as_folder(const char *path, const char *url)
{
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0 || u.path_len < 2 || u.path[u.path_len - 1] != '/')
    return false;
  size_t end = u.path_len - 1, start = end;
  while (start > 0 && u.path[start - 1] != '/')
    start--;
  char name[1024];
  const char *slash = strrchr(path, '/');
  return prelux_url_decode(name, sizeof(name), u.path + start, end - start) > 0 &&
         strcmp(name, slash ? slash + 1 : path) == 0;
}

/* Judges the answer to a look at `url`. */
static int judge(struct prelux_http *h, const char *method, const char *path, const char *url,
                 const struct prelux_net_answer *a, uint64_t size, struct prelux_object *ret, struct prelux_problem *why)
{
  bool missing = a->status == 404 && !atomic_load_explicit(&h->redirects_slash, memory_order_relaxed);
  if (a->redirects && a->location && ends_as_folder(path, a->location))
  {
    be_folder(ret);
    return 0;
  }
  if (h->index != PRELUX_INDEX_NONE && (missing || like_a_page(a)))
  {
    int rc = prelux_http_is_folder(h, path, why);
    if (rc < 0 && (missing || rc != -EPROTO)) /* a page that is a file may look like half a listing */
      return rc;
    if (rc > 0)
    {
      be_folder(ret);
      return 0;
    }
  }
  if (a->status == 200 || a->status == 206 || (a->status == 416 && size == 0))
    return be_file(a, size, url, ret, why);
  return prelux_http_refused(a, method, url, why);
}

bool prelux_http_plain_file(const struct prelux_net_answer *a, const char *url, struct prelux_object *ret)
{
  return a->status == 200 && a->content_length != UINT64_MAX && !like_a_page(a) &&
         be_file(a, a->content_length, url, ret, NULL) == 0;
}

int prelux_http_no_file(struct prelux_http *h, const char *path, const char *url, const struct prelux_net_answer *a,
                        struct prelux_object *ret, struct prelux_problem *why)
{
  bool elsewhere = a->status >= 300 && a->status < 400;
  if (elsewhere && a->location && adds_slash(url, a->location))
  {
    atomic_store_explicit(&h->redirects_slash, true, memory_order_relaxed);
    be_folder(ret);
    return 0;
  }
  if (elsewhere && a->location)
    atomic_store_explicit(&h->redirects_files, true, memory_order_relaxed);
  if (elsewhere || a->status == 405 || a->status == 416)
    return 1;
  return judge(h, "GET", path, url, a, UINT64_MAX, ret, why);
}

static int stat_url(struct prelux_http *h, const char *path, const char *url, struct prelux_object *ret,
                    struct prelux_problem *why)
{
  struct prelux_net_answer a;
  uint64_t size;
  int rc = look_anyhow(h, url, 0, &a, &size, why);
  if (rc == 0 && a.status >= 300 && a.status < 400 && a.location)
  {
    if (adds_slash(url, a.location))
    {
      atomic_store_explicit(&h->redirects_slash, true, memory_order_relaxed);
      be_folder(ret);
      goto out;
    }
    prelux_net_answer_free(&a);
    rc = look_anyhow(h, url, PRELUX_HTTP_REDIRECTS, &a, &size, why);
  }
  if (rc == 0)
    rc = judge(h, "HEAD", path, url, &a, size, ret, why);
out:
  prelux_net_answer_free(&a);
  return rc;
}

static int http_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  if (!path[0])
  {
    be_folder(ret);
    return 0;
  }
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_http_url(self(b), path, false, url, PRELUX_URL_MAX, why);
  if (rc == 0)
    rc = stat_url(self(b), path, url, ret, why);
  free(url);
  return rc;
}

const struct prelux_backend_ops prelux_backend_http = {
    .type = "http",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_CONDITIONAL,
    .create = http_create,
    .free = http_free,
    .identity = http_identity,
    .stat = http_stat,
    .list = prelux_http_list,
    .read = prelux_http_read,
    .fetch = prelux_http_fetch,
};
