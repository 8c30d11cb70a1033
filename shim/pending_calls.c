/* Calls that read a descriptor, or have the kernel do it: see shim/pending.h. While nothing is pending each is a load and a jump. */
#include "shim/pending.h"

#include <aio.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "shim/advice.h"
#include "shim/fds.h"

#define QUIET() (__builtin_expect(!prelux_pending_any(), 1) || prelux_idle())

static bool one(int fd, void *buf, size_t n, int64_t at, ssize_t *ret)
{
  struct iovec v = {buf, n};
  return prelux_pending_read(fd, &v, 1, at, ret);
}

static bool many(int fd, const struct iovec *v, int n, int64_t at, ssize_t *ret)
{
  return n >= 0 && n <= IOV_MAX && prelux_pending_read(fd, v, n, at, ret);
}

#define READ(name)                                                      \
  PRELUX_EXPORT ssize_t name(int fd, void *buf, size_t n)               \
  {                                                                     \
    ssize_t got;                                                        \
    if (QUIET() || !one(fd, buf, n, -1, &got)) return prelux_real.name(fd, buf, n); \
    return prelux_ret(got);                                             \
  }
READ(read)
READ(__read)

/* Fortified programs: libc aborts when the buffer is too small. */
PRELUX_EXPORT ssize_t __read_chk(int fd, void *buf, size_t n, size_t room)
{
  ssize_t got;
  if (QUIET() || n > room || !one(fd, buf, n, -1, &got)) return prelux_real.__read_chk(fd, buf, n, room);
  return prelux_ret(got);
}

#define PREAD(name, type)                                               \
  PRELUX_EXPORT ssize_t name(int fd, void *buf, size_t n, type at)      \
  {                                                                     \
    ssize_t got;                                                        \
    if (QUIET() || at < 0 || !one(fd, buf, n, at, &got)) return prelux_real.name(fd, buf, n, at); \
    return prelux_ret(got);                                             \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)
PREAD(__pread64, off64_t)

#define PREAD_CHK(name, type)                                           \
  PRELUX_EXPORT ssize_t name(int fd, void *buf, size_t n, type at, size_t room) \
  {                                                                     \
    ssize_t got;                                                        \
    if (QUIET() || n > room || at < 0 || !one(fd, buf, n, at, &got)) return prelux_real.name(fd, buf, n, at, room); \
    return prelux_ret(got);                                             \
  }
PREAD_CHK(__pread_chk, off_t)
PREAD_CHK(__pread64_chk, off64_t)

PRELUX_EXPORT ssize_t readv(int fd, const struct iovec *v, int n)
{
  ssize_t got;
  if (QUIET() || !many(fd, v, n, -1, &got)) return prelux_real.readv(fd, v, n);
  return prelux_ret(got);
}

#define PREADV(name, type)                                              \
  PRELUX_EXPORT ssize_t name(int fd, const struct iovec *v, int n, type at) \
  {                                                                     \
    ssize_t got;                                                        \
    if (QUIET() || at < 0 || !many(fd, v, n, at, &got)) return prelux_real.name(fd, v, n, at); \
    return prelux_ret(got);                                             \
  }
PREADV(preadv, off_t)
PREADV(preadv64, off64_t)

/* Flags (RWF_NOWAIT, ...) are the kernel's to judge. */
#define PREADV2(name, type)                                             \
  PRELUX_EXPORT ssize_t name(int fd, const struct iovec *v, int n, type at, int flags) \
  {                                                                     \
    ssize_t got;                                                        \
    int rc = flags && !QUIET() ? prelux_settle(fd) : 0;                 \
    if (rc < 0) return prelux_ret(rc);                                  \
    if (flags || QUIET() || at < -1 || !many(fd, v, n, at, &got)) return prelux_real.name(fd, v, n, at, flags); \
    return prelux_ret(got);                                             \
  }
PREADV2(preadv2, off_t)
PREADV2(preadv64v2, off64_t)

#define SEEK(name, type)                                                \
  PRELUX_EXPORT type name(int fd, type off, int whence)                 \
  {                                                                     \
    int64_t to;                                                         \
    if (QUIET() || !prelux_pending_seek(fd, off, whence, &to)) return prelux_real.name(fd, off, whence); \
    return prelux_ret(to);                                              \
  }
