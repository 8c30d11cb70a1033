/* `fsync: remote`: an fsync returns when the remote has what was written before it.
 *
 * Theory of operation. The file is open and may be written to while it is sent, so what is sent is a snapshot of it, a file without a name in
 * `.prelux/fill` (its blocks are shared where the file system can). It is put as at a close, on the condition that the remote still is what
 * the writer began from; from then on the writer begins from what was put: the next put, of an fsync or the last close, is on that
 * condition, and where nothing was written since there is none. Size and hash of the snapshot stand in the row before it is sent: should the
 * answer or the daemon be lost, the remote's object is known for ours (stage_unsure.c).
 *
 *   covered   an fsync whose bytes are in a snapshot that was begun after it was asked for has that one's result: who comes while one is sent
 *             waits, and one flight is for all who do
 *   unchanged the file has the stamps it had before the last snapshot. A write by a shared map changes them only where the page is clean: it
 *             is, because the daemon has synced the file between stamp and snapshot. Not so in memory (`staging: /dev/shm`), where there are
 *             no clean pages: there bytes are compared, by the hash
 *
 * While a snapshot is sent the file is `busy`, as while it is sent at a close: its writers go on, who opens, closes, renames or removes it waits.
 * A failure is the fsync's errno and changes nothing else: the next one, or the close, tries again. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/deferred.h"

#define PIECE (1u << 20)

struct prelux_fsynced
{
  uint64_t begun; /* snapshots; stage.lock */
  int result;     /* of the last of them, and why: who has the file may look */
  struct prelux_problem why;
  struct stat stamp;        /* the file before the last that was put; st_ino 0: none was */
  struct prelux_object obj; /* what the remote has of it, with the time that readers here see */
  char word[PRELUX_WORD_MAX];
};

struct snapshot
{
  int fd;
  uint64_t size, room;
  int64_t mtime_ns;
  char word[PRELUX_WORD_MAX];
};

void prelux_fsync_free(struct prelux_fsynced *f)
{
  free(f);
}

/* ---- what the remote has ---- */

bool prelux_fsync_base(const struct prelux_dirty *d)
{
  const struct prelux_fsynced *f = d->fsynced;
  return f && f->stamp.st_ino && !(d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_NEW)) && strcmp(f->obj.version, d->row.base) == 0;
}

void prelux_fsync_renamed(struct prelux_dirty *d, const struct prelux_object *now)
{
  int64_t mtime_ns = d->fsynced->obj.mtime_ns;
  d->fsynced->obj = *now;
  prelux_learn_written(d->tree, d->row.path, d->shown, now, d->row.mode, mtime_ns);
  d->fsynced->obj.mtime_ns = mtime_ns;
}

/* Nothing was written since. */
static bool unchanged(const struct prelux_dirty *d, int fd, const struct stat *st)
{
  const struct prelux_fsynced *f = d->fsynced;
  char word[PRELUX_WORD_MAX];
  if (!prelux_fsync_base(d) || !prelux_stage_same(st, &f->stamp))
    return false;
  return !(d->row.ino & PRELUX_INO_SCRATCH) || (prelux_stage_word(fd, word) == 0 && strcmp(word, f->word) == 0);
}

int prelux_fsync_settle(struct prelux_stage *g, struct prelux_dirty *d, int fd, const struct stat *st, struct prelux_problem *why)
{
  if (!unchanged(d, fd, st))
    return 1;
  struct prelux_object obj = d->fsynced->obj;
  struct prelux_pending next = d->row;
  next.flags = (next.flags & ~(uint32_t)PRELUX_PENDING_DROP) | (d->rules.drop ? PRELUX_PENDING_DROP : 0);
  next.size = obj.size;
  next.mtime_ns = obj.mtime_ns;
  prelux_dirty_becomes(g, d, &next);
  bool goes = (next.flags & PRELUX_PENDING_DROP) || (next.ino & PRELUX_INO_SCRATCH);
  return goes ? prelux_stage_let_go(g, d, &obj) : prelux_stage_install(g, d, &obj, why);
}

/* ---- snapshots ---- */

static int copy_range(int from, int to, uint64_t at, uint64_t end)
{
  bool by_hand = false;
  char *buf = NULL;
  int rc = 0;
  while (rc == 0 && at < end)
  {
    off_t in = (off_t)at, out = (off_t)at;
    ssize_t n = by_hand ? -1 : prelux_os.copy_file_range(from, &in, to, &out, end - at, 0);
    if (n < 0 && !by_hand && errno != ENOSPC && errno != EDQUOT)
    {
      by_hand = true;
      buf = malloc(PIECE);
      rc = buf ? 0 : -ENOMEM;
      continue;
    }
    if (by_hand && (n = prelux_os.pread(from, buf, end - at < PIECE ? (size_t)(end - at) : PIECE, (off_t)at)) > 0)
      rc = prelux_pwrite_all(to, buf, (size_t)n, at);
    if (n < 0)
      rc = errno == EINTR ? 0 : -errno;
    if (n == 0) /* it was cut meanwhile */
      break;
    at += n > 0 ? (uint64_t)n : 0;
  }
  free(buf);
  return rc;
}

