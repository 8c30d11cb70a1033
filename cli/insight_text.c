/* A report on a terminal. */
#include <stdlib.h>
#include <string.h>

#include "cli/insight.h"

#define LISTED 10

static const cJSON *get(const cJSON *o, const char *key)
{
  return cJSON_GetObjectItemCaseSensitive(o, key);
}

static const char *size(char buf[32], const cJSON *o, const char *key)
{
  return prelux_print_size(buf, 32, prelux_json_num(o, key, 0));
}

static void print_programs(FILE *f, const cJSON *sum)
{
  const cJSON *o, *reached = get(sum, "reached"), *list = get(sum, "not_reached");
  double missed = 0;
  cJSON_ArrayForEach(o, list) missed += prelux_json_num(o, "processes", 0);
  fprintf(f, "programs      %.0f started with the library in them, %.0f without; %.0f forked processes used mappings\n",
          prelux_json_num(reached, "starts", 0), missed, prelux_json_num(reached, "forks", 0));
  if (prelux_json_num(reached, "supervised", 0) > 0)
    fprintf(f, "              %.0f supervised (--deep)\n", prelux_json_num(reached, "supervised", 0));
  if (prelux_json_num(reached, "without_configuration", 0) > 0)
    fprintf(f, "              %.0f had lost their configuration: EIO below the prefixes\n", prelux_json_num(reached, "without_configuration", 0));
  cJSON_ArrayForEach(o, list)
  {
    char *name = prelux_print_name(prelux_json_str(o, "program", "?"));
    fprintf(f, "not reached   %s (%.0f): %s\n", name ? name : "?", prelux_json_num(o, "processes", 0), prelux_json_str(o, "why", ""));
    free(name);
  }
}

static void print_calls(FILE *f, const cJSON *sum)
{
  const cJSON *o, *calls = get(sum, "calls");
  fprintf(f, "%-9s %12s %12s %12s %10s %10s %10s\n", "calls", "", "hits", "asked", "missing", "failed", "waited s");
  cJSON_ArrayForEach(o, calls)
    if (prelux_json_num(o, "calls", 0) > 0)
      fprintf(f, "  %-7s %12.0f %12.0f %12.0f %10.0f %10.0f %10.3f\n", o->string, prelux_json_num(o, "calls", 0), prelux_json_num(o, "hits", 0),
              prelux_json_num(o, "asked", 0), prelux_json_num(o, "missing", 0), prelux_json_num(o, "failed", 0), prelux_json_num(o, "wait_s", 0));
}

static void print_bytes(FILE *f, const cJSON *sum)
{
  const cJSON *o = get(sum, "bytes");
  char a[32], b[32], c[32], d[32];
  fprintf(f, "bytes         of files opened: %s from the cache, %s after asking the daemon\n", size(a, o, "opened_cached"), size(b, o, "opened_asked"));
  if (get(o, "fetched"))
    fprintf(f, "              fetched meanwhile%s: %s (workers %s, under store %s, other remotes %s)\n",
            prelux_json_bool(o, "daemon_restarted") ? ", by the last daemon, for the one before has died" : "", size(a, o, "fetched"), size(b, o, "fetched_worker"),
            size(c, o, "fetched_under_store"), size(d, o, "fetched_remote"));
}

static void print_slowest(FILE *f, const cJSON *sum)
{
  const cJSON *o;
  int n = 0;
  cJSON_ArrayForEach(o, get(sum, "slowest"))
  {
    if (n++ == LISTED)
      break;
    char *name = prelux_print_name(prelux_json_str(o, "path", ""));
    fprintf(f, "%s %9.3f s %6.0f x %-10s %s\n", n == 1 ? "waited for   " : "             ", prelux_json_num(o, "wait_s", 0),
            prelux_json_num(o, "requests", 0), prelux_json_str(o, "call", ""), name ? name : "");
    free(name);
  }
}

void prelux_insight_text(FILE *f, const cJSON *sum)
{
  const cJSON *o, *command = get(sum, "command");
  fputs("prelux: report of", f);
  cJSON_ArrayForEach(o, command)
  {
    char *word = prelux_print_name(cJSON_GetStringValue(o));
    fprintf(f, " %.200s", word ? word : "");
    free(word);
  }
  fprintf(f, "\nstatus        %.0f after %.3f s\n", prelux_json_num(sum, "status", 0), prelux_json_num(sum, "seconds", 0));
  print_programs(f, sum);
  print_calls(f, sum);
  print_bytes(f, sum);
  print_slowest(f, sum);
  cJSON_ArrayForEach(o, get(sum, "not_seen")) fprintf(f, "not seen      %s\n", cJSON_GetStringValue(o));
}
