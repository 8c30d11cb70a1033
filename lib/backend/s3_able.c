/* What a server does of what S3 can do, found out by trying.
 *
 * Theory of operation. Conditions are headers, and a server that does not know them does as if they were not there:
 * what it answers to a put that must fail is the only proof. So before the first change one key of ours,
 * `.prelux~probe-TIME-RANDOM` beside the other keys, is put, put again under conditions that cannot hold, and removed
 * under one that cannot hold; the same is tried of an upload in parts, and of a copy; a part is sent whose signed
 * SHA-256 is not that of its bytes; and, where bytes may go unsigned, another upload is begun whose parts have their
 * CRC-32C with them: a part of another one must be refused, one of the right one be taken, and the upload completed
 * with it; and the object is put once more under a CRC-32C that is not its own, which must be refused, and one that is.
 * A server that keeps conditions makes nothing of all this but that one object, uploads and a folder's marker,
 * for moments; whatever another server makes of it is removed. Names that begin so are not shown and not taken (s3.c,
 * s3_list.c), and what a death leaves `clean` removes (s3_uploads.c).
 *
 * A trial cannot show that the look at a condition and the change are one step. Of servers that are known to do
 * otherwise a table says so, by the name that they give themselves.
 *
 * The first request is a DELETE: whoever may not delete there does not begin, for he could not clean up. Then only what
 * needs no proof is promised, and it is tried again later. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "lib/base/crc.h"
#include "lib/backend/s3_fields.h"
#include "lib/backend/s3_write.h"

#define NO_ETAG "\"00000000000000000000000000000000\""
#define WRONG "If-Match: " NO_ETAG
#define ABSENT "If-None-Match: *"
#define WITHOUT_PROOF (unsigned)(PRELUX_CAP_WRITE | PRELUX_CAP_MULTIPART | PRELUX_CAP_RENAME_FILE)
#define ASK_AGAIN_MS 300000 /* of somebody who was refused */

struct trial
{
  struct prelux_s3 *s;
  struct prelux_problem *why;
  char *key; /* of the object */
  char id[PRELUX_S3_UPLOAD_ID_MAX];
  char etag[PRELUX_S3_ETAG_MAX];
  char server[64]; /* as it calls itself */
  unsigned caps;
  bool copies_parts;
  bool checks_sha, checks_crc, checks_crc_put;
};

static const struct
{
  const char *server;
  unsigned never;
} known[] = {
    /* 1.8: DELETE compares the ETag before it takes the lock that puts hold; a put in between is removed */
    {"VERSITYGW", PRELUX_CAP_REMOVE_VERSION},
};

enum outcome
{
  KEPT,    /* refused, as the condition wants */
  IGNORED, /* done in spite of it */
  UNABLE   /* the server does not take such a request */
};

/* One request; its answer's status, or -errno. What is open is settled by asking again: 5xx at the end is -EIO. */
static int ask(struct trial *t, const struct prelux_s3_ask *request, struct prelux_net_answer *ret)
{
  int rc = prelux_s3_call(t->s, request, ret, t->why);
  if (rc == 0 && prelux_net_header(ret, "Server", t->server, sizeof(t->server)) < 0)
    t->server[0] = 0;
  if (rc == 0 && (ret->status >= 500 && ret->status != 501))
    rc = prelux_s3_refused(t->s, request, ret, t->why);
  return rc < 0 ? rc : ret->status;
}

/* What a request that must fail by its condition came to; -errno. */
static int judge(int status, const struct prelux_net_answer *a)
{
  static const char *const unmet[] = {"PreconditionFailed", "NoSuchKey", NULL};
  if (status < 0)
    return status;
  if (status == 412 || status == 404 || prelux_s3_says(a, unmet))
    return KEPT;
  return status < 300 ? IGNORED : UNABLE;
}

static int put(struct trial *t, const char *key, const char *header, bool *ret_made)
{
  const char *headers[] = {"Content-Type: application/octet-stream", header, NULL};
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS, .key = key, .headers = headers};
  struct prelux_net_answer a;
  int status = ask(t, &request, &a), rc = judge(status, &a);
  *ret_made = status >= 200 && status < 300;
  if (*ret_made)
    snprintf(t->etag, sizeof(t->etag), "%s", a.etag);
  else if (rc >= 0 && !header)
    rc = prelux_s3_refused(t->s, &request, &a, t->why);
  prelux_net_answer_free(&a);
  return rc;
}

