/* prelux prefetch: files into the cache, before programs ask. Paths go to the daemon in batches; it fetches a batch with
 * many threads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "include/prelux/ctl.h"
#include "lib/base/errlog.h"

#define BATCH_PATHS 256
#define BATCH_BYTES 32768
#define GLOB "glob="
#define NAMED 20  /* failures */
#define SHOWN 200 /* bytes of a path that is too long */

struct prefetch {
  struct prelux_cli *cli;
  char *paths[BATCH_PATHS];
  int n;
  size_t bytes;
  double files, size, cached, folders, failed;
  struct prelux_progress progress;
  cJSON *failures;
  int status;
};

static const char *const sums[] = {"files", "bytes", "cached", "folders", "failed"};

static void take_answer(struct prefetch *p, cJSON *answer)
{
  double *const into[] = {&p->files, &p->size, &p->cached, &p->folders, &p->failed};
  cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "failures");
  for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
    *into[i] += prelux_json_num(answer, sums[i], 0);
  while (cJSON_GetArraySize(list) > 0 && cJSON_GetArraySize(p->failures) < NAMED)
    cJSON_AddItemToArray(p->failures, cJSON_DetachItemFromArray(list, 0));
}

/* Sends what has gathered; false: no sense in going on. */
static bool send_batch(struct prefetch *p)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_PREFETCH, .args = p->paths, .n_args = p->n, .table = true,
                                       .progress = &p->progress};
  cJSON *answer = NULL;
  if (p->n > 0 && p->status == 0)
    p->status = prelux_cli_ask(p->cli, &call, &answer, NULL);
  take_answer(p, answer);
  if (answer)
    prelux_progress_add(&p->progress, answer);
  cJSON_Delete(answer);
  while (p->n > 0)
    free(p->paths[--p->n]);
  p->bytes = 0;
  return p->status == 0;
}

/* A path that cannot be asked for; the others can. */
static void note_failure(struct prefetch *p, const char *path, int err)
{
  char shown[SHOWN + 4];
  snprintf(shown, sizeof shown, "%.*s%s", SHOWN, path, strlen(path) > SHOWN ? "..." : "");
  p->failed++;
  if (cJSON_GetArraySize(p->failures) >= NAMED)
    return;
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "path", shown);
  cJSON_AddNumberToObject(o, "errno", -err);
  cJSON_AddStringToObject(o, "cause", strerror(-err));
  cJSON_AddItemToArray(p->failures, o);
}

static bool add_path(struct prefetch *p, const char *path, bool pattern)
{
  char full[PATH_MAX + sizeof GLOB] = GLOB;
  size_t skip = strlen(GLOB);
  int err = prelux_cli_absolute(p->cli, path, full + skip, PATH_MAX);
  if (err < 0)
  {
    note_failure(p, path, err);
    return true;
  }
  if ((p->n == BATCH_PATHS || p->bytes + strlen(full) > BATCH_BYTES) && !send_batch(p))
    return false;
  p->bytes += strlen(full) + 16;
  p->paths[p->n] = strdup(pattern && prelux_cli_is_pattern(p->cli, full + skip) ? full : full + skip);
  if (!p->paths[p->n])
  {
    p->status = prelux_cli_fail("out of memory");
    return false;
  }
  p->n++;
  return true;
}

static bool add_from(struct prefetch *p, const char *name)
{
  bool null = prelux_cli_option(p->cli, "null") != NULL, ok = true;
  FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
  char *line = NULL;
  size_t cap = 0;
  if (!f)
  {
    p->status = prelux_cli_fail("%s: %s", name, strerror(errno));
    return false;
  }
  for (ssize_t n; ok && (n = getdelim(&line, &cap, null ? 0 : '\n', f)) > 0;)
  {
    if (line[n - 1] == '\n' && !null)
      line[n - 1] = 0;
    ok = *line == 0 || add_path(p, line, false);
  }
  free(line);
  if (f != stdin)
    fclose(f);
  return ok;
}

