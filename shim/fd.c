/* Descriptors come and go: their classes with them, and the daemon is told of the end of one by which a file was written.
 * Async-signal-safe, and harmless in vfork children. What comes by other ways (SCM_RIGHTS) is of unknown class, and looked
 * up when it matters. */
#include <stdarg.h>

#include "shim/aside.h"
#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/write.h"

__attribute__((noinline)) static int close_more(int fd)
{
  if (prelux_pending_any() && prelux_pending_close((unsigned)fd, (unsigned)fd)) return (int)prelux_ret(-EBADF);
  struct prelux_leaving l;
  /* Before the number is free: afterwards another thread may have it again. */
  prelux_leaving(fd, &l);
  int rc = prelux_real.close(fd);
  if (!l.tell || (rc < 0 && errno == EBADF)) return rc;
  int saved = errno, err = prelux_left_by_close(&l, "close");
  errno = saved; /* the kernel has closed it whatever it says, and what it says comes first */
  return rc < 0 ? rc : (int)prelux_ret(err);
}

PRELUX_EXPORT int close(int fd)
{
  if (prelux_idle() || (!prelux_pending_any() && prelux_fd_ends(fd))) return prelux_real.close(fd);
  return close_more(fd);
}

static int copied_by(int cmd, int rc, int fd, bool idle)
{
  if (rc >= 0 && !idle && (cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC)) prelux_fd_copy(fd, rc);
  return rc;
}

/* True: *ret is the answer. What is asked of the number itself the kernel answers. */
static bool prelux_fcntl_pending(int fd, int cmd, int *ret)
{
  if (cmd == F_GETFD || cmd == F_SETFD) return false;
  if (cmd == F_GETFL) return prelux_pending_flags(fd, ret);
  *ret = (int)prelux_pending_settle(fd);
  if (*ret == 0) return false;
  *ret = (int)prelux_ret(*ret);
  return true;
}

#define FCNTL(name)                                                              \
  PRELUX_EXPORT int name(int fd, int cmd, ...)                                   \
  {                                                                              \
    va_list ap;                                                                  \
    va_start(ap, cmd);                                                           \
    void *arg = va_arg(ap, void *);                                              \
    va_end(ap);                                                                  \
    bool idle = prelux_idle();                                                   \
    int own;                                                                     \
    if (prelux_pending_any() && !idle && prelux_fcntl_pending(fd, cmd, &own)) return own; \
    prelux_note_lock(cmd);                                                       \
    return copied_by(cmd, prelux_real.name(fd, cmd, arg), fd, idle);             \
  }
FCNTL(fcntl)
FCNTL(fcntl64)

PRELUX_EXPORT int dup(int fd)
{
  bool idle = prelux_idle();
  int rc = idle ? 0 : prelux_settle(fd);
  if (rc < 0) return (int)prelux_ret(rc);
  int to = prelux_real.dup(fd);
  if (to >= 0 && !idle) prelux_fd_copy(fd, to);
  return to;
}

/* `to` is closed without a word of what went wrong, as the kernel does it. When nothing was closed it stays what it was. */
static int copied(int rc, int from, int to, const struct prelux_leaving *l)
{
  if (rc < 0) {
    if (l->tell) prelux_fd_set_writer(to, l->mapping);
    return rc;
  }
  prelux_fd_copy(from, to);
  prelux_left(l, "dup2");
  return rc;
}

/* Before `to` becomes `from`. A number of the library's own is free when its file is where the program wants it. */
static int onto(int from, int to)
{
  if (!prelux_pending_any()) return 0;
  int rc = prelux_pending_settle(from);
  if (rc == 0 && prelux_pending_close((unsigned)to, (unsigned)to)) prelux_pending_settle_all(false);
  return rc;
}

PRELUX_EXPORT int dup2(int from, int to)
{
  if (prelux_idle() || from == to) return prelux_real.dup2(from, to);
  int no = onto(from, to);
  if (no < 0) return (int)prelux_ret(no);
  struct prelux_leaving l;
  prelux_leaving(to, &l);
  return copied(prelux_real.dup2(from, to), from, to, &l);
}

PRELUX_EXPORT int dup3(int from, int to, int flags)
{
  if (prelux_idle() || from == to) return prelux_real.dup3(from, to, flags);
  int no = onto(from, to);
  if (no < 0) return (int)prelux_ret(no);
  struct prelux_leaving l;
  prelux_leaving(to, &l);
  return copied(prelux_real.dup3(from, to, flags), from, to, &l);
}

static void end_writers(unsigned first, unsigned last)
{
  if (first > INT_MAX) return;
  for (int fd = (int)first; (fd = prelux_fd_next_writer(fd)) >= 0 && (unsigned)fd <= last; fd++) close(fd);
}

PRELUX_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
  enum { UNSHARE = 2, ONLY_CLOEXEC = 4 };
  if (!prelux_idle() && prelux_pending_any()) {
    if ((flags & (ONLY_CLOEXEC | UNSHARE)) || first > last) prelux_settle_all();
    else prelux_pending_close(first, last);
  }
  if (!prelux_idle() && !(flags & ONLY_CLOEXEC)) {
    if (first <= last && !(flags & UNSHARE)) end_writers(first, last);
    prelux_fd_forget(first, last);
  }
  return prelux_real.close_range(first, last, flags);
}

PRELUX_EXPORT void closefrom(int low)
{
  if (!prelux_idle()) {
    if (prelux_pending_any()) prelux_pending_close(low < 0 ? 0 : (unsigned)low, UINT32_MAX);
    end_writers(low < 0 ? 0 : (unsigned)low, UINT32_MAX);
    prelux_fd_forget(low < 0 ? 0 : (unsigned)low, UINT32_MAX);
  }
  prelux_real.closefrom(low);
}
