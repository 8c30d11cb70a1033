/* Look-ups that race with creations in another process.
 *
 *   lookups FOLDER SOURCE TOTAL PROCESSES THREADS GRACE_MS
 *
 * A child makes SOURCE/come-0, come-1, ... one after another; PROCESSES times THREADS look them up as FOLDER/come-N, with
 * `stays` (there from the start) and names that never are. On a plain folder both are the same one and GRACE_MS is 0.
 * Wrong is:
 *   stays not found; a name found that never was;
 *   come-N found before it was made;
 *   come-N not found though the look-up began GRACE_MS after it was made, or after another look-up, of any process, had found it.
 * Prints "lookups wrong made". */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

enum { NAMES = 20000, BATCH = 4096, PAUSE_US = 1500, SLACK_MS = 10 /* two ticks of CLOCK_MONOTONIC_COARSE */ };

struct shared
{
  long long total;
  atomic_llong left, done, wrong;
  atomic_int begun, made;
  _Atomic int64_t made_ns[NAMES];
  atomic_bool seen[NAMES]; /* a look-up that has returned found it */
};

static struct shared *shared;
static const char *folder, *source;
static int64_t grace_ns;

static int64_t now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static _Noreturn void maker(void)
{
  char path[4096];
  for (int i = 0; i < NAMES && atomic_load(&shared->done) < shared->total; i++)
  {
    snprintf(path, sizeof path, "%s/come-%d", source, i);
    atomic_store(&shared->begun, i + 1);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0)
      _exit(1);
    close(fd);
    atomic_store(&shared->made_ns[i], now());
    atomic_store(&shared->made, i + 1);
    usleep(PAUSE_US);
  }
  _exit(0);
}

static bool look(const char *path, unsigned how)
{
  struct stat st;
  errno = 0;
  int rc = how % 4 == 0 ? access(path, F_OK) : how % 4 == 1 ? faccessat(AT_FDCWD, path, R_OK, 0) : how % 4 == 2 ? lstat(path, &st)
                                                                                                                : stat(path, &st);
  if (rc < 0 && errno != ENOENT)
  {
    perror(path);
    exit(3);
  }
  return rc == 0;
}

static void wrong(const char *path, const char *what)
{
  if (atomic_fetch_add(&shared->wrong, 1) < 5)
    fprintf(stderr, "%s: %s\n", path, what);
}

static void look_up_come(char *path, size_t at, size_t cap, int i, unsigned how)
{
  snprintf(path + at, cap - at, "come-%d", i);
  bool seen = atomic_load(&shared->seen[i]);
  int64_t made_ns = atomic_load(&shared->made_ns[i]), start = now();
  bool there = look(path, how);
  if (there && !seen)
    atomic_store(&shared->seen[i], true);
  if (there && i >= atomic_load(&shared->begun))
    wrong(path, "found before it was made");
  if (!there && seen)
    wrong(path, "not found after it had been found");
  if (!there && made_ns && start - made_ns > grace_ns)
    wrong(path, "not found though it is there for long enough");
}

static void *looker(void *arg)
{
  unsigned seed = (unsigned)(uintptr_t)arg + (unsigned)getpid();
  char path[4096];
  size_t at = (size_t)snprintf(path, sizeof path, "%s/", folder);
  while (atomic_fetch_sub(&shared->left, BATCH) > 0)
  {
    int made = atomic_load(&shared->made);
    for (unsigned n = 0; n < BATCH; n++)
    {
      unsigned r = (unsigned)rand_r(&seed);
      if (n % 8 == 0)
      {
        strcpy(path + at, "stays");
        if (!look(path, r))
          wrong(path, "not found");
      }
      else if (n % 8 == 1)
      {
        snprintf(path + at, sizeof path - at, "never-%u", r % 16);
        if (look(path, r))
          wrong(path, "found");
      }
      else
      {
        /* Around the one that comes next, and one of all. */
        int i = n % 256 == 2 ? (int)(r % NAMES) : made - 4 + (int)(r % 8);
        look_up_come(path, at, sizeof path, i < 0 ? 0 : i < NAMES ? i : NAMES - 1, r >> 8);
      }
    }
    atomic_fetch_add(&shared->done, BATCH);
  }
  return NULL;
}

static _Noreturn void process(int threads)
{
  pthread_t ids[64];
  for (int i = 0; i < threads; i++)
    pthread_create(&ids[i], NULL, looker, (void *)(uintptr_t)(i + 1));
  for (int i = 0; i < threads; i++)
    pthread_join(ids[i], NULL);
  exit(0);
}

int main(int argc, char **argv)
{
  if (argc != 7 || atoi(argv[5]) > 64)
    return 2;
  folder = argv[1];
  source = argv[2];
  int processes = atoi(argv[4]), threads = atoi(argv[5]), status, bad = 0;
  grace_ns = (atoll(argv[6]) + SLACK_MS) * 1000000;
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED)
    return 2;
  shared->total = atoll(argv[3]);
  atomic_store(&shared->left, shared->total);
  fflush(stdout);
  for (int i = -1; i < processes; i++)
  {
    pid_t pid = fork();
    if (pid == 0 && i < 0)
      maker();
    if (pid == 0)
      process(threads);
  }
  while (wait(&status) > 0)
    bad |= status;
  printf("%lld %lld %d\n", atomic_load(&shared->done), atomic_load(&shared->wrong), atomic_load(&shared->made));
  return bad ? 1 : 0;
}
