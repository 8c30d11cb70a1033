/* Backend `file`, writing: names and attributes. How names are looked at and locked: file_place.c.
 *
 * A link is shown to readers as what it leads to, but its name is its own: remove, rmdir and rename act on the link,
 * set_attr on what it leads to. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/backend/file.h"
#include "lib/base/os.h"

static const struct prelux_file *self(const struct prelux_backend *b)
{
  return (const struct prelux_file *)b;
}

/* A name that readers are to find there; what they are not shown does not exist. */
static int look_for(const struct prelux_file_place *p, struct stat *ret, bool *ret_link, struct prelux_problem *why)
{
  int rc = prelux_file_place_look(p, ret, ret_link, why);
  if (rc == -EEXIST)
    return prelux_problem(why, ENOENT, "%s/%s: neither file nor folder", p->f->root, p->path);
  return rc;
}

static int finish(struct prelux_file_place *p, const char *path, int rc, struct prelux_problem *why)
{
  prelux_file_place_close(p);
  return rc < 0 ? prelux_file_fail(p->f, path, rc, why) : 0;
}

/* remove */

static int remove_it(struct prelux_file_place *p, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct stat st;
  int rc = prelux_file_place_lock(p, why);
  if (rc == 0)
    rc = look_for(p, &st, NULL, why);
  if (rc == 0 && S_ISDIR(st.st_mode))
    rc = -EISDIR;
  if (rc == 0)
    rc = prelux_file_place_check(p, cond, &st, why);
  if (rc == 0)
  {
    prelux_file_outlive(&st);
    rc = prelux_os.unlinkat(p->dir, p->name, 0) < 0 ? -errno : 0;
  }
  prelux_file_place_unlock(p);
  return rc < 0 ? rc : prelux_file_place_sync(p, why);
}

int prelux_file_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                       struct prelux_problem *why)
{
  struct prelux_file_place p;
  int rc = prelux_file_place_open(self(b), path, false, &p, why);
  if (rc == 0 && cond->must == PRELUX_MUST_BE_ABSENT)
    rc = -EINVAL;
  if (rc == 0)
    rc = prelux_file_place_exact(&p, cond, why);
  if (rc == 0)
    rc = remove_it(&p, cond, why);
  return finish(&p, path, rc, why);
}

/* Folders */

/* A folder is empty to readers when it holds nothing but what the dead left, which goes. Its lock keeps sweepers from
 * one another. */
static int clear_out(struct prelux_file_place *p, struct prelux_problem *why)
{
  struct prelux_file_place inside = {.f = p->f, .path = p->path};
  inside.dir = prelux_os.openat(p->dir, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (inside.dir < 0)
    return -errno;
  struct prelux_file_swept swept = {0};
  int rc = prelux_file_place_lock(&inside, why);
  if (rc == 0)
    rc = prelux_file_sweep(inside.dir, UINT64_MAX, &swept);
  prelux_file_place_close(&inside);
  if (rc == 0 && swept.others)
    return -ENOTEMPTY;
  if (rc == 0 && swept.left)
    return prelux_problem(why, EBUSY, "%s/%s: an upload into the folder is not finished", p->f->root, p->path);
  return rc;
}

static int remove_folder(struct prelux_file_place *p, struct prelux_problem *why)
{
  if (prelux_os.unlinkat(p->dir, p->name, AT_REMOVEDIR) == 0)
    return 0;
  if (errno != ENOTEMPTY && errno != EEXIST)
    return -errno;
  int rc = clear_out(p, why);
  if (rc < 0)
    return rc;
  if (prelux_os.unlinkat(p->dir, p->name, AT_REMOVEDIR) == 0)
    return 0;
  return errno == EEXIST ? -ENOTEMPTY : -errno;
}

/* A link that leads to an empty folder: the link goes, for it is the folder of this name. */
static int remove_link(struct prelux_file_place *p, struct prelux_problem *why)
{
  struct stat st;
  int fd = prelux_file_open_object(p->f, p->path, &st, why);
  if (fd < 0)
    return fd;
  int dir = prelux_file_open_again(fd, O_RDONLY | O_DIRECTORY);
  prelux_os.close(fd);
  DIR *names = dir < 0 ? NULL : prelux_os.fdopendir(dir);
  if (!names)
  {
    int rc = dir < 0 ? dir : -errno;
    if (dir >= 0)
      prelux_os.close(dir);
    return rc;
  }
  bool empty = true;
  for (struct dirent *e; empty && (e = readdir(names));)
    empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || prelux_file_is_hidden(e->d_name);
  closedir(names);
  if (!empty)
    return -ENOTEMPTY;
  return prelux_os.unlinkat(p->dir, p->name, 0) < 0 ? -errno : 0;
}

int prelux_file_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct stat st;
  bool link = false;
  int rc = prelux_file_place_open(self(b), path, false, &p, why);
  if (rc == 0)
    rc = prelux_file_place_lock(&p, why);
  if (rc == 0)
    rc = look_for(&p, &st, &link, why);
  if (rc == 0 && !S_ISDIR(st.st_mode))
    rc = -ENOTDIR;
  if (rc == 0)
    rc = link ? remove_link(&p, why) : remove_folder(&p, why);
  if (rc == 0)
    rc = prelux_file_place_sync(&p, why);
  return finish(&p, path, rc, why);
}

