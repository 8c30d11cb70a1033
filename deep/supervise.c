/* The supervisor's threads. One has the turn: it waits for all listeners at once, answers what the kernel may do itself, and gives the turn away
 * before it does anything that may take time. So a program that waits for the remote holds nobody up. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "deep/call.h"
#include "deep/deep.h"
#include "include/prelux/report.h"
#include "lib/base/sys.h"

enum { THREADS_MAX = 256, STACK = 256 << 10 };
/* Since Linux 6.6: who asks and who answers take turns on one processor. */
#define SET_FLAGS _IOW('!', 4, uint64_t)
enum { SYNC_WAKE_UP = 1 };

static struct {
  pthread_mutex_t lock; /* of what is in the first two lines */
  pthread_cond_t given, tick;
  bool taken, watched;
  int epoll, door;
  uint32_t id;
  unsigned waiting, threads, listeners; /* waiting, listeners: atomics */
  unsigned look; /* atomic: odd while who has the turn looks at a call. Who makes it even from odd has the turn then */
  bool asleep;   /* atomic: nobody looks whether he ever ends */
} deep = {.lock = PTHREAD_MUTEX_INITIALIZER, .given = PTHREAD_COND_INITIALIZER};

unsigned prelux_deep_count(void)
{
  return __atomic_load_n(&deep.listeners, __ATOMIC_ACQUIRE);
}

/* What is waited for: launchers that come, what they hand over, and calls. */
enum kind { DOOR, LAUNCHER, LISTENER };

