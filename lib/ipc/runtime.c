#include "lib/ipc/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/sys.h"

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

int prelux_runtime_trusted(const char *path, unsigned uid)
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

bool prelux_runtime_of_node(const char *path)
{
  struct stat st;
  return prelux_sys(SYS_newfstatat, AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0711 &&
         prelux_runtime_trusted(path, st.st_uid) == 0;
}

int prelux_runtime_open(const char *path)
{
  struct stat st;
  long ret = prelux_sys(SYS_mkdirat, AT_FDCWD, path, 0700);
  if (ret < 0 && ret != -EEXIST)
    return (int)ret;
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  ret = prelux_sys(SYS_fstat, fd, &st);
  if (ret == 0 && (st.st_uid != (uid_t)prelux_sys(SYS_geteuid) || (st.st_mode & 077)))
    ret = -EACCES;
  if (ret == 0)
    return fd;
  prelux_sys(SYS_close, fd);
  return (int)ret;
}
