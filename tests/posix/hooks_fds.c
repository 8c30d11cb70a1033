/* Descriptor numbers belong to the program.
 *
 *   hooks_fds lowest FOLDER COUNT          a freed number is what the next open returns, on a miss and on a hit
 *   hooks_fds storm FOLDER NAME HOW MS     a thread waits for FOLDER/NAME; meanwhile another takes every number by
 *                                          HOW: dup2, close_range, closefrom
 *   hooks_fds full FOLDER OTHER            RLIMIT_NOFILE is reached: f000, f001 in FOLDER not opened before, OTHER a plain file
 *   hooks_fds none FOLDER                  every descriptor is closed, then files are opened
 *   hooks_fds many N PROGRAM ARG...        exec with N open descriptors
 * Each but the last prints "right". */
#include <pthread.h>
#include <sys/resource.h>

#include "hooks.h"

#define SPARE 1100 /* stderr and friends wait here, above what is tried */
#define TOP 1024

static const char *folder;

static void more_numbers(rlim_t want)
{
  struct rlimit limit;
  MUST(getrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
  limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
  MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= want, "RLIMIT_NOFILE %lu", (unsigned long)want);
}

/* Messages go on although 0, 1 and 2 come and go. */
static void keep_streams(void)
{
  stderr = fdopen(dup3(2, SPARE, O_CLOEXEC), "w");
  stdout = fdopen(dup3(1, SPARE + 1, O_CLOEXEC), "w");
  setvbuf(stderr, NULL, _IONBF, 0);
}

static void take_lowest(int number, int n, int twice)
{
  char name[8], path[PATH_MAX];
  join_path(path, folder, nth_name(name, n));
  for (int i = 0; i <= twice; i++)
  {
    close(number);
    int fd = open(path, O_RDONLY);
    MUST(fd == number, "open of %s after close(%d) is %d", i ? "a hit" : "a miss", number, fd);
    MUST(right_bytes(fd, name), "%s", path);
  }
  int dir = open(folder, O_RDONLY | O_DIRECTORY);
  MUST(dir > number, "folder %d", dir);
  close(number);
  int fd = openat(dir, name, O_RDONLY);
  MUST(fd == number && right_bytes(fd, name), "openat gives %d, not %d", fd, number);
  close(dir);
  close(number);
  MUST(fcntl(number, F_GETFD) < 0, "%d is still open", number);
  fd = open("/dev/null", O_RDWR);
  MUST(fd == number, "%d", fd);
}

static void lowest(int count)
{
  keep_streams();
  for (int n = 0; n < count; n++)
    take_lowest(n % 6, n, 1);
}

struct miss {
  const char *name;
  int fd, err, right;
  volatile int done;
};

static void *wait_for_miss(void *arg)
{
  struct miss *miss = arg;
  char path[PATH_MAX];
  join_path(path, folder, miss->name);
  miss->fd = open(path, O_RDONLY);
  miss->err = errno;
  miss->done = 1;
  return NULL;
}

static int is_null_device(int fd)
{
  struct stat st, null;
  return fstat(fd, &st) == 0 && stat("/dev/null", &null) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == null.st_rdev;
}

static void storm(const char *name, const char *how, long ms)
{
  struct miss miss = {.name = name, .fd = -1};
  pthread_t thread;
  more_numbers(4096);
  keep_streams();
  int null = open("/dev/null", O_RDWR);
  MUST(dup2(null, SPARE + 2) == SPARE + 2, "spare");
  MUST(pthread_create(&thread, NULL, wait_for_miss, &miss) == 0, "thread");
  sleep_ms(ms);
  if (miss.done)
    printf("too quick: the miss was over after %ld ms\n", ms);
  if (strcmp(how, "dup2") == 0)
    for (int fd = 0; fd < TOP; fd++)
      MUST(dup2(SPARE + 2, fd) == fd, "dup2 %d", fd);
  else if (strcmp(how, "close_range") == 0)
    MUST(close_range(3, TOP - 1, 0) == 0, "close_range");
  else
  {
    closefrom(SPARE + 3);
    MUST(close_range(3, SPARE - 1, 0) == 0, "close_range");
  }
  pthread_join(thread, NULL);
  /* A program that closes another thread's socket may see that thread fail; never wrong bytes, never a hang. */
  if (miss.fd >= 0)
    MUST(fcntl(miss.fd, F_GETFD) < 0 || right_bytes(miss.fd, name), "wrong bytes");
  else
    MUST(miss.err == EIO || miss.err == EBADF, "errno %d", miss.err);
  if (strcmp(how, "dup2") == 0)
    for (int fd = 0; fd < TOP; fd++)
      MUST(is_null_device(fd), "descriptor %d was taken away from the program", fd);
  else
    for (int fd = 3; fd < TOP; fd++)
      MUST(fd == miss.fd || fcntl(fd, F_GETFD) < 0, "descriptor %d came into being", fd);
  if (miss.fd >= 0)
    close(miss.fd);
  if (strcmp(how, "dup2") == 0)
    for (int fd = 3; fd < TOP; fd++)
      close(fd);
  MUST(read_file(folder, name) == 1, "afterwards: %s", name);
}

