/* How the daemon ends: told to, idle, or robbed of its folders. */
#include <errno.h>
#include <sys/stat.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/gate.h"
#include "daemon/lanes.h"
#include "daemon/pending.h"
#include "daemon/place.h"
#include "daemon/request_advise.h"
#include "daemon/walks.h"
#include "daemon/server_private.h"
#include "lib/base/log.h"
#include "lib/base/os.h"

#define STOP_STEP_MS 20
#define MEET_MS 1000u /* how long the end waits for RUNTIME/lock before it does without */

static void longest(struct prelux_live_table *t, void *arg)
{
  uint64_t *ns = arg;
  if (t->idle_ns > *ns)
    *ns = t->idle_ns;
}

static uint64_t idle_limit_ms(struct prelux_server *s)
{
  uint64_t ns = 0;
  if (s->d->idle_s)
    return s->d->idle_s * 1000ull;
  prelux_tables_each(s->d->tables, longest, &ns);
  return ns ? ns / 1000000 : PRELUX_IDLE_SECONDS * 1000ull;
}

/* Takes our socket's name away, unless somebody else holds the socket for the next daemon: who finds it then waits in its backlog. */
static bool hide(struct prelux_server *s)
{
  return s->d->activated || prelux_place_hide(s->d->runtime_fd) == 0;
}

static bool show(struct prelux_server *s)
{
  return s->d->activated || prelux_place_show(s->d->runtime_fd) == 0;
}

/* Nobody has been here for long: end, unless somebody comes at this very moment. Under RUNTIME/lock, so that a client
 * who finds no socket waits until we are gone and starts a new daemon; who had the socket already is in our backlog. */
static void end_if_idle(struct prelux_server *s, uint64_t now)
{
  bool going;
  bool ahead = prelux_advice_busy() || prelux_walks_busy() || prelux_ahead_busy(s->d->ahead);
  bool busy = s->stats.clients || s->under_way || ahead || prelux_gate_closed();
  if (s->phase != SERVING || busy || now - s->active_ms < idle_limit_ms(s))
    return;
  prelux_pending_uploads(s->d, &going);
  if (going)
    return;
  s->meet_fd = prelux_place_meet(s->d->runtime_fd);
  if (s->meet_fd < 0)
    return;
  s->hidden = hide(s);
  if (prelux_server_accept(s) > 0 && s->hidden && show(s))
  {
    s->hidden = false;
    s->active_ms = now;
    prelux_os.close(s->meet_fd);
    s->meet_fd = -1;
    return;
  }
  prelux_info("nothing to do since %llu s: ending", (unsigned long long)((now - s->active_ms) / 1000));
  prelux_server_stop(s);
}

/* Somebody has removed the runtime folder, or given it another name: nobody can find us, and we keep cache folders locked. */
static bool homeless(struct prelux_server *s)
{
  struct stat st, named;
  if (prelux_os.fstat(s->d->lock_fd, &st) == 0 && st.st_nlink == 0)
    return true;
  if (prelux_os.fstat(s->d->runtime_fd, &st) < 0)
    return false;
  if (prelux_os.stat(s->d->runtime, &named) < 0)
    return errno == ENOENT || errno == ENOTDIR;
  return named.st_dev != st.st_dev || named.st_ino != st.st_ino;
}

/* What lies in our folders may be taken from under us (a cleaner of /tmp, rm -r): then the next daemon begins anew. */
static void end_if_robbed(struct prelux_server *s)
{
  if (s->phase != SERVING)
    return;
  s->homeless = homeless(s); /* what stands there now is another daemon's */
  if (s->homeless)
    prelux_error("runtime folder %s was removed or renamed: ending", s->d->runtime);
  bool unseen = !s->homeless && !prelux_place_seen(s->d->runtime_fd);
  if (unseen)
    prelux_error("the socket in %s was removed or replaced: ending", s->d->runtime);
  s->hidden = s->homeless || unseen;
  bool lost = atomic_load(&s->d->lost);
  if (lost)
    prelux_error("a cache folder is not what it was: ending");
  if (s->hidden || lost)
    prelux_server_stop(s);
}

static void end_if_drained(struct prelux_server *s, uint64_t now)
{
  bool going;
  if (!s->drain_ms || s->phase != SERVING)
    return;
  uint64_t n = prelux_pending_uploads(s->d, &going);
  if (going && now < s->drain_ms)
    return;
  if (n)
    prelux_warn("%llu files are not on the remote: they wait for the next daemon", (unsigned long long)n);
  prelux_server_stop(s);
}

void prelux_server_end_tick(struct prelux_server *s, uint64_t now)
{
  if (s->phase == STOPPING) /* there may have been no memory for its timer */
    prelux_server_stop_step(s);
  end_if_robbed(s);
  end_if_drained(s, now);
  end_if_idle(s, now);
}

void prelux_server_stop_step(struct prelux_server *s)
{
  struct prelux_server_stats stats;
  uint64_t now = prelux_clock_ms(), since = now - s->stop_ms;
  if (!s->hidden)
  {
    if (s->meet_fd < 0)
      s->meet_fd = prelux_place_meet(s->d->runtime_fd);
    if (s->meet_fd < 0 && since < MEET_MS)
      return;
    hide(s);
    s->hidden = true;
  }
  prelux_server_accept(s);
  prelux_server_stats(s, &stats);
  if (stats.clients > stats.sessions && since < PRELUX_GRACE_MS)
    return;
  s->clean = s->under_way == 0 && !prelux_ahead_busy(s->d->ahead) && !prelux_advice_busy() && !prelux_walks_busy();
  if (s->clean || since >= PRELUX_GRACE_MS)
    event_base_loopbreak(s->base);
}

void prelux_server_stop(struct prelux_server *s)
{
  const struct timeval step = {0, STOP_STEP_MS * 1000};
  if (s->phase == STOPPING)
    return;
  s->phase = STOPPING;
  prelux_ahead_stop(s->d->ahead);
  s->stop_ms = prelux_clock_ms();
  event_add(s->stop_step, &step);
}

static void ending(struct prelux_store *store, void *arg)
{
  prelux_store_ending(store);
}

static void drain(struct prelux_server *s, bool told)
{
  uint64_t grace = prelux_pending_grace_ms(s->d);
  bool going;
  prelux_pending_uploads(s->d, &going);
  prelux_info("signal %u: ending%s", s->signo, going && !told && grace ? " when what was written is sent" : "");
  if (!going || told || !grace)
    prelux_server_stop(s);
  else
    s->drain_ms = prelux_clock_ms() + grace;
  prelux_stores_try_each(s->d->stores, ending, NULL);
}

static void end_leases(struct prelux_flight *f)
{
  prelux_gate_stop(f->arg);
}

static void leases_ended(struct prelux_flight *f)
{
  struct prelux_server *s = f->home;
  if (s->phase == SERVING)
    drain(s, false);
}

/* Files whose making nobody asked for are counted first, which takes a while: not here. */
void prelux_server_drain(struct prelux_server *s, unsigned signo)
{
  bool told = s->signo != 0;
  struct prelux_flight *f = told || !prelux_gate_closed() ? NULL : prelux_flight_new(NULL, 0);
  s->signo = signo;
  if (!f)
  {
    drain(s, told);
    return;
  }
  f->job.lane = PRELUX_LANE_WATCH;
  f->work = end_leases;
  f->drop = leases_ended;
  f->arg = s->d;
  prelux_server_launch(s, NULL, f);
}
