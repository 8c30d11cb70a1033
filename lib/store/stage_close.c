/* What the last close means. See stage.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/io.h"
#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/deferred.h"

bool prelux_stage_untouched(const struct prelux_dirty *d, const struct stat *st)
{
  return d->clean.ino && !(d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_NEW)) && prelux_stage_same(st, &d->taken);
}

int prelux_stage_last_gone(int fd)
{
  prelux_os.fcntl(fd, F_SETSIG, SIGURG); /* does nothing by default */
  if (prelux_os.fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
    return 0;
  return errno == EAGAIN || errno == EACCES || errno == EBUSY ? -EAGAIN : -errno;
}

/* The rules, or a program that called fsync and has written nothing since, want the bytes to survive a power cut. */
static bool to_be_safe(struct prelux_stage *g, const struct prelux_dirty *d, const struct stat *st)
{
  pthread_mutex_lock(&g->lock);
  bool synced = d->synced.st_ino && prelux_stage_same(st, &d->synced);
  pthread_mutex_unlock(&g->lock);
  return synced || (d->rules.async && d->rules.power);
}

static int make_ready(struct prelux_stage *g, struct prelux_dirty *d, int fd, const struct stat *st)
{
  struct prelux_pending next = d->row;
  bool safe = to_be_safe(g, d, st);
  next.state = PRELUX_PENDING_READY;
  next.size = (uint64_t)st->st_size;
  next.mtime_ns = prelux_stat_mtime(st);
  next.flags &= ~(uint32_t)PRELUX_PENDING_DROP;
  next.flags |= PRELUX_PENDING_MTIME | PRELUX_PENDING_TOLD | (safe ? PRELUX_PENDING_SAFE : 0) | (d->rules.drop ? PRELUX_PENDING_DROP : 0);
  next.tries = 0;
  next.next_ns = d->rules.async ? prelux_stage_rests(g, d) : 0;
  int rc = safe ? prelux_sync(fd, false) : 0;
  if (rc == 0)
    rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
  if (rc < 0)
    return rc;
  prelux_dirty_becomes(g, d, &next);
  pthread_mutex_lock(&g->store->lock);
  g->store->unsynced = true; /* the next epoch's syncfs makes it safe at last */
  pthread_mutex_unlock(&g->store->lock);
  return 0;
}

/* d, the caller's, is READY, and if it is not SAFE it is now. */
static int make_safe(struct prelux_stage *g, struct prelux_dirty *d)
{
  if (!(d->row.flags & PRELUX_PENDING_SAFE))
  {
    struct prelux_pending next = d->row;
    next.flags |= PRELUX_PENDING_SAFE;
    int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY), rc = fd < 0 ? fd : prelux_sync(fd, false);
    if (fd >= 0)
      prelux_os.close(fd);
    if (rc == 0)
      rc = prelux_stage_journal(g, PRELUX_EDIT_SET, &next);
    if (rc < 0)
      return rc;
    prelux_dirty_becomes(g, d, &next);
  }
  return prelux_stage_durable(g, d->row.ino, d->row.mark);
}

int prelux_stage_enqueue(struct prelux_stage *g, struct prelux_dirty *d)
{
  pthread_mutex_lock(&g->lock);
  int rc = d->queued ? 0 : prelux_order_add(g->order, d->row.id, d->row.path, NULL);
  d->queued = rc == 0 || d->queued;
  pthread_mutex_unlock(&g->lock);
  return rc;
}

int prelux_stage_send_now(struct prelux_stage *g, struct prelux_dirty *d, bool *ret_gone, struct prelux_problem *why)
{
  int rc = prelux_deferred_drain(d->tree, d->row.path, NULL, why);
  if (rc == 0)
    rc = prelux_stage_send(g, d, why);
  *ret_gone = rc >= 0;
  if (rc == PRELUX_KEPT) /* the writer is told, though nothing is lost */
    return -ESTALE;
  if (rc < 0 && d->row.state == PRELUX_PENDING_READY)
    prelux_stage_enqueue(g, d); /* tried on in the background */
  return rc;
}

struct closing
{
  bool told;  /* by who closed it; else its writers have gone without a word */
  bool async; /* nobody waits for the remote */
  bool waited;
  struct prelux_writer *wait; /* !told: first for him */
};