SEEK(lseek, off_t)
SEEK(lseek64, off64_t)
SEEK(__lseek, off_t)
SEEK(llseek, off64_t)

/* Advice on what comes: it comes anyway. On what is there: shim/advice.c. */
#define ADVISE(name, type)                                              \
  PRELUX_EXPORT int name(int fd, type off, type len, int advice)        \
  {                                                                     \
    bool known = advice >= 0 && advice <= POSIX_FADV_NOREUSE && len >= 0; \
    if (!QUIET() && known && prelux_pending_is(fd)) return 0;           \
    if (known && off == 0 && len == 0) prelux_advise(fd, advice);       \
    return prelux_real.name(fd, off, len, advice);                      \
  }
ADVISE(posix_fadvise, off_t)
ADVISE(posix_fadvise64, off64_t)

PRELUX_EXPORT ssize_t readahead(int fd, off64_t off, size_t n)
{
  return QUIET() || !prelux_pending_is(fd) ? prelux_real.readahead(fd, off, n) : 0;
}

PRELUX_EXPORT int isatty(int fd)
{
  if (QUIET() || !prelux_pending_is(fd)) return prelux_real.isatty(fd);
  errno = ENOTTY;
  return 0;
}

/* ---- what needs the real file */

#define MMAP(name, off_type)                                                              \
  PRELUX_EXPORT void *name(void *at, size_t n, int prot, int flags, int fd, off_type off) \
  {                                                                                       \
    int own = flags & MAP_ANONYMOUS ? -1 : fd, rc = QUIET() ? 0 : prelux_settle(own);     \
    if ((flags & MAP_SHARED) && own >= 0) prelux_fd_writes_unseen(own);                   \
    if (rc == 0) return prelux_real.name(at, n, prot, flags, fd, off);                    \
    errno = -rc;                                                                          \
    return MAP_FAILED;                                                                    \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

#define SETTLED(type, failed, name, params, fd, args)                   \
  PRELUX_EXPORT type name params                                        \
  {                                                                     \
    int rc = QUIET() ? 0 : prelux_settle(fd);                           \
    if (rc == 0) return prelux_real.name args;                          \
    errno = -rc;                                                        \
    return failed;                                                      \
  }
SETTLED(ssize_t, -1, splice, (int fd, off64_t *off, int to, off64_t *to_off, size_t n, unsigned flags), fd, (fd, off, to, to_off, n, flags))
SETTLED(int, -1, flock, (int fd, int op), fd, (fd, op))
SETTLED(long, -1, fpathconf, (int fd, int name), fd, (fd, name))
SETTLED(int, -1, syncfs, (int fd), fd, (fd))
SETTLED(int, -1, ftruncate, (int fd, off_t n), fd, (fd, n))
SETTLED(int, -1, ftruncate64, (int fd, off64_t n), fd, (fd, n))
SETTLED(int, -1, sync_file_range, (int fd, off64_t off, off64_t n, unsigned flags), fd, (fd, off, n, flags))
SETTLED(FILE *, NULL, fdopen, (int fd, const char *mode), fd, (fd, mode))
SETTLED(int, -1, epoll_ctl, (int epoll, int op, int fd, struct epoll_event *e), fd, (epoll, op, fd, e))
SETTLED(int, -1, aio_read, (struct aiocb *job), job->aio_fildes, (job))
SETTLED(int, -1, aio_read64, (struct aiocb64 *job), job->aio_fildes, (job))

/* Into a file what has come is copied; whatever else may take long, and slots are not held that long. */
static bool copied(int fd, struct prelux_copy *c, ssize_t *ret)
{
  struct stat st;
  if (!prelux_pending_is(fd) || prelux_fstat(c->to, &st) < 0) return false;
  if (S_ISREG(st.st_mode)) return (!c->at || *c->at >= 0) && prelux_pending_copy(fd, c, ret);
  /* To what is no file copy_file_range copies nothing, whatever it comes from: programs ask, and read then. */
  *ret = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
  return !c->sendfile;
}

PRELUX_EXPORT ssize_t copy_file_range(int fd, off64_t *off, int to, off64_t *to_off, size_t n, unsigned flags)
{
  struct prelux_copy c = {.at = off, .to = to, .to_at = to_off, .n = n, .flags = flags};
  ssize_t got;
  if (!QUIET() && copied(fd, &c, &got)) return prelux_ret(got);
  int rc = QUIET() ? 0 : prelux_settle(fd);
  return rc < 0 ? prelux_ret(rc) : prelux_real.copy_file_range(fd, off, to, to_off, n, flags);
}

#define SENDFILE(name, type)                                            \
  PRELUX_EXPORT ssize_t name(int to, int fd, type *off, size_t n)       \
  {                                                                     \
    struct prelux_copy c = {.at = off, .to = to, .n = n, .sendfile = true}; \
    ssize_t got;                                                        \
    if (!QUIET() && copied(fd, &c, &got)) return prelux_ret(got);       \
    int rc = QUIET() ? 0 : prelux_settle(fd);                           \
    return rc < 0 ? prelux_ret(rc) : prelux_real.name(to, fd, off, n);  \
  }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

/* ---- several descriptors, or copies of all: what cannot be settled fails where it is used */

#define ALL(type, name, params, args)                                   \
  PRELUX_EXPORT type name params                                        \
  {                                                                     \
    if (!QUIET()) prelux_settle_all();                                  \
    return prelux_real.name args;                                       \
  }
static void settle_polled(const struct pollfd *fds, nfds_t n)
{
  for (nfds_t i = 0; i < n; i++) prelux_pending_settle(fds[i].fd);
}

static void settle_selected(int n, const fd_set *r, const fd_set *w, const fd_set *e)
{
  for (int fd = 0; fd < n && fd < FD_SETSIZE; fd++) {
    if ((r && FD_ISSET(fd, r)) || (w && FD_ISSET(fd, w)) || (e && FD_ISSET(fd, e))) prelux_pending_settle(fd);
  }
}

#define POLLED(name, params, args)                                      \
  PRELUX_EXPORT int name params                                         \
  {                                                                     \
    if (!QUIET()) settle_polled(fds, n);                                \
    return prelux_real.name args;                                       \
  }
POLLED(poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
POLLED(ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask), (fds, n, t, mask))
POLLED(__poll_chk, (struct pollfd *fds, nfds_t n, int ms, size_t room), (fds, n, ms, room))
POLLED(__ppoll_chk, (struct pollfd *fds, nfds_t n, const struct timespec *t, const sigset_t *mask, size_t room), (fds, n, t, mask, room))

PRELUX_EXPORT int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t)
{
  if (!QUIET()) settle_selected(n, r, w, e);
  return prelux_real.select(n, r, w, e, t);
}

