/* One of the processes of the soak (soak.py): mixed calls at a leisurely pace, each checked and timed.
 *   soak_worker start N RO RW PLAIN STATE HELD NAMES HOT COLD SEED     N processes, which execute the next line
 *   soak_worker work ID RO RW PLAIN STATE HELD NAMES HOT COLD SEED
 * RO has hot/%05d and cold/%05d (content: the name, over and over) and names/%03d/%06d (empty); RW is written to; PLAIN has hot, too, and is no mapping.
 * STATE/counts is shared by all; what is wrong is a line in STATE/findings; STATE/files.ID says at the end which files there are below RW. SIGTERM ends it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HIT, PLAIN, STAT, LIST, COLD, WRITE, OWN, KINDS };
#define BUCKETS 256
#define HELD_MAX 64
#define FILES 8
#define A_FOLDER 1000
#define COPIES 512 /* of the name in a file */
#define SIZE 5120  /* a name is 10 bytes */

struct counts {
  _Atomic uint64_t ready, of[KINDS][BUCKETS];
};

static struct counts *counts;
static const char *ro, *rw, *plain, *state;
static int id, held_max, names, hot, cold, held[HELD_MAX], own[FILES];
static unsigned long seed;
static volatile sig_atomic_t over;

static void stop(int sig)
{
  over = 1;
}

static unsigned pick(unsigned n)
{
  seed = seed * 6364136223846793005ul + 1442695040888963407ul;
  return (unsigned)(seed >> 33) % n;
}

static void wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void wrong(const char *fmt, ...)
{
  char line[512], path[512];
  int err = errno, n = snprintf(line, sizeof line, "process %d: ", id);
  va_list ap;
  va_start(ap, fmt);
  n += vsnprintf(line + n, sizeof line - (size_t)n - 60, fmt, ap);
  va_end(ap);
  n += snprintf(line + n, sizeof line - (size_t)n, ": %.40s\n", strerror(err));
  snprintf(path, sizeof path, "%s/findings", state);
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, line, (size_t)n) != n)
    abort();
  close(fd);
}

static void count(int kind, const struct timespec *from)
{
  struct timespec to;
  clock_gettime(CLOCK_MONOTONIC, &to);
  double ns = (double)(to.tv_sec - from->tv_sec) * 1e9 + (double)(to.tv_nsec - from->tv_nsec);
  int at = (int)(log2(ns < 1 ? 1 : ns) * 6);
  atomic_fetch_add(&counts->of[kind][at < BUCKETS ? at : BUCKETS - 1], 1);
}

static void content(char *out, const char *name)
{
  for (int i = 0; i < COPIES; i++)
    memcpy(out + i * 10, name, 10);
}

/* True: all of it is as it must be. */
static bool same(int fd, const char *name)
{
  char want[SIZE], got[SIZE + 1];
  content(want, name);
  ssize_t n = pread(fd, got, sizeof got, 0);
  return n == SIZE && memcmp(want, got, SIZE) == 0;
}

static void read_one(int kind, const char *root, const char *folder, int number)
{
  char path[512], name[16];
  struct timespec from;
  snprintf(name, sizeof name, "%.4s%06d", folder, number);
  snprintf(path, sizeof path, "%s/%s/%06d", root, folder, number);
  clock_gettime(CLOCK_MONOTONIC, &from);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
  {
    wrong("open %s", path);
    return;
  }
  if (!same(fd, name))
    wrong("bytes of %s", path);
  if (kind == COLD && held_max)
  {
    int k = (int)pick((unsigned)held_max); /* one that was held goes: what is open must be good for ever */
    int before = held[k];
    held[k] = fd;
    fd = before;
  }
  if (fd >= 0)
    close(fd);
  count(kind, &from);
}

static void stat_one(void)
{
  char path[512];
  struct stat st;
  struct timespec from;
  int n = (int)pick((unsigned)names);
  snprintf(path, sizeof path, "%s/names/%03d/%06d", ro, n / A_FOLDER, n);
  clock_gettime(CLOCK_MONOTONIC, &from);
  if (stat(path, &st) < 0 || st.st_size != 0)
    wrong("stat %s", path);
  count(STAT, &from);
}

static void list_one(void)
{
  char path[512];
  struct timespec from;
  int folder = (int)pick((unsigned)(names / A_FOLDER)), n = 0;
  snprintf(path, sizeof path, "%s/names/%03d", ro, folder);
  clock_gettime(CLOCK_MONOTONIC, &from);
  DIR *d = opendir(path);
  while (d && readdir(d))
    n++;
  if (n != A_FOLDER + 2)
    wrong("%d names in %s", n, path);
  if (d)
    closedir(d);
  count(LIST, &from);
}

static void own_path(char path[512], int k)
{
  snprintf(path, 512, "%s/w%04d/f%d", rw, id, k);
}

