/* Theory of operation. Most paths hold no symlink: one openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS) opens them. When
 * the kernel says ELOOP (a link), or has no openat2 (ENOSYS, EPERM under seccomp filters), the path is walked here, one
 * name at a time, always with O_NOFOLLOW from the fd of a folder that was reached in the same way. ".." inside a link's
 * text is never given to the kernel: `real`, the link-free path from the root to where the walk stands, loses its last
 * name and is opened again from the root. So a folder that others move while we walk can make the walk fail but not
 * leave the root.
 *
 * A link to a folder that the path went through already (x -> ., x -> ..) would make the tree endless for find and du,
 * which cannot see it: they are shown folders, and numbers of our own. Those links are refused: (dev, ino) of each
 * folder on the way is kept and compared when a link was followed.
 *
 * A daemon of several users reads what they may not, so a link of theirs is a question in its name: see prelux_beneath_distrust(). Only what
 * the link leads to in the end counts, and it is looked at by the descriptor that is used afterwards. */
#include "lib/backend/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/base/sys.h"

#define LINKS_MAX 40 /* as Linux */

static bool distrust; /* set before anything is asked of a remote */

void prelux_beneath_distrust(void)
{
  distrust = true;
}

bool prelux_beneath_distrusts(void)
{
  return distrust;
}

struct seen
{
  dev_t dev;
  ino_t ino;
};

struct walk
{
  int root; /* borrowed */
  const char *root_path;
  const char *path; /* what the caller asked, for texts */
  struct prelux_problem *why;
  int fd;                  /* where the walk stands; -1: nowhere */
  char real[PATH_MAX];     /* its path from the root, without links */
  char rest[2 * PATH_MAX]; /* text of links still to be walked, before the next name of `path` */
  int links;
  bool foreign; /* a name of `path` has led over links of the next one, who is neither root nor us */
  uid_t by;
  struct seen *seen; /* folders that names of `path` led to, the root first */
  size_t n_seen, cap_seen;
};

