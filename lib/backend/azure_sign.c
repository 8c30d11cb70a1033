/* What is signed: method, eleven standard headers, the x-ms- headers sorted by name, and the resource: a slash, the account,
 * the path as it is sent (so an emulator's URL, whose path begins with the account, names it twice), then each query
 * parameter on a line of its own, decoded, sorted by name. */
#include "lib/backend/azure_sign.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/net/net.h"

#define LINES_MAX 128 /* headers of one request, parameters of one query */

static const char *const standard[] = {
    "Content-Encoding",  "Content-Language", "Content-Length", "Content-MD5",         "Content-Type", "Date",
    "If-Modified-Since", "If-Match",         "If-None-Match",  "If-Unmodified-Since", "Range",
};

static const char *skip_blanks(const char *s)
{
  return s + strspn(s, " \t");
}

/* Value of a header, NULL: not there. */
static const char *value_of(const char *const *headers, const char *name)
{
  size_t len = strlen(name);
  for (; headers && *headers; headers++)
    if (strncasecmp(*headers, name, len) == 0 && (*headers)[len] == ':')
      return skip_blanks(*headers + len + 1);
  return NULL;
}

/* By the name alone: up to its colon. */
static int by_name(const void *a, const void *b)
{
  const char *x = *(const char *const *)a, *y = *(const char *const *)b;
  size_t m = strcspn(x, ":"), n = strcspn(y, ":");
  int c = strncasecmp(x, y, m < n ? m : n);
  return c ? c : (m > n) - (m < n);
}

static void put_own_headers(FILE *out, const char *const *headers)
{
  const char *own[LINES_MAX] = {NULL};
  size_t n = 0;
  for (; headers && *headers; headers++)
    if (strncasecmp(*headers, "x-ms-", 5) == 0 && n < LINES_MAX)
      own[n++] = *headers;
  qsort(own, n, sizeof(own[0]), by_name);
  for (size_t i = 0; i < n; i++)
  {
    size_t name = strcspn(own[i], ":");
    for (size_t k = 0; k < name; k++)
      fputc(tolower((unsigned char)own[i][k]), out);
    fprintf(out, ":%s\n", skip_blanks(own[i] + name + 1));
  }
}

/* "name=value" -> "name:value", decoded, the name in lower case; malloc'd. */
static char *parameter(const char *text, size_t len)
{
  const char *equals = memchr(text, '=', len);
  size_t name = equals ? (size_t)(equals - text) : len, rest = equals ? len - name - 1 : 0;
  char *out = malloc(len + 3);
  long n = out ? prelux_url_decode(out, len + 1, text, name) : -1;
  if (n < 0)
  {
    free(out);
    return NULL;
  }
  for (long i = 0; i < n; i++)
    out[i] = (char)tolower((unsigned char)out[i]);
  out[n] = ':';
  if (prelux_url_decode(out + n + 1, len + 2 - (size_t)n, equals ? equals + 1 : "", rest) < 0)
  {
    free(out);
    return NULL;
  }
  return out;
}

static bool put_query(FILE *out, const char *query)
{
  char *lines[LINES_MAX] = {NULL};
  size_t n = 0;
  bool good = true;
  while (good && *query)
  {
    size_t len = strcspn(query, "&");
    if (len)
    {
      good = n < LINES_MAX && (lines[n] = parameter(query, len)) != NULL;
      n += good;
    }
    query += len + (query[len] == '&');
  }
  qsort(lines, n, sizeof(lines[0]), by_name);
  for (size_t i = 0; i < n; i++)
  {
    fprintf(out, "\n%s", lines[i]);
    free(lines[i]);
  }
  return good;
}

char *prelux_azure_string_to_sign(const char *method, const char *url, const char *const *headers, const char *account)
{
  char *text = NULL;
  size_t len = 0;
  struct prelux_url u;
  if (prelux_url_parse(url, &u) < 0)
    return NULL;
  FILE *out = open_memstream(&text, &len);
  if (!out)
    return NULL;
  fprintf(out, "%s\n", method);
  for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++)
  {
    const char *value = value_of(headers, standard[i]);
    bool dated = strcmp(standard[i], "Date") == 0 && value_of(headers, "x-ms-date");
    bool none = strcmp(standard[i], "Content-Length") == 0 && value && strcmp(value, "0") == 0;
    fprintf(out, "%s\n", value && !dated && !none ? value : "");
  }
  put_own_headers(out, headers);
  fprintf(out, "/%s%.*s", account, u.path_len ? (int)u.path_len : 1, u.path_len ? u.path : "/");
  const char *query = strchr(url, '?');
  bool good = put_query(out, query ? query + 1 : "");
  if (fclose(out) != 0 || !good)
  {
    free(text);
    return NULL;
  }
  return text;
}

int prelux_azure_signature(const unsigned char *key, size_t key_len, const char *text, char out[45])
{
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (!HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, strlen(text), mac, &n) || n != 32)
    return -EIO;
  EVP_EncodeBlock((unsigned char *)out, mac, 32);
  return 0;
}

long prelux_azure_base64(const char *text, unsigned char *out, size_t cap)
{
  text += strspn(text, " \t\r\n");
  size_t len = strcspn(text, " \t\r\n"), padding = 0;
  if (len == 0 || len % 4 || text[len + strspn(text + len, " \t\r\n")] || cap < len / 4 * 3)
    return -EINVAL;
  while (padding < 2 && text[len - 1 - padding] == '=')
    padding++;
  if (strcspn(text, "=") < len - padding)
    return -EINVAL;
  int n = EVP_DecodeBlock(out, (const unsigned char *)text, (int)len);
  return n < 0 ? -EINVAL : n - (long)padding;
}

void prelux_azure_md5(const char *text, char out[33])
{
  unsigned char bytes[18];
  out[0] = 0;
  if (strlen(text) != 24 || prelux_azure_base64(text, bytes, sizeof(bytes)) != 16)
    return;
  for (int i = 0; i < 16; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}
