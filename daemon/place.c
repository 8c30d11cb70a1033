#include "daemon/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "daemon/files.h"
#include "lib/base/os.h"

#define SOCK "sock"
#define HIDDEN "sock.gone"
#define BACKLOG 4096
#define INHERITED 3 /* SD_LISTEN_FDS_START */
#define LEAVING_MS 10000 /* how long a predecessor that does not listen any more may take to end */

static int own_name = -1; /* O_PATH: what has the name of our socket; open, so that its inode's number stays taken */

/* sun_path holds 108 bytes, the runtime folder may be longer: through its fd every path is short. */
static int address(int runtime_fd, const char *name, struct sockaddr_un *un)
{
  memset(un, 0, sizeof *un);
  un->sun_family = AF_UNIX;
  int n = snprintf(un->sun_path, sizeof un->sun_path, "/proc/self/fd/%d/%s", runtime_fd, name);
  return n < 0 || (size_t)n >= sizeof un->sun_path ? -ENAMETOOLONG : 0;
}

static bool somebody_listens(int runtime_fd)
{
  struct sockaddr_un un;
  int fd = prelux_os.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return false;
  bool yes = address(runtime_fd, SOCK, &un) == 0 &&
             (connect(fd, (struct sockaddr *)&un, sizeof un) == 0 || errno == EAGAIN); /* a full backlog listens too */
  prelux_os.close(fd);
  return yes;
}

static int open_lock(int runtime_fd, const char *name)
{
  int fd = prelux_os.openat(runtime_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  return fd < 0 ? -errno : fd;
}

static int take_lock(int fd)
{
  int ret;
  do
    ret = prelux_os.flock(fd, LOCK_EX | LOCK_NB);
  while (ret < 0 && errno == EINTR);
  return ret < 0 ? -errno : 0;
}

int prelux_place_lock(int runtime_fd, bool activated)
{
  const struct timespec nap = {0, 10000000};
  int fd = open_lock(runtime_fd, "daemon.lock");
  if (fd < 0)
    return fd;
  int ret = take_lock(fd);
  for (int waited = 0; ret == -EWOULDBLOCK && waited < LEAVING_MS && (activated || !somebody_listens(runtime_fd)); waited += 10)
  {
    nanosleep(&nap, NULL);
    ret = take_lock(fd);
  }
  if (ret == 0)
    return fd;
  prelux_os.close(fd);
  return ret == -EWOULDBLOCK ? -EBUSY : ret;
}

/* The socket by this name is ours: remembered for prelux_place_seen. */
static void remember(int runtime_fd, const char *name)
{
  if (own_name >= 0)
    prelux_os.close(own_name);
  own_name = prelux_os.openat(runtime_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

int prelux_place_listen(int runtime_fd, bool everybody)
{
  struct sockaddr_un un;
  char name[32];
  snprintf(name, sizeof name, "sock.%ld", (long)getpid());
  int ret = address(runtime_fd, name, &un);
  if (ret < 0)
    return ret;
  int fd = prelux_os.socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  prelux_os.unlinkat(runtime_fd, name, 0); /* of a dead process with our number */
  ret = bind(fd, (struct sockaddr *)&un, sizeof un) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
  if (ret == 0 && everybody && prelux_os.fchmodat(runtime_fd, name, 0666, 0) < 0)
    ret = -errno;
  if (ret == 0)
    remember(runtime_fd, name);
  if (ret == 0 && prelux_os.renameat(runtime_fd, name, runtime_fd, SOCK) < 0)
    ret = -errno;
  if (ret < 0)
  {
    prelux_os.unlinkat(runtime_fd, name, 0);
    prelux_os.close(fd);
    return ret;
  }
  prelux_os.unlinkat(runtime_fd, HIDDEN, 0);
  return fd;
}

/* Is it a listening socket of our kind that is bound to the name RUNTIME/sock? (The inode of a socket is not that of its name.) */
static int check_inherited(int runtime_fd, int fd)
{
  struct sockaddr_un un;
  struct stat named, ours;
  socklen_t len = sizeof un, size = sizeof(int);
  int type = 0, listens = 0;
  memset(&un, 0, sizeof un);
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
    return -errno;
  if (type != SOCK_SEQPACKET || !listens)
    return -EPROTOTYPE;
  if (getsockname(fd, (struct sockaddr *)&un, &len) < 0)
    return -errno;
  if (un.sun_family != AF_UNIX || prelux_os.stat(un.sun_path, &named) < 0 || prelux_os.fstatat(runtime_fd, SOCK, &ours, AT_SYMLINK_NOFOLLOW) < 0 ||
      named.st_dev != ours.st_dev || named.st_ino != ours.st_ino)
    return -EADDRNOTAVAIL;
  return 0;
}

int prelux_place_inherit(int runtime_fd, const char *listen_pid, const char *listen_fds)
{
  char *end;
  if (!listen_pid || !listen_fds || strtol(listen_pid, &end, 10) != (long)getpid() || *end)
    return -ENOENT;
  if (strcmp(listen_fds, "1") != 0)
    return strcmp(listen_fds, "0") == 0 ? -ENOENT : -EINVAL;
  int ret = check_inherited(runtime_fd, INHERITED);
  if (ret < 0)
    return ret;
  int flags = fcntl(INHERITED, F_GETFL);
  if (flags < 0 || fcntl(INHERITED, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(INHERITED, F_SETFD, FD_CLOEXEC) < 0 ||
      listen(INHERITED, BACKLOG) < 0) /* again, so that who connects from now on finds us behind it, not the manager */
    return -errno;
  remember(runtime_fd, SOCK);
  return INHERITED;
}

bool prelux_place_seen(int runtime_fd)
{
  struct stat st, ours;
  if (prelux_os.fstatat(runtime_fd, SOCK, &st, AT_SYMLINK_NOFOLLOW) < 0)
    return errno != ENOENT;
  return own_name < 0 || prelux_os.fstat(own_name, &ours) < 0 || (st.st_dev == ours.st_dev && st.st_ino == ours.st_ino);
}

int prelux_place_write_pid(const char *runtime)
{
  char text[32];
  int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
  return prelux_files_write(runtime, "pid", text, (size_t)n);
}

int prelux_place_meet(int runtime_fd)
{
  int fd = open_lock(runtime_fd, "lock");
  if (fd < 0)
    return fd;
  int ret = take_lock(fd);
  if (ret == 0)
    return fd;
  prelux_os.close(fd);
  return ret;
}

int prelux_place_hide(int runtime_fd)
{
  return prelux_os.renameat(runtime_fd, SOCK, runtime_fd, HIDDEN) < 0 ? -errno : 0;
}

int prelux_place_show(int runtime_fd)
{
  return prelux_os.renameat(runtime_fd, HIDDEN, runtime_fd, SOCK) < 0 ? -errno : 0;
}

void prelux_place_remove(int runtime_fd)
{
  prelux_os.unlinkat(runtime_fd, HIDDEN, 0);
  prelux_os.unlinkat(runtime_fd, "pid", 0);
}
