/* preluxd: one per user and node, found by its runtime folder. It does not fork: who starts it (lib/ipc/spawn.c,
 * systemd, a shell) detaches it. It is ready when its socket accepts. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/daemon.h"
#include "daemon/files.h"
#include "daemon/metrics.h"
#include "daemon/node.h"
#include "daemon/place.h"
#include "daemon/prune.h"
#include "daemon/sandbox.h"
#include "daemon/server.h"
#include "include/prelux/version.h"
#include "lib/base/os.h"
#include "lib/base/own.h"
#include "lib/base/path.h"
#include "lib/index/writer.h"
#include "lib/ipc/runtime.h"
#include "lib/net/net.h"

#define NOFILE_MAX 65536u
#define FOREVER_S 1000000000u
#define INDEX_SLOTS (1u << 16)
#define INDEX_MAX_SLOTS (1u << 23)

struct options {
  bool foreground;
  const char *runtime, *log, *level, *node;
  unsigned idle_s;
};

static const char usage[] =
    "usage: preluxd [--foreground] [--runtime DIR] [--idle SECONDS] [--log FILE] [--log-level LEVEL] [--node FILE]\n"
    "       preluxd --version | --help\n"
    "\n"
    "  --foreground        keep stdin, stdout and stderr; log to stderr unless --log is given\n"
    "  --runtime DIR       runtime folder (else PRELUX_RUNTIME_DIR, $XDG_RUNTIME_DIR/prelux, /tmp/prelux-UID)\n"
    "  --idle SECONDS      end after so long without clients (default: idle_exit of the configurations, 600)\n"
    "  --log FILE          log here (default: RUNTIME/log)\n"
    "  --log-level LEVEL   error, warn, info or debug (default: PRELUX_LOG, info)\n"
    "  --node FILE         serve several users, as `readers` and `writers` of the mappings in FILE say;\n"
    "                      programs need PRELUX_RUNTIME_DIR=DIR and PRELUX_CONFIG=DIR/table\n";

/* Exit status to end with, or -1 to go on. */
static int parse(int argc, char **argv, struct options *o)
{
  static const struct option longs[] = {
      {"foreground", no_argument, NULL, 'f'},
      {"runtime", required_argument, NULL, 'r'},
      {"idle", required_argument, NULL, 'i'},
      {"log", required_argument, NULL, 'l'},
      {"log-level", required_argument, NULL, 'L'},
      {"node", required_argument, NULL, 'n'},
      {"version", no_argument, NULL, 'v'},
      {"help", no_argument, NULL, 'h'},
      {NULL, 0, NULL, 0},
  };
  char *end;
  long idle;
  for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;)
    switch (c)
    {
    case 'f':
      o->foreground = true;
      break;
    case 'r':
      o->runtime = optarg;
      break;
    case 'i':
      idle = strtol(optarg, &end, 10);
      if (*end || end == optarg || idle < 1 || idle > 1000000000)
      {
        fprintf(stderr, "preluxd: --idle wants seconds, not \"%s\"\n", optarg);
        return 2;
      }
      o->idle_s = (unsigned)idle;
      break;
    case 'l':
      o->log = optarg;
      break;
    case 'L':
      o->level = optarg;
      break;
    case 'n':
      o->node = optarg;
      break;
    case 'v':
      puts("preluxd " PRELUX_VERSION);
      return 0;
    case 'h':
      fputs(usage, stdout);
      return 0;
    default:
      fputs(usage, stderr);
      return 2;
    }
  if (optind < argc || (o->level && prelux_log_parse_level(o->level) < 0))
  {
    fprintf(stderr, "preluxd: %s \"%s\"\n", optind < argc ? "unexpected argument" : "no such level:",
            optind < argc ? argv[optind] : o->level);
    return 2;
  }
  return -1;
}

/* 0 to 2 must not become sockets or databases: a library that prints would write into them. */
static void fill_std_fds(void)
{
  int fd;
  do
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  while (fd >= 0 && fd <= 2);
  if (fd > 2)
    close(fd);
}

static void detach(void)
{
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = 0; fd >= 0 && i <= 2; i++)
    dup2(fd, i);
  if (fd > 2)
    close(fd);
  setsid(); /* fails for a group leader, which has been detached by who started it */
}

