/* Threads that come, use files in every way, fork, and go, for so many seconds:
 *
 *   hooks_storm FOLDER SCRATCH SECONDS COUNT
 *
 * FOLDER has f000 ... of COUNT files; SCRATCH is where files are made. Prints "right". It is made for a sanitizer: nothing here is shared
 * between threads but atomics, so what ThreadSanitizer finds is of the calls' own making. A thread has its own seed, so a run differs
 * from another only in how they are interleaved. */
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "hooks.h"

#define THREADS 12
#define WORKS 12 /* pieces of work of one thread */
#define STACK (256 << 10)

extern char **environ;

static const char *folder, *scratch;
static int count;
static atomic_int stop, threads_made, children_made;

struct worker
{
  uint64_t seed;
  int number;
  char name[8]; /* of a file that is there */
};

static unsigned any(struct worker *w, unsigned below)
{
  w->seed ^= w->seed << 13;
  w->seed ^= w->seed >> 7;
  w->seed ^= w->seed << 17;
  return (unsigned)(w->seed >> 20) % below;
}

static void reads(struct worker *w)
{
  MUST(read_file(folder, w->name) == 1, "%s", w->name);
}

static void streams(struct worker *w)
{
  char path[PATH_MAX];
  join_path(path, folder, w->name);
  FILE *f = fopen(path, "r");
  MUST(f, "%s", path);
  MUST(fseek(f, 11, SEEK_SET) == 0 && getc(f) == 'f', "%s", path);
  fclose(f);
}

static void maps(struct worker *w)
{
  char path[PATH_MAX];
  struct stat st;
  join_path(path, folder, w->name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  MUST(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
  char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  MUST(p != MAP_FAILED, "%s", path);
  close(fd);
  MUST(memcmp(p + st.st_size - 5, w->name, 4) == 0, "%s", path);
  munmap(p, (size_t)st.st_size);
}

static void copies(struct worker *w)
{
  char path[PATH_MAX];
  join_path(path, folder, w->name);
  int fd = open(path, O_RDONLY), second = dup(fd), third = fcntl(fd, F_DUPFD_CLOEXEC, 100);
  MUST(fd >= 0 && second >= 0 && third >= 100, "%s", path);
  MUST(dup3(third, second, O_CLOEXEC) == second, "%s", path);
  close(fd);
  MUST(right_bytes(second, w->name), "%s", path);
  close(second);
  MUST(lseek(third, 0, SEEK_CUR) > 0, "%s", path); /* one offset */
  close(third);
}

static void walks(struct worker *w)
{
  int seen = 0;
  DIR *d = opendir(folder);
  MUST(d, "%s", folder);
  for (struct dirent *e = readdir(d); e; e = readdir(d))
    seen += e->d_name[0] == 'f' && e->d_name[4] == 0;
  MUST(seen == count, "%d names", seen);
  int fd = openat(dirfd(d), w->name, O_RDONLY);
  MUST(fd >= 0 && right_bytes(fd, w->name), "%s", w->name);
  close(fd);
  closedir(d);
}

static void looks(struct worker *w)
{
  char path[PATH_MAX], real[PATH_MAX];
  struct stat st, other;
  join_path(path, folder, w->name);
  MUST(stat(path, &st) == 0 && st.st_size == 16 * CONTENT_LINES && access(path, R_OK) == 0, "%s", path);
  MUST(realpath(path, real) && lstat(real, &other) == 0 && st.st_ino == other.st_ino, "%s", path);
  join_path(path, folder, "none");
  MUST(open(path, O_RDONLY) < 0 && errno == ENOENT, "%s", path);
}

static void writes(struct worker *w)
{
  char path[PATH_MAX], other[PATH_MAX + 8], line[64];
  struct stat st;
  snprintf(path, sizeof path, "%s/t%d-%d", scratch, w->number, getpid());
  snprintf(other, sizeof other, "%s.moved", path);
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644), n = snprintf(line, sizeof line, "thread %d\n", w->number);
  MUST(fd >= 0 && write(fd, line, (size_t)n) == n && fstat(fd, &st) == 0 && st.st_size == n, "%s", path);
  MUST(any(w, 2) == 0 || fsync(fd) == 0, "%s", path);
  close(fd);
  MUST(rename(path, other) == 0, "%s", path);
  FILE *f = fopen(other, "r");
  MUST(f && fgets(line, sizeof line, f) && atoi(line + 7) == w->number, "%s: %s", path, line);
  fclose(f);
  MUST(unlink(other) == 0 && access(other, F_OK) < 0, "%s", other);
}

static void forks(struct worker *w)
{
  char path[PATH_MAX];
  int how = (int)any(w, 3);
  join_path(path, folder, w->name);
  pid_t pid = fork();
  MUST(pid >= 0, "fork");
  if (pid == 0)
  {
    if (read_file(folder, w->name) != 1)
      _exit(90);
    if (how == 0)
      execl("/bin/sh", "sh", "-c", "read -r x < \"$0\"; [ \"$x\" = \"content of $1\" ] && exit 7", path, w->name, (char *)NULL);
    if (how == 1 && (chdir(folder) || open(w->name, O_RDONLY) < 0))
      _exit(91);
    _exit(how == 0 ? 92 : 7);
  }
  atomic_fetch_add(&children_made, 1);
  int status = status_of_child(pid);
  MUST(status == 7, "child of %d: status %d", how, status);
}

static void spawns(struct worker *w)
{
  char path[PATH_MAX];
  pid_t pid;
  posix_spawn_file_actions_t actions;
  join_path(path, folder, w->name);
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, path, O_RDONLY, 0);
  char *argv[] = {"sh", "-c", "read -r x; test \"$x\" = \"content of $0\"", w->name, NULL};
  MUST(posix_spawn(&pid, "/bin/sh", &actions, NULL, argv, environ) == 0, "spawn");
  posix_spawn_file_actions_destroy(&actions);
  atomic_fetch_add(&children_made, 1);
  int status = status_of_child(pid);
  MUST(status == 0, "spawned: status %d", status);
}

