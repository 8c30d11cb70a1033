/* prelux doctor: a list of checks, from this process outwards: library, program, runtime folder, configuration, daemon,
 * and what the daemon knows of caches, credentials and servers. Each says what is, and what to do when it is not right. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "include/prelux/ctl.h"
#include "include/prelux/version.h"
#include "lib/conf/conf.h"
#include "lib/ipc/runtime.h"

struct report {
  struct prelux_cli *cli;
  cJSON *checks;
  bool wrong;
};

/* status: "ok", "info", "warn", "fail". */
static void add(struct report *r, const char *name, const char *status, const char *text, const char *advice)
{
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "check", name);
  cJSON_AddStringToObject(o, "status", status);
  cJSON_AddStringToObject(o, "text", text);
  if (advice && *advice)
    cJSON_AddStringToObject(o, "advice", advice);
  cJSON_AddItemToArray(r->checks, o);
  r->wrong |= strcmp(status, "warn") == 0 || strcmp(status, "fail") == 0;
}

/* Runs /bin/true with the library; ld.so complains on stderr when it cannot load it and goes on without. */
static void check_loads(struct report *r, const char *preload)
{
  char said[512] = "", env[PATH_MAX * 2 + 16];
  int pipe[2], status = -1;
  pid_t pid;
  posix_spawn_file_actions_t actions;
  snprintf(env, sizeof env, "LD_PRELOAD=%s", preload);
  char *argv[] = {"true", NULL}, *envp[] = {env, "PRELUX_OFF=1", NULL};
  if (pipe2(pipe, O_CLOEXEC) < 0)
    return;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe[1], 2);
  int err = posix_spawn(&pid, "/bin/true", &actions, NULL, argv, envp);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe[1]);
  ssize_t n = err == 0 ? read(pipe[0], said, sizeof said - 1) : 0;
  close(pipe[0]);
  if (err == 0)
    waitpid(pid, &status, 0);
  said[n > 0 ? n : 0] = 0;
  said[strcspn(said, "\n")] = 0;
  if (err != 0 || status != 0 || n > 0)
    add(r, "library", "fail", n > 0 ? said : "/bin/true does not run with the library", "is the library built for this machine and libc?");
  else
    add(r, "library", "ok", preload, NULL);
}

static void check_library(struct report *r)
{
  char path[PATH_MAX], preload[PATH_MAX * 2];
  if (prelux_cli_library(r->cli, path, sizeof path) < 0)
    add(r, "library", "fail", "libprelux.so was not found beside prelux or in ../lib", "make all, or make install");
  else if (prelux_cli_preload(r->cli, preload, sizeof preload) != 0)
    add(r, "library", "fail", "LD_PRELOAD cannot be set", "set PRELUX_RUNTIME_DIR to a path without blanks and colons");
  else
    check_loads(r, preload);
}

/* What this process inherited that a program would inherit, too. */
static void check_process(struct report *r)
{
  char line[256];
  FILE *f = fopen("/proc/self/status", "re");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, "Seccomp:", 8) == 0 && atoi(line + 8) == 2)
      add(r, "process", "info", "a system call filter (seccomp) is active here",
          "if mapped paths fail, let it pass socket, connect, sendto, recvmsg and openat2");
  if (f)
    fclose(f);
  if (prelux_env_get(r->cli->env, "PRELUX_OFF"))
    add(r, "process", "warn", "PRELUX_OFF is set: programs see no mapping", "unset PRELUX_OFF");
}

static void add_program(void *arg, const char *status, const char *text, const char *advice)
{
  add(arg, "program", status, text, advice);
}

/* A program below a mapping: its file in the cache is what can be looked at. Its loader is not asked: libraries beside it come when it starts. */
static bool check_mapped(struct report *r)
{
  char path[PATH_MAX], text[PATH_MAX + 128], *args[] = {path}, **words = NULL;
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_MAP, .args = args, .n_args = 1, .table = true, .quiet = true};
  cJSON *answer = NULL;
  if (!strchr(r->cli->args[0], '/') || prelux_cli_absolute(r->cli, r->cli->args[0], path, sizeof path) < 0 ||
      prelux_cli_ask(r->cli, &call, &answer, NULL) != 0 || !prelux_json_str(answer, "mapping", NULL))
  {
    cJSON_Delete(answer);
    return false;
  }
  const char *cache = prelux_json_str(answer, "cache", "");
  bool cached = strcmp(prelux_json_str(answer, "state", ""), "cached") == 0;
  snprintf(text, sizeof text, cached ? "%s lies below a mapping" : "%s lies below a mapping, and is not in the cache: it was not looked at", path);
  add(r, "program", "info", text, cached ? NULL : "prelux prefetch it, then ask again");
  if (cached && (words = calloc((size_t)r->cli->n_args, sizeof *words)))
  {
    memcpy(words, r->cli->args, (size_t)r->cli->n_args * sizeof *words);
    words[0] = (char *)cache;
    prelux_cli_program(words, r->cli->n_args, "", add_program, r);
  }
  free(words);
  cJSON_Delete(answer);
  return true;
}

