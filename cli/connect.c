/* Talking to the daemon: REGISTER makes the configuration a table that every other request names; CTL carries the commands. */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "include/prelux/table.h"
#include "lib/base/path.h"
#include "lib/conf/conf.h"
#include "lib/ipc/runtime.h"
#include "lib/map/prefixes.h"

#define TIMEOUT_MS 15000
#define NEED_ROUNDS 4

struct buffers {
  unsigned char request[PRELUX_MSG_MAX] __attribute__((aligned(8)));
  unsigned char reply[PRELUX_MSG_MAX] __attribute__((aligned(8)));
};
static struct buffers buffers;

void prelux_cli_client(const struct prelux_cli *cli, bool start, struct prelux_client_opts *ret)
{
  *ret = (struct prelux_client_opts){
      .runtime = cli->runtime,
      .daemon = start ? cli->daemon : NULL,
      .envp = cli->env,
      .timeout_ms = TIMEOUT_MS,
      .fd_cloexec = 1,
  };
}

static const char *reason(int err, bool start)
{
  switch (-err)
  {
  case ENOTCONN:
    if (!start)
      return "no daemon runs; name a configuration (--config FILE, PRELUX_CONFIG), or start one: prelux daemon start";
    return "no daemon runs, and none could be started";
  case ETIMEDOUT:
    return "the daemon does not answer";
  case EPROTO:
    return "the daemon went away";
  case EPROTONOSUPPORT:
    return "the daemon is of another version of prelux: end it first (stop it by the prelux that has started it, or kill -TERM)";
  case EACCES:
    return "the runtime folder or its socket belongs to somebody else";
  default:
    return strerror(-err);
  }
}

/* No daemon could be reached: why, and what to set. */
static int say_unreachable(const struct prelux_cli *cli, int status)
{
  if (prelux_runtime_of_node(cli->runtime))
    return prelux_cli_fail("the daemon of this node cannot be spoken to: %s (runtime folder %s)", reason(status, true), cli->runtime);
  int fd = prelux_runtime_open(cli->runtime);
  if (fd < 0)
    return prelux_cli_fail("runtime folder %s: %s; set PRELUX_RUNTIME_DIR to a folder of yours, mode 0700", cli->runtime, strerror(-fd));
  close(fd);
  return prelux_cli_fail("%s (runtime folder %s)", reason(status, true), cli->runtime);
}

/* The n-th TEXT of the reply, or NULL. */
static const char *nth_text(const void *reply, int n)
{
  size_t pos = 0, len;
  const char *text;
  while ((text = prelux_msg_next(reply, PRELUX_FIELD_TEXT, &pos, &len)) && n > 0)
    n--;
  return text;
}

/* What is sent unasked (the daemon takes "not sent" for "not set" here). Anything else is sent when the daemon names it
 * (NEED): environments are large and hold other programs' secrets. */
static const char *const unasked[] = {"PRELUX_", "AWS_", "AZURE_", "AZFUSE_", "QD_", "HOME=", "XDG_"};

/* NAME=value, or NAME alone: known not to be set. */
static void put_needed(struct prelux_msg *m, char *const env[], const char *name)
{
  size_t n = strlen(name);
  for (size_t i = 0; env[i]; i++)
    if (strncmp(env[i], name, n) == 0 && env[i][n] == '=')
    {
      prelux_msg_put_str(m, PRELUX_FIELD_ENV, env[i]);
      return;
    }
  prelux_msg_put_str(m, PRELUX_FIELD_ENV, name);
}

/* PRELUX_CONFIG below a running `prelux run` names a table: the daemon knows it by that path, nobody else can read it. */
bool prelux_cli_is_table(const char *path)
{
  uint64_t magic = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return false;
  ssize_t n = read(fd, &magic, sizeof magic);
  close(fd);
  return n == (ssize_t)sizeof magic && magic == PRELUX_TABLE_MAGIC;
}

struct registration {
  char config[PATH_MAX];
  char *needed[256];
  size_t n_needed;
};

