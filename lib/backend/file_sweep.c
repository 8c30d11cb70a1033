/* Backend `file`, writing: what unfinished work leaves behind, and how it goes.
 *
 * Theory of operation. Every unfinished file has a hidden name in the folder of its target (file_write.c,
 * file_parts.c). One of a put belongs to a living process as long as somebody holds its lock, or the folder's (the
 * instant between link and rename); so whoever holds the folder's lock and gets the file's may remove it, whatever its
 * age. An upload belongs to nobody: it goes when nothing was written to it for a time that the caller names (by ctime:
 * mtime may have been set already). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "lib/backend/file.h"
#include "lib/base/os.h"

#define UNKNOWN_DEAD_S 86400 /* one that we may not open, or that cannot be locked */

static const struct prelux_file *self(const struct prelux_backend *b)
{
  return (const struct prelux_file *)b;
}

static bool is_upload(const char *name)
{
  return strncmp(name, PRELUX_FILE_HIDDEN "up-", sizeof(PRELUX_FILE_HIDDEN "up-") - 1) == 0;
}

static uint64_t idle_of(const struct stat *st)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec > st->st_ctim.tv_sec ? (uint64_t)(now.tv_sec - st->st_ctim.tv_sec) : 0;
}

/* Removes a hidden name if it is dead. */
static bool sweep_name(int dir, const char *name, uint64_t idle_s)
{
  struct stat st;
  if (prelux_os.fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return false;
  if (!S_ISREG(st.st_mode) || (is_upload(name) && idle_of(&st) < idle_s))
    return false;
  int fd = prelux_os.openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return errno == EACCES && idle_of(&st) >= UNKNOWN_DEAD_S && prelux_os.unlinkat(dir, name, 0) == 0;
  int rc = prelux_file_flock(fd, LOCK_EX);
  bool dead = rc == 0 || (rc == -ENOLCK && idle_of(&st) >= UNKNOWN_DEAD_S);
  bool gone = dead && prelux_os.unlinkat(dir, name, 0) == 0;
  prelux_os.close(fd);
  return gone;
}

static DIR *open_names(int dir)
{
  int fd = prelux_os.openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* an offset of its own */
  DIR *names = fd < 0 ? NULL : prelux_os.fdopendir(fd);
  if (!names && fd >= 0)
    prelux_os.close(fd);
  return names;
}

int prelux_file_sweep(int dir, uint64_t idle_s, struct prelux_file_swept *ret)
{
  DIR *names = open_names(dir);
  if (!names)
    return -errno;
  for (struct dirent *e; (e = readdir(names));)
  {
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
      continue;
    if (!prelux_file_is_hidden(e->d_name))
      ret->others++;
    else if (sweep_name(dir, e->d_name, idle_s))
      ret->removed++;
    else
      ret->left++;
  }
  closedir(names);
  return 0;
}

/* A walk over folders: those still to be looked at, as object paths. */

struct walk
{
  const struct prelux_file *f;
  struct prelux_problem *why;
  char **todo;
  size_t n, cap;
};

static int push(struct walk *w, const char *folder, const char *name)
{
  if (w->n == w->cap)
  {
    size_t cap = w->cap ? 2 * w->cap : 64;
    char **grown = realloc(w->todo, cap * sizeof(*grown));
    if (!grown)
      return -ENOMEM;
    w->todo = grown;
    w->cap = cap;
  }
  if (asprintf(&w->todo[w->n], "%s%s%s", folder, folder[0] && name[0] ? "/" : "", name) < 0)
    return -ENOMEM;
  w->n++;
  return 0;
}

static void walk_release(struct walk *w)
{
  while (w->n)
    free(w->todo[--w->n]);
  free(w->todo);
}

/* Folders below this one; links are not followed: what they lead to is reached by its own name. */
static int push_below(struct walk *w, int dir, const char *path)
{
  DIR *names = open_names(dir);
  int rc = names ? 0 : -errno;
  for (struct dirent *e; rc == 0 && (e = readdir(names));)
  {
    struct stat st;
    if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || (e->d_type != DT_DIR && e->d_type != DT_UNKNOWN))
      continue;
    if (prelux_os.fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
      rc = push(w, path, e->d_name);
  }
  if (names)
    closedir(names);
  return rc;
}

/* The folder, for reading. -ENOTDIR: it is none. */
static int open_folder(const struct prelux_file *f, const char *path, struct prelux_problem *why)
{
  struct stat st;
  int fd = prelux_file_open_object(f, path, &st, why);
  if (fd < 0)
    return fd;
  int dir = S_ISDIR(st.st_mode) ? prelux_file_open_again(fd, O_RDONLY | O_DIRECTORY) : -ENOTDIR;
  prelux_os.close(fd);
  return dir;
}

typedef int (*folder_fn)(struct walk *w, int dir, const char *path, void *arg);

/* Calls `each` for the folder and all below it. What is gone or closed to us meanwhile is passed over. */
static int walk(struct walk *w, const char *path, folder_fn each, void *arg)
{
  int rc = push(w, path, "");
  for (bool first = true; rc == 0 && w->n; first = false)
  {
    char *at = w->todo[--w->n];
    int dir = open_folder(w->f, at, first ? w->why : NULL);
    if (dir >= 0)
    {
      rc = each(w, dir, at, arg);
      if (rc == 0)
        rc = push_below(w, dir, at);
      prelux_os.close(dir);
    }
    else if (first || (dir != -ENOENT && dir != -EACCES && dir != -ENOTDIR))
      rc = dir;
    free(at);
  }
  return rc;
}

/* clean */

struct cleaning
{
  uint64_t idle_s;
  int removed;
};

static int clean_folder(struct walk *w, int dir, const char *path, void *arg)
{
  struct cleaning *c = arg;
  struct prelux_file_swept swept = {0};
  struct prelux_file_place p = {.f = w->f, .path = path, .dir = dir};
  int rc = prelux_file_place_lock(&p, w->why);
  if (rc == 0)
    rc = prelux_file_sweep(dir, c->idle_s, &swept);
  prelux_file_place_unlock(&p);
  c->removed += (int)swept.removed;
  return rc;
}

int prelux_file_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  struct prelux_file_place p = {.dir = -1};
  struct walk w = {.f = self(b), .why = why};
  struct cleaning c = {.idle_s = idle_s};
  if (why)
    *why = (struct prelux_problem){0};
  int rc = walk(&w, path, clean_folder, &c);
  if ((rc == -ENOENT || rc == -ENOTDIR) && path[0]) /* a file: its folder */
  {
    rc = prelux_file_place_open(self(b), path, true, &p, why);
    if (rc == 0)
      rc = clean_folder(&w, p.dir, path, &c);
    prelux_file_place_close(&p);
  }
  walk_release(&w);
  return rc < 0 ? prelux_file_fail(self(b), path, rc, why) : c.removed;
}