static void check_program(struct report *r, bool daemon)
{
  char path[PATH_MAX], preload[PATH_MAX * 2] = "";
  if (daemon && check_mapped(r))
    return;
  if (prelux_cli_library(r->cli, path, sizeof path) == 0 && prelux_cli_preload(r->cli, preload, sizeof preload) != 0)
    preload[0] = 0;
  prelux_cli_program(r->cli->args, r->cli->n_args, preload, add_program, r);
}

static void add_bypass(void *arg, const char *status, const char *text, const char *advice)
{
  add(arg, "bypass", status, text, advice);
}

static bool check_runtime(struct report *r)
{
  char text[PATH_MAX + 64];
  if (prelux_runtime_of_node(r->cli->runtime))
  {
    snprintf(text, sizeof text, "%s, of a daemon for several users", r->cli->runtime);
    add(r, "runtime folder", "ok", text, NULL);
    return true;
  }
  int fd = prelux_runtime_open(r->cli->runtime);
  if (fd >= 0)
    close(fd);
  snprintf(text, sizeof text, fd >= 0 ? "%s" : "%s: %s", r->cli->runtime, fd == -EACCES ? "not mine alone (owner, mode 0700)" : strerror(-fd));
  add(r, "runtime folder", fd >= 0 ? "ok" : "fail", text, fd >= 0 ? NULL : "set PRELUX_RUNTIME_DIR to a folder of yours, mode 0700");
  return fd >= 0;
}

static bool check_config(struct report *r)
{
  const struct prelux_conf_input in = {.file = r->cli->config, .cwd = r->cli->cwd, .env = r->cli->env};
  struct prelux_conf *conf = NULL;
  struct prelux_conf_error err = {NULL};
  char path[PATH_MAX], text[PATH_MAX + 64];
  if (prelux_conf_find(&in, path, sizeof path) < 0)
  {
    add(r, "configuration", "fail", "none was found", "give --config FILE, set PRELUX_CONFIG, or see `prelux config init`");
    return false;
  }
  bool compiled = prelux_cli_is_table(path);
  int ret = compiled ? 0 : prelux_conf_load(&in, false, &conf, &err);
  if (ret < 0)
    add(r, "configuration", "fail", err.text ? err.text : strerror(-ret), "prelux config check names every mistake");
  else if (conf && conf->azfuse_off)
    add(r, "configuration", "warn", "an azfuse list, switched off by AZFUSE_USE_FUSE or QD_USE_FUSE", "unset it, or set it to 1");
  else
  {
    snprintf(text, sizeof text, "%s%s", path, compiled ? " (inherited from prelux run)" : "");
    add(r, "configuration", "ok", text, NULL);
  }
  for (size_t i = 0; ret == 0 && conf && i < conf->n_warnings; i++)
    add(r, "configuration", "info", conf->warnings[i], NULL);
  prelux_cli_bypass(r->cli->args, r->cli->n_args, ret == 0 ? conf : NULL, add_bypass, r);
  free(err.text);
  prelux_conf_free(conf);
  return ret == 0;
}

static bool check_daemon(struct report *r)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_DAEMON_STATUS, .start = true, .quiet = true};
  cJSON *answer;
  int err;
  char text[PATH_MAX + 128];
  if (prelux_cli_ask(r->cli, &call, &answer, &err) != 0)
  {
    cJSON_Delete(answer);
    snprintf(text, sizeof text, "none answers and %s could not be started: %s", r->cli->daemon, strerror(err < -1000 ? EIO : -err));
    add(r, "daemon", "fail", text, "look at `prelux daemon log`");
    return false;
  }
  const char *version = prelux_json_str(answer, "version", "?");
  bool same = strcmp(version, PRELUX_VERSION) == 0;
  snprintf(text, sizeof text, "pid %.0f, version %s", prelux_json_num(answer, "pid", 0), version);
  add(r, "daemon", same ? "ok" : "warn", text,
      same ? NULL : "another version than this prelux: `prelux daemon stop`, the next request starts the new one");
  cJSON_Delete(answer);
  return true;
}