static int build_request(const struct prelux_cli *cli, const struct registration *r, struct prelux_msg *m)
{
  const char *home = prelux_env_get(cli->env, "HOME");
  prelux_msg_begin(m, buffers.request, sizeof buffers.request, PRELUX_OP_REGISTER);
  prelux_msg_put_str(m, PRELUX_FIELD_CONFIG, r->config);
  prelux_msg_put_str(m, PRELUX_FIELD_CWD, cli->cwd);
  if (home)
    prelux_msg_put_str(m, PRELUX_FIELD_HOME, home);
  for (size_t i = 0; cli->env[i]; i++)
    for (size_t k = 0; k < sizeof unasked / sizeof *unasked; k++)
      if (strncmp(cli->env[i], unasked[k], strlen(unasked[k])) == 0 && strncmp(cli->env[i], PRELUX_PREFIXES_ENV "=", sizeof PRELUX_PREFIXES_ENV) != 0)
        prelux_msg_put_str(m, PRELUX_FIELD_ENV, cli->env[i]);
  for (size_t i = 0; i < r->n_needed; i++)
    put_needed(m, cli->env, r->needed[i]);
  return m->overflow ? prelux_cli_fail("the environment variables of this configuration are longer than %u bytes", PRELUX_MSG_MAX) : 0;
}

/* Names the daemon asked for that are not known yet; how many. */
static size_t note_needs(struct registration *r, const void *reply)
{
  size_t pos = 0, len, fresh = 0;
  for (const char *name; (name = prelux_msg_next(reply, PRELUX_FIELD_NEED, &pos, &len));)
  {
    size_t i = 0;
    while (i < r->n_needed && strcmp(r->needed[i], name) != 0)
      i++;
    if (i == r->n_needed && i < sizeof r->needed / sizeof *r->needed && (r->needed[i] = strdup(name)))
    {
      r->n_needed++;
      fresh++;
    }
  }
  return fresh;
}

static int exchange(struct prelux_cli *cli, struct registration *r, int *ret_status)
{
  struct prelux_client_opts opts;
  prelux_cli_client(cli, true, &opts);
  for (int round = 0; round < NEED_ROUNDS; round++)
  {
    struct prelux_msg m;
    int ret = build_request(cli, r, &m);
    if (ret != 0)
      return ret;
    memset(buffers.reply, 0, sizeof(struct prelux_msg_header));
    *ret_status = prelux_client_call(&opts, &m, buffers.reply, sizeof buffers.reply, NULL);
    if (prelux_msg_check(buffers.reply, ((struct prelux_msg_header *)buffers.reply)->bytes) < 0)
      return say_unreachable(cli, *ret_status);
    if (note_needs(r, buffers.reply) == 0)
      return 0;
  }
  return 0;
}

static int find_config(struct prelux_cli *cli, struct registration *r)
{
  const struct prelux_conf_input in = {.file = cli->config, .cwd = cli->cwd, .env = cli->env};
  int ret = prelux_conf_find(&in, r->config, sizeof r->config);
  if (ret == -ENOENT)
  {
    prelux_cli_fail("no configuration: give --config FILE, set PRELUX_CONFIG, or write ~/.config/prelux/config.yaml "
                    "(`prelux config init` prints an example)");
    return PRELUX_EXIT_USAGE;
  }
  return ret < 0 ? prelux_cli_fail("configuration: %s", strerror(-ret)) : 0;
}

int prelux_cli_register(struct prelux_cli *cli)
{
  static struct registration r;
  int status = 0, ret = find_config(cli, &r);
  if (ret == 0)
    ret = exchange(cli, &r, &status);
  for (size_t i = 0; i < r.n_needed; i++)
    free(r.needed[i]);
  r.n_needed = 0;
  if (ret != 0)
    return ret;
  size_t pos = 0, len = 0;
  const void *hash = prelux_msg_next(buffers.reply, PRELUX_FIELD_TABLE, &pos, &len);
  const char *path = nth_text(buffers.reply, 0), *text = nth_text(buffers.reply, 1);
  if (text) /* with status 0: a broken edit, the last good configuration stays in use */
    fprintf(stderr, "%s\n", text);
  if (status < 0)
  {
    if (!text)
      prelux_cli_fail("%s: %s", r.config, reason(status, true));
    return status == -EINVAL || status == -ENOENT ? PRELUX_EXIT_USAGE : PRELUX_EXIT_FAILED;
  }
  if (!hash || len != sizeof cli->table || !path || strlen(path) >= sizeof cli->table_path)
    return prelux_cli_fail("the daemon's answer makes no sense (another version?)");
  memcpy(cli->table, hash, sizeof cli->table);
  strcpy(cli->table_path, path);
  return 0;
}

/* Text of a passed memfd, malloc'd; NULL: none. */
static char *read_text(int fd)
{
  struct stat st;
  if (fstat(fd, &st) < 0 || st.st_size <= 0)
    return NULL;
  char *text = malloc((size_t)st.st_size + 1);
  ssize_t got = 0, n = 1;
  while (text && got < st.st_size && n > 0)
    if ((n = pread(fd, text + got, (size_t)(st.st_size - got), got)) > 0)
      got += n;
  if (text)
    text[got] = 0;
  return text;
}

