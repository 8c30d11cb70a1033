/* What is signed (the canonical request):
 *
 *   METHOD \n PATH \n QUERY \n name:value \n ... \n \n NAMES \n PAYLOAD
 *
 * PATH is taken as it stands in the URL: S3 encodes a key once and never folds dots or slashes, and our other calls
 * have the path "/". QUERY is sorted by name, then value, with a '=' each; header names are lower-case and sorted,
 * values are without blanks at the ends and with single ones inside. The signature of its hash, date and scope is a
 * chain of HMACs. */
#include "lib/backend/aws_sign.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/net/net.h"

#define FIELDS_MAX 128 /* an object's metadata is signed when it is copied */
#define PARAMETERS_MAX 32
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct field
{
  const char *name; /* not NUL-terminated */
  size_t name_len;
  const char *value;
  size_t value_len;
};

struct signing
{
  const struct prelux_aws_keys *keys;
  const struct prelux_aws_request *request;
  char stamp[20]; /* 20150830T123600Z */
  const char *payload;
  struct field fields[FIELDS_MAX];
  size_t n_fields;
};

static void hex(const unsigned char *bytes, size_t n, char *out)
{
  for (size_t i = 0; i < n; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

int prelux_aws_payload(const void *body, size_t len, char out[65])
{
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  if (EVP_Digest(body, len, digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
    return -ENOMEM;
  hex(digest, n, out);
  return 0;
}

long prelux_aws_query(char *out, size_t cap, const char *name, const char *value, size_t value_len)
{
  static const char digits[] = "0123456789ABCDEF";
  size_t n = strlen(out), name_len = strlen(name);
  if (n + name_len + 3 > cap)
    return -ENAMETOOLONG;
  out[n] = strchr(out, '?') ? '&' : '?';
  memcpy(out + n + 1, name, name_len);
  n += name_len + 1;
  out[n++] = '=';
  for (size_t i = 0; i < value_len; i++)
  {
    unsigned char c = (unsigned char)value[i];
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                 c == '_' || c == '~';
    if (n + 4 > cap)
      return -ENAMETOOLONG;
    if (plain)
      out[n++] = (char)c;
    else
    {
      out[n++] = '%';
      out[n++] = digits[c >> 4];
      out[n++] = digits[c & 15];
    }
  }
  out[n] = 0;
  return (long)n;
}

/* Header lines */

/* A value with a line end in it would be a header of its own. */
static bool printable(const char *s)
{
  for (; *s; s++)
    if ((unsigned char)*s < ' ' || *s == 0x7f)
      return false;
  return true;
}

static int add_line(struct prelux_aws_headers *h, const char *name, const char *value)
{
  size_t i = 0;
  while (h->lines[i])
    i++;
  return asprintf(&h->lines[i], "%s: %s", name, value) < 0 ? (h->lines[i] = NULL, -ENOMEM) : 0;
}

void prelux_aws_headers_release(struct prelux_aws_headers *h)
{
  for (size_t i = 0; i < PRELUX_AWS_HEADERS; i++)
  {
    if (h->lines[i])
      explicit_bzero(h->lines[i], strlen(h->lines[i]));
    free(h->lines[i]);
    h->lines[i] = NULL;
  }
}

static int add_field(struct signing *s, const char *line)
{
  const char *colon = strchr(line, ':');
  if (!colon || colon == line || s->n_fields == FIELDS_MAX)
    return -EINVAL;
  const char *value = colon + 1, *end = value + strlen(value);
  while (*value == ' ' || *value == '\t')
    value++;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
    end--;
  s->fields[s->n_fields++] = (struct field){
      .name = line, .name_len = (size_t)(colon - line), .value = value, .value_len = (size_t)(end - value)};
  return 0;
}

static int by_name(const void *a, const void *b)
{
  const struct field *x = a, *y = b;
  size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
  int c = strncasecmp(x->name, y->name, n);
  return c ? c : (int)x->name_len - (int)y->name_len;
}

/* The canonical request. */

static void put_names(FILE *f, const struct signing *s)
{
  for (size_t i = 0; i < s->n_fields; i++)
  {
    if (i)
      fputc(';', f);
    for (size_t k = 0; k < s->fields[i].name_len; k++)
    {
      char c = s->fields[i].name[k];
      fputc(c >= 'A' && c <= 'Z' ? c | 32 : c, f);
    }
  }
}

static void put_fields(FILE *f, const struct signing *s)
{
  for (size_t i = 0; i < s->n_fields; i++)
  {
    const struct field *x = &s->fields[i];
    for (size_t k = 0; k < x->name_len; k++)
      fputc(x->name[k] >= 'A' && x->name[k] <= 'Z' ? x->name[k] | 32 : x->name[k], f);
    fputc(':', f);
    for (size_t k = 0; k < x->value_len; k++)
      if (x->value[k] != ' ' || x->value[k - 1] != ' ') /* the first is no blank */
        fputc(x->value[k], f);
    fputc('\n', f);
  }
}

static int by_parameter(const void *a, const void *b)
{
  const struct field *x = a, *y = b;
  size_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
  int c = memcmp(x->name, y->name, n);
  if (c == 0)
    c = (int)x->name_len - (int)y->name_len;
  if (c)
    return c;
  n = x->value_len < y->value_len ? x->value_len : y->value_len;
  c = memcmp(x->value, y->value, n);
  return c ? c : (int)x->value_len - (int)y->value_len;
}

static int put_query(FILE *f, const char *query)
{
  struct field parameters[PARAMETERS_MAX] = {{0}};
  size_t n = 0;
  while (query && *query)
  {
    size_t len = strcspn(query, "&#");
    const char *equal = memchr(query, '=', len);
    if (n == PARAMETERS_MAX)
      return -EINVAL;
    size_t name_len = equal ? (size_t)(equal - query) : len;
    parameters[n++] = (struct field){.name = query,
                                     .name_len = name_len,
                                     .value = equal ? equal + 1 : query + len,
                                     .value_len = equal ? len - name_len - 1 : 0};
    query += len + (query[len] == '&');
    if (*query == '#')
      break;
  }
  qsort(parameters, n, sizeof(parameters[0]), by_parameter);
  for (size_t i = 0; i < n; i++)
    fprintf(f, "%s%.*s=%.*s", i ? "&" : "", (int)parameters[i].name_len, parameters[i].name,
            (int)parameters[i].value_len, parameters[i].value);
  return 0;
}

static int canonical(const struct signing *s, const struct prelux_url *u, char out[65])
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    return -ENOMEM;
  const char *query = u->path + u->path_len;
  fprintf(f, "%s\n%.*s\n", s->request->method, u->path_len ? (int)u->path_len : 1, u->path_len ? u->path : "/");
  int rc = put_query(f, *query == '?' ? query + 1 : NULL);
  fputc('\n', f);
  put_fields(f, s);
  fputc('\n', f);
  put_names(f, s);
  fprintf(f, "\n%s", s->payload);
  if (fclose(f) != 0 || !text)
    rc = -ENOMEM;
  if (rc == 0)
    rc = prelux_aws_payload(text, len, out);
  if (text)
    explicit_bzero(text, len); /* the token is in it */
  free(text);
  return rc;
}

/* The signature. */

static int hmac(unsigned char key[32], size_t key_len, const char *text, unsigned char out[32])
{
  unsigned n = 0;
  return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text, strlen(text), out, &n) && n == 32 ? 0
                                                                                                              : -ENOMEM;
}

static int derive(const struct signing *s, const char *day, unsigned char key[32])
{
  const char *const steps[] = {day, s->request->region, s->request->service, "aws4_request"};
  char *first;
  unsigned char next[32];
  int n = asprintf(&first, "AWS4%s", s->keys->secret);
  if (n < 0)
    return -ENOMEM;
  int rc = hmac((unsigned char *)first, (size_t)n, steps[0], key);
  explicit_bzero(first, (size_t)n);
  free(first);
  for (size_t i = 1; i < sizeof(steps) / sizeof(steps[0]) && rc == 0; i++)
  {
    rc = hmac(key, 32, steps[i], next);
    memcpy(key, next, sizeof(next));
  }
  explicit_bzero(next, sizeof(next));
  return rc;
}

static int signature(const struct signing *s, const char *request_hash, char out[65])
{
  unsigned char key[32], digest[32];
  char day[9], *text;
  snprintf(day, sizeof(day), "%.8s", s->stamp);
  if (asprintf(&text, "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s", s->stamp, day, s->request->region,
               s->request->service, request_hash) < 0)
    return -ENOMEM;
  int rc = derive(s, day, key);
  if (rc == 0)
    rc = hmac(key, sizeof(key), text, digest);
  explicit_bzero(key, sizeof(key));
  free(text);
  if (rc == 0)
    hex(digest, sizeof(digest), out);
  return rc;
}

static int authorization(const struct signing *s, const char *proof, struct prelux_aws_headers *ret)
{
  char *text = NULL;
  size_t len = 0;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    return -ENOMEM;
  fprintf(f, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=", s->keys->access, s->stamp,
          s->request->region, s->request->service);
  put_names(f, s);
  fprintf(f, ", Signature=%s", proof);
  int rc = fclose(f) == 0 && text ? add_line(ret, "Authorization", text) : -ENOMEM;
  free(text);
  return rc;
}

/* "Host: ..." as libcurl sends it: without a port that goes without saying. */
static int host_line(const struct prelux_url *u, char **ret)
{
  unsigned usual = u->https ? 443 : 80;
  int n = u->port == usual ? asprintf(ret, "Host: %.*s", (int)u->host_len, u->host)
                           : asprintf(ret, "Host: %.*s:%u", (int)u->host_len, u->host, u->port);
  return n < 0 ? (*ret = NULL, -ENOMEM) : 0;
}

static int own_lines(struct signing *s, struct prelux_aws_headers *ret)
{
  int rc = add_line(ret, "X-Amz-Date", s->stamp);
  if (rc == 0 && s->request->content_header)
    rc = add_line(ret, "X-Amz-Content-Sha256", s->payload);
  if (rc == 0 && s->keys->token)
    rc = add_line(ret, "X-Amz-Security-Token", s->keys->token);
  for (size_t i = 0; i < PRELUX_AWS_HEADERS && ret->lines[i] && rc == 0; i++)
    rc = add_field(s, ret->lines[i]);
  for (const char *const *h = s->request->headers; h && *h && rc == 0; h++)
    rc = add_field(s, *h);
  return rc;
}

int prelux_aws_sign(const struct prelux_aws_keys *keys, const struct prelux_aws_request *request,
                    struct prelux_aws_headers *ret)
{
  struct signing s = {.keys = keys, .request = request, .payload = request->payload ? request->payload : EMPTY_SHA256};
  struct prelux_aws_headers made = {{NULL}};
  struct prelux_url u;
  struct tm tm;
  time_t when = (time_t)request->when_s;
  char hash[65], proof[65], *host = NULL;
  if (prelux_url_parse(request->url, &u) < 0 || !printable(keys->access) || !printable(request->region) ||
      (keys->token && !printable(keys->token)) || !gmtime_r(&when, &tm))
    return -EINVAL;
  strftime(s.stamp, sizeof(s.stamp), "%Y%m%dT%H%M%SZ", &tm);
  int rc = host_line(&u, &host);
  if (rc == 0)
    rc = add_field(&s, host);
  if (rc == 0)
    rc = own_lines(&s, &made);
  if (rc == 0)
  {
    qsort(s.fields, s.n_fields, sizeof(s.fields[0]), by_name);
    rc = canonical(&s, &u, hash);
  }
  if (rc == 0)
    rc = signature(&s, hash, proof);
  if (rc == 0)
    rc = authorization(&s, proof, &made);
  free(host);
  if (rc < 0)
    prelux_aws_headers_release(&made);
  else
    *ret = made;
  return rc;
}
