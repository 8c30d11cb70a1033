/* Sending staging files to the remote, and giving them their name in the tree afterwards.
 *
 * What is sent is one state of the file: nobody can write while it is sent (`busy`, and a read lease). The condition of the put makes sure
 * that nobody's change is lost: the remote must still be what the writer began from. A put whose answer is lost, and one refused because
 * the remote has another version when an earlier one may have arrived, end in a look at the remote: bytes equal to ours are ours. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/os.h"
#include "lib/store/attrs.h"
#include "lib/store/deferred.h"
#include "lib/store/owner.h"

/* ---- one put ---- */

static void condition(const struct prelux_dirty *d, const struct prelux_able *able, struct prelux_condition *ret)
{
  *ret = (struct prelux_condition){.must = PRELUX_MUST_NOTHING};
  if (d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_FORCE))
    return;
  if (d->row.flags & PRELUX_PENDING_NEW)
    ret->must = able->caps & PRELUX_CAP_PUT_ABSENT ? PRELUX_MUST_BE_ABSENT : PRELUX_MUST_NOTHING;
  else if (d->row.base[0] && (able->caps & PRELUX_CAP_PUT_VERSION))
  {
    ret->must = PRELUX_MUST_BE_VERSION;
    memcpy(ret->version, d->row.base, sizeof ret->version);
  }
}

/* A remote without conditions is looked at before: what changes between this look and the put is lost, as SEMANTICS says. */
static int look_first(const struct prelux_dirty *d, const struct prelux_condition *cond, struct prelux_problem *why)
{
  struct prelux_object now = {0};
  bool guarded = !(d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_FORCE));
  if (cond->must != PRELUX_MUST_NOTHING || !guarded)
    return 0;
  int rc = d->tree->backend->ops->stat(d->tree->backend, d->row.path, &now, why);
  if (rc < 0 && rc != -ENOENT)
    return rc;
  bool there = rc == 0;
  if (d->row.flags & PRELUX_PENDING_NEW)
    return there ? prelux_problem(why, EEXIST, "%.200s: made by somebody else meanwhile", d->row.path) : 0;
  if (!there || (d->row.base[0] && strcmp(now.version, d->row.base) != 0))
    return prelux_problem(why, ESTALE, "%.200s: changed on the remote meanwhile", d->row.path);
  return 0;
}

static int count_sent(void *arg, uint64_t done)
{
  atomic_store(&((struct prelux_dirty *)arg)->sent, done);
  return 0;
}

/* Whom a program gave it to, where that is another than who would be shown anyway. A number without a name stays this node's. */
static void owner_of(const struct prelux_dirty *d, struct prelux_owner_names *names, struct prelux_set *set)
{
  struct prelux_setattr own = prelux_attrs_owner(d->tree, d->row.path);
  if (own.uid == (uint32_t)geteuid())
    own.which &= ~(uint32_t)PRELUX_SETATTR_UID;
  if (own.gid == (uint32_t)getegid())
    own.which &= ~(uint32_t)PRELUX_SETATTR_GID;
  prelux_owner_name(&own, names, set, NULL);
}

static int put_once(struct prelux_stage *g, struct prelux_dirty *d, int fd, struct prelux_object *ret, struct prelux_problem *why)
{
  struct prelux_backend *b = d->tree->backend;
  const struct prelux_backend_write *w = b->ops->write;
  struct prelux_able able = {0};
  struct prelux_put how = {0};
  struct prelux_owner_names names;
  int rc = w && w->able ? w->able(b, &able, why) : -EROFS;
  if (rc == 0 && !(able.caps & PRELUX_CAP_WRITE))
    rc = prelux_problem(why, EROFS, "%.200s: the remote is read-only", d->row.path);
  if (rc < 0)
    return rc;
  condition(d, &able, &how.cond);
  rc = look_first(d, &how.cond, why);
  if (rc < 0)
    return rc;
  if (d->row.flags & PRELUX_PENDING_MODE)
    how.set.which |= PRELUX_SET_MODE;
  if (d->row.flags & PRELUX_PENDING_MTIME)
    how.set.which |= PRELUX_SET_MTIME;
  if (able.caps & PRELUX_CAP_KEEP_OWNER)
    owner_of(d, &names, &how.set);
  how.set.mode = d->row.mode;
  how.progress = count_sent;
  how.arg = d;
  how.set.mtime_ns = d->row.mtime_ns;
  return prelux_stage_upload(g, d, d->row.path, fd, &able, &how, ret, why);
}

/* A remote that does not answer gets no second put. So a file that is written on and on while it is away has been sent in one state, not in a new
 * one at each try. */