static int ctl(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret)
{
  struct prelux_client_opts opts;
  struct prelux_msg m;
  int fd = -1;
  prelux_cli_client(cli, call->start || call->table, &opts);
  opts.progress = call->progress ? prelux_progress_frame : NULL;
  opts.progress_arg = call->progress;
  prelux_msg_begin(&m, buffers.request, sizeof buffers.request, PRELUX_OP_CTL);
  prelux_msg_put_str(&m, PRELUX_FIELD_VERB, call->verb);
  if (call->table)
    prelux_msg_put(&m, PRELUX_FIELD_TABLE, cli->table, sizeof cli->table);
  for (int i = 0; i < call->n_args; i++)
    prelux_msg_put_str(&m, PRELUX_FIELD_ARG, call->args[i]);
  if (m.overflow)
    return -E2BIG;
  memset(buffers.reply, 0, sizeof(struct prelux_msg_header));
  int err = prelux_client_call(&opts, &m, buffers.reply, sizeof buffers.reply, &fd);
  if (fd >= 0)
  {
    free(cli->answer);
    cli->answer = read_text(fd);
    *ret = cli->answer ? cJSON_Parse(cli->answer) : NULL;
    close(fd);
  }
  return err == 0 && !*ret ? -EPROTO : err;
}

int prelux_cli_ask(struct prelux_cli *cli, const struct prelux_cli_call *call, cJSON **ret, int *ret_err)
{
  int err = PRELUX_STATUS_NO_TABLE, status = 0;
  *ret = NULL;
  if (call->table && cli->table_path[0])
    err = ctl(cli, call, ret);
  /* A daemon may die in the middle of a long verb, and the next one has to be told of the table again. */
  for (int round = 0; err == PRELUX_STATUS_NO_TABLE && round < NEED_ROUNDS; round++)
  {
    if (call->table && (status = prelux_cli_register(cli)) != 0)
    {
      if (ret_err)
        *ret_err = -EINVAL;
      return status;
    }
    err = ctl(cli, call, ret);
  }
  if (ret_err)
    *ret_err = err;
  if (err == 0)
    return 0;
  const char *text = prelux_msg_check(buffers.reply, ((struct prelux_msg_header *)buffers.reply)->bytes) == 0
                         ? prelux_msg_str(buffers.reply, PRELUX_FIELD_TEXT)
                         : NULL;
  snprintf(cli->cause, sizeof cli->cause, "%s", text ? text : reason(err, call->start || call->table));
  if (!call->quiet)
    prelux_cli_fail("%s", cli->cause);
  return PRELUX_EXIT_FAILED;
}

int prelux_cli_absolute(const struct prelux_cli *cli, const char *path, char *out, size_t cap)
{
  size_t scheme = strcspn(path, ":/");
  bool uri = scheme > 0 && path[scheme] == ':' && path[scheme + 1] == '/';
  if (!uri)
    scheme = 0;
  if (scheme + 1 >= cap)
    return -ENAMETOOLONG;
  memcpy(out, path, scheme + uri); /* "s3:" */
  long n = prelux_path_join(out + scheme + uri, cap - scheme - uri, uri ? NULL : cli->cwd, path + scheme + uri);
  return n < 0 ? (int)n : 0;
}

int prelux_cli_library(const struct prelux_cli *cli, char *out, size_t cap)
{
  static const char *const places[] = {"%s/libprelux.so", "%s/../lib/libprelux.so", "%s/../lib/prelux/libprelux.so"};
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
  {
    char path[PATH_MAX + 64], real[PATH_MAX];
    snprintf(path, sizeof path, places[i], cli->bin);
    if (realpath(path, real) && access(real, R_OK) == 0)
      return (size_t)snprintf(out, cap, "%s", real) < cap ? 0 : -ENAMETOOLONG;
  }
  return -ENOENT;
}

