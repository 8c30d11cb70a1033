/* The scanner knows just enough JSON to find where an element ends: strings, escapes and brackets. cJSON then judges
 * it. */
#include "lib/backend/json_array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void prelux_json_array_init(struct prelux_json_array *j, prelux_json_fn each, void *arg)
{
  *j = (struct prelux_json_array){.each = each, .arg = arg, .state = PRELUX_JSON_BEFORE};
}

void prelux_json_array_release(struct prelux_json_array *j)
{
  free(j->text);
  j->text = NULL;
}

static bool blank(char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* cJSON ends a string at \u0000, so that "a\u0000b" would be taken for "a". */
static bool has_nul(const char *text, size_t len)
{
  static const char nul[] = "\\u0000";
  return memchr(text, 0, len) || memmem(text, len, nul, sizeof(nul) - 1);
}

static bool too_deep(const char *text, size_t len)
{
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < len; i++)
  {
    char c = text[i];
    if (in_string && c == '\\')
      i++;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '{' || c == '['))
      depth++;
    else if (!in_string && (c == '}' || c == ']'))
      depth--;
    if (depth > PRELUX_JSON_DEPTH_MAX)
      return true;
  }
  return false;
}

cJSON *prelux_json_object(const char *text, size_t len)
{
  const char *end = NULL;
  if (len > PRELUX_JSON_ELEMENT_MAX || has_nul(text, len) || too_deep(text, len))
    return NULL;
  cJSON *doc = cJSON_ParseWithLengthOpts(text, len, &end, false);
  while (doc && end < text + len && blank(*end))
    end++;
  if (doc && (!cJSON_IsObject(doc) || end != text + len))
  {
    cJSON_Delete(doc);
    doc = NULL;
  }
  return doc;
}

static int keep(struct prelux_json_array *j, char c)
{
  if (j->len == j->cap)
  {
    if (j->cap >= PRELUX_JSON_ELEMENT_MAX)
      return -EPROTO;
    size_t cap = j->cap ? 2 * j->cap : 4096;
    char *grown = realloc(j->text, cap);
    if (!grown)
      return -ENOMEM;
    j->text = grown;
    j->cap = cap;
  }
  j->text[j->len++] = c;
  return 0;
}

static int emit(struct prelux_json_array *j)
{
  cJSON *object = prelux_json_object(j->text, j->len);
  if (!object)
    return -EPROTO;
  j->count++;
  j->len = 0;
  j->state = PRELUX_JSON_AFTER_ONE;
  int rc = j->each(j->arg, object);
  cJSON_Delete(object);
  return rc;
}

static int inside(struct prelux_json_array *j, char c)
{
  int rc = keep(j, c);
  if (rc < 0)
    return rc;
  if (j->in_string)
  {
    if (j->escaped)
      j->escaped = false;
    else if (c == '\\')
      j->escaped = true;
    else if (c == '"')
      j->in_string = false;
    return 0;
  }
  if (c == '"')
    j->in_string = true;
  else if ((c == '{' || c == '[') && ++j->depth > PRELUX_JSON_DEPTH_MAX)
    return -EPROTO;
  else if (c == '}' || c == ']')
    j->depth--;
  return j->depth == 0 ? emit(j) : 0;
}

static int outside(struct prelux_json_array *j, char c)
{
  if (blank(c))
    return 0;
  switch (j->state)
  {
  case PRELUX_JSON_BEFORE:
    j->state = PRELUX_JSON_FIRST;
    return c == '[' ? 0 : -EPROTO;
  case PRELUX_JSON_AFTER_ONE:
    j->state = c == ',' ? PRELUX_JSON_NEXT : PRELUX_JSON_CLOSED;
    return c == ',' || c == ']' ? 0 : -EPROTO;
  case PRELUX_JSON_FIRST:
    if (c == ']')
    {
      j->state = PRELUX_JSON_CLOSED;
      return 0;
    }
    /* fall through */
  case PRELUX_JSON_NEXT:
    j->state = PRELUX_JSON_INSIDE;
    return c == '{' ? inside(j, c) : -EPROTO;
  default:
    return -EPROTO; /* something behind the array */
  }
}

int prelux_json_array_feed(struct prelux_json_array *j, const char *data, size_t len)
{
  int rc = 0;
  for (size_t i = 0; i < len && rc == 0; i++)
    rc = j->state == PRELUX_JSON_INSIDE ? inside(j, data[i]) : outside(j, data[i]);
  return rc;
}

int prelux_json_array_end(const struct prelux_json_array *j)
{
  return j->state == PRELUX_JSON_CLOSED ? 0 : -EPROTO;
}
