/* Streams. libc opens the file inside fopen, so fopen itself is the hook; what the program gets is libc's own FILE. */
#include "lib/base/path.h"
#include "shim/ask.h"
#include "shim/fds.h"
#include "shim/pending.h"
#include "shim/write.h"

typedef FILE *opener(const char *path, const char *mode);

/* open(2) flags of an fopen mode, or -1. Characters that libc does not know are ignored, as libc does. */
static int flags_of(const char *mode)
{
  int flags;
  if (!mode) return -1;
  switch (mode[0]) {
  case 'r': flags = O_RDONLY; break;
  case 'w': flags = O_WRONLY | O_CREAT | O_TRUNC; break;
  case 'a': flags = O_WRONLY | O_CREAT | O_APPEND; break;
  default: return -1;
  }
  for (const char *p = mode + 1; *p && *p != ','; p++) {
    if (*p == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    else if (*p == 'x') flags |= O_EXCL;
    else if (*p == 'e') flags |= O_CLOEXEC;
  }
  return flags;
}

static unsigned how_of(int flags)
{
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) return 0;
  bool made_only = (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL);
  return !made_only && ((flags & O_CREAT) || prelux_fd_ours_seen()) ? PRELUX_CHANGE | PRELUX_WRITE : PRELUX_CHANGE;
}

/* "/proc/self/fd/N" */
static void proc_name(int fd, char out[32])
{
  static const char head[] = "/proc/self/fd/";
  memcpy(out, head, sizeof(head) - 1);
  prelux_path_number(out + sizeof(head) - 1, (unsigned)fd);
}

enum { ALL_BITS = 0666 };

/* A file that libc is to open by itself: by the name in /proc of an O_PATH descriptor, which may be closed again (no POSIX lock
 * depends on it). One for writing is held until then, so that it stays what it is. */
struct named {
  int fd;
  bool held;
  struct prelux_hold hold;
  char name[32];
};

/* Out of the way of the number that the program expects. */
static int moved_up(int fd)
{
  enum { HIGH = 500 };
  int high = fd < 0 ? fd : (int)prelux_sys(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH);
  if (high < 0) return fd;
  prelux_sys(SYS_close, fd);
  prelux_fd_forget((unsigned)fd, (unsigned)fd);
  return high;
}

