/* Backend `alluxio-proxy`, writing: a name that is taken.
 *
 * Theory of operation. Alluxio's rename fails where something is, and there is nothing else that replaces a file by a
 * whole one. So the old file is renamed into a hidden folder beside it, `.prelux~old-.../NAME`; the new one is renamed
 * in; then the old one is removed. In between the name is not there, for some milliseconds: readers get ENOENT, and
 * that is why RENAME_ATOMIC is not promised. What is never seen is a cut file, and no byte of the old version goes
 * before the new one has its name. Who dies in between leaves the old file in the hidden folder, whose entry says where
 * it belongs: `clean` brings it back when the name is still free, and removes it otherwise (hidden.h).
 * When the new file cannot be renamed in, the old one is put back at once.
 *
 * Somebody else may take the name while it is free. Then it is his file that is moved aside next: the last writer wins,
 * as with any put without a condition.
 *
 * A lost answer is decided by the fileId, which a rename does not change. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_proxy.h"

#define ROUNDS 8 /* others who take the name while it is free */

/* Moving */

struct moving
{
  const char *from, *to, *id;
};

/* 1: `id` is at `path`; 0: something else, or nothing, is. */
static int has_id(struct prelux_proxy *p, const char *path, const char *id)
{
  struct prelux_proxy_info now;
  int rc = prelux_proxy_status(p, path, &now, NULL);
  if (rc == -ENOENT || rc == -ENOTDIR)
    return 0;
  return rc < 0 ? rc : strcmp(now.id, id) == 0;
}

static int was_moved(struct prelux_proxy *p, void *arg)
{
  const struct moving *m = arg;
  int there = has_id(p, m->to, m->id);
  if (there != 0)
    return there;
  int still = has_id(p, m->from, m->id);
  if (still == 0)
    return -EIO; /* at neither: somebody else has moved it on */
  return still < 0 ? still : 0;
}

int prelux_proxy_move(struct prelux_proxy *p, const char *from, const char *id, const char *to, struct prelux_problem *why)
{
  struct moving m = {.from = from, .to = to, .id = id};
  char *query = prelux_proxy_query(p, "dst", to);
  struct prelux_proxy_call c = {.action = "rename", .path = from, .query = query};
  int rc = query ? prelux_proxy_settle(p, &c, was_moved, &m, why) : prelux_problem(why, ENAMETOOLONG, "%.200s: too long", to);
  free(query);
  /* What a second request is told that something in between has made of ours. */
  if ((rc == -ENOENT || rc == -EEXIST) && has_id(p, to, id) == 1)
    rc = 0;
  return rc;
}

/* Removing */

static int is_gone(struct prelux_proxy *p, void *arg)
{
  const struct moving *m = arg;
  int there = has_id(p, m->from, m->id);
  return there < 0 ? there : !there;
}

int prelux_proxy_drop(struct prelux_proxy *p, const char *path, const char *id, struct prelux_problem *why)
{
  struct moving m = {.from = path, .id = id};
  struct prelux_proxy_call c = {.action = "delete", .path = path, .body = "{\"recursive\":false}"};
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root cannot be removed");
  int rc = prelux_proxy_settle(p, &c, is_gone, &m, why);
  return rc == -ENOENT ? 0 : rc;
}

/* Replacing */

struct swap
{
  struct prelux_proxy *p;
  const char *path;
  char *folder, *aside; /* the hidden folder, and the old file in it */
  struct prelux_proxy_info old, made;
  bool moved; /* the old file is in `aside` */
};

static int swap_open(struct swap *s, struct prelux_problem *why)
{
  const char *slash = strrchr(s->path, '/');
  s->folder = prelux_hidden_beside(s->path, "old");
  s->aside = s->folder ? prelux_hidden_join(s->folder, slash ? slash + 1 : s->path) : NULL;
  if (!s->aside)
    return prelux_problem(why, ENOMEM, "no memory for a name");
  int rc = prelux_proxy_make_folder(s->p, s->folder, 0700, why);
  if (rc == 0)
    rc = prelux_proxy_status(s->p, s->folder, &s->made, why);
  return rc;
}

