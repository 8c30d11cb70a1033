/* prelux cluster: what Alluxio does with a path rather than with its bytes. Each path is one request to the daemon. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

#define ARGS_MAX 500 /* the daemon takes some more */

/* The options that go with each verb, all others are a mistake. The value is passed on as it is, but ttl's. */
static const struct verb {
  const char *name, *done;
  const char *options[12];
} verbs[] = {
    {"free", "is being freed", {"recursive", "forced"}},
    {"mount", "is mounted", {"read-only", "shared", "properties"}},
    {"unmount", "is no mount any more", {NULL}},
    {"setattr", "is set", {"recursive", "owner", "group", "mode", "pinned", "persisted", "ttl", "ttl-action", "replication-min", "replication-max"}},
    {"info", NULL, {NULL}},
    {"locate", NULL, {NULL}},
};

struct cluster {
  struct prelux_cli *cli;
  const struct verb *verb;
  char path[PATH_MAX];
  char *args[ARGS_MAX + 2]; /* verb, path, options */
  int n_args;
};

static bool takes(const struct verb *v, const char *option)
{
  for (int i = 0; v->options[i]; i++)
    if (strcmp(v->options[i], option) == 0)
      return true;
  return false;
}

static int add(struct cluster *c, const char *name, const char *value)
{
  char *word = NULL;
  if (c->n_args == ARGS_MAX)
    return prelux_cli_fail("more than %d options", ARGS_MAX);
  if (asprintf(&word, "%s%s%s", name, *value ? "=" : "", value) < 0)
    return prelux_cli_fail("out of memory");
  c->args[c->n_args++] = word;
  return 0;
}

/* "90s", "24h", "86400000", "never" -> milliseconds. False: it is no time. */
static bool parse_time(const char *s, long long *ret)
{
  static const struct {
    const char *unit;
    long long ms;
  } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}};
  char *end;
  if (strcmp(s, "never") == 0 || strcmp(s, "-1") == 0)
    return *ret = -1, true;
  errno = 0;
  *ret = *s >= '0' && *s <= '9' ? strtoll(s, &end, 10) : -1;
  for (size_t i = 0; *ret >= 0 && errno == 0 && i < sizeof units / sizeof *units; i++)
    if (strcmp(end, units[i].unit) == 0 && *ret <= INT64_MAX / units[i].ms)
      return *ret *= units[i].ms, true;
  return false;
}

/* A line KEY=VALUE each; empty ones and those that begin with # are none. They may be secrets: not on a command line, which all can see. */
static int add_properties(struct cluster *c, const char *name)
{
  FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
  char *line = NULL;
  size_t cap = 0;
  ssize_t n;
  int ret = f ? 0 : prelux_cli_fail("%s: %s", name, strerror(errno));
  for (int number = 1; ret == 0 && (n = getline(&line, &cap, f)) >= 0; number++)
  {
    line[strcspn(line, "\r\n")] = 0;
    const char *start = line + strspn(line, " \t");
    if (!*start || *start == '#')
      continue;
    ret = strchr(start, '=') > start ? add(c, "property", start) : prelux_cli_usage(c->cli, "%s:%d: no KEY=VALUE", name, number);
  }
  if (f && ret == 0 && ferror(f))
    ret = prelux_cli_fail("%s: %s", name, strerror(errno));
  if (f && f != stdin)
    fclose(f);
  free(line);
  return ret;
}

static int add_option(struct cluster *c, const char *name, const char *value)
{
  char number[32];
  long long ms;
  if (strcmp(name, "properties") == 0)
    return add_properties(c, value);
  if (strcmp(name, "ttl") == 0)
  {
    if (!parse_time(value, &ms))
      return prelux_cli_usage(c->cli, "--ttl %s: a time such as 24h, a number of milliseconds or never is wanted", value);
    snprintf(number, sizeof number, "%lld", ms);
    value = number;
  }
  return add(c, name, value);
}

/* 0, or an exit status after saying why. */
static int take_options(struct cluster *c)
{
  int ret = 0, given = 0;
  for (int i = 0; i < PRELUX_CLI_OPTIONS && c->cli->command->options[i].name && ret == 0; i++)
  {
    const char *name = c->cli->command->options[i].name, *value = c->cli->values[i];
    if (!value)
      continue;
    if (!takes(c->verb, name))
      return prelux_cli_usage(c->cli, "cluster %s takes no --%s", c->verb->name, name);
    if (c->cli->command->options[i].value && !*value)
      return prelux_cli_usage(c->cli, "--%s: a value is wanted", name);
    given += strcmp(name, "recursive") != 0;
    ret = add_option(c, name, value);
  }
  if (ret == 0 && given == 0 && strcmp(c->verb->name, "setattr") == 0)
    return prelux_cli_usage(c->cli, "cluster setattr: what is to be set? --mode, --owner, --pinned, ...");
  return ret;
}

/* ---- telling ---- */

static void print_block(const cJSON *block)
{
  const cJSON *place;
  char size[24];
  printf("  %-12.0f %10s ", prelux_json_num(block, "offset", 0), prelux_print_size(size, sizeof size, prelux_json_num(block, "length", 0)));
  cJSON_ArrayForEach(place, cJSON_GetObjectItemCaseSensitive(block, "locations"))
  {
    char *host = prelux_print_name(prelux_json_str(place, "host", "?"));
    printf(" %s:%.0f", host, prelux_json_num(place, "port", 0));
    free(host);
  }
  puts(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(block, "locations")) ? "" : " no worker");
}

