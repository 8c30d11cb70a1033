/* Events are put by for a moment: many closes are told by who closes, a moment after the kernel tells of them. Meanwhile they lie with the kernel,
 * so that a program that writes file after file wakes us once in that time; what it cannot hold any more the poll of all finds. While new files come in
 * quick succession they are put by somewhat longer: what is done about a close would only be in the way of the next open. */
#include "daemon/watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "daemon/lanes.h"
#include "daemon/request_write.h"
#include "daemon/server.h"
#include "lib/base/log.h"
#include "lib/base/os.h"

#define DELAY_US 60000
#define DELAYS_MAX 30u /* in a row, for the sake of who makes files */
#define CLOSES_MAX 65536u /* put by at once; more: the poll of all finds them */

struct watched {
  struct watched *next;
  int wd;
  bool scratch;
  struct prelux_store *store;
};

struct close_seen {
  struct prelux_store *store;
  uint64_t ino;
};

struct prelux_watch {
  struct prelux_server *server;
  int fd;
  struct event *readable, *due;
  pthread_mutex_t lock; /* guards list */
  struct watched *list;
  struct close_seen *seen; /* loop thread */
  size_t n, cap;
  unsigned delays;
  bool missed;
};

struct settle_job {
  struct prelux_job job;
  struct prelux_daemon *d;
  struct close_seen *seen;
  size_t n;
  bool all;
};

static void poll_all(struct prelux_store *store, void *arg)
{
  prelux_store_poll(store);
  if (prelux_store_owes(store))
    prelux_sender_kick(arg, store);
}

