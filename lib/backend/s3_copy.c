/* Backend `s3`, writing: copies within the remote, and rename, which is a copy and then a removal.
 *
 * A copy without a condition on its target is one CopyObject (metadata goes along), guarded by the source's ETag. S3
 * copies at most 5 GiB so, takes minutes for it, and few servers keep a condition on the target of a copy: what is
 * larger than COPY_WHOLE_MAX, or conditional, becomes an upload whose parts the server copies from ranges of the
 * source, each guarded by its ETag, and which `complete` ends under the condition. Its metadata is taken over by us;
 * tags and rights are not. A server that does not know copied parts stores empty ones and says 200 (rclone): the
 * document that it does not send tells.
 *
 * Rename removes the old name under the condition that it is still what was copied, where the server keeps that. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/backend/http_version.h"
#include "lib/backend/s3_write.h"

#define COPY_WHOLE_MAX (UINT64_C(1) << 30)
#define COPY_PART (UINT64_C(512) << 20)
#define METADATA_MAX 100 /* header lines */
#define QUERY_BYTES (PRELUX_S3_UPLOAD_ID_MAX * 3 + 64)

struct copying
{
  struct prelux_s3 *s;
  char *key, *source;                  /* of the target; "x-amz-copy-source: /BUCKET/KEY" */
  char match[PRELUX_S3_ETAG_MAX + 64]; /* "x-amz-copy-source-if-match: ETAG", "" when it has none */
  struct prelux_object from;
  char *head; /* the source's header lines, cut into metadata[] */
  const char *metadata[METADATA_MAX + 1];
  struct prelux_s3_guard guard;
  struct prelux_problem *why;
};

static void copying_release(struct copying *c)
{
  free(c->key);
  free(c->source);
  free(c->head);
}

/* The header lines that make the metadata of an object. Cuts `head` apart. */
static void take_metadata(struct copying *c)
{
  static const char *const names[] = {
      "content-type:",     "cache-control:", "content-disposition:", "content-encoding:",
      "content-language:", "expires:",       "x-amz-meta-",          "x-amz-website-redirect-location:"};
  size_t n = 0;
  char *save = NULL;
  for (char *line = c->head ? strtok_r(c->head, "\r\n", &save) : NULL; line; line = strtok_r(NULL, "\r\n", &save))
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
      if (n < METADATA_MAX && strchr(line, ':') && strncasecmp(line, names[i], strlen(names[i])) == 0)
      {
        c->metadata[n++] = line;
        break;
      }
  c->metadata[n] = NULL;
}

/* What the key of the source is now. -ENOENT when it is no object (a folder, perhaps). */
static int look_at_source(struct copying *c, const char *key)
{
  struct prelux_net_answer a;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_HEADS, .key = key};
  int rc = prelux_s3_call(c->s, &ask, &a, c->why);
  if (rc == 0 && (a.status != 200 || a.content_length == UINT64_MAX))
    rc = prelux_s3_refused(c->s, &ask, &a, c->why);
  if (rc == 0)
  {
    prelux_s3_file_of(c->s, &a, a.content_length, &c->from);
    if (c->from.version[0] == 'e' && !atomic_load_explicit(&c->s->bare_etags, memory_order_relaxed))
      snprintf(c->match, sizeof(c->match), "x-amz-copy-source-if-match: %s", a.etag);
    c->head = a.head ? strdup(a.head) : NULL;
    take_metadata(c);
  }
  prelux_net_answer_free(&a);
  return rc;
}