static void print_labelled(const cJSON *answer, const char *key, const char *label)
{
  const char *text = prelux_json_str(answer, key, "");
  char *shown = prelux_print_name(text);
  if (*text)
    printf("  %-12s %s\n", label, shown);
  free(shown);
}

static void print_places(const cJSON *answer)
{
  const cJSON *owner, *block, *blocks = cJSON_GetObjectItemCaseSensitive(answer, "blocks");
  print_labelled(answer, "endpoint", "endpoint");
  print_labelled(answer, "under_store", "under store");
  cJSON_ArrayForEach(owner, cJSON_GetObjectItemCaseSensitive(answer, "owners"))
  {
    char *shown = prelux_print_name(owner->valuestring);
    printf("  %-12s %s\n", "worker", shown);
    free(shown);
  }
  if (cJSON_GetArraySize(blocks))
    puts("  offset           length  workers");
  cJSON_ArrayForEach(block, blocks)
    print_block(block);
}

static void print_text(const struct cluster *c, const cJSON *answer)
{
  static const char *const skip[] = {"fileInfo", NULL}; /* the same once more */
  char *remote = prelux_print_name(prelux_json_str(answer, "remote", c->path));
  printf("%s%s%s\n", remote, c->verb->done ? " " : ":", c->verb->done ? c->verb->done : "");
  free(remote);
  if (strcmp(c->verb->name, "info") == 0)
    prelux_print_report(cJSON_GetObjectItemCaseSensitive(answer, "info"), skip, "  ");
  else if (strcmp(c->verb->name, "locate") == 0)
    print_places(answer);
}

/* What could not be done, as JSON. */
static char *failure_json(const struct cluster *c, int err)
{
  cJSON *o = cJSON_CreateObject();
  char *shown = prelux_print_name(c->path), *text;
  cJSON_AddStringToObject(o, "path", shown ? shown : "");
  cJSON_AddStringToObject(o, "verb", c->verb->name);
  cJSON_AddNumberToObject(o, "errno", -err);
  cJSON_AddStringToObject(o, "cause", c->cli->cause);
  text = cJSON_PrintUnformatted(o);
  cJSON_Delete(o);
  free(shown);
  return text;
}

/* One path. `list`: the answers of several as text, NULL: it is to be printed. 0, or an exit status after saying why. */
static int perform(struct cluster *c, const char *path, cJSON *list)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_CLUSTER, .args = c->args, .n_args = c->n_args, .table = true};
  cJSON *answer = NULL;
  int err = prelux_cli_absolute(c->cli, path, c->path, sizeof c->path), ret;
  if (err < 0)
  {
    snprintf(c->cli->cause, sizeof c->cli->cause, "%s", strerror(-err));
    ret = prelux_cli_fail("%s: %s", path, c->cli->cause);
  }
  else
    ret = prelux_cli_ask(c->cli, &call, &answer, &err);
  if (ret == PRELUX_EXIT_USAGE)
    return ret;
  if (list)
  {
    char *text = ret ? failure_json(c, err) : NULL;
    cJSON_AddItemToArray(list, cJSON_CreateRaw(text ? text : c->cli->answer));
    free(text);
  }
  else if (ret == 0)
    print_text(c, answer);
  cJSON_Delete(answer);
  return ret;
}

static int perform_all(struct cluster *c)
{
  bool mount = strcmp(c->verb->name, "mount") == 0;
  cJSON *list = c->cli->json ? cJSON_CreateArray() : NULL;
  int worst = 0, last = mount ? 2 : c->cli->n_args;
  for (int i = 1; i < last && worst != PRELUX_EXIT_USAGE; i++)
  {
    int ret = perform(c, c->cli->args[i], list);
    worst = ret ? ret : worst;
  }
  char *text = list && worst != PRELUX_EXIT_USAGE ? cJSON_PrintUnformatted(last > 2 ? list : cJSON_GetArrayItem(list, 0)) : NULL;
  if (text)
    prelux_print_json_text(text);
  free(text);
  cJSON_Delete(list);
  return worst;
}

int prelux_cmd_cluster(struct prelux_cli *cli)
{
  struct cluster c = {.cli = cli, .n_args = 2};
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs && !c.verb; i++)
    if (strcmp(cli->args[0], verbs[i].name) == 0)
      c.verb = &verbs[i];
  if (!c.verb)
    return prelux_cli_usage(cli, "cluster %s: there are free, mount, unmount, setattr, info, locate", cli->args[0]);
  bool mount = strcmp(c.verb->name, "mount") == 0;
  if (mount && cli->n_args != 3)
    return prelux_cli_usage(cli, "cluster mount wants PATH and URI");
  c.args[0] = cli->args[0];
  c.args[1] = c.path;
  int ret = mount ? add(&c, "source", cli->args[2]) : 0;
  if (ret == 0)
    ret = take_options(&c);
  if (ret == 0)
    ret = perform_all(&c);
  for (int i = 2; i < c.n_args; i++)
    free(c.args[i]);
  return ret;
}
