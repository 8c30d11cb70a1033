/* prelux prefetch: files into the cache, before programs ask. Paths go to the daemon in batches; it fetches a batch with
 * many threads. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

#define BATCH_PATHS 256
#define BATCH_BYTES 32768

struct prefetch {
  struct prelux_cli *cli;
  char *paths[BATCH_PATHS];
  int n;
  size_t bytes;
  double files, size, folders, failed;
  cJSON *failures;
  int status;
};

static const char *const sums[] = {"files", "bytes", "folders", "failed"};

static void take_answer(struct prefetch *p, cJSON *answer)
{
  double *const into[] = {&p->files, &p->size, &p->folders, &p->failed};
  cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "failures");
  for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
    *into[i] += prelux_json_num(answer, sums[i], 0);
  while (cJSON_GetArraySize(list) > 0)
    cJSON_AddItemToArray(p->failures, cJSON_DetachItemFromArray(list, 0));
}

/* Sends what has gathered; false: no sense in going on. */
static bool send_batch(struct prefetch *p)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_PREFETCH, .args = p->paths, .n_args = p->n, .table = true};
  cJSON *answer = NULL;
  if (p->n > 0 && p->status == 0)
    p->status = prelux_cli_ask(p->cli, &call, &answer, NULL);
  take_answer(p, answer);
  cJSON_Delete(answer);
  while (p->n > 0)
    free(p->paths[--p->n]);
  p->bytes = 0;
  return p->status == 0;
}

static bool add_path(struct prefetch *p, const char *path)
{
  char full[PATH_MAX];
  int err = prelux_cli_absolute(p->cli, path, full, sizeof full);
  if (err < 0)
  {
    p->status = prelux_cli_fail("%s: %s", path, strerror(-err));
    return false;
  }
  if ((p->n == BATCH_PATHS || p->bytes + strlen(full) > BATCH_BYTES) && !send_batch(p))
    return false;
  p->bytes += strlen(full) + 16;
  p->paths[p->n] = strdup(full);
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
    ok = *line == 0 || add_path(p, line);
  }
  free(line);
  if (f != stdin)
    fclose(f);
  return ok;
}

static void print_result(struct prefetch *p)
{
  char size[24];
  const cJSON *f;
  printf("%.0f files in the cache, %s, %.0f folders\n", p->files, prelux_print_size(size, sizeof size, p->size), p->folders);
  fflush(stdout);
  cJSON_ArrayForEach(f, p->failures)
  {
    char *path = prelux_print_name(prelux_json_str(f, "path", "?"));
    prelux_cli_fail("%s: %s (%s)", path, prelux_json_str(f, "cause", "failed"), prelux_json_str(f, "errno", "?"));
    free(path);
  }
  if (p->failed > cJSON_GetArraySize(p->failures))
    prelux_cli_fail("%.0f failed in all; see `prelux errors`", p->failed);
}

int prelux_cmd_prefetch(struct prelux_cli *cli)
{
  struct prefetch p = {.cli = cli, .failures = cJSON_CreateArray()};
  const char *from = prelux_cli_option(cli, "from");
  bool ok = true;
  if (!from && cli->n_args == 0)
  {
    cJSON_Delete(p.failures);
    return prelux_cli_usage(cli, "prefetch wants paths, `-`, or --from FILE");
  }
  if (from)
    ok = add_from(&p, from);
  for (int i = 0; ok && i < cli->n_args; i++)
    ok = strcmp(cli->args[i], "-") == 0 ? add_from(&p, "-") : add_path(&p, cli->args[i]);
  send_batch(&p);
  if (cli->json && p.status == 0)
  {
    cJSON *o = cJSON_CreateObject();
    const double values[] = {p.files, p.size, p.folders, p.failed};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++)
      cJSON_AddNumberToObject(o, sums[i], values[i]);
    cJSON_AddItemToObject(o, "failures", p.failures);
    prelux_print_json(o);
    return p.failed > 0 ? PRELUX_EXIT_FAILED : 0;
  }
  if (p.status == 0)
    print_result(&p);
  cJSON_Delete(p.failures);
  return p.status ? p.status : p.failed > 0 ? PRELUX_EXIT_FAILED : 0;
}
