/* Preloaded into preluxd: the N-th call of libc by its own code, SQLite's, curl's or anybody's fails (board.h says which). What cannot fail in
 * this way on any system is let through: EIO for an eventfd, ENOSPC for fstat. close() closes and then says that it failed. */
#undef _FORTIFY_SOURCE
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "tests/fault/board.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct board *board;
static __thread bool inside __attribute__((tls_model("initial-exec")));

static void *next(const char *name)
{
  bool was = inside;
  inside = true;
  void *ret = dlsym(RTLD_NEXT, name);
  inside = was;
  return ret;
}

static void *known(void **at, const char *name)
{
  if (!*at)
    *at = next(name);
  return *at;
}

#define NEXT(name) ((__typeof__(name##_next))known((void **)&name##_next, #name))

/* By their number: these must not come back here. */
__attribute__((constructor)) static void set_up(void)
{
  void *few[4];
  const char *path = getenv("PRELUX_FAULT_BOARD");
  int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0) : -1;
  inside = true;
  backtrace(few, 4); /* loads what it needs */
  inside = false;
  if (fd < 0)
    return;
  void *at = (void *)syscall(SYS_mmap, NULL, 4096L, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
  syscall(SYS_close, fd);
  if (at != MAP_FAILED)
    board = at;
}

static void note(const char *name)
{
  void *at[STACK_MAX];
  inside = true;
  int n = backtrace(at, STACK_MAX);
  inside = false;
  for (int i = 0; i < n; i++)
    board->stack[i] = (uint64_t)(uintptr_t)at[i];
  board->depth = (uint64_t)n;
  size_t len = strlen(name);
  memcpy(board->name, name, len < sizeof board->name ? len + 1 : sizeof board->name - 1);
}

/* Shall this call fail? errno is set then. */
static bool fails(const char *name, unsigned kinds)
{
  if (!board || inside || !__atomic_load_n(&board->armed, __ATOMIC_ACQUIRE) || !(board->kinds & kinds))
    return false;
  uint64_t n = __atomic_add_fetch(&board->seen, 1, __ATOMIC_RELAXED);
  if (board->at == 0 || n < board->at || (n > board->at && !board->again))
    return false;
  if (__atomic_fetch_add(&board->failed, 1, __ATOMIC_RELAXED) == 0)
    note(name);
  errno = (int)board->err;
  return true;
}

/* Of a descriptor: what may fail of it. */
static unsigned possible(int fd, unsigned kinds)
{
  struct stat st;
  if (!board || !board->armed || !(board->kinds & kinds))
    return 0;
  int was = errno;
  bool known = syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0;
  errno = was;
  if (!known)
    return 0;
  if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
    return kinds & ~SOCKET;
  return S_ISSOCK(st.st_mode) ? kinds & (SOCKET | NEW_FD | SLOW) : 0;
}

