#include "lib/ipc/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/sys.h"
#include "lib/base/trust.h"

/* No function of libc: the library's start calls this, and each page of libc that a start touches costs it. */
PRELUX_AT_START const char *prelux_env_get(char *const envp[], const char *name)
{
  for (size_t i = 0; envp && envp[i]; i++)
  {
    size_t n = 0;
    while (name[n] && envp[i][n] == name[n])
      n++;
    if (!name[n] && envp[i][n] == '=')
      return envp[i] + n + 1;
  }
  return NULL;
}

static long copy(char *out, size_t cap, const char *a, const char *b)
{
  size_t n = strlen(a), m = strlen(b);
  while (n > 1 && a[n - 1] == '/')
    n--;
  if (n + m >= cap)
    return -ENAMETOOLONG;
  memcpy(out, a, n);
  memcpy(out + n, b, m + 1);
  return (long)(n + m);
}

long prelux_runtime_path(char *out, size_t cap, char *const envp[])
{
  const char *dir = prelux_env_get(envp, "PRELUX_RUNTIME_DIR");
  if (dir && dir[0] == '/')
    return copy(out, cap, dir, "");
  dir = prelux_env_get(envp, "XDG_RUNTIME_DIR");
  if (dir && dir[0] == '/')
    return copy(out, cap, dir, "/prelux");
  char digits[16], *p = digits + sizeof digits - 1;
  unsigned long uid = (unsigned long)prelux_sys(SYS_getuid);
  *p = 0;
  do
    *--p = (char)('0' + uid % 10);
  while (uid /= 10);
  return copy(out, cap, "/tmp/prelux-", p);
}

bool prelux_runtime_of_node(const char *path)
{
  struct stat st;
  return prelux_sys(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0711 &&
         prelux_trusted(path, st.st_uid) == 0;
}

int prelux_runtime_open(const char *path)
{
  struct stat st;
  long ret = prelux_sys(SYS_mkdirat, AT_FDCWD, path, 0700);
  if (ret < 0 && ret != -EEXIST)
    return (int)ret;
  bool made = ret == 0;
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  ret = prelux_sys(SYS_fstat, fd, &st);
  if (ret == 0 && (st.st_uid != (uid_t)prelux_sys(SYS_geteuid) || (st.st_mode & 077)))
    ret = -EACCES;
  if (ret == 0 && made && (st.st_mode & 0700) != 0700) /* the program's umask */
    ret = prelux_sys(SYS_fchmodat, AT_FDCWD, path, 0700);
  if (ret == 0)
    return fd;
  prelux_sys(SYS_close, fd);
  return (int)ret;
}
