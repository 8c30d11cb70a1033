/* Making and removing names. How: name.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/prelux/msg.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/folder_time.h"
#include "lib/store/links.h"

/* ---- before ---- */

#define UNKNOWN 1

/* What can be put off need not wait for a remote that is away to say what it can: it will say so when the time comes. */
static int ask_able(const struct prelux_view *v, bool async, struct prelux_able *ret, struct prelux_problem *why)
{
  *ret = (struct prelux_able){0};
  if (async && prelux_stage_away(v->tree))
    return UNKNOWN;
  int rc = v->backend->ops->write->able(v->backend, ret, why);
  if (rc < 0)
    prelux_stage_heard(v->tree, rc);
  return async && prelux_stage_away(v->tree) ? UNKNOWN : rc;
}

int prelux_name_able(const struct prelux_view *v, struct prelux_able *able, struct prelux_problem *why)
{
  int rc = able->caps ? 0 : ask_able(v, false, able, why);
  return rc == 0 && !(able->caps & PRELUX_CAP_WRITE) ? prelux_problem(why, EROFS, "the remote is read-only") : rc;
}

int prelux_name_may(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_able *able,
                    struct prelux_problem *why)
{
  const struct prelux_backend_write *w = v->backend->ops->write;
  int rc = prelux_object_check(v->tree->store, object, why);
  if (rc < 0)
    return rc;
  if (rules->off)
    return prelux_problem(why, EROFS, "the mapping is read-only: its configuration does not say write: sync or async");
  if (!w || !w->able)
    return prelux_problem(why, EROFS, "backends of type %s are read-only", v->backend->ops->type);
  rc = prelux_store_writable(v->tree->store, why);
  if (rc < 0)
    return rc;
  rc = ask_able(v, rules->async, able, why);
  if (rc == UNKNOWN)
    return 0;
  if (rc == 0 && !(able->caps & PRELUX_CAP_WRITE))
    rc = prelux_problem(why, EROFS, "%.200s: the remote is read-only", object);
  return rc;
}

int prelux_name_parent(const struct prelux_view *v, const char *object, struct prelux_problem *why)
{
  char parent[PRELUX_OBJECT_MAX + 1];
  struct prelux_known k;
  size_t len = prelux_object_parent(object, strlen(object));
  memcpy(parent, object, len);
  parent[len] = 0;
  int rc = prelux_fresh_get(v, parent, 0, false, &k, why);
  return rc < 0 ? rc : k.obj.type == PRELUX_DIR ? 0 : prelux_problem(why, ENOTDIR, "%.200s is no folder", parent);
}

bool prelux_name_stays(const struct prelux_view *v, const char *object, uint64_t shape)
{
  char parent[PRELUX_OBJECT_MAX + 1];
  struct prelux_known k;
  size_t len = prelux_object_parent(object, strlen(object));
  if (len == 0 || atomic_load(&v->tree->shape) == shape)
    return true;
  memcpy(parent, object, len);
  parent[len] = 0;
  int rc = prelux_fresh_get(v, parent, 0, true, &k, NULL);
  return rc == 0 ? k.obj.type == PRELUX_DIR : rc != -ENOENT && rc != -ENOTDIR; /* in doubt the file stays */
}

/* ---- answers that were lost ---- */

static int call(const struct prelux_view *v, enum prelux_name_op op, const char *object, uint32_t mode, struct prelux_problem *why)
{
  static const struct prelux_condition whatever = {.must = PRELUX_MUST_NOTHING};
  const struct prelux_backend_write *w = v->backend->ops->write;
  int rc = -EOPNOTSUPP;
  if (op == PRELUX_DO_REMOVE && w->remove)
    rc = w->remove(v->backend, object, &whatever, why);
  else if (op == PRELUX_DO_RMDIR && w->rmdir)
    rc = w->rmdir(v->backend, object, why);
  else if (op == PRELUX_DO_MKDIR && w->mkdir)
    rc = w->mkdir(v->backend, object, mode, why);
  if (rc == -EOPNOTSUPP && why && !why->text[0])
    prelux_problem(why, EOPNOTSUPP, "%.200s: the remote cannot do this", object);
  return rc;
}

/* 0 it is as if op had been done; 1 as if not; or -errno: not known. */
static int look(const struct prelux_view *v, enum prelux_name_op op, const char *object)
{
  struct prelux_object now = {0};
  int rc = v->backend->ops->stat(v->backend, object, &now, NULL);
  if (rc < 0 && rc != -ENOENT && rc != -ENOTDIR)
    return rc;
  uint8_t type = rc == 0 ? now.type : PRELUX_NONE;
  return op == PRELUX_DO_MKDIR ? type != PRELUX_DIR : type != PRELUX_NONE;
}

