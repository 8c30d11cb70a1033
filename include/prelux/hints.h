/* prelux from C and C++: fetch ahead, wait for uploads, look at the state. A header alone, nothing to link: it runs the command `prelux` (PRELUX_EXE in
 * the environment, else by PATH) with the configuration of the process, and waits for it. Threads may call these at once; no signal handler may.
 *
 * A hint on a file or folder that is open needs none of this: posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED or POSIX_FADV_DONTNEED). */
#ifndef PRELUX_HINTS_H
#define PRELUX_HINTS_H

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

extern char **environ;

/* Runs `prelux VERB paths...` with its output to `out` (a descriptor; -1: nowhere). The command's exit status (0 done, 1 failed, 2 usage, 3 degraded:
 * `prelux VERB --help`), or -errno: -ENOENT there is no such command, -ENOMEM, -ECHILD the process ignores SIGCHLD, and what came of it is not known. */
static inline int prelux_hint(const char *verb, const char *const *paths, size_t n, int out)
{
  const char *exe = getenv("PRELUX_EXE");
  char **argv = (char **)calloc(n + 5, sizeof *argv);
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int status = 0, err, k = 0;
  if (!argv)
    return -ENOMEM;
  argv[k++] = (char *)(exe && *exe ? exe : "prelux");
  argv[k++] = (char *)verb;
  argv[k++] = (char *)"--json";
  argv[k++] = (char *)"--";
  for (size_t i = 0; i < n; i++)
    argv[k++] = (char *)paths[i];
  err = posix_spawn_file_actions_init(&actions);
  if (err == 0)
  {
    if (out >= 0) /* before 0 becomes another: it may be that */
      posix_spawn_file_actions_adddup2(&actions, out, 1);
    else
      posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    err = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
  }
  free(argv);
  if (err)
    return -err;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return -errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Fetches files, and folders with all below them. */
static inline int prelux_prefetch(const char *const *paths, size_t n)
{
  return prelux_hint("prefetch", paths, n, -1);
}

/* Waits until what was written at or below the paths (n 0: anywhere) is on the remote. 3: something is left. */
static inline int prelux_flush(const char *const *paths, size_t n)
{
  return prelux_hint("flush", paths, n, -1);
}

/* Writes the state, as JSON, to `out`. 3: a mapping or backend is not in order. */
static inline int prelux_status(int out)
{
  return prelux_hint("status", NULL, 0, out);
}

#ifdef __cplusplus
}
#endif

#endif
