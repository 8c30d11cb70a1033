/* Descriptors come and go: their classes with them. Async-signal-safe, and harmless in vfork children. fcntl(F_DUPFD)
 * needs no hook: it gives a number that was free, whose class is unknown, which is looked up when it matters. */
#include "shim/fds.h"

PRELUX_EXPORT int close(int fd)
{
  bool idle = prelux_idle();
  /* Before the number is free: afterwards another thread may have it again. */
  if (!idle && fd >= 0) prelux_fd_forget((unsigned)fd, (unsigned)fd);
  return prelux_real.close(fd);
}

PRELUX_EXPORT int dup(int fd)
{
  bool idle = prelux_idle();
  int to = prelux_real.dup(fd);
  if (to >= 0 && !idle) prelux_fd_copy(fd, to);
  return to;
}

PRELUX_EXPORT int dup2(int from, int to)
{
  bool idle = prelux_idle();
  if (!idle && from != to) prelux_fd_set(to, PRELUX_CLASS_UNKNOWN, 0);
  int rc = prelux_real.dup2(from, to);
  if (rc >= 0 && !idle && from != to) prelux_fd_copy(from, to);
  return rc;
}

PRELUX_EXPORT int dup3(int from, int to, int flags)
{
  bool idle = prelux_idle();
  if (!idle && from != to) prelux_fd_set(to, PRELUX_CLASS_UNKNOWN, 0);
  int rc = prelux_real.dup3(from, to, flags);
  if (rc >= 0 && !idle) prelux_fd_copy(from, to);
  return rc;
}

PRELUX_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
  enum { ONLY_CLOEXEC = 4 };
  if (!prelux_idle() && !(flags & ONLY_CLOEXEC)) prelux_fd_forget(first, last);
  return prelux_real.close_range(first, last, flags);
}

PRELUX_EXPORT void closefrom(int low)
{
  if (!prelux_idle()) prelux_fd_forget(low < 0 ? 0 : (unsigned)low, UINT32_MAX);
  prelux_real.closefrom(low);
}
