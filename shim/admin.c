/* Calls that tie the system to a path: mounts, roots, swap, accounting, login records, sockets with a name. Below a
 * prefix the kernel would find the real folder behind it, so none of them goes there. */
#include "shim/change.h"
#include "shim/init.h"

#include <sys/un.h>

/* A mount's source is a path only when it is bound or moved, or when it looks like one. */
static int refuse_source(const char *source, unsigned long flags)
{
  struct prelux_change c;
  c.act = NULL;

  if (!source || (*source != '/' && !(flags & (MS_BIND | MS_MOVE)))) return 0;
  int no = prelux_change_route(&c, "mount", PRELUX_CHG_ADMIN, AT_FDCWD, source);
  return no == -ENOENT ? 0 : no;
}

PRELUX_EXPORT int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
  int bad = refuse_source(source, flags);
  if (bad) return (int)prelux_ret(bad);
  PRELUX_CHANGE_BODY(mount, ADMIN, AT_FDCWD, target, NULL, NULL,
                     prelux_real.mount(source, c.use, type, flags, data));
}

/* The newer calls for mounts. Libcs before 2.36 do not have them, kernels do; "" means the descriptor itself. */
enum { NR_open_tree = 428, NR_move_mount = 429, NR_fspick = 433, NR_mount_setattr = 442 };

static bool of_descriptor(const char *path)
{
  return prelux_empty(path);
}

static int real_open_tree(int dirfd, const char *path, unsigned flags)
{
  return (int)prelux_ret(prelux_sys(NR_open_tree, dirfd, path, flags));
}

PRELUX_EXPORT int open_tree(int dirfd, const char *path, unsigned flags)
{
  if (of_descriptor(path)) return real_open_tree(dirfd, path, flags);
  PRELUX_CHANGE_BODY(open_tree, ADMIN, dirfd, path, NULL, NULL, real_open_tree(dirfd, c.use, flags));
}

PRELUX_EXPORT int fspick(int dirfd, const char *path, unsigned flags)
{
  if (of_descriptor(path)) return (int)prelux_ret(prelux_sys(NR_fspick, dirfd, path, flags));
  PRELUX_CHANGE_BODY(fspick, ADMIN, dirfd, path, NULL, NULL, (int)prelux_ret(prelux_sys(NR_fspick, dirfd, c.use, flags)));
}

PRELUX_EXPORT int mount_setattr(int dirfd, const char *path, unsigned flags, struct mount_attr *attr, size_t size)
{
  if (of_descriptor(path)) return (int)prelux_ret(prelux_sys(NR_mount_setattr, dirfd, path, flags, attr, size));
  PRELUX_CHANGE_BODY(mount_setattr, ADMIN, dirfd, path, NULL, NULL,
                     (int)prelux_ret(prelux_sys(NR_mount_setattr, dirfd, c.use, flags, attr, size)));
}

static int real_move_mount(int from, const char *source, int to, const char *target, unsigned flags)
{
  return (int)prelux_ret(prelux_sys(NR_move_mount, from, source, to, target, flags));
}

PRELUX_EXPORT int move_mount(int from, const char *source, int to, const char *target, unsigned flags)
{
  struct prelux_change old;
  old.act = NULL;
  old.use = source;
  int bad = of_descriptor(source) ? 0 : prelux_change_route(&old, "move_mount", PRELUX_CHG_ADMIN, from, source);
  if (bad) return (int)prelux_ret(bad);
  if (of_descriptor(target)) return real_move_mount(from, old.use, to, target, flags);
  PRELUX_CHANGE_BODY(move_mount, ADMIN, to, target, NULL, NULL, real_move_mount(from, old.use, to, c.use, flags));
}

PRELUX_EXPORT int umount(const char *target)
{
  PRELUX_CHANGE_BODY(umount, ADMIN, AT_FDCWD, target, NULL, NULL, prelux_real.umount(c.use));
}

PRELUX_EXPORT int umount2(const char *target, int flags)
{
  PRELUX_CHANGE_BODY(umount2, ADMIN, AT_FDCWD, target, NULL, NULL, prelux_real.umount2(c.use, flags));
}

/* What stands in another root by the daemon's name somebody may have put there who must not have it executed. */
static int root_moved(int rc, const char *to)
{
  if (rc == 0 && strcmp(to, "/") != 0 && !prelux_in_shared_child()) prelux_daemon_never();
  return rc;
}

PRELUX_EXPORT int pivot_root(const char *new_root, const char *put_old)
{
  struct prelux_change old;
  old.act = NULL;
  prelux_fd_names_end();
  int bad = prelux_change_route(&old, "pivot_root", PRELUX_CHG_ADMIN, AT_FDCWD, put_old);
  if (bad) return (int)prelux_ret(bad);
  PRELUX_CHANGE_BODY(pivot_root, ADMIN, AT_FDCWD, new_root, NULL, NULL,
                     root_moved((int)prelux_ret(prelux_sys(SYS_pivot_root, c.use, old.use)), c.use));
}

PRELUX_EXPORT int chroot(const char *path)
{
  prelux_fd_names_end();
  PRELUX_CHANGE_BODY(chroot, ADMIN, AT_FDCWD, path, NULL, NULL, root_moved(prelux_real.chroot(c.use), c.use));
}

