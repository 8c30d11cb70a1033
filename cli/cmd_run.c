/* prelux run: compile the configuration, start the program with the library in it, stay its parent until it ends.
 *
 * Signals. All that are forwarded are blocked here and taken one by one with sigwaitinfo(), so there is no handler and no
 * race between "child ended" and "signal came". What the kernel sends by itself (ctrl-C, a window's new size: SI_KERNEL)
 * goes to the whole foreground process group, the program included: only what a process sent to us alone is passed on.
 *
 * A program below a mapping exists for processes with the library only, and so do links to it, interpreters and folders of
 * PATH; some programs want more than LD_PRELOAD (shared libasan). All of that the library's own exec knows. Therefore the
 * child executes this very program again, with the library loaded (--exec-inside), which executes the other.
 *
 * At the end, where the configuration can be written to, what was begun since the start is waited for; a SIGTERM, before or meanwhile, gives
 * that as long as `grace`. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/insight.h"
#include "cli/uploads.h"
#include "deep/deep.h"
#include "include/prelux/ctl.h"
#include "lib/base/own.h"
#include "lib/map/prefixes.h"

#define STATUS_NOT_EXECUTABLE 126
#define STATUS_NOT_FOUND 127

static const int forwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGALRM};

/* The daemon serves our table as long as this socket is open. -1: it is gone; programs start it again when they need it. */
static int open_session(struct prelux_cli *cli)
{
  static unsigned char bytes[256] __attribute__((aligned(8)));
  struct prelux_client_opts opts;
  struct prelux_msg m;
  prelux_cli_client(cli, true, &opts);
  prelux_msg_begin(&m, bytes, sizeof bytes, PRELUX_OP_SESSION);
  prelux_msg_put(&m, PRELUX_FIELD_TABLE, cli->table, sizeof cli->table);
  int fd = prelux_client_connect(&opts);
  if (fd >= 0 && write(fd, m.buf, m.len) != (ssize_t)m.len)
  {
    close(fd);
    fd = -1;
  }
  return fd;
}