int prelux_stage_settle_first(struct prelux_stage *g, struct prelux_dirty *d, int fd, struct prelux_object *ret, struct prelux_problem *why)
{
  if (!prelux_dirty_unsure(d) || d->row.flags & (PRELUX_PENDING_OVER | PRELUX_PENDING_FORCE))
    return 0;
  int whose = prelux_stage_whose(d, fd, d->row.flags & PRELUX_PENDING_UNSURE, ret, why);
  if (whose == PRELUX_FORMER && strcmp(ret->version, d->row.base) != 0)
    return prelux_stage_begin_from(g, d, ret->version, false);
  if (whose >= 0)
    return whose == PRELUX_OURS;
  return prelux_stage_final(whose) ? 0 : whose; /* who may not look may send */
}

int prelux_stage_put(struct prelux_stage *g, struct prelux_dirty *d, int fd, bool unsure, struct prelux_object *ret, bool *ret_lost,
                     struct prelux_problem *why)
{
  for (int round = 0;; round++)
  {
    struct prelux_problem more = {0};
    int rc = put_once(g, d, fd, ret, why);
    bool lost = rc == -PRELUX_EUNKNOWN, refused = rc == -ESTALE || rc == -EEXIST;
    /* A condition that fails at the first try is somebody else's change, were it the same bytes: two nodes that make one lock file. */
    if (!lost && !(refused && unsure))
      return rc;
    *ret_lost |= lost;
    int whose = prelux_stage_whose(d, fd, lost || (d->row.flags & PRELUX_PENDING_UNSURE), ret, &more);
    if (whose == PRELUX_OURS)
      return 0;
    if (whose == PRELUX_FORMER && refused && round == 0 && prelux_stage_begin_from(g, d, ret->version, false) == 0)
      continue;
    if (refused)
      return whose < 0 && whose != -ESTALE ? prelux_problem(why, EIO, "%s; then: %s", why ? why->text : "refused", more.text) : rc;
    return prelux_problem(why, EIO, "%.200s: the answer to a put was lost, and the remote does not have it%s%s", d->row.path,
                          whose < 0 ? ", as far as it tells: " : "", whose < 0 ? more.text : "");
  }
}

static int put(struct prelux_stage *g, struct prelux_dirty *d, int fd, struct prelux_object *ret, bool *ret_lost, struct prelux_problem *why)
{
  int rc = prelux_stage_settle_first(g, d, fd, ret, why);
  if (rc != 0)
    return rc < 0 ? rc : 0;
  return prelux_stage_put(g, d, fd, prelux_dirty_unsure(d), ret, ret_lost, why);
}

/* ---- the name in the tree ---- */

static int rename_in(struct prelux_stage *g, struct prelux_dirty *d, int dir, const char *base)
{
  char name[24], held[32];
  int folder = prelux_stage_name(g, d->row.ino, name);
  prelux_hold(g->store, dir, base, held);
  if (prelux_os.renameat(folder, name, dir, base) == 0)
    return 0;
  int rc = -errno;
  prelux_hold_undo(g->store, held);
  if (rc != -EISDIR && rc != -ENOTEMPTY && rc != -EEXIST)
    return rc;
  rc = prelux_adopt_aside(d->tree, dir, base, d->row.path);
  return rc == 0 && prelux_os.renameat(folder, name, dir, base) < 0 ? -errno : rc;
}

static int fill_row(struct prelux_stage *g, const struct prelux_dirty *d, const struct prelux_object *obj, struct prelux_row *ret)
{
  struct stat st;
  int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY);
  int rc = fd < 0 ? fd : prelux_os.fstat(fd, &st) < 0 ? -errno : 0;
  if (rc == 0 && prelux_os.fchmod(fd, g->store->read_bits | ((st.st_mode | d->row.mode) & 0111 ? g->store->exec_bits : 0)) < 0)
    rc = -errno;
  if (fd >= 0)
    prelux_os.close(fd);
  if (rc == 0)
    *ret = (struct prelux_row){.obj = *obj, .ino = st.st_ino, .bytes = (uint64_t)st.st_blocks * 512,
                               .file_mtime_ns = prelux_stat_mtime(&st), .used_ns = prelux_store_wall()};
  return rc;
}

/* The name moves from staging into the tree. Readers who still see the LIVE slot find no staging file and look again; who asks meanwhile
 * waits for the flight. */
