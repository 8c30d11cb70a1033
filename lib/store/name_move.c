/* Renaming. How: name.h. What is being written and is not on the remote yet is renamed in the journal alone; all else on the remote first. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/folder_time.h"
#include "lib/store/links.h"

#define AT_ONCE 1 /* it cannot be put off */

struct move {
  const struct prelux_view *v;
  struct prelux_claim claim; /* path[0] -> path[1] */
  unsigned caps, flags;
  bool later;                 /* it may be put off */
  struct prelux_known from, to; /* to.obj.type NONE: nothing is there */
  struct prelux_problem *why;
};

static const char *source(const struct move *m)
{
  return m->claim.path[0];
}

static const char *target(const struct move *m)
{
  return m->claim.path[1];
}

static bool inside(const char *path, const char *folder)
{
  size_t len = strlen(folder);
  return strncmp(path, folder, len) == 0 && path[len] == '/';
}

/* ---- on the remote ---- */

bool prelux_name_arrived(const struct prelux_view *v, const struct prelux_object *was, const struct prelux_object *now)
{
  bool tells = (v->backend->ops->caps & PRELUX_CAP_RENAME_SAME) && was->version[0] && now->version[0];
  if (now->type != was->type || now->type != PRELUX_FILE)
    return now->type == was->type;
  return tells ? strcmp(now->version, was->version) == 0 : now->size == was->size;
}

/* After an answer that was lost. 0: done, *ret tells of the new name; 1: not done; or -errno. */
static int look(const struct prelux_view *v, const char *from, const char *to, unsigned flags, const struct prelux_object *was,
                struct prelux_object *ret)
{
  struct prelux_backend *b = v->backend;
  struct prelux_object old = {0}, new = {0};
  int rc = b->ops->stat(b, from, &old, NULL), there = b->ops->stat(b, to, &new, NULL);
  if ((rc < 0 && rc != -ENOENT) || (there < 0 && there != -ENOENT))
    return rc < 0 && rc != -ENOENT ? rc : there;
  if (flags & PRELUX_RENAME_EXCHANGE)
    return -EIO; /* which of both it is cannot be told */
  if (rc == -ENOENT && there == 0 && prelux_name_arrived(v, was, &new))
  {
    *ret = new;
    return 0;
  }
  return rc == 0 ? 1 : -EIO;
}

int prelux_name_move(const struct prelux_view *v, const char *from, const char *to, unsigned flags, const struct prelux_object *was,
                     struct prelux_object *ret, struct prelux_problem *why)
{
  const struct prelux_backend_write *w = v->backend->ops->write;
  for (int tries = 0;; tries++)
  {
    struct prelux_problem mine = {0};
    *ret = (struct prelux_object){0};
    int rc = w->rename ? w->rename(v->backend, from, to, flags, ret, &mine) : -EOPNOTSUPP;
    int state = rc == -PRELUX_EUNKNOWN ? look(v, from, to, flags, was, ret) : rc;
    if (rc == -PRELUX_EUNKNOWN && state == 1 && tries < PRELUX_NAME_TRIES)
      continue;
    if (state == 0)
      return 0;
    if (why)
      *why = mine;
    return rc == -PRELUX_EUNKNOWN ? prelux_problem(why, EIO, "%.400s", mine.text) : rc;
  }
}

static int rename_remote(const struct move *m, struct prelux_object *ret)
{
  int rc = prelux_name_move(m->v, source(m), target(m), m->flags, &m->from.obj, ret, m->why);
  if (rc < 0)
  {
    prelux_name_forget(m->v->tree, source(m));
    prelux_name_forget(m->v->tree, target(m));
  }
  return rc;
}

void prelux_name_complete(const struct prelux_view *v, const char *object, struct prelux_object *obj)
{
  struct prelux_object now = {0};
  bool known = obj->type != PRELUX_NONE && (obj->type != PRELUX_FILE || obj->version[0]);
  if (!known && v->backend->ops->stat(v->backend, object, &now, NULL) == 0)
    *obj = now;
}

/* ---- what is known of both ---- */

