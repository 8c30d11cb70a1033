/* Threads, forks and children that share memory.
 *
 *   hooks_threads fork FOLDER COUNT    64 threads open f000 ... while another forks and execs
 *   hooks_threads clone-vm FOLDER N    children by clone(CLONE_VM), also with CLONE_FILES and with CLONE_VFORK
 *   hooks_threads clone3 FOLDER N      the same by the number of clone3
 *   hooks_threads _Fork FOLDER N       children by _Fork(), from a thread
 *   hooks_threads vfork FOLDER N SCRIPT  vfork children: chdir, open, exec of SCRIPT (prints "script ran")
 * Each prints "right". */
#include <dlfcn.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "hooks.h"

#define THREADS 64
#define FORKS 25
#define STACK (256 << 10)

static const char *folder;
static int count;
static atomic_int running, wrong, next;

static void *open_them(void *arg)
{
  char name[8];
  (void)arg;
  for (int i = 0; i < count; i++)
  {
    nth_name(name, atomic_fetch_add(&next, 1) % count);
    if (read_file(folder, name) != 1)
    {
      fprintf(stderr, "%s: errno %d\n", name, errno);
      atomic_fetch_add(&wrong, 1);
    }
  }
  atomic_fetch_sub(&running, 1);
  return NULL;
}

static int fork_and_exec(int round)
{
  char name[8];
  nth_name(name, round % count);
  pid_t pid = fork();
  if (pid == 0)
  {
    if (read_file(folder, name) != 1)
      _exit(90);
    execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
    _exit(91);
  }
  return pid < 0 ? -1 : status_of_child(pid);
}

static void while_others_fork(void)
{
  pthread_t threads[THREADS];
  pthread_attr_t attr;
  int forks = 0;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  atomic_store(&running, THREADS);
  for (int i = 0; i < THREADS; i++)
    MUST(pthread_create(&threads[i], &attr, open_them, NULL) == 0, "thread %d", i);
  for (; forks < FORKS || atomic_load(&running); forks++)
  {
    int status = fork_and_exec(forks);
    MUST(status == 7, "child %d: status %d", forks, status);
    if (forks >= FORKS)
      sleep_ms(20);
  }
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  MUST(atomic_load(&wrong) == 0, "%d wrong", atomic_load(&wrong));
}

static int child_reads(void *arg)
{
  char name[8];
  int n = (int)(long)arg;
  nth_name(name, n % count);
  if (read_file(folder, name) != 1)
    _exit(90);
  if (chdir(folder) < 0)
    _exit(92);
  int fd = open(name, O_RDONLY);
  _exit(fd >= 0 && right_bytes(fd, name) ? 7 : 91);
}

static int which; /* of by_number's child */

static void number_reads(void)
{
  child_reads((void *)(long)which);
}

/* libc has no function of it. The child begins where syscall() returns, on its own stack: to what lies on top of that. */
static pid_t by_number(char *stack, int flags, int n)
{
  struct clone_args args = {.flags = (unsigned)flags, .exit_signal = SIGCHLD};
  which = n;
#if defined(__x86_64__)
  void (**top)(void) = (void (**)(void))(stack + STACK - 64);
  *top = number_reads;
  args.stack = (uintptr_t)stack;
  args.stack_size = (uintptr_t)top - (uintptr_t)stack;
#else
  args.flags &= ~(uint64_t)(CLONE_VM | CLONE_VFORK);
#endif
  pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0)
    number_reads();
  return pid;
}

static void by_clone(int flags, int n, int number)
{
  char *stack = aligned_alloc(64, STACK), before[PATH_MAX], after[PATH_MAX], name[8];
  MUST(getcwd(before, sizeof before), "cwd");
  pid_t pid = number ? by_number(stack, flags, n) : clone(child_reads, stack + STACK, flags | SIGCHLD, (void *)(long)n);
  if (number && pid < 0 && (errno == ENOSYS || errno == EPERM))
  {
    puts("no clone3");
    exit(0);
  }
  MUST(pid > 0, "clone %x", (unsigned)flags);
  int status = status_of_child(pid);
  MUST(status == 7, "flags %x: status %d", (unsigned)flags, status);
  free(stack);
  MUST(getcwd(after, sizeof after) && strcmp(before, after) == 0, "the child moved its parent: %s", after);
  MUST(access(nth_name(name, n), F_OK) < 0, "the child's folder became its parent's");
  MUST(read_file(folder, name) == 1, "after flags %x", (unsigned)flags);
}

static void *by__fork(void *arg)
{
  pid_t (*raw)(void) = (pid_t(*)(void))dlsym(RTLD_DEFAULT, "_Fork");
  (void)arg;
  for (int n = 0; raw && n < count; n++)
  {
    pid_t pid = raw();
    if (pid == 0)
      child_reads((void *)(long)n);
    int status = status_of_child(pid);
    MUST(status == 7, "_Fork %d: status %d", n, status);
  }
  if (!raw)
    puts("no _Fork");
  return NULL;
}

static void by_vfork(int n, const char *script)
{
  char name[8], cwd[PATH_MAX], path[PATH_MAX];
  nth_name(name, n % count);
  MUST(getcwd(cwd, sizeof cwd), "cwd");
  pid_t pid = vfork();
  if (pid == 0)
  {
    if (chdir(folder) < 0 || read_file(folder, name) != 1)
      _exit(90);
    int fd = open(name, O_RDONLY); /* relative to the child's folder */
    if (fd < 0 || !right_bytes(fd, name))
      _exit(91);
    if (n == 0)
      execl(script, script, (char *)NULL);
    _exit(n == 0 ? 92 : 0);
  }
  int status = status_of_child(pid);
  MUST(status == 0, "vfork %d: status %d", n, status);
  MUST(access(name, F_OK) < 0, "the child's folder became its parent's");
  MUST(getcwd(path, sizeof path) && strcmp(path, cwd) == 0, "%s", path);
  MUST(read_file(folder, name) == 1, "after vfork");
}

int main(int argc, char **argv)
{
  pthread_t thread;
  if (argc < 4)
    return 2;
  alarm(100);
  folder = argv[2];
  count = atoi(argv[3]);
  if (strcmp(argv[1], "fork") == 0)
    while_others_fork();
  else if (strncmp(argv[1], "clone", 5) == 0)
  {
    static const int flags[] = {CLONE_VM, CLONE_VM | CLONE_FILES, CLONE_VM | CLONE_VFORK, CLONE_VM | CLONE_VFORK | CLONE_FILES, CLONE_FILES};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
      by_clone(flags[i], (int)i, argv[1][5] == '3');
  }
  else if (strcmp(argv[1], "_Fork") == 0)
  {
    MUST(pthread_create(&thread, NULL, by__fork, NULL) == 0, "thread");
    pthread_join(thread, NULL);
  }
  else
    for (int n = 0; n < count; n++)
      by_vfork(n, argv[4]);
  puts("right");
  return 0;
}