static int by_store(const void *a, const void *b)
{
  const struct close_seen *x = a, *y = b;
  if (x->store != y->store)
    return x->store < y->store ? -1 : 1;
  return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void settle(struct prelux_job *job)
{
  struct settle_job *j = (struct settle_job *)job;
  if (j->n)
    qsort(j->seen, j->n, sizeof *j->seen, by_store);
  for (size_t i = 0; i < j->n; i++)
  {
    if (i == 0 || j->seen[i - 1].store != j->seen[i].store)
      prelux_store_lefts(j->seen[i].store);
    bool again = i > 0 && by_store(&j->seen[i - 1], &j->seen[i]) == 0;
    bool last = i + 1 == j->n || j->seen[i + 1].store != j->seen[i].store;
    if (!again)
      prelux_store_left(j->seen[i].store, j->seen[i].ino);
    if (last && prelux_store_owes(j->seen[i].store))
      prelux_sender_kick(j->d, j->seen[i].store);
  }
  if (j->all)
    prelux_stores_each(j->d->stores, poll_all, j->d);
}

static void settle_free(struct prelux_job *job)
{
  free(((struct settle_job *)job)->seen);
  free(job);
}

static struct prelux_store *store_of(struct prelux_watch *w, int wd, bool *ret_scratch)
{
  pthread_mutex_lock(&w->lock);
  const struct watched *e = w->list;
  while (e && e->wd != wd)
    e = e->next;
  struct prelux_store *store = e ? e->store : NULL;
  *ret_scratch = e && e->scratch;
  pthread_mutex_unlock(&w->lock);
  return store;
}

static void put_by(struct prelux_watch *w, const struct inotify_event *e)
{
  char *end = NULL;
  uint64_t ino = e->len ? strtoull(e->name, &end, 10) : 0;
  bool scratch = false;
  struct prelux_store *store = ino && end && !*end ? store_of(w, e->wd, &scratch) : NULL;
  ino |= scratch ? PRELUX_INO_SCRATCH : 0;
  if (e->mask & IN_Q_OVERFLOW)
    w->missed = true;
  if (!store || (w->n && w->seen[w->n - 1].store == store && w->seen[w->n - 1].ino == ino))
    return;
  if (w->n == w->cap)
  {
    size_t cap = w->cap ? w->cap * 2 : 64;
    struct close_seen *more = cap <= CLOSES_MAX ? realloc(w->seen, cap * sizeof *more) : NULL;
    if (!more)
    {
      w->missed = true;
      return;
    }
    w->seen = more;
    w->cap = cap;
  }
  w->seen[w->n++] = (struct close_seen){.store = store, .ino = ino};
}

static void read_events(struct prelux_watch *w)
{
  union
  {
    struct inotify_event align;
    char bytes[16384];
  } buf;
  for (ssize_t n; (n = prelux_os.read(w->fd, &buf, sizeof buf)) > 0;)
    for (char *p = buf.bytes; p < buf.bytes + n;)
    {
      const struct inotify_event *e = (const struct inotify_event *)(void *)p;
      put_by(w, e);
      p += sizeof *e + e->len;
    }
}

static bool in_burst(const struct prelux_watch *w)
{
  for (size_t i = 0; i < w->n; i++)
    if ((i == 0 || w->seen[i].store != w->seen[i - 1].store) && prelux_store_in_burst(w->seen[i].store))
      return true;
  return false;
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
  const struct timeval delay = {0, DELAY_US};
  struct prelux_watch *w = arg;
  struct prelux_daemon *d = prelux_server_daemon(w->server);
  read_events(w);
  if (w->delays++ < DELAYS_MAX && !w->missed && in_burst(w) && event_add(w->due, &delay) == 0)
    return;
  w->delays = 0;
  if (event_add(w->readable, NULL) < 0) /* no memory, in the kernel: again a moment later */
    event_add(w->due, &delay);
  struct settle_job *j = w->n || w->missed ? calloc(1, sizeof *j) : NULL;
  if (!j)
    return; /* the poll finds them */
  *j = (struct settle_job){.job = {.run = settle, .after = settle_free, .lane = PRELUX_LANE_WATCH}, .d = d, .seen = w->seen, .n = w->n, .all = w->missed};
  w->seen = NULL;
  w->n = w->cap = 0;
  w->missed = false;
  if (prelux_pool_submit(d->pool, &j->job) < 0)
    settle_free(&j->job);
}

static void on_events(evutil_socket_t fd, short what, void *arg)
{
  const struct timeval delay = {0, DELAY_US};
  struct prelux_watch *w = arg;
  event_del(w->readable);
  if (event_add(w->due, &delay) < 0)
    on_due(fd, what, arg);
}

int prelux_watch_create(struct prelux_server *s, struct prelux_watch **ret)
{
  struct prelux_watch *w = calloc(1, sizeof *w);
  *ret = NULL;
  if (!w)
    return -ENOMEM;
  w->server = s;
  pthread_mutex_init(&w->lock, NULL);
  w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  int err = errno;
  if (w->fd >= 0)
  {
    w->readable = event_new(prelux_server_base(s), w->fd, EV_READ | EV_PERSIST, on_events, w);
    w->due = event_new(prelux_server_base(s), -1, 0, on_due, w);
  }
  if (w->readable && w->due && event_add(w->readable, NULL) == 0)
  {
    *ret = w;
    return 0;
  }
  prelux_watch_free(w);
  prelux_warn("no inotify (%s): closes that no program tells of are noticed by looking around", strerror(err));
  return 0;
}

void prelux_watch_free(struct prelux_watch *w)
{
  if (!w)
    return;
  if (w->readable)
    event_free(w->readable);
  if (w->due)
    event_free(w->due);
  if (w->fd >= 0)
    prelux_os.close(w->fd);
  for (struct watched *e = w->list, *next; e; e = next)
  {
    next = e->next;
    free(e);
  }
  pthread_mutex_destroy(&w->lock);
  free(w->seen);
  free(w);
}

static void watch_folder(struct prelux_watch *w, struct prelux_store *store, const char *folder, bool scratch)
{
  struct watched *e = folder ? calloc(1, sizeof *e) : NULL;
  if (!e)
    return;
  pthread_mutex_lock(&w->lock);
  struct watched *old = w->list;
  while (old && (old->store != store || old->scratch != scratch))
    old = old->next;
  if (!old && (e->wd = inotify_add_watch(w->fd, folder, IN_CLOSE_WRITE | IN_ONLYDIR)) >= 0)
  {
    e->store = store;
    e->scratch = scratch;
    e->next = w->list;
    w->list = e;
    e = NULL;
  }
  else if (!old)
    prelux_warn("%s cannot be watched: %s", folder, strerror(errno));
  pthread_mutex_unlock(&w->lock);
  free(e);
}

void prelux_watch_store(struct prelux_watch *w, struct prelux_store *store)
{
  uint64_t dev;
  if (!w)
    return;
  watch_folder(w, store, prelux_store_staging(store), false);
  watch_folder(w, store, prelux_store_scratch(store, &dev), true);
}
