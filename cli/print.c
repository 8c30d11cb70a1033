/* How answers look on a terminal. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

#define PRINT_COLUMNS 16

/* Length of the valid UTF-8 sequence at s that is no control character, else 0. */
static size_t printable(const unsigned char *s)
{
  size_t n;
  if (s[0] < 0x80)
    return s[0] >= 0x20 && s[0] != 0x7f;
  if (s[0] >= 0xc2 && s[0] < 0xe0)
    n = 2;
  else if ((s[0] & 0xf0) == 0xe0)
    n = 3;
  else if (s[0] >= 0xf0 && s[0] < 0xf5)
    n = 4;
  else
    return 0;
  for (size_t i = 1; i < n; i++)
    if ((s[i] & 0xc0) != 0x80)
      return 0;
  if ((s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] >= 0xa0) ||
      (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] >= 0x90))
    return 0;
  return n;
}

static bool is_utf8(const char *text)
{
  for (const unsigned char *s = (const unsigned char *)text; *s;)
  {
    size_t n = *s < 0x80 ? 1 : printable(s);
    if (n == 0)
      return false;
    s += n;
  }
  return true;
}

/* Names need not be UTF-8, JSON must be: other bytes become U+FFFD. */
void prelux_print_clean(cJSON *value)
{
  if (cJSON_IsString(value) && !is_utf8(value->valuestring))
  {
    char *clean = malloc(strlen(value->valuestring) * 3 + 1), *out = clean;
    if (!clean)
      abort();
    for (const unsigned char *s = (const unsigned char *)value->valuestring; *s;)
    {
      size_t n = *s < 0x80 ? 1 : printable(s);
      memcpy(out, n ? (const char *)s : "\xef\xbf\xbd", n ? n : 3);
      out += n ? n : 3;
      s += n ? n : 1;
    }
    *out = 0;
    cJSON_SetValuestring(value, clean);
    free(clean);
  }
  cJSON *child;
  cJSON_ArrayForEach(child, value) prelux_print_clean(child);
}

void prelux_print_json(cJSON *value)
{
  prelux_print_clean(value);
  char *text = cJSON_Print(value);
  if (text)
    puts(text);
  free(text);
  cJSON_Delete(value);
}

void prelux_print_json_text(const char *json)
{
  int depth = 0;
  bool string = false;
  for (const char *p = json; *p; p++)
  {
    bool open = !string && (*p == '{' || *p == '['), shut = !string && (*p == '}' || *p == ']');
    bool empty = (open && (p[1] == '}' || p[1] == ']')) || (shut && p > json && (p[-1] == '{' || p[-1] == '['));
    if (*p == '"')
      string = !string;
    else if (string && *p == '\\' && p[1])
      putchar(*p++);
    if (shut && !empty)
      printf("\n%*s", --depth * 2, "");
    putchar(*p);
    if ((open && !empty) || (!string && *p == ','))
      printf("\n%*s", (depth += open) * 2, "");
    else if (!string && *p == ':')
      putchar(' ');
  }
  putchar('\n');
}

const char *prelux_print_size(char *buf, size_t cap, double bytes)
{
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t i = 0;
  while (bytes >= 1024 && i + 1 < sizeof units / sizeof *units)
  {
    bytes /= 1024;
    i++;
  }
  snprintf(buf, cap, i && bytes < 10 ? "%.1f %s" : "%.0f %s", bytes, units[i]);
  return buf;
}

const char *prelux_print_time(char *buf, size_t cap, int64_t ns)
{
  struct tm tm;
  time_t s = (time_t)(ns / 1000000000);
  if (ns == 0 || !localtime_r(&s, &tm) || strftime(buf, cap, "%Y-%m-%d %H:%M:%S", &tm) == 0)
    snprintf(buf, cap, "-");
  return buf;
}

const char *prelux_print_duration(char *buf, size_t cap, double seconds)
{
  if (seconds < 120)
    snprintf(buf, cap, "%.0f s", seconds);
  else if (seconds < 7200)
    snprintf(buf, cap, "%.0f min", seconds / 60);
  else if (seconds < 48 * 3600)
    snprintf(buf, cap, "%.0f h", seconds / 3600);
  else
    snprintf(buf, cap, "%.0f d", seconds / 86400);
  return buf;
}

char *prelux_print_name(const char *name)
{
  const unsigned char *s = (const unsigned char *)name;
  char *out = malloc(strlen(name) * 4 + 1), *p = out;
  if (!out)
    abort();
  while (*s)
  {
    size_t n = printable(s);
    if (n == 0)
      p += sprintf(p, "\\x%02x", *s++);
    for (; n > 0; n--)
      *p++ = (char)*s++;
  }
  *p = 0;
  return out;
}

void prelux_print_row(struct prelux_print_table *t, ...)
{
  va_list ap;
  if (t->rows == t->cap)
  {
    t->cap = t->cap ? t->cap * 2 : 16;
    t->cells = realloc(t->cells, (size_t)t->cap * (size_t)t->columns * sizeof *t->cells);
    if (!t->cells)
      abort();
  }
  va_start(ap, t);
  for (int i = 0; i < t->columns; i++)
  {
    const char *cell = va_arg(ap, const char *);
    t->cells[t->rows * t->columns + i] = prelux_print_name(cell ? cell : "-");
  }
  va_end(ap);
  t->rows++;
}

/* Columns on a terminal, about: one for each code point. */
static int width(const char *s)
{
  int n = 0;
  for (; *s; s++)
    n += ((unsigned char)*s & 0xc0) != 0x80;
  return n;
}

void prelux_print_table(struct prelux_print_table *t)
{
  int widest[PRINT_COLUMNS] = {0};
  for (int i = 0; i < t->rows * t->columns; i++)
  {
    int w = width(t->cells[i]), c = i % t->columns;
    widest[c] = w > widest[c] ? w : widest[c];
  }
  for (int i = 0; i < t->rows * t->columns; i++)
  {
    int c = i % t->columns, pad = widest[c] - width(t->cells[i]);
    bool last = c == t->columns - 1, right = t->right >> c & 1;
    printf("%*s%s%*s%s", right ? pad : 0, "", t->cells[i], right || last ? 0 : pad, "", last ? "\n" : "  ");
    free(t->cells[i]);
  }
  free(t->cells);
  t->cells = NULL;
  t->rows = t->cap = 0;
}

const char *prelux_json_str(const cJSON *o, const char *key, const char *missing)
{
  const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
  return cJSON_IsString(v) ? v->valuestring : missing;
}

double prelux_json_num(const cJSON *o, const char *key, double missing)
{
  const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
  return cJSON_IsNumber(v) ? v->valuedouble : missing;
}

bool prelux_json_bool(const cJSON *o, const char *key)
{
  return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, key));
}
