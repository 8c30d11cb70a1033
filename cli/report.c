/* What backends report is theirs to choose: JSON of any shape, shown as text without knowing what it means. Underscores in names
 * become blanks; names that end in "bytes" or "size" have sizes, those in _s and _ms times. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define LABEL 12
#define DEPTH_MAX 8

static bool ends_in(const char *s, const char *end)
{
  size_t n = strlen(s), m = strlen(end);
  return n >= m && strcmp(s + n - m, end) == 0;
}

/* "s" or "ms" behind the last underscore: of a time; else NULL. */
static const char *unit_of(const char *key)
{
  return key && ends_in(key, "_s") ? "s" : key && ends_in(key, "_ms") ? "ms" : NULL;
}

static void put_words(const char *key, FILE *f)
{
  const char *unit = unit_of(key);
  for (size_t n = strlen(key) - (unit ? strlen(unit) + 1 : 0); n > 0; n--, key++)
    fputc(*key == '_' ? ' ' : *key, f);
}

static void put_number(double v, const char *key, FILE *f)
{
  char size[24];
  const char *unit = unit_of(key);
  if (key && (ends_in(key, "bytes") || ends_in(key, "size")) && v >= 0)
    fputs(prelux_print_size(size, sizeof size, v), f);
  else if (v == (double)(int64_t)v)
    fprintf(f, "%.0f", v);
  else
    fprintf(f, "%g", v);
  if (unit)
    fprintf(f, " %s", unit);
}

static void put_value(const cJSON *v, const char *key, int depth, FILE *f);

/* "worker a:1, http (state ok, ok 3)" */
static void put_members(const cJSON *o, int depth, FILE *f)
{
  const cJSON *m;
  cJSON_ArrayForEach(m, o)
  {
    bool nested = cJSON_IsObject(m) || cJSON_IsArray(m);
    if (cJSON_IsObject(o))
    {
      put_words(m->string, f);
      fputc(' ', f);
    }
    fputs(nested ? "(" : "", f);
    put_value(m, m->string, depth + 1, f);
    fputs(nested ? ")" : "", f);
    fputs(m->next ? ", " : "", f);
  }
}

static void put_value(const cJSON *v, const char *key, int depth, FILE *f)
{
  if (cJSON_IsString(v))
  {
    char *text = prelux_print_name(v->valuestring);
    fputs(*text ? text : "-", f);
    free(text);
  }
  else if (cJSON_IsNumber(v))
    put_number(v->valuedouble, key, f);
  else if (cJSON_IsBool(v))
    fputs(cJSON_IsTrue(v) ? "yes" : "no", f);
  else if ((cJSON_IsObject(v) || cJSON_IsArray(v)) && v->child && depth < DEPTH_MAX)
    put_members(v, depth, f);
  else
    fputs(depth < DEPTH_MAX ? "-" : "...", f);
}

char *prelux_print_inline(const cJSON *value, const char *key)
{
  char *text = NULL;
  size_t len;
  FILE *f = open_memstream(&text, &len);
  if (!f)
    abort();
  put_value(value, key, 0, f);
  if (fclose(f) != 0 || !text)
    abort();
  return text;
}

static bool among(const char *const *list, const char *word)
{
  for (; list && *list; list++)
    if (strcmp(*list, word) == 0)
      return true;
  return false;
}

static void print_line(const char *indent, const char *label, const cJSON *value, const char *key)
{
  char *text = prelux_print_inline(value, key);
  printf("%s%-*s  %s\n", indent, LABEL, label, text);
  free(text);
}

void prelux_print_report(const cJSON *o, const char *const *skip, const char *indent)
{
  const cJSON *m, *item;
  cJSON_ArrayForEach(m, o)
  {
    char label[64];
    size_t n = 0;
    if (!m->string || among(skip, m->string))
      continue;
    for (; m->string[n] && n + 1 < sizeof label; n++)
      label[n] = m->string[n] == '_' ? ' ' : m->string[n];
    label[n] = 0;
    if (!cJSON_IsArray(m) || !m->child || !cJSON_IsObject(m->child))
    {
      print_line(indent, label, m, m->string);
      continue;
    }
    cJSON_ArrayForEach(item, m) print_line(indent, item == m->child ? label : "", item, m->string);
  }
}
