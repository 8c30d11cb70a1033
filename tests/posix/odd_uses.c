/* Calls that few programs make, and how they fail: odd_uses spawn FILE... | flags. Prints what each call returns; the same in a mapping and in a plain folder. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void say(const char *what, const char *path, long rc)
{
  printf("%s %s: %s\n", what, path, rc < 0 ? strerrorname_np(errno) : rc ? strerrorname_np((int)rc) : "done");
  fflush(stdout);
}

/* As most programs do: what the actions' own calls return is not looked at. */
static void spawn(const char *path, int flags, int chdir_to, int by_name)
{
  char *argv[] = {"sh", "-c", "cat; pwd | sed s:.*/::", NULL};
  posix_spawn_file_actions_t actions;
  pid_t pid;
  int status;
  posix_spawn_file_actions_init(&actions);
  if (chdir_to) posix_spawn_file_actions_addchdir_np(&actions, path);
  else posix_spawn_file_actions_addopen(&actions, 0, path, flags, 0644);
  int rc = (by_name ? posix_spawnp : posix_spawn)(&pid, by_name ? "sh" : "/bin/sh", &actions, NULL, argv, environ);
  if (rc == 0) waitpid(pid, &status, 0);
  posix_spawn_file_actions_destroy(&actions);
  say(chdir_to ? "in" : by_name ? "by name from" : "from", path, rc);
}

static void flags_of(const char *path)
{
  struct statx x;
  struct stat st;
  const struct timespec times[2] = {{.tv_sec = 5}, {.tv_sec = 5}};
  struct open_how how = {.flags = O_RDONLY, .mode = 0644};
  const int wrong[] = {AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0x8000, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, 0x10000000};
  for (int i = 0; i < 5; i++) say("statx", path, statx(AT_FDCWD, path, wrong[i], STATX_ALL, &x));
  say("statx mask", path, statx(AT_FDCWD, path, 0, STATX__RESERVED, &x));
  say("statx", path, statx(AT_FDCWD, path, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_ALL, &x));
  for (int i = 3; i < 5; i++) {
    say("fstatat", path, fstatat(AT_FDCWD, path, &st, wrong[i]));
    say("faccessat", path, faccessat(AT_FDCWD, path, R_OK, wrong[i]));
    say("fchownat", path, fchownat(AT_FDCWD, path, (uid_t)-1, (gid_t)-1, wrong[i]));
    say("utimensat", path, utimensat(AT_FDCWD, path, times, wrong[i]));
  }
  say("openat2 mode", path, syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)));
  say("openat2 mode", "none", syscall(SYS_openat2, AT_FDCWD, "none", &how, sizeof(how)));
}

int main(int argc, char **argv)
{
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[1], "flags") == 0) flags_of(argv[i]);
    if (strcmp(argv[1], "spawn") != 0) continue;
    spawn(argv[i], O_RDONLY, 0, 0);
    spawn(argv[i], O_RDONLY, 0, 1);
    spawn(argv[i], O_WRONLY, 0, 0);
    spawn(argv[i], O_RDONLY, 1, 0);
    spawn(argv[i], O_RDONLY, 1, 1);
  }
  return 0;
}
