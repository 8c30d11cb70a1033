/* Backend `s3`, writing: uploads in parts.
 *
 * The token of an upload is its id at the server, and a hash over id and key before it: a token of another object, or
 * one that a journal spoiled, is refused here and not left to the server. A part's tag holds its number, its length,
 * its CRC-32C where it went with one, and its ETag, so that `complete` can see that the parts fit together: all of one
 * length but the last. The size of parts is not in the token: the listing of uploads could not say it, and the tokens
 * of `begin` and `uploads` are to be equal. (Where a server does not list the checksum, as MinIO, the token of
 * `uploads` is good for abort only.)
 *
 * Each part goes with its Content-MD5 and comes back as its ETag, or with its SHA-256 signed, or with its CRC-32C
 * (s3_digest.c). The last must be said when an upload is begun, of each part, and once more of all of them when it is
 * completed; the token says it, too. Sending a part, beginning and aborting are harmless when done twice, so lost
 * answers are asked for again; an upload that was begun twice leaves one that `clean` finds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/s3_fields.h"
#include "lib/backend/s3_write.h"

#define QUERY_BYTES (PRELUX_S3_UPLOAD_ID_MAX * 3 + 64)
#define ETAG_BYTES 56 /* of a part, so that its tag holds it */

/* Tokens */

#define PLAIN '.'
#define WITH_CRC '+'

static uint64_t mark(const char *key, const char *id, bool crc)
{
  return XXH3_64bits_withSeed(id, strlen(id), XXH3_64bits(key, strlen(key)) + crc);
}

int prelux_s3_token(const char *key, const char *id, bool crc, char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  for (const char *c = id; *c; c++)
    if (*c <= ' ' || *c >= 0x7f)
      return prelux_problem(why, EPROTO, "the id of an upload holds a blank or control character");
  int n = snprintf(token, PRELUX_TOKEN_MAX, "%016" PRIx64 "%c%s", mark(key, id, crc), crc ? WITH_CRC : PLAIN, id);
  return n < PRELUX_TOKEN_MAX && id[0] ? n : prelux_problem(why, EPROTO, "no id of an upload, or one that is too long");
}

/* An upload that a token names. */
struct open
{
  char *key;      /* free it in any case */
  const char *id; /* within the token */
  bool crc;
};

static int read_token(struct open *u, const char *token, struct prelux_problem *why)
{
  char own[PRELUX_TOKEN_MAX];
  bool formed = strlen(token) < PRELUX_TOKEN_MAX && strspn(token, "0123456789abcdef") == 16 &&
                (token[16] == PLAIN || token[16] == WITH_CRC) && token[17];
  u->crc = formed && token[16] == WITH_CRC;
  if (!formed || prelux_s3_token(u->key, token + 17, u->crc, own, NULL) < 0 || strcmp(own, token) != 0)
    return prelux_problem(why, ENXIO, "no such upload of this object");
  u->id = token + 17;
  return 0;
}

int prelux_s3_upload_query(char *out, size_t cap, size_t number, const char *id, struct prelux_problem *why)
{
  char text[24];
  snprintf(text, sizeof(text), "%zu", number);
  out[0] = 0;
  if ((number && prelux_aws_query(out, cap, "partNumber", text, strlen(text)) < 0) ||
      prelux_aws_query(out, cap, "uploadId", id, strlen(id)) < 0)
    return prelux_problem(why, EOPNOTSUPP, "the id of an upload is too long");
  return 0;
}

/* Requests */

