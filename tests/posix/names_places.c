/* Calls that change names, made where little is allowed: in vfork children, signal handlers, threads while another forks, on small
 * stacks, without descriptors, before main.
 *
 *   names_places PART FOLDER         PART: vfork signals threads stack closed early; limit and quiet print what they got
 * Prints "right", on a plain folder too. Leaves the folder empty. */
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "hooks.h"

#define STACK (64 << 10)

static const char *folder;
static int early_errno = -1;

/* FOLDER/NAME and a number. */
static const char *at(char *out, const char *name, int number)
{
  size_t n = strlen(folder), m = strlen(name);
  memcpy(out, folder, n);
  out[n++] = '/';
  memcpy(out + n, name, m);
  n += m;
  for (int div = 10000; div > 0; div /= 10)
    out[n++] = (char)('0' + number / div % 10);
  out[n] = '\0';
  return out;
}

/* Some of every kind, on names of its own. 0, or the line of what went wrong. */
static int some(const char *name, int number)
{
  char one[PATH_MAX], two[PATH_MAX];
  struct stat st;
  at(one, name, number);
  at(two, name, number + 1);
  if (mkdir(one, 0700) != 0) return __LINE__;
  if (mkdir(one, 0700) == 0 || errno != EEXIST) return __LINE__;
  if (rename(one, two) != 0) return __LINE__;
  if (stat(one, &st) == 0 || errno != ENOENT) return __LINE__;
  if (stat(two, &st) != 0 || !S_ISDIR(st.st_mode)) return __LINE__;
  if (unlink(two) == 0 || errno != EISDIR) return __LINE__;
  if (rmdir(two) != 0) return __LINE__;
  if (symlink("some/where", one) != 0) return __LINE__;
  if (readlink(one, two, sizeof two) != 10) return __LINE__;
  if (unlink(one) != 0) return __LINE__;
  return 0;
}

static void in_vfork(void)
{
  for (int i = 0; i < 30; i++)
  {
    int status;
    pid_t pid = vfork();
    if (pid == 0)
      _exit(some("v", 2 * i) == 0 ? 7 : errno ? errno : 99);
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid, "vfork");
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
    MUST(some("p", 0) == 0, "the parent after it");
  }
}

static volatile sig_atomic_t handled, failed;

static void on_alarm(int number)
{
  int saved = errno;
  (void)number;
  if (handled < 400)
  {
    int line = some("h", (int)(handled % 100) * 2);
    if (line) failed = line;
    handled = handled + 1;
  }
  errno = saved;
}

static void in_signals(void)
{
  struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
  struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  sigaction(SIGALRM, &sa, NULL);
  setitimer(ITIMER_REAL, &often, NULL);
  for (int i = 0; i < 300; i++)
  {
    int line = some("m", 2 * i);
    MUST(line == 0, "line %d", line);
  }
  setitimer(ITIMER_REAL, &never, NULL);
  MUST(failed == 0 && handled > 0, "line %d in the handler, %d times", (int)failed, (int)handled);
}

static void *loop(void *arg)
{
  char name[2] = {(char)('a' + (int)(intptr_t)arg), 0};
  for (int i = 0; i < 60; i++)
  {
    int line = some(name, 2 * i);
    MUST(line == 0, "line %d in thread %s", line, name);
  }
  return NULL;
}

static void in_threads(void)
{
  pthread_t threads[4];
  for (intptr_t i = 0; i < 4; i++)
    pthread_create(&threads[i], NULL, loop, (void *)i);
  for (int i = 0; i < 15; i++)
  {
    int status;
    pid_t pid = fork();
    if (pid == 0)
    {
      int line = some("f", 2 * i);
      _exit(line ? 1 : 7);
    }
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
  }
  for (int i = 0; i < 4; i++)
    pthread_join(threads[i], NULL);
}

/* base/tail; the paths here are short */
static const char *joined(char out[PATH_MAX], const char *base, const char *tail)
{
  join_path(out, base, tail);
  return out;
}