static void full(const char *other)
{
  struct rlimit limit = {40, 40};
  char path[PATH_MAX];
  struct stat st;
  int last = -1, fd;
  MUST(read_file(folder, "f000") == 1, "before");
  MUST(setrlimit(RLIMIT_NOFILE, &limit) == 0, "limit");
  while ((fd = dup(2)) >= 0)
    last = fd;
  MUST(errno == EMFILE && last == 39, "dup %d", last);
  join_path(path, folder, "f000");
  MUST(open(path, O_RDONLY) < 0 && errno == EMFILE, "a hit");
  MUST(stat(path, &st) == 0 && st.st_size == 1600, "stat of a hit needs no descriptor");
  join_path(path, folder, "f001");
  MUST(open(path, O_RDONLY) < 0 && errno == EMFILE, "a miss");
  MUST(!fopen(path, "r") && errno == EMFILE, "fopen of a miss");
  MUST(!opendir(folder) && errno == EMFILE, "opendir");
  MUST(stat(other, &st) == 0, "a plain file");
  MUST(open(other, O_RDONLY) < 0 && errno == EMFILE, "a plain file");
  MUST(open_fds(64) == 40, "%d descriptors", open_fds(64));
  close(last);
  fd = open(other, O_RDONLY);
  MUST(fd == last, "one was free, got %d", fd);
  close(fd);
  close(last - 1);
  close(last - 2); /* a miss may want one more for a moment */
  MUST(read_file(folder, "f001") == 1, "with room again");
  MUST(open_fds(64) == 37, "%d descriptors at the end", open_fds(64));
}

static void none(int closed_up_to)
{
  char name[8];
  int report = fcntl(2, F_DUPFD_CLOEXEC, closed_up_to); /* one that nobody opens above */
  stderr = fdopen(report, "w");
  int out = fcntl(1, F_DUPFD_CLOEXEC, closed_up_to);
  stdout = fdopen(out, "w");
  for (int fd = 0; fd < closed_up_to; fd++)
    close(fd);
  for (int n = 0; n < 10; n++)
    MUST(read_file(folder, nth_name(name, n)) == 1, "%s", name);
  MUST(open_fds(closed_up_to) == 0, "%d descriptors", open_fds(closed_up_to));
  int a = open("/dev/null", O_RDONLY);
  char path[PATH_MAX];
  join_path(path, folder, "f011");
  int b = open(path, O_RDONLY);
  MUST(a == 0 && b == 1 && right_bytes(b, "f011"), "%d %d", a, b);
  DIR *d = opendir(folder);
  MUST(d && dirfd(d) == 2, "opendir");
  closedir(d);
}

static void many(int n, char **argv)
{
  more_numbers((rlim_t)n + 100);
  for (int i = 0; i < n; i++)
    MUST(dup(2) >= 0, "dup %d", i);
  execvp(argv[0], argv);
  MUST(0, "exec");
}

int main(int argc, char **argv)
{
  if (argc < 3)
    return 2;
  alarm(60);
  folder = argv[2];
  if (strcmp(argv[1], "lowest") == 0)
  {
    more_numbers(2048);
    lowest(atoi(argv[3]));
  }
  else if (strcmp(argv[1], "storm") == 0)
    storm(argv[3], argv[4], atol(argv[5]));
  else if (strcmp(argv[1], "full") == 0)
    full(argv[3]);
  else if (strcmp(argv[1], "none") == 0)
  {
    more_numbers(2048);
    none(TOP);
  }
  else
    many(atoi(argv[2]), argv + 3);
  puts("right");
  fflush(stdout);
  return 0;
}
