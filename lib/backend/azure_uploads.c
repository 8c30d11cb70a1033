/* Backend `azure`, writing: what lies there uncommitted.
 *
 * Azure lists the blocks of one blob, and, with the blobs, those names that have nothing but uncommitted blocks. It
 * does not say which blobs that are there have uncommitted blocks besides. So the uploads of one object are all found;
 * of those below a folder only those to names where nothing is yet: a list of blocks for each blob would be a request
 * for each. The journal of whoever began the others knows them; after a week Azure drops them. */
#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/azure_write.h"

#define LIST_MAX (64u << 20)
#define TEXT_MAX 128
#define DEPTH_MAX 8
#define UPLOADS_MAX 1000 /* to one name */

/* A list of blocks, taken apart while it comes: <BlockList><UncommittedBlocks><Block><Name>, <Size>. */
struct blocks
{
  XML_Parser parser;
  bool committed; /* which are wanted */
  prelux_azure_block_fn add;
  void *arg;
  int failed;
  int depth;
  bool wanted, whole;
  char text[TEXT_MAX + 1], name[TEXT_MAX + 1], size[TEXT_MAX + 1];
  size_t text_len;
};

static void fail(struct blocks *x, int rc)
{
  if (x->failed == 0)
    x->failed = rc;
  XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
  struct blocks *x = arg;
  x->depth++;
  if (x->failed || x->depth > DEPTH_MAX || (x->depth == 1 && strcmp(name, "BlockList") != 0))
  {
    fail(x, -EPROTO);
    return;
  }
  if (x->depth == 2)
    x->wanted = strcmp(name, x->committed ? "CommittedBlocks" : "UncommittedBlocks") == 0;
  if (x->depth == 3)
    x->name[0] = x->size[0] = 0;
  x->text_len = 0;
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
  struct blocks *x = arg;
  if (x->failed || x->depth != 4)
    return;
  if ((size_t)len > TEXT_MAX - x->text_len)
  {
    fail(x, -EPROTO);
    return;
  }
  memcpy(x->text + x->text_len, text, (size_t)len);
  x->text_len += (size_t)len;
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
  struct blocks *x = arg;
  if (x->failed)
    return;
  x->text[x->text_len] = 0;
  if (x->depth == 4 && strcmp(name, "Name") == 0)
    memcpy(x->name, x->text, x->text_len + 1);
  if (x->depth == 4 && strcmp(name, "Size") == 0)
    memcpy(x->size, x->text, x->text_len + 1);
  if (x->depth == 3 && x->wanted)
  {
    size_t digits = strlen(x->size);
    int rc = !x->name[0] || !digits || digits > 18 || strspn(x->size, "0123456789") != digits
                 ? -EPROTO
                 : x->add(x->arg, x->name, strtoull(x->size, NULL, 10));
    if (rc < 0)
      fail(x, rc);
  }
  x->whole = --x->depth == 0;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public,
                               int internal)
{
  fail(arg, -EPROTO);
}

