#include "lib/backend/alluxio_xml.h"

#include <errno.h>
#include <expat.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 8

struct parse
{
  struct prelux_alluxio_xml *page;
  XML_Parser parser;
  int depth, rc;
  bool root_seen, in_contents, in_common;
  char text[PRELUX_ALLUXIO_XML_TEXT]; /* of the element at hand */
  size_t len;
  char name[PRELUX_ALLUXIO_XML_TEXT];
  bool has_name, has_size, has_time;
  uint64_t size;
  int64_t mtime_ms;
};

int64_t prelux_alluxio_xml_time(const char *s)
{
  struct tm tm = {0};
  int ms = 0, end = 0;
  if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &end) != 6)
    return INT64_MIN;
  s += end;
  if (*s == '.')
  {
    int scale = 100;
    for (s++; *s >= '0' && *s <= '9'; s++, scale /= 10)
      ms += (*s - '0') * scale;
  }
  if (strcmp(s, "Z") != 0)
    return INT64_MIN;
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  return (int64_t)timegm(&tm) * 1000 + ms;
}

static void stop(struct parse *p, int rc)
{
  if (p->rc == 0)
    p->rc = rc;
  XML_StopParser(p->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
  struct parse *p = arg;
  p->len = 0;
  if (++p->depth > DEPTH_MAX || (p->depth == 1 && strcmp(name, "ListBucketResult") != 0))
  {
    stop(p, -EPROTO);
    return;
  }
  p->root_seen = true;
  if (p->depth != 2)
    return;
  p->in_contents = strcmp(name, "Contents") == 0;
  p->in_common = strcmp(name, "CommonPrefixes") == 0;
  p->has_name = p->has_size = p->has_time = false;
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int len)
{
  struct parse *p = arg;
  if (p->len + (size_t)len >= sizeof(p->text))
  {
    stop(p, -EPROTO);
    return;
  }
  memcpy(p->text + p->len, s, (size_t)len);
  p->len += (size_t)len;
}

static bool number(const char *s, uint64_t *ret)
{
  char *end;
  if (*s < '0' || *s > '9' || strlen(s) > 18)
    return false;
  *ret = strtoull(s, &end, 10);
  return !*end;
}

/* A child of Contents or CommonPrefixes */
static void take(struct parse *p, const char *name)
{
  if (strcmp(name, p->in_contents ? "Key" : "Prefix") == 0)
  {
    memcpy(p->name, p->text, p->len + 1);
    p->has_name = true;
  }
  else if (p->in_contents && strcmp(name, "Size") == 0)
  {
    p->has_size = number(p->text, &p->size);
  }
  else if (p->in_contents && strcmp(name, "LastModified") == 0)
  {
    p->mtime_ms = prelux_alluxio_xml_time(p->text);
    p->has_time = p->mtime_ms != INT64_MIN;
  }
}

static void emit(struct parse *p)
{
  struct prelux_alluxio_key key = {.name = p->name, .size = p->in_contents ? p->size : 0, .mtime_ms = p->in_contents ? p->mtime_ms : 0};
  size_t len = p->has_name ? strlen(p->name) : 0;
  bool bad = !p->has_name || (p->in_contents && (!p->has_size || !p->has_time)) ||
             (p->in_common && (len == 0 || p->name[len - 1] != '/'));
  int rc = bad ? -EPROTO : p->page->each(p->page->arg, &key);
  if (rc < 0)
    stop(p, rc);
}

static void top(struct parse *p, const char *name)
{
  if (strcmp(name, "IsTruncated") == 0)
    p->page->truncated = strcmp(p->text, "true") == 0;
  else if (strcmp(name, "Prefix") == 0)
    memcpy(p->page->prefix, p->text, p->len + 1);
  else if (strcmp(name, "NextContinuationToken") == 0 && p->len < sizeof(p->page->token))
    memcpy(p->page->token, p->text, p->len + 1);
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
  struct parse *p = arg;
  p->text[p->len] = 0;
  if (p->depth == 3 && (p->in_contents || p->in_common))
    take(p, name);
  else if (p->depth == 2 && (p->in_contents || p->in_common))
    emit(p);
  else if (p->depth == 2)
    top(p, name);
  if (p->depth == 2)
    p->in_contents = p->in_common = false;
  p->depth--;
  p->len = 0;
}

/* Nothing that Alluxio sends declares anything: what does is an attack. */
static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
  stop(arg, -EPROTO);
}

static bool token_fits(const char *token)
{
  return token[0] && strspn(token, "0123456789abcdefABCDEF-._~ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ") == strlen(token);
}

int prelux_alluxio_xml_read(struct prelux_alluxio_xml *page, const char *text, size_t len)
{
  struct parse *p = calloc(1, sizeof(*p));
  if (!p || len > INT32_MAX || !(p->parser = XML_ParserCreate("UTF-8")))
  {
    free(p);
    return -ENOMEM;
  }
  p->page = page;
  page->truncated = false;
  page->prefix[0] = page->token[0] = 0;
  XML_SetUserData(p->parser, p);
  XML_SetElementHandler(p->parser, on_start, on_end);
  XML_SetCharacterDataHandler(p->parser, on_text);
  XML_SetStartDoctypeDeclHandler(p->parser, on_doctype);
  bool good = XML_Parse(p->parser, text, (int)len, 1) == XML_STATUS_OK;
  int rc = p->rc < 0 ? p->rc : good && p->root_seen ? 0 : -EPROTO;
  if (rc == 0 && page->truncated && !token_fits(page->token))
    rc = -EPROTO;
  XML_ParserFree(p->parser);
  free(p);
  return rc;
}
