/* Linked statically. What a program below `run --deep` may do besides plain calls; the first argument says what. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char buf[64 << 10];

static int count(int fd)
{
  int n = 0;
  for (long got; (got = syscall(SYS_getdents64, fd, buf, sizeof buf)) > 0;)
    for (long at = 0; at < got; at += *(unsigned short *)(buf + at + 16))
      n++;
  return n;
}

static void *count_elsewhere(void *arg)
{
  int fd = *(int *)arg;
  printf("another thread: %d\n", count(fd));
  return NULL;
}

/* A folder that was not read to its end is opened again by the same number; one is read again behind its end, and by another thread. */
static int list(char *folder)
{
  pthread_t t;
  int fd = open(folder, O_RDONLY | O_DIRECTORY);
  printf("begun %d\n", syscall(SYS_getdents64, fd, buf, sizeof buf) > 0);
  close(fd);
  fd = open(folder, O_RDONLY | O_DIRECTORY);
  printf("%d\n", count(fd));
  printf("behind its end: %d\n", count(fd));
  pthread_create(&t, NULL, count_elsewhere, &fd);
  pthread_join(t, NULL);
  lseek(fd, 0, SEEK_SET);
  printf("%d\n", count(fd));
  lseek(fd, 0, SEEK_SET);
  pthread_create(&t, NULL, count_elsewhere, &fd);
  pthread_join(t, NULL);
  return 0;
}

/* The file is written by the link of a descriptor that is open for reading. */
static int by_link(char *file)
{
  char name[64];
  struct stat st;
  int fd = open(file, O_RDONLY);
  sprintf(name, "/proc/self/fd/%d", fd);
  int again = open(name, O_WRONLY | O_TRUNC);
  printf("%d\n", again >= 0 && write(again, "by link\n", 8) == 8);
  close(again);
  sprintf(name, "/dev/fd/%d", fd);
  printf("%d\n", stat(name, &st) == 0 && S_ISREG(st.st_mode));
  return 0;
}

static void *leave(void *arg)
{
  usleep(atoi(arg));
  _exit(5);
}

/* Ends while another thread changes its folder. */
static int move(char *folder, char *us)
{
  pthread_t t;
  pthread_create(&t, NULL, leave, us);
  for (;;)
    if (chdir(folder) < 0 || chdir("/") < 0)
      perror(folder);
}

static int run(char *const argv[], int fd)
{
  int status = 0;
  fflush(stdout);
  if (fork() == 0)
  {
    if (fd >= 0)
      syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
    else
      execv(argv[0], argv);
    printf("%s\n", strerror(errno));
    exit(9);
  }
  wait(&status);
  return WEXITSTATUS(status);
}

/* name: a script or program, by its name, and (fd) by a descriptor. */
static int executes(char *folder, char *name, char *how)
{
  char *argv[] = {name, "one", "two", NULL};
  if (chdir(folder) < 0)
    return 1;
  printf("%d\n", run(argv, strcmp(how, "fd") == 0 ? open(name, O_RDONLY) : -1));
  return 0;
}

static int maps(void)
{
  int n = 0;
  FILE *f = fopen("/proc/self/maps", "r");
  while (f && fgets(buf, sizeof buf, f))
    n++;
  fclose(f);
  return n;
}

/* Children that share this program's memory until they execute. */
static int vforks(char *program)
{
  char *argv[] = {program, "child", NULL};
  int before = maps(), status, sum = 0;
  for (int i = 0; i < 20; i++)
  {
    pid_t pid = vfork();
    if (pid == 0)
    {
      execv(program, argv);
      _exit(9);
    }
    waitpid(pid, &status, 0);
    sum += WEXITSTATUS(status);
  }
  printf("%d, %s\n", sum, maps() - before <= 2 ? "no maps" : "maps");
  return 0;
}

/* Says after a while what a file holds. */
static int later(char *file, char *ms)
{
  usleep(1000 * atoi(ms));
  int fd = open(file, O_RDONLY);
  ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf);
  return write(1, buf, (size_t)n) < 0;
}

static int privileges(void)
{
  char line[256];
  FILE *f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f))
    if (strncmp(line, "NoNewPrivs", 10) == 0)
      fputs(line, stdout);
  return 0;
}

int main(int n, char **v)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (n < 2)
    return privileges();
  if (strcmp(v[1], "list") == 0)
    return list(v[2]);
  if (strcmp(v[1], "link") == 0)
    return by_link(v[2]);
  if (strcmp(v[1], "move") == 0)
    return move(v[2], v[3]);
  if (strcmp(v[1], "exec") == 0)
    return executes(v[2], v[3], v[4]);
  if (strcmp(v[1], "vfork") == 0)
    return vforks(v[2]);
  if (strcmp(v[1], "later") == 0)
    return later(v[2], v[3]);
  for (int i = 1; i < n; i++)
    printf("%s\n", v[i]);
  return 4;
}
