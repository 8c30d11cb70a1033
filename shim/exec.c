/* exec*: the program may be below a prefix, and the child must be under prelux too. Everything here is as safe in a
 * vfork child or a signal handler as execve itself: stack, or maps that a failed call returns. */
#include "shim/exec.h"
#include "lib/base/path.h"
#include "shim/deep.h"
#include "shim/pending.h"
#include "shim/report.h"

#include <stdarg.h>

/* Of execveat. AT_EXECVE_CHECK (Linux 6.14) executes nothing, and what will come after it nobody knows: the kernel is asked as the program does. */
static bool executes(int flags)
{
  return (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)) == 0;
}

static int call_libc(const struct prelux_target *t, char *const envp[], int flags)
{
  struct prelux_report_exec *note = prelux_report_exec(t->at, t->path, envp, false);
  int rc = t->at == AT_FDCWD && flags == 0 ? prelux_real.execve(t->path, t->argv, envp)
                                           : (int)prelux_ret(prelux_sys(SYS_execveat, t->at, t->path, t->argv, envp, flags));
  prelux_report_exec_done(note, -1);
  return rc < 0 ? -errno : 0;
}

static int run(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
  struct prelux_room room;
  struct prelux_target t = {.room = &room};
  char *const *env;

  if (prelux_pending_any()) prelux_pending_settle_all(true);
  prelux_room_init(&room);
  int launched = -1, rc = prelux_exec_resolve(&t, dirfd, path, argv);
  if (rc == 0) rc = prelux_exec_env(&room, envp, t.at, t.path, true, &env);
  if (rc == 0 && executes(flags)) rc = prelux_deep_launch(&t, flags, &launched);
  if (rc > 0) flags = rc = 0;
  if (rc == 0 && (rc = call_libc(&t, env, flags)) < 0) {
    int again = prelux_exec_again(&t, dirfd, path, argv, -rc);
    if (again < 0) rc = again;
    if (again > 0) rc = call_libc(&t, env, flags);
  }
  prelux_deep_launched(launched);
  prelux_room_release(&room);
  return (int)prelux_ret(rc);
}

/* The name that the kernel gives to an interpreter for a script that is run by its descriptor. */
static void name_fd(int fd, char name[32])
{
  static const char head[] = "/dev/fd/";
  memcpy(name, head, sizeof(head) - 1);
  prelux_path_number(name + sizeof(head) - 1, (unsigned)fd);
}

/* The file is an open fd: the kernel takes it as it is. */
static int run_fd_at(int fd, const char *script, char *const argv[], char *const envp[])
{
  struct prelux_room room;
  struct prelux_target t = {.at = fd, .path = "", .argv = argv, .room = &room};
  char *const *env;

  prelux_room_init(&room);
  int launched = -1, rc = prelux_exec_env(&room, envp, fd, "", true, &env);
  if (rc == 0) rc = prelux_deep_launch(&t, 0, &launched);
  if (rc > 0) {
    rc = call_libc(&t, env, 0);
  } else if (rc == 0) {
    struct prelux_report_exec *note = prelux_report_exec(fd, "", env, false);
    rc = (int)prelux_sys(SYS_execveat, fd, "", argv, env, AT_EMPTY_PATH);
    prelux_report_exec_done(note, -1);
  }
  if (rc == -ENOENT && *script && prelux_exec_interpreter(&t, script) > 0) rc = call_libc(&t, env, 0);
  prelux_deep_launched(launched);
  prelux_room_release(&room);
  return (int)prelux_ret(rc);
}

/* A script of ours is run by its name. */
static int run_fd(int fd, char *const argv[], char *const envp[])
{
  struct prelux_route r;
  char head[PRELUX_HEAD + 1], name[32] = "", *interpreter, *argument;

  if (prelux_pending_any()) prelux_pending_settle_all(true);
  int rc = prelux_settle(fd);
  if (rc < 0) return (int)prelux_ret(rc);
  long n = prelux_exec_head(fd, "", head);
  if (n > 0 && prelux_exec_script(head, n, &interpreter, &argument)) {
    if (prelux_route_fd(fd, &r) == PRELUX_MAPPED) return run(AT_FDCWD, r.logical, argv, envp, 0);
    /* Closed by exec, the kernel says: the interpreter could not open it. */
    if (!(prelux_sys(SYS_fcntl, fd, F_GETFD) & FD_CLOEXEC)) name_fd(fd, name);
  }
  return run_fd_at(fd, name, argv, envp);
}

PRELUX_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
  if (prelux_idle()) return prelux_real.execve(path, argv, envp);
  return run(AT_FDCWD, path, argv, envp, 0);
}

PRELUX_EXPORT int execv(const char *path, char *const argv[])
{
  if (prelux_idle()) return prelux_real.execv(path, argv);
  return run(AT_FDCWD, path, argv, environ, 0);
}

