/* The configuration in force, as YAML. It must be safe to paste into a bug report. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "include/prelux/table.h"
#include "lib/conf/internal.h"
#include "lib/conf/show.h"

#define HIDDEN "***"

/* Could `s` stand without quotes and come back as the same string? */
static bool is_plain(const char *s)
{
  if (!isalnum((unsigned char)*s) && !strchr("/.~_", *s))
    return false;
  if (*s == 0 || strcmp(s, "~") == 0 || strcasecmp(s, "null") == 0)
    return false;
  for (; *s; s++)
    if (!isalnum((unsigned char)*s) && !strchr("/.~_%+-", *s))
      return false;
  return true;
}

static void put_string(const char *s, FILE *f)
{
  if (is_plain(s))
  {
    fputs(s, f);
    return;
  }
  fputc('"', f);
  for (; *s; s++)
  {
    if (*s == '"' || *s == '\\')
      fputc('\\', f);
    if ((unsigned char)*s < 0x20 || *s == 0x7f)
      fprintf(f, "\\x%02x", (unsigned)*s);
    else
      fputc(*s, f);
  }
  fputc('"', f);
}

char *prelux_conf_redacted(const char *s)
{
  const char *authority = strstr(s, "://");
  if (!authority)
    return strdup(s);
  authority += 3;
  const char *at = memrchr(authority, '@', strcspn(authority, "/?#")), *query = strchr(authority, '?');
  const char *rest = at ? at : authority;
  int tail = query ? (int)(query - rest) + 1 : (int)strlen(rest);
  char *out;
  int n = asprintf(&out, "%.*s%s%.*s%s", (int)(authority - s), s, at ? HIDDEN : "", tail, rest, query ? HIDDEN : "");
  return n < 0 ? NULL : out;
}

static void put_careful(const char *s, FILE *f)
{
  char *out = prelux_conf_redacted(s);
  put_string(out ? out : HIDDEN, f);
  free(out);
}

/* Is a secret as written nothing but a reference, which may be shown? */
static bool is_reference(const char *raw)
{
  size_t n = raw ? strlen(raw) : 0;
  if (n == 0)
    return false;
  if (strncmp(raw, "file:", 5) == 0)
    return true;
  return n > 3 && raw[0] == '$' && raw[1] == '{' && strchr(raw, '}') == raw + n - 1;
}

/* Names of properties whose values nobody should see, wherever they turn up. */
bool prelux_conf_sounds_secret(const char *name)
{
  static const char *const words[] = {"secret", "password", "token", "credential", "accesskey", "access.key", "access_key"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
    if (strcasestr(name, words[i]))
      return true;
  return false;
}

/* The largest unit that shows it whole. */
static void put_duration(int64_t ns, FILE *f)
{
  static const struct {
    int64_t ns;
    const char *name;
  } units[] = {{86400000000000, "d"}, {3600000000000, "h"}, {60000000000, "m"}, {1000000000, "s"}, {1000000, "ms"}, {1000, "us"}, {1, "ns"}};
  size_t i = 0;
  while (ns % units[i].ns)
    i++;
  fprintf(f, "%lld%s", (long long)(ns / units[i].ns), units[i].name);
}

static void put_value(const struct prelux_conf_value *v, FILE *f)
{
  switch (v->key->type)
  {
  case PRELUX_T_LIST:
    for (size_t i = 0; i < v->n_items; i++)
    {
      fputs(i ? ", " : "[", f);
      put_careful(v->items[i], f);
    }
    fputc(']', f);
    break;
  case PRELUX_T_MAP:
    for (size_t i = 0; i + 1 < v->n_items; i += 2)
    {
      fputs(i ? ", " : "{", f);
      put_string(v->items[i], f);
      fputs(": ", f);
      put_careful(v->key->hidden || prelux_conf_sounds_secret(v->items[i]) ? HIDDEN : v->items[i + 1], f);
    }
    fputs(v->n_items ? "}" : "{}", f);
    break;
  case PRELUX_T_FRESHNESS:
    if (strcmp(v->text, "max_age") == 0)
    {
      fputs("{max_age: ", f);
      put_duration(v->number, f);
      fputc('}', f);
    }
    else
      fputs(v->text, f);
    break;
  case PRELUX_T_PATH:
    put_string(v->text, f);
    break;
  default:
    put_careful(!v->key->hidden ? v->raw ? v->raw : v->text : is_reference(v->raw) ? v->raw : HIDDEN, f);
    break;
  }
}

/* Values of one place, nested ones under their group. The first line's indentation is `first`, so that it can follow "- ". */
static void put_values(const struct prelux_conf_value *values, size_t n, enum prelux_conf_where where, const char *first,
                       const char *indent, FILE *f)
{
  char group[PRELUX_CONF_NAME_MAX] = "";
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    const struct prelux_conf_value *v = NULL;
    const char *dot = strchr(k->name, '.');
    for (size_t i = 0; i < n && !v; i++)
      v = values[i].key == k && k->where == where ? &values[i] : NULL;
    if (!v)
      continue;
    size_t len = dot ? (size_t)(dot - k->name) : 0;
    if (dot && (strlen(group) != len || strncmp(group, k->name, len) != 0))
    {
      snprintf(group, sizeof group, "%.*s", (int)len, k->name);
      fprintf(f, "%s%s:\n", first, group);
      first = indent;
    }
    fprintf(f, "%s%s%s: ", first, dot ? "  " : "", dot ? dot + 1 : k->name);
    first = indent;
    put_value(v, f);
    fputs(v->line ? "\n" : " # default\n", f);
  }
}

