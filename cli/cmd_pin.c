/* prelux pin, unpin: what eviction leaves alone. */
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

static int tell(struct prelux_cli *cli, const char *verb, const struct prelux_cli_paths *paths, cJSON **ret_answer)
{
  const struct prelux_cli_call call = {.verb = verb, .args = paths->list, .n_args = paths->n, .table = true};
  return paths->n > 0 ? prelux_cli_ask_all(cli, &call, ret_answer) : 0;
}

/* All of a request are pinned, or none. Where there are several, all are looked at before the first. */
static int check(struct prelux_cli *cli, const struct prelux_cli_paths *paths)
{
  char **list = calloc((size_t)paths->n + 1, sizeof *list);
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_PIN, .args = list, .n_args = paths->n + 1, .n_more = 1, .table = true};
  cJSON *answer = NULL;
  if (!list)
    return prelux_cli_fail("out of memory");
  memcpy(list, paths->list, (size_t)paths->n * sizeof *list);
  list[paths->n] = "option=check";
  int ret = paths->n > 1 ? prelux_cli_ask_all(cli, &call, &answer) : 0;
  cJSON_Delete(answer);
  free(list);
  return ret;
}

/* A pin is of a name: a pattern would keep nothing. */
static int refuse_patterns(struct prelux_cli *cli, const struct prelux_cli_paths *paths)
{
  for (int i = 0; i < paths->n; i++)
    if (prelux_cli_is_pattern(cli, paths->list[i]))
      return prelux_cli_usage(cli, "%s: there is no such file, and pin takes no patterns", paths->list[i]);
  return 0;
}

/* The same paths, whatever they look like. */
static int fetch(struct prelux_cli *cli, const struct prelux_cli_paths *paths)
{
  char **args = cli->args;
  int n = cli->n_args;
  cli->args = paths->list;
  cli->n_args = paths->n;
  int ret = prelux_cmd_prefetch(cli);
  cli->args = args;
  cli->n_args = n;
  return ret;
}

int prelux_cmd_pin(struct prelux_cli *cli)
{
  bool lists = prelux_cli_option(cli, "list") != NULL;
  struct prelux_cli_paths paths;
  cJSON *answer = NULL;
  if (lists != (cli->n_args == 0))
    return prelux_cli_usage(cli, "pin wants paths, or --list");
  if (lists)
    return list(cli);
  int ret = prelux_cli_take_paths(cli, 0, &paths);
  if (ret == 0)
    ret = refuse_patterns(cli, &paths);
  if (ret == 0)
    ret = check(cli, &paths);
  if (ret == 0)
    ret = tell(cli, PRELUX_CTL_PIN, &paths, &answer);
  if (ret == 0 && paths.n > 0 && !prelux_cli_option(cli, "no-fetch"))
    ret = fetch(cli, &paths);
  else if (ret == 0 && cli->json)
    prelux_print_json_text(answer ? cli->answer : "{}");
  cJSON_Delete(answer);
  prelux_cli_free_paths(&paths);
  return ret;
}

int prelux_cmd_unpin(struct prelux_cli *cli)
{
  struct prelux_cli_paths paths;
  cJSON *answer = NULL;
  int ret = prelux_cli_take_paths(cli, 0, &paths);
  if (ret == 0)
    ret = tell(cli, PRELUX_CTL_UNPIN, &paths, &answer);
  double n = prelux_json_num(answer, "unpinned", 0);
  if (ret == 0 && cli->json)
    prelux_print_json_text(answer ? cli->answer : "{}");
  cJSON_Delete(answer);
  prelux_cli_free_paths(&paths);
  return ret ? ret : n > 0 ? 0 : prelux_cli_fail("nothing of that was pinned by this very name: see `prelux pin --list`");
}
