/* prelux verify: cached files beside the remote. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "include/prelux/ctl.h"

#define OPTIONS 2
#define LISTED 100 /* as the daemon names, of one request */

static int ask(struct prelux_cli *cli, struct prelux_progress *progress, cJSON **ret_answer)
{
  static const char *const options[OPTIONS][2] = {{"data", "option=data"}, {"repair", "option=repair"}};
  struct prelux_cli_call call = {.verb = PRELUX_CTL_VERIFY, .table = true, .progress = progress};
  struct prelux_cli_paths paths;
  int ret = prelux_cli_take_paths(cli, 0, &paths);
  char **args = calloc((size_t)paths.n + OPTIONS, sizeof *args);
  if (ret == 0 && !args)
    ret = prelux_cli_fail("out of memory");
  if (ret == 0 && paths.n > 0)
  {
    memcpy(args, paths.list, (size_t)paths.n * sizeof *args);
    call.n_args = paths.n;
    for (int i = 0; i < OPTIONS; i++)
      if (prelux_cli_option(cli, options[i][0]))
        args[call.n_args++] = (char *)options[i][1];
    call.n_more = call.n_args - paths.n;
    call.args = args;
    ret = prelux_cli_ask_all(cli, &call, ret_answer);
  }
  free(args);
  prelux_cli_free_paths(&paths);
  return ret;
}

static void print(const cJSON *o)
{
  const cJSON *f;
  double found = prelux_json_num(o, "stale", 0) + prelux_json_num(o, "gone", 0) + prelux_json_num(o, "damaged", 0) + prelux_json_num(o, "failed", 0);
  int n = 0;
  printf("%.0f files: %.0f as on the remote, %.0f stale, %.0f gone there, %.0f damaged, %.0f that cannot be told", prelux_json_num(o, "files", 0),
         prelux_json_num(o, "same", 0), prelux_json_num(o, "stale", 0), prelux_json_num(o, "gone", 0), prelux_json_num(o, "damaged", 0),
         prelux_json_num(o, "unknown", 0));
  if (prelux_json_num(o, "repaired", 0) > 0)
    printf("; %.0f mended", prelux_json_num(o, "repaired", 0));
  puts("");
  fflush(stdout);
  cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "found"))
  {
    const char *cause = prelux_json_str(f, "cause", "");
    if (n++ == LISTED)
      break;
    prelux_cli_fail("%s: %s%s%s", prelux_json_str(f, "path", "?"), prelux_json_str(f, "state", "?"), *cause ? ": " : "", cause);
  }
  if (found > LISTED)
    prelux_cli_fail("%.0f findings in all: the first %d are named", found, LISTED);
}

int prelux_cmd_verify(struct prelux_cli *cli)
{
  struct prelux_progress progress;
  cJSON *o = NULL;
  if (!prelux_progress_start(&progress, "verify", prelux_cli_option(cli, "progress"), cli->json))
    return prelux_cli_usage(cli, "--progress is one of auto, bar, lines, json, none");
  prelux_progress_catch(&progress, "what was mended stays, and the same command begins anew");
  int ret = ask(cli, &progress, &o);
  prelux_progress_end(&progress);
  if (ret == 0 && cli->json)
    prelux_print_json_text(o ? cli->answer : "{}");
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