/* Its holes stay holes, as far as the file system knows of them. */
static int copy_data(int from, int to, uint64_t size)
{
  int rc = prelux_os.ftruncate(to, (off_t)size) < 0 ? -errno : 0;
  for (off_t at = 0; rc == 0 && (uint64_t)at < size;)
  {
    off_t data = lseek(from, at, SEEK_DATA), hole;
    if (data < 0 && errno == ENXIO)
      break;
    hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
    if (hole < 0)
      data = at;
    uint64_t end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
    rc = copy_range(from, to, (uint64_t)data, end);
    at = (off_t)end;
  }
  return rc;
}

/* The bytes of the file, st its attributes just now; what is written meanwhile may be in it. */
static int fill(struct prelux_stage *g, int from, const struct stat *st, struct snapshot *ret)
{
  ret->fd = prelux_os.openat(g->store->fill_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  int rc = ret->fd < 0 ? -errno : 0;
  if (rc == 0 && (ioctl(ret->fd, FICLONE, from) < 0 || prelux_os.ftruncate(ret->fd, st->st_size) < 0))
    rc = copy_data(from, ret->fd, (uint64_t)st->st_size);
  struct stat after;
  ret->size = (uint64_t)st->st_size;
  ret->mtime_ns = prelux_stat_mtime(st);
  if (rc == 0 && prelux_os.fstat(from, &after) == 0 && after.st_size < st->st_size) /* cut meanwhile: the rest was never there */
  {
    ret->size = (uint64_t)after.st_size;
    rc = prelux_os.ftruncate(ret->fd, after.st_size) < 0 ? -errno : 0;
  }
  return rc == 0 ? prelux_stage_word(ret->fd, ret->word) : rc;
}

static void count_room(struct prelux_stage *g, int64_t bytes)
{
  pthread_mutex_lock(&g->lock);
  g->waiting += (uint64_t)bytes;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
}

static void drop(struct prelux_stage *g, struct snapshot *p)
{
  if (p->fd >= 0)
    prelux_os.close(p->fd);
  if (!p->room)
    return;
  count_room(g, -(int64_t)p->room);
  prelux_room_return(g->store, p->room);
}

static int take(struct prelux_stage *g, const struct prelux_dirty *d, int from, const struct stat *st, struct snapshot *ret, struct prelux_problem *why)
{
  uint64_t data = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
  uint64_t room = data < size ? data : size;
  int rc = prelux_stage_room(g, why);
  if (rc == 0)
    rc = prelux_room_take(g->store, room, why);
  if (rc < 0)
    return rc;
  ret->room = room;
  count_room(g, (int64_t)room);
  rc = fill(g, from, st, ret);
  return rc < 0 ? prelux_problem(why, -rc, "cannot copy what was written of %.200s: %s", d->row.path, strerror(-rc)) : 0;
}

/* ---- sending one ---- */

/* The remote has the snapshot, and has not said of what version. */
static int find_version(const struct prelux_dirty *d, int fd, struct prelux_object *ret, struct prelux_problem *why)
{
  int whose = prelux_stage_whose(d, fd, true, ret, why);
  if (whose == PRELUX_OURS || whose == PRELUX_FORMER)
    return 0;
  return whose < 0 ? whose : prelux_problem(why, ESTALE, "%.200s was changed on the remote just after it was put", d->row.path);
}

/* The writer begins from it. */
static int begin_from(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj, struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  memcpy(next.base, obj->version, sizeof next.base);
  next.flags &= ~(uint32_t)(PRELUX_PENDING_NEW | PRELUX_PENDING_OVER | PRELUX_PENDING_UNSURE | PRELUX_PENDING_MTIME | PRELUX_PENDING_TOLD);
  next.size = obj->size;
  next.mtime_ns = obj->mtime_ns;
  next.sent = NULL;
  next.tries = 0;
  next.next_ns = 0;
  int rc = prelux_stage_set_row(g, d, &next);
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
}

/* Nothing of it got there: the words of the row are as before. */
static void forget_word(struct prelux_stage *g, struct prelux_dirty *d, const char *before)
{
  struct prelux_pending next = d->row;
  next.sent = before ? strdup(before) : NULL;
  if (before && !next.sent)
    return; /* one word too many costs a look */
  prelux_stage_set_row(g, d, &next);
}

static int put(struct prelux_stage *g, struct prelux_dirty *d, const struct snapshot *p, struct prelux_object *ret, struct prelux_problem *why)
{
  bool lost = false, unsure = prelux_dirty_unsure(d);
  char *before = d->row.sent ? strdup(d->row.sent) : NULL;
  int rc = d->row.sent && !before ? -ENOMEM : prelux_stage_note_sending(g, d, p->word, p->size, p->mtime_ns);
  if (rc < 0)
  {
    free(before);
    return prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  rc = prelux_stage_put(g, d, p->fd, unsure, ret, &lost, why);
  if (rc < 0 && !lost)
    forget_word(g, d, before);
  free(before);
  if (rc == 0 && !ret->version[0])
    rc = find_version(d, p->fd, ret, why);
  return rc;
}

static int send(struct prelux_stage *g, struct prelux_dirty *d, const struct snapshot *p, const struct stat *stamp, struct prelux_problem *why)
{
  struct prelux_object obj = {0};
  int rc = prelux_stage_settle_first(g, d, p->fd, &obj, why);
  if (rc >= 0)
    rc = put(g, d, p, &obj, why);
  prelux_stage_heard(d->tree, rc);
  if (rc < 0)
    return rc == -EEXIST ? -ESTALE : rc;
  prelux_stage_took(g, d->tree);
  obj.type = PRELUX_FILE;
  obj.size = p->size;
  prelux_learn_written(d->tree, d->row.path, d->shown, &obj, d->row.mode, p->mtime_ns);
  obj.mtime_ns = p->mtime_ns;
  rc = begin_from(g, d, &obj, why);
  if (rc < 0)
    return rc;
  if (prelux_stage_durable(g, d->row.ino, d->row.mark) < 0) /* after a power cut a person would be asked of what the remote has */
    prelux_warn("journal of %s cannot be synced", g->store->dir);
  d->fsynced->obj = obj;
  d->fsynced->stamp = *stamp;
  memcpy(d->fsynced->word, p->word, sizeof p->word);
  return 0;
}

/* ---- one file ---- */

/* d is the caller's, has a name, and is being written. Its bytes were synced here after this fsync was asked for. */
static int fly(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why)
{
  struct snapshot p = {.fd = -1};
  struct stat now;
  int rc = d->row.to ? prelux_dirty_decide(g, d, why) : 0;
  if (rc == 0)
    rc = prelux_deferred_drain(d->tree, d->row.path, NULL, why);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&g->lock);
  struct stat stamp = d->synced;
  pthread_mutex_unlock(&g->lock);
  int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY);
  if (fd < 0 || prelux_os.fstat(fd, &now) < 0)
    rc = prelux_problem(why, fd < 0 ? -fd : errno, "staging file of %.200s: %s", d->row.path, strerror(fd < 0 ? -fd : errno));
  if (rc == 0 && !prelux_stage_untouched(d, &now) && !unchanged(d, fd, &now))
  {
    rc = take(g, d, fd, &now, &p, why);
    if (rc == 0)
      rc = send(g, d, &p, &stamp, why);
    drop(g, &p);
  }
  if (fd >= 0)
    prelux_os.close(fd);
  return rc;
}