/* d is the caller's, fd a readable descriptor under the lease. */
static int settle(struct prelux_stage *g, struct prelux_dirty *d, int fd, struct closing *c, bool *ret_gone, struct prelux_problem *why)
{
  struct stat st;
  if (prelux_os.fstat(fd, &st) < 0)
    return prelux_problem(why, errno, "staging file of %.200s: %s", prelux_dirty_name(d), strerror(errno));
  if (!d->row.path) /* O_TMPFILE: nobody can give it a name any more */
  {
    int rc = prelux_stage_discard(g, d);
    *ret_gone = rc == 0;
    return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
  }
  if (prelux_stage_untouched(d, &st))
  {
    struct prelux_object same = d->clean.obj;
    int rc = prelux_stage_install(g, d, &same, why);
    *ret_gone = rc == 0;
    return rc;
  }
  int rc = prelux_fsync_settle(g, d, fd, &st, why);
  *ret_gone = rc == 0;
  if (rc <= 0)
    return rc;
  rc = c->told ? 0 : prelux_crash_judge(g, d, &st, c->waited, &c->wait, why);
  if (rc != 0)
    return rc;
  rc = make_ready(g, d, fd, &st);
  if (rc == 0 && !c->async)
    return prelux_stage_send_now(g, d, ret_gone, why);
  if (rc == 0)
    rc = prelux_stage_enqueue(g, d); /* first: whatever the medium says, it is to be sent */
  if (rc == 0)
    prelux_stage_closed_just_now(g, &d->rules);
  if (rc == 0 && (d->row.flags & PRELUX_PENDING_SAFE))
    rc = make_safe(g, d);
  return rc < 0 ? prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc)) : 0;
}

/* d is the caller's, and WRITING. */
static int probe(struct prelux_stage *g, struct prelux_dirty *d, struct closing *c, bool *ret_gone, struct prelux_problem *why)
{
  int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY | O_NONBLOCK), rc = fd < 0 ? fd : prelux_stage_last_gone(fd);
  if (rc == 0)
    rc = settle(g, d, fd, c, ret_gone, why);
  else if (rc != -EAGAIN)
    prelux_problem(why, -rc, "staging file of %.200s: %s", prelux_dirty_name(d), strerror(-rc));
  if (fd >= 0)
    prelux_os.close(fd); /* and with it the lease */
  return rc;
}

/* An `async` file that the kernel told of first, and that is being sent already: what its close promises holds, and it does not wait for the remote. */
static bool promised(struct prelux_stage *g, uint64_t ino, const struct prelux_write_rules *rules, uint64_t *ret_mark)
{
  pthread_mutex_lock(&g->lock);
  const struct prelux_dirty *d = rules && rules->async ? prelux_dirty_by_ino(g, ino) : NULL;
  bool is = d && d->busy && !d->settling && d->row.state == PRELUX_PENDING_READY && (!rules->power || (d->row.flags & PRELUX_PENDING_SAFE));
  if (is)
    *ret_mark = d->row.mark;
  pthread_mutex_unlock(&g->lock);
  return is;
}

int prelux_stage_closed(struct prelux_stage *g, uint64_t ino, const struct prelux_write_rules *rules, struct prelux_problem *why)
{
  uint64_t mark;
  if (promised(g, ino, rules, &mark))
  {
    int safe = rules->power ? prelux_stage_durable(g, ino, mark) : 0;
    return safe < 0 ? prelux_problem(why, -safe, "journal of %s: %s", g->store->dir, strerror(-safe)) : 0;
  }
  struct prelux_dirty *d = prelux_dirty_take_ino(g, ino);
  bool gone = false;
  int rc = 0;
  if (!d) /* sent already, or nothing was written */
    return prelux_loser_told(g, ino, why) && rules && !rules->async ? -ESTALE : 0;
  if (!rules && prelux_once_awaited(g, d))
  {
    prelux_dirty_give(g, d);
    return -EAGAIN;
  }
  if (rules) /* who was it that opened it a daemon before may not know */
  {
    pthread_mutex_lock(&g->lock);
    d->rules = *rules;
    pthread_mutex_unlock(&g->lock);
  }
  if (d->row.state == PRELUX_PENDING_WRITING)
    rc = probe(g, d, &(struct closing){.told = true, .async = d->rules.async}, &gone, why);
  else if (d->row.state == PRELUX_PENDING_READY && !d->rules.async) /* prelux_stage_poll was faster */
    rc = prelux_stage_send_now(g, d, &gone, why);
  else if (d->row.state == PRELUX_PENDING_READY && d->rules.power) /* and knew nothing of that */
  {
    rc = make_safe(g, d);
    if (rc < 0)
      prelux_problem(why, -rc, "journal of %s: %s", g->store->dir, strerror(-rc));
  }
  else if (d->row.state == PRELUX_PENDING_REFUSED)
    rc = prelux_problem(why, d->row.err, "%s", d->row.cause ? d->row.cause : "refused");
  else if (d->row.state == PRELUX_PENDING_RECOVERED) /* who was killed had it longer */
    rc = prelux_problem(why, EIO, "%s", d->row.cause ? d->row.cause : "its writer was killed");
  if (rc == -EAGAIN && d->rules.wait) /* he may ask again: then his is the last close */
  {
    pthread_mutex_lock(&g->lock);
    d->held_ns = prelux_store_now() + PRELUX_HELD_NS;
    pthread_mutex_unlock(&g->lock);
  }
  if (!gone)
    prelux_dirty_give(g, d);
  else if (rc == -ESTALE)
    prelux_loser_told(g, ino, NULL);
  return rc;
}

