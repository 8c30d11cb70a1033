/* The launcher: from the filter on no call that the filter knows is made before the supervisor has its listener; so all calls are raw. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "deep/deep.h"
#include "lib/base/sys.h"

int prelux_deep_address(const char *value, void *ret_sockaddr_un, unsigned *ret_len, uint32_t *ret_id)
{
  struct sockaddr_un *un = ret_sockaddr_un;
  char *end = NULL;
  unsigned long id = value ? strtoul(value, &end, 16) : 0;
  if (!end || *end != ':' || id == 0 || id > INT32_MAX)
    return -EINVAL;
  memset(un, 0, sizeof *un);
  un->sun_family = AF_UNIX;
  int n = snprintf(un->sun_path + 1, sizeof un->sun_path - 1, "prelux-deep-%lx", id);
  *ret_len = (unsigned)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
  *ret_id = (uint32_t)id;
  return 0;
}

int prelux_deep_send_fd(int sock, int fd)
{
  char byte = 0;
  struct iovec iov = {&byte, 1};
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {.bytes = {0}};
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
  control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
  long n = prelux_sys(SYS_sendmsg, sock, &m, MSG_NOSIGNAL);
  return n == 1 ? 0 : n < 0 ? (int)n : -EIO;
}

int prelux_deep_receive_fd(int sock)
{
  char byte;
  struct iovec iov = {&byte, 1};
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.bytes};
  int fd = -1;
  if (prelux_sys(SYS_recvmsg, sock, &m, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&m) && control.head.cmsg_type == SCM_RIGHTS)
    memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
  return fd;
}

static bool hears_us(int sock)
{
  char byte;
  long n;
  do
    n = prelux_sys(SYS_read, sock, &byte, 1);
  while (n == -EINTR);
  return n == 1;
}

/* 0: this process is supervised; -errno: it is as before. The filter is set when the supervisor waits for it: one that ends is not waited for.
 * When it dies in the middle this process's calls are ENOSYS, so it ends. */
static int hand_over(const char *value)
{
  static const char lost[] = "prelux: the supervisor of --deep is gone, or has no room for one more program\n";
  struct sockaddr_un un;
  struct ucred peer;
  socklen_t cred_len = sizeof peer;
  unsigned len;
  uint32_t id;
  int listener = -1, rc = prelux_deep_address(value, &un, &len, &id);
  if (rc < 0)
    return rc;
  long sock = prelux_sys(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (sock < 0)
    return (int)sock;
  rc = (int)prelux_sys(SYS_connect, sock, &un, len);
  if (rc == 0)
    rc = (int)prelux_sys(SYS_getsockopt, sock, SOL_SOCKET, SO_PEERCRED, &peer, &cred_len);
  if (rc == 0 && peer.uid != geteuid())
    rc = -EACCES;
  if (rc == 0 && !hears_us((int)sock))
    rc = -ECONNREFUSED;
  if (rc == 0)
    rc = prelux_deep_filter(&listener);
  if (rc == 0)
  {
    if (prelux_deep_send_fd((int)sock, listener) < 0 || !hears_us((int)sock))
    {
      prelux_sys(SYS_write, 2, lost, sizeof lost - 1);
      prelux_sys(SYS_exit_group, 126);
    }
    prelux_sys(SYS_close, listener);
  }
  prelux_sys(SYS_close, sock);
  return rc;
}

extern char **environ;

/* Only libc's exec has the library make the environment of the next one. */
static void become(const char *file, const char *name, char **argv, bool supervised)
{
  char *end;
  int fd = *file == PRELUX_DEEP_OPEN ? (int)strtol(file + 1, &end, 10) : -1;
  if (fd >= 0 && *end == PRELUX_DEEP_CLOSED)
    fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (fd >= 0 && supervised)
    fexecve(fd, argv, environ);
  else if (fd >= 0)
    errno = (int)-prelux_sys(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
  else if (supervised)
    execv(file, argv);
  else
    errno = (int)-prelux_sys(SYS_execve, file, argv, environ);
  if (supervised && *name && (errno == ENOENT || errno == ENOTDIR || errno == ETXTBSY))
    execv(name, argv);
}

int prelux_deep_exec(char **argv)
{
  int rc = hand_over(getenv(PRELUX_DEEP_ENV));
  const char *called = *argv[0] == PRELUX_DEEP_OPEN ? argv[2] : argv[0];
  if (rc < 0)
    fprintf(stderr, "prelux: %s is not supervised: %s\n", called, rc == -EBUSY ? "another supervisor has its system calls" : strerror(-rc));
  become(argv[0], argv[1], argv + 2, rc == 0);
  int err = errno;
  fprintf(stderr, "prelux: %s: %s\n", called, strerror(err));
  return err == ENOENT || err == ENOTDIR ? 127 : 126;
}
