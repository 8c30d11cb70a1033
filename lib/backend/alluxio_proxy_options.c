/* Backend `alluxio-proxy`: from the configuration to option messages. The keys are those of Alluxio's Python API; their
 * values go out as they are, and what is not configured is not sent, so that the server's own default holds. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"
#include "lib/conf/conf.h"

#define BIT(which) (1u << (which))
#define STATUS BIT(PRELUX_PROXY_STATUS)
#define OPEN BIT(PRELUX_PROXY_OPEN)
#define CREATE BIT(PRELUX_PROXY_CREATE)
#define MKDIR BIT(PRELUX_PROXY_MKDIR)

static const struct row
{
  const char *key, *field;
  unsigned into; /* messages that have the field */
  bool common;   /* in commonOptions */
} rows[] = {
    {.key = "load_metadata_type", .field = "loadMetadataType", .into = STATUS},
    {.key = "sync_interval", .field = "syncIntervalMs", .into = STATUS, .common = true},
    {.key = "read_type", .field = "readType", .into = OPEN},
    {.key = "max_ufs_read_concurrency", .field = "maxUfsReadConcurrency", .into = OPEN},
    {.key = "cache_location_policy_class", .field = "cacheLocationPolicyClass", .into = OPEN},
    {.key = "ufs_read_location_policy_class", .field = "ufsReadLocationPolicyClass", .into = OPEN},
    {.key = "write_type", .field = "writeType", .into = CREATE | MKDIR},
    {.key = "recursive", .field = "recursive", .into = CREATE | MKDIR},
    {.key = "allow_exists", .field = "allowExists", .into = MKDIR},
    {.key = "block_size_bytes", .field = "blockSizeBytes", .into = CREATE},
    {.key = "location_policy_class", .field = "locationPolicyClass", .into = CREATE},
    {.key = "replication_min", .field = "replicationMin", .into = CREATE},
    {.key = "replication_max", .field = "replicationMax", .into = CREATE},
    {.key = "replication_durable", .field = "replicationDurable", .into = CREATE},
    {.key = "ttl", .field = "ttl", .into = CREATE, .common = true},
    {.key = "ttl_action", .field = "ttlAction", .into = CREATE, .common = true},
};

static bool add_value(cJSON *to, const char *field, const struct prelux_conf_value *v)
{
  int64_t milliseconds;
  switch (v->key->type)
  {
  case PRELUX_T_BOOL:
    return cJSON_AddBoolToObject(to, field, v->number != 0);
  case PRELUX_T_DURATION:
    milliseconds = v->number / 1000000;
    return cJSON_AddNumberToObject(to, field, (double)milliseconds);
  case PRELUX_T_INT:
  case PRELUX_T_SIZE:
    return cJSON_AddNumberToObject(to, field, (double)v->number);
  default:
    return cJSON_AddStringToObject(to, field, v->text);
  }
}

static bool add_row(cJSON *message, const struct row *row, const struct prelux_conf_value *v)
{
  cJSON *common = cJSON_GetObjectItemCaseSensitive(message, "commonOptions");
  if (row->common && !common)
    common = cJSON_AddObjectToObject(message, "commonOptions");
  return add_value(row->common ? common : message, row->field, v);
}

/* Unset keys have neither a text nor a line. */
static bool is_set(const struct prelux_conf_value *v)
{
  return v && (v->line || v->text);
}

int prelux_proxy_options(struct prelux_proxy *p, const struct prelux_conf_backend *conf)
{
  bool good = true;
  for (size_t i = 0; i < PRELUX_PROXY_MESSAGES; i++)
    good = (p->messages[i] = cJSON_CreateObject()) && good;
  for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && good; i++)
  {
    const struct prelux_conf_value *v = prelux_conf_get(conf, rows[i].key);
    for (unsigned k = 0; k < PRELUX_PROXY_MESSAGES && is_set(v); k++)
      if (rows[i].into & BIT(k))
        good = good && add_row(p->messages[k], &rows[i], v);
    p->streams |= is_set(v) && rows[i].into == OPEN;
  }
  const char *type = prelux_conf_str(conf, "write_type");
  const struct prelux_conf_value *timeout = prelux_conf_get(conf, "timeout");
  p->persists = type && (strcmp(type, "CACHE_THROUGH") == 0 || strcmp(type, "THROUGH") == 0);
  p->mode = (uint32_t)prelux_conf_num(conf, "mode") & 0777;
  p->timeout_s = timeout ? (unsigned)((timeout->number + 999999999) / 1000000000) : 0;
  return good ? 0 : -ENOMEM;
}

void prelux_proxy_options_free(struct prelux_proxy *p)
{
  for (size_t i = 0; i < PRELUX_PROXY_MESSAGES; i++)
    cJSON_Delete(p->messages[i]);
}

bool prelux_proxy_add_mode(cJSON *to, uint32_t mode)
{
  static const char *const names[] = {"NONE", "EXECUTE", "WRITE", "WRITE_EXECUTE",
                                      "READ", "READ_EXECUTE", "READ_WRITE", "ALL"};
  cJSON *bits = cJSON_AddObjectToObject(to, "mode");
  return bits && cJSON_AddStringToObject(bits, "ownerBits", names[mode >> 6 & 7]) &&
         cJSON_AddStringToObject(bits, "groupBits", names[mode >> 3 & 7]) &&
         cJSON_AddStringToObject(bits, "otherBits", names[mode & 7]);
}

char *prelux_proxy_message(const struct prelux_proxy *p, enum prelux_proxy_message which, uint32_t mode)
{
  cJSON *message = cJSON_Duplicate(p->messages[which], true);
  bool good = message && (mode == UINT32_MAX || prelux_proxy_add_mode(message, mode));
  char *text = good ? cJSON_PrintUnformatted(message) : NULL;
  cJSON_Delete(message);
  return text;
}
