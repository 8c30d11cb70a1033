/* Backend `azure`: names, and what is there.
 *
 * What is a folder: what blobs below it make one (prefix "path/"), a blob "path/", and a blob that says so of itself:
 * hdi_isfolder, or a directory of a hierarchical namespace. A look asks for the blob; only when that is missing or
 * empty does it look for blobs below: an empty blob beside "path/..." is some tool's mark of a folder; one with bytes
 * wins over the folder, and what lies below it can still be opened by its name. So a file costs one request to find and
 * one to read.
 *
 * The version is the ETag. A blob into which the server is still copying changes it all the time and is shown with less
 * than all of its bytes: it has no version yet (-EBUSY). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/azure.h"
#include "lib/backend/azure_sign.h"

#define ETAG_MAX 120
#define NAME_UNITS_MAX 1024

/* Names. */

/* Well-formed UTF-8: Azure's names are Unicode. */
static bool is_utf8(const char *text)
{
  const unsigned char *s = (const unsigned char *)text;
  while (*s)
  {
    int more = *s < 0x80 ? 0 : *s >= 0xc2 && *s < 0xe0 ? 1 : (*s & 0xf0) == 0xe0 ? 2 : *s >= 0xf0 && *s < 0xf5 ? 3 : -1;
    if (more < 0 || (*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
        (*s == 0xf4 && s[1] > 0x8f))
      return false;
    for (s++; more > 0; more--, s++)
      if ((*s & 0xc0) != 0x80)
        return false;
  }
  return true;
}

/* Azure's names have at most 1024 characters of UTF-16 and no control characters (a server that takes one may not be
 * able to list it). Reading is not held to that: what is there is there. */
int prelux_azure_may_make(const struct prelux_azure *z, const char *path, struct prelux_problem *why)
{
  size_t units = 0;
  for (const unsigned char *s = (const unsigned char *)z->prefix; *s; s++)
    units += (*s & 0xc0) != 0x80;
  for (const unsigned char *s = (const unsigned char *)path; *s; s++)
  {
    units += ((*s & 0xc0) != 0x80) + (*s >= 0xf0);
    if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0) || (*s == 0xef && s[1] == 0xbf && s[2] >= 0xbe))
      return prelux_problem(why, EOPNOTSUPP, "%.200s: Azure's names have no control characters", path);
  }
  return units <= NAME_UNITS_MAX
             ? 0
             : prelux_problem(why, ENAMETOOLONG, "%.100s...: Azure's names have at most 1024 characters", path);
}

int prelux_azure_blob_url(const struct prelux_azure *z, const char *path, char *out, size_t cap,
                          struct prelux_problem *why)
{
  if (strchr(path, '\\'))
    return prelux_problem(why, EOPNOTSUPP, "%s: Azure makes a slash of a backslash in a name", path);
  if (!is_utf8(path))
    return prelux_problem(why, EOPNOTSUPP, "%s: Azure's names are UTF-8", path);
  int n = snprintf(out, cap, "%s/", z->url);
  long more =
      n < 0 || (size_t)n >= cap ? -1 : prelux_url_encode(out + n, cap - (size_t)n, z->prefix, strlen(z->prefix));
  long last = more < 0 ? -1 : prelux_url_encode(out + n + more, cap - (size_t)(n + more), path, strlen(path));
  return last < 0 ? prelux_problem(why, EOPNOTSUPP, "%.100s...: a URL of more than %zu bytes", path, cap) : 0;
}

bool prelux_azure_version(const char *etag, char out[PRELUX_VERSION_MAX])
{
  size_t len = strlen(etag);
  if (len >= 2 && etag[0] == '"' && etag[len - 1] == '"')
  {
    etag++;
    len -= 2;
  }
  if (len == 0 || len > ETAG_MAX)
    return false;
  for (size_t i = 0; i < len; i++)
    if (etag[i] <= ' ' || etag[i] >= 0x7f || etag[i] == '"')
      return false;
  snprintf(out, PRELUX_VERSION_MAX, "e:%.*s", (int)len, etag);
  return true;
}

/* What is there. */