static int delete_probe(struct trial *t, const char *key, const char *header, int *ret_status)
{
  const char *headers[] = {header, NULL};
  struct prelux_s3_ask request = {.kind = PRELUX_S3_DELETES, .key = key, .headers = headers};
  struct prelux_net_answer a;
  int status = ask(t, &request, &a), rc = judge(status, &a);
  if (ret_status)
    *ret_status = status;
  prelux_net_answer_free(&a);
  return rc;
}

/* Puts. If-Match comes first: a server that keeps it makes nothing, for nothing is there. */
static int try_puts(struct trial *t)
{
  char right[PRELUX_S3_ETAG_MAX + 16];
  bool made, there = false;
  int match = put(t, t->key, WRONG, &made), absent = 0;
  there = made;
  if (match >= 0 && !there)
  {
    absent = put(t, t->key, ABSENT, &there); /* must succeed */
    if (absent >= 0 && !there)
      absent = put(t, t->key, NULL, &there);
  }
  if (match < 0 || absent < 0)
    return match < 0 ? match : absent;
  absent = put(t, t->key, ABSENT, &made);
  if (absent == KEPT)
    t->caps |= PRELUX_CAP_PUT_ABSENT;
  snprintf(right, sizeof(right), "If-Match: %.250s", t->etag);
  if (match == KEPT && (match = put(t, t->key, right, &made)) >= 0 && made) /* and it knows its own ETags */
    if ((match = put(t, t->key, WRONG, &made)) == KEPT)
      t->caps |= PRELUX_CAP_PUT_VERSION;
  return absent < 0 ? absent : match < 0 ? match : 0;
}

/* Completing an upload of one part under a condition that cannot hold. */
static int try_complete(struct trial *t, const char *etag, const char *header)
{
  char body[PRELUX_S3_ETAG_MAX + 160], query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 64];
  const char *headers[] = {"Content-Type: application/xml", header, NULL};
  struct prelux_net_answer a;
  snprintf(body, sizeof(body),
           "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>%s</ETag></Part></CompleteMultipartUpload>",
           etag);
  int rc = prelux_s3_upload_query(query, sizeof(query), 0, t->id, t->why);
  if (rc < 0)
    return rc;
  struct prelux_s3_ask request = {
      .kind = PRELUX_S3_POSTS, .key = t->key, .query = query, .headers = headers, .body = body};
  int status = ask(t, &request, &a);
  rc = judge(status, &a);
  static const char *const unmet[] = {"PreconditionFailed", NULL};
  if (rc == KEPT && status != 412 && !prelux_s3_says(&a, unmet))
    rc = UNABLE; /* 404: of the upload, not of the condition */
  prelux_net_answer_free(&a);
  return rc;
}

static int put_part(struct trial *t, const char *bytes, char etag[PRELUX_S3_ETAG_MAX])
{
  char query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 64];
  struct prelux_net_answer a;
  int rc = prelux_s3_upload_query(query, sizeof(query), 1, t->id, t->why);
  if (rc < 0)
    return rc;
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS, .key = t->key, .query = query, .body = bytes};
  int status = ask(t, &request, &a);
  snprintf(etag, PRELUX_S3_ETAG_MAX, "%s", a.etag);
  prelux_net_answer_free(&a);
  return status < 0 ? status : status == 200 && etag[0] ? 0 : -EOPNOTSUPP;
}

/* A part whose signed SHA-256 is that of other bytes. */
static int damage_part(struct trial *t)
{
  static const char *const damaged[] = {"BadDigest", "XAmzContentSHA256Mismatch", NULL};
  char query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 64], other[65];
  struct prelux_net_answer a;
  if (prelux_s3_upload_query(query, sizeof(query), 3, t->id, t->why) < 0 || prelux_aws_payload("other", 5, other) < 0)
    return 0;
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS, .key = t->key, .query = query, .body = "x", .payload = other};
  int status = ask(t, &request, &a);
  t->checks_sha = status == 400 && prelux_s3_says(&a, damaged);
  prelux_net_answer_free(&a);
  return status < 0 ? status : 0;
}

/* A part that the server copies from the object; one that does not know how stores an empty one, and says so by no
 * document. */