static int move_in(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj)
{
  struct prelux_store *s = g->store;
  struct prelux_row row;
  const char *base = NULL;
  int64_t old = -1;
  int dir = -1, rc = fill_row(g, d, obj, &row);
  if (rc == 0)
    rc = prelux_disk_parent(d->tree, d->row.path, true, &dir, &base);
  if (rc == 0)
    rc = prelux_catalogue_begin(s->cat, d->tree->id, d->row.path, &row);
  if (rc == 0)
  {
    prelux_live_settle(g, d, obj);
    rc = rename_in(g, d, dir, base);
    if (rc < 0)
    {
      prelux_catalogue_abort(s->cat, d->tree->id, d->row.path);
      prelux_live_again(g, d);
    }
  }
  if (dir >= 0)
    prelux_os.close(dir);
  if (rc < 0)
    return rc;
  rc = prelux_catalogue_finish(s->cat, d->tree->id, d->row.path, &row, &old);
  pthread_mutex_lock(&s->lock);
  s->unsynced = true;
  if (rc == 0)
    prelux_store_account(s, old, (int64_t)row.bytes);
  pthread_mutex_unlock(&s->lock);
  prelux_live_clean(d, obj, d->row.ino);
  return 0;
}

int prelux_stage_install(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_object *obj, struct prelux_problem *why)
{
  struct prelux_store *s = g->store;
  const struct prelux_view v = {.tree = d->tree, .backend = d->tree->backend};
  struct prelux_flight flight;
  int rc;
  while (!prelux_flight_begin(&flight, &v, PRELUX_FLIGHT_FILL, d->row.path, &rc, NULL))
    ; /* whoever looked at the path is done: he waits for nobody who works on a staging file */
  rc = move_in(g, d, obj);
  prelux_flight_end(s, &flight, 0, NULL);
  if (rc < 0)
    return prelux_problem(why, -rc, "cannot put the written file %.200s into the cache: %s", d->row.path, strerror(-rc));
  rc = prelux_journal_forget(g->journal, d->row.id);
  if (rc < 0) /* a later try, or the next start, finds the file in the tree and drops the row */
    prelux_warn("journal of %s: %s", s->dir, strerror(-rc));
  pthread_mutex_lock(&g->lock);
  if (d->queued)
    prelux_order_remove(g->order, d->row.id);
  prelux_dirty_remove(g, d);
  pthread_mutex_unlock(&g->lock);
  return 0;
}

/* ---- sending ---- */

/* A daemon that died in the middle of a put may have left parts or a temporary name there. */
static void sweep(struct prelux_stage *g, const struct prelux_dirty *d)
{
  struct prelux_backend *b = d->tree->backend;
  size_t len = prelux_object_parent(d->row.path, strlen(d->row.path));
  uint64_t folder = prelux_store_hash(d->row.path, len, (uint64_t)d->tree->id);
  pthread_mutex_lock(&g->lock);
  bool done = g->swept == folder;
  g->swept = folder;
  pthread_mutex_unlock(&g->lock);
  if (!done && b->ops->write && b->ops->write->clean)
    b->ops->write->clean(b, d->row.path, PRELUX_UPLOAD_IDLE_S, NULL);
}

bool prelux_stage_final(int err)
{
  switch (err)
  {
  case -ESTALE:
  case -EEXIST:
  case -EACCES:
  case -EROFS:
  case -EFBIG:
  case -EOPNOTSUPP:
  case -ENAMETOOLONG:
  case -EISDIR:
  case -ENOTDIR:
  case -ENOENT:
  case -EINVAL:
    return true;
  default:
    return false;
  }
}

int64_t prelux_stage_next_try(uint32_t tries)
{
  int64_t wait = PRELUX_SEND_RETRY_NS;
  for (uint32_t i = 0; i < tries && wait < PRELUX_SEND_RETRY_MAX_NS; i++)
    wait *= 2;
  return prelux_store_wall() + (wait < PRELUX_SEND_RETRY_MAX_NS ? wait : PRELUX_SEND_RETRY_MAX_NS);
}

