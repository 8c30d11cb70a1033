#include "cli/config_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const type_names[] = {
    [PRELUX_T_STRING] = "text",       [PRELUX_T_SECRET] = "secret",     [PRELUX_T_BOOL] = "true or false",
    [PRELUX_T_INT] = "number",        [PRELUX_T_SIZE] = "size",         [PRELUX_T_SHARE] = "share",
    [PRELUX_T_DURATION] = "duration", [PRELUX_T_MODE] = "octal mode",   [PRELUX_T_ENUM] = "one of",
    [PRELUX_T_LIST] = "list",         [PRELUX_T_MAP] = "map",           [PRELUX_T_FRESHNESS] = "freshness",
    [PRELUX_T_PATH] = "path",         [PRELUX_T_URL] = "URL",           [PRELUX_T_ADDRESS] = "host:port",
    [PRELUX_T_SHARE_OR_SIZE] = "share or size", [PRELUX_T_SECTION] = "section",
};

static const struct {
  enum prelux_conf_where where;
  const char *heading;
} sections[] = {
    {PRELUX_AT_TOP, "Top level"}, {PRELUX_AT_CACHE, "cache"},       {PRELUX_AT_LOG, "log"},
    {PRELUX_AT_METRICS, "metrics"}, {PRELUX_AT_MAPPING, "mappings"},
};

/* Values */

static const char *shown_text(const struct prelux_conf_value *v)
{
  return v->raw ? v->raw : v->text ? v->text : "";
}

static bool is_plain(enum prelux_conf_type type)
{
  switch (type)
  {
  case PRELUX_T_BOOL: case PRELUX_T_INT: case PRELUX_T_SIZE: case PRELUX_T_SHARE: case PRELUX_T_DURATION:
  case PRELUX_T_MODE: case PRELUX_T_ENUM: case PRELUX_T_SHARE_OR_SIZE:
    return true;
  default:
    return false;
  }
}

/* JSON of one value; hidden ones are null. JSON's strings, lists and maps are YAML, too. */
static cJSON *value_json(const struct prelux_conf_value *v)
{
  cJSON *o;
  if (v->key->hidden)
    return cJSON_CreateNull();
  switch (v->key->type)
  {
  case PRELUX_T_BOOL:
    return cJSON_CreateBool(v->number != 0);
  case PRELUX_T_INT:
    return cJSON_CreateNumber((double)v->number);
  case PRELUX_T_LIST:
    return cJSON_CreateStringArray((const char *const *)v->items, (int)v->n_items);
  case PRELUX_T_MAP:
    o = cJSON_CreateObject();
    for (size_t i = 0; i + 1 < v->n_items; i += 2)
      cJSON_AddStringToObject(o, v->items[i], v->items[i + 1]);
    return o;
  case PRELUX_T_FRESHNESS:
    if (strcmp(shown_text(v), "max_age") != 0)
      return cJSON_CreateString(shown_text(v));
    o = cJSON_CreateObject();
    char age[32];
    snprintf(age, sizeof age, "%lldms", (long long)(v->number / 1000000));
    cJSON_AddStringToObject(o, "max_age", age);
    return o;
  default:
    return cJSON_CreateString(shown_text(v));
  }
}

static void print_value(const struct prelux_conf_value *v)
{
  if (is_plain(v->key->type))
  {
    puts(shown_text(v));
    return;
  }
  cJSON *json = value_json(v);
  char *text = cJSON_PrintUnformatted(json);
  puts(text ? text : "");
  free(text);
  cJSON_Delete(json);
}

/* One "key: value" line a value; "tls.ca_file" becomes a nested map. */
static void print_values(const struct prelux_conf_value *values, size_t n, int indent)
{
  size_t head = 0;
  const char *open = "";
  for (size_t i = 0; i < n; i++)
  {
    const struct prelux_conf_value *v = &values[i];
    const char *name = v->key->name, *dot = strchr(name, '.');
    if (v->key->hidden)
    {
      printf("%*s# %s is not shown\n", indent, "", name);
      continue;
    }
    if (dot && (head != (size_t)(dot - name) || strncmp(open, name, head) != 0))
      printf("%*s%.*s:\n", indent, "", (int)(dot - name), name);
    head = dot ? (size_t)(dot - name) : 0;
    open = name;
    printf("%*s%s: ", dot ? indent + 2 : indent, "", dot ? dot + 1 : name);
    print_value(v);
  }
}

static void print_quoted(const char *text)
{
  cJSON *s = cJSON_CreateString(text ? text : "");
  char *out = cJSON_PrintUnformatted(s);
  puts(out ? out : "");
  free(out);
  cJSON_Delete(s);
}

/* Show */

