/* prelux env: what `prelux run` sets, for a shell that wants it for good. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static void print_export(const char *name, const char *value)
{
  printf("export %s='", name);
  for (; *value; value++)
    if (*value == '\'')
      fputs("'\\''", stdout);
    else
      putchar(*value);
  puts("'");
}

int prelux_cmd_env(struct prelux_cli *cli)
{
  char preload[PATH_MAX * 2];
  int ret = prelux_cli_register(cli);
  if (ret == 0)
    ret = prelux_cli_preload(cli, preload, sizeof preload);
  if (ret != 0)
    return ret;
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "LD_PRELOAD", preload);
    cJSON_AddStringToObject(o, "PRELUX_CONFIG", cli->table_path);
    cJSON_AddStringToObject(o, "PRELUX_RUNTIME_DIR", cli->runtime);
    prelux_print_json(o);
    return 0;
  }
  print_export("PRELUX_CONFIG", cli->table_path);
  print_export("PRELUX_RUNTIME_DIR", cli->runtime);
  print_export("LD_PRELOAD", preload);
  return 0;
}
