/* prelux errors: the record of every errno that prelux made (lib/base/errlog.h). Read from the files, so that it works
 * when nothing else does. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/base/path.h"

/* Records hold each byte of a string as one code point below 256 (the writer knows no encodings): back to bytes, in place. */
static void restore(char *s)
{
  char *out = s;
  for (const unsigned char *p = (const unsigned char *)s; *p; p++)
    if ((*p == 0xc2 || *p == 0xc3) && (p[1] & 0xc0) == 0x80)
    {
      *out++ = (char)((*p & 3) << 6 | (p[1] & 0x3f));
      p++;
    }
    else
      *out++ = (char)*p;
  *out = 0;
}

static bool wanted(cJSON *record, const char *below)
{
  cJSON *member;
  cJSON_ArrayForEach(member, record) if (cJSON_IsString(member)) restore(member->valuestring);
  return !below || prelux_path_below(prelux_json_str(record, "path", ""), below, NULL);
}

/* Adds the records of one file. The daemon may rotate or a writer may be at work: a half line is skipped. */
static void read_file(const char *runtime, const char *name, const char *below, cJSON *records)
{
  char path[PATH_MAX + 16], *line = NULL;
  size_t cap = 0;
  snprintf(path, sizeof path, "%s/%s", runtime, name);
  FILE *f = fopen(path, "re");
  if (!f)
    return;
  while (getline(&line, &cap, f) > 0)
  {
    cJSON *record = cJSON_Parse(line);
    if (record && wanted(record, below))
      cJSON_AddItemToArray(records, record);
    else
      cJSON_Delete(record);
  }
  free(line);
  fclose(f);
}

static void print_record(const cJSON *r)
{
  char when[32];
  const char *backend = prelux_json_str(r, "backend", NULL), *advice = prelux_json_str(r, "advice", NULL);
  char *path = prelux_print_name(prelux_json_str(r, "path", "")), *cause = prelux_print_name(prelux_json_str(r, "cause", ""));
  prelux_print_time(when, sizeof when, (int64_t)prelux_json_num(r, "time_ms", 0) * 1000000);
  printf("%s  %-9s %s %s (process %.0f)\n    %s%s%s%s\n", when, prelux_json_str(r, "errno", "?"), prelux_json_str(r, "call", "?"), path,
         prelux_json_num(r, "pid", 0), cause, backend ? " [backend " : "", backend ? backend : "", backend ? "]" : "");
  if (advice && *advice)
    printf("    -> %s\n", advice);
  free(path);
  free(cause);
}

int prelux_cmd_errors(struct prelux_cli *cli)
{
  char below[PATH_MAX];
  const char *last = prelux_cli_option(cli, "last");
  char *end = "";
  long n = last ? strtol(last, &end, 10) : -1;
  if (last && (*end || end == last || n < 0))
    return prelux_cli_usage(cli, "--last wants a number, not %s", last);
  if (cli->n_args && prelux_cli_absolute(cli, cli->args[0], below, sizeof below) < 0)
    return prelux_cli_fail("%s: path too long", cli->args[0]);
  cJSON *records = cJSON_CreateArray();
  read_file(cli->runtime, "errors.1", cli->n_args ? below : NULL, records);
  read_file(cli->runtime, "errors", cli->n_args ? below : NULL, records);
  while (n >= 0 && cJSON_GetArraySize(records) > n)
    cJSON_DeleteItemFromArray(records, 0);
  if (cli->json)
  {
    prelux_print_json(records);
    return 0;
  }
  const cJSON *r;
  cJSON_ArrayForEach(r, records) print_record(r);
  cJSON_Delete(records);
  return 0;
}
