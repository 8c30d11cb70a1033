#include "lib/backend/s3_fields.h"

#include <errno.h>
#include <expat.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 8
#define TEXT_MAX 8192 /* a key of 1,024 bytes, each as %XX, and more */
#define BODY_MAX (64u << 20)

struct parse
{
  XML_Parser parser;
  prelux_s3_field_fn add;
  void *arg;
  int depth, failed;
  bool leaf; /* nothing stands in the element at hand */
  char root[PRELUX_S3_NAME_MAX], outer[PRELUX_S3_NAME_MAX], name[PRELUX_S3_NAME_MAX];
  char text[TEXT_MAX];
  size_t len;
};

static void fail(struct parse *p, int err)
{
  if (!p->failed)
    p->failed = -err;
  XML_StopParser(p->parser, XML_FALSE);
}

static void keep_name(char out[PRELUX_S3_NAME_MAX], const char *name)
{
  const char *colon = strrchr(name, ':');
  snprintf(out, PRELUX_S3_NAME_MAX, "%s", colon ? colon + 1 : name);
}

static void on_start(void *arg, const char *name, const char **attributes)
{
  struct parse *p = arg;
  if (++p->depth > DEPTH_MAX)
    fail(p, EPROTO);
  keep_name(p->depth == 1 ? p->root : p->depth == 2 ? p->outer : p->name, name);
  p->leaf = true;
  p->len = 0;
}

static void on_text(void *arg, const char *s, int len)
{
  struct parse *p = arg;
  if (p->failed || p->depth < 2 || p->depth > 3)
    return;
  if (p->len + (size_t)len >= sizeof(p->text))
  {
    fail(p, EPROTO);
    return;
  }
  memcpy(p->text + p->len, s, (size_t)len);
  p->len += (size_t)len;
}

static void on_end(void *arg, const char *name)
{
  struct parse *p = arg;
  bool field = p->leaf && (p->depth == 2 || p->depth == 3), group = !p->leaf && p->depth == 2;
  p->text[field ? p->len : 0] = 0;
  int rc = 0;
  if (!p->failed && field)
    rc = p->depth == 2 ? p->add(p->arg, "", p->outer, p->text) : p->add(p->arg, p->outer, p->name, p->text);
  else if (!p->failed && group)
    rc = p->add(p->arg, p->outer, p->outer, "");
  if (rc < 0)
    fail(p, -rc);
  p->leaf = false;
  p->len = 0;
  p->depth--;
}

static void on_doctype(void *arg, const char *name, const char *sysid, const char *pubid, int internal)
{
  fail(arg, EPROTO);
}

int prelux_s3_fields(const char *body, size_t len, char root[PRELUX_S3_NAME_MAX], prelux_s3_field_fn add, void *arg)
{
  struct parse p = {.parser = XML_ParserCreate("UTF-8"), .add = add, .arg = arg};
  if (!p.parser)
    return -ENOMEM;
  XML_SetUserData(p.parser, &p);
  XML_SetElementHandler(p.parser, on_start, on_end);
  XML_SetCharacterDataHandler(p.parser, on_text);
  XML_SetStartDoctypeDeclHandler(p.parser, on_doctype);
  while (len && (*body == ' ' || *body == '\n' || *body == '\r' || *body == '\t'))
    body++, len--; /* sent while the server was at work; before a declaration it would be an error */
  if (!body || len == 0 || len > BODY_MAX)
    p.failed = -EPROTO;
  else if (XML_Parse(p.parser, body, (int)len, 1) != XML_STATUS_OK && !p.failed)
    p.failed = XML_GetErrorCode(p.parser) == XML_ERROR_NO_MEMORY ? -ENOMEM : -EPROTO;
  XML_ParserFree(p.parser);
  if (p.failed == 0)
    memcpy(root, p.root, sizeof(p.root));
  return p.failed;
}

struct one
{
  const char *name;
  char *out;
  size_t cap;
  bool found;
};

static int look_for(void *arg, const char *outer, const char *name, const char *text)
{
  struct one *o = arg;
  if (outer[0] || o->found || strcmp(name, o->name) != 0)
    return 0;
  o->found = true;
  size_t n = strlen(text);
  if (n >= o->cap)
    return -EPROTO;
  memcpy(o->out, text, n + 1);
  return 0;
}

int prelux_s3_field(const char *body, size_t len, const char *root, const char *name, char *out, size_t cap)
{
  struct one o = {.name = name, .out = out, .cap = cap};
  char found[PRELUX_S3_NAME_MAX];
  int rc = prelux_s3_fields(body, len, found, look_for, &o);
  if (rc < 0)
    return rc;
  return strcmp(found, root) != 0 ? -EPROTO : o.found ? 0 : -ENOENT;
}
