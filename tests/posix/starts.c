/* Starts programs that lie in BASE in every way that libc offers, with every kind of environment:
 *
 *   starts BASE [WAY]
 *
 * BASE/bin holds `show` (a program), `script` (#!/bin/sh), `by-show` (its interpreter is BASE/bin/show), `chain` (its
 * interpreter is the script by-show), `loop1` to `loop6` (each the interpreter of the next), `text` (no #!), `plain` (not executable);
 * BASE/data is a file. BASE.out/by-mapped is a script outside whose interpreter is BASE/bin/show. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
extern int close_range(unsigned first, unsigned last, int flags);
extern int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags);

static char base[PATH_MAX / 4], data[PATH_MAX / 2];

/* ---- environments */

static char **env_null(void)
{
  return NULL;
}

static char **env_empty(void)
{
  static char *none[] = {NULL};
  return none;
}

static char **env_one(void)
{
  static char *one[] = {"X=1", "PATH=/usr/bin:/bin", NULL};
  return one;
}

static char **env_big(void) /* 1 MiB in a few entries */
{
  static char *big[12];
  for (int i = 0; i < 10 && !big[i]; i++) {
    big[i] = malloc(100001);
    memset(big[i], 'v', 100000);
    big[i][0] = 'A' + i;
    big[i][1] = '=';
    big[i][100000] = 0;
  }
  big[10] = "X=big";
  return big;
}

static char **env_many(void)
{
  static char *many[2002], text[2000][16];
  for (int i = 0; i < 2000; i++) {
    snprintf(text[i], sizeof(text[i]), "N%d=%d", i, i);
    many[i] = text[i];
  }
  many[2000] = "X=many";
  return many;
}

static char **env_same(void)
{
  return environ;
}

static const struct {
  const char *name;
  char **(*make)(void);
} envs[] = {{"same", env_same}, {"null", env_null}, {"empty", env_empty}, {"one", env_one}, {"big", env_big}, {"many", env_many}};

/* ---- ways: each returns only when it failed, or returns a status when it waits itself */

static char path[PATH_MAX], *args[6];

static void by_execve(char **env)
{
  execve(path, args, env);
}

static void by_execv(char **env)
{
  environ = env;
  execv(path, args);
}

static void by_execl(char **env)
{
  environ = env;
  execl(path, args[0], args[1], args[2], (char *)NULL);
}

static void by_execle(char **env)
{
  execle(path, args[0], args[1], args[2], (char *)NULL, env);
}

static void set_path(void)
{
  char value[PATH_MAX + 32];
  int len = (int)(strrchr(path, '/') - path);
  snprintf(value, sizeof(value), "/nowhere:%.*s:/usr/bin", len, path);
  setenv("PATH", value, 1);
}

static const char *name_of(void)
{
  return strrchr(path, '/') + 1;
}

static void by_execvp(char **env)
{
  environ = env;
  set_path();
  execvp(name_of(), args);
}

static void by_execvpe(char **env)
{
  set_path();
  execvpe(name_of(), args, env);
}

static void by_execlp(char **env)
{
  environ = env;
  set_path();
  execlp(name_of(), args[0], args[1], args[2], (char *)NULL);
}

static void by_execveat(char **env)
{
  char dir[PATH_MAX];
  snprintf(dir, sizeof(dir), "%s", path);
  *strrchr(dir, '/') = 0;
  execveat(open(dir, O_RDONLY | O_DIRECTORY), name_of(), args, env, 0);
}

static void by_fexecve(char **env)
{
  fexecve(open(path, O_RDONLY), args, env ? env : env_empty());
}

static void by_cwd(char **env)
{
  char dir[PATH_MAX];
  snprintf(dir, sizeof(dir), "%s", path);
  *strrchr(dir, '/') = 0;
  if (chdir(dir)) return;
  snprintf(dir, sizeof(dir), "./%s", name_of());
  execve(dir, args, env);
}

static void by_vfork(char **env)
{
  pid_t pid = vfork();
  int status;
  if (pid == 0) {
    execve(path, args, env);
    _exit(errno == ENOENT ? 120 : errno == EACCES ? 121 : 122);
  }
  waitpid(pid, &status, 0);
  printf("  status %d\n", WEXITSTATUS(status));
  fflush(stdout);
  _exit(0);
}

static void spawned(int err, pid_t pid)
{
  int status = 0;
  if (err == 0) waitpid(pid, &status, 0);
  printf("  spawn %s status %d\n", strerrorname_np(err) && err ? strerrorname_np(err) : "ok", WEXITSTATUS(status));
  fflush(stdout);
  _exit(0);
}

static void by_spawn(char **env)
{
  pid_t pid = -1;
  spawned(posix_spawn(&pid, path, NULL, NULL, args, env), pid);
}

static void by_spawnp(char **env)
{
  pid_t pid = -1;
  set_path();
  spawned(posix_spawnp(&pid, name_of(), NULL, NULL, args, env), pid);
}

/* stdin from a file in BASE, in a folder of BASE: the actions name paths. */
static void by_actions(char **env)
{
  pid_t pid = -1;
  posix_spawn_file_actions_t fa;
  char dir[PATH_MAX];
  snprintf(dir, sizeof(dir), "%s/bin", base);
  posix_spawn_file_actions_init(&fa);
  int err = posix_spawn_file_actions_addopen(&fa, 0, data, O_RDONLY, 0);
  if (!err) err = posix_spawn_file_actions_addchdir_np(&fa, dir);
  if (!err) err = posix_spawn(&pid, "/bin/sh", &fa, NULL, (char *[]){"sh", "-c", "cat; pwd; cat ../data", NULL}, env);
  spawned(err, pid);
}

