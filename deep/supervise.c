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
#include <unistd.h>

#include "deep/call.h"
#include "deep/deep.h"
#include "lib/base/sys.h"

enum { THREADS_MAX = 256, STACK = 256 << 10 };
/* Since Linux 6.6: who asks and who answers take turns on one processor. */
#define SET_FLAGS _IOW('!', 4, uint64_t)
enum { SYNC_WAKE_UP = 1 };

static struct {
  pthread_mutex_t turn;
  int epoll, door; /* door: where launchers come */
  uint32_t id;
  unsigned waiting, threads, listeners; /* atomics */
} deep = {.turn = PTHREAD_MUTEX_INITIALIZER};

unsigned prelux_deep_count(void)
{
  return __atomic_load_n(&deep.listeners, __ATOMIC_ACQUIRE);
}

static int watch(int fd)
{
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};
  return epoll_ctl(deep.epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static int receive_fd(int sock)
{
  char byte;
  struct iovec iov = {&byte, 1};
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
  int fd = -1;
  if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m) && control.head.cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
  return fd;
}

/* A launcher has come. It says all it has to say at once; who does not is not waited for long. */
static void open_door(void)
{
  struct ucred peer;
  socklen_t len = sizeof peer;
  struct timeval soon = {.tv_sec = 1};
  int sock = accept4(deep.door, NULL, NULL, SOCK_CLOEXEC), fd = -1;
  if (sock < 0)
    return;
  setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
  if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid())
    fd = receive_fd(sock);
  if (fd >= 0 && watch(fd) == 0)
  {
    prelux_sys(SYS_ioctl, fd, SET_FLAGS, SYNC_WAKE_UP);
    __atomic_fetch_add(&deep.listeners, 1, __ATOMIC_RELEASE);
    send(sock, "", 1, MSG_NOSIGNAL);
  }
  else if (fd >= 0)
    close(fd);
  close(sock);
}

/* The last program under this filter has ended. A thread that still answers it keeps the file, which would be told of again. */
static void forget_listener(int fd)
{
  epoll_ctl(deep.epoll, EPOLL_CTL_DEL, fd, NULL);
  close(fd);
  __atomic_fetch_sub(&deep.listeners, 1, __ATOMIC_RELEASE);
}

/* Until there is something to do that may take time. */
static void take_turn(struct prelux_deep_call *c)
{
  for (;;)
  {
    struct epoll_event ev;
    if (epoll_wait(deep.epoll, &ev, 1, -1) != 1)
      continue;
    c->listener = ev.data.fd;
    if (c->listener == deep.door)
    {
      open_door();
      continue;
    }
    if (!(ev.events & EPOLLIN))
    {
      forget_listener(c->listener);
      continue;
    }
    memset(&c->req, 0, sizeof c->req);
    if (prelux_sys(SYS_ioctl, c->listener, SECCOMP_IOCTL_NOTIF_RECV, &c->req) == 0 && !prelux_deep_decide(c, deep.id))
      return;
  }
}

static void start_thread(void);

static void *work(void *arg)
{
  struct prelux_deep_call *c = malloc(sizeof *c);
  if (!c)
    abort();
  for (;;)
  {
    __atomic_fetch_add(&deep.waiting, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&deep.turn);
    __atomic_fetch_sub(&deep.waiting, 1, __ATOMIC_RELAXED);
    take_turn(c);
    if (__atomic_load_n(&deep.waiting, __ATOMIC_RELAXED) == 0)
      start_thread();
    pthread_mutex_unlock(&deep.turn);
    prelux_deep_perform(c);
  }
  return arg;
}

/* Called by the thread whose turn it is. */
static void start_thread(void)
{
  pthread_t t;
  pthread_attr_t attr;
  if (deep.threads == THREADS_MAX)
    return;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, STACK);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&t, &attr, work, NULL) == 0)
    deep.threads++;
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
  deep.epoll = epoll_create1(EPOLL_CLOEXEC);
  deep.door = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (deep.epoll < 0 || deep.door < 0 || prelux_sys(SYS_bind, deep.door, &un, len) < 0 || listen(deep.door, 64) < 0)
    return errno ? -errno : -EADDRINUSE;
  rc = watch(deep.door);
  if (rc == 0)
    start_thread();
  return rc < 0 ? rc : deep.threads ? 0 : -EAGAIN;
}