static int exec_status(const char *name, int err)
{
  prelux_cli_fail("%s: %s", name, strerror(err));
  return err == ENOENT || err == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

/* Was added for this process only. */
static void restore_options(void)
{
#ifdef __SANITIZE_ADDRESS__
  const char *options = getenv("PRELUX_TEST_ASAN_OPTIONS");
  if (options)
    setenv("ASAN_OPTIONS", options, 1);
  unsetenv("PRELUX_TEST_ASAN_OPTIONS");
#endif
}

int prelux_cmd_exec_inside(char **argv)
{
  restore_options();
  execvp(argv[0], argv);
  return exec_status(argv[0], errno);
}

/* In the child. */
static void become_program(const void *arg, const sigset_t *mask)
{
  const struct prelux_cli *cli = arg;
  char **argv = calloc((size_t)cli->n_args + 3, sizeof *argv);
  sigprocmask(SIG_SETMASK, mask, NULL);
  if (!argv)
    _exit(exec_status(cli->args[0], ENOMEM));
  argv[0] = "prelux";
  argv[1] = prelux_cli_option(cli, "deep") && getenv(PRELUX_DEEP_ENV) ? "--deep-inside" : "--exec-inside";
  memcpy(argv + 2, cli->args, (size_t)cli->n_args * sizeof *argv);
#ifdef __SANITIZE_ADDRESS__
  /* A sanitized program refuses to start behind a preloaded library. */
  char options[1024];
  const char *old = getenv("ASAN_OPTIONS");
  snprintf(options, sizeof options, "%s:verify_asan_link_order=0", old ? old : "");
  setenv("PRELUX_TEST_ASAN_OPTIONS", old ? old : "", 1);
  setenv("ASAN_OPTIONS", options, 1);
#endif
  char exe[PATH_MAX];
  ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[n < 0 ? 0 : n] = 0;
  execv(prelux_own_bundled(exe, sizeof exe, "prelux") ? exe : "/proc/self/exe", argv);
  _exit(exec_status(cli->args[0], errno));
}

static int status_of(int status)
{
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static mode_t before_umask;
static bool adopts; /* orphans are ours */

/* Reaps what has ended; the program's status, or -1 while it runs. As process 1 every orphan is ours. */
static int reap(pid_t child)
{
  int status, ret = -1;
  idtype_t who = getpid() == 1 || adopts ? P_ALL : P_PID;
  siginfo_t info = {.si_pid = 0};
  /* Looked at first: that a program is stopped by a thread of --deep is for that one. */
  while (waitid(who, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) == 0 && info.si_pid && info.si_code != CLD_TRAPPED)
  {
    if (waitpid(info.si_pid, &status, 0) == child)
      ret = status_of(status);
    info.si_pid = 0;
  }
  if (ret < 0 && prelux_deep_ended(child, &status))
    ret = status_of(status);
  return ret;
}

/* *ret_told: CLOCK_REALTIME of the first SIGTERM, 0: none. */
static int attend(pid_t child, const sigset_t *set, struct prelux_insight *insight, int64_t *ret_told)
{
  for (;;)
  {
    siginfo_t info;
    int status = reap(child);
    if (status >= 0)
      return status;
    struct timespec pause;
    if (insight)
      pause = prelux_insight_look(insight, child);
    int sig = insight ? sigtimedwait(set, &info, &pause) : sigwaitinfo(set, &info);
    if (sig == SIGTERM && !*ret_told)
      *ret_told = prelux_cli_wall();
    if (sig > 0 && sig != SIGCHLD && info.si_code <= 0)
      kill(child, sig);
  }
}

static int start(void (*become)(const void *arg, const sigset_t *mask), const void *arg, struct prelux_insight *insight, sigset_t *ret_set, int64_t *ret_told)
{
  sigset_t set, before;
  struct sigaction usual = {.sa_handler = SIG_DFL}, old;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  for (size_t i = 0; i < sizeof forwarded / sizeof *forwarded; i++)
    sigaddset(&set, forwarded[i]);
  sigprocmask(SIG_BLOCK, &set, &before);
  /* Ignored SIGCHLD (inherited) would take the status from us; the program inherits what we got. */
  sigaction(SIGCHLD, &usual, &old);
  pid_t child = fork();
  if (child < 0)
    return prelux_cli_fail("fork: %s", strerror(errno));
  if (child == 0)
  {
    if (old.sa_handler == SIG_IGN)
      sigaction(SIGCHLD, &old, NULL);
    become(arg, &before);
  }
  *ret_set = set;
  return attend(child, &set, insight, ret_told);
}

/* ---- --deep: the program's parent is its supervisor */

static struct rlimit before_files;

static void become_supervised(const void *arg, const sigset_t *mask)
{
  char *const *argv = arg;
  sigprocmask(SIG_SETMASK, mask, NULL);
  umask(before_umask);
  setrlimit(RLIMIT_NOFILE, &before_files);
  execvp(argv[0], argv);
  _exit(exec_status(argv[0], errno));
}

/* Each supervised program that another one has started takes a descriptor here. */
static void want_files(void)
{
  struct rlimit all;
  if (getrlimit(RLIMIT_NOFILE, &before_files) < 0)
    return;
  all = before_files;
  all.rlim_cur = all.rlim_max;
  setrlimit(RLIMIT_NOFILE, &all);
}

static bool has_children(void)
{
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* The program has ended: what it has left in the background is waited for, also what is just about to be supervised. Who tells this process to
 * end is obeyed. */
static void attend_background(const sigset_t *set)
{
  enum { NAP_MS = 20, COMING_MS = 500 };
  const struct timespec nap = {.tv_nsec = NAP_MS * 1000000};
  for (int ms = 0; prelux_deep_count() > 0 || (ms < COMING_MS && has_children()); ms += NAP_MS)
  {
    int sig = sigtimedwait(set, NULL, &nap);
    if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP || sig == SIGQUIT)
    {
      prelux_deep_finish();
      prelux_cli_fail("--deep: ended by a signal: programs in the background have no more files by name");
      return;
    }
    reap(-1);
  }
}

int prelux_cmd_deep_inside(char **argv)
{
  sigset_t signals;
  int64_t told = 0;
  restore_options();
  /* Where only a parent's parents may look into a process (Yama), orphans have to have one here; and it is seen that there are some. */
  adopts = prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0;
  before_umask = umask(0);
  want_files();
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before); /* threads take none */
  int rc = prelux_deep_begin(getenv(PRELUX_DEEP_ENV));
  sigprocmask(SIG_SETMASK, &before, NULL);
  if (rc < 0)
    return prelux_cli_fail("--deep: %s", strerror(-rc));
  int status = start(become_supervised, argv, NULL, &signals, &told);
  attend_background(&signals);
  return status;
}

/* Puts PRELUX_DEEP into the environment, or says why not. */
static void go_deep(const struct prelux_cli *cli)
{
  char value[PATH_MAX + 32];
  const char *what;
  uint32_t id;
  int rc = prelux_deep_possible(&what);
  unsetenv(PRELUX_DEEP_ENV);
  if (rc == 0 && getrandom(&id, sizeof id, 0) == sizeof id)
  {
    bool all = strcmp(prelux_cli_option(cli, "deep"), "all") == 0;
    snprintf(value, sizeof value, "%x:%s%s/prelux", (id & INT32_MAX) | 1, all ? PRELUX_DEEP_ALL : "", cli->bin);
    setenv(PRELUX_DEEP_ENV, value, 1);
    return;
  }
  if (rc == -EBUSY)
    what = "another supervisor has the system calls of this process";
  prelux_cli_fail("--deep is not possible here (%s%s%s): programs that the library does not get into see no mapping", what, rc == -EBUSY ? "" : ": ",
                  rc == -EBUSY ? "" : strerror(-rc));
}

/* Uploads of this run, as far as can be told: begun since its start, below its configuration's mappings. */
struct run {
  struct prelux_uploads uploads;
  bool writes;
  double failed; /* tries that had failed before */
  int64_t told;
};

static double failed_tries(struct prelux_cli *cli, const struct prelux_uploads *u)
{
  cJSON *o = NULL;
  double n = prelux_cli_ask_uploads(cli, u, PRELUX_CTL_PENDING, 0, &o) == 0 ? prelux_json_num(o, "failed_tries", 0) : 0;
  cJSON_Delete(o);
  return n;
}

/* The program has ended with `status`; the exit status of the run. */
static int wait_for_uploads(struct prelux_cli *cli, struct run *r, int status)
{
  bool strict = prelux_cli_option(cli, "strict") != NULL, missing;
  cJSON *o = NULL;
  r->uploads.told_ns = r->told;
  if (prelux_cli_option(cli, "no-wait") || prelux_cli_wait_uploads(cli, &r->uploads, &o) != 0)
  {
    if (!prelux_cli_option(cli, "no-wait") && status == 0)
      status = PRELUX_EXIT_DEGRADED;
    cJSON_Delete(o);
    return status;
  }
  missing = prelux_json_num(o, "count", 0) - prelux_json_num(o, "open", 0) > 0;
  if (missing)
    prelux_cli_list_uploads(o);
  double failed = prelux_json_num(o, "failed_tries", 0);
  if (strict && !missing && failed > (failed < r->failed ? 0 : r->failed))
  {
    prelux_cli_fail("some uploads failed (--strict): see `prelux errors`");
    missing = true;
  }
  cJSON_Delete(o);
  return missing && status == 0 ? PRELUX_EXIT_DEGRADED : status;
}

int prelux_cmd_run(struct prelux_cli *cli)
{
  struct prelux_guest g;
  struct prelux_insight *insight = NULL;
  const char *which = prelux_cli_option(cli, "deep");
  if (which && *which && strcmp(which, "all") != 0)
    return prelux_cli_usage(cli, "--deep takes all, not %s", which);
  int ret = prelux_cli_guest(cli, &g);
  if (ret != 0)
    return ret;
  sigset_t signals;
  struct run r = {.writes = g.writes, .uploads = {.table = true, .quiet = true, .progress = true, .signals = &signals}};
  if (setenv("LD_PRELOAD", g.preload, 1) < 0 || setenv("PRELUX_CONFIG", cli->table_path, 1) < 0 ||
      setenv(PRELUX_PREFIXES_ENV, g.prefixes, 1) < 0)
    ret = prelux_cli_fail("environment: %s", strerror(errno));
  free(g.prefixes);
  if (ret == 0)
    ret = prelux_insight_begin(cli, &insight);
  if (ret != 0)
    return ret;
  if (which)
    go_deep(cli);
  int session = open_session(cli);
  if (r.writes && prelux_cli_option(cli, "strict"))
    r.failed = failed_tries(cli, &r.uploads);
  r.uploads.after = prelux_cli_wall();
  ret = start(become_program, cli, insight, &signals, &r.told);
  if (insight)
    prelux_insight_ended(insight, ret);
  if (r.writes)
    ret = wait_for_uploads(cli, &r, ret);
  if (insight)
    prelux_insight_end(insight);
  if (session >= 0)
    close(session);
  return ret;
}
