/* Power cuts: what is safe from them, and what one has left.
 *
 * A disk that has lost its power has of each file what was synced, and any part of the rest: a row without its bytes, a file of the right size
 * that is full of zeros, a name without a row. So after another boot
 *
 *   READY, SAFE                              its bytes were synced before the row was, or the daemon ended in order: sent
 *   READY, unchanged since the last syncfs   (every 30 s while there is something): sent
 *   READY, else                              kept as RECOVERED: nobody knows whether these are the bytes that were written
 *   WRITING, as it was when it was opened    nothing was written: the remote has it, row and file go
 *   WRITING, else                            kept as RECOVERED: its writer was cut off in the middle
 *
 * The journal keeps the boot that it is of and the time of the last syncfs, for the catalogue may be lost. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/stage.h"

#define TICK_MAX_NS 20000000ll /* of the clock that file systems use: HZ is 100 at least, and something for chance */
#define SLACK_NS 1000000000ll

/* ---- stamps ---- */

static bool same_time(struct timespec a, struct timespec b)
{
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* A file system that knows whole seconds only says nothing. */
bool prelux_stage_same(const struct stat *a, const struct stat *b)
{
  return a->st_ctim.tv_nsec && a->st_size == b->st_size && same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

/* What is written now may get this stamp, by the clock that it is taken from. */
static bool current(struct timespec stamp)
{
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  int64_t left = (stamp.tv_sec - now.tv_sec) * 1000000000ll + stamp.tv_nsec - now.tv_nsec;
  return left >= 0 && left <= TICK_MAX_NS;
}

void prelux_stage_tick(const struct stat *st)
{
  const struct timespec step = {.tv_nsec = 500000};
  for (int64_t waited = 0; waited < TICK_MAX_NS && current(st->st_ctim) && current(st->st_mtim); waited += step.tv_nsec)
    nanosleep(&step, NULL);
}

/* ---- fsync ---- */

/* The file's bytes, and what they looked like just before. */
static int sync_file(struct prelux_stage *g, uint64_t ino, struct stat *ret)
{
  int fd = prelux_stage_reopen(g, ino, O_RDONLY), rc = fd < 0 ? fd : 0;
  if (rc == 0 && prelux_os.fstat(fd, ret) < 0)
    rc = -errno;
  if (rc == 0)
  {
    prelux_stage_tick(ret); /* what is written from here on, or was meanwhile, has other stamps */
    rc = prelux_sync(fd, false);
  }
  if (fd >= 0)
    prelux_os.close(fd);
  return rc;
}

/* The mark of the file's row; false: there is none. */
static bool mark_of(struct prelux_stage *g, uint64_t ino, const struct stat *synced, uint64_t *ret)
{
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (d)
    *ret = d->row.mark;
  if (d && synced)
    d->synced = *synced;
  pthread_mutex_unlock(&g->lock);
  return d != NULL;
}

int prelux_stage_sync(struct prelux_stage *g, uint64_t ino, struct prelux_problem *why)
{
  struct stat st;
  uint64_t mark = UINT64_MAX;
  int rc = 0;
  if (ino && !mark_of(g, ino, NULL, &mark))
    return 0; /* the remote has it, or nobody wants it any more */
  if (ino)
    rc = sync_file(g, ino, &st);
  if (rc == -ENOENT)
    return 0;
  if (rc == 0 && (!ino || mark_of(g, ino, &st, &mark)))
    rc = prelux_stage_durable(g, ino, mark);
  if (rc == 0 && !ino)
    prelux_catalogue_durable(g->store->cat);
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
}

void prelux_stage_synced(struct prelux_stage *g, int64_t at_ns)
{
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, at_ns);
  if (prelux_journal_set_meta(g->journal, "safe_at", text) < 0)
    prelux_warn("journal of %s cannot be written", g->store->dir); /* after a cut a person is asked, no more */
}

static int note_safe(void *arg, const struct prelux_pending *row)
{
  struct prelux_pending next = *row;
  next.flags |= PRELUX_PENDING_SAFE;
  bool due = row->state == PRELUX_PENDING_READY && !(row->flags & PRELUX_PENDING_SAFE);
  return due ? prelux_stage_journal(arg, PRELUX_EDIT_SET, &next) : 0;
}

void prelux_stage_all_safe(struct prelux_stage *g)
{
  if (g->store->scratch_fd >= 0 && prelux_os.syncfs(g->store->scratch_fd) < 0)
    prelux_warn("staging folder %s: syncfs: %s", g->store->scratch, strerror(errno));
  else if (prelux_journal_each(g->journal, note_safe, g) < 0)
    prelux_warn("journal of %s cannot be written", g->store->dir);
}

/* ---- after a cut ---- */

struct judging
{
  struct prelux_stage *g;
  int64_t safe_at;
};

static int keep(struct prelux_stage *g, const struct prelux_pending *row)
{
  static char cause[] = "the machine went down before this was safe: its bytes may not be those that were written";
  struct prelux_pending next = *row;
  next.flags |= row->state == PRELUX_PENDING_READY ? PRELUX_PENDING_UNSURE : 0;
  next.state = PRELUX_PENDING_RECOVERED;
  next.cause = cause;
  return prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
}

static int forget(struct prelux_stage *g, const struct prelux_pending *row)
{
  struct prelux_pending gone = {.id = row->id};
  char name[24];
  int rc = prelux_stage_journal(g, PRELUX_EDIT_DROP, &gone);
  int folder = prelux_stage_name(g, row->ino, name);
  if (rc == 0)
    prelux_os.unlinkat(folder, name, 0); /* else it goes to recovered/, in a moment */
  return rc;
}

/* As the row says, which was written when the file was quiet, or with the file's stamps of the remote's object. */
static bool as_noted(const struct prelux_pending *row, const struct stat *st)
{
  return (uint64_t)st->st_size == row->size && prelux_stat_mtime(st) == row->mtime_ns;
}

static int judge(void *arg, const struct prelux_pending *row)
{
  const struct judging *j = arg;
  char name[24];
  struct stat st;
  int folder = prelux_stage_name(j->g, row->ino, name);
  if (row->intent != PRELUX_INTENT_PUT || !row->path)
    return 0;
  if (prelux_os.fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno == ENOENT ? 0 : -errno;
  if (st.st_ino != PRELUX_INO(row->ino))
    return 0;
  int64_t changed = st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec;
  bool synced = changed < j->safe_at - SLACK_NS && !(row->ino & PRELUX_INO_SCRATCH); /* syncfs is of the cache's file system */
  if (row->state == PRELUX_PENDING_READY)
    return (row->flags & PRELUX_PENDING_SAFE) || (synced && as_noted(row, &st)) ? 0 : keep(j->g, row);
  if (row->state != PRELUX_PENDING_WRITING)
    return 0;
  /* A file that was closed once and then opened again has its own stamps in the row, not the remote's. */
  bool opened_only = row->base[0] && !(row->flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_MTIME)) && as_noted(row, &st);
  return opened_only ? forget(j->g, row) : keep(j->g, row);
}

int prelux_stage_reboot(struct prelux_stage *g)
{
  char now[40] = "", then[40] = "", safe_at[32] = "";
  struct judging j = {.g = g};
  int rc = prelux_lock_boot(now);
  if (rc == 0)
    rc = prelux_journal_meta(g->journal, "boot", then, sizeof then);
  if (rc == 0)
    rc = prelux_journal_meta(g->journal, "safe_at", safe_at, sizeof safe_at);
  j.safe_at = strtoll(safe_at, NULL, 10);
  if (rc == 0 && then[0] && strcmp(now, then) != 0)
    rc = prelux_journal_each(g->journal, judge, &j);
  return rc == 0 && strcmp(now, then) != 0 ? prelux_journal_set_meta(g->journal, "boot", now) : rc;
}
