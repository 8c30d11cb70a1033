/* Backend `file`, writing: whole files.
 *
 * Theory of operation. The bytes go into a file without a name (O_TMPFILE) of the target's own folder, get their
 * attributes and an fsync, and are named under the folder's lock (file_place.c): by link, which never replaces, where
 * nothing may be there; else under a hidden name first and from there by rename. The folder is synced before the
 * answer. A process that dies before leaves nothing, but in the instant between link and rename one hidden name, which
 * `clean` removes. Where the file system has no O_TMPFILE the file has its hidden name from the beginning, and a lock
 * (flock) that tells the living from the dead.
 *
 * The version of the result is read from the open file after it was named (naming changes ctime), under the lock. When
 * size or mtime are no longer what we set, somebody has changed the file since, and "" is answered. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "lib/backend/beneath.h"
#include "lib/backend/file.h"
#include "lib/base/io.h"
#include "lib/base/os.h"

#define STEP_BYTES (8u << 20) /* of one copy_file_range: what `progress` sees */
#define BUFFER_BYTES (256u * 1024)
#define NAMES_TRIED 16

static const struct prelux_file *self(const struct prelux_backend *b)
{
  return (const struct prelux_file *)b;
}

/* f_type of file systems whose locks may not reach everybody who writes there. */
static const unsigned long shared_kinds[] = {
    0x6969,     /* NFS */
    0xff534d42, /* CIFS */
    0xfe534d42, /* SMB2 */
    0x517b,     /* SMB */
    0x01021997, /* 9p */
    0x65735546, /* FUSE */
    0x5346414f, /* AFS */
    0x73757245, /* Coda */
    0x6a656a63, /* virtiofs over FUSE of older kernels */
    0x00c36400, /* Ceph */
    0x0bd00bd0, /* Lustre */
    0x47504653, /* GPFS */
    0x19830326, /* BeeGFS */
    0x7461636f, /* OCFS2 */
    0x01161970, /* GFS2 */
};

static bool is_shared(const struct statfs *fs)
{
  for (size_t i = 0; i < sizeof(shared_kinds) / sizeof(shared_kinds[0]); i++)
    if ((uint32_t)fs->f_type == shared_kinds[i])
      return true;
  return false;
}

static int file_able(struct prelux_backend *b, struct prelux_able *ret, struct prelux_problem *why)
{
  struct statfs fs;
  if (why)
    *why = (struct prelux_problem){0};
  int root = prelux_file_open_root(self(b), why);
  if (root < 0)
    return root;
  int rc = prelux_os.fstatfs(root, &fs) < 0 ? prelux_file_fail(self(b), "", -errno, why) : 0;
  prelux_os.close(root);
  if (rc < 0)
    return rc;
  unsigned caps = PRELUX_FILE_WRITE_CAPS;
  if (is_shared(&fs))
    caps &= ~(unsigned)(PRELUX_CAP_PUT_VERSION | PRELUX_CAP_REMOVE_VERSION);
  if (fs.f_flags & 0x0001) /* ST_RDONLY */
    caps = 0;
  *ret = (struct prelux_able){.caps = caps,
                              .put_max = UINT64_MAX,
                              .part_min = PRELUX_FILE_PART_MIN,
                              .part_max = PRELUX_FILE_PART_MAX,
                              .parts_max = UINT32_MAX};
  return 0;
}

int prelux_file_place_exact(const struct prelux_file_place *p, const struct prelux_condition *cond,
                            struct prelux_problem *why)
{
  struct statfs fs;
  if (cond->must != PRELUX_MUST_BE_VERSION || prelux_os.fstatfs(p->dir, &fs) < 0 || !is_shared(&fs))
    return 0;
  return prelux_problem(
      why, EOPNOTSUPP,
      "%s/%s: on a file system of another machine nobody can compare the version and write in one step", p->f->root,
      p->path);
}

/* Copying */