#define WRAP(type, bad, name, kinds, params, args) \
  type name params                                 \
  {                                                \
    static type(*name##_next) params;              \
    return fails(#name, kinds) ? bad : NEXT(name) args; \
  }
/* Half of it, when the board wants no errno. */
#define WRAP_PART(name, kinds, params, args, half)              \
  ssize_t name params                                           \
  {                                                             \
    static ssize_t(*name##_next) params;                        \
    if (!fails(#name, possible(fd, kinds)))                     \
      return NEXT(name) args;                                   \
    return board->err == 0 && n > 1 ? NEXT(name) half : -1;     \
  }

/* ---- memory ---- */

static char early[16384] __attribute__((aligned(16))); /* for dlsym, which asks for memory before malloc is found */
static size_t early_used;

static void *from_early(size_t n)
{
  size_t at = __atomic_fetch_add(&early_used, (n + 31) & ~(size_t)15, __ATOMIC_RELAXED);
  return at + n <= sizeof early ? early + at : NULL;
}

static bool is_early(const void *p)
{
  return (const char *)p >= early && (const char *)p < early + sizeof early;
}

static void *(*malloc_next)(size_t);
static void *(*calloc_next)(size_t, size_t);
static void *(*realloc_next)(void *, size_t);
static void (*free_next)(void *);
static __thread bool finding __attribute__((tls_model("initial-exec")));

static bool find_memory(void)
{
  if (free_next)
    return true;
  if (finding)
    return false;
  finding = true;
  malloc_next = next("malloc");
  calloc_next = next("calloc");
  realloc_next = next("realloc");
  free_next = next("free");
  finding = false;
  return true;
}

void *malloc(size_t n)
{
  if (!find_memory())
    return from_early(n);
  return fails("malloc", MEMORY) ? NULL : malloc_next(n);
}

void *calloc(size_t n, size_t m)
{
  if (!find_memory())
    return from_early(n * m);
  return fails("calloc", MEMORY) ? NULL : calloc_next(n, m);
}

void free(void *p)
{
  if (p && !is_early(p) && find_memory())
    free_next(p);
}

void *realloc(void *p, size_t n)
{
  if (is_early(p))
  {
    void *ret = malloc(n);
    size_t room = (size_t)(early + sizeof early - (char *)p);
    return ret ? memcpy(ret, p, n < room ? n : room) : NULL;
  }
  if (!find_memory())
    return from_early(n);
  return n && fails("realloc", MEMORY) ? NULL : realloc_next(p, n);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
  static int (*posix_memalign_next)(void **, size_t, size_t);
  return fails("posix_memalign", MEMORY) ? ENOMEM : NEXT(posix_memalign)(ret, align, n);
}

WRAP(void *, NULL, aligned_alloc, MEMORY, (size_t align, size_t n), (align, n))
WRAP(void *, NULL, memalign, MEMORY, (size_t align, size_t n), (align, n))
WRAP(void *, MAP_FAILED, mmap, MAP, (void *at, size_t n, int prot, int flags, int fd, off_t off), (at, n, prot, flags, fd, off))
WRAP(void *, MAP_FAILED, mmap64, MAP, (void *at, size_t n, int prot, int flags, int fd, off_t off), (at, n, prot, flags, fd, off))

/* ---- descriptors ---- */

static unsigned of_open(int flags)
{
  unsigned made = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? CHANGE | ROOM : LOOK;
  return NEW_FD | SLOW | made;
}

#define WRAP_OPEN(name, params, args)                                       \
  int name params                                                           \
  {                                                                         \
    static int(*name##_next)();                                             \
    mode_t mode = 0;                                                        \
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)              \
    {                                                                       \
      va_list ap;                                                           \
      va_start(ap, flags);                                                  \
      mode = va_arg(ap, mode_t);                                            \
      va_end(ap);                                                           \
    }                                                                       \
    return fails(#name, of_open(flags)) ? -1 : ((int (*)())NEXT(name)) args; \
  }

WRAP_OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(openat, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))

int close(int fd)
{
  static int (*close_next)(int);
  bool wrong = fails("close", possible(fd, CLOSE));
  int ret = NEXT(close)(fd);
  if (!wrong)
    return ret;
  errno = (int)board->err;
  return -1;
}

#define WRAP_FCNTL(name)                                                                        \
  int name(int fd, int cmd, ...)                                                                \
  {                                                                                             \
    static int (*name##_next)(int, int, ...);                                                   \
    va_list ap;                                                                                 \
    va_start(ap, cmd);                                                                          \
    void *arg = va_arg(ap, void *);                                                             \
    va_end(ap);                                                                                 \
    unsigned kinds = cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC          ? NEW_FD                  \
                     : cmd == F_SETLK || cmd == F_SETLKW || cmd == F_OFD_SETLK ? LOOK | SLOW    \
                                                                       : 0;                     \
    return fails(#name, possible(fd, kinds)) ? -1 : NEXT(name)(fd, cmd, arg);                   \
  }

WRAP_FCNTL(fcntl)
WRAP_FCNTL(fcntl64)
WRAP(int, -1, socket, NEW_FD, (int domain, int type, int proto), (domain, type, proto))
WRAP(int, -1, socketpair, NEW_FD, (int domain, int type, int proto, int fds[2]), (domain, type, proto, fds))
WRAP(int, -1, accept4, NEW_FD, (int fd, struct sockaddr *at, socklen_t *len, int flags), (fd, at, len, flags))
WRAP(int, -1, accept, NEW_FD, (int fd, struct sockaddr *at, socklen_t *len), (fd, at, len))
WRAP(int, -1, memfd_create, NEW_FD, (const char *name, unsigned flags), (name, flags))
WRAP(int, -1, eventfd, NEW_FD, (unsigned count, int flags), (count, flags))
WRAP(int, -1, signalfd, NEW_FD, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
WRAP(int, -1, epoll_create1, NEW_FD, (int flags), (flags))
WRAP(int, -1, pipe2, NEW_FD, (int fds[2], int flags), (fds, flags))
WRAP(int, -1, pipe, NEW_FD, (int fds[2]), (fds))
WRAP(int, -1, inotify_init1, NEW_FD, (int flags), (flags))
WRAP(int, -1, inotify_add_watch, ROOM | LOOK, (int fd, const char *path, uint32_t mask), (fd, path, mask))
WRAP(int, -1, epoll_ctl, op == EPOLL_CTL_DEL ? 0 : MAP, (int fd, int op, int of, struct epoll_event *e), (fd, op, of, e))
WRAP(int, -1, dup, NEW_FD, (int fd), (fd))

/* ---- files ---- */

WRAP_PART(read, LOOK | SLOW | PART, (int fd, void *to, size_t n), (fd, to, n), (fd, to, n / 2))
WRAP_PART(pread, LOOK | SLOW | PART, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), (fd, to, n / 2, at))
WRAP_PART(pread64, LOOK | SLOW | PART, (int fd, void *to, size_t n, off_t at), (fd, to, n, at), (fd, to, n / 2, at))
WRAP_PART(write, CHANGE | ROOM | SLOW | PART, (int fd, const void *from, size_t n), (fd, from, n), (fd, from, n / 2))
WRAP_PART(pwrite, CHANGE | ROOM | SLOW | PART, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at), (fd, from, n / 2, at))
WRAP_PART(pwrite64, CHANGE | ROOM | SLOW | PART, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at), (fd, from, n / 2, at))
WRAP_PART(copy_file_range, CHANGE | ROOM | SLOW | PART, (int fd, off_t *from, int to, off_t *at, size_t n, unsigned flags),
          (fd, from, to, at, n, flags), (fd, from, to, at, n / 2, flags))

#define OF_FD(name, kinds, params, args)                                    \
  int name params                                                           \
  {                                                                         \
    static int(*name##_next) params;                                        \
    return fails(#name, possible(fd, kinds)) ? -1 : NEXT(name) args;        \
  }

ssize_t pwritev64(int fd, const struct iovec *v, int n, off_t at)
{
  static ssize_t (*pwritev64_next)(int, const struct iovec *, int, off_t);
  return fails("pwritev64", possible(fd, CHANGE | ROOM | SLOW)) ? -1 : NEXT(pwritev64)(fd, v, n, at);
}

OF_FD(fstat, LOOK, (int fd, struct stat *st), (fd, st))
OF_FD(fstat64, LOOK, (int fd, struct stat64 *st), (fd, st))
OF_FD(fstatfs64, LOOK, (int fd, struct statfs64 *st), (fd, st))
OF_FD(ftruncate, CHANGE | SLOW, (int fd, off_t n), (fd, n))
OF_FD(ftruncate64, CHANGE | SLOW, (int fd, off_t n), (fd, n))
OF_FD(fallocate64, CHANGE | ROOM | SLOW, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
OF_FD(fchmod, CHANGE, (int fd, mode_t mode), (fd, mode))
OF_FD(futimens, CHANGE, (int fd, const struct timespec ts[2]), (fd, ts))
OF_FD(fsync, SYNC | SLOW, (int fd), (fd))
OF_FD(fdatasync, SYNC | SLOW, (int fd), (fd))
OF_FD(syncfs, SYNC, (int fd), (fd))
OF_FD(flock, LOOK | SLOW, (int fd, int op), (fd, op))
WRAP(int, -1, stat, LOOK, (const char *path, struct stat *st), (path, st))
WRAP(int, -1, stat64, LOOK, (const char *path, struct stat64 *st), (path, st))
WRAP(int, -1, lstat, LOOK, (const char *path, struct stat *st), (path, st))
WRAP(int, -1, lstat64, LOOK, (const char *path, struct stat64 *st), (path, st))
WRAP(int, -1, fstatat, LOOK, (int fd, const char *path, struct stat *st, int flags), (fd, path, st, flags))
WRAP(int, -1, fstatat64, LOOK, (int fd, const char *path, struct stat64 *st, int flags), (fd, path, st, flags))
WRAP(int, -1, mkdir, CHANGE | ROOM, (const char *path, mode_t mode), (path, mode))
WRAP(int, -1, mkdirat, CHANGE | ROOM, (int fd, const char *path, mode_t mode), (fd, path, mode))
WRAP(int, -1, rename, CHANGE | ROOM, (const char *from, const char *to), (from, to))
WRAP(int, -1, renameat, CHANGE | ROOM, (int fd, const char *from, int to_fd, const char *to), (fd, from, to_fd, to))
WRAP(int, -1, renameat2, CHANGE | ROOM, (int fd, const char *from, int to_fd, const char *to, unsigned flags), (fd, from, to_fd, to, flags))
WRAP(int, -1, linkat, CHANGE | ROOM, (int fd, const char *from, int to_fd, const char *to, int flags), (fd, from, to_fd, to, flags))
WRAP(int, -1, symlinkat, CHANGE | ROOM, (const char *target, int fd, const char *path), (target, fd, path))
WRAP(ssize_t, -1, readlinkat, LOOK, (int fd, const char *path, char *to, size_t n), (fd, path, to, n))
WRAP(int, -1, mknodat, CHANGE | ROOM, (int fd, const char *path, mode_t mode, dev_t dev), (fd, path, mode, dev))
WRAP(int, -1, unlink, CHANGE, (const char *path), (path))
WRAP(int, -1, unlinkat, CHANGE, (int fd, const char *path, int flags), (fd, path, flags))
WRAP(int, -1, rmdir, CHANGE, (const char *path), (path))
WRAP(int, -1, fchmodat, CHANGE, (int fd, const char *path, mode_t mode, int flags), (fd, path, mode, flags))
WRAP(int, -1, utimensat, CHANGE, (int fd, const char *path, const struct timespec ts[2], int flags), (fd, path, ts, flags))
WRAP(DIR *, NULL, opendir, NEW_FD | LOOK, (const char *path), (path))
WRAP(DIR *, NULL, fdopendir, LOOK, (int fd), (fd))
WRAP(struct dirent *, NULL, readdir, LOOK, (DIR *dir), (dir))
WRAP(struct dirent64 *, NULL, readdir64, LOOK, (DIR *dir), (dir))

/* ---- the network, threads ---- */

WRAP(int, -1, connect, SOCKET, (int fd, const struct sockaddr *to, socklen_t len), (fd, to, len))
/* A pair of its own wakes curl's thread: nobody resets that, and a daemon that is never woken waits for as long as curl polls. */
static unsigned outside(int fd)
{
  int domain = 0, type = 0, was = errno;
  socklen_t len = sizeof domain, type_len = sizeof type;
  bool own = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
             getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == 0 && type == SOCK_STREAM;
  errno = was;
  return own ? 0 : SOCKET;
}

WRAP(ssize_t, -1, send, outside(fd), (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))
WRAP(ssize_t, -1, recv, outside(fd), (int fd, void *to, size_t n, int flags), (fd, to, n, flags))
WRAP(ssize_t, -1, sendmsg, SOCKET, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
WRAP(ssize_t, -1, recvmsg, SOCKET, (int fd, struct msghdr *m, int flags), (fd, m, flags))

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
  static int (*pthread_create_next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  return fails("pthread_create", THREAD) ? EAGAIN : NEXT(pthread_create)(t, attr, run, arg);
}
