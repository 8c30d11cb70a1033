/* prelux flush, prelux pending: what was written here and is not on the remote. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/uploads.h"
#include "include/prelux/ctl.h"
#include "lib/ipc/runtime.h"

/* Arguments from `first` on. 0, or an exit status + 1: there is nothing to ask for. */
static int take_paths(struct prelux_cli *cli, int first, struct prelux_cli_paths *paths, struct prelux_uploads *u)
{
  int ret = prelux_cli_take_paths(cli, first, paths);
  u->paths = paths->list;
  u->n_paths = paths->n;
  u->table = paths->n > 0 || cli->config || prelux_env_get(cli->env, "PRELUX_CONFIG");
  if (ret == 0 && paths->n == 0 && cli->n_args > first) /* an empty list is not all of the configuration */
  {
    if (cli->json)
      prelux_print_json_text("{}");
    return 1;
  }
  return ret ? ret + 1 : 0;
}

int prelux_cmd_flush(struct prelux_cli *cli)
{
  const char *limit = prelux_cli_option(cli, "timeout");
  struct prelux_uploads u = {.progress = true, .form = prelux_cli_option(cli, "progress")};
  struct prelux_cli_paths paths;
  cJSON *o = NULL;
  char *end = "";
  if (!u.form)
    u.form = cli->json ? NULL : "auto";
  if (u.form && !prelux_progress_start(&u.bar, "flush", u.form, false))
    return prelux_cli_usage(cli, "--progress is one of auto, bar, lines, json, none");
  u.limit_s = limit ? strtod(limit, &end) : 0;
  if (limit && (*end || end == limit || !(u.limit_s > 0)))
    return prelux_cli_usage(cli, "--timeout wants seconds, not %s", limit);
  int ret = take_paths(cli, 0, &paths, &u);
  if (ret > 0)
    return ret - 1;
  ret = prelux_cli_wait_uploads(cli, &u, &o);
  prelux_cli_free_paths(&paths);
  if (ret == 0 && prelux_json_num(o, "count", 0) > 0)
    ret = PRELUX_EXIT_DEGRADED;
  if (o && cli->json)
    prelux_print_json_text(cli->answer);
  else if (o && ret)
    prelux_cli_list_uploads(o);
  cJSON_Delete(o);
  return ret;
}

static int list(struct prelux_cli *cli)
{
  struct prelux_uploads u = {.pages = true};
  struct prelux_cli_paths paths;
  struct prelux_print_table t = {.columns = 7, .right = 8};
  cJSON *o = NULL;
  const cJSON *f;
  int ret = take_paths(cli, 1, &paths, &u);
  if (ret > 0)
    return ret - 1;
  ret = prelux_cli_ask_uploads(cli, &u, PRELUX_CTL_PENDING, 0, &o);
  prelux_cli_free_paths(&paths);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  if (ret == 0 && !cli->json && cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(o, "files")) > 0)
  {
    prelux_print_row(&t, "ID", "STATE", "WHAT", "SIZE", "SINCE", "PATH", "WHY");
    cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "files"))
    {
      char size[24], since[40];
      char *path = prelux_cli_upload_path(f), *cause = prelux_print_name(prelux_json_str(f, "cause", ""));
      prelux_print_row(&t, prelux_json_str(f, "id", "?"), prelux_json_str(f, "state", "?"), prelux_json_str(f, "intent", "upload"),
                       prelux_print_size(size, sizeof size, prelux_json_num(f, "size", 0)),
                       prelux_print_time(since, sizeof since, (int64_t)prelux_json_num(f, "since_ns", 0)), path && *path ? path : "-",
                       cause ? cause : "");
      free(path);
      free(cause);
    }
    prelux_print_table(&t);
  }
  cJSON_Delete(o);
  return ret;
}

/* A verb about one of them. */
static int tell(struct prelux_cli *cli, const char *verb, const char *more)
{
  char *args[2] = {cli->args[1], (char *)more};
  const struct prelux_cli_call call = {.verb = verb, .args = args, .n_args = more ? 2 : 1};
  cJSON *o = NULL;
  int ret = prelux_cli_ask(cli, &call, &o, NULL);
  if (ret == 0 && cli->json)
    prelux_print_json_text(cli->answer);
  cJSON_Delete(o);
  return ret;
}

static int retry(struct prelux_cli *cli)
{
  if (cli->n_args != 2)
    return prelux_cli_usage(cli, "pending retry wants one ID");
  return tell(cli, PRELUX_CTL_PENDING_RETRY, prelux_cli_option(cli, "overwrite") ? "overwrite" : NULL);
}

static int drop(struct prelux_cli *cli)
{
  if (cli->n_args != 2)
    return prelux_cli_usage(cli, "pending drop wants one ID: what it drops is gone");
  return tell(cli, PRELUX_CTL_PENDING_DROP, NULL);
}

static int copy(int from, const char *to)
{
  static char buf[1 << 16];
  int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666), err = 0;
  if (fd < 0)
    return -errno;
  for (ssize_t n; err == 0 && (n = read(from, buf, sizeof buf)) != 0;)
  {
    if (n < 0)
      err = -errno;
    for (ssize_t at = 0, w; err == 0 && at < n; at += w)
      if ((w = write(fd, buf + at, (size_t)(n - at))) < 0)
        err = -errno;
  }
  if (err == 0 && fsync(fd) < 0)
    err = -errno;
  if (close(fd) < 0 && err == 0)
    err = -errno;
  if (err < 0)
    unlink(to);
  return err;
}

/* The staging file of a number: a descriptor, or an exit status + 1 as a negative number. */
static int open_staged(struct prelux_cli *cli, const char *id)
{
  struct prelux_uploads u = {.id = id};
  cJSON *o = NULL;
  const cJSON *f;
  int fd = -1, ret = prelux_cli_ask_uploads(cli, &u, PRELUX_CTL_PENDING, 0, &o);
  cJSON_ArrayForEach(f, cJSON_GetObjectItemCaseSensitive(o, "files")) if (strcmp(prelux_json_str(f, "id", ""), id) == 0)
  {
    const char *file = prelux_json_str(f, "file", "");
    fd = *file ? open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (!*file)
      prelux_cli_fail("%s: a change of a name (%s) has no bytes", id, prelux_json_str(f, "intent", "?"));
    else if (fd < 0)
      prelux_cli_fail("%s: %s", file, strerror(errno));
    ret = PRELUX_EXIT_FAILED;
  }
  if (fd < 0 && ret == 0)
    ret = prelux_cli_fail("%s: no such number", id);
  cJSON_Delete(o);
  return fd >= 0 ? fd : -ret - 1;
}

static int export(struct prelux_cli *cli)
{
  if (cli->n_args != 3)
    return prelux_cli_usage(cli, "pending export wants an ID and a file to make");
  int fd = open_staged(cli, cli->args[1]);
  if (fd < 0)
    return -fd - 1;
  int err = copy(fd, cli->args[2]);
  close(fd);
  return err < 0 ? prelux_cli_fail("%s: %s", cli->args[2], strerror(-err)) : 0;
}

static const struct {
  const char *name;
  int (*run)(struct prelux_cli *cli);
} verbs[] = {{"list", list}, {"retry", retry}, {"drop", drop}, {"export", export}};

int prelux_cmd_pending(struct prelux_cli *cli)
{
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strcmp(cli->args[0], verbs[i].name) == 0)
      return verbs[i].run(cli);
  return prelux_cli_usage(cli, "pending %s: there are list, retry, drop, export", cli->args[0]);
}