static void show_cache(const struct prelux_conf *c)
{
  puts("cache:");
  if (c->cache_dir)
    printf("  dir: ");
  else
    printf("  # dir is chosen when the daemon starts\n");
  if (c->cache_dir)
    print_quoted(c->cache_dir);
  if (c->cache_max_size)
    printf("  max_size: %llu\n", (unsigned long long)c->cache_max_size);
  printf("  high: %g\n  low: %g\n", c->cache_high, c->cache_low);
  if (c->min_free_bytes)
    printf("  min_free: %llu\n", (unsigned long long)c->min_free_bytes);
  else
    printf("  min_free: %g\n", c->min_free_share);
}

static const char *const freshness_names[] = {"max_age", "immutable", "always", "skip"};

static void show_mapping(const struct prelux_conf_mapping *m)
{
  printf("  - local: ");
  print_quoted(m->local);
  printf("    remote: ");
  print_quoted(m->remote);
  for (size_t i = 0; i < m->n_values; i++)
    if (strcmp(m->values[i].key->name, "local") != 0 && strcmp(m->values[i].key->name, "remote") != 0)
      print_values(&m->values[i], 1, 4);
  if (m->n_values == 0) /* an azfuse entry */
  {
    if (m->cache)
      printf("    cache: ");
    if (m->cache)
      print_quoted(m->cache);
    printf("    freshness: %s\n", freshness_names[m->freshness % 4]);
  }
}

void prelux_config_show(const struct prelux_conf *c)
{
  printf("# %s\n", c->source);
  if (c->azfuse)
    printf("# an azfuse list: the first entry that matches wins%s\n", c->azfuse_off ? "; switched off" : "");
  puts("version: 1");
  show_cache(c);
  printf("outside_links: %s\ndaemon_timeout: %llums\nidle_exit: %llums\n", c->outside_links ? "auto" : "off",
         (unsigned long long)(c->daemon_timeout_ns / 1000000), (unsigned long long)(c->idle_exit_ns / 1000000));
  puts("backends:");
  for (size_t i = 0; i < c->n_backends; i++)
  {
    const struct prelux_conf_backend *b = &c->backends[i];
    printf("  %s:\n", b->name);
    print_values(b->values, b->n_values, 4);
  }
  puts("mappings:");
  for (size_t i = 0; i < c->n_mappings; i++)
    show_mapping(&c->mappings[i]);
}

static cJSON *values_object(const struct prelux_conf_value *values, size_t n)
{
  cJSON *o = cJSON_CreateObject();
  for (size_t i = 0; i < n; i++)
    cJSON_AddItemToObject(o, values[i].key->name, value_json(&values[i]));
  return o;
}

cJSON *prelux_config_json(const struct prelux_conf *c)
{
  cJSON *o = cJSON_CreateObject(), *cache = cJSON_AddObjectToObject(o, "cache");
  cJSON_AddStringToObject(o, "file", c->source);
  cJSON_AddBoolToObject(o, "azfuse", c->azfuse);
  cJSON_AddBoolToObject(o, "off", c->azfuse_off);
  if (c->cache_dir)
    cJSON_AddStringToObject(cache, "dir", c->cache_dir);
  else
    cJSON_AddNullToObject(cache, "dir");
  cJSON_AddNumberToObject(cache, "max_size", (double)c->cache_max_size);
  cJSON_AddNumberToObject(cache, "high", c->cache_high);
  cJSON_AddNumberToObject(cache, "low", c->cache_low);
  cJSON *backends = cJSON_AddArrayToObject(o, "backends"), *mappings = cJSON_AddArrayToObject(o, "mappings");
  for (size_t i = 0; i < c->n_backends; i++)
  {
    cJSON *b = values_object(c->backends[i].values, c->backends[i].n_values);
    cJSON_AddStringToObject(b, "name", c->backends[i].name);
    if (!cJSON_HasObjectItem(b, "type"))
      cJSON_AddStringToObject(b, "type", c->backends[i].type);
    cJSON_AddItemToArray(backends, b);
  }
  for (size_t i = 0; i < c->n_mappings; i++)
  {
    const struct prelux_conf_mapping *m = &c->mappings[i];
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "local", m->local);
    cJSON_AddStringToObject(row, "remote", m->remote);
    if (m->cache)
      cJSON_AddStringToObject(row, "cache", m->cache);
    else
      cJSON_AddNullToObject(row, "cache");
    cJSON_AddStringToObject(row, "freshness", freshness_names[m->freshness % 4]);
    cJSON_AddNumberToObject(row, "max_age_s", (double)m->max_age_ns / 1e9);
    cJSON_AddNumberToObject(row, "negative_age_s", (double)m->negative_age_ns / 1e9);
    cJSON_AddItemToArray(mappings, row);
  }
  return o;
}

/* Keys as Markdown */

/* '|' ends a cell. */
static void print_cell(const char *text)
{
  for (; text && *text; text++)
  {
    if (*text == '|')
      putchar('\\');
    putchar(*text);
  }
}