/* uploads */

struct listing
{
  prelux_upload_fn add;
  void *arg;
  const char *name; /* only those of this one */
};

static int list_folder(struct walk *w, int dir, const char *path, void *arg)
{
  const struct listing *l = arg;
  DIR *names = open_names(dir);
  int rc = names ? 0 : -errno;
  for (struct dirent *e; rc == 0 && (e = readdir(names));)
  {
    struct stat st;
    const char *token = e->d_name + sizeof(PRELUX_FILE_HIDDEN) - 1;
    if (is_upload(e->d_name) && (!l->name || prelux_file_token_is_for(token, l->name)) &&
        prelux_os.fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      rc = l->add(l->arg, path, token, idle_of(&st));
  }
  if (names)
    closedir(names);
  return rc;
}

int prelux_file_uploads(struct prelux_backend *b, const char *path, prelux_upload_fn add, void *arg,
                        struct prelux_problem *why)
{
  struct prelux_file_place p = {.dir = -1};
  struct walk w = {.f = self(b), .why = why};
  struct listing l = {.add = add, .arg = arg};
  int rc = 0;
  if (path[0])
  {
    rc = prelux_file_place_open(self(b), path, true, &p, why);
    l.name = p.name;
    if (rc == 0)
      rc = list_folder(&w, p.dir, path, &l);
    prelux_file_place_close(&p);
    l.name = NULL;
  }
  if (rc == 0)
    rc = walk(&w, path, list_folder, &l);
  walk_release(&w);
  if (path[0] && (rc == -ENOENT || rc == -ENOTDIR)) /* no folder: that was all */
  {
    if (why)
      *why = (struct prelux_problem){0};
    return 0;
  }
  return rc < 0 ? prelux_file_fail(self(b), path, rc, why) : 0;
}
