/* Calls in interleaved pairs: the exported symbol (libprelux's when it is preloaded) beside libc's own, found by a handle.
 *
 *   calls PLAIN_DIR [MAPPED_DIR]
 *
 * PLAIN_DIR holds `f` (a file) and `big` (64 MiB); MAPPED_DIR shows the same through a mapping, cached. One JSON object a
 * line: {"name", "a_ns", "b_ns", "over_ns", "ratio", "ratio_low", "ratio_high"}: medians over ROUNDS rounds of the two in turn (over_ns: of
 * the rounds' differences), and the 10th and 90th percentile of the rounds' ratios. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 61

static struct
{
  __typeof__(open) *open;
  __typeof__(close) *close;
  __typeof__(stat) *stat;
  __typeof__(lstat) *lstat;
  __typeof__(fstat) *fstat;
  __typeof__(access) *access;
  __typeof__(fopen) *fopen;
  __typeof__(fclose) *fclose;
  __typeof__(opendir) *opendir;
  __typeof__(readdir) *readdir;
  __typeof__(closedir) *closedir;
  __typeof__(readlink) *readlink;
  __typeof__(getcwd) *getcwd;
  __typeof__(realpath) *realpath;
  __typeof__(read) *read;
  __typeof__(pread) *pread;
  __typeof__(syscall) *syscall;
} hooked = {open, close, stat, lstat, fstat, access, fopen, fclose, opendir, readdir, closedir, readlink, getcwd, realpath, read, pread, syscall},
  libc;

static char *path_a, *path_b; /* what A and B work on */
static int keep_fd;

static void bind_libc(void)
{
  void *h = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
#define BIND(f) libc.f = (__typeof__(libc.f))dlsym(h, #f)
  BIND(open);
  BIND(close);
  BIND(stat);
  BIND(lstat);
  BIND(fstat);
  BIND(access);
  BIND(fopen);
  BIND(fclose);
  BIND(opendir);
  BIND(readdir);
  BIND(closedir);
  BIND(readlink);
  BIND(getcwd);
  BIND(realpath);
  BIND(read);
  BIND(pread);
  BIND(syscall);
}

#define PAIR(name, body) \
  static void name##_a(void) { const __typeof__(hooked) *f = &hooked; const char *p = path_a; (void)p; (void)f; body } \
  static void name##_b(void) { const __typeof__(hooked) *f = (void *)&libc; const char *p = path_b; (void)p; (void)f; body }

static struct stat st;
static char text[4096];

PAIR(open_close, int fd = f->open(p, O_RDONLY); if (fd >= 0) f->close(fd);)
PAIR(open_fstat_close, int fd = f->open(p, O_RDONLY); f->fstat(fd, &st); f->close(fd);)
PAIR(stat, f->stat(p, &st);)
PAIR(lstat, f->lstat(p, &st);)
PAIR(fstat, f->fstat(keep_fd, &st);)
PAIR(read, ssize_t n = f->read(keep_fd, text, 1); (void)n;)
PAIR(pread, ssize_t n = f->pread(keep_fd, text, 1, 0); (void)n;)
PAIR(access, f->access(p, R_OK);)
PAIR(fopen, FILE *s = f->fopen(p, "r"); if (s) f->fclose(s);)
PAIR(readlink, ssize_t n = f->readlink(p, text, sizeof text); (void)n;)
PAIR(getcwd, char *s = f->getcwd(text, sizeof text); (void)s;)
PAIR(realpath, char *s = f->realpath(p, text); (void)s;)
PAIR(list, DIR *d = f->opendir(p); if (d) { while (f->readdir(d)) ; f->closedir(d); })

static void read_all(const __typeof__(hooked) *f, const char *path)
{
  static char buf[1 << 20];
  int fd = f->open(path, O_RDONLY);
  while (read(fd, buf, sizeof buf) > 0)
    ;
  f->close(fd);
}

static void read_big_a(void) { read_all(&hooked, path_a); }
static void read_big_b(void) { read_all((void *)&libc, path_b); }

static void map_all(const __typeof__(hooked) *f, const char *path)
{
  int fd = f->open(path, O_RDONLY);
  f->fstat(fd, &st);
  volatile char *m = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  for (off_t i = 0; i < st.st_size; i += 4096)
    (void)m[i];
  munmap((void *)m, (size_t)st.st_size);
  f->close(fd);
}

static void map_big_a(void) { map_all(&hooked, path_a); }
static void map_big_b(void) { map_all((void *)&libc, path_b); }

/* What no library can go below that opens the cache file by its path: the same calls by libc alone. path_a is the cache file's. */
static void bare_a(void)
{
  int fd = libc.open(path_a, O_RDONLY);
  libc.syscall(SYS_fstat, fd, &st); /* libc's own is a slower one, of a path */
  libc.close(fd);
}

/* And that looks whether it has opened what was promised. */
static void bare_looks_a(void)
{
  struct stat own;
  int fd = libc.open(path_a, O_RDONLY);
  libc.syscall(SYS_fstat, fd, &own);
  libc.syscall(SYS_fstat, fd, &st);
  libc.close(fd);
}

static double now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double batch(void (*call)(void), int n)
{
  double start = now_ns();
  for (int i = 0; i < n; i++)
    call();
  return (now_ns() - start) / n;
}