/* -ENOENT is no error for the target. */
static int learn(const struct move *m, const char *object, struct prelux_known *ret, bool must)
{
  int rc = prelux_fresh_get(m->v, object, 0, false, ret, m->why);
  if (rc == -ENOENT && !must)
  {
    *ret = (struct prelux_known){0};
    rc = prelux_name_parent(m->v, object, m->why);
  }
  return rc;
}

/* What the kernel would say before it did anything. */
static int may_move(struct move *m)
{
  bool folder, exchange = m->flags & PRELUX_RENAME_EXCHANGE;
  int rc = learn(m, source(m), &m->from, true);
  if (rc == 0)
    rc = learn(m, target(m), &m->to, exchange);
  if (rc < 0)
    return rc;
  folder = m->from.obj.type == PRELUX_DIR;
  if (folder && inside(target(m), source(m)))
    return prelux_problem(m->why, EINVAL, "%.200s cannot be moved below itself", source(m));
  if (inside(source(m), target(m)))
    return prelux_problem(m->why, m->to.obj.type == PRELUX_DIR && !folder ? EISDIR : ENOTEMPTY, "%.200s holds %.200s", target(m), source(m));
  if (m->to.obj.type != PRELUX_NONE && (m->flags & PRELUX_RENAME_NOREPLACE))
    return prelux_problem(m->why, EEXIST, "%.200s exists", target(m));
  if (!exchange && m->to.obj.type != PRELUX_NONE && folder != (m->to.obj.type == PRELUX_DIR))
    return prelux_problem(m->why, folder ? ENOTDIR : EISDIR, "%.200s %s a folder", target(m), folder ? "is not" : "is");
  bool ours = folder && m->to.obj.type == PRELUX_DIR && (prelux_dirty_below(m->v->tree, target(m)) || prelux_links_below(m->v->tree, target(m)));
  if (ours && !exchange)
    return prelux_problem(m->why, ENOTEMPTY, "%.200s: this node has files or links in it", target(m));
  return 0;
}

/* ---- files ---- */

static int onto_dirty(struct move *m)
{
  return m->claim.dirty[1] ? prelux_claim_unlink(&m->claim, 1, m->why) : 0;
}

/* Whose it is goes along; obj NULL: it is being written. */
static void keep_owner(const struct move *m, const struct prelux_object *obj)
{
  const struct prelux_setattr owner = prelux_attrs_owner(m->v->tree, source(m));
  if (obj)
    prelux_attrs_keep(m->v->tree, target(m), obj, m->from.obj.mode, prelux_attrs_mtime(m->v->tree, source(m), &m->from.obj), &owner);
  else if (owner.which)
    prelux_attrs_set(m->v->tree, target(m), NULL, &owner);
  else
    prelux_attrs_drop(m->v->tree, target(m));
  if (!obj)
    prelux_attrs_drop(m->v->tree, source(m));
}

/* The version of what the remote has at the target; "": nothing. What replaces it must not be taken for a file that the remote does not have. */
static const char *replaced(const struct move *m)
{
  const struct prelux_dirty *d = m->claim.dirty[1];
  const char *version = d ? d->row.base : m->to.obj.version;
  bool there = d ? prelux_dirty_on_remote(d) : m->to.obj.type == PRELUX_FILE;
  return !there ? "" : version[0] ? version : "?";
}

/* Written here, not on the remote yet. */
static int move_unsent(struct move *m)
{
  bool over = !(m->flags & PRELUX_RENAME_NOREPLACE);
  int rc = prelux_claim_rename(&m->claim, replaced(m), over, m->why);
  if (rc < 0)
    return rc;
  prelux_cache_drop(m->v->tree, target(m));
  keep_owner(m, NULL);
  if (m->later) /* the remote's listings stay what they are, so that there are any while it is down */
    return rc;
  prelux_name_touch(m->v->tree, source(m));
  prelux_name_touch(m->v->tree, target(m));
  return rc;
}

