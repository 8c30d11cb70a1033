/* Backend `s3`, writing: which uploads there are, and sweeping what the dead have left.
 *
 * ListMultipartUploads tells when an upload was begun; when something was last sent into it its parts tell (ListParts).
 * Ages are counted by the server's clock, that of the answer. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/backend/http.h"
#include "lib/backend/s3_fields.h"
#include "lib/backend/s3_write.h"

#define PAGES_MAX 10000u
#define PAGE_BYTES (64u << 20)
#define PROBE PRELUX_S3_HIDDEN "probe-"

struct one_upload
{
  char *key, id[PRELUX_S3_UPLOAD_ID_MAX];
  int64_t begun_s;
  bool crc; /* of PRELUX_S3_CRC_UPLOAD, as far as the server lists it */
};

struct page
{
  struct one_upload *items;
  size_t n, cap;
  struct one_upload now;
  bool truncated, encoded;
  char next_key[PRELUX_S3_KEY_MAX], next_id[PRELUX_S3_UPLOAD_ID_MAX];
};

static void page_release(struct page *p)
{
  for (size_t i = 0; i < p->n; i++)
    free(p->items[i].key);
  free(p->items);
  free(p->now.key);
  p->items = NULL;
  p->now.key = NULL;
  p->n = p->cap = 0;
}

static int page_add(struct page *p)
{
  if (p->n == p->cap)
  {
    size_t cap = p->cap ? 2 * p->cap : 64;
    struct one_upload *grown = realloc(p->items, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    p->items = grown;
    p->cap = cap;
  }
  p->items[p->n++] = p->now;
  p->now = (struct one_upload){.key = NULL};
  return 0;
}

static int set_text(char *out, size_t cap, const char *text)
{
  return (size_t)snprintf(out, cap, "%s", text) < cap ? 0 : -EPROTO;
}

static int on_upload_field(void *arg, const char *outer, const char *name, const char *text)
{
  struct page *p = arg;
  if (strcmp(outer, "Upload") == 0 && strcmp(name, "Upload") == 0)
    return p->now.key && p->now.id[0] ? page_add(p) : -EPROTO;
  if (strcmp(outer, "Upload") == 0 && strcmp(name, "Key") == 0)
  {
    free(p->now.key);
    p->now.key = strdup(text);
    return p->now.key ? 0 : -ENOMEM;
  }
  if (strcmp(outer, "Upload") == 0 && strcmp(name, "UploadId") == 0)
    return set_text(p->now.id, sizeof(p->now.id), text);
  if (strcmp(outer, "Upload") == 0 && strcmp(name, "Initiated") == 0)
    p->now.begun_s = prelux_s3_time(text);
  if (strcmp(outer, "Upload") == 0 && strcmp(name, "ChecksumAlgorithm") == 0)
    p->now.crc = strcasecmp(text, "CRC32C") == 0;
  if (outer[0])
    return 0;
  if (strcmp(name, "IsTruncated") == 0)
    p->truncated = strcmp(text, "true") == 0;
  if (strcmp(name, "EncodingType") == 0)
    p->encoded = strcmp(text, "url") == 0;
  if (strcmp(name, "NextKeyMarker") == 0)
    return set_text(p->next_key, sizeof(p->next_key), text);
  return strcmp(name, "NextUploadIdMarker") == 0 ? set_text(p->next_id, sizeof(p->next_id), text) : 0;
}

/* As in listings: that of forms. In place. */
static int decode(char *s)
{
  for (char *c = s; *c; c++)
    if (*c == '+')
      *c = ' ';
  long n = prelux_url_decode(s, strlen(s) + 1, s, strlen(s));
  return n < 0 ? -EPROTO : 0;
}

static int page_decode(struct page *p)
{
  int rc = 0;
  for (size_t i = 0; p->encoded && i < p->n && rc == 0; i++)
    rc = decode(p->items[i].key);
  return p->encoded && rc == 0 ? decode(p->next_key) : rc;
}

/* A document of S3 by GET, its fields to `add`. *ret_now_s: the server's clock. */
static int get_fields(struct prelux_s3 *s, const char *key, const char *query, const char *root, prelux_s3_field_fn add,
                      void *arg, int64_t *ret_now_s, struct prelux_problem *why)
{
  char found[PRELUX_S3_NAME_MAX];
  struct prelux_net_answer a;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_LISTS, .key = key, .query = query, .max_body = PAGE_BYTES};
  int rc = prelux_s3_call(s, &ask, &a, why);
  if (rc == 0 && a.status != 200)
    rc = prelux_s3_refused(s, &ask, &a, why);
  else if (rc == 0 && (rc = prelux_s3_fields(a.body, a.body_len, found, add, arg)) == 0 && strcmp(found, root) != 0)
    rc = -EPROTO;
  if (rc == -EPROTO || rc == -ENOMEM)
    prelux_problem(why, -rc, "a list of uploads that cannot be read");
  int64_t date = prelux_http_date(a.date) / 1000000000;
  *ret_now_s = date ? date : (int64_t)time(NULL);
  prelux_net_answer_free(&a);
  return rc;
}