/* Finds the source and the key of the target. */
static int open_copy(struct copying *c, const char *from, const char *to)
{
  char *key = malloc(PRELUX_S3_KEY_MAX);
  struct prelux_object seen;
  c->key = malloc(PRELUX_S3_KEY_MAX);
  c->source = malloc(PRELUX_S3_KEY_MAX * 3);
  int rc = key && c->key && c->source ? c->s->base.ops->stat(&c->s->base, from, &seen, c->why)
                                      : prelux_problem(c->why, ENOMEM, "no memory for a key");
  if (rc == 0 && seen.type == PRELUX_DIR)
    rc = prelux_problem(c->why, EISDIR, "%.200s is a folder", from);
  if (rc == 0)
    rc = prelux_s3_writable(c->s, to, false, c->key, c->why);
  if (rc == 0)
    rc = (int)prelux_s3_key(c->s, from, false, key, c->why) < 0 ? -EOPNOTSUPP : look_at_source(c, key);
  if (rc == 0)
  {
    int n = sprintf(c->source, "x-amz-copy-source: /%s/", c->s->bucket);
    if (prelux_url_encode(c->source + n, PRELUX_S3_KEY_MAX * 3 - (size_t)n, key, strlen(key)) < 0)
      rc = prelux_problem(c->why, EOPNOTSUPP, "%.200s: too long a name to be copied", from);
  }
  free(key);
  return rc;
}

/* 412 to a copy is about its source; the condition on the target comes with `complete`. */
static const struct prelux_s3_guard of_source = {.unmet = ESTALE};

static int copy_whole(struct copying *c, struct prelux_object *ret)
{
  struct prelux_net_answer a;
  const char *headers[] = {c->source, c->match[0] ? c->match : NULL, NULL};
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_PUTS, .key = c->key, .headers = headers, .stall_s = PRELUX_S3_SLOW_S};
  int rc = prelux_s3_change(c->s, &ask, &of_source, &a, c->why);
  if (rc == 0 && prelux_s3_etag_of(&a, "CopyObjectResult") < 0)
    rc = prelux_s3_unknown(c->s, c->key, "the server's answer to a copy makes no sense", c->why);
  if (rc == 0)
  {
    prelux_s3_made(c->s, &a, c->from.size, ret);
    if (ret->md5[0] && c->from.md5[0] && !c->s->no_md5 && strcmp(ret->md5, c->from.md5) != 0)
      rc = prelux_s3_unknown(c->s, c->key, "something else was copied: the source changed meanwhile", c->why);
  }
  prelux_net_answer_free(&a);
  return rc;
}

/* Nothing is to be copied of an empty object, and an upload has no empty part. */
static int put_empty(struct copying *c, struct prelux_object *ret)
{
  struct prelux_net_answer a;
  const char *headers[METADATA_MAX + 2];
  size_t n = 0;
  for (; c->metadata[n]; n++)
    headers[n] = c->metadata[n];
  if (c->guard.header[0])
    headers[n++] = c->guard.header;
  headers[n] = NULL;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_PUTS, .key = c->key, .headers = headers};
  int rc = prelux_s3_change(c->s, &ask, &c->guard, &a, c->why);
  if (rc == 0)
    prelux_s3_made(c->s, &a, 0, ret);
  prelux_net_answer_free(&a);
  return rc;
}

static int copy_part(struct copying *c, const char *id, size_t number, uint64_t off, uint64_t len,
                     const char **ret_etag)
{
  char query[QUERY_BYTES], range[96];
  struct prelux_net_answer a;
  snprintf(range, sizeof(range), "x-amz-copy-source-range: bytes=%" PRIu64 "-%" PRIu64, off, off + len - 1);
  const char *headers[4] = {c->source};
  size_t n = 1;
  if (len != c->from.size)
    headers[n++] = range;
  if (c->match[0])
    headers[n++] = c->match;
  int rc = prelux_s3_upload_query(query, sizeof(query), number, id, c->why);
  if (rc < 0)
    return rc;
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_PUTS, .key = c->key, .query = query, .headers = headers, .stall_s = PRELUX_S3_SLOW_S};
  rc = prelux_s3_harmless(c->s, &ask, &a, c->why);
  if (rc == 0 && prelux_s3_etag_of(&a, "CopyPartResult") < 0)
    rc = prelux_problem(c->why, EOPNOTSUPP, "this server cannot copy ranges of an object");
  if (rc == 0)
  {
    prelux_s3_quote_etag(a.etag, sizeof(a.etag));
    size_t etag_len = strlen(a.etag);
    *ret_etag = etag_len > 2 && !strpbrk(a.etag, "<>&") ? strndup(a.etag + 1, etag_len - 2) : NULL;
    rc = *ret_etag ? 0 : prelux_problem(c->why, EPROTO, "a part was copied and no ETag told that names it");
  }
  prelux_net_answer_free(&a);
  return rc;
}