static int open_name(int dir, const char *name)
{
  int fd = prelux_os.openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

static void stand_at(struct walk *w, int fd)
{
  if (w->fd >= 0)
    prelux_os.close(w->fd);
  w->fd = fd;
}

/* Opens w->real anew from the root, name by name. */
static int reopen(struct walk *w)
{
  char names[PATH_MAX];
  memcpy(names, w->real, sizeof(names));
  int fd = open_name(w->root, ".");
  for (char *save, *name = strtok_r(names, "/", &save); name && fd >= 0; name = strtok_r(NULL, "/", &save))
  {
    int next = open_name(fd, name);
    prelux_os.close(fd);
    fd = next;
  }
  if (fd < 0)
    return fd;
  stand_at(w, fd);
  return 0;
}

static int leaves(struct walk *w, const char *target)
{
  return prelux_problem(w->why, EACCES, "%s: a symlink leads out of %s (to %s)", w->path, w->root_path, target);
}

/* Puts a link's text in front of what is left to walk. */
static int follow(struct walk *w)
{
  char target[PATH_MAX];
  ssize_t n = readlinkat(w->fd, "", target, sizeof(target) - 1);
  if (n < 0)
    return -errno;
  target[n] = 0;
  if (++w->links > LINKS_MAX)
    return prelux_problem(w->why, EACCES, "%s: too many symlinks", w->path);
  const char *text = target;
  if (target[0] == '/')
  {
    size_t len = strlen(w->root_path);
    while (len && w->root_path[len - 1] == '/')
      len--;
    if (strncmp(target, w->root_path, len) != 0 || (target[len] != '/' && target[len] != 0))
      return leaves(w, target);
    text = target + len;
    w->real[0] = 0;
  }
  else
  {
    char *slash = strrchr(w->real, '/'); /* the link's own name goes */
    *(slash ? slash : w->real) = 0;
  }
  char rest[sizeof(w->rest)];
  int len = snprintf(rest, sizeof(rest), "%s%s%s", text, w->rest[0] ? "/" : "", w->rest);
  if ((size_t)len >= sizeof(rest))
    return -ENAMETOOLONG;
  memcpy(w->rest, rest, (size_t)len + 1);
  return reopen(w);
}

static int ascend(struct walk *w)
{
  if (!w->real[0])
    return leaves(w, "..");
  char *slash = strrchr(w->real, '/');
  *(slash ? slash : w->real) = 0;
  return reopen(w);
}

/* One name down; w->fd then may be a link. */
static int descend(struct walk *w, const char *name)
{
  size_t len = strlen(w->real);
  int n = snprintf(w->real + len, sizeof(w->real) - len, "%s%s", len ? "/" : "", name);
  if ((size_t)n >= sizeof(w->real) - len)
    return -ENAMETOOLONG;
  int fd = open_name(w->fd, name);
  if (fd < 0)
    return fd;
  stand_at(w, fd);
  return 0;
}

static int standing(struct walk *w, struct stat *st)
{
  return prelux_os.fstatat(w->fd, "", st, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The next name of w->rest, cut off in place; NULL when there is none. */
static bool next_name(struct walk *w, char name[NAME_MAX + 2], int *ret_err)
{
  size_t skip = strspn(w->rest, "/");
  size_t len = strcspn(w->rest + skip, "/");
  *ret_err = 0;
  if (len == 0)
    return false;
  if (len > NAME_MAX)
  {
    *ret_err = -ENAMETOOLONG;
    return false;
  }
  memcpy(name, w->rest + skip, len);
  name[len] = 0;
  memmove(w->rest, w->rest + skip + len, strlen(w->rest + skip + len) + 1);
  return true;
}

/* A link is stood on. */
static int note_owner(struct walk *w, const struct stat *link)
{
  if (!distrust || link->st_uid == 0 || link->st_uid == geteuid() || (w->foreign && w->by == link->st_uid))
    return 0;
  if (w->foreign)
    return prelux_problem(w->why, EACCES, "%s: a symlink of user %u leads to one of user %u", w->path, (unsigned)w->by, (unsigned)link->st_uid);
  w->foreign = true;
  w->by = link->st_uid;
  return 0;
}

/* Walks w->rest, links included, until it stands on something that is no link. */
static int settle(struct walk *w, struct stat *ret_st, bool *ret_linked)
{
  char name[NAME_MAX + 2];
  int rc;
  while (next_name(w, name, &rc))
  {
    if (strcmp(name, ".") == 0)
      continue;
    rc = strcmp(name, "..") == 0 ? ascend(w) : descend(w, name);
    if (rc == 0)
      rc = standing(w, ret_st);
    if (rc < 0)
      return rc;
    if (S_ISLNK(ret_st->st_mode))
    {
      *ret_linked = true;
      rc = note_owner(w, ret_st);
      if (rc == 0)
        rc = follow(w);
    }
    else if (!S_ISDIR(ret_st->st_mode) && w->rest[0])
    {
      rc = -ENOTDIR;
    }
    if (rc < 0)
      return rc;
  }
  return rc < 0 ? rc : standing(w, ret_st);
}

/* rc, st: what a name of `path` has led to. Who asks is not told of what is another's, nor that it is not there. */
static int judge(struct walk *w, int rc, const struct stat *st)
{
  bool foreign = w->foreign;
  w->foreign = false;
  if (!foreign || (rc == 0 && st->st_uid == w->by) || (rc < 0 && rc != -ENOENT && rc != -ENOTDIR))
    return rc;
  return prelux_problem(w->why, EACCES, "%s: a symlink of user %u leads to what is not his", w->path, (unsigned)w->by);
}

static int remember(struct walk *w, const struct stat *st, bool linked)
{
  if (!S_ISDIR(st->st_mode))
    return 0;
  for (size_t i = 0; linked && i < w->n_seen; i++)
    if (w->seen[i].dev == st->st_dev && w->seen[i].ino == st->st_ino)
      return prelux_problem(w->why, EACCES, "%s: a symlink leads back to a folder above it: the tree would have no end",
                            w->path);
  if (w->n_seen == w->cap_seen)
  {
    size_t cap = w->cap_seen ? 2 * w->cap_seen : 16;
    struct seen *grown = realloc(w->seen, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    w->seen = grown;
    w->cap_seen = cap;
  }
  w->seen[w->n_seen++] = (struct seen){st->st_dev, st->st_ino};
  return 0;
}

static int walk_names(struct walk *w)
{
  struct stat st;
  w->fd = open_name(w->root, ".");
  if (w->fd < 0)
    return w->fd;
  int rc = standing(w, &st);
  if (rc == 0)
    rc = remember(w, &st, false);
  for (const char *p = w->path; *p && rc == 0;)
  {
    size_t len = strcspn(p, "/");
    if (len > NAME_MAX)
      return -ENAMETOOLONG;
    if (!S_ISDIR(st.st_mode))
      return -ENOTDIR;
    memcpy(w->rest, p, len);
    w->rest[len] = 0;
    p += len + (p[len] == '/');
    bool linked = false;
    rc = judge(w, settle(w, &st, &linked), &st);
    if (rc == 0)
      rc = remember(w, &st, linked);
  }
  return rc;
}

/* ret_real, if set: the path from the root without links. */
static int walk_open(int root, const char *root_path, const char *path, char ret_real[PATH_MAX],
                     struct prelux_problem *why)
{
  struct walk *w = calloc(1, sizeof(*w)); /* 12 KiB: too much for a pool thread's stack to hold lightly */
  if (!w)
    return -ENOMEM;
  *w = (struct walk){.root = root, .root_path = root_path, .path = path, .why = why, .fd = -1};
  int rc = walk_names(w);
  if (rc == 0 && ret_real)
    memcpy(ret_real, w->real, sizeof(w->real));
  if (rc == 0)
    rc = w->fd;
  else if (w->fd >= 0)
    prelux_os.close(w->fd);
  free(w->seen);
  free(w);
  return rc;
}

int prelux_beneath_open(int root, const char *root_path, const char *path, struct prelux_problem *why)
{
  struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                         .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  long rc = prelux_sys(SYS_openat2, root, path[0] ? path : ".", &how, sizeof(how));
  if (rc == -ELOOP || rc == -EXDEV || rc == -ENOSYS || rc == -EPERM || rc == -EAGAIN)
    return walk_open(root, root_path, path, NULL, why);
  return (int)rc;
}

static int open_parent(int root, const char *root_path, const char *path, char name[NAME_MAX + 1],
                       struct prelux_problem *why)
{
  char folder[PATH_MAX];
  const char *slash = strrchr(path, '/');
  const char *last = slash ? slash + 1 : path;
  size_t len = slash ? (size_t)(slash - path) : 0;
  if (len >= sizeof(folder) || strlen(last) > NAME_MAX)
    return -ENAMETOOLONG;
  memcpy(folder, path, len);
  folder[len] = 0;
  int fd = prelux_beneath_open(root, root_path, folder, why);
  if (fd >= 0)
    strcpy(name, last);
  return fd;
}

int prelux_beneath_parent(int root, const char *root_path, const char *path, bool follow, char name[NAME_MAX + 1],
                          struct prelux_problem *why)
{
  char real[PATH_MAX];
  struct stat st;
  int fd = open_parent(root, root_path, path, name, why);
  if (fd < 0 || !follow || prelux_os.fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode))
    return fd;
  int object = walk_open(root, root_path, path, real, why);
  if (object == -ENOENT)
    return fd; /* it dangles */
  prelux_os.close(fd);
  if (object < 0)
    return object;
  prelux_os.close(object);
  return open_parent(root, root_path, real, name, why);
}
