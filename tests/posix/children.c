/* Children made in ways that starts.c does not have:
 *
 *   children daemon FOLDER NOCHDIR NOCLOSE OUT   daemon(3) with FOLDER as working directory; what it sees then is written to OUT
 *   children spawn FOLDER SCRIPT                 posix_spawn with every kind of action and attribute
 *   children terminal FOLDER SCRIPT              one whose group is given the terminal, and who reads a file of FOLDER
 *
 * FOLDER has `f000`, and files are made in it. */
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>

#include "hooks.h"

extern char **environ;

static void as_daemon(const char *folder, int nochdir, int noclose, const char *out)
{
  char cwd[PATH_MAX], path[PATH_MAX], name[PATH_MAX + 8];
  struct stat null, in;
  MUST(chdir(nochdir || noclose ? folder : "/usr") == 0, "%s", folder); /* from there "/" is near */
  snprintf(name, sizeof name, "%s.part", out);
  FILE *f = fopen(name, "w");
  pid_t before = getpid();
  MUST(freopen(name, "r", stdin), "%s", name); /* no /dev/null yet */
  MUST(f && daemon(nochdir, noclose) == 0, "daemon");
  getcwd(cwd, sizeof cwd);
  MUST(stat("/dev/null", &null) == 0 && fstat(0, &in) == 0, "stdin");
  fprintf(f, "cwd %s, another %d, leader %d, relative %d, null %d\n", strcmp(cwd, folder) ? cwd : "the folder", getpid() != before, getsid(0) == before,
          access("f000", R_OK) == 0, in.st_rdev == null.st_rdev);
  join_path(path, folder, "made");
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
  fprintf(f, "from the root %d\n", nochdir || access(folder + 1, R_OK) == 0);
  fprintf(f, "read %d, write %d\n", read_file(folder, "f000"), fd >= 0 && write(fd, "by a daemon\n", 12) == 12);
  close(fd);
  if (nochdir)
    fprintf(f, "made %d\n", rename("made", "renamed"));
  fclose(f);
  MUST(rename(name, out) == 0, "%s", out);
}

static void say(const char *what, int err, pid_t pid)
{
  int status = err ? -1 : status_of_child(pid);
  printf("%s: %s, status %d\n", what, err ? strerror(err) : "ok", status);
  fflush(stdout);
}

/* A shell that says what it was given. */
static void with_actions(const char *folder)
{
  static const char text[] = "read -r x; echo \"in $x\"; pwd | sed 's:.*/::'; read -r y <&7; echo \"seven $y\"; (echo 2>/dev/null >&8) && echo eight; "
                             "(: <&20) 2>/dev/null || echo 'twenty is closed'; echo err >&2; cat f001 | head -n 1";
  char *argv[] = {"sh", "-c", (char *)text, NULL}, in[PATH_MAX], out[PATH_MAX], err[PATH_MAX];
  posix_spawn_file_actions_t actions;
  pid_t pid = 0;
  join_path(in, folder, "f000");
  join_path(out, folder, "out");
  join_path(err, folder, "err");
  int keep = open(in, O_RDONLY), dir = open(folder, O_RDONLY | O_DIRECTORY), high = dup2(keep, 20);
  MUST(keep >= 0 && dir >= 0 && high == 20, "descriptors");
  MUST(posix_spawn_file_actions_init(&actions) == 0, "init");
  int rc = posix_spawn_file_actions_addopen(&actions, 0, in, O_RDONLY, 0);
  rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0640);
  rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 2, err, O_WRONLY | O_CREAT | O_APPEND, 0600);
  rc = rc ? rc : posix_spawn_file_actions_addclose(&actions, keep);
  rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, 20, 7);
  rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, 1, 8);
  rc = rc ? rc : posix_spawn_file_actions_addfchdir_np(&actions, dir);
  rc = rc ? rc : posix_spawn_file_actions_addclosefrom_np(&actions, 9);
  MUST(rc == 0, "actions: %d", rc);
  rc = posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ);
  say("actions", rc, pid);
  posix_spawn_file_actions_destroy(&actions);
  close(keep);
  close(dir);
  close(high);
}

static void with_attributes(const char *script)
{
  static const struct { const char *name; short flag; } kinds[] = {
      {"none", 0}, {"group", POSIX_SPAWN_SETPGROUP}, {"mask", POSIX_SPAWN_SETSIGMASK}, {"defaults", POSIX_SPAWN_SETSIGDEF}, {"ids", POSIX_SPAWN_RESETIDS},
      {"scheduler", POSIX_SPAWN_SETSCHEDULER}, {"parameters", POSIX_SPAWN_SETSCHEDPARAM}, {"vfork", POSIX_SPAWN_USEVFORK}, {"session", POSIX_SPAWN_SETSID}};
  char *argv[] = {"zero", "word", NULL}, *none[] = {NULL};
  sigset_t set;
  struct sched_param param = {.sched_priority = 0};
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    for (int empty = 0; empty < 2; empty++)
    {
      posix_spawnattr_t attr;
      pid_t pid = 0;
      MUST(posix_spawnattr_init(&attr) == 0 && posix_spawnattr_setflags(&attr, kinds[i].flag) == 0, "attributes");
      posix_spawnattr_setpgroup(&attr, 0);
      posix_spawnattr_setsigmask(&attr, &set);
      posix_spawnattr_setsigdefault(&attr, &set);
      posix_spawnattr_setschedpolicy(&attr, SCHED_OTHER);
      posix_spawnattr_setschedparam(&attr, &param);
      int rc = posix_spawn(&pid, script, NULL, &attr, argv, empty ? none : environ);
      say(kinds[i].name, rc, pid);
      posix_spawnattr_destroy(&attr);
    }
}

/* In a session of its own. Its terminal is one that nobody looks at. */
static void with_terminal(const char *folder, const char *script)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)
  char *argv[] = {"zero", "word", NULL}, in[PATH_MAX];
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attr;
  pid_t pid = 0;
  int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  MUST(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "terminal");
  setsid();
  int terminal = open(ptsname(master), O_RDWR | O_CLOEXEC);
  MUST(terminal >= 0 && tcgetpgrp(terminal) == getpgrp(), "terminal");
  join_path(in, folder, "f000");
  MUST(posix_spawn_file_actions_init(&actions) == 0 && posix_spawnattr_init(&attr) == 0, "init");
  MUST(posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP) == 0, "attributes");
  int rc = posix_spawn_file_actions_addtcsetpgrp_np(&actions, terminal);
  rc = rc ? rc : posix_spawn_file_actions_addopen(&actions, 0, in, O_RDONLY, 0);
  MUST(rc == 0, "actions: %d", rc);
  rc = posix_spawn(&pid, script, &actions, &attr, argv, environ);
  MUST(rc == 0 && tcgetpgrp(terminal) == pid, "%d: the terminal is not of %d", rc, pid);
  say("terminal", rc, pid);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attr);
#else
  puts("no action for a terminal");
#endif
}

int main(int argc, char **argv)
{
  if (argc < 4)
    return 2;
  alarm(100);
  if (strcmp(argv[1], "daemon") == 0)
    as_daemon(argv[2], atoi(argv[3]), atoi(argv[4]), argv[5]);
  else if (strcmp(argv[1], "terminal") == 0)
    with_terminal(argv[2], argv[3]);
  else
  {
    with_actions(argv[2]);
    with_attributes(argv[3]);
  }
  return 0;
}
