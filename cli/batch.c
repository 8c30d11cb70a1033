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
    {
      free(had->valuestring); /* of a sum they would be others */
      had->valuestring = NULL;
      cJSON_SetNumberValue(had, is_of_all(item->string) ? item->valuedouble : had->valuedouble + item->valuedouble);
    }
    while (cJSON_IsArray(had) && cJSON_IsArray(item) && item->child)
      cJSON_AddItemToArray(had, cJSON_DetachItemViaPointer(item, item->child));
    cJSON_Delete(item);
  }
  cJSON_Delete(more);
}

/* The next number of a JSON text, and its length; NULL: there is none. */
static const char *next_number(const char *p, size_t *ret_len)
{
  for (; *p && *p != '-' && !(*p >= '0' && *p <= '9'); p++)
    if (*p == '"')
      for (p++; *p && *p != '"'; p++)
        p += *p == '\\' && p[1];
  *ret_len = strspn(p, "+-.0123456789eE");
  return *p ? p : NULL;
}

/* Times in nanoseconds are no doubles: they keep the digits that `text` has, of which `value` was made. What is left of text. */
static const char *keep_digits(cJSON *value, const char *text)
{
  size_t len;
  const char *number = text && cJSON_IsNumber(value) ? next_number(text, &len) : NULL;
  if (number && fabs(value->valuedouble) >= WHOLE)
    value->valuestring = strndup(number, len); /* freed with it, and copied with it */
  text = cJSON_IsNumber(value) ? (number ? number + len : NULL) : text;
  for (cJSON *child = value ? value->child : NULL; child; child = child->next)
    text = keep_digits(child, text);
  return text;
}

static void write_out(cJSON *value)
{
  cJSON *child;
  char digits[32];
  if (cJSON_IsNumber(value) && fabs(value->valuedouble) >= WHOLE)
  {
    snprintf(digits, sizeof digits, "%.0f", value->valuedouble);
    if (value->valuestring || (value->valuestring = strdup(digits)))
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

static int ask_one(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret)
{
  int status = prelux_cli_ask(cli, call, ret, NULL);
  keep_digits(*ret, cli->answer);
  return status;
}

/* The rest of a list that is longer than an answer, to the end of what is there. room: for one argument more. */
static int ask_rest(struct prelux_cli *cli, struct prelux_cli_call *call, char **room, cJSON *answer)
{
  cJSON *files = cJSON_GetObjectItemCaseSensitive(answer, "files"), *page = NULL, *item;
  int status = 0, n = cJSON_GetArraySize(files);
  char past[64];
  for (bool more = cJSON_GetObjectItemCaseSensitive(answer, "more"); more && n > 0 && status == 0;)
  {
    snprintf(past, sizeof past, "past=%s", prelux_json_str(cJSON_GetArrayItem(files, n - 1), "id", ""));
    *room = past;
    call->n_args++;
    status = ask_one(cli, call, &page);
    call->n_args--;
    cJSON *list = cJSON_GetObjectItemCaseSensitive(page, "files");
    more = cJSON_GetObjectItemCaseSensitive(page, "more") && list && list->child;
    for (; status == 0 && list && (item = list->child); n++)
      cJSON_AddItemToArray(files, cJSON_DetachItemViaPointer(list, item));
    cJSON_Delete(page);
  }
  cJSON_DeleteItemFromObjectCaseSensitive(answer, "more");
  return status;
}

int prelux_cli_ask_all(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret)
{
  int n_paths = call->n_args - call->n_more, status = 0;
  char *args[BATCH_ARGS + 1];
  size_t more_bytes = 0;
  bool whole = true; /* one answer is all of it */
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
    status = ask_one(cli, &part, &answer);
    if (status == 0 && call->pages && cJSON_GetObjectItemCaseSensitive(answer, "more"))
    {
      status = ask_rest(cli, &part, &args[part.n_args], answer);
      whole = false;
    }
    if (call->progress && call->progress->more && answer)
      prelux_progress_add(call->progress, answer);
    if (!*ret)
      *ret = answer;
    else
      join(*ret, answer);
    if (n == 0)
      break;
  }
  if (status == 0 && *ret && (!whole || n_paths > fitting(call->args, n_paths, more_bytes, call->n_more)))
    set_answer(cli, *ret);
  return status;
}