int prelux_file_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct prelux_file_place p;
  int rc = prelux_file_place_open(self(b), path, false, &p, why);
  if (rc == -EBUSY && !path[0])
    rc = prelux_problem(why, EEXIST, "%s: the root exists", self(b)->root);
  if (rc == 0 && prelux_os.mkdirat(p.dir, p.name, 0700) < 0)
    rc = -errno;
  if (rc < 0)
    return finish(&p, path, rc, why);
  int made = prelux_os.openat(p.dir, p.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (made < 0 || prelux_os.fchmod(made, mode & 07777) < 0)
    rc = prelux_problem(why, PRELUX_EUNKNOWN, "%s/%s: made, but without its mode: %s", self(b)->root, path,
                        strerror(errno));
  if (made >= 0)
  {
    prelux_os.fsync(made); /* its mode; the name is what counts */
    prelux_os.close(made);
  }
  if (rc == 0)
    rc = prelux_file_place_sync(&p, why);
  return finish(&p, path, rc, why);
}

/* rename */

struct move
{
  struct prelux_file_place from, to;
  struct stat from_st, to_st;
  ino_t from_folder; /* inode of the folder that holds `from` */
  bool to_there, same_folder;
  unsigned flags;
};

/* One order for everybody, so that two renames cannot wait for each other. */
static int lock_both(struct move *m, struct prelux_problem *why)
{
  struct stat from, to;
  if (prelux_os.fstat(m->from.dir, &from) < 0 || prelux_os.fstat(m->to.dir, &to) < 0)
    return -errno;
  m->from_folder = from.st_ino;
  m->same_folder = from.st_dev == to.st_dev && from.st_ino == to.st_ino;
  if (m->same_folder)
    return prelux_file_place_lock(&m->from, why);
  bool from_first = from.st_dev < to.st_dev || (from.st_dev == to.st_dev && from.st_ino < to.st_ino);
  int rc = prelux_file_place_lock(from_first ? &m->from : &m->to, why);
  return rc < 0 ? rc : prelux_file_place_lock(from_first ? &m->to : &m->from, why);
}