/* The remote has renamed it; now is the object as it is there. */
static int remote_moved(struct move *m, struct prelux_object *now)
{
  struct prelux_tree *t = m->v->tree;
  struct prelux_known k = m->from;
  int rc;
  prelux_name_complete(m->v, target(m), now);
  now->type = PRELUX_FILE;
  if (m->claim.dirty[0])
  {
    bool has = prelux_fsync_base(m->claim.dirty[0]);
    prelux_number_set(t, target(m), m->from.ino, now);
    keep_owner(m, NULL);
    rc = prelux_claim_rename(&m->claim, now->version, false, m->why);
    if (rc == 0 && has)
      prelux_fsync_renamed(m->claim.dirty[1], now);
    prelux_cache_drop(t, target(m));
    prelux_name_touch(t, target(m));
  }
  else
  {
    rc = onto_dirty(m);
    prelux_number_set(t, target(m), m->from.ino, now);
    keep_owner(m, now);
    k.obj = *now;
    k.live = false;
    k.cache_ino = prelux_cache_move(t, source(m), &m->from.obj, target(m), now);
    k.learned_ns = prelux_store_now();
    prelux_name_there(t, target(m), &k);
  }
  prelux_name_gone(t, source(m));
  return rc;
}

/* On the remote; perhaps also being written here. Should the daemon die in the middle, the next one must not send what the target held
 * over what has come there. */
static int move_file(struct move *m)
{
  struct prelux_object now;
  int rc = prelux_claim_shelve(&m->claim, 1, m->why);
  if (rc < 0)
    return rc;
  rc = rename_remote(m, &now);
  if (rc == 0)
    return remote_moved(m, &now);
  if (rc == -ENOENT && m->claim.dirty[0])
    rc = move_unsent(m); /* the remote does not have it (any more): what we have is to get there all the same */
  if (rc < 0)
    prelux_claim_unshelve(&m->claim, 1);
  return rc;
}

/* ---- files, later ---- */

/* Being written here, and the remote has something under the old name: that is removed, and what we have is sent under the new one. */
static int move_written(struct move *m)
{
  struct prelux_tree *t = m->v->tree;
  struct prelux_deferred *left = prelux_deferred_new(t, PRELUX_INTENT_REMOVE, source(m), NULL);
  if (!left)
    return prelux_problem(m->why, ENOMEM, "no memory");
  prelux_number_set(t, target(m), m->from.ino, NULL);
  int rc = prelux_claim_leave(&m->claim, replaced(m), !(m->flags & PRELUX_RENAME_NOREPLACE), left, m->why);
  if (rc < 0)
    return rc;
  prelux_cache_drop(t, target(m));
  keep_owner(m, NULL);
  prelux_deferred_left(t, source(m));
  return 0;
}

static int move_clean(struct move *m)
{
  struct prelux_tree *t = m->v->tree;
  const struct prelux_object *obj = &m->from.obj;
  struct prelux_deferred *d = prelux_deferred_new(t, PRELUX_INTENT_RENAME, source(m), target(m));
  if (d)
  {
    d->known = m->from;
    d->known.live = false;
    d->known.cache_ino = 0;
    d->owner = prelux_attrs_owner(t, source(m));
    d->row.ino = m->from.ino;
    d->row.size = obj->size;
    d->row.mode = obj->mode;
    d->row.mtime_ns = obj->mtime_ns;
    d->row.flags = m->flags & PRELUX_RENAME_NOREPLACE ? PRELUX_PENDING_NEW : 0;
    memcpy(d->row.base, obj->version, sizeof d->row.base);
  }
  int rc = prelux_deferred_queue(t->store->stage, d, m->claim.dirty[1], m->why);
  if (rc < 0)
    return rc;
  if (m->claim.dirty[1])
    prelux_claim_end(&m->claim, 1);
  prelux_cache_move(t, source(m), obj, target(m), obj);
  prelux_deferred_left(t, source(m));
  prelux_deferred_show(t, target(m));
  return 0;
}

