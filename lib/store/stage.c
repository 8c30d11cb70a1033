/* Opening for writing, and what the last close means. See stage.h. */
#include "lib/store/deferred.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/base/process.h"
#include "lib/store/attrs.h"
#include "lib/store/folder_time.h"

/* Flags of the program's open that matter to the file behind its name. */
enum { FLAGS = O_ACCMODE | O_APPEND | O_TRUNC | O_DIRECT | O_SYNC | O_DSYNC | O_NONBLOCK | O_NOATIME };

struct opening
{
  struct prelux_stage *g;
  const struct prelux_view *v;
  const struct prelux_write_rules *rules;
  const char *object; /* NULL: O_TMPFILE */
  int flags;
  uint32_t mode;
  const struct prelux_asker *by; /* not NULL */
  struct prelux_problem *why;
};

static const struct prelux_asker NOBODY = {.pidfd = -1};

/* Asking the remote takes its time, and who was killed meanwhile never gets the answer: an empty file would be kept of him, or what was acknowledged cut. */
static int check_asker(const struct opening *o)
{
  if (o->by->pidfd < 0 || !prelux_process_dead(o->by->pidfd))
    return 0;
  return prelux_problem(o->why, ESRCH, "%.200s: who has asked for it is dead", o->object ? o->object : "O_TMPFILE");
}

