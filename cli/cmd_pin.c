/* prelux pin, unpin: what eviction leaves alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

static int list(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_PINS, .table = true};
  struct prelux_print_table t = {.columns = 3, .right = 3};
  cJSON *o = NULL;
  const cJSON *pin, *pins;
  int ret = prelux_cli_ask(cli, &call, &o, NULL);
  pins = cJSON_GetObjectItemCaseSensitive(o, "pins");
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  else if (ret == 0 && cJSON_GetArraySize(pins) > 0)
  {
    prelux_print_row(&t, "FILES", "SIZE", "PATH");
    cJSON_ArrayForEach(pin, pins)
    {
      char size[24], files[32];
      snprintf(files, sizeof files, "%.0f", prelux_json_num(pin, "files", 0));
      prelux_print_row(&t, files, prelux_print_size(size, sizeof size, prelux_json_num(pin, "bytes", 0)), prelux_json_str(pin, "path", "?"));
    }
    prelux_print_table(&t);
  }
  cJSON_Delete(o);
  return ret;
}

/* All arguments in one request: pinned together, or none when one is in no mapping. */
static int tell(struct prelux_cli *cli, const char *verb, cJSON **ret_answer)
{
  struct prelux_cli_call call = {.verb = verb, .n_args = cli->n_args, .table = true};
  char **paths = calloc((size_t)cli->n_args + 1, sizeof *paths), path[PATH_MAX];
  int ret = paths ? 0 : prelux_cli_fail("out of memory");
  for (int i = 0; ret == 0 && i < cli->n_args; i++)
  {
    int err = prelux_cli_absolute(cli, cli->args[i], path, sizeof path);
    if (err < 0)
      ret = prelux_cli_fail("%s: %s", cli->args[i], strerror(-err));
    else if (!(paths[i] = strdup(path)))
      ret = prelux_cli_fail("out of memory");
  }
  call.args = paths;
  if (ret == 0)
    ret = prelux_cli_ask(cli, &call, ret_answer, NULL);
  for (int i = 0; paths && i < cli->n_args; i++)
    free(paths[i]);
  free(paths);
  return ret;
}

int prelux_cmd_pin(struct prelux_cli *cli)
{
  bool lists = prelux_cli_option(cli, "list") != NULL;
  cJSON *answer = NULL;
  if (lists != (cli->n_args == 0))
    return prelux_cli_usage(cli, "pin wants paths, or --list");
  if (lists)
    return list(cli);
  int ret = tell(cli, PRELUX_CTL_PIN, &answer);
  if (ret == 0 && !prelux_cli_option(cli, "no-fetch"))
    ret = prelux_cmd_prefetch(cli);
  else if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  cJSON_Delete(answer);
  return ret;
}

int prelux_cmd_unpin(struct prelux_cli *cli)
{
  cJSON *answer = NULL;
  int ret = tell(cli, PRELUX_CTL_UNPIN, &answer);
  double n = prelux_json_num(answer, "unpinned", 0);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  cJSON_Delete(answer);
  return ret ? ret : n > 0 ? 0 : prelux_cli_fail("nothing of that was pinned by this very name: see `prelux pin --list`");
}
