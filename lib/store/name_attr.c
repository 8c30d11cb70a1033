/* Setting attributes, and whose a staging file is. See name.h and attrs.h.
 *
 * What the remote can keep goes there, and comes back with a new version of the same bytes: identity, cache file and its row go along.
 * The rest is laid over that version here. A file being written has mode and time of its own, which go with its bytes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/os.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/folder_time.h"
#include "lib/store/links.h"
#include "lib/store/owner.h"

#define OWNERS (PRELUX_SETATTR_UID | PRELUX_SETATTR_GID)

/* ---- a file being written ---- */

static struct timespec timespec_of(int64_t ns)
{
  struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
  if (t.tv_nsec < 0)
  {
    t.tv_nsec += 1000000000;
    t.tv_sec--;
  }
  return t;
}

/* Who may execute it may, whatever else its mode says. The time of a file that waits to be sent is in its row; until then it is the file's. */
static int set_file(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_setattr *set)
{
  struct prelux_pending next = d->row;
  char name[24];
  const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, timespec_of(set->mtime_ns)};
  if (set->which & PRELUX_SETATTR_MODE)
  {
    next.mode = set->mode & 07777;
    next.flags |= PRELUX_PENDING_MODE;
  }
  if (set->which & PRELUX_SETATTR_MTIME)
    next.mtime_ns = set->mtime_ns;
  int rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  if (rc < 0)
    return rc;
  prelux_dirty_becomes(g, d, &next);
  int folder = prelux_stage_name(g, d->row.ino, name);
  if ((set->which & PRELUX_SETATTR_MODE) && prelux_os.fchmodat(folder, name, (next.mode & 0111) | 0600, 0) < 0)
    return -errno;
  if ((set->which & PRELUX_SETATTR_MTIME) && prelux_os.utimensat(folder, name, times, AT_SYMLINK_NOFOLLOW) < 0)
    return -errno;
  return 0;
}

/* d is the caller's. */
static int set_dirty(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_setattr *set, struct prelux_problem *why)
{
  int rc = set->which & (PRELUX_SETATTR_MODE | PRELUX_SETATTR_MTIME) ? set_file(g, d, set) : 0;
  if (rc == 0 && (set->which & OWNERS) && d->row.path)
  {
    struct prelux_setattr owner = prelux_attrs_owner(d->tree, d->row.path);
    owner.uid = set->which & PRELUX_SETATTR_UID ? set->uid : owner.uid;
    owner.gid = set->which & PRELUX_SETATTR_GID ? set->gid : owner.gid;
    owner.which |= set->which & OWNERS;
    rc = prelux_attrs_set(d->tree, d->row.path, NULL, &owner);
  }
  if (rc < 0)
    return prelux_problem(why, -rc, "attributes of %.200s: %s", prelux_dirty_name(d), strerror(-rc));
  prelux_live_start(g, d); /* its slots */
  return 0;
}

/* What is shown of d, which is the caller's. */
static void tell(const struct prelux_view *v, struct prelux_stage *g, const struct prelux_dirty *d, struct prelux_attr *ret)
{
  char name[24];
  struct stat st;
  int folder = prelux_stage_name(g, d->row.ino, name);
  prelux_live_attr(d, v, ret);
  if (prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
  {
    ret->size = (uint64_t)st.st_size;
    ret->mtime_ns = prelux_stat_mtime(&st);
  }
}

/* ---- what the remote has ---- */

/* What it keeps itself; borrows names. Its root cannot be changed. */
static int for_remote(const struct prelux_able *able, const char *object, const struct prelux_known *k, const struct prelux_setattr *set,
                      struct prelux_owner_names *names, struct prelux_set *ret, struct prelux_problem *why)
{
  *ret = (struct prelux_set){.mode = set->mode & 07777, .mtime_ns = set->mtime_ns};
  if (!*object || !(able->caps & PRELUX_CAP_SET_ATTR) || (k->obj.type == PRELUX_DIR && !(able->caps & PRELUX_CAP_MKDIR)))
    return 0;
  if ((set->which & PRELUX_SETATTR_MODE) && (able->caps & PRELUX_CAP_KEEP_MODE))
    ret->which |= PRELUX_SET_MODE;
  if ((set->which & PRELUX_SETATTR_MTIME) && (able->caps & PRELUX_CAP_KEEP_MTIME))
    ret->which |= PRELUX_SET_MTIME;
  return able->caps & PRELUX_CAP_KEEP_OWNER ? prelux_owner_name(set, names, ret, why) : 0;
}

/* What stat shows of what was to be set. Owners it does not show: they are set again, which harms nothing. */
static bool is_set(const struct prelux_set *set, const struct prelux_object *now)
{
  return !(set->which & (PRELUX_SET_OWNER | PRELUX_SET_GROUP)) && (!(set->which & PRELUX_SET_MODE) || now->mode == set->mode) &&
         (!(set->which & PRELUX_SET_MTIME) || now->mtime_ns == set->mtime_ns);
}

/* 0 and *ret: the object as it is now. */
static int set_remote(const struct prelux_view *v, const char *object, const struct prelux_set *set, struct prelux_object *ret,
                      struct prelux_problem *why)
{
  static const struct prelux_condition whatever = {.must = PRELUX_MUST_NOTHING};
  struct prelux_backend *b = v->backend;
  *ret = (struct prelux_object){0};
  for (int tries = 0;; tries++)
  {
    int rc = b->ops->write->set_attr(b, object, &whatever, set, ret, why);
    if (rc == 0 && (ret->type == PRELUX_DIR || ret->version[0]))
      return 0;
    if (rc != 0 && rc != -PRELUX_EUNKNOWN)
      return rc;
    struct prelux_object now = {0};
    int err = b->ops->stat(b, object, &now, why);
    if (err < 0)
      return err == -ENOENT ? err : prelux_problem(why, EIO, "%.200s: not known whether its attributes were set", object);
    bool done = is_set(set, &now);
    if (rc == 0 || done || tries == PRELUX_NAME_TRIES)
    {
      *ret = now;
      return rc == 0 || done ? 0 : prelux_problem(why, EIO, "%.200s: the remote does not set its attributes", object);
    }
  }
}

/* The file itself: who may execute it, may, and it has the time that is shown, because the next writer goes on with this inode. */
static void follow_file(struct prelux_tree *t, const char *object, struct prelux_row *row, bool executable, const struct prelux_setattr *set)
{
  struct prelux_store *s = t->store;
  const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, timespec_of(set->mtime_ns)};
  bool timed = (set->which & PRELUX_SETATTR_MTIME) != 0;
  struct stat st;
  int fd;
  if (!(executable || timed) || prelux_disk_open(t, object, O_RDONLY | O_NONBLOCK, &fd, &st) < 0)
    return;
  if (prelux_row_matches(s, row, &st))
  {
    if (executable)
      prelux_os.fchmod(fd, s->read_bits | s->exec_bits);
    if (timed && prelux_os.futimens(fd, times) == 0 && prelux_os.fstat(fd, &st) == 0)
      row->file_mtime_ns = prelux_stat_mtime(&st);
  }
  prelux_os.close(fd);
}

