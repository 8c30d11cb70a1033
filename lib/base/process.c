#include "lib/base/process.h"

#include <dirent.h>
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
  *ret_pid = 0;
  if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
    return -errno;
  if (cred.pid <= 0)
    return -EREMOTE;
  *ret_pid = cred.pid;
  len = sizeof fd;
  if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) == 0)
    return fd;
  if (errno == EINVAL || errno == ESRCH) /* Linux 6.5 to 6.15, of one that is gone */
    return -ESRCH;
  return prelux_process_open(cred.pid); /* before Linux 6.5: it waits for our answer, so the number is its own, if there is one */
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

/* Of /proc/PID/stat, or a thread's. False: there is none. */
static bool read_stat(const char *path, char *ret_state, unsigned *ret_flags, int *ret_code)
{
  char text[1024];
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

/* 1: it is about to be gone; 0: it is not; -1: there is none. */
static int exits(const char *path)
{
  unsigned flags;
  int code;
  char state;
  return !read_stat(path, &state, &flags, &code) ? -1 : (flags & PF_EXITING) != 0;
}

/* A first thread that has ended says nothing about the others. */
static bool all_exit(int pid)
{
  char path[64];
  const struct dirent *e;
  bool all = true;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (exits(path) != 1)
    return false;
  snprintf(path, sizeof path, "/proc/%d/task", pid);
  DIR *dir = prelux_os.opendir(path);
  while (dir && all && (e = readdir(dir)))
  {
    snprintf(path, sizeof path, "/proc/%d/task/%.12s/stat", pid, e->d_name);
    all = *e->d_name == '.' || exits(path) != 0;
  }
  if (dir)
    closedir(dir);
  return all;
}

/* Until its parent has asked for it. */
static bool ask_proc(int pidfd, int pid, int *ret_status)
{
  char path[40], state;
  unsigned flags;
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  if (!read_stat(path, &state, &flags, ret_status) || (state != 'Z' && state != 'X'))
    return false;
  return syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0 || errno == EPERM; /* else the number is somebody else's by now */
}

enum prelux_end prelux_process_end(int pidfd, int pid, int *ret_status)
{
  bool dying = all_exit(pid);
  if (!prelux_process_dead(pidfd)) /* asked behind that: the number was its own then */
    return dying ? PRELUX_END_DYING : PRELUX_END_NONE;
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
