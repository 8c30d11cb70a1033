#include "daemon/server_private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/ahead.h"
#include "daemon/clock.h"
#include "daemon/compile.h"
#include "daemon/lanes.h"
#include "daemon/pending.h"
#include "daemon/place.h"
#include "daemon/request_write.h"
#include "daemon/watch.h"
#include "lib/base/log.h"
#include "lib/base/os.h"

#define POOL_MIN 4u
#define POOL_MAX 64u
#define POOL_LANE 48u
#define POOL_ASIDE 12u /* beside a backend that hangs some are left for uploads */
#define POOL_STACK (512u << 10)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef POOL_STACK
#define POOL_STACK (4u << 20)
#endif
#define ACCEPT_BATCH 256
#define STORE_TICK_MS 5000u

struct prelux_daemon *prelux_server_daemon(struct prelux_server *s)
{
  return s->d;
}

struct prelux_flights *prelux_server_flights(struct prelux_server *s)
{
  return &s->flights;
}

struct event_base *prelux_server_base(struct prelux_server *s)
{
  return s->base;
}

void *prelux_server_buffer(struct prelux_server *s)
{
  return s->buffer;
}

void prelux_server_stats(struct prelux_server *s, struct prelux_server_stats *ret)
{
  *ret = s->stats;
  ret->sessions = 0;
  for (struct prelux_conn *c = s->conns.next; c != &s->conns; c = c->next)
    ret->sessions += c->state == PRELUX_CONN_SESSION;
}

void prelux_server_count(struct prelux_server *s)
{
  s->stats.requests++;
}

static void accept_more(struct prelux_server *s, bool yes)
{
  if (yes == s->accepting)
    return;
  if (!yes)
    event_del(s->accept_event);
  else if (event_add(s->accept_event, NULL) < 0)
    return; /* no memory, in the kernel: again at the next tick */
  s->accepting = yes;
}

void prelux_server_link(struct prelux_server *s, struct prelux_conn *c)
{
  c->next = &s->conns;
  c->prev = s->conns.prev;
  c->prev->next = c;
  s->conns.prev = c;
  if (++s->stats.clients >= s->max_clients)
    accept_more(s, false);
}

void prelux_server_unlink(struct prelux_server *s, struct prelux_conn *c)
{
  c->prev->next = c->next;
  c->next->prev = c->prev;
  s->active_ms = prelux_clock_ms();
  accept_more(s, --s->stats.clients < s->max_clients);
}

/* A user among others has a quarter of all places at most, and all others together leave one: somebody may have many numbers (subuid(5)), and who
 * runs the node must get in. */
static bool has_too_many(const struct prelux_server *s, uid_t uid)
{
  unsigned his = 0, all = 0, quarter = s->max_clients / 4;
  for (const struct prelux_conn *c = s->conns.next; c != &s->conns; c = c->next)
  {
    his += c->peer && c->peer->uid == uid;
    all += c->peer != NULL;
  }
  return his >= quarter || all >= s->max_clients - quarter;
}

/* Only our own user is served (I10), whoever else may reach the socket; a daemon of a node serves all, and admits each request. *ret: NULL, our own
 * user or, there, root. */
static bool is_served(const struct prelux_server *s, int fd, struct prelux_peer **ret)
{
  struct ucred cred = {0};
  socklen_t len = sizeof cred;
  *ret = NULL;
  bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0;
  if (known && (cred.uid == geteuid() || (s->d->node && cred.uid == 0)))
    return true;
  if (known && s->d->node && !has_too_many(s, cred.uid) && prelux_peer_of(fd, ret) == 0)
    return true;
  prelux_warn("connection of uid %d refused", (int)cred.uid);
  return false;
}

int prelux_server_accept(struct prelux_server *s)
{
  int n = 0;
  for (; n < ACCEPT_BATCH && s->accepting; n++)
  {
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
      continue;
    if (fd < 0)
    {
      if (errno != EAGAIN)
      {
        prelux_warn("accept: %s", strerror(errno));
        accept_more(s, false); /* out of fds: again when a connection ends, or at the next tick */
      }
      break;
    }
    struct prelux_peer *peer;
    if (is_served(s, fd, &peer))
      prelux_conn_new(s, fd, peer);
    else
      prelux_os.close(fd);
  }
  return n;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
  prelux_server_accept(arg);
}

void prelux_server_land(struct prelux_server *s, struct prelux_flight *f)
{
  const uint64_t one = 1;
  pthread_mutex_lock(&s->lock);
  f->chain_landed = NULL;
  *s->landed_end = f;
  s->landed_end = &f->chain_landed;
  pthread_mutex_unlock(&s->lock);
  ssize_t n = prelux_os.write(s->done_fd, &one, sizeof one);
  (void)n; /* only a full counter could fail, and that wakes the loop as well */
}

static void after(struct prelux_job *job)
{
  struct prelux_flight *f = (struct prelux_flight *)job;
  if (!job->dropped)
    prelux_conn_answer_direct(f);
  prelux_server_land(f->home, f);
}