static void *small(void *arg)
{
  static char way[PATH_MAX], to[PATH_MAX], base[PATH_MAX], real[PATH_MAX]; /* one such thread */
  (void)arg;
  at(base, "deep", 0);
  MUST(mkdir(base, 0755) == 0, "mkdir");
  MUST(symlink("../deep00000", joined(way, base, "link")) == 0, "symlink");
  for (int i = 0; i < 20; i++)
    strcat(way, "/link"); /* twenty-one links on the way */
  joined(to, way, "x");
  MUST(mkdir(to, 0755) == 0 && realpath(to, real), "%s", to);
  joined(to, folder, "deep00000/x");
  MUST(strcmp(real, to) == 0, "%s", real);
  joined(to, way, "tXXXXXX");
  int fd = mkstemp(to);
  MUST(fd >= 0 && write(fd, "x", 1) == 1 && fchmod(fd, 0640) == 0 && close(fd) == 0, "mkstemp %s", to);
  MUST(chmod(to, 0600) == 0 && truncate(to, 100) == 0 && rename(to, real) < 0 && errno == EISDIR, "changes");
  joined(real, way, "../y");
  MUST(rename(to, real) == 0 && unlink(real) == 0, "rename to %s", real);
  MUST(rmdir(joined(to, way, "x")) == 0, "rmdir");
  MUST(unlink(joined(to, base, "link")) == 0 && rmdir(base) == 0, "the end");
  return NULL;
}

static void on_small_stacks(void)
{
  pthread_t thread;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  MUST(pthread_create(&thread, &attr, small, NULL) == 0, "thread");
  pthread_join(thread, NULL);
}

static void without_descriptors(void)
{
  int out = fcntl(1, F_DUPFD_CLOEXEC, 900);
  for (int fd = 0; fd < 900; fd++)
    close(fd);
  int line = some("c", 0);
  int first = open("/dev/null", O_RDWR);
  dup2(out, 1);
  MUST(line == 0 && first == 0, "line %d, first %d", line, first);
}

/* No number is free for the request: the call says so, and works again when one is. */
static void at_the_limit(void)
{
  char path[PATH_MAX];
  struct rlimit old, low;
  int fd = dup(0);
  getrlimit(RLIMIT_NOFILE, &old);
  low = old;
  low.rlim_cur = (rlim_t)fd;
  close(fd);
  setrlimit(RLIMIT_NOFILE, &low);
  errno = 0;
  int rc = mkdir(at(path, "l", 0), 0700), err = errno;
  setrlimit(RLIMIT_NOFILE, &old);
  printf("%s\n", rc == 0 ? "made" : strerror(err));
  if (rc == 0) rmdir(path);
  MUST(some("l", 0) == 0, "after it");
}

static void in_quiet(void)
{
  char path[PATH_MAX];
  struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  struct sock_fprog program = {.len = 1, .filter = &allow};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "prctl");
  errno = 0;
  int rc = mkdir(at(path, "q", 0), 0700);
  printf("%s\n", rc == 0 ? "made" : strerror(errno));
  if (rc == 0) rmdir(path);
}

/* Before main, perhaps before the library was set up. */
__attribute__((constructor)) static void early(void)
{
  folder = getenv("NAMES_EARLY");
  if (folder) early_errno = some("e", 0) == 0 ? 0 : errno;
}

int main(int argc, char **argv)
{
  static const struct
  {
    const char *name;
    void (*fn)(void);
  } parts[] = {{"vfork", in_vfork}, {"signals", in_signals}, {"threads", in_threads}, {"stack", on_small_stacks},
               {"closed", without_descriptors}, {"limit", at_the_limit}, {"quiet", in_quiet}};
  MUST(argc == 3, "arguments");
  folder = argv[2];
  alarm(100);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (strcmp(parts[i].name, argv[1]) == 0) parts[i].fn();
  MUST(strcmp(argv[1], "early") != 0 || early_errno == 0, "errno %d", early_errno);
  printf("right\n");
  return 0;
}
