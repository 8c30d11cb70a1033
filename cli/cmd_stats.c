/* prelux stats, metrics: what the daemon has counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"

#define WATCH_S 2

static const cJSON *member(const cJSON *o, const char *key)
{
  return cJSON_GetObjectItemCaseSensitive(o, key);
}

static double number(const cJSON *m, const char *op, const char *key)
{
  return prelux_json_num(member(m, op), key, 0);
}

static double all_of(const cJSON *m, const char *op)
{
  return number(m, op, "hit") + number(m, op, "miss") + number(m, op, "error");
}

static void count(char *out, size_t cap, double n)
{
  snprintf(out, cap, "%.0f", n);
}

static void seconds(char *out, size_t cap, double s)
{
  if (s < 0)
    snprintf(out, cap, "-");
  else
    snprintf(out, cap, s < 0.01 ? "%.2f ms" : s < 1 ? "%.0f ms" : "%.3g s", s < 1 ? s * 1e3 : s);
}

/* The bound below which 19 of 20 opens were; -1: there were none, or it is above all bounds. */
static double below(const cJSON *answer, const cJSON *m)
{
  const cJSON *times = member(member(m, "open"), "times"), *t, *bounds = member(answer, "bounds_s");
  double all = all_of(m, "open"), sum = 0;
  int i = 0;
  cJSON_ArrayForEach(t, times)
  {
    sum += t->valuedouble;
    const cJSON *bound = cJSON_GetArrayItem(bounds, i++);
    if (all > 0 && sum >= 0.95 * all)
      return bound ? bound->valuedouble : -1;
  }
  return -1;
}

static const cJSON *same_mapping(const cJSON *before, const char *name)
{
  const cJSON *m;
  cJSON_ArrayForEach(m, member(before, "mappings")) if (strcmp(prelux_json_str(m, "mapping", ""), name) == 0) return m;
  return NULL;
}

/* Another daemon has begun at 0. */
static double since(double now, double before)
{
  return now < before ? now : now - before;
}

/* before: an answer `passed` seconds ago: rates since; NULL: sums. */
static void print_mappings(const cJSON *answer, const cJSON *before, double passed)
{
  struct prelux_print_table t = {.columns = 10, .right = 0x3fe};
  const cJSON *m;
  prelux_print_row(&t, "MAPPING", before ? "OPENS/S" : "OPENS", "HITS", "MISSES", "ERRORS", "MEAN", "95% BELOW", "STATS", "LISTS",
                   before ? "REMOTE/S" : "FROM REMOTE");
  cJSON_ArrayForEach(m, member(answer, "mappings"))
  {
    char cells[8][24], size[24];
    const char *name = prelux_json_str(m, "mapping", "?");
    const cJSON *b = before ? same_mapping(before, name) : NULL;
    double by = before && passed > 0 ? passed : 1, opens = all_of(m, "open");
    const double values[] = {since(opens, all_of(b, "open")) / by, number(m, "open", "hit"), number(m, "open", "miss"), number(m, "open", "error")};
    for (int i = 0; i < 4; i++)
      count(cells[i], sizeof cells[i], values[i]);
    seconds(cells[4], sizeof cells[4], opens > 0 ? number(m, "open", "seconds") / opens : -1);
    seconds(cells[5], sizeof cells[5], below(answer, m));
    count(cells[6], sizeof cells[6], all_of(m, "stat"));
    count(cells[7], sizeof cells[7], all_of(m, "list"));
    double bytes = since(prelux_json_num(m, "remote_bytes", 0), prelux_json_num(b, "remote_bytes", 0));
    prelux_print_row(&t, name, cells[0], cells[1], cells[2], cells[3], cells[4], cells[5], cells[6], cells[7],
                     prelux_print_size(size, sizeof size, bytes / by));
  }
  prelux_print_table(&t);
}