/* Started from a program that runs under the library: the daemon itself must see the real files. */
static void leave_preload(char **argv)
{
  char path[PATH_MAX];
  const char *preload = getenv("LD_PRELOAD");
  if (!preload || !strstr(preload, "libprelux"))
    return;
  unsetenv("LD_PRELOAD");
  if (prelux_own_path(path, sizeof path, "preluxd") > 0)
    execv(path, argv);
  execv("/proc/self/exe", argv); /* replaced since */
}

static void set_up_process(void)
{
  struct rlimit lim;
  sigset_t set;
  prctl(PR_SET_NAME, "preluxd"); /* where a loader of our own was started, it is named after that */
  umask(077);
  if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < NOFILE_MAX)
  {
    lim.rlim_cur = lim.rlim_max < NOFILE_MAX ? lim.rlim_max : NOFILE_MAX;
    setrlimit(RLIMIT_NOFILE, &lim);
  }
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* a file too large is EFBIG for one request, not the end of all */
  /* Read by the loop from a signalfd; blocked before the first thread is made. */
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigprocmask(SIG_BLOCK, &set, NULL);
}

static char *absolute(const char *path)
{
  char cwd[PATH_MAX], out[PATH_MAX];
  if (path[0] != '/' && !getcwd(cwd, sizeof cwd))
    return NULL;
  return prelux_path_join(out, sizeof out, path[0] == '/' ? NULL : cwd, path) < 0 ? NULL : strdup(out);
}

static char *own_path(void)
{
  char path[PATH_MAX];
  return strdup(prelux_own_path(path, sizeof path, "preluxd") < 0 ? "" : path);
}

static int find_runtime(struct prelux_daemon *d, const struct options *o)
{
  char path[PATH_MAX];
  if (!o->runtime && prelux_runtime_path(path, sizeof path, environ) < 0)
    return -ENAMETOOLONG;
  d->runtime = absolute(o->runtime ? o->runtime : path);
  d->tables_dir = d->runtime ? prelux_join(d->runtime, "tables") : NULL;
  if (!d->tables_dir)
    return -ENOENT;
  d->runtime_fd = o->node ? prelux_node_runtime(d->runtime) : prelux_runtime_open(d->runtime);
  return d->runtime_fd < 0 ? d->runtime_fd : 0;
}

static int open_log(struct prelux_daemon *d, const struct options *o)
{
  const char *level = o->level ? o->level : getenv("PRELUX_LOG");
  int parsed = level ? prelux_log_parse_level(level) : -EINVAL;
  char *file = o->log ? absolute(o->log) : o->foreground ? NULL : prelux_join(d->runtime, "log");
  int ret = prelux_logfile_init(&d->log, file, parsed < 0 ? PRELUX_LOG_INFO : (enum prelux_log_level)parsed);
  d->log.pinned = o->log || o->foreground;
  d->log.level_pinned = parsed >= 0;
  free(file);
  return ret;
}

/* What serves requests, in the order of struct prelux_daemon. */
static int build(struct prelux_daemon *d)
{
  int ret = prelux_bound_key(d->runtime, d->key);
  if (ret == 0 && prelux_os.mkdirat(d->runtime_fd, "tables", 0700) < 0 && errno != EEXIST)
    ret = -errno;
  prelux_prune_tables(d->tables_dir, PRELUX_TABLE_FILES_MAX);
  if (ret == 0)
    ret = prelux_index_writer_create(d->runtime, INDEX_SLOTS, INDEX_MAX_SLOTS, &d->index);
  if (ret == 0)
    ret = prelux_net_create(&d->net);
  if (ret == 0)
    ret = prelux_origins_create(d->net, NULL, &d->origins);
  if (ret == 0)
    ret = prelux_stores_create(d->index, &d->stores);
  if (ret == 0)
    ret = prelux_tables_create(&d->tables);
  if (ret == 0)
    ret = prelux_ahead_create(&d->ahead);
  return ret;
}

static void ending(struct prelux_store *store, void *arg)
{
  prelux_store_ending(store);
}