static int may_rename(struct move *m, struct prelux_problem *why)
{
  int rc = look_for(&m->from, &m->from_st, NULL, why);
  if (rc < 0)
    return rc;
  rc = prelux_file_place_look(&m->to, &m->to_st, NULL, why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  m->to_there = rc == 0;
  if (m->flags == PRELUX_RENAME_EXCHANGE)
    return rc;
  if (!m->to_there)
    return 0;
  if (m->flags == PRELUX_RENAME_NOREPLACE)
    return -EEXIST;
  if (S_ISDIR(m->from_st.st_mode) != S_ISDIR(m->to_st.st_mode))
    return S_ISDIR(m->to_st.st_mode) ? -EISDIR : -ENOTDIR;
  return 0;
}

static int rename_names(struct move *m)
{
  int rc = prelux_os.renameat2(m->from.dir, m->from.name, m->to.dir, m->to.name, m->flags);
  if (rc == 0)
    return 0;
  rc = -errno;
  if (!m->flags || (rc != -EINVAL && rc != -ENOSYS))
    return rc == -EEXIST && !m->flags ? -ENOTEMPTY : rc;
  if (m->flags == PRELUX_RENAME_EXCHANGE || S_ISDIR(m->from_st.st_mode))
    return rc == -EINVAL && S_ISDIR(m->from_st.st_mode) ? rc : -EOPNOTSUPP;
  /* A file system without RENAME_NOREPLACE: link does not replace either. */
  if (prelux_os.linkat(m->from.dir, m->from.name, m->to.dir, m->to.name, 0) < 0)
    return errno == EPERM ? -EOPNOTSUPP : -errno;
  return prelux_os.unlinkat(m->from.dir, m->from.name, 0) < 0 ? -PRELUX_EUNKNOWN : 0;
}

static int rename_locked(struct move *m, struct prelux_problem *why)
{
  int rc = may_rename(m, why);
  if (rc < 0)
    return rc;
  bool twins = m->to_there && m->from_st.st_dev == m->to_st.st_dev && m->from_st.st_ino == m->to_st.st_ino;
  if (twins && m->flags == PRELUX_RENAME_EXCHANGE)
    return 0;
  if (twins && !S_ISDIR(m->from_st.st_mode)) /* hard links: rename would leave both names */
    return prelux_os.unlinkat(m->from.dir, m->from.name, 0) < 0 ? -errno : 0;
  if (m->to_there && !m->flags && !S_ISDIR(m->to_st.st_mode))
    prelux_file_outlive(&m->to_st);
  rc = rename_names(m);
  if (rc != -ENOTEMPTY || m->to_st.st_ino == m->from_folder) /* that one holds `from`, and we its lock */
    return rc;
  rc = clear_out(&m->to, why);
  return rc < 0 ? rc : rename_names(m);
}

static int rename_and_look(struct move *m, struct prelux_object *ret, struct prelux_problem *why)
{
  struct stat st;
  int rc = lock_both(m, why);
  if (rc == 0)
    rc = rename_locked(m, why);
  if (rc == 0 && prelux_file_place_look(&m->to, &st, NULL, NULL) < 0)
    rc = -PRELUX_EUNKNOWN;
  prelux_file_place_unlock(&m->from);
  prelux_file_place_unlock(&m->to);
  if (rc == 0)
    rc = prelux_file_place_sync(&m->to, why);
  if (rc == 0 && !m->same_folder)
    rc = prelux_file_place_sync(&m->from, why);
  if (rc == 0)
    prelux_file_describe(&st, ret);
  return rc;
}

int prelux_file_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  struct move m = {.flags = flags, .to = {.f = self(b), .dir = -1}};
  const char *path = from;
  int rc = prelux_file_place_open(self(b), from, false, &m.from, why);
  if (rc == 0)
  {
    path = to;
    rc = prelux_file_place_open(self(b), to, false, &m.to, why);
  }
  if (rc == 0 && flags & ~(unsigned)(PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE))
    rc = -EOPNOTSUPP;
  if (rc == 0 && flags == (PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE))
    rc = -EINVAL;
  if (rc == 0 && strcmp(from, to) == 0)
  {
    rc = look_for(&m.from, &m.from_st, NULL, why);
    if (rc == 0 && flags == PRELUX_RENAME_NOREPLACE)
      rc = -EEXIST;
    if (rc == 0)
      prelux_file_describe(&m.from_st, ret);
  }
  else if (rc == 0)
    rc = rename_and_look(&m, ret, why);
  prelux_file_place_close(&m.from);
  return finish(&m.to, path, rc, why);
}

