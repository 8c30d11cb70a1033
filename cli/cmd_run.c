/* prelux run: compile the configuration, start the program with the library in it, stay its parent until it ends.
 *
 * Signals. All that are forwarded are blocked here and taken one by one with sigwaitinfo(), so there is no handler and no
 * race between "child ended" and "signal came". What the kernel sends by itself (ctrl-C, a window's new size: SI_KERNEL)
 * goes to the whole foreground process group, the program included: only what a process sent to us alone is passed on.
 *
 * A program below a mapping exists for processes with the library only: then the child executes this very program with the
 * library loaded (--exec-inside), which executes the other. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/base/path.h"
#include "lib/ipc/runtime.h"
#include "lib/map/match.h"

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

static bool is_mapped(const struct prelux_cli *cli, const struct prelux_table *t, const char *path)
{
  char full[PATH_MAX];
  struct prelux_match match;
  if (prelux_cli_absolute(cli, path, full, sizeof full) < 0)
    return false;
  prelux_table_match(t, full, full[0] != '/', &match);
  return match.kind == PRELUX_MATCH_MAPPED;
}

/* Must the program be looked up by a process that has the library? True when its path, or a folder of PATH in which a
 * plain name is sought, is mapped. What is missed here (links into a mapping, interpreters) fails with ENOENT at the
 * plain exec and is tried inside then. */
static bool needs_inside(const struct prelux_cli *cli, const char *name)
{
  const struct prelux_table *t = NULL;
  struct stat st;
  bool ret = true;
  int fd = open(cli->table_path, O_RDONLY | O_CLOEXEC);
  if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0)
    t = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (fd >= 0)
    close(fd);
  if (!t || t == MAP_FAILED || prelux_table_check(t, (size_t)st.st_size) < 0)
    return true;
  if (strchr(name, '/'))
    ret = is_mapped(cli, t, name);
  else
  {
    char *path = strdup(getenv("PATH") ? getenv("PATH") : ""), *rest = path;
    ret = false;
    for (char *dir; !ret && rest && (dir = strsep(&rest, ":"));)
      ret = is_mapped(cli, t, *dir ? dir : ".");
    free(path);
  }
  munmap((void *)t, (size_t)st.st_size);
  return ret;
}

static int exec_status(const char *name, int err)
{
  prelux_cli_fail("%s: %s", name, strerror(err));
  return err == ENOENT || err == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
}

int prelux_cmd_exec_inside(char **argv)
{
#ifdef __SANITIZE_ADDRESS__
  /* Was added for this process only. */
  const char *options = getenv("PRELUX_TEST_ASAN_OPTIONS");
  if (options)
    setenv("ASAN_OPTIONS", options, 1);
  unsetenv("PRELUX_TEST_ASAN_OPTIONS");
#endif
  execvp(argv[0], argv);
  return exec_status(argv[0], errno);
}

static void exec_inside(const struct prelux_cli *cli)
{
  char **argv = calloc((size_t)cli->n_args + 3, sizeof *argv);
  if (!argv)
    return;
  argv[0] = "prelux";
  argv[1] = "--exec-inside";
  memcpy(argv + 2, cli->args, (size_t)cli->n_args * sizeof *argv);
#ifdef __SANITIZE_ADDRESS__
  /* A sanitized program refuses to start behind a preloaded library. */
  char options[1024];
  const char *old = getenv("ASAN_OPTIONS");
  snprintf(options, sizeof options, "%s:verify_asan_link_order=0", old ? old : "");
  setenv("PRELUX_TEST_ASAN_OPTIONS", old ? old : "", 1);
  setenv("ASAN_OPTIONS", options, 1);
#endif
  execv("/proc/self/exe", argv);
}

/* In the child. */
static void become_program(const struct prelux_cli *cli, const sigset_t *mask, bool inside)
{
  sigprocmask(SIG_SETMASK, mask, NULL);
  if (!inside)
    execvp(cli->args[0], cli->args);
  int err = errno;
  /* EACCES: also what execvp says after a folder of PATH that may not be searched. */
  if (inside || err == ENOENT || err == ENOTDIR || err == EACCES)
    exec_inside(cli);
  _exit(exec_status(cli->args[0], err));
}

static int status_of(int status)
{
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Reaps what has ended; the program's status, or -1 while it runs. As process 1 every orphan is ours. */
static int reap(pid_t child)
{
  int status, ret = -1;
  for (pid_t pid; (pid = waitpid(getpid() == 1 ? -1 : child, &status, WNOHANG)) > 0;)
    if (pid == child)
      ret = status_of(status);
  return ret;
}

static int attend(pid_t child, const sigset_t *set)
{
  for (;;)
  {
    siginfo_t info;
    int status = reap(child);
    if (status >= 0)
      return status;
    int sig = sigwaitinfo(set, &info);
    if (sig > 0 && sig != SIGCHLD && info.si_code <= 0)
      kill(child, sig);
  }
}

static int start(const struct prelux_cli *cli)
{
  sigset_t set, before;
  struct sigaction usual = {.sa_handler = SIG_DFL}, old;
  bool inside = needs_inside(cli, cli->args[0]);
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
    become_program(cli, &before, inside);
  }
  return attend(child, &set);
}

int prelux_cmd_run(struct prelux_cli *cli)
{
  char preload[PATH_MAX * 2];
  int ret = prelux_cli_register(cli);
  if (ret == 0)
    ret = prelux_cli_preload(cli, preload, sizeof preload);
  if (ret != 0)
    return ret;
  if (setenv("LD_PRELOAD", preload, 1) < 0 || setenv("PRELUX_CONFIG", cli->table_path, 1) < 0)
    return prelux_cli_fail("environment: %s", strerror(errno));
  int session = open_session(cli);
  ret = start(cli);
  if (session >= 0)
    close(session);
  return ret;
}
