/* race A B ROUNDS: opens a path that another thread rewrites all the time between A and B, which are of one length and differ in one letter: whether
 * each read gave A or B, and which opens failed. kill A: the supervisor (the parent) is killed while threads open A; what open says then. wait SLOW FAST: one thread opens SLOW, and
 * meanwhile FAST is opened by another. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[4096];
static const char *other;
static volatile int stop;

static void *rewrite(void *arg)
{
  size_t at = 0;
  while (path[at] == other[at])
    at++;
  char a = path[at], b = other[at];
  volatile char *letter = path + at;
  while (!stop)
    *letter = *letter == a ? b : a;
  return arg;
}

static int race(const char *first, const char *second, int rounds)
{
  pthread_t t;
  int seen[3] = {0}, failed = 0;
  strcpy(path, first);
  other = second;
  pthread_create(&t, NULL, rewrite, NULL);
  for (int i = 0; i < rounds; i++)
  {
    char c = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0)
      failed++;
    else
      seen[read(fd, &c, 1) == 1 && c == 'A' ? 0 : c == 'B' ? 1 : 2]++;
    close(fd);
  }
  stop = 1;
  pthread_join(t, NULL);
  printf("%s, %d failed\n", seen[0] + seen[1] + failed == rounds ? "one of the two" : "something else", failed);
  return 0;
}

static void *open_on(void *arg)
{
  int fd;
  while ((fd = open(arg, O_RDONLY)) >= 0)
    close(fd);
  return (void *)(intptr_t)errno;
}

static int killed(char *name)
{
  pthread_t t[4];
  void *err;
  for (int i = 0; i < 4; i++)
    pthread_create(&t[i], NULL, open_on, name);
  usleep(20000);
  kill(getppid(), SIGKILL);
  for (int i = 0; i < 4; i++)
  {
    pthread_join(t[i], &err);
    printf("%s\n", strerror((int)(intptr_t)err));
  }
  return 0;
}

int main(int n, char **v)
{
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (strcmp(v[1], "race") == 0)
    return race(v[2], v[3], atoi(v[4]));
  if (strcmp(v[1], "kill") == 0)
    return killed(v[2]);
  pthread_t t;
  pthread_create(&t, NULL, open_on, v[2]);
  int fd = open(v[3], O_RDONLY);
  printf("%d\n", fd >= 0);
  pthread_join(t, NULL);
  return 0;
}
