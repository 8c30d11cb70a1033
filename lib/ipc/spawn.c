/* Starting preluxd from any process, without a race and without a trace in that process.
 *
 * Callers meet at RUNTIME/lock. Each tries to connect, then to take the lock; who has it starts the daemon and keeps the
 * lock until the daemon listens. The lock is polled, not waited for, so that a stopped holder costs a time-out, not a hang.
 *
 * The daemon is a grandchild: clone with exit signal 0, so that neither SIGCHLD nor the program's wait() ever sees the
 * child; it clones again and leaves. Between clone and exec there are raw system calls only: the other threads of this
 * process (and the locks they held) do not exist there. A pipe whose write end the daemon inherits and never touches tells
 * that exec failed (an errno comes) or that the daemon is gone (the end comes): nobody waits for one that died at birth. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/base/sys.h"
#include "lib/ipc/client.h"
#include "lib/ipc/runtime.h"

#define ENV_MAX 64
#define START_MS 15000
#define LAUNCHES 3 /* of a daemon that ends before it listens */

/* What the daemon inherits. Credentials are not here: they come with REGISTER, bound to a table. */
static const char kept[][20] = {"HOME=",       "PATH=",        "TZ=",          "XDG_CACHE_HOME=", "LANG=",         "LC_ALL=",
                                   "PRELUX_LOG=", "http_proxy=",  "https_proxy=", "HTTPS_PROXY=",    "NO_PROXY=",     "no_proxy=",
                                   "all_proxy=",  "SSL_CERT_",    "ALL_PROXY=",   "ASAN_OPTIONS=",   "UBSAN_OPTIONS=", "TSAN_OPTIONS=",
                                   "LSAN_OPTIONS=", "PRELUX_TEST_"};

static void sleep_ms(long ms)
{
  struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
  prelux_sys(SYS_nanosleep, &ts, NULL);
}

static void reset_signals(void)
{
  uint64_t action[4] = {0, 0, 0, 0}, mask = 0; /* the kernel's struct sigaction: SIG_DFL, no flags */
  for (int sig = 1; sig <= 64; sig++)
    if (sig != SIGKILL && sig != SIGSTOP)
      prelux_sys(SYS_rt_sigaction, sig, action, NULL, 8);
  prelux_sys(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8);
}

