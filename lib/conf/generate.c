/* What is made from the key table: the example and the tables of docs/CONFIGURATION.md. */
#include <string.h>

#include "lib/conf/internal.h"
#include "lib/conf/show.h"

static const struct place {
  enum prelux_conf_where where;
  const char *name, *title;
} sections[] = {
    {PRELUX_AT_TOP, NULL, "Top level"},
    {PRELUX_AT_CACHE, "cache", "`cache`"},
    {PRELUX_AT_LOG, "log", "`log`"},
    {PRELUX_AT_METRICS, "metrics", "`metrics`"},
};
#define N_SECTIONS (sizeof sections / sizeof sections[0])

static const char *value_of(const struct prelux_conf_key *k)
{
  return k->fallback ? k->fallback : k->sample;
}

static bool of_backend(const struct prelux_conf_key *k, const char *type)
{
  return k->where == PRELUX_AT_BACKEND && strcmp(k->backend, type) == 0;
}

static void put_help(const struct prelux_conf_key *k, const char *indent, FILE *f)
{
  fprintf(f, "%s# %s%s\n", indent, k->help, k->later ? " (No effect in this version.)" : "");
}

/* One key, behind a '#' unless it is `live`. */
static void put_key(const struct prelux_conf_key *k, const char *name, const char *indent, bool live, FILE *f)
{
  put_help(k, indent, f);
  fprintf(f, "%s%s%s: %s\n", indent, live ? "" : "#", name, value_of(k));
}

/* Of every kind of backend. */
static void put_common(FILE *f)
{
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (of_backend(k, "*") && strncmp(k->name, "tls.", 4) != 0 && strcmp(k->name, "type") != 0)
      put_key(k, k->name, "    ", false, f);
  fputs("    #tls:\n", f);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (of_backend(k, "*") && strncmp(k->name, "tls.", 4) == 0)
      put_key(k, k->name + 4, "      ", false, f);
}

static void put_backend(const struct prelux_conf_kind *kind, bool live, FILE *f)
{
  const char *hash = live ? "" : "#";
  fprintf(f, "\n  # %s%s\n", kind->help, kind->later ? " (Checked, but not served by this version.)" : "");
  fprintf(f, "  %s%s:\n    %stype: %s\n", hash, live ? "store" : kind->type, hash, kind->type);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (of_backend(k, kind->type))
      put_key(k, k->name, "    ", live && k->required, f);
  put_common(f);
}

void prelux_conf_example(FILE *f)
{
  fputs("# Configuration of prelux. Lines such as `#key: value` show the keys that may be given too, with their default, or with\n"
        "# an example where there is none. `prelux config check` looks for mistakes, `prelux config show` shows what is in force.\n\n",
        f);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == PRELUX_AT_TOP && k->type != PRELUX_T_SECTION)
      put_key(k, k->name, "", k->required, f);
  for (size_t i = 1; i < N_SECTIONS; i++)
  {
    fputc('\n', f);
    put_help(prelux_conf_row(PRELUX_AT_TOP, NULL, sections[i].name), "", f);
    fprintf(f, "#%s:\n", sections[i].name);
    for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
      if (k->where == sections[i].where)
        put_key(k, k->name, "  ", false, f);
  }
  fputc('\n', f);
  put_help(prelux_conf_row(PRELUX_AT_TOP, NULL, "backends"), "", f);
  fputs("backends:\n", f);
  for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
    put_backend(kind, kind == prelux_conf_kinds, f);
  fputc('\n', f);
  put_help(prelux_conf_row(PRELUX_AT_TOP, NULL, "mappings"), "", f);
  fputs("mappings:\n  -\n", f);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == PRELUX_AT_MAPPING)
      put_key(k, k->name, "    ", k->required, f);
}

static void put_type(const struct prelux_conf_key *k, FILE *f)
{
  static const char *const names[] = {
      [PRELUX_T_STRING] = "string",  [PRELUX_T_SECRET] = "secret",       [PRELUX_T_BOOL] = "true, false",
      [PRELUX_T_INT] = "number",     [PRELUX_T_SIZE] = "size",           [PRELUX_T_SHARE] = "share",
      [PRELUX_T_DURATION] = "time",  [PRELUX_T_MODE] = "octal mode",     [PRELUX_T_LIST] = "list",
      [PRELUX_T_MAP] = "map",        [PRELUX_T_FRESHNESS] = "freshness", [PRELUX_T_PATH] = "path",
      [PRELUX_T_URL] = "URL",        [PRELUX_T_ADDRESS] = "host:port",   [PRELUX_T_SHARE_OR_SIZE] = "share or size",
      [PRELUX_T_SECTION] = "keys",
  };
  if (k->type != PRELUX_T_ENUM)
  {
    fputs(names[k->type], f);
    if (k->choices)
      fprintf(f, " %s", k->choices);
    return;
  }
  for (const char *c = k->choices; *c;)
  {
    size_t n = strcspn(c, "|");
    fprintf(f, "`%.*s`", (int)n, c);
    c += n;
    if (*c)
      fputs(", ", f), c++;
  }
}

static void put_row(const struct prelux_conf_key *k, FILE *f)
{
  fprintf(f, "| `%s` | ", k->name);
  put_type(k, f);
  if (k->required)
    fputs(" | **required**", f);
  else if (k->fallback)
    fprintf(f, " | `%s`", k->fallback);
  else
    fputs(" | ", f);
  fprintf(f, " | %s%s |\n", k->help, k->later ? " *No effect in this version.*" : "");
}

static void put_head(const char *title, const char *help, FILE *f)
{
  fprintf(f, "\n### %s\n\n%s%s| key | value | default | meaning |\n|---|---|---|---|\n", title, help, *help ? "\n\n" : "");
}

void prelux_conf_markdown(FILE *f)
{
  fputs(PRELUX_CONF_MARK_BEGIN, f);
  for (size_t i = 0; i < N_SECTIONS; i++)
  {
    put_head(sections[i].title, "", f);
    for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
      if (k->where == sections[i].where)
        put_row(k, f);
  }
  put_head("`mappings`", "A list; each entry has", f);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == PRELUX_AT_MAPPING)
      put_row(k, f);
  put_head("`backends`, any type", "A map of names (letters, digits, `_`, `.`, `-`) to backends; each has", f);
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (of_backend(k, "*"))
      put_row(k, f);
  for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
  {
    char title[PRELUX_CONF_NAME_MAX], help[256];
    snprintf(title, sizeof title, "Backend `%s`", kind->type);
    snprintf(help, sizeof help, "%s%s", kind->help, kind->later ? " *Checked, but not served by this version.*" : "");
    put_head(title, help, f);
    for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
      if (of_backend(k, kind->type))
        put_row(k, f);
  }
  fputs("\n" PRELUX_CONF_MARK_END, f);
}
