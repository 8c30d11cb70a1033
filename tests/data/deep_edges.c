/* Linked statically. What is rare, and may hang or go wrong below `run --deep`; the first argument says what. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char buf[4096];

static int show(const char *name)
{
  int fd = open(name, O_RDONLY);
  ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof buf - 1);
  buf[n < 0 ? 0 : n] = 0;
  printf("%s%s", n < 0 ? strerror(errno) : buf, n > 0 && buf[n - 1] == '\n' ? "" : "\n");
  return 0;
}

static void *look(void *arg)
{
  struct stat st;
  return stat(arg, &st) < 0 ? "failed" : "there";
}

/* A file system that does not answer, because its daemon is this program: a thread asks it, and meanwhile another asks for `fast`. */
static int beside(char *slow, char *fast)
{
  pthread_t t;
  void *text;
  char options[128];
  int fuse = open("/dev/fuse", O_RDWR);
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse);
  if (fuse < 0 || mount("fuse", slow, "fuse", 0, options) < 0)
    return puts("not here") < 0;
  pthread_create(&t, NULL, look, slow);
  usleep(100000);
  for (int i = 0; i < 100; i++)
    look(fast);
  puts("fast");
  close(fuse);
  pthread_join(t, &text);
  puts(text);
  return 0;
}

/* A folder by a relative name. */
static int watch(char *folder)
{
  char *last = strrchr(folder, '/');
  *last = 0;
  int in = inotify_init();
  if (chdir(folder) < 0)
    return 1;
  printf("%d\n", inotify_add_watch(in, last + 1, IN_OPEN) >= 0);
  open(last + 1, O_RDONLY);
  struct pollfd p = {.fd = in, .events = POLLIN};
  printf("%d\n", poll(&p, 1, 20000));
  return 0;
}

/* chdir leaves all registers but those of its outcome as they are. */
static long chdir_by_hand(const char *path, int *changed)
{
#if defined(__x86_64__)
  const char *rdi = path;
  long rax = SYS_chdir, rsi = 6, rdx = 2;
  register long r10 __asm__("r10") = 10, r8 __asm__("r8") = 8, r9 __asm__("r9") = 9;
  __asm__ volatile("syscall" : "+a"(rax), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9)::"rcx", "r11", "memory");
  *changed |= rdi != path || rsi != 6 || rdx != 2 || r10 != 10 || r8 != 8 || r9 != 9;
  return rax;
#else
  return chdir(path) < 0 ? -errno : 0;
#endif
}

/* Until there is no supervisor. */
static int keep(char *folder)
{
  int changed = 0;
  printf("%d %d\n", getpid(), getppid());
  while (!changed && chdir_by_hand(folder, &changed) != -ENOSYS)
    ;
  puts(changed ? "changed" : "kept");
  return 0;
}

/* Children that execute at the same moment. */
static int many(char *program, int n)
{
  char *argv[] = {program, "a child", NULL};
  int pipes[2], status, done = 0;
  if (pipe(pipes) < 0)
    return 1;
  for (int i = 0; i < n; i++)
    if (fork() == 0)
    {
      close(pipes[1]);
      dup2(open("/dev/null", O_WRONLY), 1);
      if (read(pipes[0], buf, 1) == 0)
        execv(program, argv);
      _exit(9);
    }
  close(pipes[1]);
  while (wait(&status) > 0)
    done += WEXITSTATUS(status) == 4;
  printf("%d\n", done);
  return 0;
}

/* A child, and its child, that make no call that is asked about. */
static int idle(void)
{
  if (fork() == 0)
  {
    if (fork() == 0)
      sleep(1);
    wait(NULL);
    _exit(0);
  }
  wait(NULL);
  return 0;
}

/* In a mount name space of its own a folder holds something else. */
static int space(char *folder, char *file)
{
  if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("none", folder, "tmpfs", 0, NULL) < 0)
    return puts("not here") < 0;
  char name[4096];
  snprintf(name, sizeof name, "%s/%s", folder, file);
  int fd = open(name, O_WRONLY | O_CREAT, 0644);
  if (write(fd, "in here\n", 8) != 8)
    return 1;
  return show(name);
}

/* With no capabilities, by the number of the user that has them all. */
static int rights(char *file)
{
  struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}};
  show(file);
  if (syscall(SYS_capset, &head, none) < 0)
    return 1;
  return show(file);
}

/* What /proc says of itself, its folder and a file. */
static int own(char *folder, char *file)
{
  static const char *const links[] = {"exe", "cwd", "fd/3"};
  if (chdir(folder) < 0 || open(file, O_RDONLY) != 3)
    return 1;
  for (int i = 0; i < 3; i++)
  {
    char name[64];
    snprintf(name, sizeof name, "/proc/%s/%s", i == 1 ? "thread-self" : "self", links[i]);
    ssize_t n = readlink(name, buf, sizeof buf);
    printf("%.*s\n", n < 0 ? 0 : (int)n, buf);
  }
  return 0;
}

/* A child that this program traces: it opens a file, changes its folder, and becomes a program. */
static int traced(char *file, char *folder, char *program)
{
  char *argv[] = {program, "show", file, NULL};
  int status;
  pid_t pid = fork();
  if (pid == 0)
  {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    show(file);
    puts(chdir(folder) < 0 ? strerror(errno) : "moved");
    execv(program, argv);
    puts(strerror(errno));
    _exit(0);
  }
  while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
    ptrace(PTRACE_CONT, pid, NULL, NULL);
  return WEXITSTATUS(status);
}

/* What is open, and what it was called. */
static int numbers(int n, char **v)
{
  for (int i = 0; i < n; i++)
    if (i != 1 || strncmp(v[i], "/dev/fd/", 8) != 0)
      printf("%s ", i == 0 ? strrchr(v[i], '/') ? "a program" : v[i] : v[i]);
  for (int fd = 0; fd < 64; fd++)
    if (fcntl(fd, F_GETFD) >= 0)
      printf(" %d", fd);
  puts("");
  return 0;
}

int main(int n, char **v)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (n > 1 && strcmp(v[1], "beside") == 0)
    return beside(v[2], v[3]);
  if (n > 1 && strcmp(v[1], "watch") == 0)
    return watch(v[2]);
  if (n > 1 && strcmp(v[1], "keep") == 0)
    return keep(v[2]);
  if (n > 1 && strcmp(v[1], "many") == 0)
    return many(v[2], atoi(v[3]));
  if (n > 1 && strcmp(v[1], "idle") == 0)
    return idle();
  if (n > 1 && strcmp(v[1], "space") == 0)
    return space(v[2], v[3]);
  if (n > 1 && strcmp(v[1], "rights") == 0)
    return rights(v[2]);
  if (n > 1 && strcmp(v[1], "traced") == 0)
    return traced(v[2], v[3], v[4]);
  if (n > 1 && strcmp(v[1], "own") == 0)
    return own(v[2], v[3]);
  if (n > 1 && strcmp(v[1], "show") == 0)
    return show(v[2]);
  if (n > 2)
    return show(v[n - 2]) + numbers(n, v);
  return 4;
}