PRELUX_EXPORT int swapon(const char *path, int flags)
{
  PRELUX_CHANGE_BODY(swapon, ADMIN, AT_FDCWD, path, NULL, NULL, prelux_real.swapon(c.use, flags));
}

PRELUX_EXPORT int swapoff(const char *path)
{
  PRELUX_CHANGE_BODY(swapoff, ADMIN, AT_FDCWD, path, NULL, NULL, prelux_real.swapoff(c.use));
}

PRELUX_EXPORT int acct(const char *path)
{
  PRELUX_CHANGE_BODY(acct, ALTER, AT_FDCWD, path, NULL, NULL, prelux_real.acct(c.use));
}

PRELUX_EXPORT int quotactl(int cmd, const char *special, int id, caddr_t addr)
{
  PRELUX_CHANGE_BODY(quotactl, ADMIN, AT_FDCWD, special, NULL, NULL, prelux_real.quotactl(cmd, c.use, id, addr));
}

/* These two return nothing: what they would write is lost, as on a read-only file system. */

PRELUX_EXPORT void updwtmp(const char *file, const struct utmp *entry)
{
  struct prelux_change c;
  c.act = NULL;
  int no = prelux_change_route(&c, "updwtmp", PRELUX_CHG_ALTER, AT_FDCWD, file);
  if (no) {
    errno = -no;
    return;
  }
  prelux_real.updwtmp(c.use, entry);
}

PRELUX_EXPORT void updwtmpx(const char *file, const struct utmpx *entry)
{
  struct prelux_change c;
  c.act = NULL;
  int no = prelux_change_route(&c, "updwtmpx", PRELUX_CHG_ALTER, AT_FDCWD, file);
  if (no) {
    errno = -no;
    return;
  }
  prelux_real.updwtmpx(c.use, entry);
}

PRELUX_EXPORT int utmpname(const char *file)
{
  PRELUX_CHANGE_BODY(utmpname, ALTER, AT_FDCWD, file, NULL, NULL, prelux_real.utmpname(c.use));
}

PRELUX_EXPORT int utmpxname(const char *file)
{
  PRELUX_CHANGE_BODY(utmpxname, ALTER, AT_FDCWD, file, NULL, NULL, prelux_real.utmpxname(c.use));
}

enum { UNIX_PATH = sizeof(((struct sockaddr_un *)0)->sun_path) };

/* The path in a unix address, NUL-terminated in `path`; false: no path there. */
static bool unix_path(const struct sockaddr *addr, socklen_t len, char path[UNIX_PATH + 1])
{
  const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
  size_t head = offsetof(struct sockaddr_un, sun_path);

  if (!addr || len <= head || len > sizeof(*un) || addr->sa_family != AF_UNIX || un->sun_path[0] == 0) return false;
  memcpy(path, un->sun_path, len - head);
  path[len - head] = 0;
  return true;
}

/* The address with another path, for libc. 0 when it fits. */
static int put_unix_path(struct sockaddr_un *un, const char *path)
{
  size_t len = strlen(path);

  if (len >= sizeof(un->sun_path)) return -ENAMETOOLONG;
  *un = (struct sockaddr_un){.sun_family = AF_UNIX};
  memcpy(un->sun_path, path, len + 1);
  return 0;
}

static int act_connect(struct prelux_change *c)
{
  struct prelux_attr attr;
  int rc = prelux_ask_attr(&c->r, c->call, &attr);
  return rc ? rc : -ECONNREFUSED; /* what the kernel says of a file that is no socket */
}

/* The body of bind and connect. */
static int name_socket(const char *call, enum prelux_change_kind kind, int fd, const struct sockaddr *addr,
                       socklen_t len, int (*real)(int, const struct sockaddr *, socklen_t))
{
  char path[UNIX_PATH + 1];
  struct sockaddr_un un;
  struct prelux_change c;

  if (prelux_idle() || !unix_path(addr, len, path)) return real(fd, addr, len);
  c.act = kind == PRELUX_CHG_MAKE ? prelux_change_no_node : act_connect;
  c.no = prelux_change_route(&c, call, kind, AT_FDCWD, path);
  for (;;) {
    if (c.no == -EEXIST) c.no = -EADDRINUSE;
    if (!c.no && c.use != path) {
      c.no = put_unix_path(&un, c.use);
      addr = (const struct sockaddr *)&un;
      len = sizeof(un);
    }
    if (c.no) return (int)prelux_ret(c.no > 0 ? 0 : c.no);
    int rc = real(fd, addr, len);
    if (rc == 0 || !prelux_change_again(&c)) return rc;
  }
}

static int real_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
  return prelux_real.bind(fd, addr, len);
}

static int real_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
  return prelux_real.connect(fd, addr, len);
}

PRELUX_EXPORT int bind(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
  return name_socket("bind", PRELUX_CHG_MAKE, fd, PRELUX_SOCKADDR(addr), len, real_bind);
}

/* To connect is to write to the socket's inode: EROFS where nothing can be written, or ENOENT. */
PRELUX_EXPORT int connect(int fd, __CONST_SOCKADDR_ARG addr, socklen_t len)
{
  return name_socket("connect", PRELUX_CHG_ALTER, fd, PRELUX_SOCKADDR(addr), len, real_connect);
}