/* To the pool. */
static void submit(struct prelux_server *s, struct prelux_flight *f)
{
  struct prelux_problem why = {0};
  int ret = prelux_pool_submit(s->d->pool, &f->job);
  if (ret == 0)
    return;
  prelux_problem(&why, EIO, "the daemon is overloaded");
  prelux_error("request refused: %s", strerror(-ret));
  prelux_answer_fail(&f->answer, -EIO, &why);
  f->then = NULL;
  prelux_server_land(s, f); /* not handed out here: that closes connections, and somebody may be going through them */
}

static void next_in_turn(struct prelux_server *s, const struct prelux_flight *over)
{
  struct prelux_flight *f = prelux_turns_end(&s->turns, over);
  if (f && f->key_len)
    prelux_flights_add(&s->flights, f);
  if (f)
    submit(s, f);
}

void prelux_server_left(struct prelux_server *s, struct prelux_flight *f)
{
  if (!f->queued)
    return;
  prelux_turns_leave(&s->turns, f);
  s->under_way--;
  prelux_flight_free(f);
}

static void hand_out(struct prelux_server *s, struct prelux_flight *f)
{
  prelux_flights_land(&s->flights, f);
  s->under_way--;
  if (f->turn)
    next_in_turn(s, f);
  while (f->n_waiters && f->answered)
    prelux_conn_close(prelux_conn_of(f->waiters.next));
  while (f->n_waiters)
    prelux_conn_answer(prelux_conn_of(f->waiters.next), &f->answer, f->n_waiters == 1);
  prelux_flight_free(f);
}

static void drain_landed(struct prelux_server *s)
{
  pthread_mutex_lock(&s->lock);
  struct prelux_flight *f = s->landed;
  s->landed = NULL;
  s->landed_end = &s->landed;
  pthread_mutex_unlock(&s->lock);
  while (f)
  {
    struct prelux_flight *next = f->chain_landed;
    bool (*then)(struct prelux_flight *) = f->job.dropped || !f->n_waiters ? NULL : f->then;
    f->then = NULL;
    if (!then || then(f))
      hand_out(s, f);
    f = next;
  }
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
  uint64_t count;
  ssize_t n = prelux_os.read(fd, &count, sizeof count);
  (void)n;
  drain_landed(arg);
}

static void begin(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f)
{
  s->under_way++;
  f->home = s;
  f->asked = c != NULL;
  if (c)
    prelux_conn_wait(c, f);
}

void prelux_server_launched(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f)
{
  if (f->key_len)
    prelux_flights_add(&s->flights, f);
  begin(s, c, f);
}

void prelux_server_launch(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f)
{
  f->job.after = after;
  prelux_server_launched(s, c, f);
  submit(s, f);
}

void prelux_server_launch_in_turn(struct prelux_server *s, struct prelux_conn *c, struct prelux_flight *f, enum prelux_turn turn)
{
  if (!c->peer || prelux_turns_begin(&s->turns, c->peer->uid, turn, f))
  {
    prelux_server_launch(s, c, f);
    return;
  }
  f->job.after = after;
  begin(s, c, f); /* nobody else finds it yet: who asks the same would wait for his turns */
}

static void send_what_waits(struct prelux_store *store, void *arg)
{
  if (prelux_store_owes(store))
    prelux_sender_kick(arg, store);
}

static void send_again(struct prelux_flight *f)
{
  struct prelux_daemon *d = f->arg;
  prelux_stores_each(d->stores, send_what_waits, d);
}

/* Uploads that failed and are to be tried again about now. */
static void retry_uploads(struct prelux_server *s)
{
  struct timespec t;
  int64_t due = atomic_load(&s->d->send_due_ns);
  clock_gettime(CLOCK_REALTIME, &t);
  if (!due || due > (int64_t)t.tv_sec * 1000000000 + t.tv_nsec)
    return;
  struct prelux_flight *f = prelux_flight_new(NULL, 0);
  if (!f)
    return;
  atomic_store(&s->d->send_due_ns, 0);
  f->work = send_again;
  f->arg = s->d;
  prelux_server_launch(s, NULL, f);
}

static void housekeeping(struct prelux_flight *f)
{
  struct prelux_daemon *d = f->arg;
  prelux_rotate(d->runtime, "errors", PRELUX_ERRORS_ROTATE_BYTES);
  prelux_logfile_rotate(&d->log);
  if (!prelux_stores_tick(d->stores))
    atomic_store(&d->lost, true);
  prelux_stores_each(d->stores, send_what_waits, d);
  prelux_tables_restore(d);
}

static void housekeeping_done(struct prelux_flight *f)
{
  struct prelux_server *s = f->home;
  s->housekeeping = false;
}

