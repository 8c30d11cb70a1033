/* One owner of a store: flock on .prelux/lock, which the kernel gives back when the owner dies. All users of a local file
 * system share one kernel, so this is sure across containers and UTS namespaces; network file systems were refused before
 * (place.c). The text "host boot pid" in the file is for people and for the message. */
#include "lib/store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/base/os.h"

static int read_line(int fd, char *ret, size_t cap)
{
  ssize_t n = prelux_os.pread(fd, ret, cap - 1, 0);
  if (n < 0)
    return -errno;
  ret[n] = 0;
  ret[strcspn(ret, "\n")] = 0;
  return 0;
}

int prelux_lock_boot(char ret[40])
{
  int fd = prelux_os.open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT ? 0 : -errno; /* no /proc: nobody can tell one boot from another */
  int result = read_line(fd, ret, 40);
  prelux_os.close(fd);
  return result;
}

int prelux_lock_take(struct prelux_store *s, struct prelux_problem *why)
{
  char text[256] = "", boot[40] = "unknown";
  struct utsname u;
  int fd = prelux_os.openat(s->meta_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0)
    return prelux_problem(why, errno, "%s/.prelux/lock: %s", s->dir, strerror(errno));
  int ret;
  do
    ret = prelux_os.flock(fd, LOCK_EX | LOCK_NB);
  while (ret < 0 && errno == EINTR);
  if (ret < 0)
  {
    ret = errno == EWOULDBLOCK ? EBUSY : errno;
    if (read_line(fd, text, sizeof text) < 0 || !*text)
      snprintf(text, sizeof text, "unknown");
    prelux_os.close(fd);
    prelux_problem(why, ret, "cache folder %s is in use by another preluxd (host, boot, pid: %s)", s->dir, text);
    if (why)
      snprintf(why->advice, sizeof why->advice, "stop it, or set cache.dir to another folder");
    return -ret;
  }
  prelux_lock_boot(boot);
  uname(&u);
  snprintf(text, sizeof text, "%.100s %s %ld\n", u.nodename, boot, (long)getpid());
  if (prelux_os.ftruncate(fd, 0) < 0 || prelux_os.pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
  {
    ret = errno ? errno : EIO;
    prelux_os.close(fd);
    return prelux_problem(why, ret, "cannot write %s/.prelux/lock: %s", s->dir, strerror(ret));
  }
  s->lock_fd = fd;
  return 0;
}

void prelux_lock_release(struct prelux_store *s)
{
  if (s->lock_fd < 0)
    return;
  prelux_os.ftruncate(s->lock_fd, 0);
  prelux_os.close(s->lock_fd);
  s->lock_fd = -1;
}
