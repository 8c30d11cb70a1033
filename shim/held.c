/* `held: wait`: a close waits until nobody on the node writes to the file any more.
 *
 * Only for descriptors that this process has opened itself: one that came by fork is closed while the parent waits for the child, as often as not,
 * and the parent has the file open. For the same reason the end of a process, dup2 over a descriptor and exec wait for nobody. And nobody waits
 * for himself: another descriptor of the file in this process, or a shared map to write to, says that its last close is yet to come. */
#include <dirent.h>
#include <sys/mman.h>
#include <time.h>

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/stats.h"
#include "shim/write.h"

enum { FIRST_NS = 2000000, MOST_NS = 200000000, BYTES = 4096 };

static bool is_of(int fd, const struct prelux_leaving *l)
{
  struct stat st;
  if (prelux_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !prelux_is_tree_dev(st.st_dev)) return false;
  if (prelux_staging_number(l->mapping, &st) != l->ino) return false;
  long flags = prelux_sys(SYS_fcntl, fd, F_GETFL);
  return flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_RDONLY;
}

static int can_write(int fd, void *arg)
{
  return is_of(fd, arg);
}

/* 1: another descriptor of this process can write to it; -errno: not known. */
static int by_descriptor(const struct prelux_leaving *l)
{
  return prelux_fd_each(can_write, (void *)l);
}

/* One line of /proc/self/maps: "from-to rw-s offset dev inode path". */
static bool maps_it(const char *line, uint64_t ino)
{
  const char *p = strchr(line, ' ');
  if (!p || p[2] != 'w' || p[4] != 's') return false;
  for (int field = 0; field < 3 && p; field++) p = strchr(p + 1, ' ');
  uint64_t v = 0;
  for (p = p ? p + 1 : ""; *p >= '0' && *p <= '9'; p++) v = v * 10 + (uint64_t)(*p - '0');
  return v == ino;
}

static int by_map(const struct prelux_leaving *l)
{
  char buf[BYTES + 1];
  size_t have = 0;
  bool found = false;
  long n, fd = prelux_sys(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return (int)fd;
  while (!found && (n = prelux_sys(SYS_read, fd, buf + have, BYTES - have)) > 0) {
    char *line = buf, *end;
    have += (size_t)n;
    buf[have] = '\0';
    for (; !found && (end = strchr(line, '\n')); line = end + 1) {
      *end = '\0';
      found = maps_it(line, PRELUX_INO(l->ino));
    }
    have -= (size_t)(line - buf);
    if (have == BYTES) have = 0; /* the rest of a name */
    memmove(buf, line, have);
  }
  prelux_sys(SYS_close, fd);
  return found;
}

int prelux_held_wait(const struct prelux_leaving *l, int (*tell)(const struct prelux_leaving *l, const char *call), const char *call)
{
  int rc = -EAGAIN;
  for (long ns = FIRST_NS; rc == -EAGAIN; ns = ns * 2 < MOST_NS ? ns * 2 : MOST_NS) {
    if (by_descriptor(l) || by_map(l)) return 0; /* each time: another thread may have opened it */
    const struct timespec step = {.tv_nsec = ns};
    prelux_sys(SYS_nanosleep, &step, NULL); /* a signal's handler has run: as in a wait for a disk, it goes on */
    rc = tell(l, call);
  }
  return rc;
}