int prelux_name_do(const struct prelux_view *v, enum prelux_name_op op, const char *object, uint32_t mode, struct prelux_problem *why)
{
  for (int tries = 0;; tries++)
  {
    struct prelux_problem mine = {0};
    uint64_t begun = prelux_store_now();
    int rc = call(v, op, object, mode, &mine);
    if (rc == 0 && op == PRELUX_DO_MKDIR)
      prelux_list_made(v, object, begun);
    int state = rc == -PRELUX_EUNKNOWN ? look(v, op, object) : rc;
    if (rc != -PRELUX_EUNKNOWN || state == 0 || state < 0 || tries == PRELUX_NAME_TRIES)
    {
      if (state && why)
        *why = mine;
      return state == 0 ? 0 : rc != -PRELUX_EUNKNOWN ? rc : prelux_problem(why, EIO, "%.400s", mine.text);
    }
  }
}

static int carry_out(const struct prelux_view *v, enum prelux_name_op op, const char *object, uint32_t mode, struct prelux_problem *why)
{
  int rc = prelux_name_do(v, op, object, mode, why);
  if (rc < 0)
    prelux_name_forget(v->tree, object);
  return rc;
}

/* ---- the claim of one path ---- */

/* Who puts off what he does need not wait for what was put off before. */
static int take_claim(struct prelux_claim *c, const struct prelux_view *v, const char *object, bool later, struct prelux_problem *why)
{
  if (!later)
    return prelux_claim_settled(c, v, object, NULL, why);
  prelux_claim_take(c, v, object, NULL);
  return 0;
}

/* What is tried on a tree's root is refused by this error and text. */
struct refusal
{
  int err;
  const char *text;
};

/* May it be, and who else is at it: 0, with the claim. */
static int begin(struct prelux_claim *c, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, bool later,
                 const struct refusal *root, struct prelux_problem *why)
{
  struct prelux_able able;
  int rc = prelux_name_may(v, rules, object, &able, why);
  if (rc == 0 && !*object)
    rc = prelux_problem(why, root->err, "%s", root->text);
  return rc < 0 ? rc : take_claim(c, v, object, later, why);
}

static int finished(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, int rc, struct prelux_problem *why)
{
  if (rc == 0)
    prelux_folder_moved(v->tree, object);
  return rules->async ? prelux_deferred_safe(v->tree->store->stage, rules, rc, why) : rc;
}

/* ---- removing ---- */

/* The row is made, and the file being written there, whose remote object it removes too, is none any more. */
static int remove_later(struct prelux_claim *c, enum prelux_intent intent, struct prelux_problem *why)
{
  struct prelux_tree *t = c->v->tree;
  int rc = prelux_deferred_queue(t->store->stage, prelux_deferred_new(t, intent, c->path[0], NULL), c->dirty[0], why);
  if (rc == 0 && c->dirty[0])
    prelux_claim_end(c, 0);
  if (rc == 0)
    prelux_deferred_left(t, c->path[0]);
  return rc;
}

static int unlink_later(struct prelux_claim *c, struct prelux_problem *why)
{
  const char *object = c->path[0];
  struct prelux_known k;
  int rc = c->dirty[0] ? 0 : prelux_fresh_get(c->v, object, 0, false, &k, why);
  if (rc == 0 && !c->dirty[0] && k.obj.type == PRELUX_DIR)
    rc = prelux_problem(why, EISDIR, "%.200s is a folder", object);
  return rc < 0 ? rc : remove_later(c, PRELUX_INTENT_REMOVE, why);
}

static int unlink_claimed(struct prelux_claim *c, bool later, struct prelux_problem *why)
{
  const char *object = c->path[0];
  if (prelux_links_known(c->v->tree, object, strlen(object), NULL))
  {
    int err = prelux_links_remove(c->v->tree, object);
    return err < 0 ? prelux_problem(why, -err, "link %.200s: %s", object, strerror(-err)) : 0;
  }
  bool remote = !c->dirty[0] || prelux_dirty_on_remote(c->dirty[0]);
  if (remote && later)
    return unlink_later(c, why);
  int rc = remote ? carry_out(c->v, PRELUX_DO_REMOVE, object, 0, why) : 0;
  if (c->dirty[0] && (rc == 0 || rc == -ENOENT))
    rc = prelux_claim_unlink(c, 0, why);
  else if (rc == -ENOENT)
  {
    /* Somebody else was faster: that is news. */
    prelux_name_gone(c->v->tree, object);
    return rc;
  }
  if (rc == 0 && later) /* the remote had nothing there: its listings stay what they are */
    prelux_deferred_left(c->v->tree, object);
  else if (rc == 0)
    prelux_name_gone(c->v->tree, object);
  return rc;
}

