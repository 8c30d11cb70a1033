/* prelux evict: drop what is cached at or below paths. */
#include <stdio.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

int prelux_cmd_evict(struct prelux_cli *cli)
{
  double files = 0, bytes = 0, busy = 0;
  struct prelux_cli_paths paths;
  int worst = prelux_cli_take_paths(cli, 0, &paths);
  if (worst)
    return worst;
  for (int i = 0; i < paths.n; i++)
  {
    const struct prelux_cli_call call = {.verb = PRELUX_CTL_EVICT, .args = &paths.list[i], .n_args = 1, .table = true};
    cJSON *answer = NULL;
    int ret = prelux_cli_ask(cli, &call, &answer, NULL);
    files += prelux_json_num(answer, "files", 0);
    bytes += prelux_json_num(answer, "bytes", 0);
    busy += prelux_json_num(answer, "busy", 0);
    cJSON_Delete(answer);
    worst = ret ? ret : worst;
    if (ret == PRELUX_EXIT_USAGE)
      break;
  }
  prelux_cli_free_paths(&paths);
  if (worst == PRELUX_EXIT_USAGE)
    return worst;
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "files", files);
    cJSON_AddNumberToObject(o, "bytes", bytes);
    cJSON_AddNumberToObject(o, "busy", busy);
    prelux_print_json(o);
  }
  else
  {
    char size[24], stay[48] = "";
    if (busy > 0)
      snprintf(stay, sizeof stay, "; %.0f in use, kept", busy);
    printf("%.0f files evicted, %s%s\n", files, prelux_print_size(size, sizeof size, bytes), stay);
  }
  return worst ? worst : busy > 0 ? PRELUX_EXIT_DEGRADED : 0;
}