/* seen: so many snapshots of it had been begun when this fsync was asked for. */
static int fly_or_share(struct prelux_stage *g, struct prelux_dirty *d, uint64_t seen, struct prelux_problem *why)
{
  struct prelux_fsynced *f = d->fsynced ? d->fsynced : calloc(1, sizeof *f);
  if (!f)
    return prelux_problem(why, ENOMEM, "no memory");
  pthread_mutex_lock(&g->lock);
  d->fsynced = f;
  bool covered = f->begun > seen;
  f->begun += !covered;
  pthread_mutex_unlock(&g->lock);
  if (!covered)
  {
    f->why = (struct prelux_problem){0};
    f->result = fly(g, d, &f->why);
  }
  if (f->result < 0 && why)
    *why = f->why;
  return f->result;
}

/* d is the caller's. *ret_gone: not any more. */
static int file_to_remote(struct prelux_stage *g, struct prelux_dirty *d, uint64_t seen, bool *ret_gone, struct prelux_problem *why)
{
  switch ((enum prelux_pending_state)d->row.state)
  {
  case PRELUX_PENDING_WRITING:
    return d->row.path ? fly_or_share(g, d, seen, why) : 0;
  case PRELUX_PENDING_READY:
    return prelux_stage_send_now(g, d, ret_gone, why);
  default:
    return prelux_problem(why, d->row.err ? d->row.err : EIO, "%s", d->row.cause ? d->row.cause : "it is kept, and not sent unasked");
  }
}