int prelux_store_unlink(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_problem *why)
{
  static const struct refusal root = {EISDIR, "the root of a tree is a folder"};
  struct prelux_claim c;
  int rc = begin(&c, v, rules, object, rules->async, &root, why);
  if (rc < 0)
    return rc;
  rc = unlink_claimed(&c, rules->async, why);
  prelux_claim_drop(&c);
  return finished(v, rules, object, rc, why);
}

static int rmdir_later(struct prelux_claim *c, struct prelux_problem *why)
{
  const char *object = c->path[0];
  struct prelux_known k;
  int rc = prelux_fresh_get(c->v, object, 0, false, &k, why);
  if (rc == 0 && k.obj.type != PRELUX_DIR)
    rc = prelux_problem(why, ENOTDIR, "%.200s is no folder", object);
  if (rc == 0)
    rc = prelux_list_empty(c->v, object, why);
  return rc < 0 ? rc : remove_later(c, PRELUX_INTENT_RMDIR, why);
}

static int rmdir_claimed(struct prelux_claim *c, bool later, struct prelux_problem *why)
{
  const char *object = c->path[0];
  if (c->dirty[0] || prelux_links_known(c->v->tree, object, strlen(object), NULL))
    return prelux_problem(why, ENOTDIR, "%.200s is no folder", object);
  if (prelux_dirty_below(c->v->tree, object) || prelux_links_below(c->v->tree, object))
    return prelux_problem(why, ENOTEMPTY, "%.200s: this node has files or links in it", object);
  if (later)
    return rmdir_later(c, why);
  int rc = carry_out(c->v, PRELUX_DO_RMDIR, object, 0, why);
  atomic_fetch_add(&c->v->tree->shape, 1);
  /* A file that was begun meanwhile came first: the folder was not empty. Who begins one from now on finds that it is gone. */
  if (rc == 0 && prelux_dirty_below(c->v->tree, object) && carry_out(c->v, PRELUX_DO_MKDIR, object, 0755, NULL) == 0)
    return prelux_problem(why, ENOTEMPTY, "%.200s: files are being written in it", object);
  if (rc == 0 || rc == -ENOENT)
    prelux_name_gone(c->v->tree, object);
  return rc;
}

/* Where a folder is no more than what lies below it, the last file takes it along: who removes that file and then the folder, as
 * `rm -r` does, has done what he wanted. He has seen the folder, or it would not be in memory. */
static bool goes_by_itself(const struct prelux_view *v, const char *object)
{
  struct prelux_known k;
  if ((v->backend->ops->caps & PRELUX_CAP_MKDIR) || prelux_deferred_known(v->tree, object, strlen(object), &k))
    return false;
  pthread_mutex_lock(&v->tree->store->lock);
  bool seen = prelux_memory_get(v->tree, object, strlen(object), &k) == 1 && k.obj.type == PRELUX_DIR;
  pthread_mutex_unlock(&v->tree->store->lock);
  return seen;
}

int prelux_store_rmdir(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, struct prelux_problem *why)
{
  static const struct refusal root = {EBUSY, "the root of a tree cannot be removed"};
  struct prelux_claim c;
  bool later = rules->async && !prelux_view_implies(v, object, strlen(object)), seen = goes_by_itself(v, object);
  int rc = begin(&c, v, rules, object, later, &root, why);
  if (rc < 0)
    return rc;
  rc = rmdir_claimed(&c, later, why);
  if (rc == -ENOENT && seen)
  {
    prelux_name_gone(v->tree, object);
    rc = 0;
  }
  prelux_claim_drop(&c);
  return finished(v, rules, object, rc, why);
}

/* ---- making ---- */