static void write_one(int k)
{
  char path[512], name[16], bytes[SIZE];
  struct timespec from;
  int before = own[k];
  own_path(path, k);
  snprintf(name, sizeof name, "%04d%06d", id % 10000, abs(before) % 999999 + 1);
  content(bytes, name);
  clock_gettime(CLOCK_MONOTONIC, &from);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, bytes, SIZE) != SIZE)
    wrong("write %s", path);
  if (fd >= 0 && close(fd) < 0)
    wrong("close %s", path);
  own[k] = abs(before) % 999999 + 1;
  count(WRITE, &from);
}

/* Reads what it has written, or removes it. */
static void own_one(int k)
{
  char path[512], name[16];
  struct timespec from;
  own_path(path, k);
  clock_gettime(CLOCK_MONOTONIC, &from);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(name, sizeof name, "%04d%06d", id % 10000, own[k]);
  if ((fd >= 0) != (own[k] > 0))
    wrong("%s, which %s", path, own[k] > 0 ? "is written" : "is not there");
  else if (fd >= 0 && !same(fd, name))
    wrong("bytes of %s", path);
  if (fd >= 0)
    close(fd);
  if (own[k] > 0 && pick(4) == 0)
  {
    if (unlink(path) < 0)
      wrong("unlink %s", path);
    own[k] = -own[k];
  }
  count(OWN, &from);
}

static void one(void)
{
  unsigned r = pick(100);
  if (r < 40)
    read_one(HIT, ro, "hot0", (int)pick((unsigned)hot));
  else if (r < 50)
    read_one(PLAIN, plain, "hot0", (int)pick((unsigned)hot));
  else if (r < 65)
    stat_one();
  else if (r < 68)
    list_one();
  else if (r < 80)
    read_one(COLD, ro, "cold", (int)pick((unsigned)cold));
  else if (r < 90)
    write_one((int)pick(FILES));
  else
    own_one((int)pick(FILES));
}

static int work(void)
{
  char path[512];
  struct timespec nap;
  FILE *f;
  snprintf(path, sizeof path, "%s/w%04d", rw, id);
  if (mkdir(path, 0700) < 0 && errno != EEXIST)
    wrong("mkdir %s", path);
  for (int k = 0; k < held_max; k++)
  {
    snprintf(path, sizeof path, "%s/hot0/%06d", ro, (int)pick((unsigned)hot));
    held[k] = open(path, O_RDONLY | O_CLOEXEC);
    if (held[k] < 0)
      wrong("open %s", path);
  }
  atomic_fetch_add(&counts->ready, 1);
  while (!over)
  {
    one();
    nap = (struct timespec){0, (long)pick(1800) * 1000000};
    if (nap.tv_nsec >= 1000000000)
      nap = (struct timespec){1, nap.tv_nsec - 1000000000};
    nanosleep(&nap, NULL);
  }
  snprintf(path, sizeof path, "%s/files.%d", state, id);
  f = fopen(path, "w");
  for (int k = 0; f && k < FILES; k++)
    if (own[k] > 0)
      fprintf(f, "w%04d/f%d %04d%06d\n", id, k, id % 10000, own[k]);
  return f && fclose(f) == 0 ? 0 : 1;
}

/* The processes are this one's children; it ends when they have ended. */
static int start(int n, char **argv)
{
  char number[16];
  pid_t pids[4096];
  int status, failed = 0;
  for (int i = 0; i < n; i++)
  {
    if ((pids[i] = fork()) == 0)
    {
      snprintf(number, sizeof number, "%d", i);
      argv[1] = (char *)"work";
      argv[2] = number;
      execv(argv[0], argv);
      _exit(127);
    }
    if (pids[i] < 0)
      return 1;
  }
  while (!over)
    pause();
  for (int i = 0; i < n; i++)
    kill(pids[i], SIGTERM);
  for (int i = 0; i < n; i++)
    if (waitpid(pids[i], &status, 0) < 0 || status != 0)
      failed++;
  return failed != 0;
}

int main(int argc, char **argv)
{
  char path[512];
  if (argc != 12)
    return 2;
  sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
  if (strcmp(argv[1], "start") == 0)
    return start(atoi(argv[2]) < 4096 ? atoi(argv[2]) : 4096, argv);
  id = atoi(argv[2]);
  ro = argv[3], rw = argv[4], plain = argv[5], state = argv[6];
  held_max = atoi(argv[7]) < HELD_MAX ? atoi(argv[7]) : HELD_MAX;
  names = atoi(argv[8]), hot = atoi(argv[9]), cold = atoi(argv[10]);
  seed = strtoul(argv[11], NULL, 10) * 1000003u + (unsigned long)id;
  snprintf(path, sizeof path, "%s/counts", state);
  int fd = open(path, O_RDWR | O_CLOEXEC);
  counts = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (counts == MAP_FAILED)
    return 1;
  close(fd);
  return work();
}
