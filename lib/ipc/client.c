/* A request is: socket, move it out of the low numbers (close(0) then open() must yield 0, also on a miss), connect
 * (blocking: a full backlog waits instead of failing), check who listens, send, receive frames until the reply. */
#include "lib/ipc/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "lib/base/sys.h"
#include "lib/base/trust.h"
#include "lib/ipc/runtime.h"

#define HIGH_FD 500
#define CONTROL_BYTES 64
#define ATTEMPTS 10 /* a daemon that dies again and again is given up */

static uint64_t now_ms(void)
{
  struct timespec t = {0, 0};
  prelux_sys(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void close_fd(int fd)
{
  prelux_sys(SYS_close, fd);
}

/* Address of the socket. Runtime folders too long for sun_path go through a folder fd (*dirfd, else -1). */
static int address(const char *runtime, struct sockaddr_un *un, int *dirfd)
{
  size_t n = strlen(runtime);
  memset(un, 0, sizeof *un);
  un->sun_family = AF_UNIX;
  *dirfd = -1;
  if (n + sizeof "/sock" <= sizeof un->sun_path)
  {
    memcpy(un->sun_path, runtime, n);
    memcpy(un->sun_path + n, "/sock", 6);
    return 0;
  }
  int fd = (int)prelux_sys(SYS_openat, AT_FDCWD, runtime, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
  if (fd < 0)
    return fd;
  char digits[12], *p = digits + sizeof digits - 1;
  unsigned v = (unsigned)fd;
  *p = 0;
  do
    *--p = (char)('0' + v % 10);
  while (v /= 10);
  char *out = un->sun_path;
  memcpy(out, "/proc/self/fd/", 14);
  size_t m = strlen(p);
  memcpy(out + 14, p, m);
  memcpy(out + 14 + m, "/sock", 6);
  *dirfd = fd;
  return 0;
}

/* Whose folder it is, before anybody in it is waited for: who has made one in a world-writable place could let us wait for ever. */
static int check_folder(const char *runtime, uid_t *ret_owner)
{
  struct stat st;
  long ret = prelux_sys(SYS_newfstatat, AT_FDCWD, runtime, &st, AT_SYMLINK_NOFOLLOW);
  *ret_owner = st.st_uid;
  return ret < 0 ? (int)ret : prelux_believed(runtime, st.st_uid);
}

/* The listener must run as us, or as root, or serve several users in a place that is his: whoever made a socket in a world-writable one is not
 * believed. */
static int check_peer(int fd, uid_t owner)
{
  struct ucred cred;
  socklen_t len = sizeof cred;
  long ret = prelux_sys(SYS_getsockopt, fd, SOL_SOCKET, SO_PEERCRED, &cred, &len);
  if (ret < 0)
    return (int)ret;
  return cred.uid == (uid_t)prelux_sys(SYS_geteuid) || cred.uid == 0 || cred.uid == owner ? 0 : -EACCES;
}

/* needs_fd: one that comes with the reply must find a free number then, beside the socket's own. */
static int connect_once(const char *runtime, bool needs_fd, int more)
{
  struct sockaddr_un un;
  uid_t owner;
  int dirfd, believed = check_folder(runtime, &owner);
  if (believed < 0)
    return believed;
  int fd = (int)prelux_sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | more, 0);
  if (fd < 0)
    return fd;
  int high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_FD);
  if (high == -EINVAL || high == -EMFILE) /* a small RLIMIT_NOFILE */
    high = (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
  if (high >= 0)
  {
    close_fd(fd);
    fd = high;
  }
  else if (high == -EMFILE && needs_fd)
  {
    close_fd(fd);
    return high;
  }
  int ret = address(runtime, &un, &dirfd);
  if (ret == 0)
  {
    do
      ret = (int)prelux_sys(SYS_connect, fd, &un, sizeof un);
    while (ret == -EINTR);
    if (ret == -EISCONN) /* the interrupted connect had succeeded */
      ret = 0;
  }
  if (dirfd >= 0)
    close_fd(dirfd);
  if (ret == 0)
    ret = check_peer(fd, owner);
  if (ret == 0)
    return fd;
  close_fd(fd);
  return ret;
}

int prelux_client_connect(const struct prelux_client_opts *opts)
{
  int fd = connect_once(opts->runtime, opts->needs_fd, 0);
  if (fd >= 0 || fd == -EMFILE || fd == -ENFILE || fd == -EACCES || !opts->daemon)
    return fd;
  int ret = opts->start ? opts->start(opts) : prelux_daemon_start(opts);
  return ret < 0 ? ret : connect_once(opts->runtime, opts->needs_fd, 0);
}

/* Inode of a socket, 0: not a socket. The program may dup2() over any number or close it, also while we wait. */
static uint64_t socket_ino(int fd)
{
  struct stat st;
  return prelux_sys(SYS_fstat, fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static bool is_ours(int fd, uint64_t ino)
{
  return ino != 0 && socket_ino(fd) == ino;
}

/* Takes the thread's slot for `mine`; what an unwound request left there is closed. A signal handler's request runs deeper
 * on the stack than the one it interrupted, which is not stale: the outer value is returned to be put back. */
static struct prelux_client_slot slot_enter(const struct prelux_client_opts *opts, struct prelux_client_slot mine)
{
  struct prelux_client_slot none = {.fd = -1}, outer;
  if (!opts->slot)
    return none;
  outer = *opts->slot;
  if (outer.fd >= 0 && mine.frame >= outer.frame)
  {
    if (is_ours(outer.fd, outer.ino) && outer.ino != mine.ino)
      close_fd(outer.fd);
    outer = none;
  }
  *opts->slot = mine;
  return outer;
}

static int send_message(int fd, const struct prelux_msg *m)
{
  long ret;
  do
    ret = prelux_sys(SYS_sendto, fd, m->buf, m->len, MSG_NOSIGNAL, NULL, 0);
  while (ret == -EINTR);
  return ret == (long)m->len ? 0 : ret < 0 ? (int)ret : -EPROTO;
}

static int wait_readable(int fd, unsigned timeout_ms)
{
  uint64_t end = now_ms() + timeout_ms;
  for (;;)
  {
    uint64_t now = now_ms();
    uint64_t left = now < end ? end - now : 0;
    struct timespec ts = {(time_t)(left / 1000), (long)(left % 1000) * 1000000};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    long ret = prelux_sys(SYS_ppoll, &p, 1, &ts, NULL, 0);
    if (ret > 0)
      return 0;
    if (ret == 0)
      return -ETIMEDOUT;
    if (ret != -EINTR)
      return (int)ret;
  }
}

/* One frame, which stays where it is, with the fd that is on its way in it. As receive_frame. */
static long peek_frame(int fd, void *buf, size_t cap, int flags)
{
  struct iovec iov = {buf, cap};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
  long ret;
  do
    ret = prelux_sys(SYS_recvmsg, fd, &msg, MSG_PEEK | flags);
  while (ret == -EINTR);
  return ret >= 0 && (msg.msg_flags & MSG_TRUNC) ? -EMSGSIZE : ret;
}

int prelux_client_held(int fd, void *reply, size_t cap)
{
  long n = socket_ino(fd) ? peek_frame(fd, reply, cap, MSG_DONTWAIT) : -ENOTSOCK;
  int ret = n < 0 ? (int)n : prelux_msg_check(reply, (size_t)n);
  return ret == 0 && prelux_msg_op(reply) != PRELUX_OP_REPLY ? -EBADMSG : ret;
}

/* One frame. *passed gets an fd that came with it, else -1. Bytes, 0 at the end, or -errno. */
static long receive_frame(int fd, void *buf, size_t cap, int cloexec, int *passed)
{
  union
  {
    struct cmsghdr align;
    char bytes[CONTROL_BYTES];
  } control;
  struct iovec iov = {buf, cap};
  struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  long ret;
  *passed = -1;
  do
    ret = prelux_sys(SYS_recvmsg, fd, &msg, cloexec ? MSG_CMSG_CLOEXEC : 0);
  while (ret == -EINTR);
  if (ret < 0)
    return ret;
  for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(sizeof(int)))
      memcpy(passed, CMSG_DATA(c), sizeof(int));
  if (msg.msg_flags & MSG_CTRUNC) /* no free number for the fd */
    return -EMFILE;
  return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : ret;
}

/* Who passes a file closes his own descriptor of it before he ends the connection, which may be a moment later; until then they share one open file,
 * and a lock (flock) that the caller takes would outlive his close. */
static void wait_for_end(int fd, unsigned timeout_ms)
{
  char byte;
  long n;
  do
    n = prelux_sys(SYS_recvfrom, fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT, NULL, NULL);
  while (n == -EINTR || (n == -EAGAIN && wait_readable(fd, timeout_ms) == 0));
}

/* Frames until the reply. STATUS of the reply in *status; 0 or -errno. */
static int receive_reply(const struct prelux_client_opts *opts, const struct prelux_client_slot *mine, void *reply, size_t cap,
                         int *ret_fd, int *status)
{
  int fd = mine->fd;
  for (;;)
  {
    int passed, ret = wait_readable(fd, opts->timeout_ms);
    if (ret < 0)
      return ret;
    if (!is_ours(fd, mine->ino)) /* what can be read there is not for us */
      return -EPROTO;
    passed = -1;
    long n = opts->ret_held ? peek_frame(fd, reply, cap, 0) : receive_frame(fd, reply, cap, opts->fd_cloexec, &passed);
    if (n > 0 && opts->ret_held && prelux_msg_check(reply, (size_t)n) == 0 && prelux_msg_op(reply) == PRELUX_OP_PROGRESS)
      n = receive_frame(fd, reply, cap, 1, &passed);
    if (n == 0 || n == -ECONNRESET || n == -EBADF)
    {
      if (passed >= 0) /* came with an empty frame */
        close_fd(passed);
      return -EPROTO;
    }
    ret = n < 0 ? (int)n : prelux_msg_check(reply, (size_t)n);
    if (ret == 0 && prelux_msg_op(reply) == PRELUX_OP_PROGRESS)
    {
      if (passed >= 0)
        close_fd(passed);
      if (opts->progress)
        opts->progress(opts->progress_arg, reply);
      continue;
    }
    if (ret == -EBADMSG || ret == -EMSGSIZE || (ret == 0 && prelux_msg_op(reply) != PRELUX_OP_REPLY))
      ret = -EPROTO;
    if (ret < 0) /* what has come is no reply, whatever it says of itself */
      ((struct prelux_msg_header *)reply)->op = 0;
    if (passed >= 0 && (ret < 0 || !ret_fd))
      close_fd(passed);
    else if (ret_fd)
      *ret_fd = passed;
    if (ret == 0 && passed >= 0 && opts->needs_fd)
      wait_for_end(fd, opts->timeout_ms);
    *status = ret == 0 ? (int)prelux_msg_u32(reply, PRELUX_FIELD_STATUS, 0) : 0;
    return ret;
  }
}

int prelux_client_call(const struct prelux_client_opts *opts, const struct prelux_msg *m, void *reply, size_t cap,
                       int *ret_fd)
{
  int ret = -EMSGSIZE, status = 0;
  if (ret_fd)
    *ret_fd = -1;
  if (opts->ret_held)
    *opts->ret_held = -1;
  if (m->overflow)
    return ret;
  /* A daemon that goes away in the middle (killed, replaced) is asked again. Who asks for a change counts that, because the answer
   * to the second request may be "it is so already". */
  for (int attempt = 0; attempt < ATTEMPTS; attempt++)
  {
    int fd = prelux_client_connect(opts);
    if (fd < 0)
      return fd == -EMFILE || fd == -ENFILE || fd == -ETIMEDOUT || fd == -EACCES ? fd : -ENOTCONN;
    const struct prelux_client_slot mine = {fd, socket_ino(fd), (uintptr_t)&status};
    struct prelux_client_slot outer = slot_enter(opts, mine);
    ret = send_message(fd, m);
    bool sent = ret == 0;
    if (sent)
      ret = receive_reply(opts, &mine, reply, cap, ret_fd, &status);
    else if (ret == -EPIPE || ret == -ECONNRESET || ret == -EBADF || ret == -ENOTSOCK)
      ret = -EPROTO;
    bool open = is_ours(fd, mine.ino);
    if (open && opts->ret_held && ret == 0 && status == 0)
      *opts->ret_held = fd;
    else if (open)
      close_fd(fd);
    if (opts->slot)
      *opts->slot = outer;
    if (ret != -EPROTO)
      break;
    if (sent && opts->ret_lost)
      ++*opts->ret_lost;
  }
  return ret == 0 ? status : ret;
}

int prelux_client_tell(const struct prelux_client_opts *opts, const struct prelux_msg *m)
{
  int fd = m->overflow ? -EMSGSIZE : connect_once(opts->runtime, false, SOCK_NONBLOCK); /* a full backlog: -EAGAIN */
  if (fd < 0)
    return fd;
  const struct prelux_client_slot mine = {fd, socket_ino(fd), (uintptr_t)&fd};
  struct prelux_client_slot outer = slot_enter(opts, mine);
  int ret = send_message(fd, m);
  if (is_ours(fd, mine.ino))
    close_fd(fd);
  if (opts->slot)
    *opts->slot = outer;
  return ret;
}
