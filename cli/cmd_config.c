/* prelux config: check, show, init, keys. All of it is made from the table of keys (lib/conf/keys.c); no daemon is asked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/config_text.h"
#include "lib/conf/conf.h"
#include "lib/conf/show.h"

/* 0 and *ret, or an exit status; `text` gets the mistakes (caller frees), "" when there is no configuration at all. */
static int load(const struct prelux_cli *cli, struct prelux_conf **ret, char **text)
{
  const struct prelux_conf_input in = {.file = cli->config, .cwd = cli->cwd, .env = cli->env};
  struct prelux_conf_error err = {NULL};
  char path[PATH_MAX];
  if (prelux_conf_find(&in, path, sizeof path) == 0 && prelux_cli_is_table(path))
  {
    *text = strdup("PRELUX_CONFIG names a compiled configuration, as below `prelux run`: give --config FILE");
    return PRELUX_EXIT_FAILED;
  }
  int rc = prelux_conf_load(&in, false, ret, &err);
  *text = err.text;
  if (rc == 0)
    return 0;
  if (!*text && (*text = malloc(512)))
    snprintf(*text, 512, "%s", rc == -ENOENT ? "no configuration: give --config FILE or set PRELUX_CONFIG" : strerror(-rc));
  return PRELUX_EXIT_FAILED;
}

static cJSON *lines_to_array(char *text)
{
  cJSON *ret = cJSON_CreateArray();
  for (char *line; text && (line = strsep(&text, "\n"));)
    if (*line)
      cJSON_AddItemToArray(ret, cJSON_CreateString(line));
  return ret;
}

static cJSON *warnings_array(const struct prelux_conf *conf)
{
  cJSON *ret = cJSON_CreateArray();
  for (size_t i = 0; conf && i < conf->n_warnings; i++)
    cJSON_AddItemToArray(ret, cJSON_CreateString(conf->warnings[i]));
  return ret;
}

static int check(struct prelux_cli *cli)
{
  struct prelux_conf *conf = NULL;
  char *text = NULL;
  int ret = load(cli, &conf, &text);
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "ok", ret == 0);
    if (ret == 0)
    {
      cJSON_AddStringToObject(o, "file", conf->source);
      cJSON_AddNumberToObject(o, "mappings", (double)conf->n_mappings);
    }
    cJSON_AddItemToObject(o, "errors", lines_to_array(text));
    cJSON_AddItemToObject(o, "warnings", warnings_array(conf));
    prelux_print_json(o);
  }
  else if (ret != 0)
    fprintf(stderr, "%s%s", text, *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
  else
  {
    for (size_t i = 0; i < conf->n_warnings; i++)
      fprintf(stderr, "warning: %s\n", conf->warnings[i]);
    printf("%s: %zu mappings, %zu backends%s\n", conf->source, conf->n_mappings, conf->n_backends,
           conf->azfuse_off ? " (switched off by AZFUSE_USE_FUSE or QD_USE_FUSE)" : "");
  }
  prelux_conf_free(conf);
  free(text);
  return ret;
}

static int show(struct prelux_cli *cli)
{
  struct prelux_conf *conf = NULL;
  char *text = NULL;
  int ret = load(cli, &conf, &text);
  if (ret != 0)
    fprintf(stderr, "%s\n", text);
  else if (cli->json)
    prelux_print_json(prelux_config_json(conf));
  else
    prelux_conf_show(conf, stdout);
  prelux_conf_free(conf);
  free(text);
  return ret;
}

static int init(struct prelux_cli *cli)
{
  if (cli->json)
    return prelux_cli_usage(cli, "config init has no --json");
  prelux_conf_example(stdout);
  return 0;
}

static int keys(struct prelux_cli *cli)
{
  if (cli->json)
    prelux_print_json(prelux_config_keys_json());
  else
    prelux_conf_markdown(stdout);
  return 0;
}

static const struct {
  const char *name;
  int (*run)(struct prelux_cli *cli);
} verbs[] = {{"check", check}, {"show", show}, {"init", init}, {"keys", keys}};

int prelux_cmd_config(struct prelux_cli *cli)
{
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strcmp(cli->args[0], verbs[i].name) == 0)
      return verbs[i].run(cli);
  return prelux_cli_usage(cli, "config %s: there are check, show, init, keys", cli->args[0]);
}
