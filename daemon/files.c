#include "daemon/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/os.h"

/* Up to `max` bytes from `off` on; more in the file than that is -EFBIG. */
static int read_from(int fd, off_t off, size_t max, char **ret, size_t *ret_len)
{
  size_t cap = 4096, len = 0;
  char *buf = malloc(cap + 1);
  while (buf)
  {
    ssize_t n = prelux_os.pread(fd, buf + len, cap - len, off + (off_t)len);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
    {
      n = -errno;
      free(buf);
      return (int)n;
    }
    len += (size_t)n;
    if (n == 0)
    {
      buf[len] = 0;
      *ret = buf;
      *ret_len = len;
      return 0;
    }
    if (len > max)
    {
      free(buf);
      return -EFBIG;
    }
    if (len == cap)
    {
      char *more = realloc(buf, (cap *= 2) + 1);
      if (!more)
        free(buf);
      buf = more;
    }
  }
  return -ENOMEM;
}

int prelux_file_read(const char *path, size_t max, char **ret, size_t *ret_len, struct stat *st)
{
  struct stat own;
  int fd;
  do
    fd = prelux_os.open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  while (fd < 0 && errno == EINTR);
  if (fd < 0)
    return -errno;
  int err = prelux_os.fstat(fd, st ? st : &own) < 0 ? -errno : 0;
  mode_t mode = st ? st->st_mode : own.st_mode;
  if (err == 0 && !S_ISREG(mode))
    err = S_ISDIR(mode) ? -EISDIR : -EINVAL;
  if (err == 0)
    err = read_from(fd, 0, max, ret, ret_len);
  prelux_os.close(fd);
  return err;
}

int prelux_files_write(const char *dir, const char *name, const void *bytes, size_t len)
{
  char tmp[4096], path[4096];
  if (snprintf(tmp, sizeof tmp, "%s/.%s.%ld", dir, name, (long)getpid()) >= (int)sizeof tmp ||
      snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
    return -ENAMETOOLONG;
  prelux_os.unlink(tmp);
  int fd = prelux_os.open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return -errno;
  int ret = prelux_write_all(fd, bytes, len);
  if (prelux_os.close(fd) < 0 && ret == 0)
    ret = -errno;
  if (ret == 0 && prelux_os.rename(tmp, path) < 0)
    ret = -errno;
  if (ret < 0)
    prelux_os.unlink(tmp);
  return ret;
}

int prelux_file_tail(const char *path, size_t max, char **ret, size_t *ret_len)
{
  struct stat st;
  int fd = prelux_os.open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
  {
    *ret = errno == ENOENT ? calloc(1, 1) : NULL;
    *ret_len = 0;
    return *ret ? 0 : -errno;
  }
  int err = prelux_os.fstat(fd, &st) < 0 ? -errno : 0;
  off_t off = err == 0 && st.st_size > (off_t)max ? st.st_size - (off_t)max : 0;
  char *buf = NULL;
  size_t len = 0;
  if (err == 0)
    err = read_from(fd, off, 2 * max + 4096, &buf, &len); /* it may grow meanwhile */
  prelux_os.close(fd);
  if (err < 0)
    return err;
  char *line = off ? memchr(buf, '\n', len) : NULL;
  if (line)
  {
    len -= (size_t)(line + 1 - buf);
    memmove(buf, line + 1, len + 1);
  }
  *ret = buf;
  *ret_len = len;
  return 0;
}

char *prelux_join(const char *a, const char *b)
{
  size_t n = strlen(a), m = strlen(b);
  char *s = malloc(n + m + 2);
  if (s)
    snprintf(s, n + m + 2, "%s%s%s", a, n && m ? "/" : "", b);
  return s;
}
