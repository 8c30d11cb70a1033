/* Backend `file`: a folder of this machine (or one mounted on it) as the remote.
 *
 * Every path is opened below the root by beneath.c. What is neither file nor folder does not exist here.
 * The version is made of what changes whenever bytes do: size, mtime, inode and ctime. ctime has the granularity of the
 * kernel's tick, so a read waits until the file's ctime lies a tick back: a write during or after the read then gets
 * another ctime, and the check after the read sees it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/backend/backends.h"
#include "lib/backend/beneath.h"
#include "lib/backend/file.h"
#include "lib/base/os.h"
#include "lib/conf/conf.h"

#define READ_BYTES (2u << 20) /* what the store writes at once: nothing is copied between */
#define TICK_NS PRELUX_FILE_TICK_NS

static struct prelux_file *self(struct prelux_backend *b)
{
  return (struct prelux_file *)b;
}

static int file_create(const struct prelux_conf_backend *conf, struct prelux_net *net, struct prelux_backend **ret,
                       struct prelux_problem *why)
{
  const char *root = prelux_conf_str(conf, "root");
  if (!root || root[0] != '/')
    return prelux_problem(why, EINVAL, "backend %s: root: an absolute folder is needed", conf->name);
  struct prelux_file *f = calloc(1, sizeof(*f));
  if (!f)
    return -ENOMEM;
  f->base.ops = &prelux_backend_file;
  f->root = strdup(root);
  if (!f->root)
  {
    free(f);
    return -ENOMEM;
  }
  size_t len = strlen(f->root);
  while (len > 1 && f->root[len - 1] == '/')
    f->root[--len] = 0;
  *ret = &f->base;
  return 0;
}

static void file_free(struct prelux_backend *b)
{
  if (!b)
    return;
  free(self(b)->root);
  free(b);
}

static int file_identity(const struct prelux_backend *b, char *buf, size_t cap)
{
  int n = snprintf(buf, cap, "file:%s", ((const struct prelux_file *)b)->root);
  return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

/* What an errno of the kernel is to the caller. A missing root is never "no such object": a disk that is not mounted
 * must not make a tree look empty. */
static int fail(struct prelux_problem *why, int rc, const char *root, const char *path)
{
  if (why && why->err == -rc && why->text[0])
    return rc; /* said where it was known */
  switch (-rc)
  {
  case ENOENT:
  case ENOTDIR:
  case EISDIR:
  case ESTALE:
  case ENOMEM:
    return prelux_problem(why, -rc, "%s/%s: %s", root, path, strerror(-rc));
  case EACCES:
  case EPERM:
    return prelux_problem(why, EACCES, "%s/%s: the daemon's user may not read it", root, path);
  case ENAMETOOLONG:
    return prelux_problem(why, ENOENT, "%s/%s: name too long", root, path);
  default:
    return prelux_problem(why, EIO, "%s/%s: %s", root, path, strerror(-rc));
  }
}

static void forget(struct prelux_problem *why)
{
  if (why)
    *why = (struct prelux_problem){0};
}

int prelux_file_open_root(const struct prelux_file *f, struct prelux_problem *why)
{
  int fd = prelux_os.open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd >= 0)
    return fd;
  int err = errno;
  return prelux_problem(why, err == EACCES ? EACCES : EIO, "root folder %s: %s", f->root, strerror(err));
}

bool prelux_file_is_hidden(const char *name)
{
  return strncmp(name, PRELUX_FILE_HIDDEN, sizeof(PRELUX_FILE_HIDDEN) - 1) == 0;
}

int prelux_file_open_object(const struct prelux_file *f, const char *path, struct stat *ret_st,
                            struct prelux_problem *why)
{
  for (const char *name = path; name; name = strchr(name, '/') ? strchr(name, '/') + 1 : NULL)
    if (prelux_file_is_hidden(name))
      return prelux_problem(why, ENOENT, "%s/%s: an unfinished file", f->root, path);
  int root = prelux_file_open_root(f, why);
  if (root < 0)
    return root;
  int fd = prelux_beneath_open(root, f->root, path, why);
  prelux_os.close(root);
  if (fd < 0)
    return fail(why, fd, f->root, path);
  if (prelux_os.fstatat(fd, "", ret_st, AT_EMPTY_PATH) < 0)
  {
    int rc = -errno;
    prelux_os.close(fd);
    return fail(why, rc, f->root, path);
  }
  if (!S_ISREG(ret_st->st_mode) && !S_ISDIR(ret_st->st_mode))
  {
    prelux_os.close(fd);
    return prelux_problem(why, ENOENT, "%s/%s: neither file nor folder", f->root, path);
  }
  return fd;
}