static int fetch(struct prelux_s3 *s, const char *prefix, struct page *p, int64_t *ret_now_s,
                 struct prelux_problem *why)
{
  const struct
  {
    const char *name, *value;
  } rows[] = {{"encoding-type", "url"},
              {"key-marker", p->next_key[0] ? p->next_key : NULL},
              {"prefix", prefix[0] ? prefix : NULL},
              {"upload-id-marker", p->next_id[0] ? p->next_id : NULL},
              {"uploads", ""}};
  char *query = calloc(1, PRELUX_URL_MAX);
  int rc = query ? 0 : prelux_problem(why, ENOMEM, "no memory for a query");
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && rc == 0; i++)
    if (rows[i].value &&
        prelux_aws_query(query, PRELUX_URL_MAX - 512, rows[i].name, rows[i].value, strlen(rows[i].value)) < 0)
      rc = prelux_problem(why, EOPNOTSUPP, "a list of uploads cannot be asked for: too long");
  page_release(p);
  p->truncated = p->encoded = false;
  p->next_key[0] = p->next_id[0] = 0;
  if (rc == 0)
    rc = get_fields(s, NULL, query, "ListMultipartUploadsResult", on_upload_field, p, ret_now_s, why);
  if (rc == -ENXIO)
    rc = 0; /* so gofakes3 (rclone) says that there are none */
  free(query);
  return rc == 0 ? page_decode(p) : rc;
}

/* The last time something was sent into an upload. */

struct last
{
  int64_t at_s;
  bool truncated;
  char marker[24];
};

static int on_part_field(void *arg, const char *outer, const char *name, const char *text)
{
  struct last *l = arg;
  int64_t at = strcmp(outer, "Part") == 0 && strcmp(name, "LastModified") == 0 ? prelux_s3_time(text) : 0;
  l->at_s = at > l->at_s ? at : l->at_s;
  if (!outer[0] && strcmp(name, "IsTruncated") == 0)
    l->truncated = strcmp(text, "true") == 0;
  if (!outer[0] && strcmp(name, "NextPartNumberMarker") == 0)
    return set_text(l->marker, sizeof(l->marker), text);
  return 0;
}

/* 0 seconds or more; -ENXIO: it is gone. */
static int64_t idle(struct prelux_s3 *s, const struct one_upload *u, int64_t now_s, struct prelux_problem *why)
{
  char query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 128], seen[24] = "";
  struct last l = {.at_s = u->begun_s};
  int rc = 0;
  for (unsigned i = 0; rc == 0 && i <= PRELUX_S3_PARTS_MAX / 1000; i++)
  {
    query[0] = 0;
    l.truncated = false;
    if ((l.marker[0] && prelux_aws_query(query, sizeof(query), "part-number-marker", l.marker, strlen(l.marker)) < 0) ||
        prelux_aws_query(query, sizeof(query), "uploadId", u->id, strlen(u->id)) < 0)
      return prelux_problem(why, EOPNOTSUPP, "the id of an upload is too long");
    rc = get_fields(s, u->key, query, "ListPartsResult", on_part_field, &l, &now_s, why);
    if (!l.truncated || strcmp(seen, l.marker) == 0)
      break;
    memcpy(seen, l.marker, sizeof(seen));
  }
  return rc < 0 ? (rc == -ENOENT ? -ENXIO : rc) : now_s > l.at_s ? now_s - l.at_s : 0;
}

/* All uploads of an object, or below a folder. */

typedef int (*each_fn)(void *arg, const struct one_upload *u, const char *path, int64_t now_s);

/* The path that a key stands for, if it is `wanted` or below it; else NULL. */
static const char *path_of(const struct prelux_s3 *s, const char *key, const char *wanted)
{
  size_t n = strlen(s->prefix), len = strlen(wanted);
  if (n && (strncmp(key, s->prefix, n) != 0 || key[n] != '/'))
    return NULL;
  key += n ? n + 1 : 0;
  if (len && (strncmp(key, wanted, len) != 0 || (key[len] && key[len] != '/')))
    return NULL;
  return key[0] ? key : NULL;
}

/* Of those whose keys begin with `prefix`. Number of uploads that the server named. */
static int each_of(struct prelux_s3 *s, const char *prefix, const char *path, each_fn call, void *arg, struct page *p,
                   struct prelux_problem *why)
{
  char seen[PRELUX_S3_UPLOAD_ID_MAX] = "";
  int64_t now_s;
  int rc = 0, count = 0;
  for (unsigned n = 0; rc == 0; n++)
  {
    rc = fetch(s, prefix, p, &now_s, why);
    for (size_t i = 0; i < p->n && rc == 0; i++, count++)
    {
      const char *own = path_of(s, p->items[i].key, path);
      rc = own ? call(arg, &p->items[i], own, now_s) : 0;
    }
    if (rc < 0 || !p->truncated)
      break;
    if (n == PAGES_MAX || !p->next_key[0] || (p->next_id[0] && strcmp(seen, p->next_id) == 0))
      rc = prelux_problem(why, EPROTO, "the list of uploads has no end");
    memcpy(seen, p->next_id, sizeof(seen));
  }
  page_release(p);
  return rc < 0 ? rc : count;
}

