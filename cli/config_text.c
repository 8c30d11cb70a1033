/* A configuration and the table of keys as JSON. */
#include "cli/config_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/conf/show.h"

static const char *const type_names[] = {
    [PRELUX_T_STRING] = "text",       [PRELUX_T_SECRET] = "secret",     [PRELUX_T_BOOL] = "true or false",
    [PRELUX_T_INT] = "number",        [PRELUX_T_SIZE] = "size",         [PRELUX_T_SHARE] = "share",
    [PRELUX_T_DURATION] = "duration", [PRELUX_T_MODE] = "octal mode",   [PRELUX_T_ENUM] = "one of",
    [PRELUX_T_LIST] = "list",         [PRELUX_T_MAP] = "map",           [PRELUX_T_FRESHNESS] = "freshness",
    [PRELUX_T_PATH] = "path",         [PRELUX_T_URL] = "URL",           [PRELUX_T_ADDRESS] = "host:port",
    [PRELUX_T_SHARE_OR_SIZE] = "share or size", [PRELUX_T_SECTION] = "section",
};

static const char *const freshness_names[] = {"max_age", "immutable", "always", "skip"};

static const char *shown_text(const struct prelux_conf_value *v)
{
  return v->raw ? v->raw : v->text ? v->text : "";
}

/* As text, without the user and password of URLs. */
static cJSON *string_json(const char *s)
{
  char *shown = prelux_conf_redacted(s);
  cJSON *o = cJSON_CreateString(shown ? shown : "");
  free(shown);
  return o;
}

/* One value; hidden ones are null. */
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
    o = cJSON_CreateArray();
    for (size_t i = 0; i < v->n_items; i++)
      cJSON_AddItemToArray(o, string_json(v->items[i]));
    return o;
  case PRELUX_T_MAP:
    o = cJSON_CreateObject();
    for (size_t i = 0; i + 1 < v->n_items; i += 2)
      cJSON_AddItemToObject(o, v->items[i],
                            prelux_conf_sounds_secret(v->items[i]) ? cJSON_CreateNull() : string_json(v->items[i + 1]));
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
    return string_json(shown_text(v));
  }
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