/* What a report (run --report=FILE.json) says that programs waited for. */
static bool add_log(struct prefetch *p, const char *name)
{
  size_t len = 0;
  char *text = NULL;
  FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
  if (!f || getdelim(&text, &len, 0, f) < 0)
    p->status = prelux_cli_fail("%s: %s", name, f && !ferror(f) ? "it is empty" : strerror(errno));
  if (f && f != stdin)
    fclose(f);
  cJSON *o = text && p->status == 0 ? cJSON_Parse(text) : NULL;
  const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, "waited_for"), *e;
  if (p->status == 0 && !cJSON_IsArray(list))
    p->status = prelux_cli_fail("%s is no report of `prelux run --report=FILE.json`", name);
  cJSON_ArrayForEach(e, list)
  {
    if (p->status == 0 && cJSON_IsString(e))
      add_path(p, e->valuestring, false);
  }
  cJSON_Delete(o);
  free(text);
  return p->status == 0;
}

static void print_result(struct prefetch *p)
{
  char size[24], time[32];
  const cJSON *f;
  printf("%.0f files in the cache (%.0f were there), %s, %.0f folders, in %s\n", p->files, p->cached,
         prelux_print_size(size, sizeof size, p->size), p->folders,
         prelux_print_duration(time, sizeof time, prelux_progress_seconds(&p->progress)));
  fflush(stdout);
  cJSON_ArrayForEach(f, p->failures)
    prelux_cli_fail("%s: %s (%s)", prelux_json_str(f, "path", "?"), prelux_json_str(f, "cause", "failed"),
                    prelux_errno_name((int)prelux_json_num(f, "errno", 0)));
  if (p->failed > cJSON_GetArraySize(p->failures))
    prelux_cli_fail("%.0f failed in all; see `prelux errors`", p->failed);
}

static void print_object(struct prefetch *p)
{
  cJSON *o = cJSON_CreateObject();
  const double values[] = {p->files, p->size, p->cached, p->folders, p->failed};
  for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
    cJSON_AddNumberToObject(o, sums[i], values[i]);
  cJSON_AddNumberToObject(o, "elapsed_s", prelux_progress_seconds(&p->progress));
  cJSON_AddItemToObject(o, "failures", p->failures);
  p->failures = NULL;
  prelux_print_json(o);
}

static void work(struct prefetch *p)
{
  struct prelux_cli *cli = p->cli;
  const char *const lists[] = {prelux_cli_option(cli, "from"), prelux_cli_option(cli, "files-from")};
  const char *log = prelux_cli_option(cli, "from-log");
  bool ok = true;
  p->progress.more = true;
  for (size_t i = 0; ok && i < sizeof lists / sizeof *lists; i++)
    ok = !lists[i] || add_from(p, lists[i]);
  if (ok && log)
    ok = add_log(p, log);
  for (int i = 0; ok && i < cli->n_args; i++)
    ok = strcmp(cli->args[i], "-") == 0 ? add_from(p, "-") : add_path(p, cli->args[i], true);
  p->progress.more = false;
  send_batch(p);
}

int prelux_cmd_prefetch(struct prelux_cli *cli)
{
  struct prefetch p = {.cli = cli};
  const char *form = prelux_cli_option(cli, "progress");
  if (!prelux_cli_option(cli, "from") && !prelux_cli_option(cli, "files-from") && !prelux_cli_option(cli, "from-log") && cli->n_args == 0)
    return prelux_cli_usage(cli, "prefetch wants paths, `-`, --from FILE or --from-log FILE");
  if (!prelux_progress_begin(&p.progress, cli->command->name, form, cli->json))
    return prelux_cli_usage(cli, "--progress is one of auto, bar, lines, json, none");
  p.failures = cJSON_CreateArray();
  work(&p);
  prelux_progress_end(&p.progress);
  if (p.status == 0 && cli->json)
    print_object(&p);
  else if (p.status == 0)
    print_result(&p);
  cJSON_Delete(p.failures);
  return p.status ? p.status : p.failed > 0 ? PRELUX_EXIT_FAILED : 0;
}
