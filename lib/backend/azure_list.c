/* Listings: List Blobs of the container with a prefix and the delimiter '/', page after page.
 *
 * A blob "dir/" makes a folder and has no name in it. A blob that stands for a folder (hdi_isfolder, or a directory of a
 * hierarchical namespace) is one. A blob and a prefix of one name are both passed on: the store shows the folder. Pages may be
 * empty and yet not the last; markers that go in circles end it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure.h"
#include "lib/backend/azure_xml.h"

#define PAGE_MAX (64u << 20)
#define NAMES_MAX 5000000u
#define PAGES_MAX 1000000u

struct listing {
  struct prelux_azure *z;
  const char *base; /* what every name begins with: "prefix/path/" */
  size_t base_len;
  prelux_list_fn add;
  void *arg;
  size_t count; /* entries, the folder's own blob among them */
  struct prelux_azure_xml *page;
  int stopped;  /* what `add` said */
  int failed;   /* what taking the page apart said */
};

/* Circles of any length: a marker is compared with one that is kept, which is replaced at ever longer distances. */
struct circle {
  char *kept;
  unsigned steps, limit;
};

static int in_circle(struct circle *c, const char *marker)
{
  if (c->kept && strcmp(c->kept, marker) == 0)
    return -EPROTO;
  if (c->kept && ++c->steps < c->limit)
    return 0;
  free(c->kept);
  c->kept = strdup(marker);
  c->steps = 0;
  c->limit = c->limit ? 2 * c->limit : 1;
  return c->kept ? 0 : -ENOMEM;
}

static int pass_on(void *arg, const struct prelux_azure_entry *e)
{
  struct listing *l = arg;
  struct prelux_object obj = {.type = PRELUX_DIR};
  size_t len = e->name_len;
  if (len < l->base_len || memcmp(e->name, l->base, l->base_len) != 0 || ++l->count > NAMES_MAX)
    return -EPROTO;
  if (e->prefix && (len == l->base_len || e->name[--len] != '/'))
    return -EPROTO;
  if (!e->prefix && len == l->base_len)
    return 0;
  if (!e->prefix && !e->folder)
  {
    obj = (struct prelux_object){.type = PRELUX_FILE, .size = e->size, .mtime_ns = e->mtime_ns};
    memcpy(obj.md5, e->md5, sizeof(obj.md5));
    if (e->size == UINT64_MAX || !prelux_azure_version(e->etag, obj.version))
      return -EPROTO;
  }
  l->stopped = l->add(l->arg, e->name + l->base_len, len - l->base_len, &obj);
  return l->stopped;
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  if (head->status == 200)
    l->failed = prelux_azure_xml_feed(l->page, buf, len);
  return l->failed;
}

static int explain(const struct listing *l, int rc, struct prelux_problem *why)
{
  if (rc == -EPROTO)
    return prelux_problem(why, EPROTO, "list %s of container %s: the answer is no listing of these names, cut, or too long",
                          l->base, l->z->container);
  return prelux_problem(why, -rc, "list %s: %s", l->base, strerror(-rc));
}

/* The URL of a page; malloc'd. max: 0 as many as the server likes. */
static char *page_url(const struct listing *l, bool folders, int max, const char *marker)
{
  size_t cap = PRELUX_URL_MAX, marker_len = marker ? strlen(marker) : 0;
  char *url = malloc(cap);
  int n = url ? snprintf(url, cap, "%s?restype=container&comp=list%s&prefix=", l->z->url,
                         folders ? "&delimiter=%2F&include=metadata" : "")
              : -1;
  long more = n < 0 || (size_t)n >= cap ? -1 : prelux_url_encode(url + n, cap - (size_t)n, l->base, l->base_len);
  if (more >= 0 && max)
    more += snprintf(url + n + more, cap - (size_t)(n + more), "&maxresults=%d", max);
  if (more >= 0 && marker && (size_t)(n + more) + 10 < cap)
  {
    more += sprintf(url + n + more, "&marker=");
    long last = prelux_url_encode(url + n + more, cap - (size_t)(n + more), marker, marker_len);
    more = last < 0 ? -1 : more + last;
  }
  if (more >= 0 && (size_t)(n + more) < cap - 1)
    return url;
  free(url);
  return NULL;
}

/* One page; *marker is that of this page and becomes that of the next. */
static int fetch_page(struct listing *l, const char *url, char **marker, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  struct prelux_azure_call call = {.method = "GET", .url = url, .max_body = PAGE_MAX, .sink = on_bytes, .arg = l};
  l->page = prelux_azure_xml_create(pass_on, l);
  if (!l->page)
    return prelux_problem(why, ENOMEM, "no memory for a listing");
  l->failed = 0;
  int rc = prelux_azure_call(l->z, &call, &a, why);
  if (l->stopped < 0)
    rc = l->stopped;
  else if (l->failed < 0)
    rc = explain(l, l->failed, why);
  else if (rc < 0)
    rc = prelux_azure_failed(rc);
  else if (a.status != 200)
    rc = prelux_azure_refused(l->z, &a, "GET", url, why);
  else
  {
    free(*marker);
    *marker = NULL;
    rc = prelux_azure_xml_end(l->page, marker);
    rc = rc < 0 ? explain(l, rc, why) : 0;
  }
  prelux_azure_xml_free(l->page);
  l->page = NULL;
  prelux_net_answer_free(&a);
  return rc;
}

/* All pages, or, with `first`, those up to the first name. */
static int fetch_all(struct listing *l, bool first, struct prelux_problem *why)
{
  struct circle circle = {0};
  char *marker = NULL;
  int rc = 0;
  for (unsigned pages = 0; rc == 0; pages++)
  {
    char *url = page_url(l, !first, first ? 1 : 0, marker);
    rc = url ? fetch_page(l, url, &marker, why) : prelux_problem(why, EOPNOTSUPP, "list: a URL that is too long");
    free(url);
    if (rc < 0 || !marker || (first && l->count))
      break;
    rc = pages < PAGES_MAX ? in_circle(&circle, marker) : -EPROTO;
    if (rc < 0)
      rc = prelux_problem(why, -rc, "list %s of container %s: the pages go in circles", l->base, l->z->container);
  }
  free(circle.kept);
  free(marker);
  return rc;
}

static char *base_of(const struct prelux_azure *z, const char *path)
{
  char *base = NULL;
  return asprintf(&base, "%s%s%s", z->prefix, path, path[0] ? "/" : "") < 0 ? NULL : base;
}

static int ignore(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return 0;
}

int prelux_azure_has_children(struct prelux_azure *z, const char *path, struct prelux_problem *why)
{
  char *base = base_of(z, path);
  if (!base)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct listing l = {.z = z, .base = base, .base_len = strlen(base), .add = ignore};
  int rc = fetch_all(&l, true, why);
  free(base);
  return rc < 0 ? rc : l.count > 0;
}

/* Nothing below "path/": an empty folder, a file, or nothing. */
static int judge_empty(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object obj;
  int rc = path[0] ? b->ops->stat(b, path, &obj, why) : 0;
  if (rc == 0 && path[0] && obj.type == PRELUX_FILE)
    return prelux_problem(why, ENOTDIR, "%s is a blob", path);
  return rc;
}

int prelux_azure_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  struct prelux_azure *z = (struct prelux_azure *)b;
  char *base = base_of(z, path);
  if (!base)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct listing l = {.z = z, .base = base, .base_len = strlen(base), .add = add, .arg = arg};
  int rc = fetch_all(&l, false, why);
  free(base);
  return rc == 0 && l.count == 0 ? judge_empty(b, path, why) : rc;
}