static int copy_part(struct trial *t)
{
  char query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 64], source[PRELUX_S3_KEY_MAX];
  struct prelux_net_answer a;
  int n = snprintf(source, sizeof(source), "x-amz-copy-source: /%s/", t->s->bucket);
  if (prelux_url_encode(source + n, sizeof(source) - (size_t)n, t->key, strlen(t->key)) < 0 ||
      prelux_s3_upload_query(query, sizeof(query), 2, t->id, t->why) < 0)
    return 0;
  const char *headers[] = {source, NULL};
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS, .key = t->key, .query = query, .headers = headers};
  int status = ask(t, &request, &a);
  t->copies_parts = status == 200 && prelux_s3_etag_of(&a, "CopyPartResult") == 0;
  prelux_net_answer_free(&a);
  return status < 0 ? status : 0;
}

/* PUT_ABSENT and PUT_VERSION are promises of `complete`, too. */
static int try_parts(struct trial *t)
{
  char etag[PRELUX_S3_ETAG_MAX];
  int rc = prelux_s3_upload_begin(t->s, t->key, NULL, t->id, t->why);
  if (rc == -EOPNOTSUPP || rc == -EACCES || rc == -EPROTO)
    return 0;
  if (rc < 0)
    return rc;
  rc = put_part(t, "x", etag);
  if (rc == 0)
    rc = put_part(t, "yz", etag); /* takes its place: one that streams parts on (rclone) says no */
  if (rc == 0)
    t->caps |= PRELUX_CAP_MULTIPART;
  if (rc == 0)
    rc = copy_part(t);
  if (rc == 0)
    rc = damage_part(t);
  int absent = rc == 0 ? try_complete(t, etag, ABSENT) : UNABLE;
  int match = absent == KEPT ? try_complete(t, etag, WRONG) : UNABLE;
  if (absent != KEPT)
    t->caps &= ~(unsigned)PRELUX_CAP_PUT_ABSENT;
  if (match != KEPT)
    t->caps &= ~(unsigned)PRELUX_CAP_PUT_VERSION;
  int gone = prelux_s3_upload_abort(t->s, t->key, t->id, t->why);
  rc = rc == -EOPNOTSUPP ? 0 : rc;
  return rc < 0 ? rc : absent < 0 ? absent : match < 0 ? match : gone;
}

/* One part of "x", unsigned, with the CRC-32C of `of`: status. *sent: etag within `etag`, "" for none. */
static int put_part_with_crc(struct trial *t, const char *of, struct prelux_s3_sent *sent,
                             char etag[PRELUX_S3_ETAG_MAX])
{
  char query[PRELUX_S3_UPLOAD_ID_MAX * 3 + 64], header[48];
  struct prelux_net_answer a;
  if (prelux_s3_upload_query(query, sizeof(query), 1, t->id, t->why) < 0)
    return 0;
  prelux_s3_crc_text((uint32_t)prelux_crc(PRELUX_CRC32C, 0, of, strlen(of)), sent->crc);
  snprintf(header, sizeof(header), "x-amz-checksum-crc32c: %s", sent->crc);
  const char *headers[] = {header, NULL};
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS,
                                  .key = t->key,
                                  .query = query,
                                  .headers = headers,
                                  .body = "x",
                                  .payload = PRELUX_AWS_UNSIGNED};
  int status = ask(t, &request, &a);
  prelux_s3_quote_etag(a.etag, sizeof(a.etag));
  snprintf(etag, PRELUX_S3_ETAG_MAX, "%.*s", (int)strcspn(a.etag[0] ? a.etag + 1 : "", "\"<>&"), a.etag + 1);
  sent->etag = etag;
  prelux_net_answer_free(&a);
  return status;
}

/* The object itself, unsigned, with the CRC-32C of `of`: status. */
static int put_with_crc(struct trial *t, const char *of)
{
  char crc[PRELUX_S3_CRC_TEXT], header[48];
  struct prelux_net_answer a;
  prelux_s3_crc_text((uint32_t)prelux_crc(PRELUX_CRC32C, 0, of, strlen(of)), crc);
  snprintf(header, sizeof(header), "x-amz-checksum-crc32c: %s", crc);
  const char *headers[] = {header, NULL};
  struct prelux_s3_ask request = {
      .kind = PRELUX_S3_PUTS, .key = t->key, .headers = headers, .body = "x", .payload = PRELUX_AWS_UNSIGNED};
  int status = ask(t, &request, &a);
  prelux_net_answer_free(&a);
  return status;
}