/* unsure: the remote may have the bytes all the same. */
static void put_off(struct prelux_stage *g, struct prelux_dirty *d, int err, bool unsure, const struct prelux_problem *why)
{
  struct prelux_pending next = d->row;
  next.next_ns = prelux_stage_next_try(next.tries);
  next.tries++;
  next.err = err == -EKEYEXPIRED ? EACCES : err == -EEXIST ? ESTALE : -err; /* as programs see it */
  next.cause = strdup(why ? why->text : "");
  next.flags |= unsure ? PRELUX_PENDING_UNSURE : 0;
  bool moved = (err == -ENOENT || err == -ENOTDIR) && atomic_load(&d->tree->moving) > 0; /* by us, and so is the file, presently */
  if (prelux_stage_final(err) && !moved)
    next.state = PRELUX_PENDING_REFUSED;
  if (prelux_stage_journal(g, PRELUX_EDIT_SET, &next) < 0)
    prelux_warn("journal of %s cannot be written", g->store->dir); /* the row as it stands is right, too: READY */
  pthread_mutex_lock(&g->lock);
  g->failed++;
  free(d->row.cause);
  d->row = next;
  if (next.state == PRELUX_PENDING_REFUSED)
  {
    prelux_order_remove(g->order, next.id);
    d->queued = false;
    g->refused++;
  }
  pthread_mutex_unlock(&g->lock);
  if (next.state == PRELUX_PENDING_REFUSED)
    prelux_live_end(g, d);
  if (g->store->refused_fn && (next.tries == 1 || next.state == PRELUX_PENDING_REFUSED))
    g->store->refused_fn(g->store->refused_arg, d->tree, PRELUX_INTENT_PUT, d->row.path, err, why);
}

/* The remote has a copy beside it; the path itself shows what somebody else has put there. */
static int kept(struct prelux_stage *g, struct prelux_dirty *d, const struct prelux_problem *said, struct prelux_problem *why)
{
  if (g->store->refused_fn)
    g->store->refused_fn(g->store->refused_arg, d->tree, PRELUX_INTENT_PUT, d->row.path, -ESTALE, said);
  if (why)
    *why = *said;
  pthread_mutex_lock(&g->lock);
  g->failed++;
  prelux_loser_note(g, d->row.ino, said); /* before the file is gone: a close that is told then looks for it */
  pthread_mutex_unlock(&g->lock);
  int rc = prelux_stage_discard(g, d);
  if (rc < 0)
    put_off(g, d, -ESTALE, false, said);
  return rc < 0 ? -ESTALE : PRELUX_KEPT;
}

/* The remote has taken it, and has not said as what version. 1: something else is there by now, *obj; our bytes are not to be kept as that. */
static int learn_version(struct prelux_dirty *d, struct prelux_object *obj, struct prelux_problem *why)
{
  int rc = d->tree->backend->ops->stat(d->tree->backend, d->row.path, obj, why);
  if (rc < 0 || (obj->type == PRELUX_FILE && obj->size == d->row.size))
    return rc;
  d->row.flags |= PRELUX_PENDING_DROP;
  return 1;
}

static void learn_sent(const struct prelux_dirty *d, struct prelux_object *obj)
{
  obj->type = PRELUX_FILE;
  obj->size = d->row.size;
  prelux_learn_written(d->tree, d->row.path, d->shown, obj, d->row.mode, d->row.mtime_ns);
  obj->mtime_ns = d->row.mtime_ns;
}

int prelux_stage_send(struct prelux_stage *g, struct prelux_dirty *d, struct prelux_problem *why)
{
  struct prelux_problem mine = {0};
  struct prelux_object obj = {0};
  bool unsure = false;
  uint64_t begun = prelux_store_now();
  int fd = prelux_stage_reopen(g, d->row.ino, O_RDONLY);
  if (d->resumed)
    sweep(g, d);
  int rc = d->row.to ? prelux_dirty_decide(g, d, &mine) : 0;
  if (rc == 0)
    rc = fd < 0 ? prelux_problem(&mine, -fd, "staging file of %.200s: %s", d->row.path, strerror(-fd)) : put(g, d, fd, &obj, &unsure, &mine);
  prelux_stage_heard(d->tree, rc);
  if (fd >= 0 && (rc == -ESTALE || rc == -EEXIST) && prelux_stage_keep(g, d, fd, rc, &mine) == 1)
  {
    prelux_os.close(fd);
    return kept(g, d, &mine, why);
  }
  unsure |= rc == 0; /* what goes wrong from here on does not undo it */
  if (rc == 0 && !obj.version[0])
    rc = learn_version(d, &obj, &mine);
  if (fd >= 0)
    prelux_os.close(fd);
  if (rc >= 0)
  {
    prelux_stage_took(g, d->tree);
    if (rc == 0)
      learn_sent(d, &obj);
    prelux_stage_rest(g, d, begun);
    rc = (d->row.flags & PRELUX_PENDING_DROP) || (d->row.ino & PRELUX_INO_SCRATCH) ? prelux_stage_let_go(g, d, &obj)
                                                                                   : prelux_stage_install(g, d, &obj, &mine);
    if (rc == 0)
    {
      pthread_mutex_lock(&g->lock);
      g->sent++;
      pthread_mutex_unlock(&g->lock);
      return 0;
    }
  }
  put_off(g, d, rc, unsure, &mine);
  if (why)
    *why = mine;
  return rc == -EEXIST ? -ESTALE : rc;
}