static void put_azfuse_mapping(const struct prelux_conf_mapping *m, FILE *f)
{
  const struct {
    const char *name, *text;
  } rows[] = {{"local", m->local}, {"cache", m->cache}};
  for (size_t i = 0; i < 2; i++)
  {
    fprintf(f, "%s%s: ", i ? "    " : "  - ", rows[i].name);
    put_string(rows[i].text, f);
    fputc('\n', f);
  }
  char *remote;
  if (asprintf(&remote, "%s:/%s", m->backend, m->path) < 0)
    return;
  fputs("    remote: ", f);
  put_string(remote, f);
  fputs("\n    freshness: immutable\n", f);
  free(remote);
}

static void put_sections(const struct prelux_conf *c, FILE *f)
{
  static const struct {
    const char *name;
    enum prelux_conf_where where;
  } sections[] = {{"cache", PRELUX_AT_CACHE}, {"log", PRELUX_AT_LOG}, {"metrics", PRELUX_AT_METRICS}};
  put_values(c->values, c->n_values, PRELUX_AT_TOP, "", "", f);
  for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
  {
    bool any = false;
    for (size_t k = 0; k < c->n_values; k++)
      any |= c->values[k].key->where == sections[i].where;
    if (!any)
      continue;
    fprintf(f, "%s:\n", sections[i].name);
    put_values(c->values, c->n_values, sections[i].where, "  ", "  ", f);
  }
}

void prelux_conf_show(const struct prelux_conf *c, FILE *f)
{
  fprintf(f, "# %s\n", c->source);
  if (c->azfuse)
    fprintf(f, "# azfuse's list: the first entry that matches wins.%s\nversion: 1\n",
            c->azfuse_off ? " Switched off by USE_FUSE." : "");
  put_sections(c, f);
  fputs(c->n_backends ? "backends:\n" : "backends: {}\n", f);
  for (size_t i = 0; i < c->n_backends; i++)
  {
    fputs("  ", f);
    put_string(c->backends[i].name, f);
    fputs(":\n", f);
    put_values(c->backends[i].values, c->backends[i].n_values, PRELUX_AT_BACKEND, "    ", "    ", f);
  }
  fputs(c->n_mappings ? "mappings:\n" : "mappings: []\n", f);
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    if (c->azfuse)
      put_azfuse_mapping(&c->mappings[i], f);
    else
      put_values(c->mappings[i].values, c->mappings[i].n_values, PRELUX_AT_MAPPING, "  - ", "    ", f);
  }
}

const char *prelux_conf_unserved(const struct prelux_conf_backend *b)
{
  for (const struct prelux_conf_kind *k = prelux_conf_kinds; k->type; k++)
    if (b->type && strcmp(k->type, b->type) == 0)
      return k->later ? "this version of prelux cannot serve backends of this type yet: paths mapped to it give EIO" : NULL;
  return NULL;
}
