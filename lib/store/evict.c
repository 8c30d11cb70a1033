/* Eviction: which files go first says victims.c; those that somebody has open or mapped stay.
 *
 * The proof is a write lease (F_SETLEASE F_WRLCK), which the kernel gives only when this fd is the file's only one. Under the
 * lease: the index forgets the file (no reader is sent to it any more), it moves from its name to held/, the lease goes. Who
 * came to open it meanwhile gets the old, whole file; then it is held until that reader has gone.
 *
 * held/ also has the old versions of replaced files and the nameless files of `skip`: as long as the inode exists its number
 * cannot be given to another file, and so the index's inode key may stay. Each tick probes them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/index/writer.h"
#include "lib/store/attrs.h"
#include "lib/store/partial.h"
#include "lib/store/pin.h"
#include "lib/store/victims.h"

#define BATCH 64
#define PATIENCE_NS 500000000u /* of the command, with all files in use together */

/* 0: nobody else has the file; the caller gives the lease back with lease_drop(). */
static int lease_take(struct prelux_store *s, int fd)
{
  /* Should somebody open the file meanwhile the kernel signals us: with a signal that does nothing by default. */
  prelux_os.fcntl(fd, F_SETSIG, SIGURG);
  if (prelux_os.fcntl(fd, F_SETLEASE, F_WRLCK) == 0)
    return 0;
  if (errno != EAGAIN && errno != EACCES)
  {
    pthread_mutex_lock(&s->lock);
    bool warned = s->lease_warned;
    s->lease_warned = true;
    pthread_mutex_unlock(&s->lock);
    if (!warned)
      prelux_warn("cache folder %s: its file system has no leases (%s): nothing can be evicted", s->dir, strerror(errno));
  }
  return -EBUSY;
}

static void lease_drop(int fd)
{
  prelux_os.fcntl(fd, F_SETLEASE, F_UNLCK);
  prelux_os.close(fd);
}

/* ---- held files ----
 *
 * Those of another file system (`staging: DIR`) are held there: their names begin with an x. */

static int held_in(const struct prelux_store *s, const char *name)
{
  return name[0] == 'x' ? s->scratch_held_fd : s->held_fd;
}

void prelux_hold_name(struct prelux_store *s, char ret[32])
{
  snprintf(ret, 32, "%016llx", (unsigned long long)atomic_fetch_add(&s->next_name, 1));
  atomic_fetch_add(&s->held, 1);
}