enum outcome { SENT, REFUSED, LATER, AGAIN };

/* d is the caller's; gone when SENT. */
static enum outcome send_queued(struct prelux_stage *g, struct prelux_dirty *d, int64_t *next_ns)
{
  struct prelux_problem why = {0};
  int64_t wait = d->row.next_ns - prelux_store_wall();
  if (wait > 0 && wait <= PRELUX_SEND_RETRY_MAX_NS) /* longer: the clock was set back */
  {
    *next_ns = !*next_ns || d->row.next_ns < *next_ns ? d->row.next_ns : *next_ns;
    return LATER;
  }
  int rc = prelux_stage_send(g, d, &why);
  if (rc == PRELUX_KEPT)
    prelux_warn("%s", why.text);
  if (rc >= 0)
    return SENT;
  prelux_warn("%s: %s", d->row.state == PRELUX_PENDING_READY ? "not sent yet" : "not sent", why.text);
  return d->row.state == PRELUX_PENDING_READY ? AGAIN : REFUSED;
}

/* The next of the queue, made the caller's: a file, or a name (*ret_name). False: there is none. */
static bool next_queued(struct prelux_stage *g, struct prelux_dirty **ret, struct prelux_deferred **ret_name)
{
  struct prelux_dirty *d = NULL;
  struct prelux_deferred *n = NULL;
  int64_t id;
  pthread_mutex_lock(&g->lock);
  while (!d && !n && prelux_deferred_placed(g) && (id = prelux_order_take(g->order)) != 0)
  {
    while ((n = prelux_deferred_by_id(g, id)) && n->busy)
      pthread_cond_wait(&g->changed, &g->lock);
    if (n && !n->decides)
      n = NULL;
    while (!n && (d = prelux_dirty_by_id(g, id)) && !prelux_dirty_grab(g, d))
      ;
    if (d && (!d->queued || d->row.id != id)) /* somebody opened or renamed it while we waited for it */
    {
      prelux_dirty_release(g, d);
      d = NULL;
    }
  }
  if (n)
    n->busy = true;
  pthread_mutex_unlock(&g->lock);
  *ret = d;
  *ret_name = n;
  return d || n;
}

/* n is the caller's; afterwards it is not. */
static enum outcome send_name(struct prelux_stage *g, struct prelux_deferred *n, int64_t *next_ns)
{
  struct prelux_problem why = {0};
  int64_t wait = n->row.next_ns - prelux_store_wall();
  if (wait <= 0 || wait > PRELUX_SEND_RETRY_MAX_NS)
  {
    int rc = prelux_deferred_send(g, n, &why);
    if (rc < 0)
      prelux_warn("not done on the remote: %s", why.text);
    return rc < 0 ? AGAIN : SENT;
  }
  *next_ns = !*next_ns || n->row.next_ns < *next_ns ? n->row.next_ns : *next_ns;
  pthread_mutex_lock(&g->lock);
  prelux_order_back(g->order, n->row.id);
  n->busy = false;
  pthread_cond_broadcast(&g->changed);
  pthread_mutex_unlock(&g->lock);
  return LATER;
}

static enum outcome send_file(struct prelux_stage *g, struct prelux_dirty *d, int64_t *next_ns)
{
  int64_t id = d->row.id;
  enum outcome what = send_queued(g, d, next_ns);
  pthread_mutex_lock(&g->lock);
  if (what == LATER || what == AGAIN)
    prelux_order_back(g->order, id);
  if (what != SENT)
    prelux_dirty_release(g, d);
  pthread_mutex_unlock(&g->lock);
  return what;
}

int prelux_stage_work(struct prelux_stage *g, int64_t *ret_next_ns)
{
  *ret_next_ns = 0;
  pthread_mutex_lock(&g->lock);
  size_t left = prelux_deferred_placed(g) ? prelux_order_count(g->order, NULL) : 0; /* each at most once: those put back come again */
  pthread_mutex_unlock(&g->lock);
  while (left-- > 0)
  {
    struct prelux_dirty *d;
    struct prelux_deferred *n;
    if (!next_queued(g, &d, &n))
      return 0;
    enum outcome what = n ? send_name(g, n, ret_next_ns) : send_file(g, d, ret_next_ns);
    if (what != LATER)
      return 1;
  }
  return 0;
}