/* The cached file of version *was is that of *now. Its inode, 0: there is none. */
static uint64_t follow_cache(struct prelux_tree *t, const char *object, const struct prelux_object *was, const struct prelux_object *now,
                             bool executable, const struct prelux_setattr *set)
{
  struct prelux_store *s = t->store;
  struct prelux_row row;
  int64_t old;
  if (prelux_catalogue_get(s->cat, t->id, object, &row) < 0 || !prelux_object_same(&row.obj, was))
    return 0;
  if (now->size != row.obj.size)
    return 0;
  row.obj = *now;
  follow_file(t, object, &row, executable, set);
  if (prelux_catalogue_finish(s->cat, t->id, object, &row, &old) < 0)
    return 0;
  return row.ino;
}

/* Readers see k, laid over version *now. */
static void publish(struct prelux_tree *t, const char *object, struct prelux_known *k, const struct prelux_object *now,
                    const struct prelux_setattr *set)
{
  uint32_t mode = set->which & PRELUX_SETATTR_MODE ? set->mode : k->obj.mode;
  k->cache_ino = k->obj.type == PRELUX_FILE ? follow_cache(t, object, &k->obj, now, mode & 0111, set) : 0;
  k->obj = *now;
  k->owned = false;
  k->learned_ns = prelux_store_now();
  prelux_name_there(t, object, k);
  prelux_attrs_show(t, object, strlen(object), k);
}

static int set_clean(const struct prelux_view *v, const char *object, const struct prelux_able *able, const struct prelux_setattr *set,
                     struct prelux_known *k, struct prelux_problem *why)
{
  struct prelux_tree *t = v->tree;
  struct prelux_owner_names names;
  struct prelux_set remote;
  struct prelux_setattr local = *set;
  struct prelux_object now = k->obj;
  int rc = for_remote(able, object, k, set, &names, &remote, why);
  if (rc < 0)
    return rc;
  rc = remote.which ? set_remote(v, object, &remote, &now, why) : 0;
  if (rc == -EOPNOTSUPP)
    remote.which = 0;
  else if (rc < 0)
  {
    prelux_name_forget(t, object);
    return rc;
  }
  if (remote.which) /* another version of the same: what was laid over the one before goes along */
  {
    struct prelux_setattr owner = prelux_attrs_owner(t, object);
    uint32_t mode = set->which & PRELUX_SETATTR_MODE ? set->mode & 07777 : k->obj.mode;
    int64_t mtime_ns = set->which & PRELUX_SETATTR_MTIME ? set->mtime_ns : prelux_attrs_mtime(t, object, &k->obj);
    prelux_number_set(t, object, k->ino, &now);
    prelux_attrs_keep(t, object, &now, mode, mtime_ns, &owner);
    local.which &= OWNERS;
  }
  local.which &= PRELUX_SETATTR_MODE | PRELUX_SETATTR_MTIME | OWNERS;
  if (local.which && (rc = prelux_attrs_set(t, object, &now, &local)) < 0)
    return prelux_problem(why, -rc, "attributes of %.200s: %s", object, strerror(-rc));
  if (set->which & PRELUX_SETATTR_MTIME)
    prelux_folder_time_drop(t, object);
  publish(t, object, k, &now, set);
  return 0;
}