/* gone: and its path is another file's from now on, or nobody's. */
static void hold(struct prelux_store *s, int dirfd, const char *name, bool gone, char ret[32])
{
  struct stat st;
  *ret = 0;
  if (prelux_os.fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
    return;
  prelux_hold_name(s, ret);
  if (s->scratch && st.st_dev == s->scratch_dev)
    ret[0] = 'x'; /* of 16 digits that count up from a random number */
  if (prelux_os.linkat(dirfd, name, held_in(s, ret), ret, 0) == 0)
  {
    if (gone && s->index)
      prelux_index_gone(s->index, st.st_dev, st.st_ino, true);
    return;
  }
  /* Then its readers lose the object's identity in fstat: better than another file having it. */
  prelux_hold_undo(s, ret);
  if (s->index)
    prelux_index_drop_inode(s->index, st.st_dev, st.st_ino);
}

void prelux_hold(struct prelux_store *s, int dirfd, const char *name, char ret[32])
{
  hold(s, dirfd, name, true, ret);
}

void prelux_hold_shown(struct prelux_store *s, int dirfd, const char *name, char ret[32])
{
  hold(s, dirfd, name, false, ret);
}

void prelux_hold_undo(struct prelux_store *s, char name[32])
{
  struct stat st;
  if (!*name)
    return;
  if (s->index && prelux_os.fstatat(held_in(s, name), name, &st, AT_SYMLINK_NOFOLLOW) == 0)
    prelux_index_gone(s->index, st.st_dev, st.st_ino, false);
  prelux_os.unlinkat(held_in(s, name), name, 0);
  atomic_fetch_sub(&s->held, 1);
  *name = 0;
}

void prelux_hold_release(struct prelux_store *s, const char *name, bool force)
{
  struct stat st;
  int fd = prelux_os.openat(held_in(s, name), name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return;
  bool known = prelux_os.fstat(fd, &st) == 0, leased = lease_take(s, fd) == 0;
  /* Two names: it is about to be replaced; the key stays as long as the file can be opened. */
  if (known && (leased ? st.st_nlink == 1 : force))
  {
    if (s->index)
      prelux_index_drop_inode(s->index, st.st_dev, st.st_ino);
    if (prelux_os.unlinkat(held_in(s, name), name, 0) == 0)
      atomic_fetch_sub(&s->held, 1);
  }
  if (leased)
    lease_drop(fd);
  else
    prelux_os.close(fd);
}

static int sweep_one(void *arg, int dirfd, const char *name)
{
  struct prelux_store *s = arg;
  prelux_hold_release(s, name, atomic_load(&s->held) > PRELUX_HELD_MAX);
  return 0;
}

void prelux_hold_sweep(struct prelux_store *s)
{
  if (!atomic_load(&s->held))
    return;
  prelux_dir_each(s->held_fd, sweep_one, s);
  if (s->scratch)
    prelux_dir_each(s->scratch_held_fd, sweep_one, s);
}

/* ---- one file ---- */

static void hide(struct prelux_tree *t, const char *object)
{
  size_t len = strlen(object);
  pthread_mutex_lock(&t->store->lock);
  struct prelux_entry *e = prelux_entry_find(t, object, len);
  if (e)
    e->cache_ino = 0;
  prelux_tree_unpublish_slots(t, object, len);
  pthread_mutex_unlock(&t->store->lock);
}

/* fd holds the lease. */
static int move_out(struct prelux_tree *t, const char *object, int fd)
{
  struct prelux_store *s = t->store;
  char held[32];
  const char *base;
  int dir, rc = prelux_disk_parent(t, object, false, &dir, &base);
  if (rc == 0)
  {
    hide(t, object);
    prelux_hold_name(s, held);
    if (prelux_os.renameat(dir, base, s->held_fd, held) < 0)
    {
      rc = -errno;
      atomic_fetch_sub(&s->held, 1);
    }
    prelux_os.close(dir);
  }
  lease_drop(fd);
  if (rc == 0)
    prelux_hold_release(s, held, false);
  return rc;
}

static int evict_locked(struct prelux_tree *t, const char *object, bool spare, uint64_t *ret_bytes)
{
  struct prelux_store *s = t->store;
  struct prelux_row row;
  struct stat st;
  int fd, rc = prelux_catalogue_get(s->cat, t->id, object, &row);
  if (rc < 0)
    return rc;
  rc = prelux_disk_open(t, object, O_RDONLY | O_NONBLOCK, &fd, &st);
  if (rc == -EAGAIN || rc == -EWOULDBLOCK)
    return -EBUSY;
  if (rc < 0 || !prelux_row_matches(s, &row, &st))
  {
    /* Gone, or somebody else's file: the row is wrong. */
    if (rc == 0)
      prelux_os.close(fd);
    if (rc == 0 || rc == -ENOENT || rc == -ENOTDIR || rc == -EISDIR || rc == -ENXIO)
    {
      hide(t, object);
      *ret_bytes = prelux_store_drop_row(t, object);
      return 0;
    }
    return rc;
  }
  /* Who was told that it is pinned finds it there; who pins it now is told when it is gone. */
  pthread_mutex_lock(&s->pin_lock);
  rc = spare && prelux_pinned(s, t->id, object) ? -EBUSY : lease_take(s, fd);
  if (rc < 0)
    prelux_os.close(fd);
  else
    rc = move_out(t, object, fd);
  pthread_mutex_unlock(&s->pin_lock);
  if (rc < 0)
    return rc;
  *ret_bytes = prelux_store_drop_row(t, object);
  pthread_mutex_lock(&s->lock);
  s->stats.evictions++;
  pthread_mutex_unlock(&s->lock);
  return 0;
}

int prelux_evict_one(struct prelux_tree *t, const char *object, bool spare, uint64_t *ret_bytes)
{
  struct prelux_flight flight;
  if (!prelux_flight_try(&flight, t, PRELUX_FLIGHT_FILL, object))
    return -EBUSY;
  int rc = evict_locked(t, object, spare, ret_bytes);
  prelux_flight_end(t->store, &flight, rc, NULL);
  return rc;
}

/* ---- many files ---- */

static struct prelux_tree *tree_of(struct prelux_store *s, int64_t id)
{
  char identity[4096];
  pthread_mutex_lock(&s->lock);
  struct prelux_tree *t = s->trees;
  while (t && t->id != id)
    t = t->next;
  pthread_mutex_unlock(&s->lock);
  /* Trees of configurations that nobody uses now count too. */
  if (!t && (prelux_catalogue_identity(s->cat, id, identity, sizeof identity) < 0 ||
             prelux_tree_open(s, identity, NULL, &t, NULL) < 0))
    return NULL;
  return t;
}

/* Hits do not reach the daemon, but the kernel notes them (as far as the mount options let it): a file read since its row was
 * written gets its turn later. */
static bool used_later(struct prelux_tree *t, struct prelux_victim *v)
{
  struct stat st;
  int fd;
  if (prelux_disk_open(t, v->path, O_RDONLY | O_NONBLOCK, &fd, &st) < 0)
    return false;
  prelux_os.close(fd);
  if (v->used_ns == 0) /* let go by prelux_store_evict: first in line, and no use may make it believed again */
    return false;
  int64_t atime = (int64_t)st.st_atim.tv_sec * 1000000000 + st.st_atim.tv_nsec;
  if (atime <= v->used_ns + t->store->ghosts.apart_ns)
    return false;
  v->used_ns = atime;
  prelux_catalogue_touch(t->store->cat, v, 1, t->store->ghosts.apart_ns);
  return true;
}

static void flush_uses(struct prelux_store *s);

/* One pass over all rows. */
static uint64_t evict_pass(struct prelux_store *s, uint64_t want)
{
  struct prelux_victim rows[BATCH], pinned[PRELUX_PINS_AT_ONCE];
  struct prelux_order order;
  uint64_t freed = 0, seen = 0;
  int n, n_pinned = 0;
  prelux_order_begin(s, &order);
  /* A row put off comes again later in the order; that its file is read all the time must not keep us here. */
  pthread_mutex_lock(&s->lock);
  uint64_t most = 2 * s->stats.files + BATCH;
  pthread_mutex_unlock(&s->lock);
  while (freed < want && seen < most && (n = prelux_order_next(s, &order, rows, BATCH)) > 0)
    for (int i = 0; i < n; i++, seen++)
    {
      uint64_t bytes = 0;
      struct prelux_tree *t = freed < want ? tree_of(s, rows[i].tree) : NULL;
      if (t && prelux_pinned(s, rows[i].tree, rows[i].path)) /* seen once: it comes no more in this order */
      {
        pinned[n_pinned++] = rows[i];
        n_pinned = n_pinned < PRELUX_PINS_AT_ONCE ? n_pinned : prelux_pin_mark(s, pinned, n_pinned);
        continue;
      }
      if (t && !used_later(t, &rows[i]) && prelux_evict_one(t, rows[i].path, true, &bytes) == 0)
      {
        freed += bytes;
        prelux_victims_evicted(t, rows[i].path, rows[i].used_ns);
      }
      free(rows[i].path);
    }
  prelux_pin_mark(s, pinned, n_pinned);
  return freed;
}

uint64_t prelux_evict_bytes(struct prelux_store *s, uint64_t bytes)
{
  uint64_t freed = prelux_partials_evict(s, bytes, prelux_store_wall() - PRELUX_PARTIAL_IDLE_NS);
  pthread_mutex_lock(&s->evict_lock);
  flush_uses(s);
  prelux_hold_sweep(s);
  /* The second pass reaches what the first put off because it had been read. */
  for (int pass = 0; pass < 2 && freed < bytes; pass++)
    freed += evict_pass(s, bytes - freed);
  pthread_mutex_unlock(&s->evict_lock);
  return freed < bytes ? freed + prelux_partials_evict(s, bytes - freed, INT64_MAX) : freed;
}

/* ---- room ---- */

static uint64_t over_quota(struct prelux_store *s, uint64_t bytes)
{
  pthread_mutex_lock(&s->lock);
  uint64_t sum = s->used + s->reserved + bytes;
  pthread_mutex_unlock(&s->lock);
  return sum > s->max_bytes ? sum - s->max_bytes : 0;
}

static uint64_t short_of_space(struct prelux_store *s, uint64_t bytes)
{
  struct statfs fs;
  if (prelux_os.fstatfs(s->dir_fd, &fs) < 0)
    return 0;
  uint64_t unit = (uint64_t)fs.f_bsize, have = (uint64_t)fs.f_bavail * unit, want = bytes + s->opts.min_free_bytes;
  return have < want ? want - have : 0;
}

static bool others_at_work(struct prelux_store *s)
{
  pthread_mutex_lock(&s->lock);
  bool ret = s->reserved > 0;
  pthread_mutex_unlock(&s->lock);
  return ret;
}

int prelux_room_take(struct prelux_store *s, uint64_t bytes, struct prelux_problem *why)
{
  static const struct timespec pause = {.tv_nsec = 20000000};
  uint64_t until = prelux_store_now() + PRELUX_ROOM_WAIT_NS;
  if (bytes > s->max_bytes)
    return prelux_problem(why, ENOSPC, "%llu bytes do not fit into the cache %s of %llu", (unsigned long long)bytes, s->dir,
                          (unsigned long long)s->max_bytes);
  for (;;)
  {
    uint64_t quota = over_quota(s, bytes), space = short_of_space(s, bytes), missing = quota > space ? quota : space;
    if (missing == 0)
      break;
    if (prelux_evict_bytes(s, missing) >= missing)
      continue;
    if (others_at_work(s) && prelux_store_now() < until)
    {
      nanosleep(&pause, NULL); /* what they fill can be evicted when they are done */
      continue;
    }
    if (over_quota(s, bytes) == 0 && short_of_space(s, bytes) == 0)
      break;
    prelux_problem(why, ENOSPC, "cache %s is full: %llu bytes more are needed, all else is in use%s", s->dir,
                   (unsigned long long)missing, prelux_pins_any(s) ? " or pinned" : "");
    if (why)
      snprintf(why->advice, sizeof why->advice, "raise cache.max_size, lower cache.min_free, %s",
               prelux_pins_any(s) ? "prelux unpin, or close files" : "or close files");
    return -ENOSPC;
  }
  pthread_mutex_lock(&s->lock);
  s->reserved += bytes;
  pthread_mutex_unlock(&s->lock);
  return 0;
}

void prelux_room_return(struct prelux_store *s, uint64_t bytes)
{
  pthread_mutex_lock(&s->lock);
  s->reserved -= bytes;
  pthread_mutex_unlock(&s->lock);
}

/* Writes the last uses noted in memory to the catalogue. */
static void flush_uses(struct prelux_store *s)
{
  pthread_mutex_lock(&s->lock);
  struct prelux_victim *rows = s->uses;
  int n = s->n_uses;
  s->uses = NULL;
  s->n_uses = 0;
  pthread_mutex_unlock(&s->lock);
  if (n)
    prelux_catalogue_touch(s->cat, rows, n, s->ghosts.apart_ns);
  for (int i = 0; i < n; i++)
    free(rows[i].path);
  free(rows);
}

void prelux_evict_tick(struct prelux_store *s)
{
  pthread_mutex_lock(&s->lock);
  uint64_t used = s->used + s->reserved;
  pthread_mutex_unlock(&s->lock);
  uint64_t space = short_of_space(s, 0);
  uint64_t low = (uint64_t)((double)s->max_bytes * s->opts.low), quota = 0;
  if ((double)used > (double)s->max_bytes * s->opts.high && used > low)
    quota = used - low;
  if (quota || space)
    prelux_evict_bytes(s, quota > space ? quota : space);
  else
    flush_uses(s);
}

/* ---- the command ---- */

/* A file in use stays, but its row is no knowledge any more: with a last use of 0 `immutable` does not go by it until an open
 * has compared it with the remote (fresh.c). */
static void distrust(struct prelux_tree *t, const char *object)
{
  struct prelux_victim row = {.tree = t->id, .path = (char *)object};
  prelux_catalogue_touch(t->store->cat, &row, 1, t->store->ghosts.apart_ns);
}

/* Uses noted before the command must not undo that when they are written (store.lock held). */
static void drop_uses(struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_store *s = t->store;
  int n = 0;
  for (int i = 0; i < s->n_uses; i++)
  {
    const char *path = s->uses[i].path;
    if (s->uses[i].tree == t->id && strncmp(path, object, len) == 0 && (len == 0 || path[len] == 0 || path[len] == '/'))
      free(s->uses[i].path);
    else
      s->uses[n++] = s->uses[i];
  }
  s->n_uses = n;
}

/* What is just being closed, or has just come whole, is free a moment later: who has read a file and evicts it wants it gone. */
static int evict_soon(struct prelux_tree *t, const char *object, bool spare, uint64_t until, uint64_t *ret_bytes)
{
  static const struct timespec pause = {.tv_nsec = 10000000};
  int rc;
  while ((rc = prelux_evict_one(t, object, spare, ret_bytes)) == -EBUSY && prelux_store_now() < until && !(spare && prelux_pinned(t->store, t->id, object)))
    nanosleep(&pause, NULL);
  return rc;
}

static void count_one(struct prelux_tree *t, const char *object, uint64_t until, uint64_t *files, uint64_t *bytes, uint64_t *busy)
{
  uint64_t n = 0;
  int rc = evict_soon(t, object, false, until, &n);
  if (rc == -EBUSY)
    distrust(t, object);
  *files += rc == 0;
  *bytes += n;
  *busy += rc == -EBUSY;
}

int prelux_store_evict(const struct prelux_view *v, const char *object, uint64_t *ret_files, uint64_t *ret_bytes,
                       uint64_t *ret_busy)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_victim rows[BATCH];
  uint64_t files = 0, bytes = 0, busy = 0, until = prelux_store_now() + PATIENCE_NS;
  char *after = NULL;
  size_t len = strlen(object);
  int n, rc = prelux_object_check(s, object, NULL);
  if (rc < 0)
    return rc;
  flush_uses(s);
  if (len)
    count_one(v->tree, object, until, &files, &bytes, &busy);
  while ((n = prelux_catalogue_below(s->cat, v->tree->id, object, after, rows, BATCH)) > 0)
    for (int i = 0; i < n; i++)
    {
      count_one(v->tree, rows[i].path, until, &files, &bytes, &busy);
      free(after);
      after = rows[i].path;
    }
  free(after);
  prelux_partials_drop(v->tree, object, &files, &bytes);
  pthread_mutex_lock(&s->lock);
  drop_uses(v->tree, object, len);
  prelux_entries_drop_below(v->tree, object, len);
  prelux_folders_drop_below(v->tree, object, len);
  prelux_memory_forget(v->tree, object, len);
  pthread_mutex_unlock(&s->lock);
  if (n < 0)
    return n;
  *ret_files = files;
  *ret_bytes = bytes;
  *ret_busy = busy;
  return 0;
}

int prelux_store_let_go(const struct prelux_view *v, const char *object)
{
  struct prelux_tree *t = v->tree;
  uint64_t bytes;
  flush_uses(t->store);
  int rc = evict_soon(t, object, true, prelux_store_now() + PATIENCE_NS, &bytes);
  if (rc == -EBUSY && !prelux_pinned(t->store, t->id, object))
    distrust(t, object);
  return rc;
}

/* Cached files of the version that the remote has still are good; that there is such a row is no reason to believe it. */
static int distrust_below(struct prelux_tree *t, const char *object)
{
  struct prelux_victim rows[BATCH];
  char *after = NULL;
  int n;
  if (*object)
    distrust(t, object);
  while ((n = prelux_catalogue_below(t->store->cat, t->id, object, after, rows, BATCH)) > 0)
    for (int i = 0; i < n; i++)
    {
      distrust(t, rows[i].path);
      free(after);
      after = rows[i].path;
    }
  free(after);
  return n;
}

int prelux_store_forget(const struct prelux_view *v, const char *object, uint32_t which, bool recursive)
{
  struct prelux_tree *t = v->tree;
  struct prelux_store *s = t->store;
  size_t len = strlen(object);
  int rc = prelux_object_check(s, object, NULL);
  if (rc < 0)
    return rc;
  flush_uses(s);
  rc = distrust_below(t, object);
  if (which)
    prelux_attrs_clear(t, object, which, recursive);
  pthread_mutex_lock(&s->lock);
  drop_uses(t, object, len);
  prelux_entries_drop_below(t, object, len);
  prelux_folders_drop_below(t, object, len);
  prelux_memory_forget(t, object, len);
  prelux_folders_touch(s); /* listings under way, of whatever lies below it, may be from before */
  pthread_mutex_unlock(&s->lock);
  return rc;
}

int prelux_store_info(const struct prelux_view *v, const char *object, struct prelux_object_info *ret)
{
  struct prelux_store *s = v->tree->store;
  struct prelux_known k = {0};
  struct prelux_row row;
  struct stat st;
  struct prelux_flight flight;
  int fd, rc = prelux_object_check(s, object, NULL);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&s->lock);
  int have = prelux_memory_get(v->tree, object, strlen(object), &k);
  pthread_mutex_unlock(&s->lock);
  *ret = (struct prelux_object_info){.state = PRELUX_STATE_ABSENT, .size = k.obj.size};
  snprintf(ret->version, sizeof ret->version, "%s", k.obj.version);
  if (have && k.obj.type == PRELUX_DIR)
    ret->state = PRELUX_STATE_DIRECTORY;
  else if (have && k.obj.type == PRELUX_NONE)
    ret->state = PRELUX_STATE_NEGATIVE;
  else if (!prelux_flight_try(&flight, v->tree, PRELUX_FLIGHT_FILL, object))
    ret->state = PRELUX_STATE_PARTIAL;
  else
  {
    if (prelux_catalogue_get(s->cat, v->tree->id, object, &row) == 0 &&
        prelux_disk_open(v->tree, object, O_RDONLY | O_NONBLOCK, &fd, &st) == 0)
    {
      if (prelux_row_matches(s, &row, &st) && (!have || prelux_object_same(&row.obj, &k.obj)))
      {
        ret->state = PRELUX_STATE_CACHED;
        ret->size = row.obj.size;
        snprintf(ret->version, sizeof ret->version, "%s", row.obj.version);
      }
      prelux_os.close(fd);
    }
    if (ret->state == PRELUX_STATE_ABSENT && prelux_partial_there(v->tree, object))
      ret->state = PRELUX_STATE_PARTIAL;
    prelux_flight_end(s, &flight, 0, NULL);
  }
  return 0;
}
