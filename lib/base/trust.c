#include "lib/base/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/sys.h"

int prelux_trusted(const char *path, unsigned uid)
{
  uid_t me = (uid_t)prelux_sys(SYS_geteuid);
  struct stat st = {0};
  long fd = prelux_sys(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  bool trusted = *path == '/';
  while (fd >= 0 && trusted)
  {
    char name[256];
    size_t n = 0;
    long err = prelux_sys(SYS_fstat, (int)fd, &st);
    trusted = err == 0 && (st.st_uid == 0 || st.st_uid == uid || st.st_uid == me) && !(st.st_mode & 022);
    while (*path == '/')
      path++;
    if (!*path || !trusted)
      break;
    while (path[n] && path[n] != '/' && n + 1 < sizeof name)
      n++;
    memcpy(name, path, n);
    name[n] = 0;
    path += n;
    long next = prelux_sys(SYS_openat, (int)fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
    prelux_sys(SYS_close, (int)fd);
    fd = next;
  }
  if (fd >= 0)
    prelux_sys(SYS_close, (int)fd);
  return fd >= 0 && trusted && st.st_uid == uid ? 0 : -EACCES;
}

int prelux_believed(const char *folder, unsigned uid)
{
  return uid == 0 || uid == (uid_t)prelux_sys(SYS_geteuid) ? 0 : prelux_trusted(folder, uid);
}
