#include "shim/advice.h"

#include <fcntl.h>

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/init.h"

/* By /proc, and with a path's room on the stack: kept out of the calls of who advises on other files. */
__attribute__((noinline)) static void pass_on(int fd, int advice)
{
  struct prelux_route r;
  if (prelux_route_fd(fd, &r) != PRELUX_MAPPED) return;
  const struct prelux_request q = {
    .op = PRELUX_OP_ADVISE, .call = "posix_fadvise", .logical = r.logical, .mapping = r.index, .path = r.rel, .flags = (uint32_t)advice};
  prelux_mention(&q);
}

void prelux_advise(int fd, int advice)
{
  uint32_t hint;
  if (fd < 0 || prelux_idle() || (advice != POSIX_FADV_WILLNEED && advice != POSIX_FADV_DONTNEED)) return;
  if (prelux_fd_get(fd, &hint) != PRELUX_CLASS_SHADOW || prelux_fd_is_writer(fd, &hint)) return;
  pass_on(fd, advice);
}