static void print_type(const struct prelux_conf_key *k)
{
  fputs(type_names[k->type], stdout);
  if (!k->choices)
    return;
  putchar(' ');
  print_cell(k->choices);
}

static void print_key(const struct prelux_conf_key *k)
{
  printf("| `%s` | ", k->name);
  print_type(k);
  fputs(" | ", stdout);
  if (k->required)
    fputs("**required**", stdout);
  else if (k->fallback)
    print_cell(k->fallback);
  fputs(" | ", stdout);
  print_cell(k->help);
  puts(k->later ? " *Accepted, no effect in this version.* |" : " |");
}

static void print_keys(enum prelux_conf_where where, const char *backend)
{
  puts("| Key | Type | Default | Meaning |\n|---|---|---|---|");
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == where && (!backend || strcmp(k->backend, backend) == 0))
      print_key(k);
}

void prelux_config_keys(void)
{
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
  {
    printf("### %s\n\n", sections[i].heading);
    print_keys(sections[i].where, NULL);
    puts("");
  }
  puts("### backends: all types\n");
  print_keys(PRELUX_AT_BACKEND, "*");
  for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
  {
    printf("\n### backends: `type: %s`\n\n%s%s\n\n", kind->type, kind->help, kind->later ? " *Read and checked, not served by this version.*" : "");
    print_keys(PRELUX_AT_BACKEND, kind->type);
  }
}

cJSON *prelux_config_keys_json(void)
{
  static const char *const where[] = {"top", "cache", "log", "metrics", "mapping", "backend"};
  cJSON *all = cJSON_CreateArray();
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "where", where[k->where]);
    if (k->backend)
      cJSON_AddStringToObject(o, "backend", k->backend);
    cJSON_AddStringToObject(o, "name", k->name);
    cJSON_AddStringToObject(o, "type", type_names[k->type]);
    if (k->choices)
      cJSON_AddStringToObject(o, "choices", k->choices);
    if (k->fallback)
      cJSON_AddStringToObject(o, "default", k->fallback);
    if (k->sample)
      cJSON_AddStringToObject(o, "sample", k->sample);
    cJSON_AddBoolToObject(o, "required", k->required);
    cJSON_AddBoolToObject(o, "hidden", k->hidden);
    cJSON_AddBoolToObject(o, "later", k->later);
    cJSON_AddStringToObject(o, "help", k->help);
    cJSON_AddItemToArray(all, o);
  }
  return all;
}

/* Example */

static void example_line(const struct prelux_conf_key *k, const char *lead, bool live)
{
  const char *value = k->sample ? k->sample : k->fallback ? k->fallback : "", *dot = strchr(k->name, '.');
  char text[256];
  if (dot) /* a key of a nested map */
    snprintf(text, sizeof text, "%.*s: {%s: %s}", (int)(dot - k->name), k->name, dot + 1, value);
  else
    snprintf(text, sizeof text, "%s: %s", k->name, value);
  printf("%s%s%-40s # %s\n", lead, live ? "" : "# ", text, k->help);
}

static void example_section(enum prelux_conf_where where, const char *backend, const char *lead)
{
  for (const struct prelux_conf_key *k = prelux_conf_keys; k->name; k++)
    if (k->where == where && k->type != PRELUX_T_SECTION && !k->later && (!backend || strcmp(k->backend, backend) == 0) &&
        !(where == PRELUX_AT_MAPPING && k->required) && strcmp(k->name, "type") != 0)
      example_line(k, lead, k->required);
}

void prelux_config_example(void)
{
  puts("# prelux configuration: an example with every key. Lines that begin with # show defaults or possible values.\n"
       "# Put it at ~/.config/prelux/config.yaml, or name it by --config FILE or PRELUX_CONFIG.");
  example_section(PRELUX_AT_TOP, NULL, "");
  puts("\ncache:");
  example_section(PRELUX_AT_CACHE, NULL, "  ");
  puts("\nlog:");
  example_section(PRELUX_AT_LOG, NULL, "  ");
  puts("\nbackends:");
  for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
  {
    if (kind->later)
      continue;
    printf("  my-%s: # %s\n    type: %s\n", kind->type, kind->help, kind->type);
    example_section(PRELUX_AT_BACKEND, kind->type, "    ");
    example_section(PRELUX_AT_BACKEND, "*", "    ");
  }
  puts("\nmappings:");
  for (const struct prelux_conf_kind *kind = prelux_conf_kinds; kind->type; kind++)
  {
    if (kind->later)
      continue;
    printf("  - local: /mnt/%s\n    remote: \"my-%s:/\"\n", kind->type, kind->type);
    example_section(PRELUX_AT_MAPPING, NULL, "    ");
  }
}
