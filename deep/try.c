/* Whether a supervisor can do here all that it does, tried with a child: containers forbid some of it, and old kernels lack some. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deep/call.h"
#include "deep/deep.h"
#include "deep/inject.h"
#include "lib/base/sys.h"

enum { WAIT_MS = 20000, NAME = 16, FOUND = 7 };

struct tried {
  int listener;
  pid_t pid;
  const char *what;
  char name[NAME]; /* of the child, by which it opens */
};

/* The child. It opens, by a name that is nothing to the kernel, what it is given, changes its folder, and has FOUND as the outcome. */
static void be_tried(struct tried *t, int sock)
{
  long rc = prelux_deep_filter(&t->listener);
  if (rc == 0)
    rc = prelux_deep_send_fd(sock, t->listener);
  if (rc < 0)
    prelux_sys(SYS_exit_group, -rc);
  prelux_sys(SYS_close, t->listener);
  rc = prelux_sys(SYS_openat, AT_FDCWD, t->name, O_RDONLY, 0);
  if (rc >= 0 && t->name[0] == 'B')
    rc = prelux_sys(SYS_chdir, "/");
  prelux_sys(SYS_exit_group, rc == FOUND ? 0 : EPERM);
}

/* Its next call. */
static int hear(const struct tried *t, struct seccomp_notif *req)
{
  struct pollfd p = {.fd = t->listener, .events = POLLIN};
  memset(req, 0, sizeof *req);
  if (poll(&p, 1, WAIT_MS) != 1 || !(p.revents & POLLIN))
    return -ENOSYS;
  return (int)prelux_sys(SYS_ioctl, t->listener, SECCOMP_IOCTL_NOTIF_RECV, req);
}

static int give(struct tried *t)
{
  struct seccomp_notif req;
  char name[NAME];
  t->what = "seccomp user notification";
  int rc = hear(t, &req), fd = open("/", O_RDONLY | O_CLOEXEC);
  struct seccomp_notif_addfd add = {.id = req.id, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = (unsigned)fd, .newfd_flags = O_CLOEXEC};
  if (rc == 0)
  {
    t->what = "process_vm_readv";
    rc = prelux_deep_read(t->pid, req.data.args[1], name, sizeof name);
  }
  if (rc == 0)
  {
    t->what = "process_vm_writev";
    rc = prelux_deep_write(t->pid, req.data.args[1], "B", 1);
  }
  if (rc == 0)
  {
    t->what = "seccomp: descriptors for others, which Linux has since 5.14";
    rc = (int)prelux_sys(SYS_ioctl, t->listener, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
  }
  close(fd);
  return rc < 0 ? rc : 0;
}

static int turn(struct tried *t)
{
  struct seccomp_notif req;
  struct prelux_deep_inject in;
  t->what = "seccomp user notification";
  int rc = hear(t, &req);
  if (rc < 0)
    return rc;
  t->what = "ptrace";
  rc = prelux_deep_inject_begin(&in, t->pid);
  if (rc < 0)
    return rc;
  struct seccomp_notif_resp resp = {.id = req.id};
  prelux_deep_inject_interrupt(&in);
  prelux_sys(SYS_ioctl, t->listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
  rc = prelux_deep_inject_stopped(&in);
  if (rc < 0)
    return rc;
  long its = prelux_deep_inject_call(&in, SYS_getpid, (const long[6]){0});
  prelux_deep_inject_end(&in, its == t->pid ? FOUND : -EPERM);
  return 0;
}

int prelux_deep_possible(const char **ret_what)
{
  struct tried t = {.listener = -1, .what = "seccomp", .name = "A"};
  int pair[2], status = 0;
  *ret_what = t.what;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return -errno;
  t.pid = fork();
  if (t.pid == 0)
    be_tried(&t, pair[1]);
  close(pair[1]);
  t.listener = t.pid < 0 ? -1 : prelux_deep_receive_fd(pair[0]);
  close(pair[0]);
  if (t.pid < 0)
    return -errno;
  int rc = t.listener < 0 ? 0 : give(&t);
  if (rc == 0 && t.listener >= 0)
    rc = turn(&t);
  if (rc < 0)
    kill(t.pid, SIGKILL);
  if (t.listener >= 0)
    close(t.listener);
  pid_t got = waitpid(t.pid, &status, __WALL);
  *ret_what = t.what;
  if (rc < 0 || (got != t.pid && !prelux_deep_ended(t.pid, &status)))
    return rc < 0 ? rc : -ECHILD;
  return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}
