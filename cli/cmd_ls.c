/* prelux ls, prelux stat: what programs would see, with the state in the cache. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

/* Asks `verb` about the one argument; 0 and *ret, or an exit status. */
static int ask_path(struct prelux_cli *cli, const char *verb, cJSON **ret)
{
  char path[PATH_MAX], *args[] = {path};
  const struct prelux_cli_call call = {.verb = verb, .args = args, .n_args = 1, .table = true};
  int err = prelux_cli_absolute(cli, cli->args[0], path, sizeof path);
  if (err < 0)
    return prelux_cli_fail("%s: %s", cli->args[0], strerror(-err));
  return prelux_cli_ask(cli, &call, ret, &err);
}

static const char *mode_text(char out[12], bool folder, int mode)
{
  static const char bits[] = "rwxrwxrwx";
  out[0] = folder ? 'd' : '-';
  for (int i = 0; i < 9; i++)
    out[1 + i] = mode >> (8 - i) & 1 ? bits[i] : '-';
  out[10] = 0;
  return out;
}

int prelux_cmd_ls(struct prelux_cli *cli)
{
  cJSON *answer = NULL;
  int ret = ask_path(cli, PRELUX_CTL_LS, &answer);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  if (ret != 0 || cli->json)
  {
    cJSON_Delete(answer);
    return ret;
  }
  struct prelux_print_table t = {.columns = 4, .right = 2};
  const cJSON *e;
  cJSON_ArrayForEach(e, cJSON_GetObjectItemCaseSensitive(answer, "entries"))
  {
    char mode[12], size[24], when[32];
    bool folder = strcmp(prelux_json_str(e, "type", ""), "directory") == 0;
    prelux_print_row(&t, mode_text(mode, folder, (int)prelux_json_num(e, "mode", 0)),
                     folder ? "-" : prelux_print_size(size, sizeof size, prelux_json_num(e, "size", 0)),
                     prelux_print_time(when, sizeof when, (int64_t)(prelux_json_num(e, "mtime", 0) * 1e9)),
                     prelux_json_str(e, "name", "?"));
  }
  prelux_print_table(&t);
  cJSON_Delete(answer);
  return 0;
}

/* A number that a double cannot hold, from the text. In a string the key's second quote would stand behind a backslash. */
static const char *raw_number(const char *json, const char *key, char out[24])
{
  const char *at = strstr(json, key);
  snprintf(out, 24, "%.*s", at ? (int)strspn(at + strlen(key), "0123456789") : 0, at ? at + strlen(key) : "");
  return out;
}

int prelux_cmd_stat(struct prelux_cli *cli)
{
  cJSON *answer = NULL;
  int ret = ask_path(cli, PRELUX_CTL_STAT, &answer);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  if (ret != 0 || cli->json)
  {
    cJSON_Delete(answer);
    return ret;
  }
  char mode[12], size[24], when[32], ino[24];
  const char *type = prelux_json_str(answer, "type", "?");
  char *path = prelux_print_name(prelux_json_str(answer, "path", cli->args[0]));
  printf("path      %s\ntype      %s\nsize      %.0f (%s)\nmode      %s\nmtime     %s\ninode     %s\ncached    %s\n", path, type,
         prelux_json_num(answer, "size", 0), prelux_print_size(size, sizeof size, prelux_json_num(answer, "size", 0)),
         mode_text(mode, strcmp(type, "directory") == 0, (int)prelux_json_num(answer, "mode", 0)),
         prelux_print_time(when, sizeof when, (int64_t)(prelux_json_num(answer, "mtime", 0) * 1e9)),
         raw_number(cli->answer, "\"ino\":", ino), prelux_json_bool(answer, "cached") ? "yes" : "no");
  free(path);
  cJSON_Delete(answer);
  return 0;
}