PRELUX_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
  if (prelux_idle() || fd < 0 || !argv || !envp) return prelux_real.fexecve(fd, argv, envp);
  return run_fd(fd, argv, envp);
}

PRELUX_EXPORT int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
  if (prelux_idle()) return (int)prelux_ret(prelux_sys(SYS_execveat, dirfd, path, argv, envp, flags));
  bool itself = (flags & AT_EMPTY_PATH) && prelux_empty(path) && dirfd >= 0;
  if (itself && !executes(flags)) return (int)prelux_ret(prelux_sys(SYS_execveat, dirfd, path, argv, envp, flags));
  if (itself) return run_fd(dirfd, argv, envp);
  return run(dirfd, path, argv, envp, flags);
}

/* ---- through PATH */

/* A text file without "#!" is run by the shell. */
static int run_by_shell(const char *path, char *const argv[], char *const envp[])
{
  struct prelux_room room;
  size_t n = 0;

  prelux_room_init(&room);
  while (argv[n]) n++;
  char **with = prelux_room_take(&room, (n + 3) * sizeof(*with));
  if (!with) return (int)prelux_ret(-ENOMEM);
  with[0] = (char *)"/bin/sh";
  with[1] = (char *)path;
  for (size_t i = 1; i < n; i++) with[i + 1] = argv[i];
  with[n > 1 ? n + 1 : 2] = NULL;
  int rc = run(AT_FDCWD, with[0], with, envp, 0);
  int err = errno;
  prelux_room_release(&room);
  errno = err;
  return rc;
}

static int run_or_shell(const char *path, char *const argv[], char *const envp[])
{
  int rc = run(AT_FDCWD, path, argv, envp, 0);

  return errno == ENOEXEC ? run_by_shell(path, argv, envp) : rc;
}

/* As libc's: an error that says "not here" goes on to the next folder, EACCES is remembered. */
static int run_through_path(const char *file, char *const argv[], char *const envp[])
{
  const char *path = getenv("PATH");
  size_t file_len = strlen(file);
  bool denied = false;
  char name[PATH_MAX];

  if (file_len == 0) return (int)prelux_ret(-ENOENT);
  if (strchr(file, '/')) return run_or_shell(file, argv, envp);
  if (file_len > NAME_MAX) return (int)prelux_ret(-ENAMETOOLONG);
  if (!path) path = "/bin:/usr/bin";
  errno = ENOENT;
  for (const char *end;; path = end + 1) {
    end = strchrnul(path, ':');
    size_t len = (size_t)(end - path);
    if (len + file_len + 2 <= sizeof(name)) {
      memcpy(name, path, len);
      if (len) name[len++] = '/';
      memcpy(name + len, file, file_len + 1);
      run_or_shell(name, argv, envp);
      if (errno == EACCES) denied = true;
      else if (errno != ENOENT && errno != ESTALE && errno != ENOTDIR && errno != ENODEV && errno != ETIMEDOUT) return -1;
    }
    if (!*end) break;
  }
  if (denied) errno = EACCES;
  return -1;
}

PRELUX_EXPORT int execvp(const char *file, char *const argv[])
{
  if (prelux_idle()) return prelux_real.execvp(file, argv);
  return run_through_path(file, argv, environ);
}

PRELUX_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
  if (prelux_idle()) return prelux_real.execvpe(file, argv, envp);
  return run_through_path(file, argv, envp);
}

/* ---- arguments as a list: counted, then copied to the stack, as libc does */

static size_t count_args(va_list ap)
{
  size_t n = 1; /* the first one is named */

  while (va_arg(ap, char *)) n++;
  return n;
}

/* Defines argv[] from `first` and what follows; `ap` stands behind the list's NULL afterwards. */
#define TAKE_ARGS(first)                                   \
  va_list ap;                                              \
  va_start(ap, first);                                     \
  size_t n = first ? count_args(ap) : 0;                   \
  va_end(ap);                                              \
  char *argv[n + 1];                                       \
  va_start(ap, first);                                     \
  argv[0] = (char *)first;                                 \
  for (size_t i = 1; i <= n; i++) argv[i] = va_arg(ap, char *)

PRELUX_EXPORT int execl(const char *path, const char *arg, ...)
{
  TAKE_ARGS(arg);
  va_end(ap);
  return execv(path, argv);
}

PRELUX_EXPORT int execlp(const char *file, const char *arg, ...)
{
  TAKE_ARGS(arg);
  va_end(ap);
  return execvp(file, argv);
}

PRELUX_EXPORT int execle(const char *path, const char *arg, ...)
{
  TAKE_ARGS(arg);
  char *const *envp = va_arg(ap, char *const *);
  va_end(ap);
  return execve(path, argv, envp);
}
