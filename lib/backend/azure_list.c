/* Listings: List Blobs of the container with a prefix and the delimiter '/', page after page. A page is taken apart while it
 * comes and passed on when it is whole, so that one that breaks off can be asked for again.
 *
 * A blob "dir/" makes a folder and has no name in it. A blob that stands for a folder (hdi_isfolder, or a directory of a
 * hierarchical namespace) is one. Blobs `a` and `a/b`: an empty `a` is passed on beside the folder, which the store prefers; one
 * with bytes wins, as it does in a look-up, and the folder is left out. Pages are sorted here: Azure mixes blobs and prefixes,
 * Azurite does not. What lies between `a` and `a/` begins with `a`, so that of each page only blobs whose names begin its
 * last name are remembered for the next. Pages may be empty and yet not the last; markers that go in circles end it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure.h"
#include "lib/backend/azure_xml.h"
#include "lib/base/log.h"

#define PAGE_MAX (64u << 20)
#define PAGE_NAMES_MAX 20000u /* Azure sends 5000 at most */
#define PAGE_TRIES 3
#define NAMES_MAX 5000000u
#define PAGES_MAX 1000000u
#define EMPTY_PAGES_MAX 1000u /* in a row: a partition's end makes one, or what was deleted and is kept */

struct item {
  char *name; /* in the folder; a prefix without its slash */
  bool prefix;
  struct prelux_object obj;
};

struct items {
  struct item *v;
  size_t n, cap;
};

struct listing {
  struct prelux_azure *z;
  const char *base; /* what every name begins with: "prefix/path/" */
  size_t base_len;
  prelux_list_fn add;
  void *arg;
  size_t count; /* entries, the folder's own blob among them */
  size_t own;   /* 1: that one has come */
  struct prelux_azure_xml *xml;
  struct items page, kept; /* kept: blobs with bytes that may yet meet a prefix of their name */
  unsigned hidden;
  bool flat;    /* all blobs below, those without a committed byte, too */
  int failed; /* what taking the page apart said */
};

static void drop(struct items *l)
{
  for (size_t i = 0; i < l->n; i++)
    free(l->v[i].name);
  free(l->v);
  *l = (struct items){0};
}