static int copy_parts(struct copying *c, struct prelux_object *ret)
{
  uint64_t part = COPY_PART;
  while (c->from.size / part >= PRELUX_S3_PARTS_MAX)
    part *= 2;
  size_t n = (size_t)((c->from.size + part - 1) / part);
  char id[PRELUX_S3_UPLOAD_ID_MAX];
  struct prelux_s3_sent *parts = calloc(n, sizeof(*parts));
  int rc = parts ? prelux_s3_upload_begin(c->s, c->key, c->metadata, id, c->why)
                 : prelux_problem(c->why, ENOMEM, "no memory for parts");
  bool begun = rc == 0;
  for (size_t i = 0; i < n && rc == 0; i++)
  {
    uint64_t off = i * part, left = c->from.size - off;
    rc = copy_part(c, id, i + 1, off, left < part ? left : part, &parts[i].etag);
  }
  if (rc == 0)
    rc = prelux_s3_upload_complete(c->s, c->key, id, parts, n, c->from.size, &c->guard, ret, c->why);
  if (begun && rc < 0 && rc != -PRELUX_EUNKNOWN)
    prelux_s3_upload_abort(c->s, c->key, id, NULL); /* what stays `clean` finds */
  for (size_t i = 0; parts && i < n; i++)
    free((char *)parts[i].etag);
  free(parts);
  return rc;
}

static int copy_it(struct copying *c, struct prelux_object *ret)
{
  bool any = !c->guard.header[0], whole = c->from.size <= COPY_WHOLE_MAX || !c->match[0];
  if (any && whole)
    return copy_whole(c, ret);
  if (!c->match[0])
    return prelux_problem(c->why, EOPNOTSUPP, "an object without an ETag cannot be copied in parts");
  int rc = c->from.size ? copy_parts(c, ret) : put_empty(c, ret);
  return rc == -EOPNOTSUPP && any && c->from.size <= PRELUX_S3_PUT_MAX ? copy_whole(c, ret) : rc;
}

/* The condition on the target. */
static int open_target(struct copying *c, const char *to, const struct prelux_condition *cond)
{
  int rc = prelux_s3_guard(c->s, cond, PRELUX_CAP_PUT_VERSION, &c->guard, c->why);
  return rc < 0 ? rc : prelux_s3_no_folder(c->s, to, cond, c->why);
}

/* Onto itself: there is nothing to do, but the condition must hold. */
static int copy_onto_itself(struct copying *c, const struct prelux_condition *cond, struct prelux_object *ret)
{
  if (cond->must == PRELUX_MUST_BE_ABSENT)
    return prelux_problem(c->why, EEXIST, "the object is there");
  if (cond->must == PRELUX_MUST_BE_VERSION && strcmp(cond->version, c->from.version) != 0)
    return prelux_problem(c->why, ESTALE, "the object is not of that version");
  *ret = c->from;
  return 0;
}

