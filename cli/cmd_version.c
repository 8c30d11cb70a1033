#include "include/prelux/version.h"

#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

int prelux_cmd_version(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_DAEMON_STATUS, .quiet = true};
  cJSON *answer = NULL;
  prelux_cli_ask(cli, &call, &answer, NULL);
  const char *running = prelux_json_str(answer, "version", NULL);
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "version", PRELUX_VERSION);
    if (running)
      cJSON_AddStringToObject(o, "daemon", running);
    else
      cJSON_AddNullToObject(o, "daemon");
    prelux_print_json(o);
  }
  else
    printf("prelux %s\npreluxd %s\n", PRELUX_VERSION, running ? running : "(not running)");
  cJSON_Delete(answer);
  return 0;
}