/* Where the bytes came from, of backends that tell. */
static void print_sources(const cJSON *status)
{
  struct prelux_print_table t = {.columns = 4, .right = 0xc};
  const cJSON *b, *s;
  cJSON_ArrayForEach(b, member(status, "backends")) cJSON_ArrayForEach(s, member(b, "reads"))
  {
    char reads[24], size[24];
    if (!cJSON_IsObject(s))
      continue;
    if (t.rows == 0)
      prelux_print_row(&t, "BACKEND", "SOURCE", "READS", "BYTES");
    count(reads, sizeof reads, prelux_json_num(s, "reads", 0));
    prelux_print_row(&t, prelux_json_str(b, "name", "?"), s->string, reads, prelux_print_size(size, sizeof size, prelux_json_num(s, "bytes", 0)));
  }
  if (t.rows > 0)
  {
    puts("");
    prelux_print_table(&t);
  }
}

static void print_cache(const cJSON *status)
{
  const cJSON *s;
  cJSON_ArrayForEach(s, member(member(status, "cache"), "stores"))
  {
    char used[24], max[24];
    printf("\ncache %s: %s of %s in %.0f files, %.0f fetched, %.0f evicted", prelux_json_str(s, "dir", "-"),
           prelux_print_size(used, sizeof used, prelux_json_num(s, "used_bytes", 0)),
           prelux_print_size(max, sizeof max, prelux_json_num(s, "max_bytes", 0)), prelux_json_num(s, "files", 0), prelux_json_num(s, "fills", 0),
           prelux_json_num(s, "evictions", 0));
  }
  const cJSON *p = member(status, "pending");
  printf("\nuploads %.0f wait, %.0f are open, %.0f were refused\n", prelux_json_num(p, "waiting", 0), prelux_json_num(p, "open", 0),
         prelux_json_num(p, "refused", 0) + prelux_json_num(p, "recovered", 0));
}

static int ask(struct prelux_cli *cli, const char *verb, cJSON **ret)
{
  const struct prelux_cli_call call = {.verb = verb};
  return prelux_cli_ask(cli, &call, ret, NULL);
}

static int once(struct prelux_cli *cli, cJSON **before, double passed)
{
  cJSON *answer = NULL, *status = NULL;
  int ret = ask(cli, PRELUX_CTL_STATS, &answer);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  else if (ret == 0 && (ret = ask(cli, PRELUX_CTL_STATUS, &status)) == 0)
  {
    print_mappings(answer, *before, passed);
    print_sources(status);
    print_cache(status);
  }
  fflush(stdout);
  cJSON_Delete(status);
  cJSON_Delete(*before);
  *before = answer;
  return ret;
}

int prelux_cmd_stats(struct prelux_cli *cli)
{
  const char *watch = prelux_cli_option(cli, "watch"), *rounds = prelux_cli_option(cli, "rounds");
  char *end = "", *rounds_end = "";
  double pause = watch && *watch ? strtod(watch, &end) : WATCH_S;
  long n = rounds ? strtol(rounds, &rounds_end, 10) : -1, left = watch ? n : 1;
  cJSON *before = NULL;
  int ret = 0;
  if (*end || !(pause >= 0.1 && pause <= 86400) || *rounds_end || (rounds && n <= 0))
    return prelux_cli_usage(cli, "--watch wants seconds, --rounds a number");
  const struct timespec t = {(time_t)pause, (long)((pause - (double)(time_t)pause) * 1e9)};
  while (ret == 0 && left != 0)
  {
    if (watch && !cli->json && isatty(STDOUT_FILENO))
      fputs("\033[H\033[2J", stdout);
    ret = once(cli, &before, pause);
    left -= left > 0;
    if (ret == 0 && left != 0)
      nanosleep(&t, NULL);
  }
  cJSON_Delete(before);
  return ret;
}

int prelux_cmd_metrics(struct prelux_cli *cli)
{
  cJSON *answer = NULL;
  int ret = ask(cli, PRELUX_CTL_METRICS, &answer);
  if (ret == 0)
    fputs(prelux_json_str(answer, "text", ""), stdout);
  cJSON_Delete(answer);
  return ret;
}
