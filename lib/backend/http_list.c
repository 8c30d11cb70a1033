/* Listings of a web server: GET of the folder's page, taken apart as JSON while it comes or as HTML when it is whole.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/http.h"
#include "lib/backend/http_index.h"
#include "lib/backend/json_array.h"

#define PAGE_MAX (64u << 20) /* of HTML, in memory */
#define JSON_MAX (1u << 30)  /* never in memory as a whole */
#define NAMES_MAX 5000000u

struct listing
{
  enum prelux_http_index form; /* AUTO until the first bytes */
  bool any;                    /* the configuration says HTML: every page is taken for a listing */
  struct prelux_json_array json;
  char *html;
  size_t len, cap;
  prelux_list_fn add;
  void *arg;
  size_t count;
  int stopped; /* what `add` said */
  int failed;  /* what taking the page apart said */
};

static int pass_on(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct listing *l = arg;
  if (++l->count > NAMES_MAX)
    return -EPROTO;
  l->stopped = l->add(l->arg, name, len, obj);
  return l->stopped;
}

static int on_element(void *arg, const cJSON *element)
{
  return prelux_http_index_json(element, pass_on, arg);
}

static int keep(struct listing *l, const char *data, size_t n)
{
  if (l->len + n > PAGE_MAX)
    return -EPROTO;
  if (l->len + n > l->cap)
  {
    size_t cap = 2 * (l->len + n);
    char *grown = realloc(l->html, cap);
    if (!grown)
      return -ENOMEM;
    l->html = grown;
    l->cap = cap;
  }
  memcpy(l->html + l->len, data, n);
  l->len += n;
  return 0;
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  if (l->form == PRELUX_INDEX_AUTO)
    l->form = strncmp(head->content_type, "application/json", 16) == 0 ? PRELUX_INDEX_JSON : PRELUX_INDEX_HTML;
  l->failed = l->form == PRELUX_INDEX_JSON ? prelux_json_array_feed(&l->json, buf, len) : keep(l, buf, len);
  return l->failed;
}

static int explain(int rc, const char *url, struct prelux_problem *why)
{
  char shown[200];
  prelux_url_show(shown, sizeof(shown), url);
  if (rc == -EOPNOTSUPP)
    return prelux_problem(why, EOPNOTSUPP, "GET %s: the page is no listing of a folder; the server shows none", shown);
  if (rc == -EPROTO)
    return prelux_problem(why, EPROTO, "GET %s: the listing is cut, too long, or not what its type says", shown);
  return prelux_problem(why, -rc, "GET %s: %s", shown, strerror(-rc));
}

/* Gets the page and passes its names on. *a is filled in any case (free it). */
static int fetch(struct prelux_http *h, const char *url, struct listing *l, struct prelux_net_answer *a,
                 struct prelux_problem *why)
{
  struct prelux_net_request req = {
      .method = "GET",
      .url = url,
      .headers = (const char *const *)h->headers,
      .tls = &h->tls,
      .max_body = JSON_MAX,
      .max_redirects = PRELUX_HTTP_REDIRECTS,
      .retries = PRELUX_HTTP_RETRIES,
      .sink = on_bytes,
      .arg = l,
  };
  int rc = prelux_net_call(h->net, &req, a, why);
  if (l->stopped < 0)
    return l->stopped;
  if (l->failed < 0)
    return explain(l->failed, url, why);
  if (rc < 0)
    return prelux_http_failed(rc);
  if (a->status != 200)
    return prelux_http_refused(a, "GET", url, why);
  if (l->form == PRELUX_INDEX_JSON)
    rc = prelux_json_array_end(&l->json);
  else
    rc = prelux_http_index_html(a->redirects ? a->location : url, l->html ? l->html : "", l->len, l->any, pass_on, l);
  if (l->stopped < 0)
    return l->stopped;
  return rc < 0 ? explain(rc, url, why) : 0;
}

static int list_folder(struct prelux_http *h, const char *path, prelux_list_fn add, void *arg, int *ret_status,
                       struct prelux_problem *why)
{
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  struct prelux_net_answer a = {0};
  struct listing l = {.form = h->index, .any = h->index == PRELUX_INDEX_HTML, .add = add, .arg = arg};
  prelux_json_array_init(&l.json, on_element, &l);
  int rc = prelux_http_url(h, path, true, url, PRELUX_URL_MAX, why);
  if (rc == 0)
    rc = fetch(h, url, &l, &a, why);
  *ret_status = a.status;
  prelux_net_answer_free(&a);
  prelux_json_array_release(&l.json);
  free(l.html);
  free(url);
  return rc;
}

static int ignore(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return 0;
}

int prelux_http_is_folder(struct prelux_http *h, const char *path, struct prelux_problem *why)
{
  int status;
  int rc = list_folder(h, path, ignore, NULL, &status, why);
  if (rc == 0)
    return 1;
  /* An answer that is no listing says "no"; a server that did not answer leaves it open, and so does a listing that is cut. */
  return rc == -EPROTO || (rc == -EIO && (status == 0 || status >= 500)) ? rc : 0;
}

/* 404 to "path/" may mean that `path` is a file. */
static int not_a_folder(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  struct prelux_problem own = {0};
  int rc = b->ops->stat(b, path, &obj, &own);
  if (rc == 0 && obj.type == PRELUX_FILE)
    return prelux_problem(why, ENOTDIR, "%s is a file", path);
  return -ENOENT; /* *why holds the 404 */
}

int prelux_http_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                     struct prelux_problem *why)
{
  struct prelux_http *h = (struct prelux_http *)b;
  int status;
  if (h->index == PRELUX_INDEX_NONE)
    return prelux_problem(why, EOPNOTSUPP, "%s: folders cannot be listed: the backend says index: none", path);
  int rc = list_folder(h, path, add, arg, &status, why);
  if (rc == -ENOENT && path[0])
    return not_a_folder(b, path, why);
  if (rc == -EACCES && status == 403 && why)
    snprintf(why->advice, sizeof(why->advice), "switch the server's directory listing on (nginx: autoindex on)");
  return rc;
}