static int move_later(struct move *m)
{
  const struct prelux_dirty *d = m->claim.dirty[0];
  if (m->from.obj.type != PRELUX_FILE || m->to.obj.type == PRELUX_LINK || (m->flags & PRELUX_RENAME_EXCHANGE))
    return AT_ONCE;
  if (d && prelux_fsync_base(d)) /* the remote has it, as fsync has promised, and shall have it all the time */
    return AT_ONCE;
  if (d)
    return prelux_dirty_on_remote(d) ? move_written(m) : move_unsent(m);
  if ((m->flags & PRELUX_RENAME_NOREPLACE) && !(m->caps & PRELUX_CAP_RENAME_NOREPLACE))
    return prelux_problem(m->why, EINVAL, "%.200s: the remote cannot rename without replacing", source(m));
  return move_clean(m);
}

/* ---- folders ---- */

static void forget_below(struct prelux_tree *t, const char *object)
{
  pthread_mutex_lock(&t->store->lock);
  prelux_entries_drop_below(t, object, strlen(object));
  prelux_folders_drop_below(t, object, strlen(object));
  pthread_mutex_unlock(&t->store->lock);
}

static int move_folder(struct move *m)
{
  struct prelux_tree *t = m->v->tree;
  struct prelux_object now;
  struct prelux_known k = m->from;
  if (!(m->caps & PRELUX_CAP_RENAME_DIR))
    return prelux_problem(m->why, EXDEV, "%.200s: the remote cannot rename a folder", source(m));
  atomic_fetch_add(&t->moving, 1);
  int rc = rename_remote(m, &now);
  if (rc < 0)
  {
    atomic_fetch_sub(&t->moving, 1);
    return rc;
  }
  prelux_name_complete(m->v, target(m), &now);
  now.type = PRELUX_DIR;
  atomic_fetch_add(&t->shape, 1); /* files begun below it until now go along; who begins one later finds the folder gone */
  forget_below(t, source(m));
  forget_below(t, target(m));
  rc = prelux_dirty_move_below(t, source(m), target(m), m->why);
  prelux_cache_move_below(t, source(m), target(m));
  atomic_fetch_sub(&t->moving, 1);
  prelux_number_set(t, target(m), m->from.ino, &now);
  keep_owner(m, &now);
  prelux_attrs_move_below(t, source(m), target(m));
  prelux_folder_time_move(t, source(m), target(m));
  if (rc == 0 && (rc = prelux_links_move_below(t, source(m), target(m))) < 0)
    prelux_problem(m->why, -rc, "links below %.200s: %s", source(m), strerror(-rc));
  k.obj = now;
  k.cache_ino = 0;
  k.learned_ns = prelux_store_now();
  prelux_name_there(t, target(m), &k);
  prelux_name_gone(t, source(m));
  return rc;
}

/* ---- both at once ---- */

static int exchange(struct move *m)
{
  struct prelux_tree *t = m->v->tree;
  struct prelux_object now;
  bool ours = false;
  for (int i = 0; i < 2; i++)
    prelux_dirty_settle_below(t, m->claim.path[i]);
  for (int i = 0; i < 2; i++)
    ours = ours || m->claim.dirty[i] || (i ? m->to : m->from).obj.type == PRELUX_LINK || prelux_dirty_below(t, m->claim.path[i]) ||
           prelux_links_below(t, m->claim.path[i]);
  if (!(m->caps & PRELUX_CAP_RENAME_EXCHANGE) || ours)
    return prelux_problem(m->why, EINVAL, "%.200s and %.200s cannot be exchanged", source(m), target(m));
  int rc = rename_remote(m, &now);
  if (rc < 0)
    return rc;
  for (int i = 0; i < 2; i++)
  {
    const char *path = m->claim.path[i];
    forget_below(t, path);
    prelux_number_set(t, path, i ? m->from.ino : m->to.ino, NULL);
    prelux_attrs_drop(t, path);
    prelux_folder_time_drop(t, path);
    prelux_name_touch(t, path);
    prelux_name_forget(t, path);
    prelux_cache_drop(t, path);
  }
  return 0;
}

/* ---- links ---- */