int prelux_s3_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                   const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct copying c = {.s = (struct prelux_s3 *)b, .why = why};
  struct prelux_object made = {0};
  int rc = prelux_s3_needs(c.s, PRELUX_CAP_WRITE | PRELUX_CAP_COPY, "copies of one version", why);
  if (rc == 0 && (!from[0] || !to[0]))
    rc = prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0)
    rc = open_copy(&c, from, to);
  if (rc == 0 && source_version[0] && strcmp(source_version, c.from.version) != 0)
    rc = prelux_problem(why, ESTALE, "%.200s changed (was %.80s, is %.80s)", from, source_version, c.from.version);
  if (rc == 0 && source_version[0] && !c.match[0])
    rc = prelux_problem(why, EOPNOTSUPP, "%.200s has no ETag that a copy could be tied to", from);
  if (rc == 0 && strcmp(from, to) == 0)
    rc = copy_onto_itself(&c, &how->cond, &made);
  else if (rc == 0 && (rc = open_target(&c, to, &how->cond)) == 0)
    rc = copy_it(&c, &made);
  if (rc == 0)
    *ret = made;
  copying_release(&c);
  return rc;
}

/* Rename */

static int check_rename(struct prelux_s3 *s, const char *from, const char *to, unsigned flags,
                        struct prelux_problem *why)
{
  if ((flags & PRELUX_RENAME_NOREPLACE) && (flags & PRELUX_RENAME_EXCHANGE))
    return prelux_problem(why, EINVAL, "rename: both NOREPLACE and EXCHANGE");
  if (flags & ~(unsigned)PRELUX_RENAME_NOREPLACE)
    return prelux_problem(why, EOPNOTSUPP, "rename: S3 cannot exchange two names");
  if (!from[0] || !to[0])
    return prelux_problem(why, EBUSY, "the root cannot be renamed");
  unsigned caps = PRELUX_CAP_WRITE | PRELUX_CAP_RENAME_FILE;
  return prelux_s3_needs(s, flags ? caps | PRELUX_CAP_RENAME_NOREPLACE : caps, "such a rename", why);
}

/* The copy is made: whatever goes wrong now leaves both names. */
static int remove_old(struct copying *c, const char *from)
{
  struct prelux_able able;
  struct prelux_problem own = {0};
  struct prelux_condition cond = {.must = PRELUX_MUST_NOTHING};
  struct prelux_backend *b = &c->s->base;
  struct prelux_object now;
  if (prelux_s3_able(b, &able, NULL) == 0 && (able.caps & PRELUX_CAP_REMOVE_VERSION) && c->match[0])
  {
    cond.must = PRELUX_MUST_BE_VERSION;
    memcpy(cond.version, c->from.version, sizeof(cond.version));
  }
  else if (c->from.version[0] == 'e' && b->ops->stat(b, from, &now, NULL) == 0 &&
           strcmp(now.version, c->from.version) != 0)
  {
    return 0; /* the best that can be had of such a server: what comes after this look is lost */
  }
  int rc = prelux_s3_remove(b, from, &cond, &own);
  if (rc == 0 || rc == -ENOENT || rc == -ESTALE)
    return 0; /* somebody has removed it, or put another there since: that one is not ours to remove */
  return prelux_s3_unknown(c->s, c->key, own.text, c->why);
}

int prelux_s3_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                     struct prelux_object *ret, struct prelux_problem *why)
{
  struct copying c = {.s = (struct prelux_s3 *)b, .why = why};
  struct prelux_condition cond = {.must = flags ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING};
  struct prelux_object made = {0};
  int rc = check_rename(c.s, from, to, flags, why);
  if (rc == 0 && (rc = open_copy(&c, from, to)) == -EISDIR)
    rc = prelux_problem(why, EXDEV, "%.200s is a folder: S3 can only copy what lies below it", from);
  if (rc == 0 && strcmp(from, to) == 0)
  {
    rc = copy_onto_itself(&c, &cond, &made);
  }
  else if (rc == 0)
  {
    rc = open_target(&c, to, &cond);
    if (rc == 0)
      rc = copy_it(&c, &made);
    if (rc == -ESTALE)
      rc = prelux_problem(why, EBUSY, "%.200s changes all the time", from);
    if (rc == 0)
      rc = remove_old(&c, from);
  }
  if (rc == 0)
    *ret = made;
  copying_release(&c);
  return rc;
}
