/* See include/prelux/names.h. */
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>

#include "lib/base/sys.h"
#include "lib/index/names.h"

static int open_file(const char *runtime)
{
  char path[1024];
  size_t n = strlen(runtime);
  if (n + sizeof "/names" > sizeof path)
    return -1;
  memcpy(path, runtime, n);
  memcpy(path + n, "/names", sizeof "/names");
  return (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0);
}

int prelux_names_copy(const struct prelux_index_reader *r, const char *runtime, const struct prelux_names_at *at, void *to)
{
  struct prelux_names_head head;
  const struct iovec parts[] = {{&head, sizeof head}, {to, at->bytes}};
  if (at->bytes > PRELUX_NAMES_MAX)
    return 0;
  int fd = open_file(runtime);
  if (fd < 0)
    return 0;
  long n = prelux_sys(SYS_preadv, fd, parts, 2, at->position % PRELUX_NAMES_BYTES, 0);
  prelux_sys(SYS_close, fd);
  return n == (long)(sizeof head + at->bytes) && head.generation == at->generation && head.position == at->position &&
         prelux_index_has_names(r, at);
}
