/* Binding of libc's functions, and what stands in for them until then.
 *
 * prelux_real starts as zeros. prelux_real_bind() first fills every member with an answer that is always safe (raw
 * system calls for what allocators and sanitizers use while they set themselves up, ENOSYS for the rest), then replaces
 * each by what dlsym(RTLD_NEXT) finds. So a call that comes in the middle, from inside dlsym, finds a working function. */
#include "shim/real.h"

#include <stdarg.h>

#include "lib/base/sys.h"
#include "shim/state.h"

/* The oldest version of dlsym: glibc 2.34 gave it a new one when it moved into libc. */
#if defined(__x86_64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");
#elif defined(__aarch64__)
__asm__(".symver dlsym, dlsym@GLIBC_2.17");
#endif

struct prelux_real prelux_real;

static const char names[] =
#define CALL(family, name, flags, pending, why) #name "\0"
#include "shim/calls.h"
#undef CALL
  ;

static const unsigned char call_flags[] = {
#define CALL(family, name, flags, pending, why) (flags),
#include "shim/calls.h"
#undef CALL
};

enum { N_CALLS = sizeof(call_flags) / sizeof(call_flags[0]) };
_Static_assert(sizeof(struct prelux_real) == N_CALLS * sizeof(void *), "one pointer a call, in the order of calls.h");

enum pending { NONE, SERVE, SETTLE, NATIVE };
#define CALL(family, name, flags, pending, why)                                                  \
  _Static_assert(sizeof(why) > 4 && (pending) >= NONE && (pending) <= NATIVE, #name ": a cell is empty");
#include "shim/calls.h"
#undef CALL

static long missing_int(void)
{
  errno = ENOSYS;
  return -1;
}

static void *missing_ptr(void)
{
  errno = ENOSYS;
  return NULL;
}

bool prelux_real_has(const void *fn)
{
  return fn && fn != (const void *)missing_int && fn != (const void *)missing_ptr;
}

static int raw_openat(int dirfd, const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  unsigned mode = va_arg(ap, unsigned);
  va_end(ap);
  return (int)prelux_ret(prelux_sys(SYS_openat, dirfd, path, flags, mode));
}

static int raw_open(const char *path, int flags, ...)
{
  va_list ap;
  va_start(ap, flags);
  unsigned mode = va_arg(ap, unsigned);
  va_end(ap);
  return (int)prelux_ret(prelux_sys(SYS_openat, AT_FDCWD, path, flags, mode));
}

static int raw_close(int fd)
{
  return (int)prelux_ret(prelux_sys(SYS_close, fd));
}

static ssize_t raw_readlink(const char *path, char *buf, size_t n)
{
  return prelux_ret(prelux_sys(SYS_readlinkat, AT_FDCWD, path, buf, n));
}

static int raw_access(const char *path, int how)
{
  return (int)prelux_ret(prelux_sys(SYS_faccessat, AT_FDCWD, path, how));
}

static int raw_fstatat(int dirfd, const char *path, struct stat *st, int flags)
{
  return (int)prelux_ret(prelux_sys(SYS_newfstatat, dirfd, path, st, flags));
}

static int raw_stat(const char *path, struct stat *st)
{
  return raw_fstatat(AT_FDCWD, path, st, 0);
}

static int raw_lstat(const char *path, struct stat *st)
{
  return raw_fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW);
}

static int raw_fstat(int fd, struct stat *st)
{
  return (int)prelux_ret(prelux_sys(SYS_fstat, fd, st));
}

static int raw_xstat(int ver, const char *path, struct stat *st)
{
  return raw_stat(path, st);
}

static int raw_lxstat(int ver, const char *path, struct stat *st)
{
  return raw_lstat(path, st);
}

static int raw_fxstat(int ver, int fd, struct stat *st)
{
  return raw_fstat(fd, st);
}

static int raw_fxstatat(int ver, int dirfd, const char *path, struct stat *st, int flags)
{
  return raw_fstatat(dirfd, path, st, flags);
}

static int raw_statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *st)
{
  return (int)prelux_ret(prelux_sys(SYS_statx, dirfd, path, flags, mask, st));
}

static int raw_dup2(int from, int to)
{
  if (from == to) return prelux_sys(SYS_fcntl, from, F_GETFD) < 0 ? (int)prelux_ret(-EBADF) : to;
  return (int)prelux_ret(prelux_sys(SYS_dup3, from, to, 0));
}

/* struct stat and struct stat64 are one layout where prelux runs. */
_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "one layout");

static void fill_safe(void)
{
  void **slot = (void **)&prelux_real;
  for (size_t i = 0; i < N_CALLS; i++) slot[i] = call_flags[i] & C_PTR ? (void *)missing_ptr : (void *)missing_int;
  struct prelux_real *p = &prelux_real;
  p->open = p->open64 = p->__open = p->__open64 = raw_open;
  p->openat = p->openat64 = raw_openat;
  p->close = raw_close;
  p->readlink = raw_readlink;
  p->access = raw_access;
  p->stat = raw_stat;
  p->lstat = raw_lstat;
  p->fstat = raw_fstat;
  p->fstatat = raw_fstatat;
  p->stat64 = (__typeof__(p->stat64))raw_stat;
  p->lstat64 = (__typeof__(p->lstat64))raw_lstat;
  p->fstat64 = (__typeof__(p->fstat64))raw_fstat;
  p->fstatat64 = (__typeof__(p->fstatat64))raw_fstatat;
  p->__xstat = raw_xstat;
  p->__lxstat = raw_lxstat;
  p->__fxstat = raw_fxstat;
  p->__fxstatat = raw_fxstatat;
  p->__xstat64 = (__typeof__(p->__xstat64))raw_xstat;
  p->__lxstat64 = (__typeof__(p->__lxstat64))raw_lxstat;
  p->__fxstat64 = (__typeof__(p->__fxstat64))raw_fxstat;
  p->__fxstatat64 = (__typeof__(p->__fxstatat64))raw_fxstatat;
  p->statx = raw_statx;
  p->dup2 = raw_dup2;
}

void prelux_real_bind(void)
{
  static int begun;
  if (__atomic_exchange_n(&begun, 1, __ATOMIC_ACQ_REL)) return;
  int saved = errno;
  fill_safe();
  void **slot = (void **)&prelux_real;
  const char *name = names;
  for (size_t i = 0; i < N_CALLS; i++, name += strlen(name) + 1) {
    void *fn = dlsym(RTLD_NEXT, name);
    if (fn) __atomic_store_n(&slot[i], fn, __ATOMIC_RELEASE);
  }
  errno = saved;
}