static int try_crc_put(struct trial *t)
{
  if (!prelux_s3_trusts_way(t->s))
    return 0;
  int wrong = put_with_crc(t, "other");
  int right = wrong == 400 ? put_with_crc(t, "x") : 0;
  t->checks_crc_put = right == 200;
  return wrong < 0 ? wrong : right < 0 ? right : 0;
}

/* A whole upload whose part goes unsigned, with its CRC-32C: none of it is a promise to anybody but ourselves. */
static int try_crc(struct trial *t)
{
  static const char *const headers[] = {PRELUX_S3_CRC_UPLOAD, PRELUX_S3_CRC_WHOLE, NULL};
  const struct prelux_s3_guard any = {.unmet = 0};
  char etag[PRELUX_S3_ETAG_MAX];
  struct prelux_s3_sent sent;
  struct prelux_object made;
  if (!(t->caps & PRELUX_CAP_MULTIPART) || !prelux_s3_trusts_way(t->s))
    return 0;
  int rc = prelux_s3_upload_begin(t->s, t->key, headers, t->id, NULL);
  if (rc < 0)
    return 0; /* it does not know how */
  int wrong = put_part_with_crc(t, "other", &sent, etag);
  int right = wrong == 400 ? put_part_with_crc(t, "x", &sent, etag) : 0;
  bool checked = right == 200 && etag[0];
  if (checked && prelux_s3_upload_complete(t->s, t->key, t->id, &sent, 1, 1, &any, &made, NULL) == 0)
    t->checks_crc = true;
  rc = t->checks_crc ? 0 : prelux_s3_upload_abort(t->s, t->key, t->id, t->why);
  return rc < 0 ? rc : wrong < 0 ? wrong : right < 0 ? right : 0;
}

/* A copy under a condition of its source. */
static int try_copy(struct trial *t)
{
  char source[PRELUX_S3_KEY_MAX], *to;
  struct prelux_net_answer a;
  int n = snprintf(source, sizeof(source), "x-amz-copy-source: /%s/", t->s->bucket);
  if (prelux_url_encode(source + n, sizeof(source) - (size_t)n, t->key, strlen(t->key)) < 0)
    return 0;
  if (asprintf(&to, "%s-copy", t->key) < 0)
    return prelux_problem(t->why, ENOMEM, "no memory for a key");
  const char *headers[] = {source, "x-amz-copy-source-if-match: " NO_ETAG, NULL};
  struct prelux_s3_ask request = {.kind = PRELUX_S3_PUTS, .key = to, .headers = headers};
  int status = ask(t, &request, &a), rc = judge(status, &a);
  prelux_net_answer_free(&a);
  if (rc == KEPT)
    t->caps |= PRELUX_CAP_COPY;
  if (rc == IGNORED)
    rc = delete_probe(t, to, NULL, NULL);
  free(to);
  return rc < 0 ? rc : 0;
}

static bool lists(const struct prelux_s3_page *page, const char *key)
{
  struct prelux_s3_entry e;
  for (size_t i = 0; i < prelux_s3_page_count(page); i++)
  {
    prelux_s3_page_entry(page, i, &e);
    if (e.key_len == strlen(key) && memcmp(e.key, key, e.key_len) == 0)
      return true;
  }
  return false;
}

/* Is an empty object with a slash at its end kept, and listed as what it is? The list also shows how it says names
 * (s3_list.c). */
static int try_marker(struct trial *t)
{
  struct prelux_s3_page *page = NULL;
  char *marker;
  bool made;
  if (asprintf(&marker, "%s-folder/", t->key) < 0)
    return prelux_problem(t->why, ENOMEM, "no memory for a key");
  int rc = put(t, marker, "x-amz-meta-prelux: probe", &made);
  if (rc >= 0 && (rc = prelux_s3_first_keys(t->s, t->key, "10", &page, t->why)) == 0)
  {
    if (made && lists(page, marker))
      t->caps |= PRELUX_CAP_MKDIR_MARKER;
    prelux_s3_page_free(page);
  }
  int gone = made ? delete_probe(t, marker, NULL, NULL) : 0;
  free(marker);
  return rc < 0 ? rc : gone < 0 ? gone : 0;
}

