/* Backend `alluxio-ee`, writing: moving, removing, and putting a file in the place of another.
 *
 * Whether mv replaces what is at its target nobody has written; the vendor's client knows 409 (FileExistsError). So both are taken: where
 * mv says 2xx the file must be seen at its new name, and where it says 409 the old file is moved into a hidden folder, the new one
 * moved in, the old one removed. In between the name is not there, for some milliseconds; no byte of the old file goes before
 * the new one has its name, and who dies in between leaves the old one where `clean` finds it and brings it back (hidden.h).
 *
 * What a worker calls done is believed when /v1/info shows it: a cluster that goes on telling of the old file is found out here,
 * and the caller is told "unknown" instead of "done". Nor is it believed when it refuses: what lies in between may have asked for
 * the second time, and pass on what it was told then (404, 409). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_ee_write.h"

#define ROUNDS 8 /* others who take the name while it is free */

/* recursive in both spellings of the vendor's client, whose default for remove_alluxio_only is True: the file would be there again. */
#define RM_OPTIONS                                                                                                                   \
  "&recursive=False&recursiveAlias=False&sync_parent_next_time=False&remove_unchecked_option=False&remove_alluxio_only=False"          \
  "&delete_mount_point=False"

/* 1: it is there, 0: it is not. Of a file that is still being written nothing else is known. */
static int is_there(struct prelux_ee *e, const char *path, struct prelux_object *ret)
{
  *ret = (struct prelux_object){.type = PRELUX_FILE, .size = UINT64_MAX};
  int rc = prelux_ee_look(e, path, ret, NULL);
  return rc == 0 || rc == -EBUSY ? 1 : rc == -ENOENT || rc == -ENOTDIR ? 0 : rc;
}

/* Removing */

static bool same(const struct prelux_object *a, const struct prelux_object *b)
{
  bool known = a->type == PRELUX_FILE && a->version[0] && b->version[0];
  return a->type == b->type && (!known || strcmp(a->version, b->version) == 0);
}

static int seen_gone(struct prelux_ee *e, const char *path, const struct prelux_object *before, int looks)
{
  struct prelux_object now;
  int rc = 1;
  for (int n = 0; n < looks && rc == 1; n++)
  {
    if (n && prelux_net_backoff(e->net, n - 1) < 0)
      break;
    rc = is_there(e, path, &now);
    if (rc == 1 && !same(&now, before))
      return 0; /* somebody made another one */
  }
  return rc;
}

/* A change that was refused: may something in between have asked twice? Where no worker could be asked at all, nothing was. */
static bool may_be_done(int rc)
{
  return rc != -EIO && rc != -ENOMEM && rc != -ECANCELED;
}

int prelux_ee_drop(struct prelux_ee *e, const char *path, struct prelux_problem *why)
{
  struct prelux_ee_change c = {.action = "rm", .path = path, .more = RM_OPTIONS};
  struct prelux_object before = {.type = PRELUX_FILE};
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root cannot be removed");
  int rc = prelux_ee_look(e, path, &before, why);
  if (rc < 0 && rc != -EBUSY)
    return rc;
  rc = prelux_ee_change(e, &c, why);
  bool refused = rc < 0 && rc != -PRELUX_EUNKNOWN;
  if (refused && !may_be_done(rc))
    return rc;
  int left = seen_gone(e, path, &before, refused ? 1 : PRELUX_EE_LOOKS);
  if (left == 0)
    return 0;
  if (refused)
    return rc;
  if (rc == 0 && left == 1)
    return prelux_problem(why, PRELUX_EUNKNOWN, "/%.200s: Alluxio says that it is removed, and shows it still", path);
  return prelux_problem(why, PRELUX_EUNKNOWN, "/%.200s: whether it is removed cannot be told", path);
}