static void vforks(struct worker *w)
{
  char path[PATH_MAX];
  join_path(path, folder, w->name);
  pid_t pid = vfork();
  if (pid == 0)
    _exit(access(path, R_OK) ? 90 : 7);
  int status = status_of_child(pid);
  MUST(pid > 0 && status == 7, "vfork: status %d", status);
}

static void *work(void *arg)
{
  static void (*const works[])(struct worker *) = {reads, reads, streams, maps, copies, walks, looks, writes};
  struct worker w = {.number = (int)(long)arg};
  w.seed = 88172645463325252u + (uint64_t)w.number * 2654435761u;
  for (int i = 0; i < WORKS && !atomic_load(&stop); i++)
  {
    nth_name(w.name, (int)any(&w, (unsigned)count));
    works[any(&w, sizeof works / sizeof *works)](&w);
  }
  nth_name(w.name, (int)any(&w, (unsigned)count));
  if (w.number % 3 == 0)
    (w.number % 2 ? forks : w.number % 4 ? spawns : vforks)(&w);
  return NULL;
}

int main(int argc, char **argv)
{
  pthread_t threads[THREADS];
  pthread_attr_t attr;
  if (argc < 5)
    return 2;
  folder = argv[1];
  scratch = argv[2];
  count = atoi(argv[4]);
  time_t end = time(NULL) + atoi(argv[3]);
  alarm((unsigned)atoi(argv[3]) + 100);
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  for (int i = 0, slot = 0; i < THREADS || time(NULL) < end; i++, slot = i % THREADS)
  {
    if (i >= THREADS)
      pthread_join(threads[slot], NULL);
    MUST(pthread_create(&threads[slot], &attr, work, (void *)(long)i) == 0, "thread %d", i);
    atomic_fetch_add(&threads_made, 1);
  }
  atomic_store(&stop, 1);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  fprintf(stderr, "%d threads, %d children\n", atomic_load(&threads_made), atomic_load(&children_made));
  puts("right");
  return 0;
}