static int sync_file(struct prelux_stage *g, const struct prelux_write_rules *rules, uint64_t ino, struct prelux_problem *why)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  uint64_t seen = d && d->fsynced ? d->fsynced->begun : 0;
  bool remote = d && (rules->fsync_remote || d->rules.fsync_remote); /* who inherited a descriptor may name another mapping of the store */
  pthread_mutex_unlock(&g->lock);
  int rc = prelux_stage_sync(g, ino, why);
  bool gone = false;
  if (rc < 0 || !remote || !(d = prelux_dirty_take_ino(g, ino)))
    return rc;
  rc = file_to_remote(g, d, seen, &gone, why);
  if (!gone)
    prelux_dirty_give(g, d);
  return rc;
}

/* ---- a folder ---- */

static bool in_folder(const char *path, const char *folder)
{
  size_t len = path ? prelux_object_parent(path, strlen(path)) : 0;
  return path && strlen(folder) == len && memcmp(path, folder, len) == 0;
}

/* A changed name of it that waits: its number, 0: none does. */
static int64_t name_that_waits(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, char **ret_path, char **ret_to)
{
  int64_t id = 0;
  pthread_mutex_lock(&g->lock);
  for (const struct prelux_deferred *n = g->names; n && !id; n = n->next)
    if (n->tree == t && n->decides && (in_folder(n->row.path, folder) || in_folder(n->row.to, folder) || strcmp(n->row.path, folder) == 0))
    {
      id = n->row.id;
      *ret_path = strdup(n->row.path);
      *ret_to = n->row.to ? strdup(n->row.to) : NULL;
    }
  pthread_mutex_unlock(&g->lock);
  return id;
}

/* The remote did not want it; or 0. */
static int refused(struct prelux_stage *g, int64_t id, struct prelux_problem *why)
{
  pthread_mutex_lock(&g->lock);
  const struct prelux_deferred *n = prelux_deferred_by_id(g, id);
  int rc = n && !n->decides ? prelux_problem(why, n->row.err ? n->row.err : EIO, "%s", n->row.cause ? n->row.cause : "refused") : 0;
  pthread_mutex_unlock(&g->lock);
  return rc;
}

static int names_to_remote(struct prelux_stage *g, struct prelux_tree *t, const char *folder, struct prelux_problem *why)
{
  char *path = NULL, *to = NULL;
  int rc = 0;
  for (int64_t id; rc == 0 && (id = name_that_waits(g, t, folder, &path, &to)) != 0; path = to = NULL)
  {
    rc = path ? prelux_deferred_drain(t, path, to, why) : prelux_problem(why, ENOMEM, "no memory");
    if (rc == 0)
      rc = refused(g, id, why);
    free(path);
    free(to);
  }
  return rc;
}

/* Files in the folder whose names the remote is to have: closed ones that wait, and those that were synced before. Malloc'd. */
static uint64_t *files_in(struct prelux_stage *g, const struct prelux_tree *t, const char *folder, size_t *ret_n)
{
  size_t n = 0;
  pthread_mutex_lock(&g->lock);
  uint64_t *list = g->count ? malloc(g->count * sizeof *list) : NULL;
  for (size_t i = 0; i < g->slots && list; i++)
    for (const struct prelux_dirty *d = g->by_path[i]; d; d = d->by_path)
      if (d->tree == t && in_folder(d->row.path, folder) && (d->row.state == PRELUX_PENDING_READY || d->fsynced))
        list[n++] = d->row.ino;
  pthread_mutex_unlock(&g->lock);
  *ret_n = n;
  return list;
}

static int sync_folder(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, const char *folder,
                       struct prelux_problem *why)
{
  size_t n = 0;
  int rc = prelux_stage_sync(g, 0, why);
  if (rc < 0 || !rules->fsync_remote)
    return rc;
  rc = names_to_remote(g, v->tree, folder, why);
  uint64_t *files = files_in(g, v->tree, folder, &n);
  for (size_t i = 0; i < n && rc == 0; i++)
    rc = sync_file(g, rules, files[i], why);
  free(files);
  return rc;
}

int prelux_fsync(struct prelux_stage *g, const struct prelux_view *v, const struct prelux_write_rules *rules, uint64_t ino, const char *object,
                 struct prelux_problem *why)
{
  return ino ? sync_file(g, rules, ino, why) : sync_folder(g, v, rules, object, why);
}