static int append(struct items *l, const struct item *item, const char *name, size_t len)
{
  if (l->n == l->cap)
  {
    size_t cap = l->cap ? 2 * l->cap : 64;
    struct item *grown = realloc(l->v, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    l->v = grown;
    l->cap = cap;
  }
  l->v[l->n] = *item;
  l->v[l->n].name = strndup(name, len);
  return l->v[l->n].name ? (l->n++, 0) : -ENOMEM;
}

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

static int on_entry(void *arg, const struct prelux_azure_entry *e)
{
  struct listing *l = arg;
  struct item item = {.prefix = e->prefix, .obj = {.type = PRELUX_DIR}};
  size_t len = e->name_len;
  if (len < l->base_len || memcmp(e->name, l->base, l->base_len) != 0 || l->page.n == PAGE_NAMES_MAX)
    return -EPROTO;
  if (e->prefix && (len == l->base_len || e->name[--len] != '/'))
    return -EPROTO;
  if (!e->prefix && !e->folder)
  {
    item.obj = (struct prelux_object){.type = PRELUX_FILE, .size = e->size, .mode = e->mode};
    item.obj.mtime_ns = e->has_mtime ? e->kept_mtime_ns : e->mtime_ns;
    memcpy(item.obj.md5, e->md5, sizeof(item.obj.md5));
    if (e->pending || l->flat)
      item.obj.size = e->pending ? UINT64_MAX : e->size;
    else if (e->size == UINT64_MAX || !prelux_azure_version(e->etag, item.obj.version))
      return -EPROTO;
  }
  return append(&l->page, &item, e->name + l->base_len, len - l->base_len);
}

static int on_bytes(void *arg, const struct prelux_net_answer *head, const void *buf, size_t len)
{
  struct listing *l = arg;
  if (head->status == 200)
    l->failed = prelux_azure_xml_feed(l->xml, buf, len);
  return l->failed;
}

static int explain(const struct listing *l, int rc, struct prelux_problem *why)
{
  if (rc == -EPROTO)
    return prelux_problem(why, EPROTO, "list %s of container %s: the answer is no listing of these names, cut, or too long",
                          l->base, l->z->container);
  return prelux_problem(why, -rc, "list %s: %s", l->base, strerror(-rc));
}

/* A page that is whole. */

static int by_name(const void *a, const void *b)
{
  return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

static bool has_bytes(const struct item *i)
{
  return i->obj.type == PRELUX_FILE && i->obj.size > 0;
}

/* A blob with bytes has this prefix's name: on the page (sorted) it stands beside it. */
static bool is_taken(const struct listing *l, size_t i)
{
  const struct item *v = l->page.v;
  for (size_t k = i; k-- > 0 && strcmp(v[k].name, v[i].name) == 0;)
    if (has_bytes(&v[k]))
      return true;
  for (size_t k = i + 1; k < l->page.n && strcmp(v[k].name, v[i].name) == 0; k++)
    if (has_bytes(&v[k]))
      return true;
  for (size_t k = 0; k < l->kept.n; k++)
    if (strcmp(l->kept.v[k].name, v[i].name) == 0)
      return true;
  return false;
}

/* Which blobs the next page may still collide with. */
static int keep_some(struct listing *l)
{
  const char *last = l->page.n ? l->page.v[l->page.n - 1].name : NULL;
  struct items kept = {0};
  const struct items *from[] = {&l->kept, &l->page};
  int rc = 0;
  for (size_t f = 0; last && f < 2; f++)
    for (size_t i = 0; rc == 0 && i < from[f]->n; i++)
    {
      const struct item *item = &from[f]->v[i];
      size_t len = strlen(item->name);
      if (has_bytes(item) && strncmp(item->name, last, len) == 0)
        rc = append(&kept, item, item->name, len);
    }
  if (last)
  {
    drop(&l->kept);
    l->kept = kept;
  }
  return rc;
}

static int pass_on(struct listing *l)
{
  int rc = 0;
  if (l->page.n)
    qsort(l->page.v, l->page.n, sizeof(*l->page.v), by_name);
  for (size_t i = 0; i < l->page.n && rc == 0; i++)
  {
    const struct item *item = &l->page.v[i];
    if (++l->count > NAMES_MAX)
      return -EPROTO;
    if (!item->name[0] && !item->prefix)
    {
      l->own = 1; /* the folder's own blob */
      continue;
    }
    if (item->prefix && is_taken(l, i))
    {
      if (l->hidden++ == 0)
        prelux_warn("container %s: blob '%.200s%.200s' hides the folder of its name", l->z->container, l->base, item->name);
      continue;
    }
    rc = l->add(l->arg, item->name, strlen(item->name), &item->obj);
  }
  return rc == 0 ? keep_some(l) : rc;
}

/* The URL of a page; malloc'd. max: 0 as many as the server likes. */
static char *page_url(const struct listing *l, int max, const char *marker)
{
  static const char folders[] = "&delimiter=%2F&include=copy%2Cmetadata", flat[] = "&include=uncommittedblobs";
  size_t cap = PRELUX_URL_MAX, marker_len = marker ? strlen(marker) : 0;
  char *url = malloc(cap);
  int n = url ? snprintf(url, cap, "%s?restype=container&comp=list%s&prefix=", l->z->url,
                         l->flat ? flat : max ? "" : folders)
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

/* One try at a page. -EAGAIN: it broke off, *why says how. */
static int try_page(struct listing *l, const char *url, char **ret_marker, struct prelux_problem *why)
{
  struct prelux_net_answer a;
  struct prelux_azure_call call = {.method = "GET", .url = url, .max_body = PAGE_MAX, .sink = on_bytes, .arg = l};
  l->xml = prelux_azure_xml_create(on_entry, l);
  if (!l->xml)
    return prelux_problem(why, ENOMEM, "no memory for a listing");
  l->failed = 0;
  int rc = prelux_azure_call(l->z, &call, &a, why);
  if (l->failed < 0)
    rc = explain(l, l->failed, why);
  else if (rc < 0)
    rc = a.received && a.status == 200 ? -EAGAIN : prelux_azure_failed(rc);
  else if (a.status != 200)
    rc = prelux_azure_refused(l->z, &a, "GET", url, why);
  else
  {
    rc = prelux_azure_xml_end(l->xml, ret_marker);
    rc = rc < 0 ? explain(l, rc, why) : 0;
  }
  prelux_azure_xml_free(l->xml);
  prelux_net_answer_free(&a);
  return rc;
}

/* One page; *marker becomes that of the next. */
static int fetch_page(struct listing *l, const char *url, char **marker, struct prelux_problem *why)
{
  char *next = NULL;
  int rc = try_page(l, url, &next, why);
  for (int tries = 1; rc == -EAGAIN && tries < PAGE_TRIES && prelux_net_backoff(l->z->net, tries) == 0; tries++)
  {
    drop(&l->page);
    rc = try_page(l, url, &next, why);
  }
  if (rc == 0)
  {
    rc = pass_on(l);
    rc = rc == -EPROTO || rc == -ENOMEM ? explain(l, rc, why) : rc;
  }
  drop(&l->page);
  free(*marker);
  *marker = next;
  return rc == -EAGAIN ? -EIO : rc;
}

/* All pages, or, with `first`, those up to so many names. */
static int fetch_all(struct listing *l, unsigned first, struct prelux_problem *why)
{
  struct circle circle = {0};
  char *marker = NULL;
  unsigned empty = 0;
  int rc = 0;
  for (unsigned pages = 0; rc == 0; pages++)
  {
    size_t before = l->count;
    char *url = page_url(l, (int)first, marker);
    rc = url ? fetch_page(l, url, &marker, why) : prelux_problem(why, EOPNOTSUPP, "list: a URL that is too long");
    free(url);
    if (rc < 0 || !marker || (first && l->count >= first))
      break;
    empty = l->count == before ? empty + 1 : 0;
    rc = pages < PAGES_MAX && empty < EMPTY_PAGES_MAX ? in_circle(&circle, marker) : -EPROTO;
    if (rc < 0)
      rc = prelux_problem(why, -rc, "list %s of container %s: the pages go in circles, or on without a name", l->base, l->z->container);
  }
  free(circle.kept);
  free(marker);
  drop(&l->kept);
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

/* Up to `first` names below "path/". The folder's own blob is counted in *ret_count, not in *ret_names. */
static int count_some(struct prelux_azure *z, const char *path, unsigned first, size_t *ret_count, size_t *ret_names,
                      struct prelux_problem *why)
{
  char *base = base_of(z, path);
  if (!base)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct listing l = {.z = z, .base = base, .base_len = strlen(base), .add = ignore};
  int rc = fetch_all(&l, first, why);
  free(base);
  *ret_count = l.count;
  *ret_names = l.count - l.own;
  return rc;
}

int prelux_azure_has_children(struct prelux_azure *z, const char *path, struct prelux_problem *why)
{
  size_t count, names;
  int rc = count_some(z, path, 1, &count, &names, why);
  return rc < 0 ? rc : count > 0;
}

int prelux_azure_is_empty(struct prelux_azure *z, const char *path, bool *ret_own, struct prelux_problem *why)
{
  size_t count, names;
  int rc = count_some(z, path, 2, &count, &names, why);
  *ret_own = rc == 0 && count > names;
  return rc < 0 ? rc : names == 0;
}

int prelux_azure_list_flat(struct prelux_azure *z, const char *path, prelux_list_fn add, void *arg, struct prelux_problem *why)
{
  char *base = base_of(z, path);
  if (!base)
    return prelux_problem(why, ENOMEM, "no memory for a path");
  struct listing l = {.z = z, .base = base, .base_len = strlen(base), .add = add, .arg = arg, .flat = true};
  int rc = fetch_all(&l, 0, why);
  free(base);
  return rc;
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
  int rc = fetch_all(&l, 0, why);
  free(base);
  return rc == 0 && l.count == 0 ? judge_empty(b, path, why) : rc;
}
