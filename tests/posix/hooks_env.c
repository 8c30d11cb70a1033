/* A child with an odd environment.   hooks_env null|empty|big exec|spawn|fork PROGRAM ARG...
 * The program runs with envp = NULL, without any variable, or with 1 MiB of them; with "fork" environ itself is emptied. */
#include <spawn.h>

#include "hooks.h"

extern char **environ;

static char **big_environment(void)
{
  enum { COUNT = 16, BYTES = 64 << 10 };
  char **env = calloc(COUNT + 1, sizeof *env);
  for (int i = 0; i < COUNT; i++)
  {
    env[i] = malloc(BYTES);
    memset(env[i], 'x', BYTES);
    memcpy(env[i], "BIG_A=", 6);
    env[i][4] = (char)('A' + i);
    env[i][BYTES - 1] = 0;
  }
  return env;
}

int main(int argc, char **argv)
{
  static char *nothing[] = {NULL};
  char **env = NULL;
  pid_t pid;
  if (argc < 4)
    return 2;
  if (strcmp(argv[1], "empty") == 0)
    env = nothing;
  else if (strcmp(argv[1], "big") == 0)
    env = big_environment();
  if (strcmp(argv[2], "exec") == 0)
    execve(argv[3], argv + 3, env);
  else if (strcmp(argv[2], "spawn") == 0)
  {
    int err = posix_spawn(&pid, argv[3], NULL, NULL, argv + 3, env);
    MUST(err == 0, "posix_spawn: %d", err);
    return status_of_child(pid);
  }
  else
  {
    environ = env;
    pid = fork();
    if (pid == 0)
      execv(argv[3], argv + 3);
    return status_of_child(pid);
  }
  MUST(0, "exec");
}
