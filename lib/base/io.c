#include "lib/base/io.h"

#include <errno.h>
#include <unistd.h>

#include "lib/base/os.h"

/* off NULL: at the file's own position. */
static int write_all(int fd, const char *p, size_t len, const uint64_t *off)
{
  for (size_t done = 0; done < len;)
  {
    ssize_t n = off ? prelux_os.pwrite(fd, p + done, len - done, (off_t)(*off + done)) : prelux_os.write(fd, p + done, len - done);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return n < 0 ? -errno : -EIO;
    done += (size_t)n;
  }
  return 0;
}

int prelux_sync(int fd, bool data)
{
  int rc;
  do
    rc = data ? prelux_os.fdatasync(fd) : prelux_os.fsync(fd);
  while (rc < 0 && errno == EINTR);
  return rc < 0 ? -errno : 0;
}

int prelux_write_all(int fd, const void *buf, size_t len)
{
  return write_all(fd, buf, len, NULL);
}

int prelux_pwrite_all(int fd, const void *buf, size_t len, uint64_t off)
{
  return write_all(fd, buf, len, &off);
}
