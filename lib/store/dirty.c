/* The tables of files that are being written or wait to be sent: by inode and by path. stage.lock held throughout. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/store/stage.h"

static size_t path_slot(const struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len)
{
  return prelux_store_hash(object, len, (uint64_t)t->id) & (g->slots - 1);
}

static size_t ino_slot(const struct prelux_stage *g, uint64_t ino)
{
  return prelux_store_hash(&ino, sizeof ino, 0) & (g->slots - 1);
}

struct prelux_dirty *prelux_dirty_by_ino(struct prelux_stage *g, uint64_t ino)
{
  struct prelux_dirty *d = g->by_ino[ino_slot(g, ino)];
  while (d && d->row.ino != ino)
    d = d->by_ino;
  return d;
}

static size_t id_slot(const struct prelux_stage *g, int64_t id)
{
  return (size_t)id & (g->slots - 1);
}

struct prelux_dirty *prelux_dirty_by_id(struct prelux_stage *g, int64_t id)
{
  struct prelux_dirty *d = g->by_id[id_slot(g, id)];
  while (d && d->row.id != id)
    d = d->by_id;
  return d;
}

struct prelux_dirty *prelux_dirty_find(struct prelux_stage *g, const struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_dirty *d = g->by_path[path_slot(g, t, object, len)];
  while (d && (d->tree != t || strncmp(d->row.path, object, len) != 0 || d->row.path[len]))
    d = d->by_path;
  return d;
}

struct prelux_dirty *prelux_dirty_by_path(struct prelux_stage *g, const struct prelux_tree *t, const char *object)
{
  return prelux_dirty_find(g, t, object, strlen(object));
}

bool prelux_stage_has(const struct prelux_tree *t, const char *object, size_t len)
{
  struct prelux_stage *g = t->store->stage;
  if (!g || g->count == 0)
    return false;
  pthread_mutex_lock(&g->lock);
  bool there = prelux_dirty_find(g, t, object, len) != NULL;
  pthread_mutex_unlock(&g->lock);
  return there;
}

/* Files that are open count as they were when they were opened or sent last. */
static void count_bytes(struct prelux_stage *g, struct prelux_dirty *d, bool there)
{
  uint64_t bytes = there && d->row.state != PRELUX_PENDING_WRITING ? d->row.size : 0;
  g->waiting = g->waiting - d->counted + bytes;
  d->counted = bytes;
}

void prelux_dirty_put(struct prelux_stage *g, struct prelux_dirty *d)
{
  size_t slot = ino_slot(g, d->row.ino);
  prelux_loser_forget(g, d->row.ino); /* another file has the number now */
  d->by_ino = g->by_ino[slot];
  g->by_ino[slot] = d;
  slot = id_slot(g, d->row.id);
  d->by_id = g->by_id[slot];
  g->by_id[slot] = d;
  if (d->row.path && (d->row.state == PRELUX_PENDING_WRITING || d->row.state == PRELUX_PENDING_READY))
    prelux_dirty_unhide(g, d);
  g->count++;
  count_bytes(g, d, true);
}

void prelux_dirty_unhide(struct prelux_stage *g, struct prelux_dirty *d)
{
  size_t slot = d->row.path ? path_slot(g, d->tree, d->row.path, strlen(d->row.path)) : 0;
  if (!d->row.path)
    return;
  d->by_path = g->by_path[slot];
  g->by_path[slot] = d;
}

const char *prelux_dirty_name(const struct prelux_dirty *d)
{
  return d->row.path ? d->row.path : "a file without a name";
}

static void dirty_free(struct prelux_dirty *d)
{
  prelux_pending_release(&d->row);
  prelux_fsync_free(d->fsynced);
  free(d);
}

void prelux_dirty_hide(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_dirty **at = d->row.path ? &g->by_path[path_slot(g, d->tree, d->row.path, strlen(d->row.path))] : NULL;
  while (at && *at && *at != d)
    at = &(*at)->by_path;
  if (at && *at)
    *at = d->by_path;
}

