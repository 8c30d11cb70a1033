#include "shim/advice.h"

#include <fcntl.h>

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/init.h"

/* By /proc and by names alone, for a route may ask the daemon; with room for paths on the stack: kept out of the calls of who advises on other
 * files. */
__attribute__((noinline)) static void pass_on(int fd, uint32_t mapping, int advice)
{
  const struct prelux_table *t = prelux_state.table;
  char real[PATH_MAX], path[PATH_MAX];
  struct prelux_match m;
  if (!t || prelux_fd_name(fd, real, sizeof(real)) <= 0 || prelux_logical(real, (int)mapping, path, sizeof(path)) <= 0) return;
  prelux_table_match(t, path, path[0] != '/', &m);
  if (m.kind != PRELUX_MATCH_MAPPED) return;
  const struct prelux_request q = {
    .op = PRELUX_OP_ADVISE, .call = "posix_fadvise", .logical = path, .mapping = m.index, .path = m.rel, .flags = (uint32_t)advice};
  prelux_mention(&q);
}

void prelux_advise(int fd, int advice)
{
  uint32_t hint;
  if (fd < 0 || prelux_idle() || prelux_quiet() || prelux_in_shared_child() || (advice != POSIX_FADV_WILLNEED && advice != POSIX_FADV_DONTNEED)) return;
  if (prelux_fd_get(fd, &hint) != PRELUX_CLASS_SHADOW || prelux_fd_is_writer(fd, &hint)) return;
  pass_on(fd, hint, advice);
}