static void take_down(struct prelux_daemon *d)
{
  prelux_metrics_end();
  if (d->stores)
    prelux_stores_each(d->stores, ending, NULL);
  prelux_ahead_stop(d->ahead);
  prelux_pool_free(d->pool);
  if (d->server) /* closes RUNTIME/lock: a successor may start from here on, and waits for daemon.lock */
    prelux_server_free(d->server);
  prelux_ahead_free(d->ahead);
  prelux_tables_free(d->tables);
  prelux_stores_free(d->stores);
  prelux_origins_free(d->origins);
  prelux_net_free(d->net);
  prelux_index_writer_free(d->index);
  prelux_node_end(d);
}

/* Who comes meanwhile waits in the backlog. */
static int begin_node(struct prelux_daemon *d, const char *file)
{
  struct prelux_problem why = {0};
  int ret = file ? prelux_node_begin(d, file, &why) : 0;
  if (ret == 0)
    return 0;
  fprintf(stderr, "preluxd: %s\n", why.text);
  prelux_error("%s", why.text);
  return ret;
}

/* inherited: the socket of a service manager, d->activated. */
static int serve(struct prelux_daemon *d, int inherited, const char *node)
{
  prelux_place_write_pid(d->runtime); /* before the socket: who can connect can read it */
  int listener = d->activated ? inherited : prelux_place_listen(d->runtime_fd, node != NULL);
  if (listener < 0)
    return listener;
  int ret = prelux_server_create(d, listener, &d->server);
  if (ret == 0)
    ret = begin_node(d, node);
  if (ret < 0)
    return ret;
  prelux_info("preluxd " PRELUX_VERSION " serves %s, pid %ld", d->runtime, (long)getpid());
  if (!prelux_server_run(d->server))
  {
    prelux_warn("ending with work under way");
    _exit(0);
  }
  prelux_info("ended");
  return 0;
}

static int fail(const char *what, const char *where, int err)
{
  fprintf(stderr, "preluxd: %s %s: %s\n", what, where ? where : "", strerror(-err));
  prelux_error("%s %s: %s", what, where ? where : "", strerror(-err));
  return 1;
}

/* Exit status. */
static int run(struct prelux_daemon *d, const struct options *o)
{
  int ret = find_runtime(d, o);
  if (ret < 0)
    return fail("runtime folder", d->runtime, ret);
  int inherited = prelux_place_inherit(d->runtime_fd, getenv("LISTEN_PID"), getenv("LISTEN_FDS"));
  if (inherited < 0 && inherited != -ENOENT)
    return fail("LISTEN_FDS: not one listening SOCK_SEQPACKET socket by the name of sock in", d->runtime, inherited);
  d->activated = inherited >= 0;
  d->lock_fd = prelux_place_lock(d->runtime_fd, d->activated);
  if (d->lock_fd == -EBUSY)
    return 0; /* another one serves */
  if (d->lock_fd < 0)
    return fail("daemon.lock in", d->runtime, d->lock_fd);
  d->exe = own_path();
  if ((ret = open_log(d, o)) < 0)
    return fail("log", o->log ? o->log : d->runtime, ret);
  char *node = o->node ? absolute(o->node) : NULL;
  if (node && !d->idle_s && !d->activated) /* nobody of those whom it serves could start it again */
    d->idle_s = FOREVER_S;
  if (!o->foreground)
    detach();
  if (chdir("/") < 0)
    prelux_warn("working directory stays: %s", strerror(errno));
  prelux_sandbox();
  ret = build(d);
  if (ret == 0)
    ret = serve(d, inherited, node);
  int status = ret < 0 ? fail("cannot serve", d->runtime, ret) : 0;
  free(node);
  take_down(d);
  prelux_logfile_release(&d->log);
  return status;
}

int main(int argc, char **argv)
{
  struct options o = {0};
  struct prelux_daemon d = {.runtime_fd = -1, .lock_fd = -1, .started_ms = prelux_clock_ms()};
  fill_std_fds();
  leave_preload(argv);
  int status = parse(argc, argv, &o);
  if (status >= 0)
    return status;
  set_up_process();
  d.idle_s = o.idle_s;
  pthread_mutex_init(&d.compiling, NULL);
  status = run(&d, &o);
  pthread_mutex_destroy(&d.compiling);
  if (d.runtime_fd >= 0)
    prelux_os.close(d.runtime_fd);
  free(d.runtime);
  free(d.tables_dir);
  free(d.exe);
  return status; /* daemon.lock goes with the process */
}
