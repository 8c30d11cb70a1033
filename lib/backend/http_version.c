/* Kinds of versions, by their first letter:
 *   e:ETAG           a strong ETag, quotes included
 *   h:HASH           a strong ETag that is too long or holds odd bytes: its XXH3-128
 *   w:SECONDS-SIZE-HASH  a weak ETag together with Last-Modified and length
 *   m:SECONDS-SIZE   Last-Modified and length
 *   n:RANDOM         nothing: every answer is a version of its own
 * A validator made of a time in whole seconds cannot tell two changes within a second apart. When such an answer is so
 * fresh that the second may not be over, "~RANDOM" is appended: the bytes may be read and used, but the next look at
 * the object gives another version, so they are not taken for the later bytes of that second. nginx makes its ETag of
 * mtime in seconds and length and calls it strong, so it belongs here. */
#include "lib/backend/http_version.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SECOND INT64_C(1000000000)
#define ETAG_MAX 120 /* in a version, so that a suffix fits too */

static uint64_t random_number(void)
{
  uint64_t n;
  if (getrandom(&n, sizeof(n), GRND_NONBLOCK) != sizeof(n))
  {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    n = (uint64_t)t.tv_sec * 1000000007u ^ (uint64_t)t.tv_nsec << 20 ^ (uintptr_t)&t;
  }
  return n;
}

static bool weak(const char *etag)
{
  return etag[0] == 'W' && etag[1] == '/';
}

/* May stand in a header of ours and in a version: quoted, printable, no '~' (which starts the suffix). */
static bool plain(const char *etag)
{
  size_t n = strlen(etag);
  if (n < 2 || n > ETAG_MAX || etag[0] != '"' || etag[n - 1] != '"')
    return false;
  for (size_t i = 1; i < n - 1; i++)
    if (etag[i] <= ' ' || etag[i] >= '~' || etag[i] == '"')
      return false;
  return true;
}

/* nginx: "%xT-%xO" of mtime and length. */
static bool made_of_time(const char *etag, int64_t modified_s, uint64_t size)
{
  char own[64];
  snprintf(own, sizeof(own), "\"%" PRIx64 "-%" PRIx64 "\"", (uint64_t)modified_s, size);
  return strcmp(own, etag) == 0;
}

/* The version without suffix; false: there is no validator. *ret_coarse: it rests on whole seconds. */
static bool base_version(const struct prelux_net_answer *a, uint64_t size, char out[PRELUX_VERSION_MAX],
                         bool *ret_coarse)
{
  int64_t modified = prelux_http_date(a->last_modified) / SECOND;
  *ret_coarse = true;
  if (a->etag[0] && !weak(a->etag))
  {
    *ret_coarse = modified && made_of_time(a->etag, modified, size);
    if (plain(a->etag))
    {
      snprintf(out, PRELUX_VERSION_MAX, "e:%s", a->etag);
    }
    else
    {
      XXH128_hash_t h = XXH3_128bits(a->etag, strlen(a->etag));
      snprintf(out, PRELUX_VERSION_MAX, "h:%016" PRIx64 "%016" PRIx64, (uint64_t)h.high64, (uint64_t)h.low64);
    }
    return true;
  }
  if (!modified)
    return false;
  if (a->etag[0])
    snprintf(out, PRELUX_VERSION_MAX, "w:%" PRId64 "-%" PRIu64 "-%016" PRIx64, modified, size,
             (uint64_t)XXH3_64bits(a->etag, strlen(a->etag)));
  else
    snprintf(out, PRELUX_VERSION_MAX, "m:%" PRId64 "-%" PRIu64, modified, size);
  return true;
}

/* Last-Modified's second may not have been over when the answer was made. */
static bool unsettled(const struct prelux_net_answer *a)
{
  int64_t modified = prelux_http_date(a->last_modified), date = prelux_http_date(a->date);
  if (!date)
    date = (int64_t)time(NULL) * SECOND;
  return modified >= date - SECOND && modified <= date + SECOND;
}

void prelux_http_version(const struct prelux_net_answer *a, uint64_t size, char out[PRELUX_VERSION_MAX])
{
  bool coarse;
  if (!base_version(a, size, out, &coarse))
  {
    snprintf(out, PRELUX_VERSION_MAX, "n:%016" PRIx64 "%016" PRIx64, random_number(), random_number());
    return;
  }
  if (coarse && unsettled(a))
  {
    size_t len = strlen(out);
    snprintf(out + len, PRELUX_VERSION_MAX - len, "~%016" PRIx64, random_number());
  }
}

static size_t base_length(const char *version)
{
  return strcspn(version, "~");
}

bool prelux_http_version_none(const char *version)
{
  return version[0] == 'n';
}

bool prelux_http_version_same(const struct prelux_net_answer *a, uint64_t size, const char *version)
{
  char now[PRELUX_VERSION_MAX];
  bool coarse;
  if (!version[0] || prelux_http_version_none(version))
    return true;
  return base_version(a, size, now, &coarse) && strlen(now) == base_length(version) &&
         memcmp(now, version, strlen(now)) == 0;
}

bool prelux_http_version_condition(const char *version, char *out, size_t cap)
{
  char date[40];
  if (strncmp(version, "e:", 2) == 0)
  {
    snprintf(out, cap, "If-Match: %.*s", (int)base_length(version + 2), version + 2);
    return true;
  }
  if (strncmp(version, "m:", 2) == 0 || strncmp(version, "w:", 2) == 0)
  {
    prelux_http_date_format(date, sizeof(date), (int64_t)strtoll(version + 2, NULL, 10) * SECOND);
    snprintf(out, cap, "If-Unmodified-Since: %s", date);
    return true;
  }
  return false;
}