int prelux_s3_upload_begin(struct prelux_s3 *s, const char *key, const char *const *headers,
                           char id[PRELUX_S3_UPLOAD_ID_MAX], struct prelux_problem *why)
{
  static const char *const plain[] = {"Content-Type: application/octet-stream", NULL};
  /* gofakes3 (rclone) calls its document otherwise than S3 */
  static const char *const roots[] = {"InitiateMultipartUploadResult", "InitiateMultipartUpload"};
  struct prelux_net_answer a;
  struct prelux_s3_ask ask = {
      .kind = PRELUX_S3_POSTS, .key = key, .query = "?uploads=", .headers = headers ? headers : plain};
  int rc = prelux_s3_harmless(s, &ask, &a, why), found = -EPROTO;
  for (size_t i = 0; rc == 0 && i < 2 && found < 0; i++)
    found = prelux_s3_field(a.body, a.body_len, roots[i], "UploadId", id, PRELUX_S3_UPLOAD_ID_MAX);
  if (rc == 0 && (found < 0 || !id[0]))
    rc = prelux_problem(why, EPROTO, "an upload was begun and no id of it told");
  prelux_net_answer_free(&a);
  return rc;
}

int prelux_s3_upload_abort(struct prelux_s3 *s, const char *key, const char *id, struct prelux_problem *why)
{
  char query[QUERY_BYTES];
  struct prelux_net_answer a;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_DELETES, .key = key, .query = query};
  int rc = prelux_s3_upload_query(query, sizeof(query), 0, id, why);
  if (rc < 0)
    return rc;
  rc = prelux_s3_harmless(s, &ask, &a, why);
  prelux_net_answer_free(&a);
  return rc == -ENXIO || rc == -ENOENT ? 0 : rc;
}

char *prelux_s3_parts_document(const struct prelux_s3_sent *parts, size_t n)
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    return NULL;
  fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", f);
  for (size_t i = 0; i < n; i++)
  {
    fprintf(f, "<Part><PartNumber>%zu</PartNumber><ETag>&quot;%s&quot;</ETag>", i + 1, parts[i].etag);
    if (parts[i].crc[0])
      fprintf(f, "<ChecksumCRC32C>%s</ChecksumCRC32C>", parts[i].crc);
    fputs("</Part>", f);
  }
  fputs("</CompleteMultipartUpload>", f);
  if (fclose(f) != 0)
  {
    free(text);
    return NULL;
  }
  return text;
}

int prelux_s3_upload_complete(struct prelux_s3 *s, const char *key, const char *id, const struct prelux_s3_sent *parts,
                              size_t n, uint64_t size, const struct prelux_s3_guard *guard, struct prelux_object *ret,
                              struct prelux_problem *why)
{
  char query[QUERY_BYTES], *body = prelux_s3_parts_document(parts, n);
  struct prelux_net_answer a = {0};
  const char *headers[] = {"Content-Type: application/xml", guard->header[0] ? guard->header : NULL, NULL};
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_POSTS,
                              .key = key,
                              .query = query,
                              .headers = headers,
                              .body = body,
                              .stall_s = PRELUX_S3_SLOW_S};
  int rc = body ? prelux_s3_upload_query(query, sizeof(query), 0, id, why)
                : prelux_problem(why, ENOMEM, "no memory for parts");
  if (rc == 0)
    rc = prelux_s3_change(s, &ask, guard, &a, why);
  if (rc == 0 && prelux_s3_etag_of(&a, "CompleteMultipartUploadResult") < 0)
    rc = prelux_s3_unknown(s, key, "the server's answer to the end of an upload makes no sense", why);
  if (rc == 0)
    prelux_s3_made(s, &a, size, ret);
  prelux_net_answer_free(&a);
  free(body);
  return rc;
}

/* Ops */

