/* Backend `alluxio-ee`, writing: names and folders.
 *
 * rm goes without `recursive`, never with the options that take a mount point along or that leave the under store as it is, and never for the
 * root. Whether a worker refuses a folder in which something is nobody has written: it is listed before. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/backend/alluxio_ee_write.h"

static struct prelux_ee *self(struct prelux_backend *b)
{
  return (struct prelux_ee *)b;
}

/* What is at a path that is to be changed. */
static int look(struct prelux_ee *e, const char *path, struct prelux_object *ret, struct prelux_problem *why)
{
  if (!path[0])
    return prelux_problem(why, EBUSY, "the root can be neither removed nor changed");
  if (prelux_hidden(path))
    return prelux_problem(why, ENOENT, "/%.200s: a name of unfinished work", path);
  int rc = prelux_ee_may_make(e, path, why);
  return rc == 0 ? prelux_ee_look(e, path, ret, why) : rc;
}

/* Removing */

int prelux_ee_remove(struct prelux_backend *b, const char *path, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_object now;
  if (cond->must == PRELUX_MUST_BE_ABSENT)
    return prelux_problem(why, EINVAL, "%.200s: to remove what must not be there", path);
  int rc = prelux_ee_no_condition(cond, why);
  if (rc == 0)
    rc = look(self(b), path, &now, why);
  if (rc == 0 && now.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "/%.200s is a folder", path);
  return rc == 0 ? prelux_ee_drop(self(b), path, why) : rc;
}

static int on_any(void *arg, const char *name, size_t len, const struct prelux_object *obj)
{
  return -ENOTEMPTY;
}

static int is_empty(struct prelux_ee *e, const char *path, struct prelux_problem *why)
{
  int rc = prelux_ee_each(e, path, on_any, NULL, why);
  return rc == -ENOTEMPTY ? prelux_problem(why, ENOTEMPTY, "/%.200s: something is in it", path) : rc;
}

int prelux_ee_rmdir(struct prelux_backend *b, const char *path, struct prelux_problem *why)
{
  struct prelux_object now;
  bool mount = false;
  int rc = look(self(b), path, &now, why);
  if (rc == 0 && now.type != PRELUX_DIR)
    rc = prelux_problem(why, ENOTDIR, "/%.200s is a file", path);
  if (rc == 0)
    rc = prelux_ee_is_mount(self(b), path, &mount, why);
  if (rc == 0 && mount)
    rc = prelux_problem(why, EBUSY, "/%.200s is a mount point of the cluster", path);
  if (rc == 0)
    rc = is_empty(self(b), path, why);
  if (rc == -ENOTEMPTY && prelux_ee_clean(b, path, PRELUX_HIDDEN_IDLE_S, NULL) > 0) /* what the dead have left does not count */
    rc = is_empty(self(b), path, why);
  if (rc < 0)
    return rc;
  rc = prelux_ee_drop(self(b), path, why);
  if (rc == -EEXIST || rc == -EBUSY) /* filled since the look? */
    rc = is_empty(self(b), path, NULL) == -ENOTEMPTY ? prelux_problem(why, ENOTEMPTY, "/%.200s: something is in it", path) : -EBUSY;
  return rc;
}

/* Folders */

int prelux_ee_mkdir(struct prelux_backend *b, const char *path, uint32_t mode, struct prelux_problem *why)
{
  struct prelux_object now;
  if (!path[0])
    return prelux_problem(why, EEXIST, "the root is there");
  int rc = prelux_ee_may_make(self(b), path, why);
  if (rc == 0)
    rc = prelux_ee_look(self(b), path, &now, why);
  if (rc == 0 || rc == -EBUSY)
    return prelux_problem(why, EEXIST, "/%.200s is there", path);
  if (rc == -ENOENT)
    rc = prelux_ee_above(self(b), path, why);
  return rc == 0 ? prelux_ee_make_folder(self(b), path, why) : rc;
}

/* Renaming */

static int look_at_target(struct prelux_ee *e, struct prelux_ee_move *m, struct prelux_problem *why)
{
  int rc = prelux_ee_may_make(e, m->to, why);
  if (rc == 0)
    rc = prelux_ee_look(e, m->to, &m->old, why);
  if (rc == -ENOENT)
    return prelux_ee_above(e, m->to, why);
  return rc == 0 && m->old.type == PRELUX_DIR ? prelux_problem(why, EISDIR, "/%.200s is a folder", m->to) : rc;
}

int prelux_ee_rename(struct prelux_backend *b, const char *from, const char *to, unsigned flags, struct prelux_object *ret,
                     struct prelux_problem *why)
{
  struct prelux_ee_move m = {.from = from, .to = to};
  if (flags == (PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE))
    return prelux_problem(why, EINVAL, "not to replace, and to exchange");
  if (flags)
    return prelux_problem(why, EOPNOTSUPP, "Alluxio Enterprise AI cannot rename so");
  if (!to[0])
    return prelux_problem(why, EBUSY, "the root cannot be replaced");
  int rc = look(self(b), from, &m.it, why);
  if (rc == 0 && m.it.type == PRELUX_DIR)
    rc = prelux_problem(why, EXDEV, "/%.200s is a folder: on object stores Alluxio would copy what lies below it", from);
  if (rc == 0 && strcmp(from, to) == 0)
  {
    *ret = m.it;
    return 0;
  }
  if (rc == 0)
    rc = look_at_target(self(b), &m, why);
  return rc == 0 ? prelux_ee_publish(self(b), &m, ret, why) : rc;
}

/* What the dead have left */

static int type_of(void *arg, const char *path, uint8_t *ret, struct prelux_problem *why)
{
  struct prelux_object now;
  int rc = prelux_ee_look(arg, path, &now, why);
  if (rc == 0 || rc == -EBUSY)
    *ret = rc == 0 ? now.type : PRELUX_FILE;
  return rc == -EBUSY ? 0 : rc;
}

static int each(void *arg, const char *path, prelux_list_fn add, void *add_arg, struct prelux_problem *why)
{
  return prelux_ee_each(arg, path, add, add_arg, why);
}

/* mv may replace: a look before it is all that can be had. */
static int move_back(void *arg, const char *from, const char *to)
{
  struct prelux_object there, ret;
  struct prelux_ee_move m = {.from = from, .to = to, .hidden = true};
  int rc = prelux_ee_look(arg, to, &there, NULL);
  if (rc == 0 || rc == -EBUSY)
    return -EEXIST;
  if (rc == -ENOENT)
    rc = prelux_ee_look(arg, from, &m.it, NULL);
  return rc == 0 ? prelux_ee_publish(arg, &m, &ret, NULL) : rc;
}

static int drop(void *arg, const char *path)
{
  int rc = prelux_ee_drop(arg, path, NULL);
  return rc == -ENOENT ? 0 : rc;
}

static const struct prelux_hidden_ops ops = {.type = type_of, .each = each, .move = move_back, .drop = drop};

int prelux_ee_clean(struct prelux_backend *b, const char *path, uint64_t idle_s, struct prelux_problem *why)
{
  return prelux_hidden_clean(&ops, b, path, idle_s, why);
}
