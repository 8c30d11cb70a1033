/* prelux map: where a path leads. Asks for nothing to be fetched. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

static void print_field(const cJSON *answer, const char *key, const char *label)
{
  const cJSON *v = cJSON_GetObjectItemCaseSensitive(answer, key);
  if (!v || cJSON_IsNull(v))
    return;
  printf("%-10s ", label);
  if (cJSON_IsString(v))
  {
    char *text = prelux_print_name(*v->valuestring ? v->valuestring : "-");
    puts(text);
    free(text);
  }
  else if (cJSON_IsArray(v)) /* the first, and then whoever comes next */
  {
    const cJSON *item;
    cJSON_ArrayForEach(item, v) printf("%s%s", cJSON_IsString(item) ? item->valuestring : "?", item->next ? ", then " : "");
    puts(v->child ? "" : "-");
  }
  else
  {
    char *text = cJSON_PrintUnformatted(v);
    puts(text ? text : "");
    free(text);
  }
}

int prelux_cmd_map(struct prelux_cli *cli)
{
  char path[PATH_MAX], *args[] = {path};
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_MAP, .args = args, .n_args = 1, .table = true};
  cJSON *answer;
  int err = prelux_cli_absolute(cli, cli->args[0], path, sizeof path);
  if (err < 0)
    return prelux_cli_fail("%s: %s", cli->args[0], strerror(-err));
  int ret = prelux_cli_ask(cli, &call, &answer, &err);
  if (ret != 0)
  {
    cJSON_Delete(answer);
    return ret;
  }
  const bool mapped = prelux_json_str(answer, "mapping", NULL) != NULL;
  if (cli->json)
  {
    prelux_print_json_text(cli->answer);
    cJSON_Delete(answer);
    return mapped ? 0 : PRELUX_EXIT_FAILED;
  }
  if (!mapped)
  {
    printf("%s is not mapped\n", path);
    cJSON_Delete(answer);
    return PRELUX_EXIT_FAILED;
  }
  static const char *const fields[] = {"mapping", "remote", "cache", "freshness", "state", "version", "owners", "owners_cause"};
  for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
    print_field(answer, fields[i], strcmp(fields[i], "owners_cause") == 0 ? "" : fields[i]);
  cJSON_Delete(answer);
  return 0;
}