/* MinIO takes a prefix for the whole name of an object: where nothing is said of a folder, all are gone through. */
static int each(struct prelux_s3 *s, const char *path, each_fn call, void *arg, struct prelux_problem *why)
{
  struct page *p = calloc(1, sizeof(*p));
  char *prefix = malloc(PRELUX_S3_KEY_MAX);
  int rc = p && prefix ? 0 : prelux_problem(why, ENOMEM, "no memory for a list of uploads");
  if (rc == 0)
    rc = (int)prelux_s3_key(s, path, !path[0], prefix, why) < 0 ? -EOPNOTSUPP : 0;
  if (rc == 0)
    rc = each_of(s, prefix, path, call, arg, p, why);
  if (rc == 0 && prefix[0])
    rc = each_of(s, "", path, call, arg, p, why);
  free(p);
  free(prefix);
  return rc < 0 ? rc : 0;
}

struct telling
{
  struct prelux_s3 *s;
  prelux_upload_fn add;
  void *arg;
  struct prelux_problem *why;
};

static int tell(void *arg, const struct one_upload *u, const char *path, int64_t now_s)
{
  struct telling *t = arg;
  char token[PRELUX_TOKEN_MAX];
  int64_t idle_s = idle(t->s, u, now_s, t->why);
  if (idle_s == -ENXIO)
    return 0;
  int rc = idle_s < 0 ? (int)idle_s : prelux_s3_token(u->key, u->id, u->crc, token, t->why);
  return rc < 0 ? rc : t->add(t->arg, path, token, (uint64_t)idle_s);
}

int prelux_s3_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                      struct prelux_problem *why)
{
  struct telling t = {.s = (struct prelux_s3 *)b, .add = add, .arg = arg, .why = why};
  return each(t.s, path, tell, &t, why);
}

/* clean */

struct sweeping
{
  struct prelux_s3 *s;
  uint64_t idle_s;
  int removed;
  struct prelux_problem *why;
};

static int sweep(void *arg, const struct one_upload *u, const char *path, int64_t now_s)
{
  struct sweeping *w = arg;
  int64_t age_s = now_s > u->begun_s ? now_s - u->begun_s : 0;
  if ((uint64_t)age_s < w->idle_s)
    return 0; /* spares asking for its parts */
  int64_t idle_s = w->idle_s ? idle(w->s, u, now_s, w->why) : age_s;
  if (idle_s == -ENXIO || (idle_s >= 0 && (uint64_t)idle_s < w->idle_s))
    return 0;
  int rc = idle_s < 0 ? (int)idle_s : prelux_s3_upload_abort(w->s, u->key, u->id, w->why);
  w->removed += rc == 0;
  return rc;
}

/* What `able` has left when it was killed: the time stands in the name. */
static int sweep_probes(struct sweeping *w)
{
  struct prelux_s3_page *page = NULL;
  struct prelux_s3_entry e;
  char *prefix, key[PRELUX_S3_KEY_MAX];
  if (asprintf(&prefix, "%s%s" PROBE, w->s->prefix, w->s->prefix[0] ? "/" : "") < 0)
    return prelux_problem(w->why, ENOMEM, "no memory for a key");
  size_t len = strlen(prefix);
  int rc = prelux_s3_first_keys(w->s, prefix, "1000", &page, w->why);
  for (size_t i = 0; rc == 0 && i < prelux_s3_page_count(page); i++)
  {
    prelux_s3_page_entry(page, i, &e);
    int64_t age_s = e.key_len > len ? (int64_t)time(NULL) - (int64_t)strtoll(e.key + len, NULL, 16) : -1;
    if (e.key_len <= len || e.key_len >= sizeof(key) || memcmp(e.key, prefix, len) != 0 || age_s < (int64_t)w->idle_s)
      continue;
    snprintf(key, sizeof(key), "%.*s", (int)e.key_len, e.key);
    struct prelux_net_answer a;
    struct prelux_s3_ask ask = {.kind = PRELUX_S3_DELETES, .key = key};
    rc = prelux_s3_harmless(w->s, &ask, &a, w->why);
    prelux_net_answer_free(&a);
    w->removed += rc == 0;
  }
  prelux_s3_page_free(page);
  free(prefix);
  return rc;
}

int prelux_s3_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct sweeping w = {.s = (struct prelux_s3 *)b, .idle_s = idle_s, .why = why};
  int rc = each(w.s, path, sweep, &w, why);
  if (rc == 0 && !path[0])
    rc = sweep_probes(&w);
  return rc < 0 ? rc : w.removed;
}
