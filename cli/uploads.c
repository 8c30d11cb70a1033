/* Waiting for uploads: what `flush`, `run` and `daemon stop` do. The daemon is asked again and again what is not on the remote yet; so it may
 * die meanwhile, and nothing hangs on one connection. */
#include "cli/uploads.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "include/prelux/ctl.h"

#define LISTED_MAX 20 /* files that are named on stderr */
#define HURRY_S 5.0    /* between tries while all have failed: the daemon's own are up to a minute apart */

int64_t prelux_cli_wall(void)
{
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double seconds(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int prelux_cli_ask_uploads(struct prelux_cli *cli, const struct prelux_uploads *u, const char *verb, int64_t before, cJSON **ret)
{
  char **args = calloc((size_t)u->n_paths + 3, sizeof *args), after_text[40], before_text[40], id_text[64];
  int n = 0;
  if (!args)
    return prelux_cli_fail("out of memory");
  for (int i = 0; i < u->n_paths; i++)
    args[n++] = u->paths[i];
  snprintf(after_text, sizeof after_text, "after=%lld", (long long)u->after);
  snprintf(before_text, sizeof before_text, "before=%lld", (long long)before);
  if (u->after)
    args[n++] = after_text;
  if (before)
    args[n++] = before_text;
  snprintf(id_text, sizeof id_text, "id=%s", u->id ? u->id : "");
  if (u->id)
    args[n++] = id_text;
  const struct prelux_cli_call call = {.verb = verb, .args = args, .n_args = n, .n_more = n - u->n_paths, .table = u->table, .quiet = u->quiet,
                                       .pages = u->pages};
  int status = prelux_cli_ask_all(cli, &call, ret);
  free(args);
  return status;
}

/* True: told to give up. */
static bool pause_for(const struct prelux_uploads *u, double how_long, double *until)
{
  const struct timespec t = {(time_t)how_long, (long)((how_long - (double)(time_t)how_long) * 1e9)};
  siginfo_t info;
  if (!u->signals)
  {
    nanosleep(&t, NULL);
    return false;
  }
  int sig = sigtimedwait(u->signals, &info, &t);
  while (sig == SIGCHLD && getpid() == 1 && waitpid(-1, NULL, WNOHANG) > 0)
    ; /* as process 1 every orphan is ours */
  if (sig == SIGTERM || sig == SIGHUP)
    *until = *until && *until < seconds() + u->grace_s ? *until : seconds() + u->grace_s;
  return sig == SIGINT || sig == SIGQUIT;
}

static double waiting(const cJSON *o)
{
  return prelux_json_num(o, "waiting", 0) + prelux_json_num(o, "sending", 0);
}

/* How far it is: what has been sent since the first answer beside what is left. */
static void show_progress(struct prelux_uploads *u, const cJSON *o)
{
  double left = waiting(o), bytes = prelux_json_num(o, "bytes", 0), sent = prelux_json_num(o, "sent_files", 0);
  if (u->sent_before < 0 || sent < u->sent_before) /* the first, or another daemon's count */
    u->sent_before = sent;
  u->most_bytes = bytes > u->most_bytes ? bytes : u->most_bytes;
  const struct prelux_progress_state s = {.files = sent - u->sent_before, .all_files = sent - u->sent_before + left, .bytes = u->most_bytes - bytes,
                                          .all_bytes = u->most_bytes, .came = u->most_bytes - bytes, .complete = true};
  prelux_progress_show(&u->bar, &s);
}

/* Has every file that waits failed already? Then only the remote's coming back can help. */
static bool all_failed(const cJSON *o)
{
  const cJSON *f;
  bool any = false;
  cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "files"))
  {
    const char *state = prelux_json_str(f, "state", "");
    if (strcmp(state, "waiting") != 0 && strcmp(state, "sending") != 0)
      continue;
    any = true;
    if (prelux_json_num(f, "tries", 0) == 0)
      return false;
  }
  return any;
}

int prelux_cli_wait_uploads(struct prelux_cli *cli, struct prelux_uploads *u, cJSON **ret)
{
  double until = u->limit_s > 0 ? seconds() + u->limit_s : 0, moved = seconds(), last = -1, step = 0.05, hurried = 0;
  bool end = false, hurry = true;
  int64_t before = 0;
  int status;
  *ret = NULL;
  u->sent_before = -1;
  if (u->progress)
  {
    prelux_progress_start(&u->bar, cli->command->name, u->form, !u->form);
    if (!u->signals)
      prelux_progress_catch(&u->bar, "the daemon goes on sending");
  }
  for (;;)
  {
    cJSON *o = NULL;
    status = prelux_cli_ask_uploads(cli, u, hurry ? PRELUX_CTL_FLUSH : PRELUX_CTL_PENDING, before, &o);
    if (status != 0)
    {
      cJSON_Delete(o);
      break;
    }
    cJSON_Delete(*ret);
    *ret = o;
    if (!before)
    {
      u->grace_s = prelux_json_num(o, "grace_s", 30);
      before = prelux_cli_wall();
      if (u->told_ns)
        until = seconds() + u->grace_s - (double)(before - u->told_ns) / 1e9;
    }
    hurried = hurry ? seconds() : hurried;
    if (waiting(o) != last || !all_failed(o))
      moved = seconds();
    hurry = moved + HURRY_S < seconds() && hurried + HURRY_S < seconds();
    last = waiting(o);
    if (last == 0 || end || (until && seconds() >= until) || seconds() - moved >= (u->grace_s > 1 ? u->grace_s : 1))
      break;
    if (u->progress)
      show_progress(u, o);
    end = pause_for(u, step, &until);
    step = step < 0.5 ? step * 1.5 : 0.5;
  }
  if (u->progress)
    prelux_progress_end(&u->bar);
  return status;
}

char *prelux_cli_upload_path(const cJSON *f)
{
  char *path = prelux_print_name(prelux_json_str(f, "path", "")), *both = NULL;
  char *to = prelux_print_name(prelux_json_str(f, "to", ""));
  if (path && to && *to && asprintf(&both, "%s -> %s", path, to) >= 0)
  {
    free(path);
    path = both;
  }
  free(to);
  return path;
}

int prelux_cli_list_uploads(const cJSON *o)
{
  const cJSON *f;
  int n = 0, left = (int)prelux_json_num(o, "count", 0);
  cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "files"))
  {
    const char *state = prelux_json_str(f, "state", "?");
    if (n == 0)
      fputs("prelux: not on the remote:\n", stderr);
    char *path = prelux_cli_upload_path(f), *cause = prelux_print_name(prelux_json_str(f, "cause", ""));
    if (n < LISTED_MAX)
      fprintf(stderr, "  %s  %s  %s  %s%s%s\n", prelux_json_str(f, "id", "?"), state, prelux_json_str(f, "intent", "upload"),
              path && *path ? path : "?", *cause ? ": " : "", cause);
    free(path);
    free(cause);
    n++;
  }
  if (n > LISTED_MAX || left > n)
    fprintf(stderr, "  and more: see `prelux pending list`\n");
  return n;
}