/* What can be removed is; what cannot is hidden, and `clean` finds it. */
static void swap_close(struct swap *s)
{
  if (s->moved)
    prelux_proxy_drop(s->p, s->aside, s->old.id, NULL);
  if (s->folder && (!s->made.id[0] || prelux_proxy_drop(s->p, s->folder, s->made.id, NULL) < 0))
    prelux_hidden_leave(s->folder);
  free(s->folder);
  free(s->aside);
}

/* Moves aside what is at the path. -ENOENT: nothing is. */
static int move_aside(struct swap *s, struct prelux_problem *why)
{
  int rc = prelux_proxy_status(s->p, s->path, &s->old, why);
  if (rc == 0 && s->old.obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", s->path);
  if (rc == 0 && !s->old.complete)
    rc = prelux_problem(why, EBUSY, "%.200s is still being written on Alluxio", s->path);
  if (rc == 0)
    rc = prelux_proxy_move(s->p, s->path, s->old.id, s->aside, why);
  if (rc < 0)
    return rc;
  s->moved = true;
  struct prelux_proxy_info seen;
  rc = prelux_proxy_status(s->p, s->aside, &seen, why);
  if (rc == 0)
    s->old = seen; /* somebody may have replaced it after the look */
  return rc;
}

/* After a failure: the old file under its name again, unless somebody else has it now. */
static void put_back(struct swap *s)
{
  if (!s->moved)
    return;
  int rc = prelux_proxy_move(s->p, s->aside, s->old.id, s->path, NULL);
  if (rc == 0 || rc == -ENOENT)
    s->moved = false;
  else if (rc != -EEXIST)
  { /* kept for `clean` */
    s->moved = false;
    s->made.id[0] = 0;
  }
}

static int swap_round(struct swap *s, const char *from, const char *id, struct prelux_problem *why)
{
  int rc = move_aside(s, why);
  if (rc == 0 && s->old.obj.type == PRELUX_DIR) /* made there after the look */
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", s->path);
  if (rc == 0 || rc == -ENOENT)
    rc = prelux_proxy_move(s->p, from, id, s->path, why);
  if (rc == -EEXIST && s->moved)
  { /* taken meanwhile: what was moved aside is older than that */
    prelux_proxy_drop(s->p, s->aside, s->old.id, NULL);
    s->moved = false;
  }
  return rc;
}

static int swap_in(struct prelux_proxy *p, const char *from, const char *id, const char *path, struct prelux_problem *why)
{
  struct swap s = {.p = p, .path = path};
  int rc = swap_open(&s, why);
  if (rc == 0)
    rc = -EEXIST;
  for (int n = 0; n < ROUNDS && rc == -EEXIST; n++)
    rc = swap_round(&s, from, id, why);
  if (rc == -EEXIST)
    rc = prelux_problem(why, EBUSY, "%.200s: others write it all the time", path);
  if (rc == -PRELUX_EUNKNOWN)
  { /* the new file may come yet: the old one is kept, and `clean` decides */
    s.moved = false;
    s.made.id[0] = 0;
  }
  else if (rc < 0)
    put_back(&s);
  swap_close(&s);
  return rc;
}

int prelux_proxy_publish(struct prelux_proxy *p, const char *from, const char *id, const char *path, bool replace,
                         struct prelux_problem *why)
{
  struct prelux_proxy_info now;
  int rc = prelux_proxy_move(p, from, id, path, why);
  if (rc != -EEXIST || !replace)
    return rc;
  rc = prelux_proxy_status(p, path, &now, why);
  if (rc == 0 && now.obj.type == PRELUX_DIR)
    return prelux_problem(why, EISDIR, "%.200s is a folder", path);
  return rc < 0 && rc != -ENOENT ? rc : swap_in(p, from, id, path, why);
}
