#include "lib/backend/s3_xml.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 12
#define TEXT_MAX 8192 /* a key of 1,024 bytes, each as %XX, and more */
#define POOL_MAX (64u << 20)
#define ENTRIES_MAX 200000u
#define LAST_YEAR 2261

struct row
{
  uint64_t size;
  int64_t modified_s;
  uint32_t key, key_len, etag; /* offsets in the pool; etag 0: none */
  bool prefix;
};

/* What an element's text is for, by the names on the way to it. */
enum slot
{
  SLOT_NONE,
  SLOT_KEY,
  SLOT_SIZE,
  SLOT_MODIFIED,
  SLOT_ETAG,
  SLOT_PREFIX,
  SLOT_TRUNCATED,
  SLOT_TOKEN,
  SLOT_ENCODING,
};

static const struct place
{
  const char *parent, *name;
  enum slot slot;
} places[] = {
    {"Contents", "Key", SLOT_KEY},
    {"Contents", "Size", SLOT_SIZE},
    {"Contents", "LastModified", SLOT_MODIFIED},
    {"Contents", "ETag", SLOT_ETAG},
    {"CommonPrefixes", "Prefix", SLOT_PREFIX},
    {"ListBucketResult", "IsTruncated", SLOT_TRUNCATED},
    {"ListBucketResult", "NextContinuationToken", SLOT_TOKEN},
    {"ListBucketResult", "EncodingType", SLOT_ENCODING},
};

struct prelux_s3_page
{
  XML_Parser parser;
  int failed;
  int depth;
  char outer[32]; /* name of the element at depth 2 */
  enum slot slot;
  char text[TEXT_MAX];
  size_t text_len;
  struct row now;
  bool has_key;
  struct row *rows;
  size_t n_rows, cap_rows;
  char *pool;
  size_t pool_len, pool_cap;
  bool truncated, encoded;
  char token[PRELUX_S3_TOKEN_MAX];
};

static void fail(struct prelux_s3_page *p, int err)
{
  if (!p->failed)
    p->failed = -err;
  XML_StopParser(p->parser, XML_FALSE);
}

/* Appends with a NUL; its offset, 0 on failure. */
static uint32_t keep(struct prelux_s3_page *p, const char *s, size_t len)
{
  if (p->pool_len + len + 2 > p->pool_cap)
  {
    size_t cap = 2 * p->pool_cap + len + 4096;
    char *grown = cap > POOL_MAX ? NULL : realloc(p->pool, cap);
    if (!grown)
    {
      fail(p, cap > POOL_MAX ? EPROTO : ENOMEM);
      return 0;
    }
    p->pool = grown;
    p->pool_cap = cap;
  }
  if (p->pool_len == 0)
    p->pool[p->pool_len++] = 0;
  size_t at = p->pool_len;
  memcpy(p->pool + at, s, len);
  p->pool[at + len] = 0;
  p->pool_len += len + 1;
  return (uint32_t)at;
}

static void add_row(struct prelux_s3_page *p)
{
  if (p->n_rows == p->cap_rows)
  {
    size_t cap = p->cap_rows ? 2 * p->cap_rows : 64;
    struct row *grown = cap > ENTRIES_MAX ? NULL : realloc(p->rows, cap * sizeof(*grown));
    if (!grown)
    {
      fail(p, cap > ENTRIES_MAX ? EPROTO : ENOMEM);
      return;
    }
    p->rows = grown;
    p->cap_rows = cap;
  }
  p->rows[p->n_rows++] = p->now;
}

static const char *local_name(const char *name)
{
  const char *colon = strrchr(name, ':');
  return colon ? colon + 1 : name;
}

static enum slot slot_of(const char *parent, const char *name)
{
  for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
    if (strcmp(places[i].parent, parent) == 0 && strcmp(places[i].name, name) == 0)
      return places[i].slot;
  return SLOT_NONE;
}

static void on_start(void *arg, const char *name, const char **attributes)
{
  struct prelux_s3_page *p = arg;
  name = local_name(name);
  p->depth++;
  p->slot = SLOT_NONE;
  p->text_len = 0;
  if (p->depth > DEPTH_MAX || (p->depth == 1 && strcmp(name, "ListBucketResult") != 0))
  {
    fail(p, EPROTO);
    return;
  }
  if (p->depth == 2)
  {
    snprintf(p->outer, sizeof(p->outer), "%s", name);
    p->now = (struct row){.size = UINT64_MAX};
    p->has_key = false;
    p->slot = slot_of("ListBucketResult", name);
  }
  else if (p->depth == 3)
  {
    p->slot = slot_of(p->outer, name);
  }
}

