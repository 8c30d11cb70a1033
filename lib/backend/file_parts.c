/* Backend `file`, writing: uploads in parts.
 *
 * Theory of operation. An upload is a hidden file of the target's own folder, `.prelux~up-PARTSIZE-OBJECT-NUMBER`; what
 * follows the `~` is its token, so that nothing else need be remembered. OBJECT is a hash of the target's name: a token
 * that is used for another object is refused. Part n is written in place at n * part size and synced before it is
 * answered: an upload survives a power cut with every part that was acknowledged. complete cuts the file to its size
 * and names it as a put does. A part holds a shared lock on the file, complete and abort an exclusive one: nothing
 * removes what is in use, and no part is written into a file that has its name already. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "lib/backend/file.h"
#include "lib/base/io.h"
#include "lib/base/os.h"

#define PART_MIN PRELUX_FILE_PART_MIN
#define PART_MAX PRELUX_FILE_PART_MAX

static const struct prelux_file *self(const struct prelux_backend *b)
{
  return (const struct prelux_file *)b;
}

static int no_upload(const struct prelux_file *f, const char *path, struct prelux_problem *why)
{
  return prelux_problem(why, ENXIO, "%s/%s: no such upload: finished, aborted or swept", f->root, path);
}

static uint64_t hash(const char *name)
{
  uint64_t h = UINT64_C(0xcbf29ce484222325); /* FNV-1a: it only has to tell objects of one folder apart */
  for (; *name; name++)
    h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
  return h;
}