/* ld.so splits LD_PRELOAD at blanks and colons: such a path gets a link in the runtime folder. */
static int plain_path(const struct prelux_cli *cli, char *path, size_t cap)
{
  char link[PATH_MAX + 32], fresh[PATH_MAX + 64], old[PATH_MAX];
  if (!strpbrk(path, " \t\n:;$"))
    return 0;
  if (strpbrk(cli->runtime, " \t\n:;$"))
    return prelux_cli_fail("%s and %s both hold characters that LD_PRELOAD cannot carry; set PRELUX_RUNTIME_DIR", path, cli->runtime);
  int fd = prelux_runtime_open(cli->runtime);
  if (fd < 0)
    return prelux_cli_fail("%s: %s", cli->runtime, strerror(-fd));
  close(fd);
  snprintf(link, sizeof link, "%s/libprelux.so", cli->runtime);
  ssize_t n = readlink(link, old, sizeof old - 1);
  if (n > 0)
    old[n] = 0;
  if (n <= 0 || strcmp(old, path) != 0)
  {
    snprintf(fresh, sizeof fresh, "%s.%ld", link, (long)getpid());
    if (symlink(path, fresh) < 0 || rename(fresh, link) < 0)
      return prelux_cli_fail("%s: %s", link, strerror(errno));
  }
  return (size_t)snprintf(path, cap, "%s", link) < cap ? 0 : prelux_cli_fail("%s: too long", link);
}

/* What ld.so of this machine puts for $LIB: the folder that libc lies in. */
static int libc_folder(struct dl_phdr_info *info, size_t size, void *ret)
{
  const char *name = info->dlpi_name, *base = strrchr(name, '/');
  if (!base || *name != '/' || strcmp(base, "/libc.so.6") != 0)
    return 0;
  name += strncmp(name, "/usr/", 5) == 0 ? 5 : 1;
  if (name < base)
    snprintf(ret, PATH_MAX, "%.*s", (int)(base - name), name);
  return 1;
}

/* The same where our own libc came along (lib/base/own.h): the machine's is at its usual places. */
static void machines_folder(char *lib)
{
  static const char *const places[] = {"lib/x86_64-linux-gnu", "lib64", "lib"};
  char path[64];
  for (size_t i = 0; i < sizeof places / sizeof *places; i++)
  {
    snprintf(path, sizeof path, "/%s/libc.so.6", places[i]);
    if (access(path, F_OK) == 0)
    {
      strcpy(lib, places[i]);
      return;
    }
  }
}

/* Links, or in a wheel, which has none, copies. */
static bool same_file(const struct stat *a, const struct stat *b)
{
  return a->st_size == b->st_size && (a->st_dev != b->st_dev || a->st_ino == b->st_ino || a->st_nlink == 1);
}

/* DIR/$LIB/libprelux.so, by which 32-bit programs find a library of their own class, when that is this library for ours. */
static void by_class(const struct prelux_cli *cli, char *path, size_t cap)
{
  static const char *const places[] = {"%s/preload", "%s/../lib/prelux"};
  char lib[PATH_MAX] = "", dir[PATH_MAX + 64], real[PATH_MAX], file[2 * PATH_MAX + 32];
  struct stat ours, found;
  dl_iterate_phdr(libc_folder, lib);
  if (strlen(lib) > 3 && strcmp(lib + strlen(lib) - 3, "/rt") == 0)
    machines_folder(lib);
  for (size_t i = 0; *lib && i < sizeof places / sizeof *places; i++)
  {
    snprintf(dir, sizeof dir, places[i], cli->bin);
    if (!realpath(dir, real) || strpbrk(real, " \t\n:;$"))
      continue;
    snprintf(file, sizeof file, "%s/%s/libprelux.so", real, lib);
    if (stat(file, &found) < 0 || stat(path, &ours) < 0 || !same_file(&found, &ours))
      continue;
    if (strlen(real) + sizeof "/$LIB/libprelux.so" <= cap)
      sprintf(path, "%s/$LIB/libprelux.so", real);
    return;
  }
}

int prelux_cli_preload(const struct prelux_cli *cli, char *out, size_t cap)
{
  char path[PATH_MAX];
  if (prelux_cli_library(cli, path, sizeof path) < 0)
    return prelux_cli_fail("libprelux.so is neither in %s nor in %s/../lib", cli->bin, cli->bin);
  int ret = plain_path(cli, path, sizeof path);
  if (ret != 0)
    return ret;
  by_class(cli, path, sizeof path);
  const char *before = prelux_env_get(cli->env, "LD_PRELOAD");
  size_t n = strlen(path);
  bool keep = before && *before;
  if (keep && strncmp(before, path, n) == 0 && (before[n] == 0 || before[n] == ':' || before[n] == ' '))
    snprintf(out, cap, "%s", before);
  else if ((size_t)snprintf(out, cap, "%s%s%s", path, keep ? ":" : "", keep ? before : "") >= cap)
    return prelux_cli_fail("LD_PRELOAD is too long");
  return 0;
}
