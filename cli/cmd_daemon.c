/* prelux daemon: start, stop, status, log. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/uploads.h"
#include "include/prelux/ctl.h"
#include "lib/base/process.h"
#include "lib/ipc/runtime.h"

#define STOP_SECONDS 60

static int start(struct prelux_cli *cli)
{
  struct prelux_client_opts opts;
  prelux_cli_client(cli, true, &opts);
  int ret = prelux_daemon_start(&opts);
  if (ret < 0)
    return prelux_cli_fail("%s did not start: %s (runtime folder %s)", cli->daemon, strerror(-ret), cli->runtime);
  return 0;
}

static int status(struct prelux_cli *cli)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_DAEMON_STATUS, .quiet = true};
  cJSON *answer;
  int err, ret = prelux_cli_ask(cli, &call, &answer, &err);
  if (ret != 0)
  {
    cJSON_Delete(answer);
    if (!cli->json && err == -EPROTONOSUPPORT)
      return prelux_cli_fail("%s", cli->cause);
    if (!cli->json)
      return prelux_cli_fail(err == -ETIMEDOUT ? "the daemon does not answer" : "no daemon runs (runtime folder %s)", cli->runtime);
    answer = cJSON_CreateObject();
    cJSON_AddNullToObject(answer, "pid");
    cJSON_AddStringToObject(answer, "problem", err == -ETIMEDOUT ? "the daemon does not answer" : err == -EPROTONOSUPPORT ? cli->cause : "no daemon runs");
    prelux_print_json(answer);
    return PRELUX_EXIT_FAILED;
  }
  if (cli->json)
  {
    prelux_print_json(answer);
    return 0;
  }
  char up[32];
  printf("pid              %.0f\nversion          %s\nup               %s\nclients          %.0f\npending uploads  %.0f\nruntime folder   %s\n",
         prelux_json_num(answer, "pid", 0), prelux_json_str(answer, "version", "?"),
         prelux_print_duration(up, sizeof up, prelux_json_num(answer, "uptime_s", 0)), prelux_json_num(answer, "clients", 0),
         prelux_json_num(answer, "pending_uploads", 0), cli->runtime);
  cJSON_Delete(answer);
  return 0;
}

/* What was written is sent, within the grace; what is not stays for the next daemon, and is named. True: something is left. */
static bool drain(struct prelux_cli *cli)
{
  struct prelux_uploads u = {.quiet = true, .progress = true, .told_ns = prelux_cli_wall()};
  cJSON *o = NULL;
  bool left = prelux_cli_wait_uploads(cli, &u, &o) == 0 && prelux_cli_list_uploads(o) > 0;
  cJSON_Delete(o);
  return left;
}

/* Asks it to end and waits until it has; a daemon that has gone by itself is success. */
static int stop(struct prelux_cli *cli)
{
  const struct prelux_cli_call who = {.verb = PRELUX_CTL_DAEMON_STATUS, .quiet = true}, end = {.verb = PRELUX_CTL_DAEMON_STOP, .quiet = true};
  cJSON *answer;
  int err;
  if (prelux_cli_ask(cli, &who, &answer, &err) != 0)
  {
    cJSON_Delete(answer);
    return err == -ENOTCONN ? 0 : prelux_cli_fail("the daemon does not answer: %s", strerror(-err));
  }
  pid_t pid = (pid_t)prelux_json_num(answer, "pid", 0);
  double pending = prelux_json_num(answer, "pending_uploads", 0);
  bool activated = cJSON_IsTrue(cJSON_GetObjectItem(answer, "activated")); /* its socket stays, and a connection would start the next one */
  cJSON_Delete(answer);
  int pidfd = pid > 0 ? prelux_process_open(pid) : -1; /* a zombie is gone: in a container often nobody reaps it */
  bool stays = pending > 0 && !prelux_cli_option(cli, "no-wait") && drain(cli);
  prelux_cli_ask(cli, &end, &answer, &err);
  cJSON_Delete(answer);
  if (err != 0 && err != -EPROTO && err != -ENOTCONN) /* it may be gone before it has answered */
    return prelux_cli_fail("the daemon refuses to end: %s", strerror(-err));
  for (int i = 0; pid > 0 && i < STOP_SECONDS * 50; i++)
  {
    struct prelux_client_opts opts;
    prelux_cli_client(cli, false, &opts);
    int fd = activated ? -1 : prelux_client_connect(&opts);
    if (fd >= 0)
      close(fd);
    if (fd < 0 && (pidfd >= 0 ? prelux_process_dead(pidfd) : kill(pid, 0) < 0))
      return stays ? PRELUX_EXIT_DEGRADED : 0;
    nanosleep(&(struct timespec){0, 20000000}, NULL);
  }
  return prelux_cli_fail("process %ld has not ended after %d s", (long)pid, STOP_SECONDS);
}

static int set_level(struct prelux_cli *cli, const char *level)
{
  char *args[] = {(char *)level};
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_LOG_LEVEL, .args = args, .n_args = 1};
  cJSON *answer;
  int ret = prelux_cli_ask(cli, &call, &answer, NULL);
  cJSON_Delete(answer);
  return ret;
}

/* The log's path: what the daemon says, else where it is by default. */
static void log_path(struct prelux_cli *cli, char *out, size_t cap)
{
  char *args[] = {"1"};
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_LOG, .args = args, .n_args = 1, .quiet = true};
  cJSON *answer;
  prelux_cli_ask(cli, &call, &answer, NULL);
  const char *named = prelux_json_str(answer, "file", NULL);
  if (named && *named)
    snprintf(out, cap, "%s", named);
  else
    snprintf(out, cap, "%s/log", cli->runtime);
  cJSON_Delete(answer);
}

/* Moves f to the start of its last n lines. */
static void skip_to_last(FILE *f, long n)
{
  long at = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : 0, lines = 0;
  while (at > 0)
  {
    fseek(f, --at, SEEK_SET);
    if (getc(f) == '\n' && ++lines > n)
      return;
  }
  rewind(f);
}

static int show_log(struct prelux_cli *cli)
{
  char path[PATH_MAX + 8], buf[4096];
  const char *level = prelux_cli_option(cli, "level"), *last = prelux_cli_option(cli, "last");
  if (level)
    return set_level(cli, level);
  char *end = "";
  long n = last ? strtol(last, &end, 10) : -1;
  if (last && (*end || end == last || n < 0))
    return prelux_cli_usage(cli, "--last wants a number, not %s", last);
  log_path(cli, path, sizeof path);
  FILE *f = fopen(path, "re");
  if (!f)
    return prelux_cli_fail("%s: %s", path, strerror(errno));
  if (n >= 0)
    skip_to_last(f, n);
  for (size_t got; (got = fread(buf, 1, sizeof buf, f)) > 0;)
    fwrite(buf, 1, got, stdout);
  fclose(f);
  return 0;
}

static const struct {
  const char *name;
  int (*run)(struct prelux_cli *cli);
} verbs[] = {{"start", start}, {"stop", stop}, {"status", status}, {"log", show_log}};

int prelux_cmd_daemon(struct prelux_cli *cli)
{
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strcmp(cli->args[0], verbs[i].name) == 0)
      return verbs[i].run(cli);
  return prelux_cli_usage(cli, "daemon %s: there are start, stop, status, log", cli->args[0]);
}