static int try_remove(struct trial *t)
{
  int rc = delete_probe(t, t->key, WRONG, NULL);
  if (rc == KEPT)
    t->caps |= PRELUX_CAP_REMOVE_VERSION;
  return rc < 0 ? rc : 0;
}

static int run(struct trial *t)
{
  static int (*const steps[])(struct trial *) = {try_puts, try_parts, try_copy, try_marker, try_remove, try_crc, try_crc_put};
  int rc = 0;
  for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && rc == 0; i++)
    rc = steps[i](t);
  struct prelux_problem own = {0};
  struct trial last = *t;
  last.why = rc < 0 ? &own : t->why;
  int gone = delete_probe(&last, t->key, NULL, NULL);
  if (!t->copies_parts)
    t->caps &= ~(unsigned)PRELUX_CAP_COPY; /* large or conditional ones: s3_copy.c */
  if (t->copies_parts && (t->caps & PRELUX_CAP_PUT_ABSENT))
    t->caps |= PRELUX_CAP_RENAME_NOREPLACE;
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (strcmp(known[i].server, t->server) == 0)
      t->caps &= ~known[i].never;
  return rc < 0 ? rc : gone < 0 ? gone : 0;
}

static int try_all(struct prelux_s3 *s, unsigned *ret_caps, int64_t *ret_for_ms, struct prelux_problem *why)
{
  struct trial t = {.s = s, .why = why, .caps = PRELUX_CAP_WRITE | PRELUX_CAP_RENAME_FILE};
  uint32_t number = 0;
  int status;
  *ret_for_ms = INT64_MAX / 2;
  if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
    return prelux_problem(why, EIO, "no random number");
  if (asprintf(&t.key, "%s%s" PRELUX_S3_HIDDEN "probe-%08" PRIx64 "-%08" PRIx32, s->prefix, s->prefix[0] ? "/" : "",
               (uint64_t)time(NULL), number) < 0)
    return prelux_problem(why, ENOMEM, "no memory for a key");
  int rc = delete_probe(&t, t.key, NULL, &status);
  if (status == 401 || status == 403 || status == 405)
  {
    *ret_caps = WITHOUT_PROOF;
    *ret_for_ms = ASK_AGAIN_MS;
    rc = 0;
  }
  else if (rc >= 0)
  {
    rc = run(&t);
    *ret_caps = t.caps;
    atomic_store(&s->checks_sha, t.checks_sha);
    atomic_store(&s->checks_crc, t.checks_crc);
    atomic_store(&s->checks_crc_put, t.checks_crc_put);
  }
  free(t.key);
  return rc;
}

/* Within one machine several connections carry no more than one, and what puts parts together copies them once more. Not where the bytes are to
 * be hashed first at some cost. */
static uint64_t whole_max(const struct prelux_s3 *s)
{
  if (s->multipart_threshold)
    return s->multipart_threshold;
  return s->loopback && prelux_s3_cheap_put(s) ? PRELUX_S3_PUT_MAX : 0;
}

static int64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int prelux_s3_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  unsigned caps = 0;
  int64_t for_ms = INT64_MAX / 2;
  int rc = 0;
  pthread_mutex_lock(&s->able_lock);
  if (now_ms() >= s->able_until_ms)
  {
    if (!s->anonymous) /* what has no name may read at most */
      rc = try_all(s, &caps, &for_ms, why);
    if (rc == 0)
    {
      s->able = (struct prelux_able){.caps = caps,
                                     .put_max = PRELUX_S3_PUT_MAX,
                                     .part_min = PRELUX_S3_PART_MIN,
                                     .part_max = PRELUX_S3_PART_MAX,
                                     .parts_max = PRELUX_S3_PARTS_MAX,
                                     .whole_max = whole_max(s)};
      s->able_until_ms = now_ms() + for_ms;
    }
  }
  if (rc == 0)
    *ret = s->able;
  pthread_mutex_unlock(&s->able_lock);
  return rc;
}

int prelux_s3_needs(struct prelux_s3 *s, unsigned caps, const char *what, struct prelux_problem *why)
{
  struct prelux_able able;
  int rc = prelux_s3_able(&s->base, &able, why);
  if (rc < 0 || (able.caps & caps) == caps)
    return rc;
  if (!able.caps)
    return prelux_problem(why, EROFS, "bucket %s is read without keys: nothing can be written", s->bucket);
  return prelux_problem(why, EOPNOTSUPP, "this server does not do %s (tried by prelux)", what);
}