/* Folders of hidden names: nobody else makes them. */
int prelux_ee_make_folder(struct prelux_ee *e, const char *path, struct prelux_problem *why)
{
  struct prelux_ee_change c = {.action = "mkdir", .path = path};
  struct prelux_object now;
  int rc = prelux_ee_change(e, &c, why);
  if (rc < 0 && rc != -PRELUX_EUNKNOWN)
    return rc;
  int there = is_there(e, path, &now);
  if (there == 1 && now.type == PRELUX_DIR && (rc == 0 || prelux_hidden(path)))
    return 0;
  return prelux_problem(why, PRELUX_EUNKNOWN, "/%.200s: whether the folder was made cannot be told", path);
}

/* Moving */

/* 1: done; 0: not done; -ENOENT: not done, and somebody else has taken the file; -errno: cannot tell. Done is what has left its name,
 * when at the other one there is a file of its size that is not the one that was there before. */
static int was_moved(struct prelux_ee *e, const struct prelux_ee_move *m)
{
  struct prelux_object now;
  int still = is_there(e, m->from, &now);
  if (still < 0)
    return still;
  if (still && now.type == PRELUX_FILE && (m->hidden || strcmp(now.version, m->it.version) == 0))
    return 0;
  int there = is_there(e, m->to, &now);
  if (there < 0)
    return there;
  if (!there || now.type != PRELUX_FILE || now.size != m->it.size)
    return -EIO;
  bool old = m->old.type == PRELUX_FILE && strcmp(now.version, m->old.version) == 0 && strcmp(now.version, m->it.version) != 0;
  return !old ? 1 : e->whole_seconds ? -EIO : -ENOENT;
}

/* One mv, sent again only where that does no harm. -EEXIST: Alluxio does not replace. */
static int move(struct prelux_ee *e, const struct prelux_ee_move *m, struct prelux_problem *why)
{
  struct prelux_ee_change c = {.action = "mv", .path = m->from, .to = m->to};
  bool lost = false;
  for (int tries = 0;; tries++)
  {
    int rc = prelux_ee_change(e, &c, why);
    if (rc == 0 || (!lost && !may_be_done(rc)))
      return rc;
    lost = lost || rc == -PRELUX_EUNKNOWN;
    int state = was_moved(e, m);
    if (state == 1)
      return 0;
    if (rc != -PRELUX_EUNKNOWN && (state == 0 || !lost))
      return rc; /* refused, and one that was lost would be refused, too */
    if (state == -ENOENT)
      return prelux_problem(why, ENOENT, "mv /%.200s: somebody else has moved or removed it", m->from);
    if (state < 0 || !m->hidden || tries == PRELUX_EE_TRIES || prelux_net_backoff(e->net, tries) < 0)
      return prelux_problem(why, PRELUX_EUNKNOWN, "mv /%.200s: whether it was done cannot be told", m->from);
  }
}

/* Is the new file the one that Alluxio shows? */
static int confirm(struct prelux_ee *e, const struct prelux_ee_move *m, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_object now = {0};
  bool distinct = m->old.type == PRELUX_FILE && strcmp(m->old.version, m->it.version) != 0;
  int rc = -EIO;
  for (int n = 0; n < PRELUX_EE_LOOKS; n++)
  {
    if (n && prelux_net_backoff(e->net, n - 1) < 0)
      break;
    rc = prelux_ee_look(e, m->to, &now, why);
    bool old = rc == 0 && distinct && strcmp(now.version, m->old.version) == 0;
    if (rc < 0 || old)
      continue;
    *ret = m->it;
    ret->mtime_ns = now.size == m->it.size ? now.mtime_ns : m->it.mtime_ns;
    if (strcmp(now.version, m->it.version) != 0)
      ret->version[0] = 0; /* object stores give another time; or somebody else was later */
    return 0;
  }
  if (rc == 0)
    return prelux_problem(why, PRELUX_EUNKNOWN, "/%.200s: Alluxio says that it is replaced, and shows the old file still", m->to);
  return prelux_problem(why, PRELUX_EUNKNOWN, "/%.200s: Alluxio says that it is there now, and does not show it", m->to);
}

/* Replacing where mv does not */

