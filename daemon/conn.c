#include "daemon/conn.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "daemon/clock.h"
#include "daemon/request.h"
#include "daemon/server.h"
#include "lib/base/log.h"
#include "lib/base/os.h"

static void on_event(evutil_socket_t fd, short what, void *arg);
static bool take_message(struct prelux_conn *c);

static void change(struct prelux_conn *c, enum prelux_conn_state state)
{
  c->state = state;
  c->since_ms = prelux_clock_ms();
}

static int watch(struct prelux_conn *c, short what)
{
  if (c->watched)
    event_del(&c->event);
  c->watched = true;
  event_assign(&c->event, prelux_server_base(c->server), c->fd, what | EV_PERSIST, on_event, c);
  return event_add(&c->event, NULL);
}

void prelux_conn_new(struct prelux_server *s, int fd, struct prelux_peer *peer)
{
  struct prelux_conn *c = calloc(1, sizeof *c);
  if (!c)
  {
    free(peer);
    prelux_os.close(fd);
    return;
  }
  c->server = s;
  c->fd = fd;
  c->out_fd = -1;
  c->peer = peer;
  change(c, PRELUX_CONN_READING);
  prelux_server_link(s, c);
  if (!take_message(c) && watch(c, EV_READ) < 0)
    prelux_conn_close(c);
}

void prelux_conn_close(struct prelux_conn *c)
{
  if (c->watched)
    event_del(&c->event);
  struct prelux_flight *f = c->waiter.flight;
  prelux_flight_leave(&c->waiter);
  if (f && !f->n_waiters)
    prelux_server_left(c->server, f);
  prelux_live_table_drop(c->session);
  prelux_server_unlink(c->server, c);
  if (c->out_fd >= 0) /* first: the end of the connection says that what was passed is closed here */
    prelux_os.close(c->out_fd);
  prelux_os.close(c->fd);
  free(c->out);
  free(c->peer);
  free(c);
}

/* 0, or -errno: -EAGAIN when the socket takes no more now. */
static int send_frame(int fd, const void *bytes, size_t len, int passed)
{
  union
  {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec iov = {(void *)bytes, len};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  if (passed >= 0)
  {
    memset(&control, 0, sizeof control);
    msg.msg_control = &control;
    msg.msg_controllen = sizeof control;
    struct cmsghdr *h = CMSG_FIRSTHDR(&msg);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &passed, sizeof(int));
  }
  ssize_t n;
  do
    n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

/* Sends what lies in `out`; closes unless it must wait. */
static void flush(struct prelux_conn *c)
{
  int ret = send_frame(c->fd, c->out, c->out_len, c->out_fd);
  if (ret == -EAGAIN || ret == -ENOBUFS || ret == -ENOMEM)
    return;
  prelux_conn_close(c);
}

/* An open file description of its own on what `fd` is. */
static int open_again(int fd)
{
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int own = prelux_os.open(path, O_RDONLY | O_CLOEXEC);
  return own < 0 ? -errno : own;
}

static void answer_status(struct prelux_conn *c, int status)
{
  union
  {
    uint64_t align;
    char bytes[64];
  } buf;
  struct prelux_msg m;
  prelux_msg_begin(&m, &buf, sizeof buf, PRELUX_OP_REPLY);
  prelux_msg_put_u32(&m, PRELUX_FIELD_STATUS, (uint32_t)status);
  ((struct prelux_msg_header *)(void *)&buf)->serial = c->serial;
  send_frame(c->fd, &buf, m.len, -1);
  prelux_conn_close(c);
}

void prelux_conn_answer(struct prelux_conn *c, struct prelux_answer *a, bool last)
{
  int fd = a->fd;
  prelux_flight_leave(&c->waiter);
  if (!a->msg.buf || a->msg.overflow)
  {
    answer_status(c, -EIO);
    return;
  }
  ((struct prelux_msg_header *)a->msg.buf)->serial = c->serial;
  if (fd >= 0 && a->reopen && !last && (fd = open_again(a->fd)) < 0)
  {
    prelux_error("reply cannot carry its file: %s", strerror(-fd));
    answer_status(c, fd == -EMFILE || fd == -ENFILE ? -ENFILE : -EIO);
    return;
  }
  int ret = send_frame(c->fd, a->msg.buf, a->msg.len, fd);
  bool later = ret == -EAGAIN || ret == -ENOBUFS || ret == -ENOMEM;
  if (later && (c->out = malloc(a->msg.len)))
  {
    memcpy(c->out, a->msg.buf, a->msg.len);
    c->out_len = a->msg.len;
    c->out_fd = fd >= 0 && fd == a->fd ? prelux_os.fcntl(fd, F_DUPFD_CLOEXEC, 3) : fd;
    change(c, PRELUX_CONN_WRITING);
    if ((fd < 0 || c->out_fd >= 0) && watch(c, EV_WRITE) == 0)
      return;
    fd = a->fd;
  }
  if (fd >= 0 && (last || fd != a->fd))
    prelux_os.close(fd);
  if (last)
    a->fd = -1;
  prelux_conn_close(c);
}

void prelux_conn_direct(struct prelux_conn *c, struct prelux_flight *f)
{
  f->direct = prelux_os.fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
  f->serial = c->serial;
}

/* Held for reading while a descriptor is passed and closed here: until then we are one who can write to its file, and somebody who has received
 * it may be done with it already. */
static pthread_rwlock_t passing = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

void prelux_conn_passed(void)
{
  pthread_rwlock_wrlock(&passing);
  pthread_rwlock_unlock(&passing);
}

void prelux_conn_answer_direct(struct prelux_flight *f)
{
  struct prelux_answer *a = &f->answer;
  if (f->answered || f->direct < 0 || !a->msg.buf || a->msg.overflow || a->reopen)
    return;
  ((struct prelux_msg_header *)a->msg.buf)->serial = f->serial;
  pthread_rwlock_rdlock(&passing);
  f->answered = send_frame(f->direct, a->msg.buf, a->msg.len, a->fd) == 0;
  if (f->answered && a->fd >= 0)
  {
    prelux_os.close(a->fd);
    a->fd = -1;
  }
  if (f->answered)
    shutdown(f->direct, SHUT_WR); /* the loop closes it later, and who asked waits for the end */
  pthread_rwlock_unlock(&passing);
}

bool prelux_conn_left(int fd)
{
  struct pollfd p = {.fd = fd};
  return fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);
}

