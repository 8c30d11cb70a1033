/* What a supervised program has: memory, descriptors, folder, umask, by the number of the thread that waits. Such a number cannot become another's
 * while it waits; that it still does is asked (SECCOMP_IOCTL_NOTIF_ID_VALID) after these and before their outcome is used. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "deep/call.h"
#include "lib/base/sys.h"

enum { PAGE = 4096, NR_PIDFD_OPEN = 434, NR_PIDFD_GETFD = 438, PIDFD_THREAD = O_EXCL };

long prelux_deep_text(pid_t tid, uint64_t at, char *out, size_t cap)
{
  size_t got = 0;
  while (got < cap)
  {
    size_t n = PAGE - (at + got) % PAGE;
    if (n > cap - got)
      n = cap - got;
    struct iovec here = {out + got, n}, there = {(void *)(uintptr_t)(at + got), n};
    long rc = prelux_sys(SYS_process_vm_readv, tid, &here, 1, &there, 1, 0);
    if (rc <= 0)
      return rc == 0 ? -EFAULT : rc;
    const char *end = memchr(out + got, 0, (size_t)rc);
    if (end)
      return end - out;
    got += (size_t)rc;
  }
  return -ENAMETOOLONG;
}

int prelux_deep_read(pid_t tid, uint64_t at, void *out, size_t len)
{
  struct iovec here = {out, len}, there = {(void *)(uintptr_t)at, len};
  long rc = prelux_sys(SYS_process_vm_readv, tid, &here, 1, &there, 1, 0);
  return rc == (long)len ? 0 : rc < 0 ? (int)rc : -EFAULT;
}

int prelux_deep_write(pid_t tid, uint64_t at, const void *in, size_t len)
{
  struct iovec here = {(void *)in, len}, there = {(void *)(uintptr_t)at, len};
  long rc = len ? prelux_sys(SYS_process_vm_writev, tid, &here, 1, &there, 1, 0) : 0;
  return rc == (long)len ? 0 : rc < 0 ? (int)rc : -EFAULT;
}

int prelux_deep_open_proc(pid_t tid, const char *what, int flags)
{
  char name[64];
  snprintf(name, sizeof name, "/proc/%d/%s", (int)tid, what);
  return (int)prelux_sys(SYS_openat, AT_FDCWD, name, flags | O_CLOEXEC, 0);
}

/* Word number `word` behind `mark`. */
static long status_word(pid_t tid, const char *mark, int base, int word)
{
  char text[1024];
  int fd = prelux_deep_open_proc(tid, "status", O_RDONLY);
  if (fd < 0)
    return fd;
  long n = prelux_sys(SYS_read, fd, text, sizeof text - 1);
  prelux_sys(SYS_close, fd);
  if (n <= 0)
    return -ESRCH;
  text[n] = 0;
  char *p = strstr(text, mark);
  if (!p)
    return -ENOENT;
  long value = strtol(p + strlen(mark), &p, base);
  while (word-- > 0)
    value = strtol(p, &p, base);
  return value;
}

pid_t prelux_deep_process(pid_t tid)
{
  long pid = status_word(tid, "\nTgid:\t", 10, 0);
  return pid > 0 ? (pid_t)pid : tid;
}

pid_t prelux_deep_parent(pid_t tid)
{
  return (pid_t)status_word(tid, "\nPPid:\t", 10, 0);
}

bool prelux_deep_shares_fds(void)
{
  static int known; /* atomic: 1 no, 2 yes */
  int is = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (is)
    return is == 2;
  long self = prelux_sys(NR_PIDFD_OPEN, getpid(), 0), fd = self < 0 ? self : prelux_sys(NR_PIDFD_GETFD, self, self, 0);
  if (fd >= 0)
    prelux_sys(SYS_close, fd);
  if (self >= 0)
    prelux_sys(SYS_close, self);
  __atomic_store_n(&known, fd >= 0 ? 2 : 1, __ATOMIC_RELAXED);
  return fd >= 0;
}

/* Before Linux 6.9 there are descriptors of whole processes only. */
int prelux_deep_get_fd(pid_t tid, int fd)
{
  char name[32];
  long pidfd = prelux_sys(NR_PIDFD_OPEN, tid, PIDFD_THREAD);
  if (pidfd == -EINVAL)
    pidfd = prelux_sys(NR_PIDFD_OPEN, prelux_deep_process(tid), 0);
  long rc = pidfd < 0 ? pidfd : prelux_sys(NR_PIDFD_GETFD, pidfd, fd, 0);
  if (pidfd >= 0)
    prelux_sys(SYS_close, pidfd);
  if (rc >= 0 || rc == -EBADF || rc == -ESRCH)
    return (int)rc;
  /* Forbidden, as in some containers: another open file of the same name has to do. */
  snprintf(name, sizeof name, "fd/%d", fd);
  rc = prelux_deep_open_proc(tid, name, O_RDONLY | O_NONBLOCK);
  return rc >= 0 ? (int)rc : prelux_deep_open_proc(tid, name, O_PATH);
}

unsigned prelux_deep_umask(pid_t tid)
{
  long mask = status_word(tid, "\nUmask:\t", 8, 0);
  return mask < 0 ? 077 : (unsigned)mask & 0777;
}

/* The last of the four numbers is that for files. */
bool prelux_deep_same_user(pid_t tid)
{
  return status_word(tid, "\nUid:\t", 10, 3) == (long)geteuid();
}