static int by_value(const void *x, const void *y)
{
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

/* ta, tb: of rounds in turn, nanoseconds a call. Both are sorted afterwards. */
static void report(const char *name, double *ta, double *tb)
{
  double ratio[ROUNDS], over[ROUNDS];
  for (int i = 0; i < ROUNDS; i++)
  {
    ratio[i] = ta[i] / tb[i];
    over[i] = ta[i] - tb[i];
  }
  qsort(ta, ROUNDS, sizeof *ta, by_value);
  qsort(tb, ROUNDS, sizeof *tb, by_value);
  qsort(ratio, ROUNDS, sizeof *ratio, by_value);
  qsort(over, ROUNDS, sizeof *over, by_value);
  printf("{\"name\": \"%s\", \"a_ns\": %.1f, \"b_ns\": %.1f, \"over_ns\": %.1f, \"ratio\": %.3f, \"ratio_low\": %.3f, \"ratio_high\": %.3f}\n", name,
         ta[ROUNDS / 2], tb[ROUNDS / 2], over[ROUNDS / 2], ratio[ROUNDS / 2], ratio[ROUNDS / 10], ratio[ROUNDS - 1 - ROUNDS / 10]);
}

static void measure(const char *name, void (*a)(void), void (*b)(void), int n)
{
  double ta[ROUNDS], tb[ROUNDS];
  batch(a, n / 10 + 1);
  batch(b, n / 10 + 1);
  for (int i = 0; i < ROUNDS; i++)
  {
    /* Whoever goes second finds warmer caches: take turns. */
    if (i & 1)
      tb[i] = batch(b, n);
    ta[i] = batch(a, n);
    if (!(i & 1))
      tb[i] = batch(b, n);
  }
  report(name, ta, tb);
}

static void open_many(const __typeof__(hooked) *f, const char *path, double *ret_open, double *ret_close)
{
  enum { MANY = 500 };
  static int fds[MANY];
  double start = now_ns();
  for (int i = 0; i < MANY; i++)
    fds[i] = f->open(path, O_RDONLY);
  double between = now_ns();
  for (int i = 0; i < MANY; i++)
    f->close(fds[i]);
  *ret_close = (now_ns() - between) / MANY;
  *ret_open = (between - start) / MANY;
}

/* open and close, each for itself. */
static void measure_apart(const char *kind)
{
  double open_a[ROUNDS], open_b[ROUNDS], close_a[ROUNDS], close_b[ROUNDS];
  char name[64];
  for (int i = -1; i < ROUNDS; i++)
  {
    int at = i < 0 ? 0 : i;
    if (i & 1)
      open_many((void *)&libc, path_b, &open_b[at], &close_b[at]);
    open_many(&hooked, path_a, &open_a[at], &close_a[at]);
    if (!(i & 1))
      open_many((void *)&libc, path_b, &open_b[at], &close_b[at]);
  }
  snprintf(name, sizeof name, "%s open", kind);
  report(name, open_a, open_b);
  snprintf(name, sizeof name, "%s close", kind);
  report(name, close_a, close_b);
}

/* path_a is mapped: the file that the kernel has there instead. */
static void measure_bare(void)
{
  static char real[4096];
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", keep_fd);
  ssize_t n = libc.readlink(link, real, sizeof real - 1);
  if (n <= 0)
    return;
  real[n] = 0;
  path_a = real;
  measure("bare open+fstat+close of the cache file", bare_a, open_fstat_close_b, 2000);
  measure("bare open+fstat+fstat+close of the cache file", bare_looks_a, open_fstat_close_b, 2000);
}

static char *join(const char *dir, const char *name)
{
  char *p = malloc(strlen(dir) + strlen(name) + 2);
  sprintf(p, "%s/%s", dir, name);
  return p;
}

static void families(const char *kind, const char *dir_a, const char *dir_b)
{
  char name[64];
#define ROW(label, fn, n) (snprintf(name, sizeof name, "%s %s", kind, label), measure(name, fn##_a, fn##_b, n))
  path_a = join(dir_a, "f");
  path_b = join(dir_b, "f");
  keep_fd = hooked.open(path_a, O_RDONLY);
  ROW("open+close", open_close, 2000);
  ROW("open+fstat+close", open_fstat_close, 2000);
  measure_apart(kind);
  ROW("read", read, 4000);
  ROW("pread", pread, 4000);
  ROW("stat", stat, 4000);
  ROW("lstat", lstat, 4000);
  ROW("fstat", fstat, 4000);
  ROW("access", access, 4000);
  ROW("fopen+fclose", fopen, 1000);
  ROW("readlink (EINVAL)", readlink, 4000);
  ROW("realpath", realpath, 500);
  if (strcmp(dir_a, dir_b) != 0)
    measure_bare();
  close(keep_fd);
  path_a = join(dir_a, "missing");
  path_b = join(dir_b, "missing");
  ROW("stat ENOENT", stat, 4000);
  ROW("open ENOENT", open_close, 4000);
  path_a = (char *)dir_a;
  path_b = (char *)dir_b;
  ROW("opendir+readdir+closedir", list, 500);
  if (strcmp(dir_a, dir_b) == 0)
    return;
  path_a = join(dir_a, "big");
  path_b = join(dir_b, "big");
  ROW("read 64 MiB", read_big, 1);
  ROW("mmap 64 MiB", map_big, 1);
}

int main(int argc, char **argv)
{
  if (argc < 2)
    return 2;
  bind_libc();
  families("unmapped", argv[1], argv[1]);
  measure("unmapped getcwd", getcwd_a, getcwd_b, 2000);
  if (chdir(argv[1]) == 0)
  {
    path_a = path_b = "f";
    measure("unmapped stat, relative", stat_a, stat_b, 4000);
    path_a = path_b = "./../missing";
    measure("unmapped stat ENOENT, with ..", stat_a, stat_b, 4000);
  }
  if (argc > 2)
    families("cached", argv[2], argv[1]);
  return 0;
}
