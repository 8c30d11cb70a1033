/* Paths by the thousand: from the command line or the standard input, asked for in as many requests as they need. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "include/prelux/ctl.h"

#define BATCH_ARGS 480
#define BATCH_BYTES 60000
#define FIELD_BYTES 24 /* that an argument takes besides its text, at most */
#define WHOLE 1e15     /* cJSON prints larger numbers with an exponent */

static int add(struct prelux_cli *cli, struct prelux_cli_paths *p, const char *word)
{
  char path[PATH_MAX];
  int err = prelux_cli_absolute(cli, word, path, sizeof path);
  if (err < 0)
    return prelux_cli_fail("%.200s: %s", word, strerror(-err));
  if (p->n == p->cap)
  {
    int cap = p->cap ? p->cap * 2 : 64;
    char **list = realloc(p->list, (size_t)cap * sizeof *list);
    if (!list)
      return prelux_cli_fail("out of memory");
    p->list = list;
    p->cap = cap;
  }
  if (!(p->list[p->n] = strdup(path)))
    return prelux_cli_fail("out of memory");
  p->n++;
  return 0;
}

static int add_input(struct prelux_cli *cli, struct prelux_cli_paths *p)
{
  bool null = prelux_cli_option(cli, "null") != NULL;
  char *line = NULL;
  size_t cap = 0;
  int ret = 0;
  for (ssize_t n; ret == 0 && (n = getdelim(&line, &cap, null ? 0 : '\n', stdin)) > 0;)
  {
    if (line[n - 1] == '\n' && !null)
      line[n - 1] = 0;
    ret = *line ? add(cli, p, line) : 0;
  }
  free(line);
  return ret == 0 && ferror(stdin) ? prelux_cli_fail("standard input: %s", strerror(errno)) : ret;
}

int prelux_cli_take_paths(struct prelux_cli *cli, int first, struct prelux_cli_paths *ret)
{
  int status = 0;
  *ret = (struct prelux_cli_paths){0};
  for (int i = first; status == 0 && i < cli->n_args; i++)
    status = strcmp(cli->args[i], "-") == 0 ? add_input(cli, ret) : add(cli, ret, cli->args[i]);
  if (status != 0)
    prelux_cli_free_paths(ret);
  return status;
}

void prelux_cli_free_paths(struct prelux_cli_paths *p)
{
  while (p->n > 0)
    free(p->list[--p->n]);
  free(p->list);
  *p = (struct prelux_cli_paths){0};
}

bool prelux_cli_is_pattern(struct prelux_cli *cli, char *full)
{
  const struct prelux_cli_call call = {
      .verb = PRELUX_CTL_STAT, .args = &full, .n_args = 1, .table = true, .quiet = true,
  };
  cJSON *answer = NULL;
  bool there = strpbrk(full, "*?[\\") == NULL || prelux_cli_ask(cli, &call, &answer, NULL) == 0;
  cJSON_Delete(answer);
  return !there;
}

/* What is not of the request's paths: it is not added up. */
static bool is_of_all(const char *key)
{
  static const char *const keys[] = {"grace_s", "now_ns", "sent_files", "failed_tries"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
    if (strcmp(key, keys[i]) == 0)
      return true;
  return false;
}

/* Counts are added up, lists joined; takes `more`. */
static void join(cJSON *sum, cJSON *more)
{
  while (more && more->child)
  {
    cJSON *item = cJSON_DetachItemViaPointer(more, more->child);
    cJSON *had = cJSON_GetObjectItemCaseSensitive(sum, item->string);
    if (!had)
    {
      cJSON_AddItemToObject(sum, item->string, item);
      continue;
    }
    if (cJSON_IsNumber(had) && cJSON_IsNumber(item))
      cJSON_SetNumberValue(had, is_of_all(item->string) ? item->valuedouble : had->valuedouble + item->valuedouble);
    while (cJSON_IsArray(had) && cJSON_IsArray(item) && item->child)
      cJSON_AddItemToArray(had, cJSON_DetachItemViaPointer(item, item->child));
    cJSON_Delete(item);
  }
  cJSON_Delete(more);
}

/* Times in nanoseconds with all their digits. */
static void write_out(cJSON *value)
{
  cJSON *child;
  char digits[32];
  if (cJSON_IsNumber(value) && fabs(value->valuedouble) >= WHOLE)
  {
    snprintf(digits, sizeof digits, "%.0f", value->valuedouble);
    if ((value->valuestring = strdup(digits)))
      value->type = (value->type & ~0xff) | cJSON_Raw;
  }
  cJSON_ArrayForEach(child, value) write_out(child);
}

static void set_answer(struct prelux_cli *cli, const cJSON *sum)
{
  cJSON *copy = cJSON_Duplicate(sum, true);
  write_out(copy);
  free(cli->answer);
  cli->answer = cJSON_PrintUnformatted(copy);
  cJSON_Delete(copy);
}

/* How many of args go into a request. */
static int fitting(char *const *args, int n, size_t bytes, int others)
{
  int i = 0;
  while (i < n && i + others < BATCH_ARGS && (i == 0 || bytes + strlen(args[i]) + FIELD_BYTES <= BATCH_BYTES))
    bytes += strlen(args[i++]) + FIELD_BYTES;
  return i;
}

int prelux_cli_ask_all(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret)
{
  int n_paths = call->n_args - call->n_more, status = 0;
  char *args[BATCH_ARGS];
  size_t more_bytes = 0;
  *ret = NULL;
  for (int i = n_paths; i < call->n_args; i++)
    more_bytes += strlen(call->args[i]) + FIELD_BYTES;
  for (int at = 0, n; status == 0 && (at < n_paths || at == 0); at += n)
  {
    struct prelux_cli_call part = *call;
    cJSON *answer = NULL;
    n = fitting(call->args + at, n_paths - at, more_bytes, call->n_more);
    memcpy(args, call->args + at, (size_t)n * sizeof *args);
    memcpy(args + n, call->args + n_paths, (size_t)call->n_more * sizeof *args);
    part.args = args;
    part.n_args = n + call->n_more;
    if (call->progress)
      call->progress->more = at + n < n_paths;
    status = prelux_cli_ask(cli, &part, &answer, NULL);
    if (call->progress && call->progress->more && answer)
      prelux_progress_add(call->progress, answer);
    if (!*ret)
      *ret = answer;
    else
      join(*ret, answer);
    if (n == 0)
      break;
  }
  if (status == 0 && *ret && n_paths > fitting(call->args, n_paths, more_bytes, call->n_more))
    set_answer(cli, *ret);
  return status;
}