int prelux_stage_reopen(const struct prelux_stage *g, uint64_t ino, int flags)
{
  char name[24];
  int folder = prelux_stage_name(g, ino, name);
  int fd = prelux_os.openat(folder, name, flags | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int prelux_stage_journal(struct prelux_stage *g, enum prelux_edit_kind kind, struct prelux_pending *row)
{
  struct prelux_edit edit = {.kind = kind, .row = row};
  return prelux_journal_change(g->journal, &edit, 1);
}

int prelux_stage_tree(struct prelux_stage *g, struct prelux_tree *t)
{
  int64_t id = atomic_load(&t->owed_id);
  int rc = id ? 0 : prelux_journal_tree(g->journal, t->identity, true, &id);
  if (rc == 0)
    atomic_store(&t->owed_id, id);
  return rc;
}

static uint32_t flags_of(const struct prelux_write_rules *rules)
{
  uint32_t flags = rules->on_conflict == PRELUX_CONFLICT_OVERWRITE ? PRELUX_PENDING_FORCE : rules->on_conflict == PRELUX_CONFLICT_KEEP ? PRELUX_PENDING_KEEP : 0;
  return flags | (rules->drop ? PRELUX_PENDING_DROP : 0) | (rules->publish ? PRELUX_PENDING_PUBLISH : 0);
}

uint32_t prelux_stage_first_flags(const struct prelux_write_rules *rules, bool over)
{
  return flags_of(rules) | PRELUX_PENDING_MODE | PRELUX_PENDING_FRESH | (over ? PRELUX_PENDING_OVER : PRELUX_PENDING_NEW);
}

/* A new row for the object; the caller fills in what is known of the file. NULL: no memory. */
static struct prelux_dirty *dirty_new(const struct opening *o)
{
  struct prelux_dirty *d = calloc(1, sizeof *d);
  if (!d || (o->object && !(d->row.path = strdup(o->object))))
  {
    free(d);
    return NULL;
  }
  d->tree = o->v->tree;
  d->rules = *o->rules;
  d->row.intent = PRELUX_INTENT_PUT;
  d->row.state = PRELUX_PENDING_WRITING;
  d->row.flags = flags_of(o->rules);
  d->row.made_ns = prelux_store_wall();
  return d;
}

static int look(const struct opening *o, struct prelux_dirty *d, int fd)
{
  char name[24];
  int folder = fd < 0 ? prelux_stage_name(o->g, d->row.ino, name) : -1;
  return (fd < 0 ? prelux_os.fstatat(folder, name, &d->taken, AT_SYMLINK_NOFOLLOW) : prelux_os.fstat(fd, &d->taken)) < 0 ? -errno : 0;
}

/* The row is in the journal; the file gets its staging name by `name_it`; fd -1: it has it. On failure d is freed. */
static int begin(const struct opening *o, struct prelux_dirty *d, int fd, int (*name_it)(const struct opening *, struct prelux_dirty *, int))
{
  int rc = check_asker(o);
  if (rc == 0)
    rc = prelux_stage_tree(o->g, d->tree);
  d->row.tree = atomic_load(&d->tree->owed_id);
  bool named = fd < 0, scratch = d->row.ino & PRELUX_INO_SCRATCH;
  if (rc == 0 && !named && scratch) /* first: a row without its file says that bytes were lost */
    named = (rc = name_it(o, d, fd)) == 0;
  if (rc == 0)
    rc = prelux_stage_journal(o->g, PRELUX_EDIT_ADD, &d->row);
  if (rc == 0 && !named && (rc = name_it(o, d, fd)) < 0)
    prelux_journal_forget(o->g->journal, d->row.id);
  if (rc == 0)
    d->row.mark = prelux_journal_mark(o->g->journal);
  if (rc == 0 && (rc = look(o, d, fd)) < 0)
    prelux_journal_forget(o->g->journal, d->row.id); /* its file goes to recovered/ at the next start */
  if (rc < 0)
  {
    prelux_pending_release(&d->row);
    free(d);
    return rc;
  }
  if (d->clean.ino)
    prelux_stage_tick(&d->taken);
  pthread_mutex_lock(&o->g->lock);
  d->busy = true;
  prelux_dirty_put(o->g, d);
  pthread_mutex_unlock(&o->g->lock);
  prelux_live_start(o->g, d);
  return 0;
}

/* ---- a new file ---- */

static int link_new(const struct opening *o, struct prelux_dirty *d, int fd)
{
  char link[40], name[24];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  int folder = prelux_stage_name(o->g, d->row.ino, name);
  return prelux_os.linkat(AT_FDCWD, link, folder, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* In the mapping's own staging folder as long as that has room, else in the cache. *ret_fd -1: it has its name already. */
static int make_file(const struct opening *o, struct stat *ret, int *ret_fd, bool *ret_scratch)
{
  const int flags = O_TMPFILE | O_RDWR | O_CLOEXEC;
  mode_t mode = o->mode & 0111 ? 0700 : 0600;
  int fd = *ret_fd = -1;
  *ret_scratch = false;
  if (o->object && !o->rules->scratch && prelux_spare_take(o->g, mode, ret))
    return 0;
  if (o->rules->scratch && !(o->flags & O_DIRECT) && prelux_scratch_room(o->g->store)) /* tmpfs may not know O_DIRECT */
    fd = prelux_os.openat(o->g->store->scratch_fd, ".", flags, mode);
  *ret_scratch = fd >= 0;
  if (fd < 0)
    fd = prelux_os.openat(o->g->fd, ".", flags, mode);
  *ret_fd = fd;
  return fd < 0 || prelux_os.fstat(fd, ret) < 0 ? -errno : 0;
}

/* *ret_fd: it is open there until the caller closes it; -1. */
static int try_new(const struct opening *o, uint32_t flags, const char *base, uint64_t shown, struct prelux_dirty **ret, int *ret_fd)
{
  struct stat st;
  struct prelux_dirty *d = dirty_new(o);
  bool scratch = false;
  int rc = d ? make_file(o, &st, ret_fd, &scratch) : -ENOMEM;
  if (rc == 0)
  {
    d->row.ino = st.st_ino | (scratch ? PRELUX_INO_SCRATCH : 0);
    d->row.mode = o->mode & 07777;
    d->row.flags |= flags | (shown ? 0 : PRELUX_PENDING_FRESH);
    d->row.mtime_ns = shown ? 0 : prelux_once_mark(o->by->once);
    snprintf(d->row.base, sizeof d->row.base, "%s", base);
    d->empty = true;
    d->shown = shown ? shown : prelux_number_fresh(d->tree, d->row.ino, d->row.made_ns);
    rc = begin(o, d, *ret_fd, link_new);
    *ret = d;
    if (rc < 0 && *ret_fd < 0)
      prelux_spare_back(o->g, st.st_ino);
  }
  else if (d)
  {
    prelux_pending_release(&d->row);
    free(d);
  }
  return rc;
}

/* shown: the st_ino of what it replaces; 0: it is a new file. Something else may bear the name that the number gives (a stranger put it there, or it could
 * not be removed): the kernel would offer that number again and again, so it is held while another one is taken. */
static int make_new(const struct opening *o, uint32_t flags, const char *base, uint64_t shown, struct prelux_dirty **ret)
{
  int held[PRELUX_STRANGERS], n = 0, rc;
  do
  {
    held[n] = -1;
    rc = try_new(o, flags, base, shown, ret, &held[n]);
  } while (rc == -EEXIST && held[n] >= 0 && ++n < PRELUX_STRANGERS);
  for (int i = 0; i <= n && i < PRELUX_STRANGERS; i++)
    if (held[i] >= 0)
      prelux_os.close(held[i]);
  return rc < 0 ? prelux_problem(o->why, -rc, "cannot make a staging file for %.200s: %s", o->object ? o->object : "O_TMPFILE", strerror(-rc)) : 0;
}

/* ---- the clean file itself ---- */

/* Out of the tree: the index forgets its name before it is written to, the catalogue afterwards. Who has it open goes on to be told what it is:
 * its inode's slot becomes a LIVE one. */
static int take_name(const struct opening *o, struct prelux_dirty *d, int fd)
{
  struct prelux_store *s = o->g->store;
  struct stat st;
  const char *base;
  char name[24];
  int dir, rc = prelux_disk_parent(d->tree, o->object, false, &dir, &base);
  if (rc < 0)
    return rc == -ENOENT ? -ESTALE : rc;
  int folder = prelux_stage_name(o->g, d->row.ino, name);
  if (prelux_os.fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ino != d->row.ino)
    rc = -ESTALE; /* somebody moved it: look again */
  else if (prelux_os.fchmod(fd, (st.st_mode & 0111) | 0600) < 0)
    rc = -errno;
  else
  {
    pthread_mutex_lock(&s->lock);
    prelux_tree_unpublish(d->tree, o->object, strlen(o->object));
    prelux_entry_drop(d->tree, o->object, strlen(o->object));
    pthread_mutex_unlock(&s->lock);
    rc = prelux_os.renameat(dir, base, folder, name) < 0 ? -errno : 0;
  }
  prelux_os.close(dir);
  uint64_t bytes;
  if (rc == 0 && prelux_catalogue_del(s->cat, d->tree->id, o->object, &bytes) == 0)
  {
    pthread_mutex_lock(&s->lock);
    prelux_store_account(s, (int64_t)bytes, -1);
    pthread_mutex_unlock(&s->lock);
  }
  return rc;
}

/* fd is the whole clean file of version k. -ESTALE: it is not at its name any more. */
static int take_clean(const struct opening *o, const struct prelux_known *k, int fd)
{
  struct prelux_dirty *d = dirty_new(o);
  if (!d)
    return prelux_problem(o->why, ENOMEM, "no memory");
  d->row.ino = k->cache_ino;
  d->row.mode = k->obj.mode;
  d->row.size = k->obj.size;
  d->row.mtime_ns = k->obj.mtime_ns;
  snprintf(d->row.base, sizeof d->row.base, "%s", k->obj.version);
  d->shown = k->ino;
  int rc = prelux_catalogue_get(o->g->store->cat, d->tree->id, o->object, &d->clean);
  if (rc < 0)
  {
    prelux_pending_release(&d->row);
    free(d);
    return -ESTALE;
  }
  rc = begin(o, d, fd, take_name);
  return rc < 0 && rc != -ESTALE ? prelux_problem(o->why, -rc, "cannot stage the cached file of %.200s: %s", o->object, strerror(-rc)) : rc;
}

/* ---- deciding ---- */

/* The folder that shall hold a new name. */
static int check_parent(const struct opening *o)
{
  char parent[PRELUX_OBJECT_MAX + 1];
  struct prelux_known k;
  size_t len = prelux_object_parent(o->object, strlen(o->object));
  memcpy(parent, o->object, len);
  parent[len] = 0;
  int rc = prelux_stage_ask(o->v, o->rules, parent, 0, &k, o->why);
  return rc < 0 ? rc : k.obj.type == PRELUX_DIR ? 0 : prelux_problem(o->why, ENOTDIR, "%.200s is no folder", parent);
}

/* What the remote has. That a name is not there may be believed as readers believe it: whoever made it since is told by the put's
 * condition. The version is asked anew, because the writer begins from it. */
static int look_at_remote(const struct opening *o, struct prelux_known *ret)
{
  uint64_t begun = prelux_store_now();
  bool over = o->flags & O_TRUNC, exclusive = o->flags & O_EXCL;
  unsigned how = o->flags & O_CREAT ? PRELUX_ASK_MAKES : 0;
  if (how && (exclusive ? o->rules->async : over)) /* else what somebody has put there just now would be begun from, or in the way */
    how |= PRELUX_ASK_NEW;
  int rc = prelux_stage_ask(o->v, o->rules, o->object, how, ret, o->why);
  bool just_asked = rc == 0 && ret->learned_ns >= begun, makes = rc == -ENOENT && (o->flags & O_CREAT);
  return just_asked || makes ? rc : prelux_stage_ask(o->v, o->rules, o->object, how | PRELUX_ASK_AGAIN, ret, o->why);
}

/* As open(2) judges the mode that is shown. What is here already the library has judged: its slot is always there. */
static int check_mode(const struct opening *o, const struct prelux_known *k)
{
  struct prelux_known shown = *k;
  bool writes = (o->flags & O_ACCMODE) != O_RDONLY || (o->flags & O_TRUNC);
  prelux_attrs_show(o->v->tree, o->object, strlen(o->object), &shown);
  if (!writes || !shown.obj.mode || (shown.obj.mode & 0222) || geteuid() == 0)
    return 0;
  return prelux_problem(o->why, EACCES, "%.200s may not be written to: its mode is %03o", o->object, shown.obj.mode & 0777);
}

/* What the remote has -> a staging file. The caller leads the object's fill flight. 0; -ESTALE: look again; -EINPROGRESS: it was renamed, and the
 * remote does not know yet. */
static int begin_from_remote(const struct opening *o)
{
  struct prelux_known k;
  int fd = -1, rc = look_at_remote(o, &k);
  bool over = o->flags & O_TRUNC;
  struct prelux_dirty *d;
  if (rc == -ENOENT && (o->flags & O_CREAT))
  {
    rc = check_parent(o);
    if (rc == 0)
      rc = make_new(o, PRELUX_PENDING_MODE | (over ? PRELUX_PENDING_OVER : PRELUX_PENDING_NEW), "", 0, &d);
    if (rc == 0)
      prelux_folder_moved(o->v->tree, o->object);
    if (rc == 0 && o->by->ret_made)
      *o->by->ret_made = true;
    return rc;
  }
  if (rc < 0)
    return rc;
  if ((o->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
    return prelux_problem(o->why, EEXIST, "%.200s exists", o->object);
  if (k.pending)
    return -EINPROGRESS;
  if (k.obj.type == PRELUX_LINK)
    return prelux_problem(o->why, ELOOP, "%.200s is a symbolic link", o->object);
  if (k.obj.type != PRELUX_FILE)
    return prelux_problem(o->why, EISDIR, "%.200s is a folder", o->object);
  if ((rc = check_mode(o, &k)) < 0)
    return rc;
  rc = prelux_open_cached(o->v, o->object, &k, true, &fd);
  struct opening as_it_is = *o; /* open's mode is for a file that it makes */
  as_it_is.mode = k.obj.mode;
  if (rc == -ENOENT && over)
    return make_new(&as_it_is, PRELUX_PENDING_OVER | (k.obj.mode ? PRELUX_PENDING_MODE : 0), k.obj.version, k.ino, &d);
  if (rc == -ENOENT)
    rc = prelux_fill(o->v, o->object, &k, true, &fd, o->why);
  if (rc < 0)
    return rc;
  rc = take_clean(o, &k, fd);
  prelux_os.close(fd);
  return rc;
}

static int cut(const struct opening *o, const struct prelux_dirty *d, int fd)
{
  if (!(o->flags & O_TRUNC) || d->empty)
    return 0;
  if ((o->flags & O_ACCMODE) != O_RDONLY && prelux_os.ftruncate(fd, 0) == 0)
    return 0;
  int again = (o->flags & O_ACCMODE) == O_RDONLY ? prelux_stage_reopen(o->g, d->row.ino, O_WRONLY | O_TRUNC) : -errno;
  if (again >= 0)
    prelux_os.close(again);
  return again < 0 ? again : 0;
}

/* Nobody has it, and nothing was cut: else the bytes that are there would be sent, over whatever the remote has by now. */
static void write_no_more(struct prelux_stage *g, struct prelux_dirty *d, enum prelux_pending_state state, uint32_t flags)
{
  struct prelux_pending next = d->row;
  next.state = state;
  next.flags = flags;
  if ((d->row.state != state || d->row.flags != flags) && prelux_stage_journal(g, PRELUX_EDIT_SET, &next) == 0)
    prelux_dirty_becomes(g, d, &next);
}

/* The row says that somebody may write; fd has the file open. Whatever fails behind that, nobody writes: the next poll settles it. The file is cut last. */
static int begin_to_write(const struct opening *o, struct prelux_dirty *d, int fd)
{
  struct prelux_stage *g = o->g;
  bool cuts = (o->flags & O_TRUNC) && !(d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_NEW));
  bool forgets = (o->flags & O_TRUNC) && (d->row.flags & PRELUX_PENDING_TOLD);
  enum prelux_pending_state was = d->row.state;
  uint32_t flags = d->row.flags;
  if (d->row.state == PRELUX_PENDING_READY || cuts || forgets)
  {
    struct prelux_pending next = d->row;
    next.state = PRELUX_PENDING_WRITING;
    next.flags &= ~(uint32_t)(PRELUX_PENDING_SAFE | (forgets ? PRELUX_PENDING_TOLD : 0));
    next.flags |= cuts ? PRELUX_PENDING_OVER : 0;
    int rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
    if (rc < 0)
      return rc;
    prelux_dirty_becomes(g, d, &next);
  }
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  d->queued = false;
  d->orphan_ns = 0;
  pthread_mutex_unlock(&g->lock);
  int rc = o->flags & O_DSYNC ? prelux_stage_durable(g, d->row.ino, d->row.mark) : 0; /* as each write then is; O_SYNC has that, too */
  if (rc == 0)
    rc = cut(o, d, fd);
  if (rc < 0)
    write_no_more(g, d, was, flags);
  return rc;
}

/* A descriptor for the program, of d, which is the caller's. Where none can be had nothing is changed, but what was begun for it: undo(). */
static int open_dirty(const struct opening *o, struct prelux_dirty *d, struct prelux_attr *ret, int *ret_fd)
{
  struct stat st;
  int fd = prelux_stage_reopen(o->g, d->row.ino, o->flags & FLAGS & ~O_TRUNC), rc = fd < 0 ? fd : prelux_stage_resolve(o->g, d);
  if (rc == 0)
    rc = check_asker(o);
  if (rc == 0 && prelux_os.fstat(fd, &st) < 0)
    rc = -errno;
  if (rc == 0) /* last: it may cut the file, which nobody can take back */
    rc = begin_to_write(o, d, fd);
  if (rc == 0 && (o->flags & O_TRUNC) && prelux_os.fstat(fd, &st) < 0)
    st.st_size = 0;
  if (rc < 0)
  {
    if (fd >= 0)
      prelux_os.close(fd);
    return prelux_problem(o->why, -rc, "staging file of %.200s: %s", o->object ? o->object : "O_TMPFILE", strerror(-rc));
  }
  pthread_mutex_lock(&o->g->lock);
  d->rules = *o->rules;
  prelux_live_attr(d, o->v, ret);
  pthread_mutex_unlock(&o->g->lock);
  ret->size = (uint64_t)st.st_size;
  ret->mtime_ns = prelux_stat_mtime(&st);
  *ret_fd = fd;
  return 0;
}

/* What a power cut was not to undo waits to be sent, and is about to be written over: it goes first, unless the remote is away. False: d is
 * not the caller's any more. */
static bool send_safe(const struct opening *o, struct prelux_dirty *d)
{
  if (d->row.state != PRELUX_PENDING_READY || !(d->row.flags & PRELUX_PENDING_SAFE) || d->row.tries > 0)
    return true;
  if (prelux_deferred_drain(d->tree, d->row.path, NULL, NULL) < 0) /* its folder may be one of them */
    return true;
  if (prelux_stage_send(o->g, d, NULL) >= 0)
    return false;
  if (d->row.state == PRELUX_PENDING_READY)
    return true;
  prelux_dirty_give(o->g, d); /* refused: its path is the remote's again */
  return false;
}

/* One round: 0 with a dirty file that is the caller's in *ret; -EAGAIN: look again. */
static int find_or_begin(const struct opening *o, struct prelux_dirty **ret)
{
  struct prelux_flight flight;
  struct prelux_problem mine = {0};
  int rc;
  if ((*ret = prelux_dirty_take(o->g, o->v->tree, o->object)))
  {
    if ((*ret)->row.to && prelux_dirty_decide(o->g, *ret, NULL) == 0 && strcmp((*ret)->row.path, o->object) != 0)
    {
      prelux_dirty_give(o->g, *ret);
      return -EAGAIN;
    }
    if (prelux_stage_settle_before(o->g, *ret))
      return -EAGAIN;
    if ((o->flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL) || prelux_once_made(*ret, o->by->once))
      return send_safe(o, *ret) ? 0 : -EAGAIN;
    prelux_dirty_give(o->g, *ret);
    return prelux_problem(o->why, EEXIST, "%.200s exists", o->object);
  }
  if (!prelux_flight_begin(&flight, o->v, PRELUX_FLIGHT_FILL, o->object, &rc, &mine))
    return -EAGAIN; /* whoever filled it, or began to write it, is done */
  struct opening led = *o;
  led.why = &mine;
  uint64_t shape = atomic_load(&o->v->tree->shape);
  pthread_mutex_lock(&o->g->lock);
  *ret = prelux_dirty_by_path(o->g, o->v->tree, o->object);
  bool full = o->g->count >= PRELUX_DIRTY_MAX;
  pthread_mutex_unlock(&o->g->lock);
  rc = *ret ? -EAGAIN : full ? prelux_problem(&mine, ENOSPC, "%u files wait to be sent", PRELUX_DIRTY_MAX) : begin_from_remote(&led);
  if (rc == 0) /* busy since it was put there, so it cannot go */
  {
    pthread_mutex_lock(&o->g->lock);
    *ret = prelux_dirty_by_path(o->g, o->v->tree, o->object);
    pthread_mutex_unlock(&o->g->lock);
    if (!prelux_name_stays(o->v, o->object, shape) && prelux_stage_discard(o->g, *ret) == 0)
      rc = -ESTALE;
  }
  prelux_flight_end(o->g->store, &flight, rc == 0 || rc == -ESTALE || rc == -EINPROGRESS || rc == -ESRCH ? -EAGAIN : rc, &mine);
  if (rc == -EINPROGRESS && (rc = prelux_deferred_drain(o->v->tree, o->object, NULL, &mine)) == 0)
    rc = -ESTALE;
  if (rc < 0 && o->why)
    *o->why = mine;
  return rc == -ESTALE ? -EAGAIN : rc;
}

/* A file without a name in the folder `object`. */
static int open_nameless(struct opening *o, struct prelux_dirty **ret)
{
  struct prelux_known k;
  const char *folder = o->object;
  if ((o->flags & O_ACCMODE) == O_RDONLY)
    return prelux_problem(o->why, EINVAL, "O_TMPFILE for reading only");
  int rc = prelux_fresh_get(o->v, folder, 0, false, &k, o->why);
  if (rc == 0 && k.obj.type != PRELUX_DIR)
    rc = prelux_problem(o->why, ENOTDIR, "%.200s is no folder", folder);
  o->object = NULL;
  return rc < 0 ? rc : make_new(o, PRELUX_PENDING_MODE, "", 0, ret);
}

/* The open has failed, or nobody is there to have it. What was made for it and nobody has ever had is not to be sent, least of all over what the remote has. */
static void undo(struct prelux_stage *g, struct prelux_dirty *d)
{
  if (d->empty && d->row.state == PRELUX_PENDING_WRITING)
    prelux_stage_undo(g, d);
  else
    prelux_dirty_give(g, d);
}

int prelux_stage_open_by(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                           int flags, uint32_t mode, const struct prelux_asker *by, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why)
{
  struct opening o = {.g = g, .v = v, .rules = rules, .object = object, .flags = flags, .mode = mode, .by = by ? by : &NOBODY, .why = why};
  struct prelux_dirty *d = NULL;
  int rc = prelux_object_check(g->store, object, why);
  if (rc == 0 && !v->backend->ops->write)
    rc = prelux_problem(why, EROFS, "backends of type %s are read-only", v->backend->ops->type);
  if (rc == 0 && rules->off)
    rc = prelux_problem(why, EROFS, "the mapping is read-only: its configuration does not say write: sync or async");
  if (rc == 0)
    rc = prelux_stage_room(g, why);
  if (rc == 0 && (flags & O_TMPFILE) == O_TMPFILE)
    rc = open_nameless(&o, &d);
  for (int again = 0; rc == 0 && !d; again++)
  {
    rc = find_or_begin(&o, &d);
    if (rc < 0)
      d = NULL;
    if (rc == -EAGAIN && again < 1000)
      rc = 0;
  }
  if (rc < 0)
    return rc;
  rc = open_dirty(&o, d, ret, ret_fd);
  if (rc < 0)
  {
    undo(g, d);
    return rc;
  }
  d->empty = false;
  prelux_dirty_give(g, d);
  if (!rules->async && v->backend->ops->write->begin)
    prelux_grow_kick(g);
  return 0;
}

int prelux_stage_open(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *object,
                      int flags, uint32_t mode, struct prelux_attr *ret, int *ret_fd, struct prelux_problem *why)
{
  return prelux_stage_open_by(g, v, rules, object, flags, mode, NULL, ret, ret_fd, why);
}

int prelux_stage_adopt(struct prelux_stage *g, const struct prelux_stage_made *m, struct prelux_problem *why)
{
  const struct opening o = {.g = g, .v = m->v, .rules = m->rules, .object = m->object, .mode = m->mode, .by = &NOBODY, .why = why};
  struct prelux_dirty *d = dirty_new(&o);
  if (!d)
    return prelux_problem(why, ENOMEM, "no memory");
  d->row.flags = prelux_stage_first_flags(m->rules, m->over);
  d->row.ino = m->ino;
  d->row.mode = m->mode & 07777;
  d->row.made_ns = m->made_ns;
  d->shown = prelux_number_fresh(d->tree, m->ino, m->made_ns);
  int rc = begin(&o, d, -1, NULL);
  if (rc < 0)
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  prelux_folder_moved_at(d->tree, m->object, d->taken.st_ctim.tv_sec * 1000000000ll + d->taken.st_ctim.tv_nsec); /* named then, or written to since */
  prelux_crash_was_writer(g, m->ino, m->writer);
  prelux_dirty_give(g, d);
  return 0;
}
