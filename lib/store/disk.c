/* Folders and files of a tree on disk, always reached name by name from the tree's own folder with *at calls: no symbolic
 * link is followed, no path is too long for the kernel, and nothing outside the tree can be reached. Folders are made on
 * demand (0700) and stay: a program may have one as its working directory. */
#include "lib/store/private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/base/sys.h"

int64_t prelux_stat_mtime(const struct stat *st)
{
  return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

int prelux_mkdir_at(int dirfd, const char *name)
{
  return prelux_os.mkdirat(dirfd, name, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

static int open_folder(int dirfd, const char *name)
{
  int fd = prelux_os.openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int prelux_dir_open(int dirfd, const char *name)
{
  int fd = prelux_os.openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

/* What stands where a folder must be (a file cached when this name was one, a link somebody made) gives way. */
static int make_folder(struct prelux_tree *t, int dirfd, const char *name, const char *object, size_t len)
{
  char path[PRELUX_OBJECT_MAX + 1];
  int fd = open_folder(dirfd, name);
  if (fd == -ENOTDIR || fd == -ELOOP)
  {
    memcpy(path, object, len);
    path[len] = 0;
    int ret = prelux_adopt_aside(t, dirfd, name, path);
    if (ret < 0)
      return ret;
    fd = -ENOENT;
  }
  if (fd != -ENOENT)
    return fd;
  int ret = prelux_mkdir_at(dirfd, name);
  if (ret == 0 && t->folder_mode)
    prelux_os.fchmodat(dirfd, name, t->folder_mode, 0);
  return ret < 0 ? ret : open_folder(dirfd, name);
}

/* As walk, in one call: folders that are there, links nowhere among them. The kernel may be older than that, or forbid it: then -ENOSYS or so. */
static int open_all(const struct prelux_tree *t, const char *object, size_t len)
{
  const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
  char path[PRELUX_OBJECT_MAX + 1];
  if (len == 0 || len > PRELUX_OBJECT_MAX)
    return -ENAMETOOLONG;
  memcpy(path, object, len);
  path[len] = 0;
  return (int)prelux_sys(SYS_openat2, t->fd, path, &how, sizeof how);
}

/* Follows the first `len` bytes of `object` downwards. */
static int walk(struct prelux_tree *t, const char *object, size_t len, bool make, int *ret_fd)
{
  char name[PRELUX_NAME_MAX + 1];
  int at = open_all(t, object, len);
  if (at >= 0)
    *ret_fd = at;
  if (at >= 0 || (!make && (at == -ENOENT || at == -ENOTDIR)))
    return at < 0 ? at : 0;
  at = prelux_os.fcntl(t->fd, F_DUPFD_CLOEXEC, 3);
  if (at < 0)
    return -errno;
  for (size_t i = 0; i < len;)
  {
    size_t n = strcspn(object + i, "/");
    if (n > PRELUX_NAME_MAX)
    {
      prelux_os.close(at);
      return -ENAMETOOLONG;
    }
    memcpy(name, object + i, n);
    name[n] = 0;
    i += n;
    int next = make ? make_folder(t, at, name, object, i) : open_folder(at, name);
    prelux_os.close(at);
    if (next < 0)
      return next == -ELOOP ? -ENOTDIR : next;
    at = next;
    i++;
  }
  *ret_fd = at;
  return 0;
}

int prelux_disk_parent(struct prelux_tree *t, const char *object, bool make, int *ret_fd, const char **ret_base)
{
  size_t parent = prelux_object_parent(object, strlen(object));
  int ret = walk(t, object, parent, make, ret_fd);
  if (ret == 0)
    *ret_base = object + (parent ? parent + 1 : 0);
  return ret;
}

int prelux_disk_folder(struct prelux_tree *t, const char *object, bool make, int *ret_fd)
{
  return walk(t, object, strlen(object), make, ret_fd);
}

int prelux_disk_open(struct prelux_tree *t, const char *object, int flags, int *ret_fd, struct stat *ret_st)
{
  const char *base = object;
  int dir, ret = prelux_disk_parent(t, object, false, &dir, &base);
  if (ret < 0)
    return ret;
  /* A fifo or device that somebody left there must not block or be opened: look first. */
  if (prelux_os.fstatat(dir, base, ret_st, AT_SYMLINK_NOFOLLOW) < 0)
    ret = -errno;
  else if (!S_ISREG(ret_st->st_mode))
    ret = S_ISDIR(ret_st->st_mode) ? -EISDIR : -ENXIO;
  int fd = -1;
  if (ret == 0 && (fd = prelux_os.openat(dir, base, flags | O_NOFOLLOW | O_CLOEXEC)) < 0)
    ret = -errno;
  if (ret == 0 && (prelux_os.fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode)))
    ret = -ENXIO;
  /* An open that had to wait for the evictor's lease gets the file after it has lost its name. */
  struct stat named;
  if (ret == 0 && (prelux_os.fstatat(dir, base, &named, AT_SYMLINK_NOFOLLOW) < 0 || named.st_ino != ret_st->st_ino))
    ret = -ENOENT;
  prelux_os.close(dir);
  if (ret == 0)
    *ret_fd = fd;
  else if (fd >= 0)
    prelux_os.close(fd);
  return ret;
}

int prelux_dir_each(int dirfd, int (*fn)(void *arg, int dirfd, const char *name), void *arg)
{
  int ret = 0, fd = prelux_dir_open(dirfd, ".");
  if (fd < 0)
    return fd;
  DIR *d = prelux_os.fdopendir(fd);
  if (!d)
  {
    ret = -errno;
    prelux_os.close(fd);
    return ret;
  }
  const struct dirent *e;
  while (ret >= 0 && (errno = 0, e = readdir(d)))
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
      ret = fn(arg, dirfd, e->d_name);
  if (ret >= 0)
    ret = -errno;
  closedir(d);
  return ret < 0 ? ret : 0;
}
