/* Where a name of backend `file` stands: its folder, opened and locked, and what is there.
 *
 * Theory of operation. Whatever changes a name (put, remove, rename, chmod) locks the folder that holds it (flock of
 * the folder's own inode, so nothing is left lying about), looks, compares with the condition, changes, and lets go.
 * Two daemons of one machine that both want to replace version V so do it one after the other, and the second sees
 * another version. Data is copied and made durable before the lock is taken, so that it is held for microseconds.
 *
 * What remains: programs that are not prelux take no lock. One that replaces, changes or removes the file between the
 * look and the rename (some microseconds) is overwritten unseen. On file systems of other machines flock does not reach
 * the other machines, or may not: conditions on a version are refused there (see prelux_file_able), while create-only
 * stays exact (link and rename without replacing are the server's).
 *
 * Versions are told apart by ctime among others (file.c), whose granularity is a tick, and inode numbers come back at
 * once on some file systems. So what takes the place of a file waits, under the lock, until the clock that ctimes are
 * taken from has left the old file's ctime behind: a version never comes back at a path. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "lib/backend/beneath.h"
#include "lib/backend/file.h"
#include "lib/base/io.h"
#include "lib/base/os.h"

#define LOCK_SECONDS 20
#define LOCK_PAUSE_MIN_NS 100000
#define LOCK_PAUSE_MAX_NS 10000000

int prelux_file_fail(const struct prelux_file *f, const char *path, int rc, struct prelux_problem *why)
{
  if (why && why->err == -rc && why->text[0])
    return rc; /* said where it was known */
  switch (-rc)
  {
  case ENOENT:
  case ENOTDIR:
  case EISDIR:
  case EEXIST:
  case ESTALE:
  case ENOTEMPTY:
  case EXDEV:
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
  case EROFS:
  case EBUSY:
  case EINVAL:
  case ENXIO:
  case ENOMEM:
  case EOPNOTSUPP:
  case ENAMETOOLONG:
    return prelux_problem(why, -rc, "%s/%s: %s", f->root, path, strerror(-rc));
  case PRELUX_EUNKNOWN:
    return prelux_problem(why, -rc, "%s/%s: done, but perhaps not durable", f->root, path);
  case EACCES:
  case EPERM:
    return prelux_problem(why, EACCES, "%s/%s: the daemon's user may not write it", f->root, path);
  case EMLINK:
    return prelux_problem(why, ENOSPC, "%s/%s: %s", f->root, path, strerror(-rc));
  default:
    return prelux_problem(why, EIO, "%s/%s: %s", f->root, path, strerror(-rc));
  }
}

static int check_path(const struct prelux_file *f, const char *path, struct prelux_problem *why)
{
  if (!path[0])
    return prelux_problem(why, EBUSY, "%s: the root of the backend cannot be changed", f->root);
  for (const char *name = path; name; name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL)
    if (prelux_file_is_hidden(name))
      return prelux_problem(why, EOPNOTSUPP,
                            "%s/%s: names that begin with " PRELUX_FILE_HIDDEN " are kept for unfinished files",
                            f->root, path);
  return 0;
}

int prelux_file_place_open(const struct prelux_file *f, const char *path, bool follow, struct prelux_file_place *ret,
                           struct prelux_problem *why)
{
  if (why)
    *why = (struct prelux_problem){0};
  *ret = (struct prelux_file_place){.f = f, .path = path, .dir = -1};
  int rc = check_path(f, path, why);
  if (rc < 0)
    return rc;
  int root = prelux_file_open_root(f, why);
  if (root < 0)
    return root;
  int folder = prelux_beneath_parent(root, f->root, path, follow, ret->name, why);
  prelux_os.close(root);
  if (folder < 0)
    return prelux_file_fail(f, path, folder, why);
  ret->dir = prelux_os.openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  rc = ret->dir < 0 ? prelux_file_fail(f, path, -errno, why) : 0;
  prelux_os.close(folder);
  return rc;
}

void prelux_file_place_close(struct prelux_file_place *p)
{
  if (p->dir >= 0)
    prelux_os.close(p->dir); /* and so unlocks */
  p->dir = -1;
}