static int mkdir_later(struct prelux_claim *c, uint32_t mode, struct prelux_problem *why)
{
  const char *object = c->path[0];
  struct prelux_tree *t = c->v->tree;
  struct prelux_known k;
  int rc = prelux_fresh_get(c->v, object, 0, false, &k, why);
  if (rc == 0)
    return prelux_problem(why, EEXIST, "%.200s exists", object);
  if (rc == -ENOENT)
    rc = prelux_name_parent(c->v, object, why);
  if (rc < 0)
    return rc;
  struct prelux_deferred *d = prelux_deferred_new(t, PRELUX_INTENT_MKDIR, object, NULL);
  if (d)
    d->row.mode = mode;
  rc = prelux_deferred_queue(t->store->stage, d, NULL, why);
  if (rc == 0)
    prelux_deferred_show(t, object);
  return rc;
}

static int mkdir_claimed(struct prelux_claim *c, bool later, uint32_t mode, struct prelux_problem *why)
{
  const char *object = c->path[0];
  struct prelux_tree *t = c->v->tree;
  struct prelux_known k;
  bool there = c->dirty[0] || prelux_links_known(t, object, strlen(object), NULL);
  if (later && !there)
    return mkdir_later(c, mode, why);
  int rc = there ? prelux_problem(why, EEXIST, "%.200s exists", object) : prelux_name_parent(c->v, object, why);
  if (rc == 0)
    rc = carry_out(c->v, PRELUX_DO_MKDIR, object, mode, why);
  if (rc < 0)
    return rc;
  prelux_name_touch(t, object);
  if (prelux_fresh_get(c->v, object, 0, true, &k, NULL) < 0)
    prelux_name_forget(t, object);
  else if (k.obj.mode == 0 && mode != c->v->dir_mode) /* the remote keeps none */
  {
    const struct prelux_setattr set = {.which = PRELUX_SETATTR_MODE, .mode = mode};
    prelux_attrs_set(t, object, &k.obj, &set);
    pthread_mutex_lock(&t->store->lock);
    prelux_tree_unpublish(t, object, strlen(object)); /* what the look has shown */
    pthread_mutex_unlock(&t->store->lock);
  }
  return 0;
}

int prelux_store_mkdir(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, uint32_t mode,
                       struct prelux_problem *why)
{
  static const struct refusal root = {EEXIST, "the root of a tree exists"};
  struct prelux_claim c;
  bool later = rules->async && !prelux_view_implies(v, object, strlen(object));
  int rc = begin(&c, v, rules, object, later, &root, why);
  if (rc < 0)
    return rc;
  rc = mkdir_claimed(&c, later, mode & 07777, why);
  prelux_claim_drop(&c);
  return finished(v, rules, object, rc, why);
}

static int symlink_claimed(struct prelux_claim *c, const char *target, struct prelux_problem *why)
{
  const char *object = c->path[0];
  struct prelux_known k;
  int rc = prelux_fresh_get(c->v, object, 0, false, &k, why);
  if (rc == 0)
    return prelux_problem(why, EEXIST, "%.200s exists", object);
  if (rc == -ENOENT)
    rc = prelux_name_parent(c->v, object, why);
  if (rc == 0 && (rc = prelux_links_make(c->v->tree, object, target)) < 0)
    prelux_problem(why, -rc, "link %.200s: %s", object, strerror(-rc));
  return rc;
}

int prelux_store_symlink(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object, const char *target,
                         struct prelux_problem *why)
{
  struct prelux_able able;
  struct prelux_claim c;
  int rc = prelux_name_may(v, rules, object, &able, why);
  if (rc == 0 && !*object)
    rc = prelux_problem(why, EEXIST, "the root of a tree exists");
  if (rc == 0 && !*target)
    rc = prelux_problem(why, ENOENT, "a link to nothing");
  if (rc == 0 && strlen(target) > PRELUX_LINK_MAX)
    rc = prelux_problem(why, ENAMETOOLONG, "the target of a link has %u bytes at most", PRELUX_LINK_MAX);
  if (rc < 0)
    return rc;
  prelux_claim_take(&c, v, object, NULL);
  rc = symlink_claimed(&c, target, why);
  prelux_claim_drop(&c);
  if (rc == 0)
    prelux_folder_moved(v->tree, object);
  return rc;
}

int prelux_store_readlink(const struct prelux_view *v, const char *object, char **ret, struct prelux_problem *why)
{
  struct prelux_known k;
  int rc = prelux_object_check(v->tree->store, object, why);
  if (rc == 0 && (*ret = prelux_links_target(v->tree, object)))
    return 0;
  if (rc == 0)
    rc = prelux_fresh_get(v, object, 0, false, &k, why);
  return rc < 0 ? rc : prelux_problem(why, EINVAL, "%.200s is no link", object);
}