static int copy_by_hand(const struct prelux_file_place *p, int fd, uint64_t off, uint64_t len, int to, uint64_t to_off,
                        struct prelux_problem *why)
{
  char *buf = malloc(BUFFER_BYTES);
  if (!buf)
    return -ENOMEM;
  int rc = 0;
  for (uint64_t done = 0; done < len && rc == 0;)
  {
    size_t want = len - done < BUFFER_BYTES ? (size_t)(len - done) : BUFFER_BYTES;
    ssize_t n = prelux_os.pread(fd, buf, want, (off_t)(off + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      rc = prelux_problem(why, EIO, "%s/%s: the file to be sent cannot be read: %s", p->f->root, p->path,
                          strerror(errno));
    else if (n == 0)
      rc = prelux_problem(why, EINVAL, "%s/%s: the file to be sent ends after %" PRIu64 " bytes", p->f->root, p->path,
                          off + done);
    for (ssize_t at = 0; at < n && rc == 0;)
    {
      ssize_t put = prelux_os.pwrite(to, buf + at, (size_t)(n - at), (off_t)(to_off + done) + at);
      if (put >= 0)
        at += put;
      else if (errno != EINTR)
        rc = prelux_file_fail(p->f, p->path, -errno, why);
    }
    done += n > 0 ? (uint64_t)n : 0;
  }
  free(buf);
  return rc;
}

/* As much as the kernel copies (or shares) by itself; 0: nothing, it is to be done by hand. */
static ssize_t copy_by_kernel(int fd, uint64_t off, uint64_t len, int to, uint64_t to_off)
{
  off_t in = (off_t)off, out = (off_t)to_off;
  for (;;)
  {
    ssize_t n = prelux_os.copy_file_range(fd, &in, to, &out, len < STEP_BYTES ? (size_t)len : STEP_BYTES, 0);
    if (n >= 0)
      return n;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
      return -errno;
    if (errno != EINTR)
      return 0;
  }
}

int prelux_file_copy_in(const struct prelux_file_place *p, int fd, uint64_t off, uint64_t len, int to, uint64_t to_off,
                        const struct prelux_put *how, struct prelux_problem *why)
{
  for (uint64_t done = 0; done < len;)
  {
    int rc = how && how->progress ? how->progress(how->arg, done) : 0;
    if (rc < 0)
      return rc;
    ssize_t n = copy_by_kernel(fd, off + done, len - done, to, to_off + done);
    if (n < 0)
      return prelux_file_fail(p->f, p->path, (int)n, why);
    if (n == 0)
    {
      n = len - done < STEP_BYTES ? (ssize_t)(len - done) : STEP_BYTES;
      rc = copy_by_hand(p, fd, off + done, (uint64_t)n, to, to_off + done, why);
      if (rc < 0)
        return rc;
    }
    done += (uint64_t)n;
  }
  return 0;
}

/* Files in the making */

void prelux_file_random_name(const char *kind, char name[NAME_MAX + 1])
{
  uint64_t number = 0;
  if (getrandom(&number, sizeof(number), 0) != (ssize_t)sizeof(number))
    number = (uint64_t)getpid() << 32 ^ (uintptr_t)name; /* a name that exists is tried again with another */
  snprintf(name, NAME_MAX + 1, PRELUX_FILE_HIDDEN "%s-%016" PRIx64, kind, number);
}

static int link_fd(int fd, int dir, const char *name)
{
  char from[32];
  snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
  return prelux_os.linkat(AT_FDCWD, from, dir, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* The lock says that somebody lives; before it is held a sweeper may have taken the name away. */
static int make_named(int dir, struct prelux_file_temp *ret)
{
  for (int i = 0; i < NAMES_TRIED; i++)
  {
    struct stat st;
    prelux_file_random_name("put", ret->name);
    ret->fd = prelux_os.openat(dir, ret->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (ret->fd < 0 && errno == EEXIST)
      continue;
    if (ret->fd < 0)
      return -errno;
    int rc = prelux_file_flock(ret->fd, LOCK_EX);
    if ((rc == 0 || rc == -ENOLCK) && prelux_os.fstat(ret->fd, &st) == 0 && st.st_nlink > 0)
      return 0;
    prelux_os.unlinkat(dir, ret->name, 0);
    prelux_os.close(ret->fd);
  }
  return -EBUSY;
}

static int temp_make(int dir, struct prelux_file_temp *ret)
{
  *ret = (struct prelux_file_temp){.fd = prelux_os.openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)};
  if (ret->fd >= 0)
    return 0;
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT)
    return -errno;
  int rc = make_named(dir, ret);
  if (rc < 0)
    *ret = (struct prelux_file_temp){.fd = -1};
  return rc;
}

static void temp_free(int dir, struct prelux_file_temp *t)
{
  if (t->name[0])
    prelux_os.unlinkat(dir, t->name, 0);
  if (t->fd >= 0)
    prelux_os.close(t->fd);
  *t = (struct prelux_file_temp){.fd = -1};
}

/* Naming. Each is called under the folder's lock. */

static bool is_ours(int fd, int dir, const char *name)
{
  struct stat ours, there;
  return prelux_os.fstat(fd, &ours) == 0 && prelux_os.fstatat(dir, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* Makes the name unless there is one. NFS may say EEXIST to its own second attempt: hence is_ours. */
static int name_new(struct prelux_file_place *p, struct prelux_file_temp *t)
{
  int rc;
  if (!t->name[0])
  {
    rc = link_fd(t->fd, p->dir, p->name);
    return rc == -EEXIST && is_ours(t->fd, p->dir, p->name) ? 0 : rc;
  }
  rc = prelux_os.renameat2(p->dir, t->name, p->dir, p->name, PRELUX_RENAME_NOREPLACE) < 0 ? -errno : 0;
  if (rc == -EINVAL || rc == -ENOSYS)
  {
    rc = prelux_os.linkat(p->dir, t->name, p->dir, p->name, 0) < 0 ? -errno : 0;
    if (rc == -EPERM)
      return -EOPNOTSUPP; /* a file system without links: there is no exact way */
    if (rc == -EEXIST && is_ours(t->fd, p->dir, p->name))
      rc = 0;
    if (rc == 0)
      prelux_os.unlinkat(p->dir, t->name, 0);
  }
  if (rc == 0)
    t->name[0] = 0;
  return rc;
}

static int name_over(struct prelux_file_place *p, struct prelux_file_temp *t)
{
  int rc = 0;
  if (!t->name[0])
  {
    rc = -EEXIST;
    for (int i = 0; i < NAMES_TRIED && rc == -EEXIST; i++)
    {
      char name[NAME_MAX + 1];
      prelux_file_random_name("put", name);
      rc = link_fd(t->fd, p->dir, name);
      if (rc == 0)
        strcpy(t->name, name);
    }
  }
  if (rc == 0 && prelux_os.renameat(p->dir, t->name, p->dir, p->name) < 0)
    rc = -errno;
  if (rc == 0)
    t->name[0] = 0;
  return rc;
}

/* Attributes and bytes, for good. The file is ours from here on, whosever the one before was: where others write by us, the bits that make a program run
 * as its owner go, as they do when such a user writes to a file himself. */
static int make_durable(const struct prelux_file_temp *t, const struct prelux_set *set, uint32_t mode_else)
{
  uint32_t mode = set->which & PRELUX_SET_MODE ? set->mode & 07777 : mode_else;
  if (prelux_os.fchmod(t->fd, prelux_beneath_distrusts() ? mode & 01777 : mode) < 0)
    return -errno;
  if (set->which & PRELUX_SET_MTIME)
  {
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, prelux_file_timespec(set->mtime_ns)};
    if (prelux_os.futimens(t->fd, times) < 0)
      return -errno;
  }
  return prelux_sync(t->fd, false);
}

/* Whether a file may be put there now, and its mode if one is there. */
static int may_put(const struct prelux_file_place *p, const struct prelux_condition *cond, struct stat *ret_old,
                   bool *ret_there, struct prelux_problem *why)
{
  bool link = false;
  int rc = prelux_file_place_look(p, ret_old, &link, why);
  if (rc == -EEXIST && link && cond->must == PRELUX_MUST_NOTHING)
    rc = -ENOENT; /* a link that dangles is replaced as if it were not there */
  if (rc < 0 && rc != -ENOENT)
    return rc;
  *ret_there = rc == 0;
  if (rc == 0 && S_ISDIR(ret_old->st_mode) && cond->must != PRELUX_MUST_BE_ABSENT)
    return -EISDIR;
  return prelux_file_place_check(p, cond, rc == 0 ? ret_old : NULL, why);
}

static int name_it(struct prelux_file_place *p, struct prelux_file_temp *t, const struct prelux_put *how,
                   struct stat *ret_st, struct prelux_problem *why)
{
  struct stat old;
  bool there;
  int rc = may_put(p, &how->cond, &old, &there, why);
  if (rc < 0)
    return rc;
  if (there)
    prelux_file_outlive(&old);
  rc = how->cond.must == PRELUX_MUST_BE_ABSENT ? name_new(p, t) : name_over(p, t);
  if (rc < 0)
    return rc;
  return prelux_os.fstat(t->fd, ret_st) < 0 ? -PRELUX_EUNKNOWN : 0;
}

int prelux_file_commit(struct prelux_file_place *p, struct prelux_file_temp *t, uint64_t size,
                       const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct stat made, named, old;
  bool there = false;
  int rc = prelux_file_place_exact(p, &how->cond, why);
  if (rc == 0)
    rc = may_put(p, &how->cond, &old, &there, why);
  if (rc == 0)
    rc = make_durable(t, &how->set, there ? old.st_mode & 07777 : 0644);
  if (rc == 0 && prelux_os.fstat(t->fd, &made) < 0)
    rc = -errno;
  if (rc == 0 && (uint64_t)made.st_size != size)
    rc = prelux_problem(why, EIO, "%s/%s: %" PRIu64 " bytes were written, %" PRId64 " are there", p->f->root, p->path,
                        size, (int64_t)made.st_size);
  if (rc == 0)
    rc = prelux_file_place_lock(p, why);
  if (rc == 0)
  {
    rc = name_it(p, t, how, &named, why);
    prelux_file_place_unlock(p);
  }
  if (rc == 0)
    rc = prelux_file_place_sync(p, why);
  if (rc < 0)
    return prelux_file_fail(p->f, p->path, rc, why);
  prelux_file_describe(&named, ret);
  if (named.st_size != made.st_size || prelux_file_ns(named.st_mtim) != prelux_file_ns(made.st_mtim))
    ret->version[0] = 0;
  return 0;
}

/* Ops */

/* A put that must fail is not copied first. */
static int open_for_put(const struct prelux_file *f, const char *path, const struct prelux_put *how,
                        struct prelux_file_place *p, struct prelux_problem *why)
{
  struct stat old;
  bool there;
  int rc = prelux_file_place_open(f, path, how->cond.must != PRELUX_MUST_BE_ABSENT, p, why);
  if (rc == -EBUSY && !path[0])
    return prelux_problem(why, EISDIR, "%s: the root is a folder", f->root);
  if (rc == 0)
    rc = prelux_file_place_exact(p, &how->cond, why);
  if (rc == 0)
    rc = may_put(p, &how->cond, &old, &there, why);
  return rc < 0 ? prelux_file_fail(f, path, rc, why) : 0;
}

static int file_put(struct prelux_backend *b, const char *path, int fd, uint64_t size, const struct prelux_put *how,
                    struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct prelux_file_temp t = {.fd = -1};
  int rc = open_for_put(self(b), path, how, &p, why);
  if (rc == 0 && (rc = temp_make(p.dir, &t)) < 0)
    rc = prelux_file_fail(p.f, path, rc, why);
  if (rc == 0)
    rc = prelux_file_copy_in(&p, fd, 0, size, t.fd, 0, how, why);
  if (rc == 0)
    rc = prelux_file_commit(&p, &t, size, how, ret, why);
  if (p.dir >= 0)
    temp_free(p.dir, &t);
  prelux_file_place_close(&p);
  return rc;
}

/* Opens the source and says what is copied: -ESTALE when it is not the version asked for. */
static int open_source(const struct prelux_file *f, const char *from, const char *version, struct stat *ret,
                       struct prelux_problem *why)
{
  struct prelux_object now;
  if (why)
    *why = (struct prelux_problem){0};
  int fd = prelux_file_open_object(f, from, ret, why);
  if (fd < 0)
    return fd;
  int again = S_ISDIR(ret->st_mode) ? -EISDIR : prelux_file_open_again(fd, O_RDONLY | O_NONBLOCK);
  prelux_os.close(fd);
  if (again < 0)
    return prelux_file_fail(f, from, again, why);
  prelux_file_describe(ret, &now);
  if (!version[0] || strcmp(version, now.version) == 0)
    return again;
  prelux_os.close(again);
  return prelux_problem(why, ESTALE, "%s/%s: changed (was %s, is %s)", f->root, from, version, now.version);
}

/* The source may be changed in place while it is copied: its ctime gives that away (file.c). */
static int copy_whole(struct prelux_file_place *p, int fd, const struct stat *source, const struct prelux_file_temp *t,
                      const struct prelux_put *how, struct prelux_problem *why)
{
  struct stat last;
  struct prelux_object before, after;
  prelux_file_wait_for_tick(source);
  int rc = prelux_file_copy_in(p, fd, 0, (uint64_t)source->st_size, t->fd, 0, how, why);
  if (rc < 0 && rc != -EINVAL)
    return rc;
  if (prelux_os.fstat(fd, &last) < 0)
    return prelux_file_fail(p->f, p->path, -errno, why);
  prelux_file_describe(source, &before);
  prelux_file_describe(&last, &after);
  if (rc == 0 && strcmp(before.version, after.version) == 0)
    return 0;
  return prelux_problem(why, ESTALE, "%s/%s: what was copied changed meanwhile", p->f->root, p->path);
}

static int file_copy(struct prelux_backend *b, const char *from, const char *source_version, const char *to,
                     const struct prelux_put *how, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct prelux_file_temp t = {.fd = -1};
  struct stat source;
  struct prelux_put kept = *how;
  int fd = open_source(self(b), from, source_version, &source, why);
  if (fd < 0)
    return fd;
  if (!(kept.set.which & PRELUX_SET_MODE))
    kept.set.mode = source.st_mode & 07777;
  if (!(kept.set.which & PRELUX_SET_MTIME))
    kept.set.mtime_ns = prelux_file_ns(source.st_mtim);
  kept.set.which = PRELUX_SET_MODE | PRELUX_SET_MTIME;
  int rc = open_for_put(self(b), to, &kept, &p, why);
  if (rc == 0 && (rc = temp_make(p.dir, &t)) < 0)
    rc = prelux_file_fail(p.f, to, rc, why);
  if (rc == 0)
    rc = copy_whole(&p, fd, &source, &t, &kept, why);
  if (rc == 0)
    rc = prelux_file_commit(&p, &t, (uint64_t)source.st_size, &kept, ret, why);
  if (p.dir >= 0)
    temp_free(p.dir, &t);
  prelux_file_place_close(&p);
  prelux_os.close(fd);
  return rc;
}

const struct prelux_backend_write prelux_file_write = {
    .able = file_able,
    .put = file_put,
    .begin = prelux_file_begin,
    .part = prelux_file_part,
    .complete = prelux_file_complete,
    .abort = prelux_file_abort,
    .uploads = prelux_file_uploads,
    .clean = prelux_file_clean,
    .remove = prelux_file_remove,
    .rename = prelux_file_rename,
    .mkdir = prelux_file_mkdir,
    .rmdir = prelux_file_rmdir,
    .set_attr = prelux_file_set_attr,
    .copy = file_copy,
};