/* ---- closes that nobody tells ---- */

/* As if the last writer had told of his close, unless he was killed; nobody waits for the remote, nor for who works on the file: he finds out
 * himself, or the next poll does. */
static int settle_once(struct prelux_stage *g, uint64_t ino, struct closing *c)
{
  struct prelux_problem why = {0};
  bool gone = false;
  pthread_mutex_lock(&g->lock);
  struct prelux_dirty *d = prelux_dirty_by_ino(g, ino);
  if (d && (d->busy || d->closing || d->held_ns > prelux_store_now() || d->row.state != PRELUX_PENDING_WRITING))
    d = NULL;
  if (d)
    d->busy = d->settling = true;
  pthread_mutex_unlock(&g->lock);
  if (!d)
    return 0;
  struct prelux_writer *dead[PRELUX_FILE_WRITERS];
  unsigned n = prelux_crash_dead(g, d, dead);
  int rc = prelux_once_awaited(g, d) ? -EAGAIN : probe(g, d, c, &gone, &why);
  prelux_crash_outlived(g, gone ? NULL : d, dead, n, rc == -EAGAIN);
  if (rc != 0 && rc != -EAGAIN && rc != -EINPROGRESS)
    prelux_warn("%s", why.text);
  if (!gone)
    prelux_dirty_give(g, d);
  return rc;
}

static void settle_quietly(struct prelux_stage *g, uint64_t ino)
{
  struct closing c = {.async = true};
  if (settle_once(g, ino, &c) != -EINPROGRESS || !c.wait)
    return;
  prelux_crash_wait(g, c.wait);
  c = (struct closing){.async = true, .waited = true};
  settle_once(g, ino, &c);
}

void prelux_stage_left(struct prelux_stage *g, uint64_t ino)
{
  settle_quietly(g, ino);
}

bool prelux_stage_settle_before(struct prelux_stage *g, struct prelux_dirty *d)
{
  struct prelux_problem why = {0};
  bool gone = false;
  if (d->row.state != PRELUX_PENDING_WRITING || !prelux_left_by_writer(g, d))
    return false;
  int rc = probe(g, d, &(struct closing){.async = true}, &gone, &why);
  if (rc < 0 && rc != -EAGAIN && rc != -EINPROGRESS)
    prelux_warn("%s", why.text);
  return gone;
}

/* The inodes that somebody may be writing to; malloc'd. */
static uint64_t *being_written(struct prelux_stage *g, size_t *ret_n)
{
  size_t n = 0;
  pthread_mutex_lock(&g->lock);
  uint64_t *list = g->count ? malloc(g->count * sizeof *list) : NULL;
  for (size_t i = 0; i < g->slots && list; i++)
    for (const struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      if (d->row.state == PRELUX_PENDING_WRITING && !d->busy)
        list[n++] = d->row.ino;
  pthread_mutex_unlock(&g->lock);
  *ret_n = n;
  return list;
}

/* What is to be sent and stands in no queue, for want of memory when it became so. */
static void queue_forgotten(struct prelux_stage *g)
{
  pthread_mutex_lock(&g->lock);
  for (size_t i = 0; i < g->slots && g->count; i++)
    for (struct prelux_dirty *d = g->by_ino[i]; d; d = d->by_ino)
      if (d->row.state == PRELUX_PENDING_READY && !d->queued && !d->busy)
        d->queued = prelux_order_add(g->order, d->row.id, d->row.path, NULL) == 0;
  pthread_mutex_unlock(&g->lock);
}

void prelux_stage_poll(struct prelux_stage *g)
{
  size_t n;
  prelux_journal_forget_again(g->journal);
  queue_forgotten(g);
  prelux_left_settle(g);
  uint64_t *list = being_written(g, &n);
  for (size_t i = 0; i < n; i++)
    settle_quietly(g, list[i]);
  free(list);
}
