#include "lib/base/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fcntl.h>

#include "lib/base/os.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/* Younger than the headers that we may be built with. */
struct info /* struct pidfd_info, its first version */
{
  uint64_t mask, cgroup;
  uint32_t ids[11];
  int32_t exit_code;
};
#define GET_INFO _IOWR(0xFF, 11, struct info)
#define INFO_EXIT (UINT64_C(1) << 3)

#define PF_EXITING 0x4u

int prelux_process_open(int pid)
{
  long fd = syscall(SYS_pidfd_open, pid, 0);
  return fd < 0 ? -errno : (int)fd;
}

int prelux_process_peer(int sock, int *ret_pid)
{
  struct ucred cred = {0};
  socklen_t len = sizeof cred;
  int fd = -1;
  if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
    return -errno;
  *ret_pid = cred.pid;
  if (cred.pid <= 0)
    return -ESRCH;
  len = sizeof fd;
  if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
    return fd;
  return prelux_process_open(cred.pid); /* before Linux 6.5: it waits for our answer, so the number is its own */
}

bool prelux_process_dead(int pidfd)
{
  struct pollfd p = {.fd = pidfd, .events = POLLIN};
  return poll(&p, 1, 0) > 0;
}

void prelux_process_wait(int pidfd, int ms)
{
  struct pollfd p = {.fd = pidfd, .events = POLLIN};
  while (poll(&p, 1, ms) < 0 && errno == EINTR)
    ;
}

/* Of /proc/PID/stat. False: there is none. */
static bool read_stat(int pid, char *ret_state, unsigned *ret_flags, int *ret_code)
{
  char path[40], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int fd = prelux_os.open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = fd < 0 ? -1 : prelux_os.read(fd, text, sizeof text - 1);
  if (fd >= 0)
    prelux_os.close(fd);
  text[n < 0 ? 0 : n] = 0;
  const char *p = strrchr(text, ')'), *last = strrchr(text, ' '); /* the name may have anything in it */
  if (!p || !last || sscanf(p, ") %c %*d %*d %*d %*d %*d %u", ret_state, ret_flags) != 2)
    return false;
  *ret_code = atoi(last);
  return true;
}

/* Until its parent has asked for it. */
static bool ask_proc(int pidfd, int pid, int *ret_status)
{
  unsigned flags;
  char state;
  if (!read_stat(pid, &state, &flags, ret_status) || (state != 'Z' && state != 'X'))
    return false;
  return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno == EPERM; /* else the number is somebody else's by now */
}

enum prelux_end prelux_process_end(int pidfd, int pid, int *ret_status)
{
  unsigned flags = 0;
  int code;
  char state;
  if (!prelux_process_dead(pidfd))
    return read_stat(pid, &state, &flags, &code) && (flags & PF_EXITING) ? PRELUX_END_DYING : PRELUX_END_NONE;
  if (ask_proc(pidfd, pid, ret_status))
    return PRELUX_END_KNOWN;
  struct info info = {.mask = INFO_EXIT};
  if (ioctl(pidfd, GET_INFO, &info) < 0 || !(info.mask & INFO_EXIT))
    return PRELUX_END_UNKNOWN;
  *ret_status = info.exit_code;
  return PRELUX_END_KNOWN;
}

static const struct
{
  int number;
  const char *name;
} crashes[] = {
    {SIGKILL, "SIGKILL"}, {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGABRT, "SIGABRT"},
    {SIGILL, "SIGILL"},   {SIGFPE, "SIGFPE"},   {SIGSYS, "SIGSYS"}, {SIGTRAP, "SIGTRAP"},
};

static const char *crash(int status)
{
  for (size_t i = 0; i < sizeof crashes / sizeof crashes[0] && WIFSIGNALED(status); i++)
    if (crashes[i].number == WTERMSIG(status))
      return crashes[i].name;
  return NULL;
}

bool prelux_process_crashed(int status)
{
  return crash(status) != NULL;
}

const char *prelux_process_signal(int status)
{
  const char *name = crash(status);
  return name ? name : "a signal";
}
