/* prelux load: jobs by which the remote reads a path into its own caches. The daemon passes a verb on and tells how the job
 * stands; waiting is asking again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

#define POLL_MS 1000
#define FIRST_POLL_MS 100   /* small jobs are over soon; doubles */
#define FAILURES_MAX 5      /* answers that fail in a row before waiting is given up */
#define BAR 30

struct job
{
  struct prelux_cli *cli;
  char path[PATH_MAX];
  cJSON *answer; /* the last */
};

static const struct
{
  const char *name;
  int status;
} states[] = {{"starting", PRELUX_EXIT_DEGRADED}, {"running", PRELUX_EXIT_DEGRADED}, {"done", PRELUX_EXIT_OK}};

static const char *state_of(const struct job *j)
{
  return prelux_json_str(j->answer, "state", "unknown");
}

static int status_of(const char *state)
{
  for (size_t i = 0; i < sizeof states / sizeof *states; i++)
    if (strcmp(states[i].name, state) == 0)
      return states[i].status;
  return PRELUX_EXIT_FAILED;
}

/* "10MiB" -> bytes; false: no size. */
static bool parse_size(const char *s, unsigned long long *ret)
{
  static const char units[] = "kmgt";
  char *end;
  if (*s < '1' || *s > '9')
    return false;
  *ret = strtoull(s, &end, 10);
  const char *unit = *end ? strchr(units, *end | 0x20) : NULL;
  if (unit)
  {
    if (*ret > 1ull << 30)
      return false;
    *ret <<= 10 * (unit - units + 1);
    end += 1 + (end[1] == 'i');
  }
  if (*end == 'B' || *end == 'b')
    end++;
  return *end == 0 && *ret <= 1ull << 62;
}

/* One request; 0 and j->answer, or an exit status after saying why. */
static int ask(struct job *j, const char *verb, bool quiet)
{
  static const char *const flags[] = {"verify", "metadata-only", "skip-if-exists", "partial-listing"};
  char bandwidth[48];
  char *args[8] = {(char *)verb, j->path};
  struct prelux_cli_call call = {.verb = PRELUX_CTL_LOAD, .args = args, .n_args = 2, .table = true, .quiet = quiet};
  const char *limit = prelux_cli_option(j->cli, "bandwidth");
  unsigned long long bytes;
  cJSON *answer;
  if (strcmp(verb, "submit") == 0)
  {
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
      if (prelux_cli_option(j->cli, flags[i]))
        args[call.n_args++] = (char *)flags[i];
    if (limit && !parse_size(limit, &bytes))
      return prelux_cli_usage(j->cli, "--bandwidth %s: a size such as 10MiB is wanted", limit);
    if (limit)
    {
      snprintf(bandwidth, sizeof bandwidth, "bandwidth=%llu", bytes);
      args[call.n_args++] = bandwidth;
    }
  }
  int ret = prelux_cli_ask(j->cli, &call, &answer, NULL);
  if (ret != 0)
  {
    cJSON_Delete(answer);
    return ret;
  }
  cJSON_Delete(j->answer);
  j->answer = answer;
  return 0;
}

static void draw(const struct job *j)
{
  char done[24], total[24], bar[BAR + 1];
  double n = prelux_json_num(j->answer, "bytes_done", 0), of = prelux_json_num(j->answer, "bytes_total", 0);
  if (of <= 0 || strcmp(state_of(j), "starting") == 0)
  {
    fprintf(stderr, "\r\033[Kstarting");
    return;
  }
  int filled = (int)(BAR * (n < of ? n / of : 1));
  memset(bar, '-', BAR);
  memset(bar, '#', (size_t)filled);
  bar[BAR] = 0;
  fprintf(stderr, "\r\033[K[%s] %3.0f %%  %s of %s", bar, 100 * (n < of ? n / of : 1), prelux_print_size(done, sizeof done, n),
          prelux_print_size(total, sizeof total, of));
}

/* Until the job is over. 0, or an exit status after saying why. */
static int wait_for(struct job *j)
{
  bool bar = isatty(2);
  int ret = 0, failures = 0;
  long pause = FIRST_POLL_MS;
  while (failures > 0 || status_of(state_of(j)) == PRELUX_EXIT_DEGRADED)
  {
    if (bar)
      draw(j);
    nanosleep(&(struct timespec){.tv_sec = pause / 1000, .tv_nsec = pause % 1000 * 1000000}, NULL);
    pause = pause * 2 > POLL_MS ? POLL_MS : pause * 2;
    ret = ask(j, "progress", failures + 1 < FAILURES_MAX);
    failures = ret ? failures + 1 : 0;
    if (failures == FAILURES_MAX)
      break;
  }
  if (bar)
    fprintf(stderr, "\r\033[K");
  return failures ? ret : 0;
}

static void print_job(const struct job *j, bool words)
{
  char done[24], total[24];
  char *remote = prelux_print_name(prelux_json_str(j->answer, "remote", j->path));
  double of = prelux_json_num(j->answer, "bytes_total", 0), failed = prelux_json_num(j->answer, "files_failed", 0);
  printf("%s: %s%s", remote, state_of(j), prelux_json_bool(j->answer, "attached") ? " (a job that was there already)" : "");
  if (of > 0)
    printf(", %s of %s", prelux_print_size(done, sizeof done, prelux_json_num(j->answer, "bytes_done", 0)),
           prelux_print_size(total, sizeof total, of));
  if (failed > 0)
    printf(", %.0f files failed", failed);
  puts("");
  free(remote);
  const char *text = prelux_json_str(j->answer, "text", "");
  if (!words || !*text)
    return;
  while (*text)
  {
    size_t n = strcspn(text, "\n");
    char *line = strndup(text, n), *shown = prelux_print_name(line ? line + strspn(line, "\t ") : "");
    printf("  %s\n", shown);
    free(shown);
    free(line);
    text += n + (text[n] != 0);
  }
}

int prelux_cmd_load(struct prelux_cli *cli)
{
  struct job j = {.cli = cli};
  const char *verb = cli->args[0];
  bool stop = strcmp(verb, "stop") == 0, submit = strcmp(verb, "submit") == 0, attached = false;
  int err = prelux_cli_absolute(cli, cli->args[1], j.path, sizeof j.path);
  if (!stop && !submit && strcmp(verb, "progress") != 0)
    return prelux_cli_usage(cli, "load %s: there are submit, progress, stop", verb);
  if (err < 0)
    return prelux_cli_fail("%s: %s", cli->args[1], strerror(-err));
  int ret = ask(&j, verb, false);
  bool wait = prelux_cli_option(cli, "wait") || (isatty(1) && !cli->json && !prelux_cli_option(cli, "no-wait"));
  if (ret == 0)
    attached = prelux_json_bool(j.answer, "attached");
  if (ret == 0 && wait && !stop)
    ret = wait_for(&j);
  if (ret != 0)
  {
    cJSON_Delete(j.answer);
    return ret;
  }
  if (submit)
    cJSON_ReplaceItemInObjectCaseSensitive(j.answer, "attached", cJSON_CreateBool(attached));
  ret = stop && strcmp(state_of(&j), "stopped") == 0 ? PRELUX_EXIT_OK : status_of(state_of(&j));
  if (cli->json)
  {
    prelux_print_json(j.answer);
    return ret;
  }
  print_job(&j, !submit || ret == PRELUX_EXIT_FAILED);
  cJSON_Delete(j.answer);
  return ret;
}
