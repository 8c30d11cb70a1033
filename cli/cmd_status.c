/* prelux status: the state of everything that the configuration names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static bool in_order(const cJSON *o)
{
  const char *state = prelux_json_str(o, "state", "ok");
  return strcmp(state, "ok") == 0 || strcmp(state, "unknown") == 0 || strcmp(state, "idle") == 0;
}

static bool any_wrong(const cJSON *array)
{
  const cJSON *o;
  cJSON_ArrayForEach(o, array) if (!in_order(o)) return true;
  return false;
}

static void print_daemon(const cJSON *d)
{
  char up[32];
  printf("daemon    pid %.0f, version %s, up %s, %.0f clients\n", prelux_json_num(d, "pid", 0), prelux_json_str(d, "version", "?"),
         prelux_print_duration(up, sizeof up, prelux_json_num(d, "uptime_s", 0)), prelux_json_num(d, "clients", 0));
}

static void print_cache(const cJSON *c)
{
  char used[24], max[24], filled[24];
  if (!c)
    return;
  printf("cache     %s: %s of %s in %.0f files; %.0f fills (%s), %.0f evicted\n", prelux_json_str(c, "dir", "-"),
         prelux_print_size(used, sizeof used, prelux_json_num(c, "used_bytes", 0)),
         prelux_print_size(max, sizeof max, prelux_json_num(c, "max_bytes", 0)), prelux_json_num(c, "files", 0),
         prelux_json_num(c, "fills", 0), prelux_print_size(filled, sizeof filled, prelux_json_num(c, "filled_bytes", 0)),
         prelux_json_num(c, "evictions", 0));
}

static void print_backends(const cJSON *backends)
{
  struct prelux_print_table t = {.columns = 4};
  const cJSON *b;
  if (cJSON_GetArraySize(backends) == 0)
    return;
  puts("");
  prelux_print_row(&t, "BACKEND", "TYPE", "STATE", "DATA");
  cJSON_ArrayForEach(b, backends) prelux_print_row(&t, prelux_json_str(b, "name", "?"), prelux_json_str(b, "type", "?"),
                                                   prelux_json_str(b, "state", "-"), prelux_json_str(b, "identity", "-"));
  prelux_print_table(&t);
}

static void print_mappings(const cJSON *mappings)
{
  struct prelux_print_table t = {.columns = 5};
  const cJSON *m;
  if (cJSON_GetArraySize(mappings) == 0)
    return;
  puts("");
  prelux_print_row(&t, "MAPPING", "REMOTE", "FRESHNESS", "STATE", "CACHE");
  cJSON_ArrayForEach(m, mappings) prelux_print_row(&t, prelux_json_str(m, "local", "?"), prelux_json_str(m, "remote", "?"),
                                                   prelux_json_str(m, "freshness", "-"), prelux_json_str(m, "state", "ok"),
                                                   prelux_json_str(m, "cache", "-"));
  prelux_print_table(&t);
  cJSON_ArrayForEach(m, mappings)
  {
    const char *cause = prelux_json_str(m, "cause", NULL), *advice = prelux_json_str(m, "advice", NULL);
    if (cause && *cause)
      printf("%s: %s%s%s\n", prelux_json_str(m, "local", "?"), cause, advice && *advice ? "\n    -> " : "", advice ? advice : "");
  }
}

int prelux_cmd_status(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = "status", .table = true};
  cJSON *answer;
  int ret = prelux_cli_ask(cli, &call, &answer, NULL);
  if (ret != 0)
  {
    cJSON_Delete(answer);
    return ret;
  }
  const cJSON *backends = cJSON_GetObjectItemCaseSensitive(answer, "backends");
  const cJSON *mappings = cJSON_GetObjectItemCaseSensitive(answer, "mappings");
  const cJSON *daemon = cJSON_GetObjectItemCaseSensitive(answer, "daemon"), *errors = cJSON_GetObjectItemCaseSensitive(answer, "errors");
  ret = any_wrong(backends) || any_wrong(mappings) ? PRELUX_EXIT_DEGRADED : 0;
  if (cli->json)
  {
    prelux_print_json(answer);
    return ret;
  }
  if (daemon)
    print_daemon(daemon);
  print_cache(cJSON_GetObjectItemCaseSensitive(answer, "cache"));
  print_backends(backends);
  print_mappings(mappings);
  if (cJSON_GetArraySize(errors) > 0)
    printf("\n%d recent errors: see `prelux errors`\n", cJSON_GetArraySize(errors));
  cJSON_Delete(answer);
  return ret;
}