/* What every backend found at its servers: a line a member, and one for what is wrong with it. */
static void ask_backends(struct report *r, const cJSON *backends)
{
  static const char *const plain[] = {"name", "type", "ms", "trouble", "advice"};
  const cJSON *b, *m;
  cJSON_ArrayForEach(b, backends)
  {
    char name[80], text[2048];
    const char *trouble = prelux_json_str(b, "trouble", NULL);
    snprintf(name, sizeof name, "backend %.60s", prelux_json_str(b, "name", "?"));
    if (trouble)
      add(r, name, "warn", trouble, prelux_json_str(b, "advice", NULL));
    cJSON_ArrayForEach(m, b)
    {
      size_t i = 0;
      while (i < sizeof plain / sizeof *plain && strcmp(m->string, plain[i]) != 0)
        i++;
      if (i < sizeof plain / sizeof *plain)
        continue;
      const cJSON *item = cJSON_IsArray(m) ? m->child : m; /* a list: a line each */
      for (; item; item = item == m ? NULL : item->next)
      {
        char *value = prelux_print_inline(item, m->string);
        snprintf(text, sizeof text, "%s: %s", m->string, value);
        add(r, name, "info", text, NULL);
        free(value);
      }
    }
  }
}

/* The daemon tries every mapping. */
static void ask_daemon(struct report *r)
{
  const struct prelux_cli_call call = {.verb = PRELUX_CTL_DOCTOR, .table = true, .quiet = true};
  cJSON *answer;
  const cJSON *m;
  int err, status = prelux_cli_ask(r->cli, &call, &answer, &err);
  if (status != 0 && err == -EACCES)
    add(r, "daemon", "info", "it tells of its backends to its own user and root alone", NULL);
  else if (status != 0)
    add(r, "daemon", "fail", "it does not serve this configuration", "look at `prelux errors` and `prelux daemon log`");
  cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(answer, "mappings"))
  {
    char text[2048], took[48] = "";
    const char *cause = prelux_json_str(m, "cause", NULL);
    bool ok = prelux_json_bool(m, "ok");
    if (ok)
      snprintf(took, sizeof took, " answers in %.0f ms", prelux_json_num(m, "ms", 0));
    snprintf(text, sizeof text, "%s -> %s%s%s%s", prelux_json_str(m, "local", "?"), prelux_json_str(m, "remote", "?"), took,
             cause && *cause ? ": " : "", cause ? cause : "");
    add(r, "mapping", ok ? "ok" : "fail", text, prelux_json_str(m, "advice", NULL));
  }
  ask_backends(r, cJSON_GetObjectItemCaseSensitive(answer, "backends"));
  double nofile = prelux_json_num(answer, "nofile", 65536);
  if (nofile < 1024)
    add(r, "daemon", "warn", "it may open fewer than 1024 files", "raise the hard limit of open files (ulimit -Hn) and restart it");
  cJSON_Delete(answer);
}

static void print_report(const struct report *r)
{
  const cJSON *c;
  cJSON_ArrayForEach(c, r->checks)
  {
    const char *advice = prelux_json_str(c, "advice", NULL);
    printf("%-5s %-16s %s\n", prelux_json_str(c, "status", "?"), prelux_json_str(c, "check", "?"), prelux_json_str(c, "text", ""));
    if (advice)
      printf("%-23s-> %s\n", "", advice);
  }
}

int prelux_cmd_doctor(struct prelux_cli *cli)
{
  struct report r = {.cli = cli, .checks = cJSON_CreateArray()};
  check_library(&r);
  check_process(&r);
  bool runtime = check_runtime(&r), config = check_config(&r), daemon = runtime && check_daemon(&r) && config;
  if (cli->n_args)
    check_program(&r, daemon);
  if (daemon)
    ask_daemon(&r);
  if (cli->json)
  {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddBoolToObject(o, "ok", !r.wrong);
    cJSON_AddItemToObject(o, "checks", r.checks);
    prelux_print_json(o);
  }
  else
  {
    print_report(&r);
    cJSON_Delete(r.checks);
  }
  return r.wrong ? PRELUX_EXIT_DEGRADED : 0;
}
