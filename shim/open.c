/* open and its twins. */
#include <stdarg.h>

#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/open.h"
#include "shim/pending.h"
#include "shim/report.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

/* As <linux/openat2.h>. */
struct how {
  uint64_t flags, mode, resolve;
};
enum { NO_MAGICLINKS = 0x02, NO_SYMLINKS = 0x04, BENEATH = 0x08, IN_ROOT = 0x10, KNOWN = 0x3f };

static bool changes(int flags)
{
  return !(flags & O_PATH) &&
         ((flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE);
}

static unsigned how_of(int flags)
{
  bool made_only = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
  if ((flags & O_NOFOLLOW) || made_only) return PRELUX_NOFOLLOW | (changes(flags) ? PRELUX_CHANGE : 0);
  if (!changes(flags)) return 0;
  return (flags & O_CREAT) || prelux_fd_ours_seen() ? PRELUX_CHANGE | PRELUX_WRITE : PRELUX_CHANGE;
}

/* Magic links and the names for them: /proc/self/fd/3, /dev/fd/3, /dev/stdin. */
static bool maybe_magic(const char *path)
{
  if ((intptr_t)path < 4096 || path[0] != '/') return false;
  while (path[0] == '/' && (path[1] == '/' || (path[1] == '.' && path[2] == '/'))) path += path[1] == '/' ? 1 : 2;
  return strncmp(path, "/proc/", 6) == 0 || strncmp(path, "/dev/", 5) == 0;
}

/* A changing open of a far path that may come to a mapping all the same, and not fail. */
static bool looks_first(int dirfd, const char *path, int flags)
{
  unsigned how = how_of(flags);
  return prelux_links_first(path) || maybe_magic(path) || ((how & PRELUX_WRITE) && prelux_last_is_link(dirfd, path)) ||
         prelux_passes_magic(dirfd, path, how);
}

bool prelux_is_magic_to_ours(const char *path)
{
  char target[PATH_MAX], logical[PATH_MAX];
  if (!maybe_magic(path)) return false;
  for (int links = 0; links < 8; links++) {
    long n = prelux_sys(SYS_readlinkat, AT_FDCWD, links ? target : path, logical, sizeof(logical) - 1);
    if (n <= 0) return false;
    logical[n] = '\0';
    memcpy(target, logical, (size_t)n + 1);
    if (prelux_logical(target, -1, logical, sizeof(logical)) != 0) return true;
    if (target[0] != '/') return false;
  }
  return false;
}

/* A folder opened by a way that led to the real folder behind a prefix becomes the mapping's. */
static int turn_root(int fd, int flags, const char *call)
{
  struct stat st;
  struct prelux_route r;
  if (!prelux_state.table || prelux_state.table->n_roots == 0 || prelux_fstat(fd, &st) < 0) return fd;
  int root = prelux_root_of(st.st_dev, st.st_ino);
  if (root < 0) return fd;
  prelux_sys(SYS_close, fd);
  prelux_route_root((uint32_t)root, &r);
  return (int)prelux_ret(r.where < 0 ? r.where : prelux_open_mapped(&r, call, flags, 0));
}

/* What is known of an fd that libc opened: a name right below a FAR folder, no link, is FAR itself (find and its like
 * open every folder so, and would else pay a readlink for each). */
static enum prelux_class class_of(const struct prelux_route *r, int flags)
{
  uint32_t hint;
  if (r->where == PRELUX_ANCESTOR) return PRELUX_CLASS_UNKNOWN;
  if (!(flags & O_NOFOLLOW) || !(flags & O_DIRECTORY)) return PRELUX_CLASS_PLAIN;
  if (strchr(r->use, '/') || strcmp(r->use, "..") == 0) return PRELUX_CLASS_PLAIN;
  bool far = r->at == AT_FDCWD ? prelux_cwd_far() : prelux_fd_get(r->at, &hint) == PRELUX_CLASS_FAR;
  return far ? PRELUX_CLASS_FAR : PRELUX_CLASS_PLAIN;
}

static int open_libc(struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  if (changes(flags)) {
    if (r->where == PRELUX_ANCESTOR && r->missing && (flags & O_TMPFILE) == O_TMPFILE) {
      return (int)prelux_ret(prelux_refuse(call, r));
    }
    if (prelux_is_magic_to_ours(r->use))
      return (int)prelux_ret(prelux_fail(EROFS, call, r->use, "prefixes are read-only", NULL));
  }
  int fd = prelux_real.openat(r->at, r->use, flags, mode);
  if (fd < 0) return fd;
  /* A magic link may lead to a file that is written here. */
  prelux_fd_set(fd, changes(flags) && maybe_magic(r->use) ? PRELUX_CLASS_UNKNOWN : class_of(r, flags), 0);
  return flags & O_DIRECTORY ? turn_root(fd, flags, call) : fd;
}

static int open_routed(struct prelux_route *r, const char *call, int flags, mode_t mode)
{
  if (r->where < 0) return (int)prelux_ret(r->where);
  if (r->where != PRELUX_MAPPED) return open_libc(r, call, flags, mode);
  struct prelux_report_mark m;
  prelux_report_mark(&m);
  int fd = prelux_pending_open(r, call, flags);
  if (fd == -EAGAIN) return (int)prelux_ret(prelux_open_marked(&m, r, call, flags, mode));
  prelux_report_count(&m, PRELUX_REPORT_OPEN, fd, fd);
  return (int)prelux_ret(fd);
}

/* Everything that is not a plain open of a far path. */
__attribute__((noinline)) static int open_near(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  struct prelux_route r;
  unsigned how = how_of(flags);
  prelux_route(dirfd, path, how, &r);
  int fd = open_routed(&r, call, flags, mode);
  if (fd >= 0 && r.where == PRELUX_MAPPED) prelux_hit_note(&r);
  if (fd < 0 && prelux_route_again(dirfd, path, how, &r)) fd = open_routed(&r, call, flags, mode);
  return fd;
}

/* libc's open of a far path failed. */
__attribute__((noinline)) static int open_again(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  struct prelux_route r;
  prelux_route_plain(dirfd, path, &r);
  if (!prelux_route_again(dirfd, path, how_of(flags), &r)) return -1;
  return open_routed(&r, call, flags, mode);
}

static int open_once(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  /* Flags that the kernel refuses before it looks at the path. */
  if ((flags & O_TMPFILE) == O_TMPFILE && (flags & O_ACCMODE) == O_RDONLY && !(flags & O_PATH))
    return prelux_real.openat(dirfd, path, flags, mode);
  if ((flags & O_DIRECTORY) || !prelux_far(dirfd, path) || (changes(flags) && looks_first(dirfd, path, flags)))
    return open_near(dirfd, path, call, flags, mode);
  int fd = prelux_real.openat(dirfd, path, flags, mode);
  if (fd >= 0) prelux_fd_set(fd, PRELUX_CLASS_PLAIN, 0);
  else if (errno == ENOENT || errno == ENOTDIR) fd = open_again(dirfd, path, call, flags, mode);
  return fd;
}

/* fd: what came of the open so far. */
static int or_settled(int fd, int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  if (fd >= 0 || errno != ENXIO || !prelux_pending_any()) return fd;
  prelux_settle_all(); /* a link of somebody's own to the /proc/self/fd/N of a pending file */
  return open_once(dirfd, path, call, flags, mode);
}

__attribute__((noinline)) static int open_any(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  return or_settled(open_once(dirfd, path, call, flags, mode), dirfd, path, call, flags, mode);
}

__attribute__((noinline)) static int open_failed(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  int fd = errno == ENOENT || errno == ENOTDIR ? open_again(dirfd, path, call, flags, mode) : -1;
  return or_settled(fd, dirfd, path, call, flags, mode);
}

/* Nothing but a file that is there, to be read: what most opens ask for. The first line of each hook, so that no call of ours is between the
 * program and libc's. */
static inline __attribute__((always_inline)) int hook(int dirfd, const char *path, const char *call, int flags, mode_t mode)
{
  if (flags & (O_ACCMODE | O_CREAT | O_TRUNC | O_PATH | O_TMPFILE)) return open_any(dirfd, path, call, flags, mode);
  if (!prelux_far(dirfd, path)) {
    int hit = prelux_open_hit(path, call, flags);
    return hit == -EAGAIN ? open_any(dirfd, path, call, flags, mode) : (int)prelux_ret(hit);
  }
  int fd = prelux_real.openat(dirfd, path, flags, mode);
  if (__builtin_expect(fd < 0, 0)) return open_failed(dirfd, path, call, flags, mode);
  prelux_fd_plain(fd);
  return fd;
}

/* The third argument is there only when it has a meaning. */
#define MODE_OF(flags, last)                                            \
  mode_t mode = 0;                                                      \
  if (((flags)&O_CREAT) || ((flags)&O_TMPFILE) == O_TMPFILE) {          \
    va_list ap;                                                         \
    va_start(ap, last);                                                 \
    mode = va_arg(ap, mode_t);                                          \
    va_end(ap);                                                         \
  }

#define OPEN(name)                                                      \
  PRELUX_EXPORT int name(const char *path, int flags, ...)              \
  {                                                                     \
    MODE_OF(flags, flags)                                               \
    if (prelux_idle()) return prelux_real.name(path, flags, mode);      \
    return hook(AT_FDCWD, path, "open", flags, mode);                   \
  }
OPEN(open)
OPEN(open64)
OPEN(__open)
OPEN(__open64)

#define OPENAT(name)                                                        \
  PRELUX_EXPORT int name(int dirfd, const char *path, int flags, ...)       \
  {                                                                         \
    MODE_OF(flags, flags)                                                   \
    if (prelux_idle()) return prelux_real.name(dirfd, path, flags, mode);   \
    return hook(dirfd, path, "openat", flags, mode);                        \
  }
OPENAT(openat)
OPENAT(openat64)

/* Fortified programs: libc aborts when a mode is missing, and so it does here. */
#define OPEN_2(name)                                                                           \
  PRELUX_EXPORT int name(const char *path, int flags)                                          \
  {                                                                                            \
    if (prelux_idle() || (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)                \
      return prelux_real.name(path, flags);                                                    \
    return hook(AT_FDCWD, path, "open", flags, 0);                                             \
  }
OPEN_2(__open_2)
OPEN_2(__open64_2)

#define OPENAT_2(name)                                                                         \
  PRELUX_EXPORT int name(int dirfd, const char *path, int flags)                               \
  {                                                                                            \
    if (prelux_idle() || (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)                \
      return prelux_real.name(dirfd, path, flags);                                             \
    return hook(dirfd, path, "openat", flags, 0);                                              \
  }
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

#define CREAT(name)                                                                   \
  PRELUX_EXPORT int name(const char *path, mode_t mode)                               \
  {                                                                                   \
    if (prelux_idle()) return prelux_real.name(path, mode);                           \
    return hook(AT_FDCWD, path, "creat", O_WRONLY | O_CREAT | O_TRUNC, mode);         \
  }
CREAT(creat)
CREAT(creat64)

static int real_openat2(int dirfd, const char *path, struct open_how *how, size_t size)
{
  if (prelux_real_has((const void *)prelux_real.openat2)) return prelux_real.openat2(dirfd, path, how, size);
  return (int)prelux_ret(prelux_sys(SYS_openat2, dirfd, path, how, size));
}

/* A relative path that is above its folder at some point: RESOLVE_BENEATH forbids it even when it comes back. */
static bool leaves(const char *path)
{
  long depth = 0;
  for (const char *p = path; *p;) {
    size_t n = strcspn(p, "/");
    if (n == 2 && p[0] == '.' && p[1] == '.' && --depth < 0) return true;
    if (n > 0 && !(n == 1 && p[0] == '.') && !(n == 2 && p[0] == '.' && p[1] == '.')) depth++;
    p += n;
    while (*p == '/') p++;
  }
  return false;
}

/* RESOLVE_IN_ROOT: ".." of the folder itself is that folder. A path too long for `out` is left as it is. */
static const char *clamp(const char *path, char *out, size_t cap)
{
  size_t at = 0;
  for (const char *p = path; *p;) {
    size_t n = strcspn(p, "/");
    if (n == 2 && p[0] == '.' && p[1] == '.') {
      while (at > 0 && out[at - 1] != '/') at--;
      at -= at > 0;
    } else if (n > 0 && !(n == 1 && p[0] == '.')) {
      if (at + n + 3 > cap) return path;
      if (at > 0) out[at++] = '/';
      memcpy(out + at, p, n);
      at += n;
    }
    p += n;
    while (*p == '/') p++;
  }
  if (at == 0) out[at++] = '.';
  else if (path[strlen(path) - 1] == '/') out[at++] = '/';
  out[at] = '\0';
  return out;
}

static bool stray_mode(const struct how *how)
{
  return how->mode && !(how->flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY)));
}

PRELUX_EXPORT int openat2(int dirfd, const char *path, struct open_how *open_how, size_t size)
{
  const struct how *how = (const struct how *)open_how;
  if (prelux_idle() || !how || size < sizeof(*how) || prelux_no_pointer(path)) return real_openat2(dirfd, path, open_how, size);
  struct prelux_route r;
  int flags = (int)how->flags;
  unsigned why = how_of(flags) & (how->resolve ? ~PRELUX_WRITE : ~0u);
  if (how->resolve & (NO_MAGICLINKS | NO_SYMLINKS | BENEATH | IN_ROOT)) why |= PRELUX_NO_MAGIC;
  if (how->resolve & (NO_SYMLINKS | BENEATH | IN_ROOT)) why |= PRELUX_NO_KEPT;
  if (how->resolve & IN_ROOT) {
    while (*path == '/' && path[1]) path++;
  }
  if ((how->resolve & BENEATH) && *path == '/') return real_openat2(dirfd, path, open_how, size);
  /* What the kernel refuses before it looks. */
  if ((how->resolve & ~(uint64_t)KNOWN) || how->flags > INT32_MAX || stray_mode(how)) return real_openat2(dirfd, path, open_how, size);
  char clamped[PATH_MAX];
  const char *seen = (how->resolve & IN_ROOT) && leaves(path) ? clamp(path, clamped, sizeof(clamped)) : path;
  int where = prelux_route(dirfd, seen, why, &r);
  if (where == -ELOOP && !(how->resolve & NO_SYMLINKS)) where = -EXDEV; /* where it leads is not looked at */
  if (where < 0) return (int)prelux_ret(where);
  if (where != PRELUX_MAPPED && seen != path) prelux_route_plain(dirfd, path, &r);
  if (where == PRELUX_MAPPED && (how->resolve & BENEATH) && leaves(path)) return (int)prelux_ret(-EXDEV);
  if (where == PRELUX_MAPPED) return (int)prelux_ret(prelux_open_mapped(&r, "openat2", flags, (mode_t)how->mode));
  bool same = r.use == path;
  int fd = real_openat2(r.at, r.use, open_how, size);
  if (fd < 0 && same && !how->resolve && prelux_route_again(dirfd, path, why, &r))
    return open_routed(&r, "openat2", flags, (mode_t)how->mode);
  if (fd >= 0) prelux_fd_set(fd, same ? PRELUX_CLASS_PLAIN : PRELUX_CLASS_UNKNOWN, 0);
  return fd;
}

PRELUX_EXPORT int name_to_handle_at(int dirfd, const char *path, struct file_handle *handle, int *mount_id, int flags)
{
  if (prelux_idle()) return prelux_real.name_to_handle_at(dirfd, path, handle, mount_id, flags);
  struct prelux_route r;
  int where = prelux_empty(path) ? prelux_route_fd(dirfd, &r)
                                 : prelux_route(dirfd, path, flags & AT_SYMLINK_FOLLOW ? 0 : PRELUX_NOFOLLOW, &r);
  if (where < 0) return (int)prelux_ret(where);
  if (where == PRELUX_MAPPED) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return prelux_real.name_to_handle_at(r.at, r.use, handle, mount_id, flags);
}