/* set_attr: through /proc, for an O_PATH fd is what can be had of a file that may not be read */

static int change(int fd, const struct prelux_set *set)
{
  char name[32];
  snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
  if (set->which & PRELUX_SET_MODE && prelux_os.fchmodat(AT_FDCWD, name, set->mode & 07777, 0) < 0)
    return -errno;
  if (!(set->which & PRELUX_SET_MTIME))
    return 0;
  struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, prelux_file_timespec(set->mtime_ns)};
  if (prelux_os.utimensat(AT_FDCWD, name, times, 0) == 0)
    return 0;
  return set->which & PRELUX_SET_MODE ? -PRELUX_EUNKNOWN : -errno;
}

static int change_locked(struct prelux_file_place *p, int fd, const struct prelux_condition *cond,
                         const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  struct stat before, after;
  if (prelux_os.fstatat(fd, "", &before, AT_EMPTY_PATH) < 0)
    return -errno;
  if (!S_ISREG(before.st_mode) && !S_ISDIR(before.st_mode))
    return -ENOENT; /* a link since the look */
  if (S_ISDIR(before.st_mode) && cond->must == PRELUX_MUST_BE_VERSION)
    return prelux_problem(why, EINVAL, "%s/%s: a folder has no version", p->f->root, p->path);
  int rc = prelux_file_place_check(p, cond, &before, why);
  if (rc == 0)
    rc = change(fd, set);
  if (rc < 0)
    return rc;
  if (prelux_os.fstatat(fd, "", &after, AT_EMPTY_PATH) < 0)
    return -PRELUX_EUNKNOWN;
  prelux_file_describe(&after, ret);
  int64_t mtime = set->which & PRELUX_SET_MTIME ? set->mtime_ns : prelux_file_ns(before.st_mtim);
  if (after.st_size != before.st_size || prelux_file_ns(after.st_mtim) != mtime)
    ret->version[0] = 0; /* somebody wrote meanwhile */
  return 0;
}

/* The change of an inode, for good: by a descriptor if it may be read, else with all of its file system. */
static int sync_inode(const struct prelux_file_place *p, int fd)
{
  int again = prelux_file_open_again(fd, O_RDONLY | O_NONBLOCK);
  int rc = again >= 0 ? prelux_os.fsync(again) : prelux_os.syncfs(p->dir);
  if (again >= 0)
    prelux_os.close(again);
  return rc < 0 ? -PRELUX_EUNKNOWN : 0;
}

static int set_attr_at(struct prelux_file_place *p, const struct prelux_condition *cond, const struct prelux_set *set,
                       struct prelux_object *ret, struct prelux_problem *why)
{
  struct stat st;
  struct prelux_object now;
  int rc = prelux_file_place_lock(p, why);
  if (rc == 0)
    rc = look_for(p, &st, NULL, why);
  if (rc < 0)
    return rc;
  int fd = prelux_os.openat(p->dir, p->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  rc = change_locked(p, fd, cond, set, &now, why);
  prelux_file_place_unlock(p);
  if (rc == 0)
    rc = sync_inode(p, fd);
  prelux_os.close(fd);
  if (rc == 0)
    *ret = now;
  return rc;
}

int prelux_file_set_attr(struct prelux_backend *b, const char *path, const struct prelux_condition *cond,
                         const struct prelux_set *set, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_file_place p;
  int rc = prelux_file_place_open(self(b), path, true, &p, why);
  if (rc == 0 && cond->must == PRELUX_MUST_BE_ABSENT)
    rc = -EINVAL;
  if (rc == 0)
    rc = prelux_file_place_exact(&p, cond, why);
  if (rc == 0)
    rc = set_attr_at(&p, cond, set, ret, why);
  return finish(&p, path, rc, why);
}