static void pause_ns(long ns)
{
  struct timespec t = {.tv_nsec = ns};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

int prelux_file_flock(int fd, int how)
{
  while (prelux_os.flock(fd, how | LOCK_NB) < 0)
    switch (errno)
    {
    case EINTR:
      continue;
    case EWOULDBLOCK:
      return -EBUSY;
    case ENOLCK:
    case ENOSYS:
    case EOPNOTSUPP:
    case EINVAL:
    case EBADF: /* NFS: an exclusive lock of what is open for reading */
      return -ENOLCK;
    default:
      return -errno;
    }
  return 0;
}

int prelux_file_place_lock(struct prelux_file_place *p, struct prelux_problem *why)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  time_t until = now.tv_sec + LOCK_SECONDS;
  long pause = LOCK_PAUSE_MIN_NS;
  int rc;
  while ((rc = prelux_file_flock(p->dir, LOCK_EX)) == -EBUSY)
  {
    if (now.tv_sec >= until)
      return prelux_problem(why, EBUSY, "%s/%s: another program has held the folder's lock for %d s", p->f->root,
                            p->path, LOCK_SECONDS);
    pause_ns(pause);
    pause = 2 * pause < LOCK_PAUSE_MAX_NS ? 2 * pause : LOCK_PAUSE_MAX_NS;
    clock_gettime(CLOCK_MONOTONIC, &now);
  }
  p->unlockable = rc == -ENOLCK;
  return p->unlockable ? 0 : rc;
}

void prelux_file_place_unlock(struct prelux_file_place *p)
{
  prelux_os.flock(p->dir, LOCK_UN);
}

int prelux_file_place_look(const struct prelux_file_place *p, struct stat *ret, bool *ret_link,
                           struct prelux_problem *why)
{
  if (prelux_os.fstatat(p->dir, p->name, ret, AT_SYMLINK_NOFOLLOW) < 0)
    return -errno;
  bool link = S_ISLNK(ret->st_mode);
  if (ret_link)
    *ret_link = link;
  if (link)
  {
    int fd = prelux_file_open_object(p->f, p->path, ret, NULL);
    if (fd >= 0)
      prelux_os.close(fd);
    else
      return prelux_problem(why, EEXIST, "%s/%s: a symlink that leads to nothing below the root", p->f->root, p->path);
  }
  if (!S_ISREG(ret->st_mode) && !S_ISDIR(ret->st_mode))
    return prelux_problem(why, EEXIST, "%s/%s: neither file nor folder", p->f->root, p->path);
  return 0;
}

int prelux_file_place_check(const struct prelux_file_place *p, const struct prelux_condition *cond,
                            const struct stat *seen, struct prelux_problem *why)
{
  struct prelux_object now = {0};
  switch (cond->must)
  {
  case PRELUX_MUST_NOTHING:
    return 0;
  case PRELUX_MUST_BE_ABSENT:
    return seen ? prelux_problem(why, EEXIST, "%s/%s: exists", p->f->root, p->path) : 0;
  case PRELUX_MUST_BE_VERSION:
    break;
  }
  if (p->unlockable)
    return prelux_problem(why, EOPNOTSUPP,
                          "%s/%s: a version cannot be compared and replaced in one step: the file system has no locks",
                          p->f->root, p->path);
  if (!cond->version[0])
    return prelux_problem(why, EINVAL, "%s/%s: a condition without a version", p->f->root, p->path);
  if (!seen)
    return prelux_problem(why, ESTALE, "%s/%s: gone (was %s)", p->f->root, p->path, cond->version);
  prelux_file_describe(seen, &now);
  if (strcmp(now.version, cond->version) != 0)
    return prelux_problem(why, ESTALE, "%s/%s: changed (was %s, is %s)", p->f->root, p->path, cond->version,
                          now.version);
  return 0;
}

int prelux_file_place_sync(const struct prelux_file_place *p, struct prelux_problem *why)
{
  int rc = prelux_sync(p->dir, false);
  if (rc == 0 || rc == -EINVAL) /* EINVAL: a file system that has no need of it */
    return 0;
  return prelux_problem(why, PRELUX_EUNKNOWN, "%s/%s: done, but the disk does not say that it is durable: %s",
                        p->f->root, p->path, strerror(-rc));
}

struct timespec prelux_file_timespec(int64_t ns)
{
  int64_t rest = ns % 1000000000;
  struct timespec t = {.tv_sec = ns / 1000000000 - (rest < 0), .tv_nsec = rest + (rest < 0 ? 1000000000 : 0)};
  return t;
}

void prelux_file_outlive(const struct stat *old)
{
  for (int i = 0; i < 20; i++)
  {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now); /* what the kernel stamps with */
    int64_t ahead = prelux_file_ns(old->st_ctim) - prelux_file_ns(now);
    if (ahead < 0 || ahead > 2 * PRELUX_FILE_TICK_NS) /* a ctime from the future comes from another clock */
      return;
    pause_ns(1000000);
  }
}