static int parse(struct blocks *x, const void *buf, size_t len, bool last)
{
  if (x->failed == 0 && XML_Parse(x->parser, buf, (int)len, last) != XML_STATUS_OK && x->failed == 0)
    x->failed = XML_GetErrorCode(x->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EPROTO;
  return x->failed;
}

static int take_list(const struct prelux_net_answer *a, bool committed, prelux_azure_block_fn add, void *arg)
{
  struct blocks x = {.committed = committed, .add = add, .arg = arg, .parser = XML_ParserCreate(NULL)};
  if (!x.parser)
    return -ENOMEM;
  XML_SetUserData(x.parser, &x);
  XML_SetElementHandler(x.parser, on_start, on_end);
  XML_SetCharacterDataHandler(x.parser, on_text);
  XML_SetStartDoctypeDeclHandler(x.parser, on_doctype);
  int rc = parse(&x, a->body ? a->body : "", a->body_len, true);
  XML_ParserFree(x.parser);
  return rc < 0 ? rc : x.whole ? 0 : -EPROTO;
}

int prelux_azure_block_list(struct prelux_azure *z, const char *url, bool committed, prelux_azure_block_fn add,
                            void *arg, struct prelux_net_answer *answer, struct prelux_problem *why)
{
  struct prelux_net_answer own = {0}, *a = answer ? answer : &own;
  char *full = NULL;
  *a = (struct prelux_net_answer){0};
  if (asprintf(&full, "%s?comp=blocklist&blocklisttype=%s", url, committed ? "committed" : "uncommitted") < 0)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  struct prelux_azure_call call = {.method = "GET", .url = full, .max_body = LIST_MAX};
  int rc = prelux_azure_call(z, &call, a, why);
  if (rc < 0)
    rc = prelux_azure_failed(rc);
  else if (a->status != 200)
    rc = prelux_azure_refused(z, a, "GET", full, why);
  else if ((rc = take_list(a, committed, add, arg)) == -EPROTO)
    rc = prelux_problem(why, EPROTO, "the list of blocks of a blob is none");
  free(full);
  if (!answer)
    prelux_net_answer_free(a);
  return rc == -ENOENT ? 0 : rc;
}

/* The uploads to one blob. */

struct upload
{
  struct prelux_azure_id begun; /* kind 0: not seen */
  uint64_t number;
  int64_t last_s;
  bool aborted;
};

struct found
{
  struct upload *v;
  size_t n;
};

static int on_block(void *arg, const char *text, uint64_t size)
{
  struct found *f = arg;
  struct prelux_azure_id id;
  size_t i = 0;
  if (!prelux_azure_id_read(text, &id))
    return 0;
  while (i < f->n && f->v[i].number != id.upload)
    i++;
  if (i == UPLOADS_MAX)
    return 0;
  if (i == f->n)
  {
    struct upload *grown = realloc(f->v, (f->n + 1) * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    f->v = grown;
    f->v[f->n++] = (struct upload){.number = id.upload};
  }
  struct upload *u = &f->v[i];
  if (id.time_s > u->last_s)
    u->last_s = id.time_s;
  if (id.kind == PRELUX_AZURE_BEGUN)
    u->begun = id;
  u->aborted = u->aborted || id.kind == PRELUX_AZURE_ABORTED;
  return 0;
}

struct gathering
{
  struct prelux_azure *z;
  prelux_upload_fn add;
  void *arg;
  struct prelux_problem *why;
};

static int tell(const struct gathering *g, const char *path, const struct found *f, int64_t now_s)
{
  int rc = 0;
  for (size_t i = 0; i < f->n && rc == 0; i++)
  {
    const struct upload *u = &f->v[i];
    char token[PRELUX_TOKEN_MAX];
    if (!u->begun.kind || u->aborted)
      continue;
    prelux_azure_token_text(g->z, path, u->number, u->begun.part_size, u->begun.was, token);
    rc = g->add(g->arg, path, token, now_s > u->last_s ? (uint64_t)(now_s - u->last_s) : 0);
  }
  return rc;
}

static int of_blob(const struct gathering *g, const char *path)
{
  struct prelux_net_answer a = {0};
  struct found f = {0};
  char *url = malloc(PRELUX_URL_MAX);
  int rc = url ? prelux_azure_blob_url(g->z, path, url, PRELUX_URL_MAX, g->why)
               : prelux_problem(g->why, ENOMEM, "no memory for a URL");
  if (rc == 0)
    rc = prelux_azure_block_list(g->z, url, false, on_block, &f, &a, g->why);
  if (rc == 0)
    rc = tell(g, path, &f, prelux_http_date(a.date) / 1000000000);
  if (rc == -EOPNOTSUPP)
    rc = 0; /* a page blob or an append blob */
  prelux_net_answer_free(&a);
  free(f.v);
  free(url);
  return rc;
}

struct names
{
  char **v;
  size_t n, cap;
};

static int keep_name(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  struct names *all = arg;
  if (obj->type != PRELUX_FILE || obj->size != 0 || len == 0 || name[len - 1] == '/')
    return 0;
  if (all->n == all->cap)
  {
    size_t cap = all->cap ? 2 * all->cap : 64;
    char **grown = realloc(all->v, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    all->v = grown;
    all->cap = cap;
  }
  all->v[all->n] = strndup(name, len);
  return all->v[all->n] ? (all->n++, 0) : -ENOMEM;
}

int prelux_azure_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                         struct prelux_problem *why)
{
  struct gathering g = {.z = (struct prelux_azure *)b, .add = add, .arg = arg, .why = why};
  struct names names = {0};
  int rc = path[0] ? of_blob(&g, path) : 0;
  if (rc == 0)
    rc = prelux_azure_list_flat(g.z, path, keep_name, &names, why);
  for (size_t i = 0; i < names.n; i++)
  {
    char *full = NULL;
    if (rc == 0)
      rc = asprintf(&full, "%s%s%s", path, path[0] ? "/" : "", names.v[i]) < 0
               ? prelux_problem(why, ENOMEM, "no memory")
               : of_blob(&g, full);
    free(full);
    free(names.v[i]);
  }
  free(names.v);
  return rc;
}

/* clean */

struct sweep
{
  struct prelux_backend *b;
  uint64_t idle_s;
  int removed;
};

static int on_upload(void *arg, const char *path, const char *token, uint64_t idle_s)
{
  struct sweep *s = arg;
  if (idle_s < s->idle_s)
    return 0;
  int rc = prelux_azure_abort(s->b, path, token, NULL);
  s->removed += rc == 0;
  return rc;
}

int prelux_azure_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct sweep s = {.b = b, .idle_s = idle_s};
  int rc = prelux_azure_uploads(b, path, on_upload, &s, why);
  return rc < 0 ? rc : s.removed;
}
