/* Calls in interleaved pairs: the exported symbol (libprelux's when it is preloaded) beside libc's own, found by a handle.
 *
 *   calls PLAIN_DIR [MAPPED_DIR]
 *
 * PLAIN_DIR holds `f` (a file) and `big` (64 MiB); MAPPED_DIR shows the same through a mapping, cached. One JSON object a
 * line: {"name", "a_ns", "b_ns", "ratio", "ratio_low", "ratio_high"}: medians over ROUNDS rounds of the two in turn, and the
 * 10th and 90th percentile of the rounds' ratios. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
} hooked = {open, close, stat, lstat, fstat, access, fopen, fclose, opendir, readdir, closedir, readlink, getcwd, realpath}, libc;

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

static void measure(const char *name, void (*a)(void), void (*b)(void), int n)
{
  double ta[ROUNDS], tb[ROUNDS], ratio[ROUNDS];
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
    ratio[i] = ta[i] / tb[i];
  }
  qsort(ta, ROUNDS, sizeof *ta, by_value);
  qsort(tb, ROUNDS, sizeof *tb, by_value);
  qsort(ratio, ROUNDS, sizeof *ratio, by_value);
  printf("{\"name\": \"%s\", \"a_ns\": %.1f, \"b_ns\": %.1f, \"ratio\": %.3f, \"ratio_low\": %.3f, \"ratio_high\": %.3f}\n", name, ta[ROUNDS / 2],
         tb[ROUNDS / 2], ratio[ROUNDS / 2], ratio[ROUNDS / 10], ratio[ROUNDS - 1 - ROUNDS / 10]);
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
  ROW("stat", stat, 4000);
  ROW("lstat", lstat, 4000);
  ROW("fstat", fstat, 4000);
  ROW("access", access, 4000);
  ROW("fopen+fclose", fopen, 1000);
  ROW("readlink (EINVAL)", readlink, 4000);
  ROW("realpath", realpath, 500);
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