bool prelux_deep_same_root(pid_t tid)
{
  char name[32];
  struct stat theirs, ours;
  snprintf(name, sizeof name, "/proc/%d/root", (int)tid);
  return prelux_sys(SYS_newfstatat, AT_FDCWD, name, &theirs, 0) == 0 && prelux_sys(SYS_newfstatat, AT_FDCWD, "/", &ours, 0) == 0 &&
         theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

static uint64_t space_of(const char *whose, const char *space)
{
  char name[48];
  struct stat st;
  snprintf(name, sizeof name, "/proc/%s/ns/%s", whose, space);
  return prelux_sys(SYS_newfstatat, AT_FDCWD, name, &st, 0) == 0 ? st.st_ino : 0;
}

/* What a process may do with files, as its status says it. Length or -errno. */
static long rights(const char *whose, char *out, size_t cap)
{
  static const char *const lines[] = {"\nUid:\t", "\nGid:\t", "\nGroups:\t", "\nCapEff:\t"};
  char name[40], text[8192]; /* more groups than fit are not compared: not alike */
  size_t at = 0;
  snprintf(name, sizeof name, "/proc/%s/status", whose);
  long fd = prelux_sys(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0), n, got = 0;
  if (fd < 0)
    return fd;
  while (got < (long)sizeof text - 1 && (n = prelux_sys(SYS_read, fd, text + got, sizeof text - 1 - (size_t)got)) > 0)
    got += n;
  prelux_sys(SYS_close, fd);
  text[got] = 0;
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
  {
    const char *line = strstr(text, lines[i]);
    size_t len = line ? strcspn(line + 1, "\n") : 0;
    if (!line || at + len + 1 >= cap)
      return -EIO;
    memcpy(out + at, line + 1, len);
    at += len;
  }
  out[at] = 0;
  return (long)at;
}

bool prelux_deep_same_view(pid_t tid)
{
  static const char *const spaces[] = {"mnt", "user"};
  char name[16], theirs[4096], ours[4096];
  snprintf(name, sizeof name, "%d", (int)tid);
  for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
    if (space_of(name, spaces[i]) != space_of("self", spaces[i]))
      return false;
  return rights(name, theirs, sizeof theirs) > 0 && rights("thread-self", ours, sizeof ours) > 0 && strcmp(theirs, ours) == 0;
}

/* ---- programs below a supervised one that the library is in */

enum { KNOWN = 4096, RANGES = 4, LOOKS = 64, KNOWN_MS = 100 };
struct known {
  pid_t tid;
  uint64_t since; /* ms: a number is another thread's after a while, and nobody tells */
  unsigned looks; /* ld.so has not loaded all yet: it is looked at again */
  struct {
    uint64_t lo, hi;
  } code[RANGES]; /* where the instructions of libc and of the library are; none: the library is not in it */
};
static struct known known[KNOWN];
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER; /* nothing is waited for behind it */

static uint64_t now_ms(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool begins(const char *text, const char *with)
{
  return strncmp(text, with, strlen(with)) == 0;
}

/* One line of /proc/TID/maps. */
static void take_line(const char *line, struct known *k, unsigned *n, bool *ours, bool *loader)
{
  char mode[8];
  unsigned long long lo, hi;
  const char *name = strrchr(line, '/');
  if (!name)
    return;
  bool library = begins(name, "/libprelux.so");
  *ours |= library;
  *loader |= begins(name, "/ld-");
  if (!library && !begins(name, "/libc.so.6") && !begins(name, "/libc-2.") && !begins(name, "/libpthread"))
    return;
  if (*n < RANGES && sscanf(line, "%llx-%llx %7s", &lo, &hi, mode) == 3 && mode[2] == 'x')
  {
    k->code[*n].lo = lo;
    k->code[(*n)++].hi = hi;
  }
}

/* k: what was known before, and is known now. */
static void look(pid_t tid, struct known *k)
{
  int fd = prelux_deep_open_proc(tid, "maps", O_RDONLY);
  FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
  bool ours = false, loader = false;
  unsigned n = 0, looks = k->tid == tid ? k->looks : 0;
  char line[PATH_MAX + 128];
  *k = (struct known){.tid = tid, .since = now_ms()};
  while (f && fgets(line, sizeof line, f))
    take_line(line, k, &n, &ours, &loader);
  if (f)
    fclose(f);
  k->looks = ours || !loader ? LOOKS : looks + 1;
  if (!ours)
    memset(k->code, 0, sizeof k->code);
}

static struct known known_of(pid_t tid)
{
  pthread_mutex_lock(&known_lock);
  struct known k = known[(unsigned)tid % KNOWN];
  pthread_mutex_unlock(&known_lock);
  return k;
}

static void keep(pid_t tid, const struct known *k)
{
  pthread_mutex_lock(&known_lock);
  known[(unsigned)tid % KNOWN] = *k;
  pthread_mutex_unlock(&known_lock);
}

/* Who executes has its process's number afterwards. */
void prelux_deep_forget(pid_t tid)
{
  const struct known none = {.tid = 0};
  keep(tid, &none);
  keep(prelux_deep_process(tid), &none);
}

bool prelux_deep_may_be_reached(pid_t tid)
{
  struct known k = known_of(tid);
  return k.tid == tid && (k.looks < LOOKS || k.code[0].hi);
}

bool prelux_deep_is_reached(pid_t tid, uint64_t ip)
{
  struct known k = known_of(tid);
  if (k.tid != tid || k.looks < LOOKS || now_ms() - k.since > KNOWN_MS)
  {
    look(tid, &k);
    keep(tid, &k);
  }
  for (int i = 0; i < RANGES; i++)
    if (ip >= k.code[i].lo && ip < k.code[i].hi)
      return true;
  return false;
}