/* ---- the calls ---- */

static int set_claimed(const struct prelux_claim *c, struct prelux_able *able, const struct prelux_setattr *set, struct prelux_attr *ret,
                       struct prelux_problem *why)
{
  const struct prelux_view *v = c->v;
  const char *object = c->path[0];
  struct prelux_known k;
  int rc;
  if (c->dirty[0])
  {
    rc = set_dirty(v->tree->store->stage, c->dirty[0], set, why);
    tell(v, v->tree->store->stage, c->dirty[0], ret);
    return rc;
  }
  rc = prelux_fresh_get(v, object, 0, false, &k, why);
  if (rc == 0 && k.obj.type == PRELUX_LINK)
  {
    if (set->which & PRELUX_SETATTR_MODE)
      return prelux_problem(why, EOPNOTSUPP, "%.200s: a link has no mode of its own", object);
    if ((set->which & PRELUX_SETATTR_MTIME) && (rc = prelux_links_set_mtime(v->tree, object, set->mtime_ns)) < 0)
      return prelux_problem(why, -rc, "link %.200s: %s", object, strerror(-rc));
    prelux_links_known(v->tree, object, strlen(object), &k);
  }
  else if (rc == 0 && (rc = prelux_name_able(v, able, why)) == 0)
    rc = set_clean(v, object, able, set, &k, why);
  if (rc == 0)
    prelux_view_attr(v, &k, ret);
  return rc;
}

/* A time of now is this kernel's, not the asker's. */
static struct prelux_setattr at_now(const struct prelux_view *v, const struct prelux_setattr *set)
{
  struct prelux_setattr ret = *set;
  if (ret.which & PRELUX_SETATTR_NOW)
    ret.mtime_ns = prelux_store_stamp(v->tree->store);
  ret.which &= ~(uint32_t)PRELUX_SETATTR_NOW;
  return ret;
}

int prelux_store_setattr(const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                         const struct prelux_setattr *asked, struct prelux_attr *ret, struct prelux_problem *why)
{
  const struct prelux_setattr now = at_now(v, asked), *set = &now;
  struct prelux_able able;
  struct prelux_claim c;
  struct prelux_known k;
  int rc = prelux_name_may(v, rules, object, &able, why);
  if (rc < 0)
    return rc;
  rc = prelux_deferred_set(v->tree, object, set, &k);
  if (rc < 0)
    return prelux_problem(why, -rc, "journal of %s: %s", v->tree->store->dir, strerror(-rc));
  if (rc == 1)
  {
    prelux_view_attr(v, &k, ret);
    return 0;
  }
  rc = prelux_claim_settled(&c, v, object, NULL, why);
  if (rc < 0)
    return rc;
  rc = set_claimed(&c, &able, set, ret, why);
  prelux_claim_drop(&c);
  return rc;
}

int prelux_store_setattr_ino(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const struct prelux_setattr *asked,
                             struct prelux_attr *ret, struct prelux_problem *why)
{
  const struct prelux_setattr set = at_now(v, asked);
  struct prelux_stage *g = v->tree->store->stage;
  struct prelux_dirty *d = g && !rules->off ? prelux_dirty_take_ino(g, ino) : NULL;
  if (!d)
    return prelux_problem(why, rules->off ? EROFS : ENOENT, "no file of this number is being written");
  int rc = set_dirty(g, d, &set, why);
  tell(v, g, d, ret);
  prelux_dirty_give(g, d);
  return rc;
}

int prelux_store_whose(const struct prelux_view *v, uint64_t ino, struct prelux_attr *ret, struct prelux_tree **ret_tree, char **ret_object)
{
  struct prelux_stage *g = v->tree->store->stage;
  char name[24];
  struct stat st;
  int rc = -ENOENT;
  if (!g)
    return rc;
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (d)
  {
    prelux_live_attr(d, v, ret);
    *ret_tree = d->tree;
    *ret_object = d->row.path ? strdup(d->row.path) : NULL;
    rc = d->row.path && !*ret_object ? -ENOMEM : 0;
  }
  pthread_mutex_unlock(&g->lock);
  int folder = prelux_stage_name(g, ino, name);
  if (rc == 0 && prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
  {
    ret->size = (uint64_t)st.st_size;
    ret->mtime_ns = prelux_stat_mtime(&st);
  }
  return rc;
}

int prelux_store_link(const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                      struct prelux_problem *why)
{
  struct prelux_able able;
  int rc = prelux_name_may(v, rules, object, &able, why);
  if (rc == 0 && prelux_links_known(v->tree, object, strlen(object), NULL))
    rc = prelux_problem(why, EEXIST, "%.200s exists", object);
  if (rc == 0)
    rc = prelux_stage_link(v->tree->store->stage, v, ino, object, why);
  if (rc == 0)
    prelux_folder_moved(v->tree, object);
  return rc;
}