__attribute__((noinline)) static int path_fd(const struct prelux_hold *h)
{
  char path[PATH_MAX];
  long n = prelux_hold_path(h, path, sizeof(path));
  return n < 0 ? (int)n : (int)prelux_sys(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
}

/* 0 or -errno. */
static int name_it(const struct prelux_route *r, const char *call, int flags, struct named *ret)
{
  ret->held = (flags & O_ACCMODE) != O_RDONLY && prelux_writable(r);
  if (ret->held) {
    int rc = prelux_hold(r, call, flags, ALL_BITS, &ret->hold);
    if (rc < 0) return rc;
    ret->fd = path_fd(&ret->hold);
    if (ret->fd < 0) prelux_hold_close(&ret->hold, call);
  } else {
    ret->fd = prelux_open_mapped(r, call, ((flags & O_ACCMODE) == O_RDONLY ? O_PATH : flags) | O_CLOEXEC, ALL_BITS);
  }
  ret->fd = moved_up(ret->fd);
  if (ret->fd >= 0) proc_name(ret->fd, ret->name);
  return ret->fd < 0 ? ret->fd : 0;
}

/* "x": it exists by now. */
static const char *twice_mode(const char *mode, char *out, size_t cap)
{
  size_t n = 0;
  const char *coding = strchrnul(mode, ',');
  if (strlen(mode) >= cap) return mode;
  for (const char *p = mode; *p; p++)
    if (*p != 'x' || p >= coding) out[n++] = *p;
  out[n] = '\0';
  return out;
}

/* f: what libc made of the name, or NULL. errno untouched. */
static void named_end(const struct prelux_route *r, const char *call, const struct named *n, FILE *f)
{
  int saved = errno;
  if (f && n->held) prelux_fd_set_writer(fileno(f), r->index);
  else if (f) prelux_fd_set(fileno(f), PRELUX_CLASS_SHADOW, r->index);
  if (n->held && f) prelux_hold_drop(&n->hold); /* the stream's is not the last: nobody need be told */
  else if (n->held) prelux_hold_close(&n->hold, call);
  prelux_sys(SYS_close, n->fd);
  errno = saved;
}

/* Only fopen itself understands ",ccs=". */
static FILE *fopen_coded(const struct prelux_route *r, const char *mode, int flags, opener *real)
{
  struct named n;
  char plain[32];
  int rc = name_it(r, "fopen", flags, &n);
  if (rc < 0) return prelux_null(rc);
  FILE *f = real(n.name, twice_mode(mode, plain, sizeof(plain)));
  named_end(r, "fopen", &n, f);
  return f;
}

static FILE *fopen_mapped(const struct prelux_route *r, const char *mode, opener *real)
{
  int flags = flags_of(mode);
  if (flags < 0) {
    errno = EINVAL;
    return NULL;
  }
  if (strchr(mode, ',')) return fopen_coded(r, mode, flags, real);
  int fd = (int)prelux_ret(prelux_open_mapped(r, "fopen", flags, ALL_BITS));
  if (fd < 0) return NULL;
  FILE *f = fdopen(fd, mode);
  if (!f) close(fd);
  return f;
}

static FILE *fopen_routed(struct prelux_route *r, const char *mode, opener *real)
{
  if (r->where < 0) return prelux_null(r->where);
  if (r->where == PRELUX_MAPPED) return fopen_mapped(r, mode, real);
  FILE *f = real(r->use, mode);
  if (f) prelux_fd_set(fileno(f), r->where == PRELUX_ANCESTOR ? PRELUX_CLASS_UNKNOWN : PRELUX_CLASS_PLAIN, 0);
  return f;
}

static FILE *fopen_once(const char *path, const char *mode, opener *real)
{
  struct prelux_route r;
  unsigned how = how_of(flags_of(mode));
  prelux_route(AT_FDCWD, path, how, &r);
  FILE *f = fopen_routed(&r, mode, real);
  if (!f && prelux_route_again(AT_FDCWD, path, how, &r)) f = fopen_routed(&r, mode, real);
  return f;
}

/* f: what came of it so far. */
static FILE *or_settled(FILE *f, const char *path, const char *mode, opener *real)
{
  if (f || errno != ENXIO || !prelux_pending_any()) return f;
  prelux_settle_all(); /* as open() does */
  return fopen_once(path, mode, real);
}

static FILE *fopen_any(const char *path, const char *mode, opener *real)
{
  return or_settled(fopen_once(path, mode, real), path, mode, real);
}

/* libc has failed, on a far path that is only to be read. */
__attribute__((noinline)) static FILE *fopen_failed(const char *path, const char *mode, opener *real)
{
  struct prelux_route r;
  prelux_route_plain(AT_FDCWD, path, &r);
  return or_settled(prelux_route_again(AT_FDCWD, path, 0, &r) ? fopen_routed(&r, mode, real) : NULL, path, mode, real);
}

/* "r" with or without letters that change nothing of what is opened. */
static inline bool only_reads(const char *mode)
{
  return mode && mode[0] == 'r' && (mode[1] == '\0' || ((mode[1] == 'b' || mode[1] == 'e') && mode[2] == '\0'));
}

/* As open(): what most ask for goes to libc from here. */
#define FOPEN(name)                                                  \
  PRELUX_EXPORT FILE *name(const char *path, const char *mode)       \
  {                                                                  \
    if (prelux_idle()) return prelux_real.name(path, mode);          \
    if (!only_reads(mode) || !prelux_far(AT_FDCWD, path)) return fopen_any(path, mode, prelux_real.name); \
    FILE *f = prelux_real.name(path, mode);                          \
    if (!f) return fopen_failed(path, mode, prelux_real.name);       \
    prelux_fd_plain(fileno(f));                                      \
    return f;                                                        \
  }
FOPEN(fopen)
FOPEN(fopen64)
FOPEN(_IO_fopen)

/* libc adds "ce" to the mode itself; a mapped file must have it, too. */
#define SETMNTENT(name)                                              \
  PRELUX_EXPORT FILE *name(const char *path, const char *mode)       \
  {                                                                  \
    char closed[16];                                                 \
    size_t n = strlen(mode);                                         \
    if (prelux_idle() || n + 3 > sizeof(closed)) return prelux_real.name(path, mode); \
    memcpy(closed, mode, n);                                         \
    memcpy(closed + n, "ce", 3);                                     \
    return fopen_any(path, closed, prelux_real.name);                \
  }
SETMNTENT(setmntent)
SETMNTENT(__setmntent)

typedef FILE *reopener(const char *path, const char *mode, FILE *stream);

/* freopen closes the stream whatever happens: let libc fail, then say why. */
static FILE *fail_closed(int err, const char *mode, FILE *stream, reopener *real)
{
  real("/dev/null/", mode, stream);
  errno = err;
  return NULL;
}

static FILE *freopen_mapped(const struct prelux_route *r, const char *mode, FILE *stream, reopener *real)
{
  struct named n;
  char plain[32];
  int flags = flags_of(mode);
  if (flags < 0) return real("/dev/null", mode, stream);
  int rc = name_it(r, "freopen", flags, &n);
  if (rc < 0) return fail_closed(-rc, mode, stream, real);
  FILE *f = real(n.name, twice_mode(mode, plain, sizeof(plain)), stream);
  named_end(r, "freopen", &n, f);
  return f;
}

static FILE *freopen_any(const char *path, const char *mode, FILE *stream, reopener *real)
{
  struct prelux_route r;
  int flags = flags_of(mode);
  if (!path) { /* the same file in another mode */
    bool ours = how_of(flags) && prelux_route_fd(fileno(stream), &r) == PRELUX_MAPPED;
    if (ours && prelux_writable(&r)) return freopen_mapped(&r, mode, stream, real);
    if (ours)
      return fail_closed(-prelux_refuse("freopen", &r), mode, stream, real);
    return real(path, mode, stream);
  }
  prelux_route(AT_FDCWD, path, how_of(flags), &r);
  if (r.where == PRELUX_UNMAPPED && r.use == path) {
    /* libc's attempt closes the stream, so a link into a mapping must be found before it. */
    if (prelux_sys(SYS_faccessat, AT_FDCWD, path, F_OK) == -ENOENT) {
      int saved = errno;
      errno = ENOENT;
      prelux_route_again(AT_FDCWD, path, how_of(flags), &r);
      errno = saved;
    }
  }
  if (r.where < 0) return fail_closed(-r.where, mode, stream, real);
  if (r.where == PRELUX_MAPPED) return freopen_mapped(&r, mode, stream, real);
  FILE *f = real(r.use, mode, stream);
  if (f) prelux_fd_set(fileno(f), PRELUX_CLASS_PLAIN, 0);
  return f;
}

/* errno untouched. */
static void stream_leaving(FILE *stream, struct prelux_leaving *l)
{
  int saved = errno;
  prelux_leaving(fileno(stream), l);
  errno = saved;
}

/* The old file is closed without a word of what went wrong with it, as libc does it. */
static FILE *freopen_told(const char *path, const char *mode, FILE *stream, reopener *real)
{
  struct prelux_leaving l;
  stream_leaving(stream, &l);
  FILE *f = freopen_any(path, mode, stream, real);
  int saved = errno;
  if (f && !path && l.tell) prelux_fd_set_writer(fileno(f), l.mapping); /* libc has opened the same file by /proc */
  prelux_left(&l, "freopen");
  errno = saved;
  return f;
}

#define FREOPEN(name)                                                                  \
  PRELUX_EXPORT FILE *name(const char *path, const char *mode, FILE *stream)           \
  {                                                                                    \
    if (prelux_idle()) return prelux_real.name(path, mode, stream);                    \
    return freopen_told(path, mode, stream, prelux_real.name);                         \
  }
FREOPEN(freopen)
FREOPEN(freopen64)

PRELUX_EXPORT int fclose(FILE *stream)
{
  if (prelux_idle()) return prelux_real.fclose(stream);
  struct prelux_leaving l;
  int was = errno;
  if (prelux_fd_ends(fileno(stream))) return prelux_real.fclose(stream);
  errno = was; /* it has none */
  stream_leaving(stream, &l);
  int rc = prelux_real.fclose(stream);
  if (!l.tell) return rc;
  int saved = errno, err = prelux_left_by_close(&l, "fclose");
  errno = rc == 0 && err < 0 ? -err : saved;
  return rc == 0 && err < 0 ? EOF : rc;
}

/* It cannot fail: what goes wrong leaves a record. */
#define ENDMNTENT(name)                                                      \
  PRELUX_EXPORT int name(FILE *stream)                                       \
  {                                                                          \
    if (prelux_idle() || !stream) return prelux_real.name(stream);           \
    struct prelux_leaving l;                                                 \
    stream_leaving(stream, &l);                                              \
    int rc = prelux_real.name(stream), saved = errno;                        \
    prelux_left(&l, "endmntent");                                            \
    errno = saved;                                                           \
    return rc;                                                               \
  }
ENDMNTENT(endmntent)
ENDMNTENT(__endmntent)
