/* prelux verify: cached files beside the remote. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "include/prelux/ctl.h"

#define OPTIONS 2

static int ask(struct prelux_cli *cli, struct prelux_progress *progress, cJSON **ret_answer)
{
  struct prelux_cli_call call = {.verb = PRELUX_CTL_VERIFY, .table = true, .progress = progress};
  static const char *const options[OPTIONS][2] = {{"data", "option=data"}, {"repair", "option=repair"}};
  char **args = calloc((size_t)cli->n_args + OPTIONS + 1, sizeof *args), path[PATH_MAX];
  int ret = args ? 0 : prelux_cli_fail("out of memory");
  for (int i = 0; ret == 0 && i < cli->n_args; i++)
  {
    int err = prelux_cli_absolute(cli, cli->args[i], path, sizeof path);
    if (err < 0)
      ret = prelux_cli_fail("%s: %s", cli->args[i], strerror(-err));
    else if ((args[call.n_args] = strdup(path)))
      call.n_args++;
  }
  for (int i = 0; ret == 0 && i < OPTIONS; i++)
    if (prelux_cli_option(cli, options[i][0]) && (args[call.n_args] = strdup(options[i][1])))
      call.n_args++;
  call.args = args;
  if (ret == 0)
    ret = prelux_cli_ask(cli, &call, ret_answer, NULL);
  for (int i = 0; args && i < call.n_args; i++)
    free(args[i]);
  free(args);
  return ret;
}

static void print(const cJSON *o)
{
  const cJSON *f;
  printf("%.0f files: %.0f as on the remote, %.0f stale, %.0f gone there, %.0f damaged, %.0f that cannot be told", prelux_json_num(o, "files", 0),
         prelux_json_num(o, "same", 0), prelux_json_num(o, "stale", 0), prelux_json_num(o, "gone", 0), prelux_json_num(o, "damaged", 0),
         prelux_json_num(o, "unknown", 0));
  if (prelux_json_num(o, "repaired", 0) > 0)
    printf("; %.0f mended", prelux_json_num(o, "repaired", 0));
  puts("");
  fflush(stdout);
  cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "found"))
  {
    char *path = prelux_print_name(prelux_json_str(f, "path", "?"));
    const char *cause = prelux_json_str(f, "cause", "");
    prelux_cli_fail("%s: %s%s%s", path, prelux_json_str(f, "state", "?"), *cause ? ": " : "", cause);
    free(path);
  }
}

int prelux_cmd_verify(struct prelux_cli *cli)
{
  struct prelux_progress progress;
  cJSON *o = NULL;
  if (!prelux_progress_begin(&progress, "verify", prelux_cli_option(cli, "progress"), cli->json))
    return prelux_cli_usage(cli, "--progress is one of auto, bar, lines, json, none");
  int ret = ask(cli, &progress, &o);
  prelux_progress_end(&progress);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  else if (ret == 0)
    print(o);
  double wrong = prelux_json_num(o, "stale", 0) + prelux_json_num(o, "gone", 0) + prelux_json_num(o, "damaged", 0) - prelux_json_num(o, "repaired", 0);
  if (ret == 0 && prelux_json_num(o, "failed", 0) > 0)
    ret = PRELUX_EXIT_FAILED;
  else if (ret == 0 && wrong > 0)
    ret = PRELUX_EXIT_DEGRADED;
  cJSON_Delete(o);
  return ret;
}
