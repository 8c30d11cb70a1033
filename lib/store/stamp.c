/* The time that this node's kernel would give to a file that is changed now.
 *
 * Not a clock's: from Linux 6.13 on a file that is changed after it was looked at gets a finer time than CLOCK_REALTIME_COARSE tells, and every
 * later change of any file is stamped no earlier, which CLOCK_REALTIME_COARSE does not know. CLOCK_REALTIME is ahead of files that are changed
 * after it was read. So a file is stamped, which nobody else knows, and looked at. */
#include <fcntl.h>
#include <time.h>

#include "lib/base/os.h"
#include "lib/store/private.h"

void prelux_stamp_open(struct prelux_store *s)
{
  s->clock_fd = prelux_os.openat(s->meta_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

int64_t prelux_store_stamp(const struct prelux_store *s)
{
  struct timespec now;
  struct stat st;
  if (s->clock_fd >= 0 && prelux_os.futimens(s->clock_fd, NULL) == 0 && prelux_os.fstat(s->clock_fd, &st) == 0)
    return prelux_stat_mtime(&st);
  clock_gettime(CLOCK_REALTIME_COARSE, &now); /* what older kernels stamp with */
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}