PRELUX_EXPORT int pselect(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *t, const sigset_t *mask)
{
  if (!QUIET()) settle_selected(n, r, w, e);
  return prelux_real.pselect(n, r, w, e, t, mask);
}

ALL(int, lio_listio, (int mode, PRELUX_JOBS jobs, int n, struct sigevent *restrict e), (mode, jobs, n, e))
ALL(int, lio_listio64, (int mode, struct aiocb64 *const *restrict jobs, int n, struct sigevent *restrict e), (mode, jobs, n, e))
#define FORK(name)                                                      \
  PRELUX_EXPORT pid_t name(void)                                        \
  {                                                                     \
    return QUIET() ? prelux_real.name() : prelux_pending_fork(prelux_real.name); \
  }
FORK(fork)
FORK(__fork)
FORK(_Fork)

/* The descriptors that a message carries. */
static void settle_sent(const struct msghdr *m)
{
  if (m->msg_controllen < sizeof(struct cmsghdr)) return;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0)) continue;
    for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      prelux_pending_settle(fd);
    }
  }
}

PRELUX_EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
  if (!QUIET() && m) settle_sent(m);
  return prelux_real.sendmsg(fd, m, flags);
}

PRELUX_EXPORT int sendmmsg(int fd, struct mmsghdr *m, unsigned n, prelux_mmsg_flags flags)
{
  for (unsigned i = 0; m && i < n && !QUIET(); i++) settle_sent(&m[i].msg_hdr);
  return prelux_real.sendmmsg(fd, m, n, flags);
}