static int watch(int fd, enum kind kind)
{
  struct epoll_event ev = {.events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | (unsigned)fd};
  return epoll_ctl(deep.epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void count(int by)
{
  __atomic_fetch_add(&deep.listeners, (unsigned)by, __ATOMIC_RELEASE);
}

/* Counted from here on: this process does not end before it has been served. */
static void open_door(void)
{
  struct ucred peer;
  socklen_t len = sizeof peer;
  int sock = accept4(deep.door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (sock < 0)
  {
    usleep(1000); /* no descriptor is left: it is told of again */
    return;
  }
  count(1);
  if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid() && watch(sock, LAUNCHER) == 0 &&
      send(sock, "", 1, MSG_NOSIGNAL) == 1)
    return;
  close(sock);
  count(-1);
}

static void take_listener(int sock)
{
  int fd = prelux_deep_receive_fd(sock);
  if (fd >= 0 && watch(fd, LISTENER) == 0)
  {
    prelux_sys(SYS_ioctl, fd, SET_FLAGS, SYNC_WAKE_UP);
    count(1);
    send(sock, "", 1, MSG_NOSIGNAL);
  }
  else if (fd >= 0)
    close(fd);
  close(sock);
  count(-1);
}

/* The last program under this filter has ended. A thread that still answers it keeps the file, which would be told of again. */
static void forget_listener(int fd)
{
  epoll_ctl(deep.epoll, EPOLL_CTL_DEL, fd, NULL);
  close(fd);
  count(-1);
}

/* ---- the turn. Who has it looks at what a call is about, and that may last: a file system may not answer, or be one that waits for this very
 * supervisor (a FUSE daemon that is supervised). Then another takes the turn away. */

enum { LATE_MS = 100 };

static void begin_look(unsigned *ret_look)
{
  *ret_look = __atomic_add_fetch(&deep.look, 1, __ATOMIC_SEQ_CST);
  if (!__atomic_load_n(&deep.asleep, __ATOMIC_SEQ_CST))
    return;
  pthread_mutex_lock(&deep.lock);
  __atomic_store_n(&deep.asleep, false, __ATOMIC_RELAXED);
  pthread_cond_signal(&deep.tick);
  pthread_mutex_unlock(&deep.lock);
}

/* False: it was taken away. */
static bool end_look(unsigned look)
{
  return __atomic_compare_exchange_n(&deep.look, &look, look + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* With the lock. True: it has the turn, for the same look has lasted for a while. Where nothing is looked at no time is waited for. */
static bool watch_turn(unsigned *seen)
{
  struct timespec until;
  unsigned now = __atomic_load_n(&deep.look, __ATOMIC_SEQ_CST);
  if (now == *seen && (now & 1) && end_look(now))
    return true;
  if (now == *seen && !(now & 1))
  {
    __atomic_store_n(&deep.asleep, true, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&deep.look, __ATOMIC_SEQ_CST) == now)
      pthread_cond_wait(&deep.tick, &deep.lock);
    __atomic_store_n(&deep.asleep, false, __ATOMIC_SEQ_CST);
    return false;
  }
  *seen = now;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += LATE_MS * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&deep.tick, &deep.lock, &until);
  return false;
}

static void start_thread(void);

static void wait_for_turn(void)
{
  unsigned seen = 0;
  bool watches = false, late = false;
  pthread_mutex_lock(&deep.lock);
  __atomic_fetch_add(&deep.waiting, 1, __ATOMIC_RELAXED);
  while (deep.taken && !late)
  {
    watches = watches || !deep.watched;
    deep.watched = true;
    if (watches)
      late = watch_turn(&seen);
    else
      pthread_cond_wait(&deep.given, &deep.lock);
  }
  deep.taken = true;
  if (watches)
    deep.watched = false;
  if (__atomic_sub_fetch(&deep.waiting, 1, __ATOMIC_RELAXED) == 0)
    start_thread();
  else if (watches)
    pthread_cond_signal(&deep.given); /* another one watches now */
  pthread_mutex_unlock(&deep.lock);
}

static void give_turn(void)
{
  pthread_mutex_lock(&deep.lock);
  deep.taken = false;
  pthread_cond_signal(__atomic_load_n(&deep.waiting, __ATOMIC_RELAXED) > (deep.watched ? 1u : 0u) ? &deep.given : &deep.tick);
  pthread_mutex_unlock(&deep.lock);
}

/* Until there is something to do that may take time. False: the turn was lost, and there is nothing to be done. */
static bool take_turn(struct prelux_deep_call *c, bool *ret_lost)
{
  for (;;)
  {
    struct epoll_event ev;
    unsigned look;
    *ret_lost = false;
    if (epoll_wait(deep.epoll, &ev, 1, -1) != 1)
      continue;
    c->listener = (int)(uint32_t)ev.data.u64;
    enum kind kind = (enum kind)(ev.data.u64 >> 32);
    if (kind == DOOR)
      open_door();
    if (kind == LAUNCHER)
      take_listener(c->listener);
    if (kind == LISTENER && !(ev.events & EPOLLIN))
      forget_listener(c->listener);
    if (kind != LISTENER || !(ev.events & EPOLLIN))
      continue;
    memset(&c->req, 0, sizeof c->req);
    if (prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_RECV, &c->req) != 0)
      continue;
    begin_look(&look);
    bool done = prelux_deep_decide(c, deep.id);
    *ret_lost = !end_look(look);
    if (!done || *ret_lost)
      return !done;
  }
}

static void *work(void *arg)
{
  struct prelux_deep_call *c = arg;
  for (bool lost;;)
  {
    wait_for_turn();
    bool more = take_turn(c, &lost);
    if (!lost)
      give_turn();
    if (more)
      prelux_deep_perform(c);
  }
  return NULL;
}

/* With the lock. */
static void start_thread(void)
{
  pthread_t t;
  pthread_attr_t attr;
  struct prelux_deep_call *c = deep.threads < THREADS_MAX ? malloc(sizeof *c) : NULL;
  if (!c)
    return;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&t, &attr, work, c) == 0)
    deep.threads++;
  else
    free(c);
  pthread_attr_destroy(&attr);
}

int prelux_deep_begin(const char *value)
{
  struct sockaddr_un un;
  unsigned len;
  int rc = prelux_deep_address(value, &un, &len, &deep.id);
  if (rc < 0)
    return rc;
  umask(0); /* modes have the program's taken off */
  prelux_deep_reports = getenv(PRELUX_REPORT_ENV) != NULL;
  deep.epoll = epoll_create1(EPOLL_CLOEXEC);
  deep.door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (deep.epoll < 0 || deep.door < 0 || prelux_sys(SYS_bind, deep.door, &un, len) < 0 || listen(deep.door, 64) < 0)
    return errno ? -errno : -EADDRINUSE;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&deep.tick, &monotonic);
  pthread_condattr_destroy(&monotonic);
  pthread_mutex_lock(&deep.lock);
  rc = watch(deep.door, DOOR);
  if (rc == 0)
    start_thread();
  pthread_mutex_unlock(&deep.lock);
  return rc < 0 ? rc : deep.threads ? 0 : -EAGAIN;
}
