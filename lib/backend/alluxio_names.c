#include "lib/backend/alluxio_names.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLED_NS 60000000000 /* a large file is synced that long after its last byte was written, not longer */

/* One UTF-8 character as Java takes it without changing it: shortest form, no surrogates. Its length, 0: it is none. */
static size_t character(const unsigned char *s)
{
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t n = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : 4;
  if (n == 1)
    return 1;
  if (s[0] < 0xc2 || s[0] > 0xf4)
    return 0;
  uint32_t c = s[0] & (0xffu >> (n + 1));
  for (size_t i = 1; i < n; i++)
  {
    if ((s[i] & 0xc0) != 0x80) /* also at the end: NUL is none */
      return 0;
    c = c << 6 | (s[i] & 0x3f);
  }
  return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

static bool possible(const char *path)
{
  if (strpbrk(path, "?\\") || strstr(path, "//"))
    return false;
  for (const unsigned char *s = (const unsigned char *)path; *s;)
  {
    size_t n = character(s);
    if (n == 0)
      return false;
    s += n;
  }
  return true;
}

/* The value of `path=`: nothing is decoded but %2F, %3A and %3F; '=' cuts it, '&' ends it. '#' would go through, but it is not ours
 * to send: it ends a URL for every client. Quotes and braces have never been tried. */
static bool on_http(const char *path)
{
  static const char *const decoded[] = {"%2F", "%3A", "%3F"};
  if (strlen(path) > PRELUX_ALLUXIO_HTTP_PATH_MAX)
    return false;
  for (const unsigned char *s = (const unsigned char *)path; *s; s++)
    if (*s <= ' ' || *s >= 0x7f || strchr("=&#\"^`{|}", *s))
      return false;
  for (size_t i = 0; i < sizeof(decoded) / sizeof(decoded[0]); i++)
    if (strstr(path, decoded[i]))
      return false;
  return true;
}

enum prelux_alluxio_way prelux_alluxio_name_way(const char *path)
{
  if (!possible(path))
    return PRELUX_ALLUXIO_NAME_NONE;
  return on_http(path) ? PRELUX_ALLUXIO_NAME_BOTH : PRELUX_ALLUXIO_NAME_S3;
}

static bool plain(unsigned char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~/", c);
}

long prelux_alluxio_s3_path(const char *path, bool slash, char *out, size_t cap)
{
  static const char hex[] = "0123456789ABCDEF";
  size_t n = 0;
  if (cap < 8)
    return -ENAMETOOLONG;
  out[n++] = '/';
  for (const unsigned char *s = (const unsigned char *)path; *s; s++)
  {
    if (n + 8 > cap)
      return -ENAMETOOLONG;
    if (plain(*s))
    {
      out[n++] = (char)*s;
      continue;
    }
    out[n++] = '%';
    if (*s == '%' || *s == '+') /* the second decoding would take these for an escape and a blank */
    {
      out[n++] = '2';
      out[n++] = '5';
    }
    out[n++] = hex[*s >> 4];
    out[n++] = hex[*s & 15];
  }
  if (slash && out[n - 1] != '/')
    out[n++] = '/';
  out[n] = 0;
  return (long)n;
}

int prelux_alluxio_file_id(const char *ufs_path, char out[PRELUX_ALLUXIO_ID_SIZE])
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (EVP_Digest(ufs_path, strlen(ufs_path), digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
    return -EIO;
  for (unsigned i = 0; i < n; i++)
    snprintf(out + 2 * i, 3, "%02x", digest[i]);
  return 0;
}

bool prelux_alluxio_whole_seconds(const char *ufs_root)
{
  static const char *const precise[] = {"file:", "hdfs:", "viewfs:", "alluxio:"};
  if (ufs_root[0] == '/')
    return false;
  for (size_t i = 0; i < sizeof(precise) / sizeof(precise[0]); i++)
    if (strncmp(ufs_root, precise[i], strlen(precise[i])) == 0)
      return false;
  return true;
}

void prelux_alluxio_version(uint64_t size, int64_t mtime_ms, char *out, size_t cap)
{
  snprintf(out, cap, "%" PRIu64 "-%" PRId64, size, mtime_ms);
}

bool prelux_alluxio_etag(const char *etag, uint64_t *ret_size, int64_t *ret_mtime_ms)
{
  unsigned long long size;
  long long ms;
  int end = 0;
  if (*etag == '"')
    etag++;
  if (sscanf(etag, "(len:%19llu, modtime:%19lld)%n", &size, &ms, &end) != 2 || end == 0 || (etag[end] && etag[end] != '"'))
    return false;
  *ret_size = size;
  *ret_mtime_ms = ms;
  return true;
}

bool prelux_alluxio_settled(const char *version, int64_t mtime_ns)
{
  const char *last = strrchr(version, '-');
  int64_t ctime_ns;
  char end;
  if (!last || sscanf(last + 1, "%" SCNd64 "%c", &ctime_ns, &end) != 1)
    return false;
  return ctime_ns >= mtime_ns && ctime_ns - mtime_ns <= SETTLED_NS;
}