static void leave_numbers(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_dirty **at = &g->by_id[id_slot(g, d->row.id)];
  while (*at && *at != d)
    at = &(*at)->by_id;
  if (*at)
    *at = d->by_id;
}

void prelux_dirty_renumber(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_pending *next)
{
  leave_numbers(g, d);
  d->row = *next;
  d->by_id = g->by_id[id_slot(g, d->row.id)];
  g->by_id[id_slot(g, d->row.id)] = d;
}

void prelux_dirty_remove(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_dirty **at = &g->by_ino[ino_slot(g, d->row.ino)];
  while (*at && *at != d)
    at = &(*at)->by_ino;
  if (*at)
    *at = d->by_ino;
  leave_numbers(g, d);
  prelux_dirty_hide(g, d);
  prelux_grow_lose(g, d);
  prelux_crash_forget(g, d);
  g->count--;
  count_bytes(g, d, false);
  d->dead = true;
  d->busy = d->settling = false;
  pthread_cond_broadcast(&g->changed);
  if (d->waiters == 0)
    dirty_free(d);
}

bool prelux_dirty_grab(struct prelux_stage *g, struct prelux_dirty *d)
{
  d->waiters++;
  while (d->busy && !d->dead)
    pthread_cond_wait(&g->changed, &g->lock);
  d->waiters--;
  if (d->dead)
  {
    if (d->waiters == 0)
      dirty_free(d);
    return false;
  }
  d->busy = true;
  return true;
}

struct prelux_dirty *prelux_dirty_take(struct prelux_stage *g, const struct prelux_tree *t, const char *object)
{
  struct prelux_dirty *d;
  pthread_mutex_lock(&g->lock);
  while ((d = prelux_dirty_by_path(g, t, object)))
  {
    if (!prelux_dirty_grab(g, d))
      continue;
    if (prelux_dirty_by_path(g, t, object) == d)
      break;
    prelux_dirty_release(g, d); /* renamed or refused while we waited */
  }
  pthread_mutex_unlock(&g->lock);
  return d;
}

struct prelux_dirty *prelux_dirty_take_ino(struct prelux_stage *g, uint64_t ino)
{
  struct prelux_dirty *d;
  pthread_mutex_lock(&g->lock);
  while ((d = prelux_dirty_by_ino(g, ino)) && !prelux_dirty_grab(g, d))
    ;
  pthread_mutex_unlock(&g->lock);
  return d;
}

struct prelux_dirty *prelux_dirty_take_id(struct prelux_stage *g, int64_t id)
{
  struct prelux_dirty *d;
  pthread_mutex_lock(&g->lock);
  while ((d = prelux_dirty_by_id(g, id)) && !prelux_dirty_grab(g, d))
    ;
  pthread_mutex_unlock(&g->lock);
  return d;
}

void prelux_dirty_give(struct prelux_stage *g, struct prelux_dirty *d)
{
  pthread_mutex_lock(&g->lock);
  prelux_dirty_release(g, d);
  pthread_mutex_unlock(&g->lock);
}

void prelux_dirty_becomes(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_pending *next)
{
  pthread_mutex_lock(&g->lock);
  d->row = *next;
  if (next->state != PRELUX_PENDING_WRITING)
    prelux_crash_forget(g, d);
  if (!d->dead)
    count_bytes(g, d, true);
  pthread_mutex_unlock(&g->lock);
}

void prelux_dirty_release(struct prelux_stage *g, struct prelux_dirty *d)
{
  d->busy = d->settling = false;
  pthread_cond_broadcast(&g->changed);
}

int prelux_stage_name(const struct prelux_stage *g, uint64_t ino, char ret[24])
{
  snprintf(ret, 24, "%" PRIu64, PRELUX_INO(ino));
  return ino & PRELUX_INO_SCRATCH ? g->store->scratch_fd : g->fd;
}