int prelux_s3_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                    char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  static const char *const with_crc[] = {"Content-Type: application/octet-stream", PRELUX_S3_CRC_UPLOAD, PRELUX_S3_CRC_WHOLE, NULL};
  const struct prelux_condition any = {.must = PRELUX_MUST_NOTHING};
  char *key = malloc(PRELUX_S3_KEY_MAX), id[PRELUX_S3_UPLOAD_ID_MAX], own[PRELUX_TOKEN_MAX];
  int rc = key ? prelux_s3_needs(s, PRELUX_CAP_WRITE | PRELUX_CAP_MULTIPART, "uploads in parts", why)
               : prelux_problem(why, ENOMEM, "no memory for a key");
  if (rc == 0 && !path[0])
    rc = prelux_problem(why, EISDIR, "the root is a folder");
  if (rc == 0 && (part_size < PRELUX_S3_PART_MIN || part_size > PRELUX_S3_PART_MAX))
    rc = prelux_problem(why, EINVAL, "%.200s: parts of %" PRIu64 " bytes", path, part_size);
  if (rc == 0)
    rc = prelux_s3_writable(s, path, false, key, why);
  if (rc == 0)
    rc = prelux_s3_no_folder(s, path, &any, why);
  bool crc = atomic_load(&s->checks_crc);
  if (rc == 0)
    rc = prelux_s3_upload_begin(s, key, crc ? with_crc : NULL, id, why);
  if (rc == 0 && (rc = prelux_s3_token(key, id, crc, own, why)) >= 0)
  {
    strcpy(token, own);
    rc = 0;
  }
  free(key);
  return rc;
}

static int open_upload(struct prelux_s3 *s, const char *path, const char *token, struct open *ret,
                       struct prelux_problem *why)
{
  *ret = (struct open){.key = malloc(PRELUX_S3_KEY_MAX)};
  if (!ret->key)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  long n = prelux_s3_key(s, path, false, ret->key, why);
  return n < 0 ? (int)n : read_token(ret, token, why);
}

/* 1: what arrived is not what was sent. */
static int send_part(struct prelux_s3 *s, const struct prelux_s3_ask *base, struct prelux_net_upload *upload, bool crc,
                     struct prelux_s3_digest *digest, char etag[PRELUX_S3_ETAG_MAX], struct prelux_problem *why)
{
  static const char *const lacks[] = {"InvalidRequest", "MissingContentMD5", "InvalidDigest", NULL};
  struct prelux_net_answer a;
  struct prelux_object stored;
  int rc = prelux_s3_digest_part(s, upload->fd, upload->off, upload->len, crc, digest, why);
  if (rc < 0)
    return rc;
  const char *headers[] = {digest->header[0] ? digest->header : NULL, NULL};
  struct prelux_s3_ask ask = *base;
  ask.headers = headers;
  ask.upload = upload;
  ask.payload = digest->payload;
  rc = prelux_s3_harmless(s, &ask, &a, why);
  bool bare = rc < 0 && a.status == 400 && !digest->header[0] && prelux_s3_says(&a, lacks);
  if (bare)
    atomic_store(&s->wants_md5, true);
  if (bare || (rc < 0 && prelux_s3_says_damaged(&a)))
    rc = 1;
  if (rc == 0)
  {
    prelux_s3_file_of(s, &a, upload->len, &stored); /* quotes the ETag */
    size_t n = strlen(a.etag);
    if (!prelux_s3_digest_agrees(s, digest, &stored) || prelux_s3_digest_denied(digest, &a))
      rc = 1;
    else if (n < 3 || n - 2 > ETAG_BYTES || strpbrk(a.etag + 1, "<>& ") || a.etag[0] != '"')
      rc = prelux_problem(why, EPROTO, "a part was taken and no ETag told that names it");
    else
      snprintf(etag, PRELUX_S3_ETAG_MAX, "%.*s", (int)(n - 2), a.etag + 1);
  }
  prelux_net_answer_free(&a);
  return rc;
}