static void on_text(void *arg, const char *s, int len)
{
  struct prelux_s3_page *p = arg;
  if (p->slot == SLOT_NONE)
    return;
  if (p->text_len + (size_t)len >= sizeof(p->text))
  {
    fail(p, EPROTO);
    return;
  }
  memcpy(p->text + p->text_len, s, (size_t)len);
  p->text_len += (size_t)len;
}

static uint64_t number(const char *s)
{
  char *end;
  if (s[0] < '0' || s[0] > '9' || strlen(s) > 18)
    return UINT64_MAX;
  unsigned long long n = strtoull(s, &end, 10);
  return *end ? UINT64_MAX : n;
}

static void take_text(struct prelux_s3_page *p)
{
  p->text[p->text_len] = 0;
  switch (p->slot)
  {
  case SLOT_NONE:
    break;
  case SLOT_KEY:
  case SLOT_PREFIX:
    p->now.key = keep(p, p->text, p->text_len);
    p->now.key_len = (uint32_t)p->text_len;
    p->now.prefix = p->slot == SLOT_PREFIX;
    p->has_key = true;
    break;
  case SLOT_SIZE:
    p->now.size = number(p->text);
    break;
  case SLOT_MODIFIED:
    p->now.modified_s = prelux_s3_time(p->text);
    break;
  case SLOT_ETAG:
    if (p->text_len && p->text_len < PRELUX_S3_ETAG_MAX)
      p->now.etag = keep(p, p->text, p->text_len);
    break;
  case SLOT_TRUNCATED:
    p->truncated = strcmp(p->text, "true") == 0;
    break;
  case SLOT_TOKEN:
    if (p->text_len >= sizeof(p->token))
      fail(p, EPROTO);
    else
      memcpy(p->token, p->text, p->text_len + 1);
    break;
  case SLOT_ENCODING:
    p->encoded = strcmp(p->text, "url") == 0;
    break;
  }
}

static void on_end(void *arg, const char *name)
{
  struct prelux_s3_page *p = arg;
  take_text(p);
  p->slot = SLOT_NONE;
  if (p->depth == 2 && p->has_key)
    add_row(p);
  if (p->depth == 2)
    p->has_key = false;
  p->depth--;
}

static void on_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int internal)
{
  fail(arg, EPROTO);
}

struct prelux_s3_page *prelux_s3_page_new(void)
{
  struct prelux_s3_page *p = calloc(1, sizeof(*p));
  if (p && !(p->parser = XML_ParserCreate("UTF-8")))
  {
    free(p);
    return NULL;
  }
  if (!p)
    return NULL;
  XML_SetUserData(p->parser, p);
  XML_SetElementHandler(p->parser, on_start, on_end);
  XML_SetCharacterDataHandler(p->parser, on_text);
  XML_SetStartDoctypeDeclHandler(p->parser, on_doctype);
  return p;
}

void prelux_s3_page_free(struct prelux_s3_page *p)
{
  if (!p)
    return;
  XML_ParserFree(p->parser);
  free(p->rows);
  free(p->pool);
  free(p);
}