static int create(struct prelux_file_place *p, uint64_t part_size, char token[PRELUX_TOKEN_MAX])
{
  char kind[48], name[NAME_MAX + 1];
  snprintf(kind, sizeof(kind), "up-%" PRIx64 "-%016" PRIx64, part_size, hash(p->name));
  for (int i = 0; i < 16; i++)
  {
    prelux_file_random_name(kind, name);
    int fd = prelux_os.openat(p->dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
      continue;
    if (fd < 0)
      return -errno;
    prelux_os.close(fd);
    int rc = prelux_sync(p->dir, false);
    if (rc < 0 && rc != -EINVAL)
    {
      prelux_os.unlinkat(p->dir, name, 0);
      return rc;
    }
    snprintf(token, PRELUX_TOKEN_MAX, "%s", name + sizeof(PRELUX_FILE_HIDDEN) - 1);
    return 0;
  }
  return -EBUSY;
}

int prelux_file_begin(struct prelux_backend *b, const char *path, uint64_t part_size, const struct prelux_set *set,
                      char token[PRELUX_TOKEN_MAX], struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct stat st;
  int rc = prelux_file_place_open(self(b), path, true, &p, why);
  if (rc == -EBUSY && !path[0])
    rc = prelux_problem(why, EISDIR, "%s: the root is a folder", self(b)->root);
  if (rc == 0 && (part_size < PART_MIN || part_size > PART_MAX))
    rc = prelux_problem(why, EINVAL, "%s/%s: parts of %" PRIu64 " bytes", p.f->root, path, part_size);
  if (rc == 0 && prelux_file_place_look(&p, &st, NULL, NULL) == 0 && S_ISDIR(st.st_mode))
    rc = -EISDIR;
  if (rc == 0)
    rc = create(&p, part_size, token);
  prelux_file_place_close(&p);
  return rc < 0 ? prelux_file_fail(self(b), path, rc, why) : 0;
}

/* "up-PARTSIZE-OBJECT-NUMBER" and nothing else: a token comes from a journal, and becomes a name. */
static int read_token(const char *token, uint64_t *ret_part_size)
{
  char *end;
  if (strncmp(token, "up-", 3) != 0 || strspn(token + 3, "0123456789abcdef-") != strlen(token + 3) ||
      strlen(token) > 64)
    return -ENXIO;
  *ret_part_size = strtoull(token + 3, &end, 16);
  return *end == '-' && *ret_part_size >= PART_MIN && *ret_part_size <= PART_MAX ? 0 : -ENXIO;
}

bool prelux_file_token_is_for(const char *token, const char *name)
{
  uint64_t part_size;
  char *end;
  if (read_token(token, &part_size) < 0)
    return false;
  return strtoull(strchr(token + 3, '-') + 1, &end, 16) == hash(name) && *end == '-';
}

/* The upload's file, locked with `how`. p->name "": of whatever object of the folder. */
static int open_upload(const struct prelux_file_place *p, const char *token, int how, uint64_t *ret_part_size,
                       struct prelux_file_temp *ret)
{
  *ret = (struct prelux_file_temp){.fd = -1};
  int rc = read_token(token, ret_part_size);
  if (rc == 0 && p->name[0] && !prelux_file_token_is_for(token, p->name))
    rc = -ENXIO;
  if (rc < 0)
    return rc;
  snprintf(ret->name, sizeof(ret->name), PRELUX_FILE_HIDDEN "%s", token);
  ret->fd = prelux_os.openat(p->dir, ret->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (ret->fd < 0)
    return errno == ENOENT ? -ENXIO : -errno;
  struct stat st;
  rc = prelux_file_flock(ret->fd, how);
  if (rc == -ENOLCK)
    rc = 0;
  if (rc == 0 && prelux_os.fstat(ret->fd, &st) < 0)
    rc = -errno;
  if (rc == 0 && (st.st_nlink == 0 || prelux_os.fstatat(p->dir, ret->name, &st, AT_SYMLINK_NOFOLLOW) < 0))
    rc = -ENXIO; /* completed or removed between open and lock */
  if (rc < 0)
  {
    prelux_os.close(ret->fd);
    ret->fd = -1;
  }
  return rc;
}

static int open_place_and_upload(const struct prelux_file *f, const char *path, const char *token, int how,
                                 struct prelux_file_place *p, uint64_t *ret_part_size, struct prelux_file_temp *ret,
                                 struct prelux_problem *why)
{
  ret->fd = -1;
  int rc = prelux_file_place_open(f, path, true, p, why);
  if (rc == 0)
    rc = open_upload(p, token, how, ret_part_size, ret);
  if (rc == -EBUSY)
    return prelux_problem(why, EBUSY, "%s/%s: the upload is in use", f->root, path);
  if (rc == -ENXIO)
    return no_upload(f, path, why);
  return rc < 0 ? prelux_file_fail(f, path, rc, why) : 0;
}

static void close_both(struct prelux_file_place *p, struct prelux_file_temp *t)
{
  if (t->fd >= 0)
    prelux_os.close(t->fd);
  t->fd = -1;
  prelux_file_place_close(p);
}

int prelux_file_part(struct prelux_backend *b, const char *path, const char *token, unsigned n, int fd, uint64_t off,
                     uint64_t len, char tag[PRELUX_TAG_MAX], struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct prelux_file_temp t;
  uint64_t part_size = 0;
  int rc = open_place_and_upload(self(b), path, token, LOCK_SH, &p, &part_size, &t, why);
  if (rc == 0 && (len == 0 || len > part_size || n > (uint64_t)INT64_MAX / part_size - 1))
    rc = prelux_problem(why, EINVAL, "%s/%s: part %u of %" PRIu64 " bytes", p.f->root, path, n, len);
  if (rc == 0)
    rc = prelux_file_copy_in(&p, fd, off, len, t.fd, n * part_size, NULL, why);
  if (rc == 0 && (rc = prelux_sync(t.fd, true)) < 0)
    rc = prelux_file_fail(p.f, path, rc, why);
  if (rc == 0)
    snprintf(tag, PRELUX_TAG_MAX, "%" PRIx64, len);
  close_both(&p, &t);
  return rc;
}

/* The parts make `size` bytes, in order and without holes. */
static int check_parts(const struct prelux_file_place *p, const struct prelux_part *parts, size_t n, uint64_t part_size,
                       uint64_t size, struct prelux_problem *why)
{
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++)
  {
    char *end;
    uint64_t len = strtoull(parts[i].tag, &end, 16);
    if (parts[i].n != i || *end || !parts[i].tag[0] || len == 0 || len > part_size || (i + 1 < n && len != part_size))
      return prelux_problem(why, EINVAL, "%s/%s: part %zu does not belong there", p->f->root, p->path, i);
    sum += len;
  }
  if (n == 0 || sum != size)
    return prelux_problem(why, EINVAL, "%s/%s: the parts are %" PRIu64 " bytes, not %" PRIu64, p->f->root, p->path, sum,
                          size);
  return 0;
}

/* What a longer part, sent earlier, has left behind the end goes. */
static int cut(const struct prelux_file_place *p, int fd, uint64_t size, struct prelux_problem *why)
{
  struct stat st;
  if (prelux_os.fstat(fd, &st) < 0)
    return -errno;
  if ((uint64_t)st.st_size < size)
    return prelux_problem(why, EINVAL, "%s/%s: a part is missing: %" PRIu64 " bytes of %" PRIu64, p->f->root, p->path,
                          (uint64_t)st.st_size, size);
  return (uint64_t)st.st_size > size && prelux_os.ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int prelux_file_complete(struct prelux_backend *b, const char *path, const char *token, const struct prelux_part *parts,
                         size_t n, uint64_t size, const struct prelux_put *how, struct prelux_object *ret,
                         struct prelux_problem *why)
{
  struct prelux_file_place p;
  struct prelux_file_temp t;
  uint64_t part_size = 0;
  int rc = open_place_and_upload(self(b), path, token, LOCK_EX, &p, &part_size, &t, why);
  if (rc == 0)
    rc = check_parts(&p, parts, n, part_size, size, why);
  if (rc == 0 && (rc = cut(&p, t.fd, size, why)) < 0)
    rc = prelux_file_fail(p.f, path, rc, why);
  if (rc == 0)
    rc = prelux_file_commit(&p, &t, size, how, ret, why);
  if (rc < 0 && t.fd >= 0 && rc != -PRELUX_EUNKNOWN)
    prelux_os.fchmod(t.fd, 0600); /* as it was: whoever tries again must be able to open it */
  close_both(&p, &t);
  return rc;
}

/* `uploads` knows the folder only. */
static int open_in_folder(const struct prelux_file *f, const char *path, const char *token, struct prelux_file_place *p,
                          struct prelux_file_temp *t)
{
  struct stat st;
  uint64_t part_size;
  *p = (struct prelux_file_place){.f = f, .path = path, .dir = -1};
  int fd = prelux_file_open_object(f, path, &st, NULL);
  if (fd < 0)
    return fd;
  p->dir = S_ISDIR(st.st_mode) ? prelux_file_open_again(fd, O_RDONLY | O_DIRECTORY) : -ENXIO;
  prelux_os.close(fd);
  return p->dir < 0 ? p->dir : open_upload(p, token, LOCK_EX, &part_size, t);
}

int prelux_file_abort(struct prelux_backend *b, const char *path, const char *token, struct prelux_problem *why)
{
  struct prelux_file_place p = {.dir = -1};
  struct prelux_file_temp t = {.fd = -1};
  uint64_t part_size = 0;
  int rc = -ENXIO;
  if (why)
    *why = (struct prelux_problem){0};
  if (path[0])
    rc = open_place_and_upload(self(b), path, token, LOCK_EX, &p, &part_size, &t, why);
  if (rc == -ENXIO)
  {
    close_both(&p, &t);
    rc = open_in_folder(self(b), path, token, &p, &t);
  }
  if (rc == 0 && prelux_os.unlinkat(p.dir, t.name, 0) < 0 && errno != ENOENT)
    rc = -errno;
  close_both(&p, &t);
  return rc == 0 || rc == -ENXIO || rc == -ENOENT ? 0 : prelux_file_fail(self(b), path, rc, why);
}
