/* Calls on threads with 64 KiB of stack, every one on a name that nobody asked for before.
 *
 *   hooks_stack FOLDER SCRIPT OTHER     f000 ... f015 in FOLDER; SCRIPT prints "script ran"; OTHER: a folder with one name, f000
 * Prints "right". A stack that is too small ends the program by a signal. */
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "hooks.h"

#define STACK (64 << 10)

extern char **environ;
static const char *folder, *script, *other;

static void *opens(void *arg)
{
  int fd = open(arg, O_RDONLY);
  MUST(fd >= 0 && right_bytes(fd, "f000"), "open");
  close(fd);
  return NULL;
}

static void *stats(void *arg)
{
  struct stat st;
  MUST(stat(arg, &st) == 0 && S_ISREG(st.st_mode) && lstat(arg, &st) == 0, "stat");
  return NULL;
}

static void *stat_of_nothing(void *arg)
{
  struct stat st;
  (void)arg;
  MUST(chdir(folder) == 0 && stat("../nothing/there/../../../not/there", &st) < 0 && errno == ENOENT, "stat");
  MUST(chdir("/") == 0, "chdir");
  return NULL;
}

static void *lists(void *arg)
{
  int names = 0;
  struct dirent *entry;
  DIR *d = opendir(other);
  (void)arg;
  MUST(d, "opendir");
  while ((entry = readdir(d)))
    names += entry->d_name[0] != '.';
  MUST(names == 1, "%d names", names);
  closedir(d);
  return NULL;
}

static void *names(void *arg)
{
  char *real = realpath(arg, NULL), link[64];
  MUST(real && strcmp(real, arg) == 0, "realpath %s", real ? real : "");
  free(real);
  MUST(readlink(arg, link, sizeof link) < 0 && errno == EINVAL, "readlink");
  return NULL;
}

static void *streams(void *arg)
{
  char line[64];
  FILE *f = fopen(arg, "r");
  MUST(f && fgets(line, sizeof line, f) && strcmp(line, "content of f004\n") == 0, "fopen");
  fclose(f);
  return NULL;
}

static void *moves(void *arg)
{
  char cwd[PATH_MAX];
  struct stat st;
  (void)arg;
  MUST(chdir(folder) == 0 && getcwd(cwd, sizeof cwd) && strcmp(cwd, folder) == 0, "chdir, getcwd");
  MUST(access("f006", R_OK) == 0 && stat("./f007", &st) == 0, "relative names");
  MUST(chdir("/") == 0, "chdir");
  return NULL;
}

static void *globs(void *arg)
{
  char pattern[PATH_MAX];
  glob_t found;
  (void)arg;
  join_path(pattern, folder, "f00[0-9]");
  MUST(glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc == 10, "glob");
  globfree(&found);
  return NULL;
}

static void *attributes(void *arg)
{
  char value[64];
  struct statvfs vfs;
  MUST(getxattr(arg, "user.nothing", value, sizeof value) < 0 && (errno == ENODATA || errno == EOPNOTSUPP), "getxattr");
  MUST(statvfs(arg, &vfs) == 0 && vfs.f_namemax >= 255, "statvfs");
  return NULL;
}

static void *refused(void *arg)
{
  MUST(mkdir(arg, 0700) < 0, "mkdir of a file");
  return NULL;
}

static void *runs(void *arg)
{
  (void)arg;
  pid_t pid = fork();
  if (pid == 0)
  {
    execl(script, script, (char *)NULL);
    _exit(90);
  }
  MUST(status_of_child(pid) == 0, "fork and execl");
  return NULL;
}

static void *spawns(void *arg)
{
  pid_t pid;
  char *argv[] = {(char *)script, NULL};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, arg, O_RDONLY, 0);
  int err = posix_spawn(&pid, script, &actions, NULL, argv, environ);
  MUST(err == 0 && status_of_child(pid) == 0, "posix_spawn: %d", err);
  posix_spawn_file_actions_destroy(&actions);
  return NULL;
}

static void on_small_stack(void *(*call)(void *), const char *name)
{
  static char path[PATH_MAX];
  pthread_t thread;
  pthread_attr_t attr;
  join_path(path, folder, name);
  pthread_attr_init(&attr);
  MUST(pthread_attr_setstacksize(&attr, STACK) == 0, "stack");
  MUST(pthread_create(&thread, &attr, call, path) == 0, "thread");
  pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
  if (argc != 4)
    return 2;
  folder = argv[1], script = argv[2], other = argv[3];
  alarm(60);
  static const struct {
    void *(*call)(void *);
    const char *name;
  } rows[] = {
    {runs, ""},          {opens, "f000"},  {stats, "f001"}, {lists, ""},           {names, "f003"},   {streams, "f004"},
    {moves, ""},         {globs, ""},      {attributes, "f008"}, {refused, "f009"}, {spawns, "f010"}, {stat_of_nothing, ""},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    on_small_stack(rows[i].call, rows[i].name);
  puts("right");
  return 0;
}