void prelux_conn_wait(struct prelux_conn *c, struct prelux_flight *f)
{
  prelux_flight_join(f, &c->waiter);
  change(c, PRELUX_CONN_WAITING);
  if (f->direct < 0)
  {
    if (!c->watched)
      watch(c, EV_READ);
  }
  else if (c->watched) /* what was begun is done, and answered, also when who asked has gone, and so is a killed writer's CLOSED */
  {
    event_del(&c->event);
    c->watched = false;
  }
}

void prelux_conn_session(struct prelux_conn *c, struct prelux_live_table *t)
{
  union
  {
    uint64_t align;
    char bytes[64];
  } buf;
  struct prelux_msg m;
  c->session = t;
  change(c, PRELUX_CONN_SESSION);
  if (!c->watched && watch(c, EV_READ) < 0)
  {
    prelux_conn_close(c);
    return;
  }
  prelux_msg_begin(&m, &buf, sizeof buf, PRELUX_OP_REPLY);
  prelux_msg_put_u32(&m, PRELUX_FIELD_STATUS, 0);
  ((struct prelux_msg_header *)(void *)&buf)->serial = c->serial;
  if (send_frame(c->fd, &buf, m.len, -1) < 0)
    prelux_conn_close(c);
}

/* A client that does not read its frames gets no more of them: one unread is enough. */
static void send_progress(struct prelux_conn *c)
{
  union
  {
    uint64_t align;
    char bytes[512];
  } buf;
  char text[400] = "";
  struct prelux_msg m;
  struct prelux_flight *f = c->waiter.flight;
  int unread = 0;
  if (ioctl(c->fd, SIOCOUTQ, &unread) == 0 && unread > 0)
    return;
  prelux_msg_begin(&m, &buf, sizeof buf, PRELUX_OP_PROGRESS);
  if (f && f->tell)
    f->tell(f, text, sizeof text);
  if (*text)
    prelux_msg_put_str(&m, PRELUX_FIELD_TEXT, text);
  ((struct prelux_msg_header *)(void *)&buf)->serial = c->serial;
  int ret = send_frame(c->fd, &buf, m.len, -1);
  if (ret < 0 && ret != -EAGAIN && (!f || f->direct < 0)) /* as in prelux_conn_wait() */
    prelux_conn_close(c);
}

void prelux_conn_tick(struct prelux_conn *c, uint64_t now_ms)
{
  uint64_t age = now_ms > c->since_ms ? now_ms - c->since_ms : 0;
  if (c->state == PRELUX_CONN_WAITING)
    send_progress(c);
  else if (c->state == PRELUX_CONN_READING && age > PRELUX_READ_MS)
    prelux_conn_close(c);
  else if (c->state == PRELUX_CONN_WRITING && age > PRELUX_WRITE_MS)
    prelux_conn_close(c);
}

/* One message into the server's buffer: bytes, 0 the client has left, -EAGAIN, or -EMSGSIZE. */
static ssize_t receive(struct prelux_conn *c, void *buf, size_t cap)
{
  struct iovec iov = {buf, cap};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1}; /* no control buffer: fds that somebody sends are dropped */
  ssize_t n;
  do
    n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return errno == EAGAIN ? -EAGAIN : 0;
  return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

/* False: nothing has come yet. */
static bool take_message(struct prelux_conn *c)
{
  void *buf = prelux_server_buffer(c->server);
  ssize_t n = receive(c, buf, PRELUX_MSG_MAX);
  if (n == -EAGAIN)
    return false;
  if (n == 0 || c->state != PRELUX_CONN_READING) /* left, or a second message, which nobody asked for */
  {
    prelux_conn_close(c);
    return true;
  }
  int ret = n < 0 ? (int)n : prelux_msg_check(buf, (size_t)n);
  if (n >= (ssize_t)sizeof(struct prelux_msg_header))
    c->serial = ((const struct prelux_msg_header *)buf)->serial;
  if (ret < 0)
  {
    prelux_warn("message refused: %s", strerror(-ret));
    answer_status(c, ret);
  }
  else
    prelux_request(c, buf, (size_t)n);
  return true;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
  if (what & EV_WRITE)
    flush(arg);
  else
    take_message(arg);
}