static bool header_is(const struct prelux_net_answer *a, const char *name, const char *value)
{
  char text[32];
  return prelux_net_header(a, name, text, sizeof(text)) > 0 && strcasecmp(text, value) == 0;
}

static int be_file(const char *path, struct prelux_azure_seen *s, struct prelux_problem *why)
{
  const struct prelux_net_answer *a = &s->answer;
  struct prelux_object obj = {
      .type = PRELUX_FILE, .size = a->content_length, .mtime_ns = prelux_http_date(a->last_modified)};
  if (header_is(a, "x-ms-copy-status", "pending"))
    return prelux_problem(why, EBUSY, "HEAD %.200s: the server is still copying it", path);
  if (obj.size == UINT64_MAX)
    return prelux_problem(why, EPROTO, "HEAD %.200s: the answer does not say how long the blob is", path);
  prelux_azure_md5(a->content_md5, obj.md5);
  prelux_azure_meta_read(a, &obj);
  memcpy(obj.version, s->version, sizeof(obj.version));
  s->obj = obj;
  return 0;
}

/* No blob, or an empty one: do blobs below it make it a folder? */
static int maybe_folder(struct prelux_azure *z, const char *path, struct prelux_azure_seen *s,
                        struct prelux_problem *why)
{
  struct prelux_problem own = {0};
  int below = prelux_azure_has_children(z, path, &own);
  if (below > 0)
    s->obj = (struct prelux_object){.type = PRELUX_DIR};
  if (below >= 0 || (below == -EACCES && s->obj.type != PRELUX_NONE))
    return 0; /* who may not list sees no folders */
  if (why)
    *why = own;
  return below;
}

static int judge(struct prelux_azure *z, const char *path, const char *url, struct prelux_azure_seen *s,
                 struct prelux_problem *why)
{
  const struct prelux_net_answer *a = &s->answer;
  struct prelux_problem own = {0};
  if (a->status != 200)
  {
    int rc = prelux_azure_refused(z, a, "HEAD", url, &own);
    if (rc != -ENOENT && why)
      *why = own;
    return rc == -ENOENT ? maybe_folder(z, path, s, why) : rc;
  }
  if (!prelux_azure_version(a->etag, s->version))
    return prelux_problem(why, EPROTO, "HEAD %.200s: an answer without an ETag", path);
  if (header_is(a, "x-ms-resource-type", "directory") || header_is(a, "x-ms-meta-" PRELUX_AZURE_META_FOLDER, "true"))
  {
    s->obj = (struct prelux_object){.type = PRELUX_DIR};
    return 0;
  }
  int rc = be_file(path, s, why);
  return rc == 0 && a->content_length == 0 ? maybe_folder(z, path, s, why) : rc;
}

int prelux_azure_look(struct prelux_azure *z, const char *path, struct prelux_azure_seen *ret,
                      struct prelux_problem *why)
{
  *ret = (struct prelux_azure_seen){.answer.content_length = UINT64_MAX};
  if (!path[0])
  {
    ret->obj.type = PRELUX_DIR;
    return 0;
  }
  char *url = malloc(PRELUX_URL_MAX);
  if (!url)
    return prelux_problem(why, ENOMEM, "no memory for a URL");
  int rc = prelux_azure_blob_url(z, path, url, PRELUX_URL_MAX, why);
  if (rc == 0)
  {
    struct prelux_azure_call call = {.method = "HEAD", .url = url};
    rc = prelux_azure_call(z, &call, &ret->answer, why);
    rc = rc < 0 ? prelux_azure_failed(rc) : judge(z, path, url, ret, why);
  }
  free(url);
  return rc;
}

void prelux_azure_seen_free(struct prelux_azure_seen *s)
{
  prelux_net_answer_free(&s->answer);
}

int prelux_azure_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_azure_seen seen;
  int rc = prelux_azure_look((struct prelux_azure *)b, path, &seen, why);
  if (rc == 0 && seen.obj.type == PRELUX_NONE)
    rc = prelux_problem(why, ENOENT, "HEAD %.200s: there is no such blob, and none below", path);
  if (rc == 0)
    *ret = seen.obj;
  prelux_azure_seen_free(&seen);
  return rc;
}