/* What is at the target gives way, as rename would replace it. */
static int clear_target(struct move *m)
{
  static const struct prelux_condition whatever = {.must = PRELUX_MUST_NOTHING};
  struct prelux_backend *b = m->v->backend;
  int rc = onto_dirty(m);
  if (rc == 0 && m->to.obj.type == PRELUX_FILE && !m->to.live)
    rc = b->ops->write->remove ? b->ops->write->remove(b, target(m), &whatever, m->why) : -EOPNOTSUPP;
  if (rc == -PRELUX_EUNKNOWN)
    rc = prelux_problem(m->why, EIO, "%.200s: not known whether it is gone", target(m));
  if (rc == 0 && m->to.obj.type == PRELUX_FILE)
    prelux_name_gone(m->v->tree, target(m));
  return rc == -ENOENT ? 0 : rc;
}

static int move_link(struct move *m)
{
  int rc = clear_target(m);
  if (rc == 0 && (rc = prelux_links_rename(m->v->tree, source(m), target(m))) < 0)
    prelux_problem(m->why, -rc, "link %.200s: %s", source(m), strerror(-rc));
  return rc;
}

/* ---- the call ---- */

static int move_other(struct move *m, const struct prelux_dirty *d)
{
  if (d && !prelux_dirty_on_remote(d))
    return move_unsent(m);
  if ((m->flags & PRELUX_RENAME_NOREPLACE) && !(m->caps & PRELUX_CAP_RENAME_NOREPLACE))
    return prelux_problem(m->why, EINVAL, "%.200s: the remote cannot rename without replacing", source(m));
  return m->from.obj.type == PRELUX_DIR ? move_folder(m) : move_file(m);
}

static int move_claimed(struct move *m)
{
  const struct prelux_dirty *d = m->claim.dirty[0];
  int rc = may_move(m);
  if (rc < 0)
    return rc;
  if (m->later)
    return move_later(m);
  if (m->flags & PRELUX_RENAME_EXCHANGE)
    return exchange(m);
  if (m->from.obj.type == PRELUX_LINK)
    return move_link(m);
  rc = move_other(m, d);
  if (rc == 0 && m->to.obj.type == PRELUX_LINK)
    prelux_links_remove(m->v->tree, target(m));
  return rc;
}

/* The names are others now; rc is passed on. */
static int moved(const struct move *m, int rc)
{
  for (int i = 0; rc == 0 && i < 2; i++)
    prelux_folder_moved(m->v->tree, m->claim.path[i]);
  return rc;
}

int prelux_store_rename(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *from, const char *to, unsigned flags,
                        struct prelux_problem *why)
{
  struct move m = {.v = v, .flags = flags, .why = why};
  struct prelux_able able;
  int rc = prelux_name_may(v, rules, from, &able, why);
  if (rc == 0)
    rc = prelux_object_check(v->tree->store, to, why);
  if (rc == 0 && (!*from || !*to))
    rc = prelux_problem(why, EBUSY, "the root of a tree cannot be renamed");
  if (rc == 0 && (flags & ~(unsigned)(PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE) ||
                  flags == (PRELUX_RENAME_NOREPLACE | PRELUX_RENAME_EXCHANGE)))
    rc = prelux_problem(why, EINVAL, "flags of renameat2 that cannot be");
  if (rc < 0)
    return rc;
  m.caps = able.caps;
  if (strcmp(from, to) == 0)
  {
    rc = prelux_fresh_get(v, from, 0, false, &m.from, why);
    return rc == 0 && (flags & PRELUX_RENAME_NOREPLACE) ? prelux_problem(why, EEXIST, "%.200s exists", to) : rc;
  }
  if (rules->async)
  {
    m.later = true;
    prelux_claim_take(&m.claim, v, from, to);
    rc = moved(&m, move_claimed(&m));
    prelux_claim_drop(&m.claim);
    if (rc != AT_ONCE)
      return prelux_deferred_safe(v->tree->store->stage, rules, rc, why);
    m.later = false;
  }
  rc = prelux_name_able(v, &able, why);
  if (rc == 0)
    rc = prelux_claim_settled(&m.claim, v, from, to, why);
  if (rc < 0)
    return rc;
  m.caps = able.caps;
  rc = moved(&m, move_claimed(&m));
  prelux_claim_drop(&m.claim);
  return rc;
}