struct swap
{
  struct prelux_ee *e;
  const struct prelux_ee_move *m;
  char *folder, *aside; /* the hidden folder, and the old file in it */
  struct prelux_object old;
  bool made, moved; /* the folder is there; the old file is in it */
};

static int swap_open(struct swap *s, struct prelux_problem *why)
{
  const char *slash = strrchr(s->m->to, '/');
  s->folder = prelux_hidden_beside(s->m->to, "old");
  s->aside = s->folder ? prelux_hidden_join(s->folder, slash ? slash + 1 : s->m->to) : NULL;
  if (!s->aside)
    return prelux_problem(why, ENOMEM, "no memory for a name");
  int rc = prelux_ee_make_folder(s->e, s->folder, why);
  s->made = rc == 0;
  return rc;
}

static void swap_close(struct swap *s)
{
  if (s->moved)
    prelux_ee_drop(s->e, s->aside, NULL);
  if (s->folder && (!s->made || prelux_ee_drop(s->e, s->folder, NULL) < 0))
    prelux_hidden_leave(s->folder);
  free(s->folder);
  free(s->aside);
}

/* -ENOENT: nothing is there. */
static int move_aside(struct swap *s, struct prelux_problem *why)
{
  int rc = prelux_ee_look(s->e, s->m->to, &s->old, why);
  if (rc == 0 && s->old.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "/%.200s is a folder", s->m->to);
  if (rc < 0)
    return rc;
  struct prelux_ee_move m = {.from = s->m->to, .to = s->aside, .it = s->old};
  rc = move(s->e, &m, why);
  s->moved = rc == 0;
  return rc;
}

/* After a failure: the old file under its name again, unless somebody else has it now. */
static void put_back(struct swap *s)
{
  struct prelux_object now;
  struct prelux_ee_move m = {.from = s->aside, .to = s->m->to, .it = s->old, .hidden = true};
  if (!s->moved || is_there(s->e, s->m->to, &now) == 1)
    return;
  s->moved = false;
  int rc = move(s->e, &m, NULL);
  if (rc < 0 && rc != -ENOENT)
    s->made = false; /* kept for `clean` */
}

static int swap_round(struct swap *s, struct prelux_problem *why)
{
  int rc = move_aside(s, why);
  if (rc == 0 || rc == -ENOENT)
    rc = move(s->e, s->m, why);
  if (rc == -EEXIST && s->moved)
  { /* taken meanwhile: what was moved aside is older than that */
    int gone = prelux_ee_drop(s->e, s->aside, why);
    if (gone < 0 && gone != -ENOENT)
      return gone;
    s->moved = false;
  }
  return rc;
}

static int swap_in(struct prelux_ee *e, const struct prelux_ee_move *m, struct prelux_problem *why)
{
  struct swap s = {.e = e, .m = m};
  int rc = swap_open(&s, why);
  if (rc == 0)
    rc = -EEXIST;
  for (int n = 0; n < ROUNDS && rc == -EEXIST; n++)
    rc = swap_round(&s, why);
  if (rc == -EEXIST)
    rc = prelux_problem(why, EBUSY, "/%.200s: others write it all the time", m->to);
  if (rc == -PRELUX_EUNKNOWN)
    s.moved = s.made = false; /* one of the two moves may come yet: the old file is kept, and `clean` decides */
  else if (rc < 0)
    put_back(&s);
  swap_close(&s);
  return rc;
}

int prelux_ee_publish(struct prelux_ee *e, const struct prelux_ee_move *m, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = move(e, m, why);
  if (rc == -EEXIST)
  {
    rc = prelux_ee_look(e, m->to, &now, why);
    if (rc == 0 && now.type == PRELUX_DIR)
      return prelux_problem(why, EISDIR, "/%.200s is a folder", m->to);
    if (rc == 0 || rc == -ENOENT)
      rc = swap_in(e, m, why);
  }
  return rc == 0 ? confirm(e, m, ret, why) : rc;
}
