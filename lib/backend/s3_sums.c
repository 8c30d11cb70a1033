/* CRCs of whole objects, which S3 keeps: of what was uploaded with one, and of its own (CRC-64/NVME) since the end of 2024. HEAD tells them, and GET of a whole,
 * when asked to (x-amz-checksum-mode); a range's answer does not, or tells that of a part. What was put together from parts may have the CRC of the parts'
 * CRCs instead (COMPOSITE, with the number of parts behind it), which says nothing here. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lib/backend/http_version.h"
#include "lib/backend/s3.h"

#define FEW 4u /* objects without one, after which ... */
#define EVERY 16u /* ... only each so many-th is asked for */
#define STALL_S 20u

static const struct
{
  const char *name;
  enum prelux_crc_kind kind;
} headers[] = {
    {"x-amz-checksum-crc64nvme", PRELUX_CRC64NVME},
    {"x-amz-checksum-crc32c", PRELUX_CRC32C},
    {"x-amz-checksum-crc32", PRELUX_CRC32},
};

/* Base64 of its bytes, the highest first. */
static bool read_value(const char *text, enum prelux_crc_kind kind, uint64_t *ret)
{
  unsigned char bytes[16];
  size_t size = prelux_crc_size(kind), len = strlen(text);
  if (len != (size + 2) / 3 * 4 || strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") + 3 - size % 3 != len)
    return false;
  if (EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)len) < (int)size)
    return false;
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++)
    value = value << 8 | bytes[i];
  *ret = value;
  return true;
}

static bool crc_told(const struct prelux_net_answer *a, struct prelux_sum *ret)
{
  char text[64];
  long n = prelux_net_header(a, "x-amz-checksum-type", text, sizeof(text));
  bool parts = n < 0 && strchr(a->etag, '-'); /* of which kind, is not said */
  if (parts || (n >= 0 && strcmp(text, "FULL_OBJECT") != 0))
    return false;
  for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
    if (prelux_net_header(a, headers[i].name, text, sizeof(text)) > 0 && read_value(text, headers[i].kind, &ret->value))
    {
      ret->kind = headers[i].kind;
      return true;
    }
  return false;
}

bool prelux_s3_sums_wanted(struct prelux_s3 *s)
{
  return !s->no_sums && !atomic_load_explicit(&s->refuses_sums, memory_order_relaxed);
}

/* What an answer of a whole object tells; the MD5 if there is nothing better. */
static bool told_by(struct prelux_s3 *s, const struct prelux_net_answer *a, struct prelux_sum *ret)
{
  *ret = (struct prelux_sum){0};
  if (prelux_s3_sums_wanted(s) && crc_told(a, ret))
    return true;
  if (!s->no_md5)
    prelux_s3_md5_of(a, ret->md5);
  return ret->md5[0];
}

static uint64_t name_of(const char *key, const char *version)
{
  uint64_t of = XXH3_64bits_withSeed(version, strlen(version), XXH3_64bits(key, strlen(key)));
  return of ? of : 1;
}

void prelux_s3_sums_note(struct prelux_s3 *s, const char *key, const char *version, const struct prelux_net_answer *a)
{
  struct prelux_s3_sum told = {.of = name_of(key, version)};
  if (!version[0] || !told_by(s, a, &told.sum))
    return;
  if (!told.sum.md5[0])
    atomic_store_explicit(&s->sumless, 0, memory_order_relaxed);
  pthread_mutex_lock(&s->lock);
  s->sums[told.of % PRELUX_S3_SUMS] = told;
  pthread_mutex_unlock(&s->lock);
}

static int recall(struct prelux_s3 *s, const char *key, const char *version, struct prelux_sum *ret)
{
  uint64_t of = name_of(key, version);
  pthread_mutex_lock(&s->lock);
  const struct prelux_s3_sum *told = &s->sums[of % PRELUX_S3_SUMS];
  bool found = told->of == of;
  if (found)
    *ret = told->sum;
  pthread_mutex_unlock(&s->lock);
  return found ? 0 : -ENOENT;
}

/* Is it worth to ask for a sum? Not for a CRC where there are none; an MD5 a listing does not know, though its ETag looks like one. */
static bool worth(struct prelux_s3 *s, const struct prelux_object *expect)
{
  bool etag = strncmp(expect->version, "e:", 2) == 0;
  bool md5 = etag && !s->no_md5 && !expect->md5[0] && prelux_s3_like_md5(expect->version + 2);
  unsigned sumless = atomic_load_explicit(&s->sumless, memory_order_relaxed);
  if (md5 || !prelux_s3_sums_wanted(s))
    return md5;
  if (sumless >= FEW)
    atomic_fetch_add_explicit(&s->sumless, 1, memory_order_relaxed);
  return sumless < FEW || sumless % EVERY == 0;
}

static int look(struct prelux_s3 *s, const char *key, const struct prelux_object *expect, const atomic_bool *over, struct prelux_sum *ret)
{
  static const char *const mode[] = {PRELUX_S3_SUM_MODE, NULL};
  struct prelux_s3_ask ask = {.kind = PRELUX_S3_HEADS, .key = key, .cancel = over, .stall_s = STALL_S};
  struct prelux_net_answer a;
  unsigned sumless = atomic_load_explicit(&s->sumless, memory_order_relaxed);
  ask.headers = prelux_s3_sums_wanted(s) ? mode : NULL;
  int rc = prelux_s3_call(s, &ask, &a, NULL);
  bool told = rc == 0 && a.status == 200 && told_by(s, &a, ret);
  if (told)
    prelux_s3_quote_etag(a.etag, sizeof(a.etag));
  if (told && !prelux_http_version_same(&a, a.content_length, expect->version))
    rc = -ESTALE;
  if (rc == 0)
    atomic_store_explicit(&s->sumless, told && !ret->md5[0] ? 0 : sumless + 1, memory_order_relaxed);
  prelux_net_answer_free(&a);
  return rc < 0 ? rc : told ? 0 : -ENOENT;
}

int prelux_s3_sum(struct prelux_backend *b, const char *path, const struct prelux_object *expect, bool ask, const atomic_bool *over,
                  struct prelux_sum *ret)
{
  struct prelux_s3 *s = (struct prelux_s3 *)b;
  char *key = malloc(PRELUX_S3_KEY_MAX);
  if (!key)
    return -ENOMEM;
  int rc = expect->version[0] ? (int)prelux_s3_key(s, path, false, key, NULL) : -ENOENT;
  if (rc >= 0)
    rc = recall(s, key, expect->version, ret);
  if (rc == -ENOENT && ask && expect->version[0] && worth(s, expect))
    rc = look(s, key, expect, over, ret);
  free(key);
  return rc;
}