int prelux_file_open_again(int fd, int flags)
{
  char name[32];
  snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
  int again = prelux_os.open(name, flags | O_CLOEXEC | O_NOCTTY);
  return again < 0 ? -errno : again;
}

int64_t prelux_file_ns(struct timespec t)
{
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void prelux_file_describe(const struct stat *st, struct prelux_object *ret)
{
  memset(ret, 0, sizeof(*ret));
  ret->type = S_ISDIR(st->st_mode) ? PRELUX_DIR : PRELUX_FILE;
  ret->mode = st->st_mode & 07777;
  ret->mtime_ns = prelux_file_ns(st->st_mtim);
  if (ret->type == PRELUX_DIR)
    return;
  ret->size = (uint64_t)st->st_size;
  snprintf(ret->version, sizeof(ret->version), "%" PRIu64 "-%" PRId64 "-%" PRIu64 "-%" PRId64, ret->size, ret->mtime_ns,
           (uint64_t)st->st_ino, prelux_file_ns(st->st_ctim));
}

static int file_stat(struct prelux_backend *b, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  struct stat st;
  forget(why);
  int fd = prelux_file_open_object(self(b), path, &st, why);
  if (fd < 0)
    return fd;
  prelux_os.close(fd);
  prelux_file_describe(&st, ret);
  return 0;
}

/* What says nothing of the name: it may well be there. */
static int trouble(int err)
{
  return err == -EIO || err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ESTALE ? err : 0;
}

/* Attributes of one name of a folder: 1; 0: not shown; -errno: nobody can tell, and a listing without it would be wrong. */
static int describe_name(const struct prelux_file *f, int dir, const char *path, const char *name, struct prelux_object *ret)
{
  struct stat st;
  if (prelux_os.fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ESTALE ? 0 : trouble(-errno); /* gone since readdir */
  if (S_ISLNK(st.st_mode))
  {
    char full[PATH_MAX];
    int n = snprintf(full, sizeof(full), "%s%s%s", path, path[0] ? "/" : "", name);
    if ((size_t)n >= sizeof(full))
      return 0;
    int fd = prelux_file_open_object(f, full, &st, NULL);
    if (fd < 0)
      return trouble(fd); /* else dangling, endless, or out of the root: stat says which */
    prelux_os.close(fd);
  }
  if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
    return 0;
  prelux_file_describe(&st, ret);
  return 1;
}

static int list_names(const struct prelux_file *f, DIR *dir, const char *path, prelux_list_fn add, void *arg,
                      struct prelux_problem *why)
{
  for (;;)
  {
    errno = 0;
    struct dirent *e = readdir(dir);
    if (!e)
      return errno ? fail(why, -errno, f->root, path) : 0;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || prelux_file_is_hidden(e->d_name))
      continue;
    struct prelux_object obj;
    int rc = describe_name(f, dirfd(dir), path, e->d_name, &obj);
    if (rc < 0)
      return fail(why, rc, f->root, path);
    if (rc > 0 && (rc = add(arg, e->d_name, strlen(e->d_name), &obj)) < 0)
      return rc;
  }
}

static int file_list(struct prelux_backend *b, const char *path, prelux_list_fn add, void *arg,
                     struct prelux_problem *why)
{
  struct prelux_file *f = self(b);
  struct stat st;
  forget(why);
  int fd = prelux_file_open_object(f, path, &st, why);
  if (fd < 0)
    return fd;
  int again = S_ISDIR(st.st_mode) ? prelux_file_open_again(fd, O_RDONLY | O_DIRECTORY) : -ENOTDIR;
  prelux_os.close(fd);
  if (again < 0)
    return fail(why, again, f->root, path);
  DIR *dir = prelux_os.fdopendir(again);
  if (!dir)
  {
    int rc = -errno;
    prelux_os.close(again);
    return fail(why, rc, f->root, path);
  }
  int rc = list_names(f, dir, path, add, arg, why);
  closedir(dir);
  return rc;
}

/* Fails with -ESTALE unless the file behind fd still is of the version that `expect` names. */
static int check_version(const struct prelux_file *f, int fd, const char *path, const struct prelux_object *expect,
                         struct stat *ret_st, struct prelux_problem *why)
{
  struct prelux_object now;
  if (prelux_os.fstat(fd, ret_st) < 0)
    return fail(why, -errno, f->root, path);
  prelux_file_describe(ret_st, &now);
  if (expect->version[0] && strcmp(now.version, expect->version) != 0)
    return prelux_problem(why, ESTALE, "%s/%s: changed (was %s, is %s)", f->root, path, expect->version, now.version);
  return 0;
}

void prelux_file_wait_for_tick(const struct stat *st)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t age = prelux_file_ns(now) - prelux_file_ns(st->st_ctim);
  if (age >= TICK_NS || age < -TICK_NS) /* a ctime from the future comes from another clock: waiting tells nothing */
    return;
  struct timespec pause = {.tv_nsec = TICK_NS - (age > 0 ? age : 0)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static int copy_out(const struct prelux_file *f, int fd, const char *path, uint64_t off, uint64_t len,
                    prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  void *buf = malloc(len < READ_BYTES ? (size_t)len + 1 : READ_BYTES);
  if (!buf)
    return -ENOMEM;
  int rc = 0;
  for (uint64_t done = 0; done < len && rc == 0;)
  {
    size_t want = len - done < READ_BYTES ? (size_t)(len - done) : READ_BYTES;
    ssize_t n = prelux_os.pread(fd, buf, want, (off_t)(off + done));
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      rc = fail(why, -errno, f->root, path);
    else if (n == 0)
      rc = prelux_problem(why, ESTALE, "%s/%s: ended after %" PRIu64 " bytes, %" PRIu64 " were expected", f->root, path,
                          off + done, off + len);
    else
      rc = sink(arg, off + done, buf, (size_t)n);
    done += n > 0 ? (uint64_t)n : 0;
  }
  free(buf);
  return rc;
}

static int read_open_file(const struct prelux_file *f, int fd, const char *path, const struct prelux_object *expect,
                          uint64_t off, uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct stat first, last;
  struct prelux_object now;
  int rc = check_version(f, fd, path, expect, &first, why);
  if (rc < 0)
    return rc;
  prelux_file_wait_for_tick(&first);
  rc = copy_out(f, fd, path, off, len, sink, arg, why);
  if (rc < 0)
    return rc;
  prelux_file_describe(&first, &now);
  return check_version(f, fd, path, &now, &last, why);
}

static int file_read(struct prelux_backend *b, const char *path, const struct prelux_object *expect, uint64_t off,
                     uint64_t len, prelux_read_fn sink, void *arg, struct prelux_problem *why)
{
  struct prelux_file *f = self(b);
  struct stat st;
  forget(why);
  int fd = prelux_file_open_object(f, path, &st, why);
  if (fd < 0)
    return fd;
  int again = S_ISDIR(st.st_mode) ? -EISDIR : prelux_file_open_again(fd, O_RDONLY | O_NONBLOCK);
  prelux_os.close(fd);
  if (again < 0)
    return fail(why, again, f->root, path);
  int rc = read_open_file(f, again, path, expect, off, len, sink, arg, why);
  prelux_os.close(again);
  return rc;
}

const struct prelux_backend_ops prelux_backend_file = {
    .type = "file",
    .caps = PRELUX_CAP_RANGE | PRELUX_CAP_LIST_EXACT | PRELUX_CAP_LIST_ALL | PRELUX_CAP_CONDITIONAL |
            PRELUX_FILE_WRITE_CAPS,
    .create = file_create,
    .free = file_free,
    .identity = file_identity,
    .stat = file_stat,
    .list = file_list,
    .read = file_read,
    .write = &prelux_file_write,
};