static int parse(struct prelux_s3_page *p, const char *data, int len, int last)
{
  if (!p->failed && XML_Parse(p->parser, data, len, last) != XML_STATUS_OK && !p->failed)
    p->failed = XML_GetErrorCode(p->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EPROTO;
  return p->failed;
}

int prelux_s3_page_feed(struct prelux_s3_page *p, const void *data, size_t len)
{
  const char *s = data;
  while (len && !p->failed)
  {
    int n = len > 1 << 20 ? 1 << 20 : (int)len;
    parse(p, s, n, 0);
    s += n;
    len -= (size_t)n;
  }
  return p->failed;
}

static int hex_digit(char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* encoding-type=url is that of forms: a blank may be '+'. In place; false: it is none. */
static bool decode(char *s, uint32_t *len)
{
  uint32_t n = 0;
  for (uint32_t i = 0; i < *len; i++)
  {
    int c = (unsigned char)s[i];
    if (c == '%')
    {
      int high = i + 2 < *len ? hex_digit(s[i + 1]) : -1, low = i + 2 < *len ? hex_digit(s[i + 2]) : -1;
      if (high < 0 || low < 0)
        return false;
      c = high * 16 + low;
      i += 2;
    }
    else if (c == '+')
    {
      c = ' ';
    }
    s[n++] = (char)c;
  }
  s[n] = 0;
  *len = n;
  return true;
}

int prelux_s3_page_end(struct prelux_s3_page *p)
{
  if (parse(p, "", 0, 1) < 0)
    return p->failed;
  for (size_t i = 0; i < p->n_rows && p->encoded; i++)
    if (!decode(p->pool + p->rows[i].key, &p->rows[i].key_len))
      return p->failed = -EPROTO;
  return 0;
}

size_t prelux_s3_page_count(const struct prelux_s3_page *p)
{
  return p->n_rows;
}

void prelux_s3_page_entry(const struct prelux_s3_page *p, size_t i, struct prelux_s3_entry *ret)
{
  const struct row *r = &p->rows[i];
  *ret = (struct prelux_s3_entry){.key = p->pool + r->key,
                                  .key_len = r->key_len,
                                  .prefix = r->prefix,
                                  .size = r->size,
                                  .modified_s = r->modified_s};
  if (r->etag)
    snprintf(ret->etag, sizeof(ret->etag), "%s", p->pool + r->etag);
}

bool prelux_s3_page_truncated(const struct prelux_s3_page *p)
{
  return p->truncated;
}

const char *prelux_s3_page_token(const struct prelux_s3_page *p)
{
  return p->token;
}

bool prelux_s3_page_encoded(const struct prelux_s3_page *p)
{
  return p->encoded;
}

/* Of which nanoseconds can be told: 1900 to 2261. */
int64_t prelux_s3_time(const char *s)
{
  struct tm tm = {0};
  const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
  if (!rest)
    return 0;
  if (*rest == '.')
    for (rest++; *rest >= '0' && *rest <= '9';)
      rest++;
  bool right = *rest == 0 || strcmp(rest, "Z") == 0 || strcmp(rest, "+00:00") == 0;
  if (tm.tm_year > LAST_YEAR - 1900)
    tm.tm_year = LAST_YEAR - 1900;
  return right && tm.tm_year >= 0 ? (int64_t)timegm(&tm) : 0;
}

/* Errors */

struct error_parse
{
  XML_Parser parser;
  struct prelux_s3_error *error;
  int depth;
  char *field; /* where the text at hand goes; NULL: nowhere */
  size_t cap;
};

static void error_start(void *arg, const char *name, const char **attributes)
{
  struct error_parse *e = arg;
  name = local_name(name);
  e->field = NULL;
  if (++e->depth > DEPTH_MAX)
    XML_StopParser(e->parser, XML_FALSE);
  /* <Error><Code>, or STS's <ErrorResponse><Error><Code> */
  if (e->depth < 2 || e->depth > 3)
    return;
  if (strcmp(name, "Code") == 0)
    e->field = e->error->code, e->cap = sizeof(e->error->code);
  else if (strcmp(name, "Message") == 0)
    e->field = e->error->message, e->cap = sizeof(e->error->message);
  else if (strcmp(name, "Region") == 0)
    e->field = e->error->region, e->cap = sizeof(e->error->region);
}

static void error_text(void *arg, const char *s, int len)
{
  struct error_parse *e = arg;
  size_t n = e->field ? strlen(e->field) : 0;
  for (int i = 0; e->field && i < len && n + 1 < e->cap; i++)
    e->field[n++] = (unsigned char)s[i] < ' ' || (unsigned char)s[i] >= 0x7f ? '.' : s[i];
}

static void error_end(void *arg, const char *name)
{
  struct error_parse *e = arg;
  e->depth--;
  e->field = NULL;
}

static void error_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int internal)
{
  struct error_parse *e = arg;
  XML_StopParser(e->parser, XML_FALSE);
}

void prelux_s3_error_parse(const char *body, size_t len, struct prelux_s3_error *ret)
{
  struct error_parse e = {.error = ret, .parser = XML_ParserCreate("UTF-8")};
  memset(ret, 0, sizeof(*ret));
  if (!e.parser)
    return;
  XML_SetUserData(e.parser, &e);
  XML_SetElementHandler(e.parser, error_start, error_end);
  XML_SetCharacterDataHandler(e.parser, error_text);
  XML_SetStartDoctypeDeclHandler(e.parser, error_doctype);
  if (body && len <= 1 << 20)
    XML_Parse(e.parser, body, (int)len, 1); /* what came before an error is good enough */
  XML_ParserFree(e.parser);
}