/* By actions to BASE and on to its bin; program and stdin are named from there. */
static void by_moved(char **env)
{
  pid_t pid = -1;
  posix_spawn_file_actions_t fa;
  char name[2 * PATH_MAX];
  snprintf(name, sizeof(name), "../..%s%s", strrchr(base, '/'), path + strlen(base));
  posix_spawn_file_actions_init(&fa);
  int err = posix_spawn_file_actions_addchdir_np(&fa, base);
  if (!err) err = posix_spawn_file_actions_addchdir_np(&fa, "bin");
  if (!err) err = posix_spawn_file_actions_addopen(&fa, 0, "../data", O_RDONLY, 0);
  if (!err) err = posix_spawn(&pid, name, &fa, NULL, args, env);
  posix_spawn_file_actions_destroy(&fa);
  spawned(err, pid);
}

/* By actions to a descriptor of BASE and on to its bin. */
static void by_fchdir(char **env)
{
  pid_t pid = -1;
  posix_spawn_file_actions_t fa;
  char name[2 * PATH_MAX];
  int fd = open(base, O_RDONLY | O_DIRECTORY);
  snprintf(name, sizeof(name), "../..%s%s", strrchr(base, '/'), path + strlen(base));
  posix_spawn_file_actions_init(&fa);
  int err = posix_spawn_file_actions_addfchdir_np(&fa, fd);
  if (!err) err = posix_spawn_file_actions_addchdir_np(&fa, "bin");
  if (!err) err = posix_spawn_file_actions_addopen(&fa, 0, "../data", O_RDONLY, 0);
  if (!err) err = posix_spawn(&pid, name, &fa, NULL, args, env);
  posix_spawn_file_actions_destroy(&fa);
  close(fd);
  spawned(err, pid);
}

static void by_system(char **env)
{
  char command[3 * PATH_MAX];
  environ = env;
  snprintf(command, sizeof(command), "'%s' 'a b' %s < %s; echo \"it's\" $?", path, data, data);
  int status = system(command);
  printf("  status %d\n", WEXITSTATUS(status));
  fflush(stdout);
  _exit(0);
}

static void by_popen(char **env)
{
  char command[2 * PATH_MAX], line[200];
  environ = env;
  snprintf(command, sizeof(command), "%s fail < %s", path, data);
  FILE *f = popen(command, "r");
  while (f && fgets(line, sizeof(line), f)) fputs(line, stdout);
  printf("  status %d\n", f ? WEXITSTATUS(pclose(f)) : -1);
  fflush(stdout);
  _exit(0);
}

static char **thread_env;
static void *thread_main(void *unused)
{
  execve(path, args, thread_env);
  return unused;
}

static void by_small_stack(char **env) /* a thread with 64 KiB */
{
  pthread_attr_t attr;
  pthread_t thread;
  thread_env = env;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 65536);
  if (pthread_create(&thread, &attr, thread_main, NULL) == 0) pthread_join(thread, NULL);
}

static void by_full_table(char **env) /* three descriptors, and one more for ld.so */
{
  struct rlimit limit = {4, 4};
  close_range(3, ~0u, 0);
  setrlimit(RLIMIT_NOFILE, &limit);
  execve(path, args, env);
}

static const struct {
  const char *name;
  void (*start)(char **env);
} ways[] = {
  {"execve", by_execve}, {"execv", by_execv}, {"execl", by_execl}, {"execle", by_execle}, {"execvp", by_execvp},
  {"execvpe", by_execvpe}, {"execlp", by_execlp}, {"execveat", by_execveat}, {"fexecve", by_fexecve}, {"cwd", by_cwd},
  {"vfork", by_vfork}, {"spawn", by_spawn}, {"spawnp", by_spawnp}, {"actions", by_actions}, {"moved", by_moved}, {"fchdir", by_fchdir},
  {"system", by_system}, {"popen", by_popen}, {"small-stack", by_small_stack}, {"full-table", by_full_table},
};

static void try(size_t way, size_t env, const char *target)
{
  printf("%s %s %s\n", ways[way].name, envs[env].name, target);
  fflush(stdout);
  snprintf(path, sizeof(path), "%s%s", base, target);
  args[0] = "zero";
  args[1] = "a b";
  args[2] = data;
  args[3] = NULL;
  pid_t pid = fork();
  if (pid == 0) {
    errno = 0;
    dup2(1, 2);
    ways[way].start(envs[env].make());
    printf("  failed: %s\n", strerrorname_np(errno) ? strerrorname_np(errno) : "?");
    fflush(stdout);
    _exit(1);
  }
  int status;
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) printf("  signal %d\n", WTERMSIG(status));
}

int main(int argc, char **argv)
{
  static const char *const targets[] = {"/bin/show", "/bin/script", "/bin/by-show", "/bin/chain", "/bin/missing", "/bin/plain",
                                        "/bin", "/bin/text", "/data/x", ".out/by-mapped", "/bin/loop3", "/bin/loop6"};
  if (argc < 2) return 2;
  snprintf(base, sizeof(base), "%s", argv[1]);
  snprintf(data, sizeof(data), "%s/data", base);
  for (size_t w = 0; w < sizeof(ways) / sizeof(ways[0]); w++) {
    if (argc > 2 && strcmp(argv[2], ways[w].name) != 0) continue;
    for (size_t e = 0; e < sizeof(envs) / sizeof(envs[0]); e++)
      for (size_t t = 0; t < sizeof(targets) / sizeof(targets[0]); t++)
        if (t == 0 || e == 0 || (e == 2 && t < 4)) try(w, e, targets[t]);
  }
  return 0;
}
