/* prelux status: the state of everything that the configuration names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

static bool any_wrong(const cJSON *backends, const cJSON *mappings)
{
  const cJSON *o;
  cJSON_ArrayForEach(o, backends) if (cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(o, "ok"))) return true;
  cJSON_ArrayForEach(o, mappings) if (prelux_json_bool(o, "broken")) return true;
  return false;
}

static void print_cache(const cJSON *c)
{
  char used[24], max[24];
  const cJSON *stores = cJSON_GetObjectItemCaseSensitive(c, "stores"), *s;
  cJSON_ArrayForEach(s, stores)
  {
    double hits = prelux_json_num(s, "hits", 0), fills = prelux_json_num(s, "fills", 0);
    printf("cache     %s: %s of %s in %.0f files", prelux_json_str(s, "dir", "-"),
           prelux_print_size(used, sizeof used, prelux_json_num(s, "used_bytes", 0)),
           prelux_print_size(max, sizeof max, prelux_json_num(s, "max_bytes", 0)), prelux_json_num(s, "files", 0));
    printf("; asked %.0f times, filled %.0f (%s), evicted %.0f\n", hits + fills, fills,
           prelux_print_size(used, sizeof used, prelux_json_num(s, "filled_bytes", 0)), prelux_json_num(s, "evictions", 0));
  }
}

static const char *backend_state(const cJSON *b)
{
  if (!cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(b, "ok")))
    return "ok";
  return cJSON_GetObjectItemCaseSensitive(b, "trouble") ? "degraded" : "broken";
}

/* What backends say of themselves: workers, hits by source, where credentials come from. */
static void print_reports(const cJSON *backends)
{
  static const char *const shown[] = {"name", "type", "identity", "ok", NULL};
  const cJSON *b, *m;
  cJSON_ArrayForEach(b, backends)
  {
    int n = 0;
    cJSON_ArrayForEach(m, b) n++;
    if (n < (int)(sizeof shown / sizeof *shown))
      continue;
    printf("\n%s:\n", prelux_json_str(b, "name", "?"));
    prelux_print_report(b, shown, "  ");
  }
}

static void print_backends(const cJSON *backends)
{
  struct prelux_print_table t = {.columns = 4};
  const cJSON *b;
  if (cJSON_GetArraySize(backends) == 0)
    return;
  puts("");
  prelux_print_row(&t, "BACKEND", "TYPE", "STATE", "DATA");
  cJSON_ArrayForEach(b, backends)
      prelux_print_row(&t, prelux_json_str(b, "name", "?"), prelux_json_str(b, "type", "?"), backend_state(b),
                       prelux_json_str(b, "identity", "-"));
  prelux_print_table(&t);
  print_reports(backends);
}

static void print_mappings(const cJSON *mappings)
{
  struct prelux_print_table t = {.columns = 5};
  const cJSON *m;
  if (cJSON_GetArraySize(mappings) == 0)
    return;
  puts("");
  prelux_print_row(&t, "MAPPING", "REMOTE", "FRESHNESS", "STATE", "CACHE");
  cJSON_ArrayForEach(m, mappings)
      prelux_print_row(&t, prelux_json_str(m, "local", "?"), prelux_json_str(m, "remote", "?"), prelux_json_str(m, "freshness", "-"),
                       prelux_json_bool(m, "broken") ? "broken" : "ok", prelux_json_str(m, "cache", "-"));
  prelux_print_table(&t);
  cJSON_ArrayForEach(m, mappings)
  {
    const char *cause = prelux_json_str(m, "cause", "");
    char *shown = prelux_print_name(cause);
    if (*cause)
      printf("%s: %s\n", prelux_json_str(m, "local", "?"), shown);
    free(shown);
  }
}

static void print_pending(const cJSON *p)
{
  char size[24];
  if (prelux_json_num(p, "count", 0) > 0)
    printf("\nuploads   %.0f wait (%s), %.0f are open, %.0f were refused: see `prelux pending list`\n", prelux_json_num(p, "waiting", 0),
           prelux_print_size(size, sizeof size, prelux_json_num(p, "bytes", 0)), prelux_json_num(p, "open", 0),
           prelux_json_num(p, "refused", 0) + prelux_json_num(p, "recovered", 0));
}

int prelux_cmd_status(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_STATUS, .table = true};
  cJSON *answer;
  int ret = prelux_cli_ask(cli, &call, &answer, NULL);
  if (ret != 0)
  {
    cJSON_Delete(answer);
    return ret;
  }
  const cJSON *backends = cJSON_GetObjectItemCaseSensitive(answer, "backends");
  const cJSON *mappings = cJSON_GetObjectItemCaseSensitive(answer, "mappings");
  const cJSON *errors = cJSON_GetObjectItemCaseSensitive(answer, "errors");
  ret = any_wrong(backends, mappings) ? PRELUX_EXIT_DEGRADED : 0;
  if (cli->json)
  {
    prelux_print_json_text(cli->answer);
    cJSON_Delete(answer);
    return ret;
  }
  printf("daemon    process %.0f, version %s\n", prelux_json_num(answer, "pid", 0), prelux_json_str(answer, "version", "?"));
  print_cache(cJSON_GetObjectItemCaseSensitive(answer, "cache"));
  print_backends(backends);
  print_mappings(mappings);
  print_pending(cJSON_GetObjectItemCaseSensitive(answer, "pending"));
  if (cJSON_GetArraySize(errors) > 0)
    printf("\n%d recent errors: see `prelux errors`\n", cJSON_GetArraySize(errors));
  cJSON_Delete(answer);
  return ret;
}
