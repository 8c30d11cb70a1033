/* What the hooks_*.c programs share. They know nothing of prelux: each runs on a plain folder too, where it must succeed
 * just so. A file named X of the test data holds the line "content of X" a hundred times, so that every byte read is
 * known to the reader. Everything here is async-signal-safe. A program that finds something wrong says what on stderr
 * and ends with status 1; one that hangs is ended by its alarm. */
#ifndef TESTS_POSIX_HOOKS_H
#define TESTS_POSIX_HOOKS_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONTENT_LINES 100
#define CONTENT_MAX 16384

#define MUST(condition, ...) \
  do \
  { \
    if (!(condition)) \
    { \
      fprintf(stderr, "%s:%d: %s; errno %d; ", __FILE__, __LINE__, #condition, errno); \
      fprintf(stderr, __VA_ARGS__); \
      fputc('\n', stderr); \
      _exit(1); \
    } \
  } while (0)

/* 1 when the rest of fd is what the file called `name` holds. */
static inline int right_bytes(int fd, const char *name)
{
  char got[CONTENT_MAX], line[300] = "content of ";
  size_t len = strlen(name), want, have = 0;
  ssize_t n;
  memcpy(line + 11, name, len);
  line[11 + len] = '\n';
  want = (12 + len) * CONTENT_LINES;
  while ((n = read(fd, got + have, sizeof got - have)) > 0)
    have += (size_t)n;
  if (n < 0 || have != want)
    return 0;
  for (size_t i = 0; i < want; i += 12 + len)
    if (memcmp(got + i, line, 12 + len) != 0)
      return 0;
  return 1;
}

static inline void join_path(char *out, const char *folder, const char *name)
{
  size_t n = strlen(folder);
  memcpy(out, folder, n);
  out[n] = '/';
  memcpy(out + n + 1, name, strlen(name) + 1);
}

/* 1 right, 0 wrong bytes, -1 could not be opened (errno). */
static inline int read_file(const char *folder, const char *name)
{
  char path[PATH_MAX];
  join_path(path, folder, name);
  int fd = open(path, O_RDONLY);
  if (fd < 0)
    return -1;
  int right = right_bytes(fd, name);
  close(fd);
  return right;
}

/* The n-th name: "f000". */
static inline const char *nth_name(char *out, int n)
{
  out[0] = 'f';
  out[1] = (char)('0' + n / 100 % 10);
  out[2] = (char)('0' + n / 10 % 10);
  out[3] = (char)('0' + n % 10);
  out[4] = 0;
  return out;
}

static inline int open_fds(int below)
{
  int count = 0;
  for (int fd = 0; fd < below; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

static inline void sleep_ms(long ms)
{
  struct timespec left = {ms / 1000, ms % 1000 * 1000000};
  while (nanosleep(&left, &left) < 0 && errno == EINTR)
    ;
}

static inline int status_of_child(pid_t pid)
{
  int status;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      return -1;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#endif
