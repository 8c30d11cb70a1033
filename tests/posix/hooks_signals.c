/* Signals every millisecond while files are opened for the first time.
 *
 *   hooks_signals storm FOLDER COUNT       the handler does nothing
 *   hooks_signals nested FOLDER COUNT      the handler itself opens, reads and stats files of FOLDER
 *   hooks_signals threads FOLDER COUNT     as storm, with four threads that share the files
 * f000 ... f(COUNT-1) lie in FOLDER. Prints "right COUNT". */
#include <pthread.h>
#include <sys/time.h>

#include "hooks.h"

static const char *folder;
static int count;
static volatile sig_atomic_t signals, nested_wrong, inside;
static int nested;

static void nested_look(void)
{
  char name[8], path[PATH_MAX];
  struct stat st;
  nth_name(name, (int)(signals * 7 % count));
  if (read_file(folder, name) != 1)
    nested_wrong = errno ? errno : -1;
  nth_name(name, (int)(signals * 13 % count));
  join_path(path, folder, name);
  if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, R_OK) < 0)
    nested_wrong = errno ? errno : -1;
}

static void on_alarm(int sig)
{
  int saved = errno;
  (void)sig;
  signals++;
  if (nested && !inside && signals % 5 == 0)
  {
    inside = 1;
    nested_look();
    inside = 0;
  }
  errno = saved;
}

static void look_at(int n)
{
  char name[8], path[PATH_MAX];
  struct stat st;
  nth_name(name, n);
  join_path(path, folder, name);
  errno = 0;
  if (n % 2)
    MUST(stat(path, &st) == 0 && st.st_size == (off_t)(12 + strlen(name)) * CONTENT_LINES, "stat %s", path);
  MUST(read_file(folder, name) == 1, "%s", path);
  MUST(stat(path, &st) == 0 && st.st_size == (off_t)(12 + strlen(name)) * CONTENT_LINES, "stat %s", path);
  path[strlen(path) - 1] = 'x';
  MUST(access(path, F_OK) < 0 && errno == ENOENT, "%s", path);
}

static void *all_of_them(void *arg)
{
  for (int n = 0; n < count; n++)
    look_at((int)((n + (long)arg * 17) % count));
  return NULL;
}

int main(int argc, char **argv)
{
  struct sigaction action = {.sa_handler = on_alarm};
  struct itimerval each = {{0, 1000}, {0, 1000}}, never = {0};
  pthread_t threads[4];
  if (argc != 4)
    return 2;
  folder = argv[2];
  count = atoi(argv[3]);
  nested = strcmp(argv[1], "nested") == 0;
  sigaction(SIGALRM, &action, NULL);
  setitimer(ITIMER_REAL, &each, NULL);
  if (strcmp(argv[1], "threads") == 0)
  {
    for (long i = 0; i < 4; i++)
      MUST(pthread_create(&threads[i], NULL, all_of_them, (void *)i) == 0, "thread");
    for (int i = 0; i < 4; i++)
      pthread_join(threads[i], NULL);
  }
  else
    all_of_them(NULL);
  while (signals < 20) /* a plain folder may be quicker than the first signals */
    look_at(signals % count);
  setitimer(ITIMER_REAL, &never, NULL);
  MUST(!nested_wrong, "in the handler: errno %d", (int)nested_wrong);
  printf("right %d\n", count);
  return 0;
}