static void keep_house(struct prelux_server *s, uint64_t now)
{
  if (s->housekeeping || s->phase != SERVING || now - s->store_ms < STORE_TICK_MS)
    return;
  struct prelux_flight *f = prelux_flight_new(NULL, 0);
  s->store_ms = now;
  if (!f)
    return;
  f->work = housekeeping;
  f->drop = housekeeping_done;
  f->arg = s->d;
  s->housekeeping = true;
  prelux_server_launch(s, NULL, f);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
  struct prelux_server *s = arg;
  uint64_t now = prelux_clock_ms();
  for (struct prelux_conn *c = s->conns.next, *next; c != &s->conns; c = next)
  {
    next = c->next;
    prelux_conn_tick(c, now);
  }
  accept_more(s, s->stats.clients < s->max_clients);
  retry_uploads(s);
  keep_house(s, now);
  prelux_server_end_tick(s, now);
}

static void on_stop_step(evutil_socket_t fd, short what, void *arg)
{
  prelux_server_stop_step(arg);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
  struct prelux_server *s = arg;
  struct signalfd_siginfo info;
  while (prelux_os.read(fd, &info, sizeof info) == (ssize_t)sizeof info)
    if (info.ssi_signo == SIGHUP)
      prelux_logfile_reopen(&s->d->log);
    else
      prelux_server_drain(s, info.ssi_signo);
}

/* Half of the fds are for clients: fills, catalogues and network connections need theirs. */
static unsigned client_limit(void)
{
  struct rlimit lim;
  if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur / 2 >= PRELUX_CONN_MAX)
    return PRELUX_CONN_MAX;
  return (unsigned)lim.rlim_cur / 2;
}

static int make_pool(struct prelux_server *s)
{
  struct prelux_pool_opts opts = {
      .min_threads = POOL_MIN,
      .max_threads = POOL_MAX,
      .lane_threads = POOL_LANE,
      .aside_lane = PRELUX_LANE_ADVICE,
      .aside_threads = POOL_ASIDE,
      .max_queue = 2 * PRELUX_CONN_MAX,
      .stack = POOL_STACK,
  };
  return prelux_pool_create(&opts, &s->d->pool);
}

static struct event *add_event(struct prelux_server *s, int fd, short what, event_callback_fn fn,
                               const struct timeval *every)
{
  struct event *e = event_new(s->base, fd, what | EV_PERSIST, fn, s);
  if (!e || (!what && !every) || event_add(e, every) == 0)
    return e;
  event_free(e);
  return NULL;
}

static int make_events(struct prelux_server *s)
{
  const struct timeval second = {1, 0};
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  s->base = event_base_new();
  if (!s->base || s->done_fd < 0 || s->signal_fd < 0)
    return -ENOMEM;
  s->accept_event = add_event(s, s->listener, EV_READ, on_accept, NULL);
  s->done_event = add_event(s, s->done_fd, EV_READ, on_done, NULL);
  s->signal_event = add_event(s, s->signal_fd, EV_READ, on_signal, NULL);
  s->tick = add_event(s, -1, 0, on_tick, &second);
  s->stop_step = add_event(s, -1, 0, on_stop_step, NULL);
  s->accepting = true;
  return s->accept_event && s->done_event && s->signal_event && s->tick && s->stop_step ? 0 : -ENOMEM;
}

int prelux_server_create(struct prelux_daemon *d, int listener, struct prelux_server **ret)
{
  struct prelux_server *s = calloc(1, sizeof *s);
  if (!s)
  {
    prelux_os.close(listener);
    return -ENOMEM;
  }
  s->d = d;
  s->listener = listener;
  s->done_fd = s->signal_fd = s->meet_fd = -1;
  s->conns.next = s->conns.prev = &s->conns;
  s->landed_end = &s->landed;
  s->max_clients = client_limit();
  s->active_ms = s->store_ms = prelux_clock_ms();
  pthread_mutex_init(&s->lock, NULL);
  int err = make_events(s);
  if (err == 0)
    err = make_pool(s);
  if (err == 0)
    err = prelux_watch_create(s, &d->watch);
  if (err < 0)
  {
    prelux_server_free(s);
    return err;
  }
  d->server = s;
  *ret = s;
  return 0;
}

bool prelux_server_run(struct prelux_server *s)
{
  event_base_dispatch(s->base);
  while (s->conns.next != &s->conns)
    prelux_conn_close(s->conns.next);
  if (s->hidden && !s->homeless)
    prelux_place_remove(s->d->runtime_fd);
  return s->clean;
}

void prelux_server_free(struct prelux_server *s)
{
  struct event *const events[] = {s->accept_event, s->done_event, s->signal_event, s->tick, s->stop_step};
  drain_landed(s); /* nobody waits any more: frees them */
  prelux_turns_free(&s->turns);
  prelux_watch_free(s->d->watch);
  s->d->watch = NULL;
  for (size_t i = 0; i < sizeof events / sizeof *events; i++)
    if (events[i])
      event_free(events[i]);
  if (s->base)
    event_base_free(s->base);
  const int fds[] = {s->listener, s->done_fd, s->signal_fd, s->meet_fd};
  for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
    if (fds[i] >= 0)
      prelux_os.close(fds[i]);
  pthread_mutex_destroy(&s->lock);
  free(s);
}