int prelux_s3_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                   uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_net_upload upload = {.fd = fd, .off = off, .len = len};
  char query[QUERY_BYTES], etag[PRELUX_S3_ETAG_MAX];
  struct open u;
  struct prelux_s3_digest digest;
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_PUTS, .query = query};
  int rc = open_upload(s, path, token, &u, why);
  ask.key = u.key;
  if (rc == 0 && (len == 0 || len > PRELUX_S3_PART_MAX || n >= PRELUX_S3_PARTS_MAX))
    rc = prelux_problem(why, EINVAL, "%.200s: part %u of %" PRIu64 " bytes", path, n, len);
  if (rc == 0)
    rc = prelux_s3_upload_query(query, sizeof(query), n + 1, u.id, why);
  for (int i = 0; rc == 0 && i < PRELUX_S3_TRIES; i++)
  {
    rc = send_part(s, &ask, &upload, u.crc, &digest, etag, why);
    if (rc == 0)
    {
      snprintf(tag, PRELUX_TAG_MAX, "%u-%" PRIx64 "%s%.6s-%.*s", n, len, u.crc ? "+" : "", digest.crc, ETAG_BYTES,
               etag);
      break;
    }
    rc = rc == 1 && i + 1 < PRELUX_S3_TRIES ? 0 : rc;
  }
  if (rc == 1)
    rc = prelux_problem(why, EIO, "%.200s: part %u does not arrive as it was sent, %d times", path, n, PRELUX_S3_TRIES);
  free(u.key);
  return rc == -ENOENT ? -ENXIO : rc;
}

/* What stands in a tag, its ETag within it; 0, or -EINVAL: not the tag of part n. */
static int read_tag(const struct prelux_part *part, size_t n, uint64_t *ret_len, struct prelux_s3_sent *ret)
{
  char *end;
  if (part->n != n || strtoull(part->tag, &end, 10) != n || *end != '-' || end == part->tag)
    return -EINVAL;
  *ret_len = strtoull(end + 1, &end, 16);
  ret->crc[0] = 0;
  if (*end == '+' && strlen(end) > 7)
  {
    snprintf(ret->crc, sizeof(ret->crc), "%.6s==", end + 1);
    end += 7;
  }
  ret->etag = end + 1;
  return *end == '-' && end[1] && *ret_len && !strpbrk(part->tag, "<>&\" ") ? 0 : -EINVAL;
}

/* All of one length but the last, which may be shorter; together `size` bytes; with a CRC each, or none. */
static int read_parts(const char *path, const struct prelux_part *parts, size_t n, uint64_t size, bool crc,
                      struct prelux_s3_sent *ret, struct prelux_problem *why)
{
  uint64_t sum = 0, len = 0, first = 0;
  for (size_t i = 0; i < n; i++)
  {
    int rc = read_tag(&parts[i], i, &len, &ret[i]);
    first = i ? first : len;
    if (rc < 0 || (ret[i].crc[0] != 0) != crc || len > first || (i + 1 < n && len != first))
      return prelux_problem(why, EINVAL, "%.200s: part %zu does not belong there", path, i);
    sum += len;
  }
  if (n == 0 || n > PRELUX_S3_PARTS_MAX || sum != size)
    return prelux_problem(why, EINVAL, "%.200s: %zu parts of %" PRIu64 " bytes, for %" PRIu64, path, n, sum, size);
  return 0;
}

int prelux_s3_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts,
                       size_t n, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                       struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct prelux_s3_guard guard;
  struct prelux_object made = {0};
  struct prelux_s3_sent *sent = malloc((n + 1) * sizeof(*sent));
  struct open u;
  int rc = open_upload(s, path, token, &u, why);
  if (rc == 0 && !sent)
    rc = prelux_problem(why, ENOMEM, "no memory for parts");
  if (rc == 0)
    rc = read_parts(path, parts, n, size, u.crc, sent, why);
  if (rc == 0)
    rc = prelux_s3_guard(s, &how->cond, PRELUX_CAP_PUT_VERSION, &guard, why);
  if (rc == 0)
    rc = prelux_s3_no_folder(s, path, &how->cond, why);
  if (rc == 0)
    rc = prelux_s3_upload_complete(s, u.key, u.id, sent, n, size, &guard, &made, why);
  if (rc == 0)
    *ret = made;
  free(sent);
  free(u.key);
  return rc;
}

int prelux_s3_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  struct open u;
  int rc = open_upload(s, path, token, &u, why);
  if (rc == 0)
    rc = prelux_s3_upload_abort(s, u.key, u.id, why);
  free(u.key);
  return rc == -ENXIO ? 0 : rc;
}