/* 0, 1, 2 are /dev/null; `keep` stays; all else is closed. Returns keep's new number. */
static int reset_fds(int keep)
{
  if (keep < 3)
    keep = (int)prelux_sys(SYS_fcntl, keep, F_DUPFD_CLOEXEC, 3);
  prelux_sys(SYS_dup3, keep, 3, O_CLOEXEC);
  if (keep != 3)
    keep = 3;
  if (prelux_sys(SYS_close_range, 4, ~0u, 0) < 0)
    for (int fd = 4; fd < 65536; fd++)
      prelux_sys(SYS_close, fd);
  for (int fd = 0; fd < 3; fd++)
    prelux_sys(SYS_close, fd);
  for (int fd = 0; fd < 3; fd++)
    prelux_sys(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
  return keep;
}

static void reset_limits(void)
{
  struct rlimit lim;
  static const int which[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_FSIZE, RLIMIT_CPU};
  for (size_t i = 0; i < sizeof which / sizeof *which; i++)
    if (prelux_sys(SYS_prlimit64, 0, which[i], NULL, &lim) == 0)
    {
      lim.rlim_cur = lim.rlim_max;
      if (which[i] == RLIMIT_STACK && lim.rlim_cur == RLIM_INFINITY)
        lim.rlim_cur = 8 << 20;
      prelux_sys(SYS_prlimit64, 0, which[i], &lim, NULL);
    }
}

/* In the child: never returns. */
static void become_daemon(const struct prelux_client_opts *opts, int report)
{
  char *env[ENV_MAX + 1];
  const char *argv[] = {opts->daemon, "--runtime", opts->runtime, NULL};
  size_t n = 0;
  for (size_t i = 0; opts->envp && opts->envp[i] && n < ENV_MAX; i++)
    for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
      if (strncmp(opts->envp[i], kept[k], strlen(kept[k])) == 0)
      {
        env[n++] = opts->envp[i];
        break;
      }
  env[n] = NULL;
  prelux_sys(SYS_setsid);
  reset_signals();
  report = reset_fds(report);
  reset_limits();
  prelux_sys(SYS_umask, 077);
  prelux_sys(SYS_chdir, "/");
  long pid = prelux_sys(SYS_clone, 0, 0, 0, 0, 0);
  if (pid == 0)
  {
    prelux_sys(SYS_fcntl, report, F_SETFD, 0);
    long ret = prelux_sys(SYS_execve, opts->daemon, argv, env);
    prelux_sys(SYS_write, report, &ret, sizeof ret);
  }
  prelux_sys(SYS_exit_group, pid < 0 ? 1 : 0);
}

/* *ret_life: the read end of the daemon's pipe. */
static int launch(const struct prelux_client_opts *opts, int *ret_life)
{
  int pipe[2], status;
  long ret = prelux_sys(SYS_pipe2, pipe, O_CLOEXEC | O_NONBLOCK);
  if (ret < 0)
    return (int)ret;
  long pid = prelux_sys(SYS_clone, 0, 0, 0, 0, 0);
  if (pid == 0)
    become_daemon(opts, pipe[1]);
  prelux_sys(SYS_close, pipe[1]);
  if (pid < 0)
  {
    prelux_sys(SYS_close, pipe[0]);
    return (int)pid;
  }
  do
    ret = prelux_sys(SYS_wait4, pid, &status, __WALL, NULL);
  while (ret == -EINTR);
  *ret_life = pipe[0];
  return 0;
}

/* 0 while the daemon that was launched lives (life < 0: none was); -ECHILD when it ended; the -errno of its exec. */
static int is_gone(int life)
{
  long failed = 0, ret = life < 0 ? -EAGAIN : prelux_sys(SYS_read, life, &failed, sizeof failed);
  if (ret == (long)sizeof failed)
    return (int)failed;
  return ret == 0 ? -ECHILD : 0;
}

static int listening(const struct prelux_client_opts *opts)
{
  struct prelux_client_opts only = *opts;
  only.daemon = NULL;
  int fd = prelux_client_connect(&only);
  if (fd < 0)
    return fd;
  prelux_sys(SYS_close, fd);
  return 0;
}

/* Waits until somebody listens, or until START_MS are over. Without the lock (life < 0) tries to get it; with it, gives up
 * when the daemon that was launched is gone. */
static int meet(const struct prelux_client_opts *opts, int lock, int life, int *ret_locked)
{
  long waited = 0, nap = 1;
  for (;;)
  {
    int gone = is_gone(life), ret = listening(opts);
    if (ret == 0 || ret == -EMFILE || ret == -ENFILE || ret == -EACCES)
      return ret;
    if (gone < 0)
      return gone;
    if (life < 0 && prelux_sys(SYS_flock, lock, LOCK_EX | LOCK_NB) == 0)
    {
      *ret_locked = 1;
      ret = listening(opts); /* the last holder may have made it listen */
      return ret == 0 ? 0 : -ENOTCONN;
    }
    if (waited >= START_MS)
      return -ETIMEDOUT;
    sleep_ms(nap);
    waited += nap;
    nap = nap < 16 ? nap * 2 : nap;
  }
}

/* Who runs the node starts its daemon, and starts it again: that is waited for, as long as for an answer. */
static int await_node(const struct prelux_client_opts *opts)
{
  long nap = 1;
  for (long waited = 0; waited < (long)opts->timeout_ms; waited += nap)
  {
    int ret = listening(opts);
    if (ret == 0 || ret == -EMFILE || ret == -ENFILE || ret == -EACCES)
      return ret;
    sleep_ms(nap);
    nap = nap < 16 ? nap * 2 : nap;
  }
  return -ENOTCONN;
}

int prelux_daemon_start(const struct prelux_client_opts *opts)
{
  int locked = 0;
  if (prelux_sys(SYS_getuid) != prelux_sys(SYS_geteuid) || !opts->daemon)
    return -EPERM;
  int dir = prelux_runtime_open(opts->runtime);
  if (dir == -EACCES && prelux_runtime_of_node(opts->runtime))
    return await_node(opts);
  if (dir < 0)
    return dir;
  int lock = (int)prelux_sys(SYS_openat, dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  prelux_sys(SYS_close, dir);
  if (lock < 0)
    return lock;
  prelux_sys(SYS_fchmod, lock, 0600); /* the program's umask may have taken what the next one needs */
  int ret = meet(opts, lock, -1, &locked);
  if (ret == -ENOTCONN && locked)
    for (int launches = 0; launches < LAUNCHES; launches++)
    {
      int life = -1;
      ret = launch(opts, &life);
      if (ret < 0)
        break;
      ret = meet(opts, lock, life, &locked);
      prelux_sys(SYS_close, life);
      if (ret != -ECHILD)
        break;
    }
  prelux_sys(SYS_close, lock);
  return ret;
}
